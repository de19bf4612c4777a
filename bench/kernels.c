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
#include "ops/gemm.h"
#include "ops/ops.h"

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
/* The ops themselves, on nodes without a graph. */
typedef struct attn {
    bench *b;
    const fj_node *n;
    void *scratch;
    bool f32;
} attn;

static void attn_job(void *ctx, int i, int n) {
    attn *a = ctx;
    fj_team t = { .ith = i,
                  .nth = n,
                  .barrier = barrier,
                  .ctx = a->b->pool,
                  .kern = &a->b->kern,
                  .scratch = a->scratch,
                  .f32 = a->f32 };
    a->n->op->cpu(&t, a->n);
}

static double attn_seconds(bench *b, const fj_node *n, bool f32) {
    fj_graph_opts o = { .threads = b->threads, .f32 = f32 };
    attn a = { b, n, aligned(n->op->scratch(n, &o)), f32 };
    double s = seconds(b, attn_job, &a);
    free(a.scratch);
    return s;
}

/* Sequences of len positions, of which the last `rows` are queries. */
static void attention(bench *b, int seqs, int len, int rows, int kv_heads, int group, int hd,
                      int window, double softcap, bool f32) {
    char name[128];
    snprintf(name, sizeof name, "attention%s %dx%d, %d x %d heads of %d", f32 ? " in f32" : "",
             seqs, len, kv_heads, group, hd);
    if (b->filter && !strstr(name, b->filter)) return;
    fj_attn_params p = { kv_heads * group, kv_heads, hd, 1 / sqrt(hd), window, softcap };
    int64_t nk = (int64_t)kv_heads * hd, nq = nk * group, all = (int64_t)seqs * len,
            some = (int64_t)seqs * rows;
    fj_tensor q = { .rows = some, .cols = nq, .data = numbers(some * nq) }, k = q, v = q, y = q,
              lse = q, dy = q, dq = q, dk = q, dv = q, sq = { .rows = seqs, .cols = 4 },
              bl = { .rows = 1, .cols = (int64_t)seqs * ((len + 31) / 32) };
    k.rows = v.rows = dk.rows = dv.rows = all, k.cols = v.cols = dk.cols = dv.cols = nk;
    k.data = numbers(all * nk), v.data = numbers(all * nk), dk.data = numbers(all * nk),
    dv.data = numbers(all * nk);
    y.data = numbers(some * nq), dy.data = numbers(some * nq), dq.data = numbers(some * nq);
    lse.cols = p.heads, lse.data = numbers(some * p.heads);
    int32_t *s = sq.data = aligned((size_t)seqs * 16),
            *block = bl.data = aligned((size_t)bl.cols * 4);
    int blocks = 0;
    for (int i = 0; i < seqs; i++) {
        memcpy(s + 4 * i, (int32_t[4]){ i * rows, rows, len - rows, blocks }, 16);
        for (int at = 0; at < len; at += 32) block[blocks++] = i * len + at;
    }
    fj_node f = { .op = &fj_op_attn,
                  .n_in = 5,
                  .n_out = 2,
                  .in = { &q, &k, &v, &sq, &bl },
                  .out = { &y, &lse },
                  .params = &p };
    fj_node g = { .op = &fj_op_attn_bwd,
                  .n_in = 8,
                  .n_out = 3,
                  .in = { &q, &k, &v, &sq, &bl, &y, &lse, &dy },
                  .out = { &dq, &dk, &dv },
                  .params = &p };
    /* 2 products forward, 5 backward, of the keys that are seen */
    double pairs = 0;
    for (int i = len - rows; i < len; i++) pairs += window && i >= window ? window : i + 1;
    double flop = 2e-9 * pairs * seqs * (double)nq, tf = attn_seconds(b, &f, f32);
    printf("%s, window %d, cap %g: fwd %.0f us %.0f GFLOP/s", name, window, softcap, tf * 1e6,
           2 * flop / tf);
    if (rows == len) {
        double tb = attn_seconds(b, &g, f32);
        printf(", bwd %.0f us %.0f GFLOP/s", tb * 1e6, 5 * flop / tb);
    } else printf(", %.1f GB/s of keys and values in bf16", 4e-9 * (double)(all * nk) / tf);
    printf(" (of %.0f)\n", f32 ? b->peak_f32 : b->peak_bf16);
    fflush(stdout);
    fj_tensor *t[] = { &q, &k, &v, &y, &lse, &dy, &dq, &dk, &dv, &sq, &bl };
    for (size_t i = 0; i < FJ_LEN(t); i++) free(t[i]->data);
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

/* ---- choosing a token ---------------------------------------------------------------------------------- */
static void sampling(bench *b) {
    enum { VOCAB = 151936 };
    static const float ways[][FJ_PICK_COLS] = {
        /* temperature, top-k, top-p, min-p, penalty, draw */
        { 0, 0, 1, 0, 1, 0.6f },       { 1, 0, 1, 0, 1, 0.6f },        { 0.7f, 0, 1, 0, 1, 0.6f },
        { 1, 40, 0.9f, 0, 1, 0.6f },   { 1, 0, 0.9f, 0, 1, 0.6f },     { 1, 0, 0.5f, 0, 1, 0.6f },
        { 1, 0, 1, 0.05f, 1, 0.6f },   { 1, 0, 0.9f, 0.05f, 1, 0.6f }, { 1, 1000, 1, 0, 1, 0.6f },
        { 1, 5000, 0.9f, 0, 1, 0.6f }, { 1, 50000, 0.95f, 0, 1, 0.6f }
    };
    if (b->filter && !strstr("sampling", b->filter)) return;
    for (int kind = 0; kind < 3; kind++) {
        float *z = numbers(VOCAB);
        for (int64_t i = 0; i < VOCAB; i++) z[i] = kind == 2 ? 1 : z[i] * (kind ? 0.5f : 4);
        for (size_t w = 0; w < FJ_LEN(ways); w++) {
            int32_t id;
            fj_tensor x = { .rows = 1, .cols = VOCAB, .data = z }, seen = { .rows = 1 },
                      how = { .rows = 1, .cols = FJ_PICK_COLS, .data = (void *)(uintptr_t)ways[w] },
                      y = { .rows = 1, .cols = 1, .data = &id };
            fj_node n = {
                .op = &fj_op_sample, .n_in = 3, .n_out = 1, .in = { &x, &how, &seen }, .out = { &y }
            };
            printf("sampling of %d, %s, T %g top-k %g top-p %g min-p %g: %.1f us\n", VOCAB,
                   kind == 2 ? "all the same"
                   : kind    ? "flat"
                             : "peaked",
                   ways[w][0], ways[w][1], ways[w][2], ways[w][3],
                   1e6 * attn_seconds(b, &n, false));
            fflush(stdout);
        }
        free(z);
    }
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
            gemm_line(&b, FWD, super[i], true, false, m, 16384, 2048);
    for (int f32 = 0; f32 < 2; f32++) {
        attention(&b, 4, 512, 512, 3, 3, 64, 0, 0, f32);
        attention(&b, 1, 2048, 2048, 3, 3, 64, 0, 0, f32);
        attention(&b, 1, 2048, 2048, 3, 3, 64, 256, 0, f32);
        attention(&b, 1, 2048, 2048, 3, 3, 64, 0, 50, f32);
        attention(&b, 1, 512, 512, 8, 4, 64, 0, 0, f32);
        attention(&b, 1, 512, 512, 8, 2, 128, 0, 0, f32);
        attention(&b, 1, 8192, 2048, 8, 4, 64, 0, 0, f32);
        attention(&b, 1, 1024, 1, 3, 3, 64, 0, 0, f32);
        attention(&b, 16, 1024, 1, 8, 4, 64, 0, 0, f32);
        attention(&b, 1, 8192, 1, 8, 4, 64, 0, 0, f32);
    }
    rows(&b);
    sampling(&b);
    fj_pool_close(b.pool);
    return 0;
}
