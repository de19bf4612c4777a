/* pack_avx512.c - words of rows to words of columns, 16 rows at a time. */
#include "kernels/kern.h"

#include <immintrin.h>

/* In each quarter of the registers: rows to columns of 4 x 4 words. */
static inline void turn4(__m512i v[4]) {
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]),
            c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 words of up to 16 rows; a line of a row is read once, as rows are often 4 KB apart. */
static inline void words16(uint32_t *dst, int64_t ldd, const char *src, int64_t stride,
                           int64_t rows) {
    __m512i v[16];
    __mmask16 m = (__mmask16)((1u << rows) - 1);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        v[i] = i < rows ? _mm512_loadu_si512(src + i * stride) : _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) turn4(v + i);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* quarter q of v[i + 4 g] has word 4 q + i of rows 4 g ... */
        __m512i a = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x44),
                b = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xee),
                c = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x44),
                d = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xee);
        _mm512_mask_storeu_epi32(dst + i * ldd, m, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_mask_storeu_epi32(dst + (i + 4) * ldd, m, _mm512_shuffle_i32x4(a, c, 0xdd));
        _mm512_mask_storeu_epi32(dst + (i + 8) * ldd, m, _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_mask_storeu_epi32(dst + (i + 12) * ldd, m, _mm512_shuffle_i32x4(b, d, 0xdd));
    }
}

/* Up to 4 words of up to 16 rows. */
static inline void words4(uint32_t *dst, int64_t ldd, const char *src, int64_t stride, int64_t rows,
                          int n) {
    __m512i v[4];
    __mmask8 k = (__mmask8)((1 << n) - 1);
    __mmask16 m = (__mmask16)((1u << rows) - 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m128i q[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            q[j] = _mm_maskz_loadu_epi32(4 * j + i < rows ? k : 0, src + (4 * j + i) * stride);
        v[i] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(q[0]), q[1], 1)),
            _mm256_inserti128_si256(_mm256_castsi128_si256(q[2]), q[3], 1), 1);
    }
    /* Lane 4 j + i of the registers is to have row 4 j + i: quarter j of v[i] has that row. */
    turn4(v);
    for (int i = 0; i < n; i++) _mm512_mask_storeu_epi32(dst + i * ldd, m, v[i]);
}

static void words(uint32_t *dst, int64_t ldd, const void *src, int64_t stride, int64_t rows,
                  int64_t n) {
    for (int64_t i = 0, now; i < n; i += now) {
        now = n - i >= 16 ? 16 : n - i >= 4 ? 4 : n - i;
        for (int64_t r = 0; r < rows; r += 16) {
            uint32_t *to = dst + i * ldd + r;
            const char *from = (const char *)src + r * stride + 4 * i;
            int64_t some = rows - r < 16 ? rows - r : 16;
            if (now == 16 && some == 16) words16(to, ldd, from, stride, 16);
            else if (now == 16) words16(to, ldd, from, stride, some);
            else if (now == 4 && some == 16) words4(to, ldd, from, stride, 16, 4);
            else words4(to, ldd, from, stride, some, (int)now);
        }
    }
}

void fj_kern_avx512_pack(fj_kern *k) { k->words = words; }
