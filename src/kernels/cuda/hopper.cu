/* hopper.cu - products of BF16 matrices on sm_90a (fj_gpu_hopper of gemm.cuh).
 *
 * A block is one warpgroup that copies and one or two that compute, 64 rows of the tile each; blocks
 * stay and take tile after tile.  Boxes of A and B, 64 deep, come through a ring of stages; a barrier
 * `full` says that a stage's bytes are there, `empty` that all who compute have read it.  The results of
 * 64 rows and 128 bytes of columns (a chunk) leave through one of some slots in shared memory, so that
 * the next tile is multiplied meanwhile; the old values come into the slot before.  Stages of a second
 * pair of operands follow those of the first.
 *
 * Two blocks one below the other may be a cluster: each copies half of B to both.
 *
 * Every output is one chain over the inner dimension in steps of 16, whatever the tile, the stages and the
 * cluster are; these are chosen for time alone. */
#include "kernels/cuda/gemm.cuh"

#ifdef FJ_PLAY
bool fj_gpu_hopper(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                   const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                   const fj_grows *old, const fj_gpair *more, bool *done, fj_err *e) {
    (void)g, (void)kind, (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb;
    (void)c, (void)scale, (void)old, (void)more, (void)e;
    *done = false;
    return true;
}
#else

#include "kernels/cuda/hopper.cuh"

enum {
    GROUP = 128,    /* threads of a warpgroup */
    DEEP = 64,      /* of the inner dimension in a stage */
    REGS_COPY = 40, /* of each thread; 40 + 2 * 232 = 3 * 168, with which a block begins */
    REGS_COMPUTE = 232,
    SHARED = 227 << 10, /* that a block may have */
    BARRIERS = 1024,    /* bytes, */
    STAGES = 12,        /* for at most so many stages */
    SLOTS = 8,          /* and slots of each computing warpgroup */
};

typedef struct plan {
    int bn, rows, cluster; /* columns of a tile, rows (64 for each computing warpgroup), blocks */
    int stages, slots;
    int together; /* tiles that are walked down before the next column */
    int m, n;
    int steps, whole; /* of DEEP; whole: of them of the first pair */
    int down, across; /* tiles of all the blocks of a cluster */
    int clusters;     /* that are started */
    float scale;
    int acc; /* there are old values */
} plan;

/* What a kernel reads and writes: 2 is the second pair, or once more the first. */
typedef struct maps {
    CUtensorMap a, b, a2, b2, c, old;
} maps;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* Where things are in shared memory. */
typedef struct layout {
    uint32_t stage, slot, full, empty, slot_full, slot_empty; /* the first of each */
    uint32_t stage_bytes, b;                                  /* b: where B begins in a stage */
} layout;

__device__ __forceinline__ layout layout_of(const plan &p, uint32_t base) {
    layout l;
    l.stage = (base + 1023) & ~1023u;
    l.b = (uint32_t)p.rows * 128;
    l.stage_bytes = (uint32_t)(p.rows + p.bn) * 128;
    l.slot = l.stage + (uint32_t)p.stages * l.stage_bytes;
    l.full = l.slot + (uint32_t)(p.rows / 64 * p.slots) * BOX;
    l.empty = l.full + STAGES * 8;
    l.slot_full = l.empty + STAGES * 8;
    l.slot_empty = l.slot_full + 2 * SLOTS * 8;
    return l;
}

/* The place in a ring, and the parity of the phase that ends when it is filled this time. */
typedef struct ring {
    int i;
    uint32_t parity;
} ring;
__device__ __forceinline__ void next(ring *r, int n) {
    if (++r->i == n) r->i = 0, r->parity ^= 1;
}

/* The first row and column of a block's tile of a cluster's tile t. */
__device__ __forceinline__ void place(const plan &p, int t, uint32_t rank, int *row, int *col) {
    int high = p.together / p.cluster, band = t / (high * p.across), in = t % (high * p.across);
    int h = min(p.down - band * high, high);
    *row = ((band * high + in % h) * p.cluster + (int)rank) * p.rows;
    *col = in / h * p.bn;
}

/* One thread copies all that is multiplied. */
template <fj_gemm_kind KIND>
__device__ __forceinline__ void copy_stages(const maps &all, const plan &p, const layout &l,
                                            uint32_t rank) {
    int mine = p.bn / p.cluster; /* columns of B that this block copies */
    uint16_t both = 3;
    ring r = { 0, 0 };
    for (int t = (int)blockIdx.x / p.cluster; t < p.down * p.across; t += p.clusters) {
        int row, col;
        place(p, t, rank, &row, &col);
        col += (int)rank * mine;
        for (int s = 0; s < p.steps; s++, next(&r, p.stages)) {
            uint32_t full = l.full + 8 * r.i, to_a = l.stage + r.i * l.stage_bytes;
            uint32_t to_b = to_a + l.b + rank * mine * 128;
            const CUtensorMap *a = s < p.whole ? &all.a : &all.a2;
            const CUtensorMap *b = s < p.whole ? &all.b : &all.b2;
            int k = (s < p.whole ? s : s - p.whole) * DEEP;
            bar_wait(l.empty + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
            bar_expect(full, l.stage_bytes);
            if (KIND == FJ_TN) {
                for (int i = 0; i < p.rows; i += 64) box_load(to_a + i * 128, a, full, row + i, k);
            } else {
                box_load(to_a, a, full, k, row);
            }
            if (KIND == FJ_NT && p.cluster == 1) {
                box_load(to_b, b, full, k, col);
            } else if (KIND == FJ_NT) {
                box_load_all(to_b, b, full, k, col, both);
            } else if (p.cluster == 1) {
                for (int i = 0; i < mine; i += 64) box_load(to_b + i * 128, b, full, col + i, k);
            } else {
                for (int i = 0; i < mine; i += 64)
                    box_load_all(to_b + i * 128, b, full, col + i, k, both);
            }
        }
    }
}

/* One thread brings the old values of computing warpgroup w, in its order of chunks. */
template <int BN, typename T>
__device__ __forceinline__ void copy_old(const CUtensorMap *old, const plan &p, const layout &l,
                                         uint32_t rank, int w) {
    const int WIDE = 128 / (int)sizeof(T);
    ring r = { 0, 0 };
    for (int t = (int)blockIdx.x / p.cluster; t < p.down * p.across; t += p.clusters) {
        int row, col;
        place(p, t, rank, &row, &col);
        row += 64 * w;
        if (row >= p.m) continue;
        for (int x = 0; x < BN && col + x < p.n; x += WIDE, next(&r, p.slots)) {
            int i = w * p.slots + r.i;
            bar_wait(l.slot_empty + 8 * i, r.parity ^ 1, WAIT_SLOT_EMPTY, i);
            bar_expect(l.slot_full + 8 * i, BOX);
            box_load(l.slot + i * BOX, old, l.slot_full + 8 * i, col + x, row);
        }
    }
}

/* A chunk into its slot: the warp's 16 rows, sums d of eight columns after eight; old: the slot holds what
 * they are added to. */
template <int COLS>
__device__ __forceinline__ void chunk_out(bf16 *, const float *d, uint32_t slot, float scale,
                                          bool old) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x % GROUP / 32 * 16 + lane % 16;
    uint32_t at = slot + row * 128;
#pragma unroll
    for (int j = 0; j < COLS / 16; j++, d += 8) {
        uint32_t to = at + (((2 * j + lane / 16) ^ (row & 7)) << 4), r[4];
        if (old) {
            loadmatrix_x4(r, to);
#pragma unroll
            for (int i = 0; i < 4; i++)
                r[i] = pack_bf16(__fmaf_rn(scale, d[2 * i], low_f32(r[i])),
                                 __fmaf_rn(scale, d[2 * i + 1], high_f32(r[i])));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = pack_bf16(scale * d[2 * i], scale * d[2 * i + 1]);
        }
        stmatrix_x4(to, r);
    }
}
template <int COLS>
__device__ __forceinline__ void chunk_out(float *, const float *d, uint32_t slot, float scale,
                                          bool old) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x % GROUP / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < COLS / 8; j++, d += 4) {
        uint32_t to = slot + row * 128 + (((2 * j + lane % 4 / 2) ^ (row & 7)) << 4) + lane % 2 * 8;
#pragma unroll
        for (int h = 0; h < 2; h++, to += 8 * 128) { /* rows + 8: the same place in the pattern */
            float u = scale * d[2 * h], v = scale * d[2 * h + 1], o[2];
            if (old) {
                shared_load2(o, to);
                u = __fmaf_rn(scale, d[2 * h], o[0]), v = __fmaf_rn(scale, d[2 * h + 1], o[1]);
            }
            shared_store2(to, u, v);
        }
    }
}

