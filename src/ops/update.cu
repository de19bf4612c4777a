/* update.cu - what happens to memory that outlives a graph: the cache of keys and values, sums of
 * gradients, and the optimizer. */
#include "ops/points.cuh"

/* in: cache (also the result), x, slots */
static bool run_kv_put(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    return fj_gpu_move_rows(g, n, n->out[0], n->in[1], data_of<int32_t>(n->in[2]), NULL,
                            n->in[1]->rows, e);
}
FJ_CUDA_OP(kv_put, run_kv_put, NULL);

template <typename T> struct accum_at {
    enum { IN = 2, OUT = 1 };
    explicit accum_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = x[0] + x[1];
    }
};
FJ_CUDA_OP(accum, run_points<accum_at>, NULL);

/* ---- sumsq --------------------------------------------------------------------------------------- */
/* Pieces of fixed size, a block for each; then one block adds the pieces. */
enum { THREADS = 256, PIECE = 1 << 14, LAST_THREADS = 1024 };

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    sumsq(double *part, const T *x, int64_t len, bool wide) {
    __shared__ double sums[THREADS / WARP];
    double s = 0;
    for (int k = 0; k < PIECE / (8 * THREADS); k++) {
        int64_t i = (int64_t)blockIdx.x * PIECE + (k * THREADS + (int)threadIdx.x) * 8;
        float v[8];
        if (wide && i + 8 <= len) load8(x + i, v);
        else
            for (int j = 0; j < 8; j++) v[j] = i + j < len ? to_f32(x[i + j]) : 0;
        for (int j = 0; j < 8; j++) s += (double)v[j] * (double)v[j];
    }
    s = block_sum(s, sums);
    if (threadIdx.x == 0) part[blockIdx.x] = s;
}

static __global__ void __launch_bounds__(LAST_THREADS)
    add_parts(double *y, const double *part, int64_t parts) {
    __shared__ double sums[LAST_THREADS / WARP];
    double s = 0;
    for (int64_t i = threadIdx.x; i < parts; i += LAST_THREADS) s += part[i];
    s = block_sum(s, sums);
    if (threadIdx.x == 0) *y = s;
}

static int64_t pieces_of(const fj_tensor *x) { return (count_of(x) + PIECE - 1) / PIECE; }

static size_t scratch_sumsq(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    return (size_t)pieces_of(n->in[0]) * sizeof(double);
}

static bool run_sumsq(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0];
    int64_t pieces = pieces_of(x);
    if (!same_type(n, x, x, e)) return false;
    if (pieces)
        FJ_AS(x, T, {
            FJ_LAUNCH(sumsq<T>, (unsigned)pieces, THREADS, 0, g->stream, (double *)scratch,
                      data_of<T>(x), count_of(x), aligned(x->data));
        });
    FJ_LAUNCH(add_parts, 1, LAST_THREADS, 0, g->stream, data_of<double>(n->out[0]),
              (const double *)scratch, pieces);
    return launched("sumsq", e);
}
FJ_CUDA_OP(sumsq, run_sumsq, scratch_sumsq);

/* ---- adamw --------------------------------------------------------------------------------------- */
typedef struct adamw_step { /* constants of the step (kernels/ref.c) */
    float decay, c1, b2, c2, ib2, eps, step, gs;
} adamw_step;

__device__ __forceinline__ void adamw_at(const adamw_step &h, float *p, float *m, float *v,
                                         float g) {
    g *= h.gs;
    *m += h.c1 * (g - *m);
    *v = h.b2 * *v + h.c2 * (g * g);
    *p = *p * h.decay - h.step * (*m / (sqrtf(*v) * h.ib2 + h.eps));
}

template <int V>
static __global__ void __launch_bounds__(THREADS)
    adamw(float *p, float *m, float *v, const float *g, const float *hyper, int64_t n) {
    __shared__ adamw_step step;
    if (threadIdx.x == 0) {
        double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2];
        step.decay = (float)(1 - lr * hyper[4]);
        step.c1 = (float)(1 - beta1);
        step.b2 = (float)beta2;
        step.c2 = (float)(1 - beta2);
        step.ib2 = (float)(1 / sqrt((double)hyper[6]));
        step.eps = hyper[3];
        step.step = (float)(lr / hyper[5]);
        step.gs = hyper[7];
    }
    __syncthreads();
    adamw_step h = step;
    EACH_UNIT(u, n / V) {
        float pv[V], mv[V], vv[V], gv[V];
        load_v<V>(p + u * V, pv);
        load_v<V>(m + u * V, mv);
        load_v<V>(v + u * V, vv);
        load_v<V>(g + u * V, gv);
        for (int j = 0; j < V; j++) adamw_at(h, &pv[j], &mv[j], &vv[j], gv[j]);
        store_v<V>(p + u * V, pv);
        store_v<V>(m + u * V, mv);
        store_v<V>(v + u * V, vv);
    }
}

/* in: p (also the result), gradient, m, v, hyper */
static bool run_adamw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *p = n->out[0], *grad = n->in[1], *m = n->in[2], *v = n->in[3], *h = n->in[4];
    int64_t len = count_of(p);
    if (!same_type(n, p, h, e) || !same_type(n, grad, h, e) || !same_type(n, m, h, e) ||
        !same_type(n, v, h, e))
        return false;
    if (!len) return true;
    bool wide = len % 4 == 0 && aligned(p->data) && aligned(grad->data) && aligned(m->data) &&
                aligned(v->data);
    auto kernel = wide ? adamw<4> : adamw<1>;
    FJ_LAUNCH(kernel, grid_of(len, THREADS * (wide ? 4 : 1), 8 * g->sms), THREADS, 0, g->stream,
              data_of<float>(p), data_of<float>(m), data_of<float>(v), data_of<float>(grad),
              data_of<float>(h), len);
    return launched("adamw", e);
}
FJ_CUDA_OP(adamw, run_adamw, NULL);
