/* moe.c - the slots of a mixture of experts: their order, rows to slots, slots to rows, bias.
 *
 *   gather   y_s = w_s x_r          combine  y_r = sum over ranks of w_s x_s        dot  y_rj = a_r . b_s
 * with s = place[r * k + j].  gather and combine are each other's gradient to x (w optional in both: 1),
 * dot is their gradient to w. */
#include "ops/op.h"

/* in: choice [n, k].  out: order, place, start (ops.h).  A counting sort by one thread: its work is
 * nothing beside that of a single slot. */
FJ_CPU(moe_plan) {
    if (t->ith) return;
    const fj_tensor *c = n->in[0];
    const int32_t *of = c->data;
    int32_t *order = n->out[0]->data, *place = n->out[1]->data, *start = n->out[2]->data;
    int64_t slots = c->rows * c->cols, experts = n->out[2]->cols - 1;
    memset(start, 0, (size_t)(experts + 1) * sizeof *start);
    for (int64_t i = 0; i < slots; i++) start[of[i] + 1]++;
    for (int64_t e = 0; e < experts; e++) start[e + 1] += start[e];
    /* start[e] runs over the slots of e and ends where e + 1 begins; then all move up by one. */
    for (int64_t i = 0; i < slots; i++) {
        int32_t s = start[of[i]]++;
        order[s] = (int32_t)i;
        place[i] = s;
    }
    memmove(start + 1, start, (size_t)experts * sizeof *start);
    start[0] = 0;
}

/* in: x [n, d], order, place, w [n, k] or NULL */
FJ_CPU(moe_gather) {
    const fj_tensor *x = n->in[0], *w = n->in[3];
    const int32_t *order = n->in[1]->data;
    int64_t k = *(const int64_t *)n->params, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t s = from; s < to; s++) {
        const real *row = fj_row(x, order[s] / k);
        if (w)
            KERN(t)->scale(fj_row(n->out[0], s), row, ((const real *)w->data)[order[s]], x->cols);
        else memcpy(fj_row(n->out[0], s), row, (size_t)x->cols * sizeof *row);
    }
}

/* in: x [S, d], order, place, w [n, k] or NULL */
FJ_CPU(moe_combine) {
    const fj_tensor *x = n->in[0], *w = n->in[3];
    const int32_t *place = n->in[2]->data;
    int64_t k = *(const int64_t *)n->params, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        real *y = fj_row(n->out[0], r);
        for (int64_t i = r * k; i < (r + 1) * k; i++) {
            const real *row = fj_row(x, place[i]);
            real by = w ? ((const real *)w->data)[i] : 1;
            if (i == r * k) KERN(t)->scale(y, row, by, x->cols);
            else KERN(t)->axpy(y, row, by, x->cols);
        }
    }
}

/* in: a [n, d], b [S, d], place.  out: [n, k] */
FJ_CPU(moe_dot) {
    const int32_t *place = n->in[2]->data;
    fj_tensor *y = n->out[0];
    int64_t from, to;
    fj_team_split(t, y->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++)
        for (int64_t j = 0; j < y->cols; j++)
            fj_row(y, r)[j] = KERN(t)->dot(
                fj_row(n->in[0], r), fj_row(n->in[1], place[r * y->cols + j]), n->in[0]->cols);
}

/* in: y [S, N], b [E, N], start */
FJ_CPU(moe_bias) {
    const fj_tensor *y = n->in[0];
    const int32_t *start = n->in[2]->data;
    int64_t from, to, e = 0;
    fj_team_split(t, y->rows, 1, &from, &to);
    for (int64_t s = from; s < to; s++) {
        while (start[e + 1] <= s) e++;
        KERN(t)->add(fj_row(n->out[0], s), fj_row(y, s), fj_row(n->in[1], e), y->cols);
    }
}

/* in: dy [S, N], start.  out: [E, N].  Threads own columns, slots are added in order. */
FJ_CPU(moe_bias_db) {
    const int32_t *start = n->in[1]->data;
    fj_tensor *db = n->out[0];
    int64_t from, to;
    fj_team_split(t, db->cols, 16, &from, &to);
    if (from >= to) return;
    for (int64_t e = 0; e < db->rows; e++) {
        real *y = fj_row(db, e) + from;
        memset(y, 0, (size_t)(to - from) * sizeof *y);
        for (int64_t s = start[e]; s < start[e + 1]; s++)
            KERN(t)->add(y, y, fj_row(n->in[0], s) + from, to - from);
    }
}

#ifndef FJ_F64
static bool shape_plan(fj_node *n, fj_err *e) {
    const fj_tensor *c = n->in[0];
    int64_t experts = *(const int64_t *)n->params;
    if (!fj_want(c, "choice", FJ_I32, -1, -1, e)) return false;
    if (experts < 1 || experts >= INT32_MAX || c->rows * c->cols > INT32_MAX)
        return fj_fail(e, FJ_EINVAL, "%lld x %lld choices of %lld experts", (long long)c->rows,
                       (long long)c->cols, (long long)experts);
    for (int i = 0; i < 3; i++) {
        n->out[i]->dtype = FJ_I32;
        n->out[i]->rows = 1;
        n->out[i]->cols = i < 2 ? c->rows * c->cols : experts + 1;
    }
    return true;
}

const fj_op fj_op_moe_plan = { .name = "moe_plan",
                               .n_in = 1,
                               .n_out = 3,
                               .params = sizeof(int64_t),
                               .shape = shape_plan,
                               .cpu = fj_moe_plan_cpu_f32,
                               FJ_CUDA(moe_plan) };

