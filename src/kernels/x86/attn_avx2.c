/* attn_avx2.c - softmax of attention, 8 lanes. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define V __m256
enum { W = 8 };
static inline V set(float f) { return _mm256_set1_ps(f); }
static inline V ld(const float *p) { return _mm256_loadu_ps(p); }
static inline void st(float *p, V v) { _mm256_storeu_ps(p, v); }
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
#define fma fma_v /* not that of math.h */
static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
static inline V within(V v, int from, int to, V other) {
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), at),
                                  _mm256_cmpgt_epi32(at, _mm256_set1_epi32(to - 1)));
    return _mm256_blendv_ps(v, other, _mm256_castsi256_ps(out));
}
static inline float largest(V v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
/* NaN passes: max and min return their second operand then. */
static inline V clamped(V x) { return _mm256_min_ps(set(127), max(set(-127), x)); }
static inline V part(V x) {
    x = clamped(x);
    return sub(x, _mm256_floor_ps(x));
}
/* 2^-127 is not a number of this kind: 0. */
static inline V whole(V x, V r) {
    __m256i n = _mm256_cvtps_epi32(_mm256_floor_ps(clamped(x)));
    n = _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23);
    return mul(r, _mm256_castsi256_ps(n));
}
#include "kernels/x86/bf16_avx2.inc"
static inline void st16(uint16_t *p, V v) {
    __m256i u = bf16(v);
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1)));
}
static inline void st16x2(uint16_t *p, V v, V w) {
    st16(p, v);
    st16(p + W, w);
}

#include "kernels/attn.inc"

void fj_kern_avx2_attn(fj_kern *k) {
    k->attn_soft = attn_soft;
    k->attn_soft_bwd = attn_soft_bwd;
}
