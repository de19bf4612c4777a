/* regex.c - expressions of Hugging Face (Oniguruma, Rust) in PCRE2 with Unicode properties.
 *
 * Five meanings differ and are rewritten: PCRE2's \s takes U+180E for a space, Unicode and Oniguruma do
 * not; \p{Han} means "in the script's extensions" in PCRE2 and "of the script" elsewhere; \w, and with it \b, has marks and
 * connectors in it elsewhere; and classes may be nested and intersected: [a&&[^b]] is (?:(?![b])[a]). */
#include "text/tok.h"

#define SPACES                                                                                     \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Alphabetic, marks, decimal digits, connectors; and the six numbers of Latin-1, which Oniguruma adds. */
#define WORDS                                                                                      \
    "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"                                                         \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

static const char *const scripts[] = { "Han",      "Hiragana", "Katakana",   "Hangul",  "Latin",
                                       "Cyrillic", "Greek",    "Arabic",     "Hebrew",  "Thai",
                                       "Lao",      "Khmer",    "Devanagari", "Bengali", "Tamil",
                                       "Telugu",   "Myanmar",  "Tibetan",    "Bopomofo" };

typedef struct rw {
    fj_bytes re;
    size_t i;
    fj_str *out;
    fj_err *e;
} rw;

static bool refuse(rw *r, const char *why) {
    return fj_fail(r->e, FJ_EUNSUP, "expression %s: %.*s", why, (int)FJ_MIN(r->re.n, 200), r->re.p);
}

/* \p{Name}: i is behind the backslash. */
static void property(rw *r) {
    const char *p = r->re.p + r->i;
    size_t n = r->re.n - r->i;
    const char *close = n > 2 && p[1] == '{' ? memchr(p, '}', n) : NULL;
    if (close) {
        size_t neg = p[2] == '^', len = (size_t)(close - p) - 2 - neg;
        for (size_t k = 0; k < FJ_LEN(scripts); k++) {
            if (strlen(scripts[k]) != len || memcmp(scripts[k], p + 2 + neg, len) != 0) continue;
            fj_str_addf(r->out, "\\%c{%ssc:%s}", p[0], neg ? "^" : "", scripts[k]);
            r->i += (size_t)(close - p) + 1;
            return;
        }
        fj_str_addc(r->out, '\\');
        fj_str_addn(r->out, p, (size_t)(close - p) + 1);
        r->i += (size_t)(close - p) + 1;
        return;
    }
    fj_str_addf(r->out, "\\%c", p[0]);
    r->i++;
}

static bool escape(rw *r, bool in_class) {
    char d = r->re.p[++r->i];
    if (d == 'p' || d == 'P') {
        property(r);
        return true;
    }
    r->i++;
    if (d == 's') fj_str_addf(r->out, in_class ? "%s" : "[%s]", SPACES);
    else if (d == 'S' && !in_class) fj_str_add(r->out, "[^" SPACES "]");
    else if (d == 'S') return refuse(r, "has \\S inside a class");
    else if (d == 'w') fj_str_addf(r->out, in_class ? "%s" : "[%s]", WORDS);
    else if (d == 'W' && !in_class) fj_str_add(r->out, "[^" WORDS "]");
    else if (d == 'b' && !in_class)
        fj_str_add(r->out, "(?:(?<=[" WORDS "])(?![" WORDS "])|(?<![" WORDS "])(?=[" WORDS "]))");
    else if (d == 'h' && in_class) fj_str_add(r->out, "0-9a-fA-F"); /* Oniguruma: hexadecimal */
    else if (d == 'h') fj_str_add(r->out, "[0-9a-fA-F]");
    else {
        fj_str_addc(r->out, '\\');
        fj_str_addc(r->out, d);
    }
    return true;
}

/* A class from its bracket to the closing one.  The intersected part, if any, is put in front as a
 * look-ahead. */
static bool class_(rw *r, int depth) {
    if (depth > 2) return refuse(r, "has classes in classes in classes");
    size_t start = r->out->n;
    int nested = 0;
    fj_str_addc(r->out, '[');
    r->i++;
    if (r->i < r->re.n && r->re.p[r->i] == '^') fj_str_addc(r->out, r->re.p[r->i++]);
    if (r->i < r->re.n && r->re.p[r->i] == ']') {
        fj_str_add(r->out, "\\]");
        r->i++;
    }
    while (r->i < r->re.n) {
        char c = r->re.p[r->i];
        if (c == '\\' && r->i + 1 < r->re.n) {
            if (!escape(r, true)) return false;
        } else if (c == ']' && nested) {
            nested--;
            r->i++;
        } else if (c == ']') {
            fj_str_addc(r->out, c);
            r->i++;
            return true;
        } else if (c == '[' && r->i + 1 < r->re.n && r->re.p[r->i + 1] == ':') {
            while (r->i < r->re.n && r->re.p[r->i] != ']') fj_str_addc(r->out, r->re.p[r->i++]);
            if (r->i < r->re.n) fj_str_addc(r->out, r->re.p[r->i++]);
        } else if (c == '[' && !(r->i + 1 < r->re.n && r->re.p[r->i + 1] == '^')) {
            nested++; /* a union: its members are members */
            r->i++;
        } else if (c == '[') {
            return refuse(r, "has a class that is no plain one in a class");
        } else if (c == '&' && r->i + 1 < r->re.n && r->re.p[r->i + 1] == '&') {
            r->i += 2;
            if (r->i >= r->re.n || r->re.p[r->i] != '[')
                return refuse(r, "intersects classes (&&) with what is no class");
            size_t at = r->out->n;
            if (!class_(r, depth + 1)) return false;
            if (r->i >= r->re.n || r->re.p[r->i] != ']')
                return refuse(r, "intersects classes (&&) more than once");
            r->i++;
            /* "[first" "[second]" -> (?:(?=[second])[first]) */
            char *first = fj_strndup(r->out->s + start, at - start),
                 *second = fj_strndup(r->out->s + at, r->out->n - at);
            r->out->n = start;
            fj_str_addf(r->out, "(?:(?=%s)", second);
            fj_str_add(r->out, first);
            fj_str_add(r->out, "])");
            free(first);
            free(second);
            return true;
        } else {
            fj_str_addc(r->out, c);
            r->i++;
        }
    }
    return true; /* not closed: PCRE2 says so */
}

