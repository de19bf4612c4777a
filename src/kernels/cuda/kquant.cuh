/* kquant.cuh - weights in blocks larger than 32: Q4_K, Q6_K, NF4 (base/dtype.h).
 *
 * Values of Q6_K are exactly those of fj_dequant_row, rounded once to BF16.  The others, where they meet
 * BF16 rows, are made by one FMA of BF16 numbers, which is what lets a tensor core keep up with memory:
 *   Q4_K: scale' * (nibble - 8) + middle', with middle = 8 * scale - min; ' is rounded to BF16
 *   NF4:  absmax' * code'
 * Each of these roundings moves a value by no more than that of the largest value of its block does.  In F32
 * all are exact: exact().
 *
 * For each format a struct for eight neighbours as they lie in memory (fetch, open: moe_tile.cuh), and one
 * for fragments from shared memory (weight.cuh), where at8 keeps what several calls of load8 share: u goes
 * from 0 up, and is known to the compiler or the block is smaller than a stage. */
#ifndef FJ_KERNELS_CUDA_KQUANT_CUH
#define FJ_KERNELS_CUDA_KQUANT_CUH

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/weight.cuh"

/* c, which the compiler does not know to be constant: then it stays in a register, and picks of bytes, which
 * can have one constant, have their own one without a move before each. */
__device__ __forceinline__ uint32_t in_register(uint32_t c) {
#ifndef FJ_PLAY
    asm("{\n\t.reg .b32 z;\n\tmov.u32 z, %%tid.z;\n\tor.b32 %0, z, %1;\n\t}" : "=r"(c) : "r"(c));
#endif
    return c; /* blocks are flat */
}

/* bytes_of with a pick that has no other bits. */
__device__ __forceinline__ uint32_t bytes_by(uint32_t a, uint32_t b, uint32_t pick) {
#ifdef FJ_PLAY
    return bytes_of(a, b, pick);
#else
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(pick));
    return r;
#endif
}

/* Byte I of v as the float 128 + byte; bytes are below 128. */
template <int I> __device__ __forceinline__ float byte_128(uint32_t v) {
    return __uint_as_float(bytes_of(v, in_register(0x43000000u), 0x7044 | I << 8));
}

/* A half of v twice: operands of fma_bf16 that need no instruction. */
__device__ __forceinline__ uint32_t low_twice(uint32_t v) {
#ifdef FJ_PLAY
    return v << 16 | (v & 0xffff);
#else
    asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %0;\n\tmov.b32 %0, {l, l};\n\t}" : "+r"(v));
    return v;
#endif
}
__device__ __forceinline__ uint32_t high_twice(uint32_t v) {
#ifdef FJ_PLAY
    return v >> 16 | (v & 0xffff0000u);
#else
    asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %0;\n\tmov.b32 %0, {h, h};\n\t}" : "+r"(v));
    return v;
#endif
}

__device__ __forceinline__ void floats_of(uint32_t two, float *v) {
    v[0] = low_f32(two);
    v[1] = high_f32(two);
}

/* ---- Q4_K ----------------------------------------------------------------------------------------- */
/* Scales and mins of 6 bits, four to a word, as bytes. */
struct q4_k_scales {
    uint32_t scale[2], min[2];
    __device__ __forceinline__ q4_k_scales(uint32_t a, uint32_t b, uint32_t c) {
        scale[0] = a & 0x3f3f3f3fu;
        min[0] = b & 0x3f3f3f3fu;
        scale[1] = (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u);
        min[1] = (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u);
    }
};

/* scale' and middle' of 32 values, in the lower and the upper half. */
__device__ __forceinline__ uint32_t q4_k_line(float scale, float min) {
    return pack_bf16(scale, __fmaf_rn(8, scale, -min));
}
/* Two values of nibbles in bits 0..3 and 16..19: in the last bits of the BF16 number 128 they make
 * 128 + nibble. */
__device__ __forceinline__ uint32_t q4_k_value(uint32_t nibbles, uint32_t line) {
    const uint32_t one = 0x3f803f80u, eight = 0xc308c308u; /* -136 */
    uint32_t q = fma_bf16(and_or<0x000f000f, 0x43004300>(nibbles), one, eight);
    return fma_bf16(q, low_twice(line), high_twice(line));
}

