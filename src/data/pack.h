/* pack.h - which samples meet in which micro-batch of which step, for a whole run, without state.
 *
 * An epoch is the samples in an order drawn from (seed, epoch).  A micro-batch is a set of whole samples, one
 * ragged batch; its samples never see each other (rows carry sequence and position).  With packing,
 * windows of the order are filled best-fit-decreasing into micro-batches of at most
 * batch * max_length tokens; without, a micro-batch is `batch` samples in order.  A step is `accum`
 * micro-batches (the last of an epoch may have fewer), and its loss is divided by the targets of the
 * whole step, so that every division of the same samples gives the same loss.
 *
 * Everything follows from (options, lengths): fj_plan_step(k) gives the same answer in a new process,
 * so the cursor of a run is its step number, and what must be saved is one integer.
 * One thread at a time per plan; fj_plan_step keeps the epoch it last worked out. */
#ifndef FJ_DATA_PACK_H
#define FJ_DATA_PACK_H

#include "base/mem.h"

typedef struct fj_plan_opts {
    bool packing;
    int batch;         /* per_device_train_batch_size, at least 1 */
    int max_length;    /* no sample is longer */
    int accum;         /* gradient_accumulation_steps, at least 1 */
    double epochs;     /* over 0; used when max_steps < 1; a part of an epoch is whole steps */
    int64_t max_steps; /* as many steps, over as many epochs as that takes; < 1: by epochs */
    uint64_t seed;
} fj_plan_opts;

typedef struct fj_micro {
    const int64_t *sample; /* the caller's sample ids */
    int n;                 /* sequences */
    int64_t rows;          /* tokens of all of them */
    int64_t learn;         /* targets of all of them */
} fj_micro;

typedef struct fj_plan_at {
    int64_t epoch;         /* from 0 */
    int64_t step_in_epoch; /* from 0 */
    bool last_of_epoch;
    double epochs_done; /* after this step, as "0.25 epochs" */
    const fj_micro *micro;
    int n_micro;
    int64_t rows, learn; /* of the whole step; the loss is divided by learn */
} fj_plan_at;

typedef struct fj_plan fj_plan;
typedef struct fj_plan_totals {
    int64_t steps, micros, epochs; /* epochs begun */
    int64_t rows, learn;           /* tokens of the run */
    /* Largest of any micro-batch of the run: what memory is planned for. */
    int64_t max_rows, max_learn;
    int max_seqs;
} fj_plan_totals;

/* The samples that are used: ids[i] is what fj_micro.sample gives back, len[i] its tokens, learn[i]
 * its targets.  Copied. */
fj_plan *fj_plan_epochs(const int64_t *ids, const int32_t *len, const int32_t *learn, size_t n,
                        const fj_plan_opts *o, fj_err *e);
void fj_plan_free(fj_plan *p);
const fj_plan_totals *fj_plan_sum(const fj_plan *p);

/* Step 0 <= step < totals.steps.  What `at` points to is valid until the next call or free. */
void fj_plan_step(fj_plan *p, int64_t step, fj_plan_at *at);

/* An evaluation's micro-batches: the samples in order, no shuffle, each at most batch * max_length
 * tokens (filled in order).  One step holding all of them. */
fj_plan *fj_plan_eval(const int64_t *ids, const int32_t *len, const int32_t *learn, size_t n,
                      int batch, int max_length, fj_err *e);

#endif
