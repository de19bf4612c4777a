/* parts.h - which tensors of a file a weight is made of, and which of its rows each holds.
 *
 * In memory a weight is one matrix [rows, cols] for each of its `mats` experts (1 without experts), rows
 * in Hugging Face order.  Files keep it as one tensor, one for each expert, one for each half of the
 * rows, turned, or with rows interleaved; loading and saving both walk this list. */
#ifndef FJ_MODELS_PARTS_H
#define FJ_MODELS_PARTS_H

#include "models/model.h"

typedef struct fj_part {
    const char *name;
    int n_dims;
    int64_t dim[3];           /* of the tensor, the length of a row last */
    int64_t mats, rows, cols; /* matrices in it, and each as the weight has it: not turned */
    int64_t mat0, row0,
        step;      /* matrix i, row r is row row0 + r * step of matrix mat0 + i of the weight */
    bool turned;   /* the file has [cols, rows] */
    bool pairs;    /* rows of each head interleaved, see fj_gguf_row */
    bool less_one; /* the file has the values minus one */
} fj_part;

/* *parts in a; returns how many. */
int fj_parts_of(const fj_model *m, const fj_weight *w, bool gguf, fj_arena *a, fj_part **parts);
/* The row of the weight (counted over all matrices) that is row r of matrix i of the part. */
int64_t fj_part_row(const fj_model *m, const fj_weight *w, const fj_part *p, int64_t i, int64_t r);
/* Is the part the weight, row for row and value for value? */
bool fj_part_is_whole(const fj_weight *w, const fj_part *p);

#endif
