/* few_weight.cuh - weights of every format as few.cu takes them: KS values of k are a stage, STEP bytes of a
 * row; copied are PITCH, from the multiple of 16 where they begin or before (boxes begin at such).  PITCH is
 * an odd number of 16s, so that the rows of a warp's access lie in different banks.
 *
 * REGS: a warp makes the values of 8 rows in registers, 64 of k at a time (c: which of a stage):
 *   lane(rows): where a lane reads; rows: the first of the 8 rows in shared memory
 *   fetch(raw, at, c): the bytes of 64 values, and what a stage has once with those of c = 0
 *   make(a, raw, c): of a[i], step i of 16, A of a product of 16 rows, the lower 8
 * COST: cycles that a warp takes for 16 of k, about.  The values are those of weight.cuh and kquant.cuh. */
#ifndef FJ_KERNELS_CUDA_FEW_WEIGHT_CUH
#define FJ_KERNELS_CUDA_FEW_WEIGHT_CUH

#include "kernels/cuda/kquant.cuh"

struct few_bf16 {
    enum { REGS = 0, KS = 128, COST = 0 };
};

#define FJ_FEW(ks, step, pitch, cost)                                                              \
    enum { REGS = 1, KS = ks, STEP = step, PITCH = pitch, COST = cost };                           \
    static_assert(PITCH / 16 % 2 && PITCH % 16 == 0 && PITCH >= STEP + (16 - STEP % 16) % 16, "")
#define FJ_FEW_LANE                                                                                \
    static __device__ __forceinline__ const unsigned char *lane(const unsigned char *rows) {       \
        return rows + lane_of() / 4 * PITCH;                                                       \
    }

/* Values of two steps, f as load8 of weight.cuh has them. */
__device__ __forceinline__ void two_steps(uint32_t (*a)[4], const uint32_t *f) {
    UNROLL
    for (int i = 0; i < 2; i++)
        a[i][0] = f[2 * i], a[i][1] = 0, a[i][2] = f[2 * i + 1], a[i][3] = 0;
}

struct few_f16 {
    FJ_FEW(128, 256, 272, 14);
    struct raw {
        uint32_t f[2][4];
    };
    static __device__ __forceinline__ const unsigned char *lane(const unsigned char *rows) {
        return rows + lane_of() % 8 * PITCH + lane_of() / 8 * 16;
    }
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        UNROLL
        for (int h = 0; h < 2; h++) ldmatrix_x4(r.f[h], at + c * 128 + h * 64);
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], raw &r, int) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            weight_f16::convert(r.f[h]);
            two_steps(a + 2 * h, r.f[h]);
        }
    }
};

struct few_q8_0 {
    FJ_FEW(256, 272, 272, 24);
    FJ_FEW_LANE
    struct raw {
        uint32_t d[2], q[2][4];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            const unsigned char *b = at + (2 * c + h) * 34, *q = b + 2 + lane_of() % 4 * 2;
            r.d[h] = *(const uint16_t *)b;
            UNROLL
            for (int i = 0; i < 4; i++) r.q[h][i] = *(const uint16_t *)(q + 8 * i);
        }
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], const raw &r, int) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint32_t f[4];
            weight_q8_0::values(f, (uint16_t)r.d[h], r.q[h]);
            two_steps(a + 2 * h, f);
        }
    }
};

struct few_q4_0 {
    FJ_FEW(256, 144, 144, 23);
    FJ_FEW_LANE
    struct raw {
        uint32_t d[2], q[2][2];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            const unsigned char *b = at + (2 * c + h) * 18, *q = b + 2 + lane_of() % 4 * 2;
            r.d[h] = *(const uint16_t *)b;
            UNROLL
            for (int i = 0; i < 2; i++) r.q[h][i] = *(const uint16_t *)(q + 8 * i);
        }
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], const raw &r, int) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint32_t f[4];
            weight_q4_0::values(f, (uint16_t)r.d[h], r.q[h]);
            two_steps(a + 2 * h, f);
        }
    }
};

