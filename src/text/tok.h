/* tok.h - the inside of a tokenizer; only src/text sees it. */
#ifndef FJ_TEXT_TOK_H
#define FJ_TEXT_TOK_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/mem.h"
#include "text/tok_build.h"

#include <pcre2.h>

/* ---- vocab.c: spellings to ids ------------------------------------------------------------------ */
/* Borrows the spellings.  Of two equal ones the first that was put wins. */
typedef struct fj_spell {
    uint64_t *slot; /* hash << 32 | index + 1; 0: empty */
    uint64_t mask;
    const fj_bytes *v;
} fj_spell;
void fj_spell_init(fj_spell *s, const fj_bytes *v, size_t n);
int32_t fj_spell_put(fj_spell *s, int32_t i); /* v[i]; -1, or who was there before */
int32_t fj_spell_get(const fj_spell *s, const char *p, size_t n); /* -1: not there */
void fj_spell_free(fj_spell *s);

/* Eight bytes at a time; for tables in memory only (the order of bytes of the machine is in it). */
static inline uint64_t fj_word_hash(const char *p, size_t n) {
    uint64_t h = n * 0x9e3779b97f4a7c15u, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        w = (uint64_t)a << 32 | b;
    } else if (n) {
        w = (uint64_t)(unsigned char)p[0] | (uint64_t)(unsigned char)p[n >> 1] << 8 |
            (uint64_t)(unsigned char)p[n - 1] << 16;
    }
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}

/* The place of a spelling will be looked at soon. */
static inline void fj_spell_ask(const fj_spell *s, fj_bytes x) {
    __builtin_prefetch(&s->slot[fj_word_hash(x.p, x.n) & s->mask]);
}

/* ---- trie.c: every prefix of a text that is a spelling -------------------------------------------- */
typedef struct fj_trie {
    uint64_t *slot; /* (node << 8 | byte) + 1 << 32 | child */
    uint64_t mask;
    int32_t *value; /* of a node; -1: nothing ends here */
    uint32_t n;
    int32_t root[256]; /* children of node 0; -1: none */
} fj_trie;
void fj_trie_init(fj_trie *t, size_t bytes); /* of all spellings together */
void fj_trie_put(fj_trie *t, const char *s, size_t n, int32_t value); /* the first put wins */
void fj_trie_free(fj_trie *t);
static inline int32_t fj_trie_step(const fj_trie *t, int32_t node, unsigned char b) {
    if (!node) return t->root[b];
    uint32_t key = ((uint32_t)node << 8 | b) + 1;
    for (uint64_t i = (key * 0x9e3779b97f4a7c15u >> 20) & t->mask;; i = (i + 1) & t->mask) {
        uint64_t x = t->slot[i];
        if (x >> 32 == key) return (int32_t)(uint32_t)x;
        if (!x) return -1;
    }
}

/* ---- chars.c: classes of characters ---------------------------------------------------------------- */
enum {
    FJ_CH_L = 1,   /* letter */
    FJ_CH_N = 2,   /* number */
    FJ_CH_WS = 4,  /* White_Space */
    FJ_CH_NL = 8,  /* \r \n */
    FJ_CH_M = 16,  /* mark */
    FJ_CH_UP = 32, /* Lu Lt Lm Lo M */
    FJ_CH_LO = 64, /* Ll Lm Lo M */
    FJ_CH_PS = 128 /* punctuation or symbol */
};
uint8_t fj_char_class(uint32_t c);
bool fj_char_space(uint32_t c);
bool fj_char_punct(uint32_t c); /* FJ_CLS_PUNCT */
bool fj_char_mark(uint32_t c);  /* any M */
bool fj_char_digit(uint32_t c); /* Nd */
bool fj_char_word(uint32_t c);  /* Oniguruma's \w */
/* fj_char_class of the first 65536; the caller frees. */
uint8_t *fj_char_table(void);

/* ---- scan.c: known expressions without PCRE2 --------------------------------------------------------- */
typedef struct fj_scan fj_scan;
const fj_scan *fj_scan_find(const fj_tok_pre *p); /* NULL: not known */
const char *fj_scan_expression(size_t i);         /* of the table; NULL: no more */
/* Length of the match of the expression at s[i]; 0: none begins there.  s[0..n) is valid UTF-8. */
typedef struct fj_scan_run { /* zeroed before the first call for a text, whose calls go forward */
    size_t at, end, left;    /* a run of digits up to `end`, of which `left` are there from `at` */
} fj_scan_run;
size_t fj_scan_at(const fj_scan *sc, const uint8_t *table, const char *s, size_t n, size_t i,
                  fj_scan_run *digits);

/* ---- charsmap.c: SentencePiece's precompiled normalization -------------------------------------------- */
typedef struct fj_charsmap {
    const uint32_t *unit; /* a double-array trie (darts) */
    size_t n_unit;
    const char *text; /* replacements, each ended by 0 */
    size_t n_text;
} fj_charsmap;
bool fj_charsmap_open(fj_charsmap *m, fj_arena *mem, fj_bytes blob, fj_err *e);
/* The longest prefix of s that is mapped (shortest: the shortest); 0: none.  *to: what it becomes. */
size_t fj_charsmap_find(const fj_charsmap *m, const char *s, size_t n, bool shortest, fj_bytes *to);

