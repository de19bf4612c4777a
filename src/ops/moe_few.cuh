/* moe_few.cuh - y = x W^T for experts that have few slots, as fast as their weights are read.
 *
 * A block has a tile of at most FEW slots of an expert and 16 rows of its weight for each warp.  All walk
 * along k in stages, which come through a ring in shared memory: the weight's bytes as they lie in
 * memory, which each warp makes fragments of (weight.cuh), and x.  The sums are those of `tile`. */
#ifndef FJ_OPS_MOE_FEW_CUH
#define FJ_OPS_MOE_FEW_CUH

#include "kernels/cuda/kquant.cuh"
#include "ops/moe_tile.cuh"

enum { FEW = 16, FEW_WARPS = 4, FEW_ROWS = 16, FEW_SIDE = FEW_WARPS * FEW_ROWS, FEW_STAGES = 3 };

template <typename W> struct few {
    enum {
        GROUPS = FEW_ROWS / 8,
        UNITS = W::KS / 32,
        X_PITCH = W::KS * 2 + 16,
        X_BYTES = FEW * X_PITCH,
        STAGE = X_BYTES + FEW_SIDE * W::PITCH
    };

    /* Slots [from, end) in a stage of k, zeros for others. */
    static __device__ __forceinline__ void fetch_x(unsigned char *to, const bf16 *x, int64_t k,
                                                   int64_t from, int64_t end, int64_t k0) {
        for (int i = (int)threadIdx.x; i < FEW * W::KS / 8; i += FEW_WARPS * WARP) {
            int64_t s = from + i / (W::KS / 8), at = k0 + i % (W::KS / 8) * 8;
            bool in = s < end && at < k;
            copy16_async(to + i / (W::KS / 8) * X_PITCH + i % (W::KS / 8) * 16,
                         x + (in ? s * k + at : 0), in);
        }
    }

    /* A stage of this warp's rows of the weight, which begin r0 rows after the byte `base` of w, by four
     * lanes each: the aligned 16s that hold them. */
    static __device__ __forceinline__ void fetch_w(unsigned char *to, const unsigned char *w,
                                                   int64_t base, const matrix &m, int64_t r0,
                                                   int64_t stage) {
        int64_t left = m.row_bytes - stage * W::SEG;
        int have = left < W::SEG ? (int)left : (int)W::SEG;
        UNROLL
        for (int g = 0; g < GROUPS; g++) {
            int64_t row = r0 + g * 8 + lane_of() / 4;
            int64_t at = row < m.rows ? base + row * m.row_bytes + stage * W::SEG : 0;
            int bytes = row < m.rows ? have + (int)(at & 15) : 0;
            const unsigned char *from = w + (at & ~(int64_t)15);
            unsigned char *put = to + (g * 8 + lane_of() / 4) * W::PITCH;
            UNROLL
            for (int p = 0; p < (W::PIECES + 3) / 4 * 4; p += 4) {
                int piece = p + lane_of() % 4, n = bytes - 16 * piece;
                if (piece >= W::PIECES) break;
                copy_async(put + 16 * piece, from + (n > 0 ? 16 * piece : 0),
                           n < 0    ? 0
                           : n > 16 ? 16
                                    : n);
            }
        }
    }
};

/* w: the weights of all experts; m, expert_bytes: an expert's. */
typedef struct few_job {
    const bf16 *x;
    const unsigned char *w;
    matrix m;
    int64_t expert_bytes;
} few_job;

/* Makes the sums of a tile: put(slot, column, value) is called for those inside. */
template <typename W, typename PUT>
static __device__ __forceinline__ void few_tile(const few_job &j, const group &g, int64_t out,
                                                bool wanted, PUT put) {
    typedef few<W> F;
    FJ_DYN_SHARED(ring);
    int warp = (int)threadIdx.x / WARP, lane = lane_of();
    int64_t r0 = out + warp * FEW_ROWS, k = j.m.cols, base = g.e * j.expert_bytes;
    int64_t end = g.from + FEW < g.end ? g.from + FEW : g.end;
    int steps = wanted ? (int)((k + W::KS - 1) / W::KS) : 0;
    float sum[F::GROUPS][4] = {};
    auto fetch = [&](int s) {
        unsigned char *to = ring + s % FEW_STAGES * F::STAGE;
        if (s < steps) {
            F::fetch_x(to, j.x, k, g.from, end, (int64_t)s * W::KS);
            F::fetch_w(to + F::X_BYTES + warp * FEW_ROWS * W::PITCH, j.w, base, j.m, r0, s);
        }
        copies_commit();
    };
    for (int s = 0; s < FEW_STAGES - 1; s++) fetch(s);
    for (int s = 0; s < steps; s++) {
        copies_wait<FEW_STAGES - 2>();
        __syncthreads(); /* all have copied this stage, and have read the one that is copied over */
        fetch(s + FEW_STAGES - 1);
        const unsigned char *at = ring + s % FEW_STAGES * F::STAGE;
        typename W::at8 wl[F::GROUPS];
        const unsigned char *xl = at + lane % 16 * F::X_PITCH + lane / 16 * 16;
        UNROLL
        for (int i = 0; i < F::GROUPS; i++) {
            int64_t byte = base + (r0 + i * 8 + lane / 4) * j.m.row_bytes + (int64_t)s * W::SEG;
            wl[i] =
                W::lane(at + F::X_BYTES + (warp * FEW_ROWS + i * 8) * W::PITCH, (int)(byte & 15));
        }
        auto unit = [&](int u) {
            uint32_t x[2][4], w[F::GROUPS][4];
            ldmatrix_x4(x[0], xl + u * 64);
            ldmatrix_x4(x[1], xl + u * 64 + 32);
            UNROLL
            for (int i = 0; i < F::GROUPS; i++) W::load8(w[i], wl[i], u);
            UNROLL
            for (int h = 0; h < 2; h++) UNROLL
            for (int i = 0; i < F::GROUPS; i++) mma_bf16(sum[i], x[h], &w[i][2 * h]);
        };
        int units = (int)((k - (int64_t)s * W::KS + 31) / 32);
        if (units >= F::UNITS) {
            UNROLL
            for (int u = 0; u < F::UNITS; u++) unit(u);
        } else {
            if constexpr (W::BLOCK < W::KS) {
                ROLLED
                for (int u = 0; u < units; u++) unit(u);
            }
        }
    }
    UNROLL
    for (int i = 0; i < F::GROUPS; i++) UNROLL
    for (int v = 0; v < 4; v++) {
        int64_t s = g.from + lane / 4 + v / 2 * 8, c = r0 + i * 8 + lane % 4 * 2 + v % 2;
        if (s < end && c < j.m.rows) put(s, c, sum[i][v]);
    }
}

#endif
