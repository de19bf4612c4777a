/* test_cuda_attn.c - attention on a GPU with the head sizes that tensor cores take: against f64, and the same
 * bits for a query alone and among others.  Skips loudly where there is no GPU (or none is played). */
#include "op_cases.h"

static const oc_attn shapes[] = {
    { 2, 1, 64, 0, { 70, 1, 33, 130 }, 0, 0, false }, { 4, 2, 64, 45, { 3, 4 }, 0, 0, false },
    { 4, 1, 64, 75, { 140, 4 }, 70, 0, true },        { 2, 2, 96, 0, { 70, 5, 100 }, 17, 0, false },
    { 3, 1, 96, 70, { 1, 1 }, 0, 3, true },           { 4, 2, 128, 0, { 1, 133, 5 }, 0, 0, false },
    { 8, 2, 128, 130, { 1, 2, 1 }, 0, 0, true },      { 2, 1, 128, 64, { 200 }, 100, 1.5, true },
    { 6, 2, 128, 0, { 90, 40 }, 50, 0, false },       { 7, 1, 64, 0, { 150, 33, 1 }, 0, 0, false },
    { 2, 2, 256, 0, { 130, 2 }, 0, 2, false },        { 2, 1, 256, 3, { 5, 2 }, 4, 0, true },
};

/* NULL with the reason printed: the test calls skip(). */
static fj_dev *gpu(void) {
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .device = "cuda" }, &e);
    if (!d) printf("SKIP: nothing was tested on a GPU: %s\n", e.msg);
    fflush(stdout);
    return d;
}

static void build(oc *c, int v, bool back) {
    fj_tensor *in[5];
    int64_t n, slots;
    oc_attn_inputs(c, &shapes[v], false, in, &n, &slots);
    fj_attn_params p = oc_attn_params(&shapes[v]);
    fj_tensor *sinks = shapes[v].sinks ? oc_vec(c, 1, p.heads, false) : NULL;
    fj_tensor *y = fj_attn(c->g, in[0], in[1], in[2], in[3], in[4], sinks, &p);
    if (back)
        oc_outs(c,
                FJ_EMIT(c->g, &fj_op_attn_bwd, &p, in[0], in[1], in[2], in[3], in[4], y,
                        y->node->out[1], oc_real(c, n, y->cols, false)),
                0);
    else oc_outs(c, y, 0);
    if (c->g->err.code != FJ_OK) fail_msg("variant %d: %s", v, c->g->err.msg);
}

static void against_f64(bool back) {
    fj_dev *d = gpu();
    if (!d) skip();
    fj_rng r = fj_test_rng();
    fj_err e = { 0 };
    fj_dev *exact = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    if (!exact) fail_msg("%s", e.msg);
    for (int v = 0; v < (int)FJ_LEN(shapes); v++) {
        oc a, b;
        uint64_t seed = fj_rng_u64(&r);
        oc_open(&a, exact, FJ_F64, seed);
        oc_open(&b, d, FJ_F32, seed);
        a.bf16 = b.bf16 = true;
        b.g->act = d->act;
        build(&a, v, back);
        build(&b, v, back);
        oc_run(&a);
        oc_run(&b);
        for (int i = 0; i < a.n_out; i++) {
            double *x = oc_get(a.out[i]), *y = oc_get(b.out[i]), big = 1e-3, off = 0;
            for (int64_t j = 0; j < a.out[i]->rows * a.out[i]->cols; j++) {
                big = FJ_MAX(big, fabs(x[j]));
                if (!(fabs(x[j] - y[j]) <= off)) off = fabs(x[j] - y[j]);
            }
            printf("%s, variant %d, result %d: off by %.1e\n", back ? "backward" : "forward", v, i,
                   off / big);
            fflush(stdout);
            /* Backward: as the case of attn_bwd in op_cases.h says. */
            if (!(off / big <= (back ? 4e-2 : 1.2e-2)))
                fail_msg("variant %d, result %d: off", v, i);
            free(x);
            free(y);
        }
        oc_close(&a);
        oc_close(&b);
    }
    fj_dev_close(d);
    fj_dev_close(exact);
}

