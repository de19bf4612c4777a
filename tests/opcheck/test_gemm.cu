/* test_gemm.cu - products of kernels/cuda/gemm.cuh against sums in double: on a GPU, or played on the CPU.
 * Sizes that fill tiles and that do not, space between rows, every format of weights, adding to what is
 * there; rows have the same bits whatever the number of rows is. */
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/lt.h"
#include "opcheck/gpu_values.h"

#include <stdio.h>
#include <vector>

typedef std::vector<unsigned char> bytes;

static uint64_t state = 88172645463325252u;
static uint64_t draw() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}
static float uniform() { return (float)(draw() >> 40) * 0x1p-23f - 1; }

static int failures;
static void fail(const char *what, int64_t m, int64_t n, int64_t k, double off) {
    printf("FAILED: %s, %lld x %lld x %lld: off by %.3g\n", what, (long long)m, (long long)n,
           (long long)k, off);
    failures++;
}
static void must(bool ok, const fj_err *e) {
    if (ok) return;
    printf("FAILED: %s\n", e->msg);
    exit(1);
}

/* Memory of the device with a copy of what is in it. */
typedef struct mem {
    void *p;
    size_t n;
} mem;
static mem up(const fj_gpu *g, const void *src, size_t n) {
    mem d = { NULL, n };
    if (cudaMalloc(&d.p, n + 64) != cudaSuccess) exit(1);
    cudaMemcpyAsync(d.p, src, n, cudaMemcpyHostToDevice, g->stream);
    cudaStreamSynchronize(g->stream);
    return d;
}
static bytes down(const fj_gpu *g, mem d) {
    bytes v(d.n);
    cudaMemcpyAsync(v.data(), d.p, d.n, cudaMemcpyDeviceToHost, g->stream);
    if (cudaStreamSynchronize(g->stream) != cudaSuccess) {
        printf("FAILED: %s\n", cudaGetErrorString(cudaGetLastError()));
        exit(1);
    }
    return v;
}

/* A matrix in a format, what its values are, and the device's copy. */
typedef struct mat {
    fj_dtype t;
    int64_t rows, cols, ld;
    bytes raw;
    std::vector<float> v, b; /* [rows, cols]; and what meets BF16 */
    mem d;
} mat;

static float value(const mat &a, size_t i) {
    return a.t == FJ_F32 ? ((const float *)a.raw.data())[i]
                         : fj_bf16_to_f32(((const uint16_t *)a.raw.data())[i]);
}
static float rounded(float f, bool bf16) { return bf16 ? fj_bf16_to_f32(fj_f32_to_bf16(f)) : f; }
static mat make(const fj_gpu *g, fj_dtype t, int64_t rows, int64_t cols, int64_t ld) {
    mat a = { t, rows, cols, ld, {}, {}, {}, {} };
    if (fj_dtype_get(t)->block > 1 || t == FJ_F16) {
        std::vector<float> x((size_t)(rows * cols));
        for (float &f : x) f = uniform();
        a.raw.resize((size_t)fj_dtype_size(t, rows, cols));
        a.v.resize(x.size());
        fj_quant_row(t, x.data(), a.raw.data(), rows * cols);
        fj_dequant_row(t, a.raw.data(), a.v.data(), rows * cols);
        a.b.resize(x.size());
        gv_row(t, a.raw.data(), a.b.data(), rows * cols);
    } else {
        a.raw.resize((size_t)(rows * ld) * (t == FJ_F32 ? 4 : 2));
        for (size_t i = 0; i < (size_t)(rows * ld); i++) {
            float f = uniform();
            if (t == FJ_F32) ((float *)a.raw.data())[i] = f;
            else ((uint16_t *)a.raw.data())[i] = fj_f32_to_bf16(f);
        }
        a.v.resize((size_t)(rows * cols));
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++)
                a.v[(size_t)(r * cols + c)] = value(a, (size_t)(r * ld + c));
    }
    if (a.b.empty())
        for (float f : a.v) a.b.push_back(rounded(f, true));
    a.d = up(g, a.raw.data(), a.raw.size());
    return a;
}
static void drop(mat &a) { cudaFree(a.d.p); }

