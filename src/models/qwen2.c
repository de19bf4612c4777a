/* qwen2.c - Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on queries, keys and values, and a
 * sliding window in the upper layers where a model asks for it. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, false, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_QWEN_WINDOW,
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),          FJ_ROWS_PRE_NORMS, FJ_ROWS_QKVO(0), FJ_ROWS_QKV_BIAS(0, FJ_ALWAYS),
    FJ_ROWS_GATED(FJ_ALWAYS),
};

void fj_finish_qwen_window(fj_hparams *h) {
    if (!h->use_window) h->window = 0;
    for (int64_t l = FJ_MAX(h->full_layers, 0); h->window && l < h->layers; l++)
        h->layer[l] |= FJ_LAYER_LOCAL;
}

static bool finish(fj_hparams *h, fj_err *e) {
    fj_finish_qwen_window(h);
    return fj_finish_heads(h, e);
}

static const char *const fixed[] = { "use_mrope=false", NULL };

FJ_ARCH(qwen2, .name = "qwen2", .hf_class = "Qwen2ForCausalLM", .hf_type = "qwen2",
        .families = "Qwen2, Qwen2.5, Qwen2.5-Coder", .fixed = fixed, FJ_ARCH_SILU,
        .build = fj_build_pre_norm);
