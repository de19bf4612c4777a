/* w8_avx2.c - tiles of int8 products with 16 registers of 32 bytes: vpmaddubsw and vpmaddwd. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

static inline void halves(float *y, const uint16_t *x) {
    for (int i = 0; i < 32; i += 8)
        _mm256_storeu_ps(y + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
}

static inline void lookup(uint32_t *w, int n, const uint8_t *table) {
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    for (int i = 0; i < n / 4; i += 8) {
        __m256i *p = (__m256i *)(void *)(w + i);
        _mm256_storeu_si256(p, _mm256_shuffle_epi8(t, _mm256_loadu_si256(p)));
    }
}

#define HALVES halves
#define LOOKUP lookup
#include "kernels/w8.inc"
#include "kernels/x86/bf16_avx2.inc"

static inline __m256i splat4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

/* Pairs of products in 16 bits hold those of codes up to 128 (2 * 128 * 127 < 2^15).  Codes whose offset is 128
 * are larger: they are made signed, |w| times a with the sign of w, and the sum starts from 0. */
static inline __attribute__((always_inline)) __m256i dot4(__m256i c, __m256i w, __m256i a,
                                                          const bool BIG) {
    __m256i pairs;
    if (BIG) {
        w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    } else pairs = _mm256_maddubs_epi16(w, a);
    return _mm256_add_epi32(c, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* MR rows by 16 columns from column 16 P on. */
static inline __attribute__((always_inline)) void tile(float *t, const fj_a8 *a, const fj_w8 *w,
                                                       int nb, const int KIND, const bool BIG,
                                                       const int MR, const int P, bool first) {
    const int HALF = KIND & FJ_A8_16 ? 2 : 1,
              WORDS = 8 / HALF; /* groups of a block, words of a group */
    __m256 s[3][2];
#pragma GCC unroll 3
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = KIND & FJ_A8_WIDE || first ? _mm256_setzero_ps()
                                                 : _mm256_loadu_ps(t + r * 32 + 16 * P + 8 * p);
    for (int b = 0; b < nb; b++)
        for (int h = 0; h < HALF; h++) {
            const int g = b * HALF + h;
            __m256i c[3][2];
#pragma GCC unroll 3
            for (int r = 0; r < MR; r++)
                c[r][0] = c[r][1] = KIND & FJ_A8_MIN || BIG ? _mm256_setzero_si256()
                                                            : _mm256_set1_epi32(a[r].corr[g]);
#pragma GCC unroll 2
            for (int i = 0; i < WORDS; i++) {
                const int j = h * 4 + i;
                const __m256i *q = (const __m256i *)(const void *)(w->w[b][j] + 16 * P);
                __m256i w0 = _mm256_loadu_si256(q), w1 = _mm256_loadu_si256(q + 1);
#pragma GCC unroll 3
                for (int r = 0; r < MR; r++) {
                    __m256i v = splat4(a[r].q + 32 * b + 4 * j);
                    c[r][0] = dot4(c[r][0], w0, v, BIG);
                    c[r][1] = dot4(c[r][1], w1, v, BIG);
                }
            }
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++) {
                __m256 d = _mm256_loadu_ps(w->d[g] + 16 * P + 8 * p);
#pragma GCC unroll 3
                for (int r = 0; r < MR; r++) {
                    __m256 e = KIND & FJ_A8_WIDE ? d : _mm256_mul_ps(d, _mm256_set1_ps(a[r].d[g]));
                    s[r][p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[r][p]), e, s[r][p]);
                }
                if (!(KIND & FJ_A8_MIN)) continue;
                __m256 m = _mm256_loadu_ps(w->m[g] + 16 * P + 8 * p);
#pragma GCC unroll 3
                for (int r = 0; r < MR; r++)
                    s[r][p] = _mm256_fmadd_ps(m, _mm256_set1_ps(a[r].sum[g]), s[r][p]);
            }
        }
#pragma GCC unroll 3
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            float *y = t + r * 32 + 16 * P + 8 * p;
            if (KIND & FJ_A8_WIDE)
                s[r][p] = _mm256_fmadd_ps(s[r][p], _mm256_set1_ps(a[r].d[0]),
                                          first ? _mm256_setzero_ps() : _mm256_loadu_ps(y));
            _mm256_storeu_ps(y, s[r][p]);
        }
}

static inline __attribute__((always_inline)) void tiles(float *t, const fj_a8 *a, const fj_w8 *w,
                                                        int nb, int64_t rows, const int KIND,
                                                        const bool BIG, bool first) {
    int64_t r = 0;
    for (; rows - r >= 2; r += 2) {
        tile(t + r * 32, a + r, w, nb, KIND, BIG, 2, 0, first);
        tile(t + r * 32, a + r, w, nb, KIND, BIG, 2, 1, first);
    }
    if (r == rows) return;
    tile(t + r * 32, a + r, w, nb, KIND, BIG, 1, 0, first);
    tile(t + r * 32, a + r, w, nb, KIND, BIG, 1, 1, first);
}

