/* gemm.cuh - products of rows with weights on a GPU, forward and both gradients.
 *
 *     fwd: y[m,n]  = old + scale * x[m,k] w[n,k]^T
 *     dx:  dx[m,k] = old + scale * dy[m,n] w[n,k]
 *     dw:  dw[n,k] = (acc ? dw : 0) + scale * dy[m,n]^T x[m,k]
 *
 * old: NULL is nothing; else it has the result's shape and format, and is the result's own memory or memory
 * apart from it.  fwd2 and dx2 add a second product, an adapter's, in the same kernel:
 *
 *     fwd2: y[m,n]  = (old + x[m,k] w[n,k]^T) + scale * t[m,r] b[n,r]^T
 *     dx2:  dx[m,k] = old + (dy[m,n] w[n,k] + t[m,r] (scale * a[r,k]))
 *
 * Rows (x, dy, t, y, dx) are F32 or BF16, ld values apart, t as x or dy; dw is F32 without space between
 * its rows; weights are in any format, rows as in files.  Addresses are the device's, aligned to 16 bytes;
 * sizes are any, and 0 is nothing to do (dw of no rows is cleared unless acc).  Other inputs and results
 * do not overlap.
 *
 * Arithmetic.  g->f32, or rows of F32: everything in F32 (FMA), weights dequantised exactly.  Else rows and
 * weights are BF16 (weights of other formats are dequantised (as kquant.cuh says), scaled, and rounded to
 * BF16 once, F32 rows of an operand that meets BF16 ones too), products are summed in F32 by tensor cores:
 * ONE chain for each output, over the inner dimension in steps of 16 from its beginning, zeros beyond its end; never split.
 * Then scale and the value of old in one FMA, one rounding.  dx2 goes on in that chain over the second
 * product; fwd2 has the bits of fwd to y, and another fwd that adds to y: what is in brackets is rounded as
 * y is.  So it does not matter to a row whether its adapter is for all rows, or for some (lora.cuh).
 * So an output of fwd or dx depends on its row and the weights alone, whichever kernel computes it: few
 * rows (skinny), tiles (hopper, tile), or cuBLASLt (lt.h).  dw depends on the sizes as well: a chain over
 * all rows, or pieces of a fixed number of rows added in their order. */
#ifndef FJ_KERNELS_CUDA_GEMM_CUH
#define FJ_KERNELS_CUDA_GEMM_CUH

#include "kernels/cuda/gpu.cuh"

typedef struct fj_gmat { /* a weight [n, k] */
    fj_dtype dtype;
    const void *data;
    int64_t n, k;
} fj_gmat;

typedef struct fj_grows { /* rows of F32 or BF16 */
    fj_dtype dtype;
    void *data;
    int64_t ld;
} fj_grows;

/* scratch: as many bytes as *_scratch says, 64-byte aligned, not used by others meanwhile. */
size_t fj_gpu_fwd_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32);
size_t fj_gpu_dx_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32);
size_t fj_gpu_dw_scratch(int64_t m, int64_t n, int64_t k, fj_dtype rows, bool f32);
bool fj_gpu_fwd(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y, float scale,
                const fj_grows *old, void *scratch, fj_err *e);
bool fj_gpu_dx(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows dx, float scale,
               const fj_grows *old, void *scratch, fj_err *e);
bool fj_gpu_dw(const fj_gpu *g, int64_t m, fj_grows dy, fj_grows x, float *dw, int64_t n, int64_t k,
               float scale, bool acc, void *scratch, fj_err *e);

size_t fj_gpu_fwd2_scratch(int64_t m, const fj_gmat *w, const fj_gmat *b, fj_dtype rows, bool f32);
size_t fj_gpu_dx2_scratch(int64_t m, const fj_gmat *w, const fj_gmat *a, fj_dtype rows, bool f32);
bool fj_gpu_fwd2(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows t,
                 const fj_gmat *b, float scale, fj_grows y, const fj_grows *old, void *scratch,
                 fj_err *e);
