/* test_kern.c - every kernel of kernels.def, on every instruction set of this CPU, against the f64
 * reference.  The list of checks is made from kernels.def: a kernel without one does not compile.
 *
 * Arrays end at a page that may not be touched (a read or write too far dies at once) or before guard
 * words (a write too far is reported), and begin after guard words; their starts take every alignment. */
#include "test_util.h"

#include "any_blocks.h"
#include "base/blocks.h"
#include "kernels/kern.h"

#include <math.h>
#include <sys/mman.h>

enum { SLOTS = 9, SLOT = 1 << 18, GUARDS = 32, MAX_N = 1030 };
static const uint32_t guard_word = 0x7fc5a5a5; /* a NaN of our own */

typedef struct arr {
    float *f;
    double *d; /* the same numbers for the reference */
    int64_t n;
} arr;

typedef struct ctx {
    fj_rng rng;
    char *slot[SLOTS];
    double *ref[SLOTS];
    arr taken[SLOTS];
    int used;
    int64_t slack; /* guard words behind every array; 0: the forbidden page */
    const fj_kern *k, *scalar;
    const fj_kern64 *r;
    const char *name;
    int64_t n;
    char msg[256];
} ctx;

static void ctx_open(ctx *c) {
    memset(c, 0, sizeof *c);
    c->rng = fj_test_rng();
    for (int i = 0; i < SLOTS; i++) {
        c->slot[i] =
            mmap(NULL, SLOT + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(c->slot[i] != MAP_FAILED);
        assert_int_equal(mprotect(c->slot[i] + SLOT, 4096, PROT_NONE), 0);
        c->ref[i] = fj_alloc(SLOT / 4 * sizeof(double));
    }
}

static void ctx_close(ctx *c) {
    for (int i = 0; i < SLOTS; i++) {
        munmap(c->slot[i], SLOT + 4096);
        free(c->ref[i]);
    }
}

/* n words of memory, guarded. */
static arr room(ctx *c, int64_t n) {
    assert_true(c->used < SLOTS && n + GUARDS + c->slack <= SLOT / 4);
    arr a = { (float *)(void *)(c->slot[c->used] + SLOT) - c->slack - n, c->ref[c->used], n };
    for (int i = 1; i <= GUARDS; i++) memcpy(a.f - i, &guard_word, 4);
    for (int64_t i = 0; i < c->slack; i++) memcpy(a.f + n + i, &guard_word, 4);
    c->taken[c->used++] = a;
    return a;
}

static arr numbers(ctx *c, int64_t n, double size) {
    arr a = room(c, n);
    for (int64_t i = 0; i < n; i++) a.d[i] = a.f[i] = (float)(fj_rng_normal(&c->rng) * size);
    return a;
}

static bool say(ctx *c, const char *what, int64_t i, double got, double want) {
    snprintf(c->msg, sizeof c->msg, "%s %s n %lld slack %lld: %s at %lld, got %.9g want %.9g",
             c->k->isa, c->name, (long long)c->n, (long long)c->slack, what, (long long)i, got,
             want);
    return false;
}

static bool guards_hold(ctx *c) {
    for (int s = 0; s < c->used; s++) {
        arr a = c->taken[s];
        for (int64_t i = -GUARDS; i < a.n + c->slack; i++) {
            if (i == 0) i = a.n;
            if (i < a.n + c->slack && memcmp(a.f + i, &guard_word, 4))
                return say(c, "wrote beyond an array", i, a.f[i], 0);
        }
    }
    return true;
}

static bool near1(ctx *c, double got, double want, double rel, double abs_) {
    if (isnan(want) ? isnan(got) : got == want || fabs(got - want) <= rel * fabs(want) + abs_)
        return true;
    return say(c, "off", -1, got, want);
}

static bool near_all(ctx *c, arr a, double rel, double abs_) {
    for (int64_t i = 0; i < a.n; i++) {
        double got = a.f[i], want = a.d[i];
        if (!(fabs(got - want) <= rel * fabs(want) + abs_)) return say(c, "off", i, got, want);
    }
    return true;
}

#define U 6e-8 /* half an ulp of float */

static bool check_add(ctx *c) {
    arr y = room(c, c->n), a = numbers(c, c->n, 1), b = numbers(c, c->n, 1);
    c->k->add(y.f, a.f, b.f, c->n), c->r->add(y.d, a.d, b.d, c->n);
    return near_all(c, y, U, 0);
}

static bool check_axpy(ctx *c) {
    arr y = numbers(c, c->n, 1), x = numbers(c, c->n, 1);
    c->k->axpy(y.f, x.f, -0.375f, c->n), c->r->axpy(y.d, x.d, -0.375, c->n);
    return near_all(c, y, U, 0);
}

static bool check_scale(ctx *c) {
    arr x = numbers(c, c->n, 1);
    c->k->scale(x.f, x.f, 1.7f, c->n), c->r->scale(x.d, x.d, 1.7f, c->n);
    return near_all(c, x, U, 0);
}

static bool check_mul(ctx *c) {
    arr y = room(c, c->n), a = numbers(c, c->n, 1), b = numbers(c, c->n, 1);
    c->k->mul(y.f, a.f, b.f, c->n), c->r->mul(y.d, a.d, b.d, c->n);
    return near_all(c, y, U, 0);
}

static bool check_dot(ctx *c) {
    arr a = numbers(c, c->n, 1), b = numbers(c, c->n, 1);
    double mag = 0;
    for (int64_t i = 0; i < c->n; i++) mag += fabs(a.d[i] * b.d[i]);
    return near1(c, c->k->dot(a.f, b.f, c->n), c->r->dot(a.d, b.d, c->n), 2 * U, 2 * U * mag);
}

static bool check_sumsq(ctx *c) {
    arr a = numbers(c, c->n, 3);
    return near1(c, c->k->sumsq(a.f, c->n), c->r->sumsq(a.d, c->n), 1e-12, 0);
}

static bool check_rmsnorm(ctx *c) {
    arr y = room(c, c->n), x = numbers(c, c->n, 2), w = numbers(c, c->n, 1);
    c->k->rmsnorm(y.f, x.f, w.f, c->n, 1e-5f), c->r->rmsnorm(y.d, x.d, w.d, c->n, 1e-5f);
    return near_all(c, y, 4 * U, 0);
}

static bool check_rmsnorm_dx(ctx *c) {
    arr dx = room(c, c->n), x = numbers(c, c->n, 2), w = numbers(c, c->n, 1),
        dy = numbers(c, c->n, 1);
    c->k->rmsnorm_dx(dx.f, x.f, w.f, dy.f, c->n, 1e-5f);
    c->r->rmsnorm_dx(dx.d, x.d, w.d, dy.d, c->n, 1e-5f);
    double big = 0, r = 1 / sqrt(c->r->sumsq(x.d, c->n) / (double)c->n + 1e-5);
    for (int64_t i = 0; i < c->n; i++) big = fmax(big, fabs(w.d[i] * dy.d[i]));
    return near_all(c, dx, 4 * U, 16 * U * r * big * sqrt((double)c->n));
}

static bool check_rmsnorm_dw(ctx *c) {
    arr dw = numbers(c, c->n, 1), x = numbers(c, c->n, 2), dy = numbers(c, c->n, 1);
    c->k->rmsnorm_dw(dw.f, x.f, dy.f, c->n, 1e-5f), c->r->rmsnorm_dw(dw.d, x.d, dy.d, c->n, 1e-5f);
    return near_all(c, dw, 4 * U, 50 * U);
}

static bool check_swiglu(ctx *c) {
    arr h = room(c, c->n), g = numbers(c, c->n, 20), u = numbers(c, c->n, 1);
    c->k->swiglu(h.f, g.f, u.f, c->n), c->r->swiglu(h.d, g.d, u.d, c->n);
    return near_all(c, h, 8 * U, 1e-35);
}

static bool check_swiglu_bwd(ctx *c) {
    arr dg = room(c, c->n), du = room(c, c->n), g = numbers(c, c->n, 5), u = numbers(c, c->n, 1);
    arr dh = numbers(c, c->n, 1);
    c->k->swiglu_bwd(dg.f, du.f, g.f, u.f, dh.f, c->n);
    c->r->swiglu_bwd(dg.d, du.d, g.d, u.d, dh.d, c->n);
    return near_all(c, dg, 40 * U, 200 * U) && near_all(c, du, 8 * U, 1e-35);
}

static bool check_gelu(ctx *c) {
    arr y = room(c, c->n), x = numbers(c, c->n, 5);
    c->k->gelu(y.f, x.f, c->n), c->r->gelu(y.d, x.d, c->n);
    return near_all(c, y, 8 * U, 40 * U);
}

static bool check_gelu_bwd(ctx *c) {
    arr x = numbers(c, c->n, 3), dy = numbers(c, c->n, 1);
    c->k->gelu_bwd(dy.f, x.f, dy.f, c->n), c->r->gelu_bwd(dy.d, x.d, dy.d, c->n);
    return near_all(c, dy, 40 * U, 200 * U);
}

static bool check_geglu(ctx *c) {
    arr h = room(c, c->n), g = numbers(c, c->n, 5), u = numbers(c, c->n, 1);
    c->k->geglu(h.f, g.f, u.f, c->n), c->r->geglu(h.d, g.d, u.d, c->n);
    return near_all(c, h, 8 * U, 200 * U);
}

static bool check_geglu_bwd(ctx *c) {
    arr dg = room(c, c->n), du = room(c, c->n), g = numbers(c, c->n, 3), u = numbers(c, c->n, 1);
    arr dh = numbers(c, c->n, 1);
    c->k->geglu_bwd(dg.f, du.f, g.f, u.f, dh.f, c->n);
    c->r->geglu_bwd(dg.d, du.d, g.d, u.d, dh.d, c->n);
    return near_all(c, dg, 40 * U, 400 * U) && near_all(c, du, 8 * U, 200 * U);
}

static bool check_glu_oai(ctx *c) {
    arr h = room(c, c->n), g = numbers(c, c->n, 5), u = numbers(c, c->n, 5);
    c->k->glu_oai(h.f, g.f, u.f, c->n, 1.702f, 7), c->r->glu_oai(h.d, g.d, u.d, c->n, 1.702f, 7);
    return near_all(c, h, 40 * U, 400 * U);
}

static bool check_glu_oai_bwd(ctx *c) {
    arr g = numbers(c, c->n, 5), u = numbers(c, c->n, 5), dh = numbers(c, c->n, 1);
    arr dg = room(c, c->n), du = room(c, c->n);
    for (int64_t i = 0; i < c->n; i += 5) { /* on the bounds the gradient passes */
        g.d[i] = g.f[i] = 7;
        u.d[i] = u.f[i] = i % 2 ? 7 : -7;
    }
    c->k->glu_oai_bwd(dg.f, du.f, g.f, u.f, dh.f, c->n, 1.702f, 7);
    c->r->glu_oai_bwd(dg.d, du.d, g.d, u.d, dh.d, c->n, 1.702f, 7);
    for (int64_t i = 0; i < c->n; i++)
        if ((dg.f[i] != 0) != (g.f[i] <= 7 && u.f[i] != -1 && fabs(dg.d[i]) > 1e-30) ||
            (du.f[i] != 0) != (fabsf(u.f[i]) <= 7 && fabs(du.d[i]) > 1e-30))
            return say(c, "clamped otherwise", i, dg.f[i], dg.d[i]);
    return near_all(c, dg, 40 * U, 800 * U) && near_all(c, du, 40 * U, 400 * U);
}

static bool check_softcap(ctx *c) {
    static const float special[] = {
        0, -0.0f, 1e-30f, -1e-6f, 1e30f, -1e30f, INFINITY, 1000, -500
    };
    static const double sizes[] = { 0.01, 1, 50, 300 };
    float cap = c->n % 2 ? 50 : 30;
    arr x = numbers(c, c->n, sizes[c->n / 2 % 4]), y = room(c, c->n);
    for (int64_t i = 0; i < c->n; i += 3)
        x.d[i] = x.f[i] = special[(i / 3 + c->n) % (int64_t)FJ_LEN(special)];
    c->k->softcap(y.f, x.f, cap, c->n), c->r->softcap(y.d, x.d, (double)cap, c->n);
    if (!near_all(c, y, 12 * U, 1e-35)) return false; /* stricter than a millionth of the cap */
    x.f[c->n - 1] = NAN;
    c->k->softcap(x.f, x.f, cap, c->n);
    return isnan(x.f[c->n - 1]) || say(c, "a NaN is hidden", c->n - 1, x.f[c->n - 1], NAN);
}

static bool check_softcap_bwd(ctx *c) {
    arr y = numbers(c, c->n, 1), dy = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n; i++) y.d[i] = y.f[i] = 30 * tanhf(y.f[i]);
    c->k->softcap_bwd(dy.f, y.f, dy.f, 30, c->n), c->r->softcap_bwd(dy.d, y.d, dy.d, 30, c->n);
    return near_all(c, dy, 4 * U, 40 * U);
}

