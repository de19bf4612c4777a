/* jinja_globals.c - the functions that every template has. */
#include "text/jinja_in.h"

#include <math.h>
#include <time.h>

enum { RANGE_MAX = 100000 }; /* the sandbox's own limit */

enum { G_RANGE, G_DICT, G_NAMESPACE, G_CYCLER, G_JOINER, G_LIPSUM, G_RAISE, G_STRFTIME };
static const char *const globals[] = { "range",  "dict",   "namespace",       "cycler",
                                       "joiner", "lipsum", "raise_exception", "strftime_now" };

jv fjj_global_find(const char *name, size_t n) {
    for (size_t i = 0; i < FJ_LEN(globals); i++)
        if (strlen(globals[i]) == n && !memcmp(globals[i], name, n))
            return (jv){ .k = J_FUNC, .y = (uint16_t)i };
    return fjj_missing();
}

static jv range(jr *r, const jargs *a) {
    int64_t v[3] = { 0, 0, 1 };
    if (a->n_kw) fjj_fail(r, "range() takes no keyword arguments");
    if (a->n < 1 || a->n > 3) fjj_fail(r, "range expected 1 to 3 arguments, got %u", a->n);
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->pos[i].k == J_UNDEF || !fjj_as_int(a->pos[i], &v[a->n == 1 ? 1 : i]))
            fjj_fail(r, "'%s' object cannot be interpreted as an integer", fjj_type(a->pos[i]));
    }
    if (!v[2]) fjj_fail(r, "range() arg 3 must not be zero");
    uint64_t gap = v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t by = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2];
    uint64_t n = (v[2] > 0 ? v[1] > v[0] : v[0] > v[1]) ? (gap - 1) / by + 1 : 0;
    if (n > RANGE_MAX)
        fjj_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                 RANGE_MAX);
    jrange *g = fjj_alloc(r, sizeof *g);
    *g = (jrange){ v[0], v[1], v[2], (int64_t)n };
    return (jv){ .k = J_RANGE, .g = g };
}

/* dict(mapping or pairs, **more), which namespace() takes, too. */
static jv dict(jr *r, const jargs *a, const char *who) {
    if (a->n > 1) fjj_fail(r, "%s expected at most 1 argument, got %u", who, a->n);
    jv d = fjj_dict(r, 0), x;
    if (a->n) {
        jv from = a->pos[0];
        if (from.k == J_NS) from.k = J_DICT;
        if (from.k == J_UNDEF) fjj_fail_undef(r, from);
        if (from.k == J_DICT) from = (jv){ .k = J_VIEW, .x = 2, .m = from.m };
        for (jwalk w = fjj_walk(r, from); fjj_next(r, &w, &x);) {
            jlist *l = fjj_all(r, x);
            if (l->n != 2)
                fjj_fail(r, "dictionary update sequence element has length %u; 2 is required",
                         l->n);
            fjj_put(r, d.m, l->v[0], l->v[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_kw; i++) fjj_put(r, d.m, fjj_of(a->kw[i]), a->kwv[i]);
    return d;
}

static jv namespace_(jr *r, const jargs *a) {
    jv d = dict(r, a, "namespace");
    for (uint32_t i = 0; i < d.m->n; i++) {
        jv k = d.m->v[i].key;
        if (k.k == J_STR && k.s->n && k.s->p[0] == '_')
            fjj_fail(
                r,
                "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. Please rename the attribute.",
                (int)FJ_MIN(k.s->n, 60u), k.s->p);
    }
    d.k = J_NS;
    return d;
}

static jv cycler(jr *r, const jargs *a) {
    if (a->n_kw) fjj_fail(r, "cycler() takes no keyword arguments");
    if (!a->n) fjj_fail(r, "at least one item has to be provided");
    jcycler *c = fjj_zalloc(r, sizeof *c);
    for (uint32_t i = 0; i < a->n; i++) fjj_push(r, &c->l, a->pos[i]);
    return (jv){ .k = J_CYCLER, .cy = c };
}

static jv joiner(jr *r, const jargs *a) {
    jv p[1];
    fjj_bind(r, "joiner", "sep", 0, a, p);
    jcycler *c = fjj_zalloc(r, sizeof *c);
    c->sep = p[0].k == J_MISSING ? fjj_strz(r, ", ").s : fjj_str(r, p[0]);
    return (jv){ .k = J_JOINER, .cy = c };
}

static jv strftime_now(jr *r, const jargs *a) {
    jv p[1];
    fjj_bind(r, "strftime_now", "format", 1, a, p);
    const jstr *s = fjj_need_str(r, p[0], "strftime_now");
    time_t at = (time_t)floor(r->now);
    int micro = (int)((r->now - floor(r->now)) * 1e6);
    struct tm tm;
    if (!localtime_r(&at, &tm)) fjj_fail(r, "strftime_now: the clock cannot be read");
    jb b = { .r = r };
    for (size_t i = 0; i < s->n; i++) {
        char one[16] = "%", buf[256];
        if (s->p[i] != '%' || i + 1 >= s->n) {
            fjb_sub(&b, s, i, 1);
            continue;
        }
        size_t k = 1; /* flags and a width in front of the letter */
        while (k < 12 && i + k + 1 < s->n && s->p[i + k] && strchr("-_0^#123456789EO", s->p[i + k]))
            k++;
        memcpy(one + 1, s->p + i + 1, k);
        i += k;
        if (s->p[i] == 'f') fjb_z(&b, fjj_printf(r, "%06d", micro));
        else if (s->p[i] != 'z' && s->p[i] != 'Z') /* datetime.now() has no zone: empty */
            fjb_add(&b, buf, strftime(buf, sizeof buf, one, &tm), NULL);
    }
    return fjb_take(&b);
}

static _Noreturn void raise(jr *r, const jargs *a) {
    jv p[1];
    fjj_bind(r, "raise_exception", "message", 1, a, p);
    const jstr *s = fjj_str(r, p[0]);
    r->raised = true;
    fjj_fail(r, "%.*s", (int)FJ_MIN(s->n, 380u), s->p);
}

jv fjj_global_call(jr *r, uint16_t fn, jargs *a) {
    switch (fn) {
    case G_RANGE: return range(r, a);
    case G_DICT: return dict(r, a, "dict");
    case G_NAMESPACE: return namespace_(r, a);
    case G_CYCLER: return cycler(r, a);
    case G_JOINER: return joiner(r, a);
    case G_RAISE: raise(r, a);
    case G_STRFTIME: return strftime_now(r, a);
    default: fjj_fail(r, "lipsum() is not known here");
    }
}
