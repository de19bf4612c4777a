/* test_gemm.c - products of rows and weights: every format, layout and instruction set of this CPU
 * against f64, odd shapes, guard words; and the promise that bits depend on the row alone: 1 row or
 * many, 1 to 3 threads, panels or rows, and between instruction sets where kern.h says so. */
#include "test_util.h"

#include "any_blocks.h"
#include "base/pool.h"
#include "ops/gemm.h"

#include <math.h>

static const fj_dtype formats[] = {
    FJ_F32,    FJ_F16,   FJ_BF16,    FJ_Q8_0,  FJ_Q4_0,  FJ_MXFP4, FJ_Q4_K,   FJ_Q6_K,   FJ_NF4,
    FJ_Q4_1,   FJ_Q5_0,  FJ_Q5_1,    FJ_Q2_K,  FJ_Q3_K,  FJ_Q5_K,  FJ_IQ4_NL, FJ_IQ4_XS, FJ_IQ2_XXS,
    FJ_IQ2_XS, FJ_IQ2_S, FJ_IQ3_XXS, FJ_IQ3_S, FJ_IQ1_S, FJ_IQ1_M, FJ_TQ1_0,  FJ_TQ2_0
};
static const char *const ops[] = { "fwd", "dx", "dw" };

enum { FWD, DX, DW };
enum { GUARD = 64 };
static const float guard = 1234.5f;

typedef struct job {
    const fj_kern *kern;
    fj_pool *pool;
    int op, threads;
    bool f32, acc, rounded; /* rounded: by hand, as for several weights */
    float scale;
    int64_t m, ldx, ldy;
    const float *x, *dy; /* inputs: x [m, ldx], dy [m, ldy] */
    fj_wmat w;
    float *out;
    int64_t ldo;
    void *scratch;
} job;

static void barrier(void *pool) { fj_pool_barrier(pool); }

static void body(void *ctx, int i, int n) {
    const job *j = ctx;
    fj_team t = { .ith = i,
                  .nth = n,
                  .barrier = barrier,
                  .ctx = j->pool,
                  .kern = j->kern,
                  .scratch = j->scratch,
                  .f32 = j->f32 };
    if (j->rounded && j->op != DW) {
        bool fwd = j->op == FWD;
        fj_form form = fwd ? fj_fwd_form(&j->w, j->f32) : fj_dx_form(&j->w, j->f32);
        int64_t k = fwd ? j->w.k : j->w.n;
        const float *x = fwd ? j->x : j->dy;
        t.scratch = (char *)j->scratch + fj_rounded_bytes(j->m, k, form);
        fj_round_rows_f32(&t, j->m, x, fwd ? j->ldx : j->ldy, k, form, j->scratch);
        fj_team_barrier(&t);
        (fwd ? fj_gemm_fwd_rounded_f32 : fj_gemm_dx_rounded_f32)(&t, j->m, x, fwd ? j->ldx : j->ldy,
                                                                 j->scratch, &j->w, j->out, j->ldo,
                                                                 j->scale, j->acc);
    } else if (j->op == FWD)
        fj_gemm_fwd_f32(&t, j->m, j->x, j->ldx, &j->w, j->out, j->ldo, j->scale, j->acc);
    else if (j->op == DX)
        fj_gemm_dx_f32(&t, j->m, j->dy, j->ldy, &j->w, j->out, j->ldo, j->scale, j->acc);
    else
        fj_gemm_dw_f32(&t, j->m, j->dy, j->ldy, j->x, j->ldx, j->out, j->w.n, j->w.k, j->scale,
                       j->acc);
}

static void *take(size_t n) {
    void *p;
    assert_int_equal(posix_memalign(&p, 64, n + 64), 0);
    return p;
}

