/* add.cu - y = a + b; x + bias on every row; col_sum, the bias' gradient; one. */
#include "ops/points.cuh"

template <typename T> struct add_at {
    enum { IN = 2, OUT = 1 };
    explicit add_at(const fj_node *) {}
    __device__ __forceinline__ void operator()(const float *x, float *y, int64_t, int) const {
        y[0] = x[0] + x[1];
    }
};
FJ_CUDA_OP(add, run_points<add_at>, NULL);

/* ---- add_bias ------------------------------------------------------------------------------------ */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    add_bias(T *y, const T *x, const float *bias, int64_t rows, int64_t cols) {
    early_begin();
    EACH_UNIT(c, cols / V) {
        float b[V];
        load_v<V>(bias + c * V, b);
        EACH_ROW(r, rows) {
            float v[V];
            load_v<V>(x + r * cols + c * V, v);
            for (int j = 0; j < V; j++) v[j] += b[j];
            store_v<V>(y + r * cols + c * V, v);
        }
    }
}

static bool run_bias(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *b = n->in[1], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    if (!count_of(y)) return true;
    bool wide = y->cols % 8 == 0 && aligned(x->data) && aligned(b->data) && aligned(y->data);
    row_grid d = grid_of_rows(y->rows, wide ? y->cols / 8 : y->cols);
    FJ_AS(y, T, {
        auto kernel = wide ? add_bias<T, 8> : add_bias<T, 1>;
        FJ_LAUNCH_EARLY(kernel, d.grid, d.block, 0, g->stream, data_of<T>(y), data_of<T>(x),
                        data_of<float>(b), y->rows, y->cols);
    });
    return launched("add_bias", e);
}
FJ_CUDA_OP(add_bias, run_bias, NULL);

/* ---- col_sum ------------------------------------------------------------------------------------- */
/* Rows in pieces, as many as the number of rows says.  A warp takes every WARPS-th row of a piece; then the
 * warps' sums are added in order, and in a second kernel the pieces'. */
enum { WARPS = 8, PIECE = 128, PIECES = 64 };

static int64_t pieces_of(int64_t rows) {
    int64_t p = (rows + PIECE - 1) / PIECE;
    return p < 1 ? 1 : p > PIECES ? (int64_t)PIECES : p;
}

/* Sums of rows [z * piece, (z + 1) * piece) to out [pieces, cols]; block: 32 * V columns. */
template <typename T, int V>
static __global__ void __launch_bounds__(WARP *WARPS)
    col_sum(float *out, const T *x, int64_t rows, int64_t cols, int64_t piece) {
    __shared__ float part[WARPS][WARP * V];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t c = ((int64_t)blockIdx.x * WARP + lane) * V;
    int64_t from = blockIdx.y * piece, to = from + piece < rows ? from + piece : rows;
    float s[V] = { 0 };
    if (c < cols) {
        int64_t r = from + warp;
        for (; r + 3 * WARPS < to; r += 4 * WARPS) { /* four on their way at once */
            float v[4][V];
            for (int k = 0; k < 4; k++) load_v<V>(x + (r + k * WARPS) * cols + c, v[k]);
            for (int k = 0; k < 4; k++)
                for (int j = 0; j < V; j++) s[j] += v[k][j];
        }
        for (; r < to; r += WARPS) {
            float v[V];
            load_v<V>(x + r * cols + c, v);
            for (int j = 0; j < V; j++) s[j] += v[j];
        }
    }
    for (int j = 0; j < V; j++) part[warp][j * WARP + lane] = s[j];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < WARP * V; i += WARP * WARPS) {
        int64_t at = (int64_t)blockIdx.x * WARP * V + i;
        if (at >= cols) break;
        float sum = 0;
        for (int w = 0; w < WARPS; w++) sum += part[w][i % V * WARP + i / V];
        out[blockIdx.y * cols + at] = sum;
    }
}

static __global__ void add_pieces(float *y, const float *part, int64_t pieces, int64_t cols) {
    EACH_UNIT(c, cols) {
        float s = 0;
        for (int64_t p = 0; p < pieces; p += 8) { /* eight on their way at once */
            float v[8];
            for (int k = 0; k < 8; k++) v[k] = p + k < pieces ? part[(p + k) * cols + c] : 0;
            for (int k = 0; k < 8; k++) s += v[k];
        }
        y[c] = s;
    }
}

static size_t scratch_col_sum(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    int64_t pieces = pieces_of(n->in[0]->rows);
    return pieces > 1 ? (size_t)(pieces * n->in[0]->cols) * sizeof(float) : 0;
}

static bool run_col_sum(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0], *y = n->out[0];
    int64_t pieces = pieces_of(x->rows), piece = (x->rows + pieces - 1) / pieces, cols = x->cols;
    if (!same_type(n, x, x, e)) return false;
    if (!cols) return true;
    bool wide = cols % 8 == 0 && aligned(x->data);
    float *sums = pieces > 1 ? (float *)scratch : data_of<float>(y);
    FJ_AS(x, T, {
        auto kernel = wide ? col_sum<T, 8> : col_sum<T, 1>;
        dim3 grid(grid_of(cols, WARP * (wide ? 8 : 1), INT32_MAX), (unsigned)pieces);
        FJ_LAUNCH(kernel, grid, WARP * WARPS, 0, g->stream, sums, data_of<T>(x), x->rows, cols,
                  piece);
    });
    if (pieces > 1)
        FJ_LAUNCH(add_pieces, grid_of(cols, WARP, INT32_MAX), WARP, 0, g->stream, data_of<float>(y),
                  sums, pieces, cols);
    return launched("col_sum", e);
}
FJ_CUDA_OP(col_sum, run_col_sum, scratch_col_sum);

/* ---- one ----------------------------------------------------------------------------------------- */
template <typename T> static __global__ void fill_one(T *y, int64_t n) {
    EACH_UNIT(i, n) y[i] = from_f32<T>(1);
}

static bool run_one(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *y = n->out[0];
    int64_t len = count_of(y);
    if (!same_type(n, y, y, e)) return false;
    if (!len) return true;
    FJ_AS(y, T, {
        FJ_LAUNCH(fill_one<T>, grid_of(len, ROW_THREADS, 1 << 16), ROW_THREADS, 0, g->stream,
                  data_of<T>(y), len);
    });
    return launched("one", e);
}
FJ_CUDA_OP(one, run_one, NULL);
