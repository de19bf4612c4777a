/* encode.c - text to ids: cut at added tokens, normalize, cut into words, merge. */
#include "text/tok.h"

/* Words come again and again: what a word became is looked up in the ids already made.  The table
 * lives for one call, so that a tokenizer is shared without locks. */
enum { CACHE_BITS = 12, CACHE_KEY = 23 };
typedef struct cached {
    uint32_t at, count; /* in enc.ids */
    uint8_t n;          /* 0: empty */
    char key[CACHE_KEY];
} cached;

typedef struct enc {
    const fj_tokenizer *t;
    fj_ids *ids;
    unsigned flags;
    fj_bpe_scratch scratch;
    cached *cache; /* NULL: the text is short */
    fj_str a, b;
    fj_pretok pre;
} enc;

/* ---- words -------------------------------------------------------------------------------------- */
/* A character without a token: its bytes, or "unknown", or nothing (counted). */
static size_t fallback(enc *c, fj_sym *y, size_t n, const char *s, size_t len) {
    const fj_tokenizer *t = c->t;
    bool all = t->byte_fallback;
    for (size_t i = 0; i < len && all; i++) all = t->byte_id[(unsigned char)s[i]] >= 0;
    if (all) {
        for (size_t i = 0; i < len; i++) y[n++].id = t->byte_id[(unsigned char)s[i]];
    } else if (t->unk >= 0) {
        if (!(t->fuse_unk && n && y[n - 1].id == t->unk)) y[n++].id = t->unk;
    } else c->ids->dropped += len;
    return n;
}

static bool merge_word(enc *c, const char *s, size_t n, fj_err *e) {
    const fj_tokenizer *t = c->t;
    if (t->ignore_merges) {
        const int64_t *id = fj_map_get(t->byte_level ? &t->words : &t->ids, s, n);
        if (id && t->type[*id] == FJ_TOKEN_NORMAL) {
            fj_ids_push(c->ids, (int32_t)*id);
            return true;
        }
    }
    if (n > c->scratch.sym_cap) {
        free(c->scratch.sym);
        c->scratch.sym_cap = 0;
        c->scratch.sym = fj_try_alloc(n + 64, sizeof *c->scratch.sym, "the symbols of a word", e);
        if (!c->scratch.sym) return false;
        c->scratch.sym_cap = n + 64;
    }
    fj_sym *y = c->scratch.sym;
    size_t k = 0;
    if (t->byte_level) {
        for (size_t i = 0; i < n; i++) {
            int32_t id = t->byte_id[(unsigned char)s[i]];
            if (id >= 0) y[k++].id = id;
            else k = fallback(c, y, k, s + i, 1);
        }
    } else {
        for (size_t i = 0, len; i < n; i += len) {
            len = fj_utf8_len(s + i, n - i);
            const int64_t *id = len ? fj_map_get(&t->syms, s + i, len) : NULL;
            if (!len) len = 1;
            if (id) y[k++].id = (int32_t)*id;
            else k = fallback(c, y, k, s + i, len);
        }
    }
    k = fj_bpe_merge(t, &c->scratch, k);
    for (size_t i = 0; i < k; i++) {
        if (y[i].id < t->n) {
            fj_ids_push(c->ids, y[i].id);
            continue;
        }
        fj_bytes p = t->pseudo[y[i].id - t->n];
        fj_sym bytes[4];
        size_t m = fallback(c, bytes, 0, p.p, p.n);
        for (size_t j = 0; j < m; j++) fj_ids_push(c->ids, bytes[j].id);
    }
    return true;
}

static bool word(enc *c, const char *s, size_t n, fj_err *e) {
    if (n > CACHE_KEY || !c->cache) return merge_word(c, s, n, e);
    cached *h = &c->cache[fj_hash(s, n) >> (64 - CACHE_BITS)];
    fj_ids *ids = c->ids;
    if (h->n == n && memcmp(h->key, s, n) == 0) {
        FJ_GROW(ids->p, ids->n + h->count, ids->cap);
        for (uint32_t i = 0; i < h->count; i++) ids->p[ids->n + i] = ids->p[h->at + i];
        ids->n += h->count;
        return true;
    }
    size_t at = ids->n, dropped = ids->dropped;
    if (!merge_word(c, s, n, e)) return false;
    if (at <= UINT32_MAX && dropped == ids->dropped) {
        h->n = (uint8_t)n;
        h->at = (uint32_t)at;
        h->count = (uint32_t)(ids->n - at);
        memcpy(h->key, s, n);
    }
    return true;
}

static bool on_word(void *ctx, const char *s, size_t n, fj_err *e) {
    enc *c = ctx;
    if (!c->t->cut_meta) return word(c, s, n, e);
    /* "a_b" may be cut before "_" (U+2581) when no piece crosses that border. */
    size_t start = 0;
    while (start < n) {
        size_t at = start;
        while (n - at >= 3 && memcmp(s + at, FJ_META, 3) == 0) at += 3;
        const char *hit = fj_find_bytes(s + at, n - at, FJ_META, 3);
        size_t to = hit ? (size_t)(hit - s) : n;
        if (!word(c, s + start, to - start, e)) return false;
        start = to;
    }
    return true;
}

