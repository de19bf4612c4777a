/* hfquant.h - quantised weights of Hugging Face checkpoints, as config.json's quantization_config says.
 *
 *   quant_method          tensors of module X                                value of row o, column i
 *   bitsandbytes, 4 bits  X.weight .absmax .quant_map .quant_state...        code[nibble] * absmax[block]
 *                         (.nested_absmax .nested_quant_map)
 *   bitsandbytes, 8 bits  X.weight X.SCB (X.weight_format)                   q * SCB[o] / 127
 *   gptq                  X.qweight .qzeros .scales (.g_idx)                 scale[g, o] * (q - zero[g, o])
 *   awq                   X.qweight .qzeros .scales                          the same
 *   fp8, fbgemm_fp8       X.weight X.weight_scale_inv or X.weight_scale      value * scale
 *   compressed-tensors    the same, also of bytes; X.weight_packed           q * scale
 * Sources: bitsandbytes/functional.py (QuantState, dequantize_4bit), _ops.py (int8_vectorwise_dequant);
 * GPTQModel nn_modules/qlinear (dequantize_weight) and utils/model.py (v1 and v2 of zero points); AutoAWQ
 * utils/packing_utils.py; transformers integrations/finegrained_fp8.py; compressed_tensors/compressors.
 *
 * Which weights are quantised is what the tensors say; a weight that is although the config lists its
 * module as not converted is refused.  What a peer does to activations while it computes (8-bit inputs,
 * outliers of LLM.int8 in 16 bits) is not part of a weight and not repeated.  Whatever else
 * quantization_config has is known or refused by name. */
#ifndef FJ_FORMATS_HFQUANT_H
#define FJ_FORMATS_HFQUANT_H

#include "formats/json.h"
#include "formats/safetensors.h"

typedef struct fj_hfq fj_hfq; /* read-only after open, for any number of threads */

typedef enum fj_hfq_kind {
    FJ_HFQ_PLAIN, /* not quantised: an ordinary tensor, or none of that name */
    FJ_HFQ_BNB4,
    FJ_HFQ_INT8,
    FJ_HFQ_GPTQ,
    FJ_HFQ_AWQ,
    FJ_HFQ_SCALED, /* F8_E4M3 or I8 with scales */
    FJ_HFQ_PACKED, /* whole numbers in words along the row, compressed-tensors */
} fj_hfq_kind;

/* A weight [rows, cols] = [out, in], whatever way the model's own tensor is turned, and its checked
 * tensors.  Points into the fj_st and the fj_hfq, owns nothing. */
typedef struct fj_hfq_weight {
    fj_hfq_kind kind;
    int64_t rows, cols;
    fj_dtype dtype;              /* what holds it in memory */
    const fj_st_tensor *q;       /* the codes */
    const fj_st_tensor *scale;   /* absmax, SCB, scales, weight_scale */
    const fj_st_tensor *zero;    /* qzeros, weight_zero_point; NULL: none */
    const int32_t *group_of;     /* [cols] GPTQ's g_idx; NULL: i / block */
    const float *code;           /* [16] BNB4 */
    const float *nested;         /* [...] BNB4: of absmax in bytes; NULL: absmax is f32 */
    const float *nested_code;    /* [256] */
    int64_t block, nested_block; /* BNB4: values; others: columns of a scale */
    int64_t block_rows;          /* SCALED: rows of a scale */
    int64_t scale_cols;          /* scales of one row of them */
    float offset;                /* BNB4: mean of absmax */
    int bits;                    /* of a code: GPTQ, PACKED */
    uint32_t zero_add; /* to a word of qzeros: GPTQ's first version stores them less one */
} fj_hfq_weight;

/* config: what config.json holds, file its name for messages.  *q is NULL where there is no
 * quantization_config, or one whose tensors are read elsewhere (mxfp4). */
bool fj_hfq_open(const json_t *config, const char *file, fj_hfq **q, fj_err *e);
void fj_hfq_close(fj_hfq *q);             /* NULL is fine */
const char *fj_hfq_name(const fj_hfq *q); /* "gptq": quant_method */

/* Finds and checks the tensors of the weight `name` ("model.layers.0.mlp.up_proj.weight"); kind
 * FJ_HFQ_PLAIN where it has none of its own kind, and where q is NULL.  false: they are there and wrong. */
bool fj_hfq_find(const fj_hfq *q, const fj_st *st, const char *name, fj_hfq_weight *w, fj_err *e);

/* The weight that the tensor is a part of, its name in a; NULL: of none. */
const char *fj_hfq_owner(const fj_hfq *q, const fj_st *st, const char *tensor, fj_arena *a);
/* A tensor that changes nothing: the bias of zeros that old writers of GPTQ gave to every module. */
bool fj_hfq_idle(const fj_hfq *q, const fj_st *st, const char *tensor);

/* Rows [row0, row0 + n) as the reference has them in f32: out [n, cols].  Any number of threads. */
void fj_hfq_rows(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
/* The same rows of a weight whose dtype is FJ_NF4: the codes of the file, absmax rounded to f16.  out
 * [n, cols / 64].  false: an absmax is too large for f16. */
bool fj_hfq_rows_nf4(const fj_hfq_weight *w, int64_t row0, int64_t n, fj_nf4 *out, fj_err *e);

#endif
