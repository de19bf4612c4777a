/* kquant.c - super-blocks of GGUF: the searches for scales of ggml's quantize_row_q4_K_ref and
 * quantize_row_q6_K_ref, so that the bytes are the same. */
#include "base/dtype.h"

#include <math.h>
#include <string.h>

static const float nothing = 1e-15f; /* groups of smaller numbers are zeros */

/* The nearest integer, even at a tie, within [lo, hi]; NaN gives lo or hi, whatever x is. */
static int nearest(float x, int lo, int hi) {
    x = rintf(x);
    return !(x > (float)lo) ? lo : x > (float)hi ? hi : (int)x;
}

/* ---- values = scale * code - min, code in [0, 15] --------------------------------------------------- */
typedef struct line {
    float scale, min; /* of x = scale * code + min, min <= 0 */
} line;

/* The codes of 32 values for steps of 1 / inverse from min on. */
static void codes_of(const float *x, float inverse, float min, uint8_t *code) {
    for (int i = 0; i < 32; i++) code[i] = (uint8_t)nearest(inverse * (x[i] - min), 0, 15);
}

static float squares(const float *x, const float *weight, const uint8_t *code, line l) {
    float s = 0;
    for (int i = 0; i < 32; i++) {
        float off = l.scale * (float)code[i] + l.min - x[i];
        s += weight[i] * (off * off);
    }
    return s;
}

/* The weighted least squares for given codes; false: they are all the same. */
static bool fit(const float *x, const float *weight, const uint8_t *code, float sum_w, float sum_x,
                line *l) {
    float c = 0, cc = 0, cx = 0;
    for (int i = 0; i < 32; i++) {
        float k = (float)code[i], w = weight[i];
        c += w * k;
        cc += w * k * k;
        cx += w * k * x[i];
    }
    float det = sum_w * cc - c * c;
    if (!(det > 0)) return false;
    l->scale = (sum_w * cx - sum_x * c) / det;
    l->min = (cc * sum_x - c * cx) / det;
    if (l->min > 0) *l = (line){ cx / cc, 0 };
    return true;
}

/* Codes for 15 - 1 to 15 + 1 steps from the least to the largest value, each with its best line: the
 * one with the least error.  Large values count more. */
static line search_line(const float *x, uint8_t *code) {
    float weight[32], squared = 0, min = x[0], max = x[0], sum_w = 0, sum_x = 0;
    for (int i = 0; i < 32; i++) squared += x[i] * x[i];
    float mean = sqrtf(squared / 32);
    for (int i = 0; i < 32; i++) {
        weight[i] = mean + fabsf(x[i]);
        if (x[i] < min) min = x[i];
        if (x[i] > max) max = x[i];
        sum_w += weight[i];
        sum_x += weight[i] * x[i];
    }
    if (min > 0) min = 0;
    if (max == min) {
        memset(code, 0, 32);
        return (line){ 0, min };
    }
    line best = { 1 / (15 / (max - min)), min };
    codes_of(x, 15 / (max - min), min, code);
    float least = squares(x, weight, code, best);
    for (int i = 0; i <= 20; i++) {
        uint8_t other[32];
        line l;
        /* from the min of the best line so far on: as ggml does */
        codes_of(x, (-1 + 0.1f * (float)i + 15) / (max - best.min), best.min, other);
        if (!fit(x, weight, other, sum_w, sum_x, &l)) continue;
        float error = squares(x, weight, other, l);
        if (error < least) {
            least = error;
            best = l;
            memcpy(code, other, 32);
        }
    }
    return best;
}

