/* jinja_str.c - the methods of str. */
#include "text/jinja_in.h"

const char *fjj_find(const jstr *s, size_t from, const jstr *what) {
    if (from > s->n || what->n > s->n - from) return NULL;
    if (!what->n) return s->p + from;
    const char *p = s->p + from, *last = s->p + s->n - what->n;
    while (p <= last && (p = memchr(p, what->p[0], (size_t)(last - p) + 1))) {
        if (!memcmp(p, what->p, what->n)) return p;
        p++;
    }
    return NULL;
}

static const char *rfind(const jstr *s, size_t end, const jstr *what) {
    if (what->n > end) return NULL;
    for (size_t i = end - what->n + 1; i-- > 0;)
        if (!memcmp(s->p + i, what->p, what->n)) return s->p + i;
    return NULL;
}

/* Byte in front of which character `at` begins, that is: the character before byte at. */
static size_t before(const jstr *s, size_t at) {
    at--;
    while (at > 0 && ((unsigned char)s->p[at] & 0xc0) == 0x80) at--;
    return at;
}

static bool strips(const jstr *set, uint32_t c) {
    if (!set) return fjj_space(c);
    for (size_t i = 0, len; i < set->n; i += len)
        if (fjj_get_char(set->p + i, set->n - i, &len) == c) return true;
    return false;
}

jv fjj_strip(jr *r, const jstr *s, jv chars, int sides) {
    const jstr *set = chars.k == J_STR ? chars.s : NULL;
    if (chars.k != J_STR && chars.k != J_NONE && chars.k != J_MISSING)
        fjj_fail(r, "strip arg must be None or str, not %s", fjj_type(chars));
    size_t a = 0, z = s->n, len;
    while ((sides & 1) && a < z && strips(set, fjj_get_char(s->p + a, z - a, &len))) a += len;
    while ((sides & 2) && z > a) {
        size_t p = before(s, z);
        if (!strips(set, fjj_get_char(s->p + p, z - p, &len))) break;
        z = p;
    }
    return fjj_sub(r, s, a, z - a);
}

jv fjj_replace(jr *r, const jstr *s, const jstr *old, const jstr *new_, int64_t count) {
    jb b = { .r = r };
    size_t at = 0, len;
    if (!count) return fjj_of(s);
    if (!old->n) { /* between all characters */
        while (count) {
            fjb_sub(&b, new_, 0, new_->n);
            count--;
            fjj_step(r, 1);
            if (at >= s->n) break;
            fjj_get_char(s->p + at, s->n - at, &len);
            fjb_sub(&b, s, at, len);
            at += len;
        }
    } else {
        for (const char *p; count && (p = fjj_find(s, at, old)); count--) {
            size_t i = (size_t)(p - s->p);
            fjb_sub(&b, s, at, i - at);
            fjb_sub(&b, new_, 0, new_->n);
            at = i + old->n;
            fjj_step(r, 1);
        }
        if (!at) return fjj_of(s);
    }
    fjb_sub(&b, s, at, s->n - at);
    return fjb_take(&b);
}

jlist *fjj_splitlines(jr *r, const jstr *s, bool keep) {
    jlist *l = fjj_zalloc(r, sizeof *l);
    size_t from = 0, len;
    for (size_t i = 0; i < s->n;) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        if (!fjj_line_end(c)) {
            i += len;
            continue;
        }
        size_t end = i;
        i += len;
        if (c == '\r' && i < s->n && s->p[i] == '\n') i++;
        fjj_push(r, l, fjj_sub(r, s, from, (keep ? i : end) - from));
        from = i;
    }
    if (from < s->n) fjj_push(r, l, fjj_sub(r, s, from, s->n - from));
    return l;
}

jv fjj_escape(jr *r, jv v) {
    if (v.k == J_STR && v.s->markup) return v;
    const jstr *s = fjj_str(r, v);
    jb b = { .r = r };
    for (size_t i = 0; i < s->n; i++) {
        const char *x = NULL;
        switch (s->p[i]) {
        case '&': x = "&amp;"; break;
        case '<': x = "&lt;"; break;
        case '>': x = "&gt;"; break;
        case '\'': x = "&#39;"; break;
        case '"': x = "&#34;"; break;
        default: break;
        }
        if (x) fjb_like(&b, x, strlen(x), s, i, 1);
        else fjb_sub(&b, s, i, 1);
    }
    jv out = fjb_take(&b);
    ((jstr *)out.s)->markup = 1;
    return out;
}

