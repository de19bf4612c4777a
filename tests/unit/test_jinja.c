/* The Jinja interpreter by itself: limits, messages, where bytes come from, several threads.  That it prints what
 * jinja2 prints is in tests/golden/test_templates.c. */
#include "test_util.h"

#include "text/jinja.h"

#include <pthread.h>

static fj_jinja *compile(const char *source) {
    fj_err e = { 0 };
    fj_jinja *t = fj_jinja_compile(source, strlen(source), "t", &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

static json_t *vars_of(const char *text) {
    json_error_t je;
    json_t *j = json_loads(text, 0, &je);
    if (!j) fail_msg("%s", je.text);
    return j;
}

static bool run(const char *source, const json_t *vars, const fj_jinja_opts *o, fj_jinja_text *out,
                fj_err *e) {
    fj_jinja_var v[16];
    size_t n = 0;
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)vars, key, x) v[n++] =
        (fj_jinja_var){ .name = key,
                        .value = x,
                        .trusted = !strcmp(key, "bos_token"),
                        .roles = !strcmp(key, "messages") };
    fj_jinja *t = fj_jinja_compile(source, strlen(source), "t", e);
    bool ok = t && fj_jinja_render(t, v, n, o, out, NULL, e);
    fj_jinja_free(t);
    return ok;
}

static void prints(const char *source, const char *want) {
    fj_err e = { 0 };
    fj_jinja_text x;
    FJ_OK_OR_FAIL(run(source, NULL, NULL, &x, &e), e);
    assert_string_equal(x.s, want);
    fj_jinja_text_free(&x);
}

static void fails(const char *source, const fj_jinja_opts *o, const char *with) {
    fj_err e = { 0 };
    fj_jinja_text x = { 0 };
    FJ_FAILS_WITH(run(source, NULL, o, &x, &e), e, with);
}

/* ---- where an error is ---------------------------------------------------------------------------- */
static void test_places(void **state) {
    (void)state;
    fails("a\n  {{ 1 +\n   'x' }}", NULL, "t: line 2 column 8: unsupported operand");
    fails("{% set a = 1 %}\n{{ missing.x }}", NULL, "line 2 column 12: 'missing' is undefined");
    fails("é {{ none.x.y }}", NULL, "line 1 column 13: 'None' has no attribute 'x'");
    fails("x\n{% if true %}\ny", NULL, "line 3 column 2: Unexpected end of template");
    fails("{{ 'a' | nope }}", NULL, "line 1 column 10: No filter named 'nope'.");
    fails("{{ (1 ]}}", NULL, "column 7: unexpected ']', expected ')'");
    fails("{% for x in 5 %}{% endfor %}", NULL, "'int' object is not iterable");
    fails("{{ raise_exception('Only\nuser') }}", NULL, "t: line 1 column 19: Only?user");
    fails("{% macro f(x) %}\n{{ x.y.z }}{% endmacro %}\n{{ f({}) }}", NULL,
          "line 2 column 8: 'dict object' has no attribute 'y'");
    fails("\xff", NULL, "byte 1 of the chat template is not UTF-8");
    /* What follows the first letter of a word is lowered as one text: only the second sigma ends it. */
    prints("{{ '\xcf\x89\xce\xa3\xce\xa3-x'|title }}", "\xce\xa9\xcf\x83\xcf\x82-X");
    prints("{{ 'e' in 'he' }}", "True");
}

