/* model.h - a device, and a model on it.
 *
 * An fj_dev is the processor (or a GPU) with its threads; it and everything opened on it belong to one
 * thread at a time.  An fj_model is the loaded weights, its tokenizer and its hyper-parameters:
 * read-only once open, except while it is trained in full.  Close in reverse order of opening. */
#ifndef FORJA_MODEL_H
#define FORJA_MODEL_H

#include <forja/log.h>
#include <forja/tokenizer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fj_dev fj_dev;
typedef struct fj_model fj_model;
typedef struct fj_lora fj_lora;

typedef struct fj_dev_opts {
    int threads; /* 0: as many as this process may use */
    /* NULL: best of this CPU.  Otherwise at most "scalar"; "avx2", "avx512f", "avx512vnni", "avx512" or "amx"
     * (x86); "neon", "dotprod", "i8mm" or "bf16" (ARM). */
    const char *isa;
    bool f32; /* every product in f32, for comparisons */
    /* NULL or "cpu"; "cuda" or "cuda:N": GPU N, in a build with CUDA; "auto": the first GPU that can be
     * used, else the CPU. */
    const char *device;
} fj_dev_opts;
FJ_API fj_dev *fj_dev_open(const fj_dev_opts *o, fj_err *e);
FJ_API void fj_dev_close(fj_dev *d);              /* NULL is fine */
FJ_API const char *fj_dev_about(const fj_dev *d); /* "2 threads, avx512 vnni bf16" */
/* Bytes that everything opened on d holds now and held at most. */
FJ_API void fj_dev_memory(const fj_dev *d, int64_t *now, int64_t *peak);

/* path: a GGUF file, or a Hugging Face folder (config.json, *.safetensors, tokenizer.json).
 * trainable: every weight as F32, for full training.
 * mapped: weights stay in the file, where they are as they are computed with: nothing is read before it
 * is used, at the price of slower products.  The file must not change meanwhile.  On a CPU, and not with
 * trainable; elsewhere it is as if not said. */
typedef struct fj_model_opts {
    bool trainable, mapped;
} fj_model_opts;
FJ_API fj_model *fj_model_open(fj_dev *d, const char *path, const fj_model_opts *o,
                               const fj_log *log, fj_err *e);
FJ_API void fj_model_close(fj_model *m); /* NULL is fine */

FJ_API const fj_tokenizer *fj_model_tokenizer(const fj_model *m);
typedef struct fj_model_info {
    const char *path, *arch; /* "llama" */
    int64_t params, layers, width, vocab, context;
    int64_t bytes;             /* of the weights on the device */
    const char *formats;       /* "F32 x 12, Q8_0 x 43" */
    const char *chat_template; /* Jinja source from the model's files, or NULL */
} fj_model_info;
FJ_API void fj_model_about(const fj_model *m, fj_model_info *info);
/* SHA-256 of what the model was loaded from (config and weights), in hex. */
FJ_API bool fj_model_hash(const fj_model *m, char hex[65], fj_err *e);

/* type: "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "MXFP4"; norms and biases stay F32.  GGUF: with tokenizer and chat
 * template.  HF: config.json, tokenizer.json, tokenizer_config.json, generation_config.json and
 * model.safetensors (float types only). */
FJ_API bool fj_model_save_gguf(const fj_model *m, const char *path, const char *type, fj_err *e);
FJ_API bool fj_model_save_hf(const fj_model *m, const char *dir, const char *type, fj_err *e);

/* ---- adapters ----------------------------------------------------------------------------------- */
/* A PEFT folder (adapter_config.json, adapter_model.safetensors) or a GGUF adapter, for this model. */
FJ_API fj_lora *fj_lora_open(fj_model *m, const char *path, fj_err *e);
FJ_API void fj_lora_close(fj_lora *l); /* NULL is fine */
FJ_API bool fj_lora_save_peft(const fj_lora *l, const char *dir, fj_err *e);
FJ_API bool fj_lora_save_gguf(const fj_lora *l, const char *path, fj_err *e);

#ifdef __cplusplus
}
#endif
#endif
