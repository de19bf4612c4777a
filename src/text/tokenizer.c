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

/* All spellings in one piece of memory, and who has which. */
static bool vocabulary(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e) {
    if (d->n == 0 || d->n > (size_t)1 << 24)
        return fj_fail(e, FJ_EFORMAT, "tokenizer: %zu tokens; expected 1 to 16777216", d->n);
    t->n = (int32_t)d->n;
    t->piece = fj_zalloc(d->n * sizeof *t->piece);
    t->bytes = fj_zalloc(d->n * sizeof *t->bytes);
    t->type = fj_zalloc(d->n);
    size_t total = 0;
    for (size_t i = 0; i < d->n; i++) total += d->pieces[i].n + 1;
    char *all = fj_arena_alloc(&t->mem, total);
    for (int32_t i = 0; i < t->n; i++) {
        fj_bytes p = d->pieces[i];
        t->type[i] = d->types ? d->types[i] : FJ_TOKEN_NORMAL;
        t->piece[i] = t->bytes[i] = (fj_bytes){ "", 0 };
        if (!t->type[i] || !p.n) continue;
        memcpy(all, p.p, p.n);
        t->piece[i] = (fj_bytes){ all, p.n };
        all += p.n + 1; /* a 0 behind each */
    }
    fj_spell_init(&t->ids, t->piece, d->n);
    for (int32_t i = 0; i < t->n; i++) {
        if (!t->type[i] || !t->piece[i].n) continue;
        if (i + 8 < t->n) fj_spell_ask(&t->ids, t->piece[i + 8]);
        int32_t other = fj_spell_put(&t->ids, i);
        if (other >= 0)
            return fj_fail(e, FJ_EFORMAT, "tokenizer: tokens %d and %d are both spelled \"%.*s\"",
                           (int)other, (int)i, (int)FJ_MIN(t->piece[i].n, (size_t)60),
                           t->piece[i].p);
    }
    for (size_t i = 0; i < d->n_added; i++) {
        const fj_tok_added *a = &d->added[i];
        FJ_ASSERT(a->id >= 0 && a->id < t->n);
        bool control = a->special || named(ends_turn, FJ_LEN(ends_turn), a->text) ||
                       named(markup, FJ_LEN(markup), a->text);
        if (t->type[a->id] != FJ_TOKEN_UNKNOWN)
            t->type[a->id] = control ? FJ_TOKEN_CONTROL : FJ_TOKEN_USER;
    }
    bool all_there = true;
    for (int b = 0; b < 256; b++) {
        char s[8];
        size_t n = t->byte_level ? fj_utf8_put(fj_byte_char((uint8_t)b), s)
                                 : (size_t)snprintf(s, sizeof s, "<0x%02X>", b);
        int32_t id = t->byte_level || t->byte_fallback ? fj_spell_get(&t->ids, s, n) : -1;
        if (id >= 0 && (t->type[id] == FJ_TOKEN_CONTROL || t->type[id] == FJ_TOKEN_UNUSED)) id = -1;
        t->byte_id[b] = id;
        all_there &= id >= 0;
    }
    t->blocks = !t->cont.n && !t->word_end.n;
    t->complete = all_there || d->unk >= 0;
    return true;
}

/* Trie of the pieces that text may become. */
static bool tries(fj_tokenizer *t, fj_err *e) {
    if (t->kind != FJ_MODEL_UNIGRAM && t->kind != FJ_MODEL_WORDPIECE) return true;
    size_t total = 0;
    for (int32_t i = 0; i < t->n; i++) total += fj_mergeable(t, i) ? t->piece[i].n : 0;
    if (total >= (size_t)1 << 24)
        return fj_fail(e, FJ_EUNSUP, "tokenizer: %zu bytes of spellings; at most 16 MiB here",
                       total);
    fj_trie_init(&t->trie, total);
    for (int32_t i = 0; i < t->n; i++)
        if (fj_mergeable(t, i) && t->piece[i].n)
            fj_trie_put(&t->trie, t->piece[i].p, t->piece[i].n, i);
    if (t->kind != FJ_MODEL_UNIGRAM) return true;
    /* SentencePiece looks at normal pieces alone; `tokenizers` at all. */
    double lo = 0;
    bool any = false;
    for (int32_t i = 0; i < t->n; i++) {
        if (t->scores[i] != t->scores[i])
            return fj_fail(e, FJ_EFORMAT, "tokenizer: score of token %d is not a number", (int)i);
        if (!t->type[i] || (t->single && t->type[i] != FJ_TOKEN_NORMAL)) continue;
        lo = any ? FJ_MIN(lo, t->scores[i]) : t->scores[i];
        any = true;
    }
    t->unk_score = t->single ? (double)((float)lo - 10.0f) : lo - 10;
    return true;
}

