/* blocks.c - see blocks.h.  The order of the products is that of the reference. */
#include "base/blocks.h"

#include <string.h>

const int8_t fj_iq4_levels[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113 };

static uint32_t u32_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- blocks of 32 ------------------------------------------------------------------------------------ */
static void part_q8_0(const void *block, int j, float *dst) {
    (void)j;
    const fj_q8_0 *b = block;
    float d = fj_f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) dst[i] = d * (float)b->q[i];
}

static void part_q4_0(const void *block, int j, float *dst) {
    (void)j;
    const fj_q4_0 *b = block;
    float d = fj_f16_to_f32(b->d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)((b->q[i] & 15) - 8);
        dst[i + 16] = d * (float)((b->q[i] >> 4) - 8);
    }
}

static void part_mxfp4(const void *block, int j, float *dst) {
    (void)j;
    const fj_mxfp4 *b = block;
    float d = fj_e8m0_half(b->e);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)fj_e2m1_doubled[b->q[i] & 15];
        dst[i + 16] = d * (float)fj_e2m1_doubled[b->q[i] >> 4];
    }
}

static void part_q4_1(const void *block, int j, float *dst) {
    (void)j;
    const fj_q4_1 *b = block;
    float d = fj_f16_to_f32(b->d), m = fj_f16_to_f32(b->m);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)(b->q[i] & 15) + m;
        dst[i + 16] = d * (float)(b->q[i] >> 4) + m;
    }
}

static int five(const uint8_t *q, uint32_t high, int i) {
    return (q[i % 16] >> i / 16 * 4 & 15) | (int)(high >> i & 1) << 4;
}

static void part_q5_0(const void *block, int j, float *dst) {
    (void)j;
    const fj_q5_0 *b = block;
    float d = fj_f16_to_f32(b->d);
    uint32_t high = u32_at(b->high);
    for (int i = 0; i < 32; i++) dst[i] = d * (float)(five(b->q, high, i) - 16);
}

static void part_q5_1(const void *block, int j, float *dst) {
    (void)j;
    const fj_q5_1 *b = block;
    float d = fj_f16_to_f32(b->d), m = fj_f16_to_f32(b->m);
    uint32_t high = u32_at(b->high);
    for (int i = 0; i < 32; i++) dst[i] = d * (float)five(b->q, high, i) + m;
}

static void levels(const uint8_t *q, float d, float *dst) {
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)fj_iq4_levels[q[i] & 15];
        dst[i + 16] = d * (float)fj_iq4_levels[q[i] >> 4];
    }
}

static void part_iq4_nl(const void *block, int j, float *dst) {
    (void)j;
    const fj_iq4_nl *b = block;
    levels(b->q, fj_f16_to_f32(b->d), dst);
}

/* ---- parts of super-blocks ---------------------------------------------------------------------------- */
static void part_q2_k(const void *block, int j, float *dst) {
    const fj_q2_k *b = block;
    const uint8_t *q = b->q + j / 4 * 32;
    for (int g = 0; g < 2; g++) {
        int s = b->scale[2 * j + g];
        float d = fj_f16_to_f32(b->d) * (float)(s & 15),
              m = fj_f16_to_f32(b->dmin) * (float)(s >> 4);
        for (int i = 16 * g; i < 16 * g + 16; i++) dst[i] = d * (float)(q[i] >> j % 4 * 2 & 3) - m;
    }
}

static void part_q3_k(const void *block, int j, float *dst) {
    const fj_q3_k *b = block;
    const uint8_t *q = b->q + j / 4 * 32;
    for (int g = 0; g < 2; g++) {
        float d = fj_f16_to_f32(b->d) * (float)fj_q3_k_scale(b->scale, 2 * j + g);
        for (int i = 16 * g; i < 16 * g + 16; i++)
            dst[i] = d * (float)((q[i] >> j % 4 * 2 & 3) - (b->high[i] >> j & 1 ? 0 : 4));
    }
}

static void part_q4_k(const void *block, int j, float *dst) {
    const fj_q4_k *b = block;
    int scale, min;
    fj_q4_k_scale(b->s, j, &scale, &min);
    float d = fj_f16_to_f32(b->d) * (float)scale, m = fj_f16_to_f32(b->dmin) * (float)min;
    const uint8_t *q = b->q + j / 2 * 32;
    for (int i = 0; i < 32; i++) dst[i] = d * (float)(q[i] >> j % 2 * 4 & 15) - m;
}

static void part_q5_k(const void *block, int j, float *dst) {
    const fj_q5_k *b = block;
    int scale, min;
    fj_q4_k_scale(b->s, j, &scale, &min);
    float d = fj_f16_to_f32(b->d) * (float)scale, m = fj_f16_to_f32(b->dmin) * (float)min;
    const uint8_t *q = b->q + j / 2 * 32;
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)((q[i] >> j % 2 * 4 & 15) | (b->high[i] >> j & 1) << 4) - m;
}

