/* quant.c - rows of floats to the block formats of GGUF: nanoseconds a value, on one thread.
 *
 *     forja-bench-quant                       every format and instruction set, on random values
 *     forja-bench-quant TYPE COLS IN IMPORTANCE OUT
 *                                             f32 of IN to blocks in OUT, for tests/interop/test_quant.py; IMPORTANCE:
 *                                             COLS f32, or - */
#include "kernels/quant.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of some runs. */
static double measure(const fj_kern *kern, fj_dtype t, const float *x, const float *w, void *q,
                      int64_t rows, int64_t cols) {
    double best = 1e9, all = 0;
    for (int i = 0; i < 3 || (i < 20 && all < 0.5); i++) {
        double start = now();
        fj_quant_rows(kern, t, x, w, q, rows, cols);
        double took = now() - start;
        all += took;
        if (took < best) best = took;
    }
    return best / (double)(rows * cols) * 1e9;
}

static void table(void) {
    enum { ROWS = 32, COLS = 1024 };
    static float x[ROWS * COLS], w[COLS];
    static char q[ROWS * COLS * 8];
    fj_rng r;
    fj_rng_seed(&r, 1);
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)fj_rng_normal(&r);
    for (int i = 0; i < COLS; i++) w[i] = (float)fj_rng_double(&r);
    for (int v = 0; fj_kern_step(v); v++) {
        fj_kern kern;
        if (!fj_kern_init(&kern, fj_kern_step(v), NULL)) continue;
        printf("%s\n", kern.isa);
        for (int t = 0; t < FJ_DTYPES; t++) {
            if (!fj_quant_can((fj_dtype)t) || fj_dtype_get((fj_dtype)t)->block == 1) continue;
            printf("  %-7s %6.1f ns a value, with importance %6.1f ns\n",
                   fj_dtype_get((fj_dtype)t)->name,
                   measure(&kern, (fj_dtype)t, x, NULL, q, ROWS, COLS),
                   measure(&kern, (fj_dtype)t, x, w, q, ROWS, COLS));
            fflush(stdout);
        }
    }
}

static bool convert(char **arg, fj_err *e) {
    fj_dtype t;
    int64_t cols = strtoll(arg[1], NULL, 10);
    bool weighed = strcmp(arg[3], "-") != 0;
    fj_mapped x = { 0 }, w = { 0 };
    fj_kern kern;
    if (!fj_dtype_parse(arg[0], &t) || !fj_quant_can(t))
        return fj_fail(e, FJ_EINVAL, "%s is no format that can be written", arg[0]);
    if (!fj_kern_init(&kern, getenv("FORJA_ISA"), e) || !fj_map_file(arg[2], &x, e)) return false;
    int64_t rows = cols > 0 ? (int64_t)x.n / 4 / cols : 0, size = fj_dtype_size(t, rows, cols);
    bool ok = !weighed || fj_map_file(arg[3], &w, e);
    if (ok && (size <= 0 || (weighed && (int64_t)w.n < 4 * cols)))
        ok = fj_fail(e, FJ_EINVAL, "rows of %s values are not whole blocks, or something is short",
                     arg[1]);
    if (ok) {
        char *q = fj_alloc((size_t)size);
        const float *values = (const void *)x.p, *weights = weighed ? (const void *)w.p : NULL;
        printf("%.3f\n", measure(&kern, t, values, weights, q, rows, cols));
        ok = fj_write_file(arg[4], q, (size_t)size, e);
        free(q);
    }
    fj_unmap_file(&x);
    fj_unmap_file(&w);
    return ok;
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    if (argc == 1) table();
    else if (argc != 6) fprintf(stderr, "forja-bench-quant [TYPE COLS IN IMPORTANCE OUT]\n");
    else if (!convert(argv + 1, &e)) fprintf(stderr, "%s\n", e.msg);
    else return 0;
    return argc == 1 ? 0 : 2;
}
