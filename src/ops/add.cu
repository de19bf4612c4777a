/* add.cu - y = a + b; x + bias on every row; col_sum, the bias' gradient; one. */
#include "ops/op.cuh"

enum { THREADS = 256, BLOCKS = 1 << 16 };

/* Eight values to a thread; the last few one by one. */
template <typename T> static __global__ void add_kernel(T *y, const T *a, const T *b, int64_t n) {
    int64_t step = (int64_t)gridDim.x * blockDim.x * 8;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8; i < n; i += step) {
        if (i + 8 <= n) {
            float u[8], v[8];
            load8(a + i, u);
            load8(b + i, v);
            for (int k = 0; k < 8; k++) u[k] += v[k];
            store8(y + i, u);
        } else {
            for (int64_t k = i; k < n; k++) y[k] = from_f32<T>(to_f32(a[k]) + to_f32(b[k]));
        }
    }
}

static bool run_add(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *a = n->in[0], *b = n->in[1], *y = n->out[0];
    int64_t len = count_of(y);
    if (!same_type(n, b, a, e)) return false;
    if (!len) return true; /* a grid of no blocks is an error */
    FJ_AS(y, T, {
        FJ_LAUNCH(add_kernel<T>, grid_of(len, THREADS * 8, BLOCKS), THREADS, 0, g->stream,
                  data_of<T>(y), data_of<T>(a), data_of<T>(b), len);
    });
    return launched("add", e);
}
FJ_CUDA_OP(add, run_add, NULL);
