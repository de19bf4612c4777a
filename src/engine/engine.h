/* engine.h - sequences over one model with their keys and values in pages.
 *
 * A page is FJ_KV_BLOCK positions of all layers.  A step takes any mix of sequences, new tokens of each
 * and an adapter for each, as one ragged batch: prefill, chunked prefill, decode and verification are the
 * same call.  One thread at a time. */
#ifndef FJ_ENGINE_ENGINE_H
#define FJ_ENGINE_ENGINE_H

#include "models/model.h"

typedef struct fj_engine fj_engine;

typedef struct fj_seq {
    int64_t n; /* positions in the cache */
    int32_t *pages;
    size_t n_pages, cap_pages;
} fj_seq;

/* One sequence's part of a step. */
typedef struct fj_step_item {
    fj_seq *seq;
    const int32_t *ids; /* [n] new tokens, n >= 1 */
    int64_t n;
    int64_t want;        /* logits of the last `want` of them */
    const fj_lora *lora; /* NULL: the base; items of one adapter stand side by side */
    const float *how; /* of fj_engine_choose: [FJ_PICK_COLS] of ops/pick.h, NULL: no token wanted */
    const int32_t *seen; /* tokens that have a penalty: bits as of fj_choose; NULL: none */
    int64_t
        total; /* tokens of the sequence when all that is known of it is fed; 0: these are the last */
} fj_step_item;

/* Room for `positions` positions in all (rounded up to pages). */
fj_engine *fj_engine_open(fj_model *m, int64_t positions, fj_err *e);
void fj_engine_close(fj_engine *g);
/* Runs the items; *logits [sum of want, vocab] is the engine's, valid until the next step.  On failure
 * (no free page, ...) no sequence has changed. */
bool fj_engine_step(fj_engine *g, const fj_step_item *items, int n, const float **logits,
                    fj_err *e);
/* The same, choosing the token that follows the last one of each item that has `how` (its `want` is not
 * looked at): *ids [of those items] is the engine's, as logits are.  Only ids leave the device. */
bool fj_engine_choose(fj_engine *g, const fj_step_item *items, int n, const int32_t **ids,
                      fj_err *e);
/* Forgets positions from n on and frees pages. */
void fj_seq_cut(fj_engine *g, fj_seq *s, int64_t n);
void fj_seq_free(fj_engine *g, fj_seq *s);

#endif
