/* quant.c - see quant.h: blocks of 32, and which search a format takes; super-blocks are in quant_super.c. */
#include "kernels/quant_in.h"

#include <math.h>
#include <string.h>

bool fj_quant_can(fj_dtype t) { return t <= FJ_NF4 || (t >= FJ_F64 && t <= FJ_IQ4_XS); }

/* ---- what a search may see ---------------------------------------------------------------------------------- */
static void take_values(const float *src, int n, float *x) {
    for (int i = 0; i < n; i++) {
        float v = fabsf(src[i]) < INFINITY ? src[i] : 0;
        x[i] = (v < -1e10f ? -1e10f : v > 1e10f ? 1e10f : v) + 0.0f; /* no -0 */
    }
}

/* Brought to [0, 1]; NULL where all count the same. */
static const float *take_weights(const float *importance, int n, float *w) {
    float most = 0;
    for (int i = 0; importance && i < n; i++) {
        w[i] = importance[i] > 0 && importance[i] < INFINITY ? importance[i] : 0;
        if (w[i] > most) most = w[i];
    }
    float by = 1 / most;
    if (!(most > 0 && by < INFINITY)) return NULL;
    for (int i = 0; i < n; i++) w[i] = w[i] * by < 1 ? w[i] * by : 1;
    return w;
}

uint16_t fj_quant_f16(float d) {
    return fj_f32_to_f16(d > 65504 ? 65504 : d < -65504 ? -65504 : d);
}

/* The k-th f16 after h (before it: k < 0) in the order of the numbers; finite. */
static uint16_t f16_next(uint16_t h, int k) {
    int i = h & 0x8000 ? -(h & 0x7fff) : h;
    i += k;
    i = i > 0x7bff ? 0x7bff : i < -0x7bff ? -0x7bff : i;
    return (uint16_t)(i < 0 ? 0x8000 | -i : i);
}

static int least_of(const float *error, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (error[i] < error[best]) best = i;
    return best;
}

/* ---- blocks of 32 --------------------------------------------------------------------------------------------- */
/* Of eight f16 around s and eight around `plain`, the scale of the reference, the best; where all values are the
 * same, of those that take it to one of 16 codes. */
static uint16_t settle(const fj_kern *kern, const float *x, const float *w, float s, float plain,
                       float lo, float hi, const float *level) {
    static const float none[16];
    uint16_t h[16];
    float d[16], error[16];
    bool same = true;
    for (int i = 1; i < 32 && same; i++) same = x[i] == x[0];
    for (int i = 0; i < 16; i++) {
        float q = level ? level[i] : lo + (float)i;
        h[i] = same && q != 0 ? fj_quant_f16(x[0] / q)
                              : f16_next(fj_quant_f16(i < 8 ? s : plain), i % 8 - 4);
        d[i] = fj_f16_to_f32(h[i]);
    }
    if (level) kern->quant_try_level(error, x, w, 32, d, level);
    else kern->quant_try_line(error, x, w, 32, d, none, lo, hi);
    return h[least_of(error, 16)];
}

static float largest(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    return most;
}

void fj_quant_line(const fj_kern *kern, float *best, const float *x, const float *w, int n,
                   float top, bool below) {
    float other[6];
    kern->quant_fit_line(best, x, w, n, top, below, 0);
    for (int i = 1; w && i < (below ? 3 : 5); i++) {
        kern->quant_fit_line(other, x, w, n, top, below, i);
        if (other[3] < best[3]) memcpy(best, other, sizeof other);
    }
}

void fj_quant_scale(const fj_kern *kern, float *best, const float *x, const float *w, int n,
                    float lo, float hi) {
    float other[2], least = x[0], most = x[0];
    kern->quant_fit_scale(best, x, w, n, lo, hi, 0);
    for (int i = 1; i < n; i++) {
        if (x[i] < least) least = x[i];
        if (x[i] > most) most = x[i];
    }
    if (!w && least < 0 && most > 0) return;
    kern->quant_fit_scale(other, x, w, n, lo, hi, 1);
    if (other[1] < best[1]) memcpy(best, other, sizeof other);
}