bool fj_gpu_dx2(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows t,
                const fj_gmat *a, float scale, fj_grows dx, const fj_grows *old, void *scratch,
                fj_err *e);

/* ---- parts ---------------------------------------------------------------------------------------- */
/* dequant.cu: rows of any format, times scale, as BF16 (or F32) rows without space between them. */
bool fj_gpu_unpack(const fj_gpu *g, const fj_gmat *w, fj_dtype to, void *out, fj_err *e);
bool fj_gpu_unpack_scaled(const fj_gpu *g, const fj_gmat *w, float scale, fj_dtype to, void *out,
                          fj_err *e);

typedef enum fj_gemm_kind { FJ_NT, FJ_NN, FJ_TN } fj_gemm_kind;

/* C[m,n] = old + scale * op(A) op(B), A and B of BF16 (simt.cu: of F32):
 *   nt: A[m,k] B[n,k]^T; nn: A[m,k] B[k,n]; tn: A[k,m]^T B[k,n]
 * C: F32 or BF16.  old as above.  more: A2 and B2, k values in the inner dimension, or NULL: with nt as
 * fwd2, `by` times their product; with nn as dx2, scale times that. */
typedef struct fj_gpair {
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb, k;
    float by;
} fj_gpair;

/* tile.cu: by mma.sync, on any GPU from sm_80. */
bool fj_gpu_tile(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                 int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                 const fj_grows *old, const fj_gpair *more, fj_err *e);
/* tn in F32, all pieces of the inner dimension at once: parts[i][m][n] of piece i. */
bool fj_gpu_tile_pieces(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const void *a,
                        int64_t lda, const void *b, int64_t ldb, int64_t piece, float *parts,
                        fj_err *e);
/* hopper.cu: on sm_90a by wgmma and bulk tensor copies; *done is false without an error when it is not for
 * these sizes or this GPU: then tile does it.  It can be called in captured streams. */
bool fj_gpu_hopper(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                   const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                   const fj_grows *old, const fj_gpair *more, bool *done, fj_err *e);
/* tn, all pieces of the inner dimension at once: parts[i][m][n] of piece i, fj_gpu_hopper_apart(m) rows apart;
 * best when m is the smaller side. */
int64_t fj_gpu_hopper_apart(int64_t m);
bool fj_gpu_hopper_pieces(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const void *a,
                          int64_t lda, const void *b, int64_t ldb, int64_t piece, float *parts,
                          bool *done, fj_err *e);
/* simt.cu: in F32. */
bool fj_gpu_simt(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                 const float *a, int64_t lda, const float *b, int64_t ldb, fj_grows c, float scale,
                 const fj_grows *old, const fj_gpair *more, fj_err *e);
/* skinny.cu: nt of few rows, reading w's blocks as they are: m at most fj_gpu_skinny_rows(w's format), x
 * and w as BF16 chains, y F32 or BF16. */
int64_t fj_gpu_skinny_rows(fj_dtype w);
bool fj_gpu_skinny(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y,
                   float scale, const fj_grows *old, const fj_gpair *more, fj_err *e);
/* y[i] = x w[i]^T of several weights, in as few kernels as possible; m, x, w and y as there. */
bool fj_gpu_skinny_many(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                        const fj_grows *y, fj_err *e);
/* few.cu: the same on sm_90a, of up to FJ_FEW_MANY weights of one format and one k (old and more: of the
 * only one); *done is false without an error when it is not for them or this GPU.  Weights may be read
 * before the kernels in front have ended (FJ_LAUNCH_EARLY): whoever changes weights by a kernel has another
 * kernel between, launched otherwise.  old and more are read after. */
enum { FJ_FEW_MANY = 4 };
bool fj_gpu_few(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                const fj_grows *y, float scale, const fj_grows *old, const fj_gpair *more,
                bool *done, fj_err *e);

#endif
