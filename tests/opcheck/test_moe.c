/* test_moe.c - a mixture of experts as a whole: the plan and the choice against their definition, the
 * block against plain loops over rows and experts, and a row's bits alone, in a batch, on any team. */
#include "op_cases.h"

#include "ops/op.h"

static fj_dev *open_dev(int threads, bool f32) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = threads, .f32 = f32 }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

static int32_t *ints(fj_tensor *t) {
    fj_err e = { 0 };
    int32_t *v = fj_alloc((size_t)FJ_MAX(t->rows * t->cols, 1) * 4);
    FJ_OK_OR_FAIL(fj_tensor_get(t, v, &e), e);
    return v;
}

static void test_plan(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, false);
    for (int round = 0; round < 30; round++) {
        oc c;
        oc_open(&c, d, FJ_F32, fj_rng_u64(&r));
        oc_moe m = { 1 + (int64_t)fj_rng_below(&r, 40), 1 + (int64_t)fj_rng_below(&r, 20), 1, 1 };
        m.used = 1 + (int64_t)fj_rng_below(&r, (uint64_t)m.experts);
        m.k = 1 + (int64_t)fj_rng_below(&r, (uint64_t)m.used);
        fj_tensor *plan = oc_plan(&c, &m);
        oc_outs(&c, plan, 0);
        oc_run(&c);
        int32_t *of = c.arg[0].i, *order = ints(plan), *place = ints(plan->node->out[1]),
                *start = ints(plan->node->out[2]);
        int64_t slots = m.n * m.k, s = 0;
        for (int32_t e = 0; e < m.experts; e++) {
            assert_int_equal(start[e], s);
            for (int32_t i = 0; i < slots; i++) {
                if (of[i] != e) continue;
                assert_int_equal(order[s], i);
                assert_int_equal(place[i], s++);
            }
        }
        assert_int_equal(start[m.experts], slots);
        free(order), free(place), free(start);
        oc_close(&c);
    }
    fj_dev_close(d);
}

/* Equal logits go by index; what is not a number still gives experts that exist, none of them twice. */
static void test_choice(void **state) {
    (void)state;
    fj_dev *d = open_dev(1, false);
    static const double rows[][5] = {
        { 1, 2, 2, 0, 2 },           { 3, 3, 3, 3, 3 },
        { -1, -5, -1, -2, -1 },      { NAN, 1, NAN, 7, 2 },
        { NAN, NAN, NAN, NAN, NAN }, { -INFINITY, 2, INFINITY, 1, -INFINITY },
    };
    static const int32_t want[][3] = { { 1, 2, 4 }, { 0, 1, 2 }, { 0, 2, 4 } };
    enum { N = (int)FJ_LEN(rows) };
    oc c;
    oc_open(&c, d, FJ_F32, 1);
    fj_tensor *x = oc_real(&c, N, 5, false), *w = fj_route(c.g, x, 3, true);
    memcpy(c.arg[0].v, rows, sizeof rows);
    oc_outs(&c, w, 0);
    oc_run(&c);
    int32_t *got = ints(w->node->out[1]);
    assert_memory_equal(got, want, sizeof want);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < 3; j++) {
            int32_t e = got[3 * i + j];
            assert_true(e >= 0 && e < 5 && (j < 1 || e != got[3 * i]) &&
                        (j < 2 || e != got[3 * i + 1]));
        }
    double *v = oc_get(w);
    for (int j = 0; j < 3; j++) {
        assert_true(fabs(v[3 + j] - 1 / 3.) < 1e-6);
        assert_true(isnan(v[12 + j])); /* the fault shows */
    }
    free(got), free(v);
    oc_close(&c);
    fj_dev_close(d);
}

/* ---- the block ----------------------------------------------------------------------------------- */
typedef struct block {
    oc c;
    fj_tensor *x, *logits, *gate, *up, *down, *bias;
    fj_tensor *w, *y;
} block;

enum { E = 6, K = 2, D = 64, H = 128 };

