#include "formats/safetensors.h"

#include "base/fs.h"
#include "formats/json.h"
#include "formats/rd.h"
#include "formats/st_types.h"

#include <inttypes.h>

#define MAX_HEADER ((uint64_t)100 << 20) /* as the reference reader */
enum { MAX_NAME = 4096, MAX_FILES = 10000 };

struct fj_st_own {
    fj_st pub;
    fj_mapped *maps; /* [n_files] */
    size_t maps_cap;
    fj_st_tensor *tensors;
    size_t tensors_cap;
    const char **files;
    size_t files_cap;
    fj_map names, meta; /* to index of tensors; to index of values */
    const char **values;
    size_t n_values, values_cap;
    void **copies; /* of tensors that are not aligned in the file */
    size_t n_copies, copies_cap;
    fj_arena mem;
};

int fj_st_type_size(const char *type) {
    static const struct {
        const char *name;
        int bytes;
    } types[] = {
        { "F64", 8 },         { "I64", 8 },         { "U64", 8 },     { "F32", 4 },
        { "I32", 4 },         { "U32", 4 },         { "F16", 2 },     { "BF16", 2 },
        { "I16", 2 },         { "U16", 2 },         { "I8", 1 },      { "U8", 1 },
        { "BOOL", 1 },        { "F8_E4M3", 1 },     { "F8_E5M2", 1 }, { "F8_E8M0", 1 },
        { "F8_E4M3FNUZ", 1 }, { "F8_E5M2FNUZ", 1 },
    };
    for (size_t i = 0; i < FJ_LEN(types); i++)
        if (!strcmp(type, types[i].name)) return types[i].bytes;
    return 0;
}

static bool dtype_of(const char *type, fj_dtype *t) {
    for (int i = 0; i < FJ_DTYPES; i++) {
        const char *st = fj_dtype_get((fj_dtype)i)->st;
        if (!st || strcmp(st, type)) continue;
        *t = (fj_dtype)i;
        return true;
    }
    return false;
}

/* ---- one header ------------------------------------------------------------------------------ */
static bool whole(const json_t *j, int64_t *v) {
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *v = json_integer_value(j);
    return true;
}

/* *begin, *end: the range that the entry claims in the data section of `room` bytes. */
static bool read_entry(struct fj_st_own *o, const char *file, const char *name, const json_t *j,
                       fj_st_tensor *t, int64_t *begin, int64_t room, fj_err *e) {
    const json_t *shape = json_object_get(j, "shape"), *off = json_object_get(j, "data_offsets");
    const char *type = json_string_value(json_object_get(j, "dtype"));
    if (!json_is_object(j) || !type || !json_is_array(shape) || !json_is_array(off) ||
        json_array_size(off) != 2 || json_object_size(j) != 3)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s: expected exactly dtype, shape and two "
                       "data_offsets",
                       file, name);
    if (!*name || strlen(name) > MAX_NAME)
        return fj_fail(e, FJ_EFORMAT, "%s: a tensor has a name of %zu bytes, expected 1..%d", file,
                       strlen(name), MAX_NAME);
    int size = fj_st_type_size(type);
    if (!size)
        return fj_fail(e, FJ_EUNSUP, "%s: tensor %s has the unknown dtype %s", file, name, type);
    if (json_array_size(shape) > FJ_ST_DIMS)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %zu dimensions, at most %d are read", file,
                       name, json_array_size(shape), FJ_ST_DIMS);
    int64_t end, bytes = size;
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < FJ_ST_DIMS; i++) {
        t->dim[i] = 1;
        if (i < t->n_dims && !whole(json_array_get(shape, (size_t)i), &t->dim[i]))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s: a dimension is not a whole number", file,
                           name);
        if (__builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s: the size in bytes overflows", file, name);
    }
    if (!whole(json_array_get(off, 0), begin) || !whole(json_array_get(off, 1), &end) ||
        end < *begin)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s: data_offsets are not an ascending pair of whole "
                       "numbers",
                       file, name);
    if (end > room)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s ends at byte %" PRId64 " of the data, the file has "
                       "%" PRId64 ": is it cut short?",
                       file, name, end, room);
    if (end - *begin != bytes)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s: its shape takes %" PRId64 " bytes as %s, its "
                       "data_offsets give it %" PRId64,
                       file, name, bytes, type, end - *begin);
    t->name = fj_arena_strdup(&o->mem, name);
    t->type_name = fj_arena_strdup(&o->mem, type);
    t->usable = dtype_of(type, &t->dtype);
    t->bytes = bytes;
    return true;
}

