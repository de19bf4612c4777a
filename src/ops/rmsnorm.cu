/* rmsnorm.cu - y = w * x / sqrt(mean(x^2) + eps), a block of threads for each row, or for each group of
 * w's width in a row, which lie in memory as rows do.
 *
 * Thread t adds up x[t], x[t + THREADS], ..., then the threads' sums are added in the order of block_sum:
 * it depends on the width alone, so a row has the same bits in any batch. */
#include "ops/op.cuh"

enum { THREADS = 256, BLOCKS = 1 << 20 };

template <typename T>
static __global__ void rmsnorm(T *y, const T *x, const float *w, int64_t rows, int64_t cols,
                               double eps) {
    __shared__ double sums[THREADS / WARP];
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *xr = x + r * cols;
        T *yr = y + r * cols;
        double s = 0;
        for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
            double v = (double)to_f32(xr[i]);
            s += v * v;
        }
        float scale = (float)(1 / sqrt(block_sum(s, sums) / (double)cols + eps));
        for (int64_t i = threadIdx.x; i < cols; i += THREADS)
            yr[i] = from_f32<T>(w[i] * (to_f32(xr[i]) * scale));
    }
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *w = n->in[1], *y = n->out[0];
    int64_t cols = w->cols, rows = cols ? y->rows * (y->cols / cols) : 0;
    if (!rows) return true;
    FJ_AS(y, T, {
        FJ_LAUNCH(rmsnorm<T>, grid_of(rows, 1, BLOCKS), THREADS, 0, g->stream, data_of<T>(y),
                  data_of<T>(x), data_of<float>(w), rows, cols, *(const double *)n->params);
    });
    return launched("rmsnorm", e);
}
FJ_CUDA_OP(rmsnorm, run, NULL);
