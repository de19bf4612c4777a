/* arch.h - what a model architecture is: one descriptor per file, one line in models.def.
 *
 * Loading from GGUF and safetensors, checking shapes, export and adapter targets read the same rows.
 * What the architectures share (attention, gated feed-forward, experts) is built in layer.c from the
 * weights that are there; a file of its own says which they are, under which names, and in which order
 * norms and sums follow each other. */
#ifndef FJ_MODELS_ARCH_H
#define FJ_MODELS_ARCH_H

#include "graph/graph.h"

enum { FJ_MAX_LAYERS = 512 };

typedef enum fj_rope_kind {
    FJ_ROPE_PLAIN,
    FJ_ROPE_LINEAR,   /* kaiokendev: angles / factor */
    FJ_ROPE_DYNAMIC,  /* NTK-aware base that grows with the sequence (emozilla) */
    FJ_ROPE_LLAMA3,   /* frequencies by wave length (Llama 3.1) */
    FJ_ROPE_YARN,     /* Peng et al. 2023 */
    FJ_ROPE_LONGROPE, /* Ding et al. 2024: a divisor per frequency, by the sequence's length */
    FJ_ROPE_NONE,     /* no rotary positions at all */
} fj_rope_kind;

/* Formulas: transformers/modeling_rope_utils.py. */
typedef struct fj_rope_hp {
    fj_rope_kind kind;
    double base, factor, low, high; /* low, high: llama3 low_freq_factor, high_freq_factor */
    double beta_fast, beta_slow, attention_factor; /* yarn; attention_factor 0: from the factor */
    double mscale, mscale_all_dim;                 /* yarn, 0: not given */
    double partial;   /* share of a head that is turned: the first int(head_dim * partial) values */
    int64_t original; /* original_max_position_embeddings, 0: context */
    int64_t dims;     /* values of a head that are turned */
    bool truncate;    /* yarn: round the bounds (transformers does) */
    /* [dims / 2], in the model's arena or NULL.  divisors: GGUF rope_freqs.weight.  longrope: one set up
     * to `original` tokens, another beyond. */
    const float *divisors, *short_factor, *long_factor;
} fj_rope_hp;

/* Kinds of layers (bits of fj_hparams.layer). */
enum {
    FJ_LAYER_LOCAL = 1, /* attends within the window, turned by rope_local when there is one */
    FJ_LAYER_NO_ROPE = 2,
    FJ_LAYER_DENSE = 4, /* of a model with experts: has one feed-forward network all the same */
};

typedef struct fj_hparams {
    int64_t layers, width, heads, kv_heads, head_dim, ffn, vocab, context;
    int64_t query_scalar; /* Gemma: attn_scale = 1 / sqrt of it; 0: not said */
    int64_t window; /* tokens that a local layer sees, itself included; 0: all layers see all */
    int64_t experts, experts_used, expert_ffn; /* 0: no experts */
    double eps;
    double attn_scale;                  /* of scores; 0: 1 / sqrt(head_dim) */
    double attn_softcap, logit_softcap; /* 0: none */
    double embed_scale, residual_scale; /* 1: none */
    double logit_div;                   /* logits are divided by it; 1: none */
    double glu_alpha, glu_limit;        /* gpt-oss */
    bool tied, attn_bias, mlp_bias;
    bool norm_topk;      /* weights of the chosen experts add up to one */
    bool use_window;     /* Qwen: sliding_window counts at all */
    int64_t full_layers; /* Qwen max_window_layers: the first so many layers see all */
    int64_t
        rope_every; /* SmolLM3 no_rope_layer_interval: every n-th layer has no rotary positions */
    int64_t local_every;         /* Gemma 3 sliding_window_pattern: every n-th layer sees all */
    int64_t sparse_step;         /* Qwen3-MoE decoder_sparse_step: every n-th layer has experts */
    fj_rope_hp rope, rope_local; /* rope_local.base 0: local layers use rope, too */
    uint8_t layer[FJ_MAX_LAYERS];
} fj_hparams;

typedef enum fj_hp_type { FJ_HP_INT, FJ_HP_FLOAT, FJ_HP_BOOL } fj_hp_type;

/* One hyper-parameter under its two names.  %s in the GGUF key is the architecture.  hf may list
 * spellings, "a|b": any is read, the first is written.  Either NULL: not said there. */
typedef struct fj_hp_row {
    fj_hp_type type;
    size_t offset; /* in fj_hparams */
    const char *gguf, *hf;
    bool required;
    double def;      /* when it is missing and not required */
    double gguf_def; /* the same in GGUF, where that differs; 0: it does not, -1: it is 0 there */
} fj_hp_row;

/* Sizes that shapes are made of. */
typedef enum fj_size {
    FJ_ONE,
    FJ_WIDTH,
    FJ_Q,
    FJ_KV,
    FJ_QKV, /* query, key and value rows, one after the other */
    FJ_HEAD_DIM,
    FJ_HEADS,
    FJ_FFN,
    FJ_FFN2, /* gate and up rows, one after the other */
    FJ_VOCAB,
    FJ_CONTEXT,
    FJ_EXPERTS,
    FJ_XFFN,
    FJ_XFFN2,
} fj_size;

typedef enum fj_when {
    FJ_ALWAYS,
    FJ_IF_ATTN_BIAS,
    FJ_IF_MLP_BIAS,
    FJ_IF_UNTIED,
    FJ_IF_DENSE,   /* layers without experts */
    FJ_IF_EXPERTS, /* layers with */
} fj_when;

