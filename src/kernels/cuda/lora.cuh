/* lora.cuh - adapters of some rows each, all at once (ops/lora_rows.c): two kernels for a whole batch.
 *
 *     down: t[rows of p, p.col + i] = x A_p^T           up: y[rows of p] += scale_p * t B_p^T
 *
 * Bits: those of fj_gpu_fwd for each part (gemm.cuh).  Rows of different parts are different, or parts have
 * different columns of t.  Few rows to a part are as fast as A and B are read; down has a chain of k / 16
 * products that wait for each other, so it is best put before a kernel that can begin meanwhile. */
#ifndef FJ_KERNELS_CUDA_LORA_CUH
#define FJ_KERNELS_CUDA_LORA_CUH

#include "kernels/cuda/gemm.cuh"

typedef struct fj_lora_part {
    fj_dtype dtype; /* of w: F32 or BF16 */
    const void *w;  /* down: A [r, k]; up: B [n, r] */
    int64_t row0, rows, r, col;
    float scale;
} fj_lora_part;

bool fj_gpu_lora_down(const fj_gpu *g, fj_grows x, int64_t k, int count, const fj_lora_part *p,
                      fj_grows t, fj_err *e);
bool fj_gpu_lora_up(const fj_gpu *g, fj_grows t, int count, const fj_lora_part *p, fj_grows y,
                    int64_t n, fj_err *e);

#endif
