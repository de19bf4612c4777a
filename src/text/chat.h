/* chat.h - a conversation to ids, and which of them are answers.
 *
 * Markup is encoded with control tokens on, content with them off: what a user writes cannot end a
 * turn.  Every part is encoded on its own, so that the ids before an answer are those that generation
 * starts from: rendering the messages before it with add_generation_prompt gives a prefix of rendering
 * them all. */
#ifndef FJ_TEXT_CHAT_H
#define FJ_TEXT_CHAT_H

#include <forja/tokenizer.h>

typedef enum fj_chat_kind {
    FJ_CHAT_CHATML, /* <|im_start|>role\ncontent<|im_end|>\n */
    FJ_CHAT_RAW,    /* contents joined by \n, answers ended by eos; no markup */
} fj_chat_kind;

typedef struct fj_msg {
    const char *role; /* "system", "user", "assistant", "tool" */
    const char *content;
    size_t n; /* bytes of content */
} fj_msg;

/* One byte for each id: 1 where the loss is taken (an answer and its end of turn). */
typedef struct fj_mask {
    uint8_t *p;
    size_t n, cap;
} fj_mask;
void fj_mask_free(fj_mask *m);

/* CHATML when the vocabulary has both of its tokens, else RAW. */
fj_chat_kind fj_chat_default(const fj_tokenizer *t);
const char *fj_chat_name(fj_chat_kind k); /* "chatml", "raw" */
bool fj_chat_parse(const char *name, fj_chat_kind *k);

/* Adds to ids and, when not NULL, to mask (one for each id added).  The ids of the model's own start
 * (BOS) come first.  add_generation_prompt: what stands in front of an answer is put at the end.
 * Errors: CHATML without its tokens; RAW without an eos token; a role that is empty or has a line
 * break or markup in it. */
bool fj_chat_render(const fj_tokenizer *t, fj_chat_kind k, const fj_msg *msgs, size_t n,
                    bool add_generation_prompt, fj_ids *ids, fj_mask *mask, fj_err *e);

#endif
