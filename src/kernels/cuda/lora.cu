/* lora.cu - adapters of some rows each (lora.cuh). */
#include "kernels/cuda/lora.cuh"
#include "kernels/cuda/mma.cuh"

enum {
    PARTS = 64, /* that travel with a kernel */
    RANKS = 16, /* of a tile of t */
    STAGES = 4, /* of k in shared memory */
    DOWN = 128, /* threads */
    UP = 256,
    COLS = 32, /* of y, of a warp */
    SIDE = 16, /* of a tile in F32, and rows of a tile of y */
    DEEP = 32, /* of k in a step of F32 */
};

typedef struct part {
    const void *w;
    int row0, rows, r, col, first; /* first: tile */
    float scale;
    bool f32, pieces; /* of w; pieces: what is read at once is aligned */
} part;

typedef struct parts {
    const void *x;       /* down: x, up: t */
    void *y;             /* t, y */
    int64_t n, ldx, ldy; /* n: down: k, up: columns of y */
    int count, across;   /* across: blocks along n */
    bool x_pieces, y_pieces;
    part p[PARTS];
} parts;

__device__ __forceinline__ const part &part_of(const parts &a, int tile) {
    int i = 0;
    for (int half = PARTS / 2; half; half /= 2)
        if (i + half < a.count && a.p[i + half].first <= tile) i += half;
    return a.p[i];
}

__device__ __forceinline__ float weight_at(const part &p, int64_t i) {
    return p.f32 ? ((const float *)p.w)[i] : to_f32(((const bf16 *)p.w)[i]);
}

/* ---- down ---------------------------------------------------------------------------------------- */
/* Eight values from at on, zeros from `left` on, as BF16 to shared memory. */
__device__ __forceinline__ void put_eight(unsigned char *to, const part &p, int64_t at,
                                          int64_t left) {
    float v[8];
    if (p.pieces && left >= 8) { /* F32: of BF16 they are copied */
        load8((const float *)p.w + at, v);
    } else {
        for (int i = 0; i < 8; i++) v[i] = i < left ? weight_at(p, at + i) : 0;
    }
    *(uint4 *)to = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                              pack_bf16(v[6], v[7]));
}

/* A block: 16 ranks of A for up to ROWS rows of x.  A warp has 8 rows: A is the operand of 16 rows.  What is
 * in shared memory of ranks and rows that are not there makes sums that are not written. */
