/* imatrix.h - importance matrix: how much each column of a weight counts when it is quantised.
 *
 * The error of an output of y = W x is the sum over columns of (error of W's value) * x; with inputs that
 * do not depend on each other its expected square weighs every column by the mean of x^2 over what the model
 * meets in use.  Those means, over calibration text, are the importance matrix (llama.cpp, tools/imatrix;
 * the same idea as the diagonal of the Hessian in OBQ, Frantar and Alistarh 2022).  Weights of experts have a
 * row of means for each expert, over the rows that chose it.
 *
 * Collecting runs the one forward pass, with sums beside every product (fj_fwd_opts.inputs).  Files are those
 * of llama-imatrix: GGUF of general.type "imatrix", with NAME.in_sum2 [mats, cols] (sums of squares) and
 * NAME.counts [mats, 1] (rows) for each tensor NAME; its older format is read, too.
 * An fj_imatrix belongs to one thread while it collects; what was opened is read-only, any threads. */
#ifndef FJ_LIFECYCLE_IMATRIX_H
#define FJ_LIFECYCLE_IMATRIX_H

#include "data/samples.h"
#include "models/model.h"

enum { FJ_IMATRIX_CHUNK = 512 }; /* tokens that meet at once, as of llama-imatrix */

typedef struct fj_imatrix_entry {
    const char *name; /* of the tensor in GGUF: "blk.0.attn_q.weight" */
    int64_t mats, cols;
    const float *sums;   /* [mats, cols] of squares */
    const float *counts; /* [mats] rows; 0: no row chose this expert */
    const float
        *means; /* [mats, cols] sums / counts; 1, every column alike, where the count is 0 */
} fj_imatrix_entry;

typedef struct fj_imatrix {
    const char *name; /* path, or of the model */
    const fj_imatrix_entry *entries;
    size_t n;
    uint32_t chunks, chunk_size; /* chunk_size 0: the older format, which does not say it */
    const char *const *datasets; /* what it was made from */
    size_t n_datasets;
    struct fj_imatrix_own *own;
} fj_imatrix;

/* ---- collecting ---------------------------------------------------------------------------------- */
/* Of m, which must outlive it while it collects.  The sums take memory of its device. */
fj_imatrix *fj_imatrix_new(const fj_model *m, fj_err *e);
/* One sequence from its first position on: ids [n]; n at most the model's context. */
bool fj_imatrix_add(fj_imatrix *im, const int32_t *ids, int64_t n, fj_err *e);
/* Calibration data: a text (any file that is no .json or .jsonl, also .gz and .zst) or a data set, whose
 * conversations are rendered by chat (NULL: there must be none).  Texts are cut into chunks that begin with BOS
 * where the tokenizer adds one, conversations longer than a chunk lose their end; several short ones
 * share a chunk, each by itself.  most: chunks at most, 0: all. */
bool fj_imatrix_add_file(fj_imatrix *im, const char *path, const fj_chat *chat, int64_t most,
                         const fj_log *log, fj_err *e);
/* Makes entries of what was added so far; an error when that is nothing, or when a sum is no number. */
bool fj_imatrix_finish(fj_imatrix *im, fj_err *e);
/* After finish, or of one that was opened. */
bool fj_imatrix_save(const fj_imatrix *im, const char *path, fj_err *e);

/* ---- using --------------------------------------------------------------------------------------- */
/* Either format.  Refused: sums or counts that are negative or no numbers, one without the other, sizes
 * that do not fit each other, a name twice. */
fj_imatrix *fj_imatrix_open(const char *path, fj_err *e);
/* The same of bytes, which may go afterwards; aligned to 8. */
fj_imatrix *fj_imatrix_open_mem(const void *bytes, size_t n, const char *name, fj_err *e);
void fj_imatrix_close(fj_imatrix *im); /* NULL is fine */
/* Means of the tensor's columns, [*n]: cols, or mats * cols for experts; NULL: it has none.  The older format
 * does not say mats, so compare n with mats * cols of the weight. */
const float *fj_imatrix_find(const fj_imatrix *im, const char *gguf_name, int64_t *n);

#endif
