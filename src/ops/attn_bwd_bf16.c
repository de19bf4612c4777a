/* attn_bwd_bf16.c - see attn_bf16.h.
 *
 *     s = scale q.k    p = exp(s - lse)    D = dy.y    ds = p (dy.v - D)
 *     dq = scale sum ds k    dk = sum ds (scale q)    dv = sum p dy
 * With a cap c, s = c tanh(scale q.k / c) and ds is times 1 - (s / c)^2.  D is made of dy as it was rounded, so
 * that dy.v - D of a row that sees one key is nothing. */
#include "ops/attn_in.h"

#include <string.h>

#ifdef FJ_F64
typedef int fj_attn_bwd_bf16_f64_unused; /* the oracle is in attn_tile.c */
#else
typedef struct chunk {
    float *s, *dp;    /* [ROWS, CHUNK] */
    uint32_t *p, *ds; /* the same, bf16 */
} chunk;

size_t fj_attn_bwd_bf16_scratch(int group, int hd) {
    int64_t w = fj_attn_hd(hd), n = up((int64_t)fj_attn_queries(group) * group, ROWS);
    return (size_t)(ROWS * CHUNK * 12 + n * w * 8 + n * 8 + 2 * ROWS * w * 6);
}

static chunk take_chunk(char **mem) {
    chunk c;
    c.s = take(mem, ROWS * CHUNK * 4);
    c.dp = take(mem, ROWS * CHUNK * 4);
    c.p = take(mem, ROWS * CHUNK * 2);
    c.ds = take(mem, ROWS * CHUNK * 2);
    return c;
}

/* Scores and dP of n rows with blocks, then weights and ds. */
static void weights(const fj_kern *kern, chunk *c, const uint32_t *a, const uint32_t *da, int64_t n,
                    const uint32_t *const *b, const uint32_t *const *db, int nb, int64_t w,
                    const int32_t *from, const int32_t *seen, const float *lse, const float *dot,
                    bool turned, float cap) {
    kern->attn_scores(c->s, a, w / 2, n, b, nb, w);
    kern->attn_scores(c->dp, da, w / 2, n, db, nb, w);
    for (int64_t r = 0; r < n && cap > 0; r++)
        kern->softcap(c->s + r * CHUNK, c->s + r * CHUNK, cap, nb * KEYS);
    kern->attn_soft_bwd(c->p, c->ds, c->s, c->dp, n, nb * KEYS, from, seen, lse, dot, turned, cap);
}

void fj_attn_dq_bf16(const fj_kern *kern, const float *q, const float *dy, int64_t ldq, int64_t row,
                     int nq, int group, int hd, const fj_attn_back *b, int64_t pos0,
                     const fj_attn_rule *rule, float *dq, void *scratch) {
    char *mem = scratch;
    int64_t w = fj_attn_hd(hd), rows = (int64_t)nq * group, room = up(rows, ROWS);
    chunk t = take_chunk(&mem);
    uint32_t *qb = take(&mem, room * w * 2), *yb = take(&mem, room * w * 2);
    float *o = take(&mem, room * w * 4), *lse = take(&mem, room * 4), *dot = take(&mem, room * 4);
    float cap = (float)(rule->softcap * FJ_LOG2E);
    for (int i = 0; i < nq; i++) {
        fj_attn_put_rows(kern, qb + (int64_t)i * group * w / 2, q + (row + i) * ldq, hd, group, hd,
                         (float)(rule->scale * FJ_LOG2E));
        fj_attn_put_rows(kern, yb + (int64_t)i * group * w / 2, dy + (row + i) * ldq, hd, group, hd,
                         1);
        for (int h = 0; h < group; h++) {
            int64_t at = ((row + i) / ROWS * b->heads + h) * ROWS + (row + i) % ROWS;
            lse[i * group + h] = b->lse[at];
            dot[i * group + h] = b->dot[at];
        }
    }
    memset(qb + rows * w / 2, 0, (size_t)((room - rows) * w) * 2);
    memset(yb + rows * w / 2, 0, (size_t)((room - rows) * w) * 2);
    memset(o, 0, (size_t)(room * w) * 4);
    pos0 += row;
    for (int64_t c = first_key(rule, pos0) / CHUNK; c * CHUNK < pos0 + nq; c++)
        for (int64_t r0 = 0; r0 < rows; r0 += ROWS) {
            int64_t n = less(ROWS, rows - r0);
            int64_t b0 = more(0, first_key(rule, pos0 + r0 / group) / KEYS - c * BLOCKS),
                    b1 = less(BLOCKS, (pos0 + (r0 + n - 1) / group) / KEYS + 1 - c * BLOCKS),
                    key0 = c * CHUNK + b0 * KEYS;
            if (b0 >= b1) continue;
            const uint32_t *kt[BLOCKS], *kp[BLOCKS], *vt[BLOCKS];
            for (int64_t i = b0; i < b1; i++) {
                kt[i - b0] = b->kt + (c * BLOCKS + i) * b->kstep;
                kp[i - b0] = b->kp + (c * BLOCKS + i) * b->kstep;
                vt[i - b0] = b->vt + (c * BLOCKS + i) * b->kstep;
            }
            int nb = (int)(b1 - b0);
            int32_t from[ROWS], seen[ROWS];
            for (int64_t r = 0; r < n; r++) {
                int64_t pos = pos0 + (r0 + r) / group;
                from[r] = (int32_t)more(0, first_key(rule, pos) - key0);
                seen[r] = (int32_t)less(nb * KEYS, pos + 1 - key0);
            }
            weights(kern, &t, qb + r0 * w / 2, yb + r0 * w / 2, n, kt, vt, nb, w, from, seen,
                    lse + r0, dot + r0, false, cap);
            kern->attn_mix(o + r0 * w, t.ds, n, kp, nb, w);
        }
    for (int64_t r = 0; r < rows; r++)
        kern->scale(dq + (row + r / group) * ldq + r % group * hd, o + r * w, (float)rule->scale,
                    hd);
}

