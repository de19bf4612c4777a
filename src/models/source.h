/* source.h - where a model comes from: a GGUF file or a Hugging Face folder, behind one face. */
#ifndef FJ_MODELS_SOURCE_H
#define FJ_MODELS_SOURCE_H

#include "base/fs.h"
#include "formats/gguf.h"
#include "formats/hf.h"
#include "formats/hfquant.h"
#include "formats/safetensors.h"
#include "models/model.h"

typedef struct fj_source {
    const char *path;
    fj_gguf *gguf;
    fj_hf *hf;
    fj_st *st;
    fj_hfq *quant;      /* how weights of st are quantised; NULL: they are not */
    const char *prefix; /* of tensor names that files may leave out, or NULL */
} fj_source;

typedef struct fj_source_tensor {
    const char *name;
    fj_dtype dtype;
    int n_dims;
    int64_t dim[3]; /* the length of a row last */
    const uint8_t *data;
    bool copied; /* data are not in a mapped file */
} fj_source_tensor;

bool fj_source_open(fj_source *s, const char *path, fj_err *e);
void fj_source_close(fj_source *s);
const fj_arch *fj_source_arch(fj_source *s, fj_err *e);
bool fj_source_tensor_get(const fj_source *s, const char *name, fj_source_tensor *t, fj_err *e);
/* A weight that config.json's quantization_config speaks of; FJ_HFQ_PLAIN: an ordinary tensor. */
bool fj_source_quantised(const fj_source *s, const char *name, fj_hfq_weight *w, fj_err *e);
bool fj_source_has(const fj_source *s, const char *name);
fj_tokenizer *fj_source_tokenizer(const fj_source *s, fj_err *e);

/* ---- hyper-parameters and the files that say them (hparams.c, hparams_write.c) ------------------- */
/* Tables that hp points to are in mem. */
bool fj_source_hparams(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_arena *mem,
                       fj_err *e);
/* The same values into the metadata of a GGUF file; an error names what GGUF cannot say. */
bool fj_hparams_to_gguf(const fj_arch *a, const fj_hparams *hp, fj_gguf_writer *w, fj_err *e);
/* Tensors of divisors that GGUF has for rotary frequencies: at most two. */
typedef struct fj_rope_file {
    const char *name;
    float *v; /* [dims / 2], the caller frees */
} fj_rope_file;
int fj_hparams_rope_tables(const fj_hparams *hp, fj_rope_file out[2]);
/* config.json without the ids of tokens; NULL: an error names what it cannot say. */
json_t *fj_hparams_to_config(const fj_arch *a, const fj_hparams *hp, fj_err *e);
/* The layers that finish() makes of hp's other values. */
void fj_default_layers(const fj_arch *a, const fj_hparams *hp, uint8_t layer[FJ_MAX_LAYERS]);
/* "attention_bias=false": key is its length; the value is JSON. */
const char *fj_fixed_value(const char *fixed, size_t *key);
bool fj_arch_has(const fj_arch *a, size_t offset); /* is there a row for this field? */

/* ---- from hyper-parameters to weights in memory (load.c) ------------------------------------------ */
/* Makes m->w and m->index for m->hp and takes the memory.  Formats and shapes are those of s; s NULL:
 * there is no file, and matrices are what `formats` says. */
bool fj_model_list(fj_model *m, const fj_source *s, const fj_formats *formats, fj_err *e);
/* Rows in w's format, as in files and in HF order, to their place; packed where w is in panels. */
bool fj_weight_put(fj_model *m, const fj_weight *w, const void *rows, fj_err *e);
/* All weights that do not stay in the files (fill.c).  beside is called once, on some thread while others go on. */
bool fj_model_fill(fj_model *m, const fj_source *s,
                   bool (*beside)(fj_model *m, const fj_source *s, fj_err *e), const fj_log *log,
                   fj_err *e);
/* m->params and m->formats ("F32 x 13, Q8_0 x 42"). */
bool fj_model_summarize(fj_model *m);

#endif
