/* few.cuh - what few.cu uses of sm_90a besides hopper.cuh: products of a warpgroup with 8 columns, and with A
 * in registers. */
#ifndef FJ_KERNELS_CUDA_FEW_CUH
#define FJ_KERNELS_CUDA_FEW_CUH

#ifdef FJ_PLAY
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/play_sm90.h"
#define FJ_SM90A
#else
#include "kernels/cuda/hopper.cuh"
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FJ_SM90A
#endif

/* As bar_init_done, for this thread's own copies, and for all when the cluster or block has met. */
__device__ __forceinline__ void bars_are_made() {
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::
                     : "memory");
}

#define FJ_D4 "%0,%1,%2,%3"
#define FJ_R4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])

/* As product of hopper.cuh, both along k; A, B: the lower halves of what describe says. */
#define FJ_PRODUCT_AT(n, regs, a, b, keep)                                                         \
    __device__ __forceinline__ void product_at(float(&d)[regs], uint32_t A, uint32_t B,            \
                                               int keep_d) {                                       \
        asm volatile("{\n\t.reg .pred p;\n\t.reg .b64 a, b;\n\tsetp.ne.b32 p, %" #keep ", 0;\n\t"  \
                     "mov.b64 a, {%" #a ", 0x40000040};\n\tmov.b64 b, {%" #b ", 0x40000040};\n\t"  \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FJ_D##regs       \
                     "}, a, b, p, 1, 1, 0, 0;\n\t}"                                                \
                     : FJ_R##regs(0)                                                               \
                     : "r"(A), "r"(B), "r"(keep_d));                                               \
    }
FJ_PRODUCT_AT(8, 4, 4, 5, 6)
FJ_PRODUCT_AT(16, 8, 8, 9, 10)
FJ_PRODUCT_AT(32, 16, 16, 17, 18)
FJ_PRODUCT_AT(64, 32, 32, 33, 34)

/* A in registers, as a of mma_bf16: the 16 rows of each warp of its own; B as above. */
#define FJ_PRODUCT_REGS(n, regs, a0, a1, a2, a3, b, keep)                                          \
    __device__ __forceinline__ void product_regs(float(&d)[regs], const uint32_t *a, uint32_t B,   \
                                                 int keep_d) {                                     \
        asm volatile("{\n\t.reg .pred p;\n\t.reg .b64 b;\n\tsetp.ne.b32 p, %" #keep ", 0;\n\t"     \
                     "mov.b64 b, {%" #b ", 0x40000040};\n\t"                                       \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FJ_D##regs       \
                     "}, {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, b, p, 1, 1, 0;\n\t}"               \
                     : FJ_R##regs(0)                                                               \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(B), "r"(keep_d));           \
    }
FJ_PRODUCT_REGS(8, 4, 4, 5, 6, 7, 8, 9)
FJ_PRODUCT_REGS(16, 8, 8, 9, 10, 11, 12, 13)
FJ_PRODUCT_REGS(32, 16, 16, 17, 18, 19, 20, 21)
FJ_PRODUCT_REGS(64, 32, 32, 33, 34, 35, 36, 37)

/* Zero, which the compiler does not know (blocks are flat): it keeps it where it is used. */
__device__ __forceinline__ uint32_t kept_zero() {
    uint32_t z;
    asm volatile("mov.u32 %0, %%tid.z;" : "=r"(z));
    return z;
}
#endif

#ifdef FJ_PLAY
static inline uint32_t kept_zero() { return 0; }
static inline void bars_are_made() {}
#endif

#endif
