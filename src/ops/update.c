/* update.c - what happens to memory that outlives a graph: the cache of keys and values, sums of
 * gradients, and the optimizer. */
#include "ops/attn_bf16.h"
#include "ops/op.h"

typedef struct put_params {
    int kv_heads; /* of a cache in blocks */
    bool values;
} put_params;

#ifndef FJ_F64
/* Runs of slots that follow each other in a block, head by head. */
static void put_blocks(const fj_team *t, const fj_node *n, int64_t r, int64_t to) {
    const put_params *p = n->params;
    const fj_tensor *x = n->in[1];
    const int32_t *slots = n->in[2]->data;
    int64_t hd = x->cols / p->kv_heads, words = fj_attn_block(hd);
    uint32_t *tmp = (uint32_t *)t->scratch + words * t->ith;
    for (int64_t rows; r < to; r += rows) {
        int from = slots[r] % FJ_KV_BLOCK;
        for (rows = 1; r + rows < to && from + rows < FJ_KV_BLOCK; rows++)
            if (slots[r + rows] != slots[r] + rows) break;
        for (int h = 0; h < p->kv_heads; h++) {
            uint32_t *block = (uint32_t *)n->out[0]->data +
                              ((int64_t)(slots[r] / FJ_KV_BLOCK) * p->kv_heads + h) * words;
            (p->values ? fj_attn_put_paired : fj_attn_put_turned)(
                t->kern, block, fj_row(x, r) + h * hd, x->cols, from, (int)rows, hd, 1, tmp);
        }
    }
}
#endif

/* in: cache (also the result), x, slots */
FJ_CPU(kv_put) {
    const fj_tensor *x = n->in[1];
    const int32_t *slots = n->in[2]->data;
    int64_t from, to;
    fj_team_split(t, x->rows, 1, &from, &to);
#ifndef FJ_F64
    if (n->in[0]->panels) {
        put_blocks(t, n, from, to);
        return;
    }
#endif
    for (int64_t r = from; r < to; r++)
        memcpy(fj_row(n->out[0], slots[r]), fj_row(x, r), (size_t)x->cols * sizeof(real));
}

FJ_CPU(accum) {
    int64_t from, to;
    fj_team_split(t, n->in[1]->rows * n->in[1]->cols, 1024, &from, &to);
    real *y = (real *)n->out[0]->data + from;
    KERN(t)->add(y, y, (const real *)n->in[1]->data + from, to - from);
}

/* Pieces of fixed size, added in order: the same bits for any team. */
enum { PIECE = 1 << 14 };
FJ_CPU(sumsq) {
    const real *x = n->in[0]->data;
    int64_t len = n->in[0]->rows * n->in[0]->cols, pieces = (len + PIECE - 1) / PIECE, from, to;
    double *part = t->scratch;
    fj_team_split(t, pieces, 1, &from, &to);
    for (int64_t i = from; i < to; i++)
        part[i] = KERN(t)->sumsq(x + i * PIECE, FJ_MIN((int64_t)PIECE, len - i * PIECE));
    fj_team_barrier(t);
    if (t->ith) return;
    double sum = 0;
    for (int64_t i = 0; i < pieces; i++) sum += part[i];
    *(double *)n->out[0]->data = sum;
}

/* in: p (also the result), gradient, m, v, hyper */
FJ_CPU(adamw) {
    const float *h = n->in[4]->data;
    fj_adamw c = { .lr = h[0],
                   .beta1 = h[1],
                   .beta2 = h[2],
                   .eps = h[3],
                   .wd = h[4],
                   .bc1 = h[5],
                   .bc2 = h[6],
                   .gscale = h[7] };
    int64_t from, to;
    fj_team_split(t, n->in[1]->rows * n->in[1]->cols, 1024, &from, &to);
    KERN(t)->adamw((real *)n->out[0]->data + from, (real *)n->in[2]->data + from,
                   (real *)n->in[3]->data + from, (const real *)n->in[1]->data + from, to - from,
                   &c);
}

