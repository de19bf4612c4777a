/* autodiff.c - the backward pass as more nodes of the same graph.
 *
 * Reverse order of emission is a reverse topological order, so one sweep suffices.  A recomputed
 * segment is emitted once more, from the tensors that enter it, when the sweep reaches its last node;
 * gradient rules then see the copies, so the originals die in the forward pass.  Copies that no rule
 * uses are dropped by the planner. */
#include "graph/graph.h"

void fj_grad_add(fj_graph *g, fj_tensor **dx, fj_tensor *more) {
    if (!more) return;
    *dx = *dx ? FJ_EMIT(g, &fj_op_add, NULL, *dx, more) : more;
}

static fj_tensor *twin_of(fj_tensor *t) { return t && t->twin ? t->twin : t; }

/* Emits the nodes of segment s, found among nodes [0, end), once more. */
static void emit_again(fj_graph *g, int s, size_t end) {
    int was = g->segment;
    g->segment = -1;
    for (size_t i = 0; i < end && g->err.code == FJ_OK; i++) {
        fj_node *n = g->nodes[i];
        if (n->segment != s) continue;
        fj_tensor *in[FJ_MAX_IN];
        for (int k = 0; k < n->n_in; k++) in[k] = twin_of(n->in[k]);
        fj_tensor *y = fj_emit(g, n->op, n->params, n->n_in, in);
        if (!y) break;
        n->twin = y->node;
        for (int k = 0; k < n->n_out; k++) n->out[k]->twin = y->node->out[k];
    }
    g->segment = was;
}

/* Is t, as backward reads it, made of what was kept in BF16? */
static bool from_kept(const fj_tensor *t) {
    if (!t || t->kept) return t != NULL;
    if (!t->node || !t->node->op->cheap || t != t->node->out[0]) return false;
    for (int k = 0; k < t->node->n_in; k++)
        if (from_kept(t->node->in[k])) return true;
    return false;
}

/* The value that backward reads for t.  What was kept in BF16 is that.  A result of a cheap op is emitted once more, from
 * what backward reads for its inputs, so that the original need not be kept since the forward pass; where some of them are
 * in BF16, that holds for a recomputed one, too: recomputing changes no bits. */
static fj_tensor *for_backward(fj_graph *g, fj_tensor *t) {
    bool again = t && !t->twin;
    while (t && t->twin) t = t->twin;
    if (!t || t->kept) return t ? t->kept : NULL;
    if (t->of || !t->node || !t->node->op->cheap) return t;
    fj_node *n = t->node;
    fj_tensor *in[FJ_MAX_IN];
    if (!again && !from_kept(t)) return t;
    for (int k = 0; k < n->n_in; k++) in[k] = for_backward(g, n->in[k]);
    fj_tensor *y = fj_emit(g, n->op, n->params, n->n_in, in);
    if (!y) return t;
    for (int k = 0; k < n->n_out; k++) n->out[k]->twin = y->node->out[k];
    return t->twin;
}

bool fj_backward(fj_graph *g, fj_tensor *loss, int n_params, fj_tensor *const *params,
                 fj_tensor **grads, const bool *recompute, int n_segments) {
    if (!loss || g->err.code != FJ_OK) return false;
    if (loss->rows != 1 || loss->cols != 1) {
        fj_graph_fail(g, FJ_EINVAL, "gradients start at a scalar, %s is %lld x %lld", loss->name,
                      (long long)loss->rows, (long long)loss->cols);
        return false;
    }
    fj_segment(g, -1);
    size_t end = g->n_nodes;
    loss->dy = FJ_EMIT(g, &fj_op_one, NULL, loss);
    bool *again = fj_zalloc((size_t)FJ_MAX(n_segments, 1) * sizeof *again);
    for (size_t i = end; i-- > 0 && g->err.code == FJ_OK;) {
        fj_node *n = g->nodes[i];
        fj_tensor *dy[FJ_MAX_OUT] = { 0 }, *dx[FJ_MAX_IN] = { 0 };
        bool any = false;
        for (int k = 0; k < n->n_out; k++) {
            dy[k] = n->out[k]->dy;
            any |= dy[k] && n->out[k]->grad;
        }
        if (!any) continue;
        int s = n->segment;
        if (s >= 0 && s < n_segments && recompute && recompute[s] && !again[s]) {
            again[s] = true;
            emit_again(g, s, end);
        }
        if (!n->op->grad) {
            fj_graph_fail(g, FJ_EUNSUP, "op %s has no gradient", n->op->name);
            break;
        }
        for (int k = 0; k < n->n_in; k++) {
            if (!fj_wants_grad(n, k)) continue;
            if (n->in[k]->of) {
                fj_graph_fail(g, FJ_EUNSUP,
                              "no gradient flows through a view of rows (input %d of %s)", k,
                              n->op->name);
                break;
            }
            dx[k] = n->in[k]->dy;
        }
        /* The same tensor twice (add(x, x)): the second slot starts empty and is joined after. */
        for (int k = 1; k < n->n_in; k++)
            for (int j = 0; j < k; j++)
                if (dx[k] && n->in[k] == n->in[j]) dx[k] = NULL;
        fj_node seen = n->twin ? *n->twin : *n; /* the node over the values that are alive now */
        for (int k = 0; k < n->n_in; k++) {
            fj_tensor *x = n->in[k];
            if (!n->twin || (x && (x->twin || x->kept))) seen.in[k] = for_backward(g, x);
        }
        n->op->grad(g, &seen, dy, dx);
        for (int k = 0; k < n->n_in; k++) {
            if (!fj_wants_grad(n, k)) continue;
            bool repeated = false;
            for (int j = 0; j < k; j++) repeated |= n->in[k] == n->in[j];
            if (repeated) fj_grad_add(g, &n->in[k]->dy, dx[k]);
            else n->in[k]->dy = dx[k];
        }
    }
    free(again);
    for (int i = 0; i < n_params; i++) grads[i] = params[i] ? params[i]->dy : NULL;
    return g->err.code == FJ_OK;
}
