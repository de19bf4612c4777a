/* test_grad.c - the gradient of every differentiable op against central differences, in f64.
 *
 * The loss is the sum of the op's result times fixed random numbers (`probe`, an op of this file).
 * (loss(x + h d) - loss(x - h d)) / 2h is compared with the dot product of gradient and d, for single
 * elements and for random directions d of every differentiable input.  Then the same gradients in f32
 * against those of f64.  The list comes from ops.def: an op without a case does not compile. */
#include "op_cases.h"

#include "ops/op.h"

/* ---- probe: [1, 1] = sum(x * w); gradient w * dy ------------------------------------------------- */
static void probe_f64(const fj_team *t, const fj_node *n) {
    if (t->ith) return;
    const double *x = n->in[0]->data, *w = n->in[1]->data;
    double s = 0;
    for (int64_t i = 0; i < n->in[0]->rows * n->in[0]->cols; i++) s += x[i] * w[i];
    *(double *)n->out[0]->data = s;
}

static void probe_f32(const fj_team *t, const fj_node *n) {
    if (t->ith) return;
    const float *x = n->in[0]->data, *w = n->in[1]->data;
    double s = 0;
    for (int64_t i = 0; i < n->in[0]->rows * n->in[0]->cols; i++) s += (double)x[i] * (double)w[i];
    *(float *)n->out[0]->data = (float)s;
}

static bool probe_shape(fj_node *n, fj_err *e) {
    n->out[0]->rows = n->out[0]->cols = 1;
    return fj_same_shape(n->in[0], n->in[1], e);
}

static void probe_grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (fj_wants_grad(n, 0))
        fj_grad_add(g, &dx[0], FJ_EMIT(g, &fj_op_scale_by, NULL, n->in[1], dy[0]));
}

static const fj_op probe = { .name = "probe",
                             .n_in = 2,
                             .n_out = 1,
                             .shape = probe_shape,
                             .grad = probe_grad,
                             .cpu = probe_f32,
                             .cpu64 = probe_f64 };

/* ---- one case ------------------------------------------------------------------------------------ */
typedef struct checked {
    oc c;
    fj_tensor *loss;
    int n_params;
    int arg[4]; /* of c.arg */
    fj_tensor *grad[4];
} checked;

/* False: no variant v, or it has nothing to differentiate. */
static bool open_case(checked *k, fj_dev *d, fj_dtype as, bool (*build)(oc *c, int v), int v,
                      uint64_t seed) {
    *k = (checked){ .loss = NULL };
    oc_open(&k->c, d, as, seed);
    if (!build(&k->c, v)) {
        oc_close(&k->c);
        return false;
    }
    if (k->c.g->err.code != FJ_OK) fail_msg("variant %d: %s", v, k->c.g->err.msg);
    fj_tensor *params[4];
    for (int i = 0; i < k->c.n_args; i++)
        if (k->c.arg[i].differ) {
            assert_true(k->n_params < 4);
            params[k->n_params] = k->c.arg[i].t;
            k->arg[k->n_params++] = i;
        }
    if (!k->n_params) return true;
    fj_tensor *y = k->c.out[0]; /* further results are by-products without a gradient */
    bool loss = y->node->op == &fj_op_head_ce && v % 2; /* as a training step has it: starts at 1 */
    k->loss = loss ? y : FJ_EMIT(k->c.g, &probe, NULL, y, oc_real(&k->c, y->rows, y->cols, false));
    fj_keep(k->loss);
    fj_backward(k->c.g, k->loss, k->n_params, params, k->grad, NULL, 0);
    if (k->c.g->err.code != FJ_OK) fail_msg("variant %d: %s", v, k->c.g->err.msg);
    for (int i = 0; i < k->n_params; i++) {
        assert_non_null(k->grad[i]);
        assert_int_equal(k->grad[i]->rows, params[i]->rows);
        assert_int_equal(k->grad[i]->cols, params[i]->cols);
        fj_keep(k->grad[i]);
    }
    return true;
}

static double loss_of(checked *k) {
    oc_run(&k->c);
    double *l = oc_get(k->loss), value = *l;
    free(l);
    return value;
}

static double largest(const double *v, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) m = FJ_MAX(m, fabs(v[i]));
    return m;
}

