/* report.c - report.html of a run folder: one page that needs nothing else, with all text escaped. */
#include "base/fs.h"
#include "train/run.h"

#include <math.h>
#include <stdio.h>

enum { W = 720, H = 300, LEFT = 60, RIGHT = 12, TOP = 12, BOTTOM = 34, POINTS = 400 };

static void esc(fj_str *out, const char *s) {
    for (; s && *s; s++) switch (*s) {
        case '&': fj_str_add(out, "&amp;"); break;
        case '<': fj_str_add(out, "&lt;"); break;
        case '>': fj_str_add(out, "&gt;"); break;
        case '"': fj_str_add(out, "&quot;"); break;
        case '\'': fj_str_add(out, "&#39;"); break;
        default: fj_str_addc(out, *s);
        }
}

static const char style[] =
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:760px;"
    "margin:2em auto;padding:0 1em}table{border-collapse:collapse;margin:.5em 0}th,td{padding:.2em "
    ".9em;border-bottom:1px solid #8886;text-align:right}th:first-child,td:first-child{text-align:left}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.7em;border-radius:4px}"
    ".good{color:#187a3c}.bad{color:#c0392b}.note{border-left:4px solid #c0392b;padding-left:.8em}"
    "svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:currentColor}"
    "@media(prefers-color-scheme:dark){.good{color:#5fd38a}.bad{color:#ff8a7a}}";

/* ---- curve ------------------------------------------------------------------------------------ */
typedef struct fj_series {
    double *x, *y;
    size_t n, cap_x, cap_y;
} fj_series;

static void collect(const json_t *metrics, const char *key, fj_series *s) {
    size_t i;
    json_t *o;
    json_array_foreach(metrics, i, o) {
        const json_t *x = json_object_get(o, "step"), *y = json_object_get(o, key);
        if (!json_is_number(x) || !json_is_number(y) || !isfinite(json_number_value(y))) continue;
        FJ_GROW(s->x, s->n + 1, s->cap_x);
        FJ_GROW(s->y, s->n + 1, s->cap_y);
        s->x[s->n] = json_number_value(x);
        s->y[s->n++] = json_number_value(y);
    }
}

/* Long runs: means of equal shares, so that the page stays small. */
static void thin(fj_series *s) {
    if (s->n <= POINTS) return;
    size_t out = 0;
    for (size_t b = 0; b < POINTS; b++) {
        size_t from = b * s->n / POINTS, to = (b + 1) * s->n / POINTS;
        double x = 0, y = 0;
        for (size_t i = from; i < to; i++) {
            x += s->x[i];
            y += s->y[i];
        }
        s->x[out] = x / (double)(to - from);
        s->y[out++] = y / (double)(to - from);
    }
    s->n = out;
}

typedef struct fj_frame {
    double x0, x1, y0, y1;
} fj_frame;

static void widen(fj_frame *f, const fj_series *s) {
    for (size_t i = 0; i < s->n; i++) {
        f->x0 = fmin(f->x0, s->x[i]);
        f->x1 = fmax(f->x1, s->x[i]);
        f->y0 = fmin(f->y0, s->y[i]);
        f->y1 = fmax(f->y1, s->y[i]);
    }
}

static double px(const fj_frame *f, double x) {
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (W - LEFT - RIGHT);
}

static double py(const fj_frame *f, double y) {
    return TOP + (f->y1 - y) / (f->y1 - f->y0) * (H - TOP - BOTTOM);
}

static void draw(fj_str *out, const fj_frame *f, const fj_series *s, const char *colour,
                 bool dots) {
    if (!s->n) return;
    fj_str_addf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\" points=\"",
                colour);
    for (size_t i = 0; i < s->n; i++)
        fj_str_addf(out, "%s%.1f,%.1f", i ? " " : "", px(f, s->x[i]), py(f, s->y[i]));
    fj_str_add(out, "\"/>");
    for (size_t i = 0; i < s->n && (dots || s->n == 1); i++)
        fj_str_addf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", px(f, s->x[i]),
                    py(f, s->y[i]), colour);
}

