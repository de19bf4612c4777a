/* blocks_avx512.c - blocks that have no panels (NF4, lattices, ternary digits) to float: levels are looked up in a
 * register, 16 at once. */
#include "base/blocks.h"
#include "kernels/kern.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t word(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* A permutation takes the lowest four bits of an index: a table of 4 or 8 levels is written often enough for
 * what is above its bits not to matter. */
INLINE __m512 table4(float a, float b, float c, float d) { return _mm512_setr4_ps(a, b, c, d); }

INLINE __m512 table8(const float *level) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(level)); }

/* d times v, negative where a bit of sign is set. */
INLINE void put(float *dst, __m512 v, float d, uint32_t sign) {
    __m512i x = _mm512_castps_si512(_mm512_mul_ps(_mm512_set1_ps(d), v));
    x = _mm512_mask_xor_epi32(x, (__mmask16)sign, x, _mm512_set1_epi32((int)0x80000000));
    _mm512_storeu_si512(dst, x);
}

/* Two points of eight levels, two bits each. */
INLINE __m512 levels2(__m512 table, uint32_t points) {
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32((int)points), at), table);
}

/* Four points of four levels, three bits each. */
INLINE __m512 levels3(__m512 table, uint32_t two, uint32_t two_more) {
    const __m512i at = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 0, 3, 6, 9, 12, 15, 18, 21);
    __m512i p = _mm512_mask_set1_epi32(_mm512_set1_epi32((int)two), 0xff00, (int)two_more);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(p, at), table);
}

/* As eight_signs of blocks.c, four times seven bits. */
INLINE uint32_t signs7(uint32_t bits) {
    uint32_t all = 0;
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++) {
        uint32_t seven = bits >> 7 * l & 127;
        all |= (seven | (uint32_t)(__builtin_popcount(seven) & 1) << 7) << 8 * l;
    }
    return all;
}

INLINE float scale_iq2(uint16_t d, uint32_t scale) {
    return fj_f16_to_f32(d) * (0.5f + (float)scale) * 0.25f;
}

INLINE void put_iq2(float *dst, const uint32_t p[4], uint32_t sign, float d0, float d1) {
    const __m512 t = table4(8, 25, 43, 0);
    put(dst, levels2(t, p[0] | p[1] << 16), d0, sign);
    put(dst + 16, levels2(t, p[2] | p[3] << 16), d1, sign >> 16);
}

INLINE void put_iq3(float *dst, const float *level, const uint32_t p[8], uint32_t sign, float d) {
    const __m512 t = table8(level);
    put(dst, levels3(t, p[0] | p[1] << 12, p[2] | p[3] << 12), d, sign);
    put(dst + 16, levels3(t, p[4] | p[5] << 12, p[6] | p[7] << 12), d, sign >> 16);
}

/* shift: 4 bits that say where it is negative. */
INLINE void put_iq1(float *dst, const uint32_t p[4], uint32_t shift, float d0, float d1) {
    const __m512 t = table4(-1, 0, 1, 2), eighth = _mm512_set1_ps(0.125f),
                 minus = _mm512_set1_ps(-0.125f);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        uint32_t s = shift >> 2 * h;
        __mmask16 m = (__mmask16)((s & 1 ? 0xff : 0) | (s & 2 ? 0xff00 : 0));
        __m512 v = _mm512_add_ps(levels2(t, p[2 * h] | p[2 * h + 1] << 16),
                                 _mm512_mask_mov_ps(eighth, m, minus));
        put(dst + 16 * h, v, h ? d1 : d0, 0);
    }
}

