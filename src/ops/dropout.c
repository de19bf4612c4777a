/* dropout.c - inverted dropout (Srivastava et al. 2014).  The mask is a hash of seed and element, so it is
 * never stored: the gradient is the same op on dy. */
#include "base/rng.h"
#include "ops/op.h"

typedef struct params {
    double p;
    uint64_t seed;
} params;

FJ_CPU(dropout) {
    const params *p = n->params;
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    const real *x = n->in[0]->data;
    real *y = n->out[0]->data, s = (real)(1 / (1 - p->p));
    uint64_t limit = (uint64_t)(p->p * 0x1p32); /* the top 32 bits decide */
    for (int64_t i = from; i < to; i++)
        y[i] = fj_rng_at(p->seed, (uint64_t)i) >> 32 < limit ? 0 : x[i] * s;
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const params *p = n->params;
    if (!(p->p >= 0 && p->p < 1))
        return fj_fail(e, FJ_EINVAL, "probability %g is not in [0, 1)", p->p);
    return fj_shape_like(n->out[0], n->in[0]);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0)) fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_dropout, n->params, dy[0]));
}

const fj_op fj_op_dropout = { .name = "dropout",
                              .n_in = 1,
                              .n_out = 1,
                              .params = sizeof(params),
                              .share = 1,
                              .cheap = true,
                              .shape = shape,
                              .grad = grad,
                              FJ_FNS(dropout) };

fj_tensor *fj_dropout(fj_graph *g, fj_tensor *x, double p, uint64_t seed) {
    return p == 0 ? x : FJ_EMIT(g, &fj_op_dropout, (&(params){ p, seed }), x);
}
#endif
