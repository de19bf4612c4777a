/* GGUF: what is written is read, files of others are read, and no bytes do harm. */
#include "test_util.h"

#include "formats/gguf.h"
#include "formats/safetensors.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

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

/* ---- bytes made by hand ---------------------------------------------------------------------- */
static void le(fj_str *s, uint64_t v, int n) {
    for (int i = 0; i < n; i++) fj_str_addc(s, (char)(v >> (8 * i)));
}

static void text(fj_str *s, const char *t) {
    le(s, strlen(t), 8);
    fj_str_add(s, t);
}

static void head(fj_str *s, uint32_t version, uint64_t tensors, uint64_t keys) {
    fj_str_clear(s);
    fj_str_add(s, "GGUF");
    le(s, version, 4);
    le(s, tensors, 8);
    le(s, keys, 8);
}

static void info(fj_str *s, const char *name, int nd, const uint64_t *dim, uint32_t type,
                 uint64_t off) {
    text(s, name);
    le(s, (uint64_t)nd, 4);
    for (int i = 0; i < nd; i++) le(s, dim[i], 8);
    le(s, type, 4);
    le(s, off, 8);
}

/* Zero bytes up to the data section and `n` more. */
static void data(fj_str *s, size_t n) {
    while (s->n % 32) fj_str_addc(s, 0);
    while (n--) fj_str_addc(s, 0);
}

static void refused_at(const fj_str *s, const char *says, int line) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open_mem(s->s, s->n, "bad.gguf", &e);
    if (g || !strstr(e.msg, says) || !strstr(e.msg, "bad.gguf"))
        fail_msg("line %d: \"%s\" lacks \"%s\"", line, g ? "it opened" : e.msg, says);
}
#define REFUSED(s, says) refused_at(s, says, __LINE__)

static void hostile_header(void **state) {
    (void)state;
    fj_str s = { 0 };
    fj_str_add(&s, "GGML");
    REFUSED(&s, "is not a GGUF file");
    head(&s, 1, 0, 0);
    REFUSED(&s, "GGUF version 1, expected 2 or 3");
    head(&s, 0x03000000, 0, 0);
    REFUSED(&s, "big-endian");
    head(&s, 3, UINT64_MAX, 0);
    REFUSED(&s, "claims 0 keys and 18446744073709551615 tensors");
    head(&s, 3, 0, 1ull << 60);
    REFUSED(&s, "claims 1152921504606846976 keys");
    fj_str_free(&s);
}

static void hostile_keys(void **state) {
    (void)state;
    fj_str s = { 0 };
    for (int twice = 0; twice < 2; twice++) {
        head(&s, 3, 0, 2);
        for (int i = 0; i < 2; i++) {
            text(&s, twice || !i ? "k" : "l");
            le(&s, FJ_GGUF_U32, 4);
            le(&s, 1, 4);
        }
        fj_err e = { 0 };
        fj_gguf *g = fj_gguf_open_mem(s.s, s.n, "bad.gguf", &e);
        assert_true((g == NULL) == twice);
        fj_gguf_close(g);
    }
    REFUSED(&s, "key k is there twice");
    static const struct {
        uint32_t a;
        const char *says;
    } alignments[] = {
        { 0, "alignment is 0" },
        { 3, "alignment is 3" },
        { 4, "alignment is 4" },
        { 1u << 31, "alignment is 2147483648" },
    };
    for (size_t i = 0; i < FJ_LEN(alignments); i++) {
        head(&s, 3, 0, 1);
        text(&s, "general.alignment");
        le(&s, FJ_GGUF_U32, 4);
        le(&s, alignments[i].a, 4);
        REFUSED(&s, alignments[i].says);
    }
    head(&s, 3, 0, 1);
    text(&s, "general.alignment");
    le(&s, FJ_GGUF_STR, 4);
    text(&s, "32");
    REFUSED(&s, "general.alignment: expected an integer, found string");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, 99, 4);
    le(&s, 0, 8);
    REFUSED(&s, "key k has a value of an unknown type");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, FJ_GGUF_ARR, 4);
    le(&s, FJ_GGUF_ARR, 4);
    le(&s, 1, 8);
    REFUSED(&s, "array of arrays");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, FJ_GGUF_ARR, 4);
    le(&s, FJ_GGUF_U64, 4);
    le(&s, 1ull << 61, 8); /* times 8 is 0 */
    le(&s, 0, 8);
    REFUSED(&s, "key k claims 2305843009213693952 values of u64");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, FJ_GGUF_STR, 4);
    le(&s, UINT64_MAX, 8);
    REFUSED(&s, "string 0 runs over the end");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, FJ_GGUF_BOOL, 4);
    le(&s, 2, 1);
    REFUSED(&s, "a bool has the value 2");
    head(&s, 3, 0, 1);
    le(&s, 2, 8);
    fj_str_addn(&s, "a\0", 2);
    le(&s, FJ_GGUF_U8, 4);
    le(&s, 2, 8);
    REFUSED(&s, "holds a 0 byte");
    head(&s, 3, 0, 1);
    le(&s, 1ull << 40, 8);
    le(&s, 0, 8);
    REFUSED(&s, "has 1099511627776 bytes");
    fj_str_free(&s);
}

