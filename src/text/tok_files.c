/* tok_files.c - the older files of Hugging Face: vocab.json with merges.txt, and vocab.txt. */
#include "text/tok_json.h"

typedef struct recipe {
    const char *cls;  /* beginning of tokenizer_class */
    const char *gguf; /* how text is cut, by the name of GGUF */
    bool nfc, around; /* around: <s> and </s> */
} recipe;

static const recipe recipes[] = {
    { "GPT2Tokenizer", "gpt-2", false, false },      { "Qwen2Tokenizer", "qwen2", true, false },
    { "RobertaTokenizer", "gpt-2", false, true },    { "BartTokenizer", "gpt-2", false, true },
    { "LongformerTokenizer", "gpt-2", false, true }, { "CodeGenTokenizer", "gpt-2", false, false },
    { "GPTNeoXTokenizer", "gpt-2", false, false },   { "WhisperTokenizer", "gpt-2", false, false },
};

static bool lines(fj_tok_rd *r, const char *s, size_t n, bool merges) {
    const char *p = s, *end = s + n;
    for (int64_t line = 0; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        const char *from = p;
        p = nl ? nl + 1 : end;
        if (stop > from && stop[-1] == '\r') stop--;
        fj_bytes b = { from, (size_t)(stop - from) };
        if (!merges) {
            if (b.n || nl) fj_rd_piece(r, b, line, 0);
            continue;
        }
        if (!b.n || (line == 0 && b.n > 8 && memcmp(b.p, "#version", 8) == 0)) continue;
        const char *sp = memchr(b.p, ' ', b.n);
        if (!sp || sp == b.p || sp + 1 == stop || memchr(sp + 1, ' ', (size_t)(stop - sp - 1)))
            return fj_fail(r->e, FJ_EFORMAT,
                           "merges.txt, line %lld: expected two parts with a space between",
                           (long long)line + 1);
        FJ_GROW(r->m.merges, r->m.n_merges + 1, r->m.merges_cap);
        r->m.merges[r->m.n_merges++] =
            (fj_tok_merge){ { b.p, (size_t)(sp - b.p) }, { sp + 1, (size_t)(stop - sp - 1) } };
    }
    return true;
}

static int32_t named(const fj_tok_rd *r, const char *s) {
    return fj_rd_find(r, (fj_bytes){ s, strlen(s) });
}

/* The special tokens that config names by their role, when no list of added tokens has them. */
static void roles(json_t *c, json_t *added, const fj_json_model *m) {
    static const char *const keys[] = { "bos_token", "eos_token", "unk_token", "pad_token",
                                        "sep_token", "cls_token", "mask_token" };
    for (size_t k = 0; k < FJ_LEN(keys); k++) {
        json_t *v = json_object_get(c, keys[k]), *x;
        if (json_is_object(v)) v = json_object_get(v, "content");
        if (!json_is_string(v)) continue;
        bool there = false;
        size_t i;
        json_array_foreach(added, i, x) there |= json_equal(json_object_get(x, "content"), v);
        fj_bytes s = fj_jstr(v);
        for (i = 0; i < m->n && !there; i++) {
            if (m->piece[i].n != s.n || memcmp(m->piece[i].p, s.p, s.n) != 0) continue;
            json_array_append_new(added,
                                  json_pack("{s:I, s:O, s:b, s:b, s:b}", "id", (json_int_t)m->id[i],
                                            "content", v, "special", true, "normalized", false,
                                            "lstrip", k == 6 /* as mask tokens are */));
            there = true;
        }
    }
}

static bool bpe(fj_tok_rd *r, json_t *c, json_t *added) {
    const char *cls = json_string_value(json_object_get(c, "tokenizer_class"));
    const recipe *x = NULL;
    for (size_t i = 0; cls && i < FJ_LEN(recipes) && !x; i++)
        if (strncmp(cls, recipes[i].cls, strlen(recipes[i].cls)) == 0) x = &recipes[i];
    if (!x)
        return UNSUP(
            r,
            "tokenizer_class of tokenizer_config.json is \"%.60s\": how it cuts text is not "
            "known here; a tokenizer.json is needed",
            cls ? cls : "");
    fj_pre_traits traits;
    bool space = false;
    if (!fj_rd_bool(r, "tokenizer_config.json", c, "add_prefix_space", false, &space) ||
        !fj_rd_vocab(r, added))
        return false;
    if (space) r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_SPACE };
    r->d.n_pres += (size_t)fj_pre_by_name(x->gguf, r->pres + r->d.n_pres, &traits);
    if (x->nfc) r->norms[r->d.n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_NFC };
    r->bytes = true;
    r->decs[r->d.n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_BYTE_LEVEL };
    r->d.merges = r->m.merges;
    r->d.n_merges = r->m.n_merges;
    if (!fj_rd_config(r, c)) return false;
    int32_t a = named(r, "<s>"), b = named(r, "</s>");
    if (x->around && (a < 0 || b < 0)) return BAD(r, "%s without <s> and </s>", cls);
    r->d.n_prefix = r->d.n_suffix = x->around;
    r->prefix[0] = a;
    r->suffix[0] = b;
    return true;
}

