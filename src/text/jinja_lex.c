/* jinja_lex.c - source to tokens, with the whitespace control of trim_blocks and lstrip_blocks. */
#include "text/jinja_in.h"

#include <errno.h>
#include <stdio.h>

typedef struct lex {
    jr *r;
    const char *s; /* newlines are \n */
    size_t n, at;
    size_t seen; /* line and column are those of this place */
    uint32_t line, col;
    bool line_starting;
    jtoken *v;
    size_t count, cap;
    char open[256]; /* brackets that wait */
    int n_open;
} lex;

static const struct {
    const char *s;
    jtok t;
} operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW },      { "==", T_EQ },    { "!=", T_NE },
    { ">=", T_GE },       { "<=", T_LE },       { "+", T_ADD },    { "-", T_SUB },
    { "/", T_DIV },       { "*", T_MUL },       { "%", T_MOD },    { "~", T_TILDE },
    { "[", T_LBRACKET },  { "]", T_RBRACKET },  { "(", T_LPAREN }, { ")", T_RPAREN },
    { "{", T_LBRACE },    { "}", T_RBRACE },    { ">", T_GT },     { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },       { ":", T_COLON },  { "|", T_PIPE },
    { ",", T_COMMA },     { ";", T_SEMICOLON },
};

const char *fjj_tok_name(jtok t) {
    static const char *const names[] = { [T_EOF] = "end of template",
                                         [T_DATA] = "template data / text",
                                         [T_VAR_BEGIN] = "begin of print statement",
                                         [T_VAR_END] = "end of print statement",
                                         [T_BLOCK_BEGIN] = "begin of statement block",
                                         [T_BLOCK_END] = "end of statement block",
                                         [T_NAME] = "name",
                                         [T_STR] = "string",
                                         [T_INT] = "integer",
                                         [T_FLOAT] = "float" };
    for (size_t i = 0; i < FJ_LEN(operators); i++)
        if (operators[i].t == t) return operators[i].s;
    return names[t];
}

static void place(lex *l, size_t at) {
    for (; l->seen < at; l->seen++) {
        if (l->s[l->seen] == '\n') l->line++, l->col = 1;
        else if (((unsigned char)l->s[l->seen] & 0xc0) != 0x80) l->col++;
    }
    l->r->line = l->line;
    l->r->col = l->col;
}

