/* random.c - a model of random weights: speed and memory without a file. */
#include "base/rng.h"
#include "models/source.h"

#include <math.h>

typedef struct rows_job {
    const fj_weight *w;
    uint8_t *raw;
    float *wide; /* a row for each thread */
    uint64_t seed;
} rows_job;

/* Every row has a stream of its own: the team may share them out as it likes. */
static void rows_fn(void *ctx, int i, int n) {
    const rows_job *j = ctx;
    const fj_weight *w = j->w;
    size_t bytes = (size_t)fj_dtype_size(w->dtype, 1, w->cols);
    float *row = j->wide + w->cols * i;
    bool vector = fj_weight_is_vector(w), bias = strstr(w->row->hf, ".bias") != NULL;
    for (int64_t r = i; r < w->rows; r += n) {
        fj_rng rng;
        fj_rng_seed(&rng, fj_rng_at(j->seed, (uint64_t)r));
        for (int64_t k = 0; k < w->cols; k++)
            row[k] = bias ? 0 : vector ? 1 : (float)((fj_rng_double(&rng) - 0.5) * 0.04 * sqrt(3));
        fj_quant_row(w->dtype, row, j->raw + (size_t)r * bytes, w->cols);
    }
}

static bool fill(fj_model *m, uint64_t seed, fj_err *e) {
    bool ok = true;
    for (int i = 0; ok && i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        rows_job j = { .w = w, .seed = fj_rng_at(seed, (uint64_t)i) };
        j.raw = fj_try_alloc((size_t)w->rows, (size_t)fj_dtype_size(w->dtype, 1, w->cols),
                             "a random weight", e);
        if (!j.raw) return false;
        j.wide = fj_alloc((size_t)m->dev->plan.threads * (size_t)w->cols * sizeof *j.wide);
        fj_dev_team_run(m->dev, rows_fn, &j);
        ok = fj_weight_put(m, w, j.raw, e);
        free(j.wide);
        free(j.raw);
    }
    return ok;
}

/* What a file would have said. */
static bool finished(fj_model *m, fj_err *e) {
    fj_hparams *h = &m->hp;
    if (!h->embed_scale) h->embed_scale = 1;
    if (!h->residual_scale) h->residual_scale = 1;
    if (!h->logit_div) h->logit_div = 1;
    if (!m->arch->finish(h, e)) return false;
    h->rope.dims = h->rope_local.dims = h->head_dim;
    return true;
}

fj_model *fj_model_random(fj_dev *d, const fj_arch *arch, const fj_hparams *hp, const char *name,
                          fj_dtype type, bool trainable, uint64_t seed, fj_err *e) {
    fj_model *m = fj_zalloc(sizeof *m);
    m->dev = d;
    m->path = fj_arena_strdup(&m->arena, name);
    m->arch = arch;
    m->hp = *hp;
    m->trainable = trainable;
    const int64_t sizes[] = { hp->layers, hp->width, hp->heads, hp->ffn, hp->vocab, hp->context };
    bool ok = true;
    for (size_t i = 0; ok && i < FJ_LEN(sizes); i++)
        ok = (sizes[i] > 0 && sizes[i] <= 1 << 24) ||
             fj_fail(e, FJ_EINVAL, "%s: a size of %lld, wanted 1 to %d", name, (long long)sizes[i],
                     1 << 24);
    if (ok && finished(m, e) && fj_model_list(m, NULL, type, e) && fill(m, seed, e) &&
        fj_model_summarize(m))
        return m;
    fj_model_close(m);
    return NULL;
}
