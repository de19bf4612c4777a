/* mem.h - small bookkeeping memory: arenas, growing arrays, growing strings, a hash map.
 *
 * What is allocated here is bounded by what was checked before (names, nodes, tokens of one row), so
 * running out ends the process with a message through abort(), as git and redis do: there is nothing
 * sensible left to do.  Bulk bytes (weights, activations, caches, request bodies) never come from
 * here: they are fj_buf of a device, or fj_try_* below, and report through fj_err. */
#ifndef FJ_BASE_MEM_H
#define FJ_BASE_MEM_H

#include <forja/err.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* malloc that does not return NULL.  n == 0 gives a valid pointer. */
void *fj_alloc(size_t n);
void *fj_zalloc(size_t n);
void *fj_realloc(void *p, size_t n);
char *fj_strdup(const char *s);
char *fj_strndup(const char *s, size_t n);

/* Bulk: NULL and FJ_ENOMEM with "what" when it cannot be had; count * size is checked. */
void *fj_try_alloc(size_t count, size_t size, const char *what, fj_err *e);

/* ---- arena: everything of one lifetime, freed together ---------------------------------------- */
typedef struct fj_arena {
    struct fj_chunk *head;
    size_t used; /* bytes handed out */
} fj_arena;

void *fj_arena_alloc(fj_arena *a, size_t n); /* zeroed, 16-byte aligned */
char *fj_arena_strdup(fj_arena *a, const char *s);
char *fj_arena_strndup(fj_arena *a, const char *s, size_t n);
char *fj_arena_printf(fj_arena *a, const char *fmt, ...) FJ_PRINTF(2, 3);
void fj_arena_free(fj_arena *a); /* back to empty; the struct may be used again */

/* ---- growing array: keep `T *p; size_t n, cap;` and call before writing p[n] ------------------- */
#define FJ_GROW(p, need, cap) ((p) = fj_grow((p), (need), &(cap), sizeof *(p)))
void *fj_grow(void *p, size_t need, size_t *cap, size_t size);

/* ---- growing string: s is always terminated once something was added; zero-initialise ---------- */
typedef struct fj_str {
    char *s;
    size_t n, cap;
} fj_str;
void fj_str_add(fj_str *s, const char *text);
void fj_str_addn(fj_str *s, const void *bytes, size_t n);
void fj_str_addc(fj_str *s, char c);
void fj_str_addf(fj_str *s, const char *fmt, ...) FJ_PRINTF(2, 3);
void fj_str_clear(fj_str *s); /* keeps the memory */
void fj_str_free(fj_str *s);
char *fj_str_take(fj_str *s); /* the caller owns the result; s is empty after */

/* ---- map from byte strings to int64; zero-initialise.  Keys are copied. ------------------------ */
typedef struct fj_map {
    struct fj_slot *slots;
    size_t n, cap;
    fj_arena keys;
} fj_map;
/* Returns the place of the value; *fresh (may be NULL) says whether it was just made (value 0). */
int64_t *fj_map_put(fj_map *m, const void *key, size_t n, bool *fresh);
const int64_t *fj_map_get(const fj_map *m, const void *key, size_t n); /* NULL: not there */
void fj_map_free(fj_map *m);

/* FNV-1a finished by a mix: for tables, not for security. */
uint64_t fj_hash(const void *p, size_t n);

/* Programmer's mistakes. */
#define FJ_ASSERT(c) ((c) ? (void)0 : fj_assert_failed(#c, __FILE__, __LINE__))
void fj_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#define FJ_LEN(a) (sizeof(a) / sizeof *(a))
#define FJ_MIN(a, b) ((a) < (b) ? (a) : (b))
#define FJ_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