/* c against (acc ? before : 0) + scale * op(a) op(b); bf16: operands are rounded to it. */
static void compare(const fj_gpu *g, const char *what, fj_gemm_kind kind, const mat &a,
                    const mat &b, const mat &c, float scale, bool acc, bool bf16) {
    int64_t m = c.rows, n = c.cols, k = kind == FJ_TN ? a.rows : a.cols;
    mat now = c;
    now.raw = down(g, c.d);
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0, size = 0;
            for (int64_t l = 0; l < k; l++) {
                double x = (bf16 ? a.b : a.v)[(size_t)(kind == FJ_TN ? l * m + i : i * k + l)];
                double y = (bf16 ? b.b : b.v)[(size_t)(kind == FJ_NT ? j * k + l : l * n + j)];
                s += x * y;
                size += fabs(x * y);
            }
            s = scale * s + (acc ? (double)c.v[(size_t)(i * n + j)] : 0);
            double v = value(now, (size_t)(i * c.ld + j));
            double allowed =
                1e-5 * fabs(scale) * size + 1e-6 + (c.t == FJ_BF16 ? fabs(s) / 256 : 0);
            double off = fabs(v - s) / allowed;
            if (!(off <= worst)) worst = off;
        }
    for (int64_t i = 0; i < m; i++) /* what lies between rows is as it was */
        for (int64_t j = n; j < c.ld; j++)
            if (value(now, (size_t)(i * c.ld + j)) != value(c, (size_t)(i * c.ld + j))) worst = 1e9;
    if (!(worst <= 1)) fail(what, m, n, k, worst);
}

static fj_grows rows_of(const mat &a) { return (fj_grows){ a.t, a.d.p, a.ld }; }
static fj_gmat weight_of(const mat &a) { return (fj_gmat){ a.t, a.d.p, a.rows, a.cols }; }

static void one(const fj_gpu *g, int64_t m, int64_t n, int64_t k, int64_t gap, fj_dtype rows,
                fj_dtype w, fj_dtype out, bool acc) {
    fj_err e = {};
    float scale = acc ? 0.5f : 1;
    bool bf16 = !g->f32 && rows == FJ_BF16;
    mat x = make(g, rows, m, k, k + gap), dy = make(g, rows, m, n, n + gap),
        wt = make(g, w, n, k, k);
    mat y = make(g, out, m, n, n + gap), dx = make(g, out, m, k, k + gap);
    mat dw = make(g, FJ_F32, n, k, k);
    fj_gmat wm = weight_of(wt);
    size_t size = fj_gpu_fwd_scratch(m, &wm, rows, g->f32);
    size = FJ_MAX(size, fj_gpu_dx_scratch(m, &wm, rows, g->f32));
    size = FJ_MAX(size, fj_gpu_dw_scratch(m, n, k, rows, g->f32));
    bytes empty(size, 0xff);
    mem scratch = up(g, empty.data(), size);
    must(fj_gpu_fwd(g, m, rows_of(x), &wm, rows_of(y), scale, acc, scratch.p, &e), &e);
    compare(g, "fwd", FJ_NT, x, wt, y, scale, acc, bf16);
    must(fj_gpu_dx(g, m, rows_of(dy), &wm, rows_of(dx), scale, acc, scratch.p, &e), &e);
    compare(g, "dx", FJ_NN, dy, wt, dx, scale, acc, bf16);
    must(fj_gpu_dw(g, m, rows_of(dy), rows_of(x), (float *)dw.d.p, n, k, scale, acc, scratch.p, &e),
         &e);
    compare(g, "dw", FJ_TN, dy, x, dw, scale, acc, bf16);
    cudaFree(scratch.p);
    drop(x), drop(dy), drop(wt), drop(y), drop(dx), drop(dw);
}

