/* bpe_train.c - a byte-level BPE vocabulary out of texts (Sennrich et al., 2016, over bytes).
 *
 * Words are counted once; then the most frequent pair becomes a token, again and again.  Counts are
 * kept per pair together with the words it occurs in, so that a merge costs what it changes. */
#include "text/tok.h"

enum { WORD_MAX = 256 };

typedef struct word {
    uint32_t at, n; /* symbols in `pool`; a word only ever shrinks */
    int64_t count;
} word;

typedef struct pair {
    int32_t l, r;
    int64_t count;
    uint32_t version; /* of its newest place in the heap */
    bool changed;
    uint32_t *words; /* where it occurs or did */
    size_t n, cap;
} pair;

typedef struct place {
    int64_t count;
    int32_t l, r;
    uint32_t pair, version;
} place;

typedef struct train {
    fj_map index; /* bytes of a word to word + 1 */
    word *words;
    size_t n_words, words_cap;
    int32_t *pool;
    size_t n_pool, pool_cap;
    int32_t base; /* id of byte 0 */
    fj_map pair_index;
    pair *pairs;
    size_t n_pairs, pairs_cap;
    place *heap;
    size_t n_heap, heap_cap;
    uint32_t *changed;
    size_t n_changed, changed_cap;
} train;

static bool count_word(void *ctx, const char *s, size_t n, fj_err *e) {
    train *t = ctx;
    if (n < 2 || n > WORD_MAX) return true;
    bool fresh;
    int64_t *at = fj_map_put(&t->index, s, n, &fresh);
    if (!fresh) {
        t->words[*at].count++;
        return true;
    }
    if (t->n_pool + n > UINT32_MAX)
        return fj_fail(e, FJ_EINVAL,
                       "vocabulary training: over 4294967295 bytes of different words");
    *at = (int64_t)t->n_words;
    FJ_GROW(t->words, t->n_words + 1, t->words_cap);
    t->words[t->n_words++] = (word){ (uint32_t)t->n_pool, (uint32_t)n, 1 };
    FJ_GROW(t->pool, t->n_pool + n, t->pool_cap);
    for (size_t i = 0; i < n; i++) t->pool[t->n_pool + i] = t->base + (unsigned char)s[i];
    t->n_pool += n;
    return true;
}

static bool first(const place *a, const place *b) {
    if (a->count != b->count) return a->count > b->count;
    return a->l != b->l ? a->l < b->l : a->r < b->r;
}

static void push(train *t, uint32_t p) {
    pair *q = &t->pairs[p];
    FJ_GROW(t->heap, t->n_heap + 1, t->heap_cap);
    place c = { q->count, q->l, q->r, p, ++q->version };
    size_t i = t->n_heap++;
    for (; i && first(&c, &t->heap[(i - 1) / 2]); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = c;
}

static place pop(train *t) {
    place top = t->heap[0], c = t->heap[--t->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && first(&t->heap[k + 1], &t->heap[k])) k++;
        if (!first(&t->heap[k], &c)) break;
        t->heap[i] = t->heap[k];
    }
    if (t->n_heap) t->heap[i] = c;
    return top;
}

/* Adds what word w says about its pairs, times sign. */
static void tally(train *t, uint32_t w, int sign) {
    const word *x = &t->words[w];
    const int32_t *y = t->pool + x->at;
    for (uint32_t i = 0; i + 1 < x->n; i++) {
        int32_t key[2] = { y[i], y[i + 1] };
        bool fresh;
        int64_t *at = fj_map_put(&t->pair_index, key, sizeof key, &fresh);
        if (fresh) {
            *at = (int64_t)t->n_pairs;
            FJ_GROW(t->pairs, t->n_pairs + 1, t->pairs_cap);
            t->pairs[t->n_pairs++] = (pair){ .l = key[0], .r = key[1] };
        }
        pair *p = &t->pairs[*at];
        p->count += sign * x->count;
        if (sign < 0) continue;
        if (!p->n || p->words[p->n - 1] != w) {
            FJ_GROW(p->words, p->n + 1, p->cap);
            p->words[p->n++] = w;
        }
        if (!p->changed) {
            p->changed = true;
            FJ_GROW(t->changed, t->n_changed + 1, t->changed_cap);
            t->changed[t->n_changed++] = (uint32_t)*at;
        }
    }
}

