/* Generation on a tiny model: where an answer ends, what stop strings do, what the cache gives back. */
#include "models/model.h"

#include <forja/generate.h>

#include "test_device.h"

typedef struct rig {
    fj_dev *dev;
    fj_model *m;
    fj_session *s;
} rig;

static rig rig_open(const char *folder) {
    fj_err e = { 0 };
    rig r = { .dev = fj_test_dev(2, true) };
    r.m = fj_model_open(r.dev, folder, NULL, NULL, &e);
    if (!r.m) fail_msg("%s", e.msg);
    r.s = fj_session_open(r.m, 0, &e);
    if (!r.s) fail_msg("%s", e.msg);
    return r;
}

static void rig_close(rig *r) {
    fj_session_close(r->s);
    fj_model_close(r->m);
    fj_dev_close(r->dev);
}

static bool collect(void *ctx, const char *bytes, size_t n) {
    fj_str_addn(ctx, bytes, n);
    return true;
}

static bool once(void *ctx, const char *bytes, size_t n) {
    collect(ctx, bytes, n);
    return false;
}

static const char tiny[] = FORJA_SOURCE_DIR "/tests/golden/tiny-default";
static const int32_t prompt[] = { 5, 9, 13, 21 };

static fj_generated go(rig *r, fj_sampling p, fj_str *text, fj_ids *ids) {
    fj_generated g;
    fj_err e = { 0 };
    fj_str_clear(text);
    fj_ids_clear(ids);
    if (!fj_generate(r->s, prompt, 4, &p, collect, text, ids, &g, &e)) fail_msg("%s", e.msg);
    return g;
}

static void test_length_and_cache(void **state) {
    (void)state;
    rig r = rig_open(tiny);
    fj_str a = { 0 }, b = { 0 };
    fj_ids x = { 0 }, y = { 0 };
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.max_new_tokens = 12;
    p.ignore_eos = true;
    fj_generated g = go(&r, p, &a, &x);
    assert_int_equal(g.finish, FJ_FINISH_LENGTH);
    assert_true(g.made == 12 && x.n == 12 && g.cached == 0);
    g = go(&r, p, &b, &y); /* the prompt is in the cache but for its last token */
    assert_int_equal(g.cached, 3);
    assert_true(y.n == x.n && !memcmp(x.p, y.p, x.n * sizeof *x.p) && a.n == b.n);
    fj_session_reset(r.s);
    assert_int_equal(go(&r, p, &b, &y).cached, 0);
    p.temperature = 1;
    p.seed = 7;
    go(&r, p, &a, &x);
    go(&r, p, &b, &y);
    assert_true(x.n == y.n && !memcmp(x.p, y.p, x.n * sizeof *x.p)); /* the same seed */
    fj_str_free(&a);
    fj_str_free(&b);
    fj_ids_free(&x);
    fj_ids_free(&y);
    rig_close(&r);
}

static void test_stop_strings(void **state) {
    (void)state;
    rig r = rig_open(tiny);
    fj_str all = { 0 }, cut = { 0 };
    fj_ids ids = { 0 };
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.max_new_tokens = 24;
    p.ignore_eos = true;
    go(&r, p, &all, &ids);
    assert_true(all.n > 8);
    /* Every piece of the text as a stop string: the answer is what stands before its first place. */
    for (size_t at = 1; at + 3 < all.n; at++) {
        char stop[4] = { all.s[at], all.s[at + 1], all.s[at + 2], 0 };
        const char *stops[] = { "never there", stop };
        p.stop = stops;
        p.n_stop = 2;
        fj_generated g = go(&r, p, &cut, &ids);
        assert_int_equal(g.finish, FJ_FINISH_STOP);
        const char *first = strstr(all.s, stop);
        assert_int_equal(cut.n, first - all.s);
        assert_memory_equal(cut.s, all.s, cut.n);
    }
    fj_err e = { 0 };
    fj_generated g;
    p.n_stop = 0;
    fj_str_clear(&cut);
    assert_true(fj_generate(r.s, prompt, 4, &p, once, &cut, NULL, &g, &e));
    assert_int_equal(g.finish, FJ_FINISH_ASKED);
    assert_true(g.made < 24);
    fj_str_free(&all);
    fj_str_free(&cut);
    fj_ids_free(&ids);
    rig_close(&r);
}