/* The plan and the weights fit `rows` rows that choose k. */
static bool want_plan(const fj_node *n, int64_t rows, int64_t k, fj_err *e) {
    return fj_want(n->in[1], "order", FJ_I32, 1, rows * k, e) &&
           fj_want(n->in[2], "place", FJ_I32, 1, rows * k, e) &&
           (!n->in[3] || fj_want(n->in[3], "weights", fj_real_of(n), rows, k, e));
}

static bool shape_gather(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    int64_t k = *(const int64_t *)n->params;
    n->out[0]->rows = x->rows * k;
    n->out[0]->cols = x->cols;
    return want_plan(n, x->rows, k, e);
}

static bool shape_combine(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    int64_t k = *(const int64_t *)n->params;
    if (k < 1 || x->rows % k)
        return fj_fail(e, FJ_EINVAL,
                       "%s has %lld rows, which are not slots of rows that choose %lld", x->name,
                       (long long)x->rows, (long long)k);
    n->out[0]->rows = x->rows / k;
    n->out[0]->cols = x->cols;
    return want_plan(n, x->rows / k, k, e);
}

static void grad_gather(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0],
                    FJ_EMIT(g, &fj_op_moe_combine, n->params, dy[0], n->in[1], n->in[2], n->in[3]));
    if (fj_wants_grad(n, 3))
        fj_grad_add(g, &dx[3], FJ_EMIT(g, &fj_op_moe_dot, NULL, n->in[0], dy[0], n->in[2]));
}

static void grad_combine(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0],
                    FJ_EMIT(g, &fj_op_moe_gather, n->params, dy[0], n->in[1], n->in[2], n->in[3]));
    if (fj_wants_grad(n, 3))
        fj_grad_add(g, &dx[3], FJ_EMIT(g, &fj_op_moe_dot, NULL, dy[0], n->in[0], n->in[2]));
}

const fj_op fj_op_moe_gather = { .name = "moe_gather",
                                 .n_in = 4,
                                 .n_out = 1,
                                 .params = sizeof(int64_t),
                                 .shape = shape_gather,
                                 .grad = grad_gather,
                                 FJ_FNS(moe_gather) };

const fj_op fj_op_moe_combine = { .name = "moe_combine",
                                  .n_in = 4,
                                  .n_out = 1,
                                  .params = sizeof(int64_t),
                                  .shape = shape_combine,
                                  .grad = grad_combine,
                                  FJ_FNS(moe_combine) };

static bool shape_dot(fj_node *n, fj_err *e) {
    const fj_tensor *a = n->in[0], *b = n->in[1];
    n->out[0]->dtype = fj_real_of(n);
    n->out[0]->rows = a->rows;
    n->out[0]->cols = a->rows ? b->rows / a->rows : 0;
    return (fj_want(b, "slots", a->dtype, n->out[0]->cols * a->rows, a->cols, e) &&
            fj_want(n->in[2], "place", FJ_I32, 1, b->rows, e));
}

const fj_op fj_op_moe_dot = { .name = "moe_dot",
                              .n_in = 3,
                              .n_out = 1,
                              .shape = shape_dot,
                              FJ_FNS(moe_dot) };

static bool shape_bias(fj_node *n, fj_err *e) {
    const fj_tensor *y = n->in[0], *b = n->in[1];
    return fj_want(b, "bias", fj_real_of(n), -1, y->cols, e) &&
           fj_want(n->in[2], "start", FJ_I32, 1, b->rows + 1, e) && fj_shape_like(n->out[0], y);
}

static void grad_bias(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0)) fj_grad_add(g, &dx[0], dy[0]);
    if (fj_wants_grad(n, 1))
        fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_moe_bias_db, NULL, dy[0], n->in[2]));
}

const fj_op fj_op_moe_bias = { .name = "moe_bias",
                               .n_in = 3,
                               .n_out = 1,
                               .share = 1,
                               .shape = shape_bias,
                               .grad = grad_bias,
                               FJ_FNS(moe_bias) };

static bool shape_bias_db(fj_node *n, fj_err *e) {
    if (!fj_want(n->in[1], "start", FJ_I32, 1, -1, e)) return false;
    n->out[0]->dtype = fj_real_of(n);
    n->out[0]->rows = n->in[1]->cols - 1;
    n->out[0]->cols = n->in[0]->cols;
    return true;
}

const fj_op fj_op_moe_bias_db = { .name = "moe_bias_db",
                                  .n_in = 2,
                                  .n_out = 1,
                                  .shape = shape_bias_db,
                                  FJ_FNS(moe_bias_db) };

fj_tensor *fj_moe_plan(fj_graph *g, fj_tensor *choice, int experts) {
    return FJ_EMIT(g, &fj_op_moe_plan, &(int64_t){ experts }, choice);
}

fj_tensor *fj_moe_gather(fj_graph *g, fj_tensor *x, fj_tensor *plan) {
    if (!x || !plan) return NULL;
    return FJ_EMIT(g, &fj_op_moe_gather, &plan->node->in[0]->cols, x, plan, plan->node->out[1],
                   NULL);
}

fj_tensor *fj_moe_combine(fj_graph *g, fj_tensor *y, fj_tensor *w, fj_tensor *plan) {
    if (!y || !plan) return NULL;
    return FJ_EMIT(g, &fj_op_moe_combine, &plan->node->in[0]->cols, y, plan, plan->node->out[1], w);
}

fj_tensor *fj_moe_bias(fj_graph *g, fj_tensor *y, fj_tensor *b, fj_tensor *plan) {
    if (!y || !plan) return NULL;
    return FJ_EMIT(g, &fj_op_moe_bias, NULL, y, b, plan->node->out[2]);
}
#endif
