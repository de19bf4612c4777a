/* attn.c - attention of a ragged batch with online softmax (Dao et al. 2022), forward and backward.
 *
 * Keys come in blocks of 32 that start at the beginning of their sequence, so the order of additions
 * of a query depends on its position alone: not on the batch, the cache or the chunk it came in.
 *     p_j = exp(s_j - lse), s_j = scale q.k_j     D = dy.y
 *     ds_j = p_j (dy.v_j - D)     dq = scale sum ds_j k_j    dk_j = scale ds_j q    dv_j = p_j dy
 * Backward works by (sequence, kv head): one thread owns all sums of it, whatever the team. */
#include "ops/op.h"

#include <math.h>

typedef fj_attn_params params;

typedef struct seq {
    int32_t row0, rows, pos0, blk0;
} seq;

static const real *kv_row(const fj_tensor *kv, const int32_t *blocks, const seq *s, int64_t pos) {
    int64_t slot = blocks[s->blk0 + pos / FJ_KV_BLOCK] + pos % FJ_KV_BLOCK;
    return (const real *)kv->data + slot * kv->cols;
}

static void one_query(const fj_team *t, const fj_node *n, const seq *s, int64_t row, int h) {
    const params *p = n->params;
    int hd = p->head_dim;
    int64_t kvo = (int64_t)(h / (p->heads / p->kv_heads)) * hd, pos = s->pos0 + row - s->row0;
    const int32_t *blocks = n->in[4]->data;
    const real *q = fj_row(n->in[0], row) + (int64_t)h * hd;
    real *y = fj_row(n->out[0], row) + (int64_t)h * hd, sc[FJ_KV_BLOCK], max = -INFINITY;
    double sum = 0;
    memset(y, 0, (size_t)hd * sizeof *y);
    for (int64_t b = 0; b <= pos; b += FJ_KV_BLOCK) {
        int len = (int)FJ_MIN((int64_t)FJ_KV_BLOCK, pos + 1 - b);
        for (int j = 0; j < len; j++)
            sc[j] = KERN(t)->dot(q, kv_row(n->in[1], blocks, s, b + j) + kvo, hd) * (real)p->scale;
        real top = KERN(t)->vmax(sc, len);
        if (top > max) {
            real fix = max == -INFINITY ? 0 : (real)exp((double)(max - top));
            KERN(t)->scale(y, y, fix, hd);
            sum *= fix;
            max = top;
        }
        sum += KERN(t)->exp_sum(sc, sc, max, len);
        for (int j = 0; j < len; j++)
            KERN(t)->axpy(y, kv_row(n->in[2], blocks, s, b + j) + kvo, sc[j], hd);
    }
    KERN(t)->scale(y, y, (real)(1 / sum), hd);
    fj_row(n->out[1], row)[h] = (real)(max + log(sum));
}

FJ_CPU(attn) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    int64_t item = 0;
    /* Items are dealt in turn: late queries are dearer than early ones. */
    for (int64_t i = 0; i < n->in[3]->rows; i++)
        for (int64_t r = seqs[i].row0; r < seqs[i].row0 + seqs[i].rows; r++)
            for (int h = 0; h < p->heads; h++)
                if (item++ % t->nth == t->ith) one_query(t, n, &seqs[i], r, h);
}

