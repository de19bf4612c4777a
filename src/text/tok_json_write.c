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
                                           a->match != FJ_ADDED_RAW, "special", a->special));
    }
    return v;
}

static void base64(fj_bytes s, fj_str *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t x = 0;
        for (size_t k = 0; k < 3; k++) x = x << 8 | (i + k < s.n ? (unsigned char)s.p[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            fj_str_addc(out, i + k <= s.n ? digits[x >> (18 - 6 * k) & 63] : '=');
    }
}

/* SentencePiece's own normalizer in steps of `tokenizers`.  NULL: it has none that do the same. */
static json_t *sp_norm(const fj_tok_norm *n, json_t *list, fj_err *e) {
    if (n->a.n || n->flags & (FJ_NORM_EXTRA | FJ_NORM_SUFFIX)) {
        json_decref(list);
        fj_fail(e, FJ_EUNSUP,
                "tokenizer.json cannot say what this SentencePiece normalizer does (its charsmap, "
                "removed or trailing spaces)");
        return NULL;
    }
    bool meta = n->flags & FJ_NORM_ESCAPE;
    if (n->flags & FJ_NORM_DUMMY)
        json_array_append_new(
            list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", meta ? FJ_META : " "));
    if (meta)
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                              "String", " ", "content", FJ_META));
    return list;
}

