/* bpe.c - merging the symbols of one word: lowest rank first, leftmost on ties.
 *
 * Short words scan an array of ranks.  Long ones (a line without spaces can be megabytes) use a
 * heap of candidates over a linked list, n log n. */
#include "text/tok.h"

uint64_t fj_merge_hash(uint64_t k) {
    k *= 0x9e3779b97f4a7c15u;
    return k ^ k >> 32;
}

const fj_merge_slot *fj_merge_find(const fj_tokenizer *t, int32_t l, int32_t r) {
    if (l < 0 || r < 0) return NULL;
    uint64_t key = (uint64_t)(uint32_t)l << 32 | (uint32_t)r;
    for (uint64_t i = fj_merge_hash(key) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
        const fj_merge_slot *s = &t->merges[i];
        if (s->key == key) return s;
        if (s->key == UINT64_MAX) return NULL;
    }
}

static uint32_t rank_of(const fj_tokenizer *t, int32_t l, int32_t r) {
    const fj_merge_slot *m = fj_merge_find(t, l, r);
    return m ? m->rank : UINT32_MAX;
}

/* Merges of a rank below `limit`. */
static size_t merge_short(const fj_tokenizer *t, fj_bpe_scratch *s, size_t n, uint32_t limit) {
    FJ_GROW(s->rank, n, s->rank_cap);
    fj_sym *y = s->sym;
    uint32_t *rank = s->rank;
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(t, y[i].id, y[i + 1].id);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] >= limit) break;
        y[best].id = fj_merge_find(t, y[best].id, y[best + 1].id)->id;
        n--;
        memmove(y + best + 1, y + best + 2, (n - best - 1) * sizeof *y);
        memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
        if (best + 1 < n) rank[best] = rank_of(t, y[best].id, y[best + 1].id);
        if (best) rank[best - 1] = rank_of(t, y[best - 1].id, y[best].id);
    }
    return n;
}

typedef struct fj_cand {
    uint32_t rank;
    int32_t pos;  /* of the left symbol */
    int32_t l, r; /* ids when it was found: stale when they changed */
} fj_cand;

static bool before(const fj_cand *a, const fj_cand *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void sift_down(fj_cand *h, size_t n, size_t i) {
    fj_cand c = h[i];
    for (size_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(&h[k + 1], &h[k])) k++;
        if (!before(&h[k], &c)) break;
        h[i] = h[k];
    }
    h[i] = c;
}

