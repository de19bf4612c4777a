/* The insides of src/text that have a simpler twin: expressions matched by hand beside PCRE2, long words merged in
 * blocks beside merged at once, unigram's lattice in stretches beside a whole one; and vocabularies with
 * holes, doubles and missing bytes. */
#include "test_util.h"

#include "text/tok.h"

#include <pthread.h>

/* ---- expressions ----------------------------------------------------------------------------------- */
static bool unassigned(const pcre2_code *cn, pcre2_match_data *md, const char *b, size_t n) {
    return pcre2_match(cn, (PCRE2_SPTR)b, n, 0, 0, md, NULL) >= 0;
}

static void random_text(fj_rng *r, const pcre2_code *cn, pcre2_match_data *md, fj_str *s,
                        size_t chars) {
    static const char *const bits[] = { "'s",
                                        "'LL",
                                        "'re",
                                        "'\xc5\xbf",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "word",
                                        "Word",
                                        "WORD",
                                        "12",
                                        "1234567",
                                        "_",
                                        "\xd9\xa1",
                                        "3",
                                        "\xc2\xa0",
                                        "\xe2\x80\xa8",
                                        ".",
                                        "!?",
                                        "/",
                                        "\xcc\x81",
                                        "\xc3\xa9",
                                        "\xe6\xbc\xa2",
                                        "\xd7\x90",
                                        "\xc7\x85",
                                        "\xf0\x9f\x98\x80",
                                        "\xe1\xa0\x8e",
                                        "'",
                                        "'d",
                                        "\xca\xb0" };
    fj_str_clear(s);
    for (size_t i = 0; i < chars; i++) {
        if (fj_rng_below(r, 4)) {
            fj_str_add(s, bits[fj_rng_below(r, FJ_LEN(bits))]);
            continue;
        }
        static const uint32_t tops[] = { 0x80, 0x800, 0x3000, 0x10000, 0x20000 };
        uint32_t c = (uint32_t)fj_rng_below(r, tops[fj_rng_below(r, 5)]);
        if ((c >= 0xd800 && c < 0xe000) || c == 0) continue;
        char b[4];
        size_t n = fj_utf8_put(c, b);
        /* Characters that only one of the two libraries knows are left out. */
        if (!unassigned(cn, md, b, n)) fj_str_addn(s, b, n);
    }
}

/* Does PCRE2 match here, and how far? */
static size_t by_pcre(const pcre2_code *re, pcre2_match_data *md, const fj_str *s, size_t at) {
    int rc = pcre2_match(re, (PCRE2_SPTR)s->s, s->n, at, PCRE2_ANCHORED, md, NULL);
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(md);
    return rc < 0 ? 0 : ov[1] - at;
}

static void test_scanners(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    uint8_t *table = fj_char_table();
    fj_str s = { 0 };
    fj_err e = { 0 };
    size_t k = 0, compared = 0;
    pcre2_code *cn = fj_regex((fj_bytes){ "\\p{Cn}", 6 }, false, "test", &e);
    assert_non_null(cn);
    for (const char *x; (x = fj_scan_expression(k)); k++) {
        fj_tok_pre p = { .kind = FJ_PRE_SPLIT, .regex = { x, strlen(x) } };
        const fj_scan *sc = fj_scan_find(&p);
        assert_non_null(sc);
        pcre2_code *re = fj_regex(p.regex, false, "test", &e);
        if (!re) fail_msg("%s", e.msg);
        pcre2_match_data *md = pcre2_match_data_create(1, NULL);
        for (int i = 0; i < 1500; i++) {
            fj_scan_run digits = { 0 };
            random_text(&r, cn, md, &s, 1 + fj_rng_below(&r, 24));
            for (size_t at = 0; at < s.n;
                 at += FJ_MAX(fj_utf8_len(s.s + at, s.n - at), (size_t)1)) {
                size_t want = by_pcre(re, md, &s, at),
                       got = fj_scan_at(sc, table, s.s, s.n, at, &digits);
                if (want != got)
                    fail_msg("expression %zu at byte %zu of \"%s\": %zu bytes, PCRE2 matches %zu",
                             k, at, s.s, got, want);
                compared++;
            }
        }
        pcre2_match_data_free(md);
        pcre2_code_free(re);
    }
    assert_true(k >= 10 && compared > 100000);
    pcre2_code_free(cn);
    fj_str_free(&s);
    free(table);
}

