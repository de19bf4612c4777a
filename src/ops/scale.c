/* scale.c - y = s * x, s a constant of the model. */
#include "ops/op.h"

FJ_CPU(scale) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    KERN(t)->scale((real *)n->out[0]->data + from, (const real *)n->in[0]->data + from,
                   (real) * (const double *)n->params, to - from);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    (void)e;
    return fj_shape_like(n->out[0], n->in[0]);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0)) fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_scale, n->params, dy[0]));
}

const fj_op fj_op_scale = { .name = "scale",
                            .n_in = 1,
                            .n_out = 1,
                            .params = sizeof(double),
                            .share = 1,
                            .cheap = true,
                            .shape = shape,
                            .grad = grad,
                            FJ_FNS(scale) };

fj_tensor *fj_scale(fj_graph *g, fj_tensor *x, double s) {
    return s == 1 ? x : FJ_EMIT(g, &fj_op_scale, &s, x);
}
#endif
