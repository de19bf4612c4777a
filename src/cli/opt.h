/* opt.h - one static table per command is its parser, its help, its completion and its manual.
 *
 * A command keeps its options in a struct of its own; a row names a field by offset and its kind says
 * the C type of that field:
 *     FLAG bool (and --no-NAME), INT int64_t, FLOAT double, STR const char *, CHOICE int (index into
 *     choices), LIST fj_list (one string for each time it is given), SIZE int64_t (bytes: 512M, 4GiB)
 * Strings point into argv.  Defaults are a struct of the same type, and the help prints them from it.
 * lo..hi is the range of a number, both ends in it; lo == hi: no range.  A row without a name ends the
 * table.  Everything here runs on the thread of main(). */
#ifndef FJ_CLI_OPT_H
#define FJ_CLI_OPT_H

#include "base/mem.h"
#include <stdio.h>

typedef enum fj_opt_kind {
    FJ_OPT_FLAG,
    FJ_OPT_INT,
    FJ_OPT_FLOAT,
    FJ_OPT_STR,
    FJ_OPT_CHOICE,
    FJ_OPT_LIST,
    FJ_OPT_SIZE,
} fj_opt_kind;

typedef struct fj_list {
    const char **v;
    size_t n, cap;
} fj_list;

typedef struct fj_opt {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    fj_opt_kind kind;
    size_t at;         /* offsetof its field */
    double lo, hi;     /* numbers: range */
    const char *value; /* "N", "FILE"; a value that starts with FILE or DIR completes file names;
                            CHOICE: "greedy|sample" */
    const char *help;  /* one line */
    const char *unset; /* what the help says where the default is empty or has a meaning: "the
                            number of CPUs"; NULL: print the default as it is */
} fj_opt;

enum { FJ_EXIT_OK, FJ_EXIT_FAILED, FJ_EXIT_USAGE, FJ_EXIT_GATE };

struct fj_term;
typedef struct fj_call { /* what run gets */
    const struct fj_cmd *cmd;
    const void *opts; /* the command's own struct */
    int n_args;
    char **args;
    struct fj_term *term;
} fj_call;

typedef struct fj_cmd {
    const char *name;
    const char *args;    /* "MODEL [TEXT]" for the usage line; "" */
    const char *summary; /* one line */
    const char *manual;  /* paragraphs and examples after the options; NULL */
    const fj_opt *opts;  /* NULL: none */
    size_t size;         /* of the options struct */
    const void *defaults;
    int min_args, max_args; /* max -1: any number */
    int (*run)(fj_call *c); /* an exit code */
} fj_cmd;

/* Every command, ended by NULL; made from commands.def in main.c. */
extern const fj_cmd *const fj_cmds[];
const fj_cmd *fj_cmd_find(const char *name); /* NULL: not there */

typedef struct fj_parsed {
    void *opts; /* cmd->size bytes, from the defaults */
    int n_args;
    char **args;
    bool help; /* --help or -h was there: nothing else was checked */
} fj_parsed;
/* argv[0] is the first word after the command's name.  Errors are whole sentences. */
bool fj_opt_parse(const fj_cmd *cmd, int argc, char **argv, fj_parsed *out, fj_err *e);
void fj_parsed_free(const fj_cmd *cmd, fj_parsed *p);

/* The text of one value for one row, into base (the options struct): what the parser and chat's /set
 * use.  Quotes `shown` ("--top-k", "top_k") in its messages. */
bool fj_opt_set(const fj_opt *o, void *base, const char *shown, const char *text, fj_err *e);
/* The value in base as text; "" for an empty string or list. */
void fj_opt_get(const fj_opt *o, const void *base, fj_str *out);
/* "1 to 1024", "0 or more", "" */
void fj_opt_range(const fj_opt *o, fj_str *out);
const fj_opt *fj_opt_find(const fj_opt *opts, const char *name, size_t n);

/* Prefix with a binary or decimal unit: "1.5GiB", "512M" (2^20), "100kB" (10^3), "42". */
bool fj_parse_size(const char *text, int64_t *bytes);

/* The word of the list that was probably meant, or NULL.  next(ctx, i) gives word i, NULL at the end. */
const char *fj_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                       const void *ctx);

void fj_cmd_usage(const fj_cmd *cmd, FILE *f);    /* the usage line */
void fj_cmd_print(const fj_cmd *cmd, FILE *f);    /* all */
void fj_cmd_markdown(const fj_cmd *cmd, FILE *f); /* its section of docs/commands.md */

#endif
