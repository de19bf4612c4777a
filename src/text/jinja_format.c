/* jinja_format.c - "%s" % x and "{}".format(x). */
#include "text/jinja_in.h"

#include <math.h>
#include <stdio.h>

/* What stands between : and } and, nearly the same, between % and the letter. */
typedef struct spec {
    uint32_t fill;
    char align, sign, type;
    bool alt, zero, comma, under;
    int64_t width, prec; /* -1: none */
} spec;

static void pad(jb *b, const spec *f, const jstr *body, char align, size_t head) {
    int64_t n = f->width - (int64_t)fjj_chars(body);
    char fill[4];
    size_t fn = fjj_put_char(f->fill ? f->fill : ' ', fill);
    if (n < 0) n = 0;
    if ((uint64_t)n > b->r->max_output / 4)
        fjj_fail(b->r, "the text grows too long: over %zu bytes", b->r->max_output);
    int64_t left = align == '<' || align == '=' ? 0 : align == '^' ? n / 2 : n;
    for (int64_t i = 0; i < left; i++) fjb_add(b, fill, fn, NULL);
    fjb_sub(b, body, 0, head);
    if (align == '=')
        for (int64_t i = 0; i < n; i++) fjb_add(b, fill, fn, NULL);
    fjb_sub(b, body, head, body->n - head);
    if (align != '=')
        for (int64_t i = left; i < n; i++) fjb_add(b, fill, fn, NULL);
}

static void grouped(jb *b, const char *digits, size_t n, char sep, size_t by) {
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % by == 0) fjb_c(b, sep);
        fjb_c(b, digits[i]);
    }
}

static void number(jb *b, const spec *f, const char *text) {
    jb out = { .r = b->r };
    bool minus = *text == '-';
    if (minus) text++;
    if (minus) fjb_c(&out, '-');
    else if (f->sign == '+' || f->sign == ' ') fjb_c(&out, f->sign);
    size_t head = out.n, n = 0;
    if (f->type == 'x' || f->type == 'X' || f->type == 'o' || f->type == 'b') {
        if (f->alt) {
            fjb_c(&out, '0');
            fjb_c(&out, f->type);
            head += 2;
        }
        if (f->under || f->comma) grouped(&out, text, strlen(text), f->comma ? ',' : '_', 4);
        else fjb_z(&out, text);
    } else {
        while (text[n] >= '0' && text[n] <= '9') n++;
        if (f->comma || f->under) grouped(&out, text, n, f->comma ? ',' : '_', 3);
        else fjb_add(&out, text, n, NULL);
        fjb_z(&out, text + n);
    }
    jv v = fjb_take(&out);
    spec g = *f;
    if (f->zero && !f->fill) g.fill = '0';
    pad(b, &g, v.s, f->align ? f->align : f->zero ? '=' : '>', head);
}

static void integer(jb *b, const spec *f, int64_t i) {
    char s[80];
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (f->type == 'b') {
        size_t n = 0;
        char rev[70];
        do rev[n++] = (char)('0' + (u & 1));
        while (u >>= 1);
        if (i < 0) s[0] = '-';
        size_t k = i < 0;
        while (n) s[k++] = rev[--n];
        s[k] = 0;
    } else {
        snprintf(s, sizeof s,
                 f->type == 'x'   ? "%s%llx"
                 : f->type == 'X' ? "%s%llX"
                 : f->type == 'o' ? "%s%llo"
                                  : "%s%llu",
                 i < 0 ? "-" : "", (unsigned long long)u);
    }
    number(b, f, s);
}

