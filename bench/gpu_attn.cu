/* gpu_attn.cu - attention on a GPU, alone: a few rows against double on the CPU, and how fast it is.
 *
 *     nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -DFORJA_CUDA -Iinclude -Isrc \
 *         bench/gpu_attn.cu src/kernels/cuda/attn_*.cu -o gpu_attn && ./gpu_attn [rows [head]]
 *
 * Floating point operations are 4 n^2/2 heads head forward and 2.5 times that backward. */
#include "kernels/cuda/attn.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

extern "C" bool fj_fail(fj_err *e, fj_code code, const char *fmt, ...) {
    va_list a;
    va_start(a, fmt);
    e->code = code;
    vsnprintf(e->msg, sizeof e->msg, fmt, a);
    va_end(a);
    return false;
}

static void must(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "gpu_attn: %s\n", what);
    exit(1);
}
static void fine(cudaError_t c) { must(c == cudaSuccess, cudaGetErrorString(c)); }

static float value(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

typedef std::vector<uint16_t> halves;

static uint64_t seed = 88172645463325252u;
static float noise(void) { /* a sum of four uniform numbers, variance 1 */
    float s = 0;
    for (int i = 0; i < 4; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        s += (float)(seed >> 40) / (1 << 24) - 0.5f;
    }
    return s * 1.7320508f;
}
static void *up(const void *host, size_t bytes) {
    void *p;
    fine(cudaMalloc(&p, bytes));
    if (host) fine(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}
static void *draw(halves &h, size_t n) {
    h.resize(n);
    for (size_t i = 0; i < n; i++) {
        float f = noise();
        uint32_t u;
        memcpy(&u, &f, 4);
        h[i] = (uint16_t)(u >> 16);
    }
    return up(h.data(), 2 * n);
}
static halves down(const void *p, size_t n) {
    halves h(n);
    fine(cudaMemcpy(h.data(), p, 2 * n, cudaMemcpyDeviceToHost));
    return h;
}

typedef struct host_data {
    halves q, k, v, dy;
} host_data;

static const uint16_t *head(const halves &x, int64_t row, int heads, int h, int hd) {
    return x.data() + (row * heads + h) * hd;
}
static double dot(const uint16_t *a, const uint16_t *b, int n) {
    double s = 0;
    for (int i = 0; i < n; i++) s += (double)value(a[i]) * (double)value(b[i]);
    return s;
}

/* Of row r (position r) and head h: the weights of the keys, and y. */
static std::vector<double> weights(const fj_gpu_attn &a, const host_data &x, int64_t r, int h,
                                   std::vector<double> *y) {
    std::vector<double> p((size_t)r + 1);
    double max = -1e300, sum = 0;
    for (int64_t j = 0; j <= r; j++) {
        p[j] = (double)a.scale * dot(head(x.q, r, a.heads, h, a.hd),
                                     head(x.k, j, a.kv_heads, h / a.group, a.hd), a.hd);
        max = fmax(max, p[j]);
    }
    for (double &w : p) sum += w = exp(w - max);
    y->assign((size_t)a.hd, 0);
    for (int64_t j = 0; j <= r; j++) {
        p[j] /= sum;
        const uint16_t *v = head(x.v, j, a.kv_heads, h / a.group, a.hd);
        for (int c = 0; c < a.hd; c++) (*y)[c] += p[j] * (double)value(v[c]);
    }
    return p;
}

/* The largest difference relative to the largest value. */
static double off(const std::vector<double> &want, const uint16_t *got) {
    double big = 1e-30, d = 0;
    for (size_t c = 0; c < want.size(); c++) {
        big = fmax(big, fabs(want[c]));
        double diff = fabs(want[c] - (double)value(got[c]));
        if (!(diff <= d)) d = diff;
    }
    return d / big;
}

static void check(const fj_gpu_attn &a, const host_data &x) {
    size_t all = (size_t)(a.n * a.heads * a.hd), kv = (size_t)(a.n * a.kv_heads * a.hd);
    halves y = down(a.y, all), dq = down(a.dq, all), dk = down(a.dk, kv), dv = down(a.dv, kv);
    const int64_t rows[] = { 0, 1, 63, 64, 200, a.n / 2 + 5, a.n - 1 };
    double worst[4] = { 0 };
    for (int64_t r : rows) {
        if (r >= a.n) continue;
        for (int h = 0; h < a.heads; h += a.heads - 1) {
            std::vector<double> want, p = weights(a, x, r, h, &want), g((size_t)a.hd, 0);
            worst[0] = fmax(worst[0], off(want, head(y, r, a.heads, h, a.hd)));
            const uint16_t *dy = head(x.dy, r, a.heads, h, a.hd);
            double big_d = 0;
            for (int c = 0; c < a.hd; c++) big_d += want[c] * (double)value(dy[c]);
            for (int64_t j = 0; j <= r; j++) {
                double ds = p[j] *
                            (dot(dy, head(x.v, j, a.kv_heads, h / a.group, a.hd), a.hd) - big_d) *
                            (double)a.scale;
                const uint16_t *k = head(x.k, j, a.kv_heads, h / a.group, a.hd);
                for (int c = 0; c < a.hd; c++) g[c] += ds * (double)value(k[c]);
            }
            if (r) worst[1] = fmax(worst[1], off(g, head(dq, r, a.heads, h, a.hd)));
        }
    }
    /* Keys near the end, which few rows see. */
    for (int64_t j = a.n - 70; j < a.n; j += 23) {
        std::vector<double> gk((size_t)a.hd, 0), gv((size_t)a.hd, 0), want;
        for (int64_t r = j; r < a.n; r++)
            for (int h = 0; h < a.group; h++) {
                std::vector<double> p = weights(a, x, r, h, &want);
                const uint16_t *dy = head(x.dy, r, a.heads, h, a.hd);
                const uint16_t *q = head(x.q, r, a.heads, h, a.hd);
                double big_d = 0;
                for (int c = 0; c < a.hd; c++) big_d += want[c] * (double)value(dy[c]);
                double ds = p[j] * (dot(dy, head(x.v, j, a.kv_heads, 0, a.hd), a.hd) - big_d) *
                            (double)a.scale;
                for (int c = 0; c < a.hd; c++) {
                    gk[c] += ds * (double)value(q[c]);
                    gv[c] += p[j] * (double)value(dy[c]);
                }
            }
        worst[2] = fmax(worst[2], off(gk, head(dk, j, a.kv_heads, 0, a.hd)));
        worst[3] = fmax(worst[3], off(gv, head(dv, j, a.kv_heads, 0, a.hd)));
    }
    printf("off by: y %.1e  dq %.1e  dk %.1e  dv %.1e (2e-2 is fine)\n", worst[0], worst[1],
           worst[2], worst[3]);
}

/* Seconds of one run. */
template <typename F> static double seconds(cudaStream_t s, int times, F run) {
    cudaEvent_t from, to;
    fine(cudaEventCreate(&from));
    fine(cudaEventCreate(&to));
    for (int i = 0; i < 2; i++) run();
    fine(cudaEventRecord(from, s));
    for (int i = 0; i < times; i++) run();
    fine(cudaEventRecord(to, s));
    fine(cudaEventSynchronize(to));
    float ms;
    fine(cudaEventElapsedTime(&ms, from, to));
    return (double)ms / 1e3 / times;
}

/* One query for each of `many` sequences over `len` keys. */
static void decode(const fj_gpu *g, fj_gpu_attn a, int many, int len) {
    int of = (len + 31) / 32;
    std::vector<int32_t> seqs, blocks;
    for (int s = 0; s < many; s++) {
        for (int32_t w : { s, 1, len - 1, s * of }) seqs.push_back(w);
        for (int b = 0; b < of; b++) blocks.push_back((s * of + of - 1 - b) * 32);
    }
    halves h;
    size_t values = (size_t)many * of * 32 * a.kv_heads * a.hd;
    a.n = a.n_seqs = many, a.n_blocks = many * of, a.slots = 32 * a.n_blocks;
    a.seqs = (int32_t *)up(seqs.data(), seqs.size() * 4);
    a.blocks = (int32_t *)up(blocks.data(), blocks.size() * 4);
    a.k = up(NULL, 2 * values), a.v = up(NULL, 2 * values);
    fine(cudaMemset((void *)a.k, 0, 2 * values));
    fine(cudaMemset((void *)a.v, 0, 2 * values));
    a.scratch = up(NULL, fj_gpu_attn_fwd_scratch(&a) + 16);
    fj_err e;
    double t = seconds(g->stream, 20, [&]() { must(fj_gpu_attn_fwd(g, &a, &e), e.msg); });
    printf("decode %3d x %6d keys: %7.1f us, %5.0f GB/s\n", many, len, t * 1e6,
           4e-9 * (double)many * len * a.kv_heads * a.hd / t);
    for (const void *p :
         { (const void *)a.seqs, (const void *)a.blocks, a.k, a.v, (const void *)a.scratch })
        fine(cudaFree((void *)p));
}

int main(int argc, char **argv) {
    int64_t n = argc > 1 ? atoll(argv[1]) : 8192;
    int hd = argc > 2 ? atoi(argv[2]) : 128;
    fj_gpu g = {};
    cudaDeviceProp prop;
    fine(cudaGetDeviceProperties(&prop, 0));
    g.sms = prop.multiProcessorCount, g.compute = 10 * prop.major + prop.minor;
    fine(cudaStreamCreate(&g.stream));
    fj_gpu_attn a = {};
    a.heads = 32, a.kv_heads = 8, a.group = 4, a.hd = hd, a.n = a.slots = n, a.n_seqs = 1;
    a.scale = (float)(1 / sqrt((double)hd));
    host_data x;
    size_t all = (size_t)(n * a.heads * hd), kv = (size_t)(n * a.kv_heads * hd);
    a.q = draw(x.q, all), a.k = draw(x.k, kv), a.v = draw(x.v, kv), a.dy = draw(x.dy, all);
    std::vector<int32_t> seqs = { 0, (int32_t)n, 0, 0 }, blocks;
    for (int64_t b = 0; b < n; b += 32) blocks.push_back((int32_t)b);
    a.n_blocks = (int64_t)blocks.size();
    a.seqs = (int32_t *)up(seqs.data(), 16),
    a.blocks = (int32_t *)up(blocks.data(), 4 * blocks.size());
    a.y = up(NULL, 2 * all), a.lse = (float *)up(NULL, (size_t)(n * a.heads) * 4);
    a.dq = up(NULL, 2 * all), a.dk = up(NULL, 2 * kv), a.dv = up(NULL, 2 * kv);
    size_t f = fj_gpu_attn_fwd_scratch(&a), b = fj_gpu_attn_bwd_scratch(&a);
    a.scratch = up(NULL, f > b ? f : b);
    must(fj_gpu_attn_takes(&g, &a) && fj_gpu_attn_bwd_takes(&g, &a), "not for tensor cores");
    printf("%s: %lld rows, %d heads of %d over %d\n", prop.name, (long long)n, a.heads, hd,
           a.kv_heads);
    fj_err e;
    auto forward = [&]() { must(fj_gpu_attn_fwd(&g, &a, &e), e.msg); };
    auto backward = [&]() { must(fj_gpu_attn_bwd(&g, &a, &e), e.msg); };
    forward();
    backward();
    fine(cudaStreamSynchronize(g.stream));
    check(a, x);
    double flops = 2.0 * (double)n * (double)n * a.heads * hd;
    double t = seconds(g.stream, 10, forward);
    printf("forward:  %8.3f ms, %6.1f TFLOP/s\n", t * 1e3, flops / t / 1e12);
    t = seconds(g.stream, 10, backward);
    printf("backward: %8.3f ms, %6.1f TFLOP/s\n", t * 1e3, 2.5 * flops / t / 1e12);
    for (int many : { 1, 8, 64 }) decode(&g, a, many, 8192);
    decode(&g, a, 1, 65536);
    fine(cudaDeviceSynchronize());
    return 0;
}
