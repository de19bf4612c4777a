/* test_worldgen.c - the text of the embedded model: repeatable, well-formed, split without leaks. */
#include "base/fs.h"
#include "test_util.h"
#include "train/recipe.h"

#include <jansson.h>
#include <regex.h>
#include <stdio.h>

#define MAX_CHARS 1200

typedef struct rows {
    json_t **row;
    size_t n, cap;
} rows;

static char *slurp(const char *dir, const char *name, size_t *n) {
    fj_err e = { 0 };
    char *path = fj_path_join(dir, name);
    char *s = fj_read_file(path, 1u << 28, n, &e);
    if (!s) fail_msg("%s", e.msg);
    free(path);
    return s;
}

static rows load(const char *dir, const char *name) {
    rows r = { 0 };
    size_t n;
    char *s = slurp(dir, name, &n);
    for (char *p = s; *p;) {
        char *end = strchr(p, '\n');
        assert_non_null(end);
        json_error_t je;
        json_t *row = json_loadb(p, (size_t)(end - p), JSON_REJECT_DUPLICATES, &je);
        if (!row) fail_msg("%s: row %zu: %s", name, r.n + 1, je.text);
        FJ_GROW(r.row, r.n + 1, r.cap);
        r.row[r.n++] = row;
        p = end + 1;
    }
    free(s);
    return r;
}

static void drop(rows *r) {
    for (size_t i = 0; i < r->n; i++) json_decref(r->row[i]);
    free(r->row);
}

static void generate(const char *dir, int n, int seed) {
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "%s --out '%s' --rows %d --seed %d 2>/dev/null", WORLDGEN, dir, n,
             seed);
    assert_int_equal(system(cmd), 0);
}

static size_t chars(const char *s) {
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* system? (user assistant)+, or up to the last user turn for eval; text whole and without leftovers
 * of the template language.  Returns the last question. */
static const char *check_messages(const json_t *row, bool open) {
    const json_t *m = json_object_get(row, "messages");
    size_t n = json_array_size(m), first = 0, total = 0;
    assert_true(n >= 1);
    const char *last = NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(m, i);
        const char *role = json_string_value(json_object_get(x, "role"));
        const char *text = json_string_value(json_object_get(x, "content"));
        assert_non_null(role);
        assert_non_null(text);
        assert_true(*text && !strpbrk(text, "{}[]"));
        assert_null(strstr(text, "  "));
        assert_null(strstr(text, "(null)"));
        total += chars(text);
        if (i == 0 && !strcmp(role, "system")) {
            first = 1;
            continue;
        }
        assert_string_equal(role, (i - first) % 2 ? "assistant" : "user");
        if (!strcmp(role, "user")) last = text;
    }
    assert_true(total <= MAX_CHARS);
    assert_int_equal((n - first) % 2, open ? 1 : 0);
    return last;
}

static void test_same_seed_same_bytes(void **state) {
    (void)state;
    static const char *const names[] = { "train.jsonl", "text.jsonl", "train.txt",
                                         "valid.jsonl", "eval.jsonl", "general.txt" };
    char a[] = "/tmp/forja-world-XXXXXX", b[] = "/tmp/forja-world-XXXXXX",
         c[] = "/tmp/forja-world-XXXXXX";
    assert_true(mkdtemp(a) && mkdtemp(b) && mkdtemp(c));
    generate(a, 600, 7);
    generate(b, 600, 7);
    generate(c, 600, 8);
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        size_t na, nb, nc;
        char *x = slurp(a, names[i], &na), *y = slurp(b, names[i], &nb),
             *z = slurp(c, names[i], &nc);
        assert_true(na > 1000);
        assert_true(na == nb && !memcmp(x, y, na));
        assert_false(na == nc && !memcmp(x, z, na));
        free(x);
        free(y);
        free(z);
    }
    fj_err e;
    assert_true(fj_remove_tree(a, &e) && fj_remove_tree(b, &e) && fj_remove_tree(c, &e));
}

