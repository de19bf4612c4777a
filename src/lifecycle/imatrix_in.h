/* imatrix_in.h - the inside of an fj_imatrix, for imatrix.c (collecting) and imatrix_file.c. */
#ifndef FJ_LIFECYCLE_IMATRIX_IN_H
#define FJ_LIFECYCLE_IMATRIX_IN_H

#include "lifecycle/imatrix.h"

struct fj_imatrix_own {
    fj_arena arena; /* names and entries */
    fj_map index;   /* name -> entry */
    size_t cap_sets, n_blocks, cap_blocks;
    const char **sets;
    float **blocks; /* numbers of entries */
    /* collecting */
    const fj_model *m;
    fj_buf *sums, *mem;
    size_t *off;      /* [n_w] of a weight's sums, see fj_input_sums */
    int *at;          /* [n_w] as sum_at of the graph */
    int64_t **counts; /* [n_w] rows of each of its experts; NULL: not experts */
    int64_t rows;     /* so far */
    fj_fwd *last;
};

fj_imatrix *fj_imatrix_empty(const char *name);
/* A line of what it was made from; copied. */
void fj_imatrix_add_set(fj_imatrix *im, const char *name, size_t n);
/* The next entry, in an array of `cap`: NULL and an error where the name is there already, or a number is
 * negative or none.  sums [mats, cols] and counts [mats] are copied. */
bool fj_imatrix_put(fj_imatrix *im, size_t cap, const char *name, int64_t mats, int64_t cols,
                    const float *sums, const float *counts, fj_err *e);
/* Frees what collecting needs. */
void fj_imatrix_stop(fj_imatrix *im);

#endif
