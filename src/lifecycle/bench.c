#include "lifecycle/bench.h"

#include "base/fs.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "train/trainer.h"

/* ---- what a run costs ---------------------------------------------------------------------------- */
static int head_of(const fj_model *m) { return m->hp.tied ? FJ_W_EMBED : FJ_W_HEAD; }

/* Weights of all products but the head. */
static double linear_weights(const fj_model *m) {
    double n = 0;
    for (int i = 0; i < m->n_w; i++)
        if (m->w[i].row->is & FJ_IS_LINEAR && m->w[i].row != &m->arch->weights[head_of(m)])
            n += (double)(m->w[i].rows * m->w[i].cols);
    return n;
}

static double head_weights(const fj_model *m) { return (double)(m->hp.width * m->hp.vocab); }

/* FLOPs of one of the products of causal attention over n tokens, all layers. */
static double attention(const fj_model *m, double n) {
    return (double)(m->hp.layers * m->hp.heads * m->hp.head_dim) * n * (n + 1);
}

/* Bytes of weights that one pass over few rows reads: all, but of an untied table only these rows. */
static double bytes_read(const fj_model *m) {
    double n = 0;
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        if (w->row != &m->arch->weights[FJ_W_EMBED] || m->hp.tied)
            n += (double)fj_dtype_size(w->dtype, w->rows, w->cols);
    }
    return n;
}

/* Weights of an adapter; NULL: none. */
static double adapter_weights(const fj_lora *l) { return l ? (double)l->bytes / sizeof(float) : 0; }

fj_peak_kind fj_bench_arithmetic(fj_dtype t, bool backward) {
    if (t == FJ_F32 || t == FJ_F64) return FJ_PEAK_F32;
    return t == FJ_BF16 || t == FJ_F16 || backward ? FJ_PEAK_BF16 : FJ_PEAK_INT8;
}

/* What the format with the most weights computes in. */
static fj_peak_kind peak_of(const fj_model *m, bool backward) {
    if (m->dev->plan.f32) return FJ_PEAK_F32;
    if (!m->dev->kern || m->trainable) return FJ_PEAK_BF16; /* F32 that trains is mixed */
    int64_t count[FJ_DTYPES] = { 0 };
    int most = 0;
    for (int i = 0; i < m->n_w; i++) count[m->w[i].dtype] += m->w[i].rows * m->w[i].cols;
    for (int t = 0; t < FJ_DTYPES; t++)
        if (count[t] > count[most]) most = t;
    return fj_bench_arithmetic((fj_dtype)most, backward);
}

static int32_t *random_ids(const fj_model *m, int64_t n) {
    int32_t *ids = fj_alloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(fj_rng_at(2, (uint64_t)i) % (uint64_t)m->hp.vocab);
    return ids;
}

/* Fills s, which has its FLOPs and bytes, from the seconds of its runs. */
static void conclude(fj_speed *s, double *t, int64_t n) {
    qsort(t, (size_t)n, sizeof *t, fj_by_size);
    s->seconds = n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
    s->fastest = t[0];
    s->slowest = t[n - 1];
    s->tokens_s = (double)s->tokens / s->seconds;
    s->rate = (s->of == FJ_PEAK_READ ? s->bytes : s->flops) / s->seconds / 1e9;
}

/* A run that is timed, from its start to where its own time ends. */
static bool one(const fj_bench_opts *o, fj_bench_run *run, void *ctx, double *t, fj_err *e) {
    *t = 0;
    if (fj_log_stop(o->log)) return fj_fail(e, FJ_ESTOP, "stopped");
    double t0 = fj_clock(), end = 0;
    bool ok = run(ctx, &end, e);
    *t = (end > 0 ? end : fj_clock()) - t0;
    return ok;
}

bool fj_bench_repeat(fj_dev *d, const fj_bench_opts *o, fj_bench_run *run, void *ctx, fj_speed *s,
                     fj_err *e) {
    double *t = fj_alloc((size_t)o->repeat * sizeof *t), all = 0, x = 0;
    bool ok = one(o, run, ctx, &x, e);
    for (int64_t i = 0; ok && i < o->repeat; i++) ok = one(o, run, ctx, &t[i], e);
    if (ok) conclude(s, t, o->repeat);
    if (ok && o->profile && d->kern) {
        fj_profile_begin(o->profile, d);
        for (int64_t i = 0; ok && i < o->repeat; i++) {
            ok = one(o, run, ctx, &x, e);
            all += x;
        }
        fj_profile_end(o->profile, d, all, o->repeat);
    }
    free(t);
    return ok;
}

