/* any_blocks.h - weights in formats that are only read (lattices, ternaries), for tests: any codes, under
 * scales that make values of a wanted size. */
#ifndef FORJA_ANY_BLOCKS_H
#define FORJA_ANY_BLOCKS_H

#include "base/blocks.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

/* The scales of a block of GGUF, all the same: d. */
static inline void any_scale(fj_dtype t, uint8_t *b, float d) {
    uint16_t h = fj_f32_to_f16(d);
    const int bytes = fj_dtype_get(t)->bytes;
    int at = 0, count = 1; /* of the f16 numbers */
    if (t == FJ_IQ1_M) {
        uint16_t s[4];
        memcpy(s, b + 48, 8);
        for (int i = 0; i < 4; i++) s[i] = (uint16_t)((s[i] & 0xfff) | (h >> 4 * i & 15) << 12);
        memcpy(b + 48, s, 8);
        return;
    }
    if (t == FJ_Q4_1 || t == FJ_Q5_1 || t == FJ_Q4_K || t == FJ_Q5_K) count = 2;
    if (t == FJ_Q2_K) at = bytes - 4, count = 2;
    if (t == FJ_Q3_K || t == FJ_Q6_K || t == FJ_TQ1_0 || t == FJ_TQ2_0) at = bytes - 2;
    for (int i = 0; i < count; i++) memcpy(b + at + 2 * i, &h, 2);
}

/* k values, whole blocks of t, whose root mean square is about size. */
static inline void any_row(fj_rng *r, fj_dtype t, void *row, int64_t k, double size) {
    const fj_dtype_info *d = fj_dtype_get(t);
    for (int64_t i = 0; i < k / d->block; i++) {
        uint8_t *b = (uint8_t *)row + i * d->bytes;
        float v[256];
        double squares = 0;
        for (int j = 0; j < d->bytes; j++) b[j] = (uint8_t)fj_rng_u64(r);
        any_scale(t, b, 1);
        fj_dequant_row(t, b, v, d->block);
        for (int j = 0; j < d->block; j++) squares += (double)v[j] * v[j];
        any_scale(t, b, (float)(size / sqrt(squares / d->block + 1e-9)));
    }
}

#endif
