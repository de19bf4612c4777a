/* tokenizer.h - text to token ids and back.
 *
 * An fj_tokenizer is made from tokenizer.json (Hugging Face), tokenizer.model (SentencePiece), a file of
 * tiktoken, or from the metadata of a GGUF file: BPE, unigram, WordPiece, whole words.  It
 * is read-only after that: any number of threads may use one at the same time.  Text is bytes; UTF-8
 * is expected, and bytes that are not UTF-8 are encoded one by one as far as the vocabulary can, so
 * that byte-level and byte-fallback vocabularies give every input back exactly (but for models that
 * compose characters first, as Qwen2 does with NFC: those give another spelling of the same text).
 *
 * Text from outside is encoded without FJ_TOK_SPECIAL: then no control token can come out of it,
 * whatever it spells. */
#ifndef FORJA_TOKENIZER_H
#define FORJA_TOKENIZER_H

#include <forja/err.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fj_tokenizer fj_tokenizer;

/* Bytes with a length; not terminated, may hold 0. */
typedef struct fj_bytes {
    const char *p;
    size_t n;
} fj_bytes;

/* A growing list of ids; zero-initialise, free with fj_ids_free.  Functions add at the end. */
typedef struct fj_ids {
    int32_t *p;
    size_t n, cap;
    size_t dropped; /* bytes of text that the vocabulary has no token for, not even "unknown" */
} fj_ids;
FJ_API void fj_ids_push(fj_ids *ids, int32_t id);
FJ_API void fj_ids_clear(fj_ids *ids); /* n = 0, keeps the memory */
FJ_API void fj_ids_free(fj_ids *ids);

/* ---- making one ------------------------------------------------------------------------------- */
/* json: the bytes of tokenizer.json.  config: those of tokenizer_config.json, or NULL.  A key whose
 * meaning would change ids and is not known here is an error that names it.  `truncation` and
 * `padding` are not applied (transformers does not apply them either unless asked). */
FJ_API fj_tokenizer *fj_tokenizer_from_json(const char *json, size_t n, const char *config,
                                            size_t config_n, fj_err *e);

/* tokenizer.model of SentencePiece (BPE or unigram), whose user-defined pieces, normalizer and byte
 * tokens hold.  config as above: added tokens, and what goes around a text.  A model whose ids are not
 * those of its class (XLM-R and its kin) is refused by name. */
FJ_API fj_tokenizer *fj_tokenizer_from_sentencepiece(const char *model, size_t n,
                                                     const char *config, size_t config_n,
                                                     fj_err *e);

/* A file of tiktoken, lines of "base64 rank".  name: whose expression cuts words: llama3, qwen, cl100k,
 * o200k, kimi, gpt2; NULL: what config or the number of ranks says. */
FJ_API fj_tokenizer *fj_tokenizer_from_tiktoken(const char *file, size_t n, const char *name,
                                                const char *config, size_t config_n, fj_err *e);

/* Mistral's tekken.json. */
FJ_API fj_tokenizer *fj_tokenizer_from_tekken(const char *json, size_t n, fj_err *e);

/* vocab.json and merges.txt (byte-level BPE), or merges NULL: vocab is the vocab.txt of a BERT.  The
 * class in config says how text is cut; one that is not known is an error that names it. */
FJ_API fj_tokenizer *fj_tokenizer_from_vocab(const char *vocab, size_t n, const char *merges,
                                             size_t merges_n, const char *config, size_t config_n,
                                             fj_err *e);

/* From what a folder holds, the first that is there: tokenizer.json, tokenizer.model (SentencePiece or
 * tiktoken), tekken.json, NAME.tiktoken, vocab.json with merges.txt, vocab.txt; each with the
 * tokenizer_config.json and added_tokens.json beside it. */
FJ_API fj_tokenizer *fj_tokenizer_from_folder(const char *dir, fj_err *e);
/* From one of these files, known by its name or its first bytes. */
FJ_API fj_tokenizer *fj_tokenizer_from_file(const char *path, fj_err *e);

/* What GGUF says about a tokenizer (docs/gguf.md of ggml: tokenizer.ggml.*). */
typedef enum fj_tok_type {
    FJ_TOKEN_NORMAL = 1,
    FJ_TOKEN_UNKNOWN,
    FJ_TOKEN_CONTROL,
    FJ_TOKEN_USER, /* matched in any text before everything else */
    FJ_TOKEN_UNUSED,
    FJ_TOKEN_BYTE,
} fj_tok_type;

typedef struct fj_tok_parts {
    const char *model; /* "llama" (scores), "gpt2" or "gemma4" (merges), "bert", "t5" (scores) */
    const char *pre;   /* name of the pre-tokenizer of "gpt2"; NULL: "default" */
    size_t n;          /* tokens */
    const fj_bytes *tokens; /* n pieces */
    const float *scores;    /* n, or NULL ("llama" and "t5" need them) */
    const int32_t *types;   /* n of fj_tok_type, or NULL: all normal */
    size_t n_merges;
    const fj_bytes *merges;           /* "left right" ("gpt2" needs them) */
    int32_t bos, eos, eot, unk, pad;  /* -1: none */
    int add_bos, add_eos, add_prefix; /* 1, 0, or -1: not said, the default of the model holds */
    void *own;                        /* fj_tokenizer_parts_free's */
    int32_t sep, cls;                 /* "bert": behind and in front; -1: none */
    int remove_spaces;                /* "t5": runs of spaces become one; 1, 0, -1 as above */
    fj_bytes charsmap;                /* "t5", "llama": precompiled_charsmap; empty: none */
} fj_tok_parts;
#define FJ_TOK_PARTS_INIT                                                                          \
    {                                                                                              \
        .bos = -1, .eos = -1, .eot = -1, .unk = -1, .pad = -1, .add_bos = -1, .add_eos = -1,       \
        .add_prefix = -1, .sep = -1, .cls = -1, .remove_spaces = -1                                \
    }

