/* test_ops.c - every op of ops.def on the CPU: f32 against the f64 path, the same bits on any team,
 * every weight format, writes in place, and sharing of memory.  An op without a case does not compile.
 *
 * FORJA_TIME=N: no tests; the same cases are timed on N threads, a line for each: op, variant, nanoseconds of a
 * run (the graph of the case, its walk included) as least, median and most of 9. */
#include "op_cases.h"

#include "base/fs.h"
#include "ops/op.h"

static const oc_entry list[] = {
#define FJ_OP(name) { #name, case_##name },
#define FJ_OP_BWD FJ_OP
#define FJ_OP_AUX FJ_OP
#include "ops/ops.def"
#undef FJ_OP
#undef FJ_OP_BWD
#undef FJ_OP_AUX
};

static fj_dev *open_dev(int threads, bool f32) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = threads, .f32 = f32 }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

/* False: no variant v. */
static bool run_case(oc *c, fj_dev *d, fj_dtype as, const oc_entry *op, int v, uint64_t seed) {
    oc_open(c, d, as, seed);
    if (!op->build(c, v)) {
        oc_close(c);
        return false;
    }
    if (c->g->err.code != FJ_OK) fail_msg("%s, variant %d: %s", op->name, v, c->g->err.msg);
    assert_true(c->n_out > 0);
    /* What the op writes into is a result too. */
    oc_run(c);
    return true;
}

/* Result i: kept tensors first, then memory that the op has changed. */
static const fj_tensor *result(const oc *c, int i) {
    if (i < c->n_out) return c->out[i];
    i -= c->n_out;
    for (int k = 0; k < c->n_args; k++)
        if (c->arg[k].changes && i-- == 0) return c->arg[k].t;
    return NULL;
}

/* Largest difference between results, relative to the largest value of each. */
static double apart(const oc *a, const oc *b) {
    double worst = 0;
    const fj_tensor *t, *u;
    for (int i = 0; (t = result(a, i)); i++) {
        u = result(b, i);
        assert_true(u && t->rows == u->rows && t->cols == u->cols);
        double *x = oc_get(t), *y = oc_get(u), big = 1e-3, diff = 0;
        for (int64_t j = 0; j < t->rows * t->cols; j++) {
            big = FJ_MAX(big, fabs(x[j]));
            double d = fabs(x[j] - y[j]);
            if (!(d <= diff)) diff = d; /* NaN stays */
        }
        if (!(diff / big <= worst)) worst = diff / big;
        free(x);
        free(y);
    }
    return worst;
}

static void same_bits(const oc *a, const oc *b, const char *name, int v, const char *what) {
    fj_err e = { 0 };
    const fj_tensor *t;
    for (int i = 0; (t = result(a, i)); i++) {
        const fj_tensor *u = result(b, i);
        size_t bytes = (size_t)fj_tensor_bytes(t);
        char *x = fj_alloc(bytes + 1), *y = fj_alloc(bytes + 1);
        FJ_OK_OR_FAIL(fj_tensor_get(t, x, &e) && fj_tensor_get(u, y, &e), e);
        if (memcmp(x, y, bytes))
            fail_msg("%s, variant %d, result %d: other bits with %s", name, v, i, what);
        free(x);
        free(y);
    }
}

static void test_f32_against_f64(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *exact = open_dev(1, false), *f32 = open_dev(1, true), *fast = open_dev(1, false);
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        double worst = 0, worst_fast = 0;
        int v = 0;
        for (;; v++) {
            uint64_t seed = fj_rng_u64(&r);
            oc a, b, c;
            if (!run_case(&a, exact, FJ_F64, &list[i], v, seed)) break;
            assert_true(run_case(&b, f32, FJ_F32, &list[i], v, seed));
            assert_true(run_case(&c, fast, FJ_F32, &list[i], v, seed));
            double off = apart(&a, &b), off_fast = apart(&a, &c);
            if (!(off <= b.tol_f32))
                fail_msg("%s, variant %d, all f32: off by %.3g, allowed %.3g", list[i].name, v, off,
                         b.tol_f32);
            if (!(off_fast <= c.tol))
                fail_msg("%s, variant %d: off by %.3g, allowed %.3g", list[i].name, v, off_fast,
                         c.tol);
            worst = FJ_MAX(worst, off);
            worst_fast = FJ_MAX(worst_fast, off_fast);
            oc_close(&a);
            oc_close(&b);
            oc_close(&c);
        }
        assert_true(v > 0);
        printf("%-10s %2d variants: off by %.1e in f32, %.1e by default\n", list[i].name, v, worst,
               worst_fast);
    }
    fj_dev_close(exact);
    fj_dev_close(f32);
    fj_dev_close(fast);
}

