/* job.h - the parts of one run; train.c puts them in order. */
#ifndef FJ_TRAIN_JOB_H
#define FJ_TRAIN_JOB_H

#include "eval/run.h"
#include "train/registry.h"
#include "train/run.h"
#include "train/trainer.h"

#include <forja/train.h>

typedef struct fj_answers { /* pairs of answers for the report */
    fj_str *prompt, *base, *tuned;
    int n, n_base, n_tuned;
} fj_answers;

enum { FJ_NORMS = 100 };

typedef struct fj_watch {   /* what says that a run goes wrong, or has what it was for */
    double norms[FJ_NORMS]; /* of the last good steps, in a ring */
    int n_norms, at;
    int64_t skip_to;  /* steps before it are passed over */
    int worse;        /* evaluations since the best */
    const char *done; /* why the run ends before its last step, NULL: it goes on */
} fj_watch;

typedef struct fj_job {
    const fj_train_opts *o;
    const fj_log *log;
    fj_train_result *r;
    fj_recipe recipe;
    fj_run *run;
    fj_registry *registry;
    int64_t id; /* in the registry */
    fj_dev *dev;
    fj_model *model;
    fj_lora *lora; /* NULL: full */
    fj_chat *chat;
    fj_dataset data, eval_data, general_data;
    fj_samples samples, eval_samples, general_samples; /* eval: of eval_data */
    fj_split split;                                    /* of samples, when eval_split is used */
    bool has_eval, has_general;
    fj_plan *plan;
    fj_trainer_opts topts;
    fj_trainer *trainer;
    /* where the run stands */
    int64_t step, micro; /* steps done; micro-steps done of the next */
    int64_t micros_done; /* of the run: seeds dropout */
    double partial_loss, last_loss, best_loss;
    double window_loss; /* sum of the losses of the steps since the last line of metrics.jsonl */
    int64_t window_steps;
    bool eval_due; /* stopped in the evaluation that belongs to the last step: it comes first */
    int64_t best_step, tokens_done;
    fj_watch watch;
    double seconds_before;  /* of earlier processes of this run */
    json_t *base_result;    /* of the base, kept through a resume */
    json_t *devices_before; /* a resumed run: other kinds of device that it was on; else NULL */
    fj_answers answers;
} fj_job;

bool fj_job_data(fj_job *j, fj_err *e); /* data sets, samples, split */
bool fj_job_plan(fj_job *j, fj_err *e); /* steps and memory */
bool fj_job_loop(fj_job *j, fj_err *e);

/* job_watch.c */
json_t *fj_job_number(double x); /* null where JSON has no such number */
/* Is the step that was just computed a spike?  why [n]: what is wrong with it. */
bool fj_watch_spiked(const fj_job *j, double loss, double norm, char *why, size_t n);
void fj_watch_step(fj_job *j, double norm); /* a good one */
/* Keeps rows and tokens of step `at` as spikes/step-N.json in the run folder, and says so. */
bool fj_watch_keep(fj_job *j, const fj_plan_at *at, double loss, double norm, const char *why,
                   fj_err *e);
/* An evaluation: keeps the best step, and sets done. */
void fj_watch_eval(fj_job *j, double loss);
json_t *fj_watch_json(const fj_watch *w);
void fj_watch_read(fj_watch *w, const json_t *state);
bool fj_job_save(fj_job *j, fj_err *e);    /* a checkpoint of where it stands */
bool fj_job_prune(fj_job *j, fj_err *e);   /* old checkpoints, and what killed processes left */
bool fj_job_restore(fj_job *j, fj_err *e); /* the newest whole one; none: from the beginning */
bool fj_job_eval_loss(fj_job *j, bool base, fj_eval_result *r, fj_err *e);
bool fj_job_measure(fj_job *j, bool base, fj_eval_result *r, fj_err *e); /* loss and answers */
bool fj_job_finish(fj_job *j, fj_err *e); /* what was trained, measured and written */

#endif
