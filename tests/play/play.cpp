/* play.cpp - see play.h.  Fibers are made by makecontext and switched by longjmp, which saves the system
 * call that swapcontext makes for the signal mask. */
#undef _FORTIFY_SOURCE
#include "kernels/cuda/play.h"

#include <setjmp.h>
#include <ucontext.h>

play_index threadIdx, blockIdx, blockDim, gridDim;

enum { STACK = 96 << 10, MOST = 1024, SLOT = 256, CLUSTER = 2 };
enum state { READY, AT_BLOCK, AT_WARP, ENDED };

struct fiber {
    jmp_buf at;
    state st;
    play_index idx;
    int block; /* of its cluster */
    bool started;
};

struct warp {
    unsigned char slot[2][32 * SLOT];
    int turn[32];
};

static fiber fibers[MOST];
static warp warps[MOST / 32];
static unsigned char *stacks, *dynamic[CLUSTER];
static jmp_buf scheduler;
static int self, count, each; /* fibers; of a block */
static play_index first;      /* block of a cluster */
static const std::function<void()> *body;

static void entry() {
    (*body)();
    fibers[self].st = ENDED;
    longjmp(scheduler, 1);
}

static void yield(state st) {
    fibers[self].st = st;
    if (!setjmp(fibers[self].at)) longjmp(scheduler, 1);
}

static void start(int i) {
    static ucontext_t c, back;
    getcontext(&c);
    c.uc_stack.ss_sp = stacks + (size_t)i * STACK;
    c.uc_stack.ss_size = STACK;
    c.uc_link = &back;
    makecontext(&c, entry, 0);
    fibers[i].started = true;
    setcontext(&c);
}

static void resume(int i) {
    self = i;
    threadIdx = fibers[i].idx;
    blockIdx = { first.x + (unsigned)fibers[i].block, first.y, first.z };
    fibers[i].st = READY;
    if (setjmp(scheduler)) return;
    if (fibers[i].started) longjmp(fibers[i].at, 1);
    start(i);
}

[[noreturn]] static void stuck(const char *what) {
    fprintf(stderr, "play: block (%u, %u, %u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, what);
    abort();
}

/* Lets threads [from, to), all at a barrier of kind st or ended, go on. */
static void release(int from, int to) {
    for (int i = from; i < to; i++)
        if (fibers[i].st != ENDED) fibers[i].st = READY;
}

static bool all_at(int from, int to, state st) {
    bool some = false;
    for (int i = from; i < to; i++) {
        if (fibers[i].st != st && fibers[i].st != ENDED) return false;
        some |= fibers[i].st == st;
    }
    return some;
}

static void run_cluster() {
    for (int i = 0; i < count; i++) {
        unsigned t = (unsigned)(i % each);
        fibers[i].st = READY;
        fibers[i].started = false;
        fibers[i].block = i / each;
        fibers[i].idx = { t % blockDim.x, t / blockDim.x % blockDim.y,
                          t / (blockDim.x * blockDim.y) };
        warps[i / 32].turn[i % 32] = 0;
    }
    for (;;) {
        bool ran = false, left = false;
        for (int w = 0; w < count; w += 32) {
            int to = w + 32 < count ? w + 32 : count;
            for (int i = w; i < to; i++)
                if (fibers[i].st == READY) {
                    resume(i);
                    ran = true;
                }
            if (all_at(w, to, AT_WARP)) {
                for (int i = w; i < to; i++)
                    if (fibers[i].st == ENDED)
                        stuck("a lane has ended before a shuffle of its warp");
                release(w, to);
                ran = true;
            }
        }
        for (int i = 0; i < count; i++) left |= fibers[i].st != ENDED;
        if (!left) return;
        for (int b = 0; b < count; b += each)
            if (all_at(b, b + each, AT_BLOCK)) {
                release(b, b + each);
                ran = true;
            }
        if (!ran) stuck("threads wait at different barriers");
    }
}

void play_launch(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel,
                 int cluster) {
    each = (int)(block.x * block.y * block.z);
    count = each * cluster;
    if (each < 1 || count > MOST || !grid.x || !grid.y || !grid.z || shared > (size_t)227 << 10)
        stuck("a grid or block that no GPU takes");
    if (cluster > CLUSTER || grid.x % (unsigned)cluster || (cluster > 1 && each % 32))
        stuck("a cluster that is not played");
    if (!stacks) {
        stacks = (unsigned char *)malloc((size_t)STACK * MOST);
        for (unsigned char *&d : dynamic) d = (unsigned char *)aligned_alloc(1024, 228 << 10);
    }
    blockDim = { block.x, block.y, block.z };
    gridDim = { grid.x, grid.y, grid.z };
    body = &kernel;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x += (unsigned)cluster) {
                first = blockIdx = { x, y, z };
                for (int b = 0; b < cluster; b++)
                    memset(dynamic[b], 0xff, shared); /* NaN, for who reads before writing */
                run_cluster();
            }
}

