/* gguf_split.c - models in several files, as llama.cpp's gguf-split makes them:
 * NAME-00001-of-0000N.gguf, numbered from 0 by the key split.no, with N in split.count and the tensors
 * of all files in split.tensors.count.  The first file has the metadata.
 * Source: tools/gguf-split/gguf-split.cpp and src/llama-model-loader.cpp of llama.cpp. */
#include "formats/gguf_in.h"

#include <inttypes.h>
#include <stdio.h>

#define K_NO "split.no"
#define K_COUNT "split.count"
#define K_TENSORS "split.tensors.count"

enum { MAX_PARTS = UINT16_MAX }; /* split.count is written as u16 */

static bool is_split_key(const char *key) {
    return !strcmp(key, K_NO) || !strcmp(key, K_COUNT) || !strcmp(key, K_TENSORS);
}

/* What is left has its old order; what is found by name has new places. */
static void drop_keys(struct fj_gguf_own *o) {
    fj_gguf *g = &o->pub;
    fj_gguf_kv *kv = fj_arena_alloc(&o->mem, (g->n_kv + 1) * sizeof *kv);
    size_t n = 0;
    fj_map_free(&o->keys);
    for (size_t i = 0; i < g->n_kv; i++) {
        if (is_split_key(g->kv[i].key)) continue;
        kv[n] = g->kv[i];
        *fj_map_put(&o->keys, kv[n].key, strlen(kv[n].key), NULL) = (int64_t)n;
        n++;
    }
    g->kv = kv;
    g->n_kv = n;
}

bool fj_gguf_split_keys(struct fj_gguf_own *o, fj_err *e) {
    const fj_gguf *g = &o->pub;
    static const char *const keys[] = { K_NO, K_COUNT, K_TENSORS };
    int have = 0;
    for (size_t i = 0; i < FJ_LEN(keys); i++) have += fj_gguf_find(g, keys[i]) != NULL;
    if (!have) return true;
    if (!fj_gguf_u32_opt(g, K_NO, &o->no, e) || !fj_gguf_u32_opt(g, K_COUNT, &o->count, e) ||
        !fj_gguf_u64_opt(g, K_TENSORS, &o->of_tensors, e))
        return false;
    if (o->count > 1 && have < 3)
        for (size_t i = 0; i < FJ_LEN(keys); i++)
            if (!fj_gguf_find(g, keys[i]))
                return fj_fail(e, FJ_EFORMAT,
                               "%s: it is a part of a split model without the key %s: split the "
                               "model again with gguf-split",
                               g->name, keys[i]);
    if (o->count > MAX_PARTS)
        return fj_fail(e, FJ_EFORMAT, "%s: " K_COUNT " is %" PRIu32 ", at most %d are possible",
                       g->name, o->count, MAX_PARTS);
    if (o->no && o->no >= o->count)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: " K_NO " is %" PRIu32 " and " K_COUNT " %" PRIu32
                       ": parts are numbered from 0 up to the count less one",
                       g->name, o->no, o->count);
    if (o->count == 1 && fj_gguf_find(g, K_TENSORS) && o->of_tensors != g->n_tensors)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: " K_TENSORS " is %" PRIu64 ", the file has %zu tensors: it is damaged",
                       g->name, o->of_tensors, g->n_tensors);
    drop_keys(o);
    return true;
}

/* ---- names ----------------------------------------------------------------------------------- */
static void suffix_of(char s[64], uint32_t no, uint32_t count) {
    snprintf(s, 64, "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", no + 1, count);
}

char *fj_gguf_part_path(const char *path, uint32_t no, uint32_t count) {
    char s[64];
    fj_str p = { 0 };
    size_t n = strlen(path);
    suffix_of(s, no, count);
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) n -= 5;
    fj_str_addn(&p, path, n);
    fj_str_add(&p, s);
    return fj_str_take(&p);
}

/* What stands in front of the numbers; 0: the name is not that of part `no` of `count`. */
static size_t prefix_of(const char *path, uint32_t no, uint32_t count) {
    char s[64];
    suffix_of(s, no, count);
    size_t n = strlen(path), k = strlen(s);
    return n > k && path[n - k - 1] != '/' && !strcmp(path + n - k, s) ? n - k : 0;
}

/* ---- several into one ------------------------------------------------------------------------ */
static bool same_value(const fj_gguf_kv *a, const fj_gguf_kv *b, size_t each) {
    if (a->type != b->type || a->array != b->array || a->n != b->n) return false;
    if (!a->str) return !memcmp(a->data, b->data, a->n * each);
    for (size_t i = 0; i < a->n; i++)
        if (a->str[i].n != b->str[i].n || memcmp(a->str[i].s, b->str[i].s, a->str[i].n))
            return false;
    return true;
}

