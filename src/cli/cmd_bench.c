/* cmd_bench.c - tokens a second of decode, prefill and a training step, beside what this machine can
 * do.  Peaks are measured in the same minute, because those of a shared machine move. */
#include "base/fs.h"
#include "cli/talk.h"
#include "lifecycle/bench.h"
#include <sys/resource.h>

typedef struct opts {
    const char *device;
    int shape, only;
    fj_bench_what w;
    const char *save;
    int64_t threads;
    fj_list streams;
    fj_bench_opts b;
    bool f32, json;
} opts;
enum { ALL, DECODE, PREFILL, STEP };
static const opts defaults = { .w.type = "bf16",
                               .b = { .repeat = 5,
                                      .context = 64,
                                      .tokens = 16,
                                      .prompt = 512,
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
      .value = "all|decode|prefill|step",
      .help = "measure this alone; step: one training step" },
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
    { .name = "batch",
      .kind = FJ_OPT_INT,
      .at = AT(b.batch),
      .lo = 1,
      .hi = 4096,
      .value = "N",
      .help = "samples of the training step" },
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
    { .name = "json", .kind = FJ_OPT_FLAG, .at = AT(json), .help = "one JSON object" },
    { 0 },
};

enum { STREAMS = 16 }; /* at most so many --streams */

typedef struct result {
    const char *what;
    char about[120];
    fj_speed s;
} result;

