/* test_bad.c - bad input to a whole run: one clear sentence, and no folder that pretends to be a run. */
#include "train_rig.h"

#include "formats/ckpt.h"
#include "models/model.h"

static const char base[] = "tests/golden/tiny-default";

/* Fails with code and every part in the message, and leaves no folder.  Overrides end with NULL. */
static void refused(fj_code code, const char *const *parts, const char *first, ...) {
    const char *o[RIG_OVERRIDES];
    va_list ap;
    va_start(ap, first);
    int n = rig_list(first, ap, o);
    va_end(ap);
    fj_err e = { 0 };
    fj_train_result r;
    if (rig_run_list(&(rig){ .folder = "refused" }, o, n, &r, &e))
        fail_msg("%s: went well and should not", first);
    printf("  %s\n", e.msg);
    if (e.code != code)
        fail_msg("%s: code %d, expected %d: %s", first, (int)e.code, (int)code, e.msg);
    if (strchr(e.msg, '\n')) fail_msg("%s: more than one line: %s", first, e.msg);
    for (; *parts; parts++)
        if (!strstr(e.msg, *parts))
            fail_msg("%s: says \"%s\", not \"...%s...\"", first, e.msg, *parts);
    if (rig_has("refused", "")) fail_msg("%s: left a folder", first);
}
#define SAYS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* "key=PATH of name under the test's folder" */
static const char *at(const char *key, const char *name) {
    char *s = fj_test_buf();
    snprintf(s, 1024, "%s=%s/%s", key, fj_test_dir(), name);
    return s;
}

/* ---- data ------------------------------------------------------------------------------------------ */
static void test_data(void **state) {
    (void)state;
    refused(FJ_EIO, SAYS("nowhere.jsonl"), at("data", "nowhere.jsonl"), NULL);
    refused(FJ_EIO, SAYS("nowhere.jsonl"), at("eval_data", "nowhere.jsonl"), NULL);
    refused(FJ_EIO, SAYS("nowhere.jsonl"), at("general_data", "nowhere.jsonl"), NULL);
    rig_write("empty.jsonl", "");
    refused(FJ_EFORMAT, SAYS("empty.jsonl", "empty"), at("data", "empty.jsonl"), NULL);
    rig_write("empty.json", "[]");
    refused(FJ_EFORMAT, SAYS("empty.json", "empty"), at("data", "empty.json"), NULL);
    refused(FJ_EFORMAT, SAYS("empty.json", "empty"), at("eval_data", "empty.json"), NULL);
    rig_write("broken.jsonl",
              "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"comp");
    refused(FJ_EFORMAT, SAYS("broken.jsonl line 2"), at("data", "broken.jsonl"), NULL);
    rig_write("mute.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                            "{\"prompt\": \"a\", \"completion\": \"\"}\n"
                            "{\"prompt\": \"c\", \"completion\": \"d\"}\n");
    refused(FJ_EFORMAT, SAYS("mute.jsonl line 2", "answer"), at("data", "mute.jsonl"), NULL);
    fj_train_result r = rig_train(&(rig){ .folder = "skipped" }, at("data", "mute.jsonl"),
                                  "skip_bad_rows=true", "max_steps=1", NULL);
    assert_int_equal(r.samples, 2);
}

typedef struct said {
    fj_str text;
} said;

static void hear(void *ctx, fj_level level, const char *text) {
    (void)level;
    fj_str_addf(&((said *)ctx)->text, "%s\n", text);
}

static void test_too_long(void **state) {
    (void)state;
    rig_write("long.jsonl",
              "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
              "{\"prompt\": \"c\", \"completion\": \"dddddddddddddddddddddddddddddddddddddddddd"
              "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd\"}\n"
              "{\"prompt\": \"e\", \"completion\": \"f\"}\n");
    said s = { 0 };
    fj_log log = { .ctx = &s, .message = hear };
    fj_train_result r = rig_train(&(rig){ .folder = "long", .log = &log }, at("data", "long.jsonl"),
                                  "max_steps=1", NULL);
    assert_int_equal(r.too_long, 1);
    assert_int_equal(r.samples, 2);
    if (!strstr(s.text.s, "long.jsonl line 2")) fail_msg("the log names no row: %s", s.text.s);
    fj_str_free(&s.text);
    refused(FJ_EINVAL, SAYS("long.jsonl line 2", "64"), at("data", "long.jsonl"),
            "truncation=error", NULL);
    /* The context of the model is the limit, whatever the recipe says. */
    r = rig_train(&(rig){ .folder = "longer", .log = &log }, at("data", "long.jsonl"),
                  "max_length=4096", "max_steps=1", NULL);
    assert_int_equal(r.too_long, 1);
    if (!strstr(s.text.s, "context")) fail_msg("%s", s.text.s);
    fj_str_free(&s.text);
    /* Nothing short enough is left. */
    rig_write("only.jsonl",
              "{\"prompt\": \"aaaaaaaaaaaaaaaaaaa\", \"completion\": \"bbbbbbbbbbbb\"}\n");
    refused(FJ_EINVAL, SAYS("only.jsonl", "max_length"), at("data", "only.jsonl"), "max_length=8",
            NULL);
}

/* ---- the base -------------------------------------------------------------------------------------- */
static void copy(const char *folder, const char *name, size_t keep) {
    fj_err e = { 0 };
    char from[1100];
    size_t n;
    snprintf(from, sizeof from, "%s/%s", fj_test_source(base), name);
    char *s = fj_read_file(from, 1 << 24, &n, &e);
    if (!s) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path(folder), &e), e);
    FJ_OK_OR_FAIL(fj_write_file(rig_path(folder, name), s, FJ_MIN(n, keep), &e), e);
    free(s);
}

