/* tok_json_steps.c - the steps of a tokenizer.json: normalizer, pre-tokenizer, decoder, post-processor. */
#include "text/tok_json.h"

/* {"String": "x"} or {"Regex": "x"} */
static bool pattern(fj_tok_rd *r, const char *where, json_t *p, bool *literal, fj_bytes *out) {
    json_t *s = json_object_get(p, "String"), *x = json_object_get(p, "Regex");
    if (json_is_string(p)) s = p;
    if (!json_is_string(s ? s : x))
        return BAD(r, "%s: \"pattern\" has neither String nor Regex", where);
    *literal = s != NULL;
    *out = fj_jstr(s ? s : x);
    if (!out->n) return BAD(r, "%s: \"pattern\" is empty", where);
    return true;
}

static bool text(fj_tok_rd *r, const char *where, json_t *j, const char *key, fj_bytes *out) {
    json_t *s = json_object_get(j, key);
    if (!json_is_string(s)) return BAD(r, "%s: \"%s\" is not a string", where, key);
    *out = fj_jstr(s);
    return true;
}

typedef bool (*each_fn)(fj_tok_rd *r, json_t *j, int depth);

static bool sequence(fj_tok_rd *r, json_t *j, const char *where, const char *key, int depth,
                     each_fn fn) {
    size_t i;
    json_t *v, *list = json_object_get(j, key);
    if (!json_is_array(list)) return BAD(r, "%s Sequence: \"%s\" is not an array", where, key);
    json_array_foreach(list, i, v) if (!fn(r, v, depth + 1)) return false;
    return true;
}

/* ---- normalizer ---------------------------------------------------------------------------------- */
bool fj_base64(fj_arena *mem, fj_bytes s, fj_bytes *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *b = fj_arena_alloc(mem, s.n / 4 * 3 + 4);
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    while (s.n && s.p[s.n - 1] == '=') s.n--;
    for (size_t i = 0; i < s.n; i++) {
        const char *d = s.p[i] ? strchr(digits, s.p[i]) : NULL;
        if (!d) return false;
        bits = bits << 6 | (uint32_t)(d - digits);
        have += 6;
        if (have >= 8) b[n++] = (char)(bits >> (have -= 8));
    }
    *out = (fj_bytes){ b, n };
    return true;
}

static bool bert(fj_tok_rd *r, json_t *j, fj_tok_norm *n) {
    static const char where[] = "normalizer BertNormalizer";
    bool clean = true, cjk = true, lower = true, accents = true;
    if (!fj_rd_only(r, where, j, "type clean_text handle_chinese_chars strip_accents lowercase") ||
        !fj_rd_bool(r, where, j, "clean_text", true, &clean) ||
        !fj_rd_bool(r, where, j, "handle_chinese_chars", true, &cjk) ||
        !fj_rd_bool(r, where, j, "lowercase", true, &lower) ||
        !fj_rd_bool(r, where, j, "strip_accents", lower, &accents))
        return false;
    n->kind = FJ_NORM_BERT;
    n->flags = (clean ? FJ_NORM_CLEAN : 0u) | (cjk ? FJ_NORM_CJK : 0u) |
               (accents ? FJ_NORM_ACCENTS : 0u) | (lower ? FJ_NORM_LOWERCASE : 0u);
    return true;
}