/* How much rounding of x and of its mean may show in (x - mean) / deviation. */
static double norm_error(ctx *c, arr x) {
    double mean = 0, var = 0, big = 0;
    for (int64_t i = 0; i < c->n; i++) mean += x.d[i] / (double)c->n;
    for (int64_t i = 0; i < c->n; i++) {
        var += (x.d[i] - mean) * (x.d[i] - mean) / (double)c->n;
        big = fmax(big, fabs(x.d[i]));
    }
    return 8 * U * (1 + big / sqrt(var + 1e-5));
}

static bool check_layernorm(ctx *c) {
    arr y = room(c, c->n), x = numbers(c, c->n, 2), w = numbers(c, c->n, 1),
        b = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n; i++) x.d[i] = x.f[i] += 1;
    double off = norm_error(c, x);
    c->k->layernorm(y.f, x.f, w.f, b.f, c->n, 1e-5f);
    c->r->layernorm(y.d, x.d, w.d, b.d, c->n, 1e-5f);
    if (!near_all(c, y, off, 4 * off)) return false;
    c->k->layernorm(y.f, x.f, w.f, NULL, c->n, 1e-5f);
    c->r->layernorm(y.d, x.d, w.d, NULL, c->n, 1e-5f);
    return near_all(c, y, off, 4 * off);
}

static bool check_layernorm_dx(ctx *c) {
    arr dx = room(c, c->n), x = numbers(c, c->n, 2), w = numbers(c, c->n, 1),
        dy = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n; i++) x.d[i] = x.f[i] -= 1;
    c->k->layernorm_dx(dx.f, x.f, w.f, dy.f, c->n, 1e-5f);
    c->r->layernorm_dx(dx.d, x.d, w.d, dy.d, c->n, 1e-5f);
    double big = 0, mean = 0, var = 0;
    for (int64_t i = 0; i < c->n; i++) mean += x.d[i] / (double)c->n;
    for (int64_t i = 0; i < c->n; i++) {
        var += (x.d[i] - mean) * (x.d[i] - mean) / (double)c->n;
        big = fmax(big, fabs(w.d[i] * dy.d[i]));
    }
    double r = 1 / sqrt(var + 1e-5);
    return near_all(c, dx, 8 * U, 4 * norm_error(c, x) * r * big * sqrt((double)c->n));
}