static jtoken *push(lex *l, jtok t, size_t from, size_t to) {
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        jtoken *v = fjj_alloc(l->r, cap * sizeof *v);
        if (l->count) memcpy(v, l->v, l->count * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    place(l, from);
    l->v[l->count] = (jtoken){ .t = (uint8_t)t,
                               .line = l->line,
                               .col = l->col,
                               .p = l->s + from,
                               .n = (uint32_t)(to - from) };
    return &l->v[l->count++];
}

static bool here(const lex *l, size_t at, const char *what) {
    size_t n = strlen(what);
    return l->n - at >= n && !memcmp(l->s + at, what, n);
}

static size_t spaces(const lex *l, size_t at) {
    size_t len;
    while (at < l->n && fjj_space(fjj_get_char(l->s + at, l->n - at, &len))) at += len;
    return at;
}

/* An end of a tag, `close` being its sign: how far it goes; 0: it is not here. */
static size_t tag_end(const lex *l, size_t at, const char *close, bool trim, bool plus) {
    size_t n = strlen(close);
    if (at < l->n && l->s[at] == '-' && here(l, at + 1, close)) return spaces(l, at + 1 + n);
    if (plus && at < l->n && l->s[at] == '+' && here(l, at + 1, close)) return at + 1 + n;
    if (!here(l, at, close)) return 0;
    at += n;
    return trim && at < l->n && l->s[at] == '\n' ? at + 1 : at;
}

/* Text in front of a tag.  sign: what stands behind the tag's opening. */
static void data(lex *l, size_t from, size_t to, char sign, bool variable) {
    size_t end = to;
    if (sign == '-') {
        while (end > from) {
            size_t p = end - 1, len;
            while (p > from && ((unsigned char)l->s[p] & 0xc0) == 0x80) p--;
            if (!fjj_space(fjj_get_char(l->s + p, end - p, &len)) || p + len != end) break;
            end = p;
        }
    } else if (sign != '+' && !variable) {
        size_t start = to;
        while (start > from && l->s[start - 1] != '\n') start--;
        if ((start > from || l->line_starting) && start < to && spaces(l, start) >= to) end = start;
    }
    if (end > from) push(l, T_DATA, from, end);
}

static char sign_at(const lex *l, size_t at) {
    return at < l->n && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : 0;
}

static void comment(lex *l, size_t at) {
    size_t end;
    for (size_t p = at; p < l->n; p++)
        if ((end = tag_end(l, p, "#}", true, true))) {
            l->at = end;
            l->line_starting = l->s[end - 1] == '\n';
            return;
        }
    place(l, at);
    fjj_fail(l->r, "Missing end of comment tag");
}

/* {% raw %}: the place behind it, 0 when this is another tag. */
static size_t raw_begin(const lex *l, size_t at) {
    at = spaces(l, at);
    if (!here(l, at, "raw")) return 0;
    at = spaces(l, at + 3);
    return tag_end(l, at, "%}", false, false);
}

static void raw(lex *l, size_t at) {
    size_t end;
    for (size_t p = at; p < l->n; p++) {
        if (!here(l, p, "{%")) continue;
        char sign = sign_at(l, p + 2);
        size_t q = spaces(l, p + 2 + (sign != 0));
        if (!here(l, q, "endraw")) continue;
        if (!(end = tag_end(l, spaces(l, q + 6), "%}", true, true))) continue;
        data(l, at, p, sign, false);
        l->at = end;
        l->line_starting = l->s[end - 1] == '\n';
        return;
    }
    place(l, at);
    fjj_fail(l->r, "Missing end of raw directive");
}

/* ---- inside a tag --------------------------------------------------------------------------------- */
static int hex(const char *p, size_t left, int n, uint32_t *c) {
    *c = 0;
    if (left < (size_t)n) return 0;
    for (int i = 0; i < n; i++) {
        int d = p[i] >= '0' && p[i] <= '9'                 ? p[i] - '0'
                : (p[i] | 32) >= 'a' && (p[i] | 32) <= 'f' ? (p[i] | 32) - 'a' + 10
                                                           : -1;
        if (d < 0) return 0;
        *c = *c * 16 + (uint32_t)d;
    }
    return n;
}

/* Python's unicode-escape; what is no escape stays as it is. */
static jv unescape(lex *l, const char *p, size_t n) {
    jb b = { .r = l->r };
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\\' || i + 1 >= n) {
            fjb_c(&b, p[i]);
            continue;
        }
        static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
        char c = p[++i], out[4];
        uint32_t x;
        const char *known = NULL;
        for (size_t k = 0; k + 1 < sizeof plain; k += 2)
            if (plain[k] == c) known = &plain[k + 1];
        if (known) fjb_c(&b, *known);
        else if (c == '\n') continue;
        else if (c >= '0' && c <= '7') {
            x = 0;
            size_t k = 0;
            for (; k < 3 && i + k < n && p[i + k] >= '0' && p[i + k] <= '7'; k++)
                x = x * 8 + (uint32_t)(p[i + k] - '0');
            i += k - 1;
            fjb_add(&b, out, fjj_put_char(x, out), NULL);
        } else if (c == 'x' || c == 'u' || c == 'U') {
            int w = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            if (!hex(p + i + 1, n - i - 1, w, &x) || x > 0x10ffff)
                fjj_fail(l->r, "truncated \\%c escape in a string", c);
            i += (size_t)w;
            uint32_t low; /* two surrogates written one behind the other */
            if (x >= 0xd800 && x < 0xdc00 && i + 6 < n && p[i + 1] == '\\' && p[i + 2] == 'u' &&
                hex(p + i + 3, n - i - 3, 4, &low) && low >= 0xdc00 && low < 0xe000) {
                x = 0x10000 + ((x - 0xd800) << 10) + (low - 0xdc00);
                i += 6;
            }
            fjb_add(&b, out, fjj_put_char(x, out), NULL);
        } else if (c == 'N') {
            fjj_fail(l->r, "\\N{...} escapes are not read: write the character itself");
        } else {
            fjb_c(&b, '\\');
            fjb_c(&b, c);
        }
    }
    return fjb_take(&b);
}

