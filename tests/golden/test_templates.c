/* Chat templates beside jinja2 and transformers: small ones in full, those of the shared data by hashes. */
#include "golden.h"

#include "text/jinja.h"

static json_t *read_json(const char *rel) {
    fj_err e = { 0 };
    size_t n;
    const char *path = golden_path(rel);
    char *text = fj_read_file(path, 1 << 26, &n, &e);
    if (!text) fail_msg("%s", e.msg);
    json_error_t je;
    json_t *j = json_loadb(text, n, 0, &je);
    if (!j) fail_msg("%s: line %d: %s", path, je.line, je.text);
    free(text);
    return j;
}

static const char *str(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static double noon(const json_t *file) {
    struct tm tm = { .tm_hour = 12, .tm_isdst = -1 };
    assert_int_equal(sscanf(str(json_object_get(file, "made"), "day"), "%d-%d-%d", &tm.tm_year,
                            &tm.tm_mon, &tm.tm_mday),
                     3);
    tm.tm_year -= 1900;
    tm.tm_mon--;
    return (double)mktime(&tm);
}

/* Every member of vars is a variable; those that apply_chat_template always gives are there, too. */
static bool render(const fj_jinja *t, const json_t *vars, double now, fj_jinja_text *out,
                   bool *raised, fj_err *e) {
    static const char *const always[] = { "messages", "tools", "documents",
                                          "add_generation_prompt" };
    fj_jinja_var v[64];
    size_t n = 0;
    const char *key;
    json_t *x;
    for (size_t i = 0; i < FJ_LEN(always); i++)
        if (!json_object_get(vars, always[i]))
            v[n++] = (fj_jinja_var){ .name = always[i], .value = i == 3 ? json_false() : NULL };
    json_object_foreach((json_t *)(uintptr_t)vars, key, x) {
        assert_true(n < FJ_LEN(v));
        v[n++] = (fj_jinja_var){ .name = key, .value = x };
    }
    return fj_jinja_render(t, v, n, &(fj_jinja_opts){ .now = now }, out, raised, e);
}

/* Is what comes of a case what the peer said?  why: the difference. */
static bool as_said(const json_t *c, const json_t *vars, double now, char *why, size_t room) {
    const char *source = str(c, "template"), *text = str(c, "text"), *raised = str(c, "raised");
    fj_err e = { 0 };
    bool refused = false, ok;
    fj_jinja_text got = { 0 };
    fj_jinja *t = fj_jinja_compile(source, strlen(source), "golden", &e);
    bool made = t && render(t, vars, now, &got, &refused, &e);
    snprintf(why, room, "%s\n  gives %s\n  wants %s", source, made ? got.s : e.msg,
             text     ? text
             : raised ? raised
                      : str(c, "error"));
    if (text) ok = made && !strcmp(got.s, text);
    else ok = !made && (!raised || (refused && strstr(e.msg, raised)));
    fj_jinja_text_free(&got);
    fj_jinja_free(t);
    return ok;
}

static void test_cases(void **state) {
    (void)state;
    json_t *file = read_json("templates/cases.json"), *groups = json_object_get(file, "groups");
    size_t n = 0, bad = 0;
    char why[4000];
    double now = noon(file);
    for (size_t g = 0; g < json_array_size(groups); g++) {
        json_t *group = json_array_get(groups, g), *cases = json_object_get(group, "cases");
        json_t *vars = json_deep_copy(json_object_get(group, "vars"));
        json_object_set_new(vars, "messages",
                            json_pack("[{s:s, s:s}]", "role", "user", "content", "x"));
        for (size_t i = 0; i < json_array_size(cases); i++, n++)
            if (!as_said(json_array_get(cases, i), vars, now, why, sizeof why)) {
                bad++;
                print_error("%s\n", why);
            }
        json_decref(vars);
    }
    printf("%zu cases\n", n);
    json_decref(file);
    assert_true(n > 500);
    assert_int_equal(bad, 0);
}

/* Planted: a case whose text, error or words of refusal are not what comes. */
static void test_sees_a_difference(void **state) {
    (void)state;
    static const char *const planted[] = {
        "{\"template\": \"{{ 1 + 1 }}\", \"text\": \"3\"}",
        "{\"template\": \"{{ 1 + 1 }}\", \"error\": \"TypeError\"}",
        "{\"template\": \"{{ 1 + 'a' }}\", \"text\": \"\"}",
        "{\"template\": \"{{ raise_exception('a') }}\", \"raised\": \"b\"}",
        "{\"template\": \"{{ 1 / 0 }}\", \"raised\": \"division by zero\"}",
    };
    char why[4000];
    json_t *vars = json_object();
    for (size_t i = 0; i < FJ_LEN(planted); i++) {
        json_t *c = json_loads(planted[i], 0, NULL);
        assert_false(as_said(c, vars, 0, why, sizeof why));
        json_decref(c);
    }
    json_decref(vars);
}

static void test_marks(void **state) {
    (void)state;
    json_t *file = read_json("templates/marks.json"), *rows = json_object_get(file, "rows");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i), *spans = json_object_get(row, "spans");
        const char *source = str(row, "template");
        json_t *vars = json_deep_copy(json_object_get(file, "tokens"));
        json_object_set(vars, "messages", json_object_get(row, "messages"));
        fj_err e = { 0 };
        fj_jinja_text got;
        bool raised;
        fj_jinja *t = fj_jinja_compile(source, strlen(source), "golden", &e);
        if (!t) fail_msg("%s", e.msg);
        assert_true(fj_jinja_marks_answers(t));
        FJ_OK_OR_FAIL(render(t, vars, 0, &got, &raised, &e), e);
        assert_string_equal(got.s, str(row, "text"));
        uint8_t *want = fj_zalloc(got.n + 1);
        for (size_t k = 0; k < json_array_size(spans); k++) {
            json_int_t a = json_integer_value(json_array_get(json_array_get(spans, k), 0));
            json_int_t z = json_integer_value(json_array_get(json_array_get(spans, k), 1));
            memset(want + a, 1, (size_t)(z - a));
        }
        for (size_t k = 0; k < got.n; k++)
            assert_int_equal(got.from && (got.from[k] & FJ_FROM_ANSWER), want[k]);
        free(want);
        fj_jinja_text_free(&got);
        fj_jinja_free(t);
        json_decref(vars);
    }
    assert_true(json_array_size(rows) >= 16);
    json_decref(file);
}