/* Copies what it needs.  An unknown `pre` is an error that names it. */
FJ_API fj_tokenizer *fj_tokenizer_from_parts(const fj_tok_parts *parts, fj_err *e);

/* The other way, for writing GGUF.  What *parts points to is freed by fj_tokenizer_parts_free and must
 * not outlive t.  Error: GGUF has no name for this pre-tokenizer, or cannot say what the normalizer
 * or the template does. */
FJ_API bool fj_tokenizer_parts(const fj_tokenizer *t, fj_tok_parts *parts, fj_err *e);
FJ_API void fj_tokenizer_parts_free(fj_tok_parts *parts);

/* A tokenizer.json that Hugging Face `tokenizers` reads; the caller frees.  n: its length.  Error: a
 * spelling that JSON cannot hold, or two tokens with the same one. */
FJ_API char *fj_tokenizer_to_json(const fj_tokenizer *t, size_t *n, fj_err *e);

FJ_API void fj_tokenizer_free(fj_tokenizer *t); /* NULL is fine */

/* ---- text to ids ------------------------------------------------------------------------------ */
enum {
    FJ_TOK_BOS = 1, /* put in front what the model wants in front (often one BOS, often nothing) */
    FJ_TOK_EOS = 2, /* and behind */
    FJ_TOK_SPECIAL = 4, /* the text is ours: control tokens spelled in it become control tokens */
};
/* Adds to ids.  Errors: text over 1 GiB, a match limit of the pre-tokenizer expression, memory. */
FJ_API bool fj_tokenize(const fj_tokenizer *t, const char *text, size_t n, unsigned flags,
                        fj_ids *ids, fj_err *e);

/* ---- ids to text ------------------------------------------------------------------------------ */
/* A decoder holds back the bytes of a character that is not whole yet, and takes away the space that
 * encoding put in front.  Zero-initialise; one per text. */
typedef struct fj_detok {
    bool started, space;
    uint8_t n;
    char held[4];
    uint32_t last;
} fj_detok;

/* Bytes of token id; room for them must be asked from fj_token_bytes_max(t) + 4.  Returns how many
 * were written; an id outside the vocabulary writes nothing.  special: control tokens are spelled
 * out instead of left out. */
FJ_API size_t fj_detok_push(const fj_tokenizer *t, fj_detok *d, int32_t id, bool special,
                            char *out);
/* What is left at the end of the text (bytes of a character that never became whole): at most 4. */
FJ_API size_t fj_detok_end(fj_detok *d, char *out);

/* All ids at once, exact bytes; the caller frees; *n (may be NULL) is the length; a 0 byte follows. */
FJ_API char *fj_detokenize(const fj_tokenizer *t, const int32_t *ids, size_t count, bool special,
                           size_t *n);

/* The bytes that a token stands for inside a text (a word's leading space included; control tokens
 * give their spelling).  Empty for an id outside the vocabulary.  Owned by t. */
FJ_API fj_bytes fj_token_bytes(const fj_tokenizer *t, int32_t id);
FJ_API size_t fj_token_bytes_max(const fj_tokenizer *t);

/* ---- questions -------------------------------------------------------------------------------- */
FJ_API int32_t fj_vocab_size(const fj_tokenizer *t);               /* highest id + 1 */
FJ_API fj_bytes fj_token_piece(const fj_tokenizer *t, int32_t id); /* as the vocabulary spells it */
FJ_API int32_t fj_token_id(const fj_tokenizer *t, const char *piece, size_t n); /* -1: not there */
FJ_API bool fj_token_is_special(const fj_tokenizer *t, int32_t id);             /* control token */
FJ_API bool fj_token_ends(const fj_tokenizer *t, int32_t id); /* eos, eot: generation stops here */
FJ_API int32_t fj_token_bos(const fj_tokenizer *t);           /* each -1: none */
FJ_API int32_t fj_token_eos(const fj_tokenizer *t);
FJ_API int32_t fj_token_eot(const fj_tokenizer *t); /* end of turn: <|im_end|>, <|eot_id|>, ... */
FJ_API int32_t fj_token_pad(const fj_tokenizer *t);
FJ_API int32_t fj_token_unk(const fj_tokenizer *t);
FJ_API bool fj_tokenizer_adds_bos(const fj_tokenizer *t);
FJ_API bool fj_tokenizer_adds_eos(const fj_tokenizer *t);

/* ---- training a vocabulary -------------------------------------------------------------------- */
typedef struct fj_bpe_opts {
    int32_t vocab; /* tokens in all, specials included; at least 256 + n_special */
    size_t n_special;
    const char *const *special; /* get the first ids, in this order */
    const char *pre;       /* "gpt-2" (also NULL), "llama-bpe", "qwen2", "smollm": as in GGUF */
    const char *bos, *eos; /* among special, or NULL */
} fj_bpe_opts;
/* Byte-level BPE; the same texts give the same vocabulary (most frequent pair first, ties by the
 * lowest ids).  Stops early when no pair occurs twice.  Spellings of special tokens in the texts and
 * words over 256 bytes are left out of the counts. */
FJ_API fj_tokenizer *fj_bpe_train(const fj_bytes *texts, size_t n, const fj_bpe_opts *o, fj_err *e);

#ifdef __cplusplus
}
#endif
#endif
