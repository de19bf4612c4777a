/* w8_bf16_avx512.c - tiles of codes to pairs of bf16: lanes are columns until their values are rounded, so that
 * scales are vectors, and then 16 pairs of columns by 16 values are turned in registers. */
#include "kernels/kern.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* Value i of each word: d * (code - offset) + m. */
INLINE __m512 value(__m512i word, const int i, __m512i offset, __m512 d, __m512 m, const bool MIN) {
    __m512i x = i ? _mm512_srli_epi32(word, (unsigned)(8 * i)) : word;
    if (i < 3) x = _mm512_and_si512(x, _mm512_set1_epi32(255));
    __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(x, offset)));
    return MIN ? _mm512_add_ps(v, m) : v;
}

INLINE void turn16(uint32_t *dst, int64_t ld, __m512i v[16], int pairs) {
    __m512i a[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512i lo = _mm512_unpacklo_epi32(v[i], v[i + 1]),
                hi = _mm512_unpackhi_epi32(v[i], v[i + 1]),
                lo2 = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]),
                hi2 = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
        a[i] = _mm512_unpacklo_epi64(lo, lo2);
        a[i + 1] = _mm512_unpackhi_epi64(lo, lo2);
        a[i + 2] = _mm512_unpacklo_epi64(hi, hi2);
        a[i + 3] = _mm512_unpackhi_epi64(hi, hi2);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* quarter q of a[4 g + i] has values 4 g ... of pair 4 q + i */
        __m512i x = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x44),
                y = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xee),
                z = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x44),
                w = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xee);
        const __m512i t[4] = { _mm512_shuffle_i32x4(x, z, 0x88), _mm512_shuffle_i32x4(x, z, 0xdd),
                               _mm512_shuffle_i32x4(y, w, 0x88), _mm512_shuffle_i32x4(y, w, 0xdd) };
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++)
            if (4 * q + i < pairs) _mm512_storeu_si512(dst + (4 * q + i) * ld, t[q]);
    }
}

INLINE void pairs_of(uint32_t *dst, int64_t ld, const fj_w8 *w, int nb, int offset, int n,
                     const int HALF, const bool MIN) {
    const __m512i off = _mm512_set1_epi32(offset);
    const __mmask32 columns = n < 32 ? (1u << n) - 1 : UINT32_MAX;
    for (int b = 0; b < nb; b++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const int g = b * HALF + (HALF - 1) * h;
            const __m512 d0 = _mm512_load_ps(w->d[g]), d1 = _mm512_load_ps(w->d[g] + 16);
            const __m512 m0 = _mm512_load_ps(w->m[g]), m1 = _mm512_load_ps(w->m[g] + 16);
            __m512i v[16];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const uint32_t *from = w->w[b][4 * h + j];
                __m512i w0 = _mm512_load_si512(from), w1 = _mm512_load_si512(from + 16);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    __m512i x = (__m512i)_mm512_cvtne2ps_pbh(value(w1, i, off, d1, m1, MIN),
                                                             value(w0, i, off, d0, m0, MIN));
                    v[4 * j + i] = n < 32 ? _mm512_maskz_mov_epi16(columns, x) : x;
                }
            }
            turn16(dst + 32 * b + 16 * h, ld, v, (n + 1) / 2);
        }
}

static void w8_pairs(uint32_t *dst, int64_t ld, const fj_w8 *w, int nb, int kind, int n) {
    const int offset = kind & FJ_A8_OFFSET;
    switch ((kind & FJ_A8_16 ? 2 : 0) + (kind & FJ_A8_MIN ? 1 : 0)) {
    case 0: pairs_of(dst, ld, w, nb, offset, n, 1, false); break;
    case 1: pairs_of(dst, ld, w, nb, offset, n, 1, true); break;
    case 2: pairs_of(dst, ld, w, nb, offset, n, 2, false); break;
    default: pairs_of(dst, ld, w, nb, offset, n, 2, true);
    }
}

void fj_kern_avx512_w8_bf16(fj_kern *k) { k->w8_pairs = w8_pairs; }