/* Empty tensors before the others at the same place, so that the check for holes can walk. */
static int by_data(const void *a, const void *b) {
    const fj_st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool align(struct fj_st_own *o, fj_st_tensor *t, fj_err *e) {
    size_t size = (size_t)fj_st_type_size(t->type_name);
    if ((uintptr_t)t->data % size == 0) return true;
    void *copy = fj_try_alloc((size_t)t->bytes, 1, t->name, e);
    if (!copy) return false;
    memcpy(copy, t->data, (size_t)t->bytes);
    FJ_GROW(o->copies, o->n_copies + 1, o->copies_cap);
    o->copies[o->n_copies++] = copy;
    t->data = copy;
    t->copied = true;
    return true;
}

static bool read_meta(struct fj_st_own *o, const char *file, json_t *meta, fj_err *e) {
    const char *key;
    json_t *v;
    if (!json_is_object(meta))
        return fj_fail(e, FJ_EFORMAT, "%s: __metadata__ is %s, expected an object", file,
                       fj_json_kind(meta));
    json_object_foreach(meta, key, v) {
        if (!json_is_string(v))
            return fj_fail(e, FJ_EFORMAT, "%s: __metadata__ %s is %s, expected a string", file, key,
                           fj_json_kind(v));
        bool fresh;
        int64_t *at = fj_map_put(&o->meta, key, strlen(key), &fresh);
        if (!fresh) continue;
        *at = (int64_t)o->n_values;
        FJ_GROW(o->values, o->n_values + 1, o->values_cap);
        o->values[o->n_values++] = fj_arena_strdup(&o->mem, json_string_value(v));
    }
    return true;
}

static bool read_tensors(struct fj_st_own *o, const char *file, json_t *header, const uint8_t *data,
                         int64_t room, fj_err *e) {
    fj_st *s = &o->pub;
    size_t first = s->n_tensors;
    const char *key;
    json_t *v;
    json_object_foreach(header, key, v) {
        if (!strcmp(key, "__metadata__")) {
            if (!read_meta(o, file, v, e)) return false;
            continue;
        }
        fj_st_tensor t = { .file = (int)s->n_files - 1 };
        int64_t begin = 0;
        if (!read_entry(o, file, key, v, &t, &begin, room, e)) return false;
        t.data = data + begin;
        FJ_GROW(o->tensors, s->n_tensors + 1, o->tensors_cap);
        o->tensors[s->n_tensors++] = t;
    }
    size_t n = s->n_tensors - first;
    fj_st_tensor *t = n ? o->tensors + first : NULL;
    if (n) qsort(t, n, sizeof *t, by_data);
    const uint8_t *at = data;
    for (size_t i = 0; i < n; i++) {
        if (t[i].data != at)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s %s", file, t[i].name,
                           t[i].data < at ? "overlaps the one before it"
                                          : "starts after a hole in the data");
        at += t[i].bytes;
        bool fresh;
        *fj_map_put(&o->names, t[i].name, strlen(t[i].name), &fresh) = (int64_t)(first + i);
        if (!fresh)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s is in another shard as well", file,
                           t[i].name);
    }
    if (at - data != room)
        return fj_fail(e, FJ_EFORMAT, "%s: %" PRId64 " bytes at the end belong to no tensor", file,
                       room - (int64_t)(at - data));
    for (size_t i = 0; i < n; i++)
        if (!align(o, &t[i], e)) return false;
    return true;
}