/* What a weight does; layer.c asks for it by this.  Names of weights are the index of their row. */
typedef enum fj_role {
    FJ_W_EMBED,
    FJ_W_POSITIONS,
    FJ_W_ATTN_NORM,
    FJ_W_ATTN_NORM_B,
    FJ_W_Q,
    FJ_W_K,
    FJ_W_V,
    FJ_W_QKV,
    FJ_W_O,
    FJ_W_Q_B,
    FJ_W_K_B,
    FJ_W_V_B,
    FJ_W_QKV_B,
    FJ_W_O_B,
    FJ_W_Q_NORM,
    FJ_W_K_NORM,
    FJ_W_SINKS,
    FJ_W_ATTN_POST, /* norm of what attention gives */
    FJ_W_FFN_NORM,
    FJ_W_FFN_NORM_B,
    FJ_W_GATE,
    FJ_W_UP,
    FJ_W_GATE_UP,
    FJ_W_DOWN,
    FJ_W_GATE_B,
    FJ_W_UP_B,
    FJ_W_DOWN_B,
    FJ_W_ROUTER,
    FJ_W_ROUTER_B,
    FJ_W_X_GATE_UP, /* of all experts, gate and up of each one */
    FJ_W_X_GATE_UP_B,
    FJ_W_X_DOWN,
    FJ_W_X_DOWN_B,
    FJ_W_FFN_POST, /* norm of what the feed-forward network gives */
    FJ_W_OUT_NORM,
    FJ_W_OUT_NORM_B,
    FJ_W_HEAD,
    FJ_W_ROLES
} fj_role;

enum {
    FJ_IS_LINEAR = 1,   /* multiplied with rows: kept in panels; adapters may target it */
    FJ_IS_PAIRS = 2,    /* rows of each head are interleaved in GGUF: (0, hd/2, 1, hd/2+1, ...) */
    FJ_IS_PLUS_ONE = 4, /* safetensors have w - 1 (Gemma's norms); here and in GGUF it is w */
    FJ_IS_TURNED = 8,   /* safetensors have [in, out] */
    FJ_IS_EXPERTS = 16, /* one matrix for each expert, one after the other */
    FJ_IS_PARAM = 64, /* a parameter of a module that is no linear layer in transformers: routers */
    FJ_IS_ZIPPED =
        32, /* of two tensors in GGUF the first are the even rows, the second the odd ones */
};

/* One weight, or one per layer when the names have %d.  Names with %e: one tensor for each expert. */
typedef struct fj_weight_row {
    const char *gguf, *hf; /* "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight" */
    fj_size rows, cols;    /* rows FJ_ONE: a vector.  Experts: of one of them */
    fj_when when;
    int is;
    const char *gguf2,
        *hf2;           /* where a file keeps the second half of the rows as a tensor of its own */
    const char *module; /* how PEFT calls it, where that is not hf */
} fj_weight_row;

struct fj_fwd;

typedef enum fj_act { FJ_ACT_SILU, FJ_ACT_GELU, FJ_ACT_OAI } fj_act;

typedef struct fj_arch {
    const char *name;     /* "qwen3moe": general.architecture of GGUF */
    const char *hf_class; /* "LlamaForCausalLM" */
    const char *hf_type;  /* model_type */
    const char *families; /* which released models these are, for lists */
    const fj_hp_row *hp;
    int n_hp;
    const fj_weight_row *weights; /* [FJ_W_ROLES]; hf NULL: not part of it */
    /* config.json keys without a meaning for the mathematics, beyond those common to all; and keys
     * that must have one value, as "key=value" in JSON.  NULL at the end, or NULL. */
    const char *const *ignored, *const *fixed;
    const char *act_key; /* "hidden_act" */
    const char *acts;    /* its values with this mathematics, "silu|swish"; the first is written */
    fj_act act;
    /* Derived values and limits, after the hyper-parameters are read and before rotary scalings are.
     * Sets h->layer where it follows from other values. */
    bool (*finish)(fj_hparams *hp, fj_err *e);
    /* Emits the layers: from fwd's ids to the hidden states after the last norm [n, width]. */
    fj_tensor *(*build)(struct fj_fwd *f);
    /* Several have one name in GGUF: a file with this key (a number over 0) is this one. */
    const char *gguf_sign;
    const char *hf_prefix; /* "transformer.": tensors may come without it; or NULL */
} fj_arch;

#define FJ_MODEL(name) extern const fj_arch fj_arch_##name;
#include "models/models.def"
#undef FJ_MODEL

extern const fj_arch *const fj_archs[]; /* NULL at the end */

/* "QK-norm of each head, sliding window, SwiGLU": added to s. */
void fj_arch_features(const fj_arch *a, fj_str *s);
int64_t fj_size_of(const fj_hparams *hp, fj_size s);
/* layer -1: not per layer */
bool fj_weight_there(const fj_hparams *hp, const fj_weight_row *w, int layer);
bool fj_row_per_layer(const fj_weight_row *w);
/* inv_freq [dims / 2] for a sequence of `len` tokens, and the factor on cosine and sine. */
void fj_rope_freqs(const fj_hparams *hp, const fj_rope_hp *r, int64_t len, float *inv_freq,
                   double *mscale);
/* Do the frequencies depend on the sequence's length? */
bool fj_rope_by_length(const fj_rope_hp *r);
/* Of which kind are the positions of a sequence of len tokens?  Keys of one kind do not fit queries of
 * another: longrope has 0 up to its original context and 1 beyond, all others 0. */
int fj_rope_turn(const fj_hparams *hp, int64_t len);
/* What finish() of most does: kv_heads and head_dim when they are not said, and limits of them. */
bool fj_finish_heads(fj_hparams *hp, fj_err *e);
/* h->layer of every layer l with (l + 1) % every == 0 (others: with != 0) gets the bit. */
void fj_layers_every(fj_hparams *hp, int64_t every, bool others, uint8_t bit);

#endif
