/* moe_f32.cuh - moe_linear's products of F32 rows: one chain by FMA for each output, tiles of 64 x 64, a thread
 * for 4 x 4 of it. */
#ifndef FJ_OPS_MOE_F32_CUH
#define FJ_OPS_MOE_F32_CUH

#include "ops/moe_tile.cuh"

enum { SMALL = 64, DEPTH = 16, PITCH = SMALL + 4 };

/* sum[a][b] += as[.][4 * y + a] * bs[.][4 * x + b], one value of the inner dimension after the other. */
static __device__ __forceinline__ void multiply(float (*sum)[4], const float *as, const float *bs) {
    int x = (int)threadIdx.x % 16 * 4, y = (int)threadIdx.x / 16 * 4;
    UNROLL for (int k = 0; k < DEPTH; k++) {
        float4 u = *(const float4 *)(as + k * PITCH + y), v = *(const float4 *)(bs + k * PITCH + x);
        float p[4] = { u.x, u.y, u.z, u.w }, q[4] = { v.x, v.y, v.z, v.w };
        UNROLL for (int a = 0; a < 4; a++) UNROLL for (int b = 0; b < 4; b++) sum[a][b] =
            fmaf(p[a], q[b], sum[a][b]);
    }
}

template <class W, bool INNER> static __global__ void __launch_bounds__(THREADS) simt(const job j) {
    __shared__ float4 shared[2][DEPTH * PITCH / 4];
    float *as = (float *)shared[0], *bs = (float *)shared[1];
    int64_t wide = (j.outer + SMALL - 1) / SMALL, out = blockIdx.x % wide * SMALL;
    const float *x = (const float *)j.x;
    int t = (int)threadIdx.x;
    group g;
    if (!group_of(j.start, j.experts, SMALL, blockIdx.x / wide, &g)) return;
    int64_t end = g.from + SMALL < g.end ? g.from + SMALL : g.end;
    matrix m = weight_of(j, g.e);
    float sum[4][4] = { { 0 } };
    for (int64_t in = 0; in < j.inner; in += DEPTH) {
        for (int i = t; i < SMALL * DEPTH; i += THREADS) {
            int64_t s = g.from + i / DEPTH, k = in + i % DEPTH;
            as[i % DEPTH * PITCH + i / DEPTH] = s < end && k < j.inner ? x[s * j.inner + k] : 0;
        }
        if (t <
            SMALL * DEPTH / 8) { /* eights of the weight: along the inner dimension, or across */
            int r = INNER ? t / (DEPTH / 8) : t / (SMALL / 8);
            int c = INNER ? t % (DEPTH / 8) * 8 : t % (SMALL / 8) * 8;
            int64_t row = (INNER ? out : in) + r, col = (INNER ? in : out) + c;
            float v[8];
            if (j.w_chunks && row < m.rows && col < m.cols)
                open_exact<W>(W::fetch(m.p + row * m.row_bytes, col), col, v);
            else if (j.w_chunks) UNROLL for (int k = 0; k < 8; k++) v[k] = 0;
            else open_part<W>(m, row, col, v);
            for (int k = 0; k < 8; k++) bs[INNER ? (c + k) * PITCH + r : r * PITCH + c + k] = v[k];
        }
        __syncthreads();
        multiply(sum, as, bs);
        __syncthreads();
    }
    for (int a = 0; a < 4; a++) {
        int64_t s = g.from + t / 16 * 4 + a;
        if (s >= end) continue;
        bool want = wanted(j, s);
        for (int b = 0; b < 4; b++) {
            int64_t c = out + t % 16 * 4 + b;
            if (c < j.outer) put<float>(j, s * j.outer + c, sum[a][b], want);
        }
    }
}

static __global__ void __launch_bounds__(THREADS) simt_dw(const dw_job j) {
    __shared__ float4 shared[2][DEPTH * PITCH / 4];
    float *as = (float *)shared[0], *bs = (float *)shared[1];
    const float *dy = (const float *)j.dy, *x = (const float *)j.x;
    int64_t wide = (j.k + SMALL - 1) / SMALL, tiles = wide * ((j.n + SMALL - 1) / SMALL);
    int64_t e = blockIdx.x / tiles, n0 = blockIdx.x % tiles / wide * SMALL,
            k0 = blockIdx.x % wide * SMALL, end = j.start[e + 1];
    float sum[4][4] = { { 0 } };
    for (int64_t from = j.start[e]; from < end; from += DEPTH) {
        for (int i = (int)threadIdx.x; i < SMALL * DEPTH; i += THREADS) {
            int64_t s = from + i / SMALL, n = n0 + i % SMALL, k = k0 + i % SMALL;
            as[i / SMALL * PITCH + i % SMALL] = s < end && n < j.n ? dy[s * j.n + n] : 0;
            bs[i / SMALL * PITCH + i % SMALL] = s < end && k < j.k ? x[s * j.k + k] : 0;
        }
        __syncthreads();
        multiply(sum, as, bs);
        __syncthreads();
    }
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            int64_t r = n0 + threadIdx.x / 16 * 4 + a, c = k0 + threadIdx.x % 16 * 4 + b;
            if (r < j.n && c < j.k) j.dw[(e * j.n + r) * j.k + c] = j.scale * sum[a][b];
        }
}

#endif
