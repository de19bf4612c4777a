/* tok_json.h - what the readers of tokenizer.json share; only src/text/tok_json*.c and the readers of other
 * Hugging Face files include it. */
#ifndef FJ_TEXT_TOK_JSON_H
#define FJ_TEXT_TOK_JSON_H

#include "text/tok.h"

#include <jansson.h>

enum { FJ_NORM_MAX = 16, FJ_DEC_MAX = 12 };

/* model.vocab and model.merges, which are nearly all of the file: read by hand (json_model.c), because a
 * tree of 300,000 values costs more time than everything else. */
typedef struct fj_json_model {
    fj_arena mem;
    bool has_vocab, has_merges, scored; /* scored: [piece, score], ids are places */
    size_t n, cap, n_merges, merges_cap;
    fj_bytes *piece; /* into the text, or into mem */
    int64_t *id;
    double *score;
    fj_tok_merge *merges;
} fj_json_model;
/* *rest: the text with null in the place of the two.  False: what is there is not as expected (or not
 * JSON at all); m->why says what, when it is known. */
bool fj_json_model_cut(const char *s, size_t n, fj_json_model *m, fj_str *rest, fj_err *e);
/* The same for a file that is the object {"piece": id}, as vocab.json. */
bool fj_json_vocab(const char *s, size_t n, fj_json_model *m, fj_err *e);
void fj_json_model_free(fj_json_model *m);

typedef struct fj_tok_rd {
    fj_arena mem;
    fj_tok_desc d;
    fj_json_model m;
    fj_tok_norm norms[FJ_NORM_MAX];
    fj_tok_pre pres[FJ_PRE_MAX];
    fj_tok_dec decs[FJ_DEC_MAX];
    bool bytes; /* ByteLevel was the last pre-tokenizer step */
    int32_t prefix[8], suffix[8];
    const char *name; /* of the file, for messages */
    fj_err *e;
} fj_tok_rd;
fj_tok_rd *fj_rd_new(const char *name, fj_err *e);

/* fj_fail with the name of the file in front. */
bool fj_rd_fail(fj_tok_rd *r, fj_code code, const char *fmt, ...) FJ_PRINTF(3, 4);
#define BAD(r, ...) fj_rd_fail(r, FJ_EFORMAT, __VA_ARGS__)
#define UNSUP(r, ...) fj_rd_fail(r, FJ_EUNSUP, __VA_ARGS__)
#define LIT(s) ((fj_bytes){ s, sizeof(s) - 1 })

static inline fj_bytes fj_jstr(const json_t *j) {
    return (fj_bytes){ json_string_value(j), json_string_length(j) };
}
static inline bool fj_jnull(const json_t *j) { return !j || json_is_null(j); }
static inline const char *fj_jtype(const json_t *obj) {
    const char *s = json_string_value(json_object_get(obj, "type"));
    return s ? s : "";
}

/* Refuses members that are not in the list (separated by spaces). */
bool fj_rd_only(fj_tok_rd *r, const char *where, json_t *obj, const char *known);
bool fj_rd_bool(fj_tok_rd *r, const char *where, json_t *obj, const char *key, bool def, bool *out);
bool fj_rd_int(fj_tok_rd *r, const char *where, json_t *obj, const char *key, int def, int *out);
int32_t fj_rd_find(const fj_tok_rd *r, fj_bytes s); /* id of a spelling; -1 */
bool fj_rd_normalizer(fj_tok_rd *r, json_t *j, int depth);
bool fj_rd_pre(fj_tok_rd *r, json_t *j, int depth);
bool fj_rd_decoder(fj_tok_rd *r, json_t *j, int depth);
bool fj_rd_post(fj_tok_rd *r, json_t *j, int depth);
/* Pieces and types of the description from m and `added` (an array, or NULL). */
bool fj_rd_vocab(fj_tok_rd *r, json_t *added);
/* bos, eos, pad, and what the classes of transformers put around a text; c may be NULL. */
bool fj_rd_config(fj_tok_rd *r, json_t *c);
fj_tokenizer *fj_rd_build(fj_tok_rd *r);
/* added_tokens_decoder of tokenizer_config.json and added_tokens.json (each may be NULL) in the form of
 * added_tokens; a new array. */
json_t *fj_rd_added(fj_tok_rd *r, json_t *config, json_t *more);
json_t *fj_rd_parse(const char *name, const char *s, size_t n, fj_err *e);
void fj_rd_free(fj_tok_rd *r);
/* Bytes of base64; false: it is none. */
bool fj_base64(fj_arena *mem, fj_bytes s, fj_bytes *out);
/* One more piece of m; ids may come in any order. */
void fj_rd_piece(fj_tok_rd *r, fj_bytes s, int64_t id, double score);

#endif
