/* Split GGUFs of the gguf package: any part opens all, with what the same model in one file has; and
 * copies in parts, which the interop ring lets the package read (FORJA_KEEP=FOLDER: where they stay). */
#include "golden_model.h"

#include "formats/gguf.h"

#include <dirent.h>

static fj_gguf *open_gguf(const char *path) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    if (!g) fail_msg("%s", e.msg);
    return g;
}

static void same(const fj_gguf *a, const fj_gguf *b) {
    assert_int_equal(a->n_kv, b->n_kv);
    for (size_t i = 0; i < a->n_kv; i++) {
        const fj_gguf_kv *x = &a->kv[i], *y = fj_gguf_find(b, x->key);
        assert_non_null(y);
        assert_true(x->type == y->type && x->n == y->n);
    }
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const fj_gguf_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        assert_string_equal(x->name, y->name);
        assert_ptr_equal(fj_gguf_tensor_find(b, y->name), y);
        assert_memory_equal(x->dim, y->dim, sizeof x->dim);
        assert_true(x->ggml_type == y->ggml_type && x->bytes == y->bytes);
        assert_memory_equal(x->data, y->data, (size_t)x->bytes);
    }
}

static void test_parts(void **state) {
    (void)state;
    static const struct {
        const char *path;
        size_t files;
    } c[] = {
        { "splits/size-00001-of-00004.gguf", 4 }, { "splits/size-00003-of-00004.gguf", 4 },
        { "splits/size-00004-of-00004.gguf", 4 }, { "splits/bare-00001-of-00003.gguf", 3 },
        { "splits/bare-00002-of-00003.gguf", 3 },
    };
    fj_gguf *one = open_gguf(golden_path("splits/one.gguf"));
    for (size_t i = 0; i < FJ_LEN(c); i++) {
        fj_gguf *g = open_gguf(golden_path(c[i].path));
        assert_int_equal(g->n_files, c[i].files);
        assert_string_equal(strrchr(g->name, '-'), strrchr(c[i].path, '-'));
        int64_t bytes = 0;
        for (size_t f = 0; f < g->n_files; f++) bytes += fj_file_size(g->files[f]);
        assert_int_equal(g->file_bytes, bytes);
        assert_int_equal(g->tensors[g->n_tensors - 1].file, g->n_files - 1);
        same(one, g);
        fj_gguf_close(g);
    }
    fj_gguf_close(one);
}

/* From parts to parts of other sizes: metadata are copied as they are found. */
static void test_copy(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *keep = getenv("FORJA_KEEP");
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/copy.gguf", keep && *keep ? keep : fj_test_dir());
    fj_gguf *a = open_gguf(golden_path("splits/bare-00001-of-00003.gguf"));
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    if (!w) fail_msg("%s", e.msg);
    fj_gguf_writer_split(w, 700);
    for (size_t i = 0; i < a->n_kv; i++) fj_gguf_put(w, &a->kv[i]);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_add_tensor(w, a->tensors[i].name, a->tensors[i].dtype, a->tensors[i].n_dims,
                           a->tensors[i].dim);
    size_t parts = fj_gguf_writer_parts(w);
    assert_int_equal(parts, 4); /* as the package does */
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_write_data(w, a->tensors[i].data, (size_t)a->tensors[i].bytes);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
    assert_false(fj_exists(path));
    char *first = fj_gguf_part_path(path, 0, (uint32_t)parts);
    fj_gguf *b = open_gguf(first);
    same(a, b);
    assert_int_equal(b->n_files, parts);
    fj_gguf_close(b);
    fj_gguf_close(a);
    free(first);
}

static void split(const char *from, const char *to, uint64_t max) {
    fj_err e = { 0 };
    fj_gguf *a = open_gguf(from);
    fj_gguf_writer *w = fj_gguf_writer_open(to, &e);
    if (!w) fail_msg("%s", e.msg);
    fj_gguf_writer_split(w, max);
    for (size_t i = 0; i < a->n_kv; i++) fj_gguf_put(w, &a->kv[i]);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_add_tensor(w, a->tensors[i].name, a->tensors[i].dtype, a->tensors[i].n_dims,
                           a->tensors[i].dim);
    for (size_t i = 0; i < a->n_tensors; i++)
        fj_gguf_write_data(w, a->tensors[i].data, (size_t)a->tensors[i].bytes);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
    fj_gguf_close(a);
}

/* A model in parts is the model: its logits bit for bit, and one hash whichever part it is opened by. */
static void test_model(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, fj_test_source("tests/golden/tiny-default"), false);
    const char *one = fj_test_path("model.gguf");
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, one, "f32", &e), e);
    fj_model_close(m);
    split(one, fj_test_path("parts.gguf"), 20000);
    enum { N = 5 };
    static const int32_t ids[N] = { 1, 5, 9, 3, 7 };
    char hex[3][65];
    float *logits[3];
    for (int i = 0; i < 3; i++) {
        const char *path = one;
        char *part = NULL;
        if (i) { /* the first part, and the second */
            DIR *dir = opendir(fj_test_dir());
            assert_non_null(dir);
            uint32_t parts = 0;
            for (struct dirent *f; (f = readdir(dir));) parts += !strncmp(f->d_name, "parts-", 6);
            closedir(dir);
            assert_true(parts > 2);
            path = part = fj_gguf_part_path(fj_test_path("parts.gguf"), (uint32_t)i - 1, parts);
        }
        m = golden_model(d, path, false);
        FJ_OK_OR_FAIL(fj_model_hash(m, hex[i], &e), e);
        logits[i] = fj_alloc((size_t)(N * m->hp.vocab) * sizeof **logits);
        golden_logits(m, NULL, ids, N, N, logits[i]);
        assert_memory_equal(logits[0], logits[i], (size_t)(N * m->hp.vocab) * sizeof **logits);
        fj_model_close(m);
        free(part);
    }
    assert_string_equal(hex[1], hex[2]);
    assert_string_not_equal(hex[0], hex[1]);
    for (int i = 0; i < 3; i++) free(logits[i]);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_parts), cmocka_unit_test(test_copy),
                                        cmocka_unit_test(test_model) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