void fj_attn_dkv_bf16(const fj_kern *kern, const float *k, const float *v, int64_t ldk,
                      int64_t block, int64_t rows, int group, int hd, const fj_attn_back *b,
                      int64_t pos0, const fj_attn_rule *rule, float *dk, float *dv, void *scratch) {
    char *mem = scratch;
    int64_t w = fj_attn_hd(hd), words = fj_attn_block(hd), key0 = block * KEYS,
            n = less(KEYS, pos0 + rows - key0);
    chunk t = take_chunk(&mem);
    uint32_t *kb = take(&mem, KEYS * w * 2), *vb = take(&mem, KEYS * w * 2);
    float *ok = take(&mem, KEYS * w * 4), *ov = take(&mem, KEYS * w * 4);
    float cap = (float)(rule->softcap * FJ_LOG2E);
    fj_attn_put_rows(kern, kb, k, ldk, n, hd, 1);
    fj_attn_put_rows(kern, vb, v, ldk, n, hd, 1);
    memset(kb + n * w / 2, 0, (size_t)((KEYS - n) * w) * 2);
    memset(vb + n * w / 2, 0, (size_t)((KEYS - n) * w) * 2);
    memset(ok, 0, (size_t)(KEYS * w) * 4);
    memset(ov, 0, (size_t)(KEYS * w) * 4);
    /* Rows whose positions see some of these keys, in blocks of them. */
    int64_t first = more(0, key0 - pos0) / ROWS,
            last = rule->window ? less(rows, key0 + n - 1 + rule->window - pos0) : rows;
    int64_t end = (last + ROWS - 1) / ROWS;
    for (int h = 0; h < group; h++)
        for (int64_t c = first / BLOCKS; c * BLOCKS < end; c++) {
            const uint32_t *qt[BLOCKS], *qp[BLOCKS], *yt[BLOCKS], *yp[BLOCKS];
            float lse[CHUNK], dot[CHUNK];
            int64_t b0 = more(first, c * BLOCKS), b1 = less(end, (c + 1) * BLOCKS),
                    row0 = b0 * ROWS;
            int nb = (int)(b1 - b0);
            for (int i = 0; i < nb; i++) {
                int64_t at = (b0 + i) * b->qstep + h * words,
                        from = ((b0 + i) * b->heads + h) * ROWS;
                qt[i] = b->qt + at, qp[i] = b->qp + at, yt[i] = b->yt + at, yp[i] = b->yp + at;
                memcpy(lse + i * ROWS, b->lse + from, ROWS * sizeof *lse);
                memcpy(dot + i * ROWS, b->dot + from, ROWS * sizeof *dot);
            }
            int32_t from[KEYS], seen[KEYS];
            for (int64_t r = 0; r < n; r++) {
                int64_t row = key0 + r - pos0; /* of the query at that position */
                from[r] = (int32_t)more(0, row - row0);
                int64_t to = less(rows - row0, nb * ROWS);
                seen[r] = (int32_t)(rule->window ? less(to, row + rule->window - row0) : to);
            }
            weights(kern, &t, kb, vb, n, qt, yt, nb, w, from, seen, lse, dot, true, cap);
            kern->attn_mix(ov, t.p, n, yp, nb, w);
            kern->attn_mix(ok, t.ds, n, qp, nb, w);
        }
    kern->tile_out(dk, ldk, ok, w, n, hd, (float)FJ_LN2, false);
    kern->tile_out(dv, ldk, ov, w, n, hd, 1, false);
}
#endif
