/* attn_bf16.h - attention with products in bf16: what runs unless everything is f32.  Semantics: attn_tile.h.
 *
 * Queries (times scale), keys, values and weights are rounded to bf16; sums, softmax, and what is left of the
 * weights after it are f32.  Keys and values come in blocks of 32 positions, laid out for the kernels
 * (kernels.def): of a batch once before its queries (fj_attn_pack), of a cache as it is written.
 *
 * The order of additions of a query: scores over the head in one chain; keys in chunks of 128 positions, of
 * which the softmax makes its maximum, then one chain over the keys.  Chunks begin at multiples of 128 of
 * the sequence, so a query's bits depend on its position and its keys alone, in a prompt as in a step of
 * one token: both are the same calls with more or fewer rows. */
#ifndef FJ_OPS_ATTN_BF16_H
#define FJ_OPS_ATTN_BF16_H

#include "ops/attn_tile.h"

#define FJ_LOG2E 1.4426950408889634
#define FJ_LN2 0.69314718055994531

/* Values of a head in memory: padded with zeros. */
static inline int64_t fj_attn_hd(int64_t hd) { return (hd + 31) / 32 * 32; }
/* Words of a block of one kv head: 32 positions, keys or values. */
static inline int64_t fj_attn_block(int64_t hd) { return 16 * fj_attn_hd(hd); }

/* Rows of x (row stride ld) times s in bf16: [n, fj_attn_hd(hd)], the left side of a product. */
void fj_attn_put_rows(const fj_kern *kern, uint32_t *dst, const float *x, int64_t ld, int64_t n,
                      int64_t hd, float s);
/* Rows [0, n) of x times s to positions [from, from + n) of a block, 0 <= from, from + n <= 32;
 * other positions stay.  tmp: fj_attn_block(hd) words. */
void fj_attn_put_turned(const fj_kern *kern, uint32_t *block, const float *x, int64_t ld, int from,
                        int n, int64_t hd, float s, uint32_t *tmp);
void fj_attn_put_paired(const fj_kern *kern, uint32_t *block, const float *x, int64_t ld, int from,
                        int n, int64_t hd, float s, uint32_t *tmp);

/* Keys and values of one kv head: block b of the sequence begins at k + at * step and v + at * step, at = slot[b] /
 * 32, or b when slot is NULL. */
typedef struct fj_attn_kv {
    const uint32_t *k, *v;
    int64_t step;
    const int32_t *slot;
} fj_attn_kv;

/* The most queries of a call. */
int fj_attn_queries(int group);
size_t fj_attn_fwd_bf16_scratch(int group, int hd);
/* As fj_attn_fwd_tile. */
void fj_attn_fwd_bf16(const fj_kern *kern, const float *q, int64_t ldq, int nq, int group, int hd,
                      const fj_attn_kv *kv, int64_t pos0, const fj_attn_rule *rule,
                      const float *sinks, float *y, int64_t ldy, float *lse, int64_t ldl,
                      void *scratch);

/* Backward, by (kv head, tile of queries) for dq and by (kv head, block of keys) for dk and dv: each is a sum of one
 * call, so that calls may be shared out in any way, and scores and dP are made twice.
 * What they read of one head, in blocks of 32 positions from the first row of the sequence on: */
typedef struct fj_attn_back {
    const uint32_t *kt, *kp,
        *vt; /* keys turned and paired, values turned; block b at + b * kstep */
    int64_t kstep;
    /* Of each query head, block b of head h at + b * qstep + h * fj_attn_block: queries times scale log2(e) and dy,
     * turned and paired */
    const uint32_t *qt, *qp, *yt, *yp;
    int64_t qstep;
    const float *lse,
        *dot; /* lse log2(e) and dy.y; of row r, head h at [(r / 32 * heads + h) * 32 + r % 32] */
    int64_t heads;
} fj_attn_back;

size_t fj_attn_bwd_bf16_scratch(int group, int hd);
/* dq of queries [row, row + nq) of the sequence, nq <= fj_attn_queries(group); q, dy, dq are rows of the first. */
void fj_attn_dq_bf16(const fj_kern *kern, const float *q, const float *dy, int64_t ldq, int64_t row,
                     int nq, int group, int hd, const fj_attn_back *b, int64_t pos0,
                     const fj_attn_rule *rule, float *dq, void *scratch);
/* dk and dv of positions 32 block .. of the sequence of `rows` queries; k, v, dk, dv are rows of the first of them. */
void fj_attn_dkv_bf16(const fj_kern *kern, const float *k, const float *v, int64_t ldk,
                      int64_t block, int64_t rows, int group, int hd, const fj_attn_back *b,
                      int64_t pos0, const fj_attn_rule *rule, float *dk, float *dv, void *scratch);

#endif
