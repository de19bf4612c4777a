/* rows.h - the rows of the two tables that most architectures have under the same names.
 *
 * Source of names: transformers/models, llama.cpp/gguf-py/gguf/constants.py. */
#ifndef FJ_MODELS_ROWS_H
#define FJ_MODELS_ROWS_H

#include "models/model.h"

#include <math.h>

#define FJ_HP(kind, field, gguf_key, hf_key, must, ...)                                            \
    {                                                                                              \
        .type = FJ_HP_##kind, .offset = offsetof(fj_hparams, field), .gguf = gguf_key,             \
        .hf = hf_key, .required = must, .def = __VA_ARGS__                                         \
    }

/* Sizes, norms and positions of every model but GPT-2.  said: the family does not derive the number of
 * key heads and the size of a head when config.json leaves them out; eps, theta: what it takes then. */
#define FJ_HP_COMMON(kv_said, hd_said, eps_def, theta)                                             \
    FJ_HP(INT, layers, "%s.block_count", "num_hidden_layers", true, 0),                            \
        FJ_HP(INT, width, "%s.embedding_length", "hidden_size", true, 0),                          \
        FJ_HP(INT, heads, "%s.attention.head_count", "num_attention_heads", true, 0),              \
        FJ_HP(INT, kv_heads, "%s.attention.head_count_kv", "num_key_value_heads", kv_said, 0),     \
        FJ_HP(INT, head_dim, "%s.attention.key_length", "head_dim", hd_said, 0),                   \
        FJ_HP(INT, context, "%s.context_length", "max_position_embeddings", true, 0),              \
        FJ_HP(INT, vocab, "%s.vocab_size", "vocab_size", false, 0),                                \
        FJ_HP(FLOAT, eps, "%s.attention.layer_norm_rms_epsilon", "rms_norm_eps", false, eps_def),  \
        FJ_HP(FLOAT, rope.base, "%s.rope.freq_base", "rope_theta", false, theta)
#define FJ_HP_FFN FJ_HP(INT, ffn, "%s.feed_forward_length", "intermediate_size", true, 0)
#define FJ_HP_TIED(def) FJ_HP(BOOL, tied, NULL, "tie_word_embeddings", false, def)
#define FJ_HP_ATTN_BIAS(def) FJ_HP(BOOL, attn_bias, NULL, "attention_bias", false, def)
#define FJ_HP_MLP_BIAS FJ_HP(BOOL, mlp_bias, NULL, "mlp_bias", false, 0)
#define FJ_HP_WINDOW(def)                                                                          \
    FJ_HP(INT, window, "%s.attention.sliding_window", "sliding_window", false, def, -1)
/* A window counts when it is used, above the first full_layers layers. */
#define FJ_HP_QWEN_WINDOW                                                                          \
    FJ_HP_WINDOW(4096), FJ_HP(BOOL, use_window, NULL, "use_sliding_window", false, 0, 1),          \
        FJ_HP(INT, full_layers, NULL, "max_window_layers", false, 28)
#define FJ_HP_GEMMA(theta)                                                                         \
    FJ_HP_COMMON(true, true, 1e-6, theta), FJ_HP_FFN, FJ_HP_TIED(1), FJ_HP_WINDOW(4096),           \
        FJ_HP(INT, query_scalar, NULL, "query_pre_attn_scalar", false, 256, -1),                   \
        FJ_HP(FLOAT, attn_scale, "%s.attention.scale", NULL, false, 0)

#define FJ_L(n) "model.layers.%d." n
#define FJ_B(n) "blk.%d." n

#define FJ_ROWS_ENDS(norm)                                                                         \
    [FJ_W_EMBED] = { "token_embd.weight", "model.embed_tokens.weight", FJ_VOCAB, FJ_WIDTH,         \
                     .is = 0 },                                                                    \
    [FJ_W_OUT_NORM] = { "output_norm.weight", "model.norm.weight", FJ_ONE, FJ_WIDTH,               \
                        .is = (norm) },                                                            \
    [FJ_W_HEAD] = { "output.weight", "lm_head.weight", FJ_VOCAB,                                   \
                    FJ_WIDTH,        FJ_IF_UNTIED,     FJ_IS_LINEAR }

#define FJ_ROWS_PRE_NORMS                                                                          \
    [FJ_W_ATTN_NORM] = { FJ_B("attn_norm.weight"), FJ_L("input_layernorm.weight"), FJ_ONE,         \
                         FJ_WIDTH },                                                               \
    [FJ_W_FFN_NORM] = { FJ_B("ffn_norm.weight"), FJ_L("post_attention_layernorm.weight"), FJ_ONE,  \
                        FJ_WIDTH }