static void test_base(void **state) {
    (void)state;
    fj_err e = { 0 };
    refused(FJ_EIO, SAYS("no-model"), at("base", "no-model"), NULL);
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("hollow"), &e), e);
    refused(FJ_EIO, SAYS("hollow", "config.json"), at("base", "hollow"), NULL);
    copy("cut", "config.json", SIZE_MAX);
    copy("cut", "tokenizer.json", SIZE_MAX);
    refused(FJ_EIO, SAYS("cut"), at("base", "cut"), NULL);
    int64_t size = fj_file_size(fj_test_source("tests/golden/tiny-default/model.safetensors"));
    for (int64_t k = 0; k < 8; k++) {
        copy("cut", "model.safetensors", (size_t)(k == 7 ? size - 1 : size * k / 7));
        refused(FJ_EFORMAT, SAYS("model.safetensors"), at("base", "cut"), NULL);
    }
    copy("cut", "model.safetensors", SIZE_MAX);
    copy("cut", "tokenizer.json", 500);
    refused(FJ_EFORMAT, SAYS("tokenizer.json"), at("base", "cut"), NULL);
    copy("cut", "tokenizer.json", SIZE_MAX);
    copy("cut", "config.json", 100);
    refused(FJ_EFORMAT, SAYS("config.json"), at("base", "cut"), NULL);
}

static void test_gguf(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    fj_model *m = d ? fj_model_open(d, fj_test_source(base), NULL, NULL, &e) : NULL;
    if (!m) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, fj_test_path("whole.gguf"), "F16", &e), e);
    fj_model_close(m);
    fj_dev_close(d);
    size_t n;
    char *s = fj_read_file(fj_test_path("whole.gguf"), 1 << 24, &n, &e);
    if (!s) fail_msg("%s", e.msg);
    for (size_t k = 0; k < 9; k++) {
        size_t keep = k == 8 ? n - 1 : n * k / 8;
        FJ_OK_OR_FAIL(fj_write_file(fj_test_path("cut.gguf"), s, keep, &e), e);
        refused(FJ_EFORMAT, SAYS("cut.gguf"), at("base", "cut.gguf"), NULL);
    }
    free(s);
    (void)rig_train(&(rig){ .folder = "from-gguf" }, at("base", "whole.gguf"), "max_steps=1", NULL);
}

/* A tokenizer with more tokens than the model has rows: an id that is outside. */
static void test_ids(void **state) {
    (void)state;
    fj_err e = { 0 };
    copy("wide", "config.json", SIZE_MAX);
    copy("wide", "model.safetensors", SIZE_MAX);
    copy("wide", "tokenizer.json", SIZE_MAX);
    json_t *t = rig_json("wide", "tokenizer.json"), *added = json_object_get(t, "added_tokens");
    assert_true(json_is_array(added));
    json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", 64,
                                           "content", "<more>", "single_word", 0, "lstrip", 0,
                                           "rstrip", 0, "normalized", 0, "special", 1));
    FJ_OK_OR_FAIL(fj_json_save(rig_path("wide", "tokenizer.json"), t, &e), e);
    json_decref(t);
    refused(FJ_EFORMAT, SAYS("64", "65"), at("base", "wide"), NULL);
}

static void test_adapter(void **state) {
    (void)state;
    char other[1100];
    snprintf(other, sizeof other, "base=%s", fj_test_source("tests/golden/tiny-headdim"));
    (void)rig_train(&(rig){ .folder = "other" }, other, "max_steps=1", "max_length=32", NULL);
    refused(FJ_EFORMAT, SAYS("other/adapter", "_proj", "want A"),
            at("init_adapter", "other/adapter"), NULL);
    refused(FJ_EIO, SAYS("no-adapter"), at("init_adapter", "no-adapter"), NULL);
    (void)rig_train(&(rig){ .folder = "same" }, "max_steps=1", NULL);
    (void)rig_train(&(rig){ .folder = "onward" }, at("init_adapter", "same/adapter"), "max_steps=1",
                    NULL);
    refused(FJ_EINVAL, SAYS("p_proj"), "target_modules=[p_proj]", NULL);
}

