#include "eval/run.h"
#include "formats/safetensors.h"

#include <stdio.h>

static bool logits_of(fj_scorer *s, const int32_t *ids, int64_t n, float *out, fj_err *e) {
    fj_batch b = { 0 };
    fj_batch_add_prompt(&b, ids, n, n);
    bool ok = fj_scorer_forward(s, &b, FJ_OUT_LOGITS, e) && fj_tensor_get(s->last->logits, out, e);
    fj_batch_free(&b);
    return ok;
}

bool fj_eval_dump(fj_model *m, const fj_lora *lora, const int32_t *const *rows, const int64_t *len,
                  int n_rows, const char *path, fj_err *e) {
    fj_st_writer *w = fj_st_writer_open(path, e);
    if (!w) return false;
    int64_t most = 0, vocab = m->hp.vocab;
    for (int i = 0; i < n_rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "logits.%d", i);
        fj_st_writer_add(w, name, "F32", 2, (int64_t[]){ len[i], vocab });
        most = FJ_MAX(most, len[i]);
    }
    fj_scorer s = { .m = m, .lora = lora };
    float *out = fj_try_alloc((size_t)(most * vocab), sizeof *out, "logits", e);
    bool ok = out != NULL;
    for (int64_t i; ok && (i = fj_st_writer_next(w)) >= 0;) {
        ok = len[i] > 0 ? logits_of(&s, rows[i], len[i], out, e)
                        : fj_fail(e, FJ_EINVAL, "row %lld has no tokens", (long long)i + 1);
        if (ok) fj_st_writer_data(w, out, (size_t)(len[i] * vocab) * sizeof *out);
    }
    free(out);
    fj_scorer_free(&s);
    if (ok) return fj_st_writer_close(w, e);
    fj_st_writer_abort(w);
    return false;
}
