/* test_config.c - what is refused of a model folder, by name: each case is a model of tests/golden/archs with
 * a few keys of its config.json changed (null: taken out). */
#include "test_util.h"

#include "base/fs.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "models/model.h"

#include <unistd.h>

static fj_dev *device(void) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 1, .f32 = true }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

/* The folder of a case with other keys: {"key": value}; a value "-" takes the key out. */
static const char *changed(const char *name, const char *changes) {
    fj_err e = { 0 };
    char rel[128];
    const char *dir = fj_test_path("model");
    fj_remove_tree(dir, NULL);
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    snprintf(rel, sizeof rel, "tests/golden/archs/%s/config.json", name);
    json_t *config = fj_json_file(fj_test_source(rel), 1 << 20, &e), *v;
    json_t *more = json_loads(changes, 0, NULL);
    if (!config || !more) fail_msg("%s %s", name, changes);
    const char *key;
    json_object_foreach(more, key, v) {
        if (json_is_string(v) && !strcmp(json_string_value(v), "-")) json_object_del(config, key);
        else json_object_set(config, key, v);
    }
    FJ_OK_OR_FAIL(fj_json_save(fj_test_path("model/config.json"), config, &e), e);
    json_decref(config);
    json_decref(more);
    static const char *const files[] = { "model.safetensors", "tokenizer.json" };
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        char to[64];
        snprintf(rel, sizeof rel, "tests/golden/archs/%s/%s", name, files[i]);
        snprintf(to, sizeof to, "model/%s", files[i]);
        char *real = realpath(fj_test_source(rel), NULL);
        assert_non_null(real);
        assert_int_equal(symlink(real, fj_test_path(to)), 0);
        free(real);
    }
    return dir;
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *name, *changes, *says;
    } bad[] = {
        { "llama", "{\"model_type\": \"zamba\"}", "architecture \"zamba\" is not supported" },
        { "llama", "{\"architectures\": [\"LlamaForSequenceClassification\"]}",
          "architecture LlamaForSequenceClassification of model_type llama is not supported" },
        { "llama", "{\"attention_chunk_size\": 8192}",
          "key \"attention_chunk_size\" is not known for llama; it may change the mathematics" },
        { "llama", "{\"hidden_act\": \"relu\"}", "hidden_act \"relu\" is not supported" },
        { "gpt2", "{\"scale_attn_by_inverse_layer_idx\": true}",
          "\"scale_attn_by_inverse_layer_idx\" is only supported as false" },
        { "gemma2", "{\"use_bidirectional_attention\": true}",
          "\"use_bidirectional_attention\" is only supported as false" },
        { "mixtral", "{\"output_router_logits\": true}",
          "\"output_router_logits\" is only supported as false" },
        { "mixtral", "{\"num_experts_per_tok\": 99}", "experts used is 99" },
        { "mixtral", "{\"num_experts_per_tok\": 0}", "0 of 4 experts cannot be used" },
        { "llama", "{\"rope_parameters\": {\"rope_type\": \"fancy\"}}",
          "rope scaling \"fancy\" is not supported" },
        { "llama", "{\"rope_parameters\": {\"rope_type\": \"linear\"}}", "factor" },
        { "llama", "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 0}}",
          "factor is 0, wanted a positive number" },
        { "llama", "{\"rope_parameters\": {\"rope_type\": \"default\", \"new\": 1}}",
          "rope_parameters: new is not understood" },
        { "llama", "{\"partial_rotary_factor\": 0.5}",
          "\"partial_rotary_factor\" is only supported as 1.0" },
        { "llama",
          "{\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}}",
          "partial_rotary_factor is only supported as 1 for llama" },
        { "phi3", "{\"partial_rotary_factor\": 0.2, \"rope_parameters\": null}",
          "partial_rotary_factor 0.2 turns" },
        { "phi3-longrope",
          "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"rope_theta\": 10000,"
          " \"partial_rotary_factor\": 0.75, \"short_factor\": [1], \"long_factor\": [1, 2]}}",
          "short_factor is not a list of" },
        { "gemma3", "{\"layer_types\": [\"full_attention\"]}", "layer_types is not a list of" },
        { "gemma3", "{\"sliding_window\": null}",
          "sliding_attention, but there is no sliding_window" },
        { "gemma3", "{\"sliding_window_pattern\": 0, \"layer_types\": \"-\"}",
          "sliding_window_pattern is 0" },
        { "smollm3", "{\"no_rope_layers\": [1, 0]}", "no_rope_layers is not a list of" },
        { "smollm3", "{\"no_rope_layer_interval\": 0}", "no_rope_layer_interval is 0" },
        { "qwen3-moe", "{\"decoder_sparse_step\": 0}", "decoder_sparse_step is 0" },
        { "qwen3-moe", "{\"mlp_only_layers\": [\"one\"]}", "mlp_only_layers[0] is not a layer" },
        { "llama", "{\"vocab_size\": 9223372036854775807}", "vocabulary is 9007199254740992" },
        { "llama", "{\"num_hidden_layers\": 100000}", "layers is 100000, wanted 1 to 512" },
        { "llama", "{\"num_key_value_heads\": 3}", "attention heads cannot share 3 key heads" },
        { "llama", "{\"head_dim\": 7}", "a head of 7 values cannot be rotated in pairs" },
        { "qwen2", "{\"num_key_value_heads\": \"-\"}", "num_key_value_heads" },
        /* a config that contradicts its tensors: the tensor and both shapes */
        { "llama", "{\"intermediate_size\": 24}", "mlp.gate_proj.weight is " },
        { "llama", "{\"intermediate_size\": 24}", ", the hyper-parameters say 24 x 32" },
        { "llama", "{\"vocab_size\": 65}", "model.embed_tokens.weight is 64 x 32" },
        { "llama", "{\"num_hidden_layers\": 9}", "model.layers.2." },
        { "llama", "{\"num_hidden_layers\": 1}",
          "model.layers.1.input_layernorm.weight is not part of" },
        { "gpt-oss-mxfp4", "{\"intermediate_size\": 16}", "_blocks is 4 x 64 x 1 x 16" },
        { "gpt-oss", "{\"intermediate_size\": 16}", "gate_up_proj is 4 x 32 x 64" },
        { "mixtral", "{\"num_local_experts\": 5}", "gate.weight is 4 x 32" },
    };
    fj_dev *d = device();
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        fj_err e = { 0 };
        const char *dir = changed(bad[i].name, bad[i].changes);
        fj_model *m = fj_model_open(d, dir, NULL, NULL, &e);
        if (m) fail_msg("%s with %s was opened", bad[i].name, bad[i].changes);
        if (!strstr(e.msg, bad[i].says))
            fail_msg("%s with %s says \"%s\", not \"...%s...\"", bad[i].name, bad[i].changes, e.msg,
                     bad[i].says);
        assert_non_null(strstr(e.msg, dir));
    }
    fj_dev_close(d);
}