static void settle(train *t) {
    for (size_t i = 0; i < t->n_changed; i++) {
        t->pairs[t->changed[i]].changed = false;
        push(t, t->changed[i]);
    }
    t->n_changed = 0;
}

static void merge(train *t, uint32_t p, int32_t id) {
    int32_t l = t->pairs[p].l, r = t->pairs[p].r;
    uint32_t *where = t->pairs[p].words; /* taken out: tally may move the pairs */
    size_t n = t->pairs[p].n;
    t->pairs[p].words = NULL;
    t->pairs[p].n = t->pairs[p].cap = 0;
    for (size_t k = 0; k < n; k++) {
        word *x = &t->words[where[k]];
        int32_t *y = t->pool + x->at;
        bool there = false;
        for (uint32_t i = 0; i + 1 < x->n && !there; i++) there = y[i] == l && y[i + 1] == r;
        if (!there) continue;
        tally(t, where[k], -1);
        uint32_t m = 0;
        for (uint32_t i = 0; i < x->n; m++) {
            bool hit = i + 1 < x->n && y[i] == l && y[i + 1] == r;
            y[m] = hit ? id : y[i];
            i += hit ? 2 : 1;
        }
        x->n = m;
        tally(t, where[k], 1);
    }
    free(where);
    settle(t);
}

typedef struct vocab {
    fj_arena mem;
    fj_bytes *piece;
    size_t n, cap;
    fj_tok_merge *merges;
    size_t n_merges, merges_cap;
    fj_tok_added *added;
    fj_map ids;
} vocab;

static void learn(train *t, vocab *v, size_t want) {
    for (size_t w = 0; w < t->n_words; w++) tally(t, (uint32_t)w, 1);
    settle(t);
    fj_str s = { 0 };
    while (t->n_heap && v->n < want) {
        place c = pop(t);
        pair *p = &t->pairs[c.pair];
        if (c.version != p->version) continue;
        if (c.count != p->count) {
            push(t, c.pair);
            continue;
        }
        if (c.count < 2) break;
        fj_bytes l = v->piece[p->l], r = v->piece[p->r];
        fj_str_clear(&s);
        fj_str_addn(&s, l.p, l.n);
        fj_str_addn(&s, r.p, r.n);
        /* "a"+"bc" and "ab"+"c" are one token with two ways to it. */
        bool fresh;
        int64_t *id = fj_map_put(&v->ids, s.s, s.n, &fresh);
        if (fresh) {
            *id = (int64_t)v->n;
            FJ_GROW(v->piece, v->n + 1, v->cap);
            v->piece[v->n++] = (fj_bytes){ fj_arena_strndup(&v->mem, s.s, s.n), s.n };
        }
        FJ_GROW(v->merges, v->n_merges + 1, v->merges_cap);
        v->merges[v->n_merges++] = (fj_tok_merge){ l, r };
        merge(t, c.pair, (int32_t)*id);
    }
    fj_str_free(&s);
}

