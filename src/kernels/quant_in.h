/* quant_in.h - between quant.c and quant_super.c. */
#ifndef FJ_KERNELS_QUANT_IN_H
#define FJ_KERNELS_QUANT_IN_H

#include "base/blocks.h"
#include "base/mem.h"
#include "kernels/quant.h"

/* d as f16, at most 65504. */
uint16_t fj_quant_f16(float d);

/* quant_fit_line and quant_fit_scale, with more starts where they find more: under weights that differ, which make
 * a rugged country, and for values on one side of 0, which lie in few codes. */
void fj_quant_line(const fj_kern *kern, float *best, const float *x, const float *w, int n,
                   float top, bool below);
void fj_quant_scale(const fj_kern *kern, float *best, const float *x, const float *w, int n,
                    float lo, float hi);

/* fj_iq4_levels and their middles, as quant_fit_level wants them. */
extern const float fj_quant_iq4[32];

/* One block of 256 values; x and w as kernels want them, w NULL: all 1. */
void fj_quant_block_q2_k(const fj_kern *kern, const float *x, const float *w, void *dst);
void fj_quant_block_q3_k(const fj_kern *kern, const float *x, const float *w, void *dst);
void fj_quant_block_q4_k(const fj_kern *kern, const float *x, const float *w, void *dst);
void fj_quant_block_q5_k(const fj_kern *kern, const float *x, const float *w, void *dst);
void fj_quant_block_q6_k(const fj_kern *kern, const float *x, const float *w, void *dst);
void fj_quant_block_iq4_xs(const fj_kern *kern, const float *x, const float *w, void *dst);

#endif
