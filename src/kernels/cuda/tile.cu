/* tile.cu - products of BF16 matrices by mma.sync, for any sizes and any GPU from sm_80 on.
 *
 * A block of 8 warps makes a tile of 128 x 128 of C, each warp 64 x 32 of it, over the inner dimension in
 * steps of 32 that lie in shared memory STAGES deep (part.cuh).
 * An output is one chain over the inner dimension in steps of 16; nn goes on over that of a second pair of
 * operands, nt writes what it has and adds the second product to it (gemm.cuh). */
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/part.cuh"

enum {
    STAGES = 4,
    THREADS = 256,
    PART = SIDE * STEP * 2, /* bytes of an operand's part */
    SHARED = STAGES * 2 * PART,
    GROUP = 8 /* tiles of neighbouring rows run together, so that B's tiles stay in the L2 cache */
};

typedef struct operand {
    const bf16 *p;
    int64_t ld, rows, cols; /* as it is stored */
    bool chunks;            /* every chunk is aligned to 16 bytes */
} operand;

typedef struct product {
    operand a, b, a2, b2;
    int64_t m, n, k, k2, piece; /* block z: inner values [z * piece, (z + 1) * piece) of k */
    void *c;
    const void *old;
    int64_t ldc, ldold, stride; /* block z writes at z * stride */
    float scale, by;            /* by: of the second pair */
    bool pairs;                 /* two neighbours can be written at once */
} product;

/* A chunk that begins at (row, col), zeros from rows and cols on. */
__device__ __forceinline__ void load_chunk(unsigned char *to, const operand &o, int64_t row,
                                           int64_t col, int64_t rows, int64_t cols) {
    if (o.chunks && row < rows && col + 8 <= cols) {
        copy16_async(to, o.p + row * o.ld + col, true);
    } else {
        uint32_t v[4] = { 0, 0, 0, 0 };
        if (row < rows)
            for (int i = 0; i < 8; i++)
                if (col + i < cols) v[i / 2] |= (uint32_t)o.p[row * o.ld + col + i].u << i % 2 * 16;
        *(uint4 *)to = make_uint4(v[0], v[1], v[2], v[3]);
    }
}

/* o's part from `from` on C's side and k of the inner dimension, which ends at `end`.  A thread's chunks are
 * ROWS rows apart, where chunks are permuted alike. */
template <bool INNER>
__device__ __forceinline__ void load_part(unsigned char *part, const operand &o, int64_t from,
                                          int64_t k, int64_t end) {
    constexpr int CHUNKS = (INNER ? STEP : SIDE) / 8, ROWS = THREADS / CHUNKS;
    int row = (int)threadIdx.x / CHUNKS, at = (int)threadIdx.x % CHUNKS;
    unsigned char *to = part + place<INNER>(row, at);
    int64_t r = (INNER ? from : k) + row, c = (INNER ? k : from) + at * 8;
    int64_t rows = INNER ? o.rows : end, cols = INNER ? end : o.cols;
    if (o.chunks && r - row + (INNER ? SIDE : STEP) <= rows &&
        c - at * 8 + (INNER ? STEP : SIDE) <= cols) {
        const bf16 *p = o.p + r * o.ld + c;
        UNROLL for (int i = 0; i < PART / 16 / THREADS; i++)
            copy16_async(to + i * THREADS * 16, p + i * ROWS * o.ld, true);
    } else {
        UNROLL for (int i = 0; i < PART / 16 / THREADS; i++)
            load_chunk(to + i * THREADS * 16, o, r + i * ROWS, c, rows, cols);
    }
}

__device__ __forceinline__ void put2(float *p, float a, float b) {
    *(float2 *)p = make_float2(a, b);
}
__device__ __forceinline__ void put2(bf16 *p, float a, float b) {
    *(uint32_t *)p = pack_bf16(a, b);
}

