/* test_tokens.c - ids of 200 lines of the shared data, as transformers makes them (tokens.py). */
#include "golden.h"

#include <forja/tokenizer.h>

enum { LONGEST = 400 };

typedef struct source {
    char name[128];
    char *text; /* of the whole file; NULL: not open */
    size_t n;
} source;

/* Line `number` (from 1) of the file, cut as tokens.py cuts it. */
static fj_bytes line_of(source *s, const char *file, long number) {
    if (!s->text || strcmp(s->name, file) != 0) {
        char rel[192];
        fj_err e = { 0 };
        free(s->text);
        snprintf(rel, sizeof rel, "datasets/%s", file);
        const char *path = fj_test_shared(rel);
        if (!path) fail_msg("no %s", rel);
        s->text = fj_read_file(path, (size_t)1 << 28, &s->n, &e);
        if (!s->text) fail_msg("%s", e.msg);
        snprintf(s->name, sizeof s->name, "%s", file);
    }
    const char *p = s->text, *end = s->text + s->n;
    for (long i = 1; i < number; i++) {
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p) fail_msg("%s has no line %ld", file, number);
        p++;
    }
    const char *eol = memchr(p, '\n', (size_t)(end - p));
    size_t n = (size_t)((eol ? eol : end) - p);
    if (n > LONGEST)
        for (n = LONGEST; ((unsigned char)p[n] & 0xc0) == 0x80;) n--;
    return (fj_bytes){ p, n };
}

static void compare(const char *golden, const char *dir) {
    const char *where = fj_test_shared(dir), *data = fj_test_shared("datasets");
    if (!where || !data) skip();
    fj_err e = { 0 };
    size_t n, cn = 0, gn;
    char *jp = fj_path_join(where, "tokenizer.json"),
         *cp = fj_path_join(where, "tokenizer_config.json");
    char *json = fj_read_file(jp, (size_t)1 << 28, &n, &e), *config = NULL;
    if (!json) fail_msg("%s", e.msg);
    if (fj_exists(cp) && !(config = fj_read_file(cp, 1 << 24, &cn, &e))) fail_msg("%s", e.msg);
    fj_tokenizer *t = fj_tokenizer_from_json(json, n, config, cn, &e);
    if (!t) fail_msg("%s", e.msg);
    char *want = fj_read_file(golden_path(golden), 1 << 24, &gn, &e);
    if (!want) fail_msg("%s", e.msg);
    source s = { 0 };
    fj_ids ids = { 0 };
    int lines = 0;
    for (char *p = want, *eol; (eol = strchr(p, '\n')); p = eol + 1) {
        if (*p == '#') continue;
        *eol = 0;
        char *sp = strchr(p, ' '), *colon = sp;
        assert_non_null(sp);
        while (colon > p && *colon != ':') colon--;
        *colon = 0;
        fj_bytes text = line_of(&s, p, strtol(colon + 1, NULL, 10));
        fj_ids_clear(&ids);
        FJ_OK_OR_FAIL(
            fj_tokenize(t, text.p, text.n, FJ_TOK_BOS | FJ_TOK_EOS | FJ_TOK_SPECIAL, &ids, &e), e);
        size_t k = 0;
        for (char *q = sp; *q; k++) {
            long id = strtol(q, &q, 10);
            if (k >= ids.n || ids.p[k] != id)
                fail_msg("%s line %s: id %zu is %d, not %ld", p, colon + 1, k,
                         k < ids.n ? (int)ids.p[k] : -1, id);
        }
        if (k != ids.n) fail_msg("%s line %s: %zu ids, not %zu", p, colon + 1, ids.n, k);
        lines++;
    }
    assert_int_equal(lines, 200);
    free(s.text);
    free(want);
    free(json);
    free(config);
    free(jp);
    free(cp);
    fj_ids_free(&ids);
    fj_tokenizer_free(t);
}

static void test_stories(void **state) {
    (void)state;
    compare("tokens/stories260k.txt", "models/stories260K/hf");
}

static void test_smollm2(void **state) {
    (void)state;
    compare("tokens/smollm2.txt", "models/tokenizers/smollm2-tokenizer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
