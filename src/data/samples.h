/* samples.h - rows as token sequences with the tokens that are learned marked; and the split.
 *
 * A sample is one sequence of at most max_length tokens.  learn[i] is 1 when token i is a target: what
 * the model says at position i - 1 is compared with ids[i].  learn[0] is therefore always 0, and the
 * number of ones is the number of rows whose logits are wanted.  In a conversation the assistant's
 * content and its end-of-turn are targets; in raw text every token and the end-of-text.
 *
 * A conversation longer than max_length is never cut in silence: it is dropped and counted, or cut and
 * counted, or an error (fj_truncation).  Raw text longer than max_length becomes consecutive samples;
 * each starts with BOS where the tokenizer adds one, and eos stands at the end of the text alone.
 *
 * The arrays belong to fj_samples; read-only after building. */
#ifndef FJ_DATA_SAMPLES_H
#define FJ_DATA_SAMPLES_H

#include "data/dataset.h"
#include "text/chat.h"

typedef enum fj_truncation { FJ_TRUNC_DROP, FJ_TRUNC_KEEP_START, FJ_TRUNC_ERROR } fj_truncation;

typedef struct fj_sample {
    const int32_t *ids;
    const uint8_t *learn; /* 0 or 1 for each id */
    int32_t n;            /* 2 <= n <= max_length */
    int32_t n_learn;      /* ones in learn, at least 1 */
    int64_t row;          /* index into the data set's rows */
    int32_t part;         /* of raw text in several samples: which one, from 0 */
    uint64_t hash;        /* of the ids: equal samples have equal hashes */
} fj_sample;

typedef struct fj_samples {
    fj_arena arena;
    fj_sample *s;
    size_t n, cap;
    int64_t tokens, learn_tokens;
    int64_t too_long;    /* rows over max_length: dropped, or cut when truncation is keep_start */
    int64_t no_target;   /* rows without a token to learn, dropped */
    int64_t chunked;     /* rows of raw text that became several samples */
    int64_t duplicates;  /* samples equal to an earlier one (kept) */
    int64_t lost_bytes;  /* bytes of text for which the vocabulary has no token at all */
    int32_t longest_row; /* tokens of the longest conversation met, dropped or not */
} fj_samples;

typedef struct fj_samples_opts {
    int max_length; /* at least 2 */
    fj_truncation truncation;
    bool skip_bad_rows;        /* a row without a target: counted instead of an error */
    const fj_chat *chat;       /* borrowed */
    const char *system_prompt; /* put first in conversations that have no system message; or NULL */
} fj_samples_opts;

/* Builds samples of all rows, in order, and says in the log what was dropped, cut and chunked.  Rows
 * that end in a question (evaluation by answer, contains or regex) are rendered with `answer` as the
 * reply when there is one, else counted under no_target.  No sample at all is an error. */
bool fj_samples_build(fj_samples *s, const fj_dataset *d, const fj_tokenizer *t,
                      const fj_samples_opts *o, const fj_log *log, fj_err *e);
void fj_samples_free(fj_samples *s);

/* Sides of the split: indices into s, in order; the caller frees both arrays.  A sample's side depends on its
 * ids and the seed alone, so equal samples are on one side and adding rows moves none.  share is the
 * wanted share of the evaluation side, 0 < share < 1; both sides get at least one sample, and that
 * being impossible is an error. */
typedef struct fj_split {
    int64_t *train, *eval;
    size_t n_train, n_eval;
} fj_split;
bool fj_samples_split(const fj_samples *s, double share, uint64_t seed, fj_split *out, fj_err *e);
void fj_split_free(fj_split *p);

#endif
