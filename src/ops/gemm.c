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

void fj_round_rows_f64(const fj_team *t, int64_t m, const real *x, int64_t ldx, int64_t k,
                       fj_form form, void *dst) {
    (void)t, (void)m, (void)x, (void)ldx, (void)k, (void)form, (void)dst;
}

void fj_gemm_fwd_rounded_f64(const fj_team *t, int64_t m, const real *x, int64_t ldx,
                             const void *rounded, const fj_wmat *w, real *y, int64_t ldy,
                             real scale, bool acc) {
    (void)rounded;
    fj_gemm_fwd_f64(t, m, x, ldx, w, y, ldy, scale, acc);
}

void fj_gemm_dx_rounded_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy,
                            const void *rounded, const fj_wmat *w, real *dx, int64_t ldx,
                            real scale, bool acc) {
    (void)rounded;
    fj_gemm_dx_f64(t, m, dy, ldy, w, dx, ldx, scale, acc);
}

void fj_gemm_fwd_low_f64(const fj_team *t, int64_t m, const real *x, int64_t ldx,
                         const void *rounded, const fj_wmat *w, real *y, int64_t ldy, bool acc,
                         const fj_low *low) {
    (void)rounded;
    fj_gemm_fwd_f64(t, m, x, ldx, w, y, ldy, 1, acc);
    if (!low) return;
    fj_team_barrier(t);
    fj_gemm_fwd_f64(t, m, low->x, low->ldx, low->w, y, ldy, low->scale, true);
}

void fj_gemm_dx_low_f64(const fj_team *t, int64_t m, const real *dy, int64_t ldy,
                        const void *rounded, const fj_wmat *w, real *dx, int64_t ldx, bool acc,
                        const fj_low *low) {
    (void)rounded;
    fj_gemm_dx_f64(t, m, dy, ldy, w, dx, ldx, 1, acc);
    if (!low) return;
    fj_team_barrier(t);
    fj_gemm_dx_f64(t, m, low->x, low->ldx, low->w, dx, ldx, low->scale, true);
}

#else
fj_form fj_fwd_form(const fj_wmat *w, bool f32) {
    const int kind = fj_a8_kind(w->dtype);
    if (f32 || (w->dtype == FJ_F32 && !w->mixed)) return FJ_ROWS_F32;
    return kind < 0 ? FJ_ROWS_BF16 : FJ_ROWS_INT8 + kind;
}

fj_form fj_dx_form(const fj_wmat *w, bool f32) {
    return f32 || (w->dtype == FJ_F32 && !w->mixed) ? FJ_ROWS_F32 : FJ_ROWS_BF16;
}

size_t fj_rounded_bytes(int64_t m, int64_t k, fj_form form) {
    if (form == FJ_ROWS_F32) return 0;
    if (form == FJ_ROWS_BF16) return align64(m * pair_stride(k) * 4);
    return align64(m * ((k + A8 - 1) / A8) * (int64_t)sizeof(fj_a8));
}

void fj_round_rows_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, int64_t k,
                       fj_form form, void *dst) {
    int64_t r0 = m * t->ith / t->nth, r1 = m * (t->ith + 1) / t->nth;
    if (form == FJ_ROWS_F32) return;
    for (int64_t r = r0; r < r1; r++) {
        if (form != FJ_ROWS_BF16) {
            t->kern->quant_a8((fj_a8 *)dst + r, m, x + r * ldx, k, form - FJ_ROWS_INT8);
            continue;
        }
        uint16_t *y = (uint16_t *)dst + 2 * r * pair_stride(k);
        t->kern->f32_to_bf16(y, x + r * ldx, k);
        if (k % 2) y[k] = 0;
    }
}

size_t fj_gemm_rounded_scratch(int64_t m, int nth) {
    return (size_t)nth * thread_bytes(share_rows(nth, m));
}

size_t fj_gemm_fwd_scratch(int64_t m, const fj_wmat *w, int nth, bool f32) {
    return fj_rounded_bytes(m, w->k, fj_fwd_form(w, f32)) + fj_gemm_rounded_scratch(m, nth);
}

void fj_gemm_nothing(const fj_team *t, int64_t m, float *y, int64_t ld, int64_t n, bool acc) {
    for (int64_t r = m * t->ith / t->nth; !acc && r < m * (t->ith + 1) / t->nth; r++)
        memset(y + r * ld, 0, (size_t)n * sizeof *y);
}

