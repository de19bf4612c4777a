#include "text/tok.h"

#include <utf8proc.h>

/* Below U+0300 everything is already composed: the usual case costs one look. */
static bool surely_nfc(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0xcc) return false;
    return true;
}
static bool ascii(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0x80) return false;
    return true;
}

static bool unicode(fj_norm_kind kind, const char *s, size_t n, fj_str *out, fj_err *e) {
    utf8proc_option_t opt = UTF8PROC_STABLE;
    if (kind == FJ_NORM_NFC || kind == FJ_NORM_NFKC) opt |= UTF8PROC_COMPOSE;
    if (kind == FJ_NORM_NFD || kind == FJ_NORM_NFKD) opt |= UTF8PROC_DECOMPOSE;
    if (kind == FJ_NORM_NFKC || kind == FJ_NORM_NFKD) opt |= UTF8PROC_COMPAT;
    for (size_t i = 0; i < n;) {
        size_t k = fj_utf8_span(s + i, n - i);
        if (!k) { /* not UTF-8: stays */
            fj_str_addc(out, s[i++]);
            continue;
        }
        utf8proc_uint8_t *p = NULL;
        utf8proc_ssize_t m =
            utf8proc_map((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)k, &p, opt);
        if (m < 0)
            return fj_fail(e, FJ_ENOMEM, "Unicode normalization of %zu bytes: %s", k,
                           utf8proc_errmsg(m));
        fj_str_addn(out, p, (size_t)m);
        free(p);
        i += k;
    }
    return true;
}

bool fj_normalize(const fj_tok_norm *v, size_t nv, const char *s, size_t n, fj_str *a, fj_str *b,
                  fj_bytes *out, fj_err *e) {
    fj_bytes cur = { s, n };
    for (size_t i = 0; i < nv; i++) {
        fj_str *to = cur.p == a->s ? b : a;
        const fj_tok_norm *m = &v[i];
        fj_str_clear(to);
        switch (m->kind) {
        case FJ_NORM_NFC:
            if (surely_nfc(cur.p, cur.n)) continue;
            if (!unicode(m->kind, cur.p, cur.n, to, e)) return false;
            break;
        case FJ_NORM_NFD:
        case FJ_NORM_NFKC:
        case FJ_NORM_NFKD:
            if (ascii(cur.p, cur.n)) continue;
            if (!unicode(m->kind, cur.p, cur.n, to, e)) return false;
            break;
        case FJ_NORM_PREPEND:
            if (!cur.n) continue;
            fj_str_addn(to, m->a.p, m->a.n);
            fj_str_addn(to, cur.p, cur.n);
            break;
        case FJ_NORM_REPLACE: {
            const char *p = cur.p, *end = cur.p + cur.n;
            while (p < end) {
                const char *hit = fj_find_bytes(p, (size_t)(end - p), m->a.p, m->a.n);
                if (!hit) hit = end;
                fj_str_addn(to, p, (size_t)(hit - p));
                if (hit == end) break;
                fj_str_addn(to, m->b.p, m->b.n);
                p = hit + m->a.n;
            }
            break;
        }
        }
        cur = (fj_bytes){ to->s ? to->s : "", to->n };
    }
    *out = cur;
    return true;
}
