/* ollama_go.c - the few constructs of Go's text/template that ollama_tmpl.c writes, evaluated.
 *
 *     {{ $p := "" }}   {{ $p = .Role }}   {{ .Content }}   {{ "text" }}   {{ $.System }}
 *     {{ range $i, $_ := .Messages }} ... {{ end }}
 *     {{ if COND }} ... {{ else if COND }} ... {{ else }} ... {{ end }}
 * with COND of values, eq, ne, len, slice and parentheses.  Anything else is an error: this is a proof, and
 * what it does not know it must not guess.  Source: pkg.go.dev/text/template. */
#include "lifecycle/ollama.h"
#include "text/tok.h"

#include <inttypes.h>

enum { MAX_DEPTH = 64, MAX_WORDS = 32, MAX_VARS = 8 };

typedef struct message {
    const char *role;
    fj_str content;
} message;

typedef struct value {
    enum { STRING, NUMBER, LIST } kind;
    const char *s;
    size_t n; /* bytes of s, or messages from `i` on */
    int64_t i;
} value;

typedef struct word {
    const char *p;
    size_t n;
    bool text; /* a string, whose value is p */
} word;

typedef struct go {
    const char *src, *p; /* p: what comes next */
    message *msg;
    size_t n_msg;
    const message *dot; /* of a range; NULL: the top */
    fj_str system;
    struct {
        word name;
        value v;
    } vars[MAX_VARS];
    int n_vars, depth;
    fj_arena mem;
    fj_str *out;
    fj_err *e;
} go;

static bool bad(const go *g, const char *what) {
    return fj_fail(g->e, FJ_EFORMAT, "Go template: byte %zu: %s", (size_t)(g->p - g->src), what);
}

/* ---- words of an action ---------------------------------------------------------------------- */
static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool escape(go *g, fj_str *s) {
    static const char from[] = "\\\"ntr", to[] = "\\\"\n\t\r";
    char c = *g->p;
    const char *k = c ? strchr(from, c) : NULL;
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (k) {
        fj_str_addc(s, to[k - from]);
        g->p++;
        return true;
    }
    if (!digits) return bad(g, "an escape that is not known");
    uint32_t v = 0;
    g->p++;
    for (int i = 0; i < digits; i++, g->p++) {
        if (hex(*g->p) < 0) return bad(g, "a digit of an escape is missing");
        v = v << 4 | (uint32_t)hex(*g->p);
    }
    char utf8[4];
    if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000) || (c == 'x' && v > 0x7f))
        return bad(g, "an escape that is no character");
    fj_str_addn(s, utf8, fj_utf8_put(v, utf8));
    return true;
}

static bool quoted(go *g, word *w) {
    fj_str s = { 0 };
    bool ok = true;
    g->p++;
    while (ok && *g->p != '"') {
        if (!*g->p || *g->p == '\n') ok = bad(g, "a string without its end");
        else if (*g->p == '\\') {
            g->p++;
            ok = escape(g, &s);
        } else fj_str_addc(&s, *g->p++);
    }
    if (ok) g->p++;
    *w = (word){ fj_arena_strndup(&g->mem, s.n ? s.s : "", s.n), s.n, true };
    fj_str_free(&s);
    return ok;
}

static bool in_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '$';
}

/* g->p behind "{{", afterwards behind "}}". */
static bool words(go *g, word w[MAX_WORDS], int *n) {
    *n = 0;
    w[0] = (word){ 0 };
    if (*g->p == '-') return bad(g, "trimmed blanks are not known");
    for (;;) {
        while (*g->p == ' ') g->p++;
        if (g->p[0] == '}' && g->p[1] == '}') {
            g->p += 2;
            return *n > 0 || bad(g, "an action without words");
        }
        if (*n == MAX_WORDS) return bad(g, "an action of too many words");
        word *x = &w[(*n)++];
        const char *p = g->p;
        if (*p == '"') {
            if (!quoted(g, x)) return false;
            continue;
        }
        if (in_name(*p)) {
            while (in_name(*p)) p++;
        } else if (p[0] == ':' && p[1] == '=') p += 2;
        else if (*p && strchr("(),=", *p)) p++;
        else return bad(g, *p ? "a character that is not known" : "an action without its end");
        *x = (word){ g->p, (size_t)(p - g->p), false };
        g->p = p;
    }
}

static bool is(const word *w, const char *s) {
    return !w->text && w->n == strlen(s) && !memcmp(w->p, s, w->n);
}

/* ---- values ---------------------------------------------------------------------------------- */
static value text_value(const char *s, size_t n) {
    return (value){ .kind = STRING, .s = s, .n = n };
}

