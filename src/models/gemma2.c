/* gemma2.c - Gemma 2 (Gemma team 2024): norms before and behind attention and network, every second layer
 * with a window, soft caps on scores and logits, GeGLU, embeddings times sqrt(width). */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP_GEMMA(1e4),
    FJ_HP(FLOAT, attn_softcap, "%s.attn_logit_softcapping", "attn_logit_softcapping", false, 50),
    FJ_HP(FLOAT, logit_softcap, "%s.final_logit_softcapping", "final_logit_softcapping", false, 30),
};

static const fj_weight_row weights[FJ_W_ROLES] = { FJ_ROWS_GEMMA };

/* Layers that attend to both sides are not computed here.  hidden_act is a copy of hidden_activation;
 * Gemma 3 has attn_logit_softcapping in its files, but not in its mathematics. */
const char *const fj_gemma_ignored[] = { "hidden_act", "cache_implementation",
                                         "attn_logit_softcapping", NULL };
const char *const fj_gemma_fixed[] = { "attention_bias=false", "use_bidirectional_attention=false",
                                       NULL };

bool fj_finish_gemma(fj_hparams *h, int64_t big, fj_err *e) {
    if (!fj_finish_heads(h, e)) return false;
    /* GGUF does not say query_pre_attn_scalar; the largest model (of `big` layers) has width / heads. */
    if (h->query_scalar <= 0 && h->attn_scale > 0)
        h->query_scalar = llround(1 / (h->attn_scale * h->attn_scale));
    if (h->query_scalar <= 0)
        h->query_scalar = h->layers == big ? h->width / h->heads : h->head_dim;
    if (h->query_scalar < 1)
        return fj_fail(e, FJ_EFORMAT, "query_pre_attn_scalar is %lld, wanted at least 1",
                       (long long)h->query_scalar);
    h->attn_scale = 1 / sqrt((double)h->query_scalar);
    h->embed_scale = sqrt((double)h->width);
    return true;
}

static bool finish(fj_hparams *h, fj_err *e) {
    if (h->window) fj_layers_every(h, 2, true, FJ_LAYER_LOCAL);
    return fj_finish_gemma(h, 46, e);
}

FJ_ARCH(gemma2, .name = "gemma2", .hf_class = "Gemma2ForCausalLM", .hf_type = "gemma2",
        .families = "Gemma 2 2B, 9B, 27B", FJ_ARCH_GEMMA);
