/* attn_bwd.cu - gradients of attention over tensor cores, from q, k, v, and lse and D = dy.y of each row:
 *
 *     p_j = exp(s_j - lse)   ds_j = p_j (dy.v_j - D)
 *     dq = scale sum ds_j k_j    dk_j = scale sum ds_j q    dv_j = sum p_j dy
 * p and ds are rounded to bf16 before they meet q, k and dy; with a cap ds is times 1 - (s / cap)^2.
 *
 * One kernel owns keys: rows pass by, in the order of the matrix (query, then head), and dk and dv stay in
 * registers; scores are made turned (keys down, rows across) so that they are operands as they are.
 * Another owns rows, keys pass by.  Nothing is added by two blocks. */
#include "kernels/cuda/attn_mma.cuh"

enum { KT = ATTN_KT, QT = 64, NT = 8, WARPS = 4, THREADS = WARPS * WARP };

/* lse in base 2, D and position of the rows of a tile. */
typedef struct facts {
    float2 ld[QT];
    int pos[QT];
} facts;

/* x, score of q.k over a row with these facts, and dp = dy.v become p and ds. */
static __device__ __forceinline__ void to_grads(float *x, float *dp, const attn_scores &sc,
                                                float lse, float d, bool seen) {
    float s = sc.c2 > 0 ? tanh_fast(*x, sc.c2) : *x;
    float p = seen ? exp2_fast(fmaf(s, sc.c, -lse)) : 0;
    float ds = p * (*dp - d);
    *x = p;
    *dp = sc.c2 > 0 ? ds * fmaf(-s, s, 1.0f) : ds;
}

/* s [16, 64] = rows m0.. of tile a times rows of tile b, over HD values. */
template <int HD>
static __device__ __forceinline__ void scores(float (*s)[4], const bf16 *a, int m0, const bf16 *b) {
    UNROLL for (int n = 0; n < NT; n++) UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
    UNROLL for (int d = 0; d < HD; d += 16) {
        uint32_t af[4], bf[4];
        frag_a<HD>(af, a, m0, d);
        UNROLL for (int n = 0; n < NT; n += 2) {
            frag_b<HD>(bf, b, n * 8, d);
            mma_bf16(s[n], af, bf);
            mma_bf16(s[n + 1], af, bf + 2);
        }
    }
}

/* o [16, DC] += f [16, 64] times columns d0.. of tile b. */
template <int HD, int DC>
static __device__ __forceinline__ void add_up(float (*o)[4], const uint32_t (*f)[4], const bf16 *b,
                                              int d0) {
    UNROLL for (int j = 0; j < 4; j++) UNROLL for (int d = 0; d < DC / 8; d += 2) {
        uint32_t bf[4];
        frag_bt<HD>(bf, b, 16 * j, d0 + 8 * d);
        mma_bf16(o[d], f[j], bf);
        mma_bf16(o[d + 1], f[j], bf + 2);
    }
}

