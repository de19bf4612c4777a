/* tok_parts.c - tokenizers out of GGUF metadata; tok_parts_write.c goes back.
 *
 * Keys and defaults: ggml/docs/gguf.md, and llama.cpp's reader where the page is silent. */
#include "text/tok.h"

static fj_bytes lit(const char *s) { return (fj_bytes){ s, strlen(s) }; }

static int32_t find_piece(const fj_bytes *v, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (v[i].n == strlen(name) && memcmp(v[i].p, name, v[i].n) == 0) return (int32_t)i;
    return -1;
}

static int32_t known(int32_t id, size_t n) { return id >= 0 && (size_t)id < n ? id : -1; }

static bool token_types(const fj_tok_parts *p, fj_arena *mem, uint8_t **out, fj_err *e) {
    uint8_t *t = *out = fj_arena_alloc(mem, p->n);
    for (size_t i = 0; i < p->n; i++) {
        int32_t x = p->types ? p->types[i] : FJ_TOKEN_NORMAL;
        if (x < FJ_TOKEN_NORMAL || x > FJ_TOKEN_BYTE)
            return fj_fail(e, FJ_EFORMAT, "tokenizer.ggml.token_type[%zu] is %d; expected 1 to 6",
                           i, (int)x);
        if (x == FJ_TOKEN_BYTE && fj_byte_piece(p->tokens[i]) < 0)
            return fj_fail(e, FJ_EFORMAT,
                           "tokenizer.ggml.tokens[%zu] is a byte token and not spelled <0xNN>", i);
        t[i] = (uint8_t)x;
    }
    if (p->types) return true;
    bool scores = strcmp(p->model, "llama") == 0 || strcmp(p->model, "t5") == 0;
    for (size_t i = 0; scores && i < p->n; i++)
        if (fj_byte_piece(p->tokens[i]) >= 0) t[i] = FJ_TOKEN_BYTE;
    if (known(p->bos, p->n) >= 0) t[p->bos] = FJ_TOKEN_CONTROL;
    if (known(p->eos, p->n) >= 0) t[p->eos] = FJ_TOKEN_CONTROL;
    if (scores && known(p->unk, p->n) >= 0) t[p->unk] = FJ_TOKEN_UNKNOWN;
    return true;
}

static bool split_merges(const fj_tok_parts *p, fj_arena *mem, fj_tok_desc *d, fj_err *e) {
    if (!p->merges)
        return fj_fail(e, FJ_EFORMAT, "tokenizer.ggml.merges is missing; model \"gpt2\" needs it");
    fj_tok_merge *m = fj_arena_alloc(mem, (p->n_merges + 1) * sizeof *m);
    for (size_t i = 0; i < p->n_merges; i++) {
        fj_bytes s = p->merges[i];
        const char *sp = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 2) : NULL;
        if (!sp)
            return fj_fail(e, FJ_EFORMAT,
                           "tokenizer.ggml.merges[%zu] is not two parts with a space between", i);
        m[i] =
            (fj_tok_merge){ { s.p, (size_t)(sp - s.p) }, { sp + 1, (size_t)(s.p + s.n - sp - 1) } };
    }
    d->merges = m;
    d->n_merges = p->n_merges;
    return true;
}

typedef struct rd {
    const fj_tok_parts *p;
    fj_arena mem;
    fj_tok_desc d;
    uint8_t *types;
    fj_tok_pre pres[FJ_PRE_MAX];
    fj_tok_norm norms[2];
    fj_tok_dec decs[4];
    int32_t around[2];
    bool add_bos, add_eos;
    fj_err *e;
} rd;

static void dec(rd *r, fj_tok_dec d) { r->decs[r->d.n_decs++] = d; }

static void meta_decoder(rd *r, bool strip) {
    dec(r, (fj_tok_dec){ .kind = FJ_DEC_REPLACE, .a = lit(FJ_META), .b = lit(" ") });
    dec(r, (fj_tok_dec){ .kind = FJ_DEC_BYTES });
    dec(r, (fj_tok_dec){ .kind = FJ_DEC_FUSE });
    if (strip) dec(r, (fj_tok_dec){ .kind = FJ_DEC_STRIP, .a = lit(" "), .left = 1 });
}

static bool scores(rd *r) {
    if (!r->p->scores)
        return fj_fail(r->e, FJ_EFORMAT, "tokenizer.ggml.scores is missing; model \"%s\" needs it",
                       r->p->model);
    double *s = fj_arena_alloc(&r->mem, r->p->n * sizeof *s);
    for (size_t i = 0; i < r->p->n; i++) s[i] = (double)r->p->scores[i];
    r->d.scores = s;
    for (size_t i = 0; i < r->p->n; i++) r->d.byte_fallback |= r->types[i] == FJ_TOKEN_BYTE;
    for (size_t i = 0; i < r->p->n && r->d.unk < 0; i++)
        if (r->types[i] == FJ_TOKEN_UNKNOWN) r->d.unk = (int32_t)i;
    return true;
}

