/* attn_sinks.cu - the gradient of attention's sinks (attn.c): dz_h = -sum over rows r of exp(z_h - lse_rh) *
 * (dy_rh . y_rh).
 *
 * A warp owns a head in a piece of PIECE rows, several of which it takes at once where a head is narrow:
 * `lanes` for each.  Then a warp adds the pieces of a head: lanes take every 32nd in order, then lanes
 * pair up. */
#include "ops/op.cuh"

enum { THREADS = 256, PIECE = 16 };

template <typename T>
static __global__ void pieces(float *part, const float *z, const float *lse, const T *y,
                              const T *dy, int64_t rows, int heads, int hd, int lanes) {
    int lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP, t = lane % lanes;
    int64_t from = (int64_t)blockIdx.x * PIECE;
    for (int h = (int)threadIdx.x / WARP; h < heads; h += warps) {
        float sum = 0;
        for (int i = 0; i < PIECE; i += WARP / lanes) {
            int own = i + lane / lanes;
            int64_t r = from + own, at = (r * heads + h) * hd;
            bool there = own < PIECE && r < rows;
            float s = 0;
            if (there && hd % 8 == 0) {
                for (int c = t * 8; c < hd; c += lanes * 8) {
                    float u[8], v[8];
                    load8(y + at + c, u);
                    load8(dy + at + c, v);
                    for (int k = 0; k < 8; k++) s += u[k] * v[k];
                }
            } else if (there) {
                for (int c = t; c < hd; c += lanes) s += to_f32(y[at + c]) * to_f32(dy[at + c]);
            }
            for (int m = lanes / 2; m; m /= 2) s += __shfl_xor_sync(FULL_WARP, s, m);
            if (there) sum -= expf(z[h] - lse[r * heads + h]) * s;
        }
        for (int m = lanes; m < WARP; m *= 2) sum += __shfl_xor_sync(FULL_WARP, sum, m);
        if (lane == 0) part[(int64_t)blockIdx.x * heads + h] = sum;
    }
}

static __global__ void add_pieces(float *dz, const float *part, int64_t n, int heads) {
    int lane = (int)threadIdx.x % WARP, h = (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP);
    if (h >= heads) return;
    float s = 0;
    for (int64_t i = lane; i < n; i += WARP) s += part[i * heads + h];
    s = warp_sum(s);
    if (lane == 0) dz[h] = s;
}

static int64_t count(const fj_node *n) { return (n->in[2]->rows + PIECE - 1) / PIECE; }

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    return (size_t)(count(n) * n->in[0]->cols) * sizeof(float);
}

/* in: sinks, lse, y, dy */
static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *sinks = n->in[0], *y = n->in[2], *dy = n->in[3];
    int heads = (int)sinks->cols, hd = heads ? (int)(y->cols / heads) : 0, lanes = 2;
    while (lanes < WARP && lanes * 8 < hd) lanes *= 2;
    float *part = (float *)scratch;
    if (!same_type(n, dy, y, e)) return false;
    if (!heads) return true;
    if (y->rows)
        FJ_AS(y, T, {
            FJ_LAUNCH(pieces<T>, (unsigned)count(n), THREADS, 0, g->stream, part,
                      data_of<float>(sinks), data_of<float>(n->in[1]), data_of<T>(y),
                      data_of<T>(dy), y->rows, heads, hd, lanes);
        });
    FJ_LAUNCH(add_pieces, grid_of(heads, THREADS / WARP, INT32_MAX), THREADS, 0, g->stream,
              data_of<float>(n->out[0]), part, count(n), heads);
    return launched("attn_sinks_bwd", e);
}
FJ_CUDA_OP(attn_sinks_bwd, run, scratch_of);