/* ---- splitting ------------------------------------------------------------------------------------ */
static jv split_spaces(jr *r, const jstr *s, int64_t most) {
    jv v = fjj_list(r, J_LIST, 0);
    size_t i = 0, len;
    for (;;) {
        while (i < s->n && fjj_space(fjj_get_char(s->p + i, s->n - i, &len))) i += len;
        if (i >= s->n) return v;
        if (most >= 0 && v.l->n >= most) {
            fjj_push(r, v.l, fjj_sub(r, s, i, s->n - i));
            return v;
        }
        size_t from = i;
        while (i < s->n && !fjj_space(fjj_get_char(s->p + i, s->n - i, &len))) i += len;
        fjj_push(r, v.l, fjj_sub(r, s, from, i - from));
    }
}

static jv reversed(jr *r, jv v) {
    jv w = fjj_list(r, J_LIST, v.l->n);
    for (uint32_t i = v.l->n; i-- > 0;) fjj_push(r, w.l, v.l->v[i]);
    return w;
}

static jv rsplit_spaces(jr *r, const jstr *s, int64_t most) {
    jv v = fjj_list(r, J_LIST, 0);
    size_t end = s->n, len;
    for (;;) {
        while (end && fjj_space(fjj_get_char(s->p + before(s, end), end - before(s, end), &len)))
            end = before(s, end);
        if (!end) break;
        if (most >= 0 && v.l->n >= most) {
            fjj_push(r, v.l, fjj_sub(r, s, 0, end));
            break;
        }
        size_t from = end;
        while (from &&
               !fjj_space(fjj_get_char(s->p + before(s, from), from - before(s, from), &len)))
            from = before(s, from);
        fjj_push(r, v.l, fjj_sub(r, s, from, end - from));
        end = from;
    }
    return reversed(r, v);
}

static jv split(jr *r, const jstr *s, const jargs *a, bool right) {
    jv p[2];
    fjj_bind(r, "split", "sep maxsplit", 0, a, p);
    int64_t most = p[1].k == J_MISSING ? -1 : fjj_need_int(r, p[1], "maxsplit");
    if (most < 0) most = -1;
    if (p[0].k == J_NONE || p[0].k == J_MISSING)
        return right ? rsplit_spaces(r, s, most) : split_spaces(r, s, most);
    const jstr *sep = fjj_need_str(r, p[0], "split: the separator");
    if (!sep->n) fjj_fail(r, "empty separator");
    jv v = fjj_list(r, J_LIST, 0);
    const char *q;
    if (!right) {
        size_t at = 0;
        for (; most && (q = fjj_find(s, at, sep)); most--) {
            fjj_push(r, v.l, fjj_sub(r, s, at, (size_t)(q - s->p) - at));
            at = (size_t)(q - s->p) + sep->n;
        }
        fjj_push(r, v.l, fjj_sub(r, s, at, s->n - at));
        return v;
    }
    size_t end = s->n;
    for (; most && (q = rfind(s, end, sep)); most--) {
        size_t i = (size_t)(q - s->p) + sep->n;
        fjj_push(r, v.l, fjj_sub(r, s, i, end - i));
        end = (size_t)(q - s->p);
    }
    fjj_push(r, v.l, fjj_sub(r, s, 0, end));
    return reversed(r, v);
}

static jv partition(jr *r, const jstr *s, const jargs *a, bool right) {
    jv p[1];
    fjj_bind(r, "partition", "sep", 1, a, p);
    const jstr *sep = fjj_need_str(r, p[0], "partition: the separator");
    if (!sep->n) fjj_fail(r, "empty separator");
    const char *q = right ? rfind(s, s->n, sep) : fjj_find(s, 0, sep);
    jv v = fjj_list(r, J_TUPLE, 3), empty = fjj_strz(r, "");
    size_t i = q ? (size_t)(q - s->p) : 0;
    if (!q) {
        fjj_push(r, v.l, right ? empty : fjj_of(s));
        fjj_push(r, v.l, empty);
        fjj_push(r, v.l, right ? fjj_of(s) : empty);
    } else {
        fjj_push(r, v.l, fjj_sub(r, s, 0, i));
        fjj_push(r, v.l, fjj_of(sep));
        fjj_push(r, v.l, fjj_sub(r, s, i + sep->n, s->n - i - sep->n));
    }
    return v;
}

