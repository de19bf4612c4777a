/* jinja_filters.c - the table of filters, their arguments, and the filters of one value. */
#include "text/jinja_in.h"
#include "text/jinja_seq.h"

#include <math.h>
#include <stdio.h>

/* ---- arguments ------------------------------------------------------------------------------------ */
void fjj_bind(jr *r, const char *who, const char *params, int least, const jargs *a, jv *out) {
    const char *p = params;
    uint32_t n = 0;
    bool kw_used[64] = { 0 };
    while (*p) {
        size_t len = strcspn(p, " ");
        out[n] = n < a->n ? a->pos[n] : fjj_missing();
        for (uint32_t k = 0; k < a->n_kw && k < 64; k++)
            if (a->kw[k]->n == len && !memcmp(a->kw[k]->p, p, len)) {
                if (n < a->n)
                    fjj_fail(r, "%s() got multiple values for argument '%.*s'", who, (int)len, p);
                out[n] = a->kwv[k];
                kw_used[k] = true;
            }
        if ((int)n < least && out[n].k == J_MISSING)
            fjj_fail(r, "%s() missing required argument: '%.*s'", who, (int)len, p);
        n++;
        p += len;
        p += *p == ' ';
    }
    if (a->n > n) fjj_fail(r, "%s() takes at most %u arguments (%u given)", who, n, a->n);
    for (uint32_t k = 0; k < a->n_kw; k++)
        if (k >= 64 || !kw_used[k])
            fjj_fail(r, "%s() got an unexpected keyword argument '%.*s'", who,
                     (int)FJ_MIN(a->kw[k]->n, 60u), a->kw[k]->p);
}

int64_t fjj_need_int(jr *r, jv v, const char *who) {
    int64_t i;
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (!fjj_as_int(v, &i)) fjj_fail(r, "%s: expected an integer, not %s", who, fjj_type(v));
    return i;
}

const jstr *fjj_need_str(jr *r, jv v, const char *who) {
    if (v.k != J_STR) fjj_fail(r, "%s: expected a string, not %s", who, fjj_type(v));
    return v.s;
}

jv fjj_ignore_case(jr *r, jv v) { return v.k == J_STR ? fjj_case(r, v.s, CASE_LOWER) : v; }

/* ---- text ----------------------------------------------------------------------------------------- */
static jv f_upper(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_case(r, fjj_str(r, v), CASE_UPPER);
}
static jv f_lower(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_case(r, fjj_str(r, v), CASE_LOWER);
}
static jv f_capitalize(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_case(r, fjj_str(r, v), CASE_CAPITAL);
}
static jv f_string(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_of(fjj_str(r, v));
}
static jv f_trim(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    return fjj_strip(r, fjj_str(r, v), a[0], 3);
}
static jv f_escape(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_escape(r, v);
}

static jv f_forceescape(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    jstr plain = *fjj_str(r, v);
    plain.markup = 0;
    return fjj_escape(r, fjj_sub(r, &plain, 0, plain.n));
}

static jv f_safe(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    const jstr *s = fjj_str(r, v);
    jv out = fjj_sub(r, s, 0, s->n);
    ((jstr *)out.s)->markup = 1;
    return out;
}

