/* rope.c - rotary position: the table once per batch, the turn of every head, and its gradient, which is
 * the turn backwards.  A table narrower than a head turns the first values of the head alone. */
#include "ops/op.h"

#include <math.h>

typedef struct params {
    int heads;
    int sign; /* +1 forward, -1 gradient */
} params;

FJ_CPU(rope_table) {
    const int32_t *pos = n->in[0]->data;
    const int32_t *which = n->in[2]->data;
    real m = (real) * (const double *)n->params;
    int64_t half = n->in[1]->cols, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        real *y = fj_row(n->out[0], r);
        const real *inv = fj_row(n->in[1], which[r]);
        for (int64_t i = 0; i < half; i++) {
            real a = (real)pos[r] * inv[i];
            y[i] = (real)cos((double)a) * m;
            y[half + i] = (real)sin((double)a) * m;
        }
    }
}

FJ_CPU(rope) {
    const params *p = n->params;
    int64_t rot = n->in[1]->cols, hd = n->in[0]->cols / p->heads, from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) {
        const real *c = fj_row(n->in[1], r);
        for (int h = 0; h < p->heads; h++) {
            real *y = fj_row(n->out[0], r) + h * hd;
            const real *x = fj_row(n->in[0], r) + h * hd;
            KERN(t)->rope(y, x, c, c + rot / 2, rot, p->sign);
            if (y != x && hd > rot) memcpy(y + rot, x + rot, (size_t)(hd - rot) * sizeof *y);
        }
    }
}

#ifndef FJ_F64
static bool shape_table(fj_node *n, fj_err *e) {
    if (!fj_want(n->in[0], "positions", FJ_I32, 1, -1, e) ||
        !fj_want(n->in[2], "table of each row", FJ_I32, 1, n->in[0]->cols, e))
        return false;
    n->out[0]->rows = n->in[0]->cols;
    n->out[0]->cols = 2 * n->in[1]->cols;
    return true;
}

const fj_op fj_op_rope_table = { .name = "rope_table",
                                 .n_in = 3,
                                 .n_out = 1,
                                 .params = sizeof(double),
                                 .by_rows = FJ_OUT(0),
                                 .shape = shape_table,
                                 FJ_FNS(rope_table) };

static bool shape(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *x = n->in[0], *tab = n->in[1];
    if (p->heads < 1 || x->cols % p->heads || x->cols / p->heads < tab->cols || tab->cols % 2 ||
        x->rows != tab->rows)
        return fj_fail(
            e, FJ_EINVAL,
            "%s %lld x %lld has no %d heads for the table's %lld x %lld (an even width, at most a head)",
            x->name, (long long)x->rows, (long long)x->cols, p->heads, (long long)tab->rows,
            (long long)tab->cols);
    return fj_shape_like(n->out[0], x);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    params p = *(const params *)n->params;
    p.sign = -p.sign;
    if (fj_wants_grad(n, 0)) fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_rope, &p, dy[0], n->in[1]));
}

const fj_op fj_op_rope = { .name = "rope",
                           .n_in = 2,
                           .n_out = 1,
                           .params = sizeof(params),
                           .share = 1,
                           .by_rows = FJ_IN(0) | FJ_IN(1) | FJ_OUT(0),
                           .shape = shape,
                           .grad = grad,
                           FJ_FNS(rope) };

fj_tensor *fj_rope_table(fj_graph *g, fj_tensor *pos, fj_tensor *inv_freq, fj_tensor *which,
                         double mscale) {
    return FJ_EMIT(g, &fj_op_rope_table, &mscale, pos, inv_freq, which);
}

fj_tensor *fj_rope(fj_graph *g, fj_tensor *x, fj_tensor *table, int heads) {
    return FJ_EMIT(g, &fj_op_rope, (&(params){ heads, 1 }), x, table);
}
#endif