/* ---- serving ------------------------------------------------------------------------------------- */
static fj_lora *new_adapter(fj_model *m, const fj_bench_opts *o, uint64_t seed, fj_err *e) {
    static const char *const all[] = { "all-linear" };
    return fj_lora_new(m,
                       &(fj_lora_opts){ .r = (int)o->rank,
                                        .alpha = 2.0 * (double)o->rank,
                                        .targets = all,
                                        .n_targets = 1,
                                        .seed = seed },
                       e);
}

typedef struct
    serving { /* n sequences of `context` positions, then `turns` times `each` new tokens for all */
    int64_t n, context, each, turns;
    fj_lora **loras; /* [n_loras]; sequences that share one stand side by side */
    int64_t n_loras;
} serving;

typedef struct steps {
    const serving *w;
    fj_engine *g;
    fj_seq *seqs;        /* [n] */
    fj_step_item *items; /* [n] */
} steps;

/* All turns; they are forgotten again. */
static bool run_steps(void *ctx, double *end, fj_err *e) {
    steps *x = ctx;
    const serving *w = x->w;
    const int32_t *chosen;
    bool ok = true;
    for (int64_t k = 0; ok && k < w->turns; k++)
        ok = fj_engine_choose(x->g, x->items, (int)w->n, &chosen, e);
    *end = fj_clock();
    for (int64_t k = 0; k < w->n; k++) fj_seq_cut(x->g, &x->seqs[k], w->context);
    return ok;
}

static bool serve(fj_model *m, const fj_bench_opts *o, const serving *w, fj_speed *s, fj_err *e) {
    int64_t n = w->n, all = w->context + w->each * w->turns, room = (all + FJ_KV_BLOCK) * n;
    if (all > m->hp.context)
        return fj_fail(e, FJ_EINVAL, "%lld tokens are more than the model's context of %lld",
                       (long long)all, (long long)m->hp.context);
    steps x = { .w = w, .g = fj_engine_open(m, room, e) };
    if (!x.g) return false;
    int32_t *ids = random_ids(m, FJ_MAX(w->context, w->each));
    x.seqs = fj_zalloc((size_t)n * sizeof *x.seqs);
    x.items = fj_zalloc((size_t)n * sizeof *x.items);
    static const float greedy[FJ_PICK_COLS] = { [FJ_PICK_TOP_P] = 1, [FJ_PICK_PENALTY] = 1 };
    const int32_t *chosen;
    bool ok = true;
    for (int64_t i = 0; i < n; i++)
        x.items[i] = (fj_step_item){ .seq = &x.seqs[i],
                                     .ids = ids,
                                     .n = w->context,
                                     .lora = w->n_loras ? w->loras[i * w->n_loras / n] : NULL };
    for (int64_t i = 0; ok && i < n && w->context; i++) {
        ok = !fj_log_stop(o->log) || fj_fail(e, FJ_ESTOP, "stopped");
        ok = ok && fj_engine_choose(x.g, &x.items[i], 1, &chosen, e);
    }
    for (int64_t i = 0; i < n; i++) {
        x.items[i].n = w->each;
        x.items[i].how = greedy;
    }
    ok = ok && fj_bench_repeat(m->dev, o, run_steps, &x, s, e);
    fj_dev_memory(m->dev, &s->held, NULL);
    for (int64_t i = 0; i < n; i++) fj_seq_free(x.g, &x.seqs[i]);
    free(x.seqs);
    free(x.items);
    free(ids);
    fj_engine_close(x.g);
    return ok;
}

