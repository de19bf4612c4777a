#include "models/merge.h"

#include "models/reader.h"

#include <math.h>

enum { TILE = 48 }; /* columns of a tile of kern->gemm */

bool fj_merger_open(fj_merger *g, const fj_lora *l, fj_err *e) {
    *g = (fj_merger){ .l = l };
    g->ab = fj_try_alloc(l->bytes, 1, "a copy of the adapter", e);
    return g->ab && l->m->dev->fn->download(l->buf, 0, g->ab, l->bytes, e);
}

void fj_merger_close(fj_merger *g) {
    free(g->ab);
    free(g->a);
    *g = (fj_merger){ 0 };
}

void fj_merger_at(fj_merger *g, const fj_lora_pair *q) {
    if (g->at == q) return;
    int64_t ranks = q->mats * q->r;
    g->at = q;
    g->lda = (q->in + TILE - 1) / TILE * TILE;
    FJ_GROW(g->a, (size_t)(ranks * g->lda), g->a_cap);
    for (int64_t k = 0; k < ranks; k++) {
        memcpy(g->a + k * g->lda, g->ab + q->a / sizeof(float) + (size_t)(k * q->in),
               (size_t)q->in * sizeof(float));
        memset(g->a + k * g->lda + q->in, 0, (size_t)(g->lda - q->in) * sizeof(float));
    }
}

void fj_merger_rows(const fj_merger *g, int64_t row, int64_t n, float *wide) {
    const fj_lora_pair *q = g->at;
    const fj_kern *kern = g->l->m->dev->kern;
    const float *b = g->ab + q->b / sizeof(float) + (size_t)(row * q->r);
    const float *a = g->a + row / (q->out / q->mats) * q->r * g->lda;
    float scale = (float)q->scale, t[FJ_MERGE_ROWS * TILE];
    for (int64_t c = 0; c < q->in; c += TILE) {
        int64_t cols = FJ_MIN(TILE, q->in - c);
        if (kern) kern->gemm(t, TILE, b, q->r, 1, a + c, g->lda, q->r, (int)n, TILE / 16, true);
        for (int64_t i = 0; !kern && i < n; i++)
            for (int64_t k = 0; k < TILE; k++) {
                float sum = 0;
                for (int64_t r = 0; r < q->r; r++)
                    sum = fmaf(b[i * q->r + r], a[r * g->lda + c + k], sum);
                t[i * TILE + k] = sum;
            }
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < cols; k++) wide[i * q->in + c + k] += scale * t[i * TILE + k];
    }
}

bool fj_model_merge(fj_model *m, const fj_lora *l, fj_err *e) {
    fj_merger g;
    fj_dtype to = m->dev->plan.f32 ? FJ_F32 : FJ_BF16;
    size_t total = 0;
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_weight *w = &m->w[l->pairs[i].w];
        total += ((size_t)fj_dtype_size(to, w->rows, w->cols) + 63) / 64 * 64;
    }
    bool ok = fj_merger_open(&g, l, e) &&
              (m->merged = m->dev->fn->alloc(m->dev, total, "merged weights", e));
    size_t at = 0;
    for (int i = 0; ok && i < l->n_pairs; i++) {
        fj_weight *w = &m->w[l->pairs[i].w];
        size_t row = (size_t)fj_dtype_size(to, 1, w->cols);
        int64_t each = w->rows / w->mats;
        float *wide = fj_alloc((size_t)w->cols * FJ_MERGE_ROWS * sizeof *wide);
        void *out = fj_alloc(row * FJ_MERGE_ROWS);
        fj_reader r;
        ok = fj_reader_open(&r, m, NULL, w, e);
        fj_merger_at(&g, &l->pairs[i]);
        for (int64_t x = 0, n; ok && x < w->rows; x += n) {
            n = FJ_MIN(FJ_MERGE_ROWS, each - x % each);
            ok = fj_reader_rows(&r, FJ_F32, x, n, wide, e);
            if (!ok) break;
            fj_merger_rows(&g, x, n, wide);
            for (int64_t k = 0; k < n; k++)
                fj_quant_row(to, wide + k * w->cols, (char *)out + (size_t)k * row, w->cols);
            ok = m->dev->fn->upload(m->merged, at + (size_t)x * row, out, (size_t)n * row, e);
        }
        fj_reader_close(&r);
        free(wide);
        free(out);
        if (!ok) break;
        w->dtype = to;
        w->panels = false;
        w->buf = m->merged;
        w->off = at;
        at += ((size_t)fj_dtype_size(to, w->rows, w->cols) + 63) / 64 * 64;
    }
    fj_merger_close(&g);
    return ok;
}
