/* jinja_stmt.c - statements and whole templates. */
#include "text/jinja_in.h"

#include <stdio.h>

typedef struct body {
    jnode **v;
    uint32_t n, cap;
} body;

static void add(jp *p, body *b, jnode *n) {
    if (b->n == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 8;
        jnode **v = fjj_alloc(p->r, cap * sizeof(jnode *));
        if (b->n) memcpy(v, b->v, b->n * sizeof(jnode *));
        b->v = v;
        b->cap = cap;
    }
    b->v[b->n++] = n;
}

static jnode *statement(jp *p);

static bool at_end(jp *p, const char *const *ends) {
    for (; ends && *ends; ends++)
        if (fjp_is(p, *ends)) return true;
    return false;
}

static void wanted(jp *p, const char *const *ends, jb *b) {
    for (size_t i = 0; ends && ends[i]; i++) {
        if (i) fjb_z(b, " or ");
        fjb_z(b, "'");
        fjb_z(b, ends[i]);
        fjb_z(b, "'");
    }
    fjb_c(b, 0);
    (void)p;
}

/* Everything up to one of the words of `ends`, which is the current token afterwards. */
static jnode *sub(jp *p, const char *const *ends) {
    jnode *out = fjp_node(p, N_BODY, p->k);
    body b = { 0 };
    fjp_deeper(p);
    for (;;) {
        const jtoken *k = p->k;
        if (k->t == T_EOF) {
            if (!ends) break;
            jb want = { .r = p->r };
            wanted(p, ends, &want);
            fjp_fail(p, k,
                     "Unexpected end of template. Jinja was looking for the following tags: %s."
                     "%s%s%s",
                     want.p, p->n_open ? " The innermost block that needs to be closed is '" : "",
                     p->n_open ? p->open[p->n_open - 1] : "", p->n_open ? "'." : "");
        }
        if (k->t == T_DATA) {
            jnode *n = fjp_node(p, N_TEXT, k);
            n->val = fjj_strn(p->r, k->p, k->n, NULL);
            fjj_ascii(n->val.s);
            add(p, &b, n);
            p->k++;
        } else if (k->t == T_VAR_BEGIN) {
            p->k++;
            jnode *n = fjp_node(p, N_PRINT, p->k);
            n->a = fjp_tuple(p, true, false, NULL);
            fjp_expect(p, T_VAR_END);
            add(p, &b, n);
        } else {
            fjp_expect(p, T_BLOCK_BEGIN);
            if (at_end(p, ends)) break;
            jnode *n = statement(p);
            if (n) add(p, &b, n);
            fjp_expect(p, T_BLOCK_END);
        }
    }
    p->depth--;
    out->list = b.v;
    out->n = b.n;
    return out;
}

static jnode *statements(jp *p, const char *const *ends, bool drop) {
    fjp_skip(p, T_COLON);
    fjp_expect(p, T_BLOCK_END);
    jnode *n = sub(p, ends);
    if (drop) p->k++;
    return n;
}

#define ENDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static jnode *set(jp *p) {
    jnode *n = fjp_node(p, N_SET, p->k);
    n->a = fjp_target(p, NULL, true, false);
    if (fjp_skip(p, T_ASSIGN)) {
        n->b = fjp_tuple(p, true, false, NULL);
        return n;
    }
    n->op = N_SETBLOCK;
    if (p->k->t == T_PIPE) n->b = fjp_filters(p, NULL, false);
    n->c = statements(p, ENDS("endset"), true);
    return n;
}

static jnode *for_(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_FOR, at);
    bool closures = p->closures;
    n->list = fjj_zalloc(p->r, 2 * sizeof(jnode *));
    n->a = fjp_target(p, "in", false, false);
    if (!fjp_skip_name(p, "in")) fjp_fail(p, p->k, "expected token 'in'");
    n->b = fjp_tuple(p, false, false, "recursive");
    if (fjp_skip_name(p, "if")) n->list[1] = fjp_expr(p, true);
    bool recursive = fjp_skip_name(p, "recursive");
    p->closures = recursive;
    n->c = statements(p, ENDS("endfor", "else"), false);
    if (fjp_skip_name(p, "else")) n->list[0] = statements(p, ENDS("endfor"), true);
    else p->k++;
    n->flag = (uint8_t)((recursive ? F_RECURSIVE : 0) | (p->closures ? F_CLOSURES : 0));
    p->closures = p->closures || closures;
    n->name = fjp_name(p, "loop", 4);
    return n;
}

static jnode *if_(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_IF, at);
    body b = { 0 };
    p->soft++;
    for (;;) {
        add(p, &b, fjp_tuple(p, false, false, NULL));
        add(p, &b, statements(p, ENDS("elif", "else", "endif"), false));
        if (fjp_skip_name(p, "elif")) continue;
        if (fjp_skip_name(p, "else")) add(p, &b, statements(p, ENDS("endif"), true));
        else p->k++;
        break;
    }
    p->soft--;
    n->list = b.v;
    n->n = b.n;
    return n;
}

static void signature(jp *p, jnode *n) {
    body args = { 0 }, defaults = { 0 };
    fjp_expect(p, T_LPAREN);
    while (p->k->t != T_RPAREN) {
        if (args.n) fjp_expect(p, T_COMMA);
        add(p, &args, fjp_target(p, NULL, false, true));
        if (fjp_skip(p, T_ASSIGN)) add(p, &defaults, fjp_expr(p, true));
        else if (defaults.n) fjp_fail(p, p->k, "non-default argument follows default argument");
    }
    fjp_expect(p, T_RPAREN);
    n->list = args.v;
    n->n = args.n;
    n->kw = defaults.v;
    n->n_kw = defaults.n;
}

