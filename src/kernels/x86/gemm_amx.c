/* gemm_amx.c - products of bf16 by tiles of 16 x 16, which take 32 values of the inner dimension at once. */
#include "kernels/kern.h"
#include "kernels/x86/tiles_amx.inc"

/* Rows of a call: two tiles of them share what is read of b. */
enum { ROWS = 32 };

#define TAKE(c0, c1, c2, from)                                                                     \
    do {                                                                                           \
        if (first) {                                                                               \
            TILE_ZERO(c0);                                                                         \
            if (np > 1) TILE_ZERO(c1);                                                             \
            if (np > 2) TILE_ZERO(c2);                                                             \
        } else {                                                                                   \
            TILE_LOAD(c0, from, ldt);                                                              \
            if (np > 1) TILE_LOAD(c1, (from) + 16, ldt);                                           \
            if (np > 2) TILE_LOAD(c2, (from) + 32, ldt);                                           \
        }                                                                                          \
    } while (0)

#define GIVE(c0, c1, c2, to)                                                                       \
    do {                                                                                           \
        TILE_STORE(c0, to, ldt);                                                                   \
        if (np > 1) TILE_STORE(c1, (to) + 16, ldt);                                                \
        if (np > 2) TILE_STORE(c2, (to) + 32, ldt);                                                \
    } while (0)

/* What is fetched meanwhile: `some` lines beside each step, until all are. */
typedef struct ahead {
    const char *next, *end;
    int64_t some;
} ahead;

/* `steps` times `pairs` of the inner dimension; one tile of rows, or two.  ldt, lda, ldb in bytes.  A register
 * of a and one of b are left over for three columns: which of them is loaded changes with each product, so that
 * a's two tiles and b's three take seven loads.  With two columns both tiles of a stay. */
static inline __attribute__((always_inline)) void block(float *t, int64_t ldt, const uint32_t *a,
                                                        int64_t lda, const uint32_t *b, int64_t ldb,
                                                        int64_t steps, int64_t pairs, const int np,
                                                        const bool two, bool first, ahead *w) {
    float *low = t + 4 * ldt; /* 16 rows of ldt / 4 floats */
    TAKE(0, 1, 2, t);
    if (two) TAKE(3, 4, 5, low);
    for (int64_t i = 0; i < steps; i++) {
        const uint32_t *a2 = a + 4 * lda;
        TILE_LOAD(6, a, lda);
        TILE_LOAD(7, b, ldb);
        TILE_BF16(0, 6, 7);
        for (int64_t n = w->some; n > 0 && w->next < w->end; n--, w->next += 64)
            __builtin_prefetch(w->next, 0, 2);
        if (two && np < 3) {
            TILE_LOAD(2, a2, lda);
            TILE_BF16(3, 2, 7);
            if (np > 1) {
                TILE_LOAD(7, b + 16, ldb);
                TILE_BF16(1, 6, 7);
                TILE_BF16(4, 2, 7);
            }
        } else if (two) {
            TILE_LOAD(6, a2, lda);
            TILE_BF16(3, 6, 7);
            TILE_LOAD(7, b + 16, ldb);
            TILE_BF16(4, 6, 7);
            TILE_LOAD(6, a, lda);
            TILE_BF16(1, 6, 7);
            TILE_LOAD(7, b + 32, ldb);
            TILE_BF16(2, 6, 7);
            TILE_LOAD(6, a2, lda);
            TILE_BF16(5, 6, 7);
        } else {
            if (np > 1) {
                TILE_LOAD(7, b + 16, ldb);
                TILE_BF16(1, 6, 7);
            }
            if (np > 2) {
                TILE_LOAD(7, b + 32, ldb);
                TILE_BF16(2, 6, 7);
            }
        }
        a += pairs;
        b += pairs * (ldb / 4);
    }
    GIVE(0, 1, 2, t);
    if (two) GIVE(3, 4, 5, low);
}

static void steps_of(float *t, int64_t ldt, const uint32_t *a, int64_t lda, const uint32_t *b,
                     int64_t ldb, int64_t steps, int pairs, int rows, int np, bool first,
                     ahead *w) {
    bool two = rows == ROWS;
    int top = two ? 16 : rows;
    tile_shapes s = { .palette = 1 };
    for (int i = 0; i < 6; i++) s.bytes[i] = 64, s.rows[i] = (uint8_t)top;
    s.bytes[6] = (uint16_t)(4 * pairs);
    if (np < 3) s.bytes[2] = s.bytes[6];
    s.rows[6] = (uint8_t)top;
    s.bytes[7] = 64;
    s.rows[7] = (uint8_t)pairs;
    tiles_shape(&s);
    switch (np * 2 + two) {
    case 2: block(t, ldt, a, lda, b, ldb, steps, pairs, 1, false, first, w); break;
    case 3: block(t, ldt, a, lda, b, ldb, steps, pairs, 1, true, first, w); break;
    case 4: block(t, ldt, a, lda, b, ldb, steps, pairs, 2, false, first, w); break;
    case 5: block(t, ldt, a, lda, b, ldb, steps, pairs, 2, true, first, w); break;
    case 6: block(t, ldt, a, lda, b, ldb, steps, pairs, 3, false, first, w); break;
    case 7: block(t, ldt, a, lda, b, ldb, steps, pairs, 3, true, first, w); break;
    }
    tiles_end();
}

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    const int64_t steps = k / 16 * ((mr + ROWS - 1) / ROWS);
    ahead w = { next, (const char *)next + bytes, steps ? bytes / 64 / steps + 1 : 0 };
    for (int r = 0, rows; r < mr; r += rows) {
        rows = mr - r >= ROWS ? ROWS : mr - r < 16 ? mr - r : 16;
        float *to = t + r * ldt;
        const uint32_t *from = a + r * ars;
        if (k >= 16)
            steps_of(to, 4 * ldt, from, 4 * ars, b, 4 * ldb, k / 16, 16, rows, np, first, &w);
        if (k % 16)
            steps_of(to, 4 * ldt, from + k / 16 * 16, 4 * ars, b + k / 16 * 16 * ldb, 4 * ldb, 1,
                     (int)(k % 16), rows, np, first && k < 16, &w);
    }
}

void fj_kern_amx_gemm(fj_kern *k) {
    k->gemm_bf16 = gemm_bf16;
    k->bf16_rows = ROWS;
}
