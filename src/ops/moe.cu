/* moe.cu - the slots of a mixture of experts (moe.c): their order, rows to slots, slots to rows, bias.
 *
 * Rows are copied and added in eights where their width is whole eights, with a block for each row of the
 * result.  Additions: ranks in order, columns by lanes and then lanes in pairs (dot), slots of an expert
 * by warps and then warps in order (bias_db). */
#include "ops/op.cuh"

enum { BLOCKS = 1 << 20 };

/* Threads for a row of cols values. */
static unsigned threads_of(int64_t cols) {
    int64_t n = cols % 8 ? cols : cols / 8;
    return n <= 32 ? 32 : n <= 64 ? 64 : n <= 128 ? 128 : 256;
}

/* ---- plan ------------------------------------------------------------------------------------------- */
/* A block for each expert; its warps have ranges of the choices.  They count those of smaller experts and
 * of this one, which says where each range's slots begin, and go over their ranges once more. */
static __global__ void plan(int32_t *order, int32_t *place, int32_t *start, const int32_t *choice,
                            int64_t slots) {
    __shared__ int less[32], same[32];
    int e = (int)blockIdx.x, lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP,
        warps = (int)blockDim.x / WARP;
    int64_t each = (slots + warps * WARP - 1) / (warps * WARP) * WARP, from = warp * each,
            to = from + each < slots ? from + each : slots;
    int below = 0, mine = 0;
    for (int64_t i = from + lane; i < to; i += WARP) {
        below += choice[i] < e;
        mine += choice[i] == e;
    }
    below = warp_sum(below);
    mine = warp_sum(mine);
    if (lane == 0) less[warp] = below, same[warp] = mine;
    __syncthreads();
    int first = 0, s = 0;
    for (int i = 0; i < warps; i++) {
        first += less[i];
        if (i < warp) s += same[i];
    }
    s += first;
    if (threadIdx.x == 0) {
        start[e] = first;
        if (blockIdx.x + 1 == gridDim.x) start[e + 1] = (int32_t)slots;
    }
    for (int64_t i = from; i < to; i += 4 * WARP) { /* whole warps: all lanes vote */
        int64_t own[4];
        bool is[4];
        for (int k = 0; k < 4; k++) {
            own[k] = i + k * WARP + lane;
            is[k] = own[k] < to && choice[own[k]] == e;
        }
        for (int k = 0; k < 4; k++) {
            unsigned votes = __ballot_sync(FULL_WARP, is[k]);
            int at = s + __popc(votes & ((1u << lane) - 1));
            s += __popc(votes);
            if (!is[k]) continue;
            order[at] = (int32_t)own[k];
            place[own[k]] = at;
        }
    }
}

static bool run_plan(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    int64_t slots = count_of(n->in[0]), experts = n->out[2]->cols - 1;
    FJ_LAUNCH(plan, (unsigned)experts, slots <= 256 ? 128 : 1024, 0, g->stream,
              data_of<int32_t>(n->out[0]), data_of<int32_t>(n->out[1]), data_of<int32_t>(n->out[2]),
              data_of<int32_t>(n->in[0]), slots);
    return launched("moe_plan", e);
}
FJ_CUDA_OP(moe_plan, run_plan, NULL);

/* ---- gather and combine --------------------------------------------------------------------------- */
template <typename T>
static __global__ void gather(T *y, const T *x, const int32_t *order, const float *w, int64_t slots,
                              int64_t cols, int k) {
    for (int64_t s = blockIdx.x; s < slots; s += gridDim.x) {
        int32_t of = order[s];
        const T *from = x + (int64_t)(of / k) * cols;
        T *to = y + s * cols;
        float by = w ? w[of] : 1;
        if (cols % 8) {
            for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
                to[i] = from_f32<T>(by * to_f32(from[i]));
            continue;
        }
        for (int64_t i = threadIdx.x * 8; i < cols; i += blockDim.x * 8) {
            float v[8];
            load8(from + i, v);
            for (int c = 0; c < 8; c++) v[c] *= by;
            store8(to + i, v);
        }
    }
}

