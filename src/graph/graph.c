#include "graph/graph.h"

#include <stdio.h>

fj_graph *fj_graph_new(void) {
    fj_graph *g = fj_zalloc(sizeof *g);
    g->segment = -1;
    return g;
}

void fj_graph_forget(fj_graph *g) {
    if (g->exec) g->exec_free(g->exec);
    g->exec = NULL;
}

void fj_graph_free(fj_graph *g) {
    if (!g) return;
    fj_graph_forget(g);
    fj_arena_free(&g->arena);
    free(g->nodes);
    free(g->tensors);
    free(g);
}

fj_tensor *fj_graph_fail(fj_graph *g, fj_code code, const char *fmt, ...) {
    if (g->err.code != FJ_OK) return NULL;
    char msg[sizeof g->err.msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    fj_fail(&g->err, code, "%s", msg);
    return NULL;
}

static fj_tensor *tensor(fj_graph *g, const char *name, fj_kind kind) {
    fj_tensor *t = fj_arena_alloc(&g->arena, sizeof *t);
    t->name = name;
    t->kind = kind;
    t->store = -1;
    FJ_GROW(g->tensors, g->n_tensors + 1, g->cap_tensors);
    g->tensors[g->n_tensors++] = t;
    return t;
}

static fj_tensor *given(fj_graph *g, const char *name, fj_kind kind, fj_dtype dt, int64_t rows,
                        int64_t cols) {
    if (g->err.code != FJ_OK) return NULL;
    if (rows < 0 || cols < 0 || fj_dtype_size(dt, rows, cols) < 0)
        return fj_graph_fail(g, FJ_EINVAL, "%s: %lld x %lld values of %s is not a tensor", name,
                             (long long)rows, (long long)cols, fj_dtype_get(dt)->name);
    fj_tensor *t = tensor(g, fj_arena_strdup(&g->arena, name), kind);
    t->dtype = dt;
    t->rows = rows;
    t->cols = cols;
    return t;
}

fj_tensor *fj_input(fj_graph *g, const char *name, fj_dtype dt, int64_t rows, int64_t cols) {
    return given(g, name, FJ_INPUT, dt, rows, cols);
}

fj_tensor *fj_extern(fj_graph *g, const char *name, fj_dtype dt, int64_t rows, int64_t cols,
                     fj_buf *buf, size_t off) {
    fj_tensor *t = given(g, name, FJ_EXTERN, dt, rows, cols);
    if (t) {
        t->buf = buf;
        t->off = off;
    }
    return t;
}

fj_tensor *fj_rows(fj_graph *g, fj_tensor *x, int64_t row0, int64_t rows) {
    if (!x) return NULL;
    if (row0 == 0 && rows == x->rows) return x;
    if (row0 < 0 || rows < 0 || row0 > x->rows - rows)
        return fj_graph_fail(g, FJ_EINVAL, "%lld rows from %lld on of %s, which has %lld",
                             (long long)rows, (long long)row0, x->name, (long long)x->rows);
    fj_tensor *t = given(g, x->name, x->kind, x->dtype, rows, x->cols);
    if (!t) return NULL;
    t->of = x;
    t->row0 = row0;
    t->grad = x->grad;
    t->node = x->node;
    return t;
}

static void keep(const fj_graph *g, fj_node *n) {
    for (int i = 0; i < n->op->keeps; i++) {
        fj_tensor *x = n->in[i], *y = n->out[n->n_out - n->op->keeps + i];
        bool wanted = g->keep_bf16 && x->dtype == FJ_F32;
        y->dtype = n->f64 ? FJ_F64 : FJ_BF16;
        y->rows = wanted ? x->rows : 0;
        y->cols = x->cols;
        if (wanted) x->kept = y;
    }
}

fj_tensor *fj_emit(fj_graph *g, const fj_op *op, const void *params, int n_in,
                   fj_tensor *const *in) {
    if (g->err.code != FJ_OK) return NULL;
    FJ_ASSERT(n_in <= op->n_in && op->n_in <= FJ_MAX_IN && op->n_out <= FJ_MAX_OUT);
    fj_node *n = fj_arena_alloc(&g->arena, sizeof *n);
    n->op = op;
    n->n_in = n_in;
    n->n_out = op->n_out;
    n->segment = g->segment;
    if (op->params) {
        void *p = fj_arena_alloc(&g->arena, op->params);
        memcpy(p, params, op->params);
        n->params = p;
    }
    bool grad = false;
    for (int i = 0; i < n_in; i++) {
        n->in[i] = in[i];
        if (!in[i]) continue;
        grad |= in[i]->grad;
        n->f64 |= in[i]->dtype == FJ_F64;
    }
    for (int i = 0; i < op->n_out; i++) {
        n->out[i] = tensor(g, op->name, FJ_VALUE);
        bool bf16 = !n->f64 && !g->keep_bf16 && n_in > 0 && in[0] && in[0]->dtype == FJ_BF16;
        n->out[i]->dtype = bf16 ? FJ_BF16 : fj_real_of(n);
        n->out[i]->grad = grad;
        n->out[i]->node = n;
    }
    fj_err e = { 0 };
    if (!op->shape(n, &e)) return fj_graph_fail(g, e.code, "%s: %s", op->name, e.msg);
    keep(g, n);
    for (int i = 0; i < op->n_out; i++)
        if (n->out[i]->rows < 0 || n->out[i]->cols < 0 || fj_tensor_bytes(n->out[i]) < 0)
            return fj_graph_fail(g, FJ_EINVAL, "%s: result %d of %lld x %lld is not a tensor",
                                 op->name, i, (long long)n->out[i]->rows,
                                 (long long)n->out[i]->cols);
    FJ_GROW(g->nodes, g->n_nodes + 1, g->cap_nodes);
    g->nodes[g->n_nodes++] = n;
    return n->out[0];
}

void fj_segment(fj_graph *g, int s) { g->segment = s; }

fj_tensor *fj_keep(fj_tensor *t) {
    if (t) t->keep = true;
    return t;
}
