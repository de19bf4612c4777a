#include "data/pack.h"

#include "base/rng.h"

#include <math.h>

/* Samples sorted and filled together when packing: large enough that bins are nearly full, small
 * enough that the order stays nearly random. */
enum { WINDOW = 512 };

/* One epoch laid out: micro-batch m is sample[start[m]] .. sample[start[m + 1]]. */
typedef struct fj_layout {
    int64_t *sample; /* indices into the plan's arrays, then the caller's ids */
    fj_micro *micro;
    size_t n_micro, cap_micro;
} fj_layout;

struct fj_plan {
    fj_plan_opts o;
    bool shuffle;
    int64_t *ids;
    int32_t *len, *learn;
    size_t n;
    fj_plan_totals sum;
    int64_t *steps_before; /* of each epoch; epochs + 1 values */
    size_t cap_epochs;
    int64_t laid; /* the epoch in `layout`, -1: none */
    fj_layout layout;
    /* working memory of one window */
    int64_t *order;
};

static void end_micro(fj_plan *p, const int64_t *sample, int n) {
    fj_layout *l = &p->layout;
    FJ_GROW(l->micro, l->n_micro + 1, l->cap_micro);
    fj_micro *m = &l->micro[l->n_micro++];
    *m = (fj_micro){ .sample = sample, .n = n };
    for (int i = 0; i < n; i++) {
        m->rows += p->len[sample[i]];
        m->learn += p->learn[sample[i]];
    }
}

typedef struct fj_item {
    int64_t sample;
    int32_t len;
    int32_t at; /* place in the shuffled window: ties are decided by it */
    int32_t bin;
} fj_item;

static int by_length(const void *a, const void *b) {
    const fj_item *x = a, *y = b;
    if (x->len != y->len) return x->len < y->len ? 1 : -1;
    return x->at < y->at ? -1 : 1;
}

/* Best fit decreasing: each sample goes to the fullest micro-batch that still has room. */
static void pack_window(fj_plan *p, fj_rng *r, const int64_t *in, int n, int64_t *out) {
    fj_item it[WINDOW];
    int64_t room[WINDOW];
    int order[WINDOW], bins = 0;
    int64_t capacity = (int64_t)p->o.batch * p->o.max_length;
    for (int i = 0; i < n; i++) it[i] = (fj_item){ in[i], p->len[in[i]], i, 0 };
    qsort(it, (size_t)n, sizeof *it, by_length);
    for (int i = 0; i < n; i++) {
        int best = -1;
        for (int b = 0; b < bins; b++)
            if (room[b] >= it[i].len && (best < 0 || room[b] < room[best])) best = b;
        if (best < 0) room[best = bins++] = capacity;
        room[best] -= it[i].len;
        it[i].bin = best;
    }
    /* The first bins hold the longest samples: without this every window would begin with them. */
    for (int b = 0; b < bins; b++) order[b] = b;
    for (int b = bins - 1; b > 0; b--) {
        int k = (int)fj_rng_below(r, (uint64_t)b + 1), t = order[b];
        order[b] = order[k];
        order[k] = t;
    }
    for (int b = 0; b < bins; b++) {
        int64_t *start = out;
        for (int i = 0; i < n; i++)
            if (it[i].bin == order[b]) *out++ = it[i].sample;
        end_micro(p, start, (int)(out - start));
    }
}

/* In order, as many as fit: for evaluations. */
static void fill_in_order(fj_plan *p) {
    int64_t capacity = (int64_t)p->o.batch * p->o.max_length, *s = p->layout.sample;
    for (size_t i = 0; i < p->n;) {
        size_t start = i;
        int64_t rows = 0;
        while (i < p->n && (i == start || rows + p->len[s[i]] <= capacity)) rows += p->len[s[i++]];
        end_micro(p, s + start, (int)(i - start));
    }
}

static void lay(fj_plan *p, int64_t epoch) {
    if (p->laid == epoch) return;
    p->laid = epoch;
    p->layout.n_micro = 0;
    int64_t *order = p->shuffle && p->o.packing ? p->order : p->layout.sample;
    for (size_t i = 0; i < p->n; i++) order[i] = (int64_t)i;
    if (!p->shuffle) {
        fill_in_order(p);
    } else {
        fj_rng r;
        fj_rng_seed(&r, fj_rng_at(p->o.seed, (uint64_t)epoch));
        for (size_t i = p->n - 1; i > 0; i--) {
            size_t k = (size_t)fj_rng_below(&r, i + 1);
            int64_t t = order[i];
            order[i] = order[k];
            order[k] = t;
        }
        for (size_t i = 0; i < p->n;) {
            size_t k = FJ_MIN(p->n - i, p->o.packing ? (size_t)WINDOW : (size_t)p->o.batch);
            if (p->o.packing) pack_window(p, &r, order + i, (int)k, p->layout.sample + i);
            else end_micro(p, order + i, (int)k);
            i += k;
        }
    }
    for (size_t i = 0; i < p->n; i++) p->layout.sample[i] = p->ids[p->layout.sample[i]];
}

static int64_t steps_of(const fj_plan *p) {
    return (int64_t)(p->layout.n_micro + (size_t)p->o.accum - 1) / p->o.accum;
}

