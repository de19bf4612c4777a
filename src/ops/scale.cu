/* scale.cu - y = s * x: scale, s a constant of the model; scale_by (head_ce.c), s a number of the graph. */
#include "ops/points.cuh"

template <typename T> struct scale_at {
    enum { IN = 1, OUT = 1 };
    float s;
    explicit scale_at(const fj_node *n) : s((float)*(const double *)n->params) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = s * x[0];
    }
};
FJ_CUDA_OP(scale, run_points<scale_at>, NULL);

/* in: x, s F32 [1, 1] */
template <typename T> struct scale_by_at {
    enum { IN = 1, OUT = 1 };
    const float *s;
    explicit scale_by_at(const fj_node *n) : s(data_of<float>(n->in[1])) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = __ldg(s) * x[0];
    }
};
FJ_CUDA_OP(scale_by, run_points<scale_by_at>, NULL);
