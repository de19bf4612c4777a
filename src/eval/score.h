/* score.h - what makes an answer right, and how sure a share is. */
#ifndef FJ_EVAL_SCORE_H
#define FJ_EVAL_SCORE_H

#include "data/dataset.h"

#include <forja/eval.h>

/* Equal after white space at both ends is gone. */
bool fj_score_exact(const char *given, const char *wanted);
/* given has every one of the strings in it. */
bool fj_score_contains(const char *given, const char *const *wanted, int n);
/* PCRE2 in UTF-8, dot matches newline; false and an error for an expression that does not compile or runs
 * away. */
bool fj_score_regex(const char *given, const char *expr, bool *hit, fj_err *e);

/* rate, low, high from n and hit: Wilson 1927, z = 1.959964. */
void fj_rate_finish(fj_rate *r);

#endif
