/* attn_any.cu - attention in F32 for any head size: a warp takes a few rows, its lanes are the 32 keys of
 * a tile while scores are made, and values of the head while keys are added up.
 *
 *     p_j = exp(s_j - lse), s_j = scale q.k_j     D = dy.y
 *     ds_j = p_j (dy.v_j - D)     dq = scale sum ds_j k_j    dk_j = scale ds_j q    dv_j = p_j dy
 * With a cap c, s = c tanh(scale q.k / c) and ds is times 1 - (s / c)^2. */
#include "kernels/cuda/attn.cuh"

enum { WARPS = 4, EACH = 4, THREADS = WARPS * WARP, ROWS = WARPS * EACH, TILE = 32 };
enum { PER = FJ_ATTN_MOST / WARP }; /* values of a head to a lane */

/* Rows of shared memory have an odd number of values, so that a column meets every bank once. */
static __host__ __device__ __forceinline__ int width(int hd) { return hd | 1; }

/* Row i of `rows` is at(i), or zeros where that is NULL. */
template <typename T, typename AT>
static __device__ __forceinline__ void stage(float *to, int rows, int hd, AT at) {
    for (int i = (int)threadIdx.x / WARP; i < rows; i += WARPS) {
        const T *from = at(i);
        for (int c = (int)threadIdx.x % WARP; c < hd; c += WARP)
            to[i * width(hd) + c] = from ? to_f32(from[c]) : 0;
    }
}

static __device__ __forceinline__ float dot(const float *a, const float *b, int n) {
    float s = 0;
    for (int i = 0; i < n; i++) s = fmaf(a[i], b[i], s);
    return s;
}

/* The score; *slope: of the cap at it. */
static __device__ __forceinline__ float score(float qk, float scale, float cap, float *slope) {
    float s = qk * scale;
    *slope = 1;
    if (cap > 0) {
        float t = tanhf(s / cap);
        s = cap * t;
        *slope = 1 - t * t;
    }
    return s;
}

/* What a block of row tiles stands on. */
typedef struct place {
    attn_tile t;
    int64_t rows; /* of the matrix, to the end of the sequence */
    int from, to; /* blocks of keys that some row sees */
} place;

static __device__ __forceinline__ place place_of(const fj_gpu_attn &a, const attn_tile &t) {
    place p;
    p.t = t;
    p.rows = (int64_t)t.rows * a.group - t.first;
    int64_t n = p.rows < (int64_t)ROWS ? p.rows : (int64_t)ROWS;
    int low = t.pos0 + (int)(t.first / a.group), high = t.pos0 + (int)((t.first + n - 1) / a.group);
    p.from = a.window && low >= a.window ? (low - a.window + 1) / TILE : 0;
    p.to = high / TILE + 1;
    return p;
}

/* Where row r of the matrix has its head in q, y, dy, dq. */
static __device__ __forceinline__ int64_t head_at(const fj_gpu_attn &a, const attn_tile &t, int kvh,
                                                  int64_t r) {
    return (t.row0 + r / a.group) * a.heads + (int64_t)kvh * a.group + r % a.group;
}

/* K and V of block b to shared memory, zeros beyond the end of the sequence. */
template <typename T>
static __device__ __forceinline__ void stage_keys(const fj_gpu_attn &a, const attn_tile &t, int kvh,
                                                  int b, float *ks, float *vs) {
    int64_t slot = a.blocks[t.blk0 + b], ld = (int64_t)a.kv_heads * a.hd;
    int keys = t.pos0 + t.rows - b * TILE;
    for (int i = 0; i < 2; i++)
        stage<T>(i ? vs : ks, TILE, a.hd, [&](int j) {
            const T *from = (const T *)(i ? a.v : a.k);
            return j < keys ? from + (slot + j) * ld + (int64_t)kvh * a.hd : (const T *)NULL;
        });
}

