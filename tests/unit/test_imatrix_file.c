/* Files of importance matrices: round trip, the older format, and what is refused. */
#include "formats/gguf.h"
#include "lifecycle/imatrix_in.h"

#include "test_util.h"

#include <math.h>

static const float dense[4] = { 2, 0, 8, 1e-6F }, one[1] = { 4 };
static const float experts[6] = { 3, 6, 9, 0, 0, 0 }, some[2] = { 3, 0 };

static fj_imatrix *made(void) {
    fj_err e = { 0 };
    fj_imatrix *im = fj_imatrix_empty("made");
    im->chunks = 7;
    im->chunk_size = 512;
    fj_imatrix_add_set(im, "a.txt", 5);
    fj_imatrix_add_set(im, "b.jsonl", 7);
    FJ_OK_OR_FAIL(fj_imatrix_put(im, 2, "blk.0.attn_q.weight", 1, 4, dense, one, &e) &&
                      fj_imatrix_put(im, 2, "blk.0.ffn_up_exps.weight", 2, 3, experts, some, &e),
                  e);
    return im;
}

static void check_made(const fj_imatrix *im) {
    int64_t n;
    assert_int_equal(im->n, 2);
    const float *m = fj_imatrix_find(im, "blk.0.attn_q.weight", &n);
    assert_int_equal(n, 4);
    for (int i = 0; i < 4; i++) assert_true(m[i] == dense[i] / 4);
    m = fj_imatrix_find(im, "blk.0.ffn_up_exps.weight", &n);
    assert_int_equal(n, 6);
    for (int i = 0; i < 3; i++) assert_true(m[i] == experts[i] / 3);
    for (int i = 3; i < 6; i++) assert_true(m[i] == 1); /* an expert that no row chose */
    assert_null(fj_imatrix_find(im, "blk.0.attn_q", &n));
    assert_null(fj_imatrix_find(im, "", &n));
}

static void test_round_trip(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_imatrix *im = made();
    check_made(im);
    FJ_OK_OR_FAIL(fj_imatrix_save(im, fj_test_path("a.gguf"), &e), e);
    fj_imatrix_close(im);
    im = fj_imatrix_open(fj_test_path("a.gguf"), &e);
    if (!im) fail_msg("%s", e.msg);
    check_made(im);
    assert_true(im->chunks == 7 && im->chunk_size == 512 && im->n_datasets == 2);
    assert_string_equal(im->datasets[0], "a.txt");
    assert_string_equal(im->datasets[1], "b.jsonl");
    FJ_OK_OR_FAIL(fj_imatrix_save(im, fj_test_path("b.gguf"), &e), e);
    fj_imatrix_close(im);
    size_t n[2];
    char *a = fj_read_file(fj_test_path("a.gguf"), 1 << 20, &n[0], &e),
         *b = fj_read_file(fj_test_path("b.gguf"), 1 << 20, &n[1], &e);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(a, b, n[0]);
    free(a);
    free(b);
    im = fj_imatrix_empty("none");
    FJ_FAILS_WITH(fj_imatrix_save(im, fj_test_path("c.gguf"), &e), e, "of nothing");
    fj_imatrix_close(im);
}

/* ---- the older format ---------------------------------------------------------------------------- */
static void u32(fj_str *s, uint32_t v) {
    for (int i = 0; i < 4; i++) fj_str_addc(s, (char)(v >> 8 * i));
}

static void entry(fj_str *s, const char *name, uint32_t calls, uint32_t n, const float *v) {
    u32(s, (uint32_t)strlen(name));
    fj_str_add(s, name);
    u32(s, calls);
    u32(s, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        u32(s, bits);
    }
}

static fj_str old_file(void) {
    fj_str s = { 0 };
    u32(&s, 2);
    entry(&s, "blk.0.attn_q.weight", 4, 4, dense);
    entry(&s, "blk.0.ffn_up_exps.weight", 3, 6, experts);
    return s;
}

static fj_imatrix *open_str(const fj_str *s, fj_err *e) {
    return fj_imatrix_open_mem(s->s, s->n, "test.dat", e);
}

static void test_older_format(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_str s = old_file();
    for (int end = 0; end < 3;
         end++) { /* files end behind the entries, the chunks or the data set */
        if (end == 1) u32(&s, 11);
        if (end == 2) {
            u32(&s, 5);
            fj_str_add(&s, "c.txt");
        }
        fj_imatrix *im = open_str(&s, &e);
        if (!im) fail_msg("%s", e.msg);
        int64_t n;
        const float *m = fj_imatrix_find(im, "blk.0.attn_q.weight", &n);
        assert_int_equal(n, 4);
        for (int i = 0; i < 4; i++) assert_true(m[i] == dense[i] / 4);
        m = fj_imatrix_find(im, "blk.0.ffn_up_exps.weight", &n);
        assert_int_equal(n, 6);
        for (int i = 0; i < 6; i++) assert_true(m[i] == experts[i] / 3);
        assert_int_equal(im->chunks, end ? 11 : 0);
        assert_int_equal(im->chunk_size, 0);
        assert_int_equal(im->n_datasets, end == 2);
        fj_imatrix_close(im);
    }
    fj_str_addc(&s, 'x');
    FJ_FAILS_WITH(open_str(&s, &e), e, "expected the number of chunks");
    s.n--;
    /* Cut anywhere it is another of the three endings, or refused. */
    int fine = 0;
    for (size_t n = 0; n < s.n; n++) {
        fj_imatrix *im = fj_imatrix_open_mem(s.s, n, "test.dat", &e);
        fine += im != NULL;
        fj_imatrix_close(im);
    }
    assert_int_equal(fine, 2);
    fj_str_free(&s);
}