static bool separates(uint32_t c) {
    return fjj_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* Runs of separators and of others are words: the first letter upper, the rest lower, as one text (of a sigma
 * at its end it matters what stands before). */
static jv f_title(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    const jstr *s = fjj_str(r, v);
    jb b = { .r = r };
    for (size_t from = 0, to, len; from < s->n; from = to) {
        bool sep = separates(fjj_get_char(s->p + from, s->n - from, &len));
        size_t rest = from + len;
        for (to = rest; to < s->n; to += len)
            if (separates(fjj_get_char(s->p + to, s->n - to, &len)) != sep) break;
        jv first = fjj_case(r, fjj_sub(r, s, from, rest - from).s, CASE_UPPER);
        jv others = fjj_case(r, fjj_sub(r, s, rest, to - rest).s, CASE_LOWER);
        fjb_sub(&b, first.s, 0, first.s->n);
        fjb_sub(&b, others.s, 0, others.s->n);
    }
    return fjb_take(&b);
}

static jv f_replace(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    int64_t n = a[2].k == J_MISSING || a[2].k == J_NONE ? -1 : fjj_need_int(r, a[2], "replace");
    return fjj_replace(r, fjj_str(r, v), fjj_str(r, a[0]), fjj_str(r, a[1]), n);
}

static jv f_center(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    jv w = a[0].k == J_MISSING ? fjj_int(80) : a[0];
    jargs args = { .pos = &w, .n = 1 };
    return fjj_str_call(r, fjj_str(r, v), "center", 6, &args);
}

static jv f_indent(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    int64_t width = 4;
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    const jstr *s = fjj_need_str(r, v, "indent"), *in;
    if (a[0].k == J_STR) {
        in = a[0].s;
    } else {
        if (a[0].k != J_MISSING) width = fjj_need_int(r, a[0], "indent");
        if (width > 100000) fjj_fail(r, "indent: more than 100000 columns");
        width = FJ_MAX(width, (int64_t)0);
        char *p = fjj_alloc(r, (size_t)width + 1);
        memset(p, ' ', (size_t)width);
        in = fjj_strn(r, p, (size_t)width, NULL).s;
    }
    jb b = { .r = r }, whole = { .r = r };
    fjb_sub(&whole, s, 0, s->n);
    fjb_c(&whole, '\n');
    jlist *lines = fjj_splitlines(r, fjb_take(&whole).s, false);
    bool blank = fjj_truth(r, a[2]);
    if (fjj_truth(r, a[1])) fjb_sub(&b, in, 0, in->n);
    for (uint32_t i = 0; i < lines->n; i++) {
        const jstr *line = lines->v[i].s;
        if (i) fjb_c(&b, '\n');
        if (i && (line->n || blank)) fjb_sub(&b, in, 0, in->n);
        fjb_sub(&b, line, 0, line->n);
    }
    return fjb_take(&b);
}

static jv f_truncate(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    const jstr *end =
        a[2].k == J_MISSING ? fjj_strz(r, "...").s : fjj_need_str(r, a[2], "truncate");
    int64_t n = a[0].k == J_MISSING ? 255 : fjj_need_int(r, a[0], "truncate"), leeway = 5;
    int64_t ends = (int64_t)fjj_chars(end);
    if (a[3].k != J_MISSING && a[3].k != J_NONE) leeway = fjj_need_int(r, a[3], "truncate");
    if (n < ends) fjj_fail(r, "expected length >= %lld, got %lld", (long long)ends, (long long)n);
    if (leeway < 0) fjj_fail(r, "expected leeway >= 0, got %lld", (long long)leeway);
    if (fjj_len(r, v) <= n + leeway) return v; /* of whatever has a length */
    const jstr *s = fjj_need_str(r, v, "truncate");
    jb b = { .r = r };
    size_t cut = fjj_char_at(s, n - ends);
    if (!fjj_truth(r, a[1]))
        for (size_t i = cut; i-- > 0;)
            if (s->p[i] == ' ') {
                cut = i;
                break;
            }
    fjb_sub(&b, s, 0, cut);
    fjb_sub(&b, end, 0, end->n);
    return fjb_take(&b);
}

static jv f_wordcount(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    const jstr *s = fjj_str(r, v);
    int64_t n = 0;
    bool in = false;
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        jstr one = { .p = s->p + i, .n = (uint32_t)len };
        bool word = c == '_' || fjj_is(&one, "alnum");
        n += word && !in;
        in = word;
    }
    return fjj_int(n);
}

