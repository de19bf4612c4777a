/* attn_bf16.c - see attn_bf16.h. */
#include "ops/attn_in.h"

#include "base/dtype.h"

#include <math.h>
#include <string.h>

#ifdef FJ_F64
typedef int fj_attn_bf16_f64_unused; /* the oracle is in attn_tile.c */
#else
/* ---- blocks --------------------------------------------------------------------------------------- */
void fj_attn_put_rows(const fj_kern *kern, uint32_t *dst, const float *x, int64_t ld, int64_t n,
                      int64_t hd, float s) {
    int64_t w = fj_attn_hd(hd);
    float t[256];
    for (int64_t r = 0; r < n; r++) {
        uint16_t *y = (uint16_t *)(void *)dst + r * w;
        memset(y + hd, 0, (size_t)(w - hd) * 2);
        for (int64_t c = 0; c < hd; c += 256) {
            int64_t m = less(256, hd - c);
            kern->scale(t, x + r * ld + c, s, m);
            kern->f32_to_bf16(y + c, t, m);
        }
    }
}

void fj_attn_put_turned(const fj_kern *kern, uint32_t *block, const float *x, int64_t ld, int from,
                        int n, int64_t hd, float s, uint32_t *tmp) {
    int64_t w = fj_attn_hd(hd);
    fj_attn_put_rows(kern, tmp, x, ld, n, hd, s);
    /* Pairs move as floats: transpose does no arithmetic. */
    kern->transpose((float *)(void *)block + from, KEYS, (const float *)(const void *)tmp, w / 2, n,
                    w / 2);
}

void fj_attn_put_paired(const fj_kern *kern, uint32_t *block, const float *x, int64_t ld, int from,
                        int n, int64_t hd, float s, uint32_t *tmp) {
    int64_t w = fj_attn_hd(hd);
    int i = 0;
    if (s == 1 && from % 2 == 0)
        for (; i + 1 < n; i += 2) {
            uint32_t *y = block + (from + i) / 2 * w;
            kern->pairs_bf16(y, x + i * ld, x + (i + 1) * ld, hd);
            memset(y + hd, 0, (size_t)(w - hd) * 4);
        }
    fj_attn_put_rows(kern, tmp, x + i * ld, ld, n - i, hd, s);
    const uint16_t *t = (const uint16_t *)(const void *)tmp;
    for (; i < n; i++, t += w) {
        uint16_t *y = (uint16_t *)(void *)(block + (from + i) / 2 * w) + (from + i) % 2;
        for (int64_t c = 0; c < w; c++) y[2 * c] = t[c];
    }
}

/* ---- forward -------------------------------------------------------------------------------------- */
int fj_attn_queries(int group) {
    int n = 128 / group;
    return n > 16 ? n / 16 * 16 : n > 1 ? n : 1;
}

size_t fj_attn_fwd_bf16_scratch(int group, int hd) {
    int64_t w = fj_attn_hd(hd), n = up((int64_t)fj_attn_queries(group) * group, ROWS);
    return (size_t)(up(n * w * 2, 64) + up(n * w * 4, 64) + up(n * 4, 64) + n * 64 +
                    ROWS * CHUNK * 6 + 64 * w);
}

/* The last block seen may hold what nobody wrote: its rows from n on are zero in a copy. */
static const uint32_t *cut(uint32_t *copy, const uint32_t *v, int64_t n, int64_t w) {
    memcpy(copy, v, (size_t)((n + 1) / 2 * w) * 4);
    memset(copy + (n + 1) / 2 * w, 0, (size_t)((KEYS / 2 - (n + 1) / 2) * w) * 4);
    if (n % 2)
        for (int64_t c = 0; c < w; c++) copy[n / 2 * w + c] &= 0xffff;
    return copy;
}

/* Blocks of keys and values of chunk c, of which those before the first key and after the last are not looked up. */
typedef struct chunk {
    const uint32_t *k[BLOCKS], *v[BLOCKS];
    int64_t from, to;
} chunk;

static chunk chunk_at(const fj_attn_kv *kv, int64_t c, int64_t first, int64_t end) {
    chunk x = { .from = more(0, first / KEYS - c * BLOCKS),
                .to = less(BLOCKS, (end - c * CHUNK + KEYS - 1) / KEYS) };
    for (int64_t b = x.from; b < x.to; b++) {
        int64_t i = c * BLOCKS + b, at = kv->slot ? kv->slot[i] / KEYS : i;
        x.k[b] = kv->k + at * kv->step;
        x.v[b] = kv->v + at * kv->step;
    }
    return x;
}

