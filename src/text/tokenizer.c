/* tokenizer.c - building a tokenizer out of its description, and what can be asked of one. */
#include "text/tok.h"

#include <stdio.h>

/* Names under which models end a turn, in the order in which they are believed. */
static const char *const ends_turn[] = { "<|im_end|>",    "<|eot_id|>", "<end_of_turn>",
                                         "<turn|>",       "<|end|>",    "<|eot|>",
                                         "<|endofturn|>", "<EOT>",      "<|end_of_turn|>",
                                         "<|return|>" };
/* Markup of turns: control tokens whatever the file says, so that data cannot spell them. */
static const char *const markup[] = { "<|im_start|>",      "<|start_header_id|>",
                                      "<|end_header_id|>", "<start_of_turn>",
                                      "<|turn>",           "<|endoftext|>" };

static bool named(const char *const *v, size_t n, fj_bytes s) {
    for (size_t i = 0; i < n; i++)
        if (strlen(v[i]) == s.n && memcmp(v[i], s.p, s.n) == 0) return true;
    return false;
}

static fj_bytes keep(fj_tokenizer *t, fj_bytes s) {
    return (fj_bytes){ fj_arena_strndup(&t->mem, s.p ? s.p : "", s.n), s.n };
}

/* "<0x1F>": the byte, or -1. */
int fj_byte_piece(fj_bytes s) {
    static const char hex[] = "0123456789ABCDEF";
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    const char *a = memchr(hex, s.p[3], 16), *b = memchr(hex, s.p[4], 16);
    return a && b ? (int)((a - hex) * 16 + (b - hex)) : -1;
}

/* May come out of merging: control tokens and bytes never do. */
static bool mergeable(const fj_tokenizer *t, int32_t id) {
    return t->type[id] == FJ_TOKEN_NORMAL || t->type[id] == FJ_TOKEN_USER;
}

static fj_bytes decoded(fj_tokenizer *t, int32_t id) {
    fj_bytes s = t->piece[id];
    if (t->type[id] == FJ_TOKEN_CONTROL || t->type[id] == FJ_TOKEN_UNKNOWN) return s;
    int b = t->byte_fallback || t->type[id] == FJ_TOKEN_BYTE ? fj_byte_piece(s) : -1;
    if (b >= 0) {
        char c = (char)b;
        return (fj_bytes){ fj_arena_strndup(&t->mem, &c, 1), 1 };
    }
    char *out = fj_arena_strndup(&t->mem, s.p, s.n);
    size_t n = 0;
    if (t->byte_level) {
        if (t->type[id] == FJ_TOKEN_USER) return s;
        for (size_t i = 0, k; i < s.n; i += k) {
            k = fj_utf8_len(s.p + i, s.n - i);
            int c = k ? fj_char_byte(fj_utf8_get(s.p + i, k)) : -1;
            if (c < 0) return s; /* not spelled in stand-ins */
            out[n++] = (char)c;
        }
    } else if (t->metaspace) {
        for (size_t i = 0; i < s.n; i++) {
            if (s.n - i >= 3 && memcmp(s.p + i, FJ_META, 3) == 0) {
                out[n++] = ' ';
                i += 2;
            } else out[n++] = s.p[i];
        }
    } else return s;
    return (fj_bytes){ out, n };
}

