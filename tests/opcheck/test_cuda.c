/* test_cuda.c - the GPU as a device.  What holds without one is tested everywhere: names and errors.
 * The rest (memory, copies, each op that has a CUDA function against f64 on the CPU) skips loudly. */
#include "op_cases.h"

static const oc_entry list[] = {
#define FJ_OP(name) { #name, case_##name },
#define FJ_OP_BWD FJ_OP
#define FJ_OP_AUX FJ_OP
#include "ops/ops.def"
#undef FJ_OP
#undef FJ_OP_BWD
#undef FJ_OP_AUX
};

/* NULL with the reason printed: the test calls skip(). */
static fj_dev *gpu(void) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .device = "cuda" }, &e);
    if (!d) printf("SKIP: nothing was tested on a GPU: %s\n", e.msg);
    fflush(stdout);
    return d;
}

static void test_names_of_devices(void **state) {
    (void)state;
    static const char *const unknown[] = { "",        "CPU",     "cpu:0",   "cuda:",
                                           "cuda:-1", "cuda: 1", "cuda:1x", "cuda1" };
    fj_err e;
    for (size_t i = 0; i < FJ_LEN(unknown); i++) {
        FJ_FAILS_WITH(fj_dev_open(&(fj_dev_opts){ .device = unknown[i] }, &e), e,
                      "is not known: cpu, cuda");
        assert_int_equal(e.code, FJ_EINVAL);
    }
#ifdef FORJA_CUDA
    FJ_FAILS_WITH(fj_dev_open(&(fj_dev_opts){ .device = "cuda:999" }, &e), e, "GPU");
#else
    FJ_FAILS_WITH(fj_dev_open(&(fj_dev_opts){ .device = "cuda:3" }, &e), e, "built without CUDA");
    FJ_FAILS_WITH(fj_dev_open(&(fj_dev_opts){ .device = "cuda" }, &e), e, "built without CUDA");
    assert_int_equal(e.code, FJ_EUNSUP);
#endif
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .device = "cpu", .threads = 1 }, &e);
    if (!d) fail_msg("%s", e.msg);
    assert_string_equal(d->fn->name, "cpu");
    fj_dev_close(d);
}

/* A function is there exactly in builds with CUDA, for the ops that have one. */
static void test_descriptors(void **state) {
    (void)state;
#ifdef FORJA_CUDA
    assert_true(fj_op_add.cuda && fj_op_rmsnorm.cuda);
#else
    for (size_t i = 0; fj_ops[i]; i++) assert_null(fj_ops[i]->cuda);
#endif
}

static void test_memory(void **state) {
    (void)state;
    fj_dev *d = gpu();
    if (!d) skip();
    fj_err e = { 0 };
    int64_t now, peak;
    fj_buf *b = d->fn->alloc(d, 1000, "a test", &e), *none = d->fn->alloc(d, 0, "nothing", &e);
    if (!b || !none) fail_msg("%s", e.msg);
    char v[1000], w[1000];
    FJ_OK_OR_FAIL(d->fn->download(b, 0, v, 1000, &e), e);
    for (int i = 0; i < 1000; i++) assert_int_equal(v[i], 0);
    for (int i = 0; i < 1000; i++) v[i] = (char)(i % 100 + 1);
    FJ_OK_OR_FAIL(d->fn->upload(b, 0, v, 1000, &e) && d->fn->zero(b, 100, 50, &e), e);
    FJ_OK_OR_FAIL(d->fn->download(b, 0, w, 1000, &e), e);
    for (int i = 0; i < 1000; i++) assert_int_equal(w[i], i >= 100 && i < 150 ? 0 : v[i]);
    FJ_FAILS_WITH(d->fn->download(b, 999, w, 2, &e), e, "of a buffer of 1000");
    FJ_FAILS_WITH(d->fn->upload(b, SIZE_MAX, w, 2, &e), e, "of a buffer of 1000");
    FJ_FAILS_WITH(d->fn->alloc(d, (size_t)1 << 50, "something huge", &e), e,
                  "no GPU memory for something huge");
    assert_int_equal(e.code, FJ_ENOMEM);
    fj_dev_memory(d, &now, &peak);
    assert_int_equal(now, 1000);
    d->fn->free(b);
    d->fn->free(none);
    d->fn->free(NULL);
    fj_dev_memory(d, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, 1000);
    fj_dev_close(d);
}

static double worst_of(const oc *a, const oc *b) {
    double worst = 0;
    for (int i = 0; i < a->n_out; i++) {
        double *x = oc_get(a->out[i]), *y = oc_get(b->out[i]), big = 1e-3, diff = 0;
        for (int64_t j = 0; j < a->out[i]->rows * a->out[i]->cols; j++) {
            big = FJ_MAX(big, fabs(x[j]));
            if (!(fabs(x[j] - y[j]) <= diff)) diff = fabs(x[j] - y[j]);
        }
        if (!(diff / big <= worst)) worst = diff / big;
        free(x);
        free(y);
    }
    return worst;
}

/* One case on both devices, or refused by name where an op of it has no CUDA function. */
static bool one_case(fj_dev *d, fj_dev *exact, const oc_entry *op, int v, uint64_t seed, int *ran) {
    oc a, b;
    fj_err e = { 0 };
    oc_open(&a, exact, FJ_F64, seed);
    oc_open(&b, d, FJ_F32, seed);
    bool there = op->build(&a, v) && op->build(&b, v), runs = there;
    for (size_t k = 0; k < b.g->n_nodes; k++) runs = runs && b.g->nodes[k]->op->cuda;
    if (runs) {
        oc_run(&a);
        oc_run(&b);
        double off = worst_of(&a, &b);
        if (!(off <= b.tol_f32)) fail_msg("%s, variant %d: off by %g on the GPU", op->name, v, off);
        ++*ran;
    } else if (there) {
        FJ_OK_OR_FAIL(fj_dev_prepare(d, b.g, &b.mem, "a test", &e), e);
        FJ_FAILS_WITH(d->fn->run(d, b.g, &e), e, "does not run on the GPU");
        assert_int_equal(e.code, FJ_EUNSUP);
    }
    oc_close(&a);
    oc_close(&b);
    return there;
}

static void test_ops_against_f64(void **state) {
    (void)state;
    fj_dev *d = gpu();
    if (!d) skip();
    fj_err e = { 0 };
    fj_dev *exact = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    if (!exact) fail_msg("%s", e.msg);
    fj_rng r = fj_test_rng();
    int ran = 0;
    for (size_t i = 0; i < FJ_LEN(list); i++)
        for (int v = 0; one_case(d, exact, &list[i], v, fj_rng_u64(&r), &ran); v++) {}
    printf("%s: %d cases ran\n", fj_dev_about(d), ran);
    assert_true(ran >= 9);
    fj_dev_close(d);
    fj_dev_close(exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_devices),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_ops_against_f64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
