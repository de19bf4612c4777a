/* quant_avx2.c - kernels/quant.inc in two registers. */
#include "base/dtype.h"
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>

typedef struct V {
    __m256 a, b;
} V;
static inline V set(float f) { return (V){ _mm256_set1_ps(f), _mm256_set1_ps(f) }; }
static inline V ld(const float *p) { return (V){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
static inline void st(float *p, V v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline V plus(V x, V y) { return (V){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) }; }
static inline V minus(V x, V y) { return (V){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }
static inline V times(V x, V y) { return (V){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
static inline V over(V x, V y) { return (V){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) }; }
static inline V madd(V x, V y, V z) {
    return (V){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static inline V lower(V x, V y) { return (V){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) }; }
static inline V upper(V x, V y) { return (V){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) }; }
static inline __m256 near8(__m256 v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline V near(V v) { return (V){ near8(v.a), near8(v.b) }; }
static inline __m256 less8(__m256 a, __m256 b, __m256 x, __m256 y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline V pick(V a, V b, V x, V y) {
    return (V){ less8(a.a, b.a, x.a, y.a), less8(a.b, b.b, x.b, y.b) };
}
static inline __m256 level8(const float *t, __m256 at) {
    __m256i i = _mm256_cvtps_epi32(at);
    __m256 lo = _mm256_permutevar8x32_ps(_mm256_loadu_ps(t), i),
           hi = _mm256_permutevar8x32_ps(_mm256_loadu_ps(t + 8), i);
    /* bit 3 of the index, brought to the sign */
    return _mm256_blendv_ps(lo, hi, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}
static inline V level_at(const float *t, V at) { return (V){ level8(t, at.a), level8(t, at.b) }; }
static inline void st_bytes(uint8_t *p, V v) {
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b));
    w = _mm256_permute4x64_epi64(w, 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
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
static inline float total(V v) { return total8(_mm256_add_ps(v.a, v.b)); }
static inline float least(V v) { return least8(_mm256_min_ps(v.a, v.b)); }
static inline int first_least(V v) {
    __m256 m = _mm256_set1_ps(least(v));
    int a = _mm256_movemask_ps(_mm256_cmp_ps(v.a, m, _CMP_EQ_OQ)),
        b = _mm256_movemask_ps(_mm256_cmp_ps(v.b, m, _CMP_EQ_OQ));
    return a | b ? __builtin_ctz((unsigned)(a | b << 8)) : 0;
}

#include "kernels/quant.inc"

void fj_kern_avx2_quant(fj_kern *k) { QUANT_KERNELS(k); }
