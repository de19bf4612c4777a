/* attn_fwd.cu - attention over tensor cores (FlashAttention-2, Dao 2023), of many rows and of few.
 *
 * Many (tall): a block has 64 MT rows of the matrix, a warp 16 MT of them in its registers; tiles of keys and
 * values arrive in two buffers.  Chunks that are done wait in `parked`, memory of the GPU.
 * Few (flat): a block has 16 rows.  Each warp makes the scores of 16 keys of a tile, then all have all scores
 * and each adds up its columns of the values: every number comes about as in tall.  With `split` a block
 * has one chunk, and `joined` puts chunks together. */
#include "kernels/cuda/attn_mma.cuh"

enum { KT = ATTN_KT, NT = KT / 8, CHUNK = ATTN_CHUNK };

/* ---- many rows ------------------------------------------------------------------------------------ */
template <int HD, int WARPS, int MT>
static __global__ void __launch_bounds__(WARPS *WARP) tall(fj_gpu_attn a) {
    early_begin();
    constexpr int THREADS = WARPS * WARP, ROWS = 16 * MT * WARPS, P = ATTN_PITCH(HD), DT = HD / 8;
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, false, ROWS, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    const attn_span sp = span_of(a, t, ROWS);
    const attn_scores sc = attn_scores_of(a);
    int kvh = (int)blockIdx.y, lane = (int)threadIdx.x % WARP, g = lane / 4;
    int m0 = (int)threadIdx.x / WARP * 16 * MT;
    bf16 *qs = (bf16 *)mem, *ks = qs + ROWS * P, *vs = ks + 2 * KT * P;
    int64_t ld = (int64_t)a.kv_heads * HD;
    const bf16 *k = (const bf16 *)a.k + kvh * HD, *v = (const bf16 *)a.v + kvh * HD;
    tile_load<HD, ROWS, THREADS>(qs, [&](int i) {
        return i < sp.n ? (const bf16 *)a.q + attn_head_at(a, t, kvh, t.first + i) * HD
                        : (const bf16 *)NULL;
    });
    auto load = [&](int k0, int stage) {
        attn_keys keys = keys_at(a, t, k0, sp.end);
        load_keys<HD, THREADS>(keys, k, ld, ks + stage * KT * P);
        load_keys<HD, THREADS>(keys, v, ld, vs + stage * KT * P);
    };
    load(sp.from, 0);
    copies_commit();

    float o[MT][DT][4];
    attn_row row[MT][2];
    int pos[MT][2];
    UNROLL for (int m = 0; m < MT; m++) {
        UNROLL for (int h = 0; h < 2; h++) {
            int r = m0 + 16 * m + 8 * h + g;
            pos[m][h] = r < sp.n ? t.pos0 + ((int)t.first + r) / a.group : -1;
            row[m][h].max = -INFINITY, row[m][h].sum = 0;
        }
        UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o[m][d][i] = 0;
    }
    bool parked = false;
    for (int k0 = sp.from, stage = 0; k0 < sp.to; k0 += KT, stage ^= 1) {
        copies_wait<0>();
        __syncthreads();
        if (k0 + KT < sp.to) load(k0 + KT, stage ^ 1);
        copies_commit();
        const bf16 *kt = ks + stage * KT * P, *vt = vs + stage * KT * P;
        float s[MT][NT][4];
        UNROLL for (int m = 0; m < MT; m++) UNROLL for (int n = 0; n < NT; n++)
            UNROLL for (int i = 0; i < 4; i++) s[m][n][i] = 0;
        UNROLL for (int d = 0; d < HD; d += 16) {
            uint32_t qf[MT][4];
            UNROLL for (int m = 0; m < MT; m++) frag_a<HD>(qf[m], qs, m0 + 16 * m, d);
            UNROLL for (int n = 0; n < NT; n += 2) {
                uint32_t kf[4];
                frag_b<HD>(kf, kt, n * 8, d);
                UNROLL for (int m = 0; m < MT; m++) {
                    mma_bf16(s[m][n], qf[m], kf);
                    mma_bf16(s[m][n + 1], qf[m], kf + 2);
                }
            }
        }
        bool all = sees_all(sp, k0, a.window);
        UNROLL for (int m = 0; m < MT; m++) {
            float fix[2];
            if (sc.c2 > 0) cap_scores(s[m], sc.c2);
            if (!all) mask_scores(s[m], pos[m], k0, a.window);
            softmax_step(s[m], row[m], sc.c, fix);
            if (__ballot_sync(FULL_WARP, fix[0] != 1 || fix[1] != 1)) {
                UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o[m][d][i] *=
                    fix[i / 2];
            }
        }
        UNROLL for (int j = 0; j < KT; j += 16) {
            uint32_t pf[MT][4];
            UNROLL for (int m = 0; m < MT; m++) frag_of_sums(pf[m], s[m][j / 8], s[m][j / 8 + 1]);
            UNROLL for (int d = 0; d < DT; d += 2) {
                uint32_t vf[4];
                frag_bt<HD>(vf, vt, j, d * 8);
                UNROLL for (int m = 0; m < MT; m++) {
                    mma_bf16(o[m][d], pf[m], vf);
                    mma_bf16(o[m][d + 1], pf[m], vf + 2);
                }
            }
        }
        if (k0 + KT >= sp.to || (k0 + KT) % CHUNK) continue;
        UNROLL for (int m = 0; m < MT; m++)
            park_rows<DT>(a, t, sp, kvh, m0 + 16 * m, row[m], o[m], sc.c, parked);
        parked = true;
    }
    UNROLL for (int m = 0; m < MT; m++)
        rows_out<DT>(a, t, sp, kvh, m0 + 16 * m, row[m], o[m], sc.c, parked);
}