struct as_q4_k {
    enum { ASYNC = false };
    struct raw {
        uint4 head;
        uint2 q;
    };
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const unsigned char *b = row + k / 256 * 144;
        raw r = { *(const uint4 *)b, *(const uint2 *)(b + 16 + k % 256 / 64 * 32 + k % 32) };
        return r;
    }
    static __device__ __forceinline__ void line(const raw &r, int64_t k, float *scale, float *min) {
        q4_k_scales s(r.head.y, r.head.z, r.head.w);
        int j = (int)(k % 256 / 32), shift = j % 4 * 8;
        *scale =
            f16_f32((uint16_t)r.head.x) * (float)((j < 4 ? s.scale[0] : s.scale[1]) >> shift & 63);
        *min = f16_f32((uint16_t)(r.head.x >> 16)) *
               (float)((j < 4 ? s.min[0] : s.min[1]) >> shift & 63);
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t k, float *v) {
        float scale, min;
        line(r, k, &scale, &min);
        uint32_t l = q4_k_line(scale, min);
        int high = k & 32 ? 4 : 0;
        UNROLL
        for (int i = 0; i < 4; i++) {
            uint32_t two = (i < 2 ? r.q.x : r.q.y) >> i % 2 * 16 & 0xffff;
            floats_of(q4_k_value(bytes_of(two, 0, 0x4140) >> high, l), v + 2 * i);
        }
    }
    static __device__ __forceinline__ void exact(const raw &r, int64_t k, float *v) {
        float scale, min;
        line(r, k, &scale, &min);
        int high = k & 32 ? 4 : 0;
        UNROLL
        for (int i = 0; i < 8; i++)
            v[i] =
                __fmaf_rn(scale, (float)((i < 4 ? r.q.x : r.q.y) >> (i % 4 * 8 + high) & 15), -min);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};

struct weight_q4_k {
    enum { BLOCK = 256, BYTES = 144, KS = 256, SEG = 144, PIECES = 9, PITCH = 144 };
    struct at8 {
        const unsigned char *row;
        uint32_t line[2], q[4];
    };
    /* Rows begin at multiples of 16. */
    static __device__ __forceinline__ at8 lane(const unsigned char *rows, int) {
        at8 at;
        at.row = rows + lane_of() / 4 * PITCH;
        return at;
    }
    /* Lines 2 t and 2 t + 1 of a row's eight by the t-th of its four lanes; line() asks it for them. */
    static __device__ __forceinline__ void lines(const uint4 &head, uint32_t *own) {
        q4_k_scales s(head.y, head.z, head.w);
        float d = half_f32((uint16_t)head.x), min = half_f32((uint16_t)(head.x >> 16));
        uint32_t pick = 0x10u + (uint32_t)(lane_of() % 4) * 0x22u;
        uint32_t scales = bytes_by(s.scale[0], s.scale[1], pick),
                 mins = bytes_by(s.min[0], s.min[1], pick);
        float less = -128.0f * d, less_min = -128.0f * min; /* 128 + scale: 8 bits, d: 11: exact */
        own[0] = q4_k_line(__fmaf_rn(byte_128<0>(scales), d, less),
                           __fmaf_rn(byte_128<0>(mins), min, less_min));
        own[1] = q4_k_line(__fmaf_rn(byte_128<1>(scales), d, less),
                           __fmaf_rn(byte_128<1>(mins), min, less_min));
    }
    static __device__ __forceinline__ uint32_t line(const uint32_t *own, int u) {
        return __shfl_sync(FULL_WARP, own[u % 2], u / 2, 4);
    }
    static __device__ __forceinline__ void load8(uint32_t *f, at8 &at, int u) {
        if (u == 0) lines(*(const uint4 *)at.row, at.line);
        if (u % 2 == 0) {
            const unsigned char *q = at.row + 16 + u / 2 * 32 + lane_of() % 4 * 2;
            UNROLL
            for (int i = 0; i < 4; i++)
                at.q[i] = bytes_of(*(const uint16_t *)(q + 8 * i), 0, 0x4140);
        }
        uint32_t l = line(at.line, u);
        UNROLL
        for (int i = 0; i < 4; i++) f[i] = q4_k_value(u % 2 ? at.q[i] >> 4 : at.q[i], l);
    }
    FJ_WEIGHT_16
};