static bool read_file(struct fj_st_own *o, const char *file, const void *bytes, size_t n,
                      fj_err *e) {
    fj_rd r = fj_rd_init(bytes, n);
    uint64_t len = fj_rd_u64(&r);
    if (r.bad)
        return fj_fail(e, FJ_EFORMAT, "%s is not a safetensors file: it has only %zu bytes", file,
                       n);
    if (len > MAX_HEADER)
        return fj_fail(e, FJ_EFORMAT,
                       "%s is not a safetensors file: its header would have %" PRIu64
                       " bytes, at most %" PRIu64 " are allowed",
                       file, len, MAX_HEADER);
    const uint8_t *head = fj_rd_take(&r, len);
    if (!head)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: the header has %" PRIu64 " bytes and the file ends after %zu: "
                       "is it cut short?",
                       file, len, n);
    if (!len || head[0] != '{')
        return fj_fail(e, FJ_EFORMAT, "%s: the header is not a JSON object", file);
    json_t *header = fj_json_parse((const char *)head, (size_t)len, file, e);
    if (!header) return false;
    bool ok = read_tensors(o, file, header, r.p, (int64_t)fj_rd_left(&r), e);
    json_decref(header);
    return ok;
}

/* ---- shards ---------------------------------------------------------------------------------- */
static bool add_file(struct fj_st_own *o, const char *path, fj_err *e) {
    fj_st *s = &o->pub;
    size_t i = s->n_files;
    FJ_GROW(o->files, i + 1, o->files_cap);
    FJ_GROW(o->maps, i + 1, o->maps_cap);
    o->files[i] = fj_arena_strdup(&o->mem, path);
    o->maps[i] = (fj_mapped){ 0 };
    s->n_files++;
    return fj_map_file(path, &o->maps[i], e) &&
           read_file(o, o->files[i], o->maps[i].p, o->maps[i].n, e);
}

/* A shard is a plain file name beside the index, nothing that leads elsewhere. */
static bool plain_name(const char *s) {
    return s && *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\') && !strstr(s, "..");
}

static bool read_index(struct fj_st_own *o, const char *path, json_t *index, fj_err *e) {
    const json_t *map = json_object_get(index, "weight_map");
    const char *name;
    json_t *v;
    if (!json_is_object(map) || !json_object_size(map))
        return fj_fail(e, FJ_EFORMAT,
                       "%s: weight_map is %s, expected an object from tensor to file", path,
                       json_is_object(map) ? "empty" : fj_json_kind(map));
    char *dir = fj_strndup(path, (size_t)(fj_base_name(path) - path));
    fj_map shards = { 0 };
    bool ok = true;
    json_object_foreach((json_t *)(uintptr_t)map, name, v) {
        const char *file = json_string_value(v);
        if (!plain_name(file))
            ok = fj_fail(e, FJ_EFORMAT,
                         "%s: tensor %s is in %s, expected the plain name of a file in "
                         "the same folder",
                         path, name, file ? file : fj_json_kind(v));
        if (!ok) break;
        bool fresh;
        int64_t *at = fj_map_put(&shards, file, strlen(file), &fresh);
        if (!fresh) continue;
        *at = (int64_t)o->pub.n_files;
        if (o->pub.n_files == MAX_FILES)
            ok = fj_fail(e, FJ_EFORMAT, "%s names more than %d files", path, MAX_FILES);
        char *full = fj_path_join(*dir ? dir : ".", file);
        ok = ok && add_file(o, full, e);
        free(full);
        if (!ok) break;
    }
    if (ok) json_object_foreach((json_t *)(uintptr_t)map, name, v) {
            const char *file = json_string_value(v);
            const int64_t *i = fj_map_get(&o->names, name, strlen(name));
            const int64_t *f = fj_map_get(&shards, file, strlen(file));
            if (i && f && o->tensors[*i].file == *f) continue;
            ok = fj_fail(e, FJ_EFORMAT, "%s: tensor %s should be in %s and is not there", path,
                         name, file);
            break;
        }
    fj_map_free(&shards);
    free(dir);
    return ok;
}

