/* jinja_run.c - statements: scopes, loops, macros. */
#include "text/jinja_in.h"

/* ---- scopes --------------------------------------------------------------------------------------- */
/* A name is looked for from the inside out and always set in the innermost scope; without one, in the
 * table of the root.  if has no scope of its own; for has one for each round. */
void fjj_define(jr *r, jscope *s, uint32_t name, jv v) {
    if (!s) {
        r->root[name] = v;
        return;
    }
    for (uint32_t i = 0; i < s->n; i++)
        if (s->v[i].name == name) {
            s->v[i].val = v;
            return;
        }
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        jbind *b = fjj_alloc(r, cap * sizeof *b);
        if (s->n) memcpy(b, s->v, s->n * sizeof *b);
        s->v = b;
        s->cap = cap;
    }
    s->v[s->n++] = (jbind){ name, v };
}

static jscope *scope(jr *r, jscope *up) {
    jscope *s = fjj_zalloc(r, sizeof *s);
    s->up = up;
    return s;
}

void fjj_assign(jr *r, jscope *s, const jnode *t, jv v) {
    if (t->op == N_NAME) {
        fjj_define(r, s, t->name, v);
        return;
    }
    r->at = t;
    if (t->op == N_NSREF) {
        jnode name = { .op = N_NAME, .name = t->name, .line = t->line, .col = t->col };
        jv ns = fjj_eval(r, s, &name);
        r->at = t;
        if (ns.k != J_NS) fjj_fail(r, "cannot assign attribute on non-namespace object");
        if (t->val.s->n && t->val.s->p[0] == '_')
            fjj_fail(
                r,
                "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. Please rename the attribute.",
                (int)FJ_MIN(t->val.s->n, 60u), t->val.s->p);
        fjj_put(r, ns.m, t->val, v);
        return;
    }
    if (v.k == J_UNDEF || !fjj_iterable(v))
        if (v.k != J_UNDEF) fjj_fail(r, "cannot unpack non-iterable %s object", fjj_type(v));
    jwalk w = fjj_walk(r, v);
    jv x, *got = fjj_alloc(r, (t->n + 1) * sizeof *got);
    uint32_t n = 0;
    while (fjj_next(r, &w, &x)) {
        if (n == t->n) fjj_fail(r, "too many values to unpack (expected %u)", t->n);
        got[n++] = x;
    }
    if (n < t->n) fjj_fail(r, "not enough values to unpack (expected %u, got %u)", t->n, n);
    for (uint32_t i = 0; i < n; i++) fjj_assign(r, s, t->list[i], got[i]);
}

/* ---- loops ---------------------------------------------------------------------------------------- */
/* The next item that the loop's own `if` lets through. */
static bool fetch(jr *r, jloop *l, jv *item) {
    const jnode *test = l->node->list[1];
    if (l->ahead_at < l->ahead.n) {
        *item = l->ahead.v[l->ahead_at++];
        return true;
    }
    while (fjj_next(r, &l->walk, item)) {
        if (!test) return true;
        jscope *s = scope(r, l->up);
        fjj_assign(r, s, l->node->a, *item);
        if (fjj_truth(r, fjj_eval(r, s, test))) return true;
    }
    return false;
}

bool fjj_loop_last(jr *r, jloop *l) {
    jv next;
    if (l->after.k != J_MISSING) return false;
    if (!fetch(r, l, &next)) return true;
    l->after = next;
    return false;
}

static int64_t length(jr *r, jloop *l) {
    if (l->length >= 0) return l->length;
    if (l->walk.n >= 0 && !l->node->list[1]) {
        l->length = fjj_len(r, l->walk.of);
        return l->length;
    }
    jlist rest = { 0 };
    jv x;
    while (fetch(r, l, &x)) fjj_push(r, &rest, x);
    l->ahead = rest;
    l->ahead_at = 0;
    l->length = rest.n + l->index0 + 1 + (l->after.k != J_MISSING);
    return l->length;
}

jv fjj_loop_attr(jr *r, jloop *l, const char *name, bool *found) {
    *found = true;
    if (!strcmp(name, "index")) return fjj_int(l->index0 + 1);
    if (!strcmp(name, "index0")) return fjj_int(l->index0);
    if (!strcmp(name, "first")) return fjj_bool(l->index0 == 0);
    if (!strcmp(name, "last")) return fjj_bool(fjj_loop_last(r, l));
    if (!strcmp(name, "length")) return fjj_int(length(r, l));
    if (!strcmp(name, "revindex")) return fjj_int(length(r, l) - l->index0);
    if (!strcmp(name, "revindex0")) return fjj_int(length(r, l) - l->index0 - 1);
    if (!strcmp(name, "depth")) return fjj_int(l->depth0 + 1);
    if (!strcmp(name, "depth0")) return fjj_int(l->depth0);
    if (!strcmp(name, "previtem"))
        return l->index0 == 0 ? fjj_undef(r, "there is no previous item") : l->before;
    if (!strcmp(name, "nextitem"))
        return fjj_loop_last(r, l) ? fjj_undef(r, "there is no next item") : l->after;
    *found = false;
    return fjj_none();
}

