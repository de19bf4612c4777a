/* open_tok.h - a tokenizer from whatever holds one: a GGUF file, a folder with tokenizer.json, or a
 * tokenizer.json itself (with the tokenizer_config.json beside it, when there is one). */
#ifndef FJ_CLI_OPEN_TOK_H
#define FJ_CLI_OPEN_TOK_H

#include <forja/tokenizer.h>

fj_tokenizer *fj_open_tokenizer(const char *path, fj_err *e); /* NULL: e names the file and key */

#endif
