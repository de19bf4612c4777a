/* loss.c - loss over samples, and forgetting. */
#include "eval/run.h"

#include <math.h>

static bool same_shape(const fj_fwd *f, const fj_batch *b) {
    return f && f->o.n == b->n && f->o.n_seqs == b->n_seqs && f->o.n_blocks == b->n_blocks &&
           f->o.n_out == b->n_out;
}

bool fj_scorer_forward(fj_scorer *s, const fj_batch *b, fj_want_out out, fj_err *e) {
    if (!same_shape(s->last, b) || s->last->o.out != out) {
        fj_fwd_free(s->last);
        fj_rows_lora rows = { s->lora, 0, b->n };
        s->last = fj_fwd_new(s->m,
                             &(fj_fwd_opts){ .n = b->n,
                                             .n_seqs = b->n_seqs,
                                             .n_blocks = b->n_blocks,
                                             .n_out = b->n_out,
                                             .out = out,
                                             .loras = &rows,
                                             .n_loras = s->lora ? 1 : 0 },
                             e);
        if (!s->last ||
            !fj_dev_prepare(s->m->dev, s->last->g, &s->mem, "an evaluation's activations", e)) {
            fj_fwd_free(s->last);
            s->last = NULL;
            return false;
        }
    }
    return fj_fwd_fill(s->last, b, e) && s->m->dev->fn->run(s->m->dev, s->last->g, e);
}

bool fj_scorer_nll(void *scorer, const fj_batch *b, float *nll, fj_err *e) {
    fj_scorer *s = scorer;
    return fj_scorer_forward(s, b, FJ_OUT_LOSS, e) && fj_tensor_get(s->last->nll, nll, e);
}

void fj_scorer_free(fj_scorer *s) {
    fj_fwd_free(s->last);
    if (s->m) s->m->dev->fn->free(s->mem);
    *s = (fj_scorer){ 0 };
}

/* Sums over samples: the standard error of a ratio of sums (tokens differ between rows). */
typedef struct sums {
    double nll, n;
    double *row_nll, *row_n;
    size_t rows;
} sums;

static void finish(const sums *s, fj_eval_result *r) {
    r->rows = (int64_t)s->rows;
    r->tokens = (int64_t)s->n;
    r->loss = s->nll / s->n;
    double var = 0;
    for (size_t i = 0; i < s->rows; i++) {
        double d = s->row_nll[i] - r->loss * s->row_n[i];
        var += d * d;
    }
    double k = (double)s->rows;
    r->loss_se = s->rows > 1 ? sqrt(var * k / (k - 1)) / s->n : NAN;
    r->perplexity = exp(r->loss);
}

static bool one_batch(const fj_samples *s, const fj_micro *m, fj_batch *b, float **nll, size_t *cap,
                      fj_nll_fn fn, void *ctx, sums *sum, fj_err *e) {
    fj_batch_clear(b);
    for (int i = 0; i < m->n; i++) {
        const fj_sample *x = &s->s[m->sample[i]];
        fj_batch_add_sample(b, x->ids, x->learn, x->n, 1);
    }
    FJ_GROW(*nll, (size_t)b->n_out + 1, *cap);
    if (!fn(ctx, b, *nll, e)) return false;
    const float *at = *nll;
    for (int i = 0; i < m->n; i++) {
        const fj_sample *x = &s->s[m->sample[i]];
        double one = 0;
        for (int32_t k = 0; k < x->n_learn; k++) one += (double)*at++;
        sum->row_nll[sum->rows] = one;
        sum->row_n[sum->rows++] = x->n_learn;
        sum->nll += one;
        sum->n += x->n_learn;
    }
    return true;
}

bool fj_eval_loss(const fj_samples *s, const int64_t *which, size_t n, int batch, int max_length,
                  fj_nll_fn fn, void *ctx, const char *what, const fj_log *log, fj_eval_result *r,
                  fj_err *e) {
    int64_t *ids = fj_alloc((n + 1) * sizeof *ids);
    int32_t *len = fj_alloc((n + 1) * sizeof *len), *learn = fj_alloc((n + 1) * sizeof *learn);
    for (size_t i = 0; i < n; i++) {
        ids[i] = which ? which[i] : (int64_t)i;
        len[i] = s->s[ids[i]].n;
        learn[i] = s->s[ids[i]].n_learn;
    }
    sums sum = { .row_nll = fj_zalloc((n + 1) * sizeof(double)),
                 .row_n = fj_zalloc((n + 1) * sizeof(double)) };
    fj_batch b = { 0 };
    float *nll = NULL;
    size_t cap = 0;
    fj_plan *p = fj_plan_eval(ids, len, learn, n, batch, max_length, e);
    bool ok = p != NULL;
    if (ok) {
        fj_plan_at at;
        fj_plan_step(p, 0, &at);
        double t0 = fj_clock();
        int64_t rows = 0;
        for (int i = 0; ok && i < at.n_micro; i++) {
            if (fj_log_stop(log)) ok = fj_fail(e, FJ_ESTOP, "stopped");
            ok = ok && one_batch(s, &at.micro[i], &b, &nll, &cap, fn, ctx, &sum, e);
            rows += at.micro[i].rows;
            double t = fj_clock() - t0;
            fj_log_progress(log, &(fj_progress){ .what = what,
                                                 .done = i + 1,
                                                 .total = at.n_micro,
                                                 .unit = "batch",
                                                 .rate = (double)rows / fmax(t, 1e-9),
                                                 .loss = sum.n ? sum.nll / sum.n : NAN,
                                                 .eta_s = t * (at.n_micro - i - 1) / (i + 1) });
        }
    }
    if (ok) finish(&sum, r);
    fj_plan_free(p);
    fj_batch_free(&b);
    free(nll);
    free(ids);
    free(len);
    free(learn);
    free(sum.row_nll);
    free(sum.row_n);
    return ok;
}

