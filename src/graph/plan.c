/* plan.c - which nodes run, and where every value lies.
 *
 * A storage is a run of bytes with a first and a last moment; moments are positions in the node list.
 * Values that share memory (views, in-place results, results that take the memory of an input which
 * dies there) share a storage.  Storages are placed largest first at the lowest offset that is free
 * for their whole life ("greedy by size", Pisarchyk and Lee 2020): within a few percent of the lower
 * bound on transformer graphs, and it needs no data, so the peak is known before the run. */
#include "graph/graph.h"

enum { ALIGN = 64 };

typedef struct storage {
    int64_t first, last; /* moments, both included */
    size_t bytes, off;
} storage;

static fj_tensor *root(fj_tensor *t) {
    while (t->of) t = t->of;
    return t;
}

/* The tensor in whose memory t will lie: through views and through results of ops in place. */
static fj_tensor *home(fj_tensor *t) {
    for (;;) {
        if (t->of) t = t->of;
        else if (t->node && t->node->op->in_place && t == t->node->out[0])
            t = t->node->in[t->node->op->share - 1];
        else return t;
    }
}

/* Backwards from what is needed: kept values, and writes into memory of somebody else. */
static void drop_dead(fj_graph *g) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        fj_node *n = g->nodes[i];
        n->dead = !(n->op->in_place && n->in[n->op->share - 1] &&
                    home(n->in[n->op->share - 1])->kind == FJ_EXTERN);
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k]->keep) n->dead = false;
    }
    for (size_t i = 0; i < g->n_tensors; i++) /* a kept view keeps its maker */
        if (g->tensors[i]->of && g->tensors[i]->keep && g->tensors[i]->node)
            g->tensors[i]->node->dead = false;
    for (size_t i = g->n_nodes; i-- > 0;) {
        fj_node *n = g->nodes[i];
        if (n->dead) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && n->in[k]->node) n->in[k]->node->dead = false;
    }
    size_t live = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->nodes[i]->dead) g->nodes[live++] = g->nodes[i];
    g->n_nodes = live;
}

static int by_size(const void *a, const void *b) {
    const storage *x = *(const storage *const *)a, *y = *(const storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x < y ? -1 : x > y);
}

static int by_off(const void *a, const void *b) {
    const storage *x = *(const storage *const *)a, *y = *(const storage *const *)b;
    return x->off < y->off ? -1 : x->off > y->off;
}

static size_t place(storage *s, size_t n) {
    storage **order = fj_alloc((n + 1) * sizeof *order), **busy = fj_alloc((n + 1) * sizeof *busy);
    for (size_t i = 0; i < n; i++) order[i] = &s[i];
    qsort(order, n, sizeof *order, by_size);
    size_t peak = 0;
    for (size_t i = 0; i < n; i++) {
        storage *x = order[i];
        size_t m = 0, at = 0;
        for (size_t j = 0; j < i; j++)
            if (order[j]->bytes && order[j]->first <= x->last && x->first <= order[j]->last)
                busy[m++] = order[j];
        qsort(busy, m, sizeof *busy, by_off);
        for (size_t j = 0; j < m; j++) {
            if (at + x->bytes <= busy[j]->off) break;
            at = FJ_MAX(at, busy[j]->off + busy[j]->bytes);
        }
        x->off = at;
        peak = FJ_MAX(peak, at + x->bytes);
    }
    free(order);
    free(busy);
    return peak;
}

/* The last moment at which each tensor's own value is read (not counting those that share with it). */
static void last_reads(const fj_graph *g, int64_t *last, const fj_map *index) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        for (int k = 0; k < n->n_in; k++) {
            if (!n->in[k]) continue;
            const fj_tensor *t = root(n->in[k]);
            last[*fj_map_get(index, &t, sizeof t)] = (int64_t)i;
        }
    }
}

static size_t scratch_of(const fj_node *n, const fj_graph_opts *o) {
    if (o->cuda) return n->op->cuda && n->op->cuda->scratch ? n->op->cuda->scratch(n, o) : 0;
    return n->op->scratch ? n->op->scratch(n, o) : 0;
}

static size_t round_up(int64_t n) { return ((size_t)n + ALIGN - 1) / ALIGN * ALIGN; }

