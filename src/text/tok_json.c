/* tok_json.c - tokenizer.json of Hugging Face `tokenizers` into a description.
 *
 * Keys and their meaning: https://huggingface.co/docs/tokenizers (components), and what the library
 * writes.  Every key is either understood or refused by name: ignoring one would change ids. */
#include "text/tok_json.h"

#include <stdio.h>

fj_tok_rd *fj_rd_new(const char *name, fj_err *e) {
    fj_tok_rd *r = fj_zalloc(sizeof *r);
    r->name = name;
    r->e = e;
    r->d.bos = r->d.eos = r->d.eot = r->d.unk = r->d.pad = -1;
    return r;
}

bool fj_rd_fail(fj_tok_rd *r, fj_code code, const char *fmt, ...) {
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return fj_fail(r->e, code, "%s: %s", r->name, msg);
}

bool fj_rd_only(fj_tok_rd *r, const char *where, json_t *obj, const char *known) {
    const char *k;
    json_t *v;
    json_object_foreach(obj, k, v) {
        size_t n = strlen(k);
        bool found = false;
        for (const char *p = known; *p && !found;) {
            size_t m = strcspn(p, " ");
            found = m == n && memcmp(p, k, n) == 0;
            p += m + (p[m] == ' ');
        }
        if (!found) return UNSUP(r, "%s: key \"%s\" is not supported", where, k);
    }
    return true;
}

bool fj_rd_bool(fj_tok_rd *r, const char *where, json_t *obj, const char *key, bool def,
                bool *out) {
    json_t *v = json_object_get(obj, key);
    *out = def;
    if (fj_jnull(v)) return true;
    if (!json_is_boolean(v)) return BAD(r, "%s: \"%s\" is not true or false", where, key);
    *out = json_is_true(v);
    return true;
}

bool fj_rd_int(fj_tok_rd *r, const char *where, json_t *obj, const char *key, int def, int *out) {
    json_t *v = json_object_get(obj, key);
    *out = def;
    if (fj_jnull(v)) return true;
    json_int_t x = json_integer_value(v);
    if (!json_is_integer(v) || x < 0 || x > 1 << 24)
        return BAD(r, "%s: \"%s\" is not a number from 0 to 16777216", where, key);
    *out = (int)x;
    return true;
}

static bool same(fj_bytes a, fj_bytes b) {
    return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

int32_t fj_rd_find(const fj_tok_rd *r, fj_bytes s) {
    for (size_t i = 0; i < r->d.n_added; i++)
        if (same(r->d.added[i].text, s)) return r->d.added[i].id;
    for (size_t i = 0; i < r->d.n; i++)
        if (r->d.types[i] && same(r->d.pieces[i], s)) return (int32_t)i;
    return -1;
}

/* ---- vocabulary ------------------------------------------------------------------------------------ */
static bool put(fj_tok_rd *r, fj_bytes *pieces, uint8_t *types, size_t cap, fj_bytes s, int64_t id,
                fj_tok_type t) {
    if (id < 0 || (uint64_t)id >= cap)
        return BAD(r, "token \"%.*s\" has id %lld; expected less than %zu",
                   (int)FJ_MIN(s.n, (size_t)60), s.p, (long long)id, cap);
    if (types[id] && !same(pieces[id], s))
        return BAD(r, "tokens \"%.*s\" and \"%.*s\" have the same id %lld",
                   (int)FJ_MIN(pieces[id].n, (size_t)60), pieces[id].p,
                   (int)FJ_MIN(s.n, (size_t)60), s.p, (long long)id);
    if (types[id] && t == FJ_TOKEN_NORMAL)
        return BAD(r, "token \"%.*s\" is there twice", (int)FJ_MIN(s.n, (size_t)60), s.p);
    pieces[id] = s;
    types[id] = (uint8_t)t;
    r->d.n = FJ_MAX(r->d.n, (size_t)id + 1);
    return true;
}

static bool added_token(fj_tok_rd *r, json_t *j, size_t i, fj_tok_added *x) {
    json_t *id = json_object_get(j, "id"), *text = json_object_get(j, "content");
    bool normalized = false;
    if (!json_is_integer(id) || !json_is_string(text))
        return BAD(r, "added_tokens[%zu] has no id and content", i);
    x->text = fj_jstr(text);
    if (!fj_rd_bool(r, "added_tokens", j, "special", false, &x->special) ||
        !fj_rd_bool(r, "added_tokens", j, "lstrip", false, &x->lstrip) ||
        !fj_rd_bool(r, "added_tokens", j, "rstrip", false, &x->rstrip) ||
        !fj_rd_bool(r, "added_tokens", j, "single_word", false, &x->single_word) ||
        !fj_rd_bool(r, "added_tokens", j, "normalized", !x->special, &normalized) ||
        !fj_rd_only(r, "added_tokens", j,
                    "id content special lstrip rstrip single_word normalized"))
        return false;
    x->match = normalized ? FJ_ADDED_NORMALIZED : FJ_ADDED_RAW;
    return true;
}

json_t *fj_rd_added(fj_tok_rd *r, json_t *config, json_t *more) {
    json_t *out = json_array(), *v;
    const char *key;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, v) {
        char *end;
        long id = strtol(key, &end, 10);
        json_t *x = json_is_object(v) ? json_copy(v) : NULL;
        if (!x || *end || end == key) {
            BAD(r, "added_tokens_decoder: \"%.40s\" is not an id with a token", key);
            json_decref(x);
            json_decref(out);
            return NULL;
        }
        json_object_del(x, "__type");
        json_object_set_new(x, "id", json_integer(id));
        json_array_append_new(out, x);
    }
    json_object_foreach(more, key, v) {
        size_t i;
        json_t *x;
        bool known = false;
        json_array_foreach(out, i, x) known |= json_equal(json_object_get(x, "id"), v);
        if (known) continue;
        json_array_append_new(
            out, json_pack("{s:O, s:s, s:b}", "id", v, "content", key, "normalized", false));
    }
    return out;
}