static void curve(fj_str *out, const json_t *metrics) {
    fj_series train = { 0 }, held = { 0 };
    collect(metrics, "loss", &train);
    collect(metrics, "eval_loss", &held);
    thin(&train);
    thin(&held);
    if (train.n + held.n == 0) {
        fj_str_add(out, "<p>No step was logged.</p>");
    } else {
        fj_frame f = { INFINITY, -INFINITY, INFINITY, -INFINITY };
        widen(&f, &train);
        widen(&f, &held);
        if (!(f.x1 > f.x0)) f.x1 = f.x0 + 1;
        double margin = fmax((f.y1 - f.y0) * 0.05, 1e-3 * fmax(fabs(f.y1), 1e-3));
        f.y0 -= margin;
        f.y1 += margin;
        fj_str_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"loss by step\">", W,
                    H);
        for (int i = 0; i <= 4; i++) {
            double y = f.y0 + (f.y1 - f.y0) * i / 4, x = f.x0 + (f.x1 - f.x0) * i / 4;
            fj_str_addf(out,
                        "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#8884\"/>"
                        "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>"
                        "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>",
                        LEFT, W - RIGHT, py(&f, y), py(&f, y), LEFT - 6, py(&f, y) + 4, y,
                        px(&f, x), H - BOTTOM + 18, x);
        }
        draw(out, &f, &train, "#2f6fde", false);
        draw(out, &f, &held, "#d9711c", true);
        fj_str_addf(out,
                    "<text x=\"%d\" y=\"%d\" text-anchor=\"end\"><tspan fill=\"#2f6fde\">training"
                    "</tspan>%s step</text></svg>",
                    W - RIGHT, H - 4, held.n ? " <tspan fill=\"#d9711c\">held out</tspan>" : "");
    }
    free(train.x);
    free(train.y);
    free(held.x);
    free(held.y);
}

/* ---- tables ----------------------------------------------------------------------------------- */
static void cell(fj_str *out, double v) {
    if (isfinite(v)) fj_str_addf(out, "<td>%.5g</td>", v);
    else fj_str_add(out, "<td>not measured</td>");
}

static void table(fj_str *out, const char *title, const fj_report_row *rows, int n) {
    if (n < 1) return;
    fj_str_addf(out,
                "<h2>%s</h2><table><tr><th></th><th>base</th><th>tuned</th><th>change</th></tr>",
                title);
    for (int i = 0; i < n; i++) {
        fj_str_add(out, "<tr><td>");
        esc(out, rows[i].what);
        fj_str_add(out, "</td>");
        cell(out, rows[i].base);
        cell(out, rows[i].tuned);
        double change = rows[i].tuned - rows[i].base;
        double good = change * rows[i].better;
        if (isfinite(change))
            fj_str_addf(out, "<td class=\"%s\">%+.4g</td></tr>",
                        good > 0   ? "good"
                        : good < 0 ? "bad"
                                   : "",
                        change);
        else fj_str_add(out, "<td></td></tr>");
    }
    fj_str_add(out, "</table>");
}

static void example(fj_str *out, const fj_report_text *t) {
    const struct {
        const char *title, *text;
    } parts[] = { { "Prompt", t->prompt }, { "Base", t->base }, { "Tuned", t->tuned } };
    for (size_t i = 0; i < FJ_LEN(parts); i++) {
        if (!parts[i].text) continue;
        fj_str_addf(out, "<h3>%s</h3><pre>", parts[i].title);
        esc(out, parts[i].text);
        fj_str_add(out, "</pre>");
    }
}

static void file_section(fj_str *out, fj_run *run, const char *title, const char *name) {
    size_t n;
    char *text = fj_read_file(fj_run_path(run, name), 1 << 20, &n, NULL);
    if (!text) return; /* a run that ended early may have none */
    fj_str_addf(out, "<h2>%s</h2><pre>", title);
    esc(out, text);
    fj_str_add(out, "</pre>");
    free(text);
}

bool fj_run_report(fj_run *run, const fj_report *rep, fj_err *e) {
    json_t *metrics = fj_run_metrics(run, e);
    if (!metrics) return false;
    fj_str s = { 0 };
    char now[32];
    fj_utc(fj_now(), now);
    fj_str_add(&s, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                   "<meta name=\"viewport\" content=\"width=device-width\"><title>");
    esc(&s, fj_run_name(run));
    fj_str_addf(&s, "</title><style>%s</style></head><body>\n<h1>", style);
    esc(&s, fj_run_name(run));
    fj_str_addf(&s, "</h1><p>%s</p>", now);
    if (rep->note) {
        fj_str_add(&s, "<p class=\"note\">");
        esc(&s, rep->note);
        fj_str_add(&s, "</p>");
    }
    table(&s, "Task", rep->task, rep->n_task);
    table(&s, "General text (forgetting)", rep->general, rep->n_general);
    fj_str_add(&s, "<h2>Loss</h2>");
    curve(&s, metrics);
    if (rep->n_examples) fj_str_add(&s, "<h2>Examples</h2>");
    for (int i = 0; i < rep->n_examples; i++) example(&s, &rep->examples[i]);
    file_section(&s, run, "Recipe", "recipe.yaml");
    file_section(&s, run, "Manifest", "manifest.json");
    fj_str_add(&s, "</body></html>\n");
    json_decref(metrics);
    bool ok = fj_write_file(fj_run_path(run, "report.html"), s.s, s.n, e);
    fj_str_free(&s);
    return ok;
}
