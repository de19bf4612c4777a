/* hub_list.c - the list of a model's files, as the Hub answers it and as the cache keeps it (the same keys). */
#include "formats/json.h"
#include "lifecycle/hub_in.h"

enum { FILES_MOST = 100000 };
static const int64_t size_most = (int64_t)1 << 50;

bool fj_hub_is_hex(const char *s, size_t n) {
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static bool size_of(const json_t *o, const char *name, const char *file, int64_t *size, fj_err *e) {
    const json_t *j = json_object_get(o, "size");
    if (!j || json_is_null(j)) return true;
    if (!json_is_integer(j) || json_integer_value(j) < 0 || json_integer_value(j) > size_most)
        return fj_fail(e, FJ_EFORMAT, "%s: the size of %s is not one: expected 0 to 2^50", name,
                       file);
    *size = json_integer_value(j);
    return true;
}

static bool hash_of(const json_t *o, const char *key, size_t n, char *out, const char *name,
                    const char *file, fj_err *e) {
    const json_t *j = json_object_get(o, key);
    if (!j || json_is_null(j)) return true;
    if (!json_is_string(j) || !fj_hub_is_hex(json_string_value(j), n))
        return fj_fail(e, FJ_EFORMAT, "%s: %s of %s is not a hash of %zu hex digits", name, key,
                       file, n);
    memcpy(out, json_string_value(j), n + 1);
    return true;
}

static bool file_of(const json_t *j, fj_hub_file *f, const char *name, fj_err *e) {
    const json_t *s = json_object_get(j, "rfilename"), *lfs = json_object_get(j, "lfs");
    if (!json_is_string(s)) return fj_fail(e, FJ_EFORMAT, "%s: a file without rfilename", name);
    const char *file = json_string_value(s), *bad = fj_hub_name_bad(file, json_string_length(s));
    if (bad) return fj_fail(e, FJ_EFORMAT, "%s: the file \"%.80s\" %s: refused", name, file, bad);
    *f = (fj_hub_file){ .size = -1 };
    if (!size_of(j, name, file, &f->size, e)) return false;
    if (json_is_object(lfs)) { /* then blobId is of a pointer, not of the contents */
        if (!size_of(lfs, name, file, &f->size, e) ||
            !hash_of(lfs, "sha256", 64, f->sha256, name, file, e))
            return false;
    } else if (!hash_of(j, "blobId", 40, f->blob, name, file, e)) return false;
    f->name = fj_strdup(file);
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const fj_hub_file *)a)->name, ((const fj_hub_file *)b)->name);
}

bool fj_hub_list_parse(fj_hub_list *l, const char *text, size_t n, const char *name, fj_err *e) {
    *l = (fj_hub_list){ 0 };
    /* Models put what they like into other keys, zeros too: those are no reason to refuse the list. */
    json_error_t je;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (!j)
        return fj_fail(e, FJ_EFORMAT, "%s: line %d column %d: not valid JSON: %s", name, je.line,
                       je.column, je.text);
    const json_t *sha = json_object_get(j, "sha"), *list = json_object_get(j, "siblings");
    size_t count = json_array_size(list);
    if (!json_is_string(sha) ||
        !(fj_hub_is_hex(json_string_value(sha), 40) || fj_hub_is_hex(json_string_value(sha), 64))) {
        fj_fail(e, FJ_EFORMAT, "%s: \"sha\" is not a commit", name);
        goto bad;
    }
    memcpy(l->commit, json_string_value(sha), strlen(json_string_value(sha)) + 1);
    if (!json_is_array(list) || count > FILES_MOST) {
        fj_fail(e, FJ_EFORMAT, "%s: \"siblings\" is not a list of at most %d files", name,
                FILES_MOST);
        goto bad;
    }
    l->f = fj_zalloc((count + 1) * sizeof *l->f);
    for (size_t i = 0; i < count; i++, l->n++)
        if (!file_of(json_array_get(list, i), l->f + i, name, e)) goto bad;
    qsort(l->f, l->n, sizeof *l->f, by_name);
    for (size_t i = 1; i < l->n; i++)
        if (!strcmp(l->f[i - 1].name, l->f[i].name)) {
            fj_fail(e, FJ_EFORMAT, "%s: the file %.80s is listed twice", name, l->f[i].name);
            goto bad;
        }
    json_decref(j);
    return true;
bad:
    json_decref(j);
    fj_hub_list_free(l);
    return false;
}

bool fj_hub_list_save(const fj_hub_list *l, const char *path, fj_err *e) {
    json_t *list = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const fj_hub_file *f = l->f + i;
        json_t *j = json_pack("{s:s}", "rfilename", f->name);
        if (f->size >= 0) json_object_set_new(j, "size", json_integer(f->size));
        if (*f->blob) json_object_set_new(j, "blobId", json_string(f->blob));
        if (*f->sha256) json_object_set_new(j, "lfs", json_pack("{s:s}", "sha256", f->sha256));
        json_array_append_new(list, j);
    }
    json_t *top = json_pack("{s:s, s:o}", "sha", l->commit, "siblings", list);
    bool ok = fj_json_save(path, top, e);
    json_decref(top);
    return ok;
}

void fj_hub_list_free(fj_hub_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->f[i].name);
    free(l->f);
    *l = (fj_hub_list){ 0 };
}

const fj_hub_file *fj_hub_list_find(const fj_hub_list *l, const char *name) {
    if (!l->n) return NULL;
    return bsearch(&(fj_hub_file){ .name = (char *)(uintptr_t)name }, l->f, l->n, sizeof *l->f,
                   by_name);
}
