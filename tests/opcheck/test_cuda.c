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
static fj_dev *gpu(bool f32) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .device = "cuda", .f32 = f32 }, &e);
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
    assert_true(fj_dev_room(d) > 0);
    fj_dev_close(d);
    /* auto is never an error: the first GPU that can be used, else the processor. */
    d = fj_dev_open(&(fj_dev_opts){ .device = "auto", .threads = 1 }, &e);
    if (!d) fail_msg("%s", e.msg);
    fj_dev *first = fj_dev_open(&(fj_dev_opts){ .device = "cuda" }, &e);
    assert_string_equal(d->fn->name, first ? "cuda" : "cpu");
    fj_dev_close(d);
    fj_dev_close(first);
}

/* Functions are there exactly in builds with CUDA, and then for every op. */
static void test_descriptors(void **state) {
    (void)state;
#ifdef FORJA_CUDA
    for (size_t i = 0; fj_ops[i]; i++)
        if (!fj_ops[i]->cuda || !fj_ops[i]->cuda->run)
            fail_msg("op %s has no CUDA function", fj_ops[i]->name);
#else
    for (size_t i = 0; fj_ops[i]; i++) assert_null(fj_ops[i]->cuda);
#endif
}

static void test_memory(void **state) {
    (void)state;
    fj_dev *d = gpu(false);
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

/* Largest difference between results, kept ones and what the op wrote into, relative to each one's largest. */
static double worst_of(const oc *a, const oc *b) {
    const fj_tensor *pair[16][2];
    int n = 0;
    for (int i = 0; i < a->n_out; i++, n++) pair[n][0] = a->out[i], pair[n][1] = b->out[i];
    for (int i = 0; i < a->n_args; i++)
        if (a->arg[i].changes) {
            pair[n][0] = a->arg[i].t;
            pair[n++][1] = b->arg[i].t;
        }
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double *x = oc_get(pair[i][0]), *y = oc_get(pair[i][1]), big = 1e-3, diff = 0;
        for (int64_t j = 0; j < pair[i][0]->rows * pair[i][0]->cols; j++) {
            big = FJ_MAX(big, fabs(x[j]));
            if (!(fabs(x[j] - y[j]) <= diff)) diff = fabs(x[j] - y[j]);
        }
        if (!(diff / big <= worst)) worst = diff / big;
        free(x);
        free(y);
    }
    return worst;
}

/* One case on both devices; false: there is none.  bf16: activations in it, as the device has them. */
static bool one_case(fj_dev *d, fj_dev *exact, const oc_entry *op, int v, uint64_t seed,
                     double *worst) {
    oc a, b;
    bool bf16 = d->act == FJ_BF16;
    oc_open(&a, exact, FJ_F64, seed);
    oc_open(&b, d, FJ_F32, seed);
    a.bf16 = b.bf16 = bf16;
    b.g->act = d->act;
    bool there = op->build(&a, v) && op->build(&b, v);
    if (there && oc_on_gpu(&b)) {
        if (b.g->err.code != FJ_OK) fail_msg("%s, variant %d: %s", op->name, v, b.g->err.msg);
        oc_run(&a);
        oc_run(&b);
        double off = worst_of(&a, &b), allowed = bf16 ? FJ_MAX(b.tol, b.tol_bf16) : b.tol_f32;
        if (!(off <= allowed))
            fail_msg("%s, variant %d: off by %.3g on the GPU, allowed %.3g", op->name, v, off,
                     allowed);
        *worst = FJ_MAX(*worst, off);
    }
    oc_close(&a);
    oc_close(&b);
    return there;
}

static void test_ops_against_f64(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    const char *only = getenv("FORJA_OP"); /* one op, while it is being written */
    for (int f32 = 1; f32 >= 0; f32--) {
        fj_dev *d = gpu(f32);
        if (!d) skip();
        fj_err e = { 0 };
        fj_dev *exact = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
        if (!exact) fail_msg("%s", e.msg);
        printf("%s, %s\n", fj_dev_about(d), f32 ? "F32" : "BF16");
        for (size_t i = 0; i < FJ_LEN(list); i++) {
            if (only && strcmp(only, list[i].name) != 0) continue;
            double worst = 0;
            int v = 0;
            while (one_case(d, exact, &list[i], v, fj_rng_u64(&r), &worst)) v++;
            printf("%-14s %2d variants: off by %.1e\n", list[i].name, v, worst);
            fflush(stdout);
            assert_true(v > 0);
        }
        fj_dev_close(d);
        fj_dev_close(exact);
    }
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
