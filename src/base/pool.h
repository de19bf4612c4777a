/* pool.h - a team of threads that runs one function at a time, and its barrier.
 *
 * fj_pool_run calls fn(ctx, i, n) once on each of n threads; the caller is thread 0, so a pool of 1
 * starts no thread.  Waiting spins a bounded number of turns and then sleeps on a futex: on a machine
 * with a busy neighbour a spinning barrier would collapse.  One run at a time per pool. */
#ifndef FJ_BASE_POOL_H
#define FJ_BASE_POOL_H

#include <forja/err.h>

typedef struct fj_pool fj_pool;

fj_pool *fj_pool_open(int threads, fj_err *e); /* threads 0: as many as this process may use */
void fj_pool_close(fj_pool *p);
int fj_pool_threads(const fj_pool *p);
void fj_pool_run(fj_pool *p, void (*fn)(void *ctx, int i, int n), void *ctx);
/* Inside fn: returns when all n threads have come here. */
void fj_pool_barrier(fj_pool *p);

#endif
