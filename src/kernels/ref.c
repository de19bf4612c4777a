/* ref.c - every kernel in plain C, written to be read.  Compiled twice: float is the fallback, double
 * the oracle of the tests.  Sums are kept in double in both. */
#include "kernels/real.h"

#include "base/dtype.h"

#include <math.h>
#include <string.h>

#ifdef FJ_F64
#define EXP exp
#define SQRT sqrt
#define TANH tanh
#define FMA fma
#else
#define EXP expf
#define SQRT sqrtf
#define TANH tanhf
#define FMA fmaf
#endif

static void add(real *y, const real *a, const real *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void axpy(real *y, const real *x, real s, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = FMA(s, x[i], y[i]);
}

static void scale(real *y, const real *x, real s, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = s * x[i];
}

static void mul(real *y, const real *a, const real *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static real dot(const real *a, const real *b, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)a[i] * (double)b[i];
    return (real)s;
}

static double sumsq(const real *x, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
    return s;
}

static real inv_rms(const real *x, int64_t n, real eps) {
    return (real)(1 / sqrt(sumsq(x, n) / (double)n + (double)eps));
}

static void rmsnorm(real *y, const real *x, const real *w, int64_t n, real eps) {
    real r = inv_rms(x, n, eps);
    for (int64_t i = 0; i < n; i++) y[i] = w[i] * (x[i] * r);
}

static void rmsnorm_dx(real *dx, const real *x, const real *w, const real *dy, int64_t n,
                       real eps) {
    real r = inv_rms(x, n, eps);
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * (double)w[i] * (double)dy[i];
    real c = (real)(s * r * r * r / (double)n);
    for (int64_t i = 0; i < n; i++) dx[i] = r * (w[i] * dy[i]) - x[i] * c;
}

static void rmsnorm_dw(real *dw, const real *x, const real *dy, int64_t n, real eps) {
    real r = inv_rms(x, n, eps);
    for (int64_t i = 0; i < n; i++) dw[i] += dy[i] * (x[i] * r);
}

static void swiglu(real *h, const real *g, const real *u, int64_t n) {
    for (int64_t i = 0; i < n; i++) h[i] = g[i] / (1 + EXP(-g[i])) * u[i];
}

static void swiglu_bwd(real *dg, real *du, const real *g, const real *u, const real *dh,
                       int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real gi = g[i], ui = u[i], d = dh[i], s = 1 / (1 + EXP(-gi));
        dg[i] = d * ui * (s * (1 + gi * (1 - s)));
        du[i] = d * (gi * s);
    }
}

/* sigmoid(2z) of gelu and the derivative of 2z. */
static real gelu_gate(real x, real *slope) {
    const real a = (real)1.5957691216057308, b = (real)(1.5957691216057308 * 0.044715);
    *slope = a + 3 * b * x * x;
    return 1 / (1 + EXP(-x * (a + b * x * x)));
}

static void gelu(real *y, const real *x, int64_t n) {
    real slope;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * gelu_gate(x[i], &slope);
}

static void gelu_bwd(real *dx, const real *x, const real *dy, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real slope, s = gelu_gate(x[i], &slope);
        dx[i] = dy[i] * (s * (1 + x[i] * (1 - s) * slope));
    }
}

static void geglu(real *h, const real *g, const real *u, int64_t n) {
    real slope;
    for (int64_t i = 0; i < n; i++) h[i] = g[i] * gelu_gate(g[i], &slope) * u[i];
}

static void geglu_bwd(real *dg, real *du, const real *g, const real *u, const real *dh, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real gi = g[i], ui = u[i], d = dh[i], slope, s = gelu_gate(gi, &slope);
        dg[i] = d * ui * (s * (1 + gi * (1 - s) * slope));
        du[i] = d * (gi * s);
    }
}

static real clamp(real x, real low, real high) { return x < low ? low : x > high ? high : x; }

