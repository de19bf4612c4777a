/* gpu_skinny.cu - how fast a GPU reads weights in products of few rows.
 *
 *     nvcc -O2 -std=c++17 -gencode arch=compute_90a,code=sm_90a -DFORJA_CUDA -Iinclude -Isrc -o gpu_skinny \
 *         bench/gpu_skinny.cu src/kernels/cuda/skinny.cu src/base/{dtype,kquant,err,rng}.c
 *     ./gpu_skinny [format [m [GB/s of the memory]]]
 *
 * Each time is the median of 9 graphs of products, one after another, each with another copy of the
 * weight, so that the cache of the GPU does not hold it; so it has the gap between two kernels in it.
 * error: of some outputs against sums in double, relative to the largest.  bits: outputs of the first row
 * that are not those which it has among 64, and all outputs that are not those of the kernel for other
 * GPUs.  values: of a weight, read exactly.  qkv: three weights at once.
 *
 * It is ended after 40 s.  With -DFJ_HOPPER_DEBUG a wait of two seconds stops the kernel, and all waits
 * are told. */
#include "kernels/cuda/few.cu"

extern "C" {
#include "../tests/opcheck/gpu_values.h"
#include "base/rng.h"
}

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char doing[128] = "start";
static void on_alarm(int) {
    ssize_t w = write(1, "TOO LONG: ", 10);
    w = write(1, doing, strlen(doing));
    w = write(1, "\n", 1);
    (void)w;
    _exit(124);
}

enum { WARPS_SEEN = 12, WAITS = WARPS_SEEN * 512 };
static volatile uint32_t *waits; /* what hopper.cuh writes */
static void check(cudaError_t c, const char *what) {
    static const char *const names[] = { "?", "full", "empty", "?", "?", "?", "?", "?" };
    if (c == cudaSuccess) return;
    printf("FAILED: %s: %s, while: %s\n", what, cudaGetErrorString(c), doing);
    for (int i = 0, said = 0; waits && i < WAITS; i++)
        if (waits[i] && said++ < 40)
            printf("    block %d warp %d waits for %s[%d] parity %d\n", i / WARPS_SEEN,
                   i % WARPS_SEEN, names[waits[i] >> 24 & 7], waits[i] >> 16 & 255,
                   waits[i] >> 8 & 255);
    fflush(stdout);
    _exit(1);
}
#define CHECK(call) check(call, #call)

enum { TIMES = 9, ROWS = 64, SEEN = 8 };
static const size_t SPACE = (size_t)2300 << 20, COLD = (size_t)400 << 20;

static __device__ uint32_t random_of(uint64_t i) {
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ z >> 31);
}

/* Numbers up to about 2, or blocks with scales of about 1/100. */
static __global__ void fill(unsigned char *p, size_t units, fj_dtype t, int bytes) {
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < units; i += step) {
        unsigned char *b = p + i * bytes;
        for (int j = 0; j < bytes; j++) b[j] = (unsigned char)(random_of(i * 64 + j) >> 8);
        if (t == FJ_MXFP4) b[0] = 118 + b[0] % 4;
        else if (t == FJ_Q8_0 || t == FJ_Q4_0 || t == FJ_NF4) b[1] = 0x20 + b[1] % 4;
        else if (t == FJ_Q4_K) b[1] = 0x10 + b[1] % 4, b[3] = 0x18 + b[3] % 4;
        else if (t == FJ_Q6_K) b[209] = 0x04 + b[209] % 4;
        else if (t == FJ_F16) b[1] = (b[1] & 0x80) | (0x38 + b[1] % 4);
        else b[bytes - 1] = (b[bytes - 1] & 0x80) | 0x3f;
    }
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef struct bench {
    fj_gpu g;
    unsigned char *w;
    uint16_t *x, *hx; /* [ROWS, k] */
    float *y, *hy, *all, *old;
    double peak;
} bench;

