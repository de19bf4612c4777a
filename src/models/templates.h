/* templates.h - the chat templates of a model's files, and the special tokens as these spell them.
 *
 * GGUF: tokenizer.chat_template is "default", tokenizer.chat_template.NAME is NAME.
 * A folder: chat_template.jinja is "default" and additional_chat_templates/NAME.jinja is NAME; where no such
 * file is, chat_template of tokenizer_config.json, a string or a list of { name, template }.  Tokens are
 * the keys of tokenizer_config.json that end in _token. */
#ifndef FJ_MODELS_TEMPLATES_H
#define FJ_MODELS_TEMPLATES_H

#include "formats/gguf.h"
#include "text/chat.h"

bool fj_templates_of_gguf(fj_templates *t, const fj_gguf *g, fj_err *e);
/* A folder without any of these files has no templates: that is no error. */
bool fj_templates_of_folder(fj_templates *t, const char *dir, fj_err *e);
/* path: a GGUF file, a model's folder, or a file in one, such as its tokenizer.json. */
bool fj_templates_open(fj_templates *t, const char *path, fj_err *e);

#endif
