/* An importance matrix from anyone, in both formats: whatever is accepted has means that are numbers. */
#include "lifecycle/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_imatrix *im = fj_imatrix_open_mem(data, n, "fuzz", &e);
    if (!im) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]); /* no failure without a sentence */
        return 0;
    }
    FJ_ASSERT(im->n > 0);
    for (size_t i = 0; i < im->n; i++) {
        const fj_imatrix_entry *x = &im->entries[i];
        int64_t k;
        FJ_ASSERT(x->mats > 0 && x->cols > 0);
        FJ_ASSERT(fj_imatrix_find(im, x->name, &k) == x->means && k == x->mats * x->cols);
        for (int64_t j = 0; j < k; j++)
            FJ_ASSERT(x->means[j] >= 0 && x->means[j] < 3.1e38F && x->sums[j] >= 0);
        for (int64_t j = 0; j < x->mats; j++) FJ_ASSERT(x->counts[j] >= 0);
    }
    for (size_t i = 0; i < im->n_datasets; i++)
        FJ_ASSERT(strlen(im->datasets[i]) <= n); /* reads it */
    fj_imatrix_close(im);
    return 0;
}
