/* gemm_in.h - what the files of gemm.c share: tiles, a thread's share of them, its memory.
 *
 * One scheme for all: the columns of the output are cut into tiles of 48 (32 for int8), a thread owns
 * a rectangle of tiles and rows, and for each of its tiles walks over the reduction in pieces that keep
 * the tile's weights in the L2 cache, and in a piece over blocks of up to 8 rows.  Partial sums between
 * pieces live in a private tile [rows][48]; storing and loading a float is exact, so pieces, blocks and
 * threads do not show in the result. */
#ifndef FJ_OPS_GEMM_IN_H
#define FJ_OPS_GEMM_IN_H

#include "ops/gemm.h"

#define LESS(a, b) ((a) < (b) ? (a) : (b))

/* ---- blocking ------------------------------------------------------------------------------------ */
enum {
    MR = 8,   /* rows of a micro-kernel */
    MRQ = 6,  /* the same, int8 */
    TW = 48,  /* columns of a tile */
    KC = 576, /* floats, or pairs of bf16, of a piece of the reduction: 108 KiB a tile */
    MC = 256, /* rows of a lot */
    WIDE = 8, /* tiles at a time, of lots of MC rows */
    A8 = 256, /* values of an int8 record */
};

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline size_t align64(int64_t n) { return (size_t)up(n, 64); }

/* Length of equal pieces of n, none over max, multiples of `unit`; at least one unit. */
static inline int64_t piece_len(int64_t n, int64_t max, int64_t unit) {
    int64_t pieces = (n + max - 1) / max;
    return pieces < 2 ? up(n > 0 ? n : 1, unit) : up((n + pieces - 1) / pieces, unit);
}

typedef struct rect {
    int64_t r0, r1; /* rows */
    int64_t c0, c1; /* tiles */
} rect;

/* A thread's share of [m rows] x [tiles]: the grid of threads with the shortest longest share. */
static inline rect share(int ith, int nth, int64_t m, int64_t tiles, int64_t mr) {
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
static inline int64_t share_rows(int nth, int64_t m) { return nth > 1 ? up(m, MR * MRQ) : m; }

typedef struct thread_mem {
    float *tile;  /* [KC][48]: weights of a tile */
    float *block; /* [48][KC] or [KC][48]: the same on the way there */
    float *sums;  /* [sum_rows][48] */
} thread_mem;

/* Sums of all rows of a thread for a tile, or of a lot for several. */
static inline int64_t sum_rows(int64_t rows) {
    int64_t wide = LESS(WIDE * rows, WIDE * MC);
    return (rows > wide ? rows : wide) + MR;
}

static inline size_t thread_bytes(int64_t rows) {
    return align64((int64_t)KC * TW * 4) + align64((int64_t)2 * KC * TW * 4) +
           align64(sum_rows(rows) * TW * 4);
}

/* `shared` bytes of scratch are the team's. */
static inline thread_mem thread_take(const fj_team *t, size_t shared, int64_t rows) {
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
/* Where a tile goes. */
typedef struct out {
    float *y; /* first column of the tile, row 0 */
    int64_t ld, cols;
    float scale;
    bool acc;
    const fj_low *low; /* added to the tile when it is there, or NULL */
} out;

/* A product: rows times tiles of columns. */
typedef struct fj_walk {
    const void *a; /* element (r, j) at a[r * ars + j]: floats, or pairs of bf16 */
    int64_t ars;
    bool pairs, half; /* half: tiles are of F16, and rows few */
    int64_t k, len;   /* inner dimension in elements, and of a piece of it */
    int64_t n, tw;    /* columns, and of a tile */
    /* Rows at a time, whose elements stay in the L2 cache while all tiles pass by; where they are too long for
     * that, a piece of them meets several tiles. */
    int64_t lot, wide;
    bool back; /* of dx: for o.low */
    const char *
        panels; /* NULL, or where the pairs of all tiles lie, tile after tile: they are fetched ahead */
    /* Columns [g tw, +cols) x elements [k0, +kc) as [kc][cols in whole 16s]: in place, or made in mem. */
    const void *(*tile)(const fj_team *t, const void *ctx, int64_t g, int64_t cols, int64_t k0,
                        int64_t kc, thread_mem *mem);
    const void *ctx;
} fj_walk;

/* One piece of one tile, rows [r0, r1), whose sums begin at sums; b as from tile().  Meanwhile `bytes` from next
 * on, which need not be there, are fetched. */
void fj_walk_piece(const fj_kern *kern, const fj_walk *w, int64_t r0, int64_t r1, int64_t k0,
                   int64_t kc, const void *b, float *sums, const out *o, const char *next,
                   int64_t bytes);
/* Sets lot and wide for m rows; made: tile() makes tiles, at a cost for each lot. */
void fj_walk_fit(fj_walk *w, int64_t m, bool made);
/* The share s of a product. */
void fj_walk_tiles(const fj_team *t, const fj_walk *w, rect s, thread_mem *mem, out o);

/* o's low product on rows [r0, r1) of the tile that begins with column c0; sums: a row of 48 for each.
 * back: of dx. */
void fj_add_low(const fj_team *t, const out *o, int64_t r0, int64_t r1, int64_t c0, bool back,
                float *sums);

/* Pairs of a row, in memory: whole cache lines, and never a power of two of them apart. */
static inline int64_t pair_stride(int64_t k) { return up((k + 1) / 2, 16) + 16; }

/* y = (acc ? y : 0): what is left of a product whose inner dimension is 0. */
void fj_gemm_nothing(const fj_team *t, int64_t m, float *y, int64_t ld, int64_t n, bool acc);

/* ---- forward, by the form of the rows -------------------------------------------------------------- */
void fj_fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w, out o);
void fj_fwd_bf16(const fj_team *t, int64_t m, const uint32_t *a, const fj_wmat *w, out o);
void fj_dx(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const void *rounded,
           const fj_wmat *w, out o);
void fj_fwd_int8(const fj_team *t, int64_t m, const fj_a8 *a, const fj_wmat *w, out o);

/* The panels of k <= 256 values of `rows` <= 32 rows of blocks, `stride` bytes apart. */
void fj_pack_super(const fj_kern *kern, fj_dtype t, int64_t k, const void *src, int64_t stride,
                   int64_t rows, void *panels);
/* fj_wmat_pack, _unpack and _block of formats in blocks that have panels. */
void fj_blocks_pack(const fj_kern *kern, fj_dtype t, int64_t n, int64_t k, const void *rows,
                    void *panels, int ith, int nth);
void fj_blocks_unpack(fj_dtype t, int64_t k, const void *panels, int64_t n0, int64_t nn,
                      void *rows);
void fj_blocks_block(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                     int64_t kk, float *dst, int64_t ld);
/* fj_wmat_pairs of them. */
void fj_blocks_pairs(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                     int64_t kk, uint32_t *dst, int64_t ld);

#endif
