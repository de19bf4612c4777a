/* moe_linear.cu - rows of slots times the weight of their expert, and both gradients (moe_linear.c).
 *
 * Slots are sorted by expert, so those of an expert are neighbours.  The grid has room for as many tiles as
 * they can have, and a block finds its expert and rows in `start` on the device.  Columns of the result run
 * fastest, so that rows are read once while an expert's weight stays in the L2 cache.
 *
 * Rows of BF16: tiles of ROWS x 128 by tensor cores in the arithmetic of gemm.cuh, one chain for each
 * output over the inner dimension in steps of 16; operands in shared memory as part.cuh says.  Weights become
 * BF16 on their way there: they are read a step ahead into registers.  Experts that have few slots:
 * moe_few.cuh.  Rows of F32: moe_f32.cuh. */
#include "kernels/cuda/part.cuh"
#include "ops/moe_f32.cuh"
#include "ops/moe_few.cuh"
#include "ops/moe_tile.cuh"

enum { STAGES = 4 };

/* ---- operands in shared memory (part.cuh) ----------------------------------------------------------- */
/* HIGH rows of values from (row, col) on, zeros from `end` and `cols` on. */
template <bool INNER, int HIGH>
__device__ __forceinline__ void load_rows(unsigned char *part, const bf16 *x, int64_t ld,
                                          int64_t row, int64_t end, int64_t col, int64_t cols,
                                          bool chunks) {
    constexpr int ACROSS = (INNER ? STEP : SIDE) / 8;
    for (int i = (int)threadIdx.x; i < HIGH * ACROSS; i += THREADS) {
        int64_t r = row + i / ACROSS, c = col + i % ACROSS * 8;
        unsigned char *to = part + place<INNER>(i / ACROSS, i % ACROSS);
        bool in = r < end && c < cols;
        if (chunks) {
            copy16_async(to, x + (in ? r * ld + c : 0), in);
            continue;
        }
        uint32_t v[4] = { 0, 0, 0, 0 };
        if (in)
            for (int k = 0; k < 8; k++)
                if (c + k < cols) v[k / 2] |= (uint32_t)x[r * ld + c + k].u << k % 2 * 16;
        *(uint4 *)to = make_uint4(v[0], v[1], v[2], v[3]);
    }
}

/* A step of a weight: INNER: SIDE of its rows from `out` on and values from `in` on; else the other way. */
template <class W, bool INNER> struct weight_part {
    enum { EACH = SIDE * STEP / 8 / THREADS, ACROSS = (INNER ? STEP : SIDE) / 8 };
    typename W::raw raw[EACH];

    static __device__ __forceinline__ int64_t row(int64_t out, int64_t in, int i) {
        return (INNER ? out : in) + (int)threadIdx.x / ACROSS + i * (THREADS / ACROSS);
    }
    static __device__ __forceinline__ int64_t col(int64_t out, int64_t in) {
        return (INNER ? in : out) + (int)threadIdx.x % ACROSS * 8;
    }
    static __device__ __forceinline__ unsigned char *chunk(unsigned char *part, int i) {
        return part + place<INNER>((int)threadIdx.x / ACROSS + i * (THREADS / ACROSS),
                                   (int)threadIdx.x % ACROSS);
    }
    __device__ __forceinline__ void fetch(unsigned char *part, const matrix &m, int64_t out,
                                          int64_t in, bool chunks) {
        int64_t c = col(out, in);
        UNROLL for (int i = 0; i < EACH; i++) {
            int64_t r = row(out, in, i);
            bool there = r < m.rows && c < m.cols;
            const unsigned char *from = m.p + (there ? r * m.row_bytes : 0);
            if (W::ASYNC && chunks) copy16_async(chunk(part, i), from + (there ? c * 2 : 0), there);
            else if (chunks && there) raw[i] = W::fetch(from, c);
        }
    }
    __device__ __forceinline__ void store(unsigned char *part, const matrix &m, int64_t out,
                                          int64_t in, bool chunks) {
        int64_t c = col(out, in);
        if (W::ASYNC && chunks) return;
        UNROLL for (int i = 0; i < EACH; i++) {
            int64_t r = row(out, in, i);
            float v[8];
            if (chunks && r < m.rows && c < m.cols) W::open(raw[i], c, v);
            else if (chunks) UNROLL for (int k = 0; k < 8; k++) v[k] = 0;
            else open_part<W>(m, r, c, v);
            store8((bf16 *)chunk(part, i), v);
        }
    }
};

