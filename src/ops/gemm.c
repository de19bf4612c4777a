/* gemm.c - see gemm.h.
 *
 * One scheme for all: the columns of the output are cut into tiles of 48 (32 for int8), a thread owns
 * a rectangle of tiles and rows, and for each of its tiles walks over the reduction in pieces that keep
 * the tile's weights in the L2 cache, and in a piece over blocks of up to 8 rows.  Partial sums between
 * pieces live in a private tile [rows][48]; storing and loading a float is exact, so pieces, blocks and
 * threads do not show in the result. */
#include "ops/gemm.h"

#include <string.h>

#define LESS(a, b) ((a) < (b) ? (a) : (b))

#ifdef FJ_F64
/* ---- oracle -------------------------------------------------------------------------------------- */
static void row_f64(const fj_wmat *w, int64_t n, int64_t k0, int64_t kk, double *dst) {
    const fj_dtype_info *d = fj_dtype_get(w->dtype);
    const char *src = (const char *)w->data + (n * w->k + k0) / d->block * d->bytes;
    if (w->dtype == FJ_F64) {
        memcpy(dst, src, (size_t)kk * 8);
        return;
    }
    float f[256];
    fj_dequant_row(w->dtype, src, f, kk);
    for (int64_t i = 0; i < kk; i++) dst[i] = f[i];
}

void fj_wmat_row_f64(const fj_team *t, const fj_wmat *w, int64_t row, real *dst) {
    (void)t;
    for (int64_t k0 = 0; k0 < w->k; k0 += 256) row_f64(w, row, k0, LESS(256, w->k - k0), dst + k0);
}

void fj_gemm_fwd_f64(const fj_team *t, int64_t m, const real *x, int64_t ldx, const fj_wmat *w,
                     real *y, int64_t ldy, real scale, bool acc) {
    double buf[256];
    for (int64_t j = w->n * t->ith / t->nth; j < w->n * (t->ith + 1) / t->nth; j++)
        for (int64_t i = 0; i < m; i++) {
            double s = 0;
            for (int64_t k0 = 0; k0 < w->k; k0 += 256) {
                int64_t kk = LESS(256, w->k - k0);
                row_f64(w, j, k0, kk, buf);
                for (int64_t l = 0; l < kk; l++) s += x[i * ldx + k0 + l] * buf[l];
            }
            y[i * ldy + j] = (acc ? y[i * ldy + j] : 0) + scale * s;
        }
}

void fj_gemm_dx_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const fj_wmat *w,
                    real *dx, int64_t ldx, real scale, bool acc) {
    double buf[256];
    for (int64_t i = m * t->ith / t->nth; i < m * (t->ith + 1) / t->nth; i++) {
        if (!acc) memset(dx + i * ldx, 0, (size_t)w->k * sizeof *dx);
        for (int64_t j = 0; j < w->n; j++)
            for (int64_t k0 = 0; k0 < w->k; k0 += 256) {
                int64_t kk = LESS(256, w->k - k0);
                row_f64(w, j, k0, kk, buf);
                for (int64_t l = 0; l < kk; l++)
                    dx[i * ldx + k0 + l] += scale * dy[i * ldy + j] * buf[l];
            }
    }
}

void fj_gemm_dw_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const real *x,
                    int64_t ldx, real *dw, int64_t n, int64_t k, real scale, bool acc) {
    for (int64_t j = n * t->ith / t->nth; j < n * (t->ith + 1) / t->nth; j++) {
        if (!acc) memset(dw + j * k, 0, (size_t)k * sizeof *dw);
        for (int64_t i = 0; i < m; i++)
            for (int64_t l = 0; l < k; l++)
                dw[j * k + l] += scale * dy[i * ldy + j] * x[i * ldx + l];
    }
}

#else
/* ---- blocking ------------------------------------------------------------------------------------ */
enum {
    MR = 8,   /* rows of a micro-kernel */
    MRQ = 6,  /* the same, int8 */
    TW = 48,  /* columns of a tile */
    KC = 512, /* floats, or pairs of bf16, of a piece of the reduction: 96 KiB a tile */
    MC = 256, /* rows of a lot, int8 */
    A8 = 256, /* values of an int8 record */
};

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static size_t align64(int64_t n) { return (size_t)up(n, 64); }

