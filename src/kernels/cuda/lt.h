/* lt.h - products by cuBLASLt, when the library is there at run time (it is no part of a build).
 *
 * fwd and dx take, for each shape of weight, one algorithm that never splits the inner dimension, whatever
 * the number of rows is, so that a row has the same bits in any batch (gemm.cuh). */
#ifndef FJ_KERNELS_CUDA_LT_H
#define FJ_KERNELS_CUDA_LT_H

#include "kernels/cuda/gemm.cuh"

/* NULL: no library, or not one that is known.  Of the device that is current. */
struct fj_lt *fj_lt_open(void);
void fj_lt_close(struct fj_lt *lt); /* NULL is fine */

/* *done says whether it is for these sizes; when not, nothing was written and there is no error.  Uses
 * g->work.  A shape's first call may load code, so it is not to be captured. */
bool fj_lt_gemm(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                const fj_grows *old, bool *done, fj_err *e);

#endif
