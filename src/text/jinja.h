/* jinja.h - chat templates: the Jinja that apply_chat_template of transformers runs.
 *
 * The language is Jinja2 3.1 as transformers sets it up: ImmutableSandboxedEnvironment with trim_blocks
 * and lstrip_blocks, the loop controls (break, continue), {% generation %}, tojson without HTML escapes,
 * and the globals range, dict, namespace, cycler, joiner, raise_exception, strftime_now.  What a template
 * prints is byte for byte what it prints there, except:
 *   - integers are 64 bits wide; a result beyond that is an error
 *   - include, import, extends and super() fail when they are reached: there is nothing to load from
 *   - the filters random, pprint, urlize, wordwrap and the global lipsum fail when they are reached
 *   - map, select and their kin do their work at once and not item by item
 *
 * Every byte of a string knows where it came from (FJ_FROM_INPUT, FJ_FROM_ANSWER), through every operator,
 * filter and method; the caller learns from that which control tokens the template wrote and which a
 * user spelled.
 *
 * A compiled template is read-only: any number of threads may render with it at once.  A render takes
 * its memory from one arena that is gone when it returns.  Errors name the template, line and column.
 * Source and input are hostile: output, steps, depth and memory have limits. */
#ifndef FJ_TEXT_JINJA_H
#define FJ_TEXT_JINJA_H

#include "base/mem.h"

#include <jansson.h>

typedef struct fj_jinja fj_jinja;

/* `name` stands in messages.  NULL: e says where the source is wrong. */
fj_jinja *fj_jinja_compile(const char *source, size_t n, const char *name, fj_err *e);
void fj_jinja_free(fj_jinja *t); /* NULL is fine */

/* Does the template have a {% generation %} block? */
bool fj_jinja_marks_answers(const fj_jinja *t);
/* Does it use this name anywhere as a variable? */
bool fj_jinja_uses(const fj_jinja *t, const char *name);

enum {
    FJ_FROM_INPUT = 1,  /* a byte of a variable's string, or made from one */
    FJ_FROM_ANSWER = 2, /* inside {% generation %} */
};

/* A variable of the template.  trusted: its strings do not count as input (tokens of the model).
 * value NULL: none. */
typedef struct fj_jinja_var {
    const char *name;
    const json_t *value;
    bool trusted;
    /* Paths "role": members of that name of objects inside lists keep their plain words out of
     * FJ_FROM_INPUT (fj_jinja_plain_role). */
    bool roles;
} fj_jinja_var;

typedef struct fj_jinja_opts {
    double now;         /* seconds since 1970, local time, for strftime_now */
    size_t max_output;  /* bytes; 0: 64 MiB */
    size_t max_memory;  /* bytes of everything a render makes; 0: 256 MiB */
    uint64_t max_steps; /* nodes run and items made; 0: 20 million */
    int max_depth;      /* of nodes in nodes, macros in macros; 0: 1000 */
} fj_jinja_opts;

/* The text.  from: NULL when no byte has a flag, else n flags.  Zero-initialise, free. */
typedef struct fj_jinja_text {
    char *s; /* terminated */
    size_t n;
    uint8_t *from;
} fj_jinja_text;
void fj_jinja_text_free(fj_jinja_text *t);

/* Renders.  raised (may be NULL): true when the template itself refused, through raise_exception. */
bool fj_jinja_render(const fj_jinja *t, const fj_jinja_var *vars, size_t n_vars,
                     const fj_jinja_opts *o, fj_jinja_text *out, bool *raised, fj_err *e);

/* Roles that a template may build markup from: system, user, assistant, tool, ... */
bool fj_jinja_plain_role(const char *s, size_t n);

#endif
