/* skinny.cu - products of few rows with a weight, as fast as the weight is read.
 *
 * A warp has 8 or 16 rows of the weight and walks along all of k: the one chain of gemm.cuh.  The warps of
 * a block go in step through stages of k, which come through a ring in shared memory by asynchronous
 * copies: the weight's bytes as they are (each warp those of its own rows), and x.  A block per
 * multiprocessor: as many rows to a block as make all of them work, and when there are more rows than
 * a block holds it goes on with others, without a pause in the copies.
 *
 * Operands: x is A (16 rows to a tile) and rows of the weight are B, 8 to a tile.  At most 8 rows of x with
 * 16 of the weight are the other way round: half as many products.
 *
 * A second pair of operands, an adapter's, is short: a warp reads it where it lies, after all of k, and has
 * other sums for it. */
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/kquant.cuh"

typedef struct skinny_job {
    const unsigned char *w, *x;
    void *y;
    const void *old;
    const bf16 *x2, *w2;                   /* the second pair, k2 deep */
    int64_t n, k, w_row, ldx, ldy, strips; /* strips: of R rows of the weight */
    int64_t ldold, k2, ldx2, ldw2;
    int m, stages, x_rows;
    bool w_pieces, x_pieces;   /* 16 aligned bytes at once */
    bool x_f32, y_f32, pairs2; /* pairs2: two values of the second pair at once */
    float scale, by;           /* by: of the second pair */
} skinny_job;

/* At most `left` groups of copies are on their way after this: the depths of `start`, less two. */
static __device__ __forceinline__ void copies_wait_for(int left) {
    if (left == 3) copies_wait<3>();
    else if (left == 4) copies_wait<4>();
    else if (left == 6) copies_wait<6>();
    else if (left == 10) copies_wait<10>();
    else if (left == 14) copies_wait<14>();
    else if (left == 2) copies_wait<2>();
    else if (left == 1) copies_wait<1>();
    else copies_wait<0>();
}

/* Values [i, i + 8) of a row of x as BF16, zeros from k on. */
static __device__ uint4 x_values(const skinny_job &a, int row, int64_t i) {
    float v[8];
    for (int c = 0; c < 8; c++) {
        int64_t at = (int64_t)row * a.ldx + i + c;
        v[c] = i + c >= a.k ? 0
               : a.x_f32    ? ((const float *)a.x)[at]
                            : to_f32(((const bf16 *)a.x)[at]);
    }
    return make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                      pack_bf16(v[6], v[7]));
}

/* A stage of x, by all threads of the block. */
template <int KS>
static __device__ __forceinline__ void fetch_x(const skinny_job &a, unsigned char *to, int64_t k0) {
    enum { EACH = KS / 8, PITCH = KS * 2 + 16 };
    for (int i = (int)threadIdx.x; i < a.m * EACH; i += (int)blockDim.x) {
        int row = i / EACH, piece = i % EACH;
        int64_t k = k0 + piece * 8;
        unsigned char *at = to + row * PITCH + piece * 16;
        if (a.x_pieces) copy16_async(at, a.x + (row * a.ldx + (k < a.k ? k : 0)) * 2, k < a.k);
        else *(uint4 *)at = x_values(a, row, k);
    }
}

/* A stage of this warp's R rows of the weight: four lanes copy a row, in PARTS copies each. */
template <typename W, int R> struct weight_copy {
    enum { G = R / 8, PARTS = (W::PIECES + 3) / 4 };
    const unsigned char *from[G];
    unsigned char *to;
    int rest[G]; /* bytes of the row from there on in this stage */

    /* Rows from r0 on, to `rows` in shared memory. */
    __device__ __forceinline__ void aim(const skinny_job &a, unsigned char *rows, int64_t r0,
                                        int64_t stage) {
        int part = lane_of() % 4;
        int64_t have = a.w_row - stage * W::SEG;
        int bytes = have < W::SEG ? (int)have : (int)W::SEG;
        to = rows + lane_of() / 4 * W::PITCH + part * 16;
        UNROLL
        for (int g = 0; g < G; g++) {
            int64_t row = r0 + g * 8 + lane_of() / 4;
            int64_t at = row < a.n ? row * a.w_row + stage * W::SEG : 0;
            from[g] = a.w + (at & ~(int64_t)15) + part * 16;
            rest[g] = row < a.n ? bytes + (int)(at & 15) - part * 16 : 0;
        }
    }
    __device__ __forceinline__ void copy(int i) const {
        if (W::PIECES % 4 && lane_of() % 4 + 4 * i >= W::PIECES) return;
        UNROLL
        for (int g = 0; g < G; g++) {
            int n = rest[g] - 64 * i;
            copy_async(to + g * 8 * W::PITCH + 64 * i, from[g] + (n > 0 ? 64 * i : 0),
                       n < 0    ? 0
                       : n < 16 ? n
                                : 16);
        }
    }
    /* Rows that do not begin at multiples of 16 bytes, byte by byte. */
    static __device__ void copy_bytes(const skinny_job &a, unsigned char *rows, int64_t r0,
                                      int64_t stage) {
        for (int i = lane_of(); i < R * W::SEG; i += WARP) {
            int64_t row = r0 + i / W::SEG, at = stage * W::SEG + i % W::SEG;
            bool in = row < a.n && at < a.w_row;
            rows[i / W::SEG * W::PITCH + i % W::SEG] = in ? a.w[row * a.w_row + at] : 0;
        }
    }
};

