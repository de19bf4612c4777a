/* pretok.c - cutting text into the words that BPE merges inside of.
 *
 * Expressions are those of Hugging Face (Oniguruma) in PCRE2 with Unicode properties.  One meaning
 * differs and is rewritten: PCRE2's \s takes U+180E for a space, Unicode and Oniguruma do not. */
#include "text/tok.h"

#define SPACES                                                                                     \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

static bool rewrite(const fj_bytes re, fj_str *out, fj_err *e) {
    int in_class = 0;
    for (size_t i = 0; i < re.n; i++) {
        char c = re.p[i];
        if (c == '\\' && i + 1 < re.n) {
            char d = re.p[++i];
            if (d == 's' && in_class) fj_str_add(out, SPACES);
            else if (d == 's') fj_str_add(out, "[" SPACES "]");
            else if (d == 'S' && !in_class) fj_str_add(out, "[^" SPACES "]");
            else if (d == 'S')
                return fj_fail(e, FJ_EUNSUP,
                               "pre-tokenizer expression has \\S inside a class: %.*s",
                               (int)FJ_MIN(re.n, 200), re.p);
            else {
                fj_str_addc(out, c);
                fj_str_addc(out, d);
            }
            continue;
        }
        if (c == '[' && in_class) {
            /* Oniguruma nests classes; PCRE2 takes the bracket for itself. */
            if (i + 1 < re.n && re.p[i + 1] == ':') fj_str_addc(out, c);
            else
                return fj_fail(e, FJ_EUNSUP,
                               "pre-tokenizer expression has a class in a class: %.*s",
                               (int)FJ_MIN(re.n, 200), re.p);
            while (i + 1 < re.n && re.p[i + 1] != ']') fj_str_addc(out, re.p[++i]);
            if (i + 1 < re.n) fj_str_addc(out, re.p[++i]);
            continue;
        }
        if (c == '&' && in_class && i + 1 < re.n && re.p[i + 1] == '&')
            return fj_fail(e, FJ_EUNSUP, "pre-tokenizer expression intersects classes (&&): %.*s",
                           (int)FJ_MIN(re.n, 200), re.p);
        if (c == '[') in_class = 1;
        if (c == ']') in_class = 0;
        fj_str_addc(out, c);
    }
    return true;
}

pcre2_code *fj_pre_compile(const fj_tok_pre *p, fj_err *e) {
    fj_str re = { 0 };
    uint32_t opt = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    if (p->literal) {
        fj_str_addn(&re, p->regex.p, p->regex.n);
        opt = PCRE2_UTF | PCRE2_LITERAL;
    } else if (!rewrite(p->regex, &re, e)) {
        fj_str_free(&re);
        return NULL;
    }
    if (!re.n) fj_str_addn(&re, "", 0);
    int code;
    PCRE2_SIZE at;
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)re.s, re.n, opt, &code, &at, NULL);
    if (!c) {
        PCRE2_UCHAR why[160];
        pcre2_get_error_message(code, why, sizeof why);
        fj_fail(e, FJ_EFORMAT, "pre-tokenizer expression, at character %zu: %s: %.*s", (size_t)at,
                (const char *)why, (int)FJ_MIN(re.n, 200), re.s);
    } else {
        pcre2_jit_compile(c,
                          PCRE2_JIT_COMPLETE); /* no JIT on this processor: the interpreter runs */
    }
    fj_str_free(&re);
    return c;
}

bool fj_pretok_init(fj_pretok *p, const fj_pre_step *steps, size_t n, fj_word_fn word, void *ctx,
                    fj_err *e) {
    *p = (fj_pretok){ .steps = steps, .n = n, .word = word, .ctx = ctx };
    bool regex = false;
    for (size_t i = 0; i < n; i++) regex |= steps[i].d.kind == FJ_PRE_SPLIT;
    if (!regex) return true;
    p->md = pcre2_match_data_create(1, NULL);
    p->mc = pcre2_match_context_create(NULL);
    if (!p->md || !p->mc) {
        fj_pretok_free(p);
        return fj_fail(e, FJ_ENOMEM, "no memory for the pre-tokenizer");
    }
    pcre2_set_heap_limit(p->mc, 64 << 10); /* KiB; only the interpreter uses it */
    return true;
}

void fj_pretok_free(fj_pretok *p) {
    pcre2_match_data_free(p->md);
    pcre2_match_context_free(p->mc);
    for (size_t i = 0; i < FJ_PRE_MAX; i++) fj_str_free(&p->buf[i]);
    *p = (fj_pretok){ 0 };
}

static bool apply(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e);

static bool piece(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    return n ? apply(p, k + 1, s, n, e) : true;
}

