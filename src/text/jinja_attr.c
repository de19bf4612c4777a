/* jinja_attr.c - members, items, slices, and the methods of all but strings. */
#include "text/jinja_in.h"

#include <math.h>

static bool among(const char *s, size_t n, const char *const *names) {
    for (; *names; names++)
        if (strlen(*names) == n && !memcmp(*names, s, n)) return true;
    return false;
}

/* What Python has as an attribute of this value.  2: one that the sandbox forbids. */
static int attribute(jv v, const char *s, size_t n) {
    static const char *const dict[] = {
        "copy", "get", "items", "keys", "values", "fromkeys", NULL
    };
    static const char *const dict_no[] = {
        "clear", "pop", "popitem", "setdefault", "update", NULL
    };
    static const char *const list[] = { "copy", "count", "index", NULL };
    static const char *const list_no[] = { "append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL };
    static const char *const tuple[] = { "count", "index", NULL };
    static const char *const cycler[] = { "next", "reset", NULL };
    static const char *const loop[] = { "cycle", "changed", NULL };
    static const char *const view[] = { "isdisjoint", NULL };
    if (n > 4 && s[0] == '_' && s[1] == '_' && s[n - 1] == '_' && s[n - 2] == '_') {
        static const char *const known[] = {
            "__class__",        "__doc__",  "__init__",     "__dict__",   "__len__",  "__iter__",
            "__getitem__",      "__eq__",   "__str__",      "__repr__",   "__hash__", "__reduce__",
            "__subclasshook__", "__new__",  "__format__",   "__sizeof__", "__dir__",  "__module__",
            "__globals__",      "__call__", "__contains__", "__add__",    "__mro__",  NULL
        };
        return among(s, n, known) ? 2 : 0;
    }
    switch (v.k) {
    case J_STR: return fjj_str_has(s, n);
    case J_DICT: return among(s, n, dict) ? 1 : among(s, n, dict_no) ? 2 : 0;
    case J_LIST: return among(s, n, list) ? 1 : among(s, n, list_no) ? 2 : 0;
    case J_TUPLE: return among(s, n, tuple);
    case J_RANGE: return among(s, n, tuple);
    case J_VIEW: return v.x != 1 && among(s, n, view);
    case J_CYCLER: return among(s, n, cycler);
    case J_FUNC: return n == 8 && !memcmp(s, "fromkeys", 8) && v.y == fjj_global_find("dict", 4).y;
    case J_LOOP: return among(s, n, loop);
    case J_INT: return n == 10 && (!memcmp(s, "bit_length", 10) || !memcmp(s, "is_integer", 10));
    case J_FLOAT: return n == 10 && !memcmp(s, "is_integer", 10);
    default: return 0;
    }
}

static jv forbidden(jr *r, jv obj, const jstr *name) {
    jv u = fjj_undef(r, fjj_printf(r, "access to attribute '%.*s' of '%s' object is unsafe.",
                                   (int)FJ_MIN(name->n, 60u), name->p, fjj_type(obj)));
    u.u->forbidden = true;
    return u;
}

/* Values that are members and not methods. */
static bool member(jr *r, jv obj, const jstr *name, jv *out) {
    bool found = false;
    if (obj.k == J_NS) {
        const jv *x = fjj_get(r, obj.m, fjj_of(name));
        if (x) *out = *x;
        return x != NULL;
    }
    if (obj.k == J_LOOP && name->n < 12) {
        char z[16];
        memcpy(z, name->p, name->n);
        z[name->n] = 0;
        *out = fjj_loop_attr(r, obj.lo, z, &found);
        return found;
    }
    if (obj.k == J_TUPLE && obj.x && (fjj_same(name, "grouper") || fjj_same(name, "list"))) {
        *out = obj.l->v[fjj_same(name, "list")];
        return true;
    }
    if (obj.k == J_CYCLER && fjj_same(name, "current")) {
        *out = obj.cy->l.v[obj.cy->at];
        return true;
    }
    if (obj.k == J_MACRO && fjj_same(name, "name")) {
        *out = fjj_strz(r, obj.mac->name);
        return true;
    }
    if (obj.k == J_RANGE &&
        (fjj_same(name, "start") || fjj_same(name, "stop") || fjj_same(name, "step"))) {
        *out = fjj_int(fjj_same(name, "start")  ? obj.g->start
                       : fjj_same(name, "stop") ? obj.g->stop
                                                : obj.g->step);
        return true;
    }
    return false;
}

static bool attr(jr *r, jv obj, const jstr *name, jv *out) {
    if (member(r, obj, name, out)) return true;
    int how = attribute(obj, name->p, name->n);
    if (!how) return false;
    if (how == 2) {
        *out = forbidden(r, obj, name);
        return true;
    }
    jmethod *m = fjj_alloc(r, sizeof *m);
    *m = (jmethod){ obj, name->p, name->n };
    *out = (jv){ .k = J_METHOD, .me = m };
    return true;
}

static bool element(jr *r, jv obj, jv key, jv *out) {
    int64_t i;
    const jv *x;
    switch (obj.k) {
    case J_DICT:
        if (!fjj_hashable(key) || !(x = fjj_get(r, obj.m, key))) return false;
        *out = *x;
        return true;
    case J_LIST:
    case J_TUPLE:
        if (!fjj_as_int(key, &i)) return false;
        if (i < 0) i += obj.l->n;
        if (i < 0 || i >= obj.l->n) return false;
        *out = obj.l->v[i];
        return true;
    case J_RANGE:
        if (!fjj_as_int(key, &i)) return false;
        if (i < 0) i += obj.g->n;
        if (i < 0 || i >= obj.g->n) return false;
        *out = fjj_int(obj.g->start + i * obj.g->step);
        return true;
    case J_STR: {
        if (!fjj_as_int(key, &i)) return false;
        int64_t n = (int64_t)fjj_chars(obj.s);
        if (i < 0) i += n;
        if (i < 0 || i >= n) return false;
        size_t at = fjj_char_at(obj.s, i), len;
        fjj_get_char(obj.s->p + at, obj.s->n - at, &len);
        *out = fjj_sub(r, obj.s, at, len);
        return true;
    }
    default: return false;
    }
}

jv fjj_getattr(jr *r, jv obj, const jstr *name) {
    jv v;
    if (obj.k == J_UNDEF) fjj_fail_undef(r, obj);
    if (attr(r, obj, name, &v) || element(r, obj, fjj_of(name), &v)) return v;
    return fjj_undef_attr(r, obj, fjj_of(name));
}

jv fjj_getitem(jr *r, jv obj, jv key) {
    jv v;
    if (obj.k == J_UNDEF) fjj_fail_undef(r, obj);
    if (element(r, obj, key, &v)) return v;
    if (key.k == J_STR && attr(r, obj, key.s, &v)) return v;
    return fjj_undef_attr(r, obj, key);
}

/* ---- slices --------------------------------------------------------------------------------------- */
static int64_t bound(jr *r, jv v, int64_t missing, int64_t n, int64_t low, int64_t high) {
    int64_t i;
    if (v.k == J_NONE) return missing;
    if (v.k == J_UNDEF)
        fjj_fail(r, "slice indices must be integers or None or have an __index__ method");
    if (!fjj_as_int(v, &i))
        fjj_fail(r, "slice indices must be integers or None or have an __index__ method");
    if (i < 0) i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

jv fjj_slice(jr *r, jv obj, jv start, jv stop, jv step) {
    int64_t by = 1, n;
    if (obj.k == J_UNDEF) fjj_fail_undef(r, obj);
    if (obj.k != J_STR && obj.k != J_LIST && obj.k != J_TUPLE && obj.k != J_RANGE)
        fjj_fail(r,
                 obj.k == J_DICT ? "unhashable type: 'slice'" : "'%s' object is not subscriptable",
                 fjj_type(obj));
    if (step.k != J_NONE && !fjj_as_int(step, &by))
        fjj_fail(r, "slice indices must be integers or None or have an __index__ method");
    if (!by) fjj_fail(r, "slice step cannot be zero");
    if (by > INT32_MAX) by = INT32_MAX;
    if (by < -INT32_MAX) by = -INT32_MAX;
    n = fjj_len(r, obj);
    int64_t a = bound(r, start, by > 0 ? 0 : n - 1, n, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    int64_t z = bound(r, stop, by > 0 ? n : -1, n, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    int64_t count =
        by > 0 ? (z > a ? (z - a + by - 1) / by : 0) : (a > z ? (a - z - by - 1) / -by : 0);
    fjj_step(r, 1);
    if (obj.k == J_STR) {
        if (by == 1 || !count) {
            size_t from = count ? fjj_char_at(obj.s, a) : 0;
            size_t to = count ? fjj_char_at(obj.s, z) : 0;
            return fjj_sub(r, obj.s, from, to - from);
        }
        jb b = { .r = r };
        size_t *at = fjj_alloc(r, ((size_t)n + 1) * sizeof *at), len, k = 0;
        for (size_t i = 0; i < obj.s->n; i += len) {
            at[k++] = i;
            fjj_get_char(obj.s->p + i, obj.s->n - i, &len);
        }
        at[k] = obj.s->n;
        for (int64_t i = 0; i < count; i++)
            fjb_sub(&b, obj.s, at[a + i * by], at[a + i * by + 1] - at[a + i * by]);
        return fjb_take(&b);
    }
    if (obj.k == J_RANGE) {
        jrange *g = fjj_alloc(r, sizeof *g);
        int64_t first = obj.g->start + a * obj.g->step, s = obj.g->step * by;
        *g = (jrange){ first, first + count * s, s, count };
        return (jv){ .k = J_RANGE, .g = g };
    }
    jv v = fjj_list(r, (jkind)obj.k, (uint32_t)count);
    for (int64_t i = 0; i < count; i++) fjj_push(r, v.l, obj.l->v[a + i * by]);
    return v;
}

/* ---- methods -------------------------------------------------------------------------------------- */
static jv view(jr *r, jdict *m, uint8_t which) {
    (void)r;
    return (jv){ .k = J_VIEW, .x = which, .m = m };
}

static jv dict_method(jr *r, jv self, const char *name, const jargs *a) {
    jv p[2];
    if (!strcmp(name, "get")) {
        if (a->n_kw) fjj_fail(r, "dict.get() takes no keyword arguments");
        fjj_bind(r, "get", "key default", 1, a, p);
        if (!fjj_hashable(p[0])) fjj_fail(r, "unhashable type: '%s'", fjj_type(p[0]));
        const jv *x = fjj_get(r, self.m, p[0]);
        return x ? *x : p[1].k == J_MISSING ? fjj_none() : p[1];
    }
    if (!strcmp(name, "fromkeys")) {
        fjj_bind(r, "fromkeys", "iterable value", 1, a, p);
        jv d = fjj_dict(r, 0), x;
        for (jwalk w = fjj_walk(r, p[0]); fjj_next(r, &w, &x);)
            fjj_put(r, d.m, x, p[1].k == J_MISSING ? fjj_none() : p[1]);
        return d;
    }
    fjj_bind(r, name, "", 0, a, p);
    if (!strcmp(name, "keys")) return view(r, self.m, 0);
    if (!strcmp(name, "values")) return view(r, self.m, 1);
    if (!strcmp(name, "items")) return view(r, self.m, 2);
    return self; /* copy: values do not change */
}

static jv list_method(jr *r, jv self, const char *name, const jargs *a) {
    jv p[3], x;
    if (!strcmp(name, "copy")) return self;
    bool index = !strcmp(name, "index");
    fjj_bind(r, name, index ? "value start stop" : "value", 1, a, p);
    int64_t n = 0, i = 0, len = fjj_len(r, self);
    int64_t from = index && p[1].k != J_MISSING ? bound(r, p[1], 0, len, 0, len) : 0;
    int64_t to = index && p[2].k != J_MISSING ? bound(r, p[2], len, len, 0, len) : len;
    for (jwalk w = fjj_walk(r, self); fjj_next(r, &w, &x); i++) {
        if (!fjj_equal(r, x, p[0]) || i < from || i >= to) continue;
        if (index) return fjj_int(i);
        n++;
    }
    if (index) fjj_fail(r, "the value is not in the %s", fjj_type(self));
    return fjj_int(n);
}

static jv loop_method(jr *r, jloop *l, const char *name, const jargs *a) {
    if (!strcmp(name, "cycle")) {
        if (!a->n) fjj_fail(r, "no items for cycling given");
        return a->pos[l->index0 % a->n];
    }
    jv now = fjj_list(r, J_TUPLE, a->n);
    for (uint32_t i = 0; i < a->n; i++) fjj_push(r, now.l, a->pos[i]);
    if (l->changed.k != J_MISSING && fjj_equal(r, l->changed, now)) return fjj_bool(false);
    l->changed = now;
    return fjj_bool(true);
}

static jv cycler_method(jcycler *c, const char *name) {
    jv v = c->l.v[c->at];
    if (!strcmp(name, "reset")) {
        c->at = 0;
        return fjj_none();
    }
    c->at = (c->at + 1) % c->l.n;
    return v;
}

jv fjj_method(jr *r, jv self, const char *s, size_t n, const jargs *a) {
    if (self.k == J_STR) return fjj_str_call(r, self.s, s, n, a);
    const char *name = fjj_printf(r, "%.*s", (int)FJ_MIN(n, (size_t)60), s);
    switch (self.k) {
    case J_FUNC:
    case J_DICT: return dict_method(r, self, name, a);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE: return list_method(r, self, name, a);
    case J_LOOP: return loop_method(r, self.lo, name, a);
    case J_CYCLER: return cycler_method(self.cy, name);
    case J_INT: {
        if (!strcmp(name, "is_integer")) return fjj_bool(true);
        uint64_t u = self.i < 0 ? 0 - (uint64_t)self.i : (uint64_t)self.i;
        return fjj_int(u ? 64 - __builtin_clzll(u) : 0);
    }
    case J_FLOAT: return fjj_bool(isfinite(self.d) && self.d == floor(self.d));
    default: {
        jv p[1], x;
        fjj_bind(r, name, "other", 1, a, p);
        for (jwalk w = fjj_walk(r, self); fjj_next(r, &w, &x);)
            if (fjj_in(r, x, p[0])) return fjj_bool(false);
        return fjj_bool(true);
    }
    }
}