template <typename T>
__device__ __forceinline__ void put(const product &p, T *c, const T *old, int64_t ldold,
                                    float scale, int64_t row, int64_t col, float v0, float v1) {
    if (row >= p.m || col >= p.n) return;
    T *at = c + row * p.ldc + col;
    bool two = col + 1 < p.n;
    if (old) {
        const T *was = old + row * ldold + col;
        v0 = fmaf(scale, v0, to_f32(was[0]));
        if (two) v1 = fmaf(scale, v1, to_f32(was[1]));
    } else {
        v0 *= scale;
        v1 *= scale;
    }
    if (two && p.pairs) {
        put2(at, v0, v1);
    } else {
        at[0] = from_f32<T>(v0);
        if (two) at[1] = from_f32<T>(v1);
    }
}

template <fj_gemm_kind KIND, typename T>
static __global__ void __launch_bounds__(THREADS, 2) tile(const product p) {
    constexpr bool A_INNER = KIND != FJ_TN, B_INNER = KIND == FJ_NT;
    FJ_DYN_SHARED(shared);
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp / 4 * 64, col = warp % 4 * 32; /* the warp's, in the tile */
    int64_t down = (p.m + SIDE - 1) / SIDE, across = (p.n + SIDE - 1) / SIDE;
    int64_t first = blockIdx.x / (GROUP * across) * GROUP, in = blockIdx.x % (GROUP * across);
    int64_t high = FJ_MIN((int64_t)GROUP, down - first);
    int64_t m0 = (first + in % high) * SIDE, n0 = in / high * SIDE;
    int64_t k0 = blockIdx.z * p.piece, end = FJ_MIN(p.k, k0 + p.piece);
    int whole = (int)((end - k0 + STEP - 1) / STEP);
    int steps = whole + (int)((p.k2 + STEP - 1) / STEP);

    float d[4][4][4];
    auto clear = [&]() {
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
            UNROLL for (int v = 0; v < 4; v++) d[i][j][v] = 0;
    };
    clear();
    T *c = (T *)p.c + blockIdx.z * p.stride;
    auto write = [&](const T *old, int64_t ldold, float scale) {
        int64_t m = m0 + row + lane / 4, n = n0 + col + lane % 4 * 2;
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
            UNROLL for (int h = 0; h < 2; h++) put(p, c, old, ldold, scale, m + i * 16 + h * 8,
                                                   n + j * 8, d[i][j][2 * h], d[i][j][2 * h + 1]);
    };

    auto load = [&](int s) {
        unsigned char *to = shared + s % STAGES * 2 * PART;
        if (s < whole) {
            load_part<A_INNER>(to, p.a, m0, k0 + (int64_t)s * STEP, end);
            load_part<B_INNER>(to + PART, p.b, n0, k0 + (int64_t)s * STEP, end);
        } else if (s < steps) {
            load_part<A_INNER>(to, p.a2, m0, (int64_t)(s - whole) * STEP, p.k2);
            load_part<B_INNER>(to + PART, p.b2, n0, (int64_t)(s - whole) * STEP, p.k2);
        }
        copies_commit();
    };
    auto multiply = [&](int from, int to) {
        for (int s = from; s < to; s++) {
            copies_wait<STAGES - 2>();
            __syncthreads(); /* step s is there, and nobody reads step s - 1 any more */
            load(s + STAGES - 1);
            const unsigned char *as = shared + s % STAGES * 2 * PART, *bs = as + PART;
            UNROLL for (int k = 0; k < STEP; k += 16) {
                uint32_t a[4][4], b[4][2];
                UNROLL for (int i = 0; i < 4; i++) load_a<A_INNER>(a[i], as, row + i * 16, k, lane);
                UNROLL for (int j = 0; j < 4; j += 2)
                    load_b<B_INNER>(b[j], bs, col + j * 8, k, lane);
                UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++)
                    mma_bf16(d[i][j], a[i], b[j]);
            }
        }
    };
    const T *old = (const T *)p.old;
    int64_t ldold = p.ldold;
    float scale = p.scale;
    bool apart = KIND == FJ_NT && steps > whole;
    for (int s = 0; s < STAGES - 1; s++) load(s);
    multiply(0, apart ? whole : steps);
    if (apart) { /* each thread reads again what it has written */
        write(old, ldold, scale);
        clear();
        multiply(whole, steps);
        old = c, ldold = p.ldc, scale = p.by;
    }
    write(old, ldold, scale);
}

