/* tok.h - the inside of a tokenizer; only src/text sees it. */
#ifndef FJ_TEXT_TOK_H
#define FJ_TEXT_TOK_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/mem.h"
#include "text/tok_build.h"

#include <pcre2.h>

typedef struct fj_merge_slot {
    uint64_t key; /* left << 32 | right; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id; /* what the two become */
} fj_merge_slot;

typedef struct fj_pre_step {
    fj_tok_pre d;
    pcre2_code *re; /* SPLIT */
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
    int32_t n;
    fj_bytes *piece; /* spelling in the vocabulary */
    fj_bytes *bytes; /* what decoding gives */
    uint8_t *type;   /* fj_tok_type, 0: hole */
    float *scores;   /* NULL unless by_score */
    bool by_score, byte_level, byte_fallback, fuse_unk, ignore_merges, metaspace, strip_left;
    bool cut_meta; /* no piece has U+2581 behind another character: words may be cut there */
    fj_map ids;    /* spelling to id */
    fj_map syms;   /* single characters (not byte level) to symbol: an id, or n + k for a character
                      that is only ever part of pieces */
    fj_bytes *pseudo; /* symbol n + k */
    size_t n_pseudo, pseudo_cap;
    fj_map words; /* ignore_merges and byte level: bytes to id */
    int32_t byte_id[256];
    fj_merge_slot *merges;
    uint64_t merge_mask;
    size_t n_merges;
    fj_tok_merge *merge_list; /* in order of rank, for writing; NULL when by_score */
    size_t n_merge_list;
    fj_added_set raw, normed; /* matched before and after the normalizer */
    fj_tok_added *added;
    size_t n_added;
    fj_tok_norm *norms;
    size_t n_norms;
    fj_pre_step *pres;
    size_t n_pres;
    int32_t *prefix, *suffix;
    size_t n_prefix, n_suffix;
    int32_t bos, eos, eot, unk, pad;
    size_t bytes_max;
};

/* ---- bpe.c ------------------------------------------------------------------------------------- */
typedef struct fj_sym {
    int32_t id;         /* -1 and merged away */
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
uint64_t fj_merge_hash(uint64_t key);
const fj_merge_slot *fj_merge_find(const fj_tokenizer *t, int32_t l, int32_t r);
/* Merges s->sym[0..n); leaves the result in front; returns how many are left. */
size_t fj_bpe_merge(const fj_tokenizer *t, fj_bpe_scratch *s, size_t n);
void fj_bpe_scratch_free(fj_bpe_scratch *s);

/* ---- pretok.c ---------------------------------------------------------------------------------- */
pcre2_code *fj_pre_compile(const fj_tok_pre *p, fj_err *e);
typedef bool (*fj_word_fn)(void *ctx, const char *s, size_t n, fj_err *e);
typedef struct fj_pretok {
    const fj_pre_step *steps;
    size_t n;
    fj_word_fn word;
    void *ctx;
    pcre2_match_data *md;
    pcre2_match_context *mc;
    bool at_start; /* the segment is the first of the text (METASPACE, prefix "first") */
    fj_str buf[FJ_PRE_MAX];
} fj_pretok;
bool fj_pretok_init(fj_pretok *p, const fj_pre_step *steps, size_t n, fj_word_fn word, void *ctx,
                    fj_err *e);
bool fj_pretok_run(fj_pretok *p, const char *s, size_t n, fj_err *e);
void fj_pretok_free(fj_pretok *p);

/* The GGUF name for these steps; NULL: none.  (pre_names.c) */
const char *fj_pre_name(const fj_pre_step *pres, size_t n, bool nfc, bool ignore_merges);

/* Calls fn for every word of the text; added tokens are left out.  (encode.c) */
bool fj_each_word(const fj_tokenizer *t, const char *text, size_t n, fj_word_fn fn, void *ctx,
                  fj_err *e);

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
/* Normalized text is in *out (borrowed from s, or from a or b). */
bool fj_normalize(const fj_tok_norm *v, size_t nv, const char *s, size_t n, fj_str *a, fj_str *b,
                  fj_bytes *out, fj_err *e);

#endif
