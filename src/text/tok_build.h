/* tok_build.h - a tokenizer described in neutral terms; every reader fills one of these in.
 *
 * The description is borrowed: fj_tokenizer_build copies what it keeps.  Pipeline of encoding:
 * added tokens cut the text; the pieces between go through the normalizer steps, then through the
 * pre-tokenizer steps, and each resulting word goes through the model.  Decoding puts every token
 * through the decoder steps, once, when the tokenizer is built. */
#ifndef FJ_TEXT_TOK_BUILD_H
#define FJ_TEXT_TOK_BUILD_H

#include <forja/tokenizer.h>

typedef enum fj_added_match {
    FJ_ADDED_RAW,        /* in the text as it came */
    FJ_ADDED_NORMALIZED, /* its normalized spelling, in the normalized text */
    FJ_ADDED_AFTER,      /* its spelling as it is, in the normalized text (SentencePiece) */
} fj_added_match;
typedef struct fj_tok_added {
    fj_bytes text;
    int32_t id;
    bool special, lstrip, rstrip, single_word;
    fj_added_match match;
} fj_tok_added;

typedef enum fj_norm_kind {
    FJ_NORM_NFC,
    FJ_NORM_NFD,
    FJ_NORM_NFKC,
    FJ_NORM_NFKD,
    FJ_NORM_PREPEND,  /* a in front of a text that is not empty */
    FJ_NORM_REPLACE,  /* every a by b; FJ_NORM_REGEX: a is an expression */
    FJ_NORM_LOWER,    /* every character by its lower case */
    FJ_NORM_STRIP,    /* white space: FJ_NORM_LEFT, FJ_NORM_RIGHT */
    FJ_NORM_UNACCENT, /* marks are left out */
    FJ_NORM_BERT,     /* FJ_NORM_CLEAN, _CJK, _ACCENTS, _LOWERCASE */
    FJ_NORM_NMT,      /* SentencePiece's rule "nmt": controls go, odd spaces become spaces */
    FJ_NORM_CHARSMAP, /* a is a precompiled charsmap, as `tokenizers` applies it: by graphemes */
    FJ_NORM_SP,    /* SentencePiece's own: charsmap in a (may be empty), then FJ_NORM_DUMMY, ... */
    FJ_NORM_BYTES, /* every byte by its stand-in (ByteLevel) */
} fj_norm_kind;
enum {
    FJ_NORM_REGEX = 1,
    FJ_NORM_LEFT = 1,
    FJ_NORM_RIGHT = 2,
    FJ_NORM_CLEAN = 1,
    FJ_NORM_CJK = 2,
    FJ_NORM_ACCENTS = 4,
    FJ_NORM_LOWERCASE = 8,
    FJ_NORM_DUMMY = 1,  /* a space in front */
    FJ_NORM_EXTRA = 2,  /* runs of spaces become one, none at the ends */
    FJ_NORM_ESCAPE = 4, /* spaces become U+2581 */
    FJ_NORM_SUFFIX = 8, /* the space of FJ_NORM_DUMMY goes behind */
};
typedef struct fj_tok_norm {
    fj_norm_kind kind;
    unsigned flags;
    fj_bytes a, b;
} fj_tok_norm;

typedef enum fj_pre_kind {
    FJ_PRE_SPLIT,     /* by an expression */
    FJ_PRE_SPACE,     /* a space in front of what does not begin with one */
    FJ_PRE_METASPACE, /* ' ' to U+2581, one in front as `prefix` says, split before each */
    FJ_PRE_CLASS,     /* by a class of characters: `cls` */
    FJ_PRE_FIXED,     /* pieces of `count` characters */
    FJ_PRE_BYTES,     /* every byte by its stand-in: ByteLevel that other steps follow */
} fj_pre_kind;
typedef enum fj_pre_class {
    FJ_CLS_SPACE,   /* White_Space */
    FJ_CLS_PUNCT,   /* P, and what ASCII has besides letters, digits and controls */
    FJ_CLS_NUMERIC, /* N */
    FJ_CLS_CHAR,    /* regex: the one character */
} fj_pre_class;
typedef enum fj_pre_keep {
    FJ_KEEP_ISOLATED,
    FJ_KEEP_REMOVED,
    FJ_KEEP_PREVIOUS,
    FJ_KEEP_NEXT,
    FJ_KEEP_CONTIGUOUS
} fj_pre_keep;
enum { FJ_PREFIX_NEVER, FJ_PREFIX_ALWAYS, FJ_PREFIX_FIRST };
typedef struct fj_tok_pre {
    fj_pre_kind kind;
    fj_bytes regex; /* SPLIT: an expression, or with `literal` the text itself */
    bool literal, invert;
    fj_pre_keep keep;
    int prefix; /* METASPACE: FJ_PREFIX_* */
    bool split; /* METASPACE */
    fj_pre_class cls;
    int count;
} fj_tok_pre;