static void macro_body(jp *p, jnode *n, const char *const *end) {
    uint8_t before = p->special;
    p->special = 0;
    p->closures = true;
    n->c = statements(p, end, true);
    uint8_t used = p->special;
    for (uint32_t i = 0; i < n->n; i++) {
        const jstr *s = p->t->names[n->list[i]->name];
        if (fjj_same(s, "varargs")) used &= (uint8_t)~M_VARARGS;
        if (fjj_same(s, "kwargs")) used &= (uint8_t)~M_KWARGS;
        if (fjj_same(s, "caller")) used = (uint8_t)((used & ~M_CALLER) | M_OWN_CALLER);
    }
    n->flag = used;
    p->special = before | used;
}

static jnode *macro(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_MACRO, at);
    n->name = fjp_target(p, NULL, false, true)->name;
    signature(p, n);
    macro_body(p, n, ENDS("endmacro"));
    return n;
}

static jnode *call_block(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_CALLBLOCK, at);
    n->b = fjp_node(p, N_MACRO, at);
    n->b->name = fjp_name(p, "caller", 6);
    if (p->k->t == T_LPAREN) signature(p, n->b);
    n->a = fjp_expr(p, true);
    if (n->a->op != N_CALL) fjp_fail(p, at, "expected call");
    macro_body(p, n->b, ENDS("endcall"));
    return n;
}

static jnode *with(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_WITH, at);
    body t = { 0 }, v = { 0 };
    while (p->k->t != T_BLOCK_END) {
        if (t.n) fjp_expect(p, T_COMMA);
        add(p, &t, fjp_target(p, NULL, false, false));
        fjp_expect(p, T_ASSIGN);
        add(p, &v, fjp_expr(p, true));
    }
    n->list = t.v;
    n->n = t.n;
    n->kw = v.v;
    n->n_kw = v.n;
    n->c = statements(p, ENDS("endwith"), true);
    return n;
}

static jnode *block(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_BLOCK, at);
    const jtoken *name = fjp_expect(p, T_NAME);
    n->flag = fjp_skip_name(p, "scoped");
    fjp_skip_name(p, "required");
    n->c = statements(p, ENDS("endblock"), true);
    if (p->k->t == T_NAME && p->k->n == name->n && !memcmp(p->k->p, name->p, name->n)) p->k++;
    return n;
}

static jnode *print(jp *p) {
    jnode *n = fjp_node(p, N_BODY, p->k);
    body b = { 0 };
    while (p->k->t != T_BLOCK_END) {
        if (b.n) fjp_expect(p, T_COMMA);
        jnode *x = fjp_node(p, N_PRINT, p->k);
        x->a = fjp_expr(p, true);
        add(p, &b, x);
    }
    n->list = b.v;
    n->n = b.n;
    return n;
}

/* Tags that would load another template, and autoescape: an error where they are reached. */
static jnode *other(jp *p, const jtoken *at) {
    jnode *n = fjp_node(p, N_LOAD, at);
    n->val = fjj_strn(p->r, at->p, at->n, NULL);
    if (at->p[0] == 'a') {
        fjp_expr(p, true);
        n->c = statements(p, ENDS("endautoescape"), true);
        return n;
    }
    while (p->k->t != T_BLOCK_END && p->k->t != T_EOF) p->k++;
    return n;
}

static jnode *tagged(jp *p, const jtoken *k) {
    jnode *n;
    if (fjp_skip_name(p, "for")) return for_(p, k);
    if (fjp_skip_name(p, "if")) return if_(p, k);
    if (fjp_skip_name(p, "set")) return set(p);
    if (fjp_skip_name(p, "macro")) return macro(p, k);
    if (fjp_skip_name(p, "call")) return call_block(p, k);
    if (fjp_skip_name(p, "with")) return with(p, k);
    if (fjp_skip_name(p, "block")) return block(p, k);
    if (fjp_skip_name(p, "print")) return print(p);
    if (fjp_skip_name(p, "break")) return fjp_node(p, N_BREAK, k);
    if (fjp_skip_name(p, "continue")) return fjp_node(p, N_CONTINUE, k);
    if (fjp_skip_name(p, "generation")) {
        n = fjp_node(p, N_GENERATION, k);
        p->t->marks = true;
        n->c = statements(p, ENDS("endgeneration"), true);
        return n;
    }
    if (fjp_skip_name(p, "filter")) {
        n = fjp_node(p, N_FILTERBLOCK, k);
        n->b = fjp_filters(p, NULL, true);
        n->c = statements(p, ENDS("endfilter"), true);
        return n;
    }
    static const char *const loads[] = { "include", "import", "from", "extends", "autoescape" };
    for (size_t i = 0; i < FJ_LEN(loads); i++)
        if (fjp_skip_name(p, loads[i])) return other(p, k);
    fjp_fail(p, k, "Encountered unknown tag '%.*s'.", (int)FJ_MIN(k->n, 80u), k->p);
}

static jnode *statement(jp *p) {
    const jtoken *k = p->k;
    if (k->t != T_NAME) fjp_fail(p, k, "tag name expected");
    if (p->n_open < (int)FJ_LEN(p->open))
        p->open[p->n_open] = fjj_printf(p->r, "%.*s", (int)FJ_MIN(k->n, 40u), k->p);
    else fjp_fail(p, k, "blocks lie too deep in each other (over %zu)", FJ_LEN(p->open));
    p->n_open++;
    jnode *n = tagged(p, k);
    p->n_open--;
    return n;
}

jnode *fjp_template(jp *p) { return sub(p, NULL); }
