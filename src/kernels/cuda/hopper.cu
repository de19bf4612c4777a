/* hopper.cu - products of BF16 matrices on sm_90a (fj_gpu_hopper of gemm.cuh).
 *
 * A block is one warpgroup that copies and one or two that compute, 64 rows of the tile each; blocks
 * stay and take tile after tile.  Boxes of A and B, 64 deep, come through a ring of stages; a barrier
 * `full` says that a stage's bytes are there, `empty` that all who compute have read it.  The results of
 * 64 rows and 128 bytes of columns (a chunk) leave through one of some slots in shared memory, so that
 * the next tile is multiplied meanwhile; the old values come into the slot before.  Stages of a second
 * pair of operands follow those of the first; with nt the first's sums are rounded then, and others begin.
 *
 * Two blocks one below the other may be a cluster: each copies half of B to both.
 *
 * Every output is one chain over the inner dimension (of a piece, where it is cut into pieces) in steps of
 * 16, whatever the tile, the stages and the cluster are; these are chosen for time (hopper_plan.cuh).
 * Tiles lower than 64 rows are multiplied as 64: what lies behind them in shared memory makes rows that
 * are not written. */
#include "kernels/cuda/gemm.cuh"

#include "kernels/cuda/hopper_plan.cuh"

#ifdef FJ_PLAY
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/play_sm90.h"
#define FJ_SM90A
#else
#include "kernels/cuda/hopper.cuh"
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FJ_SM90A
#endif
#endif

enum {
    GROUP = 128,    /* threads of a warpgroup */
    REGS_COPY = 40, /* of each thread; 40 + 2 * 232 = 3 * 168, with which a block begins */
    REGS_COMPUTE = 232,
};
static_assert((int)SLOT == (int)BOX, "");

/* What a kernel reads and writes: 2 is the second pair, or once more the first. */
typedef struct maps {
    CUtensorMap a, b, a2, b2, c, old;
} maps;

#ifdef FJ_SM90A
/* Where things are in shared memory. */
typedef struct layout {
    uint32_t stage, slot, full, empty, slot_full, slot_empty; /* the first of each */
    uint32_t stage_bytes, b;                                  /* b: where B begins in a stage */
} layout;