static bool open_index(struct fj_st_own *o, const char *path, fj_err *e) {
    json_t *index = fj_json_file(path, MAX_HEADER, e);
    bool ok = index && read_index(o, path, index, e);
    json_decref(index);
    return ok;
}

static bool open_folder(struct fj_st_own *o, const char *dir, fj_err *e) {
    char *one = fj_path_join(dir, "model.safetensors"), *index = fj_path_join(dir, FJ_ST_INDEX);
    bool ok;
    if (fj_exists(one)) ok = add_file(o, one, e);
    else if (fj_exists(index)) ok = open_index(o, index, e);
    else
        ok = fj_fail(e, FJ_EIO, "no weights in %s: looked for model.safetensors and " FJ_ST_INDEX,
                     dir);
    free(one);
    free(index);
    return ok;
}

static struct fj_st_own *fresh_own(const char *name) {
    struct fj_st_own *o = fj_zalloc(sizeof *o);
    o->pub.own = o;
    o->pub.name = fj_arena_strdup(&o->mem, name);
    return o;
}

static fj_st *finish(struct fj_st_own *o, bool ok) {
    o->pub.tensors = o->tensors;
    o->pub.files = o->files;
    if (ok) return &o->pub;
    fj_st_close(&o->pub);
    return NULL;
}

fj_st *fj_st_open(const char *path, fj_err *e) {
    struct fj_st_own *o = fresh_own(path);
    size_t n = strlen(path);
    if (fj_is_dir(path)) return finish(o, open_folder(o, path, e));
    if (n > 5 && !strcmp(path + n - 5, ".json")) return finish(o, open_index(o, path, e));
    return finish(o, add_file(o, path, e));
}

fj_st *fj_st_open_mem(const void *bytes, size_t n, const char *name, fj_err *e) {
    struct fj_st_own *o = fresh_own(name);
    FJ_GROW(o->files, 1, o->files_cap);
    FJ_GROW(o->maps, 1, o->maps_cap);
    o->files[0] = o->pub.name;
    o->maps[0] = (fj_mapped){ 0 };
    o->pub.n_files = 1;
    return finish(o, read_file(o, o->pub.name, bytes, n, e));
}

void fj_st_close(fj_st *s) {
    if (!s) return;
    struct fj_st_own *o = s->own;
    for (size_t i = 0; i < s->n_files; i++) fj_unmap_file(&o->maps[i]);
    for (size_t i = 0; i < o->n_copies; i++) free(o->copies[i]);
    free(o->maps);
    free(o->tensors);
    free(o->files);
    free(o->values);
    free(o->copies);
    fj_map_free(&o->names);
    fj_map_free(&o->meta);
    fj_arena_free(&o->mem);
    free(o);
}

/* ---- lookup ---------------------------------------------------------------------------------- */
const fj_st_tensor *fj_st_find(const fj_st *s, const char *name) {
    const int64_t *i = fj_map_get(&s->own->names, name, strlen(name));
    return i ? &s->tensors[*i] : NULL;
}

const fj_st_tensor *fj_st_get(const fj_st *s, const char *name, fj_err *e) {
    const fj_st_tensor *t = fj_st_find(s, name);
    if (t && t->usable) return t;
    if (!t) fj_fail(e, FJ_EFORMAT, "%s: tensor %s is missing", s->name, name);
    else
        fj_fail(e, FJ_EUNSUP,
                "%s: tensor %s has the format %s, forja computes with F32, F16 and BF16", s->name,
                name, t->type_name);
    return NULL;
}

const char *fj_st_meta(const fj_st *s, const char *key) {
    const int64_t *i = fj_map_get(&s->own->meta, key, strlen(key));
    return i ? s->own->values[*i] : NULL;
}
