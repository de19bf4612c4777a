/* arch.c - what all architectures share: sizes, which weights are there, rotary frequencies. */
#include "models/arch.h"

#include <math.h>
#include <string.h>

const fj_arch *const fj_archs[] = {
#define FJ_MODEL(name) &fj_arch_##name,
#include "models/models.def"
#undef FJ_MODEL
    NULL,
};

int64_t fj_size_of(const fj_hparams *hp, fj_size s) {
    switch (s) {
    case FJ_ONE: return 1;
    case FJ_WIDTH: return hp->width;
    case FJ_Q: return hp->heads * hp->head_dim;
    case FJ_KV: return hp->kv_heads * hp->head_dim;
    case FJ_QKV: return (hp->heads + 2 * hp->kv_heads) * hp->head_dim;
    case FJ_HEAD_DIM: return hp->head_dim;
    case FJ_HEADS: return hp->heads;
    case FJ_FFN: return hp->ffn;
    case FJ_FFN2: return 2 * hp->ffn;
    case FJ_VOCAB: return hp->vocab;
    case FJ_CONTEXT: return hp->context;
    case FJ_EXPERTS: return hp->experts;
    case FJ_XFFN: return hp->expert_ffn;
    case FJ_XFFN2: return 2 * hp->expert_ffn;
    }
    return 0;
}

bool fj_row_per_layer(const fj_weight_row *w) { return strstr(w->hf, "%d") != NULL; }

bool fj_weight_there(const fj_hparams *hp, const fj_weight_row *w, int layer) {
    if (!w->hf || fj_row_per_layer(w) != (layer >= 0)) return false;
    bool experts = hp->experts > 0 && !(layer >= 0 && hp->layer[layer] & FJ_LAYER_DENSE);
    switch (w->when) {
    case FJ_ALWAYS: return true;
    case FJ_IF_ATTN_BIAS: return hp->attn_bias;
    case FJ_IF_MLP_BIAS: return hp->mlp_bias;
    case FJ_IF_UNTIED: return !hp->tied;
    case FJ_IF_DENSE: return !experts;
    case FJ_IF_EXPERTS: return experts;
    }
    return false;
}

bool fj_finish_heads(fj_hparams *h, fj_err *e) {
    if (!h->kv_heads) h->kv_heads = h->heads;
    if (!h->head_dim && h->heads > 0) h->head_dim = h->width / h->heads;
    if (h->kv_heads < 1 || h->heads % h->kv_heads)
        return fj_fail(e, FJ_EFORMAT, "%lld attention heads cannot share %lld key heads",
                       (long long)h->heads, (long long)h->kv_heads);
    if (h->head_dim < 1)
        return fj_fail(e, FJ_EFORMAT, "%lld values cannot be shared by %lld heads",
                       (long long)h->width, (long long)h->heads);
    if (h->rope.kind != FJ_ROPE_NONE && (h->head_dim < 2 || h->head_dim % 2))
        return fj_fail(e, FJ_EFORMAT, "a head of %lld values cannot be rotated in pairs",
                       (long long)h->head_dim);
    if (h->experts && (h->experts_used < 1 || h->experts_used > h->experts))
        return fj_fail(e, FJ_EFORMAT, "%lld of %lld experts cannot be used for a token",
                       (long long)h->experts_used, (long long)h->experts);
    return true;
}

void fj_layers_every(fj_hparams *h, int64_t every, bool others, uint8_t bit) {
    for (int64_t l = 0; l < h->layers; l++)
        if (((l + 1) % every != 0) == others) h->layer[l] |= bit;
}

static const double two_pi = 6.283185307179586;

/* YaRN: dimension whose wave turns `turns` times within the original context. */
static double yarn_dim(double turns, double dim, double base, double original) {
    return dim * log(original / (turns * two_pi)) / (2 * log(base));
}

static double yarn_mscale(double factor, double m) {
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

bool fj_rope_by_length(const fj_rope_hp *r) {
    return r->kind == FJ_ROPE_DYNAMIC || r->kind == FJ_ROPE_LONGROPE;
}

int fj_rope_turn(const fj_hparams *hp, int64_t len) {
    const fj_rope_hp *r = &hp->rope;
    return r->kind == FJ_ROPE_LONGROPE && len > (r->original ? r->original : hp->context);
}

/* base^(2i / dims) as transformers has it: the exponent and the result rounded to f32.  All steps from
 * here on are in f32, as there: at position 10^5 a difference in the last bit is one in the fifth digit. */
static float power(double base, int64_t i, int64_t dims) {
    return (float)pow((double)(float)base, (double)((float)(2 * i) / (float)dims));
}

void fj_rope_freqs(const fj_hparams *hp, const fj_rope_hp *r, int64_t len, float *inv_freq,
                   double *mscale) {
    int64_t half = r->dims / 2;
    double base = r->base, dim = (double)r->dims;
    double original = (double)(r->original ? r->original : hp->context);
    *mscale = 1;
    if (r->kind == FJ_ROPE_DYNAMIC && (double)len > original)
        base *= pow(r->factor * (double)len / original - (r->factor - 1), dim / (dim - 2));
    double low = 0, high = 0;
    if (r->kind == FJ_ROPE_YARN) {
        low = yarn_dim(r->beta_fast, dim, base, original);
        high = yarn_dim(r->beta_slow, dim, base, original);
        if (r->truncate) {
            low = floor(low);
            high = ceil(high);
        }
        low = fmax(low, 0);
        high = fmin(high, dim - 1);
        if (low == high) high += 0.001;
        if (r->attention_factor > 0) *mscale = r->attention_factor;
        else if (r->mscale > 0 && r->mscale_all_dim > 0)
            *mscale = yarn_mscale(r->factor, r->mscale) / yarn_mscale(r->factor, r->mscale_all_dim);
        else *mscale = yarn_mscale(r->factor, 1);
    }
    const float *divisors = r->divisors;
    if (r->kind == FJ_ROPE_LONGROPE) {
        divisors = (double)len > original ? r->long_factor : r->short_factor;
        double factor = r->factor > 0 ? r->factor : (double)hp->context / original;
        if (r->attention_factor > 0) *mscale = r->attention_factor;
        else if (factor > 1) *mscale = sqrt(1 + log(factor) / log(original));
    }
    for (int64_t i = 0; i < half; i++) {
        float f = 1 / power(base, i, r->dims);
        if (r->kind == FJ_ROPE_LINEAR) f /= (float)r->factor;
        if (r->kind == FJ_ROPE_LLAMA3) {
            float wave = (float)two_pi / f;
            if (wave > (float)(original / r->low)) {
                f /= (float)r->factor;
            } else if (wave >= (float)(original / r->high)) {
                float s = ((float)original / wave - (float)r->low) / (float)(r->high - r->low);
                f = (1 - s) * f / (float)r->factor + s * f;
            }
        }
        if (r->kind == FJ_ROPE_YARN) {
            float ramp = ((float)i - (float)low) / (float)(high - low);
            float keep = 1 - fminf(fmaxf(ramp, 0), 1);
            f = 1 / ((float)r->factor * power(base, i, r->dims)) * (1 - keep) + f * keep;
        }
        if (r->kind == FJ_ROPE_LONGROPE) f = 1 / (divisors[i] * power(base, i, r->dims));
        else if (divisors) f /= divisors[i];
        inv_freq[i] = f;
    }
}