__device__ __forceinline__ layout layout_of(const plan &p, uint32_t base) {
    layout l;
    l.stage = (base + 1023) & ~1023u;
    l.b = (uint32_t)p.a_rows * 128;
    l.stage_bytes = (uint32_t)(p.a_rows + p.bn) * 128;
    l.slot = l.stage + (uint32_t)p.stages * l.stage_bytes;
    l.full = l.slot + (uint32_t)(p.groups * p.slots) * BOX;
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

/* A block's part of its cluster's tile: the piece of the inner dimension, the first row and column. */
typedef struct part {
    int piece, steps, row, col;
} part;
__device__ __forceinline__ int tiles_of(const plan &p) { return p.pieces * p.down * p.across; }
__device__ __forceinline__ part part_of(const plan &p, int t, uint32_t rank) {
    part r;
    int all = p.down * p.across, high = p.together / p.cluster;
    r.piece = t / all, t %= all;
    int band = t / (high * p.across), in = t % (high * p.across);
    int h = FJ_MIN(p.down - band * high, high);
    r.steps = r.piece + 1 < p.pieces ? p.steps : p.last;
    r.row = ((band * high + in % h) * p.cluster + (int)rank) * p.rows;
    r.col = in / h * p.bn;
    return r;
}

/* One thread copies all that is multiplied.  A block of two copies half of B to both: half of its columns,
 * or of the inner dimension when the columns are an odd number of boxes. */
template <fj_gemm_kind KIND>
__device__ __forceinline__ void copy_stages(const maps &all, const plan &p, const layout &l,
                                            uint32_t rank) {
    uint16_t both = 3;
    bool halves = p.b_deep < DEEP;
    int mine = halves ? p.bn : p.bn / p.cluster; /* columns of B that this block copies */
    int skip = halves ? 0 : (int)rank * mine, k_skip = halves ? (int)rank * p.b_deep : 0;
    ring r = { 0, 0 };
    for (int t = (int)blockIdx.x / p.cluster; t < tiles_of(p); t += p.clusters) {
        part at = part_of(p, t, rank);
        for (int s = 0; s < at.steps; s++, next(&r, p.stages)) {
            uint32_t full = l.full + 8 * r.i, to_a = l.stage + r.i * l.stage_bytes;
            uint32_t to_b = to_a + l.b + (skip + k_skip) * 128;
            const CUtensorMap *a = s < p.whole ? &all.a : &all.a2;
            const CUtensorMap *b = s < p.whole ? &all.b : &all.b2;
            int k = (s < p.whole ? at.piece * p.steps + s : s - p.whole) * DEEP;
            int col = at.col + skip;
            bar_wait(l.empty + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
            bar_expect(full, l.stage_bytes);
            if (KIND == FJ_TN) {
                for (int i = 0; i < p.a_rows; i += 64)
                    box_load(to_a + i * 128, a, full, at.row + i, k);
            } else {
                box_load(to_a, a, full, k, at.row);
            }
            if (KIND == FJ_NT && p.cluster == 1) {
                box_load(to_b, b, full, k, col);
            } else if (KIND == FJ_NT) {
                box_load_all(to_b, b, full, k, col, both);
            } else if (p.cluster == 1) {
                for (int i = 0; i < mine; i += 64) box_load(to_b + i * 128, b, full, col + i, k);
            } else {
                for (int i = 0; i < mine; i += 64)
                    box_load_all(to_b + i * 128, b, full, col + i, k + k_skip, both);
            }
        }
    }
}

/* One thread brings the old values of computing warpgroup w, in its order of chunks. */
template <int BN, typename T>
__device__ __forceinline__ void copy_old(const CUtensorMap *old, const plan &p, const layout &l,
                                         uint32_t rank, int w) {
    constexpr int COLS = chunk_cols(BN, sizeof(T));
    ring r = { 0, 0 };
    for (int t = (int)blockIdx.x / p.cluster; t < tiles_of(p); t += p.clusters) {
        part at = part_of(p, t, rank);
        int row = at.row + 64 * w;
        if (row >= p.m) continue;
        for (int x = 0; x < BN && at.col + x < p.n; x += COLS, next(&r, p.slots)) {
            int i = w * p.slots + r.i;
            bar_wait(l.slot_empty + 8 * i, r.parity ^ 1, WAIT_SLOT_EMPTY, i);
            bar_expect(l.slot_full + 8 * i, (uint32_t)(p.high * COLS) * (uint32_t)sizeof(T));
            box_load(l.slot + i * BOX, old, l.slot_full + 8 * i, at.col + x, row);
        }
    }
}

/* Where chunk c (of 16 bytes) of a row of PITCH bytes lies in a slot. */
template <int PITCH> __device__ __forceinline__ uint32_t in_slot(int row, int c) {
    uint32_t at = (uint32_t)(row * PITCH + (c << 4));
    return at ^ (at >> 3 & (uint32_t)(PITCH - 16));
}

/* A chunk into its slot: the warp's 16 rows, sums d of eight columns after eight; old: the slot holds what
 * they are added to. */
template <int COLS>
__device__ __forceinline__ void chunk_out(bf16 *, const float *d, uint32_t slot, float scale,
                                          bool old) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x % GROUP / 32 * 16 + lane % 16;
    UNROLL
    for (int j = 0; j < COLS / 16; j++, d += 8) {
        uint32_t to = slot + in_slot<COLS * 2>(row, 2 * j + lane / 16), r[4];
        if (old) {
            loadmatrix_x4(r, to);
            UNROLL
            for (int i = 0; i < 4; i++)
                r[i] = pack_bf16(__fmaf_rn(scale, d[2 * i], low_f32(r[i])),
                                 __fmaf_rn(scale, d[2 * i + 1], high_f32(r[i])));
        } else {
            UNROLL
            for (int i = 0; i < 4; i++) r[i] = pack_bf16(scale * d[2 * i], scale * d[2 * i + 1]);
        }
        stmatrix_x4(to, r);
    }
}
template <int COLS>
__device__ __forceinline__ void chunk_out(float *, const float *d, uint32_t slot, float scale,
                                          bool old) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x % GROUP / 32 * 16 + lane / 4;
    UNROLL
    for (int j = 0; j < COLS / 8; j++, d += 4) {
        uint32_t to = slot + in_slot<COLS * 4>(row, 2 * j + lane % 4 / 2) + lane % 2 * 8;
        UNROLL
        for (int h = 0; h < 2; h++, to += 8 * COLS * 4) { /* rows + 8: the same in the pattern */
            float u = scale * d[2 * h], v = scale * d[2 * h + 1], o[2];
            if (old) {
                shared_load2(o, to);
                u = __fmaf_rn(scale, d[2 * h], o[0]), v = __fmaf_rn(scale, d[2 * h + 1], o[1]);
            }
            shared_store2(to, u, v);
        }
    }
}

