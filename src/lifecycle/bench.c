#include "lifecycle/bench.h"

#include "base/fs.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "kernels/peak.h"
#include "train/trainer.h"

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- peaks --------------------------------------------------------------------------------------- */
const char *const fj_peak_names[FJ_PEAKS] = { "f32 GFLOP/s", "bf16 GFLOP/s", "int8 Gop/s",
                                              "read GB/s" };

typedef struct peak_job {
    fj_peak_fn *fn;
    const fj_kern *k;
    const float *read;
    int64_t floats;
    double *out; /* for each thread: operations a second, or a sum that nothing may optimise away */
} peak_job;

static void arithmetic(void *ctx, int i, int n) {
    const peak_job *j = ctx;
    (void)n;
    j->out[i] = fj_peak_rate(j->fn);
}

static void reading(void *ctx, int i, int n) {
    const peak_job *j = ctx;
    int64_t part = j->floats / n;
    j->out[i] = (double)j->k->dot(j->read + part * i, j->read + part * i, part);
}

/* Data sheets; the first whose name is part of the device's.  A laptop's chip and a part of a card (MIG) are
 * not what their names say. */
static const struct {
    const char *name;
    double f32, bf16, read;
} gpus[] = {
    { " MIG ", 0, 0, 0 },
    { "Laptop", 0, 0, 0 },
    { "NVIDIA H200 NVL", 60e3, 835e3, 4800 },
    { "NVIDIA H200", 67e3, 989e3, 4800 },
    { "NVIDIA H100 NVL", 60e3, 835e3, 3938 },
    { "NVIDIA H100 PCIe", 51e3, 756e3, 2039 },
    { "NVIDIA H100", 67e3, 989e3, 3352 },
    { "A100-SXM4-80GB", 19.5e3, 312e3, 2039 },
    { "A100 80GB PCIe", 19.5e3, 312e3, 1935 },
    { "A100", 19.5e3, 312e3, 1555 },
    { "RTX 4090 D", 73.5e3, 147e3, 1008 },
    { "RTX 4090", 82.6e3, 165e3, 1008 },
};

static void gpu_peaks(const char *about, double peak[FJ_PEAKS]) {
    for (size_t i = 0; i < FJ_LEN(gpus); i++)
        if (strstr(about, gpus[i].name)) {
            peak[FJ_PEAK_F32] = gpus[i].f32;
            peak[FJ_PEAK_BF16] = gpus[i].bf16;
            peak[FJ_PEAK_READ] = gpus[i].read;
            return;
        }
}

bool fj_bench_peaks(fj_dev *d, int64_t repeat, double peak[FJ_PEAKS], fj_err *e) {
    for (int i = 0; i < FJ_PEAKS; i++) peak[i] = 0;
    if (!d->kern) {
        gpu_peaks(d->about, peak);
        return true;
    }
    fj_peak p = fj_peak_of(d->kern);
    fj_peak_fn *const fns[] = { p.f32, p.bf16, p.int8 };
    int threads = d->plan.threads;
    peak_job j = { .k = d->kern, .floats = (int64_t)64 << 20 };
    float *read = fj_try_alloc((size_t)j.floats, sizeof *read, "256 MiB to read", e);
    if (!read) return false;
    for (int64_t i = 0; i < j.floats; i++) read[i] = 0.75f; /* every page is there */
    j.read = read;
    j.out = fj_zalloc((size_t)threads * sizeof *j.out);
    for (int k = 0; k < FJ_PEAK_READ; k++) {
        j.fn = fns[k];
        fj_dev_team_run(d, arithmetic, &j);
        peak[k] = 0;
        for (int i = 0; i < threads; i++) peak[k] += j.out[i] / 1e9;
    }
    peak[FJ_PEAK_READ] = 0;
    for (int64_t i = 0; i < FJ_MAX(repeat, 5); i++) {
        double t0 = fj_clock();
        fj_dev_team_run(d, reading, &j);
        double rate = (double)j.floats * sizeof *read / (fj_clock() - t0) / 1e9;
        peak[FJ_PEAK_READ] = FJ_MAX(peak[FJ_PEAK_READ], rate);
    }
    free(read);
    free(j.out);
    return true;
}

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

/* What the format with the most weights computes in, forward; backward reads bf16 panels instead. */
static fj_peak_kind peak_of(const fj_model *m, bool backward) {
    if (!m->dev->kern) return m->dev->plan.f32 ? FJ_PEAK_F32 : FJ_PEAK_BF16;
    int64_t count[FJ_DTYPES] = { 0 };
    int most = 0;
    for (int i = 0; i < m->n_w; i++) count[m->w[i].dtype] += m->w[i].rows * m->w[i].cols;
    for (int t = 0; t < FJ_DTYPES; t++)
        if (count[t] > count[most]) most = t;
    if (m->dev->plan.f32 || most == FJ_F32 || (most == FJ_F16 && !backward)) return FJ_PEAK_F32;
    return most == FJ_BF16 || backward ? FJ_PEAK_BF16 : FJ_PEAK_INT8;
}

static int32_t *random_ids(const fj_model *m, int64_t n) {
    int32_t *ids = fj_alloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(fj_rng_at(2, (uint64_t)i) % (uint64_t)m->hp.vocab);
    return ids;
}

static bool go_on(const fj_log *log, fj_err *e) {
    return !fj_log_stop(log) || fj_fail(e, FJ_ESTOP, "stopped");
}

