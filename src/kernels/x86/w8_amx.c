/* w8_amx.c - int8 products of many rows by tiles of 16 x 16: the integer sums of a group of values, of 16 rows
 * and 32 columns, are two instructions, and what is left for the vectors is to scale and add them up.
 *
 * Codes become signed first (their offset is taken off, which the kernels of vpdpbusd do by the value that
 * their sums start from: the same integers).  Tiles write the sums of all groups of 16 rows into the L1 cache, then
 * vectors add them up: step by step in turn both were slower (measured), as if each change between tiles and vectors
 * cost some 30 cycles.  Groups of 16 values are too short for tiles. */
#include "kernels/kern.h"
#include "kernels/x86/tiles_amx.inc"

#include <immintrin.h>
#include <string.h>

enum {
    ROWS = 16,
    LEAST =
        48, /* fewer rows are faster by vpdpbusd: codes and sums are more than the L1 cache holds beside a tile */
    FEW = 6 /* the same of rows that are left beside 16s */
};

typedef int32_t dots[8][2][ROWS][16]; /* of groups, halves of the columns */

#define INLINE static inline __attribute__((always_inline))

#define DOT(c, a, b)                                                                               \
    do {                                                                                           \
        TILE_ZERO(c);                                                                              \
        TILE_INT8(c, a, b);                                                                        \
    } while (0)

/* Fetches ahead, a few lines at every step of the work. */
typedef struct fetch {
    uintptr_t at, end;
    int64_t lines;
} fetch;

INLINE void fetch_some(fetch *f) {
    for (int64_t i = 0; i < f->lines && f->at < f->end; i++, f->at += 64)
        _mm_prefetch((const char *)f->at, _MM_HINT_T0);
}

/* The integer sums of 16 rows: codes as in fj_w8, signed.  Those of a group are stored while the next one is under way. */
INLINE void sum_up(dots d, const fj_a8 *a, const uint32_t *codes, int groups, fetch *f) {
    int g = 0;
    for (const int8_t *q = a->q; g < groups; g++, q += 32, codes += 8 * 32) {
        fetch_some(f);
        TILE_LOAD(4, q, sizeof(fj_a8));
        TILE_LOAD(6, codes, 128);
        TILE_LOAD(7, codes + 16, 128);
        if (g % 2 == 0) {
            DOT(0, 4, 6);
            DOT(1, 4, 7);
            if (g) {
                TILE_STORE(2, d[g - 1][0], 64);
                TILE_STORE(3, d[g - 1][1], 64);
            }
        } else {
            DOT(2, 4, 6);
            DOT(3, 4, 7);
            TILE_STORE(0, d[g - 1][0], 64);
            TILE_STORE(1, d[g - 1][1], 64);
        }
    }
    if (g % 2) {
        TILE_STORE(0, d[g - 1][0], 64);
        TILE_STORE(1, d[g - 1][1], 64);
    } else {
        TILE_STORE(2, d[g - 1][0], 64);
        TILE_STORE(3, d[g - 1][1], 64);
    }
}

/* t += rows of the sums c, 8 rows at a time. */
INLINE void add_up(float *t, const fj_a8 *a, const fj_w8 *w, const dots c, int groups, bool first,
                   fetch *f, const int KIND) {
    for (int h = 0; h < ROWS; h += 8, a += 8, t += 8 * 32) {
        const bool zero = KIND & FJ_A8_WIDE || first;
        __m512 s[8][2];
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++)
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++)
                s[r][p] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(t + 32 * r + 16 * p);
        for (int g = 0; g < groups; g++) {
            fetch_some(f);
            __m512 d0 = _mm512_load_ps(w->d[g]), d1 = _mm512_load_ps(w->d[g] + 16);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                __m512 e0 = d0, e1 = d1;
                if (!(KIND & FJ_A8_WIDE)) {
                    __m512 d = _mm512_set1_ps(a[r].d[g]);
                    e0 = _mm512_mul_ps(d0, d);
                    e1 = _mm512_mul_ps(d1, d);
                }
                __m512 x0 = _mm512_cvtepi32_ps(_mm512_load_si512(c[g][0][h + r])),
                       x1 = _mm512_cvtepi32_ps(_mm512_load_si512(c[g][1][h + r]));
                s[r][0] = _mm512_fmadd_ps(x0, e0, s[r][0]);
                s[r][1] = _mm512_fmadd_ps(x1, e1, s[r][1]);
            }
            if (!(KIND & FJ_A8_MIN)) continue;
            __m512 m0 = _mm512_load_ps(w->m[g]), m1 = _mm512_load_ps(w->m[g] + 16);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                __m512 b = _mm512_set1_ps(a[r].sum[g]);
                s[r][0] = _mm512_fmadd_ps(m0, b, s[r][0]);
                s[r][1] = _mm512_fmadd_ps(m1, b, s[r][1]);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++)
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++) {
                float *y = t + 32 * r + 16 * p;
                if (KIND & FJ_A8_WIDE)
                    s[r][p] = _mm512_fmadd_ps(s[r][p], _mm512_set1_ps(a[r].d[0]),
                                              first ? _mm512_setzero_ps() : _mm512_loadu_ps(y));
                _mm512_storeu_ps(y, s[r][p]);
            }
    }
}

