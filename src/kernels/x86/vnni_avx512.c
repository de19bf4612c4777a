/* vnni_avx512.c - tiles of int8 products by vpdpbusd.  Weights are the unsigned operand (an offset, taken back
 * by the value that the integer sum starts from), activations the signed one, so that they can be broadcast
 * straight from memory. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "codes_avx512.inc"

static inline __m512i splat4(const int8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* Fetches ahead, a few lines at every step of the work.  Addresses past the end are harmless to a prefetch;
 * they are made as integers, where they are allowed. */
typedef struct fetch {
    uintptr_t at, end;
    int lines;
} fetch;

static inline void fetch_some(fetch *f) {
    for (int i = 0; i < f->lines && f->at < f->end; i++, f->at += 64)
        _mm_prefetch((const char *)f->at, _MM_HINT_T0);
}

/* Up to 6 rows by 2 times 16 columns: 12 integer sums, 12 others, 2 of weights, 1 of a row. */
static inline __attribute__((always_inline)) void tile(float *t, const fj_a8 *a, const fj_w8 *w,
                                                       int nb, const int KIND, const int MR,
                                                       bool first, fetch *f) {
    const int HALF = KIND & FJ_A8_16 ? 2 : 1,
              WORDS = 8 / HALF; /* groups of a block, words of a group */
    __m512 s[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++)
            s[r][p] = KIND & FJ_A8_WIDE || first ? _mm512_setzero_ps()
                                                 : _mm512_loadu_ps(t + r * 32 + 16 * p);
    for (int b = 0; b < nb; b++) {
        fetch_some(f);
#pragma GCC unroll 2
        for (int h = 0; h < HALF; h++) {
            const int g = b * HALF + h;
            __m512i c[6][2];
#pragma GCC unroll 6
            for (int r = 0; r < MR; r++)
                c[r][0] = c[r][1] =
                    KIND & FJ_A8_MIN ? _mm512_setzero_si512() : _mm512_set1_epi32(a[r].corr[g]);
#pragma GCC unroll 8
            for (int i = 0; i < WORDS; i++) {
                const int j = h * 4 + i;
                __m512i w0 = _mm512_load_si512(w->w[b][j]), w1 = _mm512_load_si512(w->w[b][j] + 16);
#pragma GCC unroll 6
                for (int r = 0; r < MR; r++) {
                    __m512i v = splat4(a[r].q + 32 * b + 4 * j);
                    c[r][0] = _mm512_dpbusd_epi32(c[r][0], w0, v);
                    c[r][1] = _mm512_dpbusd_epi32(c[r][1], w1, v);
                }
            }
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++) {
                __m512 d = _mm512_load_ps(w->d[g] + 16 * p);
#pragma GCC unroll 6
                for (int r = 0; r < MR; r++) {
                    __m512 e = KIND & FJ_A8_WIDE ? d : _mm512_mul_ps(d, _mm512_set1_ps(a[r].d[g]));
                    s[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][p]), e, s[r][p]);
                }
                if (!(KIND & FJ_A8_MIN)) continue;
                __m512 m = _mm512_load_ps(w->m[g] + 16 * p);
#pragma GCC unroll 6
                for (int r = 0; r < MR; r++)
                    s[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(a[r].sum[g]), s[r][p]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            float *y = t + r * 32 + 16 * p;
            if (KIND & FJ_A8_WIDE)
                s[r][p] = _mm512_fmadd_ps(s[r][p], _mm512_set1_ps(a[r].d[0]),
                                          first ? _mm512_setzero_ps() : _mm512_loadu_ps(y));
            _mm512_storeu_ps(y, s[r][p]);
        }
}

/* Blocks of rows of nearly one size. */
static inline __attribute__((always_inline)) void tiles(float *t, const fj_a8 *a, const fj_w8 *w,
                                                        int nb, int64_t rows, const int KIND,
                                                        bool first, fetch *f) {
    int64_t blocks = (rows + 5) / 6;
    for (int64_t i = 0, r = 0; i < blocks; i++) {
        int64_t end = rows * (i + 1) / blocks;
        float *to = t + r * 32;
        switch (end - r) {
        case 1: tile(to, a + r, w, nb, KIND, 1, first, f); break;
        case 2: tile(to, a + r, w, nb, KIND, 2, first, f); break;
        case 3: tile(to, a + r, w, nb, KIND, 3, first, f); break;
        case 4: tile(to, a + r, w, nb, KIND, 4, first, f); break;
        case 5: tile(to, a + r, w, nb, KIND, 5, first, f); break;
        case 6: tile(to, a + r, w, nb, KIND, 6, first, f); break;
        }
        r = end;
    }
}

