/* dtype: conversions over all 65536 half-precision values, rounding against arithmetic in double,
 * quantised blocks with the error bound of their format, super-blocks by golden bytes, sizes, and values nobody should have made. */
#include "base/dtype.h"
#include "test_util.h"

#include <float.h>
#include <math.h>

/* By definition of binary16, in double. */
static double f16_value(unsigned h) {
    int exp = (int)(h >> 10 & 31), man = (int)(h & 1023);
    double v = exp == 31 ? (man ? NAN : INFINITY)
               : exp     ? ldexp(1024 + man, exp - 25)
                         : ldexp(man, -24);
    return h & 0x8000 ? -v : v;
}

static void test_f16_all(void **state) {
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        double want = f16_value(h);
        float got = fj_f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(f16_value(fj_f32_to_f16(got))));
            continue;
        }
        assert_true(got == want && !signbit(got) == !signbit(want));
        assert_int_equal(fj_f32_to_f16(got), h);
    }
}

static void test_bf16_all(void **state) {
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = fj_bf16_to_f32((uint16_t)h);
        if (isnan(f)) assert_true(isnan(fj_bf16_to_f32(fj_f32_to_bf16(f))));
        else assert_int_equal(fj_f32_to_bf16(f), h);
    }
    /* A NaN whose payload lies in the low half only must not become an infinity. */
    uint32_t u = 0x7f800001;
    float f;
    memcpy(&f, &u, 4);
    assert_true(isnan(fj_bf16_to_f32(fj_f32_to_bf16(f))));
}

/* Between two neighbours: below the middle goes down, above goes up, the middle goes to the even. */
static void between(uint16_t lo, double a, double b, uint16_t (*to)(float)) {
    float mid = (float)((a + b) / 2); /* exact: both formats have far fewer bits than a float */
    uint16_t hi = (uint16_t)(lo + 1);
    assert_int_equal(to(nextafterf(mid, (float)a)), lo);
    assert_int_equal(to(nextafterf(mid, (float)b)), hi);
    assert_int_equal(to(mid), lo & 1 ? hi : lo);
}

static void test_rounding(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x7bff; h++) {
        between((uint16_t)h, f16_value(h), f16_value(h + 1), fj_f32_to_f16);
        between((uint16_t)(h | 0x8000), -f16_value(h), -f16_value(h + 1), fj_f32_to_f16);
    }
    /* 65504 is the largest; 65520 is the middle to what would be next, and infinity is "even". */
    assert_int_equal(fj_f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(fj_f32_to_f16(65520), 0x7c00);
    assert_int_equal(fj_f32_to_f16(-FLT_MAX), 0xfc00);
    assert_int_equal(fj_f32_to_f16(FLT_MIN), 0);
    for (unsigned h = 0; h < 0x7f7f; h++) {
        float a = fj_bf16_to_f32((uint16_t)h), b = fj_bf16_to_f32((uint16_t)(h + 1));
        between((uint16_t)h, a, b, fj_f32_to_bf16);
    }
    assert_int_equal(fj_f32_to_bf16(FLT_MAX), 0x7f80);
}

static void test_quant(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    enum { N = 32 * 40 };
    static float x[N], y[N];
    static unsigned char q[N * 4], again[N * 4];
    for (int round = 0; round < 50; round++) {
        double scale = exp(fj_rng_normal(&r) * 3);
        for (int i = 0; i < N; i++) x[i] = (float)(fj_rng_normal(&r) * scale);
        for (int i = 0; i < 32; i++) x[i] = 0;
        static const fj_dtype formats[] = { FJ_Q8_0, FJ_Q4_0, FJ_MXFP4 };
        for (size_t f = 0; f < FJ_LEN(formats); f++) {
            fj_dtype t = formats[f];
            fj_quant_row(t, x, q, N);
            fj_dequant_row(t, q, y, N);
            for (int b = 0; b < N / 32; b++) {
                double amax = 0;
                for (int i = 0; i < 32; i++) amax = fmax(amax, fabs(x[b * 32 + i]));
                /* Half a step; d itself is rounded to 11 bits; Q4_0 cuts the side opposite to the
                 * largest value at 7 of 8 steps, where it may miss by a whole one; f16 ends at 6e-8.
                 * MXFP4 has steps of 2 above 4, and cuts what is above 6: a quarter of 8. */
                double step = t == FJ_Q8_0 ? amax / 127 * 0.5 : t == FJ_Q4_0 ? amax / 8 : amax / 4;
                double bound = step + amax * 0x1p-10 + 127 * 0x1p-24;
                for (int i = 0; i < 32; i++)
                    assert_true(fabs(x[b * 32 + i] - y[b * 32 + i]) <= bound);
            }
            for (int i = 0; i < 32; i++) assert_true(y[i] == 0);
            /* What is on the grid stays there, but for the scale's own rounding. */
            fj_quant_row(t, y, again, N);
            static float z[N];
            fj_dequant_row(t, again, z, N);
            for (int i = 0; i < N; i++)
                assert_true(fabsf(z[i] - y[i]) <= fabsf(y[i]) * 0x1p-9f + 1e-5f);
        }
    }
}

