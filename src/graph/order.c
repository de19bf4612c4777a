/* order.c - which nodes need a barrier before them, when all threads of a team walk over all nodes.
 *
 * A node has to wait for another when one writes what the other reads or writes, unless both touch it by rows, the
 * same rows the same thread (by_rows of ops).  Memory decides, not tensors: the planner gives one place to
 * many. */
#include "graph/graph.h"

typedef struct span {
    const char *from, *to;
    int64_t rows; /* touched by rows; -1: in another way */
    bool written;
} span;

enum { SPANS = FJ_MAX_IN + FJ_MAX_OUT + 1 };

static span span_of(const fj_node *n, const fj_tensor *t, unsigned bit, bool written) {
    const char *p = t->data;
    return (span){ p, p + fj_tensor_bytes(t), n->op->by_rows & bit ? t->rows : -1, written };
}

static int spans_of(const fj_graph *g, const fj_node *n, span *s) {
    int k = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->data) s[k++] = span_of(n, n->in[i], FJ_IN(i), false);
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]->data) s[k++] = span_of(n, n->out[i], FJ_OUT(i), true);
    const char *p = g->mem + n->scratch_off;
    if (n->scratch) s[k++] = (span){ p, p + n->scratch, -1, true };
    return k;
}

static bool waits(const span *a, int na, const span *b, int nb) {
    for (int i = 0; i < na; i++)
        for (int j = 0; j < nb; j++) {
            if (!(a[i].written || b[j].written)) continue;
            if (a[i].to <= b[j].from || b[j].to <= a[i].from) continue;
            if (a[i].rows >= 0 && a[i].rows == b[j].rows && a[i].from == b[j].from &&
                a[i].to == b[j].to)
                continue;
            return true;
        }
    return false;
}

void fj_graph_order(const fj_graph *g, bool *meet) {
    enum { MOST = 16 }; /* nodes between two barriers */
    span s[MOST][SPANS];
    int count[MOST], n = 0;
    for (size_t k = 0; k < g->n_nodes; k++) {
        if (n == MOST) n = 0; /* the last one's spans are made below */
        span now[SPANS];
        int m = spans_of(g, g->nodes[k], now);
        meet[k] = k > 0 && n == 0;
        for (int i = 0; i < n && !meet[k]; i++) meet[k] = waits(now, m, s[i], count[i]);
        if (meet[k]) n = 0;
        memcpy(s[n], now, sizeof now);
        count[n++] = m;
    }
}