static bool base_vocab(vocab *v, const fj_bpe_opts *o, fj_tok_desc *d, fj_err *e) {
    if (o->vocab < 256 || o->vocab > 1 << 24 || (size_t)(o->vocab - 256) < o->n_special) {
        fj_fail(e, FJ_EINVAL,
                "vocabulary of %d tokens; expected at least %zu (256 bytes and the special tokens)",
                (int)o->vocab, 256 + o->n_special);
        return false;
    }
    FJ_GROW(v->piece, o->n_special + 256, v->cap);
    v->added = fj_zalloc((o->n_special + 1) * sizeof *v->added);
    for (size_t i = 0; i < o->n_special + 256; i++) {
        char c[4];
        fj_bytes s = { c, 0 };
        if (i < o->n_special) s = (fj_bytes){ o->special[i], strlen(o->special[i]) };
        else s.n = fj_utf8_put(fj_byte_char((uint8_t)(i - o->n_special)), c);
        if (i < o->n_special && (s.n < 2 || fj_utf8_span(s.p, s.n) != s.n))
            return fj_fail(e, FJ_EINVAL,
                           "special token \"%s\": expected at least two bytes of UTF-8",
                           o->special[i]);
        bool fresh;
        *fj_map_put(&v->ids, s.p, s.n, &fresh) = (int64_t)i;
        if (!fresh)
            return fj_fail(e, FJ_EINVAL, "special token \"%s\" is given twice", o->special[i]);
        v->piece[v->n++] = (fj_bytes){ fj_arena_strndup(&v->mem, s.p, s.n), s.n };
        if (i < o->n_special)
            v->added[d->n_added++] =
                (fj_tok_added){ .text = v->piece[i], .id = (int32_t)i, .special = true };
    }
    const char *names[] = { o->bos, o->eos };
    int32_t *to[] = { &d->bos, &d->eos };
    for (int i = 0; i < 2; i++) {
        const int64_t *id = names[i] ? fj_map_get(&v->ids, names[i], strlen(names[i])) : NULL;
        if (names[i] && !id)
            return fj_fail(e, FJ_EINVAL, "\"%s\" is not among the special tokens", names[i]);
        *to[i] = id ? (int32_t)*id : -1;
    }
    return true;
}

static void describe(const vocab *v, fj_tok_desc *d) {
    d->pieces = v->piece;
    d->n = v->n;
    d->merges = v->merges;
    d->n_merges = v->n_merges;
    d->added = v->added;
}

fj_tokenizer *fj_bpe_train(const fj_bytes *texts, size_t n, const fj_bpe_opts *o, fj_err *e) {
    fj_tok_desc d = { .byte_level = true, .bos = -1, .eos = -1, .eot = -1, .unk = -1, .pad = -1 };
    fj_tok_pre pres[FJ_PRE_MAX];
    fj_tok_norm nfc = { .kind = FJ_NORM_NFC };
    const char *pre = o->pre ? o->pre : "gpt-2";
    fj_tok_dec bytes = { .kind = FJ_DEC_BYTE_LEVEL };
    fj_pre_traits traits;
    int steps = fj_pre_by_name(pre, pres, &traits);
    if (steps < 0 || traits.meta) {
        fj_fail(e, FJ_EINVAL,
                "pre-tokenizer \"%s\" is not known; gpt-2, llama-bpe, qwen2, smollm are", pre);
        return NULL;
    }
    d.pres = pres;
    d.n_pres = (size_t)steps;
    d.norms = &nfc;
    d.n_norms = traits.nfc;
    d.ignore_merges = traits.ignore_merges;
    d.decs = &bytes;
    d.n_decs = 1;
    vocab v = { 0 };
    train t = { .base = (int32_t)o->n_special };
    fj_tokenizer *cutter = NULL, *result = NULL;
    bool ok = base_vocab(&v, o, &d, e);
    if (ok) {
        describe(&v, &d);
        cutter = fj_tokenizer_build(&d, e); /* no merges yet: it finds the words */
        ok = cutter != NULL;
    }
    for (size_t i = 0; i < n && ok; i++)
        ok = fj_each_word(cutter, texts[i].p, texts[i].n, count_word, &t, e);
    if (ok) {
        learn(&t, &v, (size_t)o->vocab);
        describe(&v, &d);
        result = fj_tokenizer_build(&d, e);
    }
    fj_tokenizer_free(cutter);
    for (size_t i = 0; i < t.n_pairs; i++) free(t.pairs[i].words);
    free(t.pairs);
    free(t.heap);
    free(t.changed);
    free(t.words);
    free(t.pool);
    fj_map_free(&t.index);
    fj_map_free(&t.pair_index);
    free(v.piece);
    free(v.merges);
    free(v.added);
    fj_map_free(&v.ids);
    fj_arena_free(&v.mem);
    return result;
}
