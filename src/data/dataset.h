/* dataset.h - rows of training and evaluation data, whatever file they come from.
 *
 * Files: .json (a list of objects), .jsonl/.ndjson (an object a line), .txt (one document), each also
 * as .gz or .zst.  Shapes of a row: see fj_data_format.  The shape is found for each file from its
 * first usable row, or forced; it is said in a log line.
 *
 * Everything in an fj_dataset lives in its arena until fj_dataset_free.  Loading is single-threaded;
 * afterwards the struct is read-only and may be shared by threads.  Errors name file, line, key and what
 * was expected.  Bytes are hostile: UTF-8 is checked, zero bytes are refused, sizes are bounded. */
#ifndef FJ_DATA_DATASET_H
#define FJ_DATA_DATASET_H

#include "base/fs.h"
#include "text/chat.h"

#include <forja/log.h>

typedef enum fj_data_format {
    FJ_DATA_AUTO,
    FJ_DATA_ALPACA,   /* instruction, input (joined by a newline), output|response, system,
                         history [[question, answer], ...] */
    FJ_DATA_SHAREGPT, /* conversations [{from, value}], system */
    FJ_DATA_MESSAGES, /* messages [{role, content}] */
    FJ_DATA_PROMPT,   /* prompt, completion: both strings, or both lists of messages */
    FJ_DATA_TEXT,     /* text; or a .txt file, which is one row */
    FJ_DATA_FORMATS
} fj_data_format;

extern const char *const fj_data_format_names[FJ_DATA_FORMATS]; /* "auto", "alpaca", ... */

typedef struct fj_message {
    const char *role;    /* "system", "user", "assistant", "tool" or what the file says */
    const char *content; /* UTF-8, terminated, no zero bytes inside */
} fj_message;

typedef struct fj_data_row {
    fj_message *messages; /* NULL for raw text */
    int n_messages;
    /* The conversation as JSON (messages, tools, documents, chat_template_kwargs), when it has more than
     * role and text in it; else NULL. */
    const char *json;
    const char *text; /* raw text, else NULL */
    size_t text_n;
    /* What an evaluation compares with; all may be absent. */
    const char *answer, *regex;
    const char **contains;
    int n_contains;
    int file;                 /* index into files */
    int64_t line;             /* first line of the row, from 1 */
    bool document;            /* the whole of a .txt file */
    char hash[FJ_SHA256_HEX]; /* of the canonical content: equal rows have equal hashes */
} fj_data_row;

typedef struct fj_data_file {
    const char *path;
    fj_data_format format;
    int64_t rows, skipped;
    char hash[FJ_SHA256_HEX]; /* of the file's bytes as stored */
} fj_data_file;

typedef struct fj_dataset {
    fj_arena arena;
    fj_data_row *rows;
    size_t n, cap;
    fj_data_file *files;
    int n_files;
    int64_t skipped;          /* bad rows left out (skip_bad_rows) */
    char hash[FJ_SHA256_HEX]; /* of the row hashes in order */
} fj_dataset;

typedef struct fj_dataset_opts {
    fj_data_format format; /* FJ_DATA_AUTO: find it */
    bool skip_bad_rows;    /* leave out, count and report, instead of failing */
    bool open_rows;        /* evaluation: a row may end with a question when it has answer, contains
                              or regex */
    size_t max_bytes;      /* of one file, decompressed; 0: 4 GiB */
} fj_dataset_opts;

/* Reads the files in order.  An empty result is an error. */
bool fj_dataset_load(fj_dataset *d, const char *const *paths, int n_paths, const fj_dataset_opts *o,
                     const fj_log *log, fj_err *e);
void fj_dataset_free(fj_dataset *d);

/* The conversation of a row as JSON, to be read through fj_row_conv; the caller owns it.  system (may be
 * NULL or ""): put first when there is no system message.  open: without a last assistant message.
 * answer (may be NULL): put last as the assistant's. */
json_t *fj_row_conversation(const fj_data_row *r, const char *system, bool open,
                            const char *answer);
fj_conv fj_row_conv(const json_t *conversation);

/* "FILE line N", for messages; writes into buf and returns it. */
const char *fj_row_name(const fj_dataset *d, const fj_data_row *r, char *buf, size_t n);

#endif
