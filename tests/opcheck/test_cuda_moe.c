/* test_cuda_moe.c - a row of a mixture of experts on a GPU: the same bits alone, among a few and among many,
 * with weights of every format.  Skips loudly where there is no GPU (or none is played). */
#include "op_cases.h"

enum { EXPERTS = 3, K = 352, N = 72 };

/* The first n of the same rows, each with one expert, times its weight [N, K], or times its transpose. */
static void run_rows(oc *c, fj_dev *d, fj_dtype dt, int n, bool back) {
    oc_open(c, d, FJ_F32, 7);
    c->bf16 = true;
    c->g->act = d->act;
    int32_t *choice = fj_alloc((size_t)n * sizeof *choice);
    for (int r = 0; r < n; r++) choice[r] = (r + r / 7) % EXPERTS;
    int64_t k = oc_whole(dt, K);
    fj_tensor *w = oc_weights(c, dt, EXPERTS, N, k, false);
    fj_tensor *x = oc_real(c, n, back ? N : k, false);
    fj_tensor *plan = fj_moe_plan(c->g, oc_ints(c, n, 1, choice), EXPERTS);
    free(choice);
    fj_tensor *y = fj_moe_gather(c->g, x, plan);
    struct {
        double scale;
        int64_t most, row0, rows, k;
    } p = { .scale = 1, .most = n, .rows = n, .k = 1 }; /* as in ops/moe_linear.c */
    y = back ? FJ_EMIT(c->g, &fj_op_moe_linear_dx, &p, y, w, plan ? plan->node->out[2] : NULL, NULL)
             : fj_moe_linear(c->g, y, w, plan);
    oc_out(c, fj_moe_combine(c->g, y, NULL, plan));
    if (c->g->err.code != FJ_OK) fail_msg("%s", c->g->err.msg);
    oc_run(c);
}

static void test_bits(void **state) {
    (void)state;
    static const int some[] = { 1, 5, 60, 150 };
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .device = "cuda" }, &e);
    if (!d) {
        printf("SKIP: nothing was tested on a GPU: %s\n", e.msg);
        fflush(stdout);
        skip();
    }
    for (int f = 0; f < 2 * (int)FJ_LEN(oc_formats); f++) {
        fj_dtype dt = oc_formats[f / 2];
        if (!fj_dtype_on_gpu(dt)) continue;
        oc all;
        run_rows(&all, d, dt, 330, f % 2);
        double *y = oc_get(all.out[0]);
        for (size_t i = 0; i < FJ_LEN(some); i++) {
            oc c;
            run_rows(&c, d, dt, some[i], f % 2);
            double *z = oc_get(c.out[0]);
            if (memcmp(y, z, (size_t)(some[i] * c.out[0]->cols) * sizeof *z) != 0)
                fail_msg("weights of %s%s: %d rows have other bits than among 330",
                         fj_dtype_get(dt)->name, f % 2 ? ", gradient" : "", some[i]);
            free(z);
            oc_close(&c);
        }
        free(y);
        oc_close(&all);
    }
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_bits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