bool fj_rd_normalizer(fj_tok_rd *r, json_t *j, int depth) {
    if (fj_jnull(j)) return true;
    if (depth > 4) return UNSUP(r, "normalizer: sequences in sequences");
    const char *type = fj_jtype(j);
    if (strcmp(type, "Sequence") == 0)
        return fj_rd_only(r, "normalizer", j, "type normalizers") &&
               sequence(r, j, "normalizer", "normalizers", depth, fj_rd_normalizer);
    if (r->d.n_norms == FJ_NORM_MAX) return UNSUP(r, "normalizer: over %d steps", FJ_NORM_MAX);
    fj_tok_norm *n = &r->norms[r->d.n_norms++];
    *n = (fj_tok_norm){ 0 };
    static const struct {
        const char *name;
        fj_norm_kind kind;
    } bare[] = {
        { "NFC", FJ_NORM_NFC },         { "NFD", FJ_NORM_NFD },
        { "NFKC", FJ_NORM_NFKC },       { "NFKD", FJ_NORM_NFKD },
        { "Lowercase", FJ_NORM_LOWER }, { "StripAccents", FJ_NORM_UNACCENT },
        { "Nmt", FJ_NORM_NMT },         { "ByteLevel", FJ_NORM_BYTES },
    };
    for (size_t i = 0; i < FJ_LEN(bare); i++) {
        if (strcmp(type, bare[i].name) != 0) continue;
        n->kind = bare[i].kind;
        return fj_rd_only(r, "normalizer", j, "type");
    }
    if (strcmp(type, "Prepend") == 0) {
        n->kind = FJ_NORM_PREPEND;
        return text(r, "normalizer Prepend", j, "prepend", &n->a) &&
               fj_rd_only(r, "normalizer Prepend", j, "type prepend");
    }
    if (strcmp(type, "Replace") == 0) {
        bool literal = false;
        n->kind = FJ_NORM_REPLACE;
        if (!pattern(r, "normalizer Replace", json_object_get(j, "pattern"), &literal, &n->a) ||
            !text(r, "normalizer Replace", j, "content", &n->b))
            return false;
        n->flags = literal ? 0 : FJ_NORM_REGEX;
        return fj_rd_only(r, "normalizer Replace", j, "type pattern content");
    }
    if (strcmp(type, "Strip") == 0) {
        bool left = true, right = true;
        n->kind = FJ_NORM_STRIP;
        if (!fj_rd_only(r, "normalizer Strip", j, "type strip_left strip_right") ||
            !fj_rd_bool(r, "normalizer Strip", j, "strip_left", true, &left) ||
            !fj_rd_bool(r, "normalizer Strip", j, "strip_right", true, &right))
            return false;
        n->flags = (left ? FJ_NORM_LEFT : 0u) | (right ? FJ_NORM_RIGHT : 0u);
        return true;
    }
    if (strcmp(type, "BertNormalizer") == 0) return bert(r, j, n);
    if (strcmp(type, "Precompiled") == 0) {
        fj_bytes s;
        n->kind = FJ_NORM_CHARSMAP;
        if (!fj_rd_only(r, "normalizer Precompiled", j, "type precompiled_charsmap")) return false;
        if (fj_jnull(json_object_get(j, "precompiled_charsmap"))) {
            r->d.n_norms--;
            return true;
        }
        return text(r, "normalizer Precompiled", j, "precompiled_charsmap", &s) &&
               (fj_base64(&r->mem, s, &n->a) ||
                BAD(r, "normalizer Precompiled: the charsmap is not base64"));
    }
    return UNSUP(r, "normalizer \"%s\" is not supported", type);
}

/* ---- pre-tokenizer --------------------------------------------------------------------------------- */
static bool add_pre(fj_tok_rd *r, fj_tok_pre p) {
    bool late = r->bytes;
    r->bytes = false;
    if (r->d.n_pres + late >= FJ_PRE_MAX)
        return UNSUP(r, "pre_tokenizer: over %d steps", FJ_PRE_MAX);
    if (late) r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_BYTES };
    r->pres[r->d.n_pres++] = p;
    return true;
}

static bool prefix_scheme(fj_tok_rd *r, const char *where, json_t *j, int *out) {
    bool always = true;
    if (!fj_rd_bool(r, where, j, "add_prefix_space", true, &always)) return false;
    *out = always ? FJ_PREFIX_ALWAYS : FJ_PREFIX_NEVER;
    const char *s = json_string_value(json_object_get(j, "prepend_scheme"));
    if (!s) return true;
    if (strcmp(s, "always") == 0) *out = FJ_PREFIX_ALWAYS;
    else if (strcmp(s, "never") == 0) *out = FJ_PREFIX_NEVER;
    else if (strcmp(s, "first") == 0) *out = FJ_PREFIX_FIRST;
    else return UNSUP(r, "%s: prepend_scheme \"%s\"", where, s);
    return true;
}

