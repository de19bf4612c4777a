/* chat.h - a conversation to text, to ids, and which of them are answers.
 *
 * Training, evaluation, chat and server all come through here.  Three ways to spell a conversation:
 *   chatml  <|im_start|>role\ncontent<|im_end|>\n, written by this file
 *   raw     contents joined by \n, answers ended by eos; no markup
 *   jinja   a chat template (jinja.h): the model's own, or a file of the user
 *
 * What a user writes cannot end a turn.  chatml and raw encode content apart from markup, with control
 * tokens off.  A template's text is encoded whole, so that its ids are those of apply_chat_template; but
 * a spelling of a control token with a byte that came from a message, a tool, a document or a variable
 * is encoded as text (the stretch between the control tokens around it is then encoded with control
 * tokens off).  The names of roles in use (user, tool, ...) do not count as input, since some templates
 * build their markup from them.  Nothing is put in front of a template's text: it writes its BOS itself
 * where the model wants one.
 *
 * Answers: for a template with {% generation %} every token with a byte in such a block, as
 * return_assistant_tokens_mask has it (which of a character of several tokens at the end of a block marks
 * the first alone; here it is learned whole).  For a template without, the text is rendered again up to each
 * answer: in front of it with add_generation_prompt, and with it.  What is learned is what the whole text
 * has behind the former up to the end of the latter, without the blanks behind a last control token.
 * Where one of the two is no beginning of the whole text:
 *   - the generation prompt alone is not in it (a template that opens a thought in the prompt and leaves it
 *     out of earlier turns): the part of the prompt that is there is not learned, the rest of the turn is
 *   - the text changes with what follows or stands before (earlier thoughts are dropped): the answer is
 *     from where a change at the beginning of its content shows in the whole text to where one at its end
 *     does, and the end-of-turn token that follows
 * So what is learned stands in the text as it is rendered; a thought that the template drops is not learned.
 * Where a change of the content does not show, or there is no content, it is an error that says so.
 */
#ifndef FJ_TEXT_CHAT_H
#define FJ_TEXT_CHAT_H

#include "base/mem.h"

#include <forja/tokenizer.h>
#include <jansson.h>

typedef enum fj_chat_kind { FJ_CHAT_CHATML, FJ_CHAT_RAW, FJ_CHAT_JINJA } fj_chat_kind;

/* One byte for each id: 1 where the loss is taken (an answer and its end of turn). */
typedef struct fj_mask {
    uint8_t *p;
    size_t n, cap;
} fj_mask;
void fj_mask_free(fj_mask *m);

/* Templates that came with a model.  Zero-initialise; everything is in the arena but tokens. */
typedef struct fj_templates {
    fj_arena arena;
    struct fj_template_source {
        const char *name; /* "default", "tool_use", ... */
        const char *text;
    } * v;
    size_t n;
    json_t
        *tokens; /* { "bos_token": "<s>", ... } as the model's files spell them; NULL: none said */
} fj_templates;
void fj_templates_add(fj_templates *t, const char *name,
                      const char *text); /* the first of a name stays */
void fj_templates_replace(fj_templates *t, const char *name, const char *text);
void fj_templates_token(fj_templates *t, const char *key, const char *text);
const char *fj_templates_find(const fj_templates *t, const char *name); /* NULL: none */
void fj_templates_free(fj_templates *t);

/* What `chatml` writes, as a template. */
extern const char fj_chatml_template[];

typedef struct fj_chat_opts {
    /* NULL or "auto": the model's own template, else as fj_chat_default; "chatml"; "raw"; "NAME" of one
     * of the model's templates; or a path of a file with a template (it has a / or a dot in it) */
    const char *how;
    const fj_templates *model; /* may be NULL; borrowed during open only */
    const json_t
        *kwargs; /* variables for the template, an object; may be NULL; borrowed likewise */
    double now;  /* for strftime_now; 0: the clock, at open */
} fj_chat_opts;

/* Read-only once open; any number of threads.  t is borrowed. */
typedef struct fj_chat fj_chat;
fj_chat *fj_chat_open(const fj_tokenizer *t, const fj_chat_opts *o, fj_err *e);
void fj_chat_close(fj_chat *c); /* NULL is fine */
fj_chat_kind fj_chat_kind_of(const fj_chat *c);
/* Does its text depend on opts.now? */
bool fj_chat_uses_clock(const fj_chat *c);
/* Noon of YYYY-MM-DD, local time, for opts.now; false: it is no day. */
bool fj_chat_day(const char *day, double *now);
/* "chatml", "raw", or where the template is from: "the model's chat template", its file. */
const char *fj_chat_name(const fj_chat *c);
/* CHATML when the vocabulary has both of its tokens, else RAW. */
fj_chat_kind fj_chat_default(const fj_tokenizer *t);

/* A conversation, as apply_chat_template takes it.  Borrowed; all but messages may be NULL.
 * messages: a list of objects with role and content (a string, or a list of parts) and what else the template
 * reads: tool_calls, reasoning_content, name, tool_call_id, ...  Members that are null count as absent. */
typedef struct fj_conv {
    const json_t *messages, *tools, *documents;
    const json_t *kwargs; /* of this conversation alone, before those of fj_chat_opts */
} fj_conv;

/* A message of two strings. */
json_t *fj_chat_message(const char *role, const char *content, size_t n);

/* Adds to ids and, when not NULL, to mask (one for each id added).  add_generation_prompt: what stands in
 * front of an answer is put at the end.
 * Errors: what the template says; CHATML without its tokens; RAW without an eos token; chatml and raw: a
 * role that is empty or has a line break or markup in it, a content that is no text, tool calls. */
bool fj_chat_render(const fj_chat *c, const fj_conv *v, bool add_generation_prompt, fj_ids *ids,
                    fj_mask *mask, fj_err *e);

/* The text of a template or of chatml; raw has none.  Caller frees s.  raised as in fj_jinja_render. */
bool fj_chat_text(const fj_chat *c, const fj_conv *v, bool add_generation_prompt, char **s,
                  size_t *n, bool *raised, fj_err *e);

#endif
