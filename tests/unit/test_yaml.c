/* YAML: the tree, its places, its limits. */
#include "test_util.h"

#include "formats/yaml.h"

static bool parse(fj_yaml_doc *d, const char *text, fj_err *e) {
    return fj_yaml_parse(d, text, strlen(text), "r.yaml", e);
}

static void tree(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_yaml_doc d;
    FJ_OK_OR_FAIL(
        parse(&d,
              "base: x.gguf\ntrain:\n  lr: 1e-4\n  steps: 1_000\n  big: 2e3\n  packing: yes\n"
              "  name: '12'\n  none: ~\n  empty:\nlist: [a, 2, {k: v}]\nagain: &z [1]\nmore: *z\n",
              &e),
        e);
    const fj_yaml *train = fj_yaml_get(d.root, "train"), *list = fj_yaml_get(d.root, "list");
    int64_t i;
    double x;
    bool b;
    const char *s;
    FJ_OK_OR_FAIL(fj_yaml_float(fj_yaml_get(train, "lr"), "train.lr", &x, &e), e);
    assert_true(x == 1e-4);
    FJ_OK_OR_FAIL(fj_yaml_int(fj_yaml_get(train, "steps"), "train.steps", &i, &e), e);
    assert_int_equal(i, 1000);
    FJ_OK_OR_FAIL(fj_yaml_int(fj_yaml_get(train, "big"), "train.big", &i, &e), e);
    assert_int_equal(i, 2000);
    FJ_OK_OR_FAIL(fj_yaml_bool(fj_yaml_get(train, "packing"), "train.packing", &b, &e), e);
    assert_true(b);
    FJ_OK_OR_FAIL(fj_yaml_string(fj_yaml_get(train, "name"), "train.name", &s, &e), e);
    assert_string_equal(s, "12");
    assert_true(fj_yaml_is_null(fj_yaml_get(train, "none")) &&
                fj_yaml_is_null(fj_yaml_get(train, "empty")));
    assert_true(fj_yaml_is_null(fj_yaml_get(train, "not there")));
    assert_true(list->kind == FJ_YAML_LIST && list->n == 3 && list->item[2]->kind == FJ_YAML_MAP);
    assert_ptr_equal(fj_yaml_get(d.root, "more"), fj_yaml_get(d.root, "again"));
    assert_true(train->line == 3 && list->line == 10 && list->col == 7);
    assert_string_equal(d.root->key[1]->text, "train");

    FJ_FAILS_WITH(fj_yaml_int(fj_yaml_get(train, "name"), "train.name", &i, &e), e,
                  "r.yaml:7:9: train.name: expected a whole number, found the text \"12\"");
    FJ_FAILS_WITH(fj_yaml_int(fj_yaml_get(train, "lr"), "train.lr", &i, &e), e,
                  "expected a whole number");
    FJ_FAILS_WITH(fj_yaml_bool(list, "list", &b, &e), e, "expected true or false, found a list");
    FJ_FAILS_WITH(fj_yaml_string(train, "train", &s, &e), e, "expected a text, found a map");
    fj_yaml_close(&d);
    FJ_OK_OR_FAIL(parse(&d, "", &e), e);
    assert_true(fj_yaml_is_null(d.root));
    fj_yaml_close(&d);
    fj_yaml_close(&d);
}

static void refused(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_yaml_doc d;
    const struct {
        const char *text, *says;
    } bad[] = {
        { "a: 1\nb: 2\na: 3\n", "r.yaml:3:1: key \"a\" is there twice, first on line 1" },
        { "a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys" },
        { "[a]: 1\n", "key must be a plain text" },
        { "a: !!python/object:os.system x\n", "r.yaml:1:4: tags of applications" },
        { "a: !x y\n", "tags of applications" },
        { "a: *b\n", "an alias names an anchor" },
        { "a: &a [*a]\n", "an alias names an anchor" },
        { "a: 1\n---\nb: 2\n", "a second document" },
        { "a: [1, 2\n", "r.yaml:2" },
        { "a:\n\tb: 1\n", "r.yaml:2" },
        { "a: \"\\0\"\n", "0 byte" },
        { "a: \xff\xfe\n", "r.yaml" },
        { "x: 1\n- y\n", "r.yaml:2" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        FJ_FAILS_WITH(parse(&d, bad[i].text, &e), e, bad[i].says);
        fj_yaml_close(&d);
    }
    fj_str laughs = { 0 };
    fj_str_add(&laughs, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 30; i++)
        fj_str_addf(&laughs, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1,
                    i - 1, i - 1);
    FJ_FAILS_WITH(parse(&d, laughs.s, &e), e, "too many values");
    fj_str_clear(&laughs);
    for (int i = 0; i < 5000; i++) fj_str_addc(&laughs, '[');
    FJ_FAILS_WITH(parse(&d, laughs.s, &e), e, "nested deeper than 64");
    fj_str_clear(&laughs);
    while (laughs.n <= 1 << 20) fj_str_add(&laughs, "# comment of a file that is too large\n");
    FJ_FAILS_WITH(parse(&d, laughs.s, &e), e, "at most");
    fj_str_free(&laughs);
    FJ_FAILS_WITH(fj_yaml_open(&d, fj_test_path("no.yaml"), &e), e, "no.yaml");
}

static void numbers(void **state) {
    (void)state;
    fj_err e = { 0 };
    const struct {
        const char *text;
        bool ok;
        double v;
    } cases[] = {
        { "1", true, 1 },     { "-2.5e-3", true, -2.5e-3 },
        { ".5", true, 0.5 },  { "1e999", false, 0 },
        { "nan", false, 0 },  { "inf", false, 0 },
        { "0x10", false, 0 }, { "1 2", false, 0 },
        { "1e", false, 0 },   { "_", false, 0 },
        { "+3", true, 3 },    { "\"1\"", false, 0 },
    };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        fj_yaml_doc d;
        double v = 0;
        FJ_OK_OR_FAIL(parse(&d, cases[i].text, &e), e);
        if (fj_yaml_float(d.root, "x", &v, &e) != cases[i].ok) fail_msg("%s", cases[i].text);
        if (cases[i].ok) assert_true(v == cases[i].v);
        fj_yaml_close(&d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree),
        cmocka_unit_test(refused),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