/* ---- few rows ------------------------------------------------------------------------------------- */
enum { FLAT_ROWS = 16, FLAT_WARPS = 4, FLAT_THREADS = FLAT_WARPS * WARP };
enum { XP = KT + 8 }; /* pitch of the scores */

/* stages: 2 or 3 buffers of keys and values.  split: 0, or at most so many chunks to a sequence: a block has
 * one, its number is of chunks and blockIdx.z is the tile of rows. */
template <int HD>
static __global__ void __launch_bounds__(FLAT_THREADS) flat(fj_gpu_attn a, int stages, int split) {
    early_begin();
    constexpr int P = ATTN_PITCH(HD), WD = HD / FLAT_WARPS, DT = WD / 8;
    FJ_DYN_SHARED(mem);
    attn_tile t;
    int64_t number = (int64_t)gridDim.x - 1 - blockIdx.x;
    if (!find_tile(a, split != 0, split ? (int)CHUNK : (int)FLAT_ROWS, number, &t)) return;
    int chunk = 0;
    if (split) {
        chunk = (int)(t.first / CHUNK);
        t.first = (int64_t)blockIdx.z * FLAT_ROWS;
        if (t.first >= (int64_t)t.rows * a.group) return;
    }
    attn_span sp = span_of(a, t, FLAT_ROWS);
    if (split) {
        int c0 = chunk * CHUNK;
        sp.from = sp.from > c0 ? sp.from : c0;
        sp.to = sp.to < c0 + CHUNK ? sp.to : c0 + CHUNK;
        if (sp.from >= sp.to) return;
    }
    const attn_scores sc = attn_scores_of(a);
    int kvh = (int)blockIdx.y, lane = (int)threadIdx.x % WARP, g = lane / 4, t4 = lane % 4;
    int warp = (int)threadIdx.x / WARP, d0 = warp * WD;
    bf16 *qs = (bf16 *)mem, *ks = qs + FLAT_ROWS * P, *vs = ks + stages * KT * P;
    float *xs = (float *)(vs + stages * KT * P);
    int64_t ld = (int64_t)a.kv_heads * HD;
    const bf16 *k = (const bf16 *)a.k + kvh * HD, *v = (const bf16 *)a.v + kvh * HD;
    tile_load<HD, FLAT_ROWS, FLAT_THREADS>(qs, [&](int i) {
        return i < sp.n ? (const bf16 *)a.q + attn_head_at(a, t, kvh, t.first + i) * HD
                        : (const bf16 *)NULL;
    });
    auto load = [&](int k0, int stage) {
        if (k0 < sp.to) {
            attn_keys keys = keys_at(a, t, k0, sp.end);
            load_keys<HD, FLAT_THREADS>(keys, k, ld, ks + stage * KT * P);
            load_keys<HD, FLAT_THREADS>(keys, v, ld, vs + stage * KT * P);
        }
        copies_commit();
    };
    for (int i = 0; i < stages - 1; i++) load(sp.from + i * KT, i);
    float o[DT][4], before[DT][4];
    attn_row row[2], row_before[2];
    int pos[2];
    UNROLL for (int h = 0; h < 2; h++) {
        int r = 8 * h + g;
        pos[h] = r < sp.n ? t.pos0 + ((int)t.first + r) / a.group : -1;
        row[h].max = -INFINITY, row[h].sum = 0;
        row_before[h] = row[h];
    }
    UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o[d][i] = before[d][i] =
        0;
    bool some = false;
    for (int k0 = sp.from, stage = 0; k0 < sp.to;
         k0 += KT, stage = stage + 1 == stages ? 0 : stage + 1) {
        if (stages == 3) copies_wait<1>();
        else copies_wait<0>();
        __syncthreads();
        load(k0 + (stages - 1) * KT, stage ? stage - 1 : stages - 1);
        const bf16 *kt = ks + stage * KT * P, *vt = vs + stage * KT * P;
        float x[2][4] = { { 0 } };
        UNROLL for (int d = 0; d < HD; d += 16) {
            uint32_t qf[4], kf[4];
            frag_a<HD>(qf, qs, 0, d);
            frag_b<HD>(kf, kt, warp * 16, d);
            mma_bf16(x[0], qf, kf);
            mma_bf16(x[1], qf, kf + 2);
        }
        UNROLL for (int n = 0; n < 2; n++) UNROLL for (int h = 0; h < 2; h++) *
            (float2 *)(xs + (8 * h + g) * XP + warp * 16 + n * 8 + 2 * t4) =
            make_float2(x[n][2 * h], x[n][2 * h + 1]);
        __syncthreads();
        float s[NT][4], fix[2];
        UNROLL for (int n = 0; n < NT; n++) UNROLL for (int h = 0; h < 2; h++) {
            float2 two = *(const float2 *)(xs + (8 * h + g) * XP + n * 8 + 2 * t4);
            s[n][2 * h] = two.x, s[n][2 * h + 1] = two.y;
        }
        if (sc.c2 > 0) cap_scores(s, sc.c2);
        if (!sees_all(sp, k0, a.window)) mask_scores(s, pos, k0, a.window);
        softmax_step(s, row, sc.c, fix);
        UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o[d][i] *=
            fix[i / 2];
        UNROLL for (int j = 0; j < KT; j += 16) {
            uint32_t pf[4], vf[4];
            frag_of_sums(pf, s[j / 8], s[j / 8 + 1]);
            UNROLL for (int d = 0; d + 1 < DT; d += 2) {
                frag_bt<HD>(vf, vt, j, d0 + d * 8);
                mma_bf16(o[d], pf, vf);
                mma_bf16(o[d + 1], pf, vf + 2);
            }
            if (DT % 2) {
                frag_bt1<HD>(vf, vt, j, d0 + (DT - 1) * 8);
                mma_bf16(o[DT - 1], pf, vf);
            }
        }
        bool last = k0 + KT >= sp.to;
        if (!last && (k0 + KT) % CHUNK) continue;
        end_of_chunk(row);
        UNROLL for (int h = 0; h < 2; h++) {
            if (some) {
                float fa, fb;
                join(&row_before[h], row[h], sc.c, &fa, &fb);
                UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 2 * h; i < 2 * h + 2; i++)
                    before[d][i] = fmaf(o[d][i], fb, before[d][i] * fa),
                    o[d][i] = 0;
            } else {
                row_before[h] = row[h];
                UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 2 * h; i < 2 * h + 2; i++)
                    before[d][i] = o[d][i],
                    o[d][i] = 0;
            }
            row[h].max = -INFINITY, row[h].sum = 0;
        }
        some = true;
    }
    const parking park = parking_of(a, split ? split : 1);
    UNROLL for (int h = 0; h < 2; h++) {
        int r = 8 * h + g;
        if (r >= sp.n) continue;
        int64_t at = attn_head_at(a, t, kvh, t.first + r);
        if (split) {
            int64_t to = chunk * park.rows + parked_row(a, t, kvh, r);
            UNROLL for (int d = 0; d < DT; d++) *
                (float2 *)(park.o + to * HD + d0 + d * 8 + 2 * t4) =
                make_float2(before[d][2 * h], before[d][2 * h + 1]);
            if (!warp && !t4) park.ml[to] = row_before[h];
            continue;
        }
        float lse;
        float f = end_of_row(row_before[h], a.sinks ? a.sinks + at % a.heads : NULL, sc.c, &lse);
        uint32_t *y = (uint32_t *)((bf16 *)a.y + at * HD + d0) + t4;
        UNROLL for (int d = 0; d < DT; d++) y[d * 4] =
            pack_bf16(before[d][2 * h] * f, before[d][2 * h + 1] * f);
        if (!warp && !t4) a.lse[at] = lse;
    }
}

