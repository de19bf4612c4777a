/* sample.c - one token of each row of logits, so that a step of decoding brings back ids alone.
 *
 * In this order, as transformers' processors: repetition penalty over the tokens of `seen` (Keskar et al.
 * 2019), temperature, top-k, top-p, min-p; then the draw.  Tokens are ordered by falling logit, then
 * by id; top-k and top-p keep a beginning of that order.  The draw goes through what is left by rising id:
 * the first token at which the sum of weights passes draw * sum.  Temperature 0: the first of the order. */
#include "ops/op.h"

#include <math.h>

typedef struct cand {
    real logit;
    int32_t id;
    double p;
} cand;

static int by_logit(const void *a, const void *b) {
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) {
    const cand *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Leaves the k first of the order in front, in no order. */
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

static int32_t pick(cand *c, const real *logits, int64_t vocab, const real *how,
                    const int32_t *seen) {
    double temperature = how[FJ_PICK_TEMPERATURE], top_p = how[FJ_PICK_TOP_P],
           min_p = how[FJ_PICK_MIN_P], penalty = how[FJ_PICK_PENALTY];
    int64_t best = 0, n = vocab, k = (int64_t)how[FJ_PICK_TOP_K];
    for (int64_t i = 0; i < vocab; i++) {
        double l = logits[i];
        if (seen && (uint32_t)seen[i / 32] >> (i % 32) & 1) l = l > 0 ? l / penalty : l * penalty;
        c[i] = (cand){ (real)l, (int32_t)i, 0 };
        if (c[i].logit > c[best].logit) best = i;
    }
    if (temperature == 0) return (int32_t)best;
    double most = c[best].logit, sum = 0;
    if (k && k < n) {
        select_top(c, n, k);
        n = k;
    }
    if (top_p < 1) qsort(c, (size_t)n, sizeof *c, by_logit);
    for (int64_t i = 0; i < n; i++) sum += c[i].p = exp(((double)c[i].logit - most) / temperature);
    if (top_p < 1) { /* the smallest set that reaches top_p */
        double part = 0;
        int64_t kept = 0;
        while (kept < n && part < top_p * sum) part += c[kept++].p;
        n = FJ_MAX(kept, 1);
    }
    sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p < min_p) c[i].p = 0; /* the largest has p = 1 */
        sum += c[i].p;
    }
    if (n < vocab) qsort(c, (size_t)n, sizeof *c, by_id);
    double u = (double)how[FJ_PICK_DRAW] * sum;
    int32_t id = (int32_t)best;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p <= 0) continue;
        id = c[i].id;
        if ((u -= c[i].p) < 0) break;
    }
    return id;
}

static size_t room(int64_t vocab) { return (size_t)(vocab * (int64_t)sizeof(cand) + 63) / 64 * 64; }

/* in: logits, how, seen (no columns: no penalty) */
FJ_CPU(sample) {
    const fj_tensor *x = n->in[0], *seen = n->in[2];
    cand *c = (cand *)((char *)t->scratch + room(x->cols) * (size_t)t->ith);
    for (int64_t r = t->ith; r < x->rows; r += t->nth)
        ((int32_t *)n->out[0]->data)[r] =
            pick(c, fj_row(x, r), x->cols, fj_row(n->in[1], r),
                 seen->cols ? (const int32_t *)seen->data + r * seen->cols : NULL);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *seen = n->in[2];
    if (x->cols < 1) return fj_fail(e, FJ_EINVAL, "%s has no logits to choose from", x->name);
    n->out[0]->rows = 1;
    n->out[0]->cols = x->rows;
    n->out[0]->dtype = FJ_I32;
    return fj_want(x, "logits", fj_real_of(n), -1, -1, e) &&
           fj_want(n->in[1], "how", fj_real_of(n), x->rows, FJ_PICK_COLS, e) &&
           fj_want(seen, "tokens seen", FJ_I32, x->rows, seen->cols ? (x->cols + 31) / 32 : 0, e);
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    return (n->f64 ? 2 : 1) * room(n->in[0]->cols) * (size_t)o->threads;
}

const fj_op fj_op_sample = { .name = "sample",
                             .n_in = 3,
                             .n_out = 1,
                             .shape = shape,
                             .scratch = scratch,
                             FJ_FNS(sample) };

fj_tensor *fj_choose(fj_graph *g, fj_tensor *logits, fj_tensor *how, fj_tensor *seen) {
    return FJ_EMIT(g, &fj_op_sample, NULL, logits, how, seen);
}
#endif
