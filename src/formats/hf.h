/* hf.h - a Hugging Face model folder: its JSON files with typed getters, and which weights it has.
 *
 * Required: config.json.  Read when there: generation_config.json, tokenizer_config.json;
 * tokenizer.json is loaded on request, since it is large.  Read-only after open. */
#ifndef FJ_FORMATS_HF_H
#define FJ_FORMATS_HF_H

#include "formats/json.h"

#include <stdint.h>

typedef struct fj_hf {
    char *dir;
    json_t *config;           /* config.json */
    json_t *generation;       /* generation_config.json; NULL: not there */
    json_t *tokenizer_config; /* tokenizer_config.json; NULL: not there */
    bool has_tokenizer;       /* tokenizer.json is there */
    bool has_weights;         /* model.safetensors or its index is there: fj_st_open(dir) */
} fj_hf;

fj_hf *fj_hf_open(const char *dir, fj_err *e);
void fj_hf_close(fj_hf *h); /* NULL is fine */
/* A file of the folder, 0-terminated; caller frees.  The error names the folder and the file. */
char *fj_hf_load(const fj_hf *h, const char *name, size_t *n, fj_err *e);

/* Getters on an object; `file` is for messages.  key may be a path: "rope_scaling.factor".  null
 * counts as not there.  Required form: an error when missing.  _opt: *v stays when it is missing.
 * Both: an error that names file, key, expected and found type when the type is wrong. */
bool fj_js_int(const json_t *o, const char *file, const char *key, int64_t *v, fj_err *e);
bool fj_js_float(const json_t *o, const char *file, const char *key, double *v, fj_err *e);
bool fj_js_bool(const json_t *o, const char *file, const char *key, bool *v, fj_err *e);
bool fj_js_string(const json_t *o, const char *file, const char *key, const char **v, fj_err *e);
bool fj_js_int_opt(const json_t *o, const char *file, const char *key, int64_t *v, fj_err *e);
bool fj_js_float_opt(const json_t *o, const char *file, const char *key, double *v, fj_err *e);
bool fj_js_bool_opt(const json_t *o, const char *file, const char *key, bool *v, fj_err *e);
bool fj_js_string_opt(const json_t *o, const char *file, const char *key, const char **v,
                      fj_err *e);
/* The value at a path, NULL when missing or null. */
json_t *fj_js_find(const json_t *o, const char *key);

/* The same on config.json. */
bool fj_hf_int(const fj_hf *h, const char *key, int64_t *v, fj_err *e);
bool fj_hf_float(const fj_hf *h, const char *key, double *v, fj_err *e);
bool fj_hf_bool(const fj_hf *h, const char *key, bool *v, fj_err *e);
bool fj_hf_string(const fj_hf *h, const char *key, const char **v, fj_err *e);
bool fj_hf_int_opt(const fj_hf *h, const char *key, int64_t *v, fj_err *e);
bool fj_hf_float_opt(const fj_hf *h, const char *key, double *v, fj_err *e);
bool fj_hf_bool_opt(const fj_hf *h, const char *key, bool *v, fj_err *e);
bool fj_hf_string_opt(const fj_hf *h, const char *key, const char **v, fj_err *e);

#endif
