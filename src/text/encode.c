/* encode.c - text to ids: cut at added tokens, normalize, cut into words, and every word by the model. */
#include "text/tok.h"

#include <pthread.h>

/* Words come again and again: what a word became is kept.  The table belongs to an encoder, and a
 * tokenizer keeps its encoders for the next text, so that threads share it without sharing a table. */
enum { CACHE_BITS = 14, CACHE_KEY = 24, CACHE_IDS = 9, KEEP = 8 << 20 };
typedef struct cached {
    char key[CACHE_KEY];
    uint8_t n, count; /* n 0: empty */
    int32_t ids[CACHE_IDS];
} cached;

typedef struct enc {
    struct enc *next;
    const fj_tokenizer *t;
    fj_ids *ids;
    unsigned flags;
    fj_bpe_scratch scratch, ahead, pair;
    fj_uni_scratch uni;
    cached *cache;
    fj_str a, b;
    fj_pretok pre;
} enc;

struct fj_enc_pool {
    pthread_mutex_t lock;
    enc *free;
};

/* ---- characters without a token ----------------------------------------------------------------- */
static bool all_bytes(const fj_tokenizer *t, const char *s, size_t n) {
    if (!t->byte_fallback) return false;
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

void fj_put_unknown(const fj_tokenizer *t, const char *s, size_t n, bool fuse, size_t from,
                    fj_ids *ids) {
    if (all_bytes(t, s, n)) {
        for (size_t i = 0; i < n; i++) fj_ids_push(ids, t->byte_id[(unsigned char)s[i]]);
    } else if (t->unk >= 0) {
        if (!(fuse && ids->n > from && ids->p[ids->n - 1] == t->unk)) fj_ids_push(ids, t->unk);
    } else ids->dropped += n;
}

/* ---- BPE ---------------------------------------------------------------------------------------- */
static bool sym_room(fj_bpe_scratch *b, size_t n, fj_err *e) {
    if (n <= b->sym_cap) return true;
    free(b->sym);
    b->sym_cap = 0;
    b->sym = fj_try_alloc(n + 64, sizeof *b->sym, "the symbols of a word", e);
    if (b->sym) b->sym_cap = n + 64;
    return b->sym != NULL;
}

static size_t fallback(enc *c, fj_sym *y, size_t n, const char *s, size_t at, size_t len) {
    const fj_tokenizer *t = c->t;
    if (all_bytes(t, s + at, len)) {
        for (size_t i = 0; i < len; i++)
            y[n++] =
                (fj_sym){ .id = t->byte_id[(unsigned char)s[at + i]], .at = (int32_t)(at + i) };
    } else if (t->unk >= 0) {
        if (!(t->fuse_unk && n && y[n - 1].id == t->unk))
            y[n++] = (fj_sym){ .id = t->unk, .at = (int32_t)at };
    } else c->ids->dropped += len;
    return n;
}

/* A character as it is spelled inside a word, or at its end. */
static int32_t affixed(const fj_tokenizer *t, const char *s, size_t len, bool first, bool last) {
    char buf[256];
    size_t n = 0;
    if (!first) {
        memcpy(buf, t->cont.p, t->cont.n);
        n = t->cont.n;
    }
    memcpy(buf + n, s, len);
    n += len;
    if (last) {
        memcpy(buf + n, t->word_end.p, t->word_end.n);
        n += t->word_end.n;
    }
    int32_t id = fj_spell_get(&t->ids, buf, n);
    return id >= 0 && t->type[id] != FJ_TOKEN_CONTROL ? id : -1;
}

/* Symbols of s[0..n) to b->sym (there is room for n of them); how many. */
static size_t symbols(enc *c, fj_bpe_scratch *b, const char *s, size_t n) {
    const fj_tokenizer *t = c->t;
    fj_sym *y = b->sym;
    size_t k = 0;
    if (t->byte_level && !t->word_end.n && !t->cont.n) {
        for (size_t i = 0; i < n; i++) {
            int32_t id = t->byte_id[(unsigned char)s[i]];
            if (id >= 0) y[k++] = (fj_sym){ .id = id, .at = (int32_t)i };
            else k = fallback(c, y, k, s, i, 1);
        }
        return k;
    }
    bool affixes = t->word_end.n || t->cont.n;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t id = -1;
        len = t->byte_level ? 1 : fj_utf8_len(s + i, n - i);
        if (affixes && t->byte_level) {
            char ch[4];
            id = affixed(t, ch, fj_utf8_put(fj_byte_char((uint8_t)s[i]), ch), i == 0, i + 1 == n);
        } else if (affixes && len) {
            id = affixed(t, s + i, len, i == 0, i + len == n);
        } else if (len && len < 4) {
            id = t->sym_low[fj_utf8_get(s + i, len)];
        } else if (len) {
            const int64_t *x = fj_map_get(&t->syms, s + i, len);
            if (x) id = (int32_t)*x;
        }
        if (!len) len = 1;
        if (id >= 0) y[k++] = (fj_sym){ .id = id, .at = (int32_t)i };
        else k = fallback(c, y, k, s, i, len);
    }
    return k;
}