static void glu_oai(real *h, const real *g, const real *u, int64_t n, real alpha, real limit) {
    for (int64_t i = 0; i < n; i++) {
        real c = g[i] > limit ? limit : g[i], v = clamp(u[i], -limit, limit);
        h[i] = (v + 1) * (c / (1 + EXP(-alpha * c)));
    }
}

static void glu_oai_bwd(real *dg, real *du, const real *g, const real *u, const real *dh, int64_t n,
                        real alpha, real limit) {
    for (int64_t i = 0; i < n; i++) {
        real c = g[i] > limit ? limit : g[i], v = clamp(u[i], -limit, limit), d = dh[i];
        real s = 1 / (1 + EXP(-alpha * c));
        bool g_in = g[i] <= limit, u_in = u[i] >= -limit && u[i] <= limit;
        dg[i] = g_in ? d * (v + 1) * (s * (1 + alpha * c * (1 - s))) : 0;
        du[i] = u_in ? d * (c * s) : 0;
    }
}

static void softcap(real *y, const real *x, real cap, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = cap * TANH(x[i] / cap);
}

static void softcap_bwd(real *dx, const real *y, const real *dy, real cap, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real t = y[i] / cap;
        dx[i] = dy[i] * (1 - t * t);
    }
}

/* Mean of a row and 1 / sqrt(variance + eps). */
static real center(const real *x, int64_t n, real eps, real *mean) {
    double s = 0, v = 0;
    for (int64_t i = 0; i < n; i++) s += (double)x[i];
    s /= (double)n;
    for (int64_t i = 0; i < n; i++) v += ((double)x[i] - s) * ((double)x[i] - s);
    *mean = (real)s;
    return (real)(1 / sqrt(v / (double)n + (double)eps));
}

static void layernorm(real *y, const real *x, const real *w, const real *b, int64_t n, real eps) {
    real m, r = center(x, n, eps, &m);
    for (int64_t i = 0; i < n; i++) y[i] = w[i] * ((x[i] - m) * r) + (b ? b[i] : 0);
}

static void layernorm_dx(real *dx, const real *x, const real *w, const real *dy, int64_t n,
                         real eps) {
    real m, r = center(x, n, eps, &m);
    double s = 0, c = 0;
    for (int64_t i = 0; i < n; i++) {
        real g = w[i] * dy[i];
        s += (double)g;
        c += (double)(g * ((x[i] - m) * r));
    }
    real sn = (real)(s / (double)n), cn = (real)(c / (double)n);
    for (int64_t i = 0; i < n; i++) dx[i] = r * (w[i] * dy[i] - sn - (x[i] - m) * r * cn);
}

static void layernorm_dw(real *dw, const real *x, const real *dy, int64_t n, real eps) {
    real m, r = center(x, n, eps, &m);
    for (int64_t i = 0; i < n; i++) dw[i] += dy[i] * ((x[i] - m) * r);
}

static void rope(real *y, const real *x, const real *cs, const real *sn, int64_t hd, real sign) {
    int64_t h = hd / 2;
    for (int64_t i = 0; i < h; i++) {
        real a = x[i], b = x[i + h], s = sn[i] * sign;
        y[i] = a * cs[i] - b * s;
        y[i + h] = b * cs[i] + a * s;
    }
}

static void vexp(real *y, const real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = EXP(x[i]);
}

