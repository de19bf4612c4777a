/* gemm_pack.c - weights re-laid into panels and back.
 *
 * Panels hold groups of columns (rows of the file) so that a kernel's lanes are output columns and
 * memory is read once, front to back:
 *   F32:       groups of 48 columns, [group][k][P][16]; the last group has P = 1..3 panels
 *   F16, BF16: as F32 on pairs of values, an odd k is padded with zero
 *   Q8_0, Q4_0, MXFP4: groups of 32 columns, [group][block of 32 values]{ block } (kernels/kern.h) */
#include "ops/gemm.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_pack_f64_unused; /* panels exist in float alone */
#else

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t fj_wmat_packed_bytes(fj_dtype t, int64_t n, int64_t k) {
    if (n < 0 || k < 0 || n > INT64_MAX - 64 || k > INT64_MAX - 64) return -1;
    int64_t bytes;
    switch (t) {
    case FJ_F32: bytes = fj_dtype_size(t, up(n, 16), k); break;
    case FJ_F16:
    case FJ_BF16: bytes = fj_dtype_size(t, up(n, 16), up(k, 2)); break;
    case FJ_Q8_0:
    case FJ_Q4_0:
    case FJ_MXFP4: bytes = fj_dtype_size(t, up(n, 32), k); break;
    default: return -1;
    }
    return bytes < 0 || bytes > INT64_MAX - 64 ? -1 : up(bytes, 64);
}

/* Four bytes, each plus 128. */
static void offset4(uint8_t *to, const uint8_t *from) {
    uint32_t v;
    memcpy(&v, from, 4);
    v ^= 0x80808080u;
    memcpy(to, &v, 4);
}

/* A block of 32 rows of the file; `rows` of them exist. */
static void pack_q8(uint8_t *dst, const uint8_t *src, int64_t stride, int64_t rows) {
    memset(dst, 0, 64);
    memset(dst + 64, 128, 1024);
    for (int64_t c = 0; c < rows; c++) {
        const uint8_t *b = src + c * stride;
        memcpy(dst + 2 * c, b, 2);
        for (int i = 0; i < 8; i++) offset4(dst + 64 + i * 128 + c * 4, b + 2 + 4 * i);
    }
}

static void unpack_rows_q8(uint8_t *dst, const uint8_t *src, int64_t stride, int64_t rows) {
    for (int64_t c = 0; c < rows; c++) {
        uint8_t *b = dst + c * stride;
        memcpy(b, src + 2 * c, 2);
        for (int i = 0; i < 8; i++) offset4(b + 2 + 4 * i, src + 64 + i * 128 + c * 4);
    }
}

/* Formats of two nibbles a byte: `scale` bytes of scale, and a byte of two zeros. */
static void pack_4bit(uint8_t *dst, const uint8_t *src, int64_t stride, int64_t rows, int scale,
                      uint8_t zeros) {
    memset(dst, 0, 32 * (size_t)scale);
    memset(dst + 32 * scale, zeros, 512);
    for (int64_t c = 0; c < rows; c++) {
        const uint8_t *b = src + c * stride;
        memcpy(dst + scale * c, b, (size_t)scale);
        for (int i = 0; i < 4; i++)
            memcpy(dst + 32 * scale + i * 128 + c * 4, b + scale + 4 * i, 4);
    }
}

static void unpack_rows_4bit(uint8_t *dst, const uint8_t *src, int64_t stride, int64_t rows,
                             int scale) {
    for (int64_t c = 0; c < rows; c++) {
        uint8_t *b = dst + c * stride;
        memcpy(b, src + scale * c, (size_t)scale);
        for (int i = 0; i < 4; i++)
            memcpy(b + scale + 4 * i, src + 32 * scale + i * 128 + c * 4, 4);
    }
}

static void pack_block(fj_dtype t, uint8_t *dst, const uint8_t *src, int64_t stride, int64_t rows) {
    if (t == FJ_Q8_0) pack_q8(dst, src, stride, rows);
    else if (t == FJ_Q4_0) pack_4bit(dst, src, stride, rows, 2, 0x88);
    else pack_4bit(dst, src, stride, rows, 1, 0);
}

static void unpack_rows(fj_dtype t, uint8_t *dst, const uint8_t *src, int64_t stride,
                        int64_t rows) {
    if (t == FJ_Q8_0) unpack_rows_q8(dst, src, stride, rows);
    else unpack_rows_4bit(dst, src, stride, rows, t == FJ_Q4_0 ? 2 : 1);
}

