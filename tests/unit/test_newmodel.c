/* forja-newmodel: a folder that reads back, the same for the same seed, and clear refusals. */
#include "test_util.h"

#include "formats/hf.h"
#include "formats/safetensors.h"

#include <forja/tokenizer.h>
#include <math.h>
#include <sys/wait.h>

static int run(const char *args) {
    char cmd[2048];
    snprintf(cmd, sizeof cmd, "%s %s >/dev/null 2>&1", NEWMODEL, args);
    int rc = system(cmd);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

static void make(const char *out, int seed) {
    fj_err e = { 0 };
    const char *txt = fj_test_path("a.txt"), *rows = fj_test_path("b.jsonl");
    static const char a[] = "the land of the river and the hill and the river of the land\n";
    static const char b[] =
        "{\"text\": \"the hill\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"the river\"}]}\n";
    FJ_OK_OR_FAIL(fj_write_file(txt, a, sizeof a - 1, &e), e);
    FJ_OK_OR_FAIL(fj_write_file(rows, b, sizeof b - 1, &e), e);
    char args[1600];
    snprintf(
        args, sizeof args,
        "--text %s %s --vocab 280 --hidden 16 --layers 2 --heads 4 --kv-heads 2 --ffn 24 --context 64 --seed %d --out %s",
        txt, rows, seed, out);
    assert_int_equal(run(args), 0);
}

static void hash(const char *dir, char hex[FJ_SHA256_HEX]) {
    fj_err e = { 0 };
    char *p = fj_path_join(dir, "model.safetensors");
    FJ_OK_OR_FAIL(fj_sha256_file(p, hex, &e), e);
    free(p);
}

static void test_folder(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("m"), *same = fj_test_path("same"),
               *other = fj_test_path("other");
    make(dir, 7);
    fj_hf *h = fj_hf_open(dir, &e);
    if (!h) fail_msg("%s", e.msg);
    assert_true(h->has_tokenizer && h->has_weights && h->generation && h->tokenizer_config);
    size_t n, cn;
    char *json = fj_hf_load(h, "tokenizer.json", &n, &e),
         *cfg = fj_hf_load(h, "tokenizer_config.json", &cn, &e);
    if (!json || !cfg) fail_msg("%s", e.msg);
    fj_tokenizer *t = fj_tokenizer_from_json(json, n, cfg, cn, &e);
    if (!t) fail_msg("%s", e.msg);
    assert_int_equal(fj_token_eos(t), 0);
    assert_int_equal(fj_token_eot(t), 2);
    int64_t vocab = 0;
    FJ_OK_OR_FAIL(fj_hf_int(h, "vocab_size", &vocab, &e), e);
    assert_int_equal(vocab, fj_vocab_size(t));
    assert_true(vocab > 262 && vocab <= 280);
    fj_st *s = fj_st_open(dir, &e);
    if (!s) fail_msg("%s", e.msg);
    assert_int_equal(s->n_tensors, 2 + 2 * 9);
    const fj_st_tensor *w = fj_st_get(s, "model.embed_tokens.weight", &e);
    if (!w) fail_msg("%s", e.msg);
    assert_int_equal(w->dim[0], vocab);
    assert_int_equal(w->dim[1], 16);
    const float *x = (const float *)w->data;
    double sum = 0, square = 0, count = (double)(vocab * 16);
    for (int64_t i = 0; i < vocab * 16; i++) {
        sum += x[i];
        square += (double)x[i] * x[i];
    }
    /* Six standard errors of mean and deviation over 16 x 263 values or more. */
    assert_true(fabs(sum / count) < 6 * 0.02 / sqrt(count));
    assert_true(fabs(sqrt(square / count) - 0.02) < 6 * 0.02 / sqrt(2 * count));
    w = fj_st_get(s, "model.layers.1.self_attn.k_proj.weight", &e);
    if (!w) fail_msg("%s", e.msg);
    assert_int_equal(w->dim[0], 8);
    w = fj_st_get(s, "model.norm.weight", &e);
    if (!w) fail_msg("%s", e.msg);
    for (int i = 0; i < 16; i++) assert_true(((const float *)w->data)[i] == 1.0f);
    fj_st_close(s);
    fj_tokenizer_free(t);
    free(json);
    free(cfg);
    fj_hf_close(h);

    char a[FJ_SHA256_HEX], b[FJ_SHA256_HEX], c[FJ_SHA256_HEX];
    make(same, 7);
    make(other, 8);
    hash(dir, a);
    hash(same, b);
    hash(other, c);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
}

static void test_refused(void **state) {
    (void)state;
    char args[1600];
    fj_err e = { 0 };
    const char *bad = fj_test_path("bad.jsonl");
    FJ_OK_OR_FAIL(fj_write_file(bad, "{\"a\": 1}\n", 9, &e), e);
    assert_int_equal(run(""), 2);
    assert_int_equal(run("--text /nowhere/a.txt --out /tmp/x"), 1);
    assert_int_equal(run("--vocab many"), 2);
    snprintf(args, sizeof args, "--text %s --out %s", bad, fj_test_path("x"));
    assert_int_equal(run(args), 1);
    snprintf(args, sizeof args, "--text %s --out %s --heads 3", fj_test_path("a.txt"),
             fj_test_path("x"));
    assert_int_equal(run(args), 1);
    assert_false(fj_exists(fj_test_path("x")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
