/* attn_tile.h - attention of a few queries, or of a whole sequence backward, in tiles of 32 keys.
 *
 * Keys and values of positions 32b .. 32b+31 are the rows block_row[b] .. +31 of k and v (row stride
 * ldk; the caller has added the offset of the kv head).  Query i has position pos0 + i and sees
 * positions 0 .. pos0 + i, or the last `window` of them; rows beyond the last position seen and blocks
 * before the first are not touched.  `group` query heads share the kv head and lie beside each other in a
 * row of q.
 *
 * Forward is online softmax over blocks in increasing order (Dao et al. 2022): the bits of a query
 * depend on its position and its keys, not on the other queries of the call.  Backward adds up in an
 * order that depends on the sequence alone. */
#ifndef FJ_OPS_ATTN_TILE_H
#define FJ_OPS_ATTN_TILE_H

#include "ops/real.h"

#include <stddef.h>

enum { FJ_ATTN_KEYS = 32, FJ_ATTN_QUERIES = 32 };

/* How scores come from q and k: scale q.k, then softcap * tanh(s / softcap) unless softcap is 0; positions
 * p - window + 1 .. p are seen by p, all up to p when window is 0. */
typedef struct fj_attn_rule {
    double scale, softcap;
    int64_t window;
} fj_attn_rule;

/* Bytes for one thread, float or double; scratch is 64-byte aligned. */
size_t fj_attn_fwd_scratch(int group, int hd);
size_t fj_attn_bwd_scratch(int64_t rows, int group, int hd);

/* y [nq, group * hd] (ldy) = softmax(scores) v; lse [nq, group] (ldl): log of the sums.  sinks [group], or
 * NULL: a score of each head that joins its sum and has no value.  1 <= nq <= FJ_ATTN_QUERIES. */
void FJ_R(fj_attn_fwd_tile)(const FJ_KERN *kern, const real *q, int64_t ldq, int nq, int group,
                            int hd, const real *k, const real *v, int64_t ldk,
                            const int32_t *block_row, int64_t pos0, const fj_attn_rule *rule,
                            const real *sinks, real *y, int64_t ldy, real *lse, int64_t ldl,
                            void *scratch);

/* All `rows` queries of a sequence: dq += , dk += , dv +=.  q, y, dy, dq have row stride ldq.  A sink is in
 * lse already and needs no more; its own gradient: attn.c. */
void FJ_R(fj_attn_bwd_group)(const FJ_KERN *kern, const real *q, const real *y, const real *dy,
                             int64_t ldq, const real *lse, int64_t ldl, int64_t rows, int group,
                             int hd, const real *k, const real *v, int64_t ldk,
                             const int32_t *block_row, int64_t pos0, const fj_attn_rule *rule,
                             real *dq, real *dk, real *dv, void *scratch);

#endif
