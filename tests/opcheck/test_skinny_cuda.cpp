/* test_skinny_cuda.cpp - products of few rows as the GPU computes them: each value of a weight, then whole
 * products of any size against the one chain of kernels/cuda/gemm.cuh, bit for bit. */
#include "kernels/cuda/gemm.cuh"

extern "C" {
#include "opcheck/gpu_values.h"
#include "test_util.h"
}

static const fj_dtype formats[] = { FJ_F32,   FJ_F16,  FJ_BF16, FJ_Q8_0, FJ_Q4_0,
                                    FJ_MXFP4, FJ_Q4_K, FJ_Q6_K, FJ_NF4 };

static float as_bf16(float v) { return fj_bf16_to_f32(fj_f32_to_bf16(v)); }

static int64_t any(fj_rng *r, int64_t least, int64_t most) {
    return least + (int64_t)fj_rng_below(r, (uint64_t)(most - least + 1));
}

/* As an allocation that ends with the last byte: who reads further is seen by a sanitizer. */
static unsigned char *space(int64_t bytes) {
    void *p;
    if (posix_memalign(&p, 64, (size_t)FJ_MAX(bytes, 1))) fail_msg("no memory");
    return (unsigned char *)p;
}

typedef struct product {
    int64_t m, n, k, ldx, ldy;
    fj_dtype w, x, y;
    float scale;
    bool acc;
    unsigned char *wb, *xb, *yb;
    float *wv, *xv; /* as BF16 */
} product;

static float get(fj_dtype t, const unsigned char *p, int64_t i) {
    return t == FJ_F32 ? ((const float *)p)[i] : fj_bf16_to_f32(((const uint16_t *)p)[i]);
}
static void set(fj_dtype t, unsigned char *p, int64_t i, float v) {
    if (t == FJ_F32) ((float *)p)[i] = v;
    else ((uint16_t *)p)[i] = fj_f32_to_bf16(v);
}

/* Scales of blocks from anywhere in their range. */
static void wild(fj_rng *r, fj_dtype t, unsigned char *w, int64_t bytes) {
    const fj_dtype_info *d = fj_dtype_get(t);
    for (int64_t i = 0; i < bytes; i++) w[i] = (unsigned char)fj_rng_u64(r);
    for (int64_t i = 0; i + d->bytes <= bytes; i += d->bytes) {
        int at = t == FJ_Q6_K ? 208 : 0; /* of the scale */
        for (int s = at; t == FJ_Q4_K && s < 4;
             s += 2) /* normal and not too large for sums of two */
            w[i + s + 1] = (unsigned char)(0x10 + w[i + s + 1] % 0x40);
        if (t == FJ_MXFP4) w[i] = (unsigned char)fj_rng_below(r, fj_rng_below(r, 2) ? 250 : 4);
        else if (t == FJ_F32) w[i + 3] &= 0xbf; /* below 2 */
        else if ((w[i + at + 1] & 0x7c) == 0x7c)
            w[i + at + 1] ^= 0x40; /* no infinity, as F16; in BF16 < 2^64 */
    }
    if (t == FJ_BF16)
        for (int64_t i = 0; i < bytes; i += 2) w[i + 1] &= 0xbf;
}

static void fill(product *p, fj_rng *r) {
    int64_t row = fj_dtype_size(p->w, 1, p->k);
    p->wb = space(row * p->n), p->xb = space(p->m * p->ldx * 4), p->yb = space(p->m * p->ldy * 4);
    p->wv = (float *)space(p->n * p->k * 4), p->xv = (float *)space(p->m * p->k * 4);
    for (int64_t i = 0; i < p->n * p->k; i++) p->wv[i] = (float)fj_rng_normal(r);
    for (int64_t i = 0; i < p->n; i++) fj_quant_row(p->w, p->wv + i * p->k, p->wb + i * row, p->k);
    for (int64_t i = 0; i < p->m * p->ldx; i++)
        set(p->x, p->xb, i, i % p->ldx < p->k ? (float)fj_rng_normal(r) : NAN);
    for (int64_t i = 0; i < p->m * p->ldy; i++) set(p->y, p->yb, i, (float)fj_rng_normal(r));
}

