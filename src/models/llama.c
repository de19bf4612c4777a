/* llama.c - Llama 2 and 3 (Touvron et al. 2023) and its grandchildren of the same mathematics.
 *
 * Pre-norm blocks, grouped-query attention with rotary positions, SwiGLU; tied or untied head; optional
 * biases. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(false, false, 1e-6, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(0),
    FJ_HP_MLP_BIAS,
};

static const fj_weight_row weights[FJ_W_ROLES] = { FJ_ROWS_LLAMA };

static bool finish(fj_hparams *h, fj_err *e) { return fj_finish_heads(h, e); }

static const char *const ignored[] = { "is_llama_config", "rope_interleaved", NULL };

FJ_ARCH(llama, .name = "llama", .hf_class = "LlamaForCausalLM", .hf_type = "llama",
        .families = "Llama 2, 3, 3.1, 3.2; SmolLM2; TinyLlama; Yi", .ignored = ignored,
        FJ_ARCH_SILU, .build = fj_build_pre_norm);
