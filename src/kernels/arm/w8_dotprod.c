/* w8_dotprod.c - tiles of int8 products by SDOT. */
#include "kernels/kern.h"

#include <arm_neon.h>

#define DOT(c, w, a, lane) vdotq_laneq_s32(c, w, a, lane)
#include "kernels/arm/w8_tile.inc"

void fj_kern_dotprod(fj_kern *k) {
    k->w8_unpack = w8_unpack;
    k->gemm_w8 = gemm_w8;
}
