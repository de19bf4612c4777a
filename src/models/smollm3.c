/* smollm3.c - SmolLM3 (Hugging Face 2025): Llama in which every fourth layer has no rotary positions. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(true, false, 1e-6, 2e6),
    FJ_HP_FFN,
    FJ_HP_TIED(1),
    FJ_HP_ATTN_BIAS(0),
    FJ_HP_MLP_BIAS,
    FJ_HP_WINDOW(0),
    FJ_HP(BOOL, use_window, NULL, "use_sliding_window", false, 0, 1),
    FJ_HP(INT, rope_every, NULL, "no_rope_layer_interval", false, 4),
};

static const fj_weight_row weights[FJ_W_ROLES] = { FJ_ROWS_LLAMA };

static bool finish(fj_hparams *h, fj_err *e) {
    if (h->rope_every < 1)
        return fj_fail(e, FJ_EFORMAT, "no_rope_layer_interval is %lld, wanted at least 1",
                       (long long)h->rope_every);
    fj_layers_every(h, h->rope_every, false, FJ_LAYER_NO_ROPE);
    if (!h->use_window) h->window = 0;
    if (h->window) fj_layers_every(h, h->rope_every, false, FJ_LAYER_LOCAL);
    return fj_finish_heads(h, e);
}

static const char *const ignored[] = { "max_window_layers", NULL };

FJ_ARCH(smollm3, .name = "smollm3", .hf_class = "SmolLM3ForCausalLM", .hf_type = "smollm3",
        .families = "SmolLM3 3B", .ignored = ignored, FJ_ARCH_SILU, .build = fj_build_pre_norm);
