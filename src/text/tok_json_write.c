/* tok_json_write.c - a tokenizer.json that Hugging Face `tokenizers` reads with the same ids. */
#include "text/tok.h"

#include <jansson.h>

static json_t *jstr(fj_bytes s) { return json_stringn(s.p, s.n); }

static json_t *added(const fj_tokenizer *t) {
    json_t *v = json_array();
    for (size_t i = 0; i < t->n_added; i++) {
        const fj_tok_added *a = &t->added[i];
        json_array_append_new(v, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id,
                                           "content", jstr(a->text), "single_word", a->single_word,
                                           "lstrip", a->lstrip, "rstrip", a->rstrip, "normalized",
                                           a->normalized, "special", a->special));
    }
    return v;
}

static json_t *normalizer(const fj_tokenizer *t) {
    static const char *const forms[] = { "NFC", "NFD", "NFKC", "NFKD" };
    json_t *v = json_array();
    for (size_t i = 0; i < t->n_norms; i++) {
        const fj_tok_norm *n = &t->norms[i];
        json_t *j;
        if (n->kind == FJ_NORM_PREPEND)
            j = json_pack("{s:s, s:o}", "type", "Prepend", "prepend", jstr(n->a));
        else if (n->kind == FJ_NORM_REPLACE)
            j = json_pack("{s:s, s:{s:o}, s:o}", "type", "Replace", "pattern", "String", jstr(n->a),
                          "content", jstr(n->b));
        else j = json_pack("{s:s}", "type", forms[n->kind - FJ_NORM_NFC]);
        json_array_append_new(v, j);
    }
    if (!t->n_norms) {
        json_decref(v);
        return json_null();
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", v);
}

static json_t *byte_level(bool prefix, bool regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix,
                     "trim_offsets", true, "use_regex", regex);
}

static bool is_gpt2(const fj_tok_pre *d) {
    return d->kind == FJ_PRE_SPLIT && !d->literal && !d->invert && d->keep == FJ_KEEP_ISOLATED &&
           d->regex.n == strlen(fj_pre_gpt2) && memcmp(d->regex.p, fj_pre_gpt2, d->regex.n) == 0;
}

static json_t *pre_tokenizer(const fj_tokenizer *t, fj_err *e) {
    static const char *const keep[] = { "Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext" };
    static const char *const scheme[] = { "never", "always", "first" };
    json_t *v = json_array();
    size_t n = t->n_pres;
    bool regex = t->byte_level && n && is_gpt2(&t->pres[n - 1].d);
    n -= regex;
    bool space = t->byte_level && n && t->pres[n - 1].d.kind == FJ_PRE_SPACE;
    n -= space;
    for (size_t i = 0; i < n; i++) {
        const fj_tok_pre *d = &t->pres[i].d;
        if (d->kind == FJ_PRE_SPACE) {
            json_decref(v);
            fj_fail(e, FJ_EUNSUP,
                    "tokenizer.json cannot put a space in front before other pre-tokenizer steps");
            return NULL;
        }
        json_array_append_new(
            v, d->kind == FJ_PRE_SPLIT
                   ? json_pack("{s:s, s:{s:o}, s:s, s:b}", "type", "Split", "pattern",
                               d->literal ? "String" : "Regex", jstr(d->regex), "behavior",
                               keep[d->keep], "invert", d->invert)
                   : json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", FJ_META,
                               "prepend_scheme", scheme[d->prefix], "split", d->split));
    }
    if (t->byte_level) json_array_append_new(v, byte_level(space, regex));
    if (!json_array_size(v)) {
        json_decref(v);
        return json_null();
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", v);
}

static void template_part(const fj_tokenizer *t, json_t *list, int type_id) {
    for (size_t i = 0; i < t->n_prefix; i++)
        json_array_append_new(list, json_pack("{s:{s:o, s:i}}", "SpecialToken", "id",
                                              jstr(t->piece[t->prefix[i]]), "type_id", type_id));
    json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "Sequence", "id", type_id ? "B" : "A",
                                          "type_id", type_id));
    for (size_t i = 0; i < t->n_suffix; i++)
        json_array_append_new(list, json_pack("{s:{s:o, s:i}}", "SpecialToken", "id",
                                              jstr(t->piece[t->suffix[i]]), "type_id", type_id));
}

