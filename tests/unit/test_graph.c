/* test_graph.c - the graph through its header: the first error sticks, memory of living values is
 * never shared, what nobody needs is dropped, recomputation changes memory and not one bit. */
#include "test_util.h"

#include "models/model.h"

static fj_dev *open_dev(int threads) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = threads }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

static const fj_graph_opts one_thread = { .threads = 1 };

/* ---- errors ---------------------------------------------------------------------------------------- */
static void test_first_error_sticks(void **state) {
    (void)state;
    fj_graph *g = fj_graph_new();
    fj_tensor *x = fj_input(g, "x", FJ_F32, 3, 4), *b = fj_input(g, "y", FJ_F32, 3, 5);
    fj_tensor *bad = fj_add(g, x, b);
    assert_null(bad);
    size_t nodes = g->n_nodes, tensors = g->n_tensors;
    assert_null(fj_rmsnorm(g, bad, x, 0)); /* nothing happens any more, also with NULL */
    assert_null(fj_add(g, x, x));
    assert_null(fj_input(g, "z", FJ_F32, 1, 1));
    assert_null(fj_rows(g, bad, 0, 1));
    assert_null(fj_keep(bad));
    assert_int_equal(g->n_nodes, nodes);
    assert_int_equal(g->n_tensors, tensors);
    fj_tensor *grad;
    assert_false(fj_backward(g, bad, 1, &x, &grad, NULL, 0));
    fj_err e;
    FJ_FAILS_WITH(fj_graph_plan(g, &one_thread, &e), e, "add: x is 3 x 4, y is 3 x 5");
    assert_int_equal(e.code, FJ_EINVAL);
    fj_graph_free(g);
}

static void test_bad_sizes(void **state) {
    (void)state;
    static const struct {
        int64_t rows, cols;
        fj_dtype t;
    } list[] = {
        { -1, 3, FJ_F32 }, { 3, -1, FJ_F32 }, { INT64_MAX, 2, FJ_F32 }, { 2, 33, FJ_Q8_0 }
    };
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        fj_graph *g = fj_graph_new();
        assert_null(fj_input(g, "too large", list[i].t, list[i].rows, list[i].cols));
        fj_err e;
        FJ_FAILS_WITH(fj_graph_plan(g, &one_thread, &e), e, "is not a tensor");
        fj_graph_free(g);
    }
    for (int i = 0; i < 3; i++) {
        fj_graph *g = fj_graph_new();
        fj_tensor *x = fj_input(g, "x", FJ_F32, 5, 2);
        assert_null(fj_rows(g, x, i == 0 ? -1 : i == 1 ? 4 : INT64_MAX, 2));
        assert_non_null(strstr(g->err.msg, "of x, which has 5"));
        fj_graph_free(g);
    }
    /* A product whose result cannot be counted. */
    fj_graph *g = fj_graph_new();
    fj_tensor *x = fj_extern(g, "x", FJ_F32, 1ll << 40, 1, NULL, 0),
              *w = fj_extern(g, "w", FJ_F32, 1ll << 40, 1, NULL, 0);
    assert_null(fj_linear(g, x, w));
    assert_non_null(strstr(g->err.msg, "is not a tensor"));
    fj_graph_free(g);
}

/* ---- random graphs ---------------------------------------------------------------------------------- */
enum { ROWS = 8, COLS = 16, MAX_VALUES = 64 };

