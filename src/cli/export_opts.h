/* export_opts.h - what export and quantize have in common: the rows of the proof, and what they print. */
#ifndef FJ_CLI_EXPORT_OPTS_H
#define FJ_CLI_EXPORT_OPTS_H

#include "cli/opt.h"
#include "cli/term.h"

#include <forja/export.h>

typedef struct fj_export_cli {
    const char *imatrix, *device;
    fj_list data, tensors;
    double max_kl;
    int64_t positions, chunks, max_bytes, threads;
    bool verify, allow_text, allow_ids, force, json;
} fj_export_cli;
#define FJ_EXPORT_CLI_DEFAULTS                                                                     \
    { .verify = true, .positions = 2000 }

/* Rows of an option table whose struct has an fj_export_cli at `base`. */
#define FJ_EXPORT_ROWS(base)                                                                       \
    {                                                                                              \
        .name = "imatrix",                                                                         \
        .kind = FJ_OPT_STR,                                                                        \
        .at = (base) + offsetof(fj_export_cli, imatrix),                                           \
        .value = "FILE",                                                                           \
        .help =                                                                                    \
            "importance of columns: a file of llama-imatrix, or calibration text to measure it on" \
    },                                                                                             \
        { .name = "imatrix-chunks",                                                                \
          .kind = FJ_OPT_INT,                                                                      \
          .at = (base) + offsetof(fj_export_cli, chunks),                                          \
          .hi = 1 << 24,                                                                           \
          .value = "N",                                                                            \
          .help = "measure it on the first N chunks of 512 tokens; 0: all" },                      \
        { .name = "tensor-type",                                                                   \
          .kind = FJ_OPT_LIST,                                                                     \
          .at = (base) + offsetof(fj_export_cli, tensors),                                         \
          .value = "GLOB=TYPE",                                                                    \
          .help = "write tensors of these names in this format",                                   \
          .unset = "" },                                                                           \
        { .name = "split-max-size",                                                                \
          .kind = FJ_OPT_SIZE,                                                                     \
          .at = (base) + offsetof(fj_export_cli, max_bytes),                                       \
          .value = "SIZE",                                                                         \
          .help = "several files of weights of at most this size",                                 \
          .unset = "5GiB in Hugging Face folders, one file of GGUF" },                             \
        { .name = "verify",                                                                        \
          .kind = FJ_OPT_FLAG,                                                                     \
          .at = (base) + offsetof(fj_export_cli, verify),                                          \
          .help = "open what was written again and compare it before it gets its name" },          \
        { .name = "data",                                                                          \
          .kind = FJ_OPT_LIST,                                                                     \
          .at = (base) + offsetof(fj_export_cli, data),                                            \
          .value = "FILE",                                                                         \
          .help = "compare on these held-out rows",                                                \
          .unset = "of a run its eval_data, else texts of forja's own" },                          \
        { .name = "max-kl",                                                                        \
          .kind = FJ_OPT_FLOAT,                                                                    \
          .at = (base) + offsetof(fj_export_cli, max_kl),                                          \
          .lo = 0,                                                                                 \
          .hi = 1e6,                                                                               \
          .value = "NATS",                                                                         \
          .help = "above this mean KL(trained || exported) the answer is no: exit code 3",         \
          .unset = "by what is written" },                                                         \
        { .name = "positions",                                                                     \
          .kind = FJ_OPT_INT,                                                                      \
          .at = (base) + offsetof(fj_export_cli, positions),                                       \
          .lo = 1,                                                                                 \
          .hi = 1 << 24,                                                                           \
          .value = "N",                                                                            \
          .help = "compare the numbers of so many positions at most" },                            \
        { .name = "allow-text",                                                                    \
          .kind = FJ_OPT_FLAG,                                                                     \
          .at = (base) + offsetof(fj_export_cli, allow_text),                                      \
          .help = "let rows pass that are rendered as another text" },                             \
        { .name = "allow-ids",                                                                     \
          .kind = FJ_OPT_FLAG,                                                                     \
          .at = (base) + offsetof(fj_export_cli, allow_ids),                                       \
          .help = "let rows pass that are other token ids" },                                      \
        { .name = "force",                                                                         \
          .kind = FJ_OPT_FLAG,                                                                     \
          .at = (base) + offsetof(fj_export_cli, force),                                           \
          .help = "replace what is there" },                                                       \
        { .name = "threads",                                                                       \
          .letter = 'j',                                                                           \
          .kind = FJ_OPT_INT,                                                                      \
          .at = (base) + offsetof(fj_export_cli, threads),                                         \
          .hi = 4096,                                                                              \
          .value = "N",                                                                            \
          .help = "threads to compute with",                                                       \
          .unset = "as many as this process may use" },                                            \
    {                                                                                              \
        .name = "json", .kind = FJ_OPT_FLAG, .at = (base) + offsetof(fj_export_cli, json),         \
        .help = "one JSON object: files, tensors with their errors, the comparison"                \
    }

/* Fills in what the options say, runs it, prints; o has base, adapter, to, type, out. */
int fj_export_run(fj_call *c, const fj_export_cli *x, fj_export_opts *o);

#endif
