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

static bool check_between(ctx *c) {
    arr x = numbers(c, c->n, 1), room_at = room(c, c->n);
    int32_t *at = (int32_t *)(void *)room_at.f;
    for (int64_t i = 0; i < c->n; i += 5) x.f[i] = i % 2 ? 0.25f : i % 3 ? NAN : -INFINITY;
    static const float range[][2] = {
        { 0.25f, 0.25f }, { -INFINITY, INFINITY }, { -0.5f, 1 }, { 1, -1 }, { -INFINITY, -INFINITY }
    };
    for (size_t k = 0; k < FJ_LEN(range); k++) {
        int64_t want = 0, n = c->k->between(at, x.f, range[k][0], range[k][1], c->n);
        for (int64_t i = 0; i < c->n; i++) {
            if (!(x.f[i] >= range[k][0] && x.f[i] <= range[k][1])) continue;
            if (want >= n || at[want] != i)
                return say(c, "place", want, want < n ? at[want] : -1, (double)i);
            want++;
        }
        if (n != want) return say(c, "places", 0, (double)n, (double)want);
    }
    return true;
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
    int mr = 1 + (int)(c->n % c->k->bf16_rows), np = 1 + (int)(c->n % 3);
    int64_t k = 1 + c->n % 151, cols = 16 * np, ldb = cols + c->n % 2 * 3, ldt = cols + c->n % 5;
    bool first = c->n & 4;
    int64_t ars = k + 2;
    arr a = numbers(c, mr * ars, 1), b = numbers(c, (k - 1) * ldb + cols, 1);
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
                uint32_t x = pa[r * ars + i], w = pb[i * ldb + j];
                s += (double)fj_bf16_to_f32((uint16_t)x) * fj_bf16_to_f32((uint16_t)w) +
                     (double)fj_bf16_to_f32((uint16_t)(x >> 16)) *
                         fj_bf16_to_f32((uint16_t)(w >> 16));
            }
            t.d[r * ldt + j] = s;
        }
    float *tiles = fj_alloc((size_t)t.n * sizeof *tiles), *t0 = fj_alloc((size_t)t.n * sizeof *t0);
    memcpy(t0, t.f, (size_t)t.n * sizeof *t0);
    bool same = true, amx = strstr(c->k->isa, "amx");
    for (int r = 0; r < mr && amx; r++)
        for (int64_t j = 0; j < cols; j++)
            tiles[r * ldt + j] =
                tile_chain(pa + r * ars, pb + j, ldb, k, first ? 0 : t.f[r * ldt + j]);
    c->k->gemm_bf16(t.f, ldt, pa, ars, pb, ldb, k, mr, np, first, c->n & 16 ? pb + b.n : NULL,
                    c->n & 16 ? c->n * 64 : 0);
    for (int r = 0; r < mr && amx; r++)
        for (int64_t j = 0; j < cols && same; j++)
            if (tiles[r * ldt + j] != t.f[r * ldt + j])
                same = say(c, "tiles", r * ldt + j, t.f[r * ldt + j], tiles[r * ldt + j]);
    /* vdpbf16ps, or what stands for it: the bits of the scalar form, numbers that are none apart */
    if (!strncmp(c->k->isa, "avx512", 6) && strstr(c->k->isa, "bf16") &&
        !strstr(c->k->isa, "amx")) {
        memcpy(tiles, t0, (size_t)t.n * sizeof *tiles);
        c->scalar->gemm_bf16(tiles, ldt, pa, ars, pb, ldb, k, mr, np, first, NULL, 0);
        for (int64_t i = 0; i < t.n && same; i++)
            if (memcmp(&tiles[i], &t.f[i], sizeof *tiles) && !(isnan(tiles[i]) && isnan(t.f[i])))
                same = say(c, "the scalar form", i, t.f[i], tiles[i]);
    }
    free(tiles), free(t0);
    return same && near_all(c, t, 4e-6, U * (double)(k + 4) * 40);
}

static bool check_few_f16(ctx *c) {
    int most = c->k->few_f16_rows ? c->k->few_f16_rows : 4, mr = 1 + (int)(c->n % most);
    int np = 1 + (int)(c->n % 3);
    int64_t k = 1 + c->n % 151, cols = 16 * np, ldt = cols + c->n % 5, ars = k + 2;
    bool first = c->n & 4, same = true;
    arr a = numbers(c, mr * ars, 1), b = numbers(c, 2 * k * cols, 1);
    arr t = numbers(c, (mr - 1) * ldt + cols, 1);
    uint32_t *pa = (uint32_t *)(void *)a.f;
    uint16_t *h = (uint16_t *)(void *)b.f, *w = fj_alloc((size_t)b.n * 2);
    float *want = fj_alloc((size_t)t.n * sizeof *want);
    for (int64_t i = 0; i < a.n; i++)
        pa[i] = fj_f32_to_bf16(a.f[i]) | (uint32_t)fj_f32_to_bf16((float)(i % 9) - 4) << 16;
    for (int64_t i = 0; i < b.n; i++) h[i] = fj_f32_to_f16(b.f[i]);
    memcpy(want, t.f, (size_t)t.n * sizeof *want);
    c->k->f16_to_bf16(w, h, b.n);
    c->k->gemm_bf16(want, ldt, pa, ars, (const uint32_t *)(const void *)w, cols, k, mr, np, first,
                    NULL, 0);
    c->k->few_f16(t.f, ldt, pa, ars, h, k, mr, np, first);
    for (int64_t i = 0; i < t.n && same; i++)
        if (memcmp(t.f + i, want + i, 4)) same = say(c, "rounded before", i, t.f[i], want[i]);
    free(w), free(want);
    return same;
}

#include "w8_checks.inc"

#include "quant_checks.inc"

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
