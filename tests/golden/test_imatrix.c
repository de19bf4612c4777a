/* An importance matrix against sums that transformers gave (tools/golden/imatrix.py): a model with one network in
 * each layer and a tied head, and one with experts.
 *
 *     FORJA_KEEP=FOLDER     CASE.imatrix and the model as CASE.gguf stay there (tests/interop) */
#include "golden_archs.h"

#include "lifecycle/imatrix.h"

#define GOLDEN_SUMS 2e-5 /* relative to the largest of a tensor */

/* Counts that differ, and the largest distance of a sum. */
static double apart(const fj_imatrix *im, const fj_st *s, int *miscounted) {
    double worst = 0;
    *miscounted = 0;
    for (size_t i = 0; i < im->n; i++) {
        const fj_imatrix_entry *x = &im->entries[i];
        char name[96];
        int64_t n;
        snprintf(name, sizeof name, "%s.in_sum2", x->name);
        const float *want = golden_f32(s, name, &n);
        assert_int_equal(n, x->mats * x->cols);
        double most = 0;
        for (int64_t k = 0; k < n; k++) most = fmax(most, (double)want[k]);
        double d = golden_apart(x->sums, want, n) / most;
        if (!(d <= worst)) worst = d;
        snprintf(name, sizeof name, "%s.counts", x->name);
        want = golden_f32(s, name, &n);
        assert_int_equal(n, x->mats);
        for (int64_t k = 0; k < n; k++) *miscounted += want[k] != x->counts[k];
    }
    return worst;
}

/* The two prompts of the golden file. */
static fj_imatrix *collect(fj_model *m, const char *name) {
    fj_err e = { 0 };
    fj_st *prompts = archs_open(name);
    fj_imatrix *im = fj_imatrix_new(m, &e);
    if (!im) fail_msg("%s", e.msg);
    static const char *const which[] = { "long.ids", "short.ids" };
    for (size_t i = 0; i < FJ_LEN(which); i++) {
        int64_t n;
        const int32_t *ids = golden_i32(prompts, which[i], &n);
        FJ_OK_OR_FAIL(fj_imatrix_add(im, ids, n, &e), e);
    }
    FJ_OK_OR_FAIL(fj_imatrix_finish(im, &e), e);
    fj_st_close(prompts);
    return im;
}

static void keep(const fj_model *m, const fj_imatrix *im, const char *name) {
    const char *dir = getenv("FORJA_KEEP");
    char path[1024];
    fj_err e = { 0 };
    if (!dir || !*dir) return;
    snprintf(path, sizeof path, "%s/%s.imatrix", dir, name);
    FJ_OK_OR_FAIL(fj_imatrix_save(im, path, &e), e);
    snprintf(path, sizeof path, "%s/%s.gguf", dir, name);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, "F32", &e), e);
}

static void test_sums(void **state) {
    (void)state;
    static const char *const cases[] = { "llama", "qwen3-moe" };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        char rel[64];
        snprintf(rel, sizeof rel, "imatrix/%s.safetensors", cases[i]);
        fj_st *s = golden_open(rel);
        fj_dev *d = golden_dev();
        fj_model *m = golden_model(d, archs_path(cases[i], ""), false);
        fj_imatrix *im = collect(m, cases[i]);
        int miscounted;
        double worst = apart(im, s, &miscounted);
        printf("%-12s %zu tensors, off by %.2g\n", cases[i], im->n, worst);
        assert_int_equal(2 * im->n, s->n_tensors);
        assert_true(im->chunks == 2 && im->chunk_size == FJ_IMATRIX_CHUNK);
        if (!(worst <= GOLDEN_SUMS)) fail_msg("%s: off by %g", cases[i], worst);
        assert_int_equal(miscounted, 0);
        /* Means are what quantising takes. */
        int64_t n;
        const float *mean = fj_imatrix_find(im, "blk.1.attn_q.weight", &n);
        assert_non_null(mean);
        assert_int_equal(n, m->hp.width);
        assert_null(fj_imatrix_find(im, "blk.1.attn_norm.weight", &n));
        for (size_t k = 0; k < im->n; k++)
            if (mean == im->entries[k].means)
                for (int64_t j = 0; j < n; j++)
                    assert_float_equal(mean[j], im->entries[k].sums[j] / 95, 1e-6f * mean[j]);
        keep(m, im, cases[i]);
        /* Planted: a prompt more. */
        fj_err e = { 0 };
        FJ_OK_OR_FAIL(fj_imatrix_add(im, (const int32_t[]){ 1, 5, 9 }, 3, &e), e);
        FJ_OK_OR_FAIL(fj_imatrix_finish(im, &e), e);
        worst = apart(im, s, &miscounted);
        assert_true(worst > 100 * GOLDEN_SUMS && miscounted > 0);
        fj_imatrix_close(im);
        fj_model_close(m);
        fj_dev_close(d);
        fj_st_close(s);
    }
}