/* Values k and k + 1 of a row of the second pair; beyond its ends zeros. */
static __device__ __forceinline__ uint32_t pair_of(const skinny_job &a, const bf16 *p, int64_t ld,
                                                   int64_t row, int64_t rows, int64_t k) {
    if (row >= rows || k >= a.k2) return 0;
    p += row * ld + k;
    if (a.pairs2) return *(const uint32_t *)p;
    return p[0].u | (k + 1 < a.k2 ? (uint32_t)p[1].u << 16 : 0);
}
/* As A of a product, 16 rows; as B, 8. */
static __device__ __forceinline__ void pair_as_a(uint32_t *f, const skinny_job &a, const bf16 *p,
                                                 int64_t ld, int64_t row, int64_t rows, int64_t k) {
    row += lane_of() / 4, k += lane_of() % 4 * 2;
    UNROLL
    for (int i = 0; i < 4; i++) f[i] = pair_of(a, p, ld, row + i % 2 * 8, rows, k + i / 2 * 8);
}
static __device__ __forceinline__ void pair_as_b(uint32_t *f, const skinny_job &a, const bf16 *p,
                                                 int64_t ld, int64_t row, int64_t rows, int64_t k) {
    row += lane_of() / 4, k += lane_of() % 4 * 2;
    UNROLL
    for (int i = 0; i < 2; i++) f[i] = pair_of(a, p, ld, row, rows, k + i * 8);
}

/* 32 values of k: operands of two steps.  MT: tiles of 16 rows of x as A; 0: one of 8 as B. */
template <typename W, int R, int MT> struct operands {
    enum { G = R / 8, X_PITCH = W::KS * 2 + 16, SUMS = MT * G };
    struct place {
        typename W::at8 w[G];
        const unsigned char *x;
    };
    uint32_t w[G][4], x[2 * MT][4];
    static __device__ __forceinline__ place aim(const skinny_job &a, const unsigned char *rows,
                                                const int *shift, const unsigned char *xs) {
        place p;
        UNROLL
        for (int g = 0; g < G; g++) p.w[g] = W::lane(rows + g * 8 * W::PITCH, shift[g]);
        /* Of at most 8 rows the second half of A is the first once more. */
        p.x = xs + lane_of() % (MT > 1 || a.m > 8 ? 16 : 8) * X_PITCH + lane_of() / 16 * 16;
        return p;
    }
    __device__ __forceinline__ void load(place &p, int u) {
        UNROLL
        for (int i = 0; i < 2 * MT; i++)
            ldmatrix_x4(x[i], p.x + i / 2 * 16 * X_PITCH + u * 64 + i % 2 * 32);
        UNROLL
        for (int g = 0; g < G; g++) W::load8(w[g], p.w[g], u);
    }
    __device__ __forceinline__ void multiply(float (*sum)[4]) const {
        UNROLL
        for (int s = 0; s < 2; s++) UNROLL
        for (int i = 0; i < MT * G; i++) mma_bf16(sum[i], x[i / G * 2 + s], &w[i % G][2 * s]);
    }
    /* The second pair, for rows of the weight from r0 on. */
    static __device__ __forceinline__ void more(const skinny_job &a, int64_t r0, float (*sum)[4]) {
        ROLLED
        for (int64_t k = 0; k < a.k2; k += 16) {
            uint32_t b[G][2], x[4];
            UNROLL
            for (int g = 0; g < G; g++) pair_as_b(b[g], a, a.w2, a.ldw2, r0 + g * 8, a.n, k);
            UNROLL
            for (int i = 0; i < MT; i++) {
                pair_as_a(x, a, a.x2, a.ldx2, i * 16, a.m, k);
                UNROLL
                for (int g = 0; g < G; g++) mma_bf16(sum[i * G + g], x, b[g]);
            }
        }
    }
    /* Row and column of y of value j of sum i. */
    static __device__ __forceinline__ int row(int i, int j) {
        return i / G * 16 + lane_of() / 4 + j / 2 * 8;
    }
    static __device__ __forceinline__ int col(int i, int j) {
        return i % G * 8 + lane_of() % 4 * 2 + j % 2;
    }
};

