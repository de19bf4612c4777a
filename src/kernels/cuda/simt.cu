/* simt.cu - products in F32: a block of 256 threads makes 64 x 64 of C, each 4 x 4, over the inner dimension in
 * steps of 16 in shared memory.  An output is one chain of FMAs from the first inner value to the last. */
#include "kernels/cuda/gemm.cuh"

enum { SIDE = 64, STEP = 16, THREADS = 256, ROW = SIDE + 4 };

/* part[k][i] = value k0 + k of row i0 + i along C's side; INNER: rows of inner values, else the
 * transpose of it.  Zeros beyond the ends. */
template <bool INNER>
__device__ __forceinline__ void load_part(float (*part)[ROW], const float *p, int64_t ld,
                                          int64_t i0, int64_t side, int64_t k0, int64_t inner) {
    for (int c = (int)threadIdx.x; c < SIDE * STEP; c += THREADS) {
        int k = INNER ? c % STEP : c / SIDE, i = INNER ? c / STEP : c % SIDE;
        int64_t at = INNER ? (i0 + i) * ld + k0 + k : (k0 + k) * ld + i0 + i;
        part[k][i] = i0 + i < side && k0 + k < inner ? p[at] : 0;
    }
}

typedef struct operands {
    const float *a, *b;
    int64_t lda, ldb, k;
} operands;

template <fj_gemm_kind KIND, typename T>
static __global__ void simt(int64_t m, int64_t n, operands first, operands second, T *c,
                            int64_t ldc, float scale, const T *old, int64_t ldold, float by) {
    __shared__ __align__(16) float as[STEP][ROW];
    __shared__ __align__(16) float bs[STEP][ROW];
    int64_t across = (n + SIDE - 1) / SIDE;
    int64_t m0 = blockIdx.x / across * SIDE, n0 = blockIdx.x % across * SIDE;
    int row = (int)threadIdx.x / 16 * 4, col = (int)threadIdx.x % 16 * 4;
    float d[4][4], first_sum[4][4]; /* with nt, of the first pair */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) d[i][j] = first_sum[i][j] = 0;
    bool apart = KIND == FJ_NT && second.k > 0;
    for (int two = 0; two < 2; two++) {
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                if (two && apart) first_sum[i][j] = d[i][j], d[i][j] = 0;
        const operands o = two ? second : first;
        for (int64_t k0 = 0; k0 < o.k; k0 += STEP) {
            __syncthreads();
            load_part<KIND != FJ_TN>(as, o.a, o.lda, m0, m, k0, o.k);
            load_part<KIND == FJ_NT>(bs, o.b, o.ldb, n0, n, k0, o.k);
            __syncthreads();
            for (int s = 0; s < STEP; s++) {
                float4 u = *(const float4 *)&as[s][row], v = *(const float4 *)&bs[s][col];
                float x[4] = { u.x, u.y, u.z, u.w }, y[4] = { v.x, v.y, v.z, v.w };
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < 4; j++) d[i][j] = fmaf(x[i], y[j], d[i][j]);
            }
        }
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int64_t r = m0 + row + i, at = n0 + col + j;
            if (r >= m || at >= n) continue;
            float s = apart ? first_sum[i][j] : d[i][j];
            T v = from_f32<T>(old ? fmaf(scale, s, to_f32(old[r * ldold + at])) : scale * s);
            c[r * ldc + at] = apart ? from_f32<T>(fmaf(by, d[i][j], to_f32(v))) : v;
        }
}

template <fj_gemm_kind KIND, typename T>
static bool launch(const fj_gpu *g, int64_t m, int64_t n, const operands *o, fj_grows c,
                   float scale, const fj_grows *old, float by, fj_err *e) {
    int64_t tiles = (m + SIDE - 1) / SIDE * ((n + SIDE - 1) / SIDE);
    FJ_LAUNCH((simt<KIND, T>), (unsigned)tiles, THREADS, 0, g->stream, m, n, o[0], o[1],
              (T *)c.data, c.ld, scale, old ? (const T *)old->data : NULL, old ? old->ld : 0, by);
    return launched("a product in F32", e);
}

bool fj_gpu_simt(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                 const float *a, int64_t lda, const float *b, int64_t ldb, fj_grows c, float scale,
                 const fj_grows *old, const fj_gpair *more, fj_err *e) {
    if (!m || !n) return true;
    operands o[2] = { { a, b, lda, ldb, k }, {} };
    if (more)
        o[1] = (operands){ (const float *)more->a, (const float *)more->b, more->lda, more->ldb,
                           more->k };
#define KIND(K)                                                                                    \
    (c.dtype == FJ_BF16 ? launch<K, bf16>(g, m, n, o, c, scale, old, more ? more->by : 0, e)       \
                        : launch<K, float>(g, m, n, o, c, scale, old, more ? more->by : 0, e))
    return kind == FJ_NT ? KIND(FJ_NT) : kind == FJ_NN ? KIND(FJ_NN) : KIND(FJ_TN);
#undef KIND
}
