/* tok_sp.c - tokenizer.model of SentencePiece: a protobuf with pieces, scores and a normalizer.
 *
 * Fields: sentencepiece_model.proto of google/sentencepiece.  The reader is bounded and knows the fields that
 * change ids; others (of training) are stepped over. */
#include "text/tok_json.h"

typedef struct pb {
    const unsigned char *p, *end;
} pb;

typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* wire 0, 1, 5 */
    fj_bytes bytes; /* wire 2 */
} field;

static bool varint(pb *b, uint64_t *v) {
    *v = 0;
    for (int shift = 0; shift < 64 && b->p < b->end; shift += 7) {
        unsigned char c = *b->p++;
        *v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) return true;
    }
    return false;
}

static bool fixed(pb *b, int n, uint64_t *v) {
    if (b->end - b->p < n) return false;
    *v = 0;
    for (int i = 0; i < n; i++) *v |= (uint64_t)b->p[i] << (8 * i);
    b->p += n;
    return true;
}

/* The next field; false at the end or where the bytes are no field (then p is before the end). */
static bool next(pb *b, field *f) {
    pb at = *b;
    uint64_t key, n;
    if (at.p == at.end || !varint(&at, &key) || key >> 3 == 0 || key >> 32) return false;
    *f = (field){ .number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7) };
    switch (f->wire) {
    case 0:
        if (!varint(&at, &f->value)) return false;
        break;
    case 1:
        if (!fixed(&at, 8, &f->value)) return false;
        break;
    case 2:
        if (!varint(&at, &n) || n > (uint64_t)(at.end - at.p)) return false;
        f->bytes = (fj_bytes){ (const char *)at.p, (size_t)n };
        at.p += n;
        break;
    case 5:
        if (!fixed(&at, 4, &f->value)) return false;
        break;
    default: return false;
    }
    *b = at;
    return true;
}

static pb inside(fj_bytes s) {
    const unsigned char *p = (const unsigned char *)s.p;
    return (pb){ p, p + s.n };
}

typedef struct sp {
    uint64_t type; /* 1 unigram, 2 BPE, 3 word, 4 char */
    bool suffix, fallback, dummy, extra, escape;
    int64_t unk, bos, eos, pad;
    fj_bytes charsmap;
    uint8_t *types;
    size_t types_cap;
} sp;

static bool broken(fj_tok_rd *r, const char *where) {
    BAD(r, "%s is cut off or no protobuf of SentencePiece", where);
    return false;
}

