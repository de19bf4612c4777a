/* test_vocabularies.c - tokenizers of every family, in the files they are shipped in: ids and texts as
 * tokenizers, sentencepiece and tiktoken make them (tools/golden/vocabularies.py). */
#include "golden.h"

#include <forja/tokenizer.h>

static size_t unhex(const char *s, const char *end, char *out) {
    size_t n = 0;
    for (; s + 1 < end; s += 2) {
        unsigned v;
        if (sscanf(s, "%2x", &v) != 1) fail_msg("not hex: %.20s", s);
        out[n++] = (char)v;
    }
    return n;
}

static void ids_of(const char *p, const char *end, fj_ids *ids) {
    fj_ids_clear(ids);
    while (p < end) {
        char *after;
        fj_ids_push(ids, (int32_t)strtol(p, &after, 10));
        if (after == p) fail_msg("not ids: %.20s", p);
        p = after + (after < end);
    }
}

static bool same(const fj_ids *a, const fj_ids *b) {
    return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n * sizeof *a->p));
}

/* The texts of want.txt, encoded by both. */
static void same_on_texts(const char *name, const char *how, const fj_tokenizer *t,
                          const fj_tokenizer *u, const char *want, size_t n) {
    char *text = fj_alloc(n);
    fj_ids a = { 0 }, b = { 0 };
    fj_err e = { 0 };
    for (const char *p = want, *eol; (eol = strchr(p, '\n')); p = eol + 1) {
        size_t m = unhex(p, memchr(p, ';', (size_t)(eol - p)), text);
        unsigned flags = FJ_TOK_BOS | FJ_TOK_EOS | FJ_TOK_SPECIAL;
        fj_ids_clear(&a);
        fj_ids_clear(&b);
        FJ_OK_OR_FAIL(fj_tokenize(t, text, m, flags, &a, &e), e);
        FJ_OK_OR_FAIL(fj_tokenize(u, text, m, flags, &b, &e), e);
        if (!same(&a, &b))
            fail_msg("%s, written as %s: \"%.*s\": other ids", name, how, (int)m, text);
    }
    fj_ids_free(&a);
    fj_ids_free(&b);
    free(text);
}

/* What is written reads back as the same tokenizer; what a format cannot say is refused, and only the families
 * below are.  How many formats could: *json, *gguf. */
static void there_and_back(const char *name, const fj_tokenizer *t, const char *want, size_t n,
                           int *json, int *gguf) {
    fj_err e = { 0 };
    size_t m;
    char *text = fj_tokenizer_to_json(t, &m, &e);
    if (text) {
        fj_tokenizer *u = fj_tokenizer_from_json(text, m, NULL, 0, &e);
        if (!u) fail_msg("%s: %s", name, e.msg);
        same_on_texts(name, "JSON", t, u, want, n);
        fj_tokenizer_free(u);
        free(text);
        ++*json;
    } else {
        printf("%s as JSON: %s\n", name, e.msg);
        assert_int_equal(e.code, FJ_EUNSUP);
    }
    fj_tok_parts p;
    e = (fj_err){ 0 };
    if (fj_tokenizer_parts(t, &p, &e)) {
        fj_tokenizer *u = fj_tokenizer_from_parts(&p, &e);
        if (!u) fail_msg("%s: %s", name, e.msg);
        /* Readers of GGUF add probabilities in double, SentencePiece in float: ties fall otherwise. */
        if (strcmp(name, "sp-unigram") != 0) same_on_texts(name, "GGUF", t, u, want, n);
        fj_tokenizer_free(u);
        fj_tokenizer_parts_free(&p);
        ++*gguf;
    } else assert_int_equal(e.code, FJ_EUNSUP);
}

static void compare(const char *name, int *json, int *gguf) {
    char rel[128];
    fj_err e = { 0 };
    size_t n;
    snprintf(rel, sizeof rel, "tokenizers/%s", name);
    fj_tokenizer *t = fj_tokenizer_from_folder(golden_path(rel), &e);
    if (!t) fail_msg("%s", e.msg);
    snprintf(rel, sizeof rel, "tokenizers/%s/want.txt", name);
    char *want = fj_read_file(golden_path(rel), 1 << 20, &n, &e);
    if (!want) fail_msg("%s", e.msg);
    char *text = fj_alloc(n), *back = fj_alloc(n);
    fj_ids ids = { 0 }, theirs = { 0 };
    int lines = 0, texts = 0;
    for (char *p = want, *eol; (eol = strchr(p, '\n')); p = eol + 1, lines++) {
        char *a = memchr(p, ';', (size_t)(eol - p)),
             *b = a ? memchr(a + 1, ';', (size_t)(eol - a)) : NULL;
        if (!b) fail_msg("%s: line %d has no three fields", name, lines + 1);
        size_t m = unhex(p, a, text), k;
        ids_of(a + 1, b, &theirs);
        fj_ids_clear(&ids);
        /* In SentencePiece, text is never a control symbol. */
        unsigned flags = FJ_TOK_BOS | FJ_TOK_EOS | (strncmp(name, "sp-", 3) ? FJ_TOK_SPECIAL : 0);
        FJ_OK_OR_FAIL(fj_tokenize(t, text, m, flags, &ids, &e), e);
        if (!same(&ids, &theirs))
            fail_msg("%s, text %d: \"%.*s\": other ids", name, lines + 1, (int)m, text);
        if (b[1] == '-') continue;
        texts++;
        char *ours = fj_detokenize(t, theirs.p, theirs.n, false, &k);
        m = unhex(b + 1, eol, back);
        if (k != m || memcmp(ours, back, m) != 0)
            fail_msg("%s, text %d: decodes to \"%s\", not \"%.*s\"", name, lines + 1, ours, (int)m,
                     back);
        free(ours);
    }
    if (lines < 40) fail_msg("%s: only %d texts", name, lines);
    there_and_back(name, t, want, n, json, gguf);
    printf("%s: %d texts, %d of them decoded\n", name, lines, texts);
    fj_ids_free(&ids);
    fj_ids_free(&theirs);
    free(text);
    free(back);
    free(want);
    fj_tokenizer_free(t);
}

static void test_families(void **state) {
    (void)state;
    static const char *const names[] = { "bpe-llama3", "bpe-o200k", "bpe-kimi", "bpe-deepseek-v3",
                                         "bpe-llama",  "bpe-gpt1",  "bpe-clip", "added",
                                         "sp-unigram", "sp-bpe",    "unigram",  "wordpiece",
                                         "wordlevel",  "tiktoken" };
    int json = 0, gguf = 0;
    for (size_t i = 0; i < FJ_LEN(names); i++) compare(names[i], &json, &gguf);
    printf("written and read again: %d as JSON, %d as GGUF\n", json, gguf);
    assert_true(json >= 10 && gguf >= 5);
}

/* A list that is one id off is seen. */
static void test_sees_a_difference(void **state) {
    (void)state;
    fj_ids a = { 0 }, b = { 0 };
    ids_of("1 2 3", "1 2 3" + 5, &a);
    ids_of("1 2 4", "1 2 4" + 5, &b);
    assert_false(same(&a, &b));
    b.p[2] = 3;
    assert_true(same(&a, &b));
    b.n = 2;
    assert_false(same(&a, &b));
    fj_ids_free(&a);
    fj_ids_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_sees_a_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
