/* gpu.cuh - what every CUDA kernel here is written with.
 *
 * Kernels are compiled by nvcc, and by a C++ compiler with FJ_PLAY, where kernels/cuda/play.h plays blocks,
 * threads, shared memory, shuffles, barriers and the warp's matrix product on the CPU: so that the
 * tests run their code where no GPU is.  What follows therefore stands for what may be used:
 *   FJ_LAUNCH instead of <<< >>>, FJ_DYN_SHARED instead of extern __shared__, and for tensor cores and
 *   asynchronous copies only the wrappers of mma.cuh.
 * Names in this file have no prefix: it is included by .cu files alone, which export launchers only.
 *
 * Sums: the order of additions of an output depends on the inner dimension alone (never on rows, grid or
 * time), no atomics. */
#ifndef FJ_KERNELS_CUDA_GPU_CUH
#define FJ_KERNELS_CUDA_GPU_CUH

#ifdef FJ_PLAY
#include "kernels/cuda/play.h"
#define UNROLL
#define ROLLED
#else
#include <cuda_runtime.h>
/* A loop in full, or as it stands; with bounds that the compiler knows. */
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define FJ_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define FJ_DYN_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

extern "C" {
#include "base/dtype.h"
#include "base/mem.h"
}

#include <math.h>

/* A device as launchers see it; made by device/cuda.cu. */
typedef struct fj_gpu {
    cudaStream_t stream;
    int sms, compute; /* multiprocessors; 90: compute capability 9.0 */
    bool f32;         /* every product in f32 */
    struct fj_lt *lt; /* cuBLASLt (lt.h), NULL: not there */
    void *work;       /* for lt: its workspace */
    size_t work_bytes;
} fj_gpu;

/* False with the reason when the last launch was not possible. */
static inline bool launched(const char *what, fj_err *e) {
    cudaError_t c = cudaGetLastError();
    return c == cudaSuccess ||
           fj_fail(e, c == cudaErrorMemoryAllocation ? FJ_ENOMEM : FJ_EIO,
                   "%s does not start on the GPU: %s", what, cudaGetErrorString(c));
}

/* Lets kernel use that much dynamic shared memory (more than 48 KiB has to be asked for). */
#ifdef FJ_PLAY
#define FJ_ALLOW_SHARED(kernel, bytes) ((void)0)
#else
#define FJ_ALLOW_SHARED(kernel, bytes)                                                             \
    ((void)((bytes) > 48 << 10 &&                                                                  \
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,              \
                                 (int)(bytes))))
#endif

/* ---- kernels that begin before the kernel in front of them has ended (sm_90) ------------------------- */
/* FJ_LAUNCH_EARLY starts a kernel as soon as all blocks of the kernel in front have called early_release
 * (or ended) and there is room.  Such a kernel must call early_wait, with every thread that touches
 * what another kernel writes (results it overwrites too) before it does, and with at least one thread of
 * every block in any case: when early_wait returns, the kernel in front has ended, and as that one waited
 * too, so have all before it.  What no kernel of the stream writes (weights) may be read before.
 * early_release may be called by any kernel at any time: kernels behind it that are launched otherwise
 * wait for its end as ever.  early_begin: both, for kernels that have nothing to do before.
 * FJ_LAUNCH_EARLY_CLUSTERS: with so many neighbouring blocks in a cluster (sm_90 alone if more than one). */
__device__ __forceinline__ void early_release() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void early_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void early_begin() {
    early_release();
    early_wait();
}

#ifdef FJ_PLAY
#define FJ_LAUNCH_EARLY FJ_LAUNCH
#else
/* Whether the GPU in use can: 1 yes, -1 no; whoever asks finds the same. */
static inline bool launches_early(void) {
    static int can;
    int c = __atomic_load_n(&can, __ATOMIC_RELAXED);
    if (!c) {
        int device = 0, major = 0;
        c = !cudaGetDevice(&device) &&
                    !cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) &&
                    major >= 9
                ? 1
                : -1;
        __atomic_store_n(&can, c, __ATOMIC_RELAXED);
    }
    return c > 0;
}
template <typename... P, typename... A>
static inline void launch_early(void (*kernel)(P...), unsigned cluster, dim3 grid, dim3 block,
                                size_t shared, cudaStream_t stream, A... args) {
    cudaLaunchConfig_t how = {};
    cudaLaunchAttribute what[2] = {};
    int n = 0;
    how.gridDim = grid;
    how.blockDim = block;
    how.dynamicSmemBytes = shared;
    how.stream = stream;
    if (launches_early()) {
        what[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        what[n++].val.programmaticStreamSerializationAllowed = 1;
        /* Blocks of two kernels are on a multiprocessor together only where its memory is divided in
         * the same way for both. */
        (void)cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared);
    }
    if (cluster > 1) {
        what[n].id = cudaLaunchAttributeClusterDimension;
        what[n].val.clusterDim.x = cluster;
        what[n].val.clusterDim.y = 1;
        what[n++].val.clusterDim.z = 1;
    }
    how.attrs = what;
    how.numAttrs = (unsigned)n;
    (void)cudaLaunchKernelEx(&how, kernel, (P)args...);
}
#define FJ_LAUNCH_EARLY_CLUSTERS(kernel, cluster, grid, block, shared, stream, ...)                \
    launch_early((kernel), (cluster), (grid), (block), (shared), (stream), __VA_ARGS__)
