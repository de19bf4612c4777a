/* int8_i8mm.c - tiles of int8 products by SMMLA, twice the products of SDOT; one row alone takes SDOT. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <string.h>

#define DOT(c, w, a, lane) vdotq_laneq_s32(c, w, a, lane)
#define MATRIX(c, w, a) vmmlaq_s32(c, w, a)
#include "kernels/arm/int8.inc"

void fj_kern_i8mm(fj_kern *k) {
    k->gemm_q8 = gemm_q8;
    k->gemm_q4 = gemm_q4;
    k->gemm_mx4 = gemm_mx4;
}