template <typename T>
static __global__ void combine(T *y, const T *x, const int32_t *place, const float *w, int64_t rows,
                               int64_t cols, int k) {
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const int32_t *at = place + r * k;
        const float *by = w + r * k;
        T *to = y + r * cols;
        if (cols % 8) {
            for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) {
                float s = 0;
                for (int j = 0; j < k; j++) s += (w ? by[j] : 1) * to_f32(x[at[j] * cols + i]);
                to[i] = from_f32<T>(s);
            }
            continue;
        }
        for (int64_t i = threadIdx.x * 8; i < cols; i += blockDim.x * 8) {
            float s[8] = { 0 };
            for (int j = 0; j < k; j++) {
                float v[8], f = w ? by[j] : 1;
                load8(x + at[j] * cols + i, v);
                for (int c = 0; c < 8; c++) s[c] += f * v[c];
            }
            store8(to + i, s);
        }
    }
}

/* in: x, order, place, w [n, k] or NULL */
static bool run_gather(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *w = n->in[3], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    if (!count_of(y)) return true;
    FJ_AS(y, T, {
        FJ_LAUNCH(gather<T>, grid_of(y->rows, 1, BLOCKS), threads_of(y->cols), 0, g->stream,
                  data_of<T>(y), data_of<T>(x), data_of<int32_t>(n->in[1]),
                  w ? data_of<float>(w) : NULL, y->rows, y->cols, (int)*(const int64_t *)n->params);
    });
    return launched("moe_gather", e);
}
FJ_CUDA_OP(moe_gather, run_gather, NULL);

/* in: x [S, d], order, place, w [n, k] or NULL */
static bool run_combine(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *w = n->in[3], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    if (!count_of(y)) return true;
    FJ_AS(y, T, {
        FJ_LAUNCH(combine<T>, grid_of(y->rows, 1, BLOCKS), threads_of(y->cols), 0, g->stream,
                  data_of<T>(y), data_of<T>(x), data_of<int32_t>(n->in[2]),
                  w ? data_of<float>(w) : NULL, y->rows, y->cols, (int)*(const int64_t *)n->params);
    });
    return launched("moe_combine", e);
}
FJ_CUDA_OP(moe_combine, run_combine, NULL);

/* ---- dot ---------------------------------------------------------------------------------------- */
/* A warp for each result. */
template <typename T>
static __global__ void dot(float *y, const T *a, const T *b, const int32_t *place, int64_t n, int k,
                           int64_t cols) {
    int lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP;
    for (int64_t i = (int64_t)blockIdx.x * warps + threadIdx.x / WARP; i < n;
         i += (int64_t)gridDim.x * warps) {
        const T *u = a + i / k * cols, *v = b + place[i] * cols;
        float s = 0;
        if (cols % 8) {
            for (int64_t c = lane; c < cols; c += WARP) s += to_f32(u[c]) * to_f32(v[c]);
        } else {
            for (int64_t c = lane * 8; c < cols; c += WARP * 8) {
                float p[8], q[8];
                load8(u + c, p);
                load8(v + c, q);
                for (int m = 0; m < 8; m++) s += p[m] * q[m];
            }
        }
        s = warp_sum(s);
        if (lane == 0) y[i] = s;
    }
}

/* in: a [n, d], b [S, d], place.  out: [n, k] */
static bool run_dot(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *a = n->in[0], *b = n->in[1], *y = n->out[0];
    if (!same_type(n, b, a, e)) return false;
    if (!count_of(y)) return true;
    FJ_AS(a, T, {
        FJ_LAUNCH(dot<T>, grid_of(count_of(y), 4, BLOCKS), 4 * WARP, 0, g->stream,
                  data_of<float>(y), data_of<T>(a), data_of<T>(b), data_of<int32_t>(n->in[2]),
                  count_of(y), (int)y->cols, a->cols);
    });
    return launched("moe_dot", e);
}
FJ_CUDA_OP(moe_dot, run_dot, NULL);

