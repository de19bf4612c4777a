/* qwen3.c - Qwen3 (Yang et al. 2025): Qwen2 with norms on each head's queries and keys for its biases. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, true, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(0),
    FJ_HP_QWEN_WINDOW,
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_QWEN3,
    FJ_ROWS_GATED(FJ_ALWAYS),
};

static bool finish(fj_hparams *h, fj_err *e) {
    fj_finish_qwen_window(h);
    return fj_finish_heads(h, e);
}

FJ_ARCH(qwen3, .name = "qwen3", .hf_class = "Qwen3ForCausalLM", .hf_type = "qwen3",
        .families = "Qwen3 0.6B to 32B", FJ_ARCH_SILU, .build = fj_build_pre_norm);
