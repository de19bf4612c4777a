/* peak_neon.c - what the units of every 64-bit ARM reach. */
#include "kernels/peak.h"

#include <arm_neon.h>

#define REG "w"

#define NAME fj_peak_f32_neon
#define V float32x4_t
#define ZERO vdupq_n_f32(0)
#define OP(s, a, b) vfmaq_f32(s, a, b)
#define OPS 8
#include "kernels/peak.inc"

/* 16 products of bytes: halves, then pairs, then the sum. */
static inline int32x4_t dot(int32x4_t s, int32x4_t a, int32x4_t b) {
    int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
    int16x8_t p = vmull_s8(vget_low_s8(x), vget_low_s8(y)), q = vmull_high_s8(x, y);
    __asm__ volatile("" : "+w"(p), "+w"(q)); /* the same for all chains otherwise */
    return vpadalq_s16(vpadalq_s16(s, p), q);
}

#define NAME fj_peak_int8_neon
#define V int32x4_t
#define ZERO vdupq_n_s32(0)
#define OP(s, a, b) dot(s, a, b)
#define OPS 32
#include "kernels/peak.inc"