static void see(product *p) {
    int64_t row = fj_dtype_size(p->w, 1, p->k);
    for (int64_t i = 0; i < p->n; i++) gv_row(p->w, p->wb + i * row, p->wv + i * p->k, p->k);
    for (int64_t i = 0; i < p->m * p->k; i++)
        p->xv[i] = as_bf16(get(p->x, p->xb, i / p->k * p->ldx + i % p->k));
}

static void done(product *p) { free(p->wb), free(p->xb), free(p->yb), free(p->wv), free(p->xv); }

static void run(const product *p, const fj_gpu *g) {
    fj_err e = { FJ_OK, "" };
    fj_gmat w = { p->w, p->wb, p->n, p->k };
    fj_grows x = { p->x, p->xb, p->ldx }, y = { p->y, p->yb, p->ldy };
    FJ_OK_OR_FAIL(fj_gpu_skinny(g, p->m, x, &w, y, p->scale, p->acc ? &y : NULL, NULL, &e), e);
}

static float chain(const product *p, int64_t i, int64_t j) {
    float s = 0;
    for (int64_t k = 0; k < p->k; k += 16) {
        double t = 0;
        for (int64_t c = k; c < k + 16 && c < p->k; c++)
            t += (double)p->xv[i * p->k + c] * (double)p->wv[j * p->k + c];
        s = (float)((double)s + t);
    }
    return s;
}

/* A row of x that is 1 at one place gives a column of the weight. */
static void test_values(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_gpu g = {};
    g.compute = 90;
    for (size_t f = 0; f < FJ_LEN(formats); f++) {
        const int64_t k = fj_dtype_get(formats[f])->block < 256 ? 320 : 512;
        product p = { 64, 50,    k,    k,    50,   formats[f], FJ_F32, FJ_F32,
                      1,  false, NULL, NULL, NULL, NULL,       NULL };
        fill(&p, &r);
        wild(&r, p.w, p.wb, fj_dtype_size(p.w, p.n, p.k));
        see(&p);
        for (int64_t k0 = 0; k0 < p.k; k0 += p.m) {
            g.sms = k0 ? 1 + (int)fj_rng_below(&r, 3) : 60;
            memset(p.xb, 0, (size_t)(p.m * p.ldx) * 4);
            for (int64_t i = 0; i < p.m; i++) set(p.x, p.xb, i * p.ldx + k0 + i, 1);
            run(&p, &g);
            for (int64_t i = 0; i < p.m; i++)
                for (int64_t j = 0; j < p.n; j++) {
                    float y = get(p.y, p.yb, i * p.ldy + j), want = p.wv[j * p.k + k0 + i];
                    if (!(y == want))
                        fail_msg("%s: value %lld of row %lld is %a, not %a",
                                 fj_dtype_get(p.w)->name, (long long)(k0 + i), (long long)j,
                                 (double)y, (double)want);
                }
        }
        done(&p);
    }
}

static void check(product *p, fj_rng *r, const fj_gpu *g) {
    fill(p, r);
    see(p);
    unsigned char *was = space(p->m * p->ldy * 4);
    memcpy(was, p->yb, (size_t)(p->m * p->ldy) * 4);
    run(p, g);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->ldy; j++) {
            float y = get(p->y, p->yb, i * p->ldy + j), old = get(p->y, was, i * p->ldy + j),
                  want = old;
            if (j < p->n) {
                float s = chain(p, i, j);
                want = p->acc ? fmaf(p->scale, s, old) : p->scale * s;
                if (p->y == FJ_BF16) want = as_bf16(want);
            }
            if (y != want)
                fail_msg(
                    "%s [%lld, %lld] of %lld rows of %s to %s, %d SMs: [%lld, %lld] is %a, not %a",
                    fj_dtype_get(p->w)->name, (long long)p->n, (long long)p->k, (long long)p->m,
                    fj_dtype_get(p->x)->name, fj_dtype_get(p->y)->name, g->sms, (long long)i,
                    (long long)j, (double)y, (double)want);
        }
    free(was);
    done(p);
}