/* The same calls for the same seed; keep_all: every value is read by the host, so nothing is shared. */
static int random_graph(fj_graph *g, uint64_t seed, bool keep_all, fj_tensor **in,
                        fj_tensor **out) {
    fj_rng r;
    fj_rng_seed(&r, seed);
    fj_tensor *v[MAX_VALUES];
    int n = 0, kept = 0, nodes = 5 + (int)fj_rng_below(&r, 40);
    for (int i = 0; i < 3; i++)
        v[n++] = in[i] = fj_input(g, "in", FJ_F32, i == 2 ? COLS : ROWS, COLS);
    fj_tensor *w = v[--n];
    for (int i = 0; i < nodes; i++) {
        fj_tensor *a = v[fj_rng_below(&r, (uint64_t)n)], *b = v[fj_rng_below(&r, (uint64_t)n)],
                  *y = NULL;
        switch (fj_rng_below(&r, 9)) {
        case 0: y = fj_add(g, a, b); break;
        case 1: y = fj_swiglu(g, a, b); break;
        case 2: y = fj_dropout(g, a, 0.25, (uint64_t)i); break;
        case 3: y = fj_linear(g, a, w); break;
        case 4: y = fj_linear_add(g, a, w, b, 0.5, 0); break;
        case 5: y = fj_linear_add(g, fj_rows(g, a, 2, 4), w, b, 0.5, 3); break;
        case 6: y = fj_rmsnorm(g, a, fj_rows(g, w, 3, 1), 1e-5); break;
        case 7: {
            fj_tensor *both =
                FJ_EMIT(g, &fj_op_swiglu_bwd, NULL, a, b, v[fj_rng_below(&r, (uint64_t)n)]);
            y = fj_rng_below(&r, 2) ? both : both->node->out[1];
            break;
        }
        default: y = fj_add(g, a, a); break;
        }
        assert_non_null(y);
        v[n++] = y;
        bool keep = i == nodes - 1 || fj_rng_below(&r, 6) == 0;
        bool part = fj_rng_below(&r, 4) == 0; /* only some of its rows are read after the run */
        if (keep) out[kept++] = fj_keep(part ? fj_rows(g, y, 1, 3) : y);
        if (keep_all) fj_keep(y);
    }
    return kept;
}

typedef struct span {
    const fj_tensor *t; /* NULL: scratch */
    size_t from, to;
    int64_t first, last;
    int64_t dies_into; /* the node whose out[0] may begin where this one ends, -1 */
} span;

static const fj_tensor *home(const fj_tensor *t) {
    while (t->of) t = t->of;
    return t;
}

/* Lifetimes counted anew from the nodes, and every pair of spans compared.  True: two living values lie
 * on one another, and why says which. */
static bool overlap(const fj_graph *g, char why[256]) {
    bool found = false;
    span *s = fj_alloc((g->n_tensors + g->n_nodes) * sizeof *s);
    size_t n = 0;
    int64_t end = (int64_t)g->n_nodes;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_tensor *t = g->tensors[i];
        if (t->of || t->store < 0) continue;
        size_t bytes = (size_t)fj_tensor_bytes(t);
        assert_int_equal(t->off % 64, 0);
        span x = {
            t, t->off, t->off + bytes, t->kind == FJ_INPUT ? 0 : -1, t->kind == FJ_INPUT ? end : -1,
            -1
        };
        assert_true(x.to <= g->plan_bytes);
        for (int64_t k = 0; k < end; k++) {
            const fj_node *nd = g->nodes[k];
            for (int j = 0; j < nd->n_out; j++)
                if (home(nd->out[j]) == t && (x.first < 0 || nd->out[j] == t)) x.first = x.last = k;
            for (int j = 0; j < nd->n_in; j++)
                if (nd->in[j] && home(nd->in[j]) == t) x.last = FJ_MAX(x.last, k);
        }
        for (size_t k = 0; k < g->n_tensors; k++)
            if (g->tensors[k]->keep && home(g->tensors[k]) == t) x.last = end;
        if (x.last >= 0 && x.last < end) x.dies_into = x.last;
        if (x.first >= 0 && bytes) s[n++] = x;
    }
    for (int64_t k = 0; k < end; k++)
        if (g->nodes[k]->scratch)
            s[n++] = (span){ NULL,
                             g->nodes[k]->scratch_off,
                             g->nodes[k]->scratch_off + g->nodes[k]->scratch,
                             k,
                             k,
                             -1 };
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            const span *a = &s[i], *b = &s[j];
            if (a->first > b->last || b->first > a->last || a->from >= b->to || b->from >= a->to)
                continue;
            const span *old = a->first < b->first ? a : b, *young = old == a ? b : a;
            const fj_node *nd = old->dies_into >= 0 ? g->nodes[old->dies_into] : NULL;
            bool taken = nd && young->t && young->t == nd->out[0] && old->from == young->from &&
                         nd->op->share && nd->in[nd->op->share - 1] == old->t;
            for (int k = 0; taken && k < nd->n_in; k++)
                if (k != nd->op->share - 1 && nd->in[k] && home(nd->in[k]) == old->t) taken = false;
            if (taken) continue;
            found = true;
            snprintf(why, 256, "%s [%zu, %zu) alive %lld..%lld and %s [%zu, %zu) alive %lld..%lld",
                     a->t ? a->t->name : "scratch", a->from, a->to, (long long)a->first,
                     (long long)a->last, b->t ? b->t->name : "scratch", b->from, b->to,
                     (long long)b->first, (long long)b->last);
        }
    free(s);
    return found;
}

