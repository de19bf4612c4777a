#include "cli/export_opts.h"
#include "cli/talk.h"

#include <math.h>

typedef struct shown {
    bool any, quiet;
} shown;

/* Tensors that were quantised, a line each as they are written: name, formats, what was lost. */
static void on_tensor(void *ctx, const fj_exported_tensor *t) {
    shown *s = ctx;
    if (s->quiet || isnan(t->rmse)) return;
    fj_str name = { 0 }, count = { 0 };
    fj_put_text(&name, t->name, strlen(t->name), false);
    fj_put_count(&count, (double)t->values);
    if (!s->any)
        printf("%-40s %8s  %-8s %-8s %10s %9s\n", "tensor", "values", "from", "to", "RMSE",
               "relative");
    s->any = true;
    printf("%-40s %8s  %-8s %-8s %10.3g %8.3f%%%s\n", name.s, count.s, t->from, t->to, t->rmse,
           100 * t->rmse / t->rms, t->merged ? "  merged" : "");
    fflush(stdout);
    fj_str_free(&name);
    fj_str_free(&count);
}

static void print(const fj_exported *r, bool any) {
    fj_str size = { 0 }, took = { 0 };
    fj_put_bytes(&size, (double)r->bytes);
    fj_put_time(&took, r->seconds_write);
    if (any) putchar('\n');
    printf("wrote %s in %s", size.s, took.s);
    fj_str_free(&took);
    if (r->table) {
        fj_put_time(&took, r->seconds_verify);
        printf(", compared in %s\n\n%s", took.s, r->table);
    } else {
        printf(", not compared\n");
    }
    if (r->note) printf("\n%s\n", r->note);
    fj_str_free(&size);
    fj_str_free(&took);
}

int fj_export_run(fj_call *c, const fj_export_cli *x, fj_export_opts *o) {
    fj_err e = { 0 };
    fj_exported r = { 0 };
    shown s = { .quiet = x->json };
    o->imatrix = x->imatrix;
    o->imatrix_chunks = x->chunks;
    o->tensor_types = (const char *const *)x->tensors.v;
    o->n_tensor_types = (int)x->tensors.n;
    o->max_bytes = x->max_bytes;
    o->force = x->force;
    o->no_verify = !x->verify;
    if (x->data.n) {
        o->data = (const char *const *)x->data.v;
        o->n_data = (int)x->data.n;
    }
    o->max_kl = x->max_kl;
    o->positions = x->positions;
    o->allow_text = x->allow_text;
    o->allow_ids = x->allow_ids;
    o->tensor = on_tensor;
    o->ctx = &s;
    o->log = &c->term->log;
    fj_term_catch();
    fj_dev *d = fj_open_device(x->device ? x->device : "cpu", x->threads, false, &e);
    bool ok = d && fj_export(d, o, &r, &e);
    fj_dev_close(d);
    if (r.report) {
        if (x->json) {
            json_t *j = json_loads(r.report, 0, NULL);
            json_object_set_new(j, "path", fj_json_text(r.path, strlen(r.path)));
            fj_print_json(j);
        } else {
            print(&r, s.any);
            if (ok) printf("\n%s\n", r.path);
        }
    }
    int code = ok ? FJ_EXIT_OK : fj_term_fail(c->term, &e);
    fj_exported_free(&r);
    return code;
}
