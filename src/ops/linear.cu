/* linear.cu - linear.c's three products on a GPU (arithmetic: kernels/cuda/gemm.cuh). */
#include "kernels/cuda/gemm.cuh"
#include "ops/op.cuh"

typedef struct params { /* as in linear.c */
    double scale;
    int64_t row0;
    bool real;
} params;

static fj_gmat mat(const fj_tensor *w) { return (fj_gmat){ w->dtype, w->data, w->rows, w->cols }; }
static fj_grows rows_of(const fj_tensor *t) { return (fj_grows){ t->dtype, t->data, t->cols }; }
static const fj_tensor *third(const fj_node *n) { return n->n_in > 2 ? n->in[2] : NULL; }

/* What a result is added to: c, or NULL.  A result that does not cover all of c begins as a copy of it. */
static bool old_of(const fj_gpu *g, const fj_node *n, bool all, fj_grows y, fj_grows *old,
                   const fj_grows **p, fj_err *e) {
    const fj_tensor *c = third(n), *to = n->out[0];
    *p = c ? old : NULL;
    if (!c) return true;
    if (!same_type(n, c, to, e)) return false;
    *old = all ? rows_of(c) : y;
    if (!all && c->data != to->data && count_of(to))
        cudaMemcpyAsync(to->data, c->data, (size_t)fj_tensor_bytes(to), cudaMemcpyDeviceToDevice,
                        g->stream);
    return launched(n->op->name, e);
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0];
    fj_gmat w = mat(n->in[1]);
    fj_grows y = rows_of(n->out[0]), old;
    const fj_grows *c;
    y.data = (char *)y.data + p->row0 * fj_dtype_size(y.dtype, 1, y.ld);
    return old_of(g, n, x->rows == n->out[0]->rows, y, &old, &c, e) &&
           fj_gpu_fwd(g, x->rows, rows_of(x), &w, y, (float)p->scale, c, scratch, e);
}
static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    fj_gmat w = mat(n->in[1]);
    return fj_gpu_fwd_scratch(n->in[0]->rows, &w, n->in[0]->dtype, o->f32);
}
FJ_CUDA_OP(linear, run, scratch);

/* in: dy, W, gradient of x so far or NULL */
static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const params *p = (const params *)n->params;
    fj_gmat w = mat(n->in[1]);
    fj_grows dx = rows_of(n->out[0]), old;
    const fj_grows *c;
    return old_of(g, n, true, dx, &old, &c, e) &&
           fj_gpu_dx(g, n->in[0]->rows, rows_of(n->in[0]), &w, dx, (float)p->scale, c, scratch, e);
}
static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    fj_gmat w = mat(n->in[1]);
    return fj_gpu_dx_scratch(n->in[0]->rows, &w, n->in[0]->dtype, o->f32);
}
FJ_CUDA_OP(linear_dx, run_dx, scratch_dx);

/* in: dy, x.  out: [N, K], F32 */
static bool run_dw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const params *p = (const params *)n->params;
    const fj_tensor *dw = n->out[0];
    return fj_gpu_dw(g, n->in[1]->rows, rows_of(n->in[0]), rows_of(n->in[1]), data_of<float>(dw),
                     dw->rows, dw->cols, (float)p->scale, false, scratch, e);
}
static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    const fj_tensor *dy = n->in[0], *x = n->in[1], *dw = n->out[0];
    fj_dtype both = dy->dtype == FJ_BF16 ? x->dtype : dy->dtype;
    return fj_gpu_dw_scratch(x->rows, dw->rows, dw->cols, both, o->f32);
}
FJ_CUDA_OP(linear_dw, run_dw, scratch_dw);