/* ---- Q6_K ----------------------------------------------------------------------------------------- */
struct as_q6_k {
    enum { ASYNC = false };
    struct raw {
        uint16_t low[4], high[4], d;
        int8_t scale;
    };
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const unsigned char *b = row + k / 256 * 210;
        int i = (int)(k % 256), half = i / 128;
        const uint16_t *low = (const uint16_t *)(b + half * 64 + i % 64),
                       *high = (const uint16_t *)(b + 128 + half * 32 + i % 32);
        raw r = { { low[0], low[1], low[2], low[3] },
                  { high[0], high[1], high[2], high[3] },
                  *(const uint16_t *)(b + 208),
                  (int8_t)b[192 + i / 16] };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t k, float *v) {
        float d = f16_f32(r.d) * (float)r.scale;
        int j = (int)(k % 128 / 32);
        UNROLL
        for (int i = 0; i < 8; i++) {
            int byte = i % 2 * 8, low = r.low[i / 2] >> (byte + j / 2 * 4) & 15,
                high = r.high[i / 2] >> (byte + j * 2) & 3;
            v[i] = d * (float)((low | high << 4) - 32);
        }
    }
    static __device__ __forceinline__ void exact(const raw &r, int64_t k, float *v) {
        open(r, k, v);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};

struct weight_q6_k {
    enum { BLOCK = 256, BYTES = 210, KS = 256, SEG = 210, PIECES = 15, PITCH = 240 };
    struct at8 {
        const unsigned char *row;
        float d;
        uint32_t low[4], high[2]; /* of 128 values: [2 p + r], [r]: bytes of the 16 r-th and on */
    };
    static __device__ __forceinline__ at8 lane(const unsigned char *rows, int shift) {
        at8 at;
        at.row = rows + lane_of() / 4 * PITCH + shift;
        return at;
    }
    /* Four bytes: two, and the two that are 8 further. */
    static __device__ __forceinline__ uint32_t four(const unsigned char *p) {
        return bytes_of(*(const uint16_t *)p, *(const uint16_t *)(p + 8), 0x5410);
    }
    template <int I>
    static __device__ __forceinline__ float value(uint32_t q, float d, float zero) {
        return __fmaf_rn(byte_128<I>(q), d, zero);
    }
    static __device__ __forceinline__ void load8(uint32_t *f, at8 &at, int u) {
        if (u == 0) at.d = half_f32(*(const uint16_t *)(at.row + 208));
        if (u % 4 == 0) {
            const unsigned char *low = at.row + u / 4 * 64 + lane_of() % 4 * 2,
                                *high = at.row + 128 + u / 4 * 32 + lane_of() % 4 * 2;
            UNROLL
            for (int i = 0; i < 4; i++) at.low[i] = four(low + 16 * i);
            UNROLL
            for (int r = 0; r < 2; r++) at.high[r] = four(high + 16 * r);
        }
        values(f, at.low + u % 2 * 2, at.high, *(const uint16_t *)(at.row + 192 + 2 * u), at.d,
               u % 4);
    }
    /* Of 32 values, j of their 128, by their two scales: 128 + scale as for Q8_0 (weight.cuh); then 128 + q,
     * and 160 times the scale less: exact, as 18 and 8 bits are in F32. */
    static __device__ __forceinline__ void values(uint32_t *f, const uint32_t *lows,
                                                  const uint32_t *highs, uint32_t scales, float all,
                                                  int j) {
        uint32_t two = scales ^ 0x8080u;
        float less = -32896.0f * all;
        UNROLL
        for (int r = 0; r < 2; r++) {
            float s = __uint_as_float(bytes_of(two, in_register(0x47000000u), r ? 0x7414 : 0x7404));
            float d = __fmaf_rn(s, all, less), zero = -160.0f * d;
            uint32_t low = lows[r], high = highs[r];
            high = j == 0 ? high << 4 : j == 1 ? high << 2 : j == 2 ? high : high >> 2;
            uint32_t q = ((j < 2 ? low : low >> 4) & 0x0f0f0f0fu) | (high & 0x30303030u);
            f[2 * r] = pack_bf16(value<0>(q, d, zero), value<1>(q, d, zero));
            f[2 * r + 1] = pack_bf16(value<2>(q, d, zero), value<3>(q, d, zero));
        }
    }
    FJ_WEIGHT_16
};

