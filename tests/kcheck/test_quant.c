/* test_quant.c - rows to blocks: the same bytes on every instruction set of this CPU; never further off than the
 * quantisers of base/dtype.h, which are those of ggml; importance counts; and values nobody should have made. */
#include "test_util.h"

#include "base/blocks.h"
#include "kernels/quant.h"

#include <float.h>
#include <math.h>

enum { ROWS = 3, COLS = 512, N = ROWS * COLS, GUARD = 64 };

static void draw(fj_rng *r, int kind, float *x, int n) {
    double size = exp(fmin(3 * fj_rng_normal(r), 5)), shift = kind == 4 ? 5 : 0;
    for (int i = 0; i < n; i++) {
        double v = fj_rng_normal(r), u = fj_rng_double(r);
        if (kind == 1) v = 2 * u - 1;                           /* uniform */
        if (kind == 2) v = v / (0.05 + fabs(fj_rng_normal(r))); /* long tails */
        if (kind == 3 && u < 0.01) v *= 30;                     /* outliers */
        if (kind == 5) v = round(3 * v);                        /* few values */
        if (kind == 6 && u < 0.7) v = 0;                        /* sparse */
        if (kind == 7) v = fabs(v);
        x[i] = (float)((v + shift) * size);
    }
}
enum { KINDS = 8 };
static const char *const kinds[] = { "normal", "uniform",    "long tails", "outliers",
                                     "offset", "few values", "sparse",     "positive" };

static double off(fj_dtype t, const uint8_t *q, const float *x, const float *w) {
    static float y[N];
    double sum = 0;
    fj_dequant_row(t, q, y, N);
    for (int i = 0; i < N; i++) sum += (w ? (double)w[i % COLS] : 1) * pow((double)y[i] - x[i], 2);
    return sum;
}

static void importance_of(fj_rng *r, float *w) {
    for (int i = 0; i < COLS; i++)
        w[i] = fj_rng_below(r, 6) ? (float)(1e4 * pow(fj_rng_double(r), 4)) : 0;
}

static void test_same_bytes(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static float x[N], w[COLS];
    static uint8_t want[N * 8], got[N * 8 + GUARD];
    fj_kern ref;
    assert_true(fj_kern_init(&ref, "scalar", NULL));
    for (int t = 0; t < FJ_DTYPES; t++) {
        if (!fj_quant_can((fj_dtype)t)) continue;
        size_t n = (size_t)fj_dtype_size((fj_dtype)t, ROWS, COLS);
        for (int k = 0; k < 2 * KINDS; k++) {
            if (!FJ_IN_TURN(k + t, 7)) continue;
            draw(&r, k / 2, x, N);
            importance_of(&r, w);
            const float *importance = k % 2 ? w : NULL;
            fj_quant_rows(&ref, (fj_dtype)t, x, importance, want, ROWS, COLS);
            for (int v = 1; fj_kern_step(v); v++) {
                fj_kern kern;
                if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
                memset(got, 0x5a, sizeof got);
                fj_quant_rows(&kern, (fj_dtype)t, x, importance, got, ROWS, COLS);
                if (memcmp(got, want, n))
                    fail_msg("%s: %s differs from scalar on %s%s", fj_dtype_get((fj_dtype)t)->name,
                             fj_kern_step(v), kinds[k / 2], importance ? " with importance" : "");
                for (int i = 0; i < GUARD; i++) assert_int_equal(got[n + (size_t)i], 0x5a);
                /* a row does not depend on the others */
                fj_quant_rows(&kern, (fj_dtype)t, x + COLS, importance, got, 1, COLS);
                assert_memory_equal(got, want + n / ROWS, n / ROWS);
            }
        }
    }
}

/* Those of base/dtype.h have the bytes of ggml (tests/unit/test_dtype.c); the others the bound of the format's
 * step.  With importance the sum that it weighs is smaller than without. */
static void test_quality(void **state) {
    (void)state;
    static const struct {
        fj_dtype t;
        double rms; /* of N(0, 1), relative */
    } list[] = { { FJ_Q8_0, 0.006 }, { FJ_Q4_0, 0.088 }, { FJ_MXFP4, 0.12 }, { FJ_Q4_K, 0.072 },
                 { FJ_Q6_K, 0.019 }, { FJ_Q4_1, 0.078 }, { FJ_Q5_0, 0.044 }, { FJ_Q5_1, 0.038 },
                 { FJ_Q2_K, 0.29 },  { FJ_Q3_K, 0.16 },  { FJ_Q5_K, 0.036 }, { FJ_IQ4_NL, 0.078 },
                 { FJ_IQ4_XS, 0.08 } };
    fj_rng r = fj_test_rng();
    static float x[N], w[COLS];
    static uint8_t q[N * 2], plain[N * 2];
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    for (size_t f = 0; f < FJ_LEN(list); f++) {
        fj_dtype t = list[f].t;
        const char *name = fj_dtype_get(t)->name;
        for (int k = 0; k < KINDS; k++) {
            if (!FJ_IN_TURN(f + (size_t)k, 5)) continue;
            double all = 0, ours = 0, theirs = 0, with = 0, without = 0;
            for (int round = 0; round < 8; round++) {
                draw(&r, k, x, N);
                importance_of(&r, w);
                double size = 0;
                for (int i = 0; i < N; i++) size += pow((double)x[i], 2);
                fj_quant_rows(&kern, t, x, NULL, q, ROWS, COLS);
                ours += off(t, q, x, NULL) / size;
                without += off(t, q, x, w) / size;
                all += 1;
                if (fj_dtype_quantises(t)) {
                    fj_quant_row(t, x, plain, N);
                    theirs += off(t, plain, x, NULL) / size;
                }
                fj_quant_rows(&kern, t, x, w, q, ROWS, COLS);
                with += off(t, q, x, w) / size;
            }
            if (k == 0 && !(sqrt(ours / all) < list[f].rms))
                fail_msg("%s: off by %g of normal values", name, sqrt(ours / all));
            if (fj_dtype_quantises(t) && !(ours <= theirs * (1 + 1e-6)))
                fail_msg("%s, %s: %g, the reference %g", name, kinds[k], ours, theirs);
            if (t != FJ_Q8_0 && !(with <= without * (k == 5 ? 1.02 : 1 + 1e-9)))
                fail_msg("%s, %s: importance makes %g of %g", name, kinds[k], with, without);
        }
    }
}

