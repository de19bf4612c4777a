/* yaml.h - a YAML document as a small tree that remembers where everything stood.
 *
 * libyaml's events into nodes.  Limits: 1 MiB of text, nesting 64, 100000 nodes after aliases are
 * followed (an alias is a second pointer to the same node).  Refused with line and column:
 * duplicate keys, keys that are no scalars, merge keys (<<), tags other than the standard ones,
 * several documents. The getters decide what a scalar means: 1e-4 is a number where a number is
 * asked for.  Read-only. */
#ifndef FJ_FORMATS_YAML_H
#define FJ_FORMATS_YAML_H

#include <forja/err.h>
#include <stdint.h>

typedef enum fj_yaml_kind { FJ_YAML_SCALAR, FJ_YAML_LIST, FJ_YAML_MAP } fj_yaml_kind;

typedef struct fj_yaml {
    fj_yaml_kind kind;
    int line, col;    /* from 1 */
    const char *file; /* for messages */
    const char *text; /* scalar: terminated, without 0 bytes inside */
    bool quoted; /* scalar: written in quotes or as a block, so never null, a number or a bool */
    size_t n;    /* entries of a list or a map */
    const struct fj_yaml **item; /* [n] entries, of a map the values */
    const struct fj_yaml **key;  /* [n] scalars; a map's, in the order of the file */
    uint64_t weight;             /* nodes below and including this one, aliases followed */
} fj_yaml;

typedef struct fj_yaml_doc {
    const fj_yaml *root; /* an empty text is a null scalar */
    struct fj_yaml_own *own;
} fj_yaml_doc;

bool fj_yaml_parse(fj_yaml_doc *d, const char *text, size_t n, const char *name, fj_err *e);
bool fj_yaml_open(fj_yaml_doc *d, const char *path, fj_err *e);
void fj_yaml_close(fj_yaml_doc *d); /* a zeroed or closed one is fine */

const fj_yaml *fj_yaml_get(const fj_yaml *map, const char *key); /* NULL: no map, or not there */
bool fj_yaml_is_null(const fj_yaml *y);                          /* NULL, null, ~ or nothing */

/* Values; `what` names the value ("train.lr") in "FILE:LINE:COLUMN: train.lr: expected a number,
 * found \"abc\"".  A number must be finite; an integer may be written 1e3 or 1_000.  Bools: true
 * false yes no on off. */
bool fj_yaml_int(const fj_yaml *y, const char *what, int64_t *v, fj_err *e);
bool fj_yaml_float(const fj_yaml *y, const char *what, double *v, fj_err *e);
bool fj_yaml_bool(const fj_yaml *y, const char *what, bool *v, fj_err *e);
bool fj_yaml_string(const fj_yaml *y, const char *what, const char **v, fj_err *e);
/* "FILE:LINE:COLUMN: what: " in front of a message of the caller's. */
bool fj_yaml_fail(const fj_yaml *y, const char *what, fj_err *e, const char *fmt, ...)
    FJ_PRINTF(4, 5);

#endif
