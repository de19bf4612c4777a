/* sha256.h - SHA-256 (FIPS 180-4, section 6.2), piece by piece, any sizes; no memory, one thread for each state.
 * libsodium's where the processor has no instructions for it (four times slower: what is hashed are models). */
#ifndef FJ_BASE_SHA256_H
#define FJ_BASE_SHA256_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fj_sha256_state {
    bool fast; /* by instructions; else `slow` alone is used */
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
    crypto_hash_sha256_state slow;
} fj_sha256_state;

/* instructions false: without them, for the tests. */
void fj_sha256_init(fj_sha256_state *s, bool instructions);
void fj_sha256_add(fj_sha256_state *s, const void *bytes, size_t n);
/* s is used up. */
void fj_sha256_end(fj_sha256_state *s, uint8_t digest[32]);

#endif
