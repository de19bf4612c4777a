/* jinja_dict.c - dicts, in the order of insertion, and what may be a key of one. */
#include "text/jinja_in.h"

bool fjj_hashable(jv v) {
    switch (v.k) {
    case J_LIST:
    case J_DICT:
    case J_VIEW: return false;
    case J_TUPLE:
        for (uint32_t i = 0; i < v.l->n; i++)
            if (!fjj_hashable(v.l->v[i])) return false;
        return true;
    default: return true;
    }
}

static uint64_t hash_of(jv v) {
    switch (v.k) {
    case J_STR: return fj_hash(v.s->p, v.s->n);
    case J_NONE: return 77;
    case J_UNDEF: return 78;
    case J_TUPLE: {
        uint64_t h = 99;
        for (uint32_t i = 0; i < v.l->n; i++) h = h * 1000003 + hash_of(v.l->v[i]);
        return h;
    }
    case J_BOOL:
    case J_INT:
    case J_FLOAT: { /* equal numbers have equal hashes */
        double d = fjj_double(v);
        if (d == 0) d = 0;
        return fj_hash(&d, sizeof d);
    }
    default: {
        const void *p = v.l;
        return fj_hash(&p, sizeof p);
    }
    }
}

jv fjj_dict(jr *r, uint32_t cap) {
    jv v = { .k = J_DICT };
    v.m = fjj_zalloc(r, sizeof *v.m);
    if (cap) v.m->v = fjj_alloc(r, cap * sizeof *v.m->v);
    v.m->cap = cap;
    return v;
}

static bool key_is(jr *r, const jentry *x, jv key, uint64_t h) {
    if (x->hash != h) return false;
    if (x->key.k == J_STR && key.k == J_STR)
        return x->key.s->n == key.s->n && !memcmp(x->key.s->p, key.s->p, key.s->n);
    return fjj_equal(r, x->key, key);
}

static jentry *find(jr *r, const jdict *m, jv key, uint64_t h) {
    if (!m->index) {
        for (uint32_t i = 0; i < m->n; i++)
            if (key_is(r, &m->v[i], key, h)) return &m->v[i];
        return NULL;
    }
    uint32_t mask = m->n_index - 1;
    for (uint32_t i = (uint32_t)h & mask; m->index[i]; i = (i + 1) & mask)
        if (key_is(r, &m->v[m->index[i] - 1], key, h)) return &m->v[m->index[i] - 1];
    return NULL;
}

static void reindex(jr *r, jdict *m) {
    m->n_index = m->cap * 2;
    m->index = fjj_zalloc(r, m->n_index * sizeof *m->index);
    for (uint32_t k = 0; k < m->n; k++) {
        uint32_t i = (uint32_t)m->v[k].hash & (m->n_index - 1);
        while (m->index[i]) i = (i + 1) & (m->n_index - 1);
        m->index[i] = k + 1;
    }
}

void fjj_put(jr *r, jdict *m, jv key, jv val) {
    if (!fjj_hashable(key)) fjj_fail(r, "unhashable type: '%s'", fjj_type(key));
    uint64_t h = hash_of(key);
    jentry *x = find(r, m, key, h);
    fjj_step(r, 1);
    if (x) {
        x->val = val;
        return;
    }
    if (m->n == m->cap) {
        uint32_t cap = 8;
        while (cap <= m->cap) cap *= 2;
        jentry *p = fjj_alloc(r, cap * sizeof *p);
        if (m->n) memcpy(p, m->v, m->n * sizeof *p);
        m->v = p;
        m->cap = cap;
        if (cap > 8) reindex(r, m);
    }
    m->v[m->n++] = (jentry){ key, val, h };
    if (m->index) {
        uint32_t i = (uint32_t)h & (m->n_index - 1);
        while (m->index[i]) i = (i + 1) & (m->n_index - 1);
        m->index[i] = m->n;
    }
}

const jv *fjj_get(jr *r, const jdict *m, jv key) {
    if (!m->n) return NULL;
    jentry *x = find(r, m, key, hash_of(key));
    return x ? &x->val : NULL;
}

const jv *fjj_gets(jr *r, const jdict *m, const char *key) {
    jstr s = { .p = key, .n = (uint32_t)strlen(key), .ascii = 1 };
    return fjj_get(r, m, fjj_of(&s));
}