/* eos_token_id of generation_config.json ends an answer, though the vocabulary has no such name. */
static void test_generation_config(void **state) {
    (void)state;
    fj_err e = { 0 };
    rig r = rig_open(tiny);
    fj_str t = { 0 };
    fj_ids ids = { 0 };
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.max_new_tokens = 8;
    p.ignore_eos = true;
    go(&r, p, &t, &ids);
    int32_t third = ids.p[2];
    assert_false(fj_model_ends(r.m, third));
    const char *dir = fj_test_path("model"), *config = fj_test_path("model/generation_config.json");
    FJ_OK_OR_FAIL(fj_model_save_hf(r.m, dir, "F32", &e), e);
    rig_close(&r);

    char text[64];
    snprintf(text, sizeof text, "{\"eos_token_id\": [63, %d]}", (int)third);
    FJ_OK_OR_FAIL(fj_write_file(config, text, strlen(text), &e), e);
    r = rig_open(dir);
    p.ignore_eos = false;
    fj_generated g = go(&r, p, &t, &ids);
    assert_int_equal(g.finish, FJ_FINISH_EOS);
    assert_true(g.made <= 3 && ids.p[ids.n - 1] == third);
    rig_close(&r);

    FJ_OK_OR_FAIL(fj_write_file(config, "{\"eos_token_id\": 100000}", 24, &e), e);
    fj_dev *d = fj_test_dev(1, false);
    assert_null(fj_model_open(d, dir, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "eos_token_id"));
    fj_dev_close(d);
    fj_str_free(&t);
    fj_ids_free(&ids);
}

static void test_refusals(void **state) {
    (void)state;
    rig r = rig_open(tiny);
    fj_err e = { 0 };
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    int32_t outside[] = { 5, 1 << 20 };
    assert_false(fj_generate(r.s, prompt, 0, &p, NULL, NULL, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "empty"));
    assert_false(fj_generate(r.s, outside, 2, &p, NULL, NULL, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "outside the vocabulary"));
    fj_session *s = fj_session_open(r.m, 6, &e);
    p.ignore_eos = true;
    fj_generated g;
    assert_true(
        fj_generate(s, prompt, 4, &p, NULL, NULL, NULL, &g, &e)); /* and on after a failure */
    assert_int_equal(g.finish, FJ_FINISH_CONTEXT);
    assert_int_equal(g.made, 3); /* two fit, the third needs no place */
    int32_t seven[7] = { 5, 5, 5, 5, 5, 5, 5 };
    assert_false(fj_generate(s, seven, 7, &p, NULL, NULL, NULL, &g, &e));
    assert_non_null(strstr(e.msg, "the context holds 6"));
    fj_session_close(s);
    rig_close(&r);
}

/* Every format of GGUF computes on any device: a GPU has those without kernels of their own in BF16 (F32 when
 * it computes in that).  The same tokens as on the processor. */
static void test_formats(void **state) {
    (void)state;
    static const char *const types[] = { "Q5_0", "Q4_1", "IQ4_NL" };
    fj_err e = { 0 };
    fj_dev *cpu = fj_dev_open(&(fj_dev_opts){ .threads = 1, .f32 = true }, &e);
    fj_model *m = cpu ? fj_model_open(cpu, tiny, NULL, NULL, &e) : NULL;
    if (!m) fail_msg("%s", e.msg);
    for (size_t t = 0; t < FJ_LEN(types); t++) {
        const char *path = fj_test_path(types[t]);
        FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, types[t], &e), e);
        fj_sampling p = FJ_SAMPLING_DEFAULT;
        p.temperature = 0;
        p.max_new_tokens = 6;
        p.ignore_eos = true;
        rig here = rig_open(path), there = { .dev = cpu };
        there.m = fj_model_open(cpu, path, NULL, NULL, &e);
        there.s = there.m ? fj_session_open(there.m, 0, &e) : NULL;
        if (!there.s) fail_msg("%s", e.msg);
        fj_str text = { 0 };
        fj_ids a = { 0 }, b = { 0 };
        go(&here, p, &text, &a);
        go(&there, p, &text, &b);
        assert_true(a.n == 6 && a.n == b.n);
        if (memcmp(a.p, b.p, a.n * sizeof *a.p)) fail_msg("%s: other tokens", types[t]);
        fj_ids_free(&a);
        fj_ids_free(&b);
        fj_str_free(&text);
        fj_session_close(there.s);
        fj_model_close(there.m);
        rig_close(&here);
    }
    fj_model_close(m);
    fj_dev_close(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length_and_cache),  cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_generation_config), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
