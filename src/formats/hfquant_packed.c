/* hfquant_packed.c - codes of two, four or eight bits in words of 32: GPTQ, AWQ, compressed-tensors. */
#include "formats/hfquant_in.h"

/* AutoAWQ's order: nibble k of a word is column order[k] of its eight, so column c is nibble awq[c]. */
static const uint8_t awq_nibble[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };

bool fj_hfq_find_packed(const fj_hfq *q, const fj_st *st, const char *x, fj_hfq_weight *w,
                        fj_err *e) {
    const fj_st_tensor *t = fj_hfq_beside(st, x, ".qweight");
    if (!t) return true;
    if (fj_hfq_beside(st, x, ".weight"))
        return fj_fail(e, FJ_EFORMAT, "%s: there are both %s.weight and %s", st->name, x, t->name);
    if (!fj_hfq_need(st, x, ".qweight", "I32", -1, NULL, e) || !fj_hfq_matrix(st, t, e))
        return false;
    bool awq = q->method == FJ_HFQ_M_AWQ;
    int64_t per = 32 / q->bits;
    w->rows = awq ? t->dim[1] * per : t->dim[1];
    w->cols = awq ? t->dim[0] : t->dim[0] * per;
    w->block = q->group < 0 ? w->cols : q->group;
    int64_t groups = fj_hfq_ceil(w->cols, w->block), words = w->rows / per;
    if (w->rows % per)
        return fj_fail(e, FJ_EUNSUP,
                       "%s: tensor %s has %lld columns, expected whole words of %lld "
                       "zero points",
                       st->name, t->name, (long long)w->rows, (long long)per);
    w->scale = fj_hfq_need(st, x, ".scales", "F16|BF16|F32", 2, (int64_t[]){ groups, w->rows }, e);
    w->zero =
        w->scale ? fj_hfq_need(st, x, ".qzeros", "I32", 2, (int64_t[]){ groups, words }, e) : NULL;
    if (!w->zero) return false;
    if (!awq && (q->ordered || fj_hfq_beside(st, x, ".g_idx"))) {
        const fj_st_tensor *g = fj_hfq_need(st, x, ".g_idx", "I32", 1, &w->cols, e);
        if (!g) return false;
        w->group_of = (const int32_t *)g->data;
        for (int64_t i = 0; i < w->cols; i++)
            if (w->group_of[i] < 0 || w->group_of[i] >= groups)
                return fj_fail(e, FJ_EFORMAT,
                               "%s: tensor %s: value %lld is %d, there are %lld groups", st->name,
                               g->name, (long long)i, w->group_of[i], (long long)groups);
    }
    w->q = t;
    w->bits = q->bits;
    w->kind = awq ? FJ_HFQ_AWQ : FJ_HFQ_GPTQ;
    /* One for each code of the word, with the carry of the writer that took it away. */
    if (q->first) w->zero_add = q->bits == 2 ? 0x55555555 : q->bits == 4 ? 0x11111111 : 0x01010101;
    return true;
}

enum { R = 32, C = 32 };
typedef struct lane {
    float scale[R];
    int32_t zero[R], shift[R];
    int64_t word[R]; /* AWQ: with shift, where the codes of row k are */
} lane;

/* The codes of one column lie side by side in the file, values of one row in memory: a tile of both is made
 * here, m rows from r0 on and columns from c0 on. */
static inline void tile(const fj_hfq_weight *w, lane *l, int64_t *group, int64_t r0, int64_t c0,
                        int columns, float to[C][R], const int m, const bool awq) {
    const uint32_t *q = (const uint32_t *)w->q->data, *zero = (const uint32_t *)w->zero->data;
    const int bits = w->bits, per = 32 / bits;
    const uint32_t mask = (1u << bits) - 1;
    const int64_t words = w->rows / per;
    for (int c = 0; c < columns; c++) {
        const int64_t i = c0 + c, g = w->group_of ? w->group_of[i] : i / w->block;
        for (int k = 0; k < m && g != *group; k++) {
            const int64_t r = r0 + k;
            const int at = awq ? awq_nibble[r % 8] : (int)(r % per);
            l->scale[k] = fj_hfq_scale(w->scale, g * w->rows + r);
            l->zero[k] = (int32_t)((zero[g * words + r / per] + w->zero_add) >> at * bits & mask);
        }
        *group = g;
        const uint32_t *line = awq ? q + i * words : q + i / per * w->rows + r0;
        const int shift = (int)(i % per) * bits;
        for (int k = 0; k < m; k++) {
            const uint32_t code = awq ? line[l->word[k]] >> l->shift[k] : line[k] >> shift;
            to[c][k] = l->scale[k] * (float)((int32_t)(code & mask) - l->zero[k]);
        }
    }
}

static inline void tiles(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out,
                         const bool awq) {
    float t[C][R];
    lane l = { 0 };
    for (int64_t a = 0; a < n; a += R) {
        const int m = (int)FJ_MIN(n - a, R);
        int64_t group = -1;
        for (int k = 0; awq && k < m; k++) {
            l.word[k] = (row0 + a + k) / 8;
            l.shift[k] = 4 * awq_nibble[(row0 + a + k) % 8];
        }
        for (int64_t c0 = 0; c0 < w->cols; c0 += C) {
            const int columns = (int)FJ_MIN(w->cols - c0, C);
            if (m == R) tile(w, &l, &group, row0 + a, c0, columns, t, R, awq);
            else tile(w, &l, &group, row0 + a, c0, columns, t, m, awq);
            for (int k = 0; k < m; k++)
                for (int c = 0; c < columns; c++) out[(a + k) * w->cols + c0 + c] = t[c][k];
        }
    }
}

void fj_hfq_rows_gptq(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    tiles(w, row0, n, out, false);
}

void fj_hfq_rows_awq(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    tiles(w, row0, n, out, true);
}

/* Codes run along the row, less half of their range; zero points run down a column of groups. */
void fj_hfq_rows_packed(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    const int bits = w->bits, per = 32 / bits, half = 1 << (bits - 1);
    const uint32_t mask = (1u << bits) - 1;
    const int64_t words = fj_hfq_ceil(w->cols, per);
    for (int64_t r = row0; r < row0 + n; r++) {
        const uint32_t *q = (const uint32_t *)w->q->data + r * words;
        for (int64_t i = 0; i < w->cols;) {
            const int64_t g = i / w->block, to = FJ_MIN((g + 1) * w->block, w->cols);
            const float s = fj_hfq_scale(w->scale, r / w->block_rows * w->scale_cols + g);
            int z = half;
            if (w->zero) {
                const uint32_t word =
                    ((const uint32_t *)w->zero->data)[r / per * w->scale_cols + g];
                z = (int)(word >> r % per * bits & mask);
            }
            for (; i < to; i++)
                *out++ = (float)((int)(q[i / per] >> i % per * bits & mask) - z) * s;
        }
    }
}
