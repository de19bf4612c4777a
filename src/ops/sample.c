/* sample.c - one token of each row of logits, so that a step of decoding brings back ids alone.
 *
 * In this order, as transformers' processors: repetition penalty over the tokens of `seen` (Keskar et al.
 * 2019), temperature, top-k, top-p, min-p; then the draw.  Tokens are ordered by falling logit, then
 * by id; what each of the three keeps is a beginning of that order, of at least one token.  The draw goes through what is left by rising id:
 * the first token at which the sum of weights passes draw * sum.  Temperature 0: the first of the order.
 * A NaN is never chosen, unless nothing else is there.
 *
 * Few tokens matter and the vocabulary is large, so nothing is sorted but candidates: the largest logit
 * of every chunk of the row says where those can be.  Weights of candidates are made in double; where all
 * of the row counts (the sum for top-p, a draw without limits) or more than FEW are left, they are those of
 * exp_sum, in float, added in double: a draw or a limit that lies within a millionth of a border between two
 * tokens may be on its other side.  Where a limit falls in a flat row, a sample of the row says nearly, and
 * halvings of what lies there say exactly (`reach`). */
#include "ops/op.h"

#include <math.h>

enum {
    CHUNK = 128, /* logits with one largest */
    FEW = 256,   /* candidates that are weighed one by one */
    SAMPLE = 512,
    LAST = 64 /* so many are sorted in the end */
};

typedef struct cand {
    real logit;
    int32_t id;
    double p;
} cand;

/* A row on its way, and a thread's memory. */
typedef struct row {
    const real *z; /* [vocab] logits, penalties applied */
    int64_t vocab, chunks;
    double t, most; /* temperature, largest logit */
    int32_t best;   /* its token */
    real *own;      /* [vocab] logits with penalties */
    real *w;        /* [vocab] weights */
    real *top;      /* [chunks] largest logit of each */
    real *copy;     /* [chunks] */
    double *part;   /* [chunks] */
    int32_t *at;    /* [vocab] */
    cand *c;        /* [vocab] */
} row;

/* The tokens of a beginning of the order: logits above `from`, and of those that are `from` ids up to last. */
typedef struct limit {
    real from;
    int32_t last;
} limit;