static void product(bench *b, int64_t m, fj_dtype t, int64_t n, int64_t k, size_t copy) {
    fj_err e = { FJ_OK, "" };
    fj_gmat w = { t, b->w + copy, n, k };
    snprintf(doing, sizeof doing, "%s %lld x %lld, %lld rows", fj_dtype_get(t)->name, (long long)n,
             (long long)k, (long long)m);
    if (!fj_gpu_skinny(&b->g, m, { FJ_BF16, b->x, k }, &w, { FJ_F32, b->y, n }, 1, NULL, NULL,
                       &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
}

static double error_of(bench *b, int64_t m, fj_dtype t, int64_t n, int64_t k) {
    size_t row = (size_t)fj_dtype_size(t, 1, k);
    unsigned char *raw = (unsigned char *)malloc(row);
    float *v = (float *)malloc((size_t)k * 4);
    double worst = 0, largest = 0;
    for (int s = 0; s < SEEN; s++) {
        int64_t j = s ? (int64_t)(fj_rng_at(3, (uint64_t)s) % (uint64_t)n) : n - 1;
        CHECK(cudaMemcpy(raw, b->w + (size_t)j * row, row, cudaMemcpyDeviceToHost));
        gv_row(t, raw, v, k);
        for (int64_t i = 0; i < m; i++) {
            double sum = 0, d;
            for (int64_t c = 0; c < k; c++) sum += (double)fj_bf16_to_f32(b->hx[i * k + c]) * v[c];
            d = fabs(sum - (double)b->hy[i * n + j]);
            if (!(d <= worst)) worst = d;
            if (fabs(sum) > largest) largest = fabs(sum);
        }
    }
    free(raw), free(v);
    return worst / largest;
}

/* Blocks with scales from all of their range; each value alone, by a row of x that is 1 there. */
static void values_of(bench *b, fj_dtype t) {
    enum { N = 64, K = 512 };
    const fj_dtype_info *d = fj_dtype_get(t);
    size_t row = (size_t)fj_dtype_size(t, 1, K);
    unsigned char *raw = (unsigned char *)malloc(N * row);
    float v[K];
    int wrong = 0;
    for (size_t i = 0; i < N * row; i++) raw[i] = (unsigned char)(fj_rng_at(5, i) >> 20);
    for (size_t i = 0; i < N * row; i += (size_t)d->bytes) {
        size_t at = t == FJ_Q6_K ? 208 : 0;
        for (size_t s = 1; t == FJ_Q4_K && s < 4; s += 2) raw[i + s] = 0x10 + raw[i + s] % 0x40;
        if (t == FJ_MXFP4) raw[i] %= i % 2 ? 250 : 4;
        else if (t == FJ_F32) raw[i + 3] &= 0xbf;
        else if (t == FJ_BF16) raw[i + 1] &= 0xbf;
        else if ((raw[i + at + 1] & 0x7c) == 0x7c) raw[i + at + 1] ^= 0x40;
    }
    CHECK(cudaMemcpy(b->w, raw, N * row, cudaMemcpyHostToDevice));
    uint16_t *x = (uint16_t *)calloc(ROWS * K, 2);
    for (int k = 0; k < K; k += ROWS) {
        memset(x, 0, ROWS * K * 2);
        for (int i = 0; i < ROWS; i++) x[i * K + k + i] = 0x3f80;
        CHECK(cudaMemcpy(b->x, x, ROWS * K * 2, cudaMemcpyHostToDevice));
        product(b, ROWS, t, N, K, 0);
        CHECK(cudaStreamSynchronize(b->g.stream));
        CHECK(cudaMemcpy(b->hy, b->y, ROWS * N * 4, cudaMemcpyDeviceToHost));
        for (int j = 0; j < N; j++) {
            gv_row(t, raw + (size_t)j * row, v, K);
            for (int i = 0; i < ROWS; i++) wrong += !(b->hy[i * N + j] == v[k + i]);
        }
    }
    printf("%-5s values: %d of %d wrong\n", d->name, wrong, N * K);
    free(raw), free(x);
}

static void measure(bench *b, fj_dtype t, int64_t n, int64_t k, int64_t only) {
    static const int64_t rows[] = { 64, 8, 1 };
    const fj_dtype_info *d = fj_dtype_get(t);
    size_t bytes = (size_t)fj_dtype_size(t, n, k), each = (bytes + 255) / 256 * 256;
    size_t copies = COLD / each + 1;
    if (copies > SPACE / each) copies = SPACE / each;
    FJ_LAUNCH(fill, 4096, 256, 0, b->g.stream, b->w, copies * each / (size_t)d->bytes, t, d->bytes);
    for (size_t c = 0; c < copies && d->block > 1; c++) /* each copy begins with a block */
        FJ_LAUNCH(fill, 4096, 256, 0, b->g.stream, b->w + c * each, bytes / (size_t)d->bytes, t,
                  d->bytes);
    int64_t few = fj_gpu_skinny_rows(t);
    for (size_t i = 0; i < FJ_LEN(rows); i++) {
        int64_t m = rows[i];
        if (m > few || (only && m != only && m != 64)) continue;
        int compute = b->g.compute;
        for (int other = 1; other >= 0; other--) {
            b->g.compute = other ? 80 : compute;
            CHECK(cudaMemsetAsync(b->y, 0xff, (size_t)(m * n) * 4, b->g.stream));
            product(b, m, t, n, k, 0);
            CHECK(cudaStreamSynchronize(b->g.stream));
            CHECK(cudaMemcpy(other ? b->old : b->hy, b->y, (size_t)(m * n) * 4,
                             cudaMemcpyDeviceToHost));
        }
        int64_t apart = 0;
        for (int64_t j = 0; j < m * n; j++) apart += memcmp(&b->old[j], &b->hy[j], 4) != 0;
        if (m == 64) memcpy(b->all, b->hy, (size_t)n * 4);
        int64_t other = 0;
        for (int64_t j = 0; j < n; j++) other += memcmp(&b->all[j], &b->hy[j], 4) != 0;
        double error = error_of(b, m, t, n, k);
        int each_graph = (int)(copies < 4 ? 4 : copies > 100 ? 100 : copies);
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        CHECK(cudaStreamBeginCapture(b->g.stream, cudaStreamCaptureModeGlobal));
        for (int c = 0; c < each_graph; c++) product(b, m, t, n, k, (size_t)c % copies * each);
        CHECK(cudaStreamEndCapture(b->g.stream, &graph));
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        cudaEvent_t from, to;
        CHECK(cudaEventCreate(&from));
        CHECK(cudaEventCreate(&to));
        float ms[TIMES];
        for (int r = -2; r < TIMES; r++) {
            CHECK(cudaEventRecord(from, b->g.stream));
            CHECK(cudaGraphLaunch(exec, b->g.stream));
            CHECK(cudaEventRecord(to, b->g.stream));
            CHECK(cudaStreamSynchronize(b->g.stream));
            if (r >= 0) CHECK(cudaEventElapsedTime(&ms[r], from, to));
        }
        qsort(ms, TIMES, sizeof *ms, by_size);
        double us = (double)ms[TIMES / 2] * 1e3 / each_graph, rate = (double)bytes / us * 1e-3;
        printf(
            "%-5s %6lld x %5lld  m %2lld  %8.2f us  %5.0f GB/s  %5.1f %%  error %.1e  bits %lld %lld\n",
            d->name, (long long)n, (long long)k, (long long)m, us, rate, 100 * rate / b->peak,
            error, (long long)other, (long long)apart);
        fflush(stdout);
        CHECK(cudaEventDestroy(from));
        CHECK(cudaEventDestroy(to));
        CHECK(cudaGraphExecDestroy(exec));
        CHECK(cudaGraphDestroy(graph));
    }
}

/* Projections of a model of 8B parameters, one after another, and the three in one. */
static void measure_many(bench *b, fj_dtype t, int64_t m) {
    enum { K = 4096 };
    static const int64_t n[] = { 4096, 1024, 1024 };
    size_t all = (size_t)fj_dtype_size(t, 6144, K), copies = COLD / all + 1;
    for (int together = 0; together < 2; together++) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        CHECK(cudaStreamBeginCapture(b->g.stream, cudaStreamCaptureModeGlobal));
        for (size_t c = 0; c < copies; c++) {
            fj_gmat w[3];
            fj_grows y[3];
            unsigned char *p = b->w + c * all;
            for (int i = 0; i < 3; i++) {
                w[i] = { t, p, n[i], K };
                y[i] = { FJ_BF16, (bf16 *)b->y + 8192 * ROWS * i, n[i] };
                p += fj_dtype_size(t, n[i], K);
            }
            fj_err e = { FJ_OK, "" };
            for (int i = 0; i < (together ? 1 : 3); i++)
                if (!fj_gpu_skinny_many(&b->g, m, { FJ_BF16, b->x, K }, together ? 3 : 1, w + i,
                                        y + i, &e)) {
                    printf("%s\n", e.msg);
                    exit(1);
                }
        }
        CHECK(cudaStreamEndCapture(b->g.stream, &graph));
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        cudaEvent_t from, to;
        CHECK(cudaEventCreate(&from));
        CHECK(cudaEventCreate(&to));
        float ms[TIMES];
        for (int r = -2; r < TIMES; r++) {
            CHECK(cudaEventRecord(from, b->g.stream));
            CHECK(cudaGraphLaunch(exec, b->g.stream));
            CHECK(cudaEventRecord(to, b->g.stream));
            CHECK(cudaStreamSynchronize(b->g.stream));
            if (r >= 0) CHECK(cudaEventElapsedTime(&ms[r], from, to));
        }
        qsort(ms, TIMES, sizeof *ms, by_size);
        double us = (double)ms[TIMES / 2] * 1e3 / (double)copies, rate = (double)all / us * 1e-3;
        printf("%-5s qkv %s  m %2lld  %8.2f us  %5.0f GB/s  %5.1f %%\n", fj_dtype_get(t)->name,
               together ? "together" : "each    ", (long long)m, us, rate, 100 * rate / b->peak);
        fflush(stdout);
        CHECK(cudaGraphExecDestroy(exec));
        CHECK(cudaGraphDestroy(graph));
    }
}

int main(int argc, char **argv) {
    static const int64_t shapes[][2] = {
        { 4096, 4096 }, { 14336, 4096 }, { 4096, 14336 }, { 1024, 4096 }, { 128256, 4096 }
    };
    static const fj_dtype formats[] = { FJ_BF16, FJ_Q8_0, FJ_Q4_0,  FJ_Q4_K,
                                        FJ_Q6_K, FJ_NF4,  FJ_MXFP4, FJ_F16 };
    enum { MAIN = 4 }; /* formats that are measured if none is named */
    const int64_t most = 14336, most_n = 128256;
    fj_dtype wanted = FJ_DTYPES;
    if (argc > 1 && strcmp(argv[1], "all") && !fj_dtype_parse(argv[1], &wanted)) {
        fprintf(stderr, "gpu_skinny: %s is no format\n", argv[1]);
        return 1;
    }
    signal(SIGALRM, on_alarm);
    alarm(40);
    bench b = {};
    b.peak = argc > 3 ? atof(argv[3]) : 4800;
    CHECK(cudaStreamCreateWithFlags(&b.g.stream, cudaStreamNonBlocking));
    CHECK(cudaMalloc(&b.w, SPACE));
    CHECK(cudaMalloc(&b.x, (size_t)(ROWS * most) * 2));
    CHECK(cudaMalloc(&b.y, (size_t)(ROWS * most_n) * 4));
    b.hx = (uint16_t *)malloc((size_t)(ROWS * most) * 2);
    b.hy = (float *)malloc((size_t)(ROWS * most_n) * 4);
    b.all = (float *)calloc((size_t)most_n, 4);
    b.old = (float *)malloc((size_t)(ROWS * most_n) * 4);
#ifdef FJ_HOPPER_DEBUG
    void *log, *there;
    CHECK(cudaHostAlloc(&log, WAITS * 4, cudaHostAllocMapped));
    memset(log, 0, WAITS * 4);
    CHECK(cudaHostGetDevicePointer(&there, log, 0));
    CHECK(cudaMemcpyToSymbol(fj_hopper_log, &there, sizeof there));
    waits = (volatile uint32_t *)log;
#endif
    fj_rng r;
    fj_rng_seed(&r, 1);
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, 0));
    printf("%s, %d multiprocessors; %% of %.0f GB/s\n", p.name, p.multiProcessorCount, b.peak);
    b.g.sms = p.multiProcessorCount;
    b.g.compute = p.major * 10 + p.minor;
    for (size_t f = 0; f < FJ_LEN(formats); f++)
        if (wanted == FJ_DTYPES || wanted == formats[f]) values_of(&b, formats[f]);
    for (int64_t i = 0; i < ROWS * most; i++) b.hx[i] = fj_f32_to_bf16((float)fj_rng_normal(&r));
    CHECK(cudaMemcpy(b.x, b.hx, (size_t)(ROWS * most) * 2, cudaMemcpyHostToDevice));
    for (size_t f = 0; f < FJ_LEN(formats); f++) {
        if (wanted == FJ_DTYPES ? f >= MAIN : wanted != formats[f]) continue;
        for (int s = 0; s < 5; s++)
            measure(&b, formats[f], shapes[s][0], shapes[s][1], argc > 2 ? atoll(argv[2]) : 0);
        measure_many(&b, formats[f], 1);
    }
    return 0;
}