static void nibbles(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
}

static void fifth_bits(const uint8_t *code, uint8_t *high) {
    memset(high, 0, 4);
    for (int i = 0; i < 32; i++) high[i / 8] |= (uint8_t)((code[i] >> 4) << i % 8);
}

static void scaled(const fj_kern *kern, const float *x, const float *w, float lo, float hi,
                   uint16_t *d, uint8_t *code) {
    float best[2];
    fj_quant_scale(kern, best, x, w, 32, lo, hi);
    *d = settle(kern, x, w, best[0], largest(x, 32) / lo, lo, hi, NULL);
    kern->quant_codes(code, x, 32, fj_f16_to_f32(*d), 0, lo, hi);
}

/* Of four scales times four offsets around those found, and the range as the reference takes it. */
static void lined(const fj_kern *kern, const float *x, const float *w, float top, uint16_t *d,
                  uint16_t *m, uint8_t *code) {
    float best[6], lo = x[0], hi = x[0], s[16], off[16], error[16];
    uint16_t hs[16], hm[16];
    fj_quant_line(kern, best, x, w, 32, top, false);
    for (int i = 0; i < 32; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    for (int i = 0; i < 16; i++) {
        hs[i] = f16_next(fj_quant_f16(best[0]), i % 4 - 1);
        s[i] = fj_f16_to_f32(hs[i]);
        /* the offset that goes with this scale: the mean stays */
        hm[i] = f16_next(fj_quant_f16(best[1] + (best[0] - s[i]) * best[2]), i / 4 - 1);
        if (i == 11) { /* all the same: what f16 leaves of it is a step */
            hm[i] = fj_quant_f16(lo);
            hs[i] = fj_quant_f16(hi == lo ? lo - fj_f16_to_f32(hm[i]) : best[0]);
        }
        if (i == 15) hs[i] = fj_quant_f16((hi - lo) / top), hm[i] = fj_quant_f16(lo);
        s[i] = fj_f16_to_f32(hs[i]);
        off[i] = fj_f16_to_f32(hm[i]);
    }
    kern->quant_try_line(error, x, w, 32, s, off, 0, top);
    int i = least_of(error, 16);
    *d = hs[i], *m = hm[i];
    kern->quant_codes(code, x, 32, s[i], off[i], 0, top);
}

static void block_q4_0(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_q4_0 *to = dst;
    uint8_t code[32];
    scaled(kern, x, w, -8, 7, &to->d, code);
    nibbles(code, to->q);
}

static void block_q5_0(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_q5_0 *to = dst;
    uint8_t code[32];
    scaled(kern, x, w, -16, 15, &to->d, code);
    nibbles(code, to->q);
    fifth_bits(code, to->high);
}

static void block_q4_1(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_q4_1 *to = dst;
    uint8_t code[32];
    lined(kern, x, w, 15, &to->d, &to->m, code);
    nibbles(code, to->q);
}

static void block_q5_1(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_q5_1 *to = dst;
    uint8_t code[32];
    lined(kern, x, w, 31, &to->d, &to->m, code);
    nibbles(code, to->q);
    fifth_bits(code, to->high);
}

const float fj_quant_iq4[32] = { -127, -104, -83, -65, -49,  -35,    -22,   -10, 1,   13,  25,
                                 38,   53,   69,  89,  113,  -115.5, -93.5, -74, -57, -42, -28.5,
                                 -16,  -4.5, 7,   19,  31.5, 45.5,   61,    79,  101, 0 };

static void block_iq4_nl(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_iq4_nl *to = dst;
    uint8_t code[32];
    float best[2];
    kern->quant_fit_level(best, x, w, 32, fj_quant_iq4);
    to->d = settle(kern, x, w, best[0], largest(x, 32) / -127, 0, 0, fj_quant_iq4);
    kern->quant_codes_level(code, x, 32, fj_f16_to_f32(to->d), fj_quant_iq4);
    nibbles(code, to->q);
}

/* Twice the numbers of e2m1 in ascending order, one of the two zeros left out, their middles and their codes. */
static const float e2m1[32] = { -12,   -8,   -6,   -4,   -3,   -2,  -1, 0,  1,     2,     3,
                                4,     6,    8,    12,   12,   -10, -7, -5, -3.5f, -2.5f, -1.5f,
                                -0.5f, 0.5f, 1.5f, 2.5f, 3.5f, 5,   7,  10, 1e30f, 0 };
static const uint8_t e2m1_code[16] = { 15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7, 7 };

/* The scale takes the largest to [4, 8), as the reference has it, or is twice that, or as little as 2^-6 of it:
 * then what is large is cut, which may matter less. */
static void block_mxfp4(const fj_kern *kern, const float *x, const float *w, void *dst) {
    fj_mxfp4 *to = dst;
    int exponent;
    float most = fabsf(largest(x, 32)), s[16], error[16];
    uint8_t code[32];
    memset(to, 0, sizeof *to);
    if (!(most > 1e-25f)) return; /* squares of less are no numbers */
    frexpf(most, &exponent);      /* most in [2^(exponent - 1), 2^exponent) */
    for (int i = 0; i < 16; i++) s[i] = fj_e8m0_half((uint8_t)(exponent - 1 - 2 + 127 + 1 - i / 2));
    kern->quant_try_level(error, x, w, 32, s, e2m1);
    int best = 2; /* the reference's, unless another is better */
    for (int i = 0; i < 16; i += 2)
        if (error[i] < error[best]) best = i;
    to->e = (uint8_t)(exponent - 1 - 2 + 127 + 1 - best / 2);
    kern->quant_codes_level(code, x, 32, s[best], e2m1);
    for (int i = 0; i < 32; i++) code[i] = e2m1_code[code[i]];
    nibbles(code, to->q);
}

void fj_quant_rows(const fj_kern *kern, fj_dtype t, const float *src, const float *importance,
                   void *dst, int64_t rows, int64_t cols) {
    static void (*const block[FJ_DTYPES])(const fj_kern *, const float *, const float *, void *) = {
        [FJ_Q4_0] = block_q4_0,          [FJ_Q4_1] = block_q4_1,
        [FJ_Q5_0] = block_q5_0,          [FJ_Q5_1] = block_q5_1,
        [FJ_IQ4_NL] = block_iq4_nl,      [FJ_MXFP4] = block_mxfp4,
        [FJ_Q2_K] = fj_quant_block_q2_k, [FJ_Q3_K] = fj_quant_block_q3_k,
        [FJ_Q4_K] = fj_quant_block_q4_k, [FJ_Q5_K] = fj_quant_block_q5_k,
        [FJ_Q6_K] = fj_quant_block_q6_k, [FJ_IQ4_XS] = fj_quant_block_iq4_xs,
    };
    const fj_dtype_info *d = fj_dtype_get(t);
    FJ_ASSERT(fj_quant_can(t) && cols % d->block == 0);
    for (int64_t r = 0; r < rows; r++, src += cols) {
        uint8_t *to = (uint8_t *)dst + r * (cols / d->block) * d->bytes;
        if (t == FJ_Q8_0) kern->quant_q8_0(to, src, cols);
        else if (t == FJ_F16) kern->f32_to_f16((uint16_t *)(void *)to, src, cols);
        else if (t == FJ_BF16) kern->f32_to_bf16((uint16_t *)(void *)to, src, cols);
        else if (!block[t]) fj_quant_row(t, src, to, cols);
        else
            for (int64_t c = 0; c < cols; c += d->block, to += d->bytes) {
                float x[256], w[256];
                take_values(src + c, d->block, x);
                block[t](kern, x, take_weights(importance ? importance + c : NULL, d->block, w),
                         to);
            }
    }
}
