#include "formats/gguf_in.h"
#include "formats/rd.h"

#include <inttypes.h>

enum { MAX_NAME = 4096, MAX_ALIGN = 1 << 24 };

/* ---- types ----------------------------------------------------------------------------------- */
static const struct {
    const char *name;
    int bytes;
} types[FJ_GGUF_TYPES] = {
    [FJ_GGUF_U8] = { "u8", 1 },     [FJ_GGUF_I8] = { "i8", 1 },     [FJ_GGUF_U16] = { "u16", 2 },
    [FJ_GGUF_I16] = { "i16", 2 },   [FJ_GGUF_U32] = { "u32", 4 },   [FJ_GGUF_I32] = { "i32", 4 },
    [FJ_GGUF_F32] = { "f32", 4 },   [FJ_GGUF_BOOL] = { "bool", 1 }, [FJ_GGUF_STR] = { "string", 0 },
    [FJ_GGUF_ARR] = { "array", 0 }, [FJ_GGUF_U64] = { "u64", 8 },   [FJ_GGUF_I64] = { "i64", 8 },
    [FJ_GGUF_F64] = { "f64", 8 },
};

const char *fj_gguf_type_name(fj_gguf_type t) {
    return (unsigned)t < FJ_GGUF_TYPES ? types[t].name : "unknown type";
}

/* ggml/include/ggml.h (enum ggml_type) and ggml/src/ggml-common.h (sizes of blocks). */
static const struct {
    const char *name;
    int block, bytes;
} ggml_types[] = {
    [0] = { "F32", 1, 4 },         [1] = { "F16", 1, 2 },         [2] = { "Q4_0", 32, 18 },
    [3] = { "Q4_1", 32, 20 },      [6] = { "Q5_0", 32, 22 },      [7] = { "Q5_1", 32, 24 },
    [8] = { "Q8_0", 32, 34 },      [9] = { "Q8_1", 32, 36 },      [10] = { "Q2_K", 256, 84 },
    [11] = { "Q3_K", 256, 110 },   [12] = { "Q4_K", 256, 144 },   [13] = { "Q5_K", 256, 176 },
    [14] = { "Q6_K", 256, 210 },   [15] = { "Q8_K", 256, 292 },   [16] = { "IQ2_XXS", 256, 66 },
    [17] = { "IQ2_XS", 256, 74 },  [18] = { "IQ3_XXS", 256, 98 }, [19] = { "IQ1_S", 256, 50 },
    [20] = { "IQ4_NL", 32, 18 },   [21] = { "IQ3_S", 256, 110 },  [22] = { "IQ2_S", 256, 82 },
    [23] = { "IQ4_XS", 256, 136 }, [24] = { "I8", 1, 1 },         [25] = { "I16", 1, 2 },
    [26] = { "I32", 1, 4 },        [27] = { "I64", 1, 8 },        [28] = { "F64", 1, 8 },
    [29] = { "IQ1_M", 256, 56 },   [30] = { "BF16", 1, 2 },       [34] = { "TQ1_0", 256, 54 },
    [35] = { "TQ2_0", 256, 66 },   [39] = { "MXFP4", 32, 17 },    [40] = { "NVFP4", 64, 36 },
};

const char *fj_ggml_type_info(uint32_t id, int *block, int *bytes) {
    if (id >= FJ_LEN(ggml_types) || !ggml_types[id].name) return NULL;
    *block = ggml_types[id].block;
    *bytes = ggml_types[id].bytes;
    return ggml_types[id].name;
}

/* ---- metadata -------------------------------------------------------------------------------- */
static bool cut_short(const fj_rd *r, const char *file, const char *what, uint64_t i, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT, "%s: the file ends inside %s %" PRIu64 " (at byte %zu of %zu)",
                   file, what, i, fj_rd_pos(r), (size_t)(r->end - r->start));
}

