/* hfquant_scaled.c - one byte a value (FP8 or whole numbers) with scales of blocks, rows or all; and
 * compressed-tensors' words of codes, which have their scales in the same places. */
#include "formats/hfquant_in.h"

#define SCALES "F32|BF16|F16|F8_E8M0"

/* Where the scales of a weight of w->rows x w->cols lie. */
static bool place(const fj_hfq *q, const fj_st *st, const fj_st_tensor *s, fj_hfq_weight *w,
                  fj_err *e) {
    int64_t want[2] = { w->rows, 1 };
    w->scale = s;
    w->block_rows = 1;
    w->block = w->cols;
    if (q->block[0]) {
        w->block_rows = q->block[0];
        w->block = q->block[1];
        want[0] = fj_hfq_ceil(w->rows, w->block_rows);
    } else if (q->group > 0) w->block = q->group;
    want[1] = w->scale_cols = fj_hfq_ceil(w->cols, w->block);
    bool plain = !q->block[0] && q->group <= 0; /* config leaves it to the shape */
    if (s->n_dims == 2 && s->dim[0] == want[0] && s->dim[1] == want[1]) return true;
    if (plain && s->n_dims == 1 && s->dim[0] == w->rows) return true;
    if (plain && fj_hfq_count(s) == 1) {
        w->block_rows = w->rows;
        return true;
    }
    fj_str found = { 0 };
    for (int i = 0; i < s->n_dims; i++)
        fj_str_addf(&found, "%s%lld", i ? ", " : "", (long long)s->dim[i]);
    fj_fail(e, FJ_EFORMAT,
            "%s: tensor %s is [%s], expected [%lld, %lld]%s for a weight of %lld x %lld", st->name,
            s->name, found.s ? found.s : "", (long long)want[0], (long long)want[1],
            plain ? " or one value" : "", (long long)w->rows, (long long)w->cols);
    fj_str_free(&found);
    return false;
}

static const fj_st_tensor *scale_of(const fj_hfq *q, const fj_st *st, const char *x, fj_err *e) {
    const char *name = ".weight_scale";
    if (q->method == FJ_HFQ_M_FP8) {
        bool both = fj_hfq_beside(st, x, name) != NULL;
        if (fj_hfq_beside(st, x, ".weight_scale_inv") || !both) {
            name = ".weight_scale_inv";
            if (both) {
                fj_fail(e, FJ_EFORMAT, "%s: %s has both weight_scale and weight_scale_inv",
                        st->name, x);
                return NULL;
            }
        }
    }
    return fj_hfq_need(st, x, name, SCALES, -1, NULL, e);
}

/* Bytes are symmetric about zero. */
static bool no_zero_points(const fj_st *st, const char *x, fj_err *e) {
    const fj_st_tensor *z = fj_hfq_beside(st, x, ".weight_zero_point");
    for (int64_t i = 0; z && i < z->bytes; i++)
        if (z->data[i])
            return fj_fail(e, FJ_EUNSUP,
                           "%s: tensor %s is not all zero: zero points of whole bytes "
                           "are not supported",
                           st->name, z->name);
    return true;
}

static bool find_words(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w,
                       fj_err *e) {
    const fj_st_tensor *t = fj_hfq_need(st, x, ".weight_packed", "I32", -1, NULL, e);
    const fj_st_tensor *shape =
        t ? fj_hfq_need(st, x, ".weight_shape", "I64|I32", 1, (int64_t[]){ 2 }, e) : NULL;
    if (!shape || !fj_hfq_matrix(st, t, e)) return false;
    int64_t size[2], per = 32 / q->bits;
    for (int i = 0; i < 2; i++)
        size[i] = !strcmp(shape->type_name, "I64") ? ((const int64_t *)shape->data)[i]
                                                   : ((const int32_t *)shape->data)[i];
    if (size[0] != t->dim[0] || size[1] < 1 || fj_hfq_ceil(size[1], per) != t->dim[1])
        return fj_fail(e, FJ_EFORMAT,
                       "%s: tensor %s says %lld x %lld, %s has %lld rows of %lld words", st->name,
                       shape->name, (long long)size[0], (long long)size[1], t->name,
                       (long long)t->dim[0], (long long)t->dim[1]);
    w->rows = size[0];
    w->cols = size[1];
    w->bits = q->bits;
    w->q = t;
    w->kind = FJ_HFQ_PACKED;
    const fj_st_tensor *s = scale_of(q, st, x, e);
    if (!s || !place(q, st, s, w, e)) return false;
    if (!q->asymmetric) return no_zero_points(st, x, e);
    if (w->block_rows != 1)
        return fj_fail(e, FJ_EUNSUP,
                       "%s: %s has zero points and one scale, expected scales of rows "
                       "or groups",
                       st->name, x);
    int64_t dim[2] = { fj_hfq_ceil(w->rows, per), w->scale_cols };
    w->zero = fj_hfq_need(st, x, ".weight_zero_point", "I32", 2, dim, e);
    return w->zero != NULL;
}

bool fj_hfq_find_scaled(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w,
                        fj_err *e) {
    const fj_st_tensor *t = fj_hfq_beside(st, x, ".weight");
    if (q->packed && fj_hfq_beside(st, x, ".weight_packed")) {
        if (t)
            return fj_fail(e, FJ_EFORMAT, "%s: there are both %s and %s.weight_packed", st->name,
                           t->name, x);
        return find_words(q, st, x, w, e);
    }
    if (!t || t->usable) return true; /* not there, or not quantised */
    if (!q->byte || strcmp(t->type_name, q->byte) != 0)
        return fj_fail(e, FJ_EUNSUP, "%s: tensor %s is %s, quantization_config says %s", st->name,
                       t->name, t->type_name, q->byte ? q->byte : "words of codes");
    if (!fj_hfq_matrix(st, t, e)) return false;
    w->rows = t->dim[0];
    w->cols = t->dim[1];
    w->q = t;
    w->kind = FJ_HFQ_SCALED;
    const fj_st_tensor *s = scale_of(q, st, x, e);
    return s && place(q, st, s, w, e) && no_zero_points(st, x, e);
}

/* E4M3 without infinities (OCP 8-bit floating point): 448 is the largest, 0x7f and 0xff are NaN. */
static float e4m3(uint8_t b) {
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)(b & 128) << 24 };
    uint32_t exp = b >> 3 & 15, man = b & 7;
    if ((b & 127) == 127) v.u |= 0x7fc00000;
    else if (exp) v.u |= (exp + 120) << 23 | man << 20;
    else v.f = (b & 128 ? -1.0f : 1.0f) * (float)man * 0x1p-9f;
    return v.f;
}

void fj_hfq_rows_scaled(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    float value[256];
    bool float8 = !strcmp(w->q->type_name, "F8_E4M3");
    for (int i = 0; i < 256; i++) value[i] = float8 ? e4m3((uint8_t)i) : (float)(int8_t)i;
    for (int64_t r = row0; r < row0 + n; r++) {
        const uint8_t *q = w->q->data + r * w->cols;
        for (int64_t i = 0; i < w->cols;) {
            int64_t g = i / w->block, to = FJ_MIN((g + 1) * w->block, w->cols);
            float s = fj_hfq_scale(w->scale, r / w->block_rows * w->scale_cols + g);
            for (; i < to; i++) *out++ = value[q[i]] * s;
        }
    }
}
