/* sample.cu - one token of each row of logits (sample.c), a block for each row.
 *
 * A token's key orders as sample.c orders: the bits of its logit so that they rise with it, then its id
 * falling.  What top-k and top-p keep are the keys from a bound on, and the bound is found bit by bit:
 * a pass over the row for each of its 64 bits, counting tokens or adding up their weights.  The row is in
 * the L2 cache meanwhile.  Sums are those of block_sum: the same for any batch. */
#include "ops/op.cuh"

extern "C" {
#include "ops/pick.h"
}

enum { THREADS = 1024 };

typedef unsigned long long key;

/* The row as the passes see it. */
typedef struct row {
    const float *logits;
    const int32_t *seen;
    int64_t vocab;
    float penalty, most, per; /* most: the largest logit; per: 1 / temperature */
} row;

__device__ __forceinline__ float logit_at(const row &r, int64_t i) {
    float l = r.logits[i];
    if (r.seen && (uint32_t)r.seen[i / 32] >> (i % 32) & 1)
        l = l > 0 ? l / r.penalty : l * r.penalty;
    return l;
}
__device__ __forceinline__ key key_of(float l, int64_t id) {
    unsigned u = __float_as_uint(l + 0.0f); /* -0 is 0 */
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (key)u << 32 | (0xffffffffu - (unsigned)id);
}
__device__ __forceinline__ float weight_of(const row &r, float l) {
    return expf((l - r.most) * r.per);
}

/* Sum of weights, or number, of the tokens with keys from bound on. */
template <bool COUNT> __device__ float from(const row &r, key bound, key least, float *buf) {
    float s = 0;
    for (int64_t i = threadIdx.x; i < r.vocab; i += THREADS) {
        float l = logit_at(r, i);
        key k = key_of(l, i);
        if (k >= bound && k >= least) s += COUNT ? 1 : weight_of(r, l);
    }
    return block_sum(s, buf);
}

/* The largest bound with at least `want` from it on. */
template <bool COUNT> __device__ key bound_of(const row &r, float want, key least, float *buf) {
    key b = 0;
    for (int bit = 63; bit >= 0; bit--)
        if (from<COUNT>(r, b | (key)1 << bit, least, buf) >= want) b |= (key)1 << bit;
    return b;
}

static __global__ void sample(int32_t *ids, const float *logits, const float *how,
                              const int32_t *seen, int64_t vocab, int64_t words) {
    early_begin();
    __shared__ float buf[THREADS / WARP];
    __shared__ key keys[THREADS / WARP];
    __shared__ float sums[THREADS];
    const float *h = how + (int64_t)blockIdx.x * FJ_PICK_COLS;
    row r;
    r.logits = logits + (int64_t)blockIdx.x * vocab;
    r.seen = words ? seen + (int64_t)blockIdx.x * words : NULL;
    r.vocab = vocab;
    r.penalty = h[FJ_PICK_PENALTY];
    key best = 0;
    for (int64_t i = threadIdx.x; i < vocab; i += THREADS) {
        key k = key_of(logit_at(r, i), i);
        best = k > best ? k : best;
    }
    best = block_max(best, keys);
    int32_t first = (int32_t)(0xffffffffu - (unsigned)best);
    if (h[FJ_PICK_TEMPERATURE] == 0) {
        if (threadIdx.x == 0) ids[blockIdx.x] = first;
        return;
    }
    r.most = logit_at(r, first);
    r.per = 1 / h[FJ_PICK_TEMPERATURE];
    key least = 0;
    float k = h[FJ_PICK_TOP_K], top_p = h[FJ_PICK_TOP_P];
    if (k > 0 && k < (float)vocab) least = bound_of<true>(r, k, 0, buf);
    if (top_p < 1) {
        float all = from<false>(r, 0, least, buf);
        key b = bound_of<false>(r, top_p * all, least, buf);
        b = b > best ? best : b;
        least = b > least ? b : least;
    }
    /* Each thread adds up a run of neighbours; then the run in which the draw falls is walked. */
    int64_t run = (vocab + THREADS - 1) / THREADS, at = run * threadIdx.x;
    int64_t end = at + run < vocab ? at + run : vocab;
    float s = 0, min_p = h[FJ_PICK_MIN_P];
    for (int64_t i = at; i < end; i++) {
        float l = logit_at(r, i), w = weight_of(r, l);
        if (key_of(l, i) >= least && w >= min_p) s += w;
    }
    sums[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x) return;
    float all = 0;
    for (int i = 0; i < THREADS; i++) all += sums[i];
    float u = h[FJ_PICK_DRAW] * all;
    int t = 0, last = -1;
    for (; t < THREADS; t++) {
        if (sums[t] <= 0) continue;
        last = t;
        if (u - sums[t] < 0) break;
        u -= sums[t];
    }
    int32_t id = first;
    if (last >= 0) {
        int64_t stop = run * last + run < vocab ? run * last + run : vocab;
        for (int64_t i = run * last; i < stop; i++) {
            float l = logit_at(r, i), w = weight_of(r, l);
            if (key_of(l, i) < least || w < min_p || w <= 0) continue;
            id = (int32_t)i;
            if ((u -= w) < 0) break;
        }
    }
    ids[blockIdx.x] = id;
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *seen = n->in[2];
    if (!x->rows) return true;
    FJ_LAUNCH_EARLY(sample, (unsigned)x->rows, THREADS, 0, g->stream, data_of<int32_t>(n->out[0]),
                    data_of<float>(x), data_of<float>(n->in[1]), data_of<int32_t>(seen), x->cols,
                    seen->cols);
    return launched("sample", e);
}
FJ_CUDA_OP(sample, run, NULL);
