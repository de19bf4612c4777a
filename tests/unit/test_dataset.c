#include "test_util.h"

#include "data/dataset.h"
#include "data/read.h"

#include <zlib.h>
#include <zstd.h>

static void hear(void *ctx, fj_level level, const char *text) {
    (void)level;
    fj_str_addf(ctx, "%s\n", text);
}

static const char *file(const char *name, const char *text) {
    const char *path = fj_test_path(name);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, text, strlen(text), &e), e);
    return path;
}

static bool load(fj_dataset *d, const char *path, fj_dataset_opts o, fj_err *e) {
    return fj_dataset_load(d, &path, 1, &o, NULL, e);
}

static void expect(const fj_data_row *r, const char *roles, const char *first, const char *last) {
    char got[16] = "";
    for (int i = 0; i < r->n_messages; i++) {
        got[i] = r->messages[i].role[0];
        got[i + 1] = 0;
    }
    assert_string_equal(got, roles);
    assert_string_equal(r->messages[0].content, first);
    assert_string_equal(r->messages[r->n_messages - 1].content, last);
}

static void test_formats(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *roles, *first, *last;
        fj_data_format f;
    } cases[] = {
        { "a.json", "[{\"instruction\":\"q\",\"input\":\"i\",\"output\":\"a\"}]", "ua", "q\ni", "a",
          FJ_DATA_ALPACA },
        { "a.jsonl",
          "{\"instruction\":\"q\",\"response\":\"a\",\"system\":\"s\","
          "\"history\":[[\"h\",\"r\"]]}\n",
          "suaua", "s", "a", FJ_DATA_ALPACA },
        { "s.json",
          "[{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},"
          "{\"from\":\"function_call\",\"value\":\"f\"},{\"from\":\"observation\",\"value\":"
          "\"o\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"system\":\"s\"}]",
          "suata", "s", "a", FJ_DATA_SHAREGPT },
        { "m.jsonl",
          "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]}"
          ",{\"role\":\"assistant\",\"content\":\"a\\u00e9\"}]}",
          "ua", "q", "a\xc3\xa9", FJ_DATA_MESSAGES },
        { "p.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}", "ua", "q", "a", FJ_DATA_PROMPT },
        { "p2.jsonl",
          "{\"prompt\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\""
          ":\"q\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
          "sua", "s", "a", FJ_DATA_PROMPT },
    };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        fj_dataset d;
        fj_err e = { 0 };
        FJ_OK_OR_FAIL(load(&d, file(cases[i].name, cases[i].text), (fj_dataset_opts){ 0 }, &e), e);
        assert_int_equal(d.n, 1);
        assert_int_equal(d.files[0].format, cases[i].f);
        expect(&d.rows[0], cases[i].roles, cases[i].first, cases[i].last);
        fj_dataset_free(&d);
    }
}

static void test_text(void **state) {
    (void)state;
    fj_dataset d;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(load(&d, file("t.txt", "\xef\xbb\xbfOne.\nTwo.\n"), (fj_dataset_opts){ 0 }, &e),
                  e);
    assert_int_equal(d.n, 1);
    assert_true(d.rows[0].document);
    assert_string_equal(d.rows[0].text, "One.\nTwo.\n");
    fj_dataset_free(&d);
    FJ_OK_OR_FAIL(load(&d, file("t.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"}"),
                       (fj_dataset_opts){ 0 }, &e),
                  e);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.rows[1].line, 3);
    assert_string_equal(d.rows[1].text, "b");
    fj_dataset_free(&d);
}

