#include "lifecycle/adapter_check.h"

#include "base/fs.h"
#include "formats/json.h"

#include <math.h>
#include <stdio.h>

/* ---- effect --------------------------------------------------------------------------------------- */
/* Values from, from + step, ... n of them: is one not zero?  *bad: one is not finite. */
static bool any(const float *p, int64_t n, int64_t step, bool *bad) {
    bool some = false;
    for (int64_t i = 0; i < n; i++) {
        some |= p[i * step] != 0;
        *bad |= !isfinite(p[i * step]);
    }
    return some;
}

static bool pair_has_effect(const fj_lora_pair *p, const float *a, const float *b, bool *bad) {
    int64_t rows = p->out / p->mats;
    bool some = false;
    for (int64_t i = 0; i < p->mats * p->r;
         i++) { /* of experts: each with its own ranks and rows */
        int64_t mat = i / p->r, k = i % p->r;
        bool in = any(a + i * p->in, p->in, 1, bad);
        bool out = any(b + mat * rows * p->r + k, rows, p->r, bad);
        some |= in && out && p->scale != 0;
    }
    return some;
}

bool fj_adapter_has_effect(const fj_lora *l, const char *name, fj_err *e) {
    char *all = fj_try_alloc(l->bytes + 1, 1, "a copy of the adapter", e);
    if (!all) return false;
    bool ok = l->m->dev->fn->download(l->buf, 0, all, l->bytes, e), some = false;
    fj_arena names = { 0 };
    for (int i = 0; ok && i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        bool bad = !isfinite(p->scale);
        some |= pair_has_effect(p, (float *)(all + p->a), (float *)(all + p->b), &bad);
        if (bad)
            ok = fj_fail(e, FJ_EINVAL,
                         "%s: the adapter of %s has a value that is not a finite number: the "
                         "training went wrong; take an earlier checkpoint",
                         name, fj_weight_name(&l->m->w[p->w], &names));
    }
    fj_arena_free(&names);
    free(all);
    if (ok && !some)
        ok = fj_fail(e, FJ_EINVAL,
                     "%s: the adapter changes nothing: B A is zero in all of its %d pairs of "
                     "matrices, as before the first step of training; there is nothing to export",
                     name, l->n_pairs);
    return ok;
}

/* ---- base ----------------------------------------------------------------------------------------- */
static bool said_by_run(const char *path, const char *key, char hex[65]) {
    static const char *const above[] = { "manifest.json", "../manifest.json",
                                         "../../manifest.json" };
    *hex = 0;
    char *folder = fj_strdup(path);
    if (!fj_is_dir(path)) {
        free(folder);
        size_t n = (size_t)(fj_base_name(path) - path);
        folder = n ? fj_strndup(path, n) : fj_strdup(".");
    }
    for (size_t i = 0; !*hex && i < FJ_LEN(above); i++) {
        char *file = fj_path_join(folder, above[i]);
        json_t *m = fj_exists(file) ? fj_json_file(file, 1 << 24, NULL) : NULL;
        const char *said = json_string_value(json_object_get(m, key));
        if (said && strlen(said) == 64) memcpy(hex, said, 65);
        json_decref(m);
        free(file);
    }
    free(folder);
    return *hex;
}

bool fj_adapter_base_hash(const char *path, char hex[65]) {
    return said_by_run(path, "base_sha256", hex);
}

bool fj_adapter_base_stamp(const char *path, char hex[65]) {
    return said_by_run(path, "base_stamp", hex);
}

/* "meta/Llama-3" of "hub/meta/Llama-3/": the part behind the last separator, which ends no path. */
static const char *last_part(const char *path, size_t *n) {
    *n = strlen(path);
    while (*n && path[*n - 1] == '/') --*n;
    size_t from = *n;
    while (from && path[from - 1] != '/') from--;
    *n -= from;
    return path + from;
}

bool fj_adapter_has_base(const fj_lora *l, const char *path, const char *base_hash,
                         const fj_log *log, fj_err *e) {
    char was[65], now[65] = { 0 };
    const char *base = l->m->path;
    if (!fj_adapter_base_hash(path, was)) {
        size_t n, k;
        const char *a = last_part(l->base ? l->base : base, &n), *b = last_part(base, &k);
        if (n != k || memcmp(a, b, n))
            fj_log_message(log, FJ_WARN,
                           "%s says that its base is %s; whether %s is the same model is not known",
                           path, l->base, base);
        return true;
    }
    if (base_hash) snprintf(now, sizeof now, "%s", base_hash);
    else if (!fj_model_hash(l->m, now, e)) return false;
    if (!strcmp(was, now)) return true;
    return fj_fail(
        e, FJ_EINVAL,
        "%s was trained on another base than %s: SHA-256 %.12s... in the manifest.json of "
        "its run, %.12s... here; name the base that it was trained on",
        path, base, was, now);
}