void fj_quant_q4_k(const float *x, fj_q4_k *to) {
    uint8_t code[256];
    float scale[8], min[8], scales = 0, mins = 0;
    memset(to, 0, sizeof *to);
    for (int j = 0; j < 8; j++) {
        line l = search_line(x + 32 * j, code + 32 * j);
        scale[j] = l.scale;
        min[j] = -l.min;
        if (scale[j] > scales) scales = scale[j];
        if (min[j] > mins) mins = min[j];
    }
    float per_scale = scales > 0 ? 63 / scales : 0, per_min = mins > 0 ? 63 / mins : 0;
    for (int j = 0; j < 8; j++) {
        int s = nearest(per_scale * scale[j], 0, 63), m = nearest(per_min * min[j], 0, 63);
        if (j < 4) {
            to->s[j] = (uint8_t)s;
            to->s[j + 4] = (uint8_t)m;
        } else {
            to->s[j + 4] = (uint8_t)((s & 15) | (m & 15) << 4);
            to->s[j - 4] |= (uint8_t)(s >> 4 << 6);
            to->s[j] |= (uint8_t)(m >> 4 << 6);
        }
    }
    to->d = fj_f32_to_f16(scales / 63);
    to->dmin = fj_f32_to_f16(mins / 63);
    for (int j = 0; j < 8; j++) {
        int s, m;
        fj_q4_k_scale(to->s, j, &s, &m);
        float d = fj_f16_to_f32(to->d) * (float)s, off = fj_f16_to_f32(to->dmin) * (float)m;
        for (int i = 32 * j; d != 0 && i < 32 * j + 32; i++)
            code[i] = (uint8_t)nearest((x[i] + off) / d, 0, 15);
    }
    for (int i = 0; i < 128; i++) {
        const uint8_t *c = code + i / 32 * 64 + i % 32;
        to->q[i] = (uint8_t)(c[0] | c[32] << 4);
    }
}

/* ---- values = scale * (code - 32), code in [0, 63] -------------------------------------------------- */
/* The scale of 16 values: 32 - 0.9 to 32 + 0.9 steps to the largest one, the best of these. */
static float search_scale(const float *x, uint8_t *code) {
    float largest = 0, max = 0, best = 0, scale = 0;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > largest) largest = fabsf(x[i]), max = x[i];
    memset(code, 0, 16);
    if (largest < nothing) return 0;
    for (int t = 0; t < 19; t++) {
        int step = t == 0 ? 0 : t < 10 ? t - 10 : t - 9; /* 0, then -9 to 9 */
        float inverse = -(32 + 0.1f * (float)step) / max, cx = 0, cc = 0;
        uint8_t other[16];
        for (int i = 0; i < 16; i++) {
            int c = nearest(inverse * x[i], -32, 31);
            float w = x[i] * x[i];
            cx += w * x[i] * (float)c;
            cc += w * (float)c * (float)c;
            other[i] = (uint8_t)(c + 32);
        }
        if (t && !(cc > 0 && cx * cx > best * cc)) continue;
        scale = cc != 0 ? cx / cc : 0;
        best = scale * cx;
        memcpy(code, other, 16);
    }
    return scale;
}

void fj_quant_q6_k(const float *x, fj_q6_k *to) {
    uint8_t code[256];
    float scale[16], largest = 0, max = 0;
    memset(to, 0, sizeof *to);
    for (int j = 0; j < 16; j++) {
        scale[j] = search_scale(x + 16 * j, code + 16 * j);
        if (fabsf(scale[j]) > largest) largest = fabsf(scale[j]), max = scale[j];
    }
    if (largest < nothing) return;
    float inverse = -128 / max;
    to->d = fj_f32_to_f16(1 / inverse);
    for (int j = 0; j < 16; j++) {
        to->scale[j] = (int8_t)nearest(inverse * scale[j], -128, 127);
        float d = fj_f16_to_f32(to->d) * (float)to->scale[j];
        for (int i = 16 * j; d != 0 && i < 16 * j + 16; i++)
            code[i] = (uint8_t)(nearest(x[i] / d, -32, 31) + 32);
    }
    for (int i = 0; i < 64; i++) { /* four values each of one half */
        const uint8_t *c = code + i / 32 * 128 + i % 32;
        uint8_t *low = to->low + i / 32 * 64 + i % 32;
        low[0] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
        low[32] = (uint8_t)((c[32] & 15) | (c[96] & 15) << 4);
        to->high[i] = (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
    }
}
