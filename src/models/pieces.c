/* pieces.c - the tensors of a file that is written, from rows of weights: read, merged, quantised by the
 * team a few rows a thread at a time. */
#include "base/fs.h"
#include "kernels/quant.h"
#include "models/reader.h"
#include "models/save.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    BATCH = FJ_MERGE_ROWS, /* rows of a thread at once */
    OUT = 1 << 20,         /* bytes of the file at once: the kernel finds them in the cache */
    MIN_ROWS = 64,
};

/* ---- the list ------------------------------------------------------------------------------------ */
/* Norms, biases and what does not come in whole blocks keep a plain format. */
static fj_dtype type_for(const fj_weight *w, fj_dtype source, bool gguf, fj_dtype wanted) {
    bool small = source == FJ_F16 || source == FJ_BF16;
    if (fj_weight_is_vector(w)) return gguf || !small || wanted == FJ_F32 ? FJ_F32 : source;
    if (w->cols % fj_dtype_get(wanted)->block) return FJ_F16;
    return wanted;
}

bool fj_pieces_open(fj_pieces *p, const fj_model *m, bool gguf, const fj_save_opts *o, fj_err *e) {
    *p = (fj_pieces){ .m = m, .o = o, .kern = m->dev->kern };
    if (!p->kern) {
        if (!fj_kern_init(&p->own, NULL, e)) return false;
        p->kern = &p->own;
    }
    size_t cap = 0;
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        fj_reader r;
        fj_part *parts;
        if (!fj_reader_open(&r, m, NULL, w, e)) return false;
        fj_dtype source = r.type;
        fj_reader_close(&r);
        int n = fj_parts_of(m, w, gguf, &p->mem, &parts);
        FJ_GROW(p->v, (size_t)(p->n + n), cap);
        for (int k = 0; k < n; k++) {
            fj_piece *x = &p->v[p->n++];
            *x = (fj_piece){ .part = parts[k],
                             .w = i,
                             .s = { .name = parts[k].name,
                                    .w = w,
                                    .from = source,
                                    .rows = parts[k].rows,
                                    .cols = parts[k].cols,
                                    .mats = parts[k].mats,
                                    .merged = o->merge && fj_lora_find(o->merge, i),
                                    .rms = NAN,
                                    .rmse = NAN } };
            x->s.to = type_for(w, source, gguf, o->type);
            if (o->pick && gguf && !fj_weight_is_vector(w) && !o->pick(o->ctx, &x->s, e))
                return false;
            if (w->cols % fj_dtype_get(x->s.to)->block && !fj_weight_is_vector(w)) x->s.to = FJ_F16;
        }
    }
    return !o->merge || fj_merger_open(&p->merger, o->merge, e);
}

void fj_pieces_close(fj_pieces *p) {
    free(p->v);
    fj_merger_close(&p->merger);
    free(p->out);
    fj_arena_free(&p->mem);
}

/* ---- rows ---------------------------------------------------------------------------------------- */
typedef struct job {
    fj_pieces *p;
    fj_piece *x;
    fj_reader from;
    const fj_lora_pair *pair; /* or NULL */
    const float *importance;
    int64_t mat, r0, r1,
        at0;      /* rows [r0, r1) of matrix mat of the part; row at0 of the file is out's first */
    float *whole; /* turned: the matrix as the weight has it, [rows, cols] */
    fj_err err;
    _Atomic bool failed;
    _Atomic int64_t next; /* row that no thread has taken yet */
    double *sums;         /* [rows of the file at hand][2]: squares of values and of errors */
    size_t sums_cap;
    double squares, errors; /* of all rows so far, added up in their order */
} job;

/* Rows of the weight [row, row + n), one matrix, as f32 with the adapter's share. */
static bool values(job *j, int64_t row, int64_t n, float *wide, fj_err *e) {
    if (!fj_reader_rows(&j->from, FJ_F32, row, n, wide, e)) return false;
    if (j->pair) fj_merger_rows(&j->p->merger, row, n, wide);
    return true;
}

/* One row of the file from its values. */
static void narrow(job *j, const float *row, int64_t cols, void *dst, double sums[2],
                   float *again) {
    fj_dtype to = j->x->s.to;
    const fj_kern *k = j->p->kern;
    if (to == FJ_BF16) k->f32_to_bf16(dst, row, cols);
    else if (to == FJ_F16) k->f32_to_f16(dst, row, cols);
    else
        fj_quant_rows(k, to, row, j->importance ? j->importance + j->mat * cols : NULL, dst, 1,
                      cols);
    if (fj_dtype_get(to)->block == 1) return;
    fj_dequant_row(to, dst, again, cols);
    double squares = 0, errors = 0;
    for (int64_t i = 0; i < cols; i++) {
        double off = (double)row[i] - again[i];
        squares += (double)row[i] * row[i];
        errors += off * off;
    }
    sums[0] = squares;
    sums[1] = errors;
}

