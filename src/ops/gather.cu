/* gather.cu - chosen rows of x; the gradient puts them back and zeroes the rest. */
#include "ops/points.cuh"

/* Both have `units` units of type U in a row. */
template <typename U>
static __global__ void __launch_bounds__(ROW_THREADS)
    move_rows(U *y, const U *x, const int32_t *to, const int32_t *from, int64_t rows,
              int64_t units) {
    early_begin();
    EACH_ROW(r, rows) {
        U *yr = y + (to ? to[r] : r) * units;
        const U *xr = x + (from ? from[r] : r) * units;
        EACH_UNIT(c, units) yr[c] = xr[c];
    }
}

bool fj_gpu_move_rows(const fj_gpu *g, const fj_node *n, const fj_tensor *y, const fj_tensor *x,
                      const int32_t *to, const int32_t *from, int64_t rows, fj_err *e) {
    if (!same_type(n, x, y, e)) return false;
    int64_t bytes = fj_dtype_size(x->dtype, 1, x->cols);
    if (!rows || !bytes) return true;
#define MOVE(U)                                                                                    \
    do {                                                                                           \
        row_grid d = grid_of_rows(rows, bytes / (int64_t)sizeof(U));                               \
        FJ_LAUNCH_EARLY(move_rows<U>, d.grid, d.block, 0, g->stream, data_of<U>(y), data_of<U>(x), \
                        to, from, rows, bytes / (int64_t)sizeof(U));                               \
    } while (0)
    if (bytes % 16 == 0 && aligned(x->data) && aligned(y->data)) MOVE(uint4);
    else if (x->dtype == FJ_F32) MOVE(uint32_t);
    else MOVE(uint16_t);
#undef MOVE
    return launched(n->op->name, e);
}

static bool run_gather(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    return fj_gpu_move_rows(g, n, n->out[0], n->in[0], NULL, data_of<int32_t>(n->in[1]),
                            n->out[0]->rows, e);
}
FJ_CUDA_OP(gather, run_gather, NULL);

/* in: dy, idx */
static bool run_scatter(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *dy = n->in[0], *y = n->out[0];
    return clear(g, y, e) &&
           fj_gpu_move_rows(g, n, y, dy, data_of<int32_t>(n->in[1]), NULL, dy->rows, e);
}
FJ_CUDA_OP(scatter, run_scatter, NULL);
