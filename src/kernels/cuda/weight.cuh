/* weight.cuh - weights of every format as fragments of tensor cores, made in registers from rows' bytes
 * that lie in shared memory as they lie in files.
 *
 * A struct for each format: KS values of k are a stage of SEG bytes of a row; in shared memory a row has
 * PITCH bytes, an odd number of 16s (32s for F32), so that the rows of a warp's access lie in different
 * banks.  The bytes of a row of blocks begin at any address: what is copied are the PIECES of 16 bytes,
 * aligned, that hold them.
 *   lane(rows, shift): where a lane reads; rows: the first of 8 rows in shared memory, shift: how many
 *       bytes into its first piece the row of this lane, lane / 4, begins (blocks only); what it gives is
 *       an at8, that of lane16 an at16
 *   load8(f, at, u): f[0], f[1] = the values of the row lane / 4 at k = 32 u + 2 (lane % 4) and the next,
 *       and those 8 further: B of the first step of 16; f[2], f[3]: of the second
 *   lane16 and load16: the same of 16 rows; f[0], f[1]: A of the first step and the second
 * The values are exactly what fj_dequant_row says, rounded once to BF16. */
#ifndef FJ_KERNELS_CUDA_WEIGHT_CUH
#define FJ_KERNELS_CUDA_WEIGHT_CUH

#include "kernels/cuda/mma.cuh"

/* ---- instructions --------------------------------------------------------------------------------- */
__device__ __forceinline__ float half_f32(uint16_t h) {
#ifdef FJ_PLAY
    return fj_f16_to_f32(h);
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
#endif
}

/* Byte i of the result is the one that nibble i of pick names: 0..3 of a, 4..7 of b. */
__device__ __forceinline__ uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t pick) {
#ifdef FJ_PLAY
    uint64_t all = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) r |= ((uint32_t)(all >> 8 * (pick >> 4 * i & 7)) & 255) << 8 * i;
    return r;
#else
    return __byte_perm(a, b, pick);
#endif
}

/* v & MASK | BITS as one instruction. */
template <uint32_t MASK, uint32_t BITS> __device__ __forceinline__ uint32_t and_or(uint32_t v) {
#ifdef FJ_PLAY
    return (v & MASK) | BITS;
#else
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(v), "n"(MASK), "n"(BITS));
    return r;
#endif
}

#ifdef FJ_PLAY
/* Rounded so that rounding to BF16 gives what it would have given without this. */
static inline float to_odd(double v) {
    float f = (float)v;
    if ((double)f == v || f != f || f - f != 0) return f;
    union {
        float f;
        uint32_t u;
    } x = { f };
    if (fabs((double)f) > fabs(v)) x.u--;
    x.u |= 1;
    return x.f;
}
#endif
/* a * b + c of two bf16, rounded once. */
__device__ __forceinline__ uint32_t fma_bf16(uint32_t a, uint32_t b, uint32_t c) {
#ifdef FJ_PLAY
    return pack_bf16(to_odd((double)low_f32(a) * (double)low_f32(b) + (double)low_f32(c)),
                     to_odd((double)high_f32(a) * (double)high_f32(b) + (double)high_f32(c)));
#else
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
#endif
}

/* n bytes of 16 and zeros after them; both aligned to 16. */
__device__ __forceinline__ void copy_async(void *shared, const void *global, int n) {
#ifdef FJ_PLAY
    memset(shared, 0, 16);
    memcpy(shared, global, (size_t)n);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(n)
                 : "memory");
#endif
}

__device__ __forceinline__ int lane_of() { return (int)threadIdx.x % WARP; }