static size_t digits(const lex *l, size_t at) { /* \d(_?\d)* */
    size_t p = at;
    while (p < l->n &&
           ((l->s[p] >= '0' && l->s[p] <= '9') ||
            (l->s[p] == '_' && p > at && p + 1 < l->n && l->s[p + 1] >= '0' && l->s[p + 1] <= '9')))
        p++;
    return p;
}

static bool number(lex *l) {
    size_t a = l->at, p = digits(l, a);
    if (p == a) return false;
    size_t q = p;
    bool is_float = false;
    if (!(a > 0 && l->s[a - 1] == '.')) {
        if (q + 1 < l->n && l->s[q] == '.' && digits(l, q + 1) > q + 1)
            q = digits(l, q + 1), is_float = true;
        if (q < l->n && (l->s[q] | 32) == 'e') {
            size_t x = q + 1;
            if (x < l->n && (l->s[x] == '+' || l->s[x] == '-')) x++;
            if (digits(l, x) > x) q = digits(l, x), is_float = true;
        }
    }
    if (!is_float) {
        q = p;
        char kind = p - a == 1 && l->s[a] == '0' && p < l->n ? (char)(l->s[p] | 32) : 0;
        if (kind == 'x' || kind == 'o' || kind == 'b') {
            size_t x = p + 1;
            while (x < l->n && (l->s[x] == '_' ||
                                (l->s[x] >= '0' && l->s[x] <= (kind == 'b'   ? '1'
                                                               : kind == 'o' ? '7'
                                                                             : '9')) ||
                                (kind == 'x' && (l->s[x] | 32) >= 'a' && (l->s[x] | 32) <= 'f')))
                x++;
            if (x > p + 1) q = x;
        } else if (l->s[a] == '0') { /* zeros only */
            for (q = a; q < p && (l->s[q] == '0' || l->s[q] == '_');) q++;
        }
    }
    jtoken *t = push(l, is_float ? T_FLOAT : T_INT, a, q);
    jstr s = { .p = l->s + a, .n = (uint32_t)(q - a), .ascii = 1 };
    bool big;
    if (is_float) {
        double d;
        if (!fjj_parse_float(&s, &d)) fjj_fail(l->r, "a number that cannot be read");
        t->val = fjj_float(d);
    } else {
        int64_t i;
        if (!fjj_parse_int(&s, 0, &i, &big)) fjj_fail(l->r, "an integer beyond 64 bits");
        t->val = fjj_int(i);
    }
    l->at = q;
    return true;
}

static bool word(lex *l) {
    size_t a = l->at, p = a;
    while (p < l->n &&
           (l->s[p] == '_' || (l->s[p] >= '0' && l->s[p] <= '9') ||
            ((l->s[p] | 32) >= 'a' && (l->s[p] | 32) <= 'z') || (unsigned char)l->s[p] >= 128)) {
        size_t len;
        if ((unsigned char)l->s[p] >= 128 && fjj_space(fjj_get_char(l->s + p, l->n - p, &len)))
            break;
        p++;
    }
    if (p == a) return false;
    push(l, T_NAME, a, p);
    jstr s = { .p = l->s + a, .n = (uint32_t)(p - a), .ascii = 2 };
    if (!fjj_is(&s, "identifier")) fjj_fail(l->r, "Invalid character in identifier");
    l->at = p;
    return true;
}

