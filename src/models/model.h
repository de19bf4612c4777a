/* model.h - the inside of an fj_model, and forward passes over it. */
#ifndef FJ_MODELS_MODEL_H
#define FJ_MODELS_MODEL_H

#include "device/device.h"
#include "formats/peft.h"
#include "models/arch.h"
#include "ops/ops.h"
#include "text/chat.h"

#include <forja/model.h>

typedef struct fj_weight {
    const fj_weight_row *row;
    int layer;          /* -1: not per layer */
    int64_t mats;       /* matrices one after the other: experts; else 1 */
    int64_t rows, cols; /* of all matrices together */
    fj_dtype dtype;
    bool panels;
    const fj_buf *buf;
    size_t off; /* in buf */
} fj_weight;

struct fj_model {
    fj_dev *dev;
    fj_arena arena;
    const char *path, *chat_template, *formats;
    fj_templates templates; /* the one called default is chat_template */
    int64_t params;
    const fj_arch *arch;
    fj_hparams hp;
    fj_tokenizer *tok;
    fj_weight *w; /* [n_w]: those that are there */
    int n_w;
    int *index;     /* [row id * (layers + 1) + layer + 1] -> w, -1: not there */
    fj_buf *buf;    /* weights in memory of their own */
    fj_buf *merged; /* those of fj_model_merge, or NULL */
    bool mapped, listed;
    struct fj_source
        *source; /* mapped, listed: keeps the files open, in which weights are; else NULL */
    bool trainable;
    int32_t *ends; /* [n_ends] eos_token_id of generation_config.json: they end an answer, too */
    int n_ends;
    char *tok_json, *tok_config, *gen_config; /* files of an HF folder, kept for saving; or NULL */
    size_t tok_json_n;
};

/* A model for writing it elsewhere: weights are listed and checked and stay in the files; they have no memory
 * (buf NULL), so there is no forward pass. */
fj_model *fj_model_listed(fj_dev *d, const char *path, fj_err *e);

/* As fj_model_hash, of the sizes, times of change and numbers (inodes) of the same files: equal as long as nobody
 * wrote to them, and found without reading them. */
bool fj_model_stamp(const fj_model *m, char hex[65], fj_err *e);

/* Does the token end an answer: by the vocabulary, or by generation_config.json? */
bool fj_model_ends(const fj_model *m, int32_t id);

/* Weight `id` of layer (or -1); NULL when the model does not have it. */
const fj_weight *fj_model_weight(const fj_model *m, int id, int layer);
/* Values of a weight as f32 rows, whatever its format: out [rows, cols]. */
bool fj_weight_get(const fj_model *m, const fj_weight *w, float *out, fj_err *e);
/* How PEFT calls it, with ".weight" where it has that: "model.layers.3.self_attn.q_proj.weight". */
char *fj_weight_name(const fj_weight *w, fj_arena *a);
/* A parameter of a module that is no linear layer to PEFT: experts and router (target_parameters). */
bool fj_weight_is_param(const fj_weight *w);
/* Values of one matrix that are neither rows nor columns: biases and norms. */
bool fj_weight_is_vector(const fj_weight *w);
/* Where row r is in GGUF: rows of a head may be interleaved there. */
int64_t fj_gguf_row(const fj_model *m, const fj_weight *w, int64_t r);

/* The formats of matrices without a file: `of` each, or with of NULL `all`. */
typedef struct fj_formats {
    fj_dtype all;
    fj_dtype (*of)(const void *ctx, const fj_model *m, const fj_weight *w);
    const void *ctx;
} fj_formats;

/* A model without files or tokenizer, for measurements: of these hyper-parameters, whose derived values may
 * be 0.  Matrices are uniform with standard deviation 0.02 in their `formats` (F32 when trainable),
 * norms 1, biases 0; the values depend on the seed alone, and repeat in a large model.  name stands for
 * the path. */
