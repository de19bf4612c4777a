#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

/* write(2), not stdio: the process is out of memory or wrong about itself. */
static void die(const char *text) __attribute__((noreturn));
static void die(const char *text) {
    ssize_t r = write(2, text, strlen(text));
    (void)r;
    abort();
}

void fj_assert_failed(const char *cond, const char *file, int line) {
    char msg[512];
    snprintf(msg, sizeof msg, "forja: internal error at %s:%d: %s\n", file, line, cond);
    die(msg);
}

void *fj_alloc(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) die("forja: out of memory for small data\n");
    return p;
}

void *fj_zalloc(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) die("forja: out of memory for small data\n");
    return p;
}

void *fj_realloc(void *p, size_t n) {
    p = realloc(p, n ? n : 1);
    if (!p) die("forja: out of memory for small data\n");
    return p;
}

char *fj_strndup(const char *s, size_t n) {
    char *p = fj_alloc(n + 1);
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *fj_strdup(const char *s) { return fj_strndup(s, strlen(s)); }

void *fj_try_alloc(size_t count, size_t size, const char *what, fj_err *e) {
    size_t bytes;
    void *p = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes)) p = calloc(1, bytes ? bytes : 1);
    if (!p) fj_fail(e, FJ_ENOMEM, "no memory for %s (%zu x %zu bytes)", what, count, size);
    return p;
}

/* ---- arena ------------------------------------------------------------------------------------ */
typedef struct fj_chunk {
    struct fj_chunk *next;
    size_t used, size;
    _Alignas(16) unsigned char data[];
} fj_chunk;

void *fj_arena_alloc(fj_arena *a, size_t n) {
    if (n > SIZE_MAX / 4) die("forja: arena request too large\n");
    n = (n + 15) & ~(size_t)15;
    fj_chunk *c = a->head;
    if (!c || c->size - c->used < n) {
        size_t size = FJ_MAX(n, (size_t)16 << 10);
        if (c) size = FJ_MAX(size, FJ_MIN(c->size * 2, (size_t)1 << 20));
        c = fj_zalloc(sizeof *c + size);
        c->size = size;
        c->next = a->head;
        a->head = c;
    }
    void *p = c->data + c->used;
    c->used += n;
    a->used += n;
    return p;
}

char *fj_arena_strndup(fj_arena *a, const char *s, size_t n) {
    char *p = fj_arena_alloc(a, n + 1);
    if (n) memcpy(p, s, n);
    return p;
}

char *fj_arena_strdup(fj_arena *a, const char *s) { return fj_arena_strndup(a, s, strlen(s)); }

char *fj_arena_printf(fj_arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    FJ_ASSERT(n >= 0);
    char *p = fj_arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void fj_arena_free(fj_arena *a) {
    for (fj_chunk *c = a->head; c;) {
        fj_chunk *next = c->next;
        free(c);
        c = next;
    }
    *a = (fj_arena){ 0 };
}

/* ---- arrays and strings ----------------------------------------------------------------------- */
void *fj_grow(void *p, size_t need, size_t *cap, size_t size) {
    if (need <= *cap) return p;
    size_t n = FJ_MAX(need, *cap + *cap / 2 + 8), bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) die("forja: array too large\n");
    p = fj_realloc(p, bytes);
    *cap = n;
    return p;
}

void fj_str_addn(fj_str *s, const void *bytes, size_t n) {
    FJ_GROW(s->s, s->n + n + 1, s->cap);
    if (n) memcpy(s->s + s->n, bytes, n);
    s->n += n;
    s->s[s->n] = 0;
}

void fj_str_add(fj_str *s, const char *text) { fj_str_addn(s, text, strlen(text)); }
void fj_str_addc(fj_str *s, char c) { fj_str_addn(s, &c, 1); }

void fj_str_addf(fj_str *s, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    FJ_ASSERT(n >= 0);
    FJ_GROW(s->s, s->n + (size_t)n + 1, s->cap);
    vsnprintf(s->s + s->n, (size_t)n + 1, fmt, again);
    s->n += (size_t)n;
    va_end(again);
}

void fj_str_clear(fj_str *s) {
    s->n = 0;
    if (s->s) s->s[0] = 0;
}

void fj_str_free(fj_str *s) {
    free(s->s);
    *s = (fj_str){ 0 };
}

char *fj_str_take(fj_str *s) {
    if (!s->s) fj_str_addn(s, "", 0);
    char *p = s->s;
    *s = (fj_str){ 0 };
    return p;
}

/* ---- map: open addressing, linear probing, at most 2/3 full ------------------------------------ */
typedef struct fj_slot {
    const char *key; /* NULL: empty */
    size_t n;
    uint64_t hash;
    int64_t value;
} fj_slot;

uint64_t fj_hash(const void *p, size_t n) {
    const unsigned char *s = p;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * 1099511628211u;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static fj_slot *find(const fj_map *m, uint64_t h, const void *key, size_t n) {
    for (size_t i = h & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        fj_slot *s = &m->slots[i];
        if (!s->key) return s;
        if (s->hash == h && s->n == n && (n == 0 || memcmp(s->key, key, n) == 0)) return s;
    }
}

int64_t *fj_map_put(fj_map *m, const void *key, size_t n, bool *fresh) {
    if ((m->n + 1) * 3 > m->cap * 2) {
        fj_map bigger = { .cap = m->cap ? m->cap * 2 : 64, .n = m->n, .keys = m->keys };
        bigger.slots = fj_zalloc(bigger.cap * sizeof *bigger.slots);
        for (size_t i = 0; i < m->cap; i++) {
            const fj_slot *s = &m->slots[i];
            if (s->key) *find(&bigger, s->hash, s->key, s->n) = *s;
        }
        free(m->slots);
        *m = bigger;
    }
    uint64_t h = fj_hash(key, n);
    fj_slot *s = find(m, h, key, n);
    if (fresh) *fresh = !s->key;
    if (!s->key) {
        s->key = fj_arena_strndup(&m->keys, key, n);
        s->n = n;
        s->hash = h;
        s->value = 0;
        m->n++;
    }
    return &s->value;
}

const int64_t *fj_map_get(const fj_map *m, const void *key, size_t n) {
    if (!m->cap) return NULL;
    const fj_slot *s = find(m, fj_hash(key, n), key, n);
    return s->key ? &s->value : NULL;
}

void fj_map_free(fj_map *m) {
    free(m->slots);
    fj_arena_free(&m->keys);
    *m = (fj_map){ 0 };
}
