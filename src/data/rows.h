/* rows.h - inside data/: from one JSON object to one row.  See dataset.h for what users of it see. */
#ifndef FJ_DATA_ROWS_H
#define FJ_DATA_ROWS_H

#include "data/dataset.h"

#include <jansson.h>

/* The shape that the keys of o speak of; false with a message that lists the keys found. */
bool fj_row_detect(const json_t *o, fj_data_format *f, fj_err *e);

/* Fills messages or text and what an evaluation compares with; strings are copied into a.  Messages
 * do not say file and line: the caller wraps them. */
bool fj_row_read(const json_t *o, fj_data_format f, bool open_rows, fj_arena *a, fj_data_row *r,
                 fj_err *e);

/* r->hash from the content. */
void fj_row_hash(fj_data_row *r);

/* Keys that a row of this shape is read from, NULL at the end. */
const char *const *fj_row_keys(fj_data_format f);

#endif