static int loop(jr *r, jscope *up, const jnode *n, jv over, int64_t depth0) {
    jloop *l = fjj_zalloc(r, sizeof *l), *outer = r->loop;
    *l = (jloop){
        .node = n, .up = up, .walk = fjj_walk(r, over), .length = -1, .index0 = -1, .depth0 = depth0
    };
    jscope *s = NULL;
    jv item, self = { .k = J_LOOP, .lo = l };
    int how = RUN_ON;
    bool any = false;
    for (;;) {
        if (l->after.k != J_MISSING) {
            item = l->after;
            l->after = fjj_missing();
        } else if (!fetch(r, l, &item)) {
            break;
        }
        any = true;
        l->index0++;
        l->before = l->current;
        l->current = item;
        if (!s || (n->flag & F_CLOSURES)) s = scope(r, up);
        else s->n = 0;
        fjj_define(r, s, n->name, self);
        fjj_assign(r, s, n->a, item);
        r->loop = l;
        how = fjj_run(r, s, n->c);
        r->loop = outer;
        if (how == RUN_BREAK) break;
    }
    if (!any && n->list[0]) {
        how = fjj_run(r, scope(r, up), n->list[0]);
        return how;
    }
    return RUN_ON;
}

jv fjj_call_loop(jr *r, jloop *l, jv items) {
    if (!(l->node->flag & F_RECURSIVE))
        fjj_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    jb b = { .r = r }, *out = r->out;
    r->out = &b;
    loop(r, l->up, l->node, items, l->depth0 + 1);
    r->out = out;
    return fjb_take(&b);
}

/* ---- macros --------------------------------------------------------------------------------------- */
static jv make_macro(jr *r, jscope *s, const jnode *n) {
    jmacro *m = fjj_zalloc(r, sizeof *m);
    const jstr *name = r->t->names[n->name];
    *m = (jmacro){ .node = n,
                   .up = s,
                   .name = fjj_printf(r, "%.*s", (int)FJ_MIN(name->n, 100u), name->p) };
    return (jv){ .k = J_MACRO, .mac = m };
}

static uint32_t special(jr *r, const char *name) {
    for (uint32_t i = 0; i < r->t->n_names; i++)
        if (fjj_same(r->t->names[i], name)) return i;
    return 0; /* not reached: the name is in the body */
}

jv fjj_call_macro(jr *r, jmacro *m, jargs *a) {
    const jnode *n = m->node;
    jscope *s = scope(r, m->up);
    bool *used = fjj_zalloc(r, a->n_kw + 1);
    jv rest = fjj_list(r, J_TUPLE, 0), named = fjj_dict(r, 0), caller = fjj_missing();
    for (uint32_t i = 0; i < n->n; i++) {
        jv v = fjj_missing();
        const jstr *name = r->t->names[n->list[i]->name];
        if (i < a->n) v = a->pos[i];
        for (uint32_t k = 0; i >= a->n && k < a->n_kw; k++)
            if (!used[k] && a->kw[k]->n == name->n && !memcmp(a->kw[k]->p, name->p, name->n)) {
                v = a->kwv[k];
                used[k] = true;
            }
        if (v.k == J_MISSING && i + n->n_kw >= n->n) {
            v = fjj_eval(r, s, n->kw[i + n->n_kw - n->n]);
        } else if (v.k == J_MISSING) {
            v = fjj_undef(r, fjj_printf(r, "parameter '%.*s' was not provided",
                                        (int)FJ_MIN(name->n, 60u), name->p));
            v.u->name = fjj_of(name);
        }
        fjj_define(r, s, n->list[i]->name, v);
    }
    for (uint32_t k = 0; k < a->n_kw; k++) {
        if (used[k]) continue;
        if ((n->flag & M_CALLER) && fjj_same(a->kw[k], "caller")) caller = a->kwv[k];
        else if (n->flag & M_KWARGS) fjj_put(r, named.m, fjj_of(a->kw[k]), a->kwv[k]);
        else
            fjj_fail(r, "macro '%s' takes no keyword argument '%.*s'", m->name,
                     (int)FJ_MIN(a->kw[k]->n, 60u), a->kw[k]->p);
    }
    if (a->n > n->n && !(n->flag & M_VARARGS))
        fjj_fail(r, "macro '%s' takes not more than %u argument(s)", m->name, n->n);
    for (uint32_t i = n->n; i < a->n; i++) fjj_push(r, rest.l, a->pos[i]);
    if (n->flag & M_CALLER) {
        if (caller.k == J_MISSING || caller.k == J_NONE) caller = fjj_undef(r, "No caller defined");
        fjj_define(r, s, special(r, "caller"), caller);
    }
    if (n->flag & M_KWARGS) fjj_define(r, s, special(r, "kwargs"), named);
    if (n->flag & M_VARARGS) fjj_define(r, s, special(r, "varargs"), rest);
    jb b = { .r = r }, *out = r->out;
    r->out = &b;
    fjj_run(r, s, n->c);
    r->out = out;
    return fjb_take(&b);
}