#define FJ_LAUNCH_EARLY(kernel, ...) FJ_LAUNCH_EARLY_CLUSTERS(kernel, 1, __VA_ARGS__)
#endif

/* ---- numbers ------------------------------------------------------------------------------------- */
typedef struct bf16 {
    uint16_t u;
} bf16;

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(bf16 x) {
    union {
        uint32_t u;
        float f;
    } v;
    v.u = (uint32_t)x.u << 16;
    return v.f;
}
/* To the nearest, ties to even; NaN stays NaN. */
__device__ __forceinline__ bf16 to_bf16(float f) {
    union {
        float f;
        uint32_t u;
    } v;
    v.f = f;
    bf16 r;
    if ((v.u & 0x7fffffffu) > 0x7f800000u) r.u = (uint16_t)((v.u >> 16) | 0x40);
    else r.u = (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1)) >> 16);
    return r;
}
template <typename T> __device__ __forceinline__ T from_f32(float f);
template <> __device__ __forceinline__ float from_f32<float>(float f) { return f; }
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float f) { return to_bf16(f); }

/* Two bf16 in a register, a in the low half. */
__device__ __forceinline__ uint32_t pack_bf16(float a, float b) {
#if defined(__CUDA_ARCH__)
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
#else
    return (uint32_t)to_bf16(a).u | (uint32_t)to_bf16(b).u << 16;
#endif
}
__device__ __forceinline__ float low_f32(uint32_t two) {
    union {
        uint32_t u;
        float f;
    } v;
    v.u = two << 16;
    return v.f;
}
__device__ __forceinline__ float high_f32(uint32_t two) {
    union {
        uint32_t u;
        float f;
    } v;
    v.u = two & 0xffff0000u;
    return v.f;
}

/* Eight neighbours at once; p is aligned to 16 bytes (32 for float is not needed). */
__device__ __forceinline__ void load8(const float *p, float *v) {
    float4 a = *(const float4 *)p, b = *(const float4 *)(p + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ __forceinline__ void load8(const bf16 *p, float *v) {
    uint4 a = *(const uint4 *)p;
    v[0] = low_f32(a.x), v[1] = high_f32(a.x), v[2] = low_f32(a.y), v[3] = high_f32(a.y);
    v[4] = low_f32(a.z), v[5] = high_f32(a.z), v[6] = low_f32(a.w), v[7] = high_f32(a.w);
}
__device__ __forceinline__ void store8(float *p, const float *v) {
    *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
    *(float4 *)(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store8(bf16 *p, const float *v) {
    *(uint4 *)p = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                             pack_bf16(v[6], v[7]));
}

/* ---- sums over a warp and a block: the same for every thread, in a fixed order -------------------- */
enum { WARP = 32 };
#define FULL_WARP 0xffffffffu

template <typename T> __device__ __forceinline__ T warp_sum(T v) {
    for (int m = WARP / 2; m; m /= 2) v += __shfl_xor_sync(FULL_WARP, v, m);
    return v;
}
template <typename T> __device__ __forceinline__ T warp_max(T v) {
    for (int m = WARP / 2; m; m /= 2) {
        T o = __shfl_xor_sync(FULL_WARP, v, m);
        v = o > v ? o : v;
    }
    return v;
}
/* buf: shared, one T for each warp of the block.  Every thread of the block calls it. */
template <typename T> __device__ __forceinline__ T block_sum(T v, T *buf) {
    int warp = (int)threadIdx.x / WARP, warps = ((int)blockDim.x + WARP - 1) / WARP;
    v = warp_sum(v);
    __syncthreads(); /* who still reads what the last sum left */
    if (threadIdx.x % WARP == 0) buf[warp] = v;
    __syncthreads();
    T s = buf[0];
    for (int i = 1; i < warps; i++) s += buf[i];
    return s;
}
template <typename T> __device__ __forceinline__ T block_max(T v, T *buf) {
    int warp = (int)threadIdx.x / WARP, warps = ((int)blockDim.x + WARP - 1) / WARP;
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % WARP == 0) buf[warp] = v;
    __syncthreads();
    T s = buf[0];
    for (int i = 1; i < warps; i++) s = buf[i] > s ? buf[i] : s;
    return s;
}

/* ---- grids --------------------------------------------------------------------------------------- */
/* Blocks for n things, `each` to a block, at most `most`: kernels walk on by the grid's size. */
static inline unsigned grid_of(int64_t n, int64_t each, int64_t most) {
    int64_t b = (n + each - 1) / each;
    return (unsigned)(b < 1 ? 1 : b > most ? most : b);
}

#endif