static void test_products(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static const int64_t rows[] = { 1, 2, 8, 9, 16, 17, 32, 33, 64 };
    static const int gpus[][2] = { { 132, 90 }, { 108, 80 }, { 84, 86 },
                                   { 1, 90 },   { 2, 90 },   { 5, 80 } };
    for (int round = 0; round < 200; round++) {
        fj_gpu g = {};
        const int *is = gpus[fj_rng_below(&r, FJ_LEN(gpus))];
        g.sms = is[0], g.compute = is[1];
        product p = {};
        p.w = formats[fj_rng_below(&r, FJ_LEN(formats))];
        p.m = rows[fj_rng_below(&r, FJ_LEN(rows))];
        p.n = any(&r, 1, p.m > 8 ? 150 : 600);
        p.k = any(&r, 1, 700);
        int64_t unit = FJ_MAX(32, fj_dtype_get(p.w)->block);
        if (fj_dtype_get(p.w)->block > 1 || fj_rng_below(&r, 3))
            p.k = (p.k + unit - 1) / unit * unit;
        p.ldx = p.k + (fj_rng_below(&r, 2) ? 0 : any(&r, 0, 9));
        p.ldy = p.n + (fj_rng_below(&r, 2) ? 0 : any(&r, 0, 9));
        p.x = fj_rng_below(&r, 4) ? FJ_BF16 : FJ_F32;
        p.y = fj_rng_below(&r, 2) ? FJ_BF16 : FJ_F32;
        p.scale = fj_rng_below(&r, 2) ? 1 : 0.3f;
        p.acc = fj_rng_below(&r, 2);
        check(&p, &r, &g);
    }
}

/* Sizes that few.cu takes, on its GPU: the bits are those of the kernel for other GPUs, also with old values,
 * a second pair, or several weights at once. */