static bool vocabulary(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    if (d->n == 0 || d->n > (size_t)1 << 24)
        return fj_fail(e, FJ_EFORMAT, "tokenizer: %zu tokens; expected 1 to 16777216", d->n);
    t->n = (int32_t)d->n;
    t->piece = fj_zalloc(d->n * sizeof *t->piece);
    t->bytes = fj_zalloc(d->n * sizeof *t->bytes);
    t->type = fj_zalloc(d->n);
    for (int32_t i = 0; i < t->n; i++) {
        t->type[i] = d->types ? d->types[i] : FJ_TOKEN_NORMAL;
        if (!t->type[i]) {
            t->piece[i] = t->bytes[i] = (fj_bytes){ "", 0 };
            continue;
        }
        t->piece[i] = keep(t, d->pieces[i]);
        bool fresh;
        int64_t *id = fj_map_put(&t->ids, t->piece[i].p, t->piece[i].n, &fresh);
        if (fresh) *id = i;
    }
    for (size_t i = 0; i < d->n_added; i++) {
        const fj_tok_added *a = &d->added[i];
        FJ_ASSERT(a->id >= 0 && a->id < t->n);
        bool control = a->special || named(ends_turn, FJ_LEN(ends_turn), a->text) ||
                       named(markup, FJ_LEN(markup), a->text);
        if (t->type[a->id] != FJ_TOKEN_UNKNOWN)
            t->type[a->id] = control ? FJ_TOKEN_CONTROL : FJ_TOKEN_USER;
    }
    for (int32_t i = 0; i < t->n; i++) {
        if (!t->type[i]) continue;
        t->bytes[i] = decoded(t, i);
        t->bytes_max = FJ_MAX(t->bytes_max, t->bytes[i].n);
    }
    for (int b = 0; b < 256; b++) {
        char s[8];
        size_t n = t->byte_level ? fj_utf8_put(fj_byte_char((uint8_t)b), s)
                                 : (size_t)snprintf(s, sizeof s, "<0x%02X>", b);
        const int64_t *id = t->byte_level || t->byte_fallback ? fj_map_get(&t->ids, s, n) : NULL;
        t->byte_id[b] = id ? (int32_t)*id : -1;
        if (id && t->type[*id] == FJ_TOKEN_CONTROL) t->byte_id[b] = -1;
    }
    if (t->byte_level && t->ignore_merges)
        for (int32_t i = 0; i < t->n; i++)
            if (t->type[i] == FJ_TOKEN_NORMAL)
                *fj_map_put(&t->words, t->bytes[i].p, t->bytes[i].n, NULL) = i;
    return true;
}

static bool special_ids(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    const struct {
        const char *name;
        int32_t from, *to;
    } v[] = {
        { "bos", d->bos, &t->bos }, { "eos", d->eos, &t->eos }, { "eot", d->eot, &t->eot },
        { "unk", d->unk, &t->unk }, { "pad", d->pad, &t->pad },
    };
    for (size_t i = 0; i < FJ_LEN(v); i++) {
        if (v[i].from < -1 || v[i].from >= t->n)
            return fj_fail(e, FJ_EFORMAT, "tokenizer: %s token id %d is outside the %d tokens",
                           v[i].name, (int)v[i].from, (int)t->n);
        *v[i].to = v[i].from;
    }
    for (size_t i = 0; i < FJ_LEN(ends_turn) && t->eot < 0; i++) {
        int32_t id = fj_token_id(t, ends_turn[i], strlen(ends_turn[i]));
        if (id >= 0 && t->type[id] == FJ_TOKEN_CONTROL) t->eot = id;
    }
    t->n_prefix = d->n_prefix;
    t->n_suffix = d->n_suffix;
    t->prefix = fj_arena_alloc(&t->mem, (d->n_prefix + 1) * sizeof *t->prefix);
    t->suffix = fj_arena_alloc(&t->mem, (d->n_suffix + 1) * sizeof *t->suffix);
    for (size_t i = 0; i < d->n_prefix + d->n_suffix; i++) {
        int32_t id = i < d->n_prefix ? d->prefix[i] : d->suffix[i - d->n_prefix];
        if (id < 0 || id >= t->n)
            return fj_fail(e, FJ_EFORMAT,
                           "tokenizer: id %d put around texts is outside the %d tokens", (int)id,
                           (int)t->n);
        if (i < d->n_prefix) t->prefix[i] = id;
        else t->suffix[i - d->n_prefix] = id;
    }
    return true;
}

/* Symbols that words start from.  With scores, pairs are found by spelling, so a character that is no
 * token itself still counts as a part of those that are. */
