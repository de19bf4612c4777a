/* head_ce.cu - head_ce.c's LM head and cross entropy on a GPU, a chunk of rows at a time.
 *
 * Logits of a chunk are F32, also where activations are BF16: a rounding of them would be one of the loss.
 * A block of threads takes a row of them: the largest and the sum of exponentials in one pass, then in
 * another the gradient, in place; in BF16 it fills the front half of the row's memory. */
#include "kernels/cuda/gemm.cuh"
#include "ops/op.cuh"

typedef struct params { /* as in head_ce.c */
    double scale, softcap;
} params;

/* A gradient of the head is read and written once for each chunk, so larger ones are worth memory then. */
enum { THREADS = 512, CHUNK = 256 << 20, CHUNK_DW = 512 << 20, ROWS = 128 };

template <bool VEC> __device__ __forceinline__ void take(const float *l, float cap, float *v) {
    if (VEC) load8(l, v);
    else v[0] = *l;
    if (cap > 0)
        for (int j = 0; j < (VEC ? 8 : 1); j++) v[j] = cap * tanhf(v[j] / cap);
}
template <typename G> __device__ __forceinline__ void give(G *g, const float *v, bool vec) {
    if (vec) store8(g, v);
    else *g = from_f32<G>(v[0]);
}

template <typename G, bool VEC>
static __global__ void __launch_bounds__(THREADS)
    cross_entropy(float *logits, const int32_t *target, const float *weight, float *nll,
                  int64_t vocab, float cap, bool grad) {
    constexpr int EACH = VEC ? 8 : 1;
    __shared__ float largest[THREADS / WARP];
    __shared__ double sums[THREADS / WARP];
    float *l = logits + blockIdx.x * vocab, v[EACH], m = -INFINITY, s = 0;
    for (int64_t i = (int64_t)threadIdx.x * EACH; i < vocab; i += THREADS * EACH) {
        take<VEC>(l + i, cap, v);
        float big = v[0];
        for (int j = 1; j < EACH; j++) big = fmaxf(big, v[j]);
        if (big > m) {
            s *= expf(m - big);
            m = big;
        }
        if (m > -INFINITY)
            for (int j = 0; j < EACH; j++) s += expf(v[j] - m);
    }
    int64_t right = target[blockIdx.x];
    float lt;
    take<false>(l + right, cap, &lt);
    float big = block_max(m, largest);
    double sum = block_sum(m > -INFINITY ? (double)(s * expf(m - big)) : 0., sums);
    float w = weight[blockIdx.x];
    if (threadIdx.x == 0) nll[blockIdx.x] = (float)(log(sum) + (double)big - (double)lt);
    if (!grad) return;
    float c = (float)((double)w / sum);
    G *g = (G *)l;
    for (int64_t from = 0; from < vocab; from += THREADS * EACH) {
        int64_t i = from + (int64_t)threadIdx.x * EACH;
        if (i < vocab) {
            take<VEC>(l + i, cap, v);
            for (int j = 0; j < EACH; j++) {
                float d = expf(v[j] - big) * c;
                if (i + j == right) d -= w;
                if (cap > 0) d *= 1 - v[j] / cap * (v[j] / cap);
                v[j] = d;
            }
        }
        __syncthreads(); /* what is written now has been read, by whatever thread */
        if (i < vocab) give(g + i, v, VEC);
    }
}

static __global__ void weighted_sum(float *loss, const float *nll, const float *weight, int64_t n) {
    __shared__ double sums[THREADS / WARP];
    double s = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) s += (double)weight[i] * (double)nll[i];
    s = block_sum(s, sums);
    if (threadIdx.x == 0) *loss = (float)s;
}

/* What a node needs: the same for run and scratch. */
typedef struct sizes {
    int64_t rows; /* of a chunk */
    fj_dtype in;  /* products are of this */
    bool unpack;  /* the weight once, before all chunks */
    fj_gmat given, w;
    size_t logits, weight, work; /* bytes */
} sizes;

static size_t round64(int64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }

