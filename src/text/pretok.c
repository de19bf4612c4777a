/* pretok.c - cutting text into the words that the model works inside of. */
#include "text/tok.h"

bool fj_pretok_init(fj_pretok *p, const fj_tokenizer *t, fj_word_fn word, void *ctx, fj_err *e) {
    *p = (fj_pretok){
        .steps = t->pres, .n = t->n_pres, .chars = t->chars, .word = word, .ctx = ctx
    };
    bool regex = false;
    for (size_t i = 0; i < t->n_pres; i++) regex |= t->pres[i].re != NULL;
    if (!regex) return true;
    p->md = pcre2_match_data_create(1, NULL);
    p->mc = pcre2_match_context_create(NULL);
    if (!p->md || !p->mc) {
        fj_pretok_free(p);
        return fj_fail(e, FJ_ENOMEM, "no memory for the pre-tokenizer");
    }
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
    if (!n) return true;
    return k + 1 == p->n ? p->word(p->ctx, s, n, e) : apply(p, k + 1, s, n, e);
}

/* ---- matches to pieces -------------------------------------------------------------------------- */
/* A text is cut into matches and what is between them; `keep` says which of these join.  (What
 * `tokenizers` calls the behavior.) */
typedef struct cutter {
    fj_pretok *p;
    size_t k;
    const char *s;
    fj_pre_keep keep;
    bool invert;
    size_t done;     /* up to here was said */
    size_t from, to; /* a piece that may still grow */
    bool open, was;  /* it is there; the last item was a match */
} cutter;

static bool flush(cutter *c, fj_err *e) {
    bool open = c->open;
    c->open = false;
    return open ? piece(c->p, c->k, c->s + c->from, c->to - c->from, e) : true;
}

static bool item(cutter *c, size_t from, size_t to, bool match, fj_err *e) {
    match ^= c->invert;
    bool was = c->was, join;
    c->was = match;
    switch (c->keep) {
    case FJ_KEEP_ISOLATED: return piece(c->p, c->k, c->s + from, to - from, e);
    case FJ_KEEP_REMOVED: return match ? true : piece(c->p, c->k, c->s + from, to - from, e);
    case FJ_KEEP_PREVIOUS: join = match && !was; break;
    case FJ_KEEP_NEXT: join = !match && was; break;
    default: join = match == was; break;
    }
    if (c->open && join) {
        c->to = to;
        return true;
    }
    if (!flush(c, e)) return false;
    c->open = true;
    c->from = from;
    c->to = to;
    return true;
}

static bool matched(cutter *c, size_t from, size_t to, fj_err *e) {
    if (from > c->done && !item(c, c->done, from, false, e)) return false;
    c->done = to;
    return item(c, from, to, true, e);
}

static bool finish(cutter *c, size_t n, fj_err *e) {
    return (c->done >= n || item(c, c->done, n, false, e)) && flush(c, e);
}

static cutter start(fj_pretok *p, size_t k, const char *s) {
    const fj_tok_pre *d = &p->steps[k].d;
    return (cutter){ .p = p, .k = k, .s = s, .keep = d->keep, .invert = d->invert };
}

/* ---- the steps ---------------------------------------------------------------------------------- */
/* s is valid UTF-8. */
static bool split_regex(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    const fj_pre_step *st = &p->steps[k];
    cutter c = start(p, k, s);
    size_t at = 0, budget = n + 64;
    pcre2_set_match_limit(p->mc,
                          (uint32_t)FJ_MIN((uint64_t)10000000 + 64 * (uint64_t)n, UINT32_MAX));
    /* KiB, where the interpreter must go over one very long run. */
    pcre2_set_heap_limit(p->mc, (uint32_t)FJ_MAX((size_t)64 << 10, n / 4));
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
        if (to < from || from < c.done || budget-- == 0) /* \K in a lookahead can do this */
            return fj_fail(e, FJ_EINVAL, "pre-tokenizer expression matches backwards");
        /* Empty: a place to cut at, and on by one character. */
        at = to > from ? to : to + (to < n ? FJ_MAX(fj_utf8_len(s + to, n - to), (size_t)1) : 1);
        if (!matched(&c, from, to, e)) return false;
    }
    return finish(&c, n, e);
}

static bool split_scan(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    const fj_pre_step *st = &p->steps[k];
    cutter c = start(p, k, s);
    fj_scan_run digits = { 0 };
    for (size_t at = 0, len; at < n; at += len) {
        len = fj_scan_at(st->scan, p->chars, s, n, at, &digits);
        if (len) {
            if (!matched(&c, at, at + len, e)) return false;
        } else len = fj_utf8_len(s + at, n - at);
    }
    return finish(&c, n, e);
}

