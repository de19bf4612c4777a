/* gpt_oss.c - gpt-oss (OpenAI 2025): experts in every layer with a clamped SwiGLU, a sink in each head's
 * softmax, biases, a window in every second layer, YaRN with unrounded bounds; MXFP4 experts. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, true, 1e-5, 150000),
    FJ_HP(INT, ffn, "%s.feed_forward_length", "intermediate_size", false, 0),
    FJ_HP(INT, expert_ffn, "%s.expert_feed_forward_length", "intermediate_size", true, 0),
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(1),
    FJ_HP_WINDOW(128),
    FJ_HP_EXPERTS,
    FJ_HP(FLOAT, glu_alpha, NULL, "swiglu_alpha", false, 1.702),
    FJ_HP(FLOAT, glu_limit, NULL, "swiglu_limit", false, 7),
};

#define X(n) FJ_L("mlp.experts." n)
static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),
    [FJ_W_ATTN_NORM] = { FJ_B("attn_norm.weight"), FJ_L("input_layernorm.weight"), FJ_ONE,
                         FJ_WIDTH },
    [FJ_W_FFN_NORM] = { FJ_B("post_attention_norm.weight"), FJ_L("post_attention_layernorm.weight"),
                        FJ_ONE, FJ_WIDTH },
    FJ_ROWS_QKVO(0),
    FJ_ROWS_QKV_BIAS(0, FJ_IF_ATTN_BIAS),
    FJ_ROW_O_BIAS,
    [FJ_W_SINKS] = { FJ_B("attn_sinks.weight"), FJ_L("self_attn.sinks"), FJ_ONE, FJ_HEADS },
    [FJ_W_ROUTER] = { FJ_B("ffn_gate_inp.weight"), FJ_L("mlp.router.weight"), FJ_EXPERTS, FJ_WIDTH,
                      .is = FJ_IS_LINEAR | FJ_IS_PARAM },
    [FJ_W_ROUTER_B] = { FJ_B("ffn_gate_inp.bias"), FJ_L("mlp.router.bias"), FJ_ONE, FJ_EXPERTS },
    [FJ_W_X_GATE_UP] = { FJ_B("ffn_gate_exps.weight"), X("gate_up_proj"), FJ_XFFN2, FJ_WIDTH,
                         .is = FJ_IS_LINEAR | FJ_IS_EXPERTS | FJ_IS_TURNED | FJ_IS_ZIPPED,
                         .gguf2 = FJ_B("ffn_up_exps.weight") },
    [FJ_W_X_GATE_UP_B] = { FJ_B("ffn_gate_exps.bias"), X("gate_up_proj_bias"), FJ_XFFN2, FJ_ONE,
                           .is = FJ_IS_EXPERTS | FJ_IS_ZIPPED, .gguf2 = FJ_B("ffn_up_exps.bias") },
    [FJ_W_X_DOWN] = { FJ_B("ffn_down_exps.weight"), X("down_proj"), FJ_WIDTH, FJ_XFFN,
                      .is = FJ_IS_LINEAR | FJ_IS_EXPERTS | FJ_IS_TURNED },
    [FJ_W_X_DOWN_B] = { FJ_B("ffn_down_exps.bias"), X("down_proj_bias"), FJ_WIDTH, FJ_ONE,
                        .is = FJ_IS_EXPERTS },
};

static bool finish(fj_hparams *h, fj_err *e) {
    h->norm_topk = true;      /* the softmax is over the chosen ones */
    h->rope.truncate = false; /* unless the file says otherwise */
    if (h->window) fj_layers_every(h, 2, true, FJ_LAYER_LOCAL);
    return fj_finish_heads(h, e);
}

static const char *const ignored[] = { "router_aux_loss_coef", "initial_context_length",
                                       "experts_per_token", "quantization_config", NULL };
static const char *const fixed[] = { "output_router_logits=false", NULL };

FJ_ARCH(gpt_oss, .name = "gpt-oss", .hf_class = "GptOssForCausalLM", .hf_type = "gpt_oss",
        .families = "gpt-oss 20B, 120B", .ignored = ignored, .fixed = fixed, .act = FJ_ACT_OAI,
        FJ_ARCH_SILU, .build = fj_build_pre_norm);
