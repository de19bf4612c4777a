/* cmd_bench.c - tokens a second of decode, prefill and a training step, beside what this machine can
 * do.  Peaks are measured in the same minute, because those of a shared machine move. */
#include "base/fs.h"
#include "cli/bench_show.h"
#include "cli/talk.h"

#include <unistd.h>

typedef struct opts {
    const char *device;
    int shape, only;
    fj_bench_what w;
    const char *save;
    int64_t threads;
    fj_list streams;
    fj_bench_opts b;
    int64_t memory;
    bool f32, json, profile, fresh;
} opts;
enum { ALL, DECODE, PREFILL, STEP, GEMM, ATTENTION, LOAD };
static const opts defaults = { .w.type = "bf16",
                               .b = { .repeat = 5,
                                      .context = 64,
                                      .tokens = 16,
                                      .prompt = 512,
                                      .rows = 512,
                                      .batch = 4,
                                      .length = 512,
                                      .rank = 16,
                                      .recompute = -1 } };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "shape",
      .kind = FJ_OPT_CHOICE,
      .at = AT(shape),
      .value = "smollm2-135m|qwen3-0.6b|llama-3.2-1b|qwen2.5-1.5b|llama-3.1-8b|embedded|tiny",
      .help = "random weights in this shape, where no MODEL is given" },
    { .name = "config",
      .kind = FJ_OPT_STR,
      .at = AT(w.config),
      .value = "FILE",
      .help = "random weights in the shape of this config.json, or of a folder that has one" },
    { .name = "layers",
      .kind = FJ_OPT_INT,
      .at = AT(w.layers),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "number of layers of the random model",
      .unset = "that of the shape" },
    { .name = "width",
      .kind = FJ_OPT_INT,
      .at = AT(w.width),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "width of the rows between layers of the random model",
      .unset = "that of the shape" },
    { .name = "heads",
      .kind = FJ_OPT_INT,
      .at = AT(w.heads),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "attention heads of the random model",
      .unset = "that of the shape" },
    { .name = "kv-heads",
      .kind = FJ_OPT_INT,
      .at = AT(w.kv_heads),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "heads of keys and values of the random model",
      .unset = "that of the shape" },
    { .name = "ffn",
      .kind = FJ_OPT_INT,
      .at = AT(w.ffn),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "width inside of the feed-forward part of the random model",
      .unset = "that of the shape" },
    { .name = "vocab",
      .kind = FJ_OPT_INT,
      .at = AT(w.vocab),
      .lo = 0,
      .hi = 1 << 24,
      .value = "N",
      .help = "tokens of the vocabulary of the random model",
      .unset = "that of the shape" },
    { .name = "type",
      .kind = FJ_OPT_STR,
      .at = AT(w.type),
      .value = "TYPE",
      .help = "formats of the random weights: a mix, as `forja quantize` has them, or one format" },
    { .name = "pure",
      .kind = FJ_OPT_FLAG,
      .at = AT(w.pure),
      .help = "every matrix in the format TYPE, the head too" },
    { .name = "save",
      .kind = FJ_OPT_STR,
      .at = AT(save),
      .value = "FILE",
      .help = "write the random model as a GGUF file, and measure nothing" },
    { .name = "only",
      .kind = FJ_OPT_CHOICE,
      .at = AT(only),
      .value = "all|decode|prefill|step|gemm|attention|load",
      .help = "measure this; all: the first three; step: of training; gemm, attention: one op; "
              "load: a file to its first token" },
    { .name = "streams",
      .kind = FJ_OPT_LIST,
      .at = AT(streams),
      .value = "N",
      .help = "decode: sequences side by side",
      .unset = "1" },
    { .name = "adapters",
      .kind = FJ_OPT_INT,
      .at = AT(b.adapters),
      .lo = 0,
      .hi = 4096,
      .value = "N",
      .help =
          "decode once more with N adapters shared out over the streams, where those are so many" },
    { .name = "context",
      .kind = FJ_OPT_INT,
      .at = AT(b.context),
      .lo = 1,
      .hi = 1 << 20,
      .value = "N",
      .help = "decode: tokens that each sequence has behind it" },
    { .name = "tokens",
      .kind = FJ_OPT_INT,
      .at = AT(b.tokens),
      .lo = 1,
      .hi = 1 << 20,
      .value = "N",
      .help = "decode: new tokens for each, one after another" },
    { .name = "prefill",
      .kind = FJ_OPT_INT,
      .at = AT(b.prompt),
      .lo = 2,
      .hi = 1 << 20,
      .value = "N",
      .help = "tokens of the prompt that is read" },
    { .name = "rows",
      .kind = FJ_OPT_INT,
      .at = AT(b.rows),
      .lo = 1,
      .hi = 1 << 20,
      .value = "N",
      .help = "gemm: rows that meet each weight" },
    { .name = "batch",
      .kind = FJ_OPT_INT,
      .at = AT(b.batch),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "samples of the training step, sequences of attention" },
    { .name = "length",
      .kind = FJ_OPT_INT,
      .at = AT(b.length),
      .lo = 2,
      .hi = 1 << 20,
      .value = "N",
      .help = "tokens of each of them" },
    { .name = "rank",
      .kind = FJ_OPT_INT,
      .at = AT(b.rank),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "rank of the adapter on all linear layers" },
    { .name = "full",
      .kind = FJ_OPT_FLAG,
      .at = AT(w.full),
      .help = "train every weight, in f32, instead of an adapter" },
    { .name = "recompute",
      .kind = FJ_OPT_INT,
      .at = AT(b.recompute),
      .lo = -1,
      .hi = 4096,
      .value = "N",
      .help = "layers that a training step computes twice to save memory",
      .unset = "-1: as few as the device's memory allows" },
    { .name = "repeat",
      .kind = FJ_OPT_INT,
      .at = AT(b.repeat),
      .lo = 1,
      .hi = 1000,
      .value = "N",
      .help = "measure N times; the median is said" },
    FJ_DEVICE_ROW(AT(device), FJ_DEVICE_AUTO),
    { .name = "threads",
      .letter = 'j',
      .kind = FJ_OPT_INT,
      .at = AT(threads),
      .hi = 4096,
      .value = "N",
      .help = "threads to compute with",
      .unset = "as many as this process may use" },
    { .name = "f32", .kind = FJ_OPT_FLAG, .at = AT(f32), .help = "every product in f32" },
    { .name = "memory",
      .kind = FJ_OPT_SIZE,
      .at = AT(memory),
      .lo = 1 << 20,
      .hi = 1e15,
      .value = "SIZE",
      .help = "read so much to see how fast memory is",
      .unset = "as much as the weights hold; 2GiB at most, and for peak, or an eighth of a small "
               "machine's" },
    { .name = "profile",
      .kind = FJ_OPT_FLAG,
      .at = AT(profile),
      .help = "run once more, and say where the time goes, op by op (CPU)" },
    { .name = "fresh",
      .kind = FJ_OPT_FLAG,
      .at = AT(fresh),
      .help = "peak: measure again, whatever is kept" },
    { .name = "json", .kind = FJ_OPT_FLAG, .at = AT(json), .help = "one JSON object" },
    { 0 },
};

