/* swiglu.c - y = silu(g) * u.   dg = dy * u * s * (1 + g*(1 - s)), du = dy * g * s, s = sigmoid(g) */
#include "ops/op.h"

enum { PIECE = 1024 };

FJ_CPU(swiglu) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real g[PIECE], u[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        for (int k = 0; k < 2; k++) fj_put_kept(t, n->out[1 + k], n->in[k], i, c);
        KERN(t)->swiglu((real *)n->out[0]->data + i, fj_wide(t, n->in[0], i, c, g),
                        fj_wide(t, n->in[1], i, c, u), c);
    }
}

/* in: gate, up, dy */
FJ_CPU(swiglu_bwd) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real g[PIECE], u[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        KERN(t)->swiglu_bwd((real *)n->out[0]->data + i, (real *)n->out[1]->data + i,
                            fj_wide(t, n->in[0], i, c, g), fj_wide(t, n->in[1], i, c, u),
                            (const real *)n->in[2]->data + i, c);
    }
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
                             .n_out = 3,
                             .keeps = 2,
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