/* Computing warpgroup w. */
template <fj_gemm_kind KIND, int BN, typename T>
__device__ __forceinline__ void compute(const CUtensorMap *c, const plan &p, const layout &l,
                                        uint32_t rank, int w) {
    const bool overA = KIND == FJ_TN, overB = KIND != FJ_NT;
    const int WIDE = 128 / (int)sizeof(T), COLS = BN < WIDE ? BN : WIDE; /* columns of a chunk */
    int thread = (int)threadIdx.x % GROUP;
    bool first = thread == 0;
    float d[BN / 2];
    ring r = { 0, 0 }, slot = { 0, 0 };
    int last_slot = -1;
    for (int t = (int)blockIdx.x / p.cluster; t < p.down * p.across; t += p.clusters) {
        uint32_t last_empty = 0;
        for (int s = 0; s < p.steps; s++) {
            uint32_t at = l.stage + r.i * l.stage_bytes;
            uint64_t da = describe(at + w * BOX, overA), db = describe(at + l.b, overB);
            bar_wait(l.full + 8 * r.i, r.parity, WAIT_FULL, r.i);
            products_begin();
#pragma unroll
            for (int i = 0; i < DEEP / 16; i++)
                product<overA, overB>(d, da + i * (overA ? K16_OVER : K16_ALONG),
                                      db + i * (overB ? K16_OVER : K16_ALONG), i || s);
            products_commit();
            products_wait<1>(); /* the products of the stage before are done */
            if (s && thread < p.cluster) bar_arrive_at(last_empty, (uint32_t)thread);
            last_empty = l.empty + 8 * r.i;
            next(&r, p.stages);
        }
        products_wait<0>();
        if (thread < p.cluster) bar_arrive_at(last_empty, (uint32_t)thread);

        int row, col;
        place(p, t, rank, &row, &col);
        row += 64 * w;
        if (row >= p.m) continue;
#pragma unroll
        for (int x = 0; x < BN; x += COLS) {
            if (col + x >= p.n) break;
            int i = w * p.slots + slot.i;
            uint32_t at = l.slot + i * BOX;
            if (p.acc) {
                bar_wait(l.slot_full + 8 * i, slot.parity, WAIT_SLOT_FULL, i);
            } else {
                if (first) { /* the store that was here before has been read */
                    if (p.slots == 2) stores_read<1>();
                    else if (p.slots == 4) stores_read<3>();
                    else stores_read<SLOTS - 1>();
                }
                threads_sync(1 + w, GROUP);
            }
            chunk_out<COLS>((T *)NULL, d + x / 2, at, p.scale, p.acc);
            fence_async();
            threads_sync(1 + w, GROUP);
            if (first) {
                box_store(c, at, col + x, row);
                stores_commit();
                if (p.acc) {
                    stores_read<1>();
                    if (last_slot >= 0) bar_arrive(l.slot_empty + 8 * last_slot);
                    last_slot = i;
                }
            }
            next(&slot, p.slots);
        }
    }
    if (first) stores_done();
}
#endif

