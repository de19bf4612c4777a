/* llama.c - Llama (Touvron et al. 2023) and its grandchildren of the same mathematics.
 *
 * Pre-norm blocks, grouped-query attention with rotary positions, SwiGLU; tied or untied head; optional
 * biases.  Source of names: transformers/models/llama, llama.cpp/gguf-py/gguf/constants.py. */
#include "models/model.h"

#include <math.h>

enum {
    EMBED,
    ATTN_NORM,
    WQ,
    WK,
    WV,
    WO,
    FFN_NORM,
    GATE,
    UP,
    DOWN,
    OUT_NORM,
    HEAD,
    BQ,
    BK,
    BV,
    BO,
    B_GATE,
    B_UP,
    B_DOWN
};

#define HP(type, field, gguf, hf, required, def)                                                   \
    { type, offsetof(fj_hparams, field), gguf, hf, required, def }
static const fj_hp_row hp[] = {
    HP(FJ_HP_INT, layers, "%s.block_count", "num_hidden_layers", true, 0),
    HP(FJ_HP_INT, width, "%s.embedding_length", "hidden_size", true, 0),
    HP(FJ_HP_INT, heads, "%s.attention.head_count", "num_attention_heads", true, 0),
    HP(FJ_HP_INT, kv_heads, "%s.attention.head_count_kv", "num_key_value_heads", false, 0),
    HP(FJ_HP_INT, head_dim, "%s.attention.key_length", "head_dim", false, 0),
    HP(FJ_HP_INT, ffn, "%s.feed_forward_length", "intermediate_size", true, 0),
    HP(FJ_HP_INT, context, "%s.context_length", "max_position_embeddings", true, 0),
    HP(FJ_HP_INT, vocab, "%s.vocab_size", "vocab_size", false, 0),
    HP(FJ_HP_FLOAT, eps, "%s.attention.layer_norm_rms_epsilon", "rms_norm_eps", false, 1e-6),
    HP(FJ_HP_FLOAT, rope.base, "%s.rope.freq_base", "rope_theta", false, 10000),
    HP(FJ_HP_BOOL, tied, NULL, "tie_word_embeddings", false, 0),
    HP(FJ_HP_BOOL, attn_bias, NULL, "attention_bias", false, 0),
    HP(FJ_HP_BOOL, mlp_bias, NULL, "mlp_bias", false, 0),
};

#define L(n) "model.layers.%d." n
static const fj_weight_row weights[] = {
    [EMBED] = { "token_embd.weight", "model.embed_tokens.weight", FJ_VOCAB, FJ_WIDTH, FJ_ALWAYS, 0,
                0 },
    [ATTN_NORM] = { "blk.%d.attn_norm.weight", L("input_layernorm.weight"), FJ_ONE, FJ_WIDTH,
                    FJ_ALWAYS, 0, 0 },
    [WQ] = { "blk.%d.attn_q.weight", L("self_attn.q_proj.weight"), FJ_Q, FJ_WIDTH, FJ_ALWAYS, true,
             true },
    [WK] = { "blk.%d.attn_k.weight", L("self_attn.k_proj.weight"), FJ_KV, FJ_WIDTH, FJ_ALWAYS, true,
             true },
    [WV] = { "blk.%d.attn_v.weight", L("self_attn.v_proj.weight"), FJ_KV, FJ_WIDTH, FJ_ALWAYS, true,
             false },
    [WO] = { "blk.%d.attn_output.weight", L("self_attn.o_proj.weight"), FJ_WIDTH, FJ_Q, FJ_ALWAYS,
             true, false },
    [FFN_NORM] = { "blk.%d.ffn_norm.weight", L("post_attention_layernorm.weight"), FJ_ONE, FJ_WIDTH,
                   FJ_ALWAYS, 0, 0 },
    [GATE] = { "blk.%d.ffn_gate.weight", L("mlp.gate_proj.weight"), FJ_FFN, FJ_WIDTH, FJ_ALWAYS,
               true, false },
    [UP] = { "blk.%d.ffn_up.weight", L("mlp.up_proj.weight"), FJ_FFN, FJ_WIDTH, FJ_ALWAYS, true,
             false },
    [DOWN] = { "blk.%d.ffn_down.weight", L("mlp.down_proj.weight"), FJ_WIDTH, FJ_FFN, FJ_ALWAYS,
               true, false },
    [OUT_NORM] = { "output_norm.weight", "model.norm.weight", FJ_ONE, FJ_WIDTH, FJ_ALWAYS, 0, 0 },
    [HEAD] = { "output.weight", "lm_head.weight", FJ_VOCAB, FJ_WIDTH, FJ_IF_UNTIED, true, false },
    [BQ] = { "blk.%d.attn_q.bias", L("self_attn.q_proj.bias"), FJ_ONE, FJ_Q, FJ_IF_ATTN_BIAS, 0,
             true },
    [BK] = { "blk.%d.attn_k.bias", L("self_attn.k_proj.bias"), FJ_ONE, FJ_KV, FJ_IF_ATTN_BIAS, 0,
             true },
    [BV] = { "blk.%d.attn_v.bias", L("self_attn.v_proj.bias"), FJ_ONE, FJ_KV, FJ_IF_ATTN_BIAS, 0,
             false },
    [BO] = { "blk.%d.attn_output.bias", L("self_attn.o_proj.bias"), FJ_ONE, FJ_WIDTH,
             FJ_IF_ATTN_BIAS, 0, false },
    [B_GATE] = { "blk.%d.ffn_gate.bias", L("mlp.gate_proj.bias"), FJ_ONE, FJ_FFN, FJ_IF_MLP_BIAS, 0,
                 false },
    [B_UP] = { "blk.%d.ffn_up.bias", L("mlp.up_proj.bias"), FJ_ONE, FJ_FFN, FJ_IF_MLP_BIAS, 0,
               false },
    [B_DOWN] = { "blk.%d.ffn_down.bias", L("mlp.down_proj.bias"), FJ_ONE, FJ_WIDTH, FJ_IF_MLP_BIAS,
                 0, false },
};