/* ---- looking -------------------------------------------------------------------------------------- */
/* start and end as find() and its kin take them: characters, in bytes. */
static bool window(jr *r, const jstr *s, const jv *p, size_t *from, size_t *to, int64_t *first) {
    int64_t n = (int64_t)fjj_chars(s), a = 0, z = n;
    if (p[0].k != J_MISSING && p[0].k != J_NONE) a = fjj_need_int(r, p[0], "start");
    if (p[1].k != J_MISSING && p[1].k != J_NONE) z = fjj_need_int(r, p[1], "end");
    if (a < 0) a = FJ_MAX(a + n, (int64_t)0);
    if (z < 0) z = FJ_MAX(z + n, (int64_t)0);
    z = FJ_MIN(z, n);
    if (a > n || a > z) return false;
    *from = fjj_char_at(s, a);
    *to = fjj_char_at(s, z);
    *first = a;
    return true;
}

static jv find(jr *r, const jstr *s, const char *name, const jargs *a) {
    jv p[3];
    size_t from, to;
    int64_t first;
    fjj_bind(r, name, "sub start end", 1, a, p);
    const jstr *what = fjj_need_str(r, p[0], name);
    bool right = name[0] == 'r', must = strstr(name, "index") != NULL;
    const char *q = NULL;
    if (window(r, s, p + 1, &from, &to, &first)) {
        jstr part = *fjj_sub(r, s, from, to - from).s;
        q = right ? rfind(&part, part.n, what) : fjj_find(&part, 0, what);
    }
    if (!q && must) fjj_fail(r, "substring not found");
    if (!q) return fjj_int(-1);
    jv head = fjj_sub(r, s, 0, (size_t)(q - s->p));
    return fjj_int((int64_t)fjj_chars(head.s));
}

static jv count(jr *r, const jstr *s, const jargs *a) {
    jv p[3];
    size_t from, to;
    int64_t first, n = 0;
    fjj_bind(r, "count", "sub start end", 1, a, p);
    const jstr *what = fjj_need_str(r, p[0], "count");
    if (!window(r, s, p + 1, &from, &to, &first)) return fjj_int(0);
    jstr part = *fjj_sub(r, s, from, to - from).s;
    if (!what->n) return fjj_int((int64_t)fjj_chars(&part) + 1);
    size_t at = 0;
    for (const char *q; (q = fjj_find(&part, at, what)); n++) at = (size_t)(q - part.p) + what->n;
    return fjj_int(n);
}

static bool has_end(const jstr *s, const jstr *x, bool tail) {
    return x->n <= s->n && !memcmp(tail ? s->p + s->n - x->n : s->p, x->p, x->n);
}

static jv ends(jr *r, const jstr *s, const char *name, const jargs *a) {
    jv p[3];
    size_t from, to;
    int64_t first;
    bool tail = name[0] == 'e';
    fjj_bind(r, name, "prefix start end", 1, a, p);
    if (p[0].k != J_STR && p[0].k != J_TUPLE)
        fjj_fail(r, "%s first arg must be str or a tuple of str, not %s", name, fjj_type(p[0]));
    if (!window(r, s, p + 1, &from, &to, &first)) return fjj_bool(false);
    jstr part = *fjj_sub(r, s, from, to - from).s;
    if (p[0].k == J_STR) return fjj_bool(has_end(&part, p[0].s, tail));
    for (uint32_t i = 0; i < p[0].l->n; i++)
        if (has_end(&part, fjj_need_str(r, p[0].l->v[i], name), tail)) return fjj_bool(true);
    return fjj_bool(false);
}

/* ---- filling -------------------------------------------------------------------------------------- */
static void fill(jb *b, const jstr *with, int64_t n) {
    if (n > 0 && (uint64_t)n * with->n > b->r->max_output)
        fjj_fail(b->r, "the text grows too long: over %zu bytes", b->r->max_output);
    for (int64_t i = 0; i < n; i++) fjb_sub(b, with, 0, with->n);
}

static jv justify(jr *r, const jstr *s, const char *name, const jargs *a) {
    jv p[2];
    fjj_bind(r, name, "width fillchar", 1, a, p);
    int64_t n = (int64_t)fjj_chars(s), width = fjj_need_int(r, p[0], name), left = 0;
    const jstr *c = p[1].k == J_MISSING ? fjj_strz(r, " ").s : fjj_need_str(r, p[1], name);
    if (fjj_chars(c) != 1) fjj_fail(r, "The fill character must be exactly one character long");
    if (width <= n) return fjj_of(s);
    int64_t pad = width - n;
    if (name[0] == 'r') left = pad;
    if (name[0] == 'c') left = pad / 2 + (pad & width & 1);
    jb b = { .r = r };
    fill(&b, c, left);
    fjb_sub(&b, s, 0, s->n);
    fill(&b, c, pad - left);
    return fjb_take(&b);
}