/* ---- limits --------------------------------------------------------------------------------------- */
static void test_limits(void **state) {
    (void)state;
    static const char *const endless[] = {
        "{{ range(1000000000000) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(1000) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}",
        "{% set ns = namespace(s=1) %}{% for i in range(9000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s == [ns.s] }}{{ ns.s }}",
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'x'.zfill(99999999999) }}",
        "{{ 'x'.ljust(99999999999) }}",
        "{{ '%99999999999d' % 1 }}{{ '{:99999999}'.format(1) }}{{ '{:999999}'.format(1) * 1000 }}",
        "{{ ('x' * 60000000).replace('', 'yyyyyyyyyyyyyyyy') }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('ab') }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [i] %}{% endfor %}",
        "{% for i in range(100000) %}{{ range(100000) | list | sort | join }}{% endfor %}",
        "{{ ([[]] * 100000) | tojson(indent=1000) }}{% for i in range(100000) %}{{ [[]] * 1000 | tojson(indent=1000) }}{% endfor %}",
    };
    for (size_t i = 0; i < FJ_LEN(endless); i++) {
        fj_err e = { 0 };
        fj_jinja_text x = { 0 };
        double t0 = fj_clock();
        bool ok = run(endless[i], NULL, NULL, &x, &e);
        if (ok || !strstr(e.msg, "t: line 1 column "))
            fail_msg("%s\n  %s", endless[i], ok ? "was printed" : e.msg);
        printf("%6.0f ms  %s\n", (fj_clock() - t0) * 1e3, e.msg);
        fj_jinja_text_free(&x);
    }
    /* Nesting of the source itself. */
    static const struct {
        const char *open, *mid, *close;
    } nests[] = { { "(", "1", ")" },  { "[", "1", "]" },   { "{1:", "1", "}" },
                  { "-", "1", "" },   { "not ", "1", "" }, { "1+(", "1", ")" },
                  { "f(", "1", ")" }, { "a[", "1", "]" },  { "1 if 1 else ", "1", "" } };
    for (size_t i = 0; i < FJ_LEN(nests); i++) {
        fj_str s = { 0 };
        fj_err e = { 0 };
        fj_str_add(&s, "{{ ");
        for (int k = 0; k < 100000; k++) fj_str_add(&s, nests[i].open);
        fj_str_add(&s, nests[i].mid);
        for (int k = 0; k < 100000; k++) fj_str_add(&s, nests[i].close);
        fj_str_add(&s, " }}");
        assert_null(fj_jinja_compile(s.s, s.n, "t", &e));
        if (!strstr(e.msg, "t: line 1 column ")) fail_msg("%s", e.msg);
        fj_str_free(&s);
    }
    fj_str s = { 0 };
    fj_err e = { 0 };
    for (int k = 0; k < 100000; k++) fj_str_add(&s, "{% if 1 %}");
    assert_null(fj_jinja_compile(s.s, s.n, "t", &e));
    assert_non_null(strstr(e.msg, "blocks lie too deep"));
    fj_str_clear(&s);
    fj_str_add(&s, "{{ 1");
    for (int k = 0; k < 300; k++) fj_str_add(&s, " + 1"); /* long, and within the limit */
    fj_str_add(&s, " }}");
    prints(s.s, "301");
    fj_str_clear(&s);
    fj_str_add(&s, "{% if 0 %}");
    for (int k = 0; k < 3000; k++) fj_str_add(&s, "{% elif 0 %}");
    fj_str_add(&s, "{% else %}x{% endif %}");
    prints(s.s, "x");
    fj_str_free(&s);
    fails("{{ 'abc' * 10 }}", &(fj_jinja_opts){ .max_output = 20 }, "too long: over 20 bytes");
    fails("{% for i in range(50) %}{% endfor %}", &(fj_jinja_opts){ .max_steps = 30 },
          "over 30 steps");
    fails("{{ [1] * 100000 }}", &(fj_jinja_opts){ .max_memory = 100000 }, "over 100000 bytes");
    fails("{{ ((((((1 + 1) + 1) + 1) + 1) + 1) + 1) }}", &(fj_jinja_opts){ .max_depth = 5 },
          "too deep");
    fails("{{ 9223372036854775807 + 1 }}", NULL, "64 bits");
    fails("{{ -9223372036854775807 - 2 }}", NULL, "64 bits");
}

/* ---- where bytes come from ------------------------------------------------------------------------ */
/* The flags of what `source` makes of content "<x>" and role "user": . clean, i input, a answer, b both. */
static void flagged(const char *source, const char *text, const char *flags) {
    fj_err e = { 0 };
    fj_jinja_text x;
    json_t *vars = vars_of(
        "{\"messages\": [{\"role\": \"user\", \"content\": \" <x> \", \"n\": 5, \"l\": [\"<\", \"y\"], \"k\": {\"<k>\": 1}},"
        "{\"role\": \"<r>\", \"content\": \"\"}], \"v\": \"ab,c\", \"bos_token\": \"<s>\"}");
    FJ_OK_OR_FAIL(run(source, vars, NULL, &x, &e), e);
    assert_string_equal(x.s, text);
    char got[256];
    for (size_t i = 0; i < x.n; i++) got[i] = ".iab"[x.from ? x.from[i] : 0];
    got[x.n] = 0;
    assert_string_equal(got, flags);
    fj_jinja_text_free(&x);
    json_decref(vars);
}

