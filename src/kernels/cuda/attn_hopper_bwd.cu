/* attn_hopper_bwd.cu - gradients of attention on sm_90a: attn_bwd.cu's two kernels over wgmma, in one grid.
 *
 * A block is one warpgroup that copies and two that compute, each 64 keys (dk, dv) or 64 rows (dq).  What
 * passes by comes through a ring of stages as boxes of tensor maps.  While p is computed dy.v is multiplied,
 * while ds is computed dv is, and a tile's last products run with the next tile's scores behind them.
 * Blocks of keys come first and those of rows fill the gaps at their end; of each the longest are first: a
 * tile's kv heads are neighbours.
 *
 * Rows beyond the end of a sequence and keys nobody has are weighed with zero, so that what lies there
 * (rows of others, zeros) has no part. */
#include "kernels/cuda/attn_mma.cuh"

#ifdef FJ_PLAY
bool fj_gpu_attn_hopper_bwd(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    (void)g, (void)a, (void)e;
    *done = false;
    return true;
}
#else

#include "kernels/cuda/attn_hopper.cuh"

enum {
    ROWS = 128,
    KEYS = 128,
    QT = 64
}; /* of a block of rows, of keys; rows that pass by at once */
enum { KEY_STAGES = 6, ROW_STAGES = 4 };

/* lse in base 2, D and position of the rows of a stage. */
typedef struct facts {
    float lse[QT], d[QT];
    int pos[QT];
} facts;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* Rows to a stage: whole queries. */
static __device__ __forceinline__ int rows_of(int group) { return QT / group * group; }

/* The weight of score x; x becomes its part of ds, which is that times dp - D.  Without a cap, scores that
 * are not seen are -infinity. */
template <bool CAP>
static __device__ __forceinline__ float weight_of(float *x, const attn_scores &sc, float lse,
                                                  bool seen) {
    float s = CAP ? tanh_fast(*x, sc.c2) : *x, p = exp2_fast(fmaf(s, sc.c, -lse));
    if (CAP && !seen) p = 0;
    *x = CAP ? p * fmaf(-s, s, 1.0f) : p;
    return p;
}

/* 16 of dk, dv or dq: row h of the fragment to p, values 2 t4.. of every eight. */
template <int HD>
static __device__ __forceinline__ void row_out(bf16 *p, const float *d, int h, float scale) {
    UNROLL for (int j = 0; j < HD / 8; j++) * (uint32_t *)(p + 8 * j) =
        pack_bf16(d[4 * j + 2 * h] * scale, d[4 * j + 2 * h + 1] * scale);
}

/* ---- dk, dv of 128 keys ----------------------------------------------------------------------------- */
typedef struct key_layout {
    uint32_t full, empty, own; /* barriers */
    uint32_t k, v, rows;       /* keys, values; the first stage of q and dy */
    facts *f;                  /* of each stage */
} key_layout;

/* Rows of the matrix that see some of the keys: `count` stages of `step` rows from `at` on. */
typedef struct row_range {
    int to, step, at, count;
} row_range;

