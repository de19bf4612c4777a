/* gguf_write.c - the writer of gguf.h.  Metadata are collected in memory, since the header says
 * how many keys and tensors follow; tensor data are streamed. */
#include "formats/gguf.h"

#include "base/fs.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { ALIGN = 32 }; /* the default of the format: no key needed */

typedef struct entry {
    uint64_t bytes;
    char *name;
    size_t part;
    bool there; /* from an earlier try */
} entry;

typedef struct part { /* a file */
    fj_out *out;
    char *path;
    size_t n, infos, end; /* tensors; their descriptions in infos */
    uint64_t have;        /* bytes of an earlier try */
    bool done;            /* has its final name */
} part;

struct fj_gguf_writer {
    fj_err err;
    part *parts; /* [n_parts], one at least */
    size_t n_parts, parts_cap;
    uint64_t max_bytes; /* of tensor data in a part; 0: no limit */
    fj_str kv, infos;
    fj_map keys, names;
    uint64_t n_kv, offset; /* in the data of the last part */
    entry *t;
    size_t n, cap;
    bool body;        /* the header is written */
    size_t cur;       /* tensor whose data come now */
    uint64_t written; /* of that tensor */
    char *path, *key; /* key: of files that may take several tries, or NULL */
};

static fj_gguf_writer *writer_over(fj_out *out, const char *path, uint64_t have) {
    if (!out) return NULL;
    fj_gguf_writer *w = fj_zalloc(sizeof *w);
    FJ_GROW(w->parts, 1, w->parts_cap);
    w->parts[w->n_parts++] = (part){ .out = out, .path = fj_strdup(path) };
    w->parts[0].have = have;
    w->path = fj_strdup(path);
    return w;
}

fj_gguf_writer *fj_gguf_writer_open(const char *path, fj_err *e) {
    return writer_over(fj_out_open(path, e), path, 0);
}

fj_gguf_writer *fj_gguf_writer_resume(const char *path, const char *key, fj_err *e) {
    uint64_t have = 0;
    fj_out *out = fj_out_resume(path, key, &have, e);
    fj_gguf_writer *w = writer_over(out, path, have);
    if (w) w->key = fj_strdup(key);
    return w;
}

void fj_gguf_writer_split(fj_gguf_writer *w, uint64_t max_bytes) {
    if (w->err.code) return;
    if (w->n || !max_bytes)
        fj_fail(&w->err, FJ_EINVAL, "%s: the model cannot be split %s", w->path,
                w->n ? "once it has tensors" : "into files of 0 bytes");
    w->max_bytes = max_bytes;
}

size_t fj_gguf_writer_parts(const fj_gguf_writer *w) { return w->n_parts; }

static void put(fj_str *s, uint64_t v, int bytes) {
    uint8_t b[8];
    for (int i = 0; i < bytes; i++) b[i] = (uint8_t)(v >> (8 * i));
    fj_str_addn(s, b, (size_t)bytes);
}

static void put_text(fj_str *s, const char *p, size_t n) {
    put(s, n, 8);
    fj_str_addn(s, p, n);
}