static void fwd(const fj_team *t, int64_t m, const float *x, int64_t ldx, const void *rounded,
                const fj_wmat *w, out o) {
    if (m < 1 || w->n < 1) return;
    if (w->k < 1) {
        fj_gemm_nothing(t, m, o.y, o.ld, w->n, o.acc);
        return;
    }
    switch (fj_fwd_form(w, t->f32)) {
    case FJ_ROWS_F32: fj_fwd_f32(t, m, x, ldx, w, o); break;
    case FJ_ROWS_BF16: fj_fwd_bf16(t, m, rounded, w, o); break;
    default: fj_fwd_int8(t, m, rounded, w, o);
    }
}

void fj_gemm_fwd_rounded_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx,
                             const void *rounded, const fj_wmat *w, float *y, int64_t ldy,
                             float scale, bool acc) {
    fwd(t, m, x, ldx, rounded, w, (out){ y, ldy, 0, scale, acc, NULL });
}

/* Is low added tile by tile?  Else it is a pass over the whole result. */
static bool by_tile(const fj_low *low, const fj_wmat *w, fj_form form) {
    return low && form == FJ_ROWS_BF16 && w->n > 0 && w->k > 0;
}

void fj_gemm_fwd_low_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx,
                         const void *rounded, const fj_wmat *w, float *y, int64_t ldy, bool acc,
                         const fj_low *low) {
    bool tiles = by_tile(low, w, low ? fj_fwd_form(low->w, t->f32) : FJ_ROWS_F32);
    fwd(t, m, x, ldx, rounded, w, (out){ y, ldy, 0, 1, acc, tiles ? low : NULL });
    if (!low || tiles) return;
    fj_team_barrier(t);
    fj_gemm_fwd_rounded_f32(t, m, low->x, low->ldx, low->rounded, low->w, y, ldy, (float)low->scale,
                            true);
}

void fj_gemm_dx_rounded_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy,
                            const void *rounded, const fj_wmat *w, float *dx, int64_t ldx,
                            float scale, bool acc) {
    fj_dx(t, m, dy, ldy, rounded, w, (out){ dx, ldx, 0, scale, acc, NULL });
}

void fj_gemm_dx_low_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy,
                        const void *rounded, const fj_wmat *w, float *dx, int64_t ldx, bool acc,
                        const fj_low *low) {
    bool tiles = by_tile(low, w, low ? fj_dx_form(low->w, t->f32) : FJ_ROWS_F32);
    fj_dx(t, m, dy, ldy, rounded, w, (out){ dx, ldx, 0, 1, acc, tiles ? low : NULL });
    if (!low || tiles) return;
    fj_team_barrier(t);
    fj_gemm_dx_rounded_f32(t, m, low->x, low->ldx, low->rounded, low->w, dx, ldx, (float)low->scale,
                           true);
}

/* Rounds rows into the scratch; the team for what follows. */
static fj_team rounded_team(const fj_team *t, int64_t m, const float *x, int64_t ldx, int64_t k,
                            fj_form form) {
    fj_team u = *t;
    u.scratch = (char *)t->scratch + fj_rounded_bytes(m, k, form);
    fj_round_rows_f32(t, m, x, ldx, k, form, t->scratch);
    if (form != FJ_ROWS_F32) fj_team_barrier(t);
    return u;
}

void fj_gemm_fwd_f32(const fj_team *t, int64_t m, const float *x, int64_t ldx, const fj_wmat *w,
                     float *y, int64_t ldy, float scale, bool acc) {
    fj_team u = rounded_team(t, m, x, ldx, w->k, fj_fwd_form(w, t->f32));
    fj_gemm_fwd_rounded_f32(&u, m, x, ldx, t->scratch, w, y, ldy, scale, acc);
}

void fj_gemm_dx_f32(const fj_team *t, int64_t m, const float *dy, int64_t ldy, const fj_wmat *w,
                    float *dx, int64_t ldx, float scale, bool acc) {
    fj_team u = rounded_team(t, m, dy, ldy, w->n, fj_dx_form(w, t->f32));
    fj_gemm_dx_rounded_f32(&u, m, dy, ldy, t->scratch, w, dx, ldx, scale, acc);
}

void fj_wmat_row_f32(const fj_team *t, const fj_wmat *w, int64_t row, float *dst) {
    fj_wmat_block(t->kern, w, row, 1, 0, w->k, dst, w->k);
}
#endif
