#include "base/sha1.h"

#include "base/mem.h"
#include <stdio.h>

void fj_sha1_init(fj_sha1 *s) {
    *s = (fj_sha1){ .h = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 } };
}

static uint32_t turn(uint32_t x, int k) { return x << k | x >> (32 - k); }

static void block_add(uint32_t h[5], const uint8_t *p) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 80; i++) w[i] = turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t t = turn(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = turn(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

void fj_sha1_add(fj_sha1 *s, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    while (n) {
        size_t at = s->n % 64, k = FJ_MIN(n, 64 - at);
        if (k == 64) block_add(s->h, p);
        else {
            memcpy(s->block + at, p, k);
            if (at + k == 64) block_add(s->h, s->block);
        }
        s->n += k;
        p += k;
        n -= k;
    }
}

void fj_sha1_end(fj_sha1 *s, char hex[FJ_SHA1_HEX]) {
    static const uint8_t pad[64] = { 0x80 };
    uint64_t bits = s->n * 8;
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)(bits >> (56 - 8 * i));
    fj_sha1_add(s, pad, 1 + (119 - s->n % 64) % 64);
    fj_sha1_add(s, len, 8);
    for (int i = 0; i < 5; i++) snprintf(hex + 8 * i, 9, "%08x", (unsigned)s->h[i]);
}