template <fj_gemm_kind KIND, int BN, typename T>
static __global__ void __launch_bounds__(3 * GROUP, 1)
    hopper_kernel(const __grid_constant__ maps all, const __grid_constant__ plan p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    FJ_DYN_SHARED(shared);
    layout l = layout_of(p, shared_address(shared));
    int group = (int)threadIdx.x / GROUP, warp = (int)threadIdx.x / 32, computing = p.rows / 64;
    uint32_t rank = p.cluster > 1 ? cluster_rank() : 0;
    if (threadIdx.x == 0) {
        map_prefetch(&all.a), map_prefetch(&all.b), map_prefetch(&all.c);
        if (p.acc) map_prefetch(&all.old);
        if (p.whole < p.steps) map_prefetch(&all.a2), map_prefetch(&all.b2);
        for (int i = 0; i < p.stages; i++) {
            bar_init(l.full + 8 * i, 1);
            bar_init(l.empty + 8 * i, (uint32_t)(computing * p.cluster));
        }
        for (int i = 0; i < computing * p.slots; i++)
            bar_init(l.slot_full + 8 * i, 1), bar_init(l.slot_empty + 8 * i, 1);
        bar_init_done();
    }
    __syncthreads();
    if (p.cluster > 1) cluster_sync();
    if (group == 0) {
        registers_down<REGS_COPY>();
        if (threadIdx.x % 32 == 0) {
            if (warp == 0) copy_stages<KIND>(all, p, l, rank);
            else if (warp <= computing && p.acc) copy_old<BN, T>(&all.old, p, l, rank, warp - 1);
        }
        __syncwarp();
    } else {
        registers_up<REGS_COMPUTE>();
        compute<KIND, BN, T>(&all.c, p, l, rank, group - 1);
    }
    if (p.cluster > 1) cluster_sync(); /* the other one still tells barriers of this block */
#else
    (void)all, (void)p;
#endif
}

