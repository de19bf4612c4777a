/* imatrix_file.c - importance matrices in files: GGUF, and the older format of llama-imatrix.
 *
 * The older one, little-endian: u32 entries; each u32 length, name, u32 calls, u32 values, f32 means times
 * calls [values]; then, in newer files, u32 chunks, u32 length, data set. */
#include "lifecycle/imatrix_in.h"

#include "formats/gguf.h"
#include "formats/rd.h"

#include <math.h>

fj_imatrix *fj_imatrix_empty(const char *name) {
    fj_imatrix *im = fj_zalloc(sizeof *im);
    im->own = fj_zalloc(sizeof *im->own);
    im->name = fj_arena_strdup(&im->own->arena, name);
    return im;
}

void fj_imatrix_close(fj_imatrix *im) {
    if (!im) return;
    fj_imatrix_stop(im);
    fj_map_free(&im->own->index);
    fj_arena_free(&im->own->arena);
    free(im->own->sets);
    for (size_t i = 0; i < im->own->n_blocks; i++) free(im->own->blocks[i]);
    free(im->own->blocks);
    free(im->own);
    free(im);
}

void fj_imatrix_add_set(fj_imatrix *im, const char *name, size_t n) {
    struct fj_imatrix_own *o = im->own;
    FJ_GROW(o->sets, im->n_datasets + 1, o->cap_sets);
    o->sets[im->n_datasets++] = fj_arena_strndup(&o->arena, name, n);
    im->datasets = o->sets;
}

static bool is_sum(float v) { return v >= 0 && v <= 3e38F; }

bool fj_imatrix_put(fj_imatrix *im, size_t cap, const char *name, int64_t mats, int64_t cols,
                    const float *sums, const float *counts, fj_err *e) {
    fj_arena *a = &im->own->arena;
    bool fresh;
    int64_t *at = fj_map_put(&im->own->index, name, strlen(name), &fresh);
    if (!fresh) return fj_fail(e, FJ_EFORMAT, "%s: tensor %s is there twice", im->name, name);
    *at = (int64_t)im->n;
    FJ_ASSERT(im->n < cap);
    if (!im->entries) im->entries = fj_arena_alloc(a, cap * sizeof *im->entries);
    struct fj_imatrix_own *o = im->own;
    size_t n = (size_t)(mats * cols);
    float *s = fj_try_alloc(2 * n + (size_t)mats, sizeof *s, "an importance matrix", e);
    if (!s) return false;
    FJ_GROW(o->blocks, o->n_blocks + 1, o->cap_blocks);
    o->blocks[o->n_blocks++] = s;
    float *mean = s + n, *c = mean + n;
    memcpy(s, sums, n * sizeof *s);
    memcpy(c, counts, (size_t)mats * sizeof *c);
    for (int64_t i = 0; i < mats; i++)
        if (!is_sum(c[i]))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has been met by %g rows", im->name, name,
                           (double)c[i]);
    for (size_t i = 0; i < n; i++) {
        float by = c[i / (size_t)cols];
        mean[i] = by > 0 ? s[i] / by : 1;
        if (!is_sum(s[i]) || !is_sum(mean[i]))
            return fj_fail(e, FJ_EFORMAT,
                           "%s: value %zu of tensor %s is %g of %g rows: a mean of squares is a "
                           "number and not negative",
                           im->name, i, name, (double)s[i], (double)by);
    }
    ((fj_imatrix_entry *)(uintptr_t)im->entries)[im->n++] =
        (fj_imatrix_entry){ fj_arena_strdup(a, name), mats, cols, s, c, mean };
    return true;
}

const float *fj_imatrix_find(const fj_imatrix *im, const char *gguf_name, int64_t *n) {
    const int64_t *at = fj_map_get(&im->own->index, gguf_name, strlen(gguf_name));
    if (!at) return NULL;
    const fj_imatrix_entry *x = &im->entries[*at];
    *n = x->mats * x->cols;
    return x->means;
}