/* pairs: FJ_IS_PAIRS where the GGUF of the family has rotary pairs side by side, or 0. */
#define FJ_ROWS_QKVO(pairs)                                                                        \
    [FJ_W_Q] = { FJ_B("attn_q.weight"), FJ_L("self_attn.q_proj.weight"), FJ_Q, FJ_WIDTH,           \
                 .is = FJ_IS_LINEAR | (pairs) },                                                   \
    [FJ_W_K] = { FJ_B("attn_k.weight"), FJ_L("self_attn.k_proj.weight"), FJ_KV, FJ_WIDTH,          \
                 .is = FJ_IS_LINEAR | (pairs) },                                                   \
    [FJ_W_V] = { FJ_B("attn_v.weight"), FJ_L("self_attn.v_proj.weight"), FJ_KV, FJ_WIDTH,          \
                 .is = FJ_IS_LINEAR },                                                             \
    [FJ_W_O] = { FJ_B("attn_output.weight"), FJ_L("self_attn.o_proj.weight"), FJ_WIDTH, FJ_Q,      \
                 .is = FJ_IS_LINEAR }

#define FJ_ROWS_QKV_BIAS(pairs, if_there)                                                               \
    [FJ_W_Q_B] = { FJ_B("attn_q.bias"), FJ_L("self_attn.q_proj.bias"), FJ_ONE, FJ_Q, if_there, pairs }, \
    [FJ_W_K_B] = { FJ_B("attn_k.bias"),                                                                 \
                   FJ_L("self_attn.k_proj.bias"),                                                       \
                   FJ_ONE,                                                                              \
                   FJ_KV,                                                                               \
                   if_there,                                                                            \
                   pairs },                                                                             \
    [FJ_W_V_B] = { FJ_B("attn_v.bias"), FJ_L("self_attn.v_proj.bias"), FJ_ONE, FJ_KV, if_there }
#define FJ_ROW_O_BIAS                                                                              \
    [FJ_W_O_B] = { FJ_B("attn_output.bias"), FJ_L("self_attn.o_proj.bias"), FJ_ONE, FJ_WIDTH,      \
                   FJ_IF_ATTN_BIAS }

/* Norms of queries and keys over `size`: each head, or the whole row. */
#define FJ_ROWS_QK_NORM(q_size, k_size, norm)                                                      \
    [FJ_W_Q_NORM] = { FJ_B("attn_q_norm.weight"), FJ_L("self_attn.q_norm.weight"), FJ_ONE, q_size, \
                      .is = (norm) },                                                              \
    [FJ_W_K_NORM] = { FJ_B("attn_k_norm.weight"), FJ_L("self_attn.k_norm.weight"), FJ_ONE, k_size, \
                      .is = (norm) }

#define FJ_ROWS_POST_NORMS(attention, norm)                                                        \
    [FJ_W_ATTN_POST] = { FJ_B("post_attention_norm.weight"), FJ_L(attention), FJ_ONE, FJ_WIDTH,    \
                         .is = (norm) },                                                           \
    [FJ_W_FFN_POST] = { FJ_B("post_ffw_norm.weight"), FJ_L("post_feedforward_layernorm.weight"),   \
                        FJ_ONE, FJ_WIDTH, .is = (norm) }

#define FJ_ROWS_GATED(if_there)                                                                    \
    [FJ_W_GATE] = { FJ_B("ffn_gate.weight"),                                                       \
                    FJ_L("mlp.gate_proj.weight"),                                                  \
                    FJ_FFN,                                                                        \
                    FJ_WIDTH,                                                                      \
                    if_there,                                                                      \
                    FJ_IS_LINEAR },                                                                \
    [FJ_W_UP] = { FJ_B("ffn_up.weight"), FJ_L("mlp.up_proj.weight"), FJ_FFN, FJ_WIDTH, if_there,   \
                  FJ_IS_LINEAR },                                                                  \
    [FJ_W_DOWN] = { FJ_B("ffn_down.weight"),                                                       \
                    FJ_L("mlp.down_proj.weight"),                                                  \
                    FJ_WIDTH,                                                                      \
                    FJ_FFN,                                                                        \
                    if_there,                                                                      \
                    FJ_IS_LINEAR }

#define FJ_ROWS_GATED_BIAS                                                                         \
    [FJ_W_GATE_B] = { FJ_B("ffn_gate.bias"), FJ_L("mlp.gate_proj.bias"), FJ_ONE, FJ_FFN,           \
                      FJ_IF_MLP_BIAS },                                                            \
    [FJ_W_UP_B] = { FJ_B("ffn_up.bias"), FJ_L("mlp.up_proj.bias"), FJ_ONE, FJ_FFN,                 \
                    FJ_IF_MLP_BIAS },                                                              \
    [FJ_W_DOWN_B] = { FJ_B("ffn_down.bias"), FJ_L("mlp.down_proj.bias"), FJ_ONE, FJ_WIDTH,         \
                      FJ_IF_MLP_BIAS }