/* Part i of `of` of a chunk into the second cache, while the one before it is at work. */
static void fetch(const chunk *x, int64_t i, int64_t of, int64_t w) {
    int64_t lines = (x->to - x->from) * w; /* a block has w of them */
    for (int64_t j = lines * i / of; j < lines * (i + 1) / of; j++) {
        __builtin_prefetch(x->k[x->from + j / w] + j % w * 16, 0, 2);
        __builtin_prefetch(x->v[x->from + j / w] + j % w * 16, 0, 2);
    }
}

void fj_attn_fwd_bf16(const fj_kern *kern, const float *q, int64_t ldq, int nq, int group, int hd,
                      const fj_attn_kv *kv, int64_t pos0, const fj_attn_rule *rule,
                      const float *sinks, float *y, int64_t ldy, float *lse, int64_t ldl,
                      void *scratch) {
    char *mem = scratch;
    int64_t w = fj_attn_hd(hd), rows = (int64_t)nq * group, room = up(rows, ROWS);
    uint32_t *qb = take(&mem, room * w * 2), *p = take(&mem, ROWS * CHUNK * 2),
             *copy = take(&mem, 64 * w);
    float *o = take(&mem, room * w * 4), *top = take(&mem, room * 4), *sum = take(&mem, room * 64),
          *s = take(&mem, ROWS * CHUNK * 4);
    /* Scores in units of ln 2: the softmax is made of powers of two.  Row i * group + h is head h of
     * query i. */
    for (int i = 0; i < nq; i++)
        fj_attn_put_rows(kern, qb + (int64_t)i * group * w / 2, q + i * ldq, hd, group, hd,
                         (float)(rule->scale * FJ_LOG2E));
    memset(qb + rows * w / 2, 0, (size_t)((room - rows) * w) * 2);
    memset(o, 0, (size_t)(room * w) * 4);
    memset(sum, 0, (size_t)room * 64);
    float cap = (float)(rule->softcap * FJ_LOG2E);
    for (int64_t r = 0; r < rows; r++) {
        top[r] = sinks ? (float)((double)sinks[r % group] * FJ_LOG2E) : -INFINITY;
        if (sinks) sum[16 * r] = 1;
    }
    int64_t end = pos0 + nq;
    int64_t first = first_key(rule, pos0), last = (end - 1) / CHUNK;
    chunk here, next = chunk_at(kv, first / CHUNK, first, end);
    for (int64_t c = first / CHUNK; c <= last; c++) {
        here = next;
        if (c < last) next = chunk_at(kv, c + 1, first, end);
        else next.to = next.from;
        if (end - c * CHUNK < CHUNK && end % KEYS)
            here.v[here.to - 1] = cut(copy, here.v[here.to - 1], end % KEYS, w);
        for (int64_t r0 = 0; r0 < rows; r0 += ROWS) {
            int64_t n = less(ROWS, rows - r0);
            /* Blocks of this chunk that some row sees. */
            int64_t b0 = more(0, first_key(rule, pos0 + r0 / group) / KEYS - c * BLOCKS),
                    b1 = less(BLOCKS, (pos0 + (r0 + n - 1) / group) / KEYS + 1 - c * BLOCKS),
                    key0 = c * CHUNK + b0 * KEYS;
            if (b0 >= b1) continue;
            int keys = (int)(b1 - b0) * KEYS;
            int32_t from[ROWS], seen[ROWS];
            for (int64_t r = 0; r < n; r++) {
                int64_t pos = pos0 + (r0 + r) / group;
                from[r] = (int32_t)more(0, first_key(rule, pos) - key0);
                seen[r] = (int32_t)less(keys, pos + 1 - key0);
            }
            kern->attn_scores(s, qb + r0 * w / 2, w / 2, n, here.k + b0, (int)(b1 - b0), w);
            if (cap > 0)
                for (int64_t r = 0; r < n; r++)
                    kern->softcap(s + r * CHUNK, s + r * CHUNK, cap, keys);
            for (int64_t r = 0; r < n; r += 8) {
                int64_t at = r0 + r;
                kern->attn_soft(p + r * CHUNK / 2, s + r * CHUNK, less(8, n - r), keys, from + r,
                                seen + r, top + at, sum + 16 * at, o + at * w, w);
                fetch(&next, at / 8, (rows + 7) / 8, w);
            }
            kern->attn_mix(o + r0 * w, p, n, here.v + b0, (int)(b1 - b0), w);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        float t = 0;
        for (int i = 0; i < 16; i++) t += sum[16 * r + i];
        kern->scale(y + r / group * ldy + r % group * hd, o + r * w, 1 / t, hd);
        lse[r / group * ldl + r % group] = (float)(((double)top[r] + log2((double)t)) * FJ_LN2);
    }
}
#endif
