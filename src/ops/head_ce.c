/* head_ce.c - LM head and cross entropy of the supervised rows, a chunk of rows at a time.
 *
 *     l = scale * x w^T, then cap * tanh(l / cap) when there is a cap
 *     nll = log(sum exp l) - l[target],  loss = sum weight * nll
 *     gl = weight * (softmax(l) - onehot(target)) [* (1 - (l / cap)^2)]
 *     gx = scale * gl w,  gw = scale * gl^T x
 * The weights of the rows are known when the loss is computed, so the gradient for a loss gradient of 1
 * is made while a chunk of logits is in the cache, and backward only has to scale it.  Only one chunk of
 * logits exists (as in Liger and cut cross entropy). */
#include "ops/gemm.h"
#include "ops/op.h"

typedef struct params {
    double scale, softcap; /* softcap 0: none */
} params;

/* Every chunk takes the whole head apart again, two or three times. */
enum { CHUNK_BYTES = 96 << 20 };

/* Rows of a chunk: as many as fit the budget, 16 to 512. */
static int64_t chunk_rows(int64_t rows, int64_t vocab) {
    int64_t c = CHUNK_BYTES / (vocab * (int64_t)sizeof(real)) / 8 * 8;
    c = FJ_MAX(FJ_MIN(c, 512), 16);
    return FJ_MIN(c, FJ_MAX(rows, 1));
}

static size_t round64(size_t n) { return (n + 63) / 64 * 64; }

/* Bytes of a chunk of logits, and of a row for each thread that keeps what the cap made of them. */
static size_t logit_bytes(const fj_node *n, int threads, size_t size) {
    int64_t vocab = n->in[1]->rows, rows = chunk_rows(n->in[0]->rows, vocab);
    if (((const params *)n->params)->softcap > 0) rows += threads;
    return round64((size_t)(rows * vocab) * size);
}

FJ_CPU(head_ce) {
    const params *p = n->params;
    const real cap = (real)p->softcap;
    const fj_tensor *x = n->in[0], *w = n->in[1];
    const int32_t *target = n->in[2]->data;
    const real *weight = n->in[3]->data;
    real *loss = n->out[0]->data, *nll = n->out[1]->data;
    fj_wmat m = fj_mat(w);
    int64_t c = chunk_rows(x->rows, w->rows), vocab = w->rows, d = x->cols;
    real *logits = t->scratch;
    fj_team sub = *t, alone = *t;
    alone.ith = 0, alone.nth = 1;
    sub.scratch = (char *)t->scratch + logit_bytes(n, t->nth, sizeof(real));
    real *capped = logits + (c + t->ith) * vocab;
    /* Gradients in the form in which they meet the head: a row at a time, while it is in the cache. */
    const bool gx = n->out[2]->rows > 0;
    const fj_form form = fj_dx_form(&m, t->f32);
    char *rounded = sub.scratch;
    if (gx) sub.scratch = rounded + fj_rounded_bytes(c, vocab, form);
    for (int64_t r = 0; r < x->rows; r += c) {
        int64_t k = FJ_MIN(c, x->rows - r), from, to;
        FJ_R(fj_gemm_fwd)(&sub, k, fj_row(x, r), d, &m, logits, vocab, (real)p->scale, false);
        fj_team_barrier(t);
        fj_team_split(t, k, 1, &from, &to);
        for (int64_t i = from; i < to; i++) {
            real *l = logits + i * vocab;
            if (cap > 0) {
                KERN(t)->softcap(l, l, cap, vocab);
                memcpy(capped, l, (size_t)vocab * sizeof *l);
            }
            nll[r + i] = (real)KERN(t)->softmax_ce(l, vocab, target[r + i], weight[r + i]);
            if (cap > 0) KERN(t)->softcap_bwd(l, capped, l, cap, vocab);
            if (gx) FJ_R(fj_round_rows)
            (&alone, 1, l, vocab, vocab, form, rounded + fj_rounded_bytes(i, vocab, form));
        }
        fj_team_barrier(t);
        if (gx) {
            FJ_R(fj_gemm_dx_rounded)
            (&sub, k, logits, vocab, rounded, &m, fj_row(n->out[2], r), d, (real)p->scale, false);
            fj_team_barrier(t);
        }
        if (n->out[3]->rows) {
            FJ_R(fj_gemm_dw)
            (&sub, k, logits, vocab, fj_row(x, r), d, n->out[3]->data, vocab, d, (real)p->scale,
             r > 0);
            fj_team_barrier(t);
        }
    }
    if (t->ith) return;
    double sum = 0;
    for (int64_t i = 0; i < x->rows; i++) sum += (double)weight[i] * (double)nll[i];
    *loss = (real)sum;
    if (!x->rows && n->out[3]->rows) memset(n->out[3]->data, 0, (size_t)(vocab * d) * sizeof(real));
}

