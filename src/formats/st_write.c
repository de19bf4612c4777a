/* st_write.c - the writer of safetensors.h.  The format has no room for padding between tensors,
 * so wide values go first and every tensor is then aligned by itself; the header is padded to 8
 * bytes. */
#include "formats/safetensors.h"

#include "base/fs.h"
#include "formats/json.h"
#include "formats/st_types.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

typedef struct entry {
    const char *name, *type;
    int n_dims, size; /* bytes of one value */
    int64_t dim[FJ_ST_DIMS], bytes;
    size_t index, shard; /* order of add; file */
    bool there;          /* from an earlier try */
} entry;

typedef struct shard {
    fj_out *out;
    char *path;
    uint64_t have; /* bytes of an earlier try */
    bool done;     /* has its final name */
} shard;

struct fj_st_writer {
    fj_err err;
    char *path, *dir; /* one of them */
    char *key;        /* of files that may take several tries, or NULL */
    int64_t max_bytes, total;
    json_t *meta;
    entry *t;
    size_t n, cap;
    fj_map names;
    bool body;       /* files are open, order is fixed */
    size_t cur;      /* tensor whose data come now */
    int64_t written; /* of that tensor */
    shard *shards;
    size_t n_shards, shards_cap;
    fj_arena mem;
};

static fj_st_writer *fresh(const char *path, const char *dir, int64_t max_bytes) {
    fj_st_writer *w = fj_zalloc(sizeof *w);
    w->path = path ? fj_strdup(path) : NULL;
    w->dir = dir ? fj_strdup(dir) : NULL;
    w->max_bytes = max_bytes;
    w->meta = json_object();
    fj_st_writer_meta(w, "format", "pt");
    return w;
}

static const char *place(const fj_st_writer *w) { return w->path ? w->path : w->dir; }

static bool add_shard(fj_st_writer *w, const char *path) {
    FJ_GROW(w->shards, w->n_shards + 1, w->shards_cap);
    shard *s = &w->shards[w->n_shards++];
    *s = (shard){ .path = fj_strdup(path) };
    s->out = w->key ? fj_out_resume(path, w->key, &s->have, &w->err) : fj_out_open(path, &w->err);
    return s->out != NULL;
}

fj_st_writer *fj_st_writer_open(const char *path, fj_err *e) {
    fj_st_writer *w = fresh(path, NULL, INT64_MAX);
    if (add_shard(w, path)) return w; /* at once: a folder that cannot be written says so early */
    if (e) *e = w->err;
    fj_st_writer_abort(w);
    return NULL;
}

fj_st_writer *fj_st_writer_open_sharded(const char *dir, int64_t max_bytes, fj_err *e) {
    if (max_bytes <= 0 || !fj_is_dir(dir)) {
        if (max_bytes <= 0)
            fj_fail(e, FJ_EINVAL, "the size of a shard is %" PRId64 ", expected more than 0",
                    max_bytes);
        else fj_fail(e, FJ_EIO, "%s is not a folder", dir);
        return NULL;
    }
    return fresh(NULL, dir, max_bytes);
}

void fj_st_writer_resume(fj_st_writer *w, const char *key) {
    FJ_ASSERT(w->dir && !w->body && !w->key);
    w->key = fj_strdup(key);
}

void fj_st_writer_meta(fj_st_writer *w, const char *key, const char *value) {
    if (w->err.code) return;
    if (w->body || json_object_set_new(w->meta, key, json_string(value)) != 0)
        fj_fail(&w->err, FJ_EINVAL, "%s: metadata %s cannot be written: %s", place(w), key,
                w->body ? "data were written already" : "it is not UTF-8");
}

void fj_st_writer_add(fj_st_writer *w, const char *name, const char *type, int n_dims,
                      const int64_t *dim) {
    if (w->err.code) return;
    int size = type ? fj_st_type_size(type) : 0;
    bool first, ok = size && n_dims >= 0 && n_dims <= FJ_ST_DIMS;
    entry t = { .n_dims = n_dims, .size = size, .bytes = size, .index = w->n };
    fj_map_put(&w->names, name, strlen(name), &first);
    for (int i = 0; ok && i < n_dims; i++) {
        t.dim[i] = dim[i];
        ok = dim[i] >= 0 && !__builtin_mul_overflow(t.bytes, dim[i], &t.bytes);
    }
    ok = ok && !__builtin_add_overflow(w->total, t.bytes, &w->total);
    if (!ok || !first || w->body || !*name || !strcmp(name, "__metadata__")) {
        fj_fail(&w->err, FJ_EINVAL, "%s: tensor %s cannot be written as %s: %s", place(w), name,
                type ? type : "this format",
                !first    ? "its name is there twice"
                : w->body ? "data were written already"
                          : "the format, shape or name is not possible");
        return;
    }
    t.name = fj_arena_strdup(&w->mem, name);
    t.type = fj_arena_strdup(&w->mem, type);
    FJ_GROW(w->t, w->n + 1, w->cap);
    w->t[w->n++] = t;
}