static void gemm_w8(float *t, const fj_a8 *a, const fj_w8 *w, int nb, int64_t rows, int kind,
                    bool first, const void *next, int64_t bytes) {
    const bool big = (kind & FJ_A8_OFFSET) == 128;
    for (uintptr_t p = (uintptr_t)next; p < (uintptr_t)next + (uintptr_t)bytes; p += 64)
        _mm_prefetch((const char *)p, _MM_HINT_T0);
    switch (kind & ~FJ_A8_OFFSET) {
    case FJ_A8_KIND_32:
        if (big) tiles(t, a, w, nb, rows, FJ_A8_KIND_32, true, first);
        else tiles(t, a, w, nb, rows, FJ_A8_KIND_32, false, first);
        break;
    case FJ_A8_KIND_256:
        if (big) tiles(t, a, w, nb, rows, FJ_A8_KIND_256, true, first);
        else tiles(t, a, w, nb, rows, FJ_A8_KIND_256, false, first);
        break;
    case FJ_A8_KIND_32_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_32_MIN, false, first); break;
    case FJ_A8_KIND_256_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_256_MIN, false, first); break;
    case FJ_A8_KIND_16: tiles(t, a, w, nb, rows, FJ_A8_KIND_16, false, first); break;
    case FJ_A8_KIND_16_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_16_MIN, false, first); break;
    }
}

/* to[c][j] = from[j][c] for eight columns of a block: 32 codes of a column side by side. */
static inline void columns8(uint32_t to[8][8], const uint32_t (*from)[32]) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps((const float *)(const void *)from[i]);
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
        _mm256_storeu_ps((float *)(void *)to[i], _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps((float *)(void *)to[i + 4], _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

static void w8_rows(float *dst, int64_t ld, const fj_w8 *w, int nb, int kind, int c0, int n) {
    const int half = kind & FJ_A8_16 ? 2 : 1;
    const __m256i off = _mm256_set1_epi32(kind & FJ_A8_OFFSET);
    for (int b = 0; b < nb; b++)
        for (int c8 = c0 & ~7; c8 < c0 + n; c8 += 8) {
            uint32_t codes[8][8];
            columns8(codes, (const uint32_t(*)[32])(const void *)(w->w[b][0] + c8));
            for (int i = 0; i < 8; i++) {
                int c = c8 + i;
                if (c < c0 || c >= c0 + n) continue;
                float *y = dst + (c - c0) * ld + 32 * b;
                for (int j = 0; j < 32; j += 8) {
                    int g = half * b + (half > 1 ? j / 16 : 0);
                    __m128i q = _mm_loadl_epi64((const __m128i *)(const void *)(codes[i] + j / 4));
                    __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(q), off));
                    v = _mm256_mul_ps(_mm256_set1_ps(w->d[g][c]), v);
                    if (kind & FJ_A8_MIN) v = _mm256_add_ps(v, _mm256_set1_ps(w->m[g][c]));
                    _mm256_storeu_ps(y + j, v);
                }
            }
        }
}

static inline void pairs(uint32_t *y, const float *a, const float *b, int n) {
    for (int i = 0; i < n; i += 8) {
        __m256i v = bf16(_mm256_loadu_ps(a + i));
        if (b) v = _mm256_or_si256(v, _mm256_slli_epi32(bf16(_mm256_loadu_ps(b + i)), 16));
        _mm256_storeu_si256((__m256i *)(void *)(y + i), v);
    }
}

#define PAIRS pairs
#include "kernels/w8_pairs.inc"

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

static inline void put_sum(fj_a8 *y, int g, __m256i q, float d, int kind) {
    int32_t s[8], sum = 0;
    _mm256_storeu_si256((__m256i *)(void *)s, q);
    for (int j = 0; j < 8; j++) sum += s[j];
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
    const __m256 by = _mm256_set1_ps(id);
    for (int i = 0; i < n; i += 32) {
        const int block = (at + i) / 32;
        __m256i q[4];
        for (int j = 0; j < 4; j++)
            q[j] = zero ? _mm256_setzero_si256()
                        : _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), by));
        __m256i lo = _mm256_add_epi32(q[0], q[1]), hi = _mm256_add_epi32(q[2], q[3]);
        /* Packing works in halves of 128 bits: the last step puts the fours back in order. */
        __m256i b =
            _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(void *)(y->q + at + i), b);
        y->d[block] = d;
        if (kind & FJ_A8_16) {
            put_sum(y, 2 * block, lo, d, kind);
            put_sum(y, 2 * block + 1, hi, d, kind);
        } else put_sum(y, block, _mm256_add_epi32(lo, hi), d, kind);
    }
}

static void quant_a8(fj_a8 *y, int64_t stride, const float *x, int64_t k, int kind) {
    const int step = kind & FJ_A8_WIDE ? 256 : 32;
    for (int64_t i = 0; i < k; i += step)
        quant(y + i / 256 * stride, (int)(i % 256), x + i, k - i < step ? (int)(k - i) : step,
              kind);
}

void fj_kern_avx2_w8(fj_kern *k) {
    k->quant_a8 = quant_a8;
    k->w8_unpack = w8_unpack;
    k->gemm_w8 = gemm_w8;
    k->w8_rows = w8_rows;
    k->w8_pairs = w8_pairs;
}
