/* gguf.h - GGUF files: typed metadata and a table of tensors; version 3 read and written, 2 read.
 *
 * Format: ggml/docs/gguf.md.  Reading maps the file; tensor data are pointers into the map and
 * live until fj_gguf_close.  Everything is checked at open: counts and lengths against the file,
 * duplicate keys and tensors, alignment, data ranges inside the file and apart from each other.
 * After open an fj_gguf is read-only and may be used by any number of threads.  Big-endian files
 * are refused.
 *
 * A model split into NAME-00001-of-0000N.gguf ... is opened by the name of any of its files and is one
 * fj_gguf: the metadata of the first file, the tensors of all in their order.  A file that is missing,
 * has another number, count or metadata, or a tensor that is there already is refused by its name.
 * The keys split.no, split.count and split.tensors.count are not in kv, so that metadata can be copied. */
#ifndef FJ_FORMATS_GGUF_H
#define FJ_FORMATS_GGUF_H

#include "base/dtype.h"
#include "base/mem.h"

typedef enum fj_gguf_type { /* ids of the format */
                            FJ_GGUF_U8,
                            FJ_GGUF_I8,
                            FJ_GGUF_U16,
                            FJ_GGUF_I16,
                            FJ_GGUF_U32,
                            FJ_GGUF_I32,
                            FJ_GGUF_F32,
                            FJ_GGUF_BOOL,
                            FJ_GGUF_STR,
                            FJ_GGUF_ARR,
                            FJ_GGUF_U64,
                            FJ_GGUF_I64,
                            FJ_GGUF_F64,
                            FJ_GGUF_TYPES,
} fj_gguf_type;

typedef struct fj_gguf_str {
    const char *s; /* n bytes, any value; not terminated when from an array */
    size_t n;
} fj_gguf_str;

typedef struct fj_gguf_kv {
    const char *key;
    fj_gguf_type type; /* of the value, or of the elements of an array */
    bool array;
    size_t n;               /* elements; 1 when not an array */
    const void *data;       /* [n] numbers, aligned, host order; NULL for strings */
    const fj_gguf_str *str; /* [n] strings; NULL for numbers */
} fj_gguf_kv;

typedef struct fj_gguf_tensor {
    const char *name;
    uint32_t ggml_type;
    const char *type_name; /* "Q4_K"; "type 77" when nobody here knows it */
    bool usable;           /* forja computes with this format: dtype is set */
    fj_dtype dtype;
    int n_dims;
    int64_t dim[4];      /* ggml order: dim[0] values in a row; 1 beyond n_dims */
    uint64_t offset;     /* in the data section */
    int64_t bytes;       /* -1: size of the format not known */
    const uint8_t *data; /* NULL when bytes is -1; aligned to 8 at least in a mapped file */
    int file;            /* index into files */
} fj_gguf_tensor;

typedef struct fj_gguf {
    const char *name; /* path of the first file, for messages */
    uint32_t version, alignment;
    uint64_t data_start; /* of the data section in the first file */
    size_t n_kv, n_tensors;
    size_t file_bytes;             /* of all files */
    size_t n_files;                /* 1, or the parts of a split model */
    const char *const *files;      /* paths */
    const fj_gguf_kv *kv;          /* in the order of the file */
    const fj_gguf_tensor *tensors; /* in the order of the file */
    struct fj_gguf_own *own;
} fj_gguf;

fj_gguf *fj_gguf_open(const char *path, fj_err *e);
/* The bytes stay the caller's, aligned to 8, and must outlive the result.  A part of a split model is
 * refused. */
fj_gguf *fj_gguf_open_mem(const void *bytes, size_t n, const char *name, fj_err *e);
void fj_gguf_close(fj_gguf *g); /* NULL is fine */

const fj_gguf_kv *fj_gguf_find(const fj_gguf *g, const char *key); /* NULL: not there */
const fj_gguf_tensor *fj_gguf_tensor_find(const fj_gguf *g, const char *name);
/* As find; an error when it is not there or in a format that forja cannot compute with. */
const fj_gguf_tensor *fj_gguf_tensor_get(const fj_gguf *g, const char *name, fj_err *e);

/* Required values.  Integers of any width convert when the value fits, f32 and f64 into each other;
 * nothing else converts.  Errors name file, key, what was expected and what was found. */
