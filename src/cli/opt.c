/* opt.c - the parser behind the option tables: words in, fields of a struct out. */
#include "cli/opt.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <strings.h>

const fj_cmd *fj_cmd_find(const char *name) {
    for (size_t i = 0; fj_cmds[i]; i++)
        if (!strcmp(fj_cmds[i]->name, name)) return fj_cmds[i];
    return NULL;
}

const fj_opt *fj_opt_find(const fj_opt *o, const char *name, size_t n) {
    for (; o && o->name; o++) {
        if (strlen(o->name) != n) continue;
        size_t i = 0; /* '_' and '-' are the same letter, so that names of recipes work as well */
        while (i < n && (o->name[i] == name[i] || (o->name[i] == '-' && name[i] == '_'))) i++;
        if (i == n) return o;
    }
    return NULL;
}

static const fj_opt *find_letter(const fj_opt *o, char c) {
    for (; o && o->name; o++)
        if (o->letter == c) return o;
    return NULL;
}

/* ---- what was probably meant -------------------------------------------------------------------- */

enum { WORD = 40 };

/* Optimal string alignment: insert, delete, change, and swap of two neighbours cost 1 each. */
static int distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    if (na >= WORD || nb >= WORD) return WORD;
    int d[WORD + 1][WORD + 1];
    for (size_t i = 0; i <= na; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= nb; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = FJ_MIN(best, FJ_MIN(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = FJ_MIN(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *fj_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                       const void *ctx) {
    const char *best = NULL, *w;
    int limit = (int)strlen(word) / 3, least = FJ_MAX(limit, 1) + 1;
    for (size_t i = 0; (w = next(ctx, i)); i++) {
        int d = distance(word, w);
        /* A beginning of two letters or more is a guess as good as one wrong letter. */
        if (d > 1 && strlen(word) >= 2 && !strncmp(word, w, strlen(word))) d = 1;
        if (d < least) {
            least = d;
            best = w;
        }
    }
    return best;
}

static const char *opt_name(const void *ctx, size_t i) {
    const fj_opt *o = ctx;
    return o ? o[i].name : NULL;
}

/* ---- one value ---------------------------------------------------------------------------------- */

bool fj_parse_size(const char *text, int64_t *bytes) {
    static const struct {
        const char *unit;
        double scale;
    } units[] = {
        { "", 1 },         { "B", 1 },        { "k", 0x1p10 },   { "K", 0x1p10 },
        { "M", 0x1p20 },   { "G", 0x1p30 },   { "T", 0x1p40 },   { "KiB", 0x1p10 },
        { "MiB", 0x1p20 }, { "GiB", 0x1p30 }, { "TiB", 0x1p40 }, { "kB", 1e3 },
        { "KB", 1e3 },     { "MB", 1e6 },     { "GB", 1e9 },     { "TB", 1e12 },
    };
    if (!(*text >= '0' && *text <= '9') || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
        return false;
    char *end;
    double v = strtod(text, &end);
    while (*end == ' ') end++;
    for (size_t i = 0; i < FJ_LEN(units); i++) {
        if (strcasecmp(end, units[i].unit)) continue;
        v *= units[i].scale;
        if (!(v >= 0 && v < 0x1p62)) return false;
        *bytes = (int64_t)v;
        return true;
    }
    return false;
}

void fj_opt_range(const fj_opt *o, fj_str *s) {
    if (o->lo == o->hi) return;
    if (isinf(o->hi)) fj_str_addf(s, "%.16g or more", o->lo);
    else fj_str_addf(s, "%.16g to %.16g", o->lo, o->hi);
}

static bool bad_value(const fj_opt *o, const char *shown, const char *what, const char *text,
                      fj_err *e) {
    fj_str r = { 0 };
    fj_opt_range(o, &r);
    if (o->lo == o->hi) fj_fail(e, FJ_EINVAL, "%s wants %s, not \"%s\"", shown, what, text);
    else if (isinf(o->hi))
        fj_fail(e, FJ_EINVAL, "%s wants %s, %s, not \"%s\"", shown, what, r.s, text);
    else fj_fail(e, FJ_EINVAL, "%s wants %s from %s, not \"%s\"", shown, what, r.s, text);
    fj_str_free(&r);
    return false;
}

static bool in_range(const fj_opt *o, double v) {
    return o->lo == o->hi || (v >= o->lo && v <= o->hi);
}

/* Index of text among "a|b|c", or -1. */
static int choice_index(const char *choices, const char *text) {
    size_t n = strlen(text);
    int i = 0;
    for (const char *p = choices; p; i++) {
        const char *bar = strchr(p, '|');
        size_t len = bar ? (size_t)(bar - p) : strlen(p);
        if (len == n && !strncmp(p, text, n)) return i;
        p = bar ? bar + 1 : NULL;
    }
    return -1;
}

bool fj_opt_set(const fj_opt *o, void *base, const char *shown, const char *text, fj_err *e) {
    char *field = (char *)base + o->at, *end = NULL;
    errno = 0;
    switch (o->kind) {
    case FJ_OPT_FLAG: {
        static const char *const yes[] = { "true", "yes", "on", "1" };
        static const char *const no[] = { "false", "no", "off", "0" };
        for (size_t i = 0; i < FJ_LEN(yes); i++) {
            if (!strcmp(text, yes[i])) return *(bool *)field = true;
            if (!strcmp(text, no[i])) return !(*(bool *)field = false);
        }
        return bad_value(o, shown, "true or false", text, e);
    }
    case FJ_OPT_INT: {
        long long v = strtoll(text, &end, 10);
        if (!*text || *end || *text == ' ' || errno || !in_range(o, (double)v))
            return bad_value(o, shown, "a whole number", text, e);
        *(int64_t *)field = v;
        return true;
    }
    case FJ_OPT_FLOAT: {
        double v = strtod(text, &end);
        if (!*text || *end || *text == ' ' || !isfinite(v) || !in_range(o, v))
            return bad_value(o, shown, "a number", text, e);
        *(double *)field = v;
        return true;
    }
    case FJ_OPT_STR: *(const char **)field = text; return true;
    case FJ_OPT_LIST: {
        fj_list *l = (fj_list *)field;
        FJ_GROW(l->v, l->n + 1, l->cap);
        l->v[l->n++] = text;
        return true;
    }
    case FJ_OPT_CHOICE: {
        int i = choice_index(o->value, text);
        if (i < 0)
            return fj_fail(e, FJ_EINVAL, "%s wants one of %s, not \"%s\"", shown, o->value, text);
        *(int *)field = i;
        return true;
    }
    case FJ_OPT_SIZE: {
        int64_t v;
        if (!fj_parse_size(text, &v) || !in_range(o, (double)v))
            return fj_fail(e, FJ_EINVAL, "%s wants a size such as 512MiB or 4GiB, not \"%s\"",
                           shown, text);
        *(int64_t *)field = v;
        return true;
    }
    }
    return fj_fail(e, FJ_EINVAL, "%s has no kind", shown);
}

static void put_size(int64_t v, fj_str *out) {
    static const char *const unit[] = { "", "KiB", "MiB", "GiB", "TiB" };
    int i = 0;
    while (i < 4 && v && v % 1024 == 0) {
        v /= 1024;
        i++;
    }
    fj_str_addf(out, "%" PRId64 "%s", v, unit[i]);
}

void fj_opt_get(const fj_opt *o, const void *base, fj_str *out) {
    const char *field = (const char *)base + o->at;
    fj_str_addn(out, "", 0);
    switch (o->kind) {
    case FJ_OPT_FLAG: fj_str_add(out, *(const bool *)field ? "true" : "false"); break;
    case FJ_OPT_INT: fj_str_addf(out, "%" PRId64, *(const int64_t *)field); break;
    case FJ_OPT_FLOAT: fj_str_addf(out, "%.6g", *(const double *)field); break;
    case FJ_OPT_STR:
        if (*(const char *const *)field) fj_str_add(out, *(const char *const *)field);
        break;
    case FJ_OPT_LIST: {
        const fj_list *l = (const fj_list *)field;
        for (size_t i = 0; i < l->n; i++) fj_str_addf(out, "%s%s", i ? " " : "", l->v[i]);
        break;
    }
    case FJ_OPT_CHOICE: {
        int i = *(const int *)field;
        const char *p = o->value;
        while (i-- > 0 && (p = strchr(p, '|'))) p++;
        if (p) fj_str_addn(out, p, strcspn(p, "|"));
        break;
    }
    case FJ_OPT_SIZE: put_size(*(const int64_t *)field, out); break;
    }
}

/* ---- the words of a command line ---------------------------------------------------------------- */

static bool unknown_option(const fj_cmd *cmd, const char *word, size_t n, fj_err *e) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)FJ_MIN(n, sizeof name - 1), word);
    const char *bare = !strncmp(name, "no-", 3) ? name + 3 : name;
    const char *near = fj_nearest(name, opt_name, cmd->opts);
    if (!near && bare != name) near = fj_nearest(bare, opt_name, cmd->opts);
    if (near)
        return fj_fail(e, FJ_EINVAL, "there is no option --%s; did you mean --%s?", name, near);
    return fj_fail(e, FJ_EINVAL, "there is no option --%s; forja %s --help lists them", name,
                   cmd->name);
}

/* One word that starts with "--"; may eat the next one. */
static bool long_option(const fj_cmd *cmd, void *opts, int argc, char **argv, int *i, fj_err *e) {
    const char *word = argv[*i] + 2;
    const char *eq = strchr(word, '=');
    size_t n = eq ? (size_t)(eq - word) : strlen(word);
    const fj_opt *o = fj_opt_find(cmd->opts, word, n);
    char shown[64];
    if (!o && n > 3 && !strncmp(word, "no-", 3)) {
        o = fj_opt_find(cmd->opts, word + 3, n - 3);
        if (o && o->kind == FJ_OPT_FLAG) {
            if (eq) return fj_fail(e, FJ_EINVAL, "--no-%s takes no value", o->name);
            *(bool *)((char *)opts + o->at) = false;
            return true;
        }
        if (o)
            return fj_fail(e, FJ_EINVAL, "--%s takes a value and has no --no-%s", o->name, o->name);
    }
    if (!o) return unknown_option(cmd, word, n, e);
    snprintf(shown, sizeof shown, "--%s", o->name);
    if (eq) return fj_opt_set(o, opts, shown, eq + 1, e);
    if (o->kind == FJ_OPT_FLAG) return *(bool *)((char *)opts + o->at) = true;
    if (*i + 1 >= argc)
        return fj_fail(e, FJ_EINVAL, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    return fj_opt_set(o, opts, shown, argv[++*i], e);
}

/* "-q", "-n5", "-n 5", "-qn5" */
static bool short_options(const fj_cmd *cmd, void *opts, int argc, char **argv, int *i, fj_err *e) {
    for (const char *p = argv[*i] + 1; *p; p++) {
        const fj_opt *o = find_letter(cmd->opts, *p);
        if (!o)
            return fj_fail(e, FJ_EINVAL, "there is no option -%c; forja %s --help lists them", *p,
                           cmd->name);
        if (o->kind == FJ_OPT_FLAG) {
            *(bool *)((char *)opts + o->at) = true;
            continue;
        }
        char shown[3] = { '-', *p, 0 };
        if (p[1]) return fj_opt_set(o, opts, shown, p + 1 + (p[1] == '='), e);
        if (*i + 1 >= argc)
            return fj_fail(e, FJ_EINVAL, "-%c needs a value: -%c %s", *p, *p, o->value);
        return fj_opt_set(o, opts, shown, argv[++*i], e);
    }
    return true;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

static bool count_ok(const fj_cmd *cmd, const fj_parsed *p, fj_err *e) {
    if (p->n_args < cmd->min_args)
        return fj_fail(e, FJ_EINVAL, "wants %s; usage: forja %s%s %s", cmd->args, cmd->name,
                       cmd->opts ? " [options]" : "", cmd->args);
    if (cmd->max_args >= 0 && p->n_args > cmd->max_args)
        return fj_fail(e, FJ_EINVAL, "does not know what to do with \"%s\"; usage: forja %s%s%s%s",
                       p->args[cmd->max_args], cmd->name, cmd->opts ? " [options]" : "",
                       *cmd->args ? " " : "", cmd->args);
    return true;
}

bool fj_opt_parse(const fj_cmd *cmd, int argc, char **argv, fj_parsed *out, fj_err *e) {
    *out = (fj_parsed){ .opts = fj_zalloc(cmd->size),
                        .args = fj_zalloc(((size_t)argc + 1) * sizeof(char *)) };
    if (cmd->defaults) memcpy(out->opts, cmd->defaults, cmd->size);
    if (wants_help(argc, argv)) return out->help = true;
    bool ok = true, words_only = false;
    for (int i = 0; ok && i < argc; i++) {
        const char *w = argv[i];
        if (words_only || w[0] != '-' || !w[1]) out->args[out->n_args++] = argv[i];
        else if (!strcmp(w, "--")) words_only = true;
        else if (w[1] == '-') ok = long_option(cmd, out->opts, argc, argv, &i, e);
        else ok = short_options(cmd, out->opts, argc, argv, &i, e);
    }
    ok = ok && count_ok(cmd, out, e);
    if (!ok) fj_parsed_free(cmd, out);
    return ok;
}

void fj_parsed_free(const fj_cmd *cmd, fj_parsed *p) {
    for (const fj_opt *o = cmd->opts; p->opts && o && o->name; o++)
        if (o->kind == FJ_OPT_LIST) free(((fj_list *)((char *)p->opts + o->at))->v);
    free(p->opts);
    free(p->args);
    *p = (fj_parsed){ 0 };
}