/* ---- writing ------------------------------------------------------------------------------------- */
bool fj_imatrix_save(const fj_imatrix *im, const char *path, fj_err *e) {
    if (!im->n) return fj_fail(e, FJ_EINVAL, "%s: an importance matrix of nothing", path);
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    fj_gguf_str *sets = fj_alloc((im->n_datasets + 1) * sizeof *sets);
    for (size_t i = 0; i < im->n_datasets; i++)
        sets[i] = (fj_gguf_str){ im->datasets[i], strlen(im->datasets[i]) };
    fj_gguf_put_string(w, "general.type", "imatrix");
    fj_gguf_put_strings(w, "imatrix.datasets", sets, im->n_datasets);
    fj_gguf_put_u32(w, "imatrix.chunk_count", im->chunks);
    fj_gguf_put_u32(w, "imatrix.chunk_size", im->chunk_size);
    free(sets);
    fj_str name = { 0 };
    for (size_t i = 0; i < im->n; i++) {
        const fj_imatrix_entry *x = &im->entries[i];
        for (int k = 0; k < 2; k++) {
            fj_str_clear(&name);
            fj_str_addf(&name, "%s.%s", x->name, k ? "counts" : "in_sum2");
            fj_gguf_add_tensor(w, name.s, FJ_F32, 2, (int64_t[]){ k ? 1 : x->cols, x->mats });
        }
    }
    fj_str_free(&name);
    for (size_t i = 0; i < im->n; i++) {
        const fj_imatrix_entry *x = &im->entries[i];
        fj_gguf_write_data(w, x->sums, (size_t)(x->mats * x->cols) * sizeof *x->sums);
        fj_gguf_write_data(w, x->counts, (size_t)x->mats * sizeof *x->counts);
    }
    return fj_gguf_writer_close(w, e);
}

/* ---- reading ------------------------------------------------------------------------------------- */
/* The length of s without the ending, 0: it has another. */
static size_t stem(const char *s, const char *ending) {
    size_t n = strlen(s), k = strlen(ending);
    return n > k && !strcmp(s + n - k, ending) ? n - k : 0;
}

static int64_t values_of(const fj_gguf_tensor *t) { return t->bytes / (int64_t)sizeof(float); }

static bool of_f32(const fj_imatrix *im, const fj_gguf_tensor *t, fj_err *e) {
    return (t->usable && t->dtype == FJ_F32 && t->bytes >= (int64_t)sizeof(float)) ||
           fj_fail(e, FJ_EFORMAT, "%s: tensor %s is of %s with %lld bytes: expected numbers in F32",
                   im->name, t->name, t->type_name, (long long)t->bytes);
}

static bool take_pair(fj_imatrix *im, const fj_gguf *g, const fj_gguf_tensor *t, fj_err *e) {
    size_t n = stem(t->name, ".in_sum2"), c = stem(t->name, ".counts");
    if (!n && !c)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s: an importance matrix has names that end in .in_sum2 and "
                       ".counts",
                       im->name, t->name);
    fj_str other = { 0 };
    fj_str_addn(&other, t->name, n ? n : c);
    fj_str_add(&other, n ? ".counts" : ".in_sum2");
    const fj_gguf_tensor *u = fj_gguf_tensor_find(g, other.s);
    if (!u) fj_fail(e, FJ_EFORMAT, "%s: tensor %s is there without %s", im->name, t->name, other.s);
    if (!u || !n) { /* a pair is taken at its sums */
        fj_str_free(&other);
        return u != NULL;
    }
    other.s[n] = 0;
    bool ok = of_f32(im, t, e) && of_f32(im, u, e);
    if (ok && values_of(t) % values_of(u))
        ok = fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %lld values for %lld counts", im->name,
                     t->name, (long long)values_of(t), (long long)values_of(u));
    ok = ok && fj_imatrix_put(im, g->n_tensors, other.s, values_of(u), values_of(t) / values_of(u),
                              (const float *)(const void *)t->data,
                              (const float *)(const void *)u->data, e);
    fj_str_free(&other);
    return ok;
}

