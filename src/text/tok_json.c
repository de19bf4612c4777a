/* tok_json.c - tokenizer.json of Hugging Face `tokenizers`, model BPE, into a description.
 *
 * Keys and their meaning: https://huggingface.co/docs/tokenizers (components), and what the library
 * writes.  Every key is either understood or refused by name: ignoring one would change ids. */
#include "text/tok.h"

#include <jansson.h>

typedef struct rd {
    fj_arena mem;
    fj_tok_desc d;
    fj_tok_norm norms[16];
    fj_tok_pre pres[FJ_PRE_MAX];
    bool ended; /* ByteLevel was seen: nothing may follow */
    int32_t prefix[8], suffix[8];
    fj_err *e;
} rd;

#define BAD(r, ...) fj_fail((r)->e, FJ_EFORMAT, "tokenizer.json: " __VA_ARGS__)
#define UNSUP(r, ...) fj_fail((r)->e, FJ_EUNSUP, "tokenizer.json: " __VA_ARGS__)

static fj_bytes str(const json_t *j) {
    return (fj_bytes){ json_string_value(j), json_string_length(j) };
}
static bool is_null(const json_t *j) { return !j || json_is_null(j); }

/* Refuses members that are not in the list (separated by spaces). */
static bool only(rd *r, const char *where, json_t *obj, const char *known) {
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

static bool get_bool(rd *r, const char *where, json_t *obj, const char *key, bool def, bool *out) {
    json_t *v = json_object_get(obj, key);
    if (is_null(v)) {
        *out = def;
        return true;
    }
    if (!json_is_boolean(v)) return BAD(r, "%s: \"%s\" is not true or false", where, key);
    *out = json_is_true(v);
    return true;
}

static const char *type_of(const json_t *obj) {
    const char *s = json_string_value(json_object_get(obj, "type"));
    return s ? s : "";
}

/* {"String": "x"} or {"Regex": "x"} */
static bool pattern(rd *r, const char *where, json_t *p, bool *literal, fj_bytes *out) {
    json_t *s = json_object_get(p, "String"), *x = json_object_get(p, "Regex");
    if (json_is_string(p)) s = p;
    if (!json_is_string(s ? s : x))
        return BAD(r, "%s: \"pattern\" has neither String nor Regex", where);
    *literal = s != NULL;
    *out = str(s ? s : x);
    if (!out->n) return BAD(r, "%s: \"pattern\" is empty", where);
    return true;
}

static bool normalizer(rd *r, json_t *j, int depth) {
    if (is_null(j)) return true;
    if (depth > 4) return UNSUP(r, "normalizer: sequences in sequences");
    const char *type = type_of(j);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *v;
        if (!only(r, "normalizer", j, "type normalizers")) return false;
        json_array_foreach(json_object_get(j, "normalizers"), i,
                           v) if (!normalizer(r, v, depth + 1)) return false;
        return true;
    }
    if (r->d.n_norms == FJ_LEN(r->norms)) return UNSUP(r, "normalizer: over 16 steps");
    fj_tok_norm *n = &r->norms[r->d.n_norms];
    static const char *const forms[] = { "NFC", "NFD", "NFKC", "NFKD" };
    for (int i = 0; i < 4; i++) {
        if (strcmp(type, forms[i]) != 0) continue;
        n->kind = (fj_norm_kind)(FJ_NORM_NFC + i);
        r->d.n_norms++;
        return only(r, "normalizer", j, "type");
    }
    if (strcmp(type, "Prepend") == 0) {
        json_t *s = json_object_get(j, "prepend");
        if (!json_is_string(s)) return BAD(r, "normalizer Prepend: \"prepend\" is not a string");
        *n = (fj_tok_norm){ .kind = FJ_NORM_PREPEND, .a = str(s) };
        r->d.n_norms++;
        return only(r, "normalizer Prepend", j, "type prepend");
    }
    if (strcmp(type, "Replace") == 0) {
        bool literal = false;
        json_t *c = json_object_get(j, "content");
        if (!pattern(r, "normalizer Replace", json_object_get(j, "pattern"), &literal, &n->a))
            return false;
        if (!literal) return UNSUP(r, "normalizer Replace: a Regex pattern");
        if (!json_is_string(c)) return BAD(r, "normalizer Replace: \"content\" is not a string");
        n->kind = FJ_NORM_REPLACE;
        n->b = str(c);
        r->d.n_norms++;
        return only(r, "normalizer Replace", j, "type pattern content");
    }
    return UNSUP(r, "normalizer \"%s\" is not supported", type);
}

