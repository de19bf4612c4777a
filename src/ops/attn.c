/* attn.c - attention of a ragged batch with online softmax (Dao et al. 2022), forward and backward.
 *
 * Keys come in blocks of 32 that start at the beginning of their sequence, so the order of additions
 * of a query depends on its position alone: not on the batch, the cache or the chunk it came in.
 *     p_j = exp(s_j - lse), s_j = scale q.k_j     D = dy.y
 *     ds_j = p_j (dy.v_j - D)     dq = scale sum ds_j k_j    dk_j = scale ds_j q    dv_j = p_j dy
 * Backward works by (sequence, kv head): one thread owns all sums of it, whatever the team.
 * A sink z is one more term exp(z) of the sum, so lse has it and the lines above hold as they are; with
 * no value beside it, dz = -sum over rows of exp(z - lse) D. */
#include "ops/attn_tile.h"
#include "ops/op.h"

#include <math.h>

typedef fj_attn_params params;

typedef struct seq {
    int32_t row0, rows, pos0, blk0;
} seq;

static size_t round64(size_t n) { return (n + 63) / 64 * 64; }

static fj_attn_rule rule_of(const params *p) {
    return (fj_attn_rule){ p->scale, p->softcap, p->window };
}

/* Items are dealt in turn: late queries are dearer than early ones. */
FJ_CPU(attn) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const int32_t *blocks = n->in[4]->data;
    const fj_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    const real *sinks = n->in[5] ? n->in[5]->data : NULL;
    const fj_attn_rule rule = rule_of(p);
    int group = p->heads / p->kv_heads, hd = p->head_dim;
    char *mem = (char *)t->scratch + round64(fj_attn_fwd_scratch(group, hd)) * (size_t)t->ith;
    int64_t item = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++)
        for (int64_t r = 0; r < seqs[i].rows; r += FJ_ATTN_QUERIES)
            for (int h = 0; h < p->kv_heads; h++) {
                if (item++ % t->nth != t->ith) continue;
                int64_t row = seqs[i].row0 + r, at = (int64_t)h * group * hd;
                FJ_R(fj_attn_fwd_tile)
                (KERN(t), fj_row(q, row) + at, q->cols,
                 (int)FJ_MIN((int64_t)FJ_ATTN_QUERIES, seqs[i].rows - r), group, hd,
                 (const real *)k->data + (int64_t)h * hd, (const real *)v->data + (int64_t)h * hd,
                 k->cols, blocks + seqs[i].blk0, seqs[i].pos0 + r, &rule,
                 sinks ? sinks + (int64_t)h * group : NULL, fj_row(n->out[0], row) + at, q->cols,
                 fj_row(n->out[1], row) + (int64_t)h * group, p->heads, mem);
            }
}

/* in: q, k, v, seqs, blocks, y, lse, dy.  One thread owns all sums of a (sequence, kv head). */
FJ_CPU(attn_bwd) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const int32_t *blocks = n->in[4]->data;
    const fj_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *y = n->in[5], *lse = n->in[6],
                    *dy = n->in[7];
    const fj_attn_rule rule = rule_of(p);
    int group = p->heads / p->kv_heads, hd = p->head_dim;
    char *mem =
        (char *)t->scratch + round64(fj_attn_bwd_scratch(q->rows, group, hd)) * (size_t)t->ith;
    for (int i = 0; i < 3; i++) {
        int64_t from, to;
        fj_team_split(t, n->out[i]->rows * n->out[i]->cols, 1024, &from, &to);
        memset((real *)n->out[i]->data + from, 0, (size_t)(to - from) * sizeof(real));
    }
    fj_team_barrier(t);
    int64_t item = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++)
        for (int h = 0; h < p->kv_heads; h++) {
            if (item++ % t->nth != t->ith) continue;
            int64_t row = seqs[i].row0, at = (int64_t)h * group * hd, kv = (int64_t)h * hd;
            FJ_R(fj_attn_bwd_group)
            (KERN(t), fj_row(q, row) + at, fj_row(y, row) + at, fj_row(dy, row) + at, q->cols,
             fj_row(lse, row) + (int64_t)h * group, p->heads, seqs[i].rows, group, hd,
             (const real *)k->data + kv, (const real *)v->data + kv, k->cols, blocks + seqs[i].blk0,
             seqs[i].pos0, &rule, fj_row(n->out[0], row) + at, (real *)n->out[1]->data + kv,
             (real *)n->out[2]->data + kv, mem);
        }
}

