/* export_in.h - what the files of an export share (export.c, export_write.c). */
#ifndef FJ_LIFECYCLE_EXPORT_IN_H
#define FJ_LIFECYCLE_EXPORT_IN_H

#include "lifecycle/imatrix.h"
#include "lifecycle/mix.h"
#include "lifecycle/verify.h"
#include "models/save.h"

#include <forja/export.h>
#include <pthread.h>

typedef struct fj_export_job {
    fj_dev *d;
    const fj_export_opts *o;
    fj_exported *r;
    fj_model *m; /* listed */
    fj_lora *l;
    bool folder;      /* out is one; else a file */
    char *work;       /* what is written, under its unverified name */
    char *file;       /* the model or adapter in it, as it is opened */
    const char *type; /* as said, or its default */
    bool keep;
    const fj_mix *mix; /* GGUF without keep */
    fj_mix_model about;
    fj_imatrix *im;
    char *imatrix; /* its path */
    char base_hash[65], key[65];
    json_t *tensors;
    pthread_t hasher; /* finds base_hash meanwhile */
    bool hashing, hashed, hash_ok;
    fj_err hash_err;
} fj_export_job;

/* The type of o, checked and its default filled in; nothing is written. */
bool fj_export_type(fj_export_job *j, fj_err *e);
/* The importance matrix, read or measured. */
bool fj_export_imatrix(fj_export_job *j, fj_err *e);
/* The files, under their unverified name. */
bool fj_export_write(fj_export_job *j, fj_err *e);

#endif