void fj_gemm_w8_avx512(float *t, const fj_a8 *a, const fj_w8 *w, int nb, int64_t rows, int kind,
                       bool first, const void *next, int64_t bytes) {
    int64_t steps = (rows + 5) / 6 * nb;
    fetch f = { (uintptr_t)next, (uintptr_t)next + (uintptr_t)bytes,
                (int)((bytes / 64 + steps) / steps) };
    switch (kind & ~FJ_A8_OFFSET) {
    case FJ_A8_KIND_32: tiles(t, a, w, nb, rows, FJ_A8_KIND_32, first, &f); break;
    case FJ_A8_KIND_32_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_32_MIN, first, &f); break;
    case FJ_A8_KIND_256: tiles(t, a, w, nb, rows, FJ_A8_KIND_256, first, &f); break;
    case FJ_A8_KIND_256_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_256_MIN, first, &f); break;
    case FJ_A8_KIND_16: tiles(t, a, w, nb, rows, FJ_A8_KIND_16, first, &f); break;
    case FJ_A8_KIND_16_MIN: tiles(t, a, w, nb, rows, FJ_A8_KIND_16_MIN, first, &f); break;
    }
}

/* A block, all its places constants but for formats of 32 values. */
INLINE void unpack_block(fj_w8 *to, int at, const fj_dtype F, const void *panels, int b) {
    const int KIND = fj_a8_kind(F), HALF = KIND & FJ_A8_16 ? 2 : 1;
#pragma GCC unroll 2
    for (int p = 0; p < 2; p++) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            _mm512_store_si512(to->w[at][j] + 16 * p, code(F, panels, b, j, p));
#pragma GCC unroll 2
        for (int h = 0; h < HALF; h++) {
            __m512 d, m = _mm512_setzero_ps();
            scale(F, panels, b, h, p, &d, &m);
            _mm512_store_ps(to->d[HALF * at + h] + 16 * p, d);
            if (KIND & FJ_A8_MIN) _mm512_store_ps(to->m[HALF * at + h] + 16 * p, m);
        }
    }
}

INLINE void unpack_32(fj_w8 *to, const fj_dtype F, const void *panels, int b0, int nb) {
    for (int i = 0; i < nb; i++) unpack_block(to, i, F, panels, b0 + i);
}

INLINE void unpack_256(fj_w8 *to, const fj_dtype F, const void *panels, int b0, int nb) {
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++)
        if (b >= b0 && b < b0 + nb) unpack_block(to, b - b0, F, panels, b);
}

#define EACH_32(X)                                                                                 \
    X(Q8_0, q8_0)                                                                                  \
    X(Q4_0, q4_0)                                                                                  \
    X(MXFP4, mxfp4) X(Q4_1, q4_1) X(Q5_0, q5_0) X(Q5_1, q5_1) X(IQ4_NL, q4_0)
#define EACH_256(X)                                                                                \
    X(Q4_K, q4_k) X(Q5_K, q5_k) X(Q6_K, q6_k) X(Q3_K, q3_k) X(Q2_K, q2_k) X(IQ4_XS, iq4_xs)

static void w8_unpack(fj_w8 *to, fj_dtype t, const void *panels, int b0, int nb) {
    switch (t) {
#define CASE(F, panel)                                                                             \
    case FJ_##F: unpack_32(to, FJ_##F, panels, b0, nb); break;
        EACH_32(CASE)
#undef CASE
#define CASE(F, panel)                                                                             \
    case FJ_##F: unpack_256(to, FJ_##F, panels, b0, nb); break;
        EACH_256(CASE)
#undef CASE
    default: break;
    }
}

/* ---- few rows: the weights go from memory through registers ---------------------------------------- */
/* Lines so far ahead that they arrive in time. */
enum { AHEAD = 4096 };

INLINE void few_block(__m512 s[2][2], const fj_a8 *a, const fj_dtype F, const void *panels, int b,
                      const int MR) {
    const int KIND = fj_a8_kind(F), HALF = KIND & FJ_A8_16 ? 2 : 1, WORDS = 8 / HALF;
#pragma GCC unroll 2
    for (int h = 0; h < HALF; h++) {
        const int g = b * HALF + h;
        __m512i c[2][2];
#pragma GCC unroll 2
        for (int r = 0; r < MR; r++)
            c[r][0] = c[r][1] =
                KIND & FJ_A8_MIN ? _mm512_setzero_si512() : _mm512_set1_epi32(a[r].corr[g]);
#pragma GCC unroll 8
        for (int i = 0; i < WORDS; i++) {
            const int j = h * 4 + i;
            __m512i w0 = code(F, panels, b, j, 0), w1 = code(F, panels, b, j, 1);
#pragma GCC unroll 2
            for (int r = 0; r < MR; r++) {
                __m512i v = splat4(a[r].q + 32 * b + 4 * j);
                c[r][0] = _mm512_dpbusd_epi32(c[r][0], w0, v);
                c[r][1] = _mm512_dpbusd_epi32(c[r][1], w1, v);
            }
        }
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            __m512 d, m = _mm512_setzero_ps();
            scale(F, panels, b, h, p, &d, &m);
#pragma GCC unroll 2
            for (int r = 0; r < MR; r++) {
                __m512 e = KIND & FJ_A8_WIDE ? d : _mm512_mul_ps(d, _mm512_set1_ps(a[r].d[g]));
                s[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[r][p]), e, s[r][p]);
                if (KIND & FJ_A8_MIN)
                    s[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(a[r].sum[g]), s[r][p]);
            }
        }
    }
}

