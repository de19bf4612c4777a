/* mistral.c - Mistral 7B (Jiang et al. 2023), Nemo, Small: Llama with a sliding window in every layer, or
 * without one.  GGUF calls it llama; the window is what tells them apart there. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, false, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_WINDOW(4096),
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),
    FJ_ROWS_PRE_NORMS,
    FJ_ROWS_QKVO(FJ_IS_PAIRS),
    FJ_ROWS_GATED(FJ_ALWAYS),
};

static bool finish(fj_hparams *h, fj_err *e) {
    if (h->window) fj_layers_every(h, 1, false, FJ_LAYER_LOCAL);
    return fj_finish_heads(h, e);
}

FJ_ARCH(mistral, .name = "llama", .hf_class = "MistralForCausalLM", .hf_type = "mistral",
        .families = "Mistral 7B, Nemo, Small", .gguf_sign = "llama.attention.sliding_window",
        FJ_ARCH_SILU, .build = fj_build_pre_norm);