enum { ELEMENTS = 24, DIRECTIONS = 3 };
static const double step = 4e-6;

/* Worst |difference quotient - gradient|, relative to the larger of the two and of what a typical
 * element of the gradient makes of it. */
static double worst_error(fj_dev *d, bool (*build)(oc *c, int v), int v, uint64_t seed,
                          bool *there) {
    checked k;
    *there = open_case(&k, d, FJ_F64, build, v, seed);
    if (!*there) return 0;
    fj_rng r;
    fj_rng_seed(&r, seed + 1);
    double worst = 0;
    if (k.n_params) loss_of(&k);
    double *grads[4] = { NULL };
    for (int i = 0; i < k.n_params; i++) grads[i] = oc_get(k.grad[i]);
    for (int i = 0; i < k.n_params; i++) {
        oc_arg *a = &k.c.arg[k.arg[i]];
        int64_t n = a->t->rows * a->t->cols;
        double *keep = a->v, *dir = fj_alloc((size_t)n * sizeof *dir), big = largest(grads[i], n);
        a->v = fj_alloc((size_t)n * sizeof *a->v);
        int64_t elements = FJ_MIN(n, ELEMENTS);
        for (int64_t at = 0; at < elements + DIRECTIONS; at++) {
            memset(dir, 0, (size_t)n * sizeof *dir);
            if (at < elements) dir[n <= ELEMENTS ? at : (int64_t)fj_rng_below(&r, (uint64_t)n)] = 1;
            else
                for (int64_t j = 0; j < n; j++) dir[j] = fj_rng_normal(&r);
            double told = 0, norm = 0, l[2];
            for (int64_t j = 0; j < n; j++) {
                told += grads[i][j] * dir[j];
                norm += dir[j] * dir[j];
            }
            for (int s = 0; s < 2; s++) {
                for (int64_t j = 0; j < n; j++) a->v[j] = keep[j] + (s ? -step : step) * dir[j];
                l[s] = loss_of(&k);
            }
            double seen = (l[0] - l[1]) / (2 * step);
            double unit = FJ_MAX(FJ_MAX(fabs(seen), fabs(told)), 0.1 * big * sqrt(norm));
            double err = unit > 0 ? fabs(seen - told) / unit : 0;
            if (!(err <= worst)) worst = err;
        }
        free(a->v);
        a->v = keep;
        free(dir);
    }
    for (int i = 0; i < k.n_params; i++) free(grads[i]);
    oc_close(&k.c);
    return worst;
}

static const oc_entry list[] = {
#define FJ_OP(name) { #name, case_##name },
#define FJ_OP_BWD(name)
#define FJ_OP_AUX(name)
#include "ops/ops.def"
#undef FJ_OP
#undef FJ_OP_BWD
#undef FJ_OP_AUX
};

static fj_dev *open_dev(int threads, bool f32) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = threads, .f32 = f32 }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

static void test_central_differences(void **state) {
    (void)state;
    fj_dev *d = open_dev(1, false);
    fj_rng r = fj_test_rng();
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        int v = 0, n = 0;
        double worst = 0;
        for (bool there = true; there; v++) {
            double err = worst_error(d, list[i].build, v, fj_rng_u64(&r), &there);
            if (!(err < 1e-6))
                fail_msg("%s, variant %d: gradient is off by %.3g", list[i].name, v, err);
            worst = FJ_MAX(worst, err);
            n += there;
        }
        assert_true(n > 0);
        printf("%-10s %2d variants, off by %.1e at most\n", list[i].name, n, worst);
    }
    fj_dev_close(d);
}