/* y = x * s[0, 0] */
FJ_CPU(scale_by) {
    int64_t from, to;
    fj_team_split(t, n->out[0]->rows * n->out[0]->cols, 1024, &from, &to);
    KERN(t)->scale((real *)n->out[0]->data + from, (const real *)n->in[0]->data + from,
                   *(const real *)n->in[1]->data, to - from);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    const params *p = n->params;
    if (!(p->softcap >= 0)) return fj_fail(e, FJ_EINVAL, "a cap of %g for logits", p->softcap);
    if (x->cols != w->cols)
        return fj_fail(e, FJ_EINVAL, "head %s is %lld x %lld, a row of %s has %lld values", w->name,
                       (long long)w->rows, (long long)w->cols, x->name, (long long)x->cols);
    if (!fj_want(n->in[2], "targets", FJ_I32, 1, x->rows, e) ||
        !fj_want(n->in[3], "weights", fj_real_of(n), 1, x->rows, e))
        return false;
    n->out[0]->dtype = n->out[1]->dtype = n->out[3]->dtype = fj_real_of(n);
    n->out[0]->rows = n->out[0]->cols = 1;
    n->out[1]->rows = x->rows;
    n->out[1]->cols = 1;
    n->out[2]->rows = x->grad ? x->rows : 0;
    n->out[2]->cols = x->cols;
    n->out[3]->rows = w->grad ? w->rows : 0;
    n->out[3]->cols = w->cols;
    return true;
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    const fj_tensor *x = n->in[0], *w = n->in[1];
    fj_wmat m = fj_mat(w);
    int64_t c = chunk_rows(x->rows, w->rows);
    size_t work = 0;
    if (!n->f64) {
        work = fj_gemm_fwd_scratch(c, &m, o->threads, o->f32);
        work = FJ_MAX(work, fj_gemm_rounded_scratch(c, o->threads));
        if (w->grad)
            work = FJ_MAX(work, fj_gemm_dw_scratch(c, w->rows, w->cols, o->threads, o->f32));
        if (x->grad) work += fj_rounded_bytes(c, w->rows, fj_dx_form(&m, o->f32));
    }
    return logit_bytes(n, o->threads, n->f64 ? 8 : 4) + work;
}

static fj_tensor *scaled(fj_graph *g, fj_tensor *x, fj_tensor *s) {
    return s->node && s->node->op == &fj_op_one ? x : FJ_EMIT(g, &fj_op_scale_by, NULL, x, s);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    if (!dy[0]) return; /* nll alone is a measurement */
    for (int i = 0; i < 2; i++)
        if (fj_wants_grad(n, i)) fj_grad_add(g, &dx[i], scaled(g, n->out[2 + i], dy[0]));
}

const fj_op fj_op_head_ce = { .name = "head_ce",
                              .n_in = 4,
                              .n_out = 4,
                              .params = sizeof(params),
                              .shape = shape,
                              .grad = grad,
                              .scratch = scratch,
                              FJ_FNS(head_ce) };

static bool shape_scale(fj_node *n, fj_err *e) {
    return fj_want(n->in[1], "factor", fj_real_of(n), 1, 1, e) &&
           fj_shape_like(n->out[0], n->in[0]);
}

const fj_op fj_op_scale_by = { .name = "scale_by",
                               .n_in = 2,
                               .n_out = 1,
                               .share = 1,
                               .shape = shape_scale,
                               FJ_FNS(scale_by) };

fj_tensor *fj_head_ce(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *targets,
                      fj_tensor *weights, double scale, double softcap) {
    return FJ_EMIT(g, &fj_op_head_ce, (&(params){ scale, softcap }), x, w, targets, weights);
}
#endif