static real vmax(const real *x, int64_t n) {
    real m = x[0];
    for (int64_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static double exp_sum(real *y, const real *x, real max, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += y[i] = EXP(x[i] - max);
    return s;
}

static double logsumexp(const real *x, int64_t n) {
    real m = vmax(x, n);
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += EXP(x[i] - m);
    return log(s) + (double)m;
}

static double softmax_ce(real *row, int64_t n, int64_t target, real w) {
    real m = vmax(row, n), xt = row[target];
    double s = exp_sum(row, row, m, n);
    real c = (real)((double)w / s);
    for (int64_t i = 0; i < n; i++) row[i] *= c;
    row[target] -= w;
    return log(s) + (double)m - (double)xt;
}

static void adamw(real *p, real *m, real *v, const real *g, int64_t n, const fj_adamw *h) {
    const real decay = (real)(1 - h->lr * h->wd), c1 = (real)(1 - h->beta1), b2 = (real)h->beta2,
               c2 = (real)(1 - h->beta2), ib2 = (real)(1 / sqrt(h->bc2)), eps = (real)h->eps,
               step = (real)(h->lr / h->bc1), gs = (real)h->gscale;
    for (int64_t i = 0; i < n; i++) {
        real gi = g[i] * gs;
        m[i] += c1 * (gi - m[i]);
        v[i] = b2 * v[i] + c2 * (gi * gi);
        p[i] = p[i] * decay - step * (m[i] / (SQRT(v[i]) * ib2 + eps));
    }
}

static void transpose(real *dst, int64_t ldd, const real *src, int64_t lds, int64_t rows,
                      int64_t cols) {
    for (int64_t c = 0; c < cols; c++)
        for (int64_t r = 0; r < rows; r++)
            memcpy(&dst[c * ldd + r], &src[r * lds + c], sizeof(real));
}

static void gemm(real *t, int64_t ldt, const real *a, int64_t ars, int64_t acs, const real *b,
                 int64_t ldb, int64_t k, int mr, int np, bool first) {
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 16 * np; c++) {
            real s = first ? 0 : t[r * ldt + c];
            for (int64_t j = 0; j < k; j++) s = FMA(a[r * ars + j * acs], b[j * ldb + c], s);
            t[r * ldt + c] = s;
        }
}

static void tile_out(real *y, int64_t ldy, const real *t, int64_t ldt, int64_t rows, int64_t cols,
                     real s, bool acc) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            real v = s * t[r * ldt + c];
            y[r * ldy + c] = acc ? y[r * ldy + c] + v : v;
        }
}

static void softmax_block(real *s, int64_t rows, const int32_t *from, const int32_t *seen,
                          real *max, real *sum, real *fix) {
    for (int64_t r = 0; r < rows; r++, s += 32) {
        real top = max[r], total = 0;
        for (int i = from[r]; i < seen[r]; i++) top = s[i] > top ? s[i] : top;
        for (int i = 0; i < 32; i++)
            total += s[i] = i >= from[r] && i < seen[r] ? EXP(s[i] - top) : 0;
        fix[r] = EXP(max[r] - top);
        sum[r] = sum[r] * fix[r] + total;
        max[r] = top;
    }
}

static void softmax_block_bwd(real *s, real *ds, int64_t rows, const int32_t *from,
                              const int32_t *seen, const real *lse, const real *d) {
    for (int64_t r = 0; r < rows; r++, s += 32, ds += 32)
        for (int i = 0; i < 32; i++) {
            s[i] = i >= from[r] && i < seen[r] ? EXP(s[i] - lse[r]) : 0;
            ds[i] = s[i] * (ds[i] - d[r]);
        }
}

#ifndef FJ_F64
/* vcvtneps2bf16 and vdpbf16ps take denormals as zero and flush denormal results. */
static float flush(float f) { return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f; }

static uint16_t round_bf16(float f) { return fj_f32_to_bf16(flush(f)); }

static void f32_to_bf16(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = round_bf16(x[i]);
}

static void bf16_to_f32(float *y, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = fj_bf16_to_f32(x[i]);
}

static void f32_to_f16(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = fj_f32_to_f16(x[i]);
}

static void f16_to_f32(float *y, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = fj_f16_to_f32(x[i]);
}

static void f16_to_bf16(uint16_t *y, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = round_bf16(fj_f16_to_f32(x[i]));
}

