/* jinja_value.c - values: made, compared, measured, gone over. */
#include "text/jinja_in.h"

/* ---- strings -------------------------------------------------------------------------------------- */
jv fjj_strn(jr *r, const char *s, size_t n, const uint8_t *from) {
    jstr *x = fjj_alloc(r, sizeof *x);
    *x = (jstr){ .p = s, .from = from, .n = (uint32_t)n, .ascii = 2 };
    return fjj_of(x);
}

jv fjj_strz(jr *r, const char *s) { return fjj_strn(r, s, strlen(s), NULL); }

jv fjj_sub(jr *r, const jstr *s, size_t off, size_t n) {
    jv v = fjj_strn(r, s->p + off, n, fjj_from_at(s, off));
    if (s->ascii == 1) ((jstr *)v.s)->ascii = 1;
    return v;
}

bool fjj_ascii(const jstr *s) {
    uint8_t a = __atomic_load_n(&s->ascii, __ATOMIC_RELAXED);
    if (a != 2) return a;
    a = 1;
    for (size_t i = 0; i < s->n && a; i++) a = (unsigned char)s->p[i] < 128;
    /* Constants of a template are shared by threads, which all find the same. */
    __atomic_store_n(&((jstr *)s)->ascii, a, __ATOMIC_RELAXED);
    return a;
}

bool fjj_same(const jstr *s, const char *z) { return strlen(z) == s->n && !memcmp(s->p, z, s->n); }

size_t fjj_chars(const jstr *s) {
    if (fjj_ascii(s)) return s->n;
    size_t n = 0, len;
    for (size_t i = 0; i < s->n; i += len, n++) fjj_get_char(s->p + i, s->n - i, &len);
    return n;
}

size_t fjj_char_at(const jstr *s, int64_t i) {
    if (fjj_ascii(s)) return (size_t)i;
    size_t at = 0, len;
    for (; i > 0 && at < s->n; i--, at += len) fjj_get_char(s->p + at, s->n - at, &len);
    return at;
}

/* ---- making --------------------------------------------------------------------------------------- */
jv fjj_undef(jr *r, const char *hint) {
    jundef *u = fjj_zalloc(r, sizeof *u);
    u->hint = hint;
    return (jv){ .k = J_UNDEF, .u = u };
}

jv fjj_undef_name(jr *r, const jstr *name) {
    jundef *u = fjj_zalloc(r, sizeof *u);
    u->name = fjj_of(name);
    return (jv){ .k = J_UNDEF, .u = u };
}

jv fjj_undef_attr(jr *r, jv obj, jv name) {
    jundef *u = fjj_zalloc(r, sizeof *u);
    u->obj = obj;
    u->name = name;
    return (jv){ .k = J_UNDEF, .u = u };
}

jv fjj_list(jr *r, jkind k, uint32_t cap) {
    jv v = { .k = (uint8_t)k };
    jlist *l;
    if (k == J_ITER) {
        v.it = fjj_zalloc(r, sizeof *v.it);
        v.it->what = "generator";
        l = &v.it->l;
    } else {
        l = v.l = fjj_zalloc(r, sizeof *l);
    }
    if (cap) l->v = fjj_alloc(r, cap * sizeof *l->v);
    l->cap = cap;
    return v;
}

void fjj_push(jr *r, jlist *l, jv v) {
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        jv *p = fjj_alloc(r, cap * sizeof *p);
        if (l->n) memcpy(p, l->v, l->n * sizeof *p);
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    fjj_step(r, 1);
}

jv fjj_pair(jr *r, jv a, jv b) {
    jv t = fjj_list(r, J_TUPLE, 2);
    t.l->v[0] = a;
    t.l->v[1] = b;
    t.l->n = 2;
    return t;
}

/* ---- what is it ----------------------------------------------------------------------------------- */
const char *fjj_type(jv v) {
    static const char *const names[] = {
        [J_MISSING] = "Undefined", [J_UNDEF] = "Undefined", [J_NONE] = "NoneType",
        [J_BOOL] = "bool",         [J_INT] = "int",         [J_FLOAT] = "float",
        [J_STR] = "str",           [J_LIST] = "list",       [J_TUPLE] = "tuple",
        [J_DICT] = "dict",         [J_VIEW] = "dict_items", [J_RANGE] = "range",
        [J_ITER] = "generator",    [J_NS] = "Namespace",    [J_MACRO] = "Macro",
        [J_FUNC] = "function",     [J_METHOD] = "method",   [J_LOOP] = "LoopContext",
        [J_CYCLER] = "Cycler",     [J_JOINER] = "Joiner",
    };
    if (v.k == J_VIEW) return v.x == 0 ? "dict_keys" : v.x == 1 ? "dict_values" : "dict_items";
    if (v.k == J_STR && v.s->markup) return "Markup";
    return names[v.k];
}

