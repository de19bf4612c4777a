/* gemm.h - products of rows with weights, forward and both gradients: loops, blocking, packing and
 * threads around the micro-kernels of kernels.def.
 *
 *     fwd: y[m,n]  = (acc ? y : 0)  + scale * x[m,k] w[n,k]^T
 *     dx:  dx[m,k] = (acc ? dx : 0) + scale * dy[m,n] w[n,k]
 *     dw:  dw[n,k] = (acc ? dw : 0) + scale * dy[m,n]^T x[m,k]
 *
 * Every thread of a team calls the same function with the same arguments but `ith`; the threads meet
 * at team->barrier inside, and none may use the result before all have returned (the executor's own
 * barrier).  Inputs and outputs do not overlap.
 *
 * Arithmetic of fwd, by weight format and whatever m: F32 meets f32 rows; BF16, and rounded to bf16 F16 and blocks
 * that have no panels (NF4, lattices, ternary digits; dequantised as they are read), meet rows rounded to bf16; other blocks meet rows in
 * int8 with a scale per 32 values, those of 256 values with a scale per 256 (kernels/panel.h).
 * A weight that trains is F32 and mixed: both products treat it as BF16, so that its sums and steps are in f32
 * and its products at the speed of bf16.
 * dx: F32 weights in f32; others as bf16 times dy rounded to bf16.  dw: x and dy rounded to bf16, sums
 * in f32.  With team->f32 everything is f32 and weights are dequantised exactly.
 * Same bits: an output of fwd or dx depends on its row and the weights alone: not on m, the place of
 * the row, threads, blocking, or panels against rows.  dw adds up pieces of 2048 rows (512 when
 * n + k is over 8192): its bits depend on m, not on threads.
 *
 * Rows that meet several weights are rounded once: fj_round_rows, a barrier, then fj_gemm_fwd_rounded
 * (or _dx_rounded) for each weight of that form.  The bits are those of fj_gemm_fwd, which does both.
 *
 * The double instance (FJ_F64) is the oracle: plain loops, weights F64 or any format as rows; it rounds
 * nothing. */
#ifndef FJ_OPS_GEMM_H
#define FJ_OPS_GEMM_H

#include "base/dtype.h"
#include "graph/team.h"
#include "ops/real.h"

/* A weight [n, k].  panels: re-laid by fj_wmat_pack, 64-byte aligned; else rows as in files.
 * k is whole blocks. */
typedef struct fj_wmat {
    fj_dtype dtype;
    bool panels;
    bool mixed; /* F32 that trains: as rows of a file; meets rows as BF16 would */
    const void *data;
    int64_t n, k;
} fj_wmat;

/* A product of few inner values that is added to another one's result while that is in the cache: the
 * second half of an adapter.  After fwd: y += scale * x w^T; after dx: dx += scale * x w.  The bits are those
 * of fj_gemm_fwd or fj_gemm_dx with acc. */
typedef struct fj_low {
    const void *x; /* [m, r] reals */
    int64_t ldx;
    const void *rounded; /* x in the form in which it meets w */
    const fj_wmat *w;    /* [n, r]; of dx [r, k] */
    double scale;
} fj_low;

/* What rows become before they meet a weight.  Layout (src/ops/gemm_in.h): pairs of bf16, row after row;
 * or records fj_a8, [256 values][row]. */
typedef int fj_form;
enum {
    FJ_ROWS_F32, /* as they are */
    FJ_ROWS_BF16,
    FJ_ROWS_INT8 = 1 << 16, /* plus fj_a8_kind of the weights */
};

/* The form in which rows x meet w in fwd, and rows dy in dx. */
fj_form fj_fwd_form(const fj_wmat *w, bool f32);
fj_form fj_dx_form(const fj_wmat *w, bool f32);
/* Bytes of m rows of k values in that form, a multiple of 64; 0 for FJ_ROWS_F32. */
size_t fj_rounded_bytes(int64_t m, int64_t k, fj_form form);

#ifndef FJ_F64
/* Panels of F32, F16, BF16 and of blocks with fj_a8_kind: a re-layout of the same bits.  The bytes of a weight are a
 * multiple of 64, so that panels may follow each other; -1: no panels of this format
 * (other blocks), or the size overflows.  Work is shared by nth callers without a barrier.
 * Rows from a multiple of FJ_WMAT_RUN on begin at the packed bytes of the rows before them, whatever follows:
 * a weight can be packed a run of rows at a time. */
