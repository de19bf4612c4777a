/* merges.c - the table of merges of a BPE, when a tokenizer is built: from a list, or from scores or ranks, by
 * which every way to cut a piece in two is one. */
#include "text/tok.h"

static int32_t *symbol_at(fj_tokenizer *t, const char *s, size_t k) {
    return k < 4 ? &t->sym_low[fj_utf8_get(s, k)] : NULL;
}

static int32_t symbol(const fj_tokenizer *t, const char *s, size_t k) {
    if (k < 4) return t->sym_low[fj_utf8_get(s, k)];
    const int64_t *id = fj_map_get(&t->syms, s, k);
    return id ? (int32_t)*id : -1;
}

/* Symbols that words start from.  With scores, pairs are found by spelling, so a character that is no
 * token itself still counts as a part of those that are. */
static void symbols(fj_tokenizer *t) {
    if (t->byte_level) return;
    t->sym_low = fj_alloc(65536 * sizeof *t->sym_low);
    memset(t->sym_low, 0xff, 65536 * sizeof *t->sym_low);
    for (int32_t i = 0; i < t->n; i++) {
        if (!fj_mergeable(t, i)) continue;
        fj_bytes s = t->piece[i];
        for (size_t at = 0, k; at < s.n; at += k) {
            k = fj_utf8_len(s.p + at, s.n - at);
            if (!k) break;
            int32_t id = i;
            if (k < s.n) {
                if (!t->by_score || symbol(t, s.p + at, k) >= 0 ||
                    fj_spell_get(&t->ids, s.p + at, k) >= 0)
                    continue;
                id = t->n + (int32_t)t->n_pseudo;
                FJ_GROW(t->pseudo, t->n_pseudo + 1, t->pseudo_cap);
                t->pseudo[t->n_pseudo++] = (fj_bytes){ s.p + at, k };
            }
            int32_t *low = symbol_at(t, s.p + at, k);
            if (low) *low = id;
            else *fj_map_put(&t->syms, s.p + at, k, NULL) = id;
        }
    }
}

static int32_t part(const fj_tokenizer *t, const char *s, size_t n) {
    int32_t id = fj_spell_get(&t->ids, s, n);
    if (id >= 0) return fj_mergeable(t, id) ? id : -1;
    return t->sym_low && fj_utf8_len(s, n) == n ? symbol(t, s, n) : -1;
}

typedef struct fj_found {
    int32_t l, r, id;
    uint32_t rank;
} fj_found;

static void table(fj_tokenizer *t, size_t n) {
    uint64_t cap = 64;
    while (cap < n + n / 2) cap *= 2;
    t->merge_mask = cap - 1;
    t->merges = fj_alloc(cap * sizeof *t->merges);
    memset(t->merges, 0xff, cap * sizeof *t->merges);
}

static void put_merge(fj_tokenizer *t, fj_found x) {
    uint64_t key = (uint64_t)(uint32_t)x.l << 32 | (uint32_t)x.r;
    uint64_t k = fj_merge_hash(key) & t->merge_mask;
    while (t->merges[k].key != UINT64_MAX && t->merges[k].key != key) k = (k + 1) & t->merge_mask;
    t->n_merges += t->merges[k].key != key;
    t->merges[k] = (fj_merge_slot){ key, x.rank, x.id };
}

static int by_score_desc(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

static bool merges_of_scores(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    fj_found *v = NULL;
    size_t n = 0;
    double *sorted = fj_alloc(d->n * sizeof *sorted);
    size_t cap = 0, distinct = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (d->scores[i] != d->scores[i]) {
            free(sorted);
            return fj_fail(e, FJ_EFORMAT, "tokenizer: score of token %zu is not a number", i);
        }
        sorted[i] = d->scores[i];
    }
    qsort(sorted, d->n, sizeof *sorted, by_score_desc);
    for (size_t i = 0; i < d->n; i++)
        if (!i || sorted[i] != sorted[i - 1]) sorted[distinct++] = sorted[i];
    for (int32_t i = 0; i < t->n; i++) {
        fj_bytes s = t->piece[i];
        if (!fj_mergeable(t, i) || fj_utf8_span(s.p, s.n) != s.n) continue;
        if (s.n > 4096) { /* the pairs of a piece cost the square of its length */
            free(sorted);
            free(v);
            return fj_fail(e, FJ_EFORMAT,
                           "tokenizer: token %d has %zu bytes; expected at most 4096", (int)i, s.n);
        }
        size_t lo = 0, hi = distinct;
        while (hi - lo > 1) {
            size_t mid = (lo + hi) / 2;
            if (sorted[mid] >= d->scores[i]) lo = mid;
            else hi = mid;
        }
        for (size_t at = fj_utf8_len(s.p, FJ_MAX(s.n, (size_t)1)); at < s.n;
             at += fj_utf8_len(s.p + at, s.n - at)) {
            int32_t l = part(t, s.p, at), r = part(t, s.p + at, s.n - at);
            if (l < 0 || r < 0) continue;
            FJ_GROW(v, n + 1, cap);
            v[n++] = (fj_found){ l, r, i, (uint32_t)lo };
        }
    }
    free(sorted);
    table(t, n);
    for (size_t i = 0; i < n; i++) put_merge(t, v[i]);
    free(v);
    return true;
}