static void put_symbols(enc *c, const fj_sym *y, size_t k, size_t from) {
    const fj_tokenizer *t = c->t;
    fj_ids *ids = c->ids;
    for (size_t i = 0; i < k; i++) {
        if (y[i].id < t->n) {
            fj_ids_push(ids, y[i].id);
            continue;
        }
        fj_bytes p = t->pseudo[y[i].id - t->n];
        fj_put_unknown(t, p.p, p.n, t->fuse_unk, from, ids);
    }
}

/* A place between characters at or before `at`. */
static size_t border(const fj_tokenizer *t, const char *s, size_t n, size_t at) {
    if (at >= n) return n;
    for (size_t k = 0; !t->byte_level && k < 3 && at - k > 0; k++)
        if (((unsigned char)s[at - k] & 0xc0) != 0x80) return at - k;
    return at;
}

/* Do the tokens of s[0..q) and of s[q..n), one each, stay apart when they stand together? */
static bool apart(enc *c, const char *s, size_t q, size_t n, fj_err *e) {
    if (!sym_room(&c->pair, n, e)) return false;
    size_t k = fj_bpe_merge(c->t, &c->pair, symbols(c, &c->pair, s, n));
    return k == 2 && c->pair.sym[1].at == (int32_t)q;
}

/* Words too long for one go are merged in blocks.  The next merge is always the one of the lowest rank, so
 * in which order the merges of two neighbouring tokens come does not depend on what stands around them, and
 * two tokens that stay apart on their own stay apart inside any text where the sides were merged without each
 * other into these two.  A border between such two is where a block may end.  Where none is found, the block
 * grows. */
enum { BLOCK = 2048, LONG = 2 * BLOCK };
static bool long_word(enc *c, const char *s, size_t n, fj_err *e) {
    const fj_tokenizer *t = c->t;
    size_t from = c->ids->n, at = 0, len = border(t, s, n, BLOCK);
    fj_bpe_scratch *b = &c->scratch;
    if (!sym_room(b, len, e)) return false;
    size_t k = fj_bpe_merge(t, b, symbols(c, b, s, len));
    while (at + len < n) {
        bool cut = false;
        for (size_t j = k; j-- > 2 && k - j < 16 && !cut;) {
            const fj_sym *x = &b->sym[j - 1], *y = &b->sym[j];
            size_t q = at + (size_t)y->at, next = border(t, s + q, n - q, BLOCK);
            if (x->id == t->unk || y->id == t->unk || border(t, s, n, q) != q) continue;
            if (!sym_room(&c->ahead, next, e)) return false;
            size_t m = fj_bpe_merge(t, &c->ahead, symbols(c, &c->ahead, s + q, next));
            if (m < 2) continue;
            size_t first = at + (size_t)x->at, last = q + (size_t)c->ahead.sym[1].at;
            if (!apart(c, s + first, q - first, last - first, e)) continue;
            put_symbols(c, b->sym, j, from);
            fj_bpe_scratch swap = c->ahead;
            c->ahead = *b;
            *b = swap;
            at = q;
            len = next;
            k = m;
            cut = true;
        }
        if (cut) continue;
        len = border(t, s + at, n - at, FJ_MIN(2 * len, n - at));
        if (!sym_room(b, len, e)) return false;
        k = fj_bpe_merge(t, b, symbols(c, b, s + at, len));
    }
    put_symbols(c, b->sym, k, from);
    return true;
}