/* Runs with as much scratch as is promised, and a guard behind it. */
static void run(job *j) {
    size_t n = j->op == FWD  ? fj_gemm_fwd_scratch(j->m, &j->w, j->threads, j->f32)
               : j->op == DX ? fj_gemm_dx_scratch(j->m, &j->w, j->threads, j->f32)
                             : fj_gemm_dw_scratch(j->m, j->w.n, j->w.k, j->threads, j->f32);
    char *scratch = take(n + GUARD);
    memset(scratch, 0xff, n); /* NaN: nothing may count on zeros */
    memset(scratch + n, 0x5a, GUARD);
    j->scratch = scratch;
    fj_err e = { 0 };
    j->pool = fj_pool_open(j->threads, &e);
    assert_non_null(j->pool);
    fj_pool_run(j->pool, body, j);
    fj_pool_close(j->pool);
    for (int i = 0; i < GUARD; i++)
        if (scratch[n + (size_t)i] != 0x5a) fail_msg("%s wrote beyond its scratch", ops[j->op]);
    free(scratch);
}

static float *numbers(fj_rng *r, int64_t n, double size) {
    float *p = take((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) p[i] = (float)(fj_rng_normal(r) * size);
    return p;
}

typedef struct problem {
    int64_t m, n, k, ldx, ldy;
    float *x, *dy, *w; /* w as the format holds it, dequantised */
    void *rows, *panels;
    fj_dtype dtype;
} problem;

static bool has_panels(fj_dtype t) { return fj_a8_kind(t) >= 0 || fj_dtype_get(t)->block == 1; }

/* k values, or as many more as are whole blocks. */
static problem make(fj_rng *r, const fj_kern *kern, fj_dtype dtype, int64_t m, int64_t n,
                    int64_t k) {
    const int64_t block = fj_dtype_get(dtype)->block;
    k = (k + block - 1) / block * block;
    problem p = { .m = m, .n = n, .k = k, .ldx = k + 3, .ldy = n + 5, .dtype = dtype };
    p.x = numbers(r, m * p.ldx, 1);
    p.dy = numbers(r, m * p.ldy, 1);
    p.w = numbers(r, n * k, 0.5);
    int64_t bytes = fj_dtype_size(dtype, n, k), packed = fj_wmat_packed_bytes(dtype, n, k);
    assert_true(bytes > 0 && (has_panels(dtype) ? packed >= bytes : packed < 0));
    p.rows = take((size_t)bytes);
    for (int64_t i = 0; i < n; i++) {
        char *row = (char *)p.rows + i * fj_dtype_size(dtype, 1, k);
        if (fj_dtype_quantises(dtype)) fj_quant_row(dtype, p.w + i * k, row, k);
        else any_row(r, dtype, row, k, 0.5);
        fj_dequant_row(dtype, row, p.w + i * k, k);
    }
    if (packed < 0) return p; /* this format has no panels */
    char *panels = take((size_t)packed + GUARD);
    memset(panels, 0xff, (size_t)packed);
    memset(panels + packed, 0x5a, GUARD);
    p.panels = panels;
    fj_wmat_pack(kern, dtype, n, k, p.rows, p.panels, 0, 2);
    fj_wmat_pack(kern, dtype, n, k, p.rows, p.panels, 1, 2);
    for (int i = 0; i < GUARD; i++) assert_int_equal(panels[packed + i], 0x5a);
    /* A run of rows at a time, as they are loaded: the same panels. */
    char *again = take((size_t)packed);
    memset(again, 0xff, (size_t)packed);
    for (int64_t i = 0; i < n; i += FJ_WMAT_RUN)
        fj_wmat_pack(kern, dtype, n - i < FJ_WMAT_RUN ? n - i : FJ_WMAT_RUN, k,
                     (char *)p.rows + fj_dtype_size(dtype, i, k),
                     again + fj_wmat_packed_bytes(dtype, i, k), 0, 1);
    assert_memory_equal(again, panels, (size_t)packed);
    free(again);
    return p;
}

static void drop(problem *p) {
    free(p->x), free(p->dy), free(p->w), free(p->rows), free(p->panels);
}

static float *result(const problem *p, const fj_kern *kern, int op, int64_t row0, int64_t m,
                     int threads, bool panels, bool f32, bool acc, float scale, int64_t *rows,
                     int64_t *cols, int64_t *ldo) {
    *rows = op == DW ? p->n : m;
    *cols = op == FWD ? p->n : p->k;
    *ldo = op == DW ? *cols : *cols + 2;
    float *out = take((size_t)(*rows * *ldo + GUARD) * 4);
    for (int64_t i = 0; i < *rows * *ldo + GUARD; i++) out[i] = guard;
    for (int64_t i = 0; i < *rows; i++)
        for (int64_t j = 0; j < *cols; j++) out[i * *ldo + j] = acc ? (float)((i + j) % 7) : NAN;
    job j = { .kern = kern,
              .op = op,
              .threads = threads,
              .f32 = f32,
              .acc = acc,
              .rounded = m % 2 == 0,
              .scale = scale,
              .m = m,
              .ldx = p->ldx,
              .ldy = p->ldy,
              .x = p->x + row0 * p->ldx,
              .dy = p->dy + row0 * p->ldy,
              .w = { .dtype = p->dtype,
                     .panels = panels && p->panels,
                     .data = panels && p->panels ? p->panels : p->rows,
                     .n = p->n,
                     .k = p->k },
              .out = out,
              .ldo = *ldo };
    run(&j);
    for (int64_t i = 0; i < *rows * *ldo + GUARD; i++)
        if ((i >= *rows * *ldo || i % *ldo >= *cols) && out[i] != guard)
            fail_msg("%s wrote outside its output at %lld", ops[op], (long long)i);
    return out;
}

/* Against f64, with the error that the arithmetic allows. */
static void check(const problem *p, const fj_kern *kern, int op, int threads, bool panels, bool f32,
                  bool acc) {
    int64_t rows, cols, ldo;
    const float scale = acc ? 0.75f : 1;
    float *out = result(p, kern, op, 0, p->m, threads, panels, f32, acc, scale, &rows, &cols, &ldo);
    bool exact = f32 || (op != DW && p->dtype == FJ_F32);
    bool int8 = !exact && op == FWD && fj_a8_kind(p->dtype) >= 0;
    int64_t inner = op == FWD ? p->k : op == DX ? p->n : p->m;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double s = 0, mag = 0, big = 0, wsum = 0;
            for (int64_t l = 0; l < inner; l++) {
                double a = op == FWD  ? p->x[i * p->ldx + l]
                           : op == DX ? p->dy[i * p->ldy + l]
                                      : p->dy[l * p->ldy + i];
                double b = op == FWD  ? p->w[j * p->k + l]
                           : op == DX ? p->w[l * p->k + j]
                                      : p->x[l * p->ldx + j];
                s += a * b;
                mag += fabs(a * b);
                big = fmax(big, fabs(a));
                wsum += fabs(b);
            }
            double want = (acc ? (double)((i + j) % 7) : 0) + scale * s;
            double bound = 6e-8 * (double)(inner + 8) * (mag + 8);
            if (int8) bound += wsum * big / 254; /* half a step of the row's scale */
            else if (!exact) bound += mag / 128; /* two roundings to 8 bits */
            double got = out[i * ldo + j];
            if (!(fabs(got - want) <= bound))
                fail_msg(
                    "%s %s %s%s m %lld n %lld k %lld threads %d at %lld,%lld: %.9g, want %.9g within %g",
                    kern->isa, ops[op], fj_dtype_get(p->dtype)->name, panels ? " panels" : "",
                    (long long)p->m, (long long)p->n, (long long)p->k, threads, (long long)i,
                    (long long)j, got, want, bound);
        }
    free(out);
}

