/* recipe.h - the only input of a run: flat YAML with the key names of transformers, peft and trl.
 *
 * One table (recipe.c) gives parsing, ranges, defaults, help, printing and the documentation.  Relative
 * paths in a recipe are taken from the recipe's folder, those in key=value overrides from the current
 * folder; afterwards all paths are absolute, so a resolved recipe means the same wherever it lies.
 * The struct owns its strings (arena); fj_recipe_free. */
#ifndef FJ_TRAIN_RECIPE_H
#define FJ_TRAIN_RECIPE_H

#include "base/mem.h"
#include "data/pack.h"
#include "data/samples.h"
#include "formats/peft.h"

struct fj_model;

typedef struct fj_strs {
    const char **s;
    int n;
} fj_strs;

typedef struct fj_ints {
    int *v;
    int n;
} fj_ints;

typedef struct fj_patterns { /* rank_pattern, alpha_pattern */
    fj_peft_pattern *p;
    int n;
} fj_patterns;

typedef enum fj_method { FJ_METHOD_LORA, FJ_METHOD_FULL } fj_method;
typedef enum fj_sched { FJ_SCHED_LINEAR, FJ_SCHED_CONSTANT, FJ_SCHED_COSINE } fj_sched;
typedef enum fj_lora_init { FJ_INIT_TRUE, FJ_INIT_GAUSSIAN } fj_lora_init;
typedef enum fj_on_spike { FJ_SPIKE_STOP, FJ_SPIKE_SKIP, FJ_SPIKE_REWIND } fj_on_spike;
typedef enum fj_auto { FJ_AUTO, FJ_ON, FJ_OFF } fj_auto;
typedef enum fj_recipe_export {
    FJ_RECIPE_F32,
    FJ_RECIPE_F16,
    FJ_RECIPE_BF16,
    FJ_RECIPE_Q8_0,
    FJ_RECIPE_Q4_0,
    FJ_RECIPE_MXFP4,
    FJ_RECIPE_Q4_K,
    FJ_RECIPE_Q6_K
} fj_recipe_export;

#define FJ_RECIPE_KEYS_MAX 96

typedef struct fj_recipe {
    fj_arena arena;
    const char *file;             /* where it was read, NULL: nowhere */
    bool set[FJ_RECIPE_KEYS_MAX]; /* by index in the table: said, not defaulted */

    const char *base;
    fj_strs data;
    int data_format; /* fj_data_format */
    fj_strs eval_data;
    double eval_split;
    fj_strs general_data;
    const char *output_dir, *run_name;
    int method; /* fj_method */
    int64_t lora_r;
    double lora_alpha, lora_dropout;
    fj_strs target_modules; /* {"all-linear"} or names of modules */
    fj_strs exclude_modules;
    fj_ints layers_to_transform; /* n 0: all */
    fj_patterns rank_pattern, alpha_pattern;
    int init_lora_weights; /* fj_lora_init */
    double loraplus_lr_ratio;
    bool use_rslora;
    const char *init_adapter;
    int64_t max_length;
    int truncation; /* fj_truncation of data/samples.h */
    bool skip_bad_rows, packing;
    const char *chat_template;        /* auto, chatml, raw, a name among the model's, or a file */
    const char *chat_template_kwargs; /* a JSON object, or NULL */
    const char *chat_template_date;   /* YYYY-MM-DD, or NULL */
    const char *system_prompt;
    int64_t batch, accum; /* per_device_train_batch_size, gradient_accumulation_steps */
    double epochs;        /* num_train_epochs */
    int64_t max_steps;    /* -1: by epochs */
    double learning_rate;
    int lr_scheduler_type; /* fj_sched */
    int64_t warmup_steps;
    double warmup_ratio;
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon;
    double max_grad_norm;                              /* 0: no clipping */
    int on_spike;                                      /* fj_on_spike */
    double spike_threshold;                            /* 0: only what is not finite */
    int64_t early_stopping_patience;                   /* 0: never */
    double early_stopping_threshold, target_eval_loss; /* target 0: none */
    bool load_best_model_at_end;
    int64_t eval_steps; /* 0: at the end of each epoch */
    int64_t save_steps; /* 0: after each evaluation */
    int64_t save_total_limit;
    int64_t logging_steps;
    int64_t seed;
    const char *device; /* as fj_dev_opts of forja/model.h: "auto", "cpu", "cuda", "cuda:1" */
    int64_t threads;    /* 0: all of this process */
    bool f32;
    int gradient_checkpointing; /* fj_auto */
    int64_t max_memory;         /* bytes; 0: no limit */
    bool no_eval;
    int64_t eval_max_rows; /* 0: all */
    int64_t eval_max_new_tokens;
    const char *export_gguf;
    int export_type; /* fj_recipe_export */
} fj_recipe;

/* Reads, applies overrides ("key=value", the value in YAML: `data=[a.jsonl, b.jsonl]`), fills in
 * what depends on other keys, refuses contradictions.  On failure nothing needs freeing. */
bool fj_recipe_load(fj_recipe *r, const char *path, const char *const *overrides, int n, fj_err *e);
/* As above from memory; `name` is for messages, relative paths are taken from `folder`. */
bool fj_recipe_parse(fj_recipe *r, const char *text, size_t n_text, const char *name,
                     const char *folder, const char *const *overrides, int n, fj_err *e);
void fj_recipe_free(fj_recipe *r);

/* Was the key said in the recipe or an override, rather than left at its default? */
bool fj_recipe_said(const fj_recipe *r, const char *key);

/* Changes one key of a loaded recipe (the value in YAML), as an override does. */
bool fj_recipe_set(fj_recipe *r, const char *key, const char *value, fj_err *e);

/* Every key, resolved; read again it gives the same values.  Caller frees. */
char *fj_recipe_print(const fj_recipe *r);
/* The table of keys for --help and for the documentation.  Caller frees. */
char *fj_recipe_help(void);
/* The same as the page docs/recipe.md.  Caller frees. */
char *fj_recipe_markdown(void);

/* Name of the first key in which two recipes differ such that a resumed run would not be the same run;
 * NULL: none.  Keys that change no number (threads, logging_steps, max_memory, ...) are not looked at, nor
 * device: a run may go on elsewhere, within rounding. */
const char *fj_recipe_differs(const fj_recipe *a, const fj_recipe *b);

/* Is there something to measure?  FJ_EGATE, with the two ways to give it and no_eval, when not. */
bool fj_recipe_gate(const fj_recipe *r, fj_err *e);

/* What lower layers need of it. */
fj_chat *fj_recipe_chat(const fj_recipe *r, const struct fj_model *m,
                        fj_err *e); /* the caller closes */
fj_samples_opts fj_recipe_samples(const fj_recipe *r, const fj_chat *chat);
fj_plan_opts fj_recipe_plan(const fj_recipe *r);

#endif