/* ---- forgetting ---------------------------------------------------------------------------------- */
/* log softmax in double, in place of the logits it reads. */
static double log_norm(const float *l, int64_t n) {
    float top = l[0];
    for (int64_t i = 1; i < n; i++)
        if (l[i] > top) top = l[i];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)(l[i] - top));
    return (double)top + log(sum);
}

fj_row_gap fj_rows_apart(const float *a, const float *b, int64_t vocab, int32_t target) {
    double la = log_norm(a, vocab), lb = log_norm(b, vocab), kl = 0;
    for (int64_t i = 0; i < vocab; i++) {
        double p = (double)a[i] - la, q = (double)b[i] - lb, w = exp(p);
        if (w != 0) kl += w * (p - q); /* NaN, too */
    }
    return (fj_row_gap){ (double)a[target] - la, (double)b[target] - lb, kl };
}

typedef struct gone {
    double base, tuned, kl, n;
} gone;

static void compare(const float *a, const float *b, int64_t vocab, int32_t target, gone *g) {
    fj_row_gap x = fj_rows_apart(a, b, vocab, target);
    g->base -= x.a;
    g->tuned -= x.b;
    g->kl += x.kl;
    g->n++;
}

/* Rows whose logits exist at once (twice): 64 MiB of them, or 32. */
static int64_t piece_of(int64_t vocab) { return FJ_MAX(32, ((int64_t)16 << 20) / vocab); }

static bool one_sample(fj_scorer *base, fj_scorer *tuned, const fj_sample *x, float *la, float *lb,
                       gone *g, fj_err *e) {
    fj_batch b = { 0 };
    int64_t vocab = base->m->hp.vocab, piece = piece_of(vocab);
    bool ok = true;
    for (int64_t i = 0; ok && i < x->n - 1; i += piece) {
        int64_t k = FJ_MIN(piece, x->n - 1 - i);
        fj_batch_clear(&b);
        fj_batch_add_prompt(&b, x->ids, i + k, k);
        ok = fj_scorer_forward(base, &b, FJ_OUT_LOGITS, e) &&
             fj_tensor_get(base->last->logits, la, e) &&
             fj_scorer_forward(tuned, &b, FJ_OUT_LOGITS, e) &&
             fj_tensor_get(tuned->last->logits, lb, e);
        for (int64_t r = 0; ok && r < k; r++)
            if (x->learn[i + r + 1])
                compare(la + r * vocab, lb + r * vocab, vocab, x->ids[i + r + 1], g);
    }
    fj_batch_free(&b);
    return ok;
}

bool fj_eval_forgetting_on(fj_model *base, fj_model *tuned, const fj_lora *lora,
                           const fj_samples *s, const fj_log *log, fj_forgetting *f, fj_err *e) {
    fj_scorer a = { .m = base }, b = { .m = tuned ? tuned : base, .lora = lora };
    size_t vocab = (size_t)base->hp.vocab;
    if (tuned && tuned->hp.vocab != base->hp.vocab)
        return fj_fail(
            e, FJ_EINVAL, "%s has %lld tokens, %s has %lld: their predictions cannot be compared",
            base->path, (long long)base->hp.vocab, tuned->path, (long long)tuned->hp.vocab);
    size_t most = 1;
    for (size_t i = 0; i < s->n; i++) most = FJ_MAX(most, (size_t)s->s[i].n);
    most = FJ_MIN(most, (size_t)piece_of((int64_t)vocab)) * vocab;
    float *logits = fj_try_alloc(2 * most, sizeof(float), "logits", e);
    gone g = { 0 };
    bool ok = logits != NULL;
    for (size_t i = 0; ok && i < s->n; i++) {
        if (fj_log_stop(log)) ok = fj_fail(e, FJ_ESTOP, "stopped");
        ok = ok && one_sample(&a, &b, &s->s[i], logits, logits + most, &g, e);
        fj_log_progress(log, &(fj_progress){ .what = "forgetting",
                                             .done = (int64_t)i + 1,
                                             .total = (int64_t)s->n,
                                             .unit = "sample",
                                             .loss = NAN,
                                             .eta_s = -1 });
    }
    if (ok)
        *f = (fj_forgetting){ (int64_t)s->n, (int64_t)g.n, exp(g.base / g.n), exp(g.tuned / g.n),
                              g.kl / g.n };
    free(logits);
    fj_scorer_free(&a);
    fj_scorer_free(&b);
    return ok;
}