static bool string(lex *l) {
    char q = l->s[l->at];
    if (q != '\'' && q != '"') return false;
    size_t p = l->at + 1;
    while (p < l->n && l->s[p] != q) p += l->s[p] == '\\' ? 2 : 1;
    if (p >= l->n) return false;
    jtoken *t = push(l, T_STR, l->at, p + 1);
    size_t index = (size_t)(t - l->v);
    jv v = unescape(l, l->s + l->at + 1, p - l->at - 1);
    fjj_ascii(v.s);
    l->v[index].val = v;
    l->at = p + 1;
    return true;
}

static void op(lex *l) {
    for (size_t i = 0; i < FJ_LEN(operators); i++) {
        if (!here(l, l->at, operators[i].s)) continue;
        char c = l->s[l->at];
        push(l, operators[i].t, l->at, l->at + strlen(operators[i].s));
        if (c == '(' || c == '[' || c == '{') {
            if (l->n_open == (int)sizeof l->open) fjj_fail(l->r, "too many brackets in each other");
            l->open[l->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!l->n_open) fjj_fail(l->r, "unexpected '%c'", c);
            char want = l->open[--l->n_open];
            if (want != c) fjj_fail(l->r, "unexpected '%c', expected '%c'", c, want);
        }
        l->at += strlen(operators[i].s);
        return;
    }
    place(l, l->at);
    size_t len;
    fjj_get_char(l->s + l->at, l->n - l->at, &len);
    fjj_fail(l->r, "unexpected char '%.*s'", (int)len, l->s + l->at);
}

/* From behind the opening to behind the end. */
static void tag(lex *l, bool block) {
    size_t end;
    l->n_open = 0;
    while (l->at < l->n) {
        if (!l->n_open && (end = tag_end(l, l->at, block ? "%}" : "}}", block, block))) {
            push(l, block ? T_BLOCK_END : T_VAR_END, l->at, end);
            l->at = end;
            l->line_starting = l->s[end - 1] == '\n';
            return;
        }
        size_t p = spaces(l, l->at);
        if (p > l->at) {
            l->at = p;
            continue;
        }
        if (!number(l) && !word(l) && !string(l)) op(l);
    }
}

jtoken *fjj_lex(jr *r, const char *source, size_t n, size_t *count) {
    char *s = fjj_alloc(r, n + 1);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        bool cr = source[i] == '\r';
        if (cr && i + 1 < n && source[i + 1] == '\n') i++;
        s[k++] = cr ? '\n' : source[i];
    }
    if (k && s[k - 1] == '\n') k--;
    s[k] = 0;
    lex l = { .r = r, .s = s, .n = k, .line = 1, .col = 1, .line_starting = true };
    while (l.at < l.n) {
        size_t p = l.at;
        while (p < l.n && !(s[p] == '{' && p + 1 < l.n &&
                            (s[p + 1] == '{' || s[p + 1] == '%' || s[p + 1] == '#')))
            p++;
        if (p == l.n) {
            push(&l, T_DATA, l.at, l.n);
            break;
        }
        char kind = s[p + 1], sign = sign_at(&l, p + 2);
        size_t body = p + 2 + (sign != 0), end;
        data(&l, l.at, p, sign, kind == '{');
        l.line_starting = false;
        l.at = body;
        if (kind == '#') {
            comment(&l, body);
        } else if (kind == '%' && (end = raw_begin(&l, body))) {
            l.line_starting = s[end - 1] == '\n';
            raw(&l, end);
        } else {
            push(&l, kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN, p, body);
            tag(&l, kind == '%');
        }
    }
    push(&l, T_EOF, l.n, l.n);
    *count = l.count;
    return l.v;
}