static jv f_striptags(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    const jstr *s = fjj_str(r, v);
    jb b = { .r = r };
    for (size_t i = 0; i < s->n;) {
        jstr comment = { .p = "-->", .n = 3 }, close = { .p = ">", .n = 1 };
        bool is_comment = s->n - i >= 4 && !memcmp(s->p + i, "<!--", 4);
        const char *end = s->p[i] == '<' ? fjj_find(s, i, is_comment ? &comment : &close) : NULL;
        if (end) {
            i = (size_t)(end - s->p) + (is_comment ? 3 : 1);
            continue;
        }
        fjb_sub(&b, s, i, 1);
        i++;
    }
    jargs none = { 0 };
    jv words = fjj_str_call(r, fjb_take(&b).s, "split", 5, &none);
    jb out = { .r = r };
    for (uint32_t i = 0; i < words.l->n; i++) {
        if (i) fjb_c(&out, ' ');
        fjb_sub(&out, words.l->v[i].s, 0, words.l->v[i].s->n);
    }
    jv text = fjb_take(&out);
    static const char *const entity[][2] = { { "&lt;", "<" },    { "&gt;", ">" },
                                             { "&#39;", "'" },   { "&#34;", "\"" },
                                             { "&quot;", "\"" }, { "&amp;", "&" } };
    for (size_t i = 0; i < FJ_LEN(entity); i++)
        text = fjj_replace(r, text.s, fjj_strz(r, entity[i][0]).s, fjj_strz(r, entity[i][1]).s, -1);
    return text;
}

static void quote(jb *b, const jstr *s, bool query) {
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->p[i];
        char esc[4];
        bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain) {
            fjb_sub(b, s, i, 1);
            continue;
        }
        if (c == ' ' && query) snprintf(esc, sizeof esc, "+");
        else snprintf(esc, sizeof esc, "%%%02X", c);
        fjb_like(b, esc, strlen(esc), s, i, 1);
    }
}

static jv f_urlencode(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    jb b = { .r = r };
    jv one;
    if (v.k == J_STR || !fjj_iterable(v)) {
        quote(&b, fjj_str(r, v), false);
        return fjb_take(&b);
    }
    if (v.k == J_DICT) v = (jv){ .k = J_VIEW, .x = 2, .m = v.m };
    bool first = true;
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one); first = false) {
        if ((one.k != J_TUPLE && one.k != J_LIST) || one.l->n != 2)
            fjj_fail(r, "urlencode wants pairs");
        if (!first) fjb_c(&b, '&');
        quote(&b, fjj_str(r, one.l->v[0]), true);
        fjb_c(&b, '=');
        quote(&b, fjj_str(r, one.l->v[1]), true);
    }
    return fjb_take(&b);
}

static jv f_xmlattr(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    if (v.k != J_DICT) fjj_fail(r, "xmlattr wants a mapping, not %s", fjj_type(v));
    jb b = { .r = r };
    bool space = a[0].k == J_MISSING || fjj_truth(r, a[0]);
    for (uint32_t i = 0; i < v.m->n; i++) {
        jv key = v.m->v[i].key, val = v.m->v[i].val;
        if (val.k == J_NONE || val.k == J_UNDEF) continue;
        const jstr *k = fjj_need_str(r, key, "xmlattr");
        for (size_t c = 0; c < k->n; c++)
            if (strchr(" \t\n\r\f\v/>=", k->p[c]))
                fjj_fail(r, "Invalid character in attribute name: '%.*s'", (int)FJ_MIN(k->n, 60u),
                         k->p);
        if (b.n || space) fjb_c(&b, ' ');
        const jstr *e = fjj_escape(r, key).s;
        fjb_sub(&b, e, 0, e->n);
        fjb_z(&b, "=\"");
        e = fjj_escape(r, val).s;
        fjb_sub(&b, e, 0, e->n);
        fjb_c(&b, '"');
    }
    return fjb_take(&b);
}

static jv f_format(jr *r, jv v, jv *a, const jargs *x) {
    (void)a;
    if (x->n && x->n_kw)
        fjj_fail(r, "can't handle positional and keyword arguments at the same time");
    if (x->n_kw) {
        jv d = fjj_dict(r, 0);
        for (uint32_t i = 0; i < x->n_kw; i++) fjj_put(r, d.m, fjj_of(x->kw[i]), x->kwv[i]);
        return fjj_percent(r, fjj_str(r, v), d);
    }
    jv t = fjj_list(r, J_TUPLE, x->n);
    for (uint32_t i = 0; i < x->n; i++) fjj_push(r, t.l, x->pos[i]);
    return fjj_percent(r, fjj_str(r, v), t);
}