/* ---- added tokens -------------------------------------------------------------------------------- */
/* Oniguruma's \w and \s, as far as they meet the border of an added token. */
static bool word_char(uint32_t c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= 0xc0 && c != 0xd7 && c != 0xf7 && !(c >= 0x2000 && c <= 0x206f) &&
            !(c >= 0x3000 && c <= 0x3004));
}
static size_t space_after(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && (s[i] == ' ' || (s[i] >= '\t' && s[i] <= '\r'))) i++;
    return i;
}
static size_t space_before(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && (s[n - 1 - i] == ' ' || (s[n - 1 - i] >= '\t' && s[n - 1 - i] <= '\r'))) i++;
    return i;
}
static bool alone(const char *s, size_t n, size_t from, size_t to) {
    if (from) {
        size_t b = from - 1;
        while (b && from - b < 4 && ((unsigned char)s[b] & 0xc0) == 0x80) b--;
        size_t k = fj_utf8_len(s + b, from - b);
        if (k == from - b && word_char(fj_utf8_get(s + b, k))) return false;
    }
    size_t k = to < n ? fj_utf8_len(s + to, n - to) : 0;
    return !(k && word_char(fj_utf8_get(s + to, k)));
}

/* Longest token of the set that begins at s[0]. */
static const fj_tok_added *match_at(const fj_added_set *set, const char *s, size_t n,
                                    bool special) {
    size_t lo = set->first[(unsigned char)s[0]], hi = set->first[(unsigned char)s[0] + 1];
    const fj_tok_added *best = NULL;
    for (size_t d = 1; lo < hi; d++) {
        for (; lo < hi && set->v[lo].text.n == d; lo++)
            if (special || !set->v[lo].special) best = &set->v[lo];
        if (lo == hi || d >= n) break;
        unsigned char want = (unsigned char)s[d];
        size_t a = lo, b = hi;
        while (a < b) {
            size_t m = (a + b) / 2;
            if ((unsigned char)set->v[m].text.p[d] < want) a = m + 1;
            else b = m;
        }
        lo = a;
        b = hi;
        while (a < b) {
            size_t m = (a + b) / 2;
            if ((unsigned char)set->v[m].text.p[d] <= want) a = m + 1;
            else b = m;
        }
        hi = a;
    }
    return best;
}

typedef bool (*text_fn)(enc *c, const char *s, size_t n, bool first, fj_err *e);

static bool cut(enc *c, const fj_added_set *set, const char *s, size_t n, bool first, text_fn text,
                fj_err *e) {
    bool special = c->flags & FJ_TOK_SPECIAL;
    size_t start = 0;
    for (size_t i = 0; set->n && i < n;) {
        unsigned char b = (unsigned char)s[i];
        const fj_tok_added *a =
            set->first[b] < set->first[b + 1] ? match_at(set, s + i, n - i, special) : NULL;
        if (!a || (a->single_word && !alone(s, n, i, i + a->text.n))) {
            i += a ? a->text.n : 1;
            continue;
        }
        size_t from = i, to = i + a->text.n;
        if (a->lstrip) from -= space_before(s + start, from - start);
        if (a->rstrip) to += space_after(s + to, n - to);
        if (from > start && !text(c, s + start, from - start, first && start == 0, e)) return false;
        fj_ids_push(c->ids, a->id);
        start = i = to;
    }
    return start < n ? text(c, s + start, n - start, first && start == 0, e) : true;
}

static bool plain(enc *c, const char *s, size_t n, bool first, fj_err *e) {
    c->pre.at_start = first;
    return fj_pretok_run(&c->pre, s, n, e);
}

static bool raw(enc *c, const char *s, size_t n, bool first, fj_err *e) {
    fj_bytes out;
    if (!fj_normalize(c->t->norms, c->t->n_norms, s, n, &c->a, &c->b, &out, e)) return false;
    return cut(c, &c->t->normed, out.p, out.n, first, plain, e);
}

bool fj_tokenize(const fj_tokenizer *t, const char *text, size_t n, unsigned flags, fj_ids *ids,
                 fj_err *e) {
    if (n > (size_t)1 << 30)
        return fj_fail(e, FJ_EINVAL, "text of %zu bytes; at most 1 GiB at once", n);
    enc c = { .t = t, .ids = ids, .flags = flags };
    if (!fj_pretok_init(&c.pre, t->pres, t->n_pres, on_word, &c, e)) return false;
    if (n >= 512) c.cache = fj_zalloc(sizeof *c.cache << CACHE_BITS);
    size_t before = ids->n;
    for (size_t i = 0; flags & FJ_TOK_BOS && i < t->n_prefix; i++) fj_ids_push(ids, t->prefix[i]);
    bool ok = n ? cut(&c, &t->raw, text, n, true, raw, e) : true;
    for (size_t i = 0; ok && flags & FJ_TOK_EOS && i < t->n_suffix; i++)
        fj_ids_push(ids, t->suffix[i]);
    if (!ok) ids->n = before;
    free(c.cache);
    fj_pretok_free(&c.pre);
    fj_bpe_scratch_free(&c.scratch);
    fj_str_free(&c.a);
    fj_str_free(&c.b);
    return ok;
}

bool fj_each_word(const fj_tokenizer *t, const char *text, size_t n, fj_word_fn fn, void *ctx,
                  fj_err *e) {
    fj_ids none = { 0 };
    enc c = { .t = t, .ids = &none, .flags = FJ_TOK_SPECIAL };
    if (!fj_pretok_init(&c.pre, t->pres, t->n_pres, fn, ctx, e)) return false;
    bool ok = n ? cut(&c, &t->raw, text, n, true, raw, e) : true;
    fj_ids_free(&none);
    fj_pretok_free(&c.pre);
    fj_str_free(&c.a);
    fj_str_free(&c.b);
    return ok;
}

void fj_ids_push(fj_ids *ids, int32_t id) {
    FJ_GROW(ids->p, ids->n + 1, ids->cap);
    ids->p[ids->n++] = id;
}
void fj_ids_clear(fj_ids *ids) {
    ids->n = 0;
    ids->dropped = 0;
}
void fj_ids_free(fj_ids *ids) {
    free(ids->p);
    *ids = (fj_ids){ 0 };
}