/* flat with `split` where blocks are fewer than multiprocessors, so that a block has one for itself: 8 warps
 * and two tiles at a time.  Each warp makes the scores of 16 keys, and their weights when the maxima of all
 * are known; the values of a tile are added up after those of the one before it, by columns. */
enum { WIDE_TILES = 2, WIDE_WARPS = 4 * WIDE_TILES, WIDE_THREADS = WIDE_WARPS * WARP };
template <int HD>
static __global__ void __launch_bounds__(WIDE_THREADS, 1)
    wide(fj_gpu_attn a, int stages, int chunks) {
    early_begin();
    constexpr int P = ATTN_PITCH(HD), WD = HD / WIDE_WARPS, DT = WD / 8, T = WIDE_TILES;
    constexpr int STEP = T * KT;
    FJ_DYN_SHARED(mem);
    attn_tile t;
    if (!find_tile(a, true, CHUNK, (int64_t)gridDim.x - 1 - blockIdx.x, &t)) return;
    int chunk = (int)(t.first / CHUNK), c0 = chunk * CHUNK;
    t.first = (int64_t)blockIdx.z * FLAT_ROWS;
    if (t.first >= (int64_t)t.rows * a.group) return;
    attn_span sp = span_of(a, t, FLAT_ROWS);
    sp.from = sp.from > c0 ? sp.from : c0;
    sp.to = sp.to < c0 + CHUNK ? sp.to : c0 + CHUNK;
    if (sp.from >= sp.to) return;
    const attn_scores sc = attn_scores_of(a);
    int kvh = (int)blockIdx.y, lane = (int)threadIdx.x % WARP, g = lane / 4, t4 = lane % 4;
    int warp = (int)threadIdx.x / WARP, d0 = warp * WD;
    int mine = warp / 4, part = warp % 4 * 16; /* tile of the step; its keys there */
    bf16 *qs = (bf16 *)mem, *ks = qs + FLAT_ROWS * P, *vs = ks + stages * STEP * P;
    bf16 *ps = vs + stages * STEP * P;                      /* weights [T][FLAT_ROWS][XP] */
    float *xs = (float *)(void *)(ps + T * FLAT_ROWS * XP); /* so too, before they are rounded */
    float *tops = xs + T * FLAT_ROWS * XP;                  /* maxima [T][4][FLAT_ROWS] */
    int64_t ld = (int64_t)a.kv_heads * HD;
    const bf16 *k = (const bf16 *)a.k + kvh * HD, *v = (const bf16 *)a.v + kvh * HD;
    tile_load<HD, FLAT_ROWS, WIDE_THREADS>(qs, [&](int i) {
        return i < sp.n ? (const bf16 *)a.q + attn_head_at(a, t, kvh, t.first + i) * HD
                        : (const bf16 *)NULL;
    });
    auto load = [&](int k0, int stage) {
        for (int i = 0; i < T && k0 + i * KT < sp.to; i++) {
            attn_keys keys = keys_at(a, t, k0 + i * KT, sp.end);
            load_keys<HD, WIDE_THREADS>(keys, k, ld, ks + (stage * T + i) * KT * P);
            load_keys<HD, WIDE_THREADS>(keys, v, ld, vs + (stage * T + i) * KT * P);
        }
        copies_commit();
    };
    for (int i = 0; i < stages - 1; i++) load(sp.from + i * STEP, i);
    float o[DT][4];
    attn_row row[2];
    int pos[2];
    UNROLL for (int h = 0; h < 2; h++) {
        int r = 8 * h + g;
        pos[h] = r < sp.n ? t.pos0 + ((int)t.first + r) / a.group : -1;
        row[h].max = -INFINITY, row[h].sum = 0;
    }
    UNROLL for (int d = 0; d < DT; d++) UNROLL for (int i = 0; i < 4; i++) o[d][i] = 0;
    for (int k0 = sp.from, stage = 0; k0 < sp.to;
         k0 += STEP, stage = stage + 1 == stages ? 0 : stage + 1) {
        if (stages == 3) copies_wait<1>();
        else copies_wait<0>();
        __syncthreads();
        load(k0 + (stages - 1) * STEP, stage ? stage - 1 : stages - 1);
        const bf16 *kt = ks + (stage * T + mine) * KT * P, *vt = vs + stage * STEP * P;
        bool there = k0 + mine * KT < sp.to;
        float x[2][4] = { { 0 } };
        if (there) {
            UNROLL for (int d = 0; d < HD; d += 16) {
                uint32_t qf[4], kf[4];
                frag_a<HD>(qf, qs, 0, d);
                frag_b<HD>(kf, kt, part, d);
                mma_bf16(x[0], qf, kf);
                mma_bf16(x[1], qf, kf + 2);
            }
            UNROLL for (int n = 0; n < 2; n++) UNROLL for (int i = 0; i < 4; i++) {
                int key = k0 + mine * KT + part + n * 8 + 2 * t4 + i % 2;
                if (sc.c2 > 0) x[n][i] = tanh_fast(x[n][i], sc.c2);
                if (!sees(pos[i / 2], key, a.window)) x[n][i] = -INFINITY;
            }
            UNROLL for (int h = 0; h < 2; h++) {
                float m =
                    fmaxf(fmaxf(x[0][2 * h], x[0][2 * h + 1]), fmaxf(x[1][2 * h], x[1][2 * h + 1]));
                m = fmaxf(m, __shfl_xor_sync(FULL_WARP, m, 1));
                m = fmaxf(m, __shfl_xor_sync(FULL_WARP, m, 2));
                if (!t4) tops[warp * FLAT_ROWS + 8 * h + g] = m;
            }
        }
        __syncthreads();
        float fix[T][2], low[2] = { 0, 0 };
        UNROLL for (int i = 0; i < T; i++) {
            if (k0 + i * KT >= sp.to) continue;
            UNROLL for (int h = 0; h < 2; h++) {
                const float *top = tops + i * 4 * FLAT_ROWS + 8 * h + g;
                float m = row[h].max;
                UNROLL for (int w = 0; w < 4; w++) m = fmaxf(m, top[w * FLAT_ROWS]);
                float base = m == -INFINITY ? 0 : m;
                fix[i][h] = exp2_fast((row[h].max - base) * sc.c);
                if (i == mine) low[h] = -(base * sc.c);
                row[h].max = m;
            }
        }
        if (there) UNROLL for (int n = 0; n < 2; n++) UNROLL for (int h = 0; h < 2; h++) {
                float p0 = exp2_fast(fmaf(x[n][2 * h], sc.c, low[h]));
                float p1 = exp2_fast(fmaf(x[n][2 * h + 1], sc.c, low[h]));
                int at = (mine * FLAT_ROWS + 8 * h + g) * XP + part + n * 8 + 2 * t4;
                *(float2 *)(xs + at) = make_float2(p0, p1);
                *(uint32_t *)(ps + at) = pack_bf16(p0, p1);
            }
        __syncthreads();
        UNROLL for (int i = 0; i < T; i++) {
            if (k0 + i * KT >= sp.to) continue;
            UNROLL for (int d = 0; d < DT; d++) UNROLL for (int j = 0; j < 4; j++) o[d][j] *=
                fix[i][j / 2];
            UNROLL for (int j = 0; j < KT; j += 16) {
                uint32_t pf[4], vf[4];
                ldmatrix_x4(pf, ps + (i * FLAT_ROWS + lane % 16) * XP + j + lane / 16 * 8);
                UNROLL for (int d = 0; d + 1 < DT; d += 2) {
                    frag_bt<HD>(vf, vt + i * KT * P, j, d0 + d * 8);
                    mma_bf16(o[d], pf, vf);
                    mma_bf16(o[d + 1], pf, vf + 2);
                }
                if (DT % 2) {
                    frag_bt1<HD>(vf, vt + i * KT * P, j, d0 + (DT - 1) * 8);
                    mma_bf16(o[DT - 1], pf, vf);
                }
            }
            if (warp) continue;
            UNROLL for (int h = 0; h < 2; h++) {
                float sum = 0;
                UNROLL for (int n = 0; n < NT; n++) {
                    float2 p =
                        *(const float2 *)(xs + (i * FLAT_ROWS + 8 * h + g) * XP + n * 8 + 2 * t4);
                    sum += p.x;
                    sum += p.y;
                }
                row[h].sum = fmaf(row[h].sum, fix[i][h], sum);
            }
        }
    }
    end_of_chunk(row); /* warp 0's */
    const parking park = parking_of(a, chunks);
    UNROLL for (int h = 0; h < 2; h++) {
        int r = 8 * h + g;
        if (r >= sp.n) continue;
        int64_t to = chunk * park.rows + parked_row(a, t, kvh, r);
        UNROLL for (int d = 0; d < DT; d++) * (float2 *)(park.o + to * HD + d0 + d * 8 + 2 * t4) =
            make_float2(o[d][2 * h], o[d][2 * h + 1]);
        if (!warp && !t4) park.ml[to] = row[h];
    }
}

