/* int8_dotprod.c - tiles of int8 products by SDOT. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <string.h>

#define DOT(c, w, a, lane) vdotq_laneq_s32(c, w, a, lane)
#include "kernels/arm/int8.inc"

void fj_kern_dotprod(fj_kern *k) {
    k->gemm_q8 = gemm_q8;
    k->gemm_q4 = gemm_q4;
    k->gemm_mx4 = gemm_mx4;
}