/* Known blocks, worked out by hand from ggml's rule. */
static void test_quant_known(void **state) {
    (void)state;
    float x[32];
    for (int i = 0; i < 32; i++) x[i] = (float)(i - 16) * 0.5f; /* -8 to 7.5: largest is -8 */
    fj_q4_0 q4;
    fj_quant_row(FJ_Q4_0, x, &q4, 32);
    assert_int_equal(q4.d, 0x3c00);      /* -8 / -8 = 1 */
    assert_int_equal(q4.q[0] & 15, 0);   /* -8 + 8.5 = 0.5 */
    assert_int_equal(q4.q[1] & 15, 1);   /* -7.5 + 8.5 = 1 */
    assert_int_equal(q4.q[0] >> 4, 8);   /* 0 + 8.5 */
    assert_int_equal(q4.q[15] >> 4, 15); /* 7.5 + 8.5 = 16, cut */
    for (int i = 0; i < 32; i++) x[i] = (float)(i * 4 - 127);
    x[31] = 127;
    fj_q8_0 q8;
    fj_quant_row(FJ_Q8_0, x, &q8, 32);
    assert_int_equal(q8.d, 0x3c00);
    for (int i = 0; i < 32; i++) assert_int_equal(q8.q[i], (int)x[i]);
}

/* MXFP4 against its definition: the scale is a power of two that takes the largest value to [4, 8), a
 * nibble is sign, two bits of exponent, one of fraction. */
static void test_mxfp4(void **state) {
    (void)state;
    fj_mxfp4 b;
    float y[32];
    for (int e = 0; e < 256; e++) {
        b.e = (uint8_t)e;
        for (int i = 0; i < 16; i++) b.q[i] = (uint8_t)(i | (15 - i) << 4);
        fj_dequant_row(FJ_MXFP4, &b, y, 32);
        for (int i = 0; i < 32; i++) {
            int code = i < 16 ? i : 31 - i, exp = code >> 1 & 3, odd = code & 1;
            double v = exp ? ldexp(1 + odd * 0.5, exp - 1) : odd * 0.5;
            assert_true(y[i] == (float)ldexp(code & 8 ? -v : v, e - 127));
        }
    }
    float x[32] = { 5.5f, 1, -0.25f, 0.24f, 2.5f, 3.5f, -5, 7 };
    fj_quant_row(FJ_MXFP4, x, &b, 32);
    static const uint8_t want[] = {
        7, 2, 0, 0, 4, 5, 14, 7, 0
    }; /* a half goes to the lower code */
    assert_int_equal(b.e, 127);
    for (int i = 0; i < 9; i++) assert_int_equal(b.q[i], want[i]);
    for (int i = 0; i < 32; i++) x[i] *= 1024;
    fj_quant_row(FJ_MXFP4, x, &b, 32);
    assert_int_equal(b.e, 137);
    for (int i = 0; i < 9; i++) assert_int_equal(b.q[i], want[i]);
}

/* The layout of gpt-oss: neighbours share a byte.  Values are those of the formula, and the way back
 * gives the same bytes. */
static void test_mxfp4_blocks(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    enum { ROWS = 5, K = 96, BLOCKS = ROWS * K / 32 };
    uint8_t blocks[BLOCKS * 16], scales[BLOCKS], back[BLOCKS * 16 + 1], back_scales[BLOCKS];
    for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (uint8_t)fj_rng_u64(&r);
    for (size_t i = 0; i < BLOCKS; i++) scales[i] = (uint8_t)(100 + fj_rng_below(&r, 50));
    fj_mxfp4 rows[BLOCKS];
    float y[K];
    fj_mxfp4_from_blocks(rows, blocks, scales, ROWS, K);
    for (int row = 0; row < ROWS; row++) {
        fj_dequant_row(FJ_MXFP4, rows + row * K / 32, y, K);
        for (int i = 0; i < K; i++) {
            int b = (row * K + i) / 32, byte = blocks[b * 16 + i % 32 / 2];
            int code = i % 2 ? byte >> 4 : byte & 15;
            static const double value[] = { 0, .5, 1, 1.5, 2, 3, 4, 6 };
            double want = ldexp(value[code & 7], scales[b] - 127);
            assert_true(y[i] == (float)(code & 8 ? -want : want));
        }
    }
    back[sizeof blocks] = 77;
    fj_mxfp4_to_blocks(rows, back, back_scales, ROWS, K);
    assert_memory_equal(back, blocks, sizeof blocks);
    assert_memory_equal(back_scales, scales, sizeof scales);
    assert_int_equal(back[sizeof blocks], 77);
}

