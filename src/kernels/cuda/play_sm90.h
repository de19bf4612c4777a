/* sm90.h - what kernels/cuda/hopper.cuh and few.cuh have of sm_90a, played: barriers that count bytes, boxes
 * copied by tensor maps with their swizzle, products of a warpgroup, clusters.  Everything asynchronous is
 * done at once; a shared address counts from the beginning of a block's dynamic shared memory. */
#ifndef FJ_TESTS_PLAY_SM90_H
#define FJ_TESTS_PLAY_SM90_H

#include "kernels/cuda/play.h"

static inline uint32_t shared_address(const void *p) {
    return (uint32_t)((const unsigned char *)p - play_shared());
}

/* ---- barriers ---------------------------------------------------------------------------------------- */
struct play_bar {
    uint8_t count, left, phase, made;
    int32_t bytes;
};
static inline play_bar *play_bar_at(uint32_t bar, int block = play_block()) {
    play_bar *b = (play_bar *)(play_shared_of(block) + bar);
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
static inline void bar_arrive_at(uint32_t bar, uint32_t block) {
    play_bar *b = play_bar_at(bar, (int)block);
    if (!b->left) play_stuck("too many arrive at a barrier");
    b->left--;
    play_bar_end(b);
}
static inline void bar_arrive(uint32_t bar) { bar_arrive_at(bar, (uint32_t)play_block()); }
static inline void bar_expect(uint32_t bar, uint32_t bytes) {
    play_bar_at(bar)->bytes += (int32_t)bytes;
    bar_arrive(bar);
}
/* Bytes may come before they are expected: the other block of a cluster sends them. */
static inline void play_bar_bytes(uint32_t bar, size_t bytes, int block) {
    play_bar *b = play_bar_at(bar, block);
    b->bytes -= (int32_t)bytes;
    if (b->bytes < 0 && !b->left) play_stuck("more bytes than a barrier expects");
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
/* Where a value of a box lies, from its beginning. */
static inline uint32_t play_in_box(const CUtensorMap *map, uint32_t box, int r, int c) {
    int wide = map->box[0] * map->size;
    uint32_t at = box + (uint32_t)(r * wide + c * map->size);
    if (map->swizzle) at ^= (at >> 7 & (uint32_t)(wide / 16 - 1)) << 4;
    if (at + (uint32_t)map->size > 227u << 10) play_stuck("a box beyond shared memory");
    return at;
}
static inline void play_box_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y,
                                 int block) {
    unsigned char *shared = play_shared_of(block);
    if (to % (map->swizzle ? 1024u : 128u) || x * map->size % 16)
        play_stuck("a box that is not aligned");
    for (int r = 0; r < map->box[1]; r++)
        for (int c = 0; c < map->box[0]; c++) {
            uint32_t at = play_in_box(map, to, r, c);
            bool in = x + c >= 0 && x + c < map->dims[0] && y + r >= 0 && y + r < map->dims[1];
            if (in)
                memcpy(shared + at,
                       map->data + (y + r) * map->stride + (int64_t)(x + c) * map->size,
                       (size_t)map->size);
            else memset(shared + at, 0, (size_t)map->size);
        }
    play_bar_bytes(bar, (size_t)(map->box[0] * map->size * map->box[1]), block);
}
static inline void box_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y) {
    play_box_load(to, map, bar, x, y, play_block());
}
static inline void box_load_all(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y,
                                uint16_t mask) {
    for (int b = 0; b < 16; b++)
        if (mask >> b & 1) play_box_load(to, map, bar, x, y, b);
}
static inline void box_store(const CUtensorMap *map, uint32_t from, int x, int y) {
    if (map->dims[0] * map->size % 16) play_stuck("rows that end within 16 bytes");
    for (int r = 0; r < map->box[1] && y + r < map->dims[1]; r++)
        for (int c = 0; c < map->box[0] && x + c < map->dims[0]; c++)
            memcpy((unsigned char *)map->data + (y + r) * map->stride +
                       (int64_t)(x + c) * map->size,
                   play_shared() + play_in_box(map, from, r, c), (size_t)map->size);
}
static inline void stores_commit() {}
template <int N> static inline void stores_read() {}
static inline void stores_done() {}

