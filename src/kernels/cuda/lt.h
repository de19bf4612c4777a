/* lt.h - cuBLASLt, where it is: loaded at run time, so that no build needs it. */
#ifndef FJ_KERNELS_CUDA_LT_H
#define FJ_KERNELS_CUDA_LT_H

#include "kernels/cuda/gemm.cuh"

/* NULL: it cannot be had. */
struct fj_lt *fj_lt_open(void);
void fj_lt_close(struct fj_lt *lt); /* NULL is fine */

#endif