/* Length of equal pieces of n, none over max, multiples of `unit`; at least one unit. */
static int64_t piece_len(int64_t n, int64_t max, int64_t unit) {
    int64_t pieces = (n + max - 1) / max;
    return pieces < 2 ? up(n > 0 ? n : 1, unit) : up((n + pieces - 1) / pieces, unit);
}

typedef struct rect {
    int64_t r0, r1; /* rows */
    int64_t c0, c1; /* tiles */
} rect;

/* A thread's share of [m rows] x [tiles]: the grid of threads with the shortest longest share. */
static rect share(int ith, int nth, int64_t m, int64_t tiles, int64_t mr) {
    int64_t rb = (m + mr - 1) / mr, best = INT64_MAX;
    int tr = 1, tc = 1;
    for (int c = nth; c >= 1; c--) {
        int r = nth / c;
        int64_t cost = (rb + r - 1) / r * ((tiles + c - 1) / c);
        if (cost < best) best = cost, tr = r, tc = c;
    }
    if (ith >= tr * tc) return (rect){ 0, 0, 0, 0 };
    int64_t ir = ith / tc, ic = ith % tc;
    rect a = { LESS(rb * ir / tr * mr, m), LESS(rb * (ir + 1) / tr * mr, m), tiles * ic / tc,
               tiles * (ic + 1) / tc };
    return a;
}

/* The most rows that a thread can get from share(). */
static int64_t share_rows(int nth, int64_t m) { return nth > 1 ? up(m, MR * MRQ) : m; }

typedef struct thread_mem {
    float *tile;  /* [KC][48]: weights of a tile */
    float *block; /* [48][KC] or [KC][48]: the same on the way there */
    float *sums;  /* [rows][48] */
} thread_mem;

static size_t thread_bytes(int64_t rows) {
    return align64((int64_t)KC * TW * 4) + align64((int64_t)2 * KC * TW * 4) +
           align64((rows + MR) * TW * 4);
}

static thread_mem thread_take(const fj_team *t, size_t shared, int64_t rows) {
    char *p = (char *)t->scratch + shared + (size_t)t->ith * thread_bytes(rows);
    thread_mem a;
    a.tile = (float *)(void *)p;
    p += align64((int64_t)KC * TW * 4);
    a.block = (float *)(void *)p;
    p += align64((int64_t)2 * KC * TW * 4);
    a.sums = (float *)(void *)p;
    return a;
}

/* ---- rows against tiles -------------------------------------------------------------------------- */
/* One piece of one tile: rows [r0, r1) of a (element (r, j) at a[(r) * ars + j]) against b. */
typedef struct out {
    float *y; /* first column of the tile, row 0 */
    int64_t ld, cols;
    float scale;
    bool acc;
} out;

static void rows_f32(const fj_kern *kern, rect s, const float *a, int64_t ars, const float *b,
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

static void rows_bf16(const fj_kern *kern, rect s, const uint32_t *a, int64_t ars,
                      const uint32_t *b, int64_t k, int np, bool first, bool last, float *sums,
                      const out *o) {
    int64_t n = s.r1 - s.r0, blocks = (n + MR - 1) / MR;
    bool keep = !(first && last);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t lo = n * i / blocks, mr = n * (i + 1) / blocks - lo, r = s.r0 + lo;
        float *t = keep ? sums + lo * TW : sums;
        kern->gemm_bf16(t, TW, a + r * ars, ars, 1, b, 16 * np, k, (int)mr, np, first);
        if (last) kern->tile_out(o->y + r * o->ld, o->ld, t, TW, mr, o->cols, o->scale, o->acc);
    }
}

/* Pairs of a row, in memory: whole cache lines, and never a power of two of them apart. */
static int64_t pair_stride(int64_t k) { return up((k + 1) / 2, 16) + 16; }