/* in: sinks, lse, y, dy.  Threads own heads, rows are added in order: any team, the same bits. */
FJ_CPU(attn_sinks_bwd) {
    const fj_tensor *sinks = n->in[0], *lse = n->in[1], *y = n->in[2], *dy = n->in[3];
    int64_t heads = sinks->cols, hd = y->cols / heads, from, to;
    fj_team_split(t, heads, 1, &from, &to);
    for (int64_t h = from; h < to; h++) {
        double sum = 0, z = (double)((const real *)sinks->data)[h];
        for (int64_t r = 0; r < y->rows; r++)
            sum -= exp(z - (double)fj_row(lse, r)[h]) *
                   (double)KERN(t)->dot(fj_row(dy, r) + h * hd, fj_row(y, r) + h * hd, hd);
        ((real *)n->out[0]->data)[h] = (real)sum;
    }
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
    if (p->window < 0 || !(p->softcap >= 0))
        return fj_fail(e, FJ_EINVAL,
                       "a window of %d positions, a cap of %g for scores: wanted 0 or more",
                       p->window, p->softcap);
    if (n->in[5] && !fj_want(n->in[5], "sinks", fj_real_of(n), 1, p->heads, e)) return false;
    if (!fj_same_shape(k, v, e) || !fj_want(n->in[3], "sequences", FJ_I32, -1, 4, e) ||
        !fj_want(n->in[4], "blocks", FJ_I32, 1, -1, e))
        return false;
    fj_shape_like(n->out[0], q);
    n->out[1]->dtype = fj_real_of(n);
    n->out[1]->rows = q->rows;
    n->out[1]->cols = p->heads;
    return true;
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    const params *p = n->params;
    return round64(fj_attn_fwd_scratch(p->heads / p->kv_heads, p->head_dim)) * (size_t)o->threads;
}

static size_t scratch_bwd(const fj_node *n, const fj_graph_opts *o) {
    const params *p = n->params;
    return round64(fj_attn_bwd_scratch(n->in[0]->rows, p->heads / p->kv_heads, p->head_dim)) *
           (size_t)o->threads;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *y = FJ_EMIT(g, &fj_op_attn_bwd, n->params, n->in[0], n->in[1], n->in[2], n->in[3],
                           n->in[4], n->out[0], n->out[1], dy[0]);
    if (!y) return;
    for (int i = 0; i < 3; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], y->node->out[i]);
    if (fj_wants_grad(n, 5))
        fj_grad_add(g, &dx[5],
                    FJ_EMIT(g, &fj_op_attn_sinks_bwd, NULL, n->in[5], n->out[1], n->out[0], dy[0]));
}

const fj_op fj_op_attn = { .name = "attn",
                           .n_in = 6,
                           .n_out = 2,
                           .params = sizeof(params),
                           .shape = shape,
                           .grad = grad,
                           .scratch = scratch,
                           FJ_FNS(attn) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[7], e) && fj_shape_like(n->out[0], n->in[0]) &&
           fj_shape_like(n->out[1], n->in[1]) && fj_shape_like(n->out[2], n->in[2]);
}

const fj_op fj_op_attn_bwd = { .name = "attn_bwd",
                               .n_in = 8,
                               .n_out = 3,
                               .params = sizeof(params),
                               .shape = shape_bwd,
                               .scratch = scratch_bwd,
                               FJ_FNS(attn_bwd) };

static bool shape_sinks(fj_node *n, fj_err *e) {
    const fj_tensor *s = n->in[0];
    return fj_same_shape(n->in[2], n->in[3], e) &&
           fj_want(n->in[1], "log of the sums", s->dtype, n->in[2]->rows, s->cols, e) &&
           fj_shape_like(n->out[0], s);
}

const fj_op fj_op_attn_sinks_bwd = { .name = "attn_sinks_bwd",
                                     .n_in = 4,
                                     .n_out = 1,
                                     .shape = shape_sinks,
                                     FJ_FNS(attn_sinks_bwd) };

fj_tensor *fj_attn(fj_graph *g, fj_tensor *q, fj_tensor *k, fj_tensor *v, fj_tensor *seqs,
                   fj_tensor *blocks, fj_tensor *sinks, const fj_attn_params *p) {
    return FJ_EMIT(g, &fj_op_attn, p, q, k, v, seqs, blocks, sinks);
}
#endif