typedef struct bench {
    const opts *o;
    fj_dev *dev;
    fj_model *m;
    double peak[FJ_PEAKS];
    double open_s;
    int64_t streams[STREAMS];
    int n_streams;
    result r[2 * STREAMS + 2];
    int n;
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

static bool open_model(bench *b, fj_call *c, fj_err *e) {
    fj_bench_what w = b->o->w;
    w.shape = b->o->shape;
    b->m = c->n_args ? fj_model_open(b->dev, c->args[0], &(fj_model_opts){ .trainable = w.full },
                                     &c->term->log, e)
                     : fj_bench_model(b->dev, &w, e);
    return b->m != NULL;
}

static result *next(bench *b, const char *what) {
    b->r[b->n].what = what;
    return &b->r[b->n++];
}

static bool measure_decode(bench *b, fj_bench_opts x, fj_err *e) {
    bool ok = true;
    int64_t adapters = x.adapters;
    for (int i = 0; i < b->n_streams; i++)
        for (int with = 0; ok && with <= (adapters > 0 && adapters <= b->streams[i]); with++) {
            result *r = next(b, "decode");
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

/* What was measured before something failed is shown, too. */
static bool measure(bench *b, const fj_log *log, fj_err *e) {
    const opts *o = b->o;
    fj_bench_opts x = o->b;
    x.log = log;
    bool ok = fj_bench_peaks(b->dev, x.repeat, b->peak, e);
    if (ok && (o->only == ALL || o->only == DECODE)) ok = measure_decode(b, x, e);
    if (ok && (o->only == ALL || o->only == PREFILL)) {
        result *r = next(b, "prefill");
        snprintf(r->about, sizeof r->about, "%lld tokens", (long long)x.prompt);
        ok = fj_bench_prefill(b->m, &x, &r->s, e);
    }
    if (ok && (o->only == ALL || o->only == STEP)) {
        result *r = next(b, o->w.full ? "full step" : "lora step");
        ok = fj_bench_step(b->m, &x, &r->s, e);
        fj_str s = { 0 };
        fj_str_addf(&s, "%lld x %lld tokens", (long long)x.batch, (long long)x.length);
        if (!o->w.full) fj_str_addf(&s, ", rank %lld", (long long)x.rank);
        if (r->s.recomputed)
            fj_str_addf(&s, ", %lld layers recomputed", (long long)r->s.recomputed);
        snprintf(r->about, sizeof r->about, "%s", s.s);
        fj_str_free(&s);
    }
    if (!ok && b->n) b->n--; /* the one that failed */
    return ok;
}

/* The most that this process ever had in memory. */
static int64_t peak_rss(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)u.ru_maxrss * 1024; /* Linux counts KiB */
}

/* ---- output ------------------------------------------------------------------------------------- */

/* GFLOP/s, Gop/s or GB/s; in thousands where there are many. */
static void put_rate(fj_str *s, double rate, fj_peak_kind of) {
    const char *unit = of == FJ_PEAK_READ ? "B/s" : of == FJ_PEAK_INT8 ? "op/s" : "FLOP/s";
    bool many = rate >= 1e4;
    fj_str_addf(s, "%.1f %s%s", many ? rate / 1e3 : rate, many ? "T" : "G", unit);
}

static void print_peaks(const bench *b) {
    const char *between = ";";
    for (int i = 0; i < FJ_PEAKS; i++) {
        if (!(b->peak[i] > 0)) continue;
        fj_str s = { 0 };
        put_rate(&s, b->peak[i], (fj_peak_kind)i);
        printf("%s %.*s %s", between, (int)strcspn(fj_peak_names[i], " "), fj_peak_names[i], s.s);
        fj_str_free(&s);
        between = ",";
    }
}

static void print_table(const bench *b, const fj_model_info *info) {
    printf("model   %s, %lld parameters, %s\nmachine %s", info->path, (long long)info->params,
           info->formats, fj_dev_about(b->dev));
    print_peaks(b);
    printf("\n\n");
    fj_table t;
    fj_table_open(&t, 6, "what", "of", ">tokens/s", ">rate", "share of peak", ">memory");
    for (int i = 0; i < b->n; i++) {
        const result *r = &b->r[i];
        const fj_speed *s = &r->s;
        fj_str tok = { 0 }, rate = { 0 }, share = { 0 }, mem = { 0 };
        fj_str_addf(&tok, "%.1f", s->tokens_s);
        put_rate(&rate, s->rate, s->of == FJ_PEAK_READ ? FJ_PEAK_READ : FJ_PEAK_F32);
        if (b->peak[s->of] > 0)
            fj_str_addf(&share, "%.0f%% of %s", 100 * s->rate / b->peak[s->of],
                        fj_peak_names[s->of]);
        else fj_str_add(&share, "not known");
        fj_put_bytes(&mem, (double)s->held);
        fj_table_row(&t, r->what, r->about, tok.s, rate.s, share.s, mem.s);
        fj_str_free(&tok);
        fj_str_free(&rate);
        fj_str_free(&share);
        fj_str_free(&mem);
    }
    fj_table_print(&t, stdout, 0);
    fj_str rss = { 0 };
    fj_put_bytes(&rss, (double)peak_rss());
    printf("\nthe process held at most %s\n", rss.s);
    fj_str_free(&rss);
}

static void print_json(const bench *b, const fj_model_info *info) {
    json_t *o = json_object(), *peaks = json_object(), *list = json_array();
    int64_t now, most;
    fj_dev_memory(b->dev, &now, &most);
    json_object_set_new(o, "model", fj_json_text(info->path, strlen(info->path)));
    json_object_set_new(o, "formats", json_string(info->formats));
    json_object_set_new(o, "parameters", json_integer(info->params));
    json_object_set_new(o, "device", json_string(fj_dev_about(b->dev)));
    json_object_set_new(o, "device_kind", json_string(b->dev->fn->name));
    json_object_set_new(o, "weights_bytes", json_integer(info->bytes));
    json_object_set_new(o, "seconds_to_open", json_real(b->open_s));
    for (int i = 0; i < FJ_PEAKS; i++)
        if (b->peak[i] > 0) json_object_set_new(peaks, fj_peak_names[i], json_real(b->peak[i]));
    json_object_set_new(o, "peaks", peaks);
    const char *from = b->dev->kern              ? "measured"
                       : json_object_size(peaks) ? "data sheet"
                                                 : "not known";
    json_object_set_new(o, "peaks_from", json_string(from));
    for (int i = 0; i < b->n; i++) {
        const result *r = &b->r[i];
        const fj_speed *s = &r->s;
        json_t *x = json_object();
        json_object_set_new(x, "what", json_string(r->what));
        json_object_set_new(x, "of", json_string(r->about));
        json_object_set_new(x, "tokens", json_integer(s->tokens));
        json_object_set_new(x, "seconds", json_real(s->seconds));
        json_object_set_new(x, "seconds_least", json_real(s->fastest));
        json_object_set_new(x, "seconds_most", json_real(s->slowest));
        json_object_set_new(x, "tokens_per_s", json_real(s->tokens_s));
        json_object_set_new(x, "flops", json_real(s->flops));
        json_object_set_new(x, "bytes_moved", json_real(s->bytes));
        json_object_set_new(x, "rate", json_real(s->rate));
        json_object_set_new(x, "unit", json_string(s->of == FJ_PEAK_READ ? "GB/s" : "GFLOP/s"));
        json_object_set_new(x, "peak", json_string(fj_peak_names[s->of]));
        json_object_set_new(x, "share_of_peak",
                            b->peak[s->of] > 0 ? json_real(s->rate / b->peak[s->of]) : json_null());
        if (s->planned) {
            json_object_set_new(x, "planned_bytes", json_integer(s->planned));
            json_object_set_new(x, "recomputed_layers", json_integer(s->recomputed));
        }
        json_object_set_new(x, "held_bytes", json_integer(s->held));
        json_array_append_new(list, x);
    }
    json_object_set_new(o, "results", list);
    json_object_set_new(o, "device_peak_bytes", json_integer(most));
    json_object_set_new(o, "peak_rss_bytes", json_integer(peak_rss()));
    fj_print_json(o);
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    bench b = { .o = o };
    fj_term_catch();
    if (!parse_streams(&b, &e)) {
        fj_term_fail(c->term, &e);
        return FJ_EXIT_USAGE;
    }
    bool ok = (b.dev = fj_open_device(o->device, o->threads, o->f32, &e));
    double t0 = fj_clock();
    ok = ok && open_model(&b, c, &e);
    b.open_s = fj_clock() - t0;
    if (ok && o->save) ok = fj_bench_save(b.m, o->save, &o->w, &c->term->log, &e);
    else ok = ok && measure(&b, &c->term->log, &e);
    if (!o->save && (ok || b.n)) {
        fj_model_info info;
        fj_model_about(b.m, &info);
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
    .summary =
        "Measure speed: decode, prefill and a training step, beside the peaks of this machine.",
    .manual =
        "Without MODEL the weights are random, in a known shape or in one of your own. Each number\n"
        "is the median of its repeats, each peak the best. Decode is held against the speed of\n"
        "reading memory, with weights, adapters, keys and values; the rest against multiply-adds on\n"
        "registers in the arithmetic of the weights' format. Peaks of a CPU are measured, those of a\n"
        "GPU are of its data sheet, where it is known. Memory is what is held on the device.\n\n"
        "  forja bench --type q8_0 --threads 2\n"
        "  forja bench model.gguf --only decode --streams 1 --streams 64 --adapters 16\n"
        "  forja bench --shape embedded --full --only step",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .max_args = 1,
    .run = run,
};
