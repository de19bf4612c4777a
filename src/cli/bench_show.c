#include "cli/bench_show.h"
#include "base/fs.h"
#include "cli/term.h"

#include <sys/resource.h>

void fj_bench_note_memory(fj_bench_results *b) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    b->rss = (int64_t)u.ru_maxrss * 1024; /* Linux counts KiB */
    fj_dev_memory(b->dev, NULL, &b->held);
}

/* GFLOP/s, Gop/s or GB/s; in thousands where there are many. */
static void put_rate(fj_str *s, double rate, fj_peak_kind of) {
    const char *unit = of >= FJ_PEAK_READ ? "B/s" : of == FJ_PEAK_INT8 ? "op/s" : "FLOP/s";
    bool many = rate >= 1e4;
    fj_str_addf(s, "%.1f %s%s", many ? rate / 1e3 : rate, many ? "T" : "G", unit);
}

static void print_peaks(const fj_bench_results *b) {
    const char *between = ";";
    for (int i = 0; i < FJ_PEAKS; i++) {
        if (!(b->peak[i].best > 0)) continue;
        fj_str s = { 0 };
        put_rate(&s, b->peak[i].best, (fj_peak_kind)i);
        printf("%s %.*s %s", between, (int)strcspn(fj_peak_names[i], " "), fj_peak_names[i], s.s);
        fj_str_free(&s);
        between = ",";
    }
}

/* What takes less than a thousandth is left to the last line. */
static void print_profile(const fj_bench_result *r) {
    const fj_profile *p = &r->profile;
    fj_table t;
    printf("\n%s, %s: %.3f ms\n", r->what, r->about, p->seconds * 1e3);
    fj_table_open(&t, 8, "op", "weight", ">calls", ">ms", ">share", ">GFLOP/s", ">GB/s", "limit");
    double rest = p->outside;
    for (size_t i = 0; i < p->n; i++) {
        const fj_profile_row *x = &p->v[i];
        if (x->seconds < p->seconds / 1000) {
            rest += x->seconds;
            continue;
        }
        fj_str s[7] = { { 0 } };
        for (int k = 0; k < 7; k++) fj_str_add(&s[k], "");
        if (x->rows)
            fj_str_addf(&s[0], "%lld x %lld %s", (long long)x->rows, (long long)x->cols,
                        fj_dtype_get(x->type)->name);
        fj_str_addf(&s[1], "%.0f", x->calls);
        fj_str_addf(&s[2], "%.3f", x->seconds * 1e3);
        fj_str_addf(&s[3], "%.1f%%", 100 * x->seconds / p->seconds);
        if (x->flops > 0) fj_str_addf(&s[4], "%.1f", x->flops / x->seconds / 1e9);
        fj_str_addf(&s[5], "%.1f", x->bytes / x->seconds / 1e9);
        if (x->share > 0)
            fj_str_addf(&s[6], "%.0f%% of %.*s", 100 * x->share,
                        (int)strcspn(fj_peak_names[x->of], " "), fj_peak_names[x->of]);
        fj_table_row(&t, x->op, s[0].s, s[1].s, s[2].s, s[3].s, s[4].s, s[5].s, s[6].s);
        for (int k = 0; k < 7; k++) fj_str_free(&s[k]);
    }
    fj_str ms = { 0 }, share = { 0 };
    fj_str_addf(&ms, "%.3f", rest * 1e3);
    fj_str_addf(&share, "%.1f%%", 100 * rest / p->seconds);
    fj_table_row(&t, "outside, and short ops", "", "", ms.s, share.s, "", "", "");
    fj_str_free(&ms);
    fj_str_free(&share);
    fj_table_print(&t, stdout, 2);
}

