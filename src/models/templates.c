#include "models/templates.h"

#include "base/fs.h"
#include "formats/json.h"

#include <dirent.h>
#include <stdio.h>

enum { TEMPLATE_MAX = 4 << 20, CONFIG_MAX = 64 << 20 };

bool fj_templates_of_gguf(fj_templates *t, const fj_gguf *g, fj_err *e) {
    static const char key[] = "tokenizer.chat_template";
    size_t n = strlen(key);
    for (size_t i = 0; i < g->n_kv; i++) {
        const char *k = g->kv[i].key, *text;
        if (strncmp(k, key, n) || (k[n] && k[n] != '.')) continue;
        if (!fj_gguf_string(g, k, &text, e)) return false;
        fj_templates_add(t, k[n] ? k + n + 1 : "default", text);
    }
    return true;
}

static bool read_one(fj_templates *t, const char *path, const char *name, fj_err *e) {
    size_t n;
    char *text = fj_read_file(path, TEMPLATE_MAX, &n, e);
    if (!text) return false;
    bool ok = strlen(text) == n || fj_fail(e, FJ_EFORMAT, "%s: byte %zu is zero: this is no text",
                                           path, strlen(text) + 1);
    if (ok) fj_templates_add(t, name, text);
    free(text);
    return ok;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool more_files(fj_templates *t, const char *dir, fj_err *e) {
    char *folder = fj_path_join(dir, "additional_chat_templates");
    struct dirent **d = NULL;
    int n = fj_is_dir(folder) ? scandir(folder, &d, NULL, by_name) : 0;
    bool ok = true;
    for (int i = 0; i < n; i++) {
        const char *file = d[i]->d_name, *dot = strrchr(file, '.');
        if (ok && dot && dot > file && !strcmp(dot, ".jinja")) {
            char *name = fj_strndup(file, (size_t)(dot - file)), *path = fj_path_join(folder, file);
            ok = read_one(t, path, name, e);
            free(name);
            free(path);
        }
        free(d[i]);
    }
    free(d);
    free(folder);
    return ok;
}

static bool of_config(fj_templates *t, const json_t *o, const char *path, bool templates,
                      fj_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        size_t n = strlen(key);
        if (n < 6 || strcmp(key + n - 6, "_token")) continue;
        const char *s = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
        if (s) fj_templates_token(t, key, s);
    }
    v = json_object_get(o, "chat_template");
    if (!templates || !v || json_is_null(v)) return true;
    if (json_is_string(v)) {
        fj_templates_add(t, "default", json_string_value(v));
        return true;
    }
    if (!json_is_array(v))
        return fj_fail(e, FJ_EFORMAT, "%s: chat_template: expected a string or a list, found %s",
                       path, fj_json_kind(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(v, i), "name"));
        const char *text = json_string_value(json_object_get(json_array_get(v, i), "template"));
        if (!name || !text)
            return fj_fail(e, FJ_EFORMAT,
                           "%s: chat_template[%zu]: expected an object with name and template",
                           path, i);
        fj_templates_add(t, name, text);
    }
    return true;
}

bool fj_templates_of_folder(fj_templates *t, const char *dir, fj_err *e) {
    char *file = fj_path_join(dir, "chat_template.jinja"),
         *config = fj_path_join(dir, "tokenizer_config.json");
    bool ok = (!fj_exists(file) || read_one(t, file, "default", e)) && more_files(t, dir, e);
    if (ok && fj_exists(config)) {
        json_t *o = fj_json_file(config, CONFIG_MAX, e);
        ok = o && of_config(t, o, config, !t->n, e);
        json_decref(o);
    }
    free(file);
    free(config);
    return ok;
}

bool fj_templates_open(fj_templates *t, const char *path, fj_err *e) {
    if (fj_is_dir(path)) return fj_templates_of_folder(t, path, e);
    char head[4] = { 0 };
    FILE *f = fopen(path, "rb");
    if (!f) return fj_fail_errno(e, "cannot open %s", path);
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (n == sizeof head && !memcmp(head, "GGUF", 4)) {
        fj_gguf *g = fj_gguf_open(path, e);
        bool ok = g && fj_templates_of_gguf(t, g, e);
        fj_gguf_close(g);
        return ok;
    }
    char *folder = fj_strndup(path, (size_t)(fj_base_name(path) - path));
    bool ok = fj_templates_of_folder(t, *folder ? folder : ".", e);
    free(folder);
    return ok;
}