/* Each works on the text of one token, knowing whether it is the first of all. */
typedef enum fj_dec_kind {
    FJ_DEC_BYTE_LEVEL, /* stand-ins to bytes */
    FJ_DEC_BYTES,      /* <0x41> to its byte */
    FJ_DEC_FUSE,       /* from here on the text is one piece: only STRIP may follow */
    FJ_DEC_STRIP,      /* up to `left` times a in front, up to `right` times behind */
    FJ_DEC_REPLACE,    /* a by b; `regex`: a is an expression */
    FJ_DEC_META,       /* U+2581 to a space; none from the first token when `strip` */
    FJ_DEC_WORDPIECE,  /* a space in front unless it begins with a (or is the first); `clean` */
    FJ_DEC_SUFFIX,     /* a at the end to a space, but for the last token */
    FJ_DEC_CTC,        /* repeated tokens once, a left out, b to a space; `clean` */
} fj_dec_kind;
typedef struct fj_tok_dec {
    fj_dec_kind kind;
    fj_bytes a, b;
    int left, right;
    bool strip, clean, regex;
} fj_tok_dec;

typedef struct fj_tok_merge {
    fj_bytes l, r;
} fj_tok_merge;

typedef enum fj_model_kind {
    FJ_MODEL_BPE,
    FJ_MODEL_UNIGRAM,   /* the most likely pieces */
    FJ_MODEL_WORDPIECE, /* the longest piece, again and again */
    FJ_MODEL_WORDLEVEL, /* whole words */
} fj_model_kind;

typedef struct fj_tok_desc {
    fj_model_kind kind;
    size_t n;
    const fj_bytes *pieces;
    const uint8_t *types; /* fj_tok_type, 0: hole in the ids */
    const double *scores; /* by_score: merges come from these; UNIGRAM: log probabilities */
    bool by_score, byte_level, byte_fallback, fuse_unk, ignore_merges;
    bool single;       /* UNIGRAM adds scores in float, as SentencePiece does; else in double */
    fj_bytes cont;     /* in front of what continues a word ("##"), "" for none */
    fj_bytes word_end; /* behind the last character of a word ("</w>"), "" for none */
    size_t max_chars;  /* WORDPIECE: longer words are unknown */
    size_t n_merges;
    const fj_tok_merge *merges;
    size_t n_added;
    const fj_tok_added *added;
    size_t n_norms;
    const fj_tok_norm *norms;
    size_t n_pres;
    const fj_tok_pre *pres;
    size_t n_decs;
    const fj_tok_dec *decs;
    size_t n_prefix, n_suffix;
    const int32_t *prefix, *suffix; /* ids that the model wants around a text */
    int32_t bos, eos, eot, unk, pad;
} fj_tok_desc;

fj_tokenizer *fj_tokenizer_build(const fj_tok_desc *d, fj_err *e);

/* Pre-tokenizers by their GGUF name; steps in out, how many; -1: not known. */
enum { FJ_PRE_MAX = 12 };
typedef struct fj_pre_traits {
    bool nfc, ignore_merges, add_bos;
    bool meta; /* no stand-ins for bytes: spaces become U+2581, other bytes fall back */
} fj_pre_traits;
int fj_pre_by_name(const char *name, fj_tok_pre out[FJ_PRE_MAX], fj_pre_traits *traits);
/* GPT-2's expression, which ByteLevel with use_regex means. */
extern const char fj_pre_gpt2[];

#define FJ_META "\xe2\x96\x81" /* U+2581, the visible space of SentencePiece */

#endif
