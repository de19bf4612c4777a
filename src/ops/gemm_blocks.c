/* gemm_blocks.c - weights in blocks (kernels/panel.h) re-laid into panels, back, and into floats. */
#include "ops/gemm_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_gemm_blocks_f64_unused; /* panels exist in float alone */
#else
static void flip(uint32_t *w, int n) {
    for (int i = 0; i < n; i++) w[i] ^= 0x80808080u;
}

/* Of the field f of a block: `rows` columns in, the rest zero. */
static void pack_field(const fj_kern *kern, const fj_field *f, const uint8_t *src, int64_t stride,
                       int64_t rows, uint8_t *dst) {
    src += f->from;
    if (rows < 32) memset(dst, 0, 32 * (size_t)f->bytes);
    if (f->unit == 4) {
        kern->words((uint32_t *)(void *)dst, 32, src, stride, rows, f->bytes / 4);
        if (f->flip) flip((uint32_t *)(void *)dst, 8 * f->bytes);
    } else if (f->unit == 2) {
        for (int64_t c = 0; c < rows; c++) memcpy(dst + 2 * c, src + c * stride, 2);
    } else {
        for (int64_t c = 0; c < rows; c++) dst[c] = src[c * stride];
    }
}

static void unpack_field(const fj_field *f, const uint8_t *src, int64_t c0, int64_t rows,
                         uint8_t *dst, int64_t stride) {
    for (int64_t c = 0; c < rows; c++)
        for (int i = 0; i < f->bytes; i += f->unit) {
            uint8_t *to = dst + c * stride + f->from + i;
            memcpy(to, src + 32 * i + (c0 + c) * f->unit, f->unit);
            for (int j = 0; f->flip && j < f->unit; j++) to[j] ^= 0x80;
        }
}

void fj_pack_super(const fj_kern *kern, fj_dtype t, int64_t k, const void *src, int64_t stride,
                   int64_t rows, void *panels) {
    const fj_dtype_info *d = fj_dtype_get(t);
    uint8_t *to = panels;
    for (int64_t i = 0; i < k / d->block; i++)
        for (const fj_field *f = fj_panel_fields(t); f->bytes; to += 32 * f->bytes, f++)
            pack_field(kern, f, (const uint8_t *)src + i * d->bytes, stride, rows, to);
}

void fj_blocks_pack(const fj_kern *kern, fj_dtype t, int64_t n, int64_t k, const void *rows,
                    void *panels, int ith, int nth) {
    const fj_dtype_info *d = fj_dtype_get(t);
    int64_t groups = up(n, 32) / 32, nb = k / d->block, row = nb * d->bytes;
    for (int64_t g = groups * ith / nth; g < groups * (ith + 1) / nth; g++)
        for (int64_t b = 0; b < nb; b++)
            fj_pack_super(kern, t, d->block, (const char *)rows + g * 32 * row + b * d->bytes, row,
                          LESS(32, n - g * 32), (char *)panels + (g * nb + b) * 32 * d->bytes);
}

void fj_blocks_unpack(fj_dtype t, int64_t k, const void *panels, int64_t n0, int64_t nn,
                      void *rows) {
    const fj_dtype_info *d = fj_dtype_get(t);
    int64_t nb = k / d->block, row = nb * d->bytes;
    for (int64_t r = 0, some; r < nn; r += some) {
        int64_t g = (n0 + r) / 32, c = (n0 + r) % 32;
        some = LESS(32 - c, nn - r);
        for (int64_t b = 0; b < nb; b++) {
            const uint8_t *src = (const uint8_t *)panels + (g * nb + b) * 32 * d->bytes;
            uint8_t *dst = (uint8_t *)rows + r * row + b * d->bytes;
            for (const fj_field *f = fj_panel_fields(t); f->bytes; src += 32 * f->bytes, f++)
                unpack_field(f, src, c, some, dst, row);
        }
    }
}

/* The panels of super-blocks: column n0 (a multiple of 32) and value k0 on, and those that follow. */
static const char *panel_at(const fj_wmat *w, int64_t n0, int64_t k0) {
    const fj_dtype_info *d = fj_dtype_get(w->dtype);
    return (const char *)w->data +
           (n0 * (w->k / d->block) + k0 / 256 * 32 * (256 / d->block)) * d->bytes;
}

void fj_blocks_block(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                     int64_t kk, float *dst, int64_t ld) {
    fj_w8 tile;
    for (int64_t r = 0, rows; r < nn; r += rows) {
        int64_t c = (n0 + r) % 32;
        rows = LESS(32 - c, nn - r);
        for (int64_t j = 0, len; j < kk; j += len) {
            int64_t at = (k0 + j) % 256;
            len = LESS(256 - at, kk - j);
            kern->w8_unpack(&tile, w->dtype, panel_at(w, n0 + r - c, k0 + j), (int)(at / 32),
                            (int)(len / 32));
            kern->w8_rows(dst + r * ld + j, ld, &tile, (int)(len / 32), fj_a8_kind(w->dtype),
                          (int)c, (int)rows);
        }
    }
}

void fj_blocks_pairs(const fj_kern *kern, const fj_wmat *w, int64_t n0, int64_t nn, int64_t k0,
                     int64_t kk, uint32_t *dst, int64_t ld) {
    fj_w8 tile;
    for (int64_t r = 0; r < nn; r += 32)
        for (int64_t j = 0, len; j < kk; j += len) {
            int64_t at = (k0 + j) % 256;
            len = LESS(256 - at, kk - j);
            kern->w8_unpack(&tile, w->dtype, panel_at(w, n0 + r, k0 + j), (int)(at / 32),
                            (int)(len / 32));
            kern->w8_pairs(dst + r / 2 * ld + j, ld, &tile, (int)(len / 32), fj_a8_kind(w->dtype),
                           (int)LESS(32, nn - r));
        }
}
#endif
