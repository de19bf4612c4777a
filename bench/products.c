/* products.c - forja-bench-products TYPE COLS W X Y: products of rows of floats with weights in a file, for
 * tests/interop/test_products.py.
 *
 * W: rows of COLS values in TYPE, as in GGUF; X: rows of COLS f32; to Y: f32, as many rows as X and as many columns as W
 * has rows.  The arithmetic is that of a model on this machine (FORJA_ISA lowers it): panels where the format has
 * them. */
#include "base/fs.h"
#include "ops/gemm.h"

#include <stdio.h>

static bool product(char **arg, fj_err *e) {
    fj_dtype t;
    fj_kern kern;
    fj_mapped w = { 0 }, x = { 0 };
    int64_t k = strtoll(arg[1], NULL, 10), row;
    if (!fj_dtype_parse(arg[0], &t) || k < 1 || (row = fj_dtype_size(t, 1, k)) < 1)
        return fj_fail(e, FJ_EINVAL, "no rows of %s values in %s", arg[1], arg[0]);
    if (!fj_kern_init(&kern, getenv("FORJA_ISA"), e) || !fj_map_file(arg[2], &w, e)) return false;
    bool ok = fj_map_file(arg[3], &x, e);
    int64_t n = (int64_t)w.n / row, m = (int64_t)x.n / 4 / k,
            packed = fj_wmat_packed_bytes(t, n, k);
    if (ok && n > 0 && m > 0) {
        fj_wmat mat = { .dtype = t, .data = w.p, .n = n, .k = k };
        void *panels = packed > 0 ? aligned_alloc(64, (size_t)packed) : NULL;
        if (panels) {
            fj_wmat_pack(&kern, t, n, k, w.p, panels, 0, 1);
            mat.panels = true;
            mat.data = panels;
        }
        size_t need = (fj_gemm_fwd_scratch(m, &mat, 1, false) + 63) / 64 * 64;
        fj_team team = { .nth = 1, .kern = &kern, .scratch = aligned_alloc(64, FJ_MAX(need, 64)) };
        float *y = fj_alloc((size_t)(m * n) * sizeof *y);
        FJ_ASSERT(team.scratch);
        fj_gemm_fwd_f32(&team, m, (const float *)(const void *)x.p, k, &mat, y, n, 1, false);
        ok = fj_write_file(arg[4], y, (size_t)(m * n) * sizeof *y, e);
        free(y);
        free(panels);
        free(team.scratch);
    } else if (ok)
        ok = fj_fail(e, FJ_EINVAL, "%s and %s hold no rows of %s", arg[2], arg[3], arg[1]);
    fj_unmap_file(&w);
    fj_unmap_file(&x);
    return ok;
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    if (argc != 6) {
        fprintf(stderr, "usage: forja-bench-products TYPE COLS W X Y\n");
        return 2;
    }
    if (product(argv + 1, &e)) return 0;
    fprintf(stderr, "forja-bench-products: %s\n", e.msg);
    return 1;
}