static fj_tok_pre *add_pre(rd *r, fj_tok_pre p) {
    if (r->ended) {
        UNSUP(r, "pre_tokenizer: a step behind ByteLevel");
        return NULL;
    }
    if (r->d.n_pres == FJ_PRE_MAX) {
        UNSUP(r, "pre_tokenizer: over %d steps", FJ_PRE_MAX);
        return NULL;
    }
    r->pres[r->d.n_pres] = p;
    return &r->pres[r->d.n_pres++];
}

#define LIT(s) ((fj_bytes){ s, sizeof(s) - 1 })

static bool prefix_scheme(rd *r, const char *where, json_t *j, int *out) {
    bool always = true;
    if (!get_bool(r, where, j, "add_prefix_space", true, &always)) return false;
    *out = always ? FJ_PREFIX_ALWAYS : FJ_PREFIX_NEVER;
    const char *s = json_string_value(json_object_get(j, "prepend_scheme"));
    if (!s) return true;
    if (strcmp(s, "always") == 0) *out = FJ_PREFIX_ALWAYS;
    else if (strcmp(s, "never") == 0) *out = FJ_PREFIX_NEVER;
    else if (strcmp(s, "first") == 0) *out = FJ_PREFIX_FIRST;
    else return UNSUP(r, "%s: prepend_scheme \"%s\"", where, s);
    return true;
}

static bool meta_char(rd *r, const char *where, json_t *j) {
    json_t *c = json_object_get(j, "replacement");
    if (!json_is_string(c) || strcmp(json_string_value(c), FJ_META) != 0)
        return UNSUP(r, "%s: \"replacement\" is not U+2581", where);
    return true;
}

static bool pre_tokenizer(rd *r, json_t *j, int depth) {
    if (is_null(j)) return true;
    if (depth > 4) return UNSUP(r, "pre_tokenizer: sequences in sequences");
    const char *type = type_of(j);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *v;
        if (!only(r, "pre_tokenizer", j, "type pretokenizers")) return false;
        json_array_foreach(json_object_get(j, "pretokenizers"), i,
                           v) if (!pre_tokenizer(r, v, depth + 1)) return false;
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        bool prefix = false, regex = false;
        if (!only(r, "pre_tokenizer ByteLevel", j,
                  "type add_prefix_space trim_offsets use_regex") ||
            !get_bool(r, "pre_tokenizer ByteLevel", j, "add_prefix_space", true, &prefix) ||
            !get_bool(r, "pre_tokenizer ByteLevel", j, "use_regex", true, &regex))
            return false;
        /* The space goes in front of what comes in, then the expression cuts. */
        if (prefix && !add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPACE })) return false;
        if (regex && !add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                               .regex = { fj_pre_gpt2, strlen(fj_pre_gpt2) } }))
            return false;
        r->ended = r->d.byte_level = true;
        return true;
    }
    if (strcmp(type, "Split") == 0) {
        fj_tok_pre p = { .kind = FJ_PRE_SPLIT };
        const char *b = json_string_value(json_object_get(j, "behavior"));
        if (!only(r, "pre_tokenizer Split", j, "type pattern behavior invert") ||
            !pattern(r, "pre_tokenizer Split", json_object_get(j, "pattern"), &p.literal,
                     &p.regex) ||
            !get_bool(r, "pre_tokenizer Split", j, "invert", false, &p.invert))
            return false;
        if (!b) return BAD(r, "pre_tokenizer Split: no \"behavior\"");
        if (strcmp(b, "Isolated") == 0) p.keep = FJ_KEEP_ISOLATED;
        else if (strcmp(b, "Removed") == 0) p.keep = FJ_KEEP_REMOVED;
        else if (strcmp(b, "MergedWithPrevious") == 0 && !p.invert) p.keep = FJ_KEEP_PREVIOUS;
        else if (strcmp(b, "MergedWithNext") == 0 && !p.invert) p.keep = FJ_KEEP_NEXT;
        else
            return UNSUP(r, "pre_tokenizer Split: behavior \"%s\"%s", b,
                         p.invert ? " inverted" : "");
        return add_pre(r, p) != NULL;
    }
    if (strcmp(type, "Digits") == 0) {
        bool each = false;
        if (!only(r, "pre_tokenizer Digits", j, "type individual_digits") ||
            !get_bool(r, "pre_tokenizer Digits", j, "individual_digits", false, &each))
            return false;
        return add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                        .regex = each ? LIT("\\p{N}") : LIT("\\p{N}+") }) != NULL;
    }
    if (strcmp(type, "Metaspace") == 0) {
        fj_tok_pre p = { .kind = FJ_PRE_METASPACE };
        if (!only(r, "pre_tokenizer Metaspace", j,
                  "type replacement prepend_scheme add_prefix_space split str_rep") ||
            !meta_char(r, "pre_tokenizer Metaspace", j) ||
            !get_bool(r, "pre_tokenizer Metaspace", j, "split", true, &p.split) ||
            !prefix_scheme(r, "pre_tokenizer Metaspace", j, &p.prefix))
            return false;
        return add_pre(r, p) != NULL;
    }
    return UNSUP(r, "pre_tokenizer \"%s\" is not supported", type);
}

