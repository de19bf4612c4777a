/* test_gemm.cu - products of kernels/cuda/gemm.cuh against sums in double: on a GPU, or played on the CPU.
 * Sizes that fill tiles and that do not, space between rows, every format of weights, adding to what is
 * there or lies elsewhere, with an adapter and without; rows have the same bits whatever the number of rows is. */
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

/* c against old + scale * op(a) op(b), of two pairs when a2 is not NULL; bf16: operands are rounded to it. */
static void compare(const fj_gpu *g, const char *what, fj_gemm_kind kind, const mat &a,
                    const mat &b, const mat *a2, const mat *b2, const mat &c, const mat *old,
                    float scale, bool bf16) {
    const mat *pair[2][2] = { { &a, &b }, { a2, b2 } };
    int64_t m = c.rows, n = c.cols, k = kind == FJ_TN ? a.rows : a.cols;
    mat now = c;
    now.raw = down(g, c.d);
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0, size = 0, first = 0;
            for (int p = 0; p < (a2 ? 2 : 1); p++) {
                const mat *u = pair[p][0], *v = pair[p][1];
                int64_t deep = kind == FJ_TN ? u->rows : u->cols;
                /* Of an adapter's weight before it is rounded; forward, of the product. */
                float times = p && kind == FJ_NN ? scale : 1, by = p && kind == FJ_NT ? scale : 1;
                for (int64_t l = 0; l < deep; l++) {
                    size_t iu = (size_t)(kind == FJ_TN ? l * m + i : i * deep + l);
                    size_t iv = (size_t)(kind == FJ_NT ? j * deep + l : l * n + j);
                    double x = (bf16 ? u->b : u->v)[iu];
                    double y =
                        times == 1 ? (bf16 ? v->b : v->v)[iv] : rounded(times * v->v[iv], bf16);
                    s += by * x * y;
                    size += fabs(by * x * y);
                }
                if (!p) first = s + (old ? (double)old->v[(size_t)(i * n + j)] : 0);
            }
            float all = a2 ? 1 : scale;
            s = all * s + (old ? (double)old->v[(size_t)(i * n + j)] : 0);
            double v = value(now, (size_t)(i * c.ld + j));
            double allowed = 1e-5 * fabs(all) * size + 1e-6 + (c.t == FJ_BF16 ? fabs(s) / 256 : 0);
            if (a2 && kind == FJ_NT && c.t == FJ_BF16)
                allowed += fabs(first) / 256; /* rounded, too */
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

/* What results are added to. */
enum { NOTHING, THERE, ELSEWHERE };

static void one(const fj_gpu *g, int64_t m, int64_t n, int64_t k, int64_t gap, fj_dtype rows,
                fj_dtype w, fj_dtype out, int add) {
    fj_err e = {};
    float scale = add ? 0.5f : 1;
    bool bf16 = !g->f32 && rows == FJ_BF16;
    mat x = make(g, rows, m, k, k + gap), dy = make(g, rows, m, n, n + gap),
        wt = make(g, w, n, k, k);
    mat y = make(g, out, m, n, n + gap), dx = make(g, out, m, k, k + gap);
    mat y0 = make(g, out, m, n, n + 2 * gap), dx0 = make(g, out, m, k, k + 2 * gap);
    mat dw = make(g, FJ_F32, n, k, k);
    const mat *oldy = add == NOTHING ? NULL : add == THERE ? &y : &y0;
    const mat *oldx = add == NOTHING ? NULL : add == THERE ? &dx : &dx0;
    fj_grows gy = oldy ? rows_of(*oldy) : fj_grows{}, gx = oldx ? rows_of(*oldx) : fj_grows{};
    fj_gmat wm = weight_of(wt);
    size_t size = fj_gpu_fwd_scratch(m, &wm, rows, g->f32);
    size = FJ_MAX(size, fj_gpu_dx_scratch(m, &wm, rows, g->f32));
    size = FJ_MAX(size, fj_gpu_dw_scratch(m, n, k, rows, g->f32));
    bytes empty(size, 0xff);
    mem scratch = up(g, empty.data(), size);
    must(fj_gpu_fwd(g, m, rows_of(x), &wm, rows_of(y), scale, oldy ? &gy : NULL, scratch.p, &e),
         &e);
    compare(g, "fwd", FJ_NT, x, wt, NULL, NULL, y, oldy, scale, bf16);
    must(fj_gpu_dx(g, m, rows_of(dy), &wm, rows_of(dx), scale, oldx ? &gx : NULL, scratch.p, &e),
         &e);
    compare(g, "dx", FJ_NN, dy, wt, NULL, NULL, dx, oldx, scale, bf16);
    must(fj_gpu_dw(g, m, rows_of(dy), rows_of(x), (float *)dw.d.p, n, k, scale, add != NOTHING,
                   scratch.p, &e),
         &e);
    compare(g, "dw", FJ_TN, dy, x, NULL, NULL, dw, add ? &dw : NULL, scale, bf16);
    cudaFree(scratch.p);
    drop(x), drop(dy), drop(wt), drop(y), drop(dx), drop(y0), drop(dx0), drop(dw);
}

/* With an adapter of rank r, in format t. */
static void with_adapter(const fj_gpu *g, int64_t m, int64_t n, int64_t k, int64_t r, int64_t gap,
                         fj_dtype rows, fj_dtype w, fj_dtype ad, int add) {
    fj_err e = {};
    float scale = 1.7f;
    bool bf16 = !g->f32 && rows == FJ_BF16;
    mat x = make(g, rows, m, k, k + gap), dy = make(g, rows, m, n, n + gap),
        wt = make(g, w, n, k, k), t = make(g, rows, m, r, r + gap), b = make(g, ad, n, r, r),
        a = make(g, ad, r, k, k);
    mat y = make(g, rows, m, n, n + gap), dx = make(g, rows, m, k, k + gap);
    mat y0 = make(g, rows, m, n, n), dx0 = make(g, rows, m, k, k);
    const mat *oldy = add == NOTHING ? NULL : add == THERE ? &y : &y0;
    const mat *oldx = add == NOTHING ? NULL : add == THERE ? &dx : &dx0;
    fj_grows gy = oldy ? rows_of(*oldy) : fj_grows{}, gx = oldx ? rows_of(*oldx) : fj_grows{};
    fj_gmat wm = weight_of(wt), bm = weight_of(b), am = weight_of(a);
    size_t size = FJ_MAX(fj_gpu_fwd2_scratch(m, &wm, &bm, rows, g->f32),
                         fj_gpu_dx2_scratch(m, &wm, &am, rows, g->f32));
    bytes empty(size, 0xff);
    mem scratch = up(g, empty.data(), size);
    must(fj_gpu_fwd2(g, m, rows_of(x), &wm, rows_of(t), &bm, scale, rows_of(y), oldy ? &gy : NULL,
                     scratch.p, &e),
         &e);
    compare(g, "fwd2", FJ_NT, x, wt, &t, &b, y, oldy, scale, bf16);
    must(fj_gpu_dx2(g, m, rows_of(dy), &wm, rows_of(t), &am, scale, rows_of(dx), oldx ? &gx : NULL,
                    scratch.p, &e),
         &e);
    compare(g, "dx2", FJ_NN, dy, wt, &t, &a, dx, oldx, scale, bf16);
    cudaFree(scratch.p);
    drop(x), drop(dy), drop(wt), drop(t), drop(b), drop(a);
    drop(y), drop(dx), drop(y0), drop(dx0);
}

/* Rows [from, from + few) alone have the bits that they have among m, both ways; r: with an adapter. */
static void same_bits(const fj_gpu *g, int64_t m, int64_t n, int64_t k, int64_t r, fj_dtype w,
                      fj_dtype out) {
    static const int64_t part[][2] = { { 0, 0 },  { 0, 1 },  { 3, 2 },  { 5, 17 },
                                       { 1, 64 }, { 0, 70 }, { 2, 128 } };
    fj_err e = {};
    mat x = make(g, FJ_BF16, m, k, k), dy = make(g, FJ_BF16, m, n, n), wt = make(g, w, n, k, k);
    mat t = make(g, FJ_BF16, m, r, r), b = make(g, FJ_F32, n, r, r), a = make(g, FJ_F32, r, k, k);
    mat y = make(g, out, m, n, n), dx = make(g, out, m, k, k);
    fj_gmat wm = weight_of(wt), bm = weight_of(b), am = weight_of(a);
    size_t size = FJ_MAX(fj_gpu_fwd2_scratch(m, &wm, &bm, FJ_BF16, false),
                         fj_gpu_dx2_scratch(m, &wm, &am, FJ_BF16, false));
    bytes empty(size, 0xff), ally, alldx;
    mem scratch = up(g, empty.data(), size);
    size_t unit = out == FJ_F32 ? 4 : 2;
    for (size_t i = 0; i < FJ_LEN(part); i++) {
        int64_t from = part[i][0], few = i ? part[i][1] : m;
        if (from + few > m) continue;
        fj_grows xs = rows_of(x), ds = rows_of(dy), ts = rows_of(t);
        xs.data = (char *)xs.data + from * k * 2;
        ds.data = (char *)ds.data + from * n * 2;
        ts.data = (char *)ts.data + from * r * 2;
        if (((uintptr_t)xs.data | (uintptr_t)ds.data | (uintptr_t)ts.data) % 16) continue;
        must(r ? fj_gpu_fwd2(g, few, xs, &wm, ts, &bm, 0.3f, rows_of(y), NULL, scratch.p, &e)
               : fj_gpu_fwd(g, few, xs, &wm, rows_of(y), 1, NULL, scratch.p, &e),
             &e);
        must(r ? fj_gpu_dx2(g, few, ds, &wm, ts, &am, 0.3f, rows_of(dx), NULL, scratch.p, &e)
               : fj_gpu_dx(g, few, ds, &wm, rows_of(dx), 1, NULL, scratch.p, &e),
             &e);
        bytes nowy = down(g, y.d), nowdx = down(g, dx.d);
        if (!i) ally = nowy, alldx = nowdx;
        if (memcmp(nowy.data(), ally.data() + (size_t)(from * n) * unit, (size_t)(few * n) * unit))
            fail("fwd: other bits in a smaller batch", few, n, k, 0);
        if (memcmp(nowdx.data(), alldx.data() + (size_t)(from * k) * unit,
                   (size_t)(few * k) * unit))
            fail("dx: other bits in a smaller batch", few, n, k, 0);
    }
    cudaFree(scratch.p);
    drop(x), drop(dy), drop(wt), drop(t), drop(b), drop(a), drop(y), drop(dx);
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
        { 4, 256, 512, 0 },  { 4500, 8, 16, 0 },  { 4100, 24, 8, 0 },
#ifndef FJ_PLAY
        { 512, 768, 640, 0 }
#endif
    };
    struct fj_lt *lt = fj_lt_open();
    if (lt && cudaMalloc(&g.work, g.work_bytes) != cudaSuccess) return 1;
        /* Twice: on a GPU with cuBLASLt too, played as another one too. */
#ifdef FJ_PLAY
    const int other = 90;
#else
    const int other = lt ? g.compute : 0;
#endif
    for (int twice = 0; twice < (other ? 2 : 1); twice++) {
        g.lt = twice ? lt : NULL;
        if (twice) g.compute = other;
        printf("%s, compute %d, %s cuBLASLt\n", prop.name, g.compute, g.lt ? "with" : "without");
        for (const auto &s : shapes) {
            for (int add = 0; add < 3; add++) {
                one(&g, s[0], s[1], s[2], s[3], FJ_BF16, FJ_BF16, FJ_BF16, add);
                one(&g, s[0], s[1], s[2], s[3], FJ_BF16, FJ_F32, FJ_F32, add);
                one(&g, s[0], s[1], s[2], s[3], FJ_F32, FJ_BF16, FJ_F32, add);
            }
            for (fj_dtype t : formats)
                if (s[2] % FJ_MAX(32, fj_dtype_get(t)->block) == 0 && s[0] < 1000)
                    one(&g, s[0], s[1], s[2], s[3], FJ_BF16, t, FJ_BF16, NOTHING);
        }
        g.f32 = true;
        one(&g, 70, 20, 64, 3, FJ_BF16, FJ_Q8_0, FJ_F32, NOTHING);
        one(&g, 70, 20, 64, 3, FJ_F32, FJ_Q4_0, FJ_F32, THERE);
        with_adapter(&g, 70, 20, 64, 3, 3, FJ_BF16, FJ_Q8_0, FJ_F32, NOTHING);
        g.f32 = false;
        same_bits(&g, 130, 40, 512, 8, FJ_Q4_K, FJ_F32);
        same_bits(&g, 130, 40, 256, 0, FJ_Q6_K, FJ_BF16);
        same_bits(&g, 130, 40, 192, 0, FJ_NF4, FJ_F32);
        /* m, n, k, rank, gap */
        static const int64_t adapted[][5] = { { 1, 40, 64, 8, 0 },     { 7, 33, 39, 3, 1 },
                                              { 16, 264, 96, 16, 0 },  { 30, 24, 160, 40, 8 },
                                              { 64, 136, 264, 64, 0 }, { 70, 130, 65, 9, 3 },
                                              { 150, 136, 72, 24, 8 }, { 65, 24, 32, 256, 0 } };
        for (const auto &s : adapted)
            for (int add = 0; add < 3; add++) {
                with_adapter(&g, s[0], s[1], s[2], s[3], s[4], FJ_BF16, FJ_BF16, FJ_F32, add);
                with_adapter(&g, s[0], s[1], s[2], s[3], s[4], FJ_BF16, FJ_F32, FJ_BF16, add);
                with_adapter(&g, s[0], s[1], s[2], s[3], s[4], FJ_F32, FJ_BF16, FJ_F32, add);
            }
        for (int64_t rank : { 0, 8, 24, 64 }) {
            same_bits(&g, 130, 136, 96, rank, FJ_BF16, FJ_BF16);
            same_bits(&g, 130, 40, 64, rank, FJ_Q8_0, FJ_F32);
        }
#ifndef FJ_PLAY
        for (fj_dtype t : formats)
            for (fj_dtype out : { FJ_BF16, FJ_F32 }) {
                same_bits(&g, 3000, 1024, 2048, 0, t, out);
                same_bits(&g, 1000, 4096, 512, 0, t, out);
                same_bits(&g, 1000, 1024, 2048, 16, t, out);
            }
#endif
    }
    fj_lt_close(lt);
    printf(failures ? "%d failures\n" : "all as they should be\n", failures);
    return failures != 0;
}