static jv zfill(jr *r, const jstr *s, const jargs *a) {
    jv p[1];
    fjj_bind(r, "zfill", "width", 1, a, p);
    int64_t pad = fjj_need_int(r, p[0], "zfill") - (int64_t)fjj_chars(s);
    if (pad <= 0) return fjj_of(s);
    jb b = { .r = r };
    bool sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    if (sign) fjb_sub(&b, s, 0, 1);
    fill(&b, fjj_strz(r, "0").s, pad);
    fjb_sub(&b, s, sign, s->n - sign);
    return fjb_take(&b);
}

static jv expandtabs(jr *r, const jstr *s, const jargs *a) {
    jv p[1];
    fjj_bind(r, "expandtabs", "tabsize", 0, a, p);
    int64_t size = p[0].k == J_MISSING ? 8 : fjj_need_int(r, p[0], "expandtabs"), col = 0;
    if (size > 1000) fjj_fail(r, "expandtabs: more than 1000 columns");
    jb b = { .r = r };
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        if (c == '\t') {
            int64_t n = size > 0 ? size - col % size : 0;
            for (int64_t k = 0; k < n; k++) fjb_like(&b, " ", 1, s, i, 1);
            col += n;
        } else {
            fjb_sub(&b, s, i, len);
            col = c == '\n' || c == '\r' ? 0 : col + 1;
        }
    }
    return fjb_take(&b);
}

static jv join(jr *r, const jstr *s, const jargs *a) {
    jv p[1], x;
    fjj_bind(r, "join", "iterable", 1, a, p);
    if (p[0].k != J_UNDEF && !fjj_iterable(p[0])) fjj_fail(r, "can only join an iterable");
    jb b = { .r = r };
    int64_t i = 0;
    for (jwalk w = fjj_walk(r, p[0]); fjj_next(r, &w, &x); i++) {
        if (x.k != J_STR)
            fjj_fail(r, "sequence item %lld: expected str instance, %s found", (long long)i,
                     fjj_type(x));
        if (i) fjb_sub(&b, s, 0, s->n);
        fjb_sub(&b, x.s, 0, x.s->n);
    }
    return fjb_take(&b);
}

static jv remove_end(jr *r, const jstr *s, const jargs *a, bool tail) {
    jv p[1];
    fjj_bind(r, "remove", "affix", 1, a, p);
    const jstr *x = fjj_need_str(r, p[0], tail ? "removesuffix" : "removeprefix");
    if (!has_end(s, x, tail)) return fjj_of(s);
    return fjj_sub(r, s, tail ? 0 : x->n, s->n - x->n);
}

/* ---- the table ------------------------------------------------------------------------------------ */
enum {
    S_CASE,
    S_IS,
    S_STRIP,
    S_SPLIT,
    S_PARTITION,
    S_FIND,
    S_COUNT,
    S_ENDS,
    S_JUSTIFY,
    S_ZFILL,
    S_TABS,
    S_JOIN,
    S_REPLACE,
    S_LINES,
    S_REMOVE,
    S_FORMAT,
    S_FORMAT_MAP,
    S_NOT
};
static const struct method {
    const char *name;
    uint8_t kind, how;
} methods[] = {
    { "upper", S_CASE, CASE_UPPER },
    { "lower", S_CASE, CASE_LOWER },
    { "title", S_CASE, CASE_TITLE },
    { "swapcase", S_CASE, CASE_SWAP },
    { "capitalize", S_CASE, CASE_CAPITAL },
    { "strip", S_STRIP, 3 },
    { "lstrip", S_STRIP, 1 },
    { "rstrip", S_STRIP, 2 },
    { "split", S_SPLIT, 0 },
    { "rsplit", S_SPLIT, 1 },
    { "partition", S_PARTITION, 0 },
    { "rpartition", S_PARTITION, 1 },
    { "find", S_FIND, 0 },
    { "rfind", S_FIND, 0 },
    { "index", S_FIND, 0 },
    { "rindex", S_FIND, 0 },
    { "count", S_COUNT, 0 },
    { "startswith", S_ENDS, 0 },
    { "endswith", S_ENDS, 0 },
    { "ljust", S_JUSTIFY, 0 },
    { "rjust", S_JUSTIFY, 0 },
    { "center", S_JUSTIFY, 0 },
    { "zfill", S_ZFILL, 0 },
    { "expandtabs", S_TABS, 0 },
    { "join", S_JOIN, 0 },
    { "replace", S_REPLACE, 0 },
    { "splitlines", S_LINES, 0 },
    { "removeprefix", S_REMOVE, 0 },
    { "removesuffix", S_REMOVE, 1 },
    { "format", S_FORMAT, 0 },
    { "format_map", S_FORMAT_MAP, 0 },
    { "isalpha", S_IS, 0 },
    { "isdigit", S_IS, 0 },
    { "isalnum", S_IS, 0 },
    { "isdecimal", S_IS, 0 },
    { "isnumeric", S_IS, 0 },
    { "isspace", S_IS, 0 },
    { "isupper", S_IS, 0 },
    { "islower", S_IS, 0 },
    { "istitle", S_IS, 0 },
    { "isascii", S_IS, 0 },
    { "isprintable", S_IS, 0 },
    { "isidentifier", S_IS, 0 },
    { "casefold", S_NOT, 0 },
    { "encode", S_NOT, 0 },
    { "maketrans", S_NOT, 0 },
    { "translate", S_NOT, 0 },
};

