/* test_attn_tile.c - attention tiles against attention written out in f64: shuffled key blocks, odd
 * head sizes, groups, queries that start in the middle, windows, caps and sinks; bits that do not depend on
 * neighbours; and keys before every window that are never touched. */
#include "test_util.h"

#include "ops/attn_tile.h"

#include <math.h>

/* The double instance of attn_tile.h. */
void fj_attn_fwd_tile_f64(const fj_kern64 *, const double *, int64_t, int, int, int, const double *,
                          const double *, int64_t, const int32_t *, int64_t, const fj_attn_rule *,
                          const double *, double *, int64_t, double *, int64_t, void *);
void fj_attn_bwd_group_f64(const fj_kern64 *, const double *, const double *, const double *,
                           int64_t, const double *, int64_t, int64_t, int, int, const double *,
                           const double *, int64_t, const int32_t *, int64_t, const fj_attn_rule *,
                           double *, double *, double *, void *);

typedef struct problem {
    int rows, group, hd, pos0;
    fj_attn_rule rule;
    bool has_sinks;
    float sinks[4];
    double sinksd[4];
    int64_t ldq, ldk, nq, nk;
    float *q, *k, *v, *dy;
    double *qd, *kd, *vd, *dyd;     /* the same */
    double *y, *lse, *dq, *dk, *dv; /* written out */
    int32_t *blocks;
} problem;

static void both(fj_rng *r, int64_t n, float **f, double **d) {
    *f = fj_alloc((size_t)n * sizeof **f), *d = fj_alloc((size_t)n * sizeof **d);
    for (int64_t i = 0; i < n; i++) (*d)[i] = (*f)[i] = (float)fj_rng_normal(r);
}

static int64_t slot(const problem *p, int64_t pos) {
    return (p->blocks[pos / 32] + pos % 32) * p->ldk;
}

static const float *sinks(const problem *p) { return p->has_sinks ? p->sinks : NULL; }

static problem make(fj_rng *r, int rows, int group, int hd, int pos0, int window, double cap,
                    bool has_sinks) {
    problem p = { .rows = rows,
                  .group = group,
                  .hd = hd,
                  .pos0 = pos0,
                  .rule = { 1 / sqrt(hd), cap, window },
                  .has_sinks = has_sinks,
                  .ldq = group * hd + 5,
                  .ldk = hd + 3 };
    for (int h = 0; h < group; h++) p.sinksd[h] = p.sinks[h] = (float)fj_rng_normal(r);
    int keys = pos0 + rows, nb = (keys + 31) / 32;
    p.nq = rows * p.ldq;
    p.nk = (nb * 32) * p.ldk;
    p.blocks = fj_alloc((size_t)nb * sizeof *p.blocks);
    for (int b = 0; b < nb; b++) p.blocks[b] = b * 32;
    for (int b = 0; b + 2 < nb; b++) { /* the last, which is cut short, stays last */
        int o = b + (int)fj_rng_below(r, (uint64_t)(nb - 1 - b));
        int32_t t = p.blocks[b];
        p.blocks[b] = p.blocks[o], p.blocks[o] = t;
    }
    p.nk = (p.blocks[nb - 1] + (keys - 1) % 32) * p.ldk + hd;
    both(r, p.nq, &p.q, &p.qd), both(r, p.nk, &p.k, &p.kd), both(r, p.nk, &p.v, &p.vd),
        both(r, p.nq, &p.dy, &p.dyd);
    p.y = fj_zalloc((size_t)p.nq * 8), p.dq = fj_zalloc((size_t)p.nq * 8),
    p.lse = fj_zalloc((size_t)(rows * group) * 8);
    p.dk = fj_zalloc((size_t)p.nk * 8), p.dv = fj_zalloc((size_t)p.nk * 8);
    double scale = 1 / sqrt(hd), *s = fj_alloc((size_t)keys * 8);
    int first = window && pos0 >= window ? (pos0 - window + 1) / 32 * 32 : 0;
    for (int j = 0; j < first; j++) /* in blocks that no query sees: NaN would show */
        for (int l = 0; l < hd; l++) {
            p.k[slot(&p, j) + l] = p.v[slot(&p, j) + l] = NAN;
            p.kd[slot(&p, j) + l] = p.vd[slot(&p, j) + l] = NAN;
        }
    for (int i = 0; i < rows; i++)
        for (int h = 0; h < group; h++) {
            const double *q = p.qd + i * p.ldq + h * hd, *dy = p.dyd + i * p.ldq + h * hd;
            double *y = p.y + i * p.ldq + h * hd, *dq = p.dq + i * p.ldq + h * hd, sum = 0, d = 0;
            int n = pos0 + i + 1, from = window && n > window ? n - window : 0;
            if (has_sinks) sum = exp(p.sinksd[h]);
            for (int j = from; j < n; j++) {
                s[j] = 0;
                for (int l = 0; l < hd; l++) s[j] += scale * q[l] * p.kd[slot(&p, j) + l];
                if (cap > 0) s[j] = cap * tanh(s[j] / cap);
                sum += exp(s[j]);
            }
            p.lse[i * group + h] = log(sum);
            for (int j = from; j < n; j++)
                for (int l = 0; l < hd; l++) y[l] += exp(s[j]) / sum * p.vd[slot(&p, j) + l];
            for (int l = 0; l < hd; l++) d += dy[l] * y[l];
            for (int j = from; j < n; j++) {
                double w = exp(s[j]) / sum, ds = 0;
                for (int l = 0; l < hd; l++) ds += dy[l] * p.vd[slot(&p, j) + l];
                ds = w * (ds - d) * scale;
                if (cap > 0) ds *= 1 - s[j] / cap * (s[j] / cap);
                for (int l = 0; l < hd; l++) {
                    dq[l] += ds * p.kd[slot(&p, j) + l];
                    p.dk[slot(&p, j) + l] += ds * q[l];
                    p.dv[slot(&p, j) + l] += w * dy[l];
                }
            }
        }
    free(s);
    return p;
}

