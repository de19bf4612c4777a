/* arch.h - what a model architecture is: one descriptor per file, one line in models.def.
 *
 * Loading from GGUF and safetensors, checking shapes, export and adapter targets read the same rows. */
#ifndef FJ_MODELS_ARCH_H
#define FJ_MODELS_ARCH_H

#include "graph/graph.h"

typedef enum fj_rope_kind {
    FJ_ROPE_PLAIN,
    FJ_ROPE_LINEAR,  /* kaiokendev: angles / factor */
    FJ_ROPE_DYNAMIC, /* NTK-aware base that grows with the sequence (emozilla) */
    FJ_ROPE_LLAMA3,  /* frequencies by wave length (Llama 3.1) */
    FJ_ROPE_YARN,    /* Peng et al. 2023 */
} fj_rope_kind;

/* Formulas: transformers/modeling_rope_utils.py. */
typedef struct fj_rope_hp {
    fj_rope_kind kind;
    double base, factor, low, high; /* low, high: llama3 low_freq_factor, high_freq_factor */
    double beta_fast, beta_slow, attention_factor; /* yarn; attention_factor 0: from the factor */
    double mscale, mscale_all_dim;                 /* yarn, 0: not given */
    int64_t original; /* original_max_position_embeddings, 0: context */
    bool truncate;    /* yarn: round the bounds (transformers does) */
} fj_rope_hp;

typedef struct fj_hparams {
    int64_t layers, width, heads, kv_heads, head_dim, ffn, vocab, context;
    double eps;
    bool tied, attn_bias, mlp_bias;
    fj_rope_hp rope;
    const float
        *rope_factors; /* GGUF rope_freqs.weight [head_dim / 2], divides inv_freq; or NULL */
} fj_hparams;

typedef enum fj_hp_type { FJ_HP_INT, FJ_HP_FLOAT, FJ_HP_BOOL } fj_hp_type;

/* One hyper-parameter under its two names.  %s in the GGUF key is the architecture. */
typedef struct fj_hp_row {
    fj_hp_type type;
    size_t offset; /* in fj_hparams */
    const char *gguf, *hf;
    bool required;
    double def; /* when it is missing and not required; NAN: found by the architecture's finish() */
} fj_hp_row;

/* Sizes that shapes are made of. */
typedef enum fj_size { FJ_ONE, FJ_WIDTH, FJ_Q, FJ_KV, FJ_FFN, FJ_VOCAB } fj_size;

typedef enum fj_when { FJ_ALWAYS, FJ_IF_ATTN_BIAS, FJ_IF_MLP_BIAS, FJ_IF_UNTIED } fj_when;

/* One weight, or one per layer when the names have %d.  Index in the list is its id. */
typedef struct fj_weight_row {
    const char *gguf, *hf; /* "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight" */
    fj_size rows, cols;    /* rows FJ_ONE: a vector */
    fj_when when;
    bool linear;     /* multiplied with rows: kept in panels; adapters may target it */
    bool gguf_pairs; /* rows of each head are interleaved in GGUF: (0, hd/2, 1, hd/2+1, ...) */
} fj_weight_row;

struct fj_fwd;

typedef struct fj_arch {
    const char *name;     /* general.architecture of GGUF */
    const char *hf_class; /* "LlamaForCausalLM" */
    const char *hf_type;  /* model_type */
    const fj_hp_row *hp;
    int n_hp;
    const fj_weight_row *weights;
    int n_weights;
    /* config.json keys that mean nothing for the mathematics beyond those in hp; any other is refused */
    const char *const *ignored;
    bool (*finish)(fj_hparams *hp, fj_err *e); /* derived values, limits */
    /* Emits the layers: from fwd's ids to the hidden states after the last norm [n, width]. */
    fj_tensor *(*build)(struct fj_fwd *f);
    int embed, head; /* ids of the table and of the head; tied: head uses embed */
} fj_arch;

#define FJ_MODEL(name) extern const fj_arch fj_arch_##name;
#include "models/models.def"
#undef FJ_MODEL

extern const fj_arch *const fj_archs[]; /* NULL at the end */

int64_t fj_size_of(const fj_hparams *hp, fj_size s);
bool fj_weight_there(const fj_hparams *hp, const fj_weight_row *w);
/* inv_freq [head_dim / 2] for a sequence of `len` tokens, and the factor on cosine and sine. */
void fj_rope_freqs(const fj_hparams *hp, int64_t len, float *inv_freq, double *mscale);

#endif