/* ---- long words -------------------------------------------------------------------------------------- */
static fj_tokenizer *trained(const char *text, int vocab) {
    fj_bytes b = { text, strlen(text) };
    fj_bpe_opts o = { .vocab = vocab };
    fj_err e = { 0 };
    fj_tokenizer *t = fj_bpe_train(&b, 1, &o, &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

static void same_in_blocks(fj_tokenizer *t, const char *s, size_t n) {
    fj_ids a = { 0 }, b = { 0 };
    fj_err e = { 0 };
    assert_true(t->blocks);
    FJ_OK_OR_FAIL(fj_tokenize(t, s, n, 0, &a, &e), e);
    t->blocks = false;
    FJ_OK_OR_FAIL(fj_tokenize(t, s, n, 0, &b, &e), e);
    t->blocks = true;
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n * sizeof *a.p);
    fj_ids_free(&a);
    fj_ids_free(&b);
}

static void test_blocks(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_str text = { 0 };
    for (int i = 0; i < 8000; i++) {
        static const char *const bits[] = { "an",   "na", " ",  "b",       "aaa",
                                            "abab", "c",  "ca", "\xc3\xa9" };
        fj_str_add(&text, bits[fj_rng_below(&r, FJ_LEN(bits))]);
    }
    fj_tokenizer *t = trained(text.s, 700);
    size_t n = 60000;
    char *s = fj_alloc(n);
    for (int kind = 0; kind < 6; kind++) {
        static const char *const alphabets[] = { "ab", "abcn", "a", "anb", "aabc", "abcnaz" };
        const char *alphabet = alphabets[kind];
        for (size_t i = 0; i < n; i++) s[i] = alphabet[fj_rng_below(&r, strlen(alphabet))];
        if (kind == 5) /* long runs: borders are rare in them */
            for (size_t i = 0; i < n; i++) s[i] = "ab"[i / (1 + i % 5000) % 2];
        same_in_blocks(t, s, n - fj_rng_below(&r, 5000));
    }
    free(s);
    fj_str_free(&text);
    fj_tokenizer_free(t);
}

/* ---- threads: one tokenizer, one answer ---------------------------------------------------------------- */
typedef struct thread {
    pthread_t id;
    const fj_tokenizer *t;
    const fj_str *text;
    const fj_ids *want;
    bool ok;
} thread;

static void *encode_again(void *ctx) {
    thread *w = ctx;
    fj_err e = { 0 };
    fj_ids ids = { 0 };
    w->ok = true;
    for (int i = 0; i < 20 && w->ok; i++) {
        fj_ids_clear(&ids);
        w->ok = fj_tokenize(w->t, w->text->s, w->text->n, 0, &ids, &e) && ids.n == w->want->n &&
                memcmp(ids.p, w->want->p, ids.n * sizeof *ids.p) == 0;
    }
    fj_ids_free(&ids);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_str text = { 0 };
    for (int i = 0; i < 6000; i++) {
        char w[16];
        size_t n = 1 + fj_rng_below(&r, 6);
        for (size_t k = 0; k < n; k++) w[k] = (char)('a' + fj_rng_below(&r, 5));
        fj_str_addn(&text, w, n);
        fj_str_addc(&text, ' ');
    }
    fj_tokenizer *t = trained(text.s, 500);
    fj_ids want = { 0 };
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(t, text.s, text.n, 0, &want, &e), e);
    thread w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (thread){ .t = t, .text = &text, .want = &want };
        assert_int_equal(pthread_create(&w[i].id, NULL, encode_again, &w[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(w[i].id, NULL);
        assert_true(w[i].ok);
    }
    fj_ids_free(&want);
    fj_str_free(&text);
    fj_tokenizer_free(t);
}

/* ---- unigram ------------------------------------------------------------------------------------------- */
static void test_unigram_stretches(void **state) {
    (void)state;
    static const char json[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-2.5],[\"b\",-2.75],"
        "[\"ab\",-4.0],[\"ba\",-4.125],[\"aab\",-5.5],[\"bb\",-3.0],[\"abba\",-6.25]]}}";
    static const struct {
        const char *s;
        double x;
    } v[] = { { "a", -2.5 },   { "b", -2.75 }, { "ab", -4 },     { "ba", -4.125 },
              { "aab", -5.5 }, { "bb", -3 },   { "abba", -6.25 } };
    fj_err e = { 0 };
    fj_tokenizer *t = fj_tokenizer_from_json(json, sizeof json - 1, NULL, 0, &e);
    if (!t) fail_msg("%s", e.msg);
    fj_rng r = fj_test_rng();
    size_t n = 300000;
    char *s = fj_alloc(n);
    for (size_t i = 0; i < n; i++) s[i] = (char)('a' + fj_rng_below(&r, 2));
    double *best = fj_alloc((n + 1) * sizeof *best);
    int32_t *from = fj_alloc((n + 1) * sizeof *from), *piece = fj_alloc((n + 1) * sizeof *piece);
    best[0] = 0;
    for (size_t i = 1; i <= n; i++) best[i] = -1e300;
    for (size_t i = 0; i < n; i++)
        for (int32_t k = 0; k < (int32_t)FJ_LEN(v); k++) {
            size_t len = strlen(v[k].s);
            if (len > n - i || memcmp(s + i, v[k].s, len) != 0 ||
                !(best[i] + v[k].x > best[i + len]))
                continue;
            best[i + len] = best[i] + v[k].x;
            from[i + len] = (int32_t)i;
            piece[i + len] = k + 1;
        }
    fj_ids ids = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(t, s, n, 0, &ids, &e), e);
    size_t k = ids.n;
    for (int32_t i = (int32_t)n; i > 0; i = from[i]) {
        assert_true(k > 0);
        assert_int_equal(ids.p[--k], piece[i]);
    }
    assert_int_equal(k, 0);
    fj_ids_free(&ids);
    free(best);
    free(from);
    free(piece);
    free(s);
    fj_tokenizer_free(t);
}

/* A piece in tokenizer.model; its type is that of fj_tok_type. */
static void put_piece(fj_str *m, const char *text, float score, fj_tok_type type) {
    size_t n = strlen(text);
    fj_str_addc(m, 0x0a);
    fj_str_addc(m, (char)(n + 9));
    fj_str_addc(m, 0x0a);
    fj_str_addc(m, (char)n);
    fj_str_addn(m, text, n);
    fj_str_addc(m, 0x15);
    fj_str_addn(m, (const char *)&score, sizeof score);
    fj_str_addc(m, 0x18);
    fj_str_addc(m, (char)type);
}

static fj_tokenizer *sp_tokenizer(const fj_str *m) {
    fj_err e = { 0 };
    fj_tokenizer *t = fj_tokenizer_from_sentencepiece(m->s, m->n, NULL, 0, &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

/* With a piece of the user worth -0.1, "_" + "of" + "_ele" won here, as it does where its worth is that of its
 * characters; SentencePiece takes its eight bytes for 0.7. */
static void test_unigram_user(void **state) {
    (void)state;
    static const struct {
        const char *piece;
        float score;
        fj_tok_type type;
    } v[] = { { "<unk>", 0, FJ_TOKEN_UNKNOWN },
              { FJ_META "of" FJ_META, 0, FJ_TOKEN_USER },
              { "e", -4.4408F, FJ_TOKEN_NORMAL },
              { "l", -7.7396F, FJ_TOKEN_NORMAL },
              { FJ_META, -2.0989F, FJ_TOKEN_NORMAL },
              { "of", -7.0726F, FJ_TOKEN_NORMAL },
              { FJ_META "ele", -6.9459F, FJ_TOKEN_NORMAL } };
    static const int32_t want[] = { 1, 2, 3, 2 };
    fj_str m = { 0 };
    for (size_t i = 0; i < FJ_LEN(v); i++) put_piece(&m, v[i].piece, v[i].score, v[i].type);
    fj_tokenizer *t = sp_tokenizer(&m);
    fj_ids ids = { 0 };
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(t, "of ele", 6, 0, &ids, &e), e);
    assert_int_equal(ids.n, FJ_LEN(want));
    assert_memory_equal(ids.p, want, sizeof want);
    fj_ids_free(&ids);
    fj_tokenizer_free(t);
    fj_str_free(&m);
}

/* The sums of a long text went on and on and lost their last digits, where SentencePiece begins anew. */
static void test_unigram_far(void **state) {
    (void)state;
    static const struct {
        const char *s;
        float x;
    } v[] = { { "a", -2.51F },   { "b", -2.72F },  { "ab", -5.225F },  { "ba", -5.235F },
              { "aab", -7.73F }, { "bb", -5.45F }, { "abba", -10.47F } };
    fj_str m = { 0 };
    put_piece(&m, "<unk>", 0, FJ_TOKEN_UNKNOWN);
    for (size_t k = 0; k < FJ_LEN(v); k++) put_piece(&m, v[k].s, v[k].x, FJ_TOKEN_NORMAL);
    static const char bare[] = { 0x1a, 2, 0x18, 0 }; /* normalizer_spec: no "_" in front */
    fj_str_addn(&m, bare, sizeof bare);
    fj_tokenizer *t = sp_tokenizer(&m);
    fj_rng r = fj_test_rng();
    size_t n = 200000, reach = 0;
    char *s = fj_alloc(n);
    for (size_t i = 0; i < n; i++) s[i] = (char)('a' + fj_rng_below(&r, 2));
    float *best = fj_alloc((n + 1) * sizeof *best);
    int32_t *from = fj_zalloc((n + 1) * sizeof *from), *piece = fj_zalloc((n + 1) * sizeof *piece);
    best[0] = 0;
    for (size_t i = 0; i < n; i++) {
        float far = best[i];
        for (size_t k = i; far < -1e5F && k <= reach; k++) best[k] -= far;
        for (int32_t k = 0; k < (int32_t)FJ_LEN(v); k++) {
            size_t len = strlen(v[k].s), end = i + len;
            if (len > n - i || memcmp(s + i, v[k].s, len) != 0) continue;
            float x = best[i] + v[k].x;
            if (piece[end] && !(x > best[end])) continue;
            best[end] = x;
            from[end] = (int32_t)i;
            piece[end] = k + 1;
            reach = FJ_MAX(reach, end);
        }
    }
    fj_ids ids = { 0 };
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(t, s, n, 0, &ids, &e), e);
    size_t k = ids.n;
    for (int32_t i = (int32_t)n; i > 0; i = from[i]) {
        assert_true(k > 0);
        assert_int_equal(ids.p[--k], piece[i]);
    }
    assert_int_equal(k, 0);
    fj_ids_free(&ids);
    free(best);
    free(from);
    free(piece);
    free(s);
    fj_tokenizer_free(t);
    fj_str_free(&m);
}

/* ---- vocabularies that are not whole ---------------------------------------------------------------------- */
static fj_tokenizer *json_tokenizer(const char *json) {
    fj_err e = { 0 };
    fj_tokenizer *t = fj_tokenizer_from_json(json, strlen(json), NULL, 0, &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

static void expect(const char *json, const char *text, size_t dropped, size_t n,
                   const int32_t *want) {
    fj_tokenizer *t = json_tokenizer(json);
    fj_ids ids = { 0 };
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(t, text, strlen(text), 0, &ids, &e), e);
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.p, want, n * sizeof *want);
    assert_int_equal(ids.dropped, dropped);
    fj_ids_free(&ids);
    fj_tokenizer_free(t);
}

static void test_holes(void **state) {
    (void)state;
    /* Ids 1 to 6 are holes. */
    static const char holes[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":7},\"merges\":[]}}";
    fj_tokenizer *t = json_tokenizer(holes);
    assert_int_equal(fj_vocab_size(t), 8);
    assert_int_equal(fj_token_piece(t, 3).n, 0);
    assert_int_equal(fj_token_bytes(t, 3).n, 0);
    fj_tokenizer_free(t);
    expect(holes, "ab", 0, 2, (const int32_t[]){ 0, 7 });
    /* Without an unknown token, what has no token is left out and counted. */
    expect(holes, "axb", 1, 2, (const int32_t[]){ 0, 7 });
    expect(
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\","
        "\"vocab\":{\"a\":0,\"\xc3\x83\":1},\"merges\":[]}}",
        "a\xc3\xa9", 1, 2, (const int32_t[]){ 0, 1 });
    /* All bytes of a character are there, or it is unknown as a whole. */
    static const char bytes[] =
        "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"byte_fallback\":true,\"vocab\":{"
        "\"?\":0,\"<0xC3>\":1,\"<0xA9>\":2,\"a\":3},\"merges\":[]}}";
    expect(bytes, "\xc3\xa9", 0, 2, (const int32_t[]){ 1, 2 });
    expect(bytes, "\xc3\xa8", 0, 1, (const int32_t[]){ 0 });
    /* Doubles are an error that names both (test_tokenizer.c has those of one file). */
    fj_err e;
    fj_bytes tokens[] = { { "a", 1 }, { "b", 1 }, { "a", 1 } };
    float scores[] = { 0, -1, -2 };
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    p.model = "llama";
    p.n = 3;
    p.tokens = tokens;
    p.scores = scores;
    FJ_FAILS_WITH(fj_tokenizer_from_parts(&p, &e), e, "tokens 0 and 2 are both spelled \"a\"");
    p.n = 2;
    p.model = "t5";
    p.charsmap = (fj_bytes){ "\xff\xff\xff\xff....", 8 };
    FJ_FAILS_WITH(fj_tokenizer_from_parts(&p, &e), e, "precompiled_charsmap");
}

static void test_refused_files(void **state) {
    (void)state;
    fj_err e;
    FJ_FAILS_WITH(fj_tokenizer_from_tiktoken("YQ== 0\nYg==\n", 12, "gpt2", NULL, 0, &e), e,
                  "line 2");
    FJ_FAILS_WITH(fj_tokenizer_from_tiktoken("YQ== 0\nYg== 0\n", 14, "gpt2", NULL, 0, &e), e,
                  "same id 0");
    FJ_FAILS_WITH(fj_tokenizer_from_tiktoken("YQ== 0\nYQ== 1\n", 14, "gpt2", NULL, 0, &e), e,
                  "both spelled");
    FJ_FAILS_WITH(fj_tokenizer_from_tiktoken("YQ== 0\n", 7, "gpt9", NULL, 0, &e), e, "gpt9");
    FJ_FAILS_WITH(fj_tokenizer_from_tiktoken("YQ== 0\n", 7, NULL, NULL, 0, &e), e, "1 ranks");
    FJ_FAILS_WITH(fj_tokenizer_from_sentencepiece("\x0a\x7f", 2, NULL, 0, &e), e, "cut off");
    FJ_FAILS_WITH(fj_tokenizer_from_sentencepiece("", 0, NULL, 0, &e), e, "cut off");
    FJ_FAILS_WITH(fj_tokenizer_from_vocab("{\"a\":0}", 7, "a b c\n", 6, NULL, 0, &e), e,
                  "merges.txt, line 1");
    FJ_FAILS_WITH(fj_tokenizer_from_vocab("{\"a\":0}", 7, "", 0, NULL, 0, &e), e,
                  "tokenizer_class");
    FJ_FAILS_WITH(fj_tokenizer_from_vocab("a\nb\n", 4, NULL, 0, NULL, 0, &e), e, "[CLS]");
    FJ_FAILS_WITH(fj_tokenizer_from_tekken("{}", 2, &e), e, "default_vocab_size");
    static const char piece[] = "\x0a\x08\x0a\x01"
                                "a\x15\0\0\0\0";
    static const char xlmr[] = "{\"tokenizer_class\":\"XLMRobertaTokenizer\"}";
    FJ_FAILS_WITH(
        fj_tokenizer_from_sentencepiece(piece, sizeof piece - 1, xlmr, sizeof xlmr - 1, &e), e,
        "XLMRobertaTokenizer");
    fj_tokenizer *t = fj_tokenizer_from_sentencepiece(piece, sizeof piece - 1, NULL, 0, &e);
    if (!t) fail_msg("%s", e.msg);
    fj_tokenizer_free(t);
}

/* Every name that GGUF may give is an expression that compiles, and cuts a text without losing of it. */
static bool count(void *ctx, const char *s, size_t n, fj_err *e) {
    (void)s;
    (void)e;
    *(size_t *)ctx += n;
    return true;
}
static void test_names(void **state) {
    (void)state;
    static const char *const names[] = { "default",
                                         "llama-bpe",
                                         "llama3",
                                         "llama4",
                                         "deepseek-llm",
                                         "deepseek-coder",
                                         "deepseek-v3",
                                         "deepseek-r1-qwen",
                                         "falcon",
                                         "falcon3",
                                         "falcon-h1",
                                         "mpt",
                                         "starcoder",
                                         "gpt-2",
                                         "phi-2",
                                         "jais",
                                         "jais-2",
                                         "refact",
                                         "command-r",
                                         "qwen2",
                                         "qwen35",
                                         "stablelm2",
                                         "olmo",
                                         "dbrx",
                                         "smaug-bpe",
                                         "poro-chat",
                                         "chatglm-bpe",
                                         "glm4",
                                         "viking",
                                         "jina-es",
                                         "jina-de",
                                         "jina-v1-en",
                                         "jina-v2-es",
                                         "jina-v2-de",
                                         "jina-v2-code",
                                         "roberta-bpe",
                                         "tekken",
                                         "pixtral",
                                         "smollm",
                                         "codeshell",
                                         "bloom",
                                         "gpt3-finnish",
                                         "exaone",
                                         "exaone4",
                                         "exaone-moe",
                                         "chameleon",
                                         "minerva-7b",
                                         "megrez",
                                         "gpt-4o",
                                         "superbpe",
                                         "trillion",
                                         "bailingmoe",
                                         "bailingmoe2",
                                         "llada-moe",
                                         "seed-coder",
                                         "hunyuan",
                                         "hunyuan-dense",
                                         "kimi-k2",
                                         "grok-2",
                                         "granite-docling",
                                         "granite-embed-multi-97m",
                                         "minimax-m2",
                                         "afmoe",
                                         "solar-open",
                                         "youtu",
                                         "lfm2",
                                         "gigachat",
                                         "a.x-4.0",
                                         "mellum",
                                         "mellum2",
                                         "modern-bert",
                                         "kormo",
                                         "tiny_aya",
                                         "cohere2moe",
                                         "minicpm5",
                                         "spark2_5",
                                         "laguna",
                                         "midm-2.0",
                                         "kanana2",
                                         "joyai-llm",
                                         "hy_v4",
                                         "ufakzeka",
                                         "f2llmv2" };
    static const char text[] =
        "It's  12345 \xe6\xbc\xa2\xe5\xad\x97 na\xc3\xafve\n\n x_y(z)! \xe2\x80\xa6";
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        fj_tok_pre steps[FJ_PRE_MAX];
        fj_pre_traits traits;
        int n = fj_pre_by_name(names[i], steps, &traits);
        if (n < 1) fail_msg("%s is not known", names[i]);
        fj_tok_desc d = { .n = 1,
                          .pieces = &(fj_bytes){ "a", 1 },
                          .byte_level = true,
                          .pres = steps,
                          .n_pres = (size_t)n,
                          .bos = -1,
                          .eos = -1,
                          .eot = -1,
                          .unk = -1,
                          .pad = -1 };
        fj_err e = { 0 };
        fj_tokenizer *t = fj_tokenizer_build(&d, &e);
        if (!t) fail_msg("%s: %s", names[i], e.msg);
        size_t bytes = 0;
        FJ_OK_OR_FAIL(fj_each_word(t, text, sizeof text - 1, count, &bytes, &e), e);
        if (bytes != sizeof text - 1)
            fail_msg("%s: %zu of %zu bytes", names[i], bytes, sizeof text - 1);
        fj_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scanners),          cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_unigram_stretches), cmocka_unit_test(test_unigram_user),
        cmocka_unit_test(test_unigram_far),       cmocka_unit_test(test_holes),
        cmocka_unit_test(test_refused_files),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