/* ---- bias --------------------------------------------------------------------------------------- */
template <typename T>
static __global__ void bias(T *y, const T *x, const float *b, const int32_t *start, int64_t slots,
                            int64_t cols, int experts) {
    for (int64_t s = blockIdx.x; s < slots; s += gridDim.x) {
        int e = 0, to = experts; /* the last expert that begins at s or before it */
        while (to - e > 1) {
            int m = (e + to) / 2;
            if (start[m] <= s) e = m;
            else to = m;
        }
        const float *add = b + e * cols;
        if (cols % 8) {
            for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
                y[s * cols + i] = from_f32<T>(to_f32(x[s * cols + i]) + add[i]);
            continue;
        }
        for (int64_t i = threadIdx.x * 8; i < cols; i += blockDim.x * 8) {
            float u[8], v[8];
            load8(x + s * cols + i, u);
            load8(add + i, v);
            for (int c = 0; c < 8; c++) u[c] += v[c];
            store8(y + s * cols + i, u);
        }
    }
}

/* A block for an expert and 256 columns (32 where rows are not whole eights). */
template <typename T, int N>
static __global__ void bias_db(float *db, const T *dy, const int32_t *start, int64_t cols) {
    __shared__ float sums[8][WARP * N];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    int64_t c = ((int64_t)blockIdx.y * WARP + lane) * N;
    int e = (int)blockIdx.x;
    float s[8] = { 0 };
    for (int64_t r = start[e] + warp; r < start[e + 1] && c < cols; r += 8) {
        float v[8];
        if (N == 8) load8(dy + r * cols + c, v);
        else v[0] = to_f32(dy[r * cols + c]);
        for (int k = 0; k < N; k++) s[k] += v[k];
    }
    for (int k = 0; k < N; k++) sums[warp][k * WARP + lane] = s[k];
    __syncthreads();
    if (warp || c >= cols) return;
    for (int k = 0; k < N; k++) {
        for (int i = 1; i < 8; i++) s[k] += sums[i][k * WARP + lane];
        db[e * cols + c + k] = s[k];
    }
}

/* in: y [S, N], b [E, N], start */
static bool run_bias(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *x = n->in[0], *b = n->in[1], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    if (!count_of(y)) return true;
    FJ_AS(y, T, {
        FJ_LAUNCH(bias<T>, grid_of(y->rows, 1, BLOCKS), threads_of(y->cols), 0, g->stream,
                  data_of<T>(y), data_of<T>(x), data_of<float>(b), data_of<int32_t>(n->in[2]),
                  y->rows, y->cols, (int)b->rows);
    });
    return launched("moe_bias", e);
}
FJ_CUDA_OP(moe_bias, run_bias, NULL);

/* in: dy [S, N], start.  out: [E, N] */
static bool run_bias_db(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *dy = n->in[0], *db = n->out[0];
    int64_t cols = dy->cols;
    if (!same_type(n, dy, dy, e)) return false;
    if (!count_of(db)) return true;
    FJ_AS(dy, T, {
        if (cols % 8)
            FJ_LAUNCH((bias_db<T, 1>),
                      dim3((unsigned)db->rows, (unsigned)((cols + WARP - 1) / WARP)), 8 * WARP, 0,
                      g->stream, data_of<float>(db), data_of<T>(dy), data_of<int32_t>(n->in[1]),
                      cols);
        else
            FJ_LAUNCH((bias_db<T, 8>),
                      dim3((unsigned)db->rows, (unsigned)((cols + WARP * 8 - 1) / (WARP * 8))),
                      8 * WARP, 0, g->stream, data_of<float>(db), data_of<T>(dy),
                      data_of<int32_t>(n->in[1]), cols);
    });
    return launched("moe_bias_db", e);
}
FJ_CUDA_OP(moe_bias_db, run_bias_db, NULL);