/* y = sum over the chosen of w * (W_down swiglu(W_gate x + b, W_up x)).  Nobody chooses expert 4. */
static void build(block *b, fj_dev *d, fj_dtype as, fj_dtype dt, bool panels, int64_t rows,
                  bool among_chosen, bool train, uint64_t seed) {
    oc *c = &b->c;
    oc_open(c, d, as, seed);
    c->panels = panels;
    b->gate = oc_weights(c, dt, E, H, D, train);
    b->up = oc_weights(c, dt, E, H, D, train);
    b->down = oc_weights(c, dt, E, D, H, train);
    b->bias = oc_real(c, E, H, train);
    b->logits = oc_logits(c, rows, E, train);
    for (int64_t r = 0; r < rows; r++) c->arg[4].v[r * E + 4] = -9;
    b->x = oc_real(c, rows, D, train);
    fj_segment(c->g, 0);
    b->w = fj_route(c->g, b->logits, K, among_chosen);
    fj_tensor *plan = fj_moe_plan(c->g, b->w->node->out[1], E);
    fj_tensor *s = fj_moe_gather(c->g, b->x, plan);
    fj_tensor *gate = fj_moe_bias(c->g, fj_moe_linear(c->g, s, b->gate, plan), b->bias, plan);
    fj_tensor *h = fj_swiglu(c->g, gate, fj_moe_linear(c->g, s, b->up, plan));
    b->y = fj_moe_combine(c->g, fj_moe_linear(c->g, h, b->down, plan), b->w, plan);
    fj_segment(c->g, -1);
    if (c->g->err.code != FJ_OK) fail_msg("%s", c->g->err.msg);
    oc_out(c, b->y);
    oc_out(c, b->w);
}

static double mul_row(const double *w, const double *x, int n) {
    double s = 0;
    for (int i = 0; i < n; i++) s += w[i] * x[i];
    return s;
}

/* As the models' papers say it: probabilities of all experts, the K largest, divided by their sum. */
static void plain(const block *b, int64_t r, bool divide, double *y) {
    const double *gate = b->c.arg[0].v, *up = b->c.arg[1].v, *down = b->c.arg[2].v,
                 *bias = b->c.arg[3].v, *l = b->c.arg[4].v + r * E, *x = b->c.arg[5].v + r * D;
    double p[E], sum = 0, kept = 0;
    int chosen[K];
    for (int e = 0; e < E; e++) sum += p[e] = exp(l[e]);
    for (int e = 0; e < E; e++) p[e] /= sum;
    for (int j = 0; j < K; j++) {
        int best = -1;
        for (int e = 0; e < E; e++)
            if ((j < 1 || e != chosen[0]) && (best < 0 || p[e] > p[best])) best = e;
        chosen[j] = best;
        kept += p[best];
    }
    memset(y, 0, D * sizeof *y);
    for (int j = 0; j < K; j++) {
        int e = chosen[j];
        double h[H], by = divide ? p[e] / kept : p[e];
        assert_int_not_equal(e, 4);
        for (int i = 0; i < H; i++) {
            double g = mul_row(gate + (e * H + i) * D, x, D) + bias[e * H + i];
            h[i] = g / (1 + exp(-g)) * mul_row(up + (e * H + i) * D, x, D);
        }
        for (int i = 0; i < D; i++) y[i] += by * mul_row(down + (e * D + i) * H, h, H);
    }
}

static void test_against_loops(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, true);
    for (int v = 0; v < 8; v++) {
        block b;
        bool f64 = v & 1, divide = v & 2;
        int64_t rows = v & 4 ? 37 : 1;
        build(&b, d, f64 ? FJ_F64 : FJ_F32, FJ_F32, v & 4, rows, divide, false, fj_rng_u64(&r));
        oc_run(&b.c);
        double *got = oc_get(b.y), want[D];
        for (int64_t i = 0; i < rows; i++) {
            plain(&b, i, divide, want);
            for (int j = 0; j < D; j++)
                if (!(fabs(got[i * D + j] - want[j]) <= (f64 ? 1e-10 : 2e-3)))
                    fail_msg("variant %d, row %d, value %d: %.9g, not %.9g", v, (int)i, j,
                             got[i * D + j], want[j]);
        }
        free(got);
        oc_close(&b.c);
    }
    fj_dev_close(d);
}