static bool check_layernorm_dw(ctx *c) {
    arr dw = numbers(c, c->n, 1), x = numbers(c, c->n, 2), dy = numbers(c, c->n, 1);
    c->k->layernorm_dw(dw.f, x.f, dy.f, c->n, 1e-5f);
    c->r->layernorm_dw(dw.d, x.d, dy.d, c->n, 1e-5f);
    double off = norm_error(c, x);
    return near_all(c, dw, off, 4 * off);
}

static bool check_rope(ctx *c) {
    int64_t h = c->n;
    arr x = numbers(c, 2 * h, 1), y = room(c, 2 * h), cs = numbers(c, h, 1), sn = numbers(c, h, 1);
    c->k->rope(y.f, x.f, cs.f, sn.f, 2 * h, 1), c->r->rope(y.d, x.d, cs.d, sn.d, 2 * h, 1);
    if (!near_all(c, y, 4 * U, 20 * U)) return false;
    c->k->rope(x.f, x.f, cs.f, sn.f, 2 * h, -1), c->r->rope(x.d, x.d, cs.d, sn.d, 2 * h, -1);
    return near_all(c, x, 4 * U, 20 * U);
}

/* Distance from the true value in units of the last place of a float there. */
static double ulps(float got, double want) {
    float w = (float)want;
    if (isnan(want)) return isnan(got) ? 0 : 1e9;
    if (isinf(w)) return got == w ? 0 : 1e9;
    double ulp = fmax((double)nextafterf(fabsf(w), INFINITY) - (double)fabsf(w), 0x1p-149);
    return fabs((double)got - want) / ulp;
}

static bool check_vexp(ctx *c) {
    static const float special[] = { 0,      -0.0f, -INFINITY, INFINITY, NAN,
                                     -87.3f, -88,   -103.9f,   -104.1f,  -1e30f,
                                     1e30f,  88.7f, 88.73f,    1e-30f,   -1e-8f };
    arr x = numbers(c, c->n, 30), y = room(c, c->n);
    for (int64_t i = 0; i < c->n; i += 3)
        x.d[i] = x.f[i] = special[(i / 3 + c->n) % (int64_t)FJ_LEN(special)];
    c->k->vexp(y.f, x.f, c->n), c->r->vexp(y.d, x.d, c->n);
    for (int64_t i = 0; i < c->n; i++)
        if (!(ulps(y.f[i], y.d[i]) < 2)) return say(c, "2 ulp or more", i, y.f[i], y.d[i]);
    return true;
}

static bool check_vmax(ctx *c) {
    arr x = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n && c->n % 2; i++) x.d[i] = x.f[i] = -fabsf(x.f[i]);
    for (int64_t i = c->n / 3; i < c->n && c->n % 5 == 0; i += 1 + c->n / 4) x.d[i] = x.f[i] = NAN;
    return near1(c, c->k->vmax(x.f, c->n), c->r->vmax(x.d, c->n), 0, 0);
}

static bool check_sum_from(ctx *c) {
    arr w = numbers(c, c->n, 1), x = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n; i += 7) x.d[i] = x.f[i] = i % 2 ? 0.25f : NAN;
    double mag = 0;
    for (int64_t i = 0; i < c->n; i++) mag += fabs(w.d[i]);
    for (int k = 0; k < 2; k++) {
        float t = k ? 0.25f : -INFINITY;
        if (!near1(c, c->k->sum_from(w.f, x.f, t, c->n), c->r->sum_from(w.d, x.d, t, c->n), 0,
                   1e-14 * mag))
            return false;
    }
    return true;
}

static bool check_exp_sum(ctx *c) {
    arr x = numbers(c, c->n, 4), y = room(c, c->n);
    x.d[c->n / 2] = x.f[c->n / 2] = -INFINITY;
    double a = c->k->exp_sum(y.f, x.f, 5, c->n), b = c->r->exp_sum(y.d, x.d, 5, c->n);
    return near1(c, a, b, 40 * U, 0) && near_all(c, y, 40 * U, 0); /* x - max is rounded */
}

static bool check_logsumexp(ctx *c) {
    arr x = numbers(c, c->n, 4);
    return near1(c, c->k->logsumexp(x.f, c->n), c->r->logsumexp(x.d, c->n), 4 * U, 8 * U);
}

static bool check_softmax_ce(ctx *c) {
    arr x = numbers(c, c->n, 4);
    int64_t t = (int64_t)fj_rng_below(&c->rng, (uint64_t)c->n);
    double a = c->k->softmax_ce(x.f, c->n, t, 0.7f), b = c->r->softmax_ce(x.d, c->n, t, 0.7f);
    return near1(c, a, b, 8 * U, 20 * U) && near_all(c, x, 60 * U, 2 * U);
}

static bool check_adamw(ctx *c) {
    arr p = numbers(c, c->n, 1), m = numbers(c, c->n, 0.1), v = numbers(c, c->n, 0.1),
        g = numbers(c, c->n, 1);
    for (int64_t i = 0; i < c->n; i++) v.d[i] = v.f[i] = fabsf(v.f[i]);
    fj_adamw h = { .lr = 0.01,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 1e-8,
                   .wd = 0.1,
                   .bc1 = 1 - pow(0.9, 3),
                   .bc2 = 1 - pow(0.999, 3),
                   .gscale = 0.5 };
    c->k->adamw(p.f, m.f, v.f, g.f, c->n, &h), c->r->adamw(p.d, m.d, v.d, g.d, c->n, &h);
    return near_all(c, p, 4 * U, 20 * U) && near_all(c, m, 4 * U, 8 * U) &&
           near_all(c, v, 8 * U, 8 * U);
}

static bool check_transpose(ctx *c) {
    int64_t rows = 1 + c->n % 53, cols = 1 + c->n % 41, lds = cols + c->n % 3,
            ldd = rows + c->n % 5;
    arr src = numbers(c, (rows - 1) * lds + cols, 1), dst = room(c, (cols - 1) * ldd + rows);
    for (int64_t i = 0; i < dst.n; i++) dst.f[i] = 9;
    c->k->transpose(dst.f, ldd, src.f, lds, rows, cols);
    for (int64_t i = 0; i < dst.n; i++) {
        int64_t col = i / ldd, r = i % ldd;
        float want = r < rows ? src.f[r * lds + col] : 9;
        if (dst.f[i] != want) return say(c, "not moved", i, dst.f[i], want);
    }
    return true;
}

/* Rows at any distance, from any address. */
static bool check_words(ctx *c) {
    int64_t rows = 1 + c->n % 49, n = 1 + c->n % 37, odd = c->n % 7, stride = 4 * n + odd,
            ldd = rows + c->n % 5;
    arr src = numbers(c, (rows * stride + 3) / 4 + 1, 1), dst = room(c, (n - 1) * ldd + rows);
    const char *from =
        (const char *)(src.f + src.n) - rows * stride + odd; /* ends where src does */
    for (int64_t i = 0; i < dst.n; i++) dst.f[i] = 9;
    c->k->words((uint32_t *)(void *)dst.f, ldd, from, stride, rows, n);
    for (int64_t i = 0; i < dst.n; i++) {
        float want = 9;
        if (i % ldd < rows) memcpy(&want, from + i % ldd * stride + 4 * (i / ldd), 4);
        if (memcmp(&dst.f[i], &want, 4)) return say(c, "not moved", i, dst.f[i], want);
    }
    return true;
}

static bool check_gemm(ctx *c) {
    int mr = 1 + (int)(c->n % 8), np = 1 + (int)(c->n % 3);
    int64_t k = 1 + c->n % 301, cols = 16 * np, ldb = cols + c->n % 2 * 3, ldt = cols + c->n % 5;
    bool major = c->n & 8, first = c->n & 4;
    int64_t ars = major ? 1 : k + 2, acs = major ? mr : 1;
    arr a = numbers(c, major ? k * mr : mr * ars, 1), b = numbers(c, (k - 1) * ldb + cols, 1);
    arr t = numbers(c, (mr - 1) * ldt + cols, 1);
    c->k->gemm(t.f, ldt, a.f, ars, acs, b.f, ldb, k, mr, np, first);
    c->r->gemm(t.d, ldt, a.d, ars, acs, b.d, ldb, k, mr, np, first);
    return near_all(c, t, 0, U * (double)(k + 4) * 8);
}

