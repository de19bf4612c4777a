/* dequant.cu - weights of any format as BF16 or F32.  A thread makes eight neighbours at a time and writes
 * them at once; those of a block lie in one block, and rows are whole blocks, so rows do not matter. */
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/kquant.cuh"

enum { THREADS = 256, BLOCKS = 1 << 16 };

/* Eight values from 8 * i on.  Blocks are aligned to as much as their size, so they are read in halves
 * of words (or bytes, MXFP4). */
static __device__ __forceinline__ void eight(const float *p, int64_t i, float *v) {
    load8(p + 8 * i, v);
}
static __device__ __forceinline__ void eight(const bf16 *p, int64_t i, float *v) {
    load8(p + 8 * i, v);
}
typedef struct half {
    uint16_t u;
} half;
static __device__ __forceinline__ void eight(const half *p, int64_t i, float *v) {
    uint4 a = *(const uint4 *)(p + 8 * i);
    uint32_t w[4] = { a.x, a.y, a.z, a.w };
    for (int j = 0; j < 8; j++) v[j] = f16_f32((uint16_t)(w[j / 2] >> j % 2 * 16));
}
static __device__ __forceinline__ void eight(const fj_q8_0 *p, int64_t i, float *v) {
    const uint16_t *b = (const uint16_t *)(p + i / 4);
    float d = f16_f32(b[0]);
    b += 1 + i % 4 * 4;
    for (int j = 0; j < 4; j++) {
        uint32_t two = b[j];
        v[2 * j] = d * (float)(int8_t)(two & 0xff);
        v[2 * j + 1] = d * (float)(int8_t)(two >> 8);
    }
}
static __device__ __forceinline__ void eight(const fj_q4_0 *p, int64_t i, float *v) {
    const uint16_t *b = (const uint16_t *)(p + i / 4);
    float d = f16_f32(b[0]);
    int high = (int)(i % 4 / 2) * 4;
    b += 1 + i % 2 * 4;
    for (int j = 0; j < 4; j++) {
        uint32_t two = (uint32_t)b[j] >> high;
        v[2 * j] = d * (float)((int)(two & 15) - 8);
        v[2 * j + 1] = d * (float)((int)(two >> 8 & 15) - 8);
    }
}
static __device__ __forceinline__ void eight(const fj_mxfp4 *p, int64_t i, float *v) {
    const fj_mxfp4 *b = p + i / 4;
    const uint8_t *q = b->q + i % 2 * 8;
    int high = (int)(i % 4 / 2) * 4;
    float d = e8m0_half(b->e);
    for (int j = 0; j < 8; j++) {
        uint32_t n = (uint32_t)q[j] >> high;
        /* The nibble in the bits of a float is e2m1, 2^126 too small; twice the value is an integer. */
        v[j] = __uint_as_float((n & 7) << 22 | (n & 8) << 28) * 0x1p127f * d;
    }
}
/* Formats of which BF16 values are other than F32 ones: kquant.cuh. */
template <typename T, typename B>
static __device__ __forceinline__ void eight_as(const B *p, int64_t i, float *v) {
    eight(p, i, v);
}
template <typename T, typename W>
static __device__ __forceinline__ void large(const void *p, int64_t i, float *v) {
    typename W::raw r = W::fetch((const unsigned char *)p, 8 * i);
    if (sizeof(T) == 4) W::exact(r, 8 * i, v);
    else W::open(r, 8 * i, v);
}
template <typename T>
static __device__ __forceinline__ void eight_as(const fj_q4_k *p, int64_t i, float *v) {
    large<T, as_q4_k>(p, i, v);
}
template <typename T>
static __device__ __forceinline__ void eight_as(const fj_q6_k *p, int64_t i, float *v) {
    large<T, as_q6_k>(p, i, v);
}
template <typename T>
static __device__ __forceinline__ void eight_as(const fj_nf4 *p, int64_t i, float *v) {
    large<T, as_nf4>(p, i, v);
}
static __device__ __forceinline__ float single(const float *p) { return *p; }
static __device__ __forceinline__ float single(const bf16 *p) { return to_f32(*p); }
static __device__ __forceinline__ float single(const half *p) { return f16_f32(p->u); }
template <typename B> static __device__ __forceinline__ float single(const B *) { return 0; }

/* tail: of formats without blocks, the last n % 8 values. */
template <typename B, typename T>
static __global__ void __launch_bounds__(THREADS)
    unpack(T *out, const B *in, int64_t n, float scale) {
    int64_t step = (int64_t)gridDim.x * blockDim.x, i;
    for (i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n / 8; i += step) {
        float v[8];
        eight_as<T>(in, i, v);
        if (scale != 1)
            for (int j = 0; j < 8; j++) v[j] *= scale;
        store8(out + 8 * i, v);
    }
    if (i == n / 8)
        for (int64_t j = 8 * i; j < n; j++) out[j] = from_f32<T>(scale * single(in + j));
}

template <typename B>
static void launch(const fj_gpu *g, const fj_gmat *w, float scale, fj_dtype to, void *out) {
    int64_t n = w->n * w->k;
    unsigned grid = grid_of(n / 8 + 1, THREADS, BLOCKS);
    const B *in = (const B *)w->data;
    if (to == FJ_BF16)
        FJ_LAUNCH((unpack<B, bf16>), grid, THREADS, 0, g->stream, (bf16 *)out, in, n, scale);
    else FJ_LAUNCH((unpack<B, float>), grid, THREADS, 0, g->stream, (float *)out, in, n, scale);
}

bool fj_gpu_unpack_scaled(const fj_gpu *g, const fj_gmat *w, float scale, fj_dtype to, void *out,
                          fj_err *e) {
    if (!w->n || !w->k) return true;
    switch (w->dtype) {
    case FJ_F32: launch<float>(g, w, scale, to, out); break;
    case FJ_F16: launch<half>(g, w, scale, to, out); break;
    case FJ_BF16: launch<bf16>(g, w, scale, to, out); break;
    case FJ_Q8_0: launch<fj_q8_0>(g, w, scale, to, out); break;
    case FJ_Q4_0: launch<fj_q4_0>(g, w, scale, to, out); break;
    case FJ_MXFP4: launch<fj_mxfp4>(g, w, scale, to, out); break;
    case FJ_Q4_K: launch<fj_q4_k>(g, w, scale, to, out); break;
    case FJ_Q6_K: launch<fj_q6_k>(g, w, scale, to, out); break;
    case FJ_NF4: launch<fj_nf4>(g, w, scale, to, out); break;
    default: return fj_fail(e, FJ_EUNSUP, "weights of %s on the GPU", fj_dtype_get(w->dtype)->name);
    }
    return launched("unpacking weights", e);
}

bool fj_gpu_unpack(const fj_gpu *g, const fj_gmat *w, fj_dtype to, void *out, fj_err *e) {
    return fj_gpu_unpack_scaled(g, w, 1, to, out, e);
}