static void real(jb *b, const spec *f, double d) {
    char s[512], fmt[16];
    int prec = (int)FJ_MIN(f->prec, 100);
    if (isnan(d) || isinf(d)) {
        snprintf(s, sizeof s, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
    } else if (f->type == '%') {
        snprintf(s, sizeof s, "%.*f%%", prec < 0 ? 6 : prec, d * 100);
    } else if (!f->type && prec < 0) {
        fjj_float_repr(d, s);
    } else {
        char t = f->type ? f->type : 'g';
        if (t == 'n') t = 'g';
        if (t == 'g' || t == 'G') prec = prec < 0 ? 6 : prec == 0 ? 1 : prec;
        snprintf(fmt, sizeof fmt, f->alt ? "%%#.*%c" : "%%.*%c", t);
        snprintf(s, sizeof s, fmt, prec < 0 ? 6 : prec, d);
        if (!f->type && !strpbrk(s, ".e")) snprintf(s + strlen(s), 4, ".0");
    }
    number(b, f, s);
}

/* ---- format(value, spec) -------------------------------------------------------------------------- */
static void parse_spec(jr *r, const jstr *s, spec *f) {
    size_t i = 0, len = 0;
    *f = (spec){ .width = -1, .prec = -1 };
    if (!s->n) return;
    uint32_t c = fjj_get_char(s->p, s->n, &len);
    if (len < s->n && memchr("<>=^", s->p[len], 4)) f->fill = c, f->align = s->p[len], i = len + 1;
    else if (memchr("<>=^", s->p[0], 4)) f->align = s->p[0], i = 1;
    if (i < s->n && memchr("+- ", s->p[i], 3)) f->sign = s->p[i++];
    if (i < s->n && s->p[i] == '#') f->alt = true, i++;
    if (i < s->n && s->p[i] == '0') f->zero = true, i++;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9' && f->width < 1000000; i++)
        f->width = (f->width < 0 ? 0 : f->width) * 10 + (s->p[i] - '0');
    if (i < s->n && (s->p[i] == ',' || s->p[i] == '_'))
        *(s->p[i] == ',' ? &f->comma : &f->under) = true, i++;
    if (i < s->n && s->p[i] == '.') {
        f->prec = 0;
        size_t from = ++i;
        for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9' && f->prec < 1000000; i++)
            f->prec = f->prec * 10 + (s->p[i] - '0');
        if (i == from) fjj_fail(r, "Format specifier missing precision");
    }
    if (i < s->n) f->type = s->p[i++];
    if (i < s->n) fjj_fail(r, "Invalid format specifier");
}

static void format_value(jb *b, jv v, const jstr *how) {
    jr *r = b->r;
    spec f;
    parse_spec(r, how, &f);
    if (!how->n) {
        fjj_str_into(b, v);
        return;
    }
    if (v.k == J_STR || v.k == J_UNDEF) {
        if ((f.type && f.type != 's') || f.sign || f.align == '=' || f.comma || f.under)
            fjj_fail(r, "Unknown format code '%c' for object of type 'str'", f.type ? f.type : '=');
        const jstr *s = fjj_str(r, v);
        if (f.prec >= 0 && f.prec < (int64_t)fjj_chars(s))
            s = fjj_sub(r, s, 0, fjj_char_at(s, f.prec)).s;
        if (f.zero && !f.fill) f.fill = '0';
        pad(b, &f, s, f.align ? f.align : '<', 0);
        return;
    }
    if (v.k == J_BOOL && !f.type) v = fjj_int(v.b);
    int64_t i;
    bool float_type = f.type && strchr("eEfFgG%", f.type);
    if (fjj_as_int(v, &i) && !float_type) {
        if (f.type && !strchr("bcdoxXn", f.type))
            fjj_fail(r, "Unknown format code '%c' for object of type 'int'", f.type);
        if (f.prec >= 0) fjj_fail(r, "Precision not allowed in integer format specifier");
        if (f.type == 'c') {
            char out[4];
            jv one = fjj_strn(r, out, fjj_put_char((uint32_t)i, out), NULL);
            pad(b, &f, one.s, f.align ? f.align : '<', 0);
        } else {
            integer(b, &f, i);
        }
        return;
    }
    if (!fjj_is_num(v))
        fjj_fail(r, "unsupported format string passed to %s.__format__", fjj_type(v));
    if (f.type && !float_type && f.type != 'n')
        fjj_fail(r, "Unknown format code '%c' for object of type 'float'", f.type);
    real(b, &f, fjj_double(v));
}

/* ---- str.format ----------------------------------------------------------------------------------- */
typedef struct fields {
    const jargs *a;
    int64_t next; /* automatic numbering; -1: fields are numbered by hand */
    int depth;
} fields;

static jv argument(jr *r, fields *f, const jstr *name) {
    int64_t i;
    bool big;
    if (!name->n) {
        if (f->next < 0)
            fjj_fail(r,
                     "cannot switch from manual field specification to automatic field numbering");
        i = f->next++;
    } else if (name->p[0] >= '0' && name->p[0] <= '9' && fjj_parse_int(name, 10, &i, &big)) {
        if (f->next > 0)
            fjj_fail(r,
                     "cannot switch from automatic field numbering to manual field specification");
        f->next = -1;
    } else {
        for (uint32_t k = 0; k < f->a->n_kw; k++)
            if (f->a->kw[k]->n == name->n && !memcmp(f->a->kw[k]->p, name->p, name->n))
                return f->a->kwv[k];
        fjj_fail(r, "format: there is no argument '%.*s'", (int)FJ_MIN(name->n, 60u), name->p);
    }
    if (i >= f->a->n)
        fjj_fail(r, "Replacement index %lld out of range for positional args tuple", (long long)i);
    return f->a->pos[i];
}

static jv field(jr *r, fields *f, const jstr *s) {
    size_t i = 0;
    while (i < s->n && s->p[i] != '.' && s->p[i] != '[') i++;
    jv v = argument(r, f, fjj_sub(r, s, 0, i).s);
    while (i < s->n) {
        size_t from = i + 1, end = from;
        if (s->p[i] == '.') {
            while (end < s->n && s->p[end] != '.' && s->p[end] != '[') end++;
            v = fjj_getattr(r, v, fjj_sub(r, s, from, end - from).s);
            i = end;
        } else {
            while (end < s->n && s->p[end] != ']') end++;
            if (end == s->n || end == from)
                fjj_fail(r, end == from ? "Empty attribute in format string"
                                        : "expected ']' before end of string");
            jv key = fjj_sub(r, s, from, end - from);
            int64_t n;
            bool big;
            if (key.s->p[0] >= '0' && key.s->p[0] <= '9' && fjj_parse_int(key.s, 10, &n, &big))
                key = fjj_int(n);
            v = fjj_getitem(r, v, key);
            i = end + 1;
            if (i < s->n && s->p[i] != '.' && s->p[i] != '[')
                fjj_fail(r, "Only '.' or '[' may follow ']' in format field specifier");
        }
    }
    return v;
}

static void formatted(jb *b, fields *f, const jstr *s) {
    jr *r = b->r;
    if (++f->depth > 2) fjj_fail(r, "Max string recursion exceeded");
    for (size_t i = 0; i < s->n;) {
        char c = s->p[i];
        if ((c == '{' || c == '}') && i + 1 < s->n && s->p[i + 1] == c) {
            fjb_sub(b, s, i, 1);
            i += 2;
            continue;
        }
        if (c == '}') fjj_fail(r, "Single '}' encountered in format string");
        if (c != '{') {
            size_t from = i;
            while (i < s->n && s->p[i] != '{' && s->p[i] != '}') i++;
            fjb_sub(b, s, from, i - from);
            continue;
        }
        size_t from = ++i, colon = 0, bang = 0;
        int open = 1;
        for (; i < s->n; i++) {
            if (s->p[i] == '{') open++;
            if (s->p[i] == '}' && --open == 0) break;
            if (s->p[i] == '[' && !colon && !bang)
                while (i + 1 < s->n && s->p[i] != ']') i++;
            if (s->p[i] == '!' && !colon && !bang) bang = i;
            if (s->p[i] == ':' && !colon) colon = i;
        }
        if (i >= s->n)
            fjj_fail(r, from >= s->n ? "Single '{' encountered in format string"
                                     : "expected '}' before end of string");
        size_t end = bang ? bang : colon ? colon : i;
        jv v = field(r, f, fjj_sub(r, s, from, end - from).s);
        if (bang) {
            jb t = { .r = r };
            char how = s->p[bang + 1];
            if ((colon ? colon : i) != bang + 2 || (how != 'r' && how != 's' && how != 'a'))
                fjj_fail(r, "Unknown conversion specifier in format string");
            if (how == 's') fjj_str_into(&t, v);
            else fjj_repr(&t, v);
            v = fjb_take(&t);
        }
        jb inner = { .r = r };
        if (colon) formatted(&inner, f, fjj_sub(r, s, colon + 1, i - colon - 1).s);
        format_value(b, v, fjb_take(&inner).s);
        i++;
    }
    f->depth--;
}

jv fjj_format(jr *r, const jstr *s, const jargs *a) {
    jb b = { .r = r };
    fields f = { .a = a };
    formatted(&b, &f, s);
    return fjb_take(&b);
}

/* ---- % -------------------------------------------------------------------------------------------- */
static void percent(jb *b, spec *f, jv v) {
    jr *r = b->r;
    int64_t i;
    char align = f->align == '<' ? '<' : '>';
    switch (f->type) {
    case 's':
    case 'r':
    case 'a': {
        jb t = { .r = r };
        if (f->type == 's') fjj_str_into(&t, v);
        else fjj_repr(&t, v);
        const jstr *s = fjb_take(&t).s;
        if (f->prec >= 0 && f->prec < (int64_t)fjj_chars(s))
            s = fjj_sub(r, s, 0, fjj_char_at(s, f->prec)).s;
        f->fill = ' ';
        pad(b, f, s, align, 0);
        return;
    }
    case 'c':
        if (v.k == J_STR && fjj_chars(v.s) == 1) pad(b, f, v.s, align, 0);
        else if (fjj_as_int(v, &i)) {
            char out[4];
            jv one = fjj_strn(r, out, fjj_put_char((uint32_t)i, out), NULL);
            pad(b, f, one.s, align, 0);
        } else fjj_fail(r, "%%c requires int or char");
        return;
    case 'd':
    case 'i':
    case 'u':
        if (v.k == J_FLOAT) {
            if (!isfinite(v.d) || fabs(v.d) > 9e18)
                fjj_fail(r, "cannot convert this float to an integer");
            v = fjj_int((int64_t)v.d);
        }
        if (!fjj_as_int(v, &i))
            fjj_fail(r, "%%%c format: a real number is required, not %s", f->type, fjj_type(v));
        f->type = 'd';
        break;
    case 'x':
    case 'X':
    case 'o':
        if (!fjj_as_int(v, &i))
            fjj_fail(r, "%%%c format: an integer is required, not %s", f->type, fjj_type(v));
        break;
    default:
        if (!fjj_is_num(v)) fjj_fail(r, "must be real number, not %s", fjj_type(v));
        if (f->align == '<') f->zero = false;
        real(b, f, fjj_double(v));
        return;
    }
    if (f->align == '<') f->zero = false;
    if (f->prec >= 0) { /* at least so many digits */
        spec g = { .type = f->type,
                   .width = f->prec + (i < 0),
                   .zero = true,
                   .prec = -1,
                   .alt = false,
                   .sign = 0 };
        jb t = { .r = r };
        integer(&t, &g, i);
        f->zero = false;
        pad(b, f, fjb_take(&t).s, align, 0);
        return;
    }
    integer(b, f, i);
}

jv fjj_percent(jr *r, const jstr *s, jv args) {
    jb b = { .r = r };
    uint32_t next = 0, have = args.k == J_TUPLE ? args.l->n : 1;
    bool mapped = false;
    for (size_t i = 0; i < s->n;) {
        if (s->p[i] != '%') {
            size_t from = i;
            while (i < s->n && s->p[i] != '%') i++;
            fjb_sub(&b, s, from, i - from);
            continue;
        }
        spec f = { .width = -1, .prec = -1 };
        jv v = fjj_missing();
        i++;
        if (i < s->n && s->p[i] == '(') {
            size_t from = ++i;
            int open = 1;
            for (; i < s->n && open; i++) open += s->p[i] == '(' ? 1 : s->p[i] == ')' ? -1 : 0;
            if (open) fjj_fail(r, "incomplete format key");
            if (args.k != J_DICT) fjj_fail(r, "format requires a mapping");
            const jv *x = fjj_get(r, args.m, fjj_sub(r, s, from, i - 1 - from));
            if (!x)
                fjj_fail(r, "format: there is no key '%.*s'", (int)FJ_MIN(i - 1 - from, (size_t)60),
                         s->p + from);
            v = *x;
            mapped = true;
        }
        for (; i < s->n && s->p[i] && strchr("-+ #0", s->p[i]); i++) {
            if (s->p[i] == '-') f.align = '<';
            else if (s->p[i] == '+') f.sign = '+';
            else if (s->p[i] == ' ' && !f.sign) f.sign = ' ';
            else if (s->p[i] == '#') f.alt = true;
            else if (s->p[i] == '0') f.zero = true;
        }
        for (int part = 0; part < 2; part++) {
            int64_t *to = part ? &f.prec : &f.width;
            if (part) {
                if (i >= s->n || s->p[i] != '.') break;
                i++;
                *to = 0;
            }
            if (i < s->n && s->p[i] == '*') {
                jv w = args.k == J_TUPLE && next < have ? args.l->v[next++] : fjj_missing();
                if (!fjj_as_int(w, to)) fjj_fail(r, "* wants int");
                if (!part && *to < 0) f.align = '<', *to = -*to;
                i++;
            } else {
                for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9' && *to < 1000000; i++)
                    *to = (*to < 0 ? 0 : *to) * 10 + (s->p[i] - '0');
            }
        }
        while (i < s->n && s->p[i] && strchr("hlL", s->p[i])) i++;
        if (i >= s->n) fjj_fail(r, "incomplete format");
        f.type = s->p[i++];
        if (f.type == '%') {
            fjb_c(&b, '%');
            continue;
        }
        if (!f.type || !strchr("srcadiuxXoeEfFgG", f.type))
            fjj_fail(r, "unsupported format character '%c'", f.type ? f.type : ' ');
        if (v.k == J_MISSING) {
            if (next >= have) fjj_fail(r, "not enough arguments for format string");
            v = args.k == J_TUPLE ? args.l->v[next] : args;
            next++;
        }
        percent(&b, &f, v);
    }
    if (next < have && !mapped && args.k != J_DICT && args.k != J_LIST && args.k != J_RANGE &&
        args.k != J_UNDEF)
        fjj_fail(r, "not all arguments converted during string formatting");
    return fjb_take(&b);
}
