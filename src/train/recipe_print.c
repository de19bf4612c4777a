#include "train/recipe_keys.h"

#include <stdio.h>

static const void *field(const fj_recipe *r, const fj_key *k) {
    return (const char *)r + k->offset;
}

/* Double-quoted YAML; the input is any bytes that were read from YAML or the command line. */
static void quote(fj_str *out, const char *s) {
    fj_str_addc(out, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fj_str_addf(out, "\\%c", c);
        else if (c == '\n') fj_str_add(out, "\\n");
        else if (c == '\t') fj_str_add(out, "\\t");
        else if (c < 0x20 || c == 0x7f) fj_str_addf(out, "\\x%02x", c);
        else fj_str_addc(out, (char)c);
    }
    fj_str_addc(out, '"');
}

/* The shortest digits that read back as v. */
static void number(fj_str *out, double v) {
    char buf[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) break;
    }
    fj_str_add(out, buf);
}

static void value(fj_str *out, const fj_recipe *r, const fj_key *k) {
    const void *f = field(r, k);
    switch (k->type) {
    case FJ_KEY_STR:
    case FJ_KEY_PATH: {
        const char *s = *(const char *const *)f;
        if (s) quote(out, s);
        else fj_str_add(out, "null");
        break;
    }
    case FJ_KEY_PATHS:
    case FJ_KEY_STRS: {
        const fj_strs *l = f;
        if (!l->n) fj_str_add(out, "null");
        else if (l->n == 1) quote(out, l->s[0]);
        else {
            for (int i = 0; i < l->n; i++) {
                fj_str_add(out, i ? ", " : "[");
                quote(out, l->s[i]);
            }
            fj_str_addc(out, ']');
        }
        break;
    }
    case FJ_KEY_INTS: {
        const fj_ints *l = f;
        for (int i = 0; i < l->n; i++) fj_str_addf(out, "%s%d", i ? ", " : "[", l->v[i]);
        fj_str_add(out, l->n ? "]" : "null");
        break;
    }
    case FJ_KEY_TABLE: {
        const fj_patterns *l = f;
        for (int i = 0; i < l->n; i++) {
            fj_str_add(out, i ? ", " : "{");
            quote(out, l->p[i].module);
            fj_str_add(out, ": ");
            number(out, l->p[i].value);
        }
        fj_str_add(out, l->n ? "}" : "null");
        break;
    }
    case FJ_KEY_BOOL: fj_str_add(out, *(const bool *)f ? "true" : "false"); break;
    case FJ_KEY_CHOICE: fj_str_add(out, k->choices[*(const int *)f]); break;
    case FJ_KEY_FLOAT: number(out, *(const double *)f); break;
    default: fj_str_addf(out, "%lld", (long long)*(const int64_t *)f); break;
    }
}

char *fj_recipe_print(const fj_recipe *r) {
    fj_str s = { 0 };
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        fj_str_addf(&s, "%s: ", fj_recipe_keys[i].name);
        value(&s, r, &fj_recipe_keys[i]);
        fj_str_addc(&s, '\n');
    }
    return fj_str_take(&s);
}

char *fj_recipe_help(void) {
    fj_str s = { 0 };
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        char wants[200];
        fj_key_wants(k, wants, sizeof wants);
        fj_str_addf(&s, "  %-28s %s\n  %-28s %s", k->name, k->help, "", wants);
        if (k->def) fj_str_addf(&s, "; default %s", k->def);
        fj_str_addc(&s, '\n');
    }
    return fj_str_take(&s);
}

/* '|' ends a cell of a table, '<' starts a tag. */
static void cell(fj_str *out, const char *s) {
    for (; *s; s++) {
        if (*s == '|' || *s == '<') fj_str_addc(out, '\\');
        fj_str_addc(out, *s);
    }
}

char *fj_recipe_markdown(void) {
    fj_str s = { 0 };
    fj_str_add(
        &s, "# The recipe\n\nMade by `forja train --keys --markdown` from the table in "
            "`src/train/recipe.c`; do not edit by hand.\n\n"
            "A recipe is flat YAML, one `key: value` a line; `demo/recipe.yaml` is a whole one. "
            "Names are those of\ntransformers, peft and trl; the last column has other names "
            "that people know, which are not taken but\nanswered with the right one. "
            "`forja train RECIPE key=value ...` changes keys for one run. Relative paths in a\n"
            "recipe are taken from its folder, those of `key=value` from the current one. "
            "`export: {gguf: FILE, type: q8_0}` is\nthe same as `export_gguf` and "
            "`export_type`. The run folder keeps the recipe as it was resolved, with every key.\n\n"
            "| key | value | default | meaning | known elsewhere as |\n|---|---|---|---|---|\n");
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        char wants[200];
        fj_key_wants(k, wants, sizeof wants);
        fj_str_addf(&s, "| `%s` | %s | %s | ", k->name, wants, k->def ? k->def : "");
        cell(&s, k->help);
        fj_str_add(&s, " | ");
        for (const char *p = k->aka; *p; p++) {
            if (*p == ' ') fj_str_addc(&s, ',');
            fj_str_addc(&s, *p);
        }
        fj_str_add(&s, " |\n");
    }
    return fj_str_take(&s);
}

const char *fj_recipe_differs(const fj_recipe *a, const fj_recipe *b) {
    fj_str x = { 0 }, y = { 0 };
    const char *name = NULL;
    for (int i = 0; i < fj_recipe_n_keys && !name; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        if (k->flags & FJ_KEY_FREE) continue;
        fj_str_clear(&x);
        fj_str_clear(&y);
        value(&x, a, k);
        value(&y, b, k);
        if (x.n != y.n || memcmp(x.s, y.s, x.n) != 0) name = k->name;
    }
    fj_str_free(&x);
    fj_str_free(&y);
    return name;
}

/* ---- did you mean ----------------------------------------------------------------------------- */
static int distance(const char *a, const char *b) {
    enum { MAX = 48 };
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX || m > MAX) return MAX;
    int row[MAX + 1];
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int keep = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = FJ_MIN(keep, FJ_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

static bool known_as(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; n && (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    return false;
}

const char *fj_key_near(const char *name) {
    const char *near = NULL;
    int least = (int)(strlen(name) + 2) / 3 + 1;
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        if (known_as(k->aka, name)) return k->name;
        int d = distance(name, k->name);
        if (d < least) {
            least = d;
            near = k->name;
        }
    }
    return near;
}