/* ---- dk, dv: columns [DC blockIdx.z, + DC) of 64 keys ----------------------------------------------- */
template <int HD, int DC>
static __global__ void __launch_bounds__(THREADS) of_keys(fj_gpu_attn a, int buffers) {
    constexpr int P = ATTN_PITCH(HD), DT = DC / 8;
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, true, KT, blockIdx.x, &t)) return;
    const attn_scores sc = attn_scores_of(a);
    int kvh = (int)blockIdx.y, d0 = (int)blockIdx.z * DC, key0 = (int)t.first;
    int lane = (int)threadIdx.x % WARP, g = lane / 4, t4 = lane % 4;
    int m0 = (int)threadIdx.x / WARP * 16, end_key = t.pos0 + t.rows;
    int64_t ld = (int64_t)a.kv_heads * HD;
    bf16 *ks = (bf16 *)mem, *vs = ks + KT * P, *qs = vs + KT * P, *ys = qs + buffers * QT * P;
    facts *fs = (facts *)(void *)(ys + buffers * QT * P);
    const attn_keys keys = keys_at(a, t, key0, end_key);
    load_keys<HD, THREADS>(keys, (const bf16 *)a.k + kvh * HD, ld, ks);
    load_keys<HD, THREADS>(keys, (const bf16 *)a.v + kvh * HD, ld, vs);

    /* Rows that see some of the keys. */
    int from = key0 > t.pos0 ? (key0 - t.pos0) * a.group : 0, to = t.rows;
    if (a.window && key0 + KT - 1 + a.window - t.pos0 < to) to = key0 + KT - 1 + a.window - t.pos0;
    to *= a.group;
    const float2 *dd = (const float2 *)a.scratch + ((int64_t)kvh * a.n + t.row0) * a.group;
    float2 my = make_float2(0, 0); /* facts of the tile that is on its way, of row threadIdx.x */
    int my_pos = -1;
    auto load = [&](int r0, int buffer) {
        for (int i = 0; i < 2; i++)
            tile_load<HD, QT, THREADS>((i ? ys : qs) + buffer * QT * P, [&](int j) {
                const bf16 *rows = (const bf16 *)(i ? a.dy : a.q);
                return r0 + j < to ? rows + attn_head_at(a, t, kvh, r0 + j) * HD
                                   : (const bf16 *)NULL;
            });
        copies_commit();
        int r = r0 + (int)threadIdx.x;
        bool there = threadIdx.x < QT && r < to;
        my = there ? dd[r] : make_float2(0, 0);
        my_pos = there ? t.pos0 + r / a.group : -1;
    };
    if (buffers == 2) load(from, 0);

    float dk[DT][4], dv[DT][4];
    UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) dk[d][i] = dv[d][i] = 0;
    for (int r0 = from, buffer = 0; r0 < to; r0 += QT, buffer = buffers == 2 ? buffer ^ 1 : 0) {
        if (buffers == 1) {
            __syncthreads();
            load(r0, 0);
        }
        copies_wait<0>();
        if (threadIdx.x < QT) {
            fs[buffer].ld[threadIdx.x] = my;
            fs[buffer].pos[threadIdx.x] = my_pos;
        }
        __syncthreads();
        if (buffers == 2 && r0 + QT < to) load(r0 + QT, buffer ^ 1);
        const bf16 *qt = qs + buffer * QT * P, *yt = ys + buffer * QT * P;
        const facts *f = &fs[buffer];
        float s[NT][4], dp[NT][4];
        scores<HD>(s, ks, m0, qt);
        scores<HD>(dp, vs, m0, yt);
        int low = t.pos0 + r0 / a.group, high = t.pos0 + (r0 + QT - 1) / a.group;
        bool all = r0 + QT <= to && key0 + KT - 1 <= low && (!a.window || key0 > high - a.window);
        UNROLL for (int n = 0; n < NT; n++) UNROLL for (int i = 0; i < 4; i++) {
            int c = n * 8 + 2 * t4 + i % 2, key = key0 + m0 + g + i / 2 * 8;
            float2 about = f->ld[c];
            to_grads(&s[n][i], &dp[n][i], sc, about.x, about.y,
                     all || sees(f->pos[c], key, a.window));
        }
        uint32_t pf[4][4], df[4][4];
        UNROLL for (int j = 0; j < 4; j++) {
            frag_of_sums(pf[j], s[2 * j], s[2 * j + 1]);
            frag_of_sums(df[j], dp[2 * j], dp[2 * j + 1]);
        }
        add_up<HD, DC>(dv, pf, yt, d0);
        add_up<HD, DC>(dk, df, qt, d0);
    }
    copies_wait<0>(); /* keys that no row sees */
    UNROLL for (int h = 0; h < 2; h++) {
        int j = m0 + g + 8 * h;
        if (key0 + j >= end_key) continue;
        int64_t at =
            ((j < FJ_ATTN_BLOCK ? keys.slot[0] : keys.slot[1]) + j) * ld + kvh * HD + d0 + 2 * t4;
        uint32_t *ok = (uint32_t *)((bf16 *)a.dk + at), *ov = (uint32_t *)((bf16 *)a.dv + at);
        UNROLL for (int d = 0; d < DT; d++) {
            ok[d * 4] = pack_bf16(dk[d][2 * h] * a.scale, dk[d][2 * h + 1] * a.scale);
            ov[d * 4] = pack_bf16(dv[d][2 * h], dv[d][2 * h + 1]);
        }
    }
}