/* ---- headers --------------------------------------------------------------------------------- */
static int by_file(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool write_header(fj_st_writer *w, size_t k, size_t first, size_t end_of_shard) {
    json_t *h = json_object();
    bool ok = json_object_set(h, "__metadata__", w->meta) == 0;
    int64_t at = 0;
    for (size_t i = first; i < end_of_shard; i++) {
        const entry *t = &w->t[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_integer(t->dim[d]));
        json_int_t next = at + t->bytes;
        json_t *j = json_pack("{s:s,s:o,s:[I,I]}", "dtype", t->type, "shape", shape, "data_offsets",
                              (json_int_t)at, next);
        at = next;
        if (json_object_set_new(h, t->name, j) != 0)
            ok = fj_fail(&w->err, FJ_EINVAL, "%s: the name of tensor %s is not UTF-8", place(w),
                         t->name);
    }
    char *text = ok ? json_dumps(h, JSON_COMPACT) : NULL;
    json_decref(h);
    if (!text)
        return ok ? fj_fail(&w->err, FJ_ENOMEM, "no memory for the header of %s", place(w)) : false;
    size_t n = strlen(text), padded = (n + 7) / 8 * 8;
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    shard *s = &w->shards[k];
    uint64_t end = 8 + padded;
    bool fresh_file = s->have < end;
    for (size_t i = first; i < end_of_shard && end + (uint64_t)w->t[i].bytes <= s->have; i++) {
        w->t[i].there = true;
        end += (uint64_t)w->t[i].bytes;
    }
    if (s->have) fj_out_cut(s->out, fresh_file ? 0 : end);
    if (fresh_file) {
        fj_out_write(s->out, len, 8);
        fj_out_write(s->out, text, n);
        while (n++ < padded) fj_out_write(s->out, " ", 1);
    }
    free(text);
    return true;
}

/* Which tensor goes where; opens the files and writes their headers. */
static bool begin(fj_st_writer *w) {
    if (w->body || w->err.code) return !w->err.code;
    w->body = true;
    size_t k = 0;
    int64_t used = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (used && w->t[i].bytes && w->t[i].bytes > w->max_bytes - used) {
            k++;
            used = 0;
        }
        w->t[i].shard = k;
        used += w->t[i].bytes;
    }
    for (size_t i = 0; w->dir && i <= k; i++) {
        char name[64] = "model.safetensors";
        if (k) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, k + 1);
        char *path = fj_path_join(w->dir, name);
        bool ok = add_shard(w, path);
        free(path);
        if (!ok) return false;
    }
    if (w->n) qsort(w->t, w->n, sizeof *w->t, by_file);
    for (size_t i = 0, end = 0; i <= k; i++) {
        size_t first = end;
        while (end < w->n && w->t[end].shard == i) end++;
        if (!write_header(w, i, first, end)) return false;
    }
    return true;
}

/* ---- data ------------------------------------------------------------------------------------ */
int64_t fj_st_writer_next(fj_st_writer *w) {
    if (!begin(w)) return -1;
    if (w->written) {
        fj_fail(&w->err, FJ_EINVAL, "%s: the data of tensor %s are not complete", place(w),
                w->t[w->cur].name);
        return -1;
    }
    while (w->cur < w->n && (w->t[w->cur].bytes == 0 || w->t[w->cur].there))
        w->cur++; /* empty ones have no data */
    return w->cur < w->n ? (int64_t)w->t[w->cur].index : -1;
}

void fj_st_writer_data(fj_st_writer *w, const void *bytes, size_t n) {
    if (!n || !begin(w)) return;
    if (w->cur == w->n || n > (uint64_t)(w->t[w->cur].bytes - w->written)) {
        fj_fail(&w->err, FJ_EINVAL, "%s: more data than %s has", place(w),
                w->cur < w->n ? w->t[w->cur].name : "all tensors together");
        return;
    }
    fj_out_write(w->shards[w->t[w->cur].shard].out, bytes, n);
    w->written += (int64_t)n;
    if (w->written < w->t[w->cur].bytes) return;
    w->cur++;
    w->written = 0;
}

static bool write_index(fj_st_writer *w) {
    json_t *map = json_object();
    for (size_t i = 0; i < w->n; i++)
        json_object_set_new(map, w->t[i].name,
                            json_string(fj_base_name(w->shards[w->t[i].shard].path)));
    json_t *j = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)w->total,
                          "weight_map", map);
    char *path = fj_path_join(w->dir, FJ_ST_INDEX);
    bool ok = fj_json_save(path, j, &w->err);
    json_decref(j);
    free(path);
    return ok;
}

bool fj_st_writer_close(fj_st_writer *w, fj_err *e) {
    bool ok = fj_st_writer_next(w) < 0 && !w->err.code;
    if (!ok && !w->err.code)
        fj_fail(&w->err, FJ_EINVAL, "%s: the data of tensor %s are missing", place(w),
                w->t[w->cur].name);
    for (size_t i = 0; ok && i < w->n_shards; i++) {
        ok = fj_out_commit(w->shards[i].out, &w->err);
        w->shards[i].out = NULL;
        w->shards[i].done = ok;
    }
    if (ok && w->dir && w->n_shards > 1) ok = write_index(w);
    for (size_t i = 0; !ok && i < w->n_shards; i++)
        if (w->shards[i].done) unlink(w->shards[i].path);
    if (!ok && e) *e = w->err;
    fj_st_writer_abort(w);
    return ok;
}

void fj_st_writer_abort(fj_st_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_shards; i++) {
        fj_out_abort(w->shards[i].out);
        free(w->shards[i].path);
    }
    free(w->shards);
    free(w->t);
    free(w->path);
    free(w->dir);
    free(w->key);
    json_decref(w->meta);
    fj_map_free(&w->names);
    fj_arena_free(&w->mem);
    free(w);
}