static bool truth(const value *v) { return v->kind == NUMBER ? v->i != 0 : v->n > 0; }

static value *variable(go *g, const word *w) {
    for (int i = 0; i < g->n_vars; i++)
        if (g->vars[i].name.n == w->n && !memcmp(g->vars[i].name.p, w->p, w->n))
            return &g->vars[i].v;
    return NULL;
}

static bool declare(go *g, const word *w, value v) {
    value *old = variable(g, w);
    if (old) {
        *old = v;
        return true;
    }
    if (g->n_vars == MAX_VARS || w->text || w->p[0] != '$' || memchr(w->p, '.', w->n))
        return bad(g, "a variable that cannot be");
    g->vars[g->n_vars].name = *w;
    g->vars[g->n_vars++].v = v;
    return true;
}

static bool value_of(go *g, const word **w, const word *end, value *v);

/* A value by itself: a string, a number, a field, a variable, a call in parentheses. */
static bool operand(go *g, const word **w, const word *end, value *v) {
    if (*w == end) return bad(g, "a value is missing");
    const word *x = (*w)++;
    if (is(x, "(")) {
        if (++g->depth > MAX_DEPTH) return bad(g, "too many parentheses");
        if (!value_of(g, w, end, v)) return false;
        g->depth--;
        return (*w < end && is((*w)++, ")")) || bad(g, "a parenthesis is not closed");
    }
    if (x->text) *v = text_value(x->p, x->n);
    else if (x->n == 1 && x->p[0] >= '0' && x->p[0] <= '9')
        *v = (value){ .kind = NUMBER, .i = x->p[0] - '0' };
    else if (is(x, "$.System") || (!g->dot && is(x, ".System")))
        *v = text_value(g->system.s, g->system.n);
    else if (is(x, "$.Messages") || (!g->dot && is(x, ".Messages")))
        *v = (value){ .kind = LIST, .n = g->n_msg };
    else if (g->dot && is(x, ".Role")) *v = text_value(g->dot->role, strlen(g->dot->role));
    else if (g->dot && is(x, ".Content")) *v = text_value(g->dot->content.s, g->dot->content.n);
    else {
        const value *known = x->p[0] == '$' ? variable(g, x) : NULL;
        if (!known) return bad(g, "a name that is not known here");
        *v = *known;
    }
    return true;
}

static bool same(const value *a, const value *b) {
    return a->kind == NUMBER ? a->i == b->i : a->n == b->n && (!a->n || !memcmp(a->s, b->s, a->n));
}

static bool value_of(go *g, const word **w, const word *end, value *v) {
    if (*w == end) return bad(g, "a value is missing");
    const word *f = *w;
    value b;
    if (is(f, "eq") || is(f, "ne")) {
        ++*w;
        if (!operand(g, w, end, v) || !operand(g, w, end, &b)) return false;
        if (v->kind != b.kind || v->kind == LIST) return bad(g, "values that cannot be compared");
        *v = (value){ .kind = NUMBER, .i = same(v, &b) == is(f, "eq") };
        return true;
    }
    if (is(f, "len")) {
        ++*w;
        if (!operand(g, w, end, v)) return false;
        if (v->kind == NUMBER) return bad(g, "a number has no length");
        *v = (value){ .kind = NUMBER, .i = (int64_t)v->n };
        return true;
    }
    if (is(f, "slice")) {
        ++*w;
        if (!operand(g, w, end, v) || !operand(g, w, end, &b)) return false;
        if (v->kind != LIST || b.kind != NUMBER || b.i < 0 || (uint64_t)b.i > v->n)
            return bad(g, "this cannot be sliced");
        v->n -= (size_t)b.i;
        v->i += b.i;
        return true;
    }
    return operand(g, w, end, v);
}

static bool whole(go *g, const word *w, const word *end, value *v) {
    return value_of(g, &w, end, v) && (w == end || bad(g, "a word too many"));
}

/* ---- blocks ---------------------------------------------------------------------------------- */
enum { AT_END, AT_ELSE, AT_EOF }; /* what a block stopped at */

static bool block(go *g, bool run, int *stop, word w[MAX_WORDS], int *n);

/* The words of "if" or "else if" are in w. */
static bool branches(go *g, bool run, word *w, int n) {
    bool done = false;
    int skip = 1;
    for (;;) {
        value v = { .kind = NUMBER, .i = 1 };
        if (n > skip && run && !done && !whole(g, w + skip, w + n, &v)) return false;
        bool take = run && !done && truth(&v);
        int stop = AT_EOF;
        if (!block(g, take, &stop, w, &n)) return false;
        done |= take;
        if (stop == AT_END) return true;
        if (stop == AT_EOF) return bad(g, "a block without its end");
        if (n == 1) skip = 1;                        /* else */
        else if (n > 2 && is(&w[1], "if")) skip = 2; /* else if */
        else return bad(g, "an else that is not known");
    }
}