/* ---- dq of 64 rows -------------------------------------------------------------------------------- */
template <int HD>
static __global__ void __launch_bounds__(THREADS) of_rows(fj_gpu_attn a, int buffers) {
    constexpr int P = ATTN_PITCH(HD), DT = HD / 8;
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, false, QT, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    const attn_span sp = span_of(a, t, QT);
    const attn_scores sc = attn_scores_of(a);
    int kvh = (int)blockIdx.y, lane = (int)threadIdx.x % WARP, g = lane / 4, t4 = lane % 4;
    int m0 = (int)threadIdx.x / WARP * 16;
    bf16 *qs = (bf16 *)mem, *ys = qs + QT * P, *ks = ys + QT * P, *vs = ks + buffers * KT * P;
    int64_t ld = (int64_t)a.kv_heads * HD;
    const bf16 *k = (const bf16 *)a.k + kvh * HD, *v = (const bf16 *)a.v + kvh * HD;
    for (int i = 0; i < 2; i++)
        tile_load<HD, QT, THREADS>(i ? ys : qs, [&](int j) {
            const bf16 *rows = (const bf16 *)(i ? a.dy : a.q);
            return j < sp.n ? rows + attn_head_at(a, t, kvh, t.first + j) * HD : (const bf16 *)NULL;
        });
    auto load = [&](int k0, int buffer) {
        attn_keys keys = keys_at(a, t, k0, sp.end);
        load_keys<HD, THREADS>(keys, k, ld, ks + buffer * KT * P);
        load_keys<HD, THREADS>(keys, v, ld, vs + buffer * KT * P);
        copies_commit();
    };
    if (buffers == 2) load(sp.from, 0);

    const float2 *dd =
        (const float2 *)a.scratch + ((int64_t)kvh * a.n + t.row0) * a.group + t.first;
    float2 about[2];
    int pos[2];
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + g + 8 * h;
        about[h] = r < sp.n ? dd[r] : make_float2(0, 0);
        pos[h] = r < sp.n ? t.pos0 + ((int)t.first + r) / a.group : -1;
    }
    float dq[DT][4];
    UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) dq[d][i] = 0;
    for (int k0 = sp.from, buffer = 0; k0 < sp.to;
         k0 += KT, buffer = buffers == 2 ? buffer ^ 1 : 0) {
        if (buffers == 1) {
            __syncthreads();
            load(k0, 0);
        }
        copies_wait<0>();
        __syncthreads();
        if (buffers == 2 && k0 + KT < sp.to) load(k0 + KT, buffer ^ 1);
        const bf16 *kt = ks + buffer * KT * P, *vt = vs + buffer * KT * P;
        float s[NT][4], dp[NT][4];
        scores<HD>(s, qs, m0, kt);
        scores<HD>(dp, ys, m0, vt);
        bool all = sp.n == QT && sees_all(sp, k0, a.window);
        UNROLL for (int n = 0; n < NT; n++) UNROLL for (int i = 0; i < 4; i++) {
            int key = k0 + n * 8 + 2 * t4 + i % 2, h = i / 2;
            to_grads(&s[n][i], &dp[n][i], sc, about[h].x, about[h].y,
                     all || sees(pos[h], key, a.window));
        }
        uint32_t df[4][4];
        UNROLL for (int j = 0; j < 4; j++) frag_of_sums(df[j], dp[2 * j], dp[2 * j + 1]);
        add_up<HD, HD>(dq, df, kt, 0);
    }
    UNROLL for (int h = 0; h < 2; h++) {
        int r = m0 + g + 8 * h;
        if (r >= sp.n) continue;
        uint32_t *o = (uint32_t *)((bf16 *)a.dq + attn_head_at(a, t, kvh, t.first + r) * HD) + t4;
        UNROLL for (int d = 0; d < DT; d++) o[d * 4] =
            pack_bf16(dq[d][2 * h] * a.scale, dq[d][2 * h + 1] * a.scale);
    }
}

/* ---- launchers ------------------------------------------------------------------------------------ */
static size_t shared_for(int hd, int buffers) {
    return (size_t)(2 + 2 * buffers) * QT * (size_t)ATTN_PITCH(hd) * sizeof(bf16) +
           (size_t)buffers * sizeof(facts);
}

bool fj_gpu_attn_bwd_takes(const fj_gpu *g, const fj_gpu_attn *a) {
    return attn_head_size(a->hd) && a->scale > 0 && shared_for(a->hd, 1) <= attn_shared_of(g);
}

template <int HD, int DC> static void backward(const fj_gpu *g, const fj_gpu_attn *a) {
    int buffers = shared_for(HD, 2) <= attn_shared_of(g) ? 2 : 1;
    size_t shared = shared_for(HD, buffers);
    unsigned heads = (unsigned)a->kv_heads;
    dim3 keys((unsigned)attn_key_tiles(a, KT), heads, HD / DC);
    dim3 rows((unsigned)attn_row_tiles(a, QT), heads);
    FJ_ALLOW_SHARED((of_keys<HD, DC>), shared);
    FJ_ALLOW_SHARED(of_rows<HD>, shared);
    FJ_LAUNCH((of_keys<HD, DC>), keys, THREADS, shared, g->stream, *a, buffers);
    FJ_LAUNCH(of_rows<HD>, rows, THREADS, shared, g->stream, *a, buffers);
}

bool fj_gpu_attn_bwd(const fj_gpu *g, const fj_gpu_attn *a, fj_err *e) {
    bool done;
    if (!fj_gpu_attn_hopper_bwd(g, a, &done, e)) return false;
    if (done) return true;
    if (!fj_gpu_attn_dots(g, a, true, e)) return false;
    switch (a->hd) {
    case 64: backward<64, 64>(g, a); break;
    case 96: backward<96, 96>(g, a); break;
    case 128: backward<128, 128>(g, a); break;
    default: backward<256, 128>(g, a);
    }
    return launched("attention, backward,", e);
}
