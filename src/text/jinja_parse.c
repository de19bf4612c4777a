/* jinja_parse.c - expressions. */
#include "text/jinja_in.h"

#include <stdio.h>

_Noreturn void fjp_fail(jp *p, const jtoken *at, const char *fmt, ...) {
    char buf[360];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    p->r->line = at->line;
    p->r->col = at->col;
    fjj_fail(p->r, "%s", buf);
}

static const char *shown(jp *p, const jtoken *k) {
    if (k->t == T_NAME) return fjj_printf(p->r, "%.*s", (int)FJ_MIN(k->n, 60u), k->p);
    return fjj_tok_name((jtok)k->t);
}

void fjp_deeper(jp *p) {
    if (++p->depth > p->r->max_depth)
        fjp_fail(p, p->k, "expressions or blocks lie too deep in each other (over %d)",
                 p->r->max_depth);
}

uint32_t fjp_name(jp *p, const char *s, size_t n) {
    fj_jinja *t = p->t;
    for (uint32_t i = 0; i < t->n_names; i++)
        if (t->names[i]->n == n && !memcmp(t->names[i]->p, s, n)) return i;
    if (t->n_names == t->cap_names) {
        uint32_t cap = t->cap_names ? t->cap_names * 2 : 64;
        const jstr **v = fjj_alloc(p->r, cap * sizeof *v);
        if (t->n_names) memcpy(v, t->names, t->n_names * sizeof *v);
        t->names = v;
        t->cap_names = cap;
    }
    jv name = fjj_strn(p->r, s, n, NULL);
    fjj_ascii(name.s);
    t->names[t->n_names] = name.s;
    return t->n_names++;
}

jnode *fjp_node(jp *p, jop op, const jtoken *at) {
    jnode *n = fjj_zalloc(p->r, sizeof *n);
    n->op = (uint8_t)op;
    n->line = at->line;
    n->col = at->col;
    return n;
}

static bool word_is(const jtoken *k, const char *name) {
    return k->t == T_NAME && strlen(name) == k->n && !memcmp(k->p, name, k->n);
}
bool fjp_is(const jp *p, const char *name) { return word_is(p->k, name); }
static void next(jp *p) {
    if (p->k->t != T_EOF) p->k++;
}
bool fjp_skip_name(jp *p, const char *name) {
    if (!fjp_is(p, name)) return false;
    next(p);
    return true;
}
bool fjp_skip(jp *p, jtok t) {
    if (p->k->t != t) return false;
    next(p);
    return true;
}
const jtoken *fjp_expect(jp *p, jtok t) {
    const jtoken *k = p->k;
    if (k->t != t) fjp_fail(p, k, "expected token '%s', got '%s'", fjj_tok_name(t), shown(p, k));
    next(p);
    return k;
}

/* ---- lists of nodes ------------------------------------------------------------------------------- */
typedef struct grow {
    jnode **v;
    uint32_t n, cap;
} grow;
static void add(jp *p, grow *g, jnode *n) {
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? g->cap * 2 : 4;
        jnode **v = fjj_alloc(p->r, cap * sizeof(jnode *));
        if (g->n) memcpy(v, g->v, g->n * sizeof(jnode *));
        g->v = v;
        g->cap = cap;
    }
    g->v[g->n++] = n;
}

static jnode *binary(jp *p, jop op, const jtoken *at, jnode *a, jnode *b) {
    jnode *n = fjp_node(p, op, at);
    n->a = a;
    n->b = b;
    return n;
}

/* ---- primaries ------------------------------------------------------------------------------------ */
static jnode *name(jp *p, const jtoken *k) {
    jnode *n = fjp_node(p, N_NAME, k);
    n->name = fjp_name(p, k->p, k->n);
    if (word_is(k, "varargs")) p->special |= M_VARARGS;
    if (word_is(k, "kwargs")) p->special |= M_KWARGS;
    if (word_is(k, "caller")) p->special |= M_CALLER;
    return n;
}

static jnode *constant(jp *p, const jtoken *k, jv v) {
    jnode *n = fjp_node(p, N_CONST, k);
    n->val = v;
    return n;
}

static jnode *list(jp *p) {
    jnode *n = fjp_node(p, N_LIST, p->k);
    grow g = { 0 };
    next(p);
    while (p->k->t != T_RBRACKET) {
        if (g.n) fjp_expect(p, T_COMMA);
        if (p->k->t == T_RBRACKET) break;
        add(p, &g, fjp_expr(p, true));
    }
    fjp_expect(p, T_RBRACKET);
    n->list = g.v;
    n->n = g.n;
    return n;
}

