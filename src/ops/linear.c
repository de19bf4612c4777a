/* linear.c - rows times a weight, the one place where nearly all the work is (arithmetic: gemm.h).
 *
 *   y  = c + scale * x W^T       over rows [row0, row0 + rows of x) of c; c optional
 *   dx = scale * dy W            dw = scale * dy^T x            dc = dy
 * An adapter is two of these, so it has no op of its own: x A^T, then y + s * (x A^T) B^T. */
#include "ops/gemm.h"
#include "ops/op.h"

typedef struct params {
    double scale;
    int64_t row0;
    bool real; /* the result is F32 whatever x is: logits */
} params;

FJ_CPU(linear) {
    const fj_tensor *x = n->in[0], *c = n->n_in > 2 ? n->in[2] : NULL;
    const params *p = n->params;
    fj_tensor *y = n->out[0];
    fj_wmat w = fj_mat(n->in[1]);
    fj_start_from(t, y, c);
    FJ_R(fj_gemm_fwd)
    (t, x->rows, x->data, x->cols, &w, fj_row(y, p->row0), y->cols, (real)p->scale, c);
}

/* in: dy, W, gradient of x so far or NULL */
FJ_CPU(linear_dx) {
    const fj_tensor *dy = n->in[0], *c = n->n_in > 2 ? n->in[2] : NULL;
    const params *p = n->params;
    fj_tensor *dx = n->out[0];
    fj_wmat w = fj_mat(n->in[1]);
    fj_start_from(t, dx, c);
    FJ_R(fj_gemm_dx)
    (t, dx->rows, dy->data, dy->cols, &w, dx->data, dx->cols, (real)p->scale, c);
}

/* in: dy, x.  out: [N, K] */
FJ_CPU(linear_dw) {
    const params *p = n->params;
    const fj_tensor *dy = n->in[0], *x = n->in[1];
    FJ_R(fj_gemm_dw)
    (t, x->rows, dy->data, dy->cols, x->data, x->cols, n->out[0]->data, n->out[0]->rows,
     n->out[0]->cols, (real)p->scale, false);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1], *c = n->n_in > 2 ? n->in[2] : NULL;
    const params *p = n->params;
    if (x->cols != w->cols)
        return fj_fail(e, FJ_EINVAL, "weight %s is %lld x %lld, a row of %s has %lld values",
                       w->name, (long long)w->rows, (long long)w->cols, x->name,
                       (long long)x->cols);
    if (!c && p->row0)
        return fj_fail(e, FJ_EINVAL, "rows from %lld on of nothing", (long long)p->row0);
    if (c && (c->cols != w->rows || p->row0 < 0 || p->row0 > c->rows - x->rows))
        return fj_fail(e, FJ_EINVAL, "cannot add %lld x %lld at row %lld of %s, %lld x %lld",
                       (long long)x->rows, (long long)w->rows, (long long)p->row0, c->name,
                       (long long)c->rows, (long long)c->cols);
    n->out[0]->rows = c ? c->rows : x->rows;
    n->out[0]->cols = w->rows;
    if (p->real) n->out[0]->dtype = fj_real_of(n);
    return true;
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    fj_wmat w = fj_mat(n->in[1]);
    return fj_gemm_fwd_scratch(n->in[0]->rows, &w, o->threads, o->f32);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    const params *p = n->params;
    fj_tensor *x = n->in[0], *w = n->in[1];
    if (fj_wants_grad(n, 0)) {
        if (p->row0 == 0 && x->rows == dy[0]->rows) {
            dx[0] = FJ_EMIT(g, &fj_op_linear_dx, p, dy[0], w, dx[0]);
        } else {
            fj_graph_fail(g, FJ_EUNSUP, "gradients need an adapter on all rows of the batch");
        }
    }
    if (fj_wants_grad(n, 1)) fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_linear_dw, p, dy[0], x));
    if (n->n_in > 2 && fj_wants_grad(n, 2)) fj_grad_add(g, &dx[2], dy[0]);
}

const fj_op fj_op_linear = { .name = "linear",
                             .n_in = 3,
                             .n_out = 1,
                             .params = sizeof(params),
                             .share = 3,
                             .shape = shape,
                             .grad = grad,
                             .scratch = scratch,
                             FJ_FNS(linear) };

static bool shape_dx(fj_node *n, fj_err *e) {
    const fj_tensor *dy = n->in[0], *w = n->in[1], *c = n->n_in > 2 ? n->in[2] : NULL;
    if (dy->cols != w->rows)
        return fj_fail(e, FJ_EINVAL, "gradient %s has %lld columns, weight %s %lld rows", dy->name,
                       (long long)dy->cols, w->name, (long long)w->rows);
    n->out[0]->rows = dy->rows;
    n->out[0]->cols = w->cols;
    return !c || fj_same_shape(c, n->out[0], e);
}

static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    fj_wmat w = fj_mat(n->in[1]);
    return fj_gemm_dx_scratch(n->in[0]->rows, &w, o->threads, o->f32);
}

const fj_op fj_op_linear_dx = { .name = "linear_dx",
                                .n_in = 3,
                                .n_out = 1,
                                .params = sizeof(params),
                                .share = 3,
                                .shape = shape_dx,
                                .scratch = scratch_dx,
                                FJ_FNS(linear_dx) };

static bool shape_dw(fj_node *n, fj_err *e) {
    const fj_tensor *dy = n->in[0], *x = n->in[1];
    if (dy->rows != x->rows)
        return fj_fail(e, FJ_EINVAL, "gradient %s has %lld rows, %s has %lld", dy->name,
                       (long long)dy->rows, x->name, (long long)x->rows);
    n->out[0]->rows = dy->cols;
    n->out[0]->cols = x->cols;
    n->out[0]->dtype = fj_real_of(n);
    return true;
}

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    return fj_gemm_dw_scratch(n->in[1]->rows, n->out[0]->rows, n->out[0]->cols, o->threads, o->f32);
}

const fj_op fj_op_linear_dw = { .name = "linear_dw",
                                .n_in = 2,
                                .n_out = 1,
                                .params = sizeof(params),
                                .shape = shape_dw,
                                .scratch = scratch_dw,
                                FJ_FNS(linear_dw) };

fj_tensor *fj_linear(fj_graph *g, fj_tensor *x, fj_tensor *w) {
    return FJ_EMIT(g, &fj_op_linear, (&(params){ .scale = 1 }), x, w);
}

fj_tensor *fj_linear_real(fj_graph *g, fj_tensor *x, fj_tensor *w) {
    return FJ_EMIT(g, &fj_op_linear, (&(params){ .scale = 1, .real = true }), x, w);
}

fj_tensor *fj_linear_add(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *c, double scale,
                         int64_t row0) {
    return FJ_EMIT(g, &fj_op_linear, (&(params){ .scale = scale, .row0 = row0 }), x, w, c);
}
#endif
