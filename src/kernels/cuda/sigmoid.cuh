/* sigmoid.cuh - the logistic function, as near as its result's format needs it. */
#ifndef FJ_KERNELS_CUDA_SIGMOID_CUH
#define FJ_KERNELS_CUDA_SIGMOID_CUH

#include "kernels/cuda/gpu.cuh"

/* a / b but for 2 ulp, b < 2^126; exp(x), nearer where the result does not become a bf16. */
__device__ __forceinline__ float quotient(float a, float b) {
#ifdef FJ_PLAY
    return a / b;
#else
    return __fdividef(a, b);
#endif
}
template <typename T> __device__ __forceinline__ float exp_of(float x) { return expf(x); }
template <> __device__ __forceinline__ float exp_of<bf16>(float x) { return __expf(x); }

template <typename T> __device__ __forceinline__ float sigmoid(float x) {
    return quotient(1, 1 + exp_of<T>(-x));
}

#endif
