/* col_sumsq.c - the squares of every column of x, added to sums that outlive the graph; with a plan of
 * experts to the row of each one's slots.
 *
 * Threads own columns, and rows are added in order: the same bits for any team.  A batch is added up in
 * double before it meets the sums, which then round once for each batch. */
#include "ops/op.h"

/* in: sums (also the result) [E, cols], x [n, cols], start or NULL */
FJ_CPU(col_sumsq) {
    enum { BLOCK = 64 };
    const fj_tensor *x = n->in[1];
    const int32_t *start = n->in[2] ? n->in[2]->data : NULL;
    int64_t from, to;
    fj_team_split(t, x->cols, 16, &from, &to);
    for (int64_t e = 0; e < n->out[0]->rows; e++) {
        int64_t r0 = start ? start[e] : 0, r1 = start ? start[e + 1] : x->rows;
        real *y = fj_row(n->out[0], e);
        for (int64_t c = from; c < to && r0 < r1; c += BLOCK) {
            double sum[BLOCK] = { 0 };
            int64_t m = FJ_MIN(to - c, (int64_t)BLOCK);
            for (int64_t r = r0; r < r1; r++) {
                const real *v = fj_row(x, r) + c;
                for (int64_t j = 0; j < m; j++) sum[j] += (double)v[j] * (double)v[j];
            }
            for (int64_t j = 0; j < m; j++) y[c + j] = (real)((double)y[c + j] + sum[j]);
        }
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *sums = n->in[0], *x = n->in[1], *start = n->in[2];
    if (!x) return fj_fail(e, FJ_EINVAL, "the rows are missing");
    if (start && !fj_want(start, "start", FJ_I32, 1, -1, e)) return false;
    return fj_want(sums, "sums", fj_real_of(n), start ? start->cols - 1 : 1, x->cols, e) &&
           fj_shape_like(n->out[0], sums);
}

const fj_op fj_op_col_sumsq = { .name = "col_sumsq",
                                .n_in = 3,
                                .n_out = 1,
                                .share = 1,
                                .in_place = true,
                                .shape = shape,
                                FJ_FNS(col_sumsq) };

fj_tensor *fj_col_sumsq(fj_graph *g, fj_tensor *sums, fj_tensor *x, fj_tensor *plan) {
    return FJ_EMIT(g, &fj_op_col_sumsq, NULL, sums, x, plan ? plan->node->out[2] : NULL);
}
#endif
