/* gelu.c - y = gelu(x) and y = gelu(g) * u, in the tanh form; formulas: kernels.def */
#include "ops/op.h"

enum { PIECE = 1024 };

FJ_CPU(gelu) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real x[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        fj_put_kept(t, n->out[1], n->in[0], i, c);
        KERN(t)->gelu((real *)n->out[0]->data + i, fj_wide(t, n->in[0], i, c, x), c);
    }
}

/* in: x, dy */
FJ_CPU(gelu_bwd) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real x[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        KERN(t)->gelu_bwd((real *)n->out[0]->data + i, fj_wide(t, n->in[0], i, c, x),
                          (const real *)n->in[1]->data + i, c);
    }
}

FJ_CPU(geglu) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real g[PIECE], u[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        for (int k = 0; k < 2; k++) fj_put_kept(t, n->out[1 + k], n->in[k], i, c);
        KERN(t)->geglu((real *)n->out[0]->data + i, fj_wide(t, n->in[0], i, c, g),
                       fj_wide(t, n->in[1], i, c, u), c);
    }
}

/* in: gate, up, dy */
FJ_CPU(geglu_bwd) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from, c; i < to; i += c) {
        real g[PIECE], u[PIECE];
        c = FJ_MIN((int64_t)PIECE, to - i);
        KERN(t)->geglu_bwd((real *)n->out[0]->data + i, (real *)n->out[1]->data + i,
                           fj_wide(t, n->in[0], i, c, g), fj_wide(t, n->in[1], i, c, u),
                           (const real *)n->in[2]->data + i, c);
    }
}

#ifndef FJ_F64
static bool shape_gelu(fj_node *n, fj_err *e) {
    (void)e;
    return fj_shape_like(n->out[0], n->in[0]);
}

static void grad_gelu(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_gelu_bwd, NULL, n->in[0], dy[0]));
}

const fj_op fj_op_gelu = { .name = "gelu",
                           .n_in = 1,
                           .n_out = 2,
                           .keeps = 1,
                           .share = 1,
                           .cheap = true,
                           .shape = shape_gelu,
                           .grad = grad_gelu,
                           FJ_FNS(gelu) };

static bool shape_gelu_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_gelu_bwd = { .name = "gelu_bwd",
                               .n_in = 2,
                               .n_out = 1,
                               .share = 2,
                               .shape = shape_gelu_bwd,
                               FJ_FNS(gelu_bwd) };

static bool shape_geglu(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

static void grad_geglu(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *y = FJ_EMIT(g, &fj_op_geglu_bwd, NULL, n->in[0], n->in[1], dy[0]);
    if (!y) return;
    for (int i = 0; i < 2; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], y->node->out[i]);
}

const fj_op fj_op_geglu = { .name = "geglu",
                            .n_in = 2,
                            .n_out = 3,
                            .keeps = 2,
                            .share = 1,
                            .cheap = true,
                            .shape = shape_geglu,
                            .grad = grad_geglu,
                            FJ_FNS(geglu) };

static bool shape_geglu_bwd(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[0]) &&
           fj_shape_like(n->out[1], n->in[0]);
}

const fj_op fj_op_geglu_bwd = { .name = "geglu_bwd",
                                .n_in = 3,
                                .n_out = 2,
                                .share = 3,
                                .shape = shape_geglu_bwd,
                                FJ_FNS(geglu_bwd) };

fj_tensor *fj_gelu(fj_graph *g, fj_tensor *x) { return FJ_EMIT(g, &fj_op_gelu, NULL, x); }

fj_tensor *fj_geglu(fj_graph *g, fj_tensor *gate, fj_tensor *up) {
    return FJ_EMIT(g, &fj_op_geglu, NULL, gate, up);
}
#endif
