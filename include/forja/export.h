/* export.h - a model, or what was trained over it, in the form that others load, proven to be the same.
 *
 * Files are written tensor by tensor, so a model need not fit into memory, under a name that says
 * "unverified"; then they are opened again as a stranger would, compared with the trained model on rows of
 * text, and get their name only when the comparison stays within its limit.  A run that was stopped goes on
 * where it was.  One call at a time on a device. */
#ifndef FORJA_EXPORT_H
#define FORJA_EXPORT_H

#include <forja/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fj_export_to {
    FJ_EXPORT_ADAPTER,      /* a PEFT folder */
    FJ_EXPORT_HF,           /* a Hugging Face folder: safetensors, config.json, tokenizer */
    FJ_EXPORT_GGUF,         /* a model for llama.cpp and what is built on it */
    FJ_EXPORT_GGUF_ADAPTER, /* an adapter for the same */
    FJ_EXPORT_OLLAMA,       /* a folder with a GGUF model and its Modelfile */
} fj_export_to;

typedef struct fj_exported_tensor {
    const char *name, *from, *to; /* formats: "BF16", "Q4_K" */
    int64_t values;
    bool merged;
    double rms,
        rmse; /* of its values, and of what quantising took from them; NAN: nothing was quantised, or
                         it was written by an earlier try */
} fj_exported_tensor;

typedef struct fj_export_opts {
    const char *base;    /* a GGUF file or a Hugging Face folder */
    const char *adapter; /* a PEFT folder or a GGUF adapter; NULL: base is exported itself */
    const char *
        base_hash; /* fj_model_hash that the base must have; NULL: the one that the adapter's run says */
    /* How the rows of training were spelled, as chat_template of a recipe: the model that is written has this
     * as its template.  NULL or "auto": its own, or ChatML where that is what forja takes for it. */
    const char *chat;
    fj_export_to to;
    /* HF: "F32", "F16", "BF16"; NULL: what most weights of the base have, BF16 where these are quantised.  GGUF and
     * Ollama: a name of llama-quantize ("Q4_K_M", "Q8_0", "F16"), or "keep": each tensor the format of the
     * base's; NULL: keep for a GGUF base, Q8_0 for others. */
    const char *type;
    /* GGUF: "PATTERN=TYPE": the format of tensors whose name has the glob; the first that fits counts. */
    const char *const *tensor_types;
    int n_tensor_types;
    /* Importance of columns: a file of llama-imatrix or of forja, or calibration text (a text file, or a data set),
     * from which it is measured with the model and kept as OUT.imatrix.gguf; NULL: all alike. */
    const char *imatrix;
    int64_t imatrix_chunks; /* of 512 tokens, of calibration text; 0: all */
    /* A folder; for GGUF and GGUF adapters also a file, NAME.gguf.  It is not there yet, unless force. */
    const char *out;
    int64_t
        max_bytes; /* of one file of weights; 0: 5 GB in Hugging Face folders, one file of GGUF */
    bool force;    /* what is at out is replaced */
    /* ---- the proof ---- */
    bool no_verify;
    const char *const
        *data; /* [n_data] held-out rows, as fj_eval_files takes them; 0: texts of forja's own */
    int n_data;
    double max_kl; /* limit of the mean KL(trained || exported) in nats; 0: by what was written */
    int64_t positions;          /* compared; 0: 2000 */
    bool allow_text, allow_ids; /* other rendered text, other ids are told and let pass */
    void (*tensor)(void *ctx, const fj_exported_tensor *t);
    void *ctx;
    const fj_log *log;
} fj_export_opts;

typedef struct fj_exported {
    char *path; /* of the folder or file, also when it is not verified; NULL: nothing was written */
    char *report; /* all numbers as a JSON object, as in export.json; NULL when there is no proof */
    char *table;  /* the comparison as lines of text, or NULL */
    char *note;   /* what an Ollama folder cannot do; or NULL */
    double seconds_write, seconds_verify;
    int64_t bytes; /* of the files of weights */
} fj_exported;

/* FJ_EGATE: the comparison said no; the message names the step that lost it, and r->path is what was written,
 * still under its unverified name.  Free r in every case. */
FJ_API bool fj_export(fj_dev *d, const fj_export_opts *o, fj_exported *r, fj_err *e);
FJ_API void fj_exported_free(fj_exported *r);

#ifdef __cplusplus
}
#endif
#endif
