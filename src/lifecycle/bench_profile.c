/* bench_profile.c - where the time of a measurement goes, op by op and weight by weight. */
#include "lifecycle/bench.h"
#include "ops/cost.h"

static void ran(void *ctx, const fj_node *n, double seconds) {
    fj_profile *p = ctx;
    fj_cost c;
    fj_cost_of(n, &c);
    fj_profile_row r = { .op = n->op->name };
    if (c.w) {
        r.type = c.w->dtype;
        r.rows = c.w->rows;
        r.cols = c.w->cols;
        r.mixed = c.w->mixed;
    }
    fj_profile_row *x = NULL;
    for (size_t i = 0; i < p->n && !x; i++)
        if (!strcmp(p->v[i].op, r.op) && p->v[i].type == r.type && p->v[i].rows == r.rows &&
            p->v[i].cols == r.cols && p->v[i].mixed == r.mixed)
            x = &p->v[i];
    if (!x) {
        FJ_GROW(p->v, p->n + 1, p->cap);
        x = &p->v[p->n++];
        *x = r;
    }
    x->calls++;
    x->seconds += seconds;
    x->flops += c.flops;
    x->bytes += c.bytes;
}

void fj_profile_begin(fj_profile *p, fj_dev *d) {
    p->f32 = d->plan.f32;
    d->ran_ctx = p;
    d->ran = ran;
}

void fj_profile_end(fj_profile *p, fj_dev *d, double seconds, int64_t runs) {
    double n = (double)runs, inside = 0;
    d->ran = NULL;
    for (size_t i = 0; i < p->n; i++) {
        fj_profile_row *r = &p->v[i];
        r->calls /= n;
        r->seconds /= n;
        r->flops /= n;
        r->bytes /= n;
        inside += r->seconds;
    }
    p->seconds = seconds / n;
    p->outside = FJ_MAX(p->seconds - inside, 0);
}

static int longest(const void *a, const void *b) {
    double x = ((const fj_profile_row *)a)->seconds, y = ((const fj_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* What the products of a row are made of (gemm.h). */
static fj_peak_kind arithmetic(const fj_profile *p, const fj_profile_row *r) {
    bool dw = ends(r->op, "_dw"), back = dw || ends(r->op, "_dx");
    if (p->f32) return FJ_PEAK_F32;
    if (!r->rows || dw || r->mixed) return FJ_PEAK_BF16; /* without a weight: attention */
    return fj_bench_arithmetic(r->type, back || !strcmp(r->op, "head_ce"));
}

void fj_profile_judge(fj_profile *p, const fj_peak_rates peak[FJ_PEAKS]) {
    if (p->n) qsort(p->v, p->n, sizeof *p->v, longest);
    for (size_t i = 0; i < p->n; i++) {
        fj_profile_row *r = &p->v[i];
        fj_peak_kind k = arithmetic(p, r);
        double read = peak[FJ_PEAK_READ].best, ops = peak[k].best;
        double by_bytes = read > 0 ? r->bytes / 1e9 / read : 0,
               by_flops = ops > 0 ? r->flops / 1e9 / ops : 0;
        r->of = by_flops > by_bytes ? k : FJ_PEAK_READ;
        r->share = r->seconds > 0 ? FJ_MAX(by_flops, by_bytes) / r->seconds : 0;
    }
}

void fj_profile_free(fj_profile *p) {
    free(p->v);
    *p = (fj_profile){ 0 };
}
