/* gpu_gemm.cu - checks the products of src/kernels/cuda on a GPU of sm_90, those of hopper.cu above all, and
 * times them beside cuBLASLt.
 *
 *     nvcc -O2 -gencode arch=compute_90a,code=sm_90a -std=c++17 -DFORJA_CUDA -Iinclude -Isrc \
 *         bench/gpu_gemm.cu src/kernels/cuda/{gemm,tile,simt,skinny,few,dequant,lt}.cu \
 *         src/base/{err,dtype,kquant,mem}.c -o gpu_gemm -ldl
 *     gpu_gemm [part...]       none: all
 *
 *     nt nn tn   each plan of each kind against sums in F32      thin   narrow adapters
 *     pair       two pairs of operands, results added elsewhere  dw     gradients of few outputs
 *     bits       which kernels make the same bits                small  times of 64 to 512 rows
 *     time       times of what models do                         tune   times of other plans
 *
 * A line of times: what cuBLASLt takes beside it, and how fast we are in percent of that; operands go
 * through several copies, so that they are not in the L2 cache; launches are in a graph.
 *
 * The environment's CUBLASLT may be the path of libcublasLt.so.13.
 *
 * With -DFJ_HOPPER_DEBUG a wait of two seconds stops the kernel and all waits are told.  Each part is
 * a process of its own, killed after a minute, which says what it was doing; so one that fails leaves
 * the others. */
#include "kernels/cuda/hopper.cu"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

static char doing[256] = "start";
static void on_alarm(int) {
    ssize_t w = write(1, "\nTOO LONG: ", 11);
    w = write(1, doing, strlen(doing));
    w = write(1, "\n", 1);
    (void)w;
    _exit(124);
}
#ifdef FJ_HOPPER_DEBUG
static volatile uint32_t *waits; /* what hopper.cuh writes */
enum { WAITS = 12 * 512 };
static void say_waits() {
    static const char *const what[] = { "?",          "full", "empty", "slot full",
                                        "slot empty", "?",    "?",     "?" };
    int said = 0;
    for (int i = 0; waits && i < WAITS; i++)
        if (waits[i] && said++ < 40)
            printf("    block %d warp %d waits for %s[%d] parity %d\n", i / 12, i % 12,
                   what[waits[i] >> 24 & 7], waits[i] >> 16 & 255, waits[i] >> 8 & 255);
    printf("    %d warps wait\n", said);
}
#else
static void say_waits() {}
#endif
static void ok(cudaError_t c, const char *what) {
    if (c == cudaSuccess) return;
    printf("\nFAILED: %s: %s, while: %s\n", what, cudaGetErrorString(c), doing);
    say_waits();
    fflush(stdout);
    _exit(1);
}
#define OK(call) ok(call, #call)

static fj_gpu gpu;
static int failures;

template <typename T> static T *room(size_t n) {
    void *p;
    OK(cudaMalloc(&p, n * sizeof(T)));
    return (T *)p;
}

/* ---- data ---------------------------------------------------------------------------------------- */
__device__ static uint32_t mix(uint64_t x) {
    x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull,
        x ^= x >> 33;
    return (uint32_t)x;
}
/* rows x cols of numbers in -1..1, about even; the space to ld is NaN. */
template <typename T>
static __global__ void fill_kernel(T *p, int64_t rows, int64_t cols, int64_t ld, uint64_t seed) {
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < rows * ld;
         i += (int64_t)gridDim.x * blockDim.x)
        p[i] = from_f32<T>(i % ld < cols ? (float)(mix(i + (seed << 40)) >> 8) / 8388608 - 1 : NAN);
}
template <typename T>
static void fill(T *p, int64_t rows, int64_t cols, int64_t ld, uint64_t seed) {
    fill_kernel<T><<<1024, 256, 0, gpu.stream>>>(p, rows, cols, ld, seed);
    OK(cudaGetLastError());
}

/* Rows first, first + step.. of op(A) op(B): want[r][n], and the sum of magnitudes; go: added to those. */
static __global__ void want_kernel(int kind, const bf16 *a, int64_t lda, const bf16 *b, int64_t ldb,
                                   float *want, float *size, int64_t rows, int64_t first,
                                   int64_t step, int64_t n, int64_t k, bool go) {
    int64_t j = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, r = blockIdx.y,
            i = first + r * step;
    if (j >= n || r >= rows) return;
    float s = go ? want[r * n + j] : 0, t = go ? size[r * n + j] : 0;
    for (int64_t l = 0; l < k; l++) {
        float u = to_f32(kind == FJ_TN ? a[l * lda + i] : a[i * lda + l]);
        float v = to_f32(kind == FJ_NT ? b[j * ldb + l] : b[l * ldb + j]);
        s = fmaf(u, v, s), t += fabsf(u * v);
    }
    want[r * n + j] = s, size[r * n + j] = t;
}

/* ---- checks -------------------------------------------------------------------------------------- */
typedef struct check {
    fj_gemm_kind kind;
    int64_t m, n, k;
    int pad_a, pad_b, pad_c; /* beyond the rows, at least: strides are rounded up to 16 bytes */
    fj_dtype c;
    float scale;
    int add;               /* NOTHING.. */
    int bn, rows, cluster; /* 0: as chosen */
    int64_t k2;            /* of a second pair of operands */
} check;
/* What a product is added to: nothing, C as it is, another matrix. */
enum { NOTHING, THERE, ELSEWHERE };
static const char *const adds[] = { "=", "+=", "= old +" };

static const char *const kinds[] = { "NT", "NN", "TN" };
enum { GUARD = 4096 }; /* values before and after C */

/* With which plan: as fj_gpu_hopper does, or a forced one. */
static bool plan_for(plan *p, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, bool wide,
                     int64_t k2, float scale, bool acc, int bn, int rows, int cluster) {
    *p = plan_of(m, n, k, k2, scale, acc);
    if (bn) {
        p->bn = bn, p->rows = rows, p->cluster = cluster;
        plan_rest(p, kind, wide, gpu.sms);
    } else {
        plan_choose(p, kind, wide, gpu.sms);
    }
    return true;
}

static void say_plan(const plan *p) {
    printf("[%dx%d cl%d st%d sl%d grid %d]", p->rows, p->bn, p->cluster, p->stages, p->slots,
           p->clusters * p->cluster);
}

template <typename T> static float num(T v);
template <> float num<float>(float v) { return v; }
template <> float num<bf16>(bf16 v) { return fj_bf16_to_f32(v.u); }