template <typename T> static __global__ void any_fwd(fj_gpu_attn a) {
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, false, ROWS, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    place p = place_of(a, t);
    int hd = a.hd, w = width(hd), kvh = (int)blockIdx.y;
    int lane = (int)threadIdx.x % WARP, r0 = (int)threadIdx.x / WARP * EACH;
    float *qs = (float *)mem, *ks = qs + ROWS * w, *vs = ks + TILE * w;
    stage<T>(qs, ROWS, hd, [&](int i) {
        return i < p.rows ? (const T *)a.q + head_at(a, t, kvh, t.first + i) * hd : (const T *)NULL;
    });
    float max[EACH], sum[EACH], o[EACH][PER];
    int pos[EACH];
    for (int e = 0; e < EACH; e++) {
        int64_t r = t.first + r0 + e;
        max[e] = a.sinks ? a.sinks[kvh * a.group + r % a.group] : -INFINITY;
        sum[e] = a.sinks ? 1 : 0;
        pos[e] = r0 + e < p.rows ? t.pos0 + (int)(r / a.group) : -1;
        for (int c = 0; c < PER; c++) o[e][c] = 0;
    }
    for (int b = p.from; b < p.to; b++) {
        __syncthreads();
        stage_keys<T>(a, t, kvh, b, ks, vs);
        __syncthreads();
        for (int e = 0; e < EACH; e++) {
            float slope,
                s = score(dot(qs + (r0 + e) * w, ks + lane * w, hd), a.scale, a.cap, &slope);
            if (!sees(pos[e], b * TILE + lane, a.window)) s = -INFINITY;
            float m = warp_max(s);
            m = m > max[e] ? m : max[e];
            if (m == -INFINITY) continue; /* nothing seen yet; the same for all lanes */
            float fix = expf(max[e] - m), pr = expf(s - m);
            max[e] = m;
            sum[e] = fmaf(sum[e], fix, warp_sum(pr));
            for (int c = 0; c < PER; c++) o[e][c] *= fix;
            for (int j = 0; j < TILE; j++) {
                float pj = __shfl_sync(FULL_WARP, pr, j);
                for (int c = 0; c * WARP < hd && c < PER; c++)
                    if (c * WARP + lane < hd)
                        o[e][c] = fmaf(pj, vs[j * w + c * WARP + lane], o[e][c]);
            }
        }
    }
    for (int e = 0; e < EACH; e++) {
        if (r0 + e >= p.rows) continue;
        int64_t at = head_at(a, t, kvh, t.first + r0 + e);
        for (int c = 0; c * WARP < hd && c < PER; c++)
            if (c * WARP + lane < hd)
                ((T *)a.y)[at * hd + c * WARP + lane] = from_f32<T>(o[e][c] / sum[e]);
        if (!lane) a.lse[at] = max[e] + logf(sum[e]);
    }
}

/* ---- backward ------------------------------------------------------------------------------------- */
/* A warp for each head of a row. */
template <typename T> static __global__ void dots(fj_gpu_attn a, float2 *out) {
    int64_t all = a.n * a.heads, step = (int64_t)gridDim.x * WARPS;
    int lane = (int)threadIdx.x % WARP;
    for (int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; i < all; i += step) {
        const T *y = (const T *)a.y + i * a.hd, *dy = (const T *)a.dy + i * a.hd;
        float s = 0;
        for (int c = lane; c < a.hd; c += WARP) s = fmaf(to_f32(y[c]), to_f32(dy[c]), s);
        s = warp_sum(s);
        int64_t row = i / a.heads, h = i % a.heads, kvh = h / a.group;
        if (!lane)
            out[(kvh * a.n + row) * a.group + h % a.group] =
                make_float2(a.lse[i] * 1.4426950408889634f, s);
    }
}

bool fj_gpu_attn_dots(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e) {
    float2 *out = (float2 *)a->scratch;
    unsigned grid = grid_of(a->n * a->heads, WARPS, 1 << 20);
    if (bf16) FJ_LAUNCH(dots<struct bf16>, grid, THREADS, 0, g->stream, *a, out);
    else FJ_LAUNCH(dots<float>, grid, THREADS, 0, g->stream, *a, out);
    return launched("attention's dots", e);
}