/* Every sentence that a bad file gets. */
static void test_bad(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *says;
    } cases[] = {
        { "e.jsonl", "", "e.jsonl: the data set is empty" },
        { "e.json", "[]", "e.json: the data set is empty" },
        { "e.txt", " \n", "e.txt: the data set is empty" },
        { "k.jsonl", "{\"q\":1,\"z\":2}",
          "line 1: keys {q, z} are no known format: expected instruction" },
        { "n.jsonl", "[1]\n", "line 1: expected an object for each row, found a list" },
        { "n.json", "[{\"text\":\"a\"},\n 7]",
          "line 2: read as text like the rows before: expected an object" },
        { "d.jsonl", "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}", "preference data" },
        { "u.jsonl", "{\"text\":\"a\"}\n{\"text\":\"\xff\"}",
          "line 2: byte 10 (0xff) is not UTF-8" },
        { "u.txt", "ok\nno\xc3(", "line 2: byte 3 (0xc3) is not UTF-8" },
        { "z.jsonl", "{\"text\":\"a\\u0000\"}",
          "line 1: column 17: a string holds a zero character" },
        { "j.jsonl", "{\"text\":\"a\"}\n{\"text\":", "j.jsonl line 2: column 8: not valid JSON" },
        { "j.json", "[{\"text\":\"a\"},\n\n{\"text\" 1}]",
          "j.json line 3: column 9: not valid JSON" },
        { "j2.json", "[{\"text\":\"a\"}", "line 1: the file ends inside the list" },
        { "j3.json", "[{\"text\":\"a\"}]\nx", "line 2: there is something after the end" },
        { "j4.json", "[{\"text\":\"a\"} {\"text\":\"b\"}]", "expected , or ] after a row" },
        { "dup.jsonl", "{\"text\":\"a\",\"text\":\"b\"}", "duplicate" },
        { "a1.jsonl", "{\"instruction\":\"q\",\"output\":\"\"}", "a1.jsonl line 1: has no answer" },
        { "a2.jsonl", "{\"instruction\":\"q\",\"output\":3}",
          "\"output\": expected a string, found an integer" },
        { "a3.jsonl", "{\"instruction\":\"\",\"output\":\"a\"}", "\"instruction\" is empty" },
        { "a4.jsonl", "{\"instruction\":\"q\",\"output\":\"a\",\"response\":\"a\"}", "has both" },
        { "a5.jsonl", "{\"instruction\":\"q\",\"output\":\"a\",\"history\":[[\"x\"]]}",
          "history[0]: expected" },
        { "m1.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
          "line 1: has no answer" },
        { "m2.jsonl", "{\"messages\":[{\"role\":\"alien\",\"content\":\"q\"}]}",
          "messages[0]: \"role\" is \"alien\"" },
        { "m3.jsonl", "{\"messages\":[{\"role\":\"user\"}]}",
          "messages[0]: \"content\" is missing" },
        { "m4.jsonl", "{\"messages\":{}}",
          "\"messages\": expected a list of messages, found an object" },
        { "m5.jsonl",
          "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
          "\"content\":\" \"}]}",
          "assistant message 2 is empty" },
        { "m6.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[]}]}",
          "\"content\" is missing" },
        { "m7.jsonl",
          "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":\"no json\"}",
          "\"tools\": expected a list, found text that is no JSON" },
        { "p1.jsonl", "{\"prompt\":\"q\",\"answer\":\"a\"}", "line 1: has no answer" },
        { "x.parquet", "PAR1", "not a kind of data file" },
        { "g.jsonl.gz", "this is no gzip", "not a whole gzip file" },
        { "g.jsonl.zst", "this is no zstd", "not a whole zstd file" },
    };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        fj_dataset d;
        fj_err e;
        FJ_FAILS_WITH(load(&d, file(cases[i].name, cases[i].text), (fj_dataset_opts){ 0 }, &e), e,
                      cases[i].says);
        assert_int_equal(d.n, 0);
    }
    fj_dataset d;
    fj_err e;
    FJ_FAILS_WITH(load(&d, "/nowhere.jsonl", (fj_dataset_opts){ 0 }, &e), e,
                  "cannot open /nowhere.jsonl");
    FJ_FAILS_WITH(load(&d, fj_test_dir(), (fj_dataset_opts){ 0 }, &e), e, "is a folder");
    FJ_FAILS_WITH(load(&d, file("f.jsonl", "{\"text\":\"a\"}"),
                       (fj_dataset_opts){ .format = FJ_DATA_MESSAGES }, &e),
                  e, "\"messages\" is missing");
    FJ_FAILS_WITH(load(&d, file("f.jsonl", "{\"text\":\"aaaaaaaa\"}"),
                       (fj_dataset_opts){ .max_bytes = 8 }, &e),
                  e, "larger than");
}