template <int ROWS, int KS>
static __global__ void __launch_bounds__(DOWN) down(const __grid_constant__ parts a) {
    enum { EACH = KS / 8, PITCH = KS * 2 + 16, STAGE = (RANKS + ROWS) * PITCH };
    FJ_DYN_SHARED(ring);
    early_release();
    const part &p = part_of(a, (int)blockIdx.x);
    int tile = (int)blockIdx.x - p.first, high = (p.r + RANKS - 1) / RANKS;
    int rank0 = tile % high * RANKS, row0 = tile / high * ROWS;
    int ranks = FJ_MIN(p.r - rank0, (int)RANKS), rows = FJ_MIN(p.rows - row0, ROWS);
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int64_t k = a.n;
    const bf16 *x = (const bf16 *)a.x + (p.row0 + row0) * a.ldx;
    int steps = (int)((k + KS - 1) / KS);

    auto fetch_a = [&](int s) {
        unsigned char *to = ring + s % STAGES * STAGE;
        for (int i = (int)threadIdx.x; i < ranks * EACH; i += DOWN) {
            int64_t at = (int64_t)s * KS + i % EACH * 8, from = (rank0 + i / EACH) * k;
            unsigned char *here = to + i / EACH * PITCH + i % EACH * 16;
            if (p.pieces && !p.f32)
                copy16_async(here, (const bf16 *)p.w + from + (at < k ? at : 0), at < k);
            else put_eight(here, p, from + at, k - at);
        }
    };
    auto fetch_x = [&](int s) {
        unsigned char *to = ring + s % STAGES * STAGE + RANKS * PITCH;
        for (int i = (int)threadIdx.x; i < rows * EACH; i += DOWN) {
            int64_t at = (int64_t)s * KS + i % EACH * 8;
            unsigned char *here = to + i / EACH * PITCH + i % EACH * 16;
            const bf16 *from = x + i / EACH * a.ldx + at;
            if (a.x_pieces) {
                copy16_async(here, at < k ? from : x, at < k);
            } else {
                uint32_t v[4] = { 0, 0, 0, 0 };
                for (int j = 0; j < 8; j++)
                    if (at + j < k) v[j / 2] |= (uint32_t)from[j].u << j % 2 * 16;
                *(uint4 *)here = make_uint4(v[0], v[1], v[2], v[3]);
            }
        }
    };
    for (int s = 0; s < STAGES - 1 && s < steps; s++) fetch_a(s); /* nobody writes A meanwhile */
    early_wait();
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) fetch_x(s);
        copies_commit();
    }

    float d[4] = { 0, 0, 0, 0 };
    for (int s = 0; s < steps; s++) {
        copies_wait<STAGES - 2>();
        __syncthreads(); /* step s is there, and nobody reads step s - 1 any more */
        if (s + STAGES - 1 < steps) fetch_a(s + STAGES - 1), fetch_x(s + STAGES - 1);
        copies_commit();
        if (warp * 8 >= rows) continue;
        const unsigned char *as = ring + s % STAGES * STAGE, *xs = as + RANKS * PITCH;
        as += lane % 16 * PITCH + lane / 16 * 16;
        xs += (warp * 8 + lane % 8) * PITCH + lane / 8 * 16;
        uint32_t w[2][2][4], v[2][4];
        auto load = [&](int u) { /* 32 values of k */
                                 ldmatrix_x4(w[u % 2][0], as + u * 64);
                                 ldmatrix_x4(w[u % 2][1], as + u * 64 + 32);
                                 ldmatrix_x4(v[u % 2], xs + u * 64);
        };
        auto multiply = [&](int u) {
            mma_bf16(d, w[u % 2][0], v[u % 2]);
            mma_bf16(d, w[u % 2][1], v[u % 2] + 2);
        };
        load(0);
        UNROLL for (int u = 0; u < KS / 32; u++) { /* zeros beyond k */
            if (u + 1 < KS / 32) load(u + 1);
            multiply(u);
        }
    }
    bf16 *t = (bf16 *)a.y + (p.row0 + row0) * a.ldy + p.col + rank0;
    for (int i = 0; i < 4; i++) {
        int rank = lane / 4 + i / 2 * 8, row = warp * 8 + lane % 4 * 2 + i % 2;
        if (rank < ranks && row < rows) t[row * a.ldy + rank] = to_bf16(d[i]);
    }
}

static __global__ void __launch_bounds__(SIDE *SIDE) down_f32(const __grid_constant__ parts a) {
    __shared__ float xs[SIDE][DEEP + 1];
    __shared__ float as[SIDE][DEEP + 1];
    early_begin();
    const part &p = part_of(a, (int)blockIdx.x);
    int tile = (int)blockIdx.x - p.first, high = (p.r + SIDE - 1) / SIDE;
    int rank0 = tile % high * SIDE, row0 = tile / high * SIDE;
    int rank = (int)threadIdx.x % SIDE, row = (int)threadIdx.x / SIDE;
    const float *x = (const float *)a.x + (p.row0 + row0) * a.ldx;
    float d = 0;
    for (int64_t k = 0; k < a.n; k += DEEP) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < SIDE * DEEP; i += SIDE * SIDE) {
            int r = i / DEEP, c = i % DEEP;
            bool in = k + c < a.n;
            xs[r][c] = in && row0 + r < p.rows ? x[r * a.ldx + k + c] : 0;
            as[r][c] = in && rank0 + r < p.r ? weight_at(p, (rank0 + r) * a.n + k + c) : 0;
        }
        __syncthreads();
        for (int c = 0; c < DEEP; c++) d = fmaf(xs[row][c], as[rank][c], d);
    }
    if (row0 + row < p.rows && rank0 + rank < p.r)
        ((float *)a.y)[(p.row0 + row0 + row) * a.ldy + p.col + rank0 + rank] = d;
}

/* ---- up ------------------------------------------------------------------------------------------ */
/* Values k and k + 1 of a row of r, zeros from r on. */
__device__ __forceinline__ uint32_t two_of(const bf16 *row, int k, int r, bool pairs) {
    if (k >= r) return 0;
    if (pairs) return *(const uint32_t *)(row + k);
    return row[k].u | (k + 1 < r ? (uint32_t)row[k + 1].u << 16 : 0);
}
__device__ __forceinline__ uint32_t two_of_weight(const part &p, int64_t row, int k) {
    if (!p.f32) return two_of((const bf16 *)p.w + row * p.r, k, p.r, p.pieces);
    const float *w = (const float *)p.w + row * p.r + k;
    if (k >= p.r) return 0;
    return pack_bf16(w[0], k + 1 < p.r ? w[1] : 0);
}

