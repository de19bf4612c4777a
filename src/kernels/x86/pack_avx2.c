/* pack_avx2.c - words of rows to words of columns, 8 rows at a time. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <string.h>

static inline __m128i load(const char *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* 4 words of 8 rows. */
static inline void words4(uint32_t *dst, int64_t ldd, const char *src, int64_t stride) {
    __m256i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load(src + i * stride)),
                                       load(src + (i + 4) * stride), 1);
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]),
            c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm256_unpacklo_epi64(a, c);
    v[1] = _mm256_unpackhi_epi64(a, c);
    v[2] = _mm256_unpacklo_epi64(b, d);
    v[3] = _mm256_unpackhi_epi64(b, d);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)(void *)(dst + i * ldd), v[i]);
}

static void words(uint32_t *dst, int64_t ldd, const void *src, int64_t stride, int64_t rows,
                  int64_t n) {
    for (int64_t i = 0; i < n; i += 4)
        for (int64_t r = 0; r < rows; r += 8) {
            uint32_t *to = dst + i * ldd + r;
            const char *from = (const char *)src + r * stride + 4 * i;
            if (n - i >= 4 && rows - r >= 8) {
                words4(to, ldd, from, stride);
                continue;
            }
            for (int64_t j = 0; j < 4 && j < n - i; j++)
                for (int64_t c = 0; c < 8 && c < rows - r; c++)
                    memcpy(to + j * ldd + c, from + c * stride + 4 * j, 4);
        }
}

void fj_kern_avx2_pack(fj_kern *k) { k->words = words; }
