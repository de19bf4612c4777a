/* gemm_float.c - products in f32 and bf16: see gemm.h. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_float_f64_unused; /* the oracle is in gemm.c */
#else
/* ---- rows against tiles -------------------------------------------------------------------------- */
void fj_walk_piece(const fj_kern *kern, const fj_walk *w, int64_t r0, int64_t r1, int64_t k0,
                   int64_t kc, const void *b, float *sums, const out *o, const char *next,
                   int64_t bytes) {
    int np = (int)((o->cols + 15) / 16);
    int64_t n = r1 - r0,
            most = w->half    ? kern->few_f16_rows
                   : w->pairs ? kern->bf16_rows
                              : MR,
            blocks = (n + most - 1) / most;
    bool whole = most > MR; /* tiles of 16 rows, two at a time; else blocks of about the same */
    bool first = k0 == 0, last = k0 + kc == w->k;
    /* Nothing is left to do after the sum: it is made where it goes. */
    bool direct = first && last && o->scale == 1 && !o->acc && o->cols == 16 * np;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t lo = whole ? i * most : n * i / blocks,
                mr = whole ? LESS(most, n - lo) : n * (i + 1) / blocks - lo,
                at = (r0 + lo) * w->ars + k0;
        float *y = o->y + (r0 + lo) * o->ld, *t = direct          ? y
                                                  : first && last ? sums
                                                                  : sums + lo * TW;
        int64_t ldt = direct ? o->ld : TW;
        int64_t from = bytes / 64 * i / blocks * 64, to = bytes / 64 * (i + 1) / blocks * 64;
        if (w->half)
            kern->few_f16(t, ldt, (const uint32_t *)w->a + at, w->ars, b, kc, (int)mr, np, first);
        else if (w->pairs)
            kern->gemm_bf16(t, ldt, (const uint32_t *)w->a + at, w->ars, b, 16 * np, kc, (int)mr,
                            np, first, next + from, to - from);
        else
            kern->gemm(t, ldt, (const float *)w->a + at, w->ars, 1, b, 16 * np, kc, (int)mr, np,
                       first);
        if (last && !direct) kern->tile_out(y, o->ld, t, TW, mr, o->cols, o->scale, o->acc);
    }
}

void fj_walk_fit(fj_walk *w, int64_t m, bool made) {
    const int64_t cache = 1 << 18; /* elements of rows that may stay there: 1 MiB */
    const bool pieces = w->k > w->len;
    int64_t least = made ? 2 * MC : MC, most = pieces ? 2 * MC : 4 * MC;
    w->lot = cache / w->k / 32 * 32;
    w->lot = w->lot < least ? least : LESS(w->lot, most);
    w->wide = pieces && LESS(w->lot, m) * w->k > cache + cache / 4 ? WIDE * MC / w->lot : 1;
}

/* What comes after a piece, in panels of pairs; of tiles [g0, g1). */
static const char *next_piece(const fj_walk *w, int64_t g0, int64_t g1, int64_t g, int64_t k0) {
    if (!w->panels) return NULL;
    if (g + 1 < g1) g++;
    else if (k0 + w->len < w->k) g = g0, k0 += w->len;
    else g = g1, k0 = 0;
    return w->panels + 4 * (g * w->tw * w->k + k0 * up(LESS(w->tw, w->n - g * w->tw), 16));
}

void fj_walk_tiles(const fj_team *t, const fj_walk *w, rect s, thread_mem *mem, out o) {
    float *y = o.y;
    for (int64_t r0 = s.r0; r0 < s.r1; r0 += w->lot)
        for (int64_t g0 = s.c0; g0 < s.c1; g0 += w->wide) {
            const int64_t g1 = LESS(g0 + w->wide, s.c1), r1 = LESS(r0 + w->lot, s.r1);
            for (int64_t k0 = 0; k0 < w->k; k0 += w->len)
                for (int64_t g = g0; g < g1; g++) {
                    int64_t kc = LESS(w->len, w->k - k0);
                    o.y = y + g * w->tw;
                    o.cols = LESS(w->tw, w->n - g * w->tw);
                    const char *next = next_piece(w, g0, g1, g, k0);
                    const void *b = w->tile(t, w->ctx, g, o.cols, k0, kc, mem);
                    fj_walk_piece(t->kern, w, r0, r1, k0, kc, b,
                                  mem->sums + (g - g0) * (r1 - r0) * TW, &o, next,
                                  next ? 4 * kc * up(o.cols, 16) : 0);
                }
            for (int64_t g = g0; g < g1 && o.low; g++) {
                o.y = y + g * w->tw;
                o.cols = LESS(w->tw, w->n - g * w->tw);
                fj_add_low(t, &o, r0, r1, g * w->tw, w->back, mem->sums);
            }
        }
}