bool fj_rd_vocab(fj_tok_rd *r, json_t *added) {
    const fj_json_model *m = &r->m;
    if (added && !json_is_array(added)) return BAD(r, "added_tokens is not an array");
    /* Ids may have holes, but not so many that a small file asks for much memory. */
    size_t n_added = json_array_size(added), cap = 2 * (m->n + n_added) + 4096, i;
    fj_bytes *pieces = fj_arena_alloc(&r->mem, cap * sizeof *pieces);
    uint8_t *types = fj_arena_alloc(&r->mem, cap);
    fj_tok_added *a = fj_arena_alloc(&r->mem, (n_added + 1) * sizeof *a);
    json_t *j;
    r->d.pieces = pieces;
    r->d.types = types;
    r->d.added = a;
    for (i = 0; i < m->n; i++)
        if (!put(r, pieces, types, cap, m->piece[i], m->id[i], FJ_TOKEN_NORMAL)) return false;
    json_array_foreach(added, i, j) {
        json_t *id = json_object_get(j, "id");
        if (!added_token(r, j, i, &a[i]) ||
            !put(r, pieces, types, cap, a[i].text, json_integer_value(id),
                 a[i].special ? FJ_TOKEN_CONTROL : FJ_TOKEN_USER))
            return false;
        a[i].id = (int32_t)json_integer_value(id);
        r->d.n_added = i + 1;
    }
    if (m->scored) {
        double *scores = fj_arena_alloc(&r->mem, (r->d.n + 1) * sizeof *scores);
        memcpy(scores, m->score, m->n * sizeof *scores);
        r->d.scores = scores;
    }
    return true;
}

/* ---- model ------------------------------------------------------------------------------------------ */
static bool unknown(fj_tok_rd *r, int32_t id) {
    r->d.unk = id;
    ((uint8_t *)(uintptr_t)r->d.types)[id] = FJ_TOKEN_UNKNOWN;
    return true;
}

static bool unk_token(fj_tok_rd *r, json_t *m) {
    json_t *unk = json_object_get(m, "unk_token");
    if (!json_is_string(unk)) return true;
    int32_t id = fj_rd_find(r, fj_jstr(unk));
    if (id < 0)
        return BAD(r, "model.unk_token \"%.60s\" is not in the vocabulary", json_string_value(unk));
    return unknown(r, id);
}

static bool affix(fj_tok_rd *r, json_t *m, const char *key, fj_bytes *out) {
    json_t *s = json_object_get(m, key);
    if (fj_jnull(s)) return true;
    if (!json_is_string(s)) return BAD(r, "model.%s is not a string", key);
    *out = fj_jstr(s);
    return true;
}

