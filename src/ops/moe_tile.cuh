/* moe_tile.cuh - parts of moe_linear's kernels: which slots a block has, and weights of every format as
 * they come into shared memory. */
#ifndef FJ_OPS_MOE_TILE_CUH
#define FJ_OPS_MOE_TILE_CUH

#include "kernels/cuda/kquant.cuh"
#include "ops/op.cuh"

/* ---- slots ---------------------------------------------------------------------------------------- */
typedef struct group {
    int e; /* an expert, */
    int64_t from,
        end; /* the slots of a tile: [from, from + rows of a tile), and of e up to `end` */
} group;

/* Tiles of `rows` slots that S slots of E experts have at most. */
static inline int64_t most_tiles(int64_t slots, int64_t experts, int64_t rows) {
    return slots / rows + (slots < experts ? slots : experts);
}

/* Tile `tile` of those that each expert's slots are cut into; false: there are not so many.  Every warp of
 * the block calls it and finds the same. */
__device__ __forceinline__ bool group_of(const int32_t *start, int experts, int rows, int64_t tile,
                                         group *g) {
    int lane = (int)threadIdx.x % WARP, each = (experts + WARP - 1) / WARP;
    int first = lane * each, last = first + each < experts ? first + each : experts, mine = 0;
    for (int e = first; e < last; e++) mine += (start[e + 1] - start[e] + rows - 1) / rows;
    int upto = mine;
    for (int d = 1; d < WARP; d *= 2) {
        int o = __shfl_up_sync(FULL_WARP, upto, d);
        if (lane >= d) upto += o;
    }
    int before = upto - mine, e = first, from = 0;
    bool is = tile >= before && tile < upto;
    unsigned who = __ballot_sync(FULL_WARP, is);
    if (!who) return false;
    if (is) {
        for (;; e++) {
            int n = (start[e + 1] - start[e] + rows - 1) / rows;
            if (tile < before + n) break;
            before += n;
        }
        from = start[e] + ((int)tile - before) * rows;
    }
    g->e = __shfl_sync(FULL_WARP, e, __ffs((int)who) - 1);
    g->from = __shfl_sync(FULL_WARP, from, __ffs((int)who) - 1);
    g->end = start[g->e + 1];
    return true;
}

/* ---- weights -------------------------------------------------------------------------------------- */
/* A struct for each format: fetch reads eight values of a row from k (a multiple of 8) on as they lie there,
 * without waiting for them; open makes them of that, exact() for products in F32 (kquant.cuh).  at: one
 * value, of formats without blocks. */
struct raw_f32 {
    float4 a, b;
};
struct as_f32 {
    enum { ASYNC = false };
    typedef raw_f32 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const float4 *p = (const float4 *)(row + k * 4);
        raw r = { p[0], p[1] };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t, float *v) {
        v[0] = r.a.x, v[1] = r.a.y, v[2] = r.a.z, v[3] = r.a.w;
        v[4] = r.b.x, v[5] = r.b.y, v[6] = r.b.z, v[7] = r.b.w;
    }
    static __device__ __forceinline__ float at(const unsigned char *row, int64_t k) {
        return ((const float *)row)[k];
    }
};
struct as_bf16 {
    enum { ASYNC = true }; /* what is copied needs no opening */
    typedef uint4 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        return *(const uint4 *)(row + k * 2);
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t, float *v) {
        const uint32_t w[4] = { r.x, r.y, r.z, r.w };
        UNROLL for (int i = 0; i < 4; i++) v[2 * i] = low_f32(w[i]), v[2 * i + 1] = high_f32(w[i]);
    }
    static __device__ __forceinline__ float at(const unsigned char *row, int64_t k) {
        return to_f32(((const bf16 *)row)[k]);
    }
};
struct as_f16 {
    enum { ASYNC = false };
    typedef uint4 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        return *(const uint4 *)(row + k * 2);
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t, float *v) {
        const uint32_t w[4] = { r.x, r.y, r.z, r.w };
        UNROLL for (int i = 0; i < 8; i++) v[i] = f16_f32((uint16_t)(w[i / 2] >> i % 2 * 16));
    }
    static __device__ __forceinline__ float at(const unsigned char *row, int64_t k) {
        return f16_at((const uint16_t *)row, k);
    }
};
struct raw_q8_0 {
    uint16_t d, q[4];
};
struct as_q8_0 {
    enum { ASYNC = false };
    typedef raw_q8_0 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const uint16_t *b = (const uint16_t *)(row + k / 32 * 34), *q = b + 1 + k % 32 / 2;
        raw r = { b[0], { q[0], q[1], q[2], q[3] } };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t, float *v) {
        float d = f16_f32(r.d);
        UNROLL for (int i = 0; i < 8; i++) v[i] = d * (float)(int8_t)(r.q[i / 2] >> i % 2 * 8);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};
struct as_q4_0 {
    enum { ASYNC = false };
    typedef raw_q8_0 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const uint16_t *b = (const uint16_t *)(row + k / 32 * 18), *q = b + 1 + k % 16 / 2;
        raw r = { b[0], { q[0], q[1], q[2], q[3] } };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t k, float *v) {
        float d = f16_f32(r.d);
        int high = k & 16 ? 4 : 0;
        UNROLL for (int i = 0; i < 8; i++) v[i] =
            d * (float)((r.q[i / 2] >> (i % 2 * 8 + high) & 15) - 8);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};
