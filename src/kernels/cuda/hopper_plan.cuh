/* hopper_plan.cuh - how hopper.cu walks over a product: sizes of tiles, clusters, stages, chosen by the time
 * that they should take.  No plan changes a bit of the result, but for the pieces of a sum. */
#ifndef FJ_KERNELS_CUDA_HOPPER_PLAN_CUH
#define FJ_KERNELS_CUDA_HOPPER_PLAN_CUH

#include "kernels/cuda/gemm.cuh"

enum {
    DEEP = 64,          /* of the inner dimension in a stage */
    SLOT = 64 * 128,    /* bytes of a slot */
    SHARED = 227 << 10, /* that a block may have */
    BARRIERS = 1024,    /* bytes, */
    STAGES = 12,        /* for at most so many stages */
    SLOTS = 8,          /* and slots of each computing warpgroup */
};

typedef struct plan {
    int rows, bn, cluster; /* rows and columns of a block's tile; blocks, one below the other */
    int groups;            /* warpgroups that compute: 64 rows each, or fewer of a lower tile */
    int high, a_rows;      /* rows of a chunk of C, and of A in a stage */
    int b_deep;            /* B's inner dimension over its rows: how much of it is in a box */
    int stages, slots;
    int together; /* tiles that are walked down before the next column */
    int m, n;
    int steps, whole, last; /* of DEEP in a piece; of them of the first pair; in the last piece */
    int pieces, apart;      /* of the inner dimension, their results so many rows apart */
    int down, across;       /* tiles of all the blocks of a cluster */
    int clusters;           /* that are started */
    float scale, by;        /* by: of the second pair, with nt */
    int acc;                /* there are old values */
} plan;

/* Columns of a chunk of C, 128 bytes at most. */
__host__ __device__ constexpr int chunk_cols(int bn, int size) {
    return bn % (128 / size) == 0 ? 128 / size : bn % 32 == 0 ? 32 : 16;
}

static int up(int64_t a, int64_t b) { return (int)((a + b - 1) / b); }

static size_t shared_of(const plan *p) {
    return 1024 + BARRIERS + (size_t)p->groups * p->slots * SLOT +
           (size_t)p->stages * (p->a_rows + p->bn) * 128;
}

/* The product itself, in one piece. */
static plan plan_of(int64_t m, int64_t n, int64_t k, int64_t k2, float scale, bool acc) {
    plan p = {};
    p.m = (int)m, p.n = (int)n, p.scale = scale, p.acc = acc;
    p.whole = up(k, DEEP), p.steps = p.last = p.whole + up(k2, DEEP);
    p.pieces = 1;
    return p;
}

/* Fills in the rest after rows, bn and cluster; wide: C is of F32. */
static void plan_rest(plan *p, fj_gemm_kind kind, bool wide, int sms) {
    int chunks = p->bn / chunk_cols(p->bn, wide ? 4 : 2);
    p->groups = up(p->rows, 64);
    p->high = p->rows < 64 ? p->rows : 64;
    p->a_rows = kind == FJ_TN ? p->groups * 64 : p->rows;
    p->b_deep = kind != FJ_NT && p->bn / 64 % p->cluster ? DEEP / p->cluster : DEEP;
    /* few steps: what counts is how much of C is on its way */
    if (p->acc) p->slots = p->steps <= 4 ? 8 : chunks < 3 ? 2 : 4;
    else p->slots = p->steps <= 8 && chunks > 2 ? 4 : 2;
    p->stages = 0;
    p->stages = (int)((SHARED - shared_of(p)) / ((p->a_rows + p->bn) * 128));
    if (p->stages > STAGES) p->stages = STAGES;
    p->together = 16;
    p->down = up(p->m, p->rows * p->cluster);
    p->across = up(p->n, p->bn);
    int64_t tiles = (int64_t)p->pieces * p->down * p->across;
    p->clusters = (int)FJ_MIN(tiles, sms / p->cluster);
}

/* Cycles that all tiles take, about (of an H200).  A step takes the longest of: its products, slowed by the
 * limit on power; shared memory, 128 bytes in a cycle, written by the copies and read by the products;
 * bytes into the multiprocessor, 64 in a cycle; bytes out of the L2 cache; what starting a step takes. */
static double plan_cost(const plan *p, bool wide, int sms) {
    double rows = FJ_MIN(p->rows, p->m), cols = FJ_MIN(p->bn, p->n);
    double products = p->groups * 64 * p->bn / 32.0 * 1.1;
    double shared = p->groups * (64 + p->bn) + rows + cols, in = 2 * (rows + cols);
    double l2 = (rows + cols / p->cluster) * 128 / 52 * p->clusters * p->cluster / sms;
    double step = fmax(fmax(products, shared), fmax(fmax(in, l2), 100));
    double out = rows * p->bn * (wide ? 4 : 2) * (p->acc ? 2 : 1) / 24, each = p->steps * step;
    double waves = ceil((double)p->pieces * p->down * p->across / p->clusters);
    double k = ((double)p->steps * (p->pieces - 1) + p->last) * DEEP;
    double memory = ((p->m + (double)p->n) * k * 2 +
                     (double)p->pieces * p->m * p->n * (wide ? 4 : 2) * (p->acc ? 2 : 1)) /
                    2500;
    each = waves * (fmax(each, out) + fmin(each, out) / 4 + 500);
    if (p->rows * p->bn < 128 * 256) each *= 1.02; /* more copies for the same products */
    if (p->groups == 1) each *= 1.05;              /* nobody multiplies while it writes or waits */
    return fmax(each, memory) + each / 20 + 3000;
}

static void plan_choose(plan *best, fj_gemm_kind kind, bool wide, int sms) {
    static const int widths[] = { 256, 224, 192, 160, 128, 96, 64, 32, 16 };
    static const int heights[] = { 128, 64, 32, 16 };
    double cost = INFINITY;
    plan p = *best;
    for (size_t i = 0; i < FJ_LEN(widths); i++)
        for (size_t j = 0; j < FJ_LEN(heights); j++)
            for (p.cluster = 2; p.cluster; p.cluster--) {
                p.bn = widths[i], p.rows = heights[j];
                if (kind != FJ_NT && p.bn % 64) continue;
                if (p.rows < 64 && kind == FJ_TN && p.m > p.rows)
                    continue; /* A's boxes are 64 wide */
                if (p.rows < 32 && kind != FJ_TN) continue;
                /* results of pieces may not overlap */
                if (p.pieces > 1 && (p.cluster > 1 || up(p.m, p.rows) * p.rows > p.apart)) continue;
                if (p.cluster > 1 && (p.rows < 64 || p.m <= p.rows || FJ_MIN(p.bn, p.n) < 64))
                    continue;
                plan_rest(&p, kind, wide, sms);
                double c = plan_cost(&p, wide, sms);
                if (c < cost) cost = c, *best = p;
            }
}

#endif
