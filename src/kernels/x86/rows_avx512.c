/* rows_avx512.c - row kernels and conversions, 16 lanes; tails by masks. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>

#define V __m512
enum { W = 16 };
static inline __mmask16 lanes(int64_t n) {
    return n >= 16 ? (__mmask16)0xffff : n > 0 ? (__mmask16)((1u << n) - 1) : (__mmask16)0;
}
static inline V set(float f) { return _mm512_set1_ps(f); }
static inline V ld(const float *p, int64_t n) {
    return n >= W ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(lanes(n), p);
}
static inline V ldf(const float *p, int64_t n, float f) {
    return _mm512_mask_loadu_ps(set(f), lanes(n), p);
}
static inline V ldb(const float *p, int64_t from, int64_t to) {
    if (from <= 0 && to >= W) return _mm512_loadu_ps(p);
    return _mm512_mask_loadu_ps(set(-INFINITY), (__mmask16)(lanes(to) & ~lanes(from)), p);
}
static inline V keep(V v, V a, V b) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), v);
}
static inline void st(float *p, V v, int64_t n) {
    if (n >= W) _mm512_storeu_ps(p, v);
    else _mm512_mask_storeu_ps(p, lanes(n), v);
}
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
#define div div_v /* not that of stdlib.h */
static inline V div(V a, V b) { return _mm512_div_ps(a, b); }
#define fma fma_v
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V min(V a, V b) { return _mm512_min_ps(a, b); }
static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V root(V a) { return _mm512_sqrt_ps(a); }
static inline V round_near(V a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline V pow2(V p, V n) { return _mm512_scalef_ps(p, n); }
static inline float largest(V v) { return _mm512_reduce_max_ps(v); }
static inline float total(V v) { return _mm512_reduce_add_ps(v); }
static inline float first(V v) { return _mm512_cvtss_f32(v); }

typedef struct D {
    __m512d a, b;
} D;
static inline D d_zero(void) { return (D){ _mm512_setzero_pd(), _mm512_setzero_pd() }; }
static inline __m512d low(V v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
static inline __m512d high(V v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
static inline D d_add(D s, V v) {
    return (D){ _mm512_add_pd(s.a, low(v)), _mm512_add_pd(s.b, high(v)) };
}
static inline D d_addsq(D s, V v) {
    __m512d l = low(v), h = high(v);
    return (D){ _mm512_fmadd_pd(l, l, s.a), _mm512_fmadd_pd(h, h, s.b) };
}
static inline double d_sum(D s) { return _mm512_reduce_add_pd(_mm512_add_pd(s.a, s.b)); }

#include "kernels/rows.inc"

static int64_t between(int32_t *at, const float *x, float lo, float hi, int64_t n) {
    const __m512i each = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const V a = set(lo), b = set(hi);
    int64_t k = 0;
    EACH {
        V v = ld(x + i, n - i);
        __mmask16 m = _mm512_mask_cmp_ps_mask(lanes(n - i), v, a, _CMP_GE_OQ);
        m = _mm512_mask_cmp_ps_mask(m, v, b, _CMP_LE_OQ);
        if (!m) continue;
        /* In a register: some processors are slow at storing the lanes of a mask. */
        __m512i ids =
            _mm512_maskz_compress_epi32(m, _mm512_add_epi32(each, _mm512_set1_epi32((int)i)));
        int found = __builtin_popcount(m);
        _mm512_mask_storeu_epi32(at + k, lanes(found), ids);
        k += found;
    }
    return k;
}

static inline __m256i ld16(const uint16_t *p, int64_t n) {
    return n >= W ? _mm256_loadu_si256((const __m256i *)(const void *)p)
                  : _mm256_maskz_loadu_epi16(lanes(n), p);
}

static void bf16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH {
        __m512i v = _mm512_slli_epi32(_mm512_cvtepu16_epi32(ld16(x + i, n - i)), 16);
        st(y + i, _mm512_castsi512_ps(v), n - i);
    }
}

static void f16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH st(y + i, _mm512_cvtph_ps(ld16(x + i, n - i)), n - i);
}

static void f32_to_f16(uint16_t *y, const float *x, int64_t n) {
    EACH _mm256_mask_storeu_epi16(
        y + i, lanes(n - i),
        _mm512_cvtps_ph(ld(x + i, n - i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

void fj_kern_avx512_rows(fj_kern *k) {
    fill_rows(k);
    k->between = between;
    k->bf16_to_f32 = bf16_to_f32;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
}