/* What says nothing, or the usual thing, is no reason. */
static void test_accepted(void **state) {
    (void)state;
    static const struct {
        const char *name, *changes;
    } good[] = {
        { "llama", "{\"partial_rotary_factor\": 1}" },
        { "llama", "{\"use_cache\": false, \"_anything\": 7}" },
        { "llama", "{\"hidden_act\": \"swish\", \"pretraining_tp\": 1}" },
        { "gemma2", "{\"use_bidirectional_attention\": null}" },
        { "mixtral", "{\"router_jitter_noise\": 0}" },
        { "gpt2", "{\"n_ctx\": 512, \"scale_attn_weights\": true}" },
        { "gemma3", "{\"final_logit_softcapping\": null}" },
        { "qwen3-moe", "{\"mlp_only_layers\": null}" },
    };
    fj_dev *d = device();
    for (size_t i = 0; i < FJ_LEN(good); i++) {
        fj_err e = { 0 };
        fj_model *m = fj_model_open(d, changed(good[i].name, good[i].changes), NULL, NULL, &e);
        if (!m) fail_msg("%s with %s: %s", good[i].name, good[i].changes, e.msg);
        fj_model_close(m);
    }
    fj_dev_close(d);
}

/* A folder with vocab.json and merges.txt, as GPT-2's once were, and what is saved of it. */
static void test_older_tokenizer(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = device();
    const char *dir = changed("llama", "{}"), *saved = fj_test_path("saved");
    assert_int_equal(unlink(fj_test_path("model/tokenizer.json")), 0);
    json_t *vocab = json_object();
    for (int i = 0; i < 62; i++) {
        char c[2] = { (char)('A' + i), 0 };
        json_object_set_new(vocab, c, json_integer(i));
    }
    json_object_set_new(vocab, "ab", json_integer(62));
    json_object_set_new(vocab, "abc", json_integer(63));
    FJ_OK_OR_FAIL(fj_json_save(fj_test_path("model/vocab.json"), vocab, &e), e);
    json_decref(vocab);
    static const char merges[] = "#version: 0.2\na b\nab c\n",
                      config[] = "{\"tokenizer_class\": \"GPT2Tokenizer\"}";
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path("model/merges.txt"), merges, strlen(merges), &e), e);
    FJ_OK_OR_FAIL(
        fj_write_file(fj_test_path("model/tokenizer_config.json"), config, strlen(config), &e), e);
    char hash[2][65];
    for (int i = 0; i < 2; i++) {
        fj_model *m = fj_model_open(d, i ? saved : dir, NULL, NULL, &e);
        if (!m) fail_msg("%s", e.msg);
        fj_ids ids = { 0 };
        FJ_OK_OR_FAIL(fj_tokenize(fj_model_tokenizer(m), "abcab", 5, 0, &ids, &e), e);
        assert_int_equal(ids.n, 2);
        assert_int_equal(ids.p[0], 63);
        assert_int_equal(ids.p[1], 62);
        fj_ids_free(&ids);
        FJ_OK_OR_FAIL(fj_model_hash(m, hash[i], &e), e);
        if (!i) FJ_OK_OR_FAIL(fj_model_save_hf(m, saved, "F32", &e), e);
        fj_model_close(m);
    }
    assert_string_not_equal(hash[0], hash[1]);
    fj_dev_close(d);
}