static void fill(fj_tensor *const *in, uint64_t seed) {
    fj_rng r;
    fj_err e = { 0 };
    fj_rng_seed(&r, seed);
    for (int i = 0; i < 3; i++) {
        float v[COLS * COLS];
        for (size_t k = 0; k < FJ_LEN(v); k++)
            v[k] = (float)fj_rng_normal(&r) * (i == 2 ? 0.2f : 1);
        if (in[i]->data) FJ_OK_OR_FAIL(fj_tensor_set(in[i], v, &e), e);
    }
}

static void test_random_graphs(void **state) {
    (void)state;
    fj_dev *d = open_dev(2);
    fj_rng r = fj_test_rng();
    fj_err e = { 0 };
    for (int i = 0; i < 150; i++) {
        uint64_t seed = fj_rng_u64(&r);
        fj_tensor *in[2][3], *out[2][MAX_VALUES];
        fj_graph *g[2];
        fj_buf *mem[2] = { NULL };
        int n = 0;
        for (int all = 0; all < 2; all++) {
            g[all] = fj_graph_new();
            n = random_graph(g[all], seed, all, in[all], out[all]);
            if (g[all]->err.code != FJ_OK)
                fail_msg("seed %llu: %s", (unsigned long long)seed, g[all]->err.msg);
            FJ_OK_OR_FAIL(fj_dev_prepare(d, g[all], &mem[all], "a random graph", &e), e);
            char why[256];
            if (overlap(g[all], why)) fail_msg("seed %llu: %s", (unsigned long long)seed, why);
            fill(in[all], seed);
            FJ_OK_OR_FAIL(d->fn->run(d, g[all], &e), e);
        }
        assert_true(g[0]->plan_bytes <= g[1]->plan_bytes && g[0]->n_nodes <= g[1]->n_nodes);
        for (int k = 0; k < n; k++) {
            float a[ROWS * COLS], b[ROWS * COLS];
            size_t bytes = (size_t)fj_tensor_bytes(out[0][k]);
            FJ_OK_OR_FAIL(fj_tensor_get(out[0][k], a, &e) && fj_tensor_get(out[1][k], b, &e), e);
            if (memcmp(a, b, bytes))
                fail_msg("seed %llu: value %d differs where memory is shared",
                         (unsigned long long)seed, k);
        }
        for (int all = 0; all < 2; all++) {
            d->fn->free(mem[all]);
            fj_graph_free(g[all]);
        }
    }
    fj_dev_close(d);
}

/* Planted: a value is moved onto its living neighbour. */
static void test_overlap_is_seen(void **state) {
    (void)state;
    fj_graph *g = fj_graph_new();
    fj_tensor *a = fj_input(g, "a", FJ_F32, 8, 16), *x = fj_add(g, a, a), *y = fj_add(g, a, x);
    fj_keep(fj_add(g, x, y));
    fj_err e = { 0 };
    char why[256];
    FJ_OK_OR_FAIL(fj_graph_plan(g, &one_thread, &e), e);
    assert_false(overlap(g, why));
    y->off = x->off;
    assert_true(overlap(g, why));
    fj_graph_free(g);
}

/* ---- dead nodes ------------------------------------------------------------------------------------- */
static void test_dead_nodes(void **state) {
    (void)state;
    fj_graph *g = fj_graph_new();
    fj_tensor *a = fj_input(g, "a", FJ_F32, 4, 4), *x = fj_add(g, a, a);
    fj_tensor *unused = fj_swiglu(g, x, fj_add(g, x, a));
    fj_rmsnorm(g, unused, fj_input(g, "w", FJ_F32, 1, 4), 0);
    fj_tensor *y = fj_keep(fj_add(g, x, a)), *z = fj_add(g, y, y);
    fj_keep(fj_rows(g, z, 1, 2));
    /* Writes into memory of somebody else are needed, the first of a chain too; into a value nobody reads, not. */
    fj_tensor *sum = fj_extern(g, "sum", FJ_F32, 4, 4, NULL, 0), *t = fj_add(g, a, x);
    fj_accum(g, fj_accum(g, sum, t), t);
    fj_accum(g, fj_add(g, t, a), t);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_graph_plan(g, &one_thread, &e), e);
    assert_int_equal(g->n_nodes, 6); /* x, y, z, t, two sums */
    assert_true(unused->node->dead && unused->store < 0);
    for (size_t i = 0; i < g->n_nodes; i++) assert_false(g->nodes[i]->dead);
    fj_graph_free(g);
}

