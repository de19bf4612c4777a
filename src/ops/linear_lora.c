/* linear_lora.c - rows times a weight and its adapter in one node, when one adapter is for all rows:
 *
 *   t = x A^T [n, r]       y = c + x W^T + scale * t B^T, c optional
 *   dt = scale * dy B      dx = dy W + dt A      dA = dt^T x      dB = scale * dy^T t
 * (Hu et al. 2021.)  On a GPU one kernel makes both products, so that an adapter costs no pass over y or dx.
 * Bits of y: those of linear, linear and linear_add, and of lora_rows.c. */
#include "ops/gemm.h"
#include "ops/op.h"

static char *after(const fj_team *t, size_t bytes) { return (char *)t->scratch + bytes; }

#ifdef FJ_F64
static size_t bytes_of(int64_t m, int64_t k, fj_form f) {
    return (void)m, (void)k, (void)f, (size_t)0;
}
#define fwd_form(t, w) FJ_ROWS_F32
#define dx_form(t, w) FJ_ROWS_F32
#else
static size_t bytes_of(int64_t m, int64_t k, fj_form f) { return fj_rounded_bytes(m, k, f); }
#define fwd_form(t, w) fj_fwd_form(w, (t)->f32)
#define dx_form(t, w) fj_dx_form(w, (t)->f32)
#endif

/* Scratch: x as it meets W; x as it meets A, where that is another form; t as it meets B; the products'. */
FJ_CPU(linear_lora) {
    const fj_tensor *x = n->in[0], *c = n->n_in > 4 ? n->in[4] : NULL;
    fj_tensor *y = n->out[0], *low = n->out[1];
    fj_wmat w = fj_mat(n->in[1]), a = fj_mat(n->in[2]), b = fj_mat(n->in[3]);
    fj_form fw = fwd_form(t, &w), fa = fwd_form(t, &a), fb = fwd_form(t, &b);
    int64_t m = x->rows;
    size_t at_a = bytes_of(m, x->cols, fw), at_t = at_a + (fa == fw ? 0 : bytes_of(m, x->cols, fa));
    void *xw = t->scratch, *xa = fa == fw ? xw : after(t, at_a), *tb = after(t, at_t);
    fj_team u = *t;
    u.scratch = after(t, at_t + bytes_of(m, b.k, fb));
    fj_start_from(t, y, c);
    FJ_R(fj_round_rows)(t, m, x->data, x->cols, x->cols, fw, xw);
    if (fa != fw) FJ_R(fj_round_rows)(t, m, x->data, x->cols, x->cols, fa, xa);
    fj_team_barrier(t);
    FJ_R(fj_gemm_fwd_rounded)(&u, m, x->data, x->cols, xa, &a, low->data, low->cols, 1, false);
    fj_team_barrier(t);
    FJ_R(fj_round_rows)(t, m, low->data, low->cols, low->cols, fb, tb);
    fj_team_barrier(t);
    fj_low more = { low->data, low->cols, tb, &b, *(const double *)n->params };
    FJ_R(fj_gemm_fwd_low)(&u, m, x->data, x->cols, xw, &w, y->data, y->cols, c, &more);
}

/* in: dy, W, A, B, gradient of x so far or NULL; out: dx, dt.  dy is rounded once for both of its products.  Scratch as of
 * linear_lora. */
FJ_CPU(linear_lora_dx) {
    const fj_tensor *dy = n->in[0], *c = n->n_in > 4 ? n->in[4] : NULL;
    fj_tensor *dx = n->out[0], *dt = n->out[1];
    fj_wmat w = fj_mat(n->in[1]), a = fj_mat(n->in[2]), b = fj_mat(n->in[3]);
    fj_form fw = dx_form(t, &w), fa = dx_form(t, &a), fb = dx_form(t, &b);
    int64_t m = dx->rows;
    size_t at_b = bytes_of(m, w.n, fw), at_t = at_b + (fb == fw ? 0 : bytes_of(m, b.n, fb));
    void *yb = fb == fw ? t->scratch : after(t, at_b), *da = after(t, at_t);
    fj_team u = *t;
    u.scratch = after(t, at_t + bytes_of(m, a.n, fa));
    fj_start_from(t, dx, c);
    FJ_R(fj_round_rows)(t, m, dy->data, dy->cols, dy->cols, fw, t->scratch);
    if (fb != fw) FJ_R(fj_round_rows)(t, m, dy->data, dy->cols, dy->cols, fb, yb);
    fj_team_barrier(t);
    FJ_R(fj_gemm_dx_rounded)
    (&u, m, dy->data, dy->cols, yb, &b, dt->data, dt->cols, (real) * (const double *)n->params,
     false);
    fj_team_barrier(t);
    FJ_R(fj_round_rows)(t, m, dt->data, dt->cols, dt->cols, fa, da);
    fj_team_barrier(t);
    fj_low more = { dt->data, dt->cols, da, &a, 1 };
    FJ_R(fj_gemm_dx_low)
    (&u, m, dy->data, dy->cols, t->scratch, &w, dx->data, dx->cols, c, &more);
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_tensor *x = n->in[0], *w = n->in[1], *a = n->in[2], *b = n->in[3];
    if (x->cols != w->cols)
        return fj_fail(e, FJ_EINVAL, "weight %s is %lld x %lld, a row of %s has %lld values",
                       w->name, (long long)w->rows, (long long)w->cols, x->name,
                       (long long)x->cols);
    if (a->cols != w->cols || b->rows != w->rows || a->rows != b->cols)
        return fj_fail(
            e, FJ_EINVAL,
            "an adapter of %lld x %lld and %lld x %lld is none of weight %s, %lld x %lld",
            (long long)a->rows, (long long)a->cols, (long long)b->rows, (long long)b->cols, w->name,
            (long long)w->rows, (long long)w->cols);
    n->out[0]->rows = n->out[1]->rows = x->rows;
    n->out[0]->cols = w->rows;
    n->out[1]->cols = a->rows;
    if (n->n_in > 4 && n->in[4] && !fj_same_shape(n->in[4], n->out[0], e)) return false;
    return true;
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    int64_t m = n->in[0]->rows;
    fj_wmat w = fj_mat(n->in[1]), a = fj_mat(n->in[2]), b = fj_mat(n->in[3]);
    fj_form fw = fj_fwd_form(&w, o->f32), fa = fj_fwd_form(&a, o->f32);
    return fj_rounded_bytes(m, w.k, fw) + (fa == fw ? 0 : fj_rounded_bytes(m, a.k, fa)) +
           fj_rounded_bytes(m, b.k, fj_fwd_form(&b, o->f32)) +
           fj_gemm_rounded_scratch(m, o->threads);
}

