/* arch.c - what all architectures share: sizes, which weights are there, rotary frequencies. */
#include "models/arch.h"

#include <math.h>

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
    case FJ_FFN: return hp->ffn;
    case FJ_VOCAB: return hp->vocab;
    }
    return 0;
}

bool fj_weight_there(const fj_hparams *hp, const fj_weight_row *w) {
    switch (w->when) {
    case FJ_ALWAYS: return true;
    case FJ_IF_ATTN_BIAS: return hp->attn_bias;
    case FJ_IF_MLP_BIAS: return hp->mlp_bias;
    case FJ_IF_UNTIED: return !hp->tied;
    }
    return false;
}

static const double two_pi = 6.283185307179586;

/* YaRN: dimension whose wave turns `turns` times within the original context. */
static double yarn_dim(double turns, double dim, double base, double original) {
    return dim * log(original / (turns * two_pi)) / (2 * log(base));
}

static double yarn_mscale(double factor, double m) {
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

void fj_rope_freqs(const fj_hparams *hp, int64_t len, float *inv_freq, double *mscale) {
    const fj_rope_hp *r = &hp->rope;
    int64_t half = hp->head_dim / 2;
    double base = r->base, dim = (double)hp->head_dim;
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
    for (int64_t i = 0; i < half; i++) {
        double f = 1 / pow(base, 2 * (double)i / dim);
        if (r->kind == FJ_ROPE_LINEAR) f /= r->factor;
        if (r->kind == FJ_ROPE_LLAMA3) {
            double wave = two_pi / f;
            if (wave > original / r->low) {
                f /= r->factor;
            } else if (wave >= original / r->high) {
                double s = (original / wave - r->low) / (r->high - r->low);
                f = (1 - s) * f / r->factor + s * f;
            }
        }
        if (r->kind == FJ_ROPE_YARN) {
            double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
            f = f / r->factor * ramp + f * (1 - ramp);
        }
        if (hp->rope_factors) f /= hp->rope_factors[i];
        inv_freq[i] = (float)f;
    }
}
