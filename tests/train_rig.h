/* train_rig.h - whole runs of forja/train.h on a tiny model of tests/golden and rows made here, and what
 * they leave behind: metrics without the clock, adapter bytes, evaluations.
 *
 *     rig_init();                                        rows, recipe, a registry of its own
 *     fj_train_result r = rig_train(&(rig){ .folder = "a" }, "max_steps=6", NULL);    must go well
 *     rig_same("a", "b");                                every number and every byte */
#ifndef FORJA_TRAIN_RIG_H
#define FORJA_TRAIN_RIG_H

#include "test_device.h"

#include "formats/json.h"

#include <forja/train.h>
#include <math.h>
#include <sys/stat.h>

typedef struct rig {
    const char *folder; /* under the test's folder */
    bool resume, no_eval, dry;
    const fj_log *log;
} rig;

enum { RIG_OVERRIDES = 40 };

static FJ_UNUSED void rig_write(const char *name, const char *text) {
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(fj_test_path(name), text, strlen(text), &e), e);
}

/* n rows of prompt and completion whose words are drawn from `seed`. */
static FJ_UNUSED void rig_rows(const char *name, int n, uint64_t seed) {
    static const char *const words[] = { "red", "blue",  "green", "cat", "dog", "bird",
                                         "sun", "stone", "river", "old", "new", "far" };
    fj_str s = { 0 };
    fj_rng r;
    fj_rng_seed(&r, seed);
    for (int i = 0; i < n; i++) {
        fj_str_add(&s, "{\"prompt\": \"Say");
        for (int k = 0, m = 1 + (int)(fj_rng_u64(&r) % 3); k < m; k++)
            fj_str_addf(&s, " %s", words[fj_rng_u64(&r) % FJ_LEN(words)]);
        fj_str_add(&s, "\", \"completion\": \"It");
        for (int k = 0, m = 1 + (int)(fj_rng_u64(&r) % 4); k < m; k++)
            fj_str_addf(&s, " %s", words[fj_rng_u64(&r) % FJ_LEN(words)]);
        fj_str_add(&s, ".\"}\n");
    }
    rig_write(name, s.s);
    fj_str_free(&s);
}

static FJ_UNUSED int rig_init(void **state) {
    (void)state;
    setenv("XDG_DATA_HOME", fj_test_path("data"), 1);
    rig_rows("rows.jsonl", 24, 1);
    rig_rows("eval.jsonl", 6, 2);
    rig_rows("general.jsonl", 4, 3);
    char text[2048];
    snprintf(text, sizeof text,
             "base: %s\ndata: rows.jsonl\neval_data: eval.jsonl\ngeneral_data: general.jsonl\n"
             "max_length: 64\nper_device_train_batch_size: 2\nmax_steps: 6\nlogging_steps: 1\n"
             "learning_rate: 0.01\nlora_r: 4\neval_max_new_tokens: 4\nthreads: 1\ndevice: \"%s\"\n",
             fj_test_source("tests/golden/tiny-default"), fj_test_device());
    rig_write("recipe.yaml", text);
    return 0;
}

/* overrides [n]; output_dir and threads are added. */
static FJ_UNUSED bool rig_run_list(const rig *g, const char *const *more, int n, fj_train_result *r,
                                   fj_err *e) {
    const char *o[RIG_OVERRIDES];
    char out[1100], recipe[1024];
    snprintf(out, sizeof out, "output_dir=%s", fj_test_path(g->folder));
    snprintf(recipe, sizeof recipe, "%s", fj_test_path("recipe.yaml"));
    int k = 0;
    o[k++] = out;
    for (int i = 0; i < n; i++) o[k++] = more[i];
    fj_train_opts t = { .recipe = recipe,
                        .overrides = o,
                        .n_overrides = k,
                        .resume = g->resume,
                        .dry_run = g->dry,
                        .no_eval = g->no_eval };
    return fj_train(&t, g->log, r, e);
}

static FJ_UNUSED int rig_list(const char *first, va_list ap, const char **o) {
    int n = 0;
    for (const char *s = first; s; s = va_arg(ap, const char *)) {
        assert_true(n < RIG_OVERRIDES - 1);
        o[n++] = s;
    }
    return n;
}

