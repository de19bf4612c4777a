/* quant_super.c - super-blocks: the best line or scale of each group alone (kernels quant_fit_*), then scales of
 * the block between which those of the groups are whole numbers.  For given d and dmin every group tries 16 pairs of
 * whole numbers around what it wants; for given numbers and codes the best d and dmin are a least-squares
 * problem of two unknowns; the two take turns, and the best by its error stays. */
#include "kernels/quant_in.h"

#include <math.h>
#include <string.h>

enum { GROUPS = 16, few = 256 /* an f16 below that has steps of 0.4% and more */ };

static const float *part(const float *w, int from) { return w ? w + from : NULL; }

/* ---- value = (d * scale) * code - dmin * min --------------------------------------------------------------------- */
typedef struct lines {
    uint16_t d, dmin;
    uint8_t scale[GROUPS], min[GROUPS];
    double error;
} lines;

typedef struct form {
    int groups, n; /* values of a group */
    float top;     /* codes are in [0, top] */
    int most;      /* scales and mins are in [0, most] */
} form;

/* The whole number below v, within [0, most]. */
static int below(float v, int most) { return !(v > 0) ? 0 : v >= (float)most ? most : (int)v; }
static int within(int i, int lo, int hi) { return i < lo ? lo : i > hi ? hi : i; }

/* 16 pairs near what the group wants: four scales, and with each the mins that keep its mean. */
static void near_pairs(const float *fit, float d, float dmin, int most, int *scale, int *min) {
    int s0 = d > 0 ? below(fit[0] / d, most) : 0;
    for (int i = 0; i < 4; i++) {
        int s = within(s0 - 1 + i, 0, most);
        float m = fit[1] - ((float)s * d - fit[0]) * fit[2];
        int m0 = dmin > 0 ? below(-m / dmin, most) : 0;
        for (int j = 0; j < 4; j++) {
            scale[4 * i + j] = s;
            min[4 * i + j] = dmin > 0 ? within(m0 - 1 + j, 0, most) : 0;
        }
    }
}

/* Numbers for every group under l->d and l->dmin. */
static void choose(const fj_kern *kern, const form *f, const float *x, const float *w,
                   float (*fit)[6], lines *l) {
    float d = fj_f16_to_f32(l->d), dmin = fj_f16_to_f32(l->dmin);
    l->error = 0;
    for (int g = 0; g < f->groups; g++) {
        int scale[16], min[16], best = 0;
        float s[16], m[16], error[16];
        near_pairs(fit[g], d, dmin, f->most, scale, min);
        for (int i = 0; i < 16; i++) s[i] = d * (float)scale[i], m[i] = -(dmin * (float)min[i]);
        kern->quant_try_line(error, x + g * f->n, part(w, g * f->n), f->n, s, m, 0, f->top);
        for (int i = 1; i < 16; i++)
            if (error[i] < error[best]) best = i;
        l->scale[g] = (uint8_t)scale[best];
        l->min[g] = (uint8_t)min[best];
        l->error += (double)error[best];
    }
}

/* The best d and dmin for the numbers and codes of l. */
static void refit(const fj_kern *kern, const form *f, const float *x, const float *w, lines *l) {
    float d = fj_f16_to_f32(l->d), dmin = fj_f16_to_f32(l->dmin);
    double ss = 0, sm = 0, mm = 0, xs = 0, xm = 0;
    for (int g = 0; g < f->groups; g++) {
        const float *v = x + g * f->n, *u = part(w, g * f->n);
        double s = l->scale[g], m = l->min[g], sw = 0, sx = 0;
        float q[3];
        kern->quant_sums(q, v, u, f->n, d * (float)l->scale[g], -(dmin * (float)l->min[g]), 0,
                         f->top);
        for (int i = 0; m > 0 && i < f->n; i++) {
            sw += u ? (double)u[i] : 1;
            sx += u ? (double)(u[i] * v[i]) : (double)v[i];
        }
        ss += s * s * (double)q[1];
        sm += s * m * (double)q[0];
        mm += m * m * sw;
        xs += s * (double)q[2];
        xm += m * sx;
    }
    /* x = d * a - dmin * b: the normal equations */
    double det = ss * mm - sm * sm;
    if (det > 1e-9 * ss * mm) {
        l->d = fj_quant_f16((float)((xs * mm - sm * xm) / det));
        l->dmin = fj_quant_f16((float)((xs * sm - ss * xm) / det));
    } else if (ss > 0) {
        l->d = fj_quant_f16((float)((xs + sm * (double)dmin) / ss));
    }
    if (l->d & 0x8000) l->d = 0;
    if (l->dmin & 0x8000) l->dmin = 0;
}

