/* mixtral.c - Mixtral (Jiang et al. 2024): Mistral with experts, of which each token uses the best two.
 * GGUF calls it llama. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, false, 1e-5, 1e6),
    FJ_HP(INT, expert_ffn, "%s.feed_forward_length", "intermediate_size", true, 0),
    FJ_HP_TIED(0),
    FJ_HP_WINDOW(0),
    FJ_HP_EXPERTS,
};

#define X(n) "block_sparse_moe." n
static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),
    FJ_ROWS_PRE_NORMS,
    FJ_ROWS_QKVO(FJ_IS_PAIRS),
    FJ_ROWS_EXPERTS(X("gate.weight"), X("experts.%e.w1.weight"), X("experts.%e.w3.weight"),
                    X("experts.%e.w2.weight")),
};

static bool finish(fj_hparams *h, fj_err *e) {
    h->norm_topk = true;
    if (h->window) fj_layers_every(h, 1, false, FJ_LAYER_LOCAL);
    return fj_finish_heads(h, e);
}

static const char *const ignored[] = { "router_aux_loss_coef", NULL };
static const char *const fixed[] = { "router_jitter_noise=0.0", "output_router_logits=false",
                                     NULL };

FJ_ARCH(mixtral, .name = "llama", .hf_class = "MixtralForCausalLM", .hf_type = "mixtral",
        .families = "Mixtral 8x7B, 8x22B", .gguf_sign = "llama.expert_count", .ignored = ignored,
        .fixed = fixed, FJ_ARCH_SILU, .build = fj_build_pre_norm);
