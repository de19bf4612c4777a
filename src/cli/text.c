/* text.c - what goes to a terminal or a script: clean text, numbers for people, tables, JSON. */
#include "cli/term.h"
#include <math.h>
#include <utf8proc.h>

void fj_put_text(fj_str *out, const char *bytes, size_t n, bool quote) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)bytes;
    fj_str_addn(out, "", 0);
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate(p + i, (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0) {
            fj_str_add(out, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (c == '\n') fj_str_add(out, "\\n");
        else if (c == '\t') fj_str_add(out, "\\t");
        else if (c == '\r') fj_str_add(out, "\\r");
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) fj_str_addf(out, "\\x%02x", (unsigned)c);
        else if (quote && (c == '"' || c == '\\')) fj_str_addf(out, "\\%c", (int)c);
        else fj_str_addn(out, p + i, (size_t)k);
        i += (size_t)k;
    }
}

json_t *fj_json_text(const char *bytes, size_t n) {
    json_t *j = json_stringn(bytes, n);
    if (j) return j;
    fj_str s = { 0 };
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)bytes;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate(p + i, (utf8proc_ssize_t)(n - i), &c);
        if (k > 0) fj_str_addn(&s, p + i, (size_t)k);
        else fj_str_add(&s, "\xef\xbf\xbd");
        i += k > 0 ? (size_t)k : 1;
    }
    j = json_stringn(s.s ? s.s : "", s.n);
    fj_str_free(&s);
    return j;
}

void fj_put_bytes(fj_str *out, double b) {
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    int i = 0;
    while (i < 4 && fabs(b) >= 1024) {
        b /= 1024;
        i++;
    }
    fj_str_addf(out, i && fabs(b) < 100 ? "%.1f %s" : "%.0f %s", b, unit[i]);
}

void fj_put_count(fj_str *out, double n) {
    static const char *const unit[] = { "", "k", "M", "G", "T" };
    int i = 0;
    while (i < 4 && fabs(n) >= 1000) {
        n /= 1000;
        i++;
    }
    fj_str_addf(out, i && fabs(n) < 100 ? "%.2f%s" : "%.0f%s", n, unit[i]);
}

void fj_put_time(fj_str *out, double s) {
    long long v = (long long)(s < 1e9 ? s + 0.5 : 1e9);
    if (v < 60) fj_str_addf(out, "%llds", v);
    else if (v < 3600) fj_str_addf(out, "%lldm%02llds", v / 60, v % 60);
    else fj_str_addf(out, "%lldh%02lldm", v / 3600, v / 60 % 60);
}

int fj_text_width(const char *s) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s;
    int w = 0;
    for (utf8proc_int32_t c; *p;) {
        utf8proc_ssize_t k = utf8proc_iterate(p, -1, &c);
        w += k > 0 ? utf8proc_charwidth(c) : 1;
        p += k > 0 ? k : 1;
    }
    return w;
}

void fj_print_json(json_t *j) {
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    fputc('\n', stdout);
    json_decref(j);
}

bool fj_read_stdin(fj_str *s, size_t most, fj_err *e) {
    enum { STEP = 1 << 16 };
    char *buf = fj_alloc(STEP);
    size_t n;
    while ((n = fread(buf, 1, STEP, stdin)) > 0 && s->n <= most) fj_str_addn(s, buf, n);
    free(buf);
    fj_str_addn(s, "", 0);
    if (s->n > most)
        return fj_fail(e, FJ_EINVAL, "the standard input is over %zu MiB; give it in parts",
                       most >> 20);
    if (ferror(stdin)) return fj_fail_errno(e, "cannot read the standard input");
    return true;
}

/* ---- tables ------------------------------------------------------------------------------------- */

static void add_cells(fj_table *t, va_list ap) {
    FJ_GROW(t->cell, t->n + (size_t)t->n_cols, t->cap);
    for (int i = 0; i < t->n_cols; i++) {
        const char *s = va_arg(ap, const char *);
        t->cell[t->n++] = fj_strdup(s ? s : "");
    }
}

void fj_table_open(fj_table *t, int n_cols, ...) {
    *t = (fj_table){ .n_cols = n_cols };
    va_list ap;
    va_start(ap, n_cols);
    add_cells(t, ap);
    va_end(ap);
}

void fj_table_row(fj_table *t, ...) {
    va_list ap;
    va_start(ap, t);
    add_cells(t, ap);
    va_end(ap);
}

void fj_table_pair(fj_table *t, const char *name, const char *fmt, ...) {
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fj_table_row(t, name, text);
}

void fj_table_print(fj_table *t, FILE *f, int indent) {
    size_t cols = (size_t)t->n_cols;
    int *width = fj_zalloc(cols * sizeof *width);
    bool *right = fj_zalloc(cols * sizeof *right), heads = false;
    for (size_t i = 0; i < t->n; i++) {
        char *s = t->cell[i];
        if (i < cols && *s == '>') {
            right[i] = true;
            memmove(s, s + 1, strlen(s));
        }
        heads |= i < cols && *s;
        width[i % cols] = FJ_MAX(width[i % cols], fj_text_width(s));
    }
    for (size_t i = heads ? 0 : cols; i < t->n; i++) {
        size_t c = i % cols;
        const char *s = t->cell[i];
        int pad = width[c] - fj_text_width(s);
        if (c == 0) fprintf(f, "%*s", indent, "");
        if (right[c]) fprintf(f, "%*s", pad, "");
        fputs(s, f);
        if (c + 1 == cols) fputc('\n', f);
        else fprintf(f, "%*s", (right[c] ? 0 : pad) + 2, "");
    }
    free(width);
    free(right);
    fj_table_free(t);
}

void fj_table_free(fj_table *t) {
    for (size_t i = 0; i < t->n; i++) free(t->cell[i]);
    free(t->cell);
    *t = (fj_table){ 0 };
}
