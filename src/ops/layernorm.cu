/* layernorm.cu - y = w * h + b, h = (x - mean) / sqrt(variance + eps) over each row, and its gradients
 * (layernorm.c).  How rows are dealt, and the order of additions: norm.cuh. */
#include "ops/norm.cuh"

/* A row less its mean, zeros beyond its end; returns 1 / sqrt(variance + eps). */
template <typename T, int V>
__device__ __forceinline__ float center(float (*h)[8], const eight<T> *raw, int t, int cols,
                                        int lanes, float eps, int *turn) {
    float s = 0;
    for (int j = 0; j < V; j++) {
        open8(raw[j], h[j]);
        for (int k = 0; k < 8; k++) s += h[j][k];
    }
    row_sums<1>(&s, lanes, turn);
    float mean = s / (float)cols;
    s = 0;
    for (int j = 0; j < V; j++)
        for (int k = 0; k < 8; k++) {
            h[j][k] = (t + j * lanes) * 8 + k < cols ? h[j][k] - mean : 0;
            s += h[j][k] * h[j][k];
        }
    row_sums<1>(&s, lanes, turn);
    return 1 / sqrtf(s / (float)cols + eps);
}

template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 3) layernorm(T *y, const T *x, const float *w, const float *b,
                                                   int64_t rows, int cols, int lanes, float eps) {
    norm_at a = norm_here(lanes);
    int turn = 0;
    eight<float> wv[V], bv[V];
    for (int j = 0; j < V; j++) {
        wv[j] = fetch8(w, a.t + j * lanes, cols);
        bv[j] = fetch8(b, a.t + j * lanes, b ? cols : 0);
    }
    for (int64_t r = (int64_t)blockIdx.x * a.each; r < rows; r += (int64_t)gridDim.x * a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < rows ? cols : 0;
        eight<T> raw[V];
        float h[V][8], u[8], c[8];
        for (int j = 0; j < V; j++) raw[j] = fetch8(x + at, a.t + j * lanes, width);
        float scale = center<T, V>(h, raw, a.t, cols, lanes, eps, &turn);
        for (int j = 0; j < V; j++) {
            open8(wv[j], u);
            open8(bv[j], c);
            for (int k = 0; k < 8; k++) u[k] = u[k] * (h[j][k] * scale) + c[k];
            put8(y + at, a.t + j * lanes, width, u);
        }
    }
}

template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 2)
    layernorm_dx(T *dx, const T *x, const float *w, const T *dy, int64_t rows, int cols, int lanes,
                 float eps) {
    norm_at a = norm_here(lanes);
    int turn = 0;
    eight<float> wv[V];
    for (int j = 0; j < V; j++) wv[j] = fetch8(w, a.t + j * lanes, cols);
    for (int64_t r = (int64_t)blockIdx.x * a.each; r < rows; r += (int64_t)gridDim.x * a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < rows ? cols : 0;
        eight<T> raw[V], up[V];
        float h[V][8], u[8], d[8], s[2] = { 0, 0 };
        for (int j = 0; j < V; j++) {
            raw[j] = fetch8(x + at, a.t + j * lanes, width);
            up[j] = fetch8(dy + at, a.t + j * lanes, width);
        }
        float scale = center<T, V>(h, raw, a.t, cols, lanes, eps, &turn);
        for (int j = 0; j < V; j++) {
            open8(wv[j], u);
            open8(up[j], d);
            for (int k = 0; k < 8; k++) {
                s[0] += u[k] * d[k];
                s[1] += u[k] * d[k] * (h[j][k] * scale);
            }
        }
        row_sums<2>(s, lanes, &turn);
        float sn = s[0] / (float)cols, cn = s[1] / (float)cols;
        for (int j = 0; j < V; j++) {
            open8(wv[j], u);
            open8(up[j], d);
            for (int k = 0; k < 8; k++) u[k] = scale * (u[k] * d[k] - sn - h[j][k] * scale * cn);
            put8(dx + at, a.t + j * lanes, width, u);
        }
    }
}