static void drop(problem *p) {
    free(p->q), free(p->k), free(p->v), free(p->dy), free(p->qd), free(p->kd), free(p->vd),
        free(p->dyd);
    free(p->y), free(p->lse), free(p->dq), free(p->dk), free(p->dv), free(p->blocks);
}

static void *take(size_t n) {
    void *p;
    assert_int_equal(posix_memalign(&p, 64, n + 64), 0);
    memset(p, 0xff, n);
    memset((char *)p + n, 0x5a, 64);
    return p;
}

static void untouched(const char *p) {
    for (int i = 0; i < 64; i++)
        if (p[i] != 0x5a) fail_msg("wrote beyond its scratch");
}

static void forward(const problem *p, const fj_kern *kern, int step, float *y, float *lse) {
    size_t n = fj_attn_fwd_scratch(p->group, p->hd);
    char *scratch = take(n);
    for (int i = 0; i < p->rows; i += step) {
        int nq = p->rows - i < step ? p->rows - i : step;
        fj_attn_fwd_tile_f32(kern, p->q + i * p->ldq, p->ldq, nq, p->group, p->hd, p->k, p->v,
                             p->ldk, p->blocks, p->pos0 + i, &p->rule, sinks(p), y + i * p->ldq,
                             p->ldq, lse + i * p->group, p->group, scratch);
    }
    untouched(scratch + n);
    free(scratch);
}

static void same(const char *what, const problem *p, const char *isa, const float *got,
                 const double *want, int64_t n, double bound) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            fail_msg(
                "%s %s rows %d group %d hd %d pos0 %d window %d cap %g sinks %d: at %lld got %g want %g",
                isa, what, p->rows, p->group, p->hd, p->pos0, (int)p->rule.window, p->rule.softcap,
                p->has_sinks, (long long)i, got[i], want[i]);
}

static void same64(const char *what, const double *got, const double *want, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-12 * (1 + fabs(want[i]))))
            fail_msg("f64 %s: at %lld got %g want %g", what, (long long)i, got[i], want[i]);
}

static void one(const problem *p, const fj_kern *kern) {
    size_t bytes = fj_attn_bwd_scratch(p->rows, p->group, p->hd);
    float *y = fj_zalloc((size_t)p->nq * 4), *lse = fj_zalloc((size_t)(p->rows * p->group) * 4);
    float *y1 = fj_zalloc((size_t)p->nq * 4), *lse1 = fj_zalloc((size_t)(p->rows * p->group) * 4);
    float *dq = fj_zalloc((size_t)p->nq * 4), *dk = fj_zalloc((size_t)p->nk * 4),
          *dv = fj_zalloc((size_t)p->nk * 4);
    forward(p, kern, 32, y, lse);
    same("y", p, kern->isa, y, p->y, p->nq, 2e-6);
    same("lse", p, kern->isa, lse, p->lse, p->rows * p->group, 1e-6);
    /* the bits of a query in other company */
    static const int steps[] = { 1, 7, 20 };
    for (size_t i = 0; i < FJ_LEN(steps); i++) {
        forward(p, kern, steps[i], y1, lse1);
        assert_memory_equal(y, y1, (size_t)p->nq * 4);
        assert_memory_equal(lse, lse1, (size_t)(p->rows * p->group) * 4);
    }
    char *scratch = take(bytes);
    fj_attn_bwd_group_f32(kern, p->q, y, p->dy, p->ldq, lse, p->group, p->rows, p->group, p->hd,
                          p->k, p->v, p->ldk, p->blocks, p->pos0, &p->rule, dq, dk, dv, scratch);
    untouched(scratch + bytes);
    free(scratch);
    same("dq", p, kern->isa, dq, p->dq, p->nq, 1e-5);
    same("dk", p, kern->isa, dk, p->dk, p->nk, 2e-5);
    same("dv", p, kern->isa, dv, p->dv, p->nk, 2e-5);
    free(y), free(lse), free(y1), free(lse1), free(dq), free(dk), free(dv);
}