/* A warp: 16 rows and 32 columns of y.  Column 2 i + j of the product's tile t is column 8 i + 2 t + j here, so
 * that a thread has eight neighbours. */
static __global__ void __launch_bounds__(UP) up(const __grid_constant__ parts a) {
    early_release();
    const part &p = part_of(a, (int)(blockIdx.x / (unsigned)a.across));
    int tile = (int)(blockIdx.x / (unsigned)a.across) - p.first;
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, i = lane / 4, q = lane % 4;
    int64_t col = ((int64_t)(blockIdx.x % (unsigned)a.across) * (UP / WARP) + warp) * COLS;
    int64_t mine = col + i / 2 * 8 + i % 2, to = col + q * 8;
    int row = tile * SIDE + i;
    bool in[2] = { row < p.rows && to < a.n, row + 8 < p.rows && to < a.n };
    bf16 *y = (bf16 *)a.y + (p.row0 + row) * a.ldy + to;
    const bf16 *t = (const bf16 *)a.x + (p.row0 + row) * a.ldx + p.col;
    uint32_t b[4][2];
    auto load_b = [&](int k) {
        UNROLL for (int j = 0; j < 4; j++) UNROLL for (int h = 0; h < 2; h++) b[j][h] =
            mine + 2 * j < a.n ? two_of_weight(p, mine + 2 * j, k + h * 8 + q * 2) : 0;
    };
    load_b(0); /* nobody writes B meanwhile */
    early_wait();
    float was[2][8] = {};
    UNROLL for (int h = 0; h < 2; h++) {
        if (!in[h]) continue;
        if (a.y_pieces) {
            load8(y + h * 8 * a.ldy, was[h]);
        } else {
            for (int j = 0; j < 8; j++)
                if (to + j < a.n) was[h][j] = to_f32(y[h * 8 * a.ldy + j]);
        }
    }
    float d[4][4] = {};
    for (int k = 0; k < p.r; k += 16) {
        uint32_t v[4];
        if (k) load_b(k);
        UNROLL for (int j = 0; j < 4; j++) v[j] =
            row + j % 2 * 8 < p.rows ? two_of(t + j % 2 * 8 * a.ldx, k + j / 2 * 8 + q * 2, p.r,
                                              a.x_pieces && p.r % 2 == 0)
                                     : 0;
        UNROLL for (int j = 0; j < 4; j++) mma_bf16(d[j], v, b[j]);
    }
    UNROLL for (int h = 0; h < 2; h++) {
        if (!in[h]) continue;
        UNROLL for (int j = 0; j < 8; j++) was[h][j] =
            fmaf(p.scale, d[j / 2][h * 2 + j % 2], was[h][j]);
        if (a.y_pieces) {
            store8(y + h * 8 * a.ldy, was[h]);
        } else {
            for (int j = 0; j < 8; j++)
                if (to + j < a.n) y[h * 8 * a.ldy + j] = to_bf16(was[h][j]);
        }
    }
}

/* A block: a row and as many columns as threads. */
static __global__ void __launch_bounds__(UP) up_f32(const __grid_constant__ parts a) {
    early_begin();
    const part &p = part_of(a, (int)(blockIdx.x / (unsigned)a.across));
    int64_t row = p.row0 + (int)(blockIdx.x / (unsigned)a.across) - p.first;
    int64_t col = (int64_t)(blockIdx.x % (unsigned)a.across) * UP + threadIdx.x;
    if (col >= a.n) return;
    const float *t = (const float *)a.x + row * a.ldx + p.col;
    float *y = (float *)a.y + row * a.ldy + col, d = 0;
    for (int k = 0; k < p.r; k++) d = fmaf(t[k], weight_at(p, col * p.r + k), d);
    *y = fmaf(p.scale, d, *y);
}

/* ---- host ---------------------------------------------------------------------------------------- */
static bool aligned(const void *p, int64_t to) { return (uintptr_t)p % (uintptr_t)to == 0; }

/* Fills in a's parts, as many of `count` as go into one, with tiles of `high` rows and `wide` ranks (0: any);
 * *tiles: of all of them. */
static int take(parts *a, int count, const fj_lora_part *p, int64_t high, int64_t wide,
                int64_t *tiles) {
    int n = 0;
    *tiles = 0;
    for (a->count = 0; n < count && a->count < PARTS; n++) {
        if (p[n].rows < 1 || p[n].r < 1) continue;
        part *q = &a->p[a->count++];
        *q = part{ p[n].w,      (int)p[n].row0, (int)p[n].rows,       (int)p[n].r, (int)p[n].col,
                   (int)*tiles, p[n].scale,     p[n].dtype == FJ_F32, false };
        *tiles += (p[n].rows + high - 1) / high * (wide ? (p[n].r + wide - 1) / wide : 1);
    }
    return n;
}

