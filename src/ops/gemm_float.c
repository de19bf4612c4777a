/* gemm_float.c - products in f32 and bf16: see gemm.h. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_float_f64_unused; /* the oracle is in gemm.c */
#else
/* ---- rows against tiles -------------------------------------------------------------------------- */
void fj_rows_f32(const fj_kern *kern, rect s, const float *a, int64_t ars, const float *b,
                 int64_t k, int np, bool first, bool last, float *sums, const out *o) {
    int64_t n = s.r1 - s.r0, blocks = (n + MR - 1) / MR;
    bool keep = !(first && last);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t lo = n * i / blocks, mr = n * (i + 1) / blocks - lo, r = s.r0 + lo;
        float *t = keep ? sums + lo * TW : sums;
        kern->gemm(t, TW, a + r * ars, ars, 1, b, 16 * np, k, (int)mr, np, first);
        if (last) kern->tile_out(o->y + r * o->ld, o->ld, t, TW, mr, o->cols, o->scale, o->acc);
    }
}

void fj_rows_bf16(const fj_kern *kern, rect s, const uint32_t *a, int64_t ars, const uint32_t *b,
                  int64_t k, int np, bool first, bool last, float *sums, const out *o) {
    int64_t n = s.r1 - s.r0, most = kern->bf16_rows, blocks = (n + most - 1) / most;
    bool whole = most > MR; /* tiles of 16 rows, two at a time; else blocks of about the same */
    bool keep = !(first && last);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t lo = whole ? i * most : n * i / blocks,
                mr = whole ? LESS(most, n - lo) : n * (i + 1) / blocks - lo, r = s.r0 + lo;
        float *t = keep ? sums + lo * TW : sums;
        kern->gemm_bf16(t, TW, a + r * ars, ars, 1, b, 16 * np, k, (int)mr, np, first);
        if (last) kern->tile_out(o->y + r * o->ld, o->ld, t, TW, mr, o->cols, o->scale, o->acc);
    }
}

/* ---- forward ------------------------------------------------------------------------------------- */
/* Weights [48 g, +cols) x [k0, +kc) as [kc][16 np]; may return a pointer into w. */
static const float *fwd_tile_f32(const fj_team *t, const fj_wmat *w, int64_t g, int np,
                                 int64_t cols, int64_t k0, int64_t kc, thread_mem *mem) {
    int64_t width = 16 * np;
    if (w->panels && w->dtype == FJ_F32) return (const float *)w->data + g * TW * w->k + k0 * width;
    if (w->panels && w->dtype == FJ_F16) {
        t->kern->f16_to_f32(mem->tile, (const uint16_t *)w->data + g * TW * w->k + k0 * width,
                            kc * width);
        return mem->tile;
    }
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
    bool few = m <= MR && !(w->panels && w->dtype == FJ_F32);
    int64_t tiles = (w->n + TW - 1) / TW, len = piece_len(w->k, few ? KC / 4 : KC, 32);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, tiles, MR);
    float *y = o.y;
    for (int64_t g = s.c0; g < s.c1 && s.r1 > s.r0; g++) {
        o.y = y + g * TW;
        o.cols = LESS(TW, w->n - g * TW);
        int np = (int)((o.cols + 15) / 16);
        for (int64_t k0 = 0; k0 < w->k; k0 += len) {
            int64_t kc = LESS(len, w->k - k0);
            const float *b = fwd_tile_f32(t, w, g, np, o.cols, k0, kc, &mem);
            fj_rows_f32(t->kern, s, x + k0, ldx, b, kc, np, k0 == 0, k0 + kc == w->k, mem.sums, &o);
        }
        if (o.low) fj_add_low(t, &o, s.r0, s.r1, g * TW, false, mem.sums);
    }
}

static const uint32_t *fwd_tile_bf16(const fj_team *t, const fj_wmat *w, int64_t g, int np,
                                     int64_t cols, int64_t k0, int64_t kc, thread_mem *mem) {
    int64_t width = 16 * np, k2 = (w->k + 1) / 2;
    if (w->panels) return (const uint32_t *)w->data + g * TW * k2 + k0 * width;
    uint32_t *tile = (uint32_t *)(void *)mem->tile;
    if (cols < width) memset(tile, 0, (size_t)(kc * width) * 4);
    if (w->dtype == FJ_F32) {
        int64_t n = LESS(2 * kc, w->k - 2 * k0);
        for (int64_t c = 0; c < cols; c++) {
            uint16_t *to = (uint16_t *)(void *)(mem->block + c * kc);
            t->kern->f32_to_bf16(to, (const float *)w->data + (g * TW + c) * w->k + 2 * k0, n);
            if (n % 2) to[n] = 0;
        }
        t->kern->transpose(mem->tile, width, mem->block, kc, cols, kc);
        return tile;
    }
    /* Pairs move as floats: transpose does no arithmetic.  Rows of odd k are not made of pairs. */
    if (w->k % 2 == 0) {
        const float *src =
            (const float *)(const void *)((const uint16_t *)w->data + g * TW * w->k + 2 * k0);
        t->kern->transpose(mem->tile, width, src, w->k / 2, cols, kc);
        return tile;
    }
    const uint16_t *src = (const uint16_t *)w->data + g * TW * w->k + 2 * k0;
    for (int64_t j = 0; j < kc; j++)
        for (int64_t c = 0; c < cols; c++) {
            uint32_t odd = 2 * (k0 + j) + 1 < w->k ? src[c * w->k + 2 * j + 1] : 0;
            tile[j * width + c] = src[c * w->k + 2 * j] | odd << 16;
        }
    return tile;
}

void fj_fwd_bf16(const fj_team *t, int64_t m, const uint32_t *a, const fj_wmat *w, out o) {
    int64_t tiles = (w->n + TW - 1) / TW, k2 = (w->k + 1) / 2, len = piece_len(k2, KC, 16),
            ars = pair_stride(w->k);
    thread_mem mem = thread_take(t, 0, share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, tiles, MR);
    float *y = o.y;
    for (int64_t g = s.c0; g < s.c1 && s.r1 > s.r0; g++) {
        o.y = y + g * TW;
        o.cols = LESS(TW, w->n - g * TW);
        int np = (int)((o.cols + 15) / 16);
        for (int64_t k0 = 0; k0 < k2; k0 += len) {
            int64_t kc = LESS(len, k2 - k0);
            const uint32_t *b = fwd_tile_bf16(t, w, g, np, o.cols, k0, kc, &mem);
            fj_rows_bf16(t->kern, s, a + k0, ars, b, kc, np, k0 == 0, k0 + kc == k2, mem.sums, &o);
        }
        if (o.low) fj_add_low(t, &o, s.r0, s.r1, g * TW, false, mem.sums);
    }
}
#endif