typedef struct fj_merge_slot {
    uint64_t key; /* left << 32 | right; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id; /* what the two become */
} fj_merge_slot;

typedef struct fj_pair {
    int32_t l, r;
} fj_pair;

typedef struct fj_norm_step {
    fj_tok_norm d;
    pcre2_code *re; /* REPLACE by expression */
    fj_charsmap map;
} fj_norm_step;

typedef struct fj_pre_step {
    fj_tok_pre d;
    pcre2_code *re;      /* SPLIT without a scanner */
    const fj_scan *scan; /* SPLIT with one */
} fj_pre_step;

/* Sorted by bytes: a range narrows with every byte, so that a search costs the length of what it finds,
 * however many tokens there are. */
typedef struct fj_added_set {
    fj_tok_added *v;
    size_t n;
    uint32_t first[257]; /* v[first[b] .. first[b+1]) begin with byte b */
} fj_added_set;

struct fj_tokenizer {
    fj_arena mem;
    fj_model_kind kind;
    int32_t n;
    fj_bytes *piece; /* spelling in the vocabulary */
    fj_bytes *bytes; /* what decoding gives inside a text */
    fj_bytes *first; /* and at its start; NULL: the same */
    uint8_t *type;   /* fj_tok_type, 0: hole */
    double *scores;  /* by_score and UNIGRAM */
    bool by_score, byte_level, byte_fallback, fuse_unk, ignore_merges, single;
    bool strip_left;  /* decoding takes one space away at the start */
    bool ctc;         /* decoding takes equal tokens in a row for one */
    fj_bytes dec_end; /* decoding: pieces with this end have a space behind, but for the last */
    bool cut_meta;    /* no piece has U+2581 behind another character: words may be cut there */
    bool blocks;      /* long words may be merged in blocks (encode.c) */
    bool complete;    /* there is a token for whatever comes, be it "unknown" */
    fj_bytes cont, word_end;
    size_t max_chars;
    fj_spell ids; /* spelling to id */
    fj_map syms;  /* single characters (not byte level) to symbol: an id, or n + k for a character
                     that is only ever part of pieces */
    int32_t *sym_low; /* the same for the first 65536 characters; -1: none */
    fj_bytes *pseudo; /* symbol n + k */
    size_t n_pseudo, pseudo_cap;
    fj_spell words; /* ignore_merges and byte level: bytes to id */
    int32_t byte_id[256];
    fj_merge_slot *merges;
    uint64_t merge_mask;
    size_t n_merges;
    fj_pair *merge_list; /* in order of rank, for writing; NULL when by_score */
    size_t n_merge_list;
    fj_trie trie; /* UNIGRAM, WORDPIECE: pieces */
    fj_trie user; /* what SentencePiece's normalizer leaves as it is */
    double unk_score;
    fj_added_set raw, normed; /* matched before and after the normalizer */
    fj_tok_added *added;
    size_t n_added;
    fj_norm_step *norms;
    size_t n_norms;
    fj_pre_step *pres;
    size_t n_pres;
    uint8_t *chars; /* fj_char_table, when a step needs it */
    fj_tok_dec *decs;
    size_t n_decs;
    int32_t *prefix, *suffix;
    size_t n_prefix, n_suffix;
    int32_t bos, eos, eot, unk, pad;
    size_t bytes_max;
    struct fj_enc_pool *pool; /* encoders that wait for the next text */
};

/* ---- bpe.c ------------------------------------------------------------------------------------- */
typedef struct fj_sym {
    int32_t id;         /* -2: merged away */
    int32_t at;         /* byte of the word where it begins */
    int32_t prev, next; /* only in long words */
} fj_sym;
typedef struct fj_bpe_scratch {
    fj_sym *sym;
    size_t sym_cap;
    struct fj_cand *heap;
    size_t heap_cap;
    uint32_t *rank;
    size_t rank_cap;
} fj_bpe_scratch;
/* May come out of merging: control tokens and bytes never do. */
static inline bool fj_mergeable(const fj_tokenizer *t, int32_t id) {
    return t->type[id] == FJ_TOKEN_NORMAL || t->type[id] == FJ_TOKEN_USER;
}
/* sym_low, syms, pseudo and merges of a tokenizer that is being built.  (merges.c) */
bool fj_build_merges(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e);
uint64_t fj_merge_hash(uint64_t key);
const fj_merge_slot *fj_merge_find(const fj_tokenizer *t, int32_t l, int32_t r);
/* Merges s->sym[0..n); leaves the result in front; returns how many are left. */
size_t fj_bpe_merge(const fj_tokenizer *t, fj_bpe_scratch *s, size_t n);
void fj_bpe_scratch_free(fj_bpe_scratch *s);
/* Merges in their order, for writing; the caller frees.  Those of scores and ranks are worked out: for
 * ranks (byte level) one for each token, which is the only one that text can come by. */
