/* Adapters: PEFT folders and GGUF files, written and read, real ones and broken ones. */
#include "test_util.h"

#include "formats/gguf.h"
#include "formats/hf.h"
#include "formats/peft.h"
#include "formats/safetensors.h"

#include <dirent.h>
#include <math.h>

static const float a0[6] = { 1, 2, 3, 4, 5, 6 }, b0[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const float a1[3] = { 7, 8, 9 }, b1[4] = { 1, 0.5f, -1, 2 };

/* q: r 2, v: r 1 by its pattern. */
static const fj_peft_pattern ranks[] = { { "v_proj", 1 } }, alphas[] = { { "v_proj", 3 } };
static const char *const targets[] = { "q_proj", "v_proj" };
static const fj_peft_config config = {
    .base_model = "some/model",
    .task_type = "CAUSAL_LM",
    .r = 2,
    .alpha = 8,
    .dropout = 0.05,
    .rslora = true,
    .targets = targets,
    .n_targets = 2,
    .rank_pattern = ranks,
    .n_rank_pattern = 1,
    .alpha_pattern = alphas,
    .n_alpha_pattern = 1,
};

static void make_pairs(fj_peft_pair p[2], const char *q, const char *v) {
    p[0] = (fj_peft_pair){ q, { 2, 3, FJ_F32, a0 }, { 4, 2, FJ_F32, b0 }, 2, 8 / sqrt(2), 0 };
    p[1] = (fj_peft_pair){ v, { 1, 3, FJ_F32, a1 }, { 4, 1, FJ_F32, b1 }, 1, 3, 0 };
}

static void peft_round_trip(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("peft");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    fj_peft_pair p[2];
    make_pairs(p, "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj");
    FJ_OK_OR_FAIL(fj_peft_save(dir, &config, p, 2, &e), e);
    fj_peft_file *f = fj_peft_open(dir, &e);
    FJ_OK_OR_FAIL(f, e);
    assert_false(f->gguf);
    assert_int_equal(f->n, 2);
    assert_string_equal(f->config.base_model, "some/model");
    assert_string_equal(f->config.targets[1], "v_proj");
    assert_true(f->config.r == 2 && f->config.alpha == 8 && f->config.rslora);
    assert_true(fabs(f->config.dropout - 0.05) < 1e-12);
    for (int i = 0; i < 2; i++) {
        const fj_peft_pair *x = &f->pairs[i];
        assert_string_equal(x->module, p[i].module);
        assert_true(x->r == p[i].r && fabs(x->scale - p[i].scale) < 1e-12);
        assert_true(x->a.cols == 3 && x->b.rows == 4);
        assert_memory_equal(x->a.data, p[i].a.data, (size_t)(4 * x->a.rows * x->a.cols));
        assert_memory_equal(x->b.data, p[i].b.data, (size_t)(4 * x->b.rows * x->b.cols));
    }
    fj_peft_close(f);

    p[0].scale = 1; /* not what the configuration gives */
    FJ_FAILS_WITH(fj_peft_save(dir, &config, p, 2, &e), e, "q_proj has rank 2 and scale 1");
}

/* One alpha in GGUF: the second pair keeps scale * B A by a factor in its B. */
static void gguf_round_trip(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *path = fj_test_path("adapter.gguf");
    fj_peft_pair p[2];
    make_pairs(p, "blk.0.attn_q.weight", "blk.0.attn_v.weight");
    FJ_OK_OR_FAIL(fj_peft_save_gguf(path, "llama", "some model", p, 2, &e), e);
    fj_peft_file *f = fj_peft_open(path, &e);
    FJ_OK_OR_FAIL(f, e);
    assert_true(f->gguf && f->n == 2);
    assert_string_equal(f->arch, "llama");
    for (int i = 0; i < 2; i++) {
        const fj_peft_pair *x = &f->pairs[i];
        assert_string_equal(x->module, p[i].module);
        assert_int_equal(x->r, p[i].r);
        assert_true(x->a.rows == x->r && x->a.cols == 3 && x->b.rows == 4 && x->b.cols == x->r);
        assert_memory_equal(x->a.data, p[i].a.data, (size_t)(4 * x->a.rows * x->a.cols));
        for (int k = 0; k < 4 * x->r; k++) {
            double got = x->scale * (double)((const float *)x->b.data)[k];
            double want = p[i].scale * (double)((const float *)p[i].b.data)[k];
            assert_true(fabs(got - want) < 1e-5);
        }
    }
    fj_peft_close(f);

    /* layout as llama.cpp wants it */
    fj_gguf *g = fj_gguf_open(path, &e);
    FJ_OK_OR_FAIL(g, e);
    const fj_gguf_tensor *a = fj_gguf_tensor_get(g, "blk.0.attn_q.weight.lora_a", &e);
    const fj_gguf_tensor *b = fj_gguf_tensor_get(g, "blk.0.attn_q.weight.lora_b", &e);
    assert_true(a && a->dim[0] == 3 && a->dim[1] == 2);
    assert_true(b && b->dim[0] == 2 && b->dim[1] == 4);
    float alpha;
    FJ_OK_OR_FAIL(fj_gguf_f32(g, "adapter.lora.alpha", &alpha, &e), e);
    assert_true(fabs((double)alpha - 8 * sqrt(2)) <
                1e-5); /* 8 / sqrt(2) * 2: rsLoRA is folded in */
    fj_gguf_close(g);
}

static void real_adapter(void **state) {
    (void)state;
    const char *dir = fj_test_shared("models/adapters/gemma3-270m-r4");
    if (!dir) skip();
    fj_err e = { 0 };
    fj_peft_file *f = fj_peft_open(dir, &e);
    FJ_OK_OR_FAIL(f, e);
    assert_int_equal(f->n, 36);
    assert_string_equal(f->config.base_model, "google/gemma-3-270m-it");
    assert_string_equal(f->config.targets[0], "v_proj");
    for (size_t i = 0; i < f->n; i++) {
        const fj_peft_pair *p = &f->pairs[i];
        bool q = strstr(p->module, "q_proj") != NULL;
        assert_int_equal(strncmp(p->module, "model.layers.", 13), 0);
        assert_true(p->r == 4 && p->scale == 1 && p->a.rows == 4 && p->a.cols == 640);
        assert_int_equal(p->b.rows, q ? 1024 : 256);
    }
    fj_peft_close(f);
}

/* What Python's re finds in PEFT's three uses: re.fullmatch or the end of a path; and re.match of
 * (.*\.)?(name)$. */
static void names(void **state) {
    (void)state;
    static const struct {
        const char *name, *module;
        bool whole, end;
    } all[] = {
        { "q_proj", "model.layers.0.self_attn.q_proj", true, true },
        { "q_proj", "q_proj", true, true },
        { "q_proj", "model.xq_proj", false, false },
        { "self_attn.q_proj", "model.layers.0.self_attn.q_proj", true, true },
        { "self_attn.q_proj", "model.layers.0.self_attnxq_proj", false, false },
        { ".*q_proj", "model.layers.0.self_attn.q_proj", true, true },
        { "[qk]_proj", "model.layers.0.self_attn.q_proj", false, true },
        { "layers\\.[01]\\..*", "model.layers.1.mlp.up_proj", false, true },
        { "layers\\.[01]\\..*", "model.layers.11.mlp.up_proj", false, false },
        { "q_proj|k_proj", "model.k_proj", false, true },
        { "^q_proj", "model.q_proj", false, false },
        { "^model\\.q_proj$", "model.q_proj", true, true },
        { "model.layers.0", "model.layers.0.x", false, false },
        { "(a+)+b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false, false },
    };
    for (size_t i = 0; i < FJ_LEN(all); i++) {
        fj_err e = { 0 };
        FJ_OK_OR_FAIL(fj_peft_name_ok(all[i].name, "x", &e), e);
        if (fj_peft_names(all[i].name, all[i].module) != all[i].whole ||
            fj_peft_ends(all[i].name, all[i].module) != all[i].end)
            fail_msg("%s against %s", all[i].name, all[i].module);
    }
    char *longest = malloc(5001);
    memset(longest, 'a', 5000);
    longest[5000] = 0;
    fj_err e = { 0 };
    FJ_FAILS_WITH(fj_peft_name_ok(longest, "x", &e), e, "a name of 5000 bytes");
    free(longest);
}

static bool read_text(const char *text, fj_peft_config *c, fj_arena *mem, fj_err *e) {
    const char *path = fj_test_path("adapter_config.json");
    return fj_write_file(path, text, strlen(text), e) && fj_peft_config_read(path, c, mem, e);
}

static void configs(void **state) {
    (void)state;
    fj_peft_config c;
    fj_arena mem = { 0 };
    fj_err e = { 0 };
#define HEAD "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,"
    const struct {
        const char *text, *says;
    } bad[] = {
        { HEAD "\"use_dora\":true}", "use_dora is set" },
        { HEAD "\"bias\":\"all\"}", "bias is all" },
        { HEAD "\"lora_bias\":true}", "lora_bias is set" },
        { HEAD "\"modules_to_save\":[\"lm_head\"]}", "modules_to_save is set" },
        { HEAD "\"layer_replication\":[[0,4]]}", "layer_replication is set" },
        { HEAD "\"alora_invocation_tokens\":[1]}", "alora_invocation_tokens is set" },
        { HEAD "\"target_parameters\":[7]}", "target_parameters has an entry that is no string" },
        { HEAD "\"target_parameters\":7}", "target_parameters is an integer, expected a list" },
        { HEAD "\"something_new\":true}", "something_new is set" },
        { HEAD "\"init_lora_weights\":\"pissa\"}", "init_lora_weights is pissa" },
        { HEAD "\"rank_pattern\":{\"(q|k_proj\":4}}",
          "rank_pattern: \"(q|k_proj\" is no expression" },
        { HEAD "\"rank_pattern\":{\"\":4}}", "a name of 0 bytes" },
        { HEAD "\"rank_pattern\":{\"q_proj\":0.5}}", "not a positive whole number" },
        { HEAD "\"alpha_pattern\":{\"q_proj\":-1}}", "not a positive number" },
        { HEAD "\"target_modules\":7}", "expected a list or a string" },
        { HEAD "\"target_modules\":[7]}", "no string" },
        { HEAD "\"lora_dropout\":1.5}", "lora_dropout is 1.5" },
        { HEAD "\"use_rslora\":\"yes\"}", "use_rslora is a string, expected true or false" },
        { "{\"peft_type\":\"IA3\",\"r\":8}", "peft_type is IA3" },
        { "{\"peft_type\":\"LORA\",\"lora_alpha\":1}", "r (an integer) is missing" },
        { "{\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":1}", "r is 0" },
        { "{\"r\":8,\"r\":9}", "duplicate" },
        { "[1]", "expected a JSON object" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        FJ_FAILS_WITH(read_text(bad[i].text, &c, &mem, &e), e, bad[i].says);
        assert_non_null(strstr(e.msg, "adapter_config.json"));
    }
    FJ_OK_OR_FAIL(read_text(HEAD
                            "\"target_modules\":\"all-linear\",\"use_dora\":false,\"new\":null}",
                            &c, &mem, &e),
                  e);
    assert_string_equal(c.target_pattern, "all-linear");
    assert_null(c.targets);
    assert_true(fj_peft_scale(&c, "model.layers.0.mlp.up_proj") == 2);
    FJ_OK_OR_FAIL(
        read_text(HEAD "\"rank_pattern\":{\"layers.1.q_proj\":4,\"q_proj\":2}}", &c, &mem, &e), e);
    assert_int_equal(fj_peft_rank(&c, "model.layers.1.q_proj"), 4);
    assert_int_equal(fj_peft_rank(&c, "model.layers.2.q_proj"), 2);
    assert_int_equal(fj_peft_rank(&c, "model.layers.2.xq_proj"), 8);
    fj_arena_free(&mem);
}

static void keys(void **state) {
    (void)state;
    const char *m;
    size_t n;
    char ab;
    assert_true(fj_peft_key_parse("base_model.model.lm_head.lora_B.weight", &m, &n, &ab));
    assert_true(n == 7 && !strncmp(m, "lm_head", 7) && ab == 'B');
    const char *bad[] = { "",
                          "base_model.model.",
                          "base_model.model..lora_A.weigh",
                          "base_model.model.lora_A.weight",
                          "base_model.model.x.lora_C.weight",
                          "base_model.model.x.lora_A.default.weight",
                          "base.model.x.lora_A.weight",
                          "base_model.model.x.lora_embedding_A" };
    for (size_t i = 0; i < FJ_LEN(bad); i++) assert_false(fj_peft_key_parse(bad[i], &m, &n, &ab));
    char *key = fj_peft_key("a.b", 'A');
    assert_string_equal(key, "base_model.model.a.b.lora_A.weight");
    free(key);
}

static void save_tensors(const char *path, const char *names[], const int64_t dims[][2], int n) {
    static const float zero[64];
    fj_err e = { 0 };
    fj_st_writer *w = fj_st_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    for (int i = 0; i < n; i++) fj_st_writer_add(w, names[i], "F32", 2, dims[i]);
    for (int64_t i; (i = fj_st_writer_next(w)) >= 0;)
        fj_st_writer_data(w, zero, (size_t)(4 * dims[i][0] * dims[i][1]));
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);
}

static void broken_tensors(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("broken"),
               *st = fj_test_path("broken/adapter_model.safetensors");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "adapter_config.json is missing");
    fj_peft_config c = { .r = 2, .alpha = 4 };
    FJ_OK_OR_FAIL(fj_peft_config_write(fj_test_path("broken/adapter_config.json"), &c, &e), e);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "adapter_model.safetensors is missing");
#define A "base_model.model.x.lora_A.weight"
#define B "base_model.model.x.lora_B.weight"
    save_tensors(st, (const char *[]){ A }, (int64_t[][2]){ { 2, 3 } }, 1);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "module x has no matrix B");
    save_tensors(st, (const char *[]){ A, B }, (int64_t[][2]){ { 2, 3 }, { 4, 3 } }, 2);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "do not fit");
    save_tensors(st, (const char *[]){ A, B }, (int64_t[][2]){ { 3, 3 }, { 4, 3 } }, 2);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "module x has rank 3");
    save_tensors(st, (const char *[]){ A, "lm_head.weight" }, (int64_t[][2]){ { 2, 3 }, { 4, 2 } },
                 2);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "tensor lm_head.weight is no LoRA matrix");
    save_tensors(st, NULL, NULL, 0);
    FJ_FAILS_WITH(fj_peft_open(dir, &e), e, "no LoRA tensors");
}

