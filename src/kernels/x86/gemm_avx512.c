/* gemm_avx512.c - tiles of f32 products. */
#include "kernels/kern.h"

#include "base/dtype.h"

#include <immintrin.h>

#define COLUMNS 1
#define ELEM float
#define VEC __m512
#define SPLAT(p) _mm512_set1_ps(*(p))
#define LOAD(p) _mm512_loadu_ps(p)
#define MADD(s, a, b) _mm512_fmadd_ps(a, b, s)
#include "kernels/x86/tile_avx512.inc"

static void gemm(float *t, int64_t ldt, const float *a, int64_t ars, int64_t acs, const float *b,
                 int64_t ldb, int64_t k, int mr, int np, bool first) {
    tiles(t, ldt, a, ars, acs, b, ldb, k, mr, np, first, NULL, 0);
}

/* 16 x 16 in registers: pairs, quads, then 128-bit lanes. */
static inline void transpose16(float *dst, int64_t ldd, const float *src, int64_t lds,
                               __mmask16 rows, int cols) {
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        a[i] = rows >> i & 1 ? _mm512_maskz_loadu_ps((__mmask16)((1u << cols) - 1), src + i * lds)
                             : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            __m512d lo = _mm512_castps_pd(b[i + j]), hi = _mm512_castps_pd(b[i + j + 2]);
            a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi));
            a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi));
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88);
        a[i + 4] = _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0x88);
        a[i + 8] = _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd);
        a[i + 12] = _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        if (i < cols) _mm512_mask_storeu_ps(dst + i * ldd, rows, a[i]);
}

static void transpose(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows,
                      int64_t cols) {
    for (int64_t c = 0; c < cols; c += 16)
        for (int64_t r = 0; r < rows; r += 16) {
            int64_t nr = rows - r < 16 ? rows - r : 16, nc = cols - c < 16 ? cols - c : 16;
            transpose16(dst + c * ldd + r, ldd, src + r * lds + c, lds, (__mmask16)((1u << nr) - 1),
                        (int)nc);
        }
}

/* 16 columns of 8 rows of pairs: neighbours change their halves, then 8 x 8 of 64 bits are transposed. */
static inline void turn8(uint32_t *dst, int64_t ldd, const uint32_t *src, int64_t lds, int rows,
                         __mmask16 columns, int n2, __mmask16 values) {
    const __m512i halves =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    __m512i a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        a[i] = i < rows ? _mm512_maskz_loadu_epi32(columns, src + i * lds) : _mm512_setzero_si512();
        a[i] = _mm512_shuffle_epi8(a[i], halves);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    /* b[i]: lane q has columns 2q (even i), 2q + 1 (odd) of rows i, i + 1 */
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        a[i] = _mm512_shuffle_i64x2(b[i], b[i + 2], 0x44);
        a[i + 2] = _mm512_shuffle_i64x2(b[i], b[i + 2], 0xee);
        a[i + 4] = _mm512_shuffle_i64x2(b[i + 4], b[i + 6], 0x44);
        a[i + 6] = _mm512_shuffle_i64x2(b[i + 4], b[i + 6], 0xee);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        b[i] = _mm512_shuffle_i64x2(a[i], a[i + 4], 0x88);
        b[i + 2] = _mm512_shuffle_i64x2(a[i], a[i + 4], 0xdd);
        b[i + 4] = _mm512_shuffle_i64x2(a[i + 2], a[i + 6], 0x88);
        b[i + 6] = _mm512_shuffle_i64x2(a[i + 2], a[i + 6], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        if (i < n2) _mm512_mask_storeu_epi32(dst + i * ldd, values, b[i]);
}

static void turn_pairs(uint32_t *dst, int64_t ldd, const uint32_t *src, int64_t lds, int64_t n2,
                       int64_t k) {
    for (int64_t j = 0; j < n2; j += 8) {
        int nj = n2 - j < 8 ? (int)(n2 - j) : 8;
        __mmask16 columns = (__mmask16)((1u << 2 * nj) - 1);
        for (int64_t v = 0; v < k; v += 16) {
            int nv = k - v < 16 ? (int)(k - v) : 16;
            turn8(dst + j * ldd + v, ldd, src + v / 2 * lds + 2 * j, lds, (nv + 1) / 2, columns, nj,
                  (__mmask16)((1u << nv) - 1));
        }
    }
}

static void tile_out(float *y, int64_t ldy, const float *t, int64_t ldt, int64_t rows, int64_t cols,
                     float s, bool acc) {
    __m512 k = _mm512_set1_ps(s);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += 16) {
            __mmask16 m = cols - c < 16 ? (__mmask16)((1u << (cols - c)) - 1) : (__mmask16)0xffff;
            __m512 v = _mm512_mul_ps(k, _mm512_maskz_loadu_ps(m, t + r * ldt + c));
            float *o = y + r * ldy + c;
            /* a row of y is far from the next one: lines to be written come while others are */
            __builtin_prefetch((const char *)((uintptr_t)o + 64 * (uintptr_t)ldy), 1);
            if (acc) v = _mm512_add_ps(_mm512_maskz_loadu_ps(m, o), v);
            _mm512_mask_storeu_ps(o, m, v);
        }
}

void fj_kern_avx512(fj_kern *k) {
    k->gemm = gemm;
    k->transpose = transpose;
    k->turn_pairs = turn_pairs;
    k->tile_out = tile_out;
}