static void one_group(const fj_team *t, const fj_node *n, const seq *s, int g) {
    const params *p = n->params;
    int hd = p->head_dim, group = p->heads / p->kv_heads;
    int64_t kvo = (int64_t)g * hd;
    const int32_t *blocks = n->in[4]->data;
    fj_tensor *const *in = n->in;
    for (int64_t r = s->row0; r < s->row0 + s->rows; r++)
        for (int h = g * group; h < (g + 1) * group; h++) {
            int64_t ho = (int64_t)h * hd, pos = s->pos0 + r - s->row0;
            const real *q = fj_row(in[0], r) + ho, *y = fj_row(in[5], r) + ho,
                       *dy = fj_row(in[7], r) + ho;
            real lse = fj_row(in[6], r)[h], *dq = fj_row(n->out[0], r) + ho;
            real d = KERN(t)->dot(dy, y, hd);
            for (int64_t j = 0; j <= pos; j++) {
                const real *k = kv_row(in[1], blocks, s, j) + kvo,
                           *v = kv_row(in[2], blocks, s, j) + kvo;
                real w = KERN(t)->dot(q, k, hd) * (real)p->scale - lse;
                KERN(t)->vexp(&w, &w, 1);
                real ds = w * (KERN(t)->dot(dy, v, hd) - d) * (real)p->scale;
                int64_t slot = k - kvo - (const real *)in[1]->data;
                KERN(t)->axpy(dq, k, ds, hd);
                KERN(t)->axpy((real *)n->out[1]->data + slot + kvo, q, ds, hd);
                KERN(t)->axpy((real *)n->out[2]->data + slot + kvo, dy, w, hd);
            }
        }
}

/* in: q, k, v, seqs, blocks, y, lse, dy */
FJ_CPU(attn_bwd) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    for (int i = 0; i < 3; i++) {
        int64_t from, to;
        fj_team_split(t, n->out[i]->rows * n->out[i]->cols, 1024, &from, &to);
        memset((real *)n->out[i]->data + from, 0, (size_t)(to - from) * sizeof(real));
    }
    fj_team_barrier(t);
    int64_t item = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++)
        for (int g = 0; g < p->kv_heads; g++)
            if (item++ % t->nth == t->ith) one_group(t, n, &seqs[i], g);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    if (p->heads < 1 || p->kv_heads < 1 || p->head_dim < 1 || p->heads % p->kv_heads)
        return fj_fail(e, FJ_EINVAL, "%d heads over %d key heads of %d values", p->heads,
                       p->kv_heads, p->head_dim);
    if (q->cols != (int64_t)p->heads * p->head_dim || k->cols != (int64_t)p->kv_heads * p->head_dim)
        return fj_fail(e, FJ_EINVAL, "rows of q have %lld values and of k %lld, wanted %d and %d",
                       (long long)q->cols, (long long)k->cols, p->heads * p->head_dim,
                       p->kv_heads * p->head_dim);
    if (!fj_same_shape(k, v, e) || !fj_want(n->in[3], "sequences", FJ_I32, -1, 4, e) ||
        !fj_want(n->in[4], "blocks", FJ_I32, 1, -1, e))
        return false;
    fj_shape_like(n->out[0], q);
    n->out[1]->rows = q->rows;
    n->out[1]->cols = p->heads;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *y = FJ_EMIT(g, &fj_op_attn_bwd, n->params, n->in[0], n->in[1], n->in[2], n->in[3],
                           n->in[4], n->out[0], n->out[1], dy[0]);
    if (!y) return;
    for (int i = 0; i < 3; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], y->node->out[i]);
}

const fj_op fj_op_attn = { .name = "attn",
                           .n_in = 5,
                           .n_out = 2,
                           .params = sizeof(params),
                           .shape = shape,
                           .grad = grad,
                           FJ_CPU_FNS(attn) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[7], e) && fj_shape_like(n->out[0], n->in[0]) &&
           fj_shape_like(n->out[1], n->in[1]) && fj_shape_like(n->out[2], n->in[2]);
}

const fj_op fj_op_attn_bwd = { .name = "attn_bwd",
                               .n_in = 8,
                               .n_out = 3,
                               .params = sizeof(params),
                               .shape = shape_bwd,
                               FJ_CPU_FNS(attn_bwd) };

fj_tensor *fj_attn(fj_graph *g, fj_tensor *q, fj_tensor *k, fj_tensor *v, fj_tensor *seqs,
                   fj_tensor *blocks, const fj_attn_params *p) {
    return FJ_EMIT(g, &fj_op_attn, p, q, k, v, seqs, blocks);
}
#endif
