/* granite.c - Granite 3 (IBM 2024): Llama with four multipliers: of embeddings, of what attention and
 * network add, of scores, and a divisor of logits. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(false, false, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(0),
    FJ_HP_MLP_BIAS,
    FJ_HP(FLOAT, embed_scale, "%s.embedding_scale", "embedding_multiplier", false, 1),
    FJ_HP(FLOAT, residual_scale, "%s.residual_scale", "residual_multiplier", false, 1),
    FJ_HP(FLOAT, attn_scale, "%s.attention.scale", "attention_multiplier", false, 1),
    FJ_HP(FLOAT, logit_div, "%s.logit_scale", "logits_scaling", false, 1),
};

static const fj_weight_row weights[FJ_W_ROLES] = { FJ_ROWS_LLAMA };

static bool finish(fj_hparams *h, fj_err *e) { return fj_finish_heads(h, e); }

FJ_ARCH(granite, .name = "granite", .hf_class = "GraniteForCausalLM", .hf_type = "granite",
        .families = "Granite 3.0 to 3.3", FJ_ARCH_SILU, .build = fj_build_pre_norm);
