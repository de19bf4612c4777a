/* The chat templates of a model: read from each kind of file, and written again with nothing lost. */
#include "models/model.h"
#include "models/templates.h"

#include "test_util.h"

static void put(const char *path, const char *text) {
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, text, strlen(text), &e), e);
}

static fj_templates of(const char *path) {
    fj_templates t = { 0 };
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_templates_open(&t, path, &e), e);
    return t;
}

static void has(const fj_templates *t, const char *name, const char *text) {
    const char *s = fj_templates_find(t, name);
    if (text) assert_string_equal(s ? s : "nothing", text);
    else assert_null(s);
}

static void test_folder(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("folder"),
               *config = fj_test_path("folder/tokenizer_config.json");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    fj_templates t = of(dir);
    assert_int_equal(t.n, 0);
    assert_null(t.tokens);
    put(config,
        "{\"chat_template\": \"C\", \"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"pad_token\": null, \"add_bos_token\": true}");
    t = of(dir);
    assert_int_equal(t.n, 1);
    has(&t, "default", "C");
    assert_int_equal(json_object_size(t.tokens), 2);
    assert_string_equal(json_string_value(json_object_get(t.tokens, "eos_token")), "</s>");
    fj_templates_free(&t);
    put(config,
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, {\"name\": \"rag\", \"template\": \"R\"}]}");
    t = of(config); /* a file in the folder names it as well */
    assert_int_equal(t.n, 2);
    has(&t, "rag", "R");
    fj_templates_free(&t);
    /* A file of its own counts more than the configuration. */
    put(fj_test_path("folder/chat_template.jinja"), "F");
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("folder/additional_chat_templates"), &e), e);
    put(fj_test_path("folder/additional_chat_templates/tool_use.jinja"), "T");
    put(fj_test_path("folder/additional_chat_templates/README.md"), "no template");
    t = of(dir);
    assert_int_equal(t.n, 2);
    has(&t, "default", "F");
    has(&t, "tool_use", "T");
    has(&t, "rag", NULL);
    fj_templates_free(&t);
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("folder/chat_template.jinja"), "a\0b", 3, &e), e);
    FJ_FAILS_WITH(fj_templates_open(&t, dir, &e), e, "chat_template.jinja: byte 2 is zero");
    fj_templates_free(&t);
    FJ_OK_OR_FAIL(fj_remove_tree(fj_test_path("folder/chat_template.jinja"), &e), e);
    FJ_OK_OR_FAIL(fj_remove_tree(fj_test_path("folder/additional_chat_templates"), &e), e);
    static const char *const bad[][2] = {
        { "{\"chat_template\": 5}",
          "chat_template: expected a string or a list, found an integer" },
        { "{\"chat_template\": [{\"name\": \"x\"}]}",
          "chat_template[0]: expected an object with name and template" },
        { "{", "tokenizer_config.json: line 1" }
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        put(config, bad[i][0]);
        FJ_FAILS_WITH(fj_templates_open(&t, dir, &e), e, bad[i][1]);
        fj_templates_free(&t);
    }
}

static void same(const fj_templates *a, const fj_templates *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) has(b, a->v[i].name, a->v[i].text);
}

/* A model with templates in a folder, saved as GGUF, opened, saved as a folder, opened: all are still there. */
static void test_saved(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    fj_model *m = fj_model_open(d, FORJA_SOURCE_DIR "/models/forja-base.gguf", NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    has(&m->templates, "default", m->chat_template);
    assert_non_null(strstr(m->chat_template, "<|im_start|>"));
    const char *gguf = fj_test_path("again.gguf"), *dir = fj_test_path("saved"),
               *third = fj_test_path("third");
    FJ_OK_OR_FAIL(fj_model_save_hf(m, dir, "BF16", &e), e);
    fj_templates t = of(dir);
    same(&m->templates, &t);
    fj_templates_free(&t);
    fj_model_close(m);
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("saved/additional_chat_templates"), &e), e);
    put(fj_test_path("saved/additional_chat_templates/tool_use.jinja"), "T");
    put(fj_test_path("saved/chat_template.jinja"), "F");
    if (!(m = fj_model_open(d, dir, NULL, NULL, &e))) fail_msg("%s", e.msg);
    assert_string_equal(m->chat_template, "F");
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, gguf, "BF16", &e), e);
    t = of(gguf);
    same(&m->templates, &t);
    fj_templates_free(&t);
    fj_model_close(m);
    if (!(m = fj_model_open(d, gguf, NULL, NULL, &e))) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_model_save_hf(m, third, "BF16", &e), e);
    t = of(third);
    assert_int_equal(t.n, 2);
    same(&m->templates, &t);
    fj_templates_free(&t);
    fj_templates_add(&m->templates, "../../x", "a name that must not become a path");
    FJ_FAILS_WITH(fj_model_save_hf(m, third, "BF16", &e), e,
                  "a chat template is called \"../../x\"");
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_folder),
                                        cmocka_unit_test(test_saved) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