static int by_logit(const void *a, const void *b) {
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) {
    const cand *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Splits n > 1 candidates: none of [0, *j] is behind any of [*i, n), those between are equal. */
static void split(cand *c, int64_t n, int (*order)(const void *, const void *), int64_t *i,
                  int64_t *j) {
    cand pivot = c[(n - 1) / 2];
    *i = 0, *j = n - 1;
    while (*i <= *j) {
        while (order(&c[*i], &pivot) < 0) ++*i;
        while (order(&c[*j], &pivot) > 0) --*j;
        if (*i > *j) break;
        cand t = c[*i];
        c[(*i)++] = c[*j];
        c[(*j)--] = t;
    }
}

/* Leaves the k first of the order in front, in no order. */
static void select_top(cand *c, int64_t n, int64_t k) {
    while (n > 1) {
        int64_t i, j;
        split(c, n, by_logit, &i, &j);
        if (k - 1 <= j) n = j + 1;
        else if (k - 1 >= i) c += i, n -= i, k -= i;
        else return;
    }
}

/* Not qsort: that allocates. */
static void sort(cand *c, int64_t n, int (*order)(const void *, const void *)) {
    while (n > 1) {
        int64_t i, j;
        split(c, n, order, &i, &j);
        bool left = j + 1 < n - i; /* the shorter side by itself: its depth is a logarithm */
        sort(left ? c : c + i, left ? j + 1 : n - i, order);
        if (left) c += i, n -= i;
        else n = j + 1;
    }
}

static int64_t chunk_len(const row *r, int64_t k) { return FJ_MIN(CHUNK, r->vocab - k * CHUNK); }

/* A logit that at least k tokens reach, and few more: k chunks have one each. */
static real floor_of(const row *r, int64_t k) {
    if (k > r->chunks) return (real)-INFINITY;
    real *a = r->copy;
    memcpy(a, r->top, (size_t)r->chunks * sizeof *a);
    int64_t lo = 0, hi = r->chunks - 1;
    while (lo < hi) {
        real pivot = a[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (a[i] > pivot) i++;
            while (a[j] < pivot) j--;
            if (i <= j) {
                real t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (k - 1 <= j) hi = j;
        else if (k - 1 >= i) lo = i;
        else break;
    }
    return a[k - 1];
}

/* Candidates, by rising id: tokens whose logits reach t. */
static int64_t collect(const row *r, real t) {
    int64_t n = 0;
    for (int64_t k = 0; k < r->chunks; k++) {
        if (!(r->top[k] >= t)) continue;
        for (int64_t i = k * CHUNK; i < k * CHUNK + chunk_len(r, k); i++)
            if (r->z[i] >= t) r->c[n++] = (cand){ r->z[i], (int32_t)i, 0 };
    }
    return n;
}

static double weight(const row *r, double logit) { return exp((logit - r->most) / r->t); }

/* The draw among n candidates.  all: the sum of weights that top_p is a part of, 0: theirs.  Returns -1
 * where they do not reach that part and there are more. */
static int32_t draw_few(const row *r, int64_t n, const real *how, double all) {
    double top_p = how[FJ_PICK_TOP_P], min_p = how[FJ_PICK_MIN_P], sum = 0;
    cand *c = r->c;
    if (top_p < 1) sort(c, n, by_logit);
    for (int64_t i = 0; i < n; i++) sum += c[i].p = weight(r, (double)c[i].logit);
    if (top_p < 1) { /* the smallest set that reaches top_p */
        double part = 0, want = top_p * (all > 0 ? all : sum);
        int64_t kept = 0;
        while (kept < n && part < want) part += c[kept++].p;
        if (all > 0 && part < want && n < r->vocab) return -1;
        n = FJ_MAX(kept, 1);
    }
    sort(c, n, by_id);
    sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p < min_p) c[i].p = 0; /* the largest has p = 1 */
        sum += c[i].p;
    }
    double u = (double)how[FJ_PICK_DRAW] * sum;
    int32_t id = r->best;
    for (int64_t i = 0; i < n; i++) {
        if (c[i].p <= 0) continue;
        id = c[i].id;
        if ((u -= c[i].p) < 0) break;
    }
    return id;
}

/* Weights of the whole row; their sum. */
static double weigh(const fj_team *t, const row *r) {
    double sum = 0;
    real inv = (real)(1 / r->t), top = (real)(r->most / r->t);
    for (int64_t k = 0; k < r->chunks; k++) {
        int64_t at = k * CHUNK, len = chunk_len(r, k);
        const real *z = r->z + at;
        if (r->t != 1) KERN(t)->scale(r->w + at, z, inv, len), z = r->w + at;
        sum += KERN(t)->exp_sum(r->w + at, z, top, len);
    }
    return sum;
}

/* The draw among the tokens whose logits reach `from`, by the weights of the whole row. */
static int32_t draw_many(const fj_team *t, const row *r, const real *how, real from) {
    double sum = 0;
    for (int64_t k = 0; k < r->chunks; k++) {
        int64_t at = k * CHUNK;
        r->part[k] =
            r->top[k] >= from ? KERN(t)->sum_from(r->w + at, r->z + at, from, chunk_len(r, k)) : 0;
        sum += r->part[k];
    }
    double u = (double)how[FJ_PICK_DRAW] * sum;
    int32_t id = r->best;
    for (int64_t k = 0; k < r->chunks; k++) {
        int64_t at = k * CHUNK, len = chunk_len(r, k);
        double part = r->part[k];
        if (part <= 0) continue;
        if (u >= part && k + 1 < r->chunks) {
            u -= part;
            continue;
        }
        for (int64_t i = at; i < at + len; i++) {
            if (!(r->z[i] >= from) || r->w[i] <= 0) continue;
            id = (int32_t)i;
            if ((u -= (double)r->w[i]) < 0) return id;
        }
    }
    return id;
}

static real next_to(real x, double to) {
    return sizeof x == sizeof(float) ? (real)nextafterf((float)x, (float)to)
                                     : (real)nextafter((double)x, to);
}

/* Where a sample of the row says that a part of its weight is reached: nearly, *lo <= *hi. */
static void guess(const row *r, double share, real *lo, real *hi) {
    enum {
        MARGIN = 15
    }; /* 1 / MARGIN of the weight to both sides: three deviations of the sample */
    double all = 0, sum = 0;
    int64_t n = 0;
    if (r->vocab < 8 * SAMPLE) return;
    for (int64_t i = 0; i < SAMPLE; i++) {
        int64_t id = i * r->vocab / SAMPLE;
        if (!(r->z[id] >= *lo && r->z[id] <= *hi)) continue;
        r->c[n++] = (cand){ r->z[id], (int32_t)id, (double)r->w[id] };
        all += (double)r->w[id];
    }
    sort(r->c, n, by_logit);
    real from = *lo, to = *hi;
    for (int64_t i = 0; i < n; i++) {
        if (sum <= (share - 1.0 / MARGIN) * all) to = r->c[i].logit;
        sum += r->c[i].p;
        if (sum >= (share + 1.0 / MARGIN) * all) {
            from = r->c[i].logit;
            break;
        }
    }
    *lo = from, *hi = to;
}

/* The beginning of the order that reaches `want` of the weights w, which are `all`; tokens below lo are not in it.
 * Everything where rounding leaves it short. */
static limit reach(const fj_team *t, const row *r, double want, double all, real lo) {
    const real least = lo, most = r->z[r->best];
    real hi = most, *z = (real *)(void *)r->c, *w = z + r->vocab;
    guess(r, want / all, &lo, &hi);
    /* base: the weight above hi, which must be less than wanted; with those from lo on it must be enough. */
    double base = hi < most ? KERN(t)->sum_from(r->w, r->z, next_to(hi, INFINITY), r->vocab) : 0;
    if (base >= want) lo = next_to(hi, INFINITY), hi = most, base = 0;
    int64_t n;
    for (;;) {
        double here = 0;
        n = KERN(t)->between(r->at, r->z, lo, hi, r->vocab);
        for (int64_t i = 0; i < n; i++) {
            z[i] = r->z[r->at[i]];
            here += (double)(w[i] = r->w[r->at[i]]);
        }
        if (base + here >= want) break;
        if (lo <= least) return (limit){ least, (int32_t)r->vocab };
        base += here, hi = next_to(lo, -INFINITY), lo = least;
    }
    if (!isfinite((double)lo)) {
        lo = hi;
        for (int64_t i = 0; i < n; i++)
            if (z[i] < lo && isfinite((double)z[i])) lo = z[i];
    }
    while (n > LAST && lo < hi) {
        for (int i = 0; i < 4 && lo < hi; i++) {
            real mid = (real)(((double)lo + (double)hi) / 2);
            if (mid <= lo) mid = hi;
            if (base + KERN(t)->sum_from(w, z, mid, n) >= want) lo = mid;
            else hi = next_to(mid, -INFINITY);
        }
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            if (z[i] > hi) base += (double)w[i];
            z[kept] = z[i], w[kept] = w[i], r->at[kept] = r->at[i];
            kept += z[i] >= lo && z[i] <= hi;
        }
        n = kept;
    }
    limit end = { next_to(hi, INFINITY), (int32_t)r->vocab };
    if (n <= LAST) {
        cand few[LAST];
        for (int64_t i = 0; i < n; i++) few[i] = (cand){ z[i], r->at[i], (double)w[i] };
        sort(few, n, by_logit);
        for (int64_t i = 0; i < n && base < want; i++)
            base += few[i].p, end = (limit){ few[i].logit, few[i].id };
    } else
        for (int64_t i = 0; i < n && base < want; i++)
            base += (double)w[i], end = (limit){ z[i], r->at[i] };
    return end;
}

