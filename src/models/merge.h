/* merge.h - an adapter added to the weights that it belongs to: W + scale * B A, in f32 (Hu et al. 2021). */
#ifndef FJ_MODELS_MERGE_H
#define FJ_MODELS_MERGE_H

#include "models/model.h"

enum { FJ_MERGE_ROWS = 8 };

typedef struct fj_merger {
    const fj_lora *l;
    float *ab; /* host copy of the adapter */
    float *a;  /* A of the pair at hand, rows padded to lda values */
    const fj_lora_pair *at;
    int64_t lda;
    size_t a_cap;
} fj_merger;

bool fj_merger_open(fj_merger *g, const fj_lora *l, fj_err *e);
void fj_merger_close(fj_merger *g); /* also of zeros */
/* The pair whose rows come next; not while other threads are in fj_merger_rows. */
void fj_merger_at(fj_merger *g, const fj_lora_pair *pair);
/* wide [n, in] += the share of rows [row, row + n) of the weight; n at most FJ_MERGE_ROWS, all of one expert.
 * A value has the same bits in any grouping of rows.  Any number of threads. */
void fj_merger_rows(const fj_merger *g, int64_t row, int64_t n, float *wide);

/* The weights of m that l is for get its share and are 16 bits wide then (F32 where the device computes so);
 * the others stay.  In memory of their own, freed with m. */
bool fj_model_merge(fj_model *m, const fj_lora *l, fj_err *e);

#endif
