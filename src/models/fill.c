/* fill.c - the weights of a model from its files into memory, by all threads at once.
 *
 * Weights are cut into pieces of a few MB, which threads take one after the other: both ends of a copy are
 * touched for the first time by the thread that copies, so that pages are mapped and cleared by all of
 * them, and no thread waits for another before the last piece is taken.  What is not in the file as it
 * is computed with passes through a buffer of one piece: there is never a second copy of a weight. */
#include "models/reader.h"
#include "models/source.h"
#include "ops/gemm.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { PIECE = 2 << 20 };

/* Rows [row, row + n) of weight w, of one matrix where it is in panels. */
typedef struct piece {
    int w;
    int64_t row, n;
} piece;

typedef struct job {
    fj_model *m;
    const fj_log *log;
    fj_reader *from; /* [n_w]: those that are open */
    piece *pieces;
    size_t n, cap;
    int64_t bytes; /* of the weights that are filled */
    bool (*beside)(fj_model *m, const fj_source *s, fj_err *e);
    const fj_source *s;
    _Atomic size_t next; /* 0: beside, then pieces */
    _Atomic int64_t done;
    _Atomic bool failed;
    pthread_mutex_t lock; /* of the two below */
    size_t at;            /* the first in order of those that failed: no chance in which it is */
    fj_err err;
} job;

static int64_t row_bytes(const fj_weight *w) { return fj_dtype_size(w->dtype, 1, w->cols); }

static void cut(job *j, int i) {
    const fj_weight *w = &j->m->w[i];
    int64_t each = w->panels ? w->rows / w->mats : w->rows, fit = PIECE / FJ_MAX(row_bytes(w), 1),
            some = FJ_MAX(fit / FJ_WMAT_RUN, 1) * FJ_WMAT_RUN;
    j->bytes += w->rows * row_bytes(w);
    for (int64_t r0 = 0; r0 < w->rows; r0 += each)
        for (int64_t r = 0; r < each; r += some) {
            FJ_GROW(j->pieces, j->n + 1, j->cap);
            j->pieces[j->n++] = (piece){ i, r0 + r, FJ_MIN(some, each - r) };
        }
}

/* buf: of the thread, for what has to be converted. */
static bool put(job *j, const piece *p, uint8_t **buf, size_t *cap, fj_err *e) {
    fj_model *m = j->m;
    const fj_weight *w = &m->w[p->w];
    const fj_reader *r = &j->from[p->w];
    size_t one = (size_t)row_bytes(w), n = (size_t)p->n * one;
    const uint8_t *rows = r->type == w->dtype && r->whole ? r->whole + (size_t)p->row * one : NULL;
    if (!rows) {
        FJ_GROW(*buf, n, *cap);
        if (!fj_reader_rows(r, w->dtype, p->row, p->n, *buf, e)) return false;
        rows = *buf;
    }
    if (!w->panels) return m->dev->fn->upload(m->buf, w->off + (size_t)p->row * one, rows, n, e);
    int64_t each = w->rows / w->mats,
            to = p->row / each * fj_wmat_packed_bytes(w->dtype, each, w->cols) +
                 fj_wmat_packed_bytes(w->dtype, p->row % each, w->cols);
    fj_wmat_pack(m->dev->kern, w->dtype, p->n, w->cols, rows, (char *)m->buf->ptr + w->off + to, 0,
                 1);
    return true;
}

static void tell(const job *j, int64_t done) {
    fj_log_progress(j->log, &(fj_progress){ .what = "load",
                                            .done = done,
                                            .total = j->bytes,
                                            .unit = "byte",
                                            .loss = NAN,
                                            .eta_s = -1 });
}

static void work(void *ctx, int ith, int nth) {
    job *j = ctx;
    uint8_t *buf = NULL;
    size_t cap = 0;
    (void)nth;
    for (size_t i; !atomic_load(&j->failed) && (i = atomic_fetch_add(&j->next, 1)) <= j->n;) {
        fj_err e = { 0 };
        const piece *p = i ? &j->pieces[i - 1] : NULL;
        if (!(p ? put(j, p, &buf, &cap, &e) : j->beside(j->m, j->s, &e))) {
            pthread_mutex_lock(&j->lock);
            if (!j->failed || i < j->at) {
                j->at = i;
                j->err = e;
            }
            atomic_store(&j->failed, true);
            pthread_mutex_unlock(&j->lock);
        }
        if (!p) continue;
        int64_t done = atomic_fetch_add(&j->done, p->n * row_bytes(&j->m->w[p->w])) +
                       p->n * row_bytes(&j->m->w[p->w]);
        if (!ith && done < j->bytes) tell(j, done);
    }
    free(buf);
}

bool fj_model_fill(fj_model *m, const fj_source *s,
                   bool (*beside)(fj_model *m, const fj_source *s, fj_err *e), const fj_log *log,
                   fj_err *e) {
    job j = { .m = m, .log = log, .beside = beside, .s = s };
    bool ok = true;
    j.from = fj_zalloc((size_t)(m->n_w + 1) * sizeof *j.from);
    for (int i = 0; i < m->n_w && ok && !m->listed; i++) {
        if (m->w[i].buf != m->buf) continue; /* it stays in the file */
        ok = fj_reader_open(&j.from[i], m, s, &m->w[i], e);
        if (ok) cut(&j, i);
    }
    if (ok) {
        pthread_mutex_init(&j.lock, NULL);
        fj_dev_team_run(m->dev, work, &j);
        pthread_mutex_destroy(&j.lock);
        ok = !j.failed;
        if (!ok && e) *e = j.err;
        if (ok && j.bytes) tell(&j, j.bytes); /* others may have taken the last piece, or all */
    }
    for (int i = 0; i < m->n_w; i++) fj_reader_close(&j.from[i]);
    free(j.from);
    free(j.pieces);
    return ok;
}