static operand operand_of(const void *p, int64_t ld, int64_t rows, int64_t cols) {
    return (operand){ (const bf16 *)p, ld, rows, cols, ld % 8 == 0 && (uintptr_t)p % 16 == 0 };
}

static operand a_of(fj_gemm_kind kind, const void *p, int64_t ld, int64_t m, int64_t k) {
    return kind == FJ_TN ? operand_of(p, ld, k, m) : operand_of(p, ld, m, k);
}
static operand b_of(fj_gemm_kind kind, const void *p, int64_t ld, int64_t n, int64_t k) {
    return kind == FJ_NT ? operand_of(p, ld, n, k) : operand_of(p, ld, k, n);
}

template <fj_gemm_kind KIND, typename T>
static bool launch(const fj_gpu *g, const product *p, int64_t pieces, fj_err *e) {
    int64_t tiles = (p->m + SIDE - 1) / SIDE * ((p->n + SIDE - 1) / SIDE);
    FJ_ALLOW_SHARED((tile<KIND, T>), SHARED);
    FJ_LAUNCH((tile<KIND, T>), dim3((unsigned)tiles, 1, (unsigned)pieces), THREADS, SHARED,
              g->stream, *p);
    return launched("a product", e);
}

/* Blocks of `piece` inner values in pieces, the results stride values apart. */
static bool run(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                const fj_grows *old, const fj_gpair *more, int64_t piece, int64_t stride,
                fj_err *e) {
    if (!m || !n) return true;
    size_t two = c.dtype == FJ_BF16 ? 4 : 8;
    product p = {
        .a = a_of(kind, a, lda, m, k),
        .b = b_of(kind, b, ldb, n, k),
        .a2 = more ? a_of(kind, more->a, more->lda, m, more->k) : operand{},
        .b2 = more ? b_of(kind, more->b, more->ldb, n, more->k) : operand{},
        .m = m,
        .n = n,
        .k = k,
        .k2 = more ? more->k : 0,
        .piece = piece,
        .c = c.data,
        .old = old ? old->data : NULL,
        .ldc = c.ld,
        .ldold = old ? old->ld : 0,
        .stride = stride,
        .scale = scale,
        .by = more ? more->by : 0,
        .pairs = c.ld % 2 == 0 && stride % 2 == 0 && (uintptr_t)c.data % two == 0,
    };
    int64_t pieces = k > piece ? (k + piece - 1) / piece : 1;
    if (c.dtype == FJ_BF16)
        return kind == FJ_NT   ? launch<FJ_NT, bf16>(g, &p, pieces, e)
               : kind == FJ_NN ? launch<FJ_NN, bf16>(g, &p, pieces, e)
                               : launch<FJ_TN, bf16>(g, &p, pieces, e);
    return kind == FJ_NT   ? launch<FJ_NT, float>(g, &p, pieces, e)
           : kind == FJ_NN ? launch<FJ_NN, float>(g, &p, pieces, e)
                           : launch<FJ_TN, float>(g, &p, pieces, e);
}

bool fj_gpu_tile(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                 int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                 const fj_grows *old, const fj_gpair *more, fj_err *e) {
    return run(g, kind, m, n, k, a, lda, b, ldb, c, scale, old, more, k, 0, e);
}

bool fj_gpu_tile_pieces(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const void *a,
                        int64_t lda, const void *b, int64_t ldb, int64_t piece, float *parts,
                        fj_err *e) {
    if (!k) return true;
    fj_grows to = { FJ_F32, parts, n };
    return run(g, FJ_TN, m, n, k, a, lda, b, ldb, to, 1, NULL, NULL, piece, m * n, e);
}
