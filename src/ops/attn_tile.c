/* attn_tile.c - see attn_tile.h.
 *
 *     s = scale q.k    p = exp(s - lse)    D = dy.y
 *     ds = p (dy.v - D)    dq = scale sum ds k    dk = sum ds (scale q)    dv = sum p dy
 * With a cap c, s = c tanh(scale q.k / c) and ds is times 1 - (s / c)^2.
 * Tiles are copied to where rows are whole vectors: queries times scale, keys as they are and turned. */
#include "ops/attn_tile.h"

#include <math.h>
#include <string.h>

enum { KEYS = FJ_ATTN_KEYS, QUERIES = FJ_ATTN_QUERIES, MR = 8 };

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t less(int64_t a, int64_t b) { return a < b ? a : b; }

/* The block of the first key that position pos sees. */
static int64_t first_block(const fj_attn_rule *rule, int64_t pos) {
    return rule->window && pos >= rule->window ? (pos - rule->window + 1) / KEYS : 0;
}

/* The first position beyond those that see a key of block b. */
static int64_t end_of_sight(const fj_attn_rule *rule, int64_t b) {
    return rule->window ? b * KEYS + KEYS - 1 + rule->window : INT64_MAX;
}

/* Which keys of block b position pos sees: [*from, *seen). */
static void sight(const fj_attn_rule *rule, int64_t pos, int64_t b, int32_t *from, int32_t *seen) {
    int64_t low = rule->window ? pos - rule->window + 1 - b * KEYS : 0;
    *from = low > 0 ? (int32_t)low : 0;
    *seen = (int32_t)less(KEYS, pos + 1 - b * KEYS);
}

/* Numbers handed out one after the other, each on its own cache lines. */
static real *take(char **p, int64_t n) {
    real *r = (real *)(void *)*p;
    *p += up(n * (int64_t)sizeof(real), 64);
    return r;
}

/* t [rows, width] (+)= a [rows, k] b [k, width]; width is a multiple of 16. */
static void product(const FJ_KERN *kern, real *t, const real *a, int64_t ars, int64_t acs,
                    const real *b, int64_t ldb, int64_t rows, int64_t width, int64_t k,
                    bool first) {
    int64_t panels = width / 16, calls = (panels + 2) / 3, np = (panels + calls - 1) / calls;
    for (int64_t c = 0; c < panels; c += np)
        for (int64_t r = 0; r < rows; r += MR)
            kern->gemm(t + r * width + c * 16, width, a + r * ars, ars, acs, b + c * 16, ldb, k,
                       (int)less(MR, rows - r), (int)less(np, panels - c), first);
}

/* rows of hd values to rows of w, the rest zero, times s. */
static void copy(const FJ_KERN *kern, real *dst, int64_t w, const real *src, int64_t ld,
                 int64_t rows, int64_t hd, real s) {
    for (int64_t r = 0; r < rows; r++) {
        if (w > hd) memset(dst + r * w + hd, 0, (size_t)(w - hd) * sizeof *dst);
        kern->scale(dst + r * w, src + r * ld, s, hd);
    }
}

/* Keys [n, hd] turned to [hd, KEYS]; keys that do not exist are zero. */
static void turn(const FJ_KERN *kern, real *dst, const real *src, int64_t ld, int64_t n,
                 int64_t hd) {
    if (n < KEYS) memset(dst, 0, (size_t)(KEYS * hd) * sizeof *dst);
    kern->transpose(dst, KEYS, src, ld, n, hd);
}

/* [KEYS, w] rows of src as they lie, or a padded copy of them. */
static const real *whole(const FJ_KERN *kern, real *buf, int64_t w, const real *src, int64_t ld,
                         int64_t n, int64_t hd, int64_t *ldb) {
    *ldb = ld;
    if (n == KEYS && w == hd) return src;
    *ldb = w;
    memset(buf, 0, (size_t)(KEYS * w) * sizeof *buf);
    copy(kern, buf, w, src, ld, n, hd, 1);
    return buf;
}