/* ---- formats of values ------------------------------------------------------------------------------ */
struct weight_bf16 {
    enum { BLOCK = 1, BYTES = 2, KS = 128, SEG = 256, PIECES = 16, PITCH = 272 };
    typedef const unsigned char *at8;
    static __device__ __forceinline__ const unsigned char *lane(const unsigned char *rows, int) {
        return rows + lane_of() % 8 * PITCH + lane_of() / 8 * 16;
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        ldmatrix_x4(f, at + u * 64);
    }
    typedef const unsigned char *at16;
    static __device__ __forceinline__ at16 lane16(const unsigned char *rows, int, int) {
        return rows + lane_of() % 16 * PITCH + lane_of() / 16 * 16;
    }
    static __device__ __forceinline__ void load16(uint32_t (*f)[4], at16 at, int u) {
        ldmatrix_x4(f[0], at + u * 64);
        ldmatrix_x4(f[1], at + u * 64 + 32);
    }
};

struct weight_f16 : weight_bf16 {
    static __device__ __forceinline__ void convert(uint32_t *f) {
        UNROLL
        for (int i = 0; i < 4; i++)
            f[i] = pack_bf16(half_f32((uint16_t)f[i]), half_f32((uint16_t)(f[i] >> 16)));
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        weight_bf16::load8(f, at, u);
        convert(f);
    }
    static __device__ __forceinline__ void load16(uint32_t (*f)[4], at16 at, int u) {
        weight_bf16::load16(f, at, u);
        convert(f[0]);
        convert(f[1]);
    }
};

/* Of two times 8 rows. */
#define FJ_WEIGHT_16                                                                               \
    struct at16 {                                                                                  \
        at8 rows[2];                                                                               \
    };                                                                                             \
    static __device__ __forceinline__ at16 lane16(const unsigned char *rows, int low, int high) {  \
        return at16{ { lane(rows, low), lane(rows + 8 * PITCH, high) } };                          \
    }                                                                                              \
    static __device__ __forceinline__ void load16(uint32_t(*f)[4], at16 &at, int u) {              \
        uint32_t low[4], high[4];                                                                  \
        load8(low, at.rows[0], u);                                                                 \
        load8(high, at.rows[1], u);                                                                \
        UNROLL                                                                                     \
        for (int i = 0; i < 4; i++) {                                                              \
            f[i / 2][i % 2 * 2] = low[i];                                                          \
            f[i / 2][i % 2 * 2 + 1] = high[i];                                                     \
        }                                                                                          \
    }

struct weight_f32 {
    enum { BLOCK = 1, BYTES = 4, KS = 64, SEG = 256, PIECES = 16, PITCH = 288 };
    typedef const unsigned char *at8;
    static __device__ __forceinline__ const unsigned char *lane(const unsigned char *rows, int) {
        return rows + lane_of() / 4 * PITCH + lane_of() % 4 * 8;
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            float2 v = *(const float2 *)(at + u * 128 + i * 32);
            f[i] = pack_bf16(v.x, v.y);
        }
    }
    FJ_WEIGHT_16
};

/* ---- formats of blocks ------------------------------------------------------------------------------ */
#define FJ_WEIGHT_BLOCK(bytes, pieces, pitch)                                                      \
    enum { BLOCK = 32, BYTES = bytes, KS = 256, SEG = 8 * bytes, PIECES = pieces, PITCH = pitch }; \
    static_assert(PIECES == (SEG + 30) / 16 && PITCH >= 16 * PIECES && PITCH / 16 % 2, "");        \
    typedef const unsigned char *at8;                                                              \
    static __device__ __forceinline__ const unsigned char *lane(const unsigned char *rows,         \
                                                                int shift) {                       \
        return rows + lane_of() / 4 * PITCH + shift;                                               \
    }