/* ---- numbers -------------------------------------------------------------------------------------- */
static jv f_abs(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (v.k == J_FLOAT) return fjj_float(fabs(v.d));
    int64_t i;
    if (!fjj_as_int(v, &i)) fjj_fail(r, "bad operand type for abs(): '%s'", fjj_type(v));
    return i < 0 ? fjj_negate(r, fjj_int(i), true) : fjj_int(i);
}

static jv f_int(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    jv missing = a[0].k == J_MISSING ? fjj_int(0) : a[0];
    int64_t base = a[1].k == J_MISSING ? 10 : fjj_need_int(r, a[1], "int"), i;
    bool big = false;
    double d;
    if (fjj_as_int(v, &i)) return fjj_int(i);
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (v.k == J_STR) {
        if (fjj_parse_int(v.s, (int)base, &i, &big)) return fjj_int(i);
        if (big) fjj_fail(r, "an integer leaves the 64 bits that are kept");
        if (!fjj_parse_float(v.s, &d)) return missing;
    } else if (v.k == J_FLOAT) {
        d = v.d;
        if (isinf(d)) fjj_fail(r, "cannot convert float infinity to integer");
    } else {
        return missing;
    }
    if (!isfinite(d)) return missing;
    if (fabs(d) >= 9.2e18) fjj_fail(r, "an integer leaves the 64 bits that are kept");
    return fjj_int((int64_t)d);
}

static jv f_float(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    double d;
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (fjj_is_num(v)) return fjj_float(fjj_double(v));
    if (v.k == J_STR && fjj_parse_float(v.s, &d)) return fjj_float(d);
    return a[0].k == J_MISSING ? fjj_float(0) : a[0];
}

static jv f_round(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    int64_t digits = a[0].k == J_MISSING ? 0 : fjj_need_int(r, a[0], "round");
    const jstr *how = a[1].k == J_MISSING ? NULL : fjj_need_str(r, a[1], "round");
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (how && !fjj_same(how, "common") && !fjj_same(how, "ceil") && !fjj_same(how, "floor"))
        fjj_fail(r, "method must be common, ceil or floor");
    if (!how || fjj_same(how, "common")) return fjj_round(r, v, digits);
    if (!fjj_is_num(v)) fjj_fail(r, "must be real number, not %s", fjj_type(v));
    double p = digits >= 0 ? pow(10, (double)digits) : 1 / pow(10, (double)-digits);
    double q = fjj_double(v) * p;
    return fjj_float((how->p[0] == 'c' ? ceil(q) : floor(q)) / p);
}

static jv f_filesizeformat(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    static const char names[] = "kMGTPEZY";
    bool binary = fjj_truth(r, a[0]);
    double n, base = binary ? 1024 : 1000;
    if (v.k == J_STR ? !fjj_parse_float(v.s, &n) : !fjj_is_num(v))
        fjj_fail(r, "filesizeformat wants a number");
    if (v.k != J_STR) n = fjj_double(v);
    if (n == 1) return fjj_strz(r, "1 Byte");
    if (n < base) return fjj_strz(r, fjj_printf(r, "%lld Bytes", (long long)n));
    double unit = base * base;
    int i = 0;
    for (; i < 7 && n >= unit; i++) unit *= base;
    char prefix = names[i] == 'k' && binary ? 'K' : names[i];
    return fjj_strz(r, fjj_printf(r, "%.1f %c%sB", base * n / unit, prefix, binary ? "i" : ""));
}

/* ---- any value ------------------------------------------------------------------------------------ */
static jv f_default(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    if (v.k == J_UNDEF || (a[1].k != J_MISSING && fjj_truth(r, a[1]) && !fjj_truth(r, v)))
        return a[0].k == J_MISSING ? fjj_strz(r, "") : a[0];
    return v;
}

static jv f_length(jr *r, jv v, jv *a, const jargs *x) {
    (void)a, (void)x;
    return fjj_int(fjj_len(r, v));
}

static jv f_attr(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    const jstr *name = fjj_need_str(r, a[0], "attr");
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    jv found = fjj_getattr(r, v, name);
    if (v.k == J_DICT && fjj_get(r, v.m, a[0]) && found.k != J_METHOD)
        return fjj_undef_attr(r, v, a[0]);
    return found;
}