/* A name that will be a C string: neither empty nor long nor with a 0 byte. */
static const char *read_name(fj_rd *r, fj_arena *mem, const char *file, const char *what,
                             uint64_t i, fj_err *e) {
    uint64_t n = fj_rd_u64(r);
    if (!r->bad && (n == 0 || n > MAX_NAME)) {
        fj_fail(e, FJ_EFORMAT,
                "%s: the name of %s %" PRIu64 " has %" PRIu64 " bytes, expected 1..%d", file, what,
                i, n, MAX_NAME);
        return NULL;
    }
    const uint8_t *p = fj_rd_take(r, n);
    if (!p) {
        cut_short(r, file, what, i, e);
        return NULL;
    }
    if (memchr(p, 0, n)) {
        fj_fail(e, FJ_EFORMAT, "%s: the name of %s %" PRIu64 " holds a 0 byte", file, what, i);
        return NULL;
    }
    return fj_arena_strndup(mem, (const char *)p, n);
}

static bool read_value(fj_rd *r, fj_arena *mem, const char *file, fj_gguf_kv *kv, uint64_t i,
                       fj_err *e) {
    uint32_t t = fj_rd_u32(r);
    uint64_t n = 1;
    if (t == FJ_GGUF_ARR) {
        kv->array = true;
        t = fj_rd_u32(r);
        n = fj_rd_u64(r);
    }
    if (r->bad) return cut_short(r, file, "key", i, e);
    if (t >= FJ_GGUF_TYPES || t == FJ_GGUF_ARR)
        return fj_fail(e, FJ_EFORMAT, "%s: key %s has %s %s", file, kv->key,
                       kv->array ? "an array of" : "a value of",
                       t == FJ_GGUF_ARR ? "arrays, which is not supported" : "an unknown type");
    kv->type = (fj_gguf_type)t;
    size_t each = t == FJ_GGUF_STR ? 8 : (size_t)types[t].bytes;
    if (n > fj_rd_left(r) / each)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: key %s claims %" PRIu64 " values of %s, the file has %zu "
                       "bytes left",
                       file, kv->key, n, types[t].name, fj_rd_left(r));
    kv->n = (size_t)n;
    if (t != FJ_GGUF_STR) {
        const uint8_t *p = fj_rd_take(r, n * each);
        uint8_t *copy = fj_arena_alloc(mem, kv->n * each);
        if (n) memcpy(copy, p, kv->n * each);
        for (size_t k = 0; t == FJ_GGUF_BOOL && k < kv->n; k++)
            if (copy[k] > 1)
                return fj_fail(e, FJ_EFORMAT, "%s: key %s: a bool has the value %d", file, kv->key,
                               copy[k]);
        kv->data = copy;
        return true;
    }
    fj_gguf_str *s = fj_arena_alloc(mem, kv->n * sizeof *s);
    for (size_t k = 0; k < kv->n; k++) {
        uint64_t len = fj_rd_u64(r);
        const uint8_t *p = fj_rd_take(r, len);
        if (!p)
            return fj_fail(e, FJ_EFORMAT, "%s: key %s: string %zu runs over the end of the file",
                           file, kv->key, k);
        s[k].n = (size_t)len;
        s[k].s = kv->array ? (const char *)p : fj_arena_strndup(mem, (const char *)p, s[k].n);
    }
    kv->str = s;
    return true;
}

