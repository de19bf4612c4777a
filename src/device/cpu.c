/* cpu.c - the processor as a device: huge pages, a thread team, the table of kernels.
 *
 * One fj_pool_run per graph: every thread walks the same list of nodes and meets the others where a node
 * needs what they do, so no thread is started or woken between ops. */
#define _GNU_SOURCE
#include "device/device.h"

#include "base/fs.h"
#include "base/pool.h"
#include "graph/team.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct cpu {
    fj_dev dev;
    fj_pool *pool;
    fj_kern kern;
    fj_kern64 kern64;
    int64_t now, peak;
} cpu;

static void memory(const fj_dev *d, int64_t *now, int64_t *peak, int64_t *total) {
    const cpu *c = (const cpu *)d;
    if (now) *now = c->now;
    if (peak) *peak = c->peak;
    if (total) *total = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

enum { HUGE = 2 << 20 };

static fj_buf *alloc(fj_dev *d, size_t size, const char *what, fj_err *e) {
    cpu *c = (cpu *)d;
    void *p = NULL;
    if (size) {
        /* Aligned by hand to a huge page, so that khugepaged need not be lucky. */
        size_t bytes = size >= HUGE ? size + HUGE : size;
        p = bytes < size
                ? MAP_FAILED
                : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            fj_fail(e, FJ_ENOMEM, "no memory for %s: %zu MiB asked for, %lld MiB in use", what,
                    size >> 20, (long long)(c->now >> 20));
            return NULL;
        }
        if (size >= HUGE) {
            size_t head = (HUGE - (uintptr_t)p % HUGE) % HUGE;
            if (head) munmap(p, head);
            p = (char *)p + head;
            size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (size + page - 1) / page * page;
            if (bytes - head > used) munmap((char *)p + used, bytes - head - used);
            madvise(p, used, MADV_HUGEPAGE);
        }
    }
    fj_buf *b = fj_zalloc(sizeof *b);
    *b = (fj_buf){ d, p, size };
    c->now += (int64_t)size;
    c->peak = FJ_MAX(c->peak, c->now);
    return b;
}

static void buf_free(fj_buf *b) {
    if (!b) return;
    ((cpu *)b->dev)->now -= (int64_t)b->size;
    if (b->size) munmap(b->ptr, b->size);
    free(b);
}

static bool range(const fj_buf *b, size_t off, size_t n, fj_err *e) {
    return (off <= b->size && n <= b->size - off) ||
           fj_fail(e, FJ_EINVAL, "bytes %zu..%zu of a buffer of %zu", off, off + n, b->size);
}

static bool upload(fj_buf *b, size_t off, const void *src, size_t n, fj_err *e) {
    if (!range(b, off, n, e)) return false;
    if (n) memcpy((char *)b->ptr + off, src, n);
    return true;
}

static bool download(const fj_buf *b, size_t off, void *dst, size_t n, fj_err *e) {
    if (!range(b, off, n, e)) return false;
    if (n) memcpy(dst, (const char *)b->ptr + off, n);
    return true;
}

static bool zero(fj_buf *b, size_t off, size_t n, fj_err *e) {
    if (!range(b, off, n, e)) return false;
    if (n) memset((char *)b->ptr + off, 0, n);
    return true;
}

typedef struct job {
    cpu *c;
    fj_graph *g;
    const bool *meet; /* before which nodes (fj_graph_order) */
} job;

static void barrier(void *pool) { fj_pool_barrier(pool); }

/* Its time ends where the next may begin: waiting for other threads counts. */
static void told(const cpu *c, const fj_node *n, double *since) {
    double now = fj_clock();
    c->dev.ran(c->dev.ran_ctx, n, now - *since);
    *since = now;
}

static void walk(void *ctx, int i, int n) {
    const job *j = ctx;
    const fj_graph *g = j->g;
    fj_team t = { .ith = i,
                  .nth = n,
                  .barrier = barrier,
                  .ctx = j->c->pool,
                  .kern = &j->c->kern,
                  .kern64 = &j->c->kern64,
                  .f32 = j->c->dev.plan.f32 };
    bool watched = i == 0 && j->c->dev.ran;
    double t0 = watched ? fj_clock() : 0;
    for (size_t k = 0; k < g->n_nodes; k++) {
        const fj_node *nd = g->nodes[k];
        if (j->meet[k]) fj_pool_barrier(j->c->pool);
        if (watched && k) told(j->c, g->nodes[k - 1], &t0);
        t.scratch = nd->scratch ? g->mem + nd->scratch_off : NULL;
        (nd->f64 ? nd->op->cpu64 : nd->op->cpu)(&t, nd);
    }
    if (watched && g->n_nodes) told(j->c, g->nodes[g->n_nodes - 1], &t0);
}

static bool run(fj_dev *d, fj_graph *g, fj_err *e) {
    cpu *c = (cpu *)d;
    for (size_t k = 0; k < g->n_nodes; k++) {
        const fj_node *n = g->nodes[k];
        if (!(n->f64 ? n->op->cpu64 : n->op->cpu))
            return fj_fail(e, FJ_EUNSUP, "op %s does not run on the CPU in %s", n->op->name,
                           n->f64 ? "f64" : "f32");
    }
    if (!g->exec) {
        g->exec = fj_alloc((g->n_nodes + 1) * sizeof(bool));
        g->exec_free = free;
        fj_graph_order(g, g->exec);
    }
    job j = { c, g, g->exec };
    fj_pool_run(c->pool, walk, &j);
    return true;
}

static void close_dev(fj_dev *d) {
    if (!d) return;
    fj_pool_close(((cpu *)d)->pool);
    fj_arena_free(&d->arena);
    free(d);
}

static const fj_dev_fns fns = { "cpu",    memory, alloc, buf_free, upload,
                                download, zero,   run,   close_dev };

fj_dev *fj_cpu_open(const fj_dev_opts *o, fj_err *e) {
    cpu *c = fj_zalloc(sizeof *c);
    c->dev.fn = &fns;
    if (!fj_kern_init(&c->kern, o->isa, e)) goto bad;
    fj_kern64_init(&c->kern64);
    c->pool = fj_pool_open(o->threads, e);
    if (!c->pool) goto bad;
    c->dev.kern = &c->kern;
    c->dev.plan = (fj_graph_opts){ .threads = fj_pool_threads(c->pool), .f32 = o->f32 };
    c->dev.about =
        fj_arena_printf(&c->dev.arena, "%d thread%s, %s%s", c->dev.plan.threads,
                        c->dev.plan.threads == 1 ? "" : "s", c->kern.isa, o->f32 ? ", f32" : "");
    return &c->dev;
bad:
    free(c);
    return NULL;
}

void fj_dev_team_run(fj_dev *d, void (*fn)(void *ctx, int i, int n), void *ctx) {
    if (d->fn == &fns) fj_pool_run(((cpu *)d)->pool, fn, ctx);
    else fn(ctx, 0, 1);
}
