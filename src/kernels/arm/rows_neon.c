/* rows_neon.c - row kernels and conversions, 4 lanes.  Tails go through a buffer of one vector. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define V float32x4_t
enum { W = 4 };
static inline V set(float f) { return vdupq_n_f32(f); }
static inline V ldf(const float *p, int64_t n, float f) {
    float b[W] = { f, f, f, f };
    if (n >= W) return vld1q_f32(p);
    for (int64_t i = 0; i < n; i++) b[i] = p[i];
    return vld1q_f32(b);
}
static inline V ld(const float *p, int64_t n) { return ldf(p, n, 0); }
static inline V ldb(const float *p, int64_t from, int64_t to) {
    float b[W];
    if (from <= 0 && to >= W) return vld1q_f32(p);
    for (int i = 0; i < W; i++) b[i] = i >= from && i < to ? p[i] : -INFINITY;
    return vld1q_f32(b);
}
static inline V keep(V v, V a, V b) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcleq_f32(a, b)));
}
static inline void st(float *p, V v, int64_t n) {
    float b[W];
    if (n >= W) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(b, v);
    for (int64_t i = 0; i < n; i++) p[i] = b[i];
}
static inline V add(V a, V b) { return vaddq_f32(a, b); }
static inline V sub(V a, V b) { return vsubq_f32(a, b); }
static inline V mul(V a, V b) { return vmulq_f32(a, b); }
#define div div_v /* not that of stdlib.h */
static inline V div(V a, V b) { return vdivq_f32(a, b); }
#define fma fma_v
static inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
/* By comparison: FMIN and FMAX pass any NaN, rows.inc counts on the second operand then. */
static inline V min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline V root(V a) { return vsqrtq_f32(a); }
static inline V round_near(V a) { return vrndnq_f32(a); }
/* In two steps, since 2^n alone may lie beyond the numbers. */
static inline V pow2(V p, V n) {
    int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    int32x4_t rest = vsubq_s32(whole, half), bias = vdupq_n_s32(127);
    p = mul(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    return mul(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
}
static inline float largest(V v) { return vmaxvq_f32(v); }
static inline float total(V v) { return vaddvq_f32(v); }
static inline float first(V v) { return vgetq_lane_f32(v, 0); }

typedef struct D {
    float64x2_t a, b;
} D;
static inline D d_zero(void) { return (D){ vdupq_n_f64(0), vdupq_n_f64(0) }; }
static inline float64x2_t low(V v) { return vcvt_f64_f32(vget_low_f32(v)); }
static inline D d_add(D s, V v) {
    return (D){ vaddq_f64(s.a, low(v)), vaddq_f64(s.b, vcvt_high_f64_f32(v)) };
}
static inline D d_addsq(D s, V v) {
    float64x2_t l = low(v), h = vcvt_high_f64_f32(v);
    return (D){ vfmaq_f64(s.a, l, l), vfmaq_f64(s.b, h, h) };
}
static inline double d_sum(D s) { return vaddvq_f64(vaddq_f64(s.a, s.b)); }

#include "kernels/rows.inc"

static inline uint16x4_t ld16(const uint16_t *p, int64_t n) {
    uint16_t b[W] = { 0 };
    if (n >= W) return vld1_u16(p);
    memcpy(b, p, (size_t)n * 2);
    return vld1_u16(b);
}
static inline void st16(uint16_t *p, uint16x4_t v, int64_t n) {
    uint16_t b[W];
    if (n >= W) {
        vst1_u16(p, v);
        return;
    }
    vst1_u16(b, v);
    memcpy(p, b, (size_t)n * 2);
}

static void bf16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH st(y + i, vreinterpretq_f32_u32(vshll_n_u16(ld16(x + i, n - i), 16)), n - i);
}

static void f16_to_f32(float *y, const uint16_t *x, int64_t n) {
    EACH st(y + i, vcvt_f32_f16(vreinterpret_f16_u16(ld16(x + i, n - i))), n - i);
}

static void f32_to_f16(uint16_t *y, const float *x, int64_t n) {
    EACH st16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(ld(x + i, n - i))), n - i);
}

/* Rounded to bf16 in the low half of each lane: nearest even, denormals become zero, a NaN is made
 * quiet.  (BFCVT of the bf16 set keeps denormals.) */
static inline uint32x4_t bf16(V x) {
    uint32x4_t u = vreinterpretq_u32_f32(x), mag = vandq_u32(u, vdupq_n_u32(0x7fffffff));
    uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t sign = vandq_u32(u, vdupq_n_u32(0x80000000)),
               nan = vorrq_u32(u, vdupq_n_u32(0x400000));
    r = vbslq_u32(vcltq_u32(mag, vdupq_n_u32(0x00800000)), sign, r);
    return vshrq_n_u32(vbslq_u32(vcgtq_u32(mag, vdupq_n_u32(0x7f800000)), nan, r), 16);
}

static void f32_to_bf16(uint16_t *y, const float *x, int64_t n) {
    EACH st16(y + i, vmovn_u32(bf16(ld(x + i, n - i))), n - i);
}

static void pairs_bf16(uint32_t *y, const float *a, const float *b, int64_t n) {
    EACH {
        uint32_t t[W];
        uint32x4_t v = bf16(ld(a + i, n - i));
        if (b) v = vsliq_n_u32(v, bf16(ld(b + i, n - i)), 16);
        if (n - i >= W) {
            vst1q_u32(y + i, v);
            continue;
        }
        vst1q_u32(t, v);
        memcpy(y + i, t, (size_t)(n - i) * 4);
    }
}

void fj_kern_neon_rows(fj_kern *k) {
    fill_rows(k);
    k->bf16_to_f32 = bf16_to_f32;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
    k->f32_to_bf16 = f32_to_bf16;
    k->pairs_bf16 = pairs_bf16;
}
