#define _GNU_SOURCE
#include "base/pool.h"

#include "base/cpus.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 20 microseconds of pauses: longer than the gap between two ops, far shorter than a slice. */
enum { SPINS = 2000, MAX_THREADS = 256 };

struct fj_pool {
    int n;
    _Atomic unsigned gen;     /* a new value starts a run; workers wait for it to change */
    _Atomic unsigned arrived; /* barrier */
    _Atomic unsigned phase;
    _Atomic unsigned
        sleepers; /* threads in the kernel, or on their way: nobody else needs a call */
    _Atomic bool quit;
    void (*fn)(void *ctx, int i, int n);
    void *ctx;
    pthread_t *threads;
};

/* A sleeper counts itself before it looks once more, a waker writes before it looks at the count; both
 * in the one order of all atomic operations, so one of them sees the other. */
static void set_and_wake(fj_pool *p, _Atomic unsigned *a, unsigned value) {
    atomic_store(a, value);
    if (atomic_load(&p->sleepers))
        syscall(SYS_futex, (unsigned *)a, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wait_change(fj_pool *p, _Atomic unsigned *a, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(a, memory_order_acquire) != seen) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb"); /* waits longer than YIELD, which most cores take for nothing */
#endif
    }
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(a) == seen)
        syscall(SYS_futex, (unsigned *)a, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&p->sleepers, 1);
}

void fj_pool_barrier(fj_pool *p) {
    if (p->n == 1) return;
    unsigned phase = atomic_load_explicit(&p->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)p->n) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        set_and_wake(p, &p->phase, phase + 1);
    } else {
        wait_change(p, &p->phase, phase);
    }
}

typedef struct start {
    fj_pool *p;
    int i;
} start;

static void *worker(void *arg) {
    start s = *(start *)arg;
    free(arg);
    for (unsigned seen = 0;;) {
        wait_change(s.p, &s.p->gen, seen);
        seen = atomic_load_explicit(&s.p->gen, memory_order_acquire);
        if (atomic_load_explicit(&s.p->quit, memory_order_acquire)) return NULL;
        s.p->fn(s.p->ctx, s.i, s.p->n);
        fj_pool_barrier(s.p);
    }
}

void fj_pool_run(fj_pool *p, void (*fn)(void *ctx, int i, int n), void *ctx) {
    p->fn = fn;
    p->ctx = ctx;
    if (p->n > 1) set_and_wake(p, &p->gen, atomic_load(&p->gen) + 1);
    fn(ctx, 0, p->n);
    fj_pool_barrier(p);
}

fj_pool *fj_pool_open(int threads, fj_err *e) {
    if (threads <= 0) threads = fj_cpus();
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    fj_pool *p = fj_zalloc(sizeof *p);
    p->n = threads;
    p->threads = fj_zalloc((size_t)threads * sizeof *p->threads);
    for (int i = 1; i < threads; i++) {
        start *s = fj_alloc(sizeof *s);
        *s = (start){ p, i };
        int r = pthread_create(&p->threads[i], NULL, worker, s);
        if (r != 0) {
            free(s);
            p->n = i;
            errno = r;
            fj_fail_errno(e, "cannot start thread %d of %d", i + 1, threads);
            fj_pool_close(p);
            return NULL;
        }
    }
    return p;
}

void fj_pool_close(fj_pool *p) {
    if (!p) return;
    atomic_store_explicit(&p->quit, true, memory_order_release);
    set_and_wake(p, &p->gen, atomic_load(&p->gen) + 1);
    for (int i = 1; i < p->n; i++) pthread_join(p->threads[i], NULL);
    free(p->threads);
    free(p);
}

int fj_pool_threads(const fj_pool *p) { return p->n; }