template <typename T> static void run_check(const check *c) {
    bool tn = c->kind == FJ_TN, nt = c->kind == FJ_NT, wide = sizeof(T) == 4;
    int64_t m = c->m, n = c->n, k = c->k;
    if (nt && c->k2 && (wide || c->add)) return; /* fj_gpu_hopper leaves them to others */
    int64_t a_rows = tn ? k : m, a_cols = tn ? m : k, b_rows = nt ? n : k, b_cols = nt ? k : n;
    int64_t lda = (a_cols + c->pad_a + 7) / 8 * 8, ldb = (b_cols + c->pad_b + 7) / 8 * 8;
    int64_t ldc = wide ? (n + c->pad_c + 3) / 4 * 4 : (n + c->pad_c + 7) / 8 * 8;
    int64_t k2 = c->k2, lda2 = (k2 + c->pad_a + 7) / 8 * 8, ldold = ldc + 8;
    int64_t b2_rows = nt ? n : k2, b2_cols = nt ? k2 : n, ldb2 = (b2_cols + c->pad_b + 7) / 8 * 8;
    bool acc = c->add == THERE, apart = c->add == ELSEWHERE;
    plan p;
    plan_for(&p, c->kind, m, n, k, wide, k2, c->scale, c->add, c->bn, c->rows, c->cluster);
    p.by = c->scale;
    snprintf(doing, sizeof doing,
             "%s m=%lld n=%lld k=%lld+%lld ld %lld %lld %lld %s %s %g * tile %dx%d cl%d st%d sl%d",
             kinds[c->kind], (long long)m, (long long)n, (long long)k, (long long)k2,
             (long long)lda, (long long)ldb, (long long)ldc, wide ? "F32" : "BF16", adds[c->add],
             c->scale, p.rows, p.bn, p.cluster, p.stages, p.slots);
    printf("%-100s ", doing);
    fflush(stdout);

    bf16 *a = room<bf16>(a_rows * lda), *b = room<bf16>(b_rows * ldb);
    bf16 *a2 = k2 ? room<bf16>(m * lda2) : NULL, *b2 = k2 ? room<bf16>(b2_rows * ldb2) : NULL;
    T *all = room<T>(m * ldc + 2 * GUARD), *out = all + GUARD;
    T *other = apart ? room<T>(m * ldold) : NULL;
    fill(a, a_rows, a_cols, lda, 1), fill(b, b_rows, b_cols, ldb, 2);
    if (k2) fill(a2, m, k2, lda2, 4), fill(b2, b2_rows, b2_cols, ldb2, 5);
    if (apart) fill(other, m, n, ldold, 6);
    fill(all, 1, m * ldc + 2 * GUARD, m * ldc + 2 * GUARD, 3); /* guards: anything that is known */
    std::vector<T> before(m * ldc + 2 * GUARD), after(m * ldc + 2 * GUARD);
    OK(cudaStreamSynchronize(gpu.stream));
    OK(cudaMemcpy(before.data(), all, before.size() * sizeof(T), cudaMemcpyDeviceToHost));
    std::vector<T> was(apart ? m * ldold : 0);
    if (apart) OK(cudaMemcpy(was.data(), other, was.size() * sizeof(T), cudaMemcpyDeviceToHost));
    if (!acc) { /* poison that shows: NaN with a pattern */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                memset(&before[GUARD + i * ldc + j], 0x7f, sizeof(T)),
                    ((unsigned char *)&before[GUARD + i * ldc + j])[sizeof(T) - 2] = 0xff;
        OK(cudaMemcpy(all, before.data(), before.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    fj_grows cr = { wide ? FJ_F32 : FJ_BF16, out, ldc };
    fj_grows old = apart ? fj_grows{ cr.dtype, other, ldold } : cr, *op = c->add ? &old : NULL;
    fj_gpair x = { a, lda, b, ldb, k }, more = { a2, lda2, b2, ldb2, k2, c->scale },
             *mp = k2 ? &more : NULL;
    fj_err e = {};
    bool done = false, said;
    if (c->bn) said = run_plan(&gpu, c->kind, &p, &x, mp, cr, op, &done, &e);
    else
        said =
            fj_gpu_hopper(&gpu, c->kind, m, n, k, a, lda, b, ldb, cr, c->scale, op, mp, &done, &e);
    if (!said || !done) {
        printf("%s %s\n", said ? "NOT DONE" : "ERROR", e.msg);
        failures++;
    } else {
        OK(cudaStreamSynchronize(gpu.stream));
        OK(cudaMemcpy(after.data(), all, after.size() * sizeof(T), cudaMemcpyDeviceToHost));
        /* all rows, or some of a large product */
        int64_t step = 1;
        while (m / step * n * k > 40000000000ll && step < m / 64) step++;
        if (step > 1 && step % 2 == 0) step++;
        int64_t rows = (m + step - 1) / step;
        float *want = room<float>(rows * n), *size = room<float>(rows * n);
        for (int64_t r = 0; r < rows; r += 32768) {
            int64_t some = FJ_MIN(rows - r, 32768);
            want_kernel<<<dim3((unsigned)((n + 127) / 128), (unsigned)some), 128>>>(
                c->kind, a, lda, b, ldb, want + r * n, size + r * n, some, r * step, step, n, k,
                false);
            if (k2)
                want_kernel<<<dim3((unsigned)((n + 127) / 128), (unsigned)some), 128>>>(
                    c->kind, a2, lda2, b2, ldb2, want + r * n, size + r * n, some, r * step, step,
                    n, k2, true);
        }
        OK(cudaDeviceSynchronize());
        std::vector<float> w(rows * n), s(rows * n);
        OK(cudaMemcpy(w.data(), want, w.size() * 4, cudaMemcpyDeviceToHost));
        OK(cudaMemcpy(s.data(), size, s.size() * 4, cudaMemcpyDeviceToHost));
        int64_t wrong = 0, outside = 0, poison = 0, zero = 0;
        uint64_t bad_rows = 0, bad_cols = 0;
        double most = 0;
        for (int64_t i = 0; i < (int64_t)before.size(); i++) {
            int64_t at = i - GUARD;
            bool in = at >= 0 && at < m * ldc && at % ldc < n;
            if (!in && memcmp(&before[i], &after[i], sizeof(T)) && outside++ < 4)
                printf("\n    OUTSIDE at %lld (row %lld col %lld): %g was %g", (long long)at,
                       (long long)(at / ldc), (long long)(at % ldc), num(after[i]), num(before[i]));
        }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) {
                int64_t i = r * step, at = GUARD + i * ldc + j;
                double old = acc     ? num(before[at])
                             : apart ? num(was[i * ldold + j])
                                     : 0,
                       x = c->scale * (double)w[r * n + j] + old;
                double tol =
                    (2e-7 * sqrt((double)(k + k2)) + 1e-6) * fabs(c->scale) * s[r * n + j] +
                    (wide ? 1e-6 : 0.00391) * (fabs(x) + (wide ? fabs(old) : 0)) + 1e-6;
                if (nt && k2)
                    tol += 0.00391 * c->scale * s[r * n + j]; /* the first pair's results */
                double got = num(after[at]), off = fabs(got - x);
                if (off <= tol) {
                    if (off / tol > most) most = off / tol;
                    continue;
                }
                if (wrong++ < 8) {
                    printf(
                        "\n    WRONG row %lld (%lld of 64) col %lld (%lld of 64, %lld of %d): got %.7g "
                        "want %.7g",
                        (long long)i, (long long)(i % 64), (long long)j, (long long)(j % 64),
                        (long long)(j % p.bn), p.bn, got, x);
                    if (!c->add && step == 1) { /* whose is it? */
                        int64_t r0 = i / 64 * 64, c0 = j / p.bn * p.bn;
                        int seen = 0;
                        for (int64_t y = r0; y < r0 + 64 && y < m; y++)
                            for (int64_t z = c0; z < c0 + p.bn && z < n; z++)
                                if (fabs(c->scale * (double)w[y * n + z] - got) <= tol / 4 &&
                                    seen++ < 2)
                                    printf(" (row %lld col %lld?)", (long long)y, (long long)z);
                    }
                }
                if (!memcmp(&before[at], &after[at], sizeof(T))) poison++;
                if (got == 0) zero++;
                bad_rows |= 1ull << i % 64, bad_cols |= 1ull << j % 64;
            }
        if (wrong || outside) {
            failures++;
            printf(
                "\n    FAIL %lld wrong of %lld (%lld not written, %lld zero), %lld outside; rows of "
                "64: %016llx cols of 64: %016llx\n",
                (long long)wrong, (long long)(rows * n), (long long)poison, (long long)zero,
                (long long)outside, (unsigned long long)bad_rows, (unsigned long long)bad_cols);
        } else {
            printf("ok (%.2f of the tolerance%s)\n", most, step > 1 ? ", some rows" : "");
        }
        cudaFree(want), cudaFree(size);
    }
    fflush(stdout);
    cudaFree(a), cudaFree(b), cudaFree(a2), cudaFree(b2), cudaFree(all), cudaFree(other);
}
static void checked(check c) {
    if (c.c == FJ_F32) run_check<float>(&c);
    else run_check<bf16>(&c);
    if (failures > 12) {
        printf("enough\n");
        fflush(stdout);
        _exit(1);
    }
}

static void check_kind(fj_gemm_kind kind) {
    /* from the simplest on: one step, one tile; each tile; then clusters, many tiles, odd ends */
    static const int widths[] = { 64, 128, 256, 192, 32, 16, 96, 160, 224 };
    for (int w = 0; w < 9; w++) {
        int bn = widths[w];
        if (kind != FJ_NT && bn % 64) continue;
        for (int t = 0; t < 2; t++) {
            fj_dtype c = t ? FJ_BF16 : FJ_F32;
            checked({ kind, 64, bn, 64, 0, 0, 0, c, 1, NOTHING, bn, 64, 1 });
            checked({ kind, 128, bn, 128, 0, 0, 0, c, 1, NOTHING, bn, 128, 1 });
            checked({ kind, 128, bn, 1024, 0, 0, 0, c, 0.5f, NOTHING, bn, 128, 1 });
            if (bn >= 64) checked({ kind, 256, bn, 64, 0, 0, 0, c, 1, NOTHING, bn, 128, 2 });
            if (bn >= 64) checked({ kind, 512, 2 * bn, 1024, 0, 0, 0, c, 1, NOTHING, bn, 128, 2 });
            if (bn >= 64) checked({ kind, 640, 3 * bn, 200, 0, 0, 0, c, 1, NOTHING, bn, 64, 2 });
            checked({ kind, 1024, 1536, 512, 0, 0, 0, c, 1, NOTHING, bn, 128, 1 });
            if (kind != FJ_TN) checked({ kind, 333, 2 * bn, 500, 0, 0, 0, c, 1, THERE, bn, 32, 1 });
            if (kind == FJ_TN) checked({ kind, 32, 3 * bn, 500, 0, 0, 0, c, 1, THERE, bn, 32, 1 });
            if (kind == FJ_TN) checked({ kind, 16, 3 * bn, 130, 0, 0, 0, c, 1, THERE, bn, 16, 1 });
        }
        int n = 3 * bn - 8;
        checked({ kind, 333, n, 200, 8, 24, 16, FJ_BF16, 1, NOTHING, bn, 128, 1 });
        checked({ kind, 333, n, 209, 8, 24, 16, FJ_F32, 2, THERE, bn, 64, 1 });
        if (bn >= 64) checked({ kind, 333, n, 1001, 16, 8, 16, FJ_BF16, 1, THERE, bn, 128, 2 });
        if (bn >= 64) checked({ kind, 129, n, 77, 0, 0, 0, FJ_F32, 1, NOTHING, bn, 128, 2 });
    }
    checked({ kind, 2048, 3072, 1024, 0, 0, 0, FJ_BF16, 1, NOTHING });
    checked({ kind, 4096, 4096, 512, 0, 0, 0, FJ_BF16, 1, THERE, 256, 128, 2 });
    checked({ kind, 4096, 4096, 512, 0, 0, 0, FJ_F32, 1, THERE, 256, 128, 2 });
    checked({ kind, 1, 8, 8, 0, 0, 0, FJ_BF16, 1, NOTHING });
    checked({ kind, 1, 4, 1, 0, 0, 0, FJ_F32, 1, NOTHING });
    checked({ kind, 4099, 2056, 515, 0, 0, 0, FJ_BF16, 1, NOTHING });
    checked({ kind, 300, 4100, 130, 64, 64, 64, FJ_F32, 0.25f, THERE });
    checked({ kind, 16384, 4096, 320, 0, 0, 0, FJ_BF16, 1, NOTHING });
    for (int m = 65; m <= 513; m += 112)
        checked({ kind, m, 4096, 1024, 0, 0, 0, FJ_BF16, 1, NOTHING });
}
static void part_nt() { check_kind(FJ_NT); }
static void part_nn() { check_kind(FJ_NN); }
static void part_tn() { check_kind(FJ_TN); }
/* Narrow adapters. */
static void part_thin() {
    for (int r = 8; r <= 64; r *= 2)
        for (int add = NOTHING; add <= ELSEWHERE; add++) {
            checked({ FJ_NT, 5000, r, 4096, 0, 0, 0, FJ_BF16, 1, add });
            checked({ FJ_NT, 5000, r, 1000, 0, 0, 0, FJ_F32, 1, add });
            checked({ FJ_NT, 5000, 4096, r, 0, 0, 0, FJ_BF16, 2, add });
            checked({ FJ_NT, 777, 1000, r, 0, 0, 0, FJ_F32, 2, add });
            checked({ FJ_NN, 5000, r, 4096, 0, 0, 0, FJ_BF16, 1, add });
            checked({ FJ_NN, 5000, 4096, r, 0, 0, 0, FJ_BF16, 1, add });
        }
}
/* A second pair of operands, one plan after the other; results that are added to what is elsewhere. */
static void part_pair() {
    for (int nn = 0; nn < 2; nn++) {
        fj_gemm_kind kind = nn ? FJ_NN : FJ_NT;
        checked({ kind, 128, 256, 64, 0, 0, 0, FJ_F32, 1, NOTHING, 256, 128, 1, 64 });
        checked({ kind, 128, 256, 64, 0, 0, 0, FJ_BF16, 1, NOTHING, 256, 128, 1, 16 });
        checked({ kind, 512, 512, 1024, 0, 0, 0, FJ_BF16, 1, NOTHING, 256, 128, 2, 16 });
        checked({ kind, 512, 512, 1024, 0, 0, 0, FJ_BF16, 1, ELSEWHERE, 256, 128, 2, 8 });
        checked({ kind, 333, 760, 200, 8, 24, 16, FJ_F32, 0.5f, ELSEWHERE, 128, 128, 2, 40 });
        checked({ kind, 333, 184, 1001, 8, 24, 16, FJ_BF16, 1, THERE, 64, 64, 1, 136 });
        for (int k2 = 8; k2 <= 256; k2 *= 2)
            for (int add = NOTHING; add <= ELSEWHERE; add++)
                checked({ kind, 1500, 2048, 1024, 0, 0, 0, FJ_BF16, 1, add, 0, 0, 0, k2 });
        checked({ kind, 16384, 4096, 4096, 0, 0, 0, FJ_BF16, 1, ELSEWHERE, 0, 0, 0, 16 });
    }
}

/* ---- cuBLASLt: what of it is needed, as its header has it ------------------------------------------- */
typedef struct lt_result {
    uint64_t algo[8];
    size_t work;
    int state;
    float waves;
    int reserved[4];
} lt_result;
static struct {
    void *handle, *pref, *work;
    size_t work_bytes;
    int (*create)(void **);
    int (*desc)(void **, int, int);
    int (*desc_set)(void *, int, const void *, size_t);
    int (*mat)(void **, int, uint64_t, uint64_t, int64_t);
    int (*pref_new)(void **);
    int (*pref_set)(void *, int, const void *, size_t);
    int (*best)(void *, void *, void *, void *, void *, void *, void *, int, lt_result *, int *);
    int (*matmul)(void *, void *, const void *, const void *, void *, const void *, void *,
                  const void *, const void *, void *, void *, void *, const void *, void *, size_t,
                  cudaStream_t);
    int (*algo_get)(const void *, int, void *, size_t, size_t *);
    int (*algo_set)(void *, int, const void *, size_t);
    int (*algo_check)(void *, void *, void *, void *, void *, void *, const void *, lt_result *);
} lt;

static bool lt_open() {
    const char *names[] = { getenv("CUBLASLT"), "libcublasLt.so.13",
                            "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12" };
    void *h = NULL;
    for (int i = 0; i < 4 && !h; i++) h = names[i] ? dlopen(names[i], RTLD_NOW) : NULL;
    if (!h) return printf("no cuBLASLt: %s\n", dlerror()), false;
    *(void **)&lt.create = dlsym(h, "cublasLtCreate");
    *(void **)&lt.desc = dlsym(h, "cublasLtMatmulDescCreate");
    *(void **)&lt.desc_set = dlsym(h, "cublasLtMatmulDescSetAttribute");
    *(void **)&lt.mat = dlsym(h, "cublasLtMatrixLayoutCreate");
    *(void **)&lt.pref_new = dlsym(h, "cublasLtMatmulPreferenceCreate");
    *(void **)&lt.pref_set = dlsym(h, "cublasLtMatmulPreferenceSetAttribute");
    *(void **)&lt.best = dlsym(h, "cublasLtMatmulAlgoGetHeuristic");
    *(void **)&lt.matmul = dlsym(h, "cublasLtMatmul");
    *(void **)&lt.algo_get = dlsym(h, "cublasLtMatmulAlgoConfigGetAttribute");
    *(void **)&lt.algo_set = dlsym(h, "cublasLtMatmulAlgoConfigSetAttribute");
    *(void **)&lt.algo_check = dlsym(h, "cublasLtMatmulAlgoCheck");
    if (!lt.create || !lt.desc || !lt.desc_set || !lt.mat || !lt.pref_new || !lt.pref_set ||
        !lt.best || !lt.matmul || !lt.algo_get || !lt.algo_set || !lt.algo_check)
        return printf("cuBLASLt lacks functions\n"), false;
    uint64_t bytes = lt.work_bytes = 64 << 20;
    lt.work = room<char>(bytes);
    int r = lt.create(&lt.handle);
    r = r ? r : lt.pref_new(&lt.pref);
    r = r ? r : lt.pref_set(lt.pref, 1, &bytes, 8); /* MAX_WORKSPACE_BYTES */
    if (r) printf("cuBLASLt does not start: %d\n", r);
    return !r;
}

typedef struct lt_op {
    void *desc, *a, *b, *c;
    lt_result best[8];
    int n;
} lt_op;
/* Rows are its columns, so C^T = op(B)^T op(A)^T. */
static bool lt_op_of(lt_op *o, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, int64_t lda,
                     int64_t ldb, int64_t ldc, bool wide) {
    int ta = kind == FJ_NT, tb = kind == FJ_TN, type = wide ? 0 : 14;
    int r = lt.desc(&o->desc, 68, 0);            /* COMPUTE_32F, R_32F */
    r = r ? r : lt.desc_set(o->desc, 3, &ta, 4); /* TRANSA */
    r = r ? r : lt.desc_set(o->desc, 4, &tb, 4); /* TRANSB */
    r = r ? r : lt.mat(&o->a, 14, ta ? k : n, ta ? n : k, ldb);
    r = r ? r : lt.mat(&o->b, 14, tb ? m : k, tb ? k : m, lda);
    r = r ? r : lt.mat(&o->c, type, n, m, ldc);
    o->n = 0;
    r = r ? r : lt.best(lt.handle, o->desc, o->a, o->b, o->c, o->c, lt.pref, 8, o->best, &o->n);
    if (r || !o->n) printf("cuBLASLt has no algorithm: %d\n", r);
    return !r && o->n;
}
static int lt_run(lt_op *o, const void *algo, const bf16 *a, const bf16 *b, void *c, float alpha,
                  float beta) {
    return lt.matmul(lt.handle, o->desc, &alpha, b, o->a, a, o->b, &beta, c, o->c, c, o->c, algo,
                     lt.work, lt.work_bytes, gpu.stream);
}

/* ---- times --------------------------------------------------------------------------------------- */
/* n calls of f(i), i from 0 on, in a graph. */
template <typename F> static cudaGraphExec_t graph_of(int n, F f) {
    cudaGraph_t g;
    cudaGraphExec_t e;
    f(0); /* code is loaded, and cuBLASLt does what it does at first */
    OK(cudaStreamSynchronize(gpu.stream));
    OK(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < n; i++) f(i);
    OK(cudaStreamEndCapture(gpu.stream, &g));
    OK(cudaGraphInstantiate(&e, g, 0));
    OK(cudaGraphDestroy(g));
    OK(cudaGraphLaunch(e, gpu.stream));
    OK(cudaStreamSynchronize(gpu.stream));
    return e;
}
static double seconds(int n, cudaGraphExec_t e) {
    static cudaEvent_t t0, t1;
    if (!t0) OK(cudaEventCreate(&t0)), OK(cudaEventCreate(&t1));
    OK(cudaEventRecord(t0, gpu.stream));
    OK(cudaGraphLaunch(e, gpu.stream));
    OK(cudaEventRecord(t1, gpu.stream));
    OK(cudaEventSynchronize(t1));
    float ms;
    OK(cudaEventElapsedTime(&ms, t0, t1));
    return ms / 1e3 / n;
}
/* The best of three, in turn. */
template <typename F, typename G>
static void race(int n, F ours, G theirs, bool there, double *x, double *y) {
    cudaGraphExec_t a = graph_of(n, ours), b = there ? graph_of(n, theirs) : NULL;
    *x = *y = INFINITY;
    for (int i = 0; i < 3; i++) {
        *x = fmin(*x, seconds(n, a));
        if (there) *y = fmin(*y, seconds(n, b));
    }
    OK(cudaGraphExecDestroy(a));
    if (b) OK(cudaGraphExecDestroy(b));
}
/* How often in a graph: for about 10 ms. */
static int times_for(double flop, double bytes) {
    int n = (int)(0.01 / FJ_MAX(flop / 7e14, bytes / 4e12)) + 1;
    return n > 200 ? 200 : n;
}
/* Copies of operands that together do not fit into the L2 cache. */
static int copies_for(double bytes) { return (int)FJ_MIN(16., ceil(200e6 / bytes)); }

typedef struct timed {
    fj_gemm_kind kind;
    int64_t m, n, k;
    fj_dtype c;
    bool acc;
    int64_t k2; /* of a second pair; cuBLASLt does it as a second product, added to the first */
} timed;

/* tune: other plans as well. */
static void time_one(timed t, bool tune) {
    bool wide = t.c == FJ_F32;
    int64_t lda = t.kind == FJ_TN ? t.m : t.k, ldb = t.kind == FJ_NT ? t.k : t.n;
    snprintf(doing, sizeof doing, "%s %6lld %6lld %6lld + %-3lld %-4s%s", kinds[t.kind],
             (long long)t.m, (long long)t.n, (long long)t.k, (long long)t.k2, wide ? "F32" : "BF16",
             t.acc ? " +=" : "   ");
    printf("%s ", doing);
    fflush(stdout);
    int copies = copies_for(2.0 * (t.m + t.n) * t.k);
    int64_t size_a = t.m * t.k, size_b = t.n * t.k;
    bf16 *a = room<bf16>(size_a * copies), *b = room<bf16>(size_b * copies);
    bf16 *a2 = room<bf16>(t.m * t.k2 + 1), *b2 = room<bf16>(t.n * t.k2 + 1);
    char *c = room<char>(t.m * t.n * (wide ? 4 : 2));
    if (t.k2) fill(a2, 1, t.m * t.k2, t.m * t.k2, 4), fill(b2, 1, t.n * t.k2, t.n * t.k2, 5);
    fill(a, 1, size_a * copies, size_a * copies, 1);
    fill(b, 1, size_b * copies, size_b * copies, 2);
    if (wide) fill((float *)c, 1, t.m * t.n, t.m * t.n, 3);
    else fill((bf16 *)c, 1, t.m * t.n, t.m * t.n, 3);
    fj_grows cr = { t.c, c, t.n };
    fj_err e = {};
    plan p;
    int64_t ldb2 = t.kind == FJ_NT ? t.k2 : t.n;
    fj_gpair more = { a2, t.k2, b2, ldb2, t.k2, 1 };
    plan_for(&p, t.kind, t.m, t.n, t.k, wide, t.k2, 1e-3f, t.acc, 0, 0, 0);
    p.by = 1;
    auto ours = [&](int i) {
        bool done = false;
        fj_gpair pair = { a + i % copies * size_a, lda, b + i % copies * size_b, ldb, t.k };
        if (!run_plan(&gpu, t.kind, &p, &pair, t.k2 ? &more : NULL, cr, t.acc ? &cr : NULL, &done,
                      &e) ||
            !done) {
            printf("not done: %s\n", e.msg);
            fflush(stdout);
            _exit(1);
        }
    };
    lt_op o, o2;
    bool there = lt.handle && lt_op_of(&o, t.kind, t.m, t.n, t.k, lda, ldb, t.n, wide);
    if (t.k2 && there) there = lt_op_of(&o2, t.kind, t.m, t.n, t.k2, t.k2, ldb2, t.n, wide);
    auto theirs = [&](int i) {
        const bf16 *ai = a + i % copies * size_a, *bi = b + i % copies * size_b;
        int r = lt_run(&o, o.best[0].algo, ai, bi, c, 1e-3f, t.acc ? 1 : 0);
        if (t.k2 && !r) r = lt_run(&o2, o2.best[0].algo, a2, b2, c, 1e-3f, 1);
        if (r) printf("(cuBLASLt: %d) ", r);
    };
    double flop = 2.0 * t.m * t.n * (t.k + t.k2), x, y;
    double bytes = 2.0 * (t.m + t.n) * (t.k + t.k2) + (wide ? 4.0 : 2.0) * t.m * t.n * (1 + t.acc);
    int n = times_for(flop, bytes);
    race(n, ours, theirs, there, &x, &y);
    printf("%8.1f us %6.1f TFLOP/s %5.0f GB/s; cuBLASLt %8.1f us %6.1f; %5.1f%%  ", x * 1e6,
           flop / x / 1e12, bytes / x / 1e9, y * 1e6, flop / y / 1e12, 100 * y / x);
    say_plan(&p);
    printf(" cost %.0f\n", plan_cost(&p, wide, gpu.sms));
    if (tune) {
        static const int other[][3] = {
            /* rows, columns, cluster */
            { 128, 256, 2 }, { 128, 256, 1 }, { 128, 224, 2 }, { 128, 192, 2 }, { 128, 192, 1 },
            { 128, 160, 2 }, { 128, 128, 2 }, { 128, 128, 1 }, { 128, 96, 2 },  { 128, 64, 2 },
            { 128, 64, 1 },  { 128, 32, 1 },  { 128, 16, 1 },  { 64, 256, 2 },  { 64, 256, 1 },
            { 64, 224, 2 },  { 64, 192, 2 },  { 64, 128, 2 },  { 64, 128, 1 },  { 64, 96, 1 },
            { 64, 64, 2 },   { 64, 64, 1 },   { 64, 32, 1 },   { 64, 16, 1 },   { 32, 128, 1 },
            { 32, 64, 1 },   { 32, 32, 1 },   { 32, 16, 1 }
        };
        for (size_t i = 0; i < FJ_LEN(other); i++) {
            int rows = other[i][0], bn = other[i][1], cluster = other[i][2];
            if (t.kind != FJ_NT && bn % 64) continue;
            if (t.kind == FJ_TN && rows < 64) continue;
            plan_for(&p, t.kind, t.m, t.n, t.k, wide, t.k2, 1e-3f, t.acc, bn, rows, cluster);
            double should = plan_cost(&p, wide, gpu.sms) / 1.7e9;
            if (should > 1.35 * x || rows > 2 * t.m || bn > 4 * t.n) continue; /* not worth a try */
            snprintf(doing, sizeof doing, "tune %dx%d cl%d", rows, bn, cluster);
            double z, none;
            race(n, ours, theirs, false, &z, &none);
            printf("      %8.1f us %6.1f TFLOP/s %5.1f%% cost %9.0f ", z * 1e6, flop / z / 1e12,
                   100 * y / z, plan_cost(&p, wide, gpu.sms));
            say_plan(&p);
            printf("\n");
            fflush(stdout);
        }
    }
    fflush(stdout);
    cudaFree(a), cudaFree(b), cudaFree(a2), cudaFree(b2), cudaFree(c);
}

/* ---- gradients of few outputs: gemm.cu's fj_gpu_dw ------------------------------------------------ */
/* dw[n,k] of m rows. */
static void dw_one(int64_t m, int64_t n, int64_t k, bool acc, bool time) {
    int copies = time ? copies_for(2.0 * m * (n + k)) : 1;
    snprintf(doing, sizeof doing, "dw %6lld rows %6lld %6lld%s", (long long)m, (long long)n,
             (long long)k, acc ? " +=" : "   ");
    printf("%s ", doing);
    fflush(stdout);
    size_t bytes = fj_gpu_dw_scratch(m, n, k, FJ_BF16, false);
    bf16 *dy = room<bf16>(m * n * copies), *x = room<bf16>(m * k * copies);
    float *dw = room<float>(n * k), *want = room<float>(n * k), *size = room<float>(n * k);
    char *scratch = room<char>(bytes + 1);
    fill(dy, 1, m * n * copies, m * n * copies, 1), fill(x, 1, m * k * copies, m * k * copies, 2);
    fill(dw, 1, n * k, n * k, 3);
    fj_err e = {};
    auto ours = [&](int i) {
        fj_grows d = { FJ_BF16, dy + i % copies * m * n, n },
                 r = { FJ_BF16, x + i % copies * m * k, k };
        if (fj_gpu_dw(&gpu, m, d, r, dw, n, k, 0.5f, acc, scratch, &e)) return;
        printf("not done: %s\n", e.msg);
        fflush(stdout);
        _exit(1);
    };
    if (!time) {
        std::vector<float> old(n * k), got(n * k), w(n * k), s(n * k);
        OK(cudaStreamSynchronize(gpu.stream));
        OK(cudaMemcpy(old.data(), dw, old.size() * 4, cudaMemcpyDeviceToHost));
        OK(cudaMemset(scratch, 0xff, bytes));
        ours(0);
        want_kernel<<<dim3((unsigned)((k + 127) / 128), (unsigned)n), 128, 0, gpu.stream>>>(
            FJ_TN, dy, n, x, k, want, size, n, 0, 1, k, m, false);
        OK(cudaStreamSynchronize(gpu.stream));
        OK(cudaMemcpy(got.data(), dw, got.size() * 4, cudaMemcpyDeviceToHost));
        OK(cudaMemcpy(w.data(), want, w.size() * 4, cudaMemcpyDeviceToHost));
        OK(cudaMemcpy(s.data(), size, s.size() * 4, cudaMemcpyDeviceToHost));
        int64_t wrong = 0;
        for (int64_t i = 0; i < n * k; i++) {
            double v = 0.5 * w[i] + (acc ? old[i] : 0), tol = 3e-6 * s[i] + 1e-6;
            if (!(fabs(got[i] - v) <= tol) && wrong++ < 4)
                printf("\n    WRONG row %lld col %lld: got %.7g want %.7g", (long long)(i / k),
                       (long long)(i % k), got[i], v);
        }
        failures += wrong > 0;
        printf(wrong ? "\n    FAIL %lld wrong\n" : "ok\n", (long long)wrong);
    } else {
        lt_op o;
        bool there = lt.handle && lt_op_of(&o, FJ_TN, n, k, m, n, k, k, true);
        auto theirs = [&](int i) {
            lt_run(&o, o.best[0].algo, dy + i % copies * m * n, x + i % copies * m * k, dw, 0.5f,
                   acc);
        };
        double flop = 2.0 * m * n * k, read = 2.0 * m * (n + k) + 4.0 * n * k * (1 + acc), u, v;
        race(times_for(flop, read), ours, theirs, there, &u, &v);
        printf("%8.1f us %6.1f TFLOP/s %5.0f GB/s; cuBLASLt %8.1f us; %5.1f%%\n", u * 1e6,
               flop / u / 1e12, read / u / 1e9, v * 1e6, 100 * v / u);
    }
    fflush(stdout);
    cudaFree(dy), cudaFree(x), cudaFree(dw), cudaFree(want), cudaFree(size), cudaFree(scratch);
}
static void part_dw() {
    static const int64_t shapes[][3] = {
        /* rows, n, k */
        { 16384, 16, 4096 },  { 16384, 4096, 16 }, { 2049, 16, 1024 },  { 5000, 8, 1000 },
        { 5000, 1000, 24 },   { 5000, 32, 520 },   { 6000, 48, 4096 },  { 6000, 4096, 64 },
        { 6000, 128, 1024 },  { 6000, 768, 768 },  { 6000, 200, 1000 }, { 2048, 16, 4096 },
        { 3000, 4096, 2048 }, { 100, 16, 512 }
    };
    for (size_t i = 0; i < FJ_LEN(shapes); i++)
        for (int acc = 0; acc < 2; acc++)
            dw_one(shapes[i][0], shapes[i][1], shapes[i][2], acc, false);
    lt_open();
    for (int r = 8; r <= 64; r *= 2) {
        dw_one(16384, r, 4096, false, true);
        dw_one(16384, 4096, r, false, true);
    }
    dw_one(16384, 16, 14336, false, true);
    dw_one(16384, 14336, 16, false, true);
    dw_one(16384, 1024, 16, false, true);
    dw_one(16384, 768, 768, true, true);
}

static void part_time() {
    static const timed all[] = {
        { FJ_NT, 8192, 8192, 8192, FJ_BF16, false },
        { FJ_NT, 16384, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 16384, 14336, 4096, FJ_BF16, false },
        { FJ_NT, 16384, 4096, 14336, FJ_BF16, false },
        { FJ_NN, 16384, 4096, 4096, FJ_BF16, false },
        { FJ_NN, 16384, 4096, 14336, FJ_BF16, true },
        { FJ_NN, 16384, 14336, 4096, FJ_BF16, false },
        { FJ_TN, 4096, 4096, 16384, FJ_F32, true },
        { FJ_TN, 14336, 4096, 16384, FJ_F32, true },
        { FJ_TN, 4096, 14336, 16384, FJ_F32, false },
        { FJ_NT, 16384, 1024, 4096, FJ_BF16, false },
        { FJ_NT, 4096, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 2048, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 512, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 128, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 64, 4096, 4096, FJ_BF16, false },
        { FJ_NT, 2048, 32000, 4096, FJ_F32, false },
        { FJ_NT, 1000, 3000, 5000, FJ_BF16, false },
        { FJ_NT, 16384, 16, 4096, FJ_BF16, false },
        { FJ_NT, 16384, 32, 4096, FJ_BF16, false },
        { FJ_NT, 16384, 64, 4096, FJ_BF16, false },
        { FJ_NT, 4096, 16, 4096, FJ_BF16, false },
        { FJ_NT, 16384, 4096, 16, FJ_BF16, true },
        { FJ_NT, 16384, 4096, 64, FJ_BF16, true },
        { FJ_NT, 16384, 4096, 16, FJ_BF16, false },
        { FJ_NN, 16384, 16, 4096, FJ_BF16, false },
        { FJ_NN, 16384, 4096, 16, FJ_BF16, true },
        { FJ_NT, 16384, 4096, 4096, FJ_BF16, false, 16 },
        { FJ_NT, 16384, 14336, 4096, FJ_BF16, false, 64 },
        { FJ_NN, 16384, 4096, 4096, FJ_BF16, true, 16 },
        { FJ_NN, 16384, 4096, 14336, FJ_BF16, true, 16 },
    };
    lt_open();
    for (size_t i = 0; i < FJ_LEN(all); i++) time_one(all[i], false);
}
static void part_small() {
    static const int64_t rows[] = { 64, 65, 96, 128, 192, 256, 384, 512 };
    static const int64_t weights[][2] = {
        { 4096, 4096 }, { 1024, 4096 }, { 14336, 4096 }, { 4096, 14336 }
    };
    lt_open();
    for (size_t w = 0; w < FJ_LEN(weights); w++)
        for (size_t i = 0; i < FJ_LEN(rows); i++)
            time_one({ FJ_NT, rows[i], weights[w][0], weights[w][1], FJ_BF16, false }, false);
    time_one({ FJ_NN, 128, 4096, 4096, FJ_BF16, false }, false);
    time_one({ FJ_NN, 512, 4096, 4096, FJ_BF16, false }, false);
}
static void part_tune() {
    lt_open();
    time_one({ FJ_NT, 128, 4096, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 256, 4096, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 512, 4096, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 128, 14336, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 512, 14336, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 128, 1024, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 1000, 3000, 5000, FJ_BF16, false }, true);
    time_one({ FJ_NT, 4096, 16, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 16384, 16, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NN, 16384, 16, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NN, 512, 4096, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NT, 16384, 4096, 4096, FJ_BF16, false }, true);
    time_one({ FJ_NN, 16384, 4096, 4096, FJ_BF16, true }, true);
    time_one({ FJ_TN, 4096, 4096, 16384, FJ_F32, true }, true);
}

/* ---- the same bits? ------------------------------------------------------------------------------ */
/* A warp: 16 rows and 8 columns of A[m,k] B[n,k]^T, a chain of mma.sync in steps of 16. */
static __global__ void chain_kernel(float *c, const bf16 *a, const bf16 *b, int n, int k) {
    int lane = threadIdx.x % 32, r = blockIdx.y * 16 + lane / 4,
        col = (blockIdx.x * 4 + threadIdx.x / 32) * 8;
    float d[4] = { 0, 0, 0, 0 };
    for (int l = 0; l < k; l += 16) {
        const bf16 *x = a + (int64_t)r * k + l + lane % 4 * 2,
                   *y = b + (int64_t)(col + lane / 4) * k + l + lane % 4 * 2;
        uint32_t fa[4] = { *(const uint32_t *)x, *(const uint32_t *)(x + 8 * (int64_t)k),
                           *(const uint32_t *)(x + 8),
                           *(const uint32_t *)(x + 8 * (int64_t)k + 8) };
        uint32_t fb[2] = { *(const uint32_t *)y, *(const uint32_t *)(y + 8) };
        mma_bf16(d, fa, fb);
    }
    float *o = c + (int64_t)r * n + col + lane % 4 * 2;
    o[0] = d[0], o[1] = d[1], o[8 * (int64_t)n] = d[2], o[8 * (int64_t)n + 1] = d[3];
}

static void bits_of_kernels() {
    const int64_t m = 8192, few = 64, n = 1024, k = 4096;
    enum { MMA, WGMMA, WGMMA_FEW, WGMMA_256, LT, LT_FEW, LT_FEW_OWN, WAYS };
    static const char *const names[] = {
        "mma.sync m=8192",         "wgmma m=8192",    "wgmma m=64",
        "wgmma 128x256 cluster 2", "cuBLASLt m=8192", "cuBLASLt m=64, algorithm of 8192",
        "cuBLASLt m=64, its own"
    };
    bool there[WAYS] = {};
    bf16 *a = room<bf16>(m * k), *b = room<bf16>(n * k);
    float *c = room<float>(m * n);
    fill(a, m, k, k, 1), fill(b, n, k, k, 2);
    fj_gpair pair = { a, k, b, k, k };
    std::vector<float> got[WAYS];
    lt_open();
    lt_op big = {}, small = {};
    uint64_t algo[8];
    if (lt.handle) {
        there[LT] = lt_op_of(&big, FJ_NT, m, n, k, k, k, n, true);
        there[LT_FEW] = there[LT_FEW_OWN] = lt_op_of(&small, FJ_NT, few, n, k, k, k, n, true);
    }
    if (there[LT]) {
        uint32_t one = 1, zero = 0, v[9];
        size_t w;
        for (int i = 0; i < big.n; i++) {
            printf("cuBLASLt m=8192 choice %d:", i);
            for (int j = 0; j < 9; j++)
                v[j] = 0, lt.algo_get(big.best[i].algo, j, &v[j], j == 7 || j == 8 ? 2 : 4, &w),
                printf(" %u", v[j]);
            printf("  (id tile splitk reduction swizzle custom stages inner cluster)\n");
        }
        memcpy(algo, big.best[0].algo, sizeof algo);
        lt.algo_set(algo, 2, &one, 4), lt.algo_set(algo, 3, &zero, 4);
        if (there[LT_FEW]) {
            lt_result r = {};
            int s =
                lt.algo_check(lt.handle, small.desc, small.a, small.b, small.c, small.c, algo, &r);
            printf("cuBLASLt: the algorithm of m=8192 for m=64: status %d, state %d\n", s, r.state);
            for (int j = 0; j < 9; j++)
                v[j] = 0, lt.algo_get(small.best[0].algo, j, &v[j], j == 7 || j == 8 ? 2 : 4, &w),
                printf(" %u", v[j]);
            printf("  is its own for m=64\n");
        }
    }
    for (int i = 0; i < WAYS; i++) {
        fj_err e = {};
        bool done = false;
        int r = 0;
        int64_t rows = i == WGMMA_FEW || i >= LT_FEW ? few : m;
        snprintf(doing, sizeof doing, "%s", names[i]);
        OK(cudaMemsetAsync(c, 0x7f, m * n * 4, gpu.stream));
        if (i == MMA) {
            chain_kernel<<<dim3(n / 32, m / 16), 128, 0, gpu.stream>>>(c, a, b, n, k);
            there[i] = true;
        } else if (i <= WGMMA_256) {
            plan p;
            plan_for(&p, FJ_NT, rows, n, k, true, 0, 1, false, i == WGMMA_256 ? 256 : 0, 128, 2);
            say_plan(&p);
            printf("\n");
            there[i] =
                run_plan(&gpu, FJ_NT, &p, &pair, NULL, { FJ_F32, c, n }, NULL, &done, &e) && done;
        } else if (there[i]) {
            r = lt_run(rows == m ? &big : &small, i == LT_FEW_OWN ? small.best[0].algo : algo, a, b,
                       c, 1, 0);
            there[i] = !r;
        }
        OK(cudaStreamSynchronize(gpu.stream));
        if (!there[i]) printf("%s: not there (%d)\n", names[i], r);
        got[i].resize(rows * n);
        OK(cudaMemcpy(got[i].data(), c, rows * n * 4, cudaMemcpyDeviceToHost));
    }
    for (int i = 0; i < WAYS; i++)
        for (int j = i + 1; j < WAYS; j++) {
            if (!there[i] || !there[j]) continue;
            size_t both = FJ_MIN(got[i].size(), got[j].size()), differ = 0, head = 0;
            double most = 0;
            for (size_t x = 0; x < both; x++)
                if (memcmp(&got[i][x], &got[j][x], 4)) {
                    differ++, head += x < (size_t)(few * n);
                    most = fmax(most, fabs((double)got[i][x] - got[j][x]));
                }
            printf(
                "%-34s | %-34s: %8zu of %8zu differ (%zu in the first 64 rows), by at most %.3g\n",
                names[i], names[j], differ, both, head, most);
        }
}

/* One chain over two pairs of operands, whoever computes it; and pieces of a gradient. */
static void bits_of_pairs() {
    const int64_t m = 1000, n = 1024, k = 4096, k2 = 24, few = 48;
    bf16 *a = room<bf16>(m * k), *b = room<bf16>(n * k), *a2 = room<bf16>(m * k2),
         *b2 = room<bf16>(n * k2);
    bf16 *c = room<bf16>(m * n);
    float *c2 = room<float>(m * n);
    fill(a, m, k, k, 1), fill(b, n, k, k, 2), fill(a2, m, k2, k2, 3), fill(b2, n, k2, k2, 4);
    static const char *const names[] = { "mma.sync, tiles", "wgmma", "wgmma of few rows",
                                         "mma.sync, few rows" };
    fj_gpair more = { a2, k2, b2, k2, k2, 1 };
    fj_gmat w = { FJ_BF16, b, n, k };
    fj_grows cr = { FJ_BF16, c, n };
    std::vector<bf16> first, got;
    for (int i = 0; i < 4; i++) {
        fj_err e = {};
        bool done = true, said = false;
        int64_t rows = i < 2 ? m : few;
        snprintf(doing, sizeof doing, "two pairs: %s", names[i]);
        OK(cudaMemsetAsync(c, 0x7f, m * n * 2, gpu.stream));
        if (i == 0) said = fj_gpu_tile(&gpu, FJ_NT, m, n, k, a, k, b, k, cr, 0.7f, NULL, &more, &e);
        else if (i < 3)
            said = fj_gpu_hopper(&gpu, FJ_NT, rows, n, k, a, k, b, k, cr, 0.7f, NULL, &more, &done,
                                 &e);
        else said = fj_gpu_skinny(&gpu, few, { FJ_BF16, a, k }, &w, cr, 0.7f, NULL, &more, &e);
        OK(cudaStreamSynchronize(gpu.stream));
        got.resize(rows * n);
        OK(cudaMemcpy(got.data(), c, rows * n * 2, cudaMemcpyDeviceToHost));
        if (!i) first = got;
        int64_t differ = 0;
        for (int64_t x = 0; x < rows * n; x++) differ += memcmp(&first[x], &got[x], 2) != 0;
        printf("two pairs, %-20s: %lld of %lld differ%s %s\n", names[i], (long long)differ,
               (long long)(rows * n), said && done ? "" : " NOT DONE", e.msg);
        failures += differ || !said || !done;
    }
    /* dw of 5000 rows: a is [5000, 16], b [5000, 800] */
    const int64_t deep = 5000, r = 16, wide = 800, apart = fj_gpu_hopper_apart(r);
    std::vector<float> parts[2];
    for (int i = 0; i < 2; i++) {
        fj_err e = {};
        bool done = true, said;
        snprintf(doing, sizeof doing, "pieces: %s", i ? "wgmma" : "mma.sync");
        said = i ? fj_gpu_hopper_pieces(&gpu, r, wide, deep, a, r, b, wide, 2048, c2, &done, &e)
                 : fj_gpu_tile_pieces(&gpu, r, wide, deep, a, r, b, wide, 2048, c2, &e);
        OK(cudaStreamSynchronize(gpu.stream));
        parts[i].resize(3 * apart * wide);
        OK(cudaMemcpy(parts[i].data(), c2, parts[i].size() * 4, cudaMemcpyDeviceToHost));
        int64_t differ = 0;
        for (int64_t p = 0; p < 3; p++)
            for (int64_t x = 0; x < r * wide; x++)
                differ += memcmp(&parts[0][p * r * wide + x],
                                 &parts[i][p * (i ? apart : r) * wide + x], 4) != 0;
        printf("pieces, %-20s: %lld of %lld differ%s %s\n", i ? "wgmma" : "mma.sync, tiles",
               (long long)differ, (long long)(3 * r * wide), said && done ? "" : " NOT DONE",
               e.msg);
        failures += differ || !said || !done;
    }
}
static void part_bits() {
    bits_of_pairs();
    bits_of_kernels();
}

/* ---- main ---------------------------------------------------------------------------------------- */
static const struct {
    const char *name;
    void (*run)();
} parts[] = { { "nt", part_nt },     { "nn", part_nn },       { "tn", part_tn },
              { "thin", part_thin }, { "pair", part_pair },   { "dw", part_dw },
              { "bits", part_bits }, { "small", part_small }, { "time", part_time },
              { "tune", part_tune } };

int main(int n, char **words) {
    int bad = 0;
    for (size_t i = 0; i < FJ_LEN(parts); i++) {
        bool want = n < 2;
        for (int j = 1; j < n; j++) want = want || !strcmp(words[j], parts[i].name);
        if (!want) continue;
        printf("==== %s\n", parts[i].name);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGALRM, on_alarm);
            alarm(60);
            cudaDeviceProp prop;
            OK(cudaGetDeviceProperties(&prop, 0));
            gpu.sms = prop.multiProcessorCount, gpu.compute = prop.major * 10 + prop.minor;
            OK(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking));
#ifdef FJ_HOPPER_DEBUG
            void *log, *there;
            OK(cudaHostAlloc(&log, WAITS * 4, cudaHostAllocMapped));
            memset(log, 0, WAITS * 4);
            OK(cudaHostGetDevicePointer(&there, log, 0));
            OK(cudaMemcpyToSymbol(fj_hopper_log, &there, sizeof there));
            waits = (volatile uint32_t *)log;
#endif
            parts[i].run();
            OK(cudaDeviceSynchronize());
            fflush(stdout);
            _exit(failures ? 1 : 0);
        }
        int status = 0, waited = 0;
        while (waitpid(pid, &status, WNOHANG) == 0) {
            usleep(100000);
            if (++waited > 750) kill(pid, SIGKILL);
        }
        bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        printf("==== %s %s (%.1f s)\n", parts[i].name, good ? "good" : "BAD", waited / 10.0);
        fflush(stdout);
        bad += !good;
    }
    return bad ? 1 : 0;
}