static const int64_t shapes[][3] = { { 1, 1, 32 },    { 1, 17, 64 },  { 2, 48, 96 },
                                     { 3, 33, 32 },   { 7, 50, 288 }, { 8, 96, 256 },
                                     { 13, 16, 64 },  { 17, 8, 320 }, { 37, 97, 544 },
                                     { 530, 31, 32 }, { 9, 5, 1056 }, { 5, 1100, 64 } };

static void test_against_f64(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        for (size_t s = 0; s < FJ_LEN(shapes); s++)
            for (size_t f = 0; f < FJ_LEN(formats); f++) {
                int64_t k = shapes[s][2];
                if (!FJ_IN_TURN(s * FJ_LEN(formats) + f + (size_t)v, 17)) continue;
                /* formats without panels are read by the same code: in turns */
                if (formats[f] > FJ_NF4 && (s + f + v) % 4) continue;
                /* of large blocks, k is longer: not also many rows or columns */
                if (fj_dtype_get(formats[f])->block > 32 && shapes[s][0] * shapes[s][1] > 4000)
                    continue;
                /* formats without blocks have odd inner dimensions too */
                if (fj_dtype_get(formats[f])->block == 1) k -= (int64_t)s % 4;
                problem p = make(&r, &kern, formats[f], shapes[s][0], shapes[s][1], k);
                for (int op = FWD; op <= DW; op++)
                    for (int opt = 0; opt < 8; opt++) {
                        if (op == DW && opt & 1) continue; /* dw does not see the weights */
                        check(&p, &kern, op, 1 + opt % 3, opt & 1, opt & 2, opt & 4);
                    }
                drop(&p);
            }
    }
}

