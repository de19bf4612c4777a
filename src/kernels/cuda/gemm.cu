/* gemm.cu - which kernel makes a product, and what has to be unpacked before (gemm.cuh). */
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/lt.h"

enum {
    THREADS = 256,
    PIECE = 2048, /* rows of a piece of dw */
    FEW = 96,     /* tiles of 128 x 128 that leave most of a GPU idle */
    THIN = 64,    /* a side that does so too */
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

/* A weight times scale, as a matrix of type t; *scratch is what it takes of it, if anything. */
static bool weight_as(const fj_gpu *g, const fj_gmat *w, float scale, fj_dtype t, char **scratch,
                      const void **p, fj_err *e) {
    *p = w->data;
    if (w->dtype == t && scale == 1) return true;
    *p = *scratch;
    *scratch += round64(w->n * w->k * (t == FJ_F32 ? 4 : 2));
    return fj_gpu_unpack_scaled(g, w, scale, t, (void *)*p, e);
}

/* Bytes that rows and weight take when the product is in F32 (or in BF16). */
static size_t unpacked(int64_t m, int64_t cols, const fj_gmat *w, fj_dtype rows, fj_dtype in) {
    int64_t size = in == FJ_F32 ? 4 : 2;
    return (rows == in ? 0 : round64(m * cols * size)) +
           (w->dtype == in ? 0 : round64(w->n * w->k * size));
}
/* Of an adapter with its rows, `cols` in each. */
static size_t unpacked_adapter(int64_t m, int64_t cols, const fj_gmat *b, fj_dtype rows,
                               fj_dtype in) {
    int64_t size = in == FJ_F32 ? 4 : 2;
    return (rows == in ? 0 : round64(m * cols * size)) + round64(b->n * b->k * size);
}

/* ---- products of BF16 ------------------------------------------------------------------------------ */
static bool bf16_product(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k,
                         const void *a, int64_t lda, const void *b, int64_t ldb, fj_grows c,
                         float scale, const fj_grows *old, const fj_gpair *more, fj_err *e) {
    bool done = false;
    if (!fj_gpu_hopper(g, kind, m, n, k, a, lda, b, ldb, c, scale, old, more, &done, e))
        return false;
    if (!done && g->lt && !more &&
        !fj_lt_gemm(g, kind, m, n, k, a, lda, b, ldb, c, scale, old, &done, e))
        return false;
    return done || fj_gpu_tile(g, kind, m, n, k, a, lda, b, ldb, c, scale, old, more, e);
}

/* ---- fwd and dx -------------------------------------------------------------------------------------- */
static bool few_rows(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32) {
    return !f32 && rows == FJ_BF16 && w->k && m <= fj_gpu_skinny_rows(w->dtype);
}

static fj_dtype in_type(fj_dtype rows, bool f32) {
    return f32 || rows == FJ_F32 ? FJ_F32 : FJ_BF16;
}

size_t fj_gpu_fwd_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32) {
    return few_rows(m, w, rows, f32) ? 0 : unpacked(m, w->k, w, rows, in_type(rows, f32));
}

size_t fj_gpu_dx_scratch(int64_t m, const fj_gmat *w, fj_dtype rows, bool f32) {
    return unpacked(m, w->n, w, rows, in_type(rows, f32));
}

size_t fj_gpu_fwd2_scratch(int64_t m, const fj_gmat *w, const fj_gmat *b, fj_dtype rows, bool f32) {
    return fj_gpu_fwd_scratch(m, w, rows, f32) +
           unpacked_adapter(m, b->k, b, rows, in_type(rows, f32));
}

size_t fj_gpu_dx2_scratch(int64_t m, const fj_gmat *w, const fj_gmat *a, fj_dtype rows, bool f32) {
    return fj_gpu_dx_scratch(m, w, rows, f32) +
           unpacked_adapter(m, a->n, a, rows, in_type(rows, f32));
}

/* An adapter's operands: its rows t, `cols` in each, and b times scale. */
static bool adapter(const fj_gpu *g, int64_t m, int64_t cols, fj_grows t, const fj_gmat *b,
                    float scale, fj_dtype in, char **scratch, fj_gpair *more, fj_err *e) {
    if (!rows_as(g, &t, m, cols, in, scratch, e) ||
        !weight_as(g, b, scale, in, scratch, &more->b, e))
        return false;
    more->a = t.data, more->lda = t.ld, more->ldb = b->k, more->k = cols, more->by = 1;
    return true;
}

/* y[m, n] of x[m, k] and w, whose rows (nt) or columns (nn) are k long. */
static bool product(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, fj_grows x,
                    const fj_gmat *w, fj_grows y, float scale, const fj_grows *old,
                    const fj_gpair *more, char *scratch, fj_err *e) {
    const void *p;
    fj_dtype in = in_type(x.dtype, g->f32);
    if (!rows_as(g, &x, m, k, in, &scratch, e) || !weight_as(g, w, 1, in, &scratch, &p, e))
        return false;
    if (in == FJ_F32)
        return fj_gpu_simt(g, kind, m, n, k, (const float *)x.data, x.ld, (const float *)p, w->k, y,
                           scale, old, more, e);
    return bf16_product(g, kind, m, n, k, x.data, x.ld, p, w->k, y, scale, old, more, e);
}

bool fj_gpu_fwd(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows y, float scale,
                const fj_grows *old, void *scratch, fj_err *e) {
    if (!m || !w->n) return true;
    if (few_rows(m, w, x.dtype, g->f32)) return fj_gpu_skinny(g, m, x, w, y, scale, old, NULL, e);
    return product(g, FJ_NT, m, w->n, w->k, x, w, y, scale, old, NULL, (char *)scratch, e);
}

