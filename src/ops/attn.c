/* attn.c - attention of a ragged batch with online softmax (Dao et al. 2022), forward and backward.
 *
 * Keys come in blocks of 32 that start at the beginning of their sequence, so the order of additions
 * of a query depends on its position alone: not on the batch, the cache or the chunk it came in.
 *     p_j = exp(s_j - lse), s_j = scale q.k_j     D = dy.y
 *     ds_j = p_j (dy.v_j - D)     dq = scale sum ds_j k_j    dk_j = scale ds_j q    dv_j = p_j dy
 * Backward works by (sequence, kv head): one thread owns all sums of it, whatever the team.
 * A sink z is one more term exp(z) of the sum, so lse has it and the lines above hold as they are; with
 * no value beside it, dz = -sum over rows of exp(z - lse) D. */
#include "ops/attn_bf16.h"
#include "ops/op.h"

#include <math.h>
#include <stdatomic.h>

typedef fj_attn_params params;

typedef struct seq {
    int32_t row0, rows, pos0, blk0;
} seq;

static size_t round64(size_t n) { return (n + 63) / 64 * 64; }

static fj_attn_rule rule_of(const params *p) {
    return (fj_attn_rule){ p->scale, p->softcap, p->window };
}

#ifndef FJ_F64
/* Shared scratch: a counter, then the blocks of keys and values of the batch, then what each thread needs. */
enum { COUNTER = 64 };

/* The block of the first key that position pos sees. */
static int64_t first_block(const params *p, int64_t pos) {
    return p->window && pos >= p->window ? (pos - p->window + 1) / FJ_KV_BLOCK : 0;
}

static size_t fwd_blocks(const fj_node *n) {
    const params *p = n->params;
    if (n->in[1]->panels) return 0;
    return (size_t)(2 * n->in[4]->cols * p->kv_heads * fj_attn_block(p->head_dim)) * 4;
}

static size_t fwd_thread(const fj_node *n) {
    const params *p = n->params;
    return round64(fj_attn_fwd_bf16_scratch(p->heads / p->kv_heads, p->head_dim));
}

/* rows <= 32 rows of x times s, turned and paired, of which one may be NULL. */
static void pack_rows(const fj_kern *kern, uint32_t *turned, uint32_t *paired, const float *x,
                      int64_t ld, int rows, int hd, float s, void *tmp) {
    size_t bytes = (size_t)fj_attn_block(hd) * 4;
    if (turned) {
        if (rows < FJ_KV_BLOCK) memset(turned, 0, bytes);
        fj_attn_put_turned(kern, turned, x, ld, 0, rows, hd, s, tmp);
    }
    if (paired) {
        if (rows < FJ_KV_BLOCK) memset(paired, 0, bytes);
        fj_attn_put_paired(kern, paired, x, ld, 0, rows, hd, s, tmp);
    }
}

/* Keys and values of the batch as blocks, each turned and paired where that is wanted, in the order of `blocks`:
 * every (block, kv head) by one thread. */
typedef struct packed {
    uint32_t *kt, *kp, *vt, *vp;
} packed;

static void pack_keys(const fj_team *t, const fj_node *n, const packed *to, void *tmp) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const int32_t *blocks = n->in[4]->data;
    const fj_tensor *k = n->in[1], *v = n->in[2];
    int64_t words = fj_attn_block(p->head_dim), item = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++) {
        int64_t end = seqs[i].pos0 + seqs[i].rows;
        for (int64_t b = first_block(p, seqs[i].pos0); b * FJ_KV_BLOCK < end; b++)
            for (int h = 0; h < p->kv_heads; h++) {
                if (item++ % t->nth != t->ith) continue;
                int rows = (int)FJ_MIN((int64_t)FJ_KV_BLOCK, end - b * FJ_KV_BLOCK);
                int64_t from = blocks[seqs[i].blk0 + b] * k->cols + (int64_t)h * p->head_dim;
                int64_t at = ((seqs[i].blk0 + b) * p->kv_heads + h) * words;
                pack_rows(t->kern, to->kt + at, to->kp ? to->kp + at : NULL,
                          (const float *)k->data + from, k->cols, rows, p->head_dim, 1, tmp);
                pack_rows(t->kern, to->vt ? to->vt + at : NULL, to->vp ? to->vp + at : NULL,
                          (const float *)v->data + from, v->cols, rows, p->head_dim, 1, tmp);
            }
    }
}

