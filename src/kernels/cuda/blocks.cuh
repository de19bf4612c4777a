/* blocks.cuh - values of weight formats, as fj_dequant_row has them (base/dtype.h). */
#ifndef FJ_KERNELS_CUDA_BLOCKS_CUH
#define FJ_KERNELS_CUDA_BLOCKS_CUH

#include "kernels/cuda/gpu.cuh"

__device__ __forceinline__ float f16_f32(uint16_t h) {
#ifdef FJ_PLAY
    return fj_f16_to_f32(h);
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
#endif
}

/* 2^(e - 128): fj_e8m0_half */
__device__ __forceinline__ float e8m0_half(uint8_t e) {
    return __uint_as_float(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* fj_e2m1_doubled of a nibble */
__device__ __forceinline__ int e2m1_doubled(int nibble) {
    int v = (int)(0x0c08060403020100u >> 8 * (nibble & 7)) & 15;
    return nibble & 8 ? -v : v;
}

/* Nibble i of a block of 32: low ones first. */
__device__ __forceinline__ int nibble_at(const uint8_t *q, int i) {
    return q[i & 15] >> (i & 16 ? 4 : 0) & 15;
}

/* Value i of a row, or of a block. */
__device__ __forceinline__ float f16_at(const uint16_t *row, int64_t i) { return f16_f32(row[i]); }
__device__ __forceinline__ float q8_0_at(const fj_q8_0 *b, int i) {
    return f16_f32(b->d) * (float)b->q[i];
}
__device__ __forceinline__ float q4_0_at(const fj_q4_0 *b, int i) {
    return f16_f32(b->d) * (float)(nibble_at(b->q, i) - 8);
}
__device__ __forceinline__ float mxfp4_at(const fj_mxfp4 *b, int i) {
    return e8m0_half(b->e) * (float)e2m1_doubled(nibble_at(b->q, i));
}

#endif
