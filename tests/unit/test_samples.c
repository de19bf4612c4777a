#include "test_util.h"

#include "data/samples.h"

/* A vocabulary of bytes: 0 unk, 1 bos, 2 eos, 3 and 4 the marks of ChatML, then 256 bytes; so a text has as many
 * tokens as bytes. */
enum { BOS = 1, EOS = 2, START = 3, END = 4, BYTE0 = 5, VOCAB = BYTE0 + 256 };

static fj_tokenizer *bytes_only(int add_bos) {
    char names[VOCAB][16];
    fj_bytes tokens[VOCAB];
    float scores[VOCAB] = { 0 };
    int32_t types[VOCAB];
    static const char *const special[] = { "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>" };
    for (int i = 0; i < VOCAB; i++) {
        if (i < BYTE0) snprintf(names[i], sizeof names[i], "%s", special[i]);
        else snprintf(names[i], sizeof names[i], "<0x%02X>", i - BYTE0);
        tokens[i] = (fj_bytes){ names[i], strlen(names[i]) };
        types[i] = i == 0 ? FJ_TOKEN_UNKNOWN : i < BYTE0 ? FJ_TOKEN_CONTROL : FJ_TOKEN_BYTE;
    }
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    p.model = "llama";
    p.n = VOCAB;
    p.tokens = tokens;
    p.scores = scores;
    p.types = types;
    p.bos = BOS;
    p.eos = EOS;
    p.unk = 0;
    p.add_bos = add_bos;
    p.add_eos = 0;
    p.add_prefix = 0;
    fj_err e = { 0 };
    fj_tokenizer *t = fj_tokenizer_from_parts(&p, &e);
    if (!t) fail_msg("%s", e.msg);
    return t;
}

static fj_dataset data(const char *name, const char *text, bool open_rows) {
    const char *path = fj_test_path(name);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, text, strlen(text), &e), e);
    fj_dataset d;
    fj_dataset_opts o = { .open_rows = open_rows };
    FJ_OK_OR_FAIL(fj_dataset_load(&d, &path, 1, &o, NULL, &e), e);
    return d;
}

static void hear(void *ctx, fj_level level, const char *text) {
    fj_str_addf(ctx, "%s%s\n", level == FJ_WARN ? "WARN " : "", text);
}

/* The bytes of the tokens that are learned; control tokens as letters. */
static void learned(const fj_sample *s, const char *want) {
    char got[256];
    size_t n = 0;
    for (int i = 0; i < s->n && n + 1 < sizeof got; i++) {
        if (!s->learn[i]) continue;
        got[n++] = s->ids[i] >= BYTE0 ? (char)(s->ids[i] - BYTE0) : "UBESZ"[s->ids[i]];
    }
    got[n] = 0;
    assert_string_equal(got, want);
    assert_int_equal(s->n_learn, n);
    assert_int_equal(s->learn[0], 0);
}

/* Chats live until the test is done with their vocabulary. */
static fj_chat *chats[8];
static size_t n_chats;
static const fj_chat *spelled(const fj_tokenizer *t, const char *how) {
    fj_err e = { 0 };
    fj_chat *c = fj_chat_open(t, &(fj_chat_opts){ .how = how }, &e);
    if (!c) fail_msg("%s", e.msg);
    assert_true(n_chats < FJ_LEN(chats));
    return chats[n_chats++] = c;
}
static void done(fj_tokenizer *t) {
    while (n_chats) fj_chat_close(chats[--n_chats]);
    fj_tokenizer_free(t);
}

#define SHORT_ROW                                                                                  \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n"