static bool range(go *g, bool run, const word *w, int n) {
    if (g->dot || n != 6 || !is(&w[2], ",") || !is(&w[4], ":=") || !is(&w[5], ".Messages"))
        return bad(g, "a range that is not known");
    word index = w[1], inner[MAX_WORDS];
    const char *from = g->p;
    int stop = AT_EOF, k;
    for (size_t i = 0; run && i < g->n_msg; i++) {
        g->p = from;
        g->dot = &g->msg[i];
        if (!declare(g, &index, (value){ .kind = NUMBER, .i = (int64_t)i }) ||
            !block(g, true, &stop, inner, &k))
            return false;
        if (stop != AT_END) return bad(g, "a range without its end");
    }
    g->dot = g->msg; /* so that a skipped body sees the names that it would see */
    if (!run || !g->n_msg) {
        g->p = from;
        if (!block(g, false, &stop, inner, &k)) return false;
        if (stop != AT_END) return bad(g, "a range without its end");
    }
    g->dot = NULL;
    return true;
}

static bool action(go *g, bool run, word *w, int n) {
    value v;
    if (is(w, "if")) return n > 1 ? branches(g, run, w, n) : bad(g, "an if without a condition");
    if (is(w, "range")) return range(g, run, w, n);
    if (!run) return true;
    if (n > 2 && (is(&w[1], ":=") || is(&w[1], "="))) {
        if (is(&w[1], ":=") == (variable(g, w) != NULL))
            return bad(g, "a variable is declared twice or not at all");
        return whole(g, w + 2, w + n, &v) && declare(g, w, v);
    }
    if (!whole(g, w, w + n, &v)) return false;
    if (v.kind != STRING) return bad(g, "only text can be written");
    fj_str_addn(g->out, v.s, v.n);
    return true;
}

/* Up to {{ end }} or {{ else }}, whose words are left in w. */
static bool block(go *g, bool run, int *stop, word w[MAX_WORDS], int *n) {
    if (++g->depth > MAX_DEPTH) return bad(g, "blocks too deep in one another");
    for (;;) {
        const char *open = strstr(g->p, "{{");
        size_t k = open ? (size_t)(open - g->p) : strlen(g->p);
        if (run) fj_str_addn(g->out, g->p, k);
        g->p += k;
        *stop = AT_EOF;
        if (!open) break;
        g->p += 2;
        if (!words(g, w, n)) return false;
        *stop = is(w, "else") ? AT_ELSE : AT_END;
        if (is(w, "else") || is(w, "end")) break;
        if (!action(g, run, w, *n)) return false;
    }
    g->depth--;
    return true;
}

/* ---- messages, as collate of template/template.go joins them --------------------------------- */
static bool collate(go *g, const json_t *messages) {
    size_t n = json_array_size(messages);
    g->msg = fj_arena_alloc(&g->mem, (n + 1) * sizeof *g->msg);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(messages, i);
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(role) || !json_is_string(content))
            return fj_fail(g->e, FJ_EFORMAT, "messages[%zu]: expected a role and a content", i);
        const char *r = json_string_value(role);
        bool joins = g->n_msg && !strcmp(g->msg[g->n_msg - 1].role, r) && strcmp(r, "tool") != 0;
        message *to = &g->msg[joins ? g->n_msg - 1 : g->n_msg++];
        to->role = r;
        if (joins) fj_str_add(&to->content, "\n\n");
        fj_str_addn(&to->content, json_string_value(content), json_string_length(content));
        if (strcmp(r, "system") != 0) continue;
        if (g->system.n) fj_str_add(&g->system, "\n\n");
        fj_str_addn(&g->system, json_string_value(content), json_string_length(content));
    }
    return true;
}

bool fj_ollama_render(const char *text, const json_t *messages, fj_str *out, fj_err *e) {
    go g = { .src = text, .p = text, .out = out, .e = e };
    word w[MAX_WORDS];
    int stop = AT_EOF, n;
    bool ok = collate(&g, messages) && block(&g, true, &stop, w, &n) &&
              (stop == AT_EOF || bad(&g, "an end or else of nothing"));
    for (size_t i = 0; i < g.n_msg; i++) fj_str_free(&g.msg[i].content);
    fj_str_free(&g.system);
    fj_arena_free(&g.mem);
    return ok;
}
