/* cmd_bench.c - tokens a second of decode, prefill and a LoRA step, beside what this machine can do.
 *
 * Every number is the median of its repeats, every peak the best of them.  Peaks are measured in the
 * same minute, because those of a shared machine move: memory bandwidth by reading 256 MiB, arithmetic
 * by a tile that never leaves the L1 cache.  FLOPs are those of the mathematics (a multiply and an add
 * are two): products with weights, and causal attention; what recomputation adds is not counted. */
#include "base/fs.h"
#include "base/rng.h"
#include "cli/bench_model.h"
#include "cli/talk.h"
#include "device/device.h"
#include "train/trainer.h"
#include <forja/generate.h>
#include <math.h>

typedef struct opts {
    int shape, type, only;
    int64_t threads, repeat, decode, prefill, batch, length, rank;
    bool f32, json;
} opts;
enum { ALL, DECODE, PREFILL, LORA };
static const opts defaults = { .type = 2,
                               .repeat = 5,
                               .decode = 64,
                               .prefill = 512,
                               .batch = 4,
                               .length = 512,
                               .rank = 8 };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "shape",
      .kind = FJ_OPT_CHOICE,
      .at = AT(shape),
      .value = "smollm2-135m|tiny",
      .help = "random weights in this shape, where no MODEL is given" },
    { .name = "type",
      .kind = FJ_OPT_CHOICE,
      .at = AT(type),
      .value = "f32|f16|bf16|q8_0|q4_0",
      .help = "format of the random weights" },
    { .name = "only",
      .kind = FJ_OPT_CHOICE,
      .at = AT(only),
      .value = "all|decode|prefill|lora",
      .help = "measure this alone" },
    { .name = "decode",
      .kind = FJ_OPT_INT,
      .at = AT(decode),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "tokens that are generated one after another" },
    { .name = "prefill",
      .kind = FJ_OPT_INT,
      .at = AT(prefill),
      .lo = 2,
      .hi = 1 << 20,
      .value = "N",
      .help = "tokens of the prompt that is read" },
    { .name = "batch",
      .kind = FJ_OPT_INT,
      .at = AT(batch),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "samples of the LoRA step" },
    { .name = "length",
      .kind = FJ_OPT_INT,
      .at = AT(length),
      .lo = 2,
      .hi = 1 << 20,
      .value = "N",
      .help = "tokens of each of them" },
    { .name = "rank",
      .kind = FJ_OPT_INT,
      .at = AT(rank),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "rank of the adapter on all linear layers" },
    { .name = "repeat",
      .kind = FJ_OPT_INT,
      .at = AT(repeat),
      .lo = 1,
      .hi = 1000,
      .value = "N",
      .help = "measure N times; the median is said" },
    { .name = "threads",
      .letter = 'j',
      .kind = FJ_OPT_INT,
      .at = AT(threads),
      .hi = 4096,
      .value = "N",
      .help = "threads to compute with",
      .unset = "as many as this process may use" },
    { .name = "f32", .kind = FJ_OPT_FLAG, .at = AT(f32), .help = "every product in f32" },
    { .name = "json", .kind = FJ_OPT_FLAG, .at = AT(json), .help = "one JSON object" },
    { 0 },
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- what the machine can do -------------------------------------------------------------------- */

enum { P_F32, P_BF16, P_INT8, P_READ, PEAKS };
static const char *const peak_names[PEAKS] = { "f32 GFLOP/s", "bf16 GFLOP/s", "int8 Gop/s",
                                               "read GB/s" };

typedef struct peak {
    const fj_kern *k;
    int kind;
    size_t floats; /* of the reading buffer */
    float *read;
    char *tiles; /* TILE bytes for each thread */
    double *sum; /* for each thread: nothing is optimised away */
} peak;
enum { TILE = 1 << 16, TURNS = 200 };

static void peak_job(void *ctx, int i, int n) {
    peak *p = ctx;
    const fj_kern *k = p->k;
    if (p->kind == P_READ) {
        size_t part = p->floats / (size_t)n;
        const float *from = p->read + part * (size_t)i;
        p->sum[i] = k->dot(from, from, (int64_t)part);
        return;
    }
    float t[8 * 48] = { 0 };
    float *a = (float *)(void *)(p->tiles + (size_t)i * 2 * TILE), *w = a + TILE / sizeof *a;
    for (int r = 0; r < TURNS; r++) {
        if (p->kind == P_F32) k->gemm(t, 48, a, 128, 1, w, 48, 128, 8, 3, false);
        if (p->kind == P_BF16)
            k->gemm_bf16(t, 48, (uint32_t *)(void *)a, 128, 1, (uint32_t *)(void *)w, 48, 128, 8, 3,
                         false);
        if (p->kind == P_INT8) k->gemm_q8(t, 32, (fj_a8 *)(void *)a, 8, w, 16, 6, false);
    }
    p->sum[i] = t[0];
}

