/* peak_bf16.c - what BFMLALT and BFMLALB reach; BFMMLA would reach more, with other roundings (kern.h). */
#include "kernels/peak.h"

#include <arm_neon.h>

#define REG "w"

static inline float32x4_t pair(float32x4_t s, float32x4_t a, float32x4_t b) {
    bfloat16x8_t x = vreinterpretq_bf16_f32(a), y = vreinterpretq_bf16_f32(b);
    return vbfmlalbq_f32(vbfmlaltq_f32(s, x, y), x, y);
}

#define NAME fj_peak_bf16_bf16
#define V float32x4_t
#define ZERO vdupq_n_f32(0)
#define OP(s, a, b) pair(s, a, b)
#define OPS 16
#include "kernels/peak.inc"
