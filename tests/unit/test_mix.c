/* Types of a mix against those that llama.cpp's quantiser said for the same shapes (tools/golden/mixes.py),
 * and the names. */
#include "lifecycle/mix.h"

#include "test_util.h"

#include "base/dtype.h"

static const char *const type_names[] = {
    [FJ_GGML_F32] = "F32",       [FJ_GGML_F16] = "F16",       [FJ_GGML_Q4_0] = "Q4_0",
    [FJ_GGML_Q4_1] = "Q4_1",     [FJ_GGML_Q5_0] = "Q5_0",     [FJ_GGML_Q5_1] = "Q5_1",
    [FJ_GGML_Q8_0] = "Q8_0",     [FJ_GGML_Q2_K] = "Q2_K",     [FJ_GGML_Q3_K] = "Q3_K",
    [FJ_GGML_Q4_K] = "Q4_K",     [FJ_GGML_Q5_K] = "Q5_K",     [FJ_GGML_Q6_K] = "Q6_K",
    [FJ_GGML_IQ4_NL] = "IQ4_NL", [FJ_GGML_IQ4_XS] = "IQ4_XS", [FJ_GGML_BF16] = "BF16",
    [FJ_GGML_MXFP4] = "MXFP4"
};

enum { MOST = 64, LAYERS = 128 };

/* One model of the golden file, and what a mix gives its tensors without ([0]) and with ([1]) an importance
 * matrix. */
typedef struct shapes {
    char title[64], arch[32], names[MOST][64];
    fj_mix_model m;
    int64_t sizes[MOST][3]; /* rows, cols, mats */
    int n;
    uint32_t want[2][MOST][LAYERS];
} shapes;

static bool layered(const shapes *s, int i) { return strstr(s->names[i], "%d") != NULL; }

/* Tensors whose type is not the one wanted. */
static int wrong_ones(shapes *s, const fj_mix *mix, int *tensors) {
    int wrong = 0;
    for (int im = 0; im < 2; im++)
        for (int i = 0; i < s->n; i++)
            for (int l = 0; l < (layered(s, i) ? s->m.layers : 1); l++) {
                char name[80];
                if (layered(s, i))
                    snprintf(name, sizeof name, "blk.%d.%s", l, s->names[i] + strlen("blk.%d."));
                else snprintf(name, sizeof name, "%s", s->names[i]);
                fj_mix_tensor t = { .name = name,
                                    .rows = s->sizes[i][0],
                                    .cols = s->sizes[i][1],
                                    .mats = s->sizes[i][2],
                                    .layer = layered(s, i) ? l : -1 };
                s->m.imatrix = im;
                uint32_t got = fj_mix_type(mix, &s->m, &t), want = s->want[im][i][l];
                (*tensors)++;
                if (got == want) continue;
                if (!wrong++)
                    printf("%s, %s, importance matrix %d: %s is %u, not %u\n", s->title,
                           fj_mix_name(mix), im, name, got, want);
            }
    return wrong;
}

static int tensor_of(const shapes *s, const char *name) {
    int i = 0;
    while (i < s->n && strcmp(s->names[i], name) != 0) i++;
    assert_true(i < s->n);
    return i;
}

/* "TYPE*LAYERS,TYPE*LAYERS,... TENSOR TENSOR ..." */
static void take_types(shapes *s, char *line, bool imatrix) {
    char *save, *save_run, *runs = strtok_r(line, " \n", &save), *name, *run;
    uint32_t row[LAYERS];
    int l = 0;
    for (run = strtok_r(runs, ",", &save_run); run; run = strtok_r(NULL, ",", &save_run)) {
        char *star = strchr(run, '*');
        uint32_t id = 0;
        assert_non_null(star);
        *star = 0;
        while (id < FJ_LEN(type_names) && (!type_names[id] || strcmp(type_names[id], run) != 0))
            id++;
        assert_true(id < FJ_LEN(type_names));
        for (long k = strtol(star + 1, NULL, 10); k > 0; k--) {
            assert_true(l < LAYERS);
            row[l++] = id;
        }
    }
    while ((name = strtok_r(NULL, " \n", &save))) {
        int i = tensor_of(s, name);
        assert_int_equal(l, layered(s, i) ? s->m.layers : 1);
        memcpy(s->want[1][i], row, (size_t)l * sizeof *row);
        if (!imatrix) memcpy(s->want[0][i], row, (size_t)l * sizeof *row);
    }
}

