/* GGUF from anyone: the reader, every getter, every byte it says is there. */
#include "formats/gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open_mem(data, n, "fuzz", &e);
    if (!g) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]); /* no failure without a sentence */
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_kv; i++) {
        const char *key = g->kv[i].key, *s;
        uint64_t u;
        int64_t l;
        float f;
        bool b;
        size_t k;
        FJ_ASSERT(fj_gguf_find(g, key) == &g->kv[i]);
        if (fj_gguf_u64(g, key, &u, &e)) sum += u;
        if (fj_gguf_i64(g, key, &l, &e)) sum += (uint64_t)l;
        if (fj_gguf_f32(g, key, &f, &e)) sum += f > 0;
        if (fj_gguf_bool(g, key, &b, &e)) sum += b;
        if (fj_gguf_string(g, key, &s, &e)) sum += strlen(s);
        const fj_gguf_str *str = fj_gguf_strings(g, key, &k, &e);
        for (size_t j = 0; str && j < k; j++) sum += fj_hash(str[j].s, str[j].n);
        const int32_t *ints = fj_gguf_i32s(g, key, &k, &e);
        for (size_t j = 0; ints && j < k; j++) sum += (uint32_t)ints[j];
        const float *floats = fj_gguf_f32s(g, key, &k, &e);
        for (size_t j = 0; floats && j < k; j++) sum += floats[j] > 0;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_gguf_tensor *t = &g->tensors[i];
        FJ_ASSERT(fj_gguf_tensor_find(g, t->name) == t);
        if (t->bytes >= 0) sum += fj_hash(t->data, (size_t)t->bytes);
    }
    fj_gguf_close(g);
    FJ_ASSERT(sum != 0x9e3779b97f4a7c15u); /* keeps the reads */
    return 0;
}
