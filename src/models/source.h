/* source.h - where a model comes from: a GGUF file or a Hugging Face folder, behind one face. */
#ifndef FJ_MODELS_SOURCE_H
#define FJ_MODELS_SOURCE_H

#include "base/fs.h"
#include "formats/gguf.h"
#include "formats/hf.h"
#include "formats/safetensors.h"
#include "models/model.h"

typedef struct fj_source {
    const char *path;
    fj_gguf *gguf;
    fj_hf *hf;
    fj_st *st;
} fj_source;

typedef struct fj_source_tensor {
    const char *name;
    fj_dtype dtype;
    int64_t rows, cols;
    const uint8_t *data;
} fj_source_tensor;

bool fj_source_open(fj_source *s, const char *path, fj_err *e);
void fj_source_close(fj_source *s);
const fj_arch *fj_source_arch(const fj_source *s, fj_err *e);
bool fj_source_hparams(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_err *e);
/* False with NULL name: not there (no error written). */
bool fj_source_tensor_get(const fj_source *s, const char *name, fj_source_tensor *t, fj_err *e);
bool fj_source_has(const fj_source *s, const char *name);
fj_tokenizer *fj_source_tokenizer(const fj_source *s, fj_err *e);

/* ---- from hyper-parameters to weights in memory (load.c) ------------------------------------------ */
/* Makes m->w and m->index for m->hp and takes the memory.  Formats and shapes are those of s; s NULL:
 * matrices are `type`, there is no file. */
bool fj_model_list(fj_model *m, const fj_source *s, fj_dtype type, fj_err *e);
/* Rows in w's format, as in files and in HF order, to their place; packed where w is in panels. */
bool fj_weight_put(fj_model *m, const fj_weight *w, const void *rows, fj_err *e);
/* m->params and m->formats ("F32 x 13, Q8_0 x 42"). */
bool fj_model_summarize(fj_model *m);

#endif
