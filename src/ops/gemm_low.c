/* gemm_low.c - the second half of an adapter, tile by tile behind the product that it is added to: see
 * fj_low in gemm.h.  By itself it would read and write all of the result once more for r products of each
 * value. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_low_f64_unused; /* the oracle is in gemm.c */
#else
enum { PIECE = 32 }; /* pairs of a piece of the inner dimension */

/* Weights of columns [c0, +cols), pairs [k0, +kc) of the inner dimension, as [kc][width]. */
static void low_tile(const fj_kern *kern, const fj_wmat *w, bool back, int64_t c0, int64_t cols,
                     int64_t k0, int64_t kc, int64_t width, uint32_t *tile) {
    float rows[2 * PIECE * TW], pairs[PIECE * TW];
    int64_t n = LESS(2 * kc, (back ? w->n : w->k) - 2 * k0);
    if (cols < width) memset(tile, 0, (size_t)(kc * width) * 4);
    if (back) {
        fj_wmat_block(kern, w, 2 * k0, n, c0, cols, rows, cols);
        for (int64_t j = 0; j < n; j += 2)
            kern->pairs_bf16(tile + j / 2 * width, rows + j * cols,
                             j + 1 < n ? rows + (j + 1) * cols : NULL, cols);
        return;
    }
    fj_wmat_block(kern, w, c0, cols, 2 * k0, n, rows, n);
    for (int64_t c = 0; c < cols; c++) {
        uint16_t *to = (uint16_t *)(void *)(pairs + c * kc);
        kern->f32_to_bf16(to, rows + c * n, n);
        if (n % 2) to[n] = 0;
    }
    /* Pairs move as floats: transpose does no arithmetic. */
    kern->transpose((float *)(void *)tile, width, pairs, kc, cols, kc);
}

void fj_add_low(const fj_team *t, const out *o, int64_t r0, int64_t r1, int64_t c0, bool back,
                float *sums) {
    const fj_low *low = o->low;
    int64_t r = back ? low->w->n : low->w->k, k2 = (r + 1) / 2;
    int np = (int)((o->cols + 15) / 16);
    out to = { o->y, o->ld, o->cols, (float)low->scale, true, NULL };
    fj_walk walk = { .a = low->rounded, .ars = pair_stride(r), .pairs = true, .k = k2 };
    _Alignas(64) uint32_t tile[PIECE * TW];
    for (int64_t k0 = 0; k0 < k2; k0 += PIECE) {
        int64_t kc = LESS(PIECE, k2 - k0);
        low_tile(t->kern, low->w, back, c0, o->cols, k0, kc, 16 * np, tile);
        fj_walk_piece(t->kern, &walk, r0, r1, k0, kc, tile, sums, &to, NULL, 0);
    }
}
#endif
