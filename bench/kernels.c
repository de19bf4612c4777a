/* kernels.c - forja-bench-kernels: how fast the products, attention and rows run on this machine, beside
 * the peak that its registers reach.
 *
 *     forja-bench-kernels [threads [filter]]
 *
 * Each line is the median of several runs.  Other work on the machine shows in the peaks too; with one
 * thread the time is that of the processor, not of the clock on the wall, so that it shows less. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernels/peak.h"
#include "ops/attn_tile.h"
#include "ops/gemm.h"

#include <math.h>
#include <stdio.h>

#include <time.h>

typedef struct bench {
    fj_kern kern;
    fj_pool *pool;
    int threads;
    const char *filter;
    double peak_f32, peak_bf16, peak_int8; /* 1e9 operations a second, all threads */
} bench;

static void barrier(void *pool) { fj_pool_barrier(pool); }

static void *aligned(size_t n) {
    void *p;
    if (posix_memalign(&p, 1 << 21, n + 64)) {
        fprintf(stderr, "forja-bench-kernels: no memory for %zu bytes\n", n);
        exit(1);
    }
    memset(p, 0, n + 64);
    return p;
}

static float *numbers(int64_t n) {
    float *p = aligned((size_t)n * 4);
    fj_rng r;
    fj_rng_seed(&r, 1);
    for (int64_t i = 0; i < n; i++) p[i] = (float)fj_rng_normal(&r);
    return p;
}

