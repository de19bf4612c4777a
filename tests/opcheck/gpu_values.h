/* gpu_values.h - what a weight of any format is to a GPU where it meets BF16 rows (kernels/cuda/kquant.cuh),
 * worked out from the bytes of a row. */
#ifndef FORJA_GPU_VALUES_H
#define FORJA_GPU_VALUES_H

#include "base/dtype.h"

#include <math.h>

static inline double gv_bf16(double v) { return fj_bf16_to_f32(fj_f32_to_bf16((float)v)); }

/* a * b + c of BF16 numbers, rounded once to BF16: its neighbours are tried in double. */
static inline float gv_fma(double a, double b, double c) {
    uint16_t h = fj_f32_to_bf16((float)(a * b + c));
    double best = INFINITY, exact = a * b + c;
    uint16_t at = h;
    for (int d = -1; d <= 1; d++) {
        uint16_t n = (uint16_t)(h + d);
        double off = fabs((double)fj_bf16_to_f32(n) - exact);
        if (off < best || (off == best && !(n & 1))) best = off, at = n;
    }
    return fj_bf16_to_f32(at);
}

static inline void gv_row(fj_dtype t, const void *row, float *v, int64_t k) {
    fj_dequant_row(t, row, v, k);
    for (int64_t i = 0; i < k; i++) {
        if (t == FJ_Q4_K) {
            const fj_q4_k *b = (const fj_q4_k *)row + i / 256;
            int j = (int)(i % 256 / 32), scale, min;
            fj_q4_k_scale(b->s, j, &scale, &min);
            double d = (double)fj_f16_to_f32(b->d) * scale,
                   m = (double)fj_f16_to_f32(b->dmin) * min;
            int q = b->q[i % 256 / 64 * 32 + i % 32] >> j % 2 * 4 & 15;
            v[i] = gv_fma(gv_bf16(d), q - 8, gv_bf16((float)(8 * d - m)));
        } else if (t == FJ_NF4) {
            const fj_nf4 *b = (const fj_nf4 *)row + i / 64;
            int code = b->q[i % 64 / 2] >> (i % 2 ? 0 : 4) & 15;
            v[i] = (float)gv_bf16(gv_bf16(fj_f16_to_f32(b->absmax)) * gv_bf16(fj_nf4_code[code]));
        } else {
            v[i] = (float)gv_bf16(v[i]);
        }
    }
}

#endif