static bool check_tile_out(ctx *c) {
    int64_t rows = 1 + c->n % 8, cols = 1 + c->n % 48, ldy = cols + c->n % 7;
    arr t = numbers(c, rows * 48, 1), y = numbers(c, (rows - 1) * ldy + cols, 1);
    c->k->tile_out(y.f, ldy, t.f, 48, rows, cols, 0.3f, c->n & 1);
    c->r->tile_out(y.d, ldy, t.d, 48, rows, cols, 0.3f, c->n & 1);
    return near_all(c, y, 2 * U, 4 * U);
}

static bool check_softmax_block(ctx *c) {
    int64_t rows = 1 + c->n % 40;
    arr s = numbers(c, rows * 32, 3), max = numbers(c, rows, 2), sum = numbers(c, rows, 1),
        fix = room(c, rows);
    arr seen = room(c, rows), low = room(c, rows);
    int32_t *n = (int32_t *)(void *)seen.f, *from = (int32_t *)(void *)low.f;
    for (int64_t r = 0; r < rows; r++) {
        n[r] = 1 + (int32_t)((c->n * 7 + r * 5) % 32);
        from[r] = (int32_t)((c->n + r) % 3 ? 0 : (c->n * 3 + r * 11) % n[r]);
        if ((r + c->n) % 5 == 0) max.d[r] = max.f[r] = -INFINITY, sum.d[r] = sum.f[r] = 0;
    }
    c->k->softmax_block(s.f, rows, from, n, max.f, sum.f, fix.f);
    c->r->softmax_block(s.d, rows, from, n, max.d, sum.d, fix.d);
    return near_all(c, s, 40 * U, 0) && near_all(c, max, 0, 0) &&
           near_all(c, sum, 40 * U, 40 * U) && near_all(c, fix, 40 * U, 0);
}

static bool check_softmax_block_bwd(ctx *c) {
    int64_t rows = 1 + c->n % 40;
    arr s = numbers(c, rows * 32, 3), ds = numbers(c, rows * 32, 1), lse = numbers(c, rows, 2);
    arr d = numbers(c, rows, 1), seen = room(c, rows), low = room(c, rows);
    int32_t *n = (int32_t *)(void *)seen.f, *from = (int32_t *)(void *)low.f;
    for (int64_t r = 0; r < rows; r++) {
        n[r] = 1 + (int32_t)((c->n * 7 + r * 5) % 32);
        from[r] = (int32_t)((c->n + r) % 3 ? 0 : (c->n * 3 + r * 11) % n[r]);
    }
    c->k->softmax_block_bwd(s.f, ds.f, rows, from, n, lse.f, d.f);
    c->r->softmax_block_bwd(s.d, ds.d, rows, from, n, lse.d, d.d);
    double big = 0;
    for (int64_t i = 0; i < s.n; i++) big = fmax(big, s.d[i]);
    return near_all(c, s, 40 * U, 0) && near_all(c, ds, 40 * U, 8 * U * big);
}

/* Rows with all that rounding must get right. */
static arr strange(ctx *c, int64_t n) {
    static const float special[] = { 0,         -0.0f,     INFINITY,  -INFINITY,   NAN,
                                     1e-40f,    -1e-40f,   3.4e38f,   65504,       65520,
                                     65519.99f, 6e-8f,     2.9e-8f,   1.00390625f, 1.01171875f,
                                     1e-8f,     -3.39e38f, 0x1p-126f, 0x1p-127f };
    arr x = numbers(c, n, 10);
    for (int64_t i = c->n % 4; i < n; i += 4)
        x.f[i] = special[(i / 4 + c->n) % (int64_t)FJ_LEN(special)];
    return x;
}

static bool same16(ctx *c, const uint16_t *got, const uint16_t *want, int64_t n, uint16_t inf) {
    for (int64_t i = 0; i < n; i++) {
        bool nan = (want[i] & 0x7fff) > inf;
        if (nan ? (got[i] & 0x7fff) <= inf : got[i] != want[i])
            return say(c, "rounded otherwise", i, got[i], want[i]);
    }
    return true;
}

static bool check_f32_to_bf16(ctx *c) {
    arr x = strange(c, c->n), y = room(c, (c->n + 1) / 2);
    uint16_t *want = (uint16_t *)(void *)y.d, *got = (uint16_t *)(void *)y.f + c->n % 2;
    memset(y.f, 0, (size_t)y.n * 4);
    c->k->f32_to_bf16(got, x.f, c->n);
    for (int64_t i = 0; i < c->n; i++)
        want[i] = fj_f32_to_bf16(fabsf(x.f[i]) < 0x1p-126f ? copysignf(0, x.f[i]) : x.f[i]);
    if (c->n % 2 && *(uint16_t *)(void *)y.f) return say(c, "wrote before its row", -1, 1, 0);
    return same16(c, got, want, c->n, 0x7f80);
}

static bool check_f32_to_f16(ctx *c) {
    arr x = strange(c, c->n), y = room(c, (c->n + 1) / 2);
    uint16_t *want = (uint16_t *)(void *)y.d, *got = (uint16_t *)(void *)y.f + c->n % 2;
    c->k->f32_to_f16(got, x.f, c->n);
    for (int64_t i = 0; i < c->n; i++) want[i] = fj_f32_to_f16(x.f[i]);
    return same16(c, got, want, c->n, 0x7c00);
}

static bool from16(ctx *c, void (*f)(float *, const uint16_t *, int64_t), float (*one)(uint16_t)) {
    arr x = room(c, (c->n + 1) / 2), y = room(c, c->n);
    uint16_t *h = (uint16_t *)(void *)x.f + c->n % 2;
    for (int64_t i = 0; i < c->n; i++) h[i] = (uint16_t)fj_rng_u64(&c->rng);
    f(y.f, h, c->n);
    for (int64_t i = 0; i < c->n; i++) {
        float want = one(h[i]);
        if (isnan(want) ? !isnan(y.f[i]) : y.f[i] != want) return say(c, "off", i, y.f[i], want);
    }
    return true;
}

static float bf16_one(uint16_t h) { return fj_bf16_to_f32(h); }
static bool check_bf16_to_f32(ctx *c) { return from16(c, c->k->bf16_to_f32, bf16_one); }
static bool check_f16_to_f32(ctx *c) { return from16(c, c->k->f16_to_f32, fj_f16_to_f32); }

static bool check_f16_to_bf16(ctx *c) {
    arr x = room(c, (c->n + 1) / 2), y = room(c, (c->n + 1) / 2);
    uint16_t *h = (uint16_t *)(void *)x.f, *want = (uint16_t *)(void *)y.d;
    for (int64_t i = 0; i < c->n; i++) h[i] = (uint16_t)fj_rng_u64(&c->rng);
    c->k->f16_to_bf16((uint16_t *)(void *)y.f, h, c->n);
    for (int64_t i = 0; i < c->n; i++) want[i] = fj_f32_to_bf16(fj_f16_to_f32(h[i]));
    return same16(c, (uint16_t *)(void *)y.f, want, c->n, 0x7f80);
}

