/* Files written by the packages gguf and safetensors: read, quantised and copied.
 *
 * With FORJA_KEEP=FOLDER the copies go there and stay; the interop ring lets the packages read them. */
#include "golden.h"

#include "formats/gguf.h"

/* Where a copy goes. */
static const char *copy_path(const char *name) {
    const char *dir = getenv("FORJA_KEEP");
    if (!dir || !*dir) return fj_test_path(name);
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/%s", dir, name);
    return path;
}

static fj_gguf *open_gguf(const char *path) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    if (!g) fail_msg("%s", e.msg);
    return g;
}

/* Every tensor of peer.gguf has in forja the values that the gguf package gives it. */
static void test_gguf_values(void **state) {
    (void)state;
    fj_gguf *g = open_gguf(golden_path("files/peer.gguf"));
    fj_st *v = golden_open("files/values.safetensors");
    assert_int_equal(g->n_tensors, 11);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_gguf_tensor *t = &g->tensors[i];
        int64_t n, rows = t->dim[1] * t->dim[2] * t->dim[3];
        const float *want = golden_f32(v, t->name, &n);
        assert_true(t->usable);
        assert_int_equal(n, t->dim[0] * rows);
        float *got = malloc((size_t)n * sizeof *got);
        int64_t row = fj_dtype_size(t->dtype, 1, t->dim[0]);
        for (int64_t r = 0; r < rows; r++)
            fj_dequant_row(t->dtype, t->data + r * row, got + r * t->dim[0], t->dim[0]);
        for (int64_t k = 0; k < n; k++)
            if (!(got[k] == want[k]))
                fail_msg("%s[%lld]: %.9g, not %.9g", t->name, (long long)k, (double)got[k],
                         (double)want[k]);
        free(got);
    }
    fj_st_close(v);
    fj_gguf_close(g);
}

/* Quantising the same values gives the same bytes as the gguf package. */
static void test_quantised_bytes(void **state) {
    (void)state;
    fj_gguf *g = open_gguf(golden_path("files/peer.gguf"));
    fj_st *v = golden_open("files/values.safetensors");
    static const char *const names[] = { "block.Q8_0", "block.Q4_0", "block.BF16", "block.MXFP4" };
    int64_t n;
    const float *from = golden_f32(v, "block", &n);
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        const fj_gguf_tensor *t = fj_gguf_tensor_find(g, names[i]);
        assert_non_null(t);
        uint8_t *got = malloc((size_t)t->bytes);
        fj_quant_row(t->dtype, from, got, n);
        for (int64_t b = 0; b < t->bytes; b++)
            if (got[b] != t->data[b])
                fail_msg("%s: byte %lld is %d, not %d", names[i], (long long)b, got[b], t->data[b]);
        free(got);
    }
    fj_st_close(v);
    fj_gguf_close(g);
}

static void test_gguf_copy(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_gguf *a = open_gguf(golden_path("files/peer.gguf"));
    const char *path = copy_path("copy.gguf");
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    if (!w) fail_msg("%s", e.msg);
    for (size_t i = 0; i < a->n_kv; i++) fj_gguf_put(w, &a->kv[i]);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_add_tensor(w, a->tensors[i].name, a->tensors[i].dtype, a->tensors[i].n_dims,
                           a->tensors[i].dim);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_write_data(w, a->tensors[i].data, (size_t)a->tensors[i].bytes);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);

    fj_gguf *b = open_gguf(path);
    assert_int_equal(a->n_kv, b->n_kv);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const fj_gguf_tensor *x = &a->tensors[i], *y = fj_gguf_tensor_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->ggml_type, y->ggml_type);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->dim, y->dim, sizeof x->dim);
        assert_memory_equal(x->data, y->data, (size_t)x->bytes);
    }
    fj_gguf_close(b);
    fj_gguf_close(a);
}

/* In one file, and in shards of at most 1000 bytes. */
static void copy_st(const fj_st *a, const char *path, int64_t shard) {
    fj_err e = { 0 };
    fj_st_writer *w =
        shard ? fj_st_writer_open_sharded(path, shard, &e) : fj_st_writer_open(path, &e);
    if (!w) fail_msg("%s", e.msg);
    const char *note = fj_st_meta(a, "note");
    assert_non_null(note);
    fj_st_writer_meta(w, "note", note);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_st_writer_add(w, a->tensors[i].name, a->tensors[i].type_name, a->tensors[i].n_dims,
                         a->tensors[i].dim);
    for (int64_t i; (i = fj_st_writer_next(w)) >= 0;)
        fj_st_writer_data(w, a->tensors[i].data, (size_t)a->tensors[i].bytes);
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);

    fj_st *b = fj_st_open(path, &e);
    if (!b) fail_msg("%s", e.msg);
    assert_int_equal(a->n_tensors, b->n_tensors);
    if (shard) assert_true(b->n_files > 1);
    assert_string_equal(fj_st_meta(b, "note"), note);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const fj_st_tensor *x = &a->tensors[i], *y = fj_st_find(b, x->name);
        assert_non_null(y);
        assert_string_equal(x->type_name, y->type_name);
        assert_int_equal(x->n_dims, y->n_dims);
        assert_memory_equal(x->dim, y->dim, sizeof x->dim);
        assert_memory_equal(x->data, y->data, (size_t)x->bytes);
    }
    fj_st_close(b);
}

static void test_safetensors_copy(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_st *a = golden_open("files/peer.safetensors");
    copy_st(a, copy_path("copy.safetensors"), 0);
    const char *dir = copy_path("shards");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    copy_st(a, dir, 1000);
    fj_st_close(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_values),
        cmocka_unit_test(test_quantised_bytes),
        cmocka_unit_test(test_gguf_copy),
        cmocka_unit_test(test_safetensors_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
