/* line.h - lines of input from a person (editing and history through libedit) or from a pipe. */
#ifndef FJ_CLI_LINE_H
#define FJ_CLI_LINE_H

#include <stdbool.h>

typedef struct fj_line fj_line;

/* name: of the history file in $XDG_STATE_HOME/forja or ~/.local/state/forja ("chat"), only used where stdin
 * and stderr are a terminal; without a home nothing is kept. */
fj_line *fj_line_open(const char *name);
/* One line without its end, valid until the next call; NULL at the end of input, or with *stopped
 * after Ctrl-C.  The prompt is shown to people only. */
const char *fj_line_read(fj_line *l, const char *prompt, bool *stopped);
bool fj_line_is_person(const fj_line *l);
void fj_line_close(fj_line *l); /* saves the history; NULL is fine */

#endif
