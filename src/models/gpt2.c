/* gpt2.c - GPT-2 (Radford et al. 2019): layer norms with biases, learned positions, one projection for
 * queries, keys and values, GELU.  Its safetensors have weights as [in, out]. */
#include "models/rows.h"

static const fj_hp_row hp[] = {
    FJ_HP(INT, layers, "%s.block_count", "n_layer", true, 0),
    FJ_HP(INT, width, "%s.embedding_length", "n_embd", true, 0),
    FJ_HP(INT, heads, "%s.attention.head_count", "n_head", true, 0),
    FJ_HP(INT, context, "%s.context_length", "n_positions", true, 0),
    FJ_HP(INT, ffn, "%s.feed_forward_length", "n_inner", false, 0),
    FJ_HP(INT, vocab, "%s.vocab_size", "vocab_size", false, 0),
    FJ_HP(FLOAT, eps, "%s.attention.layer_norm_epsilon", "layer_norm_epsilon", false, 1e-5),
    FJ_HP_TIED(1),
};

#define H(n) "transformer.h.%d." n
#define MATRIX .is = FJ_IS_LINEAR | FJ_IS_TURNED
static const fj_weight_row weights[FJ_W_ROLES] = {
    [FJ_W_EMBED] = { "token_embd.weight", "transformer.wte.weight", FJ_VOCAB, FJ_WIDTH },
    [FJ_W_POSITIONS] = { "position_embd.weight", "transformer.wpe.weight", FJ_CONTEXT, FJ_WIDTH },
    [FJ_W_ATTN_NORM] = { FJ_B("attn_norm.weight"), H("ln_1.weight"), FJ_ONE, FJ_WIDTH },
    [FJ_W_ATTN_NORM_B] = { FJ_B("attn_norm.bias"), H("ln_1.bias"), FJ_ONE, FJ_WIDTH },
    [FJ_W_QKV] = { FJ_B("attn_qkv.weight"), H("attn.c_attn.weight"), FJ_QKV, FJ_WIDTH, MATRIX },
    [FJ_W_QKV_B] = { FJ_B("attn_qkv.bias"), H("attn.c_attn.bias"), FJ_ONE, FJ_QKV },
    [FJ_W_O] = { FJ_B("attn_output.weight"), H("attn.c_proj.weight"), FJ_WIDTH, FJ_Q, MATRIX },
    [FJ_W_O_B] = { FJ_B("attn_output.bias"), H("attn.c_proj.bias"), FJ_ONE, FJ_WIDTH },
    [FJ_W_FFN_NORM] = { FJ_B("ffn_norm.weight"), H("ln_2.weight"), FJ_ONE, FJ_WIDTH },
    [FJ_W_FFN_NORM_B] = { FJ_B("ffn_norm.bias"), H("ln_2.bias"), FJ_ONE, FJ_WIDTH },
    [FJ_W_UP] = { FJ_B("ffn_up.weight"), H("mlp.c_fc.weight"), FJ_FFN, FJ_WIDTH, MATRIX },
    [FJ_W_UP_B] = { FJ_B("ffn_up.bias"), H("mlp.c_fc.bias"), FJ_ONE, FJ_FFN },
    [FJ_W_DOWN] = { FJ_B("ffn_down.weight"), H("mlp.c_proj.weight"), FJ_WIDTH, FJ_FFN, MATRIX },
    [FJ_W_DOWN_B] = { FJ_B("ffn_down.bias"), H("mlp.c_proj.bias"), FJ_ONE, FJ_WIDTH },
    [FJ_W_OUT_NORM] = { "output_norm.weight", "transformer.ln_f.weight", FJ_ONE, FJ_WIDTH },
    [FJ_W_OUT_NORM_B] = { "output_norm.bias", "transformer.ln_f.bias", FJ_ONE, FJ_WIDTH },
    [FJ_W_HEAD] = { "output.weight", "lm_head.weight", FJ_VOCAB, FJ_WIDTH, FJ_IF_UNTIED,
                    FJ_IS_LINEAR },
};

static bool finish(fj_hparams *h, fj_err *e) {
    h->rope.kind = FJ_ROPE_NONE;
    if (!h->ffn) h->ffn = 4 * h->width;
    return fj_finish_heads(h, e);
}

static fj_tensor *norm(fj_fwd *f, fj_tensor *x, fj_role w, fj_role b, int l) {
    return fj_layernorm(f->g, x, fj_w(f, w, l), fj_w(f, b, l), f->m->hp.eps);
}

static fj_tensor *build(fj_fwd *f) {
    fj_tensor *x =
        fj_add(f->g, fj_embedding(f), fj_embed(f->g, fj_w(f, FJ_W_POSITIONS, -1), f->pos));
    for (int l = 0; l < (int)f->m->hp.layers; l++) {
        fj_segment(f->g, l);
        fj_tensor *n = norm(f, x, FJ_W_ATTN_NORM, FJ_W_ATTN_NORM_B, l);
        x = fj_self_attention(f, n, l, x);
        n = norm(f, x, FJ_W_FFN_NORM, FJ_W_FFN_NORM_B, l);
        x = fj_feed_forward(f, n, l, x);
    }
    fj_segment(f->g, -1);
    return norm(f, x, FJ_W_OUT_NORM, FJ_W_OUT_NORM_B, -1);
}

/* reorder_and_upcast_attn changes the precision of attention in 16 bits, which is f32 here anyway. */
static const char *const ignored[] = { "attn_pdrop",
                                       "embd_pdrop",
                                       "resid_pdrop",
                                       "n_ctx",
                                       "reorder_and_upcast_attn",
                                       "summary_activation",
                                       "summary_first_dropout",
                                       "summary_proj_to_labels",
                                       "summary_type",
                                       "summary_use_proj",
                                       NULL };
static const char *const fixed[] = { "scale_attn_weights=true",
                                     "scale_attn_by_inverse_layer_idx=false",
                                     "add_cross_attention=false", NULL };

FJ_ARCH(gpt2, .name = "gpt2", .hf_class = "GPT2LMHeadModel", .hf_type = "gpt2",
        .families = "GPT-2 124M to 1.5B, DistilGPT2", .ignored = ignored, .fixed = fixed,
        .act_key = "activation_function", .acts = "gelu_new|gelu_pytorch_tanh", .act = FJ_ACT_GELU,
        .build = build, .hf_prefix = "transformer.");
