/* imatrix.c - collecting: the forward pass over calibration text, and what it adds up. */
#include "lifecycle/imatrix_in.h"

#include "data/read.h"
#include "models/parts.h"

#include <math.h>

fj_imatrix *fj_imatrix_new(const fj_model *m, fj_err *e) {
    fj_imatrix *im = fj_imatrix_empty(m->path);
    struct fj_imatrix_own *o = im->own;
    im->chunk_size = FJ_IMATRIX_CHUNK;
    o->m = m;
    o->off = fj_arena_alloc(&o->arena, (size_t)m->n_w * sizeof *o->off);
    o->at = fj_arena_alloc(&o->arena, (size_t)m->n_w * sizeof *o->at);
    o->counts = fj_arena_alloc(&o->arena, (size_t)m->n_w * sizeof *o->counts);
    for (int i = 0; i < m->n_w; i++)
        if (m->w[i].mats > 1 || m->w[i].row->is & FJ_IS_EXPERTS)
            o->counts[i] = fj_arena_alloc(&o->arena, (size_t)m->w[i].mats * sizeof(int64_t));
    o->sums = m->dev->fn->alloc(m->dev, fj_input_sums(m, o->off), "an importance matrix", e);
    if (o->sums) return im;
    fj_imatrix_close(im);
    return NULL;
}

void fj_imatrix_stop(fj_imatrix *im) {
    struct fj_imatrix_own *o = im->own;
    fj_fwd_free(o->last);
    if (!o->m) return;
    o->m->dev->fn->free(o->mem);
    o->m->dev->fn->free(o->sums);
}

/* The graph for the shape of b. */
static bool prepare(struct fj_imatrix_own *o, const fj_batch *b, fj_err *e) {
    const fj_fwd_opts *have = o->last ? &o->last->o : NULL;
    if (have && have->n == b->n && have->n_seqs == b->n_seqs && have->n_blocks == b->n_blocks)
        return true;
    fj_fwd_free(o->last);
    o->last = fj_fwd_new(o->m,
                         &(fj_fwd_opts){ .n = b->n,
                                         .n_seqs = b->n_seqs,
                                         .n_blocks = b->n_blocks,
                                         .out = FJ_OUT_HIDDEN,
                                         .inputs = o->sums },
                         e);
    if (o->last && fj_dev_prepare(o->m->dev, o->last->g, &o->mem, "an importance matrix", e))
        return true;
    fj_fwd_free(o->last);
    o->last = NULL;
    return false;
}

static bool count_experts(struct fj_imatrix_own *o, fj_err *e) {
    for (int i = 0; i < o->m->n_w; i++) {
        const fj_tensor *starts = o->last->starts[i];
        if (!starts) continue;
        int32_t *s = fj_alloc((size_t)starts->cols * sizeof *s);
        bool ok = fj_tensor_get(starts, s, e);
        for (int64_t k = 0; ok && k + 1 < starts->cols; k++) o->counts[i][k] += s[k + 1] - s[k];
        free(s);
        if (!ok) return false;
    }
    return true;
}

static bool add_batch(fj_imatrix *im, const fj_batch *b, fj_err *e) {
    struct fj_imatrix_own *o = im->own;
    if (!prepare(o, b, e) || !fj_fwd_fill(o->last, b, e) ||
        !o->m->dev->fn->run(o->m->dev, o->last->g, e) || !count_experts(o, e))
        return false;
    memcpy(o->at, o->last->sum_at, (size_t)o->m->n_w * sizeof *o->at);
    o->rows += b->n;
    im->chunks++;
    return true;
}

bool fj_imatrix_add(fj_imatrix *im, const int32_t *ids, int64_t n, fj_err *e) {
    const fj_model *m = im->own->m;
    FJ_ASSERT(m);
    if (n < 1 || n > m->hp.context)
        return fj_fail(e, FJ_EINVAL, "a chunk of %lld tokens: %s reads 1 to %lld at once",
                       (long long)n, m->path, (long long)m->hp.context);
    fj_batch b = { 0 };
    fj_batch_add_prompt(&b, ids, n, 0);
    bool ok = add_batch(im, &b, e);
    fj_batch_free(&b);
    return ok;
}