/* Warp 0 brings keys, then q and dy; warp 1 what is known of their rows. */
template <int HD>
static __device__ __forceinline__ void copy_rows(const CUtensorMap *q, const CUtensorMap *dy,
                                                 const CUtensorMap *k, const CUtensorMap *v,
                                                 const fj_gpu_attn &a, const attn_tile &t,
                                                 const row_range &rr, const key_layout &l,
                                                 int kvh) {
    constexpr int STAGE = 2 * QT * HD * 2, PARTS = HD / 64;
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    if (warp > 1 || (warp == 0 && lane)) return;
    if (!warp) {
        const int32_t *b = a.blocks + t.blk0 + t.first / FJ_ATTN_BLOCK;
        int have = t.pos0 + t.rows - (int)t.first;
        bar_expect(l.own, 2 * KEYS * HD * 2);
        for (int i = 0; i < KEYS / FJ_ATTN_BLOCK; i++) {
            int slot = b[i * FJ_ATTN_BLOCK < have ? i : 0];
            for (int p = 0; p < PARTS; p++) {
                uint32_t at = p * 2 * BOX + i * (BOX / 2);
                box_heads(l.k + at, k, l.own, p, kvh, slot);
                box_heads(l.v + at, v, l.own, p, kvh, slot);
            }
        }
    }
    const float2 *dd = (const float2 *)a.scratch + ((int64_t)kvh * a.n + t.row0) * a.group;
    ring r = { 0, 0 };
    int r0 = rr.at;
    for (int i = rr.count; i; i--, r0 += rr.step, next(&r, ROW_STAGES)) {
        uint32_t full = l.full + 8 * r.i, to = l.rows + r.i * STAGE;
        bar_wait(l.empty + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
        if (!warp) {
            bar_expect(full, (uint32_t)(2 * PARTS * rr.step * 128));
            int row = t.row0 + r0 / a.group;
            for (int p = 0; p < PARTS; p++) {
                box_heads(to + p * BOX, q, full, p, kvh * a.group, row);
                box_heads(to + STAGE / 2 + p * BOX, dy, full, p, kvh * a.group, row);
            }
            continue;
        }
        for (int j = lane; j < QT; j += WARP) {
            bool there = j < rr.step && r0 + j < rr.to;
            float2 ld = there ? dd[r0 + j] : make_float2(0, 0);
            l.f[r.i].lse[j] = ld.x, l.f[r.i].d[j] = ld.y;
            l.f[r.i].pos[j] = there ? t.pos0 + (r0 + j) / a.group : -1;
        }
        bar_arrive(full);
    }
}

template <int HD, bool CAP>
static __device__ __forceinline__ void compute_keys(const fj_gpu_attn &a, const attn_tile &t,
                                                    const row_range &rr, const key_layout &l,
                                                    int kvh, int w) {
    constexpr int STAGE = 2 * QT * HD * 2, N = QT / 8;
    const attn_scores sc = attn_scores_of(a);
    int thread = (int)threadIdx.x % GROUP, lane = thread % WARP, t4 = lane % 4;
    int key0 = (int)t.first + 64 * w, m0 = thread / WARP * 16 + lane / 4;
    bool first = thread == 0;
    float dk[HD / 2], dv[HD / 2], s[QT / 2], dp[QT / 2];
    uint32_t pf[QT / 16][4], df[QT / 16][4];
    UNROLL for (int i = 0; i < HD / 2; i++) dk[i] = dv[i] = 0;
    UNROLL for (int i = 0; i < QT / 4; i++) pf[i / 4][i % 4] = df[i / 4][i % 4] = 0;
    uint64_t kd = describe(l.k + w * BOX, false), vd = describe(l.v + w * BOX, false);
    ring r = { 0, 0 };
    uint32_t last_empty = 0;
    int r0 = rr.at, low = t.pos0 + r0 / a.group, by = rr.step / a.group,
        most = rr.step / a.group - 1;
    hold(dk), hold(dv);
    bar_wait(l.own, 0, WAIT_FULL, 15);
    for (int i = rr.count; i; i--, r0 += rr.step, low += by, next(&r, ROW_STAGES)) {
        uint32_t at = l.rows + r.i * STAGE;
        const facts *f = &l.f[r.i];
        bar_wait(l.full + 8 * r.i, r.parity, WAIT_FULL, r.i);
        uint64_t qd = describe(at, false), yd = describe(at + STAGE / 2, false);
        products_begin();
        UNROLL for (int d = 0; d < HD / 16; d++)
            product<false, false>(s, kd + d / 4 * (2 * BOX >> 4) + d % 4 * K16_ALONG,
                                  qd + d / 4 * (BOX >> 4) + d % 4 * K16_ALONG, d != 0);
        products_commit();
        products_wait<1>(); /* what the tile before adds to dk and dv */
        used(pf), used(df);
        if (first && last_empty) bar_arrive(last_empty);
        last_empty = l.empty + 8 * r.i;
        products_begin();
        UNROLL for (int d = 0; d < HD / 16; d++)
            product<false, false>(dp, vd + d / 4 * (2 * BOX >> 4) + d % 4 * K16_ALONG,
                                  yd + d / 4 * (BOX >> 4) + d % 4 * K16_ALONG, d != 0);
        products_commit();
        float2 lse[N];
        UNROLL for (int n = 0; n < N; n++) lse[n] = *(const float2 *)&f->lse[n * 8 + 2 * t4];
        bool all = rr.step == QT && r0 + QT <= rr.to && key0 + 63 <= low &&
                   (!a.window || key0 > low + most - a.window);
        products_wait<1>();
        hold(s);
        if (!CAP && !all) {
            UNROLL for (int n = 0; n < N; n++) UNROLL for (int i = 0; i < 4; i++) {
                bool seen = sees(f->pos[n * 8 + 2 * t4 + i % 2], key0 + m0 + i / 2 * 8, a.window);
                s[4 * n + i] = seen ? s[4 * n + i] : -INFINITY;
            }
        }
        UNROLL for (int n = 0; n < N; n++) {
            float p[4];
            UNROLL for (int i = 0; i < 4; i++) {
                bool seen = !CAP || all ||
                            sees(f->pos[n * 8 + 2 * t4 + i % 2], key0 + m0 + i / 2 * 8, a.window);
                p[i] = weight_of<CAP>(&s[4 * n + i], sc, i % 2 ? lse[n].y : lse[n].x, seen);
            }
            pf[n / 2][n % 2 * 2] = pack_bf16(p[0], p[1]);
            pf[n / 2][n % 2 * 2 + 1] = pack_bf16(p[2], p[3]);
        }
        qd = describe(at, true), yd = describe(at + STAGE / 2, true);
        products_begin();
        UNROLL for (int j = 0; j < QT / 16; j++) product_of<true>(dv, pf[j], yd + j * K16_OVER, 1);
        products_commit();
        products_wait<1>();
        hold(dp);
        UNROLL for (int n = 0; n < N; n++) {
            float2 d = *(const float2 *)&f->d[n * 8 + 2 * t4];
            UNROLL for (int i = 0; i < 4; i++) s[4 * n + i] *= dp[4 * n + i] - (i % 2 ? d.y : d.x);
            df[n / 2][n % 2 * 2] = pack_bf16(s[4 * n], s[4 * n + 1]);
            df[n / 2][n % 2 * 2 + 1] = pack_bf16(s[4 * n + 2], s[4 * n + 3]);
        }
        products_begin();
        UNROLL for (int j = 0; j < QT / 16; j++) product_of<true>(dk, df[j], qd + j * K16_OVER, 1);
        products_commit();
    }
    products_wait<0>();
    used(pf), used(df);
    hold(dk), hold(dv);
    int end = t.pos0 + t.rows;
    UNROLL for (int h = 0; h < 2; h++) {
        int key = key0 + m0 + 8 * h;
        if (key >= end) continue;
        int64_t slot = a.blocks[t.blk0 + key / FJ_ATTN_BLOCK] + key % FJ_ATTN_BLOCK;
        int64_t to = (slot * a.kv_heads + kvh) * HD + 2 * t4;
        row_out<HD>((bf16 *)a.dk + to, dk, h, a.scale);
        row_out<HD>((bf16 *)a.dv + to, dv, h, 1);
    }
}

/* ---- dq of 128 rows --------------------------------------------------------------------------------- */
typedef struct row_layout {
    uint32_t full, empty, keys; /* barriers; the first stage of keys and values */
} row_layout;

template <int HD>
static __device__ __forceinline__ void copy_keys(const CUtensorMap *k, const CUtensorMap *v,
                                                 const fj_gpu_attn &a, const attn_tile &t,
                                                 const attn_span &sp, const row_layout &l,
                                                 int kvh) {
    constexpr int STAGE = 2 * KT * HD * 2;
    ring r = { 0, 0 };
    for (int k0 = sp.from; k0 < sp.to; k0 += KT, next(&r, KEY_STAGES)) {
        const int32_t *b = a.blocks + t.blk0 + k0 / FJ_ATTN_BLOCK;
        int slot[2] = { b[0], b[k0 + FJ_ATTN_BLOCK < sp.end] };
        uint32_t full = l.full + 8 * r.i, to = l.keys + r.i * STAGE;
        bar_wait(l.empty + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
        bar_expect(full, STAGE);
        for (int i = 0; i < 2; i++)
            for (int p = 0; p < HD / 64; p++) {
                box_heads(to + p * BOX + i * (BOX / 2), k, full, p, kvh, slot[i]);
                box_heads(to + STAGE / 2 + p * BOX + i * (BOX / 2), v, full, p, kvh, slot[i]);
            }
    }
}

template <int HD, bool CAP>
static __device__ __forceinline__ void compute_rows(const fj_gpu_attn &a, const attn_tile &t,
                                                    const attn_span &sp, const row_layout &l,
                                                    int kvh, int w) {
    constexpr int STAGE = 2 * KT * HD * 2;
    const attn_scores sc = attn_scores_of(a);
    int thread = (int)threadIdx.x % GROUP, lane = thread % WARP, t4 = lane % 4;
    int m0 = 64 * w + thread / WARP * 16 + lane / 4;
    bool first = thread == 0;
    uint32_t qf[HD / 16][4], yf[HD / 16][4], df[KT / 16][4];
    float dq[HD / 2], s[KT / 2], dp[KT / 2];
    float2 about[2];
    int pos[2];
    const float2 *dd =
        (const float2 *)a.scratch + ((int64_t)kvh * a.n + t.row0) * a.group + t.first;
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h;
        bool there = r < sp.n;
        int64_t at = attn_head_at(a, t, kvh, t.first + (there ? r : 0)) * HD + 2 * t4;
        const uint32_t *q = (const uint32_t *)((const bf16 *)a.q + at);
        const uint32_t *dy = (const uint32_t *)((const bf16 *)a.dy + at);
        UNROLL for (int d = 0; d < HD / 16; d++) {
            qf[d][h] = there ? q[8 * d] : 0, qf[d][h + 2] = there ? q[8 * d + 4] : 0;
            yf[d][h] = there ? dy[8 * d] : 0, yf[d][h + 2] = there ? dy[8 * d + 4] : 0;
        }
        about[h] = there ? dd[r] : make_float2(0, 0);
        pos[h] = there ? t.pos0 + ((int)t.first + r) / a.group : -1;
    }
    UNROLL for (int i = 0; i < HD / 2; i++) dq[i] = 0;
    UNROLL for (int i = 0; i < KT / 4; i++) df[i / 4][i % 4] = 0;
    hold(qf), hold(yf);
    ring r = { 0, 0 };
    uint32_t last_empty = 0;
    if (sp.from < sp.to) bar_wait(l.full, 0, WAIT_FULL, 0);
    for (int k0 = sp.from; k0 < sp.to; k0 += KT) {
        uint32_t at = l.keys + r.i * STAGE;
        uint64_t kd = describe(at, false), vd = describe(at + STAGE / 2, false);
        products_begin();
        UNROLL for (int d = 0; d < HD / 16; d++)
            product_of<false>(s, qf[d], kd + d / 4 * (BOX >> 4) + d % 4 * K16_ALONG, d != 0);
        products_commit();
        UNROLL for (int d = 0; d < HD / 16; d++)
            product_of<false>(dp, yf[d], vd + d / 4 * (BOX >> 4) + d % 4 * K16_ALONG, d != 0);
        products_commit();
        products_wait<2>(); /* what the tile before adds to dq */
        used(df);
        if (first && last_empty) bar_arrive(last_empty);
        last_empty = l.empty + 8 * r.i;
        next(&r, KEY_STAGES);
        products_wait<1>();
        hold(s);
        bool all = sees_all(sp, k0, a.window);
        if (!CAP && !all) mask_scores((float(*)[4])s, pos, k0, a.window);
        UNROLL for (int n = 0; n < NT; n++) UNROLL for (int i = 0; i < 4; i++) {
            bool seen = !CAP || all || sees(pos[i / 2], k0 + n * 8 + 2 * t4 + i % 2, a.window);
            (void)weight_of<CAP>(&s[4 * n + i], sc, about[i / 2].x, seen);
        }
        /* Between p and dp, or the assembler computes p when dp is there and not while it is made. */
        hold(s);
        if (k0 + KT < sp.to) bar_wait(l.full + 8 * r.i, r.parity, WAIT_FULL, r.i);
        products_wait<0>();
        hold(dp);
        UNROLL for (int n = 0; n < NT; n++) {
            UNROLL for (int i = 0; i < 4; i++) s[4 * n + i] *= dp[4 * n + i] - about[i / 2].y;
            df[n / 2][n % 2 * 2] = pack_bf16(s[4 * n], s[4 * n + 1]);
            df[n / 2][n % 2 * 2 + 1] = pack_bf16(s[4 * n + 2], s[4 * n + 3]);
        }
        kd = describe(at, true);
        products_begin();
        UNROLL for (int j = 0; j < KT / 16; j++) product_of<true>(dq, df[j], kd + j * K16_OVER, 1);
        products_commit();
    }
    products_wait<0>();
    used(df);
    hold(dq);
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h;
        if (r >= sp.n) continue;
        row_out<HD>((bf16 *)a.dq + attn_head_at(a, t, kvh, t.first + r) * HD + 2 * t4, dq, h,
                    a.scale);
    }
}
#endif