static void part_q6_k(const void *block, int j, float *dst) {
    const fj_q6_k *b = block;
    const uint8_t *low = b->low + j / 4 * 64 + j % 2 * 32, *high = b->high + j / 4 * 32;
    for (int i = 0; i < 32; i++) {
        int q = (low[i] >> j % 4 / 2 * 4 & 15) | (high[i] >> j % 4 * 2 & 3) << 4;
        dst[i] = fj_f16_to_f32(b->d) * (float)b->scale[2 * j + i / 16] * (float)(q - 32);
    }
}

static void part_iq4_xs(const void *block, int j, float *dst) {
    const fj_iq4_xs *b = block;
    int s = (b->low[j / 2] >> j % 2 * 4 & 15) | (b->high >> 2 * j & 3) << 4;
    levels(b->q + 16 * j, fj_f16_to_f32(b->d) * (float)(s - 32), dst);
}

static void part_nf4(const void *block, int j, float *dst) {
    const fj_nf4 *b = block;
    float d = fj_f16_to_f32(b->absmax);
    for (int i = 0; i < 16; i++) {
        uint8_t two = b->q[j * 16 + i];
        dst[2 * i] = d * fj_nf4_code[two >> 4];
        dst[2 * i + 1] = d * fj_nf4_code[two & 15];
    }
}

static void part_tq1_0(const void *block, int j, float *dst) {
    static const uint8_t power[8] = { 1, 3, 9, 27, 81 };
    const fj_tq1_0 *b = block;
    float d = fj_f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) {
        int v = 32 * j + i, digit = v < 160 ? v / 32 : v < 240 ? (v - 160) / 16 : (v - 240) / 4;
        uint8_t byte = v < 160 ? b->q[v % 32] : v < 240 ? b->q[32 + v % 16] : b->tail[v % 4];
        byte =
            (uint8_t)(byte * power[digit & 7]); /* a fraction of 256 whose next digit is wanted */
        dst[i] = d * (float)((byte * 3 >> 8) - 1);
    }
}

static void part_tq2_0(const void *block, int j, float *dst) {
    const fj_tq2_0 *b = block;
    float d = fj_f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) dst[i] = d * (float)((b->q[j / 4 * 32 + i] >> j % 4 * 2 & 3) - 1);
}

/* ---- lattices ------------------------------------------------------------------------------------------ */
/* Seven signs, the eighth such that their number is even. */
static uint32_t eight_signs(uint32_t seven) {
    seven &= 127;
    uint32_t odd = seven ^ seven >> 4;
    odd ^= odd >> 2;
    return seven | ((odd ^ odd >> 1) & 1) << 7;
}

static void point_iq2(uint32_t point, uint32_t sign, float d, float *dst) {
    static const float level[4] = { 8, 25, 43, 0 }; /* no point has the fourth */
    for (int i = 0; i < 8; i++)
        dst[i] = d * level[point >> 2 * i & 3] * (sign >> i & 1 ? -1.0f : 1.0f);
}

static void point_iq3(uint32_t point, uint32_t sign, const float *level, float d, float *dst) {
    for (int i = 0; i < 4; i++)
        dst[i] = d * level[point >> 3 * i & 7] * (sign >> i & 1 ? -1.0f : 1.0f);
}

static void point_iq1(uint32_t point, float shift, float d, float *dst) {
    for (int i = 0; i < 8; i++) dst[i] = d * ((float)((int)(point >> 2 * i & 3) - 1) + shift);
}

static void part_iq2_xxs(const void *block, int j, float *dst) {
    const fj_iq2_xxs *b = block;
    const uint8_t *q = b->q + 8 * j;
    uint32_t more = u32_at(q + 4);
    float d = fj_f16_to_f32(b->d) * (0.5f + (float)(more >> 28)) * 0.25f;
    for (int l = 0; l < 4; l++)
        point_iq2(fj_iq2_xxs_points[q[l]], eight_signs(more >> 7 * l), d, dst + 8 * l);
}

/* Scales of the two groups of a part, four bits each. */
static float scale_iq2(uint16_t d, uint8_t scale, int group) {
    return fj_f16_to_f32(d) * (0.5f + (float)(scale >> 4 * group & 15)) * 0.25f;
}

static void part_iq2_xs(const void *block, int j, float *dst) {
    const fj_iq2_xs *b = block;
    for (int l = 0; l < 4; l++) {
        uint32_t q = b->q[4 * j + l];
        point_iq2(fj_iq2_xs_points[q & 511], eight_signs(q >> 9),
                  scale_iq2(b->d, b->scale[j], l / 2), dst + 8 * l);
    }
}

