/* jinja_json.c - JSON in (what the caller gives a template) and out (tojson, as json.dumps writes). */
#include "text/jinja_in.h"

#include <math.h>
#include <stdio.h>

bool fj_jinja_plain_role(const char *s, size_t n) {
    static const char *const roles[] = { "system",       "user",        "assistant", "tool",
                                         "function",     "developer",   "ipython",   "model",
                                         "human",        "environment", "documents", "context",
                                         "tool_response" };
    for (size_t i = 0; i < FJ_LEN(roles); i++)
        if (strlen(roles[i]) == n && !memcmp(roles[i], s, n)) return true;
    return false;
}

static jv text(jr *r, const char *s, size_t n, const uint8_t *from) {
    if (n > INT32_MAX) fjj_fail(r, "a text of over %d bytes", INT32_MAX);
    char *p = fjj_alloc(r, n + 1); /* the caller's JSON may go before the text that is made of it */
    memcpy(p, s, n);
    p[n] = 0;
    return fjj_strn(r, p, n, from);
}

jv fjj_from_json(jr *r, const json_t *j, bool trusted, bool roles) {
    const uint8_t *from = trusted ? NULL : J_INPUT;
    if (++r->depth > r->max_depth) fjj_fail(r, "the input lies too deep in itself");
    jv v = fjj_none();
    switch (j ? json_typeof(j) : JSON_NULL) {
    case JSON_OBJECT: {
        const char *key;
        json_t *x;
        v = fjj_dict(r, (uint32_t)json_object_size(j));
        if (v.m->cap > 8) v.m->cap = 0, v.m->v = NULL; /* grows with its index */
        json_object_foreach((json_t *)(uintptr_t)j, key, x) {
            jv val = roles && json_is_string(x) && !strcmp(key, "role") &&
                             fj_jinja_plain_role(json_string_value(x), json_string_length(x))
                         ? text(r, json_string_value(x), json_string_length(x), NULL)
                         : fjj_from_json(r, x, trusted, false);
            fjj_put(r, v.m, text(r, key, strlen(key), from), val);
        }
        break;
    }
    case JSON_ARRAY: {
        v = fjj_list(r, J_LIST, (uint32_t)json_array_size(j));
        for (size_t i = 0; i < json_array_size(j); i++)
            fjj_push(r, v.l, fjj_from_json(r, json_array_get(j, i), trusted, roles));
        break;
    }
    case JSON_STRING: v = text(r, json_string_value(j), json_string_length(j), from); break;
    case JSON_INTEGER: v = fjj_int(json_integer_value(j)); break;
    case JSON_REAL: v = fjj_float(json_real_value(j)); break;
    case JSON_TRUE: v = fjj_bool(true); break;
    case JSON_FALSE: v = fjj_bool(false); break;
    default: break;
    }
    r->depth--;
    return v;
}

/* ---- out ------------------------------------------------------------------------------------------ */
typedef struct out {
    jb b;
    bool ascii, sort, lines;
    const jstr *item, *key, *indent;
} out;

static void string(out *o, const jstr *s) {
    fjb_c(&o->b, '"');
    size_t plain = 0;
    for (size_t i = 0, len; i < s->n; i += len) {
        unsigned char u = (unsigned char)s->p[i];
        len = 1;
        if (u >= 32 && u != '"' && u != '\\' && (u < 128 || !o->ascii)) continue;
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        char esc[16];
        fjb_sub(&o->b, s, plain, i - plain);
        plain = i + len;
        switch (c) {
        case '"': snprintf(esc, sizeof esc, "\\\""); break;
        case '\\': snprintf(esc, sizeof esc, "\\\\"); break;
        case '\n': snprintf(esc, sizeof esc, "\\n"); break;
        case '\r': snprintf(esc, sizeof esc, "\\r"); break;
        case '\t': snprintf(esc, sizeof esc, "\\t"); break;
        case '\b': snprintf(esc, sizeof esc, "\\b"); break;
        case '\f': snprintf(esc, sizeof esc, "\\f"); break;
        default:
            if (c < 0x10000) snprintf(esc, sizeof esc, "\\u%04x", c);
            else
                snprintf(esc, sizeof esc, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                         0xdc00 + ((c - 0x10000) & 0x3ff));
        }
        fjb_like(&o->b, esc, strlen(esc), s, i, len);
    }
    fjb_sub(&o->b, s, plain, s->n - plain);
    fjb_c(&o->b, '"');
}

static void line(out *o, int level) {
    if (!o->lines) return;
    fjb_c(&o->b, '\n');
    for (int i = 0; i < level; i++) fjb_sub(&o->b, o->indent, 0, o->indent->n);
}

