/* dtype.h - the number formats that tensors have, and their sizes.
 *
 * Block formats store runs of `block` values along a row as `bytes` bytes.  Ids of GGUF are those of
 * ggml (gguf-py/gguf/constants.py, GGMLQuantizationType). */
#ifndef FJ_BASE_DTYPE_H
#define FJ_BASE_DTYPE_H

#include <assert.h>
#include <forja/err.h>
#include <stdint.h>

typedef enum fj_dtype {
    FJ_F32,
    FJ_F16,
    FJ_BF16,
    FJ_Q8_0,
    FJ_Q4_0,
    FJ_MXFP4,
    FJ_Q4_K,
    FJ_Q6_K,
    FJ_NF4,
    FJ_I32,
    FJ_F64,
    FJ_Q4_1, /* from here on: blocks.h */
    FJ_Q5_0,
    FJ_Q5_1,
    FJ_Q2_K,
    FJ_Q3_K,
    FJ_Q5_K,
    FJ_IQ4_NL,
    FJ_IQ4_XS,
    FJ_IQ2_XXS,
    FJ_IQ2_XS,
    FJ_IQ2_S,
    FJ_IQ3_XXS,
    FJ_IQ3_S,
    FJ_IQ1_S,
    FJ_IQ1_M,
    FJ_TQ1_0,
    FJ_TQ2_0,
    FJ_DTYPES
} fj_dtype;

typedef struct fj_dtype_info {
    const char *name; /* "F32", "Q8_0": as GGUF tools print it */
    int block, bytes; /* values of a block, bytes of a block */
    int gguf;         /* ggml type id, -1: not in GGUF */
    const char *st;   /* safetensors dtype, NULL: none */
} fj_dtype_info;

const fj_dtype_info *fj_dtype_get(fj_dtype t);
/* By name, case does not matter; false: unknown. */
bool fj_dtype_parse(const char *name, fj_dtype *t);
bool fj_dtype_from_gguf(uint32_t id, fj_dtype *t);

/* Weights of this format meet the kernels of a GPU as they are; others are dequantised on the way there. */
static inline bool fj_dtype_on_gpu(fj_dtype t) { return t <= FJ_NF4; }
/* fj_quant_row makes this format; kernels/quant.h makes more of them, and better. */
static inline bool fj_dtype_quantises(fj_dtype t) { return t <= FJ_NF4 || t == FJ_F64; }

/* Bytes of `rows` rows of `cols` values; -1: cols is not whole blocks, or the size overflows. */
int64_t fj_dtype_size(fj_dtype t, int64_t rows, int64_t cols);

static inline float fj_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)h << 16 };
    return v.f;
}
uint16_t fj_f32_to_bf16(float f); /* nearest even; NaN stays NaN */
float fj_f16_to_f32(uint16_t h);
uint16_t fj_f32_to_f16(float f); /* nearest even */

/* GGUF blocks (ggml/src/ggml-common.h): d is an f16; value = d * q, or d * (nibble - 8).  MXFP4 (OCP
 * Microscaling Formats 1.0): value = 2^(e - 127) * the e2m1 number of the nibble. */
typedef struct fj_q8_0 {
    uint16_t d;
    int8_t q[32];
} fj_q8_0;
typedef struct fj_q4_0 {
    uint16_t d;
    uint8_t q[16]; /* value i: low nibble of q[i] for i < 16, else high nibble of q[i - 16] */
} fj_q4_0;
typedef struct fj_mxfp4 {
    uint8_t e;
    uint8_t q[16]; /* as of fj_q4_0 */
} fj_mxfp4;
static_assert(sizeof(fj_q8_0) == 34 && sizeof(fj_q4_0) == 18 && sizeof(fj_mxfp4) == 17,
              "GGUF block sizes");

/* Super-blocks of GGUF (the same file).  Q4_K: value = (d * scale) * nibble - dmin * min, a scale and a min
 * of 6 bits for each 32 values; Q6_K: value = (d * scale) * (q - 32), q of 6 bits, a scale for each 16. */
typedef struct fj_q4_k {
    uint16_t d, dmin;
    uint8_t s[12]; /* fj_q4_k_scale */
    uint8_t q
        [128]; /* value 64 i + j: low nibble of q[32 i + j] for j < 32, else high of q[32 i + j - 32] */
} fj_q4_k;
typedef struct fj_q6_k {
    uint8_t low
        [128]; /* value 128 i + 32 j + l: low four bits in nibble j / 2 of low[64 i + j % 2 * 32 + l] */
    uint8_t high[64]; /* high two at bit 2 j of high[32 i + l] */
    int8_t scale[16];
    uint16_t d;
} fj_q6_k;
static_assert(sizeof(fj_q4_k) == 144 && sizeof(fj_q6_k) == 210, "GGUF super-block sizes");

/* Scale and min of values [32 j, 32 j + 32): bits of 0..3 lie whole in the first eight bytes; those of 4..7
 * have their low four in the last four bytes and their high two above the others. */
static inline void fj_q4_k_scale(const uint8_t *s, int j, int *scale, int *min) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    *min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

/* NF4 (QLoRA, Dettmers et al. 2023): value = absmax * fj_nf4_code[nibble], the codes being quantiles of
 * N(0, 1) brought to [-1, 1], those of bitsandbytes; a byte has two neighbours, the first in its high
 * nibble, as bitsandbytes packs them.  absmax is here an f16 beside its 64 values; bitsandbytes has a tensor
 * of f32, or with double quantisation of bytes whose blocks of 256 have an f32 each and a common mean.
 * The codes of a file of bitsandbytes can therefore be taken over, its absmax is rounded to 11 bits. */
typedef struct fj_nf4 {
    uint16_t absmax;
    uint8_t q[32];
} fj_nf4;
static_assert(sizeof(fj_nf4) == 34, "NF4 block size");
extern const float fj_nf4_code[16];

/* Twice the e2m1 numbers 0, .5, 1, 1.5, 2, 3, 4, 6 and their negatives: integers; and half the scale,
 * 2^(e - 128), finite for every e (a number below FLT_MIN for e < 2). */
extern const int8_t fj_e2m1_doubled[16];
static inline float fj_e8m0_half(uint8_t e) {
    union {
        uint32_t u;
        float f;
    } v = { e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23 };
    return v.f;
}

/* n is a multiple of the block.  Quantising follows ggml's quantize_row_*_ref; NF4: the nearest code. */
void fj_dequant_row(fj_dtype t, const void *src, float *dst, int64_t n);
void fj_quant_row(fj_dtype t, const float *src, void *dst, int64_t n);
/* Values [from, from + n) of the row src; both are multiples of the block, or of 32 where it is larger. */
void fj_dequant_part(fj_dtype t, const void *src, int64_t from, float *dst, int64_t n);

/* kquant.c: a super-block. */
void fj_quant_q4_k(const float *x, fj_q4_k *to);
void fj_quant_q6_k(const float *x, fj_q6_k *to);

/* MXFP4 as gpt-oss has it in safetensors, and back, bit for bit.  blocks [rows, k / 32, 16]: byte j of a
 * block holds value 2j (low nibble) and 2j + 1; scales [rows, k / 32]; dst and src are rows of FJ_MXFP4. */
void fj_mxfp4_from_blocks(void *dst, const uint8_t *blocks, const uint8_t *scales, int64_t rows,
                          int64_t k);
void fj_mxfp4_to_blocks(const void *src, uint8_t *blocks, uint8_t *scales, int64_t rows, int64_t k);

#endif
