/* linear_lora.cu - a weight and its adapter: see linear_lora.c. */
#include "kernels/cuda/gemm.cuh"
#include "ops/op.cuh"

static fj_gmat mat(const fj_tensor *w) { return fj_gmat{ w->dtype, w->data, w->rows, w->cols }; }
static fj_grows rows(const fj_tensor *x) { return fj_grows{ x->dtype, x->data, x->cols }; }

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0], *y = n->out[0], *t = n->out[1];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[2]), b = mat(n->in[3]);
    float scale = (float)*(const double *)n->params;
    return fj_gpu_fwd(g, x->rows, rows(x), &a, rows(t), 1, false, scratch, e) &&
           fj_gpu_fwd(g, x->rows, rows(x), &w, rows(y), 1, false, scratch, e) &&
           fj_gpu_fwd(g, x->rows, rows(t), &b, rows(y), scale, true, scratch, e);
}

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o) {
    size_t most = 0;
    for (int i = 1; i < 4; i++) {
        fj_gmat w = mat(n->in[i]);
        most = FJ_MAX(most, fj_gpu_fwd_scratch(n->in[0]->rows, &w, n->in[0]->dtype, o->f32));
    }
    return most;
}
FJ_CUDA_OP(linear_lora, run, scratch_of);

static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *dy = n->in[0], *dt = n->in[2], *c = n->n_in > 4 ? n->in[4] : NULL,
                    *dx = n->out[0];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[3]);
    if (c && c->data != dx->data)
        cudaMemcpyAsync(dx->data, c->data, (size_t)fj_tensor_bytes(dx), cudaMemcpyDeviceToDevice,
                        g->stream);
    return fj_gpu_dx(g, dy->rows, rows(dy), &w, rows(dx), 1, c != NULL, scratch, e) &&
           fj_gpu_dx(g, dy->rows, rows(dt), &a, rows(dx), 1, true, scratch, e);
}

static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    fj_gmat w = mat(n->in[1]), a = mat(n->in[3]);
    return FJ_MAX(fj_gpu_dx_scratch(n->in[0]->rows, &w, n->in[0]->dtype, o->f32),
                  fj_gpu_dx_scratch(n->in[0]->rows, &a, n->in[0]->dtype, o->f32));
}
FJ_CUDA_OP(linear_lora_dx, run_dx, scratch_dx);
