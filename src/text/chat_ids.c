/* chat_ids.c - the text of a template to ids, with the control tokens that the template wrote and no
 * others, and a mark on the ids of answers. */
#include "text/chat_in.h"

/* ---- control tokens ------------------------------------------------------------------------------- */
static int order(const void *a, const void *b) {
    const fj_control *x = a, *y = b;
    unsigned char p = (unsigned char)x->s.p[0], q = (unsigned char)y->s.p[0];
    if (p != q) return p < q ? -1 : 1;
    return x->s.n > y->s.n ? -1 : x->s.n < y->s.n;
}

void fj_chat_list_control(fj_chat *c) {
    size_t cap = 0;
    for (int32_t id = 0; id < fj_vocab_size(c->t); id++) {
        fj_bytes s = fj_token_piece(c->t, id);
        if (!s.n || !fj_token_is_special(c->t, id)) continue;
        FJ_GROW(c->control, c->n_control + 1, cap);
        c->control[c->n_control++] = (fj_control){ s, id };
    }
    if (c->n_control) qsort(c->control, c->n_control, sizeof *c->control, order);
    size_t i = 0;
    for (int b = 0; b <= 256; b++) {
        while (i < c->n_control && (unsigned char)c->control[i].s.p[0] < b) i++;
        c->first[b] = (uint32_t)i;
    }
}

const fj_control *fj_chat_control_at(const fj_chat *c, const char *s, size_t n, size_t at) {
    unsigned b = (unsigned char)s[at];
    for (uint32_t i = c->first[b]; i < c->first[b + 1]; i++) {
        const fj_control *x = &c->control[i];
        if (x->s.n <= n - at && !memcmp(s + at, x->s.p, x->s.n)) return x;
    }
    return NULL;
}

static bool any(const uint8_t *from, size_t at, size_t n, uint8_t flag) {
    for (size_t i = 0; from && i < n; i++)
        if (from[at + i] & flag) return true;
    return false;
}

/* ---- which bytes an id stands for ----------------------------------------------------------------- */
/* Walks along the text id by id.  What a normalizer changed is stepped over: an id whose bytes are not
 * there takes the place up to where the next one is found. */
typedef struct along {
    const fj_chat *c;
    const char *s;
    size_t n, at;
} along;

static size_t match(const along *w, size_t at, fj_bytes b) {
    if (b.n <= w->n - at && !memcmp(w->s + at, b.p, b.n)) return b.n;
    /* A space that encoding put in front of a word. */
    if (b.n > 1 && b.p[0] == ' ' && b.n - 1 <= w->n - at && !memcmp(w->s + at, b.p + 1, b.n - 1))
        return b.n - 1;
    return 0;
}

static void extent(along *w, int32_t id, int32_t next, size_t *from, size_t *to) {
    fj_bytes b = fj_token_bytes(w->c->t, id);
    *from = w->at;
    size_t n = match(w, w->at, b);
    if (!n && !(b.n == 1 && b.p[0] == ' ')) { /* a lone space may be one that was put in front */
        enum { FAR = 64 };
        fj_bytes ahead = next >= 0 ? fj_token_bytes(w->c->t, next) : (fj_bytes){ "", 0 };
        n = FJ_MIN(b.n, w->n - w->at);
        for (size_t k = 0; ahead.n && k <= FAR && w->at + k < w->n; k++)
            if (match(w, w->at + k, ahead) == ahead.n) {
                n = k;
                break;
            }
    }
    w->at += n;
    *to = w->at;
}

/* Ids of text[0..n) that were added from ids->p[first] on get their marks. */
static void mark(const fj_chat *c, const char *s, size_t n, const uint8_t *from, const fj_ids *ids,
                 size_t first, fj_mask *mask) {
    along w = { c, s, n, 0 };
    for (size_t i = first; i < ids->n; i++) {
        size_t a, z;
        extent(&w, ids->p[i], i + 1 < ids->n ? ids->p[i + 1] : -1, &a, &z);
        fj_mask_add(mask, any(from, a, z - a, FJ_FROM_ANSWER), 1);
    }
}

/* ---- encoding ------------------------------------------------------------------------------------- */
static bool part(const fj_chat *c, const fj_jinja_text *x, size_t a, size_t z, bool special,
                 fj_ids *ids, fj_mask *m, fj_err *e) {
    if (a == z) return true;
    size_t first = ids->n;
    const char *s = x->s + a;
    size_t n = z - a;
    bool ok;
    if (a && !special && c->newline.n) {
        /* In the middle of a text no space is put in front of a word: encode behind a line break, and
         * take its ids away again. */
        fj_str t = { 0 };
        fj_ids more = { 0 };
        fj_str_addc(&t, '\n');
        fj_str_addn(&t, s, n);
        ok = fj_tokenize(c->t, t.s, t.n, 0, &more, e);
        bool same = ok && more.n >= c->newline.n &&
                    !memcmp(more.p, c->newline.p, c->newline.n * sizeof *more.p);
        for (size_t i = c->newline.n; same && i < more.n; i++) fj_ids_push(ids, more.p[i]);
        ids->dropped += same ? more.dropped : 0;
        if (ok && !same) ok = fj_tokenize(c->t, s, n, 0, ids, e);
        fj_ids_free(&more);
        fj_str_free(&t);
    } else {
        ok = fj_tokenize(c->t, s, n, special ? FJ_TOK_SPECIAL : 0, ids, e);
    }
    if (ok && m) mark(c, s, n, x->from ? x->from + a : NULL, ids, first, m);
    return ok;
}

bool fj_chat_encode(const fj_chat *c, const fj_jinja_text *x, fj_ids *ids, fj_mask *mask,
                    fj_err *e) {
    /* done: what is encoded; from: behind the last control token of the template.  Only a stretch with
     * a control token that somebody spelled is encoded apart. */
    size_t done = 0, from = 0;
    bool spelled = false, ok = true;
    for (size_t i = 0; ok && i < x->n;) {
        const fj_control *k = fj_chat_control_at(c, x->s, x->n, i);
        if (!k) {
            i++;
            continue;
        }
        bool theirs = any(x->from, i, k->s.n, FJ_FROM_INPUT);
        if (theirs) {
            spelled = true;
            i++;
            continue;
        }
        if (spelled) {
            ok = part(c, x, done, from, true, ids, mask, e) &&
                 part(c, x, from, i, false, ids, mask, e);
            done = i;
            spelled = false;
        }
        i += k->s.n;
        from = i;
    }
    if (ok && spelled)
        ok = part(c, x, done, from, true, ids, mask, e) &&
             part(c, x, from, x->n, false, ids, mask, e);
    else ok = ok && part(c, x, done, x->n, true, ids, mask, e);
    return ok;
}
