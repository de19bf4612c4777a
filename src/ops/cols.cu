/* cols.cu - chosen columns of x; the gradient is added into the one of all columns made so far. */
#include "ops/points.cuh"

typedef struct params { /* as in cols.c */
    int64_t col0, cols;
} params;

static bool fits(int64_t a, int64_t b, int64_t c) { return (a | b | c) % 8 == 0; }

template <typename T, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    cols(T *y, const T *x, int64_t rows, int64_t width, int64_t ldx) {
    EACH_ROW(r, rows)
    EACH_UNIT(u, width / V) {
        float v[V];
        load_v<V>(x + r * ldx + u * V, v);
        store_v<V>(y + r * width + u * V, v);
    }
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    if (!count_of(y)) return true;
    bool wide = fits(p->col0, y->cols, x->cols) && aligned(x->data) && aligned(y->data);
    row_grid d = grid_of_rows(y->rows, wide ? y->cols / 8 : y->cols);
    FJ_AS(y, T, {
        auto kernel = wide ? cols<T, 8> : cols<T, 1>;
        FJ_LAUNCH(kernel, d.grid, d.block, 0, g->stream, data_of<T>(y), data_of<T>(x) + p->col0,
                  y->rows, y->cols, x->cols);
    });
    return launched("cols", e);
}
FJ_CUDA_OP(cols, run, NULL);

/* Columns [from, to) of y [rows, width] are those of c (NULL: zeros), and within [col0, col0 + ld) those of
 * dy are added. */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    cols_bwd(T *y, const T *c, const T *dy, int64_t rows, int64_t width, int64_t from, int64_t to,
             int64_t col0, int64_t ld) {
    EACH_ROW(r, rows)
    EACH_UNIT(u, (to - from) / V) {
        int64_t at = from + u * V, k = at - col0;
        float v[V] = { 0 }, d[V];
        if (c) load_v<V>(c + r * width + at, v);
        if (k >= 0 && k < ld) {
            load_v<V>(dy + r * ld + k, d);
            for (int j = 0; j < V; j++) v[j] += d[j];
        }
        store_v<V>(y + r * width + at, v);
    }
}

/* in: dy, gradient of x so far or NULL; where that has the memory of y, the other columns stay. */
static bool run_bwd(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    const fj_tensor *dy = n->in[0], *c = n->in[1], *y = n->out[0];
    if (!same_type(n, dy, y, e) || (c && !same_type(n, c, y, e))) return false;
    bool stay = c && c->data == y->data;
    int64_t from = stay ? p->col0 : 0, to = stay ? p->col0 + dy->cols : y->cols;
    if (!y->rows || from == to) return true;
    bool wide = fits(p->col0, dy->cols, y->cols) && aligned(dy->data) && aligned(y->data) &&
                (!c || aligned(c->data));
    row_grid d = grid_of_rows(y->rows, wide ? (to - from) / 8 : to - from);
    FJ_AS(y, T, {
        auto kernel = wide ? cols_bwd<T, 8> : cols_bwd<T, 1>;
        FJ_LAUNCH(kernel, d.grid, d.block, 0, g->stream, data_of<T>(y), c ? data_of<T>(c) : NULL,
                  data_of<T>(dy), y->rows, y->cols, from, to, p->col0, dy->cols);
    });
    return launched("cols_bwd", e);
}
FJ_CUDA_OP(cols_bwd, run_bwd, NULL);
