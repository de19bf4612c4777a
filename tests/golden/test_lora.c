/* LoRA on stories260K: 20 steps from the adapter of lora-init/ on fixed batches, against peft. */
#include "golden_train.h"

static fj_lora *open_lora(fj_model *m, const char *path) {
    fj_err e = { 0 };
    fj_lora *l = fj_lora_open(m, path, &e);
    if (!l) fail_msg("%s", e.msg);
    return l;
}

/* An adapter that peft trained gives the logits that peft computes with it. */
static void test_adapter_of_peft(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_st *s = golden_open("stories260k/lora.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, false);
    fj_lora *l = open_lora(m, golden_path("stories260k/lora-final"));
    golden_check_logits(m, l, s, "probe.", "adapter of peft");

    /* and the same from the files that forja writes of it */
    fj_err e = { 0 };
    const char *dir = fj_test_path("peft"), *gguf = fj_test_path("adapter.gguf");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, dir, &e), e);
    FJ_OK_OR_FAIL(fj_lora_save_gguf(l, gguf, &e), e);
    fj_lora_close(l);
    l = open_lora(m, dir);
    golden_check_logits(m, l, s, "probe.", "saved as PEFT");
    fj_lora_close(l);
    l = open_lora(m, gguf);
    golden_check_logits(m, l, s, "probe.", "saved as GGUF");
    fj_lora_close(l);
    fj_model_close(m);

    /* and on the GGUF of the same base */
    m = golden_model(d, fj_test_shared("models/stories260K/stories260K.gguf"), false);
    l = open_lora(m, dir);
    golden_check_logits(m, l, s, "probe.", "PEFT on the GGUF base");
    fj_lora_close(l);
    l = open_lora(m, gguf);
    golden_check_logits(m, l, s, "probe.", "GGUF on the GGUF base");
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

static void train(const char *base, int micros, int recompute) {
    const char *path = fj_test_shared(base);
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = golden_open("stories260k/lora.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, false);
    fj_lora *l = open_lora(m, golden_path("stories260k/lora-init"));
    golden_train(m, l, s, micros, recompute);
    golden_check_logits(m, l, s, "probe.", "logits after 20 steps");

    const char *dir = fj_test_path("trained");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, dir, &e), e);
    fj_st *ours = fj_st_open(fj_test_path("trained/adapter_model.safetensors"), &e);
    fj_st *theirs = golden_open("stories260k/lora-final/adapter_model.safetensors");
    if (!ours) fail_msg("%s", e.msg);
    assert_int_equal(ours->n_tensors, theirs->n_tensors);
    double worst = 0;
    for (size_t i = 0; i < theirs->n_tensors; i++) {
        int64_t n, k;
        const char *name = theirs->tensors[i].name;
        const float *want = golden_f32(theirs, name, &n), *got = golden_f32(ours, name, &k);
        assert_int_equal(n, k);
        double apart = golden_apart(got, want, n);
        if (!(apart <= 1e-4)) fail_msg("%s: off by %g", name, apart);
        worst = fmax(worst, apart);
    }
    printf("adapter: within %.2g\n", worst);
    fj_st_close(ours);
    fj_st_close(theirs);
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

static void test_train_hf(void **state) {
    (void)state;
    train("models/stories260K/hf", 1, 0);
}

static void test_train_gguf(void **state) {
    (void)state;
    train("models/stories260K/stories260K.gguf", 1, 0);
}

/* The same steps out of two micro-batches each, two layers recomputed. */
static void test_train_in_parts(void **state) {
    (void)state;
    train("models/stories260K/hf", 2, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter_of_peft),
        cmocka_unit_test(test_train_hf),
        cmocka_unit_test(test_train_gguf),
        cmocka_unit_test(test_train_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
