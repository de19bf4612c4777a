/* gguf_write.c - the writer of gguf.h.  Metadata are collected in memory, since the header says
 * how many keys and tensors follow; tensor data are streamed. */
#include "formats/gguf.h"

#include "base/fs.h"

#include <inttypes.h>
#include <stdio.h>

enum { ALIGN = 32 }; /* the default of the format: no key needed */

typedef struct entry {
    uint64_t bytes;
    char *name;
} entry;

struct fj_gguf_writer {
    fj_out *out;
    fj_err err;
    fj_str kv, infos;
    fj_map keys, names;
    uint64_t n_kv, offset, have; /* have: bytes of an earlier try */
    entry *t;
    size_t n, cap;
    bool body;        /* the header is written */
    size_t cur;       /* tensor whose data come now */
    uint64_t written; /* of that tensor */
    char *path;
};

static fj_gguf_writer *writer_over(fj_out *out, const char *path, uint64_t have) {
    if (!out) return NULL;
    fj_gguf_writer *w = fj_zalloc(sizeof *w);
    w->out = out;
    w->path = fj_strdup(path);
    w->have = have;
    return w;
}

fj_gguf_writer *fj_gguf_writer_open(const char *path, fj_err *e) {
    return writer_over(fj_out_open(path, e), path, 0);
}

fj_gguf_writer *fj_gguf_writer_resume(const char *path, const char *key, fj_err *e) {
    uint64_t have = 0;
    fj_out *out = fj_out_resume(path, key, &have, e);
    return writer_over(out, path, have);
}

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
    w->t[w->n++] = (entry){ (uint64_t)bytes, fj_strdup(name) };
}

static uint64_t padded(uint64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static void header(fj_gguf_writer *w) {
    if (w->body) return;
    w->body = true;
    fj_str h = { 0 };
    fj_str_add(&h, "GGUF");
    put(&h, 3, 4);
    put(&h, w->n, 8);
    put(&h, w->n_kv, 8);
    /* Of an earlier try the header and tensors that are whole, with what pads them. */
    uint64_t start = padded(h.n + w->kv.n + w->infos.n), end = start;
    for (; w->cur < w->n && end + padded(w->t[w->cur].bytes) <= w->have; w->cur++)
        end += padded(w->t[w->cur].bytes);
    if (w->have < start) w->cur = 0;
    if (w->have) fj_out_cut(w->out, w->have < start ? 0 : end);
    if (w->have < start) {
        fj_out_write(w->out, h.s, h.n);
        fj_out_write(w->out, w->kv.s, w->kv.n);
        fj_out_write(w->out, w->infos.s, w->infos.n);
        fj_out_pad(w->out, ALIGN);
    }
    fj_str_free(&h);
}

int64_t fj_gguf_writer_next(fj_gguf_writer *w) {
    if (w->err.code) return -1;
    header(w);
    if (w->written) {
        fj_fail(&w->err, FJ_EINVAL, "%s: the data of tensor %s are not complete", w->path,
                w->t[w->cur].name);
        return -1;
    }
    return w->cur < w->n ? (int64_t)w->cur : -1;
}

void fj_gguf_write_data(fj_gguf_writer *w, const void *bytes, size_t n) {
    if (w->err.code || !n) return;
    header(w);
    if (w->cur == w->n || n > w->t[w->cur].bytes - w->written) {
        fj_fail(&w->err, FJ_EINVAL, "%s: more data than %s has", w->path,
                w->cur < w->n ? w->t[w->cur].name : "all tensors together");
        return;
    }
    fj_out_write(w->out, bytes, n);
    w->written += n;
    if (w->written < w->t[w->cur].bytes) return;
    fj_out_pad(w->out, ALIGN);
    w->cur++;
    w->written = 0;
}

void fj_gguf_writer_abort(fj_gguf_writer *w) {
    if (!w) return;
    fj_out_abort(w->out);
    for (size_t i = 0; i < w->n; i++) free(w->t[i].name);
    free(w->t);
    free(w->path);
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
    if (ok) {
        header(w);
        ok = fj_out_commit(w->out, &w->err);
        w->out = NULL;
    }
    if (!ok && e) *e = w->err;
    fj_gguf_writer_abort(w);
    return ok;
}
