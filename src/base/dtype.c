#include "base/blocks.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const fj_dtype_info infos[FJ_DTYPES] = {
    [FJ_F32] = { "F32", 1, 4, 0, "F32" },
    [FJ_F16] = { "F16", 1, 2, 1, "F16" },
    [FJ_BF16] = { "BF16", 1, 2, 30, "BF16" },
    [FJ_Q8_0] = { "Q8_0", 32, 34, 8, NULL },
    [FJ_Q4_0] = { "Q4_0", 32, 18, 2, NULL },
    [FJ_MXFP4] = { "MXFP4", 32, 17, 39, NULL },
    [FJ_Q4_K] = { "Q4_K", 256, 144, 12, NULL },
    [FJ_Q6_K] = { "Q6_K", 256, 210, 14, NULL },
    [FJ_NF4] = { "NF4", 64, 34, -1, NULL },
    [FJ_I32] = { "I32", 1, 4, 26, "I32" },
    [FJ_F64] = { "F64", 1, 8, 28, "F64" },
    [FJ_Q4_1] = { "Q4_1", 32, 20, 3, NULL },
    [FJ_Q5_0] = { "Q5_0", 32, 22, 6, NULL },
    [FJ_Q5_1] = { "Q5_1", 32, 24, 7, NULL },
    [FJ_Q2_K] = { "Q2_K", 256, 84, 10, NULL },
    [FJ_Q3_K] = { "Q3_K", 256, 110, 11, NULL },
    [FJ_Q5_K] = { "Q5_K", 256, 176, 13, NULL },
    [FJ_IQ4_NL] = { "IQ4_NL", 32, 18, 20, NULL },
    [FJ_IQ4_XS] = { "IQ4_XS", 256, 136, 23, NULL },
    [FJ_IQ2_XXS] = { "IQ2_XXS", 256, 66, 16, NULL },
    [FJ_IQ2_XS] = { "IQ2_XS", 256, 74, 17, NULL },
    [FJ_IQ2_S] = { "IQ2_S", 256, 82, 22, NULL },
    [FJ_IQ3_XXS] = { "IQ3_XXS", 256, 98, 18, NULL },
    [FJ_IQ3_S] = { "IQ3_S", 256, 110, 21, NULL },
    [FJ_IQ1_S] = { "IQ1_S", 256, 50, 19, NULL },
    [FJ_IQ1_M] = { "IQ1_M", 256, 56, 29, NULL },
    [FJ_TQ1_0] = { "TQ1_0", 256, 54, 34, NULL },
    [FJ_TQ2_0] = { "TQ2_0", 256, 66, 35, NULL },
};