static void room_for_sums(job *j, int64_t rows) {
    FJ_GROW(j->sums, (size_t)rows * 2, j->sums_cap);
    memset(j->sums, 0, (size_t)rows * 2 * sizeof *j->sums);
}

static void add_sums(job *j, int64_t rows) {
    for (int64_t i = 0; i < rows; i++) {
        j->squares += j->sums[2 * i];
        j->errors += j->sums[2 * i + 1];
    }
}

static void fail_once(job *j, const fj_err *e) {
    if (!atomic_exchange(&j->failed, true)) j->err = *e;
}

/* Rows [r0, r1) in batches, each taken by the thread that comes first. */
static void some_rows(void *ctx, int ith, int nth) {
    job *j = ctx;
    const fj_piece *x = j->x;
    const fj_part *t = &x->part;
    const fj_model *m = j->p->m;
    (void)ith, (void)nth;
    size_t one = (size_t)fj_dtype_size(x->s.to, 1, t->cols);
    bool copy = j->from.type == x->s.to && !j->pair && !t->less_one;
    float *wide = fj_alloc((size_t)((BATCH + 1) * t->cols) * sizeof *wide);
    fj_err e = { 0 };
    /* One thread may be late: its core writes the bytes of before. */
    while (!j->failed) {
        int64_t most = t->step == 1 ? BATCH : 1, r = atomic_fetch_add(&j->next, most);
        if (r >= j->r1) break;
        int64_t n = FJ_MIN(most, j->r1 - r), row = fj_part_row(m, x->s.w, t, j->mat, r);
        uint8_t *dst = j->p->out;
        if (copy && !t->pairs) {
            if (!fj_reader_rows(&j->from, x->s.to, row, n, dst + (size_t)(r - j->at0) * one, &e))
                fail_once(j, &e);
            continue;
        }
        if (!copy && !values(j, row, n, wide, &e)) fail_once(j, &e);
        for (int64_t i = 0; i < n && !j->failed; i++) {
            int64_t at = (t->pairs ? fj_gguf_row(m, x->s.w, r + i) : r + i) - j->at0;
            float *v = wide + i * t->cols;
            if (copy) {
                if (!fj_reader_rows(&j->from, x->s.to, row + i, 1, dst + (size_t)at * one, &e))
                    fail_once(j, &e);
                continue;
            }
            for (int64_t k = 0; t->less_one && k < t->cols; k++) v[k] -= 1;
            narrow(j, v, t->cols, dst + (size_t)at * one, j->sums + 2 * at, wide + BATCH * t->cols);
        }
    }
    free(wide);
}

/* The same of a tensor that the file has turned: its row is a column of the matrix. */
static void some_columns(void *ctx, int ith, int nth) {
    job *j = ctx;
    const fj_part *t = &j->x->part;
    int64_t from = t->cols * ith / nth, to = t->cols * (ith + 1) / nth;
    size_t one = (size_t)fj_dtype_size(j->x->s.to, 1, t->rows);
    float *row = fj_alloc((size_t)(2 * t->rows) * sizeof *row);
    for (int64_t c = from; c < to; c++) {
        for (int64_t r = 0; r < t->rows; r++)
            row[r] = j->whole[r * t->cols + c] - (t->less_one ? 1 : 0);
        narrow(j, row, t->rows, j->p->out + (size_t)c * one, j->sums + 2 * c, row + t->rows);
    }
    free(row);
}

static void whole_rows(void *ctx, int ith, int nth) {
    job *j = ctx;
    const fj_part *t = &j->x->part;
    int64_t from = t->rows * ith / nth, to = t->rows * (ith + 1) / nth;
    fj_err e = { 0 };
    for (int64_t r = from, n; r < to && !j->failed; r += n) {
        n = t->step == 1 ? FJ_MIN(BATCH, to - r) : 1;
        int64_t row = fj_part_row(j->p->m, j->x->s.w, t, j->mat, r);
        if (!values(j, row, n, j->whole + r * t->cols, &e)) fail_once(j, &e);
    }
}

/* A vector is one row of the weight, and values of it are rows of the part. */
static bool vector(job *j, void (*sink)(void *ctx, const void *bytes, size_t n), void *ctx,
                   fj_err *e) {
    const fj_piece *x = j->x;
    const fj_part *t = &x->part;
    const fj_weight *w = x->s.w;
    float *all = fj_alloc((size_t)(2 * w->cols + t->mats * t->rows) * sizeof *all);
    float *mine = all + w->cols;
    size_t bytes = (size_t)fj_dtype_size(x->s.to, 1, t->rows);
    FJ_GROW(j->p->out, bytes, j->p->out_cap);
    bool ok = fj_reader_rows(&j->from, FJ_F32, 0, 1, all, e);
    for (int64_t r = 0; ok && r < t->rows; r++)
        mine[t->pairs ? fj_gguf_row(j->p->m, w, r) : r] =
            all[fj_part_row(j->p->m, w, t, 0, r)] - (t->less_one ? 1 : 0);
    if (ok) {
        room_for_sums(j, 1);
        narrow(j, mine, t->rows, j->p->out, j->sums, mine + t->rows);
        sink(ctx, j->p->out, bytes);
    }
    free(all);
    return ok;
}