struct few_mxfp4 {
    FJ_FEW(256, 136, 144, 24);
    FJ_FEW_LANE
    struct raw {
        uint32_t e[2], q[2][4];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            const unsigned char *b = at + (2 * c + h) * 17, *q = b + 1 + lane_of() % 4 * 2;
            r.e[h] = *b;
            UNROLL
            for (int i = 0; i < 4; i++) r.q[h][i] = q[i / 2 * 8 + i % 2];
        }
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], const raw &r, int) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint32_t f[4];
            weight_mxfp4::values(f, r.e[h], r.q[h]);
            two_steps(a + 2 * h, f);
        }
    }
};

/* A lane's two lines of a stage stay in raw; 32 bytes have the nibbles of 64 values. */
struct few_q4_k {
    FJ_FEW(256, 144, 144, 19);
    FJ_FEW_LANE
    struct raw {
        uint4 head;
        uint32_t line[2], q[4];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        if (c == 0) r.head = *(const uint4 *)at;
        const unsigned char *q = at + 16 + c * 32 + lane_of() % 4 * 2;
        UNROLL
        for (int i = 0; i < 4; i++) r.q[i] = *(const uint16_t *)(q + 8 * i);
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], raw &r, int c) {
        if (c == 0) weight_q4_k::lines(r.head, r.line);
        uint32_t q[4], f[4];
        UNROLL
        for (int i = 0; i < 4; i++) q[i] = bytes_of(r.q[i], 0, 0x4140);
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint32_t line = weight_q4_k::line(r.line, 2 * c + h);
            UNROLL
            for (int i = 0; i < 4; i++) f[i] = q4_k_value(h ? q[i] >> 4 : q[i], line);
            two_steps(a + 2 * h, f);
        }
    }
};

/* 128 values share the words of low and high bits. */
struct few_q6_k {
    FJ_FEW(256, 210, 240, 27);
    FJ_FEW_LANE
    struct raw {
        uint32_t d, two[2], low[8], high[4];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        if (c == 0) r.d = *(const uint16_t *)(at + 208);
        UNROLL
        for (int h = 0; h < 2; h++) r.two[h] = *(const uint16_t *)(at + 192 + 4 * c + 2 * h);
        if (c % 2) return;
        const unsigned char *low = at + c * 32 + lane_of() % 4 * 2,
                            *high = at + 128 + c * 16 + lane_of() % 4 * 2;
        UNROLL
        for (int i = 0; i < 8; i++) r.low[i] = *(const uint16_t *)(low + 8 * i);
        UNROLL
        for (int i = 0; i < 4; i++) r.high[i] = *(const uint16_t *)(high + 8 * i);
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], const raw &r, int c) {
        float d = half_f32((uint16_t)r.d);
        UNROLL
        for (int h = 0; h < 2; h++) {
            uint32_t low[2], high[2], f[4];
            UNROLL
            for (int i = 0; i < 2; i++) {
                low[i] = bytes_of(r.low[4 * h + 2 * i], r.low[4 * h + 2 * i + 1], 0x5410);
                high[i] = bytes_of(r.high[2 * i], r.high[2 * i + 1], 0x5410);
            }
            weight_q6_k::values(f, low, high, r.two[h], d, 2 * c % 4 + h);
            two_steps(a + 2 * h, f);
        }
    }
};

struct few_nf4 {
    FJ_FEW(256, 136, 144, 25);
    FJ_FEW_LANE
    struct raw {
        uint32_t d, q[2][4];
    };
    static __device__ __forceinline__ void fetch(raw &r, const unsigned char *at, int c) {
        const unsigned char *b = at + c * 34, *q = b + 2 + lane_of() % 4;
        r.d = *(const uint16_t *)b;
        UNROLL
        for (int i = 0; i < 8; i++) r.q[i / 4][i % 4] = q[4 * i];
    }
    static __device__ __forceinline__ void make(uint32_t (*a)[4], const raw &r, int) {
        float d = half_f32((uint16_t)r.d);
        uint32_t both = pack_bf16(d, d), f[4];
        UNROLL
        for (int h = 0; h < 2; h++) {
            UNROLL
            for (int i = 0; i < 2; i++) {
                nf4_codes(r.q[h][2 * i + 1] * 256u + r.q[h][2 * i], f + 2 * i);
                f[2 * i] = fma_bf16(f[2 * i], both, 0x80008000u);
                f[2 * i + 1] = fma_bf16(f[2 * i + 1], both, 0x80008000u);
            }
            two_steps(a + 2 * h, f);
        }
    }
};

#endif