INLINE void ahead(const char *b, const int bytes) {
#pragma GCC unroll 20
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)((uintptr_t)b + AHEAD + (uintptr_t)i), _MM_HINT_T0);
}

INLINE void few(float *t, const fj_a8 *a, int64_t stride, const char *panels, int64_t nb,
                const fj_dtype F, const int BYTES, const bool LARGE, const int MR) {
    const int KIND = fj_a8_kind(F);
    __m512 y[2][2];
#pragma GCC unroll 2
    for (int r = 0; r < MR; r++) y[r][0] = y[r][1] = _mm512_setzero_ps();
    for (; nb > 0; nb -= 8, a += stride) {
        __m512 s[2][2];
#pragma GCC unroll 2
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++) s[r][p] = KIND & FJ_A8_WIDE ? _mm512_setzero_ps() : y[r][p];
        if (LARGE) {
#pragma GCC unroll 8
            for (int b = 0; b < 8; b++) {
                ahead(panels + b * 4 * BYTES, 4 * BYTES);
                few_block(s, a, F, panels, b, MR);
            }
            panels += 32 * BYTES;
        } else
            for (int b = 0; b < 8 && b < nb; b++, panels += 32 * BYTES) {
                ahead(panels, 32 * BYTES);
                few_block(s, a, F, panels - (int64_t)b * 32 * BYTES, b, MR);
            }
#pragma GCC unroll 2
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++)
                y[r][p] = KIND & FJ_A8_WIDE
                              ? _mm512_fmadd_ps(s[r][p], _mm512_set1_ps(a[r].d[0]), y[r][p])
                              : s[r][p];
    }
#pragma GCC unroll 2
    for (int r = 0; r < MR; r++) {
        _mm512_storeu_ps(t + 32 * r, y[r][0]);
        _mm512_storeu_ps(t + 32 * r + 16, y[r][1]);
    }
}

static void few_w8(float *t, const fj_a8 *a, int64_t stride, fj_dtype dt, const void *panels,
                   int64_t nb, int rows) {
    for (; rows > 0; rows -= 2, t += 64, a += 2) switch (dt) {
#define CASE(F, panel)                                                                             \
    case FJ_##F:                                                                                   \
        if (rows > 1)                                                                              \
            few(t, a, stride, panels, nb, FJ_##F, sizeof(fj_panel_##panel) / 32, false, 2);        \
        else few(t, a, stride, panels, nb, FJ_##F, sizeof(fj_panel_##panel) / 32, false, 1);       \
        break;
            EACH_32(CASE)
#undef CASE
#define CASE(F, panel)                                                                             \
    case FJ_##F:                                                                                   \
        if (rows > 1)                                                                              \
            few(t, a, stride, panels, nb, FJ_##F, sizeof(fj_panel_##panel) / 32, true, 2);         \
        else few(t, a, stride, panels, nb, FJ_##F, sizeof(fj_panel_##panel) / 32, true, 1);        \
        break;
            EACH_256(CASE)
#undef CASE
        default: break;
        }
}

/* Bits of |x| order as the numbers do, and infinities and NaN come last. */
static inline uint32_t largest(const float *x, int n) {
    __m512i m = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 16)
        m = _mm512_max_epi32(
            m, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7fffffff)));
    return (uint32_t)_mm512_reduce_max_epi32(m);
}

static inline void put_sum(fj_a8 *y, int g, __m512i q, float d, int kind) {
    int sum = _mm512_reduce_add_epi32(q);
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
        __m512i q0 = _mm512_setzero_si512(), q1 = q0;
        if (!zero) {
            q0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(id)));
            q1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i + 16), _mm512_set1_ps(id)));
        }
        const int b = (at + i) / 32;
        _mm_storeu_si128((__m128i *)(void *)(y->q + at + i), _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(y->q + at + i + 16), _mm512_cvtepi32_epi8(q1));
        y->d[b] = d;
        if (kind & FJ_A8_16) {
            put_sum(y, 2 * b, q0, d, kind);
            put_sum(y, 2 * b + 1, q1, d, kind);
        } else put_sum(y, b, _mm512_add_epi32(q0, q1), d, kind);
    }
}

static void quant_a8(fj_a8 *y, int64_t stride, const float *x, int64_t k, int kind) {
    const int step = kind & FJ_A8_WIDE ? 256 : 32;
    for (int64_t i = 0; i < k; i += step)
        quant(y + i / 256 * stride, (int)(i % 256), x + i, k - i < step ? (int)(k - i) : step,
              kind);
}

void fj_kern_avx512_vnni(fj_kern *k) {
    k->quant_a8 = quant_a8;
    k->w8_unpack = w8_unpack;
    k->gemm_w8 = fj_gemm_w8_avx512;
    k->few_w8 = few_w8;
    k->few_rows = 2;
}