static bool read_gguf(fj_imatrix *im, const void *bytes, size_t size, fj_err *e) {
    fj_gguf *g = fj_gguf_open_mem(bytes, size, im->name, e);
    if (!g) return false;
    const char *type = "imatrix";
    bool ok = fj_gguf_string_opt(g, "general.type", &type, e) &&
              fj_gguf_u32_opt(g, "imatrix.chunk_count", &im->chunks, e) &&
              fj_gguf_u32_opt(g, "imatrix.chunk_size", &im->chunk_size, e);
    if (ok && strcmp(type, "imatrix") != 0)
        ok = fj_fail(e, FJ_EFORMAT, "%s: a GGUF of type \"%s\", not an importance matrix", im->name,
                     type);
    if (ok && fj_gguf_find(g, "imatrix.datasets")) {
        size_t n;
        const fj_gguf_str *s = fj_gguf_strings(g, "imatrix.datasets", &n, e);
        ok = s != NULL;
        for (size_t i = 0; ok && i < n; i++) fj_imatrix_add_set(im, s[i].s, s[i].n);
    }
    for (size_t i = 0; ok && i < g->n_tensors; i++) ok = take_pair(im, g, &g->tensors[i], e);
    fj_gguf_close(g);
    return ok;
}

static bool cut_off(const fj_imatrix *im, const fj_rd *r, uint32_t i, uint32_t n, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT,
                   "%s: neither GGUF nor the older kind of importance matrix: entry %u of %u does "
                   "not fit behind byte %zu",
                   im->name, i, n, fj_rd_pos(r));
}

static bool read_entry(fj_imatrix *im, fj_rd *r, uint32_t i, uint32_t n, fj_err *e) {
    enum { LONGEST = 1024 };
    uint32_t len = fj_rd_u32(r);
    const uint8_t *name = len && len <= LONGEST ? fj_rd_take(r, len) : NULL;
    float calls = (float)fj_rd_u32(r);
    uint64_t values = fj_rd_u32(r);
    const uint8_t *p = name && values ? fj_rd_take(r, values * sizeof(float)) : NULL;
    if (!p || memchr(name, 0, len)) return cut_off(im, r, i, n, e);
    if (calls == 0) calls = 1; /* then they are means already */
    float *sums = fj_try_alloc(values, sizeof *sums, "an importance matrix", e);
    if (!sums) return false;
    for (uint64_t k = 0; k < values; k++) {
        uint32_t bits = (uint32_t)fj_le(p + 4 * k, 4);
        memcpy(&sums[k], &bits, sizeof bits);
    }
    char *own = fj_strndup((const char *)name, len);
    bool ok = fj_imatrix_put(im, n, own, 1, (int64_t)values, sums, &calls, e);
    free(own);
    free(sums);
    return ok;
}

static bool read_old(fj_imatrix *im, const void *bytes, size_t size, fj_err *e) {
    fj_rd r = fj_rd_init(bytes, size);
    uint32_t n = fj_rd_u32(&r);
    if (!n || n > fj_rd_left(&r) / 17) return cut_off(im, &r, 0, n, e); /* of the smallest entry */
    for (uint32_t i = 0; i < n; i++)
        if (!read_entry(im, &r, i, n, e)) return false;
    if (fj_rd_left(&r)) im->chunks = fj_rd_u32(&r);
    if (fj_rd_left(&r)) {
        uint32_t len = fj_rd_u32(&r);
        const uint8_t *set = fj_rd_take(&r, len);
        if (set && len) fj_imatrix_add_set(im, (const char *)set, len);
    }
    if (r.bad || fj_rd_left(&r))
        return fj_fail(e, FJ_EFORMAT,
                       "%s: byte %zu: expected the number of chunks and the data's name", im->name,
                       fj_rd_pos(&r));
    return true;
}

fj_imatrix *fj_imatrix_open_mem(const void *bytes, size_t n, const char *name, fj_err *e) {
    fj_imatrix *im = fj_imatrix_empty(name);
    bool gguf = n >= 4 && !memcmp(bytes, "GGUF", 4);
    bool ok = (gguf ? read_gguf : read_old)(im, bytes, n, e);
    if (ok && !im->n) ok = fj_fail(e, FJ_EFORMAT, "%s: an importance matrix of nothing", name);
    if (ok) return im;
    fj_imatrix_close(im);
    return NULL;
}

fj_imatrix *fj_imatrix_open(const char *path, fj_err *e) {
    fj_mapped m;
    if (!fj_map_file(path, &m, e)) return NULL;
    fj_imatrix *im = fj_imatrix_open_mem(m.p, m.n, path, e);
    fj_unmap_file(&m);
    return im;
}