/* Groups of one value each: what whole mins leave of it becomes a line of its own. */
static void leftovers(const form *f, lines *l, float (*fit)[6]) {
    float most = 0;
    for (int g = 0; g < f->groups; g++)
        if (-fit[g][1] > fj_f16_to_f32(l->dmin) * (float)f->most && l->dmin < 0x7bff) l->dmin++;
    float dmin = fj_f16_to_f32(l->dmin);
    for (int g = 0; g < f->groups; g++) {
        int m = below(-fit[g][1] / dmin, f->most);
        if ((float)m * dmin < -fit[g][1] && m < f->most) m++;
        float left = fit[g][1] + (float)m * dmin;
        fit[g][1] = -((float)m * dmin);
        fit[g][0] = left > 0 ? left / f->top : 0;
        fit[g][2] = f->top;
        if (fit[g][0] > most) most = fit[g][0];
    }
    l->d = fj_quant_f16(most / (float)f->most);
}

/* The number d of which whole multiples up to `most` come nearest to v, each with its weight: of 32 from the one
 * that takes the largest to `most` on. */
static float grid(const fj_kern *kern, const float *v, const float *weight, int n, int most) {
    static const float none[16];
    float top = 0, d[16], error[16], best = 0, least = INFINITY;
    for (int g = 0; g < n; g++)
        if (v[g] > top) top = v[g];
    if (!(top > 0)) return 0;
    for (int k = 0; k < 32; k += 16) {
        for (int i = 0; i < 16; i++)
            d[i] = fj_f16_to_f32(
                fj_quant_f16(top / ((float)most + 0.3f - 0.006f * (float)most * (float)(k + i))));
        kern->quant_try_line(error, v, weight, n, d, none, 0, (float)most);
        for (int i = 0; i < 16; i++)
            if (error[i] < least) least = error[i], best = d[i];
    }
    return best;
}

/* Where d and dmin begin: d for the scales, then dmin for the mins that go with the rounded scales. */
static void begin(const fj_kern *kern, const form *f, float (*fit)[6], lines *l) {
    float v[GROUPS], weight[GROUPS], most = 0;
    for (int g = 0; g < f->groups; g++) {
        v[g] = fit[g][0], weight[g] = fit[g][4];
        if (weight[g] > most) most = weight[g];
    }
    for (int g = 0; g < f->groups; g++) weight[g] = most > 0 ? weight[g] / most : 1;
    float d = grid(kern, v, weight, f->groups, f->most);
    l->d = fj_quant_f16(d);
    for (int g = 0; g < f->groups; g++) {
        int s = d > 0 ? below(fit[g][0] / d + 0.5f, f->most) : 0;
        float m = fit[g][1] - ((float)s * d - fit[g][0]) * fit[g][2];
        v[g] = m < 0 ? -m : 0, weight[g] = fit[g][5];
    }
    l->dmin = fj_quant_f16(grid(kern, v, weight, f->groups, f->most));
}

static lines fit_lines(const fj_kern *kern, const form *f, const float *x, const float *w,
                       int rounds) {
    float fit[GROUPS][6], s = 0, m = 0;
    for (int g = 0; g < f->groups; g++) {
        fj_quant_line(kern, fit[g], x + g * f->n, part(w, g * f->n), f->n, f->top, true);
        if (fit[g][0] > s) s = fit[g][0];
        if (-fit[g][1] > m) m = -fit[g][1];
    }
    lines l = { .d = fj_quant_f16(s / (float)f->most), .dmin = fj_quant_f16(m / (float)f->most) };
    lines best = l, coarse;
    if (s > 0) begin(kern, f, fit, &l);
    else if (l.dmin) leftovers(f, &l, fit);
    coarse = l;
    for (int r = 0; r < rounds; r++) {
        choose(kern, f, x, w, fit, &l);
        if (!r || l.error < best.error) best = l;
        else break;
        if (r + 1 == rounds) break;
        refit(kern, f, x, w, &l);
        if (l.d == best.d && l.dmin == best.dmin) break;
    }
    /* Four bits of scale and min are coarse: look around, as far as weights make it worth while. */
    for (int i = 0; w && f->most < 16 && i < 16; i++) {
        static const float by[4] = { 0.88f, 0.96f, 1.05f, 1.12f };
        l.d = fj_quant_f16(fj_f16_to_f32(coarse.d) * by[i % 4]);
        l.dmin = fj_quant_f16(fj_f16_to_f32(coarse.dmin) * by[i / 4]);
        choose(kern, f, x, w, fit, &l);
        if (l.error < best.error) best = l;
    }
    /* Where f16 has few numbers left, its neighbours differ by much. */
    for (int i = 0; (coarse.d < few || coarse.dmin < few) && i < 16; i++) {
        int d = coarse.d + (coarse.d < few ? i % 4 - 1 : 0),
            dmin = coarse.dmin + (coarse.dmin < few ? i / 4 - 1 : 0);
        if (d < 0 || dmin < 0) continue;
        l.d = (uint16_t)d, l.dmin = (uint16_t)dmin;
        choose(kern, f, x, w, fit, &l);
        if (l.error < best.error) best = l;
    }
    return best;
}

