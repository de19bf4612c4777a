/* safetensors: what is written is read, files of others are read, and no bytes do harm. */
#include "test_util.h"

#include "formats/safetensors.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static int count_files(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static const float f32s[6] = { 0, 1, 2, 3, 4, 5 };
static const uint16_t halves[3] = { 0x3c00, 0x4000, 0 };
static const uint8_t bytes[3] = { 7, 8, 9 };

static void fill(fj_st_writer *w) {
    const void *data[] = { bytes, halves, f32s, NULL };
    const size_t n[] = { sizeof bytes, sizeof halves, sizeof f32s, 0 };
    fj_st_writer_meta(w, "step", "12");
    fj_st_writer_add(w, "u8", "U8", 1, (int64_t[]){ 3 });
    fj_st_writer_add(w, "f16", "F16", 1, (int64_t[]){ 3 });
    fj_st_writer_add(w, "f32", "F32", 2, (int64_t[]){ 2, 3 });
    fj_st_writer_add(w, "none", "F32", 2, (int64_t[]){ 0, 3 });
    for (int64_t i; (i = fj_st_writer_next(w)) >= 0;) fj_st_writer_data(w, data[i], n[i]);
}

static void check(const fj_st *s) {
    fj_err e = { 0 };
    assert_int_equal(s->n_tensors, 4);
    assert_string_equal(fj_st_meta(s, "format"), "pt");
    assert_string_equal(fj_st_meta(s, "step"), "12");
    assert_null(fj_st_meta(s, "no"));
    const fj_st_tensor *t = fj_st_get(s, "f32", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->n_dims == 2 && t->dim[0] == 2 && t->dim[1] == 3 && t->dim[2] == 1);
    assert_memory_equal(t->data, f32s, sizeof f32s);
    t = fj_st_get(s, "f16", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->dtype == FJ_F16 && (uintptr_t)t->data % 2 == 0);
    assert_memory_equal(t->data, halves, sizeof halves);
    t = fj_st_find(s, "u8");
    assert_non_null(t);
    assert_string_equal(t->type_name, "U8");
    assert_memory_equal(t->data, bytes, 3);
    assert_int_equal(fj_st_find(s, "none")->bytes, 0);
    FJ_FAILS_WITH(fj_st_get(s, "u8", &e), e, "tensor u8 has the format U8");
    FJ_FAILS_WITH(fj_st_get(s, "zz", &e), e, "tensor zz is missing");
}

static void round_trip(void **state) {
    (void)state;
    const char *path = fj_test_path("x.safetensors");
    fj_err e = { 0 };
    fj_st_writer *w = fj_st_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    fill(w);
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);
    fj_st *s = fj_st_open(path, &e);
    FJ_OK_OR_FAIL(s, e);
    check(s);
    fj_st_close(s);
}

static void shards(void **state) {
    (void)state;
    const char *dir = fj_test_path("shards");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    fj_st_writer *w = fj_st_writer_open_sharded(dir, 12, &e);
    FJ_OK_OR_FAIL(w, e);
    fill(w);
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);
    assert_int_equal(count_files(dir), 3); /* u8 + f16, f32 + none, the index */
    fj_st *s = fj_st_open(dir, &e);
    FJ_OK_OR_FAIL(s, e);
    assert_int_equal(s->n_files, 2);
    check(s);
    fj_st_close(s);

    const char *index = fj_test_path("shards/model.safetensors.index.json");
    const struct {
        const char *text, *says;
    } bad[] = {
        { "{\"weight_map\":{\"f32\":\"../x\"}}", "expected the plain name of a file" },
        { "{\"weight_map\":{\"f32\":\"a/b\"}}", "expected the plain name of a file" },
        { "{\"weight_map\":{\"f32\":3}}", "expected the plain name of a file" },
        { "{\"weight_map\":{\"f32\":\"nope.safetensors\"}}", "nope.safetensors" },
        { "{\"weight_map\":{\"f32\":\"model-00001-of-00002.safetensors\"}}",
          "tensor f32 should be in model-00001-of-00002.safetensors" },
        { "{\"weight_map\":{}}", "weight_map is empty" },
        { "{\"weight_map\":{\"a\":\"b\",\"a\":\"c\"}}", "duplicate" },
        { "[]", "expected a JSON object" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        FJ_OK_OR_FAIL(fj_write_file(index, bad[i].text, strlen(bad[i].text), &e), e);
        FJ_FAILS_WITH(fj_st_open(index, &e), e, bad[i].says);
    }
}

