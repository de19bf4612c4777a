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
    FJ_I32,
    FJ_F64,
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

/* GGUF blocks (ggml/src/ggml-common.h): d is an f16; value = d * q, or d * (nibble - 8). */
typedef struct fj_q8_0 {
    uint16_t d;
    int8_t q[32];
} fj_q8_0;
typedef struct fj_q4_0 {
    uint16_t d;
    uint8_t q[16]; /* value i: low nibble of q[i] for i < 16, else high nibble of q[i - 16] */
} fj_q4_0;
static_assert(sizeof(fj_q8_0) == 34 && sizeof(fj_q4_0) == 18, "GGUF block sizes");

/* n is a multiple of the block.  Quantising follows ggml's quantize_row_*_ref. */
void fj_dequant_row(fj_dtype t, const void *src, float *dst, int64_t n);
void fj_quant_row(fj_dtype t, const float *src, void *dst, int64_t n);

#endif
