/* gelu.cu - y = gelu(x) and y = gelu(g) * u, in the tanh form, and their gradients; formulas: kernels.def */
#include "ops/points.cuh"

/* sigmoid(2z) of gelu and the derivative of 2z. */
template <typename T> __device__ __forceinline__ float gelu_gate(float x, float *slope) {
    const float a = 1.5957691216057308f, b = (float)(1.5957691216057308 * 0.044715);
    *slope = a + 3 * b * x * x;
    return sigmoid<T>(x * (a + b * x * x));
}

template <typename T> struct gelu_at {
    enum { IN = 1, OUT = 1 };
    explicit gelu_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float slope;
        y[0] = x[0] * gelu_gate<T>(x[0], &slope);
    }
};
FJ_CUDA_OP(gelu, run_points<gelu_at>, NULL);

/* in: x, dy */
template <typename T> struct gelu_bwd_at {
    enum { IN = 2, OUT = 1 };
    explicit gelu_bwd_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float slope, s = gelu_gate<T>(x[0], &slope);
        y[0] = x[1] * (s * (1 + x[0] * (1 - s) * slope));
    }
};
FJ_CUDA_OP(gelu_bwd, run_points<gelu_bwd_at>, NULL);

template <typename T> struct geglu_at {
    enum { IN = 2, OUT = 1 };
    explicit geglu_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float slope;
        y[0] = x[0] * gelu_gate<T>(x[0], &slope) * x[1];
    }
};
FJ_CUDA_OP(geglu, run_points<geglu_at>, NULL);

/* in: gate, up, dy */
template <typename T> struct geglu_bwd_at {
    enum { IN = 3, OUT = 2 };
    explicit geglu_bwd_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float g = x[0], u = x[1], d = x[2], slope, s = gelu_gate<T>(g, &slope);
        y[0] = d * u * (s * (1 + g * (1 - s) * slope));
        y[1] = d * (g * s);
    }
};
FJ_CUDA_OP(geglu_bwd, run_points<geglu_bwd_at>, NULL);
