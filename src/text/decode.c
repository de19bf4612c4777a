/* decode.c - ids to text.  What a token becomes is worked out once, when the tokenizer is built: inside a
 * text, and where they differ, at its start. */
#include "text/tok.h"

/* ---- one token through the decoder steps -------------------------------------------------------- */
static void swap_all(fj_str *s, const char *a, const char *b) {
    fj_str out = { 0 };
    size_t n = strlen(a);
    const char *p = s->s, *end = s->s + s->n;
    for (const char *hit; (hit = fj_find_bytes(p, (size_t)(end - p), a, n)); p = hit + n) {
        fj_str_addn(&out, p, (size_t)(hit - p));
        fj_str_add(&out, b);
    }
    fj_str_addn(&out, p, (size_t)(end - p));
    free(s->s);
    *s = out;
}

/* What `tokenizers` calls cleanup, in its order. */
static void clean(fj_str *s) {
    static const char *const v[][2] = {
        { " .", "." },   { " ?", "?" },     { " !", "!" },    { " ,", "," },
        { " ' ", "'" },  { " n't", "n't" }, { " 'm", "'m" },  { " do not", " don't" },
        { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" }
    };
    if (!s->n || !memchr(s->s, ' ', s->n)) return;
    for (size_t i = 0; i < FJ_LEN(v); i++) swap_all(s, v[i][0], v[i][1]);
}

static void byte_level(fj_str *s) {
    fj_str out = { 0 };
    for (size_t i = 0, k; i < s->n; i += k) {
        k = fj_utf8_len(s->s + i, s->n - i);
        int c = k ? fj_char_byte(fj_utf8_get(s->s + i, k)) : -1;
        if (c < 0) { /* not spelled in stand-ins */
            fj_str_free(&out);
            return;
        }
        fj_str_addc(&out, (char)c);
    }
    fj_str_free(s);
    *s = out;
}

static bool begins(const fj_str *s, fj_bytes a) {
    return a.n && s->n >= a.n && memcmp(s->s, a.p, a.n) == 0;
}

static void strip(fj_str *s, const fj_tok_dec *d) {
    size_t from = 0, to = s->n;
    if (!d->a.n) return;
    for (int i = 0; i < d->left && to - from >= d->a.n && !memcmp(s->s + from, d->a.p, d->a.n); i++)
        from += d->a.n;
    for (int i = 0;
         i < d->right && to - from >= d->a.n && !memcmp(s->s + to - d->a.n, d->a.p, d->a.n); i++)
        to -= d->a.n;
    if (from) memmove(s->s, s->s + from, to - from);
    s->n = to - from;
}

static void put_front(fj_str *s, char c) {
    fj_str_addc(s, c);
    memmove(s->s + 1, s->s, s->n - 1);
    s->s[0] = c;
}

static bool step(const fj_tok_dec *d, const pcre2_code *re, bool first, fj_str *s, fj_err *e) {
    fj_str out = { 0 };
    int b;
    switch (d->kind) {
    case FJ_DEC_BYTE_LEVEL: byte_level(s); break;
    case FJ_DEC_BYTES:
        if ((b = fj_byte_piece((fj_bytes){ s->s, s->n })) < 0) break;
        fj_str_clear(s);
        fj_str_addc(s, (char)b);
        break;
    case FJ_DEC_STRIP: strip(s, d); break;
    case FJ_DEC_REPLACE:
        if (re) {
            if (!fj_regex_replace(re, s->s, s->n, d->b, &out, e)) return false;
            fj_str_free(s);
            *s = out;
        } else swap_all(s, d->a.p, d->b.p);
        break;
    case FJ_DEC_META: swap_all(s, FJ_META, first && d->strip ? "" : " "); break;
    case FJ_DEC_WORDPIECE:
        if (!first) {
            if (begins(s, d->a)) {
                s->n -= d->a.n;
                memmove(s->s, s->s + d->a.n, s->n);
            } else put_front(s, ' ');
        }
        if (d->clean) clean(s);
        break;
    case FJ_DEC_SUFFIX: swap_all(s, d->a.p, " "); break;
    case FJ_DEC_CTC:
        if (d->a.n) swap_all(s, d->a.p, "");
        if (!d->clean) break;
        clean(s);
        if (d->b.n) swap_all(s, d->b.p, " ");
        break;
    case FJ_DEC_FUSE: break;
    }
    return true;
}

static bool decoded(const fj_tokenizer *t, pcre2_code *const *re, int32_t id, bool first, fj_str *s,
                    fj_err *e) {
    fj_bytes p = t->piece[id];
    fj_str_clear(s);
    fj_str_addn(s, p.p, p.n);
    /* Control tokens are shown as they are spelled; so are the user's, which are not spelled in bytes. */
    if (t->type[id] == FJ_TOKEN_CONTROL || t->type[id] == FJ_TOKEN_UNKNOWN) return true;
    if (t->type[id] == FJ_TOKEN_BYTE)
        return step(&(fj_tok_dec){ .kind = FJ_DEC_BYTES }, NULL, first, s, e);
    for (size_t i = 0; i < t->n_decs; i++) {
        if (t->decs[i].kind == FJ_DEC_FUSE) break;
        if (t->decs[i].kind == FJ_DEC_BYTE_LEVEL && t->type[id] == FJ_TOKEN_USER) continue;
        if (!step(&t->decs[i], re[i], first, s, e)) return false;
    }
    return true;
}

/* Steps that look at a token by itself give the bytes of one place of the text or the other. */
static bool by_place(const fj_tokenizer *t) {
    for (size_t i = 0; i < t->n_decs; i++)
        if (t->decs[i].kind == FJ_DEC_WORDPIECE ||
            (t->decs[i].kind == FJ_DEC_META && t->decs[i].strip))
            return true;
    return false;
}

static fj_bytes keep(fj_tokenizer *t, const fj_str *s, fj_bytes piece) {
    if (s->n == piece.n && (!s->n || !memcmp(s->s, piece.p, s->n))) return piece;
    return (fj_bytes){ fj_arena_strndup(&t->mem, s->s ? s->s : "", s->n), s->n };
}

/* The usual case, most of the time of loading a large vocabulary: stand-ins in place. */
static bool only_byte_level(fj_tokenizer *t) {
    if (t->n_decs != 1 || t->decs[0].kind != FJ_DEC_BYTE_LEVEL) return false;
    size_t total = 0;
    for (int32_t i = 0; i < t->n; i++) total += t->type[i] == FJ_TOKEN_NORMAL ? t->piece[i].n : 0;
    char *out = fj_arena_alloc(&t->mem, total + 1);
    for (int32_t i = 0; i < t->n; i++) {
        fj_bytes p = t->piece[i];
        t->bytes[i] = p;
        if (t->type[i] != FJ_TOKEN_NORMAL) continue;
        size_t n = 0, k = 0;
        for (size_t at = 0; at < p.n; at += k) {
            unsigned char b = (unsigned char)p.p[at];
            k = b > 32 && b < 127 ? 1 : fj_utf8_len(p.p + at, p.n - at);
            int c = k == 1 ? fj_char_byte(b) : k ? fj_char_byte(fj_utf8_get(p.p + at, k)) : -1;
            if (c < 0) {
                k = 0;
                break;
            }
            out[n++] = (char)c;
        }
        if (!k && p.n) continue;
        t->bytes[i] = (fj_bytes){ out, n };
        out += n;
    }
    return true;
}

bool fj_decoder_build(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    pcre2_code *re[16] = { 0 };
    if (d->n_decs > FJ_LEN(re))
        return fj_fail(e, FJ_EUNSUP, "tokenizer: %zu decoder steps; at most %zu are supported",
                       d->n_decs, FJ_LEN(re));
    t->decs = fj_arena_alloc(&t->mem, (d->n_decs + 1) * sizeof *t->decs);
    bool ok = true, fused = false;
    for (size_t i = 0; i < d->n_decs && ok; i++) {
        fj_tok_dec *x = &t->decs[t->n_decs++];
        *x = d->decs[i];
        x->a.p = fj_arena_strndup(&t->mem, x->a.p ? x->a.p : "", x->a.n);
        x->b.p = fj_arena_strndup(&t->mem, x->b.p ? x->b.p : "", x->b.n);
        bool space = x->a.n == 1 && x->a.p[0] == ' ';
        if (fused && x->kind == FJ_DEC_STRIP && space && x->left <= 1 && !x->right)
            t->strip_left = x->left == 1;
        else if (fused && x->kind != FJ_DEC_FUSE)
            ok =
                fj_fail(e, FJ_EUNSUP,
                        "decoder: behind Fuse only a Strip of one space at the start is supported");
        fused |= x->kind == FJ_DEC_FUSE;
        if (x->kind == FJ_DEC_SUFFIX) t->dec_end = x->a;
        t->ctc |= x->kind == FJ_DEC_CTC;
        if (ok && x->kind == FJ_DEC_REPLACE && x->regex)
            ok = (re[i] = fj_regex(x->a, false, "decoder Replace", e)) != NULL;
    }
    fj_str s = { 0 };
    bool done = ok && only_byte_level(t);
    if (ok && by_place(t)) t->first = fj_zalloc((size_t)t->n * sizeof *t->first);
    for (int32_t i = 0; i < t->n && ok; i++) {
        if (!t->type[i]) continue;
        if (!done) {
            ok = decoded(t, re, i, false, &s, e);
            t->bytes[i] = keep(t, &s, t->piece[i]);
        }
        t->bytes_max = FJ_MAX(t->bytes_max, t->bytes[i].n);
        if (!t->first || !ok) continue;
        ok = decoded(t, re, i, true, &s, e);
        t->first[i] = keep(t, &s, t->bytes[i]);
        t->bytes_max = FJ_MAX(t->bytes_max, t->first[i].n);
    }
    fj_str_free(&s);
    for (size_t i = 0; i < FJ_LEN(re); i++) pcre2_code_free(re[i]);
    return ok;
}

/* ---- texts -------------------------------------------------------------------------------------- */
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

/* Bytes of the next token; *space: one goes in front. */
static fj_bytes shown(const fj_tokenizer *t, fj_detok *d, int32_t id, bool special, bool *space) {
    *space = false;
    bool control = fj_token_is_special(t, id);
    if (control && !special) return (fj_bytes){ "", 0 };
    fj_bytes b = fj_token_bytes(t, id);
    if (t->first && !d->started && b.n) b = t->first[id];
    if (t->ctc) {
        if (d->last == (uint32_t)id + 1) return (fj_bytes){ "", 0 };
        d->last = (uint32_t)id + 1;
    }
    if (!b.n) {
        d->started |= t->first && fj_token_bytes(t, id).n;
        return b;
    }
    if (!d->started && t->strip_left && b.p[0] == ' ') {
        b.p++;
        b.n--;
    }
    d->started = true;
    *space = d->space;
    d->space = false;
    if (t->dec_end.n && !control) {
        fj_bytes p = t->piece[id];
        if (p.n >= t->dec_end.n && b.n &&
            !memcmp(p.p + p.n - t->dec_end.n, t->dec_end.p, t->dec_end.n)) {
            b.n--;
            d->space = true;
        }
    }
    return b;
}

size_t fj_detok_push(const fj_tokenizer *t, fj_detok *d, int32_t id, bool special, char *out) {
    bool space;
    fj_bytes b = shown(t, d, id, special, &space);
    if (!b.n && !space) return 0;
    size_t n = d->n;
    memcpy(out, d->held, n);
    if (space) out[n++] = ' ';
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
        bool space;
        fj_bytes b = shown(t, &d, ids[i], special, &space);
        if (space) fj_str_addc(&s, ' ');
        fj_str_addn(&s, b.p, b.n);
    }
    if (n) *n = s.n;
    return fj_str_take(&s);
}