static void number(out *o, jv v) {
    char s[40];
    if (v.k == J_INT) snprintf(s, sizeof s, "%lld", (long long)v.i);
    else if (isnan(v.d)) snprintf(s, sizeof s, "NaN");
    else if (isinf(v.d)) snprintf(s, sizeof s, v.d < 0 ? "-Infinity" : "Infinity");
    else fjj_float_repr(v.d, s);
    fjb_z(&o->b, s);
}

static void value(out *o, jv v, int level);

static void dict(out *o, const jdict *m, int level) {
    jr *r = o->b.r;
    jlist order = { 0 };
    for (uint32_t i = 0; i < m->n; i++) fjj_push(r, &order, m->v[i].key);
    const jlist *keys = &order;
    if (o->sort) keys = fjj_sorted(r, &order, order.v, false);
    if (!m->n) {
        fjb_z(&o->b, "{}");
        return;
    }
    fjb_c(&o->b, '{');
    for (uint32_t i = 0; i < keys->n; i++) {
        jv k = keys->v[i];
        if (i) fjb_sub(&o->b, o->item, 0, o->item->n);
        line(o, level + 1);
        if (k.k == J_STR) {
            string(o, k.s);
        } else if (fjj_is_num(k) || k.k == J_NONE) {
            fjb_c(&o->b, '"');
            value(o, k, level);
            fjb_c(&o->b, '"');
        } else {
            fjj_fail(r, "keys must be str, int, float, bool or None, not %s", fjj_type(k));
        }
        fjb_sub(&o->b, o->key, 0, o->key->n);
        value(o, *fjj_get(r, m, k), level + 1);
    }
    line(o, level);
    fjb_c(&o->b, '}');
}

static void value(out *o, jv v, int level) {
    jr *r = o->b.r;
    if (++r->depth > r->max_depth) fjj_fail(r, "tojson: values lie too deep in each other");
    fjj_step(r, 1);
    switch (v.k) {
    case J_NONE: fjb_z(&o->b, "null"); break;
    case J_BOOL: fjb_z(&o->b, v.b ? "true" : "false"); break;
    case J_INT:
    case J_FLOAT: number(o, v); break;
    case J_STR: string(o, v.s); break;
    case J_LIST:
    case J_TUPLE:
        if (!v.l->n) {
            fjb_z(&o->b, "[]");
            break;
        }
        fjb_c(&o->b, '[');
        for (uint32_t i = 0; i < v.l->n; i++) {
            if (i) fjb_sub(&o->b, o->item, 0, o->item->n);
            line(o, level + 1);
            value(o, v.l->v[i], level + 1);
        }
        line(o, level);
        fjb_c(&o->b, ']');
        break;
    case J_DICT: dict(o, v.m, level); break;
    default: fjj_fail(r, "Object of type %s is not JSON serializable", fjj_type(v));
    }
    r->depth--;
}

jv fjj_tojson(jr *r, jv v, bool ascii, jv indent, jv seps, bool sort) {
    out o = { .b = { .r = r }, .ascii = ascii, .sort = sort };
    int64_t n;
    if (indent.k == J_STR) {
        o.lines = true;
        o.indent = indent.s;
    } else if (fjj_as_int(indent, &n)) {
        o.lines = true;
        if (n > 1000) fjj_fail(r, "tojson: an indent of %lld is more than 1000", (long long)n);
        n = FJ_MAX(n, (int64_t)0);
        char *s = fjj_alloc(r, (size_t)n + 1);
        memset(s, ' ', (size_t)n);
        o.indent = fjj_strn(r, s, (size_t)n, NULL).s;
    } else if (indent.k != J_NONE && indent.k != J_MISSING) {
        fjj_fail(r, "tojson: indent wants a number or a string, not %s", fjj_type(indent));
    }
    o.item = fjj_strz(r, o.lines ? "," : ", ").s;
    o.key = fjj_strz(r, ": ").s;
    if (seps.k == J_LIST || seps.k == J_TUPLE) {
        if (seps.l->n != 2) fjj_fail(r, "tojson: separators wants two strings");
        o.item = fjj_need_str(r, seps.l->v[0], "tojson: separators");
        o.key = fjj_need_str(r, seps.l->v[1], "tojson: separators");
    } else if (seps.k != J_NONE && seps.k != J_MISSING) {
        fjj_fail(r, "tojson: separators wants two strings, not %s", fjj_type(seps));
    }
    value(&o, v, 0);
    return fjb_take(&o.b);
}
