/* softcap.cu - y = cap * tanh(x / cap).   dx = dy * (1 - (y / cap)^2) */
#include "ops/points.cuh"

template <typename T> struct softcap_at {
    enum { IN = 1, OUT = 1 };
    float cap;
    explicit softcap_at(const fj_node *n) : cap((float)*(const double *)n->params) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = cap * tanhf(quotient(x[0], cap));
    }
};
FJ_CUDA_OP(softcap, run_points<softcap_at>, NULL);

/* in: y, dy */
template <typename T> struct softcap_bwd_at {
    enum { IN = 2, OUT = 1 };
    float cap;
    explicit softcap_bwd_at(const fj_node *n) : cap((float)*(const double *)n->params) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        float t = quotient(x[0], cap);
        y[0] = x[1] * (1 - t * t);
    }
};
FJ_CUDA_OP(softcap_bwd, run_points<softcap_bwd_at>, NULL);
