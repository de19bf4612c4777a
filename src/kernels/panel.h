/* panel.h - rows of activations in int8, and weights in blocks as the kernels want them.
 *
 * Panels hold the blocks of 32 columns (rows of the file), the same bits in another order: a field of the
 * block (its scale, its codes) lies together for the 32 columns, four bytes of a column at a time, so that a
 * kernel's lanes are columns and memory is read once, front to back.  A super-block of 256 values is one
 * panel, blocks of 32 are a panel each.
 *
 * From panels a kernel makes tiles (fj_w8), the same for all formats: unsigned codes, scales and mins in f32.
 * Tiles meet rows as gemm_w8 says; that arithmetic is that of the format, whatever the number of rows. */
#ifndef FJ_KERNELS_PANEL_H
#define FJ_KERNELS_PANEL_H

#include "base/dtype.h"

/* How a format meets rows: an offset that makes its codes unsigned (value = d * (code - offset) + min), or'ed
 * with flags.  Rows have one scale per 32 values, or per 256 as llama.cpp has them for these formats. */
enum {
    FJ_A8_OFFSET = 255,
    FJ_A8_WIDE = 256, /* rows: a scale per 256 values */
    FJ_A8_MIN = 512,  /* weights have a min as well as a scale; the offset is 0 */
    FJ_A8_16 = 1024,  /* weights: a scale per 16 values, not 32; always with FJ_A8_WIDE */

    FJ_A8_KIND_32 = 0,
    FJ_A8_KIND_32_MIN = FJ_A8_MIN,
    FJ_A8_KIND_256 = FJ_A8_WIDE,
    FJ_A8_KIND_256_MIN = FJ_A8_WIDE | FJ_A8_MIN,
    FJ_A8_KIND_16 = FJ_A8_WIDE | FJ_A8_16,
    FJ_A8_KIND_16_MIN = FJ_A8_WIDE | FJ_A8_16 | FJ_A8_MIN,
};

/* The kind of a format, -1: it has no panels and meets rows in bf16 (F32: in f32). */
static inline int fj_a8_kind(fj_dtype t) {
    switch (t) {
    case FJ_Q8_0:
    case FJ_MXFP4:
    case FJ_IQ4_NL: return FJ_A8_KIND_32 | 128;
    case FJ_Q4_0: return FJ_A8_KIND_32 | 8;
    case FJ_Q5_0: return FJ_A8_KIND_32 | 16;
    case FJ_Q4_1:
    case FJ_Q5_1: return FJ_A8_KIND_32_MIN;
    case FJ_IQ4_XS: return FJ_A8_KIND_256 | 128;
    case FJ_Q4_K:
    case FJ_Q5_K: return FJ_A8_KIND_256_MIN;
    case FJ_Q6_K: return FJ_A8_KIND_16 | 32;
    case FJ_Q3_K: return FJ_A8_KIND_16 | 4;
    case FJ_Q2_K: return FJ_A8_KIND_16_MIN;
    default: return -1;
    }
}

/* Up to 256 values of a row, value = d * q; d has one scale per 32 values, all equal for FJ_A8_WIDE.  What
 * joins the integer sum of a group (32 values, or 16 for FJ_A8_16): corr, -offset times the sum of its q, which
 * the sum starts from; for FJ_A8_MIN instead sum, by which the min is multiplied: the sum of its q, times d
 * unless FJ_A8_WIDE.  32 values (or 256) with an infinity or a NaN get q = 0 and d = NaN, so that the fault is
 * not hidden. */
typedef struct fj_a8 {
    int8_t q[256];
    union {
        int32_t corr[16];
        float sum[16];
    };
    float d[8];
    float unused[8];
} fj_a8;
static_assert(sizeof(fj_a8) == 384, "six cache lines");

/* 32 columns of up to 256 values: byte i (the first is the lowest) of w[b][j][c] is the code of value
 * 32 b + 4 j + i of column c; d and m (FJ_A8_MIN alone) of group g (32 values, or 16 for FJ_A8_16) and column c
 * are at [g][c]. */
typedef struct fj_w8 {
    uint32_t w[8][8][32] __attribute__((aligned(64)));
    float d[16][32], m[16][32];
} fj_w8;

/* ---- panels ------------------------------------------------------------------------------------------ */
/* Words of a field: [word][column], four bytes of a column, the first in the lowest bits.  Codes of Q8_0 have
 * their top bit turned, which adds 128. */
typedef struct fj_panel_q8_0 {
    uint16_t d[32];
    uint32_t q[8][32];
} fj_panel_q8_0;
typedef struct fj_panel_q4_0 { /* and IQ4_NL */
    uint16_t d[32];
    uint32_t q[4][32];
} fj_panel_q4_0;
typedef struct fj_panel_mxfp4 {
    uint8_t e[32];
    uint32_t q[4][32];
} fj_panel_mxfp4;
typedef struct fj_panel_q4_1 {
    uint16_t d[32], m[32];
    uint32_t q[4][32];
} fj_panel_q4_1;
typedef struct fj_panel_q5_0 {
    uint16_t d[32];
    uint32_t high[32], q[4][32];
} fj_panel_q5_0;
typedef struct fj_panel_q5_1 {
    uint16_t d[32], m[32];
    uint32_t high[32], q[4][32];
} fj_panel_q5_1;
typedef struct fj_panel_q4_k {
    uint16_t d[32], dmin[32];
    uint32_t s[3][32], q[32][32];
} fj_panel_q4_k;
typedef struct fj_panel_q5_k {
    uint16_t d[32], dmin[32];
    uint32_t s[3][32], high[8][32], q[32][32];
} fj_panel_q5_k;
typedef struct fj_panel_q6_k {
    uint16_t d[32];
    uint32_t scale[4][32], low[32][32], high[16][32];
} fj_panel_q6_k;
typedef struct fj_panel_q3_k {
    uint16_t d[32];
    uint32_t scale[3][32], high[8][32], q[16][32];
} fj_panel_q3_k;
typedef struct fj_panel_q2_k {
    uint16_t d[32], dmin[32];
    uint32_t scale[4][32], q[16][32];
} fj_panel_q2_k;
typedef struct fj_panel_iq4_xs {
    uint16_t d[32], high[32];
    uint32_t low[32], q[32][32];
} fj_panel_iq4_xs;

/* Fields of a block in the order of its panel: bytes [from, from + bytes) of the block, in units of 1, 2 or 4
 * bytes.  The last has 0 bytes. */
typedef struct fj_field {
    uint8_t from, bytes, unit;
    bool flip; /* the top bit of each byte */
} fj_field;
const fj_field *fj_panel_fields(fj_dtype t);

/* Codes of MXFP4 and of IQ4_NL and IQ4_XS by nibble: fj_e2m1_doubled and fj_iq4_levels plus 128. */
extern const uint8_t fj_w8_e2m1[16], fj_w8_iq4[16];

#endif