enum { STREAMS = 16, SHAPES = 32 }; /* at most so many --streams, shapes of weights */

typedef struct bench {
    const opts *o;
    fj_dev *dev;
    fj_model *m;
    fj_bench_results r;
    int64_t streams[STREAMS];
    int n_streams;
} bench;

static bool parse_streams(bench *b, fj_err *e) {
    const fj_list *l = &b->o->streams;
    b->streams[0] = b->n_streams = 1;
    if (!l->n) return true;
    if (l->n > STREAMS)
        return fj_fail(e, FJ_EINVAL, "--streams can be given %d times at most", STREAMS);
    for (size_t i = 0; i < l->n; i++) {
        fj_opt one = { .name = "streams", .kind = FJ_OPT_INT, .lo = 1, .hi = 4096 };
        if (!fj_opt_set(&one, &b->streams[i], "--streams", l->v[i], e)) return false;
    }
    b->n_streams = (int)l->n;
    return true;
}

/* Options that nothing would come of. */
static bool sensible(const bench *b, const fj_call *c, fj_err *e) {
    const opts *o = b->o;
    const fj_bench_what *w = &o->w;
    bool peak = c->n_args && !strcmp(c->args[0], "peak");
    if (o->fresh && !peak) return fj_fail(e, FJ_EINVAL, "--fresh is for `forja bench peak`");
    if (c->n_args && !peak &&
        (o->shape || w->config || w->layers || w->width || w->heads || w->kv_heads || w->ffn ||
         w->vocab || w->pure || w->type != defaults.w.type))
        return fj_fail(e, FJ_EINVAL,
                       "%s has a shape and formats of its own: give either a MODEL or "
                       "the shape and --type of a random one",
                       c->args[0]);
    int64_t most = 0;
    for (int i = 0; i < b->n_streams; i++) most = FJ_MAX(most, b->streams[i]);
    if (o->b.adapters > most)
        return fj_fail(e, FJ_EINVAL, "--adapters %lld wants as many --streams, not %lld",
                       (long long)o->b.adapters, (long long)most);
    return true;
}