/* ---- tensors --------------------------------------------------------------------------------- */
static bool read_tensor(fj_rd *r, fj_arena *mem, const char *file, fj_gguf_tensor *t, uint64_t i,
                        fj_err *e) {
    t->name = read_name(r, mem, file, "tensor", i, e);
    if (!t->name) return false;
    uint32_t nd = fj_rd_u32(r);
    if (!r->bad && nd > 4)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %u dimensions, at most 4 are possible",
                       file, t->name, nd);
    for (int k = 0; k < 4; k++) {
        uint64_t d = k < (int)nd ? fj_rd_u64(r) : 1;
        if (!r->bad && (d == 0 || d > INT64_MAX))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s: dimension %d is %" PRIu64, file, t->name,
                           k, d);
        t->dim[k] = (int64_t)d;
    }
    t->n_dims = (int)nd;
    t->ggml_type = fj_rd_u32(r);
    t->offset = fj_rd_u64(r);
    if (r->bad) return cut_short(r, file, "tensor", i, e);
    t->usable = fj_dtype_from_gguf(t->ggml_type, &t->dtype);

    int64_t count = 1;
    for (int k = 0; k < 4; k++)
        if (__builtin_mul_overflow(count, t->dim[k], &count))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s: the number of values overflows", file,
                           t->name);
    int block, bytes;
    const char *type = fj_ggml_type_info(t->ggml_type, &block, &bytes);
    t->type_name = type ? type : fj_arena_printf(mem, "type %" PRIu32, t->ggml_type);
    t->bytes = -1;
    if (!type) return true;
    if (t->dim[0] % block)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s: rows of %" PRId64 " values are not whole blocks "
                       "of %d (%s)",
                       file, t->name, t->dim[0], block, type);
    if (__builtin_mul_overflow(count / block, (int64_t)bytes, &t->bytes))
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s: the size in bytes overflows", file, t->name);
    return true;
}

static int by_offset(const void *a, const void *b) {
    const fj_gguf_tensor *x = *(const fj_gguf_tensor *const *)a,
                         *y = *(const fj_gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Every tensor inside the file, none over another. */
static bool place(struct fj_gguf_own *o, fj_gguf_tensor *t, const uint8_t *base, fj_err *e) {
    const fj_gguf *g = &o->pub;
    uint64_t room = g->file_bytes > g->data_start ? g->file_bytes - g->data_start : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        uint64_t bytes = t[i].bytes < 0 ? 0 : (uint64_t)t[i].bytes;
        if (t[i].offset % g->alignment)
            return fj_fail(e, FJ_EFORMAT,
                           "%s: tensor %s starts at %" PRIu64 ", which is no multiple of "
                           "the alignment %u",
                           g->name, t[i].name, t[i].offset, g->alignment);
        if (t[i].offset > room || bytes > room - t[i].offset)
            return fj_fail(e, FJ_EFORMAT,
                           "%s: tensor %s (%" PRIu64 " bytes at %" PRIu64 ") lies outside "
                           "the file, whose data section has %" PRIu64
                           " bytes: is the file cut short?",
                           g->name, t[i].name, bytes, t[i].offset, room);
        if (t[i].bytes >= 0) t[i].data = base + g->data_start + t[i].offset;
    }
    const fj_gguf_tensor **s = fj_alloc(g->n_tensors * sizeof *s);
    for (size_t i = 0; i < g->n_tensors; i++) s[i] = &t[i];
    qsort(s, g->n_tensors, sizeof *s, by_offset);
    bool ok = true;
    for (size_t i = 1; ok && i < g->n_tensors; i++) {
        /* A format of unknown size holds one byte at least. */
        uint64_t bytes = s[i - 1]->bytes < 0 ? 1 : (uint64_t)s[i - 1]->bytes;
        if (s[i]->offset - s[i - 1]->offset < bytes)
            ok = fj_fail(e, FJ_EFORMAT, "%s: tensors %s and %s overlap", g->name, s[i - 1]->name,
                         s[i]->name);
    }
    free(s);
    return ok;
}

/* ---- open ------------------------------------------------------------------------------------ */
static bool parse(struct fj_gguf_own *o, const void *bytes, size_t n, fj_err *e) {
    fj_gguf *g = &o->pub;
    fj_rd r = fj_rd_init(bytes, n);
    const uint8_t *magic = fj_rd_take(&r, 4);
    if (!magic || memcmp(magic, "GGUF", 4))
        return fj_fail(e, FJ_EFORMAT, "%s is not a GGUF file: it does not start with \"GGUF\"",
                       g->name);
    g->version = fj_rd_u32(&r);
    uint64_t n_tensors = fj_rd_u64(&r), n_kv = fj_rd_u64(&r);
    if (r.bad)
        return fj_fail(e, FJ_EFORMAT, "%s: the file ends inside the header (%zu bytes)", g->name,
                       n);
    if (g->version == 0x03000000 || g->version == 0x02000000)
        return fj_fail(e, FJ_EUNSUP,
                       "%s is a big-endian GGUF file, only little-endian ones are read", g->name);
    if (g->version != 2 && g->version != 3)
        return fj_fail(e, FJ_EUNSUP, "%s: GGUF version %u, expected 2 or 3", g->name, g->version);
    /* the smallest key record has 13 bytes (length, type, u8), a tensor record 24 */
    if (n_kv > fj_rd_left(&r) / 13 || n_tensors > fj_rd_left(&r) / 24)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: the header claims %" PRIu64 " keys and %" PRIu64 " tensors, "
                       "the file has %zu bytes",
                       g->name, n_kv, n_tensors, n);

    fj_gguf_kv *kv = fj_arena_alloc(&o->mem, (size_t)n_kv * sizeof *kv);
    g->kv = kv;
    g->n_kv = (size_t)n_kv;
    for (uint64_t i = 0; i < n_kv; i++) {
        kv[i].key = read_name(&r, &o->mem, g->name, "key", i, e);
        if (!kv[i].key || !read_value(&r, &o->mem, g->name, &kv[i], i, e)) return false;
        bool fresh;
        *fj_map_put(&o->keys, kv[i].key, strlen(kv[i].key), &fresh) = (int64_t)i;
        if (!fresh) return fj_fail(e, FJ_EFORMAT, "%s: key %s is there twice", g->name, kv[i].key);
    }
    g->alignment = 32;
    if (!fj_gguf_u32_opt(g, "general.alignment", &g->alignment, e)) return false;
    if (g->alignment < 8 || g->alignment > MAX_ALIGN || (g->alignment & (g->alignment - 1)))
        return fj_fail(e, FJ_EFORMAT,
                       "%s: general.alignment is %u, expected a power of two from 8 to %d", g->name,
                       g->alignment, MAX_ALIGN);

    fj_gguf_tensor *t = fj_arena_alloc(&o->mem, (size_t)n_tensors * sizeof *t);
    g->tensors = t;
    g->n_tensors = (size_t)n_tensors;
    for (uint64_t i = 0; i < n_tensors; i++) {
        if (!read_tensor(&r, &o->mem, g->name, &t[i], i, e)) return false;
        bool fresh;
        *fj_map_put(&o->tensors, t[i].name, strlen(t[i].name), &fresh) = (int64_t)i;
        if (!fresh)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s is there twice", g->name, t[i].name);
    }
    uint64_t pos = fj_rd_pos(&r), a = g->alignment;
    g->data_start = (pos + a - 1) / a * a;
    return place(o, t, bytes, e) && fj_gguf_split_keys(o, e);
}