static void hf_folder(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fj_test_path("hf"), *config_path = fj_test_path("hf/config.json");
    FJ_FAILS_WITH(fj_hf_open(dir, &e), e, "is not a folder");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    FJ_FAILS_WITH(fj_hf_open(dir, &e), e, "looked for config.json");
    const char *text =
        "{\"a\":1,\"b\":2.5,\"c\":true,\"d\":\"x\",\"n\":null,\"rope\":{\"factor\":8}}";
    FJ_OK_OR_FAIL(fj_write_file(config_path, text, strlen(text), &e), e);
    fj_hf *h = fj_hf_open(dir, &e);
    FJ_OK_OR_FAIL(h, e);
    int64_t i;
    double x;
    bool b;
    const char *s;
    FJ_OK_OR_FAIL(fj_hf_int(h, "a", &i, &e) && fj_hf_float(h, "rope.factor", &x, &e), e);
    assert_true(i == 1 && x == 8);
    FJ_OK_OR_FAIL(fj_hf_bool(h, "c", &b, &e) && fj_hf_string(h, "d", &s, &e), e);
    assert_true(b);
    assert_string_equal(s, "x");
    i = 5;
    FJ_OK_OR_FAIL(fj_hf_int_opt(h, "n", &i, &e) && fj_hf_int_opt(h, "rope.no.way", &i, &e), e);
    assert_int_equal(i, 5);
    FJ_FAILS_WITH(fj_hf_int(h, "b", &i, &e), e, "config.json: b is a number, expected an integer");
    FJ_FAILS_WITH(fj_hf_int(h, "n", &i, &e), e, "config.json: n (an integer) is missing");
    FJ_FAILS_WITH(fj_hf_string(h, "rope", &s, &e), e, "rope is an object, expected a string");
    assert_true(!h->has_tokenizer && !h->has_weights);
    FJ_FAILS_WITH(fj_hf_load(h, "tokenizer.json", NULL, &e), e, "tokenizer.json is missing");
    fj_hf_close(h);
    FJ_OK_OR_FAIL(fj_write_file(config_path, "{", 1, &e), e);
    FJ_FAILS_WITH(fj_hf_open(dir, &e), e, "config.json: line 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peft_round_trip), cmocka_unit_test(gguf_round_trip),
        cmocka_unit_test(real_adapter),    cmocka_unit_test(configs),
        cmocka_unit_test(names),           cmocka_unit_test(keys),
        cmocka_unit_test(broken_tensors),  cmocka_unit_test(hf_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