/* x [m, k] rounded to bf16 into shared memory, by all threads. */
static void to_bf16(const fj_team *t, int64_t m, int64_t k, const float *x, int64_t ldx,
                    uint32_t *a) {
    int64_t ars = pair_stride(k);
    for (int64_t r = m * t->ith / t->nth; r < m * (t->ith + 1) / t->nth; r++) {
        uint16_t *y = (uint16_t *)(void *)(a + r * ars);
        t->kern->f32_to_bf16(y, x + r * ldx, k);
        if (k % 2) y[k] = 0;
    }
    fj_team_barrier(t);
}

/* ---- forward ------------------------------------------------------------------------------------- */
typedef enum arith { IN_F32, IN_BF16, IN_INT8 } arith;

static arith fwd_arith(const fj_wmat *w, bool f32) {
    if (f32) return IN_F32;
    if (w->dtype == FJ_Q8_0 || w->dtype == FJ_Q4_0 || w->dtype == FJ_MXFP4) return IN_INT8;
    return w->dtype == FJ_BF16 ? IN_BF16 : IN_F32;
}

static size_t fwd_shared(int64_t m, const fj_wmat *w, bool f32) {
    switch (fwd_arith(w, f32)) {
    case IN_BF16: return align64(m * pair_stride(w->k) * 4);
    case IN_INT8: return align64(m * ((w->k + A8 - 1) / A8) * (int64_t)sizeof(fj_a8));
    default: return 0;
    }
}

size_t fj_gemm_fwd_scratch(int64_t m, const fj_wmat *w, int nth, bool f32) {
    return fwd_shared(m, w, f32) + (size_t)nth * thread_bytes(share_rows(nth, m));
}

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

static void fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                    out o) {
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
            rows_f32(t->kern, s, x + k0, ldx, b, kc, np, k0 == 0, k0 + kc == w->k, mem.sums, &o);
        }
    }
}

static const uint32_t *fwd_tile_bf16(const fj_team *t, const fj_wmat *w, int64_t g, int np,
                                     int64_t cols, int64_t k0, int64_t kc, thread_mem *mem) {
    int64_t width = 16 * np, k2 = (w->k + 1) / 2;
    if (w->panels) return (const uint32_t *)w->data + g * TW * k2 + k0 * width;
    uint32_t *tile = (uint32_t *)(void *)mem->tile;
    if (cols < width) memset(tile, 0, (size_t)(kc * width) * 4);
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

static void fwd_bf16(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                     out o) {
    int64_t tiles = (w->n + TW - 1) / TW, k2 = (w->k + 1) / 2, len = piece_len(k2, KC, 16),
            ars = pair_stride(w->k);
    thread_mem mem = thread_take(t, fwd_shared(m, w, false), share_rows(t->nth, m));
    rect s = share(t->ith, t->nth, m, tiles, MR);
    uint32_t *a = t->scratch;
    to_bf16(t, m, w->k, x, ldx, a);
    float *y = o.y;
    for (int64_t g = s.c0; g < s.c1 && s.r1 > s.r0; g++) {
        o.y = y + g * TW;
        o.cols = LESS(TW, w->n - g * TW);
        int np = (int)((o.cols + 15) / 16);
        for (int64_t k0 = 0; k0 < k2; k0 += len) {
            int64_t kc = LESS(len, k2 - k0);
            const uint32_t *b = fwd_tile_bf16(t, w, g, np, o.cols, k0, kc, &mem);
            rows_bf16(t->kern, s, a + k0, ars, b, kc, np, k0 == 0, k0 + kc == k2, mem.sums, &o);
        }
    }
}

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

static void fwd_int8(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                     out o) {
    const fj_kern *kern = t->kern;
    const bool q4 = w->dtype == FJ_Q4_0;
    int64_t tiles = (w->n + 31) / 32, nb = w->k / 32, bytes = 32 * fj_dtype_get(w->dtype)->bytes;
    fj_a8 *a = t->scratch;
    for (int64_t r = m * t->ith / t->nth; r < m * (t->ith + 1) / t->nth; r++)
        (q4 ? kern->quant_a8_256 : kern->quant_a8_32)(a + r, m, x + r * ldx, w->k);
    fj_team_barrier(t);
    thread_mem mem = thread_take(t, fwd_shared(m, w, false), share_rows(t->nth, m));
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
        }
    }
}