bool fj_gguf_u32(const fj_gguf *g, const char *key, uint32_t *v, fj_err *e);
bool fj_gguf_u64(const fj_gguf *g, const char *key, uint64_t *v, fj_err *e);
bool fj_gguf_i64(const fj_gguf *g, const char *key, int64_t *v, fj_err *e);
bool fj_gguf_f32(const fj_gguf *g, const char *key, float *v, fj_err *e);
bool fj_gguf_bool(const fj_gguf *g, const char *key, bool *v, fj_err *e);
/* Terminated; holds no 0 byte inside.  Lives as long as g. */
bool fj_gguf_string(const fj_gguf *g, const char *key, const char **v, fj_err *e);
/* As above; *v stays as it is when the key is not there. */
bool fj_gguf_u32_opt(const fj_gguf *g, const char *key, uint32_t *v, fj_err *e);
bool fj_gguf_u64_opt(const fj_gguf *g, const char *key, uint64_t *v, fj_err *e);
bool fj_gguf_i64_opt(const fj_gguf *g, const char *key, int64_t *v, fj_err *e);
bool fj_gguf_f32_opt(const fj_gguf *g, const char *key, float *v, fj_err *e);
bool fj_gguf_bool_opt(const fj_gguf *g, const char *key, bool *v, fj_err *e);
bool fj_gguf_string_opt(const fj_gguf *g, const char *key, const char **v, fj_err *e);
/* Required arrays; NULL and an error when missing or of another type. */
const fj_gguf_str *fj_gguf_strings(const fj_gguf *g, const char *key, size_t *n, fj_err *e);
const int32_t *fj_gguf_i32s(const fj_gguf *g, const char *key, size_t *n, fj_err *e); /* or u32 */
const float *fj_gguf_f32s(const fj_gguf *g, const char *key, size_t *n, fj_err *e);

/* "u32", "string", ... */
const char *fj_gguf_type_name(fj_gguf_type t);
/* Name and block of any ggml type; NULL: not known.  *block values take *bytes bytes. */
const char *fj_ggml_type_info(uint32_t id, int *block, int *bytes);

/* ---- writing ---------------------------------------------------------------------------------
 * put_* and add_tensor in the order of the file; then the data of each tensor, in the order they
 * were added, in as many pieces as is convenient; then close.  Errors are sticky and come out at
 * close.  Nothing has the final name before close succeeded.  One thread at a time. */
typedef struct fj_gguf_writer fj_gguf_writer;

fj_gguf_writer *fj_gguf_writer_open(const char *path, fj_err *e);
/* A file that may take several tries (fj_out_resume): tensors that are there whole need no data. */
fj_gguf_writer *fj_gguf_writer_resume(const char *path, const char *key, fj_err *e);
/* Before the first tensor: files of at most max_bytes of tensor data each (one tensor at least), as
 * gguf-split --split-max-size counts them; NAME-00001-of-0000N.gguf for a path NAME.gguf, with the
 * metadata in the first, or the path alone where all fits into one.  A failed close leaves none of
 * the files; the first gets its name last. */
void fj_gguf_writer_split(fj_gguf_writer *w, uint64_t max_bytes);
size_t fj_gguf_writer_parts(const fj_gguf_writer *w); /* files, as far as tensors were added */
/* Of part `no` (from 0) of `count` of the model NAME.gguf.  Caller frees. */
char *fj_gguf_part_path(const char *path, uint32_t no, uint32_t count);
void fj_gguf_put_u32(fj_gguf_writer *w, const char *key, uint32_t v);
void fj_gguf_put_u64(fj_gguf_writer *w, const char *key, uint64_t v);
void fj_gguf_put_i32(fj_gguf_writer *w, const char *key, int32_t v);
void fj_gguf_put_f32(fj_gguf_writer *w, const char *key, float v);
void fj_gguf_put_bool(fj_gguf_writer *w, const char *key, bool v);
void fj_gguf_put_string(fj_gguf_writer *w, const char *key, const char *v);
void fj_gguf_put_strings(fj_gguf_writer *w, const char *key, const fj_gguf_str *v, size_t n);
void fj_gguf_put_i32s(fj_gguf_writer *w, const char *key, const int32_t *v, size_t n);
void fj_gguf_put_f32s(fj_gguf_writer *w, const char *key, const float *v, size_t n);
/* Any type, as read from another file; kv->key is used. */
void fj_gguf_put(fj_gguf_writer *w, const fj_gguf_kv *kv);
/* dim in ggml order (dim[0] values in a row), n_dims 1..4. */
void fj_gguf_add_tensor(fj_gguf_writer *w, const char *name, fj_dtype t, int n_dims,
                        const int64_t *dim);
/* The tensor (as counted by add_tensor) whose data come next; -1: all are there, or an error. */
int64_t fj_gguf_writer_next(fj_gguf_writer *w);
void fj_gguf_write_data(fj_gguf_writer *w, const void *bytes, size_t n);
bool fj_gguf_writer_close(fj_gguf_writer *w, fj_err *e); /* frees w in every case */
void fj_gguf_writer_abort(fj_gguf_writer *w);            /* NULL is fine */

#endif
