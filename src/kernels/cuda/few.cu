/* few.cu - products of few rows on sm_90a (fj_gpu_few of gemm.cuh), as fast as the weights are read.
 *
 * The weights are the operand of 64 rows of wgmma, the rows of x its 8, 16, 32 or 64 columns.  A block is
 * one or two computing warpgroups and a warp that copies; it takes strips of rows of the weights, one
 * after another, and walks along all of k in each: the one chain of gemm.cuh.  Strips are as high as makes
 * all multiprocessors read the same; rows of a product beyond a strip's are computed of whatever is there
 * and are not written.  Boxes of weights (rows' bytes as they are) and of x come through a ring of
 * stages; barriers `full` and `empty` as in hopper.cu.
 *
 * BF16 weights are multiplied where they lie; of other formats each warp has up to 8 rows of the strip and
 * makes their values in registers (weight.cuh), the 8 other rows of its 16 are zeros.
 *
 * Blocks take at most half of a multiprocessor's shared memory when x has few rows, so that the next
 * kernel's blocks are there and fill their rings with weights before this one has ended. */
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/few_weight.cuh"
#include "kernels/cuda/gemm.cuh"

enum {
    GROUP = 128,
    STAGES = 16,
    BARRIERS = 1024,   /* bytes */
    HALF = 112 << 10,  /* shared memory of a block, two of which are on a multiprocessor */
    WHOLE = 226 << 10, /* of one */
    MOST_CLUSTER = 2,
};

typedef struct few_plan {
    int m, steps, count;    /* rows of x, stages of k, weights */
    int groups, rows, each; /* computing warpgroups, rows of a strip, of a warpgroup (of a warp) */
    int stages, strips, turns;    /* strips of all weights, of a block */
    int cluster;                  /* blocks that bring x to each other */
    int w_bytes, stage_bytes;     /* of a stage: the weights' (x behind them) and all */
    int full_bytes;               /* that copies bring to a stage */
    int first[FJ_FEW_MANY];       /* strip of each weight */
    int64_t n[FJ_FEW_MANY];       /* its rows */
    fj_grows y[FJ_FEW_MANY], old; /* old.data: NULL: none */
    float scale, by;              /* by: of the second pair */
    const bf16 *x2, *w2;          /* the second pair, k2 deep */
    int64_t ldx2, ldw2;
    int k2;
    bool pairs2; /* whose values can be read two at once */
} few_plan;

typedef struct few_maps {
    CUtensorMap w[FJ_FEW_MANY], x;
} few_maps;

#ifdef FJ_SM90A
/* Place in the ring, and the parity of the phase that ends when it is filled this time. */
typedef struct place {
    int i;
    uint32_t parity;
} place;
__device__ __forceinline__ void next(place *r, int n) {
    if (++r->i == n) r->i = 0, r->parity ^= 1;
}

typedef struct layout {
    uint32_t ring, full, empty;
} layout;
__device__ __forceinline__ layout layout_of(uint32_t base) {
    layout l;
    l.full = (base + 1023) & ~1023u;
    l.empty = l.full + STAGES * 8;
    l.ring = l.full + BARRIERS;
    return l;
}

/* Strips of this block; those of a cluster take as many, the last of which may be of no rows. */
__device__ __forceinline__ int turns_of(const few_plan &p) {
    int left = p.strips - (int)blockIdx.x, all = (int)gridDim.x;
    return p.cluster > 1 ? p.turns : left > 0 ? (left + all - 1) / all : 0;
}

__device__ __forceinline__ int weight_of(const few_plan &p, int strip) {
    int i = 0;
    while (i + 1 < p.count && strip >= p.first[i + 1]) i++;
    return i;
}

/* The weights' part of a stage. */
template <typename W, int N>
__device__ __forceinline__ void copy_w(const few_maps &maps, const few_plan &p, const layout &l,
                                       int i, int strip, int step) {
    int which = weight_of(p, strip), row = (strip - p.first[which]) * p.rows;
    uint32_t full = l.full + 8 * i, to = l.ring + i * p.stage_bytes;
    bar_expect(full, (uint32_t)p.full_bytes);
    if constexpr (W::REGS) {
        box_load(to, &maps.w[which], full, (step * W::STEP & ~15) / 2, row);
    } else {
        UNROLL
        for (int c = 0; c < W::KS / 64; c++)
            box_load(to + c * p.rows * 128, &maps.w[which], full, step * W::KS + c * 64, row);
    }
}
/* That of x: all of it, or in a cluster this block's rows to all blocks. */
template <typename W, int N>
__device__ __forceinline__ void copy_x(const few_maps &maps, const few_plan &p, const layout &l,
                                       int i, int step, int rank) {
    uint32_t full = l.full + 8 * i, to = l.ring + i * p.stage_bytes + p.w_bytes;
    int rows = N / p.cluster, row = rank * rows;
    UNROLL
    for (int c = 0; c < W::KS / 64; c++) {
        int k = step * W::KS + c * 64;
        if (p.cluster == 1) box_load(to + c * N * 128, &maps.x, full, k, 0);
        else
            box_load_all(to + (c * N + row) * 128, &maps.x, full, k, row,
                         (uint16_t)((1 << p.cluster) - 1));
    }
}