/* A warp for each row of a tile of flat: its chunks in their order, AHEAD of them on their way. */
enum { AHEAD = 8 };
template <int HD>
static __global__ void __launch_bounds__(FLAT_ROWS *WARP) joined(fj_gpu_attn a, int chunks) {
    early_begin();
    constexpr int PER = HD / WARP; /* values to a lane */
    attn_tile t;
    if (!find_tile(a, false, FLAT_ROWS, blockIdx.x, &t)) return;
    const attn_span sp = span_of(a, t, FLAT_ROWS);
    const attn_scores sc = attn_scores_of(a);
    const parking park = parking_of(a, chunks);
    int kvh = (int)blockIdx.y, lane = (int)threadIdx.x % WARP, r = (int)threadIdx.x / WARP;
    if (r >= sp.n) return;
    int64_t from = parked_row(a, t, kvh, r);
    float x[PER] = { 0 };
    attn_row row = { -INFINITY, 0 };
    int first = sp.from / CHUNK, n = (sp.to + CHUNK - 1) / CHUNK;
    for (int c0 = first; c0 < n; c0 += AHEAD) {
        attn_row m[AHEAD];
        float xc[AHEAD][PER];
        UNROLL for (int j = 0; j < AHEAD; j++) { /* none of these waits for another */
            int64_t at = (c0 + j < n ? c0 + j : c0) * park.rows + from;
            m[j] = park.ml[at];
            UNROLL for (int i = 0; i < PER; i++) xc[j][i] = park.o[at * HD + i * WARP + lane];
        }
        UNROLL for (int j = 0; j < AHEAD; j++) {
            bool begins = c0 + j == first;
            float fa, fb;
            if (c0 + j >= n) continue;
            if (begins) row = m[j];
            else join(&row, m[j], sc.c, &fa, &fb);
            UNROLL for (int i = 0; i < PER; i++) x[i] =
                begins ? xc[j][i] : fmaf(xc[j][i], fb, x[i] * fa);
        }
    }
    int64_t at = attn_head_at(a, t, kvh, t.first + r);
    float lse;
    float f = end_of_row(row, a.sinks ? a.sinks + at % a.heads : NULL, sc.c, &lse);
    UNROLL for (int i = 0; i < PER; i++)((bf16 *)a.y)[at * HD + i * WARP + lane] =
        to_bf16(x[i] * f);
    if (!lane) a.lse[at] = lse;
}

