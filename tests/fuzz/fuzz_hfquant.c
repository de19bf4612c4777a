/* A quantised folder from anyone: quantization_config, a zero byte, a safetensors file.  Whatever is
 * found has its tensors within the file and all of its rows can be read; the parts that it owns lead
 * back to it. */
#include "formats/hfquant.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The sum keeps the reads. */
static uint64_t rows(const fj_hfq_weight *w) {
    enum { SOME = 7 };
    fj_err e = { 0 };
    FJ_ASSERT(w->rows > 0 && w->cols > 0 && w->dtype < FJ_DTYPES);
    float *out = malloc((size_t)w->cols * SOME * sizeof *out);
    fj_nf4 *codes = malloc((size_t)w->cols * sizeof *codes);
    uint64_t sum = 0;
    FJ_ASSERT(out && codes);
    for (int64_t r = 0; r < w->rows; r += SOME) {
        int64_t some = FJ_MIN(SOME, w->rows - r);
        fj_hfq_rows(w, r, some, out);
        sum += fj_hash(out, (size_t)(some * w->cols) * sizeof *out);
        if (w->dtype != FJ_NF4) continue;
        FJ_ASSERT(fj_hfq_rows_nf4(w, r, some, codes, &e) || e.msg[0]);
        sum += fj_hash(codes, (size_t)(some * w->cols / 64) * sizeof *codes);
    }
    free(out);
    free(codes);
    return sum;
}

static void check(const fj_hfq *q, const fj_st *st) {
    fj_arena mem = { 0 };
    uint64_t sum = 0;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const char *name = st->tensors[i].name, *of = fj_hfq_owner(q, st, name, &mem);
        fj_hfq_idle(q, st, name);
        if (!of) continue;
        fj_hfq_weight w;
        fj_err e = { 0 };
        FJ_ASSERT(strlen(of) > 7 && !strcmp(of + strlen(of) - 7, ".weight"));
        if (!fj_hfq_find(q, st, of, &w, &e)) FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        else {
            FJ_ASSERT(w.kind != FJ_HFQ_PLAIN);
            sum += rows(&w);
        }
    }
    fj_arena_free(&mem);
    FJ_ASSERT(sum != 0x9e3779b97f4a7c15u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    const uint8_t *cut = n ? memchr(data, 0, n) : NULL;
    if (!cut || n > 1 << 16) return 0;
    json_t *config = fj_json_parse((const char *)data, (size_t)(cut - data), "fuzz", &e);
    fj_hfq *q = NULL;
    if (config && !fj_hfq_open(config, "fuzz", &q, &e))
        FJ_ASSERT(e.code != FJ_OK && e.msg[0] && !q);
    json_decref(config);
    size_t room = n - (size_t)(cut + 1 - data);
    fj_st *st = q ? fj_st_open_mem(cut + 1, room, "fuzz", &e) : NULL;
    if (st) check(q, st);
    fj_st_close(st);
    fj_hfq_close(q);
    return 0;
}
