/* Full training of stories260K (tied embeddings), and gradients of one batch, against transformers. */
#include "golden_train.h"

/* "norm/NAME" or "grad/NAME" of weight i; NULL: the file does not have it (tied head). */
static const char *entry(const fj_st *s, fj_model *m, int i, const char *kind) {
    fj_arena a = { 0 };
    char *name = fj_test_buf();
    snprintf(name, 1024, "%s/%s", kind, fj_weight_name(&m->w[i], &a));
    fj_arena_free(&a);
    return fj_st_find(s, name) ? name : NULL;
}

static double norm_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void gradients(int recompute) {
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = golden_open("stories260k/grad.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, true);
    golden_grads t;
    golden_grads_init(&t, m, NULL);
    int64_t n;
    const int32_t *ids = golden_i32(s, "ids", &n), *labels = golden_i32(s, "labels", &n);
    const fj_st_tensor *shape = fj_st_find(s, "ids");
    float loss = golden_backward(&t, ids, labels, shape->dim[0], shape->dim[1], recompute);
    golden_near_relative((double)loss, (double)golden_value(s, "loss"), GOLDEN_LOSS, "loss");

    int norms = 0, whole = 0;
    size_t off = 0;
    for (int i = 0; i < m->n_w; i++) {
        int64_t len = m->w[i].rows * m->w[i].cols;
        const char *name = entry(s, m, i, "norm");
        if (!name) fail_msg("no golden gradient for weight %d", i);
        double want = (double)golden_value(s, name);
        float *got = malloc((size_t)len * sizeof *got);
        FJ_OK_OR_FAIL(d->fn->download(t.grads, off, got, (size_t)len * sizeof *got, &e), e);
        golden_near_relative(norm_of(got, len), want, 1e-4, name);
        norms++;
        if ((name = entry(s, m, i, "grad"))) {
            golden_near(got, golden_f32(s, name, &n), len, 1e-4 * want, name);
            whole++;
        }
        free(got);
        off += fj_param_bytes(m->w[i].rows, m->w[i].cols);
    }
    assert_int_equal(norms, 47);
    assert_int_equal(whole, 5);
    golden_grads_free(&t);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

static void test_gradients(void **state) {
    (void)state;
    gradients(0);
}

static void test_gradients_recomputed(void **state) {
    (void)state;
    gradients(5);
}

static void train(int micros, int recompute) {
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = golden_open("stories260k/full.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, true);
    golden_train(m, NULL, s, micros, recompute);
    golden_check_logits(m, NULL, s, "probe.", "logits after 20 steps");
    int whole = 0;
    for (int i = 0; i < m->n_w; i++) {
        int64_t n = m->w[i].rows * m->w[i].cols, k;
        float *w = malloc((size_t)n * sizeof *w);
        FJ_OK_OR_FAIL(fj_weight_get(m, &m->w[i], w, &e), e);
        const char *name = entry(s, m, i, "norm");
        if (!name) fail_msg("no golden norm for weight %d", i);
        golden_near_relative(norm_of(w, n), (double)golden_value(s, name), 1e-5, name);
        if ((name = entry(s, m, i, "final"))) {
            golden_near(w, golden_f32(s, name, &k), n, 1e-4, name);
            whole++;
        }
        free(w);
    }
    assert_int_equal(whole, 3);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

static void test_train(void **state) {
    (void)state;
    train(1, 0);
}

static void test_train_in_parts(void **state) {
    (void)state;
    train(4, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_gradients_recomputed),
        cmocka_unit_test(test_train),
        cmocka_unit_test(test_train_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