/* ---- threads ----------------------------------------------------------------------------------------- */
static inline void threads_sync(int id, int threads) { play_threads_sync(id, threads); }
static inline uint32_t cluster_rank() { return (uint32_t)play_block(); }
static inline void cluster_sync() { play_cluster_sync(); }
template <int N> static inline void registers_up() {}
template <int N> static inline void registers_down() {}

static inline void stmatrix_x4(uint32_t row, const uint32_t *r) {
    const unsigned char *raw = play_exchange(&row, sizeof row);
    uint32_t rows[32];
    memcpy(rows, raw, sizeof rows);
    if (row % 16) play_stuck("stmatrix of a row that is not aligned");
    for (int i = 0; i < 4; i++)
        memcpy(play_shared() + rows[8 * i + play_lane() / 4] + play_lane() % 4 * 4, &r[i], 4);
}
static inline void loadmatrix_x4(uint32_t *r, uint32_t row) { ldmatrix_x4(r, play_shared() + row); }
static inline void shared_store2(uint32_t to, float a, float b) {
    float v[2] = { a, b };
    memcpy(play_shared() + to, v, 8);
}
static inline void shared_load2(float *v, uint32_t from) { memcpy(v, play_shared() + from, 8); }
static inline void fence_async() {}

/* ---- products ---------------------------------------------------------------------------------------- */
static inline void products_begin() {}
static inline void products_commit() {}
/* All of the warpgroup: one thread tells for the others that they have read. */
template <int N> static inline void products_wait() {
    play_threads_sync(16 + (int)threadIdx.x / 128, 128);
}
enum { BOX = 64 * 128, K16_ALONG = 32 >> 4, K16_OVER = 16 * 128 >> 4 };
static inline uint64_t describe(uint32_t addr, bool) { return (addr & 0x3ffff) >> 4; }

static inline float play_bf16(uint32_t half) {
    uint32_t u = half << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* Value k of row r of an operand, along k or over it. */
static inline float play_operand(uint64_t d, int r, int k, bool over = false) {
    uint32_t at = (uint32_t)d * 16 + (uint32_t)(over ? r / 64 * BOX + k * 128 + r % 64 * 2
                                                     : r / 8 * 1024 + r % 8 * 128 + k * 2);
    at ^= (at >> 7 & 7) << 4;
    if (at + 2 > 227u << 10) play_stuck("an operand beyond shared memory");
    uint16_t v;
    memcpy(&v, play_shared() + at, 2);
    return play_bf16(v);
}
template <int REGS>
static inline void play_sums(float *d, const float (*a)[16], uint64_t b, bool over = false) {
    int t = play_lane() % 4;
    for (int i = 0; i < REGS; i++) {
        int col = i / 4 * 8 + 2 * t + i % 2, half = i % 4 / 2;
        double s = 0;
        for (int k = 0; k < 16; k++)
            s += (double)a[half][k] * (double)play_operand(b, col, k, over);
        d[i] = (float)((double)d[i] + s);
    }
}
template <bool overA, bool overB, int REGS>
static inline void product(float (&d)[REGS], uint64_t a, uint64_t b, int keep) {
    int row = (int)threadIdx.x % 128 / 32 * 16 + play_lane() / 4;
    float v[2][16];
    for (int i = 0; i < 32; i++)
        v[i / 16][i % 16] = play_operand(a, row + i / 16 * 8, i % 16, overA);
    for (int i = 0; i < REGS && !keep; i++) d[i] = 0;
    play_sums<REGS>(d, v, b, overB);
}
template <int REGS>
static inline void product_at(float (&d)[REGS], uint32_t a, uint32_t b, int keep) {
    product<false, false, REGS>(d, a, b, keep);
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
