/* layer.c - the parts that layers are made of: attention, feed-forward network, experts.
 *
 * Each asks for the weights by what they do (fj_role) and does what follows from those that are there:
 * one fused projection or three, a norm of queries and keys or none, experts or one network. */
#include "models/model.h"

#include <math.h>

fj_tensor *fj_norm(fj_fwd *f, fj_tensor *x, fj_role w, int layer) {
    return fj_rmsnorm(f->g, x, fj_w(f, w, layer), f->m->hp.eps);
}

fj_tensor *fj_embedding(fj_fwd *f) {
    fj_tensor *x = fj_embed(f->g, fj_w(f, FJ_W_EMBED, -1), f->ids);
    double s = f->m->hp.embed_scale;
    return s == 1 ? x : fj_scale(f->g, x, s);
}

static bool has(const fj_fwd *f, fj_role w, int layer) {
    return fj_model_weight(f->m, w, layer) != NULL;
}

/* onto + residual_scale * (x W^T + bias); onto NULL: without both. */
static fj_tensor *residual_proj(fj_fwd *f, fj_tensor *x, int id, int bias_id, int l,
                                fj_tensor *onto) {
    double s = f->m->hp.residual_scale;
    if (!onto || s == 1) return fj_proj_onto(f, x, id, bias_id, l, onto);
    return fj_add(f->g, onto, fj_scale(f->g, fj_proj(f, x, id, bias_id, l), s));
}

fj_tensor *fj_self_attention(fj_fwd *f, fj_tensor *x, int l, fj_tensor *onto) {
    fj_graph *g = f->g;
    const fj_hparams *h = &f->m->hp;
    int64_t nq = fj_size_of(h, FJ_Q), nk = fj_size_of(h, FJ_KV);
    fj_tensor *q, *k, *v;
    if (has(f, FJ_W_QKV, l)) {
        fj_tensor *all = fj_proj(f, x, FJ_W_QKV, FJ_W_QKV_B, l);
        q = fj_cols(g, all, 0, nq);
        k = fj_cols(g, all, nq, nk);
        v = fj_cols(g, all, nq + nk, nk);
    } else {
        static const fj_proj_of of[] = { { FJ_W_Q, FJ_W_Q_B },
                                         { FJ_W_K, FJ_W_K_B },
                                         { FJ_W_V, FJ_W_V_B } };
        fj_tensor *all[3];
        fj_proj_many(f, x, l, 3, of, NULL, all);
        q = all[0], k = all[1], v = all[2];
    }
    if (has(f, FJ_W_Q_NORM, l)) { /* a weight of one head's size norms each head */
        q = fj_norm(f, q, FJ_W_Q_NORM, l);
        k = fj_norm(f, k, FJ_W_K_NORM, l);
    }
    bool local = h->layer[l] & FJ_LAYER_LOCAL;
    fj_tensor *table = local && f->rope_local.table ? f->rope_local.table : f->rope.table;
    if (table && !(h->layer[l] & FJ_LAYER_NO_ROPE)) {
        q = fj_rope(g, q, table, (int)h->heads);
        k = fj_rope(g, k, table, (int)h->kv_heads);
    }
    fj_attn_params p = { .heads = (int)h->heads,
                         .kv_heads = (int)h->kv_heads,
                         .head_dim = (int)h->head_dim,
                         .scale = h->attn_scale > 0 ? h->attn_scale : 1 / sqrt((double)h->head_dim),
                         .window = local ? (int)h->window : 0,
                         .softcap = h->attn_softcap };
    fj_tensor *y = fj_attend(f, l, q, k, v, fj_w(f, FJ_W_SINKS, l), &p);
    return residual_proj(f, y, FJ_W_O, FJ_W_O_B, l, onto);
}

/* act(gate) * up */
static fj_tensor *gated(fj_fwd *f, fj_tensor *gate, fj_tensor *up) {
    return (f->m->arch->act == FJ_ACT_GELU ? fj_geglu : fj_swiglu)(f->g, gate, up);
}

