/* vnni_avx512.c - tiles of int8 products by vpdpbusd.  Weights are the unsigned operand (an offset of
 * 128 or 8, taken back by the value that the integer sum starts from), activations the signed one, so
 * that they can be broadcast straight from memory. */
#include "kernels/kern.h"

#include "base/dtype.h"

#include <immintrin.h>
#include <math.h>

/* Few rows wait for memory: lines so far ahead that they arrive in time.  Addresses past the end are
 * harmless to a prefetch; they are made as integers, where they are allowed. */
enum { AHEAD = 4096 };

static inline __attribute__((always_inline)) void ahead(const char *b, int lines) {
    for (int i = 0; i < lines; i++)
        _mm_prefetch((const char *)((uintptr_t)b + AHEAD + 64 * (uintptr_t)i), _MM_HINT_T0);
}

static inline __m512i splat4(const int8_t *p) {
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

static inline __m512 scales(const char *b, int p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)b + p));
}

static inline __attribute__((always_inline)) void tile8(float *t, int64_t ldt, const fj_a8 *a,
                                                        int64_t stride, const char *b, int64_t nb,
                                                        const int MR, bool first) {
    __m512 s[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(t + r * ldt + 16 * p);
    for (int64_t i = 0; i < nb; i++, b += FJ_Q8_PANEL) {
        const fj_a8 *x = a + (i >> 3) * stride;
        const int8_t *q = x->q + (i & 7) * 32;
        const int32_t *corr = x->corr + (i & 7);
        const float *d = x->d + (i & 7);
        if (MR < 3) ahead(b, 17);
        __m512i c[6][2];
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
            c[r][0] = c[r][1] = _mm512_set1_epi32(corr[r * (int)(sizeof(fj_a8) / 4)]);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m512i w0 = _mm512_loadu_si512(b + 64 + 128 * j),
                    w1 = _mm512_loadu_si512(b + 128 + 128 * j);
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                __m512i v = splat4(q + r * (int)sizeof(fj_a8) + 4 * j);
                c[r][0] = _mm512_dpbusd_epi32(c[r][0], w0, v);
                c[r][1] = _mm512_dpbusd_epi32(c[r][1], w1, v);
            }
        }
        __m512 d0 = scales(b, 0), d1 = scales(b, 1);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            __m512 da = _mm512_set1_ps(d[r * (int)(sizeof(fj_a8) / 4)]);
            s[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][0]), _mm512_mul_ps(d0, da), s[r][0]);
            s[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][1]), _mm512_mul_ps(d1, da), s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) _mm512_storeu_ps(t + r * ldt + 16 * p, s[r][p]);
}

static inline __attribute__((always_inline)) void tile4(float *t, int64_t ldt, const fj_a8 *a,
                                                        int64_t stride, const char *b, int64_t nb,
                                                        const int MR, bool first) {
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int64_t i = 0; i < nb; a += stride, first = false) {
        __m512 s[6][2];
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) s[r][0] = s[r][1] = _mm512_setzero_ps();
        int64_t end = i + 8 < nb ? i + 8 : nb;
        const int8_t *q = a->q;
        const int32_t *corr = a->corr;
        for (; i < end; i++, b += FJ_Q4_PANEL, q += 32, corr++) {
            if (MR < 3) ahead(b, 9);
            __m512i c[6][2];
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++)
                c[r][0] = c[r][1] = _mm512_set1_epi32(corr[r * (int)(sizeof(fj_a8) / 4)]);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m512i w0 = _mm512_loadu_si512(b + 64 + 128 * j),
                        w1 = _mm512_loadu_si512(b + 128 + 128 * j);
                __m512i l0 = _mm512_and_si512(w0, nibble), l1 = _mm512_and_si512(w1, nibble);
                __m512i h0 = _mm512_and_si512(_mm512_srli_epi16(w0, 4), nibble);
                __m512i h1 = _mm512_and_si512(_mm512_srli_epi16(w1, 4), nibble);
#pragma GCC unroll 6
                for (int r = 0; r < MR; r++) {
                    __m512i v = splat4(q + r * (int)sizeof(fj_a8) + 4 * j);
                    c[r][0] = _mm512_dpbusd_epi32(c[r][0], l0, v);
                    c[r][1] = _mm512_dpbusd_epi32(c[r][1], l1, v);
                }
#pragma GCC unroll 6
                for (int r = 0; r < MR; r++) {
                    __m512i v = splat4(q + r * (int)sizeof(fj_a8) + 16 + 4 * j);
                    c[r][0] = _mm512_dpbusd_epi32(c[r][0], h0, v);
                    c[r][1] = _mm512_dpbusd_epi32(c[r][1], h1, v);
                }
            }
            __m512 d0 = scales(b, 0), d1 = scales(b, 1);
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                s[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][0]), d0, s[r][0]);
                s[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][1]), d1, s[r][1]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            __m512 da = _mm512_set1_ps(a[r].d[0]);
            float *o = t + r * ldt;
            __m512 o0 = first ? _mm512_setzero_ps() : _mm512_loadu_ps(o);
            __m512 o1 = first ? _mm512_setzero_ps() : _mm512_loadu_ps(o + 16);
            _mm512_storeu_ps(o, _mm512_fmadd_ps(s[r][0], da, o0));
            _mm512_storeu_ps(o + 16, _mm512_fmadd_ps(s[r][1], da, o1));
        }
    }
}

