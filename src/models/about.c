/* about.c - an architecture in words, from its tables: lists and documentation say what the code does. */
#include "models/source.h"

static bool row(const fj_arch *a, fj_role w) { return a->weights[w].hf != NULL; }

void fj_arch_features(const fj_arch *a, fj_str *s) {
#define HAS(f) fj_arch_has(a, offsetof(fj_hparams, f))
    const struct {
        bool there;
        const char *name;
    } list[] = {
        { row(a, FJ_W_POSITIONS), "learned positions" },
        { row(a, FJ_W_QKV), "fused QKV" },
        { row(a, FJ_W_GATE_UP), "fused gate and up" },
        { row(a, FJ_W_Q_NORM), a->weights[FJ_W_Q_NORM].cols == FJ_HEAD_DIM
                                   ? "QK-norm of each head"
                                   : "QK-norm of whole rows" },
        { row(a, FJ_W_ATTN_POST) && row(a, FJ_W_ATTN_NORM), "norms before and behind" },
        { row(a, FJ_W_ATTN_POST) && !row(a, FJ_W_ATTN_NORM), "norms behind" },
        { row(a, FJ_W_OUT_NORM_B), "layer norms" },
        { row(a, FJ_W_Q_B) || row(a, FJ_W_QKV_B),
          HAS(attn_bias) ? "biases where asked for" : "biases of Q, K, V" },
        { HAS(window), "sliding window" },
        { HAS(rope_local.base), "two rotary bases" },
        { HAS(rope_every), "layers without rotary positions" },
        { HAS(attn_softcap), "soft caps" },
        { HAS(query_scalar), "scaled embeddings" },
        { HAS(residual_scale), "multipliers" },
        { row(a, FJ_W_ROUTER), "experts" },
        { row(a, FJ_W_SINKS), "attention sinks, MXFP4" },
        { a->act == FJ_ACT_SILU, "SwiGLU" },
        { a->act == FJ_ACT_OAI, "clamped SwiGLU" },
        { a->act == FJ_ACT_GELU, row(a, FJ_W_GATE) ? "GeGLU" : "GELU" },
    };
#undef HAS
    for (size_t i = 0; i < FJ_LEN(list); i++)
        if (list[i].there) fj_str_addf(s, "%s%s", s->n ? ", " : "", list[i].name);
}
