/* tok_parts.c - tokenizers out of GGUF metadata, and back into it.
 *
 * Keys and defaults: ggml/docs/gguf.md, and llama.cpp's reader where the page is silent. */
#include "text/tok.h"

#include <stdio.h>

static fj_bytes lit(const char *s) { return (fj_bytes){ s, strlen(s) }; }

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
    bool scores = strcmp(p->model, "llama") == 0;
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

fj_tokenizer *fj_tokenizer_from_parts(const fj_tok_parts *p, fj_err *e) {
    fj_arena mem = { 0 };
    fj_tok_desc d = { .n = p->n, .pieces = p->tokens };
    fj_tok_pre pres[FJ_PRE_MAX];
    fj_tok_norm norms[2];
    fj_tokenizer *t = NULL;
    uint8_t *types;
    const char *pre = p->pre ? p->pre : "default";
    bool llama = p->model && strcmp(p->model, "llama") == 0, nfc = false;
    d.pres = pres;
    d.norms = norms;
    if (!p->model || (!llama && strcmp(p->model, "gpt2") != 0)) {
        fj_fail(e, FJ_EUNSUP, "tokenizer.ggml.model is \"%s\"; supported: llama, gpt2",
                p->model ? p->model : "");
        goto out;
    }
    if (!p->n || !p->tokens) {
        fj_fail(e, FJ_EFORMAT, "tokenizer.ggml.tokens is missing or empty");
        goto out;
    }
    if (!token_types(p, &mem, &types, e)) goto out;
    d.types = types;
    d.bos = known(p->bos, p->n);
    d.eos = known(p->eos, p->n);
    d.eot = known(p->eot, p->n);
    d.unk = known(p->unk, p->n);
    d.pad = known(p->pad, p->n);
    bool add_bos = llama;
    if (llama) {
        if (!p->scores) {
            fj_fail(e, FJ_EFORMAT, "tokenizer.ggml.scores is missing; model \"llama\" needs it");
            goto out;
        }
        d.by_score = d.metaspace = d.fuse_unk = true;
        d.scores = p->scores;
        for (size_t i = 0; i < p->n; i++) d.byte_fallback |= types[i] == FJ_TOKEN_BYTE;
        if (d.unk < 0)
            for (size_t i = 0; i < p->n && d.unk < 0; i++)
                if (types[i] == FJ_TOKEN_UNKNOWN) d.unk = (int32_t)i;
        if (p->add_prefix != 0) {
            norms[d.n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_PREPEND, .a = lit(FJ_META) };
            d.strip_left = true;
        }
        norms[d.n_norms++] =
            (fj_tok_norm){ .kind = FJ_NORM_REPLACE, .a = lit(" "), .b = lit(FJ_META) };
    } else {
        int n = fj_pre_by_name(pre, pres, &nfc, &d.ignore_merges);
        if (n < 0) {
            fj_fail(e, FJ_EUNSUP,
                    "tokenizer.ggml.pre is \"%s\", a pre-tokenizer that is not known here", pre);
            goto out;
        }
        d.n_pres = (size_t)n;
        d.byte_level = true;
        if (nfc) norms[d.n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_NFC };
        if (p->add_prefix > 0) {
            memmove(pres + 1, pres, (size_t)n * sizeof *pres);
            pres[0] = (fj_tok_pre){ .kind = FJ_PRE_SPACE };
            d.n_pres++;
        }
        add_bos = d.ignore_merges && strcmp(pre, "tekken") != 0;
        if (!split_merges(p, &mem, &d, e)) goto out;
    }
    /* Control tokens and those of the user are found before anything else. */
    fj_tok_added *added = fj_arena_alloc(&mem, (p->n + 1) * sizeof *added);
    for (size_t i = 0; i < p->n; i++) {
        if (types[i] != FJ_TOKEN_CONTROL && types[i] != FJ_TOKEN_USER &&
            types[i] != FJ_TOKEN_UNKNOWN)
            continue;
        added[d.n_added++] = (fj_tok_added){ .text = p->tokens[i],
                                             .id = (int32_t)i,
                                             .special = types[i] != FJ_TOKEN_USER };
    }
    d.added = added;
    if (p->add_bos >= 0) add_bos = p->add_bos;
    d.n_prefix = add_bos && d.bos >= 0;
    d.prefix = &d.bos;
    d.n_suffix = p->add_eos > 0 && d.eos >= 0;
    d.suffix = &d.eos;
    t = fj_tokenizer_build(&d, e);
out:
    fj_arena_free(&mem);
    return t;
}

/* ---- the other way ------------------------------------------------------------------------------ */
typedef struct own {
    fj_arena mem;
} own;

void fj_tokenizer_parts_free(fj_tok_parts *p) {
    own *o = p->own;
    if (o) {
        fj_arena_free(&o->mem);
        free(o);
    }
    *p = (fj_tok_parts)FJ_TOK_PARTS_INIT;
}

