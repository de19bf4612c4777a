/* safetensors from anyone: the reader and every byte it says is there. */
#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_st *s = fj_st_open_mem(data, n, "fuzz", &e);
    if (!s) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]); /* no failure without a sentence */
        return 0;
    }
    uint64_t sum = 0;
    int64_t bytes = 0;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const fj_st_tensor *t = &s->tensors[i];
        FJ_ASSERT(fj_st_find(s, t->name) == t);
        sum += fj_hash(t->data, (size_t)t->bytes);
        bytes += t->bytes;
        fj_st_get(s, t->name, &e);
    }
    FJ_ASSERT(bytes >= 0 && (uint64_t)bytes <= n && sum != 0x9e3779b97f4a7c15u);
    fj_st_meta(s, "format");
    fj_st_close(s);
    return 0;
}
