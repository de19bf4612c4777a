/* Chat templates from anyone, run on a small conversation under small limits: an error with a sentence, or a
 * text whose flags are as long as it is.  Then the same template with the first half of itself as content. */
#include "text/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char talk[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", \"content\": \" h\xc3\xa9llo <|x|> \"},"
    "{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1.5, \"b\": [null, true]}}}]},"
    "{\"role\": \"tool\", \"content\": \"42\"}, {\"role\": \"assistant\", \"content\": \"<think>x</think>y\", \"reasoning_content\": \"r\"}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"properties\": {\"a\": {\"type\": \"number\"}}}}}],"
    "\"d\": {\"b\": 2, \"a\": 1}, \"l\": [3, 1, 2], \"s\": \"a, b\\nc\", \"n\": 7, \"f\": 2.5}";

static void render(const fj_jinja *t, const json_t *vars) {
    fj_jinja_var v[16];
    size_t n_vars = 0;
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)vars, key, x) v[n_vars++] =
        (fj_jinja_var){ .name = key, .value = x, .roles = true };
    fj_jinja_opts o = { .now = 1e9,
                        .max_output = 1 << 20,
                        .max_memory = 32 << 20,
                        .max_steps = 100000,
                        .max_depth = 200 };
    fj_jinja_text text;
    fj_err e = { 0 };
    bool raised;
    if (!fj_jinja_render(t, v, n_vars, &o, &text, &raised, &e)) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]); /* no failure without a sentence */
        return;
    }
    FJ_ASSERT(text.s[text.n] == 0 && text.n <= 1 << 20);
    for (size_t i = 0; text.from && i < text.n; i++)
        FJ_ASSERT(text.from[i] <= (FJ_FROM_INPUT | FJ_FROM_ANSWER));
    fj_jinja_text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_jinja *t = fj_jinja_compile((const char *)data, n, "fuzz", &e);
    if (!t) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        return 0;
    }
    json_t *vars = json_loads(talk, 0, NULL), *s = json_stringn((const char *)data, n / 2);
    render(t, vars);
    if (s) {
        json_object_set_new(vars, "s", s);
        render(t, vars);
    }
    json_decref(vars);
    fj_jinja_free(t);
    return 0;
}