static void turn_pairs(uint32_t *dst, int64_t ldd, const uint32_t *src, int64_t lds, int64_t n2,
                       int64_t k) {
    for (int64_t v = 0; v < k; v++)
        for (int64_t j = 0; j < n2; j++) {
            const uint32_t *p = src + v / 2 * lds + 2 * j;
            dst[j * ldd + v] =
                v % 2 ? p[0] >> 16 | (p[1] & 0xffff0000u) : (p[0] & 0xffff) | p[1] << 16;
        }
}

static void pairs_bf16(uint32_t *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] = round_bf16(a[i]) | (uint32_t)(b ? round_bf16(b[i]) : 0) << 16;
}

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, int64_t acs,
                      const uint32_t *b, int64_t ldb, int64_t k, int mr, int np, bool first) {
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 16 * np; c++) {
            float s = first ? 0 : flush(t[r * ldt + c]);
            for (int64_t j = 0; j < k; j++) {
                uint32_t x = a[r * ars + j * acs], w = b[j * ldb + c];
                s = flush(fmaf(flush(fj_bf16_to_f32((uint16_t)(x >> 16))),
                               flush(fj_bf16_to_f32((uint16_t)(w >> 16))), s));
                s = flush(fmaf(flush(fj_bf16_to_f32((uint16_t)x)),
                               flush(fj_bf16_to_f32((uint16_t)w)), s));
            }
            t[r * ldt + c] = s;
        }
}

/* n values (a multiple of 32) of one record share a scale; offset 128 or 8. */
static void quant_a8(fj_a8 *y, int first, const float *x, int n, int offset) {
    float amax = 0;
    bool finite = true;
    for (int i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        amax = fmaxf(amax, fabsf(x[i]));
    }
    /* Under 2^-100 the inverse scale would leave the range of float: such rows are zero. */
    float d = amax / 127, id = 1 / d;
    if (!finite) d = NAN;
    bool zero = !finite || amax < 0x1p-100f;
    if (finite && zero) d = 0;
    for (int b = 0; b < n / 32; b++) {
        int sum = 0;
        for (int i = b * 32; i < b * 32 + 32; i++) {
            int q = zero ? 0 : (int)rintf(x[i] * id);
            y->q[first + i] = (int8_t)q;
            sum += q;
        }
        y->corr[first / 32 + b] = -offset * sum;
        y->d[first / 32 + b] = d;
    }
}

static void quant_a8_32(fj_a8 *y, int64_t stride, const float *x, int64_t k) {
    for (int64_t i = 0; i < k; i += 32)
        quant_a8(y + i / 256 * stride, (int)(i % 256), x + i, 32, 128);
}

static void quant_a8_256(fj_a8 *y, int64_t stride, const float *x, int64_t k) {
    for (int64_t i = 0; i < k; i += 256)
        quant_a8(y + i / 256 * stride, 0, x + i, k - i < 256 ? (int)(k - i) : 256, 8);
}

static void gemm_q8(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                    int64_t nb, int mr, bool first) {
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 32; c++) {
            float s = first ? 0 : t[r * ldt + c];
            for (int64_t b = 0; b < nb; b++) {
                const fj_a8 *x = a + b / 8 * stride + r;
                const uint8_t *p = (const uint8_t *)w + b * FJ_Q8_PANEL, *q = p + 64 + c * 4;
                const int8_t *xq = x->q + b % 8 * 32;
                uint16_t d;
                memcpy(&d, p + 2 * c, 2);
                int32_t sum = x->corr[b % 8];
                for (int i = 0; i < 32; i++) sum += q[i / 4 * 128 + i % 4] * xq[i];
                s = fmaf((float)sum, fj_f16_to_f32(d) * x->d[b % 8], s);
            }
            t[r * ldt + c] = s;
        }
}