static bool decoder(rd *r, json_t *j, int depth) {
    if (is_null(j)) return true;
    if (depth > 4) return UNSUP(r, "decoder: sequences in sequences");
    const char *type = type_of(j);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *v;
        json_array_foreach(json_object_get(j, "decoders"), i,
                           v) if (!decoder(r, v, depth + 1)) return false;
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        if (!r->d.byte_level)
            return UNSUP(r, "decoder ByteLevel without the pre_tokenizer ByteLevel");
        return true;
    }
    if (r->d.byte_level) return UNSUP(r, "decoder \"%s\" with the pre_tokenizer ByteLevel", type);
    if (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0) return true;
    if (strcmp(type, "Replace") == 0) {
        bool literal = false;
        fj_bytes p;
        json_t *c = json_object_get(j, "content");
        if (!pattern(r, "decoder Replace", json_object_get(j, "pattern"), &literal, &p))
            return false;
        if (!literal || p.n != 3 || memcmp(p.p, FJ_META, 3) != 0 || !json_is_string(c) ||
            strcmp(json_string_value(c), " ") != 0)
            return UNSUP(r, "decoder Replace: only U+2581 to a space");
        r->d.metaspace = true;
        return true;
    }
    if (strcmp(type, "Strip") == 0) {
        json_t *c = json_object_get(j, "content");
        if (!json_is_string(c) || strcmp(json_string_value(c), " ") != 0 ||
            json_integer_value(json_object_get(j, "start")) > 1 ||
            json_integer_value(json_object_get(j, "stop")) != 0)
            return UNSUP(r, "decoder Strip: only one space at the start");
        r->d.strip_left = json_integer_value(json_object_get(j, "start")) == 1;
        return true;
    }
    if (strcmp(type, "Metaspace") == 0) {
        int prefix;
        if (!meta_char(r, "decoder Metaspace", j) ||
            !prefix_scheme(r, "decoder Metaspace", j, &prefix))
            return false;
        r->d.metaspace = true;
        r->d.strip_left = prefix != FJ_PREFIX_NEVER;
        return true;
    }
    return UNSUP(r, "decoder \"%s\" is not supported", type);
}

static int32_t find(const rd *r, fj_bytes s) {
    for (size_t i = 0; i < r->d.n_added; i++)
        if (r->d.added[i].text.n == s.n && memcmp(r->d.added[i].text.p, s.p, s.n) == 0)
            return r->d.added[i].id;
    for (size_t i = 0; i < r->d.n; i++)
        if (r->d.types[i] && r->d.pieces[i].n == s.n && memcmp(r->d.pieces[i].p, s.p, s.n) == 0)
            return (int32_t)i;
    return -1;
}

static bool post_processor(rd *r, json_t *j, int depth) {
    if (is_null(j)) return true;
    if (depth > 4) return UNSUP(r, "post_processor: sequences in sequences");
    const char *type = type_of(j);
    if (strcmp(type, "ByteLevel") == 0) return true; /* offsets only */
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *v;
        json_array_foreach(json_object_get(j, "processors"), i,
                           v) if (!post_processor(r, v, depth + 1)) return false;
        return true;
    }
    if (strcmp(type, "TemplateProcessing") != 0)
        return UNSUP(r, "post_processor \"%s\" is not supported", type);
    bool behind = false;
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(j, "single"), i, v) {
        json_t *sp = json_object_get(v, "SpecialToken");
        if (!sp) {
            if (!json_object_get(v, "Sequence") || behind)
                return UNSUP(r, "post_processor: \"single\" is not special tokens around one text");
            behind = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(sp, "id"));
        json_t *tok = name ? json_object_get(json_object_get(j, "special_tokens"), name) : NULL;
        size_t k;
        json_t *id;
        if (!tok)
            return BAD(
                r, "post_processor: special token %zu of \"single\" is not in \"special_tokens\"",
                i);
        json_array_foreach(json_object_get(tok, "ids"), k, id) {
            size_t *n = behind ? &r->d.n_suffix : &r->d.n_prefix;
            if (*n == FJ_LEN(r->prefix)) return UNSUP(r, "post_processor: over 8 special tokens");
            json_int_t x = json_integer_value(id);
            if (x < 0 || x >= (json_int_t)r->d.n)
                return BAD(r, "post_processor: id outside the vocabulary");
            (behind ? r->suffix : r->prefix)[(*n)++] = (int32_t)x;
        }
    }
    return true;
}

