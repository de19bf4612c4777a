/* unigram.c - the pieces of a word whose log probabilities have the greatest sum (Viterbi).
 *
 * As in SentencePiece and `tokenizers`: a character without a piece of its own counts as the worst piece
 * less 10; of equal sums the first found stays.  Where no piece reaches over a place, everything before it is
 * decided: a long text needs memory for the stretch between two such places alone. */
#include "text/tok.h"

#include <math.h>

enum { STRETCH = 1 << 16 };

/* Unknown characters in a row are one text; it may be in the vocabulary by itself (`tokenizers` looks). */
static void put_pieces(const fj_tokenizer *t, fj_uni_scratch *u, const char *s, size_t n,
                       fj_ids *ids) {
    fj_ids *b = &u->back; /* ends of nodes, backwards */
    fj_ids_clear(b);
    for (int32_t at = (int32_t)n; at > 0; at = u->node[at].from) fj_ids_push(b, at);
    size_t at = 0;
    for (size_t k = b->n; k > 0; k--) {
        size_t end = (size_t)b->p[k - 1];
        int32_t id = u->node[end].id;
        if (id >= 0 && id != t->unk) {
            fj_ids_push(ids, id);
            at = end;
            continue;
        }
        while (t->fuse_unk && k > 1) {
            int32_t next = u->node[b->p[k - 2]].id;
            if (next >= 0 && next != t->unk) break;
            end = (size_t)b->p[--k - 1];
        }
        int32_t whole = fj_spell_get(&t->ids, s + at, end - at);
        if (whole >= 0 && t->type[whole] == FJ_TOKEN_NORMAL) fj_ids_push(ids, whole);
        else fj_put_unknown(t, s + at, end - at, false, 0, ids);
        at = end;
    }
}

/* GetUserDefinedScore of SentencePiece's unigram_model.cc, since 0.2.2: the user's pieces are worth more than
 * any probability, and a long one more than those it is made of.  Its lattice counts characters, but its
 * EncodeOptimized, which gives the ids, counts bytes.  Until 0.2.1 the worth was bytes * max_score - 0.1, which
 * is -0.1 for every piece: where such a piece overlaps others, the versions differ. */
static double piece_score(const fj_tokenizer *t, int32_t id, size_t bytes) {
    if (t->single && t->type[id] == FJ_TOKEN_USER)
        return (double)(float)(0.1 * (double)(bytes - 1));
    return t->scores[id];
}

/* Nodes 0 to `need` are there. */
static bool room(fj_uni_scratch *u, size_t need, fj_err *e) {
    if (need < u->cap) return true;
    size_t cap = FJ_MAX(need + 1, u->cap * 2);
    fj_uni_node *more = fj_try_alloc(cap, sizeof *more, "the lattice of a word", e);
    if (!more) return false;
    if (u->cap) memcpy(more, u->node, u->cap * sizeof *more);
    for (size_t i = u->cap; i < cap; i++) more[i].id = -1;
    free(u->node);
    u->node = more;
    u->cap = cap;
    return true;
}

static void better(const fj_tokenizer *t, fj_uni_scratch *u, size_t from, size_t to, double x,
                   int32_t id) {
    fj_uni_node *v = &u->node[to];
    if (t->single) x = (double)(float)x;
    if (v->id == -1 || x > v->score) *v = (fj_uni_node){ x, (int32_t)from, id };
}

/* A float far from 0 is too coarse to tell cuts apart: EncodeOptimized of SentencePiece, since 0.2.2, takes the
 * sum of a place beyond this from all sums from there on.  It is rounding that decides between near equals, so
 * the ids of long texts are the same only with the same place. */
static const double TOO_FAR = 100000;
static void back_to_zero(fj_uni_node *v, size_t n) {
    double far = v->score;
    for (size_t i = 0; i < n; i++)
        if (v[i].id != -1) v[i].score = (double)(float)(v[i].score - far);
}

bool fj_unigram_word(const fj_tokenizer *t, fj_uni_scratch *u, const char *s, size_t n, fj_ids *ids,
                     fj_err *e) {
    size_t base = 0, at = 0, reach = 0;
    if (!room(u, FJ_MIN(n, (size_t)STRETCH), e)) return false;
    for (size_t i = 0; i <= FJ_MIN(n, u->cap - 1); i++) u->node[i].id = -1;
    u->node[0] = (fj_uni_node){ 0 };
    while (at < n) {
        const fj_uni_node *here = &u->node[at - base];
        /* Decided up to here, and much of it. */
        if (reach <= at && at - base > STRETCH - 4096 && here->id >= 0 && here->id != t->unk) {
            double sum = here->score;
            put_pieces(t, u, s + base, at - base, ids);
            for (size_t i = 0; i < u->cap; i++) u->node[i].id = -1;
            u->node[0] = (fj_uni_node){ .score = sum };
            base = at;
        }
        size_t len = fj_utf8_len(s + at, n - at);
        if (!len) len = 1;
        if (t->single && fabs(u->node[at - base].score) > TOO_FAR)
            back_to_zero(&u->node[at - base], reach - at + 1);
        double sum = u->node[at - base].score;
        bool single = false;
        for (int32_t i = 0, node = 0; (size_t)i < n - at;) {
            node = fj_trie_step(&t->trie, node, (unsigned char)s[at + (size_t)i++]);
            if (node < 0) break;
            int32_t id = t->trie.value[node];
            if (id < 0) continue;
            size_t end = at + (size_t)i;
            if (!room(u, end - base, e)) return false;
            better(t, u, at - base, end - base, sum + piece_score(t, id, (size_t)i), id);
            if (end > reach) reach = end;
            single |= (size_t)i == len;
        }
        if (!single) {
            if (!room(u, at + len - base, e)) return false;
            better(t, u, at - base, at + len - base, sum + t->unk_score, -2);
            if (at + len > reach) reach = at + len;
        }
        at += len;
    }
    put_pieces(t, u, s + base, n - base, ids);
    return true;
}
