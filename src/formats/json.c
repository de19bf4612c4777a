#include "formats/json.h"

#include "base/fs.h"

json_t *fj_json_parse(const char *text, size_t n, const char *name, fj_err *e) {
    json_error_t je;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!j)
        fj_fail(e, FJ_EFORMAT, "%s: line %d column %d: not valid JSON: %s", name, je.line,
                je.column, je.text);
    return j;
}

json_t *fj_json_file(const char *path, size_t max, fj_err *e) {
    size_t n;
    char *text = fj_read_file(path, max, &n, e);
    if (!text) return NULL;
    json_t *j = fj_json_parse(text, n, path, e);
    free(text);
    if (j && !json_is_object(j)) {
        fj_fail(e, FJ_EFORMAT, "%s: expected a JSON object at the top, found %s", path,
                fj_json_kind(j));
        json_decref(j);
        return NULL;
    }
    return j;
}

bool fj_json_save(const char *path, const json_t *j, fj_err *e) {
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    if (!text) return fj_fail(e, FJ_EINVAL, "%s: a value cannot be written as JSON", path);
    fj_str s = { 0 };
    fj_str_add(&s, text);
    fj_str_addc(&s, '\n');
    free(text);
    bool ok = fj_write_file(path, s.s, s.n, e);
    fj_str_free(&s);
    return ok;
}

const char *fj_json_kind(const json_t *j) {
    if (!j) return "nothing";
    switch (json_typeof(j)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    default: return "null";
    }
}