static void test_skip(void **state) {
    (void)state;
    fj_dataset d;
    fj_err e = { 0 };
    fj_str said = { 0 };
    fj_log log = { .ctx = &said, .message = hear };
    const char *path =
        file("skip.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\",\"id\":7}\n{\"prompt\":\"q\"}\n"
                           "nonsense\n{\"prompt\":\"q2\",\"completion\":\"a\"}\n");
    fj_dataset_opts o = { .skip_bad_rows = true };
    FJ_OK_OR_FAIL(fj_dataset_load(&d, &path, 1, &o, &log, &e), e);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.skipped, 2);
    assert_int_equal(d.rows[1].line, 4);
    assert_non_null(strstr(said.s, "2 bad rows left out; the first: "));
    assert_non_null(strstr(said.s, "skip.jsonl line 2: has no answer"));
    assert_non_null(strstr(said.s, "2 rows, format prompt (found)"));
    assert_non_null(strstr(said.s, "keys that are not read: id"));
    fj_str_free(&said);
    fj_dataset_free(&d);
    FJ_FAILS_WITH(load(&d, file("s2.jsonl", "{\"prompt\":\"q\"}\n"), o, &e), e,
                  "all 1 rows are bad");
}

static void test_eval_rows(void **state) {
    (void)state;
    fj_dataset d;
    fj_err e = { 0 };
    fj_dataset_opts o = { .open_rows = true };
    FJ_OK_OR_FAIL(
        load(&d,
             file("ev.jsonl", "{\"prompt\":\"q\",\"answer\":42}\n"
                              "{\"prompt\":\"q\",\"contains\":[\"a\",\"b\"],\"regex\":\"^x\"}\n"),
             o, &e),
        e);
    assert_string_equal(d.rows[0].answer, "42");
    assert_int_equal(d.rows[1].n_contains, 2);
    assert_string_equal(d.rows[1].contains[1], "b");
    assert_string_equal(d.rows[1].regex, "^x");
    fj_dataset_free(&d);
    FJ_FAILS_WITH(load(&d, file("ev2.jsonl", "{\"prompt\":\"q\"}"), o, &e), e, "has no answer");
    FJ_FAILS_WITH(load(&d, file("ev3.jsonl", "{\"prompt\":\"q\",\"contains\":[1]}"), o, &e), e,
                  "contains");
}

static void test_hash(void **state) {
    (void)state;
    fj_dataset d;
    fj_err e = { 0 };
    const char *paths[2] = {
        file("h1.jsonl",
             "{\"prompt\":\"q\",\"completion\":\"a\"}\n{\"prompt\":\"qa\",\"completion\":\"b\"}\n"),
        file("h2.json", "[{\"instruction\":\"q\",\"output\":\"a\"}]"),
    };
    fj_dataset_opts o = { 0 };
    FJ_OK_OR_FAIL(fj_dataset_load(&d, paths, 2, &o, NULL, &e), e);
    assert_int_equal(d.n, 3);
    assert_string_equal(d.rows[0].hash, d.rows[2].hash); /* the shape of the file does not matter */
    assert_string_not_equal(d.rows[0].hash, d.rows[1].hash);
    assert_int_equal(strlen(d.hash), 64);
    char buf[1100];
    assert_non_null(strstr(fj_row_name(&d, &d.rows[1], buf, sizeof buf), "h1.jsonl line 2"));
    fj_dataset_free(&d);
}

