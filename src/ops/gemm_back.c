/* gemm_back.c - both gradients of a product: see gemm.h. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_back_f64_unused; /* the oracle is in gemm.c */
#else
/* ---- gradient of the rows ------------------------------------------------------------------------ */
/* A tile of block formats is one block wide, or a part of one. */
static int64_t dx_width(const fj_wmat *w) { return fj_dtype_get(w->dtype)->block > 1 ? 32 : TW; }

static const void *dx_tile_f32(const fj_team *t, const void *weight, int64_t g, int64_t cols,
                               int64_t n0, int64_t nn, thread_mem *mem) {
    const fj_wmat *w = weight;
    int64_t width = up(cols, 16);
    if (cols < width) memset(mem->tile, 0, (size_t)(nn * width) * 4);
    fj_wmat_block(t->kern, w, n0, nn, g * dx_width(w), cols, mem->tile, width);
    return mem->tile;
}

static const void *dx_tile_bf16(const fj_team *t, const void *weight, int64_t g, int64_t cols,
                                int64_t pair0, int64_t pairs, thread_mem *mem) {
    const fj_wmat *w = weight;
    int64_t width = up(cols, 16), n0 = 2 * pair0;
    uint32_t *tile = (uint32_t *)(void *)mem->tile;
    if (cols < width) memset(tile, 0, (size_t)(pairs * width) * 4);
    fj_wmat_pairs(t->kern, w, n0, LESS(2 * pairs, w->n - n0), g * dx_width(w), cols, tile, width,
                  mem->block);
    return tile;
}

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
    bool f32 = fj_dx_form(w, t->f32) == FJ_ROWS_F32;
    int64_t tw = dx_width(w), inner = f32 ? w->n : (w->n + 1) / 2;
    fj_walk walk = { .a = f32 ? (const void *)dy : rounded,
                     .ars = f32 ? ldy : pair_stride(w->n),
                     .pairs = !f32,
                     .k = inner,
                     .len = piece_len(inner, KC, 32),
                     .n = w->k,
                     .tw = tw,
                     .back = true,
                     .tile = f32 ? dx_tile_f32 : dx_tile_bf16,
                     .ctx = w };
    fj_walk_fit(&walk, m, true);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, (w->k + tw - 1) / tw, f32 ? MR : t->kern->bf16_rows);
    fj_walk_tiles(t, &walk, s, &mem, o);
}

/* ---- gradient of the weights --------------------------------------------------------------------- */
/* Rows of a piece; part of the definition of the result.  Large: every piece reads and writes all of
 * dw.  For an LM head the rows as they are packed must not grow to hundreds of megabytes. */
static int64_t dw_piece(int64_t n, int64_t k) { return n + k > 8192 ? 512 : 2048; }

/* dw or its transpose: the side whose columns become rows is packed once for the team; the other is
 * packed a tile at a time, by whom it meets.  Turning a column into a row costs most, and all of them meet every
 * tile, so that they are the narrow side's. */
typedef struct dw_side {
    const float *p;
    int64_t ld, n;
} dw_side;

typedef struct dw_job {
    dw_side b; /* of this piece */
    int64_t rows;
    bool f32;
} dw_job;

static bool dw_turned(int64_t n, int64_t k) { return k < n; }

/* Elements of a row, in memory. */
static int64_t dw_stride(int64_t piece, bool f32) { return f32 ? piece + 16 : pair_stride(piece); }

static size_t dw_shared(int64_t m, int64_t n, int64_t k, bool f32) {
    int64_t stride = dw_stride(LESS(m, dw_piece(n, k)), f32);
    return align64(LESS(n, k) * stride * 4);
}

size_t fj_gemm_dw_scratch(int64_t m, int64_t n, int64_t k, int nth, bool f32) {
    return dw_shared(m, n, k, f32) + (size_t)nth * thread_bytes(KC);
}

