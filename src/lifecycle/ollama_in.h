/* ollama_in.h - what the files of ollama.h share. */
#ifndef FJ_LIFECYCLE_OLLAMA_IN_H
#define FJ_LIFECYCLE_OLLAMA_IN_H

#include "lifecycle/ollama.h"

/* Does Go's strconv.IsPrint hold for the character: a letter, mark, number, sign or the space?  What does
 * not print is dropped by the parser of Modelfiles. */
bool fj_go_prints(uint32_t c);
/* Is s UTF-8 that prints, line breaks (\n) allowed or not? */
bool fj_go_plain(const char *s, size_t n, bool lines);
/* Text of a Go template that prints s as it is, inside the quotes of a Modelfile. */
void fj_go_text(fj_str *out, const char *s, size_t n);

/* ---- from a chat template to its pieces (ollama_tmpl.c) ---------------------------------------- */
enum { START, SYS, USER, ASST, ROLES, MAX_TURNS = 8 };

typedef struct fj_ollama_work {
    const fj_chat *c;
    const char *bos;     /* to be taken off the beginning; NULL: none */
    const char *spelled; /* the BOS token, whoever puts it in front; or "" */
    fj_arena mem;
    fj_err err;
    bool has_bos;
    /* The template, taken apart: what is in front of a content, by the role before it, and behind it. */
    char *front[ROLES][ROLES], *behind[ROLES], *end;
    char *answer_end; /* of an answer that comes last; NULL: the template refuses one */
    bool last;        /* the system message stands in the last user turn, between these two */
    char *in_front, *at_back;
    bool folds, later; /* later: how a system message further on begins was seen */
} fj_ollama_work;

/* "sua" (system, user, assistant) with the contents of each turn. */
json_t *fj_ollama_conversation(const char *turns, const char *const *contents);
/* What the chat template makes of it. */
bool fj_ollama_jinja(const fj_chat *c, const json_t *messages, bool prompt, fj_str *out, fj_err *e);
const char *fj_ollama_without_bos(fj_ollama_work *w, const char *s);
/* What is left of s in front of `tail`, in w's arena; NULL: it does not end so. */
char *fj_ollama_before(fj_ollama_work *w, const char *s, const char *tail);

/* Renders conversations of every shape through both; false: e says what differs.  Counts in *proofs. */
bool fj_ollama_prove(fj_ollama_work *w, const char *text, int *proofs, fj_err *e);

#endif