/* Overrides end with NULL. */
static FJ_UNUSED bool rig_try(const rig *g, fj_train_result *r, fj_err *e, const char *first, ...) {
    const char *o[RIG_OVERRIDES];
    va_list ap;
    va_start(ap, first);
    int n = rig_list(first, ap, o);
    va_end(ap);
    *e = (fj_err){ 0 };
    return rig_run_list(g, o, n, r, e);
}

static FJ_UNUSED fj_train_result rig_train(const rig *g, const char *first, ...) {
    const char *o[RIG_OVERRIDES];
    va_list ap;
    va_start(ap, first);
    int n = rig_list(first, ap, o);
    va_end(ap);
    fj_err e = { 0 };
    fj_train_result r;
    if (!rig_run_list(g, o, n, &r, &e)) fail_msg("%s: %s", g->folder, e.msg);
    return r;
}

static FJ_UNUSED const char *rig_path(const char *folder, const char *name) {
    char rel[512];
    snprintf(rel, sizeof rel, "%s/%s", folder, name);
    return fj_test_path(rel);
}

static FJ_UNUSED bool rig_has(const char *folder, const char *name) {
    return fj_exists(rig_path(folder, name));
}

static FJ_UNUSED json_t *rig_json(const char *folder, const char *name) {
    fj_err e = { 0 };
    json_t *j = fj_json_file(rig_path(folder, name), 1 << 24, &e);
    if (!j) fail_msg("%s", e.msg);
    return j;
}

/* Lines of metrics.jsonl without what the clock and the device's other memory decide. */
static FJ_UNUSED json_t *rig_metrics(const char *folder) {
    fj_err e = { 0 };
    size_t n;
    char *s = fj_read_file(rig_path(folder, "metrics.jsonl"), 1 << 24, &n, &e);
    if (!s) fail_msg("%s", e.msg);
    json_t *all = json_array();
    for (char *p = s, *nl; *p; p = nl + 1) {
        nl = strchr(p, '\n');
        if (!nl) fail_msg("%s: metrics.jsonl ends within a line: %s", folder, p);
        json_t *o = json_loadb(p, (size_t)(nl - p), JSON_REJECT_DUPLICATES, NULL);
        if (!o) fail_msg("%s: not a line of JSON: %.80s", folder, p);
        json_object_del(o, "tokens_per_s");
        json_object_del(o, "memory");
        json_array_append_new(all, o);
    }
    free(s);
    return all;
}

static FJ_UNUSED void rig_same_json(json_t *a, json_t *b, const char *what) {
    json_object_del(a, "seconds");
    json_object_del(b, "seconds");
    if (!json_equal(a, b)) {
        char *x = json_dumps(a, 0), *y = json_dumps(b, 0);
        print_error("%s\n%s\n", x, y);
        free(x);
        free(y);
        fail_msg("%s is not the same", what);
    }
    json_decref(a);
    json_decref(b);
}

static FJ_UNUSED void rig_same_file(const char *a, const char *b, const char *name) {
    fj_err e = { 0 };
    size_t na, nb;
    char *x = fj_read_file(rig_path(a, name), 1 << 26, &na, &e);
    char *y = x ? fj_read_file(rig_path(b, name), 1 << 26, &nb, &e) : NULL;
    if (!x || !y) fail_msg("%s", e.msg);
    if (na != nb || memcmp(x, y, na)) fail_msg("%s: %s and %s have other bytes", name, a, b);
    free(x);
    free(y);
}

/* Losses, evaluations and what was trained: the same bits in both folders. */
static FJ_UNUSED void rig_same(const char *a, const char *b) {
    static const char *const evals[] = { "eval/base.json", "eval/tuned.json", "eval/general.json" };
    static const char *const files[] = { "adapter/adapter_model.safetensors",
                                         "model/model.safetensors" };
    int n = 0;
    rig_same_json(rig_metrics(a), rig_metrics(b), "metrics.jsonl");
    for (size_t i = 0; i < FJ_LEN(evals); i++)
        if (rig_has(a, evals[i]))
            rig_same_json(rig_json(a, evals[i]), rig_json(b, evals[i]), evals[i]);
    for (size_t i = 0; i < FJ_LEN(files); i++)
        if (rig_has(a, files[i])) {
            rig_same_file(a, b, files[i]);
            n++;
        }
    assert_int_equal(n, 1);
}

#endif
