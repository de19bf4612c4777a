/* peak_avx2.c - what the units of AVX2 and FMA reach. */
#include "kernels/peak.h"

#include <immintrin.h>

#define REG "v"

#define NAME fj_peak_f32_avx2
#define V __m256
#define ZERO _mm256_setzero_ps()
#define OP(s, a, b) _mm256_fmadd_ps(a, b, s)
#define OPS 16
#include "kernels/peak.inc"

/* 32 products of bytes: pairs, then pairs of pairs, then the sum. */
static inline __m256i dot(__m256i s, __m256i a, __m256i b) {
    __m256i one = _mm256_set1_epi16(1), p = _mm256_maddubs_epi16(a, b);
    __asm__ volatile("" : "+x"(p)); /* the same for all chains otherwise */
    return _mm256_add_epi32(s, _mm256_madd_epi16(p, one));
}

#define NAME fj_peak_int8_avx2
#define V __m256i
#define ZERO _mm256_setzero_si256()
#define OP(s, a, b) dot(s, a, b)
#define OPS 64
#include "kernels/peak.inc"