/* y = (acc ? y : 0): what is left of a product whose inner dimension is 0. */
static void nothing(const fj_team *t, int64_t m, float *y, int64_t ld, int64_t n, bool acc) {
    for (int64_t r = m * t->ith / t->nth; !acc && r < m * (t->ith + 1) / t->nth; r++)
        memset(y + r * ld, 0, (size_t)n * sizeof *y);
}

void fj_gemm_fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                     float *y, int64_t ldy, float scale, bool acc) {
    out o = { y, ldy, 0, scale, acc };
    if (m < 1 || w->n < 1) return;
    if (w->k < 1) {
        nothing(t, m, y, ldy, w->n, acc);
        return;
    }
    switch (fwd_arith(w, t->f32)) {
    case IN_F32: fwd_f32(t, m, x, ldx, w, o); break;
    case IN_BF16: fwd_bf16(t, m, x, ldx, w, o); break;
    case IN_INT8: fwd_int8(t, m, x, ldx, w, o); break;
    }
}

void fj_wmat_row_f32(const fj_team *t, const fj_wmat *w, int64_t row, float *dst) {
    fj_wmat_block(t->kern, w, row, 1, 0, w->k, dst, w->k);
}

/* ---- gradient of the rows ------------------------------------------------------------------------ */
static bool dx_in_f32(const fj_wmat *w, bool f32) { return f32 || w->dtype == FJ_F32; }

static size_t dx_shared(int64_t m, const fj_wmat *w, bool f32) {
    return dx_in_f32(w, f32) ? 0 : align64(m * pair_stride(w->n) * 4);
}

size_t fj_gemm_dx_scratch(int64_t m, const fj_wmat *w, int nth, bool f32) {
    return dx_shared(m, w, f32) + (size_t)nth * thread_bytes(share_rows(nth, m));
}

void fj_gemm_dx_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const fj_wmat *w,
                    float *dx, int64_t ldx, float scale, bool acc) {
    if (m < 1 || w->k < 1) return;
    if (w->n < 1) {
        nothing(t, m, dx, ldx, w->k, acc);
        return;
    }
    const fj_kern *kern = t->kern;
    bool f32 = dx_in_f32(w, t->f32);
    /* A tile of block formats is one block wide, or a part of one. */
    int64_t tw = fj_dtype_get(w->dtype)->block > 1 ? 32 : TW, tiles = (w->k + tw - 1) / tw;
    int64_t unit = f32 ? 1 : 2, len = piece_len(w->n, KC * unit, 32), ars = pair_stride(w->n);
    thread_mem mem = thread_take(t, dx_shared(m, w, t->f32), share_rows(t->nth, m));
    uint32_t *a = t->scratch, *pairs = (uint32_t *)(void *)mem.tile;
    if (!f32) to_bf16(t, m, w->n, dy, ldy, a);
    rect s = share(t->ith, t->nth, m, tiles, MR);
    for (int64_t g = s.c0; g < s.c1 && s.r1 > s.r0; g++) {
        out o = { dx + g * tw, ldx, LESS(tw, w->k - g * tw), scale, acc };
        int np = (int)((o.cols + 15) / 16);
        int64_t width = 16 * np;
        for (int64_t n0 = 0; n0 < w->n; n0 += len) {
            int64_t nn = LESS(len, w->n - n0);
            bool first = n0 == 0, last = n0 + nn == w->n;
            float *rows = f32 ? mem.tile : mem.block;
            if (o.cols < width) memset(rows, 0, (size_t)(nn * width) * 4);
            fj_wmat_block(kern, w, n0, nn, g * tw, o.cols, rows, width);
            if (f32) {
                rows_f32(kern, s, dy + n0, ldy, rows, nn, np, first, last, mem.sums, &o);
                continue;
            }
            for (int64_t j = 0; j < nn; j += 2)
                kern->pairs_bf16(pairs + j / 2 * width, rows + j * width,
                                 j + 1 < nn ? rows + (j + 1) * width : NULL, width);
            rows_bf16(kern, s, a + n0 / 2, ars, pairs, (nn + 1) / 2, np, first, last, mem.sums, &o);
        }
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
        nothing(t, n, dw, k, k, acc);
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
