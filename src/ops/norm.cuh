/* norm.cuh - what the norms have in common: rows in the registers of their threads, and sums over them.
 *
 * A row is read once, as eights of neighbours.  It has `lanes` threads; thread t keeps the eights
 * t, t + lanes, ..., V of them at most.  Narrow rows (heads) share a block, 1 to 32 lanes each; a wide
 * row is a block.  Blocks stay and walk over the rows, so that weights are read once per block.
 *
 * Sums: a thread adds its own values in order, then lanes pair up by shuffles, then warps are added in
 * order; lanes and V follow from the width alone. */
#ifndef FJ_OPS_NORM_CUH
#define FJ_OPS_NORM_CUH

#include "ops/op.cuh"

enum { NORM_MOST = 512 }; /* threads of a row */

/* A thread of a kernel may have as many registers as let 1024 of them (V = 1), two * 256 (V = 2) or 512
 * (V = 4) run on a multiprocessor. */
#define NORM_BOUNDS(V, two)                                                                        \
    __launch_bounds__((V) < 4 ? 256 : NORM_MOST, (V) == 1 ? 4 : (V) == 2 ? (two) : 1)

typedef struct norm_shape {
    int eights, lanes, threads, each; /* V; of a row; of a block; rows of a block at a time */
    unsigned grid;
} norm_shape;

/* How rows of that width are dealt; false: they are wider than registers allow. */
static inline bool norm_shape_of(const fj_gpu *g, const fj_node *n, int64_t rows, int64_t cols,
                                 int two, norm_shape *s, fj_err *e) {
    int64_t all = (cols + 7) / 8;
    if (all > 4 * NORM_MOST)
        return fj_fail(e, FJ_EUNSUP,
                       "op %s does not run on the GPU over rows of %lld values: %d at most",
                       n->op->name, (long long)cols, 32 * NORM_MOST);
    s->eights = all <= 256 ? 1 : all <= 512 ? 2 : 4;
    if (all <= WARP) {
        for (s->lanes = 1; s->lanes < all;) s->lanes *= 2;
        s->threads = 256;
    } else {
        s->lanes = s->threads = (int)((all + s->eights * WARP - 1) / (s->eights * WARP)) * WARP;
    }
    s->each = s->threads / s->lanes;
    int resident = s->eights == 1 ? 1024 : s->eights == 2 ? two * 256 : 512;
    s->grid = grid_of(rows, s->each, (int64_t)g->sms * (resident / s->threads));
    return true;
}