static void hostile_tensors(void **state) {
    (void)state;
    static const struct {
        uint64_t dim[4], off;
        int nd;
        uint32_t type;
        const char *says;
    } one[] = {
        { { 8 }, 0, 5, 0, "5 dimensions" },
        { { 0 }, 0, 1, 0, "dimension 0 is 0" },
        { { UINT64_MAX }, 0, 1, 0, "dimension 0 is 18446744073709551615" },
        { { 1ull << 32, 1ull << 32 }, 0, 2, 0, "number of values overflows" },
        { { 1ull << 62 }, 0, 1, 0, "size in bytes overflows" },
        { { 31 }, 0, 1, 8, "not whole blocks of 32 (Q8_0)" },
        { { 128 }, 0, 1, 14, "not whole blocks of 256 (Q6_K)" },
        { { 8 }, 5, 1, 0, "no multiple of the alignment 32" },
        { { 8 }, 64, 1, 0, "lies outside the file" },
        { { 8 }, 0xffffffffffffffe0, 1, 0, "lies outside the file" },
        { { 17 }, 0, 1, 0, "tensor t (68 bytes at 0) lies outside the file" },
    };
    fj_str s = { 0 };
    for (size_t i = 0; i < FJ_LEN(one); i++) {
        head(&s, 3, 1, 0);
        info(&s, "t", one[i].nd > 4 ? 4 : one[i].nd, one[i].dim, one[i].type, one[i].off);
        if (one[i].nd > 4) s.s[24 + 8 + 1] = 5;
        data(&s, 64);
        REFUSED(&s, one[i].says);
    }
    const struct {
        const char *name;
        uint64_t off;
        const char *says;
    } two[] = {
        { "a", 64, "tensor a is there twice" },
        { "b", 0, "tensors a and b overlap" },
        { "b", 32, "tensors a and b overlap" },
    };
    for (size_t i = 0; i < FJ_LEN(two); i++) {
        head(&s, 3, 2, 0);
        info(&s, "a", 1, (uint64_t[]){ 16 }, 0, 0);
        info(&s, two[i].name, 1, (uint64_t[]){ 8 }, 0, two[i].off);
        data(&s, 128);
        REFUSED(&s, two[i].says);
    }
    fj_str_free(&s);
}

/* Formats that forja does not compute with can be looked at, not used. */
static void other_formats(void **state) {
    (void)state;
    fj_str s = { 0 };
    fj_err e = { 0 };
    head(&s, 2, 2, 0);
    info(&s, "k", 1, (uint64_t[]){ 256 }, 15, 0);
    info(&s, "u", 1, (uint64_t[]){ 7 }, 77, 320);
    data(&s, 352);
    fj_gguf *g = fj_gguf_open_mem(s.s, s.n, "x", &e);
    FJ_OK_OR_FAIL(g, e);
    const fj_gguf_tensor *k = fj_gguf_tensor_find(g, "k"), *u = fj_gguf_tensor_find(g, "u");
    assert_string_equal(k->type_name, "Q8_K");
    assert_true(!k->usable && k->bytes == 292);
    assert_string_equal(u->type_name, "type 77");
    assert_true(!u->usable && u->bytes == -1 && !u->data);
    FJ_FAILS_WITH(fj_gguf_tensor_get(g, "k", &e), e, "tensor k has the format Q8_K");
    FJ_FAILS_WITH(fj_gguf_tensor_get(g, "u", &e), e, "tensor u has the format type 77");
    fj_gguf_close(g);
    fj_str_free(&s);
}

static void cut_anywhere(void **state) {
    (void)state;
    const char *path = fj_test_path("cut.gguf");
    write_small(path);
    size_t n;
    fj_err e = { 0 };
    char *all = fj_read_file(path, 1 << 20, &n, &e);
    FJ_OK_OR_FAIL(all, e);
    fj_gguf *g = fj_gguf_open_mem(all, n, "x", &e);
    FJ_OK_OR_FAIL(g, e);
    size_t needed = (size_t)(fj_gguf_tensor_find(g, "c")->data + 2 - (const uint8_t *)all);
    fj_gguf_close(g);
    for (size_t m = 0; m < n; m++) {
        uint8_t *p = fj_alloc(m); /* exactly m bytes, so that a sanitizer sees a read beyond */
        memcpy(p, all, m);
        g = fj_gguf_open_mem(p, m, "cut", &e);
        if (g && m < needed) fail_msg("%zu of %zu bytes were enough", m, n);
        if (!g && (m >= needed || !strstr(e.msg, "cut"))) fail_msg("%zu bytes: %s", m, e.msg);
        fj_gguf_close(g);
        free(p);
    }
    free(all);
}

