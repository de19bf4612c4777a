/* gemm.cu - which kernel makes a product, and what has to be unpacked before (gemm.cuh). */
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/lt.h"

enum {
    THREADS = 256,
    PIECE = 2048, /* rows of a piece of dw */
    FEW = 96,     /* tiles of 128 x 128 that leave most of a GPU idle */
};

static size_t round64(int64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }
static bool is(fj_grows r, fj_dtype t) { return r.dtype == t; }

/* ---- rows in another format, without space between them ------------------------------------------- */
template <typename I, typename O>
static __global__ void convert(O *out, const I *in, int64_t ld, int64_t cols, int64_t n) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        out[i] = from_f32<O>(to_f32(in[i / cols * ld + i % cols]));
}

/* r becomes rows of type t; *scratch is what they take of it, if anything. */
static bool rows_as(const fj_gpu *g, fj_grows *r, int64_t m, int64_t cols, fj_dtype t,
                    char **scratch, fj_err *e) {
    if (is(*r, t) || !m || !cols) return true;
    unsigned grid = grid_of(m * cols, THREADS, 1 << 16);
    void *to = *scratch;
    if (t == FJ_F32)
        FJ_LAUNCH((convert<bf16, float>), grid, THREADS, 0, g->stream, (float *)to,
                  (const bf16 *)r->data, r->ld, cols, m * cols);
    else
        FJ_LAUNCH((convert<float, bf16>), grid, THREADS, 0, g->stream, (bf16 *)to,
                  (const float *)r->data, r->ld, cols, m * cols);
    *scratch += round64(m * cols * (t == FJ_F32 ? 4 : 2));
    *r = (fj_grows){ t, to, cols };
    return launched("a change of format", e);
}

static bool weight_as(const fj_gpu *g, const fj_gmat *w, fj_dtype t, char *scratch, const void **p,
                      fj_err *e) {
    *p = w->dtype == t ? w->data : scratch;
    return w->dtype == t || fj_gpu_unpack(g, w, t, scratch, e);
}

/* Bytes that rows and weight take when the product is in F32 (or in BF16). */
static size_t unpacked(int64_t m, int64_t cols, const fj_gmat *w, fj_dtype rows, fj_dtype in) {
    int64_t size = in == FJ_F32 ? 4 : 2;
    return (rows == in ? 0 : round64(m * cols * size)) +
           (w->dtype == in ? 0 : round64(w->n * w->k * size));
}

/* ---- products of BF16 ------------------------------------------------------------------------------ */
static bool own(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale, bool acc,
                fj_err *e) {
    bool done = false;
    fj_err why = {};
    bool ok = fj_gpu_hopper(g, kind, m, n, k, a, lda, b, ldb, c, scale, acc, &done, &why);
    if (!ok && why.code != FJ_OK) return fj_fail(e, why.code, "%s", why.msg);
    if (done) return true;
    return fj_gpu_tile(g, kind, m, n, k, a, lda, b, ldb, c, scale, acc, e);
}

static bool bf16_product(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                         const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c,
                         float scale, bool acc, fj_err *e) {
    bool done = false;
    if (g->lt) {
        if (!fj_lt_gemm(g, kind, m, n, k, a, lda, b, ldb, c, scale, acc, &done, e)) return false;
        if (done) return true;
    }
    return own(g, kind, m, n, k, a, lda, b, ldb, c, scale, acc, e);
}

/* ---- fwd and dx -------------------------------------------------------------------------------------- */
size_t fj_gpu_fwd_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32) {
    if (f32 || rows == FJ_F32) return unpacked(m, w->k, w, rows, FJ_F32);
    if (m <= fj_gpu_skinny_rows(w->dtype)) return 0;
    return unpacked(m, w->k, w, rows, FJ_BF16);
}

size_t fj_gpu_dx_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32) {
    return unpacked(m, w->n, w, rows, f32 || rows == FJ_F32 ? FJ_F32 : FJ_BF16);
}