template <typename W> struct operands<W, 16, 0> {
    enum { X_PITCH = W::KS * 2 + 16, SUMS = 1 };
    struct place {
        typename W::at16 w;
        const unsigned char *x;
    };
    uint32_t w[2][4], x[4];
    static __device__ __forceinline__ place aim(const skinny_job &, const unsigned char *rows,
                                                const int *shift, const unsigned char *xs) {
        return place{ W::lane16(rows, shift[0], shift[1]),
                      xs + lane_of() % 8 * X_PITCH + lane_of() / 8 * 16 };
    }
    __device__ __forceinline__ void load(place &p, int u) {
        ldmatrix_x4(x, p.x + u * 64);
        W::load16(w, p.w, u);
    }
    __device__ __forceinline__ void multiply(float (*sum)[4]) const {
        mma_bf16(sum[0], w[0], x);
        mma_bf16(sum[0], w[1], x + 2);
    }
    static __device__ __forceinline__ void more(const skinny_job &a, int64_t r0, float (*sum)[4]) {
        ROLLED
        for (int64_t k = 0; k < a.k2; k += 16) {
            uint32_t w[4], x[2];
            pair_as_a(w, a, a.w2, a.ldw2, r0, a.n, k);
            pair_as_b(x, a, a.x2, a.ldx2, 0, a.m, k);
            mma_bf16(sum[0], w, x);
        }
    }
    static __device__ __forceinline__ int row(int, int j) { return lane_of() % 4 * 2 + j % 2; }
    static __device__ __forceinline__ int col(int, int j) { return lane_of() / 4 + j / 2 * 8; }
};

/* v: of the first pair, more: of the second. */
static __device__ __forceinline__ void put(const skinny_job &a, int64_t row, int64_t col, float v,
                                           float more) {
    if (row >= a.m || col >= a.n) return;
    int64_t at = row * a.ldy + col, was = row * a.ldold + col;
    v = !a.old    ? a.scale * v
        : a.y_f32 ? __fmaf_rn(a.scale, v, ((const float *)a.old)[was])
                  : __fmaf_rn(a.scale, v, to_f32(((const bf16 *)a.old)[was]));
    if (a.k2 > 0) v = __fmaf_rn(a.by, more, a.y_f32 ? v : to_f32(to_bf16(v)));
    if (a.y_f32) ((float *)a.y)[at] = v;
    else ((bf16 *)a.y)[at] = to_bf16(v);
}