/* Two neighbours, or the first of them: together where they are aligned. */
static __device__ __forceinline__ void put2(const job &j, int64_t at, float v, float w, bool want,
                                            bool two) {
    if (!two || j.outer % 2 || !want) {
        put<bf16>(j, at, v, want);
        if (two) put<bf16>(j, at + 1, w, want);
        return;
    }
    if (j.c) {
        uint32_t c = *(const uint32_t *)((const bf16 *)j.c + at);
        v = fmaf(j.scale, v, low_f32(c)), w = fmaf(j.scale, w, high_f32(c));
    } else {
        v *= j.scale, w *= j.scale;
    }
    *(uint32_t *)((bf16 *)j.y + at) = pack_bf16(v, w);
}

/* ---- BF16 -------------------------------------------------------------------------------------------- */
/* INNER: y = x W^T, else y = x W. */
template <class W, bool INNER, int ROWS>
static __global__ void __launch_bounds__(THREADS, 2) tile(const job j) {
    constexpr int DOWN = ROWS == 16 ? 1 : 2, ACROSS = THREADS / WARP / DOWN; /* warps */
    constexpr int MT = ROWS / DOWN / 16, NT = SIDE / ACROSS / 8;
    constexpr int A = ROWS * STEP * 2, B = SIDE * STEP * 2;
    FJ_DYN_SHARED(shared);
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp / ACROSS * MT * 16, col = warp % ACROSS * NT * 8; /* the warp's, in the tile */
    int64_t wide = (j.outer + SIDE - 1) / SIDE, out = blockIdx.x % wide * SIDE;
    group g;
    if (!group_of(j.start, j.experts, ROWS, blockIdx.x / wide, &g)) return;
    int64_t end = g.from + ROWS < g.end ? g.from + ROWS : g.end;
    matrix m = weight_of(j, g.e);
    int steps = some_wanted(j, g.from, end) ? (int)((j.inner + STEP - 1) / STEP) : 0;

    float d[MT][NT][4];
    UNROLL for (int i = 0; i < MT; i++) UNROLL for (int n = 0; n < NT; n++)
        UNROLL for (int v = 0; v < 4; v++) d[i][n][v] = 0;

    weight_part<W, INNER> w;
    for (int s = 0; s < STAGES - 1; s++) {
        unsigned char *to = shared + s * (A + B);
        if (s < steps) {
            load_rows<true, ROWS>(to, (const bf16 *)j.x, j.inner, g.from, end, s * STEP, j.inner,
                                  j.x_chunks);
            w.fetch(to + A, m, out, s * STEP, j.w_chunks);
            w.store(to + A, m, out, s * STEP, j.w_chunks);
        }
        copies_commit();
    }
    for (int s = 0; s < steps; s++) {
        copies_wait<STAGES - 2>();
        __syncthreads(); /* step s is there, and nobody reads step s - 1 any more */
        int next = s + STAGES - 1;
        unsigned char *to = shared + next % STAGES * (A + B);
        int64_t in = (int64_t)next * STEP;
        if (next < steps) {
            load_rows<true, ROWS>(to, (const bf16 *)j.x, j.inner, g.from, end, in, j.inner,
                                  j.x_chunks);
            w.fetch(to + A, m, out, in, j.w_chunks);
        }
        copies_commit();
        const unsigned char *as = shared + s % STAGES * (A + B), *bs = as + A;
        UNROLL for (int k = 0; k < STEP; k += 16) {
            uint32_t a[MT][4], b[NT][2];
            UNROLL for (int i = 0; i < MT; i++) load_a<true>(a[i], as, row + i * 16, k, lane);
            UNROLL for (int n = 0; n < NT; n += 2) load_b<INNER>(b[n], bs, col + n * 8, k, lane);
            UNROLL for (int i = 0; i < MT; i++) UNROLL for (int n = 0; n < NT; n++)
                mma_bf16(d[i][n], a[i], b[n]);
        }
        if (next < steps) w.store(to + A, m, out, in, j.w_chunks);
    }

    UNROLL for (int i = 0; i < MT; i++) UNROLL for (int half = 0; half < 2; half++) {
        int64_t s = g.from + row + i * 16 + half * 8 + lane / 4;
        if (s >= end) continue;
        bool want = wanted(j, s);
        UNROLL for (int n = 0; n < NT; n++) {
            int64_t c = out + col + n * 8 + lane % 4 * 2;
            if (c < j.outer)
                put2(j, s * j.outer + c, d[i][n][half * 2], d[i][n][half * 2 + 1], want,
                     c + 1 < j.outer);
        }
    }
}