/* ---- from files ---------------------------------------------------------------------------------- */
typedef struct feed {
    fj_imatrix *im;
    const fj_log *log;
    int64_t chunk, most, done; /* tokens of a chunk; chunks at most (0: all) and so far */
    int64_t total;             /* chunks there will be */
    double t0;
} feed;

static bool full(const feed *f) { return f->most && f->done >= f->most; }

static bool feed_batch(feed *f, const fj_batch *b, fj_err *e) {
    if (fj_log_stop(f->log)) return fj_fail(e, FJ_ESTOP, "stopped");
    if (!add_batch(f->im, b, e)) return false;
    f->done++;
    f->total = FJ_MAX(f->total, f->done);
    double t = fj_clock() - f->t0;
    fj_log_progress(f->log,
                    &(fj_progress){ .what = "importance matrix",
                                    .done = f->done,
                                    .total = f->total,
                                    .unit = "chunk",
                                    .rate = (double)(f->done * f->chunk) / fmax(t, 1e-9),
                                    .loss = NAN,
                                    .eta_s = t * (double)(f->total - f->done) / (double)f->done });
    return true;
}

/* One text of any length, in chunks that each begin as a text does. */
static bool feed_text(feed *f, const char *path, const char *text, size_t n, fj_err *e) {
    const fj_tokenizer *t = fj_model_tokenizer(f->im->own->m);
    size_t bad = fj_data_text_bad(text, n);
    if (bad < n) return fj_fail(e, FJ_EFORMAT, "%s: byte %zu is no UTF-8 text", path, bad);
    fj_ids front = { 0 }, ids = { 0 };
    fj_batch b = { 0 };
    bool ok = fj_tokenize(t, "", 0, FJ_TOK_BOS, &front, e) && fj_tokenize(t, text, n, 0, &ids, e);
    int64_t body = f->chunk - (int64_t)front.n;
    if (ok && body < 1)
        ok = fj_fail(e, FJ_EINVAL, "%s: a chunk of %lld tokens has no room for a text", path,
                     (long long)f->chunk);
    if (ok && !ids.n) ok = fj_fail(e, FJ_EINVAL, "%s: there is no text in it", path);
    if (ok) {
        f->total = ((int64_t)ids.n + body - 1) / body;
        if (f->most) f->total = FJ_MIN(f->total, f->most);
    }
    for (int64_t at = 0; ok && at < (int64_t)ids.n && !full(f); at += body) {
        int64_t k = FJ_MIN(body, (int64_t)ids.n - at);
        int32_t *whole = fj_alloc((front.n + (size_t)k) * sizeof *whole);
        if (front.n) memcpy(whole, front.p, front.n * sizeof *whole);
        memcpy(whole + front.n, ids.p + at, (size_t)k * sizeof *whole);
        fj_batch_clear(&b);
        fj_batch_add_prompt(&b, whole, (int64_t)front.n + k, 0);
        free(whole);
        ok = feed_batch(f, &b, e);
    }
    fj_batch_free(&b);
    fj_ids_free(&front);
    fj_ids_free(&ids);
    return ok;
}

/* Rows one after the other, as many as a chunk holds. */
static bool feed_samples(feed *f, const fj_samples *s, fj_err *e) {
    fj_batch b = { 0 };
    bool ok = true;
    f->total = (s->tokens + f->chunk - 1) / f->chunk;
    if (f->most) f->total = FJ_MIN(f->total, f->most);
    for (size_t i = 0; ok && i < s->n && !full(f); i++) {
        if (b.n && b.n + s->s[i].n > f->chunk) {
            ok = feed_batch(f, &b, e);
            fj_batch_clear(&b);
        }
        fj_batch_add_prompt(&b, s->s[i].ids, s->s[i].n, 0);
    }
    if (ok && b.n && !full(f)) ok = feed_batch(f, &b, e);
    fj_batch_free(&b);
    return ok;
}

