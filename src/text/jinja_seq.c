/* jinja_seq.c - filters over sequences. */
#include "text/jinja_seq.h"

/* ---- attributes of items: "a.b.0", several parted by commas --------------------------------------- */
static jv path(jr *r, jv item, jv attribute, jv missing) {
    if (attribute.k == J_NONE || attribute.k == J_MISSING) return item;
    if (attribute.k != J_STR) {
        item = fjj_getitem(r, item, attribute);
        return item.k == J_UNDEF && missing.k != J_MISSING && missing.k != J_NONE ? missing : item;
    }
    const jstr *s = attribute.s;
    size_t i = 0;
    for (;;) {
        size_t end = i;
        while (end < s->n && s->p[end] != '.') end++;
        jv part = fjj_sub(r, s, i, end - i);
        int64_t n;
        bool big;
        if (fjj_is(part.s, "digit") && fjj_parse_int(part.s, 10, &n, &big)) part = fjj_int(n);
        item = fjj_getitem(r, item, part);
        if (item.k == J_UNDEF && missing.k != J_MISSING && missing.k != J_NONE) item = missing;
        if (end >= s->n) return item;
        i = end + 1;
    }
}

static jv key_of(jr *r, jv item, jv attribute, bool cased, jv missing) {
    jv v = path(r, item, attribute, missing);
    return cased ? v : fjj_ignore_case(r, v);
}

/* The key of sort: a list with one value for each attribute named. */
static jv keys_of(jr *r, jv item, jv attribute, bool cased) {
    jv out = fjj_list(r, J_LIST, 1);
    if (attribute.k != J_STR) {
        fjj_push(r, out.l, key_of(r, item, attribute, cased, fjj_missing()));
        return out;
    }
    const jstr *s = attribute.s;
    for (size_t i = 0; i <= s->n;) {
        size_t end = i;
        while (end < s->n && s->p[end] != ',') end++;
        fjj_push(r, out.l, key_of(r, item, fjj_sub(r, s, i, end - i), cased, fjj_missing()));
        i = end + 1;
    }
    return out;
}

/* Stable, by merging; keys may be refused by the comparison. */
static void merge(jr *r, jv *k, jv *v, jv *k2, jv *v2, uint32_t n, bool reverse) {
    if (n < 2) return;
    uint32_t h = n / 2, i = 0, j = h, o = 0;
    merge(r, k, v, k2, v2, h, reverse);
    merge(r, k + h, v + h, k2 + h, v2 + h, n - h, reverse);
    fjj_step(r, n);
    while (i < h && j < n) {
        bool second = reverse ? fjj_less(r, k[i], k[j], C_LT) : fjj_less(r, k[j], k[i], C_LT);
        uint32_t from = second ? j++ : i++;
        k2[o] = k[from];
        v2[o++] = v[from];
    }
    for (; i < h; i++, o++) k2[o] = k[i], v2[o] = v[i];
    for (; j < n; j++, o++) k2[o] = k[j], v2[o] = v[j];
    memcpy(k, k2, n * sizeof *k);
    memcpy(v, v2, n * sizeof *v);
}

jlist *fjj_sorted(jr *r, jlist *l, jv *keys, bool reverse) {
    jlist *out = fjj_zalloc(r, sizeof *out);
    uint32_t n = l->n;
    if (!n) return out;
    jv *k = fjj_alloc(r, n * sizeof *k), *k2 = fjj_alloc(r, n * sizeof *k),
       *v2 = fjj_alloc(r, n * sizeof *k);
    out->v = fjj_alloc(r, n * sizeof *k);
    memcpy(out->v, l->v, n * sizeof *k);
    memcpy(k, keys, n * sizeof *k);
    out->n = out->cap = n;
    merge(r, k, out->v, k2, v2, n, reverse);
    return out;
}

static jv as_list(jlist *l) { return (jv){ .k = J_LIST, .l = l }; }

FILTER(sort) {
    (void)x;
    jlist *l = fjj_all(r, v);
    jv *keys = fjj_alloc(r, (l->n + 1) * sizeof *keys);
    bool cased = fjj_truth(r, a[1]);
    for (uint32_t i = 0; i < l->n; i++) keys[i] = keys_of(r, l->v[i], a[2], cased);
    return as_list(fjj_sorted(r, l, keys, fjj_truth(r, a[0])));
}

FILTER(dictsort) {
    (void)x;
    bool cased = fjj_truth(r, a[0]), by_value = a[1].k == J_STR && fjj_same(a[1].s, "value");
    if (a[1].k != J_MISSING && !by_value && !(a[1].k == J_STR && fjj_same(a[1].s, "key")))
        fjj_fail(r, "You can only sort by either \"key\" or \"value\"");
    if (v.k == J_UNDEF) fjj_fail_undef(r, v);
    if (v.k != J_DICT) fjj_fail(r, "'%s' object has no attribute 'items'", fjj_type(v));
    jlist *l = fjj_zalloc(r, sizeof *l);
    jv *keys = fjj_alloc(r, (v.m->n + 1) * sizeof *keys);
    for (uint32_t i = 0; i < v.m->n; i++) {
        jv k = by_value ? v.m->v[i].val : v.m->v[i].key;
        keys[i] = cased ? k : fjj_ignore_case(r, k);
        fjj_push(r, l, fjj_pair(r, v.m->v[i].key, v.m->v[i].val));
    }
    return as_list(fjj_sorted(r, l, keys, fjj_truth(r, a[2])));
}