static bool measure_peaks(fj_dev *d, int64_t repeat, double out[PEAKS], fj_err *e) {
    size_t threads = (size_t)d->plan.threads, floats = (size_t)64 << 20;
    static const double work[PEAKS] = { [P_F32] = TURNS * 2.0 * 8 * 48 * 128,
                                        [P_BF16] = TURNS * 4.0 * 8 * 48 * 128,
                                        [P_INT8] = TURNS * 2.0 * 6 * 32 * 512 };
    peak p = { .k = d->kern, .floats = floats };
    p.read = fj_try_alloc(floats, sizeof *p.read, "256 MiB to read", e);
    if (!p.read) return false;
    memset(p.read, 0x3f, floats * sizeof *p.read); /* every page is there; values are 0.75 */
    p.tiles = fj_zalloc(threads * 2 * TILE);
    p.sum = fj_zalloc(threads * sizeof *p.sum);
    double *t = fj_alloc((size_t)repeat * sizeof *t);
    for (p.kind = 0; p.kind < PEAKS; p.kind++) {
        fj_dev_team_run(d, peak_job, &p);
        for (int64_t i = 0; i < repeat; i++) {
            double t0 = fj_clock();
            fj_dev_team_run(d, peak_job, &p);
            t[i] = fj_clock() - t0;
        }
        double units =
            p.kind == P_READ ? (double)floats * sizeof *p.read : work[p.kind] * (double)threads;
        qsort(t, (size_t)repeat, sizeof *t, by_size);
        out[p.kind] = units / t[0] / 1e9; /* the best: a peak is not lowered by a neighbour */
    }
    free(p.read);
    free(p.tiles);
    free(p.sum);
    free(t);
    return true;
}

/* ---- the three measurements --------------------------------------------------------------------- */

typedef struct result {
    const char *what;
    char about[64];
    double tokens_s, gig_s, share; /* GB/s (decode) or GFLOP/s, and their share of a peak */
    const char *unit, *of;
    int64_t planned, held; /* device bytes; 0: not asked */
} result;

typedef struct bench {
    const opts *o;
    fj_dev *dev;
    fj_model *m;
    const fj_log *log;
    double peak[PEAKS];
    result r[3];
    int n;
} bench;

static int32_t *random_ids(const bench *b, int64_t n) {
    int32_t *ids = fj_alloc((size_t)n * sizeof *ids);
    fj_rng r;
    fj_rng_seed(&r, 2);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)fj_rng_below(&r, (uint64_t)b->m->hp.vocab);
    return ids;
}

/* Weights of all layers' products. */
static double layer_weights(const fj_hparams *h) {
    double q = (double)(h->heads * h->head_dim), kv = (double)(h->kv_heads * h->head_dim);
    return (double)h->layers * (double)h->width * (2 * q + 2 * kv + 3 * (double)h->ffn);
}

/* Multiply-adds of one of the two products of causal attention over n tokens, all layers. */
static double attention(const fj_hparams *h, double n) {
    return (double)(h->layers * h->heads * h->head_dim) * n * (n + 1) / 2;
}

/* Which arithmetic the forward products use: that of the format most weights have. */
static int peak_of(const bench *b) {
    int64_t bytes[FJ_DTYPES] = { 0 };
    int most = 0;
    for (int i = 0; i < b->m->n_w; i++) {
        const fj_weight *w = &b->m->w[i];
        bytes[w->dtype] += fj_dtype_size(w->dtype, w->rows, w->cols);
    }
    for (int t = 0; t < FJ_DTYPES; t++)
        if (bytes[t] > bytes[most]) most = t;
    if (b->dev->plan.f32 || most == FJ_F32) return P_F32;
    return most == FJ_Q8_0 || most == FJ_Q4_0 ? P_INT8 : P_BF16;
}