static void symbols(fj_tokenizer *t) {
    if (t->byte_level) return;
    for (int32_t i = 0; i < t->n; i++) {
        if (!mergeable(t, i)) continue;
        fj_bytes s = t->piece[i];
        for (size_t at = 0, k; at < s.n; at += k) {
            k = fj_utf8_len(s.p + at, s.n - at);
            if (!k) break;
            if (k == s.n) {
                *fj_map_put(&t->syms, s.p, k, NULL) = *fj_map_get(&t->ids, s.p, k);
            } else if (t->by_score && !fj_map_get(&t->ids, s.p + at, k)) {
                bool fresh;
                int64_t *id = fj_map_put(&t->syms, s.p + at, k, &fresh);
                if (!fresh) continue;
                *id = t->n + (int64_t)t->n_pseudo;
                FJ_GROW(t->pseudo, t->n_pseudo + 1, t->pseudo_cap);
                t->pseudo[t->n_pseudo++] = (fj_bytes){ s.p + at, k };
            }
        }
    }
}

static int32_t part(const fj_tokenizer *t, const char *s, size_t n) {
    const int64_t *id = fj_map_get(&t->ids, s, n);
    if (id) return mergeable(t, (int32_t)*id) ? (int32_t)*id : -1;
    id = fj_map_get(&t->syms, s, n);
    return id ? (int32_t)*id : -1;
}

typedef struct fj_found {
    int32_t l, r, id;
    uint32_t rank;
} fj_found;

static int by_score_desc(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

static bool merges_of_scores(fj_tokenizer *t, const fj_tok_desc *d, fj_found **out, size_t *n,
                             fj_err *e) {
    float *sorted = fj_alloc(d->n * sizeof *sorted);
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
        if (!mergeable(t, i) || fj_utf8_span(s.p, s.n) != s.n) continue;
        if (s.n > 4096) { /* the pairs of a piece cost the square of its length */
            free(sorted);
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
            FJ_GROW(*out, *n + 1, cap);
            (*out)[(*n)++] =
                (fj_found){ l, r, (int32_t)*fj_map_get(&t->ids, s.p, s.n), (uint32_t)lo };
        }
    }
    free(sorted);
    return true;
}

static bool merges_given(fj_tokenizer *t, const fj_tok_desc *d, fj_found **out, size_t *n,
                         fj_err *e) {
    fj_str joined = { 0 };
    bool ok = true;
    *out = fj_alloc(d->n_merges * sizeof **out);
    t->merge_list = fj_alloc(d->n_merges * sizeof *t->merge_list);
    for (size_t i = 0; i < d->n_merges && ok; i++) {
        fj_bytes l = d->merges[i].l, r = d->merges[i].r;
        fj_str_clear(&joined);
        fj_str_addn(&joined, l.p, l.n);
        fj_str_addn(&joined, r.p, r.n);
        const int64_t *a = fj_map_get(&t->ids, l.p, l.n), *b = fj_map_get(&t->ids, r.p, r.n);
        const int64_t *c = fj_map_get(&t->ids, joined.s, joined.n);
        if (!a || !b || !c) {
            ok = fj_fail(e, FJ_EFORMAT,
                         "tokenizer: merge %zu (\"%.*s\" + \"%.*s\"): %s is not in the vocabulary",
                         i, (int)FJ_MIN(l.n, 60), l.p, (int)FJ_MIN(r.n, 60), r.p,
                         !a   ? "the left part"
                         : !b ? "the right part"
                              : "the result");
            break;
        }
        t->merge_list[t->n_merge_list++] = (fj_tok_merge){ t->piece[*a], t->piece[*b] };
        /* Text must not be able to grow into a control token. */
        if (t->type[*c] == FJ_TOKEN_CONTROL) continue;
        (*out)[(*n)++] = (fj_found){ (int32_t)*a, (int32_t)*b, (int32_t)*c, (uint32_t)i };
    }
    fj_str_free(&joined);
    return ok;
}