static struct fj_gguf_own *fresh_own(const char *name) {
    struct fj_gguf_own *o = fj_zalloc(sizeof *o);
    const char **files = fj_arena_alloc(&o->mem, sizeof *files);
    o->pub.own = o;
    o->pub.name = files[0] = fj_arena_strdup(&o->mem, name);
    o->pub.files = files;
    o->pub.n_files = 1;
    return o;
}

struct fj_gguf_own *fj_gguf_part_open(const char *path, fj_err *e) {
    struct fj_gguf_own *o = fresh_own(path);
    if (fj_map_file(path, &o->map, e)) {
        o->pub.file_bytes = o->map.n;
        if (parse(o, o->map.p, o->map.n, e)) return o;
    }
    fj_gguf_close(&o->pub);
    return NULL;
}

fj_gguf *fj_gguf_open(const char *path, fj_err *e) {
    struct fj_gguf_own *o = fj_gguf_part_open(path, e);
    return o ? fj_gguf_split_join(o, e) : NULL;
}

fj_gguf *fj_gguf_open_mem(const void *bytes, size_t n, const char *name, fj_err *e) {
    struct fj_gguf_own *o = fresh_own(name);
    o->pub.file_bytes = n;
    if (parse(o, bytes, n, e)) {
        if (o->count < 2) return &o->pub;
        fj_fail(e, FJ_EUNSUP,
                "%s: it is part %" PRIu32 " of %" PRIu32
                " of a split model, which is opened by the name of its file",
                name, o->no + 1, o->count);
    }
    fj_gguf_close(&o->pub);
    return NULL;
}

