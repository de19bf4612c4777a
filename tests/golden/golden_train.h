/* golden_train.h - one optimizer step on a golden batch, out of the forward pass and the ops that
 * training is made of: gradients of the mean loss, clipping by the norm, AdamW. */
#ifndef FORJA_GOLDEN_TRAIN_H
#define FORJA_GOLDEN_TRAIN_H

#include "golden_model.h"

typedef struct golden_trainer {
    fj_model *m;
    fj_lora *l; /* NULL: all weights of m are trained */
    fj_param *p;
    int n_p;
    fj_buf *grads, *mom1, *mom2;
    int64_t step;
} golden_trainer;

static FJ_UNUSED fj_buf *golden_buf(fj_dev *d, size_t bytes) {
    fj_err e = { 0 };
    fj_buf *b = d->fn->alloc(d, bytes, "test", &e);
    if (!b) fail_msg("%s", e.msg);
    return b;
}

static FJ_UNUSED void golden_trainer_init(golden_trainer *t, fj_model *m, fj_lora *l) {
    *t = (golden_trainer){ .m = m, .l = l };
    t->p = fj_params_of(m, l, &t->n_p);
    size_t bytes = 0;
    for (int i = 0; i < t->n_p; i++) bytes += (size_t)(t->p[i].rows * t->p[i].cols) * sizeof(float);
    t->grads = golden_buf(m->dev, bytes);
    t->mom1 = golden_buf(m->dev, bytes);
    t->mom2 = golden_buf(m->dev, bytes);
}

static FJ_UNUSED void golden_trainer_free(golden_trainer *t) {
    t->m->dev->fn->free(t->grads);
    t->m->dev->fn->free(t->mom1);
    t->m->dev->fn->free(t->mom2);
    free(t->p);
}

static FJ_UNUSED void golden_run(fj_dev *d, fj_graph *g) {
    fj_err e = { 0 };
    if (!d->fn->run(d, g, &e)) fail_msg("%s", e.msg);
}

/* Loss of ids [rows, width] with labels (-100: not learned, not shifted); its gradients are left in
 * t->grads.  recompute: layers whose forward is done again in backward. */
static FJ_UNUSED float golden_backward(golden_trainer *t, const int32_t *ids, const int32_t *labels,
                                       int64_t rows, int64_t width, int recompute) {
    fj_err e = { 0 };
    fj_dev *d = t->m->dev;
    uint8_t *mask = malloc((size_t)(rows * width));
    int64_t learned = 0;
    for (int64_t i = 0; i < rows * width; i++) {
        mask[i] = labels[i] != GOLDEN_IGNORE;
        learned += mask[i] && i % width;
    }
    fj_batch b = { 0 };
    for (int64_t r = 0; r < rows; r++)
        fj_batch_add_sample(&b, ids + r * width, mask + r * width, width, 1.0f / (float)learned);
    fj_fwd_opts o = { .n = b.n,
                      .n_seqs = b.n_seqs,
                      .n_blocks = b.n_blocks,
                      .n_out = b.n_out,
                      .out = FJ_OUT_LOSS,
                      .loras = &(fj_rows_lora){ t->l, 0, b.n },
                      .n_loras = t->l ? 1 : 0,
                      .train_lora = t->l != NULL,
                      .train_full = t->l == NULL,
                      .grads = t->grads,
                      .recompute = recompute };
    FJ_OK_OR_FAIL(d->fn->zero(t->grads, 0, t->grads->size, &e), e);
    fj_fwd *f = fj_fwd_new(t->m, &o, &e);
    fj_buf *mem = NULL;
    float loss;
    if (!f || !fj_dev_prepare(d, f->g, &mem, "test", &e) || !fj_fwd_fill(f, &b, &e) ||
        !d->fn->run(d, f->g, &e) || !fj_tensor_get(f->loss, &loss, &e))
        fail_msg("%s", e.msg);
    fj_fwd_free(f);
    d->fn->free(mem);
    fj_batch_free(&b);
    free(mask);
    return loss;
}

/* Gradient of parameter i, an extern of g. */
static FJ_UNUSED fj_tensor *golden_grad(const golden_trainer *t, fj_graph *g, int i) {
    size_t off = 0;
    for (int k = 0; k < i; k++) off += (size_t)(t->p[k].rows * t->p[k].cols) * sizeof(float);
    return fj_extern(g, t->p[i].name, FJ_F32, t->p[i].rows, t->p[i].cols, t->grads, off);
}