static bool piece(fj_tok_rd *r, sp *m, fj_bytes s) {
    pb b = inside(s);
    field f;
    fj_bytes text = { "", 0 };
    float score = 0;
    uint64_t type = FJ_TOKEN_NORMAL;
    size_t i = r->m.n;
    while (next(&b, &f)) {
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        if (f.number == 2 && f.wire == 5) {
            uint32_t u = (uint32_t)f.value;
            memcpy(&score, &u, 4);
        }
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    if (b.p != b.end) return broken(r, "a piece");
    if (type < FJ_TOKEN_NORMAL || type > FJ_TOKEN_BYTE)
        return BAD(r, "piece %zu has type %llu; expected 1 to 6", i, (unsigned long long)type);
    if (!text.n) return BAD(r, "piece %zu is empty", i);
    if (type == FJ_TOKEN_BYTE && fj_byte_piece(text) < 0)
        return BAD(r, "piece %zu is a byte and not spelled <0xNN>", i);
    FJ_GROW(m->types, i + 1, m->types_cap);
    m->types[i] = (uint8_t)type;
    fj_rd_piece(r, text, (int64_t)i, (double)score);
    return true;
}

static bool trainer(fj_tok_rd *r, sp *m, fj_bytes s) {
    pb b = inside(s);
    field f;
    while (next(&b, &f)) {
        if (f.wire != 0) continue;
        int64_t v = (int64_t)f.value; /* negative ids are 64 bits of two's complement */
        switch (f.number) {
        case 3: m->type = f.value; break;
        case 24: m->suffix = f.value; break;
        case 35: m->fallback = f.value; break;
        case 40: m->unk = v; break;
        case 41: m->bos = v; break;
        case 42: m->eos = v; break;
        case 43: m->pad = v; break;
        default: break;
        }
    }
    return b.p == b.end ? true : broken(r, "trainer_spec");
}

static bool normalizer(fj_tok_rd *r, sp *m, fj_bytes s) {
    pb b = inside(s);
    field f;
    while (next(&b, &f)) {
        if (f.number == 2 && f.wire == 2) m->charsmap = f.bytes;
        if (f.number == 3 && f.wire == 0) m->dummy = f.value;
        if (f.number == 4 && f.wire == 0) m->extra = f.value;
        if (f.number == 5 && f.wire == 0) m->escape = f.value;
    }
    return b.p == b.end ? true : broken(r, "normalizer_spec");
}

static bool denormalizer(fj_tok_rd *r, fj_bytes s) {
    pb b = inside(s);
    field f;
    while (next(&b, &f))
        if (f.number == 2 && f.wire == 2 && f.bytes.n)
            return UNSUP(r, "denormalizer_spec has a precompiled_charsmap");
    return b.p == b.end ? true : broken(r, "denormalizer_spec");
}

static bool read(fj_tok_rd *r, sp *m, const char *data, size_t n) {
    pb b = inside((fj_bytes){ data, n });
    field f;
    r->m.scored = true;
    while (next(&b, &f)) {
        if (f.wire != 2) continue;
        if (f.number == 1 && !piece(r, m, f.bytes)) return false;
        if (f.number == 2 && !trainer(r, m, f.bytes)) return false;
        if (f.number == 3 && !normalizer(r, m, f.bytes)) return false;
        if (f.number == 5 && !denormalizer(r, f.bytes)) return false;
    }
    if (b.p != b.end || !r->m.n || !m->types) return broken(r, "the file");
    if (m->type != 1 && m->type != 2)
        return UNSUP(r, "model_type %s; unigram and BPE are supported",
                     m->type == 3   ? "word"
                     : m->type == 4 ? "char"
                                    : "is not known");
    return true;
}

/* Whose ids are those of tokenizer.model, and what they put around a text. */
static bool class_(fj_tok_rd *r, json_t *c) {
    static const char *const shifted[] = { "XLMRoberta", "Camembert", "Barthez", "MBart",
                                           "Nllb",       "M2M100",    "Pegasus", "XGLM",
                                           "Plbart",     "Reformer",  "FNet",    "Marian",
                                           "XLNet",      "Albert",    "BigBird", "DebertaV2",
                                           "Rembert",    "RemBert",   "Layout" };
    const char *cls = json_string_value(json_object_get(c, "tokenizer_class"));
    for (size_t i = 0; cls && i < FJ_LEN(shifted); i++)
        if (strncmp(cls, shifted[i], strlen(shifted[i])) == 0)
            return UNSUP(r,
                         "tokenizer_class %.60s numbers its tokens in a way of its own; a "
                         "tokenizer.json is needed",
                         cls);
    bool t5 = cls && (strncmp(cls, "T5", 2) == 0 || strncmp(cls, "MT5", 3) == 0);
    json_t *ab = json_object_get(c, "add_bos_token"), *ae = json_object_get(c, "add_eos_token");
    bool bos = ab ? json_is_true(ab) : !t5 && c, eos = ae ? json_is_true(ae) : t5;
    r->d.n_prefix = bos && r->d.bos >= 0;
    r->prefix[0] = r->d.bos;
    r->d.n_suffix = eos && r->d.eos >= 0;
    r->suffix[0] = r->d.eos;
    return true;
}

static int32_t in_range(const fj_tok_rd *r, int64_t id) {
    return id >= 0 && id < (int64_t)r->m.n ? (int32_t)id : -1;
}

static bool describe(fj_tok_rd *r, sp *m, json_t *added) {
    fj_tok_desc *d = &r->d;
    if (!fj_rd_vocab(r, added)) return false;
    uint8_t *types = (uint8_t *)(uintptr_t)d->types;
    /* What tokenizer_config.json adds is found in the raw text; the model's own pieces of the user in
     * the normalized one, and by the lattice of a unigram model itself. */
    size_t extra = 0;
    for (size_t i = 0; i < r->m.n; i++) extra += m->types[i] != FJ_TOKEN_NORMAL;
    fj_tok_added *a = fj_arena_alloc(&r->mem, (d->n_added + extra + 1) * sizeof *a);
    size_t n = d->n_added;
    if (n) memcpy(a, d->added, n * sizeof *a);
    for (size_t i = 0; i < r->m.n; i++) {
        bool listed = types[i] != FJ_TOKEN_NORMAL;
        if (!listed || m->types[i] == FJ_TOKEN_UNKNOWN) types[i] = m->types[i];
        if (listed) continue;
        bool control = types[i] == FJ_TOKEN_CONTROL || types[i] == FJ_TOKEN_UNKNOWN;
        if (!control && (types[i] != FJ_TOKEN_USER || m->type == 1)) continue;
        a[n++] = (fj_tok_added){ .text = r->m.piece[i],
                                 .id = (int32_t)i,
                                 .special = control,
                                 .match = control ? FJ_ADDED_RAW : FJ_ADDED_AFTER };
    }
    d->added = a;
    d->n_added = n;
    d->kind = m->type == 1 ? FJ_MODEL_UNIGRAM : FJ_MODEL_BPE;
    d->by_score = m->type == 2;
    d->single = m->type == 1;
    d->byte_fallback = m->fallback;
    d->fuse_unk = true;
    d->bos = in_range(r, m->bos);
    d->eos = in_range(r, m->eos);
    d->pad = in_range(r, m->pad);
    d->unk = in_range(r, m->unk);
    for (size_t i = 0; i < r->m.n; i++)
        if (m->types[i] == FJ_TOKEN_UNKNOWN) d->unk = (int32_t)i;
    r->norms[d->n_norms++] =
        (fj_tok_norm){ .kind = FJ_NORM_SP,
                       .flags = (m->dummy ? FJ_NORM_DUMMY : 0u) | (m->extra ? FJ_NORM_EXTRA : 0u) |
                                (m->escape ? FJ_NORM_ESCAPE : 0u) |
                                (m->suffix ? FJ_NORM_SUFFIX : 0u),
                       .a = m->charsmap };
    r->decs[d->n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_REPLACE, .a = LIT(FJ_META), .b = LIT(" ") };
    r->decs[d->n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_BYTES };
    r->decs[d->n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_FUSE };
    if ((m->dummy || m->extra) && !m->suffix)
        r->decs[d->n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_STRIP, .a = LIT(" "), .left = 1 };
    return true;
}

fj_tokenizer *fj_tokenizer_from_sentencepiece(const char *model, size_t n, const char *config,
                                              size_t config_n, fj_err *e) {
    fj_tok_rd *r = fj_rd_new("tokenizer.model", e);
    sp m = {
        .type = 1, .dummy = true, .extra = true, .escape = true, .bos = 1, .eos = 2, .pad = -1
    };
    json_t *c = NULL, *added = NULL;
    fj_tokenizer *t = NULL;
    if ((!config || (c = fj_rd_parse("tokenizer_config.json", config, config_n, e))) &&
        read(r, &m, model, n) && (added = fj_rd_added(r, c, NULL)) && describe(r, &m, added) &&
        fj_rd_config(r, c) && class_(r, c))
        t = fj_rd_build(r);
    json_decref(added);
    json_decref(c);
    free(m.types);
    fj_rd_free(r);
    return t;
}
