#include "engine/sample.h"

#include "base/mem.h"

#include <math.h>

bool fj_sampling_check(const fj_sampling *s, fj_err *e) {
    if (!(s->temperature >= 0 && s->temperature <= 100))
        return fj_fail(e, FJ_EINVAL, "temperature is %g, wanted 0 to 100", s->temperature);
    if (s->top_k < 0) return fj_fail(e, FJ_EINVAL, "top_k is %d, wanted 0 (off) or more", s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return fj_fail(e, FJ_EINVAL, "top_p is %g, wanted over 0 to 1", s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return fj_fail(e, FJ_EINVAL, "min_p is %g, wanted 0 to 1", s->min_p);
    if (!(s->repetition_penalty > 0 && s->repetition_penalty <= 100))
        return fj_fail(e, FJ_EINVAL, "repetition_penalty is %g, wanted over 0 to 100",
                       s->repetition_penalty);
    if (s->max_new_tokens < 0)
        return fj_fail(e, FJ_EINVAL, "max_new_tokens is %lld, wanted 0 or more",
                       (long long)s->max_new_tokens);
    for (int i = 0; i < s->n_stop; i++)
        if (!s->stop[i][0]) return fj_fail(e, FJ_EINVAL, "stop string %d is empty", i + 1);
    return true;
}

void fj_sampling_how(const fj_sampling *p, fj_rng *rng, float how[FJ_PICK_COLS]) {
    how[FJ_PICK_TEMPERATURE] = (float)p->temperature;
    how[FJ_PICK_TOP_K] = (float)p->top_k;
    how[FJ_PICK_TOP_P] = (float)p->top_p;
    how[FJ_PICK_MIN_P] = (float)p->min_p;
    how[FJ_PICK_PENALTY] = (float)p->repetition_penalty;
    how[FJ_PICK_DRAW] = 0;
    if (p->temperature == 0) return;
    float u = (float)fj_rng_double(rng);
    how[FJ_PICK_DRAW] = fminf(u, 0x1.fffffep-1f); /* rounding may have made it 1 */
}
