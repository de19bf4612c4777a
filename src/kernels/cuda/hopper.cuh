/* hopper.cuh - what hopper.cu uses of sm_90a: barriers in shared memory that count bytes, copies of boxes
 * by tensor maps, matrix products of a warpgroup out of shared memory, registers given from warpgroup to
 * warpgroup.  Shared memory is named by its 32-bit address.
 *
 * A box in shared memory is rows of 128 bytes, swizzled: the 16 bytes c of row r are at chunk c ^ (r % 8);
 * it begins at a multiple of 1024 bytes, so its rows go through the pattern from its beginning. */
#ifndef FJ_KERNELS_CUDA_HOPPER_CUH
#define FJ_KERNELS_CUDA_HOPPER_CUH

#include "kernels/cuda/mma.cuh"

#include <cuda.h>

/* ---- barriers: a phase ends when `count` arrivals and all bytes expected are there ------------------- */
__device__ __forceinline__ void bar_init(uint32_t bar, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
/* Barriers just made are seen by the other block of the cluster and by copies. */
__device__ __forceinline__ void bar_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async;" ::: "memory");
}
/* One arrival, and so many bytes that copies will bring in this phase. */
__device__ __forceinline__ void bar_expect(uint32_t bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void bar_arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* At the same barrier of a block of the cluster (itself too). */
__device__ __forceinline__ void bar_arrive_at(uint32_t bar, uint32_t block) {
    asm volatile("{\n\t.reg .b32 there;\n\t"
                 "mapa.shared::cluster.u32 there, %0, %1;\n\t"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t}" ::"r"(bar),
                 "r"(block)
                 : "memory");
}
__device__ __forceinline__ bool bar_try(uint32_t bar, uint32_t parity) {
    uint32_t ok;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(ok)
                 : "r"(bar), "r"(parity)
                 : "memory");
    return ok;
}
/* Who waits for what, for a kernel that does not end. */
enum { WAIT_FULL = 1, WAIT_EMPTY, WAIT_SLOT_FULL, WAIT_SLOT_EMPTY };
#ifdef FJ_HOPPER_DEBUG
/* Of each warp of a block of at most 12: 1 << 31 | what << 24 | which << 16 | parity << 8; the host's
 * memory, so that it can be read after the kernel was stopped. */
__device__ uint32_t *fj_hopper_log;
#endif
/* Waits until the phase of this parity has ended.  With FJ_HOPPER_DEBUG, 2 s at most: then it says what it
 * waits for, leaves the others a second for the same, and stops the kernel. */
__device__ __forceinline__ void bar_wait(uint32_t bar, uint32_t parity, int what, int which) {
#ifdef FJ_HOPPER_DEBUG
    uint64_t begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    while (!bar_try(bar, parity)) {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        if (now - begin < 2000000000u) continue;
        if (fj_hopper_log)
            *(volatile uint32_t *)(fj_hopper_log + blockIdx.x * 12 + threadIdx.x / WARP) =
                1u << 31 | (uint32_t)what << 24 | (uint32_t)which << 16 | parity << 8;
        asm volatile("fence.acq_rel.sys;" ::: "memory");
        while (now - begin < 3000000000u) asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        asm volatile("trap;");
    }
#else
    (void)what, (void)which;
    while (!bar_try(bar, parity)) {}
#endif
}

/* Barrier `id` of so many threads of the block. */
__device__ __forceinline__ void threads_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive;\n\tbarrier.cluster.wait;" ::: "memory");
}

/* ---- copies of boxes: x counts within rows, y rows; beyond the tensor's ends zeros, or nothing -------- */
__device__ __forceinline__ void map_prefetch(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
__device__ __forceinline__ void box_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int x,
                                         int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y)
                 : "memory");
}
/* To the same place of the blocks in mask, each told at its own barrier. */
__device__ __forceinline__ void box_load_all(uint32_t to, const CUtensorMap *map, uint32_t bar,
                                             int x, int y, uint16_t mask) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y), "h"(mask)
                 : "memory");
}
__device__ __forceinline__ void box_store(const CUtensorMap *map, uint32_t from, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
        "r"(from), "r"(x), "r"(y)
        : "memory");
}
/* A thread's stores since its last commit are one group. */
__device__ __forceinline__ void stores_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/* Until at most N groups of this thread still have to be read from shared memory. */
template <int N> __device__ __forceinline__ void stores_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ void stores_done() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/* What this thread wrote to shared memory is seen by copies and products that are started later. */
__device__ __forceinline__ void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* As ldmatrix_x4, the other way. */
__device__ __forceinline__ void stmatrix_x4(uint32_t row, const uint32_t *r) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
__device__ __forceinline__ void loadmatrix_x4(uint32_t *r, uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
__device__ __forceinline__ void shared_store2(uint32_t to, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
}
__device__ __forceinline__ void shared_load2(float *v, uint32_t from) {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(v[0]), "=f"(v[1])
                 : "r"(from)
                 : "memory");
}