static void test_same_bits_on_any_team(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int f32 = 0; f32 < 2; f32++) {
        fj_dev *d[3];
        for (int i = 0; i < 3; i++) d[i] = open_dev(i + 1, f32);
        for (size_t i = 0; i < FJ_LEN(list); i++)
            for (int v = 0;; v++) {
                uint64_t seed = fj_rng_u64(&r);
                oc one, more;
                if (!run_case(&one, d[0], FJ_F32, &list[i], v, seed)) break;
                for (int k = 1; k < 3; k++) {
                    assert_true(run_case(&more, d[k], FJ_F32, &list[i], v, seed));
                    same_bits(&one, &more, list[i].name, v, k == 1 ? "2 threads" : "3 threads");
                    oc_close(&more);
                }
                oc_close(&one);
            }
        for (int i = 0; i < 3; i++) fj_dev_close(d[i]);
    }
}

/* A weight as panels gives the bits that it gives as rows. */
static void test_panels_are_rows(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, false);
    for (size_t i = 0; i < FJ_LEN(oc_formats); i++) {
        uint64_t seed = fj_rng_u64(&r);
        oc c[2];
        const int64_t k = fj_dtype_get(oc_formats[i])->block > 32 ? 512 : 96;
        if (fj_wmat_packed_bytes(oc_formats[i], 70, k) < 0) continue;
        for (int p = 0; p < 2; p++) {
            oc_open(&c[p], d, FJ_F32, seed);
            c[p].panels = p;
            fj_tensor *x = oc_real(&c[p], 9, k, false),
                      *w = oc_weight(&c[p], oc_formats[i], 70, k, false);
            assert_int_equal(w->panels, p);
            oc_out(&c[p], fj_linear(c[p].g, x, w));
            oc_out(&c[p], fj_embed(c[p].g, w, oc_ints(&c[p], 1, 3, (int32_t[]){ 0, 69, 33 })));
            oc_run(&c[p]);
        }
        same_bits(&c[0], &c[1], fj_dtype_get(oc_formats[i])->name, 0, "panels");
        oc_close(&c[0]);
        oc_close(&c[1]);
    }
    fj_dev_close(d);
}

/* Rows made on the way to their weights, and what a product is added to, give the bits of the ops one by one. */
static void test_made_on_the_way(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_dev *d = open_dev(2, false);
    for (size_t i = 0; i < FJ_LEN(oc_formats); i++)
        for (int kind = 0; kind < 8; kind++) {
            uint64_t seed = fj_rng_u64(&r);
            int64_t m = kind < 4 ? 1 : 7;
            oc c[2];
            for (int apart = 0; apart < 2; apart++) {
                oc_open(&c[apart], d, FJ_F32, seed);
                fj_graph *g = c[apart].g;
                c[apart].panels = kind % 2;
                fj_many how = { (fj_pre)(kind % 4), 1e-5 };
                fj_tensor *x = oc_real(&c[apart], m, 256, false),
                          *up = oc_real(&c[apart], m, 256, false),
                          *norm = oc_vec(&c[apart], 1, 256, false),
                          *onto = oc_real(&c[apart], m, 70, false),
                          *w = oc_weight(&c[apart], oc_formats[i], 70, 256, false), *y;
                if (!apart) {
                    fj_tensor *with = kind % 4 == FJ_PRE_RMSNORM ? norm : kind % 4 ? up : NULL;
                    fj_linear_many(g, &how, x, with, onto, 1, &w, &y);
                } else {
                    fj_tensor *f[] = { x, fj_rmsnorm(g, x, norm, 1e-5), fj_swiglu(g, x, up),
                                       fj_geglu(g, x, up) };
                    y = fj_linear_add(g, f[kind % 4], w, onto, 1, 0);
                }
                oc_out(&c[apart], y);
                oc_run(&c[apart]);
            }
            same_bits(&c[0], &c[1], fj_dtype_get(oc_formats[i])->name, kind, "rows made apart");
            oc_close(&c[0]);
            oc_close(&c[1]);
        }
    fj_dev_close(d);
}

/* ---- memory ---------------------------------------------------------------------------------------- */
/* For every op that may take an input's memory: it does when the input dies there, and it does not when
 * the input is read later, is kept, is an input of the graph, or is read by the op twice. */