/* Bits of a row: alone, at any place, in a large batch, with 1 to 3 threads, from panels or rows. */
static void test_row_alone(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    const int64_t n = 150, k = 1312, many = 70;
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        for (size_t f = 0; f < FJ_LEN(formats); f++) {
            if (formats[f] > FJ_NF4 && (f + v) % 3) continue; /* in turns, as above */
            if (!FJ_IN_TURN(f + (size_t)v, 8)) continue;
            problem p = make(&r, &kern, formats[f], many, n, k);
            for (int op = FWD; op <= DX; op++)
                for (int f32 = 0; f32 < 2; f32++) {
                    int64_t rows, cols, ldo;
                    float *all =
                        result(&p, &kern, op, 0, many, 1, true, f32, false, 1, &rows, &cols, &ldo);
                    for (int opt = 0; opt < 9; opt++) {
                        static const int64_t ms[] = { 1, 1, 1, 2, 5, 13, 33, 64, 70 };
                        int64_t m = ms[opt],
                                row0 = (int64_t)fj_rng_below(&r, (uint64_t)(many - m + 1));
                        float *some = result(&p, &kern, op, row0, m, 1 + opt % 3, opt % 2, f32,
                                             false, 1, &rows, &cols, &ldo);
                        for (int64_t i = 0; i < m; i++)
                            if (memcmp(some + i * ldo, all + (row0 + i) * ldo, (size_t)cols * 4))
                                fail_msg(
                                    "%s %s %s f32 %d: row %lld of a batch of %lld is not that of %lld",
                                    kern.isa, ops[op], fj_dtype_get(formats[f])->name, f32,
                                    (long long)i, (long long)m, (long long)many);
                        free(some);
                    }
                    free(all);
                }
            drop(&p);
        }
    }
}

/* dw over several pieces: 1 to 3 threads, and against f64. */
static void test_dw_pieces(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static const int64_t dims[][3] = { { 2100, 40, 64 }, { 600, 8200, 17 }, { 2100, 16, 70 } };
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        if (!FJ_IN_TURN(v, 5)) continue;
        for (size_t i = 0; i < (v ? 3 : 1); i++) { /* scalar is slow */
            problem p = make(&r, &kern, FJ_F32, dims[i][0], dims[i][1], dims[i][2]);
            for (int f32 = 0; f32 < 2; f32++) {
                int64_t rows, cols, ldo;
                float *one =
                    result(&p, &kern, DW, 0, p.m, 1, false, f32, true, 0.5f, &rows, &cols, &ldo);
                for (int threads = 2; threads < 4; threads++) {
                    float *more = result(&p, &kern, DW, 0, p.m, threads, false, f32, true, 0.5f,
                                         &rows, &cols, &ldo);
                    assert_memory_equal(one, more, (size_t)(rows * ldo) * 4);
                    free(more);
                }
                free(one);
                check(&p, &kern, DW, 2, false, f32, true);
            }
            drop(&p);
        }
    }
}