static jnode *dict(jp *p) {
    jnode *n = fjp_node(p, N_DICT, p->k);
    grow g = { 0 };
    next(p);
    while (p->k->t != T_RBRACE) {
        if (g.n) fjp_expect(p, T_COMMA);
        if (p->k->t == T_RBRACE) break;
        add(p, &g, fjp_expr(p, true));
        fjp_expect(p, T_COLON);
        add(p, &g, fjp_expr(p, true));
    }
    fjp_expect(p, T_RBRACE);
    n->list = g.v;
    n->n = g.n;
    return n;
}

jnode *fjp_primary(jp *p, bool namespaces) {
    const jtoken *k = p->k;
    switch (k->t) {
    case T_NAME:
        next(p);
        if (word_is(k, "true") || word_is(k, "True")) return constant(p, k, fjj_bool(true));
        if (word_is(k, "false") || word_is(k, "False")) return constant(p, k, fjj_bool(false));
        if (word_is(k, "none") || word_is(k, "None")) return constant(p, k, fjj_none());
        if (namespaces && p->k->t == T_DOT) {
            next(p);
            const jtoken *attr = fjp_expect(p, T_NAME);
            jnode *n = fjp_node(p, N_NSREF, k);
            n->name = fjp_name(p, k->p, k->n);
            n->val = fjj_strn(p->r, attr->p, attr->n, NULL);
            fjj_ascii(n->val.s);
            return n;
        }
        return name(p, k);
    case T_STR: {
        jv v = k->val;
        next(p);
        while (p->k->t == T_STR) {
            v = fjj_arith(p->r, N_ADD, v, p->k->val);
            next(p);
        }
        fjj_ascii(v.s);
        return constant(p, k, v);
    }
    case T_INT:
    case T_FLOAT: next(p); return constant(p, k, k->val);
    case T_LPAREN: {
        next(p);
        jnode *n = fjp_tuple(p, true, true, NULL);
        fjp_expect(p, T_RPAREN);
        return n;
    }
    case T_LBRACKET: return list(p);
    case T_LBRACE: return dict(p);
    default: fjp_fail(p, k, "unexpected '%s'", shown(p, k));
    }
}

static bool tuple_ends(jp *p, const char *end_word) {
    jtok t = (jtok)p->k->t;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN || (end_word && fjp_is(p, end_word));
}

/* Simplified tuples (targets) are read by fjp_target. */
static jnode *tuple(jp *p, bool cond, bool parens, const char *end_word, bool simple,
                    bool namespaces) {
    const jtoken *at = p->k;
    grow g = { 0 };
    bool is = false;
    fjp_deeper(p);
    for (;;) {
        if (g.n) fjp_expect(p, T_COMMA);
        if (tuple_ends(p, end_word)) break;
        add(p, &g, simple ? fjp_primary(p, namespaces) : fjp_expr(p, cond));
        if (p->k->t != T_COMMA) break;
        is = true;
    }
    p->depth--;
    if (!is && g.n) return g.v[0];
    if (!is && !parens) fjp_fail(p, p->k, "Expected an expression, got '%s'", shown(p, p->k));
    jnode *n = fjp_node(p, N_TUPLE, at);
    n->list = g.v;
    n->n = g.n;
    return n;
}

jnode *fjp_tuple(jp *p, bool cond, bool parens, const char *end_word) {
    return tuple(p, cond, parens, end_word, false, false);
}

static void assignable(jp *p, const jnode *n, const jtoken *at) {
    bool ok = n->op == N_NAME || n->op == N_NSREF || n->op == N_TUPLE;
    if (n->op == N_TUPLE)
        for (uint32_t i = 0; i < n->n; i++) assignable(p, n->list[i], at);
    if (!ok) fjp_fail(p, at, "can't assign to this: expected a name");
}

jnode *fjp_target(jp *p, const char *end_word, bool namespaces, bool name_only) {
    const jtoken *at = p->k;
    if (name_only) {
        at = fjp_expect(p, T_NAME);
        jnode *n = fjp_node(p, N_NAME, at);
        n->name = fjp_name(p, at->p, at->n);
        return n;
    }
    uint8_t special = p->special;
    jnode *n = tuple(p, true, false, end_word, true, namespaces);
    p->special = special; /* assigning to caller does not use it */
    assignable(p, n, at);
    return n;
}

