/* golden_model.h - opens a model in f32 and gives its logits, for the tests of this folder. */
#ifndef FORJA_GOLDEN_MODEL_H
#define FORJA_GOLDEN_MODEL_H

#include "golden.h"
#include "test_device.h"

#include "models/model.h"

static FJ_UNUSED fj_dev *golden_dev(void) { return fj_test_dev(2, true); }

static FJ_UNUSED fj_model *golden_model(fj_dev *d, const char *path, bool trainable) {
    fj_err e = { 0 };
    fj_model *m = fj_model_open(d, path, &(fj_model_opts){ .trainable = trainable }, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

/* Logits of the last `want` of the n tokens: out [want, vocab].  l may be NULL. */
static FJ_UNUSED void golden_logits(fj_model *m, const fj_lora *l, const int32_t *ids, int64_t n,
                                    int64_t want, float *out) {
    fj_err e = { 0 };
    fj_batch b = { 0 };
    fj_batch_add_prompt(&b, ids, n, want);
    fj_fwd_opts o = { .n = b.n,
                      .n_seqs = b.n_seqs,
                      .n_blocks = b.n_blocks,
                      .n_out = b.n_out,
                      .out = FJ_OUT_LOGITS,
                      .loras = &(fj_rows_lora){ l, 0, b.n },
                      .n_loras = l ? 1 : 0 };
    fj_fwd *f = fj_fwd_new(m, &o, &e);
    fj_buf *mem = NULL;
    if (!f || !fj_dev_prepare(m->dev, f->g, &mem, "test", &e) || !fj_fwd_fill(f, &b, &e) ||
        !m->dev->fn->run(m->dev, f->g, &e) || !fj_tensor_get(f->logits, out, &e))
        fail_msg("%s", e.msg);
    fj_fwd_free(f);
    m->dev->fn->free(mem);
    fj_batch_free(&b);
}

/* Compares with NAMEids and NAMElogits of a golden file.  NAMEnoise, when it is there, is how far
 * transformers itself comes from the same training in f64: the limit is not below four times that. */
static FJ_UNUSED void golden_check_logits(fj_model *m, const fj_lora *l, const fj_st *s,
                                          const char *name, const char *what) {
    char ids_name[64], logits_name[64];
    snprintf(ids_name, sizeof ids_name, "%sids", name);
    snprintf(logits_name, sizeof logits_name, "%slogits", name);
    int64_t n, count;
    const int32_t *ids = golden_i32(s, ids_name, &n);
    const float *want = golden_f32(s, logits_name, &count);
    assert_int_equal(count, n * m->hp.vocab);
    char noise_name[64];
    snprintf(noise_name, sizeof noise_name, "%snoise", name);
    double limit = GOLDEN_LOGITS;
    if (fj_st_find(s, noise_name)) limit = fmax(limit, 4 * (double)golden_value(s, noise_name));
    float *got = malloc((size_t)count * sizeof *got);
    golden_logits(m, l, ids, n, n, got);
    golden_near(got, want, count, limit, what);
    free(got);
}

#endif
