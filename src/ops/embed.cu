/* embed.cu - rows of a table by id; gradient: rows added back.
 *
 * For the gradient the places of the ids are sorted by id, equal ones by place, so that the rows of one id
 * are neighbours in the order and are added in it: the same bits always, and as on the CPU. */
#include "kernels/cuda/blocks.cuh"
#include "ops/points.cuh"

/* V values from c on of a row of format D; 8 at a time are in one block. */
template <int D, int V>
__device__ __forceinline__ void table_values(const unsigned char *row, int64_t c, float *v) {
    if constexpr (D == FJ_F32) load_v<V>((const float *)row + c, v);
    else if constexpr (D == FJ_BF16) load_v<V>((const bf16 *)row + c, v);
    else
        for (int j = 0; j < V; j++) {
            int64_t i = c + j, b = i / 32;
            if constexpr (D == FJ_F16) v[j] = f16_at((const uint16_t *)row, i);
            if constexpr (D == FJ_Q8_0) v[j] = q8_0_at((const fj_q8_0 *)row + b, (int)(i % 32));
            if constexpr (D == FJ_Q4_0) v[j] = q4_0_at((const fj_q4_0 *)row + b, (int)(i % 32));
            if constexpr (D == FJ_MXFP4) v[j] = mxfp4_at((const fj_mxfp4 *)row + b, (int)(i % 32));
            if constexpr (D == FJ_Q4_K)
                v[j] = q4_k_at((const fj_q4_k *)row + i / 256, (int)(i % 256));
            if constexpr (D == FJ_Q6_K)
                v[j] = q6_k_at((const fj_q6_k *)row + i / 256, (int)(i % 256));
            if constexpr (D == FJ_NF4) v[j] = nf4_at((const fj_nf4 *)row + i / 64, (int)(i % 64));
        }
}

template <typename T, int D, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    embed(T *y, const unsigned char *table, const int32_t *ids, int64_t rows, int64_t cols,
          int64_t row_bytes) {
    early_begin();
    EACH_ROW(r, rows) {
        const unsigned char *row = table + ids[r] * row_bytes;
        EACH_UNIT(u, cols / V) {
            float v[V];
            table_values<D, V>(row, u * V, v);
            store_v<V>(y + r * cols + u * V, v);
        }
    }
}

template <typename T, int D>
static void launch_embed(const fj_gpu *g, const fj_tensor *y, const fj_tensor *w,
                         const fj_tensor *ids) {
    bool wide = y->cols % 8 == 0 && aligned(y->data) && aligned(w->data);
    auto kernel = wide ? embed<T, D, 8> : embed<T, D, 1>;
    row_grid d = grid_of_rows(y->rows, wide ? y->cols / 8 : y->cols);
    FJ_LAUNCH_EARLY(kernel, d.grid, d.block, 0, g->stream, data_of<T>(y), data_of<unsigned char>(w),
                    data_of<int32_t>(ids), y->rows, y->cols, fj_dtype_size(w->dtype, 1, w->cols));
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *w = n->in[0], *ids = n->in[1], *y = n->out[0];
    if (w->panels || !same_type(n, y, y, e))
        return fj_fail(e, FJ_EUNSUP, "table %s is not in rows", w->name);
    if (!count_of(y)) return true;
    FJ_AS(y, T, {
        switch (w->dtype) {
        case FJ_F32: launch_embed<T, FJ_F32>(g, y, w, ids); break;
        case FJ_F16: launch_embed<T, FJ_F16>(g, y, w, ids); break;
        case FJ_BF16: launch_embed<T, FJ_BF16>(g, y, w, ids); break;
        case FJ_Q8_0: launch_embed<T, FJ_Q8_0>(g, y, w, ids); break;
        case FJ_Q4_0: launch_embed<T, FJ_Q4_0>(g, y, w, ids); break;
        case FJ_MXFP4: launch_embed<T, FJ_MXFP4>(g, y, w, ids); break;
        case FJ_Q4_K: launch_embed<T, FJ_Q4_K>(g, y, w, ids); break;
        case FJ_Q6_K: launch_embed<T, FJ_Q6_K>(g, y, w, ids); break;
        case FJ_NF4: launch_embed<T, FJ_NF4>(g, y, w, ids); break;
        default:
            return fj_fail(e, FJ_EUNSUP, "a table of %s does not run on the GPU",
                           fj_dtype_get(w->dtype)->name);
        }
    });
    return launched("embed", e);
}
FJ_CUDA_OP(embed, run, NULL);

/* ---- embed_dw ------------------------------------------------------------------------------------ */
enum { DIGITS = 256, SORT_WARPS = 32, SORT_THREADS = SORT_WARPS * WARP };

/* The lanes of the warp that are live and have this lane's digit. */
__device__ __forceinline__ unsigned same_digit(int digit, bool live) {
    unsigned same = __ballot_sync(FULL_WARP, live);
    for (int b = 1; b < DIGITS; b *= 2) {
        unsigned set = __ballot_sync(FULL_WARP, digit & b);
        same &= digit & b ? set : ~set;
    }
    return same;
}

/* Sorts places 0 .. n - 1 by their ids, equal ones by place: a radix sort by one block, a byte of the ids
 * in each pass, last byte first.  Warps own neighbouring parts; a count belongs to a warp and a digit,
 * and becomes where the next of them goes, so that no order is left to chance.  The result is in `order`
 * after the last pass; with `spare` it takes turns. */
