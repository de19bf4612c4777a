/* part.cuh - operands of a tile in shared memory, and the fragments of mma_bf16 that are read from there: of tile.cu
 * and of ops/moe_linear.cu.
 *
 * A part lies as the operand does in memory, in chunks of 16 bytes that are permuted so that the eight rows of an
 * ldmatrix are in different banks:
 *   inner: rows of STEP values along the inner dimension (A of nt and nn, B of nt)
 *   outer: STEP rows of SIDE values along C's rows or columns (A of tn, B of nn and tn), read transposed */
#ifndef FJ_KERNELS_CUDA_PART_CUH
#define FJ_KERNELS_CUDA_PART_CUH

#include "kernels/cuda/mma.cuh"

enum { SIDE = 128, STEP = 32 };

/* Where chunk `part` of a row of a part lies. */
template <bool INNER> __device__ __forceinline__ int place(int row, int part) {
    return INNER ? row * (STEP * 2) + ((part ^ (row >> 1 & 3)) * 16)
                 : row * (SIDE * 2) + ((part ^ (row & 7)) * 16);
}

/* a[0..3] of the 16 x 16 at C's row `row` (of the tile) and inner value k. */
template <bool INNER>
__device__ __forceinline__ void load_a(uint32_t *a, const unsigned char *part, int row, int k,
                                       int lane) {
    if (INNER) ldmatrix_x4(a, part + place<true>(row + lane % 16, k / 8 + lane / 16));
    else
        ldmatrix_x4_trans(
            a, part + place<false>(k + lane % 8 + lane / 16 * 8, row / 8 + lane / 8 % 2));
}
/* b[0..1] of the columns from col on, b[2..3] of those from col + 8 on. */
template <bool INNER>
__device__ __forceinline__ void load_b(uint32_t *b, const unsigned char *part, int col, int k,
                                       int lane) {
    if (INNER)
        ldmatrix_x4(b, part + place<true>(col + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
    else ldmatrix_x4_trans(b, part + place<false>(k + lane % 16, col / 8 + lane / 16));
}

#endif
