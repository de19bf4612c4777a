/* ckpt.h - training checkpoints: folders RUN/checkpoint-N that are whole or not there.
 *
 *     state.safetensors  tensors, and the small state as JSON under "forja" in __metadata__
 *     manifest.json      step, and size and SHA-256 of every file in the folder
 *     ...                what else the caller puts there (an adapter, a tokenizer)
 *
 * Written as checkpoint-N.tmp, synced, renamed.  Opening verifies every byte: a damaged checkpoint
 * is refused with the name of its file, and the one before is there to fall back to. */
#ifndef FJ_FORMATS_CKPT_H
#define FJ_FORMATS_CKPT_H

#include "formats/json.h"
#include "formats/safetensors.h"

#include <forja/log.h>

typedef struct fj_ckpt_writer fj_ckpt_writer;

/* The run folder is there.  One that is left over from a killed process under this name is
 * removed. */
fj_ckpt_writer *fj_ckpt_begin(const char *run, int64_t step, fj_err *e);
/* Where to write further files (no folders) before commit. */
const char *fj_ckpt_folder(const fj_ckpt_writer *w);
/* The writer of the tensors: add and write them, close it, then commit.  state is borrowed;
 * integers beyond i64 go in as strings. */
fj_st_writer *fj_ckpt_state(fj_ckpt_writer *w, const json_t *state, fj_err *e);
/* A checkpoint of the same step is replaced.  Frees w; after a failure nothing is left. */
bool fj_ckpt_commit(fj_ckpt_writer *w, fj_err *e);
void fj_ckpt_abort(fj_ckpt_writer *w); /* NULL is fine */

typedef struct fj_ckpt {
    char *dir;
    int64_t step;
    json_t *state;
    fj_st *tensors;
} fj_ckpt;

fj_ckpt *fj_ckpt_open(const char *dir, fj_err *e);
/* The newest of a run that is whole; a damaged one is reported to log (may be NULL) and passed
 * over. NULL and FJ_EIO when the run has none, FJ_EFORMAT when all are damaged. */
fj_ckpt *fj_ckpt_open_newest(const char *run, const fj_log *log, fj_err *e);
void fj_ckpt_close(fj_ckpt *c); /* NULL is fine */

/* Steps of the checkpoints of a run, newest first.  Caller frees *steps. */
bool fj_ckpt_list(const char *run, int64_t **steps, size_t *n, fj_err *e);
/* RUN/checkpoint-N; caller frees. */
char *fj_ckpt_path(const char *run, int64_t step);
/* Keeps the newest `keep` and best (-1: none); removes the others and what killed processes left.
 * Not while a checkpoint of this run is being written. */
bool fj_ckpt_prune(const char *run, size_t keep, int64_t best, fj_err *e);

#endif
