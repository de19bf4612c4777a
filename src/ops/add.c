/* add.c - a + b; x + bias on every row; col_sum, the bias' gradient; one, where gradients start. */
#include "ops/op.h"

FJ_CPU(add) {
    int64_t from, to, len = n->out[0]->rows * n->out[0]->cols;
    fj_team_split(t, len, 1024, &from, &to);
    const real *a = n->in[0]->data, *b = n->in[1]->data;
    KERN(t)->add((real *)n->out[0]->data + from, a + from, b + from, (int)(to - from));
}

FJ_CPU(add_bias) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++)
        KERN(t)->add(fj_row(n->out[0], r), fj_row(n->in[0], r), n->in[1]->data,
                     (int)n->in[0]->cols);
}

/* Threads own columns, rows are added in order: the same bits for any team. */
FJ_CPU(col_sum) {
    int64_t from, to;
    fj_team_split(t, n->in[0]->cols, 16, &from, &to);
    real *y = (real *)n->out[0]->data + from;
    memset(y, 0, (size_t)(to - from) * sizeof *y);
    for (int64_t r = 0; r < n->in[0]->rows; r++)
        KERN(t)->add(y, y, fj_row(n->in[0], r) + from, (int)(to - from));
}

FJ_CPU(one) {
    if (t->ith) return;
    real *y = n->out[0]->data;
    for (int64_t i = 0; i < n->out[0]->rows * n->out[0]->cols; i++) y[i] = 1;
}

#ifndef FJ_F64
static bool shape_add(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[1], e) && fj_shape_like(n->out[0], n->in[0]);
}

static void grad_add(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    for (int i = 0; i < 2; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], dy[0]);
}

const fj_op fj_op_add = { .name = "add",
                          .n_in = 2,
                          .n_out = 1,
                          .share = 1,
                          .shape = shape_add,
                          .grad = grad_add,
                          FJ_FNS(add) };

static bool shape_bias(fj_node *n, fj_err *e) {
    return fj_want(n->in[1], "bias", fj_real_of(n), 1, n->in[0]->cols, e) &&
           fj_shape_like(n->out[0], n->in[0]);
}

static void grad_bias(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0)) fj_grad_add(g, &dx[0], dy[0]);
    if (fj_wants_grad(n, 1)) fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_col_sum, NULL, dy[0]));
}

const fj_op fj_op_add_bias = { .name = "add_bias",
                               .n_in = 2,
                               .n_out = 1,
                               .share = 1,
                               .by_rows = FJ_IN(0) | FJ_OUT(0),
                               .shape = shape_bias,
                               .grad = grad_bias,
                               FJ_FNS(add_bias) };

static bool shape_col_sum(fj_node *n, fj_err *e) {
    (void)e;
    n->out[0]->dtype = fj_real_of(n);
    n->out[0]->rows = 1;
    n->out[0]->cols = n->in[0]->cols;
    return true;
}

const fj_op fj_op_col_sum = { .name = "col_sum",
                              .n_in = 1,
                              .n_out = 1,
                              .shape = shape_col_sum,
                              FJ_FNS(col_sum) };

static bool shape_one(fj_node *n, fj_err *e) {
    (void)e;
    return fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_one = { .name = "one", .n_in = 1, .n_out = 1, .shape = shape_one, FJ_FNS(one) };

fj_tensor *fj_add(fj_graph *g, fj_tensor *a, fj_tensor *b) {
    return FJ_EMIT(g, &fj_op_add, NULL, a, b);
}

fj_tensor *fj_add_bias(fj_graph *g, fj_tensor *x, fj_tensor *b) {
    return FJ_EMIT(g, &fj_op_add_bias, NULL, x, b);
}
#endif