static bool check_turn_pairs(ctx *c) {
    int64_t n2 = 1 + c->n % 29, k = 1 + c->n % 53, lds = 2 * n2 + c->n % 3, ldd = k + c->n % 5;
    arr src = room(c, ((k + 1) / 2 - 1) * lds + 2 * n2), dst = room(c, (n2 - 1) * ldd + k);
    uint16_t *from = (uint16_t *)(void *)src.f, *to = (uint16_t *)(void *)dst.f;
    for (int64_t i = 0; i < 2 * src.n; i++) from[i] = (uint16_t)fj_rng_u64(&c->rng);
    for (int64_t i = 0; i < 2 * dst.n; i++) to[i] = 9;
    c->k->turn_pairs((uint32_t *)(void *)to, ldd, (const uint32_t *)(const void *)from, lds, n2, k);
    for (int64_t i = 0; i < 2 * dst.n; i++) {
        int64_t j = i / 2 / ldd, v = i / 2 % ldd;
        uint16_t want = v < k ? from[2 * (v / 2 * lds + 2 * j + i % 2) + v % 2] : 9;
        if (to[i] != want) return say(c, "not turned", i, to[i], want);
    }
    return true;
}

static bool check_pairs_bf16(ctx *c) {
    arr a = strange(c, c->n), b = strange(c, c->n), y = room(c, c->n), z = room(c, c->n);
    uint32_t *got = (uint32_t *)(void *)y.f, *low = (uint32_t *)(void *)z.f;
    uint16_t *want = fj_alloc((size_t)c->n * 4), *have = fj_alloc((size_t)c->n * 4);
    c->k->pairs_bf16(got, a.f, b.f, c->n);
    c->k->pairs_bf16(low, a.f, NULL, c->n);
    c->scalar->f32_to_bf16(want, a.f, c->n);
    c->scalar->f32_to_bf16(want + c->n, b.f, c->n);
    bool ok = true;
    for (int64_t i = 0; i < c->n; i++) {
        have[i] = (uint16_t)got[i];
        have[c->n + i] = (uint16_t)(got[i] >> 16);
        if (low[i] != (got[i] & 0xffff) && ok) ok = say(c, "without b", i, low[i], got[i]);
    }
    ok = ok && same16(c, have, want, 2 * c->n, 0x7f80);
    free(want), free(have);
    return ok;
}

/* The order of tiles: even and odd products of 16 pairs in chains of their own. */
static float tile_chain(const uint32_t *a, const uint32_t *b, int64_t ldb, int64_t k, float s) {
    for (int64_t i = 0; i < k; i += 16) {
        float even = 0, odd = 0;
        for (int64_t j = i; j < k && j < i + 16; j++) {
            uint32_t x = a[j], w = b[j * ldb];
            even = fmaf(fj_bf16_to_f32((uint16_t)x), fj_bf16_to_f32((uint16_t)w), even);
            odd =
                fmaf(fj_bf16_to_f32((uint16_t)(x >> 16)), fj_bf16_to_f32((uint16_t)(w >> 16)), odd);
        }
        s += even + odd;
    }
    return s;
}

static bool check_gemm_bf16(ctx *c) {
    int mr = 1 + (int)(c->n % (c->n & 8 ? 8 : c->k->bf16_rows)), np = 1 + (int)(c->n % 3);
    int64_t k = 1 + c->n % 151, cols = 16 * np, ldb = cols + c->n % 2 * 3, ldt = cols + c->n % 5;
    bool major = c->n & 8, first = c->n & 4;
    int64_t ars = major ? 1 : k + 2, acs = major ? mr : 1;
    arr a = numbers(c, major ? k * mr : mr * ars, 1), b = numbers(c, (k - 1) * ldb + cols, 1);
    arr t = numbers(c, (mr - 1) * ldt + cols, 1);
    uint32_t *pa = (uint32_t *)(void *)a.f, *pb = (uint32_t *)(void *)b.f;
    /* numbers of bf16, two to a word; the reference sees each pair as two products */
    for (int64_t i = 0; i < a.n; i++)
        pa[i] = fj_f32_to_bf16(a.f[i]) | (uint32_t)fj_f32_to_bf16((float)i * 1e-3f) << 16;
    for (int64_t i = 0; i < b.n; i++)
        pb[i] = fj_f32_to_bf16(b.f[i]) | (uint32_t)fj_f32_to_bf16((float)(i % 9) - 4) << 16;
    for (int r = 0; r < mr; r++)
        for (int64_t j = 0; j < cols; j++) {
            double s = first ? 0 : t.d[r * ldt + j];
            for (int64_t i = 0; i < k; i++) {
                uint32_t x = pa[r * ars + i * acs], w = pb[i * ldb + j];
                s += (double)fj_bf16_to_f32((uint16_t)x) * fj_bf16_to_f32((uint16_t)w) +
                     (double)fj_bf16_to_f32((uint16_t)(x >> 16)) *
                         fj_bf16_to_f32((uint16_t)(w >> 16));
            }
            t.d[r * ldt + j] = s;
        }
    float *tiles = fj_alloc((size_t)t.n * sizeof *tiles);
    bool same = true, amx = strstr(c->k->isa, "amx") && !major;
    for (int r = 0; r < mr && amx; r++)
        for (int64_t j = 0; j < cols; j++)
            tiles[r * ldt + j] =
                tile_chain(pa + r * ars, pb + j, ldb, k, first ? 0 : t.f[r * ldt + j]);
    c->k->gemm_bf16(t.f, ldt, pa, ars, acs, pb, ldb, k, mr, np, first);
    for (int r = 0; r < mr && amx; r++)
        for (int64_t j = 0; j < cols && same; j++)
            if (tiles[r * ldt + j] != t.f[r * ldt + j])
                same = say(c, "tiles", r * ldt + j, t.f[r * ldt + j], tiles[r * ldt + j]);
    free(tiles);
    return same && near_all(c, t, 4e-6, U * (double)(k + 4) * 40);
}

static int64_t up32(int64_t n) { return (n + 31) / 32 * 32; }

/* Every format of panels, and every kind of rows. */
static const fj_dtype blocked[] = { FJ_Q8_0, FJ_Q4_0,   FJ_MXFP4, FJ_Q4_1, FJ_Q5_0,
                                    FJ_Q5_1, FJ_IQ4_NL, FJ_Q4_K,  FJ_Q5_K, FJ_IQ4_XS,
                                    FJ_Q6_K, FJ_Q3_K,   FJ_Q2_K };

static fj_dtype some_blocks(const ctx *c) { return blocked[c->n % (int64_t)FJ_LEN(blocked)]; }

static bool same_bits(float a, float b) { return !memcmp(&a, &b, 4) || (isnan(a) && isnan(b)); }

static bool check_quant_a8(ctx *c) {
    const int kind = fj_a8_kind(some_blocks(c)), group = kind & FJ_A8_16 ? 16 : 32;
    int64_t k = up32(c->n), records = (k + 255) / 256, stride = 1 + c->n % 3;
    arr x = numbers(c, k, 3),
        y = room(c, ((records - 1) * stride + 1) * (int64_t)(sizeof(fj_a8) / 4));
    if (c->n % 5 == 0) memset(x.f + k / 64 * 32, 0, 128);
    if (c->n % 7 == 0) x.f[k - 1] = c->n % 2 ? NAN : -INFINITY;
    if (c->n % 11 == 0) x.f[0] = 1e-35f;
    memset(y.f, 0, (size_t)y.n * 4);
    fj_a8 *got = (fj_a8 *)(void *)y.f, *want = fj_zalloc((size_t)y.n * 4);
    c->k->quant_a8(got, stride, x.f, k, kind);
    c->scalar->quant_a8(want, stride, x.f, k, kind);
    bool ok = true;
    for (int64_t i = 0; i < k && ok; i++) {
        const fj_a8 *a = got + i / 256 * stride, *b = want + i / 256 * stride;
        int64_t j = i % 256, g = j / group;
        float d = a->d[j / 32];
        if (a->q[j] != b->q[j] || !same_bits(d, b->d[j / 32]) || !same_bits(a->sum[g], b->sum[g]))
            ok = say(c, "not what scalar makes", i, a->q[j], b->q[j]);
        double off = fabs((double)d * a->q[j] - (double)x.f[i]);
        if (ok && !isnan(d) && !(off <= 0.501 * (double)d + 1e-29))
            ok = say(c, "far off", i, d * a->q[j], x.f[i]);
        int sum = 0;
        for (int64_t l = g * group; l < (g + 1) * group; l++) sum += a->q[l];
        if (ok && !(kind & FJ_A8_MIN) && a->corr[g] != -sum * (kind & FJ_A8_OFFSET))
            ok = say(c, "correction", i, a->corr[g], sum);
        float want_sum = (float)sum * (kind & FJ_A8_WIDE ? 1 : d);
        if (ok && kind & FJ_A8_MIN && !same_bits(a->sum[g], want_sum))
            ok = say(c, "sum", i, a->sum[g], want_sum);
    }
    free(want);
    return ok;
}