template <typename W, int R, int MT>
static __global__ void __launch_bounds__(MT <= 1 ? 512 : 256, 1) skinny(skinny_job a) {
    enum { G = R / 8, U = W::KS / 32, X_PITCH = W::KS * 2 + 16 };
    typedef operands<W, R, MT> ops;
    typedef weight_copy<W, R> copying;
    FJ_DYN_SHARED(ring);
    int warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    int stage_bytes = a.x_rows * X_PITCH + warps * R * W::PITCH;
    int mine = a.x_rows * X_PITCH + warp * R * W::PITCH; /* this warp's rows in a stage */
    int64_t steps = a.k > 0 ? (a.k + W::KS - 1) / W::KS : 1;
    int64_t all = (int64_t)gridDim.x * warps; /* strips at once */
    int64_t total = (a.strips - blockIdx.x + all - 1) / all * steps;
    int64_t first = (int64_t)warp * gridDim.x + blockIdx.x;

    /* What is copied next: step `ks` of strip `to`, into place `in` of the ring.  aim: x, and c for the
     * weight; true: c is to do its PARTS. */
    int64_t to = first, ks = 0, left = total;
    int in = 0;
    copying c = {};
    auto aim = [&]() {
        bool parts = false;
        if (left > 0) {
            unsigned char *at = ring + in * stage_bytes;
            if (to < a.strips) {
                parts = W::BLOCK > 1 || a.w_pieces;
                if (parts) c.aim(a, at + mine, to * R, ks);
                else copying::copy_bytes(a, at + mine, to * R, ks);
            }
            fetch_x<W::KS>(a, at, ks * W::KS);
            if (++ks == steps) ks = 0, to += all;
            if (++in == a.stages) in = 0;
            left--;
        }
        return parts;
    };
    for (int i = 0; i < a.stages - 1; i++) {
        if (aim())
            for (int p = 0; p < copying::PARTS; p++) c.copy(p);
        copies_commit();
    }

    float sum[ops::SUMS][4] = {};
    int64_t strip = first, step = 0;
    int out = 0;
    for (int64_t i = 0; i < total; i++) {
        copies_wait_for(a.stages - 2);
        __syncthreads(); /* all have copied this stage, and have read the one that is copied over */
        bool here = strip < a.strips;
        int64_t rest = here ? (a.k - step * W::KS + 31) / 32 : 0;
        const unsigned char *at = ring + out * stage_bytes;
        int shift[G];
        UNROLL
        for (int g = 0; g < G; g++)
            shift[g] = (int)(((unsigned)(strip * R + g * 8 + lane_of() / 4) * (unsigned)a.w_row +
                              (unsigned)step * W::SEG) &
                             15);
        typename ops::place place = ops::aim(a, at + mine, shift, at);
        ops o[2];
        /* Products wait for each other: what else is to do is done between them. */
        if (rest >= U) {
            o[0].load(place, 0);
            o[1].load(place, 1);
            o[0].multiply(sum);
        }
        bool parts = aim();
        if (rest >= U) {
            UNROLL
            for (int u = 1; u < U; u++) {
                if (u + 1 < U) o[(u + 1) % 2].load(place, u + 1);
                if (u <= copying::PARTS && parts) c.copy(u - 1);
                o[u % 2].multiply(sum);
            }
            UNROLL
            for (int p = U - 1; p < copying::PARTS; p++)
                if (parts) c.copy(p);
        } else {
            if (parts)
                for (int p = 0; p < copying::PARTS; p++) c.copy(p);
            if constexpr (W::BLOCK < W::KS) {
                ROLLED
                for (int u = 0; u < (int)rest; u++) {
                    o[0].load(place, u);
                    o[0].multiply(sum);
                }
            }
        }
        if (here && step + 1 == steps) {
            float more[ops::SUMS][4] = {};
            ops::more(a, strip * R, more);
            UNROLL
            for (int s = 0; s < ops::SUMS; s++) {
                UNROLL
                for (int j = 0; j < 4; j++) {
                    put(a, ops::row(s, j), strip * R + ops::col(s, j), sum[s][j], more[s][j]);
                    sum[s][j] = 0;
                }
            }
        }
        copies_commit();
        if (++step == steps) step = 0, strip += all;
        if (++out == a.stages) out = 0;
    }
}

/* Shared memory that a block may have. */
static int64_t most_shared(int compute) {
    if (compute == 86 || compute == 89 || compute >= 120) return 99 << 10;
    return (compute >= 90 ? 227 : 163) << 10;
}

template <typename W, int R, int MT> static bool start(const fj_gpu *g, skinny_job a, fj_err *e) {
    a.x_rows = a.m <= 8 ? 8 : 16 * MT;
    const int64_t x_bytes = a.x_rows * (W::KS * 2 + 16), most = most_shared(g->compute);
    const int64_t row_bytes = R * W::PITCH, limit = MT > 1 || (R == 16 && W::BLOCK == 1) ? 8 : 16;
    a.strips = (a.n + R - 1) / R;
    int64_t each = (a.strips + g->sms - 1) / g->sms, passes = (each + limit - 1) / limit;
    int64_t warps = (each + passes - 1) / passes;
    while (warps > 1 && 3 * (x_bytes + warps * row_bytes) > most) warps--;
    static const int depth[] = { 16, 12, 8, 6, 5, 4, 3, 2 };
    int64_t stage = x_bytes + warps * row_bytes;
    int d = 0;
    while (depth[d] > 2 && depth[d] * stage > most) d++;
    a.stages = depth[d];
    unsigned blocks = (unsigned)(a.strips < g->sms ? a.strips : g->sms);
    size_t shared = (size_t)(a.stages * stage);
    FJ_ALLOW_SHARED((skinny<W, R, MT>), shared);
    FJ_LAUNCH((skinny<W, R, MT>), blocks, (unsigned)(warps * WARP), shared, g->stream, a);
    return launched("a product of few rows", e);
}

