/* hfquant_bnb.c - weights of bitsandbytes: NF4 and FP4 in blocks of all values, LLM.int8 in rows. */
#include "formats/hf.h"
#include "formats/hfquant_in.h"

#include <math.h>

enum { MAX_STATE = 1 << 16 }; /* bytes of quant_state; real ones have about 200 */

/* bitsandbytes/functional.py, get_4bit_type("fp4"): 12 times the values, by the order of the codes. */
#define TWELFTH(x) ((x) / 12.0f)
static const float fp4_code[16] = {
    0,           TWELFTH(0.0625f), TWELFTH(8),  TWELFTH(12),       TWELFTH(4),  TWELFTH(6),
    TWELFTH(2),  TWELFTH(3),       0,           TWELFTH(-0.0625f), TWELFTH(-8), TWELFTH(-12),
    TWELFTH(-4), TWELFTH(-6),      TWELFTH(-2), TWELFTH(-3),
};

typedef struct state {
    bool nf4;
    int64_t rows, cols, block, nested_block;
    double offset;
} state;

static bool whole(const json_t *j, int64_t *v) {
    if (!json_is_integer(j) || json_integer_value(j) < 1) return false;
    *v = json_integer_value(j);
    return true;
}

static bool read_state(const char *name, const json_t *j, state *s, fj_err *e) {
    static const char *const known[] = { "quant_type",   "blocksize",        "dtype",
                                         "shape",        "nested_blocksize", "nested_dtype",
                                         "nested_offset" };
    const char *key, *type = NULL, *dtype = NULL, *nested = "float32";
    const json_t *v, *shape = json_object_get(j, "shape");
    if (!json_is_object(j))
        return fj_fail(e, FJ_EFORMAT, "%s is %s, expected an object", name, fj_json_kind(j));
    json_object_foreach((json_t *)(uintptr_t)j, key, v) {
        bool ok = false;
        for (size_t i = 0; i < FJ_LEN(known) && !ok; i++) ok = !strcmp(known[i], key);
        if (!ok)
            return fj_fail(e, FJ_EUNSUP,
                           "%s: key \"%s\" is not known; it may change the mathematics", name, key);
    }
    if (!fj_js_string(j, name, "quant_type", &type, e) ||
        !fj_js_string(j, name, "dtype", &dtype, e) ||
        !fj_js_string_opt(j, name, "nested_dtype", &nested, e) ||
        !fj_js_float_opt(j, name, "nested_offset", &s->offset, e))
        return false;
    s->nf4 = !strcmp(type, "nf4");
    if ((!s->nf4 && strcmp(type, "fp4") != 0) || strcmp(nested, "float32") != 0)
        return fj_fail(e, FJ_EUNSUP,
                       "%s: quant_type %s with nested_dtype %s is not supported, nf4 and fp4 with "
                       "float32 are",
                       name, type, nested);
    if (json_array_size(shape) != 2 || !whole(json_array_get(shape, 0), &s->rows) ||
        !whole(json_array_get(shape, 1), &s->cols))
        return fj_fail(e, FJ_EFORMAT, "%s: shape is not two numbers from 1 on", name);
    s->nested_block = 256;
    v = fj_js_find(j, "nested_blocksize");
    if (!whole(json_object_get(j, "blocksize"), &s->block) || (v && !whole(v, &s->nested_block)))
        return fj_fail(e, FJ_EFORMAT, "%s: blocksize or nested_blocksize is not a number from 1 on",
                       name);
    return true;
}