FILTER(groupby) {
    (void)x;
    jlist *l = fjj_all(r, v), *sorted;
    bool cased = fjj_truth(r, a[2]);
    jv *keys = fjj_alloc(r, (l->n + 1) * sizeof *keys), out = fjj_list(r, J_LIST, 0),
       last = fjj_missing();
    for (uint32_t i = 0; i < l->n; i++) keys[i] = key_of(r, l->v[i], a[0], cased, a[1]);
    sorted = fjj_sorted(r, l, keys, false);
    jlist *group = NULL;
    for (uint32_t i = 0; i < sorted->n; i++) {
        jv k = key_of(r, sorted->v[i], a[0], cased, a[1]);
        if (!group || !fjj_equal(r, k, last)) {
            jv items = fjj_list(r, J_LIST, 0),
               pair = fjj_pair(r, path(r, sorted->v[i], a[0], a[1]), items);
            pair.x = 1;
            group = items.l;
            fjj_push(r, out.l, pair);
            last = k;
        }
        fjj_push(r, group, sorted->v[i]);
    }
    return out;
}

FILTER(unique) {
    (void)x;
    jv out = fjj_list(r, J_ITER, 0), seen = fjj_dict(r, 0), one;
    bool cased = fjj_truth(r, a[0]);
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);) {
        jv k = key_of(r, one, a[1], cased, fjj_missing());
        if (!fjj_hashable(k)) fjj_fail(r, "unhashable type: '%s'", fjj_type(k));
        if (fjj_get(r, seen.m, k)) continue;
        fjj_put(r, seen.m, k, fjj_none());
        fjj_push(r, &out.it->l, one);
    }
    return out;
}

static jv extreme(jr *r, jv v, jv *a, bool max) {
    jv best = fjj_missing(), best_key = fjj_missing(), one;
    bool cased = fjj_truth(r, a[0]);
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);) {
        jv k = key_of(r, one, a[1], cased, fjj_missing());
        if (best.k == J_MISSING || fjj_less(r, k, best_key, max ? C_GT : C_LT))
            best = one, best_key = k;
    }
    return best.k == J_MISSING ? fjj_undef(r, "No aggregated item, sequence was empty.") : best;
}
FILTER(min) {
    (void)x;
    return extreme(r, v, a, false);
}
FILTER(max) {
    (void)x;
    return extreme(r, v, a, true);
}

FILTER(sum) {
    (void)x;
    jv total = a[1].k == J_MISSING ? fjj_int(0) : a[1], one;
    if (total.k == J_STR) fjj_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);)
        total = fjj_arith(r, N_ADD, total, path(r, one, a[0], fjj_missing()));
    return total;
}

FILTER(join) {
    (void)x;
    jb b = { .r = r };
    jv one;
    const jstr *d = a[0].k == J_MISSING ? NULL : fjj_str(r, a[0]);
    bool first = true;
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one); first = false) {
        if (!first && d) fjb_sub(&b, d, 0, d->n);
        fjj_str_into(&b, path(r, one, a[1], fjj_missing()));
    }
    return fjb_take(&b);
}

FILTER(list) {
    (void)a, (void)x;
    jlist *l = fjj_all(r, v);
    if (v.k != J_ITER) return as_list(l);
    return as_list(l);
}

FILTER(items) {
    (void)a, (void)x;
    jv out = fjj_list(r, J_ITER, 0), one;
    if (v.k == J_UNDEF) return out;
    if (v.k != J_DICT) fjj_fail(r, "Can only get item pairs from a mapping.");
    jv view = { .k = J_VIEW, .x = 2, .m = v.m };
    for (jwalk w = fjj_walk(r, view); fjj_next(r, &w, &one);) fjj_push(r, &out.it->l, one);
    return out;
}

FILTER(first) {
    (void)a, (void)x;
    jv one;
    jwalk w = fjj_walk(r, v);
    return fjj_next(r, &w, &one) ? one : fjj_undef(r, "No first item, sequence was empty.");
}

FILTER(last) {
    (void)a, (void)x;
    if (v.k == J_ITER || !fjj_iterable(v))
        fjj_fail(r, "'%s' object is not reversible", fjj_type(v));
    jlist *l = fjj_all(r, v);
    return l->n ? l->v[l->n - 1] : fjj_undef(r, "No last item, sequence was empty.");
}

