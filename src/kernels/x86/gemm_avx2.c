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
                                                            int64_t acs, const uint32_t *b,
                                                            int64_t ldb, int64_t k, const int MR,
                                                            bool first) {
    __m256 s[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + r * ldt + p * 8);
    for (int64_t j = 0; j < k; j++, a += acs, b += ldb) {
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

#define CASE(TILE, N)                                                                              \
    case N: TILE(t + p * 16, ldt, a, ars, acs, b + p * 16, ldb, k, N, first); break;

static void gemm(float *t, int64_t ldt, const float *a, int64_t ars, int64_t acs, const float *b,
                 int64_t ldb, int64_t k, int mr, int np, bool first) {
    while (mr > 0) {
        int now = mr > 6 ? 4 : mr;
        for (int p = 0; p < np; p++) switch (now) {
                CASE(tile, 1) CASE(tile, 2) CASE(tile, 3) CASE(tile, 4) CASE(tile, 5) CASE(tile, 6)
            }
        t += now * ldt;
        a += now * ars;
        mr -= now;
    }
}

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, int64_t acs,
                      const uint32_t *b, int64_t ldb, int64_t k, int mr, int np, bool first) {
    while (mr > 0) {
        int now = mr > 4 ? 4 : mr;
        for (int p = 0; p < np; p++) switch (now) {
                CASE(tile_bf16, 1) CASE(tile_bf16, 2) CASE(tile_bf16, 3) CASE(tile_bf16, 4)
            }
        t += now * ldt;
        a += now * ars;
        mr -= now;
    }
}

/* Four products of bytes into 32 bits without saturation: even and odd bytes widened to 16. */
static inline __m256i dot4(__m256i s, __m256i w, __m256i even_a, __m256i odd_a) {
    __m256i we = _mm256_and_si256(w, _mm256_set1_epi16(255)), wo = _mm256_srli_epi16(w, 8);
    return _mm256_add_epi32(
        s, _mm256_add_epi32(_mm256_madd_epi16(we, even_a), _mm256_madd_epi16(wo, odd_a)));
}

static inline __m256i splat4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

static inline __m256 scale8(const char *b, int i) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)b + i));
}

static void gemm_q8(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                    int64_t nb, int mr, bool first) {
    for (int r = 0; r < mr; r++, a++, t += ldt) {
        __m256 s[4];
        for (int p = 0; p < 4; p++) s[p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + 8 * p);
        const char *b = w;
        for (int64_t i = 0; i < nb; i++, b += FJ_Q8_PANEL) {
            const fj_a8 *x = a + (i >> 3) * stride;
            __m256i c[4];
            for (int p = 0; p < 4; p++) c[p] = _mm256_set1_epi32(x->corr[i & 7]);
            for (int j = 0; j < 8; j++) {
                __m256i v = splat4(x->q + (i & 7) * 32 + 4 * j);
                __m256i ve = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8),
                        vo = _mm256_srai_epi16(v, 8);
                const __m256i *q = (const __m256i *)(const void *)(b + 64 + 128 * j);
#pragma GCC unroll 4
                for (int p = 0; p < 4; p++) c[p] = dot4(c[p], _mm256_loadu_si256(q + p), ve, vo);
            }
            __m256 da = _mm256_set1_ps(x->d[i & 7]);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                s[p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[p]), _mm256_mul_ps(scale8(b, p), da),
                                       s[p]);
        }
        for (int p = 0; p < 4; p++) _mm256_storeu_ps(t + 8 * p, s[p]);
    }
}

static void gemm_q4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                    int64_t nb, int mr, bool first) {
    const __m256i nibble = _mm256_set1_epi8(15);
    for (int r = 0; r < mr; r++, a++, t += ldt) {
        const char *b = w;
        __m256 s[4], o[4];
        for (int p = 0; p < 4; p++) s[p] = _mm256_setzero_ps();
        for (int p = 0; p < 4; p++) o[p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + 8 * p);
        for (int64_t i = 0; i < nb; i++, b += FJ_Q4_PANEL) {
            const fj_a8 *x = a + (i >> 3) * stride;
            __m256i c[4];
            for (int p = 0; p < 4; p++) c[p] = _mm256_set1_epi32(x->corr[i & 7]);
            for (int j = 0; j < 4; j++) {
                const int8_t *q = x->q + (i & 7) * 32 + 4 * j;
                __m256i v = splat4(q), u = splat4(q + 16);
                __m256i ve = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8),
                        vo = _mm256_srai_epi16(v, 8);
                __m256i ue = _mm256_srai_epi16(_mm256_slli_epi16(u, 8), 8),
                        uo = _mm256_srai_epi16(u, 8);
                const __m256i *q4 = (const __m256i *)(const void *)(b + 64 + 128 * j);
#pragma GCC unroll 4
                for (int p = 0; p < 4; p++) {
                    __m256i y = _mm256_loadu_si256(q4 + p);
                    c[p] = dot4(c[p], _mm256_and_si256(y, nibble), ve, vo);
                    c[p] = dot4(c[p], _mm256_and_si256(_mm256_srli_epi16(y, 4), nibble), ue, uo);
                }
            }
            bool end = (i & 7) == 7 || i + 1 == nb;
            __m256 da = _mm256_set1_ps(x->d[0]);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++) {
                s[p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[p]), scale8(b, p), s[p]);
                if (!end) continue;
                o[p] = _mm256_fmadd_ps(s[p], da, o[p]);
                s[p] = _mm256_setzero_ps();
            }
        }
        for (int p = 0; p < 4; p++) _mm256_storeu_ps(t + 8 * p, o[p]);
    }
}