static json_t *post_processor(const fj_tokenizer *t) {
    if (!t->n_prefix && !t->n_suffix) return json_null();
    json_t *single = json_array(), *two = json_array(), *special = json_object();
    template_part(t, single, 0);
    template_part(t, two, 0);
    template_part(t, two, 1);
    for (size_t i = 0; i < t->n_prefix + t->n_suffix; i++) {
        int32_t id = i < t->n_prefix ? t->prefix[i] : t->suffix[i - t->n_prefix];
        json_t *x = json_pack("{s:o, s:[i], s:[o]}", "id", jstr(t->piece[id]), "ids", (int)id,
                              "tokens", jstr(t->piece[id]));
        json_object_setn_new(special, t->piece[id].p, t->piece[id].n, x);
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     two, "special_tokens", special);
}

static json_t *decoder(const fj_tokenizer *t) {
    if (t->byte_level) return byte_level(true, true);
    json_t *v = json_array();
    if (t->metaspace)
        json_array_append_new(v, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                           "String", FJ_META, "content", " "));
    if (t->byte_fallback) json_array_append_new(v, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(v, json_pack("{s:s}", "type", "Fuse"));
    if (t->strip_left)
        json_array_append_new(v, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ",
                                           "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", v);
}

static int by_rank(const void *a, const void *b) {
    const fj_merge_slot *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->key > y->key) - (x->key < y->key);
}

static bool put_merge(json_t *list, fj_bytes l, fj_bytes r) {
    return json_array_append_new(list, json_pack("[o, o]", jstr(l), jstr(r))) == 0;
}

static json_t *merges(const fj_tokenizer *t, fj_err *e) {
    json_t *list = json_array();
    bool ok = true;
    for (size_t i = 0; i < t->n_merge_list && ok; i++)
        ok = put_merge(list, t->merge_list[i].l, t->merge_list[i].r);
    if (!ok) fj_fail(e, FJ_EUNSUP, "tokenizer.json: a merge that is not UTF-8");
    if (t->by_score) {
        /* Merges have no ties.  Tokens of one score (Llama 2 has some) follow each other as their ids,
         * which is what the tokenizer.json of those models does. */
        fj_merge_slot *m = fj_alloc((t->n_merges + 1) * sizeof *m);
        size_t n = 0;
        for (uint64_t i = 0; i <= t->merge_mask; i++)
            if (t->merges[i].key != UINT64_MAX) m[n++] = t->merges[i];
        qsort(m, n, sizeof *m, by_rank);
        for (size_t i = 0; i < n && ok; i++) {
            int32_t l = (int32_t)(m[i].key >> 32), r = (int32_t)m[i].key;
            if (l >= t->n || r >= t->n)
                ok = fj_fail(e, FJ_EUNSUP,
                             "tokenizer.json: token %d is made of characters that are no tokens",
                             (int)m[i].id);
            else if (!put_merge(list, t->piece[l], t->piece[r]))
                ok = fj_fail(e, FJ_EUNSUP, "tokenizer.json: a merge that is not UTF-8");
        }
        free(m);
    }
    if (ok) return list;
    json_decref(list);
    return NULL;
}

char *fj_tokenizer_to_json(const fj_tokenizer *t, size_t *n, fj_err *e) {
    json_t *vocab = json_object(), *m = NULL, *pre = NULL, *root = NULL;
    char *text = NULL;
    for (int32_t i = 0; i < t->n; i++) {
        fj_bytes s = t->piece[i];
        if (!t->type[i]) continue;
        if (memchr(s.p, 0, s.n) || json_object_getn(vocab, s.p, s.n) ||
            json_object_setn_new(vocab, s.p, s.n, json_integer(i)) != 0) {
            fj_fail(e, FJ_EUNSUP,
                    "tokenizer.json cannot hold token %d \"%.*s\": spelled twice, or not UTF-8",
                    (int)i, (int)FJ_MIN(s.n, 60), s.p);
            goto out;
        }
    }
    if (!(m = merges(t, e)) || !(pre = pre_tokenizer(t, e))) goto out;
    root = json_pack(
        "{s:s, s:n, s:n, s:o, s:o, s:O, s:o, s:o, s:{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added(t), "normalizer",
        normalizer(t), "pre_tokenizer", pre, "post_processor", post_processor(t), "decoder",
        decoder(t), "model", "type", "BPE", "dropout", "unk_token",
        t->unk >= 0 ? jstr(t->piece[t->unk]) : json_null(), "continuing_subword_prefix",
        "end_of_word_suffix", "fuse_unk", t->fuse_unk, "byte_fallback", t->byte_fallback,
        "ignore_merges", t->ignore_merges, "vocab", vocab, "merges", m);
    if (root) text = json_dumps(root, JSON_COMPACT);
    if (!text) fj_fail(e, FJ_EUNSUP, "tokenizer.json: a token that is not UTF-8");
    else if (n) *n = strlen(text);
out:
    json_decref(root);
    json_decref(pre);
    json_decref(m);
    json_decref(vocab);
    return text;
}