FILTER(reverse) {
    (void)a, (void)x;
    if (v.k == J_STR) return fjj_slice(r, v, fjj_none(), fjj_none(), fjj_int(-1));
    if (!fjj_iterable(v)) fjj_fail(r, "argument must be iterable");
    jlist *l = fjj_all(r, v);
    bool plain = v.k == J_ITER;
    jv out = fjj_list(r, plain ? J_LIST : J_ITER, l->n);
    if (!plain) out.it->what = "list_reverseiterator";
    for (uint32_t i = l->n; i-- > 0;) fjj_push(r, fjj_items(out), l->v[i]);
    return out;
}

FILTER(slice) {
    (void)x;
    jlist *l = fjj_all(r, v);
    int64_t n = fjj_need_int(r, a[0], "slice"), offset = 0;
    if (!n) fjj_fail(r, "integer division or modulo by zero");
    jv out = fjj_list(r, J_ITER, 0);
    for (int64_t i = 0; i < n; i++) {
        int64_t per = l->n / n, extra = l->n % n, start = offset + i * per;
        if (i < extra) offset++;
        jv part = fjj_list(r, J_LIST, 0);
        for (int64_t k = start; k < offset + (i + 1) * per; k++) fjj_push(r, part.l, l->v[k]);
        if (a[1].k != J_MISSING && a[1].k != J_NONE && i >= extra) fjj_push(r, part.l, a[1]);
        fjj_push(r, &out.it->l, part);
    }
    return out;
}

FILTER(batch) {
    (void)x;
    jv out = fjj_list(r, J_ITER, 0), part = fjj_list(r, J_LIST, 0), one;
    int64_t n = fjj_need_int(r, a[0], "batch");
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);) {
        if (part.l->n == n) {
            fjj_push(r, &out.it->l, part);
            part = fjj_list(r, J_LIST, 0);
        }
        fjj_push(r, part.l, one);
    }
    if (part.l->n) {
        while (a[1].k != J_MISSING && a[1].k != J_NONE && part.l->n < n) fjj_push(r, part.l, a[1]);
        fjj_push(r, &out.it->l, part);
    }
    return out;
}

/* ---- map, select and kin -------------------------------------------------------------------------- */
static const jv *keyword(const jargs *x, const char *name) {
    for (uint32_t i = 0; i < x->n_kw; i++)
        if (fjj_same(x->kw[i], name)) return &x->kwv[i];
    return NULL;
}

FILTER(map) {
    (void)a;
    jv out = fjj_list(r, J_ITER, 0), one;
    if (!fjj_truth(r, v)) return out;
    const jv *attribute = x->n ? NULL : keyword(x, "attribute"), *missing = keyword(x, "default");
    if (attribute && x->n_kw > 1u + (missing != NULL)) fjj_fail(r, "Unexpected keyword argument");
    if (!attribute && !x->n) fjj_fail(r, "map requires a filter argument");
    uint16_t fn = 0;
    const jstr *name = NULL;
    if (!attribute) {
        name = fjj_need_str(r, x->pos[0], "map");
        fn = fjj_filter_find(name->p, name->n);
    }
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);) {
        if (attribute) {
            fjj_push(r, &out.it->l, path(r, one, *attribute, missing ? *missing : fjj_missing()));
            continue;
        }
        jargs rest = {
            .pos = x->pos + 1, .n = x->n - 1, .kw = x->kw, .kwv = x->kwv, .n_kw = x->n_kw
        };
        fjj_push(r, &out.it->l, fjj_filter(r, fn, name, one, &rest));
    }
    return out;
}

static jv choose(jr *r, jv v, const jargs *x, bool by_attr, bool want) {
    jv out = fjj_list(r, J_ITER, 0), one;
    if (!fjj_truth(r, v)) return out;
    if (by_attr && !x->n) fjj_fail(r, "Missing parameter for attribute name");
    uint32_t off = by_attr;
    const jstr *name = NULL;
    uint16_t fn = 0;
    if (x->n > off) {
        name = fjj_need_str(r, x->pos[off], "select");
        fn = fjj_test_find(name->p, name->n);
    }
    for (jwalk w = fjj_walk(r, v); fjj_next(r, &w, &one);) {
        jv of = by_attr ? path(r, one, x->pos[0], fjj_missing()) : one;
        bool yes;
        if (name) {
            jargs rest = { .pos = x->pos + off + 1,
                           .n = x->n - off - 1,
                           .kw = x->kw,
                           .kwv = x->kwv,
                           .n_kw = x->n_kw };
            yes = fjj_test(r, fn, name, of, &rest);
        } else {
            yes = fjj_truth(r, of);
        }
        if (yes == want) fjj_push(r, &out.it->l, one);
    }
    return out;
}
FILTER(select) {
    (void)a;
    return choose(r, v, x, false, true);
}
FILTER(reject) {
    (void)a;
    return choose(r, v, x, false, false);
}
FILTER(selectattr) {
    (void)a;
    return choose(r, v, x, true, true);
}
FILTER(rejectattr) {
    (void)a;
    return choose(r, v, x, true, false);
}
