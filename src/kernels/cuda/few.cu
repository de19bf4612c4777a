/* few.cu - products of few rows on sm_90 (fj_gpu_few of gemm.cuh), as fast as the weights are read.
 *
 * A warp multiplies 8 or 16 rows of the weights with all rows of x by mma.sync, whose products follow each
 * other sooner than those of wgmma, and walks along all of k: the one chain of gemm.cuh.  A block is some
 * such warps and one that copies; it takes strips of rows of the weights, one after another, as high as
 * makes all multiprocessors read the same.  Boxes of weights (rows' bytes as they are) and of x come
 * through a ring of stages; barriers `full` and `empty` as in hopper.cu.  Bytes are read from shared memory
 * 64 of k before they are multiplied, and values made of them meanwhile.
 *
 * Blocks take at most half of a multiprocessor's shared memory when x has few rows, so that the next
 * kernel's blocks are there and fill their rings with weights before this one has ended. */
#include "kernels/cuda/few_sums.cuh"

#ifdef FJ_SM90
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
    while (!p.swiglu && i + 1 < p.count && strip >= p.first[i + 1]) i++;
    return i;
}

/* The weights' part of a stage. */
template <typename W>
__device__ __forceinline__ void copy_w(const few_maps &maps, const few_plan &p, const layout &l,
                                       int i, int strip, int step) {
    int which = weight_of(p, strip), rows = p.swiglu ? p.rows / 2 : p.rows;
    int row = (strip - p.first[which]) * rows;
    uint32_t full = l.full + 8 * i, to = l.ring + i * p.stage_bytes;
    bar_expect(full, (uint32_t)p.full_bytes);
    for (int last = p.swiglu ? 1 : which; which <= last; which++) {
        if constexpr (!W::BOXES) {
            box_load(to, &maps.w[which], full, (step * W::STEP & ~15) / 2, row);
            to += rows * W::PITCH;
        } else {
            FJ_UNROLL
            for (int c = 0; c < W::KS / 64; c++)
                box_load(to + c * p.rows * 128, &maps.w[which], full, step * W::KS + c * 64, row);
            to += rows * 128;
        }
    }
}
/* What comes after the ring's first content in this block's first strip, to the cache. */
template <typename W> __device__ __forceinline__ void copy_ahead(const few_plan &p) {
    enum { SECTOR = 32 };
    int which = weight_of(p, (int)blockIdx.x), rows = p.swiglu ? p.rows / 2 : p.rows;
    int64_t from = (int64_t)p.stages * W::STEP, to = from + AHEAD / p.rows;
    if (to > p.w_row) to = p.w_row;
    int each = (int)((to - from + SECTOR - 1) / SECTOR);
    if (each <= 0) return;
    for (int i = (int)threadIdx.x; i < p.rows * each; i += p.warps * WARP) {
        int r = i / each, second = p.swiglu && r >= rows; /* of up */
        int64_t row = (int64_t)((int)blockIdx.x - p.first[which]) * rows + r - (second ? rows : 0);
        if (row >= p.n[which]) continue;
        cache_ahead(p.w[which + second] + row * p.w_row + from + i % each * SECTOR);
    }
}

/* That of x: all of it, or in a cluster this block's rows to all blocks. */
template <typename W, int N>
__device__ __forceinline__ void copy_x(const few_maps &maps, const few_plan &p, const layout &l,
                                       int i, int step, int rank) {
    uint32_t full = l.full + 8 * i, to = l.ring + i * p.stage_bytes + p.w_bytes;
    int rows = N / p.cluster, row = rank * rows;
    FJ_UNROLL
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
        for (; i < p.stages && more(p); i++, go_on(p)) copy_w<W>(maps, p, l, i, strip, step);
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
            copy_w<W>(maps, p, l, r.i, strip, step);
            copy_x<W, N>(maps, p, l, r.i, step, rank);
        }
    }
};

/* ---- computing --------------------------------------------------------------------------------------- */
/* Says that this warp needs the stage no more, to all who copy to it. */
__device__ __forceinline__ void release(const few_plan &p, const layout &l, int stage) {
    __syncwarp();
    if (p.cluster == 1) {
        if (lane_of() == 0) bar_arrive(l.empty + 8 * stage);
    } else if (lane_of() < p.cluster) {
        bar_arrive_at(l.empty + 8 * stage, (uint32_t)lane_of());
    }
}

