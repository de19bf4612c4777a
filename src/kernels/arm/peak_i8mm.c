/* peak_i8mm.c - what USMMLA reaches. */
#include "kernels/peak.h"

#include <arm_neon.h>

#define REG "w"

#define NAME fj_peak_int8_i8mm
#define V int32x4_t
#define ZERO vdupq_n_s32(0)
#define OP(s, a, b) vusmmlaq_s32(s, vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(b))
#define OPS 64
#include "kernels/peak.inc"