static void grad(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx) {
    const struct { /* as in linear.c */
        double scale;
        int64_t row0;
        bool real;
    } one = { .scale = 1 }, scaled = { .scale = *(const double *)n->params };
    fj_tensor *x = n->in[0], *w = n->in[1], *a = n->in[2], *b = n->in[3];
    if (!dy[0]) return;
    fj_tensor *dt = NULL;
    if (fj_wants_grad(n, 0)) {
        dx[0] = FJ_EMIT(g, &fj_op_linear_lora_dx, n->params, dy[0], w, a, b, dx[0]);
        if (dx[0]) dt = dx[0]->node->out[1];
    } else if (fj_wants_grad(n, 2)) dt = FJ_EMIT(g, &fj_op_linear_dx, &scaled, dy[0], b, NULL);
    if (fj_wants_grad(n, 1)) fj_grad_add(g, &dx[1], FJ_EMIT(g, &fj_op_linear_dw, &one, dy[0], x));
    if (fj_wants_grad(n, 2)) fj_grad_add(g, &dx[2], FJ_EMIT(g, &fj_op_linear_dw, &one, dt, x));
    if (fj_wants_grad(n, 3))
        fj_grad_add(g, &dx[3], FJ_EMIT(g, &fj_op_linear_dw, &scaled, dy[0], n->out[1]));
    if (n->n_in > 4 && fj_wants_grad(n, 4)) fj_grad_add(g, &dx[4], dy[0]);
}

const fj_op fj_op_linear_lora = { .name = "linear_lora",
                                  .n_in = 5,
                                  .n_out = 2,
                                  .share = 5,
                                  .params = sizeof(double),
                                  .shape = shape,
                                  .grad = grad,
                                  .scratch = scratch,
                                  FJ_FNS(linear_lora) };

static bool shape_dx(fj_node *n, fj_err *e) {
    const fj_tensor *dy = n->in[0], *w = n->in[1], *a = n->in[2], *b = n->in[3],
                    *c = n->n_in > 4 ? n->in[4] : NULL;
    if (dy->cols != w->rows || a->cols != w->cols || b->rows != w->rows || a->rows != b->cols)
        return fj_fail(e, FJ_EINVAL, "gradient %s and adapter %s do not belong to weight %s",
                       dy->name, a->name, w->name);
    n->out[0]->rows = n->out[1]->rows = dy->rows;
    n->out[0]->cols = w->cols;
    n->out[1]->cols = a->rows;
    return !c || fj_same_shape(c, n->out[0], e);
}

static size_t scratch_dx(const fj_node *n, const fj_graph_opts *o) {
    int64_t m = n->in[0]->rows;
    fj_wmat w = fj_mat(n->in[1]), a = fj_mat(n->in[2]), b = fj_mat(n->in[3]);
    fj_form fw = fj_dx_form(&w, o->f32), fb = fj_dx_form(&b, o->f32);
    return fj_rounded_bytes(m, w.n, fw) + (fb == fw ? 0 : fj_rounded_bytes(m, b.n, fb)) +
           fj_rounded_bytes(m, a.n, fj_dx_form(&a, o->f32)) +
           fj_gemm_rounded_scratch(m, o->threads);
}

const fj_op fj_op_linear_lora_dx = { .name = "linear_lora_dx",
                                     .n_in = 5,
                                     .n_out = 2,
                                     .share = 5,
                                     .params = sizeof(double),
                                     .shape = shape_dx,
                                     .scratch = scratch_dx,
                                     FJ_FNS(linear_lora_dx) };

fj_tensor *fj_linear_lora(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *a, fj_tensor *b,
                          fj_tensor *c, double scale) {
    return FJ_EMIT(g, &fj_op_linear_lora, &scale, x, w, a, b, c);
}
#endif
