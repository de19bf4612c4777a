#include "train/trainer.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>

struct fj_trainer {
    fj_model *m;
    fj_trainer_opts o;
    fj_param *params;
    int n;
    size_t bytes; /* of all parameters as F32 */
    fj_buf *grads, *moment1, *moment2, *mem, *small;
    fj_fwd *max, *max_eval; /* planned: where everything lies in every micro-batch */
    fj_fwd *last; /* graph of the last micro-batch, used again when the shape is the same */
    fj_fwd *last_eval;
    fj_graph *norm, *update;
    fj_tensor **sums, *hyper[2]; /* of the groups below */
    int n_sums;
};

static int64_t blocks_at_most(const fj_shape *s) { return s->rows / FJ_KV_BLOCK + s->seqs; }

static fj_fwd *graph_of(const fj_trainer *t, int64_t n, int64_t seqs, int64_t blocks, int64_t out,
                        int64_t micro, bool train, fj_err *e) {
    fj_rows_lora rows = { t->o.lora, 0, n };
    fj_fwd_opts o = { .n = n,
                      .n_seqs = seqs,
                      .n_blocks = blocks,
                      .n_out = out,
                      .out = FJ_OUT_LOSS,
                      .loras = &rows,
                      .n_loras = t->o.lora ? 1 : 0,
                      .recompute = t->o.recompute };
    if (train) {
        o.train_lora = t->o.lora != NULL;
        o.train_full = !t->o.lora;
        o.grads = t->grads;
        o.dropout_seed = fj_rng_at(t->o.seed, (uint64_t)micro);
    }
    return fj_fwd_new(t->m, &o, e);
}

static fj_fwd *largest(const fj_trainer *t, const fj_shape *s, bool train, fj_err *e) {
    fj_fwd *f = graph_of(t, s->rows, s->seqs, blocks_at_most(s), s->learn, 0, train, e);
    if (f && fj_graph_plan(f->g, &t->m->dev->plan, e)) return f;
    fj_fwd_free(f);
    return NULL;
}

/* Parameters are updated in two ways: of an adapter A and B, which may learn at another rate (LoRA+, Hayou et
 * al. 2024); else matrices, and vectors, which do not decay. */
static int group_of(const fj_trainer *t, int i) {
    return t->o.lora ? t->o.lr_ratio_b != 1 && i % 2 : t->params[i].rows <= 1;
}

/* Does parameter i lie right behind the one before, to be updated in the same way?  Then they are one. */
static bool goes_on(const fj_trainer *t, int i) {
    const fj_param *p = &t->params[i], *q = p - 1;
    return i && p->buf == q->buf && p->off == q->off + fj_param_bytes(q->rows, q->cols) &&
           group_of(t, i) == group_of(t, i - 1);
}

/* Two small graphs run once a step: squares of the gradients, and the update. */
static bool build_update(fj_trainer *t, fj_err *e) {
    t->norm = fj_graph_new();
    t->update = fj_graph_new();
    t->sums = fj_arena_alloc(&t->norm->arena, (size_t)t->n * sizeof *t->sums);
    t->hyper[0] = fj_input(t->update, "hyper-parameters", FJ_F32, 1, 8);
    t->hyper[1] = fj_input(t->update, "hyper-parameters of the others", FJ_F32, 1, 8);
    size_t off = 0;
    t->n_sums = 0;
    for (int i = 0, to; i < t->n; i = to) {
        const fj_param *p = &t->params[i];
        size_t bytes = fj_param_bytes(p->rows, p->cols); /* what lies between two stays zero */
        for (to = i + 1; to < t->n && goes_on(t, to); to++)
            bytes += fj_param_bytes(t->params[to].rows, t->params[to].cols);
        int64_t len = (int64_t)(bytes / sizeof(float));
        fj_tensor *g = fj_extern(t->norm, p->name, FJ_F32, 1, len, t->grads, off);
        t->sums[t->n_sums++] = fj_keep(fj_sumsq(t->norm, g));
        fj_adamw_step(t->update, fj_extern(t->update, p->name, FJ_F32, 1, len, p->buf, p->off),
                      fj_extern(t->update, p->name, FJ_F32, 1, len, t->grads, off),
                      fj_extern(t->update, p->name, FJ_F32, 1, len, t->moment1, off),
                      fj_extern(t->update, p->name, FJ_F32, 1, len, t->moment2, off),
                      t->hyper[group_of(t, i)]);
        off += bytes;
    }
    return fj_graph_plan(t->norm, &t->m->dev->plan, e) &&
           fj_graph_plan(t->update, &t->m->dev->plan, e);
}

