/* gemm_pack.c - weights re-laid into panels and back.
 *
 * Panels hold groups of columns (rows of the file) so that a kernel's lanes are output columns and
 * memory is read once, front to back:
 *   F32:       groups of 48 columns, [group][k][P][16]; the last group has P = 1..3 panels
 *   F16, BF16: as F32 on pairs of values, an odd k is padded with zero
 *   blocks that meet rows in int8: groups of 32 columns, [group][block]{ panel } (kernels/panel.h) */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_pack_f64_unused; /* panels exist in float alone */
#else

int64_t fj_wmat_packed_bytes(fj_dtype t, int64_t n, int64_t k) {
    if (n < 0 || k < 0 || n > INT64_MAX - 64 || k > INT64_MAX - 64) return -1;
    int64_t bytes;
    switch (t) {
    case FJ_F32: bytes = fj_dtype_size(t, up(n, 16), k); break;
    case FJ_F16:
    case FJ_BF16: bytes = fj_dtype_size(t, up(n, 16), up(k, 2)); break;
    default:
        if (fj_a8_kind(t) < 0) return -1;
        bytes = fj_dtype_size(t, up(n, 32), k);
    }
    return bytes < 0 || bytes > INT64_MAX - 64 ? -1 : up(bytes, 64);
}

void fj_wmat_pack(const fj_kern *kern, fj_dtype t, int64_t n, int64_t k, const void *rows,
                  void *panels, int ith, int nth) {
    if (fj_a8_kind(t) >= 0) {
        fj_blocks_pack(kern, t, n, k, rows, panels, ith, nth);
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
            if (left < width || k % 2) memset(dst, 0, (size_t)(width * k2) * 4);
            kern->words((uint32_t *)(void *)dst, width, src, 2 * k, left, k / 2);
            for (int64_t c = 0; k % 2 && c < left; c++) /* the last, which has no pair */
                dst[((k - 1) / 2 * width + c) * 2] = src[c * k + k - 1];
        }
    }
}

void fj_wmat_unpack(fj_dtype t, int64_t n, int64_t k, const void *panels, int64_t n0, int64_t nn,
                    void *rows) {
    if (fj_a8_kind(t) >= 0) {
        fj_blocks_unpack(t, k, panels, n0, nn, rows);
        return;
    }
    int64_t e = t == FJ_F32 ? 1 : 2, kp = up(k, e), bytes = fj_dtype_get(t)->bytes;
    for (int64_t r = n0; r < n0 + nn; r++) {
        int64_t g = r / 48, c = r % 48, width = up(LESS(48, n - g * 48), 16);
        for (int64_t j = 0; j < k; j++) {
            int64_t to = (r - n0) * k + j, from = g * 48 * kp + (j / e * width + c) * e + j % e;
            memcpy((char *)rows + to * bytes, (const char *)panels + from * bytes, (size_t)bytes);
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
    else kern->dequant(dst, w->dtype, src, k0, kk);
}

void fj_wmat_block(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                   int64_t kk, float *dst, int64_t ld) {
    if (!w->panels) {
        for (int64_t r = 0; r < nn; r++) block_rows(kern, w, n0 + r, k0, kk, dst + r * ld);
        return;
    }
    if (fj_a8_kind(w->dtype) >= 0) {
        fj_blocks_block(kern, w, n0, nn, k0, kk, dst, ld);
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
    if (w->panels && fj_a8_kind(w->dtype) >= 0) {
        fj_blocks_pairs(kern, w, n0, nn, k0, kk, dst, ld);
        return;
    }
    if (!w->panels && w->dtype == FJ_F32) {
        const float *src = (const float *)w->data + n0 * w->k + k0;
        for (int64_t r = 0; r < nn; r += 2, src += 2 * w->k)
            kern->pairs_bf16(dst + r / 2 * ld, src, r + 1 < nn ? src + w->k : NULL, kk);
        return;
    }
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