/* ---- launchers ------------------------------------------------------------------------------------ */
/* Few rows to a sequence: 16 to a tile.  And few tiles, over more keys than a chunk: split. */
enum { SPLIT_BLOCKS = 256, SPLIT_ROWS = 4096 }; /* at most: without the split, and rows that wait */
static bool is_flat(const fj_gpu_attn *a) { return a->n * a->group <= 32 * a->n_seqs; }
static bool is_long(const fj_gpu_attn *a) { return a->n_blocks > CHUNK / FJ_ATTN_BLOCK; }
static int64_t most_chunks(const fj_gpu_attn *a) { /* of the longest sequence there can be */
    return (a->n_blocks * FJ_ATTN_BLOCK + CHUNK - 1) / CHUNK;
}
static bool is_split(const fj_gpu_attn *a) {
    return is_flat(a) && is_long(a) && a->n * most_chunks(a) <= SPLIT_ROWS &&
           attn_row_tiles(a, FLAT_ROWS) * a->kv_heads <= SPLIT_BLOCKS;
}

/* Never less for more rows, blocks or sequences, whichever kernel it is for: plans are used again. */
size_t fj_gpu_attn_fwd_scratch(const fj_gpu_attn *a) {
    int64_t split = FJ_MIN(a->n * most_chunks(a), (int64_t)SPLIT_ROWS);
    if (!is_long(a)) return 0;
    return (size_t)(FJ_MAX(a->n, split) * a->heads) * ((size_t)a->hd * 4 + sizeof(attn_row));
}

