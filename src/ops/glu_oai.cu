/* glu_oai.cu - the gated activation of gpt-oss: gates and ups take turns in a row.  Formulas: kernels.def */
#include "ops/points.cuh"

typedef struct params { /* as in glu_oai.c */
    double alpha, limit;
} params;

enum { THREADS = 256, BLOCKS = 1 << 20 };

typedef struct glu { /* what the gate g and the up u are */
    float c, v, s;
} glu;

template <typename T>
__device__ __forceinline__ glu glu_of(float g, float u, float alpha, float limit) {
    glu r;
    r.c = g > limit ? limit : g;
    r.v = u < -limit ? -limit : u > limit ? limit : u;
    r.s = sigmoid<T>(alpha * r.c);
    return r;
}

/* n results, V to a thread; gates and ups of them are neighbours, whatever the rows. */
template <typename T, int V>
static __global__ void __launch_bounds__(THREADS)
    glu_oai(T *y, const T *x, int64_t n, float alpha, float limit) {
    int64_t step = (int64_t)gridDim.x * THREADS * V;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V; i < n; i += step) {
        float in[2 * V], out[V];
        load_v<V>(x + 2 * i, in);
        load_v<V>(x + 2 * i + V, in + V);
        for (int j = 0; j < V; j++) {
            glu r = glu_of<T>(in[2 * j], in[2 * j + 1], alpha, limit);
            out[j] = (r.v + 1) * (r.c * r.s);
        }
        store_v<V>(y + i, out);
    }
}

template <typename T, int V>
static __global__ void __launch_bounds__(THREADS)
    glu_oai_bwd(T *dx, const T *x, const T *dy, int64_t n, float alpha, float limit) {
    int64_t step = (int64_t)gridDim.x * THREADS * V;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V; i < n; i += step) {
        float in[2 * V], d[V], out[2 * V];
        load_v<V>(x + 2 * i, in);
        load_v<V>(x + 2 * i + V, in + V);
        load_v<V>(dy + i, d);
        for (int j = 0; j < V; j++) {
            float g = in[2 * j], u = in[2 * j + 1];
            glu r = glu_of<T>(g, u, alpha, limit);
            bool u_in = u >= -limit && u <= limit;
            out[2 * j] = g <= limit ? d[j] * (r.v + 1) * (r.s * (1 + alpha * r.c * (1 - r.s))) : 0;
            out[2 * j + 1] = u_in ? d[j] * (r.c * r.s) : 0;
        }
        store_v<V>(dx + 2 * i, out);
        store_v<V>(dx + 2 * i + V, out + V);
    }
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0], *y = n->out[0];
    int64_t len = count_of(y);
    if (!same_type(n, x, y, e)) return false;
    if (!len) return true;
    bool wide = len % 8 == 0 && aligned(x->data) && aligned(y->data);
    FJ_AS(y, T, {
        auto kernel = wide ? glu_oai<T, 8> : glu_oai<T, 1>;
        FJ_LAUNCH(kernel, grid_of(len, THREADS * (wide ? 8 : 1), BLOCKS), THREADS, 0, g->stream,
                  data_of<T>(y), data_of<T>(x), len, (float)p->alpha, (float)p->limit);
    });
    return launched("glu_oai", e);
}
FJ_CUDA_OP(glu_oai, run, NULL);

/* in: gates and ups, dy */
static bool run_bwd(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0], *dy = n->in[1], *dx = n->out[0];
    int64_t len = count_of(dy);
    if (!same_type(n, x, dx, e) || !same_type(n, dy, dx, e)) return false;
    if (!len) return true;
    bool wide = len % 8 == 0 && aligned(x->data) && aligned(dy->data) && aligned(dx->data);
    FJ_AS(dx, T, {
        auto kernel = wide ? glu_oai_bwd<T, 8> : glu_oai_bwd<T, 1>;
        FJ_LAUNCH(kernel, grid_of(len, THREADS * (wide ? 8 : 1), BLOCKS), THREADS, 0, g->stream,
                  data_of<T>(dx), data_of<T>(x), data_of<T>(dy), len, (float)p->alpha,
                  (float)p->limit);
    });
    return launched("glu_oai_bwd", e);
}
FJ_CUDA_OP(glu_oai_bwd, run_bwd, NULL);
