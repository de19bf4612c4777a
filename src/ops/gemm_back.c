/* gemm_back.c - both gradients of a product: see gemm.h. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_back_f64_unused; /* the oracle is in gemm.c */
#else
/* ---- gradient of the rows ------------------------------------------------------------------------ */
size_t fj_gemm_dx_scratch(int64_t m, const fj_wmat *w, int nth, bool f32) {
    return fj_rounded_bytes(m, w->n, fj_dx_form(w, f32)) + fj_gemm_rounded_scratch(m, nth);
}

void fj_dx(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const void *rounded,
           const fj_wmat *w, out o) {
    if (m < 1 || w->k < 1) return;
    if (w->n < 1) {
        fj_gemm_nothing(t, m, o.y, o.ld, w->k, o.acc);
        return;
    }
    const fj_kern *kern = t->kern;
    bool f32 = fj_dx_form(w, t->f32) == FJ_ROWS_F32;
    /* A tile of block formats is one block wide, or a part of one. */
    int64_t tw = fj_dtype_get(w->dtype)->block > 1 ? 32 : TW, tiles = (w->k + tw - 1) / tw;
    int64_t unit = f32 ? 1 : 2, len = piece_len(w->n, KC * unit, 32), ars = pair_stride(w->n);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    const uint32_t *a = rounded;
    uint32_t *pairs = (uint32_t *)(void *)mem.tile;
    rect s = share(t->ith, t->nth, m, tiles, MR);
    float *dx = o.y;
    for (int64_t g = s.c0; g < s.c1 && s.r1 > s.r0; g++) {
        o.y = dx + g * tw;
        o.cols = LESS(tw, w->k - g * tw);
        int np = (int)((o.cols + 15) / 16);
        int64_t width = 16 * np;
        for (int64_t n0 = 0; n0 < w->n; n0 += len) {
            int64_t nn = LESS(len, w->n - n0);
            bool first = n0 == 0, last = n0 + nn == w->n;
            float *rows = f32 ? mem.tile : mem.block;
            if (o.cols < width) memset(rows, 0, (size_t)(nn * width) * 4);
            fj_wmat_block(kern, w, n0, nn, g * tw, o.cols, rows, width);
            if (f32) {
                fj_rows_f32(kern, s, dy + n0, ldy, rows, nn, np, first, last, mem.sums, &o);
                continue;
            }
            for (int64_t j = 0; j < nn; j += 2)
                kern->pairs_bf16(pairs + j / 2 * width, rows + j * width,
                                 j + 1 < nn ? rows + (j + 1) * width : NULL, width);
            fj_rows_bf16(kern, s, a + n0 / 2, ars, pairs, (nn + 1) / 2, np, first, last, mem.sums,
                         &o);
        }
        if (o.low) fj_add_low(t, &o, s.r0, s.r1, g * tw, true, mem.sums);
    }
}

/* ---- gradient of the weights --------------------------------------------------------------------- */
/* Shared: A = dy of a piece as [n/8][rows][8], B = x as [tile][rows][16 np]; floats or pairs of bf16. */
/* Rows of a piece; part of the definition of the result.  Large: every piece reads and writes all of
 * dw.  For an LM head the packed rows must not grow to hundreds of megabytes. */
static int64_t dw_piece(int64_t n, int64_t k) { return n + k > 8192 ? 512 : 2048; }

static size_t dw_bytes(int64_t m, int64_t piece, int64_t cols, int64_t round, bool f32) {
    int64_t rows = LESS(m, piece), units = f32 ? rows : (rows + 1) / 2;
    return align64(units * up(cols, round) * 4);
}

size_t fj_gemm_dw_scratch(int64_t m, int64_t n, int64_t k, int nth, bool f32) {
    int64_t piece = dw_piece(n, k);
    return dw_bytes(m, piece, n, MR, f32) + dw_bytes(m, piece, k, 16, f32) +
           (size_t)nth * thread_bytes(MR);
}