static void test_provenance(void **state) {
    (void)state;
    flagged("<{{ messages[0].content }}>", "< <x> >", ".iiiii.");
    flagged("{{ bos_token }}{{ messages[0].role }}{{ messages[1].role }}", "<s>user<r>",
            ".......iii");
    flagged("{{ '<|' + messages[0].role + '|>' }}{{ '<' ~ messages[1].role }}", "<|user|><<r>",
            ".........iii");
    flagged("{{ messages[0].content | trim }}{{ messages[0].content.strip()[1:] }}", "<x>x>",
            "iiiii");
    flagged("{{ ('a' ~ v ~ 'b')[1:5] }}", "ab,c", "iiii");
    flagged("{{ ('a' ~ v ~ 'b')[::-1] }}", "bc,baa", ".iiii.");
    flagged("{{ 'x,y'.replace(',', v) }}", "xab,cy", ".iiii.");
    flagged("{{ v.replace('b', '--') }}", "a--,c", "i..ii");
    flagged("{{ v.split(',') | join('+') }}", "ab+c", "ii.i");
    flagged("{{ ('-' ~ v) | upper }}{{ v.title() }}", "-AB,CAb,C", ".iiiiiiii");
    flagged("{{ {'a': v} | tojson }}", "{\"a\": \"ab,c\"}", ".......iiii..");
    flagged("{{ messages[0].k | tojson }}", "{\"<k>\": 1}", "..iii.....");
    flagged("{{ messages[0].l }}", "['<', 'y']", "..i....i..");
    flagged("{{ '%s-%s' % (v, 1) }}{{ '{}!{}'.format(1, v) }}", "ab,c-11!ab,c", "iiii....iiii");
    flagged("{{ v | indent(1, true) }}{{ v | center(6) }}{{ v | length }}", " ab,c ab,c 4",
            ".iiii.iiii..");
    flagged("{% for c in v %}{{ c }}.{% endfor %}", "a.b.,.c.", "i.i.i.i.");
    flagged("{% set q %}-{{ v }}-{% endset %}{{ q }}", "-ab,c-", ".iiii.");
    flagged("{% macro f(x) %}({{ x }}){% endmacro %}{{ f(v) | lower }}", "(ab,c)", ".iiii.");
    flagged("{% filter upper %}q{{ v }}{% endfilter %}", "QAB,C", ".iiii");
    flagged("{{ messages[0].content | e | trim }}{{ messages[0].content | urlencode }}",
            "&lt;x&gt;%20%3Cx%3E%20", "iiiiiiiiiiiiiiiiiiiiii");
    flagged("{{ v * 2 }}{{ [v, 'z'] | sort | join }}{{ [v] | first }}", "ab,cab,cab,czab,c",
            "iiiiiiiiiiii.iiii");
    flagged("a{% generation %}b{{ v }}{% endgeneration %}c", "abab,cc", ".abbbb.");
    flagged(
        "{% macro f() %}{% generation %}x{% endgeneration %}y{% endmacro %}{{ f() }}{{ f() | upper }}",
        "xyXY", "a.a.");
}

/* ---- a template is shared ------------------------------------------------------------------------- */
typedef struct job {
    const fj_jinja *t;
    const json_t *list;
    bool ok;
} job;

static void *work(void *arg) {
    job *j = arg;
    j->ok = true;
    for (int i = 0; i < 300; i++) {
        fj_jinja_text x = { 0 };
        fj_err e = { 0 };
        fj_jinja_var v = { .name = "l", .value = j->list };
        j->ok = fj_jinja_render(j->t, &v, 1, NULL, &x, NULL, &e) &&
                !strcmp(x.s, "é[3, 1]é0: 3;1: 1;") && j->ok;
        fj_jinja_text_free(&x);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    fj_jinja *t = compile(
        "{{ 'é' }}{{ l }}{{ 'aé'[1:] }}{% for x in l %}{{ loop.index0 ~ ': ' ~ x }};{% endfor %}");
    json_t *list = vars_of("[3, 1]");
    pthread_t th[4];
    job j[4];
    for (int i = 0; i < 4; i++) {
        j[i] = (job){ t, list, false };
        assert_int_equal(pthread_create(&th[i], NULL, work, &j[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(th[i], NULL);
        assert_true(j[i].ok);
    }
    assert_true(fj_jinja_uses(t, "l"));
    assert_false(fj_jinja_uses(t, "m") || fj_jinja_marks_answers(t));
    json_decref(list);
    fj_jinja_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_provenance),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