static void call_block(jr *r, jscope *s, const jnode *n) {
    jargs a;
    jv f = fjj_eval(r, s, n->a->a);
    fjj_eval_args(r, s, n->a, &a, NULL);
    const jstr **kw = fjj_alloc(r, (a.n_kw + 1) * sizeof *kw);
    jv *kwv = fjj_alloc(r, (a.n_kw + 1) * sizeof *kwv);
    if (a.n_kw) {
        memcpy(kw, a.kw, a.n_kw * sizeof *kw);
        memcpy(kwv, a.kwv, a.n_kw * sizeof *kwv);
    }
    kw[a.n_kw] = fjj_strz(r, "caller").s;
    kwv[a.n_kw] = make_macro(r, s, n->b);
    a.kw = kw;
    a.kwv = kwv;
    a.n_kw++;
    r->at = n;
    fjj_str_into(r->out, fjj_call(r, f, &a));
}

/* ---- the rest ------------------------------------------------------------------------------------- */
static jv captured(jr *r, jscope *s, const jnode *body) {
    jb b = { .r = r }, *out = r->out;
    r->out = &b;
    fjj_run(r, scope(r, s), body);
    r->out = out;
    return fjb_take(&b);
}

static void generation(jr *r, jscope *s, const jnode *n) {
    size_t from = r->out->n;
    fjj_run(r, scope(r, s), n->c);
    jb *b = r->out;
    if (b->n == from) return;
    if (!b->from) {
        b->from = fjj_zalloc(r, b->cap);
    }
    for (size_t i = from; i < b->n; i++) b->from[i] |= FJ_FROM_ANSWER;
}

static int each(jr *r, jscope *s, const jnode *n) {
    for (uint32_t i = 0; i < n->n; i++) {
        const jnode *x = n->list[i];
        if (x->op == N_TEXT) {
            fjb_add(r->out, x->val.s->p, x->val.s->n, NULL);
        } else if (x->op == N_PRINT) {
            jv v = fjj_eval(r, s, x->a);
            r->at = x;
            fjj_str_into(r->out, v);
        } else {
            int how = fjj_run(r, s, x);
            if (how != RUN_ON) return how;
        }
    }
    return RUN_ON;
}

static int if_(jr *r, jscope *s, const jnode *n) {
    uint32_t i = 0;
    for (; i + 1 < n->n; i += 2)
        if (fjj_truth(r, fjj_eval(r, s, n->list[i]))) return fjj_run(r, s, n->list[i + 1]);
    return i < n->n ? fjj_run(r, s, n->list[i]) : RUN_ON;
}

static int with(jr *r, jscope *s, const jnode *n) {
    jscope *in = scope(r, s);
    jv *v = fjj_alloc(r, (n->n + 1) * sizeof *v);
    for (uint32_t i = 0; i < n->n; i++) v[i] = fjj_eval(r, s, n->kw[i]);
    for (uint32_t i = 0; i < n->n; i++) fjj_assign(r, in, n->list[i], v[i]);
    return fjj_run(r, in, n->c);
}

int fjj_run(jr *r, jscope *s, const jnode *n) {
    int how = RUN_ON;
    r->at = n;
    if (++r->steps > r->max_steps) fjj_step(r, 0);
    if (++r->depth > r->max_depth)
        fjj_fail(r, "too deep: over %d nodes, macros and loops in each other", r->max_depth);
    switch ((jop)n->op) {
    case N_BODY: how = each(r, s, n); break;
    case N_IF: how = if_(r, s, n); break;
    case N_FOR: {
        jv over = fjj_eval(r, s, n->b);
        r->at = n;
        how = loop(r, s, n, over, 0);
        break;
    }
    case N_SET: {
        jv v = fjj_eval(r, s, n->b);
        fjj_assign(r, s, n->a, v);
        break;
    }
    case N_SETBLOCK:
        fjj_assign(r, s, n->a, fjj_eval_chain(r, s, n->b, captured(r, s, n->c)));
        break;
    case N_FILTERBLOCK:
        fjj_str_into(r->out, fjj_eval_chain(r, s, n->b, captured(r, s, n->c)));
        break;
    case N_MACRO: fjj_define(r, s, n->name, make_macro(r, s, n)); break;
    case N_CALLBLOCK: call_block(r, s, n); break;
    case N_WITH: how = with(r, s, n); break;
    case N_GENERATION: generation(r, s, n); break;
    case N_BLOCK: how = fjj_run(r, n->flag ? scope(r, s) : scope(r, NULL), n->c); break;
    case N_BREAK: how = RUN_BREAK; break;
    case N_CONTINUE: how = RUN_CONTINUE; break;
    case N_LOAD:
        fjj_fail(r, "'%.*s' is not possible in a chat template: there is nothing to load from",
                 (int)n->val.s->n, n->val.s->p);
    default: fjj_fail(r, "this stands where a statement is wanted");
    }
    r->depth--;
    return how;
}
