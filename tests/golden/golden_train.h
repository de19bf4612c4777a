/* golden_train.h - golden batches through the trainer, and the gradients of one of them alone. */
#ifndef FORJA_GOLDEN_TRAIN_H
#define FORJA_GOLDEN_TRAIN_H

#include "golden_model.h"

#include "train/trainer.h"

/* The gradients of every trained tensor, without a trainer around them. */
typedef struct golden_grads {
    fj_model *m;
    fj_lora *l; /* NULL: all weights of m are trained */
    fj_param *p;
    int n_p;
    fj_buf *grads;
} golden_grads;

static FJ_UNUSED void golden_grads_init(golden_grads *t, fj_model *m, fj_lora *l) {
    fj_err e = { 0 };
    *t = (golden_grads){ .m = m, .l = l };
    t->p = fj_params_of(m, l, &t->n_p);
    size_t bytes = 0;
    for (int i = 0; i < t->n_p; i++) bytes += fj_param_bytes(t->p[i].rows, t->p[i].cols);
    t->grads = m->dev->fn->alloc(m->dev, bytes, "test", &e);
    if (!t->grads) fail_msg("%s", e.msg);
}

static FJ_UNUSED void golden_grads_free(golden_grads *t) {
    t->m->dev->fn->free(t->grads);
    free(t->p);
}

/* Rows [from, from + count) of ids [rows, width]; labels as in the files: -100 not learned, not
 * shifted.  Every target weighs 1 / (targets of all rows), so that micro-batches add up. */
static FJ_UNUSED void golden_fill(fj_batch *b, const int32_t *ids, const int32_t *labels,
                                  int64_t rows, int64_t width, int64_t from, int64_t count) {
    uint8_t *mask = malloc((size_t)(rows * width));
    int64_t learned = 0;
    for (int64_t i = 0; i < rows * width; i++) {
        mask[i] = labels[i] != GOLDEN_IGNORE;
        learned += mask[i] && i % width;
    }
    for (int64_t r = from; r < from + count; r++)
        fj_batch_add_sample(b, ids + r * width, mask + r * width, width, 1.0f / (float)learned);
    free(mask);
}

/* Loss of the batch; its gradients are left in t->grads.  recompute: layers whose forward is done again
 * in backward. */
static FJ_UNUSED float golden_backward_batch(golden_grads *t, const fj_batch *b, int recompute) {
    fj_err e = { 0 };
    fj_dev *d = t->m->dev;
    fj_fwd_opts o = { .n = b->n,
                      .n_seqs = b->n_seqs,
                      .n_blocks = b->n_blocks,
                      .n_out = b->n_out,
                      .out = FJ_OUT_LOSS,
                      .loras = &(fj_rows_lora){ t->l, 0, b->n },
                      .n_loras = t->l ? 1 : 0,
                      .train_lora = t->l != NULL,
                      .train_full = t->l == NULL,
                      .grads = t->grads,
                      .recompute = recompute };
    FJ_OK_OR_FAIL(d->fn->zero(t->grads, 0, t->grads->size, &e), e);
    fj_fwd *f = fj_fwd_new(t->m, &o, &e);
    fj_buf *mem = NULL;
    float loss;
    if (!f || !fj_dev_prepare(d, f->g, &mem, "test", &e) || !fj_fwd_fill(f, b, &e) ||
        !d->fn->run(d, f->g, &e) || !fj_tensor_get(f->loss, &loss, &e))
        fail_msg("%s", e.msg);
    fj_fwd_free(f);
    d->fn->free(mem);
    return loss;
}

/* The same for ids [rows, width] with labels (-100: not learned, not shifted). */
static FJ_UNUSED float golden_backward(golden_grads *t, const int32_t *ids, const int32_t *labels,
                                       int64_t rows, int64_t width, int recompute) {
    fj_batch b = { 0 };
    golden_fill(&b, ids, labels, rows, width, 0, rows);
    float loss = golden_backward_batch(t, &b, recompute);
    fj_batch_free(&b);
    return loss;
}

/* All steps of batches.safetensors by the trainer, against losses, norms and rates of `s`.  One step
 * is `micros` micro-batches of the same rows; recompute as above.  ratio_b, decay: of fj_trainer_opts. */
static FJ_UNUSED void golden_train_with(fj_model *m, fj_lora *l, const fj_st *s, int micros,
                                        int recompute, double ratio_b, double decay) {
    fj_err e = { 0 };
    fj_st *file = golden_open("stories260k/batches.safetensors");
    int64_t steps, n, n_labels;
    const float *losses = golden_f32(s, "losses", &steps);
    const float *norms = golden_f32(s, "norms", &n), *rates = golden_f32(s, "rates", &n);
    const int32_t *ids = golden_i32(file, "ids", &n),
                  *labels = golden_i32(file, "labels", &n_labels);
    const fj_st_tensor *shape = fj_st_find(file, "ids");
    int64_t rows = shape->dim[1], width = shape->dim[2], part = rows / micros;
    assert_int_equal(steps, 20);
    assert_int_equal(shape->dim[0], steps);
    fj_trainer_opts o = { .lora = l,
                          .max = { part * width, part, part * width },
                          .recompute = recompute,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .weight_decay = decay,
                          .lr_ratio_b = ratio_b,
                          .max_grad_norm = 1 };
    fj_trainer *t = fj_trainer_open(m, &o, &e);
    if (!t) fail_msg("%s", e.msg);
    double worst = 0;
    for (int64_t k = 0; k < steps; k++) {
        char what[64];
        const int32_t *x = ids + k * rows * width, *y = labels + k * rows * width;
        double loss = 0, norm;
        for (int64_t i = 0; i < micros; i++) {
            fj_batch b = { 0 };
            golden_fill(&b, x, y, rows, width, i * part, part);
            double sum;
            FJ_OK_OR_FAIL(fj_trainer_micro(t, &b, k * micros + i, &sum, &e), e);
            loss += sum;
            fj_batch_free(&b);
        }
        FJ_OK_OR_FAIL(fj_trainer_norm(t, &norm, &e) &&
                          fj_trainer_step(t, k + 1, (double)rates[k], norm, &e),
                      e);
        snprintf(what, sizeof what, "loss of step %lld", (long long)k);
        golden_near_relative(loss, (double)losses[k], GOLDEN_LOSS, what);
        snprintf(what, sizeof what, "gradient norm of step %lld", (long long)k);
        golden_near_relative(norm, (double)norms[k], 10 * GOLDEN_LOSS, what);
        worst = fmax(worst, fabs(loss / (double)losses[k] - 1));
    }
    printf("20 losses: within %.2g relative\n", worst);
    fj_trainer_close(t);
    fj_st_close(file);
}

static FJ_UNUSED void golden_train(fj_model *m, fj_lora *l, const fj_st *s, int micros,
                                   int recompute) {
    golden_train_with(m, l, s, micros, recompute, 1, 0);
}

#endif