static void test_conversation(void **state) {
    (void)state;
    fj_tokenizer *t = bytes_only(1);
    fj_dataset d = data("c.jsonl",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"q<|im_end|>\"},{\"role\":"
                        "\"assistant\",\"content\":\"one\"},{\"role\":\"user\",\"content\":\"r\"},"
                        "{\"role\":\"assistant\",\"content\":\"two\"}]}\n" SHORT_ROW SHORT_ROW,
                        false);
    fj_samples s;
    fj_err e = { 0 };
    fj_samples_opts o = { .max_length = 200, .chat = spelled(t, "chatml") };
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, NULL, &e), e);
    assert_int_equal(s.n, 3);
    learned(&s.s[0], "oneZtwoZ"); /* answers and their end of turn, in every turn */
    assert_int_equal(s.s[0].ids[0], BOS);
    assert_int_equal(s.duplicates, 1);
    assert_true(s.s[1].hash == s.s[2].hash && s.s[1].hash != s.s[0].hash);
    assert_int_equal(s.s[2].row, 2);
    assert_int_equal(s.tokens, s.s[0].n + s.s[1].n + s.s[2].n);
    assert_int_equal(s.learn_tokens, 8 + 2 + 2);
    int32_t plain = s.s[1].n;
    fj_samples_free(&s);
    o.system_prompt = "sys";
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, NULL, &e), e);
    assert_true(s.s[1].n > plain + 3);
    learned(&s.s[1], "aZ");
    fj_samples_free(&s);
    o = (fj_samples_opts){ .max_length = 200, .chat = spelled(t, "raw") };
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, NULL, &e), e);
    learned(&s.s[1], "aE");
    fj_samples_free(&s);
    fj_dataset_free(&d);
    done(t);
}

static void test_long(void **state) {
    (void)state;
    fj_tokenizer *t = bytes_only(0);
    fj_dataset d = data("l.jsonl",
                        "{\"prompt\":\"q\",\"completion\":\"short\"}\n"
                        "{\"prompt\":\"q\",\"completion\":\"0123456789\"}\n"
                        "{\"prompt\":\"0123456789012345\",\"completion\":\"x\"}\n",
                        false);
    fj_str said = { 0 };
    fj_log log = { .ctx = &said, .message = hear };
    fj_samples s;
    fj_err e = { 0 };
    fj_samples_opts o = { .max_length = 10, .chat = spelled(t, "raw") };
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, &log, &e), e);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.too_long, 2);
    assert_int_equal(s.longest_row, 19);
    assert_non_null(
        strstr(said.s, "WARN samples: 2 rows are longer than max_length 10 and were left out"));
    assert_non_null(strstr(said.s, "l.jsonl line 2 with 13 tokens"));
    fj_samples_free(&s);
    fj_str_clear(&said);
    o.truncation = FJ_TRUNC_KEEP_START;
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, &log, &e), e);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.s[1].n, 10);
    learned(&s.s[1], "01234567");
    assert_int_equal(s.too_long, 2);
    assert_int_equal(s.no_target, 1); /* its answer was cut away */
    assert_non_null(strstr(said.s, "were cut at their end"));
    assert_non_null(strstr(said.s, "WARN samples: 1 rows have no token to learn"));
    fj_samples_free(&s);
    o.truncation = FJ_TRUNC_ERROR;
    FJ_FAILS_WITH(fj_samples_build(&s, &d, t, &o, NULL, &e), e,
                  "l.jsonl line 2: 13 tokens, and max_length is 10: raise it");
    assert_int_equal(s.n, 0);
    o = (fj_samples_opts){ .max_length = 3, .chat = spelled(t, "raw") };
    FJ_FAILS_WITH(fj_samples_build(&s, &d, t, &o, NULL, &e), e,
                  "no sample is left of 3 rows: 3 are longer than max_length 3");
    o.max_length = 1;
    FJ_FAILS_WITH(fj_samples_build(&s, &d, t, &o, NULL, &e), e, "max_length 1 is too small");
    fj_str_free(&said);
    fj_dataset_free(&d);
    done(t);
}

