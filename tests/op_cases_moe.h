/* op_cases_moe.h - cases of op_cases.h, which includes it: ops of experts. */
#ifndef FJ_TESTS_OP_CASES_MOE_H
#define FJ_TESTS_OP_CASES_MOE_H

/* ---- mixture of experts -------------------------------------------------------------------------- */
/* Rows, experts, choices of a row; experts from `used` on are chosen by nobody. */
typedef struct oc_moe {
    int64_t n, experts, k, used;
} oc_moe;

static FJ_UNUSED const oc_moe oc_moes[] = {
    { 1, 1, 1, 1 }, { 5, 4, 2, 4 },   { 7, 3, 3, 3 },
    { 9, 8, 2, 5 }, { 1, 16, 4, 16 }, { 33, 6, 3, 6 },
};

/* Logits no two of which are near each other, so that a small step changes no choice. */
static FJ_UNUSED fj_tensor *oc_logits(oc *c, int64_t n, int64_t experts, bool differ) {
    fj_tensor *t = oc_real(c, n, experts, differ);
    for (int64_t r = 0; r < n; r++) {
        double *row = c->arg[c->n_args - 1].v + r * experts;
        for (int64_t e = 0; e < experts;
             e++) { /* the next larger value, at a random place so far */
            int64_t at = (int64_t)fj_rng_below(&c->rng, (uint64_t)(e + 1));
            row[e] = row[at];
            row[at] = (float)(0.2 * (double)e + 0.1 * fj_rng_double(&c->rng));
        }
    }
    return t;
}

/* The plan of a random choice. */
static FJ_UNUSED fj_tensor *oc_plan(oc *c, const oc_moe *m) {
    int32_t *choice = fj_alloc((size_t)(m->n * m->k) * sizeof *choice), of[64];
    for (int64_t r = 0; r < m->n; r++) {
        for (int64_t e = 0; e < m->used; e++) of[e] = (int32_t)e;
        for (int64_t j = 0; j < m->k; j++) {
            int64_t at = j + (int64_t)fj_rng_below(&c->rng, (uint64_t)(m->used - j));
            choice[r * m->k + j] = of[at];
            of[at] = of[j];
        }
    }
    fj_tensor *t = oc_ints(c, m->n, m->k, choice);
    free(choice);
    return fj_moe_plan(c->g, t, (int)m->experts);
}

OC_CASE(route) {
    if (v >= 2 * (int)FJ_LEN(oc_moes)) return false;
    const oc_moe *m = &oc_moes[v / 2];
    oc_outs(c, fj_route(c->g, oc_logits(c, m->n, m->experts, true), (int)m->k, v % 2), 0);
    return true;
}

OC_CASE(route_dx) {
    if (v >= 2 * (int)FJ_LEN(oc_moes)) return false;
    const oc_moe *m = &oc_moes[v / 2];
    fj_tensor *x = oc_logits(c, m->n, m->experts, false), *w = fj_route(c->g, x, (int)m->k, v % 2);
    oc_out(c, FJ_EMIT(c->g, &fj_op_route_dx, w->node->params, x, w, w->node->out[1],
                      oc_vec(c, m->n, m->k, false)));
    return true;
}

OC_CASE(moe_plan) {
    int all = (int)FJ_LEN(oc_moes);
    if (v > all) return false;
    static const oc_moe many = { 700, 9, 3, 8 };
    oc_outs(c, oc_plan(c, v < all ? &oc_moes[v] : &many), 0);
    return true;
}

/* One width of whole eights. */
#define OC_MOE_COLS(v) ((v) == 0 ? 1 : (v) == 1 ? 40 : 35)

/* The last variants have weights, as their gradients do. */
OC_CASE(moe_gather) {
    int all = (int)FJ_LEN(oc_moes);
    if (v >= all + 1) return false;
    const oc_moe *m = &oc_moes[v < all ? v : 3];
    fj_tensor *plan = oc_plan(c, m), *x = oc_real(c, m->n, OC_MOE_COLS(v), true);
    oc_out(c, v < all ? fj_moe_gather(c->g, x, plan)
                      : FJ_EMIT(c->g, &fj_op_moe_gather, &m->k, x, plan, plan->node->out[1],
                                oc_vec(c, m->n, m->k, true)));
    return true;
}