/* The first key_blocks blocks are of keys, the others of rows. */
template <int HD, bool CAP>
static __global__ void __launch_bounds__(3 * GROUP, 1)
    hopper_bwd(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap dy,
               const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v,
               const __grid_constant__ fj_gpu_attn a, unsigned key_blocks) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    FJ_DYN_SHARED(mem);
    bool keys = blockIdx.x < key_blocks;
    unsigned b = keys ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
    unsigned heads = (unsigned)a.kv_heads;
    attn_tile t;
    if (!find_tile(a, keys, keys ? KEYS : ROWS, b / heads, &t)) return;
    constexpr int STAGE = 2 * QT * HD * 2;
    int group = __shfl_sync(FULL_WARP, (int)threadIdx.x / GROUP, 0), kvh = (int)(b % heads),
        key0 = (int)t.first;
    uint32_t base = (shared_address(mem) + 1023) & ~1023u;
    key_layout l = { base, base + 8 * ROW_STAGES, base + 16 * ROW_STAGES };
    l.k = base + BARRIERS, l.v = l.k + KEYS * HD * 2, l.rows = l.v + KEYS * HD * 2;
    uint32_t end = l.rows + ROW_STAGES * STAGE;
    l.f = (facts *)(void *)(mem + (end - shared_address(mem)));
    row_range rr = { t.rows, rows_of(a.group), key0 > t.pos0 ? (key0 - t.pos0) * a.group : 0 };
    if (a.window && key0 + KEYS - 1 + a.window - t.pos0 < rr.to)
        rr.to = key0 + KEYS - 1 + a.window - t.pos0;
    rr.to *= a.group;
    rr.count = rr.to > rr.at ? (rr.to - rr.at + rr.step - 1) / rr.step : 0;
    const attn_span sp = span_of(a, t, ROWS);
    const row_layout lr = { base, base + 8 * KEY_STAGES, base + BARRIERS };
    if (keys && rr.step < QT) /* rows of a stage that nobody brings */
        for (uint32_t i = l.rows + threadIdx.x * 16; i < end; i += 3 * GROUP * 16)
            asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(i), "r"(0) : "memory");
    fence_async();
    if (threadIdx.x == 0) {
        map_prefetch(&q), map_prefetch(&dy), map_prefetch(&k), map_prefetch(&v);
        if (keys) {
            bar_init(l.own, 1);
            for (int i = 0; i < ROW_STAGES; i++)
                bar_init(l.full + 8 * i, 1 + WARP), bar_init(l.empty + 8 * i, 2);
        } else {
            for (int i = 0; i < KEY_STAGES; i++)
                bar_init(lr.full + 8 * i, 1), bar_init(lr.empty + 8 * i, 2);
        }
        bar_init_done();
    }
    __syncthreads();
    if (group == 0) {
        registers_down<REGS_COPY>();
        if (keys) copy_rows<HD>(&q, &dy, &k, &v, a, t, rr, l, kvh);
        else if (threadIdx.x == 0) copy_keys<HD>(&k, &v, a, t, sp, lr, kvh);
    } else {
        registers_up<REGS_COMPUTE>();
        if (keys) compute_keys<HD, CAP>(a, t, rr, l, kvh, group - 1);
        else compute_rows<HD, CAP>(a, t, sp, lr, kvh, group - 1);
    }