/* A stage as a warp reads it. */
template <typename W, int MT, int G> struct reader {
    const unsigned char *shared; /* address 0 */
    int tile[G];                 /* bytes from the stage's beginning */
    uint32_t at;                 /* the stage's */
    typename W::raw raw[G];
    uint32_t x;
    __device__ __forceinline__ void open(const few_plan &p, const layout &l, const place &r) {
        at = l.ring + r.i * p.stage_bytes;
        x = at + p.w_bytes + rows_of_x<MT>::lane();
        bar_wait(l.full + 8 * r.i, r.parity, WAIT_FULL, r.i);
    }
    /* shift: of the stage's bytes in rows' */
    __device__ __forceinline__ void fetch(const few_plan &p, int c, int shift) {
        FJ_UNROLL
        for (int g = 0; g < G; g++) {
            uint32_t from = at + tile[g] + (W::STEP % 16 ? shift : 0);
            W::fetch(raw[g], shared + from, from, c, p.rows * 128);
        }
    }
    __device__ __forceinline__ void make(uint32_t (*b)[4][2], int c) {
        FJ_UNROLL
        for (int g = 0; g < G; g++) W::make(b[g], raw[g], c);
    }
};

template <typename W, int MT, int G>
__device__ __forceinline__ void compute(const few_plan &p, const layout &l,
                                        const unsigned char *shared) {
    enum { C = W::KS / 64 };
    int warp = __shfl_sync(FULL_WARP, (int)threadIdx.x / WARP, 0);
    int left = turns_of(p) * p.steps, step = 0, strip = (int)blockIdx.x;
    if (left <= 0) return;
    reader<W, MT, G> in;
    sums<MT, G> d;
    place r = { 0, 0 };
    uint32_t b[2][G][4][2];
    rows_of_x<MT> x[2];
    int which = weight_of(p, strip);
    int64_t from[G];
    float olds[sums<MT, G>::ALL];
    auto begin = [&]() { /* of a strip */
                         FJ_UNROLL
                         for (int g = 0; g < G; g++) {
                             int of = p.swiglu ? warp * 8 : (warp * G + g) * 8;
                             from[g] = (int64_t)(strip - p.first[which]) *
                                           (p.swiglu ? p.rows / 2 : p.rows) +
                                       of;
                         }
                         FJ_UNROLL
                         for (int i = 0; i < sums<MT, G>::ALL && !MT; i++)
                             olds[i] = sums<MT, G>::old(p, from, i);
                         d.clear();
    };
    in.shared = shared;
    FJ_UNROLL
    for (int g = 0; g < G; g++)
        in.tile[g] =
            (p.swiglu ? g * (p.rows / 2) + warp * 8 : (warp * G + g) * 8) * W::PITCH + W::lane();
    begin();
    in.open(p, l, r);
    in.fetch(p, 0, 0);
    in.make(b[0], 0);
    x[0].load(in.x, 0, 0);
    for (; left > 0; left--) {
        int now = r.i, after = step + 1 == p.steps ? 0 : step + 1;
        uint32_t x_now = in.x;
        FJ_UNROLL
        for (int c = 0; c < C; c++) {
            if (c + 1 < C) {
                in.fetch(p, c + 1, step * W::STEP & 15);
            } else {
                if (left > 1) {
                    next(&r, p.stages);
                    in.open(p, l, r);
                }
                in.fetch(p, 0, after * W::STEP & 15); /* at the end: something */
            }
            const int c_next = (c + 1) % C;
            uint32_t x_next = c + 1 < C ? x_now : in.x;
            FJ_UNROLL
            for (int s = 0; s < 4; s++) {
                if (MT) {
                    if (s < 3) x[(s + 1) % 2].load(x_now, c, s + 1);
                    else x[0].load(x_next, c_next, 0);
                    x[s % 2].multiply(d, b[c % 2], s);
                } else {
                    if (s == 0) x[1].load(x_now, c, 2);
                    if (s == 2) x[0].load(x_next, c_next, 0);
                    x[s / 2].multiply(d, b[c % 2], s);
                }
                if (s == 1) in.make(b[(c + 1) % 2], c_next);
            }
        }
        release(p, l, now);
        step = after;
        if (step) continue;
        if (G == 2 && p.swiglu) d.put_swiglu(p, from[0]);
        else d.template put<!MT>(p, which, from, olds);
        strip += (int)gridDim.x;
        if (left > 1) which = weight_of(p, strip), begin();
    }
}
#endif