static void test_text(void **state) {
    (void)state;
    for (int bos = 0; bos < 2; bos++) {
        fj_tokenizer *t = bytes_only(bos);
        fj_dataset d = data("doc.txt", "abcdefghijklmnopqrstuvwx", false);
        fj_str said = { 0 };
        fj_log log = { .ctx = &said, .message = hear };
        fj_samples s;
        fj_err e = { 0 };
        fj_samples_opts o = { .max_length = 10, .chat = spelled(t, "raw") };
        FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, &log, &e), e);
        assert_int_equal(s.n, 3);
        assert_int_equal(s.chunked, 1);
        assert_non_null(strstr(said.s, "cut into consecutive samples"));
        assert_int_equal(strstr(said.s, "BOS in front") != NULL, bos);
        /* With BOS every token of the text is learned; without, the first of each sample has nothing
         * before it. */
        learned(&s.s[0], bos ? "abcdefghi" : "bcdefghij");
        learned(&s.s[1], bos ? "jklmnopqr" : "lmnopqrst");
        learned(&s.s[2], bos ? "stuvwxE" : "vwxE");
        for (int i = 0; i < 3; i++) {
            assert_int_equal(s.s[i].part, i);
            assert_int_equal(s.s[i].row, 0);
            if (bos) assert_int_equal(s.s[i].ids[0], BOS);
        }
        fj_samples_free(&s);
        fj_dataset_free(&d);
        done(t);
        fj_str_free(&said);
    }
}

static void test_open_rows(void **state) {
    (void)state;
    fj_tokenizer *t = bytes_only(0);
    fj_dataset d =
        data("o.jsonl",
             "{\"prompt\":\"q\",\"answer\":\"yes\"}\n{\"prompt\":\"q\",\"regex\":\"y\"}\n", true);
    fj_samples s;
    fj_err e = { 0 };
    fj_samples_opts o = { .max_length = 100, .chat = spelled(t, "raw") };
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, NULL, &e), e);
    assert_int_equal(s.n, 1);
    learned(&s.s[0], "yesE");
    assert_int_equal(s.no_target, 1);
    fj_samples_free(&s);
    fj_dataset_free(&d);
    done(t);
}

static fj_samples numbered(const fj_tokenizer *t, int n, int step) {
    fj_str s = { 0 };
    for (int i = 0; i < n; i += step) /* each row twice */
        fj_str_addf(
            &s,
            "{\"prompt\":\"%d\",\"completion\":\"a\"}\n{\"prompt\":\"%d\",\"completion\":\"a\"}\n",
            i, i);
    fj_dataset d = data("n.jsonl", s.s, false);
    fj_samples out;
    fj_err e = { 0 };
    fj_samples_opts o = { .max_length = 100, .chat = spelled(t, "raw") };
    FJ_OK_OR_FAIL(fj_samples_build(&out, &d, t, &o, NULL, &e), e);
    fj_dataset_free(&d);
    fj_str_free(&s);
    return out;
}

