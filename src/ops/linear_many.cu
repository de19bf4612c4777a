/* linear_many.cu - rows times several weights: few rows in one kernel, many in one for each. */
#include "kernels/cuda/gemm.cuh"
#include "ops/op.cuh"
#include "ops/ops.h"

enum { FIRST = 3 }; /* number of the first weight */

static fj_gmat mat(const fj_tensor *w) { return fj_gmat{ w->dtype, w->data, w->rows, w->cols }; }
static fj_grows rows(const fj_tensor *x) { return fj_grows{ x->dtype, x->data, x->cols }; }

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *x = n->in[0];
    int count = n->n_in - FIRST;
    if (((const fj_many *)n->params)->pre != FJ_PRE_NONE || n->in[2])
        return fj_fail(e, FJ_EUNSUP, "linear_many does not make its rows on a GPU");
    fj_gmat w[FJ_MAX_IN];
    fj_grows y[FJ_MAX_OUT];
    bool few = !g->f32 && x->dtype == FJ_BF16;
    for (int i = 0; i < count; i++) {
        w[i] = mat(n->in[FIRST + i]);
        y[i] = rows(n->out[i]);
        few = few && x->rows <= fj_gpu_skinny_rows(w[i].dtype);
    }
    if (few) return fj_gpu_skinny_many(g, x->rows, rows(x), count, w, y, e);
    for (int i = 0; i < count; i++)
        if (!fj_gpu_fwd(g, x->rows, rows(x), &w[i], y[i], 1, NULL, scratch, e)) return false;
    return true;
}

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o) {
    size_t most = 0;
    for (int i = FIRST; i < n->n_in; i++) {
        fj_gmat w = mat(n->in[i]);
        most = FJ_MAX(most, fj_gpu_fwd_scratch(n->in[0]->rows, &w, n->in[0]->dtype, o->f32));
    }
    return most;
}
FJ_CUDA_OP(linear_many, run, scratch_of);