static void gemm_q4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                    int64_t nb, int mr, bool first) {
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 32; c++) {
            float s = first ? 0 : t[r * ldt + c], sb = 0;
            for (int64_t b = 0; b < nb; b++) {
                const fj_a8 *x = a + b / 8 * stride + r;
                const uint8_t *p = (const uint8_t *)w + b * FJ_Q4_PANEL, *q = p + 64 + c * 4;
                const int8_t *xq = x->q + b % 8 * 32;
                uint16_t d;
                memcpy(&d, p + 2 * c, 2);
                int32_t sum = x->corr[b % 8];
                for (int i = 0; i < 16; i++) {
                    int v = q[i / 4 * 128 + i % 4];
                    sum += (v & 15) * xq[i] + (v >> 4) * xq[i + 16];
                }
                sb = fmaf((float)sum, fj_f16_to_f32(d), sb);
                if (b % 8 < 7 && b + 1 < nb) continue;
                s = fmaf(sb, x->d[0], s);
                sb = 0;
            }
            t[r * ldt + c] = s;
        }
}

static void unpack_q8(float *dst, int64_t ld, const void *b) {
    const uint8_t *p = b;
    for (int c = 0; c < 32; c++) {
        uint16_t d;
        memcpy(&d, p + 2 * c, 2);
        float f = fj_f16_to_f32(d);
        for (int i = 0; i < 32; i++)
            dst[c * ld + i] = f * (float)(p[64 + i / 4 * 128 + c * 4 + i % 4] - 128);
    }
}

static void unpack_q4(float *dst, int64_t ld, const void *b) {
    const uint8_t *p = b;
    for (int c = 0; c < 32; c++) {
        uint16_t d;
        memcpy(&d, p + 2 * c, 2);
        float f = fj_f16_to_f32(d);
        for (int i = 0; i < 16; i++) {
            int v = p[64 + i / 4 * 128 + c * 4 + i % 4];
            dst[c * ld + i] = f * (float)((v & 15) - 8);
            dst[c * ld + 16 + i] = f * (float)((v >> 4) - 8);
        }
    }
}

static void gemm_mx4(float *t, int64_t ldt, const fj_a8 *a, int64_t stride, const void *w,
                     int64_t nb, int mr, bool first) {
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 32; c++) {
            float s = first ? 0 : t[r * ldt + c];
            for (int64_t b = 0; b < nb; b++) {
                const fj_a8 *x = a + b / 8 * stride + r;
                const uint8_t *p = (const uint8_t *)w + b * FJ_MX4_PANEL, *q = p + 32 + c * 4;
                const int8_t *xq = x->q + b % 8 * 32;
                int32_t sum = 0;
                for (int i = 0; i < 16; i++) {
                    int v = q[i / 4 * 128 + i % 4];
                    sum += fj_e2m1_doubled[v & 15] * xq[i] + fj_e2m1_doubled[v >> 4] * xq[i + 16];
                }
                s = fmaf((float)sum, fj_e8m0_half(p[c]) * x->d[b % 8], s);
            }
            t[r * ldt + c] = s;
        }
}

static void unpack_mx4(float *dst, int64_t ld, const void *b) {
    const uint8_t *p = b;
    for (int c = 0; c < 32; c++) {
        float f = fj_e8m0_half(p[c]);
        for (int i = 0; i < 16; i++) {
            int v = p[32 + i / 4 * 128 + c * 4 + i % 4];
            dst[c * ld + i] = f * (float)fj_e2m1_doubled[v & 15];
            dst[c * ld + 16 + i] = f * (float)fj_e2m1_doubled[v >> 4];
        }
    }
}

#include "kernels/quant_scalar.inc"
#endif

#ifdef FJ_F64
void fj_kern_ref_f64(fj_kern64 *k) {
#define FJ_KERNEL_Q(name, ret, params)
#else
void fj_kern_ref_f32(fj_kern *k) {
#define FJ_KERNEL_Q FJ_KERNEL
#endif
    k->isa = "scalar";
#ifndef FJ_F64
    k->bf16_rows = 8;
#endif
#define FJ_KERNEL(name, ret, params) k->name = name;
#include "kernels/kernels.def"
#undef FJ_KERNEL
#undef FJ_KERNEL_Q
}
