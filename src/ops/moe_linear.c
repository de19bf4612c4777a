/* moe_linear.c - rows of slots times the weight of their expert: linear.c once per expert that has
 * slots (arithmetic: gemm.h), over the neighbours [start[e], start[e + 1]).
 *
 *   y_s = c_s + scale * x_s W_e^T        dx_s = scale * dy_s W_e        dW_e = scale * sum of dy_s^T x_s
 *
 * The threads work on one expert together and meet before the next, because they share its scratch. */
#include "ops/gemm.h"
#include "ops/op.h"

typedef struct params {
    double scale;
    int64_t most;       /* slots that an expert can get: a row chooses it once */
    int64_t row0, rows; /* only slots of these rows; all: 0 and most */
    int64_t k;          /* that a row chooses */
} params;

/* W_e of w, [experts * N, K]. */
static fj_wmat expert(const fj_tensor *w, int64_t experts, int64_t e) {
    int64_t n = experts ? w->rows / experts : 0, bytes = fj_dtype_size(w->dtype, n, w->cols);
#ifndef FJ_F64
    if (w->panels) bytes = fj_wmat_packed_bytes(w->dtype, n, w->cols);
#endif
    return (fj_wmat){ .dtype = w->dtype,
                      .panels = w->panels,
                      .mixed = w->mixed,
                      .data = w->data ? (const char *)w->data + e * bytes : NULL,
                      .n = n,
                      .k = w->cols };
}

/* The first of slots [from, to) of one expert whose row is `row` or a later one: they are in order. */
static int64_t first_of(const int32_t *order, int64_t k, int64_t from, int64_t to, int64_t row) {
    while (from < to) {
        int64_t m = (from + to) / 2;
        if (order[m] / k < row) from = m + 1;
        else to = m;
    }
    return from;
}

/* in: x, W, start, c or NULL, order */
FJ_CPU(moe_linear) {
    const fj_tensor *x = n->in[0], *c = n->in[3];
    const int32_t *start = n->in[2]->data;
    const params *p = n->params;
    fj_tensor *y = n->out[0];
    int64_t experts = n->in[2]->cols - 1;
    fj_start_from(t, y, c);
    for (int64_t e = 0; e < experts; e++) {
        int64_t s = start[e], end = start[e + 1];
        if (p->rows < p->most) {
            const int32_t *order = n->in[4]->data;
            s = first_of(order, p->k, s, end, p->row0);
            end = first_of(order, p->k, s, end, p->row0 + p->rows);
        }
        int64_t m = end - s;
        if (!m) continue;
        fj_wmat w = expert(n->in[1], experts, e);
        FJ_R(fj_gemm_fwd)
        (t, m, fj_row(x, s), x->cols, &w, fj_row(y, s), y->cols, (real)p->scale, c);
        fj_team_barrier(t);
    }
}

/* in: dy, W, start, gradient of x so far or NULL */
FJ_CPU(moe_linear_dx) {
    const fj_tensor *dy = n->in[0], *c = n->in[3];
    const int32_t *start = n->in[2]->data;
    const params *p = n->params;
    fj_tensor *dx = n->out[0];
    int64_t experts = n->in[2]->cols - 1;
    fj_start_from(t, dx, c);
    for (int64_t e = 0; e < experts; e++) {
        int64_t s = start[e], m = start[e + 1] - s;
        if (!m) continue;
        fj_wmat w = expert(n->in[1], experts, e);
        FJ_R(fj_gemm_dx)
        (t, m, fj_row(dy, s), dy->cols, &w, fj_row(dx, s), dx->cols, (real)p->scale, c);
        fj_team_barrier(t);
    }
}

/* in: dy, x, start.  out: [E * N, K], zero for experts without slots */
FJ_CPU(moe_linear_dw) {
    const fj_tensor *dy = n->in[0], *x = n->in[1];
    const int32_t *start = n->in[2]->data;
    const params *p = n->params;
    fj_tensor *dw = n->out[0];
    int64_t experts = n->in[2]->cols - 1;
    for (int64_t e = 0; e < experts; e++) {
        int64_t s = start[e], m = start[e + 1] - s;
        FJ_R(fj_gemm_dw)
        (t, m, fj_row(dy, s), dy->cols, fj_row(x, s), x->cols, fj_row(dw, e * dy->cols), dy->cols,
         x->cols, (real)p->scale, false);
        if (m) fj_team_barrier(t);
    }
}

#ifndef FJ_F64
/* start fits w, of E * N rows. */
static bool want_experts(const fj_tensor *w, const fj_tensor *start, fj_err *e) {
    if (!w) return fj_fail(e, FJ_EINVAL, "the weight is missing");
    if (!fj_want(start, "start", FJ_I32, 1, -1, e)) return false;
    int64_t experts = start->cols - 1;
    return (experts > 0 && w->rows % experts == 0) ||
           fj_fail(e, FJ_EINVAL, "weight %s has %lld rows, which %lld experts cannot share",
                   w->name, (long long)w->rows, (long long)experts);
}