fj_tok_merge *fj_merge_list(const fj_tokenizer *t, size_t *n);

/* ---- unigram.c, wordpiece.c: words to ids ------------------------------------------------------- */
typedef struct fj_uni_node {
    double score;
    int32_t from, id; /* id -1: nothing ends here yet, -2: an unknown character */
} fj_uni_node;
typedef struct fj_uni_scratch {
    fj_uni_node *node;
    size_t cap;
    fj_ids back;
} fj_uni_scratch;
bool fj_unigram_word(const fj_tokenizer *t, fj_uni_scratch *u, const char *s, size_t n, fj_ids *ids,
                     fj_err *e);
void fj_wordpiece_word(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids);
/* Ids of a text without a token: its bytes when all of them are there, or "unknown", or nothing
 * (counted).  With fuse, an "unknown" is not put behind another one that is at or after `from`. */
void fj_put_unknown(const fj_tokenizer *t, const char *s, size_t n, bool fuse, size_t from,
                    fj_ids *ids);

/* ---- pretok.c ---------------------------------------------------------------------------------- */
/* PCRE2 from an expression of Oniguruma; `literal`: the text itself. */
pcre2_code *fj_regex(fj_bytes re, bool literal, const char *what, fj_err *e);
typedef bool (*fj_word_fn)(void *ctx, const char *s, size_t n, fj_err *e);
typedef struct fj_pretok {
    const fj_pre_step *steps;
    size_t n;
    const uint8_t *chars;
    fj_word_fn word;
    void *ctx;
    pcre2_match_data *md;
    pcre2_match_context *mc;
    bool at_start; /* the segment is the first of the text (METASPACE, prefix "first") */
    fj_str buf[FJ_PRE_MAX];
} fj_pretok;
bool fj_pretok_init(fj_pretok *p, const fj_tokenizer *t, fj_word_fn word, void *ctx, fj_err *e);
bool fj_pretok_run(fj_pretok *p, const char *s, size_t n, fj_err *e);
void fj_pretok_free(fj_pretok *p);

/* The GGUF name for these steps; NULL: none.  (pre_names.c) */
const char *fj_pre_name(const fj_pre_step *pres, size_t n, const fj_pre_traits *traits);

/* Calls fn for every word of the text; added tokens are left out.  (encode.c) */
bool fj_each_word(const fj_tokenizer *t, const char *text, size_t n, fj_word_fn fn, void *ctx,
                  fj_err *e);
void fj_enc_pool_free(struct fj_enc_pool *p);
struct fj_enc_pool *fj_enc_pool_new(void);

/* "<0x1F>": the byte; -1: no such piece. */
int fj_byte_piece(fj_bytes s);

/* ---- utf8.c ------------------------------------------------------------------------------------ */
/* Length of the UTF-8 character at s (n > 0 bytes there), 0: not valid here. */
size_t fj_utf8_len(const char *s, size_t n);
/* Bytes from s that are valid UTF-8. */
size_t fj_utf8_span(const char *s, size_t n);
uint32_t fj_utf8_get(const char *s, size_t len); /* of a valid character */
size_t fj_utf8_put(uint32_t c, char out[4]);
/* First place of what[0..m) in s; NULL: none, or m == 0. */
const char *fj_find_bytes(const char *s, size_t n, const char *what, size_t m);
/* GPT-2's table of printable stand-ins for bytes. */
uint32_t fj_byte_char(uint8_t b);
int fj_char_byte(uint32_t c); /* -1: stands for no byte */

/* ---- normalize.c ------------------------------------------------------------------------------- */
bool fj_norm_compile(fj_norm_step *s, fj_arena *mem, fj_err *e);
/* Normalized text is in *out (borrowed from s, or from a or b). */
bool fj_normalize(const fj_tokenizer *t, const char *s, size_t n, fj_str *a, fj_str *b,
                  fj_bytes *out, fj_err *e);
void fj_norm_bert(const char *s, size_t n, unsigned flags, fj_str *tmp, fj_str *out);
void fj_norm_lower(const char *s, size_t n, fj_str *out);
void fj_norm_sp(const fj_norm_step *st, const fj_trie *user, const char *s, size_t n, fj_str *out);
void fj_norm_charsmap(const fj_charsmap *m, const char *s, size_t n, fj_str *out);
size_t fj_nfc_span(const char *s, size_t n); /* how much NFC surely leaves as it is */
bool fj_norm_nfc(const char *s, size_t n, fj_str *out, fj_err *e);
bool fj_norm_form(fj_norm_kind kind, const char *s, size_t n, fj_str *out, fj_err *e);
/* Every match of re by `to`. */
bool fj_regex_replace(const pcre2_code *re, const char *s, size_t n, fj_bytes to, fj_str *out,
                      fj_err *e);

/* ---- decode.c ---------------------------------------------------------------------------------- */
bool fj_decoder_build(fj_tokenizer *t, const fj_tok_desc *d, fj_err *e);

#endif