static bool bpe(fj_tok_rd *r, json_t *m, json_t *added) {
    if (!fj_rd_only(r, "model", m,
                    "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                    "byte_fallback ignore_merges vocab merges"))
        return false;
    json_t *drop = json_object_get(m, "dropout");
    if (!fj_jnull(drop) && json_number_value(drop) != 0) return UNSUP(r, "model.dropout is not 0");
    if (!r->m.has_vocab || r->m.scored) return BAD(r, "model.vocab is not an object");
    if (!r->m.has_merges) return BAD(r, "model.merges is not an array");
    r->d.merges = r->m.merges;
    r->d.n_merges = r->m.n_merges;
    return affix(r, m, "continuing_subword_prefix", &r->d.cont) &&
           affix(r, m, "end_of_word_suffix", &r->d.word_end) &&
           fj_rd_bool(r, "model", m, "fuse_unk", false, &r->d.fuse_unk) &&
           fj_rd_bool(r, "model", m, "byte_fallback", false, &r->d.byte_fallback) &&
           fj_rd_bool(r, "model", m, "ignore_merges", false, &r->d.ignore_merges) &&
           fj_rd_vocab(r, added) && unk_token(r, m);
}

static bool unigram(fj_tok_rd *r, json_t *m, json_t *added) {
    if (!fj_rd_only(r, "model", m, "type unk_id vocab byte_fallback")) return false;
    if (!r->m.has_vocab || !r->m.scored)
        return BAD(r, "model.vocab is not an array of [piece, score]");
    r->d.kind = FJ_MODEL_UNIGRAM;
    r->d.fuse_unk = true;
    json_t *unk = json_object_get(m, "unk_id");
    if (!fj_rd_bool(r, "model", m, "byte_fallback", false, &r->d.byte_fallback) ||
        !fj_rd_vocab(r, added))
        return false;
    if (fj_jnull(unk)) return true;
    if (!json_is_integer(unk) || json_integer_value(unk) < 0 ||
        json_integer_value(unk) >= (json_int_t)r->m.n)
        return BAD(r, "model.unk_id is not an id of model.vocab");
    return unknown(r, (int32_t)json_integer_value(unk));
}

static bool words(fj_tok_rd *r, json_t *m, json_t *added, bool pieces) {
    int max = 100;
    r->d.kind = pieces ? FJ_MODEL_WORDPIECE : FJ_MODEL_WORDLEVEL;
    if (!fj_rd_only(r, "model", m,
                    pieces ? "type unk_token continuing_subword_prefix max_input_chars_per_word "
                             "vocab"
                           : "type unk_token vocab"))
        return false;
    if (!r->m.has_vocab || r->m.scored) return BAD(r, "model.vocab is not an object");
    if (pieces) r->d.cont = LIT("##");
    if (!affix(r, m, "continuing_subword_prefix", &r->d.cont) ||
        !fj_rd_int(r, "model", m, "max_input_chars_per_word", 100, &max))
        return false;
    r->d.max_chars = (size_t)max;
    return fj_rd_vocab(r, added) && unk_token(r, m);
}

static bool model(fj_tok_rd *r, json_t *m, json_t *added) {
    if (!json_is_object(m)) return BAD(r, "no \"model\"");
    const char *type = fj_jtype(m);
    if (!*type || strcmp(type, "BPE") == 0) return bpe(r, m, added);
    if (strcmp(type, "Unigram") == 0) return unigram(r, m, added);
    if (strcmp(type, "WordPiece") == 0) return words(r, m, added, true);
    if (strcmp(type, "WordLevel") == 0) return words(r, m, added, false);
    return UNSUP(r, "model type \"%s\" is not supported", type);
}

/* ---- tokenizer_config.json ---------------------------------------------------------------------------- */
/* "x" or {"content": "x"} */
static int32_t config_token(const fj_tok_rd *r, json_t *c, const char *key) {
    json_t *v = json_object_get(c, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? fj_rd_find(r, fj_jstr(v)) : -1;
}

static int32_t first_of(const fj_tok_rd *r, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fj_bytes s = { names[i], strlen(names[i]) };
        for (size_t k = 0; k < r->d.n_added; k++)
            if (same(r->d.added[k].text, s)) return r->d.added[k].id;
    }
    return -1;
}

bool fj_rd_config(fj_tok_rd *r, json_t *c) {
    static const char *const bos[] = { "<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>" };
    static const char *const eos[] = { "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>" };
    int32_t x;
    if ((x = config_token(r, c, "bos_token")) >= 0) r->d.bos = x;
    if ((x = config_token(r, c, "eos_token")) >= 0) r->d.eos = x;
    if ((x = config_token(r, c, "pad_token")) >= 0) r->d.pad = x;
    /* A folder without tokenizer_config.json: the template, then the usual names. */
    if (r->d.bos < 0 && !c) r->d.bos = r->d.n_prefix ? r->prefix[0] : first_of(r, bos, FJ_LEN(bos));
    if (r->d.eos < 0 && !c) r->d.eos = r->d.n_suffix ? r->suffix[0] : first_of(r, eos, FJ_LEN(eos));
    /* LlamaTokenizer and GemmaTokenizer rebuild the template from these two; the others do not. */
    const char *cls = json_string_value(json_object_get(c, "tokenizer_class"));
    if (!cls || (strncmp(cls, "Llama", 5) != 0 && strncmp(cls, "Gemma", 5) != 0)) return true;
    json_t *ab = json_object_get(c, "add_bos_token"), *ae = json_object_get(c, "add_eos_token");
    if (json_is_boolean(ab)) {
        if (json_is_true(ab) && r->d.bos < 0)
            return fj_fail(
                r->e, FJ_EFORMAT,
                "tokenizer_config.json: add_bos_token without a bos_token of the vocabulary");
        r->d.n_prefix = json_is_true(ab);
        r->prefix[0] = r->d.bos;
    }
    if (json_is_boolean(ae)) {
        if (json_is_true(ae) && r->d.eos < 0)
            return fj_fail(
                r->e, FJ_EFORMAT,
                "tokenizer_config.json: add_eos_token without an eos_token of the vocabulary");
        r->d.n_suffix = json_is_true(ae);
        r->suffix[0] = r->d.eos;
    }
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------------------ */
json_t *fj_rd_parse(const char *name, const char *s, size_t n, fj_err *e) {
    json_error_t je;
    json_t *j = json_loadb(s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (!j) fj_fail(e, FJ_EFORMAT, "%s, line %d, column %d: %s", name, je.line, je.column, je.text);
    else if (!json_is_object(j)) {
        fj_fail(e, FJ_EFORMAT, "%s is not a JSON object", name);
        json_decref(j);
        j = NULL;
    }
    return j;
}

fj_tokenizer *fj_rd_build(fj_tok_rd *r) {
    if (r->bytes && r->d.kind == FJ_MODEL_BPE) r->d.byte_level = true;
    else if (r->bytes) {
        if (r->d.n_pres == FJ_PRE_MAX) {
            UNSUP(r, "pre_tokenizer: over %d steps", FJ_PRE_MAX);
            return NULL;
        }
        r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_BYTES };
    }
    r->d.norms = r->norms;
    r->d.pres = r->pres;
    r->d.decs = r->decs;
    r->d.prefix = r->prefix;
    r->d.suffix = r->suffix;
    return fj_tokenizer_build(&r->d, r->e);
}

void fj_rd_free(fj_tok_rd *r) {
    fj_json_model_free(&r->m);
    fj_arena_free(&r->mem);
    free(r);
}

/* The text without what was read by hand.  When that did not work, the whole text, for the better message of
 * the general parser. */
static json_t *parse(fj_tok_rd *r, const char *json, size_t n, fj_err *e) {
    fj_str rest = { 0 };
    json_t *root = NULL;
    fj_err why = { 0 };
    if (fj_json_model_cut(json, n, &r->m, &rest, &why))
        root = fj_rd_parse("tokenizer.json", rest.s, rest.n, e);
    else if ((root = fj_rd_parse("tokenizer.json", json, n, e))) {
        json_decref(root);
        root = NULL;
        if (e) *e = why;
        fj_wrap(e, "tokenizer.json");
    }
    fj_str_free(&rest);
    return root;
}

/* Without a decoder, tokens are joined by spaces. */
static bool decoding(fj_tok_rd *r, json_t *j) {
    if (!fj_jnull(j)) return fj_rd_decoder(r, j, 0);
    r->decs[r->d.n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_WORDPIECE };
    return true;
}

fj_tokenizer *fj_tokenizer_from_json(const char *json, size_t n, const char *cfg, size_t cn,
                                     fj_err *e) {
    fj_tok_rd *r = fj_rd_new("tokenizer.json", e);
    fj_tokenizer *t = NULL;
    json_t *root = parse(r, json, n, e), *c = NULL;
    if (!root || (cfg && !(c = fj_rd_parse("tokenizer_config.json", cfg, cn, e)))) goto out;
    if (fj_rd_only(
            r, "top level", root,
            "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model") &&
        model(r, json_object_get(root, "model"), json_object_get(root, "added_tokens")) &&
        fj_rd_normalizer(r, json_object_get(root, "normalizer"), 0) &&
        fj_rd_pre(r, json_object_get(root, "pre_tokenizer"), 0) &&
        decoding(r, json_object_get(root, "decoder")) &&
        fj_rd_post(r, json_object_get(root, "post_processor"), 0) && fj_rd_config(r, c))
        t = fj_rd_build(r);
out:
    json_decref(root);
    json_decref(c);
    fj_rd_free(r);
    return t;
}