static void part_iq2_s(const void *block, int j, float *dst) {
    const fj_iq2_s *b = block;
    for (int l = 0; l < 4; l++) {
        uint32_t q = b->q[4 * j + l] | (uint32_t)(b->high[j] >> 2 * l & 3) << 8;
        point_iq2(fj_iq2_s_points[q], b->sign[4 * j + l], scale_iq2(b->d, b->scale[j], l / 2),
                  dst + 8 * l);
    }
}

static void part_iq3_xxs(const void *block, int j, float *dst) {
    static const float level[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };
    const fj_iq3_xxs *b = block;
    uint32_t more = u32_at(b->signs + 4 * j);
    float d = fj_f16_to_f32(b->d) * (0.5f + (float)(more >> 28)) * 0.5f;
    for (int k = 0; k < 8; k++)
        point_iq3(fj_iq3_xxs_points[b->q[8 * j + k]],
                  eight_signs(more >> 7 * (k / 2)) >> 4 * (k % 2), level, d, dst + 4 * k);
}

static void part_iq3_s(const void *block, int j, float *dst) {
    static const float level[8] = { 1, 3, 5, 7, 9, 11, 13, 15 };
    const fj_iq3_s *b = block;
    float d = fj_f16_to_f32(b->d) * (float)(1 + 2 * (b->scale[j / 2] >> 4 * (j % 2) & 15));
    for (int k = 0; k < 8; k++) {
        uint32_t q = b->q[8 * j + k] | (uint32_t)(b->high[j] >> k & 1) << 8;
        uint32_t sign = (uint32_t)b->sign[4 * j + k / 2] >> 4 * (k % 2);
        point_iq3(fj_iq3_s_points[q], sign, level, d, dst + 4 * k);
    }
}

static void part_iq1_s(const void *block, int j, float *dst) {
    const fj_iq1_s *b = block;
    uint32_t h = b->high[j];
    float d = fj_f16_to_f32(b->d) * (float)(2 * (h >> 12 & 7) + 1);
    for (int l = 0; l < 4; l++)
        point_iq1(fj_iq1_points[b->q[4 * j + l] | (h >> 3 * l & 7) << 8],
                  h >> 15 ? -0.125f : 0.125f, d, dst + 8 * l);
}

static void part_iq1_m(const void *block, int j, float *dst) {
    const fj_iq1_m *b = block;
    const uint16_t *s = b->scale;
    uint16_t all =
        (uint16_t)(s[0] >> 12 | (s[1] >> 12) << 4 | (s[2] >> 12) << 8 | (s[3] >> 12) << 12);
    for (int l = 0; l < 4; l++) {
        int g = 2 * j + l / 2;
        uint32_t h = b->high[g] >> 4 * (l % 2);
        float d = fj_f16_to_f32(all) * (float)(2 * (s[g / 4] >> 3 * (g % 4) & 7) + 1);
        point_iq1(fj_iq1_points[b->q[4 * j + l] | (h & 7) << 8], h & 8 ? -0.125f : 0.125f, d,
                  dst + 8 * l);
    }
}

void fj_block_part(fj_dtype t, const void *block, int j, float *dst) {
    static void (*const part[FJ_DTYPES])(const void *, int, float *) = {
        [FJ_Q8_0] = part_q8_0,     [FJ_Q4_0] = part_q4_0,     [FJ_MXFP4] = part_mxfp4,
        [FJ_Q4_K] = part_q4_k,     [FJ_Q6_K] = part_q6_k,     [FJ_NF4] = part_nf4,
        [FJ_Q4_1] = part_q4_1,     [FJ_Q5_0] = part_q5_0,     [FJ_Q5_1] = part_q5_1,
        [FJ_Q2_K] = part_q2_k,     [FJ_Q3_K] = part_q3_k,     [FJ_Q5_K] = part_q5_k,
        [FJ_IQ4_NL] = part_iq4_nl, [FJ_IQ4_XS] = part_iq4_xs, [FJ_IQ2_XXS] = part_iq2_xxs,
        [FJ_IQ2_XS] = part_iq2_xs, [FJ_IQ2_S] = part_iq2_s,   [FJ_IQ3_XXS] = part_iq3_xxs,
        [FJ_IQ3_S] = part_iq3_s,   [FJ_IQ1_S] = part_iq1_s,   [FJ_IQ1_M] = part_iq1_m,
        [FJ_TQ1_0] = part_tq1_0,   [FJ_TQ2_0] = part_tq2_0,
    };
    part[t](block, j, dst);
}