INLINE void lots(float *t, const fj_a8 *a, const fj_w8 *w, const uint32_t *codes, int nb, int64_t n,
                 bool first, fetch *f, const int KIND) {
    dots d __attribute__((aligned(64)));
    for (int64_t i = 0; i < n; i++, t += ROWS * 32, a += ROWS) {
        sum_up(d, a, codes, nb, f);
        add_up(t, a, w, (const int32_t(*)[2][ROWS][16])d, nb, first, f, KIND);
    }
}

/* Codes less their offset; those of kinds with a min are signed as they are. */
static void signed_codes(uint32_t *to, const fj_w8 *w, int nb, int offset) {
    const __m512i off = _mm512_set1_epi8((char)offset);
    for (int i = 0; i < nb * 8 * 32; i += 16)
        _mm512_store_si512(to + i, _mm512_sub_epi8(_mm512_load_si512(w->w[0][0] + i), off));
}

static void multiply(float *t, const fj_a8 *a, const fj_w8 *w, const uint32_t *codes, int nb,
                     int64_t n, int kind, bool first, fetch *f) {
    switch (kind & ~FJ_A8_OFFSET) {
    case FJ_A8_KIND_32: lots(t, a, w, codes, nb, n, first, f, FJ_A8_KIND_32); break;
    case FJ_A8_KIND_32_MIN: lots(t, a, w, codes, nb, n, first, f, FJ_A8_KIND_32_MIN); break;
    case FJ_A8_KIND_256: lots(t, a, w, codes, nb, n, first, f, FJ_A8_KIND_256); break;
    case FJ_A8_KIND_256_MIN: lots(t, a, w, codes, nb, n, first, f, FJ_A8_KIND_256_MIN); break;
    }
}

static void gemm_w8(float *t, const fj_a8 *a, const fj_w8 *w, int nb, int64_t rows, int kind,
                    bool first, const void *next, int64_t bytes) {
    if (kind & FJ_A8_16 || rows < LEAST) {
        fj_gemm_w8_avx512(t, a, w, nb, rows, kind, first, next, bytes);
        return;
    }
    const int64_t whole = rows / ROWS, left = rows % ROWS;
    const bool pad = left > FEW;
    if (left && !pad)
        fj_gemm_w8_avx512(t + whole * ROWS * 32, a + whole * ROWS, w, nb, left, kind, first, next,
                          0);
    uint32_t codes[8 * 8 * 32] __attribute__((aligned(64)));
    const uint32_t *from = w->w[0][0];
    if (!(kind & FJ_A8_MIN)) {
        signed_codes(codes, w, nb, kind & FJ_A8_OFFSET);
        from = codes;
    }
    const tile_shapes s = { .palette = 1,
                            .bytes = { 64, 64, 64, 64, 32, 0, 64, 64 },
                            .rows = { ROWS, ROWS, ROWS, ROWS, ROWS, 0, 8, 8 } };
    const int64_t steps = 3 * nb * (whole + pad);
    fetch f = { (uintptr_t)next, (uintptr_t)next + (uintptr_t)bytes, (bytes / 64 + steps) / steps };
    tiles_shape(&s);
    multiply(t, a, w, from, nb, whole, kind, first, &f);
    if (pad) { /* among 16, of which the others are copies */
        fj_a8 rec[ROWS];
        float sum[ROWS][32];
        t += whole * ROWS * 32;
        a += whole * ROWS;
        for (int r = 0; r < ROWS; r++) {
            int64_t of = r < left ? r : 0;
            rec[r] = a[of];
            if (first) memset(sum[r], 0, sizeof sum[r]);
            else memcpy(sum[r], t + 32 * of, sizeof sum[r]);
        }
        multiply(sum[0], rec, w, from, nb, 1, kind, first, &f);
        memcpy(t, sum, (size_t)left * sizeof sum[0]);
    }
    tiles_end();
}

void fj_kern_amx_w8(fj_kern *k) { k->gemm_w8 = gemm_w8; }