#ifndef FJ_F64
size_t fj_attn_fwd_scratch(int group, int hd) {
    int64_t w = up(hd, 16), n = (int64_t)QUERIES * group;
    return (size_t)(8 * (2 * n * w + 2 * KEYS * w + n * KEYS + 3 * n) + 8 * 64 + 8 * up(n, 16));
}

size_t fj_attn_bwd_scratch(int64_t rows, int group, int hd) {
    int64_t w = up(hd, 16);
    return (size_t)(8 * (7 * KEYS * w + 3 * QUERIES * w + 3 * QUERIES * KEYS + 2 * QUERIES +
                         rows * group) +
                    17 * 64);
}
#endif

void FJ_R(fj_attn_fwd_tile)(const FJ_KERN *kern, const real *q, int64_t ldq, int nq, int group,
                            int hd, const real *k, const real *v, int64_t ldk,
                            const int32_t *block_row, int64_t pos0, const fj_attn_rule *rule,
                            const real *sinks, real *y, int64_t ldy, real *lse, int64_t ldl,
                            void *scratch) {
    char *p = scratch;
    int64_t w = up(hd, 16), n = (int64_t)nq * group;
    real *qs = take(&p, n * w), *o = take(&p, n * w), *kt = take(&p, KEYS * w),
         *vp = take(&p, KEYS * w);
    real *s = take(&p, n * KEYS), *max = take(&p, n), *sum = take(&p, n), *fix = take(&p, n);
    int32_t *seen = (int32_t *)(void *)p, *from = seen + up(n, 16);
    /* Row i * group + h of the tiles is head h of query i. */
    for (int i = 0; i < nq; i++)
        copy(kern, qs + (int64_t)i * group * w, w, q + i * ldq, hd, group, hd, (real)rule->scale);
    memset(o, 0, (size_t)(n * w) * sizeof *o);
    for (int64_t r = 0; r < n; r++) {
        max[r] = sinks ? sinks[r % group] : -(real)INFINITY;
        sum[r] = sinks ? 1 : 0;
    }
    for (int64_t b = first_block(rule, pos0); b * KEYS < pos0 + nq; b++) {
        int64_t keys = less(KEYS, pos0 + nq - b * KEYS), ldv;
        int64_t r0 = b * KEYS > pos0 ? (b * KEYS - pos0) * group : 0,
                r1 = less(nq, end_of_sight(rule, b) - pos0) * group, rows = r1 - r0;
        turn(kern, kt, k + block_row[b] * ldk, ldk, keys, hd);
        product(kern, s + r0 * KEYS, qs + r0 * w, w, 1, kt, KEYS, rows, KEYS, hd, true);
        if (rule->softcap > 0)
            kern->softcap(s + r0 * KEYS, s + r0 * KEYS, (real)rule->softcap, rows * KEYS);
        for (int64_t r = r0; r < r1; r += group) {
            sight(rule, pos0 + r / group, b, &from[r], &seen[r]);
            for (int h = 1; h < group; h++) from[r + h] = from[r], seen[r + h] = seen[r];
        }
        kern->softmax_block(s + r0 * KEYS, rows, from + r0, seen + r0, max + r0, sum + r0,
                            fix + r0);
        for (int64_t r = r0; r < r1; r++)
            if (fix[r] != 1) kern->scale(o + r * w, o + r * w, fix[r], w);
        const real *vb = whole(kern, vp, w, v + block_row[b] * ldk, ldk, keys, hd, &ldv);
        product(kern, o + r0 * w, s + r0 * KEYS, KEYS, 1, vb, ldv, rows, w, KEYS, false);
    }
    for (int64_t r = 0; r < n; r++) {
        kern->scale(y + r / group * ldy + r % group * hd, o + r * w, 1 / sum[r], hd);
        lse[r / group * ldl + r % group] = (real)((double)max[r] + log((double)sum[r]));
    }
}

