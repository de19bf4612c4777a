/* blocks.h - the bytes of GGUF's other block formats (ggml/src/ggml-common.h, gguf-py/gguf/quants.py);
 * Q8_0, Q4_0, MXFP4, Q4_K and Q6_K are in dtype.h.  Scales d, dmin and m are f16.
 *
 * Numbering: a block of 256 is cut into parts j of 32 values and groups g of 16; value i is number i % 32 of
 * its part. */
#ifndef FJ_BASE_BLOCKS_H
#define FJ_BASE_BLOCKS_H

#include "base/dtype.h"

/* ---- 32 values; value i is nibble i / 16 of q[i % 16], bit i of high above it ------------------------ */
typedef struct fj_q4_1 {
    uint16_t d, m; /* d * nibble + m */
    uint8_t q[16];
} fj_q4_1;
typedef struct fj_q5_0 {
    uint16_t d; /* d * (q - 16) */
    uint8_t high[4], q[16];
} fj_q5_0;
typedef struct fj_q5_1 {
    uint16_t d, m; /* d * q + m */
    uint8_t high[4], q[16];
} fj_q5_1;
typedef struct fj_iq4_nl {
    uint16_t d; /* d * fj_iq4_levels[nibble] */
    uint8_t q[16];
} fj_iq4_nl;

/* ---- 256 values --------------------------------------------------------------------------------------- */
/* Value l of part j: bits 2 (j % 4) of q[j / 4 * 32 + l] in the first two and in TQ2_0. */
typedef struct fj_q2_k {
    uint8_t scale[16]; /* of a group: scale low, min high: (d * scale) * q - dmin * min */
    uint8_t q[64];
    uint16_t d, dmin;
} fj_q2_k;
typedef struct fj_q3_k {
    uint8_t high[32]; /* bit j of high[l]: nothing is taken off; else 4: (d * scale) * (q - 4) */
    uint8_t q[64];
    uint8_t scale[12]; /* fj_q3_k_scale */
    uint16_t d;
} fj_q3_k;
typedef struct fj_q5_k {
    uint16_t d, dmin; /* as of fj_q4_k */
    uint8_t s[12];
    uint8_t high[32]; /* bit j of high[l] */
    uint8_t q[128];
} fj_q5_k;
typedef struct fj_iq4_xs {
    uint16_t d, high; /* high: two bits of the scale of part j at 2 j */
    uint8_t low[4];   /* four bits: nibble j % 2 of low[j / 2]; (d * (scale - 32)) * level */
    uint8_t q[128];   /* of part j as of fj_iq4_nl */
} fj_iq4_xs;
typedef struct fj_tq1_0 {
    uint8_t q[48], tail[4]; /* five ternary digits a byte, four in tail: d * (digit - 1) */
    uint16_t d;
} fj_tq1_0;
typedef struct fj_tq2_0 {
    uint8_t q[64]; /* d * (q - 1) */
    uint16_t d;
} fj_tq2_0;

/* Points of lattices: eight (IQ3: four) levels by number, the first in the lowest bits, with signs. */
typedef struct fj_iq2_xxs {
    uint16_t d;
    uint8_t q[64]; /* of part j at 8 j: four points, then 4 x 7 bits of signs and 4 of scale */
} fj_iq2_xxs;
typedef struct fj_iq2_xs {
    uint16_t d;
    uint16_t q[32]; /* nine bits of point, seven of signs */
    uint8_t scale[8];
} fj_iq2_xs;
typedef struct fj_iq2_s {
    uint16_t d;
    uint8_t q[32], sign[32], high[8], scale[8];
} fj_iq2_s;
typedef struct fj_iq3_xxs {
    uint16_t d;
    uint8_t q[64];
    uint8_t signs[32]; /* of part j at 4 j: 4 x 7 bits of signs and 4 of scale */
} fj_iq3_xxs;
typedef struct fj_iq3_s {
    uint16_t d;
    uint8_t q[64], high[8], sign[32], scale[4];
} fj_iq3_s;
typedef struct fj_iq1_s {
    uint16_t d;
    uint8_t q[32];
    uint16_t high[8]; /* 4 x 3 bits of point, 3 of scale, 1 of the shift's sign */
} fj_iq1_s;
typedef struct fj_iq1_m {
    uint8_t q[32], high[16];
    uint16_t scale[4]; /* 4 x 3 bits of scale, 4 of d */
} fj_iq1_m;

static_assert(sizeof(fj_q4_1) == 20 && sizeof(fj_q5_0) == 22 && sizeof(fj_q5_1) == 24 &&
                  sizeof(fj_iq4_nl) == 18,
              "GGUF block sizes");
static_assert(sizeof(fj_q2_k) == 84 && sizeof(fj_q3_k) == 110 && sizeof(fj_q5_k) == 176 &&
                  sizeof(fj_iq4_xs) == 136 && sizeof(fj_tq1_0) == 54 && sizeof(fj_tq2_0) == 66,
              "GGUF super-block sizes");
static_assert(sizeof(fj_iq2_xxs) == 66 && sizeof(fj_iq2_xs) == 74 && sizeof(fj_iq2_s) == 82 &&
                  sizeof(fj_iq3_xxs) == 98 && sizeof(fj_iq3_s) == 110 && sizeof(fj_iq1_s) == 50 &&
                  sizeof(fj_iq1_m) == 56,
              "sizes of GGUF's lattice blocks");

extern const int8_t fj_iq4_levels[16];

/* lattice.c.  Two bits a level but for IQ3, three. */
extern const uint16_t fj_iq2_xxs_points[256], fj_iq2_xs_points[512], fj_iq2_s_points[1024],
    fj_iq3_xxs_points[256], fj_iq3_s_points[512], fj_iq1_points[2048];

/* Scale of group g, in [-32, 31]. */
static inline int fj_q3_k_scale(const uint8_t *s, int g) {
    return ((s[g % 8] >> g / 8 * 4 & 15) | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
}

/* The 32 values of part j of a block of format t, not of F32, F16, BF16, I32 and F64: bit for bit what
 * gguf.dequantize says. */
void fj_block_part(fj_dtype t, const void *block, int j, float *dst);

#endif
