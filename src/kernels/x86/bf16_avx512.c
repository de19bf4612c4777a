/* bf16_avx512.c - tiles of bf16 products by vdpbf16ps, and rounding to bf16. */
#include "kernels/kern.h"

#include <immintrin.h>

#define COLUMNS 0
#define ELEM uint32_t
#define VEC __m512i
#define SPLAT(p) _mm512_set1_epi32((int)*(p))
#define LOAD(p) _mm512_loadu_si512(p)
#define MADD(s, a, b) _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))
#include "kernels/x86/tile_avx512.inc"

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    tiles(t, ldt, a, ars, 1, b, ldb, k, mr, np, first, next, bytes);
}

void fj_gemm_bf16_avx512(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                         int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                         int64_t bytes) {
    gemm_bf16(t, ldt, a, ars, b, ldb, k, mr, np, first, next, bytes);
}

#include "kernels/attn_tiles.inc"

static __mmask16 lanes(int64_t n) {
    return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

static void f32_to_bf16(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        _mm256_mask_storeu_epi16(y + i, m,
                                 (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i)));
    }
}

/* Panels of weights are read front to back, a piece at a time with a product between: what comes after the piece
 * is asked for before. */
static void f16_to_bf16(uint16_t *y, const uint16_t *x, int64_t n) {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm_prefetch((const char *)((uintptr_t)(x + i) + 2048), _MM_HINT_T0);
        __m512 lo = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)));
        __m512 hi =
            _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(x + i + 16)));
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
    for (; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512 v = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, x + i));
        _mm256_mask_storeu_epi16(y + i, m, (__m256i)_mm512_cvtneps_pbh(v));
    }
}

static void pairs_bf16(uint32_t *y, const float *a, const float *b, int64_t n) {
    int64_t i = 0;
    /* value j of a, then of b: words j and 16 + j of what cvtne2ps makes */
    const __m512i zip = _mm512_cvtepi8_epi16(
        _mm256_setr_epi8(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10,
                         26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    for (; b && i + 16 <= n; i += 16) {
        __m512i v = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(b + i), _mm512_loadu_ps(a + i));
        _mm512_storeu_si512(y + i, _mm512_permutexvar_epi16(zip, v));
    }
    for (; i < n; i += 16) {
        __mmask16 m = lanes(n - i);
        __m512i v =
            _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, a + i)));
        if (b) {
            __m512i w =
                _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, b + i)));
            v = _mm512_or_si512(v, _mm512_slli_epi32(w, 16));
        }
        _mm512_mask_storeu_epi32(y + i, m, v);
    }
}

void fj_kern_avx512_bf16(fj_kern *k) {
    k->gemm_bf16 = fj_gemm_bf16_avx512;
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
    k->f32_to_bf16 = f32_to_bf16;
    k->f16_to_bf16 = f16_to_bf16;
    k->pairs_bf16 = pairs_bf16;
}
