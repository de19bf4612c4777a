/* few_sums.cuh - what a warp of few.cu multiplies and where the sums go. */
#ifndef FJ_KERNELS_CUDA_FEW_SUMS_CUH
#define FJ_KERNELS_CUDA_FEW_SUMS_CUH

#include "kernels/cuda/few_plan.cuh"
#include "kernels/cuda/sigmoid.cuh"

#ifdef FJ_SM90
/* Values k and k + 1 of a row of the second pair. */
__device__ __forceinline__ uint32_t two_of(const few_plan &p, const bf16 *rows, int64_t ld,
                                           int64_t row, int64_t count, int k) {
    if (row >= count || k >= p.k2) return 0;
    const bf16 *at = rows + row * ld + k;
    if (p.pairs2) return *(const uint32_t *)at;
    return at[0].u | (k + 1 < p.k2 ? (uint32_t)at[1].u << 16 : 0);
}

/* A warp's sums.  Usually rows of x are A, and 8 rows g of the weight B; 16 rows of the weight with at most 8
 * of x are the other way round: half as many products, and no operand that is there twice. */
template <int MT, int G> struct sums {
    enum {
        TURNED = MT == 0 && G == 2,
        M = MT ? MT : 1,
        ALL = TURNED ? 4 : M * G * 4, /* values of a thread */
        UP = TURNED ? 2 : 4           /* from a value of g = 0 to that of g = 1 */
    };
    float v[ALL];
    __device__ __forceinline__ void clear() {
        FJ_UNROLL
        for (int i = 0; i < ALL; i++) v[i] = 0;
    }
    /* Row of x, g, and row of the 8 of the weight, of value i; whether it counts. */
    static __device__ __forceinline__ int row(int i) {
        return TURNED ? lane_of() % 4 * 2 + i % 2
                      : i / (4 * G) * 16 + lane_of() / 4 + i % 4 / 2 * 8;
    }
    static __device__ __forceinline__ int g(int i) { return TURNED ? i / 2 : i / 4 % G; }
    static __device__ __forceinline__ int col(int i) {
        return TURNED ? lane_of() / 4 : lane_of() % 4 * 2 + i % 2;
    }
    static __device__ __forceinline__ bool counts(int i) { return MT || TURNED || i % 4 < 2; }

    /* One step of 16: b: of the weight; a: of x, of tile i; x in the lower 8 rows alone: a[0] and a[1]. */
    __device__ __forceinline__ void multiply(int i, const uint32_t *a, const uint32_t (*b)[2]) {
        if (TURNED) {
            uint32_t w[4] = { b[0][0], b[G - 1][0], b[0][1], b[G - 1][1] };
            mma_bf16(v, w, a);
        } else {
            uint32_t twice[4] = { a[0], a[0], a[1], a[1] };
            FJ_UNROLL
            for (int g = 0; g < G; g++) mma_bf16(v + (i * G + g) * 4, MT ? a : twice, b[g]);
        }
    }

    /* The product of the second pair; from: the first of the 8 rows g of the weight. */
    __device__ __forceinline__ void more(const few_plan &p, const int64_t *from) {
        FJ_ROLLED
        for (int k = 0; k < p.k2; k += 16) {
            int at = k + lane_of() % 4 * 2;
            uint32_t b[G][2], a[4];
            FJ_UNROLL
            for (int i = 0; i < 2 * G; i++)
                b[i / 2][i % 2] =
                    two_of(p, p.w2, p.ldw2, from[i / 2] + lane_of() / 4, p.n[0], at + i % 2 * 8);
            FJ_UNROLL
            for (int i = 0; i < M; i++) {
                FJ_UNROLL
                for (int j = 0; j < (MT ? 4 : 2); j++)
                    a[j] = two_of(p, p.x2, p.ldx2, i * 16 + lane_of() / 4 + (MT ? j % 2 * 8 : 0),
                                  p.m, at + (MT ? j / 2 : j) * 8);
                multiply(i, a, b);
            }
        }
    }

    /* What is added to value i. */
    static __device__ __forceinline__ float old(const few_plan &p, const int64_t *from, int i) {
        int64_t n = from[g(i)] + col(i), at = row(i) * p.old.ld + n;
        if (!p.old.data || !counts(i) || row(i) >= p.m || n >= p.n[0]) return 0;
        return p.old.dtype == FJ_F32 ? ((const float *)p.old.data)[at]
                                     : to_f32(((const bf16 *)p.old.data)[at]);
    }

    /* EARLY: olds were read before. */
    template <bool EARLY>
    __device__ __forceinline__ void put(const few_plan &p, int which, const int64_t *from,
                                        const float *olds) {
        sums m;
        fj_grows y = p.y[which];
        m.clear();
        if (p.k2) m.more(p, from);
        FJ_UNROLL
        for (int i = 0; i < ALL; i++) {
            int64_t n = from[g(i)] + col(i), at = row(i) * y.ld + n;
            if (!counts(i) || row(i) >= p.m || n >= p.n[which]) continue;
            float u = p.scale * v[i];
            if (p.old.data) u = __fmaf_rn(p.scale, v[i], EARLY ? olds[i] : old(p, from, i));
            if (y.dtype == FJ_F32) {
                if (p.k2) u = __fmaf_rn(p.by, m.v[i], u);
                ((float *)y.data)[at] = u;
            } else {
                if (p.k2) u = __fmaf_rn(p.by, m.v[i], to_f32(to_bf16(u)));
                ((bf16 *)y.data)[at] = to_bf16(u);
            }
        }
    }

    /* g: 0: of gate, 1: of up. */
    __device__ __forceinline__ void put_swiglu(const few_plan &p, int64_t from) {
        fj_grows y = p.y[0];
        FJ_UNROLL
        for (int i = 0; i < ALL; i++) {
            int64_t n = from + col(i);
            if (g(i) || !counts(i) || row(i) >= p.m || n >= p.n[0]) continue;
            float gate = to_f32(to_bf16(v[i])), up = to_f32(to_bf16(v[(i + UP) % ALL]));
            ((bf16 *)y.data)[row(i) * y.ld + n] = to_bf16(gate * sigmoid<bf16>(gate) * up);
        }
    }
};

/* Operands of step s of the c-th 64 values of k in a stage; at: where this lane reads x in it.  At most 8
 * rows: of two steps, for an even s. */
template <int MT> struct rows_of_x {
    enum { M = MT ? MT : 1 };
    uint32_t a[M][4];
    static __device__ __forceinline__ int lane() {
        int row = lane_of() % (MT ? 16 : 8), piece = lane_of() / (MT ? 16 : 8);
        return row * 128 + ((piece ^ row % 8) << 4);
    }
    __device__ __forceinline__ void load(uint32_t at, int c, int s) {
        FJ_UNROLL
        for (int i = 0; i < M; i++)
            matrices_x4(a[i], (at + (c * ROWS_OF_X(MT) + i * 16) * 128) ^ (s * 32));
    }
    template <int G>
    __device__ __forceinline__ void multiply(sums<MT, G> &d, const uint32_t (*b)[4][2],
                                             int s) const {
        uint32_t w[G][2];
        FJ_UNROLL
        for (int g = 0; g < 2 * G; g++) w[g / 2][g % 2] = b[g / 2][s][g % 2];
        FJ_UNROLL
        for (int i = 0; i < M; i++) d.multiply(i, a[i] + (MT ? 0 : s % 2 * 2), w);
    }
};
#endif

#endif
