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

typedef struct cand {
    float logit;
    int32_t id;
    double p;
} cand;

static int by_logit(const void *a, const void *b) {
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Leaves the k largest in front, in no order. */
static void select_top(cand *c, int64_t n, int64_t k) {
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        cand pivot = c[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (by_logit(&c[i], &pivot) < 0) i++;
            while (by_logit(&c[j], &pivot) > 0) j--;
            if (i <= j) {
                cand t = c[i];
                c[i++] = c[j];
                c[j--] = t;
            }
        }
        if (k - 1 <= j) hi = j;
        else if (k - 1 >= i) lo = i;
        else return;
    }
}

static void penalize(float *l, int32_t vocab, double penalty, const int32_t *seen, int64_t n) {
    uint8_t *done = fj_zalloc((size_t)vocab);
    for (int64_t i = 0; i < n; i++) {
        int32_t id = seen[i];
        if (id < 0 || id >= vocab || done[id]) continue;
        done[id] = 1;
        l[id] = (float)(l[id] > 0 ? (double)l[id] / penalty : (double)l[id] * penalty);
    }
    free(done);
}

int32_t fj_sample(const float *logits, int32_t vocab, const fj_sampling *p, const int32_t *seen,
                  int64_t n_seen, fj_rng *rng) {
    float *l = fj_alloc((size_t)vocab * sizeof *l);
    memcpy(l, logits, (size_t)vocab * sizeof *l);
    if (p->repetition_penalty != 1) penalize(l, vocab, p->repetition_penalty, seen, n_seen);
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (l[i] > l[best]) best = i;
    if (p->temperature == 0) {
        free(l);
        return best;
    }
    cand *c = fj_alloc((size_t)vocab * sizeof *c);
    for (int32_t i = 0; i < vocab; i++) c[i] = (cand){ l[i], i, 0 };
    int64_t n = vocab;
    if (p->top_k && p->top_k < n) {
        select_top(c, n, p->top_k);
        n = p->top_k;
    }
    if (p->top_p < 1) qsort(c, (size_t)n, sizeof *c, by_logit);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += c[i].p = exp(((double)c[i].logit - (double)l[best]) / p->temperature);
    if (p->top_p < 1) { /* the smallest set that reaches top_p */
        double part = 0;
        int64_t k = 0;
        while (k < n && part < p->top_p * sum) part += c[k++].p;
        n = FJ_MAX(k, 1);
    }
    sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p < p->min_p) c[i].p = 0; /* the largest has p = 1 */
        sum += c[i].p;
    }
    double u = fj_rng_double(rng) * sum;
    int32_t id = best;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p <= 0) continue;
        id = c[i].id;
        if ((u -= c[i].p) < 0) break;
    }
    free(c);
    free(l);
    return id;
}