void fj_gguf_close(fj_gguf *g) {
    if (!g) return;
    struct fj_gguf_own *o = g->own;
    for (size_t i = 0; i < o->n_parts; i++) fj_gguf_close(&o->parts[i]->pub);
    fj_unmap_file(&o->map);
    fj_map_free(&o->keys);
    fj_map_free(&o->tensors);
    fj_arena_free(&o->mem);
    free(o);
}

/* ---- getters --------------------------------------------------------------------------------- */
const fj_gguf_kv *fj_gguf_find(const fj_gguf *g, const char *key) {
    const int64_t *i = fj_map_get(&g->own->keys, key, strlen(key));
    return i ? &g->kv[*i] : NULL;
}

const fj_gguf_tensor *fj_gguf_tensor_find(const fj_gguf *g, const char *name) {
    const int64_t *i = fj_map_get(&g->own->tensors, name, strlen(name));
    return i ? &g->tensors[*i] : NULL;
}

const fj_gguf_tensor *fj_gguf_tensor_get(const fj_gguf *g, const char *name, fj_err *e) {
    const fj_gguf_tensor *t = fj_gguf_tensor_find(g, name);
    if (!t) {
        fj_fail(e, FJ_EFORMAT, "%s: tensor %s is missing", g->name, name);
        return NULL;
    }
    if (t->usable) return t;
    fj_fail(e, FJ_EUNSUP,
            "%s: tensor %s has the format %s, forja computes with F32, F16, BF16, Q4_0 to Q8_0, "
            "Q2_K to Q6_K, IQ1 to IQ4, TQ1_0, TQ2_0 and MXFP4",
            g->name, name, t->type_name);
    return NULL;
}

static bool wrong(const fj_gguf *g, const fj_gguf_kv *kv, const char *expected, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT, "%s: key %s: expected %s, found %s%s", g->name, kv->key, expected,
                   kv->array ? "an array of " : "", types[kv->type].name);
}

static bool missing(const fj_gguf *g, const char *key, const char *expected, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT, "%s: key %s (%s) is missing", g->name, key, expected);
}

/* An integer of any width as sign and magnitude. */
static bool integer(const fj_gguf_kv *kv, bool *neg, uint64_t *v) {
    int64_t s = 0;
    *neg = false;
    if (kv->array) return false;
    switch (kv->type) {
    case FJ_GGUF_U8: *v = *(const uint8_t *)kv->data; return true;
    case FJ_GGUF_U16: *v = *(const uint16_t *)kv->data; return true;
    case FJ_GGUF_U32: *v = *(const uint32_t *)kv->data; return true;
    case FJ_GGUF_U64: *v = *(const uint64_t *)kv->data; return true;
    case FJ_GGUF_I8: s = *(const int8_t *)kv->data; break;
    case FJ_GGUF_I16: s = *(const int16_t *)kv->data; break;
    case FJ_GGUF_I32: s = *(const int32_t *)kv->data; break;
    case FJ_GGUF_I64: s = *(const int64_t *)kv->data; break;
    default: return false;
    }
    *neg = s < 0;
    *v = s < 0 ? 0 - (uint64_t)s : (uint64_t)s;
    return true;
}

bool fj_gguf_u64_opt(const fj_gguf *g, const char *key, uint64_t *v, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    bool neg;
    uint64_t u;
    if (!kv) return true;
    if (!integer(kv, &neg, &u)) return wrong(g, kv, "an integer", e);
    if (neg) return fj_fail(e, FJ_EFORMAT, "%s: key %s is negative", g->name, key);
    *v = u;
    return true;
}