static void test_split(void **state) {
    (void)state;
    fj_tokenizer *t = bytes_only(0);
    fj_samples all = numbered(t, 1000, 1), half = numbered(t, 1000, 2);
    fj_split a, b, c;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_samples_split(&all, 0.1, 7, &a, &e), e);
    assert_int_equal(a.n_train + a.n_eval, 2000);
    assert_true(a.n_eval > 120 && a.n_eval < 280);
    fj_map side = { 0 };
    for (size_t i = 0; i < a.n_eval; i++) *fj_map_put(&side, &all.s[a.eval[i]].hash, 8, NULL) = 1;
    for (size_t i = 0; i < a.n_train; i++) /* equal rows are on one side */
        assert_null(fj_map_get(&side, &all.s[a.train[i]].hash, 8));
    /* Half of the rows gone: those that are left stay where they were. */
    FJ_OK_OR_FAIL(fj_samples_split(&half, 0.1, 7, &b, &e), e);
    for (size_t i = 0; i < b.n_eval; i++)
        assert_non_null(fj_map_get(&side, &half.s[b.eval[i]].hash, 8));
    for (size_t i = 0; i < b.n_train; i++)
        assert_null(fj_map_get(&side, &half.s[b.train[i]].hash, 8));
    FJ_OK_OR_FAIL(fj_samples_split(&all, 0.1, 8, &c, &e), e);
    size_t same = 0;
    for (size_t i = 0; i < c.n_eval; i++)
        same += fj_map_get(&side, &all.s[c.eval[i]].hash, 8) != NULL;
    assert_true(same < c.n_eval / 2); /* another seed is another split */
    fj_split_free(&a);
    fj_split_free(&b);
    fj_split_free(&c);
    fj_map_free(&side);
    fj_samples_free(&all);
    fj_samples_free(&half);

    /* Few rows: both sides get something, whatever is drawn. */
    fj_samples two = numbered(t, 2, 1), one = numbered(t, 1, 1);
    for (uint64_t seed = 0; seed < 50; seed++) {
        FJ_OK_OR_FAIL(fj_samples_split(&two, 0.01, seed, &a, &e), e);
        assert_int_equal(a.n_eval, 2);
        assert_int_equal(a.n_train, 2);
        fj_split_free(&a);
        FJ_OK_OR_FAIL(fj_samples_split(&two, 0.99, seed, &a, &e), e);
        assert_int_equal(a.n_train, 2);
        fj_split_free(&a);
    }
    FJ_FAILS_WITH(fj_samples_split(&one, 0.5, 1, &a, &e), e, "at least two different samples");
    FJ_FAILS_WITH(fj_samples_split(&two, 1, 1, &a, &e), e, "wants a share between 0 and 1");
    fj_samples_free(&one);
    fj_samples_free(&two);
    done(t);
}

static bool stop(void *ctx) {
    (void)ctx;
    return true;
}

static void test_stopped(void **state) {
    (void)state;
    fj_tokenizer *t = bytes_only(0);
    fj_dataset d = data("s.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}\n", false);
    fj_log log = { .should_stop = stop };
    fj_samples s;
    fj_err e;
    fj_samples_opts o = { .max_length = 100, .chat = spelled(t, "raw") };
    FJ_FAILS_WITH(fj_samples_build(&s, &d, t, &o, &log, &e), e, "stopped");
    assert_int_equal(e.code, FJ_ESTOP);
    fj_dataset_free(&d);
    done(t);
}

/* A real vocabulary and real data, when they are here. */
static void test_shared(void **state) {
    (void)state;
    const char *file = fj_test_shared("models/stories260K/hf/tokenizer.json");
    const char *paths[] = { fj_test_shared("datasets/sft/gpteacher_roleplay.json"),
                            fj_test_shared("datasets/raw/tinyshakespeare.txt") };
    if (!file || !paths[0] || !paths[1]) skip();
    fj_err e = { 0 };
    size_t n;
    char *json = fj_read_file(file, 1 << 26, &n, &e);
    fj_tokenizer *t = fj_tokenizer_from_json(json, n, NULL, 0, &e);
    if (!t) fail_msg("%s", e.msg);
    free(json);
    fj_dataset d;
    fj_dataset_opts dopts = { 0 };
    FJ_OK_OR_FAIL(fj_dataset_load(&d, paths, 2, &dopts, NULL, &e), e);
    fj_samples s;
    fj_samples_opts o = { .max_length = 256, .chat = spelled(t, "auto") };
    FJ_OK_OR_FAIL(fj_samples_build(&s, &d, t, &o, NULL, &e), e);
    printf("%zu samples, %lld tokens, %lld learned, %lld too long\n", s.n, (long long)s.tokens,
           (long long)s.learn_tokens, (long long)s.too_long);
    assert_int_equal(s.chunked, 1);
    assert_true(s.n > 1000);
    for (size_t i = 0; i < s.n; i++) assert_true(s.s[i].n <= 256 && s.s[i].n_learn >= 1);
    fj_samples_free(&s);
    fj_dataset_free(&d);
    done(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversation), cmocka_unit_test(test_long),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_open_rows),
        cmocka_unit_test(test_split),        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
