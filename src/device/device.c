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

fj_dev *fj_dev_open(const fj_dev_opts *o, fj_err *e) {
    const char *name = o->device ? o->device : "cpu";
    if (!strcmp(name, "cpu")) return fj_cpu_open(o, e);
    unsigned gpu = 0;
    char after = 0;
    bool numbered = !strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9' &&
                    sscanf(name + 5, "%4u%c", &gpu, &after) == 1;
    if (!numbered && strcmp(name, "cuda") != 0) {
        fj_fail(e, FJ_EINVAL, "device \"%s\" is not known: cpu, cuda, or cuda:N for GPU N", name);
        return NULL;
    }
#ifdef FORJA_CUDA
    return fj_cuda_open((int)gpu, o->f32, e);
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

void fj_dev_memory(const fj_dev *d, int64_t *now, int64_t *peak) {
    d->fn->memory(d, now, peak, NULL);
}