/* ---- NF4 ------------------------------------------------------------------------------------------ */
/* Codes of four nibbles, rounded to BF16: two and two, those of nibbles 1, 0 and 3, 2. */
__device__ __forceinline__ void nf4_codes(uint32_t nibbles, uint32_t *f) {
    /* The bytes of fj_nf4_code's numbers in BF16, lower and upper ones of 0..7 and of 8..15. */
    uint32_t n = nibbles & 0x7777u, which = and_or<0x4444, 0x3210>(nibbles >> 1);
    uint32_t low = bytes_by(bytes_by(in_register(0xca063280u), 0x00ba3d92u, n),
                            bytes_by(in_register(0xad7c25a3u), 0x803910e2u, n), which);
    uint32_t high = bytes_by(bytes_by(in_register(0xbebfbfbfu), 0x00bdbebeu, n),
                             bytes_by(in_register(0x3e3e3e3du), 0x3f3f3f3eu, n), which);
    f[0] = bytes_of(low, high, 0x4051);
    f[1] = bytes_of(low, high, 0x6273);
}

struct as_nf4 {
    enum { ASYNC = false };
    struct raw {
        uint16_t absmax, q[2];
    };
    static __device__ __forceinline__ raw fetch(const unsigned char *row, int64_t k) {
        const uint16_t *b = (const uint16_t *)(row + k / 64 * 34), *q = b + 1 + k % 64 / 4;
        raw r = { b[0], { q[0], q[1] } };
        return r;
    }
    static __device__ __forceinline__ void open(const raw &r, int64_t, float *v) {
        uint32_t f[4], d = pack_bf16(f16_f32(r.absmax), f16_f32(r.absmax));
        nf4_codes(r.q[0], f);
        nf4_codes(r.q[1], f + 2);
        UNROLL
        for (int i = 0; i < 4; i++) floats_of(fma_bf16(f[i], d, 0x80008000u), v + 2 * i);
    }
    static __device__ __forceinline__ void exact(const raw &r, int64_t, float *v) {
        float d = f16_f32(r.absmax);
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = d * nf4_code(r.q[i / 4] >> (i % 4 ^ 1) * 4 & 15);
    }
    static __device__ __forceinline__ float at(const unsigned char *, int64_t) { return 0; }
};

struct weight_nf4 {
    enum { BLOCK = 64, BYTES = 34, KS = 256, SEG = 136, PIECES = 10, PITCH = 176 };
    struct at8 {
        const unsigned char *row;
        uint32_t absmax;
    };
    static __device__ __forceinline__ at8 lane(const unsigned char *rows, int shift) {
        at8 at;
        at.row = rows + lane_of() / 4 * PITCH + shift;
        return at;
    }
    static __device__ __forceinline__ void load8(uint32_t *f, at8 &at, int u) {
        const unsigned char *b = at.row + u / 2 * BYTES, *q = b + 2 + u % 2 * 16 + lane_of() % 4;
        if (u % 2 == 0) {
            float d = half_f32(*(const uint16_t *)b);
            at.absmax = pack_bf16(d, d);
        }
        UNROLL
        for (int i = 0; i < 2; i++) {
            nf4_codes(q[8 * i + 4] * 256u + q[8 * i], f + 2 * i);
            f[2 * i] = fma_bf16(f[2 * i], at.absmax, 0x80008000u);
            f[2 * i + 1] = fma_bf16(f[2 * i + 1], at.absmax, 0x80008000u);
        }
    }
    FJ_WEIGHT_16
};

#endif