static bool finish(fj_hparams *h, fj_err *e) {
    if (!h->kv_heads) h->kv_heads = h->heads;
    if (!h->head_dim && h->heads > 0) h->head_dim = h->width / h->heads;
    if (h->kv_heads < 1 || h->heads % h->kv_heads)
        return fj_fail(e, FJ_EFORMAT, "%lld attention heads cannot share %lld key heads",
                       (long long)h->heads, (long long)h->kv_heads);
    if (h->head_dim < 2 || h->head_dim % 2)
        return fj_fail(e, FJ_EFORMAT, "a head of %lld values cannot be rotated in pairs",
                       (long long)h->head_dim);
    return true;
}

static fj_tensor *build(fj_fwd *f) {
    fj_graph *g = f->g;
    const fj_hparams *h = &f->m->hp;
    double scale = 1 / sqrt((double)h->head_dim);
    fj_tensor *x = fj_embed(g, fj_w(f, EMBED, -1), f->ids);
    for (int l = 0; l < (int)h->layers; l++) {
        fj_segment(g, l);
        fj_tensor *n = fj_rmsnorm(g, x, fj_w(f, ATTN_NORM, l), h->eps);
        fj_tensor *q = fj_rope(g, fj_proj(f, n, WQ, BQ, l), f->rope, (int)h->heads);
        fj_tensor *k = fj_rope(g, fj_proj(f, n, WK, BK, l), f->rope, (int)h->kv_heads);
        fj_tensor *v = fj_proj(f, n, WV, BV, l);
        x = fj_add(g, x, fj_proj(f, fj_attend(f, l, q, k, v, scale), WO, BO, l));
        n = fj_rmsnorm(g, x, fj_w(f, FFN_NORM, l), h->eps);
        n = fj_swiglu(g, fj_proj(f, n, GATE, B_GATE, l), fj_proj(f, n, UP, B_UP, l));
        x = fj_add(g, x, fj_proj(f, n, DOWN, B_DOWN, l));
    }
    fj_segment(g, -1);
    return fj_rmsnorm(g, x, fj_w(f, OUT_NORM, -1), h->eps);
}

/* Keys of config.json that say nothing about the mathematics, or only what is checked elsewhere. */
static const char *const ignored[] = {
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "initializer_range",
    "attention_dropout",
    "pretraining_tp",
    "_name_or_path",
    "is_llama_config",
    "rope_interleaved",
    "transformers.js_config",
    "rope_scaling",
    "rope_parameters",
    "hidden_act",
    "unsloth_version",
    "_attn_implementation",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "max_sequence_length",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "problem_type",
    "id2label",
    "label2id",
    "finetuning_task",
    "task_specific_params",
    "unsloth_fixed",
    NULL,
};

const fj_arch fj_arch_llama = {
    .name = "llama",
    .hf_class = "LlamaForCausalLM",
    .hf_type = "llama",
    .hp = hp,
    .n_hp = (int)FJ_LEN(hp),
    .weights = weights,
    .n_weights = (int)FJ_LEN(weights),
    .ignored = ignored,
    .finish = finish,
    .build = build,
    .embed = EMBED,
    .head = HEAD,
};
