/* op_cases_lora.h - cases of op_cases.h, which includes it: adapters of some rows each. */
#ifndef FJ_TESTS_OP_CASES_LORA_H
#define FJ_TESTS_OP_CASES_LORA_H

/* More adapters than one kernel takes, of two rows each; A and B are rows of one tensor. */
static FJ_UNUSED bool oc_lora_crowd(oc *c) {
    enum { MANY = 70, N = 24, K = 16, R = 4 };
    fj_lora_rows *g = fj_arena_alloc(&c->g->arena, MANY * sizeof *g);
    fj_tensor *x = oc_real(c, 2 * MANY, K, false), *y = oc_cache(c, 2 * MANY, N);
    fj_tensor *a = oc_weight(c, FJ_F32, MANY * R, K, false),
              *b = oc_weight(c, FJ_F32, MANY * N, R, false);
    for (int i = 0; i < MANY; i++)
        g[i] = (fj_lora_rows){ .a = fj_rows(c->g, a, i * R, R),
                               .b = fj_rows(c->g, b, i * N, N),
                               .row0 = 2 * i,
                               .rows = 2,
                               .scale = 2 };
    oc_out(c, fj_lora_up(c->g, y, fj_lora_down(c->g, x, MANY, g, R), MANY, g));
    return true;
}

/* Adapters of rows { first, rows, rank }, of `many` projections of one x: down for all, up for the last one. */
static FJ_UNUSED bool oc_lora_rows(oc *c, int v) {
    static const struct {
        int64_t m, n, k;
        int many, parts;
        int64_t part[5][3];
    } list[] = {
        { 1, 33, 3, 1, 1, { { 0, 1, 1 } } },
        { 5, 7, 3, 1, 2, { { 0, 2, 2 }, { 3, 2, 5 } } },
        { 33, 65, 40, 2, 3, { { 1, 9, 8 }, { 10, 20, 3 }, { 30, 3, 16 } } },
        { 64, 264, 520, 1, 4, { { 0, 4, 16 }, { 4, 1, 16 }, { 5, 8, 8 }, { 40, 8, 40 } } },
        { 70, 136, 1096, 3, 2, { { 0, 35, 24 }, { 35, 35, 16 } } },
        { 19, 40, 77, 1, 5, { { 0, 1, 9 }, { 1, 1, 9 }, { 4, 0, 4 }, { 5, 7, 33 }, { 12, 7, 1 } } },
        { 150, 48, 24, 1, 1, { { 0, 150, 16 } } },
    };
    int all = (int)FJ_LEN(list), bf16 = v / all;
    c->tol_bf16 = 2.5e-2; /* A, t and B are rounded */
    if (v == 2 * all) return oc_lora_crowd(c);
    if (v > 2 * all) return false;
    v %= all;
    int64_t m = list[v].m, n = list[v].n, k = list[v].k, cols = 0;
    int parts = list[v].parts, many = list[v].many;
    fj_lora_rows *g = fj_arena_alloc(&c->g->arena, (size_t)(many * parts) * sizeof *g), *last = g;
    /* One tensor for all A, of which the parts are rows. */
    fj_dtype dt = bf16 ? FJ_BF16 : FJ_F32;
    fj_tensor *x = oc_real(c, m, k, false), *y = oc_cache(c, m, n);
    fj_tensor *a[5], *b[5];
    int64_t tall = 0, ranks[5];
    for (int i = 0; i < parts; i++) tall += list[v].part[i][2];
    fj_tensor *as = oc_weight(c, dt, tall, k, false);
    tall = 0;
    for (int i = 0; i < parts; i++) {
        ranks[i] = list[v].part[i][2];
        a[i] = fj_rows(c->g, as, tall, ranks[i]);
        tall += ranks[i];
        b[i] = oc_weight(c, dt, n, ranks[i], false);
    }
    for (int j = 0; j < many; j++) {
        last = g + j * parts;
        int64_t wide = 0;
        for (int i = 0; i < parts; i++) {
            last[i] = (fj_lora_rows){ a[i], b[i],           list[v].part[i][0], list[v].part[i][1],
                                      cols, i ? -1.5 : 0.75 };
            wide = FJ_MAX(wide, ranks[i] + (v == 1)); /* 1: columns that are not even */
        }
        cols += wide;
    }
    fj_tensor *t = fj_lora_down(c->g, x, many * parts, g, cols);
    oc_out(c, fj_lora_up(c->g, y, t, parts, last));
    if (bf16) c->tol = 1.5e-2;
    return true;
}
OC_CASE(lora_down) { return oc_lora_rows(c, v); }
OC_CASE(lora_up) { return oc_lora_rows(c, v); }

#endif