/* Norm of the gradient of parameter `only`, or of all (-1). */
static FJ_UNUSED double golden_norm(const golden_trainer *t, int only) {
    fj_err e = { 0 };
    fj_dev *d = t->m->dev;
    fj_graph *g = fj_graph_new();
    fj_tensor **sq = calloc((size_t)t->n_p, sizeof(fj_tensor *));
    for (int i = 0; i < t->n_p; i++)
        if (only < 0 || i == only) sq[i] = fj_keep(fj_sumsq(g, golden_grad(t, g, i)));
    fj_buf *mem = NULL;
    FJ_OK_OR_FAIL(fj_dev_prepare(d, g, &mem, "test", &e), e);
    golden_run(d, g);
    double sum = 0;
    for (int i = 0; i < t->n_p; i++) {
        double one = 0;
        if (sq[i]) FJ_OK_OR_FAIL(fj_tensor_get(sq[i], &one, &e), e);
        sum += one;
    }
    free(sq);
    fj_graph_free(g);
    d->fn->free(mem);
    return sqrt(sum);
}

/* AdamW with what tools/golden/train.py says; norm: of the gradient, for clipping to 1. */
static FJ_UNUSED void golden_update(golden_trainer *t, double rate, double norm) {
    fj_err e = { 0 };
    fj_dev *d = t->m->dev;
    fj_graph *g = fj_graph_new();
    /* The corrections belong to the betas as the device has them, rounded to f32: taken from 0.999
     * itself they would make every step 2e-5 too small. */
    double k = (double)++t->step, scale = 1 / (norm + 1e-6);
    float hyper[8] = { (float)rate,
                       0.9f,
                       0.999f,
                       1e-8f,
                       0,
                       (float)(1 - pow((double)0.9f, k)),
                       (float)(1 - pow((double)0.999f, k)),
                       (float)(scale < 1 ? scale : 1) };
    fj_tensor *h = fj_input(g, "hyper", FJ_F32, 1, 8);
    size_t off = 0;
    for (int i = 0; i < t->n_p; i++) {
        const fj_param *p = &t->p[i];
        fj_tensor *w = fj_extern(g, p->name, FJ_F32, p->rows, p->cols, p->buf, p->off);
        fj_tensor *m = fj_extern(g, "m", FJ_F32, p->rows, p->cols, t->mom1, off);
        fj_tensor *v = fj_extern(g, "v", FJ_F32, p->rows, p->cols, t->mom2, off);
        fj_adamw_step(g, w, golden_grad(t, g, i), m, v, h);
        off += (size_t)(p->rows * p->cols) * sizeof(float);
    }
    fj_buf *mem = NULL;
    FJ_OK_OR_FAIL(fj_dev_prepare(d, g, &mem, "test", &e), e);
    FJ_OK_OR_FAIL(fj_tensor_set(h, hyper, &e), e);
    golden_run(d, g);
    fj_graph_free(g);
    d->fn->free(mem);
}

/* All steps of batches.safetensors against losses, norms and rates of `s`. */
static FJ_UNUSED void golden_train(golden_trainer *t, const fj_st *s) {
    fj_st *b = golden_open("stories260k/batches.safetensors");
    int64_t steps, n, n_labels;
    const float *losses = golden_f32(s, "losses", &steps);
    const float *norms = golden_f32(s, "norms", &n), *rates = golden_f32(s, "rates", &n);
    const int32_t *ids = golden_i32(b, "ids", &n), *labels = golden_i32(b, "labels", &n_labels);
    const fj_st_tensor *shape = fj_st_find(b, "ids");
    int64_t rows = shape->dim[1], width = shape->dim[2];
    assert_int_equal(steps, 20);
    assert_int_equal(shape->dim[0], steps);
    double worst = 0;
    for (int64_t k = 0; k < steps; k++) {
        char what[64];
        int64_t at = k * rows * width;
        double loss = (double)golden_backward(t, ids + at, labels + at, rows, width, 0);
        double norm = golden_norm(t, -1);
        snprintf(what, sizeof what, "loss of step %lld", (long long)k);
        golden_near_relative(loss, (double)losses[k], GOLDEN_LOSS, what);
        snprintf(what, sizeof what, "gradient norm of step %lld", (long long)k);
        golden_near_relative(norm, (double)norms[k], 10 * GOLDEN_LOSS, what);
        worst = fmax(worst, fabs(loss / (double)losses[k] - 1));
        golden_update(t, (double)rates[k], norm);
    }
    printf("20 losses: within %.2g relative\n", worst);
    fj_st_close(b);
}

#endif
