/* w8_i8mm.c - tiles of int8 products by SMMLA, twice the products of SDOT; one row alone takes SDOT. */
#include "kernels/kern.h"

#include <arm_neon.h>

#define DOT(c, w, a, lane) vdotq_laneq_s32(c, w, a, lane)
#define MATRIX(c, w, a) vmmlaq_s32(c, w, a)
#include "kernels/arm/w8_tile.inc"

void fj_kern_i8mm(fj_kern *k) {
    k->w8_unpack = w8_unpack;
    k->gemm_w8 = gemm_w8;
}