static jv f_tojson(jr *r, jv v, jv *a, const jargs *x) {
    (void)x;
    return fjj_tojson(r, v, fjj_truth(r, a[0]), a[1], a[2], fjj_truth(r, a[3]));
}

static jv f_not_here(jr *r, jv v, jv *a, const jargs *x) {
    (void)v, (void)a, (void)x;
    fjj_fail(r, "the filters random, pprint, urlize and wordwrap are not known here");
}

const jfilter fjj_filters[] = {
    { "abs", "", 0, f_abs },
    { "attr", "name", 1, f_attr },
    { "batch", "linecount fill_with", 1, fjf_batch },
    { "capitalize", "", 0, f_capitalize },
    { "center", "width", 0, f_center },
    { "count", "", 0, f_length },
    { "d", "default_value boolean", 0, f_default },
    { "default", "default_value boolean", 0, f_default },
    { "dictsort", "case_sensitive by reverse", 0, fjf_dictsort },
    { "e", "", 0, f_escape },
    { "escape", "", 0, f_escape },
    { "filesizeformat", "binary", 0, f_filesizeformat },
    { "first", "", 0, fjf_first },
    { "float", "default", 0, f_float },
    { "forceescape", "", 0, f_forceescape },
    { "format", NULL, 0, f_format },
    { "groupby", "attribute default case_sensitive", 1, fjf_groupby },
    { "indent", "width first blank", 0, f_indent },
    { "int", "default base", 0, f_int },
    { "items", "", 0, fjf_items },
    { "join", "d attribute", 0, fjf_join },
    { "last", "", 0, fjf_last },
    { "length", "", 0, f_length },
    { "list", "", 0, fjf_list },
    { "lower", "", 0, f_lower },
    { "map", NULL, 0, fjf_map },
    { "max", "case_sensitive attribute", 0, fjf_max },
    { "min", "case_sensitive attribute", 0, fjf_min },
    { "pprint", NULL, 0, f_not_here },
    { "random", NULL, 0, f_not_here },
    { "reject", NULL, 0, fjf_reject },
    { "rejectattr", NULL, 0, fjf_rejectattr },
    { "replace", "old new count", 2, f_replace },
    { "reverse", "", 0, fjf_reverse },
    { "round", "precision method", 0, f_round },
    { "safe", "", 0, f_safe },
    { "select", NULL, 0, fjf_select },
    { "selectattr", NULL, 0, fjf_selectattr },
    { "slice", "slices fill_with", 1, fjf_slice },
    { "sort", "reverse case_sensitive attribute", 0, fjf_sort },
    { "string", "", 0, f_string },
    { "striptags", "", 0, f_striptags },
    { "sum", "attribute start", 0, fjf_sum },
    { "title", "", 0, f_title },
    { "tojson", "ensure_ascii indent separators sort_keys", 0, f_tojson },
    { "trim", "chars", 0, f_trim },
    { "truncate", "length killwords end leeway", 0, f_truncate },
    { "unique", "case_sensitive attribute", 0, fjf_unique },
    { "upper", "", 0, f_upper },
    { "urlencode", "", 0, f_urlencode },
    { "urlize", NULL, 0, f_not_here },
    { "wordcount", "", 0, f_wordcount },
    { "wordwrap", NULL, 0, f_not_here },
    { "xmlattr", "autospace", 0, f_xmlattr },
};

uint16_t fjj_filter_find(const char *name, size_t n) {
    for (size_t i = 0; i < FJ_LEN(fjj_filters); i++)
        if (strlen(fjj_filters[i].name) == n && !memcmp(fjj_filters[i].name, name, n))
            return (uint16_t)(i + 1);
    return 0;
}

jv fjj_filter(jr *r, uint16_t fn, const jstr *name, jv v, jargs *a) {
    jv args[4];
    if (!fn) fjj_fail(r, "No filter named '%.*s' found.", (int)FJ_MIN(name->n, 80u), name->p);
    const jfilter *f = &fjj_filters[fn - 1];
    if (f->params) fjj_bind(r, f->name, f->params, f->least, a, args);
    return f->fn(r, v, args, a);
}