static json_t *normalizer(const fj_tokenizer *t, fj_err *e) {
    static const char *const bare[] = {
        [FJ_NORM_NFC] = "NFC",   [FJ_NORM_NFD] = "NFD",         [FJ_NORM_NFKC] = "NFKC",
        [FJ_NORM_NFKD] = "NFKD", [FJ_NORM_LOWER] = "Lowercase", [FJ_NORM_UNACCENT] = "StripAccents",
        [FJ_NORM_NMT] = "Nmt",   [FJ_NORM_BYTES] = "ByteLevel",
    };
    json_t *v = json_array();
    for (size_t i = 0; i < t->n_norms; i++) {
        const fj_tok_norm *n = &t->norms[i].d;
        unsigned f = n->flags;
        json_t *j = NULL;
        fj_str s = { 0 };
        switch (n->kind) {
        case FJ_NORM_PREPEND:
            j = json_pack("{s:s, s:o}", "type", "Prepend", "prepend", jstr(n->a));
            break;
        case FJ_NORM_REPLACE:
            j = json_pack("{s:s, s:{s:o}, s:o}", "type", "Replace", "pattern",
                          f & FJ_NORM_REGEX ? "Regex" : "String", jstr(n->a), "content",
                          jstr(n->b));
            break;
        case FJ_NORM_STRIP:
            j = json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left", f & FJ_NORM_LEFT,
                          "strip_right", f & FJ_NORM_RIGHT);
            break;
        case FJ_NORM_BERT:
            j = json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer", "clean_text",
                          f & FJ_NORM_CLEAN, "handle_chinese_chars", f & FJ_NORM_CJK,
                          "strip_accents", f & FJ_NORM_ACCENTS, "lowercase", f & FJ_NORM_LOWERCASE);
            break;
        case FJ_NORM_CHARSMAP:
            base64(n->a, &s);
            j = json_pack("{s:s, s:s}", "type", "Precompiled", "precompiled_charsmap",
                          s.s ? s.s : "");
            fj_str_free(&s);
            break;
        case FJ_NORM_SP:
            if (!sp_norm(n, v, e)) return NULL;
            continue;
        default: j = json_pack("{s:s}", "type", bare[n->kind]);
        }
        json_array_append_new(v, j);
    }
    if (!json_array_size(v)) {
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
                                        "MergedWithNext", "Contiguous" };
    static const char *const scheme[] = { "never", "always", "first" };
    json_t *v = json_array();
    size_t n = t->n_pres;
    bool regex = t->byte_level && n && is_gpt2(&t->pres[n - 1].d);
    n -= regex;
    bool space = t->byte_level && n && t->pres[n - 1].d.kind == FJ_PRE_SPACE;
    n -= space;
    for (size_t i = 0; i < n; i++) {
        const fj_tok_pre *d = &t->pres[i].d;
        json_t *j = NULL;
        switch (d->kind) {
        case FJ_PRE_SPACE:
            /* ByteLevel says it together with its expression and its stand-ins. */
            if (i + 1 < n && t->pres[i + 1].d.kind == FJ_PRE_BYTES) {
                j = byte_level(true, false);
                i++;
            } else if (i + 2 < n && is_gpt2(&t->pres[i + 1].d) &&
                       t->pres[i + 2].d.kind == FJ_PRE_BYTES) {
                j = byte_level(true, true);
                i += 2;
            } else {
                json_decref(v);
                fj_fail(e, FJ_EUNSUP,
                        "tokenizer.json cannot put a space in front before other pre-tokenizer "
                        "steps");
                return NULL;
            }
            break;
        case FJ_PRE_SPLIT:
            j = json_pack("{s:s, s:{s:o}, s:s, s:b}", "type", "Split", "pattern",
                          d->literal ? "String" : "Regex", jstr(d->regex), "behavior",
                          keep[d->keep], "invert", d->invert);
            break;
        case FJ_PRE_METASPACE:
            j = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", FJ_META,
                          "prepend_scheme", scheme[d->prefix], "split", d->split);
            break;
        case FJ_PRE_CLASS:
            if (d->cls == FJ_CLS_SPACE) j = json_pack("{s:s}", "type", "WhitespaceSplit");
            else if (d->cls == FJ_CLS_PUNCT)
                j = json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", keep[d->keep]);
            else if (d->cls == FJ_CLS_NUMERIC)
                j = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits",
                              d->keep == FJ_KEEP_ISOLATED);
            else
                j = json_pack("{s:s, s:o}", "type", "CharDelimiterSplit", "delimiter",
                              jstr(d->regex));
            break;
        case FJ_PRE_FIXED:
            j = json_pack("{s:s, s:i}", "type", "FixedLength", "length", d->count);
            break;
        case FJ_PRE_BYTES: j = byte_level(false, false); break;
        }
        json_array_append_new(v, j);
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
    json_t *v = json_array();
    for (size_t i = 0; i < t->n_decs; i++) {
        const fj_tok_dec *d = &t->decs[i];
        json_t *j = NULL;
        switch (d->kind) {
        case FJ_DEC_BYTE_LEVEL: j = byte_level(true, true); break;
        case FJ_DEC_BYTES: j = json_pack("{s:s}", "type", "ByteFallback"); break;
        case FJ_DEC_FUSE: j = json_pack("{s:s}", "type", "Fuse"); break;
        case FJ_DEC_STRIP:
            j = json_pack("{s:s, s:o, s:i, s:i}", "type", "Strip", "content", jstr(d->a), "start",
                          d->left, "stop", d->right);
            break;
        case FJ_DEC_REPLACE:
            j = json_pack("{s:s, s:{s:o}, s:o}", "type", "Replace", "pattern",
                          d->regex ? "Regex" : "String", jstr(d->a), "content", jstr(d->b));
            break;
        case FJ_DEC_META:
            j = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", FJ_META,
                          "prepend_scheme", d->strip ? "always" : "never", "split", true);
            break;
        case FJ_DEC_WORDPIECE:
            if (!d->a.n) continue; /* joined by spaces: no decoder */
            j = json_pack("{s:s, s:o, s:b}", "type", "WordPiece", "prefix", jstr(d->a), "cleanup",
                          d->clean);
            break;
        case FJ_DEC_SUFFIX:
            j = json_pack("{s:s, s:o}", "type", "BPEDecoder", "suffix", jstr(d->a));
            break;
        case FJ_DEC_CTC:
            j = json_pack("{s:s, s:o, s:o, s:b}", "type", "CTC", "pad_token", jstr(d->a),
                          "word_delimiter_token", jstr(d->b), "cleanup", d->clean);
            break;
        }
        json_array_append_new(v, j);
    }
    if (json_array_size(v) == 1) {
        json_t *one = json_incref(json_array_get(v, 0));
        json_decref(v);
        return one;
    }
    if (!json_array_size(v)) {
        json_decref(v);
        return json_null();
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", v);
}

static bool put_merge(json_t *list, fj_bytes l, fj_bytes r) {
    return json_array_append_new(list, json_pack("[o, o]", jstr(l), jstr(r))) == 0;
}

static json_t *merges(const fj_tokenizer *t, fj_err *e) {
    json_t *list = json_array();
    size_t n;
    fj_tok_merge *m = fj_merge_list(t, &n);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        if (!t->merge_list && (fj_spell_get(&t->ids, m[i].l.p, m[i].l.n) < 0 ||
                               fj_spell_get(&t->ids, m[i].r.p, m[i].r.n) < 0))
            ok = fj_fail(e, FJ_EUNSUP,
                         "tokenizer.json: merge %zu is of characters that are no tokens", i);
        else if (!put_merge(list, m[i].l, m[i].r))
            ok = fj_fail(e, FJ_EUNSUP, "tokenizer.json: a merge that is not UTF-8");
    }
    free(m);
    if (ok) return list;
    json_decref(list);
    return NULL;
}