static bool meta_char(fj_tok_rd *r, const char *where, json_t *j) {
    json_t *c = json_object_get(j, "replacement");
    if (!json_is_string(c) || strcmp(json_string_value(c), FJ_META) != 0)
        return UNSUP(r, "%s: \"replacement\" is not U+2581", where);
    return true;
}

static bool behavior(fj_tok_rd *r, const char *where, json_t *j, fj_pre_keep *keep) {
    static const char *const names[] = { "Isolated", "Removed", "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous" };
    const char *b = json_string_value(json_object_get(j, "behavior"));
    if (!b) return BAD(r, "%s: no \"behavior\"", where);
    for (int i = 0; i < 5; i++) {
        *keep = (fj_pre_keep)i;
        if (strcmp(b, names[i]) == 0) return true;
    }
    return UNSUP(r, "%s: behavior \"%s\"", where, b);
}

static bool byte_level(fj_tok_rd *r, json_t *j) {
    static const char where[] = "pre_tokenizer ByteLevel";
    bool prefix = false, regex = false;
    if (!fj_rd_only(r, where, j, "type add_prefix_space trim_offsets use_regex") ||
        !fj_rd_bool(r, where, j, "add_prefix_space", true, &prefix) ||
        !fj_rd_bool(r, where, j, "use_regex", true, &regex))
        return false;
    /* The space goes in front of what comes in, then the expression cuts. */
    if (prefix && !add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPACE })) return false;
    if (regex && !add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                           .regex = { fj_pre_gpt2, strlen(fj_pre_gpt2) } }))
        return false;
    if (r->bytes && !add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_BYTES })) return false;
    r->bytes = true;
    return true;
}

/* \w of Rust, which cuts here: alphabetic, marks, decimal digits, connectors, joiners. */
#define RUST_WORD                                                                                  \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