/* ---- super-blocks and NF4 ------------------------------------------------------------------------ */
static uint64_t fnv(const void *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

static void unhex(const char *s, uint8_t *to) {
    for (unsigned v; sscanf(s, "%2x", &v) == 1; s += 2) *to++ = (uint8_t)v;
}

/* Bytes as ggml's quantize_row_q4_K_ref and quantize_row_q6_K_ref make them of these 256 values, and
 * their values as the package gguf 0.19 reads them. */
static void test_super_blocks(void **state) {
    (void)state;
    static const struct {
        fj_dtype t;
        const char *bytes;
        uint64_t hash; /* of the values as little-endian f32 */
        float at[4];   /* values 0, 37, 100 and 255 */
    } list[] = {
        { FJ_Q4_K,
          "3e282e33888ed9de888dd8df98ff84ff70412316091e345a92da137df864f08d1cdb9b6c3d2114183d548bc3"
          "0b65d03beb258ef965f2802ddc9c6d402215293e558bb40c56c13bb845e3924212e4c6b95b2c0de1d4d8ed13"
          "3a72ba147eea66f39140ffb09173666a7f85bbe32b75de49fd459ff964e07d1bba793a1bedd0d4e90f255d95"
          "ee48b33fbb59f7a66637190c",
          0x313dfd4e59005e47u,
          { -0x1.cb8p+0f, -0x1.39f4p+1f, -0x1.facp-1f, -0x1.c452p+3f } },
        { FJ_Q6_K,
          "b0650e4b5c3fd35f9a9d50db3452430d7ace1ef9d20bcc8982dc7e619b06cedd6d29b1152614ce34777743eb"
          "3062500ba6d0c4f37ea528d7d11789c6cd1293deaeab149ceefc76006385610c71f5e59108ad90bd37df4203"
          "f0a81e404ff972b606c28b052847f368ed00df863f748250c72c606e389ff3f4f18b113421ee77ca04e84c1d"
          "ae3f79ca04428db7f2e9d0c79c7014f8980ffe2d9c0a4483cc1a132808ac4c13a23140df199b91de04312a13"
          "c7eb806307963a8908962463ac96d0c90ef2e2e7d222c3cab8b39fa19ea08081441c",
          0x89da0da1c6607690u,
          { -0x1.ddcp+0f, -0x1.3fecp+1f, -0x1.0434p-1f, -0x1.da048p+3f } },
    };
    float x[256], y[256], part[32];
    for (int i = 0; i < 256; i++)
        x[i] = (float)((i * i * 7 + i * 13) % 257 - 120) / 64 * (float)(1 + i / 32);
    for (size_t k = 0; k < FJ_LEN(list); k++) {
        uint8_t want[256], got[256];
        size_t n = (size_t)fj_dtype_size(list[k].t, 1, 256);
        unhex(list[k].bytes, want);
        fj_quant_row(list[k].t, x, got, 256);
        assert_memory_equal(got, want, n);
        fj_dequant_row(list[k].t, want, y, 256);
        static const int some[] = { 0, 37, 100, 255 };
        for (int i = 0; i < 4; i++) assert_true(y[some[i]] == list[k].at[i]);
        assert_true(fnv(y, sizeof y) == list[k].hash);
        for (int j = 0; j < 8; j++) {
            fj_dequant_part(list[k].t, want, 32 * j, part, 32);
            assert_memory_equal(part, y + 32 * j, sizeof part);
        }
    }
}

/* Blocks of every format that GGUF has, as gguf reads them, bit for bit (tools/golden/blocks.py). */
static void test_blocks(void **state) {
    (void)state;
    const char *path = FORJA_SOURCE_DIR "/tests/golden/blocks/blocks.txt";
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("cannot open %s", path);
    char name[16], hex[512];
    unsigned long long hash;
    unsigned first, last;
    int lines = 0;
    bool seen[FJ_DTYPES] = { false };
    while (fscanf(f, "%15s %511s %llx %x %x", name, hex, &hash, &first, &last) == 5) {
        fj_dtype t;
        assert_true(fj_dtype_parse(name, &t));
        const fj_dtype_info *d = fj_dtype_get(t);
        uint8_t bytes[256];
        float y[256], part[32];
        uint32_t u[256] = { 0 };
        assert_int_equal(strlen(hex), 2 * d->bytes);
        unhex(hex, bytes);
        fj_dequant_row(t, bytes, y, d->block);
        for (int i = 0; i < d->block; i++) {
            memcpy(&u[i], &y[i], 4);
            if (isnan(y[i])) u[i] = 0x7fc00000;
        }
        if (u[0] != first || u[d->block - 1] != last || fnv(u, (size_t)d->block * 4) != hash)
            fail_msg("%s, line %d: first %08x, last %08x, hash %016llx", name, lines + 1, u[0],
                     u[d->block - 1], (unsigned long long)fnv(u, (size_t)d->block * 4));
        for (int j = 0; j < d->block / 32; j++) {
            fj_dequant_part(t, bytes, 32 * j, part, 32);
            for (int i = 0; i < 32; i++)
                assert_true(part[i] == y[32 * j + i] || (isnan(part[i]) && isnan(y[32 * j + i])));
        }
        seen[t] = true;
        lines++;
    }
    assert_true(feof(f));
    fclose(f);
    for (int i = 0; i < FJ_DTYPES; i++) /* none is forgotten */
        if (fj_dtype_get((fj_dtype)i)->block > 1 && fj_dtype_get((fj_dtype)i)->gguf >= 0 &&
            !seen[i])
            fail_msg("%s has no golden block", fj_dtype_get((fj_dtype)i)->name);
}

/* Every code, both nibbles, the middles between codes, and a quantile's own definition for its order. */
static void test_nf4(void **state) {
    (void)state;
    fj_nf4 b;
    float x[64], y[64];
    for (int i = 1; i < 16; i++) assert_true(fj_nf4_code[i - 1] < fj_nf4_code[i]);
    assert_true(fj_nf4_code[0] == -1 && fj_nf4_code[7] == 0 && fj_nf4_code[15] == 1);
    for (int i = 0; i < 64; i++) x[i] = 4 * fj_nf4_code[i % 16];
    fj_quant_row(FJ_NF4, x, &b, 64);
    assert_int_equal(b.absmax, 0x4400);
    for (int i = 0; i < 32; i++) assert_int_equal(b.q[i], i % 8 * 0x22 + 1);
    fj_dequant_row(FJ_NF4, &b, y, 64);
    assert_memory_equal(x, y, sizeof x);
    fj_dequant_part(FJ_NF4, &b, 32, y, 32);
    assert_memory_equal(x + 32, y, sizeof y / 2);
    for (int i = 0; i < 60; i++) { /* below, at and above each middle */
        float mid = (fj_nf4_code[i / 4] + fj_nf4_code[i / 4 + 1]) / 2;
        x[i] = i % 4 == 1 ? nextafterf(mid, -2) : i % 4 == 2 ? mid : nextafterf(mid, 2);
    }
    x[60] = 1, x[61] = -1, x[62] = x[63] = 0;
    fj_quant_row(FJ_NF4, x, &b, 64);
    for (int i = 0; i < 60; i++) {
        int code = i % 2 ? b.q[i / 2] & 15 : b.q[i / 2] >> 4;
        assert_int_equal(code, i / 4 + (i % 4 == 0 || i % 4 == 3));
    }
    for (int i = 0; i < 64; i++) x[i] = 0;
    fj_quant_row(FJ_NF4, x, &b, 64);
    fj_dequant_row(FJ_NF4, &b, y, 64);
    for (int i = 0; i < 64; i++) assert_true(y[i] == 0);
}

/* How far values of a normal distribution move. */
static void test_quant_large(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    static float x[1024], y[1024];
    static unsigned char q[1024];
    static const fj_dtype formats[] = { FJ_Q4_K, FJ_Q6_K, FJ_NF4 };
    static const double rms[] = { 0.085, 0.022, 0.11 };
    for (int round = 0; round < 50; round++) {
        double scale = exp(fj_rng_normal(&r)); /* f16 ends at 6e-8, for scales of Q6_K too */
        for (int i = 0; i < 1024; i++) x[i] = (float)(fj_rng_normal(&r) * scale);
        for (size_t f = 0; f < FJ_LEN(formats); f++) {
            double off = 0, all = 0;
            fj_quant_row(formats[f], x, q, 1024);
            fj_dequant_row(formats[f], q, y, 1024);
            for (int i = 0; i < 1024; i++) {
                off += pow((double)x[i] - y[i], 2);
                all += pow((double)x[i], 2);
            }
            if (!(sqrt(off / all) < rms[f]))
                fail_msg("%s: off by %g", fj_dtype_get(formats[f])->name, sqrt(off / all));
        }
    }
}

/* Run under the undefined-behaviour sanitizer these casts would stop the process. */
static void test_quant_hostile(void **state) {
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 1e-40f, -1e-45f };
    static const fj_dtype large[] = { FJ_Q4_K, FJ_Q6_K, FJ_NF4 };
    float x[32], y[32];
    unsigned char q[64];
    for (size_t k = 0; k < FJ_LEN(bad); k++) {
        for (size_t f = 0; f < FJ_LEN(large); f++)
            for (int all = 0; all < 2; all++) {
                float many[256];
                unsigned char big[256];
                for (int i = 0; i < 256; i++) many[i] = all || i % 3 == 0 ? bad[k] : 0.25f;
                fj_quant_row(large[f], many, big, 256);
                fj_dequant_row(large[f], big, many, 256);
                if (all && fabsf(bad[k]) < 1e-30f)
                    for (int i = 0; i < 256; i++) assert_true(many[i] == 0);
            }
        for (int i = 0; i < 32; i++) x[i] = i % 3 ? 0.25f : bad[k];
        fj_quant_row(FJ_Q8_0, x, q, 32);
        fj_dequant_row(FJ_Q8_0, q, y, 32);
        fj_quant_row(FJ_Q4_0, x, q, 32);
        fj_quant_row(FJ_MXFP4, x, q, 32);
        for (int i = 0; i < 32; i++) x[i] = bad[k];
        fj_quant_row(FJ_Q8_0, x, q, 32);
        fj_quant_row(FJ_MXFP4, x, q, 32);
        fj_quant_row(FJ_Q4_0, x, q, 32);
        fj_dequant_row(FJ_Q4_0, q, y, 32);
        if (fabsf(bad[k]) < 1e-30f) /* smaller than f16 can say: zero, not NaN */
            for (int i = 0; i < 32; i++) assert_true(y[i] == 0);
    }
}