/* The gradients of the block together, through a loss: against central differences along a random
 * direction, and the same bits when the block is made once more instead of kept. */
typedef struct training {
    block b;
    fj_tensor *loss, *grad[6];
} training;

static void open_training(training *t, fj_dev *d, bool again, uint64_t seed) {
    enum { ROWS = 9 };
    build(&t->b, d, FJ_F64, FJ_F32, false, ROWS, true, true, seed);
    oc *c = &t->b.c;
    fj_tensor *params[6];
    for (int i = 0; i < 6; i++) params[i] = c->arg[i].t;
    t->loss = fj_keep(fj_head_ce(c->g, t->b.y, oc_weight(c, FJ_F32, 5, D, false),
                                 oc_below(c, ROWS, 5), oc_positive(c, 1, ROWS), 1, 0));
    fj_backward(c->g, t->loss, 6, params, t->grad, &again, 1);
    if (c->g->err.code != FJ_OK) fail_msg("%s", c->g->err.msg);
    for (int i = 0; i < 6; i++) fj_keep(t->grad[i]);
}

static void test_gradient_of_block(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, false);
    uint64_t seed = fj_rng_u64(&r);
    training t, again;
    open_training(&t, d, false, seed);
    open_training(&again, d, true, seed);
    assert_true(again.b.c.g->n_nodes > t.b.c.g->n_nodes);
    oc_run(&t.b.c);
    oc_run(&again.b.c);
    double *grads[6];
    for (int i = 0; i < 6; i++) {
        int64_t n = t.grad[i]->rows * t.grad[i]->cols;
        double *other = oc_get(again.grad[i]);
        grads[i] = oc_get(t.grad[i]);
        assert_memory_equal(grads[i], other, (size_t)n * sizeof *other);
        free(other);
    }
    for (int i = 0; i < 6; i++) {
        oc_arg *a = &t.b.c.arg[i];
        int64_t n = a->t->rows * a->t->cols;
        double told = 0, l[2], *keep = a->v, *dir = oc_draw(&t.b.c, n);
        a->v = fj_alloc((size_t)n * sizeof *a->v);
        for (int64_t j = 0; j < n; j++) told += grads[i][j] * dir[j];
        for (int s = 0; s < 2; s++) {
            for (int64_t j = 0; j < n; j++) a->v[j] = keep[j] + (s ? -1e-6 : 1e-6) * dir[j];
            oc_run(&t.b.c);
            double *v = oc_get(t.loss);
            l[s] = *v;
            free(v);
        }
        double seen = (l[0] - l[1]) / 2e-6;
        if (!(fabs(seen - told) <= 1e-5 * (1 + fabs(told))) || told == 0)
            fail_msg("gradient %d along a direction: %.9g, differences say %.9g", i, told, seen);
        free(a->v);
        a->v = keep;
        free(dir);
        free(grads[i]);
    }
    oc_close(&t.b.c);
    oc_close(&again.b.c);
    fj_dev_close(d);
}

/* ---- same bits ----------------------------------------------------------------------------------- */
/* True when rows [row0, row0 + rows) of a batch of 40 come out with the bits of the whole batch. */
static bool same_rows(fj_dev *all_on, fj_dev *part_on, fj_dtype dt, bool panels, int64_t row0,
                      int64_t rows, uint64_t seed, const fj_op *planted) {
    enum { ALL = 40 };
    block a, b;
    build(&a, all_on, FJ_F32, dt, panels, ALL, true, false, seed);
    build(&b, part_on, FJ_F32, dt, !panels, rows, true, false, seed);
    for (size_t i = 0; planted && i < a.c.g->n_nodes; i++) {
        if (a.c.g->nodes[i]->op == &fj_op_moe_combine) a.c.g->nodes[i]->op = planted;
        if (b.c.g->nodes[i]->op == &fj_op_moe_combine) b.c.g->nodes[i]->op = planted;
    }
    for (int i = 3; i < 6; i++) { /* bias, logits, x: those of the batch */
        int64_t cols = a.c.arg[i].t->cols, from = i == 3 ? 0 : row0, n = i == 3 ? E : rows;
        memcpy(b.c.arg[i].v, a.c.arg[i].v + from * cols, (size_t)(n * cols) * sizeof(double));
    }
    oc_run(&a.c);
    oc_run(&b.c);
    double *x = oc_get(a.y), *y = oc_get(b.y), *v = oc_get(a.w), *w = oc_get(b.w);
    bool same = !memcmp(x + row0 * D, y, (size_t)rows * D * sizeof *x) &&
                !memcmp(v + row0 * K, w, (size_t)rows * K * sizeof *v);
    free(x), free(y), free(v), free(w);
    oc_close(&a.c);
    oc_close(&b.c);
    return same;
}

