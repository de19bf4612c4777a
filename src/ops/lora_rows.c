/* lora_rows.c - several adapters in one batch, each for rows of its own (serving):
 *
 *   lora_down: t[rows of g, col_g + i] = x A_g^T        lora_up: y[rows of g] += scale_g * t B_g^T
 *
 * Bits: those of linear and linear_add for each adapter.  Other rows of y pass; values of t that are no
 * adapter's are not defined.  A and B are weights of somebody else, so they are no inputs of the node.  A t
 * can be of several projections of one x, side by side; it comes before their products with the weights,
 * which need not wait for it.  Not differentiable: training has one adapter for all rows. */
#include "ops/gemm.h"
#include "ops/op.h"

typedef struct params {
    int n;
    const fj_lora_rows *part; /* [n], in the graph's arena */
    int64_t cols;             /* of t */
} params;

FJ_CPU(lora_down) {
    const params *p = n->params;
    const fj_tensor *x = n->in[0], *to = n->out[0];
    for (int i = 0; i < p->n; i++) {
        const fj_lora_rows *g = &p->part[i];
        fj_wmat a = fj_mat(g->a);
        FJ_R(fj_gemm_fwd)
        (t, g->rows, fj_row(x, g->row0), x->cols, &a, fj_row(to, g->row0) + g->col, to->cols, 1,
         false);
        fj_team_barrier(t);
    }
}

/* in: y (also the result), t */
FJ_CPU(lora_up) {
    const params *p = n->params;
    const fj_tensor *y = n->out[0], *low = n->in[1];
    for (int i = 0; i < p->n; i++) {
        const fj_lora_rows *g = &p->part[i];
        fj_wmat b = fj_mat(g->b);
        FJ_R(fj_gemm_fwd)
        (t, g->rows, fj_row(low, g->row0) + g->col, low->cols, &b, fj_row(y, g->row0), y->cols,
         (real)g->scale, true);
        fj_team_barrier(t);
    }
}

#ifndef FJ_F64
static bool shape_down(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *x = n->in[0];
    for (int i = 0; i < p->n; i++) {
        const fj_lora_rows *g = &p->part[i];
        if (g->a->cols != x->cols || g->row0 < 0 || g->rows < 0 || g->row0 > x->rows - g->rows ||
            g->col < 0 || g->col > p->cols - g->a->rows)
            return fj_fail(e, FJ_EINVAL, "adapter %d: A %lld x %lld for rows %lld..%lld of %s", i,
                           (long long)g->a->rows, (long long)g->a->cols, (long long)g->row0,
                           (long long)(g->row0 + g->rows), x->name);
    }
    n->out[0]->rows = x->rows;
    n->out[0]->cols = p->cols;
    return true;
}

static bool shape_up(fj_node *n, fj_err *e) {
    const params *p = n->params;
    const fj_tensor *y = n->in[0], *t = n->in[1];
    for (int i = 0; i < p->n; i++) {
        const fj_lora_rows *g = &p->part[i];
        if (g->b->rows != y->cols || g->row0 < 0 || g->rows < 0 || g->row0 > y->rows - g->rows ||
            g->col < 0 || g->col > t->cols - g->b->cols || t->rows != y->rows)
            return fj_fail(e, FJ_EINVAL, "adapter %d: B %lld x %lld for rows %lld..%lld of %s", i,
                           (long long)g->b->rows, (long long)g->b->cols, (long long)g->row0,
                           (long long)(g->row0 + g->rows), y->name);
    }
    return fj_shape_like(n->out[0], y);
}

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o, bool up) {
    const params *p = n->params;
    size_t most = 0;
    for (int i = 0; i < p->n; i++) {
        fj_wmat w = fj_mat(up ? p->part[i].b : p->part[i].a);
        size_t s = fj_gemm_fwd_scratch(p->part[i].rows, &w, o->threads, o->f32);
        most = FJ_MAX(most, s);
    }
    return most;
}
static size_t scratch_down(const fj_node *n, const fj_graph_opts *o) {
    return scratch_of(n, o, false);
}
static size_t scratch_up(const fj_node *n, const fj_graph_opts *o) {
    return scratch_of(n, o, true);
}

const fj_op fj_op_lora_down = { .name = "lora_down",
                                .n_in = 1,
                                .n_out = 1,
                                .params = sizeof(params),
                                .shape = shape_down,
                                .scratch = scratch_down,
                                FJ_FNS(lora_down) };

const fj_op fj_op_lora_up = { .name = "lora_up",
                              .n_in = 2,
                              .n_out = 1,
                              .params = sizeof(params),
                              .share = 1,
                              .in_place = true,
                              .shape = shape_up,
                              .scratch = scratch_up,
                              FJ_FNS(lora_up) };

fj_tensor *fj_lora_down(fj_graph *g, fj_tensor *x, int n, const fj_lora_rows *part, int64_t cols) {
    return FJ_EMIT(g, &fj_op_lora_down, (&(params){ n, part, cols }), x);
}

fj_tensor *fj_lora_up(fj_graph *g, fj_tensor *y, fj_tensor *t, int n, const fj_lora_rows *part) {
    return FJ_EMIT(g, &fj_op_lora_up, (&(params){ n, part, 0 }), y, t);
}
#endif