/* ---- the same graph, smaller ------------------------------------------------------------------------- */
static fj_graph *block(int64_t rows, bool other, fj_tensor **in, fj_tensor **out) {
    fj_graph *g = fj_graph_new();
    in[0] = fj_input(g, "x", FJ_F32, rows, 16);
    in[1] = fj_input(g, "w", FJ_F32, 16, 16);
    fj_tensor *h = fj_add(g, in[0], in[0]);
    fj_swiglu(g, h, h); /* dead */
    h = fj_linear_add(g, fj_add(g, h, in[0]), in[1], h, 0.5, 0);
    h = other ? fj_add(g, h, h) : fj_swiglu(g, h, h);
    h = fj_accum(g, h, in[0]);
    out[0] = fj_keep(fj_linear(g, h, in[1]));
    return g;
}

static void test_plan_like(void **state) {
    (void)state;
    fj_dev *d = open_dev(2);
    fj_rng r = fj_test_rng();
    fj_err e = { 0 };
    fj_tensor *in[2], *out[1];
    fj_graph *large = block(50, false, in, out);
    FJ_OK_OR_FAIL(fj_graph_plan(large, &d->plan, &e), e);
    for (int64_t rows = 1; rows <= 50; rows += 7) {
        float v[50 * 16], w[16 * 16], got[2][50 * 16];
        for (size_t i = 0; i < FJ_LEN(v); i++) v[i] = (float)fj_rng_normal(&r);
        for (size_t i = 0; i < FJ_LEN(w); i++) w[i] = (float)fj_rng_normal(&r);
        for (int like = 0; like < 2; like++) {
            fj_graph *g = block(rows, false, in, out);
            if (like) assert_true(fj_graph_plan_like(g, large));
            fj_buf *mem = NULL;
            FJ_OK_OR_FAIL(fj_dev_prepare(d, g, &mem, "a block", &e), e);
            if (like) assert_int_equal(g->plan_bytes, large->plan_bytes);
            else assert_true(g->plan_bytes <= large->plan_bytes);
            FJ_OK_OR_FAIL(fj_tensor_set(in[0], v, &e) && fj_tensor_set(in[1], w, &e), e);
            FJ_OK_OR_FAIL(d->fn->run(d, g, &e), e);
            FJ_OK_OR_FAIL(fj_tensor_get(out[0], got[like], &e), e);
            d->fn->free(mem);
            fj_graph_free(g);
        }
        assert_memory_equal(got[0], got[1], (size_t)rows * 16 * sizeof(float));
    }
    for (int why = 0; why < 2; why++) { /* other nodes; larger: it is planned for itself */
        fj_graph *g = block(why ? 51 : 50, !why, in, out);
        assert_false(fj_graph_plan_like(g, large));
        assert_false(g->planned);
        FJ_OK_OR_FAIL(fj_graph_plan(g, &d->plan, &e), e);
        fj_graph_free(g);
    }
    fj_graph_free(large);
    fj_dev_close(d);
}

/* ---- recomputation, and planned memory against measured ------------------------------------------------ */
typedef struct step {
    float loss;
    size_t plan_bytes, n_grads;
    float *grads;
} step;

static size_t grad_count(const fj_model *m, const fj_lora *l) {
    int n;
    size_t count = 0;
    fj_param *p = fj_params_of(m, l, &n);
    for (int i = 0; i < n; i++) count += (size_t)(p[i].rows * p[i].cols);
    free(p);
    return count;
}

