/* ollama.h - a folder that `ollama create` reads: a GGUF file and its Modelfile.
 *
 * Ollama renders conversations with Go's text/template and not with Jinja.  The TEMPLATE is found by
 * rendering: marked conversations go through the model's chat template, what stands between the marks is
 * what each role begins and ends with, and that is written as {{ range .Messages }}.  Then it is proven:
 * an evaluator of exactly the constructs that are written renders conversations of every shape, and each
 * text must be that of the chat template, byte for byte.  What does not pass is written without TEMPLATE,
 * with the reason; Ollama then takes what it makes of the template inside the GGUF.
 *
 * Equal means: for contents that do not begin or end with blanks (many templates trim, Ollama cannot), messages as
 * Ollama hands them to a template (neighbours of one role joined by an empty line, as collate does in its
 * template/template.go), no tools, and a conversation that the chat template does not refuse.
 *   - A template that takes no system message: Ollama's are put in front of the first user message.
 *   - An answer that comes last is left open, to be continued, as in Ollama's own templates.
 *   - BOS: Ollama's runner puts one in front of every prompt when the GGUF says add_bos_token, even if the
 *     prompt begins with one (Vocabulary.addSpecials in its tokenizer/vocabulary.go warns and adds).  So the
 *     template's own is left out where the tokenizer adds BOS, and stays where it does not.
 *
 * The Modelfile's parser (parser/parser.go of Ollama) knows no escapes and drops what does not print: such
 * characters and quotes are written as Go strings inside the template, and a system prompt, file name or
 * stop string that has them is refused or left out, so that none can end its quotes. */
#ifndef FJ_LIFECYCLE_OLLAMA_H
#define FJ_LIFECYCLE_OLLAMA_H

#include "models/model.h"

/* DIR/Modelfile, atomically: FROM, ADAPTER (adapter_name not NULL), TEMPLATE, SYSTEM, PARAMETER stop, num_ctx and
 * what generation_config.json says about sampling.  The names are those of files that lie in dir already.
 * *warning: NULL, or a sentence about what Ollama will do otherwise than the model's template; the caller
 * frees it.  Errors: no such folder or file, a name that a Modelfile cannot hold, a part of a split
 * GGUF (Ollama imports models of one file only: its issue 5245), the disk.  Any thread. */
bool fj_ollama_write(const fj_model *m, const char *dir, const char *gguf_name,
                     const char *adapter_name, char **warning, fj_err *e);

/* What a chat template became.  Free with fj_ollama_template_free. */
typedef struct fj_ollama_template {
    char *text;   /* the Go template, proven; NULL: `why` says why not */
    char *why;    /* a sentence */
    char *system; /* text is NULL: the prompt that the template puts where there is none; or NULL */
    char *marks;  /* everything that it puts around contents, for stop strings; or NULL */
    char *begin[3]; /* what turns of system, user and assistant begin with; each may be NULL */
    char *end;      /* what ends a turn of the user; or NULL */
    bool folds;     /* takes no system message: see above */
    bool later;     /* system messages further on were compared, too */
    bool trims;     /* takes blanks off contents */
    bool tools;     /* reads tools */
    bool lacks_bos; /* the tokenizer adds a BOS that the template has not */
    int proofs;     /* conversations whose texts were compared */
} fj_ollama_template;

/* The template called default of t, or ChatML where t has none and the vocabulary has its tokens. */
void fj_ollama_template_of(const fj_templates *t, const fj_tokenizer *tok, fj_ollama_template *out);
void fj_ollama_template_free(fj_ollama_template *t);

/* Renders messages, [{ role, content }], as Ollama would: collated, then through the constructs that
 * fj_ollama_template_of writes.  Adds to out.  Errors: any other construct, by its place in text. */
bool fj_ollama_render(const char *text, const json_t *messages, fj_str *out, fj_err *e);

#endif