static bool feed_rows(feed *f, const char *path, const fj_chat *chat, fj_err *e) {
    fj_dataset d = { 0 };
    fj_samples s = { 0 };
    fj_samples_opts so = { .max_length = (int)f->chunk,
                           .truncation = FJ_TRUNC_KEEP_START,
                           .skip_bad_rows = true,
                           .chat = chat };
    if (!fj_dataset_load(&d, &path, 1, &(fj_dataset_opts){ 0 }, f->log, e)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < d.n && !chat; i++)
        if (d.rows[i].messages)
            ok = fj_fail(e, FJ_EINVAL,
                         "%s: line %lld is a conversation, and the model has no chat template",
                         path, (long long)d.rows[i].line);
    ok = ok && fj_samples_build(&s, &d, fj_model_tokenizer(f->im->own->m), &so, f->log, e);
    if (ok) {
        ok = feed_samples(f, &s, e);
        fj_samples_free(&s);
    }
    fj_dataset_free(&d);
    return ok;
}

bool fj_imatrix_add_file(fj_imatrix *im, const char *path, const fj_chat *chat, int64_t most,
                         const fj_log *log, fj_err *e) {
    FJ_ASSERT(im->own->m);
    feed f = { .im = im,
               .log = log,
               .chunk = FJ_MIN((int64_t)FJ_IMATRIX_CHUNK, im->own->m->hp.context),
               .most = most,
               .t0 = fj_clock() };
    char ext[16];
    fj_data_ext(path, ext);
    bool ok;
    if (!strcmp(ext, ".json") || !strcmp(ext, ".jsonl") || !strcmp(ext, ".ndjson")) {
        ok = feed_rows(&f, path, chat, e);
    } else {
        size_t n;
        char *text = fj_data_read(path, (size_t)1 << 30, &n, e);
        ok = text && feed_text(&f, path, text, n, e);
        free(text);
    }
    if (ok) fj_imatrix_add_set(im, path, strlen(path));
    return ok;
}

/* ---- entries ------------------------------------------------------------------------------------- */
/* The tensors that weight i is made of in GGUF. */
static bool entries_of(fj_imatrix *im, int i, size_t cap, fj_arena *a, fj_err *e) {
    struct fj_imatrix_own *o = im->own;
    const fj_model *m = o->m;
    const fj_weight *w = &m->w[i];
    size_t n = (size_t)(w->mats * w->cols);
    float *sums = fj_arena_alloc(a, n * sizeof *sums),
          *counts = fj_arena_alloc(a, (size_t)w->mats * sizeof *counts);
    if (!m->dev->fn->download(o->sums, o->off[o->at[i]], sums, n * sizeof *sums, e)) return false;
    for (int64_t k = 0; k < w->mats; k++)
        counts[k] = (float)(o->counts[i] ? o->counts[i][k] : o->rows);
    fj_part *p;
    int parts = fj_parts_of(m, w, true, a, &p);
    for (int k = 0; k < parts; k++)
        if (!fj_imatrix_put(im, cap, p[k].name, p[k].mats, w->cols, sums + p[k].mat0 * w->cols,
                            counts + p[k].mat0, e))
            return false;
    return true;
}

bool fj_imatrix_finish(fj_imatrix *im, fj_err *e) {
    struct fj_imatrix_own *o = im->own;
    FJ_ASSERT(o->m);
    if (!o->rows)
        return fj_fail(e, FJ_EINVAL,
                       "%s: no calibration text was read, so nothing is known of its "
                       "columns",
                       im->name);
    fj_arena a = { 0 };
    size_t cap = 0;
    for (int i = 0; i < o->m->n_w; i++) {
        fj_part *p;
        if (o->off[i] != SIZE_MAX) cap += (size_t)fj_parts_of(o->m, &o->m->w[i], true, &a, &p);
    }
    im->n = 0;
    im->entries = NULL;
    fj_map_free(&o->index);
    bool ok = true;
    for (int i = 0; ok && i < o->m->n_w; i++)
        ok = o->off[i] == SIZE_MAX || o->at[i] < 0 || entries_of(im, i, cap, &a, e);
    fj_arena_free(&a);
    return ok;
}
