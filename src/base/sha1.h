/* sha1.h - SHA-1 (FIPS 180-4, section 6.1), for the names that git gives to contents.  Not for security:
 * two texts of one SHA-1 can be made.  Piece by piece, any sizes; no memory, one thread for each state. */
#ifndef FJ_BASE_SHA1_H
#define FJ_BASE_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define FJ_SHA1_HEX 41

typedef struct fj_sha1 {
    uint32_t h[5];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
} fj_sha1;

void fj_sha1_init(fj_sha1 *s);
void fj_sha1_add(fj_sha1 *s, const void *bytes, size_t n);
/* Lower-case hex with a terminating 0; s is used up. */
void fj_sha1_end(fj_sha1 *s, char hex[FJ_SHA1_HEX]);

#endif
