/* gemm_neon.c - tiles of products with 32 registers of 4 lanes. */
#include "kernels/kern.h"

#include <arm_neon.h>
#include <string.h>

/* Up to 6 rows by one panel of 16 columns: 24 sums, 4 of b, 1 of a.  More rows and panels are taken in
 * turn; the sums of an output do not notice. */
static inline __attribute__((always_inline)) void tile(float *t, int64_t ldt, const float *a,
                                                       int64_t ars, int64_t acs, const float *b,
                                                       int64_t ldb, int64_t k, const int MR,
                                                       bool first) {
    float32x4_t s[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            s[r][p] = first ? vdupq_n_f32(0) : vld1q_f32(t + r * ldt + p * 4);
    for (int64_t j = 0; j < k; j++, a += acs, b += ldb) {
        float32x4_t w[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) w[p] = vld1q_f32(b + p * 4);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            float32x4_t v = vld1q_dup_f32(a + r * ars);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++) s[r][p] = vfmaq_f32(s[r][p], w[p], v);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) vst1q_f32(t + r * ldt + p * 4, s[r][p]);
}

static inline float32x4_t odd(uint32x4_t v) {
    return vreinterpretq_f32_u32(vandq_u32(v, vdupq_n_u32(0xffff0000)));
}

static inline float32x4_t even(uint32x4_t v) { return vreinterpretq_f32_u32(vshlq_n_u32(v, 16)); }

static inline __attribute__((always_inline)) void tile_bf16(float *t, int64_t ldt,
                                                            const uint32_t *a, int64_t ars,
                                                            const uint32_t *b, int64_t ldb,
                                                            int64_t k, const int MR, bool first) {
    float32x4_t s[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            s[r][p] = first ? vdupq_n_f32(0) : vld1q_f32(t + r * ldt + p * 4);
    for (int64_t j = 0; j < k; j++, a++, b += ldb) {
        float32x4_t o[4], e[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
            uint32x4_t w = vld1q_u32(b + p * 4);
            o[p] = odd(w), e[p] = even(w);
        }
#pragma GCC unroll 4
        for (int r = 0; r < MR; r++) {
            uint32x4_t v = vld1q_dup_u32(a + r * ars);
            float32x4_t vo = odd(v), ve = even(v);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++) s[r][p] = vfmaq_f32(vfmaq_f32(s[r][p], vo, o[p]), ve, e[p]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) vst1q_f32(t + r * ldt + p * 4, s[r][p]);
}

#define CASE(N)                                                                                    \
    case N:                                                                                        \
        tile(t + p * 16, ldt, a, ars, acs, b + p * 16, ldb, k, N, first);                          \
        break;
#define CASE_BF16(N)                                                                               \
    case N: tile_bf16(t + p * 16, ldt, a, ars, b + p * 16, ldb, k, N, first); break;

static void gemm(float *t, int64_t ldt, const float *a, int64_t ars, int64_t acs, const float *b,
                 int64_t ldb, int64_t k, int mr, int np, bool first) {
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

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    (void)next, (void)bytes;
    while (mr > 0) {
        int now = mr > 4 ? 4 : mr;
        for (int p = 0; p < np; p++) switch (now) {
                CASE_BF16(1) CASE_BF16(2) CASE_BF16(3) CASE_BF16(4)
            }
        t += now * ldt;
        a += now * ars;
        mr -= now;
    }
}

#include "kernels/attn_tiles.inc"

static inline void transpose4(float *dst, int64_t ldd, const float *src, int64_t lds) {
    uint32x4_t a[4], b[4];
    for (int i = 0; i < 4; i++) a[i] = vreinterpretq_u32_f32(vld1q_f32(src + i * lds));
    for (int i = 0; i < 4; i += 2) {
        b[i] = vtrn1q_u32(a[i], a[i + 1]);
        b[i + 1] = vtrn2q_u32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        uint64x2_t u = vreinterpretq_u64_u32(b[i]), v = vreinterpretq_u64_u32(b[i + 2]);
        vst1q_f32(dst + i * ldd, vreinterpretq_f32_u64(vtrn1q_u64(u, v)));
        vst1q_f32(dst + (i + 2) * ldd, vreinterpretq_f32_u64(vtrn2q_u64(u, v)));
    }
}

static void transpose(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows,
                      int64_t cols) {
    for (int64_t c = 0; c < cols; c += 4)
        for (int64_t r = 0; r < rows; r += 4) {
            if (rows - r >= 4 && cols - c >= 4) {
                transpose4(dst + c * ldd + r, ldd, src + r * lds + c, lds);
                continue;
            }
            for (int64_t i = r; i < r + 4 && i < rows; i++)
                for (int64_t j = c; j < c + 4 && j < cols; j++)
                    memcpy(&dst[j * ldd + i], &src[i * lds + j], 4);
        }
}

static void tile_out(float *y, int64_t ldy, const float *t, int64_t ldt, int64_t rows, int64_t cols,
                     float s, bool acc) {
    for (int64_t r = 0; r < rows; r++, y += ldy, t += ldt) {
        int64_t c = 0;
        for (; c + 4 <= cols; c += 4) {
            float32x4_t v = vmulq_n_f32(vld1q_f32(t + c), s);
            if (acc) v = vaddq_f32(vld1q_f32(y + c), v);
            vst1q_f32(y + c, v);
        }
        for (; c < cols; c++) {
            float v = s * t[c];
            y[c] = acc ? y[c] + v : v;
        }
    }
}

void fj_kern_neon(fj_kern *k) {
    k->transpose = transpose;
    k->tile_out = tile_out;
    k->gemm = gemm;
    k->gemm_bf16 = gemm_bf16;
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
}