#else
    (void)q, (void)dy, (void)k, (void)v, (void)a, (void)key_blocks;
#endif
}

template <int HD, bool CAP>
static bool launch(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    auto kernel = hopper_bwd<HD, CAP>;
    if (!is_there(kernel)) return true;
    CUtensorMap q, dy, k, v;
    int high = QT / a->group;
    if (!map_heads(&q, a->q, a->n, a->heads, HD, high, a->group, e) ||
        !map_heads(&dy, a->dy, a->n, a->heads, HD, high, a->group, e) ||
        !map_keys(&k, a->k, a, e) || !map_keys(&v, a->v, a, e))
        return false;
    size_t keys = (size_t)2 * KEYS * HD * 2 + (size_t)ROW_STAGES * 2 * QT * HD * 2 +
                  ROW_STAGES * sizeof(facts);
    size_t rows = (size_t)KEY_STAGES * 2 * KT * HD * 2;
    size_t shared = 1024 + BARRIERS + FJ_MAX(keys, rows);
    int64_t key_blocks = attn_key_tiles(a, KEYS) * a->kv_heads;
    int64_t row_blocks = attn_row_tiles(a, ROWS) * a->kv_heads;
    *done = true;
    if (!fj_gpu_attn_dots(g, a, true, e)) return false;
    FJ_ALLOW_SHARED(kernel, shared);
    FJ_LAUNCH(kernel, (unsigned)(key_blocks + row_blocks), 3 * GROUP, shared, g->stream, q, dy, k,
              v, *a, (unsigned)key_blocks);
    return launched("attention, backward,", e);
}

bool fj_gpu_attn_hopper_bwd(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    *done = false;
    if (g->compute != 90 || (a->hd != 64 && a->hd != 128) || a->group > QT || !encoder())
        return true;
    if (a->cap > 0)
        return a->hd == 64 ? launch<64, true>(g, a, done, e) : launch<128, true>(g, a, done, e);
    return a->hd == 64 ? launch<64, false>(g, a, done, e) : launch<128, false>(g, a, done, e);
}
#endif