/* A word in blocks is looked at more than once, so nothing of it may have to be counted as dropped. */
static bool in_blocks(const fj_tokenizer *t, const char *s, size_t n) {
    if (!t->blocks || t->complete) return t->blocks;
    for (size_t i = 0; i < n; i++)
        if (!t->byte_level || t->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

static bool bpe_word(enc *c, const char *s, size_t n, fj_err *e) {
    const fj_tokenizer *t = c->t;
    if (t->ignore_merges) {
        int32_t id = fj_spell_get(t->byte_level ? &t->words : &t->ids, s, n);
        if (id >= 0 && t->type[id] == FJ_TOKEN_NORMAL) {
            fj_ids_push(c->ids, id);
            return true;
        }
    }
    if (n > LONG && in_blocks(t, s, n)) return long_word(c, s, n, e);
    if (!sym_room(&c->scratch, n, e)) return false;
    size_t k = fj_bpe_merge(t, &c->scratch, symbols(c, &c->scratch, s, n));
    put_symbols(c, c->scratch.sym, k, c->ids->n);
    return true;
}

/* ---- words -------------------------------------------------------------------------------------- */
static bool model_word(enc *c, const char *s, size_t n, fj_err *e) {
    const fj_tokenizer *t = c->t;
    switch (t->kind) {
    case FJ_MODEL_BPE: return bpe_word(c, s, n, e);
    case FJ_MODEL_UNIGRAM: return fj_unigram_word(t, &c->uni, s, n, c->ids, e);
    case FJ_MODEL_WORDPIECE: fj_wordpiece_word(t, s, n, c->ids); return true;
    case FJ_MODEL_WORDLEVEL: break;
    }
    int32_t id = fj_spell_get(&t->ids, s, n);
    if (id >= 0 && (t->type[id] == FJ_TOKEN_NORMAL || t->type[id] == FJ_TOKEN_USER))
        fj_ids_push(c->ids, id);
    else fj_put_unknown(t, s, n, false, 0, c->ids);
    return true;
}

static bool word(enc *c, const char *s, size_t n, fj_err *e) {
    if (n > CACHE_KEY) return model_word(c, s, n, e);
    cached *h = &c->cache[fj_word_hash(s, n) >> (64 - CACHE_BITS)];
    fj_ids *ids = c->ids;
    if (h->n == n && memcmp(h->key, s, n) == 0) {
        if (ids->n + CACHE_IDS > ids->cap) FJ_GROW(ids->p, ids->n + CACHE_IDS, ids->cap);
        memcpy(ids->p + ids->n, h->ids, sizeof h->ids); /* more than count, and room for it */
        ids->n += h->count;
        return true;
    }
    size_t at = ids->n, dropped = ids->dropped;
    if (!model_word(c, s, n, e)) return false;
    size_t count = ids->n - at;
    if (count && count <= CACHE_IDS && dropped == ids->dropped) {
        h->n = (uint8_t)n;
        h->count = (uint8_t)count;
        memcpy(h->key, s, n);
        memcpy(h->ids, ids->p + at, count * sizeof *h->ids);
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
static bool word_char(uint32_t c) {
    return c == '_' || (fj_char_class(c) & (FJ_CH_L | FJ_CH_N | FJ_CH_M));
}
static size_t space_after(const char *s, size_t n) {
    size_t i = 0, k;
    while (i < n && (k = fj_utf8_len(s + i, n - i)) && fj_char_space(fj_utf8_get(s + i, k))) i += k;
    return i;
}
static size_t space_before(const char *s, size_t n) {
    size_t i = n;
    while (i) {
        size_t b = i - 1;
        while (b && i - b < 4 && ((unsigned char)s[b] & 0xc0) == 0x80) b--;
        if (fj_utf8_len(s + b, i - b) != i - b || !fj_char_space(fj_utf8_get(s + b, i - b))) break;
        i = b;
    }
    return n - i;
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
    if (!fj_normalize(c->t, s, n, &c->a, &c->b, &out, e)) return false;
    return cut(c, &c->t->normed, out.p, out.n, first, plain, e);
}

/* ---- encoders ------------------------------------------------------------------------------------ */
static void enc_free(enc *c) {
    free(c->cache);
    free(c->uni.node);
    fj_ids_free(&c->uni.back);
    fj_pretok_free(&c->pre);
    fj_bpe_scratch_free(&c->scratch);
    fj_bpe_scratch_free(&c->ahead);
    fj_bpe_scratch_free(&c->pair);
    fj_str_free(&c->a);
    fj_str_free(&c->b);
    free(c);
}

static enc *enc_take(const fj_tokenizer *t, fj_err *e) {
    pthread_mutex_lock(&t->pool->lock);
    enc *c = t->pool->free;
    if (c) t->pool->free = c->next;
    pthread_mutex_unlock(&t->pool->lock);
    if (c) return c;
    c = fj_zalloc(sizeof *c);
    c->t = t;
    c->cache = fj_zalloc(sizeof *c->cache << CACHE_BITS);
    if (fj_pretok_init(&c->pre, t, on_word, c, e)) return c;
    enc_free(c);
    return NULL;
}

/* What a very long text needed is not kept. */
static void enc_give(enc *c) {
    if (c->scratch.sym_cap > KEEP / sizeof(fj_sym)) fj_bpe_scratch_free(&c->scratch);
    if (c->ahead.sym_cap > KEEP / sizeof(fj_sym)) fj_bpe_scratch_free(&c->ahead);
    if (c->uni.cap > KEEP / sizeof(fj_uni_node)) {
        free(c->uni.node);
        fj_ids_free(&c->uni.back);
        c->uni = (fj_uni_scratch){ 0 };
    }
    if (c->a.cap > KEEP) fj_str_free(&c->a);
    if (c->b.cap > KEEP) fj_str_free(&c->b);
    for (size_t i = 0; i < FJ_PRE_MAX; i++)
        if (c->pre.buf[i].cap > KEEP) fj_str_free(&c->pre.buf[i]);
    pthread_mutex_lock(&c->t->pool->lock);
    c->next = c->t->pool->free;
    c->t->pool->free = c;
    pthread_mutex_unlock(&c->t->pool->lock);
}

struct fj_enc_pool *fj_enc_pool_new(void) {
    struct fj_enc_pool *p = fj_zalloc(sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void fj_enc_pool_free(struct fj_enc_pool *p) {
    if (!p) return;
    for (enc *c = p->free, *next; c; c = next) {
        next = c->next;
        enc_free(c);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

bool fj_tokenize(const fj_tokenizer *t, const char *text, size_t n, unsigned flags, fj_ids *ids,
                 fj_err *e) {
    if (n > (size_t)1 << 30)
        return fj_fail(e, FJ_EINVAL, "text of %zu bytes; at most 1 GiB at once", n);
    enc *c = enc_take(t, e);
    if (!c) return false;
    c->ids = ids;
    c->flags = flags;
    size_t before = ids->n;
    for (size_t i = 0; flags & FJ_TOK_BOS && i < t->n_prefix; i++) fj_ids_push(ids, t->prefix[i]);
    bool ok = n ? cut(c, &t->raw, text, n, true, raw, e) : true;
    for (size_t i = 0; ok && flags & FJ_TOK_EOS && i < t->n_suffix; i++)
        fj_ids_push(ids, t->suffix[i]);
    if (!ok) ids->n = before;
    enc_give(c);
    return ok;
}

bool fj_each_word(const fj_tokenizer *t, const char *text, size_t n, fj_word_fn fn, void *ctx,
                  fj_err *e) {
    fj_ids none = { 0 };
    enc c = { .t = t, .ids = &none, .flags = FJ_TOK_SPECIAL };
    if (!fj_pretok_init(&c.pre, t, fn, ctx, e)) return false;
    bool ok = n ? cut(&c, &t->raw, text, n, true, raw, e) : true;
    fj_ids_free(&none);
    fj_pretok_free(&c.pre);
    fj_str_free(&c.a);
    fj_str_free(&c.b);
    return ok;
}

void fj_ids_push(fj_ids *ids, int32_t id) {
    if (ids->n == ids->cap) FJ_GROW(ids->p, ids->n + 1, ids->cap);
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
