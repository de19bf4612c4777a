/* qwen3_moe.c - Qwen3-MoE (Yang et al. 2025): Qwen3 with experts in every layer, or in every n-th. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, false, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP(INT, expert_ffn, "%s.expert_feed_forward_length", "moe_intermediate_size", true, 0),
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(0),
    FJ_HP_WINDOW(4096),
    FJ_HP(BOOL, use_window, NULL, "use_sliding_window", false, 0, 1),
    FJ_HP_EXPERTS,
    FJ_HP(BOOL, norm_topk, NULL, "norm_topk_prob", false, 0, 1),
    FJ_HP(INT, sparse_step, NULL, "decoder_sparse_step", false, 1),
};

#define X(n) "mlp.experts.%e." n
static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_QWEN3,
    FJ_ROWS_GATED(FJ_IF_DENSE),
    FJ_ROWS_EXPERTS("mlp.gate.weight", X("gate_proj.weight"), X("up_proj.weight"),
                    X("down_proj.weight")),
};

static bool finish(fj_hparams *h, fj_err *e) {
    if (!h->use_window) h->window = 0;
    if (h->window) fj_layers_every(h, 1, false, FJ_LAYER_LOCAL);
    if (h->sparse_step < 1)
        return fj_fail(e, FJ_EFORMAT, "decoder_sparse_step is %lld, wanted at least 1",
                       (long long)h->sparse_step);
    fj_layers_every(h, h->sparse_step, true, FJ_LAYER_DENSE);
    return fj_finish_heads(h, e);
}

static const char *const ignored[] = { "router_aux_loss_coef", "max_window_layers", NULL };
static const char *const fixed[] = { "output_router_logits=false", NULL };

FJ_ARCH(qwen3_moe, .name = "qwen3moe", .hf_class = "Qwen3MoeForCausalLM", .hf_type = "qwen3_moe",
        .families = "Qwen3-30B-A3B, 235B-A22B, Qwen3-Coder", .ignored = ignored, .fixed = fixed,
        FJ_ARCH_SILU, .build = fj_build_pre_norm);
