/* fuzz_sentencepiece.c - tokenizer.model of any bytes, then a text through what was made of it. */
#include "base/mem.h"

#include <forja/tokenizer.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_tokenizer *t = fj_tokenizer_from_sentencepiece((const char *)data, n, NULL, 0, &e);
    if (!t) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        return 0;
    }
    fj_ids ids = { 0 };
    size_t len = FJ_MIN(n, (size_t)4096), m;
    if (fj_tokenize(t, (const char *)data, len, 0, &ids, &e))
        for (size_t i = 0; i < ids.n; i++) {
            FJ_ASSERT(ids.p[i] >= 0 && ids.p[i] < fj_vocab_size(t));
            FJ_ASSERT(!fj_token_is_special(t, ids.p[i]) || ids.p[i] == fj_token_unk(t));
        }
    free(fj_detokenize(t, ids.p, ids.n, true, &m));
    fj_ids_clear(&ids);
    static const char text[] = "  Once upon a time \xe2\x96\x81 \xff\xef\xac\x81 ";
    fj_tokenize(t, text, sizeof text - 1, FJ_TOK_BOS | FJ_TOK_EOS | FJ_TOK_SPECIAL, &ids, &e);
    fj_ids_free(&ids);
    char *json = fj_tokenizer_to_json(t, &m, &e);
    if (json) {
        fj_tokenizer *u = fj_tokenizer_from_json(json, m, NULL, 0, &e);
        FJ_ASSERT(u && fj_vocab_size(u) == fj_vocab_size(t));
        fj_tokenizer_free(u);
        free(json);
    }
    fj_tok_parts p;
    if (fj_tokenizer_parts(t, &p, &e)) {
        fj_tokenizer_free(fj_tokenizer_from_parts(&p, &e));
        fj_tokenizer_parts_free(&p);
    }
    fj_tokenizer_free(t);
    return 0;
}
