#include "models/reader.h"

#include "base/fs.h"
#include "ops/gemm.h"

static void add_dims(fj_str *s, int n, const int64_t *dim) {
    for (int i = 0; i < n; i++) fj_str_addf(s, "%s%lld", i ? " x " : "", (long long)dim[i]);
}

static bool shaped(const fj_model *m, const char *name, int n, const int64_t *dim, int n_want,
                   const int64_t *dim_want, fj_err *e) {
    bool same = n == n_want;
    for (int i = 0; i < n_want && same; i++) same = dim[i] == dim_want[i];
    if (!same) {
        fj_str found = { 0 }, want = { 0 };
        add_dims(&found, n, dim);
        add_dims(&want, n_want, dim_want);
        fj_fail(e, FJ_EFORMAT, "%s: tensor %s is %s, the hyper-parameters say %s", m->path, name,
                found.s, want.s);
        fj_str_free(&found);
        fj_str_free(&want);
    }
    return same;
}

/* *from has blocks, or nothing when the part is no pair of tensors. */
static bool find_mx(const fj_model *m, const fj_source *s, fj_part_from *from, fj_arena *names,
                    fj_err *e) {
    fj_part *p = &from->part;
    if (s->gguf || fj_st_find(s->st, p->name)) return true;
    const char *name = fj_arena_printf(names, "%s_blocks", p->name),
               *scale = fj_arena_printf(names, "%s_scales", p->name);
    const fj_st_tensor *blocks = fj_st_find(s->st, name), *scales = fj_st_find(s->st, scale);
    int64_t dim[4] = { p->mats, p->rows, p->cols / 32, 16 };
    if (!blocks) return true;
    if (!scales)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s is missing beside %s", m->path, scale, name);
    if (!shaped(m, name, blocks->n_dims, blocks->dim, 4, dim, e) ||
        !shaped(m, scale, scales->n_dims, scales->dim, 3, dim, e))
        return false;
    if (strcmp(blocks->type_name, "U8") || strcmp(scales->type_name, "U8") || p->cols % 32)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s is not MXFP4: wanted U8 in blocks of 32",
                       m->path, name);
    from->blocks = blocks->data;
    from->scales = scales->data;
    from->t = (fj_source_tensor){ .name = p->name, .dtype = FJ_MXFP4 };
    p->turned = false;
    return true;
}

/* from->quant: [out, in], whatever way the model's own tensor is turned. */
static bool find_quantised(const fj_model *m, const fj_source *s, fj_part_from *from, fj_err *e) {
    fj_part *p = &from->part;
    fj_hfq_weight *q = &from->quant;
    if (!fj_source_quantised(s, p->name, q, e)) return false;
    if (q->kind == FJ_HFQ_PLAIN) return true;
    int64_t found[2] = { q->rows, q->cols }, want[3] = { p->mats, p->rows, p->cols };
    int extra = p->mats > 1;
    if (!shaped(m, p->name, 2, found, 2 + extra, want + 1 - extra, e)) return false;
    from->t = (fj_source_tensor){ .name = p->name, .dtype = q->dtype };
    p->turned = false;
    return true;
}

static bool find(const fj_model *m, const fj_source *s, fj_part_from *from, fj_arena *names,
                 fj_err *e) {
    const fj_part *p = &from->part;
    fj_source_tensor *t = &from->t;
    if (!find_mx(m, s, from, names, e) || !find_quantised(m, s, from, e)) return false;
    if (from->blocks || from->quant.kind != FJ_HFQ_PLAIN) return true;
    if (!fj_source_tensor_get(s, p->name, t, e) ||
        !shaped(m, p->name, t->n_dims, t->dim, p->n_dims, p->dim, e))
        return false;
    if (t->dtype == FJ_I32)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s holds whole numbers", m->path, p->name);
    if (p->turned && fj_dtype_get(t->dtype)->block > 1)
        return fj_fail(e, FJ_EUNSUP, "%s: tensor %s, stored [in, out], is in blocks of %s", m->path,
                       p->name, fj_dtype_get(t->dtype)->name);
    return true;
}

bool fj_reader_open(fj_reader *r, const fj_model *m, const fj_source *s, const fj_weight *w,
                    fj_err *e) {
    *r = (fj_reader){ .m = m, .w = w, .type = w->dtype };
    if (!s && w->buf) return true;
    if (!s) s = m->source;
    fj_part *parts;
    r->n = fj_parts_of(m, w, s->gguf, &r->mem, &parts);
    r->from = fj_arena_alloc(&r->mem, (size_t)r->n * sizeof *r->from);
    for (int i = 0; i < r->n; i++) {
        fj_part_from *f = &r->from[i];
        *f = (fj_part_from){ .part = parts[i] };
        if (!find(m, s, f, &r->mem, e)) {
            fj_reader_close(r);
            return false;
        }
        r->type = i == 0 || r->type == f->t.dtype ? f->t.dtype : FJ_F32;
    }
    if (r->n == 1 && fj_part_is_whole(w, &r->from[0].part)) r->whole = r->from[0].t.data;
    return true;
}

