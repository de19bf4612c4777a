/* team.h - what one thread of a running op knows: its place, its team, the kernels, the scratch.
 *
 * An op's CPU function is called by all nth threads at once; thread ith does its share.  Where an op
 * has phases, all threads meet at fj_team_barrier.  The executor puts a barrier before
 * an op that needs memory of one before it (order.c). */
#ifndef FJ_GRAPH_TEAM_H
#define FJ_GRAPH_TEAM_H

#include "kernels/kern.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct fj_team {
    int ith, nth;
    void (*barrier)(void *ctx); /* NULL when nth is 1 */
    void *ctx;
    const fj_kern *kern;     /* f32 and quantised kernels */
    const fj_kern64 *kern64; /* the f64 oracle of the tests */
    void *scratch; /* shared by the team, 64-byte aligned, as many bytes as op->scratch said */
    bool f32;      /* every product in f32 */
} fj_team;

static inline void fj_team_barrier(const fj_team *t) {
    if (t->nth > 1) t->barrier(t->ctx);
}

/* Thread ith's part [*from, *to) of n things in whole grains. */
static inline void fj_team_split(const fj_team *t, int64_t n, int64_t grain, int64_t *from,
                                 int64_t *to) {
    int64_t parts = (n + grain - 1) / grain;
    int64_t a = parts * t->ith / t->nth * grain, b = parts * (t->ith + 1) / t->nth * grain;
    *from = a < n ? a : n;
    *to = b < n ? b : n;
}

#endif