static void test_compressed(void **state) {
    (void)state;
    fj_str text = { 0 };
    for (int i = 0; i < 20000; i++) fj_str_addf(&text, "{\"text\":\"row %d\"}\n", i);
    const char *gz = fj_test_path("c.jsonl.gz"), *zst = fj_test_path("c.jsonl.zst");
    gzFile f = gzopen(gz, "wb");
    assert_int_equal(gzwrite(f, text.s, (unsigned)text.n), (int)text.n);
    gzclose(f);
    size_t cap = ZSTD_compressBound(text.n), k;
    char *out = fj_alloc(cap);
    k = ZSTD_compress(out, cap, text.s, text.n, 3);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(zst, out, k, &e), e);
    const char *both[2] = { gz, zst };
    for (int i = 0; i < 2; i++) {
        fj_dataset d;
        FJ_OK_OR_FAIL(load(&d, both[i], (fj_dataset_opts){ 0 }, &e), e);
        assert_int_equal(d.n, 20000);
        assert_string_equal(d.rows[19999].text, "row 19999");
        fj_dataset_free(&d);
        /* A small file must not unpack without bound. */
        FJ_FAILS_WITH(load(&d, both[i], (fj_dataset_opts){ .max_bytes = 200000 }, &e), e,
                      "after decompression");
    }
    FJ_OK_OR_FAIL(fj_write_file(zst, out, k - 9, &e), e);
    fj_dataset d;
    FJ_FAILS_WITH(load(&d, zst, (fj_dataset_opts){ 0 }, &e), e, "not a whole zstd file");
    free(out);
    fj_str_free(&text);
}

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t n, bad;
    } cases[] = { { "abc", 3, 3 },
                  { "a\0c", 3, 1 },
                  { "\xc0\x80", 2, 0 },
                  { "\xe0\x9f\xbf", 3, 0 },
                  { "\xed\xa0\x80", 3, 0 },
                  { "\xf4\x90\x80\x80", 4, 0 },
                  { "\xf0\x9f\x99\x82", 4, 4 },
                  { "x\xf0\x9f\x99", 4, 1 },
                  { "\xc3\xa9\x80", 3, 2 },
                  { "\xe2\x82\x41", 3, 0 } };
    for (size_t i = 0; i < FJ_LEN(cases); i++)
        assert_int_equal(fj_data_text_bad(cases[i].s, cases[i].n), cases[i].bad);
}

/* The demo's own data, as the demo reads it. */
static void test_demo(void **state) {
    (void)state;
    fj_dataset d;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(load(&d, fj_test_source("demo/train.jsonl"), (fj_dataset_opts){ 0 }, &e), e);
    assert_true(d.n >= 40);
    fj_dataset_free(&d);
    FJ_OK_OR_FAIL(
        load(&d, fj_test_source("demo/eval.jsonl"), (fj_dataset_opts){ .open_rows = true }, &e), e);
    assert_true(d.n >= 20);
    fj_dataset_free(&d);
    FJ_OK_OR_FAIL(load(&d, fj_test_source("demo/general.txt"), (fj_dataset_opts){ 0 }, &e), e);
    assert_int_equal(d.n, 1);
    fj_dataset_free(&d);
}

