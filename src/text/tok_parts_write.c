/* tok_parts_write.c - a tokenizer as GGUF metadata, as far as GGUF can say what it does. */
#include "text/tok.h"

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
        for (int32_t i = 0; i < t->n; i++) s[i] = (float)t->scores[i];
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

static bool is_norm(const fj_norm_step *n, fj_norm_kind kind, const char *a, const char *b) {
    return n->d.kind == kind && !n->d.flags && n->d.a.n == strlen(a) &&
           memcmp(n->d.a.p, a, n->d.a.n) == 0 && n->d.b.n == strlen(b) &&
           memcmp(n->d.b.p, b, n->d.b.n) == 0;
}

static bool cannot(fj_err *e) {
    return fj_fail(e, FJ_EUNSUP,
                   "tokenizer: GGUF cannot say what this normalizer and pre-tokenizer do");
}

/* SentencePiece's own normalizer; false: it is another one. */
static bool sp_norm(const fj_tokenizer *t, fj_tok_parts *p) {
    if (t->n_pres || t->n_norms != 1 || t->norms[0].d.kind != FJ_NORM_SP) return false;
    unsigned f = t->norms[0].d.flags;
    if (!(f & FJ_NORM_ESCAPE) || f & FJ_NORM_SUFFIX) return false;
    p->add_prefix = (f & FJ_NORM_DUMMY) != 0;
    p->remove_spaces = (f & FJ_NORM_EXTRA) != 0;
    p->charsmap = t->norms[0].d.a;
    return true;
}

static bool llama_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    const fj_norm_step *n = t->norms;
    bool replace = t->n_norms && is_norm(&n[t->n_norms - 1], FJ_NORM_REPLACE, " ", FJ_META);
    bool ok = false;
    if (t->cont.n || t->word_end.n) ok = false;
    else if (t->n_pres == 0 && t->n_norms == 2) {
        p->add_prefix = 1;
        ok = replace && is_norm(&n[0], FJ_NORM_PREPEND, FJ_META, "");
    } else if (sp_norm(t, p)) {
        /* A charsmap and the removing of spaces mean nothing to readers of "llama". */
        ok = !p->charsmap.n && p->remove_spaces == 0;
    } else if (t->n_pres == 0 && t->n_norms == 1) {
        p->add_prefix = 0;
        ok = replace;
    } else if (t->n_pres == 1 && t->n_norms == 0) {
        const fj_tok_pre *d = &t->pres[0].d;
        p->add_prefix = d->prefix != FJ_PREFIX_NEVER;
        ok = d->kind == FJ_PRE_METASPACE && !d->split && d->prefix != FJ_PREFIX_FIRST;
    }
    if (!ok) return cannot(e);
    p->model = "llama";
    p->pre = "default";
    p->remove_spaces = -1;
    p->scores = scores_of(t, mem, e);
    return p->scores != NULL;
}

static bool t5_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    if (!sp_norm(t, p)) return cannot(e);
    p->model = "t5";
    p->pre = "default";
    p->scores = scores_of(t, mem, e);
    return p->scores != NULL;
}

static bool bert_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    unsigned all = FJ_NORM_CLEAN | FJ_NORM_CJK | FJ_NORM_ACCENTS | FJ_NORM_LOWERCASE;
    (void)mem;
    if (t->n_norms != 1 || t->norms[0].d.kind != FJ_NORM_BERT || t->norms[0].d.flags != all ||
        t->n_pres != 2 || t->pres[0].d.kind != FJ_PRE_CLASS || t->pres[0].d.cls != FJ_CLS_SPACE ||
        t->pres[1].d.kind != FJ_PRE_CLASS || t->pres[1].d.cls != FJ_CLS_PUNCT ||
        t->pres[1].d.keep != FJ_KEEP_ISOLATED || t->cont.n != 2 || memcmp(t->cont.p, "##", 2) != 0)
        return cannot(e);
    p->model = "bert";
    p->pre = "default";
    return true;
}

static bool gpt2_parts(const fj_tokenizer *t, fj_tok_parts *p, fj_arena *mem, fj_err *e) {
    bool nfc = t->n_norms == 1 && t->norms[0].d.kind == FJ_NORM_NFC;
    size_t space = t->n_pres && t->pres[0].d.kind == FJ_PRE_SPACE;
    fj_pre_traits traits = { .nfc = nfc, .ignore_merges = t->ignore_merges };
    p->add_prefix = (int)space;
    p->model = "gpt2";
    p->pre = t->n_norms > nfc || t->word_end.n || t->cont.n
                 ? NULL
                 : fj_pre_name(t->pres + space, t->n_pres - space, &traits);
    if (!p->pre)
        return fj_fail(e, FJ_EUNSUP,
                       "tokenizer: GGUF has no name for this normalizer and pre-tokenizer");
    size_t n;
    fj_tok_merge *list = fj_merge_list(t, &n);
    fj_bytes *m = fj_arena_alloc(mem, (n + 1) * sizeof *m);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        fj_bytes l = list[i].l, r = list[i].r;
        if (memchr(l.p, ' ', l.n) || memchr(r.p, ' ', r.n))
            ok = fj_fail(e, FJ_EUNSUP, "tokenizer: merge %zu has a space, which GGUF cannot write",
                         i);
        char *s = fj_arena_alloc(mem, l.n + r.n + 2);
        memcpy(s, l.p, l.n);
        s[l.n] = ' ';
        memcpy(s + l.n + 1, r.p, r.n);
        m[i] = (fj_bytes){ s, l.n + r.n + 1 };
    }
    free(list);
    p->merges = m;
    p->n_merges = n;
    return ok;
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
    if (ok && t->kind == FJ_MODEL_WORDLEVEL) ok = cannot(e);
    ok = ok && (t->kind == FJ_MODEL_UNIGRAM     ? t5_parts
                : t->kind == FJ_MODEL_WORDPIECE ? bert_parts
                : t->byte_level                 ? gpt2_parts
                                                : llama_parts)(t, p, &o->mem, e);
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
            tokens[i] = (fj_bytes){ s, strlen(s) };
            types[i] = FJ_TOKEN_UNUSED;
        } else if (types[i] == FJ_TOKEN_NORMAL && t->byte_fallback &&
                   fj_byte_piece(t->piece[i]) >= 0)
            types[i] = FJ_TOKEN_BYTE;
        else if (types[i] == FJ_TOKEN_NORMAL && t->kind == FJ_MODEL_WORDPIECE) {
            fj_bytes s = tokens[i]; /* "##go" -> "go", "go" -> U+2581 "go" */
            if (s.n >= 2 && memcmp(s.p, "##", 2) == 0) tokens[i] = (fj_bytes){ s.p + 2, s.n - 2 };
            else {
                char *x = fj_arena_alloc(&o->mem, s.n + 4);
                memcpy(x, FJ_META, 3);
                memcpy(x + 3, s.p, s.n);
                tokens[i] = (fj_bytes){ x, s.n + 3 };
            }
        }
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
    if (t->kind == FJ_MODEL_WORDPIECE) {
        p->cls = t->bos;
        p->sep = t->eos;
    }
    return true;
}
