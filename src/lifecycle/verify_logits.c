/* verify_logits.c - logits of one side wait for those of the other, and are compared row by row. */
#include "eval/run.h"
#include "lifecycle/verify_in.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { POSITIONS = 2000, MAX_LENGTH = 256, MOST_IN_MEMORY = 16 << 20 };

/* ---- pieces --------------------------------------------------------------------------------------- */
static int64_t usable(const fj_spelled *r, int64_t most) {
    return r->refused ? 0 : FJ_MAX(0, FJ_MIN((int64_t)r->whole, most) - 1);
}

/* Rows from all of the data, as many as fit: the next one is taken when less was taken than its share. */
void fj_verify_cut(fj_pieces *p, const fj_spelling *s, const fj_model *m, const fj_verify_opts *o) {
    int64_t want = o->positions ? o->positions : POSITIONS, all = 0, seen = 0;
    int64_t most = FJ_MIN(m->hp.context, o->max_length ? o->max_length : MAX_LENGTH);
    p->vocab = m->hp.vocab;
    if (!p->room) p->room = FJ_MIN(512, FJ_MAX(32, ((int64_t)32 << 20) / p->vocab));
    for (size_t i = 0; i < s->rows; i++) all += usable(&s->row[i], most);
    for (size_t i = 0; i < s->rows && p->positions < want; i++) {
        const fj_spelled *r = &s->row[i];
        int64_t n = usable(r, most);
        bool due = (double)p->positions * (double)all <= (double)seen * (double)want;
        seen += n;
        if (!due) continue;
        n = FJ_MIN(n, want - p->positions);
        for (int64_t from = 0; from < n; from += p->room) {
            FJ_GROW(p->p, p->n + 1, p->cap);
            int64_t to = FJ_MIN(n, from + p->room);
            p->p[p->n++] =
                (fj_piece){ r->ids, r->learn, from, to, (int64_t)i, p->positions + from };
        }
        p->positions += n;
    }
}

fj_pieces fj_verify_first(const fj_pieces *p, int64_t n) {
    fj_pieces few = *p;
    few.n = 0;
    few.positions = 0;
    while (few.n < p->n && few.positions < n) {
        const fj_piece *x = &p->p[few.n++];
        few.positions = x->at + x->to - x->from;
    }
    return few;
}

/* ---- the store ------------------------------------------------------------------------------------ */
bool fj_kept_open(fj_kept *k, const fj_pieces *p, const char *scratch, fj_err *e) {
    *k = (fj_kept){ .fd = -1 };
    size_t n = (size_t)p->positions * (size_t)p->vocab * sizeof(float);
    if (n <= MOST_IN_MEMORY) return (k->mem = fj_try_alloc(n + 1, 1, "logits", e)) != NULL;
    const char *tmp = getenv("TMPDIR");
    k->folder = scratch ? scratch : tmp && *tmp ? tmp : "/var/tmp";
    char *name = fj_path_join(k->folder, "forja-verify-XXXXXX");
    k->fd = mkstemp(name);
    if (k->fd >= 0) unlink(name);
    else fj_fail_errno(e, "cannot make a file in %s for %zu bytes of logits", k->folder, n);
    free(name);
    return k->fd >= 0;
}

void fj_kept_close(fj_kept *k) {
    if (k->fd >= 0) close(k->fd);
    free(k->mem);
    *k = (fj_kept){ .fd = -1 };
}

