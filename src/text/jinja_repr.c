/* jinja_repr.c - str() and repr() as Python has them. */
#include "text/jinja_in.h"

#include <math.h>
#include <stdio.h>

/* The shortest digits that read back as d, laid out as repr(float) does. */
void fjj_float_repr(double d, char out[40]) {
    if (isnan(d)) {
        memcpy(out, "nan", 4);
        return;
    }
    if (isinf(d)) {
        snprintf(out, 40, d < 0 ? "-inf" : "inf");
        return;
    }
    char e[40];
    for (int p = 0; p < 17; p++) {
        snprintf(e, sizeof e, "%.*e", p, d);
        if (strtod(e, NULL) == d) break;
    }
    char *exp = strchr(e, 'e'), *sign = e + (*e == '-');
    int x = (int)strtol(exp + 1, NULL, 10);
    char digits[24];
    size_t n = 0;
    for (char *p = sign; p < exp; p++)
        if (*p != '.') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = 0;
    const char *minus = *e == '-' ? "-" : "";
    if (x < -4 || x >= 16)
        snprintf(out, 40, "%s%c%s%se%c%02d", minus, digits[0], n > 1 ? "." : "", digits + 1,
                 x < 0 ? '-' : '+', abs(x));
    else if (x < 0) snprintf(out, 40, "%s0.%.*s%s", minus, -x - 1, "0000", digits);
    else if ((int)n <= x + 1)
        snprintf(out, 40, "%s%s%.*s.0", minus, digits, x + 1 - (int)n, "0000000000000000");
    else snprintf(out, 40, "%s%.*s.%s", minus, x + 1, digits, digits + x + 1);
}

static void str_repr(jb *b, const jstr *s) {
    bool one = memchr(s->p, '\'', s->n) != NULL, two = memchr(s->p, '"', s->n) != NULL;
    char q = one && !two ? '"' : '\'';
    if (s->markup) fjb_z(b, "Markup(");
    fjb_c(b, q);
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        char esc[16];
        if (c == (uint32_t)q || c == '\\') snprintf(esc, sizeof esc, "\\%c", (char)c);
        else if (c == '\n') snprintf(esc, sizeof esc, "\\n");
        else if (c == '\r') snprintf(esc, sizeof esc, "\\r");
        else if (c == '\t') snprintf(esc, sizeof esc, "\\t");
        else if (c < 32 || c == 127) snprintf(esc, sizeof esc, "\\x%02x", c);
        else if (c < 127) {
            fjb_sub(b, s, i, 1);
            continue;
        } else {
            jstr one_char = { .p = s->p + i, .n = (uint32_t)len, .ascii = 0 };
            if (fjj_is(&one_char, "printable")) {
                fjb_sub(b, s, i, len);
                continue;
            }
            if (c < 256) snprintf(esc, sizeof esc, "\\x%02x", c);
            else if (c < 65536) snprintf(esc, sizeof esc, "\\u%04x", c);
            else snprintf(esc, sizeof esc, "\\U%08x", c);
        }
        fjb_like(b, esc, strlen(esc), s, i, len);
    }
    fjb_c(b, q);
    if (s->markup) fjb_c(b, ')');
}

static void items_repr(jb *b, const char *open, const jlist *l, const char *close) {
    fjb_z(b, open);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i) fjb_z(b, ", ");
        fjj_repr(b, l->v[i]);
    }
    fjb_z(b, close);
}

void fjj_repr(jb *b, jv v) {
    jr *r = b->r;
    char buf[48];
    if (++r->depth > r->max_depth) fjj_fail(r, "values lie too deep in each other");
    fjj_step(r, 1);
    switch (v.k) {
    case J_MISSING:
    case J_UNDEF: fjb_z(b, "Undefined"); break;
    case J_NONE: fjb_z(b, "None"); break;
    case J_BOOL: fjb_z(b, v.b ? "True" : "False"); break;
    case J_INT:
        snprintf(buf, sizeof buf, "%lld", (long long)v.i);
        fjb_z(b, buf);
        break;
    case J_FLOAT:
        fjj_float_repr(v.d, buf);
        fjb_z(b, buf);
        break;
    case J_STR: str_repr(b, v.s); break;
    case J_LIST: items_repr(b, "[", v.l, "]"); break;
    case J_TUPLE: items_repr(b, "(", v.l, v.l->n == 1 ? ",)" : ")"); break;
    case J_DICT:
        fjb_c(b, '{');
        for (uint32_t i = 0; i < v.m->n; i++) {
            if (i) fjb_z(b, ", ");
            fjj_repr(b, v.m->v[i].key);
            fjb_z(b, ": ");
            fjj_repr(b, v.m->v[i].val);
        }
        fjb_c(b, '}');
        break;
    case J_VIEW: {
        jv all = { .k = J_LIST, .l = fjj_all(r, v) };
        fjb_z(b, fjj_type(v));
        fjb_c(b, '(');
        fjj_repr(b, all);
        fjb_c(b, ')');
        break;
    }
    case J_RANGE:
        fjb_z(b, fjj_printf(r, "range(%lld, %lld", (long long)v.g->start, (long long)v.g->stop));
        if (v.g->step != 1) fjb_z(b, fjj_printf(r, ", %lld", (long long)v.g->step));
        fjb_c(b, ')');
        break;
    case J_NS: {
        jv d = { .k = J_DICT, .m = v.m };
        fjb_z(b, "<Namespace ");
        fjj_repr(b, d);
        fjb_c(b, '>');
        break;
    }
    case J_MACRO: fjb_z(b, fjj_printf(r, "<Macro '%s'>", v.mac->name)); break;
    case J_ITER: fjb_z(b, fjj_printf(r, "<%s object>", v.it->what)); break;
    default: fjb_z(b, fjj_printf(r, "<%s object>", fjj_type(v))); break;
    }
    r->depth--;
}

void fjj_str_into(jb *b, jv v) {
    if (v.k == J_STR) fjb_sub(b, v.s, 0, v.s->n);
    else if (v.k != J_UNDEF && v.k != J_MISSING) fjj_repr(b, v);
}

const jstr *fjj_str(jr *r, jv v) {
    if (v.k == J_STR) return v.s;
    jb b = { .r = r };
    fjj_str_into(&b, v);
    return fjb_take(&b).s;
}
