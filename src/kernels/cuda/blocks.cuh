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
__device__ __forceinline__ float q4_k_at(const fj_q4_k *b, int i) {
    int j = i / 32, q = b->q[i / 64 * 32 + i % 32] >> j % 2 * 4 & 15;
    int scale = j < 4 ? b->s[j] & 63 : (b->s[j + 4] & 15) | b->s[j - 4] >> 6 << 4;
    int min = j < 4 ? b->s[j + 4] & 63 : b->s[j + 4] >> 4 | b->s[j] >> 6 << 4;
    float m = f16_f32(b->dmin) * (float)min;
    return __fmaf_rn(f16_f32(b->d) * (float)scale, (float)q, -m); /* the product is exact */
}
__device__ __forceinline__ float q6_k_at(const fj_q6_k *b, int i) {
    int j = i / 32, low = b->low[i / 128 * 64 + i % 64] >> j % 4 / 2 * 4 & 15,
        high = b->high[i / 128 * 32 + i % 32] >> j % 4 * 2 & 3;
    return f16_f32(b->d) * (float)b->scale[i / 16] * (float)((low | high << 4) - 32);
}

/* fj_nf4_code */
__device__ __forceinline__ float nf4_code(int nibble) {
    static const float code[16] = { -1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f };
    return code[nibble];
}
__device__ __forceinline__ float nf4_at(const fj_nf4 *b, int i) {
    return f16_f32(b->absmax) * nf4_code(b->q[i / 2] >> (i & 1 ? 0 : 4) & 15);
}

#endif