static sizes sizes_of(const fj_node *n, bool f32) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    int64_t vocab = w->rows, d = w->cols, most = w->grad ? CHUNK_DW : CHUNK;
    sizes z = {};
    z.rows = FJ_MAX(most / (FJ_MAX(vocab, 1) * 4) / ROWS * ROWS, (int64_t)ROWS);
    z.rows = FJ_MIN(z.rows, FJ_MAX(x->rows, 1));
    z.in = f32 || x->dtype == FJ_F32 ? FJ_F32 : FJ_BF16;
    z.given = (fj_gmat){ w->dtype, w->data, vocab, d };
    z.w = z.given;
    z.unpack = w->dtype != z.in && (z.in == FJ_F32 || x->rows > fj_gpu_skinny_rows(w->dtype));
    z.logits = round64(z.rows * vocab * 4);
    if (z.unpack) {
        z.w.dtype = z.in;
        z.weight = round64(vocab * d * (z.in == FJ_F32 ? 4 : 2));
    }
    z.work = fj_gpu_fwd_scratch(z.rows, &z.w, x->dtype, f32);
    if (x->grad) z.work = FJ_MAX(z.work, fj_gpu_dx_scratch(z.rows, &z.w, z.in, f32));
    if (w->grad) z.work = FJ_MAX(z.work, fj_gpu_dw_scratch(z.rows, vocab, d, z.in, f32));
    return z;
}

template <typename G>
static bool entropy(const fj_gpu *g, float *logits, const int32_t *target, const float *weight,
                    float *nll, int64_t rows, int64_t vocab, float cap, bool grad, fj_err *e) {
    if (vocab % 8 == 0)
        FJ_LAUNCH((cross_entropy<G, true>), (unsigned)rows, THREADS, 0, g->stream, logits, target,
                  weight, nll, vocab, cap, grad);
    else
        FJ_LAUNCH((cross_entropy<G, false>), (unsigned)rows, THREADS, 0, g->stream, logits, target,
                  weight, nll, vocab, cap, grad);
    return launched("head_ce", e);
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0], *gx = n->out[2], *gw = n->out[3];
    const int32_t *target = data_of<int32_t>(n->in[2]);
    const float *weight = data_of<float>(n->in[3]);
    float *nll = data_of<float>(n->out[1]), scale = (float)p->scale, cap = (float)p->softcap;
    sizes z = sizes_of(n, g->f32);
    int64_t vocab = z.w.n, d = x->cols, size = x->dtype == FJ_BF16 ? 2 : 4;
    float *logits = (float *)scratch;
    char *unpacked = (char *)scratch + z.logits, *work = unpacked + z.weight;
    bool want = gx->rows || gw->rows;
    if (z.unpack) {
        z.w.data = unpacked;
        if (x->rows && !fj_gpu_unpack(g, &z.given, z.in, unpacked, e)) return false;
    }
    for (int64_t r = 0; r < x->rows; r += z.rows) {
        int64_t rows = FJ_MIN(z.rows, x->rows - r);
        fj_grows xs = { x->dtype, (char *)x->data + r * d * size, d };
        fj_grows l = { FJ_F32, logits, vocab };
        fj_grows gl = { z.in, logits, z.in == FJ_BF16 ? 2 * vocab : vocab };
        if (!fj_gpu_fwd(g, rows, xs, &z.w, l, scale, NULL, work, e)) return false;
        if (!(z.in == FJ_BF16 ? entropy<bf16> : entropy<float>)(g, logits, target + r, weight + r,
                                                                nll + r, rows, vocab, cap, want, e))
            return false;
        if (gx->rows) {
            fj_grows to = { gx->dtype, (char *)gx->data + r * d * size, d };
            if (!fj_gpu_dx(g, rows, gl, &z.w, to, scale, NULL, work, e)) return false;
        }
        if (gw->rows &&
            !fj_gpu_dw(g, rows, gl, xs, data_of<float>(gw), vocab, d, scale, r > 0, work, e))
            return false;
    }
    FJ_LAUNCH(weighted_sum, 1, THREADS, 0, g->stream, data_of<float>(n->out[0]), nll, weight,
              x->rows);
    if (!x->rows && gw->rows) cudaMemsetAsync(gw->data, 0, (size_t)fj_tensor_bytes(gw), g->stream);
    return launched("head_ce", e);
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    sizes z = sizes_of(n, o->f32);
    return z.logits + z.weight + z.work;
}
FJ_CUDA_OP(head_ce, run, scratch);
