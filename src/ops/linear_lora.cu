/* linear_lora.cu - a weight and its adapter: see linear_lora.c.  The adapter's second product is made where
 * the weight's is (kernels/cuda/gemm.cuh). */
#include "kernels/cuda/gemm.cuh"
#include "ops/op.cuh"

static fj_gmat mat(const fj_tensor *w) { return fj_gmat{ w->dtype, w->data, w->rows, w->cols }; }
static fj_grows rows(const fj_tensor *x) { return fj_grows{ x->dtype, x->data, x->cols }; }

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0], *c = n->n_in > 4 ? n->in[4] : NULL, *y = n->out[0],
                    *t = n->out[1];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[2]), b = mat(n->in[3]);
    fj_grows old = {};
    if (c) {
        if (!same_type(n, c, y, e)) return false;
        old = rows(c);
    }
    float scale = (float)*(const double *)n->params;
    return fj_gpu_fwd(g, x->rows, rows(x), &a, rows(t), 1, NULL, scratch, e) &&
           fj_gpu_fwd2(g, x->rows, rows(x), &w, rows(t), &b, scale, rows(y), c ? &old : NULL,
                       scratch, e);
}

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o) {
    const fj_tensor *x = n->in[0];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[2]), b = mat(n->in[3]);
    return FJ_MAX(fj_gpu_fwd_scratch(x->rows, &a, x->dtype, o->f32),
                  fj_gpu_fwd2_scratch(x->rows, &w, &b, x->dtype, o->f32));
}
FJ_CUDA_OP(linear_lora, run, scratch_of);

static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *dy = n->in[0], *c = n->n_in > 4 ? n->in[4] : NULL, *dx = n->out[0],
                    *dt = n->out[1];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[2]), b = mat(n->in[3]);
    fj_grows old = {};
    if (c) {
        if (!same_type(n, c, dx, e)) return false;
        old = rows(c);
    }
    float scale = (float)*(const double *)n->params;
    return fj_gpu_dx(g, dy->rows, rows(dy), &b, rows(dt), scale, NULL, scratch, e) &&
           fj_gpu_dx2(g, dy->rows, rows(dy), &w, rows(dt), &a, 1, rows(dx), c ? &old : NULL,
                      scratch, e);
}

static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    const fj_tensor *dy = n->in[0];
    fj_gmat w = mat(n->in[1]), a = mat(n->in[2]), b = mat(n->in[3]);
    return FJ_MAX(fj_gpu_dx_scratch(dy->rows, &b, dy->dtype, o->f32),
                  fj_gpu_dx2_scratch(dy->rows, &w, &a, dy->dtype, o->f32));
}
FJ_CUDA_OP(linear_lora_dx, run_dx, scratch_dx);
