/* attn_in.h - what the two files of attn_bf16.h share. */
#ifndef FJ_OPS_ATTN_IN_H
#define FJ_OPS_ATTN_IN_H

#include "ops/attn_bf16.h"

enum {
    KEYS = FJ_ATTN_KEYS,
    CHUNK = FJ_ATTN_CHUNK,
    BLOCKS = CHUNK / KEYS,
    ROWS = 32, /* rows that go through a chunk together: their scores stay in the L1 cache */
};

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t less(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t more(int64_t a, int64_t b) { return a > b ? a : b; }

/* Bytes handed out one after the other, each on its own cache lines. */
static inline void *take(char **p, int64_t bytes) {
    void *r = *p;
    *p += up(bytes, 64);
    return r;
}

/* The first key that position pos sees. */
static inline int64_t first_key(const fj_attn_rule *rule, int64_t pos) {
    return rule->window && pos >= rule->window ? pos - rule->window + 1 : 0;
}

#endif
