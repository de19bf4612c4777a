/* embed.c - rows of a table by id; gradient: rows added back.
 *
 * In embed_dw each thread owns a range of columns and walks the ids in order, so that two rows with
 * one id are added in the same order for any number of threads. */
#include "ops/gemm.h"
#include "ops/op.h"

FJ_CPU(embed) {
    const fj_tensor *w = n->in[0];
    const int32_t *ids = n->in[1]->data;
    fj_wmat m = fj_mat(w);
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows, 1, &from, &to);
    for (int64_t r = from; r < to; r++) FJ_R(fj_wmat_row)(t, &m, ids[r], fj_row(n->out[0], r));
}

/* in: table (its shape), ids, dy */
FJ_CPU(embed_dw) {
    const fj_tensor *dy = n->in[2];
    const int32_t *ids = n->in[1]->data;
    fj_tensor *dw = n->out[0];
    int64_t from, to;
    fj_team_split(t, dw->cols, 16, &from, &to);
    if (from >= to) return;
    for (int64_t r = 0; r < dw->rows; r++)
        memset(fj_row(dw, r) + from, 0, (size_t)(to - from) * sizeof(real));
    for (int64_t r = 0; r < dy->rows; r++) {
        real *y = fj_row(dw, ids[r]) + from;
        KERN(t)->add(y, y, fj_row(dy, r) + from, (int)(to - from));
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    if (!fj_want(n->in[1], "ids", FJ_I32, 1, -1, e)) return false;
    n->out[0]->dtype = n->f64 ? FJ_F64 : *(const fj_dtype *)n->params;
    n->out[0]->rows = n->in[1]->cols;
    n->out[0]->cols = n->in[0]->cols;
    return true;
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_embed_dw, NULL, n->in[0], n->in[1], dy[0]));
}

const fj_op fj_op_embed = { .name = "embed",
                            .n_in = 2,
                            .n_out = 1,
                            .params = sizeof(fj_dtype), /* of the result: activations begin here */
                            .by_rows = FJ_OUT(0),
                            .shape = shape,
                            .grad = grad,
                            FJ_FNS(embed) };

static bool shape_dw(fj_node *n, fj_err *e) {
    n->out[0]->dtype = fj_real_of(n);
    return fj_want(n->in[2], "gradient", n->in[2]->dtype, n->in[1]->cols, n->in[0]->cols, e) &&
           fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_embed_dw = { .name = "embed_dw",
                               .n_in = 3,
                               .n_out = 1,
                               .shape = shape_dw,
                               FJ_FNS(embed_dw) };

fj_tensor *fj_embed(fj_graph *g, fj_tensor *table, fj_tensor *ids) {
    return FJ_EMIT(g, &fj_op_embed, &g->act, table, ids);
}
#endif
