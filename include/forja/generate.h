/* generate.h - text out of a model: a session, and how tokens are chosen.
 *
 * An fj_session holds the keys and values of one growing sequence.  It belongs to one thread at a time
 * and must be closed before its model. */
#ifndef FORJA_GENERATE_H
#define FORJA_GENERATE_H

#include <forja/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Applied in this order: repetition penalty, temperature, top-k, top-p, min-p; then one draw.
 * (The order of transformers' processors.) */
typedef struct fj_sampling {
    double temperature;        /* 0: greedy, the largest logit (the lowest id on ties) */
    int top_k;                 /* 0: off */
    double top_p;              /* 1: off */
    double min_p;              /* 0: off; of the largest probability */
    double repetition_penalty; /* 1: off; over prompt and answer (Keskar et al. 2019) */
    uint64_t seed;
    int64_t max_new_tokens;
    const char *const *stop; /* generation ends before any of these; [n_stop] */
    int n_stop;
    bool ignore_eos;
} fj_sampling;
#define FJ_SAMPLING_DEFAULT                                                                        \
    { .temperature = 0, .top_p = 1, .repetition_penalty = 1, .max_new_tokens = 256 }
/* FJ_EINVAL naming the field that is out of range. */
FJ_API bool fj_sampling_check(const fj_sampling *s, fj_err *e);

typedef enum fj_finish {
    FJ_FINISH_EOS,     /* the model ended its turn */
    FJ_FINISH_STOP,    /* a stop string */
    FJ_FINISH_LENGTH,  /* max_new_tokens */
    FJ_FINISH_CONTEXT, /* the context is full */
    FJ_FINISH_ASKED,   /* the callback said so */
} fj_finish;
FJ_API const char *fj_finish_name(fj_finish f); /* "eos", "stop", "length", ... */

typedef struct fj_generated {
    fj_finish finish;
    int64_t prompt, cached,
        made; /* tokens: of the prompt, of those already in the cache, new ones */
    double prefill_s, decode_s;
} fj_generated;

typedef struct fj_session fj_session;

/* context 0: the model's.  Memory for all of it is taken now. */
FJ_API fj_session *fj_session_open(fj_model *m, int64_t context, fj_err *e);
FJ_API void fj_session_close(fj_session *s); /* NULL is fine */
/* NULL: the base alone.  The adapter must outlive its use; forgets the cache when it changes. */
FJ_API void fj_session_adapter(fj_session *s, const fj_lora *l);
FJ_API void fj_session_reset(fj_session *s);

/* Continues ids [n], the whole sequence from its beginning; what the cache has of it is not computed
 * again.  text (may be NULL) gets the answer in pieces of whole characters, without stop strings;
 * returning false ends it.  out (may be NULL) gets the new ids, the ending token included. */
FJ_API bool fj_generate(fj_session *s, const int32_t *ids, int64_t n, const fj_sampling *p,
                        bool (*text)(void *ctx, const char *bytes, size_t n), void *ctx,
                        fj_ids *out, fj_generated *g, fj_err *e);

#ifdef __cplusplus
}
#endif
#endif