/* Two tensors could say it; exactly one does. */
static bool find_state(const fj_st *st, const char *x, state *s, fj_err *e) {
    static const char *const ends[] = { ".weight.quant_state.bitsandbytes__nf4",
                                        ".weight.quant_state.bitsandbytes__fp4" };
    const fj_st_tensor *t[2] = { fj_hfq_beside(st, x, ends[0]), fj_hfq_beside(st, x, ends[1]) };
    if (!t[0] == !t[1])
        return fj_fail(e, FJ_EFORMAT, "%s: %s has %s of %s%s and ...fp4, expected one of them",
                       st->name, x, t[0] ? "both" : "none", x, ends[0]);
    int at = t[0] ? 0 : 1;
    t[0] = fj_hfq_need(st, x, ends[at], "U8", -1, NULL, e);
    if (!t[0]) return false;
    fj_arena mem = { 0 };
    const char *name = fj_arena_printf(&mem, "%s: tensor %s", st->name, t[0]->name);
    json_t *j = NULL;
    bool ok =
        t[0]->bytes <= MAX_STATE || fj_fail(e, FJ_EFORMAT, "%s has %lld bytes, at most %d are read",
                                            name, (long long)t[0]->bytes, MAX_STATE);
    ok = ok && (j = fj_json_parse((const char *)t[0]->data, (size_t)t[0]->bytes, name, e));
    *s = (state){ 0 };
    ok = ok && read_state(name, j, s, e);
    if (ok && s->nf4 != (at == 0))
        ok = fj_fail(e, FJ_EFORMAT, "%s says that it is %s", name, s->nf4 ? "nf4" : "fp4");
    json_decref(j);
    fj_arena_free(&mem);
    return ok;
}

/* The reference has the codes in its kernels and does not read this tensor: it must be the same. */
static bool same_code(const fj_st *st, const char *x, const float *code, fj_err *e) {
    const fj_st_tensor *t = fj_hfq_need(st, x, ".weight.quant_map", "F32", 1, (int64_t[]){ 16 }, e);
    if (!t) return false;
    for (int i = 0; i < 16; i++) {
        float v = ((const float *)t->data)[i];
        if (!(fabsf(v - code[i]) <= 1e-6f))
            return fj_fail(e, FJ_EUNSUP, "%s: tensor %s has %g for code %d, expected %g", st->name,
                           t->name, (double)v, i, (double)code[i]);
    }
    return true;
}

static bool find_4bit(const fj_st *st, const char *x, const fj_st_tensor *t, fj_hfq_weight *w,
                      fj_err *e) {
    state s = { 0 };
    int64_t n;
    if (!find_state(st, x, &s, e)) return false;
    FJ_ASSERT(s.block > 0 && s.nested_block > 0);
    if (__builtin_mul_overflow(s.rows, s.cols, &n) || fj_hfq_ceil(n, 2) != t->bytes)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s has %lld bytes, its quant_state says %lld x %lld values of "
                       "four bits",
                       st->name, t->name, (long long)t->bytes, (long long)s.rows,
                       (long long)s.cols);
    int64_t blocks = fj_hfq_ceil(n, s.block), groups = fj_hfq_ceil(blocks, s.nested_block);
    const float *code = s.nf4 ? fj_nf4_code : fp4_code;
    bool nested = fj_hfq_beside(st, x, ".weight.nested_absmax") != NULL;
    const fj_st_tensor *absmax =
        fj_hfq_need(st, x, ".weight.absmax", nested ? "U8" : "F32", 1, &blocks, e);
    if (!absmax || !same_code(st, x, code, e)) return false;
    if (nested) {
        const fj_st_tensor *a = fj_hfq_need(st, x, ".weight.nested_absmax", "F32", 1, &groups, e);
        const fj_st_tensor *map =
            a ? fj_hfq_need(st, x, ".weight.nested_quant_map", "F32", 1, (int64_t[]){ 256 }, e)
              : NULL;
        if (!map) return false;
        w->nested = (const float *)a->data;
        w->nested_code = (const float *)map->data;
    }
    w->kind = FJ_HFQ_BNB4;
    w->rows = s.rows;
    w->cols = s.cols;
    w->q = t;
    w->scale = absmax;
    w->code = code;
    w->block = s.block;
    w->nested_block = s.nested_block;
    w->offset = (float)s.offset;
    if (s.nf4 && s.block == 64 && s.cols % 64 == 0) w->dtype = FJ_NF4;
    return true;
}

