/* test_attn_tile.c - attention tiles against attention written out in f64: shuffled key blocks, odd
 * head sizes, groups, queries that start in the middle; and bits that do not depend on neighbours. */
#include "test_util.h"

#include "ops/attn_tile.h"

#include <math.h>

/* The double instance of attn_tile.h. */
void fj_attn_fwd_tile_f64(const fj_kern64 *, const double *, int64_t, int, int, int, const double *,
                          const double *, int64_t, const int32_t *, int64_t, double, double *,
                          int64_t, double *, int64_t, void *);
void fj_attn_bwd_group_f64(const fj_kern64 *, const double *, const double *, const double *,
                           int64_t, const double *, int64_t, int64_t, int, int, const double *,
                           const double *, int64_t, const int32_t *, int64_t, double, double *,
                           double *, double *, void *);

typedef struct problem {
    int rows, group, hd, pos0;
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

static problem make(fj_rng *r, int rows, int group, int hd, int pos0) {
    problem p = {
        .rows = rows, .group = group, .hd = hd, .pos0 = pos0, .ldq = group * hd + 5, .ldk = hd + 3
    };
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
    for (int i = 0; i < rows; i++)
        for (int h = 0; h < group; h++) {
            const double *q = p.qd + i * p.ldq + h * hd, *dy = p.dyd + i * p.ldq + h * hd;
            double *y = p.y + i * p.ldq + h * hd, *dq = p.dq + i * p.ldq + h * hd, sum = 0, d = 0;
            int n = pos0 + i + 1;
            for (int j = 0; j < n; j++) {
                s[j] = 0;
                for (int l = 0; l < hd; l++) s[j] += scale * q[l] * p.kd[slot(&p, j) + l];
                sum += exp(s[j]);
            }
            p.lse[i * group + h] = log(sum);
            for (int j = 0; j < n; j++)
                for (int l = 0; l < hd; l++) y[l] += exp(s[j]) / sum * p.vd[slot(&p, j) + l];
            for (int l = 0; l < hd; l++) d += dy[l] * y[l];
            for (int j = 0; j < n; j++) {
                double w = exp(s[j]) / sum, ds = 0;
                for (int l = 0; l < hd; l++) ds += dy[l] * p.vd[slot(&p, j) + l];
                ds = w * (ds - d) * scale;
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
                             p->ldk, p->blocks, p->pos0 + i, (float)(1 / sqrt(p->hd)),
                             y + i * p->ldq, p->ldq, lse + i * p->group, p->group, scratch);
    }
    untouched(scratch + n);
    free(scratch);
}

static void same(const char *what, const problem *p, const char *isa, const float *got,
                 const double *want, int64_t n, double bound) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            fail_msg("%s %s rows %d group %d hd %d pos0 %d: at %lld got %g want %g", isa, what,
                     p->rows, p->group, p->hd, p->pos0, (long long)i, got[i], want[i]);
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
                          p->k, p->v, p->ldk, p->blocks, p->pos0, (float)(1 / sqrt(p->hd)), dq, dk,
                          dv, scratch);
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
                             1 / sqrt(p->hd), y + i * p->ldq, p->ldq, lse + i * p->group, p->group,
                             scratch);
    fj_attn_bwd_group_f64(&kern, p->qd, y, p->dyd, p->ldq, lse, p->group, p->rows, p->group, p->hd,
                          p->kd, p->vd, p->ldk, p->blocks, p->pos0, 1 / sqrt(p->hd), dq, dk, dv,
                          scratch);
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
    static const int cases[][4] = { { 1, 1, 8, 0 },    { 1, 3, 64, 100 }, { 5, 2, 16, 30 },
                                    { 33, 1, 48, 0 },  { 70, 3, 64, 0 },  { 40, 2, 12, 17 },
                                    { 64, 1, 80, 64 }, { 31, 4, 128, 1 }, { 96, 1, 8, 0 } };
    static const char *const isas[] = { "scalar", "avx2", "avx512" };
    fj_rng r = fj_test_rng();
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        problem p = make(&r, cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
        for (size_t v = 0; v < FJ_LEN(isas); v++) {
            fj_kern kern;
            if (fj_kern_init(&kern, isas[v], NULL)) one(&p, &kern);
        }
        one64(&p);
        drop(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_against_f64) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
