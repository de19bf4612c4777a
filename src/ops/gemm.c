/* gemm.c - see gemm.h: the oracle, and which arithmetic a product has. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
/* ---- oracle -------------------------------------------------------------------------------------- */
static void row_f64(const fj_wmat *w, int64_t n, int64_t k0, int64_t kk, double *dst) {
    const fj_dtype_info *d = fj_dtype_get(w->dtype);
    const char *src = (const char *)w->data + (n * w->k + k0) / d->block * d->bytes;
    if (w->dtype == FJ_F64) {
        memcpy(dst, src, (size_t)kk * 8);
        return;
    }
    float f[256];
    fj_dequant_row(w->dtype, src, f, kk);
    for (int64_t i = 0; i < kk; i++) dst[i] = f[i];
}

void fj_wmat_row_f64(const fj_team *t, const fj_wmat *w, int64_t row, real *dst) {
    (void)t;
    for (int64_t k0 = 0; k0 < w->k; k0 += 256) row_f64(w, row, k0, LESS(256, w->k - k0), dst + k0);
}

void fj_gemm_fwd_f64(const fj_team *t, int64_t m, const real *x, int64_t ldx, const fj_wmat *w,
                     real *y, int64_t ldy, real scale, bool acc) {
    double buf[256];
    for (int64_t j = w->n * t->ith / t->nth; j < w->n * (t->ith + 1) / t->nth; j++)
        for (int64_t i = 0; i < m; i++) {
            double s = 0;
            for (int64_t k0 = 0; k0 < w->k; k0 += 256) {
                int64_t kk = LESS(256, w->k - k0);
                row_f64(w, j, k0, kk, buf);
                for (int64_t l = 0; l < kk; l++) s += x[i * ldx + k0 + l] * buf[l];
            }
            y[i * ldy + j] = (acc ? y[i * ldy + j] : 0) + scale * s;
        }
}

void fj_gemm_dx_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const fj_wmat *w,
                    real *dx, int64_t ldx, real scale, bool acc) {
    double buf[256];
    for (int64_t i = m * t->ith / t->nth; i < m * (t->ith + 1) / t->nth; i++) {
        if (!acc) memset(dx + i * ldx, 0, (size_t)w->k * sizeof *dx);
        for (int64_t j = 0; j < w->n; j++)
            for (int64_t k0 = 0; k0 < w->k; k0 += 256) {
                int64_t kk = LESS(256, w->k - k0);
                row_f64(w, j, k0, kk, buf);
                for (int64_t l = 0; l < kk; l++)
                    dx[i * ldx + k0 + l] += scale * dy[i * ldy + j] * buf[l];
            }
    }
}

void fj_gemm_dw_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const real *x,
                    int64_t ldx, real *dw, int64_t n, int64_t k, real scale, bool acc) {
    for (int64_t j = n * t->ith / t->nth; j < n * (t->ith + 1) / t->nth; j++) {
        if (!acc) memset(dw + j * k, 0, (size_t)k * sizeof *dw);
        for (int64_t i = 0; i < m; i++)
            for (int64_t l = 0; l < k; l++)
                dw[j * k + l] += scale * dy[i * ldy + j] * x[i * ldx + l];
    }
}

#else
size_t fj_gemm_fwd_scratch(int64_t m, const fj_wmat *w, int nth, bool f32) {
    return fwd_shared(m, w, f32) + (size_t)nth * thread_bytes(share_rows(nth, m));
}

void fj_gemm_nothing(const fj_team *t, int64_t m, float *y, int64_t ld, int64_t n, bool acc) {
    for (int64_t r = m * t->ith / t->nth; !acc && r < m * (t->ith + 1) / t->nth; r++)
        memset(y + r * ld, 0, (size_t)n * sizeof *y);
}

void fj_gemm_fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                     float *y, int64_t ldy, float scale, bool acc) {
    out o = { y, ldy, 0, scale, acc };
    if (m < 1 || w->n < 1) return;
    if (w->k < 1) {
        fj_gemm_nothing(t, m, y, ldy, w->n, acc);
        return;
    }
    switch (fwd_arith(w, t->f32)) {
    case IN_F32: fj_fwd_f32(t, m, x, ldx, w, o); break;
    case IN_BF16: fj_fwd_bf16(t, m, x, ldx, w, o); break;
    case IN_INT8: fj_fwd_int8(t, m, x, ldx, w, o); break;
    }
}

void fj_wmat_row_f32(const fj_team *t, const fj_wmat *w, int64_t row, float *dst) {
    fj_wmat_block(t->kern, w, row, 1, 0, w->k, dst, w->k);
}
#endif
