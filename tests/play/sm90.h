/* sm90.h - what kernels/cuda/hopper.cuh and few.cuh have of sm_90a, played: barriers that count bytes, boxes
 * copied by tensor maps with their swizzle, products of a warpgroup.  Everything asynchronous is done at
 * once; a shared address counts from the beginning of a block's dynamic shared memory, and in bits 24 and on
 * has 1 + the rank of the block in its cluster, or 0: the block that runs. */
#ifndef FJ_TESTS_PLAY_SM90_H
#define FJ_TESTS_PLAY_SM90_H

#include "play/play.h"

static inline uint32_t shared_address(const void *p) {
    return (uint32_t)((const unsigned char *)p - play_shared());
}

/* ---- barriers ---------------------------------------------------------------------------------------- */
struct play_bar {
    uint8_t count, left, phase, made;
    int32_t bytes;
};
static inline unsigned char *play_at(uint32_t address) {
    uint32_t rank = address >> 24;
    return (rank ? play_shared_of(rank - 1) : play_shared()) + (address & 0xffffff);
}
static inline uint32_t play_of(uint32_t address, uint32_t rank) {
    return (address & 0xffffff) | (rank + 1) << 24;
}
static inline play_bar *play_bar_at(uint32_t bar) {
    play_bar *b = (play_bar *)play_at(bar);
    if (bar % 8) play_stuck("a barrier that is not aligned");
    return b;
}
static inline void play_bar_end(play_bar *b) {
    if (b->made != 77) play_stuck("a barrier that is none");
    if (b->left || b->bytes) return;
    b->phase ^= 1;
    b->left = b->count;
    play_progress();
}
static inline void bar_init(uint32_t bar, uint32_t count) {
    *play_bar_at(bar) = play_bar{ (uint8_t)count, (uint8_t)count, 0, 77, 0 };
}
static inline void bar_init_done() {}
static inline void bar_arrive(uint32_t bar) {
    play_bar *b = play_bar_at(bar);
    if (!b->left) play_stuck("too many arrive at a barrier");
    b->left--;
    play_bar_end(b);
}
static inline void bar_expect(uint32_t bar, uint32_t bytes) {
    play_bar_at(bar)->bytes += (int32_t)bytes;
    bar_arrive(bar);
}
static inline void play_bar_bytes(uint32_t bar, size_t bytes) {
    play_bar *b = play_bar_at(bar);
    b->bytes -= (int32_t)bytes; /* below 0: of another block, before they are expected */
    play_bar_end(b);
}
enum { WAIT_FULL = 1, WAIT_EMPTY, WAIT_SLOT_FULL, WAIT_SLOT_EMPTY };
static inline void bar_wait(uint32_t bar, uint32_t parity, int, int) {
    while (play_bar_at(bar)->phase == parity) play_yield();
}

/* ---- boxes ------------------------------------------------------------------------------------------- */
struct CUtensorMap {
    const unsigned char *data;
    int64_t dims[2], stride;
    int box[2], size;
    bool swizzle;
};
static inline void map_prefetch(const CUtensorMap *) {}
static inline void box_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y) {
    int wide = map->box[0] * map->size;
    if (to % (map->swizzle ? 1024u : 128u) || x * map->size % 16)
        play_stuck("a box that is not aligned");
    for (int r = 0; r < map->box[1]; r++)
        for (int c = 0; c < map->box[0]; c++) {
            uint32_t at = to + (uint32_t)(r * wide + c * map->size);
            if (map->swizzle) at ^= (at >> 7 & 7) << 4;
            if ((at & 0xffffff) + (uint32_t)map->size > 227u << 10)
                play_stuck("a box beyond shared memory");
            bool in = x + c >= 0 && x + c < map->dims[0] && y + r >= 0 && y + r < map->dims[1];
            if (in)
                memcpy(play_at(at),
                       map->data + (y + r) * map->stride + (int64_t)(x + c) * map->size,
                       (size_t)map->size);
            else memset(play_at(at), 0, (size_t)map->size);
        }
    play_bar_bytes(bar, (size_t)wide * (size_t)map->box[1]);
}
static inline void fence_async() {}

/* ---- clusters ------------------------------------------------------------------------------------------ */
static inline uint32_t cluster_rank() { return play_rank(); }
static inline void cluster_sync() { play_cluster_sync(); }
static inline void bar_arrive_at(uint32_t bar, uint32_t rank) { bar_arrive(play_of(bar, rank)); }
static inline void box_load_all(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y,
                                uint16_t mask) {
    for (uint32_t r = 0; r < 16; r++)
        if (mask >> r & 1) box_load(play_of(to, r), map, play_of(bar, r), x, y);
}

/* ---- products ---------------------------------------------------------------------------------------- */
static inline void products_begin() {}
static inline void products_commit() {}
template <int N> static inline void products_wait() {}
enum { BOX = 64 * 128, K16_ALONG = 32 >> 4, K16_OVER = 16 * 128 >> 4 };
static inline uint64_t describe(uint32_t addr, bool) { return (addr & 0x3ffff) >> 4; }

static inline float play_bf16(uint32_t half) {
    uint32_t u = half << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* Value k of row r of an operand along k. */
static inline float play_operand(uint64_t d, int r, int k) {
    uint32_t at = (uint32_t)d * 16 + (uint32_t)(r / 8 * 1024 + r % 8 * 128 + k * 2);
    at ^= (at >> 7 & 7) << 4;
    if (at + 2 > 227u << 10) play_stuck("an operand beyond shared memory");
    uint16_t v;
    memcpy(&v, play_shared() + at, 2);
    return play_bf16(v);
}
template <int REGS> static inline void play_sums(float *d, const float (*a)[16], uint64_t b) {
    int t = play_lane() % 4;
    for (int i = 0; i < REGS; i++) {
        int col = i / 4 * 8 + 2 * t + i % 2, half = i % 4 / 2;
        double s = 0;
        for (int k = 0; k < 16; k++) s += (double)a[half][k] * (double)play_operand(b, col, k);
        d[i] = (float)((double)d[i] + s);
    }
}
template <int REGS>
static inline void product_at(float (&d)[REGS], uint32_t a, uint32_t b, int keep) {
    int row = (int)threadIdx.x % 128 / 32 * 16 + play_lane() / 4;
    float v[2][16];
    for (int i = 0; i < 32; i++) v[i / 16][i % 16] = play_operand(a, row + i / 16 * 8, i % 16);
    for (int i = 0; i < REGS && !keep; i++) d[i] = 0;
    play_sums<REGS>(d, v, b);
}
template <int REGS>
static inline void product_regs(float (&d)[REGS], const uint32_t *a, uint32_t b, int keep) {
    const unsigned char *raw = play_exchange(a, 16);
    uint32_t all[32][4];
    memcpy(all, raw, sizeof all);
    float v[2][16];
    for (int i = 0; i < 32; i++) {
        int k = i % 16, half = i / 16;
        uint32_t two = all[play_lane() / 4 * 4 + k % 8 / 2][half + 2 * (k / 8)];
        v[half][k] = play_bf16(k % 2 ? two >> 16 : two & 0xffff);
    }
    for (int i = 0; i < REGS && !keep; i++) d[i] = 0;
    play_sums<REGS>(d, v, b);
}

#endif