/* Everything but device memory. */
static fj_trainer *prepare(fj_model *m, const fj_trainer_opts *o, fj_err *e) {
    if (!o->lora && !m->trainable) {
        fj_fail(e, FJ_EINVAL, "the model was not opened to be trained");
        return NULL;
    }
    if (o->lora) fj_lora_changes(o->lora);
    fj_trainer *t = fj_zalloc(sizeof *t);
    t->m = m;
    t->o = *o;
    if (t->o.lr_ratio_b == 0) t->o.lr_ratio_b = 1;
    t->params = fj_params_of(m, o->lora, &t->n);
    for (int i = 0; i < t->n; i++) t->bytes += fj_param_bytes(t->params[i].rows, t->params[i].cols);
    t->max = largest(t, &o->max, true, e);
    bool ok = t->max != NULL;
    if (ok && o->eval_max.rows) ok = (t->max_eval = largest(t, &o->eval_max, false, e)) != NULL;
    if (ok && build_update(t, e)) return t;
    fj_trainer_close(t);
    return NULL;
}

static size_t plan_bytes(const fj_trainer *t) {
    return FJ_MAX(t->max->g->plan_bytes, t->max_eval ? t->max_eval->g->plan_bytes : 0);
}

static size_t small_bytes(const fj_trainer *t) {
    return FJ_MAX(t->norm->plan_bytes, t->update->plan_bytes);
}

bool fj_trainer_plan(fj_model *m, const fj_trainer_opts *o, fj_trainer_bytes *b, fj_err *e) {
    fj_trainer *t = prepare(m, o, e);
    if (!t) return false;
    *b = (fj_trainer_bytes){ .weights = (int64_t)m->buf->size,
                             .adapter = o->lora ? (int64_t)o->lora->bytes : 0,
                             .gradients = (int64_t)t->bytes,
                             .optimizer = 2 * (int64_t)t->bytes,
                             .activations = (int64_t)(plan_bytes(t) + small_bytes(t)) };
    for (int i = 0; i < t->n; i++) b->trained += t->params[i].rows * t->params[i].cols;
    b->total = b->weights + b->adapter + b->gradients + b->optimizer + b->activations;
    fj_trainer_close(t);
    return true;
}

static const double MIB = 1 << 20;

bool fj_trainer_fit(fj_model *m, const fj_trainer_opts *o, int64_t limit, int *recompute,
                    fj_trainer_bytes *b, fj_err *e) {
    fj_trainer_opts try = *o;
    int lo = 0, hi = (int)m->hp.layers;
    try.recompute = *recompute = 0;
    if (!fj_trainer_plan(m, &try, b, e)) return false;
    if (!limit || b->total <= limit) return true;
    try.recompute = hi;
    if (!fj_trainer_plan(m, &try, b, e)) return false;
    /* The last layer is wanted at once again: computing it twice may cost more than it saves. */
    fj_trainer_bytes less;
    try.recompute = FJ_MAX(hi - 1, 0);
    if (!fj_trainer_plan(m, &try, &less, e)) return false;
    if (less.total < b->total) {
        hi = try.recompute;
        *b = less;
    }
    if (b->total > limit)
        return fj_fail(
            e, FJ_ENOMEM,
            "training needs at least %lld bytes (MiB: weights %.1f, optimizer and gradients %.1f, "
            "activations %.1f), %lld are allowed: lower per_device_train_batch_size or max_length",
            (long long)b->total, (double)b->weights / MIB,
            (double)(b->optimizer + b->gradients) / MIB, (double)b->activations / MIB,
            (long long)limit);
    while (lo + 1 < hi) { /* lo does not fit, hi does */
        try.recompute = lo + (hi - lo) / 2;
        if (!fj_trainer_plan(m, &try, b, e)) return false;
        if (b->total <= limit) hi = try.recompute;
        else lo = try.recompute;
    }
    *recompute = try.recompute = hi;
    return fj_trainer_plan(m, &try, b, e);
}

fj_trainer *fj_trainer_open(fj_model *m, const fj_trainer_opts *o, fj_err *e) {
    fj_trainer *t = prepare(m, o, e);
    if (!t) return NULL;
    fj_dev *d = m->dev;
    const fj_dev_fns *fn = d->fn;
    /* The graphs made so far name buffers that are not there yet; they are made again below. */
    fj_graph_free(t->norm);
    fj_graph_free(t->update);
    t->norm = t->update = NULL;
    bool ok = (t->grads = fn->alloc(d, t->bytes, "the gradients", e)) &&
              (t->moment1 = fn->alloc(d, t->bytes, "the optimizer's first moment", e)) &&
              (t->moment2 = fn->alloc(d, t->bytes, "the optimizer's second moment", e)) &&
              (t->mem = fn->alloc(d, plan_bytes(t), "the activations", e)) && build_update(t, e) &&
              (t->small = fn->alloc(d, small_bytes(t), "the optimizer's work", e));
    if (!ok) {
        fj_trainer_close(t);
        return NULL;
    }
    fj_graph_bind(t->norm, t->small, 0);
    fj_graph_bind(t->update, t->small, 0);
    return t;
}