static bool generate(bench *b, bool decode, fj_err *e) {
    const opts *o = b->o;
    const fj_hparams *h = &b->m->hp;
    int64_t n = decode ? 8 : o->prefill, made = decode ? o->decode + 1 : 1;
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.max_new_tokens = made;
    p.ignore_eos = true;
    fj_session *s = fj_session_open(b->m, n + made + 1, e);
    if (!s) return false;
    int32_t *ids = random_ids(b, n);
    double *t = fj_alloc((size_t)o->repeat * sizeof *t);
    bool ok = true;
    for (int64_t i = -1; ok && i < o->repeat; i++) { /* the first one plans, and is not counted */
        fj_generated g;
        fj_session_reset(s);
        ok = !fj_log_stop(b->log) || fj_fail(e, FJ_ESTOP, "stopped");
        ok = ok && fj_generate(s, ids, n, &p, NULL, NULL, NULL, &g, e);
        /* The first token of an answer comes out of the prefill. */
        if (ok && i >= 0) t[i] = decode ? g.decode_s / (double)(g.made - 1) : g.prefill_s;
    }
    if (ok) {
        result *r = &b->r[b->n++];
        double s1 = median(t, o->repeat);
        fj_model_info info;
        fj_model_about(b->m, &info);
        if (decode) {
            *r = (result){ .what = "decode",
                           .tokens_s = 1 / s1,
                           .gig_s = (double)info.bytes / s1 / 1e9 };
            r->unit = "GB/s";
            r->of = peak_names[P_READ];
            r->share = r->gig_s / b->peak[P_READ];
        } else {
            double flops = 2 * (double)n * layer_weights(h) + 4 * attention(h, (double)n) +
                           2 * (double)(h->width * h->vocab);
            int k = peak_of(b);
            *r = (result){ .what = "prefill",
                           .tokens_s = (double)n / s1,
                           .gig_s = flops / s1 / 1e9 };
            r->unit = "GFLOP/s";
            r->of = peak_names[k];
            r->share = r->gig_s / b->peak[k];
        }
        snprintf(r->about, sizeof r->about, "%lld tokens", (long long)(decode ? o->decode : n));
    }
    free(ids);
    free(t);
    fj_session_close(s);
    return ok;
}

static double lora_flops(const bench *b, const fj_lora *l) {
    const fj_hparams *h = &b->m->hp;
    double rows = (double)(b->o->batch * b->o->length), pairs = 0;
    for (int i = 0; i < l->n_pairs; i++)
        pairs += (double)(l->r * (l->pairs[i].in + l->pairs[i].out));
    /* Forward and the gradient of rows for frozen weights and the head; for A and B their own gradient
     * too; two products forward and five backward in attention. */
    return 4 * rows * (layer_weights(h) + (double)(h->width * h->vocab)) + 6 * rows * pairs +
           14 * (double)b->o->batch * attention(h, (double)b->o->length);
}

static bool lora_step(bench *b, fj_err *e) {
    static const char *const all[] = { "all-linear" };
    const opts *o = b->o;
    int64_t rows = o->batch * o->length;
    fj_lora_opts lo = {
        .r = (int)o->rank, .alpha = 2.0 * (double)o->rank, .targets = all, .n_targets = 1, .seed = 1
    };
    fj_lora *l = fj_lora_new(b->m, &lo, e);
    if (!l) return false;
    fj_trainer_opts to = { .lora = l,
                           .max = { rows, o->batch, rows },
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .max_grad_norm = 1 };
    fj_trainer_bytes bytes;
    fj_trainer *t = fj_trainer_plan(b->m, &to, &bytes, e) ? fj_trainer_open(b->m, &to, e) : NULL;
    fj_batch batch = { 0 };
    int32_t *ids = random_ids(b, o->length + 1);
    double *took = fj_alloc((size_t)o->repeat * sizeof *took);
    bool ok = t != NULL;
    for (int64_t i = 0; i < o->batch; i++)
        fj_batch_add_sample(&batch, ids, NULL, o->length + 1, 1 / (float)rows);
    for (int64_t i = -1; ok && i < o->repeat; i++) {
        double t0 = fj_clock(), loss;
        ok = !fj_log_stop(b->log) || fj_fail(e, FJ_ESTOP, "stopped");
        ok = ok && fj_trainer_micro(t, &batch, i + 1, &loss, e) &&
             fj_trainer_step(t, i + 2, 1e-4, NULL, e);
        if (i >= 0) took[i] = fj_clock() - t0;
    }
    if (ok) {
        double s = median(took, o->repeat);
        int k = b->dev->plan.f32 || peak_of(b) == P_F32 ? P_F32
                                                        : P_BF16; /* gradients read bf16 panels */
        result *r = &b->r[b->n++];
        *r = (result){ .what = "lora step",
                       .tokens_s = (double)rows / s,
                       .gig_s = lora_flops(b, l) / s / 1e9,
                       .unit = "GFLOP/s",
                       .of = peak_names[k],
                       .planned = bytes.total };
        r->share = r->gig_s / b->peak[k];
        fj_dev_memory(b->dev, &r->held, NULL);
        snprintf(r->about, sizeof r->about, "%lld x %lld tokens, rank %lld", (long long)o->batch,
                 (long long)o->length, (long long)o->rank);
    }
    free(ids);
    free(took);
    fj_batch_free(&batch);
    fj_trainer_close(t);
    fj_lora_close(l);
    return ok;
}

/* ---- output ------------------------------------------------------------------------------------- */