bool fj_rd_pre(fj_tok_rd *r, json_t *j, int depth) {
    if (fj_jnull(j)) return true;
    if (depth > 4) return UNSUP(r, "pre_tokenizer: sequences in sequences");
    const char *type = fj_jtype(j);
    fj_tok_pre p = { .kind = FJ_PRE_CLASS };
    if (strcmp(type, "Sequence") == 0)
        return fj_rd_only(r, "pre_tokenizer", j, "type pretokenizers") &&
               sequence(r, j, "pre_tokenizer", "pretokenizers", depth, fj_rd_pre);
    if (strcmp(type, "ByteLevel") == 0) return byte_level(r, j);
    if (strcmp(type, "Split") == 0) {
        p.kind = FJ_PRE_SPLIT;
        return fj_rd_only(r, "pre_tokenizer Split", j, "type pattern behavior invert") &&
               pattern(r, "pre_tokenizer Split", json_object_get(j, "pattern"), &p.literal,
                       &p.regex) &&
               fj_rd_bool(r, "pre_tokenizer Split", j, "invert", false, &p.invert) &&
               behavior(r, "pre_tokenizer Split", j, &p.keep) && add_pre(r, p);
    }
    if (strcmp(type, "Digits") == 0) {
        bool each = false;
        p.cls = FJ_CLS_NUMERIC;
        if (!fj_rd_only(r, "pre_tokenizer Digits", j, "type individual_digits") ||
            !fj_rd_bool(r, "pre_tokenizer Digits", j, "individual_digits", false, &each))
            return false;
        p.keep = each ? FJ_KEEP_ISOLATED : FJ_KEEP_CONTIGUOUS;
        return add_pre(r, p);
    }
    if (strcmp(type, "Metaspace") == 0) {
        p.kind = FJ_PRE_METASPACE;
        return fj_rd_only(r, "pre_tokenizer Metaspace", j,
                          "type replacement prepend_scheme add_prefix_space split str_rep") &&
               meta_char(r, "pre_tokenizer Metaspace", j) &&
               fj_rd_bool(r, "pre_tokenizer Metaspace", j, "split", true, &p.split) &&
               prefix_scheme(r, "pre_tokenizer Metaspace", j, &p.prefix) && add_pre(r, p);
    }
    if (strcmp(type, "Punctuation") == 0) {
        p.cls = FJ_CLS_PUNCT;
        return fj_rd_only(r, "pre_tokenizer Punctuation", j, "type behavior") &&
               (fj_jnull(json_object_get(j, "behavior")) ||
                behavior(r, "pre_tokenizer Punctuation", j, &p.keep)) &&
               add_pre(r, p);
    }
    if (strcmp(type, "Whitespace") == 0)
        return fj_rd_only(r, "pre_tokenizer", j, "type") &&
               add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                        .regex = LIT("[" RUST_WORD "]+|[^" RUST_WORD "\\s]+"),
                                        .invert = true,
                                        .keep = FJ_KEEP_REMOVED });
    p.keep = FJ_KEEP_REMOVED;
    if (strcmp(type, "WhitespaceSplit") == 0)
        return fj_rd_only(r, "pre_tokenizer", j, "type") && add_pre(r, p);
    if (strcmp(type, "BertPreTokenizer") == 0)
        return fj_rd_only(r, "pre_tokenizer", j, "type") && add_pre(r, p) &&
               add_pre(r, (fj_tok_pre){ .kind = FJ_PRE_CLASS, .cls = FJ_CLS_PUNCT });
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        p.cls = FJ_CLS_CHAR;
        if (!fj_rd_only(r, "pre_tokenizer CharDelimiterSplit", j, "type delimiter") ||
            !text(r, "pre_tokenizer CharDelimiterSplit", j, "delimiter", &p.regex))
            return false;
        if (!p.regex.n || fj_utf8_len(p.regex.p, p.regex.n) != p.regex.n)
            return BAD(r, "pre_tokenizer CharDelimiterSplit: \"delimiter\" is not one character");
        return add_pre(r, p);
    }
    if (strcmp(type, "FixedLength") == 0) {
        p.kind = FJ_PRE_FIXED;
        if (!fj_rd_only(r, "pre_tokenizer FixedLength", j, "type length") ||
            !fj_rd_int(r, "pre_tokenizer FixedLength", j, "length", 5, &p.count))
            return false;
        if (p.count < 1) return BAD(r, "pre_tokenizer FixedLength: \"length\" is %d", p.count);
        return add_pre(r, p);
    }
    return UNSUP(r, "pre_tokenizer \"%s\" is not supported", type);
}

