/* verify.h - is what was exported what was trained?  Both are run on the same rows and compared.
 *
 * Two sides: the model as it was trained (a base, with its adapter), and the files of the export, opened as a
 * stranger would open them.  Each side renders every row with its own template and tokenises it with its own
 * vocabulary: texts and ids must be equal.  Then both give their logits for the ids of the trained side, and
 * at each position (l logits, p = softmax(l), natural logarithms):
 *   |log p(t) - log q(t)|        t the token that follows in the row; the largest and the mean
 *   KL(p || q) = sum p log(p/q)  over the whole vocabulary, in double; mean and largest (Kullback 1951)
 *   arg max l of both            the share of positions where it is the same (the lowest id wins a tie)
 * and perplexity of both over the tokens that are learned in training (answers; all of a text).
 * The forward pass is that of training, evaluation and serving, with the arithmetic of each side's weights, so
 * that what is measured is what is served.  Nothing depends on threads.
 *
 * One model is in memory at a time, unless both sides name the same file.  Logits of the first wait in a
 * file that has no name (positions * vocabulary * 4 bytes) or, when they are few, in memory.  Cost: a forward
 * pass of `positions` tokens for each side, and of 500 of the base where an adapter was merged.  One thread at a time for each device. */
#ifndef FJ_LIFECYCLE_VERIFY_H
#define FJ_LIFECYCLE_VERIFY_H

#include "base/mem.h"
#include "models/model.h"

/* Borrowed. */
typedef struct fj_verify_side {
    const char *model, *adapter; /* paths; adapter NULL: none */
    fj_model *m;                 /* open already: model and adapter are names then; else NULL */
    const fj_lora *lora;         /* of m, or NULL */
    const char *hash;            /* fj_model_hash of model where it is known; NULL: found here */
    const char *chat;            /* how conversations are spelled (fj_eval_opts); NULL: its own */
} fj_verify_side;

typedef struct fj_verify_opts {
    /* [n_data] files as `forja eval` takes them (a long text is several rows); 0: texts of forja's own */
    const char *const *data;
    int n_data;
    const char *system;         /* as fj_eval_opts, for both sides */
    const char *chat_kwargs;    /* likewise */
    double chat_now;            /* likewise */
    int64_t positions;          /* compared by numbers at most; 0: 2000 */
    int64_t max_length;         /* tokens of a row that are compared by numbers; 0: 256 */
    int64_t max_rows;           /* rendered and tokenised; 0: 1000 */
    const char *kind;           /* what was exported: see fj_verify_limit */
    double max_kl;              /* limit of the mean KL; 0: by kind; INFINITY: none */
    bool allow_text, allow_ids; /* unequal texts, unequal ids are shown and are no failure */
    /* Gives the merged model before it is quantised, to tell which of the two lost it.  Asked only when the
     * numbers are over the limit; what it fills in must stay until fj_verify returns.  NULL: not told apart */
    bool (*merged)(void *ctx, fj_verify_side *side, fj_err *e);
    void *ctx;
    const char *scratch; /* folder for logits; NULL: $TMPDIR, or /var/tmp */
} fj_verify_opts;

typedef enum fj_lost {
    FJ_LOST_NOTHING,
    FJ_LOST_TEMPLATE,  /* the rows are other texts */
    FJ_LOST_TOKENIZER, /* the same texts are other ids, or ids are other tokens */
    FJ_LOST_ADAPTER,   /* a written adapter does not compute what the trained one does */
    FJ_LOST_MERGE,
    FJ_LOST_QUANTISE, /* the weights as they were written; without an adapter nothing else can be */
    FJ_LOST_WEIGHTS,  /* merge or quantise */
    FJ_LOSTS
} fj_lost;
extern const char *const fj_lost_names[FJ_LOSTS]; /* "nothing", "template", ... */

typedef struct fj_verify_numbers {
    int64_t positions, learned; /* compared; those of them whose token is learned in training */
    double logp_max, logp_mean; /* nats */
    double kl_max, kl_mean;     /* nats */
    int64_t agree;              /* positions */
    double trained_perplexity, exported_perplexity;
    int64_t worst_row, worst_at; /* where kl_max is: row from 1, position in it from 0 */
    /* Is the adapter in a merged export?  Mean KL(base without it || exported) and KL(trained || exported) on
     * the first positions; 0 positions: there was no adapter, or it is exported as one. */
    int64_t base_positions;
    double base_kl, near_kl;
} fj_verify_numbers;

typedef struct fj_verify_about {
    const char *model, *adapter; /* paths; adapter NULL: none */
    char model_hash[65], adapter_hash[65];
    const char *chat, *formats;
    int64_t vocab;
} fj_verify_about;

typedef struct fj_verified {
    fj_arena arena; /* strings of this struct */
    fj_verify_about trained, exported, merged;
    const char *data; /* files, or "texts of forja's own" */
    bool own_texts;
    char data_hash[65];
    int64_t rows, texts; /* all; those of them that are conversations, which are rendered */
    int64_t refused;     /* conversations that the trained side's template refuses */
    int64_t text_equal;  /* of texts; refused by both is equal, here and below */
    int64_t ids_equal;   /* of rows */
    /* Of the trained side's vocabulary; those that are other bytes on the exported side, or end an answer on
     * one side alone. */
    int64_t tokens, tokens_other;
    bool compared;       /* false: the vocabularies have other sizes, there are no numbers */
    fj_verify_numbers n; /* trained against exported */
    bool has_merged;
    fj_verify_numbers m; /* trained against merged */
    const char *kind;
    double max_kl;
    bool passed;
    fj_lost lost;                          /* the first step that lost it */
    const char *why;                       /* a sentence; "" when nothing was lost */
    const char *text_differs, *ids_differ; /* the first row that does, a sentence; or "" */
    double seconds;
} fj_verified;

/* The default limit of the mean KL, by the beginning of what is written: "adapter", "F32", "BF16", "F16" and
 * the names of quantised types and mixes ("Q8_0", "Q4_K_M"), in any case; 0: not known.  They are set by what
 * sound exports of the embedded model (5 million parameters: larger ones lose less) lose on forja's own texts,
 * which are strange to it: 6e-10 F32, 5e-5 BF16, 4e-4 Q8_0, 3.3e-3 Q6_K, 4e-2 Q4_K, 8e-2 Q4_0, 1.5e-1 MXFP4.
 * Coarse types have two to three times that, fine ones more; types in between were placed by their bits.
 * A merged model is allowed what the trained one's arithmetic loses, too: BF16's limit where weights or rows
 * are of 16 bits, Q8_0's where weights are quantised and rows are therefore of 8. */
double fj_verify_limit(const char *kind);

/* Whatever the limit, an export that is nearer to the base without the adapter than to the trained model (by a
 * fifth of the KL or more, which quantising does not do) lost the merge.
 * false: something could not be opened or read, or was stopped.  An export that lost something is true with
 * passed false.  Free v in every case.
 * Errors of the world: files of either side, data without a row that the trained side can spell, a kind
 * that is not known and no max_kl, no room for the logits. */
bool fj_verify(fj_dev *d, const fj_verify_side *trained, const fj_verify_side *exported,
               const fj_verify_opts *o, const fj_log *log, fj_verified *v, fj_err *e);
void fj_verified_free(fj_verified *v);

/* Everything as one JSON object; the caller owns it. */
json_t *fj_verified_json(const fj_verified *v);
/* The same as aligned lines for a terminal, added to s. */
void fj_verified_text(const fj_verified *v, fj_str *s);

#endif
