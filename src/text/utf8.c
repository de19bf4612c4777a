#include "text/tok.h"

size_t fj_utf8_len(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) return 1;
    if (u[0] < 0xc2) return 0;
    if (u[0] < 0xe0) return n >= 2 && (u[1] & 0xc0) == 0x80 ? 2 : 0;
    if (u[0] < 0xf0) {
        if (n < 3 || (u[1] & 0xc0) != 0x80 || (u[2] & 0xc0) != 0x80) return 0;
        if (u[0] == 0xe0 && u[1] < 0xa0) return 0;  /* overlong */
        if (u[0] == 0xed && u[1] >= 0xa0) return 0; /* surrogate */
        return 3;
    }
    if (u[0] > 0xf4 || n < 4) return 0;
    if ((u[1] & 0xc0) != 0x80 || (u[2] & 0xc0) != 0x80 || (u[3] & 0xc0) != 0x80) return 0;
    if (u[0] == 0xf0 && u[1] < 0x90) return 0;
    if (u[0] == 0xf4 && u[1] >= 0x90) return 0;
    return 4;
}

size_t fj_utf8_span(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        if (n - i >= 8 && (memcpy(&w, s + i, 8), !(w & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        size_t k = fj_utf8_len(s + i, n - i);
        if (!k) break;
        i += k;
    }
    return i;
}

uint32_t fj_utf8_get(const char *s, size_t len) {
    const unsigned char *u = (const unsigned char *)s;
    switch (len) {
    case 1: return u[0];
    case 2: return (uint32_t)(u[0] & 0x1f) << 6 | (u[1] & 0x3f);
    case 3: return (uint32_t)(u[0] & 0x0f) << 12 | (uint32_t)(u[1] & 0x3f) << 6 | (u[2] & 0x3f);
    default:
        return (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3f) << 12 |
               (uint32_t)(u[2] & 0x3f) << 6 | (u[3] & 0x3f);
    }
}

size_t fj_utf8_put(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* GPT-2 spells bytes that Latin-1 prints as themselves, and the other 68 as U+0100 and up, in order. */
static bool prints(uint32_t b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

uint32_t fj_byte_char(uint8_t b) {
    if (prints(b)) return b;
    if (b <= 32) return 256u + b;
    if (b <= 160) return 256u + 33 + (b - 127u);
    return 256u + 67; /* 173 */
}

int fj_char_byte(uint32_t c) {
    if (c < 256) return prints(c) ? (int)c : -1;
    if (c < 256 + 33) return (int)(c - 256);
    if (c < 256 + 67) return (int)(c - 256 - 33 + 127);
    return c == 256 + 67 ? 173 : -1;
}

const char *fj_find_bytes(const char *s, size_t n, const char *what, size_t m) {
    if (!m) return NULL;
    for (const char *end = s + n; (size_t)(end - s) >= m; s++) {
        s = memchr(s, what[0], (size_t)(end - s) - m + 1);
        if (!s) return NULL;
        if (memcmp(s, what, m) == 0) return s;
    }
    return NULL;
}