template <typename T> static __global__ void any_dq(fj_gpu_attn a) {
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, false, ROWS, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    place p = place_of(a, t);
    int hd = a.hd, w = width(hd), kvh = (int)blockIdx.y;
    int lane = (int)threadIdx.x % WARP, r0 = (int)threadIdx.x / WARP * EACH;
    float *qs = (float *)mem, *ds = qs + ROWS * w, *ks = ds + ROWS * w, *vs = ks + TILE * w;
    for (int i = 0; i < 2; i++)
        stage<T>(i ? ds : qs, ROWS, hd, [&](int j) {
            const T *from = (const T *)(i ? a.dy : a.q);
            return j < p.rows ? from + head_at(a, t, kvh, t.first + j) * hd : (const T *)NULL;
        });
    const float2 *dd = (const float2 *)a.scratch + (kvh * a.n + t.row0) * a.group + t.first;
    float lse[EACH], big_d[EACH], o[EACH][PER];
    int pos[EACH];
    for (int e = 0; e < EACH; e++) {
        bool there = r0 + e < p.rows;
        int64_t r = t.first + r0 + e;
        lse[e] = there ? a.lse[head_at(a, t, kvh, r)] : 0;
        big_d[e] = there ? dd[r0 + e].y : 0;
        pos[e] = there ? t.pos0 + (int)(r / a.group) : -1;
        for (int c = 0; c < PER; c++) o[e][c] = 0;
    }
    for (int b = p.from; b < p.to; b++) {
        __syncthreads();
        stage_keys<T>(a, t, kvh, b, ks, vs);
        __syncthreads();
        for (int e = 0; e < EACH; e++) {
            float slope,
                s = score(dot(qs + (r0 + e) * w, ks + lane * w, hd), a.scale, a.cap, &slope);
            float pr = sees(pos[e], b * TILE + lane, a.window) ? expf(s - lse[e]) : 0;
            float d = pr * (dot(ds + (r0 + e) * w, vs + lane * w, hd) - big_d[e]) * slope;
            for (int j = 0; j < TILE; j++) {
                float dj = __shfl_sync(FULL_WARP, d, j);
                for (int c = 0; c * WARP < hd && c < PER; c++)
                    if (c * WARP + lane < hd)
                        o[e][c] = fmaf(dj, ks[j * w + c * WARP + lane], o[e][c]);
            }
        }
    }
    for (int e = 0; e < EACH; e++) {
        if (r0 + e >= p.rows) continue;
        T *dq = (T *)a.dq + head_at(a, t, kvh, t.first + r0 + e) * hd;
        for (int c = 0; c * WARP < hd && c < PER; c++)
            if (c * WARP + lane < hd) dq[c * WARP + lane] = from_f32<T>(o[e][c] * a.scale);
    }
}