static void user_symbols(fj_tokenizer *t) {
    bool sp = false;
    size_t total = 0;
    for (size_t i = 0; i < t->n_norms; i++) sp |= t->norms[i].d.kind == FJ_NORM_SP;
    for (int32_t i = 0; i < t->n; i++) total += t->type[i] == FJ_TOKEN_USER ? t->piece[i].n : 0;
    if (!sp || !total || total >= (size_t)1 << 24) return;
    fj_trie_init(&t->user, total);
    for (int32_t i = 0; i < t->n; i++)
        if (t->type[i] == FJ_TOKEN_USER && t->piece[i].n)
            fj_trie_put(&t->user, t->piece[i].p, t->piece[i].n, i);
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
        if (x.match == FJ_ADDED_NORMALIZED) {
            fj_bytes s;
            ok = fj_normalize(t, x.text.p, x.text.n, &a, &b, &s, e);
            if (!ok || !s.n) continue;
            x.text = keep(t, s);
            t->normed.v[t->normed.n++] = x;
        } else if (x.match == FJ_ADDED_AFTER) t->normed.v[t->normed.n++] = x;
        else t->raw.v[t->raw.n++] = x;
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
        fj_norm_step *s = &t->norms[i];
        s->d = d->norms[i];
        s->d.a = keep(t, d->norms[i].a);
        s->d.b = keep(t, d->norms[i].b);
        t->n_norms = i + 1;
        if (!fj_norm_compile(s, &t->mem, e)) return false;
    }
    t->pres = fj_arena_alloc(&t->mem, (d->n_pres + 1) * sizeof *t->pres);
    for (size_t i = 0; i < d->n_pres; i++) {
        fj_pre_step *s = &t->pres[i];
        s->d = d->pres[i];
        s->d.regex = keep(t, s->d.regex);
        t->n_pres = i + 1;
        if (s->d.kind != FJ_PRE_SPLIT) continue;
        if ((s->scan = fj_scan_find(&s->d))) {
            if (!t->chars) t->chars = fj_char_table();
        } else if (!(s->re = fj_regex(s->d.regex, s->d.literal, "pre-tokenizer", e))) return false;
    }
    return true;
}

fj_tokenizer *fj_tokenizer_build(const fj_tok_desc *d, fj_err *e) {
    fj_tokenizer *t = fj_zalloc(sizeof *t);
    t->pool = fj_enc_pool_new();
    t->kind = d->kind;
    t->by_score = d->by_score;
    t->byte_level = d->byte_level;
    t->byte_fallback = d->byte_fallback;
    t->fuse_unk = d->fuse_unk;
    t->ignore_merges = d->ignore_merges;
    t->single = d->single;
    t->max_chars = d->max_chars;
    t->cont = keep(t, d->cont);
    t->word_end = keep(t, d->word_end);
    bool ok = t->cont.n + t->word_end.n <= 200 ||
              fj_fail(e, FJ_EUNSUP, "tokenizer: affixes of words of %zu bytes; at most 200",
                      t->cont.n + t->word_end.n);
    ok = ok && vocabulary(t, d, e) && special_ids(t, d, e);
    if (ok && d->scores) {
        t->scores = fj_alloc(d->n * sizeof *t->scores);
        memcpy(t->scores, d->scores, d->n * sizeof *t->scores);
    }
    ok = ok && (d->kind != FJ_MODEL_BPE || fj_build_merges(t, d, e)) && tries(t, e) &&
         steps(t, d, e);
    if (ok) user_symbols(t);
    ok = ok && added(t, d, e) && fj_decoder_build(t, d, e);
    if (ok && t->byte_level && t->ignore_merges) {
        fj_spell_init(&t->words, t->bytes, d->n);
        for (int32_t i = 0; i < t->n; i++)
            if (t->type[i] == FJ_TOKEN_NORMAL) fj_spell_put(&t->words, i);
    }
    if (ok) return t;
    fj_tokenizer_free(t);
    return NULL;
}

void fj_tokenizer_free(fj_tokenizer *t) {
    if (!t) return;
    fj_enc_pool_free(t->pool);
    for (size_t i = 0; i < t->n_pres; i++) pcre2_code_free(t->pres[i].re);
    for (size_t i = 0; i < t->n_norms; i++) pcre2_code_free(t->norms[i].re);
    free(t->piece);
    free(t->bytes);
    free(t->first);
    free(t->type);
    free(t->scores);
    free(t->sym_low);
    free(t->pseudo);
    free(t->merges);
    free(t->merge_list);
    free(t->chars);
    fj_spell_free(&t->ids);
    fj_spell_free(&t->words);
    fj_trie_free(&t->trie);
    fj_trie_free(&t->user);
    fj_map_free(&t->syms);
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
    return fj_spell_get(&t->ids, piece, n);
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