fj_model *fj_model_random(fj_dev *d, const fj_arch *arch, const fj_hparams *hp, const char *name,
                          const fj_formats *formats, bool trainable, uint64_t seed, fj_err *e);

/* ---- adapters ----------------------------------------------------------------------------------- */
typedef struct fj_lora_pair {
    int w;                 /* index into model->w */
    int64_t mats, in, out; /* of the weight: out counts the rows of all its matrices */
    int64_t r;
    double scale; /* alpha / r, or alpha / sqrt(r) with rslora */
    size_t a, b;  /* offsets in buf: A [mats * r, in], B [out, r], F32 rows */
} fj_lora_pair;

struct fj_lora {
    fj_model *m;
    int r;
    double alpha, dropout; /* r and alpha: of the pairs that no pattern names */
    bool rslora;
    fj_lora_pair *pairs;
    int n_pairs;
    fj_buf *buf; /* all A and B, in the order of pairs: A0 B0 A1 B1 ... */
    size_t bytes;
    fj_buf *ready;  /* the same in BF16, at half the offsets: see fj_lora_ready; or NULL */
    char *base;     /* base_model_name_or_path */
    char **targets; /* "q_proj", ... */
    char **params;  /* "mlp.experts.gate_up_proj", ...: see fj_weight_is_param */
    int n_targets, n_params;
};

typedef struct fj_lora_opts {
    int r;
    double alpha, dropout;
    bool rslora;
    const char *const *targets; /* as fj_peft_names takes them: "q_proj"; or "all-linear" */
    int n_targets;
    const char *const *exclude; /* not those */
    int n_exclude;
    const int *layers; /* in these layers alone; n_layers 0: in all */
    int n_layers;
    const fj_peft_pattern *rank_pattern, *alpha_pattern; /* other ranks and alphas; may be NULL */
    size_t n_rank_pattern, n_alpha_pattern;
    bool gaussian; /* A: normal with deviation 1 / r; else kaiming uniform (a = sqrt 5); B: zero */
    uint64_t seed;
} fj_lora_opts;
/* Names that mean nothing in this model are errors. */
fj_lora *fj_lora_new(fj_model *m, const fj_lora_opts *o, fj_err *e);
/* Keeps a copy of A and B as a GPU multiplies them: steps read half of the bytes, and have the same bits.
 * Whoever changes values then calls fj_lora_changes first.  Nothing to do on devices that compute in F32. */
bool fj_lora_ready(fj_lora *l, fj_err *e);
void fj_lora_changes(fj_lora *l);
const fj_lora_pair *fj_lora_find(const fj_lora *l, int w);
/* Last component of the PEFT module path: "q_proj"; of a parameter: "experts.gate_up_proj". */
const char *fj_weight_module(const fj_weight *w, fj_arena *a);

/* ---- the ragged batch --------------------------------------------------------------------------- */
/* Rows are tokens.  Rows of a sequence are neighbours with consecutive positions. */
typedef struct fj_batch {
    int64_t n, n_seqs, n_blocks, n_out;
    int32_t *ids, *pos, *slots; /* [n]; slots: rows of the cache, when there is one */
    int32_t *seqs;              /* [n_seqs][4]: first row, rows, first position, first block */
    int32_t *lens;    /* [n_seqs]: length that rotary frequencies are for, where they depend */
    int32_t *blocks;  /* [n_blocks] */
    int32_t *out;     /* [n_out]: rows whose logits or loss are wanted */
    int32_t *targets; /* [n_out] */
    float *weights;   /* [n_out] */
    size_t cap_ids, cap_pos, cap_slots, cap_seqs, cap_lens, cap_blocks, cap_out, cap_targets,
        cap_weights;
} fj_batch;
void fj_batch_clear(fj_batch *b);
void fj_batch_free(fj_batch *b);
void fj_batch_add_row(fj_batch *b, int32_t id, int32_t pos, int32_t slot);
/* Its blocks follow.  len: of the whole sequence as far as it is known; 0: it ends here. */
void fj_batch_add_seq(fj_batch *b, int64_t row0, int64_t rows, int64_t pos0, int64_t len);
void fj_batch_add_block(fj_batch *b, int32_t slot);
void fj_batch_add_out(fj_batch *b, int32_t row, int32_t target, float weight);
/* A sequence from position 0 whose keys and values are its own rows of the batch (training,
 * evaluation): ids [n]; mask[i] (NULL: all) says that token i is a target; weight of each target. */