/* A tile of any codes that the kind can have, at a multiple of 64 bytes. */
static fj_w8 *any_tile(ctx *c, int kind) {
    static _Alignas(64) fj_w8 w;
    const uint32_t bits = (kind & FJ_A8_OFFSET) == 128 ? UINT32_MAX : 0x3f3f3f3f;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 32; j++) w.w[i / 8][i % 8][j] = (uint32_t)fj_rng_u64(&c->rng) & bits;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 32; j++) {
            w.d[i][j] = (float)fj_rng_normal(&c->rng) * 0.01f;
            w.m[i][j] = (float)fj_rng_normal(&c->rng) * 0.1f;
        }
    return &w;
}

static int code_of(const fj_w8 *w, int64_t i, int64_t column) {
    return (int)(w->w[i / 32][i % 32 / 4][column] >> 8 * (i % 4) & 255);
}

static bool check_gemm_w8(ctx *c) {
    const int kind = fj_a8_kind(some_blocks(c)), group = kind & FJ_A8_16 ? 16 : 32;
    const int64_t rows = 1 + c->n % 37;
    const int nb = 1 + (int)(c->n % 8);
    const bool first = c->n & 8;
    const fj_w8 *w = any_tile(c, kind);
    arr x = numbers(c, rows * 256, 1), a = room(c, rows * (int64_t)(sizeof(fj_a8) / 4)),
        t = numbers(c, rows * 32, 1);
    fj_a8 *rec = (fj_a8 *)(void *)a.f;
    memset(a.f, 0, (size_t)a.n * 4);
    for (int64_t r = 0; r < rows; r++)
        c->scalar->quant_a8(rec + r, 1, x.f + r * 256, nb * 32, kind);
    float *want = fj_alloc((size_t)t.n * 4);
    memcpy(want, t.f, (size_t)t.n * 4);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < 32; j++) {
            double s = first ? 0 : t.d[r * 32 + j];
            for (int64_t i = 0; i < 32 * nb; i++) {
                double v = w->d[i / group][j] * (code_of(w, i, j) - (kind & FJ_A8_OFFSET));
                if (kind & FJ_A8_MIN) v += (double)w->m[i / group][j];
                s += (double)rec[r].q[i] * (double)rec[r].d[i / 32] * v;
            }
            t.d[r * 32 + j] = s;
        }
    c->k->gemm_w8(t.f, rec, w, nb, rows, kind, first, w, c->n % 3 ? sizeof *w : 0);
    c->scalar->gemm_w8(want, rec, w, nb, rows, kind, first, NULL, 0);
    for (int64_t i = 0; i < t.n; i++)
        if (!same_bits(want[i], t.f[i])) return say(c, "not what scalar makes", i, t.f[i], want[i]);
    free(want);
    return near_all(c, t, 1e-5, 1e-4);
}

/* Panels written out once more from what panel.h says, any bytes in them: the tile is what fj_dequant_row
 * makes of the blocks, and rows of it are its numbers. */
static bool blocks_to_rows(ctx *c, bool from_scalar_tile) {
    const fj_dtype dt = some_blocks(c);
    const fj_dtype_info *d = fj_dtype_get(dt);
    const int kind = fj_a8_kind(dt), half = kind & FJ_A8_16 ? 2 : 1;
    const int b0 = (int)(c->n % 8), nb = 1 + (int)(c->n / 8 % (8 - b0)), count = 256 / d->block;
    const int c0 = (int)(c->n % 29), n = 1 + (int)(c->n / 3 % (32 - c0));
    const int64_t ld = 32 * nb + c->n % 5;
    arr p = room(c, 32 * count * d->bytes / 4), y = room(c, (n - 1) * ld + 32 * nb);
    uint8_t *panel = (uint8_t *)(void *)p.f;
    float *x = fj_alloc(32 * 256 * sizeof *x);
    for (int col = 0; col < 32; col++) {
        uint8_t row[8 * 34];
        any_row(&c->rng, dt, row, 256, 1);
        fj_dequant_row(dt, row, x + 256 * col, 256);
        for (int b = 0, at = 0; b < count; b++)
            for (const fj_field *f = fj_panel_fields(dt); f->bytes; at += 32 * f->bytes, f++)
                for (int i = 0; i < f->bytes; i++)
                    panel[at + (i / f->unit * 32 + col) * f->unit + i % f->unit] =
                        row[b * d->bytes + f->from + i] ^ (f->flip ? 0x80 : 0);
    }
    static fj_w8 w;
    memset(&w, 0, sizeof w);
    (from_scalar_tile ? c->scalar : c->k)->w8_unpack(&w, dt, panel, b0, nb);
    for (int64_t i = 0; i < y.n; i++) y.f[i] = 9;
    (from_scalar_tile ? c->k : c->scalar)->w8_rows(y.f, ld, &w, nb, kind, c0, n);
    bool ok = true;
    for (int64_t i = 0; i < y.n && ok; i++) {
        float want = i % ld < 32 * nb ? x[(c0 + i / ld) * 256 + 32 * b0 + i % ld] : 9;
        if (y.f[i] != want) ok = say(c, d->name, i, y.f[i], want);
    }
    /* Not a byte beyond the blocks asked for. */
    for (int i = nb * 8; i < 64 && ok; i++)
        for (int j = 0; j < 32 && ok; j++)
            if (w.w[i / 8][i % 8][j]) ok = say(c, "codes beyond the blocks", i, j, 0);
    for (int i = nb * half; i < 16 && ok; i++)
        for (int j = 0; j < 32 && ok; j++)
            if (w.d[i][j] != 0 || w.m[i][j] != 0) ok = say(c, "scales beyond the blocks", i, j, 0);
    free(x);
    return ok;
}

/* The bits of unpacking and multiplying one super-block after the other, by the scalar kernels. */
static bool check_few_w8(ctx *c) {
    const fj_dtype dt = some_blocks(c);
    const fj_dtype_info *d = fj_dtype_get(dt);
    const int kind = fj_a8_kind(dt), rows = 1 + (int)(c->n / 16 % 4);
    const int64_t nb = d->block > 32 ? 8 * (1 + c->n % 3) : 1 + c->n % 19, sb = (nb + 7) / 8,
                  stride = rows + c->n % 2, super = 32 * (256 / d->block) * d->bytes;
    arr x = numbers(c, rows * nb * 32, 1),
        a = room(c, ((sb - 1) * stride + rows) * (int64_t)(sizeof(fj_a8) / 4)),
        p = room(c, nb * 32 / d->block * 32 * d->bytes / 4), t = room(c, rows * 32);
    fj_a8 *rec = (fj_a8 *)(void *)a.f;
    memset(a.f, 0, (size_t)a.n * 4);
    for (int r = 0; r < rows; r++)
        c->scalar->quant_a8(rec + r, stride, x.f + r * nb * 32, nb * 32, kind);
    uint8_t *panels = (uint8_t *)(void *)p.f;
    for (int64_t i = 0; i < p.n * 4; i++) panels[i] = (uint8_t)fj_rng_u64(&c->rng);
    for (int64_t i = 0, at = 0; i < nb * 32 / d->block; i++)
        for (const fj_field *f = fj_panel_fields(dt); f->bytes; at += 32 * f->bytes, f++)
            for (int64_t j = 0; f->unit == 2 && j < 32 * f->bytes; j += 2) {
                uint16_t h = fj_f32_to_f16((float)fj_rng_normal(&c->rng) * 0.01f);
                memcpy(panels + at + j, &h, 2); /* scales that are numbers */
            }
    float want[4 * 32];
    for (int64_t i = 0; i < nb; i += 8) {
        static fj_w8 w;
        int len = nb - i < 8 ? (int)(nb - i) : 8;
        c->scalar->w8_unpack(&w, dt, panels + i / 8 * super, 0, len);
        c->scalar->gemm_w8(want, rec + i / 8 * stride, &w, len, rows, kind, i == 0, NULL, 0);
    }
    c->k->few_w8(t.f, rec, stride, dt, panels, nb, rows);
    for (int64_t i = 0; i < t.n; i++)
        if (!same_bits(want[i], t.f[i])) return say(c, d->name, i, t.f[i], want[i]);
    return true;
}