/* What is all the same comes out as it went in, as far as f16 and whole scales can say it. */
static void test_constant(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static float x[N], y[N];
    static uint8_t q[N * 8];
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    for (int t = 0; t < FJ_DTYPES; t++) {
        if (!fj_quant_can((fj_dtype)t) || t == FJ_NF4) continue;
        for (int k = 0; k < 20; k++) {
            float v = k < 2 ? 0 : (float)((k % 2 ? -1 : 1) * exp(fabs(fj_rng_normal(&r))));
            for (int i = 0; i < N; i++) x[i] = k == 1 ? -0.0f : v;
            fj_quant_rows(&kern, (fj_dtype)t, x, NULL, q, ROWS, COLS);
            fj_dequant_row((fj_dtype)t, q, y, N);
            double allowed = t == FJ_MXFP4 ? 0.21 : t == FJ_BF16 ? 0x1p-8 : 0x1p-10;
            for (int i = 0; i < N; i++)
                if (!(fabs((double)y[i] - v) <= allowed * fabs((double)v)))
                    fail_msg("%s: %g comes out as %g", fj_dtype_get((fj_dtype)t)->name, v, y[i]);
        }
    }
}

/* Run under the undefined-behaviour sanitizer bad casts would stop the process; blocks of finite numbers give
 * finite numbers. */
static void test_hostile(void **state) {
    (void)state;
    static const float bad[] = {
        NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e-40f, -1e-45f, 1e9f
    };
    static float x[COLS], w[COLS], y[COLS];
    static uint8_t q[COLS * 8];
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        for (int t = 0; t < FJ_DTYPES; t++) {
            bool blocks = fj_dtype_get((fj_dtype)t)->block > 1 && t != FJ_NF4;
            if (!fj_quant_can((fj_dtype)t)) continue;
            for (size_t k = 0; k < FJ_LEN(bad); k++)
                for (int how = 0; how < 12; how++) {
                    for (int i = 0; i < COLS; i++) {
                        x[i] = how % 3 == 0 || i % 5 == 0 ? bad[k]
                               : how % 3 == 1             ? 0.25f
                                                          : (float)i;
                        w[i] = how / 3 == 1 ? bad[k] : how / 3 == 2 ? 0 : i % 7 ? 1 : bad[k];
                    }
                    fj_quant_rows(&kern, (fj_dtype)t, x, how / 3 ? w : NULL, q, 1, COLS);
                    fj_dequant_row((fj_dtype)t, q, y, COLS);
                    for (int i = 0; blocks && i < COLS; i++)
                        if (!isfinite(y[i]))
                            fail_msg("%s, %s: value %d of %g is %g", kern.isa,
                                     fj_dtype_get((fj_dtype)t)->name, i, x[i], y[i]);
                    for (int i = 0; how % 3 == 1 && blocks && !isfinite(bad[k]) && i < COLS; i++)
                        if (i % 5 && fabsf(y[i] - 0.25f) > 0.06f)
                            fail_msg("%s: a value beside %g went to %g",
                                     fj_dtype_get((fj_dtype)t)->name, bad[k], y[i]);
                }
        }
    }
}

/* The comparison sees a set that is off by one bit of one scale. */
static void (*real_q8_0)(void *, const float *, int64_t);
static void wrong_q8_0(void *dst, const float *x, int64_t n) {
    real_q8_0(dst, x, n);
    *(uint8_t *)dst ^= 1;
}

static void test_planted(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static float x[N];
    static uint8_t a[N * 2], b[N * 2];
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    draw(&r, 0, x, N);
    fj_quant_rows(&kern, FJ_Q8_0, x, NULL, a, ROWS, COLS);
    double right = off(FJ_Q8_0, a, x, NULL);
    real_q8_0 = kern.quant_q8_0;
    kern.quant_q8_0 = wrong_q8_0;
    fj_quant_rows(&kern, FJ_Q8_0, x, NULL, b, ROWS, COLS);
    assert_true(memcmp(a, b, (size_t)fj_dtype_size(FJ_Q8_0, ROWS, COLS)) != 0);
    assert_true(off(FJ_Q8_0, b, x, NULL) != right);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted), cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_quality), cmocka_unit_test(test_constant),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
