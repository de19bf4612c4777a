/* attn_hopper.cu - attention of many rows on sm_90a (after FlashAttention-3, Shah et al. 2024).
 *
 * A block is one warpgroup that copies and two that compute, 64 rows of the matrix each.  Tiles of 64 keys
 * and of their values come through a ring, block of 32 positions by block, each a box of a tensor map.
 * Scores of the next tile are multiplied while this one's softmax is computed, and its values after that.
 * The arithmetic is that of attn_mma.cuh: queries and weights are operands in registers, so that the
 * order of everything is as in attn_fwd.cu. */
#include "kernels/cuda/attn_mma.cuh"

#ifdef FJ_PLAY
bool fj_gpu_attn_hopper(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    (void)g, (void)a, (void)e;
    *done = false;
    return true;
}
#else

#include "kernels/cuda/attn_hopper.cuh"

enum { ROWS = 128, STAGES = 6 }; /* of keys, and as many of values */

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/* Where things are in shared memory. */
typedef struct layout {
    uint32_t full_k, full_v, empty_k, empty_v; /* the first of STAGES barriers */
    uint32_t k, v;                             /* the first stage */
} layout;
static __device__ __forceinline__ layout layout_of(uint32_t base, int stage) {
    layout l;
    l.full_k = base, l.full_v = base + 8 * STAGES;
    l.empty_k = base + 16 * STAGES, l.empty_v = base + 24 * STAGES;
    l.k = base + BARRIERS, l.v = l.k + STAGES * stage;
    return l;
}

/* One thread copies: of a stage, box `part` holds values 64 part.. of the head of all 64 keys. */
template <int HD>
static __device__ __forceinline__ void copy_keys(const CUtensorMap *k, const CUtensorMap *v,
                                                 const fj_gpu_attn &a, const attn_tile &t,
                                                 const attn_span &sp, const layout &l, int kvh) {
    constexpr int STAGE = KT * HD * 2, HALF = STAGE / 2;
    ring r = { 0, 0 };
    for (int k0 = sp.from; k0 < sp.to; k0 += KT, next(&r, STAGES)) {
        const int32_t *b = a.blocks + t.blk0 + k0 / FJ_ATTN_BLOCK;
        int n = k0 + FJ_ATTN_BLOCK < sp.end ? 2 : 1, slot[2];
        for (int i = 0; i < n; i++) slot[i] = b[i];
        for (int what = 0; what < 2; what++) {
            uint32_t full = (what ? l.full_v : l.full_k) + 8 * r.i;
            uint32_t to = (what ? l.v : l.k) + r.i * STAGE;
            bar_wait((what ? l.empty_v : l.empty_k) + 8 * r.i, r.parity ^ 1, WAIT_EMPTY, r.i);
            bar_expect(full, (uint32_t)(n * HALF));
            for (int i = 0; i < n; i++)
                for (int part = 0; part < HD / 64; part++)
                    box_heads(to + part * BOX + i * (BOX / 2), what ? v : k, full, part, kvh,
                              slot[i]);
        }
    }
}

/* Values beyond the end of the sequence are somebody else's: zeros, by all threads of warpgroup w. */
template <int HD> static __device__ __forceinline__ void clear_values(uint32_t v, int have, int w) {
    int n = (KT - have) * 8; /* 16 bytes each */
    for (int i = (int)threadIdx.x % GROUP; i < n; i += GROUP)
        for (int part = 0; part < HD / 64; part++)
            asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(v + part * BOX +
                                                                          have * 128 + i * 16),
                         "r"(0)
                         : "memory");
    fence_async();
    threads_sync(1 + w, GROUP);
}