static bool bert(fj_tok_rd *r, json_t *c, json_t *added) {
    const char *cls = json_string_value(json_object_get(c, "tokenizer_class"));
    bool lower = true, cjk = true, accents = true;
    if (cls && strncmp(cls, "Bert", 4) != 0 && strncmp(cls, "DistilBert", 10) != 0 &&
        strncmp(cls, "Electra", 7) != 0 && strncmp(cls, "MPNet", 5) != 0)
        return UNSUP(r, "tokenizer_class \"%.60s\" with a vocab.txt is not supported", cls);
    if (!fj_rd_bool(r, "tokenizer_config.json", c, "do_lower_case", true, &lower) ||
        !fj_rd_bool(r, "tokenizer_config.json", c, "tokenize_chinese_chars", true, &cjk) ||
        !fj_rd_bool(r, "tokenizer_config.json", c, "strip_accents", lower, &accents) ||
        !fj_rd_vocab(r, added))
        return false;
    r->d.kind = FJ_MODEL_WORDPIECE;
    r->d.cont = LIT("##");
    r->d.max_chars = 100;
    r->norms[r->d.n_norms++] = (fj_tok_norm){ .kind = FJ_NORM_BERT,
                                              .flags = FJ_NORM_CLEAN | (cjk ? FJ_NORM_CJK : 0u) |
                                                       (accents ? FJ_NORM_ACCENTS : 0u) |
                                                       (lower ? FJ_NORM_LOWERCASE : 0u) };
    r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_CLASS, .keep = FJ_KEEP_REMOVED };
    r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_CLASS, .cls = FJ_CLS_PUNCT };
    r->decs[r->d.n_decs++] =
        (fj_tok_dec){ .kind = FJ_DEC_WORDPIECE, .a = LIT("##"), .clean = true };
    if (!fj_rd_config(r, c)) return false;
    r->d.unk = named(r, "[UNK]");
    if (r->d.unk >= 0) ((uint8_t *)(uintptr_t)r->d.types)[r->d.unk] = FJ_TOKEN_UNKNOWN;
    r->prefix[0] = named(r, "[CLS]");
    r->suffix[0] = named(r, "[SEP]");
    if (r->prefix[0] < 0 || r->suffix[0] < 0) return BAD(r, "[CLS] or [SEP] is missing");
    r->d.n_prefix = r->d.n_suffix = 1;
    if (r->d.bos < 0) r->d.bos = r->prefix[0];
    if (r->d.eos < 0) r->d.eos = r->suffix[0];
    return true;
}

fj_tokenizer *fj_tokenizer_from_vocab(const char *vocab, size_t n, const char *merges,
                                      size_t merges_n, const char *config, size_t config_n,
                                      fj_err *e) {
    static const char *const bert_roles =
        "{\"unk_token\":\"[UNK]\",\"pad_token\":\"[PAD]\",\"cls_token\":\"[CLS]\","
        "\"sep_token\":\"[SEP]\",\"mask_token\":\"[MASK]\"}";
    fj_tok_rd *r = fj_rd_new(merges ? "vocab.json" : "vocab.txt", e);
    json_t *c = NULL, *added = NULL, *usual = NULL;
    fj_tokenizer *t = NULL;
    if (config && !(c = fj_rd_parse("tokenizer_config.json", config, config_n, e))) goto out;
    if (merges ? !fj_json_vocab(vocab, n, &r->m, e) || !lines(r, merges, merges_n, true)
               : !lines(r, vocab, n, false))
        goto out;
    if (!(added = fj_rd_added(r, c, NULL))) goto out;
    roles(c, added, &r->m);
    if (!merges) {
        usual = fj_rd_parse("", bert_roles, strlen(bert_roles), e);
        roles(usual, added, &r->m);
    }
    if ((merges ? bpe : bert)(r, c, added)) t = fj_rd_build(r);
out:
    json_decref(usual);
    json_decref(added);
    json_decref(c);
    fj_rd_free(r);
    return t;
}