static void test_row_alone(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int f32 = 0; f32 < 2; f32++) {
        fj_dev *d[3];
        for (int i = 0; i < 3; i++) d[i] = open_dev(i + 1, f32);
        for (size_t f = 0; f < FJ_LEN(oc_formats); f++)
            /* formats of larger blocks are read by the same code as NF4 */
            for (int v = 0; D % fj_dtype_get(oc_formats[f])->block == 0 && v < 6; v++) {
                int64_t rows = v < 3 ? 1 : 1 + (int64_t)fj_rng_below(&r, 20),
                        row0 = (int64_t)fj_rng_below(&r, (uint64_t)(41 - rows));
                if (!same_rows(d[v % 3], d[(v + 1) % 3], oc_formats[f], v & 1, row0, rows,
                               fj_rng_u64(&r), NULL))
                    fail_msg("%s%s: rows %d.. (%d of them) have other bits than in a batch of 40",
                             fj_dtype_get(oc_formats[f])->name, f32 ? " in f32" : "", (int)row0,
                             (int)rows);
            }
        for (int i = 0; i < 3; i++) fj_dev_close(d[i]);
    }
}

/* Planted: the result of a row depends on its place in the batch, in the last bits of one value. */
static void planted_cpu(const fj_team *t, const fj_node *n) {
    fj_moe_combine_cpu_f32(t, n);
    fj_team_barrier(t);
    float *y = n->out[0]->data;
    for (int64_t r = 1; r < n->out[0]->rows && !t->ith; r += 2)
        y[r * n->out[0]->cols] *= 1.0000002f;
}

static void test_planted_bug_is_caught(void **state) {
    (void)state;
    fj_dev *d = open_dev(2, false);
    fj_op op = fj_op_moe_combine;
    op.cpu = planted_cpu;
    assert_true(same_rows(d, d, FJ_F32, false, 3, 1, fj_test_seed(), NULL));
    assert_false(same_rows(d, d, FJ_F32, false, 3, 1, fj_test_seed(), &op));
    fj_dev_close(d);
}

/* ---- experts without slots ------------------------------------------------------------------------ */
/* Their weights are not read (they may be NaN), their gradient is zero. */
static void test_unused_experts(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, false);
    const oc_moe m = { 9, 8, 2, 5 };
    enum { ROWS = 17, COLS = 33 };
    oc c;
    oc_open(&c, d, FJ_F32, fj_rng_u64(&r));
    fj_tensor *plan = oc_plan(&c, &m), *start = plan->node->out[2];
    fj_tensor *x = oc_real(&c, 18, COLS, false);
    fj_tensor *w = oc_weights(&c, FJ_F32, 8, ROWS, COLS, false);
    for (int i = 5 * ROWS * COLS; i < 8 * ROWS * COLS; i++) c.arg[2].v[i] = NAN;
    oc_moe_params p = { .scale = 1, .most = m.n, .rows = m.n };
    fj_tensor *y = fj_moe_linear(c.g, x, w, plan);
    oc_out(&c, y);
    oc_out(&c, FJ_EMIT(c.g, &fj_op_moe_linear_dx, &p, y, w, start, NULL));
    oc_out(&c, FJ_EMIT(c.g, &fj_op_moe_linear_dw, &p, y, x, start));
    oc_run(&c);
    for (int i = 0; i < 3; i++) {
        double *v = oc_get(c.out[i]);
        int64_t n = c.out[i]->rows * c.out[i]->cols;
        for (int64_t j = 0; j < n; j++) {
            assert_false(isnan(v[j]));
            if (i == 2 && j >= 5 * ROWS * COLS) assert_true(v[j] == 0);
        }
        free(v);
    }
    oc_close(&c);
    fj_dev_close(d);
}

