/* gather.cu - chosen rows of x; the gradient puts them back and zeroes the rest. */
#include "ops/points.cuh"

static bool run_gather(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    return run_move(g, n, n->out[0], n->in[0], NULL, data_of<int32_t>(n->in[1]), n->out[0]->rows,
                    e);
}
FJ_CUDA_OP(gather, run_gather, NULL);

/* in: dy, idx */
static bool run_scatter(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *dy = n->in[0], *y = n->out[0];
    return clear(g, y, e) &&
           run_move(g, n, y, dy, data_of<int32_t>(n->in[1]), NULL, dy->rows, e);
}
FJ_CUDA_OP(scatter, run_scatter, NULL);