static __global__ void __launch_bounds__(SORT_THREADS)
    sort_ids(int32_t *order, int32_t *spare, const int32_t *ids, int n, int passes) {
    __shared__ int count[SORT_WARPS][DIGITS], total[DIGITS];
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, tid = (int)threadIdx.x;
    int part = (n + SORT_THREADS - 1) / SORT_THREADS * WARP, from = warp * part;
    int to = from + part < n ? from + part : n;
    int32_t *out = passes % 2 ? order : spare, *in = passes % 2 ? spare : order;
    for (int pass = 0; pass < passes; pass++) {
        for (int i = tid; i < SORT_WARPS * DIGITS; i += SORT_THREADS)
            count[i / DIGITS][i % DIGITS] = 0;
        __syncthreads();
        for (int i = from; i < to; i += WARP) {
            bool live = i + lane < to;
            int place = live && pass ? in[i + lane] : i + lane;
            int digit = live ? ids[place] >> 8 * pass & (DIGITS - 1) : 0;
            unsigned same = same_digit(digit, live);
            if (live && lane == __ffs((int)same) - 1) count[warp][digit] += __popc(same);
            __syncwarp();
        }
        __syncthreads();
        if (tid < DIGITS) {
            int sum = 0;
            for (int w = 0; w < SORT_WARPS; w++) sum += count[w][tid];
            total[tid] = sum;
        }
        __syncthreads();
        if (warp == 0) { /* totals become sums of those before: eight digits to a lane */
            int sum = 0;
            for (int k = 0; k < DIGITS / WARP; k++) sum += total[lane * (DIGITS / WARP) + k];
            int before = sum;
            for (int d = 1; d < WARP; d *= 2) {
                int up = __shfl_up_sync(FULL_WARP, before, d);
                if (lane >= d) before += up;
            }
            before -= sum;
            for (int k = 0; k < DIGITS / WARP; k++) {
                int *t = &total[lane * (DIGITS / WARP) + k], was = *t;
                *t = before;
                before += was;
            }
        }
        __syncthreads();
        if (tid < DIGITS) {
            int at = total[tid];
            for (int w = 0; w < SORT_WARPS; w++) {
                int was = count[w][tid];
                count[w][tid] = at;
                at += was;
            }
        }
        __syncthreads();
        for (int i = from; i < to; i += WARP) {
            bool live = i + lane < to;
            int place = live && pass ? in[i + lane] : i + lane;
            int digit = live ? ids[place] >> 8 * pass & (DIGITS - 1) : 0;
            unsigned same = same_digit(digit, live);
            int before = __popc(same & ((1u << lane) - 1)), at = live ? count[warp][digit] : 0;
            __syncwarp();
            if (live) out[at + before] = place;
            if (live && before == 0) count[warp][digit] = at + __popc(same);
            __syncwarp();
        }
        __syncthreads();
        int32_t *t = in;
        in = out;
        out = t;
    }
}

/* Where a new id begins in the order, its rows are added up, four on their way at once. */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    add_rows(float *dw, const T *dy, const int32_t *order, const int32_t *ids, int64_t n,
             int64_t cols) {
    enum { ROWS = 4 };
    EACH_ROW(j, n) {
        int32_t id = ids[order[j]];
        if (j && ids[order[j - 1]] == id) continue;
        EACH_UNIT(u, cols / V) {
            float s[V];
            load_v<V>(dy + order[j] * cols + u * V, s);
            bool more = true;
            for (int64_t i = j + 1; more && i < n; i += ROWS) {
                float v[ROWS][V];
                bool same[ROWS];
                for (int k = 0; k < ROWS; k++) {
                    int32_t place = i + k < n ? order[i + k] : -1;
                    same[k] = place >= 0 && ids[place] == id;
                    if (same[k]) load_v<V>(dy + place * cols + u * V, v[k]);
                }
                for (int k = 0; k < ROWS; k++)
                    if (same[k])
                        for (int x = 0; x < V; x++) s[x] += v[k][x];
                more = same[ROWS - 1];
            }
            store_v<V>(dw + id * cols + u * V, s);
        }
    }
}

static size_t scratch_dw(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    return (size_t)n->in[1]->cols * 2 * sizeof(int32_t);
}

/* in: table (its shape), ids, dy */
static bool run_dw(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    const fj_tensor *ids = n->in[1], *dy = n->in[2], *dw = n->out[0];
    int64_t len = ids->cols;
    int passes = 1;
    if (!same_type(n, dy, dy, e) || !clear(g, dw, e)) return false;
    if (!count_of(dy)) return true;
    if (len > INT32_MAX / 2) return fj_fail(e, FJ_EUNSUP, "too many ids for embed_dw");
    while (passes < 4 && (dw->rows - 1) >> 8 * passes) passes++;
    int32_t *order = (int32_t *)scratch, *spare = order + len;
    FJ_LAUNCH(sort_ids, 1, SORT_THREADS, 0, g->stream, order, spare, data_of<int32_t>(ids),
              (int)len, passes);
    bool wide = dw->cols % 8 == 0 && aligned(dy->data) && aligned(dw->data);
    row_grid d = grid_of_rows(len, wide ? dw->cols / 8 : dw->cols);
    FJ_AS(dy, T, {
        auto kernel = wide ? add_rows<T, 8> : add_rows<T, 1>;
        FJ_LAUNCH(kernel, d.grid, d.block, 0, g->stream, data_of<float>(dw), data_of<T>(dy), order,
                  data_of<int32_t>(ids), len, dw->cols);
    });
    return launched("embed_dw", e);
}
FJ_CUDA_OP(embed_dw, run_dw, scratch_dw);