/* A block for each chunk of rows. */
template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 3)
    layernorm_dw(float *part, const T *x, const T *dy, int64_t rows, int chunk, int cols, int lanes,
                 float eps) {
    norm_at a = norm_here(lanes);
    int turn = 0;
    int64_t from = (int64_t)blockIdx.x * chunk, to = from + chunk < rows ? from + chunk : rows;
    float acc[V][8] = { { 0 } };
    for (int64_t r = from; r < to; r += a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < to ? cols : 0;
        eight<T> raw[V], up[V];
        float h[V][8], d[8];
        for (int j = 0; j < V; j++) {
            raw[j] = fetch8(x + at, a.t + j * lanes, width);
            up[j] = fetch8(dy + at, a.t + j * lanes, width);
        }
        float scale = center<T, V>(h, raw, a.t, cols, lanes, eps, &turn);
        for (int j = 0; j < V; j++) {
            open8(up[j], d);
            for (int k = 0; k < 8; k++) acc[j][k] += d[k] * (h[j][k] * scale);
        }
    }
    put_chunk<V>(part + (int64_t)blockIdx.x * cols, cols, lanes, a, acc);
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *b = n->in[2], *y = n->out[0];
    norm_shape s = {};
    if (!count_of(y)) return true;
    if (!same_type(n, x, y, e) || !norm_shape_of(g, n, x->rows, x->cols, 3, &s, e)) return false;
    FJ_AS(y, T, {
        NORM_BY(s, V, {
            FJ_LAUNCH((layernorm<T, V>), s.grid, s.threads, 0, g->stream, data_of<T>(y),
                      data_of<T>(x), data_of<float>(n->in[1]), b ? data_of<float>(b) : NULL,
                      x->rows, (int)x->cols, s.lanes, (float)*(const double *)n->params);
        });
    });
    return launched("layernorm", e);
}
FJ_CUDA_OP(layernorm, run, NULL);

static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *dy = n->in[2], *dx = n->out[0];
    norm_shape s = {};
    if (!count_of(x)) return true;
    if (!same_type(n, x, dx, e) || !same_type(n, dy, x, e) ||
        !norm_shape_of(g, n, x->rows, x->cols, 2, &s, e))
        return false;
    FJ_AS(x, T, {
        NORM_BY(s, V, {
            FJ_LAUNCH((layernorm_dx<T, V>), s.grid, s.threads, 0, g->stream, data_of<T>(dx),
                      data_of<T>(x), data_of<float>(n->in[1]), data_of<T>(dy), x->rows,
                      (int)x->cols, s.lanes, (float)*(const double *)n->params);
        });
    });
    return launched("layernorm_dx", e);
}
FJ_CUDA_OP(layernorm_dx, run_dx, NULL);

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    const fj_tensor *x = n->in[0];
    return (size_t)(norm_chunks(x->rows, x->cols) * x->cols) * sizeof(float);
}

static bool run_dw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0], *dy = n->in[2];
    int64_t cols = x->cols, chunks = norm_chunks(x->rows, cols);
    float *part = (float *)scratch;
    norm_shape s = {};
    if (!same_type(n, dy, x, e) || !norm_shape_of(g, n, x->rows, cols, 3, &s, e)) return false;
    if (count_of(x))
        FJ_AS(x, T, {
            NORM_BY(s, V, {
                FJ_LAUNCH((layernorm_dw<T, V>), (unsigned)chunks, s.threads, 0, g->stream, part,
                          data_of<T>(x), data_of<T>(dy), x->rows, (int)norm_chunk(cols), (int)cols,
                          s.lanes, (float)*(const double *)n->params);
            });
        });
    norm_add_chunks(g, data_of<float>(n->out[0]), part, chunks, cols);
    return launched("layernorm_dw", e);
}
FJ_CUDA_OP(layernorm_dw, run_dw, scratch_dw);