/* Counts the first `steps` steps of the epoch that is laid out. */
static void count(fj_plan *p, int64_t steps) {
    fj_plan_totals *s = &p->sum;
    size_t n = FJ_MIN(p->layout.n_micro, (size_t)steps * (size_t)p->o.accum);
    for (size_t i = 0; i < n; i++) {
        const fj_micro *m = &p->layout.micro[i];
        s->rows += m->rows;
        s->learn += m->learn;
        s->max_rows = FJ_MAX(s->max_rows, m->rows);
        s->max_learn = FJ_MAX(s->max_learn, m->learn);
        s->max_seqs = FJ_MAX(s->max_seqs, m->n);
    }
    s->micros += (int64_t)n;
    s->steps += steps;
    FJ_GROW(p->steps_before, (size_t)s->epochs + 2, p->cap_epochs);
    p->steps_before[0] = 0;
    p->steps_before[++s->epochs] = s->steps;
}

static fj_plan *make(const int64_t *ids, const int32_t *len, const int32_t *learn, size_t n,
                     const fj_plan_opts *o, bool shuffle, fj_err *e) {
    if (n == 0) {
        fj_fail(e, FJ_EINVAL, "there is no sample to make batches of");
        return NULL;
    }
    if (o->batch < 1 || o->max_length < 1 || o->accum < 1) {
        fj_fail(e, FJ_EINVAL, "batch, max_length and accumulation steps must be at least 1");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        if (len[i] < 1 || len[i] > o->max_length || learn[i] < 0 || learn[i] > len[i]) {
            fj_fail(e, FJ_EINVAL, "sample %zu has %d tokens and %d targets; max_length is %d", i,
                    len[i], learn[i], o->max_length);
            return NULL;
        }
    fj_plan *p = fj_zalloc(sizeof *p);
    p->o = *o;
    p->shuffle = shuffle;
    p->n = n;
    p->laid = -1;
    p->ids = fj_alloc(n * sizeof *ids);
    p->len = fj_alloc(n * sizeof *len);
    p->learn = fj_alloc(n * sizeof *learn);
    memcpy(p->ids, ids, n * sizeof *ids);
    memcpy(p->len, len, n * sizeof *len);
    memcpy(p->learn, learn, n * sizeof *learn);
    p->layout.sample = fj_alloc(n * sizeof *p->layout.sample);
    p->order = fj_alloc(n * sizeof *p->order);
    return p;
}

fj_plan *fj_plan_epochs(const int64_t *ids, const int32_t *len, const int32_t *learn, size_t n,
                        const fj_plan_opts *o, fj_err *e) {
    if (o->max_steps < 1 && !(o->epochs > 0 && o->epochs <= 1e6)) {
        fj_fail(e, FJ_EINVAL, "num_train_epochs must be over 0 and at most 1000000");
        return NULL;
    }
    fj_plan *p = make(ids, len, learn, n, o, true, e);
    if (!p) return NULL;
    /* The whole run is laid out once without its tokens: how many steps there are depends on how each
     * epoch packs, and the largest micro-batch is wanted before the first one runs. */
    double left = o->epochs;
    for (int64_t epoch = 0;; epoch++) {
        if (o->max_steps > 0 ? p->sum.steps >= o->max_steps : left <= 1e-9) break;
        lay(p, epoch);
        int64_t steps = steps_of(p);
        if (o->max_steps > 0) steps = FJ_MIN(steps, o->max_steps - p->sum.steps);
        else if (left < 1) steps = (int64_t)ceil(left * (double)steps - 1e-9);
        left -= 1;
        count(p, steps);
    }
    return p;
}

fj_plan *fj_plan_eval(const int64_t *ids, const int32_t *len, const int32_t *learn, size_t n,
                      int batch, int max_length, fj_err *e) {
    fj_plan_opts o = { .batch = batch, .max_length = max_length, .accum = 1, .epochs = 1 };
    fj_plan *p = make(ids, len, learn, n, &o, false, e);
    if (!p) return NULL;
    lay(p, 0);
    if (p->layout.n_micro > INT32_MAX) {
        fj_fail(e, FJ_EINVAL, "too many evaluation batches: %zu", p->layout.n_micro);
        fj_plan_free(p);
        return NULL;
    }
    p->o.accum = (int)p->layout.n_micro;
    count(p, 1);
    return p;
}

void fj_plan_free(fj_plan *p) {
    if (!p) return;
    free(p->ids);
    free(p->len);
    free(p->learn);
    free(p->layout.sample);
    free(p->layout.micro);
    free(p->order);
    free(p->steps_before);
    free(p);
}

const fj_plan_totals *fj_plan_sum(const fj_plan *p) { return &p->sum; }

void fj_plan_step(fj_plan *p, int64_t step, fj_plan_at *at) {
    FJ_ASSERT(step >= 0 && step < p->sum.steps);
    int64_t lo = 0, hi = p->sum.epochs; /* steps_before[lo] <= step < steps_before[hi] */
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (p->steps_before[mid] <= step) lo = mid;
        else hi = mid;
    }
    lay(p, lo);
    int64_t in = step - p->steps_before[lo], all = steps_of(p);
    size_t first = (size_t)in * (size_t)p->o.accum;
    size_t n = FJ_MIN(p->layout.n_micro - first, (size_t)p->o.accum);
    *at = (fj_plan_at){ .epoch = lo,
                        .step_in_epoch = in,
                        .last_of_epoch = in + 1 == all,
                        .epochs_done = (double)lo + (double)(in + 1) / (double)all,
                        .micro = p->layout.micro + first,
                        .n_micro = (int)n };
    for (size_t i = 0; i < n; i++) {
        at->rows += at->micro[i].rows;
        at->learn += at->micro[i].learn;
    }
}
