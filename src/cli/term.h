/* term.h - all talk with the terminal: progress, messages, signals, tables, JSON.
 *
 * Data go to stdout, talk goes to stderr.  The bar is drawn only where stderr is a terminal; elsewhere
 * a plain line comes every few seconds.  Colours need a terminal and no NO_COLOR.  Text that comes out
 * of files passes fj_put_text, so that no file can send escapes to a terminal.  Thread of main() only;
 * the signal handler touches nothing but a sig_atomic_t. */
#ifndef FJ_CLI_TERM_H
#define FJ_CLI_TERM_H

#include "base/mem.h"
#include <forja/log.h>
#include <jansson.h>
#include <stdio.h>

typedef struct fj_term {
    const char *command; /* stands in front of every message */
    bool bar_ok;         /* stderr is a terminal that understands \r */
    bool color;          /* of stderr */
    bool bar_shown;
    double last_draw;
    char last_what[32];
    fj_log log; /* pass &t->log to the library */
} fj_term;

void fj_term_open(fj_term *t, const char *command);
void fj_term_close(fj_term *t); /* ends the bar's line */

/* SIGINT and SIGTERM make log.should_stop true; the second one leaves at once with 130. */
void fj_term_catch(void);
bool fj_term_stopped(void);
void fj_term_forget_stop(void);

/* "forja COMMAND: sentence" on stderr. */
void fj_term_say(fj_term *t, fj_level level, const char *fmt, ...) FJ_PRINTF(3, 4);
/* The exit code that belongs to e, after saying it. */
int fj_term_fail(fj_term *t, const fj_err *e);

/* One line of progress into out, at most `width` columns; color as in fj_term. */
void fj_progress_line(const fj_progress *p, int width, fj_str *out);

/* ---- text --------------------------------------------------------------------------------------- */
/* Bytes as UTF-8 that a terminal may see: bad bytes become U+FFFD; control characters become \n, \t
 * or \x1b; with quote also '"' and '\'. */
void fj_put_text(fj_str *out, const char *bytes, size_t n, bool quote);
json_t *fj_json_text(const char *bytes,
                     size_t n);                /* a JSON string of any bytes: U+FFFD for bad ones */
void fj_put_bytes(fj_str *out, double bytes);  /* "1.5 MiB" */
void fj_put_count(fj_str *out, double n);      /* "1.50M" */
void fj_put_time(fj_str *out, double seconds); /* "1m20s" */
int fj_text_width(const char *s);              /* columns of UTF-8 */

/* Indented JSON and a newline on stdout; takes the reference. */
void fj_print_json(json_t *j);

/* All of stdin, exactly, and a 0 behind it; more than `most` bytes are an error. */
bool fj_read_stdin(fj_str *s, size_t most, fj_err *e);

/* ---- tables: columns parted by two spaces; a head that starts with '>' stands right ------------- */
typedef struct fj_table {
    int n_cols;
    char **cell; /* row by row; the heads are row 0 */
    size_t n, cap;
} fj_table;
void fj_table_open(fj_table *t, int n_cols, ...); /* n_cols strings; all NULL: no heads */
void fj_table_row(fj_table *t, ...);              /* n_cols strings, copied; NULL is "" */
/* A row of two: a name and a formatted value. */
void fj_table_pair(fj_table *t, const char *name, const char *fmt, ...) FJ_PRINTF(3, 4);
void fj_table_print(fj_table *t, FILE *f, int indent); /* and frees */
void fj_table_free(fj_table *t);

#endif
