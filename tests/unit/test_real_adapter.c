/* test_real_adapter.c - an adapter of Gemma 3 270M as PEFT saved it, on a model of that shape (random weights,
 * a small vocabulary): its names and sizes are those of forja's tables, and what is written back is the same. */
#include "test_util.h"

#include "formats/peft.h"
#include "models/model.h"

#include <math.h>

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
    fj_model *m = fj_model_random(d, &fj_arch_gemma3, &hp, "gemma3",
                                  &(fj_formats){ .all = FJ_BF16 }, false, 1, &e);
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
    m = fj_model_random(d, &fj_arch_gemma3, &other, "gemma3", &(fj_formats){ .all = FJ_BF16 },
                        false, 1, &e);
    if (!m) fail_msg("%s", e.msg);
    FJ_FAILS_WITH(fj_lora_open(m, path, &e), e, "is A 4 x 640, B 1024 x 4; the model");
    fj_model_close(m);
    fj_dev_close(d);
}

/* GGUF adapters of others have an A for the gate and another for the up half of experts: together they are
 * one pair of both ranks. */
static void test_gate_and_up_apart(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    if (!d) fail_msg("%s", e.msg);
    fj_model *m = fj_model_open(d, fj_test_source("tests/golden/archs/mixtral"), NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    int64_t experts = m->hp.experts, in = m->hp.width, out = m->hp.expert_ffn;
    float a[2][3 * 32 * 8], b[2][3 * 64 * 8];
    assert_true(experts <= 8 && in <= 32 && out <= 64);
    for (int h = 0; h < 2; h++) {
        for (size_t i = 0; i < FJ_LEN(a[0]); i++) a[h][i] = (float)(i + 1) + 0.25f * (float)h;
        for (size_t i = 0; i < FJ_LEN(b[0]); i++) b[h][i] = -(float)(i + 1) - 0.25f * (float)h;
    }
    fj_peft_pair pairs[2] = {
        { .module = "blk.1.ffn_gate_exps.weight", .r = 2, .scale = 3, .mats = experts },
        { .module = "blk.1.ffn_up_exps.weight", .r = 3, .scale = 2, .mats = experts },
    };
    for (int h = 0; h < 2; h++) {
        pairs[h].a = (fj_peft_mat){ experts * pairs[h].r, in, FJ_F32, a[h] };
        pairs[h].b = (fj_peft_mat){ experts * out, pairs[h].r, FJ_F32, b[h] };
    }
    const char *path = fj_test_path("apart.gguf");
    FJ_OK_OR_FAIL(fj_peft_save_gguf(path, "llama", "x", pairs, 2, &e), e);
    fj_lora *l = fj_lora_open(m, path, &e);
    if (!l) fail_msg("%s", e.msg);
    assert_int_equal(l->n_pairs, 1);
    const fj_lora_pair *p = &l->pairs[0];
    assert_int_equal(p->r, 5);
    float *all = fj_alloc(l->bytes), *pa = all + p->a / sizeof *all, *pb = all + p->b / sizeof *all;
    FJ_OK_OR_FAIL(d->fn->download(l->buf, 0, all, l->bytes, &e), e);
    for (int64_t x = 0; x < experts; x++) {
        assert_memory_equal(pa + x * 5 * in, a[0] + x * 2 * in, (size_t)(2 * in) * sizeof *pa);
        assert_memory_equal(pa + (x * 5 + 2) * in, a[1] + x * 3 * in,
                            (size_t)(3 * in) * sizeof *pa);
        for (int64_t r = 0; r < out; r++)
            for (int k = 0; k < 5; k++) {
                double gate = k < 2 ? (double)b[0][(x * out + r) * 2 + k] * 3 : 0;
                double up = k < 2 ? 0 : (double)b[1][(x * out + r) * 3 + k - 2] * 2;
                const float *row = pb + (x * 2 * out + r) * 5 + k;
                assert_true(fabs((double)row[0] * p->scale - gate) <= 1e-5 * fabs(gate));
                assert_true(fabs((double)row[out * 5] * p->scale - up) <= 1e-5 * fabs(up));
            }
    }
    free(all);
    fj_lora_close(l);
    pairs[1].a.cols = in / 2; /* of another model */
    FJ_OK_OR_FAIL(fj_peft_save_gguf(path, "llama", "x", pairs, 2, &e), e);
    FJ_FAILS_WITH(fj_lora_open(m, path, &e), e, "blk.1.ffn_up_exps.weight is A ");
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_gemma3),
                                        cmocka_unit_test(test_gate_and_up_apart) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
