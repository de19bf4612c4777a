/* sample.h - from what a user says about sampling to how a token is chosen on the device (ops/sample.c). */
#ifndef FJ_ENGINE_SAMPLE_H
#define FJ_ENGINE_SAMPLE_H

#include "base/rng.h"
#include "ops/pick.h"

#include <forja/generate.h>

/* One row of `how` of fj_choose.  rng moves on by one draw, unless greedy. */
void fj_sampling_how(const fj_sampling *p, fj_rng *rng, float how[FJ_PICK_COLS]);

#endif
