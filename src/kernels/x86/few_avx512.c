/* few_avx512.c - few rows of bf16 times panels of F16, which are rounded to bf16 in registers: memory is read without a
 * stop, where a tile rounded beforehand would let it wait while rows meet the tile. */
#include "kernels/kern.h"

#include <immintrin.h>

enum { AHEAD = 2048 }; /* bytes, of what is fetched before what is read */

/* TILES: with the order of additions of AMX. */
static inline __attribute__((always_inline)) void rows(float *t, int64_t ldt, const uint32_t *a,
                                                       int64_t ars, const uint16_t *b, int64_t k,
                                                       const int MR, const int NP, const bool TILES,
                                                       bool first) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    __m512 s[4][3], even[2][3], odd[2][3];
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 3
        for (int p = 0; p < NP; p++) {
            s[r][p] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(t + r * ldt + p * 16);
            if (TILES) even[r][p] = odd[r][p] = _mm512_setzero_ps();
        }
    for (int64_t j = 0; j < k; j++, a++) {
#pragma GCC unroll 3
        for (int p = 0; p < NP; p++, b += 32) {
            _mm_prefetch((const char *)((uintptr_t)b + AHEAD), _MM_HINT_T0);
            __m512 lo = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)b));
            __m512 hi =
                _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(b + 16)));
            __m512i w = (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
#pragma GCC unroll 4
            for (int r = 0; r < MR; r++) {
                __m512i v = _mm512_set1_epi32((int)a[r * ars]);
                if (!TILES) {
                    s[r][p] = _mm512_dpbf16_ps(s[r][p], (__m512bh)v, (__m512bh)w);
                    continue;
                }
                even[r][p] =
                    _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)),
                                    _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), even[r][p]);
                odd[r][p] =
                    _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(v, high)),
                                    _mm512_castsi512_ps(_mm512_and_si512(w, high)), odd[r][p]);
            }
        }
        if (!TILES || (j % 16 < 15 && j + 1 < k)) continue;
#pragma GCC unroll 2
        for (int r = 0; r < MR; r++)
#pragma GCC unroll 3
            for (int p = 0; p < NP; p++) {
                s[r][p] = _mm512_add_ps(s[r][p], _mm512_add_ps(even[r][p], odd[r][p]));
                even[r][p] = odd[r][p] = _mm512_setzero_ps();
            }
    }
#pragma GCC unroll 4
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 3
        for (int p = 0; p < NP; p++) _mm512_storeu_ps(t + r * ldt + p * 16, s[r][p]);
}

#define CASE(MR, NP)                                                                               \
    case (MR)*4 + (NP):                                                                            \
        rows(t, ldt, a, ars, b, k, MR, NP, TILES, first);                                          \
        break;
#define CASES(MR) CASE(MR, 1) CASE(MR, 2) CASE(MR, 3)

#define TILES false
static void few_f16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint16_t *b,
                    int64_t k, int mr, int np, bool first) {
    switch (mr * 4 + np) { CASES(1) CASES(2) CASES(3) CASES(4) }
}

void fj_kern_avx512_few(fj_kern *k) {
    k->few_f16 = few_f16;
    k->few_f16_rows = 4;
}

#undef TILES
#define TILES true
static void few_f16_amx(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint16_t *b,
                        int64_t k, int mr, int np, bool first) {
    const unsigned was = _mm_getcsr();
    _mm_setcsr(was | 0x8040); /* denormals are zero, as they are to tiles */
    switch (mr * 4 + np) { CASES(1) CASES(2) }
    _mm_setcsr(was);
}

void fj_kern_amx_few(fj_kern *k) {
    k->few_f16 = few_f16_amx;
    k->few_f16_rows = 2;
}
