/* verify_in.h - inside verify: rows, how a side spells them, and logits compared. */
#ifndef FJ_LIFECYCLE_VERIFY_IN_H
#define FJ_LIFECYCLE_VERIFY_IN_H

#include "data/dataset.h"
#include "lifecycle/verify.h"

/* ---- verify_rows.c -------------------------------------------------------------------------------- */
/* The rows of o, or forja's own; texts in parts of a row's length.  Free with fj_dataset_free in every case. */
bool fj_verify_rows(fj_dataset *d, const fj_verify_opts *o, const fj_log *log, fj_err *e);

/* A row as one side spells it.  A conversation is spelled twice, whole and up to its last answer with what
 * stands in front of one; both are in text and ids, one after the other. */
typedef struct fj_spelled {
    const char *text; /* of a template; NULL: a text row, or another way of spelling */
    size_t text_n;
    const int32_t *ids;
    const uint8_t *learn; /* [whole] */
    size_t n, whole;      /* ids; those of the whole row, which are compared by numbers */
    const char *refused;  /* the template's words; NULL: it did not refuse */
} fj_spelled;

/* Everything about a side that is compared and is not a number; stays when its model is closed. */
typedef struct fj_spelling {
    fj_arena arena;
    fj_spelled *row; /* [rows] */
    size_t rows;
    fj_bytes *token; /* [vocab] */
    uint8_t *ends;   /* [vocab] */
    int32_t vocab;
    const char *chat; /* its name; why there is none */
    bool no_chat;
    fj_chat_kind kind;
} fj_spelling;
bool fj_verify_spell(fj_spelling *s, const fj_model *m, const char *chat, const fj_dataset *d,
                     const fj_verify_opts *o, double now, fj_err *e);
void fj_spelling_free(fj_spelling *s);

/* ---- verify_logits.c ------------------------------------------------------------------------------ */
/* A piece of a row: logits of positions [from, to) of ids. */
typedef struct fj_piece {
    const int32_t *ids;   /* ids[to] is there */
    const uint8_t *learn; /* likewise */
    int64_t from, to;
    int64_t row, at; /* row of the data; number of its first position among all */
} fj_piece;
typedef struct fj_pieces {
    fj_piece *p;
    size_t n, cap;
    int64_t positions, vocab, room; /* room: positions of one batch */
} fj_pieces;
/* p is zero, but for a room that is asked for; the caller frees p->p. */
void fj_verify_cut(fj_pieces *p, const fj_spelling *s, const fj_model *m, const fj_verify_opts *o);

/* The first pieces of p, of about n positions; they are p's. */
fj_pieces fj_verify_first(const fj_pieces *p, int64_t n);

/* Logits of all positions, [positions, vocab] F32, in memory or in a file without a name. */
typedef struct fj_kept {
    float *mem;
    int fd;
    const char *folder;
    const struct fj_kept *base; /* of the same model without its adapter, or NULL */
    int64_t base_positions;     /* the first so many */
} fj_kept;
bool fj_kept_open(fj_kept *k, const fj_pieces *p, const char *scratch, fj_err *e);
void fj_kept_close(fj_kept *k);
bool fj_verify_keep(const fj_kept *k, const fj_pieces *p, fj_model *m, const fj_lora *lora,
                    const char *what, const fj_log *log, fj_err *e);
/* Against what was kept; against its base, too, where that is there. */
bool fj_verify_against(const fj_kept *k, const fj_pieces *p, fj_model *m, const fj_lora *lora,
                       const char *what, const fj_log *log, fj_verify_numbers *n, fj_err *e);

#endif
