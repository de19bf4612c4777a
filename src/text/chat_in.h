/* chat_in.h - what chat.c, chat_jinja.c, chat_span.c and chat_ids.c share. */
#ifndef FJ_TEXT_CHAT_IN_H
#define FJ_TEXT_CHAT_IN_H

#include "text/chat.h"
#include "text/jinja.h"

typedef struct fj_control { /* a control token */
    fj_bytes s;
    int32_t id;
} fj_control;

struct fj_chat {
    const fj_tokenizer *t;
    fj_chat_kind kind;
    char *name;
    fj_jinja *jinja, *tools; /* tools: for conversations with tools; NULL: the same */
    json_t *tokens, *kwargs;
    double now;
    fj_control *control; /* sorted by spelling, longest first within a first byte */
    size_t n_control;
    uint32_t first[257]; /* control[first[b] .. first[b+1]) begin with byte b */
    fj_ids newline;      /* of "\n" */
};

/* Conversation to text with its flags (chat_jinja.c).  n_messages: only the first of them. */
bool fj_chat_flagged(const fj_chat *c, const fj_conv *v, size_t n_messages, bool prompt,
                     fj_jinja_text *out, bool *raised, fj_err *e);

/* Sets FJ_FROM_ANSWER in whole->from where a template without marks has its answers (chat_span.c). */
bool fj_chat_find_answers(const fj_chat *c, const fj_conv *v, fj_jinja_text *whole, fj_err *e);

/* Text to ids and mask (chat_ids.c). */
bool fj_chat_encode(const fj_chat *c, const fj_jinja_text *x, fj_ids *ids, fj_mask *mask,
                    fj_err *e);
void fj_chat_list_control(fj_chat *c);
/* The control token at s[at], the longest; NULL: none. */
const fj_control *fj_chat_control_at(const fj_chat *c, const char *s, size_t n, size_t at);

void fj_mask_add(fj_mask *m, uint8_t value, size_t n);

#endif
