/* test_odd.c - products with weights and rows that no model should have: every format and instruction set, with scales
 * of zero, the smallest, the largest, infinities and NaNs, rows alike, sizes of one, blocks at odd addresses.
 *
 * Where f64 has a number the product has it within the rounding of rows; where f64 has none the product has
 * none either, and never a plausible number; panels and rows of the file have the same bits. */
#include "test_util.h"

#include "any_blocks.h"
#include "ops/gemm.h"

#include <float.h>
#include <math.h>

enum { ROWS = 9 };
static int wrong; /* all of them are told before the test ends */
#define WRONG(...) (wrong++ < 40 ? (void)print_error(__VA_ARGS__) : (void)0)

static void *take(size_t n) {
    void *p = aligned_alloc(64, (n + 63) / 64 * 64 + 64);
    assert_non_null(p);
    return p;
}

static bool formats(fj_dtype t) { return t != FJ_I32 && t != FJ_F64; }

/* Scales of f16: nothing, the smallest, the smallest that is normal, some number, the largest, and no numbers. */
static const uint16_t halves[] = { 0,      0x8000, 1,      0x8001, 0x0400, 0x2400,
                                   0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00 };

static float of_half(uint16_t h) { return fj_f16_to_f32(h); }

/* n rows of k values; each row has one scale of the list in one of its blocks, ordinary ones elsewhere. */
static void odd_weights(fj_rng *r, fj_dtype t, uint8_t *to, int64_t n, int64_t k) {
    const fj_dtype_info *d = fj_dtype_get(t);
    for (int64_t i = 0; i < n; i++) {
        uint8_t *row = to + i * fj_dtype_size(t, 1, k);
        uint16_t h = halves[fj_rng_below(r, FJ_LEN(halves))];
        int64_t at = (int64_t)fj_rng_below(r, (uint64_t)(k / d->block));
        uint8_t *b = row + at * d->bytes;
        if (d->block == 1) {
            for (int64_t j = 0; j < k; j++) {
                float v = j == at ? of_half(h) : (float)fj_rng_normal(r);
                fj_quant_row(t, &v, row + j * d->bytes, 1);
            }
            continue;
        }
        if (t == FJ_MXFP4 || t == FJ_NF4) {
            float v[256];
            for (int64_t j = 0; j < k; j += d->block) {
                for (int c = 0; c < d->block; c++) v[c] = (float)fj_rng_normal(r);
                fj_quant_row(t, v, row + j / d->block * d->bytes, d->block);
            }
            static const uint8_t powers[] = { 0, 1, 127, 200, 252 };
            if (t == FJ_MXFP4) b[0] = powers[fj_rng_below(r, FJ_LEN(powers))];
            else memcpy(b, &h, 2);
            continue;
        }
        any_row(r, t, row, k, 0.5);
        any_scale(t, b, of_half(h));
    }
}

/* Rows of x: zeros, ordinary, the smallest, small, large, one outlier, a NaN, an infinity, one value alone. */
static void odd_rows(fj_rng *r, float *x, int64_t k) {
    static const float sizes[ROWS] = { 0, 1, 1e-44f, 1e-30f, 1e28f, 1, 1, 1, 0 };
    for (int i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < k; j++)
            x[i * k + j] = sizes[i] ? (float)(sizes[i] * fj_rng_normal(r)) : 0;
    int64_t at = (int64_t)fj_rng_below(r, (uint64_t)k);
    x[5 * k + at] = 1e6f;
    x[6 * k + at] = NAN;
    x[7 * k + at] = INFINITY;
    x[8 * k + at] = -3;
}

static float *product(const fj_kern *kern, const fj_wmat *w, const float *x, int64_t m, bool f32) {
    fj_team t = { .nth = 1, .kern = kern, .f32 = f32 };
    t.scratch = take(fj_gemm_fwd_scratch(m, w, 1, f32));
    float *y = take((size_t)(m * w->n) * sizeof *y + 4);
    y[m * w->n] = 77;
    fj_gemm_fwd_f32(&t, m, x, w->k, w, y, w->n, 1, false);
    assert_true(y[m * w->n] == 77);
    free(t.scratch);
    return y;
}