static bool fits(const fj_gpu *g, fj_dtype x, fj_dtype y, int count, const fj_lora_part *p,
                 fj_err *e) {
    bool ok = x == y && (x == FJ_F32 || (x == FJ_BF16 && !g->f32));
    for (int i = 0; i < count; i++)
        ok = ok && (p[i].dtype == FJ_F32 || p[i].dtype == FJ_BF16) &&
             p[i].row0 + p[i].rows <= INT32_MAX && p[i].r <= INT32_MAX && p[i].col <= INT32_MAX;
    return ok || fj_fail(e, FJ_EUNSUP, "adapters of these rows or formats on the GPU");
}

template <int ROWS, int KS>
static bool start_down(const fj_gpu *g, const parts &a, int64_t tiles, fj_err *e) {
    size_t shared = (size_t)STAGES * (RANKS + ROWS) * (KS * 2 + 16);
    FJ_ALLOW_SHARED((down<ROWS, KS>), shared);
    FJ_LAUNCH_EARLY((down<ROWS, KS>), (unsigned)tiles, DOWN, shared, g->stream, a);
    return launched("adapters", e);
}

bool fj_gpu_lora_down(const fj_gpu *g, fj_grows x, int64_t k, int count, const fj_lora_part *p,
                      fj_grows t, fj_err *e) {
    if (!fits(g, x.dtype, t.dtype, count, p, e)) return false;
    bool bf = x.dtype == FJ_BF16, few = true;
    for (int i = 0; i < count; i++) few = few && p[i].rows <= 8;
    while (count > 0) {
        parts a = {};
        int64_t tiles;
        int n = take(&a, count, p, !bf ? (int64_t)SIDE : few ? 8 : 32, RANKS, &tiles);
        p += n, count -= n;
        if (!a.count) continue;
        a.x = x.data, a.y = t.data, a.n = k, a.ldx = x.ld, a.ldy = t.ld;
        a.x_pieces = k % 8 == 0 && x.ld % 8 == 0 && aligned(x.data, 16);
        for (int i = 0; i < a.count; i++) a.p[i].pieces = k % 8 == 0 && aligned(a.p[i].w, 16);
        if (tiles > INT32_MAX) return fj_fail(e, FJ_EUNSUP, "adapters of too many rows");
        if (bf && !(few ? start_down<8, 512>(g, a, tiles, e) : start_down<32, 256>(g, a, tiles, e)))
            return false;
        if (!bf) {
            FJ_LAUNCH_EARLY(down_f32, (unsigned)tiles, SIDE * SIDE, 0, g->stream, a);
            if (!launched("adapters", e)) return false;
        }
    }
    return true;
}

bool fj_gpu_lora_up(const fj_gpu *g, fj_grows t, int count, const fj_lora_part *p, fj_grows y,
                    int64_t n, fj_err *e) {
    if (!fits(g, t.dtype, y.dtype, count, p, e)) return false;
    bool bf = y.dtype == FJ_BF16;
    while (count > 0 && n > 0) {
        parts a = {};
        int64_t tiles, each = bf ? UP / WARP * COLS : UP;
        int taken = take(&a, count, p, bf ? (int64_t)SIDE : 1, 0, &tiles);
        p += taken, count -= taken;
        if (!a.count) continue;
        a.x = t.data, a.y = y.data, a.n = n, a.ldx = t.ld, a.ldy = y.ld;
        a.x_pieces = t.ld % 2 == 0 && aligned(t.data, 4);
        a.y_pieces = n % 8 == 0 && y.ld % 8 == 0 && aligned(y.data, 16);
        a.across = (int)((n + each - 1) / each);
        for (int i = 0; i < a.count; i++) {
            a.x_pieces = a.x_pieces && a.p[i].col % 2 == 0;
            a.p[i].pieces = a.p[i].r % 2 == 0 && aligned(a.p[i].w, 4);
        }
        if (tiles * a.across > INT32_MAX) return fj_fail(e, FJ_EUNSUP, "adapters of too many rows");
        unsigned blocks = (unsigned)(tiles * a.across);
        if (bf) FJ_LAUNCH_EARLY(up, blocks, UP, 0, g->stream, a);
        else FJ_LAUNCH_EARLY(up_f32, blocks, UP, 0, g->stream, a);
        if (!launched("adapters", e)) return false;
    }
    return true;
}