/* ---- host ---------------------------------------------------------------------------------------- */
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

/* rows x cols values, ld apart, in boxes of high x wide (128 bytes). */
static bool map_of(CUtensorMap *map, bool f32, const void *data, int64_t rows, int64_t cols,
                   int64_t ld, int high, fj_err *e) {
    cuuint64_t dims[2] = { (cuuint64_t)cols, (cuuint64_t)rows };
    cuuint64_t strides[1] = { (cuuint64_t)ld * (f32 ? 4 : 2) };
    cuuint32_t box[2] = { f32 ? 32u : 64u, (cuuint32_t)high }, one[2] = { 1, 1 };
    CUresult r =
        encoder()(map, f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                  (void *)data, dims, strides, box, one, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ||
           fj_fail(e, FJ_EIO, "no tensor map of %lld x %lld, %lld apart: CUDA driver error %d",
                   (long long)rows, (long long)cols, (long long)ld, (int)r);
}

static int up(int64_t a, int64_t b) { return (int)((a + b - 1) / b); }

static size_t shared_of(const plan *p) {
    return 1024 + BARRIERS + (size_t)p->rows / 64 * p->slots * BOX +
           (size_t)p->stages * (p->rows + p->bn) * 128;
}

/* Fills in the rest after bn, rows, cluster, m, n, steps, whole and acc; wide: C is of F32. */
static void plan_rest(plan *p, bool wide, int sms) {
    int chunks = up(p->bn * (wide ? 4 : 2), 128);
    /* few steps: what counts is how much of C is on its way */
    if (p->acc) p->slots = p->steps <= 4 ? 8 : chunks < 3 ? 2 : 4;
    else p->slots = p->steps <= 8 && chunks > 2 ? 4 : 2;
    p->stages = 0;
    p->stages = (int)((SHARED - shared_of(p)) / ((p->rows + p->bn) * 128));
    if (p->stages > STAGES) p->stages = STAGES;
    p->together = 16;
    p->down = up(p->m, p->rows * p->cluster);
    p->across = up(p->n, p->bn);
    int64_t tiles = (int64_t)p->down * p->across;
    p->clusters = (int)FJ_MIN(tiles, sms / p->cluster);
}

/* Cycles that all tiles take, about: of each step those of the products or of its copies, and those of the
 * results. */
static double plan_cost(const plan *p, bool wide) {
    double step = p->rows * p->bn / 32.0;
    double copy = (p->rows + p->bn / p->cluster) * 128 / 40.0;
    double out = p->rows * p->bn * (wide ? 4 : 2) * (p->acc ? 2 : 1) / 24.0;
    double each = p->steps * (step > copy ? step : copy), waves;
    each = each > out ? each + out / 4 : out + each / 4;
    waves = ceil((double)p->down * p->across / p->clusters);
    return waves * each + 2000;
}

static void plan_choose(plan *best, fj_gemm_kind kind, bool wide, int sms) {
    static const int widths[] = { 256, 128, 64, 32, 16 };
    double cost = INFINITY;
    plan p = *best;
    for (size_t i = 0; i < FJ_LEN(widths); i++) {
        if (widths[i] < (kind == FJ_NT ? 16 : kind == FJ_NN ? 64 : 128)) break;
        if (widths[i] < 64 && p.n > widths[i]) break; /* a chunk is wider than the tile */
        for (p.rows = 128; p.rows >= 64; p.rows -= 64)
            for (p.cluster = p.rows == 128 && widths[i] >= 128 && p.m > 128 ? 2 : 1; p.cluster;
                 p.cluster--) {
                p.bn = widths[i];
                plan_rest(&p, wide, sms);
                double c = plan_cost(&p, wide);
                if (c < cost) cost = c, *best = p;
            }
    }
}

template <fj_gemm_kind KIND, int BN, typename T>
static bool launch(const fj_gpu *g, const plan *p, const maps *all, bool *done, fj_err *e) {
    auto kernel = hopper_kernel<KIND, BN, T>;
    static int built; /* 1: for sm_90a, -1: not, so it is empty; whoever asks finds the same */
    int b = __atomic_load_n(&built, __ATOMIC_RELAXED);
    if (!b) {
        cudaFuncAttributes what;
        b = cudaFuncGetAttributes(&what, kernel) || what.numRegs < 100 ? -1 : 1;
        (void)cudaGetLastError();
        __atomic_store_n(&built, b, __ATOMIC_RELAXED);
    }
    if (b < 0) return true;
    size_t shared = shared_of(p);
    FJ_ALLOW_SHARED(kernel, shared);
    cudaLaunchConfig_t how = {};
    cudaLaunchAttribute cluster = {};
    how.gridDim = dim3((unsigned)(p->clusters * p->cluster));
    how.blockDim = dim3((unsigned)(GROUP + p->rows * 2));
    how.dynamicSmemBytes = shared;
    how.stream = g->stream;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = (unsigned)p->cluster;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    how.attrs = &cluster;
    how.numAttrs = p->cluster > 1;
    *done = true;
    (void)cudaLaunchKernelEx(&how, kernel, *all, *p);
    return launched("a product", e);
}

template <typename T>
static bool launch_as(const fj_gpu *g, fj_gemm_kind kind, const plan *p, const maps *all,
                      bool *done, fj_err *e) {
#define CASE(KIND, BN)                                                                             \
    if (kind == KIND && p->bn == BN) return launch<KIND, BN, T>(g, p, all, done, e)
    CASE(FJ_NT, 256);
    CASE(FJ_NT, 128);
    CASE(FJ_NT, 64);
    CASE(FJ_NT, 32);
    CASE(FJ_NT, 16);
    CASE(FJ_NN, 256);
    CASE(FJ_NN, 128);
    CASE(FJ_NN, 64);
    CASE(FJ_TN, 256);
    CASE(FJ_TN, 128);
#undef CASE
    return true;
}

static bool maps_of_pair(CUtensorMap *a, CUtensorMap *b, fj_gemm_kind kind, const plan *p,
                         const fj_gpair *x, fj_err *e) {
    return (kind == FJ_TN ? map_of(a, false, x->a, x->k, p->m, x->lda, DEEP, e)
                          : map_of(a, false, x->a, p->m, x->k, x->lda, p->rows, e)) &&
           (kind == FJ_NT ? map_of(b, false, x->b, p->n, x->k, x->ldb, p->bn / p->cluster, e)
                          : map_of(b, false, x->b, x->k, p->n, x->ldb, DEEP, e));
}

static bool run_plan(const fj_gpu *g, fj_gemm_kind kind, const plan *p, const fj_gpair *x,
                     const fj_gpair *more, fj_grows c, const fj_grows *old, bool *done, fj_err *e) {
    maps all;
    bool wide = c.dtype == FJ_F32;
    if (!encoder()) return true;
    if (!maps_of_pair(&all.a, &all.b, kind, p, x, e) ||
        !maps_of_pair(&all.a2, &all.b2, kind, p, more ? more : x, e) ||
        !map_of(&all.c, wide, c.data, p->m, p->n, c.ld, 64, e) ||
        !map_of(&all.old, wide, old ? old->data : c.data, p->m, p->n, old ? old->ld : c.ld, 64, e))
        return false;
    return wide ? launch_as<float>(g, kind, p, &all, done, e)
                : launch_as<bf16>(g, kind, p, &all, done, e);
}

static bool aligned16(const void *p, int64_t ld, int size) {
    return !((uintptr_t)p % 16) && !(ld * size % 16);
}

bool fj_gpu_hopper(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                   const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                   const fj_grows *old, const fj_gpair *more, bool *done, fj_err *e) {
    const int64_t most = INT32_MAX - 1024;
    const int size = c.dtype == FJ_F32 ? 4 : 2;
    *done = false;
    if (g->compute != 90 || (c.dtype != FJ_F32 && c.dtype != FJ_BF16)) return true;
    if (more && !more->k) more = NULL;
    if (m < 1 || n < 1 || k < 1 || m > most || n > most) return true;
    if (k + (more ? more->k : 0) > most) return true;
    if (!aligned16(a, lda, 2) || !aligned16(b, ldb, 2) || !aligned16(c.data, c.ld, size))
        return true;
    if (old && !aligned16(old->data, old->ld, size)) return true;
    if (more && (!aligned16(more->a, more->lda, 2) || !aligned16(more->b, more->ldb, 2)))
        return true;
    if (up(m, 128) * (int64_t)up(n, 128) > most) return true;
    /* gradients of narrow weights: too few tiles, each with all the rows to go through */
    if (kind == FJ_TN && k >= 2048 && up(m, 128) * (int64_t)up(n, 128) <= 32) return true;
    plan p = {};
    fj_gpair x = { a, lda, b, ldb, k };
    p.m = (int)m, p.n = (int)n, p.scale = scale, p.acc = old != NULL;
    p.whole = up(k, DEEP), p.steps = p.whole + (more ? up(more->k, DEEP) : 0);
    plan_choose(&p, kind, c.dtype == FJ_F32, g->sms);
    return run_plan(g, kind, &p, &x, more, c, old, done, e);
}
#endif