/* A file of a header and `room` zero bytes of data. */
static uint8_t *make(const char *header, size_t room, size_t *n) {
    size_t len = strlen(header);
    *n = 8 + len + room;
    uint8_t *p = fj_zalloc(*n);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)((uint64_t)len >> (8 * i));
    memcpy(p + 8, header, len);
    return p;
}

static void hostile(void **state) {
    (void)state;
#define T(type, shape, a, b)                                                                       \
    "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" a "," b "]}"
    const struct {
        const char *header;
        size_t room;
        const char *says;
    } bad[] = {
        { "{\"a\":" T("F32", "[1]", "0", "4") "}", 3, "cut short" },
        { "{\"a\":" T("F32", "[1]", "0", "4") "}", 5, "belong to no tensor" },
        { "{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "0", "4") "}", 4,
          "overlaps" },
        { "{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "8", "12") "}", 12,
          "hole" },
        { "{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" T("F32", "[1]", "4", "8") "}", 8,
          "duplicate" },
        { "{\"a\":" T("F32", "[2]", "0", "4") "}", 4, "its shape takes 8 bytes" },
        { "{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, "not a whole number" },
        { "{\"a\":" T("F32", "[1.0]", "0", "4") "}", 4, "not a whole number" },
        { "{\"a\":" T("F32", "[1]", "-4", "0") "}", 4, "ascending pair" },
        { "{\"a\":" T("F32", "[1]", "4", "0") "}", 4, "ascending pair" },
        { "{\"a\":" T("F32", "[4294967296,4294967296]", "0", "4") "}", 4, "overflows" },
        { "{\"a\":" T("F32", "[99999999999999999999]", "0", "4") "}", 4, "JSON" },
        { "{\"a\":" T("F31", "[1]", "0", "4") "}", 4, "unknown dtype F31" },
        { "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "9 dimensions" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "expected exactly" },
        { "{\"\":" T("F32", "[1]", "0", "4") "}", 4, "a name of 0 bytes" },
        { "{\"a\":7}", 0, "expected exactly" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "expected a string" },
        { "{\"__metadata__\":[]}", 0, "expected an object" },
        { "[]", 0, "not a JSON object" },
        { "{} x", 0, "not valid JSON" },
        { "{\"a\\u0000\":1}", 0, "not valid JSON" },
        { "", 0, "not a JSON object" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        size_t n;
        fj_err e = { 0 };
        uint8_t *p = make(bad[i].header, bad[i].room, &n);
        FJ_FAILS_WITH(fj_st_open_mem(p, n, "bad", &e), e, bad[i].says);
        assert_non_null(strstr(e.msg, "bad"));
        free(p);
    }
    /* nesting beyond any sense, and a header length that the file has not */
    fj_str deep = { 0 };
    for (int i = 0; i < 100000; i++) fj_str_add(&deep, "{\"a\":");
    size_t n;
    fj_err e = { 0 };
    uint8_t *p = make(deep.s, 0, &n);
    FJ_FAILS_WITH(fj_st_open_mem(p, n, "bad", &e), e, "not valid JSON");
    memset(p, 0xff, 8);
    FJ_FAILS_WITH(fj_st_open_mem(p, n, "bad", &e), e, "at most");
    free(p);
    fj_str_free(&deep);
}

/* Tensors may lie anywhere in files of others: reading gives aligned data all the same. */
static void unaligned(void **state) {
    (void)state;
    size_t n;
    fj_err e = { 0 };
    uint8_t *p =
        make("{\"a\":" T("U8", "[1]", "0", "1") ",\"b\":" T("F32", "[2]", "1", "9") "} ", 9, &n);
    memcpy(p + n - 8, f32s + 1, 8);
    fj_st *s = fj_st_open_mem(p, n, "x", &e);
    FJ_OK_OR_FAIL(s, e);
    const fj_st_tensor *t = fj_st_get(s, "b", &e);
    assert_int_equal((uintptr_t)t->data % 4, 0);
    assert_memory_equal(t->data, f32s + 1, 8);
    fj_st_close(s);
    free(p);
}

static void cut_anywhere(void **state) {
    (void)state;
    size_t n, m;
    fj_err e = { 0 };
    const char *path = fj_test_path("cut.safetensors");
    fj_st_writer *w = fj_st_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    fill(w);
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);
    char *all = fj_read_file(path, 1 << 20, &n, &e);
    FJ_OK_OR_FAIL(all, e);
    for (m = 0; m < n; m++) {
        uint8_t *p = fj_alloc(m); /* exactly m bytes, so that a sanitizer sees a read beyond */
        memcpy(p, all, m);
        FJ_FAILS_WITH(fj_st_open_mem(p, m, "cut", &e), e, "cut");
        free(p);
    }
    free(all);
}