template <typename W, int MT, int G>
static __global__ void __maxnreg__(MT < 4 ? 112 : 168)
    few_kernel(const __grid_constant__ few_maps maps, const __grid_constant__ few_plan p) {
#ifdef FJ_SM90
    early_release();
    FJ_DYN_SHARED(shared);
    uint32_t base = shared_address(shared);
    layout l = layout_of(base);
    int begun = 0;
    copier<W, ROWS_OF_X(MT)> c = {};
    if ((int)threadIdx.x == p.warps * WARP) {
        for (int i = 0; i < p.count; i++) map_prefetch(&maps.w[i]);
        map_prefetch(&maps.x);
        for (int i = 0; i < p.stages; i++) {
            bar_init(l.full + 8 * i, 1);
            bar_init(l.empty + 8 * i, (uint32_t)(p.warps * p.cluster));
        }
        bars_are_made();
        begun = c.begin(maps, p, l);
    }
    if (p.cluster > 1) cluster_sync();
    else __syncthreads();
    if (__shfl_sync(FULL_WARP, (int)threadIdx.x / WARP, 0) ==
        p.warps) { /* known to be the warp's */
        early_wait();
        if ((int)threadIdx.x == p.warps * WARP) c.rest(maps, p, l, begun);
        __syncwarp();
    } else {
        if (AHEAD > 0) copy_ahead<W>(p);
        early_wait();
        compute<W, MT, G>(p, l, shared - base);
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
typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
static encode_fn encoder(void) {
    static encode_fn known; /* threads may look for it at once, and find the same */
    encode_fn f = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    if (f) return f;
    cudaDriverEntryPointQueryResult got;
    void *p = NULL;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault,
                                         &got) ||
        got != cudaDriverEntryPointSuccess)
        return (void)cudaGetLastError(), (encode_fn)NULL;
    f = (encode_fn)p;
    __atomic_store_n(&known, f, __ATOMIC_RELEASE);
    return f;
}

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

typedef struct few_job {
    const fj_gpu *g;
    fj_grows x;
    const fj_gmat *w;
    int64_t k, w_row; /* bytes of a row */
} few_job;

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

template <typename W, int MT, int G>
static bool start(const few_job *j, const few_plan *p, bool *done, fj_err *e) {
    if (!there(few_kernel<W, MT, G>)) return true;
    few_maps maps = {};
    int high = p->swiglu ? p->rows / 2 : p->rows;
    for (int i = 0; i < p->count; i++) {
        const fj_gmat *w = &j->w[i];
        if (!map_of(&maps.w[i], W::BOXES, w->data, w->n, j->w_row / 2, j->w_row, high, W::PITCH / 2,
                    e))
            return false;
    }
    if (!map_of(&maps.x, true, j->x.data, p->m, j->k, j->x.ld * 2,
                p->cluster > 1 ? ROWS_OF_X(MT) / p->cluster : p->m, 64, e))
        return false;
    size_t shared = (size_t)(1024 + BARRIERS) + (size_t)p->stages * (size_t)p->stage_bytes;
    FJ_ALLOW_SHARED((few_kernel<W, MT, G>), shared);
    *done = true;
    FJ_LAUNCH_EARLY_CLUSTERS((few_kernel<W, MT, G>), (unsigned)p->cluster,
                             (unsigned)blocks_of(p, j->g->sms), (unsigned)((p->warps + 1) * WARP),
                             shared, j->g->stream, maps, *p);
    return launched("a product of few rows", e);
}

