/* olmo2.c - OLMo 2 (OLMo team 2025): no norms before attention and network, but behind them; norms on whole
 * rows of queries and keys. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_COMMON(false, false, 1e-5, 10000),
    FJ_HP_FFN,
    FJ_HP_TIED(0),
    FJ_HP_ATTN_BIAS(0),
};

static const fj_weight_row weights[FJ_W_ROLES] = {
    FJ_ROWS_ENDS(0),
    FJ_ROWS_QKVO(0),
    FJ_ROWS_QKV_BIAS(0, FJ_IF_ATTN_BIAS),
    FJ_ROW_O_BIAS,
    FJ_ROWS_QK_NORM(FJ_Q, FJ_KV, 0),
    FJ_ROWS_POST_NORMS("post_attention_layernorm.weight", 0),
    FJ_ROWS_GATED(FJ_ALWAYS),
};

static bool finish(fj_hparams *h, fj_err *e) { return fj_finish_heads(h, e); }

static fj_tensor *build(fj_fwd *f) {
    fj_tensor *x = fj_embedding(f);
    for (int l = 0; l < (int)f->m->hp.layers; l++) {
        fj_segment(f->g, l);
        x = fj_add(f->g, x, fj_norm(f, fj_self_attention(f, x, l, NULL), FJ_W_ATTN_POST, l));
        x = fj_add(f->g, x, fj_norm(f, fj_feed_forward(f, x, l, NULL), FJ_W_FFN_POST, l));
    }
    fj_segment(f->g, -1);
    return fj_norm(f, x, FJ_W_OUT_NORM, -1);
}

FJ_ARCH(olmo2, .name = "olmo2", .hf_class = "Olmo2ForCausalLM", .hf_type = "olmo2",
        .families = "OLMo 2 1B to 32B", .build = build, FJ_ARCH_SILU);
