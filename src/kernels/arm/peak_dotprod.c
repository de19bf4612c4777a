/* peak_dotprod.c - what SDOT reaches. */
#include "kernels/peak.h"

#include <arm_neon.h>

#define REG "w"

#define NAME fj_peak_int8_dotprod
#define V int32x4_t
#define ZERO vdupq_n_s32(0)
#define OP(s, a, b) vdotq_s32(s, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#define OPS 32
#include "kernels/peak.inc"