static void test_f32_against_f64(void **state) {
    (void)state;
    fj_dev *exact = open_dev(1, false);
    fj_rng r = fj_test_rng();
    for (int f32 = 0; f32 < 2; f32++) {
        fj_dev *d = open_dev(2, f32);
        for (size_t i = 0; i < FJ_LEN(list); i++)
            for (int v = 0;; v++) {
                uint64_t seed = fj_rng_u64(&r);
                checked a, b;
                if (!open_case(&a, exact, FJ_F64, list[i].build, v, seed)) break;
                assert_true(open_case(&b, d, FJ_F32, list[i].build, v, seed));
                /* In the default mode, products of gradients go through bf16. */
                double tol = f32 ? FJ_MAX(b.c.tol_f32, 5e-5) : FJ_MAX(b.c.tol, 2e-2);
                if (a.n_params) {
                    loss_of(&a);
                    loss_of(&b);
                }
                for (int p = 0; p < a.n_params; p++) {
                    double *x = oc_get(a.grad[p]), *y = oc_get(b.grad[p]);
                    int64_t n = a.grad[p]->rows * a.grad[p]->cols;
                    double big = largest(x, n);
                    for (int64_t j = 0; j < n; j++)
                        if (!(fabs(x[j] - y[j]) <= tol * big))
                            fail_msg(
                                "%s, variant %d, %s, gradient %d, element %lld: %g in f32, %g in f64",
                                list[i].name, v, f32 ? "all f32" : "default mode", p, (long long)j,
                                y[j], x[j]);
                    free(x);
                    free(y);
                }
                oc_close(&a.c);
                oc_close(&b.c);
            }
        fj_dev_close(d);
    }
    fj_dev_close(exact);
}

/* ---- planted: rmsnorm whose weight gradient is 1% too large --------------------------------------- */
static void wrong_f64(const fj_team *t, const fj_node *n) {
    if (t->ith) return;
    const double *x = n->in[0]->data;
    double *y = n->out[0]->data;
    for (int64_t i = 0; i < n->out[0]->rows * n->out[0]->cols; i++) y[i] = 1.01 * x[i];
}

static bool wrong_shape(fj_node *n, fj_err *e) {
    (void)e;
    return fj_shape_like(n->out[0], n->in[0]);
}

static const fj_op wrong = { .name = "wrong",
                             .n_in = 1,
                             .n_out = 1,
                             .shape = wrong_shape,
                             .cpu64 = wrong_f64 };

static void planted_grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    fj_op_rmsnorm.grad(g, n, dy, dx);
    dx[1] = FJ_EMIT(g, &wrong, NULL, dx[1]);
}

static bool case_planted(oc *c, int v) {
    if (v) return false;
    fj_op *planted = fj_arena_alloc(&c->g->arena, sizeof *planted);
    *planted = fj_op_rmsnorm;
    planted->grad = planted_grad;
    fj_tensor *x = oc_real(c, 7, 33, true);
    oc_out(c, FJ_EMIT(c->g, planted, &(double){ 1e-5 }, x, oc_real(c, 1, 33, true)));
    return true;
}

static void test_planted_bug_is_caught(void **state) {
    (void)state;
    fj_dev *d = open_dev(1, false);
    fj_rng r = fj_test_rng();
    bool there;
    double err = worst_error(d, case_planted, 0, fj_rng_u64(&r), &there);
    assert_true(there);
    if (!(err > 5e-3)) fail_msg("a gradient that is 1%% wrong shows as %g", err);
    fj_dev_close(d);
}

/* ---- what has no gradient says so ------------------------------------------------------------------ */
static void test_no_gradient_is_an_error(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        fj_graph *g = fj_graph_new();
        fj_tensor *x = fj_input(g, "x", FJ_F32, 3, 4), *grad;
        x->grad = x->trainable = true;
        fj_tensor *y = fj_add(g, x, x);
        fj_tensor *loss = i ? y : fj_sumsq(g, y);
        assert_false(fj_backward(g, loss, 1, &x, &grad, NULL, 0));
        const char *part = i ? "start at a scalar" : "sumsq has no gradient";
        if (!strstr(g->err.msg, part)) fail_msg("\"%s\"", g->err.msg);
        fj_graph_free(g);
    }
    /* Through a view of rows: not silently nothing. */
    fj_graph *g = fj_graph_new();
    fj_tensor *x = fj_input(g, "x", FJ_F64, 3, 4), *grad;
    x->grad = x->trainable = true;
    fj_tensor *loss = FJ_EMIT(g, &probe, NULL, fj_rows(g, x, 1, 2), fj_input(g, "w", FJ_F64, 2, 4));
    assert_false(fj_backward(g, loss, 1, &x, &grad, NULL, 0));
    assert_non_null(strstr(g->err.msg, "view of rows"));
    fj_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_central_differences),
        cmocka_unit_test(test_f32_against_f64),
        cmocka_unit_test(test_planted_bug_is_caught),
        cmocka_unit_test(test_no_gradient_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