/* ---- warpgroups -------------------------------------------------------------------------------------- */
template <int N> __device__ __forceinline__ void registers_up() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void registers_down() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* Describes 16 of the inner dimension (k) of boxes at addr for a product: swizzle 128 bytes, 1024 bytes
 * from eight rows to the next eight.  k along the rows (K-major): a row is one of m or n, boxes of any
 * rows; k16 begins 32 bytes further.  k over the rows (MN-major): a row is 64 of m or n of one k, a box
 * has 64 rows, the next 64 of m or n are in the next box, 8192 bytes on; k16 begins 16 rows further. */
enum { BOX = 64 * 128, K16_ALONG = 32 >> 4, K16_OVER = 16 * 128 >> 4 };
__device__ __forceinline__ uint64_t describe(uint32_t addr, bool over) {
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)(over ? BOX >> 4 : 1) << 16 |
           ((addr & 0x3ffff) >> 4);
}

/* D[64, N] = (keep ? D : 0) + A[64, 16] B[16, N], N = 2 * size of d; overA, overB: as in describe.  Thread
 * t of the warpgroup has of row 16 (t / 32) + t % 32 / 4 (+ 8) columns 8 j + 2 (t % 4) and the next:
 * d[4 j], d[4 j + 1] (d[4 j + 2], d[4 j + 3]). */
#define FJ_D8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define FJ_D16 FJ_D8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define FJ_D32 FJ_D16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define FJ_D48 FJ_D32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define FJ_D64 FJ_D48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define FJ_D80 FJ_D64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define FJ_D96 FJ_D80 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define FJ_D112                                                                                    \
    FJ_D96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define FJ_D128                                                                                    \
    FJ_D112 ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define FJ_R8(i)                                                                                   \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define FJ_R16(i) FJ_R8(i), FJ_R8(i + 8)
#define FJ_R32(i) FJ_R16(i), FJ_R16(i + 16)
#define FJ_R48(i) FJ_R32(i), FJ_R16(i + 32)
#define FJ_R64(i) FJ_R32(i), FJ_R32(i + 32)
#define FJ_R80(i) FJ_R64(i), FJ_R16(i + 64)
#define FJ_R96(i) FJ_R64(i), FJ_R32(i + 64)
#define FJ_R112(i) FJ_R96(i), FJ_R16(i + 96)
#define FJ_R128(i) FJ_R64(i), FJ_R64(i + 64)
/* n: N; regs: N / 2; a, b, keep, ta, tb: the numbers of these operands, after those of d */
#define FJ_PRODUCT(n, regs, a, b, keep, ta, tb)                                                    \
    template <bool overA, bool overB>                                                              \
    __device__ __forceinline__ void product(float(&d)[regs], uint64_t A, uint64_t B, int keep_d) { \
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" #keep ", 0;\n\t"                     \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FJ_D##regs       \
                     "}, %" #a ", %" #b ", p, 1, 1, %" #ta ", %" #tb ";\n\t}"                      \
                     : FJ_R##regs(0)                                                               \
                     : "l"(A), "l"(B), "r"(keep_d), "n"((int)overA), "n"((int)overB));             \
    }
FJ_PRODUCT(16, 8, 8, 9, 10, 11, 12)
FJ_PRODUCT(32, 16, 16, 17, 18, 19, 20)
FJ_PRODUCT(64, 32, 32, 33, 34, 35, 36)
FJ_PRODUCT(96, 48, 48, 49, 50, 51, 52)
FJ_PRODUCT(128, 64, 64, 65, 66, 67, 68)
FJ_PRODUCT(160, 80, 80, 81, 82, 83, 84)
FJ_PRODUCT(192, 96, 96, 97, 98, 99, 100)
FJ_PRODUCT(224, 112, 112, 113, 114, 115, 116)
FJ_PRODUCT(256, 128, 128, 129, 130, 131, 132)

/* ---- host: what makes tensor maps, from the driver; NULL: it has none ------------------------------ */
typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
static inline encode_fn encoder(void) {
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

#endif
