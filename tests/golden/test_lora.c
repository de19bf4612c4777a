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

/* The request that tools/golden/train.py makes of peft. */
static fj_lora *plus(fj_model *m, fj_err *e) {
    static const char *const targets[] = { "q_proj", "v_proj", "gate_proj", "down_proj" },
                             *const exclude[] = { "layers.1.self_attn.v_proj" };
    static const int layers[] = { 0, 1, 3 };
    static const fj_peft_pattern ranks[] = { { "down_proj", 4 },
                                             { "layers\\.[01]\\.self_attn\\.q_proj", 10 } },
                                 alphas[] = { { "layers.3.mlp.gate_proj", 20 } };
    return fj_lora_new(m,
                       &(fj_lora_opts){ .r = 6,
                                        .alpha = 9,
                                        .rslora = true,
                                        .targets = targets,
                                        .n_targets = 4,
                                        .exclude = exclude,
                                        .n_exclude = 1,
                                        .layers = layers,
                                        .n_layers = 3,
                                        .rank_pattern = ranks,
                                        .n_rank_pattern = 2,
                                        .alpha_pattern = alphas,
                                        .n_alpha_pattern = 1,
                                        .seed = 1 },
                       e);
}

static void same_pairs(const fj_lora *a, const fj_lora *b, bool scales) {
    assert_int_equal(a->n_pairs, b->n_pairs);
    for (int i = 0; i < a->n_pairs; i++) {
        const fj_lora_pair *p = &a->pairs[i], *q = &b->pairs[i];
        assert_int_equal(p->w, q->w);
        assert_int_equal(p->r, q->r);
        if (scales) golden_near_relative(p->scale, q->scale, 1e-12, "scale");
    }
}

/* Ranks, alphas and modules that differ by expressions, rsLoRA, LoRA+ and weight decay: the pairs that peft makes
 * of the same request, its twenty steps, and files that are read back as the same adapter. */
static void test_plus(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = golden_open("stories260k/lora-plus.safetensors");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, false);
    fj_lora *l = open_lora(m, golden_path("stories260k/lora-plus-init")), *ours = plus(m, &e);
    if (!ours) fail_msg("%s", e.msg);
    same_pairs(ours, l, true);
    fj_lora_close(ours);

    golden_train_with(m, l, s, 2, 1, 16, 0.1);
    golden_check_logits(m, l, s, "probe.", "logits after 20 steps");
    const char *dir = fj_test_path("plus"), *gguf = fj_test_path("plus.gguf");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, dir, &e), e);
    FJ_OK_OR_FAIL(fj_lora_save_gguf(l, gguf, &e), e);
    const char *saved[] = { dir, gguf };
    for (int i = 0; i < 2; i++) {
        fj_lora *again = open_lora(m, saved[i]);
        same_pairs(again, l, i == 0); /* GGUF has one alpha, and the rest in B */
        golden_check_logits(m, again, s, "probe.", saved[i]);
        fj_lora_close(again);
    }
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* What means nothing is said, with the key. */
static void test_plus_wrong(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, path, false);
    static const char *const q[] = { "q_proj" }, *const none[] = { "x_proj" },
                             *const broken[] = { "q_(proj" }, *const self[] = { "self_attn" };
    static const int far[] = { 99 }, first[] = { 0 };
    static const fj_peft_pattern other[] = { { "down_proj", 4 } };
    const struct {
        fj_lora_opts o;
        const char *says;
    } all[] = {
        { { .r = 0, .targets = q, .n_targets = 1 }, "lora_r is 0" },
        { { .r = 2, .targets = none, .n_targets = 1 }, "no linear layer \"x_proj\"" },
        { { .r = 2, .targets = self, .n_targets = 1 }, "no linear layer \"self_attn\"" },
        { { .r = 2, .targets = broken, .n_targets = 1 },
          "target_modules: \"q_(proj\" is no expression" },
        { { .r = 2, .targets = q, .n_targets = 1, .layers = far, .n_layers = 1 }, "no layer 99" },
        { { .r = 2, .targets = q, .n_targets = 1, .exclude = q, .n_exclude = 1 },
          "exclude_modules leaves out all of them" },
        { { .r = 2,
            .targets = q,
            .n_targets = 1,
            .layers = first,
            .n_layers = 1,
            .rank_pattern = other,
            .n_rank_pattern = 1 },
          "rank_pattern: no module of the adapter is called \"down_proj\"" },
    };
    for (size_t i = 0; i < FJ_LEN(all); i++) {
        fj_err e = { 0 };
        fj_lora *l = fj_lora_new(m, &all[i].o, &e);
        assert_null(l);
        if (!strstr(e.msg, all[i].says)) fail_msg("\"%s\" lacks \"%s\"", e.msg, all[i].says);
    }
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter_of_peft),
        cmocka_unit_test(test_train_hf),
        cmocka_unit_test(test_train_gguf),
        cmocka_unit_test(test_train_in_parts),
        cmocka_unit_test(test_plus),
        cmocka_unit_test(test_plus_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