static bool check_w8_unpack(ctx *c) { return blocks_to_rows(c, false); }
static bool check_w8_rows(ctx *c) { return blocks_to_rows(c, true); }

/* ---- quantising: the bits of the scalar form, and errors that are what they are said to be ------------ */
typedef struct group {
    arr x, w;
    const float *weight; /* w, or NULL one time in three */
    int n;
} group;

static group group_of(ctx *c) {
    group g = { .n = c->n % 2 ? 16 : 32 };
    g.x = numbers(c, g.n, exp(fj_rng_normal(&c->rng)));
    g.w = numbers(c, g.n, 1);
    double shift = c->n % 5 ? 0 : 3 * fj_rng_normal(&c->rng);
    for (int i = 0; i < g.n; i++) {
        g.x.d[i] = g.x.f[i] += (float)shift;
        if (c->n % 11 == 0) g.x.d[i] = g.x.f[i] = g.x.f[0]; /* all the same */
        g.w.d[i] = g.w.f[i] = fj_rng_below(&c->rng, 5) ? (float)(1 - fj_rng_double(&c->rng)) : 0;
    }
    g.w.d[0] = g.w.f[0] = 1;
    g.weight = c->n % 3 ? g.w.f : NULL;
    return g;
}

/* In double, by trying every code. */
static double group_off(const group *g, double s, double m, int lo, int hi, const float *level) {
    double sum = 0;
    for (int i = 0; i < g->n; i++) {
        double least = INFINITY;
        for (int q = lo; q <= hi; q++)
            least = fmin(least, pow(s * (level ? (double)level[q] : q) + m - g->x.d[i], 2));
        sum += (g->weight ? g->w.d[i] : 1) * least;
    }
    return sum;
}

static double group_size(const group *g) {
    double sum = 1e-30;
    for (int i = 0; i < g->n; i++) sum += g->x.d[i] * g->x.d[i];
    return sum;
}

static bool same_floats(ctx *c, const float *got, const float *want, int n) {
    for (int i = 0; i < n; i++)
        if (memcmp(got + i, want + i, 4))
            return say(c, "not the bits of scalar", i, got[i], want[i]);
    return true;
}

static bool known_error(ctx *c, const group *g, double got, double want) {
    if (fabs(got - want) <= 1e-4 * want + 1e-10 * group_size(g)) return true;
    return say(c, "error", 0, got, want);
}

static const int tops[] = { 3, 15, 31 };

static bool check_quant_fit_line(ctx *c) {
    group g = group_of(c);
    int top = tops[c->n % 7 % 3], from = (int)(c->n % 13 % 5);
    bool below = c->n & 4;
    float want[6];
    arr best = room(c, 6);
    c->k->quant_fit_line(best.f, g.x.f, g.weight, g.n, (float)top, below, from);
    c->scalar->quant_fit_line(want, g.x.f, g.weight, g.n, (float)top, below, from);
    if (!same_floats(c, best.f, want, 6)) return false;
    if (below && best.f[1] > 0) return say(c, "min above 0", 1, best.f[1], 0);
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < g.n; i++) lo = fmin(lo, g.x.d[i]), hi = fmax(hi, g.x.d[i]);
    if (!(hi > lo)) return true;
    if (below) lo = fmin(lo, 0);
    double plain = group_off(&g, (hi - lo) / top, lo, 0, top, NULL);
    /* the second set of starts has the range itself; no round makes it worse */
    double most = (from == 1 ? 1.0001 : 4) * plain + 1e-10 * group_size(&g);
    if (!(best.f[3] <= most)) return say(c, "worse than the range", 3, best.f[3], plain);
    return known_error(c, &g, best.f[3], group_off(&g, best.f[0], best.f[1], 0, top, NULL));
}

static bool check_quant_fit_scale(ctx *c) {
    static const int ends[] = { -4, -8, -16, -32 };
    group g = group_of(c);
    int lo = ends[c->n % 7 % 4], hi = -lo - 1;
    float want[2];
    arr best = room(c, 2);
    c->k->quant_fit_scale(best.f, g.x.f, g.weight, g.n, (float)lo, (float)hi, (int)(c->n & 1));
    c->scalar->quant_fit_scale(want, g.x.f, g.weight, g.n, (float)lo, (float)hi, (int)(c->n & 1));
    if (!same_floats(c, best.f, want, 2)) return false;
    double largest = 0;
    for (int i = 0; i < g.n; i++)
        if (fabs(g.x.d[i]) > fabs(largest)) largest = g.x.d[i];
    double off = group_off(&g, best.f[0], 0, lo, hi, NULL),
           plain = group_off(&g, largest / lo, 0, lo, hi, NULL);
    if (!(off <= 1.3 * plain + 1e-10 * group_size(&g)))
        return say(c, "worse than plain", 0, off, plain);
    return hi > 20 || known_error(c, &g, best.f[1], off);
}

/* Levels of IQ4, and middles of them. */
static void some_levels(float *level) {
    for (int i = 0; i < 16; i++) level[i] = fj_iq4_levels[i];
    for (int i = 0; i < 15; i++) level[16 + i] = (level[i] + level[i + 1]) / 2;
    level[31] = 0;
}

static bool check_quant_fit_level(ctx *c) {
    group g = group_of(c);
    float want[2], level[32];
    arr best = room(c, 2);
    some_levels(level);
    c->k->quant_fit_level(best.f, g.x.f, g.weight, g.n, level);
    c->scalar->quant_fit_level(want, g.x.f, g.weight, g.n, level);
    return same_floats(c, best.f, want, 2) &&
           known_error(c, &g, best.f[1], group_off(&g, best.f[0], 0, 0, 15, level));
}

static bool check_quant_try_line(ctx *c) {
    group g = group_of(c);
    arr s = numbers(c, 16, 0.2), m = numbers(c, 16, 1), error = room(c, 16);
    float want[16];
    s.d[3] = s.f[3] = 0;
    c->k->quant_try_line(error.f, g.x.f, g.weight, g.n, s.f, m.f, -4, 11);
    c->scalar->quant_try_line(want, g.x.f, g.weight, g.n, s.f, m.f, -4, 11);
    if (!same_floats(c, error.f, want, 16)) return false;
    for (int i = 0; i < 16; i++)
        if (!known_error(c, &g, error.f[i], group_off(&g, s.d[i], m.d[i], -4, 11, NULL)))
            return false;
    return true;
}

