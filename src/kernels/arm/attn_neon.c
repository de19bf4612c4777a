/* attn_neon.c - softmax of attention, 4 lanes. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define V float32x4_t
enum { W = 4 };
static inline V set(float f) { return vdupq_n_f32(f); }
static inline V ld(const float *p) { return vld1q_f32(p); }
static inline void st(float *p, V v) { vst1q_f32(p, v); }
static inline V add(V a, V b) { return vaddq_f32(a, b); }
static inline V sub(V a, V b) { return vsubq_f32(a, b); }
static inline V mul(V a, V b) { return vmulq_f32(a, b); }
#define fma fma_v /* not that of math.h */
static inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
/* By comparison: a NaN in the first gives the second, as elsewhere. */
static inline V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline V within(V v, int from, int to, V other) {
    static const int32_t lanes[W] = { 0, 1, 2, 3 };
    int32x4_t at = vld1q_s32(lanes);
    uint32x4_t in = vandq_u32(vcgeq_s32(at, vdupq_n_s32(from)), vcltq_s32(at, vdupq_n_s32(to)));
    return vbslq_f32(in, v, other);
}
static inline float largest(V v) { return vmaxvq_f32(v); }
/* FMIN and FMAX pass a NaN. */
static inline V clamped(V x) { return vminq_f32(vmaxq_f32(x, set(-127)), set(127)); }
static inline V part(V x) {
    x = clamped(x);
    return sub(x, vrndmq_f32(x));
}
/* 2^-127 is not a number of this kind: 0. */
static inline V whole(V x, V r) {
    int32x4_t n = vaddq_s32(vcvtq_s32_f32(vrndmq_f32(clamped(x))), vdupq_n_s32(127));
    return mul(r, vreinterpretq_f32_s32(vshlq_n_s32(n, 23)));
}
#include "kernels/arm/bf16_neon.inc"
static inline void st16(uint16_t *p, V v) { vst1_u16(p, vmovn_u32(bf16(v))); }
static inline void st16x2(uint16_t *p, V v, V w) {
    st16(p, v);
    st16(p + W, w);
}

#include "kernels/attn.inc"

void fj_kern_neon_attn(fj_kern *k) {
    k->attn_soft = attn_soft;
    k->attn_soft_bwd = attn_soft_bwd;
}