/* y[m, n] of x[m, k] and w, whose rows (nt) or columns (nn) are k long. */
static bool product(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, fj_grows x,
                    const fj_gmat *w, fj_grows y, float scale, bool acc, void *scratch, fj_err *e) {
    if (!m || !n) return true;
    char *room = (char *)scratch;
    const void *p;
    fj_dtype in = g->f32 || is(x, FJ_F32) ? FJ_F32 : FJ_BF16;
    if (!rows_as(g, &x, m, k, in, &room, e) || !weight_as(g, w, in, room, &p, e)) return false;
    if (in == FJ_F32)
        return fj_gpu_simt(g, kind, m, n, k, (const float *)x.data, x.ld, (const float *)p, w->k, y,
                           scale, acc, e);
    return bf16_product(g, kind, m, n, k, x.data, x.ld, p, w->k, y, scale, acc, e);
}

bool fj_gpu_fwd(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y, float scale,
                bool acc, void *scratch, fj_err *e) {
    if (m && w->n && w->k && !g->f32 && is(x, FJ_BF16) && m <= fj_gpu_skinny_rows(w->dtype))
        return fj_gpu_skinny(g, m, x, w, y, scale, acc, e);
    return product(g, FJ_NT, m, w->n, w->k, x, w, y, scale, acc, scratch, e);
}

bool fj_gpu_dx(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows dx, float scale,
               bool acc, void *scratch, fj_err *e) {
    return product(g, FJ_NN, m, w->k, w->n, dy, w, dx, scale, acc, scratch, e);
}

/* ---- dw ------------------------------------------------------------------------------------------- */
static bool few(int64_t m, int64_t n, int64_t k) {
    return m > PIECE && ((n + 127) / 128) * ((k + 127) / 128) <= FEW;
}

/* rows: BF16 when both dy and x are. */
size_t fj_gpu_dw_scratch(int64_t m, int64_t n, int64_t k, fj_dtype rows, bool f32) {
    if (f32) return rows == FJ_F32 ? 0 : round64(m * n * 4) + round64(m * k * 4);
    return (rows == FJ_BF16 ? 0 : round64(m * FJ_MAX(n, k) * 2)) +
           (few(m, n, k) ? round64((m + PIECE - 1) / PIECE * n * k * 4) : 0);
}

bool fj_gpu_dw(const fj_gpu *g, int64_t m, fj_grows dy, fj_grows x, float *dw, int64_t n, int64_t k,
               float scale, bool acc, void *scratch, fj_err *e) {
    if (!n || !k) return true;
    fj_grows c = { FJ_F32, dw, k };
    if (!m) {
        if (!acc) cudaMemsetAsync(dw, 0, (size_t)(n * k) * sizeof(float), g->stream);
        return launched("clearing a gradient", e);
    }
    char *room = (char *)scratch;
    fj_dtype in = g->f32 || (is(dy, FJ_F32) && is(x, FJ_F32)) ? FJ_F32 : FJ_BF16;
    if (!rows_as(g, &dy, m, n, in, &room, e) || !rows_as(g, &x, m, k, in, &room, e)) return false;
    if (in == FJ_BF16) {
        bool done = false;
        if (g->lt) {
            if (!fj_lt_gemm(g, FJ_TN, n, k, m, dy.data, dy.ld, x.data, x.ld, c, scale, acc, &done,
                            e))
                return false;
            if (done) return true;
        }
        if (few(m, n, k))
            return fj_gpu_tile_pieces(g, n, k, m, dy.data, dy.ld, x.data, x.ld, dw, scale, acc,
                                      PIECE, (float *)room, e);
    }
    int64_t size = in == FJ_F32 ? 4 : 2;
    for (int64_t r = 0; r < m; r += PIECE) {
        int64_t rows = FJ_MIN((int64_t)PIECE, m - r);
        const void *a = (const char *)dy.data + r * dy.ld * size;
        const void *b = (const char *)x.data + r * x.ld * size;
        bool more = acc || r > 0;
        if (in == FJ_F32 ? !fj_gpu_simt(g, FJ_TN, n, k, rows, (const float *)a, dy.ld,
                                        (const float *)b, x.ld, c, scale, more, e)
                         : !own(g, FJ_TN, n, k, rows, a, dy.ld, b, x.ld, c, scale, more, e))
            return false;
    }
    return true;
}
