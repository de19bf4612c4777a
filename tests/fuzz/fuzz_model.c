/* config.json or GGUF metadata from anyone, as far as a model's hyper-parameters: whatever is accepted is within
 * limits, has rotary frequencies that are numbers, and comes back the same from the config.json that is
 * written of it. */
#include "models/source.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_rope(const fj_hparams *hp, const fj_rope_hp *r) {
    if (r->kind == FJ_ROPE_NONE || !r->dims) return;
    static const int64_t lens[] = { 1, 4096, 1 << 20 };
    float *f = fj_alloc((size_t)r->dims * sizeof *f);
    double mscale;
    FJ_ASSERT(r->dims <= hp->head_dim && r->dims % 2 == 0);
    for (size_t i = 0; i < FJ_LEN(lens); i++) fj_rope_freqs(hp, r, lens[i], f, &mscale);
    free(f);
}

static bool hparams(const fj_source *s, const fj_arch **a, fj_hparams *hp, fj_arena *mem) {
    fj_err e = { 0 };
    fj_source named = *s;
    *a = fj_source_arch(&named, &e);
    bool ok = *a && fj_source_hparams(&named, *a, hp, mem, &e);
    FJ_ASSERT(ok || (e.code != FJ_OK && e.msg[0]));
    if (!ok && getenv("FORJA_FUZZ_SAY")) fprintf(stderr, "%s\n", e.msg);
    return ok;
}

static void check(const fj_source *s) {
    fj_arena mem = { 0 };
    const fj_arch *a, *b;
    fj_hparams hp, back;
    fj_err e = { 0 };
    if (hparams(s, &a, &hp, &mem)) {
        check_rope(&hp, &hp.rope);
        check_rope(&hp, &hp.rope_local);
        for (int id = 0; id < FJ_W_ROLES; id++)
            for (int l = -1; l < (int)hp.layers; l++)
                if (fj_weight_there(&hp, &a->weights[id], l))
                    FJ_ASSERT(fj_size_of(&hp, a->weights[id].rows) > 0 &&
                              fj_size_of(&hp, a->weights[id].cols) > 0);
        json_t *config = fj_hparams_to_config(a, &hp, &e);
        FJ_ASSERT(config || e.msg[0]);
        if (config) {
            fj_hf hf = { .dir = (char *)(uintptr_t) "fuzz", .config = config };
            fj_source again = { .path = "fuzz", .hf = &hf };
            FJ_ASSERT(hparams(&again, &b, &back, &mem) && b == a);
            FJ_ASSERT(back.layers == hp.layers && back.window == hp.window &&
                      back.head_dim == hp.head_dim && back.rope.kind == hp.rope.kind &&
                      back.rope.dims == hp.rope.dims && back.experts == hp.experts &&
                      !memcmp(back.layer, hp.layer, sizeof hp.layer));
        }
        json_decref(config);
    }
    fj_arena_free(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    if (n > 4 && !memcmp(data, "GGUF", 4)) {
        fj_gguf *g = fj_gguf_open_mem(data, n, "fuzz", &e);
        if (g) check(&(fj_source){ .path = "fuzz", .gguf = g });
        fj_gguf_close(g);
        return 0;
    }
    json_t *j = fj_json_parse((const char *)data, n, "fuzz", &e);
    if (json_is_object(j)) {
        fj_hf hf = { .dir = (char *)(uintptr_t) "fuzz", .config = j };
        check(&(fj_source){ .path = "fuzz", .hf = &hf });
    }
    json_decref(j);
    return 0;
}