/* Columns of rows [mm, side.n] as rows; the share of ith. */
static void dw_pack(const fj_team *t, int64_t mm, dw_side side, uint32_t *dst, int64_t ars,
                    bool f32) {
    int64_t from, to, units = f32 ? mm : (mm + 1) / 2;
    fj_team_split(t, side.n, 16, &from, &to);
    for (int64_t c = from; c < to; c += 64)
        for (int64_t u = 0; u < units; u += 16) {
            float line[16 * 64];
            int64_t cols = LESS(64, to - c), nu = LESS(16, units - u), ld = f32 ? side.ld : 64;
            const float *src = side.p + (f32 ? u : 2 * u) * side.ld + c;
            for (int64_t i = 0; i < nu && !f32; i++)
                t->kern->pairs_bf16((uint32_t *)(void *)(line + i * 64), src + 2 * i * side.ld,
                                    2 * (u + i) + 1 < mm ? src + (2 * i + 1) * side.ld : NULL,
                                    cols);
            /* Pairs move as floats. */
            t->kern->transpose((float *)(void *)(dst + c * ars + u), ars, f32 ? src : line, ld, nu,
                               cols);
        }
}

static const void *dw_tile(const fj_team *t, const void *ctx, int64_t g, int64_t cols, int64_t u0,
                           int64_t units, thread_mem *mem) {
    const dw_job *j = ctx;
    int64_t width = up(cols, 16), ld = j->b.ld;
    uint32_t *to = (uint32_t *)(void *)mem->tile;
    const float *src = j->b.p + (j->f32 ? u0 : 2 * u0) * ld + g * TW;
    if (cols < width) memset(to, 0, (size_t)(units * width) * 4);
    for (int64_t u = 0; u < units; u++, to += width) {
        if (j->f32) memcpy(to, src + u * ld, (size_t)cols * 4);
        else
            t->kern->pairs_bf16(to, src + 2 * u * ld,
                                2 * (u0 + u) + 1 < j->rows ? src + (2 * u + 1) * ld : NULL, cols);
    }
    return mem->tile;
}

void fj_gemm_dw_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const float *x,
                    int64_t ldx, float *dw, int64_t n, int64_t k, float scale, bool acc) {
    const bool f32 = t->f32, turned = dw_turned(n, k);
    if (n < 1 || k < 1) return;
    if (m < 1) {
        fj_gemm_nothing(t, n, dw, k, k, acc);
        return;
    }
    const int64_t most = dw_piece(n, k), ars = dw_stride(LESS(m, most), f32);
    uint32_t *da = t->scratch;
    thread_mem mem = thread_take(t, dw_shared(m, n, k, f32), KC);
    float *across = mem.block, *back = across + KC * TW; /* [KC][48] and [48][KC] */
    int64_t rows = turned ? k : n, cols = turned ? n : k;
    rect s = share(t->ith, t->nth, rows, (cols + TW - 1) / TW, f32 ? MR : t->kern->bf16_rows);
    for (int64_t m0 = 0; m0 < m; m0 += most) {
        int64_t mm = LESS(most, m - m0), units = f32 ? mm : (mm + 1) / 2;
        dw_side y = { dy + m0 * ldy, ldy, n }, r = { x + m0 * ldx, ldx, k };
        dw_job job = { turned ? y : r, mm, f32 };
        if (m0) fj_team_barrier(t); /* nobody reads the last piece any more */
        dw_pack(t, mm, turned ? r : y, da, ars, f32);
        fj_team_barrier(t);
        fj_walk walk = { .a = da,
                         .ars = ars,
                         .pairs = !f32,
                         .k = units,
                         .len = piece_len(units, KC, 16),
                         .n = cols,
                         .tw = TW,
                         .lot = turned ? KC : 2 * MC,
                         .wide = 1,
                         .tile = dw_tile,
                         .ctx = &job };
        bool add = acc || m0 > 0;
        if (!turned) fj_walk_tiles(t, &walk, s, &mem, (out){ dw, k, 0, scale, add, NULL });
        for (int64_t r0 = s.r0; turned && r0 < s.r1; r0 += KC)
            for (int64_t g = s.c0; g < s.c1; g++) {
                int64_t nr = LESS(KC, s.r1 - r0), width = LESS(TW, n - g * TW);
                walk.a = da + r0 * ars;
                walk.n = width;
                job.b.p = y.p + g * TW;
                fj_walk_tiles(t, &walk, (rect){ 0, nr, 0, 1 }, &mem,
                              (out){ across, TW, 0, 1, false, NULL });
                t->kern->transpose(back, KC, across, TW, nr, width);
                t->kern->tile_out(dw + g * TW * k + r0, k, back, KC, width, nr, scale, add);
            }
    }
}
#endif