struct weight_q8_0 {
    FJ_WEIGHT_BLOCK(34, 18, 304)
    /* 128 + q as the second byte of a float is 2^15 + 128 + q.  Times d, and 2^15 + 128 = 257 * 128 times
     * d less: both are exact (9 and 11 bits), so what is left is d * q. */
    static __device__ __forceinline__ void values(uint32_t *f, uint16_t scale, const uint32_t *q) {
        float d = half_f32(scale), zero = -32896.0f * d;
        UNROLL
        for (int i = 0; i < 4; i++) {
            uint32_t two = q[i] ^ 0x8080u;
            float v = __uint_as_float(bytes_of(two, 0x47000000u, 0x7404));
            float w = __uint_as_float(bytes_of(two, 0x47000000u, 0x7414));
            f[i] = pack_bf16(__fmaf_rn(v, d, zero), __fmaf_rn(w, d, zero));
        }
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        const unsigned char *b = at + u * BYTES, *q = b + 2 + lane_of() % 4 * 2;
        uint32_t two[4];
        UNROLL
        for (int i = 0; i < 4; i++) two[i] = *(const uint16_t *)(q + 8 * i);
        values(f, *(const uint16_t *)b, two);
    }
    FJ_WEIGHT_16
};

struct weight_q4_0 {
    FJ_WEIGHT_BLOCK(18, 10, 176)
    /* d = high + low, BF16 both: low has 3 bits, so low * q is exact in BF16, and high * q + low * q is
     * rounded once.  A nibble in the last bits of the BF16 number 128 makes 128 + nibble. */
    static __device__ __forceinline__ uint32_t value(uint32_t nibbles, uint32_t high,
                                                     uint32_t low) {
        const uint32_t one = 0x3f803f80u, none = 0x80008000u, eight = 0xc308c308u; /* -136 */
        uint32_t q = fma_bf16(and_or<0x000f000f, 0x43004300>(nibbles), one, eight);
        return fma_bf16(high, q, fma_bf16(low, q, none));
    }
    static __device__ __forceinline__ void values(uint32_t *f, uint16_t scale, const uint32_t *q) {
        float d = half_f32(scale);
        uint32_t high = pack_bf16(d, d);
        float rest = d - low_f32(high);
        uint32_t low = pack_bf16(rest, rest);
        UNROLL
        for (int i = 0; i < 2; i++) {
            uint32_t two = bytes_of(q[i], 0, 0x4140);
            f[i] = value(two, high, low);
            f[2 + i] = value(two >> 4, high, low);
        }
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        const unsigned char *b = at + u * BYTES, *q = b + 2 + lane_of() % 4 * 2;
        uint32_t two[2] = { *(const uint16_t *)q, *(const uint16_t *)(q + 8) };
        values(f, *(const uint16_t *)b, two);
    }
    FJ_WEIGHT_16
};

struct weight_mxfp4 {
    FJ_WEIGHT_BLOCK(17, 10, 176)
    /* The bits of e2m1 as those of BF16: the sign at bit 15, the others at 6..8, which is 2^-126 times the
     * number, also below its normal ones.  Then times 2^127, exactly, and times half the scale. */
    static __device__ __forceinline__ uint32_t value(uint32_t spread, uint32_t half) {
        const uint32_t up = 0x7f007f00u, none = 0x80008000u;
        return fma_bf16(fma_bf16(spread & 0x81c081c0u, up, none), half, none);
    }
    static __device__ __forceinline__ void values(uint32_t *f, uint32_t e, const uint32_t *q) {
        uint32_t half = e < 2 ? 0x200020u << e : e * 0x800080u - 0x800080u; /* 2^(e - 128) */
        UNROLL
        for (int i = 0; i < 2; i++) {
            uint32_t two = q[2 * i + 1] * 0x10000u + q[2 * i];
            f[i] = value((two & 0x000f000fu) * 0x1040u, half);
            f[2 + i] = value((two & 0x00f000f0u) * 0x104u, half);
        }
    }
    static __device__ __forceinline__ void load8(uint32_t *f, const unsigned char *at, int u) {
        const unsigned char *b = at + u * BYTES, *q = b + 1 + lane_of() % 4 * 2;
        uint32_t four[4] = { q[0], q[1], q[8], q[9] };
        values(f, *b, four);
    }
    FJ_WEIGHT_16
};

#endif