INLINE void part(fj_dtype t, const void *block, int j, float *dst) {
    static const float xxs[8] = { 4, 12, 20, 28, 36, 44, 52, 62 },
                       odd[8] = { 1, 3, 5, 7, 9, 11, 13, 15 };
    uint32_t p[8];
    switch (t) {
    case FJ_IQ2_XXS: {
        const fj_iq2_xxs *b = block;
        const uint8_t *q = b->q + 8 * j;
        uint32_t more = word(q + 4);
        for (int l = 0; l < 4; l++) p[l] = fj_iq2_xxs_points[q[l]];
        float d = scale_iq2(b->d, more >> 28);
        put_iq2(dst, p, signs7(more), d, d);
        break;
    }
    case FJ_IQ2_XS: {
        const fj_iq2_xs *b = block;
        uint32_t seven = 0;
        for (int l = 0; l < 4; l++) {
            uint32_t q = b->q[4 * j + l];
            p[l] = fj_iq2_xs_points[q & 511];
            seven |= q >> 9 << 7 * l;
        }
        put_iq2(dst, p, signs7(seven), scale_iq2(b->d, b->scale[j] & 15),
                scale_iq2(b->d, b->scale[j] >> 4));
        break;
    }
    case FJ_IQ2_S: {
        const fj_iq2_s *b = block;
        for (int l = 0; l < 4; l++)
            p[l] = fj_iq2_s_points[b->q[4 * j + l] | (uint32_t)(b->high[j] >> 2 * l & 3) << 8];
        put_iq2(dst, p, word(b->sign + 4 * j), scale_iq2(b->d, b->scale[j] & 15),
                scale_iq2(b->d, b->scale[j] >> 4));
        break;
    }
    case FJ_IQ3_XXS: {
        const fj_iq3_xxs *b = block;
        uint32_t more = word(b->signs + 4 * j);
        for (int k = 0; k < 8; k++) p[k] = fj_iq3_xxs_points[b->q[8 * j + k]];
        put_iq3(dst, xxs, p, signs7(more),
                fj_f16_to_f32(b->d) * (0.5f + (float)(more >> 28)) * 0.5f);
        break;
    }
    case FJ_IQ3_S: {
        const fj_iq3_s *b = block;
        for (int k = 0; k < 8; k++)
            p[k] = fj_iq3_s_points[b->q[8 * j + k] | (uint32_t)(b->high[j] >> k & 1) << 8];
        put_iq3(dst, odd, p, word(b->sign + 4 * j),
                fj_f16_to_f32(b->d) * (float)(1 + 2 * (b->scale[j / 2] >> 4 * (j % 2) & 15)));
        break;
    }
    case FJ_IQ1_S: {
        const fj_iq1_s *b = block;
        uint32_t h = b->high[j];
        for (int l = 0; l < 4; l++) p[l] = fj_iq1_points[b->q[4 * j + l] | (h >> 3 * l & 7) << 8];
        float d = fj_f16_to_f32(b->d) * (float)(2 * (h >> 12 & 7) + 1);
        put_iq1(dst, p, h >> 15 ? 15 : 0, d, d);
        break;
    }
    case FJ_IQ1_M: {
        const fj_iq1_m *b = block;
        const uint16_t *s = b->scale;
        float d[2], all = fj_f16_to_f32((uint16_t)(s[0] >> 12 | (s[1] >> 12) << 4 |
                                                   (s[2] >> 12) << 8 | (s[3] >> 12) << 12));
        uint32_t shift = 0;
        for (int l = 0; l < 4; l++) {
            int g = 2 * j + l / 2;
            uint32_t h = (uint32_t)b->high[g] >> 4 * (l % 2);
            p[l] = fj_iq1_points[b->q[4 * j + l] | (h & 7) << 8];
            shift |= (h >> 3 & 1) << l;
            d[l / 2] = all * (float)(2 * (s[g / 4] >> 3 * (g % 4) & 7) + 1);
        }
        put_iq1(dst, p, shift, d[0], d[1]);
        break;
    }
    default: fj_block_part(t, block, j, dst);
    }
}

