/* sample.h - from logits to one token. */
#ifndef FJ_ENGINE_SAMPLE_H
#define FJ_ENGINE_SAMPLE_H

#include "base/rng.h"

#include <forja/generate.h>

/* Chooses one of vocab tokens.  seen [n_seen]: prompt and answer so far, for the penalty.  rng moves on by
 * one draw, unless greedy. */
int32_t fj_sample(const float *logits, int32_t vocab, const fj_sampling *p, const int32_t *seen,
                  int64_t n_seen, fj_rng *rng);

#endif