/* ---- behind an expression ------------------------------------------------------------------------- */
static void args(jp *p, jnode *n) {
    const jtoken *at = fjp_expect(p, T_LPAREN);
    grow pos = { 0 }, kw = { 0 }, names = { 0 };
    bool comma = false, ok = true;
    while (p->k->t != T_RPAREN) {
        if (comma) {
            fjp_expect(p, T_COMMA);
            if (p->k->t == T_RPAREN) break;
        }
        if (p->k->t == T_MUL) {
            ok = ok && !n->b && !n->c;
            next(p);
            n->b = fjp_expr(p, true);
        } else if (p->k->t == T_POW) {
            ok = ok && !n->c;
            next(p);
            n->c = fjp_expr(p, true);
        } else if (p->k->t == T_NAME && p->k[1].t == T_ASSIGN) {
            ok = ok && !n->c;
            const jtoken *k = p->k;
            jnode *key = constant(p, k, fjj_strn(p->r, k->p, k->n, NULL));
            fjj_ascii(key->val.s);
            p->k += 2;
            add(p, &names, key);
            add(p, &kw, fjp_expr(p, true));
        } else {
            ok = ok && !n->b && !n->c && !kw.n;
            add(p, &pos, fjp_expr(p, true));
        }
        if (!ok) fjp_fail(p, at, "invalid syntax for function call expression");
        comma = true;
    }
    fjp_expect(p, T_RPAREN);
    n->list = pos.v;
    n->n = pos.n;
    n->kw = kw.v;
    n->n_kw = kw.n;
    n->kw_name = fjj_alloc(p->r, (kw.n + 1) * sizeof *n->kw_name);
    for (uint32_t i = 0; i < kw.n; i++) n->kw_name[i] = names.v[i]->val.s;
    for (uint32_t i = 0; i < kw.n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (n->kw_name[i]->n == n->kw_name[k]->n &&
                !memcmp(n->kw_name[i]->p, n->kw_name[k]->p, n->kw_name[i]->n))
                fjp_fail(p, at, "keyword argument repeated: %.*s", (int)n->kw_name[i]->n,
                         n->kw_name[i]->p);
}

static jnode *call(jp *p, jnode *f) {
    jnode *n = fjp_node(p, N_CALL, p->k);
    n->a = f;
    args(p, n);
    return n;
}

static jnode *subscribed(jp *p) {
    const jtoken *at = p->k;
    jnode *part[3] = { 0 };
    if (p->k->t != T_COLON) {
        part[0] = fjp_expr(p, true);
        if (p->k->t != T_COLON) return part[0];
    }
    next(p);
    if (p->k->t == T_COLON) {
    } else if (p->k->t != T_RBRACKET && p->k->t != T_COMMA) {
        part[1] = fjp_expr(p, true);
    }
    if (fjp_skip(p, T_COLON) && p->k->t != T_RBRACKET && p->k->t != T_COMMA)
        part[2] = fjp_expr(p, true);
    jnode *n = fjp_node(p, N_SLICE, at);
    n->a = part[0];
    n->b = part[1];
    n->c = part[2];
    return n;
}

static jnode *subscript(jp *p, jnode *of) {
    const jtoken *at = p->k, *k;
    jnode *n;
    if (fjp_skip(p, T_DOT)) {
        k = p->k;
        next(p);
        if (k->t == T_NAME) {
            n = fjp_node(p, N_ATTR, k);
            n->val = fjj_strn(p->r, k->p, k->n, NULL);
            fjj_ascii(n->val.s);
        } else if (k->t == T_INT) {
            n = fjp_node(p, N_ITEM, k);
            n->b = constant(p, k, k->val);
        } else {
            fjp_fail(p, k, "expected name or number");
        }
        n->a = of;
        return n;
    }
    next(p);
    grow g = { 0 };
    while (p->k->t != T_RBRACKET) {
        if (g.n) fjp_expect(p, T_COMMA);
        add(p, &g, subscribed(p));
    }
    fjp_expect(p, T_RBRACKET);
    n = fjp_node(p, N_ITEM, at);
    n->a = of;
    if (g.n == 1) {
        n->b = g.v[0];
        return n;
    }
    for (uint32_t i = 0; i < g.n; i++)
        if (g.v[i]->op == N_SLICE) fjp_fail(p, at, "a slice stands alone between brackets");
    n->b = fjp_node(p, N_TUPLE, at);
    n->b->list = g.v;
    n->b->n = g.n;
    return n;
}

static jnode *postfix(jp *p, jnode *n) {
    int deep = 0;
    for (;;) {
        if (p->k->t == T_DOT || p->k->t == T_LBRACKET) n = subscript(p, n);
        else if (p->k->t == T_LPAREN) n = call(p, n);
        else break;
        fjp_deeper(p); /* a chain is a tree as deep as it is long */
        deep++;
    }
    p->depth -= deep;
    return n;
}

static const jstr *dotted(jp *p) {
    const jtoken *k = fjp_expect(p, T_NAME);
    if (p->k->t != T_DOT) return fjj_strn(p->r, k->p, k->n, NULL).s;
    jb b = { .r = p->r };
    fjb_add(&b, k->p, k->n, NULL);
    while (fjp_skip(p, T_DOT)) {
        k = fjp_expect(p, T_NAME);
        fjb_c(&b, '.');
        fjb_add(&b, k->p, k->n, NULL);
    }
    return fjb_take(&b).s;
}

/* An error now, or when it is reached, or, in front of an inline if, not known yet. */
static void nobody_knows(jp *p, const jtoken *at, const char *kind) {
    if (p->soft) return;
    if (!p->guess) fjp_fail(p, at, "No %s named '%.*s'.", kind, (int)FJ_MIN(at->n, 80u), at->p);
    if (p->unknown) return;
    p->unknown = at;
    p->unknown_kind = kind;
}

jnode *fjp_filters(jp *p, jnode *of, bool inline_) {
    while (inline_ || fjp_skip(p, T_PIPE)) {
        jnode *n = fjp_node(p, N_FILTER, p->k);
        const jtoken *at = p->k;
        const jstr *s = dotted(p);
        n->val = fjj_of(s);
        n->fn = fjj_filter_find(s->p, s->n);
        if (!n->fn) nobody_knows(p, at, "filter");
        if (p->k->t == T_LPAREN) args(p, n);
        n->a = of;
        of = n;
        inline_ = false;
    }
    return of;
}

static jnode *test(jp *p, jnode *of) {
    const jtoken *at = p->k;
    next(p);
    bool negated = fjp_skip_name(p, "not");
    const jtoken *named = p->k;
    const jstr *s = dotted(p);
    jnode *n = fjp_node(p, N_TEST, named);
    n->val = fjj_of(s);
    n->fn = fjj_test_find(s->p, s->n);
    if (!n->fn) nobody_knows(p, named, "test");
    n->a = of;
    jtok t = (jtok)p->k->t;
    if (t == T_LPAREN) {
        args(p, n);
    } else if ((t == T_NAME || t == T_STR || t == T_INT || t == T_FLOAT || t == T_LBRACKET ||
                t == T_LBRACE) &&
               !fjp_is(p, "else") && !fjp_is(p, "or") && !fjp_is(p, "and")) {
        if (fjp_is(p, "is")) fjp_fail(p, p->k, "You cannot chain multiple tests with is");
        n->list = fjj_alloc(p->r, sizeof(jnode *));
        n->list[0] = postfix(p, fjp_primary(p, false));
        n->n = 1;
    }
    if (!negated) return n;
    jnode *no = fjp_node(p, N_NOT, at);
    no->a = n;
    return no;
}

static jnode *unary(jp *p, bool with_filter) {
    const jtoken *k = p->k;
    jnode *n;
    fjp_deeper(p);
    if (k->t == T_SUB || k->t == T_ADD) {
        next(p);
        n = fjp_node(p, k->t == T_SUB ? N_NEG : N_POS, k);
        n->a = unary(p, false);
    } else {
        n = fjp_primary(p, false);
    }
    n = postfix(p, n);
    int deep = 0;
    while (with_filter) {
        if (p->k->t == T_PIPE) n = fjp_filters(p, n, false);
        else if (fjp_is(p, "is")) n = test(p, n);
        else if (p->k->t == T_LPAREN) n = call(p, n);
        else break;
        fjp_deeper(p);
        deep++;
    }
    p->depth -= deep + 1;
    return n;
}

/* ---- operators, from the tightest ----------------------------------------------------------------- */
typedef jnode *(*level)(jp *p);

static jnode *left(jp *p, level under, const jtok *toks, const jop *ops, int n_ops) {
    jnode *n = under(p);
    int deep = 0;
    for (int i = 0; i < n_ops; i++) {
        if (p->k->t != toks[i]) continue;
        const jtoken *at = p->k;
        next(p);
        n = binary(p, ops[i], at, n, under(p));
        fjp_deeper(p);
        deep++;
        i = -1;
    }
    p->depth -= deep;
    return n;
}

static jnode *unary_(jp *p) { return unary(p, true); }
static jnode *power(jp *p) {
    static const jtok t[] = { T_POW };
    static const jop o[] = { N_POW };
    return left(p, unary_, t, o, 1);
}
static jnode *product(jp *p) {
    static const jtok t[] = { T_MUL, T_DIV, T_FLOORDIV, T_MOD };
    static const jop o[] = { N_MUL, N_DIV, N_FLOORDIV, N_MOD };
    return left(p, power, t, o, 4);
}
static jnode *concat(jp *p) {
    const jtoken *at = p->k;
    grow g = { 0 };
    add(p, &g, product(p));
    while (fjp_skip(p, T_TILDE)) add(p, &g, product(p));
    if (g.n == 1) return g.v[0];
    jnode *n = fjp_node(p, N_CONCAT, at);
    n->list = g.v;
    n->n = g.n;
    return n;
}
static jnode *sum(jp *p) {
    static const jtok t[] = { T_ADD, T_SUB };
    static const jop o[] = { N_ADD, N_SUB };
    return left(p, concat, t, o, 2);
}

static jnode *compare(jp *p) {
    static const jtok toks[] = { T_EQ, T_NE, T_LT, T_LE, T_GT, T_GE };
    const jtoken *at = p->k;
    jnode *first = sum(p);
    grow g = { 0 };
    for (;;) {
        int c = -1;
        for (int i = 0; i < (int)FJ_LEN(toks); i++)
            if (p->k->t == toks[i]) c = C_EQ + i;
        if (c >= 0) next(p);
        else if (fjp_skip_name(p, "in")) c = C_IN;
        else if (fjp_is(p, "not") && word_is(&p->k[1], "in")) p->k += 2, c = C_NOTIN;
        else break;
        jnode *o = fjp_node(p, N_CMP, at);
        o->flag = (uint8_t)c;
        o->a = sum(p);
        add(p, &g, o);
    }
    if (!g.n) return first;
    jnode *n = fjp_node(p, N_CMP, at);
    n->a = first;
    n->list = g.v;
    n->n = g.n;
    return n;
}

static jnode *not_(jp *p) {
    if (!fjp_is(p, "not")) return compare(p);
    jnode *n = fjp_node(p, N_NOT, p->k);
    next(p);
    fjp_deeper(p);
    n->a = not_(p);
    p->depth--;
    return n;
}

static jnode *logic(jp *p, level under, const char *word, jop op) {
    const jtoken *at = p->k;
    jnode *n = under(p);
    int deep = 0;
    while (fjp_skip_name(p, word)) {
        n = binary(p, op, at, n, under(p));
        fjp_deeper(p);
        deep++;
    }
    p->depth -= deep;
    return n;
}
static jnode *and_(jp *p) { return logic(p, not_, "and", N_AND); }
static jnode *or_(jp *p) { return logic(p, and_, "or", N_OR); }

static jnode *conditional(jp *p) {
    const jtoken *at = p->k;
    /* Whether this is one branch of an inline if is not known before the if behind it. */
    const jtoken *before = p->unknown;
    p->guess++;
    jnode *n = or_(p);
    p->guess--;
    if (!fjp_is(p, "if")) {
        if (p->unknown && !p->guess) nobody_knows(p, p->unknown, p->unknown_kind);
        return n;
    }
    p->unknown = before;
    while (fjp_skip_name(p, "if")) {
        jnode *c = fjp_node(p, N_COND, at);
        c->b = n;
        fjp_deeper(p);
        p->soft++;
        c->a = or_(p);
        if (fjp_skip_name(p, "else")) c->c = conditional(p);
        p->soft--;
        p->depth--;
        n = c;
    }
    return n;
}

jnode *fjp_expr(jp *p, bool cond) {
    fjp_deeper(p);
    jnode *n = cond ? conditional(p) : or_(p);
    p->depth--;
    return n;
}
