/* gemm_int8.c - products of rows in int8 with quantised weights: see gemm.h and kernels/panel.h.
 *
 * A super-block of 32 columns is made a tile in the L1 cache once for all rows, and all rows meet it while
 * the next one is fetched. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_int8_f64_unused; /* the oracle is in gemm.c */
#else
void fj_fwd_int8(const fj_team *t, int64_t m, const fj_a8 *a, const fj_wmat *w, out o) {
    const fj_kern *kern = t->kern;
    const fj_dtype_info *d = fj_dtype_get(w->dtype);
    const int kind = fj_a8_kind(w->dtype);
    const int64_t tiles = (w->n + 31) / 32, nb = w->k / 32, row = w->k / d->block * d->bytes;
    const int64_t super = 256 / d->block * d->bytes; /* bytes of a super-block of a column */
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    fj_w8 *tile = (fj_w8 *)(void *)mem.tile;
    rect s = share(t->ith, t->nth, m, tiles, MRQ);
    /* Rows in lots whose records and sums stay in the L2 cache while all tiles pass by, of whole blocks of any
     * kernel; rows of files are packed once for all. */
    const int64_t most = (1 << 20) / ((w->k + A8 - 1) / A8 * (int64_t)sizeof(fj_a8)) + 1;
    const int64_t lot = w->panels ? piece_len(s.r1 - s.r0, most, 48) : LESS(m, s.r1 - s.r0);
    for (int64_t r0 = s.r0; r0 < s.r1; r0 += lot) {
        int64_t n = LESS(lot, s.r1 - r0);
        for (int64_t g = s.c0; g < s.c1; g++) {
            int64_t cols = LESS(32, w->n - g * 32);
            const char *b = (const char *)w->data + g * 32 * row;
            const bool few = w->panels && n <= kern->few_rows;
            if (few) kern->few_w8(mem.sums, a + r0, m, w->dtype, b, nb, (int)n);
            for (int64_t i = 0; i < nb && !few; i += 8) {
                const int64_t len = LESS(8, nb - i);
                const char *panel = b + i / 8 * 32 * super;
                if (!w->panels) {
                    fj_pack_super(kern, w->dtype, len * 32, b + i / 8 * super, row, cols,
                                  mem.block);
                    panel = (const char *)mem.block;
                }
                kern->w8_unpack(tile, w->dtype, panel, 0, (int)len);
                kern->gemm_w8(mem.sums, a + i / 8 * m + r0, tile, (int)len, n, kind, i == 0,
                              panel + 32 * super, w->panels ? 32 * super : 0);
            }
            kern->tile_out(o.y + r0 * o.ld + g * 32, o.ld, mem.sums, 32, n, cols, o.scale, o.acc);
            if (o.low)
                fj_add_low(t, &(out){ .y = o.y + g * 32, .ld = o.ld, .cols = cols, .low = o.low },
                           r0, r0 + n, g * 32, false, mem.sums);
        }
    }
}
#endif