const int8_t fj_e2m1_doubled[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* bitsandbytes/functional.py (create_normal_map, get_4bit_type). */
const float fj_nf4_code[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

const fj_dtype_info *fj_dtype_get(fj_dtype t) { return &infos[t]; }

bool fj_dtype_parse(const char *name, fj_dtype *t) {
    for (int i = 0; i < FJ_DTYPES; i++) {
        if (strcasecmp(name, infos[i].name)) continue;
        *t = (fj_dtype)i;
        return true;
    }
    return false;
}

bool fj_dtype_from_gguf(uint32_t id, fj_dtype *t) {
    for (int i = 0; i < FJ_DTYPES; i++) {
        if (infos[i].gguf < 0 || (uint32_t)infos[i].gguf != id) continue;
        *t = (fj_dtype)i;
        return true;
    }
    return false;
}

int64_t fj_dtype_size(fj_dtype t, int64_t rows, int64_t cols) {
    const fj_dtype_info *d = &infos[t];
    int64_t n;
    if (rows < 0 || cols < 0 || cols % d->block) return -1;
    if (__builtin_mul_overflow(cols / d->block, (int64_t)d->bytes, &n)) return -1;
    if (__builtin_mul_overflow(n, rows, &n)) return -1;
    return n;
}

static uint32_t bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t fj_f32_to_bf16(float f) {
    uint32_t u = bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float fj_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) return from_bits(sign | 0x7f800000 | man << 13);
    if (exp) return from_bits(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f;
    return sign ? -f : f;
}

uint16_t fj_f32_to_f16(float f) {
    uint32_t u = bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to infinity */
    if (a < 0x38800000) { /* subnormal: let the adder round to nearest even */
        float m = from_bits(a) + 0.5f;
        return (uint16_t)(sign | (bits(m) - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

void fj_dequant_part(fj_dtype t, const void *src, int64_t from, float *dst, int64_t n) {
    const fj_dtype_info *d = &infos[t];
    if (d->block == 1) {
        fj_dequant_row(t, (const char *)src + from * d->bytes, dst, n);
        return;
    }
    for (int64_t i = from; i < from + n; i += 32, dst += 32)
        fj_block_part(t, (const char *)src + i / d->block * d->bytes, (int)(i % d->block / 32),
                      dst);
}

void fj_dequant_row(fj_dtype t, const void *src, float *dst, int64_t n) {
    switch (t) {
    case FJ_F32: memcpy(dst, src, (size_t)n * 4); break;
    case FJ_F64:
        for (int64_t i = 0; i < n; i++) dst[i] = (float)((const double *)src)[i];
        break;
    case FJ_F16:
        for (int64_t i = 0; i < n; i++) dst[i] = fj_f16_to_f32(((const uint16_t *)src)[i]);
        break;
    case FJ_BF16:
        for (int64_t i = 0; i < n; i++) dst[i] = fj_bf16_to_f32(((const uint16_t *)src)[i]);
        break;
    case FJ_I32:
    case FJ_DTYPES: break;
    default: fj_dequant_part(t, src, 0, dst, n);
    }
}

/* 0 where 1/d is not finite: such a block is zero in f16 anyway. */
static float inverse(float d) { return d != 0 && isfinite(1 / d) ? 1 / d : 0; }

/* A NaN or an infinity in a weight must not become undefined behaviour: NaN gives 0. */
static int within(float x, int lo, int hi) {
    if (isnan(x)) return 0;
    return x < (float)lo ? lo : x > (float)hi ? hi : (int)x;
}

static void quant_q8_0(const float *x, fj_q8_0 *q) {
    float amax = 0;
    for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
    float d = amax / 127, id = inverse(d);
    q->d = fj_f32_to_f16(d);
    for (int i = 0; i < 32; i++) q->q[i] = (int8_t)within(roundf(x[i] * id), -127, 127);
}

static void quant_q4_0(const float *x, fj_q4_0 *q) {
    float amax = 0, max = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            max = x[i];
        }
    float d = max / -8, id = inverse(d);
    q->d = fj_f32_to_f16(d);
    for (int i = 0; i < 16; i++) {
        int ia = within(x[i] * id + 8.5f, 0, 15), ib = within(x[i + 16] * id + 8.5f, 0, 15);
        q->q[i] = (uint8_t)(ia | ib << 4);
    }
}

/* The nearest, of two equally near ones that of the lower code. */
static uint8_t nearest_e2m1(float x, float d) {
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (fabsf(d * fj_e2m1_doubled[i] - x) < fabsf(d * fj_e2m1_doubled[best] - x)) best = i;
    return (uint8_t)best;
}

static void quant_mxfp4(const float *x, fj_mxfp4 *q) {
    float amax = 0;
    for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
    /* 6 = 1.5 * 2^2 is the largest e2m1. */
    q->e = (uint8_t)(amax > 0 ? within(floorf(log2f(amax)) - 2 + 127, 0, 254) : 0);
    float d = fj_e8m0_half(q->e);
    for (int i = 0; i < 16; i++)
        q->q[i] = (uint8_t)(nearest_e2m1(x[i], d) | nearest_e2m1(x[i + 16], d) << 4);
}

/* The nearest code to x / absmax, of two equally near ones the lower. */
static uint8_t nearest_nf4(float x) {
    int low = 0; /* by halves: the number of middles between codes that are below x */
    for (int step = 8; step; step /= 2) {
        int i = low + step;
        if (x > (fj_nf4_code[i - 1] + fj_nf4_code[i]) / 2) low = i;
    }
    return (uint8_t)low;
}

static void quant_nf4(const float *x, fj_nf4 *q) {
    float amax = 0;
    for (int i = 0; i < 64; i++) amax = fmaxf(amax, fabsf(x[i]));
    q->absmax = fj_f32_to_f16(amax);
    float id = inverse(fj_f16_to_f32(q->absmax));
    for (int i = 0; i < 32; i++)
        q->q[i] = (uint8_t)(nearest_nf4(x[2 * i] * id) << 4 | nearest_nf4(x[2 * i + 1] * id));
}

void fj_quant_row(fj_dtype t, const float *src, void *dst, int64_t n) {
    switch (t) {
    case FJ_F32: memcpy(dst, src, (size_t)n * 4); break;
    case FJ_F64:
        for (int64_t i = 0; i < n; i++) ((double *)dst)[i] = src[i];
        break;
    case FJ_F16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = fj_f32_to_f16(src[i]);
        break;
    case FJ_BF16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = fj_f32_to_bf16(src[i]);
        break;
    case FJ_Q8_0:
        for (int64_t b = 0; b < n / 32; b++) quant_q8_0(src + b * 32, (fj_q8_0 *)dst + b);
        break;
    case FJ_Q4_0:
        for (int64_t b = 0; b < n / 32; b++) quant_q4_0(src + b * 32, (fj_q4_0 *)dst + b);
        break;
    case FJ_MXFP4:
        for (int64_t b = 0; b < n / 32; b++) quant_mxfp4(src + b * 32, (fj_mxfp4 *)dst + b);
        break;
    case FJ_Q4_K:
        for (int64_t b = 0; b < n / 256; b++) fj_quant_q4_k(src + b * 256, (fj_q4_k *)dst + b);
        break;
    case FJ_Q6_K:
        for (int64_t b = 0; b < n / 256; b++) fj_quant_q6_k(src + b * 256, (fj_q6_k *)dst + b);
        break;
    case FJ_NF4:
        for (int64_t b = 0; b < n / 64; b++) quant_nf4(src + b * 64, (fj_nf4 *)dst + b);
        break;
    default: FJ_ASSERT(!"a format that is only read"); break;
    }
}

/* Value i of a block is a nibble of byte i / 2 there, of byte i % 16 here. */
void fj_mxfp4_from_blocks(void *dst, const uint8_t *blocks, const uint8_t *scales, int64_t rows,
                          int64_t k) {
    fj_mxfp4 *to = dst;
    for (int64_t b = 0; b < rows * (k / 32); b++, blocks += 16) {
        to[b].e = scales[b];
        for (int i = 0; i < 16; i++) {
            int low = blocks[i / 2] >> i % 2 * 4 & 15, high = blocks[8 + i / 2] >> i % 2 * 4 & 15;
            to[b].q[i] = (uint8_t)(low | high << 4);
        }
    }
}

void fj_mxfp4_to_blocks(const void *src, uint8_t *blocks, uint8_t *scales, int64_t rows,
                        int64_t k) {
    const fj_mxfp4 *from = src;
    for (int64_t b = 0; b < rows * (k / 32); b++, blocks += 16) {
        const uint8_t *q = from[b].q;
        scales[b] = from[b].e;
        for (int j = 0; j < 8; j++) {
            blocks[j] = (uint8_t)((q[2 * j] & 15) | (q[2 * j + 1] & 15) << 4);
            blocks[8 + j] = (uint8_t)(q[2 * j] >> 4 | (q[2 * j + 1] & 0xf0));
        }
    }
}