static void print_table(const bench *b, const fj_model_info *info) {
    printf("model   %s, %lld parameters, %s\nmachine %s;", info->path, (long long)info->params,
           info->formats, fj_dev_about(b->dev));
    for (int i = 0; i < PEAKS; i++) printf("%s %.0f %s", i ? "," : "", b->peak[i], peak_names[i]);
    printf("\n\n");
    fj_table t;
    fj_table_open(&t, 6, "what", "of", ">tokens/s", ">rate", "share of peak", ">memory");
    for (int i = 0; i < b->n; i++) {
        const result *r = &b->r[i];
        fj_str tok = { 0 }, rate = { 0 }, share = { 0 }, mem = { 0 };
        fj_str_addf(&tok, "%.1f", r->tokens_s);
        fj_str_addf(&rate, "%.1f %s", r->gig_s, r->unit);
        fj_str_addf(&share, "%.0f%% of %s", 100 * r->share, r->of);
        fj_str_add(&mem, "");
        if (r->held) fj_put_bytes(&mem, (double)r->held);
        fj_table_row(&t, r->what, r->about, tok.s, rate.s, share.s, mem.s);
        fj_str_free(&tok);
        fj_str_free(&rate);
        fj_str_free(&share);
        fj_str_free(&mem);
    }
    fj_table_print(&t, stdout, 0);
}

static void print_json(const bench *b, const fj_model_info *info) {
    json_t *o = json_object(), *peaks = json_object(), *list = json_array();
    json_object_set_new(o, "model", fj_json_text(info->path, strlen(info->path)));
    json_object_set_new(o, "formats", json_string(info->formats));
    json_object_set_new(o, "parameters", json_integer(info->params));
    json_object_set_new(o, "device", json_string(fj_dev_about(b->dev)));
    for (int i = 0; i < PEAKS; i++)
        json_object_set_new(peaks, peak_names[i], json_real(b->peak[i]));
    json_object_set_new(o, "peaks", peaks);
    for (int i = 0; i < b->n; i++) {
        const result *r = &b->r[i];
        json_t *x = json_object();
        json_object_set_new(x, "what", json_string(r->what));
        json_object_set_new(x, "of", json_string(r->about));
        json_object_set_new(x, "tokens_per_s", json_real(r->tokens_s));
        json_object_set_new(x, "rate", json_real(r->gig_s));
        json_object_set_new(x, "unit", json_string(r->unit));
        json_object_set_new(x, "share_of_peak", json_real(r->share));
        json_object_set_new(x, "peak", json_string(r->of));
        if (r->held) json_object_set_new(x, "planned_bytes", json_integer(r->planned));
        if (r->held) json_object_set_new(x, "held_bytes", json_integer(r->held));
        json_array_append_new(list, x);
    }
    json_object_set_new(o, "results", list);
    fj_print_json(o);
}

static int run(fj_call *c) {
    static const fj_dtype types[] = { FJ_F32, FJ_F16, FJ_BF16, FJ_Q8_0, FJ_Q4_0 };
    const opts *o = c->opts;
    fj_err e = { 0 };
    bench b = { .o = o, .log = &c->term->log };
    fj_term_catch();
    bool ok = (b.dev = fj_open_device(o->threads, o->f32, &e)) != NULL;
    if (ok) {
        const fj_bench_shape *s = &fj_bench_shapes[o->shape];
        b.m = c->n_args ? fj_model_open(b.dev, c->args[0], NULL, b.log, &e)
                        : fj_bench_model(b.dev, s, types[o->type], b.log, &e);
    }
    ok = b.m && measure_peaks(b.dev, o->repeat, b.peak, &e);
    if (o->only == ALL || o->only == DECODE) ok = ok && generate(&b, true, &e);
    if (o->only == ALL || o->only == PREFILL) ok = ok && generate(&b, false, &e);
    if (o->only == ALL || o->only == LORA) ok = ok && lora_step(&b, &e);
    if (ok) {
        fj_model_info info;
        fj_model_about(b.m, &info);
        if (!c->n_args) info.path = fj_bench_shapes[o->shape].name;
        if (o->json) print_json(&b, &info);
        else print_table(&b, &info);
    }
    fj_model_close(b.m);
    fj_dev_close(b.dev);
    return ok ? FJ_EXIT_OK : fj_term_fail(c->term, &e);
}

const fj_cmd fj_cmd_bench = {
    .name = "bench",
    .args = "[MODEL]",
    .summary = "Measure speed: decode, prefill and a LoRA step, beside the peaks of this machine.",
    .manual =
        "Without MODEL the weights are random, in a known shape; they lie in a temporary folder while\n"
        "they are loaded.\n\n"
        "  forja bench --type q8_0 --threads 2",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .max_args = 1,
    .run = run,
};
