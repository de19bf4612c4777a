/* run.h - the parts of eval.h that training uses on rows and samples it already has. */
#ifndef FJ_EVAL_RUN_H
#define FJ_EVAL_RUN_H

#include "data/pack.h"
#include "data/samples.h"
#include "models/model.h"

#include <forja/eval.h>

/* How the conversations of o are spelled for m; the caller closes it. */
fj_chat *fj_eval_chat(const fj_model *m, const fj_eval_opts *o, fj_err *e);

/* Sum of nll of one ragged batch (FJ_OUT_LOSS shape) into nll [n_out]. */
typedef bool (*fj_nll_fn)(void *ctx, const fj_batch *b, float *nll, fj_err *e);

/* Loss over the samples `which` [n] (NULL: all of s) in micro-batches of at most batch * max_length
 * tokens.  Fills rows, tokens, loss, loss_se, perplexity of r. */
bool fj_eval_loss(const fj_samples *s, const int64_t *which, size_t n, int batch, int max_length,
                  fj_nll_fn nll, void *ctx, const char *what, const fj_log *log, fj_eval_result *r,
                  fj_err *e);

/* Forward passes with buffers of their own, as an fj_nll_fn's context. */
typedef struct fj_scorer {
    fj_model *m;
    const fj_lora *lora;
    fj_buf *mem;
    fj_fwd *last;
} fj_scorer;
/* Results are in s->last until the next call. */
bool fj_scorer_forward(fj_scorer *s, const fj_batch *b, fj_want_out out, fj_err *e);
bool fj_scorer_nll(void *scorer, const fj_batch *b, float *nll, fj_err *e);
void fj_scorer_free(fj_scorer *s);

/* Two rows of logits [vocab]: log softmax of both at target, and KL(softmax a || softmax b), in nats.  In
 * double, in the order of the vocabulary. */
typedef struct fj_row_gap {
    double a, b, kl;
} fj_row_gap;
fj_row_gap fj_rows_apart(const float *a, const float *b, int64_t vocab, int32_t target);

/* Greedy answers to the rows of d that say what is right; fills exact, contains, regex. */
bool fj_eval_answers(fj_model *m, const fj_lora *lora, const fj_dataset *d, const fj_chat *chat,
                     const fj_eval_opts *o, const fj_log *log,
                     void (*answer)(void *ctx, const fj_eval_answer *a), void *ctx,
                     fj_eval_result *r, fj_err *e);
bool fj_eval_forgetting_on(fj_model *base, fj_model *tuned, const fj_lora *lora,
                           const fj_samples *s, const fj_log *log, fj_forgetting *f, fj_err *e);

#endif