/* Rows [from, from + few) alone have the bits that they have among m, both ways. */
static void same_bits(const fj_gpu *g, int64_t m, int64_t n, int64_t k, fj_dtype w, fj_dtype out) {
    static const int64_t part[][2] = { { 0, 1 },  { 3, 2 },  { 5, 17 },
                                       { 1, 64 }, { 0, 70 }, { 2, 128 } };
    fj_err e = {};
    mat x = make(g, FJ_BF16, m, k, k), dy = make(g, FJ_BF16, m, n, n), wt = make(g, w, n, k, k);
    mat y = make(g, out, m, n, n), dx = make(g, out, m, k, k), y2 = y, dx2 = dx;
    y2.d = up(g, y.raw.data(), y.raw.size());
    dx2.d = up(g, dx.raw.data(), dx.raw.size());
    fj_gmat wm = weight_of(wt);
    size_t size = FJ_MAX(fj_gpu_fwd_scratch(m, &wm, FJ_BF16, false),
                         fj_gpu_dx_scratch(m, &wm, FJ_BF16, false));
    bytes empty(size, 0xff);
    mem scratch = up(g, empty.data(), size);
    must(fj_gpu_fwd(g, m, rows_of(x), &wm, rows_of(y), 1, false, scratch.p, &e), &e);
    must(fj_gpu_dx(g, m, rows_of(dy), &wm, rows_of(dx), 1, false, scratch.p, &e), &e);
    bytes ally = down(g, y.d), alldx = down(g, dx.d);
    size_t unit = out == FJ_F32 ? 4 : 2;
    for (size_t i = 0; i < FJ_LEN(part); i++) {
        int64_t from = part[i][0], few = part[i][1];
        if (from + few > m) continue;
        fj_grows xs = rows_of(x), ds = rows_of(dy);
        xs.data = (char *)xs.data + from * k * 2;
        ds.data = (char *)ds.data + from * n * 2;
        if ((uintptr_t)xs.data % 16 || (uintptr_t)ds.data % 16) continue;
        must(fj_gpu_fwd(g, few, xs, &wm, rows_of(y2), 1, false, scratch.p, &e), &e);
        must(fj_gpu_dx(g, few, ds, &wm, rows_of(dx2), 1, false, scratch.p, &e), &e);
        if (memcmp(down(g, y2.d).data(), ally.data() + (size_t)(from * n) * unit,
                   (size_t)(few * n) * unit))
            fail("fwd: other bits in a smaller batch", few, n, k, 0);
        if (memcmp(down(g, dx2.d).data(), alldx.data() + (size_t)(from * k) * unit,
                   (size_t)(few * k) * unit))
            fail("dx: other bits in a smaller batch", few, n, k, 0);
    }
    cudaFree(scratch.p);
    drop(x), drop(dy), drop(wt), drop(y), drop(dx), drop(y2), drop(dx2);
}

static void unpack(const fj_gpu *g, fj_dtype t) {
    fj_err e = {};
    int64_t block = fj_dtype_get(t)->block, cols = block > 1 ? 3 * block : 37;
    mat w = make(g, t, 67, cols, cols);
    if (t == FJ_MXFP4) { /* every scale */
        for (size_t i = 0; i < 67 * 3; i++)
            w.raw[17 * i] = (unsigned char)(i % 4 ? draw() : i / 4 * 5);
        cudaFree(w.d.p);
        w.d = up(g, w.raw.data(), w.raw.size());
        fj_dequant_row(t, w.raw.data(), w.v.data(), 67 * cols);
        gv_row(t, w.raw.data(), w.b.data(), 67 * cols);
    }
    fj_gmat m = weight_of(w);
    for (fj_dtype to : { FJ_F32, FJ_BF16 }) {
        mat out = make(g, to, 67, cols, cols);
        must(fj_gpu_unpack(g, &m, to, out.d.p, &e), &e);
        out.raw = down(g, out.d);
        for (size_t i = 0; i < w.v.size(); i++)
            if (value(out, i) != (to == FJ_BF16 ? w.b : w.v)[i]) {
                printf("%s, value %zu: %g, not %g\n", fj_dtype_get(t)->name, i, value(out, i),
                       w.v[i]);
                fail("unpack", 67, cols, 0, 1);
                break;
            }
        drop(out);
    }
    drop(w);
}

