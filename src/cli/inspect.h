/* inspect.h - what a model file, model folder or adapter is, as one JSON object.
 *
 * Reads headers and metadata alone; weights are never touched.  Keys: path, kind, size_bytes, files,
 * architecture, name, hyper_parameters {}, tokenizer {}, adapter {}, checkpoint {}, metadata {},
 * totals { tensors, parameters, bytes, bits_per_weight, formats [] },
 * tensors [ { name, format, shape, bytes } ].
 * Shapes are row-major (rows first) for every kind of file. */
#ifndef FJ_CLI_INSPECT_H
#define FJ_CLI_INSPECT_H

#include <forja/err.h>
#include <jansson.h>

json_t *fj_inspect(const char *path, fj_err *e); /* the caller owns it; NULL: error */

#endif
