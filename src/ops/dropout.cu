/* dropout.cu - zero with probability p, else x / (1 - p), by the mask of dropout.c. */
#include "ops/points.cuh"

typedef struct params { /* as in dropout.c */
    double p;
    uint64_t seed;
} params;

/* The high half of fj_rng_at(seed, i + j) (base/rng.h); what only i goes into is common to neighbours. */
__device__ __forceinline__ uint32_t rng_high(uint64_t seed, int64_t i, int j) {
    const uint64_t step = 0x9e3779b97f4a7c15u;
    uint64_t z = seed + ((uint64_t)i + 1) * step + (uint64_t)j * step;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

template <typename T> struct dropout_at {
    enum { IN = 1, OUT = 1 };
    float s;
    uint32_t limit; /* p < 1, so it is less than 2^32 */
    uint64_t seed;
    explicit dropout_at(const fj_node *n) {
        const params *p = (const params *)n->params;
        s = (float)(1 / (1 - p->p));
        limit = (uint32_t)(p->p * 0x1p32);
        seed = p->seed;
    }
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t i, int j) const {
        y[0] = rng_high(seed, i, j) < limit ? 0 : x[0] * s;
    }
};
FJ_CUDA_OP(dropout, run_points<dropout_at>, NULL);