bool fj_gguf_u32_opt(const fj_gguf *g, const char *key, uint32_t *v, fj_err *e) {
    uint64_t u = *v;
    if (!fj_gguf_u64_opt(g, key, &u, e)) return false;
    if (u > UINT32_MAX)
        return fj_fail(e, FJ_EFORMAT, "%s: key %s is %" PRIu64 ", expected a u32", g->name, key, u);
    *v = (uint32_t)u;
    return true;
}

bool fj_gguf_i64_opt(const fj_gguf *g, const char *key, int64_t *v, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    bool neg;
    uint64_t u;
    if (!kv) return true;
    if (!integer(kv, &neg, &u)) return wrong(g, kv, "an integer", e);
    if (!neg && u > INT64_MAX)
        return fj_fail(e, FJ_EFORMAT, "%s: key %s is too large", g->name, key);
    *v = (int64_t)(neg ? 0 - u : u);
    return true;
}

bool fj_gguf_f32_opt(const fj_gguf *g, const char *key, float *v, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    if (!kv) return true;
    if (kv->array || (kv->type != FJ_GGUF_F32 && kv->type != FJ_GGUF_F64))
        return wrong(g, kv, "f32", e);
    *v = kv->type == FJ_GGUF_F32 ? *(const float *)kv->data : (float)*(const double *)kv->data;
    return true;
}

bool fj_gguf_bool_opt(const fj_gguf *g, const char *key, bool *v, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    if (!kv) return true;
    if (kv->array || kv->type != FJ_GGUF_BOOL) return wrong(g, kv, "bool", e);
    *v = *(const uint8_t *)kv->data;
    return true;
}

bool fj_gguf_string_opt(const fj_gguf *g, const char *key, const char **v, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    if (!kv) return true;
    if (kv->array || kv->type != FJ_GGUF_STR) return wrong(g, kv, "string", e);
    if (memchr(kv->str->s, 0, kv->str->n))
        return fj_fail(e, FJ_EFORMAT, "%s: key %s: the string holds a 0 byte", g->name, key);
    *v = kv->str->s;
    return true;
}

#define REQUIRED(suffix, ctype, text)                                                              \
    bool fj_gguf_##suffix(const fj_gguf *g, const char *key, ctype *v, fj_err *e) {                \
        *v = 0;                                                                                    \
        if (!fj_gguf_find(g, key)) return missing(g, key, text, e);                                \
        return fj_gguf_##suffix##_opt(g, key, v, e);                                               \
    }
REQUIRED(u32, uint32_t, "u32")
REQUIRED(u64, uint64_t, "u64")
REQUIRED(i64, int64_t, "i64")
REQUIRED(f32, float, "f32")
REQUIRED(bool, bool, "bool")
REQUIRED(string, const char *, "string")

static const fj_gguf_kv *array_of(const fj_gguf *g, const char *key, fj_gguf_type a, fj_gguf_type b,
                                  const char *expected, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    if (!kv) missing(g, key, expected, e);
    else if (kv->array && (kv->type == a || kv->type == b)) return kv;
    else wrong(g, kv, expected, e);
    return NULL;
}

const fj_gguf_str *fj_gguf_strings(const fj_gguf *g, const char *key, size_t *n, fj_err *e) {
    const fj_gguf_kv *kv = array_of(g, key, FJ_GGUF_STR, FJ_GGUF_STR, "an array of strings", e);
    *n = kv ? kv->n : 0;
    return kv ? kv->str : NULL;
}

const int32_t *fj_gguf_i32s(const fj_gguf *g, const char *key, size_t *n, fj_err *e) {
    const fj_gguf_kv *kv = array_of(g, key, FJ_GGUF_I32, FJ_GGUF_U32, "an array of i32", e);
    *n = kv ? kv->n : 0;
    return kv ? kv->data : NULL;
}

const float *fj_gguf_f32s(const fj_gguf *g, const char *key, size_t *n, fj_err *e) {
    const fj_gguf_kv *kv = array_of(g, key, FJ_GGUF_F32, FJ_GGUF_F32, "an array of f32", e);
    *n = kv ? kv->n : 0;
    return kv ? kv->data : NULL;
}
