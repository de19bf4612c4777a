/* charsmap.c - SentencePiece's precompiled normalization: a double-array trie (darts) of what is replaced,
 * and the replacements behind it.
 *
 * Layout: u32 bytes of the trie, the trie (u32 units, little endian), then text with a 0 behind each
 * replacement.  A unit: bits 0-7 label, 8 has a leaf, 9 offset is shifted by 8, 10-30 offset, 31 leaf;
 * a leaf's lower 31 bits are its value, the place of the replacement.  Every index that a file gives is
 * checked against the table. */
#include "text/tok.h"

bool fj_charsmap_open(fj_charsmap *m, fj_arena *mem, fj_bytes b, fj_err *e) {
    *m = (fj_charsmap){ 0 };
    if (!b.n) return true;
    const unsigned char *u = (const unsigned char *)b.p;
    if (b.n < 8)
        return fj_fail(e, FJ_EFORMAT, "precompiled_charsmap has %zu bytes; expected a trie", b.n);
    size_t n = (size_t)u[0] | (size_t)u[1] << 8 | (size_t)u[2] << 16 | (size_t)u[3] << 24;
    if (n % 4 || n == 0 || n >= b.n - 4)
        return fj_fail(e, FJ_EFORMAT,
                       "precompiled_charsmap: a trie of %zu bytes in %zu bytes; expected a "
                       "multiple of 4 and replacements behind it",
                       n, b.n);
    uint32_t *unit = fj_arena_alloc(mem, n);
    for (size_t i = 0; i < n / 4; i++) {
        const unsigned char *x = u + 4 + 4 * i;
        unit[i] =
            (uint32_t)x[0] | (uint32_t)x[1] << 8 | (uint32_t)x[2] << 16 | (uint32_t)x[3] << 24;
    }
    m->unit = unit;
    m->n_unit = n / 4;
    m->n_text = b.n - 4 - n;
    m->text = fj_arena_strndup(mem, b.p + 4 + n, m->n_text);
    return true;
}

static size_t offset(uint32_t u) { return (size_t)(u >> 10) << ((u & 1u << 9) >> 6); }

size_t fj_charsmap_find(const fj_charsmap *m, const char *s, size_t n, bool shortest,
                        fj_bytes *to) {
    size_t found = 0, value = 0;
    if (!m->n_unit) return 0;
    size_t at = offset(m->unit[0]);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!c) break;
        at ^= c;
        if (at >= m->n_unit) break;
        uint32_t u = m->unit[at];
        if ((u & (1u << 31 | 0xff)) != c) break;
        at ^= offset(u);
        if (!(u >> 8 & 1)) continue;
        if (at >= m->n_unit) break;
        size_t v = m->unit[at] & 0x7fffffff;
        if (v >= m->n_text) break;
        found = i + 1;
        value = v;
        if (shortest) break;
    }
    if (!found) return 0;
    const char *p = m->text + value;
    *to = (fj_bytes){ p, strnlen(p, m->n_text - value) };
    return found;
}
