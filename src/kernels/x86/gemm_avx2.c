/* gemm_avx2.c - tiles of products with 16 registers of 8 lanes. */
#include "kernels/kern.h"

#include "base/dtype.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* Up to 6 rows by one panel of 16 columns: 12 sums, 2 of b, 1 of a.  More rows and panels are taken in
 * turn; the sums of an output do not notice. */
static inline __attribute__((always_inline)) void tile(float *t, int64_t ldt, const float *a,
                                                       int64_t ars, int64_t acs, const float *b,
                                                       int64_t ldb, int64_t k, const int MR,
                                                       bool first) {
    __m256 s[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + r * ldt + p * 8);
    for (int64_t j = 0; j < k; j++, a += acs, b += ldb) {
        __m256 w0 = _mm256_loadu_ps(b), w1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
        for (int r = 0; r < MR; r++) {
            __m256 v = _mm256_broadcast_ss(a + r * ars);
            s[r][0] = _mm256_fmadd_ps(v, w0, s[r][0]);
            s[r][1] = _mm256_fmadd_ps(v, w1, s[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) _mm256_storeu_ps(t + r * ldt + p * 8, s[r][p]);
}

static inline __m256 odd(__m256i v) {
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000)));
}

static inline __m256 even(__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }

static inline __attribute__((always_inline)) void tile_bf16(float *t, int64_t ldt,
                                                            const uint32_t *a, int64_t ars,
                                                            const uint32_t *b, int64_t ldb,
                                                            int64_t k, const int MR, bool first) {
    __m256 s[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + r * ldt + p * 8);
    for (int64_t j = 0; j < k; j++, a++, b += ldb) {
        __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)b);
        __m256i w1 = _mm256_loadu_si256((const __m256i *)(const void *)(b + 8));
#pragma GCC unroll 4
        for (int r = 0; r < MR; r++) {
            __m256i v = _mm256_set1_epi32((int)a[r * ars]);
            s[r][0] = _mm256_fmadd_ps(odd(v), odd(w0), s[r][0]);
            s[r][1] = _mm256_fmadd_ps(odd(v), odd(w1), s[r][1]);
            s[r][0] = _mm256_fmadd_ps(even(v), even(w0), s[r][0]);
            s[r][1] = _mm256_fmadd_ps(even(v), even(w1), s[r][1]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) _mm256_storeu_ps(t + r * ldt + p * 8, s[r][p]);
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

static inline void transpose8(float *dst, int64_t ldd, const float *src, int64_t lds) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(src + i * lds);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0x44);
            a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0xee);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * ldd, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * ldd, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

static void transpose(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows,
                      int64_t cols) {
    for (int64_t c = 0; c < cols; c += 8)
        for (int64_t r = 0; r < rows; r += 8) {
            if (rows - r >= 8 && cols - c >= 8) {
                transpose8(dst + c * ldd + r, ldd, src + r * lds + c, lds);
                continue;
            }
            for (int64_t i = r; i < r + 8 && i < rows; i++)
                for (int64_t j = c; j < c + 8 && j < cols; j++)
                    memcpy(&dst[j * ldd + i], &src[i * lds + j], 4);
        }
}

static void tile_out(float *y, int64_t ldy, const float *t, int64_t ldt, int64_t rows, int64_t cols,
                     float s, bool acc) {
    __m256 k = _mm256_set1_ps(s);
    for (int64_t r = 0; r < rows; r++, y += ldy, t += ldt) {
        int64_t c = 0;
        for (; c + 8 <= cols; c += 8) {
            __m256 v = _mm256_mul_ps(k, _mm256_loadu_ps(t + c));
            if (acc) v = _mm256_add_ps(_mm256_loadu_ps(y + c), v);
            _mm256_storeu_ps(y + c, v);
        }
        for (; c < cols; c++) {
            float v = s * t[c];
            y[c] = acc ? y[c] + v : v;
        }
    }
}

void fj_kern_avx2(fj_kern *k) {
    k->transpose = transpose;
    k->tile_out = tile_out;
    k->gemm = gemm;
    k->gemm_bf16 = gemm_bf16;
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
}