/* The results of the first pair, and by times the sums of the second. */
template <int COLS>
__device__ __forceinline__ void chunk_out_two(const uint32_t *was, const float *d, uint32_t slot,
                                              float by) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x % GROUP / 32 * 16 + lane % 16;
    UNROLL
    for (int j = 0; j < COLS / 16; j++, d += 8, was += 4) {
        uint32_t r[4];
        UNROLL
        for (int i = 0; i < 4; i++)
            r[i] = pack_bf16(__fmaf_rn(by, d[2 * i], low_f32(was[i])),
                             __fmaf_rn(by, d[2 * i + 1], high_f32(was[i])));
        stmatrix_x4(slot + in_slot<COLS * 2>(row, 2 * j + lane / 16), r);
    }
}

/* Computing warpgroup w. */
template <fj_gemm_kind KIND, int BN, typename T>
__device__ __forceinline__ void compute(const CUtensorMap *c, const plan &p, const layout &l,
                                        uint32_t rank, int w) {
    const bool overA = KIND == FJ_TN, overB = KIND != FJ_NT;
    constexpr int COLS = chunk_cols(BN, sizeof(T));
    int thread = (int)threadIdx.x % GROUP;
    bool first = thread == 0;
    /* With nt the second pair has sums of its own, and the results of the first wait beside. */
    constexpr bool APART = KIND == FJ_NT && sizeof(T) == 2;
    float d[BN / 2];
    uint32_t first_sums[APART ? BN / 4 : 1];
    ring r = { 0, 0 }, slot = { 0, 0 };
    int last_slot = -1;
    for (int t = (int)blockIdx.x / p.cluster; t < tiles_of(p); t += p.clusters) {
        part to = part_of(p, t, rank);
        uint32_t last_empty = 0;
        /* goes_on: a stage before these has not been released. */
        auto multiply = [&](int steps, bool goes_on) {
            for (int s = 0; s < steps; s++) {
                uint32_t at = l.stage + r.i * l.stage_bytes;
                uint64_t da = describe(at + w * BOX, overA), db = describe(at + l.b, overB);
                bar_wait(l.full + 8 * r.i, r.parity, WAIT_FULL, r.i);
                products_begin();
                UNROLL
                for (int i = 0; i < DEEP / 16; i++)
                    product<overA, overB>(d, da + i * (overA ? K16_OVER : K16_ALONG),
                                          db + i * (overB ? K16_OVER : K16_ALONG), i || s);
                products_commit();
                products_wait<1>(); /* the products of the stage before are done */
                if ((s || goes_on) && thread < p.cluster)
                    bar_arrive_at(last_empty, (uint32_t)thread);
                last_empty = l.empty + 8 * r.i;
                next(&r, p.stages);
            }
            products_wait<0>();
        };
        bool two = APART && p.whole < p.steps;
        multiply(two ? p.whole : to.steps, false);
        if (two) {
            UNROLL
            for (int i = 0; i < BN / 4; i++)
                first_sums[i] = pack_bf16(p.scale * d[2 * i], p.scale * d[2 * i + 1]);
            multiply(to.steps - p.whole, true);
        }
        if (thread < p.cluster) bar_arrive_at(last_empty, (uint32_t)thread);

        int row = to.row + 64 * w;
        if (row >= p.m) continue;
        row += to.piece * p.apart;
        UNROLL
        for (int x = 0; x < BN; x += COLS) {
            if (to.col + x >= p.n) break;
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
            if (two) chunk_out_two<COLS>(first_sums + x / 4, d + x / 2, at, p.by);
            else chunk_out<COLS>((T *)NULL, d + x / 2, at, p.scale, p.acc);
            fence_async();
            threads_sync(1 + w, GROUP);
            if (first) {
                box_store(c, at, to.col + x, row);
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
#ifdef FJ_SM90A
    FJ_DYN_SHARED(shared);
    layout l = layout_of(p, shared_address(shared));
    int group = (int)threadIdx.x / GROUP, warp = (int)threadIdx.x / 32;
    uint32_t rank = p.cluster > 1 ? cluster_rank() : 0;
    if (threadIdx.x == 0) {
        map_prefetch(&all.a), map_prefetch(&all.b), map_prefetch(&all.c);
        if (p.acc) map_prefetch(&all.old);
        if (p.whole < p.steps) map_prefetch(&all.a2), map_prefetch(&all.b2);
        for (int i = 0; i < p.stages; i++) {
            bar_init(l.full + 8 * i, 1);
            bar_init(l.empty + 8 * i, (uint32_t)(p.groups * p.cluster));
        }
        for (int i = 0; i < p.groups * p.slots; i++)
            bar_init(l.slot_full + 8 * i, 1), bar_init(l.slot_empty + 8 * i, 1);
        bar_init_done();
    }
    __syncthreads();
    if (p.cluster > 1) cluster_sync();
    if (group == 0) {
        registers_down<REGS_COPY>();
        if (threadIdx.x % 32 == 0) {
            if (warp == 0) copy_stages<KIND>(all, p, l, rank);
            else if (warp <= p.groups && p.acc) copy_old<BN, T>(&all.old, p, l, rank, warp - 1);
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
#ifdef FJ_PLAY
static bool encoder(void) { return true; }
static bool map_of(CUtensorMap *map, bool f32, const void *data, int64_t rows, int64_t cols,
                   int64_t ld, int high, int wide, fj_err *e) {
    int size = f32 ? 4 : 2;
    if (ld * size % 16 || (uintptr_t)data % 16 || high > 256)
        return fj_fail(e, FJ_EIO, "no tensor map");
    *map = CUtensorMap{
        (const unsigned char *)data, { cols, rows }, ld * size, { wide, high }, size, true
    };
    return true;
}
#else
/* rows x cols values, ld apart, in boxes of high x wide; wide: 32, 64 or 128 bytes. */
static bool map_of(CUtensorMap *map, bool f32, const void *data, int64_t rows, int64_t cols,
                   int64_t ld, int high, int wide, fj_err *e) {
    int size = f32 ? 4 : 2;
    cuuint64_t dims[2] = { (cuuint64_t)cols, (cuuint64_t)rows };
    cuuint64_t strides[1] = { (cuuint64_t)(ld * size) };
    cuuint32_t box[2] = { (cuuint32_t)wide, (cuuint32_t)high }, one[2] = { 1, 1 };
    CUresult r =
        encoder()(map, f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                  (void *)data, dims, strides, box, one, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  wide * size == 128 ? CU_TENSOR_MAP_SWIZZLE_128B
                  : wide * size == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                      : CU_TENSOR_MAP_SWIZZLE_32B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ||
           fj_fail(e, FJ_EIO, "no tensor map of %lld x %lld, %lld apart: CUDA driver error %d",
                   (long long)rows, (long long)cols, (long long)ld, (int)r);
}

#endif

template <fj_gemm_kind KIND, int BN, typename T>
static bool launch(const fj_gpu *g, const plan *p, const maps *all, bool *done, fj_err *e) {
    auto kernel = hopper_kernel<KIND, BN, T>;
    unsigned grid = (unsigned)(p->clusters * p->cluster),
             block = (unsigned)(GROUP * (1 + p->groups));
    size_t shared = shared_of(p);
#ifdef FJ_PLAY
    maps maps_of_it = *all;
    plan of_it = *p;
    (void)g;
    play_launch(
        grid, block, shared, [&]() { kernel(maps_of_it, of_it); }, p->cluster);
#else
    static int built; /* 1: for sm_90a, -1: not, so it is empty; whoever asks finds the same */
    int b = __atomic_load_n(&built, __ATOMIC_RELAXED);
    if (!b) {
        cudaFuncAttributes what;
        b = cudaFuncGetAttributes(&what, kernel) || what.numRegs < 100 ? -1 : 1;
        (void)cudaGetLastError();
        __atomic_store_n(&built, b, __ATOMIC_RELAXED);
    }
    if (b < 0) return true;
    FJ_ALLOW_SHARED(kernel, shared);
    cudaLaunchConfig_t how = {};
    cudaLaunchAttribute cluster = {};
    how.gridDim = dim3(grid);
    how.blockDim = dim3(block);
    how.dynamicSmemBytes = shared;
    how.stream = g->stream;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = (unsigned)p->cluster;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    how.attrs = &cluster;
    how.numAttrs = p->cluster > 1;
    (void)cudaLaunchKernelEx(&how, kernel, *all, *p);
#endif
    *done = true;
    return launched("a product", e);
}

template <typename T>
static bool launch_as(const fj_gpu *g, fj_gemm_kind kind, const plan *p, const maps *all,
                      bool *done, fj_err *e) {
#define CASE(KIND, BN)                                                                             \
    if (kind == KIND && p->bn == BN) return launch<KIND, BN, T>(g, p, all, done, e)
    CASE(FJ_NT, 256);
    CASE(FJ_NT, 224);
    CASE(FJ_NT, 192);
    CASE(FJ_NT, 160);
    CASE(FJ_NT, 128);
    CASE(FJ_NT, 96);
    CASE(FJ_NT, 64);
    CASE(FJ_NT, 32);
    CASE(FJ_NT, 16);
    CASE(FJ_NN, 256);
    CASE(FJ_NN, 192);
    CASE(FJ_NN, 128);
    CASE(FJ_NN, 64);
    CASE(FJ_TN, 256);
    CASE(FJ_TN, 192);
    CASE(FJ_TN, 128);
    CASE(FJ_TN, 64);
#undef CASE
    return true;
}

static bool maps_of_pair(CUtensorMap *a, CUtensorMap *b, fj_gemm_kind kind, const plan *p,
                         const fj_gpair *x, fj_err *e) {
    return (kind == FJ_TN ? map_of(a, false, x->a, x->k, p->m, x->lda, DEEP, 64, e)
                          : map_of(a, false, x->a, p->m, x->k, x->lda, p->rows, DEEP, e)) &&
           (kind == FJ_NT ? map_of(b, false, x->b, p->n, x->k, x->ldb, p->bn / p->cluster, DEEP, e)
                          : map_of(b, false, x->b, x->k, p->n, x->ldb, p->b_deep, 64, e));
}

static bool run_plan(const fj_gpu *g, fj_gemm_kind kind, const plan *p, const fj_gpair *x,
                     const fj_gpair *more, fj_grows c, const fj_grows *old, bool *done, fj_err *e) {
    maps all;
    bool wide = c.dtype == FJ_F32;
    int cols = chunk_cols(p->bn, wide ? 4 : 2);
    int64_t rows = (int64_t)(p->pieces - 1) * p->apart + p->m;
    if (!encoder()) return true;
    if (!old) old = &c;
    if (!maps_of_pair(&all.a, &all.b, kind, p, x, e) ||
        !maps_of_pair(&all.a2, &all.b2, kind, p, more ? more : x, e) ||
        !map_of(&all.c, wide, c.data, rows, p->n, c.ld, p->high, cols, e) ||
        !map_of(&all.old, wide, old->data, rows, p->n, old->ld, p->high, cols, e))
        return false;
    return wide ? launch_as<float>(g, kind, p, &all, done, e)
                : launch_as<bf16>(g, kind, p, &all, done, e);
}

static bool aligned16(const void *p, int64_t ld, int size) {
    return !((uintptr_t)p % 16) && !(ld * size % 16);
}

/* Whether it is for these sizes on this GPU.  Rows of C end at a multiple of 16 bytes: copies to them write
 * up to the next one. */
static bool can(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const fj_gpair *x,
                const fj_grows *c) {
    const int64_t most = INT32_MAX - 1024;
    const int size = c->dtype == FJ_F32 ? 4 : 2;
    return g->compute == 90 && (c->dtype == FJ_F32 || c->dtype == FJ_BF16) && m > 0 && n > 0 &&
           k > 0 && m <= most && n <= most && k <= most && up(m, 16) * (int64_t)up(n, 16) <= most &&
           aligned16(x->a, x->lda, 2) && aligned16(x->b, x->ldb, 2) &&
           aligned16(c->data, c->ld, size) && n * size % 16 == 0;
}

bool fj_gpu_hopper(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                   const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                   const fj_grows *old, const fj_gpair *more, bool *done, fj_err *e) {
    fj_gpair x = { a, lda, b, ldb, k, 1 };
    *done = false;
    if (more && !more->k) more = NULL;
    int64_t k2 = more ? more->k : 0;
    if (!can(g, m, n, k + k2, &x, &c) || !k) return true;
    if (old && !can(g, m, n, k, &x, old)) return true;
    if (more && !can(g, m, n, k, more, &c)) return true;
    if (more && kind == FJ_NT && (old || c.dtype != FJ_BF16)) return true; /* nobody asks for it */
    plan p = plan_of(m, n, k, k2, scale, old);
    p.by = more ? more->by : 0;
    plan_choose(&p, kind, c.dtype == FJ_F32, g->sms);
    return run_plan(g, kind, &p, &x, more, c, old, done, e);
}

bool fj_gpu_hopper_pieces(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const void *a,
                          int64_t lda, const void *b, int64_t ldb, int64_t piece, float *parts,
                          bool *done, fj_err *e) {
    fj_gpair x = { a, lda, b, ldb, k, 1 };
    fj_grows c = { FJ_F32, parts, n };
    int64_t pieces = (k + piece - 1) / piece, apart = fj_gpu_hopper_apart(m);
    *done = false;
    if (piece % DEEP || !can(g, pieces * apart, n, k, &x, &c)) return true;
    plan p = plan_of(m, n, piece, 0, 1, false);
    p.pieces = (int)pieces, p.apart = (int)apart, p.last = up(k - (pieces - 1) * piece, DEEP);
    plan_choose(&p, FJ_TN, true, g->sms);
    return run_plan(g, FJ_TN, &p, &x, NULL, c, NULL, done, e);
}
int64_t fj_gpu_hopper_apart(int64_t m) { return m <= 16 ? 16 : m <= 32 ? 32 : (m + 63) / 64 * 64; }