/* s is valid UTF-8.  How matches and the text between them become pieces is what `tokenizers` calls
 * the behavior. */
static bool split(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    const fj_pre_step *st = &p->steps[k];
    size_t at = 0;    /* search from here */
    size_t start = 0; /* not given on yet */
    size_t budget = n + 64;
    pcre2_set_match_limit(p->mc,
                          (uint32_t)FJ_MIN((uint64_t)10000000 + 64 * (uint64_t)n, UINT32_MAX));
    while (at < n) {
        uint32_t opt = PCRE2_NO_UTF_CHECK;
        int rc = pcre2_match(st->re, (PCRE2_SPTR)s, n, at, opt, p->md, p->mc);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(st->re, (PCRE2_SPTR)s, n, at, opt | PCRE2_NO_JIT, p->md, p->mc);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) {
            PCRE2_UCHAR why[120];
            pcre2_get_error_message(rc, why, sizeof why);
            return fj_fail(e, FJ_EINVAL, "pre-tokenizer expression gave up at byte %zu of %zu: %s",
                           at, n, (const char *)why);
        }
        const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(p->md);
        size_t from = ov[0], to = ov[1];
        if (to < from || budget-- == 0) /* \K in a lookahead can do this */
            return fj_fail(e, FJ_EINVAL, "pre-tokenizer expression matches backwards");
        if (to == from) { /* empty: step over one character */
            at = to < n ? to + FJ_MAX(fj_utf8_len(s + to, n - to), (size_t)1) : n;
            if (st->d.keep == FJ_KEEP_ISOLATED && !st->d.invert && from > start) {
                if (!piece(p, k, s + start, from - start, e)) return false;
                start = from;
            }
            continue;
        }
        bool ok = true;
        fj_pre_keep keep = st->d.keep;
        if (keep == FJ_KEEP_ISOLATED) {
            ok = piece(p, k, s + start, from - start, e) && piece(p, k, s + from, to - from, e);
            start = to;
        } else if (keep == FJ_KEEP_REMOVED) {
            ok = st->d.invert ? piece(p, k, s + from, to - from, e)
                              : piece(p, k, s + start, from - start, e);
            start = to;
        } else if (keep == FJ_KEEP_PREVIOUS) {
            ok = piece(p, k, s + start, to - start, e);
            start = to;
        } else {
            ok = piece(p, k, s + start, from - start, e);
            start = from;
        }
        if (!ok) return false;
        at = to;
    }
    if (st->d.keep == FJ_KEEP_REMOVED && st->d.invert) return true;
    return piece(p, k, s + start, n - start, e);
}

static bool apply(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    if (k == p->n) return p->word(p->ctx, s, n, e);
    const fj_tok_pre *d = &p->steps[k].d;
    if (d->kind == FJ_PRE_SPLIT) {
        for (size_t i = 0; i < n;) {
            size_t valid = fj_utf8_span(s + i, n - i);
            if (valid && !split(p, k, s + i, valid, e)) return false;
            i += valid;
            size_t bad = 0; /* bytes that are not text: one piece of their own */
            while (i + bad < n && !fj_utf8_len(s + i + bad, n - i - bad)) bad++;
            if (bad && !apply(p, k + 1, s + i, bad, e)) return false;
            i += bad;
        }
        return true;
    }
    fj_str *b = &p->buf[k];
    if (d->kind == FJ_PRE_SPACE) {
        if (s[0] == ' ') return apply(p, k + 1, s, n, e);
        fj_str_clear(b);
        fj_str_addc(b, ' ');
        fj_str_addn(b, s, n);
        return apply(p, k + 1, b->s, b->n, e);
    }
    fj_str_clear(b);
    bool has = s[0] == ' ' || (n >= 3 && memcmp(s, FJ_META, 3) == 0);
    if (!has && (d->prefix == FJ_PREFIX_ALWAYS || (d->prefix == FJ_PREFIX_FIRST && p->at_start)))
        fj_str_add(b, FJ_META);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ') fj_str_add(b, FJ_META);
        else fj_str_addc(b, s[i]);
    }
    if (!d->split) return apply(p, k + 1, b->s, b->n, e);
    for (size_t i = 0; i < b->n;) {
        const char *next =
            b->n - i > 3 ? fj_find_bytes(b->s + i + 1, b->n - i - 1, FJ_META, 3) : NULL;
        size_t to = next ? (size_t)(next - b->s) : b->n;
        if (!apply(p, k + 1, b->s + i, to - i, e)) return false;
        i = to;
    }
    return true;
}

bool fj_pretok_run(fj_pretok *p, const char *s, size_t n, fj_err *e) {
    return n ? apply(p, 0, s, n, e) : true;
}
