#include "formats/hf.h"

#include "base/fs.h"

enum { MAX_CONFIG = 16 << 20, MAX_FILE = 512 << 20 };

/* *ok false: it is there and broken. */
static json_t *optional(const char *dir, const char *name, bool *ok, fj_err *e) {
    char *path = fj_path_join(dir, name);
    json_t *j = NULL;
    if (*ok && fj_exists(path)) {
        j = fj_json_file(path, MAX_CONFIG, e);
        *ok = j != NULL;
    }
    free(path);
    return j;
}

static bool there(const char *dir, const char *name) {
    char *path = fj_path_join(dir, name);
    bool yes = fj_exists(path);
    free(path);
    return yes;
}

fj_hf *fj_hf_open(const char *dir, fj_err *e) {
    if (!fj_is_dir(dir)) {
        fj_fail(e, FJ_EIO, "%s is not a folder", dir);
        return NULL;
    }
    if (!there(dir, "config.json")) {
        fj_fail(e, FJ_EIO, "%s is not a model folder: looked for config.json", dir);
        return NULL;
    }
    fj_hf *h = fj_zalloc(sizeof *h);
    bool ok = true;
    h->dir = fj_strdup(dir);
    h->config = optional(dir, "config.json", &ok, e);
    h->generation = optional(dir, "generation_config.json", &ok, e);
    h->tokenizer_config = optional(dir, "tokenizer_config.json", &ok, e);
    h->has_tokenizer = there(dir, "tokenizer.json");
    h->has_weights = there(dir, "model.safetensors") || there(dir, "model.safetensors.index.json");
    if (ok) return h;
    fj_hf_close(h);
    return NULL;
}

void fj_hf_close(fj_hf *h) {
    if (!h) return;
    json_decref(h->config);
    json_decref(h->generation);
    json_decref(h->tokenizer_config);
    free(h->dir);
    free(h);
}

char *fj_hf_load(const fj_hf *h, const char *name, size_t *n, fj_err *e) {
    char *path = fj_path_join(h->dir, name), *text = NULL;
    if (!fj_exists(path)) fj_fail(e, FJ_EIO, "%s is missing in the model folder %s", name, h->dir);
    else text = fj_read_file(path, MAX_FILE, n, e);
    free(path);
    return text;
}

/* ---- getters --------------------------------------------------------------------------------- */
json_t *fj_js_find(const json_t *o, const char *key) {
    json_t *j = (json_t *)(uintptr_t)o;
    for (const char *dot; j; key = dot + 1) {
        dot = strchr(key, '.');
        char part[128];
        size_t n = dot ? (size_t)(dot - key) : strlen(key);
        if (n >= sizeof part) return NULL;
        memcpy(part, key, n);
        part[n] = 0;
        j = json_object_get(j, part);
        if (!dot) break;
    }
    return json_is_null(j) ? NULL : j;
}

static bool wrong(const char *file, const char *key, const char *expected, const json_t *j,
                  fj_err *e) {
    return fj_fail(e, FJ_EFORMAT, "%s: %s is %s, expected %s", file, key, fj_json_kind(j),
                   expected);
}

bool fj_js_int_opt(const json_t *o, const char *file, const char *key, int64_t *v, fj_err *e) {
    json_t *j = fj_js_find(o, key);
    if (!j) return true;
    if (!json_is_integer(j)) return wrong(file, key, "an integer", j, e);
    *v = json_integer_value(j);
    return true;
}

bool fj_js_float_opt(const json_t *o, const char *file, const char *key, double *v, fj_err *e) {
    json_t *j = fj_js_find(o, key);
    if (!j) return true;
    if (!json_is_number(j)) return wrong(file, key, "a number", j, e);
    *v = json_number_value(j);
    return true;
}

bool fj_js_bool_opt(const json_t *o, const char *file, const char *key, bool *v, fj_err *e) {
    json_t *j = fj_js_find(o, key);
    if (!j) return true;
    if (!json_is_boolean(j)) return wrong(file, key, "true or false", j, e);
    *v = json_is_true(j);
    return true;
}

bool fj_js_string_opt(const json_t *o, const char *file, const char *key, const char **v,
                      fj_err *e) {
    json_t *j = fj_js_find(o, key);
    if (!j) return true;
    if (!json_is_string(j)) return wrong(file, key, "a string", j, e);
    *v = json_string_value(j);
    return true;
}

/* What is read from config.json is named by its folder as well. */
static char *config_name(const fj_hf *h) { return fj_path_join(h->dir, "config.json"); }

#define GETTERS(kind, ctype, text)                                                                 \
    bool fj_js_##kind(const json_t *o, const char *file, const char *key, ctype *v, fj_err *e) {   \
        *v = 0;                                                                                    \
        if (!fj_js_find(o, key))                                                                   \
            return fj_fail(e, FJ_EFORMAT, "%s: %s (%s) is missing", file, key, text);              \
        return fj_js_##kind##_opt(o, file, key, v, e);                                             \
    }                                                                                              \
    bool fj_hf_##kind(const fj_hf *h, const char *key, ctype *v, fj_err *e) {                      \
        char *file = config_name(h);                                                               \
        bool ok = fj_js_##kind(h->config, file, key, v, e);                                        \
        free(file);                                                                                \
        return ok;                                                                                 \
    }                                                                                              \
    bool fj_hf_##kind##_opt(const fj_hf *h, const char *key, ctype *v, fj_err *e) {                \
        char *file = config_name(h);                                                               \
        bool ok = fj_js_##kind##_opt(h->config, file, key, v, e);                                  \
        free(file);                                                                                \
        return ok;                                                                                 \
    }
GETTERS(int, int64_t, "an integer")
GETTERS(float, double, "a number")
GETTERS(bool, bool, "true or false")
GETTERS(string, const char *, "a string")