/* ---- forward ------------------------------------------------------------------------------------- */
static const void *fwd_tile_f32(const fj_team *t, const void *weight, int64_t g, int64_t cols,
                                int64_t k0, int64_t kc, thread_mem *mem) {
    const fj_wmat *w = weight;
    int64_t width = up(cols, 16);
    if (w->panels && w->dtype == FJ_F32) return (const float *)w->data + g * TW * w->k + k0 * width;
    const float *src = mem->block;
    int64_t ld = kc;
    if (w->dtype == FJ_F32) src = (const float *)w->data + g * TW * w->k + k0, ld = w->k;
    else fj_wmat_block(t->kern, w, g * TW, cols, k0, kc, mem->block, kc);
    if (cols < width) memset(mem->tile, 0, (size_t)(kc * width) * 4);
    t->kern->transpose(mem->tile, width, src, ld, cols, kc);
    return mem->tile;
}

void fj_fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w, out o) {
    /* Few rows read a converted tile but once: it should not leave the L1 cache. */
    bool ready = w->panels && w->dtype == FJ_F32, few = m <= MR && !ready;
    fj_walk walk = { .a = x,
                     .ars = ldx,
                     .k = w->k,
                     .len = piece_len(w->k, few ? KC / 4 : KC, 32),
                     .n = w->n,
                     .tw = TW,
                     .tile = fwd_tile_f32,
                     .ctx = w };
    fj_walk_fit(&walk, m, !ready);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    fj_walk_tiles(t, &walk, share(t->ith, t->nth, m, (w->n + TW - 1) / TW, MR), &mem, o);
}

/* Weights F16, BF16, F32 as BF16, or blocks without panels. */
static const void *fwd_tile_bf16(const fj_team *t, const void *weight, int64_t g, int64_t cols,
                                 int64_t k0, int64_t kc, thread_mem *mem) {
    const fj_wmat *w = weight;
    const uint16_t *data = w->data;
    int64_t width = up(cols, 16), k2 = (w->k + 1) / 2, ld = w->k / 2;
    if (w->panels) {
        const uint16_t *from = data + 2 * (g * TW * k2 + k0 * width);
        if (w->dtype == FJ_BF16) return from;
        t->kern->f16_to_bf16((uint16_t *)(void *)mem->tile, from, 2 * kc * width);
        return mem->tile;
    }
    data += g * TW * w->k + 2 * k0;
    /* Rows of odd k are not made of pairs. */
    if (w->k % 2 || w->dtype != FJ_BF16) {
        int64_t values = LESS(2 * kc, w->k - 2 * k0);
        const float *wide = (const float *)w->data + g * TW * w->k + 2 * k0;
        uint16_t *to = (uint16_t *)(void *)mem->block;
        const bool blocks = fj_dtype_get(w->dtype)->block > 1;
        float row[2 * KC];
        for (int64_t c = 0; c < cols; c++, to += 2 * kc, data += w->k, wide += w->k) {
            if (blocks) {
                fj_wmat_block(t->kern, w, g * TW + c, 1, 2 * k0, values, row, values);
                t->kern->f32_to_bf16(to, row, values);
            } else if (w->dtype == FJ_F32) t->kern->f32_to_bf16(to, wide, values);
            else if (w->dtype == FJ_F16) t->kern->f16_to_bf16(to, data, values);
            else memcpy(to, data, (size_t)values * 2);
            if (values < 2 * kc) to[values] = 0;
        }
        data = (const uint16_t *)(const void *)mem->block;
        ld = kc;
    }
    if (cols < width) memset(mem->tile, 0, (size_t)(kc * width) * 4);
    /* Pairs move as floats: transpose does no arithmetic. */
    t->kern->transpose(mem->tile, width, (const float *)(const void *)data, ld, cols, kc);
    return mem->tile;
}

static const void *fwd_tile_half(const fj_team *t, const void *weight, int64_t g, int64_t cols,
                                 int64_t k0, int64_t kc, thread_mem *mem) {
    const fj_wmat *w = weight;
    (void)t, (void)kc, (void)mem;
    return (const uint32_t *)w->data + g * TW * ((w->k + 1) / 2) + k0 * up(cols, 16);
}

void fj_fwd_bf16(const fj_team *t, int64_t m, const uint32_t *a, const fj_wmat *w, out o) {
    const bool half = w->panels && w->dtype == FJ_F16 && m <= t->kern->few_f16_rows;
    bool ready = half || (w->panels && w->dtype == FJ_BF16), few = m <= MR && !ready;
    int64_t k2 = (w->k + 1) / 2;
    fj_walk walk = { .a = a,
                     .ars = pair_stride(w->k),
                     .pairs = true,
                     .half = half,
                     .k = k2,
                     .len = half ? k2 : piece_len(k2, few ? KC / 4 : KC, 16),
                     .n = w->n,
                     .tw = TW,
                     .panels = w->panels && m > MR ? w->data : NULL,
                     .tile = half ? fwd_tile_half : fwd_tile_bf16,
                     .ctx = w };
    fj_walk_fit(&walk, m, !ready);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, (w->n + TW - 1) / TW, half ? MR : t->kern->bf16_rows);
    fj_walk_tiles(t, &walk, s, &mem, o);
}
#endif