/* n values of type t to f32; the device's kernels where it has them. */
static void widen(const fj_model *m, fj_dtype t, const void *src, float *dst, int64_t n) {
    const fj_kern *k = m->dev->kern;
    if (k && t == FJ_BF16) k->bf16_to_f32(dst, src, n);
    else if (k && t == FJ_F16) k->f16_to_f32(dst, src, n);
    else fj_dequant_row(t, src, dst, n);
}

/* Rows [r0, r1) of matrix i of a part, to their places in out; `cols` of each, out's first row is row
 * `base` of the weight. */
static void part_rows(const fj_reader *r, const fj_part_from *f, int64_t i, int64_t r0, int64_t r1,
                      fj_dtype as, int64_t base, uint8_t *out, float *row) {
    const fj_part *p = &f->part;
    const fj_source_tensor *t = &f->t;
    size_t from = (size_t)fj_dtype_size(t->dtype, 1, p->cols),
           to = (size_t)fj_dtype_size(as, 1, p->cols);
    for (int64_t x = r0; x < r1; x++) {
        int64_t at = i * p->rows + (p->pairs ? fj_gguf_row(r->m, r->w, x) : x);
        uint8_t *dst = out + (size_t)(fj_part_row(r->m, r->w, p, i, x) - base) * to;
        const uint8_t *src = t->data ? t->data + (size_t)at * from : NULL;
        if (f->blocks) {
            uint8_t *mx = as == FJ_MXFP4 ? dst : (uint8_t *)(row + p->cols);
            fj_mxfp4_from_blocks(mx, f->blocks + at * (p->cols / 2),
                                 f->scales + at * (p->cols / 32), 1, p->cols);
            if (as == FJ_MXFP4) continue;
            src = mx;
        }
        FJ_ASSERT(src);
        if (t->dtype == as && !p->less_one) {
            memcpy(dst, src, from);
            continue;
        }
        float *wide = as == FJ_F32 ? (float *)(void *)dst : row;
        widen(r->m, t->dtype, src, wide, p->cols);
        for (int64_t k = 0; p->less_one && k < p->cols; k++) wide[k] += 1;
        if (as != FJ_F32) fj_quant_row(as, wide, dst, p->cols);
    }
}

/* The same of a quantised weight, up to SOME rows at a time: codes of several rows lie in one word.  Its
 * values in forja are those of t->dtype, whatever they are read for.  row [(SOME + 1) * cols] */
enum { SOME = 32 };
static bool quantised_rows(const fj_reader *r, const fj_part_from *f, int64_t i, int64_t r0,
                           int64_t r1, fj_dtype as, int64_t base, uint8_t *out, float *row,
                           fj_err *e) {
    const fj_part *p = &f->part;
    fj_dtype type = f->t.dtype;
    size_t to = (size_t)fj_dtype_size(as, 1, p->cols);
    for (int64_t x = r0; x < r1; x += SOME) {
        int64_t n = FJ_MIN(SOME, r1 - x);
        if (type != FJ_NF4) fj_hfq_rows(&f->quant, x, n, row);
        for (int64_t k = 0; k < n; k++) {
            uint8_t *dst = out + (size_t)(fj_part_row(r->m, r->w, p, i, x + k) - base) * to;
            float *wide = row + k * p->cols;
            void *own = as == type && !p->less_one ? (void *)dst : row + SOME * p->cols;
            if (type != FJ_NF4) fj_quant_row(type, wide, own, p->cols);
            else if (!fj_hfq_rows_nf4(&f->quant, x + k, 1, own, e))
                return fj_wrap(e, "%s", r->m->path);
            if (own == dst) continue;
            fj_dequant_row(type, own, wide, p->cols);
            for (int64_t c = 0; p->less_one && c < p->cols; c++) wide[c] += 1;
            fj_quant_row(as, wide, dst, p->cols);
        }
    }
    return true;
}

/* The same of a tensor [cols, rows]: n rows are n neighbours of each of its rows.  wide [n * cols + n] */
static void turned_rows(const fj_reader *r, const fj_part_from *f, int64_t i, int64_t r0,
                        int64_t r1, fj_dtype as, int64_t base, uint8_t *out, float *wide) {
    const fj_part *p = &f->part;
    int64_t n = r1 - r0;
    size_t one = (size_t)fj_dtype_size(f->t.dtype, 1, 1),
           to = (size_t)fj_dtype_size(as, 1, p->cols);
    float *line = wide + n * p->cols;
    for (int64_t k = 0; k < p->cols; k++) {
        const uint8_t *src = f->t.data + (size_t)((i * p->cols + k) * p->rows + r0) * one;
        widen(r->m, f->t.dtype, src, line, n);
        for (int64_t x = 0; x < n; x++) wide[x * p->cols + k] = line[x] + (p->less_one ? 1 : 0);
    }
    for (int64_t x = 0; x < n; x++)
        fj_quant_row(as, wide + x * p->cols,
                     out + (size_t)(fj_part_row(r->m, r->w, p, i, r0 + x) - base) * to, p->cols);
}