static void test_old_refused(void **state) {
    (void)state;
    fj_err e = { 0 };
    const float nan_value[1] = { NAN }, less[1] = { -1 }, huge[1] = { INFINITY };
    const float *const bad[] = { nan_value, less, huge };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        fj_str s = { 0 };
        u32(&s, 1);
        entry(&s, "a.weight", 1, 1, bad[i]);
        FJ_FAILS_WITH(open_str(&s, &e), e, "a mean of squares is a number and not negative");
        fj_str_free(&s);
    }
    fj_str s = { 0 };
    u32(&s, 2);
    entry(&s, "a.weight", 1, 1, one);
    entry(&s, "a.weight", 1, 1, one);
    FJ_FAILS_WITH(open_str(&s, &e), e, "tensor a.weight is there twice");
    fj_str_clear(&s);
    static const uint32_t odd[][3] = { { 0, 8, 1 },          { UINT32_MAX, 8, 1 },
                                       { 1, UINT32_MAX, 1 }, { 1, 8, UINT32_MAX },
                                       { 1, 0, 1 },          { 1, 8, 0 } };
    for (size_t i = 0; i < FJ_LEN(odd); i++) {
        fj_str_clear(&s);
        u32(&s, odd[i][0]);
        u32(&s, odd[i][1]);
        fj_str_add(&s, "a.weight");
        u32(&s, 1);
        u32(&s, odd[i][2]);
        u32(&s, 0x3f800000);
        FJ_FAILS_WITH(open_str(&s, &e), e, "neither GGUF nor the older kind");
    }
    fj_str_free(&s);
    FJ_FAILS_WITH(fj_imatrix_open(fj_test_path("nowhere"), &e), e, "nowhere");
}

/* ---- GGUF that is none --------------------------------------------------------------------------- */
typedef struct piece {
    const char *name;
    fj_dtype type;
    int64_t n;
    const float *v;
} piece;

/* Writes a file of these tensors, ends at a name of NULL, and expects its refusal. */
static void refused(const char *type, const piece *p, const char *words) {
    fj_err e = { 0 };
    const char *path = fj_test_path("refused.gguf");
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    fj_gguf_put_string(w, "general.type", type);
    for (const piece *x = p; x->name; x++) fj_gguf_add_tensor(w, x->name, x->type, 1, &x->n);
    for (const piece *x = p; x->name; x++)
        fj_gguf_write_data(w, x->v, (size_t)fj_dtype_size(x->type, 1, x->n));
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
    FJ_FAILS_WITH(fj_imatrix_open(path, &e), e, words);
}

static void test_gguf_refused(void **state) {
    (void)state;
    static const float less[1] = { -2 };
    refused("model", (piece[]){ { 0 } }, "a GGUF of type \"model\", not an importance matrix");
    refused("imatrix", (piece[]){ { 0 } }, "of nothing");
    refused("imatrix", (piece[]){ { "a.weight", FJ_F32, 4, dense }, { 0 } },
            "names that end in .in_sum2 and .counts");
    refused("imatrix", (piece[]){ { "a.in_sum2", FJ_F32, 4, dense }, { 0 } },
            "tensor a.in_sum2 is there without a.counts");
    refused("imatrix", (piece[]){ { "a.counts", FJ_F32, 1, one }, { 0 } },
            "tensor a.counts is there without a.in_sum2");
    refused("imatrix",
            (piece[]){ { "a.in_sum2", FJ_F32, 4, dense }, { "a.counts", FJ_F32, 3, dense }, { 0 } },
            "has 4 values for 3 counts");
    refused("imatrix",
            (piece[]){ { "a.in_sum2", FJ_F16, 4, dense }, { "a.counts", FJ_F32, 1, one }, { 0 } },
            "expected numbers in F32");
    refused("imatrix",
            (piece[]){ { "a.in_sum2", FJ_F32, 4, dense }, { "a.counts", FJ_F32, 1, less }, { 0 } },
            "has been met by -2 rows");
    refused("imatrix",
            (piece[]){ { "a.in_sum2", FJ_F32, 1, less }, { "a.counts", FJ_F32, 1, one }, { 0 } },
            "a mean of squares is a number and not negative");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_older_format),
        cmocka_unit_test(test_old_refused),
        cmocka_unit_test(test_gguf_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