static fj_tensor *sharing(fj_graph *g, fj_tensor *x, fj_tensor *y, int op) {
    switch (op) {
    case 0: return fj_add(g, x, y);
    case 1: return fj_add_bias(g, x, fj_input(g, "b", FJ_F32, 1, 16));
    case 2: return fj_swiglu(g, x, y);
    case 3: return fj_dropout(g, x, 0.5, 1);
    case 4: return fj_linear_add(g, y, fj_input(g, "w", FJ_F32, 16, 16), x, 1, 0);
    case 5: return FJ_EMIT(g, &fj_op_scale_by, NULL, x, fj_input(g, "s", FJ_F32, 1, 1));
    case 6: return fj_rope(g, x, fj_input(g, "table", FJ_F32, 8, 16), 1);
    case 7: return fj_geglu(g, x, y);
    case 8: return fj_gelu(g, x);
    case 9: return fj_scale(g, x, 2);
    case 10: return fj_softcap(g, x, 2);
    case 11: return FJ_EMIT(g, &fj_op_cols_bwd, (&(oc_cols_params){ 0, 16 }), y, x);
    case 12: return fj_rope(g, x, fj_input(g, "table", FJ_F32, 8, 6), 1);
    default: return NULL;
    }
}

static fj_graph *plan_of(fj_graph *g) {
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_graph_plan(g, &(fj_graph_opts){ .threads = 1 }, &e), e);
    return g;
}

static void test_sharing(void **state) {
    (void)state;
    enum { OPS = 13 };
    for (int op = 0; op < OPS; op++)
        for (int why = 0; why < 6; why++) {
            fj_graph *g = fj_graph_new();
            fj_tensor *a = fj_input(g, "a", FJ_F32, 8, 16), *b = fj_input(g, "b", FJ_F32, 8, 16);
            fj_tensor *x = why == 3 ? a : fj_add(g, a, b), *other = fj_add(g, b, b);
            if (why == 4 && (op == 0 || op == 2 || op == 4 || op == 7 || op == 11))
                other = x; /* both inputs */
            if (why == 2) fj_keep(x);
            if (why == 5) fj_keep(fj_rows(g, x, 2, 3)); /* a part of it is read by the host */
            fj_tensor *y = fj_keep(sharing(g, x, other, op));
            assert_non_null(y);
            if (why == 1) fj_keep(fj_add(g, x, b)); /* read later */
            plan_of(g);
            bool shares = y->store == x->store;
            bool may = why == 0 || (why == 4 && other != x);
            if (shares != may)
                fail_msg("%s, reason %d: %s the memory of its input", y->node->op->name, why,
                         shares ? "takes" : "does not take");
            fj_graph_free(g);
        }
    /* linear does not overwrite its own rows of x. */
    fj_graph *g = fj_graph_new();
    fj_tensor *a = fj_input(g, "a", FJ_F32, 8, 16), *x = fj_add(g, a, a);
    fj_tensor *y =
        fj_keep(fj_linear_add(g, fj_rows(g, x, 0, 4), fj_input(g, "w", FJ_F32, 16, 16), x, 1, 0));
    plan_of(g);
    assert_int_not_equal(y->store, x->store);
    fj_graph_free(g);
}

/* The values: x is used by a sharing op, then again. */
static void test_used_later(void **state) {
    (void)state;
    fj_dev *d = open_dev(2, true);
    fj_rng r = fj_test_rng();
    for (int twice = 0; twice < 2; twice++) {
        oc c;
        oc_open(&c, d, FJ_F32, fj_rng_u64(&r));
        fj_tensor *a = oc_real(&c, 33, 65, false), *b = oc_real(&c, 33, 65, false);
        fj_tensor *x = fj_add(c.g, a, b);             /* a + b */
        fj_tensor *y = fj_swiglu(c.g, x, b);          /* would overwrite x */
        fj_tensor *z = fj_add(c.g, twice ? x : y, x); /* reads x once more */
        oc_out(&c, fj_add(c.g, y, z));
        oc_run(&c);
        double *va = c.arg[0].v, *vb = c.arg[1].v, *got = oc_get(c.out[0]);
        for (int i = 0; i < 33 * 65; i++) {
            double vx = va[i] + vb[i], vy = vx / (1 + exp(-vx)) * vb[i],
                   want = vy + (twice ? vx : vy) + vx;
            if (!(fabs(got[i] - want) <= 1e-5 * (1 + fabs(want))))
                fail_msg("element %d: %g, not %g", i, got[i], want);
        }
        free(got);
        oc_close(&c);
    }
    fj_dev_close(d);
}

/* A write into memory of somebody else happens though nobody reads the result, leaves the other rows
 * alone, and a later op sees it. */