bool fj_graph_plan(fj_graph *g, const fj_graph_opts *o, fj_err *e) {
    if (g->err.code != FJ_OK) {
        if (e) *e = g->err;
        return false;
    }
    FJ_ASSERT(!g->planned);
    g->opts = *o;
    drop_dead(g);

    fj_map index = { 0 };
    int64_t *last = fj_alloc((g->n_tensors + 1) * sizeof *last);
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *t = g->tensors[i];
        t->store = -1;
        *fj_map_put(&index, &t, sizeof t, NULL) = (int64_t)i;
        last[i] = -1;
    }
    last_reads(g, last, &index);
    for (size_t i = 0; i < g->n_tensors; i++) { /* a kept view keeps the memory that it is of */
        const fj_tensor *t = g->tensors[i], *r = root(g->tensors[i]);
        if (t->keep && r != t) last[*fj_map_get(&index, &r, sizeof r)] = (int64_t)g->n_nodes;
    }

    storage *s = fj_alloc((g->n_tensors + g->n_nodes + 1) * sizeof *s);
    size_t n = 0;
    int64_t end = (int64_t)g->n_nodes;
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *t = g->tensors[i];
        if (t->kind != FJ_INPUT || t->of) continue;
        t->store = (int)n;
        s[n++] = (storage){ 0, end, round_up(fj_tensor_bytes(t)), 0 };
    }
    for (int64_t i = 0; i < end; i++) {
        fj_node *nd = g->nodes[i];
        const fj_op *op = nd->op;
        fj_tensor *from = op->share && op->share <= nd->n_in ? nd->in[op->share - 1] : NULL;
        for (int k = 0; k < nd->n_out; k++) {
            fj_tensor *y = nd->out[k];
            int64_t *dies = &last[*fj_map_get(&index, &y, sizeof y)];
            if (y->keep) *dies = end;
            if (*dies < i) *dies = i;
            if (k == 0 && from && op->in_place) {
                /* The result is that memory: in externs it has no storage of its own. */
                fj_tensor *r = root(from);
                y->of = from;
                y->row0 = 0;
                if (r->store >= 0) s[r->store].last = FJ_MAX(s[r->store].last, *dies);
                int64_t *rl = &last[*fj_map_get(&index, &r, sizeof r)];
                *rl = FJ_MAX(*rl, *dies);
                continue;
            }
            bool takes = k == 0 && from && !from->of && from->kind == FJ_VALUE && !from->keep &&
                         from->store >= 0 && s[from->store].last == i &&
                         fj_tensor_bytes(from) == fj_tensor_bytes(y);
            /* An op that reads it through another input too would read what it has overwritten. */
            for (int j = 0; j < nd->n_in; j++)
                takes = takes && (j == op->share - 1 || !nd->in[j] || root(nd->in[j]) != from);
            if (takes) {
                y->store = from->store;
                s[y->store].last = *dies;
            } else {
                y->store = (int)n;
                s[n++] = (storage){ i, *dies, round_up(fj_tensor_bytes(y)), 0 };
            }
        }
        nd->scratch = round_up((int64_t)scratch_of(nd, o));
        if (nd->scratch) {
            nd->scratch_off = n; /* its storage until offsets are known */
            s[n++] = (storage){ i, i, nd->scratch, 0 };
        }
    }
    g->plan_bytes = place(s, n);
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *t = g->tensors[i];
        if (t->store >= 0) t->off = s[t->store].off;
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->scratch) g->nodes[i]->scratch_off = s[g->nodes[i]->scratch_off].off;
    free(s);
    free(last);
    fj_map_free(&index);
    g->planned = true;
    return true;
}

static bool fits(const fj_graph *g, const fj_graph *like) {
    if (g->n_nodes != like->n_nodes || g->n_tensors != like->n_tensors) return false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *a = g->nodes[i], *b = like->nodes[i];
        if (a->op != b->op || scratch_of(a, &like->opts) > b->scratch) return false;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_tensor *a = g->tensors[i], *b = like->tensors[i];
        if (a->kind != b->kind || fj_tensor_bytes(a) > fj_tensor_bytes(b)) return false;
    }
    return true;
}

bool fj_graph_plan_like(fj_graph *g, const fj_graph *like) {
    FJ_ASSERT(!g->planned && like->planned);
    if (g->err.code != FJ_OK) return false;
    drop_dead(g);
    if (!fits(g, like)) return false;
    fj_map index = { 0 };
    for (size_t i = 0; i < like->n_tensors; i++)
        *fj_map_put(&index, &like->tensors[i], sizeof(fj_tensor *), NULL) = (int64_t)i;
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *a = g->tensors[i];
        const fj_tensor *b = like->tensors[i];
        a->store = b->store;
        a->off = b->store >= 0 ? b->off : a->off;
        if (b->of && !a->of)
            a->of = g->tensors[*fj_map_get(&index, &b->of, sizeof b->of)]; /* in place */
    }
    fj_map_free(&index);
    for (size_t i = 0; i < g->n_nodes; i++) {
        g->nodes[i]->scratch = like->nodes[i]->scratch;
        g->nodes[i]->scratch_off = like->nodes[i]->scratch_off;
    }
    g->opts = like->opts;
    g->plan_bytes = like->plan_bytes;
    g->planned = true;
    return true;
}

void fj_graph_bind(fj_graph *g, fj_buf *mem, size_t off) {
    FJ_ASSERT(g->planned && off + g->plan_bytes <= mem->size);
    fj_graph_forget(g);
    g->mem = (char *)mem->ptr + off;
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *t = g->tensors[i];
        if (t->of) continue;
        if (t->store >= 0) {
            t->buf = mem;
            t->data = g->mem + t->off;
        } else if (t->kind == FJ_EXTERN) {
            t->data = t->buf ? (char *)t->buf->ptr + t->off : NULL;
        }
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        fj_tensor *t = g->tensors[i], *r = root(t);
        if (r == t) continue;
        int64_t row = 0;
        for (fj_tensor *v = t; v->of; v = v->of) row += v->row0;
        t->buf = r->buf;
        t->data = r->data ? (char *)r->data + fj_dtype_size(t->dtype, row, t->cols) : NULL;
    }
}
