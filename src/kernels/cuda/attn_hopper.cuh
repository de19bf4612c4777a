/* attn_hopper.cuh - what the kernels of attention on sm_90a share (hopper.cuh is below it). */
#ifndef FJ_KERNELS_CUDA_ATTN_HOPPER_CUH
#define FJ_KERNELS_CUDA_ATTN_HOPPER_CUH

#include "kernels/cuda/attn_mma.cuh"
#include "kernels/cuda/hopper.cuh"

enum { GROUP = 128, KT = ATTN_KT, NT = KT / 8 }; /* threads of a warpgroup; keys of a tile */
enum { REGS_COPY = 24, REGS_COMPUTE = 240 }; /* 24 + 2 * 240 = 3 * 168, with which a block begins */
enum { BARRIERS = 1024 };                    /* bytes of shared memory before the stages */

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* D[64, N] = (keep ? D : 0) + A[64, 16] B[16, N] with A in registers, in the fragments of mma_bf16 for the
 * 16 rows of each warp; overB: as in describe. */
#define PRODUCT_OF(n, regs, a0, a1, a2, a3, b, keep, tb)                                           \
    template <bool overB>                                                                          \
    __device__ __forceinline__ void product_of(float(&d)[regs], const uint32_t *A, uint64_t B,     \
                                               int keep_d) {                                       \
        asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %" #keep ", 0;\n\t"                     \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FJ_D##regs       \
                     "}, {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #b ", p, 1, 1, %" #tb ";\n\t}"  \
                     : FJ_R##regs(0)                                                               \
                     : "r"(A[0]), "r"(A[1]), "r"(A[2]), "r"(A[3]), "l"(B), "r"(keep_d),            \
                       "n"((int)overB));                                                           \
    }
PRODUCT_OF(64, 32, 32, 33, 34, 35, 36, 37, 38)
PRODUCT_OF(128, 64, 64, 65, 66, 67, 68, 69, 70)

/* The compiler moves no use of these across: products read and write them unseen. */
template <int N> __device__ __forceinline__ void hold(float (&d)[N]) {
    UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int N> __device__ __forceinline__ void hold(uint32_t (&d)[N][4]) {
    UNROLL for (int i = 0; i < N; i++)
        UNROLL for (int j = 0; j < 4; j++) asm volatile("" : "+r"(d[i][j])::"memory");
}

/* These live until here. */
template <int N> __device__ __forceinline__ void used(const uint32_t (&d)[N][4]) {
    UNROLL for (int i = 0; i < N; i++)
        UNROLL for (int j = 0; j < 4; j++) asm volatile("" ::"r"(d[i][j]) : "memory");
}

typedef struct ring {
    int i;
    uint32_t parity;
} ring;
static __device__ __forceinline__ void next(ring *r, int stages) {
    if (++r->i == stages) r->i = 0, r->parity ^= 1;
}

/* A box of heads from `head` of some rows from `row`: values 64 part.. of each. */
static __device__ __forceinline__ void box_heads(uint32_t to, const CUtensorMap *map, uint32_t bar,
                                                 int part, int head, int row) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
                 "l"(map), "r"(bar), "r"(64 * part), "r"(head), "r"(row)
                 : "memory");
}
#endif

/* ---- host ----------------------------------------------------------------------------------------- */
/* Heads of hd BF16 values, `heads` of them to a row, in boxes of 64 values of `high` rows, `wide` heads. */
static inline bool map_heads(CUtensorMap *map, const void *data, int64_t rows, int heads, int hd,
                             int high, int wide, fj_err *e) {
    cuuint64_t dims[3] = { (cuuint64_t)hd, (cuuint64_t)heads, (cuuint64_t)rows };
    cuuint64_t strides[2] = { (cuuint64_t)hd * 2, (cuuint64_t)heads * (cuuint64_t)hd * 2 };
    cuuint32_t box[3] = { 64, (cuuint32_t)wide, (cuuint32_t)high }, one[3] = { 1, 1, 1 };
    CUresult r = encoder()(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)data, dims, strides,
                           box, one, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ||
           fj_fail(e, FJ_EIO, "no tensor map of %lld rows of %d heads of %d: CUDA driver error %d",
                   (long long)rows, heads, hd, (int)r);
}
static inline bool map_keys(CUtensorMap *map, const void *data, const fj_gpu_attn *a, fj_err *e) {
    return map_heads(map, data, a->slots, a->kv_heads, a->hd, FJ_ATTN_BLOCK, 1, e);
}
/* False: the kernel was not built for sm_90a, it is empty. */
template <typename K> static inline bool is_there(K kernel) {
    cudaFuncAttributes what;
    if (!cudaFuncGetAttributes(&what, kernel)) return what.numRegs >= 100;
    (void)cudaGetLastError();
    return false;
}

#endif
