/* dress.h - a vocabulary and how it spells conversations, without the weights of a model: what data and
 * template have in common. */
#ifndef FJ_CLI_DRESS_H
#define FJ_CLI_DRESS_H

#include "text/chat.h"

typedef struct fj_dress {
    fj_tokenizer *tok;
    fj_chat *chat;
    bool bytes; /* there is no model: every byte is a token */
} fj_dress;

/* model: as fj_open_tokenizer takes it, or NULL.  how, kwargs: as in forja/eval.h.  date: YYYY-MM-DD for
 * strftime_now; NULL: today. */
bool fj_dress_open(fj_dress *d, const char *model, const char *how, const char *kwargs,
                   const char *date, fj_err *e);
void fj_dress_close(fj_dress *d);

#endif