static bool read_llama(rd *r) {
    if (!scores(r)) return false;
    fj_tok_desc *d = &r->d;
    bool prefix = r->p->add_prefix != 0;
    d->by_score = d->fuse_unk = true;
    r->add_bos = true;
    if (r->p->charsmap.n) {
        r->norms[d->n_norms++] =
            (fj_tok_norm){ .kind = FJ_NORM_SP,
                           .flags = FJ_NORM_ESCAPE | (prefix ? FJ_NORM_DUMMY : 0u) |
                                    (r->p->remove_spaces > 0 ? FJ_NORM_EXTRA : 0u),
                           .a = r->p->charsmap };
    } else {
        if (prefix)
            r->norms[d->n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_PREPEND, .a = lit(FJ_META) };
        r->norms[d->n_norms++] =
            (fj_tok_norm){ .kind = FJ_NORM_REPLACE, .a = lit(" "), .b = lit(FJ_META) };
    }
    meta_decoder(r, prefix);
    return true;
}

static bool read_t5(rd *r) {
    if (!scores(r)) return false;
    fj_tok_desc *d = &r->d;
    bool prefix = r->p->add_prefix != 0;
    d->kind = FJ_MODEL_UNIGRAM;
    d->fuse_unk = true;
    double *s = (double *)(uintptr_t)d->scores;
    for (size_t i = 0; i < r->p->n; i++)
        if (r->types[i] == FJ_TOKEN_USER) s[i] = 0; /* always better than a probability */
    r->norms[d->n_norms++] =
        (fj_tok_norm){ .kind = FJ_NORM_SP,
                       .flags = FJ_NORM_ESCAPE | (prefix ? FJ_NORM_DUMMY : 0u) |
                                (r->p->remove_spaces > 0 ? FJ_NORM_EXTRA : 0u),
                       .a = r->p->charsmap };
    r->add_eos = true;
    meta_decoder(r, prefix);
    return true;
}

/* GGUF marks the pieces that begin a word by U+2581, where files of BERT mark those that go on by "##". */
static bool read_bert(rd *r) {
    fj_tok_desc *d = &r->d;
    fj_bytes *v = fj_arena_alloc(&r->mem, r->p->n * sizeof *v);
    for (size_t i = 0; i < r->p->n; i++) {
        fj_bytes s = r->p->tokens[i];
        v[i] = s;
        if (r->types[i] != FJ_TOKEN_NORMAL) continue;
        if (s.n >= 3 && memcmp(s.p, FJ_META, 3) == 0) v[i] = (fj_bytes){ s.p + 3, s.n - 3 };
        else {
            char *c = fj_arena_alloc(&r->mem, s.n + 3);
            memcpy(c, "##", 2);
            if (s.n) memcpy(c + 2, s.p, s.n);
            v[i] = (fj_bytes){ c, s.n + 2 };
        }
    }
    d->pieces = v;
    d->kind = FJ_MODEL_WORDPIECE;
    d->cont = lit("##");
    d->max_chars = 100;
    if (d->unk < 0) d->unk = find_piece(v, r->p->n, "[UNK]");
    if (d->unk >= 0) r->types[d->unk] = FJ_TOKEN_UNKNOWN;
    r->norms[d->n_norms++] =
        (fj_tok_norm){ .kind = FJ_NORM_BERT,
                       .flags = FJ_NORM_CLEAN | FJ_NORM_CJK | FJ_NORM_ACCENTS | FJ_NORM_LOWERCASE };
    r->pres[d->n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_CLASS, .keep = FJ_KEEP_REMOVED };
    r->pres[d->n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_CLASS, .cls = FJ_CLS_PUNCT };
    dec(r, (fj_tok_dec){ .kind = FJ_DEC_WORDPIECE, .a = lit("##"), .clean = true });
    r->around[0] = known(r->p->cls >= 0 ? r->p->cls : r->p->bos, r->p->n);
    r->around[1] = known(r->p->sep >= 0 ? r->p->sep : r->p->eos, r->p->n);
    if (d->bos < 0) d->bos = r->around[0];
    if (d->eos < 0) d->eos = r->around[1];
    for (int i = 0; i < 2; i++)
        if (r->around[i] >= 0 && r->types[r->around[i]] == FJ_TOKEN_NORMAL)
            r->types[r->around[i]] = FJ_TOKEN_CONTROL;
    r->add_bos = r->around[0] >= 0;
    r->add_eos = r->around[1] >= 0;
    return true;
}

