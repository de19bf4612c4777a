/* swiglu.c - y = silu(g) * u.   dg = dy * u * s * (1 + g*(1 - s)), du = dy * g * s, s = sigmoid(g) */
#include "ops/op.h"

FJ_CPU(swiglu) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    const real *g = n->in[0]->data, *u = n->in[1]->data;
    KERN(t)->swiglu((real *)n->out[0]->data + from, g + from, u + from, (int)(to - from));
}

/* in: gate, up, dy */
FJ_CPU(swiglu_bwd) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    const real *g = n->in[0]->data, *u = n->in[1]->data, *dy = n->in[2]->data;
    KERN(t)->swiglu_bwd((real *)n->out[0]->data + from, (real *)n->out[1]->data + from, g + from,
                        u + from, dy + from, (int)(to - from));
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *y = FJ_EMIT(g, &fj_op_swiglu_bwd, NULL, n->in[0], n->in[1], dy[0]);
    if (!y) return;
    for (int i = 0; i < 2; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], y->node->out[i]);
}

const fj_op fj_op_swiglu = { .name = "swiglu",
                             .n_in = 2,
                             .n_out = 1,
                             .share = 1,
                             .cheap = true,
                             .shape = shape,
                             .grad = grad,
                             FJ_FNS(swiglu) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[0]) &&
           fj_shape_like(n->out[1], n->in[0]);
}

const fj_op fj_op_swiglu_bwd = { .name = "swiglu_bwd",
                                 .n_in = 3,
                                 .n_out = 2,
                                 .share = 3,
                                 .shape = shape_bwd,
                                 FJ_FNS(swiglu_bwd) };

fj_tensor *fj_swiglu(fj_graph *g, fj_tensor *gate, fj_tensor *up) {
    return FJ_EMIT(g, &fj_op_swiglu, NULL, gate, up);
}
#endif