/* One thread copies: weights as far as the ring goes, then what other kernels may write. */
template <typename W, int N> struct copier {
    place r;
    int strip, step, left; /* left: turns */
    __device__ __forceinline__ bool more(const few_plan &) const { return left > 0; }
    __device__ __forceinline__ void go_on(const few_plan &p) {
        next(&r, p.stages);
        if (++step == p.steps) step = 0, strip += (int)gridDim.x, left--;
    }
    __device__ __forceinline__ int begin(const few_maps &maps, const few_plan &p, const layout &l) {
        r = place{ 0, 0 };
        strip = (int)blockIdx.x, step = 0, left = turns_of(p);
        int i = 0;
        for (; i < p.stages && more(p); i++, go_on(p)) copy_w<W, N>(maps, p, l, i, strip, step);
        return i;
    }
    __device__ __forceinline__ void rest(const few_maps &maps, const few_plan &p, const layout &l,
                                         int begun) {
        int rank = p.cluster > 1 ? (int)cluster_rank() : 0;
        for (int i = 0, s = 0; i < begun; i++) {
            copy_x<W, N>(maps, p, l, i, s, rank);
            if (++s == p.steps) s = 0;
        }
        for (; more(p); go_on(p)) {
            bar_wait(l.empty + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
            copy_w<W, N>(maps, p, l, r.i, strip, step);
            copy_x<W, N>(maps, p, l, r.i, step, rank);
        }
    }
};

/* ---- computing --------------------------------------------------------------------------------------- */
/* Values k and k + 1 of a row of the second pair. */
__device__ __forceinline__ uint32_t two_of(const few_plan &p, const bf16 *rows, int64_t ld,
                                           int64_t row, int64_t count, int k) {
    if (row >= count || k >= p.k2) return 0;
    const bf16 *at = rows + row * ld + k;
    if (p.pairs2) return *(const uint32_t *)at;
    return at[0].u | (k + 1 < p.k2 ? (uint32_t)at[1].u << 16 : 0);
}

/* Sums of the second pair; from: this thread's first row of the weight. */
template <int N>
__device__ __forceinline__ void more_sums(const few_plan &p, int64_t from, float *d) {
    ROLLED
    for (int k = 0; k < p.k2; k += 16) {
        uint32_t a[4];
        int at = k + lane_of() % 4 * 2;
        UNROLL
        for (int i = 0; i < 4; i++)
            a[i] = two_of(p, p.w2, p.ldw2, from + i % 2 * 8, p.n[0], at + i / 2 * 8);
        UNROLL
        for (int j = 0; j < N / 8; j++) {
            uint32_t b[2];
            UNROLL
            for (int i = 0; i < 2; i++)
                b[i] = two_of(p, p.x2, p.ldx2, j * 8 + lane_of() / 4, p.m, at + i * 8);
            mma_bf16(d + 4 * j, a, b);
        }
    }
}

/* Row `from` of the weight is this thread's first of the sums d; it has `left` rows from there on. */
template <int N>
__device__ __forceinline__ void put_sums(const few_plan &p, int which, int64_t from, int64_t left,
                                         const float *d, const float *more) {
    fj_grows y = p.y[which];
    UNROLL
    for (int i = 0; i < N / 2; i++) {
        int row = i / 4 * 8 + lane_of() % 4 * 2 + i % 2, high = i % 4 / 2 * 8;
        if (row >= p.m || high >= left) continue;
        int64_t at = row * y.ld + from + high, was = row * p.old.ld + from + high;
        float v = p.scale * d[i];
        if (y.dtype == FJ_F32) {
            if (p.old.data) v = __fmaf_rn(p.scale, d[i], ((const float *)p.old.data)[was]);
            if (p.k2) v = __fmaf_rn(p.by, more[i], v);
            ((float *)y.data)[at] = v;
        } else {
            if (p.old.data) v = __fmaf_rn(p.scale, d[i], to_f32(((const bf16 *)p.old.data)[was]));
            if (p.k2) v = __fmaf_rn(p.by, more[i], to_f32(to_bf16(v)));
            ((bf16 *)y.data)[at] = to_bf16(v);
        }
    }
}

/* Says that this warp needs the stage no more, to all who copy to it. */
__device__ __forceinline__ void release(const few_plan &p, const layout &l, int stage) {
    __syncwarp();
    if (p.cluster == 1) {
        if (lane_of() == 0) bar_arrive(l.empty + 8 * stage);
    } else if (lane_of() < p.cluster) {
        bar_arrive_at(l.empty + 8 * stage, (uint32_t)lane_of());
    }
}

/* All stages of a strip, weights multiplied where they lie; r: its first place in the ring, then that after
 * its last; returned: its last place, not yet released. */
template <typename W, int N>
__device__ __forceinline__ int multiply(const few_plan &p, const layout &l, const unsigned char *,
                                        int mine, place *r, float (&d)[N / 2]) {
    int last = -1;
    for (int step = 0; step < p.steps; step++) {
        uint32_t at = l.ring + r->i * p.stage_bytes;
        uint32_t dx = (uint32_t)describe(at + p.w_bytes, false);
        uint32_t dw = (uint32_t)describe(at + mine * 128, false);
        bar_wait(l.full + 8 * r->i, r->parity, WAIT_FULL, r->i);
        products_begin();
        UNROLL
        for (int c = 0; c < W::KS / 64; c++) UNROLL
        for (int i = 0; i < 4; i++)
            product_at(d, dw + c * (p.rows * 128 >> 4) + i * K16_ALONG,
                       dx + c * (N * 128 >> 4) + i * K16_ALONG, c || i || step);
        products_commit();
        products_wait<1>();
        if (last >= 0) release(p, l, last);
        last = r->i;
        next(r, p.stages);
    }
    products_wait<0>();
    return last;
}

/* The same, their values made in registers: 64 of k make a group of products, and while it is multiplied
 * the next values are made; their bytes were read from shared memory before it was begun. */
template <typename W, int N>
__device__ __forceinline__ int multiply_made(const few_plan &p, const layout &l,
                                             const unsigned char *shared, int mine, place *r,
                                             uint32_t (&a)[2][4][4], float (&d)[N / 2]) {
    enum { C = W::KS / 64 };
    int last = -1;
    typename W::raw raw;
    uint32_t at = l.ring + r->i * p.stage_bytes;
    bar_wait(l.full + 8 * r->i, r->parity, WAIT_FULL, r->i);
    shared += mine * W::PITCH;
    const unsigned char *rows = W::lane(shared + at);
    W::fetch(raw, rows, 0);
    for (int step = 0; step < p.steps; step++) {
        uint32_t dx = (uint32_t)describe(at + p.w_bytes, false);
        int now = r->i;
        UNROLL
        for (int c = 0; c < C; c++) {
            W::make(a[c % 2], raw, c);
            if (c + 1 < C) {
                W::fetch(raw, rows, c + 1);
            } else {
                next(r, p.stages);
                if (step + 1 < p.steps) {
                    at = l.ring + r->i * p.stage_bytes;
                    bar_wait(l.full + 8 * r->i, r->parity, WAIT_FULL, r->i);
                    rows = W::lane(shared + at) + (W::STEP % 16 ? (step + 1) * W::STEP & 15 : 0);
                    W::fetch(raw, rows, 0);
                }
            }
            products_begin();
            UNROLL
            for (int i = 0; i < 4; i++)
                product_regs(d, a[c % 2][i], dx + c * (N * 128 >> 4) + i * K16_ALONG,
                             c || i || step);
            products_commit();
            products_wait<1>();
            if (c == 0 && last >= 0) release(p, l, last);
        }
        last = now;
    }
    products_wait<0>();
    return last;
}

template <typename W, int N>
__device__ __forceinline__ void compute(const few_plan &p, const layout &l,
                                        const unsigned char *shared) {
    int warp = __shfl_sync(FULL_WARP, (int)threadIdx.x / WARP, 0), group = warp / 4;
    warp %= 4;
    float d[N / 2];
    place r = { 0, 0 };
    uint32_t a[2][4][4]; /* of values made: rows 8 to 15 of a warp's 16 are zeros */
    UNROLL
    for (int i = 0; i < 16; i++) a[i / 8][i / 2 % 4][i % 2 * 2 + 1] = kept_zero();
    int turns = turns_of(p);
    for (int t = 0, strip = (int)blockIdx.x; t < turns; t++, strip += (int)gridDim.x) {
        /* Rows of the strip: the first of this warp's 16, and how many are of it. */
        int mine, have;
        if constexpr (W::REGS) {
            mine = (group * 4 + warp) * p.each, have = p.each;
            release(p, l, multiply_made<W, N>(p, l, shared, mine, &r, a, d));
        } else {
            mine = group * p.each + warp * 16, have = p.each - warp * 16;
            release(p, l, multiply<W, N>(p, l, shared, group * p.each, &r, d));
        }
        int which = weight_of(p, strip), own = have - lane_of() / 4;
        int64_t from = (int64_t)(strip - p.first[which]) * p.rows + mine + lane_of() / 4;
        int64_t left = p.n[which] - from;
        float more[N / 2] = {};
        if (p.k2) more_sums<N>(p, from, more);
        put_sums<N>(p, which, from, left < own ? left : own, d, more);
    }
}
#endif

template <typename W, int N>
static __global__ void __maxnreg__(N == 64 ? 168 : 112)
    few_kernel(const __grid_constant__ few_maps maps, const __grid_constant__ few_plan p) {
#ifdef FJ_SM90A
    early_release();
    FJ_DYN_SHARED(shared);
    uint32_t base = shared_address(shared);
    layout l = layout_of(base);
    int begun = 0;
    copier<W, N> c = {};
    if ((int)threadIdx.x == p.groups * GROUP) {
        for (int i = 0; i < p.count; i++) map_prefetch(&maps.w[i]);
        map_prefetch(&maps.x);
        for (int i = 0; i < p.stages; i++) {
            bar_init(l.full + 8 * i, 1);
            bar_init(l.empty + 8 * i, (uint32_t)(p.groups * 4 * p.cluster));
        }
        bar_init_done();
        begun = c.begin(maps, p, l);
    }
    if (p.cluster > 1) cluster_sync();
    else __syncthreads();
    early_wait();
    if (__shfl_sync(FULL_WARP, (int)threadIdx.x / GROUP, 0) ==
        p.groups) { /* known to be the warp's */
        if ((int)threadIdx.x == p.groups * GROUP) c.rest(maps, p, l, begun);
        __syncwarp();
    } else {
        compute<W, N>(p, l, shared - base);
    }
    if (p.cluster > 1) cluster_sync(); /* the others still tell barriers of this block */
#else
    (void)maps, (void)p;
#endif
}

/* ---- host -------------------------------------------------------------------------------------------- */
#ifdef FJ_PLAY
/* cols numbers of two bytes in each row, rows stride bytes apart, in boxes of high x wide. */
static bool map_of(CUtensorMap *map, bool swizzle, const void *data, int64_t rows, int64_t cols,
                   int64_t stride, int high, int wide, fj_err *e) {
    if (stride % 16 || wide % 8 || wide > 256 || high > 256)
        return fj_fail(e, FJ_EIO, "no tensor map");
    *map = CUtensorMap{
        (const unsigned char *)data, { cols, rows }, stride, { wide, high }, 2, swizzle
    };
    return true;
}
#else
static bool map_of(CUtensorMap *map, bool swizzle, const void *data, int64_t rows, int64_t cols,
                   int64_t stride, int high, int wide, fj_err *e) {
    cuuint64_t dims[2] = { (cuuint64_t)cols, (cuuint64_t)rows };
    cuuint64_t strides[1] = { (cuuint64_t)stride };
    cuuint32_t box[2] = { (cuuint32_t)wide, (cuuint32_t)high }, one[2] = { 1, 1 };
    CUresult r = encoder()(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, (void *)data, dims, strides, box,
                           one, CU_TENSOR_MAP_INTERLEAVE_NONE,
                           swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ||
           fj_fail(e, FJ_EIO, "no tensor map of %lld x %lld, %lld apart: CUDA driver error %d",
                   (long long)rows, (long long)cols, (long long)stride, (int)r);
}
#endif

static int up(int64_t a, int64_t b) { return (int)((a + b - 1) / b); }

typedef struct few_job {
    const fj_gpu *g;
    fj_grows x;
    const fj_gmat *w;
    int64_t k, w_row; /* bytes of a row */
} few_job;

/* Fills in the rest of a plan after groups, rows and each; false: that many rows are not possible. */
template <typename W, int N> static bool plan_rest(few_plan *p) {
    int pad; /* behind the ring: what is read of rows that are not there */
    if constexpr (W::REGS) {
        p->w_bytes = (p->rows * W::PITCH + 1023) / 1024 * 1024;
        p->full_bytes = p->rows * W::PITCH;
        pad = 8 * W::PITCH;
    } else {
        p->w_bytes = p->rows * (W::KS / 64) * 128;
        p->full_bytes = p->w_bytes;
        pad = BOX;
    }
    p->stage_bytes = p->w_bytes + W::KS / 64 * N * 128;
    p->full_bytes += W::KS / 64 * (p->cluster > 1 ? N : p->m) * 128;
    p->stages = 0;
    for (int most = HALF; most <= WHOLE && p->stages < 4; most += WHOLE - HALF)
        p->stages = (most - 1024 - BARRIERS - pad) / p->stage_bytes;
    if (p->stages > STAGES) p->stages = STAGES;
    p->strips = 0;
    for (int i = 0; i < p->count; i++) {
        p->first[i] = p->strips;
        p->strips += up(p->n[i], p->rows);
    }
    return p->stages >= 3;
}

/* Blocks, a whole number of clusters. */
static int blocks_of(const few_plan *p, int sms) {
    int most = sms / p->cluster, need = up(p->strips, p->cluster);
    return FJ_MIN(need, most) * p->cluster;
}

/* Cycles that all strips take, about.  A cycle brings 20 bytes of the memory to each multiprocessor, 26 of
 * the cache; one alone may get 40.  Dearer: few multiprocessors, blocks that leave no room for the next
 * kernel's, clusters. */
template <typename W, int N> static double plan_cost(const few_plan *p, int64_t w_row, int sms) {
    int blocks = blocks_of(p, sms), waves = up(p->strips, blocks);
    double w = (double)p->rows * (double)w_row / ((double)p->steps * W::KS / 16); /* of 16 of k */
    double x = p->m * 32.0, part = (double)blocks / sms, step;
    double memory = w * part / 20, cache = (w + x / p->cluster) * part / 26, here = (w + x) / 40;
    double chain = 24 + N / 4, make = W::COST * p->groups / (p->groups > 1 ? 1.2 : 1.0);
    step = FJ_MAX(FJ_MAX(memory, cache), FJ_MAX(FJ_MAX(here, chain), make));
    double cost = waves * (step * p->steps * (W::KS / 16) + 200 + 4 * N);
    bool alone = p->stages * p->stage_bytes > HALF;
    return cost * (1.2 - 0.2 * part) * (alone ? 1.06 : 1) * (p->cluster > 1 ? 1.04 : 1);
}

template <typename W, int N> static bool plan_choose(few_plan *best, int64_t w_row, int sms) {
    double cost = INFINITY;
    few_plan p = *best;
    bool found = false;
    for (p.cluster = 1; p.cluster <= FJ_MIN((int)MOST_CLUSTER, sms) && N / p.cluster >= 8;
         p.cluster *= 2)
        for (p.groups = 1; p.groups <= 2; p.groups++)
            for (p.each = W::REGS ? 1 : 8; p.each <= (W::REGS ? 8 : 64);
                 p.each += W::REGS ? 1 : 8) {
                p.rows = p.groups * p.each * (W::REGS ? 4 : 1);
                if (!plan_rest<W, N>(&p) || (p.cluster > 1 && p.strips < p.cluster)) continue;
                double c = plan_cost<W, N>(&p, w_row, sms);
                if (c < cost) cost = c, *best = p, found = true;
            }
    return found;
}

/* Whether the kernel is built for sm_90a: else it is empty. */
template <typename K> static bool there(K kernel) {
#ifdef FJ_PLAY
    (void)kernel;
    return true;
#else
    static int built; /* 1: yes, -1: no; whoever asks finds the same */
    int b = __atomic_load_n(&built, __ATOMIC_RELAXED);
    if (!b) {
        cudaFuncAttributes what;
        b = cudaFuncGetAttributes(&what, kernel) || what.numRegs < 24 ? -1 : 1;
        (void)cudaGetLastError();
        __atomic_store_n(&built, b, __ATOMIC_RELAXED);
    }
    return b > 0;
#endif
}

template <typename W, int N>
static bool start(const few_job *j, few_plan *p, bool *done, fj_err *e) {
    p->steps = up(j->k, W::KS);
    if (!there(few_kernel<W, N>) || !plan_choose<W, N>(p, j->w_row, j->g->sms)) return true;
    few_maps maps = {};
    for (int i = 0; i < p->count; i++) {
        const fj_gmat *w = &j->w[i];
        if constexpr (W::REGS) {
            if (!map_of(&maps.w[i], false, w->data, w->n, j->w_row / 2, j->w_row, p->rows,
                        W::PITCH / 2, e))
                return false;
        } else if (!map_of(&maps.w[i], true, w->data, w->n, j->k, j->w_row, p->rows, 64, e)) {
            return false;
        }
    }
    if (!map_of(&maps.x, true, j->x.data, p->m, j->k, j->x.ld * 2,
                p->cluster > 1 ? N / p->cluster : p->m, 64, e))
        return false;
    size_t shared = (size_t)(1024 + BARRIERS) + (size_t)p->stages * (size_t)p->stage_bytes;
    if constexpr (W::REGS) shared += 8 * W::PITCH;
    else shared += BOX;
    int blocks = blocks_of(p, j->g->sms);
    p->turns = up(p->strips, blocks);
    FJ_ALLOW_SHARED((few_kernel<W, N>), shared);
    *done = true;
    FJ_LAUNCH_EARLY_CLUSTERS((few_kernel<W, N>), (unsigned)p->cluster, (unsigned)blocks,
                             (unsigned)(p->groups * GROUP + WARP), shared, j->g->stream, maps, *p);
    return launched("a product of few rows", e);
}

template <typename W> static bool start_as(const few_job *j, few_plan *p, bool *done, fj_err *e) {
    if (p->m <= 8) return start<W, 8>(j, p, done, e);
    if (p->m <= 16) return start<W, 16>(j, p, done, e);
    if (p->m <= 32) return start<W, 32>(j, p, done, e);
    return start<W, 64>(j, p, done, e);
}

bool fj_gpu_few(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                const fj_grows *y, float scale, const fj_grows *old, const fj_gpair *more,
                bool *done, fj_err *e) {
    const int64_t most = INT32_MAX / 4;
    *done = false;
    if ((old || more) && count != 1) return true;
    if (g->compute != 90 || m < 1 || m > 64 || count < 1 || count > FJ_FEW_MANY) return true;
    if (x.dtype != FJ_BF16 || x.ld % 8 || (uintptr_t)x.data % 16 || w->k < 1 || w->k > most)
        return true;
#ifndef FJ_PLAY
    if (!encoder()) return true;
#endif
    few_job j = { g, x, w, w->k, fj_dtype_size(w->dtype, 1, w->k) };
    if (j.w_row < 1 || j.w_row % 16) return true;
    few_plan p = {};
    p.m = (int)m, p.count = count, p.scale = scale;
    if (old) p.old = *old;
    if (more) {
        if (more->k > most) return true;
        p.x2 = (const bf16 *)more->a, p.w2 = (const bf16 *)more->b, p.k2 = (int)more->k;
        p.ldx2 = more->lda, p.ldw2 = more->ldb, p.by = more->by;
        p.pairs2 = more->k % 2 == 0 && more->lda % 2 == 0 && more->ldb % 2 == 0 &&
                   !(((uintptr_t)p.x2 | (uintptr_t)p.w2) % 4);
    }
    for (int i = 0; i < count; i++) {
        if (w[i].dtype != w->dtype || w[i].k != w->k || (uintptr_t)w[i].data % 16) return true;
        if (w[i].n < 1 || w[i].n > most) return true;
        p.n[i] = w[i].n, p.y[i] = y[i];
    }
    switch (w->dtype) {
    case FJ_BF16: return start_as<few_bf16>(&j, &p, done, e);
    case FJ_F16: return start_as<few_f16>(&j, &p, done, e);
    case FJ_Q8_0: return start_as<few_q8_0>(&j, &p, done, e);
    case FJ_Q4_0: return start_as<few_q4_0>(&j, &p, done, e);
    case FJ_MXFP4: return start_as<few_mxfp4>(&j, &p, done, e);
    case FJ_Q4_K: return start_as<few_q4_k>(&j, &p, done, e);
    case FJ_Q6_K: return start_as<few_q6_k>(&j, &p, done, e);
    case FJ_NF4: return start_as<few_nf4>(&j, &p, done, e);
    default: return true;
    }
}
