/* jinja_eval.c - expressions. */
#include "text/jinja_in.h"

static jv lookup(jr *r, const jscope *s, uint32_t name) {
    for (; s; s = s->up)
        for (uint32_t i = s->n; i-- > 0;)
            if (s->v[i].name == name) {
                if (s->v[i].val.k != J_MISSING) return s->v[i].val;
                return fjj_undef_name(r, r->t->names[name]);
            }
    if (r->root[name].k != J_MISSING) return r->root[name];
    return fjj_undef_name(r, r->t->names[name]);
}

static jv items(jr *r, jscope *s, const jnode *n, jkind k) {
    jv v = fjj_list(r, k, n->n);
    for (uint32_t i = 0; i < n->n; i++) fjj_push(r, v.l, fjj_eval(r, s, n->list[i]));
    return v;
}

static jv dict(jr *r, jscope *s, const jnode *n) {
    jv v = fjj_dict(r, n->n / 2 > 8 ? 0 : n->n / 2);
    for (uint32_t i = 0; i < n->n; i += 2) {
        jv key = fjj_eval(r, s, n->list[i]);
        fjj_put(r, v.m, key, fjj_eval(r, s, n->list[i + 1]));
    }
    return v;
}

static bool compare(jr *r, jv a, jv b, jcmp op) {
    switch (op) {
    case C_EQ: return fjj_equal(r, a, b);
    case C_NE: return !fjj_equal(r, a, b);
    case C_IN: return fjj_in(r, a, b);
    case C_NOTIN: return !fjj_in(r, a, b);
    default: return fjj_less(r, a, b, op);
    }
}

static jv chain(jr *r, jscope *s, const jnode *n) {
    jv a = fjj_eval(r, s, n->a);
    for (uint32_t i = 0; i < n->n; i++) {
        jv b = fjj_eval(r, s, n->list[i]->a);
        if (!compare(r, a, b, (jcmp)n->list[i]->flag)) return fjj_bool(false);
        a = b;
    }
    return fjj_bool(true);
}

static jv concat(jr *r, jscope *s, const jnode *n) {
    jb b = { .r = r };
    jv few[8], *v = n->n <= FJ_LEN(few) ? few : fjj_alloc(r, n->n * sizeof *v);
    for (uint32_t i = 0; i < n->n; i++) v[i] = fjj_eval(r, s, n->list[i]);
    for (uint32_t i = 0; i < n->n; i++) fjj_str_into(&b, v[i]);
    return fjb_take(&b);
}

/* ---- calls ---------------------------------------------------------------------------------------- */
/* Values of the arguments; *a and **kw are added at their ends. */
void fjj_eval_args(jr *r, jscope *s, const jnode *n, jargs *a, const jv *first) {
    jlist pos = { 0 };
    uint32_t extra = first != NULL;
    a->n = n->n + extra;
    a->pos = a->n ? fjj_alloc(r, a->n * sizeof *a->pos) : NULL;
    if (first) a->pos[0] = *first;
    for (uint32_t i = 0; i < n->n; i++) a->pos[i + extra] = fjj_eval(r, s, n->list[i]);
    a->n_kw = n->n_kw;
    a->kw = n->kw_name;
    a->kwv = n->n_kw ? fjj_alloc(r, n->n_kw * sizeof *a->kwv) : NULL;
    for (uint32_t i = 0; i < n->n_kw; i++) a->kwv[i] = fjj_eval(r, s, n->kw[i]);
    if (n->b) {
        jlist *more = fjj_all(r, fjj_eval(r, s, n->b));
        for (uint32_t i = 0; i < a->n; i++) fjj_push(r, &pos, a->pos[i]);
        for (uint32_t i = 0; i < more->n; i++) fjj_push(r, &pos, more->v[i]);
        a->pos = pos.v;
        a->n = pos.n;
    }
    if (n->c) {
        jv d = fjj_eval(r, s, n->c);
        if (d.k == J_UNDEF) fjj_fail_undef(r, d);
        if (d.k != J_DICT) fjj_fail(r, "argument after ** must be a mapping, not %s", fjj_type(d));
        const jstr **kw = fjj_alloc(r, (a->n_kw + d.m->n + 1) * sizeof *kw);
        jv *kwv = fjj_alloc(r, (a->n_kw + d.m->n + 1) * sizeof *kwv);
        if (a->n_kw) {
            memcpy(kw, a->kw, a->n_kw * sizeof *kw);
            memcpy(kwv, a->kwv, a->n_kw * sizeof *kwv);
        }
        for (uint32_t i = 0; i < d.m->n; i++) {
            jv key = d.m->v[i].key;
            if (key.k != J_STR) fjj_fail(r, "keywords must be strings");
            for (uint32_t k = 0; k < a->n_kw; k++)
                if (kw[k]->n == key.s->n && !memcmp(kw[k]->p, key.s->p, key.s->n))
                    fjj_fail(r, "got multiple values for keyword argument '%.*s'",
                             (int)FJ_MIN(key.s->n, 60u), key.s->p);
            kw[a->n_kw] = key.s;
            kwv[a->n_kw++] = d.m->v[i].val;
        }
        a->kw = kw;
        a->kwv = kwv;
    }
}

