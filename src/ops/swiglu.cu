/* swiglu.cu - y = silu(g) * u, and its gradient.  Formulas: swiglu.c */
#include "ops/points.cuh"

template <typename T> struct swiglu_at {
    enum { IN = 2, OUT = 1 };
    explicit swiglu_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = x[0] * sigmoid<T>(x[0]) * x[1];
    }
};
FJ_CUDA_OP(swiglu, run_points<swiglu_at>, NULL);

/* in: gate, up, dy */
template <typename T> struct swiglu_bwd_at {
    enum { IN = 3, OUT = 2 };
    explicit swiglu_bwd_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float g = x[0], u = x[1], d = x[2], s = sigmoid<T>(g);
        y[0] = d * u * (s * (1 + g * (1 - s)));
        y[1] = d * (g * s);
    }
};
FJ_CUDA_OP(swiglu_bwd, run_points<swiglu_bwd_at>, NULL);
