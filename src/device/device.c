#include "device/device.h"

#include <stdio.h>

bool fj_tensor_set(fj_tensor *t, const void *src, fj_err *e) {
    size_t off = (size_t)((char *)t->data - (char *)t->buf->ptr);
    return t->buf->dev->fn->upload(t->buf, off, src, (size_t)fj_tensor_bytes(t), e);
}

bool fj_tensor_get(const fj_tensor *t, void *dst, fj_err *e) {
    size_t off = (size_t)((char *)t->data - (char *)t->buf->ptr);
    return t->buf->dev->fn->download(t->buf, off, dst, (size_t)fj_tensor_bytes(t), e);
}

bool fj_dev_prepare(fj_dev *d, fj_graph *g, fj_buf **mem, const char *what, fj_err *e) {
    if (!g->planned && !fj_graph_plan(g, &d->plan, e)) return false;
    if (!*mem || (*mem)->size < g->plan_bytes) {
        d->fn->free(*mem);
        *mem = d->fn->alloc(d, g->plan_bytes, what, e);
        if (!*mem) return false;
    }
    fj_graph_bind(g, *mem, 0);
    return true;
}

/* The kind of device that name means; *gpu: its number, -1: whichever can be used. */
static bool parse(const char *name, bool *cpu, int *gpu, fj_err *e) {
    unsigned n = 0;
    char after = 0;
    *cpu = !strcmp(name, "cpu");
    *gpu = strcmp(name, "auto") ? 0 : -1;
    if (*cpu || *gpu < 0 || !strcmp(name, "cuda")) return true;
    bool numbered = !strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9' &&
                    sscanf(name + 5, "%4u%c", &n, &after) == 1;
    *gpu = (int)n;
    return numbered ||
           fj_fail(e, FJ_EINVAL, "device \"%s\" is not known: cpu, cuda, cuda:N for GPU N, or auto",
                   name);
}

bool fj_dev_known(const char *name, fj_err *e) {
    bool cpu;
    int gpu;
    return parse(name, &cpu, &gpu, e);
}

/* A GPU that cannot be used (none there, too old, no driver) is no error: the next, then the CPU. */
static fj_dev *open_auto(const fj_dev_opts *o, fj_err *e) {
#ifdef FORJA_CUDA
    fj_err why = { 0 };
    for (int i = 0; i < fj_cuda_count(); i++) {
        fj_dev *d = fj_cuda_open(i, o->f32, &why);
        if (d) return d;
    }
#endif
    return fj_cpu_open(o, e);
}

fj_dev *fj_dev_open(const fj_dev_opts *o, fj_err *e) {
    const char *name = o->device ? o->device : "cpu";
    bool cpu;
    int gpu;
    if (!parse(name, &cpu, &gpu, e)) return NULL;
    if (cpu) return fj_cpu_open(o, e);
    if (gpu < 0) return open_auto(o, e);
#ifdef FORJA_CUDA
    return fj_cuda_open(gpu, o->f32, e);
#else
    fj_fail(e, FJ_EUNSUP,
            "device \"%s\": this forja was built without CUDA (make cuda builds with it)", name);
    return NULL;
#endif
}

void fj_dev_close(fj_dev *d) {
    if (d) d->fn->close(d);
}

const char *fj_dev_about(const fj_dev *d) { return d->about; }

int64_t fj_dev_room(const fj_dev *d) {
    int64_t total;
    d->fn->memory(d, NULL, NULL, &total);
    return d->kern ? total / 10 * 9 : total / 20 * 19;
}

void fj_dev_memory(const fj_dev *d, int64_t *now, int64_t *peak) {
    d->fn->memory(d, now, peak, NULL);
}
