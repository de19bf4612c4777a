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
    real m = (real)-INFINITY;
    for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static double sum_from(const real *w, const real *x, real t, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i] >= t) s += w[i];
    return s;
}

static int64_t between(int32_t *at, const real *x, real lo, real hi, int64_t n) {
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        at[k] = (int32_t)i; /* k <= i */
        k += x[i] >= lo && x[i] <= hi;
    }
    return k;
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

static void words(uint32_t *dst, int64_t ldd, const void *src, int64_t stride, int64_t rows,
                  int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < rows; c++)
            memcpy(dst + i * ldd + c, (const char *)src + c * stride + 4 * i, 4);
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

static void dequant(float *dst, fj_dtype t, const void *row, int64_t from, int64_t n) {
    fj_dequant_part(t, row, from, dst, n);
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

static void gemm_bf16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                      int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                      int64_t bytes) {
    (void)next, (void)bytes;
    for (int r = 0; r < mr; r++)
        for (int c = 0; c < 16 * np; c++) {
            float s = first ? 0 : flush(t[r * ldt + c]);
            for (int64_t j = 0; j < k; j++) {
                uint32_t x = a[r * ars + j], w = b[j * ldb + c];
                s = flush(fmaf(flush(fj_bf16_to_f32((uint16_t)(x >> 16))),
                               flush(fj_bf16_to_f32((uint16_t)(w >> 16))), s));
                s = flush(fmaf(flush(fj_bf16_to_f32((uint16_t)x)),
                               flush(fj_bf16_to_f32((uint16_t)w)), s));
            }
            t[r * ldt + c] = s;
        }
}

static void few_f16(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint16_t *b,
                    int64_t k, int mr, int np, bool first) {
    uint32_t w[48] = { 0 };
    for (int64_t j = 0; j < k; j++, b += 32 * np) {
        f16_to_bf16((uint16_t *)(void *)w, b, 32 * np);
        gemm_bf16(t, ldt, a + j, ars, w, 16 * np, 1, mr, np, first && j == 0, NULL, 0);
    }
}

#include "kernels/attn_tiles.inc"

static void attn_soft(uint32_t *p, const float *s, int64_t rows, int keys, const int32_t *from,
                      const int32_t *seen, float *top, float *sum, float *o, int64_t hd) {
    for (int64_t r = 0; r < rows; r++, s += FJ_ATTN_CHUNK, p += FJ_ATTN_CHUNK / 2) {
        uint16_t *y = (uint16_t *)(void *)p;
        float now = top[r];
        for (int i = from[r]; i < seen[r]; i++) now = s[i] <= now ? now : s[i];
        if (from[r] < seen[r] && now != top[r]) {
            float fix = exp2f(top[r] - now);
            for (int64_t c = 0; c < hd; c++) o[r * hd + c] *= fix;
            for (int i = 0; i < 16; i++) sum[r * 16 + i] *= fix;
            top[r] = now;
        }
        for (int i = 0; i < keys; i++) {
            float e = i >= from[r] && i < seen[r] ? exp2f(s[i] - now) : 0;
            sum[r * 16 + i % 16] += e;
            y[i] = round_bf16(e);
        }
    }
}

static void attn_soft_bwd(uint32_t *p, uint32_t *ds, const float *s, const float *dp, int64_t rows,
                          int keys, const int32_t *from, const int32_t *seen, const float *lse,
                          const float *d, bool turned, float cap) {
    for (int64_t r = 0; r < rows; r++, s += FJ_ATTN_CHUNK, dp += FJ_ATTN_CHUNK) {
        uint16_t *y = (uint16_t *)(void *)(p + r * (FJ_ATTN_CHUNK / 2)),
                 *z = (uint16_t *)(void *)(ds + r * (FJ_ATTN_CHUNK / 2));
        for (int i = 0; i < keys; i++) {
            bool sees = i >= from[r] && i < seen[r];
            float e = sees ? exp2f(s[i] - lse[turned ? i : r]) : 0, t = cap > 0 ? s[i] / cap : 0;
            y[i] = round_bf16(e);
            z[i] = sees ? round_bf16(e * (dp[i] - d[turned ? i : r]) * (1 - t * t)) : 0;
        }
    }
}