static size_t tall_shared(int hd, int rows) {
    return (size_t)(rows + 4 * KT) * (size_t)ATTN_PITCH(hd) * sizeof(bf16);
}
static size_t flat_shared(int hd, int stages) {
    return (size_t)(FLAT_ROWS + 2 * stages * KT) * (size_t)ATTN_PITCH(hd) * sizeof(bf16) +
           sizeof(float) * FLAT_ROWS * XP;
}

static size_t wide_shared(int hd, int stages) {
    return (size_t)(FLAT_ROWS + 2 * stages * WIDE_TILES * KT) * (size_t)ATTN_PITCH(hd) *
               sizeof(bf16) +
           (sizeof(bf16) + sizeof(float)) * WIDE_TILES * FLAT_ROWS * XP +
           sizeof(float) * WIDE_WARPS * FLAT_ROWS;
}

/* False: not for it. */
template <int HD>
static bool run_wide(const fj_gpu *g, const fj_gpu_attn *a, dim3 grid, int chunks) {
    if constexpr (HD % (8 * WIDE_WARPS) == 0 && HD <= 128) {
        int stages = wide_shared(HD, 3) <= attn_shared_of(g) ? 3 : 2;
        size_t shared = wide_shared(HD, stages);
        if ((int64_t)grid.x * grid.y * grid.z > g->sms || shared > attn_shared_of(g)) return false;
        FJ_ALLOW_SHARED(wide<HD>, shared);
        FJ_LAUNCH_EARLY(wide<HD>, grid, WIDE_THREADS, shared, g->stream, *a, stages, chunks);
        return true;
    }
    return false;
}