OC_CASE(moe_combine) {
    int all = (int)FJ_LEN(oc_moes);
    if (v >= all + 1) return false;
    const oc_moe *m = &oc_moes[v < all ? v : 3];
    fj_tensor *plan = oc_plan(c, m), *y = oc_real(c, m->n * m->k, OC_MOE_COLS(v), true);
    oc_out(c, fj_moe_combine(c->g, y, v < all ? oc_vec(c, m->n, m->k, true) : NULL, plan));
    return true;
}

OC_CASE(moe_dot) {
    if (v >= (int)FJ_LEN(oc_moes)) return false;
    const oc_moe *m = &oc_moes[v];
    fj_tensor *plan = oc_plan(c, m), *a = oc_real(c, m->n, OC_MOE_COLS(v), false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_moe_dot, NULL, a, oc_real(c, m->n * m->k, a->cols, false),
                      plan->node->out[1]));
    return true;
}

OC_CASE(moe_bias) {
    if (v >= (int)FJ_LEN(oc_moes)) return false;
    const oc_moe *m = &oc_moes[v];
    fj_tensor *plan = oc_plan(c, m), *y = oc_real(c, m->n * m->k, OC_MOE_COLS(v), true);
    oc_out(c, fj_moe_bias(c->g, y, oc_vec(c, m->experts, y->cols, true), plan));
    return true;
}

OC_CASE(moe_bias_db) {
    if (v >= (int)FJ_LEN(oc_moes)) return false;
    const oc_moe *m = &oc_moes[v];
    fj_tensor *plan = oc_plan(c, m), *dy = oc_real(c, m->n * m->k, OC_MOE_COLS(v), false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_moe_bias_db, NULL, dy, plan->node->out[2]));
    return true;
}

/* As in ops/moe_linear.c. */
typedef struct oc_moe_params {
    double scale;
    int64_t most, row0, rows, k;
} oc_moe_params;

/* Experts with many slots, and with few and long rows, in every format: what devices cut into tiles. */
static FJ_UNUSED const oc_moe oc_moes_tall[] = { { 130, 5, 1, 4 },
                                                 { 290, 3, 2, 2 },
                                                 { 41, 7, 2, 4 } };

OC_CASE(moe_linear) {
    int all = (int)FJ_LEN(oc_moes);
    if (v < 2 * all) { /* F32, alone and added to something */
        const oc_moe *m = &oc_moes[v / 2];
        int64_t cols = v < 2 ? 1 : 17, k = v < 2 ? 1 : 9;
        fj_tensor *plan = oc_plan(c, m), *x = oc_real(c, m->n * m->k, k, true);
        fj_tensor *w = oc_weights(c, FJ_F32, m->experts, cols, k, true);
        oc_out(c, v % 2 ? fj_moe_linear_add(c->g, x, w, plan, oc_real(c, x->rows, cols, true), 0.5,
                                            0, m->n)
                        : fj_moe_linear(c->g, x, w, plan));
        return true;
    }
    v -= 2 * all;
    if (v == 0) { /* x and c are one, the weight is frozen: one gradient comes from two sides */
        const oc_moe *m = &oc_moes[1];
        fj_tensor *plan = oc_plan(c, m), *x = oc_real(c, m->n * m->k, 9, true);
        fj_tensor *w = oc_weights(c, FJ_F32, m->experts, 9, 9, false);
        oc_out(c, fj_moe_linear_add(c->g, x, w, plan, x, 0.7, 0, m->n));
        return true;
    }
    v--;
    if (v < all) { /* the slots of some rows; the others are c.  Forward alone. */
        const oc_moe *m = &oc_moes[v];
        fj_tensor *plan = oc_plan(c, m), *x = oc_real(c, m->n * m->k, 9, false);
        fj_tensor *w = oc_weights(c, FJ_F32, m->experts, 17, 9, false);
        oc_out(c, fj_moe_linear_add(c->g, x, w, plan, oc_real(c, x->rows, 17, false), 0.5, m->n / 3,
                                    m->n / 2));
        return true;
    }
    v -= all;
    int short_ones = 2 * (int)FJ_LEN(oc_formats);
    bool tall = v >= short_ones;
    if (v >= short_ones + 3 * (int)FJ_LEN(oc_formats)) return false;
    fj_dtype dt = oc_formats[tall ? (v - short_ones) / 3 : v / 2];
    c->panels = !tall && v % 2;
    oc_tol(c, dt);
    const oc_moe *m = tall ? &oc_moes_tall[v % 3] : &oc_moes[3];
    int64_t k = oc_whole(dt, !tall ? 96 : v % 3 < 2 ? 192 : 864);
    fj_tensor *plan = oc_plan(c, m), *x = oc_real(c, m->n * m->k, k, !tall);
    fj_tensor *w = oc_weights(c, dt, m->experts, tall ? 134 : 37, k, false);
    oc_out(c, tall ? fj_moe_linear_add(c->g, x, w, plan, oc_real(c, x->rows, 134, false), 0.5,
                                       v % 4 < 2 ? 0 : m->n / 4, v % 4 < 2 ? m->n : m->n / 3)
                   : fj_moe_linear(c->g, x, w, plan));
    return true;
}