static void print_table(const fj_bench_results *b) {
    const fj_model_info *info = &b->info;
    printf("model   %s, %lld parameters, %s\nmachine %s", info->path, (long long)info->params,
           info->formats, fj_dev_about(b->dev));
    print_peaks(b);
    printf("\n\n");
    fj_table t;
    fj_table_open(&t, 6, "what", "of", ">tokens/s", ">rate", "share of peak", ">memory");
    for (size_t i = 0; i < b->n; i++) {
        const fj_bench_result *r = &b->v[i];
        const fj_speed *s = &r->s;
        fj_str tok = { 0 }, rate = { 0 }, share = { 0 }, mem = { 0 };
        fj_str_addf(&tok, "%.1f", s->tokens_s);
        put_rate(&rate, s->rate, s->of == FJ_PEAK_READ ? FJ_PEAK_READ : FJ_PEAK_F32);
        if (b->peak[s->of].best > 0)
            fj_str_addf(&share, "%.0f%% of %s", 100 * s->rate / b->peak[s->of].best,
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
    for (size_t i = 0; i < b->n; i++)
        if (b->v[i].profile.n) print_profile(&b->v[i]);
    fj_str rss = { 0 };
    fj_put_bytes(&rss, (double)b->rss);
    printf("\nthe process held at most %s\n", rss.s);
    fj_str_free(&rss);
}

static json_t *profile_json(const fj_profile *p) {
    json_t *o = json_object(), *list = json_array();
    json_object_set_new(o, "seconds", json_real(p->seconds));
    json_object_set_new(o, "seconds_outside", json_real(p->outside));
    for (size_t i = 0; i < p->n; i++) {
        const fj_profile_row *x = &p->v[i];
        json_t *r = json_object();
        json_object_set_new(r, "op", json_string(x->op));
        if (x->rows) {
            json_object_set_new(r, "weight", json_string(fj_dtype_get(x->type)->name));
            json_object_set_new(r, "rows", json_integer(x->rows));
            json_object_set_new(r, "cols", json_integer(x->cols));
        }
        json_object_set_new(r, "calls", json_real(x->calls));
        json_object_set_new(r, "seconds", json_real(x->seconds));
        json_object_set_new(r, "flops", json_real(x->flops));
        json_object_set_new(r, "bytes", json_real(x->bytes));
        json_object_set_new(r, "limit", json_string(fj_peak_names[x->of]));
        json_object_set_new(r, "share_of_peak", x->share > 0 ? json_real(x->share) : json_null());
        json_array_append_new(list, r);
    }
    json_object_set_new(o, "ops", list);
    return o;
}

static void print_json(const fj_bench_results *b) {
    const fj_model_info *info = &b->info;
    json_t *o = json_object(), *peaks = json_object(), *list = json_array();
    json_object_set_new(o, "model", fj_json_text(info->path, strlen(info->path)));
    json_object_set_new(o, "formats", json_string(info->formats));
    json_object_set_new(o, "parameters", json_integer(info->params));
    json_object_set_new(o, "device", json_string(fj_dev_about(b->dev)));
    json_object_set_new(o, "device_kind", json_string(b->dev->fn->name));
    json_object_set_new(o, "weights_bytes", json_integer(info->bytes));
    json_object_set_new(o, "seconds_to_open", json_real(b->open_s));
    for (int i = 0; i < FJ_PEAKS; i++)
        if (b->peak[i].best > 0)
            json_object_set_new(peaks, fj_peak_names[i], json_real(b->peak[i].best));
    json_object_set_new(o, "peaks", peaks);
    const char *from = b->dev->kern              ? "measured"
                       : json_object_size(peaks) ? "data sheet"
                                                 : "not known";
    json_object_set_new(o, "peaks_from", json_string(from));
    for (size_t i = 0; i < b->n; i++) {
        const fj_bench_result *r = &b->v[i];
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
                            b->peak[s->of].best > 0 ? json_real(s->rate / b->peak[s->of].best)
                                                    : json_null());
        if (s->planned) {
            json_object_set_new(x, "planned_bytes", json_integer(s->planned));
            json_object_set_new(x, "recomputed_layers", json_integer(s->recomputed));
        }
        json_object_set_new(x, "held_bytes", json_integer(s->held));
        if (r->profile.n) json_object_set_new(x, "profile", profile_json(&r->profile));
        json_array_append_new(list, x);
    }
    json_object_set_new(o, "results", list);
    json_object_set_new(o, "device_peak_bytes", json_integer(b->held));
    json_object_set_new(o, "peak_rss_bytes", json_integer(b->rss));
    fj_print_json(o);
}

void fj_bench_show(const fj_bench_results *b, bool json) {
    if (json) print_json(b);
    else print_table(b);
}

/* ---- peaks --------------------------------------------------------------------------------------- */
static json_t *rates(const fj_peak_rates r[FJ_PEAKS]) {
    json_t *o = json_object();
    for (int i = 0; i < FJ_PEAKS; i++)
        json_object_set_new(o, fj_peak_names[i],
                            json_pack("{s:f, s:f, s:f}", "least", r[i].least, "median", r[i].median,
                                      "best", r[i].best));
    return o;
}

void fj_bench_show_peaks(const fj_machine_peaks *p, bool kept, bool json) {
    if (json) {
        json_t *o = json_pack("{s:s, s:s, s:b}", "machine", p->machine, "measured", p->measured,
                              "kept", kept);
        json_object_set_new(o, "one_thread", rates(p->one));
        json_object_set_new(o, "all_threads", rates(p->all));
        fj_print_json(o);
        return;
    }
    printf("machine %s\nmeasured %s%s\n\n", p->machine, p->measured,
           kept ? ", and kept since: --fresh measures again" : "");
    fj_table t;
    fj_table_open(&t, 5, "peak", ">one thread", ">least to best", ">all threads", ">least to best");
    for (int i = 0; i < FJ_PEAKS; i++) {
        const fj_peak_rates *of[] = { &p->one[i], &p->all[i] };
        fj_str s[4] = { { 0 } };
        for (int k = 0; k < 2; k++) {
            fj_str_addf(&s[2 * k], "%.1f", of[k]->median);
            fj_str_addf(&s[2 * k + 1], "%.1f to %.1f", of[k]->least, of[k]->best);
        }
        fj_table_row(&t, fj_peak_names[i], s[0].s, s[1].s, s[2].s, s[3].s);
        for (int k = 0; k < 4; k++) fj_str_free(&s[k]);
    }
    fj_table_print(&t, stdout, 0);
}