unsigned char *play_shared() { return dynamic[fibers[self].block]; }
unsigned char *play_shared_of(int block) { return dynamic[block]; }
int play_block() { return fibers[self].block; }
int play_lane() { return self % 32; }
void __syncthreads() { yield(AT_BLOCK); }
void __syncwarp(unsigned) { yield(AT_WARP); }

const unsigned char *play_exchange(const void *mine, size_t n) {
    warp *w = &warps[(unsigned)self / 32];
    unsigned lane = (unsigned)self % 32, turn = (unsigned)w->turn[lane]++ & 1;
    if (n > SLOT) stuck("too much in one exchange");
    memcpy(&w->slot[turn][(size_t)lane * n], mine, n);
    yield(AT_WARP);
    return w->slot[turn];
}

static long yields;
void play_progress() { yields = 0; }
void play_yield() {
    if (++yields > 10000000) stuck("threads wait for what does not come");
    yield(READY);
}
void play_stuck(const char *what) { stuck(what); }
struct named {
    int here;
    unsigned turn;
};
static void sync(named *b, int threads) {
    unsigned turn = b->turn;
    if (++b->here < threads) {
        while (b->turn == turn) play_yield();
        return;
    }
    b->here = 0;
    b->turn++;
    play_progress();
}
void play_threads_sync(int id, int threads) {
    static named all[CLUSTER][32];
    sync(&all[fibers[self].block][id], threads);
}
void play_cluster_sync() {
    static named all;
    sync(&all, count);
}

static float f32(uint32_t half) {
    uint32_t u = half << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

void mma_bf16(float *d, const uint32_t *a, const uint32_t *b) {
    uint32_t mine[6] = { a[0], a[1], a[2], a[3], b[0], b[1] };
    const unsigned char *raw = play_exchange(mine, sizeof mine);
    uint32_t all[32][6];
    memcpy(all, raw, sizeof all);
    int lane = play_lane(), g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = g, high = i / 2, col = 2 * t + i % 2; /* D[row + 8 high][col] */
        double s = 0;
        for (int k = 0; k < 16; k++) {
            uint32_t x = all[row * 4 + k % 8 / 2][high + 2 * (k / 8)];
            uint32_t y = all[col * 4 + k % 8 / 2][4 + k / 8];
            s += (double)f32(k % 2 ? x >> 16 : x & 0xffff) *
                 (double)f32(k % 2 ? y >> 16 : y & 0xffff);
        }
        d[i] = (float)((double)d[i] + s);
    }
}

static void ldmatrix(uint32_t *r, const void *row, int n, bool trans) {
    if ((uintptr_t)row % 16 && play_lane() < 8 * n) stuck("ldmatrix of a row that is not aligned");
    const unsigned char *raw = play_exchange(&row, sizeof row);
    const uint16_t *at[32];
    memcpy(at, raw, sizeof at);
    int g = play_lane() / 4, t = play_lane() % 4;
    for (int m = 0; m < n; m++) {
        const uint16_t *const *rows = at + 8 * m;
        r[m] = trans ? rows[2 * t][g] | (uint32_t)rows[2 * t + 1][g] << 16
                     : rows[g][2 * t] | (uint32_t)rows[g][2 * t + 1] << 16;
    }
    yield(AT_WARP); /* nobody overwrites what another still reads */
}
void ldmatrix_x4(uint32_t *r, const void *row) { ldmatrix(r, row, 4, false); }
void ldmatrix_x2(uint32_t *r, const void *row) { ldmatrix(r, row, 2, false); }
void ldmatrix_x4_trans(uint32_t *r, const void *row) { ldmatrix(r, row, 4, true); }
void ldmatrix_x2_trans(uint32_t *r, const void *row) { ldmatrix(r, row, 2, true); }

cudaError_t cudaMalloc(void **p, size_t n) {
    *p = n > (size_t)4 << 30 ? NULL : aligned_alloc(256, (n + 255) / 256 * 256);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void *p) {
    free(p);
    return cudaSuccess;
}