static step train_step(fj_model *m, const fj_lora *l, const fj_batch *b, int recompute) {
    fj_err e = { 0 };
    fj_dev *d = m->dev;
    step s = { .n_grads = grad_count(m, l) };
    fj_buf *grads = d->fn->alloc(d, s.n_grads * sizeof(float), "gradients", &e), *mem = NULL;
    if (!grads) fail_msg("%s", e.msg);
    fj_rows_lora rows = { l, 0, b->n };
    fj_fwd *f = fj_fwd_new(m,
                           &(fj_fwd_opts){ .n = b->n,
                                           .n_seqs = b->n_seqs,
                                           .n_blocks = b->n_blocks,
                                           .n_out = b->n_out,
                                           .out = FJ_OUT_LOSS,
                                           .loras = l ? &rows : NULL,
                                           .n_loras = l ? 1 : 0,
                                           .train_lora = l,
                                           .train_full = !l,
                                           .grads = grads,
                                           .recompute = recompute,
                                           .dropout_seed = 7 },
                           &e);
    if (!f) fail_msg("%s", e.msg);
    int64_t before, after, peak;
    fj_dev_memory(d, &before, NULL);
    FJ_OK_OR_FAIL(fj_dev_prepare(d, f->g, &mem, "a step", &e), e);
    FJ_OK_OR_FAIL(fj_fwd_fill(f, b, &e) && d->fn->run(d, f->g, &e), e);
    fj_dev_memory(d, &after, &peak);
    /* What the plan says is what is held, at the end and at the worst moment. */
    assert_int_equal(after - before, f->g->plan_bytes);
    assert_true(peak >= after);
    s.plan_bytes = f->g->plan_bytes;
    s.grads = fj_alloc(s.n_grads * sizeof(float));
    FJ_OK_OR_FAIL(fj_tensor_get(f->loss, &s.loss, &e), e);
    FJ_OK_OR_FAIL(d->fn->download(grads, 0, s.grads, s.n_grads * sizeof(float), &e), e);
    fj_fwd_free(f);
    d->fn->free(mem);
    d->fn->free(grads);
    fj_dev_memory(d, &after, NULL);
    assert_int_equal(after, before - (int64_t)(s.n_grads * sizeof(float)));
    return s;
}

/* A cheap result that backward reads is made again there; the first one does not live so long. */
static void test_cheap_results(void **state) {
    (void)state;
    fj_dev *d = open_dev(1);
    fj_graph *g = fj_graph_new();
    fj_tensor *x = fj_input(g, "x", FJ_F32, ROWS, COLS);
    fj_tensor *one = fj_extern(g, "norm", FJ_F32, 1, COLS, NULL, 0),
              *w = fj_extern(g, "w", FJ_F32, COLS, COLS, NULL, 0),
              *targets = fj_input(g, "targets", FJ_I32, 1, ROWS),
              *weights = fj_input(g, "weights", FJ_F32, 1, ROWS);
    w->trainable = w->grad = true;
    fj_tensor *y =
        fj_dropout(g, fj_rmsnorm(g, x, one, 1e-5), 0.5, 1); /* a cheap one of a cheap one */
    fj_tensor *grad, *loss = fj_head_ce(g, fj_linear(g, y, w), w, targets, weights, 1, 0);
    fj_keep(loss);
    assert_true(fj_backward(g, loss, 1, &w, &grad, NULL, 0));
    fj_keep(grad);
    fj_err e;
    FJ_OK_OR_FAIL(fj_graph_plan(g, &one_thread, &e), e);
    int norms = 0, drops = 0;
    bool read_again = false, backward = false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        backward |= n->op == &fj_op_head_ce;
        norms += n->op == &fj_op_rmsnorm;
        drops += n->op == &fj_op_dropout;
        for (int k = 0; k < n->n_in && backward; k++)
            read_again |= n->in[k] == y || n->in[k] == y->node->in[0];
    }
    assert_int_equal(norms, 2);
    assert_int_equal(drops, 2);
    assert_false(read_again);
    fj_graph_free(g);
    fj_dev_close(d);
}