/* ---- numbers that are none ------------------------------------------------------------------------- */
/* A NaN in the first weight of the copied base. */
static void test_nan(void **state) {
    (void)state;
    fj_err e = { 0 };
    copy("nan", "config.json", SIZE_MAX);
    copy("nan", "tokenizer.json", SIZE_MAX);
    copy("nan", "model.safetensors", SIZE_MAX);
    size_t n;
    char *s = fj_read_file(rig_path("nan", "model.safetensors"), 1 << 24, &n, &e);
    if (!s) fail_msg("%s", e.msg);
    uint64_t head;
    memcpy(&head, s, 8);
    for (size_t i = 8 + (size_t)head; i + 1 < n; i += 64) { /* F16 */
        s[i] = 0;
        s[i + 1] = 0x7e;
    }
    FJ_OK_OR_FAIL(fj_write_file(rig_path("nan", "model.safetensors"), s, n, &e), e);
    free(s);
    static const char *const method[] = { "method=lora", "method=full" };
    fj_train_result r;
    for (int i = 0; i < 2; i++) {
        const char *folder = i ? "nan-full" : "nan-lora";
        assert_false(
            rig_try(&(rig){ .folder = folder }, &r, &e, at("base", "nan"), method[i], NULL));
        printf("  %s\n", e.msg);
        assert_non_null(strstr(e.msg, "not a number"));
        assert_false(rig_has(folder, "adapter"));
        folder = i ? "nan-full-unmeasured" : "nan-lora-unmeasured";
        assert_false(rig_try(&(rig){ .folder = folder, .no_eval = true }, &r, &e, at("base", "nan"),
                             method[i], NULL));
        printf("  %s\n", e.msg);
        assert_non_null(strstr(e.msg, "step 1"));
        assert_false(rig_has(folder, "adapter"));
    }
}

/* A run that leaves the numbers: the step is named, and the last checkpoint is whole. */
static void test_diverges(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    static const char *const method[] = { "method=lora", "method=full" };
    for (int i = 0; i < 2; i++) {
        const char *folder = i ? "away-full" : "away-lora";
        assert_false(rig_try(&(rig){ .folder = folder }, &r, &e, method[i], "learning_rate=100",
                             "adam_beta2=0", "adam_beta1=0", "adam_epsilon=1e-30",
                             "weight_decay=10", "lr_scheduler_type=constant", "max_steps=60",
                             "save_steps=1", "eval_steps=60", NULL));
        printf("  %s\n", e.msg);
        assert_int_equal(e.code, FJ_EINVAL);
        assert_non_null(strstr(e.msg, "step "));
        assert_true(r.steps_done > 0);
        assert_false(rig_has(folder, "adapter"));
        assert_false(rig_has(folder, "model"));
        fj_ckpt *c = fj_ckpt_open_newest(rig_path(folder, "checkpoints"), NULL, &e);
        if (!c) fail_msg("%s", e.msg);
        assert_int_equal(c->step, r.steps_done);
        fj_ckpt_close(c);
    }
}

/* An evaluation that is no number ends the run with a sentence too. */
static void test_eval_diverges(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    assert_false(rig_try(&(rig){ .folder = "away-eval" }, &r, &e, "method=full",
                         "learning_rate=100", "adam_beta2=0", "adam_beta1=0", "adam_epsilon=1e-30",
                         "weight_decay=10", "lr_scheduler_type=constant", "max_steps=60",
                         "eval_steps=1", NULL));
    printf("  %s\n", e.msg);
    assert_int_equal(e.code, FJ_EINVAL);
    assert_non_null(strstr(e.msg, "step "));
}

/* ---- memory ---------------------------------------------------------------------------------------- */
static void test_memory(void **state) {
    (void)state;
    refused(FJ_ENOMEM, SAYS("at least", "are allowed"), "max_memory=1000", NULL);
    refused(FJ_ENOMEM, SAYS("needs", "are allowed"), "max_memory=1000",
            "gradient_checkpointing=false", NULL);
    /* What the message asks for is enough, and a byte less is not. */
    fj_err e;
    fj_train_result r;
    assert_false(rig_try(&(rig){ .folder = "least" }, &r, &e, "max_memory=1000", NULL));
    const char *number = strstr(e.msg, "at least ");
    long long least = number ? atoll(number + 9) : 0;
    char limit[64];
    snprintf(limit, sizeof limit, "max_memory=%lld", least - 1);
    refused(FJ_ENOMEM, SAYS("at least"), limit, NULL);
    snprintf(limit, sizeof limit, "max_memory=%lld", least);
    r = rig_train(&(rig){ .folder = "least" }, limit, NULL);
    assert_int_equal(r.peak_bytes, least);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),          cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_base),          cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_ids),           cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_nan),           cmocka_unit_test(test_diverges),
        cmocka_unit_test(test_eval_diverges), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
