/* phi3.c - Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama with one projection for queries, keys and
 * values, one for gate and up; LongRoPE and partial rotation in some. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(false, false, 1e-5, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_WINDOW(0),
    FJ_HP(FLOAT, rope.partial, NULL, "partial_rotary_factor", false, 1),
    FJ_HP(INT, rope.original, "%s.rope.scaling.original_context_length",
          "original_max_position_embeddings", false, 0),
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),
    FJ_ROWS_PRE_NORMS,
    [FJ_W_QKV] = { FJ_B("attn_qkv.weight"), FJ_L("self_attn.qkv_proj.weight"), FJ_QKV, FJ_WIDTH,
                   .is = FJ_IS_LINEAR },
    [FJ_W_O] = { FJ_B("attn_output.weight"), FJ_L("self_attn.o_proj.weight"), FJ_WIDTH, FJ_Q,
                 .is = FJ_IS_LINEAR },
    [FJ_W_GATE_UP] = { FJ_B("ffn_up.weight"), FJ_L("mlp.gate_up_proj.weight"), FJ_FFN2, FJ_WIDTH,
                       .is = FJ_IS_LINEAR },
    [FJ_W_DOWN] = { FJ_B("ffn_down.weight"), FJ_L("mlp.down_proj.weight"), FJ_WIDTH, FJ_FFN,
                    .is = FJ_IS_LINEAR },
};

static bool finish(fj_hparams *h, fj_err *e) {
    if (h->window) fj_layers_every(h, 1, false, FJ_LAYER_LOCAL);
    return fj_finish_heads(h, e);
}

static const char *const ignored[] = { "resid_pdrop", "embd_pdrop", "auto_map", NULL };
static const char *const fixed[] = { "full_attn_mod=1",      "interpolate_factor=1",
                                     "attention_bias=false", "mlp_bias=false",
                                     "lm_head_bias=false",   NULL };

FJ_ARCH(phi3, .name = "phi3", .hf_class = "Phi3ForCausalLM", .hf_type = "phi3",
        .families = "Phi-3, Phi-3.5, Phi-4, Phi-4-mini", .ignored = ignored, .fixed = fixed,
        FJ_ARCH_SILU, .build = fj_build_pre_norm);