static int32_t joined(const fj_tokenizer *t, fj_bytes l, fj_bytes r, int32_t guess, fj_str *tmp) {
    /* Most vocabularies number the results in the order of the merges. */
    if (guess >= 0 && guess < t->n && t->piece[guess].n == l.n + r.n &&
        !memcmp(t->piece[guess].p, l.p, l.n) && !memcmp(t->piece[guess].p + l.n, r.p, r.n))
        return guess;
    fj_str_clear(tmp);
    fj_str_addn(tmp, l.p, l.n);
    fj_str_addn(tmp, r.p, r.n);
    return fj_spell_get(&t->ids, tmp->s, tmp->n);
}

static bool merges_given(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    fj_str tmp = { 0 };
    bool ok = true;
    int32_t c = -1;
    table(t, d->n_merges);
    t->merge_list = fj_alloc((d->n_merges + 1) * sizeof *t->merge_list);
    /* The tables are larger than a cache: their places are asked for some merges ahead of their use. */
    enum { AHEAD = 16 };
    fj_found late[AHEAD];
    size_t n_late = 0;
    for (size_t i = 0; i < d->n_merges && ok; i++) {
        fj_bytes l = d->merges[i].l, r = d->merges[i].r, rest = r;
        if (i + AHEAD < d->n_merges) {
            fj_spell_ask(&t->ids, d->merges[i + AHEAD].l);
            fj_spell_ask(&t->ids, d->merges[i + AHEAD].r);
        }
        int32_t a = fj_spell_get(&t->ids, l.p, l.n), b = fj_spell_get(&t->ids, r.p, r.n);
        if (t->cont.n &&
            r.n >= t->cont.n) { /* what continues a word loses its mark inside of one */
            rest.p += t->cont.n;
            rest.n -= t->cont.n;
        }
        c = joined(t, l, rest, c + 1, &tmp);
        if (a < 0 || b < 0 || c < 0) {
            ok = fj_fail(e, FJ_EFORMAT,
                         "tokenizer: merge %zu (\"%.*s\" + \"%.*s\"): %s is not in the vocabulary",
                         i, (int)FJ_MIN(l.n, (size_t)60), l.p, (int)FJ_MIN(r.n, (size_t)60), r.p,
                         a < 0   ? "the left part"
                         : b < 0 ? "the right part"
                                 : "the result");
            break;
        }
        t->merge_list[t->n_merge_list++] = (fj_pair){ a, b };
        /* Text must not be able to grow into a control token. */
        if (t->type[c] == FJ_TOKEN_CONTROL) continue;
        uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
        __builtin_prefetch(&t->merges[fj_merge_hash(key) & t->merge_mask], 1);
        if (n_late == AHEAD) {
            for (size_t k = 0; k < AHEAD; k++) put_merge(t, late[k]);
            n_late = 0;
        }
        late[n_late++] = (fj_found){ a, b, c, (uint32_t)i };
    }
    for (size_t k = 0; k < n_late; k++) put_merge(t, late[k]);
    fj_str_free(&tmp);
    return ok;
}

/* Words may be cut before U+2581 when nothing can grow over that border. */
static bool cuts_at_meta(const fj_tokenizer *t) {
    if (t->byte_level || !t->sym_low || t->sym_low[0x2581] < 0 || t->cont.n || t->word_end.n)
        return false;
    for (uint64_t i = 0; i <= t->merge_mask; i++) {
        if (t->merges[i].key == UINT64_MAX) continue;
        fj_bytes s = t->piece[t->merges[i].id];
        const char *p = s.p;
        while (s.n - (size_t)(p - s.p) >= 3 && !memcmp(p, FJ_META, 3)) p += 3;
        if (fj_find_bytes(p, s.n - (size_t)(p - s.p), FJ_META, 3)) return false;
    }
    return true;
}

bool fj_build_merges(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    symbols(t);
    if (!(d->by_score ? merges_of_scores : merges_given)(t, d, e)) return false;
    t->cut_meta = cuts_at_meta(t);
    return true;
}