static bool open_model(bench *b, fj_call *c, fj_err *e) {
    fj_bench_what w = b->o->w;
    w.shape = b->o->shape;
    double t0 = fj_clock();
    b->m = c->n_args ? fj_model_open(b->dev, c->args[0], &(fj_model_opts){ .trainable = w.full },
                                     &c->term->log, e)
                     : fj_bench_model(b->dev, &w, e);
    if (!b->m) return false;
    b->r.open_s = fj_clock() - t0;
    fj_model_about(b->m, &b->r.info);
    return true;
}

static fj_bench_result *next(bench *b, fj_bench_opts *x, const char *what) {
    FJ_GROW(b->r.v, b->r.n + 1, b->r.cap);
    fj_bench_result *r = &b->r.v[b->r.n++];
    *r = (fj_bench_result){ .what = what };
    x->profile = b->o->profile ? &r->profile : NULL;
    return r;
}

static bool measure_decode(bench *b, fj_bench_opts x, fj_err *e) {
    bool ok = true;
    int64_t adapters = x.adapters;
    for (int i = 0; i < b->n_streams; i++)
        for (int with = 0; ok && with <= (adapters > 0 && adapters <= b->streams[i]); with++) {
            fj_bench_result *r = next(b, &x, "decode");
            x.streams = b->streams[i];
            x.adapters = with ? adapters : 0;
            int n = snprintf(r->about, sizeof r->about, "%lld stream%s, %lld tokens behind",
                             (long long)x.streams, x.streams > 1 ? "s" : "", (long long)x.context);
            if (with)
                snprintf(r->about + n, sizeof r->about - (size_t)n, ", %lld adapter%s of rank %lld",
                         (long long)adapters, adapters > 1 ? "s" : "", (long long)x.rank);
            ok = fj_bench_decode(b->m, &x, &r->s, e);
        }
    return ok;
}

static bool measure_step(bench *b, fj_bench_opts x, fj_err *e) {
    bool full = b->o->w.full;
    fj_bench_result *r = next(b, &x, full ? "full step" : "lora step");
    bool ok = fj_bench_step(b->m, &x, &r->s, e);
    fj_str s = { 0 };
    fj_str_addf(&s, "%lld x %lld tokens", (long long)x.batch, (long long)x.length);
    if (!full) fj_str_addf(&s, ", rank %lld", (long long)x.rank);
    if (r->s.recomputed) fj_str_addf(&s, ", %lld layers recomputed", (long long)r->s.recomputed);
    snprintf(r->about, sizeof r->about, "%s", s.s);
    fj_str_free(&s);
    return ok;
}