static void test_rows(void **state) {
    (void)state;
    char dir[] = "/tmp/forja-world-XXXXXX";
    assert_non_null(mkdtemp(dir));
    generate(dir, 8000, 3);
    rows train = load(dir, "train.jsonl"), valid = load(dir, "valid.jsonl"),
         eval = load(dir, "eval.jsonl"), texts = load(dir, "text.jsonl");
    assert_int_equal(train.n + texts.n, 8000);
    assert_int_equal(valid.n, 160);
    assert_int_equal(eval.n, 160);
    /* Everything that is answered in training: question -> 1; texts -> 1; the answers of all time. */
    fj_map asked = { 0 }, all = { 0 }, held = { 0 };
    size_t portuguese = 0;
    for (size_t i = 0; i < texts.n; i++) {
        const char *t = json_string_value(json_object_get(texts.row[i], "text"));
        bool fresh;
        assert_non_null(t);
        assert_true(*t && chars(t) <= MAX_CHARS && !strpbrk(t, "{}[]\n"));
        fj_map_put(&asked, t, strlen(t), &fresh);
        assert_true(fresh);
    }
    for (size_t i = 0; i < train.n; i++) {
        bool fresh;
        char *whole = json_dumps(train.row[i], JSON_COMPACT);
        fj_map_put(&all, whole, strlen(whole), &fresh);
        assert_true(fresh);
        portuguese += strstr(whole, "ão") || strstr(whole, " é ") || strstr(whole, " que ");
        free(whole);
        check_messages(train.row[i], false);
        const json_t *m = json_object_get(train.row[i], "messages"), *x;
        size_t k;
        json_array_foreach(m, k, x) {
            const char *s = json_string_value(json_object_get(x, "content"));
            if (strcmp(json_string_value(json_object_get(x, "role")), "user")) continue;
            fj_map_put(&asked, s, strlen(s), NULL);
        }
    }
    assert_in_range(texts.n, 600, 1600);
    assert_in_range(portuguese, 1600, 4800);
    for (size_t i = 0; i < valid.n; i++) {
        const char *t = check_messages(valid.row[i], false);
        if (fj_map_get(&asked, t, strlen(t)))
            fail_msg("valid.jsonl asks what training does: %s", t);
        fj_map_put(&held, t, strlen(t), NULL);
    }
    size_t exact = 0;
    for (size_t i = 0; i < eval.n; i++) {
        const char *q = check_messages(eval.row[i], true);
        const char *a = json_string_value(json_object_get(eval.row[i], "answer"));
        const char *c = json_string_value(json_object_get(eval.row[i], "contains"));
        assert_true(!a != !c && *(a ? a : c));
        exact += a != NULL;
        if (fj_map_get(&asked, q, strlen(q)) || fj_map_get(&held, q, strlen(q)))
            fail_msg("eval.jsonl asks what another file does: %s", q);
    }
    assert_true(exact > 20 && exact < eval.n);
    size_t n;
    char *general = slurp(dir, "general.txt", &n);
    for (char *p = strtok(general, "\n"); p; p = strtok(NULL, "\n"))
        if (fj_map_get(&asked, p, strlen(p))) fail_msg("general.txt has a text of training: %s", p);
    free(general);
    fj_map_free(&asked);
    fj_map_free(&all);
    fj_map_free(&held);
    drop(&train);
    drop(&valid);
    drop(&texts);
    drop(&eval);
    fj_err e;
    assert_true(fj_remove_tree(dir, &e));
}

/* The last turn's answer of a row that stands in a longer text: what is marked as the answer of an
 * evaluation row is what the generator itself answers to the same question elsewhere. */
static void test_answers_derivable(void **state) {
    (void)state;
    char dir[] = "/tmp/forja-world-XXXXXX";
    assert_non_null(mkdtemp(dir));
    generate(dir, 8000, 5);
    rows train = load(dir, "train.jsonl"), eval = load(dir, "eval.jsonl");
    fj_str known = { 0 };
    for (size_t i = 0; i < train.n; i++) {
        const json_t *m = json_object_get(train.row[i], "messages"), *x;
        size_t k;
        json_array_foreach(m, k, x) {
            const char *s = json_string_value(json_object_get(x, "content"));
            fj_str_add(&known, s);
            fj_str_addc(&known, '\n');
        }
    }
    /* In training's answers (a fact of the world, a word, a number) or in its own prompt (a text to
     * be read); an upper-cased or sorted answer may be new, and those are few. */
    size_t found = 0;
    for (size_t i = 0; i < eval.n; i++) {
        const char *a = json_string_value(json_object_get(eval.row[i], "answer"));
        if (!a) a = json_string_value(json_object_get(eval.row[i], "contains"));
        const json_t *m = json_object_get(eval.row[i], "messages");
        bool ok = strstr(known.s, a) != NULL;
        for (size_t k = 0; k < json_array_size(m) && !ok; k++)
            ok = strstr(json_string_value(json_object_get(json_array_get(m, k), "content")), a);
        found += ok;
    }
    assert_true(found * 10 >= eval.n * 8);
    fj_str_free(&known);
    drop(&train);
    drop(&eval);
    fj_err e;
    assert_true(fj_remove_tree(dir, &e));
}

/* The demo's rows: every answer in the manner that is taught, held-out questions really held out, and
 * every score of an evaluation row given by its own right answer. */
