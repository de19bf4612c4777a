/* rmsnorm.cu - y = w * x / rms(x) and its gradients (rmsnorm.c), over each group of w's width in a row,
 * which lie in memory as rows do.  How rows are dealt, and the order of additions: norm.cuh. */
#include "ops/norm.cuh"

template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 4)
    rmsnorm(T *y, const T *x, const float *w, int64_t rows, int cols, int lanes, float eps) {
    early_begin();
    norm_at a = norm_here(lanes);
    int turn = 0;
    float wv[V][8];
    for (int j = 0; j < V; j++) open8(fetch8(w, a.t + j * lanes, cols), wv[j]);
    for (int64_t r = (int64_t)blockIdx.x * a.each; r < rows; r += (int64_t)gridDim.x * a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < rows ? cols : 0;
        eight<T> raw[V];
        for (int j = 0; j < V; j++) raw[j] = fetch8(x + at, a.t + j * lanes, width);
        float s = 0, v[8];
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            for (int k = 0; k < 8; k++) s += v[k] * v[k];
        }
        row_sums<1>(&s, lanes, &turn);
        float scale = 1 / sqrtf(s / (float)cols + eps);
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            for (int k = 0; k < 8; k++) v[k] = wv[j][k] * (v[k] * scale);
            put8(y + at, a.t + j * lanes, width, v);
        }
    }
}

template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 3) rmsnorm_dx(T *dx, const T *x, const float *w, const T *dy,
                                                    int64_t rows, int cols, int lanes, float eps) {
    norm_at a = norm_here(lanes);
    int turn = 0;
    float wv[V][8];
    for (int j = 0; j < V; j++) open8(fetch8(w, a.t + j * lanes, cols), wv[j]);
    for (int64_t r = (int64_t)blockIdx.x * a.each; r < rows; r += (int64_t)gridDim.x * a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < rows ? cols : 0;
        eight<T> raw[V], up[V];
        for (int j = 0; j < V; j++) {
            raw[j] = fetch8(x + at, a.t + j * lanes, width);
            up[j] = fetch8(dy + at, a.t + j * lanes, width);
        }
        float s[2] = { 0, 0 }, v[8], d[8];
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            open8(up[j], d);
            for (int k = 0; k < 8; k++) {
                s[0] += v[k] * v[k];
                s[1] += v[k] * (wv[j][k] * d[k]);
            }
        }
        row_sums<2>(s, lanes, &turn);
        float square = s[0] / (float)cols + eps, scale = 1 / sqrtf(square);
        float c = s[1] / (float)cols / square;
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            open8(up[j], d);
            for (int k = 0; k < 8; k++) v[k] = scale * (wv[j][k] * d[k] - v[k] * c);
            put8(dx + at, a.t + j * lanes, width, v);
        }
    }
}

/* A block for each chunk of rows. */
template <typename T, int V>
static __global__ void NORM_BOUNDS(V, 4)
    rmsnorm_dw(float *part, const T *x, const T *dy, int64_t rows, int chunk, int cols, int lanes,
               float eps) {
    norm_at a = norm_here(lanes);
    int turn = 0;
    int64_t from = (int64_t)blockIdx.x * chunk, to = from + chunk < rows ? from + chunk : rows;
    float acc[V][8] = { { 0 } };
    for (int64_t r = from; r < to; r += a.each) {
        int64_t at = (r + a.slot) * cols;
        int width = r + a.slot < to ? cols : 0;
        eight<T> raw[V], up[V];
        for (int j = 0; j < V; j++) {
            raw[j] = fetch8(x + at, a.t + j * lanes, width);
            up[j] = fetch8(dy + at, a.t + j * lanes, width);
        }
        float s = 0, v[8], d[8];
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            for (int k = 0; k < 8; k++) s += v[k] * v[k];
        }
        row_sums<1>(&s, lanes, &turn);
        float scale = 1 / sqrtf(s / (float)cols + eps);
        for (int j = 0; j < V; j++) {
            open8(raw[j], v);
            open8(up[j], d);
            for (int k = 0; k < 8; k++) acc[j][k] += d[k] * (v[k] * scale);
        }
    }
    put_chunk<V>(part + (int64_t)blockIdx.x * cols, cols, lanes, a, acc);
}

/* Groups of w's width in all of x. */
static int64_t groups(const fj_node *n) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    return w->cols ? x->rows * (x->cols / w->cols) : 0;
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *w = n->in[1], *y = n->out[0];
    int64_t cols = w->cols, rows = groups(n);
    norm_shape s = {};
    if (!rows) return true;
    if (!same_type(n, x, y, e) || !norm_shape_of(g, n, rows, cols, 4, &s, e)) return false;
    FJ_AS(y, T, {
        NORM_BY(s, V, {
            FJ_LAUNCH_EARLY((rmsnorm<T, V>), s.grid, s.threads, 0, g->stream, data_of<T>(y),
                            data_of<T>(x), data_of<float>(w), rows, (int)cols, s.lanes,
                            (float)*(const double *)n->params);
        });
    });
    return launched("rmsnorm", e);
}
FJ_CUDA_OP(rmsnorm, run, NULL);

static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *w = n->in[1], *dy = n->in[2], *dx = n->out[0];
    int64_t cols = w->cols, rows = groups(n);
    norm_shape s = {};
    if (!rows) return true;
    if (!same_type(n, x, dx, e) || !same_type(n, dy, x, e) ||
        !norm_shape_of(g, n, rows, cols, 3, &s, e))
        return false;
    FJ_AS(x, T, {
        NORM_BY(s, V, {
            FJ_LAUNCH((rmsnorm_dx<T, V>), s.grid, s.threads, 0, g->stream, data_of<T>(dx),
                      data_of<T>(x), data_of<float>(w), data_of<T>(dy), rows, (int)cols, s.lanes,
                      (float)*(const double *)n->params);
        });
    });
    return launched("rmsnorm_dx", e);
}
FJ_CUDA_OP(rmsnorm_dx, run_dx, NULL);

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    int64_t cols = n->in[1]->cols;
    return (size_t)(norm_chunks(groups(n), cols) * cols) * sizeof(float);
}

static bool run_dw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0], *dy = n->in[2];
    int64_t cols = n->in[1]->cols, rows = groups(n), chunks = norm_chunks(rows, cols);
    float *part = (float *)scratch;
    norm_shape s = {};
    if (!same_type(n, dy, x, e) || !norm_shape_of(g, n, rows, cols, 4, &s, e)) return false;
    if (rows)
        FJ_AS(x, T, {
            NORM_BY(s, V, {
                FJ_LAUNCH((rmsnorm_dw<T, V>), (unsigned)chunks, s.threads, 0, g->stream, part,
                          data_of<T>(x), data_of<T>(dy), rows, (int)norm_chunk(cols), (int)cols,
                          s.lanes, (float)*(const double *)n->params);
            });
        });
    norm_add_chunks(g, data_of<float>(n->out[0]), part, chunks, cols);
    return launched("rmsnorm_dw", e);
}
FJ_CUDA_OP(rmsnorm_dw, run_dw, scratch_dw);
