/* rng.h - random numbers that can be saved, and random numbers that need no state.
 *
 * fj_rng is xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64: for shuffles, sampling and
 * initial weights.  Its whole state is the struct, so a checkpoint copies it.
 * fj_rng_at is Philox-like in use: a value for (seed, counter) with no state, so that a dropout mask
 * is the same in forward, recomputation and backward, on any number of threads. */
#ifndef FJ_BASE_RNG_H
#define FJ_BASE_RNG_H

#include <stdint.h>

typedef struct fj_rng {
    uint64_t s[4];
} fj_rng;

void fj_rng_seed(fj_rng *r, uint64_t seed);
uint64_t fj_rng_u64(fj_rng *r);
double fj_rng_double(fj_rng *r);              /* [0, 1), 53 bits */
double fj_rng_normal(fj_rng *r);              /* N(0, 1), Box-Muller, no hidden second value */
uint64_t fj_rng_below(fj_rng *r, uint64_t n); /* [0, n), no bias; n > 0 */

/* splitmix64 finaliser of seed and counter. */
static inline uint64_t fj_rng_at(uint64_t seed, uint64_t counter) {
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