static bool merges(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    fj_found *v = NULL;
    size_t n = 0;
    bool ok = d->by_score ? merges_of_scores(t, d, &v, &n, e) : merges_given(t, d, &v, &n, e);
    if (ok) {
        uint64_t cap = 64;
        while (cap < 2 * (uint64_t)n) cap *= 2;
        t->merge_mask = cap - 1;
        t->merges = fj_alloc(cap * sizeof *t->merges);
        memset(t->merges, 0xff, cap * sizeof *t->merges);
        for (size_t i = 0; i < n; i++) {
            uint64_t key = (uint64_t)(uint32_t)v[i].l << 32 | (uint32_t)v[i].r;
            uint64_t k = fj_merge_hash(key) & t->merge_mask;
            while (t->merges[k].key != UINT64_MAX && t->merges[k].key != key)
                k = (k + 1) & t->merge_mask;
            t->n_merges += t->merges[k].key != key;
            t->merges[k] = (fj_merge_slot){ key, v[i].rank, v[i].id };
        }
        /* Words may be cut before U+2581 when nothing can grow over that border. */
        t->cut_meta = !t->byte_level && fj_map_get(&t->syms, FJ_META, 3);
        for (size_t i = 0; i < n && t->cut_meta; i++) {
            fj_bytes s = t->piece[v[i].id];
            for (size_t k = 3; k + 3 <= s.n; k++)
                if (memcmp(s.p + k, FJ_META, 3) == 0 && memcmp(s.p + k - 3, FJ_META, 3) != 0)
                    t->cut_meta = false;
            for (size_t k = 1; k < 3 && k + 3 <= s.n; k++)
                if (memcmp(s.p + k, FJ_META, 3) == 0) t->cut_meta = false;
        }
    }
    free(v);
    return ok;
}

static int by_bytes(const void *a, const void *b) {
    const fj_tok_added *x = a, *y = b;
    int c = memcmp(x->text.p, y->text.p, FJ_MIN(x->text.n, y->text.n));
    return c ? c : (x->text.n > y->text.n) - (x->text.n < y->text.n);
}

static void index_set(fj_added_set *s) {
    qsort(s->v, s->n, sizeof *s->v, by_bytes);
    size_t k = 0;
    for (unsigned b = 0; b < 257; b++) {
        while (k < s->n && (unsigned char)s->v[k].text.p[0] < b) k++;
        s->first[b] = (uint32_t)k;
    }
}

static bool added(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    t->added = fj_arena_alloc(&t->mem, (d->n_added + 1) * sizeof *t->added);
    t->raw.v = fj_arena_alloc(&t->mem, (d->n_added + 1) * sizeof *t->raw.v);
    t->normed.v = fj_arena_alloc(&t->mem, (d->n_added + 1) * sizeof *t->normed.v);
    fj_str a = { 0 }, b = { 0 };
    bool ok = true;
    for (size_t i = 0; i < d->n_added && ok; i++) {
        fj_tok_added x = d->added[i];
        x.text = keep(t, x.text);
        x.special = t->type[x.id] == FJ_TOKEN_CONTROL || t->type[x.id] == FJ_TOKEN_UNKNOWN;
        t->added[t->n_added++] = x;
        if (!x.text.n) continue;
        if (x.normalized) {
            fj_bytes s;
            ok = fj_normalize(t->norms, t->n_norms, x.text.p, x.text.n, &a, &b, &s, e);
            if (!ok || !s.n) continue;
            x.text = keep(t, s);
            t->normed.v[t->normed.n++] = x;
        } else t->raw.v[t->raw.n++] = x;
    }
    fj_str_free(&a);
    fj_str_free(&b);
    index_set(&t->raw);
    index_set(&t->normed);
    return ok;
}

static bool steps(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    if (d->n_pres > FJ_PRE_MAX)
        return fj_fail(e, FJ_EUNSUP, "tokenizer: %zu pre-tokenizer steps; at most %d are supported",
                       d->n_pres, FJ_PRE_MAX);
    t->norms = fj_arena_alloc(&t->mem, (d->n_norms + 1) * sizeof *t->norms);
    for (size_t i = 0; i < d->n_norms; i++) {
        t->norms[i] = d->norms[i];
        t->norms[i].a = keep(t, d->norms[i].a);
        t->norms[i].b = keep(t, d->norms[i].b);
    }
    t->n_norms = d->n_norms;
    t->pres = fj_arena_alloc(&t->mem, (d->n_pres + 1) * sizeof *t->pres);
    for (size_t i = 0; i < d->n_pres; i++) {
        fj_pre_step *s = &t->pres[i];
        s->d = d->pres[i];
        s->d.regex = keep(t, s->d.regex);
        t->n_pres = i + 1;
        if (s->d.kind == FJ_PRE_SPLIT && !(s->re = fj_pre_compile(&s->d, e))) return false;
    }
    return true;
}