/* Bytes on their way to the file while the team makes the next ones; one lot at a time. */
typedef struct writer {
    pthread_t thread;
    bool going;
    void (*sink)(void *ctx, const void *bytes, size_t n);
    void *ctx;
    const void *bytes;
    size_t n;
} writer;

static void *write_them(void *ctx) {
    const writer *w = ctx;
    w->sink(w->ctx, w->bytes, w->n);
    return NULL;
}

static void wait_for(writer *w) {
    if (w->going) pthread_join(w->thread, NULL);
    w->going = false;
}

static void hand_over(writer *w, const void *bytes, size_t n) {
    wait_for(w);
    w->bytes = bytes;
    w->n = n;
    w->going = pthread_create(&w->thread, NULL, write_them, w) == 0;
    if (!w->going) w->sink(w->ctx, bytes, n);
}

static bool matrix(job *j, int64_t at_mat, void (*sink)(void *ctx, const void *bytes, size_t n),
                   void *ctx, fj_err *e) {
    fj_pieces *p = j->p;
    const fj_part *t = &j->x->part;
    fj_dev *d = p->m->dev;
    j->mat = at_mat;
    if (t->turned) {
        size_t bytes = (size_t)fj_dtype_size(j->x->s.to, t->cols, t->rows);
        j->whole = fj_try_alloc((size_t)(t->rows * t->cols), sizeof(float), "a turned matrix", e);
        if (!j->whole) return false;
        FJ_GROW(p->out, bytes, p->out_cap);
        fj_dev_team_run(d, whole_rows, j);
        room_for_sums(j, t->cols);
        if (!j->failed) fj_dev_team_run(d, some_columns, j);
        add_sums(j, t->cols);
        free(j->whole);
        if (!j->failed) sink(ctx, p->out, bytes);
        return !j->failed;
    }
    size_t one = (size_t)fj_dtype_size(j->x->s.to, 1, t->cols);
    int64_t unit = t->pairs ? p->m->hp.head_dim : MIN_ROWS;
    int64_t step = FJ_MAX(unit, (int64_t)(OUT / one) / unit * unit);
    size_t lot = one * (size_t)FJ_MIN(step, t->rows);
    writer w = { .sink = sink, .ctx = ctx };
    FJ_GROW(p->out, 2 * lot, p->out_cap);
    uint8_t *both[2] = { p->out, p->out + lot };
    for (j->r0 = 0; j->r0 < t->rows && !j->failed; j->r0 = j->r1) {
        j->r1 = FJ_MIN(t->rows, j->r0 + step);
        j->at0 = j->r0;
        j->next = j->r0;
        room_for_sums(j, j->r1 - j->r0);
        fj_dev_team_run(d, some_rows, j);
        add_sums(j, j->r1 - j->r0);
        if (!j->failed) hand_over(&w, p->out, one * (size_t)(j->r1 - j->r0));
        p->out = p->out == both[0] ? both[1] : both[0];
        fj_reader_done(&j->from);
    }
    wait_for(&w);
    p->out = both[0];
    return !j->failed;
}

bool fj_piece_write(fj_pieces *p, fj_piece *x, void (*sink)(void *ctx, const void *bytes, size_t n),
                    void *ctx, fj_err *e) {
    job j = { .p = p, .x = x };
    if (!fj_reader_open(&j.from, p->m, NULL, x->s.w, e)) return false;
    if (x->s.merged) {
        j.pair = fj_lora_find(p->o->merge, x->w);
        fj_merger_at(&p->merger, j.pair);
    }
    j.importance = p->o->importance ? p->o->importance(p->o->ctx, &x->s) : NULL;
    bool ok = true;
    if (x->s.w->row->rows == FJ_ONE) ok = vector(&j, sink, ctx, e);
    else
        for (int64_t i = 0; ok && i < x->part.mats; i++) ok = matrix(&j, i, sink, ctx, e);
    if (j.failed && e) *e = j.err;
    double n = (double)x->part.mats * (double)x->part.rows * (double)x->part.cols;
    if (fj_dtype_get(x->s.to)->block > 1 && j.squares > 0) {
        x->s.rms = sqrt(j.squares / n);
        x->s.rmse = sqrt(j.errors / n);
    }
    free(j.sums);
    fj_reader_close(&j.from);
    return ok;
}