/* Runs the statements with the constant V of the shape. */
#define NORM_BY(shape, V, ...)                                                                     \
    do {                                                                                           \
        if ((shape).eights == 1) {                                                                 \
            enum { V = 1 };                                                                        \
            __VA_ARGS__                                                                            \
        } else if ((shape).eights == 2) {                                                          \
            enum { V = 2 };                                                                        \
            __VA_ARGS__                                                                            \
        } else {                                                                                   \
            enum { V = 4 };                                                                        \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    } while (0)

/* ---- eights as they lie in memory ------------------------------------------------------------------ */
template <typename T> struct eight;
template <> struct eight<float> { float4 a, b; };
template <> struct eight<bf16> { uint4 a; };
__device__ __forceinline__ void open8(const eight<float> &r, float *v) {
    v[0] = r.a.x, v[1] = r.a.y, v[2] = r.a.z, v[3] = r.a.w;
    v[4] = r.b.x, v[5] = r.b.y, v[6] = r.b.z, v[7] = r.b.w;
}
__device__ __forceinline__ void open8(const eight<bf16> &r, float *v) {
    v[0] = low_f32(r.a.x), v[1] = high_f32(r.a.x), v[2] = low_f32(r.a.y), v[3] = high_f32(r.a.y);
    v[4] = low_f32(r.a.z), v[5] = high_f32(r.a.z), v[6] = low_f32(r.a.w), v[7] = high_f32(r.a.w);
}
__device__ __forceinline__ void close8(eight<float> *r, const float *v) {
    r->a = make_float4(v[0], v[1], v[2], v[3]);
    r->b = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void close8(eight<bf16> *r, const float *v) {
    r->a = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                      pack_bf16(v[6], v[7]));
}

/* Eight i of a row of cols values, zeros beyond its end.  Rows of whole eights are aligned. */
template <typename T> __device__ __forceinline__ eight<T> fetch8(const T *row, int i, int cols) {
    eight<T> r;
    float v[8] = { 0 };
    if (cols % 8 == 0 && i * 8 < cols) return *(const eight<T> *)(row + i * 8);
    if (cols % 8)
        for (int k = 0; k < 8; k++)
            if (i * 8 + k < cols) v[k] = to_f32(row[i * 8 + k]);
    close8(&r, v);
    return r;
}
template <typename T>
__device__ __forceinline__ void put8(T *row, int i, int cols, const float *v) {
    if (cols % 8 == 0) {
        if (i * 8 < cols) store8(row + i * 8, v);
        return;
    }
    for (int k = 0; k < 8; k++)
        if (i * 8 + k < cols) row[i * 8 + k] = from_f32<T>(v[k]);
}

/* Where this thread works. */
typedef struct norm_at {
    int t, slot,
        each; /* its place among the lanes; which of the block's rows; how many these are */
} norm_at;
__device__ __forceinline__ norm_at norm_here(int lanes) {
    norm_at a = { (int)threadIdx.x % lanes, (int)threadIdx.x / lanes, (int)blockDim.x / lanes };
    return a;
}

/* Sums of N numbers over the threads of a row, in each of them the same.  Every thread of the block calls
 * it; *turn changes with each call, so that one barrier is enough. */
template <int N> __device__ __forceinline__ void row_sums(float *v, int lanes, int *turn) {
    __shared__ float buf[2][NORM_MOST / WARP][N];
    for (int m = (lanes < WARP ? lanes : WARP) / 2; m; m /= 2)
        for (int i = 0; i < N; i++) v[i] += __shfl_xor_sync(FULL_WARP, v[i], m);
    if (lanes <= WARP) return;
    int warps = lanes / WARP;
    float(*of)[N] = buf[*turn];
    *turn ^= 1;
    if (threadIdx.x % WARP == 0)
        for (int i = 0; i < N; i++) of[threadIdx.x / WARP][i] = v[i];
    __syncthreads();
    for (int i = 0; i < N; i++) {
        v[i] = of[0][i];
        for (int k = 1; k < warps; k++) v[i] += of[k][i];
    }
}

/* ---- sums over rows --------------------------------------------------------------------------------- */
/* Rows whose contributions to a gradient of the weights are added up one after the other; the sums of these
 * chunks lie in scratch, and are then added in order. */
static inline int64_t norm_chunk(int64_t cols) {
    int64_t n = 32768 / (cols ? cols : 1);
    return n < 8 ? 8 : n > 1024 ? 1024 : n;
}
static inline int64_t norm_chunks(int64_t rows, int64_t cols) {
    return (rows + norm_chunk(cols) - 1) / norm_chunk(cols);
}

/* What the threads of a block have of a chunk's sum becomes the chunk's row of parts: slots in order. */
template <int V>
__device__ __forceinline__ void put_chunk(float *part, int cols, int lanes, norm_at a,
                                          const float (*acc)[8]) {
    __shared__ float mine[256 * 8];
    if (a.each == 1) {
        for (int j = 0; j < V; j++) put8(part, a.t + j * lanes, cols, acc[j]);
        return;
    }
    __syncthreads();
    for (int k = 0; k < 8; k++) mine[threadIdx.x * 8 + k] = acc[0][k];
    __syncthreads();
    if ((int)threadIdx.x >= cols) return;
    float s = 0;
    for (int i = 0; i < a.each; i++) s += mine[i * lanes * 8 + threadIdx.x];
    part[threadIdx.x] = s;
}

/* out[c] = the sum of part[i][c]: warp w takes i = w, w + warps, ..., then the warps in order. */
static __global__ void norm_sum(float *out, const float *part, int64_t parts, int64_t cols) {
    __shared__ float sums[32][WARP];
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP,
        warps = (int)blockDim.x / WARP;
    int64_t c = (int64_t)blockIdx.x * WARP + lane;
    float s = 0;
    if (c < cols)
        for (int64_t i = warp; i < parts; i += warps) s += part[i * cols + c];
    sums[warp][lane] = s;
    __syncthreads();
    if (warp || c >= cols) return;
    for (int i = 1; i < warps; i++) s += sums[i][lane];
    out[c] = s;
}
static inline void norm_add_chunks(const fj_gpu *g, float *out, const float *part, int64_t parts,
                                   int64_t cols) {
    if (cols)
        FJ_LAUNCH(norm_sum, (unsigned)((cols + WARP - 1) / WARP), parts > 64 ? 1024 : 256, 0,
                  g->stream, out, part, parts, cols);
}

#endif