static void test_sizes(void **state) {
    (void)state;
    assert_int_equal(fj_dtype_size(FJ_Q8_0, 3, 64), 3 * 2 * 34);
    assert_int_equal(fj_dtype_size(FJ_Q4_0, 1, 32), 18);
    assert_int_equal(fj_dtype_size(FJ_Q4_0, 1, 33), -1);
    assert_int_equal(fj_dtype_size(FJ_MXFP4, 2, 96), 2 * 3 * 17);
    assert_int_equal(fj_dtype_size(FJ_Q4_K, 2, 512), 2 * 2 * 144);
    assert_int_equal(fj_dtype_size(FJ_Q6_K, 1, 256), 210);
    assert_int_equal(fj_dtype_size(FJ_Q6_K, 1, 128), -1);
    assert_int_equal(fj_dtype_size(FJ_NF4, 1, 192), 3 * 34);
    assert_int_equal(fj_dtype_size(FJ_NF4, 1, 96), -1);
    assert_int_equal(fj_dtype_size(FJ_F32, 0, 7), 0);
    assert_int_equal(fj_dtype_size(FJ_F32, -1, 7), -1);
    assert_int_equal(fj_dtype_size(FJ_F32, INT64_MAX / 8, 4), -1);
    assert_int_equal(fj_dtype_size(FJ_F64, 1, INT64_MAX / 4), -1);
    for (int i = 0; i < FJ_DTYPES; i++) {
        const fj_dtype_info *d = fj_dtype_get((fj_dtype)i);
        fj_dtype t;
        assert_true(fj_dtype_parse(d->name, &t));
        assert_int_equal(t, i);
        if (d->gguf >= 0) {
            assert_true(fj_dtype_from_gguf((uint32_t)d->gguf, &t));
            assert_int_equal(t, i);
        }
    }
    fj_dtype t;
    assert_true(fj_dtype_parse("q8_0", &t));
    assert_false(fj_dtype_parse("Q9_9", &t));
    assert_false(fj_dtype_from_gguf(UINT32_MAX, &t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_all),      cmocka_unit_test(test_bf16_all),
        cmocka_unit_test(test_rounding),     cmocka_unit_test(test_quant),
        cmocka_unit_test(test_quant_known),  cmocka_unit_test(test_mxfp4),
        cmocka_unit_test(test_mxfp4_blocks), cmocka_unit_test(test_quant_hostile),
        cmocka_unit_test(test_super_blocks), cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_nf4),          cmocka_unit_test(test_quant_large),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
