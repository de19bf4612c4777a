/* quant_avx512.c - kernels/quant.inc in one register. */
#include "base/dtype.h"
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>

#define V __m512
static inline V set(float f) { return _mm512_set1_ps(f); }
static inline V ld(const float *p) { return _mm512_loadu_ps(p); }
static inline void st(float *p, V v) { _mm512_storeu_ps(p, v); }
static inline V plus(V a, V b) { return _mm512_add_ps(a, b); }
static inline V minus(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V times(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V over(V a, V b) { return _mm512_div_ps(a, b); }
static inline V madd(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V lower(V a, V b) { return _mm512_min_ps(a, b); }
static inline V upper(V a, V b) { return _mm512_max_ps(a, b); }
static inline V near(V v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline V pick(V a, V b, V x, V y) {
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x);
}
static inline V level_at(const float *t, V at) {
    return _mm512_permutexvar_ps(_mm512_cvtps_epi32(at), _mm512_loadu_ps(t));
}
static inline void st_bytes(uint8_t *p, V v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

static inline float total8(__m256 a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float least8(__m256 a) {
    __m128 b = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_min_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_min_ss(b, _mm_movehdup_ps(b)));
}
static inline float total(V v) {
    return total8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
static inline float least(V v) {
    return least8(_mm256_min_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
static inline int first_least(V v) {
    unsigned is = _mm512_cmp_ps_mask(v, set(least(v)), _CMP_EQ_OQ);
    return is ? __builtin_ctz(is) : 0;
}

#include "kernels/quant.inc"

void fj_kern_avx512_quant(fj_kern *k) { QUANT_KERNELS(k); }