bool fj_gpu_dx(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows dx, float scale,
               const fj_grows *old, void *scratch, fj_err *e) {
    if (!m || !w->k) return true;
    return product(g, FJ_NN, m, w->k, w->n, dy, w, dx, scale, old, NULL, (char *)scratch, e);
}

bool fj_gpu_fwd2(const fj_gpu *g, int64_t m, fj_grows x, const fj_gmat *w, fj_grows t,
                 const fj_gmat *b, float scale, fj_grows y, const fj_grows *old, void *scratch,
                 fj_err *e) {
    char *room = (char *)scratch;
    fj_gpair more;
    if (!m || !w->n) return true;
    if (!adapter(g, m, b->k, t, b, 1, in_type(x.dtype, g->f32), &room, &more, e)) return false;
    more.by = scale;
    if (few_rows(m, w, x.dtype, g->f32)) return fj_gpu_skinny(g, m, x, w, y, 1, old, &more, e);
    return product(g, FJ_NT, m, w->n, w->k, x, w, y, 1, old, &more, room, e);
}

bool fj_gpu_dx2(const fj_gpu *g, int64_t m, fj_grows dy, const fj_gmat *w, fj_grows t,
                const fj_gmat *a, float scale, fj_grows dx, const fj_grows *old, void *scratch,
                fj_err *e) {
    char *room = (char *)scratch;
    fj_gpair more;
    if (!m || !w->k) return true;
    if (!adapter(g, m, a->n, t, a, scale, in_type(dy.dtype, g->f32), &room, &more, e)) return false;
    return product(g, FJ_NN, m, w->k, w->n, dy, w, dx, 1, old, &more, room, e);
}

/* ---- dw ------------------------------------------------------------------------------------------- */
/* So few outputs that pieces are summed at once, and then added in their order. */
static bool few(int64_t m, int64_t n, int64_t k) {
    return m > PIECE && (((n + 127) / 128) * ((k + 127) / 128) <= FEW || FJ_MIN(n, k) <= THIN);
}
static int64_t pieces_of(int64_t m) { return (m + PIECE - 1) / PIECE; }

/* part[i][rows][cols] of piece i, stride values apart; turned: c is their transpose. */
static __global__ void add_pieces(float *c, const float *part, int64_t rows, int64_t cols,
                                  int64_t stride, int64_t pieces, float scale, bool acc,
                                  bool turned) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * cols; i += step) {
        float *to = c + (turned ? i % cols * rows + i / cols : i);
        float s = acc ? fmaf(scale, part[i], *to) : scale * part[i];
        for (int64_t j = 1; j < pieces; j++) s = fmaf(scale, part[j * stride + i], s);
        *to = s;
    }
}

/* dw in pieces; parts: room for all of them. */
static bool dw_pieces(const fj_gpu *g, int64_t m, fj_grows dy, fj_grows x, float *dw, int64_t n,
                      int64_t k, float scale, bool acc, float *parts, fj_err *e) {
    bool done = false, turned = n > k; /* the smaller side first */
    fj_grows a = turned ? x : dy, b = turned ? dy : x;
    int64_t rows = turned ? k : n, cols = turned ? n : k, apart = fj_gpu_hopper_apart(rows);
    if (!fj_gpu_hopper_pieces(g, rows, cols, m, a.data, a.ld, b.data, b.ld, PIECE, parts, &done, e))
        return false;
    if (!done) {
        apart = rows;
        if (!fj_gpu_tile_pieces(g, rows, cols, m, a.data, a.ld, b.data, b.ld, PIECE, parts, e))
            return false;
    }
    FJ_LAUNCH(add_pieces, grid_of(n * k, THREADS, 1 << 16), THREADS, 0, g->stream, dw, parts, rows,
              cols, apart * cols, pieces_of(m), scale, acc, turned);
    return launched("a product", e);
}

/* rows: BF16 when both dy and x are. */
size_t fj_gpu_dw_scratch(int64_t m, int64_t n, int64_t k, fj_dtype rows, bool f32) {
    if (f32) return rows == FJ_F32 ? 0 : round64(m * n * 4) + round64(m * k * 4);
    return (rows == FJ_BF16 ? 0 : round64(m * FJ_MAX(n, k) * 2)) +
           (few(m, n, k)
                ? round64(pieces_of(m) * fj_gpu_hopper_apart(FJ_MIN(n, k)) * FJ_MAX(n, k) * 4)
                : 0);
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
        const fj_grows *old = acc ? &c : NULL;
        if (few(m, n, k)) return dw_pieces(g, m, dy, x, dw, n, k, scale, acc, (float *)room, e);
        if (!fj_gpu_hopper(g, FJ_TN, n, k, m, dy.data, dy.ld, x.data, x.ld, c, scale, old, NULL,
                           &done, e))
            return false;
        if (!done && g->lt &&
            !fj_lt_gemm(g, FJ_TN, n, k, m, dy.data, dy.ld, x.data, x.ld, c, scale, old, &done, e))
            return false;
        if (done) return true;
    }
    int64_t size = in == FJ_F32 ? 4 : 2;
    for (int64_t r = 0; r < m; r += PIECE) {
        int64_t rows = FJ_MIN((int64_t)PIECE, m - r);
        const void *a = (const char *)dy.data + r * dy.ld * size;
        const void *b = (const char *)x.data + r * x.ld * size;
        const fj_grows *old = acc || r > 0 ? &c : NULL;
        if (in == FJ_F32
                ? !fj_gpu_simt(g, FJ_TN, n, k, rows, (const float *)a, dy.ld, (const float *)b,
                               x.ld, c, scale, old, NULL, e)
                : !fj_gpu_tile(g, FJ_TN, n, k, rows, a, dy.ld, b, x.ld, c, scale, old, NULL, e))
            return false;
    }
    return true;
}
