/* route.cu - the k experts of a row and their weights, and the gradient of the logits (route.c): a warp for
 * each row.  Sums over experts: lanes take every 32nd in order, then lanes pair up. */
#include "ops/op.cuh"

enum { THREADS = 128, BLOCKS = 1 << 20 };

typedef struct params { /* as in route.c */
    int k;
    bool among_chosen;
} params;

/* A choice; `before` is the order of choices: larger values first, of equals the first expert.  NaN
 * comes last. */
typedef struct pick {
    float x;
    int e;
} pick;
__device__ __forceinline__ bool before(pick a, pick b) {
    return a.x > b.x || (a.x == b.x && a.e < b.e);
}
template <typename T> __device__ __forceinline__ pick pick_of(const T *row, int e) {
    float x = to_f32(row[e]);
    pick p = { x == x ? x : -INFINITY, e };
    return p;
}

/* Round j takes the first of those that come after what round j - 1 took. */
template <typename T>
static __global__ void route(float *w, int32_t *choice, const T *x, int64_t rows, int experts,
                             int k, bool among_chosen) {
    int lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP;
    for (int64_t r = (int64_t)blockIdx.x * warps + threadIdx.x / WARP; r < rows;
         r += (int64_t)gridDim.x * warps) {
        const T *row = x + r * experts;
        pick last = { INFINITY, -1 };
        float top = 0, sum = 0, mine = 0; /* exp of the logits less the largest */
        for (int j = 0; j < k; j++) {
            pick best = { -INFINITY, INT32_MAX };
            for (int e = lane; e < experts; e += WARP) {
                pick p = pick_of(row, e);
                if (before(last, p) && before(p, best)) best = p;
            }
            for (int m = WARP / 2; m; m /= 2) {
                pick o = { __shfl_xor_sync(FULL_WARP, best.x, m),
                           __shfl_xor_sync(FULL_WARP, best.e, m) };
                if (before(o, best)) best = o;
            }
            last = best;
            float logit = to_f32(row[best.e]);
            if (!j) top = logit;
            float v = expf(logit - top);
            sum += v;
            if (lane == 0) choice[r * k + j] = best.e;
            if (j < WARP && lane == j) mine = v;
            if (j >= WARP && lane == 0) w[r * k + j] = v;
        }
        if (!among_chosen) {
            sum = 0;
            for (int e = lane; e < experts; e += WARP) sum += expf(to_f32(row[e]) - top);
            sum = warp_sum(sum);
        }
        if (lane < k) w[r * k + lane] = mine / sum;
        if (lane == 0) /* lane 0 wrote them */
            for (int j = WARP; j < k; j++) w[r * k + j] /= sum;
    }
}

template <typename T>
static __global__ void route_dx(T *dx, const T *x, const float *w, const int32_t *choice,
                                const float *dw, int64_t rows, int experts, int k,
                                bool among_chosen) {
    int lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP;
    for (int64_t r = (int64_t)blockIdx.x * warps + threadIdx.x / WARP; r < rows;
         r += (int64_t)gridDim.x * warps) {
        const T *row = x + r * experts;
        const int32_t *c = choice + r * k;
        const float *wr = w + r * k, *dr = dw + r * k;
        float s = 0, top = to_f32(row[c[0]]);
        for (int j = 0; j < k; j++) s += wr[j] * dr[j];
        for (int e = lane; e < experts; e += WARP) {
            /* p_e of all experts: that of the first chosen is known. */
            float d = among_chosen ? 0 : -s * wr[0] * expf(to_f32(row[e]) - top);
            for (int j = 0; j < k; j++)
                if (c[j] == e) d = wr[j] * (dr[j] - s);
            dx[r * experts + e] = from_f32<T>(d);
        }
    }
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0];
    const params *p = (const params *)n->params;
    if (!same_type(n, x, x, e)) return false;
    if (!x->rows) return true;
    FJ_AS(x, T, {
        FJ_LAUNCH(route<T>, grid_of(x->rows, THREADS / WARP, BLOCKS), THREADS, 0, g->stream,
                  data_of<float>(n->out[0]), data_of<int32_t>(n->out[1]), data_of<T>(x), x->rows,
                  (int)x->cols, p->k, p->among_chosen);
    });
    return launched("route", e);
}
FJ_CUDA_OP(route, run, NULL);

/* in: logits, w, choice, dw */
static bool run_dx(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *dx = n->out[0];
    const params *p = (const params *)n->params;
    if (!same_type(n, dx, x, e)) return false;
    if (!x->rows) return true;
    FJ_AS(x, T, {
        FJ_LAUNCH(route_dx<T>, grid_of(x->rows, THREADS / WARP, BLOCKS), THREADS, 0, g->stream,
                  data_of<T>(dx), data_of<T>(x), data_of<float>(n->in[1]),
                  data_of<int32_t>(n->in[2]), data_of<float>(n->in[3]), x->rows, (int)x->cols, p->k,
                  p->among_chosen);
    });
    return launched("route_dx", e);
}
FJ_CUDA_OP(route_dx, run_dx, NULL);