fj_tokenizer *fj_tokenizer_build(const fj_tok_desc *d, fj_err *e) {
    fj_tokenizer *t = fj_zalloc(sizeof *t);
    t->by_score = d->by_score;
    t->byte_level = d->byte_level;
    t->byte_fallback = d->byte_fallback;
    t->fuse_unk = d->fuse_unk;
    t->ignore_merges = d->ignore_merges;
    t->metaspace = d->metaspace;
    t->strip_left = d->strip_left;
    bool ok = vocabulary(t, d, e) && special_ids(t, d, e);
    if (ok && d->by_score) {
        t->scores = fj_alloc(d->n * sizeof *t->scores);
        memcpy(t->scores, d->scores, d->n * sizeof *t->scores);
    }
    if (ok) symbols(t);
    ok = ok && merges(t, d, e) && steps(t, d, e) && added(t, d, e);
    if (ok) return t;
    fj_tokenizer_free(t);
    return NULL;
}

void fj_tokenizer_free(fj_tokenizer *t) {
    if (!t) return;
    for (size_t i = 0; i < t->n_pres; i++) pcre2_code_free(t->pres[i].re);
    free(t->piece);
    free(t->bytes);
    free(t->type);
    free(t->scores);
    free(t->pseudo);
    free(t->merges);
    free(t->merge_list);
    fj_map_free(&t->ids);
    fj_map_free(&t->syms);
    fj_map_free(&t->words);
    fj_arena_free(&t->mem);
    free(t);
}

/* ---- questions --------------------------------------------------------------------------------- */
static bool inside(const fj_tokenizer *t, int32_t id) { return id >= 0 && id < t->n; }
int32_t fj_vocab_size(const fj_tokenizer *t) { return t->n; }
fj_bytes fj_token_piece(const fj_tokenizer *t, int32_t id) {
    return inside(t, id) ? t->piece[id] : (fj_bytes){ "", 0 };
}
fj_bytes fj_token_bytes(const fj_tokenizer *t, int32_t id) {
    return inside(t, id) ? t->bytes[id] : (fj_bytes){ "", 0 };
}
size_t fj_token_bytes_max(const fj_tokenizer *t) { return t->bytes_max; }
int32_t fj_token_id(const fj_tokenizer *t, const char *piece, size_t n) {
    const int64_t *id = fj_map_get(&t->ids, piece, n);
    return id ? (int32_t)*id : -1;
}
bool fj_token_is_special(const fj_tokenizer *t, int32_t id) {
    return inside(t, id) && (t->type[id] == FJ_TOKEN_CONTROL || t->type[id] == FJ_TOKEN_UNKNOWN);
}
bool fj_token_ends(const fj_tokenizer *t, int32_t id) {
    if (!inside(t, id)) return false;
    return id == t->eos || id == t->eot ||
           (t->type[id] == FJ_TOKEN_CONTROL && named(ends_turn, FJ_LEN(ends_turn), t->piece[id]));
}
int32_t fj_token_bos(const fj_tokenizer *t) { return t->bos; }
int32_t fj_token_eos(const fj_tokenizer *t) { return t->eos; }
int32_t fj_token_eot(const fj_tokenizer *t) { return t->eot; }
int32_t fj_token_pad(const fj_tokenizer *t) { return t->pad; }
int32_t fj_token_unk(const fj_tokenizer *t) { return t->unk; }
bool fj_tokenizer_adds_bos(const fj_tokenizer *t) {
    return t->n_prefix && t->bos >= 0 && t->prefix[0] == t->bos;
}
bool fj_tokenizer_adds_eos(const fj_tokenizer *t) {
    return t->n_suffix && t->eos >= 0 && t->suffix[t->n_suffix - 1] == t->eos;
}