static bool read_gpt2(rd *r) {
    fj_tok_desc *d = &r->d;
    bool gemma = strcmp(r->p->model, "gemma4") == 0;
    const char *pre = gemma ? "gemma4" : r->p->pre ? r->p->pre : "default";
    fj_pre_traits traits;
    int n = fj_pre_by_name(pre, r->pres, &traits);
    if (n < 0)
        return fj_fail(r->e, FJ_EUNSUP,
                       "tokenizer.ggml.pre is \"%s\", a pre-tokenizer that is not known here", pre);
    d->n_pres = (size_t)n;
    d->ignore_merges = traits.ignore_merges;
    r->add_bos = traits.add_bos;
    if (traits.nfc) r->norms[d->n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_NFC };
    if (traits.meta) {
        d->byte_fallback = d->fuse_unk = true;
        r->norms[d->n_norms++] =
            (fj_tok_norm){ .kind = FJ_NORM_REPLACE, .a = lit(" "), .b = lit(FJ_META) };
        meta_decoder(r, false);
    } else {
        d->byte_level = true;
        dec(r, (fj_tok_dec){ .kind = FJ_DEC_BYTE_LEVEL });
    }
    if (r->p->add_prefix > 0 && !traits.meta) {
        memmove(r->pres + 1, r->pres, (size_t)n * sizeof *r->pres);
        r->pres[0] = (fj_tok_pre){ .kind = FJ_PRE_SPACE };
        d->n_pres++;
    }
    return split_merges(r->p, &r->mem, d, r->e);
}

static bool read_parts(rd *r) {
    static const struct {
        const char *name;
        bool (*read)(rd *r);
    } models[] = { { "llama", read_llama },
                   { "gpt2", read_gpt2 },
                   { "gemma4", read_gpt2 },
                   { "bert", read_bert },
                   { "t5", read_t5 } };
    const fj_tok_parts *p = r->p;
    fj_tok_desc *d = &r->d;
    size_t k = 0;
    while (k < FJ_LEN(models) && !(p->model && strcmp(models[k].name, p->model) == 0)) k++;
    if (k == FJ_LEN(models))
        return fj_fail(r->e, FJ_EUNSUP,
                       "tokenizer.ggml.model is \"%s\"; supported: llama, gpt2, gemma4, bert, t5",
                       p->model ? p->model : "");
    if (!p->n || !p->tokens)
        return fj_fail(r->e, FJ_EFORMAT, "tokenizer.ggml.tokens is missing or empty");
    if (!token_types(p, &r->mem, &r->types, r->e)) return false;
    d->types = r->types;
    d->bos = known(p->bos, p->n);
    d->eos = known(p->eos, p->n);
    d->eot = known(p->eot, p->n);
    d->unk = known(p->unk, p->n);
    d->pad = known(p->pad, p->n);
    r->around[0] = r->around[1] = -2;
    if (!models[k].read(r)) return false;
    /* Control tokens and those of the user are found before anything else. */
    fj_tok_added *added = fj_arena_alloc(&r->mem, (p->n + 1) * sizeof *added);
    for (size_t i = 0; i < p->n; i++) {
        if (r->types[i] != FJ_TOKEN_CONTROL && r->types[i] != FJ_TOKEN_USER &&
            r->types[i] != FJ_TOKEN_UNKNOWN)
            continue;
        added[d->n_added++] = (fj_tok_added){ .text = d->pieces[i],
                                              .id = (int32_t)i,
                                              .special = r->types[i] != FJ_TOKEN_USER };
    }
    d->added = added;
    if (p->add_bos >= 0) r->add_bos = p->add_bos;
    if (p->add_eos >= 0) r->add_eos = p->add_eos;
    if (r->around[0] == -2) r->around[0] = d->bos;
    if (r->around[1] == -2) r->around[1] = d->eos;
    d->n_prefix = r->add_bos && r->around[0] >= 0;
    d->n_suffix = r->add_eos && r->around[1] >= 0;
    return true;
}

fj_tokenizer *fj_tokenizer_from_parts(const fj_tok_parts *p, fj_err *e) {
    rd *r = fj_zalloc(sizeof *r);
    r->p = p;
    r->e = e;
    r->d = (fj_tok_desc){ .n = p->n, .pieces = p->tokens };
    r->d.pres = r->pres;
    r->d.norms = r->norms;
    r->d.decs = r->decs;
    r->d.prefix = &r->around[0];
    r->d.suffix = &r->around[1];
    fj_tokenizer *t = read_parts(r) ? fj_tokenizer_build(&r->d, e) : NULL;
    fj_arena_free(&r->mem);
    free(r);
    return t;
}
