/* linear_many.c - rows times several weights: queries, keys and values, or gate and up.  No gradient: in
 * training they are linear, each by itself, with the same bits.  A GPU reads all of them in one kernel. */
#include "ops/gemm.h"
#include "ops/op.h"

FJ_CPU(linear_many) {
    const fj_tensor *x = n->in[0];
    for (int i = 1; i < n->n_in; i++) {
        fj_wmat w = fj_mat(n->in[i]);
        fj_tensor *y = n->out[i - 1];
        if (i > 1) fj_team_barrier(t);
        FJ_R(fj_gemm_fwd)(t, x->rows, x->data, x->cols, &w, y->data, y->cols, 1, false);
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    for (int i = 1; i < n->n_in; i++) {
        const fj_tensor *w = n->in[i];
        if (x->cols != w->cols)
            return fj_fail(e, FJ_EINVAL, "weight %s is %lld x %lld, a row of %s has %lld values",
                           w->name, (long long)w->rows, (long long)w->cols, x->name,
                           (long long)x->cols);
        n->out[i - 1]->rows = x->rows;
        n->out[i - 1]->cols = w->rows;
    }
    return true;
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    size_t most = 0;
    for (int i = 1; i < n->n_in; i++) {
        fj_wmat w = fj_mat(n->in[i]);
        most = FJ_MAX(most, fj_gemm_fwd_scratch(n->in[0]->rows, &w, o->threads, o->f32));
    }
    return most;
}

const fj_op fj_op_linear_many = { .name = "linear_many",
                                  .n_in = 1 + FJ_LINEAR_MANY,
                                  .n_out = FJ_LINEAR_MANY,
                                  .shape = shape,
                                  .scratch = scratch,
                                  FJ_FNS(linear_many) };

void fj_linear_many(fj_graph *g, fj_tensor *x, int n, fj_tensor *const *w, fj_tensor **y) {
    fj_tensor *in[1 + FJ_LINEAR_MANY] = { x };
    for (int i = 0; i < n; i++) in[1 + i] = w[i];
    fj_tensor *first = fj_emit(g, &fj_op_linear_many, NULL, 1 + n, in);
    for (int i = 0; i < n; i++) y[i] = first ? first->node->out[i] : NULL;
}
#endif