static bool put(rd *r, fj_bytes *pieces, uint8_t *types, size_t cap, fj_bytes s, json_int_t id,
                fj_tok_type t) {
    if (id < 0 || (uint64_t)id >= cap)
        return BAD(r, "token \"%.*s\" has id %lld; expected less than %zu", (int)FJ_MIN(s.n, 60),
                   s.p, (long long)id, cap);
    if (types[id] && (pieces[id].n != s.n || memcmp(pieces[id].p, s.p, s.n) != 0))
        return BAD(r, "tokens \"%.*s\" and \"%.*s\" have the same id %lld",
                   (int)FJ_MIN(pieces[id].n, 60), pieces[id].p, (int)FJ_MIN(s.n, 60), s.p,
                   (long long)id);
    pieces[id] = s;
    types[id] = (uint8_t)t;
    r->d.n = FJ_MAX(r->d.n, (size_t)id + 1);
    return true;
}

static bool vocab(rd *r, json_t *model, json_t *added) {
    json_t *v = json_object_get(model, "vocab"), *j;
    if (!json_is_object(v)) return BAD(r, "model.vocab is not an object");
    if (added && !json_is_array(added)) return BAD(r, "added_tokens is not an array");
    /* Ids may have holes, but not so many that a small file asks for much memory. */
    size_t n_added = json_array_size(added), cap = 2 * (json_object_size(v) + n_added) + 4096, i;
    fj_bytes *pieces = fj_arena_alloc(&r->mem, cap * sizeof *pieces);
    uint8_t *types = fj_arena_alloc(&r->mem, cap);
    fj_tok_added *a = fj_arena_alloc(&r->mem, (n_added + 1) * sizeof *a);
    r->d.pieces = pieces;
    r->d.types = types;
    r->d.added = a;
    const char *key;
    json_object_foreach(v, key, j) {
        if (!json_is_integer(j))
            return BAD(r, "model.vocab: the id of \"%.60s\" is not a whole number", key);
        if (!put(r, pieces, types, cap, (fj_bytes){ key, strlen(key) }, json_integer_value(j),
                 FJ_TOKEN_NORMAL))
            return false;
    }
    json_array_foreach(added, i, j) {
        json_t *id = json_object_get(j, "id"), *text = json_object_get(j, "content");
        fj_tok_added *x = &a[i];
        if (!json_is_integer(id) || !json_is_string(text))
            return BAD(r, "added_tokens[%zu] has no id and content", i);
        x->text = str(text);
        if (!get_bool(r, "added_tokens", j, "special", false, &x->special) ||
            !get_bool(r, "added_tokens", j, "lstrip", false, &x->lstrip) ||
            !get_bool(r, "added_tokens", j, "rstrip", false, &x->rstrip) ||
            !get_bool(r, "added_tokens", j, "single_word", false, &x->single_word) ||
            !get_bool(r, "added_tokens", j, "normalized", !x->special, &x->normalized) ||
            !only(r, "added_tokens", j,
                  "id content special lstrip rstrip single_word normalized") ||
            !put(r, pieces, types, cap, x->text, json_integer_value(id),
                 x->special ? FJ_TOKEN_CONTROL : FJ_TOKEN_USER))
            return false;
        x->id = (int32_t)json_integer_value(id);
        r->d.n_added = i + 1;
    }
    json_t *unk = json_object_get(model, "unk_token");
    if (json_is_string(unk)) {
        r->d.unk = find(r, str(unk));
        if (r->d.unk < 0)
            return BAD(r, "model.unk_token \"%.60s\" is not in the vocabulary",
                       json_string_value(unk));
        types[r->d.unk] = FJ_TOKEN_UNKNOWN;
    }
    return true;
}

