#define PCRE2_CODE_UNIT_WIDTH 8
#include "eval/score.h"

#include <math.h>
#include <pcre2.h>

static bool space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static void trim(const char **s, size_t *n) {
    *n = strlen(*s);
    while (*n && space((*s)[*n - 1])) --*n;
    while (*n && space(**s)) {
        ++*s;
        --*n;
    }
}

bool fj_score_exact(const char *given, const char *wanted) {
    size_t a, b;
    trim(&given, &a);
    trim(&wanted, &b);
    return a == b && memcmp(given, wanted, a) == 0;
}

bool fj_score_contains(const char *given, const char *const *wanted, int n) {
    for (int i = 0; i < n; i++)
        if (!strstr(given, wanted[i])) return false;
    return true;
}

bool fj_score_regex(const char *given, const char *expr, bool *hit, fj_err *e) {
    int code;
    PCRE2_SIZE at;
    *hit = false;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)expr, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_DOTALL, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        return fj_fail(e, FJ_EFORMAT, "regex \"%s\", character %zu: %s", expr, (size_t)at + 1,
                       (char *)why);
    }
    const char *s = given;
    size_t n;
    trim(&s, &n);
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(mc, 1000000); /* an expression out of a file must not hang a run */
    int r = pcre2_match(re, (PCRE2_SPTR)s, n, 0, 0, md, mc);
    pcre2_match_context_free(mc);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    /* An answer that is not UTF-8 matches nothing. */
    if (r == PCRE2_ERROR_MATCHLIMIT || r == PCRE2_ERROR_DEPTHLIMIT || r == PCRE2_ERROR_HEAPLIMIT)
        return fj_fail(e, FJ_EFORMAT, "regex \"%s\" takes too many steps: simplify it", expr);
    *hit = r >= 0;
    return true;
}

void fj_rate_finish(fj_rate *r) {
    if (!r->n) return;
    double n = (double)r->n, p = (double)r->hit / n, z = 1.959963984540054, zz = z * z;
    double mid = (p + zz / (2 * n)) / (1 + zz / n),
           half = z / (1 + zz / n) * sqrt(p * (1 - p) / n + zz / (4 * n * n));
    r->rate = p;
    r->low = fmax(0, mid - half);
    r->high = fmin(1, mid + half);
}