static const struct method *method(const char *name, size_t n) {
    for (size_t i = 0; i < FJ_LEN(methods); i++)
        if (methods[i].name[0] == name[0] && strlen(methods[i].name) == n &&
            !memcmp(methods[i].name, name, n))
            return &methods[i];
    return NULL;
}

bool fjj_str_has(const char *name, size_t n) { return n && method(name, n) != NULL; }

jv fjj_str_call(jr *r, const jstr *s, const char *name, size_t n, const jargs *a) {
    const struct method *m = method(name, n);
    jv p[3];
    switch (m->kind) {
    case S_CASE: fjj_bind(r, m->name, "", 0, a, p); return fjj_case(r, s, (enum jcase)m->how);
    case S_IS: fjj_bind(r, m->name, "", 0, a, p); return fjj_bool(fjj_is(s, m->name + 2));
    case S_STRIP: fjj_bind(r, m->name, "chars", 0, a, p); return fjj_strip(r, s, p[0], m->how);
    case S_SPLIT: return split(r, s, a, m->how);
    case S_PARTITION: return partition(r, s, a, m->how);
    case S_FIND: return find(r, s, m->name, a);
    case S_COUNT: return count(r, s, a);
    case S_ENDS: return ends(r, s, m->name, a);
    case S_JUSTIFY: return justify(r, s, m->name, a);
    case S_ZFILL: return zfill(r, s, a);
    case S_TABS: return expandtabs(r, s, a);
    case S_JOIN: return join(r, s, a);
    case S_REPLACE: {
        fjj_bind(r, "replace", "old new count", 2, a, p);
        const jstr *old = fjj_need_str(r, p[0], "replace() argument 1"),
                   *new_ = fjj_need_str(r, p[1], "replace() argument 2");
        return fjj_replace(r, s, old, new_,
                           p[2].k == J_MISSING ? -1 : fjj_need_int(r, p[2], "replace"));
    }
    case S_LINES: {
        fjj_bind(r, "splitlines", "keepends", 0, a, p);
        jv v = { .k = J_LIST, .l = fjj_splitlines(r, s, fjj_truth(r, p[0])) };
        return v;
    }
    case S_REMOVE: return remove_end(r, s, a, m->how);
    case S_FORMAT: return fjj_format(r, s, a);
    case S_FORMAT_MAP: {
        fjj_bind(r, "format_map", "mapping", 1, a, p);
        if (p[0].k != J_DICT) fjj_fail(r, "format_map() wants a mapping, not %s", fjj_type(p[0]));
        jargs kw = { .kw = fjj_alloc(r, (p[0].m->n + 1) * sizeof *kw.kw),
                     .kwv = fjj_alloc(r, (p[0].m->n + 1) * sizeof *kw.kwv) };
        for (uint32_t i = 0; i < p[0].m->n; i++) {
            if (p[0].m->v[i].key.k != J_STR) continue;
            kw.kw[kw.n_kw] = p[0].m->v[i].key.s;
            kw.kwv[kw.n_kw++] = p[0].m->v[i].val;
        }
        return fjj_format(r, s, &kw);
    }
    default: fjj_fail(r, "str.%s is not known here", m->name);
    }
}
