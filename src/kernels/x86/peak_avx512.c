/* peak_avx512.c - what the units of AVX-512, VNNI and BF16 reach. */
#include "kernels/peak.h"

#include <immintrin.h>

#define REG "v"

#define NAME fj_peak_f32_avx512
#define V __m512
#define ZERO _mm512_setzero_ps()
#define OP(s, a, b) _mm512_fmadd_ps(a, b, s)
#define OPS 32
#include "kernels/peak.inc"

#define NAME fj_peak_bf16_avx512
#define V __m512
#define ZERO _mm512_setzero_ps()
#define OP(s, a, b) _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))
#define OPS 64
#include "kernels/peak.inc"

#define NAME fj_peak_int8_avx512
#define V __m512i
#define ZERO _mm512_setzero_si512()
#define OP(s, a, b) _mm512_dpbusd_epi32(s, a, b)
#define OPS 128
#include "kernels/peak.inc"
