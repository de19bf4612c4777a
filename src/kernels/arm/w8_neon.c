/* w8_neon.c - int8 products where there is no dot product of bytes, and rows to int8. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <math.h>

static inline int32x4_t dot4(int32x4_t c, int8x16_t w, int32x4_t a) {
    int8x16_t v = vreinterpretq_s8_s32(a);
    int16x8_t p = vmull_s8(vget_low_s8(w), vget_low_s8(v)), q = vmull_high_s8(w, v);
    return vaddq_s32(c, vpaddq_s32(vpaddlq_s16(p), vpaddlq_s16(q)));
}

#define V float32x4_t
#include "kernels/arm/bf16_neon.inc"

#define DOT(c, w, a, lane) dot4(c, w, vdupq_laneq_s32(vreinterpretq_s32_s8(a), lane))
#include "kernels/arm/w8_tile.inc"

/* to[c][j] = from[j][c] for four columns of a block: 32 codes of a column side by side. */
static inline void columns4(uint32_t to[4][8], const uint32_t (*from)[32]) {
    for (int j = 0; j < 8; j += 4) {
        uint32x4_t a[4], b[4];
        for (int i = 0; i < 4; i++) a[i] = vld1q_u32(from[j + i]);
        for (int i = 0; i < 4; i += 2) {
            b[i] = vtrn1q_u32(a[i], a[i + 1]);
            b[i + 1] = vtrn2q_u32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 2; i++) {
            uint64x2_t u = vreinterpretq_u64_u32(b[i]), v = vreinterpretq_u64_u32(b[i + 2]);
            vst1q_u32(to[i] + j, vreinterpretq_u32_u64(vtrn1q_u64(u, v)));
            vst1q_u32(to[i + 2] + j, vreinterpretq_u32_u64(vtrn2q_u64(u, v)));
        }
    }
}

static void w8_rows(float *dst, int64_t ld, const fj_w8 *w, int nb, int kind, int c0, int n) {
    const int half = kind & FJ_A8_16 ? 2 : 1;
    const int16x8_t off = vdupq_n_s16(kind & FJ_A8_OFFSET);
    for (int b = 0; b < nb; b++)
        for (int c4 = c0 & ~3; c4 < c0 + n; c4 += 4) {
            uint32_t words[4][8];
            columns4(words, (const uint32_t(*)[32])(const void *)(w->w[b][0] + c4));
            for (int i = 0; i < 4; i++) {
                int c = c4 + i;
                if (c < c0 || c >= c0 + n) continue;
                float *y = dst + (c - c0) * ld + 32 * b;
                for (int j = 0; j < 32; j += 8) {
                    int g = half * b + (half > 1 ? j / 16 : 0);
                    uint8x8_t q = vreinterpret_u8_u32(vld1_u32(words[i] + j / 4));
                    int16x8_t v = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(q)), off);
                    float32x4_t lo = vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))),
                                hi = vcvtq_f32_s32(vmovl_high_s16(v));
                    lo = vmulq_n_f32(lo, w->d[g][c]), hi = vmulq_n_f32(hi, w->d[g][c]);
                    if (kind & FJ_A8_MIN) {
                        float32x4_t m = vdupq_n_f32(w->m[g][c]);
                        lo = vaddq_f32(lo, m), hi = vaddq_f32(hi, m);
                    }
                    vst1q_f32(y + j, lo);
                    vst1q_f32(y + j + 4, hi);
                }
            }
        }
}

static inline void pairs(uint32_t *y, const float *a, const float *b, int n) {
    for (int i = 0; i < n; i += 4) {
        uint32x4_t v = bf16(vld1q_f32(a + i));
        vst1q_u32(y + i, b ? vsliq_n_u32(v, bf16(vld1q_f32(b + i)), 16) : v);
    }
}

#define PAIRS pairs
#include "kernels/w8_pairs.inc"

/* Bits of |x| order as the numbers do, and infinities and NaN come last. */
static inline uint32_t largest(const float *x, int n) {
    uint32x4_t m = vdupq_n_u32(0);
    for (int i = 0; i < n; i += 4)
        m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return vmaxvq_u32(m);
}

static inline void put_sum(fj_a8 *y, int g, int32x4_t q, float d, int kind) {
    int32_t sum = vaddvq_s32(q);
    if (kind & FJ_A8_MIN) y->sum[g] = kind & FJ_A8_WIDE ? (float)sum : d * (float)sum;
    else y->corr[g] = -(kind & FJ_A8_OFFSET) * sum;
}

/* As quant_some of ref.c. */
static inline void quant(fj_a8 *y, int at, const float *x, int n, int kind) {
    union {
        uint32_t u;
        float f;
    } amax = { largest(x, n) };
    bool finite = amax.u < 0x7f800000, zero = !finite || amax.f < 0x1p-100f;
    float d = amax.f / 127, id = zero ? 0 : 1 / d;
    d = !finite ? NAN : zero ? 0 : d;
    for (int i = 0; i < n; i += 32) {
        const int b = (at + i) / 32;
        int32x4_t sum[2] = { vdupq_n_s32(0), vdupq_n_s32(0) };
        for (int j = 0; j < 32; j += 8) {
            int32x4_t q[2] = { vdupq_n_s32(0), vdupq_n_s32(0) };
            for (int h = 0; h < 2 && !zero; h++) {
                q[h] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + j + 4 * h), id));
                sum[j / 16] = vaddq_s32(sum[j / 16], q[h]);
            }
            vst1_s8(y->q + at + i + j, vmovn_s16(vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]))));
        }
        y->d[b] = d;
        if (kind & FJ_A8_16) {
            put_sum(y, 2 * b, sum[0], d, kind);
            put_sum(y, 2 * b + 1, sum[1], d, kind);
        } else put_sum(y, b, vaddq_s32(sum[0], sum[1]), d, kind);
    }
}

static void quant_a8(fj_a8 *y, int64_t stride, const float *x, int64_t k, int kind) {
    const int step = kind & FJ_A8_WIDE ? 256 : 32;
    for (int64_t i = 0; i < k; i += step)
        quant(y + i / 256 * stride, (int)(i % 256), x + i, k - i < step ? (int)(k - i) : step,
              kind);
}

void fj_kern_neon_w8(fj_kern *k) {
    k->quant_a8 = quant_a8;
    k->w8_unpack = w8_unpack;
    k->gemm_w8 = gemm_w8;
    k->w8_rows = w8_rows;
    k->w8_pairs = w8_pairs;
}
