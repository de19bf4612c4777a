/* Quantised Hugging Face folders: the values that bitsandbytes, GPTQ's, AWQ's, FP8's and
 * compressed-tensors' own tools give their weights, bit for bit, in any cut of rows. */
#include "golden_model.h"

#include "formats/hf.h"
#include "formats/hfquant.h"
#include "models/reader.h"

static const char *const cases[] = {
    "awq",     "bnb-fp4",    "bnb-fp4-double", "bnb-int8",       "bnb-nf4", "ct-float",
    "ct-int",  "ct-packed",  "ct-packed-zero", "bnb-nf4-double", "fbgemm",  "fp8-block",
    "fp8-odd", "fp8-tensor", "gptq",           "gptq-2",         "gptq-8",  "gptq-act-v2",
};

typedef struct folder {
    fj_hf *hf;
    fj_st *st, *golden;
    fj_hfq *q;
} folder;

static folder open_case(const char *name) {
    char rel[128];
    fj_err e = { 0 };
    folder f;
    snprintf(rel, sizeof rel, "hfquant/%s", name);
    f.hf = fj_hf_open(golden_path(rel), &e);
    if (!f.hf) fail_msg("%s", e.msg);
    f.st = golden_open(rel);
    snprintf(rel, sizeof rel, "hfquant/%s.safetensors", name);
    f.golden = golden_open(rel);
    FJ_OK_OR_FAIL(fj_hfq_open(f.hf->config, name, &f.q, &e), e);
    assert_non_null(f.q);
    return f;
}

static void close_case(folder *f) {
    fj_hfq_close(f->q);
    fj_st_close(f->st);
    fj_st_close(f->golden);
    fj_hf_close(f->hf);
}

/* The weights that the golden file knows: fn for each. */
static int each_weight(const folder *f,
                       void (*fn)(const folder *f, const char *name, const fj_hfq_weight *w)) {
    int n = 0;
    for (size_t i = 0; i < f->golden->n_tensors; i++) {
        const char *name = f->golden->tensors[i].name;
        if (strncmp(name, "sha:", 4) != 0) continue;
        fj_err e = { 0 };
        fj_hfq_weight w;
        FJ_OK_OR_FAIL(fj_hfq_find(f->q, f->st, name + 4, &w, &e), e);
        if (w.kind == FJ_HFQ_PLAIN) fail_msg("%s is not found to be quantised", name);
        fn(f, name + 4, &w);
        n++;
    }
    return n;
}

static void check_values(const folder *f, const char *name, const fj_hfq_weight *w) {
    char key[128], hex[FJ_SHA256_HEX], want[FJ_SHA256_HEX];
    int64_t n;
    const float *last = golden_f32(f->golden, name, &n);
    assert_int_equal(n, w->cols);
    float *got = malloc((size_t)(w->rows * w->cols) * sizeof *got);
    for (int64_t r = 0, step = 1; r < w->rows; r += step, step = FJ_MIN(3 * step, w->rows - r))
        fj_hfq_rows(w, r, step = FJ_MIN(step, w->rows - r), got + r * w->cols);
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&last[i], &got[(w->rows - 1) * n + i], 4) != 0)
            fail_msg("%s: column %lld of the last row is %.9g, not %.9g", name, (long long)i,
                     (double)got[(w->rows - 1) * n + i], (double)last[i]);
    snprintf(key, sizeof key, "sha:%s", name);
    const int32_t *sum = golden_i32(f->golden, key, &n);
    assert_int_equal(n, 8);
    for (int i = 0; i < 8; i++) snprintf(want + 8 * i, 9, "%08x", (unsigned)sum[i]);
    fj_sha256(got, (size_t)(w->rows * w->cols) * sizeof *got, hex);
    if (strcmp(hex, want) != 0) fail_msg("%s: a row other than the last has other values", name);
    free(got);
}

static void test_values(void **state) {
    (void)state;
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        folder f = open_case(cases[i]);
        int n = each_weight(&f, check_values);
        assert_true(n == 7 || n == 14);
        printf("%s: %d weights, bit for bit\n", cases[i], n);
        close_case(&f);
    }
}

