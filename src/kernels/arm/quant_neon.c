/* quant_neon.c - kernels/quant.inc in four registers. */
#include "base/dtype.h"
#include "kernels/kern.h"

#include <arm_neon.h>
#include <math.h>

typedef struct V {
    float32x4_t q[4];
} V;
#define EACH(value)                                                                                \
    V r;                                                                                           \
    for (int i = 0; i < 4; i++) r.q[i] = (value);                                                  \
    return r
static inline V set(float f) { EACH(vdupq_n_f32(f)); }
static inline V ld(const float *p) { EACH(vld1q_f32(p + 4 * i)); }
static inline void st(float *p, V v) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
static inline V plus(V a, V b) { EACH(vaddq_f32(a.q[i], b.q[i])); }
static inline V minus(V a, V b) { EACH(vsubq_f32(a.q[i], b.q[i])); }
static inline V times(V a, V b) { EACH(vmulq_f32(a.q[i], b.q[i])); }
static inline V over(V a, V b) { EACH(vdivq_f32(a.q[i], b.q[i])); }
static inline V madd(V a, V b, V c) { EACH(vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
/* By comparison: FMIN and FMAX order zeros and pass a NaN, which other sets do not. */
static inline float32x4_t less4(float32x4_t a, float32x4_t b, float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcltq_f32(a, b), x, y);
}
static inline V lower(V a, V b) { EACH(less4(a.q[i], b.q[i], a.q[i], b.q[i])); }
static inline V upper(V a, V b) { EACH(less4(b.q[i], a.q[i], a.q[i], b.q[i])); }
static inline V near(V v) { EACH(vrndnq_f32(v.q[i])); }
static inline V pick(V a, V b, V x, V y) { EACH(less4(a.q[i], b.q[i], x.q[i], y.q[i])); }
/* A table of 16 floats is the 64 bytes that TBL can see: four indices of bytes for each lane. */
static inline V level_at(const float *t, V at) {
    uint8x16x4_t table;
    for (int i = 0; i < 4; i++) table.val[i] = vreinterpretq_u8_f32(vld1q_f32(t + 4 * i));
    const uint32x4_t bytes = vdupq_n_u32(0x03020100);
    EACH(vreinterpretq_f32_u8(vqtbl4q_u8(
        table, vreinterpretq_u8_u32(vmlaq_n_u32(bytes, vcvtq_u32_f32(at.q[i]), 0x04040404)))));
}
static inline void st_bytes(uint8_t *p, V v) {
    uint16x8_t h[2];
    for (int i = 0; i < 2; i++)
        h[i] = vcombine_u16(vmovn_u32(vcvtq_u32_f32(v.q[2 * i])),
                            vmovn_u32(vcvtq_u32_f32(v.q[2 * i + 1])));
    vst1q_u8(p, vcombine_u8(vmovn_u16(h[0]), vmovn_u16(h[1])));
}
#undef EACH
static inline float total(V v) {
    float32x4_t a = vaddq_f32(v.q[0], v.q[2]), b = vaddq_f32(v.q[1], v.q[3]);
    a = vaddq_f32(a, b);
    float32x2_t c = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}
/* Of an array: lanes that are no numbers are passed over as the plain code does it. */
static inline int first_least(V v) {
    float f[16];
    st(f, v);
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (f[i] < f[best]) best = i;
    return best;
}
static inline float least(V v) {
    float f[16];
    st(f, v);
    return f[first_least(v)];
}

#include "kernels/quant.inc"

void fj_kern_neon_quant(fj_kern *k) { QUANT_KERNELS(k); }
