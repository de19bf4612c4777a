/* play.h - a GPU played on the CPU, for kernels written with kernels/cuda/gpu.cuh.
 *
 * Threads of a block are fibers of one thread of the system: each runs until it meets a barrier, a
 * shuffle or a matrix product of its warp, or ends.  Blocks run one after another, so a kernel that waits
 * for another block would hang.  A barrier that not all threads reach is told with an abort.
 * Streams are in order because everything is done at once. */
#ifndef FJ_TESTS_PLAY_H
#define FJ_TESTS_PLAY_H

#include <functional>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __restrict__
#define __shared__ static
#define __constant__ static
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct play_index {
    unsigned x, y, z;
};
extern play_index threadIdx, blockIdx, blockDim, gridDim;

#define FJ_PLAY_VEC(T, t)                                                                          \
    struct alignas(8) T##2 {                                                                       \
        t x, y;                                                                                    \
    };                                                                                             \
    struct alignas(16) T##4 {                                                                      \
        t x, y, z, w;                                                                              \
    };                                                                                             \
    static inline T##2 make_##T##2(t x, t y) { return T##2 { x, y }; }                             \
    static inline T##4 make_##T##4(t x, t y, t z, t w) { return T##4 { x, y, z, w }; }
FJ_PLAY_VEC(float, float)
FJ_PLAY_VEC(int, int)
FJ_PLAY_VEC(uint, unsigned)

/* ---- threads ------------------------------------------------------------------------------------- */
void play_launch(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel,
                 int cluster = 1);
unsigned char *play_shared();
unsigned char *play_shared_of(int block); /* of the cluster */
int play_block();
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
/* Every lane gives n bytes and gets those of all lanes of its warp, [32][n], valid until its next
 * exchange but one. */
const unsigned char *play_exchange(const void *mine, size_t n);
int play_lane();
/* For who waits in a loop: the others go on.  Too often without progress is told with an abort. */
void play_yield();
void play_progress();
[[noreturn]] void play_stuck(const char *what);
void play_threads_sync(int id, int threads); /* id: 0..31 */
void play_cluster_sync();

#define FJ_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    FJ_LAUNCH_EARLY_CLUSTERS(kernel, 1, grid, block, shared, stream, __VA_ARGS__)
#define FJ_LAUNCH_EARLY_CLUSTERS(kernel, cluster, grid, block, shared, stream, ...)                \
    play_launch((grid), (block), (shared),                                                         \
                [&]() {                                                                            \
                    (void)(stream);                                                                \
                    kernel(__VA_ARGS__);                                                           \
                },                                                                                 \
                (int)(cluster))
#define FJ_DYN_SHARED(name) unsigned char *name = play_shared()

template <typename T> static inline T play_from(T v, int lane) {
    const unsigned char *all = play_exchange(&v, sizeof v);
    memcpy(&v, all + (size_t)lane * sizeof v, sizeof v);
    return v;
}
template <typename T> static inline T __shfl_sync(unsigned, T v, int lane, int width = 32) {
    return play_from(v, play_lane() / width * width + lane % width);
}
template <typename T> static inline T __shfl_xor_sync(unsigned, T v, int m, int = 32) {
    return play_from(v, play_lane() ^ m);
}
template <typename T> static inline T __shfl_down_sync(unsigned, T v, int d, int width = 32) {
    int l = play_lane();
    return play_from(v, l % width + d < width ? l + d : l);
}
template <typename T> static inline T __shfl_up_sync(unsigned, T v, int d, int width = 32) {
    int l = play_lane();
    return play_from(v, l % width >= d ? l - d : l);
}
static inline unsigned __ballot_sync(unsigned, int p) {
    unsigned r = 0;
    const unsigned char *all = play_exchange(&p, sizeof p);
    for (int i = 0; i < 32; i++) {
        int v;
        memcpy(&v, all + i * (int)sizeof v, sizeof v);
        r |= (unsigned)(v != 0) << i;
    }
    return r;
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(unsigned v) { return __builtin_ffs((int)v); }
template <typename T> static inline T __ldg(const T *p) { return *p; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
#define __expf expf
#define __logf logf
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}

/* ---- tensor cores and copies (kernels/cuda/mma.cuh) ------------------------------------------------ */
void mma_bf16(float *d, const uint32_t *a, const uint32_t *b);
void ldmatrix_x4(uint32_t *r, const void *row);
void ldmatrix_x2(uint32_t *r, const void *row);
void ldmatrix_x4_trans(uint32_t *r, const void *row);
void ldmatrix_x2_trans(uint32_t *r, const void *row);
static inline void copy16_async(void *shared, const void *global, bool take) {
    if (take) memcpy(shared, global, 16);
    else memset(shared, 0, 16);
}
static inline void copies_commit() {}
template <int N> static inline void copies_wait() {}

/* ---- the runtime's functions that the device uses --------------------------------------------------- */
typedef int cudaError_t;
typedef void *cudaStream_t;
enum { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorInvalidValue = 1 };
enum { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaStreamNonBlocking = 1 };
struct cudaDeviceProp {
    char name[64];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
cudaError_t cudaMalloc(void **p, size_t n);
cudaError_t cudaFree(void *p);
static inline cudaError_t cudaMallocHost(void **p, size_t n) { return cudaMalloc(p, n); }
static inline cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
static inline cudaError_t cudaGetLastError() { return cudaSuccess; }
static inline const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "out of memory" : e ? "an error" : "no error";
}
static inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
static inline cudaError_t cudaGetDeviceCount(int *n) {
    *n = 1;
    return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    *p = cudaDeviceProp{ "played on the CPU", 8, 0, 4, (size_t)4 << 30 };
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, int) {
    *s = NULL;
    return cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, int, cudaStream_t) {
    memcpy(d, s, n);
    return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t) {
    memset(d, v, n);
    return cudaSuccess;
}

/* Events and captured graphs: there is nothing to wait for, and a capture would have run. */
typedef void *cudaEvent_t;
enum { cudaEventDisableTiming = 2 };
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ev, int) {
    *ev = NULL;
    return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
static inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
static inline cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
    *left = *all = (size_t)4 << 30;
    return cudaSuccess;
}

#endif
