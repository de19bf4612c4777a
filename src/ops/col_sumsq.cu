/* col_sumsq.cu - the squares of every column, added to sums that outlive the graph. */
#include "ops/points.cuh"

enum { WARPS = 8 };

/* A block for 32 columns of an expert: a warp takes every WARPS-th row, then the warps' sums are added in
 * order. */
template <typename T>
static __global__ void __launch_bounds__(WARP *WARPS)
    col_sumsq(float *y, const T *x, const int32_t *start, int64_t rows, int64_t cols) {
    __shared__ float part[WARPS][WARP];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t c = (int64_t)blockIdx.x * WARP + lane, e = blockIdx.y;
    int64_t from = start ? start[e] : 0, to = start ? start[e + 1] : rows;
    float s = 0;
    if (c < cols)
        for (int64_t r = from + warp; r < to; r += WARPS) {
            float v = to_f32(x[r * cols + c]);
            s += v * v;
        }
    part[warp][lane] = s;
    __syncthreads();
    if (warp || c >= cols) return;
    for (int w = 1; w < WARPS; w++) s += part[w][lane];
    y[e * cols + c] += s;
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *y = n->out[0], *x = n->in[1], *start = n->in[2];
    if (!same_type(n, x, x, e)) return false;
    if (!count_of(x)) return true;
    FJ_AS(x, T, {
        FJ_LAUNCH(col_sumsq<T>, dim3(grid_of(x->cols, WARP, INT32_MAX), (unsigned)y->rows),
                  WARP * WARPS, 0, g->stream, data_of<float>(y), data_of<T>(x),
                  start ? data_of<int32_t>(start) : NULL, x->rows, x->cols);
    });
    return launched("col_sumsq", e);
}
FJ_CUDA_OP(col_sumsq, run, NULL);
