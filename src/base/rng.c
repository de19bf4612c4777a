#include "base/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

void fj_rng_seed(fj_rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) r->s[i] = fj_rng_at(seed, (uint64_t)i);
}

uint64_t fj_rng_u64(fj_rng *r) {
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

double fj_rng_double(fj_rng *r) { return (double)(fj_rng_u64(r) >> 11) * 0x1p-53; }

double fj_rng_normal(fj_rng *r) {
    double u = 1.0 - fj_rng_double(r), v = fj_rng_double(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t fj_rng_below(fj_rng *r, uint64_t n) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = fj_rng_u64(r);
    while (x >= limit);
    return x % n;
}