static bool move(const fj_kept *k, bool put, float *x, size_t n, uint64_t at, fj_err *e) {
    if (k->mem) {
        char *place = (char *)k->mem + at;
        if (put) memcpy(place, x, n);
        else memcpy(x, place, n);
        return true;
    }
    for (char *p = (char *)x; n;) {
        ssize_t got = put ? pwrite(k->fd, p, n, (off_t)at) : pread(k->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            if (!got) errno = EIO;
            return fj_fail_errno(e, "cannot %s the logits of the trained model in %s",
                                 put ? "keep" : "read", k->folder);
        }
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return true;
}

/* ---- forward -------------------------------------------------------------------------------------- */
typedef struct pass {
    const fj_pieces *p;
    const fj_kept *k;
    fj_dev *dev;
    fj_verify_numbers *n;        /* NULL: keep */
    float *logits, *kept, *base; /* [room, vocab] */
    struct gap {
        fj_row_gap apart;
        double base_kl;
        bool agree;
    } * gap;       /* [room] */
    int32_t *next; /* [room] tokens that follow */
    int64_t rows;  /* of this batch; the first of them that are compared with the base */
    int64_t base_rows;
} pass;

static int64_t best(const float *x, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return at;
}

static void gaps(void *ctx, int i, int n) {
    pass *x = ctx;
    int64_t vocab = x->p->vocab;
    for (int64_t r = i; r < x->rows; r += n) {
        const float *a = x->kept + r * vocab, *b = x->logits + r * vocab;
        struct gap *g = &x->gap[r];
        g->apart = fj_rows_apart(a, b, vocab, x->next[r]);
        g->agree = best(a, vocab) == best(b, vocab);
        if (r < x->base_rows)
            g->base_kl = fj_rows_apart(x->base + r * vocab, b, vocab, x->next[r]).kl;
    }
}

/* Not a number is larger than everything, and stays. */
static bool larger(double x, double than) { return isnan(x) || x > than; }

static void add_up(pass *x, const fj_piece *of, int64_t row) {
    fj_verify_numbers *n = x->n;
    for (int64_t i = of->from; i < of->to; i++, row++) {
        const struct gap *g = &x->gap[row];
        double kl = g->apart.kl < 0 ? 0 : g->apart.kl, logp = fabs(g->apart.a - g->apart.b);
        n->positions++;
        n->agree += g->agree;
        n->kl_mean += kl;
        n->logp_mean += logp;
        if (row < x->base_rows) {
            n->base_positions++;
            n->base_kl += g->base_kl;
            n->near_kl += kl;
        }
        if (larger(logp, n->logp_max)) n->logp_max = logp;
        if (larger(kl, n->kl_max)) {
            n->kl_max = kl;
            n->worst_row = of->row + 1;
            n->worst_at = i;
        }
        if (!of->learn[i + 1]) continue;
        n->learned++;
        n->trained_perplexity -= g->apart.a;
        n->exported_perplexity -= g->apart.b;
    }
}

/* Pieces [first, last) are in the batch. */
static bool one_batch(pass *x, fj_scorer *s, fj_batch *b, size_t first, size_t last, fj_err *e) {
    uint64_t at = (uint64_t)x->p->p[first].at * (uint64_t)x->p->vocab * sizeof(float);
    size_t bytes = (size_t)x->rows * (size_t)x->p->vocab * sizeof(float);
    if (!fj_scorer_forward(s, b, FJ_OUT_LOGITS, e) || !fj_tensor_get(s->last->logits, x->logits, e))
        return false;
    if (!x->n) return move(x->k, true, x->logits, bytes, at, e);
    if (!move(x->k, false, x->kept, bytes, at, e)) return false;
    x->base_rows = FJ_MIN(x->rows, FJ_MAX(0, x->k->base_positions - x->p->p[first].at));
    bytes = (size_t)x->base_rows * (size_t)x->p->vocab * sizeof(float);
    if (x->base_rows && !move(x->k->base, false, x->base, bytes, at, e)) return false;
    fj_dev_team_run(x->dev, gaps, x);
    for (size_t i = first, row = 0; i < last; i++) {
        add_up(x, &x->p->p[i], (int64_t)row);
        row += (size_t)(x->p->p[i].to - x->p->p[i].from);
    }
    return true;
}

static bool run(pass *x, fj_model *m, const fj_lora *lora, const fj_log *log, const char *what,
                fj_err *e) {
    const fj_pieces *p = x->p;
    fj_scorer s = { .m = m, .lora = lora };
    fj_batch b = { 0 };
    size_t most = (size_t)FJ_MIN(p->room, p->positions) * (size_t)p->vocab;
    x->dev = m->dev;
    x->next = fj_alloc((size_t)p->room * sizeof *x->next);
    x->gap = fj_alloc((size_t)p->room * sizeof *x->gap);
    bool ok = (x->logits = fj_try_alloc(most, sizeof *x->logits, "logits", e)) &&
              (!x->n || (x->kept = fj_try_alloc(most, sizeof *x->kept, "logits", e))) &&
              (!x->n || !x->k->base_positions ||
               (x->base = fj_try_alloc(most, sizeof *x->base, "logits", e)));
    double t0 = fj_clock();
    for (size_t i = 0, last; ok && i < p->n; i = last) {
        fj_batch_clear(&b);
        x->rows = 0;
        for (last = i; last < p->n; last++) {
            const fj_piece *q = &p->p[last];
            int64_t n = q->to - q->from;
            if (last > i && (x->rows + n > p->room || b.n + q->to > 2 * p->room)) break;
            memcpy(x->next + x->rows, q->ids + q->from + 1, (size_t)n * sizeof *x->next);
            fj_batch_add_prompt(&b, q->ids, q->to, n);
            x->rows += n;
        }
        ok = fj_log_stop(log) ? fj_fail(e, FJ_ESTOP, "stopped") : one_batch(x, &s, &b, i, last, e);
        int64_t done = p->p[i].at + x->rows;
        double t = fj_clock() - t0;
        fj_log_progress(
            log, &(fj_progress){ .what = what,
                                 .done = done,
                                 .total = p->positions,
                                 .unit = "token",
                                 .rate = (double)done / fmax(t, 1e-9),
                                 .loss = NAN,
                                 .eta_s = t * (double)(p->positions - done) / (double)done });
    }
    fj_scorer_free(&s);
    fj_batch_free(&b);
    free(x->next);
    free(x->gap);
    free(x->logits);
    free(x->kept);
    free(x->base);
    return ok;
}

bool fj_verify_keep(const fj_kept *k, const fj_pieces *p, fj_model *m, const fj_lora *lora,
                    const char *what, const fj_log *log, fj_err *e) {
    pass x = { .p = p, .k = k };
    return run(&x, m, lora, log, what, e);
}

bool fj_verify_against(const fj_kept *k, const fj_pieces *p, fj_model *m, const fj_lora *lora,
                       const char *what, const fj_log *log, fj_verify_numbers *n, fj_err *e) {
    *n = (fj_verify_numbers){ 0 };
    pass x = { .p = p, .k = k, .n = n };
    if (!run(&x, m, lora, log, what, e)) return false;
    double all = (double)n->positions, learned = (double)n->learned;
    n->kl_mean /= all;
    n->logp_mean /= all;
    if (n->base_positions) {
        n->base_kl /= (double)n->base_positions;
        n->near_kl /= (double)n->base_positions;
    }
    n->trained_perplexity = exp(n->trained_perplexity / learned);
    n->exported_perplexity = exp(n->exported_perplexity / learned);
    return true;
}
