/* rows_avx2.c - row kernels and conversions, 8 lanes; tails by masked loads and stores. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define V __m256
enum { W = 8 };
static inline __m256i lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline V set(float f) { return _mm256_set1_ps(f); }
static inline V ld(const float *p, int64_t n) {
    return n < W ? _mm256_maskload_ps(p, lanes(n)) : _mm256_loadu_ps(p);
}
static inline V ldf(const float *p, int64_t n, float f) {
    if (n >= W) return _mm256_loadu_ps(p);
    return _mm256_blendv_ps(set(f), ld(p, n), _mm256_castsi256_ps(lanes(n)));
}
static inline V ldb(const float *p, int64_t from, int64_t to) {
    V v = ldf(p, to, -INFINITY);
    return from > 0 ? _mm256_blendv_ps(v, set(-INFINITY), _mm256_castsi256_ps(lanes(from))) : v;
}
static inline V keep(V v, V a, V b) { return _mm256_and_ps(v, _mm256_cmp_ps(a, b, _CMP_LE_OQ)); }
static inline void st(float *p, V v, int64_t n) {
    if (n < W) _mm256_maskstore_ps(p, lanes(n), v);
    else _mm256_storeu_ps(p, v);
}
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
#define div div_v /* not that of stdlib.h */
static inline V div(V a, V b) { return _mm256_div_ps(a, b); }
#define fma fma_v
static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V min(V a, V b) { return _mm256_min_ps(a, b); }
static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
static inline V root(V a) { return _mm256_sqrt_ps(a); }
static inline V round_near(V a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* In two steps, since 2^n alone may lie beyond the numbers. */
static inline V pow2(V p, V n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    p = mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
static inline float largest(V v) {
    float f[W], m;
    _mm256_storeu_ps(f, v);
    m = f[0];
    for (int i = 1; i < W; i++) m = f[i] > m ? f[i] : m;
    return m;
}
static inline float total(V v) {
    float f[W];
    _mm256_storeu_ps(f, v);
    return ((f[0] + f[4]) + (f[2] + f[6])) + ((f[1] + f[5]) + (f[3] + f[7]));
}
static inline float first(V v) { return _mm256_cvtss_f32(v); }

typedef struct D {
    __m256d a, b;
} D;
static inline D d_zero(void) { return (D){ _mm256_setzero_pd(), _mm256_setzero_pd() }; }
static inline __m256d low(V v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static inline __m256d high(V v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
static inline D d_add(D s, V v) {
    return (D){ _mm256_add_pd(s.a, low(v)), _mm256_add_pd(s.b, high(v)) };
}
static inline D d_addsq(D s, V v) {
    __m256d l = low(v), h = high(v);
    return (D){ _mm256_fmadd_pd(l, l, s.a), _mm256_fmadd_pd(h, h, s.b) };
}
static inline double d_sum(D s) {
    double d[4];
    _mm256_storeu_pd(d, _mm256_add_pd(s.a, s.b));
    return (d[0] + d[1]) + (d[2] + d[3]);
}

#include "kernels/rows.inc"

/* Tails of 16-bit rows go through a buffer of one vector. */
static inline __m128i ld16(const uint16_t *p, int64_t n) {
    uint16_t b[W] = { 0 };
    if (n >= W) return _mm_loadu_si128((const __m128i *)(const void *)p);
    memcpy(b, p, (size_t)n * 2);
    return _mm_loadu_si128((const __m128i *)(const void *)b);
}
static inline void st16(uint16_t *p, __m128i v, int64_t n) {
    uint16_t b[W];
    if (n >= W) {
        _mm_storeu_si128((__m128i *)(void *)p, v);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)b, v);
    memcpy(p, b, (size_t)n * 2);
}

static void bf16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH {
        __m256i v = _mm256_slli_epi32(_mm256_cvtepu16_epi32(ld16(x + i, n - i)), 16);
        st(y + i, _mm256_castsi256_ps(v), n - i);
    }
}

static void f16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH st(y + i, _mm256_cvtph_ps(ld16(x + i, n - i)), n - i);
}

static void f32_to_f16(uint16_t *y, const float *x, int64_t n) {
    EACH st16(y + i,
              _mm256_cvtps_ph(ld(x + i, n - i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
              n - i);
}

#include "kernels/x86/bf16_avx2.inc"

static void f32_to_bf16(uint16_t *y, const float *x, int64_t n) {
    EACH {
        __m256i v = bf16(ld(x + i, n - i));
        st16(y + i, _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)),
             n - i);
    }
}

static void f16_to_bf16(uint16_t *y, const uint16_t *x, int64_t n) {
    float t[256];
    for (int64_t i = 0; i < n; i += 256) {
        int64_t m = n - i < 256 ? n - i : 256;
        f16_to_f32(t, x + i, m);
        f32_to_bf16(y + i, t, m);
    }
}

static void pairs_bf16(uint32_t *y, const float *a, const float *b, int64_t n) {
    EACH {
        __m256i v = bf16(ld(a + i, n - i));
        if (b) v = _mm256_or_si256(v, _mm256_slli_epi32(bf16(ld(b + i, n - i)), 16));
        if (n - i < W) _mm256_maskstore_epi32((int *)(void *)(y + i), lanes(n - i), v);
        else _mm256_storeu_si256((__m256i *)(void *)(y + i), v);
    }
}

void fj_kern_avx2_rows(fj_kern *k) {
    fill_rows(k);
    k->bf16_to_f32 = bf16_to_f32;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
    k->f32_to_bf16 = f32_to_bf16;
    k->f16_to_bf16 = f16_to_bf16;
    k->pairs_bf16 = pairs_bf16;
}