static int by_rank(const void *a, const void *b) {
    const fj_merge_slot *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* Scores that give the order of the merges.  Only possible when all merges of one result stand
 * together, as they do when the merges were made from scores in the first place. */
static float *scores_of(const fj_tokenizer *t, fj_arena *mem, fj_err *e) {
    float *s = fj_arena_alloc(mem, (size_t)t->n * sizeof *s);
    if (t->scores) {
        memcpy(s, t->scores, (size_t)t->n * sizeof *s);
        return s;
    }
    fj_merge_slot *m = fj_alloc((t->n_merges + 1) * sizeof *m);
    size_t n = 0;
    for (uint64_t i = 0; i <= t->merge_mask; i++)
        if (t->merges[i].key != UINT64_MAX) m[n++] = t->merges[i];
    qsort(m, n, sizeof *m, by_rank);
    bool ok = true;
    float next = 0;
    for (size_t i = 0; i < n && ok; i++) {
        if (i && m[i].id == m[i - 1].id) continue;
        ok = s[m[i].id] == 0;
        s[m[i].id] = next -= 1;
    }
    free(m);
    for (int32_t i = 0; i < t->n; i++)
        if (s[i] == 0 && t->type[i] == FJ_TOKEN_NORMAL && fj_byte_piece(t->piece[i]) < 0)
            s[i] = next - 1;
    if (ok) return s;
    fj_fail(e, FJ_EUNSUP,
            "tokenizer: the order of its merges cannot be said in scores, as GGUF needs");
    return NULL;
}

static bool is_norm(const fj_tok_norm *n, fj_norm_kind kind, const char *a, const char *b) {
    return n->kind == kind && n->a.n == strlen(a) && memcmp(n->a.p, a, n->a.n) == 0 &&
           n->b.n == strlen(b) && memcmp(n->b.p, b, n->b.n) == 0;
}

static bool llama_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    const fj_tok_norm *n = t->norms;
    bool replace = t->n_norms && is_norm(&n[t->n_norms - 1], FJ_NORM_REPLACE, " ", FJ_META);
    bool ok = false;
    if (t->n_pres == 0 && t->n_norms == 2) {
        p->add_prefix = 1;
        ok = replace && is_norm(&n[0], FJ_NORM_PREPEND, FJ_META, "");
    } else if (t->n_pres == 0 && t->n_norms == 1) {
        p->add_prefix = 0;
        ok = replace;
    } else if (t->n_pres == 1 && t->n_norms == 0) {
        const fj_tok_pre *d = &t->pres[0].d;
        p->add_prefix = d->prefix != FJ_PREFIX_NEVER;
        ok = d->kind == FJ_PRE_METASPACE && !d->split && d->prefix != FJ_PREFIX_FIRST;
    }
    if (!ok)
        return fj_fail(e, FJ_EUNSUP,
                       "tokenizer: GGUF cannot say what this normalizer and pre-tokenizer do");
    p->model = "llama";
    p->pre = "default";
    p->scores = scores_of(t, mem, e);
    return p->scores != NULL;
}

static bool gpt2_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    bool nfc = t->n_norms == 1 && t->norms[0].kind == FJ_NORM_NFC;
    size_t space = t->n_pres && t->pres[0].d.kind == FJ_PRE_SPACE;
    p->add_prefix = (int)space;
    p->model = "gpt2";
    p->pre = t->n_norms > nfc
                 ? NULL
                 : fj_pre_name(t->pres + space, t->n_pres - space, nfc, t->ignore_merges);
    if (!p->pre)
        return fj_fail(e, FJ_EUNSUP,
                       "tokenizer: GGUF has no name for this normalizer and pre-tokenizer");
    fj_bytes *m = fj_arena_alloc(mem, (t->n_merge_list + 1) * sizeof *m);
    for (size_t i = 0; i < t->n_merge_list; i++) {
        fj_bytes l = t->merge_list[i].l, r = t->merge_list[i].r;
        if (memchr(l.p, ' ', l.n) || memchr(r.p, ' ', r.n))
            return fj_fail(e, FJ_EUNSUP,
                           "tokenizer: merge %zu has a space, which GGUF cannot write", i);
        char *s = fj_arena_alloc(mem, l.n + r.n + 2);
        memcpy(s, l.p, l.n);
        s[l.n] = ' ';
        memcpy(s + l.n + 1, r.p, r.n);
        m[i] = (fj_bytes){ s, l.n + r.n + 1 };
    }
    p->merges = m;
    p->n_merges = t->n_merge_list;
    return true;
}

bool fj_tokenizer_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_err *e) {
    *p = (fj_tok_parts)FJ_TOK_PARTS_INIT;
    own *o = fj_zalloc(sizeof *o);
    p->own = o;
    bool bos = fj_tokenizer_adds_bos(t), eos = fj_tokenizer_adds_eos(t);
    bool ok = t->n_prefix == bos && t->n_suffix == eos;
    if (!ok)
        fj_fail(e, FJ_EUNSUP,
                "tokenizer: GGUF cannot say which tokens this one puts around a text");
    ok = ok && (t->byte_level ? gpt2_parts : llama_parts)(t, p, &o->mem, e);
    if (!ok) {
        fj_tokenizer_parts_free(p);
        return false;
    }
    fj_bytes *tokens = fj_arena_alloc(&o->mem, (size_t)t->n * sizeof *tokens);
    int32_t *types = fj_arena_alloc(&o->mem, (size_t)t->n * sizeof *types);
    for (int32_t i = 0; i < t->n; i++) {
        tokens[i] = t->piece[i];
        types[i] = t->type[i];
        if (!types[i]) { /* a hole in the ids: GGUF has none */
            const char *s = fj_arena_printf(&o->mem, "[PAD%d]", (int)i);
            tokens[i] = lit(s);
            types[i] = FJ_TOKEN_UNUSED;
        } else if (types[i] == FJ_TOKEN_NORMAL && t->byte_fallback &&
                   fj_byte_piece(t->piece[i]) >= 0)
            types[i] = FJ_TOKEN_BYTE;
    }
    p->n = (size_t)t->n;
    p->tokens = tokens;
    p->types = types;
    p->bos = t->bos;
    p->eos = t->eos;
    p->eot = t->eot;
    p->unk = t->unk;
    p->pad = t->pad;
    p->add_bos = bos;
    p->add_eos = eos;
    return true;
}
