#include "text/tok.h"

/* Bytes at the end of s that begin a character and do not finish it. */
static size_t unfinished(const char *s, size_t n) {
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char c = (unsigned char)s[n - k];
        if (c < 0x80) return 0;
        if (c >= 0xc0) {
            size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
            return c <= 0xf4 && want > k ? k : 0;
        }
    }
    return 0;
}

static fj_bytes shown(const fj_tokenizer *t, fj_detok *d, int32_t id, bool special) {
    if (fj_token_is_special(t, id) && !special) return (fj_bytes){ "", 0 };
    fj_bytes b = fj_token_bytes(t, id);
    if (!b.n) return b;
    if (!d->started && t->strip_left && b.p[0] == ' ') {
        b.p++;
        b.n--;
    }
    d->started = true;
    return b;
}

size_t fj_detok_push(const fj_tokenizer *t, fj_detok *d, int32_t id, bool special, char *out) {
    fj_bytes b = shown(t, d, id, special);
    if (!b.n) return 0;
    size_t n = d->n;
    memcpy(out, d->held, n);
    memcpy(out + n, b.p, b.n);
    n += b.n;
    d->n = (uint8_t)unfinished(out, n);
    n -= d->n;
    memcpy(d->held, out + n, d->n);
    return n;
}

size_t fj_detok_end(fj_detok *d, char *out) {
    size_t n = d->n;
    memcpy(out, d->held, n);
    d->n = 0;
    return n;
}

char *fj_detokenize(const fj_tokenizer *t, const int32_t *ids, size_t count, bool special,
                    size_t *n) {
    fj_str s = { 0 };
    fj_detok d = { 0 };
    for (size_t i = 0; i < count; i++) {
        fj_bytes b = shown(t, &d, ids[i], special);
        fj_str_addn(&s, b.p, b.n);
    }
    if (n) *n = s.n;
    return fj_str_take(&s);
}