/* The same bits on one thread and on three; and a file of them. */
static void test_bits(void **state) {
    (void)state;
    if (fj_test_cpu_only("threads")) skip();
    fj_err e = { 0 };
    fj_imatrix *im[2];
    fj_model *m[2];
    fj_dev *d[2];
    for (int i = 0; i < 2; i++) {
        d[i] = fj_test_dev(i ? 3 : 1, false);
        m[i] = golden_model(d[i], archs_path("qwen3-moe", ""), false);
        im[i] = collect(m[i], "qwen3-moe");
    }
    assert_int_equal(im[0]->n, im[1]->n);
    FJ_OK_OR_FAIL(fj_imatrix_save(im[0], fj_test_path("a.gguf"), &e), e);
    fj_imatrix *back = fj_imatrix_open(fj_test_path("a.gguf"), &e);
    if (!back) fail_msg("%s", e.msg);
    for (size_t i = 0; i < im[0]->n; i++) {
        const fj_imatrix_entry *a = &im[0]->entries[i], *b = &im[1]->entries[i],
                               *c = &back->entries[i];
        size_t bytes = (size_t)(a->mats * a->cols) * sizeof *a->sums;
        assert_string_equal(a->name, c->name);
        assert_memory_equal(a->sums, b->sums, bytes);
        assert_memory_equal(a->sums, c->sums, bytes);
        assert_memory_equal(a->means, c->means, bytes);
        assert_memory_equal(a->counts, c->counts, (size_t)a->mats * sizeof *a->counts);
    }
    fj_imatrix_close(back);
    for (int i = 0; i < 2; i++) {
        fj_imatrix_close(im[i]);
        fj_model_close(m[i]);
        fj_dev_close(d[i]);
    }
}

static int nodes_of(fj_model *m, fj_buf *inputs) {
    fj_err e = { 0 };
    fj_fwd *f =
        fj_fwd_new(m,
                   &(fj_fwd_opts){
                       .n = 4, .n_seqs = 1, .n_blocks = 1, .out = FJ_OUT_HIDDEN, .inputs = inputs },
                   &e);
    if (!f) fail_msg("%s", e.msg);
    int n = 0;
    for (size_t i = 0; i < f->g->n_nodes; i++) n += f->g->nodes[i]->op == &fj_op_col_sumsq;
    fj_fwd_free(f);
    return n;
}

/* Nothing is in the graph where nobody asked; rows that several matrices share are looked at once. */
static void test_cost(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path("llama", ""), false);
    size_t *off = malloc((size_t)m->n_w * sizeof *off);
    fj_buf *b = d->fn->alloc(d, fj_input_sums(m, off), "a test", &e);
    if (!b) fail_msg("%s", e.msg);
    assert_int_equal(nodes_of(m, NULL), 0);
    assert_int_equal(nodes_of(m, b), 4 * m->hp.layers + 1);
    d->fn->free(b);
    free(off);
    fj_model_close(m);
    fj_dev_close(d);
}

static int chunks_of(fj_model *m, const char *file, const char *text, size_t n, int64_t most) {
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path(file), text, n, &e), e);
    fj_imatrix *im = fj_imatrix_new(m, &e);
    if (!im) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_imatrix_add_file(im, fj_test_path(file), NULL, most, NULL, &e), e);
    FJ_OK_OR_FAIL(fj_imatrix_finish(im, &e), e);
    assert_int_equal(im->n_datasets, 1);
    assert_string_equal(im->datasets[0], fj_test_path(file));
    int chunks = (int)im->chunks;
    fj_imatrix_close(im);
    return chunks;
}

/* Texts and rows: how many chunks, and what is refused. */
static void test_data(void **state) {
    (void)state;
    if (fj_test_cpu_only("how data are cut does not hang on the device")) skip();
    fj_err e = { 0 };
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path("llama", ""), false);
    fj_str s = { 0 };
    for (int i = 0; i < 300; i++) fj_str_add(&s, "a cat and a dog. ");
    fj_ids ids = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(fj_model_tokenizer(m), s.s, s.n, 0, &ids, &e), e);
    fj_ids front = { 0 };
    FJ_OK_OR_FAIL(fj_tokenize(fj_model_tokenizer(m), "", 0, FJ_TOK_BOS, &front, &e), e);
    int body = (int)m->hp.context - (int)front.n; /* 128: a chunk is no longer than that */
    int all = ((int)ids.n + body - 1) / body;
    assert_true(all > 3);
    assert_int_equal(chunks_of(m, "a.txt", s.s, s.n, 0), all);
    assert_int_equal(chunks_of(m, "wiki.raw", s.s, s.n, 0), all);
    assert_int_equal(chunks_of(m, "a.txt", s.s, s.n, 2), 2);
    fj_str rows = { 0 };
    for (int i = 0; i < 40; i++) fj_str_addf(&rows, "{\"text\": \"cat %d\"}\n", i);
    int packed = chunks_of(m, "a.jsonl", rows.s, rows.n, 0);
    assert_true(packed >= 2 && packed < 20); /* short rows share chunks */

    fj_imatrix *im = fj_imatrix_new(m, &e);
    FJ_FAILS_WITH(fj_imatrix_finish(im, &e), e, "no calibration text was read");
    FJ_FAILS_WITH(fj_imatrix_add(im, ids.p, 0, &e), e, "a chunk of 0 tokens");
    FJ_FAILS_WITH(fj_imatrix_add(im, ids.p, 129, &e), e, "reads 1 to 128 at once");
    FJ_FAILS_WITH(fj_imatrix_add_file(im, fj_test_path("none.txt"), NULL, 0, NULL, &e), e,
                  "none.txt");
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("bad.txt"), "ab\xff", 3, &e), e);
    FJ_FAILS_WITH(fj_imatrix_add_file(im, fj_test_path("bad.txt"), NULL, 0, NULL, &e), e,
                  "byte 2 is no UTF-8 text");
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("empty.txt"), "", 0, &e), e);
    FJ_FAILS_WITH(fj_imatrix_add_file(im, fj_test_path("empty.txt"), NULL, 0, NULL, &e), e,
                  "there is no text in it");
    static const char talk[] = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("talk.jsonl"), talk, strlen(talk), &e), e);
    FJ_FAILS_WITH(fj_imatrix_add_file(im, fj_test_path("talk.jsonl"), NULL, 0, NULL, &e), e,
                  "line 1 is a conversation, and the model has no chat template");
    fj_imatrix_close(im);
    fj_str_free(&s);
    fj_str_free(&rows);
    fj_ids_free(&ids);
    fj_ids_free(&front);
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
