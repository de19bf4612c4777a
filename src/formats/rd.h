/* rd.h - a bounded little-endian cursor over bytes that nobody has checked.
 *
 * The first read past the end makes the cursor bad and every later one gives 0 or NULL, so that a
 * record is read in straight-line code and `bad` is looked at once.  Never allocates. */
#ifndef FJ_FORMATS_RD_H
#define FJ_FORMATS_RD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct fj_rd {
    const uint8_t *start, *p, *end;
    bool bad;
} fj_rd;

static inline fj_rd fj_rd_init(const void *p, size_t n) {
    static const uint8_t none[1];
    const uint8_t *s = n ? p : none;
    return (fj_rd){ s, s, s + n, false };
}

static inline size_t fj_rd_left(const fj_rd *r) { return r->bad ? 0 : (size_t)(r->end - r->p); }
static inline size_t fj_rd_pos(const fj_rd *r) { return (size_t)(r->p - r->start); }

/* The next n bytes, or NULL. */
static inline const uint8_t *fj_rd_take(fj_rd *r, uint64_t n) {
    if (r->bad || n > (uint64_t)(r->end - r->p)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    return p;
}

static inline uint64_t fj_le(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline uint32_t fj_rd_u32(fj_rd *r) {
    const uint8_t *p = fj_rd_take(r, 4);
    return p ? (uint32_t)fj_le(p, 4) : 0;
}

static inline uint64_t fj_rd_u64(fj_rd *r) {
    const uint8_t *p = fj_rd_take(r, 8);
    return p ? fj_le(p, 8) : 0;
}

#endif