/* "x{1,3}+": Oniguruma repeats "x{1,3}", PCRE2 would not give back.  atom: where x begins in out. */
static bool interval(rw *r, size_t atom) {
    const char *p = r->re.p + r->i, *end = r->re.p + r->re.n;
    size_t n = 1;
    while (p + n < end && ((p[n] >= '0' && p[n] <= '9') || p[n] == ',')) n++;
    if (n < 2 || p + n >= end || p[n] != '}') {
        fj_str_addc(r->out, *p);
        r->i++;
        return true;
    }
    n++;
    bool again = p + n < end && p[n] == '+';
    if (again && atom == SIZE_MAX) return refuse(r, "repeats a repeated group");
    char *x = again ? fj_strndup(r->out->s + atom, r->out->n - atom) : NULL;
    if (again) {
        r->out->n = atom;
        fj_str_addf(r->out, "(?:%s", x);
        free(x);
    }
    fj_str_addn(r->out, p, n);
    if (again) fj_str_add(r->out, ")");
    r->i += n;
    return true;
}

static bool rewrite(fj_bytes re, fj_str *out, fj_err *e) {
    rw r = { re, 0, out, e };
    for (size_t atom = SIZE_MAX, from; r.i < re.n; atom = from) {
        char c = re.p[r.i];
        from = out->n;
        if (c == '\\' && r.i + 1 < re.n) {
            if (!escape(&r, false)) return false;
        } else if (c == '[') {
            if (!class_(&r, 0)) return false;
        } else if (c == '{') {
            if (!interval(&r, atom)) return false;
            from = SIZE_MAX;
        } else {
            fj_str_addc(out, c);
            r.i++;
            if (strchr("()*+?|", c)) from = SIZE_MAX;
        }
    }
    return true;
}

pcre2_code *fj_regex(fj_bytes p, bool literal, const char *what, fj_err *e) {
    fj_str re = { 0 };
    /* Oniguruma's ^ and $ are those of lines. */
    uint32_t opt = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE;
    if (literal) {
        fj_str_addn(&re, p.p, p.n);
        opt = PCRE2_UTF | PCRE2_LITERAL;
    } else if (!rewrite(p, &re, e)) {
        fj_str_free(&re);
        fj_wrap(e, "%s", what);
        return NULL;
    }
    if (!re.n) fj_str_addn(&re, "", 0);
    int code;
    PCRE2_SIZE at;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)re.s, re.n, opt, &code, &at, NULL);
    if (!c) {
        PCRE2_UCHAR why[160];
        pcre2_get_error_message(code, why, sizeof why);
        fj_fail(e, FJ_EFORMAT, "%s: expression, at character %zu: %s: %.*s", what, (size_t)at,
                (const char *)why, (int)FJ_MIN(re.n, 200), re.s);
    } else {
        pcre2_jit_compile(c,
                          PCRE2_JIT_COMPLETE); /* no JIT on this processor: the interpreter runs */
    }
    fj_str_free(&re);
    return c;
}

/* Short texts only (decoders, normalizers of some models): match data is made for each call. */
bool fj_regex_replace(const pcre2_code *re, const char *s, size_t n, fj_bytes to, fj_str *out,
                      fj_err *e) {
    pcre2_match_data *md = pcre2_match_data_create(1, NULL);
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    bool ok = md && mc;
    if (!ok) fj_fail(e, FJ_ENOMEM, "no memory for an expression");
    if (mc) pcre2_set_heap_limit(mc, 64 << 10);
    size_t at = 0, done = 0;
    while (ok && at < n) {
        size_t valid = fj_utf8_span(s + at, n - at);
        if (!valid) {
            at++;
            continue;
        }
        size_t end = at + valid;
        while (at < end) {
            int rc = pcre2_match(re, (PCRE2_SPTR)s, end, at, PCRE2_NO_UTF_CHECK, md, mc);
            if (rc == PCRE2_ERROR_NOMATCH) {
                at = end;
                break;
            }
            const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(md);
            if (rc < 0 || ov[1] < ov[0] || ov[0] < at) {
                ok = fj_fail(e, FJ_EINVAL, "an expression gave up at byte %zu of %zu", at, n);
                break;
            }
            fj_str_addn(out, s + done, ov[0] - done);
            fj_str_addn(out, to.p, to.n);
            done = ov[1];
            at = ov[1] > ov[0]
                     ? ov[1]
                     : ov[1] + (ov[1] < end ? FJ_MAX(fj_utf8_len(s + ov[1], end - ov[1]), (size_t)1)
                                            : 1);
        }
        if (!ok) break;
        if (at < end) at = end;
    }
    if (ok && done < n) fj_str_addn(out, s + done, n - done);
    pcre2_match_data_free(md);
    pcre2_match_context_free(mc);
    return ok;
}
