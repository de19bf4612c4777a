/* test_real_adapter.c - an adapter of Gemma 3 270M as PEFT saved it, on a model of that shape (random weights,
 * a small vocabulary): its names and sizes are those of forja's tables, and what is written back is the same. */
#include "test_util.h"

#include "formats/peft.h"
#include "models/model.h"

static void test_gemma3(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/adapters/gemma3-270m-r4");
    if (!path) skip();
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    if (!d) fail_msg("%s", e.msg);
    const fj_hparams hp = { .layers = 18,
                            .width = 640,
                            .heads = 4,
                            .kv_heads = 1,
                            .head_dim = 256,
                            .ffn = 2048,
                            .vocab = 64,
                            .context = 32768,
                            .window = 512,
                            .query_scalar = 256,
                            .local_every = 6,
                            .eps = 1e-6,
                            .tied = true,
                            .rope.base = 1e6,
                            .rope_local.base = 1e4 };
    fj_model *m = fj_model_random(d, &fj_arch_gemma3, &hp, "gemma3", FJ_BF16, false, 1, &e);
    if (!m) fail_msg("%s", e.msg);
    fj_lora *l = fj_lora_open(m, path, &e);
    if (!l) fail_msg("%s", e.msg);
    assert_int_equal(l->n_pairs, 2 * 18);
    assert_int_equal(l->r, 4);
    for (int i = 0; i < l->n_pairs; i++) assert_true(l->pairs[i].scale == 1);
    const char *copy = fj_test_path("copy");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, copy, &e), e);
    fj_peft_file *a = fj_peft_open(path, &e), *b = fj_peft_open(copy, &e);
    if (!a || !b) fail_msg("%s", e.msg);
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const fj_peft_pair *x = &a->pairs[i], *y = &b->pairs[i];
        assert_string_equal(x->module, y->module);
        assert_memory_equal(x->a.data, y->a.data, (size_t)(x->a.rows * x->a.cols) * sizeof(float));
        assert_memory_equal(x->b.data, y->b.data, (size_t)(x->b.rows * x->b.cols) * sizeof(float));
    }
    fj_peft_close(a);
    fj_peft_close(b);
    fj_lora_close(l);
    fj_model_close(m);

    /* One of another size is refused with both. */
    fj_hparams other = hp;
    other.width = 1152;
    m = fj_model_random(d, &fj_arch_gemma3, &other, "gemma3", FJ_BF16, false, 1, &e);
    if (!m) fail_msg("%s", e.msg);
    FJ_FAILS_WITH(fj_lora_open(m, path, &e), e, "is A 4 x 640, B 1024 x 4; the model");
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_gemma3) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