void FJ_R(fj_attn_bwd_group)(const FJ_KERN *kern, const real *q, const real *y, const real *dy,
                             int64_t ldq, const real *lse, int64_t ldl, int64_t rows, int group,
                             int hd, const real *k, const real *v, int64_t ldk,
                             const int32_t *block_row, int64_t pos0, const fj_attn_rule *rule,
                             real *dq, real *dk, real *dv, void *scratch) {
    char *p = scratch;
    int64_t w = up(hd, 16);
    real *kt = take(&p, KEYS * w), *vt = take(&p, KEYS * w), *kp = take(&p, KEYS * w);
    real *tk = take(&p, KEYS * w), *tv = take(&p, KEYS * w);
    real *qs = take(&p, QUERIES * w), *ds = take(&p, QUERIES * KEYS),
         *pr = take(&p, QUERIES * KEYS);
    real *dyp = take(&p, QUERIES * w), *tq = take(&p, QUERIES * w);
    real *ls = take(&p, QUERIES), *dd = take(&p, QUERIES), *dot = take(&p, rows * group);
    real *capped = take(&p, QUERIES * KEYS), cap = (real)rule->softcap, scale = (real)rule->scale;
    int32_t from[QUERIES], seen[QUERIES];
    for (int64_t r = 0; r < rows; r++)
        for (int h = 0; h < group; h++)
            dot[r * group + h] = kern->dot(dy + r * ldq + h * hd, y + r * ldq + h * hd, hd);
    for (int64_t b = first_block(rule, pos0); b * KEYS < pos0 + rows; b++) {
        int64_t keys = less(KEYS, pos0 + rows - b * KEYS), at = block_row[b] * ldk, ldb;
        turn(kern, kt, k + at, ldk, keys, hd);
        turn(kern, vt, v + at, ldk, keys, hd);
        const real *kb = whole(kern, kp, w, k + at, ldk, keys, hd, &ldb);
        memset(tk, 0, (size_t)(KEYS * w) * sizeof *tk);
        memset(tv, 0, (size_t)(KEYS * w) * sizeof *tv);
        int64_t start = b * KEYS > pos0 ? b * KEYS - pos0 : 0,
                end = less(rows, end_of_sight(rule, b) - pos0);
        for (int64_t i = start; i < end; i += QUERIES)
            for (int h = 0; h < group; h++) {
                int64_t n = less(QUERIES, end - i), off = i * ldq + h * hd;
                copy(kern, qs, w, q + off, ldq, n, hd, scale);
                copy(kern, dyp, w, dy + off, ldq, n, hd, 1);
                product(kern, pr, qs, w, 1, kt, KEYS, n, KEYS, hd, true);
                product(kern, ds, dyp, w, 1, vt, KEYS, n, KEYS, hd, true);
                if (cap > 0) {
                    kern->softcap(pr, pr, cap, n * KEYS);
                    memcpy(capped, pr, (size_t)(n * KEYS) * sizeof *pr);
                }
                for (int64_t r = 0; r < n; r++) {
                    sight(rule, pos0 + i + r, b, &from[r], &seen[r]);
                    ls[r] = lse[(i + r) * ldl + h];
                    dd[r] = dot[(i + r) * group + h];
                }
                kern->softmax_block_bwd(pr, ds, n, from, seen, ls, dd);
                if (cap > 0) kern->softcap_bwd(ds, capped, ds, cap, n * KEYS);
                product(kern, tv, pr, 1, KEYS, dyp, w, KEYS, w, n, false);
                product(kern, tk, ds, 1, KEYS, qs, w, KEYS, w, n, false);
                product(kern, tq, ds, KEYS, 1, kb, ldb, n, w, KEYS, true);
                kern->tile_out(dq + off, ldq, tq, w, n, hd, scale, true);
            }
        kern->tile_out(dk + at, ldk, tk, w, keys, hd, 1, true);
        kern->tile_out(dv + at, ldk, tv, w, keys, hd, 1, true);
    }
}