static void test_in_place(void **state) {
    (void)state;
    fj_dev *d = open_dev(2, false);
    fj_rng r = fj_test_rng();
    oc c;
    oc_open(&c, d, FJ_F32, fj_rng_u64(&r));
    fj_tensor *cache = oc_extern(&c, 5, 3, true), *x = oc_real(&c, 2, 3, false);
    fj_tensor *after = fj_kv_put(c.g, cache, x, oc_ints(&c, 1, 2, (int32_t[]){ 4, 1 }));
    fj_kv_put(c.g, after, x, oc_ints(&c, 1, 2, (int32_t[]){ 0, 4 }));
    oc_run(&c);
    double *got = oc_get(cache), *was = c.arg[0].v, *rows = c.arg[1].v;
    for (int j = 0; j < 3; j++) {
        assert_true(got[j] == rows[j]);         /* row 0: x 0, second write */
        assert_true(got[3 + j] == rows[3 + j]); /* row 1: x 1, first write */
        assert_true(got[6 + j] == was[6 + j]);  /* rows 2 and 3: as they were */
        assert_true(got[9 + j] == was[9 + j]);
        assert_true(got[12 + j] == rows[3 + j]); /* row 4: x 1, second write over the first */
    }
    free(got);
    oc_close(&c);
    fj_dev_close(d);
}

/* What is kept in BF16 for backward: the result has the bits that it has without, gradients and the result made once more
 * are those of rounded inputs. */
static fj_tensor *keeping(fj_graph *g, int op, fj_tensor *x, fj_tensor *u, fj_tensor *w) {
    switch (op) {
    case 0: return fj_rmsnorm(g, x, w, 1e-5);
    case 1: return fj_layernorm(g, x, w, NULL, 1e-5);
    case 2: return fj_swiglu(g, x, u);
    case 3: return fj_geglu(g, x, u);
    default: return fj_gelu(g, x);
    }
}

static void test_kept_in_bf16(void **state) {
    (void)state;
    enum { OPS = 5, ROWS = 70, COLS = 33 }; /* more than a piece of 1024 */
    fj_dev *d = open_dev(2, false);
    fj_rng r = fj_test_rng();
    for (int op = 0; op < OPS; op++) {
        uint64_t seed = fj_rng_u64(&r);
        oc c[3]; /* kept; rounded inputs; neither */
        for (int i = 0; i < 3; i++) {
            oc_open(&c[i], d, FJ_F32, seed);
            fj_graph *g = c[i].g;
            g->keep_bf16 = i == 0;
            fj_tensor *x = oc_real(&c[i], ROWS, COLS, true), *u = oc_real(&c[i], ROWS, COLS, true),
                      *w = oc_vec(&c[i], 1, COLS, true), *dy = oc_real(&c[i], ROWS, COLS, false),
                      *dx[FJ_MAX_IN] = { 0 };
            for (int k = 0; i == 1 && k < 2 * ROWS * COLS; k++) {
                double *v = &c[i].arg[k % 2].v[k / 2];
                *v = (double)fj_bf16_to_f32(fj_f32_to_bf16((float)*v));
            }
            fj_tensor *y = keeping(g, op, x, u, w);
            fj_node n = *y->node;
            for (int k = 0; k < n.n_in; k++)
                if (n.in[k] && n.in[k]->kept) n.in[k] = n.in[k]->kept;
            assert_true((n.in[0]->dtype == FJ_BF16) == (i == 0));
            oc_out(&c[i], y);
            if (i < 2) {
                n.op->grad(g, &n, &dy, dx);
                oc_out(&c[i], fj_emit(g, n.op, n.params, n.n_in, n.in));
                for (int k = 0; k < 2; k++)
                    if (dx[k]) oc_out(&c[i], dx[k]);
            }
            oc_run(&c[i]);
        }
        c[0].n_out = 1;
        same_bits(&c[2], &c[0], "with what is kept", op, "it");
        c[0].n_out = c[1].n_out;
        c[0].out[0] = c[0].out[1], c[1].out[0] = c[1].out[1];
        same_bits(&c[0], &c[1], "what is kept", op, "rounded inputs");
        for (int i = 0; i < 3; i++) oc_close(&c[i]);
    }
    fj_dev_close(d);
}

/* A cache in blocks, by what ops/attn_bf16.h says of them: slots in a row, across blocks and scattered; other
 * positions stay. */