void fj_gguf_put(fj_gguf_writer *w, const fj_gguf_kv *kv) {
    if (w->err.code) return;
    size_t len = strlen(kv->key);
    bool fresh;
    fj_map_put(&w->keys, kv->key, len, &fresh);
    if (!fresh || !len || w->body) {
        fj_fail(&w->err, FJ_EINVAL, "%s: key %s is written %s", w->path, kv->key,
                !len      ? "without a name"
                : w->body ? "after the data"
                          : "twice");
        return;
    }
    static const uint8_t size[FJ_GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    put_text(&w->kv, kv->key, len);
    if (kv->array) put(&w->kv, FJ_GGUF_ARR, 4);
    put(&w->kv, kv->type, 4);
    if (kv->array) put(&w->kv, kv->n, 8);
    if (kv->type == FJ_GGUF_STR)
        for (size_t i = 0; i < kv->n; i++) put_text(&w->kv, kv->str[i].s, kv->str[i].n);
    else fj_str_addn(&w->kv, kv->data, kv->n * size[kv->type]);
    w->n_kv++;
}

static void put_numbers(fj_gguf_writer *w, const char *key, fj_gguf_type t, bool array,
                        const void *p, size_t n) {
    fj_gguf_put(w, &(fj_gguf_kv){ .key = key, .type = t, .array = array, .n = n, .data = p });
}

void fj_gguf_put_u32(fj_gguf_writer *w, const char *key, uint32_t v) {
    put_numbers(w, key, FJ_GGUF_U32, false, &v, 1);
}
void fj_gguf_put_u64(fj_gguf_writer *w, const char *key, uint64_t v) {
    put_numbers(w, key, FJ_GGUF_U64, false, &v, 1);
}
void fj_gguf_put_i32(fj_gguf_writer *w, const char *key, int32_t v) {
    put_numbers(w, key, FJ_GGUF_I32, false, &v, 1);
}
void fj_gguf_put_f32(fj_gguf_writer *w, const char *key, float v) {
    put_numbers(w, key, FJ_GGUF_F32, false, &v, 1);
}
void fj_gguf_put_bool(fj_gguf_writer *w, const char *key, bool v) {
    uint8_t b = v;
    put_numbers(w, key, FJ_GGUF_BOOL, false, &b, 1);
}
void fj_gguf_put_i32s(fj_gguf_writer *w, const char *key, const int32_t *v, size_t n) {
    put_numbers(w, key, FJ_GGUF_I32, true, v, n);
}
void fj_gguf_put_f32s(fj_gguf_writer *w, const char *key, const float *v, size_t n) {
    put_numbers(w, key, FJ_GGUF_F32, true, v, n);
}
void fj_gguf_put_string(fj_gguf_writer *w, const char *key, const char *v) {
    fj_gguf_str s = { v, strlen(v) };
    fj_gguf_put(w, &(fj_gguf_kv){ .key = key, .type = FJ_GGUF_STR, .n = 1, .str = &s });
}
void fj_gguf_put_strings(fj_gguf_writer *w, const char *key, const fj_gguf_str *v, size_t n) {
    fj_gguf_put(w,
                &(fj_gguf_kv){ .key = key, .type = FJ_GGUF_STR, .array = true, .n = n, .str = v });
}

void fj_gguf_add_tensor(fj_gguf_writer *w, const char *name, fj_dtype t, int n_dims,
                        const int64_t *dim) {
    if (w->err.code) return;
    const fj_dtype_info *d = fj_dtype_get(t);
    int64_t rows = 1, bytes = -1;
    bool fresh, ok = n_dims >= 1 && n_dims <= 4 && d->gguf >= 0 && *name && !w->body;
    fj_map_put(&w->names, name, strlen(name), &fresh);
    for (int i = 0; ok && i < n_dims; i++) ok = dim[i] > 0;
    for (int i = 1; ok && i < n_dims; i++) ok = !__builtin_mul_overflow(rows, dim[i], &rows);
    if (ok) bytes = fj_dtype_size(t, rows, dim[0]);
    if (ok && bytes >= 0 && w->max_bytes && w->parts[w->n_parts - 1].n &&
        ((uint64_t)bytes > w->max_bytes || w->offset > w->max_bytes - (uint64_t)bytes)) {
        FJ_GROW(w->parts, w->n_parts + 1, w->parts_cap);
        w->parts[w->n_parts++] = (part){ .infos = w->infos.n };
        w->offset = 0;
    }
    uint64_t next;
    if (!ok || !fresh || bytes < 0 || __builtin_add_overflow(w->offset, (uint64_t)bytes, &next)) {
        fj_fail(&w->err, FJ_EINVAL, "%s: tensor %s cannot be written as %s: %s", w->path, name,
                d->name,
                !fresh        ? "its name is there twice"
                : d->gguf < 0 ? "GGUF has no such format"
                : w->body     ? "data were written already"
                              : "its shape does not fit the format");
        return;
    }
    put_text(&w->infos, name, strlen(name));
    put(&w->infos, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++) put(&w->infos, (uint64_t)dim[i], 8);
    put(&w->infos, (uint64_t)d->gguf, 4);
    put(&w->infos, w->offset, 8);
    w->offset = (next + ALIGN - 1) / ALIGN * ALIGN;
    FJ_GROW(w->t, w->n + 1, w->cap);
    w->t[w->n++] = (entry){ (uint64_t)bytes, fj_strdup(name), w->n_parts - 1, false };
    w->parts[w->n_parts - 1].n++;
    w->parts[w->n_parts - 1].end = w->infos.n;
}

/* Several parts have other names than the one file that was opened. */
static bool open_parts(fj_gguf_writer *w) {
    fj_out_abort(w->parts[0].out);
    w->parts[0].out = NULL;
    if (w->n_parts > UINT16_MAX)
        return fj_fail(&w->err, FJ_EINVAL,
                       "%s: %zu files of at most %" PRIu64 " bytes, %d are possible: allow more "
                       "bytes in a file",
                       w->path, w->n_parts, w->max_bytes, UINT16_MAX);
    for (size_t i = 0; i < w->n_parts; i++) {
        free(w->parts[i].path);
        w->parts[i].path = fj_gguf_part_path(w->path, (uint32_t)i, (uint32_t)w->n_parts);
        w->parts[i].out = w->key
                              ? fj_out_resume(w->parts[i].path, w->key, &w->parts[i].have, &w->err)
                              : fj_out_open(w->parts[i].path, &w->err);
        if (!w->parts[i].out) return false;
    }
    return true;
}

/* The keys of a part of a split model, as wide as gguf-split writes them. */
static void put_split(fj_gguf_writer *w, size_t i) {
    uint16_t no = (uint16_t)i, count = (uint16_t)w->n_parts;
    int32_t all = (int32_t)FJ_MIN(w->n, INT32_MAX);
    if (i) fj_map_free(&w->keys);
    put_numbers(w, "split.no", FJ_GGUF_U16, false, &no, 1);
    put_numbers(w, "split.count", FJ_GGUF_U16, false, &count, 1);
    put_numbers(w, "split.tensors.count", FJ_GGUF_I32, false, &all, 1);
}

static uint64_t padded(uint64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* Of an earlier try at a part count the header, `head` bytes, and tensors that are whole, with what pads
 * them; true: the header is there. */
static bool keep(fj_gguf_writer *w, size_t i, size_t first, uint64_t head) {
    part *p = &w->parts[i];
    uint64_t end = padded(head);
    bool there = p->have >= end;
    for (size_t k = first; k < first + p->n && end + padded(w->t[k].bytes) <= p->have; k++) {
        w->t[k].there = true;
        end += padded(w->t[k].bytes);
    }
    if (p->have) fj_out_cut(p->out, there ? end : 0);
    return there;
}

static bool header(fj_gguf_writer *w) {
    if (w->body || w->err.code) return !w->err.code;
    bool split = w->n_parts > 1;
    if (split && !open_parts(w)) return false;
    for (size_t i = 0, first = 0; i < w->n_parts; first += w->parts[i++].n) {
        const part *p = &w->parts[i];
        if (i) w->n_kv = w->kv.n = 0; /* the first has said all of them */
        if (split) put_split(w, i);
        fj_str h = { 0 };
        fj_str_add(&h, "GGUF");
        put(&h, 3, 4);
        put(&h, p->n, 8);
        put(&h, w->n_kv, 8);
        if (!keep(w, i, first, h.n + w->kv.n + (p->end - p->infos))) {
            fj_out_write(p->out, h.s, h.n);
            fj_out_write(p->out, w->kv.s, w->kv.n);
            fj_out_write(p->out, w->infos.s + p->infos, p->end - p->infos);
            fj_out_pad(p->out, ALIGN);
        }
        fj_str_free(&h);
    }
    w->body = true;
    return !w->err.code;
}

int64_t fj_gguf_writer_next(fj_gguf_writer *w) {
    if (!header(w)) return -1;
    if (w->written) {
        fj_fail(&w->err, FJ_EINVAL, "%s: the data of tensor %s are not complete", w->path,
                w->t[w->cur].name);
        return -1;
    }
    while (w->cur < w->n && w->t[w->cur].there) w->cur++;
    return w->cur < w->n ? (int64_t)w->cur : -1;
}

void fj_gguf_write_data(fj_gguf_writer *w, const void *bytes, size_t n) {
    if (!n || !header(w)) return;
    if (w->cur == w->n || n > w->t[w->cur].bytes - w->written) {
        fj_fail(&w->err, FJ_EINVAL, "%s: more data than %s has", w->path,
                w->cur < w->n ? w->t[w->cur].name : "all tensors together");
        return;
    }
    fj_out *out = w->parts[w->t[w->cur].part].out;
    fj_out_write(out, bytes, n);
    w->written += n;
    if (w->written < w->t[w->cur].bytes) return;
    fj_out_pad(out, ALIGN);
    w->cur++;
    w->written = 0;
}

void fj_gguf_writer_abort(fj_gguf_writer *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_parts; i++) {
        fj_out_abort(w->parts[i].out);
        free(w->parts[i].path);
    }
    free(w->parts);
    for (size_t i = 0; i < w->n; i++) free(w->t[i].name);
    free(w->t);
    free(w->path);
    free(w->key);
    fj_str_free(&w->kv);
    fj_str_free(&w->infos);
    fj_map_free(&w->keys);
    fj_map_free(&w->names);
    free(w);
}

bool fj_gguf_writer_close(fj_gguf_writer *w, fj_err *e) {
    bool ok = !w->err.code;
    if (ok && w->cur < w->n)
        ok = fj_fail(&w->err, FJ_EINVAL, "%s: the data of tensor %s are not complete", w->path,
                     w->t[w->cur].name);
    ok = ok && header(w);
    for (size_t i = w->n_parts; ok && i-- > 0;) { /* the first, which leads to the others, last */
        ok = fj_out_commit(w->parts[i].out, &w->err);
        w->parts[i].out = NULL;
        w->parts[i].done = ok;
    }
    for (size_t i = 0; !ok && i < w->n_parts; i++)
        if (w->parts[i].done) unlink(w->parts[i].path);
    if (!ok && e) *e = w->err;
    fj_gguf_writer_abort(w);
    return ok;
}