/* Tiles of FEW slots, weights as they lie in memory. */
template <class W>
static __global__ void __launch_bounds__(FEW_WARPS *WARP) few_slots(const job j) {
    int64_t wide = (j.outer + FEW_SIDE - 1) / FEW_SIDE, out = blockIdx.x % wide * FEW_SIDE;
    group g;
    if (!group_of(j.start, j.experts, FEW, blockIdx.x / wide, &g)) return;
    int64_t end = g.from + FEW < g.end ? g.from + FEW : g.end;
    few_job f = { (const bf16 *)j.x, j.w.p, j.w, j.expert_bytes };
    few_tile<W>(f, g, out, some_wanted(j, g.from, end), [&](int64_t s, int64_t c, float v) {
        put<bf16>(j, s * j.outer + c, v, wanted(j, s));
    });
}

/* dw: a block for an expert and a tile of it. */
static __global__ void __launch_bounds__(THREADS, 2) tile_dw(const dw_job j) {
    constexpr int PART = SIDE * STEP * 2, MT = 4, NT = 4;
    FJ_DYN_SHARED(shared);
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp / 4 * 64, col = warp % 4 * 32;
    int64_t wide = (j.k + SIDE - 1) / SIDE, tiles = wide * ((j.n + SIDE - 1) / SIDE);
    int64_t e = blockIdx.x / tiles, n0 = blockIdx.x % tiles / wide * SIDE,
            k0 = blockIdx.x % wide * SIDE, from = j.start[e], end = j.start[e + 1];
    int steps = (int)((end - from + STEP - 1) / STEP);
    float d[MT][NT][4];
    UNROLL for (int i = 0; i < MT; i++) UNROLL for (int n = 0; n < NT; n++)
        UNROLL for (int v = 0; v < 4; v++) d[i][n][v] = 0;

    auto load = [&](int s) {
        unsigned char *to = shared + s % STAGES * 2 * PART;
        int64_t at = from + (int64_t)s * STEP;
        load_rows<false, STEP>(to, (const bf16 *)j.dy, j.n, at, end, n0, j.n, j.dy_chunks);
        load_rows<false, STEP>(to + PART, (const bf16 *)j.x, j.k, at, end, k0, j.k, j.x_chunks);
    };
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load(s);
        copies_commit();
    }
    for (int s = 0; s < steps; s++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < steps) load(s + STAGES - 1);
        copies_commit();
        const unsigned char *as = shared + s % STAGES * 2 * PART, *bs = as + PART;
        UNROLL for (int k = 0; k < STEP; k += 16) {
            uint32_t a[MT][4], b[NT][2];
            UNROLL for (int i = 0; i < MT; i++) load_a<false>(a[i], as, row + i * 16, k, lane);
            UNROLL for (int n = 0; n < NT; n += 2) load_b<false>(b[n], bs, col + n * 8, k, lane);
            UNROLL for (int i = 0; i < MT; i++) UNROLL for (int n = 0; n < NT; n++)
                mma_bf16(d[i][n], a[i], b[n]);
        }
    }
    UNROLL for (int i = 0; i < MT; i++) UNROLL for (int n = 0; n < NT; n++)
        UNROLL for (int v = 0; v < 4; v++) {
        int64_t r = n0 + row + i * 16 + v / 2 * 8 + lane / 4,
                c = k0 + col + n * 8 + lane % 4 * 2 + v % 2;
        if (r < j.n && c < j.k) j.dw[(e * j.n + r) * j.k + c] = j.scale * d[i][n][v];
    }
}

/* ---- ops --------------------------------------------------------------------------------------------- */
typedef struct params { /* as in moe_linear.c */
    double scale;
    int64_t most, row0, rows, k;
} params;

template <class W, bool INNER, int ROWS>
static void launch_tile(const fj_gpu *g, const job &j, int64_t slots) {
    size_t shared = STAGES * (ROWS + SIDE) * STEP * 2;
    int64_t tiles = most_tiles(slots, j.experts, ROWS) * ((j.outer + SIDE - 1) / SIDE);
    FJ_ALLOW_SHARED((tile<W, INNER, ROWS>), shared);
    FJ_LAUNCH((tile<W, INNER, ROWS>), (unsigned)tiles, THREADS, shared, g->stream, j);
}

template <class W> static void launch_few(const fj_gpu *g, const job &j, int64_t slots) {
    size_t shared = FEW_STAGES * (size_t)few<W>::STAGE;
    int64_t tiles = most_tiles(slots, j.experts, FEW) * ((j.outer + FEW_SIDE - 1) / FEW_SIDE);
    FJ_ALLOW_SHARED(few_slots<W>, shared);
    FJ_LAUNCH(few_slots<W>, (unsigned)tiles, FEW_WARPS * WARP, shared, g->stream, j);
}