void fj_trainer_close(fj_trainer *t) {
    if (!t) return;
    fj_fwd_free(t->max);
    fj_fwd_free(t->max_eval);
    fj_fwd_free(t->last);
    fj_fwd_free(t->last_eval);
    fj_graph_free(t->norm);
    fj_graph_free(t->update);
    fj_buf *bufs[] = { t->grads, t->moment1, t->moment2, t->mem, t->small };
    for (size_t i = 0; i < FJ_LEN(bufs); i++) t->m->dev->fn->free(bufs[i]);
    free(t->params);
    free(t);
}

static bool same_shape(const fj_fwd *f, const fj_batch *b) {
    return f && f->o.n == b->n && f->o.n_seqs == b->n_seqs && f->o.n_blocks == b->n_blocks &&
           f->o.n_out == b->n_out;
}

static bool too_large(const fj_shape *s, const fj_batch *b, fj_err *e) {
    if (b->n <= s->rows && b->n_seqs <= s->seqs && b->n_out <= s->learn) return false;
    fj_fail(e, FJ_EINVAL,
            "a micro-batch of %lld rows, %lld samples, %lld targets; planned were %lld, %lld, %lld",
            (long long)b->n, (long long)b->n_seqs, (long long)b->n_out, (long long)s->rows,
            (long long)s->seqs, (long long)s->learn);
    return true;
}

bool fj_trainer_micro(fj_trainer *t, const fj_batch *b, int64_t micro, double *loss, fj_err *e) {
    if (too_large(&t->o.max, b, e)) return false;
    bool dropout = t->o.lora && t->o.lora->dropout > 0; /* the seed is part of the graph */
    if (dropout || !same_shape(t->last, b)) {
        fj_fwd_free(t->last);
        t->last = graph_of(t, b->n, b->n_seqs, b->n_blocks, b->n_out, micro, true, e);
        if (!t->last) return false;
        if (!fj_graph_plan_like(t->last->g, t->max->g))
            return fj_fail(e, FJ_EINVAL,
                           "internal: the graph of a micro-batch is not the planned one");
        fj_graph_bind(t->last->g, t->mem, 0);
    }
    float l;
    if (!fj_fwd_fill(t->last, b, e) || !t->m->dev->fn->run(t->m->dev, t->last->g, e) ||
        !fj_tensor_get(t->last->loss, &l, e))
        return false;
    *loss = (double)l;
    return true;
}

bool fj_trainer_eval(fj_trainer *t, const fj_batch *b, float *nll, fj_err *e) {
    if (too_large(&t->o.eval_max, b, e)) return false;
    if (!same_shape(t->last_eval, b)) {
        fj_fwd_free(t->last_eval);
        t->last_eval = graph_of(t, b->n, b->n_seqs, b->n_blocks, b->n_out, 0, false, e);
        if (!t->last_eval) return false;
        if (!fj_graph_plan_like(t->last_eval->g, t->max_eval->g))
            return fj_fail(e, FJ_EINVAL,
                           "internal: the graph of an evaluation is not the planned one");
    }
    fj_graph_bind(t->last_eval->g, t->mem, 0);
    return fj_fwd_fill(t->last_eval, b, e) && t->m->dev->fn->run(t->m->dev, t->last_eval->g, e) &&
           fj_tensor_get(t->last_eval->nll, nll, e);
}

bool fj_trainer_norm(fj_trainer *t, double *norm, fj_err *e) {
    if (!t->m->dev->fn->run(t->m->dev, t->norm, e)) return false;
    double sum = 0;
    for (int i = 0; i < t->n_sums; i++) {
        double s;
        if (!fj_tensor_get(t->sums[i], &s, e)) return false;
        sum += s;
    }
    *norm = sqrt(sum);
    return true;
}

bool fj_trainer_drop(fj_trainer *t, fj_err *e) {
    return t->m->dev->fn->zero(t->grads, 0, t->bytes, e);
}

