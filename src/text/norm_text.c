/* norm_text.c - the larger normalizer steps: BERT's, SentencePiece's, lower case, Unicode forms. */
#include "text/tok.h"

#include <utf8proc.h>

/* Calls of utf8proc on the valid parts; other bytes stay. */
bool fj_norm_form(fj_norm_kind kind, const char *s, size_t n, fj_str *out, fj_err *e) {
    utf8proc_option_t opt = UTF8PROC_STABLE;
    if (kind == FJ_NORM_NFC || kind == FJ_NORM_NFKC) opt |= UTF8PROC_COMPOSE;
    if (kind == FJ_NORM_NFD || kind == FJ_NORM_NFKD) opt |= UTF8PROC_DECOMPOSE;
    if (kind == FJ_NORM_NFKC || kind == FJ_NORM_NFKD) opt |= UTF8PROC_COMPAT;
    for (size_t i = 0; i < n;) {
        size_t k = fj_utf8_span(s + i, n - i);
        if (!k) {
            fj_str_addc(out, s[i++]);
            continue;
        }
        /* U+11A7 is where the numbers of trailing jamo begin and none itself, but utf8proc composes it. */
        const char *jamo = fj_find_bytes(s + i, k, "\xe1\x86\xa7", 3);
        if (jamo == s + i) {
            fj_str_addn(out, jamo, 3);
            i += 3;
            continue;
        }
        if (jamo) k = (size_t)(jamo - (s + i));
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

/* Is this character the same in NFC whatever stands around it?  No mark, no jamo that joins the one
 * before, nothing that has a canonical decomposition (but for the blocks where all compose again). */
static bool settled(uint32_t c) {
    if (c < 0x300 || (c >= 0x3400 && c <= 0x9fff) || (c >= 0x400 && c <= 0x482)) return true;
    if ((c >= 0x1161 && c <= 0x11ff) || c == 0x3099 || c == 0x309a) return false;
    if ((c >= 0xac00 && c <= 0xd7a3) || (c >= 0x1ea0 && c <= 0x1ef9)) return true;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    bool mark = p->category >= UTF8PROC_CATEGORY_MN && p->category <= UTF8PROC_CATEGORY_ME;
    return !mark && !p->combining_class && (p->decomp_type || p->decomp_seqindex == UINT16_MAX);
}

/* Bytes from s that NFC leaves as they are, up to before the character that something may join. */
size_t fj_nfc_span(const char *s, size_t n) {
    size_t i = 0, last = 0;
    while (i < n) {
        if ((unsigned char)s[i] < 0xcc) { /* below U+0300, or the rest of such a character */
            if (((unsigned char)s[i] & 0xc0) != 0x80) last = i;
            i++;
            continue;
        }
        size_t k = fj_utf8_len(s + i, n - i);
        if (k && !settled(fj_utf8_get(s + i, k))) return last;
        last = i;
        i += k ? k : 1;
    }
    return n;
}

/* Only what is not settled goes through the tables, with the character before it. */
bool fj_norm_nfc(const char *s, size_t n, fj_str *out, fj_err *e) {
    while (n) {
        size_t same = fj_nfc_span(s, n), end = same;
        fj_str_addn(out, s, same);
        for (bool first = true; end < n; first = false) {
            size_t k = fj_utf8_len(s + end, n - end);
            if (!first && k && settled(fj_utf8_get(s + end, k))) break;
            end += k ? k : 1;
        }
        if (end > same && !fj_norm_form(FJ_NORM_NFC, s + same, end - same, out, e)) return false;
        s += end;
        n -= end;
    }
    return true;
}

static void put(fj_str *out, uint32_t c) {
    char b[4];
    fj_str_addn(out, b, fj_utf8_put(c, b));
}

static void put_lower(fj_str *out, uint32_t c) {
    if (c < 128) fj_str_addc(out, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
    else if (c == 0x130) fj_str_add(out, "i\xcc\x87"); /* the one lower case of two characters */
    else put(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

void fj_norm_lower(const char *s, size_t n, fj_str *out) {
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        k = fj_utf8_len(s + i, n - i);
        if (k) put_lower(out, fj_utf8_get(s + i, k));
        else fj_str_addc(out, s[i]);
    }
}

/* What BERT's own code calls Chinese; the gap at 2B820 is its. */
static bool cjk(uint32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool other(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
    }
}

/* Bytes that are not UTF-8 stand for U+FFFD, which `clean` takes away; without it they stay. */
void fj_norm_bert(const char *s, size_t n, unsigned flags, fj_str *tmp, fj_str *out) {
    fj_str *first = flags & FJ_NORM_ACCENTS ? tmp : out;
    size_t from = first->n;
    bool late = (flags & FJ_NORM_LOWERCASE) && !(flags & FJ_NORM_ACCENTS), plain = true;
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        unsigned char b = (unsigned char)s[i];
        if (b >= ' ' && b < 0x7f) {
            k = 1;
            fj_str_addc(first, (char)(late && b >= 'A' && b <= 'Z' ? b + 32 : b));
            continue;
        }
        k = fj_utf8_len(s + i, n - i);
        uint32_t c = k ? fj_utf8_get(s + i, k) : 0xfffd;
        bool line = c == '\t' || c == '\n' || c == '\r';
        if (flags & FJ_NORM_CLEAN) {
            if (c == 0 || c == 0xfffd || (!line && other(c))) continue;
            if (line || fj_char_space(c)) {
                fj_str_addc(first, ' ');
                continue;
            }
        }
        plain = false;
        bool apart = flags & FJ_NORM_CJK && cjk(c);
        if (apart) fj_str_addc(first, ' ');
        if (!k) fj_str_addc(first, s[i]);
        else if (late) put_lower(first, c);
        else fj_str_addn(first, s + i, k);
        if (apart) fj_str_addc(first, ' ');
    }
    if (first == out || tmp->n == from) return; /* nothing may be left of a text */
    fj_str marks = { 0 };
    const char *t = tmp->s + from;
    size_t m = tmp->n - from;
    if (!plain) {
        fj_norm_form(FJ_NORM_NFD, t, m, &marks, NULL);
        t = marks.s;
        m = marks.n;
    }
    for (size_t i = 0, k; i < m; i += k ? k : 1) {
        k = fj_utf8_len(t + i, m - i);
        uint32_t c = k ? fj_utf8_get(t + i, k) : 0;
        if (c >= 0x300 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN) continue;
        if (k && flags & FJ_NORM_LOWERCASE) put_lower(out, c);
        else fj_str_addn(out, t + i, k ? k : 1);
    }
    fj_str_free(&marks);
}

/* As `tokenizers` does: a grapheme of less than six bytes is replaced as a whole by what its shortest
 * mapped beginning becomes, else every character for itself. */
void fj_norm_charsmap(const fj_charsmap *m, const char *s, size_t n, fj_str *out) {
    fj_bytes to;
    for (size_t i = 0; i < n;) {
        size_t k = fj_utf8_len(s + i, n - i);
        if (!k) {
            fj_str_addc(out, s[i++]);
            continue;
        }
        size_t end = i + k;
        utf8proc_int32_t state = 0, c = (utf8proc_int32_t)fj_utf8_get(s + i, k);
        while (end < n) {
            size_t j = fj_utf8_len(s + end, n - end);
            if (!j) break;
            utf8proc_int32_t d = (utf8proc_int32_t)fj_utf8_get(s + end, j);
            /* Most text is ASCII: only \r\n is a grapheme of two there. */
            if (c < 0x80 && d < 0x80 && c != '\r') break;
            if (utf8proc_grapheme_break_stateful(c, d, &state)) break;
            c = d;
            end += j;
        }
        if (end - i < 6 && fj_charsmap_find(m, s + i, end - i, true, &to)) {
            fj_str_addn(out, to.p, to.n);
            i = end;
            continue;
        }
        for (; i < end; i += k) {
            k = fj_utf8_len(s + i, end - i);
            if (fj_charsmap_find(m, s + i, k, true, &to)) fj_str_addn(out, to.p, to.n);
            else fj_str_addn(out, s + i, k);
        }
    }
}

/* Longest user symbol at s. */
static size_t user_at(const fj_trie *t, const char *s, size_t n) {
    size_t found = 0;
    if (!t->n) return 0;
    for (size_t i = 0, node = 0; i < n; i++) {
        int32_t next = fj_trie_step(t, (int32_t)node, (unsigned char)s[i]);
        if (next < 0) break;
        node = (size_t)next;
        if (t->value[node] >= 0) found = i + 1;
    }
    return found;
}

/* Bytes that are not UTF-8 stay as they are (SentencePiece puts U+FFFD): byte tokens give them back. */
static size_t sp_prefix(const fj_norm_step *st, const fj_trie *user, const char *s, size_t n,
                        fj_bytes *to) {
    size_t k = user_at(user, s, n);
    *to = (fj_bytes){ s, k };
    if (k) return k;
    if ((k = fj_charsmap_find(&st->map, s, n, false, to))) return k;
    k = fj_utf8_len(s, n);
    *to = (fj_bytes){ s, k ? k : 1 };
    return to->n;
}

void fj_norm_sp(const fj_norm_step *st, const fj_trie *user, const char *s, size_t n, fj_str *out) {
    unsigned f = st->d.flags;
    fj_bytes to = { "", 0 };
    size_t i = 0;
    if (f & FJ_NORM_EXTRA)
        while (i < n) {
            size_t k = sp_prefix(st, user, s + i, n - i, &to);
            if (to.n != 1 || to.p[0] != ' ') break;
            i += k;
        }
    if (i >= n) return;
    const char *space = f & FJ_NORM_ESCAPE ? FJ_META : " ";
    size_t ns = strlen(space), from = out->n;
    if ((f & FJ_NORM_DUMMY) && !(f & FJ_NORM_SUFFIX)) fj_str_addn(out, space, ns);
    bool was = f & FJ_NORM_EXTRA;
    while (i < n) {
        i += sp_prefix(st, user, s + i, n - i, &to);
        while (was && to.n && to.p[0] == ' ') {
            to.p++;
            to.n--;
        }
        for (size_t k = 0; k < to.n; k++) {
            if (to.p[k] == ' ') fj_str_addn(out, space, ns);
            else fj_str_addc(out, to.p[k]);
        }
        if (to.n) was = to.p[to.n - 1] == ' ';
        if (!(f & FJ_NORM_EXTRA)) was = false;
    }
    if (f & FJ_NORM_EXTRA)
        while (out->n - from >= ns && memcmp(out->s + out->n - ns, space, ns) == 0) out->n -= ns;
    if ((f & FJ_NORM_DUMMY) && (f & FJ_NORM_SUFFIX)) fj_str_addn(out, space, ns);
}
