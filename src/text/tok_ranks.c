/* tok_ranks.c - vocabularies of ranks: files of tiktoken ("base64 rank" lines) and Mistral's tekken.json.
 *
 * A token's rank is its id and its priority: two neighbours merge when together they are a token, the lowest
 * rank first.  The expression that cuts words is not in a tiktoken file; it goes with the model. */
#include "text/tok_json.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define SPACE "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_A "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" CONTRACTION "?"
#define CASED_B "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" CONTRACTION "?"

typedef struct family {
    const char *name;
    size_t ranks;      /* how many the file of this model has */
    const char *gguf;  /* its expression by the name of GGUF, or */
    const char *regex; /* itself */
    const char *bos, *eos;
    const char
        *special; /* "spelling=id spelling=id": what the model adds; a range of reserved ones is
                            below */
} family;

static const family families[] = {
    { "llama3", 128000, "llama-bpe", NULL, "<|begin_of_text|>", "<|end_of_text|>",
      "<|begin_of_text|>=128000 <|end_of_text|>=128001 <|reserved_special_token_0|>=128002 "
      "<|reserved_special_token_1|>=128003 <|finetune_right_pad_id|>=128004 "
      "<|step_id|>=128005 <|start_header_id|>=128006 <|end_header_id|>=128007 <|eom_id|>=128008 "
      "<|eot_id|>=128009 <|python_tag|>=128010" },
    { "qwen", 151643, "stablelm2", NULL, NULL, "<|endoftext|>",
      "<|endoftext|>=151643 <|im_start|>=151644 <|im_end|>=151645" },
    { "cl100k", 100256, NULL,
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|"
      "\\s++\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s",
      NULL, "<|endoftext|>",
      "<|endoftext|>=100257 <|fim_prefix|>=100258 <|fim_middle|>=100259 <|fim_suffix|>=100260 "
      "<|endofprompt|>=100276" },
    { "o200k", 199998, NULL,
      CASED_A "|" CASED_B "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACE, NULL,
      "<|endoftext|>", "<|endoftext|>=199999 <|endofprompt|>=200018" },
    { "kimi", 163584, "kimi-k2", NULL, "[BOS]", "[EOS]",
      "[BOS]=163584 [EOS]=163585 <|im_end|>=163586 <|im_user|>=163587 <|im_assistant|>=163588 "
      "<|start_header_id|>=163590 <|end_header_id|>=163591 [EOT]=163593 <|im_system|>=163594 "
      "<|im_middle|>=163601 [UNK]=163838 [PAD]=163839" },
    { "gpt2", 50256, "gpt-2", NULL, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>=50256" },
};

static fj_bytes spell(fj_tok_rd *r, fj_bytes bytes) {
    char *s = fj_arena_alloc(&r->mem, 2 * bytes.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i++) n += fj_utf8_put(fj_byte_char((uint8_t)bytes.p[i]), s + n);
    return (fj_bytes){ s, n };
}

static bool lines(fj_tok_rd *r, const char *p, const char *end) {
    for (size_t line = 1; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        if (stop > p && stop[-1] == '\r') stop--;
        const char *sp = stop > p ? memchr(p, ' ', (size_t)(stop - p)) : NULL;
        fj_bytes bytes;
        if (stop == p) {
            p = nl ? nl + 1 : end;
            continue;
        }
        if (!sp || sp == p || !fj_base64(&r->mem, (fj_bytes){ p, (size_t)(sp - p) }, &bytes) ||
            !bytes.n)
            return BAD(r, "line %zu is not \"base64 rank\"", line);
        int64_t rank = 0;
        const char *q = sp + 1;
        for (; q < stop && *q >= '0' && *q <= '9' && rank < 1 << 24; q++)
            rank = rank * 10 + (*q - '0');
        if (q == sp + 1 || q != stop || rank >= 1 << 24)
            return BAD(r, "line %zu: the rank is not a number below 16777216", line);
        fj_rd_piece(r, spell(r, bytes), rank, (double)-rank);
        p = nl ? nl + 1 : end;
    }
    return r->m.n ? true : BAD(r, "no token in it");
}

static void token(json_t *list, const char *s, size_t n, int64_t id) {
    json_array_append_new(list, json_pack("{s:I, s:s%, s:b, s:b}", "id", (json_int_t)id, "content",
                                          s, n, "special", true, "normalized", false));
}

static bool has_id(json_t *list, int64_t id) {
    size_t i;
    json_t *x;
    json_array_foreach(list, i,
                       x) if (json_integer_value(json_object_get(x, "id")) == id) return true;
    return false;
}

static void specials(fj_tok_rd *r, const family *f, json_t *added) {
    if (json_array_size(added) && strcmp(f->name, "kimi") != 0) return; /* the config says all */
    for (const char *p = f->special; *p;) {
        const char *eq = strchr(p, '=');
        int64_t id = strtol(eq + 1, NULL, 10);
        if (!has_id(added, id)) token(added, p, (size_t)(eq - p), id);
        p = strchr(eq, ' ');
        if (!p++) break;
    }
    int64_t from = 0, to = 0;
    const char *form = NULL;
    if (strcmp(f->name, "llama3") == 0) from = 128011, to = 128256, form = "reserved_special_token";
    if (strcmp(f->name, "qwen") == 0) from = 151646, to = 151851, form = "extra";
    if (strcmp(f->name, "kimi") == 0) from = 163584, to = 163840, form = "reserved_token";
    for (int64_t id = from; form && id < to; id++) {
        int k = (int)(*f->name == 'l' ? id - 128009 : *f->name == 'q' ? id - 151646 : id);
        if (has_id(added, id)) continue;
        const char *name = fj_arena_printf(&r->mem, "<|%s_%d|>", form, k);
        token(added, name, strlen(name), id);
    }
}

static bool start(fj_tok_rd *r) {
    r->d.by_score = r->d.byte_level = r->d.ignore_merges = true;
    r->m.scored = false;
    r->decs[r->d.n_decs++] = (fj_tok_dec){ .kind = FJ_DEC_BYTE_LEVEL };
    return true;
}

/* Scores by id: ids are what is merged by. */
static bool vocab(fj_tok_rd *r, json_t *added) {
    if (!fj_rd_vocab(r, added)) return false;
    double *s = fj_arena_alloc(&r->mem, (r->d.n + 1) * sizeof *s);
    for (size_t i = 0; i < r->d.n; i++) s[i] = -(double)i;
    r->d.scores = s;
    return true;
}

static const family *family_of(fj_tok_rd *r, const char *name, json_t *c) {
    const char *cls = json_string_value(json_object_get(c, "tokenizer_class"));
    if (!name && cls && strncmp(cls, "QWen", 4) == 0) name = "qwen";
    if (!name && cls && strncmp(cls, "TikToken", 8) == 0) name = "kimi";
    for (size_t i = 0; i < FJ_LEN(families); i++)
        if (name ? strcmp(name, families[i].name) == 0 : r->m.n == families[i].ranks)
            return &families[i];
    if (name)
        UNSUP(r,
              "\"%.40s\" is no known expression for a tiktoken file; llama3, qwen, cl100k, "
              "o200k, kimi and gpt2 are",
              name);
    else
        UNSUP(r,
              "%zu ranks: no known model has so many, so the expression that cuts words must be "
              "named (llama3, qwen, cl100k, o200k, kimi, gpt2)",
              r->m.n);
    return NULL;
}

static int32_t named(const fj_tok_rd *r, const char *s) {
    return s ? fj_rd_find(r, (fj_bytes){ s, strlen(s) }) : -1;
}

fj_tokenizer *fj_tokenizer_from_tiktoken(const char *file, size_t n, const char *name,
                                         const char *config, size_t config_n, fj_err *e) {
    fj_tok_rd *r = fj_rd_new("tiktoken file", e);
    json_t *c = NULL, *added = NULL;
    const family *f = NULL;
    fj_tokenizer *t = NULL;
    if ((config && !(c = fj_rd_parse("tokenizer_config.json", config, config_n, e))) ||
        !lines(r, file, file + n) || !start(r) || !(f = family_of(r, name, c)) ||
        !(added = fj_rd_added(r, c, NULL)))
        goto out;
    if (r->m.n == f->ranks) specials(r, f, added);
    if (!vocab(r, added)) goto out;
    if (f->gguf) {
        fj_pre_traits traits;
        r->d.n_pres = (size_t)fj_pre_by_name(f->gguf, r->pres, &traits);
    } else {
        r->pres[r->d.n_pres++] =
            (fj_tok_pre){ .kind = FJ_PRE_SPLIT, .regex = { f->regex, strlen(f->regex) } };
    }
    r->d.bos = named(r, f->bos);
    r->d.eos = named(r, f->eos);
    if (!fj_rd_config(r, c)) goto out;
    if (strcmp(f->name, "llama3") == 0 && r->d.bos >= 0) { /* as its own code does */
        r->d.n_prefix = 1;
        r->prefix[0] = r->d.bos;
    }
    t = fj_rd_build(r);
out:
    json_decref(added);
    json_decref(c);
    fj_rd_free(r);
    return t;
}

/* ---- tekken.json ----------------------------------------------------------------------------------- */
static bool tekken(fj_tok_rd *r, json_t *root, json_t *added) {
    json_t *config = json_object_get(root, "config"), *list = json_object_get(root, "vocab"), *j,
           *spec = json_object_get(root, "special_tokens");
    json_int_t reserved = json_integer_value(json_object_get(config, "default_num_special_tokens"));
    json_int_t size = json_integer_value(json_object_get(config, "default_vocab_size"));
    json_t *pattern = json_object_get(config, "pattern");
    size_t i;
    if (reserved < 0 || reserved > 1 << 20 || size <= reserved || size > 1 << 24)
        return BAD(r, "config: default_vocab_size %lld with %lld special tokens", (long long)size,
                   (long long)reserved);
    if (!json_is_string(pattern) || !json_is_array(list))
        return BAD(r, "config.pattern or vocab is missing");
    json_array_foreach(list, i, j) {
        json_int_t rank = json_integer_value(json_object_get(j, "rank"));
        json_t *b = json_object_get(j, "token_bytes");
        fj_bytes bytes;
        if (!json_is_string(b) || !fj_base64(&r->mem, fj_jstr(b), &bytes) || !bytes.n || rank < 0)
            return BAD(r, "vocab[%zu] has no rank and token_bytes", i);
        if (rank + reserved >= size) continue; /* the file holds more than the model uses */
        fj_rd_piece(r, spell(r, bytes), rank + reserved, 0);
    }
    static const char *const early[] = { "<unk>",
                                         "<s>",
                                         "</s>",
                                         "[INST]",
                                         "[/INST]",
                                         "[AVAILABLE_TOOLS]",
                                         "[/AVAILABLE_TOOLS]",
                                         "[TOOL_RESULTS]",
                                         "[/TOOL_RESULTS]",
                                         "[TOOL_CALLS]",
                                         "[IMG]",
                                         "<pad>",
                                         "[IMG_BREAK]",
                                         "[IMG_END]",
                                         "[PREFIX]",
                                         "[MIDDLE]",
                                         "[SUFFIX]",
                                         "[SYSTEM_PROMPT]",
                                         "[/SYSTEM_PROMPT]",
                                         "[TOOL_CONTENT]" };
    json_array_foreach(spec, i, j) {
        json_t *s = json_object_get(j, "token_str");
        json_int_t rank = json_integer_value(json_object_get(j, "rank"));
        if (!json_is_string(s) || rank < 0 || rank >= reserved)
            return BAD(r, "special_tokens[%zu] has no rank and token_str", i);
        token(added, json_string_value(s), json_string_length(s), rank);
    }
    for (size_t k = 0; !spec && k < FJ_LEN(early) && (json_int_t)k < reserved; k++)
        token(added, early[k], strlen(early[k]), (int64_t)k);
    for (json_int_t k = 0; k < reserved; k++) {
        if (has_id(added, k)) continue;
        char *s = fj_arena_printf(&r->mem, "<SPECIAL_%d>", (int)k);
        token(added, s, strlen(s), k);
    }
    r->pres[r->d.n_pres++] = (fj_tok_pre){ .kind = FJ_PRE_SPLIT, .regex = fj_jstr(pattern) };
    return vocab(r, added);
}

fj_tokenizer *fj_tokenizer_from_tekken(const char *json, size_t n, fj_err *e) {
    fj_tok_rd *r = fj_rd_new("tekken.json", e);
    json_t *root = fj_rd_parse("tekken.json", json, n, e), *added = json_array();
    fj_tokenizer *t = NULL;
    if (root && start(r) && tekken(r, root, added)) {
        r->d.bos = named(r, "<s>");
        r->d.eos = named(r, "</s>");
        r->d.pad = named(r, "<pad>");
        r->d.n_prefix = r->d.bos >= 0;
        r->prefix[0] = r->d.bos;
        t = fj_rd_build(r);
    }
    json_decref(added);
    json_decref(root);
    fj_rd_free(r);
    return t;
}
