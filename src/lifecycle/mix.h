/* mix.h - which number format each tensor of a quantised GGUF gets.
 *
 * A mix is a name that people know from llama.cpp's llama-quantize (Q4_K_M): a base format, and better ones for
 * the tensors where that pays most (values, ffn_down of some layers, the head).  The rules are facts of
 * llama.cpp's src/llama-quant.cpp as of 2026 (llama_tensor_get_type), for the architectures of
 * models.def: a file of a mix has the types there and here.  Pure functions, any thread. */
#ifndef FJ_LIFECYCLE_MIX_H
#define FJ_LIFECYCLE_MIX_H

#include <forja/err.h>
#include <stddef.h>
#include <stdint.h>

/* Types of tensors as GGUF numbers them (gguf-py/gguf/constants.py, GGMLQuantizationType); base/dtype.h knows
 * those of them that forja computes with. */
typedef enum fj_ggml {
    FJ_GGML_F32 = 0,
    FJ_GGML_F16 = 1,
    FJ_GGML_Q4_0 = 2,
    FJ_GGML_Q4_1 = 3,
    FJ_GGML_Q5_0 = 6,
    FJ_GGML_Q5_1 = 7,
    FJ_GGML_Q8_0 = 8,
    FJ_GGML_Q2_K = 10,
    FJ_GGML_Q3_K = 11,
    FJ_GGML_Q4_K = 12,
    FJ_GGML_Q5_K = 13,
    FJ_GGML_Q6_K = 14,
    FJ_GGML_IQ4_NL = 20,
    FJ_GGML_IQ4_XS = 23,
    FJ_GGML_BF16 = 30,
    FJ_GGML_MXFP4 = 39,
} fj_ggml;

typedef struct fj_mix fj_mix;

/* By name, case does not matter: Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_1 Q4_K_S Q4_K_M Q5_0 Q5_1 Q5_K_S
 * Q5_K_M Q6_K Q8_0 IQ4_NL IQ4_XS MXFP4_MOE F32 F16 BF16; Q3_K, Q4_K and Q5_K are their _M.  NULL and e,
 * which lists them all: unknown. */
const fj_mix *fj_mix_find(const char *name, fj_err *e);
/* The i-th of them, from the smallest files to the largest; NULL: there are no more. */
const fj_mix *fj_mix_at(size_t i);
const char *fj_mix_name(const fj_mix *m);
uint32_t fj_mix_file_type(const fj_mix *m); /* general.file_type of GGUF (llama.h, llama_ftype) */

/* What a tensor's type depends on beside itself. */
typedef struct fj_mix_model {
    const char *arch; /* general.architecture */
    int layers;
    int64_t heads, kv_heads, experts; /* experts 0: none */
    bool tied;    /* the table of tokens is the head, too: there is no output.weight */
    bool imatrix; /* there is an importance matrix */
} fj_mix_model;

typedef struct fj_mix_tensor {
    const char *name;         /* in GGUF: "blk.3.ffn_down.weight" */
    int64_t rows, cols, mats; /* of one of mats matrices; mats 1: no experts.  rows 1: a vector */
    int layer;                /* -1: not per layer */
} fj_mix_tensor;

/* The type of a tensor (fj_ggml).  Vectors, norms, biases, routers and learned positions are F32.  Rows that
 * are not whole blocks of the mix's type get one of blocks of 32, or F16. */
uint32_t fj_mix_type(const fj_mix *m, const fj_mix_model *model, const fj_mix_tensor *t);
/* Does llama-quantize refuse this tensor of the mix without an importance matrix, because it would be
 * too bad?  type: of fj_mix_type. */
bool fj_mix_needs_imatrix(const fj_mix *m, const fj_mix_tensor *t, uint32_t type);

#endif
