/* few.cuh - what few.cu uses of sm_90 besides hopper.cuh. */
#ifndef FJ_KERNELS_CUDA_FEW_CUH
#define FJ_KERNELS_CUDA_FEW_CUH

#ifdef FJ_PLAY
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/play_sm90.h"
#define FJ_SM90

static inline void bars_are_made() {}
static inline void cache_ahead(const void *p) { (void)*(const volatile char *)p; }
static inline void matrices_x4(uint32_t *r, uint32_t row) { ldmatrix_x4(r, play_shared() + row); }
#else
#include "kernels/cuda/hopper.cuh"
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FJ_SM90
#endif

/* As bar_init_done, for this thread's own copies, and for all when the cluster or block has met. */
__device__ __forceinline__ void bars_are_made() {
    asm volatile(
        "fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}

/* The 32 bytes at p are brought to the cache that multiprocessors share. */
__device__ __forceinline__ void cache_ahead(const void *p) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* As ldmatrix_x4 (mma.cuh); it keeps its place among barriers and products only. */
__device__ __forceinline__ void matrices_x4(uint32_t *r, uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
}
#endif

#endif