static void test_forward(void **state) {
    (void)state;
    against_f64(false);
}
static void test_backward(void **state) {
    (void)state;
    against_f64(true);
}

/* Rows [from, from + n) of a sequence, with the blocks of `len` positions; `times` such sequences. */
static void rows_of(oc *c, fj_dev *d, const oc_attn *s, int len, int from, int n, int times,
                    const double *q) {
    oc_open(c, d, FJ_F32, 5);
    c->bf16 = true;
    c->g->act = d->act;
    int of = (len + 31) / 32;
    int32_t seqs[2][4], *blocks = fj_alloc((size_t)(times * of) * sizeof *blocks);
    for (int t = 0; t < times; t++) {
        memcpy(seqs[t], (int32_t[4]){ t * n, n, from, t * of }, sizeof seqs[t]);
        for (int b = 0; b < of; b++) blocks[t * of + b] = 32 * (of - 1 - b);
    }
    fj_tensor *k = oc_real(c, 32 * of, (int64_t)s->kv_heads * s->head_dim, false);
    fj_tensor *v = oc_real(c, 32 * of, (int64_t)s->kv_heads * s->head_dim, false);
    fj_tensor *sinks = s->sinks ? oc_vec(c, 1, s->heads, false) : NULL;
    fj_tensor *x = oc_real(c, times * n, (int64_t)s->heads * s->head_dim, false);
    for (int t = 0; q && t < times; t++)
        memcpy(c->arg[c->n_args - 1].v + t * n * x->cols, q, (size_t)(n * x->cols) * sizeof *q);
    fj_tensor *sq = oc_ints(c, times, 4, &seqs[0][0]);
    fj_tensor *bl = oc_ints(c, 1, times * of, blocks);
    free(blocks);
    fj_attn_params p = oc_attn_params(s);
    oc_outs(c, fj_attn(c->g, x, k, v, sq, bl, sinks, &p), 0);
    if (c->g->err.code != FJ_OK) fail_msg("%s", c->g->err.msg);
    oc_run(c);
}

/* Longer than two chunks of keys; pieces of few rows and of many, at odd places. */
static void test_bits(void **state) {
    (void)state;
    static const oc_attn list[] = {
        { 2, 1, 64, 0, { 0 }, 0, 0, false },  { 4, 2, 96, 0, { 0 }, 900, 5, true },
        { 4, 1, 128, 0, { 0 }, 0, 0, true },  { 2, 1, 128, 0, { 0 }, 1100, 0, false },
        { 1, 1, 256, 0, { 0 }, 0, 0, false },
    };
    static const int piece[][2] = { { 149, 1 }, { 0, 1 }, { 77, 3 }, { 3, 90 }, { 40, 1 } };
    enum { FROM = 1990, N = 150 };
    fj_dev *d = gpu();
    if (!d) skip();
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        oc all;
        rows_of(&all, d, &list[i], FROM + N, FROM, N, 1, NULL);
        double *q = NULL, *y[2];
        for (int a = 0; a < all.n_args; a++)
            if (all.arg[a].t->rows == N) q = all.arg[a].v;
        for (int o = 0; o < 2; o++) y[o] = oc_get(all.out[o]);
        for (size_t k = 0; k < FJ_LEN(piece); k++) {
            oc one;
            int from = piece[k][0], n = piece[k][1];
            rows_of(&one, d, &list[i], FROM + N, FROM + from, n, 1 + (int)k % 2,
                    q + from * list[i].heads * list[i].head_dim);
            for (int o = 0; o < 2; o++) {
                double *z = oc_get(one.out[o]);
                int64_t cols = one.out[o]->cols;
                for (int t = 0; t < 1 + (int)k % 2; t++)
                    if (memcmp(z + t * n * cols, y[o] + from * cols,
                               (size_t)(n * cols) * sizeof *z) != 0)
                        fail_msg("case %zu, rows %d..%d: other bits of result %d", i, from,
                                 from + n, o);
                free(z);
            }
            oc_close(&one);
        }
        free(y[0]);
        free(y[1]);
        oc_close(&all);
        printf("case %zu: the same bits\n", i);
        fflush(stdout);
    }
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_backward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