bool fj_bench_decode(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    /* The middle one of the new tokens has so many positions behind it, itself included. */
    double n = (double)o->streams, turns = (double)o->tokens,
           behind = (double)o->context + (turns + 1) / 2;
    serving w = { .n = o->streams, .context = o->context, .each = 1, .turns = o->tokens };
    w.loras = fj_zalloc((size_t)(o->adapters + 1) * sizeof(fj_lora *));
    bool ok = o->adapters <= o->streams ||
              fj_fail(e, FJ_EINVAL, "%lld adapters are more than %lld streams",
                      (long long)o->adapters, (long long)o->streams);
    for (; ok && w.n_loras < o->adapters; w.n_loras++)
        ok = (w.loras[w.n_loras] = new_adapter(m, o, (uint64_t)w.n_loras + 1, e)) != NULL &&
             fj_lora_ready(w.loras[w.n_loras], e);
    double pairs = ok ? adapter_weights(w.loras[0]) : 0;
    *s = (fj_speed){ .tokens = o->streams * o->tokens, .of = FJ_PEAK_READ };
    double each = ok && w.n_loras && w.loras[0]->ready ? 2 : 4; /* bytes of an adapter's value */
    s->bytes =
        bytes_read(m) + each * pairs * (double)o->adapters + n * behind * (double)fj_kv_bytes(m, 1);
    /* Attention: two products of the last row of `behind` with all of them. */
    s->flops = n * (2 * (linear_weights(m) + head_weights(m) + pairs) +
                    4 * attention(m, behind) / (behind + 1));
    s->bytes *= turns;
    s->flops *= turns;
    ok = ok && serve(m, o, &w, s, e);
    for (int64_t i = 0; i < w.n_loras; i++) fj_lora_close(w.loras[i]);
    free(w.loras);
    return ok;
}

bool fj_bench_prefill(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    double n = (double)o->prompt;
    *s = (fj_speed){ .tokens = o->prompt, .of = peak_of(m, false) };
    s->bytes = bytes_read(m) + 2 * n * (double)fj_kv_bytes(m, 1); /* written and read */
    s->flops = 2 * n * linear_weights(m) + 2 * head_weights(m) + 2 * attention(m, n);
    return serve(m, o, &(serving){ .n = 1, .each = o->prompt, .turns = 1 }, s, e);
}

/* ---- training ------------------------------------------------------------------------------------ */
/* Forward and the gradient of rows, for frozen weights; for trained ones their own gradient too. */
static double step_flops(const fj_model *m, const fj_lora *l, const fj_bench_opts *o) {
    double rows = (double)(o->batch * o->length);
    return rows * ((l ? 4 : 6) * (linear_weights(m) + head_weights(m)) + 6 * adapter_weights(l)) +
           7 * (double)o->batch * attention(m, (double)o->length);
}

/* AdamW reads parameter, gradient and both moments, and writes all but the gradient. */
static double step_bytes(const fj_model *m, const fj_lora *l) {
    return 2 * (bytes_read(m) + 4 * adapter_weights(l)) +
           28 * (l ? adapter_weights(l) : (double)m->params);
}

typedef struct training {
    fj_trainer *tr;
    fj_batch b;
    int64_t done; /* steps */
} training;

static bool run_training(void *ctx, double *end, fj_err *e) {
    training *x = ctx;
    double loss, norm;
    int64_t i = x->done++;
    (void)end;
    return fj_trainer_micro(x->tr, &x->b, i, &loss, e) && fj_trainer_norm(x->tr, &norm, e) &&
           fj_trainer_step(x->tr, i + 1, 1e-4, norm, e);
}

static bool train(fj_model *m, fj_lora *l, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    int64_t rows = o->batch * o->length;
    fj_trainer_opts to = { .lora = l,
                           .max = { rows, o->batch, rows },
                           .recompute = (int)FJ_MAX(FJ_MIN(o->recompute, m->hp.layers), 0),
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .max_grad_norm = 1 };
    fj_trainer_bytes bytes;
    bool fits = o->recompute < 0
                    ? fj_trainer_fit(m, &to, fj_dev_room(m->dev), &to.recompute, &bytes, e)
                    : fj_trainer_plan(m, &to, &bytes, e);
    if (!fits) return false;
    training x = { .tr = fj_trainer_open(m, &to, e) };
    if (!x.tr) return false;
    int32_t *ids = random_ids(m, rows + o->batch);
    for (int64_t i = 0; i < o->batch; i++)
        fj_batch_add_sample(&x.b, ids + i * (o->length + 1), NULL, o->length + 1, 1 / (float)rows);
    bool ok = fj_bench_repeat(m->dev, o, run_training, &x, s, e);
    s->planned = bytes.total;
    s->recomputed = to.recompute;
    fj_dev_memory(m->dev, &s->held, NULL);
    free(ids);
    fj_batch_free(&x.b);
    fj_trainer_close(x.tr);
    return ok;
}

bool fj_bench_step(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    fj_lora *l = NULL;
    if (!m->trainable && !(l = new_adapter(m, o, 1, e))) return false;
    *s = (fj_speed){ .tokens = o->batch * o->length,
                     .flops = step_flops(m, l, o),
                     .bytes = step_bytes(m, l),
                     .of = peak_of(m, true) };
    bool ok = train(m, l, o, s, e);
    fj_lora_close(l);
    return ok;
}