/* Tokens as good as the last one of the limit, but behind it, lose their weight. */
static void cut(const fj_team *t, const row *r, limit end) {
    int64_t at = (int64_t)end.last + 1;
    if (at >= r->vocab) return;
    int64_t n = KERN(t)->between(r->at, r->z + at, end.from, end.from, r->vocab - at);
    for (int64_t i = 0; i < n; i++) r->w[at + r->at[i]] = 0;
}

static int32_t pick(const fj_team *t, row *r, const real *how, const int32_t *seen) {
    double top_p = how[FJ_PICK_TOP_P], min_p = how[FJ_PICK_MIN_P], penalty = how[FJ_PICK_PENALTY];
    int64_t k = (int64_t)how[FJ_PICK_TOP_K];
    r->t = how[FJ_PICK_TEMPERATURE];
    if (seen && penalty != 1) {
        memcpy(r->own, r->z, (size_t)r->vocab * sizeof *r->own);
        for (int64_t i = 0; i < (r->vocab + 31) / 32; i++)
            for (uint32_t bits = (uint32_t)seen[i]; bits; bits &= bits - 1) {
                int64_t id = i * 32 + __builtin_ctz(bits);
                if (id >= r->vocab) break;
                double l = (double)r->own[id];
                r->own[id] = (real)(l > 0 ? l / penalty : l * penalty);
            }
        r->z = r->own;
    }
    int64_t at = 0;
    for (int64_t i = 0; i < r->chunks; i++) {
        r->top[i] = KERN(t)->vmax(r->z + i * CHUNK, chunk_len(r, i));
        if (r->top[i] > r->top[at]) at = i;
    }
    r->best = (int32_t)(at * CHUNK);
    while (r->z[r->best] != r->top[at] && r->best + 1 < r->vocab) r->best++;
    r->most = (double)r->top[at];
    if (r->t == 0 || !isfinite(r->most)) return r->best;
    bool ranked = k && k < r->vocab;
    if (ranked && k <= FEW) {
        int64_t n = collect(r, floor_of(r, k));
        if (n > k) select_top(r->c, n, k), n = k;
        return draw_few(r, n, how, 0);
    }
    limit end = { (real)-INFINITY, (int32_t)r->vocab };
    if (ranked) { /* the same as top-p, of weights that are all 1 */
        for (int64_t i = 0; i < r->vocab; i++) r->w[i] = 1;
        end = reach(t, r, (double)k, (double)r->vocab, end.from);
    }
    real from = end.from; /* with min-p, a little below it: draw_few looks again */
    if (min_p > 0)
        from = FJ_MAX(from, (real)(r->most + r->t * log(min_p) - 1e-5 * (r->t + fabs(r->most))));
    if (!ranked && top_p >= 1 && min_p > 0) {
        int64_t n = KERN(t)->between(r->at, r->z, from, (real)r->most, r->vocab);
        for (int64_t i = 0; i < n && n <= FEW; i++) r->c[i] = (cand){ r->z[r->at[i]], r->at[i], 0 };
        if (n <= FEW) return draw_few(r, n, how, 0);
    }
    double all = weigh(t, r);
    if (ranked) {
        cut(t, r, end);
        all = KERN(t)->sum_from(r->w, r->z, end.from, r->vocab);
    }
    if (!(all > 0 && isfinite(all))) return r->best;
    if (top_p < 1) {
        /* Nothing weighs more than 1: so few cannot reach what a flat row wants. */
        if (!ranked && top_p * all < FEW) {
            int32_t id = draw_few(r, collect(r, floor_of(r, FEW)), how, all);
            if (id >= 0) return id;
        }
        /* All tokens below weigh less than what top-p leaves out. */
        real low = (real)(r->most - r->t * (log((double)r->vocab / (1 - top_p)) + 1));
        end = reach(t, r, top_p * all, all, FJ_MAX(low, end.from));
        cut(t, r, end);
    }
    from = end.from;
    if (min_p > 0) from = FJ_MAX(from, (real)(r->most + r->t * log(min_p)));
    return draw_many(t, r, how, from);
}