static bool no_spelling(const fj_tokenizer *t, int32_t i, fj_err *e) {
    return fj_fail(e, FJ_EUNSUP,
                   "tokenizer.json cannot hold token %d \"%.*s\": spelled twice, or not UTF-8",
                   (int)i, (int)FJ_MIN(t->piece[i].n, (size_t)60), t->piece[i].p);
}

/* [[piece, score]]: ids are places, so that only what is added may stand behind a hole. */
static json_t *scored(const fj_tokenizer *t, fj_err *e) {
    json_t *v = json_array();
    if (t->single) {
        json_decref(v);
        fj_fail(
            e, FJ_EUNSUP,
            "tokenizer.json: `tokenizers` adds probabilities in another way than SentencePiece");
        return NULL;
    }
    for (int32_t i = 0; i < t->n; i++) {
        json_t *s = t->type[i] ? jstr(t->piece[i]) : NULL;
        if (!s || json_array_append_new(v, json_pack("[o, f]", s, t->scores[i])) != 0) {
            no_spelling(t, i, e);
            json_decref(v);
            return NULL;
        }
    }
    return v;
}

static json_t *spelled(const fj_tokenizer *t, fj_err *e) {
    json_t *v = json_object();
    for (int32_t i = 0; i < t->n; i++) {
        fj_bytes s = t->piece[i];
        if (!t->type[i]) continue;
        if (memchr(s.p, 0, s.n) || json_object_getn(v, s.p, s.n) ||
            json_object_setn_new(v, s.p, s.n, json_integer(i)) != 0) {
            no_spelling(t, i, e);
            json_decref(v);
            return NULL;
        }
    }
    return v;
}

static json_t *model(const fj_tokenizer *t, fj_err *e) {
    json_t *vocab = t->kind == FJ_MODEL_UNIGRAM ? scored(t, e) : spelled(t, e), *m;
    if (!vocab) return NULL;
    json_t *unk = t->unk >= 0 ? jstr(t->piece[t->unk]) : json_null();
    switch (t->kind) {
    case FJ_MODEL_UNIGRAM:
        json_decref(unk);
        return json_pack("{s:s, s:o, s:o, s:b}", "type", "Unigram", "unk_id",
                         t->unk >= 0 ? json_integer(t->unk) : json_null(), "vocab", vocab,
                         "byte_fallback", t->byte_fallback);
    case FJ_MODEL_WORDPIECE:
        return json_pack("{s:s, s:o, s:o, s:I, s:o}", "type", "WordPiece", "unk_token", unk,
                         "continuing_subword_prefix", jstr(t->cont), "max_input_chars_per_word",
                         (json_int_t)t->max_chars, "vocab", vocab);
    case FJ_MODEL_WORDLEVEL:
        return json_pack("{s:s, s:o, s:o}", "type", "WordLevel", "unk_token", unk, "vocab", vocab);
    case FJ_MODEL_BPE: break;
    }
    if (!(m = merges(t, e))) {
        json_decref(unk);
        json_decref(vocab);
        return NULL;
    }
    return json_pack("{s:s, s:n, s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                     "unk_token", unk, "continuing_subword_prefix",
                     t->cont.n ? jstr(t->cont) : json_null(), "end_of_word_suffix",
                     t->word_end.n ? jstr(t->word_end) : json_null(), "fuse_unk", t->fuse_unk,
                     "byte_fallback", t->byte_fallback, "ignore_merges", t->ignore_merges, "vocab",
                     vocab, "merges", m);
}

char *fj_tokenizer_to_json(const fj_tokenizer *t, size_t *n, fj_err *e) {
    json_t *m = model(t, e), *pre = NULL, *norm = NULL, *root = NULL;
    char *text = NULL;
    if (!m || !(pre = pre_tokenizer(t, e)) || !(norm = normalizer(t, e))) goto out;
    root =
        json_pack("{s:s, s:n, s:n, s:o, s:O, s:O, s:o, s:o, s:O}", "version", "1.0", "truncation",
                  "padding", "added_tokens", added(t), "normalizer", norm, "pre_tokenizer", pre,
                  "post_processor", post_processor(t), "decoder", decoder(t), "model", m);
    if (root) text = json_dumps(root, JSON_COMPACT);
    if (!text) fj_fail(e, FJ_EUNSUP, "tokenizer.json: a token that is not UTF-8");
    else if (n) *n = strlen(text);
out:
    json_decref(root);
    json_decref(norm);
    json_decref(pre);
    json_decref(m);
    return text;
}