/* ---- decoder --------------------------------------------------------------------------------------- */
bool fj_rd_decoder(fj_tok_rd *r, json_t *j, int depth) {
    if (fj_jnull(j)) return true;
    if (depth > 4) return UNSUP(r, "decoder: sequences in sequences");
    const char *type = fj_jtype(j);
    if (strcmp(type, "Sequence") == 0)
        return sequence(r, j, "decoder", "decoders", depth, fj_rd_decoder);
    if (r->d.n_decs == FJ_DEC_MAX) return UNSUP(r, "decoder: over %d steps", FJ_DEC_MAX);
    fj_tok_dec *d = &r->decs[r->d.n_decs++];
    *d = (fj_tok_dec){ 0 };
    if (strcmp(type, "ByteLevel") == 0) {
        d->kind = FJ_DEC_BYTE_LEVEL;
        return fj_rd_only(r, "decoder ByteLevel", j,
                          "type add_prefix_space trim_offsets use_regex");
    }
    if (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0) {
        d->kind = *type == 'F' ? FJ_DEC_FUSE : FJ_DEC_BYTES;
        return fj_rd_only(r, "decoder", j, "type");
    }
    if (strcmp(type, "Replace") == 0) {
        bool literal = false;
        d->kind = FJ_DEC_REPLACE;
        if (!pattern(r, "decoder Replace", json_object_get(j, "pattern"), &literal, &d->a) ||
            !text(r, "decoder Replace", j, "content", &d->b) ||
            !fj_rd_only(r, "decoder Replace", j, "type pattern content"))
            return false;
        d->regex = !literal;
        return true;
    }
    if (strcmp(type, "Strip") == 0) {
        d->kind = FJ_DEC_STRIP;
        return text(r, "decoder Strip", j, "content", &d->a) &&
               fj_rd_int(r, "decoder Strip", j, "start", 0, &d->left) &&
               fj_rd_int(r, "decoder Strip", j, "stop", 0, &d->right) &&
               fj_rd_only(r, "decoder Strip", j, "type content start stop");
    }
    if (strcmp(type, "Metaspace") == 0) {
        int prefix = 0;
        d->kind = FJ_DEC_META;
        if (!fj_rd_only(r, "decoder Metaspace", j,
                        "type replacement prepend_scheme add_prefix_space split str_rep") ||
            !meta_char(r, "decoder Metaspace", j) ||
            !prefix_scheme(r, "decoder Metaspace", j, &prefix))
            return false;
        d->strip = prefix != FJ_PREFIX_NEVER;
        return true;
    }
    if (strcmp(type, "WordPiece") == 0) {
        d->kind = FJ_DEC_WORDPIECE;
        return text(r, "decoder WordPiece", j, "prefix", &d->a) &&
               fj_rd_bool(r, "decoder WordPiece", j, "cleanup", true, &d->clean) &&
               fj_rd_only(r, "decoder WordPiece", j, "type prefix cleanup");
    }
    if (strcmp(type, "BPEDecoder") == 0) {
        d->kind = FJ_DEC_SUFFIX;
        return text(r, "decoder BPEDecoder", j, "suffix", &d->a) &&
               fj_rd_only(r, "decoder BPEDecoder", j, "type suffix");
    }
    if (strcmp(type, "CTC") == 0) {
        d->kind = FJ_DEC_CTC;
        return text(r, "decoder CTC", j, "pad_token", &d->a) &&
               text(r, "decoder CTC", j, "word_delimiter_token", &d->b) &&
               fj_rd_bool(r, "decoder CTC", j, "cleanup", true, &d->clean) &&
               fj_rd_only(r, "decoder CTC", j, "type pad_token word_delimiter_token cleanup");
    }
    return UNSUP(r, "decoder \"%s\" is not supported", type);
}

/* ---- post-processor -------------------------------------------------------------------------------- */
static bool around(fj_tok_rd *r, json_int_t id, bool behind) {
    size_t *n = behind ? &r->d.n_suffix : &r->d.n_prefix;
    if (*n == FJ_LEN(r->prefix)) return UNSUP(r, "post_processor: over 8 special tokens");
    if (id < 0 || id >= (json_int_t)r->d.n)
        return BAD(r, "post_processor: id outside the vocabulary");
    (behind ? r->suffix : r->prefix)[(*n)++] = (int32_t)id;
    return true;
}

/* ["[CLS]", 101] */
static bool pair(fj_tok_rd *r, json_t *j, const char *key, bool behind) {
    json_t *id = json_array_get(json_object_get(j, key), 1);
    if (!json_is_integer(id))
        return BAD(r, "post_processor %s: \"%s\" is not [spelling, id]", fj_jtype(j), key);
    return around(r, json_integer_value(id), behind);
}

bool fj_rd_post(fj_tok_rd *r, json_t *j, int depth) {
    if (fj_jnull(j)) return true;
    if (depth > 4) return UNSUP(r, "post_processor: sequences in sequences");
    const char *type = fj_jtype(j);
    if (strcmp(type, "ByteLevel") == 0) return true; /* offsets only */
    if (strcmp(type, "Sequence") == 0)
        return sequence(r, j, "post_processor", "processors", depth, fj_rd_post);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return fj_rd_only(r, "post_processor", j, "type sep cls trim_offsets add_prefix_space") &&
               pair(r, j, "cls", false) && pair(r, j, "sep", true);
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
        json_array_foreach(json_object_get(tok, "ids"), k,
                           id) if (!around(r, json_integer_value(id), behind)) return false;
    }
    return true;
}