/* Half the scales of 16 columns: as fj_e8m0_half. */
static inline __m512 half_scales(const char *b, int p) {
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)b + p));
    __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    __m512i large = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    return _mm512_castsi512_ps(
        _mm512_mask_blend_epi32(_mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), large, small));
}

static inline __attribute__((always_inline)) void tile_mx4(float *t, int64_t ldt, const fj_a8 *a,
                                                           int64_t stride, const char *b,
                                                           int64_t nb, const int MR, bool first) {
    const __m512i nibble = _mm512_set1_epi8(15);
    /* Twice the e2m1 number plus 128, by code. */
    const __m512i table = _mm512_broadcast_i32x4(_mm_add_epi8(
        _mm_loadu_si128((const __m128i *)(const void *)fj_e2m1_doubled), _mm_set1_epi8(-128)));
    __m512 s[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(t + r * ldt + 16 * p);
    for (int64_t i = 0; i < nb; i++, b += FJ_MX4_PANEL) {
        const fj_a8 *x = a + (i >> 3) * stride;
        const int8_t *q = x->q + (i & 7) * 32;
        const int32_t *corr = x->corr + (i & 7);
        const float *d = x->d + (i & 7);
        if (MR < 3) ahead(b, 9);
        __m512i c[6][2];
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++)
            c[r][0] = c[r][1] = _mm512_set1_epi32(corr[r * (int)(sizeof(fj_a8) / 4)]);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i w0 = _mm512_loadu_si512(b + 32 + 128 * j),
                    w1 = _mm512_loadu_si512(b + 96 + 128 * j);
            __m512i l0 = _mm512_shuffle_epi8(table, _mm512_and_si512(w0, nibble)),
                    l1 = _mm512_shuffle_epi8(table, _mm512_and_si512(w1, nibble));
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                __m512i v = splat4(q + r * (int)sizeof(fj_a8) + 4 * j);
                c[r][0] = _mm512_dpbusd_epi32(c[r][0], l0, v);
                c[r][1] = _mm512_dpbusd_epi32(c[r][1], l1, v);
            }
            __m512i h0 = _mm512_and_si512(_mm512_srli_epi16(w0, 4), nibble),
                    h1 = _mm512_and_si512(_mm512_srli_epi16(w1, 4), nibble);
            h0 = _mm512_shuffle_epi8(table, h0);
            h1 = _mm512_shuffle_epi8(table, h1);
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++) {
                __m512i v = splat4(q + r * (int)sizeof(fj_a8) + 16 + 4 * j);
                c[r][0] = _mm512_dpbusd_epi32(c[r][0], h0, v);
                c[r][1] = _mm512_dpbusd_epi32(c[r][1], h1, v);
            }
        }
        __m512 d0 = half_scales(b, 0), d1 = half_scales(b, 1);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            __m512 da = _mm512_set1_ps(d[r * (int)(sizeof(fj_a8) / 4)]);
            s[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][0]), _mm512_mul_ps(d0, da), s[r][0]);
            s[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][1]), _mm512_mul_ps(d1, da), s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) _mm512_storeu_ps(t + r * ldt + 16 * p, s[r][p]);
}

#define ROWS(TILE)                                                                                 \
    switch (mr) {                                                                                  \
    case 1: TILE(t, ldt, a, stride, b, nb, 1, first); break;                                       \
    case 2: TILE(t, ldt, a, stride, b, nb, 2, first); break;                                       \
    case 3: TILE(t, ldt, a, stride, b, nb, 3, first); break;                                       \
    case 4: TILE(t, ldt, a, stride, b, nb, 4, first); break;                                       \
    case 5: TILE(t, ldt, a, stride, b, nb, 5, first); break;                                       \
    case 6: TILE(t, ldt, a, stride, b, nb, 6, first); break;                                       \
    }

static void gemm_q8(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *b,
                    int64_t nb, int mr, bool first) {
    ROWS(tile8)
}

static void gemm_q4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *b,
                    int64_t nb, int mr, bool first) {
    ROWS(tile4)
}

static void gemm_mx4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *b,
                     int64_t nb, int mr, bool first) {
    ROWS(tile_mx4)
}

/* Bits of |x| order as the numbers do, and infinities and NaN come last. */
static inline uint32_t largest(const float *x, int n) {
    __m512i m = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 16)
        m = _mm512_max_epi32(
            m, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7fffffff)));
    return (uint32_t)_mm512_reduce_max_epi32(m);
}

static inline void quant(fj_a8 *y, int at, const float *x, int n, int offset) {
    union {
        uint32_t u;
        float f;
    } amax = { largest(x, n) };
    bool finite = amax.u < 0x7f800000, zero = !finite || amax.f < 0x1p-100f;
    float d = amax.f / 127, id = zero ? 0 : 1 / d;
    d = !finite ? NAN : zero ? 0 : d;
    for (int i = 0; i < n; i += 32) {
        __m512i q0 = _mm512_setzero_si512(), q1 = q0;
        if (!zero) {
            q0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(id)));
            q1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i + 16), _mm512_set1_ps(id)));
        }
        _mm_storeu_si128((__m128i *)(void *)(y->q + at + i), _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(y->q + at + i + 16), _mm512_cvtepi32_epi8(q1));
        y->corr[(at + i) / 32] = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
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

void fj_kern_avx512_vnni(fj_kern *k) {
    k->gemm_q8 = gemm_q8;
    k->gemm_q4 = gemm_q4;
    k->gemm_mx4 = gemm_mx4;
    k->quant_a8_32 = quant_a8_32;
    k->quant_a8_256 = quant_a8_256;
}
