/* peft_match.c - names and expressions that say which modules of a model are meant. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/mem.h"
#include "formats/peft.h"

#include <pcre2.h>

enum { MOST_NAME = 4096, MOST_STEPS = 1000000 };

static bool expression(const char *name) { return strpbrk(name, "\\^$*+?()[]{}|") != NULL; }

static bool behind_a_dot(const char *name, const char *module) {
    size_t n = strlen(name), len = strlen(module);
    return n <= len && !strcmp(module + len - n, name) && (n == len || module[len - n - 1] == '.');
}

static pcre2_code *compile(const char *name, bool anywhere, char why[128]) {
    fj_str text = { 0 };
    int code = 0;
    PCRE2_SIZE at = 0;
    fj_str_addf(&text, "%s(?:%s)\\z", anywhere ? "(?:.*\\.)?" : "", name);
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)text.s, text.n,
                                   PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    if (!re && why) pcre2_get_error_message(code, (PCRE2_UCHAR *)why, 128);
    fj_str_free(&text);
    return re;
}

bool fj_peft_name_ok(const char *name, const char *what, fj_err *e) {
    char why[128] = "";
    if (!*name || strlen(name) > MOST_NAME)
        return fj_fail(e, FJ_EINVAL, "%s: a name of %zu bytes, expected 1 to %d", what,
                       strlen(name), MOST_NAME);
    if (!expression(name)) return true;
    pcre2_code *re = compile(name, true, why);
    if (!re) return fj_fail(e, FJ_EINVAL, "%s: \"%.200s\" is no expression: %s", what, name, why);
    pcre2_code_free(re);
    return true;
}

static bool matches(const char *name, bool anywhere, const char *module) {
    if (!expression(name)) return behind_a_dot(name, module);
    pcre2_code *re = compile(name, anywhere, NULL);
    pcre2_match_data *md = re ? pcre2_match_data_create(1, NULL) : NULL;
    pcre2_match_context *mc = md ? pcre2_match_context_create(NULL) : NULL;
    bool yes = false;
    if (mc) {
        pcre2_set_match_limit(mc, MOST_STEPS);
        yes = pcre2_match(re, (PCRE2_SPTR)module, strlen(module), 0, 0, md, mc) >= 0;
    }
    pcre2_match_context_free(mc);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    return yes;
}

bool fj_peft_names(const char *name, const char *module) { return matches(name, false, module); }
bool fj_peft_ends(const char *name, const char *module) { return matches(name, true, module); }
