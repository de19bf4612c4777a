/* glu_oai.c - the gated activation of gpt-oss: gates and ups take turns in a row.  Formulas: kernels.def.
 * The kernels want them apart, so pairs pass through buffers that stay in the nearest cache. */
#include "ops/op.h"

typedef struct params {
    double alpha, limit;
} params;

enum { PIECE = 256 };

static void apart(real *g, real *u, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) g[i] = x[2 * i], u[i] = x[2 * i + 1];
}

FJ_CPU(glu_oai) {
    const params *p = n->params;
    const real *x = n->in[0]->data;
    real *y = n->out[0]->data, g[PIECE], u[PIECE];
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    for (int64_t i = from; i < to; i += PIECE) {
        int64_t k = FJ_MIN(PIECE, to - i);
        apart(g, u, x + 2 * i, k);
        KERN(t)->glu_oai(y + i, g, u, k, (real)p->alpha, (real)p->limit);
    }
}

/* in: gates and ups, dy */
FJ_CPU(glu_oai_bwd) {
    const params *p = n->params;
    const real *x = n->in[0]->data, *dy = n->in[1]->data;
    real *dx = n->out[0]->data, g[PIECE], u[PIECE], dg[PIECE], du[PIECE];
    int64_t from, to;
    fj_team_split(t, n->in[1]->rows * n->in[1]->cols, 1024, &from, &to);
    for (int64_t i = from; i < to; i += PIECE) {
        int64_t k = FJ_MIN(PIECE, to - i);
        apart(g, u, x + 2 * i, k);
        KERN(t)->glu_oai_bwd(dg, du, g, u, dy + i, k, (real)p->alpha, (real)p->limit);
        for (int64_t j = 0; j < k; j++) dx[2 * (i + j)] = dg[j], dx[2 * (i + j) + 1] = du[j];
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *x = n->in[0];
    if (x->cols % 2)
        return fj_fail(e, FJ_EINVAL,
                       "gates and ups in turn are an even number, %s has %lld columns", x->name,
                       (long long)x->cols);
    if (!(p->limit > 0))
        return fj_fail(e, FJ_EINVAL, "a limit of %g, wanted more than 0", p->limit);
    n->out[0]->rows = x->rows;
    n->out[0]->cols = x->cols / 2;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_glu_oai_bwd, n->params, n->in[0], dy[0]));
}

const fj_op fj_op_glu_oai = { .name = "glu_oai",
                              .n_in = 1,
                              .n_out = 1,
                              .params = sizeof(params),
                              .cheap = true,
                              .shape = shape,
                              .grad = grad,
                              FJ_FNS(glu_oai) };

static bool shape_bwd(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0];
    return fj_want(n->in[1], "gradient", x->dtype, x->rows, x->cols / 2, e) &&
           fj_shape_like(n->out[0], x);
}

const fj_op fj_op_glu_oai_bwd = { .name = "glu_oai_bwd",
                                  .n_in = 2,
                                  .n_out = 1,
                                  .params = sizeof(params),
                                  .shape = shape_bwd,
                                  FJ_FNS(glu_oai_bwd) };

fj_tensor *fj_glu_oai(fj_graph *g, fj_tensor *gate_up, double alpha, double limit) {
    return FJ_EMIT(g, &fj_op_glu_oai, (&(params){ alpha, limit }), gate_up);
}
#endif
