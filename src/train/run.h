/* run.h - the folder of one run: what it was asked, what it did, what came out.
 *
 *   recipe.yaml     as resolved            manifest.json  hashes, version, machine, seed
 *   metrics.jsonl   one object a line      eval/           evaluations, JSON
 *   checkpoints/    by formats/ckpt        adapter/       PEFT layout
 *   report.html     one page, nothing from outside
 *
 * A run holds an flock on ".lock" in its folder as long as it is open: the kernel drops it when the
 * process ends, however it ends, so a lock is never stale.  All files but metrics.jsonl are written
 * under a temporary name and renamed.  One thread at a time. */
#ifndef FJ_TRAIN_RUN_H
#define FJ_TRAIN_RUN_H

#include "train/recipe.h"

#include <jansson.h>

typedef struct fj_run fj_run;

/* Makes (or, with resume, opens again) the folder r->output_dir; when that is NULL the folder is
 * runs/<run_name>-<utc> in the current folder and r->output_dir is set.  A folder with files in it is
 * refused without resume; resuming with a recipe that would give other numbers is refused, naming the
 * key.  Writes recipe.yaml.  A half-made folder is removed again on failure when it was made here. */
fj_run *fj_run_open(fj_recipe *r, bool resume, fj_err *e);
void fj_run_close(fj_run *run); /* NULL is fine; lets the lock go */

const char *fj_run_folder(const fj_run *run);
const char *fj_run_name(const fj_run *run);
/* Path of something in the folder, e.g. "adapter".  Valid until close. */
const char *fj_run_path(fj_run *run, const char *name);

/* True while another process (or another fj_run of this one) has the folder open. */
bool fj_run_busy(const char *folder);

/* manifest.json.  more: an object of the caller's entries (may be NULL); its keys win.  Version, CPU,
 * memory, system, threads, seed and the two hashes are filled in here.  Nothing secret is read. */
bool fj_run_manifest(fj_run *run, const char *base_hash, const char *data_hash, const json_t *more,
                     fj_err *e);

/* One line of metrics.jsonl; o must be an object ("step": integer lets fj_run_rewind find it). */
bool fj_run_metric(fj_run *run, const json_t *o, fj_err *e);
/* Drops lines with "step" over `step`, and a last line cut short by a crash, atomically. */
bool fj_run_rewind(fj_run *run, int64_t step, fj_err *e);
/* All whole lines that are objects, as a JSON list; the caller owns it.  NULL: error. */
json_t *fj_run_metrics(fj_run *run, fj_err *e);

/* eval/<name>.json; name is letters, digits, '-', '_', '.'. */
bool fj_run_eval(fj_run *run, const char *name, const json_t *result, fj_err *e);

/* ---- report.html ------------------------------------------------------------------------------ */
typedef struct fj_report_row {
    const char *what;   /* "held-out loss" */
    double base, tuned; /* NAN: not measured */
    int better;         /* -1: lower is better, 1: higher is, 0: neither */
} fj_report_row;

typedef struct fj_report_text { /* an example: the same prompt before and after */
    const char *prompt, *base, *tuned;
} fj_report_text;

typedef struct fj_report {
    const fj_report_row *task, *general; /* two tables base | tuned */
    int n_task, n_general;
    const fj_report_text *examples;
    int n_examples;
    const char *note; /* e.g. "evaluation was switched off by no_eval"; NULL: none */
} fj_report;

/* Writes report.html from metrics.jsonl ("step" with "loss", "eval_loss", "lr"), recipe.yaml,
 * manifest.json and rep.  Every text is escaped. */
bool fj_run_report(fj_run *run, const fj_report *rep, fj_err *e);

#endif