/* What transformers does with messages first: members that are null go, reasoning has all of its names. */
static json_t *prepared(const json_t *row) {
    json_t *copy = json_deep_copy(row), *list = json_array();
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    for (size_t i = 0; i < json_array_size(json_object_get(row, "messages")); i++) {
        const json_t *m = json_array_get(json_object_get(row, "messages"), i);
        json_t *o = json_object(), *r = NULL, *x;
        const char *key;
        for (size_t k = 0; k < 3 && !r; k++) r = json_object_get(m, names[k]);
        if (r) json_object_set(o, "thinking", r);
        json_object_foreach((json_t *)(uintptr_t)m, key, x) {
            if (!json_is_null(x)) json_object_set(o, key, x);
        }
        if (r) json_object_set(o, "reasoning_content", r);
        json_array_append_new(list, o);
    }
    json_object_set_new(copy, "messages", list);
    return copy;
}

static void test_shared(void **state) {
    (void)state;
    const char *folder = fj_test_shared("models/templates");
    if (!folder) skip();
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", folder);
    json_t *file = read_json("templates/shared.json"),
           *talk = read_json("templates/conversations.json");
    json_t *rows = json_object_get(talk, "rows"), *cells;
    double now = noon(file);
    const char *name;
    size_t n = 0, texts = 0, bad = 0;
    json_object_foreach(json_object_get(file, "templates"), name, cells) {
        fj_err e = { 0 };
        size_t len;
        char *path = fj_path_join(dir, name), *source = fj_read_file(path, 1 << 22, &len, &e);
        if (!source) fail_msg("%s", e.msg);
        fj_jinja *t = fj_jinja_compile(source, len, name, &e);
        const char *cell = json_string_value(cells);
        for (size_t i = 0; i < json_array_size(rows); i++, n++) {
            size_t w = strcspn(cell, " ");
            json_t *row = prepared(json_array_get(rows, i));
            fj_jinja_text got = { 0 };
            bool raised = false, made = t && render(t, row, now, &got, &raised, &e);
            char hex[FJ_SHA256_HEX];
            if (made) fj_sha256(got.s, got.n, hex);
            const char *is = made ? hex : raised ? "raised" : "error";
            if (strncmp(is, cell, made ? 16 : w) || (made && w != 16)) {
                bad++;
                print_error("%s, conversation %zu: %s, not %.*s\n", name, i, made ? hex : e.msg,
                            (int)w, cell);
            }
            texts += made;
            cell += w + (cell[w] == ' ');
            fj_jinja_text_free(&got);
            json_decref(row);
        }
        fj_jinja_free(t);
        free(source);
        free(path);
    }
    printf("%zu templates, %zu texts, %zu refusals\n",
           json_object_size(json_object_get(file, "templates")), texts, n - texts);
    json_decref(file);
    json_decref(talk);
    assert_true(texts > 2000);
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_sees_a_difference),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
