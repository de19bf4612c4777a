/* attn_tile.h - attention of a few queries, or of a whole sequence backward, in tiles of 32 keys.
 *
 * Keys and values of positions 32b .. 32b+31 are the rows block_row[b] .. +31 of k and v (row stride
 * ldk; the caller has added the offset of the kv head).  Query i has position pos0 + i and sees
 * positions 0 .. pos0 + i; rows beyond the last position seen are not touched.  `group` query heads
 * share the kv head and lie beside each other in a row of q.
 *
 * Forward is online softmax over blocks in increasing order (Dao et al. 2022): the bits of a query
 * depend on its position and its keys, not on the other queries of the call.  Backward adds up in an
 * order that depends on the sequence alone. */
#ifndef FJ_OPS_ATTN_TILE_H
#define FJ_OPS_ATTN_TILE_H

#include "ops/real.h"

#include <stddef.h>

enum { FJ_ATTN_KEYS = 32, FJ_ATTN_QUERIES = 32 };

/* Bytes for one thread, float or double; scratch is 64-byte aligned. */
size_t fj_attn_fwd_scratch(int group, int hd);
size_t fj_attn_bwd_scratch(int64_t rows, int group, int hd);

/* y [nq, group * hd] (ldy) = softmax(scale q k^T) v; lse [nq, group] (ldl): log of the sums.
 * 1 <= nq <= FJ_ATTN_QUERIES. */
void FJ_R(fj_attn_fwd_tile)(const FJ_KERN *kern, const real *q, int64_t ldq, int nq, int group,
                            int hd, const real *k, const real *v, int64_t ldk,
                            const int32_t *block_row, int64_t pos0, real scale, real *y,
                            int64_t ldy, real *lse, int64_t ldl, void *scratch);

/* All `rows` queries of a sequence: dq += , dk += , dv +=.  q, y, dy, dq have row stride ldq. */
void FJ_R(fj_attn_bwd_group)(const FJ_KERN *kern, const real *q, const real *y, const real *dy,
                             int64_t ldq, const real *lse, int64_t ldl, int64_t rows, int group,
                             int hd, const real *k, const real *v, int64_t ldk,
                             const int32_t *block_row, int64_t pos0, real scale, real *dq, real *dk,
                             real *dv, void *scratch);

#endif