static void one64(const problem *p) {
    fj_kern64 kern;
    fj_kern64_init(&kern);
    size_t fb = fj_attn_fwd_scratch(p->group, p->hd),
           bb = fj_attn_bwd_scratch(p->rows, p->group, p->hd);
    char *scratch = take(fb > bb ? fb : bb);
    double *y = fj_zalloc((size_t)p->nq * 8), *lse = fj_zalloc((size_t)(p->rows * p->group) * 8);
    double *dq = fj_zalloc((size_t)p->nq * 8), *dk = fj_zalloc((size_t)p->nk * 8),
           *dv = fj_zalloc((size_t)p->nk * 8);
    for (int i = 0; i < p->rows; i += 32)
        fj_attn_fwd_tile_f64(&kern, p->qd + i * p->ldq, p->ldq, p->rows - i < 32 ? p->rows - i : 32,
                             p->group, p->hd, p->kd, p->vd, p->ldk, p->blocks, p->pos0 + i,
                             &p->rule, p->has_sinks ? p->sinksd : NULL, y + i * p->ldq, p->ldq,
                             lse + i * p->group, p->group, scratch);
    fj_attn_bwd_group_f64(&kern, p->qd, y, p->dyd, p->ldq, lse, p->group, p->rows, p->group, p->hd,
                          p->kd, p->vd, p->ldk, p->blocks, p->pos0, &p->rule, dq, dk, dv, scratch);
    untouched(scratch + (fb > bb ? fb : bb));
    same64("y", y, p->y, p->nq);
    same64("lse", lse, p->lse, p->rows * p->group);
    same64("dq", dq, p->dq, p->nq);
    same64("dk", dk, p->dk, p->nk);
    same64("dv", dv, p->dv, p->nk);
    free(scratch), free(y), free(lse), free(dq), free(dk), free(dv);
}

static void test_against_f64(void **state) {
    (void)state;
    static const struct {
        int rows, group, hd, pos0, window;
        double cap;
        bool sinks;
    } cases[] = {
        { 1, 1, 8, 0, 0, 0, false },      { 1, 3, 64, 100, 0, 0, false },
        { 5, 2, 16, 30, 0, 0, false },    { 33, 1, 48, 0, 0, 0, false },
        { 70, 3, 64, 0, 0, 0, false },    { 40, 2, 12, 17, 0, 0, false },
        { 64, 1, 80, 64, 0, 0, false },   { 31, 4, 128, 1, 0, 0, false },
        { 96, 1, 8, 0, 0, 0, false },     { 70, 3, 16, 0, 1, 0, false },
        { 100, 2, 12, 0, 7, 0, false },   { 100, 2, 12, 45, 32, 0, false },
        { 40, 1, 24, 131, 33, 0, false }, { 1, 4, 64, 200, 40, 0, false },
        { 130, 2, 8, 3, 64, 0, false },   { 40, 2, 12, 17, 1000, 0, false },
        { 70, 2, 16, 9, 0, 1.5, false },  { 70, 3, 16, 0, 0, 0, true },
        { 90, 4, 20, 77, 50, 2, true },
    };
    fj_rng r = fj_test_rng();
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        problem p = make(&r, cases[i].rows, cases[i].group, cases[i].hd, cases[i].pos0,
                         cases[i].window, cases[i].cap, cases[i].sinks);
        for (int v = 0; fj_kern_step(v); v++) {
            fj_kern kern;
            if (fj_kern_init(&kern, fj_kern_step(v), NULL)) one(&p, &kern);
        }
        one64(&p);
        drop(&p);
    }
}

/* A window that reaches to the start gives the bits of none, and the last one that does not gives others. */
static void test_window_that_hides_nothing(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    problem p = make(&r, 70, 2, 16, 9, 0, 0, false);
    size_t ny = (size_t)p.nq * 4, nl = (size_t)(p.rows * p.group) * 4;
    float *y = fj_zalloc(ny), *lse = fj_zalloc(nl), *y1 = fj_zalloc(ny), *lse1 = fj_zalloc(nl);
    forward(&p, &kern, 32, y, lse);
    p.rule.window = 79;
    forward(&p, &kern, 32, y1, lse1);
    assert_memory_equal(y, y1, ny);
    assert_memory_equal(lse, lse1, nl);
    p.rule.window = 78;
    forward(&p, &kern, 32, y1, lse1);
    size_t last = (size_t)(p.rows - 1) * (size_t)p.group;
    assert_memory_equal(lse, lse1, last * 4);
    for (int h = 0; h < p.group; h++) assert_true(lse1[last + (size_t)h] < lse[last + (size_t)h]);
    free(y), free(lse), free(y1), free(lse1);
    drop(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_against_f64),
                                        cmocka_unit_test(test_window_that_hides_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