#ifndef FJ_F64
static bool shape_put(fj_node *n, fj_err *e) {
    const fj_tensor *c = n->in[0], *x = n->in[1];
    const put_params *p = n->params;
    n->out[0]->panels = c->panels;
    if (c->panels)
        return fj_want(c, "blocks", FJ_BF16, -1, p->kv_heads * fj_attn_hd(x->cols / p->kv_heads),
                       e) &&
               fj_want(x, "rows", FJ_F32, -1, -1, e) &&
               fj_want(n->in[2], "slots", FJ_I32, 1, x->rows, e) && fj_shape_like(n->out[0], c);
    return fj_want(x, "rows", c->dtype, -1, c->cols, e) &&
           fj_want(n->in[2], "slots", FJ_I32, 1, x->rows, e) && fj_shape_like(n->out[0], c);
}

static size_t scratch_put(const fj_node *n, const fj_graph_opts *o) {
    const put_params *p = n->params;
    if (!n->in[0]->panels) return 0;
    return (size_t)(fj_attn_block(n->in[1]->cols / p->kv_heads) * o->threads) * 4;
}

const fj_op fj_op_kv_put = { .name = "kv_put",
                             .n_in = 3,
                             .n_out = 1,
                             .share = 1,
                             .in_place = true,
                             .by_rows = FJ_IN(1),
                             .params = sizeof(put_params),
                             .shape = shape_put,
                             .scratch = scratch_put,
                             FJ_FNS(kv_put) };

static bool shape_accum(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_accum = { .name = "accum",
                            .n_in = 2,
                            .n_out = 1,
                            .share = 1,
                            .in_place = true,
                            .shape = shape_accum,
                            FJ_FNS(accum) };

static bool shape_sumsq(fj_node *n, fj_err *e) {
    (void)e;
    n->out[0]->rows = n->out[0]->cols = 1;
    n->out[0]->dtype = FJ_F64;
    return true;
}

static size_t scratch_sumsq(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    return (size_t)((n->in[0]->rows * n->in[0]->cols + PIECE - 1) / PIECE) * sizeof(double);
}

const fj_op fj_op_sumsq = { .name = "sumsq",
                            .n_in = 1,
                            .n_out = 1,
                            .shape = shape_sumsq,
                            .scratch = scratch_sumsq,
                            FJ_FNS(sumsq) };

static bool shape_adamw(fj_node *n, fj_err *e) {
    for (int i = 1; i < 4; i++)
        if (!fj_same_shape(n->in[0], n->in[i], e)) return false;
    return fj_want(n->in[4], "hyper-parameters", FJ_F32, 1, 8, e) &&
           fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_adamw = { .name = "adamw",
                            .n_in = 5,
                            .n_out = 1,
                            .share = 1,
                            .in_place = true,
                            .shape = shape_adamw,
                            FJ_FNS(adamw) };

fj_tensor *fj_kv_put(fj_graph *g, fj_tensor *cache, fj_tensor *x, fj_tensor *slots) {
    return FJ_EMIT(g, &fj_op_kv_put, (&(put_params){ 1, false }), cache, x, slots);
}

fj_tensor *fj_kv_put_blocks(fj_graph *g, fj_tensor *cache, fj_tensor *x, fj_tensor *slots,
                            int kv_heads, bool values) {
    return FJ_EMIT(g, &fj_op_kv_put, (&(put_params){ kv_heads, values }), cache, x, slots);
}

int64_t fj_kv_block_cols(int64_t kv_heads, int64_t hd) { return kv_heads * fj_attn_hd(hd); }

fj_tensor *fj_accum(fj_graph *g, fj_tensor *acc, fj_tensor *x) {
    return FJ_EMIT(g, &fj_op_accum, NULL, acc, x);
}

fj_tensor *fj_sumsq(fj_graph *g, fj_tensor *x) { return FJ_EMIT(g, &fj_op_sumsq, NULL, x); }

fj_tensor *fj_adamw_step(fj_graph *g, fj_tensor *p, fj_tensor *grad, fj_tensor *m, fj_tensor *v,
                         fj_tensor *hyper) {
    return FJ_EMIT(g, &fj_op_adamw, NULL, p, grad, m, v, hyper);
}
#endif
