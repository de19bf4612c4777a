/* rmsnorm.c - y = w * x / rms(x), over each group of w's width in a row of x (a row, or the heads of
 * one), in memory a row of its own.   With r = 1/sqrt(mean(x^2) + eps):
 *     dx = r*(w*dy) - x * r^3/n * sum(x*w*dy)      dw = sum over rows of dy * x * r
 * r is computed again in backward: cheaper than keeping one more tensor alive. */
#include "ops/op.h"

/* Groups of d values in all of x. */
static int64_t groups(const fj_tensor *x, int64_t d) { return d ? x->rows * (x->cols / d) : 0; }

/* Where a thread widens a row that was kept in BF16. */
static real *row_of(const fj_team *t, int64_t d) { return (real *)t->scratch + t->ith * d; }

FJ_CPU(rmsnorm) {
    double eps = *(const double *)n->params;
    int64_t d = n->in[1]->cols, from, to;
    real *y = n->out[0]->data;
    fj_team_split(t, n->in[0]->rows, 1, &from, &to);
    int64_t each = d ? n->in[0]->cols / d : 0;
    for (int64_t r = from * each; r < to * each; r++) {
        const real *x = fj_wide(t, n->in[0], r * d, d, row_of(t, d));
        fj_put_kept(t, n->out[1], n->in[0], r * d, d);
        KERN(t)->rmsnorm(y + r * d, x, n->in[1]->data, d, (real)eps);
    }
}

/* in: x, w, dy */
FJ_CPU(rmsnorm_dx) {
    double eps = *(const double *)n->params;
    int64_t d = n->in[1]->cols, from, to;
    real *dx = n->out[0]->data;
    const real *dy = n->in[2]->data;
    fj_team_split(t, groups(n->in[0], d), 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *x = fj_wide(t, n->in[0], r * d, d, row_of(t, d));
        KERN(t)->rmsnorm_dx(dx + r * d, x, n->in[1]->data, dy + r * d, d, (real)eps);
    }
}

/* in: x, w, dy.  Chunks of 64 groups are summed apart and then in order: any team, the same bits. */
enum { CHUNK = 64 };
FJ_CPU(rmsnorm_dw) {
    double eps = *(const double *)n->params;
    const real *dy = n->in[2]->data;
    int64_t d = n->in[1]->cols, all = groups(n->in[0], d), chunks = (all + CHUNK - 1) / CHUNK, from,
            to;
    real *part = (real *)t->scratch + (n->in[0]->dtype == FJ_BF16 ? t->nth * d : 0);
    fj_team_split(t, chunks, 1, &from, &to);
    for (int64_t c = from; c < to; c++) {
        memset(part + c * d, 0, (size_t)d * sizeof *part);
        for (int64_t r = c * CHUNK; r < FJ_MIN(all, (c + 1) * CHUNK); r++)
            KERN(t)->rmsnorm_dw(part + c * d, fj_wide(t, n->in[0], r * d, d, row_of(t, d)),
                                dy + r * d, d, (real)eps);
    }
    fj_team_barrier(t);
    fj_team_split(t, d, 16, &from, &to);
    real *dw = (real *)n->out[0]->data + from;
    memset(dw, 0, (size_t)(to - from) * sizeof *dw);
    for (int64_t c = 0; c < chunks; c++) KERN(t)->add(dw, dw, part + c * d + from, to - from);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    if (!fj_want(w, "weight", fj_real_of(n), -1, -1, e)) return false;
    if (w->rows != 1 || (w->cols ? x->cols % w->cols : x->cols))
        return fj_fail(
            e, FJ_EINVAL,
            "weight (%s) is %lld x %lld, wanted one row whose width divides the %lld of %s",
            w->name, (long long)w->rows, (long long)w->cols, (long long)x->cols, x->name);
    return fj_shape_like(n->out[0], x);
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    return n->in[0]->dtype == FJ_BF16 ? (size_t)(o->threads * n->in[1]->cols) * sizeof(float) : 0;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_tensor *x = n->in[0], *w = n->in[1];
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_rmsnorm_dx, n->params, x, w, dy[0]));
    if (fj_wants_grad(n, 1))
        fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_rmsnorm_dw, n->params, x, w, dy[0]));
}

const fj_op fj_op_rmsnorm = { .name = "rmsnorm",
                              .n_in = 2,
                              .n_out = 2,
                              .keeps = 1,
                              .params = sizeof(double),
                              .cheap = true,
                              .by_rows = FJ_IN(0) | FJ_OUT(0) | FJ_OUT(1),
                              .shape = shape,
                              .grad = grad,
                              .scratch = scratch,
                              FJ_FNS(rmsnorm) };

static bool shape_dx(fj_node *n, fj_err *e) {
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_rmsnorm_dx = { .name = "rmsnorm_dx",
                                 .n_in = 3,
                                 .n_out = 1,
                                 .params = sizeof(double),
                                 .shape = shape_dx,
                                 .scratch = scratch,
                                 FJ_FNS(rmsnorm_dx) };

static bool shape_dw(fj_node *n, fj_err *e) {
    n->out[0]->dtype = fj_real_of(n);
    return fj_same_shape(n->in[0], n->in[2], e) && fj_shape_like(n->out[0], n->in[1]);
}

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    int64_t d = n->in[1]->cols;
    return scratch(n, o) +
           (size_t)((groups(n->in[0], d) + CHUNK - 1) / CHUNK * d) * (n->f64 ? 8 : 4);
}

const fj_op fj_op_rmsnorm_dw = { .name = "rmsnorm_dw",
                                 .n_in = 3,
                                 .n_out = 1,
                                 .params = sizeof(double),
                                 .shape = shape_dw,
                                 .scratch = scratch_dw,
                                 FJ_FNS(rmsnorm_dw) };

fj_tensor *fj_rmsnorm(fj_graph *g, fj_tensor *x, fj_tensor *w, double eps) {
    return FJ_EMIT(g, &fj_op_rmsnorm, &eps, x, w);
}
#endif
