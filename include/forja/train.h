/* train.h - one run from a recipe: measured before, trained, measured after, kept. */
#ifndef FORJA_TRAIN_H
#define FORJA_TRAIN_H

#include <forja/eval.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fj_train_opts {
    const char *recipe;           /* YAML file */
    const char *const *overrides; /* "key=value" [n_overrides] */
    int n_overrides;
    bool resume;     /* go on with the run in output_dir */
    bool dry_run;    /* plan and say, train nothing, write nothing */
    bool no_eval;    /* train without a measurement; recorded */
    const char *isa; /* as in fj_dev_opts */
} fj_train_opts;

typedef struct fj_train_result {
    char folder[1024], device[128];
    /* the plan */
    int64_t rows, samples, tokens, learn_tokens, steps, micro_steps; /* tokens: of the whole run */
    int64_t eval_samples, too_long, trainable, params;
    int64_t planned_bytes, weights_bytes, optimizer_bytes, activation_bytes;
    int64_t allowed_bytes; /* max_memory, or what the device has without a reserve */
    int recomputed_layers, layers;
    /* what happened; zero after a dry run */
    int64_t steps_done, peak_bytes; /* peak: measured, of the training itself */
    double train_loss, tokens_per_s, seconds;
    int64_t best_step;
    double best_loss;
    bool measured;         /* base and tuned are filled */
    bool measured_general; /* forgetting is filled */
    fj_eval_result base, tuned;
    fj_forgetting forgetting;
} fj_train_result;

/* FJ_ESTOP: stopped by log->should_stop; everything is saved and --resume goes on.  FJ_EGATE: nothing to
 * measure with.  r is filled as far as the run came. */
FJ_API bool fj_train(const fj_train_opts *o, const fj_log *log, fj_train_result *r, fj_err *e);

#ifdef __cplusplus
}
#endif
#endif
