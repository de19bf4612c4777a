/* gemm_amx.c - products of bf16 by tiles of 16 x 16, which take 32 values of the inner dimension at once. */
#include "kernels/kern.h"
#include "kernels/x86/tiles_amx.inc"

/* Rows of a call: two tiles of them share what is read of b. */
enum { ROWS = 32 };

#define HALF(c0, c1, c2, a)                                                                        \
    do {                                                                                           \
        TILE_LOAD(6, a, lda);                                                                      \
        TILE_LOAD(7, b, ldb);                                                                      \
        TILE_BF16(c0, 6, 7);                                                                       \
        if (np > 1) {                                                                              \
            TILE_LOAD(7, b + 16, ldb);                                                             \
            TILE_BF16(c1, 6, 7);                                                                   \
        }                                                                                          \
        if (np > 2) {                                                                              \
            TILE_LOAD(7, b + 32, ldb);                                                             \
            TILE_BF16(c2, 6, 7);                                                                   \
        }                                                                                          \
    } while (0)

#define TAKE(c0, c1, c2, from)                                                                     \
    do {                                                                                           \
        if (first) {                                                                               \
            TILE_ZERO(c0);                                                                         \
            TILE_ZERO(c1);                                                                         \
            TILE_ZERO(c2);                                                                         \
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

/* `steps` times `pairs` of the inner dimension; one tile of rows, or two.  ldt, lda, ldb in bytes. */
static inline __attribute__((always_inline)) void block(float *t, int64_t ldt, const uint32_t *a,
                                                        int64_t lda, const uint32_t *b, int64_t ldb,
                                                        int64_t steps, int64_t pairs, const int np,
                                                        const bool two, bool first) {
    float *low = t + 4 * ldt; /* 16 rows of ldt / 4 floats */
    TAKE(0, 1, 2, t);
    if (two) TAKE(3, 4, 5, low);
    for (int64_t i = 0; i < steps; i++) {
        HALF(0, 1, 2, a);
        if (two) HALF(3, 4, 5, a + 4 * lda);
        a += pairs;
        b += pairs * (ldb / 4);
    }
    GIVE(0, 1, 2, t);
    if (two) GIVE(3, 4, 5, low);
}

static void steps_of(float *t, int64_t ldt, const uint32_t *a, int64_t lda, const uint32_t *b,
                     int64_t ldb, int64_t steps, int pairs, int rows, int np, bool first) {
    bool two = rows == ROWS;
    int top = two ? 16 : rows;
    tile_shapes s = { .palette = 1 };
    for (int i = 0; i < 6; i++) s.bytes[i] = 64, s.rows[i] = (uint8_t)top;
    s.bytes[6] = (uint16_t)(4 * pairs);
    s.rows[6] = (uint8_t)top;
    s.bytes[7] = 64;
    s.rows[7] = (uint8_t)pairs;
    tiles_shape(&s);
    switch (np * 2 + two) {
    case 2: block(t, ldt, a, lda, b, ldb, steps, pairs, 1, false, first); break;
    case 3: block(t, ldt, a, lda, b, ldb, steps, pairs, 1, true, first); break;
    case 4: block(t, ldt, a, lda, b, ldb, steps, pairs, 2, false, first); break;
    case 5: block(t, ldt, a, lda, b, ldb, steps, pairs, 2, true, first); break;
    case 6: block(t, ldt, a, lda, b, ldb, steps, pairs, 3, false, first); break;
    case 7: block(t, ldt, a, lda, b, ldb, steps, pairs, 3, true, first); break;
    }
    tiles_end();
}

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, int64_t acs,
                      const uint32_t *b, int64_t ldb, int64_t k, int mr, int np, bool first) {
    if (acs != 1 || k < 1) { /* columns beside each other are no rows of a tile */
        fj_gemm_bf16_avx512(t, ldt, a, ars, acs, b, ldb, k, mr, np, first);
        return;
    }
    for (int r = 0, rows; r < mr; r += rows) {
        rows = mr - r >= ROWS ? ROWS : mr - r < 16 ? mr - r : 16;
        float *to = t + r * ldt;
        const uint32_t *from = a + r * ars;
        if (k >= 16) steps_of(to, 4 * ldt, from, 4 * ars, b, 4 * ldb, k / 16, 16, rows, np, first);
        if (k % 16)
            steps_of(to, 4 * ldt, from + k / 16 * 16, 4 * ars, b + k / 16 * 16 * ldb, 4 * ldb, 1,
                     (int)(k % 16), rows, np, first && k < 16);
    }
}

void fj_kern_amx_gemm(fj_kern *k) {
    k->gemm_bf16 = gemm_bf16;
    k->bf16_rows = ROWS;
}
