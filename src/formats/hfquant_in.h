/* hfquant_in.h - what the files of hfquant share. */
#ifndef FJ_FORMATS_HFQUANT_IN_H
#define FJ_FORMATS_HFQUANT_IN_H

#include "formats/hfquant.h"

typedef enum fj_hfq_method {
    FJ_HFQ_M_BNB,
    FJ_HFQ_M_GPTQ,
    FJ_HFQ_M_AWQ,
    FJ_HFQ_M_FP8,
    FJ_HFQ_M_FBGEMM,
    FJ_HFQ_M_COMPRESSED,
} fj_hfq_method;

typedef struct fj_hfq_skip {
    const char *pattern, *key;    /* as written; the key of the config that has it */
    struct pcre2_real_code_8 *re; /* NULL: a name, compared */
    bool suffix;                  /* the end of a module's name is enough */
} fj_hfq_skip;

struct fj_hfq {
    fj_hfq_method method;
    const char *file, *name;
    fj_dtype memory;  /* of weights that are not kept as they are */
    int bits;         /* gptq, awq, compressed-tensors: of a code */
    int64_t group;    /* gptq, awq, compressed-tensors: columns of a scale, -1: all */
    bool first;       /* gptq: zero points less one */
    bool ordered;     /* gptq: groups by g_idx alone */
    bool asymmetric;  /* compressed-tensors, packed */
    bool packed;      /* compressed-tensors: words of codes; otherwise one byte a value */
    const char *byte; /* fp8, compressed-tensors: "F8_E4M3" or "I8" */
    int64_t block[2]; /* rows, columns of a scale; 0: of the tensor, or of a row */
    fj_hfq_skip *skip;
    size_t n_skip;
    fj_arena mem;
};

/* hfquant_config.c */
bool fj_hfq_parse(fj_hfq *q, const json_t *config, const json_t *quant, fj_err *e);

/* ---- tensors (hfquant.c) ----------------------------------------------------------------------- */
/* base followed by suffix, or NULL: not there. */
const fj_st_tensor *fj_hfq_beside(const fj_st *st, const char *base, const char *suffix);
/* The same, an error when it is missing, not one of types ("F32|F16"), or, for n_dims >= 0, not of that
 * shape. */
const fj_st_tensor *fj_hfq_need(const fj_st *st, const char *base, const char *suffix,
                                const char *types, int n_dims, const int64_t *dim, fj_err *e);
bool fj_hfq_is_type(const fj_st_tensor *t, const char *types);
int64_t fj_hfq_count(const fj_st_tensor *t);                           /* values */
bool fj_hfq_matrix(const fj_st *st, const fj_st_tensor *t, fj_err *e); /* [a > 0, b > 0] */
float fj_hfq_scale(const fj_st_tensor *t, int64_t i); /* of F32, F16, BF16, F8_E8M0 */

/* ---- kinds: find is given the module ("model.layers.0.mlp.up_proj") ------------------------------- */
bool fj_hfq_find_bnb(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w, fj_err *e);
bool fj_hfq_find_packed(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w,
                        fj_err *e);
bool fj_hfq_find_scaled(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w,
                        fj_err *e);
void fj_hfq_rows_bnb4(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
void fj_hfq_rows_int8(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
void fj_hfq_rows_gptq(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
void fj_hfq_rows_awq(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
void fj_hfq_rows_scaled(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);
void fj_hfq_rows_packed(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out);

static inline int64_t fj_hfq_ceil(int64_t a, int64_t b) { return a / b + (a % b != 0); }

#endif
