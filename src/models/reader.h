/* reader.h - rows of a weight from where they are: its file, or the model's memory.
 *
 * A weight is one matrix [rows, cols] over all its experts, rows in Hugging Face order; a vector is one
 * row.  Loading takes all of it, export a piece at a time, so that a model need not fit into memory. */
#ifndef FJ_MODELS_READER_H
#define FJ_MODELS_READER_H

#include "models/parts.h"
#include "models/source.h"

/* A part and the tensor that holds it. */
typedef struct fj_part_from {
    fj_part part;
    fj_source_tensor t;
    /* gpt-oss as released: X_blocks [E, out, in / 32, 16] and X_scales [E, out, in / 32], whatever way X
     * itself is turned; t.data NULL. */
    const uint8_t *blocks, *scales;
    fj_hfq_weight quant; /* of a quantised folder: kind is not FJ_HFQ_PLAIN, t.data NULL */
} fj_part_from;

typedef struct fj_reader {
    const fj_model *m;
    const fj_weight *w;
    fj_part_from *from; /* NULL: from the model's memory */
    int n;
    fj_dtype type; /* of all parts; where they differ, F32, which holds both */
    /* The bytes of w, when they are in the file as they are computed with (one tensor of one format,
     * nothing moved or turned); else NULL. */
    const uint8_t *whole;
    fj_arena mem;
} fj_reader;

/* Looks the tensors up and checks them against the hyper-parameters.  s NULL: from where w is, the model's
 * memory or, of a model that was only listed, its files. */
bool fj_reader_open(fj_reader *r, const fj_model *m, const fj_source *s, const fj_weight *w,
                    fj_err *e);
/* Rows [from, from + n) as rows of `as`.  Any number of threads; on a GPU's memory one. */
bool fj_reader_rows(const fj_reader *r, fj_dtype as, int64_t from, int64_t n, void *out, fj_err *e);
/* The pages of the file that it read are given back to the system; what is read again comes again. */
void fj_reader_done(const fj_reader *r);
void fj_reader_close(fj_reader *r);

#endif
