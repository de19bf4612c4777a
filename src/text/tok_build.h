/* tok_build.h - a tokenizer described in neutral terms; every reader fills one of these in.
 *
 * The description is borrowed: fj_tokenizer_build copies what it keeps.  Pipeline of encoding:
 * added tokens cut the text; the pieces between go through the normalizer steps, then through the
 * pre-tokenizer steps, and each resulting word is merged by BPE. */
#ifndef FJ_TEXT_TOK_BUILD_H
#define FJ_TEXT_TOK_BUILD_H

#include <forja/tokenizer.h>

typedef struct fj_tok_added {
    fj_bytes text;
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
} fj_tok_added;

typedef enum fj_norm_kind {
    FJ_NORM_NFC,
    FJ_NORM_NFD,
    FJ_NORM_NFKC,
    FJ_NORM_NFKD,
    FJ_NORM_PREPEND, /* a in front of a text that is not empty */
    FJ_NORM_REPLACE, /* every a by b */
} fj_norm_kind;
typedef struct fj_tok_norm {
    fj_norm_kind kind;
    fj_bytes a, b;
} fj_tok_norm;

typedef enum fj_pre_kind {
    FJ_PRE_SPLIT,     /* by an expression */
    FJ_PRE_SPACE,     /* a space in front of what does not begin with one */
    FJ_PRE_METASPACE, /* ' ' to U+2581, one in front as `prefix` says, split before each */
} fj_pre_kind;
typedef enum fj_pre_keep {
    FJ_KEEP_ISOLATED,
    FJ_KEEP_REMOVED,
    FJ_KEEP_PREVIOUS,
    FJ_KEEP_NEXT
} fj_pre_keep;
enum { FJ_PREFIX_NEVER, FJ_PREFIX_ALWAYS, FJ_PREFIX_FIRST };
typedef struct fj_tok_pre {
    fj_pre_kind kind;
    fj_bytes regex; /* SPLIT: an expression, or with `literal` the text itself */
    bool literal, invert;
    fj_pre_keep keep;
    int prefix; /* METASPACE: FJ_PREFIX_* */
    bool split; /* METASPACE */
} fj_tok_pre;

typedef struct fj_tok_merge {
    fj_bytes l, r;
} fj_tok_merge;

typedef struct fj_tok_desc {
    size_t n;
    const fj_bytes *pieces;
    const uint8_t *types; /* fj_tok_type, 0: hole in the ids */
    const float *scores;  /* by_score: merges come from these */
    bool by_score, byte_level, byte_fallback, fuse_unk, ignore_merges;
    size_t n_merges;
    const fj_tok_merge *merges;
    size_t n_added;
    const fj_tok_added *added;
    size_t n_norms;
    const fj_tok_norm *norms;
    size_t n_pres;
    const fj_tok_pre *pres;
    bool metaspace;  /* decoding turns U+2581 into a space */
    bool strip_left; /* decoding takes one space away at the start */
    size_t n_prefix, n_suffix;
    const int32_t *prefix, *suffix; /* ids that the model wants around a text */
    int32_t bos, eos, eot, unk, pad;
} fj_tok_desc;

fj_tokenizer *fj_tokenizer_build(const fj_tok_desc *d, fj_err *e);

/* Pre-tokenizers by their GGUF name; steps in out, how many; -1: not known. */
enum { FJ_PRE_MAX = 8 };
int fj_pre_by_name(const char *name, fj_tok_pre out[FJ_PRE_MAX], bool *nfc, bool *ignore_merges);
/* GPT-2's expression, which ByteLevel with use_regex means. */
extern const char fj_pre_gpt2[];

#define FJ_META "\xe2\x96\x81" /* U+2581, the visible space of SentencePiece */

#endif