/* FJ_NF4 takes the codes over and rounds absmax to 16 bits: off by 2^-11 of it at most. */
static void check_nf4(const folder *f, const char *name, const fj_hfq_weight *w) {
    (void)f;
    fj_err e = { 0 };
    if (w->dtype != FJ_NF4) {
        assert_non_null(strstr(name, "down_proj")); /* rows of 96 */
        assert_int_equal(w->cols, 96);
        return;
    }
    float *exact = malloc((size_t)w->cols * sizeof *exact),
          *kept = malloc((size_t)w->cols * sizeof *kept);
    fj_nf4 *row = malloc((size_t)fj_dtype_size(FJ_NF4, 1, w->cols));
    for (int64_t r = 0; r < w->rows; r++) {
        fj_hfq_rows(w, r, 1, exact);
        FJ_OK_OR_FAIL(fj_hfq_rows_nf4(w, r, 1, row, &e), e);
        fj_dequant_row(FJ_NF4, row, kept, w->cols);
        for (int64_t i = 0; i < w->cols; i++)
            if (!(fabsf(kept[i] - exact[i]) <= fabsf(exact[i]) * 0x1p-11f))
                fail_msg("%s: %.9g is kept as %.9g", name, (double)exact[i], (double)kept[i]);
    }
    free(exact);
    free(kept);
    free(row);
}

static void test_nf4(void **state) {
    (void)state;
    static const char *const nf4[] = { "bnb-nf4", "bnb-nf4-double" };
    for (size_t i = 0; i < FJ_LEN(nf4); i++) {
        folder f = open_case(nf4[i]);
        assert_true(each_weight(&f, check_nf4) > 0);
        close_case(&f);
    }
}

/* Every tensor of a folder is a part of some weight, plain, or a bias of zeros. */
static void test_owners(void **state) {
    (void)state;
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        folder f = open_case(cases[i]);
        fj_arena mem = { 0 };
        int owned = 0, idle = 0;
        for (size_t k = 0; k < f.st->n_tensors; k++) {
            const char *name = f.st->tensors[k].name, *of = fj_hfq_owner(f.q, f.st, name, &mem);
            bool quantised = strstr(name, "_proj.") != NULL;
            if (fj_hfq_idle(f.q, f.st, name)) idle++;
            else if (quantised != (of != NULL))
                fail_msg("%s belongs to %s", name, of ? of : "none");
            if (!of) continue;
            size_t n = strlen(of) - strlen("weight");
            assert_int_equal(strncmp(of, name, n), 0);
            assert_string_equal(of + n, "weight");
            owned++;
        }
        assert_true(owned >= 14);
        assert_int_equal(idle, strcmp(cases[i], "gptq") ? 0 : 14);
        fj_arena_free(&mem);
        close_case(&f);
    }
}

/* The loaded folder has transformers' logits on the same values. */
static void test_logits(void **state) {
    (void)state;
    fj_dev *d = golden_dev();
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        char rel[128];
        snprintf(rel, sizeof rel, "hfquant/%s", cases[i]);
        fj_model *m = golden_model(d, golden_path(rel), false);
        snprintf(rel, sizeof rel, "hfquant/%s.safetensors", cases[i]);
        fj_st *s = golden_open(rel);
        golden_check_logits(m, NULL, s, "", cases[i]);
        fj_st_close(s);
        fj_model_close(m);
    }
    fj_dev_close(d);
}

/* What is read from the files for an export is what a loaded model computes with, in any cut of rows. */
static void test_reader(void **state) {
    (void)state;
    fj_dev *d = golden_dev();
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        char rel[128];
        fj_err e = { 0 };
        snprintf(rel, sizeof rel, "hfquant/%s", cases[i]);
        fj_model *m = golden_model(d, golden_path(rel), false);
        fj_model *l = fj_model_listed(d, golden_path(rel), &e);
        FJ_OK_OR_FAIL(l, e);
        for (int k = 0; k < m->n_w; k++) {
            const fj_weight *w = &m->w[k];
            fj_reader r;
            int64_t half = w->rows * 2 / 3;
            size_t bytes = (size_t)(w->rows * w->cols) * sizeof(float);
            float *memory = malloc(bytes), *files = malloc(bytes);
            FJ_OK_OR_FAIL(fj_weight_get(m, w, memory, &e), e);
            FJ_OK_OR_FAIL(fj_reader_open(&r, l, NULL, &l->w[k], &e), e);
            FJ_OK_OR_FAIL(fj_reader_rows(&r, FJ_F32, 0, half, files, &e), e);
            fj_reader_done(&r);
            FJ_OK_OR_FAIL(
                fj_reader_rows(&r, FJ_F32, half, w->rows - half, files + half * w->cols, &e), e);
            assert_memory_equal(memory, files, bytes);
            fj_reader_close(&r);
            free(memory);
            free(files);
        }
        fj_model_close(l);
        fj_model_close(m);
    }
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_nf4),    cmocka_unit_test(test_owners),
        cmocka_unit_test(test_logits), cmocka_unit_test(test_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