static void test_shared(void **state) {
    (void)state;
    static const struct {
        const char *path;
        size_t rows;
        fj_data_format f;
    } cases[] = { { "datasets/sft/alpaca_en_999.json", 999, FJ_DATA_ALPACA },
                  { "datasets/sft/code_alpaca_2k.json", 0, FJ_DATA_ALPACA },
                  { "datasets/sft/glaive_toolcall_300.json", 300, FJ_DATA_SHAREGPT },
                  { "datasets/sft/gpteacher_roleplay.json", 0, FJ_DATA_ALPACA },
                  { "datasets/raw/c4_300.jsonl", 300, FJ_DATA_TEXT },
                  { "datasets/raw/tinyshakespeare.txt", 1, FJ_DATA_TEXT } };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        const char *path = fj_test_shared(cases[i].path);
        if (!path) skip();
        fj_dataset d;
        fj_err e = { 0 };
        FJ_OK_OR_FAIL(load(&d, path, (fj_dataset_opts){ .skip_bad_rows = true }, &e), e);
        printf("%s: %zu rows, %lld skipped\n", cases[i].path, d.n, (long long)d.skipped);
        if (cases[i].rows) assert_int_equal(d.n + (size_t)d.skipped, cases[i].rows);
        assert_true(d.skipped * 50 <= (int64_t)d.n);
        assert_int_equal(d.files[0].format, cases[i].f);
        fj_dataset_free(&d);
    }
}

/* What a chat template reads goes through whole: calls, reasoning, tools, variables; the rest of a row does not. */
static void test_whole(void **state) {
    (void)state;
    static const char rows[] =
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"r\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.0}}}]},"
        "{\"role\":\"tool\",\"content\":\"t\",\"tool_call_id\":\"1\"}],\"tools\":\"[{\\\"name\\\": \\\"f\\\"}]\","
        "\"chat_template_kwargs\":{\"enable_thinking\":false},\"source\":\"web\"}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"weight\":1},{\"role\":\"assistant\",\"content\":\"a\",\"name\":null}]}\n";
    fj_dataset d;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(load(&d, file("whole.jsonl", rows), (fj_dataset_opts){ 0 }, &e), e);
    assert_int_equal(d.n, 2);
    assert_string_equal(d.rows[0].messages[0].role, "system");
    assert_string_equal(d.rows[0].messages[1].content, "q");
    assert_string_equal(d.rows[0].messages[2].content, "");
    json_t *j = fj_row_conversation(&d.rows[0], "not needed", false, NULL);
    char *text = json_dumps(j, JSON_COMPACT);
    assert_string_equal(
        text,
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"r\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.0}}}]},"
        "{\"role\":\"tool\",\"content\":\"t\",\"tool_call_id\":\"1\"}],\"tools\":[{\"name\":\"f\"}],\"chat_template_kwargs\":{\"enable_thinking\":false}}");
    fj_conv v = fj_row_conv(j);
    assert_int_equal(json_array_size(v.messages), 4);
    assert_int_equal(json_array_size(v.tools), 1);
    assert_true(json_is_false(json_object_get(v.kwargs, "enable_thinking")) && !v.documents);
    free(text);
    json_decref(j);
    assert_null(d.rows[1].json); /* two strings: nothing more to keep */
    j = fj_row_conversation(&d.rows[1], "s", true, "b");
    text = json_dumps(j, JSON_COMPACT);
    assert_string_equal(
        text,
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"b\"}]}");
    free(text);
    json_decref(j);
    assert_string_not_equal(d.rows[0].hash, d.rows[1].hash);
    fj_dataset_free(&d);
    fj_str deep = { 0 };
    fj_str_add(
        &deep,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":\"");
    for (int i = 0; i < 2047; i++) fj_str_addc(&deep, '[');
    for (int i = 0; i < 2047; i++) fj_str_addc(&deep, ']');
    fj_str_add(&deep, "\"}\n");
    bool ok = load(&d, file("deep.jsonl", deep.s), (fj_dataset_opts){ 0 }, &e);
    if (ok) fj_dataset_free(&d);
    else assert_non_null(strstr(e.msg, "too deep"));
    fj_str_free(&deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),    cmocka_unit_test(test_text),
        cmocka_unit_test(test_bad),        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_eval_rows),  cmocka_unit_test(test_hash),
        cmocka_unit_test(test_compressed), cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_whole),      cmocka_unit_test(test_shared),
        cmocka_unit_test(test_demo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