static int count_files(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static void writer_fails_clean(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("w"), *path = fj_test_path("w/x.gguf");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    static const float zero[8];
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    fj_gguf_put_u32(w, "k", 1);
    fj_gguf_put_u32(w, "k", 2);
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "key k is written twice");
    w = fj_gguf_writer_open(path, &e);
    fj_gguf_add_tensor(w, "t", FJ_Q8_0, 1, (int64_t[]){ 31 });
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "tensor t cannot be written as Q8_0");
    w = fj_gguf_writer_open(path, &e);
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_write_data(w, zero, 16);
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "data of tensor t are not complete");
    w = fj_gguf_writer_open(path, &e);
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 4 });
    fj_gguf_write_data(w, zero, 32);
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "more data than t has");

    /* a file-size limit stands for a full disk */
    struct rlimit was;
    getrlimit(RLIMIT_FSIZE, &was);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    w = fj_gguf_writer_open(path, &e);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 64, was.rlim_max });
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_write_data(w, zero, 32);
    bool ok = fj_gguf_writer_close(w, &e);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, old);
    assert_false(ok);
    assert_non_null(strstr(e.msg, "cannot write"));
    assert_non_null(strstr(e.msg, "w/x.gguf"));
    assert_int_equal(count_files(dir), 0);
    FJ_FAILS_WITH(fj_gguf_writer_open(fj_test_path("nowhere/x.gguf"), &e), e, "nowhere/x.gguf");
}

/* The same model in both forms: equal tensors, but for the order of the rows of q and k, where
 * GGUF has pairs of RoPE side by side and HF has them in two halves of a head. */
static void same_model(void **state) {
    (void)state;
    const char *a = fj_test_shared("models/stories260K/stories260K.gguf");
    const char *b = fj_test_shared("models/stories260K/hf");
    if (!a || !b) skip();
    static const char *const names[][2] = {
        { "attn_norm", "input_layernorm" },    { "attn_q", "self_attn.q_proj" },
        { "attn_k", "self_attn.k_proj" },      { "attn_v", "self_attn.v_proj" },
        { "attn_output", "self_attn.o_proj" }, { "ffn_norm", "post_attention_layernorm" },
        { "ffn_gate", "mlp.gate_proj" },       { "ffn_up", "mlp.up_proj" },
        { "ffn_down", "mlp.down_proj" },
    };
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(a, &e);
    FJ_OK_OR_FAIL(g, e);
    fj_st *s = fj_st_open(b, &e);
    FJ_OK_OR_FAIL(s, e);
    for (int l = 0; l < 5; l++) {
        for (size_t i = 0; i < FJ_LEN(names); i++) {
            char gn[64], sn[64];
            snprintf(gn, sizeof gn, "blk.%d.%s.weight", l, names[i][0]);
            snprintf(sn, sizeof sn, "model.layers.%d.%s.weight", l, names[i][1]);
            const fj_gguf_tensor *x = fj_gguf_tensor_get(g, gn, &e);
            FJ_OK_OR_FAIL(x, e);
            const fj_st_tensor *y = fj_st_get(s, sn, &e);
            FJ_OK_OR_FAIL(y, e);
            assert_true(x->dtype == FJ_F32 && y->dtype == FJ_F32 && x->bytes == y->bytes);
            assert_true(x->dim[0] == y->dim[y->n_dims - 1]);
            bool qk = i == 1 || i == 2;
            int64_t cols = x->dim[0], rows = x->dim[1];
            for (int64_t r = 0; r < rows; r++) {
                int64_t in = r % 8, from = qk ? r - in + in % 2 * 4 + in / 2 : r; /* heads of 8 */
                assert_memory_equal(x->data + 4 * r * cols, y->data + 4 * from * cols,
                                    (size_t)cols * 4);
            }
        }
    }
    fj_gguf_close(g);
    fj_st_close(s);
}

static void vocabularies(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/vocab/ggml-vocab-llama-bpe.gguf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    FJ_OK_OR_FAIL(g, e);
    size_t n;
    const fj_gguf_str *t = fj_gguf_strings(g, "tokenizer.ggml.tokens", &n, &e);
    FJ_OK_OR_FAIL(t, e);
    assert_int_equal(n, 128256);
    assert_int_equal(t[0].n, 1);
    assert_int_equal(t[0].s[0], '!');
    assert_int_equal(g->n_tensors, 0);
    fj_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),      cmocka_unit_test(stories),
        cmocka_unit_test(hostile_header),  cmocka_unit_test(hostile_keys),
        cmocka_unit_test(hostile_tensors), cmocka_unit_test(other_formats),
        cmocka_unit_test(cut_anywhere),    cmocka_unit_test(writer_fails_clean),
        cmocka_unit_test(same_model),      cmocka_unit_test(vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
