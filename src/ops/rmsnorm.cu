/* rmsnorm.cu - y = w * x / sqrt(mean(x^2) + eps), a block of threads for each row, or for each group of
 * w's width in a row, which lie in memory as rows do.
 *
 * Thread t adds up x[t], x[t + THREADS], ..., then the threads' sums are added pairwise: the order of
 * additions depends on the width alone, so a row has the same bits in any batch. */
#include "ops/op.cuh"

enum { THREADS = 256, BLOCKS = 1 << 20 };

static __global__ void rmsnorm(float *y, const float *x, const float *w, int64_t rows, int64_t cols,
                               double eps) {
    __shared__ double sum[THREADS];
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const float *xr = x + r * cols;
        float *yr = y + r * cols;
        double s = 0;
        for (int64_t i = threadIdx.x; i < cols; i += THREADS) s += (double)xr[i] * (double)xr[i];
        sum[threadIdx.x] = s;
        __syncthreads();
        for (int half = THREADS / 2; half; half /= 2) {
            if ((int)threadIdx.x < half) sum[threadIdx.x] += sum[threadIdx.x + half];
            __syncthreads();
        }
        float scale = (float)(1 / sqrt(sum[0] / (double)cols + eps));
        for (int64_t i = threadIdx.x; i < cols; i += THREADS) yr[i] = w[i] * (xr[i] * scale);
        __syncthreads(); /* before the next row overwrites sum */
    }
}

extern "C" bool fj_rmsnorm_cuda(void *stream, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    int64_t cols = n->in[1]->cols, rows = cols ? n->out[0]->rows * (n->out[0]->cols / cols) : 0;
    if (!rows) return true;
    rmsnorm<<<(unsigned)FJ_MIN(rows, (int64_t)BLOCKS), THREADS, 0, (cudaStream_t)stream>>>(
        (float *)n->out[0]->data, (const float *)n->in[0]->data, (const float *)n->in[1]->data,
        rows, cols, *(const double *)n->params);
    return fj_launched(n, e);
}