static fj_tensor *gated_halves(fj_fwd *f, fj_tensor *both, int64_t n) {
    const fj_hparams *h = &f->m->hp;
    if (f->m->arch->act == FJ_ACT_OAI) return fj_glu_oai(f->g, both, h->glu_alpha, h->glu_limit);
    return gated(f, fj_cols(f->g, both, 0, n), fj_cols(f->g, both, n, n));
}

static fj_tensor *dense(fj_fwd *f, fj_tensor *x, int l, fj_tensor *onto) {
    fj_tensor *y;
    if (has(f, FJ_W_GATE_UP, l))
        y = gated_halves(f, fj_proj(f, x, FJ_W_GATE_UP, -1, l), f->m->hp.ffn);
    else if (has(f, FJ_W_GATE, l)) {
        static const fj_proj_of of[] = { { FJ_W_GATE, FJ_W_GATE_B }, { FJ_W_UP, FJ_W_UP_B } };
        fj_tensor *both[2];
        fj_proj_many(f, x, l, 2, of, NULL, both);
        y = gated(f, both[0], both[1]);
    } else y = fj_gelu(f->g, fj_proj(f, x, FJ_W_UP, FJ_W_UP_B, l));
    return residual_proj(f, y, FJ_W_DOWN, FJ_W_DOWN_B, l, onto);
}

static fj_tensor *experts(fj_fwd *f, fj_tensor *x, int l, fj_tensor *onto) {
    fj_graph *g = f->g;
    const fj_hparams *h = &f->m->hp;
    fj_tensor *logits = fj_proj(f, x, FJ_W_ROUTER, FJ_W_ROUTER_B, l);
    fj_tensor *w = fj_route(g, logits, (int)h->experts_used, h->norm_topk);
    fj_tensor *plan = w ? fj_moe_plan(g, w->node->out[1], (int)h->experts) : NULL;
    fj_tensor *y = fj_moe_gather(g, x, plan);
    y = fj_proj_experts(f, y, FJ_W_X_GATE_UP, FJ_W_X_GATE_UP_B, l, plan);
    y = gated_halves(f, y, h->expert_ffn);
    y = fj_proj_experts(f, y, FJ_W_X_DOWN, FJ_W_X_DOWN_B, l, plan);
    y = fj_moe_combine(g, y, w, plan);
    if (!onto) return y;
    return fj_add(g, onto, h->residual_scale == 1 ? y : fj_scale(g, y, h->residual_scale));
}

fj_tensor *fj_feed_forward(fj_fwd *f, fj_tensor *x, int l, fj_tensor *onto) {
    return (has(f, FJ_W_ROUTER, l) ? experts : dense)(f, x, l, onto);
}

fj_tensor *fj_build_pre_norm(fj_fwd *f) {
    fj_tensor *x = fj_embedding(f);
    for (int l = 0; l < (int)f->m->hp.layers; l++) {
        fj_segment(f->g, l);
        fj_tensor *n = fj_norm(f, x, FJ_W_ATTN_NORM, l);
        x = fj_self_attention(f, n, l, x);
        if (l + 1 == (int)f->m->hp.layers) x = fj_only_wanted(f, x);
        n = fj_norm(f, x, FJ_W_FFN_NORM, l);
        x = fj_feed_forward(f, n, l, x);
    }
    fj_segment(f->g, -1);
    return fj_norm(f, x, FJ_W_OUT_NORM, -1);
}

fj_tensor *fj_build_pre_post_norm(fj_fwd *f) {
    fj_tensor *x = fj_embedding(f);
    for (int l = 0; l < (int)f->m->hp.layers; l++) {
        fj_segment(f->g, l);
        fj_tensor *y = fj_self_attention(f, fj_norm(f, x, FJ_W_ATTN_NORM, l), l, NULL);
        x = fj_add(f->g, x, fj_norm(f, y, FJ_W_ATTN_POST, l));
        if (l + 1 == (int)f->m->hp.layers) x = fj_only_wanted(f, x);
        y = fj_feed_forward(f, fj_norm(f, x, FJ_W_FFN_NORM, l), l, NULL);
        x = fj_add(f->g, x, fj_norm(f, y, FJ_W_FFN_POST, l));
    }
    fj_segment(f->g, -1);
    return fj_norm(f, x, FJ_W_OUT_NORM, -1);
}