/* Sets agree bit for bit; bf16 where it is done by the same instruction or its emulation. */
static void test_sets_agree(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_kern ref;
    assert_true(fj_kern_init(&ref, "scalar", NULL));
    for (int v = 1; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        for (size_t f = 0; f < FJ_LEN(formats); f++)
            for (int op = FWD; op <= DX; op++)
                for (int f32 = 0; f32 < 2; f32++) {
                    if (!FJ_IN_TURN(f, 6)) continue;
                    bool bf16 =
                        !f32 && formats[f] != FJ_F32 && (op == DX || fj_a8_kind(formats[f]) < 0);
                    if (bf16 && (!strstr(kern.isa, "bf16") || strstr(kern.isa, "amx"))) continue;
                    int64_t rows, cols, ldo;
                    problem p = make(&r, &kern, formats[f], 19, 77, 352);
                    float *a =
                        result(&p, &ref, op, 0, p.m, 1, true, f32, false, 1, &rows, &cols, &ldo);
                    float *b =
                        result(&p, &kern, op, 0, p.m, 1, true, f32, false, 1, &rows, &cols, &ldo);
                    if (memcmp(a, b, (size_t)(rows * ldo) * 4))
                        fail_msg("%s %s %s f32 %d differs from scalar", kern.isa, ops[op],
                                 fj_dtype_get(formats[f])->name, f32);
                    free(a), free(b);
                    drop(&p);
                }
    }
}

static void test_panels_round_trip(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_kern kern;
    assert_true(fj_kern_init(&kern, NULL, NULL));
    for (size_t f = 0; f < FJ_LEN(formats); f++)
        for (size_t s = 0; s < FJ_LEN(shapes); s++) {
            int64_t n = shapes[s][1], k = shapes[s][2];
            problem p = make(&r, &kern, formats[f], 1, n, k);
            k = p.k;
            if (!p.panels) {
                assert_int_equal(fj_wmat_packed_bytes(formats[f], n, k), -1);
                drop(&p);
                continue;
            }
            size_t bytes = (size_t)fj_dtype_size(formats[f], n, k);
            char *back = take(bytes);
            memset(back, 0x77, bytes);
            for (int i = 0; i < 3; i++) /* in three parts */
                fj_wmat_unpack(formats[f], n, k, p.panels, n * i / 3, n * (i + 1) / 3 - n * i / 3,
                               back + fj_dtype_size(formats[f], n * i / 3, k));
            assert_memory_equal(back, p.rows, bytes);
            float *block = take((size_t)(n * k) * 4);
            fj_wmat w = { .dtype = formats[f], .panels = true, .data = p.panels, .n = n, .k = k };
            fj_wmat_block(&kern, &w, 0, n, 0, k, block, k);
            assert_memory_equal(block, p.w, (size_t)(n * k) * 4);
            fj_team t = { .nth = 1, .kern = &kern };
            fj_wmat_row_f32(&t, &w, n / 2, block);
            assert_memory_equal(block, p.w + n / 2 * k, (size_t)k * 4);
            free(block), free(back);
            drop(&p);
        }
    assert_int_equal(fj_wmat_packed_bytes(FJ_I32, 4, 4), -1);
    assert_int_equal(fj_wmat_packed_bytes(FJ_Q8_0, 4, 33), -1);
    assert_int_equal(fj_wmat_packed_bytes(FJ_MXFP4, 4, 32), 576); /* 544, up to whole lines */
    assert_int_equal(fj_wmat_packed_bytes(FJ_F32, INT64_MAX / 2, 4), -1);
}

/* What is not a number must come out as such, whatever the format. */
static void test_nan_shows(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        for (size_t f = 0; f < FJ_LEN(formats); f++) {
            problem p = make(&r, &kern, formats[f], 3, 40, 320);
            int64_t rows, cols, ldo;
            p.x[p.ldx + 261] = v % 2 ? NAN : INFINITY;
            float *y = result(&p, &kern, FWD, 0, 3, 1, true, false, false, 1, &rows, &cols, &ldo);
            for (int64_t j = 0; j < cols; j++) {
                assert_true(isfinite(y[j]) && isfinite(y[2 * ldo + j]));
                assert_false(isfinite(y[ldo + j]));
            }
            free(y);
            drop(&p);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_f64),       cmocka_unit_test(test_row_alone),
        cmocka_unit_test(test_dw_pieces),         cmocka_unit_test(test_sets_agree),
        cmocka_unit_test(test_panels_round_trip), cmocka_unit_test(test_nan_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
