/* attn_amx.c - products of attention by tiles of 16 x 16: 32 rows by 32 columns at a time in four of them. */
#include "kernels/kern.h"
#include "kernels/x86/tiles_amx.inc"

enum { CHUNK = FJ_ATTN_CHUNK };

static void attn_scores(float *s, const uint32_t *a, int64_t lda, int64_t rows,
                        const uint32_t *const *b, int nb, int64_t hd) {
    tiles_begin();
    for (int64_t r = 0; r < rows; r += 32) {
        const uint32_t *a0 = a + r * lda, *a1 = a0 + 16 * lda;
        float *y = s + r * CHUNK;
        bool two = rows - r > 16;
        for (int i = 0; i < nb; i++, y += 32) {
            const uint32_t *w = b[i];
            TILE_ZERO(0);
            TILE_ZERO(1);
            if (!two) {
                for (int64_t j = 0; j < hd / 2; j += 16) {
                    TILE_LOAD(4, a0 + j, lda * 4);
                    TILE_LOAD(6, w + j * 32, 128);
                    TILE_BF16(0, 4, 6);
                    TILE_LOAD(7, w + j * 32 + 16, 128);
                    TILE_BF16(1, 4, 7);
                }
                TILE_STORE(0, y, CHUNK * 4);
                TILE_STORE(1, y + 16, CHUNK * 4);
                continue;
            }
            TILE_ZERO(2);
            TILE_ZERO(3);
            for (int64_t j = 0; j < hd / 2; j += 16) {
                TILE_LOAD(4, a0 + j, lda * 4);
                TILE_LOAD(6, w + j * 32, 128);
                TILE_BF16(0, 4, 6);
                TILE_LOAD(7, w + j * 32 + 16, 128);
                TILE_BF16(1, 4, 7);
                TILE_LOAD(5, a1 + j, lda * 4);
                TILE_BF16(2, 5, 6);
                TILE_BF16(3, 5, 7);
            }
            TILE_STORE(0, y, CHUNK * 4);
            TILE_STORE(1, y + 16, CHUNK * 4);
            TILE_STORE(2, y + 16 * CHUNK, CHUNK * 4);
            TILE_STORE(3, y + 16 * CHUNK + 16, CHUNK * 4);
        }
    }
    tiles_end();
}

static void attn_mix(float *o, const uint32_t *p, int64_t rows, const uint32_t *const *b, int nb,
                     int64_t hd) {
    enum { LDP = CHUNK / 2 };
    tiles_begin();
    for (int64_t r = 0; r < rows; r += 32) {
        const uint32_t *p0 = p + r * LDP, *p1 = p0 + 16 * LDP;
        bool two = rows - r > 16;
        for (int64_t c = 0; c < hd; c += 32) {
            float *y = o + r * hd + c;
            TILE_LOAD(0, y, hd * 4);
            TILE_LOAD(1, y + 16, hd * 4);
            if (!two) {
                for (int i = 0; i < nb; i++) {
                    TILE_LOAD(4, p0 + 16 * i, LDP * 4);
                    TILE_LOAD(6, b[i] + c, hd * 4);
                    TILE_BF16(0, 4, 6);
                    TILE_LOAD(7, b[i] + c + 16, hd * 4);
                    TILE_BF16(1, 4, 7);
                }
                TILE_STORE(0, y, hd * 4);
                TILE_STORE(1, y + 16, hd * 4);
                continue;
            }
            TILE_LOAD(2, y + 16 * hd, hd * 4);
            TILE_LOAD(3, y + 16 * hd + 16, hd * 4);
            for (int i = 0; i < nb; i++) {
                TILE_LOAD(4, p0 + 16 * i, LDP * 4);
                TILE_LOAD(6, b[i] + c, hd * 4);
                TILE_BF16(0, 4, 6);
                TILE_LOAD(7, b[i] + c + 16, hd * 4);
                TILE_BF16(1, 4, 7);
                TILE_LOAD(5, p1 + 16 * i, LDP * 4);
                TILE_BF16(2, 5, 6);
                TILE_BF16(3, 5, 7);
            }
            TILE_STORE(0, y, hd * 4);
            TILE_STORE(1, y + 16, hd * 4);
            TILE_STORE(2, y + 16 * hd, hd * 4);
            TILE_STORE(3, y + 16 * hd + 16, hd * 4);
        }
    }
    tiles_end();
}

void fj_kern_amx_attn(fj_kern *k) {
    k->attn_scores = attn_scores;
    k->attn_mix = attn_mix;
}
