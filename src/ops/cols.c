/* cols.c - chosen columns of x.  The gradient is added into the one of all columns made so far, in its
 * memory where nobody else reads it, so that the slices of one x cost one full width together. */
#include "ops/op.h"

typedef struct params {
    int64_t col0;
    int64_t cols; /* of the result: the slice forward, all of x backward */
} params;

FJ_CPU(cols) {
    const params *p = n->params;
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++)
        memcpy(fj_row(n->out[0], r), fj_row(n->in[0], r) + p->col0, (size_t)p->cols * sizeof(real));
}

/* in: dy, gradient of x so far or NULL */
FJ_CPU(cols_bwd) {
    const params *p = n->params;
    const fj_tensor *dy = n->in[0], *c = n->in[1];
    int64_t from, to, end = p->col0 + dy->cols;
    fj_team_split(t, dy->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        real *y = fj_row(n->out[0], r);
        if (c) {
            if (c->data != n->out[0]->data) memcpy(y, fj_row(c, r), (size_t)p->cols * sizeof *y);
            KERN(t)->add(y + p->col0, y + p->col0, fj_row(dy, r), dy->cols);
        } else {
            memset(y, 0, (size_t)p->col0 * sizeof *y);
            memcpy(y + p->col0, fj_row(dy, r), (size_t)dy->cols * sizeof *y);
            memset(y + end, 0, (size_t)(p->cols - end) * sizeof *y);
        }
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *x = n->in[0];
    if (p->col0 < 0 || p->cols < 0 || p->col0 > x->cols - p->cols)
        return fj_fail(e, FJ_EINVAL, "%lld columns from %lld on of %s, which has %lld",
                       (long long)p->cols, (long long)p->col0, x->name, (long long)x->cols);
    n->out[0]->rows = x->rows;
    n->out[0]->cols = p->cols;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    const params *p = n->params;
    if (fj_wants_grad(n, 0))
        dx[0] = FJ_EMIT(g, &fj_op_cols_bwd, (&(params){ p->col0, n->in[0]->cols }), dy[0], dx[0]);
}

const fj_op fj_op_cols = { .name = "cols",
                           .n_in = 1,
                           .n_out = 1,
                           .params = sizeof(params),
                           .by_rows = FJ_IN(0) | FJ_OUT(0),
                           .shape = shape,
                           .grad = grad,
                           FJ_FNS(cols) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *dy = n->in[0];
    if (p->col0 < 0 || p->col0 > p->cols - dy->cols)
        return fj_fail(e, FJ_EINVAL, "%lld columns from %lld on of %lld", (long long)dy->cols,
                       (long long)p->col0, (long long)p->cols);
    n->out[0]->rows = dy->rows;
    n->out[0]->cols = p->cols;
    return !n->in[1] || fj_same_shape(n->in[1], n->out[0], e);
}

const fj_op fj_op_cols_bwd = { .name = "cols_bwd",
                               .n_in = 2,
                               .n_out = 1,
                               .params = sizeof(params),
                               .share = 2,
                               .shape = shape_bwd,
                               FJ_FNS(cols_bwd) };

fj_tensor *fj_cols(fj_graph *g, fj_tensor *x, int64_t col0, int64_t cols) {
    if (x && col0 == 0 && cols == x->cols) return x;
    return FJ_EMIT(g, &fj_op_cols, (&(params){ col0, cols }), x);
}
#endif
