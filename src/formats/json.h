/* json.h - reading JSON from files nobody has checked, through jansson, strictly: no duplicate
 * keys, nothing after the document, nesting limited by jansson (2048).  Errors name file, line,
 * column. */
#ifndef FJ_FORMATS_JSON_H
#define FJ_FORMATS_JSON_H

#include <forja/err.h>
#include <jansson.h>

/* The caller owns the result (json_decref).  `name` is for messages. */
json_t *fj_json_parse(const char *text, size_t n, const char *name, fj_err *e);
/* A file of at most max bytes whose top is an object. */
json_t *fj_json_file(const char *path, size_t max, fj_err *e);
/* Indented by 2, keys in the order of insertion, newline at the end, written atomically. */
bool fj_json_save(const char *path, const json_t *j, fj_err *e);
/* "an object", "a string", ... for messages. */
const char *fj_json_kind(const json_t *j);

#endif