template <typename W> static bool start_as(const fj_gpu *g, const skinny_job &a, fj_err *e) {
    int64_t each = (a.n + g->sms - 1) / g->sms; /* rows of the weight to a multiprocessor */
    bool wide = each > (a.m <= 16 ? 128 : 64);
    if (a.m <= 8 && wide) return start<W, 16, 0>(g, a, e);
    if (a.m <= 16) return wide ? start<W, 16, 1>(g, a, e) : start<W, 8, 1>(g, a, e);
    if (a.m <= 32) return wide ? start<W, 16, 2>(g, a, e) : start<W, 8, 2>(g, a, e);
    return wide ? start<W, 16, 4>(g, a, e) : start<W, 8, 4>(g, a, e);
}

int64_t fj_gpu_skinny_rows(fj_dtype w) { return w <= FJ_NF4 ? 64 : 0; }

bool fj_gpu_skinny(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y,
                   float scale, const fj_grows *old, const fj_gpair *more, fj_err *e) {
    if (m <= 0 || w->n <= 0) return true;
    if (m > fj_gpu_skinny_rows(w->dtype))
        return fj_fail(e, FJ_EUNSUP, "%lld rows with a weight of %s are not few", (long long)m,
                       fj_dtype_get(w->dtype)->name);
    bool done;
    if (!fj_gpu_few(g, m, x, 1, w, &y, scale, old, more, &done, e)) return false;
    if (done) return true;
    skinny_job a = {};
    a.w = (const unsigned char *)w->data;
    a.x = (const unsigned char *)x.data;
    a.y = y.data;
    a.n = w->n;
    a.k = w->k;
    a.w_row = fj_dtype_size(w->dtype, 1, w->k);
    if (a.w_row < 0)
        return fj_fail(e, FJ_EINVAL, "rows of %lld values are not whole blocks of %s",
                       (long long)w->k, fj_dtype_get(w->dtype)->name);
    a.ldx = x.ld;
    a.ldy = y.ld;
    a.m = (int)m;
    a.x_f32 = x.dtype == FJ_F32;
    a.y_f32 = y.dtype == FJ_F32;
    a.w_pieces = a.w_row % 16 == 0;
    a.x_pieces = !a.x_f32 && x.ld % 8 == 0 && w->k % 8 == 0 && (uintptr_t)x.data % 16 == 0;
    a.scale = scale;
    if (old) a.old = old->data, a.ldold = old->ld;
    if (more) {
        a.x2 = (const bf16 *)more->a, a.w2 = (const bf16 *)more->b;
        a.k2 = more->k, a.ldx2 = more->lda, a.ldw2 = more->ldb, a.by = more->by;
        a.pairs2 = a.k2 % 2 == 0 && a.ldx2 % 2 == 0 && a.ldw2 % 2 == 0 &&
                   !(((uintptr_t)a.x2 | (uintptr_t)a.w2) % 4);
    }
    switch (w->dtype) {
    case FJ_F32: return start_as<weight_f32>(g, a, e);
    case FJ_F16: return start_as<weight_f16>(g, a, e);
    case FJ_BF16: return start_as<weight_bf16>(g, a, e);
    case FJ_Q8_0: return start_as<weight_q8_0>(g, a, e);
    case FJ_Q4_0: return start_as<weight_q4_0>(g, a, e);
    case FJ_MXFP4: return start_as<weight_mxfp4>(g, a, e);
    case FJ_Q4_K: return start_as<weight_q4_k>(g, a, e);
    case FJ_Q6_K: return start_as<weight_q6_k>(g, a, e);
    default: return start_as<weight_nf4>(g, a, e);
    }
}

bool fj_gpu_skinny_many(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                        const fj_grows *y, fj_err *e) {
    for (int i = 0; i < count;) {
        int n = 1;
        while (n < FJ_FEW_MANY && i + n < count && w[i + n].dtype == w[i].dtype) n++;
        bool done = false;
        if (n > 1 && !fj_gpu_few(g, m, x, n, w + i, y + i, 1, NULL, NULL, &done, e)) return false;
        for (int j = i; j < i + n && !done; j++)
            if (!fj_gpu_skinny(g, m, x, w + j, y[j], 1, NULL, NULL, e)) return false;
        i += n;
    }
    return true;
}