jv fjj_call(jr *r, jv f, jargs *a) {
    switch (f.k) {
    case J_MACRO: return fjj_call_macro(r, f.mac, a);
    case J_FUNC: return fjj_global_call(r, f.y, a);
    case J_METHOD: return fjj_method(r, f.me->self, f.me->name, f.me->n, a);
    case J_LOOP:
        if (a->n != 1 || a->n_kw) fjj_fail(r, "loop() takes one argument");
        return fjj_call_loop(r, f.lo, a->pos[0]);
    case J_JOINER: {
        bool used = f.cy->used;
        f.cy->used = true;
        return used ? fjj_of(f.cy->sep) : fjj_strz(r, "");
    }
    case J_UNDEF: fjj_fail_undef(r, f);
    default: fjj_fail(r, "'%s' object is not callable", fjj_type(f));
    }
}

/* a.b(...) without a value for the method itself. */
static bool has_method(jr *r, jv self, const jstr *name) {
    switch (self.k) {
    case J_STR: return fjj_str_has(name->p, name->n);
    case J_DICT:
        return (name->n == 3 && !memcmp(name->p, "get", 3)) ||
               (name->n == 5 && !memcmp(name->p, "items", 5)) ||
               (name->n == 4 && !memcmp(name->p, "keys", 4)) ||
               (name->n == 6 && !memcmp(name->p, "values", 6));
    default: (void)r; return false;
    }
}

static jv call(jr *r, jscope *s, const jnode *n) {
    jargs a;
    jv f;
    if (n->a->op == N_ATTR) {
        jv self = fjj_eval(r, s, n->a->a);
        if (has_method(r, self, n->a->val.s)) {
            fjj_eval_args(r, s, n, &a, NULL);
            r->at = n;
            return fjj_method(r, self, n->a->val.s->p, n->a->val.s->n, &a);
        }
        r->at = n->a;
        f = fjj_getattr(r, self, n->a->val.s);
    } else {
        f = fjj_eval(r, s, n->a);
    }
    fjj_eval_args(r, s, n, &a, NULL);
    r->at = n;
    return fjj_call(r, f, &a);
}

static jv filtered(jr *r, jscope *s, const jnode *n, jv v) {
    jargs a;
    fjj_eval_args(r, s, n, &a, NULL);
    r->at = n;
    return fjj_filter(r, n->fn, n->val.s, v, &a);
}

jv fjj_eval_chain(jr *r, jscope *s, const jnode *n, jv base) {
    if (!n) return base;
    return filtered(r, s, n, fjj_eval_chain(r, s, n->a, base));
}

static jv item(jr *r, jscope *s, const jnode *n) {
    jv of = fjj_eval(r, s, n->a);
    if (n->b->op != N_SLICE) {
        jv key = fjj_eval(r, s, n->b);
        r->at = n;
        return fjj_getitem(r, of, key);
    }
    const jnode *c = n->b;
    jv a = c->a ? fjj_eval(r, s, c->a) : fjj_none(), b = c->b ? fjj_eval(r, s, c->b) : fjj_none(),
       d = c->c ? fjj_eval(r, s, c->c) : fjj_none();
    r->at = n;
    return fjj_slice(r, of, a, b, d);
}

jv fjj_eval(jr *r, jscope *s, const jnode *n) {
    jv v, w;
    jargs a;
    const jnode *before = r->at;
    r->at = n;
    if (++r->steps > r->max_steps) fjj_step(r, 0);
    if (++r->depth > r->max_depth)
        fjj_fail(r, "too deep: over %d nodes, macros and loops in each other", r->max_depth);
    switch ((jop)n->op) {
    case N_CONST: v = n->val; break;
    case N_NAME: v = lookup(r, s, n->name); break;
    case N_TUPLE: v = items(r, s, n, J_TUPLE); break;
    case N_LIST: v = items(r, s, n, J_LIST); break;
    case N_DICT: v = dict(r, s, n); break;
    case N_ATTR:
        v = fjj_eval(r, s, n->a);
        v = fjj_getattr(r, v, n->val.s);
        break;
    case N_ITEM: v = item(r, s, n); break;
    case N_CALL: v = call(r, s, n); break;
    case N_FILTER: v = filtered(r, s, n, fjj_eval(r, s, n->a)); break;
    case N_TEST:
        w = fjj_eval(r, s, n->a);
        fjj_eval_args(r, s, n, &a, NULL);
        r->at = n;
        v = fjj_bool(fjj_test(r, n->fn, n->val.s, w, &a));
        break;
    case N_COND:
        if (fjj_truth(r, fjj_eval(r, s, n->a))) v = fjj_eval(r, s, n->b);
        else if (n->c) v = fjj_eval(r, s, n->c);
        else
            v = fjj_undef(
                r,
                fjj_printf(
                    r,
                    "the inline if-expression on line %u evaluated to false and no else section was defined.",
                    n->line));
        break;
    case N_AND:
        v = fjj_eval(r, s, n->a);
        if (fjj_truth(r, v)) v = fjj_eval(r, s, n->b);
        break;
    case N_OR:
        v = fjj_eval(r, s, n->a);
        if (!fjj_truth(r, v)) v = fjj_eval(r, s, n->b);
        break;
    case N_NOT: v = fjj_bool(!fjj_truth(r, fjj_eval(r, s, n->a))); break;
    case N_NEG:
    case N_POS: v = fjj_negate(r, fjj_eval(r, s, n->a), n->op == N_NEG); break;
    case N_CMP: v = chain(r, s, n); break;
    case N_CONCAT: v = concat(r, s, n); break;
    case N_NSREF:
    case N_SLICE: fjj_fail(r, "this stands where a value is wanted");
    default:
        v = fjj_eval(r, s, n->a);
        w = fjj_eval(r, s, n->b);
        r->at = n;
        v = fjj_arith(r, (jop)n->op, v, w);
        break;
    }
    r->depth--;
    r->at = before;
    return v;
}