/* A block owns ROWS keys; tiles of 32 rows of the matrix pass by, one to a lane. */
template <typename T> static __global__ void any_dkv(fj_gpu_attn a) {
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, true, ROWS, blockIdx.x, &t)) return;
    int hd = a.hd, w = width(hd), kvh = (int)blockIdx.y, key0 = (int)t.first;
    int keys = t.pos0 + t.rows - key0;
    int lane = (int)threadIdx.x % WARP, j0 = (int)threadIdx.x / WARP * EACH;
    int64_t slot = a.blocks[t.blk0 + key0 / FJ_ATTN_BLOCK] + key0 % FJ_ATTN_BLOCK;
    int64_t ld = (int64_t)a.kv_heads * hd, at = slot * ld + (int64_t)kvh * hd;
    float *ks = (float *)mem, *vs = ks + ROWS * w, *qs = vs + ROWS * w, *ds = qs + TILE * w;
    for (int i = 0; i < 2; i++)
        stage<T>(i ? vs : ks, ROWS, hd, [&](int j) {
            return j < keys ? (const T *)(i ? a.v : a.k) + at + j * ld : (const T *)NULL;
        });
    const float2 *dd = (const float2 *)a.scratch + (kvh * a.n + t.row0) * a.group;
    float dk[EACH][PER], dv[EACH][PER];
    for (int e = 0; e < EACH; e++)
        for (int c = 0; c < PER; c++) dk[e][c] = dv[e][c] = 0;
    int64_t first = key0 > t.pos0 ? (int64_t)(key0 - t.pos0) * a.group : 0;
    int64_t end = a.window ? (int64_t)key0 + ROWS - 1 + a.window - t.pos0 : t.rows;
    end = (end < t.rows ? end : t.rows) * a.group;
    for (int64_t r = first; r < end; r += TILE) {
        __syncthreads();
        for (int i = 0; i < 2; i++)
            stage<T>(i ? ds : qs, TILE, hd, [&](int j) {
                const T *from = (const T *)(i ? a.dy : a.q);
                return r + j < end ? from + head_at(a, t, kvh, r + j) * hd : (const T *)NULL;
            });
        bool there = r + lane < end;
        int pos = there ? t.pos0 + (int)((r + lane) / a.group) : -1;
        float lse = there ? a.lse[head_at(a, t, kvh, r + lane)] : 0;
        float big_d = there ? dd[r + lane].y : 0;
        __syncthreads();
        for (int e = 0; e < EACH; e++) {
            float slope,
                s = score(dot(qs + lane * w, ks + (j0 + e) * w, hd), a.scale, a.cap, &slope);
            float pr = sees(pos, key0 + j0 + e, a.window) ? expf(s - lse) : 0;
            float d = pr * (dot(ds + lane * w, vs + (j0 + e) * w, hd) - big_d) * slope;
            for (int i = 0; i < TILE; i++) {
                float di = __shfl_sync(FULL_WARP, d, i), pi = __shfl_sync(FULL_WARP, pr, i);
                for (int c = 0; c * WARP < hd && c < PER; c++)
                    if (c * WARP + lane < hd) {
                        dk[e][c] = fmaf(di, qs[i * w + c * WARP + lane], dk[e][c]);
                        dv[e][c] = fmaf(pi, ds[i * w + c * WARP + lane], dv[e][c]);
                    }
            }
        }
    }
    for (int e = 0; e < EACH && j0 + e < keys; e++)
        for (int c = 0; c * WARP < hd && c < PER; c++)
            if (c * WARP + lane < hd) {
                int64_t i = at + (j0 + e) * ld + c * WARP + lane;
                ((T *)a.dk)[i] = from_f32<T>(dk[e][c] * a.scale);
                ((T *)a.dv)[i] = from_f32<T>(dv[e][c]);
            }
}

/* ---- launchers ------------------------------------------------------------------------------------ */
template <typename T> static void forward(const fj_gpu *g, const fj_gpu_attn *a) {
    size_t shared = (size_t)(ROWS + 2 * TILE) * (size_t)width(a->hd) * 4;
    dim3 grid((unsigned)attn_row_tiles(a, ROWS), (unsigned)a->kv_heads);
    FJ_ALLOW_SHARED(any_fwd<T>, shared);
    FJ_LAUNCH(any_fwd<T>, grid, THREADS, shared, g->stream, *a);
}

template <typename T> static void backward(const fj_gpu *g, const fj_gpu_attn *a) {
    size_t shared = (size_t)(2 * ROWS + 2 * TILE) * (size_t)width(a->hd) * 4;
    dim3 rows((unsigned)attn_row_tiles(a, ROWS), (unsigned)a->kv_heads);
    dim3 keys((unsigned)attn_key_tiles(a, ROWS), (unsigned)a->kv_heads);
    FJ_ALLOW_SHARED(any_dq<T>, shared);
    FJ_ALLOW_SHARED(any_dkv<T>, shared);
    FJ_LAUNCH(any_dq<T>, rows, THREADS, shared, g->stream, *a);
    FJ_LAUNCH(any_dkv<T>, keys, THREADS, shared, g->stream, *a);
}

bool fj_gpu_attn_any(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e) {
    if (bf16) forward<struct bf16>(g, a);
    else forward<float>(g, a);
    return launched("attention", e);
}

bool fj_gpu_attn_any_bwd(const fj_gpu *g, const fj_gpu_attn *a, bool bf16, fj_err *e) {
    if (!fj_gpu_attn_dots(g, a, bf16, e)) return false;
    if (bf16) backward<struct bf16>(g, a);
    else backward<float>(g, a);
    return launched("attention, backward,", e);
}