void fj_batch_add_sample(fj_batch *b, const int32_t *ids, const uint8_t *mask, int64_t n,
                         float weight);
/* The same without targets: logits are wanted for the last `want` rows. */
void fj_batch_add_prompt(fj_batch *b, const int32_t *ids, int64_t n, int64_t want);

/* Keys and values of a cache: per layer K then V, [slots, kv_heads * head_dim], as activations of the device
 * are, or as of fj_kv_put_blocks; slots is a multiple of FJ_KV_BLOCK. */
typedef struct fj_kv {
    fj_buf *buf;
    int64_t slots;
} fj_kv;
size_t fj_kv_bytes(const fj_model *m, int64_t slots);

typedef enum fj_want_out { FJ_OUT_HIDDEN, FJ_OUT_LOGITS, FJ_OUT_TOKENS, FJ_OUT_LOSS } fj_want_out;

typedef struct fj_rows_lora {
    const fj_lora *lora;
    int64_t row0, rows;
} fj_rows_lora;

typedef struct fj_fwd_opts {
    int64_t n, n_seqs, n_blocks, n_out; /* shape of the batch */
    fj_want_out out;
    int64_t seen_words; /* FJ_OUT_TOKENS: columns of `seen` of fj_choose */
    const fj_kv *cache; /* NULL: keys and values are those of the batch */
    const fj_rows_lora *loras;
    int n_loras;
    bool train_lora; /* gradients for the adapter loras[0], which covers all rows */
    bool train_full; /* gradients for every weight (model opened trainable) */
    fj_buf *grads;   /* training: sums of gradients are added here, in the order of params */
    int recompute;   /* training: this many layers, from the first, are recomputed */
    uint64_t dropout_seed;
    /* Not in training: squares of what every matrix multiplies are added here, see fj_input_sums.  NULL:
     * nothing is looked at, and nothing costs anything. */
    fj_buf *inputs;
} fj_fwd_opts;

typedef struct fj_param {
    const char *name;
    fj_buf *buf;
    size_t off;
    int64_t rows, cols;
} fj_param;

/* One table of rotary positions and what it is made from; table NULL: there is none. */
typedef struct fj_rope_in {
    const fj_rope_hp *hp;
    fj_tensor *which, *inv_freq, *table;
    int32_t *rows; /* what fj_fwd_fill uploads to which, */
    float *freqs;  /* and to inv_freq: that of a batch costs no allocation */
} fj_rope_in;

/* A forward (and backward) pass for one shape. */
typedef struct fj_fwd {
    const fj_model *m;
    fj_fwd_opts o;
    fj_graph *g;
    fj_tensor *ids, *pos, *seqs, *blocks, *slots, *out_rows, *targets, *weights;
    fj_rope_in rope, rope_local;
    fj_tensor **wt; /* [n_w] tensors of weights, made on first use */
    fj_tensor *hidden, *logits, *loss, *nll;
    bool few;                       /* hidden has the wanted rows alone */
    fj_tensor *how, *seen, *tokens; /* of FJ_OUT_TOKENS */
    fj_tensor **ab;                 /* trained adapter: A0 B0 A1 B1 ... tensors */
    fj_tensor *noted;               /* with o.inputs: rows whose squares were added last, */
    int noted_at;                   /* and in the place of which weight */
    int *sum_at;        /* [n_w] with o.inputs: the weight in whose place its sums are, -1: none; */
    fj_tensor **starts; /* [n_w]: slots of its experts (fj_moe_plan), kept; NULL: no experts */
} fj_fwd;

