/* gather.c - chosen rows of x; the gradient puts them back and zeroes the rest. */
#include "ops/op.h"

FJ_CPU(gather) {
    const int32_t *idx = n->in[1]->data;
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++)
        memcpy(fj_row(n->out[0], r), fj_row(n->in[0], idx[r]),
               (size_t)n->in[0]->cols * sizeof(real));
}

/* in: dy [m, d], idx; params: rows.  Threads own columns, so that no order of rows matters. */
FJ_CPU(scatter) {
    const int32_t *idx = n->in[1]->data;
    fj_tensor *y = n->out[0];
    int64_t from, to;
    fj_team_split(t, y->cols, 16, &from, &to);
    if (from >= to) return;
    size_t bytes = (size_t)(to - from) * sizeof(real);
    for (int64_t r = 0; r < y->rows; r++) memset(fj_row(y, r) + from, 0, bytes);
    for (int64_t r = 0; r < n->in[0]->rows; r++)
        memcpy(fj_row(y, idx[r]) + from, fj_row(n->in[0], r) + from, bytes);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    if (!fj_want(n->in[1], "indices", FJ_I32, 1, -1, e)) return false;
    n->out[0]->rows = n->in[1]->cols;
    n->out[0]->cols = n->in[0]->cols;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_scatter, &n->in[0]->rows, dy[0], n->in[1]));
}

const fj_op fj_op_gather = { .name = "gather",
                             .n_in = 2,
                             .n_out = 1,
                             .by_rows = FJ_OUT(0),
                             .shape = shape,
                             .grad = grad,
                             FJ_FNS(gather) };

static bool shape_scatter(fj_node *n, fj_err *e) {
    if (!fj_want(n->in[1], "indices", FJ_I32, 1, n->in[0]->rows, e)) return false;
    n->out[0]->rows = *(const int64_t *)n->params;
    n->out[0]->cols = n->in[0]->cols;
    return true;
}

const fj_op fj_op_scatter = { .name = "scatter",
                              .n_in = 2,
                              .n_out = 1,
                              .params = sizeof(int64_t),
                              .shape = shape_scatter,
                              FJ_FNS(scatter) };

fj_tensor *fj_gather(fj_graph *g, fj_tensor *x, fj_tensor *idx) {
    return FJ_EMIT(g, &fj_op_gather, NULL, x, idx);
}
#endif
