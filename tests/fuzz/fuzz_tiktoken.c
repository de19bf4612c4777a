/* fuzz_tiktoken.c - the files of vocabularies that are not JSON of `tokenizers`.  The first byte says which: a
 * tiktoken file (with the name of an expression), tekken.json, vocab.json and merges.txt (parted by a 0
 * byte), vocab.txt, a configuration beside a fixed file, or what GGUF holds: model, name and flags, then
 * tokens ended by 0, each with a type and a score behind; the rest is merges (as tokens are) and charsmap. */
#include "base/mem.h"

#include <forja/tokenizer.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The bytes up to the next 0, which is stepped over. */
static fj_bytes word(const char **p, const char *end) {
    const char *from = *p, *zero = from < end ? memchr(from, 0, (size_t)(end - from)) : NULL;
    *p = zero ? zero + 1 : end;
    return (fj_bytes){ from, (size_t)((zero ? zero : end) - from) };
}

static fj_tokenizer *from_gguf(const char *s, size_t n, fj_err *e) {
    enum { MAX = 64 };
    static const char *const models[] = { "llama", "gpt2", "gemma4", "bert", "t5", "rwkv" };
    static const char *const pres[] = { "llama-bpe", "qwen2",    "kimi-k2",
                                        "bloom",     "superbpe", "default" };
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    fj_bytes tokens[MAX], merges[MAX];
    float scores[MAX];
    int32_t types[MAX];
    const char *at = s + FJ_MIN(n, (size_t)4), *end = s + n;
    if (n < 4) return fj_tokenizer_from_parts(&p, e);
    p.model = models[(uint8_t)s[0] % FJ_LEN(models)];
    p.pre = pres[(uint8_t)s[1] % FJ_LEN(pres)];
    p.add_bos = s[2] & 1;
    p.add_prefix = s[2] >> 1 & 1;
    p.remove_spaces = s[2] >> 2 & 1;
    p.bos = s[3];
    p.unk = s[3] / 2;
    p.eos = p.sep = 1;
    while (p.n < (size_t)(uint8_t)s[3] % MAX && at + 2 < end) {
        types[p.n] = at[0];
        scores[p.n] = (float)at[1];
        at += 2;
        tokens[p.n++] = word(&at, end);
    }
    while (p.n_merges < MAX && at < end && *at != '|') merges[p.n_merges++] = word(&at, end);
    p.tokens = tokens;
    p.types = types;
    p.scores = scores;
    p.merges = merges;
    p.charsmap = (fj_bytes){ at, (size_t)(end - at) };
    return fj_tokenizer_from_parts(&p, e);
}

static fj_tokenizer *make(uint8_t kind, const char *s, size_t n, fj_err *e) {
    static const char *const names[] = { "llama3", "qwen", "cl100k", "o200k", "kimi", "gpt2" };
    static const char gpt2[] = "{\"tokenizer_class\":\"GPT2Tokenizer\"}";
    const char *zero = n ? memchr(s, 0, n) : NULL;
    switch (kind) {
    case 'g': return from_gguf(s, n, e);
    case 't': return fj_tokenizer_from_tekken(s, n, e);
    case 'w': return fj_tokenizer_from_vocab(s, n, NULL, 0, NULL, 0, e);
    case 'c': return fj_tokenizer_from_tiktoken("YQ== 0\nYg== 1\nYWI= 2\n", 21, "gpt2", s, n, e);
    case 'm':
        if (!zero) return fj_tokenizer_from_vocab(s, n, "", 0, gpt2, sizeof gpt2 - 1, e);
        return fj_tokenizer_from_vocab(s, (size_t)(zero - s), zero + 1, n - 1 - (size_t)(zero - s),
                                       gpt2, sizeof gpt2 - 1, e);
    default:
        return fj_tokenizer_from_tiktoken(s, n, kind == 'n' ? NULL : names[kind % FJ_LEN(names)],
                                          NULL, 0, e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    if (!n) return 0;
    fj_tokenizer *t = make(data[0], (const char *)data + 1, n - 1, &e);
    if (!t) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        return 0;
    }
    fj_ids ids = { 0 };
    size_t m;
    if (fj_tokenize(t, (const char *)data, FJ_MIN(n, (size_t)4096), 0, &ids, &e))
        for (size_t i = 0; i < ids.n; i++) FJ_ASSERT(ids.p[i] >= 0 && ids.p[i] < fj_vocab_size(t));
    free(fj_detokenize(t, ids.p, ids.n, true, &m));
    fj_ids_free(&ids);
    free(fj_tokenizer_to_json(t, &m, &e));
    fj_tok_parts p;
    if (fj_tokenizer_parts(t, &p, &e)) {
        fj_tokenizer_free(fj_tokenizer_from_parts(&p, &e));
        fj_tokenizer_parts_free(&p);
    }
    fj_tokenizer_free(t);
    return 0;
}
