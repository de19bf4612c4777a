/* gemm_bf16.c - tiles of bf16 products by BFMLALT and BFMLALB: a multiply-add of the odd numbers of
 * pairs, then one of the even, each fused and rounded to nearest even, as kern.h wants it.  BFDOT and
 * BFMMLA do four and more times as much, but round sums to odd and flush denormals: other bits. */
#include "kernels/kern.h"

#include <arm_neon.h>

static inline __attribute__((always_inline)) void tile(float *t, int64_t ldt, const uint32_t *a,
                                                       int64_t ars, const uint32_t *b, int64_t ldb,
                                                       int64_t k, const int MR, bool first) {
    float32x4_t s[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            s[r][p] = first ? vdupq_n_f32(0) : vld1q_f32(t + r * ldt + p * 4);
    for (int64_t j = 0; j < k; j++, a++, b += ldb) {
        bfloat16x8_t w[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) w[p] = vreinterpretq_bf16_u32(vld1q_u32(b + p * 4));
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            bfloat16x8_t v = vreinterpretq_bf16_u32(vld1q_dup_u32(a + r * ars));
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                s[r][p] = vbfmlalbq_f32(vbfmlaltq_f32(s[r][p], v, w[p]), v, w[p]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) vst1q_f32(t + r * ldt + p * 4, s[r][p]);
}

#define CASE(N)                                                                                    \
    case N: tile(t + p * 16, ldt, a, ars, b + p * 16, ldb, k, N, first); break;

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    (void)next, (void)bytes;
    while (mr > 0) {
        int now = mr > 6 ? 4 : mr;
        for (int p = 0; p < np; p++) switch (now) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
            }
        t += now * ldt;
        a += now * ars;
        mr -= now;
    }
}

#include "kernels/attn_tiles.inc"

void fj_kern_bf16(fj_kern *k) {
    k->gemm_bf16 = gemm_bf16;
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
}
