/* jinja_mem.c - the arena of a render, failing, and strings in the making. */
#include "text/jinja_in.h"

#include <stdio.h>

const uint8_t fjj_input[1] = { FJ_FROM_INPUT };

/* ---- arena ---------------------------------------------------------------------------------------- */
void *fjm_take(jmem *m, size_t n) {
    n = (n + 15) & ~(size_t)15;
    if ((size_t)(m->end - m->at) < n) {
        size_t want = FJ_MAX(m->next ? m->next : 16384, n + sizeof(jmem_chunk) + 16);
        if (n > m->limit || want > m->limit - m->total) return NULL;
        jmem_chunk *c = malloc(want);
        if (!c) return NULL;
        c->next = m->chunks;
        m->chunks = c;
        m->total += want;
        m->next = FJ_MIN(want * 2, (size_t)4 << 20);
        m->at = (char *)c + 16;
        m->end = (char *)c + want;
    }
    void *p = m->at;
    m->at += n;
    return p;
}

void fjm_free(jmem *m) {
    for (jmem_chunk *c = m->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *m = (jmem){ 0 };
}

void *fjj_alloc(jr *r, size_t n) {
    void *p = fjm_take(&r->mem, n);
    if (!p) fjj_fail(r, "the template needs too much memory: over %zu bytes", r->mem.limit);
    return p;
}

void *fjj_zalloc(jr *r, size_t n) { return memset(fjj_alloc(r, n), 0, n); }

char *fjj_printf(jr *r, const char *fmt, ...) {
    va_list ap;
    char buf[480];
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    size_t n = strlen(buf) + 1;
    return memcpy(fjj_alloc(r, n), buf, n);
}

/* ---- failing -------------------------------------------------------------------------------------- */
_Noreturn void fjj_fail(jr *r, const char *fmt, ...) {
    va_list ap;
    char buf[400];
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    uint32_t line = r->at ? r->at->line : r->line, col = r->at ? r->at->col : r->col;
    if (line) fj_fail(r->e, FJ_EFORMAT, "%s: line %u column %u: %s", r->name, line, col, buf);
    else fj_fail(r->e, FJ_EFORMAT, "%s: %s", r->name, buf);
    longjmp(r->jump, 1); // NOLINT(cert-err52-cpp): C, and everything held is in the arena
}

_Noreturn void fjj_fail_undef(jr *r, jv u) {
    const jundef *d = u.u;
    if (d->hint) fjj_fail(r, "%s", d->hint);
    if (d->obj.k == J_MISSING) fjj_fail(r, "'%.*s' is undefined", (int)d->name.s->n, d->name.s->p);
    jb b = { .r = r };
    bool none = d->obj.k == J_NONE;
    const char *type = none ? "None" : fjj_printf(r, "%s object", fjj_type(d->obj));
    fjj_repr(&b, d->name);
    if (d->name.k != J_STR)
        fjj_fail(r, "%s has no element %.*s", type, (int)FJ_MIN(b.n, (size_t)100), b.p);
    fjj_fail(r, "'%s' has no attribute %.*s", type, (int)FJ_MIN(b.n, (size_t)100), b.p);
}

/* ---- strings in the making ------------------------------------------------------------------------ */
static void room(jb *b, size_t n) {
    if (b->n + n + 1 <= b->cap) return;
    if (n > b->r->max_output || b->n + n > b->r->max_output)
        fjj_fail(b->r, "the text grows too long: over %zu bytes", b->r->max_output);
    size_t cap = FJ_MAX(b->cap * 2, b->n + n + 1);
    cap = FJ_MAX(cap, (size_t)64);
    char *p = fjj_alloc(b->r, cap);
    if (b->n) memcpy(p, b->p, b->n);
    if (b->from) {
        uint8_t *f = fjj_alloc(b->r, cap);
        memcpy(f, b->from, b->n);
        b->from = f;
    }
    b->p = p;
    b->cap = cap;
}

static void flags(jb *b) {
    if (b->from) return;
    b->from = fjj_alloc(b->r, b->cap);
    memset(b->from, 0, b->n);
}

void fjb_add(jb *b, const char *s, size_t n, const uint8_t *from) {
    if (!n) return;
    room(b, n);
    memcpy(b->p + b->n, s, n);
    if (from) {
        flags(b);
        if (from == J_INPUT) memset(b->from + b->n, FJ_FROM_INPUT, n);
        else memcpy(b->from + b->n, from, n);
    } else if (b->from) {
        memset(b->from + b->n, 0, n);
    }
    b->n += n;
    if (n > 256) fjj_step(b->r, n / 256);
}

void fjb_z(jb *b, const char *s) { fjb_add(b, s, strlen(s), NULL); }
void fjb_c(jb *b, char c) { fjb_add(b, &c, 1, NULL); }

const uint8_t *fjj_from_at(const jstr *s, size_t off) {
    return !s->from || s->from == J_INPUT ? s->from : s->from + off;
}

void fjb_sub(jb *b, const jstr *s, size_t off, size_t n) {
    fjb_add(b, s->p + off, n, fjj_from_at(s, off));
}

/* Bytes made from s[off .. off + src_n): they have the flags of all of them. */
void fjb_like(jb *b, const char *bytes, size_t n, const jstr *s, size_t off, size_t src_n) {
    if (!s->from || s->from == J_INPUT) {
        fjb_add(b, bytes, n, s->from);
        return;
    }
    uint8_t f = 0;
    for (size_t i = 0; i < src_n; i++) f |= s->from[off + i];
    fjb_add(b, bytes, n, NULL);
    if (f && n) {
        flags(b);
        memset(b->from + b->n - n, f, n);
    }
}

jv fjb_take(jb *b) {
    jstr *s = fjj_alloc(b->r, sizeof *s);
    if (b->p) b->p[b->n] = 0;
    *s = (jstr){ .p = b->p ? b->p : "", .from = b->from, .n = (uint32_t)b->n, .ascii = 2 };
    return fjj_of(s);
}