/* Computing warpgroup w. */
template <int HD>
static __device__ __forceinline__ void compute(const fj_gpu_attn &a, const attn_tile &t,
                                               const attn_span &sp, const layout &l, int kvh,
                                               int w) {
    constexpr int STAGE = KT * HD * 2, DT = HD / 8;
    const attn_scores sc = attn_scores_of(a);
    int thread = (int)threadIdx.x % GROUP, lane = thread % WARP, t4 = lane % 4;
    int m0 = 64 * w + thread / WARP * 16;
    bool first = thread == 0;
    uint32_t qf[HD / 16][4], pf[KT / 16][4];
    float o[HD / 2], s[KT / 2], fix[2];
    attn_row row[2];
    int pos[2];
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + 8 * h + lane / 4;
        bool there = r < sp.n;
        const uint32_t *q =
            (const uint32_t *)((const bf16 *)a.q +
                               attn_head_at(a, t, kvh, t.first + (there ? r : 0)) * HD) +
            t4;
        UNROLL for (int d = 0; d < HD / 16; d++) {
            qf[d][h] = there ? q[8 * d] : 0;
            qf[d][h + 2] = there ? q[8 * d + 4] : 0;
        }
        pos[h] = there ? t.pos0 + ((int)t.first + r) / a.group : -1;
        row[h].max = -INFINITY, row[h].sum = 0;
    }
    UNROLL for (int i = 0; i < HD / 2; i++) o[i] = 0;
    float(*const s4)[4] = (float(*)[4])s, (*const o4)[4] = (float(*)[4])o;

    auto scores = [&](int stage) {
        uint64_t b = describe(l.k + stage * STAGE, false);
        products_begin();
        UNROLL for (int d = 0; d < HD / 16; d++)
            product_of<false>(s, qf[d], b + d / 4 * (BOX >> 4) + d % 4 * K16_ALONG, d != 0);
        products_commit();
    };
    auto values = [&](int stage, int k0) {
        uint64_t b = describe(l.v + stage * STAGE, true);
        if (k0 + KT > sp.end) clear_values<HD>(l.v + stage * STAGE, sp.end - k0, w);
        products_begin();
        UNROLL for (int j = 0; j < KT / 16; j++) product_of<true>(o, pf[j], b + j * K16_OVER, 1);
        products_commit();
    };
    auto softmax = [&](int k0) {
        if (sc.c2 > 0) cap_scores(s4, sc.c2);
        if (!sees_all(sp, k0, a.window)) mask_scores(s4, pos, k0, a.window);
        softmax_step(s4, row, sc.c, fix);
    };
    auto weights = [&]() {
        UNROLL for (int j = 0; j < KT / 16; j++) frag_of_sums(pf[j], s4[2 * j], s4[2 * j + 1]);
    };

    ring rk = { 0, 0 }, rv = { 0, 0 };
    bool parked = false;
    bar_wait(l.full_k, 0, WAIT_FULL, 0);
    hold(qf);
    scores(0);
    products_wait<0>();
    hold(s);
    if (first) bar_arrive(l.empty_k);
    next(&rk, STAGES);
    softmax(sp.from);
    weights();
    int k0 = sp.from + KT;
    if (k0 < sp.to) bar_wait(l.full_k + 8 * rk.i, rk.parity, WAIT_FULL, rk.i);
    for (; k0 < sp.to; k0 += KT) {
        scores(rk.i);
        bar_wait(l.full_v + 8 * rv.i, rv.parity, WAIT_FULL, STAGES + rv.i);
        values(rv.i, k0 - KT);
        products_wait<1>();
        hold(s);
        if (first) bar_arrive(l.empty_k + 8 * rk.i);
        next(&rk, STAGES);
        if (k0 % ATTN_CHUNK == 0) { /* a chunk begins: the one before is put away */
            products_wait<0>();
            hold(o);
            park_rows<DT>(a, t, sp, kvh, m0, row, o4, sc.c, parked);
            parked = true;
        }
        softmax(k0);
        /* Between the two, or the assembler puts the softmax behind the wait. */
        hold(s);
        if (k0 + KT < sp.to) bar_wait(l.full_k + 8 * rk.i, rk.parity, WAIT_FULL, rk.i);
        products_wait<0>();
        hold(o);
        hold(pf);
        if (first) bar_arrive(l.empty_v + 8 * rv.i);
        next(&rv, STAGES);
        if (__ballot_sync(FULL_WARP, fix[0] != 1 || fix[1] != 1)) {
            UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o4[d][i] *=
                fix[i / 2];
        }
        weights();
    }
    bar_wait(l.full_v + 8 * rv.i, rv.parity, WAIT_FULL, STAGES + rv.i);
    values(rv.i, k0 - KT);
    products_wait<0>();
    hold(o);
    hold(pf);
    rows_out<DT>(a, t, sp, kvh, m0, row, o4, sc.c, parked);
}
#endif

template <int HD>
static __global__ void __launch_bounds__(3 * GROUP, 1)
    hopper_fwd(const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v,
               const __grid_constant__ fj_gpu_attn a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, false, ROWS, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    const attn_span sp = span_of(a, t, ROWS);
    const layout l = layout_of((shared_address(mem) + 1023) & ~1023u, KT * HD * 2);
    int group = (int)threadIdx.x / GROUP, kvh = (int)blockIdx.y;
    if (threadIdx.x == 0) {
        map_prefetch(&k), map_prefetch(&v);
        for (int i = 0; i < STAGES; i++) {
            bar_init(l.full_k + 8 * i, 1), bar_init(l.full_v + 8 * i, 1);
            bar_init(l.empty_k + 8 * i, 2), bar_init(l.empty_v + 8 * i, 2);
        }
        bar_init_done();
    }
    __syncthreads();
    if (group == 0) {
        registers_down<REGS_COPY>();
        if (threadIdx.x == 0) copy_keys<HD>(&k, &v, a, t, sp, l, kvh);
        __syncwarp();
    } else {
        registers_up<REGS_COMPUTE>();
        compute<HD>(a, t, sp, l, kvh, group - 1);
    }
#else
    (void)k, (void)v, (void)a;
#endif
}

template <int HD> static bool launch(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    auto kernel = hopper_fwd<HD>;
    if (!is_there(kernel)) return true;
    CUtensorMap k, v;
    if (!map_keys(&k, a->k, a, e) || !map_keys(&v, a->v, a, e)) return false;
    size_t shared = 1024 + BARRIERS + (size_t)2 * STAGES * KT * HD * 2;
    dim3 grid((unsigned)attn_row_tiles(a, ROWS), (unsigned)a->kv_heads);
    FJ_ALLOW_SHARED(kernel, shared);
    *done = true;
    FJ_LAUNCH(kernel, grid, 3 * GROUP, shared, g->stream, k, v, *a);
    return launched("attention", e);
}

bool fj_gpu_attn_hopper(const fj_gpu *g, const fj_gpu_attn *a, bool *done, fj_err *e) {
    *done = false;
    if (g->compute != 90 || (a->hd != 64 && a->hd != 128) || !encoder()) return true;
    return a->hd == 64 ? launch<64>(g, a, done, e) : launch<128>(g, a, done, e);
}
#endif