/* Whoever is free takes the next item; late queries, which are the dearest, come first. */
static void attn_bf16(const fj_team *t, const fj_node *n) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const int32_t *blocks = n->in[4]->data;
    const fj_tensor *q = n->in[0];
    const float *sinks = n->in[5] ? n->in[5]->data : NULL;
    const fj_attn_rule rule = rule_of(p);
    int group = p->heads / p->kv_heads, hd = p->head_dim, most = fj_attn_queries(group);
    int64_t words = fj_attn_block(hd), each = p->kv_heads * words;
    atomic_llong *next = t->scratch;
    char *mem = (char *)t->scratch + COUNTER + fwd_blocks(n) + fwd_thread(n) * (size_t)t->ith;
    const uint32_t *kb = n->in[1]->data, *vb = n->in[2]->data;
    bool cached = n->in[1]->panels;
    if (t->ith == 0) atomic_store_explicit(next, 0, memory_order_relaxed);
    if (!cached) {
        packed to = { .kt = (uint32_t *)(void *)((char *)t->scratch + COUNTER) };
        kb = to.kt, vb = to.vp = to.kt + n->in[4]->cols * each;
        pack_keys(t, n, &to, mem);
    }
    fj_team_barrier(t);
    int64_t item = atomic_fetch_add(next, 1), before = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++) {
        int64_t tiles = (seqs[i].rows + most - 1) / most;
        for (; item < before + tiles * p->kv_heads; item = atomic_fetch_add(next, 1)) {
            int64_t h = (item - before) / tiles, r = (tiles - 1 - (item - before) % tiles) * most;
            int64_t row = seqs[i].row0 + r, at = h * group * hd,
                    from = cached ? 0 : seqs[i].blk0 * each;
            fj_attn_kv kv = { kb + from + h * words, vb + from + h * words, each,
                              cached ? blocks + seqs[i].blk0 : NULL };
            fj_attn_fwd_bf16(t->kern, fj_row(q, row) + at, q->cols,
                             (int)FJ_MIN((int64_t)most, seqs[i].rows - r), group, hd, &kv,
                             seqs[i].pos0 + r, &rule, sinks ? sinks + h * group : NULL,
                             fj_row(n->out[0], row) + at, q->cols,
                             fj_row(n->out[1], row) + h * group, p->heads, mem);
        }
        before += tiles * p->kv_heads;
    }
}
#endif

/* Items are dealt in turn: late queries are dearer than early ones. */
FJ_CPU(attn) {
#ifndef FJ_F64
    if (!t->f32) {
        attn_bf16(t, n);
        return;
    }
#endif
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

#ifndef FJ_F64
/* Shared scratch of backward: the counter; keys turned and paired, values turned; queries and dy, each turned and
 * paired; lse and dot of queries; what each thread needs.  Blocks of the queries of sequence i begin at number
 * row0 / 32 + i: beyond those of the sequence before. */
typedef struct back {
    uint32_t *k[3], *q[4];
    float *lse, *dot;
    char *mem;
} back;

static int64_t q_blocks(const fj_node *n) { return n->in[0]->rows / 32 + n->in[3]->rows; }

/* Where they are in mem, and the bytes of all but the threads'. */
static size_t back_of(const fj_node *n, back *b, char *mem) {
    const params *p = n->params;
    size_t at = COUNTER,
           k = (size_t)(n->in[4]->cols * p->kv_heads * fj_attn_block(p->head_dim)) * 4,
           q = (size_t)(q_blocks(n) * p->heads * fj_attn_block(p->head_dim)) * 4,
           one = (size_t)(q_blocks(n) * p->heads) * 32 * 4;
    if (mem) {
        for (size_t i = 0; i < 3; i++) b->k[i] = (uint32_t *)(void *)(mem + at + i * k);
        for (size_t i = 0; i < 4; i++) b->q[i] = (uint32_t *)(void *)(mem + at + 3 * k + i * q);
    }
    at += 3 * k + 4 * q;
    if (mem) {
        b->lse = (float *)(void *)(mem + at);
        b->dot = (float *)(void *)(mem + at + one);
        b->mem = mem + at + 2 * one;
    }
    return at + 2 * one;
}

static size_t bwd_thread(const fj_node *n) {
    const params *p = n->params;
    return round64(fj_attn_bwd_bf16_scratch(p->heads / p->kv_heads, p->head_dim));
}

static void pack_queries(const fj_team *t, const fj_node *n, const back *b, void *tmp) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const fj_tensor *q = n->in[0], *y = n->in[5], *lse = n->in[6], *dy = n->in[7];
    int hd = p->head_dim;
    int64_t words = fj_attn_block(hd), item = 0;
    float *f = tmp;
    for (int64_t i = 0; i < n->in[3]->rows; i++)
        for (int64_t r = 0; r < seqs[i].rows; r += 32)
            for (int h = 0; h < p->heads; h++) {
                if (item++ % t->nth != t->ith) continue;
                int rows = (int)FJ_MIN((int64_t)32, seqs[i].rows - r);
                int64_t row = seqs[i].row0 + r, at = (int64_t)h * hd,
                        to = (seqs[i].row0 / 32 + i + r / 32) * p->heads + h;
                pack_rows(t->kern, b->q[0] + to * words, b->q[1] + to * words, fj_row(q, row) + at,
                          q->cols, rows, hd, (float)(p->scale * FJ_LOG2E), tmp);
                pack_rows(t->kern, b->q[2] + to * words, b->q[3] + to * words, fj_row(dy, row) + at,
                          q->cols, rows, hd, 1, tmp);
                for (int j = 0; j < 32; j++) {
                    float *l = &b->lse[to * 32 + j], *d = &b->dot[to * 32 + j];
                    *l = *d = 0;
                    if (j >= rows) continue;
                    *l = (float)((double)fj_row(lse, row + j)[h] * FJ_LOG2E);
                    uint16_t *u = (uint16_t *)(void *)(f + hd);
                    t->kern->f32_to_bf16(u, fj_row(dy, row + j) + at, hd);
                    t->kern->bf16_to_f32(f, u, hd);
                    *d = t->kern->dot(f, fj_row(y, row + j) + at, hd);
                }
            }
}