struct raw_mxfp4 {
    uint8_t e, q[8];
};
struct as_mxfp4 {
    enum { ASYNC = false };
    typedef raw_mxfp4 raw;
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const uint8_t *b = row + k / 32 * 17, *q = b + 1 + k % 16;
        raw r = { b[0], { q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7] } };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t k, float *v) {
        float half = e8m0_half(r.e);
        int high = k & 16 ? 4 : 0;
        UNROLL for (int i = 0; i < 8; i++) v[i] = half * (float)e2m1_doubled(r.q[i] >> high & 15);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};

template <class W>
__device__ __forceinline__ void open_exact(const typename W::raw &r, int64_t k, float *v) {
    W::open(r, k, v);
}
template <>
__device__ __forceinline__ void open_exact<as_q4_k>(const as_q4_k::raw &r, int64_t k, float *v) {
    as_q4_k::exact(r, k, v);
}
template <>
__device__ __forceinline__ void open_exact<as_nf4>(const as_nf4::raw &r, int64_t k, float *v) {
    as_nf4::exact(r, k, v);
}

/* An expert's weight. */
typedef struct matrix {
    const unsigned char *p;
    int64_t row_bytes, rows, cols;
} matrix;

/* Eight values at (row, col) that are not wanted, or not as a whole: zeros, or one by one. */
template <class W>
__device__ __forceinline__ void open_part(const matrix &m, int64_t row, int64_t col, float *v) {
    UNROLL for (int i = 0; i < 8; i++) v[i] =
        row < m.rows && col + i < m.cols ? W::at(m.p + row * m.row_bytes, col + i) : 0;
}

/* Runs the statements with W the struct of that format, and RAW that of weight.cuh. */
#define MOE_WEIGHTS(format, W, RAW, ...)                                                           \
    do {                                                                                           \
        if ((format) == FJ_F32) {                                                                  \
            typedef as_f32 W;                                                                      \
            typedef weight_f32 RAW;                                                                \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_F16) {                                                           \
            typedef as_f16 W;                                                                      \
            typedef weight_f16 RAW;                                                                \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_BF16) {                                                          \
            typedef as_bf16 W;                                                                     \
            typedef weight_bf16 RAW;                                                               \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_Q8_0) {                                                          \
            typedef as_q8_0 W;                                                                     \
            typedef weight_q8_0 RAW;                                                               \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_Q4_0) {                                                          \
            typedef as_q4_0 W;                                                                     \
            typedef weight_q4_0 RAW;                                                               \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_MXFP4) {                                                         \
            typedef as_mxfp4 W;                                                                    \
            typedef weight_mxfp4 RAW;                                                              \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_Q4_K) {                                                          \
            typedef as_q4_k W;                                                                     \
            typedef weight_q4_k RAW;                                                               \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_Q6_K) {                                                          \
            typedef as_q6_k W;                                                                     \
            typedef weight_q6_k RAW;                                                               \
            __VA_ARGS__                                                                            \
        } else if ((format) == FJ_NF4) {                                                           \
            typedef as_nf4 W;                                                                      \
            typedef weight_nf4 RAW;                                                                \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    } while (0)

/* ---- what a kernel is asked for ----------------------------------------------------------------------- */
enum { THREADS = 256 }; /* of a block, but for few slots */

/* y[s] = c[s] + scale * x[s] op(W_e) over all slots. */
typedef struct job {
    const void *x, *c;
    void *y;
    matrix w;                           /* of the first expert */
    int64_t expert_bytes, inner, outer; /* outer: columns of y */
    const int32_t *start, *order;
    int64_t row0, row_end; /* only slots of these rows, of k slots each; row_end 0: all */
    int experts, k;
    float scale;
    bool x_chunks, w_chunks; /* eights lie whole and aligned */
} job;

static __device__ __forceinline__ matrix weight_of(const job &j, int e) {
    matrix m = j.w;
    m.p += e * j.expert_bytes;
    return m;
}

/* dw[e] = scale * dy^T x over the slots of e. */
typedef struct dw_job {
    const void *dy, *x;
    float *dw;
    const int32_t *start;
    int64_t n, k;
    float scale;
    bool dy_chunks, x_chunks;
} dw_job;

/* Whether slot s is of the rows that are wanted. */
static __device__ __forceinline__ bool wanted(const job &j, int64_t s) {
    if (!j.row_end) return true;
    int row = j.order[s] / j.k;
    return row >= j.row0 && row < j.row_end;
}

/* Whether any of slots [from, end) of an expert is: their rows are in order. */
static __device__ __forceinline__ bool some_wanted(const job &j, int64_t from, int64_t end) {
    return !j.row_end || (j.order[end - 1] / j.k >= j.row0 && j.order[from] / j.k < j.row_end);
}

/* y[at] of the sum v; who is not wanted is c. */
template <typename T>
static __device__ __forceinline__ void put(const job &j, int64_t at, float v, bool want) {
    T *y = (T *)j.y + at;
    const T *c = (const T *)j.c + at;
    if (want) *y = from_f32<T>(j.c ? fmaf(j.scale, v, to_f32(*c)) : j.scale * v);
    else if (j.c && j.c != j.y) *y = *c;
}

#endif