static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1], *c = n->in[3];
    if (!want_experts(w, n->in[2], e)) return false;
    if (x->cols != w->cols)
        return fj_fail(e, FJ_EINVAL, "weight %s is %lld x %lld, a row of %s has %lld values",
                       w->name, (long long)w->rows, (long long)w->cols, x->name,
                       (long long)x->cols);
    const params *p = n->params;
    if (p->row0 < 0 || p->rows < 0 || p->row0 > p->most - p->rows)
        return fj_fail(e, FJ_EINVAL, "rows %lld to %lld of %lld", (long long)p->row0,
                       (long long)(p->row0 + p->rows), (long long)p->most);
    n->out[0]->rows = x->rows;
    n->out[0]->cols = w->rows / (n->in[2]->cols - 1);
    return fj_want(n->in[4], "order", FJ_I32, 1, x->rows, e) &&
           (!c || fj_same_shape(c, n->out[0], e));
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    fj_wmat w = expert(n->in[1], n->in[2]->cols - 1, 0);
    return fj_gemm_fwd_scratch(((const params *)n->params)->most, &w, o->threads, o->f32);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    const params *p = n->params;
    if (p->rows < p->most) {
        fj_graph_fail(g, FJ_EUNSUP, "gradients need an adapter on all rows of the batch");
        return;
    }
    if (fj_wants_grad(n, 0))
        dx[0] = FJ_EMIT(g, &fj_op_moe_linear_dx, n->params, dy[0], n->in[1], n->in[2], dx[0]);
    if (fj_wants_grad(n, 1))
        fj_grad_add(g, &dx[1],
                    FJ_EMIT(g, &fj_op_moe_linear_dw, n->params, dy[0], n->in[0], n->in[2]));
    if (fj_wants_grad(n, 3)) fj_grad_add(g, &dx[3], dy[0]);
}

const fj_op fj_op_moe_linear = { .name = "moe_linear",
                                 .n_in = 5,
                                 .n_out = 1,
                                 .params = sizeof(params),
                                 .share = 4,
                                 .shape = shape,
                                 .grad = grad,
                                 .scratch = scratch,
                                 FJ_FNS(moe_linear) };

static bool shape_dx(fj_node *n, fj_err *e) {
    const fj_tensor *dy = n->in[0], *w = n->in[1], *c = n->in[3];
    if (!want_experts(w, n->in[2], e)) return false;
    if (dy->cols != w->rows / (n->in[2]->cols - 1))
        return fj_fail(e, FJ_EINVAL, "gradient %s has %lld columns, an expert of %s %lld rows",
                       dy->name, (long long)dy->cols, w->name,
                       (long long)(w->rows / (n->in[2]->cols - 1)));
    n->out[0]->rows = dy->rows;
    n->out[0]->cols = w->cols;
    return !c || fj_same_shape(c, n->out[0], e);
}

static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    fj_wmat w = expert(n->in[1], n->in[2]->cols - 1, 0);
    return fj_gemm_dx_scratch(((const params *)n->params)->most, &w, o->threads, o->f32);
}

const fj_op fj_op_moe_linear_dx = { .name = "moe_linear_dx",
                                    .n_in = 4,
                                    .n_out = 1,
                                    .params = sizeof(params),
                                    .share = 4,
                                    .shape = shape_dx,
                                    .scratch = scratch_dx,
                                    FJ_FNS(moe_linear_dx) };

static bool shape_dw(fj_node *n, fj_err *e) {
    const fj_tensor *dy = n->in[0], *x = n->in[1];
    if (!fj_want(n->in[2], "start", FJ_I32, 1, -1, e)) return false;
    if (dy->rows != x->rows)
        return fj_fail(e, FJ_EINVAL, "gradient %s has %lld rows, %s has %lld", dy->name,
                       (long long)dy->rows, x->name, (long long)x->rows);
    n->out[0]->dtype = fj_real_of(n);
    n->out[0]->rows = dy->cols * (n->in[2]->cols - 1);
    n->out[0]->cols = x->cols;
    return true;
}

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    return fj_gemm_dw_scratch(((const params *)n->params)->most, n->in[0]->cols, n->in[1]->cols,
                              o->threads, o->f32);
}

const fj_op fj_op_moe_linear_dw = { .name = "moe_linear_dw",
                                    .n_in = 3,
                                    .n_out = 1,
                                    .params = sizeof(params),
                                    .shape = shape_dw,
                                    .scratch = scratch_dw,
                                    FJ_FNS(moe_linear_dw) };

fj_tensor *fj_moe_linear(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *plan) {
    if (!x || !plan) return NULL;
    return fj_moe_linear_add(g, x, w, plan, NULL, 1, 0, plan->node->in[0]->rows);
}

fj_tensor *fj_moe_linear_add(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *plan, fj_tensor *c,
                             double scale, int64_t row0, int64_t rows) {
    if (!x || !plan) return NULL;
    const fj_tensor *choice = plan->node->in[0];
    return FJ_EMIT(g, &fj_op_moe_linear,
                   (&(params){ scale, choice->rows, row0, rows, choice->cols }), x, w,
                   plan->node->out[2], c, plan);
}
#endif
