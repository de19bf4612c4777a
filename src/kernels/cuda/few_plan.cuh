/* few_plan.cuh - how few.cu deals a product to blocks and warps, and where things lie. */
#ifndef FJ_KERNELS_CUDA_FEW_PLAN_CUH
#define FJ_KERNELS_CUDA_FEW_PLAN_CUH

#include "kernels/cuda/few_weight.cuh"
#include "kernels/cuda/gemm.cuh"

enum {
    STAGES = 16,
    WARPS = 16,        /* that multiply, at most */
    BARRIERS = 1024,   /* bytes */
    HALF = 112 << 10,  /* shared memory of a block, two of which are on a multiprocessor */
    WHOLE = 226 << 10, /* of one */
    AHEAD =
        64
        << 10, /* bytes behind its ring that a block asks the cache to have, when it has to wait */
    MOST_CLUSTER = 2,
};

typedef struct few_plan {
    int m, steps, count;       /* rows of x, stages of k, weights */
    int warps, rows;           /* that multiply; rows of a strip */
    int stages, strips, turns; /* strips of all weights, of a block */
    int cluster;               /* blocks that bring x to each other */
    int w_bytes, stage_bytes;  /* of a stage: the weights' (x behind them) and all */
    int full_bytes;            /* that copies bring to a stage */
    int first[FJ_FEW_MANY];    /* strip of each weight */
    int64_t n[FJ_FEW_MANY];    /* its rows */
    const unsigned char *w[FJ_FEW_MANY];
    int64_t w_row;                /* bytes of a row */
    fj_grows y[FJ_FEW_MANY], old; /* old.data: NULL: none */
    float scale, by;              /* by: of the second pair */
    const bf16 *x2, *w2;          /* the second pair, k2 deep */
    int64_t ldx2, ldw2;
    int k2;
    bool pairs2; /* whose values can be read two at once */
    bool swiglu; /* of w[0] and w[1], rows / 2 of each to a strip, y[0] */
} few_plan;

typedef struct few_maps {
    CUtensorMap w[FJ_FEW_MANY], x;
} few_maps;

/* Rows of x: 16 to a product, MT of them; 0: at most 8, which are twice in it. */
#define ROWS_OF_X(MT) ((MT) ? 16 * (MT) : 8)

/* ---- the plan -------------------------------------------------------------------------------------- */
static int up(int64_t a, int64_t b) { return (int)((a + b - 1) / b); }

/* Fills in the rest of a plan after cluster, warps and rows; false: that many are not possible. */
template <typename W, int MT> static bool plan_rest(few_plan *p) {
    int x_rows = ROWS_OF_X(MT), boxes = W::KS / 64;
    p->full_bytes = p->rows * W::PITCH * (W::BOXES ? boxes : 1);
    p->w_bytes = (p->full_bytes + 1023) / 1024 * 1024;
    p->stage_bytes = p->w_bytes + boxes * x_rows * 128;
    p->full_bytes += boxes * (p->cluster > 1 ? x_rows : p->m) * 128;
    p->stages = 0;
    for (int most = HALF; most <= WHOLE && p->stages < 4; most += WHOLE - HALF)
        p->stages = (most - 1024 - BARRIERS) / p->stage_bytes;
    if (p->stages > STAGES) p->stages = STAGES;
    p->strips = 0;
    if (p->swiglu) p->strips = up(p->n[0], p->rows / 2);
    for (int i = 0; i < p->count && !p->swiglu; i++) {
        p->first[i] = p->strips;
        p->strips += up(p->n[i], p->rows);
    }
    return p->stages >= 3;
}

/* Blocks, a whole number of clusters. */
static int blocks_of(const few_plan *p, int sms) {
    int most = sms / p->cluster, need = up(p->strips, p->cluster);
    return FJ_MIN(need, most) * p->cluster;
}

/* Cycles that all strips take, about.  A cycle brings 20 bytes of the memory to each multiprocessor, 26 of
 * the cache; one alone may get 40.  A product takes 40 cycles before the next of its sums, and a quarter of
 * the multiprocessor for 7; shared memory gives 128 bytes.  Dearer: few multiprocessors, blocks that leave
 * no room for the next kernel's, clusters. */
template <typename W, int MT, int G>
static double plan_cost(const few_plan *p, int64_t w_row, int sms) {
    int blocks = blocks_of(p, sms), waves = up(p->strips, blocks), each = up(p->warps, 4);
    double w = (double)p->rows * (double)w_row / ((double)p->steps * W::KS / 16); /* of 16 of k */
    double x = p->m * 32.0, part = (double)blocks / sms, step;
    double memory = w * part / 20, cache = (w + x / p->cluster) * part / 26, here = (w + x) / 40;
    double products = 7 * (MT ? MT * G : 1) * each;
    double make = (W::COST * G + (MT ? MT * (G + 1) + 3 : G == 1 ? 8 : 4)) * each;
    double shared = (p->warps * (MT ? 512.0 * MT : 256.0) + 2 * w + x) / 110;
    step = FJ_MAX(FJ_MAX(memory, cache), FJ_MAX(FJ_MAX(here, 40), FJ_MAX(products, make / 0.8)));
    step = FJ_MAX(step, shared);
    double cost = waves * (step * p->steps * (W::KS / 16) + 200 + 16 * MT * G);
    bool alone = p->stages * p->stage_bytes > HALF;
    return cost * (1.2 - 0.2 * part) * (alone ? 1.06 : 1) * (p->cluster > 1 ? 1.04 : 1);
}

/* The cost of the best plan; INFINITY: none. */
template <typename W, int MT, int G>
static double plan_choose(few_plan *best, int64_t w_row, int sms) {
    double cost = INFINITY;
    few_plan p = *best;
    for (p.cluster = 1;
         p.cluster <= FJ_MIN((int)MOST_CLUSTER, sms) && ROWS_OF_X(MT) / p.cluster >= 8;
         p.cluster *= 2)
        for (p.warps = 1; p.warps <= (MT < 4 ? WARPS : 10); p.warps++) { /* registers */
            p.rows = p.warps * 8 * G;
            if (!plan_rest<W, MT>(&p) || (p.cluster > 1 && p.strips < p.cluster)) continue;
            double c = plan_cost<W, MT, G>(&p, w_row, sms);
            if (c < cost) cost = c, *best = p;
        }
    return cost;
}

#endif
