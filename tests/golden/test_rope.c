/* Tiny random Llamas, one per RoPE scaling and layout of the folder: logits as transformers has them,
 * from the Hugging Face folder and from the folder and the GGUF file that forja makes of it. */
#include "golden_model.h"

/* gguf_refused: NULL, or why this model cannot be a GGUF file. */
static void run(const char *name, const char *gguf_refused) {
    char file[128];
    snprintf(file, sizeof file, "%s.safetensors", name);
    fj_err e = { 0 };
    fj_st *s = golden_open(file);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, golden_path(name), false);
    golden_check_logits(m, NULL, s, "", name);

    const char *dir = fj_test_path(name);
    FJ_OK_OR_FAIL(fj_model_save_hf(m, dir, "F32", &e), e);
    snprintf(file, sizeof file, "%s.gguf", name);
    const char *gguf = fj_test_path(file);
    if (gguf_refused) FJ_FAILS_WITH(fj_model_save_gguf(m, gguf, "F32", &e), e, gguf_refused);
    else FJ_OK_OR_FAIL(fj_model_save_gguf(m, gguf, "F32", &e), e);
    fj_model_close(m);

    m = golden_model(d, dir, false);
    golden_check_logits(m, NULL, s, "", "saved as a folder");
    fj_model_close(m);
    if (!gguf_refused) {
        m = golden_model(d, gguf, false);
        golden_check_logits(m, NULL, s, "", "saved as GGUF");
        fj_model_close(m);
    }
    fj_dev_close(d);
    fj_st_close(s);
}

#define MODEL(id, name, refused)                                                                   \
    static void test_##id(void **state) {                                                          \
        (void)state;                                                                               \
        run("tiny-" name, refused);                                                                \
    }
MODEL(default, "default", NULL)
MODEL(untied_bias, "untied-bias", NULL)
MODEL(headdim, "headdim", NULL)
MODEL(sharded, "sharded", NULL)
MODEL(linear, "linear", NULL)
MODEL(dynamic, "dynamic", "dynamic rope")
MODEL(llama3, "llama3", NULL)
MODEL(yarn, "yarn", NULL)
MODEL(yarn_full, "yarn-full", NULL)
MODEL(parameters, "parameters", NULL)

/* The comparison itself must be able to fail: the weights of one model with the logits of another. */
static void test_sees_a_difference(void **state) {
    (void)state;
    fj_st *s = golden_open("tiny-linear.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, golden_path("tiny-yarn"), false);
    int64_t n, count;
    const int32_t *ids = golden_i32(s, "ids", &n);
    const float *want = golden_f32(s, "logits", &count);
    float *got = malloc((size_t)count * sizeof *got);
    golden_logits(m, NULL, ids, n, n, got);
    assert_true(golden_apart(got, want, count) > 100 * GOLDEN_LOGITS);
    free(got);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_untied_bias),
        cmocka_unit_test(test_headdim),
        cmocka_unit_test(test_sharded),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_dynamic),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_yarn_full),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_sees_a_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
