/* gemm_int8.c - products of rows in int8 with quantised weights: see gemm.h. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_int8_f64_unused; /* the oracle is in gemm.c */
#else
/* 8 blocks of 32 columns of rows as they are in files, as panels in mem->tile. */
static const char *int8_tile(const fj_team *t, const fj_wmat *w, int64_t g, int64_t cols,
                             int64_t b0, int64_t bl, thread_mem *mem) {
    int64_t d = fj_dtype_get(w->dtype)->bytes, nb = w->k / 32;
    char *strip = (char *)mem->block;
    for (int64_t c = 0; c < cols; c++)
        memcpy(strip + c * bl * d, (const char *)w->data + ((g * 32 + c) * nb + b0) * d,
               (size_t)(bl * d));
    fj_wmat_pack(t->kern, w->dtype, cols, bl * 32, strip, mem->tile, 0, 1);
    return (const char *)mem->tile;
}

void fj_fwd_int8(const fj_team *t, int64_t m, const fj_a8 *a, const fj_wmat *w, out o) {
    const fj_kern *kern = t->kern;
    const bool q4 = w->dtype == FJ_Q4_0;
    int64_t tiles = (w->n + 31) / 32, nb = w->k / 32, bytes = 32 * fj_dtype_get(w->dtype)->bytes;
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, tiles, MRQ);
    /* Rows in lots whose records and sums stay in the L2 cache while all tiles pass by; rows of files
     * are packed once for all. */
    int64_t lot = w->panels ? MC : m, most = q4 ? MRQ : MRQ - 1;
    for (int64_t r0 = s.r0; r0 < s.r1; r0 += lot) {
        int64_t n = LESS(lot, s.r1 - r0), blocks = (n + most - 1) / most;
        /* One block of rows: one pass over the whole tile.  Several: super-blocks of 256, which stay
         * in the L1 cache. */
        int64_t len = blocks > 1 || !w->panels ? 8 : nb;
        for (int64_t g = s.c0; g < s.c1; g++) {
            int64_t cols = LESS(32, w->n - g * 32);
            for (int64_t b0 = 0; b0 < nb; b0 += len) {
                int64_t bl = LESS(len, nb - b0);
                const char *b = w->panels ? (const char *)w->data + (g * nb + b0) * bytes
                                          : int8_tile(t, w, g, cols, b0, bl, &mem);
                for (int64_t i = 0; i < blocks; i++) {
                    int64_t lo = n * i / blocks, mr = n * (i + 1) / blocks - lo;
                    (q4                     ? kern->gemm_q4
                     : w->dtype == FJ_MXFP4 ? kern->gemm_mx4
                                            : kern->gemm_q8)(mem.sums + lo * 32, 32,
                                                             a + b0 / 8 * m + r0 + lo, m, b, bl,
                                                             (int)mr, b0 == 0);
                }
            }
            kern->tile_out(o.y + r0 * o.ld + g * 32, o.ld, mem.sums, 32, n, cols, o.scale, o.acc);
            if (o.low)
                fj_add_low(t, &(out){ .y = o.y + g * 32, .ld = o.ld, .cols = cols, .low = o.low },
                           r0, r0 + n, g * 32, false, mem.sums);
        }
    }
}
#endif
