/* random.c - a model of random weights: speed and memory without a file.
 *
 * Matrices of a format are cut from one piece of random blocks, each going on where the one before ended,
 * round and round: numbers are drawn for the pieces alone, so that billions of weights take seconds.  The
 * number of a piece's blocks is odd and rows are not: what is repeated stands elsewhere in its row. */
#include "base/rng.h"
#include "kernels/quant.h"
#include "models/source.h"

#include <math.h>

enum {
    PIECE = 4 << 20, /* values, at most */
    RUN = 1024       /* of them with a stream of random numbers of their own: whole blocks */
};

typedef struct piece {
    fj_dtype type;
    const fj_kern *kern;
    uint8_t *raw;
    size_t bytes;       /* of a block */
    int64_t blocks, at; /* at: the next one that is used */
    uint64_t seed;
} piece;

/* Every run has a stream of its own: the team may share them out as it likes. */
static void draw(void *ctx, int i, int n) {
    const piece *p = ctx;
    const fj_dtype_info *t = fj_dtype_get(p->type);
    float v[RUN];
    int64_t values = p->blocks * t->block;
    for (int64_t r = i; r * RUN < values; r += n) {
        fj_rng rng;
        fj_rng_seed(&rng, fj_rng_at(p->seed, (uint64_t)r));
        int64_t m = FJ_MIN(RUN, values - r * RUN);
        for (int64_t k = 0; k < m; k++)
            v[k] = (float)((fj_rng_double(&rng) - 0.5) * 0.04 * sqrt(3));
        fj_quant_rows(p->kern, p->type, v, NULL, p->raw + (size_t)(r * (RUN / t->block)) * p->bytes,
                      1, m);
    }
}

static bool is_matrix(const fj_weight *w) { return !fj_weight_is_vector(w); }

/* For all matrices of its format. */
static bool draw_piece(fj_model *m, piece *p, fj_err *e) {
    const fj_dtype_info *t = fj_dtype_get(p->type);
    int64_t all = 0;
    for (int i = 0; i < m->n_w; i++)
        if (is_matrix(&m->w[i]) && m->w[i].dtype == p->type)
            all += m->w[i].rows * m->w[i].cols / t->block;
    p->bytes = (size_t)t->bytes;
    p->blocks = FJ_MIN(all, PIECE / t->block) | 1;
    p->raw = fj_try_alloc((size_t)p->blocks, p->bytes, "random weights", e);
    if (p->raw) fj_dev_team_run(m->dev, draw, p);
    return p->raw != NULL;
}

/* The next n blocks, as one stretch to `to` or, when that is NULL, from off on in the model's memory. */
static bool cut(fj_model *m, piece *p, int64_t n, uint8_t *to, size_t off, fj_err *e) {
    for (int64_t k; n > 0; n -= k) {
        k = FJ_MIN(n, p->blocks - p->at);
        const uint8_t *from = p->raw + (size_t)p->at * p->bytes;
        size_t bytes = (size_t)k * p->bytes;
        if (to) memcpy(to, from, bytes);
        else if (!m->dev->fn->upload(m->buf, off, from, bytes, e)) return false;
        if (to) to += bytes;
        off += bytes;
        p->at = (p->at + k) % p->blocks;
    }
    return true;
}

static bool put_vector(fj_model *m, const fj_weight *w, fj_err *e) {
    int64_t n = w->rows * w->cols;
    float *v = fj_alloc((size_t)n * sizeof *v), value = strstr(w->row->hf, ".bias") ? 0 : 1;
    for (int64_t i = 0; i < n; i++) v[i] = value;
    bool ok = fj_weight_put(m, w, v, e);
    free(v);
    return ok;
}

static bool fill(fj_model *m, uint64_t seed, fj_err *e) {
    piece pieces[FJ_DTYPES] = { 0 };
    fj_kern own; /* of a device that has none */
    const fj_kern *kern = m->dev->kern;
    if (!kern) {
        if (!fj_kern_init(&own, NULL, e)) return false;
        kern = &own;
    }
    size_t most = 0;
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        if (w->panels) most = FJ_MAX(most, (size_t)fj_dtype_size(w->dtype, w->rows, w->cols));
    }
    uint8_t *rows = most ? fj_try_alloc(most, 1, "a random weight", e) : NULL;
    bool ok = rows || !most;
    for (int i = 0; ok && i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        piece *p = &pieces[w->dtype];
        int64_t n = w->rows * w->cols / fj_dtype_get(w->dtype)->block;
        if (!is_matrix(w)) {
            ok = put_vector(m, w, e);
            continue;
        }
        if (!p->raw) {
            *p = (piece){ .type = w->dtype, .kern = kern, .seed = seed };
            if (!draw_piece(m, p, e)) {
                ok = false;
                break;
            }
        }
        if (!w->panels) ok = cut(m, p, n, NULL, w->off, e);
        else ok = rows && cut(m, p, n, rows, 0, e) && fj_weight_put(m, w, rows, e);
    }
    free(rows);
    for (int t = 0; t < FJ_DTYPES; t++) free(pieces[t].raw);
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
                          const fj_formats *formats, bool trainable, uint64_t seed, fj_err *e) {
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
    if (ok && finished(m, e) && fj_model_list(m, NULL, formats, e) && fill(m, seed, e) &&
        fj_model_summarize(m))
        return m;
    fj_model_close(m);
    return NULL;
}