/* Every shape of weight: forward, and both gradients. */
static bool measure_gemm(bench *b, fj_bench_opts x, fj_err *e) {
    static const char *const names[] = { "gemm", "gemm dx", "gemm dw" };
    const fj_weight *w[SHAPES];
    int n = fj_bench_shapes_of(b->m, w, SHAPES);
    bool ok = true;
    for (int i = 0; i < n; i++)
        for (int k = FJ_FORWARD; ok && k <= FJ_DW; k++) {
            fj_bench_result *r = next(b, &x, names[k]);
            snprintf(r->about, sizeof r->about, "%lld x %lld x %lld, %s", (long long)x.rows,
                     (long long)w[i]->rows, (long long)w[i]->cols, fj_dtype_get(w[i]->dtype)->name);
            ok = fj_bench_gemm(b->m, w[i], (fj_product)k, &x, &r->s, e);
        }
    return ok;
}

static bool measure_attention(bench *b, fj_bench_opts x, fj_err *e) {
    static const char *const names[] = { "attention", "attention bwd" };
    bool ok = true;
    for (int k = 0; ok && k < 2; k++) {
        fj_bench_result *r = next(b, &x, names[k]);
        snprintf(r->about, sizeof r->about, "%lld x %lld tokens, one layer", (long long)x.batch,
                 (long long)x.length);
        ok = fj_bench_attention(b->m, k == 1, &x, &r->s, e);
    }
    return ok;
}

/* Of the file that was given, or of one with the random weights. */
static bool measure_load(bench *b, fj_call *c, fj_bench_opts x, fj_err *e) {
    fj_bench_result *r = next(b, &x, "load");
    char *path = NULL;
    bool ok = true;
    if (!c->n_args) {
        const char *dir = getenv("TMPDIR");
        fj_str s = { 0 };
        fj_str_addf(&s, "%s/forja-bench-%d.gguf", dir && *dir ? dir : "/tmp", (int)getpid());
        path = fj_str_take(&s);
        ok = fj_bench_save(b->m, path, &b->o->w, &c->term->log, e);
    }
    snprintf(r->about, sizeof r->about, "a file to its first token");
    ok = ok && fj_bench_load(b->dev, path ? path : c->args[0], &x, &r->s, e);
    if (path) unlink(path);
    free(path);
    return ok;
}

/* What was measured before something failed is shown, too.  Peaks come last: the memory that is read for them
 * is none of the model's. */
static bool measure(bench *b, fj_call *c, fj_err *e) {
    const opts *o = b->o;
    fj_bench_opts x = o->b;
    x.log = &c->term->log;
    bool ok = true, all = o->only == ALL;
    if (all || o->only == DECODE) ok = measure_decode(b, x, e);
    if (ok && (all || o->only == PREFILL)) {
        fj_bench_result *r = next(b, &x, "prefill");
        snprintf(r->about, sizeof r->about, "%lld tokens", (long long)x.prompt);
        ok = fj_bench_prefill(b->m, &x, &r->s, e);
    }
    if (ok && (all || o->only == STEP)) ok = measure_step(b, x, e);
    if (ok && o->only == GEMM) ok = measure_gemm(b, x, e);
    if (ok && o->only == ATTENTION) ok = measure_attention(b, x, e);
    if (ok && o->only == LOAD) ok = measure_load(b, c, x, e);
    if (!ok && b->r.n) fj_profile_free(&b->r.v[--b->r.n].profile); /* the one that failed */
    fj_bench_note_memory(&b->r);
    fj_peak_opts p = { .repeat = FJ_MAX(x.repeat, 8), .bytes = o->memory, .set = b->r.info.bytes };
    ok = (!b->r.n || fj_bench_peaks(b->dev, &p, b->r.peak, ok ? e : NULL)) && ok;
    for (size_t i = 0; i < b->r.n; i++) fj_profile_judge(&b->r.v[i].profile, b->r.peak);
    return ok;
}