static int64_t chunks_of(int64_t vocab) { return (vocab + CHUNK - 1) / CHUNK; }

static size_t room(int64_t vocab, size_t one) {
    int64_t reals = (2 * vocab + 2 * chunks_of(vocab)) * (int64_t)one,
            parts = chunks_of(vocab) * (int64_t)sizeof(double);
    return (size_t)(vocab * (int64_t)(sizeof(cand) + sizeof(int32_t)) + parts + reals + 63) / 64 *
           64;
}

/* in: logits, how, seen (no columns: no penalty) */
FJ_CPU(sample) {
    const fj_tensor *x = n->in[0], *seen = n->in[2];
    int64_t vocab = x->cols, chunks = chunks_of(vocab);
    row r = { .vocab = vocab, .chunks = chunks };
    if (t->ith >= x->rows) return;
    r.c = (cand *)((char *)t->scratch + room(vocab, sizeof(real)) * (size_t)t->ith);
    r.part = (double *)(void *)(r.c + vocab);
    r.own = (real *)(void *)(r.part + chunks);
    r.w = r.own + vocab;
    r.top = r.w + vocab;
    r.copy = r.top + chunks;
    r.at = (int32_t *)(void *)(r.copy + chunks);
    for (int64_t i = t->ith; i < x->rows; i += t->nth) {
        r.z = fj_row(x, i);
        ((int32_t *)n->out[0]->data)[i] =
            pick(t, &r, fj_row(n->in[1], i),
                 seen->cols ? (const int32_t *)seen->data + i * seen->cols : NULL);
    }
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
    size_t one = n->f64 ? sizeof(double) : sizeof(float);
    return (n->f64 ? 2 : 1) * room(n->in[0]->cols, one) *
           (size_t)FJ_MIN((int64_t)o->threads, n->in[0]->rows);
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