/* Tiles as high as an expert has slots when all have as many. */
template <class W, class RAW, bool INNER>
static void launch(const fj_gpu *g, const job &j, int64_t slots, bool f32) {
    int64_t each = slots / j.experts;
    bool pieces = j.x_chunks && (RAW::BLOCK > 1 || j.w.row_bytes % 16 == 0);
    if (f32) {
        int64_t tiles = most_tiles(slots, j.experts, SMALL) * ((j.outer + SMALL - 1) / SMALL);
        FJ_LAUNCH((simt<W, INNER>), (unsigned)tiles, THREADS, 0, g->stream, j);
    } else if (each < 24 && INNER && pieces) {
        launch_few<RAW>(g, j, slots);
    } else if (each < 24) {
        launch_tile<W, INNER, 16>(g, j, slots);
    } else if (each < 96) {
        launch_tile<W, INNER, 64>(g, j, slots);
    } else {
        launch_tile<W, INNER, 128>(g, j, slots);
    }
}

/* y = (c or 0) + scale * x op(W of the slot's expert); inner: op is transposition. */
static bool product(const fj_gpu *g, const fj_node *n, const fj_tensor *c, bool inner, job *j,
                    fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1], *start = n->in[2], *y = n->out[0];
    if (!same_type(n, x, y, e) || (c && !same_type(n, c, y, e))) return false;
    if (!count_of(y)) return true;
    int64_t each = w->rows / (start->cols - 1), row_bytes = fj_dtype_size(w->dtype, 1, w->cols);
    if (w->dtype > FJ_NF4 || row_bytes < 0)
        return fj_fail(e, FJ_EUNSUP,
                       "op %s does not run on the GPU with weights of %s, %lld x %lld", n->op->name,
                       fj_dtype_get(w->dtype)->name, (long long)w->rows, (long long)w->cols);
    j->x = x->data;
    j->c = c ? c->data : NULL;
    j->y = y->data;
    j->w = matrix{ data_of<unsigned char>(w), row_bytes, each, w->cols };
    j->expert_bytes = each * row_bytes;
    j->inner = x->cols;
    j->outer = y->cols;
    j->start = data_of<int32_t>(start);
    j->experts = (int)start->cols - 1;
    j->scale = (float)((const params *)n->params)->scale;
    j->x_chunks = x->cols % 8 == 0;
    j->w_chunks = w->cols % 8 == 0;
    bool f32 = x->dtype == FJ_F32;
    MOE_WEIGHTS(w->dtype, W, RAW, {
        if (inner) launch<W, RAW, true>(g, *j, y->rows, f32);
        else launch<W, RAW, false>(g, *j, y->rows, f32);
    });
    return launched(n->op->name, e);
}

/* in: x, W, start, c or NULL, order */
static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    job j = {};
    if (p->rows < p->most) {
        j.order = data_of<int32_t>(n->in[4]);
        j.k = (int)p->k;
        j.row0 = p->row0;
        j.row_end = p->row0 + p->rows;
        if (!p->rows) j.row0 = j.row_end = 1 + p->most; /* none, and not all */
    }
    return product(g, n, n->in[3], true, &j, e);
}
FJ_CUDA_OP(moe_linear, run, NULL);

/* in: dy, W, start, gradient of x so far or NULL */
static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    job j = {};
    return product(g, n, n->in[3], false, &j, e);
}
FJ_CUDA_OP(moe_linear_dx, run_dx, NULL);

/* in: dy, x, start.  out: [E * N, K] */
static bool run_dw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *dy = n->in[0], *x = n->in[1], *dw = n->out[0];
    int64_t experts = n->in[2]->cols - 1;
    if (!same_type(n, x, dy, e)) return false;
    if (!count_of(dw)) return true;
    dw_job j = {};
    j.dy = dy->data;
    j.x = x->data;
    j.dw = data_of<float>(dw);
    j.start = data_of<int32_t>(n->in[2]);
    j.n = dy->cols;
    j.k = x->cols;
    j.scale = (float)((const params *)n->params)->scale;
    j.dy_chunks = j.n % 8 == 0;
    j.x_chunks = j.k % 8 == 0;
    int64_t side = x->dtype == FJ_F32 ? (int)SMALL : (int)SIDE,
            tiles = experts * ((j.n + side - 1) / side) * ((j.k + side - 1) / side);
    if (x->dtype == FJ_F32) {
        FJ_LAUNCH(simt_dw, (unsigned)tiles, THREADS, 0, g->stream, j);
    } else {
        size_t shared = STAGES * 2 * SIDE * STEP * 2;
        FJ_ALLOW_SHARED(tile_dw, shared);
        FJ_LAUNCH(tile_dw, (unsigned)tiles, THREADS, shared, g->stream, j);
    }
    return launched("moe_linear_dw", e);
}
FJ_CUDA_OP(moe_linear_dw, run_dw, NULL);
