/* quant.h - rows of floats to the block formats of GGUF, with the least squares that a search finds.
 *
 * The aim is sum of importance * (value - quantised)^2 over the row, which is what tests/interop/test_quant.py
 * compares with ggml's quantisers.  Scales are searched for by kernels (quant.inc), so that bytes are the same on
 * every instruction set. */
#ifndef FJ_KERNELS_QUANT_H
#define FJ_KERNELS_QUANT_H

#include "base/dtype.h"
#include "kernels/kern.h"

/* The formats that fj_quant_rows makes: F32, F16, BF16, F64, NF4, MXFP4, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL and
 * IQ4_XS. */
bool fj_quant_can(fj_dtype t);

/* src [rows, cols] to dst, rows of t one after the other (fj_dtype_size); cols is whole blocks.
 * importance [cols], or NULL for all the same: what a squared error in a column counts, >= 0 and finite; what is
 * not counts as 0, and where a block has nothing but zeros all its columns count the same.  F32, F16, BF16, F64,
 * Q8_0 and NF4 take the nearest whatever it is.
 * A value that is not finite counts as 0, one over 1e10 as that; scales end at 65504.  No memory but the stack; any
 * thread may call, and rows do not depend on each other. */
void fj_quant_rows(const fj_kern *kern, fj_dtype t, const float *src, const float *importance,
                   void *dst, int64_t rows, int64_t cols);

#endif
