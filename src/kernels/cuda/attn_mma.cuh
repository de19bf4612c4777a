/* attn_mma.cuh - what the kernels of attention over tensor cores share: tiles in shared memory, their
 * fragments, and ONE arithmetic of the softmax.
 *
 * Keys pass in tiles of 64 from position 0, each row with its maximum, its sum and its values so far, which
 * are scaled down when a tile has a larger score (online softmax).  After 1024 keys a chunk ends: the next
 * begins from nothing, and chunks are joined in their order.  So a chunk can be computed alone (few
 * rows over many keys are split so), and the bits are the same.  What is multiplied by exactly 1, or is
 * 0 added, changes nothing: so tiles and chunks of which a row sees nothing do not matter.
 * A score is x * c in base 2: x = q.k and c = scale log2(e), or with a cap x = tanh(scale / cap q.k) and
 * c = cap log2(e). */
#ifndef FJ_KERNELS_CUDA_ATTN_MMA_CUH
#define FJ_KERNELS_CUDA_ATTN_MMA_CUH

#include "kernels/cuda/attn.cuh"
#include "kernels/cuda/mma.cuh"

enum { ATTN_KT = 64, ATTN_CHUNK = 1024 };
#define ATTN_LOG2E 1.4426950408889634f
#define ATTN_LN2 0.6931471805599453f