static void test_cache_in_blocks(void **state) {
    (void)state;
    enum { ROWS = 45, SLOTS = 96, HEADS = 2 };
    fj_rng r = fj_test_rng();
    for (int v = 0; v < 12; v++) {
        fj_err e = { 0 };
        fj_dev *d = open_dev(1 + v % 3, false);
        int64_t hd = v < 6 ? 20 : 64, w = (hd + 31) / 32 * 32, words = 16 * w;
        bool values = v / 3 % 2;
        int32_t slots[ROWS], of[SLOTS];
        float x[ROWS * HEADS * 64];
        for (int i = 0; i < SLOTS; i++) of[i] = -1;
        for (int i = 0; i < ROWS; i++) {
            slots[i] = i < 41 ? 7 + i : 95 - 3 * (i - 41);
            of[slots[i]] = i;
        }
        for (size_t i = 0; i < FJ_LEN(x); i++) x[i] = (float)fj_rng_normal(&r);
        size_t bytes = (size_t)(SLOTS * HEADS * w) * 2;
        uint16_t *got = fj_alloc(bytes);
        for (size_t i = 0; i < bytes / 2; i++) got[i] = 0x4321;
        fj_graph *g = fj_graph_new();
        fj_buf *mem = NULL, *b = d->fn->alloc(d, bytes, "a test", &e);
        fj_tensor *cache = fj_extern(g, "cache", FJ_BF16, SLOTS, fj_kv_block_cols(HEADS, hd), b, 0),
                  *rows = fj_input(g, "x", FJ_F32, ROWS, HEADS * hd),
                  *to = fj_input(g, "slots", FJ_I32, 1, ROWS);
        cache->panels = true;
        fj_kv_put_blocks(g, cache, rows, to, HEADS, values);
        FJ_OK_OR_FAIL(b && d->fn->upload(b, 0, got, bytes, &e) &&
                          fj_dev_prepare(d, g, &mem, "a test", &e) && fj_tensor_set(rows, x, &e) &&
                          fj_tensor_set(to, slots, &e) && d->fn->run(d, g, &e) &&
                          d->fn->download(b, 0, got, bytes, &e),
                      e);
        for (int s = 0; s < SLOTS; s++)
            for (int h = 0; h < HEADS; h++)
                for (int64_t c = 0; c < w; c++) {
                    int64_t p = s % 32, at = (s / 32 * HEADS + h) * words,
                            i = values ? 2 * (at + p / 2 * w + c) + p % 2
                                       : 2 * (at + c / 2 * 32 + p) + c % 2;
                    uint16_t want = 0x4321;
                    if (of[s] >= 0)
                        want = c < hd ? fj_f32_to_bf16(x[of[s] * HEADS * hd + h * hd + c]) : 0;
                    if (got[i] != want)
                        fail_msg("slot %d, head %d, value %d: %04x, wanted %04x", s, h, (int)c,
                                 got[i], want);
                }
        free(got);
        d->fn->free(mem);
        d->fn->free(b);
        fj_graph_free(g);
        fj_dev_close(d);
    }
}

/* Views: rows of a value as the input of an op. */
static void test_views(void **state) {
    (void)state;
    fj_dev *d = open_dev(2, true);
    fj_rng r = fj_test_rng();
    oc c;
    oc_open(&c, d, FJ_F32, fj_rng_u64(&r));
    fj_tensor *a = oc_real(&c, 9, 7, false), *x = fj_add(c.g, a, a);
    fj_tensor *part = fj_rows(c.g, fj_rows(c.g, x, 2, 6), 1, 3); /* rows 3, 4, 5 */
    oc_out(&c, fj_add(c.g, part, fj_rows(c.g, a, 0, 3)));
    oc_out(&c, fj_rows(c.g, x, 8, 1));
    oc_run(&c);
    double *sum = oc_get(c.out[0]), *last = oc_get(c.out[1]), *v = c.arg[0].v;
    for (int i = 0; i < 21; i++) assert_true((float)sum[i] == (float)(2 * v[21 + i]) + (float)v[i]);
    for (int i = 0; i < 7; i++) assert_true(last[i] == 2 * v[56 + i]);
    free(sum);
    free(last);
    oc_close(&c);
    fj_dev_close(d);
}

/* ---- by definition: small ops in f64 against their formulas as papers and PyTorch write them ---------- */
static void is(const char *what, double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * (1 + fabs(want))))
        fail_msg("%s: %.17g, not %.17g", what, got, want);
}