static bool in_class(const fj_tok_pre *d, const char *s, size_t len) {
    if (d->cls == FJ_CLS_CHAR) return d->regex.n == len && memcmp(s, d->regex.p, len) == 0;
    uint32_t c = fj_utf8_get(s, len);
    if (d->cls == FJ_CLS_SPACE) return fj_char_space(c);
    if (d->cls == FJ_CLS_PUNCT) return fj_char_punct(c);
    return c < 128 ? c >= '0' && c <= '9' : (fj_char_class(c) & FJ_CH_N) != 0;
}

static bool split_class(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    cutter c = start(p, k, s);
    for (size_t at = 0, len; at < n; at += len) {
        len = fj_utf8_len(s + at, n - at);
        bool in = len && in_class(&p->steps[k].d, s + at, len);
        if (!len) len = 1;
        if (in && !matched(&c, at, at + len, e)) return false;
    }
    return finish(&c, n, e);
}

static bool fixed(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    size_t from = 0;
    int count = 0;
    for (size_t at = 0, len; at < n;) {
        len = fj_utf8_len(s + at, n - at);
        at += len ? len : 1;
        if (++count < p->steps[k].d.count && at < n) continue;
        if (!piece(p, k, s + from, at - from, e)) return false;
        from = at;
        count = 0;
    }
    return true;
}

static bool metaspace(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    const fj_tok_pre *d = &p->steps[k].d;
    fj_str *b = &p->buf[k];
    fj_str_clear(b);
    bool has = s[0] == ' ' || (n >= 3 && memcmp(s, FJ_META, 3) == 0);
    if (!has && (d->prefix == FJ_PREFIX_ALWAYS || (d->prefix == FJ_PREFIX_FIRST && p->at_start)))
        fj_str_add(b, FJ_META);
    for (const char *end = s + n; s < end;) {
        const char *sp = memchr(s, ' ', (size_t)(end - s));
        if (!sp) sp = end;
        fj_str_addn(b, s, (size_t)(sp - s));
        if (sp < end) fj_str_addn(b, FJ_META, 3);
        s = sp + 1;
    }
    if (!d->split) return piece(p, k, b->s, b->n, e);
    for (size_t i = 0; i < b->n;) {
        const char *next =
            b->n - i > 3 ? fj_find_bytes(b->s + i + 1, b->n - i - 1, FJ_META, 3) : NULL;
        size_t to = next ? (size_t)(next - b->s) : b->n;
        if (!piece(p, k, b->s + i, to - i, e)) return false;
        i = to;
    }
    return true;
}

static bool apply(fj_pretok *p, size_t k, const char *s, size_t n, fj_err *e) {
    const fj_pre_step *st = &p->steps[k];
    fj_str *b = &p->buf[k];
    char c[4];
    switch (st->d.kind) {
    case FJ_PRE_SPLIT:
        for (size_t i = 0; i < n;) {
            size_t valid = fj_utf8_span(s + i, n - i);
            if (valid && !(st->scan ? split_scan : split_regex)(p, k, s + i, valid, e))
                return false;
            i += valid;
            size_t bad = 0; /* bytes that are not text: one piece of their own */
            while (i + bad < n && !fj_utf8_len(s + i + bad, n - i - bad)) bad++;
            if (bad && !piece(p, k, s + i, bad, e)) return false;
            i += bad;
        }
        return true;
    case FJ_PRE_CLASS: return split_class(p, k, s, n, e);
    case FJ_PRE_FIXED: return fixed(p, k, s, n, e);
    case FJ_PRE_SPACE:
        if (s[0] == ' ') return piece(p, k, s, n, e);
        fj_str_clear(b);
        fj_str_addc(b, ' ');
        fj_str_addn(b, s, n);
        return piece(p, k, b->s, b->n, e);
    case FJ_PRE_BYTES:
        fj_str_clear(b);
        for (size_t i = 0; i < n; i++)
            fj_str_addn(b, c, fj_utf8_put(fj_byte_char((uint8_t)s[i]), c));
        return piece(p, k, b->s, b->n, e);
    case FJ_PRE_METASPACE: break;
    }
    return metaspace(p, k, s, n, e);
}

bool fj_pretok_run(fj_pretok *p, const char *s, size_t n, fj_err *e) {
    if (!n) return true;
    return p->n ? apply(p, 0, s, n, e) : p->word(p->ctx, s, n, e);
}