static void push(fj_cand *h, size_t *n, fj_cand c) {
    size_t i = (*n)++;
    for (; i && before(&c, &h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = c;
}

static size_t merge_long(const fj_tokenizer *t, fj_bpe_scratch *s, size_t n) {
    /* Every merge takes one candidate out and puts at most two in: 3n is never passed. */
    FJ_GROW(s->heap, 3 * n, s->heap_cap);
    fj_sym *y = s->sym;
    fj_cand *h = s->heap;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        y[i].prev = (int32_t)i - 1;
        y[i].next = i + 1 < n ? (int32_t)(i + 1) : -1;
        uint32_t rank = i + 1 < n ? rank_of(t, y[i].id, y[i + 1].id) : UINT32_MAX;
        if (rank != UINT32_MAX) h[count++] = (fj_cand){ rank, (int32_t)i, y[i].id, y[i + 1].id };
    }
    for (size_t i = count / 2; i-- > 0;) sift_down(h, count, i);
    while (count) {
        fj_cand c = h[0];
        h[0] = h[--count];
        if (count) sift_down(h, count, 0);
        int32_t next = y[c.pos].next;
        /* A symbol that was merged away has id -2, which no candidate holds. */
        if (next < 0 || y[c.pos].id != c.l || y[next].id != c.r) continue;
        y[c.pos].id = fj_merge_find(t, c.l, c.r)->id;
        y[next].id = -2;
        int32_t after = y[next].next, prev = y[c.pos].prev;
        y[c.pos].next = after;
        if (after >= 0) {
            y[after].prev = c.pos;
            uint32_t rank = rank_of(t, y[c.pos].id, y[after].id);
            if (rank != UINT32_MAX)
                push(h, &count, (fj_cand){ rank, c.pos, y[c.pos].id, y[after].id });
        }
        if (prev >= 0) {
            uint32_t rank = rank_of(t, y[prev].id, y[c.pos].id);
            if (rank != UINT32_MAX)
                push(h, &count, (fj_cand){ rank, prev, y[prev].id, y[c.pos].id });
        }
    }
    size_t k = 0;
    for (int32_t i = 0, next; i >= 0; i = next) { /* k <= i: safe in place */
        next = y[i].next;
        y[k].id = y[i].id;
        y[k++].at = y[i].at;
    }
    return k;
}

size_t fj_bpe_merge(const fj_tokenizer *t, fj_bpe_scratch *s, size_t n) {
    if (n < 2) return n;
    return n <= 40 ? merge_short(t, s, n, UINT32_MAX) : merge_long(t, s, n);
}

void fj_bpe_scratch_free(fj_bpe_scratch *s) {
    free(s->sym);
    free(s->heap);
    free(s->rank);
    *s = (fj_bpe_scratch){ 0 };
}

/* ---- for writing --------------------------------------------------------------------------------- */
static int by_rank(const void *a, const void *b) {
    const fj_merge_slot *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->key > y->key) - (x->key < y->key);
}

/* The two symbols that the bytes of token id become, when no merge of its rank or later is made. */
static bool halves(const fj_tokenizer *t, fj_bpe_scratch *s, const fj_merge_slot *m) {
    fj_bytes b = t->bytes[m->id];
    FJ_GROW(s->sym, b.n, s->sym_cap);
    for (size_t i = 0; i < b.n; i++) {
        s->sym[i] = (fj_sym){ .id = t->byte_id[(unsigned char)b.p[i]] };
        if (s->sym[i].id < 0) return false;
    }
    return merge_short(t, s, b.n, m->rank) == 2 && s->sym[0].id == (int32_t)(m->key >> 32) &&
           s->sym[1].id == (int32_t)(uint32_t)m->key;
}

fj_tok_merge *fj_merge_list(const fj_tokenizer *t, size_t *n) {
    fj_tok_merge *out;
    *n = 0;
    if (t->merge_list) {
        out = fj_alloc((t->n_merge_list + 1) * sizeof *out);
        for (size_t i = 0; i < t->n_merge_list; i++)
            out[i] = (fj_tok_merge){ t->piece[t->merge_list[i].l], t->piece[t->merge_list[i].r] };
        *n = t->n_merge_list;
        return out;
    }
    fj_merge_slot *m = fj_alloc((t->n_merges + 1) * sizeof *m);
    fj_bpe_scratch s = { 0 };
    size_t k = 0;
    for (uint64_t i = 0; i <= t->merge_mask; i++)
        if (t->merges[i].key != UINT64_MAX && (!t->byte_level || halves(t, &s, &t->merges[i])))
            m[k++] = t->merges[i];
    /* Merges have no ties.  Tokens of one score (Llama 2 has some) follow each other as their ids, which
     * is what the tokenizer.json of those models does. */
    qsort(m, k, sizeof *m, by_rank);
    out = fj_alloc((k + 1) * sizeof *out);
    for (size_t i = 0; i < k; i++) {
        int32_t l = (int32_t)(m[i].key >> 32), r = (int32_t)(uint32_t)m[i].key;
        out[i].l = l < t->n ? t->piece[l] : t->pseudo[l - t->n];
        out[i].r = r < t->n ? t->piece[r] : t->pseudo[r - t->n];
    }
    *n = k;
    free(m);
    fj_bpe_scratch_free(&s);
    return out;
}