/* Where the sums of squares of o.inputs are: off[w] for weight w, F32 [mats, cols]; the bytes of all.  Each run
 * adds the squares of the rows, of experts those of their slots, of the head those of the rows that are
 * wanted, with FJ_OUT_HIDDEN of all.  Weights that multiply the same rows
 * share a place (sum_at of the graph).  SIZE_MAX in off: the weight multiplies no rows. */
size_t fj_input_sums(const fj_model *m, size_t *off);
/* Builds the graph.  NULL: e.  Not planned yet: fj_dev_prepare does that, or fj_graph_plan for a dry run. */
fj_fwd *fj_fwd_new(const fj_model *m, const fj_fwd_opts *o, fj_err *e);
void fj_fwd_free(fj_fwd *f);
/* Uploads a batch of exactly the shape of o. */
bool fj_fwd_fill(fj_fwd *f, const fj_batch *b, fj_err *e);

/* Parameters, gradients and moments lie one behind the other in that order, each from a multiple of 64 bytes
 * on, as kernels want them: the distance from one to the next. */
static inline size_t fj_param_bytes(int64_t rows, int64_t cols) {
    return ((size_t)(rows * cols) * sizeof(float) + 63) / 64 * 64;
}
/* The trained tensors in a fixed order; the caller frees the array.  l: the adapter, or NULL for all
 * weights of m. */
fj_param *fj_params_of(const fj_model *m, const fj_lora *l, int *n);

/* ---- for build() -------------------------------------------------------------------------------- */
fj_tensor *fj_w(fj_fwd *f, int id, int layer); /* NULL when the model does not have it */
/* x W^T (+ bias) with the adapters of the rows; bias_id -1: none. */
fj_tensor *fj_proj(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer);
/* The same of several weights (4 at most), to y[n]: adapters begin with all of them at once. */
typedef struct fj_proj_of {
    int id, bias; /* bias -1: none */
} fj_proj_of;
void fj_proj_many(fj_fwd *f, fj_tensor *x, int layer, int n, const fj_proj_of *of, fj_tensor *c,
                  fj_tensor **y);
/* c + the same, in one product where that can be; c NULL: nothing is added. */
fj_tensor *fj_proj_onto(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer, fj_tensor *c);
/* The same for slots of experts (ops.h). */
fj_tensor *fj_proj_experts(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer,
                           fj_tensor *plan);
/* Attention of layer over its cache, or over k and v of the batch.  sinks may be NULL. */
fj_tensor *fj_attend(fj_fwd *f, int layer, fj_tensor *q, fj_tensor *k, fj_tensor *v,
                     fj_tensor *sinks, const fj_attn_params *p);

/* ---- parts of a layer (layer.c); x [n, width] --------------------------------------------------- */
fj_tensor *fj_embedding(fj_fwd *f); /* rows of the table times embed_scale */
fj_tensor *fj_norm(fj_fwd *f, fj_tensor *x, fj_role w, int layer); /* RMS norm */
/* Projections, norms of queries and keys, rotation, attention, output projection; added to onto, unless that
 * is NULL, with the model's residual_scale. */
fj_tensor *fj_self_attention(fj_fwd *f, fj_tensor *x, int layer, fj_tensor *onto);
/* The gated or plain network, or the experts of the layer; onto as above. */
fj_tensor *fj_feed_forward(fj_fwd *f, fj_tensor *x, int layer, fj_tensor *onto);
/* Behind the attention of the last layer, where logits are made: the wanted rows of x, for what follows is of
 * each row alone; else x.  A build() need not call it. */
fj_tensor *fj_only_wanted(fj_fwd *f, fj_tensor *x);
/* Whole models: x + attention(norm(x)), then x + network(norm(x)); and the same with norms behind both. */
fj_tensor *fj_build_pre_norm(fj_fwd *f);
fj_tensor *fj_build_pre_post_norm(fj_fwd *f);

#endif