bool fjj_is_num(jv v) { return v.k == J_BOOL || v.k == J_INT || v.k == J_FLOAT; }
double fjj_double(jv v) { return v.k == J_FLOAT ? v.d : v.k == J_INT ? (double)v.i : (double)v.b; }
bool fjj_as_int(jv v, int64_t *i) {
    if (v.k == J_INT) *i = v.i;
    else if (v.k == J_BOOL) *i = v.b;
    else return false;
    return true;
}

bool fjj_truth(jr *r, jv v) {
    switch (v.k) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.d != 0;
    case J_STR: return v.s->n != 0;
    case J_LIST:
    case J_TUPLE: return v.l->n != 0;
    case J_DICT:
    case J_VIEW: return v.m->n != 0;
    case J_RANGE: return v.g->n != 0;
    case J_LOOP: return fjj_len(r, v) != 0;
    default: return true;
    }
}

/* ---- comparing ------------------------------------------------------------------------------------ */
static bool lists_equal(jr *r, const jlist *a, const jlist *b) {
    if (a == b) return true;
    if (a->n != b->n) return false;
    fjj_step(r, a->n);
    for (uint32_t i = 0; i < a->n; i++)
        if (!fjj_equal(r, a->v[i], b->v[i])) return false;
    return true;
}

static bool dicts_equal(jr *r, const jdict *a, const jdict *b) {
    if (a == b) return true;
    if (a->n != b->n) return false;
    fjj_step(r, a->n);
    for (uint32_t i = 0; i < a->n; i++) {
        const jv *x = fjj_get(r, b, a->v[i].key);
        if (!x || !fjj_equal(r, a->v[i].val, *x)) return false;
    }
    return true;
}

static int num_cmp(jv a, jv b) { /* 2: unordered */
    int64_t x, y;
    if (fjj_as_int(a, &x) && fjj_as_int(b, &y)) return x < y ? -1 : x > y;
    double p = fjj_double(a), q = fjj_double(b);
    return p < q ? -1 : p > q ? 1 : p == q ? 0 : 2;
}

bool fjj_equal(jr *r, jv a, jv b) {
    if (a.k == J_STR && b.k == J_STR) return a.s->n == b.s->n && !memcmp(a.s->p, b.s->p, a.s->n);
    if (fjj_is_num(a) && fjj_is_num(b)) return num_cmp(a, b) == 0;
    if (a.k != b.k) return false;
    if (++r->depth > r->max_depth) fjj_fail(r, "values lie too deep in each other");
    bool same;
    switch (a.k) {
    case J_UNDEF:
    case J_NONE: same = true; break;
    case J_LIST:
    case J_TUPLE: same = lists_equal(r, a.l, b.l); break;
    case J_DICT: same = dicts_equal(r, a.m, b.m); break;
    case J_RANGE:
        same = a.g->n == b.g->n &&
               (!a.g->n || (a.g->start == b.g->start && (a.g->n == 1 || a.g->step == b.g->step)));
        break;
    case J_VIEW:
        if (a.x == 1 || a.x != b.x) same = a.m == b.m && a.x == b.x && a.x != 1;
        else same = a.x == 2 ? dicts_equal(r, a.m, b.m) : false;
        if (a.x == 0 && b.x == 0) {
            same = a.m->n == b.m->n;
            for (uint32_t i = 0; same && i < a.m->n; i++) same = fjj_get(r, b.m, a.m->v[i].key);
        }
        break;
    case J_FUNC: same = a.y == b.y; break;
    default: same = a.l == b.l; break;
    }
    r->depth--;
    return same;
}