#ifdef FJ_PLAY
static inline float exp2_fast(float x) { return exp2f(x); }
static inline float rcp_fast(float x) { return 1 / x; }
#else
__device__ __forceinline__ float exp2_fast(float x) { /* exact at 0 and at -infinity */
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float rcp_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

/* Of q.k times c2 = 2 log2(e) scale / cap. */
__device__ __forceinline__ float tanh_fast(float x, float c2) {
    return fmaf(-2.0f, rcp_fast(1 + exp2_fast(x * c2)), 1.0f);
}

typedef struct attn_scores {
    float c, c2; /* c2 0: no cap */
} attn_scores;
__host__ __device__ __forceinline__ attn_scores attn_scores_of(const fj_gpu_attn &a) {
    attn_scores s;
    s.c = (a.cap > 0 ? a.cap : a.scale) * ATTN_LOG2E;
    s.c2 = a.cap > 0 ? 2 * ATTN_LOG2E * a.scale / a.cap : 0;
    return s;
}

/* ---- tiles in shared memory: rows of HD values, 16 bytes apart so that ldmatrix meets every bank once - */
#define ATTN_PITCH(HD) ((HD) + 8)

/* Rows [0, N) of a tile, row i from at(i), zeros where that is NULL; all threads of the block. */
template <int HD, int N, int THREADS, typename AT>
__device__ __forceinline__ void tile_load(bf16 *to, AT at) {
    constexpr int PARTS = HD / 8;
    for (int i = (int)threadIdx.x; i < N * PARTS; i += THREADS) {
        int r = i / PARTS, c = i % PARTS;
        const bf16 *from = at(r);
        copy16_async(to + r * ATTN_PITCH(HD) + c * 8, from ? from + c * 8 : to, from != NULL);
    }
}

/* Slots of the 64 keys of a tile from position k0, ld values apart; NULL from position end on. */
typedef struct attn_keys {
    int64_t slot[2];
    int have;
} attn_keys;
__device__ __forceinline__ attn_keys keys_at(const fj_gpu_attn &a, const attn_tile &t, int k0,
                                             int end) {
    attn_keys k;
    const int32_t *b = a.blocks + t.blk0 + k0 / FJ_ATTN_BLOCK;
    k.have = end - k0;
    k.slot[0] = k.have > 0 ? b[0] : 0;
    k.slot[1] = k.have > FJ_ATTN_BLOCK ? b[1] - FJ_ATTN_BLOCK : 0;
    return k;
}
template <int HD, int THREADS>
__device__ __forceinline__ void load_keys(const attn_keys &k, const bf16 *from, int64_t ld,
                                          bf16 *to) {
    tile_load<HD, ATTN_KT, THREADS>(to, [&](int j) {
        int64_t slot = j < FJ_ATTN_BLOCK ? k.slot[0] : k.slot[1];
        return j < k.have ? from + (slot + j) * ld : (const bf16 *)NULL;
    });
}

/* A [16, 16] at row r, column c of a tile; B [16, 16] as two n-tiles b[0..1], b[2..3] from rows n, columns k
 * (B[k][n] lies at tile[n][k]); the same from rows k, columns n (at tile[k][n]). */
template <int HD> __device__ __forceinline__ void frag_a(uint32_t *f, const bf16 *s, int r, int c) {
    int l = (int)threadIdx.x % WARP;
    ldmatrix_x4(f, s + (r + l % 16) * ATTN_PITCH(HD) + c + l / 16 * 8);
}
template <int HD> __device__ __forceinline__ void frag_b(uint32_t *f, const bf16 *s, int n, int k) {
    int l = (int)threadIdx.x % WARP;
    ldmatrix_x4(f, s + (n + l / 16 * 8 + l % 8) * ATTN_PITCH(HD) + k + l / 8 % 2 * 8);
}
template <int HD>
__device__ __forceinline__ void frag_bt(uint32_t *f, const bf16 *s, int k, int n) {
    int l = (int)threadIdx.x % WARP;
    ldmatrix_x4_trans(f, s + (k + l % 16) * ATTN_PITCH(HD) + n + l / 16 * 8);
}
template <int HD> /* one n-tile */
__device__ __forceinline__ void frag_bt1(uint32_t *f, const bf16 *s, int k, int n) {
    int l = (int)threadIdx.x % WARP;
    ldmatrix_x2_trans(f, s + (k + l % 16) * ATTN_PITCH(HD) + n);
}

/* A fragment of 16 x 16 from the sums of two n-tiles. */
__device__ __forceinline__ void frag_of_sums(uint32_t *f, const float *s0, const float *s1) {
    f[0] = pack_bf16(s0[0], s0[1]);
    f[1] = pack_bf16(s0[2], s0[3]);
    f[2] = pack_bf16(s1[0], s1[1]);
    f[3] = pack_bf16(s1[2], s1[3]);
}

/* ---- softmax of 16 rows x 64 keys in the fragments of sums: rows lane / 4 and 8 further --------------- */
typedef struct attn_row {
    float max, sum; /* max: of x; sum: of this thread's columns until a chunk ends */
} attn_row;

__device__ __forceinline__ void cap_scores(float (*s)[4], float c2) {
    UNROLL for (int n = 0; n < ATTN_KT / 8; n++) UNROLL for (int i = 0; i < 4; i++) s[n][i] =
        tanh_fast(s[n][i], c2);
}
__device__ __forceinline__ void mask_scores(float (*s)[4], const int *pos, int k0, int window) {
    int t = (int)threadIdx.x % 4;
    UNROLL for (int n = 0; n < ATTN_KT / 8; n++)
        UNROLL for (int i = 0; i < 4; i++) if (!sees(pos[i / 2], k0 + n * 8 + 2 * t + i % 2,
                                                     window)) s[n][i] = -INFINITY;
}

/* s becomes exp(s - max); fix[2]: what the values so far are to be multiplied by. */
__device__ __forceinline__ void softmax_step(float (*s)[4], attn_row *row, float c, float *fix) {
    UNROLL for (int h = 0; h < 2; h++) {
        float m = row[h].max;
        UNROLL for (int n = 0; n < ATTN_KT / 8; n++) m =
            fmaxf(m, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        m = fmaxf(m, __shfl_xor_sync(FULL_WARP, m, 1));
        m = fmaxf(m, __shfl_xor_sync(FULL_WARP, m, 2));
        float base = m == -INFINITY ? 0 : m, low = -(base * c);
        fix[h] = exp2_fast((row[h].max - base) * c);
        row[h].max = m;
        float sum = 0;
        UNROLL for (int n = 0; n < ATTN_KT / 8; n++)
            UNROLL for (int i = 2 * h; i < 2 * h + 2; i++) {
            s[n][i] = exp2_fast(fmaf(s[n][i], c, low));
            sum += s[n][i];
        }
        row[h].sum = fmaf(row[h].sum, fix[h], sum);
    }
}

/* The sum of the chunk, for all four threads of a row. */
__device__ __forceinline__ void end_of_chunk(attn_row *row) {
    UNROLL for (int h = 0; h < 2; h++) {
        row[h].sum += __shfl_xor_sync(FULL_WARP, row[h].sum, 1);
        row[h].sum += __shfl_xor_sync(FULL_WARP, row[h].sum, 2);
    }
}

/* Joins chunk b to what came before, a: values are x = fmaf(xb, fb, xa * fa). */
__device__ __forceinline__ void join(attn_row *a, const attn_row &b, float c, float *fa,
                                     float *fb) {
    float m = fmaxf(a->max, b.max), base = m == -INFINITY ? 0 : m;
    *fa = exp2_fast((a->max - base) * c);
    *fb = exp2_fast((b.max - base) * c);
    a->sum = fmaf(b.sum, *fb, a->sum * *fa);
    a->max = m;
}
/* The sink joins last; returns what the values are to be multiplied by, and the log of the sum. */
__device__ __forceinline__ float end_of_row(attn_row r, const float *sink, float c, float *lse) {
    float fa = 1, fb;
    if (sink) {
        attn_row z = { *sink * ATTN_LOG2E / c, 1 };
        join(&r, z, c, &fa, &fb);
    }
    *lse = fmaf(r.max, c, log2f(r.sum)) * ATTN_LN2;
    return fa / r.sum;
}

/* Shared memory that a block can have. */
static inline size_t attn_shared_of(const fj_gpu *g) {
#ifdef FJ_PLAY
    (void)g;
    return (size_t)227 << 10;
#else
    int c = g->compute;
    return (size_t)(c >= 90 && c < 120 ? 227 : c == 80 || c == 87 ? 163 : 99) << 10;
#endif
}
static inline bool attn_head_size(int hd) { return hd == 64 || hd == 96 || hd == 128 || hd == 256; }

/* ---- rows ----------------------------------------------------------------------------------------- */
/* Where row r of the matrix has its head in q, y, dy, dq. */
__device__ __forceinline__ int64_t attn_head_at(const fj_gpu_attn &a, const attn_tile &t, int kvh,
                                                int64_t r) {
    int i = (int)r / a.group, h = (int)r - i * a.group;
    return (int64_t)(t.row0 + i) * a.heads + kvh * a.group + h;
}

/* Rows [first, first + n) of a tile, and the keys [from, to) that some of them see; from is a tile's. */
typedef struct attn_span {
    int n, low, high;  /* rows; positions of the first and the last */
    int from, to, end; /* end: of the sequence */
} attn_span;
__device__ __forceinline__ attn_span span_of(const fj_gpu_attn &a, const attn_tile &t, int most) {
    attn_span s;
    int64_t left = (int64_t)t.rows * a.group - t.first;
    s.n = left < most ? (int)left : most;
    s.low = t.pos0 + (int)t.first / a.group;
    s.high = t.pos0 + (int)(t.first + s.n - 1) / a.group;
    s.from = a.window && s.low >= a.window ? (s.low - a.window + 1) / ATTN_KT * ATTN_KT : 0;
    s.to = s.high + 1;
    s.end = t.pos0 + t.rows;
    return s;
}
/* Whether each of the rows sees every key of the tile from k0. */
__device__ __forceinline__ bool sees_all(const attn_span &s, int k0, int window) {
    return k0 + ATTN_KT - 1 <= s.low && (!window || k0 > s.high - window);
}

/* ---- chunks that wait for the next --------------------------------------------------------------- */
/* Scratch: values, maximum and sum of each row (kv head after kv head), for each of `chunks`. */
typedef struct parking {
    float *o;     /* [chunk][row][hd] */
    attn_row *ml; /* [chunk][row] */
    int64_t rows;
} parking;

__device__ __forceinline__ parking parking_of(const fj_gpu_attn &a, int64_t chunks) {
    parking p;
    p.rows = a.n * a.heads;
    p.o = (float *)a.scratch;
    p.ml = (attn_row *)(void *)(p.o + p.rows * a.hd * chunks);
    return p;
}
__device__ __forceinline__ int64_t parked_row(const fj_gpu_attn &a, const attn_tile &t, int kvh,
                                              int r) {
    return ((int64_t)kvh * a.n + t.row0) * a.group + t.first + r;
}

/* Of 16 rows of a tile from m0 in fragments: the chunk that ends, joined to those that wait. */
template <int DT>
__device__ __forceinline__ void join_parked(const fj_gpu_attn &a, const attn_tile &t,
                                            const attn_span &sp, int kvh, int m0, attn_row *row,
                                            float (*o)[4], float c, bool parked) {
    int lane = (int)threadIdx.x % WARP;
    const parking park = parking_of(a, 1);
    end_of_chunk(row);
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h + lane / 4;
        if (!parked || r >= sp.n) continue;
        int64_t at = parked_row(a, t, kvh, r);
        const float *po = park.o + at * DT * 8 + lane % 4 * 2;
        attn_row before = park.ml[at];
        float fa, fb;
        join(&before, row[h], c, &fa, &fb);
        row[h] = before;
        UNROLL for (int d = 0; d < DT; d++) {
            float2 was = *(const float2 *)(po + d * 8);
            o[d][2 * h] = fmaf(o[d][2 * h], fb, was.x * fa);
            o[d][2 * h + 1] = fmaf(o[d][2 * h + 1], fb, was.y * fa);
        }
    }
}
/* ... and put where they wait; the next chunk begins. */
template <int DT>
__device__ __forceinline__ void park_rows(const fj_gpu_attn &a, const attn_tile &t,
                                          const attn_span &sp, int kvh, int m0, attn_row *row,
                                          float (*o)[4], float c, bool parked) {
    int lane = (int)threadIdx.x % WARP;
    const parking park = parking_of(a, 1);
    join_parked<DT>(a, t, sp, kvh, m0, row, o, c, parked);
    __syncwarp(); /* all four of a row have read */
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h + lane / 4;
        int64_t at = parked_row(a, t, kvh, r);
        float *po = park.o + at * DT * 8 + lane % 4 * 2;
        UNROLL for (int d = 0; d < DT; d++) {
            if (r < sp.n) *(float2 *)(po + d * 8) = make_float2(o[d][2 * h], o[d][2 * h + 1]);
            o[d][2 * h] = o[d][2 * h + 1] = 0;
        }
        if (r < sp.n && lane % 4 == 0) park.ml[at] = row[h];
        row[h].max = -INFINITY, row[h].sum = 0;
    }
    __syncwarp();
}
/* After the last chunk: y and lse. */
template <int DT>
__device__ __forceinline__ void rows_out(const fj_gpu_attn &a, const attn_tile &t,
                                         const attn_span &sp, int kvh, int m0, attn_row *row,
                                         float (*o)[4], float c, bool parked) {
    int lane = (int)threadIdx.x % WARP;
    join_parked<DT>(a, t, sp, kvh, m0, row, o, c, parked);
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h + lane / 4;
        if (r >= sp.n) continue;
        int64_t at = attn_head_at(a, t, kvh, t.first + r);
        float lse, f = end_of_row(row[h], a.sinks ? a.sinks + at % a.heads : NULL, c, &lse);
        uint32_t *y = (uint32_t *)((bf16 *)a.y + at * DT * 8) + lane % 4;
        UNROLL for (int d = 0; d < DT; d++) y[d * 4] =
            pack_bf16(o[d][2 * h] * f, o[d][2 * h + 1] * f);
        if (lane % 4 == 0) a.lse[at] = lse;
    }
}

#endif