/* Whoever is free takes the next item.  Blocks of keys come first, then tiles of queries; of both the dearest first:
 * early keys, late queries. */
static void attn_bwd_bf16(const fj_team *t, const fj_node *n) {
    const params *p = n->params;
    const seq *seqs = n->in[3]->data;
    const int32_t *blocks = n->in[4]->data;
    const fj_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *dy = n->in[7];
    const fj_attn_rule rule = rule_of(p);
    int group = p->heads / p->kv_heads, hd = p->head_dim, most = fj_attn_queries(group);
    int64_t words = fj_attn_block(hd);
    back b;
    FJ_ASSERT(t->scratch);
    back_of(n, &b, t->scratch);
    atomic_llong *next = t->scratch;
    char *mem = b.mem + bwd_thread(n) * (size_t)t->ith;
    if (t->ith == 0) atomic_store_explicit(next, 0, memory_order_relaxed);
    pack_keys(t, n, &(packed){ b.k[0], b.k[1], b.k[2], NULL }, mem);
    pack_queries(t, n, &b, mem);
    fj_team_barrier(t);
    int64_t item = atomic_fetch_add(next, 1), before = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++) {
        const seq *s = &seqs[i];
        int64_t first = first_block(p, s->pos0),
                keys = (s->pos0 + s->rows + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK - first,
                tiles = (s->rows + most - 1) / most, each = keys + tiles;
        for (; item < before + each * p->kv_heads; item = atomic_fetch_add(next, 1)) {
            int64_t h = (item - before) / each, j = (item - before) % each;
            int64_t at = h * group * hd, kv = h * hd, ko = (s->blk0 * p->kv_heads + h) * words,
                    block0 = s->row0 / 32 + i, qo = (block0 * p->heads + h * group) * words,
                    lo = (block0 * p->heads + h * group) * 32;
            fj_attn_back of = { .kt = b.k[0] + ko,
                                .kp = b.k[1] + ko,
                                .vt = b.k[2] + ko,
                                .kstep = p->kv_heads * words,
                                .qt = b.q[0] + qo,
                                .qp = b.q[1] + qo,
                                .yt = b.q[2] + qo,
                                .yp = b.q[3] + qo,
                                .qstep = p->heads * words,
                                .lse = b.lse + lo,
                                .dot = b.dot + lo,
                                .heads = p->heads };
            if (j < keys) {
                int64_t o = blocks[s->blk0 + first + j] * k->cols + kv;
                fj_attn_dkv_bf16(t->kern, (const float *)k->data + o, (const float *)v->data + o,
                                 k->cols, first + j, s->rows, group, hd, &of, s->pos0, &rule,
                                 (float *)n->out[1]->data + o, (float *)n->out[2]->data + o, mem);
            } else {
                int64_t r = (each - 1 - j) * most;
                fj_attn_dq_bf16(t->kern, fj_row(q, s->row0) + at, fj_row(dy, s->row0) + at, q->cols,
                                r, (int)FJ_MIN((int64_t)most, s->rows - r), group, hd, &of, s->pos0,
                                &rule, fj_row(n->out[0], s->row0) + at, mem);
            }
        }
        before += each * p->kv_heads;
    }
}
#endif

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
#ifndef FJ_F64
    if (!t->f32) { /* meets the others once, before anything is written */
        attn_bwd_bf16(t, n);
        return;
    }
#endif
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
    int64_t cols =
        k->panels ? fj_kv_block_cols(p->kv_heads, p->head_dim) : (int64_t)p->kv_heads * p->head_dim;
    if (q->cols != (int64_t)p->heads * p->head_dim || k->cols != cols)
        return fj_fail(e, FJ_EINVAL, "rows of q have %lld values and of k %lld, wanted %d and %d",
                       (long long)q->cols, (long long)k->cols, p->heads * p->head_dim, (int)cols);
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
    if (!o->f32 && !n->f64) return COUNTER + fwd_blocks(n) + fwd_thread(n) * (size_t)o->threads;
    return round64(fj_attn_fwd_scratch(p->heads / p->kv_heads, p->head_dim)) * (size_t)o->threads;
}

static size_t scratch_bwd(const fj_node *n, const fj_graph_opts *o) {
    const params *p = n->params;
    if (!o->f32 && !n->f64) return back_of(n, NULL, NULL) + bwd_thread(n) * (size_t)o->threads;
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
