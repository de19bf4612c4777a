/* cmd_runs.c - the runs of this user, from the registry. */
#include "base/fs.h"
#include "cli/opt.h"
#include "cli/term.h"
#include "formats/json.h"
#include "train/registry.h"
#include <inttypes.h>
#include <math.h>

typedef struct opts {
    int64_t limit;
    bool json;
} opts;
static const opts defaults = { .limit = 20 };
static const fj_opt table[] = {
    { .name = "limit",
      .letter = 'n',
      .kind = FJ_OPT_INT,
      .at = offsetof(opts, limit),
      .hi = 1e6,
      .value = "N",
      .help = "list the newest N; 0: all" },
    { .name = "json", .kind = FJ_OPT_FLAG, .at = offsetof(opts, json), .help = "one JSON value" },
    { 0 },
};

/* Text of the registry that is JSON itself; what is not stays text. */
static json_t *embedded(const char *text) {
    if (!text || !*text) return json_null();
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    return j ? j : fj_json_text(text, strlen(text));
}

static void put_text(json_t *o, const char *key, const char *s) {
    json_object_set_new(o, key, s ? fj_json_text(s, strlen(s)) : json_null());
}

static void put_when(json_t *o, const char *key, double t) {
    char when[32];
    if (t <= 0) return;
    fj_utc(t, when);
    put_text(o, key, when);
}

static json_t *run_json(const fj_run_info *r) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_integer(r->id));
    put_text(o, "name", r->name);
    put_text(o, "status", r->status);
    put_text(o, "folder", r->folder);
    put_when(o, "started", r->started);
    put_when(o, "finished", r->finished);
    put_text(o, "base_hash", r->base_hash);
    put_text(o, "data_hash", r->data_hash);
    json_object_set_new(o, "metrics", embedded(r->metrics));
    return o;
}

static int list(fj_call *c, fj_registry *g, fj_err *e) {
    const opts *o = c->opts;
    fj_run_list l = { 0 };
    if (!fj_registry_list(g, (int)o->limit, &l, e)) return fj_term_fail(c->term, e);
    if (o->json) {
        json_t *a = json_array();
        for (size_t i = 0; i < l.n; i++) json_array_append_new(a, run_json(&l.runs[i]));
        fj_print_json(a);
    } else if (!l.n) {
        fj_term_say(c->term, FJ_INFO, "there are no runs yet; forja train makes one");
    } else {
        fj_table t;
        fj_table_open(&t, 6, ">id", "started", ">took", "status", "name", "folder");
        for (size_t i = 0; i < l.n; i++) {
            const fj_run_info *r = &l.runs[i];
            fj_str took = { 0 }, name = { 0 }, folder = { 0 };
            char id[24], when[32];
            snprintf(id, sizeof id, "%" PRId64, r->id);
            fj_utc(r->started, when);
            if (r->finished > r->started) fj_put_time(&took, r->finished - r->started);
            fj_put_text(&name, r->name, strlen(r->name), false);
            fj_put_text(&folder, r->folder, strlen(r->folder), false);
            fj_table_row(&t, id, when, took.s, r->status, name.s, folder.s);
            fj_str_free(&took);
            fj_str_free(&name);
            fj_str_free(&folder);
        }
        fj_table_print(&t, stdout, 0);
    }
    fj_run_list_free(&l);
    return FJ_EXIT_OK;
}

static void show_pairs(const json_t *o, int indent) {
    fj_table t;
    const char *key;
    json_t *v;
    fj_table_open(&t, 2, "", "");
    json_object_foreach((json_t *)o, key, v) {
        fj_str k = { 0 }, s = { 0 };
        if (json_is_object(v) || json_is_null(v)) continue;
        fj_put_text(&k, key, strlen(key), false);
        if (json_is_string(v)) {
            fj_put_text(&s, json_string_value(v), json_string_length(v), false);
        } else {
            char *d = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
            if (d) fj_put_text(&s, d, strlen(d), false);
            free(d);
        }
        fj_table_row(&t, k.s, s.s);
        fj_str_free(&k);
        fj_str_free(&s);
    }
    fj_table_print(&t, stdout, indent);
}

static int show(fj_call *c, fj_registry *g, const char *which, fj_err *e) {
    const opts *o = c->opts;
    fj_run_list l = { 0 };
    fj_eval_list evals = { 0 };
    if (!fj_registry_get(g, which, &l, e)) return fj_term_fail(c->term, e);
    const fj_run_info *r = &l.runs[0];
    if (!fj_registry_evals(g, r->id, &evals, e)) {
        fj_run_list_free(&l);
        return fj_term_fail(c->term, e);
    }
    json_t *doc = run_json(r), *list = json_array();
    for (size_t i = 0; i < evals.n; i++) {
        const fj_eval_info *v = &evals.evals[i];
        json_t *x = json_object();
        put_text(x, "name", v->name);
        put_text(x, "which", v->which);
        put_when(x, "at", v->at);
        json_object_set_new(x, "result", embedded(v->result));
        json_array_append_new(list, x);
    }
    json_object_set_new(doc, "evaluations", list);
    put_text(doc, "recipe", r->recipe);
    if (o->json) {
        fj_print_json(doc);
    } else {
        json_object_del(doc, "recipe");
        json_object_del(doc, "evaluations");
        show_pairs(doc, 0);
        const json_t *metrics = json_object_get(doc, "metrics");
        if (json_object_size(metrics)) {
            printf("\nlast numbers\n");
            show_pairs(metrics, 2);
        }
        for (size_t i = 0; i < evals.n; i++) {
            json_t *x = embedded(evals.evals[i].result);
            printf("\nevaluation %s, %s\n", evals.evals[i].name, evals.evals[i].which);
            show_pairs(x, 2);
            json_decref(x);
        }
        if (r->recipe && *r->recipe) printf("\nrecipe\n%s", r->recipe);
        json_decref(doc);
    }
    fj_eval_list_free(&evals);
    fj_run_list_free(&l);
    return FJ_EXIT_OK;
}

static int run(fj_call *c) {
    fj_err e = { 0 };
    const char *verb = c->n_args ? c->args[0] : "list";
    bool showing = !strcmp(verb, "show");
    if ((!showing && strcmp(verb, "list")) || c->n_args != (showing ? 2 : c->n_args > 0)) {
        fj_term_say(c->term, FJ_INFO, "wants nothing, list, or show and the id or name of a run");
        return FJ_EXIT_USAGE;
    }
    fj_registry *g = fj_registry_open(NULL, &c->term->log);
    if (!g) return FJ_EXIT_FAILED; /* the warning said why */
    int rc = showing ? show(c, g, c->args[1], &e) : list(c, g, &e);
    fj_registry_close(g);
    return rc;
}

const fj_cmd fj_cmd_runs = {
    .name = "runs",
    .args = "[list | show ID|NAME]",
    .summary = "List the training runs of this user, or show one with its numbers and recipe.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .max_args = 2,
    .run = run,
};