OC_CASE(moe_linear_dx) {
    bool tall = v >= 2 * (int)FJ_LEN(oc_formats);
    if (v >= 4 * (int)FJ_LEN(oc_formats)) return false;
    c->panels = !tall && v % 2;
    c->tol = 1e-2; /* as bf16, where the weight is not F32 */
    const oc_moe *m = tall ? &oc_moes_tall[v % 2] : &oc_moes[1 + v % 5];
    oc_moe_params p = { .scale = 0.5, .most = m->n, .rows = m->n };
    fj_dtype dt = oc_formats[v % (2 * (int)FJ_LEN(oc_formats)) / 2];
    int64_t rows = tall ? 136 : 45, cols = oc_whole(dt, tall ? 160 : 96);
    fj_tensor *plan = oc_plan(c, m), *dy = oc_real(c, m->n * m->k, rows, false);
    fj_tensor *w = oc_weights(c, dt, m->experts, rows, cols, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_moe_linear_dx, &p, dy, w, plan->node->out[2],
                      v % 3 ? oc_real(c, dy->rows, cols, false) : NULL));
    return true;
}

OC_CASE(moe_linear_dw) {
    int all = (int)FJ_LEN(oc_moes);
    if (v >= all + (int)FJ_LEN(oc_moes_tall)) return false;
    const oc_moe *m = v < all ? &oc_moes[v] : &oc_moes_tall[v - all];
    oc_moe_params p = { .scale = 1.5, .most = m->n, .rows = m->n };
    c->tol = 1e-2;
    fj_tensor *plan = oc_plan(c, m), *dy = oc_real(c, m->n * m->k, v < all ? 33 : 136, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_moe_linear_dw, &p, dy,
                      oc_real(c, dy->rows, v < all ? 7 : 264, false), plan->node->out[2]));
    return true;
}

OC_CASE(col_sumsq) {
    static const int64_t shape[][2] = { { 1, 1 }, { 7, 33 }, { 300, 131 }, { 0, 5 }, { 70, 264 } };
    static const oc_moe experts = { 33, 6, 3, 5 };
    if (v > (int)FJ_LEN(shape)) return false;
    bool all = v < (int)FJ_LEN(shape);
    int64_t rows = all ? shape[v][0] : experts.n * experts.k, cols = all ? shape[v][1] : 70;
    fj_tensor *sums = oc_extern(c, all ? 1 : experts.experts, cols, true);
    oc_out(c, fj_col_sumsq(c->g, sums, oc_real(c, rows, cols, false),
                           all ? NULL : oc_plan(c, &experts)));
    return true;
}

#endif