static bool check_quant_try_level(ctx *c) {
    group g = group_of(c);
    arr s = numbers(c, 16, 0.02), error = room(c, 16);
    float want[16], level[32];
    some_levels(level);
    s.d[3] = s.f[3] = 0;
    c->k->quant_try_level(error.f, g.x.f, g.weight, g.n, s.f, level);
    c->scalar->quant_try_level(want, g.x.f, g.weight, g.n, s.f, level);
    if (!same_floats(c, error.f, want, 16)) return false;
    for (int i = 0; i < 16; i++)
        if (!known_error(c, &g, error.f[i], group_off(&g, s.d[i], 0, 0, 15, level))) return false;
    return true;
}

/* Sums and codes belong together. */
static bool codes_of(ctx *c, bool levels) {
    group g = group_of(c);
    float s = (float)(fj_rng_normal(&c->rng) * (levels ? 0.02 : 0.2)), level[32], want[3];
    float m = levels ? 0 : (float)fj_rng_normal(&c->rng);
    uint8_t codes[32];
    double sum[3] = { 0 };
    arr q = room(c, g.n / 4), sums = room(c, 3);
    uint8_t *code = (uint8_t *)(void *)q.f;
    some_levels(level);
    if (levels) {
        c->k->quant_codes_level(code, g.x.f, g.n, s, level);
        c->k->quant_sums_level(sums.f, g.x.f, g.weight, g.n, s, level);
        c->scalar->quant_codes_level(codes, g.x.f, g.n, s, level);
        c->scalar->quant_sums_level(want, g.x.f, g.weight, g.n, s, level);
    } else {
        c->k->quant_codes(code, g.x.f, g.n, s, m, -8, 7);
        c->k->quant_sums(sums.f, g.x.f, g.weight, g.n, s, m, -8, 7);
        c->scalar->quant_codes(codes, g.x.f, g.n, s, m, -8, 7);
        c->scalar->quant_sums(want, g.x.f, g.weight, g.n, s, m, -8, 7);
    }
    double off = 0, most = 0;
    for (int i = 0; i < g.n; i++) {
        if (code[i] != codes[i]) return say(c, "code", i, code[i], codes[i]);
        double v = levels ? (double)level[code[i]] : code[i] - 8, w = g.weight ? g.w.d[i] : 1;
        off += w * pow(s * v + m - g.x.d[i], 2);
        sum[0] += levels ? 0 : w * v;
        sum[1] += w * v * v;
        sum[2] += w * g.x.d[i] * v;
        most += w * fabs(g.x.d[i] * v);
    }
    for (int i = 0; i < 3; i++)
        if (fabs(sums.f[i] - sum[i]) > 1e-5 * (sum[1] + most))
            return say(c, "sum", i, sums.f[i], sum[i]);
    return same_floats(c, sums.f, want, 3) &&
           known_error(c, &g, off,
                       levels ? group_off(&g, s, 0, 0, 15, level)
                              : group_off(&g, s, m, -8, 7, NULL));
}

static bool check_quant_codes(ctx *c) { return codes_of(c, false); }
static bool check_quant_codes_level(ctx *c) { return codes_of(c, true); }
static bool check_quant_sums(ctx *c) { return codes_of(c, false); }
static bool check_quant_sums_level(ctx *c) { return codes_of(c, true); }

static bool check_quant_q8_0(ctx *c) {
    int64_t count = 1 + c->n % 9;
    arr x = numbers(c, 32 * count, exp(4 * fj_rng_normal(&c->rng))),
        q = room(c, (34 * count + 3) / 4);
    static const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f, 1e-40f };
    if (c->n % 4 == 0) x.f[c->n % 32] = bad[c->n / 4 % 5];
    uint8_t *got = (uint8_t *)(void *)(q.f + q.n) - 34 * count, want[34 * 9];
    fj_q8_0 b[9];
    memset(q.f, 0, (size_t)q.n * 4);
    got -= (uintptr_t)got % 2; /* an f16 is aligned */
    c->k->quant_q8_0(got, x.f, 32 * count);
    c->scalar->quant_q8_0(want, x.f, 32 * count);
    for (int64_t i = 0; i < 34 * count; i++)
        if (got[i] != want[i]) return say(c, "byte", i, got[i], want[i]);
    memcpy(b, got, (size_t)(34 * count));
    for (int64_t i = 0; i < 32 * count; i++) { /* half a step, of scales that f16 has */
        double d = fj_f16_to_f32(b[i / 32].d), v = isfinite(x.f[i]) ? x.f[i] : 0;
        if (fabs(v) > 127 * 65504.0) continue;
        if (fabs(d * b[i / 32].q[i % 32] - v) > 0.5001 * d + 127 * 0x1p-25 + fabs(v) * 0x1p-11)
            return say(c, "value", i, d * b[i / 32].q[i % 32], v);
    }
    return true;
}

#include "attn_checks.inc"

static const struct {
    const char *name;
    bool (*check)(ctx *);
} list[] = {
#define FJ_KERNEL(name, ret, params) { #name, check_##name },
#define FJ_KERNEL_Q FJ_KERNEL
#include "kernels/kernels.def"
#undef FJ_KERNEL
#undef FJ_KERNEL_Q
};

static bool run_one(ctx *c, size_t i, int64_t n, int64_t slack) {
    c->used = 0;
    c->name = list[i].name;
    c->n = n;
    c->slack = slack;
    return list[i].check(c) && guards_hold(c);
}

static void test_all(void **state) {
    (void)state;
    static const int64_t slacks[] = { 0, 1, 2, 19 };
    ctx c;
    ctx_open(&c);
    fj_kern k, scalar;
    fj_kern64 r;
    fj_kern64_init(&r);
    assert_true(fj_kern_init(&scalar, "scalar", NULL));
    c.k = &k, c.scalar = &scalar, c.r = &r;
    for (int v = 0; fj_kern_step(v); v++) {
        if (!fj_kern_init(&k, fj_kern_step(v), NULL)) {
            printf("this CPU has no %s\n", fj_kern_step(v));
            continue;
        }
        printf("%s\n", k.isa);
        for (size_t i = 0; i < FJ_LEN(list); i++)
            for (int64_t n = 1; n <= MAX_N; n += 1 + n / 23)
                for (size_t s = 0; s < FJ_LEN(slacks); s++)
                    if (!run_one(&c, i, n, slacks[s])) fail_msg("%s", c.msg);
    }
    ctx_close(&c);
}

/* The harness must see a kernel whose last store is 8 wide, and one that is wrong by a part in 10^5. */
static void add_too_far(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < (n + 7) / 8 * 8; i++) y[i] = i < n ? a[i] + b[i] : 0;
}

static void add_wrong(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = (a[i] + b[i]) * (i == 0 ? 1.00001f : 1);
}

static void test_planted(void **state) {
    (void)state;
    ctx c;
    ctx_open(&c);
    fj_kern k;
    fj_kern64 r;
    fj_kern64_init(&r);
    assert_true(fj_kern_init(&k, "scalar", NULL));
    c.k = c.scalar = &k, c.r = &r;
    assert_string_equal(list[0].name, "add");
    assert_true(run_one(&c, 0, 5, 19));
    k.add = add_too_far;
    assert_false(run_one(&c, 0, 5, 19));
    assert_non_null(strstr(c.msg, "wrote beyond an array"));
    assert_true(run_one(&c, 0, 8, 19));
    k.add = add_wrong;
    assert_false(run_one(&c, 0, 8, 19));
    ctx_close(&c);
}

static void test_choice(void **state) {
    (void)state;
    fj_kern k;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_kern_init(&k, NULL, &e), e);
    FJ_OK_OR_FAIL(fj_kern_init(&k, "scalar", &e), e);
    assert_string_equal(k.isa, "scalar");
    FJ_FAILS_WITH(fj_kern_init(&k, "mmx", &e), e, "mmx");
    if (fj_kern_init(&k, "avx2", NULL)) assert_string_equal(k.isa, "avx2");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_planted),
                                        cmocka_unit_test(test_choice), cmocka_unit_test(test_all) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
