/* gemm.cuh - products of rows with weights on a GPU, forward and both gradients.
 *
 *     fwd: y[m,n]  = (acc ? y : 0)  + scale * x[m,k] w[n,k]^T
 *     dx:  dx[m,k] = (acc ? dx : 0) + scale * dy[m,n] w[n,k]
 *     dw:  dw[n,k] = (acc ? dw : 0) + scale * dy[m,n]^T x[m,k]
 *
 * Rows (x, dy, y, dx) are F32 or BF16, ld values apart; dw is F32 without space between its rows; w is in
 * any format, rows as in files.  Addresses are the device's, aligned to 16 bytes; sizes are any, and 0
 * is nothing to do (dw of no rows is cleared unless acc).  Inputs and results do not overlap.
 *
 * Arithmetic.  g->f32, or rows of F32: everything in F32 (FMA), weights dequantised exactly.  Else rows and
 * weights are BF16 (weights of other formats are dequantised and rounded to BF16, F32 rows of an
 * operand that meets BF16 ones too), products are summed in F32 by tensor cores: ONE chain for each
 * output, over the inner dimension in steps of 16 from its beginning, zeros beyond its end; never split.
 * Then scale, the value that was there (in F32), one rounding.  So an output of fwd or dx depends on its
 * row and the weights alone, whichever kernel computes it: few rows (skinny), tiles (tile), or cuBLASLt
 * (lt.h).  dw sums pieces of a fixed number of rows, then the pieces in order. */
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
                bool acc, void *scratch, fj_err *e);
bool fj_gpu_dx(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows dx, float scale,
               bool acc, void *scratch, fj_err *e);
bool fj_gpu_dw(const fj_gpu *g, int64_t m, fj_grows dy, fj_grows x, float *dw, int64_t n, int64_t k,
               float scale, bool acc, void *scratch, fj_err *e);

/* ---- parts ---------------------------------------------------------------------------------------- */
/* dequant.cu: rows of any format as BF16 (or F32) rows without space between them. */
bool fj_gpu_unpack(const fj_gpu *g, const fj_gmat *w, fj_dtype to, void *out, fj_err *e);
/* skinny.cu: fwd of few rows, reading w's blocks as they are: m at most fj_gpu_skinny_rows(w's format),
 * x and w as BF16 chains, y F32 or BF16. */
int64_t fj_gpu_skinny_rows(fj_dtype w);
bool fj_gpu_skinny(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y,
                   float scale, bool acc, fj_err *e);
/* y[i] = x w[i]^T of several weights, in as few kernels as possible: m as above, g->f32 and rows of x that
 * are not BF16 are not for it. */
bool fj_gpu_skinny_many(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                        const fj_grows *y, fj_err *e);
/* few.cu: the same on sm_90a, of up to FJ_FEW_MANY weights of one format and one k; false without an error
 * when it is not for them or this GPU.  The weights may be read before the kernels in front have ended
 * (FJ_LAUNCH_EARLY): whoever changes weights by a kernel has another kernel between, launched otherwise. */
enum { FJ_FEW_MANY = 4 };
bool fj_gpu_few(const fj_gpu *g, int64_t m, fj_grows x, int count, const fj_gmat *w,
                const fj_grows *y, float scale, bool acc, bool *done, fj_err *e);
/* tile.cu: C[m,n] = (acc ? C : 0) + scale * op(A) op(B), A and B of BF16, by mma.sync (any GPU from sm_80):
 * nt: A[m,k] B[n,k]^T; nn: A[m,k] B[k,n]; tn: A[k,m]^T B[k,n].  C: F32 or BF16. */
typedef enum fj_gemm_kind { FJ_NT, FJ_NN, FJ_TN } fj_gemm_kind;
bool fj_gpu_tile(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                 int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale, bool acc,
                 fj_err *e);
/* tn in F32, all pieces of the inner dimension at once, then added in their order: for few outputs.  parts:
 * m * n floats for each piece. */
bool fj_gpu_tile_pieces(const fj_gpu *g, int64_t m, int64_t n, int64_t k, const void *a,
                        int64_t lda, const void *b, int64_t ldb, float *c, float scale, bool acc,
                        int64_t piece, float *parts, fj_err *e);
/* The same on sm_90a by wgmma and bulk tensor copies (hopper.cu); false without an error when it is not
 * for these sizes or this GPU: then tile does it.  It can be called in captured streams. */
bool fj_gpu_hopper(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                   const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                   bool acc, bool *done, fj_err *e);
/* simt.cu: the same in F32: A, B, C of F32. */
bool fj_gpu_simt(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                 const float *a, int64_t lda, const float *b, int64_t ldb, fj_grows c, float scale,
                 bool acc, fj_err *e);

#endif
