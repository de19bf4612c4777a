/* bench_model.h - random weights in the shape of a known model: for speed, text from it is noise. */
#ifndef FJ_CLI_BENCH_MODEL_H
#define FJ_CLI_BENCH_MODEL_H

#include "base/dtype.h"
#include <forja/model.h>

typedef struct fj_bench_shape {
    const char *name;
    int64_t layers, width, heads, kv_heads, ffn, vocab; /* tied embeddings */
} fj_bench_shape;
/* SmolLM2-135M, and one that is done in a moment. */
extern const fj_bench_shape fj_bench_shapes[2];

/* Writes a GGUF into a temporary folder, opens it and removes it.  t: of the matrices. */
fj_model *fj_bench_model(fj_dev *d, const fj_bench_shape *s, fj_dtype t, const fj_log *log,
                         fj_err *e);

#endif
