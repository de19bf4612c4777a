/* linear_many.c - rows times several weights: queries, keys and values, or gate and up; and on the CPU what
 * made those rows and what the result is added to, in the same pass:
 *
 *     y[i] = (c or nothing) + f(x) w[i]^T        f: x as it is, rmsnorm(x) * with, silu(x) * with, gelu(x) * with
 *
 * Rows are made and rounded one by one, once for all weights of one form.  FEW rows are made by every
 * thread for itself: that costs less than waiting for the others.  The bits are those of the ops one by
 * one, so in training, where all of it has gradients, it is those.  A GPU reads several weights in one
 * kernel, and makes rows apart. */
#include "ops/gemm.h"
#include "ops/op.h"

enum { FIRST = 3, FEW = 2 }; /* number of the first weight; rows */

/* Where things lie in the scratch. */
typedef struct place {
    int forms; /* different ones of the weights */
    fj_form form[FJ_LINEAR_MANY];
    size_t at[FJ_LINEAR_MANY]; /* rows in that form, bytes into a copy */
    bool plain;                /* some weight meets rows as they are */
    size_t made;               /* those, where f is not x itself; bytes into a copy */
    size_t copy;               /* bytes of a copy: a thread's own of few rows, else all threads' */
    int copies;
    size_t row, products; /* a row on its way, of every thread; scratch of the products */
} place;

static size_t whole(int64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }

static place place_of(const fj_node *n, int nth, bool f32, size_t one) {
    place p = { .copies = n->in[0]->rows <= FEW ? nth : 1 };
    int64_t m = n->in[0]->rows, k = n->in[0]->cols;
    bool makes = ((const fj_many *)n->params)->pre != FJ_PRE_NONE;
    for (int i = FIRST; i < n->n_in; i++) {
        fj_wmat w = fj_mat(n->in[i]);
        fj_form form = n->f64 ? FJ_ROWS_F32 : fj_fwd_form(&w, f32);
        bool have = false;
        if (form == FJ_ROWS_F32) p.plain = true;
        for (int j = 0; j < p.forms; j++) have |= p.form[j] == form;
        if (form == FJ_ROWS_F32 || have) continue;
        p.form[p.forms] = form;
        p.at[p.forms++] = p.copy;
        p.copy += fj_rounded_bytes(m, k, form);
    }
    p.made = p.copy;
    if (makes && p.plain) p.copy += whole(m * k * (int64_t)one);
    p.row = p.copy * (size_t)p.copies;
    p.products = p.row + (makes && p.forms ? whole(k * (int64_t)one) * (size_t)nth : 0);
    return p;
}

/* Row r of f(x), in y where it has to be computed. */
static const real *make_row(const fj_team *t, const fj_node *n, int64_t r, real *y) {
    const fj_many *p = n->params;
    const real *x = fj_row(n->in[0], r);
    int64_t k = n->in[0]->cols;
    switch (p->pre) {
    case FJ_PRE_NONE: return x;
    case FJ_PRE_RMSNORM: KERN(t)->rmsnorm(y, x, n->in[1]->data, k, (real)p->eps); break;
    case FJ_PRE_SWIGLU: KERN(t)->swiglu(y, x, fj_row(n->in[1], r), k); break;
    case FJ_PRE_GEGLU: KERN(t)->geglu(y, x, fj_row(n->in[1], r), k); break;
    }
    return y;
}