int main() {
    fj_gpu g = {};
    cudaDeviceProp prop;
    if (cudaGetDeviceProperties(&prop, 0) != cudaSuccess) {
        printf("SKIP: no GPU\n");
        return 0;
    }
    cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking);
    g.sms = prop.multiProcessorCount;
    g.compute = 10 * prop.major + prop.minor;
    g.work_bytes = 32 << 20;
    static const fj_dtype formats[] = { FJ_F32,   FJ_F16,  FJ_BF16, FJ_Q8_0, FJ_Q4_0,
                                        FJ_MXFP4, FJ_Q4_K, FJ_Q6_K, FJ_NF4 };
    for (fj_dtype t : formats) unpack(&g, t);
    /* m, n, k, gap */
    static const int64_t shapes[][4] = {
        { 1, 1, 1, 0 },      { 5, 33, 7, 1 },     { 70, 9, 65, 3 },    { 16, 16, 32, 0 },
        { 128, 128, 32, 0 }, { 130, 136, 40, 8 }, { 64, 264, 160, 0 }, { 200, 24, 72, 2 },
        { 4, 256, 512, 0 },  { 4500, 8, 16, 0 },
#ifndef FJ_PLAY
        { 512, 768, 640, 0 }
#endif
    };
    struct fj_lt *lt = fj_lt_open();
    if (lt && cudaMalloc(&g.work, g.work_bytes) != cudaSuccess) return 1;
    for (int with = 0; with <= (lt ? 1 : 0); with++) {
        g.lt = with ? lt : NULL;
        printf("%s, %s cuBLASLt\n", prop.name, with ? "with" : "without");
        for (const auto &s : shapes) {
            for (int acc = 0; acc < 2; acc++) {
                one(&g, s[0], s[1], s[2], s[3], FJ_BF16, FJ_BF16, FJ_BF16, acc);
                one(&g, s[0], s[1], s[2], s[3], FJ_BF16, FJ_F32, FJ_F32, acc);
                one(&g, s[0], s[1], s[2], s[3], FJ_F32, FJ_BF16, FJ_F32, acc);
            }
            for (fj_dtype t : formats)
                if (s[2] % FJ_MAX(32, fj_dtype_get(t)->block) == 0 && s[0] < 1000)
                    one(&g, s[0], s[1], s[2], s[3], FJ_BF16, t, FJ_BF16, false);
        }
        g.f32 = true;
        one(&g, 70, 20, 64, 3, FJ_BF16, FJ_Q8_0, FJ_F32, false);
        one(&g, 70, 20, 64, 3, FJ_F32, FJ_Q4_0, FJ_F32, true);
        g.f32 = false;
        same_bits(&g, 130, 136, 96, FJ_BF16, FJ_BF16);
        same_bits(&g, 130, 40, 64, FJ_Q8_0, FJ_F32);
        same_bits(&g, 130, 40, 512, FJ_Q4_K, FJ_F32);
        same_bits(&g, 130, 40, 256, FJ_Q6_K, FJ_BF16);
        same_bits(&g, 130, 40, 192, FJ_NF4, FJ_F32);
#ifndef FJ_PLAY
        for (fj_dtype t : formats)
            for (fj_dtype out : { FJ_BF16, FJ_F32 }) {
                same_bits(&g, 3000, 1024, 2048, t, out);
                same_bits(&g, 1000, 4096, 512, t, out);
            }
#endif
    }
    fj_lt_close(lt);
    printf(failures ? "%d failures\n" : "all as they should be\n", failures);
    return failures != 0;
}