enum { FJ_WMAT_RUN = 192 };
int64_t fj_wmat_packed_bytes(fj_dtype t, int64_t n, int64_t k);
void fj_wmat_pack(const fj_kern *kern, fj_dtype t, int64_t n, int64_t k, const void *rows,
                  void *panels, int ith, int nth);
/* Rows [n0, n0 + nn) as they were. */
void fj_wmat_unpack(fj_dtype t, int64_t n, int64_t k, const void *panels, int64_t n0, int64_t nn,
                    void *rows);
/* Rows [n0, n0+nn), values [k0, k0+kk) of w as f32: dst[r * ld + j].  k0 and kk are multiples of
 * the block of the format, or of 32 where it is larger. */
void fj_wmat_block(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                   int64_t kk, float *dst, int64_t ld);

/* The same rounded to bf16, as pairs of rows: dst[i * ld + j] = (row n0 + 2i, row n0 + 2i + 1) of value j; a row
 * beyond nn is 0.  n0 is a multiple of 32; buf has room for 48 * KC floats, twice. */
void fj_wmat_pairs(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                   int64_t kk, uint32_t *dst, int64_t ld, float *buf);

/* Bytes of team->scratch of the products of rounded rows; 64-byte aligned. */
size_t fj_gemm_rounded_scratch(int64_t m, int nth);
/* Bytes of team->scratch for a team of nth threads; the double instance needs none. */
size_t fj_gemm_fwd_scratch(int64_t m, const fj_wmat *w, int nth, bool f32);
size_t fj_gemm_dx_scratch(int64_t m, const fj_wmat *w, int nth, bool f32);
size_t fj_gemm_dw_scratch(int64_t m, int64_t n, int64_t k, int nth, bool f32);
#endif

/* Row `row` of w as numbers: an embedding. */
void FJ_R(fj_wmat_row)(const fj_team *t, const fj_wmat *w, int64_t row, real *dst);

void FJ_R(fj_gemm_fwd)(const fj_team *t, int64_t m, const real *x, int64_t ldx, const fj_wmat *w,
                       real *y, int64_t ldy, real scale, bool acc);
void FJ_R(fj_gemm_dx)(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const fj_wmat *w,
                      real *dx, int64_t ldx, real scale, bool acc);
/* The share of a thread; others' rows are there after the next barrier.  dst: 64-byte aligned, nothing for
 * FJ_ROWS_F32. */
void FJ_R(fj_round_rows)(const fj_team *t, int64_t m, const real *x, int64_t ldx, int64_t k,
                         fj_form form, void *dst);
/* As fj_gemm_fwd and fj_gemm_dx, of the rows x or dy (read where their form is FJ_ROWS_F32) and the same m
 * rows rounded. */
void FJ_R(fj_gemm_fwd_rounded)(const fj_team *t, int64_t m, const real *x, int64_t ldx,
                               const void *rounded, const fj_wmat *w, real *y, int64_t ldy,
                               real scale, bool acc);
void FJ_R(fj_gemm_dx_rounded)(const fj_team *t, int64_t m, const real *dy, int64_t ldy,
                              const void *rounded, const fj_wmat *w, real *dx, int64_t ldx,
                              real scale, bool acc);
/* The same with scale 1, then low (NULL: nothing), of which low->rounded is there. */
void FJ_R(fj_gemm_fwd_low)(const fj_team *t, int64_t m, const real *x, int64_t ldx,
                           const void *rounded, const fj_wmat *w, real *y, int64_t ldy, bool acc,
                           const fj_low *low);
void FJ_R(fj_gemm_dx_low)(const fj_team *t, int64_t m, const real *dy, int64_t ldy,
                          const void *rounded, const fj_wmat *w, real *dx, int64_t ldx, bool acc,
                          const fj_low *low);
/* dw [n, k] has no space between its rows. */
void FJ_R(fj_gemm_dw)(const fj_team *t, int64_t m, const real *dy, int64_t ldy, const real *x,
                      int64_t ldx, real *dw, int64_t n, int64_t k, real scale, bool acc);

#endif