template <int HD> static void run_flat(const fj_gpu *g, const fj_gpu_attn *a) {
    unsigned tiles = (unsigned)attn_row_tiles(a, FLAT_ROWS), heads = (unsigned)a->kv_heads;
    int split = is_split(a) ? (int)most_chunks(a) : 0;
    int stages = 3 * flat_shared(HD, 3) > 2 * attn_shared_of(g) ? 2 : 3; /* 3: as long as 1.5 fit */
    size_t shared = flat_shared(HD, stages);
    dim3 grid(tiles, heads);
    if (split) { /* every sequence has a row, one of them may have the others */
        int64_t rows = FJ_MAX(a->n - a->n_seqs + 1, (int64_t)1) * a->group;
        grid = dim3((unsigned)attn_key_tiles(a, CHUNK), heads,
                    (unsigned)((rows + FLAT_ROWS - 1) / FLAT_ROWS));
    }
    if (!split || !run_wide<HD>(g, a, grid, split)) {
        FJ_ALLOW_SHARED(flat<HD>, shared);
        FJ_LAUNCH_EARLY(flat<HD>, grid, FLAT_THREADS, shared, g->stream, *a, stages, split);
    }
    if (split)
        FJ_LAUNCH_EARLY(joined<HD>, dim3(tiles, heads), FLAT_ROWS * WARP, 0, g->stream, *a, split);
}

