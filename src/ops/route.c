/* route.c - which k of E experts a row goes to, and how much each counts.
 *
 * Experts are chosen by their logits, which is the order of their probabilities too: rounding of the
 * softmax makes no ties.  With p = softmax of the logits (of the chosen or of all E) and w_j = p[c_j]:
 *   dlogits_e = (e chosen as rank j ? w_j dw_j : 0) - p_e sum_i w_i dw_i
 * where p_e is 0 for experts outside the softmax. */
#include "ops/op.h"

#include <math.h>

#ifdef FJ_F64
#define EXP exp
#else
#define EXP expf
#endif

typedef struct params {
    int k;
    bool among_chosen;
} params;

/* The k largest of x[0..E), falling; of equals the first comes first. */
static void top(const real *x, int64_t E, int k, int32_t *best) {
    int n = 0;
    for (int64_t e = 0; e < E; e++) {
        if (n == k && !(x[e] > x[best[k - 1]])) continue;
        int at = n < k ? n++ : k - 1;
        for (; at > 0 && x[e] > x[best[at - 1]]; at--) best[at] = best[at - 1];
        best[at] = (int32_t)e;
    }
}

FJ_CPU(route) {
    const fj_tensor *x = n->in[0];
    const params *p = n->params;
    int64_t from, to;
    fj_team_split(t, x->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *row = fj_row(x, r);
        real *w = fj_row(n->out[0], r);
        int32_t *c = (int32_t *)n->out[1]->data + r * p->k;
        top(row, x->cols, p->k, c);
        double sum = 0;
        for (int j = 0; j < p->k; j++) sum += w[j] = EXP(row[c[j]] - row[c[0]]);
        if (!p->among_chosen) {
            sum = 0;
            for (int64_t e = 0; e < x->cols; e++) sum += EXP(row[e] - row[c[0]]);
        }
        for (int j = 0; j < p->k; j++) w[j] = (real)(w[j] / sum);
    }
}

/* in: logits, w, choice, dw */
FJ_CPU(route_dx) {
    const fj_tensor *x = n->in[0];
    const params *p = n->params;
    int64_t from, to;
    fj_team_split(t, x->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *row = fj_row(x, r), *w = fj_row(n->in[1], r), *dw = fj_row(n->in[3], r);
        const int32_t *c = (const int32_t *)n->in[2]->data + r * p->k;
        real *dx = fj_row(n->out[0], r);
        double s = 0;
        for (int j = 0; j < p->k; j++) s += (double)w[j] * (double)dw[j];
        memset(dx, 0, (size_t)x->cols * sizeof *dx);
        /* p_e of all experts: that of the first is known. */
        if (!p->among_chosen)
            for (int64_t e = 0; e < x->cols; e++)
                dx[e] = (real)(-s * (double)w[0] * (double)EXP(row[e] - row[c[0]]));
        for (int j = 0; j < p->k; j++) dx[c[j]] = (real)((double)w[j] * ((double)dw[j] - s));
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    const params *p = n->params;
    if (!x) return fj_fail(e, FJ_EINVAL, "the logits are missing");
    if (p->k < 1 || p->k > x->cols)
        return fj_fail(e, FJ_EINVAL, "cannot choose %d of the %lld experts of %s", p->k,
                       (long long)x->cols, x->name);
    for (int i = 0; i < 2; i++) {
        n->out[i]->rows = x->rows;
        n->out[i]->cols = p->k;
    }
    n->out[0]->dtype = fj_real_of(n);
    n->out[1]->dtype = FJ_I32;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0) && dy[0])
        fj_grad_add(g, &dx[0],
                    FJ_EMIT(g, &fj_op_route_dx, n->params, n->in[0], n->out[0], n->out[1], dy[0]));
}

const fj_op fj_op_route = { .name = "route",
                            .n_in = 1,
                            .n_out = 2,
                            .params = sizeof(params),
                            .shape = shape,
                            .grad = grad,
                            FJ_FNS(route) };

static bool shape_dx(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    return x && fj_want(n->in[2], "choice", FJ_I32, x->rows, ((const params *)n->params)->k, e) &&
           fj_same_shape(w, n->in[2], e) && fj_same_shape(n->in[3], w, e) &&
           fj_shape_like(n->out[0], x);
}

const fj_op fj_op_route_dx = { .name = "route_dx",
                               .n_in = 4,
                               .n_out = 1,
                               .params = sizeof(params),
                               .shape = shape_dx,
                               FJ_FNS(route_dx) };

fj_tensor *fj_route(fj_graph *g, fj_tensor *logits, int k, bool among_chosen) {
    return FJ_EMIT(g, &fj_op_route, (&(params){ k, among_chosen }), logits);
}
#endif