/* Metadata are those of the first file: what another says must be said there, too. */
static bool same_metadata(const fj_gguf *first, const fj_gguf *g, fj_err *e) {
    static const size_t size[FJ_GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    for (size_t i = 0; i < g->n_kv; i++) {
        const fj_gguf_kv *b = &g->kv[i], *a = fj_gguf_find(first, b->key);
        if (!strcmp(b->key, "general.alignment")) continue; /* of its own data */
        if (!a || !same_value(a, b, size[b->type]))
            return fj_fail(e, FJ_EFORMAT,
                           "%s: key %s %s in %s: the files are not of one model, get all of them "
                           "again from one place",
                           g->name, b->key, a ? "has another value" : "is not", first->name);
    }
    return true;
}

static bool add_part(struct fj_gguf_own *all, struct fj_gguf_own *o, uint32_t no, fj_err *e) {
    const fj_gguf *first = &all->pub, *g = &o->pub;
    if (o->count != all->count || o->no != no || o->of_tensors != all->of_tensors)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: it says that it is part %" PRIu32 " of %" PRIu32 " with %" PRIu64
                       " tensors in all, expected part %" PRIu32 " of %" PRIu32 " with %" PRIu64
                       ": give the files of one model their own names back",
                       g->name, o->no + 1, o->count, o->of_tensors, no + 1, all->count,
                       all->of_tensors);
    return no == 0 || same_metadata(first, g, e);
}

static bool open_others(struct fj_gguf_own *all, size_t prefix, fj_err *e) {
    all->parts = fj_arena_alloc(&all->mem, all->count * sizeof *all->parts);
    for (uint32_t i = 1; i < all->count; i++) {
        char s[64];
        suffix_of(s, i, all->count);
        fj_str path = { 0 };
        fj_str_addf(&path, "%.*s%s", (int)prefix, all->pub.name, s);
        struct fj_gguf_own *o = NULL;
        if (!fj_exists(path.s))
            fj_fail(e, FJ_EIO,
                    "%s is missing: it is part %" PRIu32 " of the %" PRIu32
                    " of a split model, which have to be in one folder",
                    path.s, i + 1, all->count);
        else o = fj_gguf_part_open(path.s, e);
        fj_str_free(&path);
        if (!o) return false;
        all->parts[all->n_parts++] = o;
        if (!add_part(all, o, i, e)) return false;
    }
    return true;
}

static bool join(struct fj_gguf_own *all, fj_err *e) {
    fj_gguf *g = &all->pub;
    size_t n = g->n_tensors;
    for (size_t p = 0; p < all->n_parts; p++) n += all->parts[p]->pub.n_tensors;
    if (n != all->of_tensors)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: " K_TENSORS " is %" PRIu64 ", its %" PRIu32
                       " files have %zu tensors: get all of them again from one place",
                       g->name, all->of_tensors, all->count, n);
    fj_gguf_tensor *t = fj_arena_alloc(&all->mem, (n + 1) * sizeof *t);
    const char **files = fj_arena_alloc(&all->mem, (all->n_parts + 1) * sizeof *files);
    size_t k = g->n_tensors;
    if (k) memcpy(t, g->tensors, k * sizeof *t);
    files[0] = g->name;
    for (size_t p = 0; p < all->n_parts; p++) {
        const fj_gguf *x = &all->parts[p]->pub;
        files[p + 1] = x->name;
        g->file_bytes += x->file_bytes;
        for (size_t i = 0; i < x->n_tensors; i++, k++) {
            bool fresh;
            t[k] = x->tensors[i];
            t[k].file = (int)p + 1;
            int64_t *at = fj_map_put(&all->tensors, t[k].name, strlen(t[k].name), &fresh);
            if (!fresh)
                return fj_fail(e, FJ_EFORMAT,
                               "%s: tensor %s is in %s as well: get all files of the model again "
                               "from one place",
                               x->name, t[k].name, files[t[*at].file]);
            *at = (int64_t)k;
        }
    }
    g->tensors = t;
    g->n_tensors = n;
    g->files = files;
    g->n_files = all->n_parts + 1;
    return true;
}

fj_gguf *fj_gguf_split_join(struct fj_gguf_own *o, fj_err *e) {
    if (o->count < 2) return &o->pub;
    char s[64];
    const char *path = o->pub.name;
    suffix_of(s, o->no, o->count);
    size_t prefix = prefix_of(path, o->no, o->count);
    if (!prefix) {
        fj_fail(e, FJ_EFORMAT,
                "%s: it is part %" PRIu32 " of %" PRIu32
                " of a split model, the others of which are found by its name: call it NAME%s",
                path, o->no + 1, o->count, s);
        goto bad;
    }
    if (o->no) { /* another than the first: begin anew there */
        uint32_t count = o->count;
        suffix_of(s, 0, count);
        fj_str first = { 0 };
        fj_str_addf(&first, "%.*s%s", (int)prefix, path, s);
        struct fj_gguf_own *f = NULL;
        if (fj_exists(first.s)) f = fj_gguf_part_open(first.s, e);
        else
            fj_fail(e, FJ_EIO,
                    "%s is missing: it is the first of the %" PRIu32
                    " files of a split model and has its metadata; %s is part %" PRIu32,
                    first.s, count, path, o->no + 1);
        fj_str_free(&first);
        if (!f) goto bad;
        struct fj_gguf_own expected = { .count = count, .of_tensors = o->of_tensors };
        bool ok = add_part(&expected, f, 0, e);
        fj_gguf_close(&o->pub);
        o = f;
        if (!ok) goto bad;
    }
    if (open_others(o, prefix, e) && join(o, e)) return &o->pub;
bad:
    fj_gguf_close(&o->pub);
    return NULL;
}