/* A file-size limit stands for a full disk: write fails with EFBIG instead of ENOSPC. */
static void disk_full(void **state) {
    (void)state;
    const char *dir = fj_test_path("full");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    struct rlimit was;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit low = { 100, was.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    fj_st_writer *one = fj_st_writer_open(fj_test_path("full/x.safetensors"), &e);
    if (one) fill(one);
    bool ok1 = one && fj_st_writer_close(one, &e);
    fj_err e2 = { 0 };
    fj_st_writer *many = fj_st_writer_open_sharded(dir, 12, &e2);
    if (many) fill(many);
    bool ok2 = many && fj_st_writer_close(many, &e2);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, old);
    assert_false(ok1);
    assert_false(ok2);
    assert_non_null(strstr(e.msg, "x.safetensors"));
    assert_non_null(strstr(e2.msg, "model-00001-of-00002.safetensors"));
    assert_int_equal(count_files(dir), 0);
}

static void writer_misuse(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("misuse"), *path = fj_test_path("misuse/x.safetensors");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    fj_st_writer *w = fj_st_writer_open(path, &e);
    fj_st_writer_add(w, "a", "F32", 1, (int64_t[]){ 1 });
    fj_st_writer_add(w, "a", "F32", 1, (int64_t[]){ 1 });
    FJ_FAILS_WITH(fj_st_writer_close(w, &e), e, "twice");
    w = fj_st_writer_open(path, &e);
    fj_st_writer_add(w, "a", "F32", 1, (int64_t[]){ 1 });
    FJ_FAILS_WITH(fj_st_writer_close(w, &e), e, "missing");
    w = fj_st_writer_open(path, &e);
    fj_st_writer_add(w, "a", "F32", 1, (int64_t[]){ 1 });
    fj_st_writer_data(w, f32s, 8);
    FJ_FAILS_WITH(fj_st_writer_close(w, &e), e, "more data");
    w = fj_st_writer_open(path, &e);
    fj_st_writer_add(w, "a", "Q8_0", 1, (int64_t[]){ 1 });
    FJ_FAILS_WITH(fj_st_writer_close(w, &e), e, "cannot be written as Q8_0");
    FJ_FAILS_WITH(fj_st_writer_open(fj_test_path("no/where/x"), &e), e, "no/where/x");
    assert_int_equal(count_files(dir), 0);
}

static void stories(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = fj_st_open(path, &e);
    FJ_OK_OR_FAIL(s, e);
    assert_int_equal(s->n_tensors, 47);
    assert_string_equal(fj_st_meta(s, "format"), "pt");
    const fj_st_tensor *t = fj_st_get(s, "model.layers.0.mlp.down_proj.weight", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->n_dims == 2 && t->dim[0] == 64 && t->dim[1] == 172 && t->dtype == FJ_F32);
    fj_st_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),    cmocka_unit_test(shards),
        cmocka_unit_test(hostile),       cmocka_unit_test(unaligned),
        cmocka_unit_test(cut_anywhere),  cmocka_unit_test(disk_full),
        cmocka_unit_test(writer_misuse), cmocka_unit_test(stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