/* Rows of memory, up to 32 at a time: so many lie together in a panel. */
static bool from_memory(const fj_reader *r, fj_dtype as, int64_t from, int64_t n, void *out,
                        fj_err *e) {
    const fj_weight *w = r->w;
    const fj_model *m = r->m;
    int64_t each = w->rows / w->mats;
    size_t row = (size_t)fj_dtype_size(w->dtype, 1, w->cols),
           to = (size_t)fj_dtype_size(as, 1, w->cols);
    if (!w->panels && as == w->dtype)
        return m->dev->fn->download(w->buf, w->off + (size_t)from * row, out, (size_t)n * row, e);
    float *wide = fj_try_alloc((size_t)w->cols * 64, sizeof *wide, "rows of a weight", e);
    if (!wide) return false;
    void *raw = wide + w->cols * 32;
    bool ok = true;
    for (int64_t x = from, some; ok && x < from + n; x += some) {
        some = FJ_MIN(32 - x % each % 32, FJ_MIN(from + n - x, each - x % each));
        char *dst = (char *)out + (size_t)(x - from) * to;
        float *f = as == FJ_F32 ? (float *)(void *)dst : wide;
        if (w->panels) {
            const char *mat = (const char *)w->buf->ptr + w->off +
                              x / each * fj_wmat_packed_bytes(w->dtype, each, w->cols);
            if (as == w->dtype) {
                fj_wmat_unpack(as, each, w->cols, mat, x % each, some, dst);
                continue;
            }
            fj_wmat p = { .dtype = w->dtype, .panels = true, .data = mat, .n = each, .k = w->cols };
            fj_wmat_block(m->dev->kern, &p, x % each, some, 0, w->cols, f, w->cols);
        } else {
            ok = m->dev->fn->download(w->buf, w->off + (size_t)x * row, raw, (size_t)some * row, e);
            for (int64_t i = 0; ok && i < some; i++)
                widen(m, w->dtype, (char *)raw + (size_t)i * row, f + i * w->cols, w->cols);
        }
        for (int64_t i = 0; ok && as != FJ_F32 && i < some; i++)
            fj_quant_row(as, f + i * w->cols, dst + (size_t)i * to, w->cols);
    }
    free(wide);
    return ok;
}

bool fj_reader_rows(const fj_reader *r, fj_dtype as, int64_t from, int64_t n, void *out,
                    fj_err *e) {
    const fj_weight *w = r->w;
    FJ_ASSERT(from >= 0 && n >= 0 && from + n <= w->rows);
    if (!r->from) return from_memory(r, as, from, n, out, e);
    /* Parts of a vector count its values as rows. */
    bool vector = w->row->rows == FJ_ONE;
    int64_t per = vector ? w->cols : 1, a = from * per, b = (from + n) * per;
    float *scratch = NULL;
    size_t cap = 0;
    bool ok = true;
    for (int i = 0; i < r->n; i++) {
        const fj_part_from *f = &r->from[i];
        const fj_part *p = &f->part;
        for (int64_t k = 0; k < p->mats; k++) {
            int64_t first = fj_part_row(r->m, w, p, k, 0);
            /* rows of the part within [a, b) */
            int64_t lo = a > first ? (a - first + p->step - 1) / p->step : 0;
            int64_t hi = b > first ? FJ_MIN(p->rows, (b - first + p->step - 1) / p->step) : 0;
            if (lo >= hi) continue;
            bool quantised = f->quant.kind != FJ_HFQ_PLAIN;
            FJ_GROW(scratch,
                    (size_t)(p->turned   ? (hi - lo) * (p->cols + 1)
                             : quantised ? (SOME + 1) * p->cols
                                         : 2 * p->cols + 1),
                    cap);
            if (quantised) {
                ok = ok && quantised_rows(r, f, k, lo, hi, as, a, out, scratch, e);
                continue;
            }
            (p->turned ? turned_rows : part_rows)(r, f, k, lo, hi, as, a, out, scratch);
        }
    }
    free(scratch);
    return ok;
}

void fj_reader_done(const fj_reader *r) {
    for (int i = 0; r->from && i < r->n; i++) {
        const fj_part_from *f = &r->from[i];
        int64_t rows = f->part.mats * f->part.rows, cols = f->part.cols;
        if (f->t.data && !f->t.copied)
            fj_map_forget(f->t.data, (size_t)fj_dtype_size(f->t.dtype, rows, cols));
        const fj_st_tensor *q = f->quant.kind != FJ_HFQ_PLAIN ? f->quant.q : NULL;
        if (q && !q->copied) fj_map_forget(q->data, (size_t)q->bytes);
        if (f->blocks) fj_map_forget(f->blocks, (size_t)(rows * (cols / 2)));
        if (f->scales) fj_map_forget(f->scales, (size_t)(rows * (cols / 32)));
    }
}

void fj_reader_close(fj_reader *r) {
    fj_arena_free(&r->mem);
    *r = (fj_reader){ 0 };
}