static void test_few(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static const fj_dtype its[] = { FJ_F16,   FJ_BF16, FJ_Q8_0, FJ_Q4_0,
                                    FJ_MXFP4, FJ_Q4_K, FJ_Q6_K, FJ_NF4 };
    static const int64_t parts[] = { 8, 8, 256, 256, 512, 256, 2048, 512 };
    enum { MANY = 4, K2 = 40 };
    for (int round = 0; round < 160; round++) {
        fj_gpu g = {}, other = {};
        static const int sms[] = { 132, 1, 2, 5, 40 };
        g.sms = other.sms = sms[fj_rng_below(&r, FJ_LEN(sms))];
        g.compute = 90, other.compute = 80;
        size_t f = (size_t)round % FJ_LEN(its);
        int64_t k = parts[f] * any(&r, 1, parts[f] == 8 ? 130 : parts[f] > 512 ? 1 : 4);
        int64_t m = any(&r, 1, fj_rng_below(&r, 2) ? 8 : 64);
        int count = fj_rng_below(&r, 2) ? 1 : (int)any(&r, 2, MANY);
        product p[MANY] = {};
        fj_gmat w[MANY];
        fj_grows y[MANY], x = {}, old = {};
        unsigned char *want[MANY];
        fj_err e = { FJ_OK, "" };
        int64_t k2 = any(&r, 1, K2), ld2 = k2 + any(&r, 0, 3);
        uint16_t *pair = (uint16_t *)space((m + 500) * ld2 * 2);
        for (int64_t i = 0; i < (m + 500) * ld2; i++)
            pair[i] = fj_f32_to_bf16((float)fj_rng_normal(&r));
        fj_gpair more = { pair, ld2, pair + m * ld2, ld2, k2, 0.7f };
        bool two = count == 1 && fj_rng_below(&r, 2);
        float scale = count == 1 && fj_rng_below(&r, 2) ? 0.3f : 1;
        for (int i = 0; i < count; i++) {
            p[i].m = m, p[i].n = any(&r, 1, m > 8 ? 150 : 500), p[i].k = k;
            p[i].ldx = p->ldx ? p->ldx : k + 8 * any(&r, 0, 2);
            p[i].w = its[f], p[i].x = FJ_BF16, p[i].y = fj_rng_below(&r, 2) ? FJ_BF16 : FJ_F32;
            p[i].ldy = p[i].n + any(&r, 0, 3);
            fill(&p[i], &r);
            x = { FJ_BF16, p->xb, p->ldx };
            w[i] = { p[i].w, p[i].wb, p[i].n, k };
            y[i] = { p[i].y, p[i].yb, p[i].ldy };
            int64_t bytes = m * p[i].ldy * 4;
            want[i] = space(bytes);
            memcpy(want[i], p[i].yb, (size_t)bytes);
            fj_grows to = { p[i].y, want[i], p[i].ldy };
            old = count == 1 && fj_rng_below(&r, 2) ? to : fj_grows{};
            FJ_OK_OR_FAIL(fj_gpu_skinny(&other, m, x, &w[i], to, scale, old.data ? &old : NULL,
                                        two ? &more : NULL, &e),
                          e);
        }
        bool done_it = false;
        if (old.data) old = y[0];
        FJ_OK_OR_FAIL(fj_gpu_few(&g, m, x, count, w, y, scale, old.data ? &old : NULL,
                                 two ? &more : NULL, &done_it, &e),
                      e);
        assert_true(done_it);
        for (int i = 0; i < count; i++) {
            for (int64_t a = 0; a < m * p[i].ldy; a++) {
                float v = get(p[i].y, p[i].yb, a), u = get(p[i].y, want[i], a);
                if (v != u)
                    fail_msg("%s: weight %d of %d [%lld, %lld]: [%lld, %lld] of %lld is %a, not %a",
                             fj_dtype_get(p->w)->name, i, count, (long long)p[i].n, (long long)k,
                             (long long)(a / p[i].ldy), (long long)(a % p[i].ldy), (long long)m,
                             (double)v, (double)u);
            }
            free(want[i]);
            done(&p[i]);
        }
        free(pair);
    }
}

static void test_limits(void **state) {
    (void)state;
    fj_gpu g = {};
    g.sms = 4, g.compute = 90;
    fj_err e;
    float y[2] = { 7, 8 };
    fj_gmat w = { FJ_BF16, NULL, 2, 0 };
    fj_grows rows = { FJ_F32, y, 2 };
    assert_true(fj_gpu_skinny(&g, 0, rows, &w, rows, 1, NULL, NULL, &e));
    assert_true(fj_gpu_skinny(&g, 1, rows, &w, rows, 1, &rows, NULL, &e));
    assert_true(y[0] == 7 && y[1] == 8);
    assert_true(fj_gpu_skinny(&g, 1, rows, &w, rows, 1, NULL, NULL, &e)); /* a sum of nothing */
    assert_true(y[0] == 0 && y[1] == 0);
    assert_false(fj_gpu_skinny(&g, 65, rows, &w, rows, 1, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "are not few"));
    w.dtype = FJ_Q8_0, w.k = 33;
    assert_false(fj_gpu_skinny(&g, 1, rows, &w, rows, 1, NULL, NULL, &e));
    assert_non_null(strstr(e.msg, "whole blocks"));
    for (size_t f = 0; f < FJ_LEN(formats); f++) assert_true(fj_gpu_skinny_rows(formats[f]) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