static void test_demo(void **state) {
    (void)state;
    rows train = load(FORJA_SOURCE_DIR "/demo", "train.jsonl"),
         eval = load(FORJA_SOURCE_DIR "/demo", "eval.jsonl");
    assert_int_equal(train.n, 50);
    assert_int_equal(eval.n, 24);
    regex_t manner;
    assert_int_equal(regcomp(&manner,
                             "^(Notice: .+ Signed: Town Office of [A-Z][a-z]+\\.|"
                             "Aviso: .+ Assinado: Câmara de [A-Z][a-z]+\\.)$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    fj_map asked = { 0 };
    size_t english = 0;
    for (size_t i = 0; i < train.n; i++) {
        const char *q = check_messages(train.row[i], false);
        const json_t *m = json_object_get(train.row[i], "messages");
        const char *a = json_string_value(json_object_get(json_array_get(m, 1), "content"));
        assert_int_equal(regexec(&manner, a, 0, NULL, 0), 0);
        english += a[0] == 'N';
        bool fresh;
        fj_map_put(&asked, q, strlen(q), &fresh);
        assert_true(fresh);
    }
    assert_int_equal(english, 30);
    for (size_t i = 0; i < eval.n; i++) {
        const char *q = check_messages(eval.row[i], true);
        const char *a = json_string_value(json_object_get(eval.row[i], "answer"));
        const char *c = json_string_value(json_object_get(eval.row[i], "contains"));
        const char *r = json_string_value(json_object_get(eval.row[i], "regex"));
        assert_true(a && c && r);
        assert_non_null(strstr(a, c));
        assert_int_equal(regexec(&manner, a, 0, NULL, 0), 0);
        regex_t own;
        assert_int_equal(regcomp(&own, r, REG_EXTENDED | REG_NOSUB), 0);
        assert_int_equal(regexec(&own, a, 0, NULL, 0), 0);
        regfree(&own);
        if (fj_map_get(&asked, q, strlen(q)))
            fail_msg("demo/eval.jsonl asks what it taught: %s", q);
    }
    regfree(&manner);
    fj_map_free(&asked);
    drop(&train);
    drop(&eval);
}

/* The recipes that come with the texts: known keys, and paths that lead where the files are. */
static void test_recipes(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_recipe r;
    FJ_OK_OR_FAIL(fj_recipe_load(&r, FORJA_SOURCE_DIR "/demo/recipe.yaml", NULL, 0, &e), e);
    FJ_OK_OR_FAIL(fj_recipe_gate(&r, &e), e);
    assert_int_equal(r.method, FJ_METHOD_LORA);
    assert_true(fj_exists(r.data.s[0]) && fj_exists(r.eval_data.s[0]) &&
                fj_exists(r.general_data.s[0]));
    fj_recipe_free(&r);
    FJ_OK_OR_FAIL(fj_recipe_load(&r, FORJA_SOURCE_DIR "/recipes/base.yaml", NULL, 0, &e), e);
    FJ_OK_OR_FAIL(fj_recipe_gate(&r, &e), e);
    assert_int_equal(r.method, FJ_METHOD_FULL);
    assert_int_equal(r.export_type, FJ_RECIPE_Q8_0);
    assert_non_null(strstr(r.export_gguf, "/models/forja-base.gguf"));
    assert_null(strstr(r.base, "/recipes/build"));
    fj_recipe_free(&r);
}

/* Every file is read as training and evaluation read it: all rows, one shape each. */
static void test_loads(void **state) {
    (void)state;
    char dir[] = "/tmp/forja-world-XXXXXX";
    assert_non_null(mkdtemp(dir));
    generate(dir, 2000, 2);
    static const struct {
        const char *name;
        fj_data_format format;
        bool open;
        size_t n;
    } files[] = { { "train.jsonl", FJ_DATA_MESSAGES, false, 0 },
                  { "text.jsonl", FJ_DATA_TEXT, false, 0 },
                  { "valid.jsonl", FJ_DATA_MESSAGES, false, 40 },
                  { "eval.jsonl", FJ_DATA_MESSAGES, true, 40 },
                  { "general.txt", FJ_DATA_TEXT, false, 1 },
                  { FORJA_SOURCE_DIR "/demo/train.jsonl", FJ_DATA_MESSAGES, false, 50 },
                  { FORJA_SOURCE_DIR "/demo/eval.jsonl", FJ_DATA_MESSAGES, true, 24 },
                  { FORJA_SOURCE_DIR "/demo/general.txt", FJ_DATA_TEXT, false, 1 } };
    size_t both = 0;
    fj_err e = { 0 };
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        char *path =
            files[i].name[0] == '/' ? fj_strdup(files[i].name) : fj_path_join(dir, files[i].name);
        const char *const paths[] = { path };
        fj_dataset d = { 0 };
        FJ_OK_OR_FAIL(fj_dataset_load(&d, paths, 1,
                                      &(fj_dataset_opts){ .open_rows = files[i].open }, NULL, &e),
                      e);
        assert_int_equal(d.files[0].format, files[i].format);
        if (files[i].n) assert_int_equal(d.n, files[i].n);
        else both += d.n;
        fj_dataset_free(&d);
        free(path);
    }
    assert_int_equal(both, 2000);
    assert_true(fj_remove_tree(dir, &e));
}

static void test_usage(void **state) {
    (void)state;
    static const char *const bad[] = { "",
                                       "--rows 5",
                                       "--out /tmp/x --rows 0",
                                       "--out",
                                       "--out /tmp/x --rows -1",
                                       "--out /tmp/x --many 3" };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        char cmd[1024];
        snprintf(cmd, sizeof cmd, "%s %s 2>/dev/null", WORLDGEN, bad[i]);
        int rc = system(cmd);
        assert_int_equal(WEXITSTATUS(rc), 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_answers_derivable),
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
