/* bf16_fma_avx512.c - products of bf16 by f32 multiply-adds on widened numbers, where these are faster than
 * vdpbf16ps: Intel's processors begin one of that in two cycles, and four multiply-adds.  The bits are those of
 * vdpbf16ps: the odd product first, then the even one; denormals are zero, in and out, as MXCSR is told here. */
#include "kernels/kern.h"

#include <immintrin.h>

/* Rows of a call, which share what is widened of b; pairs of a piece, whose b and 8 rows of a stay in the L1
 * cache; so few rows have nothing to share. */
enum { MOST = 64, PAIRS = 80, FEW = 3 };

/* [row][odd, then even][PAIRS]; meanwhile the next 8 rows come. */
static void widen_rows(float *y, const uint32_t *a, int64_t ars, int rows, int64_t k) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int r = 0; r < rows; r++, a += ars, y += 2 * PAIRS)
        for (int64_t j = 0; j < k; j += 16) {
            __mmask16 m = k - j < 16 ? (__mmask16)((1u << (k - j)) - 1) : (__mmask16)0xffff;
            _mm_prefetch((const char *)((uintptr_t)(a + j) + 32 * (uintptr_t)ars), _MM_HINT_T0);
            __m512i x = _mm512_maskz_loadu_epi32(m, a + j);
            _mm512_mask_storeu_epi32(y + j, m, _mm512_and_si512(x, high));
            _mm512_mask_storeu_epi32(y + PAIRS + j, m, _mm512_slli_epi32(x, 16));
        }
}

/* [pair][odd, then even][16 np] */
static void widen_tile(float *y, const uint32_t *b, int64_t ldb, int np, int64_t k) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int64_t j = 0; j < k; j++, b += ldb, y += 32 * np)
        for (int p = 0; p < np; p++) {
            __m512i x = _mm512_loadu_si512(b + 16 * p);
            _mm512_store_si512(y + 16 * p, _mm512_and_si512(x, high));
            _mm512_store_si512(y + 16 * (np + p), _mm512_slli_epi32(x, 16));
        }
}

/* Into the register of the sum: as an intrinsic, gcc gives it another one and runs out of them. */
#define MADD(s, a, b) __asm__("vfmadd231ps %1, %2, %0" : "+v"(s) : "v"(b), "v"(a))

#define STEP(A, B)                                                                                 \
    do {                                                                                           \
        __m512 w[3];                                                                               \
        _Pragma("GCC unroll 3") for (int p = 0; p < NP; p++) w[p] = _mm512_load_ps((B) + p * 16);  \
        _Pragma("GCC unroll 8") for (int r = 0; r < MR; r++) {                                     \
            __m512 v = _mm512_set1_ps((A)[r * 2 * PAIRS]);                                         \
            _Pragma("GCC unroll 3") for (int p = 0; p < NP; p++) MADD(s[r][p], v, w[p]);           \
        }                                                                                          \
    } while (0)

static inline __attribute__((always_inline)) void tile(float *t, int64_t ldt, const float *a,
                                                       const float *b, int64_t k, const int MR,
                                                       const int NP, bool first) {
    __m512 s[8][3];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 3
        for (int p = 0; p < NP; p++)
            s[r][p] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(t + r * ldt + p * 16);
    int64_t j = 0;
    for (; j + 2 <= k; j += 2, a += 2, b += 64 * NP) {
        STEP(a, b);
        STEP(a + PAIRS, b + 16 * NP);
        STEP(a + 1, b + 32 * NP);
        STEP(a + PAIRS + 1, b + 48 * NP);
    }
    if (j < k) {
        STEP(a, b);
        STEP(a + PAIRS, b + 16 * NP);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 3
        for (int p = 0; p < NP; p++) _mm512_storeu_ps(t + r * ldt + p * 16, s[r][p]);
}

#define ROW(MR, NP)                                                                                \
    case (MR)*4 + (NP):                                                                            \
        tile(t, ldt, a, b, k, MR, NP, first);                                                      \
        break;
#define PANELS(NP)                                                                                 \
    ROW(1, NP) ROW(2, NP) ROW(3, NP) ROW(4, NP) ROW(5, NP) ROW(6, NP) ROW(7, NP) ROW(8, NP)

/* By itself: nothing moves over the change of MXCSR. */
static __attribute__((noinline)) void gemm_wide(float *t, int64_t ldt, const float *a,
                                                const float *b, int64_t k, int mr, int np,
                                                bool first) {
    switch (mr * 4 + np) { PANELS(1) PANELS(2) PANELS(3) }
}

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    if (k < 1 || mr <= FEW) {
        fj_gemm_bf16_avx512(t, ldt, a, ars, b, ldb, k, mr, np, first, next, bytes);
        return;
    }
    /* As many lines are fetched beside each product, until all are. */
    const char *fetch = next, *end = fetch + bytes;
    const int64_t lines = bytes / 64 / ((k + PAIRS - 1) / PAIRS * ((mr + 7) / 8)) + 1;
    _Alignas(64) float tiles[2 * PAIRS * 48], rows[8 * 2 * PAIRS];
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | 0x8040); /* FTZ, DAZ */
    for (int64_t k0 = 0; k0 < k; k0 += PAIRS) {
        int64_t kc = k - k0 < PAIRS ? k - k0 : PAIRS;
        widen_tile(tiles, b + k0 * ldb, ldb, np, kc);
        for (int r = 0; r < mr; r += 8) {
            int n = mr - r < 8 ? mr - r : 8;
            for (int64_t i = 0; i < lines && fetch < end; i++, fetch += 64)
                _mm_prefetch(fetch, _MM_HINT_T1);
            widen_rows(rows, a + r * ars + k0, ars, n, kc);
            gemm_wide(t + r * ldt, ldt, rows, tiles, kc, n, np, first && !k0);
        }
    }
    _mm_setcsr(csr);
}

#define ATTN_ROWS MOST
#include "kernels/attn_tiles.inc"

void fj_kern_avx512_bf16_fma(fj_kern *k) {
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
    k->gemm_bf16 = gemm_bf16;
    k->bf16_rows = MOST;
}