/* Columns [c, c+cols) of rows u (f32) or 2u, 2u+1 (bf16) of src [mm, .]. */
static void dw_unit(const fj_team *t, int64_t mm, int64_t u, int64_t c, int64_t cols,
                    const float *src, int64_t ld, uint32_t *to, bool f32) {
    const float *r = src + (f32 ? u : 2 * u) * ld + c;
    if (f32) memcpy(to, r, (size_t)cols * 4);
    else t->kern->pairs_bf16(to, r, 2 * u + 1 < mm ? r + ld : NULL, cols);
}

/* src [mm, n] as groups of columns, [group][unit][width]; the share of ith. */
static void dw_pack(const fj_team *t, int64_t mm, int64_t n, int64_t group, int64_t round,
                    const float *src, int64_t ld, uint32_t *dst, bool f32) {
    int64_t units = f32 ? mm : (mm + 1) / 2;
    int64_t u0 = units * t->ith / t->nth, u1 = units * (t->ith + 1) / t->nth;
    if (group > MR) {
        for (int64_t u = u0; u < u1; u++)
            for (int64_t c = 0; c < n; c += group) {
                int64_t cols = LESS(group, n - c), width = up(cols, round);
                uint32_t *to = dst + c * units + u * width;
                dw_unit(t, mm, u, c, cols, src, ld, to, f32);
                if (cols < width) memset(to + cols, 0, (size_t)(width - cols) * 4);
            }
        return;
    }
    /* Groups of 8 lie a power of two apart: 8 of them at a time, 16 units long, so that what is
     * written stays in the L1 cache until its lines are full. */
    for (int64_t v = u0; v < u1; v += 16)
        for (int64_t c = 0; c < n; c += 8 * MR)
            for (int64_t u = v; u < v + 16 && u < u1; u++) {
                uint32_t line[8 * MR];
                int64_t cols = LESS(8 * MR, n - c);
                dw_unit(t, mm, u, c, cols, src, ld, line, f32);
                for (int64_t i = cols; i < up(cols, MR); i++) line[i] = 0;
                for (int64_t i = 0; i < cols; i += MR)
                    memcpy(dst + (c + i) * units + u * MR, line + i, MR * 4);
            }
}

void fj_gemm_dw_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const float *x,
                    int64_t ldx, float *dw, int64_t n, int64_t k, float scale, bool acc) {
    const bool f32 = t->f32;
    if (n < 1 || k < 1) return;
    if (m < 1) {
        fj_gemm_nothing(t, n, dw, k, k, acc);
        return;
    }
    const fj_kern *kern = t->kern;
    const int64_t piece = dw_piece(n, k);
    size_t a_bytes = dw_bytes(m, piece, n, MR, f32);
    uint32_t *da = t->scratch, *db = (uint32_t *)(void *)((char *)t->scratch + a_bytes);
    thread_mem mem = thread_take(t, a_bytes + dw_bytes(m, piece, k, 16, f32), MR);
    rect s = share(t->ith, t->nth, n, (k + TW - 1) / TW, MR);
    for (int64_t m0 = 0; m0 < m; m0 += piece) {
        int64_t mm = LESS(piece, m - m0), units = f32 ? mm : (mm + 1) / 2;
        if (m0) fj_team_barrier(t); /* nobody reads the last piece any more */
        dw_pack(t, mm, n, MR, MR, dy + m0 * ldy, ldy, da, f32);
        dw_pack(t, mm, k, TW, 16, x + m0 * ldx, ldx, db, f32);
        fj_team_barrier(t);
        for (int64_t g = s.c0; g < s.c1; g++) {
            int64_t cols = LESS(TW, k - g * TW);
            int np = (int)((cols + 15) / 16);
            const uint32_t *b = db + g * TW * units;
            for (int64_t r = s.r0; r < s.r1; r += MR) {
                const uint32_t *a = da + r * units;
                int mr = (int)LESS(MR, s.r1 - r);
                if (f32)
                    kern->gemm(mem.sums, TW, (const float *)(const void *)a, 1, MR,
                               (const float *)(const void *)b, 16 * np, units, mr, np, true);
                else kern->gemm_bf16(mem.sums, TW, a, 1, MR, b, 16 * np, units, mr, np, true);
                kern->tile_out(dw + r * k + g * TW, k, mem.sums, TW, mr, cols, scale,
                               acc || m0 > 0);
            }
        }
    }
}
#endif