/* ---- GGUF ---------------------------------------------------------------------------------------- */
/* A copy of a GGUF file with one more key, or another value of it. */
static void copy_with(const char *from, const char *to, const fj_gguf_kv *kv) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(from, &e);
    if (!g) fail_msg("%s", e.msg);
    fj_gguf_writer *w = fj_gguf_writer_open(to, &e);
    for (size_t i = 0; i < g->n_kv; i++)
        if (strcmp(g->kv[i].key, kv->key)) fj_gguf_put(w, &g->kv[i]);
    fj_gguf_put(w, kv);
    for (size_t i = 0; i < g->n_tensors; i++)
        fj_gguf_add_tensor(w, g->tensors[i].name, g->tensors[i].dtype, g->tensors[i].n_dims,
                           g->tensors[i].dim);
    for (size_t i = 0; i < g->n_tensors; i++)
        fj_gguf_write_data(w, g->tensors[i].data, (size_t)g->tensors[i].bytes);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
    fj_gguf_close(g);
}

static void test_window_pattern(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = device();
    fj_model *m = fj_model_open(d, fj_test_source("tests/golden/archs/gemma3"), NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    int64_t layers = m->hp.layers;
    const char *plain = fj_test_path("plain.gguf"), *other = fj_test_path("other.gguf");
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, plain, "F32", &e), e);
    fj_model_close(m);
    uint8_t local[64] = { 0 };
    local[layers - 1] = 1;
    fj_gguf_kv kv = { .key = "gemma3.attention.sliding_window_pattern",
                      .type = FJ_GGUF_BOOL,
                      .array = true,
                      .n = (size_t)layers,
                      .data = local };
    copy_with(plain, other, &kv);
    m = fj_model_open(d, other, NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    for (int64_t l = 0; l < layers; l++)
        assert_int_equal(m->hp.layer[l] & FJ_LAYER_LOCAL, l == layers - 1 ? FJ_LAYER_LOCAL : 0);
    fj_model_close(m);

    kv.n--;
    copy_with(plain, other, &kv);
    FJ_FAILS_WITH(fj_model_open(d, other, NULL, NULL, &e), e, "is not an array of");
    uint32_t every = 2; /* the other spelling: every n-th layer sees all */
    kv = (fj_gguf_kv){ .key = kv.key, .type = FJ_GGUF_U32, .n = 1, .data = &every };
    copy_with(plain, other, &kv);
    m = fj_model_open(d, other, NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    for (int64_t l = 0; l < layers; l++)
        assert_int_equal(m->hp.layer[l] & FJ_LAYER_LOCAL, l % 2 ? 0 : FJ_LAYER_LOCAL);
    fj_model_close(m);
    const char *type = "hopeful";
    kv = (fj_gguf_kv){ .key = "gemma3.rope.scaling.type",
                       .type = FJ_GGUF_STR,
                       .n = 1,
                       .str = &(fj_gguf_str){ type, strlen(type) } };
    copy_with(plain, other, &kv);
    FJ_FAILS_WITH(fj_model_open(d, other, NULL, NULL, &e), e, "rope scaling \"hopeful\"");
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_window_pattern),
        cmocka_unit_test(test_older_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