/* n values (a multiple of 32) of one record share a scale. */
static void quant_some(fj_a8 *y, int first, const float *x, int n, int kind) {
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
    const int group = kind & FJ_A8_16 ? 16 : 32;
    for (int i = first; i < first + n; i += 32) y->d[i / 32] = d;
    for (int i = first; i < first + n; i += group) {
        int sum = 0;
        for (int j = i; j < i + group; j++) {
            int q = zero ? 0 : (int)rintf(x[j - first] * id);
            y->q[j] = (int8_t)q;
            sum += q;
        }
        if (kind & FJ_A8_MIN) y->sum[i / group] = kind & FJ_A8_WIDE ? (float)sum : d * (float)sum;
        else y->corr[i / group] = -(kind & FJ_A8_OFFSET) * sum;
    }
}

static void quant_a8(fj_a8 *y, int64_t stride, const float *x, int64_t k, int kind) {
    const int64_t step = kind & FJ_A8_WIDE ? 256 : 32;
    for (int64_t i = 0; i < k; i += step)
        quant_some(y + i / 256 * stride, (int)(i % 256), x + i,
                   k - i < step ? (int)(k - i) : (int)step, kind);
}

static void gemm_w8(float *t, const fj_a8 *a, const fj_w8 *w, int nb, int64_t rows, int kind,
                    bool first, const void *next, int64_t bytes) {
    (void)next, (void)bytes;
    const int group = kind & FJ_A8_16 ? 16 : 32;
    const bool min = kind & FJ_A8_MIN, wide = kind & FJ_A8_WIDE;
    for (int64_t r = 0; r < rows; r++, a++)
        for (int c = 0; c < 32; c++) {
            float s = first ? 0 : t[r * 32 + c], p = 0;
            for (int g = 0; g < nb * 32 / group; g++) {
                int32_t dot = min ? 0 : a->corr[g];
                for (int i = g * group; i < (g + 1) * group; i++)
                    dot += (int)(w->w[i / 32][i % 32 / 4][c] >> 8 * (i % 4) & 255) * a->q[i];
                if (wide) p = fmaf((float)dot, w->d[g][c], p);
                else s = fmaf((float)dot, w->d[g][c] * a->d[g], s);
                if (min && wide) p = fmaf(w->m[g][c], a->sum[g], p);
                else if (min) s = fmaf(w->m[g][c], a->sum[g], s);
            }
            t[r * 32 + c] = wide ? fmaf(p, a->d[0], s) : s;
        }
}

static void w8_rows(float *dst, int64_t ld, const fj_w8 *w, int nb, int kind, int c0, int n) {
    const int group = kind & FJ_A8_16 ? 16 : 32;
    for (int c = c0; c < c0 + n; c++, dst += ld)
        for (int i = 0; i < 32 * nb; i++) {
            int code = (int)(w->w[i / 32][i % 32 / 4][c] >> 8 * (i % 4) & 255);
            dst[i] = w->d[i / group][c] * (float)(code - (kind & FJ_A8_OFFSET));
            if (kind & FJ_A8_MIN) dst[i] += w->m[i / group][c];
        }
}

#define PAIRS pairs_bf16
#include "kernels/w8_pairs.inc"

static void halves(float *y, const uint16_t *x) {
    for (int i = 0; i < 32; i++) y[i] = fj_f16_to_f32(x[i]);
}

static void lookup(uint32_t *w, int n, const uint8_t *table) {
    uint8_t *b = (uint8_t *)w;
    for (int i = 0; i < n; i++) b[i] = table[b[i]];
}

#define HALVES halves
#define LOOKUP lookup
#include "kernels/w8.inc"

static void few_w8(float *t, const fj_a8 *a, int64_t stride, fj_dtype dt, const void *panels,
                   int64_t nb, int rows) {
    const fj_dtype_info *d = fj_dtype_get(dt);
    const char *p = panels;
    fj_w8 w = { 0 };
    for (int64_t i = 0; i < nb; i += 8, a += stride, p += 32 * (256 / d->block) * d->bytes) {
        int len = nb - i < 8 ? (int)(nb - i) : 8;
        w8_unpack(&w, dt, p, 0, len);
        gemm_w8(t, a, &w, len, rows, fj_a8_kind(dt), i == 0, NULL, 0);
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
    k->few_f16_rows = 0;
    k->few_rows = 0;
#endif
#define FJ_KERNEL(name, ret, params) k->name = name;
#include "kernels/kernels.def"
#undef FJ_KERNEL
#undef FJ_KERNEL_Q
}
