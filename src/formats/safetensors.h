/* safetensors.h - safetensors files: one file, or shards under an index, read.
 *
 * Format: github.com/huggingface/safetensors README.  Reading maps the files; tensor data are pointers
 * into the maps and live until fj_st_close.  Checked at open: the length of the header, strict JSON
 * without duplicates, shape times format = bytes, ranges that cover the data without hole or overlap,
 * the index against its shards.  After open read-only, for any number of threads. */
#ifndef FJ_FORMATS_SAFETENSORS_H
#define FJ_FORMATS_SAFETENSORS_H

#include "base/dtype.h"
#include "base/mem.h"

#define FJ_ST_DIMS 8
#define FJ_ST_INDEX "model.safetensors.index.json"

typedef struct fj_st_tensor {
    const char *name;
    const char *type_name; /* "F32", "F8_E4M3", ... */
    bool usable;           /* forja computes with this format: dtype is set */
    fj_dtype dtype;
    int n_dims;
    int64_t dim[FJ_ST_DIMS]; /* row-major order: the last is the row length; 1 beyond n_dims */
    int64_t bytes;
    const uint8_t *data; /* aligned to the size of one value */
    int file;            /* index into files */
} fj_st_tensor;

typedef struct fj_st {
    const char *name; /* path, for messages */
    size_t n_tensors, n_files;
    const fj_st_tensor *tensors; /* by file, then in the order of the data */
    const char *const *files;    /* paths */
    struct fj_st_own *own;
} fj_st;

/* A .safetensors file, an index (*.index.json), or a folder with model.safetensors or an index. */
fj_st *fj_st_open(const char *path, fj_err *e);
/* The bytes stay the caller's and must outlive the result. */
fj_st *fj_st_open_mem(const void *bytes, size_t n, const char *name, fj_err *e);
void fj_st_close(fj_st *s); /* NULL is fine */

const fj_st_tensor *fj_st_find(const fj_st *s, const char *name); /* NULL: not there */
/* As find; an error when it is not there or in a format that forja cannot compute with. */
const fj_st_tensor *fj_st_get(const fj_st *s, const char *name, fj_err *e);
/* An entry of __metadata__ of the first file that has it; NULL: not there. */
const char *fj_st_meta(const fj_st *s, const char *key);

#endif