/* Where no value is below 0 the other sign of d and dmin says more: offsets go one way only. */
static lines lines_of(const fj_kern *kern, const form *f, const float *x, const float *w,
                      int rounds, uint8_t *code) {
    float turned[256];
    bool up = true;
    for (int i = 0; i < 256 && up; i++) up = x[i] > 0;
    lines l = fit_lines(kern, f, x, w, rounds);
    const float *from = x;
    if (up) {
        for (int i = 0; i < 256; i++) turned[i] = -x[i];
        lines other = fit_lines(kern, f, turned, w, rounds);
        if (other.error < l.error) l = other, from = turned;
    }
    float d = fj_f16_to_f32(l.d), dmin = fj_f16_to_f32(l.dmin);
    for (int g = 0; g < f->groups; g++)
        kern->quant_codes(code + g * f->n, from + g * f->n, f->n, d * (float)l.scale[g],
                          -(dmin * (float)l.min[g]), 0, f->top);
    if (from == turned) {
        if (l.d) l.d |= 0x8000;
        if (l.dmin) l.dmin |= 0x8000;
    }
    return l;
}

/* The bits of fj_q4_k_scale. */
static void pack_pairs(const lines *l, uint8_t *s) {
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(l->scale[j] | l->scale[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(l->min[j] | l->min[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((l->scale[j + 4] & 15) | (l->min[j + 4] & 15) << 4);
    }
}

static void pack_nibbles(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < 128; i++) {
        const uint8_t *c = code + i / 32 * 64 + i % 32;
        q[i] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
    }
}

static void pack_twos(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < 64; i++) {
        const uint8_t *c = code + i / 32 * 128 + i % 32;
        q[i] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

void fj_quant_block_q4_k(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const form f = { 8, 32, 15, 63 };
    fj_q4_k *to = dst;
    uint8_t code[256];
    lines l = lines_of(kern, &f, x, w, 2, code);
    to->d = l.d, to->dmin = l.dmin;
    pack_pairs(&l, to->s);
    pack_nibbles(code, to->q);
}

void fj_quant_block_q5_k(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const form f = { 8, 32, 31, 63 };
    fj_q5_k *to = dst;
    uint8_t code[256];
    lines l = lines_of(kern, &f, x, w, 2, code);
    to->d = l.d, to->dmin = l.dmin;
    pack_pairs(&l, to->s);
    pack_nibbles(code, to->q);
    memset(to->high, 0, sizeof to->high);
    for (int i = 0; i < 256; i++) to->high[i % 32] |= (uint8_t)((code[i] >> 4) << i / 32);
}

void fj_quant_block_q2_k(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const form f = { 16, 16, 3, 15 };
    fj_q2_k *to = dst;
    uint8_t code[256];
    lines l = lines_of(kern, &f, x, w, 4, code);
    to->d = l.d, to->dmin = l.dmin;
    for (int g = 0; g < 16; g++) to->scale[g] = (uint8_t)(l.scale[g] | l.min[g] << 4);
    pack_twos(code, to->q);
}

/* ---- value = (d * scale) * code, scale of either sign --------------------------------------------------------------- */
typedef struct scales {
    uint16_t d;
    int8_t scale[GROUPS];
    double error;
} scales;

typedef struct sform {
    int groups, n;
    float lo, hi;       /* codes */
    int least, most;    /* scales */
    const float *level; /* codes are numbers of these */
} sform;

/* Four d at once (16 candidates: four scales for each), of which the best comes back. */
static scales choose_scales(const fj_kern *kern, const sform *f, const float *x, const float *w,
                            float (*fit)[2], const uint16_t *d) {
    static const float none[16];
    scales l[4] = { { .d = d[0] }, { .d = d[1] }, { .d = d[2] }, { .d = d[3] } };
    for (int g = 0; g < f->groups; g++) {
        int scale[16];
        float s[16], error[16];
        for (int k = 0; k < 4; k++) {
            float one = fj_f16_to_f32(d[k]), v = one != 0 ? fit[g][0] / one : 0;
            v = v < (float)f->least ? (float)f->least : v > (float)f->most ? (float)f->most : v;
            int s0 = (int)v - (v < 0);
            for (int i = 0; i < 4; i++) {
                scale[4 * k + i] = within(s0 - 1 + i, f->least, f->most);
                s[4 * k + i] = one * (float)scale[4 * k + i];
            }
        }
        if (f->level)
            kern->quant_try_level(error, x + g * f->n, part(w, g * f->n), f->n, s, f->level);
        else
            kern->quant_try_line(error, x + g * f->n, part(w, g * f->n), f->n, s, none, f->lo,
                                 f->hi);
        for (int k = 0; k < 4; k++) {
            int best = 4 * k;
            for (int i = 1; i < 4; i++)
                if (error[4 * k + i] < error[best]) best = 4 * k + i;
            l[k].scale[g] = (int8_t)scale[best];
            l[k].error += (double)error[best];
        }
    }
    int best = 0;
    for (int k = 1; k < 4; k++)
        if (l[k].error < l[best].error) best = k;
    return l[best];
}

static float refit_scale(const fj_kern *kern, const sform *f, const float *x, const float *w,
                         const scales *l) {
    float d = fj_f16_to_f32(l->d);
    double ss = 0, xs = 0;
    for (int g = 0; g < f->groups; g++) {
        float q[3], s = d * (float)l->scale[g];
        if (f->level) kern->quant_sums_level(q, x + g * f->n, part(w, g * f->n), f->n, s, f->level);
        else kern->quant_sums(q, x + g * f->n, part(w, g * f->n), f->n, s, 0, f->lo, f->hi);
        ss += (double)(l->scale[g] * l->scale[g]) * (double)q[1];
        xs += (double)l->scale[g] * (double)q[2];
    }
    return ss > 0 ? (float)(xs / ss) : d;
}

/* All the same: the product of a whole scale and a code whose d loses least in f16. */
static scales one_value(const sform *f, float v, uint8_t *code) {
    scales l = { .error = INFINITY };
    int codes = f->level ? 16 : (int)(f->hi - f->lo) + 1, best = 0, scale = 0;
    for (int s = f->most; s >= f->most / 2; s--)
        for (int i = 0; i < codes; i++) {
            float q = f->level ? f->level[i] : f->lo + (float)i;
            if (q == 0) continue;
            uint16_t d = fj_quant_f16(v / ((float)s * q));
            double off = fabs((double)(fj_f16_to_f32(d) * (float)s * q) - (double)v);
            if (off < l.error) l.error = off, l.d = d, best = i, scale = s;
        }
    for (int g = 0; g < f->groups; g++) l.scale[g] = (int8_t)scale;
    memset(code, best, 256);
    return l;
}

static scales scales_of(const fj_kern *kern, const sform *f, const float *x, const float *w,
                        uint8_t *code) {
    float fit[GROUPS][2], top = 0;
    bool up = x[0] > 0, same = true, side = true;
    for (int i = 1; i < 256 && side; i++) {
        same = same && x[i] == x[0];
        side = x[i] != 0 && (x[i] > 0) == up;
    }
    if (side && same && x[0] != 0) return one_value(f, x[0], code);
    for (int g = 0; g < f->groups; g++) {
        if (f->level)
            kern->quant_fit_level(fit[g], x + g * f->n, part(w, g * f->n), f->n, f->level);
        else fj_quant_scale(kern, fit[g], x + g * f->n, part(w, g * f->n), f->n, f->lo, f->hi);
        if (fabsf(fit[g][0]) > fabsf(top)) top = fit[g][0];
    }
    float most = (float)f->least;
    uint16_t d[4] = { fj_quant_f16(top / most), fj_quant_f16(top / (most + 0.5f)),
                      fj_quant_f16(top / (most + 1)), fj_quant_f16(-top / (most + 1)) };
    float size[GROUPS];
    for (int g = 0; g < f->groups; g++) size[g] = fabsf(fit[g][0]);
    d[1] = fj_quant_f16(grid(kern, size, NULL, f->groups, f->most));
    scales best = choose_scales(kern, f, x, w, fit, d);
    for (int r = 0; side && r < 12; r++) { /* few codes: more to choose from */
        for (int k = 0; k < 4; k++)
            d[k] = fj_quant_f16(top / (most + 0.07f * (float)(4 * r + k - 8)));
        scales other = choose_scales(kern, f, x, w, fit, d);
        if (other.error < best.error) best = other;
    }
    for (int r = 0; r < (f->most > 100 && !side ? 0 : 2); r++) {
        float again = refit_scale(kern, f, x, w, &best);
        static const float around[4] = { 1, 0.9985f, 1.0015f, 1.004f };
        for (int k = 0; k < 4; k++) d[k] = fj_quant_f16(again * around[k]);
        scales other = choose_scales(kern, f, x, w, fit, d);
        if (!(other.error < best.error)) break;
        best = other;
    }
    if ((best.d & 0x7fff) < few) { /* as with lines */
        for (int k = 0; k < 4; k++) d[k] = (uint16_t)(best.d + k + 1);
        scales more = choose_scales(kern, f, x, w, fit, d);
        for (int k = 0; k < 4; k++) d[k] = (uint16_t)((best.d & 0x7fff) > k ? best.d - k - 1 : 0);
        scales less = choose_scales(kern, f, x, w, fit, d);
        if (more.error < best.error) best = more;
        if (less.error < best.error) best = less;
    }
    for (int g = 0; g < f->groups; g++) {
        float s = fj_f16_to_f32(best.d) * (float)best.scale[g];
        if (f->level) kern->quant_codes_level(code + g * f->n, x + g * f->n, f->n, s, f->level);
        else kern->quant_codes(code + g * f->n, x + g * f->n, f->n, s, 0, f->lo, f->hi);
    }
    return best;
}

void fj_quant_block_q6_k(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const sform f = { 16, 16, -32, 31, -128, 127, NULL };
    fj_q6_k *to = dst;
    uint8_t code[256];
    scales l = scales_of(kern, &f, x, w, code);
    to->d = l.d;
    memcpy(to->scale, l.scale, 16);
    for (int i = 0; i < 64; i++) { /* four values each of one half */
        const uint8_t *c = code + i / 32 * 128 + i % 32;
        uint8_t *low = to->low + i / 32 * 64 + i % 32;
        low[0] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
        low[32] = (uint8_t)((c[32] & 15) | (c[96] & 15) << 4);
        to->high[i] = (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
    }
}

void fj_quant_block_q3_k(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const sform f = { 16, 16, -4, 3, -32, 31, NULL };
    fj_q3_k *to = dst;
    uint8_t code[256];
    scales l = scales_of(kern, &f, x, w, code);
    to->d = l.d;
    memset(to->scale, 0, sizeof to->scale);
    for (int g = 0; g < 16; g++) {
        int s = l.scale[g] + 32;
        to->scale[g % 8] |= (uint8_t)((s & 15) << g / 8 * 4);
        to->scale[8 + g % 4] |= (uint8_t)(s >> 4 << g / 4 * 2);
    }
    pack_twos(code, to->q);
    memset(to->high, 0, sizeof to->high);
    for (int i = 0; i < 256; i++) to->high[i % 32] |= (uint8_t)((code[i] >> 2) << i / 32);
}

void fj_quant_block_iq4_xs(const fj_kern *kern, const float *x, const float *w, void *dst) {
    static const sform f = { 8, 32, 0, 0, -32, 31, fj_quant_iq4 };
    fj_iq4_xs *to = dst;
    uint8_t code[256];
    scales l = scales_of(kern, &f, x, w, code);
    memset(to, 0, sizeof *to);
    to->d = l.d;
    for (int j = 0; j < 8; j++) {
        int s = l.scale[j] + 32;
        to->low[j / 2] |= (uint8_t)((s & 15) << j % 2 * 4);
        to->high = (uint16_t)(to->high | s >> 4 << 2 * j);
        for (int i = 0; i < 16; i++)
            to->q[16 * j + i] = (uint8_t)(code[32 * j + i] | code[32 * j + 16 + i] << 4);
    }
}