static double gelu_of(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static double clip(double x, double low, double high) { return fmin(fmax(x, low), high); }

static void test_activations_by_definition(void **state) {
    (void)state;
    enum { ROWS = 3, COLS = 10, N = ROWS * COLS };
    fj_dev *d = open_dev(1, false);
    oc c;
    oc_open(&c, d, FJ_F64, fj_test_seed());
    fj_graph *g = c.g;
    fj_tensor *x = oc_real(&c, ROWS, COLS, false), *u = oc_real(&c, ROWS, COLS, false);
    fj_tensor *y[] = { fj_gelu(g, x),         fj_geglu(g, x, u),   fj_scale(g, x, -3),
                       fj_softcap(g, x, 0.7), fj_cols(g, x, 4, 3), fj_glu_oai(g, x, 1.702, 0.8) };
    for (size_t i = 0; i < FJ_LEN(y); i++) fj_keep(y[i]);
    double *v[FJ_LEN(y)], *vx = c.arg[0].v, *vu = c.arg[1].v;
    oc_run(&c);
    for (size_t i = 0; i < FJ_LEN(y); i++) v[i] = oc_get(y[i]);
    for (int i = 0; i < N; i++) {
        is("gelu", v[0][i], gelu_of(vx[i]));
        is("geglu", v[1][i], gelu_of(vx[i]) * vu[i]);
        is("scale", v[2][i], -3 * vx[i]);
        is("softcap", v[3][i], 0.7 * tanh(vx[i] / 0.7));
        if (i % COLS >= 4 && i % COLS < 7) is("cols", v[4][i / COLS * 3 + i % COLS - 4], vx[i]);
    }
    for (int i = 0; i < N / 2; i++) {
        double gate = fmin(vx[2 * i], 0.8), up = clip(vx[2 * i + 1], -0.8, 0.8);
        is("glu_oai", v[5][i], (up + 1) * gate / (1 + exp(-1.702 * gate)));
    }
    for (size_t i = 0; i < FJ_LEN(y); i++) free(v[i]);
    oc_close(&c);
    fj_dev_close(d);
}

static void test_norms_and_rope_by_definition(void **state) {
    (void)state;
    enum { ROWS = 4, COLS = 12, GROUP = 4, HEAD = 6, ROT = 4 };
    fj_dev *d = open_dev(1, false);
    oc c;
    oc_open(&c, d, FJ_F64, fj_test_seed());
    fj_graph *g = c.g;
    fj_tensor *x = oc_real(&c, ROWS, COLS, false), *w = oc_real(&c, 1, COLS, false);
    fj_tensor *b = oc_real(&c, 1, COLS, false), *small = oc_real(&c, 1, GROUP, false);
    fj_tensor *table = oc_real(&c, ROWS, ROT, false);
    fj_tensor *y[] = { fj_layernorm(g, x, w, b, 0.1), fj_layernorm(g, x, w, NULL, 0.1),
                       fj_rmsnorm(g, x, small, 0.1), fj_rope(g, x, table, COLS / HEAD) };
    for (size_t i = 0; i < FJ_LEN(y); i++) fj_keep(y[i]);
    double *v[FJ_LEN(y)], *vx = c.arg[0].v, *vw = c.arg[1].v, *vb = c.arg[2].v, *vs = c.arg[3].v,
                          *vt = c.arg[4].v;
    oc_run(&c);
    for (size_t i = 0; i < FJ_LEN(y); i++) v[i] = oc_get(y[i]);
    for (int r = 0; r < ROWS; r++) {
        const double *a = vx + r * COLS, *t = vt + r * ROT;
        double mean = 0, var = 0;
        for (int i = 0; i < COLS; i++) mean += a[i] / COLS;
        for (int i = 0; i < COLS; i++) var += (a[i] - mean) * (a[i] - mean) / COLS;
        for (int i = 0; i < COLS; i++) {
            double h = (a[i] - mean) / sqrt(var + 0.1) * vw[i], sq = 0;
            is("layernorm", v[0][r * COLS + i], h + vb[i]);
            is("layernorm without a bias", v[1][r * COLS + i], h);
            for (int j = 0; j < GROUP; j++) sq += pow(a[i / GROUP * GROUP + j], 2) / GROUP;
            is("rmsnorm of groups", v[2][r * COLS + i], a[i] / sqrt(sq + 0.1) * vs[i % GROUP]);
            int j = i % HEAD, half = ROT / 2;
            double want = j >= ROT   ? a[i]
                          : j < half ? a[i] * t[j] - a[i + half] * t[half + j]
                                     : a[i] * t[j - half] + a[i - half] * t[j];
            is("rope of a part", v[3][r * COLS + i], want);
        }
    }
    for (size_t i = 0; i < FJ_LEN(y); i++) free(v[i]);
    oc_close(&c);
    fj_dev_close(d);
}

static void test_loss_by_definition(void **state) {
    (void)state;
    enum { ROWS = 5, VOCAB = 7, WIDTH = 3 };
    static const double rules[][2] = { { 1, 0 }, { 0.25, 0 }, { 2, 1.5 } }; /* scale, cap */
    fj_dev *d = open_dev(1, false);
    for (size_t i = 0; i < FJ_LEN(rules); i++) {
        oc c;
        oc_open(&c, d, FJ_F64, fj_test_seed());
        fj_tensor *x = oc_real(&c, ROWS, WIDTH, false), *w = oc_real(&c, VOCAB, WIDTH, false);
        fj_tensor *ids = oc_below(&c, ROWS, VOCAB), *one = oc_positive(&c, 1, ROWS);
        fj_tensor *loss = fj_keep(fj_head_ce(c.g, x, w, ids, one, rules[i][0], rules[i][1]));
        fj_keep(loss->node->out[1]);
        oc_run(&c);
        double *nll = oc_get(loss->node->out[1]), *all = oc_get(loss), sum = 0;
        for (int r = 0; r < ROWS; r++) {
            double total = 0, at = 0;
            for (int t = 0; t < VOCAB; t++) {
                double l = 0;
                for (int j = 0; j < WIDTH; j++)
                    l += rules[i][0] * c.arg[0].v[r * WIDTH + j] * c.arg[1].v[t * WIDTH + j];
                if (rules[i][1] > 0) l = rules[i][1] * tanh(l / rules[i][1]);
                total += exp(l);
                if (t == c.arg[2].i[r]) at = l;
            }
            is("nll", nll[r], log(total) - at);
            sum += c.arg[3].v[r] * nll[r];
        }
        is("loss", *all, sum);
        free(nll);
        free(all);
        oc_close(&c);
    }
    fj_dev_close(d);
}

/* Every op's shape rule refuses a wrong input with a sentence that begins with its name. */
static void test_wrong_shapes(void **state) {
    (void)state;
    static const char *const parts[] = { "add: x is 3 x 4, y is 3 x 5",
                                         "rmsnorm: weight",
                                         "linear: weight y",
                                         "linear: cannot add",
                                         "swiglu: ",
                                         "rope: ",
                                         "attn: ",
                                         "head_ce: head y",
                                         "dropout: probability",
                                         "gather: indices",
                                         "embed: ids",
                                         "kv_put: rows",
                                         "add_bias: bias",
                                         "adamw: ",
                                         "linear_dx: gradient",
                                         "geglu: ",
                                         "layernorm: bias",
                                         "cols: 3 columns from 2 on of x, which has 4",
                                         "softcap: a cap of 0",
                                         "rmsnorm: weight (w) is 1 x 3",
                                         "head_ce: a cap of -1",
                                         "rope: ",
                                         "attn: a window of -1",
                                         "attn: sinks (y) is 3 x 5, wanted 1 x 2",
                                         "glu_oai: gates and ups",
                                         "glu_oai: a limit of 0" };
    for (int i = 0; i < (int)FJ_LEN(parts); i++) {
        fj_graph *g = fj_graph_new();
        fj_tensor *x = fj_input(g, "x", FJ_F32, 3, 4), *y = fj_input(g, "y", FJ_F32, 3, 5);
        fj_tensor *w = fj_input(g, "w", FJ_F32, 5, 4), *ids = fj_input(g, "ids", FJ_I32, 2, 2);
        fj_attn_params p = { 2, 1, 3, 1, 0, 0 }, q = { 2, 2, 2, 1, 0, 0 },
                       back = { 2, 2, 2, 1, -1, 0 };
        fj_tensor *two = x; /* two heads of two */
        oc_linear_params lp = { 1, 0, false };
        fj_tensor *all[] = {
            i == 0 ? fj_add(g, x, y) : NULL,
            i == 1 ? fj_rmsnorm(g, x, y, 0) : NULL,
            i == 2 ? fj_linear(g, x, y) : NULL,
            i == 3 ? fj_linear_add(g, x, w, y, 1, 1) : NULL,
            i == 4 ? fj_swiglu(g, x, y) : NULL,
            i == 5 ? fj_rope(g, x, y, 1) : NULL,
            i == 6 ? fj_attn(g, x, y, y, ids, ids, NULL, &p) : NULL,
            i == 7 ? fj_head_ce(g, x, y, ids, ids, 1, 0) : NULL,
            i == 8 ? fj_dropout(g, x, 1, 0) : NULL,
            i == 9 ? fj_gather(g, x, ids) : NULL,
            i == 10 ? fj_embed(g, x, ids) : NULL,
            i == 11 ? fj_kv_put(g, x, y, ids) : NULL,
            i == 12 ? fj_add_bias(g, x, y) : NULL,
            i == 13 ? fj_adamw_step(g, x, y, x, x, x) : NULL,
            i == 14 ? FJ_EMIT(g, &fj_op_linear_dx, &lp, x, w) : NULL,
            i == 15 ? fj_geglu(g, x, y) : NULL,
            i == 16 ? fj_layernorm(g, x, fj_input(g, "w", FJ_F32, 1, 4), y, 0) : NULL,
            i == 17 ? fj_cols(g, x, 2, 3) : NULL,
            i == 18 ? fj_softcap(g, x, 0) : NULL,
            i == 19 ? fj_rmsnorm(g, x, fj_input(g, "w", FJ_F32, 1, 3), 0) : NULL,
            i == 20 ? fj_head_ce(g, x, w, ids, ids, 1, -1) : NULL,
            i == 21 ? fj_rope(g, x, fj_input(g, "table", FJ_F32, 3, 3), 1) : NULL,
            i == 22 ? fj_attn(g, two, two, two, ids, ids, NULL, &back) : NULL,
            i == 23 ? fj_attn(g, two, two, two, ids, ids, y, &q) : NULL,
            i == 24 ? fj_glu_oai(g, y, 1, 1) : NULL,
            i == 25 ? fj_glu_oai(g, x, 1, 0) : NULL,
        };
        for (size_t k = 0; k < FJ_LEN(all); k++) assert_null(all[k]);
        if (strncmp(g->err.msg, parts[i], strlen(parts[i])))
            fail_msg("\"%s\", not \"%s...\"", g->err.msg, parts[i]);
        fj_graph_free(g);
    }
}

/* ---- planted: an op whose bits depend on the team, and one that is off by 1e-4 --------------------- */
static void planted_cpu(const fj_team *t, const fj_node *n) {
    fj_add_cpu_f32(t, n);
    fj_team_barrier(t);
    if (t->ith == 0) *(float *)n->out[0]->data += t->nth == 1 ? 0 : 0x1p-10f;
}

static void planted_f64(const fj_team *t, const fj_node *n) {
    fj_add_cpu_f64(t, n);
    fj_team_barrier(t);
    if (t->ith == 0) *(double *)n->out[0]->data += 1e-3;
}

static bool case_planted(oc *c, int v) {
    if (v) return false;
    fj_op *op = fj_arena_alloc(&c->g->arena, sizeof *op);
    *op = fj_op_add;
    op->cpu = planted_cpu;
    op->cpu64 = planted_f64;
    oc_out(c, FJ_EMIT(c->g, op, NULL, oc_real(c, 3, 5, false), oc_real(c, 3, 5, false)));
    return true;
}

static void test_planted_bugs_are_caught(void **state) {
    (void)state;
    const oc_entry planted = { "planted", case_planted };
    fj_dev *d1 = open_dev(1, false), *d2 = open_dev(2, false);
    oc a, b, c;
    run_case(&a, d1, FJ_F64, &planted, 0, fj_test_seed());
    run_case(&b, d1, FJ_F32, &planted, 0, fj_test_seed());
    run_case(&c, d2, FJ_F32, &planted, 0, fj_test_seed());
    assert_true(apart(&a, &b) > b.tol_f32);
    double *x = oc_get(b.out[0]), *y = oc_get(c.out[0]);
    assert_true(memcmp(x, y, 15 * sizeof *x) != 0);
    free(x);
    free(y);
    oc_close(&a);
    oc_close(&b);
    oc_close(&c);
    fj_dev_close(d1);
    fj_dev_close(d2);
}

/* ---- the same cases, timed ------------------------------------------------------------------------- */
static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double ns_of_run(oc *c, int64_t times) {
    fj_err e = { 0 };
    double t0 = fj_clock();
    for (int64_t i = 0; i < times; i++) FJ_OK_OR_FAIL(c->dev->fn->run(c->dev, c->g, &e), e);
    return 1e9 * (fj_clock() - t0) / (double)times;
}

static int time_cases(int threads) {
    enum { SAMPLES = 9 };
    static const double enough = 2e6; /* ns of a sample */
    fj_dev *d = open_dev(FJ_MAX(threads, 1), false);
    printf("%-18s %7s %12s %12s %12s\n", "op", "variant", "least ns", "median ns", "most ns");
    for (size_t i = 0; i < FJ_LEN(list); i++)
        for (int v = 0;; v++) {
            oc c;
            double t[SAMPLES];
            if (!run_case(&c, d, FJ_F32, &list[i], v, 1)) break;
            int64_t times = FJ_MAX((int64_t)(enough / (ns_of_run(&c, 1) + 1)), 1);
            for (int s = 0; s < SAMPLES; s++) t[s] = ns_of_run(&c, times);
            qsort(t, SAMPLES, sizeof *t, by_size);
            printf("%-18s %7d %12.0f %12.0f %12.0f\n", list[i].name, v, t[0], t[SAMPLES / 2],
                   t[SAMPLES - 1]);
            oc_close(&c);
        }
    fj_dev_close(d);
    return 0;
}

int main(void) {
    const char *time = getenv("FORJA_TIME");
    if (time) return time_cases(atoi(time));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_against_f64),
        cmocka_unit_test(test_same_bits_on_any_team),
        cmocka_unit_test(test_panels_are_rows),
        cmocka_unit_test(test_made_on_the_way),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_used_later),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_kept_in_bf16),
        cmocka_unit_test(test_cache_in_blocks),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_activations_by_definition),
        cmocka_unit_test(test_norms_and_rope_by_definition),
        cmocka_unit_test(test_loss_by_definition),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_planted_bugs_are_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