typedef void job(void *ctx, int i, int n);

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now(const bench *b) {
    struct timespec t;
    if (b->threads > 1) return fj_clock();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one run: median of 7 samples of at least 10 ms. */
static double seconds(bench *b, job *f, void *ctx) {
    double t[7];
    fj_pool_run(b->pool, f, ctx);
    double t0 = now(b);
    fj_pool_run(b->pool, f, ctx);
    double once = now(b) - t0;
    int reps = once > 0.01 ? 1 : (int)(0.01 / (once + 1e-9)) + 1;
    for (int s = 0; s < 7; s++) {
        t0 = now(b);
        for (int i = 0; i < reps; i++) fj_pool_run(b->pool, f, ctx);
        t[s] = (now(b) - t0) / reps;
    }
    qsort(t, 7, sizeof *t, by_size);
    return t[3];
}

/* ---- peaks: multiply-adds on registers -------------------------------------------------------------- */
typedef struct peak {
    fj_peak_fn *fn;
    double *rate;
} peak;

static void peak_job(void *ctx, int i, int n) {
    const peak *p = ctx;
    (void)n;
    p->rate[i] = fj_peak_rate(p->fn);
}

static double peak_rate(bench *b, fj_peak_fn *fn) {
    peak p = { fn, aligned((size_t)b->threads * sizeof(double)) };
    double sum = 0;
    fj_pool_run(b->pool, peak_job, &p);
    for (int i = 0; i < b->threads; i++) sum += p.rate[i] * 1e-9;
    free(p.rate);
    return sum;
}

static void peaks(bench *b) {
    fj_peak p = fj_peak_of(&b->kern);
    b->peak_f32 = peak_rate(b, p.f32);
    b->peak_bf16 = peak_rate(b, p.bf16);
    b->peak_int8 = peak_rate(b, p.int8);
    printf("%s, %d threads; on registers: f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f Gop/s\n",
           b->kern.isa, b->threads, b->peak_f32, b->peak_bf16, b->peak_int8);
}

/* ---- products --------------------------------------------------------------------------------------- */
enum { FWD, DX, DW };

typedef struct gemm {
    bench *b;
    int op;
    int64_t m;
    float *x, *dy, *out;
    fj_wmat w;
    void *scratch;
    bool f32;
} gemm;

static void gemm_job(void *ctx, int i, int n) {
    gemm *g = ctx;
    fj_team t = { .ith = i,
                  .nth = n,
                  .barrier = barrier,
                  .ctx = g->b->pool,
                  .kern = &g->b->kern,
                  .scratch = g->scratch,
                  .f32 = g->f32 };
    if (g->op == FWD) fj_gemm_fwd_f32(&t, g->m, g->x, g->w.k, &g->w, g->out, g->w.n, 1, false);
    else if (g->op == DX) fj_gemm_dx_f32(&t, g->m, g->dy, g->w.n, &g->w, g->out, g->w.k, 1, false);
    else fj_gemm_dw_f32(&t, g->m, g->dy, g->w.n, g->x, g->w.k, g->out, g->w.n, g->w.k, 1, false);
}

static void gemm_line(bench *b, int op, fj_dtype dtype, bool panels, bool f32, int64_t m, int64_t n,
                      int64_t k) {
    static const char *const names[] = { "fwd", "dx", "dw" };
    char name[96];
    snprintf(name, sizeof name, "%s %s%s%s %lldx%lldx%lld", names[op],
             op == DW ? (f32 ? "f32" : "bf16") : fj_dtype_get(dtype)->name,
             op == DW || panels ? "" : " rows", f32 && op != DW && dtype != FJ_F32 ? " in f32" : "",
             (long long)m, (long long)n, (long long)k);
    if (b->filter && !strstr(name, b->filter)) return;
    gemm g = { .b = b, .op = op, .m = m, .f32 = f32 };
    g.x = numbers(m * k), g.dy = numbers(m * n);
    g.out = aligned((size_t)(op == FWD ? m * n : op == DX ? m * k : n * k) * 4);
    float *w = numbers(n * k);
    void *rows = aligned((size_t)fj_dtype_size(dtype, n, k)), *data = rows;
    for (int64_t i = 0; i < n; i++)
        fj_quant_row(dtype, w + i * k, (char *)rows + i * fj_dtype_size(dtype, 1, k), k);
    if (panels) {
        data = aligned((size_t)fj_wmat_packed_bytes(dtype, n, k));
        fj_wmat_pack(&b->kern, dtype, n, k, rows, data, 0, 1);
    }
    g.w = (fj_wmat){ .dtype = dtype, .panels = panels, .data = data, .n = n, .k = k };
    size_t s = op == FWD  ? fj_gemm_fwd_scratch(m, &g.w, b->threads, f32)
               : op == DX ? fj_gemm_dx_scratch(m, &g.w, b->threads, f32)
                          : fj_gemm_dw_scratch(m, n, k, b->threads, f32);
    g.scratch = aligned(s);
    double t = seconds(b, gemm_job, &g), rate = 2e-9 * (double)m * (double)n * (double)k / t;
    bool in_f32 = f32 || (op != DW && dtype == FJ_F32);
    bool int8 = !in_f32 && op == FWD && dtype != FJ_BF16 && dtype != FJ_F16;
    double top = in_f32 ? b->peak_f32 : int8 ? b->peak_int8 : b->peak_bf16;
    printf("%-44s %9.1f us %7.0f GFLOP/s %4.0f %%", name, t * 1e6, rate, 100 * rate / top);
    if (m < 17) printf(" %6.1f GB/s of weights", (double)fj_dtype_size(dtype, n, k) / t * 1e-9);
    printf("\n");
    fflush(stdout);
    free(g.x), free(g.dy), free(g.out), free(w), free(rows), free(g.scratch);
    if (panels) free(data);
}

/* ---- attention ---------------------------------------------------------------------------------------- */
typedef struct attn {
    bench *b;
    int seqs, len, kv_heads, group, hd;
    fj_attn_rule rule;
    float *q, *k, *v, *y, *dy, *lse, *dq, *dk, *dv;
    int32_t *blocks;
    char *scratch;
    size_t bytes;
} attn;

static void attn_fwd(void *ctx, int i, int n) {
    attn *a = ctx;
    int64_t ldk = (int64_t)a->kv_heads * a->hd, ldq = ldk * a->group, item = 0;
    for (int s = 0; s < a->seqs; s++)
        for (int q0 = 0; q0 < a->len; q0 += 32)
            for (int h = 0; h < a->kv_heads; h++) {
                if (item++ % n != i) continue;
                int64_t row = (int64_t)s * a->len + q0,
                        off = row * ldq + (int64_t)h * a->group * a->hd;
                fj_attn_fwd_tile_f32(
                    &a->b->kern, a->q + off, ldq, 32, a->group, a->hd,
                    a->k + s * a->len * ldk + h * a->hd, a->v + s * a->len * ldk + h * a->hd, ldk,
                    a->blocks, q0, &a->rule, NULL, a->y + off, ldq,
                    a->lse + (row * a->kv_heads + h) * a->group, (int64_t)a->kv_heads * a->group,
                    a->scratch + (size_t)i * a->bytes);
            }
}

static void attn_bwd(void *ctx, int i, int n) {
    attn *a = ctx;
    int64_t ldk = (int64_t)a->kv_heads * a->hd, ldq = ldk * a->group, item = 0;
    for (int s = 0; s < a->seqs; s++)
        for (int h = 0; h < a->kv_heads; h++) {
            if (item++ % n != i) continue;
            int64_t row = (int64_t)s * a->len, off = row * ldq + (int64_t)h * a->group * a->hd,
                    ko = row * ldk + h * a->hd;
            fj_attn_bwd_group_f32(&a->b->kern, a->q + off, a->y + off, a->dy + off, ldq,
                                  a->lse + (row * a->kv_heads + h) * a->group,
                                  (int64_t)a->kv_heads * a->group, a->len, a->group, a->hd,
                                  a->k + ko, a->v + ko, ldk, a->blocks, 0, &a->rule, a->dq + off,
                                  a->dk + ko, a->dv + ko, a->scratch + (size_t)i * a->bytes);
        }
}

static void attention(bench *b, int seqs, int len, int kv_heads, int group, int hd, int window,
                      double softcap) {
    if (b->filter && !strstr("attention", b->filter)) return;
    int64_t rows = (int64_t)seqs * len, nk = rows * kv_heads * hd, nq = nk * group;
    attn a = { b,
               seqs,
               len,
               kv_heads,
               group,
               hd,
               { 0.125, softcap, window },
               numbers(nq),
               numbers(nk),
               numbers(nk),
               numbers(nq),
               numbers(nq),
               numbers(rows * kv_heads * group),
               numbers(nq),
               numbers(nk),
               numbers(nk),
               NULL,
               NULL,
               0 };
    a.blocks = aligned((size_t)len / 32 * 4 + 4);
    for (int i = 0; i < len / 32; i++) a.blocks[i] = i * 32;
    size_t fb = fj_attn_fwd_scratch(group, hd), bb = fj_attn_bwd_scratch(len, group, hd);
    a.bytes = (fb > bb ? fb : bb) / 64 * 64 + 64;
    a.scratch = aligned(a.bytes * (size_t)b->threads);
    /* 2 products forward, 5 backward, half of them masked away */
    double keys =
        window && window < len ? (double)window * (len - window / 2.0) : (double)len * len / 2;
    double flop = 2e-9 * (double)seqs * kv_heads * group * keys * hd;
    double f = seconds(b, attn_fwd, &a), g = seconds(b, attn_bwd, &a);
    printf(
        "attention %dx%d, %d x %d heads of %d, window %d, cap %g: fwd %.0f us %.0f GFLOP/s, bwd %.0f us %.0f GFLOP/s (of %.0f)\n",
        seqs, len, kv_heads, group, hd, window, softcap, f * 1e6, 2 * flop / f, g * 1e6,
        5 * flop / g, b->peak_f32);
    free(a.q), free(a.k), free(a.v), free(a.y), free(a.dy), free(a.lse), free(a.dq), free(a.dk),
        free(a.dv);
    free(a.blocks), free(a.scratch);
}

/* ---- rows -------------------------------------------------------------------------------------------- */
static void rows(bench *b) {
    if (b->filter && !strstr("rows", b->filter)) return;
    enum { N = 4096, REPS = 2000 };
    float *x = numbers(N), *y = numbers(N), *z = numbers(N), *u = numbers(N);
    fj_kern *k = &b->kern;
    fj_adamw h = { 1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.1, 1 };
#define TIME(name, call)                                                                           \
    do {                                                                                           \
        double t0 = now(b);                                                                        \
        for (int i = 0; i < REPS; i++) call;                                                       \
        printf("%-20s %6.3f ns a value\n", name, (now(b) - t0) / REPS / N * 1e9);                  \
    } while (0)
    TIME("add", k->add(y, x, z, N));
    TIME("rmsnorm", k->rmsnorm(y, x, z, N, 1e-5f));
    TIME("rmsnorm_dx", k->rmsnorm_dx(y, x, z, u, N, 1e-5f));
    TIME("swiglu", k->swiglu(y, x, z, N));
    TIME("swiglu_bwd", k->swiglu_bwd(y, u, x, z, z, N));
    TIME("geglu", k->geglu(y, x, z, N));
    TIME("geglu_bwd", k->geglu_bwd(y, u, x, z, z, N));
    TIME("softcap", k->softcap(y, x, 30, N));
    TIME("layernorm", k->layernorm(y, x, z, z, N, 1e-5f));
    TIME("vexp", k->vexp(y, x, N));
    TIME("softmax_ce", k->softmax_ce(z, N, 5, 1));
    TIME("f32_to_bf16", k->f32_to_bf16((uint16_t *)(void *)y, x, N));
    TIME("adamw", k->adamw(y, z, u, x, N, &h));
#undef TIME
    free(x), free(y), free(z), free(u);
}

int main(int argc, char **argv) {
    bench b = { .threads = argc > 1 ? atoi(argv[1]) : 0, .filter = argc > 2 ? argv[2] : NULL };
    fj_err e = { 0 };
    if (!fj_kern_init(&b.kern, getenv("FORJA_ISA"), &e) ||
        !(b.pool = fj_pool_open(b.threads, &e))) {
        fprintf(stderr, "forja-bench-kernels: %s\n", e.msg);
        return 1;
    }
    b.threads = fj_pool_threads(b.pool);
    peaks(&b);
    static const int64_t shapes[][3] = { { 2048, 576, 576 },  { 2048, 1536, 576 },
                                         { 2048, 576, 1536 }, { 2048, 192, 576 },
                                         { 512, 2048, 2048 }, { 512, 8192, 2048 },
                                         { 512, 2048, 8192 } };
    for (size_t i = 0; i < FJ_LEN(shapes); i++) {
        int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
        gemm_line(&b, FWD, FJ_F32, true, false, m, n, k);
        gemm_line(&b, FWD, FJ_F32, false, false, m, n, k);
        gemm_line(&b, FWD, FJ_F16, true, false, m, n, k);
        gemm_line(&b, FWD, FJ_BF16, true, false, m, n, k);
        gemm_line(&b, FWD, FJ_Q8_0, true, false, m, n, k);
        gemm_line(&b, FWD, FJ_Q4_0, true, false, m, n, k);
        gemm_line(&b, FWD, FJ_MXFP4, true, false, m, n, k);
        if (k % 256 == 0) gemm_line(&b, FWD, FJ_Q4_K, true, false, m, n, k);
        if (k % 256 == 0) gemm_line(&b, FWD, FJ_Q6_K, true, false, m, n, k);
        gemm_line(&b, DX, FJ_F32, false, false, m, n, k);
        gemm_line(&b, DX, FJ_F16, true, false, m, n, k);
        gemm_line(&b, DX, FJ_BF16, true, false, m, n, k);
        gemm_line(&b, DX, FJ_BF16, false, false, m, n, k);
        gemm_line(&b, DX, FJ_Q8_0, true, false, m, n, k);
        gemm_line(&b, DX, FJ_Q4_0, true, false, m, n, k);
        gemm_line(&b, DW, FJ_F32, false, true, m, n, k);
        gemm_line(&b, DW, FJ_F32, false, false, m, n, k);
    }
    static const int64_t thin[][2] = { { 16, 576 },  { 576, 16 }, { 16, 1536 },
                                       { 1536, 16 }, { 8, 1536 }, { 1536, 64 } };
    for (size_t i = 0; i < FJ_LEN(thin); i++) {
        gemm_line(&b, FWD, FJ_F32, false, false, 2048, thin[i][0], thin[i][1]);
        gemm_line(&b, DX, FJ_F32, false, false, 2048, thin[i][0], thin[i][1]);
        gemm_line(&b, DW, FJ_F32, false, false, 2048, thin[i][0], thin[i][1]);
    }
    static const fj_dtype formats[] = { FJ_F32, FJ_F16, FJ_BF16, FJ_Q8_0, FJ_Q4_0, FJ_MXFP4 };
    for (int64_t m = 1; m <= 16; m *= 4)
        for (size_t i = 0; i < FJ_LEN(formats); i++)
            gemm_line(&b, FWD, formats[i], true, false, m, 49152, 576);
    static const fj_dtype super[] = { FJ_Q8_0, FJ_Q4_0, FJ_Q4_K, FJ_Q6_K };
    for (int64_t m = 1; m <= 16; m *= 2)
        for (size_t i = 0; i < FJ_LEN(super); i++)
            gemm_line(&b, FWD, super[i], true, false, m, 65536, 2048);
    attention(&b, 4, 512, 3, 3, 64, 0, 0);
    attention(&b, 1, 2048, 3, 3, 64, 0, 0);
    attention(&b, 1, 2048, 3, 3, 64, 256, 0);
    attention(&b, 1, 2048, 3, 3, 64, 0, 50);
    rows(&b);
    fj_pool_close(b.pool);
    return 0;
}
