/* layernorm.c - y = w * h + b, h = (x - mean) * r, r = 1/sqrt(variance + eps), over each row of x.
 *     g = w*dy    dx = r * (g - mean(g) - h * mean(g*h))    dw = sum over rows of dy * h    db = sum of dy
 * Mean and r are computed again in backward: cheaper than keeping them. */
#include "ops/op.h"

/* Where a thread widens a row that was kept in BF16. */
static real *row_of(const fj_team *t, int64_t d) { return (real *)t->scratch + t->ith * d; }

FJ_CPU(layernorm) {
    double eps = *(const double *)n->params;
    const real *b = n->in[2] ? n->in[2]->data : NULL;
    int64_t d = n->in[0]->cols, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *x = fj_wide(t, n->in[0], r * d, d, row_of(t, d));
        fj_put_kept(t, n->out[1], n->in[0], r * d, d);
        KERN(t)->layernorm(fj_row(n->out[0], r), x, n->in[1]->data, b, d, (real)eps);
    }
}

/* in: x, w, dy */
FJ_CPU(layernorm_dx) {
    double eps = *(const double *)n->params;
    int64_t d = n->in[0]->cols, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *x = fj_wide(t, n->in[0], r * d, d, row_of(t, d));
        KERN(t)->layernorm_dx(fj_row(n->out[0], r), x, n->in[1]->data, fj_row(n->in[2], r), d,
                              (real)eps);
    }
}

/* in: x, w, dy.  Chunks of 64 rows are summed apart and then in order: any team, the same bits. */
enum { CHUNK = 64 };
FJ_CPU(layernorm_dw) {
    double eps = *(const double *)n->params;
    const fj_tensor *x = n->in[0];
    int64_t chunks = (x->rows + CHUNK - 1) / CHUNK, d = x->cols, from, to;
    real *part = (real *)t->scratch + (x->dtype == FJ_BF16 ? t->nth * d : 0);
    fj_team_split(t, chunks, 1, &from, &to);
    for (int64_t c = from; c < to; c++) {
        memset(part + c * d, 0, (size_t)d * sizeof *part);
        for (int64_t r = c * CHUNK; r < FJ_MIN(x->rows, (c + 1) * CHUNK); r++)
            KERN(t)->layernorm_dw(part + c * d, fj_wide(t, x, r * d, d, row_of(t, d)),
                                  fj_row(n->in[2], r), d, (real)eps);
    }
    fj_team_barrier(t);
    fj_team_split(t, d, 16, &from, &to);
    real *dw = (real *)n->out[0]->data + from;
    memset(dw, 0, (size_t)(to - from) * sizeof *dw);
    for (int64_t c = 0; c < chunks; c++) KERN(t)->add(dw, dw, part + c * d + from, to - from);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    return fj_want(n->in[1], "weight", fj_real_of(n), 1, x->cols, e) &&
           (!n->in[2] || fj_want(n->in[2], "bias", fj_real_of(n), 1, x->cols, e)) &&
           fj_shape_like(n->out[0], x);
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    return n->in[0]->dtype == FJ_BF16 ? (size_t)(o->threads * n->in[0]->cols) * sizeof(float) : 0;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *x = n->in[0], *w = n->in[1];
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_layernorm_dx, n->params, x, w, dy[0]));
    if (fj_wants_grad(n, 1))
        fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_layernorm_dw, n->params, x, w, dy[0]));
    if (fj_wants_grad(n, 2)) fj_grad_add(g, &dx[2], FJ_EMIT(g, &fj_op_col_sum, NULL, dy[0]));
}

const fj_op fj_op_layernorm = { .name = "layernorm",
                                .n_in = 3,
                                .n_out = 2,
                                .keeps = 1,
                                .params = sizeof(double),
                                .cheap = true,
                                .shape = shape,
                                .grad = grad,
                                .scratch = scratch,
                                FJ_FNS(layernorm) };

static bool shape_dx(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_layernorm_dx = { .name = "layernorm_dx",
                                   .n_in = 3,
                                   .n_out = 1,
                                   .params = sizeof(double),
                                   .shape = shape_dx,
                                   .scratch = scratch,
                                   FJ_FNS(layernorm_dx) };

static bool shape_dw(fj_node *n, fj_err *e) {
    n->out[0]->dtype = fj_real_of(n);
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[1]);
}

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    return scratch(n, o) +
           (size_t)((n->in[0]->rows + CHUNK - 1) / CHUNK * n->in[0]->cols) * (n->f64 ? 8 : 4);
}

const fj_op fj_op_layernorm_dw = { .name = "layernorm_dw",
                                   .n_in = 3,
                                   .n_out = 1,
                                   .params = sizeof(double),
                                   .shape = shape_dw,
                                   .scratch = scratch_dw,
                                   FJ_FNS(layernorm_dw) };

fj_tensor *fj_layernorm(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *b, double eps) {
    return FJ_EMIT(g, &fj_op_layernorm, &eps, x, w, b);
}
#endif