/* `forja bench peak` */
static int peak(bench *b, fj_call *c) {
    const opts *o = b->o;
    fj_err e = { 0 };
    fj_machine_peaks p;
    if (!b->dev->kern) {
        fj_fail(&e, FJ_EUNSUP, "peaks are measured on a CPU: --device cpu");
        return fj_term_fail(c->term, &e);
    }
    bool kept = !o->fresh && fj_peaks_load(b->dev, &p);
    if (!kept) {
        fj_peak_opts x = { .repeat = o->b.repeat, .bytes = o->memory };
        if (!fj_peaks_measure(b->dev, &x, &p, &e)) return fj_term_fail(c->term, &e);
        if (!fj_peaks_save(&p, &e)) fj_term_say(c->term, FJ_WARN, "%s", e.msg);
    }
    fj_bench_show_peaks(&p, kept, o->json);
    return FJ_EXIT_OK;
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    bench b = { .o = o };
    fj_term_catch();
    if (!parse_streams(&b, &e) || !sensible(&b, c, &e)) {
        fj_term_fail(c->term, &e);
        return FJ_EXIT_USAGE;
    }
    b.r.dev = b.dev = fj_open_device(o->device, o->threads, o->f32, &e);
    if (!b.dev) return fj_term_fail(c->term, &e);
    int code = FJ_EXIT_OK;
    if (c->n_args && !strcmp(c->args[0], "peak")) code = peak(&b, c);
    else {
        bool ok = open_model(&b, c, &e);
        if (ok && o->save) ok = fj_bench_save(b.m, o->save, &o->w, &c->term->log, &e);
        else ok = ok && measure(&b, c, &e);
        if (b.r.n) fj_bench_show(&b.r, o->json);
        if (!ok) code = fj_term_fail(c->term, &e);
    }
    for (size_t i = 0; i < b.r.n; i++) fj_profile_free(&b.r.v[i].profile);
    free(b.r.v);
    fj_model_close(b.m);
    fj_dev_close(b.dev);
    return code;
}

const fj_cmd fj_cmd_bench = {
    .name = "bench",
    .args = "[MODEL|peak]",
    .summary =
        "Measure speed: decode, prefill and a training step, beside the peaks of this machine.",
    .manual =
        "Without MODEL the weights are random, in a known shape, in that of a config.json or in one of your\n"
        "own; TYPE gives each tensor the format that `forja quantize` would give it.  Each number is the median\n"
        "of its repeats, each peak the best.  Decode is held against the speed of reading memory, with weights,\n"
        "adapters, keys and values; the rest against multiply-adds on registers in the arithmetic of the\n"
        "weights' format.  Peaks of a CPU are measured in the same run, those of a GPU are of its data sheet,\n"
        "where it is known.  Memory is what is held on the device.\n\n"
        "--profile adds a table for each measurement: the ops of the graph by weight, their time, FLOPs and\n"
        "bytes of a run, and the share of the peak that limits them (over 100%: their bytes were in caches);\n"
        "what is left is outside of all ops.\n\n"
        "`forja bench peak` says what the machine can do, on one thread and on all: memory with and without\n"
        "huge pages, copies, multiply-adds.  It is kept in peaks.json under XDG_CACHE_HOME/forja or\n"
        "~/.cache/forja for this processor, these threads and this instruction set, until --fresh.\n\n"
        "  forja bench --type q8_0 --threads 2\n"
        "  forja bench model.gguf --only decode --streams 1 --streams 64 --adapters 16\n"
        "  forja bench --shape llama-3.2-1b --type q4_k_m --only prefill --profile\n"
        "  forja bench --shape embedded --full --only step",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .max_args = 1,
    .run = run,
};