/* The better of 8 and 16 rows to a warp; of many rows of x, 16. */
template <typename W, int MT>
static bool start_with(const few_job *j, few_plan *p, bool *done, fj_err *e) {
    few_plan one = *p;
    double cost = INFINITY, cost_one = INFINITY;
    int sms = j->g->sms;
    cost = plan_choose<W, MT, 2>(p, j->w_row, sms);
    if constexpr (MT < 2)
        if (!p->swiglu) cost_one = plan_choose<W, MT, 1>(&one, j->w_row, sms);
    if (cost == INFINITY && cost_one == INFINITY) return true;
    few_plan *best = cost_one <= cost ? &one : p;
    best->turns = up(best->strips, blocks_of(best, sms));
    if constexpr (MT < 2)
        if (best == &one) return start<W, MT, 1>(j, best, done, e);
    return start<W, MT, 2>(j, best, done, e);
}

template <typename W> static bool start_as(const few_job *j, few_plan *p, bool *done, fj_err *e) {
    p->steps = up(j->k, W::KS);
    if (p->m <= 8) return start_with<W, 0>(j, p, done, e);
    if (p->m <= 16) return start_with<W, 1>(j, p, done, e);
    if (p->m <= 32) return start_with<W, 2>(j, p, done, e);
    return start_with<W, 4>(j, p, done, e);
}

/* What fj_gpu_few does, for a plan that knows all but the sizes. */
static bool start_any(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                      const fj_grows *y, few_plan *p, bool *done, fj_err *e) {
    const int64_t most = INT32_MAX / 4;
    *done = false;
    if (g->compute != 90 || m < 1 || m > 64 || count < 1 || count > FJ_FEW_MANY) return true;
    if (x.dtype != FJ_BF16 || x.ld % 8 || (uintptr_t)x.data % 16 || w->k < 1 || w->k > most)
        return true;
#ifndef FJ_PLAY
    if (!encoder()) return true;
#endif
    few_job j = { g, x, w, w->k, fj_dtype_size(w->dtype, 1, w->k) };
    if (j.w_row < 1 || j.w_row % 16) return true;
    p->m = (int)m, p->count = count, p->w_row = j.w_row;
    for (int i = 0; i < count; i++) {
        if (w[i].dtype != w->dtype || w[i].k != w->k || (uintptr_t)w[i].data % 16) return true;
        if (w[i].n < 1 || w[i].n > most) return true;
        p->n[i] = w[i].n, p->y[i] = y[i];
        p->w[i] = (const unsigned char *)w[i].data;
    }
    switch (w->dtype) {
    case FJ_BF16: return start_as<few_bf16>(&j, p, done, e);
    case FJ_F16: return start_as<few_f16>(&j, p, done, e);
    case FJ_Q8_0: return start_as<few_q8_0>(&j, p, done, e);
    case FJ_Q4_0: return start_as<few_q4_0>(&j, p, done, e);
    case FJ_MXFP4: return start_as<few_mxfp4>(&j, p, done, e);
    case FJ_Q4_K: return start_as<few_q4_k>(&j, p, done, e);
    case FJ_Q6_K: return start_as<few_q6_k>(&j, p, done, e);
    case FJ_NF4: return start_as<few_nf4>(&j, p, done, e);
    default: return true;
    }
}

bool fj_gpu_few(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                const fj_grows *y, float scale, const fj_grows *old, const fj_gpair *more,
                bool *done, fj_err *e) {
    few_plan p = {};
    *done = false;
    if ((old || more) && count != 1) return true;
    p.scale = scale;
    if (old) p.old = *old;
    if (more) {
        if (more->k > INT32_MAX / 4) return true;
        p.x2 = (const bf16 *)more->a, p.w2 = (const bf16 *)more->b, p.k2 = (int)more->k;
        p.ldx2 = more->lda, p.ldw2 = more->ldb, p.by = more->by;
        p.pairs2 = more->k % 2 == 0 && more->lda % 2 == 0 && more->ldb % 2 == 0 &&
                   !(((uintptr_t)p.x2 | (uintptr_t)p.w2) % 4);
    }
    return start_any(g, m, x, count, w, y, &p, done, e);
}

bool fj_gpu_few_swiglu(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *gate,
                       const fj_gmat *up, fj_grows y, bool *done, fj_err *e) {
    few_plan p = {};
    *done = false;
    if (g->f32 || y.dtype != FJ_BF16 || gate->n != up->n) return true;
    p.scale = 1;
    p.swiglu = true;
    fj_gmat both[2] = { *gate, *up };
    fj_grows ys[2] = { y, y };
    return start_any(g, m, x, 2, both, ys, &p, done, e);
}
