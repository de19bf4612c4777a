/* Adapters that an export refuses: without effect, with broken numbers, of another base. */
#include "test_device.h"

#include "lifecycle/adapter_check.h"

#include <math.h>

typedef struct rig {
    fj_dev *d;
    fj_model *m;
    fj_lora *l;
} rig;

static rig start(const char *path) {
    fj_err e = { 0 };
    rig g = { .d = fj_test_dev(1, false) };
    const char *all = "all-linear";
    g.m = fj_model_open(g.d, path, NULL, NULL, &e);
    if (!g.m) fail_msg("%s", e.msg);
    g.l = fj_lora_new(
        g.m, &(fj_lora_opts){ .r = 2, .alpha = 4, .targets = &all, .n_targets = 1, .seed = 3 }, &e);
    if (!g.l) fail_msg("%s", e.msg);
    return g;
}

static void end(rig *g) {
    fj_lora_close(g->l);
    fj_model_close(g->m);
    fj_dev_close(g->d);
}

static void set(rig *g, size_t byte, float x) {
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(g->d->fn->upload(g->l->buf, byte, &x, sizeof x, &e), e);
}

static void test_effect(void **state) {
    (void)state;
    /* The second has experts: each has ranks of its own. */
    static const char *const models[] = { "tests/golden/tiny-default",
                                          "tests/golden/archs/mixtral" };
    for (size_t i = 0; i < FJ_LEN(models); i++) {
        fj_err e = { 0 };
        rig g = start(fj_test_source(models[i]));
        const fj_lora_pair *p = &g.l->pairs[g.l->n_pairs - 1];
        for (int k = 0; k < g.l->n_pairs; k++)
            if (g.l->pairs[k].mats > 1) p = &g.l->pairs[k];
        assert_true(i == 0 || p->mats > 1);
        FJ_FAILS_WITH(fj_adapter_has_effect(g.l, "run/adapter", &e), e,
                      "run/adapter: the adapter changes nothing");
        assert_int_equal(e.code, FJ_EINVAL);
        /* One value of the last row, in rank 1. */
        size_t b = p->b + (size_t)(p->out * p->r - 1) * sizeof(float);
        set(&g, b, 0.5f);
        FJ_OK_OR_FAIL(fj_adapter_has_effect(g.l, "x", &e), e);
        /* Its A is zero in that rank, of that expert: nothing again. */
        for (int64_t k = 0; k < p->in; k++)
            set(&g, p->a + (size_t)((p->mats * p->r - 1) * p->in + k) * sizeof(float), 0);
        FJ_FAILS_WITH(fj_adapter_has_effect(g.l, "x", &e), e, "changes nothing");
        set(&g, b, NAN);
        FJ_FAILS_WITH(fj_adapter_has_effect(g.l, "x", &e), e, "not a finite number");
        end(&g);
    }
}

static void warned(void *ctx, fj_level level, const char *text) {
    if (level == FJ_WARN) snprintf(ctx, 1024, "%s", text);
}

static void manifest(const char *name, const char *hash) {
    fj_err e = { 0 };
    char text[200];
    int n = snprintf(text, sizeof text, "{\"base_sha256\": \"%s\"}\n", hash);
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path(name), text, (size_t)n, &e), e);
}

static void test_base(void **state) {
    (void)state;
    fj_err e = { 0 };
    char said[1024] = "", hex[65];
    fj_log log = { .ctx = said, .message = warned };
    rig g = start(fj_test_source("tests/golden/tiny-default"));
    const char *dir = fj_test_path("run/adapter"), *gguf = fj_test_path("run/adapter.gguf");
    FJ_OK_OR_FAIL(fj_lora_save_peft(g.l, dir, &e), e);
    FJ_OK_OR_FAIL(fj_lora_save_gguf(g.l, gguf, &e), e);

    /* No run: names are compared, and said. */
    assert_false(fj_adapter_base_hash(dir, hex));
    assert_string_equal(hex, "");
    FJ_OK_OR_FAIL(fj_adapter_has_base(g.l, dir, NULL, &log, &e), e);
    assert_string_equal(said, "");
    free(g.l->base);
    g.l->base = fj_strdup("somebody/other-model");
    FJ_OK_OR_FAIL(fj_adapter_has_base(g.l, dir, NULL, &log, &e), e);
    assert_non_null(strstr(said, "its base is somebody/other-model"));

    /* A run's manifest decides. */
    char own[65];
    FJ_OK_OR_FAIL(fj_model_hash(g.m, own, &e), e);
    manifest("run/manifest.json", own);
    *said = 0;
    const char *paths[] = { dir, gguf };
    for (size_t i = 0; i < FJ_LEN(paths); i++) {
        assert_true(fj_adapter_base_hash(paths[i], hex));
        assert_string_equal(hex, own);
        FJ_OK_OR_FAIL(fj_adapter_has_base(g.l, paths[i], NULL, &log, &e), e);
        FJ_OK_OR_FAIL(fj_adapter_has_base(g.l, paths[i], own, &log, &e), e);
        assert_string_equal(said, "");
    }
    own[5] = own[5] == '0' ? '1' : '0';
    manifest("run/manifest.json", own);
    for (size_t i = 0; i < FJ_LEN(paths); i++)
        FJ_FAILS_WITH(fj_adapter_has_base(g.l, paths[i], NULL, &log, &e), e,
                      "was trained on another base");
    /* A checkpoint has a manifest of its own, which says nothing of the base: its run's, two above. */
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("run/checkpoints/checkpoint-5"), &e), e);
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("run/checkpoints/checkpoint-5/manifest.json"),
                                "{\"step\": 5}", 11, &e),
                  e);
    assert_true(fj_adapter_base_hash(fj_test_path("run/checkpoints/checkpoint-5"), hex));
    assert_string_equal(hex, own);
    /* What is no hash is none. */
    manifest("run/manifest.json", "abc");
    assert_false(fj_adapter_base_hash(dir, hex));
    end(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_effect),
                                        cmocka_unit_test(test_base) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