void fj_wmat_pack(const fj_kern *kern, fj_dtype t, int64_t n, int64_t k, const void *rows,
                  void *panels, int ith, int nth) {
    const fj_dtype_info *d = fj_dtype_get(t);
    if (d->block == 32) {
        int64_t groups = up(n, 32) / 32, nb = k / 32;
        for (int64_t g = groups * ith / nth; g < groups * (ith + 1) / nth; g++)
            for (int64_t b = 0; b < nb; b++) {
                const uint8_t *src = (const uint8_t *)rows + (g * 32 * nb + b) * d->bytes;
                uint8_t *dst = (uint8_t *)panels + (g * nb + b) * 32 * d->bytes;
                pack_block(t, dst, src, nb * d->bytes, n - g * 32 < 32 ? n - g * 32 : 32);
            }
        return;
    }
    int64_t groups = up(n, 48) / 48;
    for (int64_t g = groups * ith / nth; g < groups * (ith + 1) / nth; g++) {
        int64_t left = n - g * 48 < 48 ? n - g * 48 : 48, width = up(left, 16);
        if (t == FJ_F32) {
            float *dst = (float *)panels + g * 48 * k;
            if (left < width) memset(dst, 0, (size_t)(width * k) * 4);
            kern->transpose(dst, width, (const float *)rows + g * 48 * k, k, left, k);
        } else {
            int64_t k2 = (k + 1) / 2;
            uint16_t *dst = (uint16_t *)panels + 2 * g * 48 * k2;
            const uint16_t *src = (const uint16_t *)rows + g * 48 * k;
            if (left < width) memset(dst, 0, (size_t)(width * k2) * 4);
            /* Pairs move as floats: transpose does no arithmetic.  Rows of odd k are not made of pairs. */
            if (k % 2 == 0)
                kern->transpose((float *)(void *)dst, width, (const float *)(const void *)src, k2,
                                left, k2);
            else
                for (int64_t j = 0; j < 2 * k2; j++)
                    for (int64_t c = 0; c < left; c++)
                        dst[(j / 2 * width + c) * 2 + j % 2] = j < k ? src[c * k + j] : 0;
        }
    }
}

void fj_wmat_unpack(fj_dtype t, int64_t n, int64_t k, const void *panels, void *rows, int ith,
                    int nth) {
    const fj_dtype_info *d = fj_dtype_get(t);
    if (d->block == 32) {
        int64_t groups = up(n, 32) / 32, nb = k / 32;
        for (int64_t g = groups * ith / nth; g < groups * (ith + 1) / nth; g++)
            for (int64_t b = 0; b < nb; b++) {
                uint8_t *dst = (uint8_t *)rows + (g * 32 * nb + b) * d->bytes;
                const uint8_t *src = (const uint8_t *)panels + (g * nb + b) * 32 * d->bytes;
                unpack_rows(t, dst, src, nb * d->bytes, n - g * 32 < 32 ? n - g * 32 : 32);
            }
        return;
    }
    int64_t groups = up(n, 48) / 48, e = t == FJ_F32 ? 1 : 2, kp = up(k, e);
    for (int64_t g = groups * ith / nth; g < groups * (ith + 1) / nth; g++) {
        int64_t left = n - g * 48 < 48 ? n - g * 48 : 48, width = up(left, 16);
        for (int64_t c = 0; c < left; c++)
            for (int64_t j = 0; j < k; j++) {
                int64_t to = (g * 48 + c) * k + j,
                        from = g * 48 * kp + (j / e * width + c) * e + j % e;
                memcpy((char *)rows + to * d->bytes, (const char *)panels + from * d->bytes,
                       (size_t)d->bytes);
            }
    }
}

static void block_rows(const fj_kern *kern, const fj_wmat *w, int64_t row, int64_t k0, int64_t kk,
                       float *dst) {
    const fj_dtype_info *d = fj_dtype_get(w->dtype);
    const char *src = (const char *)w->data + row * w->k / d->block * d->bytes;
    if (w->dtype == FJ_F16) kern->f16_to_f32(dst, (const uint16_t *)(const void *)src + k0, kk);
    else if (w->dtype == FJ_BF16)
        kern->bf16_to_f32(dst, (const uint16_t *)(const void *)src + k0, kk);
    else fj_dequant_part(w->dtype, src, k0, dst, kk);
}