/* Fills s, which has its FLOPs and bytes, from the seconds of its runs. */
static void conclude(fj_speed *s, double *t, int64_t n) {
    qsort(t, (size_t)n, sizeof *t, by_size);
    s->seconds = n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
    s->fastest = t[0];
    s->slowest = t[n - 1];
    s->tokens_s = (double)s->tokens / s->seconds;
    s->rate = (s->of == FJ_PEAK_READ ? s->bytes : s->flops) / s->seconds / 1e9;
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

typedef struct serving { /* n sequences of `context` positions, then `turns` times `each` new tokens for all */
    int64_t n, context, each, turns;
    fj_lora **loras; /* [n_loras]; sequences that share one stand side by side */
    int64_t n_loras;
} serving;

/* The steps of w, o->repeat times and once before; each is forgotten again. */
static bool steps(fj_model *m, const fj_bench_opts *o, const serving *w, double *t, fj_speed *s,
                  fj_err *e) {
    int64_t n = w->n, all = w->context + w->each * w->turns, room = (all + FJ_KV_BLOCK) * n;
    if (all > m->hp.context)
        return fj_fail(e, FJ_EINVAL, "%lld tokens are more than the model's context of %lld",
                       (long long)all, (long long)m->hp.context);
    fj_engine *g = fj_engine_open(m, room, e);
    if (!g) return false;
    int32_t *ids = random_ids(m, FJ_MAX(w->context, w->each));
    fj_seq *seqs = fj_zalloc((size_t)n * sizeof *seqs);
    fj_step_item *items = fj_zalloc((size_t)n * sizeof *items);
    static const float greedy[FJ_PICK_COLS] = { [FJ_PICK_TOP_P] = 1, [FJ_PICK_PENALTY] = 1 };
    const int32_t *chosen;
    bool ok = true;
    for (int64_t i = 0; i < n; i++)
        items[i] = (fj_step_item){ .seq = &seqs[i],
                                   .ids = ids,
                                   .n = w->context,
                                   .lora = w->n_loras ? w->loras[i * w->n_loras / n] : NULL };
    for (int64_t i = 0; ok && i < n && w->context; i++)
        ok = go_on(o->log, e) && fj_engine_choose(g, &items[i], 1, &chosen, e);
    for (int64_t i = 0; i < n; i++) {
        items[i].n = w->each;
        items[i].how = greedy;
    }
    for (int64_t i = -1; ok && i < o->repeat; i++) {
        double t0 = fj_clock();
        ok = go_on(o->log, e);
        for (int64_t k = 0; ok && k < w->turns; k++)
            ok = fj_engine_choose(g, items, (int)n, &chosen, e);
        if (i >= 0) t[i] = fj_clock() - t0;
        for (int64_t k = 0; k < n; k++) fj_seq_cut(g, &seqs[k], w->context);
    }
    fj_dev_memory(m->dev, &s->held, NULL);
    for (int64_t i = 0; i < n; i++) fj_seq_free(g, &seqs[i]);
    free(seqs);
    free(items);
    free(ids);
    fj_engine_close(g);
    return ok;
}

bool fj_bench_decode(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    /* The middle one of the new tokens has so many positions behind it, itself included. */
    double *t = fj_alloc((size_t)o->repeat * sizeof *t), n = (double)o->streams,
           turns = (double)o->tokens, behind = (double)o->context + (turns + 1) / 2;
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
    ok = ok && steps(m, o, &w, t, s, e);
    if (ok) conclude(s, t, o->repeat);
    for (int64_t i = 0; i < w.n_loras; i++) fj_lora_close(w.loras[i]);
    free(w.loras);
    free(t);
    return ok;
}

bool fj_bench_prefill(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    double *t = fj_alloc((size_t)o->repeat * sizeof *t), n = (double)o->prompt;
    *s = (fj_speed){ .tokens = o->prompt, .of = peak_of(m, false) };
    s->bytes = bytes_read(m) + 2 * n * (double)fj_kv_bytes(m, 1); /* written and read */
    s->flops = 2 * n * linear_weights(m) + 2 * head_weights(m) + 2 * attention(m, n);
    bool ok = steps(m, o, &(serving){ .n = 1, .each = o->prompt, .turns = 1 }, t, s, e);
    if (ok) conclude(s, t, o->repeat);
    free(t);
    return ok;
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

static bool train(fj_model *m, fj_lora *l, const fj_bench_opts *o, fj_speed *s, double *t,
                  fj_err *e) {
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
    fj_trainer *tr = fj_trainer_open(m, &to, e);
    if (!tr) return false;
    fj_batch b = { 0 };
    int32_t *ids = random_ids(m, rows + o->batch);
    for (int64_t i = 0; i < o->batch; i++)
        fj_batch_add_sample(&b, ids + i * (o->length + 1), NULL, o->length + 1, 1 / (float)rows);
    bool ok = true;
    for (int64_t i = -1; ok && i < o->repeat; i++) {
        double t0 = fj_clock(), loss;
        ok = go_on(o->log, e) && fj_trainer_micro(tr, &b, i + 1, &loss, e) &&
             fj_trainer_step(tr, i + 2, 1e-4, NULL, e);
        if (i >= 0) t[i] = fj_clock() - t0;
    }
    s->planned = bytes.total;
    s->recomputed = to.recompute;
    fj_dev_memory(m->dev, &s->held, NULL);
    free(ids);
    fj_batch_free(&b);
    fj_trainer_close(tr);
    return ok;
}

bool fj_bench_step(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    fj_lora *l = NULL;
    if (!m->trainable && !(l = new_adapter(m, o, 1, e))) return false;
    double *t = fj_alloc((size_t)o->repeat * sizeof *t);
    *s = (fj_speed){ .tokens = o->batch * o->length,
                     .flops = step_flops(m, l, o),
                     .bytes = step_bytes(m, l),
                     .of = peak_of(m, true) };
    bool ok = train(m, l, o, s, t, e);
    if (ok) conclude(s, t, o->repeat);
    free(t);
    fj_lora_close(l);
    return ok;
}