static bool find_int8(const fj_st *st, const char *x, const fj_st_tensor *t, fj_hfq_weight *w,
                      fj_err *e) {
    if (!fj_hfq_matrix(st, t, e)) return false;
    w->scale = fj_hfq_need(st, x, ".SCB", "F32", 1, &t->dim[0], e);
    if (!w->scale) return false;
    const fj_st_tensor *format = fj_hfq_beside(st, x, ".weight_format");
    if (format && (strcmp(format->type_name, "U8") != 0 || format->bytes != 1 || format->data[0]))
        return fj_fail(e, FJ_EUNSUP,
                       "%s: tensor %s is not 0: only weights in rows are supported, not those "
                       "ordered for a GPU; save the model with bitsandbytes 0.45 or later",
                       st->name, format->name);
    w->kind = FJ_HFQ_INT8;
    w->rows = t->dim[0];
    w->cols = t->dim[1];
    w->q = t;
    return true;
}

bool fj_hfq_find_bnb(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w, fj_err *e) {
    (void)q;
    const fj_st_tensor *t = fj_hfq_beside(st, x, ".weight");
    if (!t) return true;
    bool four = fj_hfq_beside(st, x, ".weight.absmax") ||
                fj_hfq_beside(st, x, ".weight.quant_state.bitsandbytes__nf4") ||
                fj_hfq_beside(st, x, ".weight.quant_state.bitsandbytes__fp4");
    if (four || !strcmp(t->type_name, "U8")) return find_4bit(st, x, t, w, e);
    return strcmp(t->type_name, "I8") != 0 || find_int8(st, x, t, w, e);
}

/* ---- values -------------------------------------------------------------------------------------- */
static float absmax_of(const fj_hfq_weight *w, int64_t block) {
    if (!w->nested) return ((const float *)w->scale->data)[block];
    float scaled = w->nested_code[w->scale->data[block]] * w->nested[block / w->nested_block];
    return scaled + w->offset;
}

void fj_hfq_rows_bnb4(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    int64_t i = row0 * w->cols, end = (row0 + n) * w->cols;
    while (i < end) { /* blocks run on from row to row */
        int64_t to = FJ_MIN((i / w->block + 1) * w->block, end);
        float a = absmax_of(w, i / w->block);
        for (; i < to; i++) {
            uint8_t two = w->q->data[i / 2];
            *out++ = w->code[i % 2 ? two & 15 : two >> 4] * a;
        }
    }
}

bool fj_hfq_rows_nf4(const fj_hfq_weight *w, int64_t row0, int64_t n, fj_nf4 *out, fj_err *e) {
    FJ_ASSERT(w->kind == FJ_HFQ_BNB4 && w->dtype == FJ_NF4);
    FJ_ASSERT(row0 >= 0 && n >= 0 && row0 <= w->rows - n);
    int64_t per = w->cols / 64;
    for (int64_t b = row0 * per; b < (row0 + n) * per; b++, out++) {
        float a = absmax_of(w, b);
        out->absmax = fj_f32_to_f16(a);
        if (isfinite(a) && !isfinite(fj_f16_to_f32(out->absmax)))
            return fj_fail(e, FJ_EUNSUP,
                           "tensor %s: the absmax of block %lld, %g, is too large for "
                           "16 bits",
                           w->q->name, (long long)b, (double)a);
        memcpy(out->q, w->q->data + b * 32, 32);
    }
    return true;
}

void fj_hfq_rows_int8(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    static const float part = 1.0f / 127;
    for (int64_t r = row0; r < row0 + n; r++) {
        float s = ((const float *)w->scale->data)[r];
        const int8_t *q = (const int8_t *)w->q->data + r * w->cols;
        for (int64_t i = 0; i < w->cols; i++) {
            float scaled = (float)q[i] * s;
            *out++ = scaled * part;
        }
    }
}
