/* eval.h - measuring a model, with or without an adapter, on somebody's rows.
 *
 * Two kinds of numbers.  Loss and perplexity over the supervised tokens (answers and their end of turn;
 * every token of raw text).  And, for rows that say what the answer must be, the share of greedy
 * answers that are it ("answer", exact after trimming), contain it ("contains", all of them) or match it
 * ("regex", PCRE2).  Rates carry a 95 % Wilson interval, the loss a standard error over rows: with 24
 * rows a difference of one answer means nothing, and the numbers say so. */
#ifndef FORJA_EVAL_H
#define FORJA_EVAL_H

#include <forja/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fj_eval_opts {
    /* "auto" (also NULL): the model's own chat template, else chatml where the vocabulary has its tokens,
     * else raw; "chatml", "raw"; a name among the model's templates; the path of a template */
    const char *chat;
    const char *chat_kwargs; /* variables for the template, a JSON object; NULL: none */
    double chat_now;         /* seconds since 1970, the day that a template may print; 0: now */
    const char *system;      /* put in front of rows without a system message, or NULL */
    int64_t max_length;      /* longer rows are counted, not measured; 0: the model's context */
    int64_t max_rows;        /* 0: all */
    int64_t max_new_tokens;  /* of an answer; 0: do not generate */
    int64_t batch;           /* tokens of a micro-batch / max_length; 0: 4 */
} fj_eval_opts;

typedef struct fj_rate {
    int64_t n, hit;
    double rate, low, high; /* 95 % Wilson interval */
} fj_rate;

typedef struct fj_eval_result {
    int64_t rows, tokens;        /* measured; tokens are the supervised ones */
    int64_t too_long, unlearned; /* left out: longer than max_length; nothing supervised */
    double loss, loss_se, perplexity;
    fj_rate exact, contains, regex; /* n 0: no row asks for it */
    double seconds;
} fj_eval_result;

/* One generated answer, in the order of the rows. */
typedef struct fj_eval_answer {
    const char *prompt;         /* the last user message */
    const char *given, *wanted; /* wanted: "answer" or NULL */
    bool exact, contains, regex;
} fj_eval_answer;

/* lora NULL: the base.  answer (may be NULL) is called for every generated answer. */
FJ_API bool fj_eval_files(fj_model *m, const fj_lora *lora, const char *const *paths, int n_paths,
                          const fj_eval_opts *o, const fj_log *log,
                          void (*answer)(void *ctx, const fj_eval_answer *a), void *ctx,
                          fj_eval_result *r, fj_err *e);

/* What training did to everything else: perplexity of both, and the mean KL divergence of the tuned
 * model's next-token distribution from the base's, KL(base || tuned) in nats, over every token. */
typedef struct fj_forgetting {
    int64_t rows, tokens;
    double base_perplexity, tuned_perplexity, kl;
} fj_forgetting;
/* tuned NULL: base with lora.  Both models on one device. */
FJ_API bool fj_eval_forgetting(fj_model *base, fj_model *tuned, const fj_lora *lora,
                               const char *const *paths, int n_paths, const fj_eval_opts *o,
                               const fj_log *log, fj_forgetting *f, fj_err *e);

/* The result as a JSON object in one line; the caller frees. */
FJ_API char *fj_eval_json(const fj_eval_result *r);

/* Loss of given ids (each row a sequence) and logits of every position, for comparisons with other
 * programs: rows [n_rows] of lengths len; writes logits [len, vocab] one row after another to a
 * safetensors file as tensors "logits.N" (F32). */
FJ_API bool fj_eval_dump(fj_model *m, const fj_lora *lora, const int32_t *const *rows,
                         const int64_t *len, int n_rows, const char *path, fj_err *e);

#ifdef __cplusplus
}
#endif
#endif