template <int HD, int WARPS, int MT> static void run_tall(const fj_gpu *g, const fj_gpu_attn *a) {
    constexpr int ROWS = 16 * WARPS * MT;
    size_t shared = tall_shared(HD, ROWS);
    dim3 grid((unsigned)attn_row_tiles(a, ROWS), (unsigned)a->kv_heads);
    FJ_ALLOW_SHARED((tall<HD, WARPS, MT>), shared);
    FJ_LAUNCH_EARLY((tall<HD, WARPS, MT>), grid, WARPS * WARP, shared, g->stream, *a);
}

bool fj_gpu_attn_takes(const fj_gpu *g, const fj_gpu_attn *a) {
    return attn_head_size(a->hd) && a->scale > 0 &&
           tall_shared(a->hd, a->hd == 256 ? 128 : 64) <= attn_shared_of(g);
}

bool fj_gpu_attn_fwd(const fj_gpu *g, const fj_gpu_attn *a, fj_err *e) {
    bool few = is_flat(a), done = false;
    if (!few && !fj_gpu_attn_hopper(g, a, &done, e)) return false;
    if (done) return true;
    switch (a->hd) {
    case 64: few ? run_flat<64>(g, a) : run_tall<64, 4, 2>(g, a); break;
    case 96: few ? run_flat<96>(g, a) : run_tall<96, 4, 2>(g, a); break;
    case 128:
        if (few) run_flat<128>(g, a);
        else if (tall_shared(128, 128) <= attn_shared_of(g)) run_tall<128, 4, 2>(g, a);
        else run_tall<128, 4, 1>(g, a);
        break;
    default: few ? run_flat<256>(g, a) : run_tall<256, 8, 1>(g, a);
    }
    return launched("attention", e);
}
