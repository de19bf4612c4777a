/* softcap.c - y = cap * tanh(x / cap).   dx = dy * (1 - (y / cap)^2) */
#include "ops/op.h"

FJ_CPU(softcap) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    KERN(t)->softcap((real *)n->out[0]->data + from, (const real *)n->in[0]->data + from,
                     (real) * (const double *)n->params, to - from);
}

/* in: y, dy */
FJ_CPU(softcap_bwd) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    KERN(t)->softcap_bwd((real *)n->out[0]->data + from, (const real *)n->in[0]->data + from,
                         (const real *)n->in[1]->data + from, (real) * (const double *)n->params,
                         to - from);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    double cap = *(const double *)n->params;
    if (!(cap > 0)) return fj_fail(e, FJ_EINVAL, "a cap of %g, wanted more than 0", cap);
    return fj_shape_like(n->out[0], n->in[0]);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_softcap_bwd, n->params, n->out[0], dy[0]));
}

const fj_op fj_op_softcap = { .name = "softcap",
                              .n_in = 1,
                              .n_out = 1,
                              .params = sizeof(double),
                              .share = 1,
                              .shape = shape,
                              .grad = grad,
                              FJ_FNS(softcap) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_softcap_bwd = { .name = "softcap_bwd",
                                  .n_in = 2,
                                  .n_out = 1,
                                  .params = sizeof(double),
                                  .share = 2,
                                  .shape = shape_bwd,
                                  FJ_FNS(softcap_bwd) };

fj_tensor *fj_softcap(fj_graph *g, fj_tensor *x, double cap) {
    return FJ_EMIT(g, &fj_op_softcap, &cap, x);
}
#endif