/* ---- memory, mistakes ------------------------------------------------------------------------------ */
static void test_sharing(void **state) {
    (void)state;
    for (int op = 0; op < 2; op++)
        for (int later = 0; later < 2; later++) {
            fj_err e = { 0 };
            fj_graph *g = fj_graph_new();
            fj_tensor *plan = fj_moe_plan(g, fj_input(g, "choice", FJ_I32, 4, 2), 3);
            fj_tensor *a = fj_input(g, "a", FJ_F32, 8, 16), *x = fj_add(g, a, a);
            fj_tensor *y = op ? fj_moe_bias(g, x, fj_input(g, "b", FJ_F32, 3, 16), plan)
                              : fj_moe_linear_add(g, a, fj_input(g, "w", FJ_F32, 48, 16), plan, x,
                                                  1, 0, x->rows / 2);
            fj_keep(y);
            if (later) fj_keep(fj_add(g, x, a));
            FJ_OK_OR_FAIL(fj_graph_plan(g, &(fj_graph_opts){ .threads = 1 }, &e), e);
            assert_int_equal(y->store == x->store, !later);
            fj_graph_free(g);
        }
}

static void test_wrong_shapes(void **state) {
    (void)state;
    static const char *const parts[] = { "route: cannot choose 5 of the 4 experts of x",
                                         "moe_plan: choice (x) is F32",
                                         "moe_plan: 3 x 2 choices of 0 experts",
                                         "moe_gather: order",
                                         "moe_combine: y has 5 rows",
                                         "moe_linear: weight w has 7 rows, which 3 experts",
                                         "moe_linear: weight u is 6 x 5",
                                         "moe_bias: start (moe_plan) is 1 x 5, wanted 1 x 4" };
    for (int i = 0; i < (int)FJ_LEN(parts); i++) {
        fj_graph *g = fj_graph_new();
        fj_tensor *x = fj_input(g, "x", FJ_F32, 3, 4), *s = fj_input(g, "s", FJ_F32, 6, 4);
        fj_tensor *y = fj_input(g, "y", FJ_F32, 5, 4), *w = fj_input(g, "w", FJ_F32, 7, 4),
                  *u = fj_input(g, "u", FJ_F32, 6, 5);
        fj_tensor *choice = fj_input(g, "choice", FJ_I32, 3, 2), *plan = fj_moe_plan(g, choice, 3);
        fj_tensor *all[] = {
            i == 0 ? fj_route(g, x, 5, true) : NULL,
            i == 1 ? fj_moe_plan(g, x, 3) : NULL,
            i == 2 ? fj_moe_plan(g, choice, 0) : NULL,
            i == 3 ? fj_moe_gather(g, y, plan) : NULL,
            i == 4 ? fj_moe_combine(g, y, NULL, plan) : NULL,
            i == 5 ? fj_moe_linear(g, s, w, plan) : NULL,
            i == 6 ? fj_moe_linear(g, s, u, plan) : NULL,
            i == 7 ? fj_moe_bias(g, s, x, fj_moe_plan(g, choice, 4)) : NULL,
        };
        for (size_t k = 0; k < FJ_LEN(all); k++) assert_null(all[k]);
        if (strncmp(g->err.msg, parts[i], strlen(parts[i])))
            fail_msg("\"%s\", not \"%s...\"", g->err.msg, parts[i]);
        fj_graph_free(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),           cmocka_unit_test(test_choice),
        cmocka_unit_test(test_against_loops),  cmocka_unit_test(test_gradient_of_block),
        cmocka_unit_test(test_row_alone),      cmocka_unit_test(test_planted_bug_is_caught),
        cmocka_unit_test(test_unused_experts), cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_wrong_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
