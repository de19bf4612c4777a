/* GGUF: what is written is read, files of others are read, and no bytes do harm. */
#include "test_util.h"

#include "formats/gguf.h"

#include <math.h>

static void write_small(const char *path) {
    fj_err e = { 0 };
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    fj_gguf_put_string(w, "general.architecture", "llama");
    fj_gguf_put_u32(w, "u32", 7);
    fj_gguf_put_u64(w, "u64", 1ull << 40);
    fj_gguf_put_i32(w, "i32", -3);
    fj_gguf_put_f32(w, "f32", 0.25f);
    fj_gguf_put_bool(w, "yes", true);
    fj_gguf_put_strings(w, "words", (fj_gguf_str[]){ { "a", 1 }, { "", 0 }, { "\0b", 2 } }, 3);
    fj_gguf_put_i32s(w, "ints", (int32_t[]){ 1, -2 }, 2);
    fj_gguf_put_f32s(w, "floats", (float[]){ 1, 2, 3 }, 3);
    fj_gguf_add_tensor(w, "a", FJ_F32, 2, (int64_t[]){ 3, 2 });
    fj_gguf_add_tensor(w, "b", FJ_Q8_0, 1, (int64_t[]){ 32 });
    fj_gguf_add_tensor(w, "c", FJ_BF16, 1, (int64_t[]){ 1 });
    float a[6] = { 0, 1, 2, 3, 4, 5 };
    uint8_t b[34] = { 1 };
    fj_gguf_write_data(w, a, 8);
    fj_gguf_write_data(w, a + 2, 16);
    fj_gguf_write_data(w, b, 34);
    fj_gguf_write_data(w, (uint16_t[]){ 0x3f80 }, 2);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
}

static void round_trip(void **state) {
    (void)state;
    const char *path = fj_test_path("x.gguf");
    write_small(path);
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    FJ_OK_OR_FAIL(g, e);
    uint32_t u;
    uint64_t l;
    int64_t i;
    float f;
    bool yes;
    const char *s;
    FJ_OK_OR_FAIL(fj_gguf_u32(g, "u32", &u, &e), e);
    assert_int_equal(u, 7);
    FJ_OK_OR_FAIL(fj_gguf_u64(g, "u64", &l, &e), e);
    assert_true(l == 1ull << 40);
    FJ_OK_OR_FAIL(fj_gguf_i64(g, "i32", &i, &e), e);
    assert_int_equal(i, -3);
    FJ_OK_OR_FAIL(fj_gguf_f32(g, "f32", &f, &e), e);
    assert_true(f == 0.25f);
    FJ_OK_OR_FAIL(fj_gguf_bool(g, "yes", &yes, &e), e);
    assert_true(yes);
    FJ_OK_OR_FAIL(fj_gguf_string(g, "general.architecture", &s, &e), e);
    assert_string_equal(s, "llama");
    size_t n;
    const fj_gguf_str *words = fj_gguf_strings(g, "words", &n, &e);
    FJ_OK_OR_FAIL(words, e);
    assert_int_equal(n, 3);
    assert_int_equal(words[2].n, 2);
    assert_memory_equal(words[2].s, "\0b", 2);
    const int32_t *ints = fj_gguf_i32s(g, "ints", &n, &e);
    assert_true(n == 2 && ints[1] == -2);
    const float *floats = fj_gguf_f32s(g, "floats", &n, &e);
    assert_true(n == 3 && floats[2] == 3);

    assert_int_equal(g->n_tensors, 3);
    const fj_gguf_tensor *t = fj_gguf_tensor_get(g, "a", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->n_dims == 2 && t->dim[0] == 3 && t->dim[1] == 2 && t->bytes == 24);
    assert_true(((const float *)(const void *)t->data)[5] == 5);
    assert_int_equal(fj_gguf_tensor_get(g, "b", &e)->data[0], 1);
    assert_int_equal(fj_gguf_tensor_get(g, "c", &e)->data[1], 0x3f);

    /* wrong types and missing keys say file, key, expected, found */
    FJ_FAILS_WITH(fj_gguf_u32(g, "f32", &u, &e), e,
                  "x.gguf: key f32: expected an integer, found f32");
    FJ_FAILS_WITH(fj_gguf_u32(g, "u64", &u, &e), e, "expected a u32");
    FJ_FAILS_WITH(fj_gguf_u64(g, "i32", &l, &e), e, "negative");
    FJ_FAILS_WITH(fj_gguf_string(g, "nothing", &s, &e), e, "key nothing (string) is missing");
    FJ_FAILS_WITH(fj_gguf_strings(g, "ints", &n, &e), e,
                  "expected an array of strings, found an array of i32");
    FJ_FAILS_WITH(fj_gguf_tensor_get(g, "z", &e), e, "tensor z is missing");
    u = 9;
    assert_true(fj_gguf_u32_opt(g, "nothing", &u, &e));
    assert_int_equal(u, 9);
    fj_gguf_close(g);
}

static void stories(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/stories260K.gguf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    FJ_OK_OR_FAIL(g, e);
    assert_int_equal(g->n_kv, 19);
    assert_int_equal(g->n_tensors, 48);
    uint32_t u;
    FJ_OK_OR_FAIL(fj_gguf_u32(g, "llama.block_count", &u, &e), e);
    assert_int_equal(u, 5);
    const fj_gguf_tensor *t = fj_gguf_tensor_get(g, "blk.0.ffn_down.weight", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->dim[0] == 172 && t->dim[1] == 64);
    fj_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