bool fjj_less(jr *r, jv a, jv b, jcmp op) {
    static const char *const signs[] = { [C_LT] = "<", [C_LE] = "<=", [C_GT] = ">", [C_GE] = ">=" };
    int c;
    if (a.k == J_UNDEF) fjj_fail_undef(r, a);
    if (b.k == J_UNDEF) fjj_fail_undef(r, b);
    if (fjj_is_num(a) && fjj_is_num(b)) {
        c = num_cmp(a, b);
        if (c == 2) return false;
    } else if (a.k == J_STR && b.k == J_STR) {
        /* Bytes of UTF-8 are ordered as their characters are. */
        c = memcmp(a.s->p, b.s->p, FJ_MIN(a.s->n, b.s->n));
        if (!c) c = a.s->n < b.s->n ? -1 : a.s->n > b.s->n;
    } else if (a.k == b.k && (a.k == J_LIST || a.k == J_TUPLE)) {
        uint32_t i = 0, n = FJ_MIN(a.l->n, b.l->n);
        while (i < n && fjj_equal(r, a.l->v[i], b.l->v[i])) i++;
        if (i < n) {
            if (++r->depth > r->max_depth) fjj_fail(r, "values lie too deep in each other");
            bool less = fjj_less(r, a.l->v[i], b.l->v[i], op);
            r->depth--;
            return less;
        }
        c = a.l->n < b.l->n ? -1 : a.l->n > b.l->n;
    } else {
        fjj_fail(r, "'%s' not supported between instances of '%s' and '%s'", signs[op], fjj_type(a),
                 fjj_type(b));
    }
    return op == C_LT ? c < 0 : op == C_LE ? c <= 0 : op == C_GT ? c > 0 : c >= 0;
}

bool fjj_in(jr *r, jv item, jv box) {
    jv x;
    switch (box.k) {
    case J_STR:
        if (item.k != J_STR)
            fjj_fail(r, "'in <string>' requires string as left operand, not %s", fjj_type(item));
        return fjj_find(box.s, 0, item.s) != NULL;
    case J_DICT:
        if (!fjj_hashable(item)) fjj_fail(r, "unhashable type: '%s'", fjj_type(item));
        return fjj_get(r, box.m, item) != NULL;
    default: break;
    }
    if (!fjj_iterable(box)) fjj_fail(r, "argument of type '%s' is not iterable", fjj_type(box));
    for (jwalk w = fjj_walk(r, box); fjj_next(r, &w, &x);)
        if (fjj_equal(r, item, x)) return true;
    return false;
}

/* ---- going over ----------------------------------------------------------------------------------- */
bool fjj_has_len(jv v) {
    return v.k == J_STR || v.k == J_LIST || v.k == J_TUPLE || v.k == J_DICT || v.k == J_VIEW ||
           v.k == J_RANGE || v.k == J_UNDEF || v.k == J_LOOP;
}

int64_t fjj_len(jr *r, jv v) {
    switch (v.k) {
    case J_STR: return (int64_t)fjj_chars(v.s);
    case J_LIST:
    case J_TUPLE: return v.l->n;
    case J_DICT:
    case J_VIEW: return v.m->n;
    case J_RANGE: return v.g->n;
    case J_UNDEF: return 0;
    case J_LOOP: {
        bool found;
        return fjj_loop_attr(r, v.lo, "length", &found).i;
    }
    default: fjj_fail(r, "object of type '%s' has no len()", fjj_type(v));
    }
}

bool fjj_iterable(jv v) { return (fjj_has_len(v) && v.k != J_LOOP) || v.k == J_ITER; }

jwalk fjj_walk(jr *r, jv v) {
    if (!fjj_iterable(v)) fjj_fail(r, "'%s' object is not iterable", fjj_type(v));
    jwalk w = { .of = v, .n = v.k == J_STR ? v.s->n : v.k == J_ITER ? -1 : fjj_len(r, v) };
    return w;
}

bool fjj_next(jr *r, jwalk *w, jv *item) {
    jv v = w->of;
    fjj_step(r, 1);
    if (v.k == J_ITER) {
        if (v.it->at >= v.it->l.n) return false;
        *item = v.it->l.v[v.it->at++];
        return true;
    }
    if (w->at >= w->n) return false;
    int64_t i = w->at++;
    switch (v.k) {
    case J_STR: {
        size_t len;
        fjj_get_char(v.s->p + i, v.s->n - (size_t)i, &len);
        *item = fjj_sub(r, v.s, (size_t)i, len);
        w->at = i + (int64_t)len;
        return true;
    }
    case J_LIST:
    case J_TUPLE: *item = v.l->v[i]; return true;
    case J_DICT: *item = v.m->v[i].key; return true;
    case J_RANGE: *item = fjj_int(v.g->start + i * v.g->step); return true;
    default: /* J_VIEW */
        *item = v.x == 0   ? v.m->v[i].key
                : v.x == 1 ? v.m->v[i].val
                           : fjj_pair(r, v.m->v[i].key, v.m->v[i].val);
        return true;
    }
}

jlist *fjj_all(jr *r, jv v) {
    if (v.k == J_LIST || v.k == J_TUPLE) return v.l;
    jlist *l = fjj_zalloc(r, sizeof *l);
    jv x;
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &x);) fjj_push(r, l, x);
    return l;
}