static void test_recompute(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        for (int lora = 0; lora < 2; lora++) {
            fj_dev *d = open_dev(threads);
            fj_err e = { 0 };
            fj_model *m = fj_model_open(d, fj_test_source("tests/golden/tiny-default"),
                                        &(fj_model_opts){ .trainable = !lora }, NULL, &e);
            if (!m) fail_msg("%s", e.msg);
            const char *all = "all-linear";
            fj_lora *l = NULL;
            if (lora) {
                l = fj_lora_new(m,
                                &(fj_lora_opts){ .r = 3,
                                                 .alpha = 6,
                                                 .dropout = 0.3,
                                                 .targets = &all,
                                                 .n_targets = 1,
                                                 .seed = 5 },
                                &e);
                if (!l) fail_msg("%s", e.msg);
                /* B starts at zero, which would hide the gradient of A. */
                float *v = fj_alloc(l->bytes);
                for (size_t i = 0; i < l->bytes / sizeof *v; i++)
                    v[i] = (float)((i * 37 % 101) / 500.0 - 0.1);
                FJ_OK_OR_FAIL(d->fn->upload(l->buf, 0, v, l->bytes, &e), e);
                free(v);
            }
            fj_batch b = { 0 };
            int32_t ids[60];
            for (int i = 0; i < 60; i++) ids[i] = (i * 29 + 3) % 64;
            fj_batch_add_sample(&b, ids, NULL, 60, 1.0f / 70);
            fj_batch_add_sample(&b, ids + 7, NULL, 12, 1.0f / 70);
            step plain = train_step(m, l, &b, 0);
            float sum = 0;
            for (size_t i = 0; i < plain.n_grads; i++) sum += plain.grads[i] * plain.grads[i];
            assert_true(sum > 1e-4f);
            size_t was = plain.plan_bytes;
            for (int layers = 1; layers <= 2; layers++) {
                step s = train_step(m, l, &b, layers);
                assert_memory_equal(&s.loss, &plain.loss, sizeof s.loss);
                if (memcmp(s.grads, plain.grads, s.n_grads * sizeof(float)))
                    fail_msg("%d layers recomputed: other gradients", layers);
                /* The last layer's values are wanted at once after they are made: computing them
                 * twice saves nothing. */
                if (layers < 2 ? s.plan_bytes >= was : s.plan_bytes >= plain.plan_bytes)
                    fail_msg("%d layers recomputed: %zu bytes after %zu", layers, s.plan_bytes,
                             was);
                was = s.plan_bytes;
                free(s.grads);
            }
            free(plain.grads);
            fj_batch_free(&b);
            fj_lora_close(l);
            fj_model_close(m);
            fj_dev_close(d);
        }
}

/* ---- barriers -------------------------------------------------------------------------------------- */
static void test_order(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = open_dev(2);
    fj_graph *g = fj_graph_new();
    fj_buf *mem = NULL, *buf = d->fn->alloc(d, 2 * 4 * 9 * 8, "a test", &e);
    assert_non_null(buf);
    fj_tensor *x = fj_input(g, "x", FJ_F32, 5, 8), *z = fj_input(g, "z", FJ_F32, 5, 8),
              *w = fj_input(g, "w", FJ_F32, 1, 4), *table = fj_input(g, "table", FJ_F32, 5, 4),
              *slots = fj_input(g, "slots", FJ_I32, 1, 5),
              *keys = fj_extern(g, "keys", FJ_F32, 9, 8, buf, 0),
              *vals = fj_extern(g, "values", FJ_F32, 9, 8, buf, 4 * 9 * 8);
    fj_tensor *q = fj_rmsnorm(g, x, w, 0),
              *k = fj_rope(g, q, table, 2); /* by rows, as what follows */
    keys = fj_kv_put(g, keys, k, slots);
    vals = fj_kv_put(g, vals, z, slots);
    fj_tensor *all = fj_add(g, keys, vals); /* reads all of both, and is not by rows */
    fj_keep(fj_rmsnorm(g, all, w, 0));      /* 9 rows */
    fj_keep(fj_rmsnorm(g, z, w, 0));        /* lies where `all` was */
    vals = fj_kv_put(g, vals, z, slots);    /* over what was read before the last barrier */
    FJ_OK_OR_FAIL(fj_dev_prepare(d, g, &mem, "a test", &e), e);
    bool meet[16];
    static const bool want[] = { false, false, false, false, true, true, true, false };
    assert_int_equal(g->n_nodes, FJ_LEN(want));
    fj_graph_order(g, meet);
    for (size_t i = 0; i < FJ_LEN(want); i++)
        if (meet[i] != want[i])
            fail_msg("node %zu, %s: %s barrier", i, g->nodes[i]->op->name, meet[i] ? "a" : "no");
    fj_graph_free(g);
    d->fn->free(mem);
    d->fn->free(buf);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_error_sticks), cmocka_unit_test(test_order),
        cmocka_unit_test(test_bad_sizes),          cmocka_unit_test(test_random_graphs),
        cmocka_unit_test(test_overlap_is_seen),    cmocka_unit_test(test_dead_nodes),
        cmocka_unit_test(test_plan_like),          cmocka_unit_test(test_cheap_results),
        cmocka_unit_test(test_recompute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
