/* jinja_seq.h - the filters of jinja_seq.c, for the table in jinja_filters.c. */
#ifndef FJ_TEXT_JINJA_SEQ_H
#define FJ_TEXT_JINJA_SEQ_H

#include "text/jinja_in.h"

#define FILTER(name) jv fjf_##name(jr *r, jv v, jv *a, const jargs *x)
FILTER(batch);
FILTER(dictsort);
FILTER(first);
FILTER(groupby);
FILTER(items);
FILTER(join);
FILTER(last);
FILTER(list);
FILTER(map);
FILTER(max);
FILTER(min);
FILTER(reject);
FILTER(rejectattr);
FILTER(reverse);
FILTER(select);
FILTER(selectattr);
FILTER(slice);
FILTER(sort);
FILTER(sum);
FILTER(unique);

#endif
