/* peak_amx.c - what the tiles reach: four sums, so that no product waits for the one before. */
#include "kernels/peak.h"
#include "kernels/x86/tiles_amx.inc"

int64_t fj_peak_bf16_amx(int64_t turns) {
    turns /= 16; /* a product is worth many */
    tiles_begin();
    for (int64_t i = 0; i < turns; i++) {
        TILE_BF16(0, 4, 6);
        TILE_BF16(1, 4, 7);
        TILE_BF16(2, 5, 6);
        TILE_BF16(3, 5, 7);
    }
    tiles_end();
    return turns * 4 * 2 * 16 * 16 * 32;
}
