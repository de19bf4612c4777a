/* peft.h - LoRA adapters as files: PEFT folders (adapter_config.json, adapter_model.safetensors)
 * and GGUF adapters (llama.cpp), both as one list of pairs of matrices.
 *
 *     y = W x + scale * B (A x)      A [r, in], B [out, r]; scale = alpha / r
 *                                    rsLoRA: scale = alpha / sqrt(r)
 *
 * Module names stay those of the file: HF module paths ("model.layers.0.self_attn.q_proj") or GGUF
 * tensor names ("blk.0.attn_q.weight"); models/ maps between them.  Mind that Llama in GGUF has
 * the rows of attn_q and attn_k (hence those of B) in another order than HF.  What changes the
 * mathematics and is not computed here (DoRA, biases, saved modules, ...) is refused by the name
 * of its key. */
#ifndef FJ_FORMATS_PEFT_H
#define FJ_FORMATS_PEFT_H

#include "base/dtype.h"
#include "base/mem.h"

typedef struct fj_peft_pattern { /* rank_pattern, alpha_pattern: as fj_peft_ends takes it */
    const char *module;
    double value;
} fj_peft_pattern;

/* Names of modules as PEFT compares them (tuners_utils.py, check_target_module_exists; utils/other.py,
 * get_pattern_key).  A name with any of \ ^ $ * + ? ( ) [ ] { } | in it is an expression, of Perl's where Python's
 * differ.  fj_peft_name_ok: false with what is wrong with the expression; `what` is for the message.
 * The others: false, too, when the expression cannot be matched within limits. */
bool fj_peft_name_ok(const char *name, const char *what, fj_err *e);
/* The whole path, or what follows a dot of it; an expression has to match the whole path. */
bool fj_peft_names(const char *name, const char *module);
/* The same, but an expression may begin behind any dot. */
bool fj_peft_ends(const char *name, const char *module);

typedef struct fj_peft_config {
    const char *base_model; /* base_model_name_or_path; NULL: not said */
    const char *task_type;  /* "CAUSAL_LM"; NULL: not said */
    int64_t r;
    double alpha, dropout;
    bool rslora;
    const char *const *targets; /* target_modules as a list; NULL when it is a string */
    size_t n_targets;
    const char *target_pattern; /* target_modules as a string: an expression or "all-linear" */
    const char *const *params;  /* target_parameters: "mlp.experts.gate_up_proj" */
    size_t n_params;
    const fj_peft_pattern *rank_pattern, *alpha_pattern;
    size_t n_rank_pattern, n_alpha_pattern;
} fj_peft_config;

/* adapter_config.json at path.  Strings live in mem. */
bool fj_peft_config_read(const char *path, fj_peft_config *c, fj_arena *mem, fj_err *e);
/* Keys as PEFT 0.17 and later read them; inference_mode true. */
bool fj_peft_config_write(const char *path, const fj_peft_config *c, fj_err *e);
/* Rank and scale that the configuration gives to a module path. */
int64_t fj_peft_rank(const fj_peft_config *c, const char *module);
double fj_peft_scale(const fj_peft_config *c, const char *module);

typedef struct fj_peft_mat {
    int64_t rows, cols; /* row-major */
    fj_dtype dtype;
    const void *data;
} fj_peft_mat;

/* Experts are one parameter of a module, and have a pair of matrices that are those of all E experts:
 * A [E * r, in] one after the other, B [out, r * E] with the columns of rank k side by side: column
 * k * E + e is expert e's.  Here their module is the parameter ("...mlp.experts.gate_up_proj"); in files
 * the wrappers of two parameters are nested, "...mlp.experts.base_layer" and "...mlp.experts". */
typedef struct fj_peft_pair {
    const char *module;
    fj_peft_mat a, b; /* [r, in], [out, r]; of experts see above */
    int64_t r;
    double scale;
    /* GGUF: of this many experts (over 1), each with matrices of its own, one after the other: a [mats * r,
     * in], b [mats * out, r] */
    int64_t mats;
} fj_peft_pair;

typedef struct fj_peft_file {
    const char *name; /* path, for messages */
    bool gguf;
    const char *arch;      /* GGUF: general.architecture; PEFT: NULL */
    fj_peft_config config; /* PEFT; GGUF: zero but alpha */
    size_t n;
    const fj_peft_pair *pairs; /* sorted by module */
    struct fj_peft_own *own;
} fj_peft_file;

/* A PEFT folder or a GGUF file.  Data point into the mapped files until close; shapes of each pair
 * are checked against each other and against the configuration. */
fj_peft_file *fj_peft_open(const char *path, fj_err *e);
void fj_peft_close(fj_peft_file *f); /* NULL is fine */

/* Writing: matrices of any one format of safetensors or GGUF.  The folder is there; each file is
 * written atomically, the configuration last.  A pair's r and scale must be what c gives its
 * module. */
bool fj_peft_save(const char *dir, const fj_peft_config *c, const fj_peft_pair *pairs, size_t n,
                  fj_err *e);
/* One alpha stands for all in GGUF: where a pair's scale * r differs from that of the first, the
 * factor goes into its B, which must be f32 then.  base_model may be NULL. */
bool fj_peft_save_gguf(const char *path, const char *arch, const char *base_model,
                       const fj_peft_pair *pairs, size_t n, fj_err *e);

/* "base_model.model.X.lora_A.weight" and X: *module points into key and has *n bytes, *ab is 'A'
 * or 'B'. false: not such a key. */
bool fj_peft_key_parse(const char *key, const char **module, size_t *n, char *ab);
char *fj_peft_key(const char *module, char ab); /* caller frees */

#endif
