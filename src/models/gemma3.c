/* gemma3.c - Gemma 3, text (Gemma team 2025): Gemma 2 with norms on queries and keys for its soft caps, five
 * local layers for each one that sees all, and a rotary base for either. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_GEMMA(1e6),
    FJ_HP(FLOAT, rope_local.base, "%s.rope.freq_base_swa", "rope_local_base_freq", false, 10000),
    FJ_HP(INT, local_every, NULL, "sliding_window_pattern", false, 6),
    FJ_HP(FLOAT, logit_softcap, "%s.final_logit_softcapping", "final_logit_softcapping", false, 0),
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_GEMMA,
    FJ_ROWS_QK_NORM(FJ_HEAD_DIM, FJ_HEAD_DIM, FJ_IS_PLUS_ONE),
};

static bool finish(fj_hparams *h, fj_err *e) {
    if (h->local_every < 1)
        return fj_fail(e, FJ_EFORMAT, "sliding_window_pattern is %lld, wanted at least 1",
                       (long long)h->local_every);
    if (h->window) fj_layers_every(h, h->local_every, true, FJ_LAYER_LOCAL);
    return fj_finish_gemma(h, 62, e);
}

FJ_ARCH(gemma3, .name = "gemma3", .hf_class = "Gemma3ForCausalLM", .hf_type = "gemma3_text",
        .families = "Gemma 3 270M, 1B (text)", FJ_ARCH_GEMMA);