static bool merges(rd *r, json_t *m) {
    if (!json_is_array(m)) return BAD(r, "model.merges is not an array");
    size_t n = json_array_size(m), i;
    fj_tok_merge *out = fj_arena_alloc(&r->mem, (n + 1) * sizeof *out);
    json_t *j;
    r->d.merges = out;
    r->d.n_merges = n;
    json_array_foreach(m, i, j) {
        if (json_is_string(j)) {
            fj_bytes s = str(j);
            const char *sp = memchr(s.p, ' ', s.n);
            if (!sp || sp == s.p || sp == s.p + s.n - 1 ||
                memchr(sp + 1, ' ', (size_t)(s.p + s.n - sp - 1)))
                return BAD(r, "model.merges[%zu] is not two parts with a space between: \"%.*s\"",
                           i, (int)FJ_MIN(s.n, 80), s.p);
            out[i] = (fj_tok_merge){ { s.p, (size_t)(sp - s.p) },
                                     { sp + 1, (size_t)(s.p + s.n - sp - 1) } };
            continue;
        }
        json_t *a = json_array_get(j, 0), *b = json_array_get(j, 1);
        if (json_array_size(j) != 2 || !json_is_string(a) || !json_is_string(b))
            return BAD(r, "model.merges[%zu] is not a pair of strings", i);
        out[i] = (fj_tok_merge){ str(a), str(b) };
    }
    return true;
}

static bool model(rd *r, json_t *m, json_t *added) {
    if (!json_is_object(m)) return BAD(r, "no \"model\"");
    const char *type = type_of(m);
    if (*type && strcmp(type, "BPE") != 0)
        return UNSUP(r, "model type \"%s\"; only BPE is supported", type);
    if (!only(r, "model", m,
              "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
              "byte_fallback ignore_merges vocab merges"))
        return false;
    json_t *drop = json_object_get(m, "dropout");
    if (!is_null(drop) && json_number_value(drop) != 0) return UNSUP(r, "model.dropout is not 0");
    static const char *const affix[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (int i = 0; i < 2; i++) {
        json_t *s = json_object_get(m, affix[i]);
        if (!is_null(s) && (!json_is_string(s) || json_string_length(s)))
            return UNSUP(r, "model.%s is not empty", affix[i]);
    }
    return get_bool(r, "model", m, "fuse_unk", false, &r->d.fuse_unk) &&
           get_bool(r, "model", m, "byte_fallback", false, &r->d.byte_fallback) &&
           get_bool(r, "model", m, "ignore_merges", false, &r->d.ignore_merges) &&
           vocab(r, m, added) && merges(r, json_object_get(m, "merges"));
}

/* "x" or {"content": "x"} */
static int32_t config_token(const rd *r, json_t *c, const char *key) {
    json_t *v = json_object_get(c, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? find(r, str(v)) : -1;
}

static int32_t first_of(const rd *r, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fj_bytes s = { names[i], strlen(names[i]) };
        for (size_t k = 0; k < r->d.n_added; k++)
            if (r->d.added[k].text.n == s.n && memcmp(r->d.added[k].text.p, s.p, s.n) == 0)
                return r->d.added[k].id;
    }
    return -1;
}

static bool config(rd *r, json_t *c) {
    static const char *const bos[] = { "<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>" };
    static const char *const eos[] = { "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>" };
    r->d.bos = config_token(r, c, "bos_token");
    r->d.eos = config_token(r, c, "eos_token");
    r->d.pad = config_token(r, c, "pad_token");
    if (r->d.unk < 0) r->d.unk = -1;
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

static json_t *parse(const char *name, const char *s, size_t n, fj_err *e) {
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

fj_tokenizer *fj_tokenizer_from_json(const char *json, size_t n, const char *cfg, size_t cn,
                                     fj_err *e) {
    json_t *root = parse("tokenizer.json", json, n, e), *c = NULL;
    if (!root) return NULL;
    if (cfg && !(c = parse("tokenizer_config.json", cfg, cn, e))) {
        json_decref(root);
        return NULL;
    }
    rd *r = fj_zalloc(sizeof *r);
    r->e = e;
    r->d.bos = r->d.eos = r->d.eot = r->d.unk = r->d.pad = -1;
    fj_tokenizer *t = NULL;
    if (only(
            r, "top level", root,
            "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model") &&
        model(r, json_object_get(root, "model"), json_object_get(root, "added_tokens")) &&
        normalizer(r, json_object_get(root, "normalizer"), 0) &&
        pre_tokenizer(r, json_object_get(root, "pre_tokenizer"), 0) &&
        decoder(r, json_object_get(root, "decoder"), 0) &&
        post_processor(r, json_object_get(root, "post_processor"), 0) && config(r, c)) {
        r->d.norms = r->norms;
        r->d.pres = r->pres;
        r->d.prefix = r->prefix;
        r->d.suffix = r->suffix;
        t = fj_tokenizer_build(&r->d, e);
    }
    fj_arena_free(&r->mem);
    free(r);
    json_decref(root);
    json_decref(c);
    return t;
}
