#include "text/tok.h"

static bool ascii(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0x80) return false;
    return true;
}

bool fj_norm_compile(fj_norm_step *s, fj_arena *mem, fj_err *e) {
    if (s->d.kind == FJ_NORM_REPLACE && s->d.flags & FJ_NORM_REGEX)
        return (s->re = fj_regex(s->d.a, false, "normalizer Replace", e)) != NULL;
    if (s->d.kind == FJ_NORM_CHARSMAP || s->d.kind == FJ_NORM_SP)
        return fj_charsmap_open(&s->map, mem, s->d.a, e);
    return true;
}

static void replace(const fj_tok_norm *d, fj_bytes in, fj_str *out) {
    const char *p = in.p, *end = in.p + in.n;
    while (p < end) {
        const char *hit = fj_find_bytes(p, (size_t)(end - p), d->a.p, d->a.n);
        if (!hit) hit = end;
        fj_str_addn(out, p, (size_t)(hit - p));
        if (hit == end) break;
        fj_str_addn(out, d->b.p, d->b.n);
        p = hit + d->a.n;
    }
}

static size_t space_at(const char *s, size_t n) {
    size_t k = n ? fj_utf8_len(s, n) : 0;
    return k && fj_char_space(fj_utf8_get(s, k)) ? k : 0;
}

static fj_bytes strip(fj_bytes s, unsigned flags) {
    size_t k;
    while (flags & FJ_NORM_LEFT && (k = space_at(s.p, s.n))) {
        s.p += k;
        s.n -= k;
    }
    while (flags & FJ_NORM_RIGHT && s.n) {
        for (k = 1; k < 4 && k < s.n && ((unsigned char)s.p[s.n - k] & 0xc0) == 0x80;) k++;
        if (space_at(s.p + s.n - k, k) != k) break;
        s.n -= k;
    }
    return s;
}

static void each_char(const fj_tok_norm *d, fj_bytes s, fj_str *out) {
    for (size_t i = 0, k; i < s.n; i += k ? k : 1) {
        k = fj_utf8_len(s.p + i, s.n - i);
        uint32_t c = k ? fj_utf8_get(s.p + i, k) : 0;
        if (d->kind == FJ_NORM_UNACCENT) {
            if (c >= 0x300 && fj_char_mark(c)) continue;
        } else if (k) { /* NMT */
            if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f ||
                c == 0x8f || c == 0x9f)
                continue;
            if (c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 ||
                (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                c == 0xfeff || c == 0xfffd) {
                fj_str_addc(out, ' ');
                continue;
            }
        }
        fj_str_addn(out, s.p + i, k ? k : 1);
    }
}

static void stand_ins(fj_bytes s, fj_str *out) {
    char c[4];
    for (size_t i = 0; i < s.n; i++)
        fj_str_addn(out, c, fj_utf8_put(fj_byte_char((uint8_t)s.p[i]), c));
}

bool fj_normalize(const fj_tokenizer *t, const char *s, size_t n, fj_str *a, fj_str *b,
                  fj_bytes *out, fj_err *e) {
    fj_bytes cur = { s, n };
    for (size_t i = 0; i < t->n_norms; i++) {
        /* cur may begin inside a or b, after a strip. */
        fj_str *to = a->s && cur.p >= a->s && cur.p <= a->s + a->n ? b : a;
        const fj_norm_step *st = &t->norms[i];
        const fj_tok_norm *m = &st->d;
        fj_str tmp = { 0 };
        fj_str_clear(to);
        switch (m->kind) {
        case FJ_NORM_NFC:
            if (fj_nfc_span(cur.p, cur.n) == cur.n) continue;
            if (!fj_norm_nfc(cur.p, cur.n, to, e)) return false;
            break;
        case FJ_NORM_NFD:
        case FJ_NORM_NFKC:
        case FJ_NORM_NFKD:
            if (ascii(cur.p, cur.n)) continue;
            if (!fj_norm_form(m->kind, cur.p, cur.n, to, e)) return false;
            break;
        case FJ_NORM_PREPEND:
            if (!cur.n) continue;
            fj_str_addn(to, m->a.p, m->a.n);
            fj_str_addn(to, cur.p, cur.n);
            break;
        case FJ_NORM_REPLACE:
            if (!st->re) replace(m, cur, to);
            else if (!fj_regex_replace(st->re, cur.p, cur.n, m->b, to, e)) return false;
            break;
        case FJ_NORM_STRIP: cur = strip(cur, m->flags); continue;
        case FJ_NORM_LOWER: fj_norm_lower(cur.p, cur.n, to); break;
        case FJ_NORM_UNACCENT:
        case FJ_NORM_NMT: each_char(m, cur, to); break;
        case FJ_NORM_BERT:
            fj_norm_bert(cur.p, cur.n, m->flags, &tmp, to);
            fj_str_free(&tmp);
            break;
        case FJ_NORM_CHARSMAP: fj_norm_charsmap(&st->map, cur.p, cur.n, to); break;
        case FJ_NORM_SP: fj_norm_sp(st, &t->user, cur.p, cur.n, to); break;
        case FJ_NORM_BYTES: stand_ins(cur, to); break;
        }
        cur = (fj_bytes){ to->s ? to->s : "", to->n };
    }
    *out = cur;
    return true;
}
