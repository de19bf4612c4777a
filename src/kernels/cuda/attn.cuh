/* attn.cuh - attention of a ragged batch on a GPU: what its kernels share.  Semantics: ops.h (fj_attn).
 *
 * Rows.  The `group` query heads of a kv head lie beside each other in a row of q, so the queries of a
 * sequence and a kv head are rows r = query * group + head of a matrix [rows * group, hd], and tiles are
 * cut from it: K and V are read once for all heads of the group, in decode as in prefill.
 * Grids.  The host does not know how long sequences are.  A tile of sequence s is number
 * floor(start(s) / size) + s + (its number in s), start being what sequences before s hold, so that the
 * numbers of a sequence end before those of the next begin and floor(all / size) + sequences is
 * beyond every number; blocks with a number that is nobody's end at once.  So sequences lie in the order of
 * their rows and of their blocks, and each has rows; in backward they share no block, and no slot.
 * Order.  Tiles of keys begin at position 0 of their sequence: what is added up for a query, and how,
 * depends on its position alone. */
#ifndef FJ_KERNELS_CUDA_ATTN_CUH
#define FJ_KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/gpu.cuh"

enum { FJ_ATTN_BLOCK = 32 }; /* positions to an entry of blocks, as FJ_KV_BLOCK */

typedef struct fj_gpu_attn {
    const void *q, *k, *v;              /* F32 or BF16, all the same */
    const int32_t *seqs, *blocks;       /* as of fj_attn */
    const float *sinks;                 /* or NULL */
    int64_t n, slots, n_seqs, n_blocks; /* rows of q, of k; of seqs; entries of blocks */
    int heads, kv_heads, group, hd, window;
    float scale, cap;
    void *y;    /* result of forward, input of backward */
    float *lse; /* [n, heads], so too */
    const void *dy;
    void *dq, *dk, *dv;
    void *scratch; /* fj_gpu_attn_fwd_scratch, or _bwd_scratch bytes */
} fj_gpu_attn;

/* attn_any.cu: F32 arithmetic, F32 or BF16 rows, any head size up to FJ_ATTN_MOST. */
enum { FJ_ATTN_MOST = 256 };
bool fj_gpu_attn_any(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e);
bool fj_gpu_attn_any_bwd(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e);
/* attn_fwd.cu, attn_bwd.cu: BF16 by tensor cores, where *_takes says so. */
bool fj_gpu_attn_takes(const fj_gpu *g, const fj_gpu_attn *a);
size_t fj_gpu_attn_fwd_scratch(const fj_gpu_attn *a);
bool fj_gpu_attn_fwd(const fj_gpu *g, const fj_gpu_attn *a, fj_err *e);
bool fj_gpu_attn_bwd_takes(const fj_gpu *g, const fj_gpu_attn *a);
bool fj_gpu_attn_bwd(const fj_gpu *g, const fj_gpu_attn *a, fj_err *e);
/* attn_hopper.cu, attn_hopper_bwd.cu: on sm_90a, many rows, the same bits forward; not done and no error: it
 * is not for this. */
bool fj_gpu_attn_hopper(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e);
bool fj_gpu_attn_hopper_bwd(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e);

/* Two floats for every row of the matrices above, kv head after kv head: lse in base 2, and D = dy.y */
static inline size_t fj_gpu_attn_bwd_scratch(const fj_gpu_attn *a) {
    return (size_t)a->n * (size_t)a->heads * sizeof(float2);
}
bool fj_gpu_attn_dots(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e);

/* ---- tiles ---------------------------------------------------------------------------------------- */
typedef struct attn_tile {
    int row0, rows, pos0, blk0; /* the sequence */
    int64_t first;              /* of the tile in the sequence: row of the matrix, or position */
} attn_tile;

/* Numbers of tiles of `size` rows of the matrix, and of `size` positions of keys. */
static inline int64_t attn_row_tiles(const fj_gpu_attn *a, int size) {
    return a->n * a->group / size + a->n_seqs;
}
static inline int64_t attn_key_tiles(const fj_gpu_attn *a, int size) {
    return a->n_blocks * FJ_ATTN_BLOCK / size + a->n_seqs;
}

/* The sequence of tile `number`: the last that starts at or before it, by 32 probes at a time.  keys: its
 * tiles are of positions, else of rows.  False, for every thread of the block: nobody's number. */
__device__ __forceinline__ bool find_tile(const fj_gpu_attn &a, bool keys, int size, int64_t number,
                                          attn_tile *t) {
    int64_t lo = 0, hi = a.n_seqs, lane = (int64_t)threadIdx.x % WARP;
    int at = keys ? 3 : 0, each = keys ? FJ_ATTN_BLOCK : a.group;
    while (hi - lo > 1) {
        int64_t step = (hi - lo + WARP - 1) / WARP, s = lo + lane * step;
        bool before = s < hi && (int64_t)a.seqs[4 * s + at] * each / size + s <= number;
        int n = __popc(__ballot_sync(FULL_WARP, before));
        if (n > 1) lo += (int64_t)(n - 1) * step;
        hi = lo + step < hi ? lo + step : hi;
    }
    const int32_t *s = a.seqs + 4 * lo;
    t->row0 = s[0], t->rows = s[1], t->pos0 = s[2], t->blk0 = s[3];
    int64_t nth = number - ((int64_t)s[at] * each / size + lo);
    t->first = nth * size;
    return nth >= 0 && t->first < (keys ? (int64_t)t->pos0 + t->rows : (int64_t)t->rows * a.group);
}

/* Whether the query at position pos sees that key. */
__device__ __forceinline__ bool sees(int pos, int key, int window) {
    return (uint32_t)(pos - key) < (window ? (uint32_t)window : 1u << 31); /* one comparison */
}

#endif