static void test_as_llama_cpp(void **state) {
    (void)state;
    FILE *f = fopen(fj_test_source("tests/golden/mixes.txt"), "r");
    assert_non_null(f);
    shapes *s = fj_zalloc(sizeof *s);
    const fj_mix *mix = NULL;
    int models = 0, mixes = 0, tensors = 0, wrong = 0;
    bool imatrix = false;
    char line[4096], word[64];
    fj_err e = { 0 };
    while (fgets(line, sizeof line, f)) {
        long long v[3];
        int tied, number;
        bool model = sscanf(line, "model %63s", word) == 1;
        if (mix && (model || sscanf(line, "mix %63s", word) == 1)) {
            wrong += wrong_ones(s, mix, &tensors);
            mix = NULL;
        }
        if (model) {
            memset(s, 0, sizeof *s);
            assert_int_equal(sscanf(line, "model %63s %31s %d %lld %lld %lld %d", s->title, s->arch,
                                    &s->m.layers, &v[0], &v[1], &v[2], &tied),
                             7);
            s->m.arch = s->arch;
            s->m.heads = v[0], s->m.kv_heads = v[1], s->m.experts = v[2], s->m.tied = tied;
            models++;
        } else if (sscanf(line, "tensor %63s %lld %lld %lld", word, &v[0], &v[1], &v[2]) == 4) {
            assert_true(s->n < MOST);
            snprintf(s->names[s->n], sizeof s->names[0], "%s", word);
            for (int i = 0; i < 3; i++) s->sizes[s->n][i] = v[i];
            s->n++;
        } else if (sscanf(line, "mix %63s %d", word, &number) == 2) {
            FJ_OK_OR_FAIL((mix = fj_mix_find(word, &e)) != NULL, e);
            assert_int_equal(fj_mix_file_type(mix), number);
            imatrix = false;
            mixes++;
        } else if (sscanf(line, "imatrix %63s", word) == 1) {
            assert_ptr_equal(fj_mix_find(word, &e), mix);
            imatrix = true;
        } else {
            take_types(s, line, imatrix);
        }
    }
    fclose(f);
    assert_non_null(mix);
    wrong += wrong_ones(s, mix, &tensors);
    printf("%d models, %d mixes, %d types\n", models, mixes, tensors);
    assert_true(models >= 10 && mixes == 21 * models && tensors > 100000);
    assert_int_equal(wrong, 0);
    s->want[0][s->n - 1][0]++; /* planted */
    assert_int_equal(wrong_ones(s, mix, &tensors), 1);
    free(s);
}

static void test_names(void **state) {
    (void)state;
    fj_err e = { 0 };
    assert_string_equal(fj_mix_name(fj_mix_find("q4_k", &e)), "Q4_K_M");
    assert_string_equal(fj_mix_name(fj_mix_find("Q3_K", &e)), "Q3_K_M");
    assert_string_equal(fj_mix_name(fj_mix_find("Q5_K", &e)), "Q5_K_M");
    assert_string_equal(fj_mix_name(fj_mix_find("Iq4_Xs", &e)), "IQ4_XS");
    FJ_FAILS_WITH(fj_mix_find("Q4_K_X", &e), e,
                  "unknown quantisation \"Q4_K_X\"; there are Q2_K_S");
    size_t n = 0;
    for (const fj_mix *m; (m = fj_mix_at(n)); n++)
        assert_ptr_equal(fj_mix_find(fj_mix_name(m), &e), m);
    assert_int_equal(n, 21);
}

/* What stays F32 though it has two dimensions, and what a quantiser wants an importance matrix for. */
static void test_exceptions(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_mix_model m = { .arch = "llama", .layers = 8, .heads = 8, .kv_heads = 8 };
    static const char *const plain[] = { "blk.0.ffn_gate_inp.weight", "blk.0.attn_norm.weight",
                                         "blk.0.ffn_up_exps.bias", "position_embd.weight",
                                         "weigh" };
    for (size_t i = 0; i < FJ_LEN(plain); i++) {
        fj_mix_tensor t = { plain[i], 256, 256, 1, 0 };
        assert_int_equal(fj_mix_type(fj_mix_find("Q4_K_M", &e), &m, &t), FJ_GGML_F32);
        assert_int_equal(fj_mix_type(fj_mix_find("F16", &e), &m, &t), FJ_GGML_F32);
    }
    const fj_mix *s = fj_mix_find("Q2_K_S", &e), *k = fj_mix_find("Q2_K", &e);
    fj_mix_tensor up = { "blk.0.ffn_up.weight", 256, 256, 1, 0 },
                  embed = { "token_embd.weight", 256, 256, 1, -1 };
    assert_int_equal(fj_mix_type(s, &m, &up), FJ_GGML_Q2_K);
    assert_true(fj_mix_needs_imatrix(s, &up, FJ_GGML_Q2_K));
    assert_false(fj_mix_needs_imatrix(k, &up, FJ_GGML_Q2_K));
    assert_false(fj_mix_needs_imatrix(s, &up, FJ_GGML_Q4_0));
    assert_false(fj_mix_needs_imatrix(s, &embed, FJ_GGML_Q2_K));
}

/* Types that forja computes with have the number of base/dtype.h. */
static void test_numbers(void **state) {
    (void)state;
    int known = 0;
    for (uint32_t id = 0; id < FJ_LEN(type_names); id++) {
        fj_dtype t;
        if (!type_names[id] || !fj_dtype_from_gguf(id, &t)) continue;
        assert_string_equal(fj_dtype_get(t)->name, type_names[id]);
        known++;
    }
    assert_true(known >= 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_llama_cpp),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