static void compare(const fj_kern *kern, const fj_wmat *w, const float *x, const float *y,
                    const uint8_t *rows, bool f32) {
    double *v = take((size_t)w->k * sizeof *v);
    float *f = take((size_t)w->k * sizeof *f);
    for (int64_t n = 0; n < w->n; n++) {
        fj_dequant_row(w->dtype, rows + n * fj_dtype_size(w->dtype, 1, w->k), f, w->k);
        for (int i = 0; i < ROWS; i++) {
            double sum = 0, size = 0, most = 0, all = 0;
            for (int64_t j = 0; j < w->k; j++) {
                double a = x[i * w->k + j], b = f[j];
                sum += a * b;
                size += fabs(a * b);
                all += fabs(b);
                most = fmax(most, fabs(a));
            }
            float got = y[i * w->n + n];
            const char *name = fj_dtype_get(w->dtype)->name;
            if (!isfinite(sum)) {
                if (isfinite(got))
                    WRONG("%s %s: row %d, column %lld: %g, where f64 has %g\n", kern->isa, name, i,
                          (long long)n, (double)got, sum);
                continue;
            }
            /* Sums that leave the range of f32 on the way may be anything but a plausible number. */
            if (all * fmax(most, 1) > 1e36) continue;
            double allowed = f32 ? size * 1e-4 + 1e-37 : all * most / 60 + all * 1e-37 + 1e-37;
            if (!(fabs(got - sum) <= allowed))
                WRONG("%s %s%s: row %d, column %lld: %g, not %g (allowed %g)\n", kern->isa, name,
                      f32 ? " in f32" : "", i, (long long)n, (double)got, sum, allowed);
        }
    }
    free(v), free(f);
}

static void same(const fj_kern *kern, const fj_wmat *w, const float *a, const float *b, int64_t n,
                 const char *what) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4) && !(isnan(a[i]) && isnan(b[i]))) {
            WRONG("%s %s, %s: %g, not %g\n", kern->isa, fj_dtype_get(w->dtype)->name, what,
                  (double)a[i], (double)b[i]);
            return;
        }
}

static void test_extremes(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int s = 0; fj_kern_step(s); s++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(s), NULL)) continue;
        for (int t = 0; t < FJ_DTYPES; t++)
            for (int c = 0; c < 3; c++) {
                if (!formats((fj_dtype)t)) continue;
                static const int64_t columns[] = { 1, 33, 70 };
                int64_t block = fj_dtype_get((fj_dtype)t)->block, n = columns[c],
                        k = block == 1 ? (c == 0 ? 1 : 64 * c + 1) : block * (1 + c);
                size_t bytes = (size_t)fj_dtype_size((fj_dtype)t, n, k);
                int64_t packed = fj_wmat_packed_bytes((fj_dtype)t, n, k);
                uint8_t *rows = take(bytes + 16), *panels = take((size_t)FJ_MAX(packed, 1));
                memset(panels, 0,
                       (size_t)FJ_MAX(packed, 1)); /* what fills up the last line stays */
                float *x = take((size_t)(ROWS * k) * sizeof *x);
                odd_weights(&r, (fj_dtype)t, rows, n, k);
                odd_rows(&r, x, k);
                fj_wmat w = { .dtype = (fj_dtype)t, .data = rows, .n = n, .k = k };
                for (int f32 = 0; f32 < 2; f32++) {
                    float *y = product(&kern, &w, x, ROWS, f32);
                    compare(&kern, &w, x, y, rows, f32);
                    for (int i = 0; i < ROWS; i++) { /* alone */
                        float *one = product(&kern, &w, x + i * k, 1, f32);
                        same(&kern, &w, one, y + i * n, n, "a row alone");
                        free(one);
                    }
                    if (packed > 0) {
                        fj_wmat_pack(&kern, w.dtype, n, k, rows, panels, 0, 1);
                        fj_wmat p = w;
                        p.panels = true;
                        p.data = panels;
                        float *again = product(&kern, &p, x, ROWS, f32);
                        same(&kern, &w, again, y, ROWS * n, "panels");
                        free(again);
                    }
                    /* Blocks anywhere in a mapped file: what was aligned has the same bits. */
                    if (block > 1) {
                        memmove(rows + 6, rows, bytes);
                        w.data = rows + 6;
                        float *moved = product(&kern, &w, x, ROWS, f32);
                        same(&kern, &w, moved, y, ROWS * n, "an odd address");
                        if (packed > 0) {
                            uint8_t *other = take((size_t)packed);
                            memset(other, 0, (size_t)packed);
                            fj_wmat_pack(&kern, w.dtype, n, k, rows + 6, other, 0, 1);
                            assert_memory_equal(other, panels, (size_t)packed);
                            free(other);
                        }
                        free(moved);
                        memmove(rows, rows + 6, bytes);
                        w.data = rows;
                    }
                    free(y);
                }
                free(rows), free(panels), free(x);
            }
    }
    assert_int_equal(wrong, 0);
}

/* No rows, no columns: nothing is read or written. */
static void test_nothing(void **state) {
    (void)state;
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    static const fj_dtype types[] = { FJ_F32, FJ_BF16, FJ_Q8_0, FJ_Q4_K };
    for (size_t i = 0; i < FJ_LEN(types); i++) {
        uint8_t rows[1024] = { 0 };
        float x[256] = { 0 };
        fj_wmat w = { .dtype = types[i], .data = rows, .n = 1, .k = 256 };
        free(product(&kern, &w, x, 0, false));
        w.n = 0;
        free(product(&kern, &w, x, 1, false));
        assert_int_equal(fj_wmat_packed_bytes(types[i], 0, 256), 0);
        fj_wmat_pack(&kern, types[i], 0, 256, rows, NULL, 0, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_extremes),
                                        cmocka_unit_test(test_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
