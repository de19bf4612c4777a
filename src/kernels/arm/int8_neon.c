/* int8_neon.c - int8 products where there is no dot product of bytes, and rows to int8. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <string.h>

static inline int32x4_t dot4(int32x4_t c, int8x16_t w, int32x4_t a) {
    int8x16_t v = vreinterpretq_s8_s32(a);
    int16x8_t p = vmull_s8(vget_low_s8(w), vget_low_s8(v)), q = vmull_high_s8(w, v);
    return vaddq_s32(c, vpaddq_s32(vpaddlq_s16(p), vpaddlq_s16(q)));
}

#define DOT(c, w, a, lane) dot4(c, w, vdupq_laneq_s32(vreinterpretq_s32_s8(a), lane))
#include "kernels/arm/int8.inc"

/* Bits of |x| order as the numbers do, and infinities and NaN come last. */
static inline uint32_t largest(const float *x, int n) {
    uint32x4_t m = vdupq_n_u32(0);
    for (int i = 0; i < n; i += 4)
        m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return vmaxvq_u32(m);
}

/* As quant_a8 of ref.c. */
static inline void quant(fj_a8 *y, int at, const float *x, int n, int offset) {
    union {
        uint32_t u;
        float f;
    } amax = { largest(x, n) };
    bool finite = amax.u < 0x7f800000, zero = !finite || amax.f < 0x1p-100f;
    float d = amax.f / 127, id = zero ? 0 : 1 / d;
    d = !finite ? NAN : zero ? 0 : d;
    for (int i = 0; i < n; i += 32) {
        int32x4_t sum = vdupq_n_s32(0);
        for (int j = 0; j < 32; j += 8) {
            int32x4_t q[2];
            for (int h = 0; h < 2; h++) {
                q[h] = zero ? vdupq_n_s32(0)
                            : vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + j + 4 * h), id));
                sum = vaddq_s32(sum, q[h]);
            }
            vst1_s8(y->q + at + i + j, vmovn_s16(vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]))));
        }
        y->corr[(at + i) / 32] = -offset * vaddvq_s32(sum);
        y->d[(at + i) / 32] = d;
    }
}

static void quant_a8_32(fj_a8 *y, int64_t stride, const float *x, int64_t k) {
    for (int64_t i = 0; i < k; i += 32) quant(y + i / 256 * stride, (int)(i % 256), x + i, 32, 128);
}

static void quant_a8_256(fj_a8 *y, int64_t stride, const float *x, int64_t k) {
    for (int64_t i = 0; i < k; i += 256)
        quant(y + i / 256 * stride, 0, x + i, k - i < 256 ? (int)(k - i) : 256, 8);
}

void fj_kern_neon_int8(fj_kern *k) {
    k->quant_a8_32 = quant_a8_32;
    k->quant_a8_256 = quant_a8_256;
    k->gemm_q8 = gemm_q8;
    k->gemm_q4 = gemm_q4;
    k->gemm_mx4 = gemm_mx4;
}
