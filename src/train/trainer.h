/* trainer.h - micro-steps and optimizer steps over one model; knows nothing of files, recipes or data.
 *
 * What is trained is an adapter (lora not NULL) or every weight of a model opened trainable.  Sums of
 * gradients, both moments of AdamW and one plan for the largest micro-batch are all its memory; it is
 * known before anything is allocated (fj_trainer_bytes).  One thread at a time. */
#ifndef FJ_TRAIN_TRAINER_H
#define FJ_TRAIN_TRAINER_H

#include "formats/safetensors.h"
#include "models/model.h"

/* Largest micro-batch: every graph of the run fits into the plan of this one. */
typedef struct fj_shape {
    int64_t rows, seqs, learn; /* tokens that are rows, samples, supervised tokens */
} fj_shape;

typedef struct fj_trainer_opts {
    fj_lora *lora; /* NULL: every weight */
    fj_shape max;
    fj_shape eval_max; /* largest batch of fj_trainer_eval; rows 0: it is not used */
    int recompute;     /* layers that are computed again in backward, 0 .. layers */
    double beta1, beta2, eps, weight_decay; /* decay: not on norms and biases, as transformers */
    double lr_ratio_b;                      /* of an adapter: B learns at lr times this; 0: 1 */
    double max_grad_norm;                   /* 0: no clipping */
    uint64_t seed;                          /* of dropout */
} fj_trainer_opts;

typedef struct fj_trainer_bytes {
    int64_t weights, adapter, gradients, optimizer, activations; /* activations: the plan */
    int64_t trained;                                             /* parameters, not bytes */
    int64_t total;
} fj_trainer_bytes;

typedef struct fj_trainer fj_trainer;

/* Exact bytes that training will hold on the device; allocates none of them. */
bool fj_trainer_plan(fj_model *m, const fj_trainer_opts *o, fj_trainer_bytes *b, fj_err *e);
/* The fewest recomputed layers whose total is at most limit (0: none recomputed); *recompute is set.
 * FJ_ENOMEM with the smallest possible total when even all layers do not help. */
bool fj_trainer_fit(fj_model *m, const fj_trainer_opts *o, int64_t limit, int *recompute,
                    fj_trainer_bytes *b, fj_err *e);

fj_trainer *fj_trainer_open(fj_model *m, const fj_trainer_opts *o, fj_err *e);
void fj_trainer_close(fj_trainer *t); /* NULL is fine */

/* Forward and backward of one micro-batch; gradients are added up.  micro counts micro-steps of the
 * run: dropout depends on it.  *loss is the sum of weight * nll of the batch. */
bool fj_trainer_micro(fj_trainer *t, const fj_batch *b, int64_t micro, double *loss, fj_err *e);
/* Norm of the gradients so far; it need not be finite. */
bool fj_trainer_norm(fj_trainer *t, double *norm, fj_err *e);
/* One AdamW step with the gradients so far, whose norm is given; then they are zero again.  step counts
 * from 1. */
bool fj_trainer_step(fj_trainer *t, int64_t step, double lr, double norm, fj_err *e);
/* The gradients so far are zero again, and nothing else has changed. */
bool fj_trainer_drop(fj_trainer *t, fj_err *e);
/* Loss without gradients: nll [b->n_out] of each target, in order. */
bool fj_trainer_eval(fj_trainer *t, const fj_batch *b, float *nll, fj_err *e);

/* Parameters, moments and, when `grads`, the sums of gradients, as tensors "p.N", "m.N", "v.N", "g.N". */
void fj_trainer_add_state(const fj_trainer *t, fj_st_writer *w, bool grads);
bool fj_trainer_write_state(const fj_trainer *t, fj_st_writer *w, fj_err *e);
bool fj_trainer_read_state(fj_trainer *t, const fj_st *st, bool grads, fj_err *e);

/* lr(step) / peak for step 1 .. total, after `warmup` linear steps from 0 (transformers'
 * get_{constant,linear,cosine}_schedule_with_warmup; their step k uses the value of k - 1). */
typedef enum fj_schedule { FJ_LR_LINEAR, FJ_LR_CONSTANT, FJ_LR_COSINE } fj_schedule;
double fj_schedule_at(fj_schedule s, int64_t step, int64_t warmup, int64_t total);

#endif