INLINE void nf4(const fj_nf4 *b, int j, float *dst) {
    const __m512 table = _mm512_loadu_ps(fj_nf4_code), d = _mm512_set1_ps(fj_f16_to_f32(b->absmax));
    const __m512i shift = _mm512_set1_epi64(4); /* the first of two is in the high half */
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i q = _mm512_cvtepu8_epi64(
            _mm_loadl_epi64((const __m128i *)(const void *)(b->q + 16 * j + 8 * h)));
        q = _mm512_srlv_epi32(_mm512_shuffle_epi32(q, 0xa0), shift);
        _mm512_storeu_ps(dst + 16 * h, _mm512_mul_ps(d, _mm512_permutexvar_ps(q, table)));
    }
}

INLINE void put_digits(float *dst, __m512i digit, float d) {
    __m512i v = _mm512_sub_epi32(digit, _mm512_set1_epi32(1));
    _mm512_storeu_ps(dst, _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(v)));
}

INLINE __m512i bytes16(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE void tq2_0(const fj_tq2_0 *b, int j, float *dst) {
    for (int h = 0; h < 2; h++) {
        __m512i q =
            _mm512_srl_epi32(bytes16(b->q + j / 4 * 32 + 16 * h), _mm_cvtsi32_si128(j % 4 * 2));
        put_digits(dst + 16 * h, _mm512_and_si512(q, _mm512_set1_epi32(3)), fj_f16_to_f32(b->d));
    }
}

INLINE void tq1_0(const fj_tq1_0 *b, int j, float *dst) {
    static const int32_t power[5] = { 1, 3, 9, 27, 81 };
    for (int h = 0; h < 2; h++) {
        __m512i q, p;
        if (j < 5) q = bytes16(b->q + 16 * h), p = _mm512_set1_epi32(power[j]);
        else if (j < 7 || h == 0)
            q = bytes16(b->q + 32), p = _mm512_set1_epi32(power[2 * j - 10 + h]);
        else {
            q = _mm512_cvtepu8_epi32(_mm_set1_epi32((int)word(b->tail)));
            p = _mm512_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27);
        }
        q = _mm512_and_si512(_mm512_mullo_epi32(q, p), _mm512_set1_epi32(255));
        q = _mm512_srli_epi32(_mm512_add_epi32(q, _mm512_slli_epi32(q, 1)), 8);
        put_digits(dst + 16 * h, q, fj_f16_to_f32(b->d));
    }
}

/* Parts of blocks of SIZE bytes for VALUES values. */
#define EACH(VALUES, SIZE, PART)                                                                   \
    for (int64_t i = from; i < from + n; i += 32, dst += 32) {                                     \
        const void *b = (const char *)row + i / (VALUES) * (int64_t)(SIZE);                        \
        const int j = (int)(i % (VALUES) / 32);                                                    \
        PART;                                                                                      \
    }

static void dequant(float *dst, fj_dtype t, const void *row, int64_t from, int64_t n) {
    switch (t) {
#define CASE(F, type)                                                                              \
    case F: EACH(256, sizeof(type), part(F, b, j, dst)) break;
        CASE(FJ_IQ2_XXS, fj_iq2_xxs)
        CASE(FJ_IQ2_XS, fj_iq2_xs)
        CASE(FJ_IQ2_S, fj_iq2_s)
        CASE(FJ_IQ3_XXS, fj_iq3_xxs)
        CASE(FJ_IQ3_S, fj_iq3_s)
        CASE(FJ_IQ1_S, fj_iq1_s)
        CASE(FJ_IQ1_M, fj_iq1_m)
#undef CASE
    case FJ_NF4: EACH(64, sizeof(fj_nf4), nf4(b, j, dst)) break;
    case FJ_TQ1_0: EACH(256, sizeof(fj_tq1_0), tq1_0(b, j, dst)) break;
    case FJ_TQ2_0: EACH(256, sizeof(fj_tq2_0), tq2_0(b, j, dst)) break;
    default: fj_dequant_part(t, row, from, dst, n);
    }
}

void fj_kern_avx512_blocks(fj_kern *k) { k->dequant = dequant; }