FJ_CPU(linear_many) {
    const fj_tensor *x = n->in[0], *c = n->in[2];
    int64_t m = x->rows, k = x->cols;
    place p = place_of(n, t->nth, t->f32, sizeof(real));
    bool makes = ((const fj_many *)n->params)->pre != FJ_PRE_NONE, alone = m <= FEW;
    char *mem = t->scratch, *copy = alone ? mem + p.copy * (size_t)t->ith : mem;
    char *own = mem + p.row + whole(k * (int64_t)sizeof(real)) * (size_t)t->ith;
    fj_start_from(t, n->out[0], c);
    int64_t from = 0, to = m;
    if (!alone) fj_team_split(t, m, 1, &from, &to);
    for (int64_t r = from; r < to && (makes || p.forms); r++) {
        fj_team one = *t; /* of m threads, the one whose share is this row */
        one.ith = (int)r;
        one.nth = (int)m;
        real *at = (real *)(p.plain ? copy + p.made : own) + (p.plain ? r * k : 0);
        const real *row = make_row(t, n, r, at);
        for (int i = 0; i < p.forms; i++)
            FJ_R(fj_round_rows)(&one, m, row, 0, k, p.form[i], copy + p.at[i]);
    }
    if (!alone && (makes || p.forms)) fj_team_barrier(t);
    const real *rows = makes && p.plain ? (const real *)(copy + p.made) : x->data;
    fj_team products = *t;
    products.scratch = mem + p.products;
    for (int i = FIRST; i < n->n_in; i++) {
        fj_wmat w = fj_mat(n->in[i]);
        fj_tensor *y = n->out[i - FIRST];
        const void *rounded = NULL;
        for (int j = 0; j < p.forms; j++)
            if (p.form[j] == fj_fwd_form(&w, t->f32)) rounded = copy + p.at[j];
        FJ_R(fj_gemm_fwd_rounded)(&products, m, rows, k, rounded, &w, y->data, y->cols, 1, c);
    }
}

#ifndef FJ_F64
static bool shape(fj_node *n, fj_err *e) {
    const fj_many *p = n->params;
    const fj_tensor *x = n->in[0], *with = n->in[1], *c = n->in[2];
    if (p->pre == FJ_PRE_RMSNORM && !fj_want(with, "weight", fj_real_of(n), 1, x->cols, e))
        return false;
    if (p->pre > FJ_PRE_RMSNORM && !fj_same_shape(x, with, e)) return false;
    for (int i = FIRST; i < n->n_in; i++) {
        const fj_tensor *w = n->in[i];
        if (x->cols != w->cols)
            return fj_fail(e, FJ_EINVAL, "weight %s is %lld x %lld, a row of %s has %lld values",
                           w->name, (long long)w->rows, (long long)w->cols, x->name,
                           (long long)x->cols);
        n->out[i - FIRST]->rows = x->rows;
        n->out[i - FIRST]->cols = w->rows;
    }
    if (c && n->n_in != FIRST + 1)
        return fj_fail(e, FJ_EINVAL, "%s is added to one product, not to %d", c->name,
                       n->n_in - FIRST);
    return !c || fj_same_shape(c, n->out[0], e);
}

static size_t scratch(const fj_node *n, const fj_graph_opts *o) {
    place p = place_of(n, o->threads, o->f32, n->f64 ? sizeof(double) : sizeof(float));
    return p.products + fj_gemm_rounded_scratch(n->in[0]->rows, o->threads);
}

const fj_op fj_op_linear_many = { .name = "linear_many",
                                  .n_in = FIRST + FJ_LINEAR_MANY,
                                  .n_out = FJ_LINEAR_MANY,
                                  .params = sizeof(fj_many),
                                  .share = 3,
                                  .shape = shape,
                                  .scratch = scratch,
                                  FJ_FNS(linear_many) };

void fj_linear_many(fj_graph *g, const fj_many *how, fj_tensor *x, fj_tensor *with, fj_tensor *c,
                    int n, fj_tensor *const *w, fj_tensor **y) {
    fj_tensor *in[FIRST + FJ_LINEAR_MANY] = { x, with, c };
    for (int i = 0; i < n; i++) in[FIRST + i] = w[i];
    fj_tensor *first = fj_emit(g, &fj_op_linear_many, how, FIRST + n, in);
    for (int i = 0; i < n; i++) y[i] = first ? first->node->out[i] : NULL;
}
#endif
