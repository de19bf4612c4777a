/* safetensors.h - safetensors files: one file, or shards under an index; read and written.
 *
 * Format: github.com/huggingface/safetensors README.  Reading maps the files; tensor data are
 * pointers into the maps and live until fj_st_close.  Checked at open: the length of the header,
 * strict JSON without duplicates, shape times format = bytes, ranges that cover the data without
 * hole or overlap, the index against its shards.  After open read-only, for any number of threads.
 */
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
    bool copied;         /* data are not in the map: there they are not aligned */
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

/* ---- writing ---------------------------------------------------------------------------------
 * meta and add first.  The data then follow in the order of the file, which puts wider values
 * first so that all are aligned: ask for it with next.
 *     for (int64_t i; (i = fj_st_writer_next(w)) >= 0;) fj_st_writer_data(w, data[i], bytes[i]);
 * Errors are sticky and come out at close.  Nothing has a final name before close; a failed close
 * leaves none of its files.  One thread at a time. */
typedef struct fj_st_writer fj_st_writer;

fj_st_writer *fj_st_writer_open(const char *path, fj_err *e);
/* Files model-00001-of-0000N.safetensors of at most max_bytes of data each (one tensor at least)
 * and their index in the folder dir, or model.safetensors alone where all fits. */
fj_st_writer *fj_st_writer_open_sharded(const char *dir, int64_t max_bytes, fj_err *e);
/* Of the sharded form, for files that may take several tries (fj_out_resume): before the data.  Next then
 * leaves out the tensors that are there. */
void fj_st_writer_resume(fj_st_writer *w, const char *key);
void fj_st_writer_meta(fj_st_writer *w, const char *key,
                       const char *value); /* format=pt is there */
/* type: a safetensors name such as "F32" (fj_dtype_get(t)->st). */
void fj_st_writer_add(fj_st_writer *w, const char *name, const char *type, int n_dims,
                      const int64_t *dim);
/* The tensor (as counted by add) whose data come next; -1: all written, or an error. */
int64_t fj_st_writer_next(fj_st_writer *w);
void fj_st_writer_data(fj_st_writer *w, const void *bytes, size_t n); /* whole or in pieces */
bool fj_st_writer_close(fj_st_writer *w, fj_err *e);                  /* frees w in every case */
void fj_st_writer_abort(fj_st_writer *w);                             /* NULL is fine */

#endif