bool fj_trainer_step(fj_trainer *t, int64_t step, double lr, double norm, fj_err *e) {
    double scale = 1;
    /* torch.nn.utils.clip_grad_norm_ */
    if (t->o.max_grad_norm > 0) scale = fmin(1, t->o.max_grad_norm / (norm + 1e-6));
    /* The kernel sees the betas as floats: the bias corrections must be of those same numbers. */
    double b1 = (double)(float)t->o.beta1, b2 = (double)(float)t->o.beta2;
    float h[8] = { (float)lr,
                   (float)b1,
                   (float)b2,
                   (float)t->o.eps,
                   (float)t->o.weight_decay,
                   (float)(1 - pow(b1, (double)step)),
                   (float)(1 - pow(b2, (double)step)),
                   (float)scale };
    bool ok = fj_tensor_set(t->hyper[0], h, e);
    if (t->o.lora) h[0] = (float)(lr * t->o.lr_ratio_b);
    else h[4] = 0;
    return ok && fj_tensor_set(t->hyper[1], h, e) && t->m->dev->fn->run(t->m->dev, t->update, e) &&
           fj_trainer_drop(t, e);
}

/* ---- state --------------------------------------------------------------------------------------- */
enum { P, M, V, G, KINDS };
static const char letters[KINDS] = { 'p', 'm', 'v', 'g' };

static const fj_buf *where(const fj_trainer *t, int kind, int i, size_t off, size_t *at) {
    *at = kind == P ? t->params[i].off : off;
    return kind == P   ? t->params[i].buf
           : kind == M ? t->moment1
           : kind == V ? t->moment2
                       : t->grads;
}

void fj_trainer_add_state(const fj_trainer *t, fj_st_writer *w, bool grads) {
    for (int k = 0; k < (grads ? KINDS : G); k++)
        for (int i = 0; i < t->n; i++) {
            char name[32];
            snprintf(name, sizeof name, "%c.%d", letters[k], i);
            fj_st_writer_add(w, name, "F32", 2,
                             (int64_t[]){ t->params[i].rows, t->params[i].cols });
        }
}

/* The writer asks for what was added. */
bool fj_trainer_write_state(const fj_trainer *t, fj_st_writer *w, fj_err *e) {
    size_t most = 0, *off = fj_alloc((size_t)t->n * sizeof *off), sum = 0;
    for (int i = 0; i < t->n; i++) {
        size_t b = (size_t)(t->params[i].rows * t->params[i].cols) * sizeof(float);
        off[i] = sum;
        sum += fj_param_bytes(t->params[i].rows, t->params[i].cols);
        most = FJ_MAX(most, b);
    }
    void *tmp = fj_try_alloc(most, 1, "a copy of a parameter", e);
    bool ok = tmp != NULL;
    for (int64_t at; ok && (at = fj_st_writer_next(w)) >= 0;) {
        int kind = (int)(at / t->n), i = (int)(at % t->n);
        size_t from, bytes = (size_t)(t->params[i].rows * t->params[i].cols) * sizeof(float);
        const fj_buf *b = where(t, kind, i, off[i], &from);
        ok = t->m->dev->fn->download(b, from, tmp, bytes, e);
        if (ok) fj_st_writer_data(w, tmp, bytes);
    }
    free(tmp);
    free(off);
    return ok;
}

bool fj_trainer_read_state(fj_trainer *t, const fj_st *st, bool grads, fj_err *e) {
    for (int k = 0; k < (grads ? KINDS : G); k++) {
        size_t off = 0;
        for (int i = 0; i < t->n; i++) {
            const fj_param *p = &t->params[i];
            char name[32];
            snprintf(name, sizeof name, "%c.%d", letters[k], i);
            const fj_st_tensor *x = fj_st_get(st, name, e);
            if (!x) return false;
            if (x->dtype != FJ_F32 || x->n_dims != 2 || x->dim[0] != p->rows ||
                x->dim[1] != p->cols)
                return fj_fail(e, FJ_EFORMAT,
                               "%s: tensor %s does not fit parameter %s, %lld x %lld", st->name,
                               name, p->name, (long long)p->rows, (long long)p->cols);
            size_t at;
            const fj_buf *b = where(t, k, i, off, &at);
            if (!t->m->dev->fn->upload((fj_buf *)(uintptr_t)b, at, x->data, (size_t)x->bytes, e))
                return false;
            off += fj_param_bytes(p->rows, p->cols);
        }
    }
    return true;
}

double fj_schedule_at(fj_schedule s, int64_t step, int64_t warmup, int64_t total) {
    double k = (double)(step - 1), w = (double)warmup, n = (double)total;
    if (k < w) return k / fmax(1, w);
    if (s == FJ_LR_CONSTANT) return 1;
    double x = (k - w) / fmax(1, n - w);
    return s == FJ_LR_LINEAR ? fmax(0, 1 - x) : fmax(0, 0.5 * (1 + cos(3.141592653589793 * x)));
}