void fj_wmat_block(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                   int64_t kk, float *dst, int64_t ld) {
    if (!w->panels) {
        for (int64_t r = 0; r < nn; r++) block_rows(kern, w, n0 + r, k0, kk, dst + r * ld);
        return;
    }
    if (fj_dtype_get(w->dtype)->block == 32) {
        int64_t bytes = 32 * fj_dtype_get(w->dtype)->bytes, nb = w->k / 32;
        void (*unpack)(float *, int64_t, const void *) = w->dtype == FJ_Q8_0   ? kern->unpack_q8
                                                         : w->dtype == FJ_Q4_0 ? kern->unpack_q4
                                                                               : kern->unpack_mx4;
        for (int64_t r = 0; r < nn;) {
            int64_t g = (n0 + r) / 32, c = (n0 + r) % 32, rows = 32 - c < nn - r ? 32 - c : nn - r;
            for (int64_t j = 0; j < kk; j += 32) {
                const char *b = (const char *)w->data + (g * nb + (k0 + j) / 32) * bytes;
                float tile[32 * 32];
                bool whole = rows == 32;
                unpack(whole ? dst + r * ld + j : tile, whole ? ld : 32, b);
                for (int64_t i = 0; !whole && i < rows; i++)
                    memcpy(dst + (r + i) * ld + j, tile + (c + i) * 32, 128);
            }
            r += rows;
        }
        return;
    }
    /* Runs of rows within a group; 32 values at a time through a buffer that holds 16-bit values as
     * they are. */
    int64_t e = w->dtype == FJ_F32 ? 1 : 2, kp = up(w->k, e);
    bool f16 = w->dtype == FJ_F16;
    for (int64_t r = 0; r < nn;) {
        int64_t g = (n0 + r) / 48, c = (n0 + r) % 48, left = w->n - g * 48;
        int64_t width = up(left < 48 ? left : 48, 16), base = g * 48 * kp;
        int64_t run = width - c < nn - r ? width - c : nn - r;
        if (w->dtype == FJ_F32) {
            const float *src = (const float *)w->data + base + k0 * width + c;
            kern->transpose(dst + r * ld, ld, src, width, kk, run);
        } else if (k0 % 2 == 0) {
            const float *src = (const float *)w->data + (base + k0 * width) / 2 + c;
            float pairs[48 * 16];
            for (int64_t j = 0; j < kk; j += 32) {
                int64_t n = kk - j < 32 ? kk - j : 32;
                kern->transpose(pairs, 16, src + j / 2 * width, width, (n + 1) / 2, run);
                for (int64_t i = 0; i < run; i++)
                    (f16 ? kern->f16_to_f32
                         : kern->bf16_to_f32)(dst + (r + i) * ld + j,
                                              (const uint16_t *)(const void *)(pairs + i * 16), n);
            }
        } else {
            for (int64_t i = 0; i < run; i++)
                for (int64_t j = 0; j < kk; j++) {
                    int64_t at = base + ((k0 + j) / e * width + c + i) * e + (k0 + j) % e;
                    uint16_t h = ((const uint16_t *)w->data)[at];
                    dst[(r + i) * ld + j] = f16 ? fj_f16_to_f32(h) : fj_bf16_to_f32(h);
                }
        }
        r += run;
    }
}

void fj_wmat_pairs(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                   int64_t kk, uint32_t *dst, int64_t ld, float *buf) {
    if (!w->panels || (w->dtype != FJ_F16 && w->dtype != FJ_BF16)) {
        fj_wmat_block(kern, w, n0, nn, k0, kk, buf, kk);
        for (int64_t r = 0; r < nn; r += 2)
            kern->pairs_bf16(dst + r / 2 * ld, buf + r * kk, r + 1 < nn ? buf + (r + 1) * kk : NULL,
                             kk);
        return;
    }
    /* Runs of columns within a group, which has an even number of them: those beyond n are 0. */
    int64_t k2 = (w->k + 1) / 2, kk2 = (kk + 1) / 2;
    for (int64_t r = 0; r < nn;) {
        int64_t g = (n0 + r) / 48, c = (n0 + r) % 48, left = w->n - g * 48;
        int64_t width = up(left < 48 ? left : 48, 16),
                run = width - c < nn - r ? width - c : nn - r;
        const uint32_t *src = (const uint32_t *)w->data + g * 48 * k2 + k0 / 2 * width;
        if (w->dtype == FJ_F16) {
            kern->f16_to_bf16((uint16_t *)(void *)buf, (const uint16_t *)(const void *)src,
                              2 * kk2 * width);
            src = (const uint32_t *)(const void *)buf;
        }
        kern->turn_pairs(dst + r / 2 * ld, ld, src + c, width, (run + 1) / 2, kk);
        r += run;
    }
}
#endif