/* Half the scales of 8 columns: as fj_e8m0_half. */
static inline __m256 half_scale8(const char *b, int i) {
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(b + 8 * i)));
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    __m256i large = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    return _mm256_castsi256_ps(
        _mm256_blendv_epi8(large, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

static void gemm_mx4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                     int64_t nb, int mr, bool first) {
    const __m256i nibble = _mm256_set1_epi8(15);
    /* Twice the e2m1 number plus 128, by code. */
    const __m256i table = _mm256_broadcastsi128_si256(_mm_add_epi8(
        _mm_loadu_si128((const __m128i *)(const void *)fj_e2m1_doubled), _mm_set1_epi8(-128)));
    for (int r = 0; r < mr; r++, a++, t += ldt) {
        const char *b = w;
        __m256 s[4];
        for (int p = 0; p < 4; p++) s[p] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(t + 8 * p);
        for (int64_t i = 0; i < nb; i++, b += FJ_MX4_PANEL) {
            const fj_a8 *x = a + (i >> 3) * stride;
            __m256i c[4];
            for (int p = 0; p < 4; p++) c[p] = _mm256_set1_epi32(x->corr[i & 7]);
            for (int j = 0; j < 4; j++) {
                const int8_t *q = x->q + (i & 7) * 32 + 4 * j;
                __m256i v = splat4(q), u = splat4(q + 16);
                __m256i ve = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8),
                        vo = _mm256_srai_epi16(v, 8);
                __m256i ue = _mm256_srai_epi16(_mm256_slli_epi16(u, 8), 8),
                        uo = _mm256_srai_epi16(u, 8);
                const __m256i *q4 = (const __m256i *)(const void *)(b + 32 + 128 * j);
#pragma GCC unroll 4
                for (int p = 0; p < 4; p++) {
                    __m256i y = _mm256_loadu_si256(q4 + p);
                    __m256i low = _mm256_and_si256(y, nibble),
                            high = _mm256_and_si256(_mm256_srli_epi16(y, 4), nibble);
                    c[p] = dot4(c[p], _mm256_shuffle_epi8(table, low), ve, vo);
                    c[p] = dot4(c[p], _mm256_shuffle_epi8(table, high), ue, uo);
                }
            }
            __m256 da = _mm256_set1_ps(x->d[i & 7]);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                s[p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[p]),
                                       _mm256_mul_ps(half_scale8(b, p), da), s[p]);
        }
        for (int p = 0; p < 4; p++) _mm256_storeu_ps(t + 8 * p, s[p]);
    }
}

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

/* Bits of |x| order as the numbers do, and infinities and NaN come last. */
static inline uint32_t largest(const float *x, int n) {
    __m256i m = _mm256_setzero_si256();
    uint32_t u[8], top = 0;
    for (int i = 0; i < n; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        m = _mm256_max_epi32(m, _mm256_and_si256(v, _mm256_set1_epi32(0x7fffffff)));
    }
    _mm256_storeu_si256((__m256i *)(void *)u, m);
    for (int i = 0; i < 8; i++) top = u[i] > top ? u[i] : top;
    return top;
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
    const __m256 by = _mm256_set1_ps(id);
    for (int i = 0; i < n; i += 32) {
        __m256i q[4];
        for (int j = 0; j < 4; j++)
            q[j] = zero ? _mm256_setzero_si256()
                        : _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), by));
        __m256i sum = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
        int32_t s[8], total = 0;
        _mm256_storeu_si256((__m256i *)(void *)s, sum);
        for (int j = 0; j < 8; j++) total += s[j];
        /* Packing works in halves of 128 bits: the last step puts the fours back in order. */
        __m256i b =
            _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(void *)(y->q + at + i), b);
        y->corr[(at + i) / 32] = -offset * total;
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

void fj_kern_avx2(fj_kern *k) {
    k->transpose = transpose;
    k->tile_out = tile_out;
    k->quant_a8_32 = quant_a8_32;
    k->quant_a8_256 = quant_a8_256;
    k->gemm = gemm;
    k->gemm_bf16 = gemm_bf16;
    k->gemm_q8 = gemm_q8;
    k->gemm_q4 = gemm_q4;
    k->gemm_mx4 = gemm_mx4;
}