/* All of Llama, with biases where a config asks for them. */
#define FJ_ROWS_LLAMA                                                                              \
    FJ_ROWS_ENDS(0), FJ_ROWS_PRE_NORMS, FJ_ROWS_QKVO(FJ_IS_PAIRS),                                 \
        FJ_ROWS_QKV_BIAS(FJ_IS_PAIRS, FJ_IF_ATTN_BIAS), FJ_ROW_O_BIAS, FJ_ROWS_GATED(FJ_ALWAYS),   \
        FJ_ROWS_GATED_BIAS
/* All of Qwen3 but the feed-forward network. */
#define FJ_ROWS_QWEN3                                                                              \
    FJ_ROWS_ENDS(0), FJ_ROWS_PRE_NORMS, FJ_ROWS_QKVO(0), FJ_ROWS_QKV_BIAS(0, FJ_IF_ATTN_BIAS),     \
        FJ_ROW_O_BIAS, FJ_ROWS_QK_NORM(FJ_HEAD_DIM, FJ_HEAD_DIM, 0)

/* Experts as transformers holds them since version 5 (one tensor of all), named in files one by one. */
#define FJ_ROWS_EXPERTS(router, gate, up, down)                                                    \
    [FJ_W_ROUTER] = { FJ_B("ffn_gate_inp.weight"),                                                 \
                      FJ_L(router),                                                                \
                      FJ_EXPERTS,                                                                  \
                      FJ_WIDTH,                                                                    \
                      FJ_IF_EXPERTS,                                                               \
                      FJ_IS_LINEAR | FJ_IS_PARAM,                                                  \
                      .module = FJ_L("mlp.gate.weight") },                                         \
    [FJ_W_X_GATE_UP] = { FJ_B("ffn_gate_exps.weight"),                                             \
                         FJ_L(gate),                                                               \
                         FJ_XFFN2,                                                                 \
                         FJ_WIDTH,                                                                 \
                         FJ_IF_EXPERTS,                                                            \
                         FJ_IS_LINEAR | FJ_IS_EXPERTS,                                             \
                         FJ_B("ffn_up_exps.weight"),                                               \
                         FJ_L(up),                                                                 \
                         FJ_L("mlp.experts.gate_up_proj") },                                       \
    [FJ_W_X_DOWN] = { FJ_B("ffn_down_exps.weight"),                                                \
                      FJ_L(down),                                                                  \
                      FJ_WIDTH,                                                                    \
                      FJ_XFFN,                                                                     \
                      FJ_IF_EXPERTS,                                                               \
                      FJ_IS_LINEAR | FJ_IS_EXPERTS,                                                \
                      .module = FJ_L("mlp.experts.down_proj") }
#define FJ_HP_EXPERTS                                                                              \
    FJ_HP(INT, experts, "%s.expert_count", "num_local_experts|num_experts", true, 0),              \
        FJ_HP(INT, experts_used, "%s.expert_used_count", "num_experts_per_tok", true, 0)

#define FJ_ROWS_GEMMA                                                                              \
    FJ_ROWS_ENDS(FJ_IS_PLUS_ONE), FJ_ROWS_QKVO(0), FJ_ROWS_GATED(FJ_ALWAYS),                       \
        FJ_ROWS_POST_NORMS("post_attention_layernorm.weight", FJ_IS_PLUS_ONE),                     \
        [FJ_W_ATTN_NORM] = { FJ_B("attn_norm.weight"), FJ_L("input_layernorm.weight"), FJ_ONE,     \
                             FJ_WIDTH, .is = FJ_IS_PLUS_ONE },                                     \
        [FJ_W_FFN_NORM] = { FJ_B("ffn_norm.weight"), FJ_L("pre_feedforward_layernorm.weight"),     \
                            FJ_ONE, FJ_WIDTH, .is = FJ_IS_PLUS_ONE }
extern const char *const fj_gemma_ignored[], *const fj_gemma_fixed[];
bool fj_finish_gemma(fj_hparams *h, int64_t big, fj_err *e);
/* Qwen: h->window counts in the layers from full_layers on, and only with use_window. */
void fj_finish_qwen_window(fj_hparams *h);
#define FJ_ARCH_GEMMA                                                                              \
    .act_key = "hidden_activation", .acts = "gelu_pytorch_tanh", .act = FJ_ACT_GELU,               \
    .ignored = fj_gemma_ignored, .fixed = fj_gemma_fixed, .build = fj_build_pre_post_norm

#define FJ_ARCH_SILU .act_key = "hidden_act", .acts = "silu|swish"

/* The name is of the file: src/models/NAME.c, fj_arch_NAME. */
#define FJ_ARCH(id, ...)                                                                           \
    const fj_arch fj_arch_##id = {                                                                 \
        .hp = hp, .n_hp = (int)FJ_LEN(hp), .weights = weights, .finish = finish, __VA_ARGS__       \
    }

#endif
