/* peak_amx.c - what the tiles reach: four sums, so that no product waits for the one before. */
#include "kernels/peak.h"
#include "kernels/x86/tiles_amx.inc"

#define PRODUCTS(NAME, TILE, DEPTH)                                                                \
    int64_t NAME(int64_t turns) {                                                                  \
        turns /= 16; /* a product is worth many */                                                 \
        tiles_begin();                                                                             \
        for (int64_t i = 0; i < turns; i++) {                                                      \
            TILE(0, 4, 6);                                                                         \
            TILE(1, 4, 7);                                                                         \
            TILE(2, 5, 6);                                                                         \
            TILE(3, 5, 7);                                                                         \
        }                                                                                          \
        tiles_end();                                                                               \
        return turns * 4 * 2 * 16 * 16 * (DEPTH);                                                  \
    }
PRODUCTS(fj_peak_bf16_amx, TILE_BF16, 32)
PRODUCTS(fj_peak_int8_amx, TILE_INT8, 64)
