/* cuda.cu - an NVIDIA GPU as a device: C with kernels, and the kernels are in ops/.
 *
 * One stream per device: copies, clears and ops run on it in order, and every function ends with a wait
 * on it, so that the host may go on.  Errors of CUDA become fj_err at this border, in one place (fine).
 * An op without a CUDA function is refused by name, before anything runs. */
#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "device/device.h"
}

typedef struct cuda {
    fj_dev dev;
    int ordinal;
    fj_gpu gpu;
    int64_t now, peak, total;
} cuda;

/* True when c is no error; else takes the error off the thread, so that later calls do not see it. */
static bool fine(cudaError_t c, const char *what, fj_err *e) {
    if (c == cudaSuccess) return true;
    cudaGetLastError();
    return fj_fail(e, c == cudaErrorMemoryAllocation ? FJ_ENOMEM : FJ_EIO, "GPU: %s: %s", what,
                   cudaGetErrorString(c));
}

static void memory(const fj_dev *d, int64_t *now, int64_t *peak, int64_t *total) {
    const cuda *c = (const cuda *)d;
    if (now) *now = c->now;
    if (peak) *peak = c->peak;
    if (total) *total = c->total;
}

static void buf_free(fj_buf *b) {
    if (!b) return;
    cuda *c = (cuda *)b->dev;
    c->now -= (int64_t)b->size;
    if (b->ptr) {
        cudaSetDevice(c->ordinal);
        cudaFree(b->ptr);
    }
    free(b);
}

static fj_buf *alloc(fj_dev *d, size_t size, const char *what, fj_err *e) {
    cuda *c = (cuda *)d;
    void *p = NULL;
    if (size) {
        cudaError_t err = cudaSetDevice(c->ordinal);
        if (err == cudaSuccess) err = cudaMalloc(&p, size);
        if (err == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            fj_fail(e, FJ_ENOMEM,
                    "no GPU memory for %s: %zu MiB asked for, %lld of %lld MiB in use", what,
                    size >> 20, (long long)(c->now >> 20), (long long)(c->total >> 20));
            return NULL;
        }
        if (!fine(err, what, e)) return NULL;
    }
    fj_buf *b = (fj_buf *)fj_zalloc(sizeof *b);
    b->dev = d;
    b->ptr = p;
    b->size = size;
    c->now += (int64_t)size;
    c->peak = FJ_MAX(c->peak, c->now);
    if (d->fn->zero(b, 0, size, e)) return b;
    buf_free(b);
    return NULL;
}

/* True when bytes [off, off + n) are b's and its device can be had; *stream is that device's. */
static bool ready(const fj_buf *b, size_t off, size_t n, cudaStream_t *stream, fj_err *e) {
    const cuda *c = (const cuda *)b->dev;
    *stream = c->gpu.stream;
    if (off > b->size || n > b->size - off)
        return fj_fail(e, FJ_EINVAL, "bytes %zu..%zu of a buffer of %zu", off, off + n, b->size);
    return fine(cudaSetDevice(c->ordinal), "the device", e);
}

static bool upload(fj_buf *b, size_t off, const void *src, size_t n, fj_err *e) {
    cudaStream_t s;
    if (!ready(b, off, n, &s, e)) return false;
    if (!n) return true;
    return fine(cudaMemcpyAsync((char *)b->ptr + off, src, n, cudaMemcpyHostToDevice, s), "upload",
                e) &&
           fine(cudaStreamSynchronize(s), "upload", e);
}

static bool download(const fj_buf *b, size_t off, void *dst, size_t n, fj_err *e) {
    cudaStream_t s;
    if (!ready(b, off, n, &s, e)) return false;
    if (!n) return true;
    return fine(cudaMemcpyAsync(dst, (const char *)b->ptr + off, n, cudaMemcpyDeviceToHost, s),
                "download", e) &&
           fine(cudaStreamSynchronize(s), "download", e);
}

static bool zero(fj_buf *b, size_t off, size_t n, fj_err *e) {
    cudaStream_t s;
    if (!ready(b, off, n, &s, e)) return false;
    if (!n) return true;
    return fine(cudaMemsetAsync((char *)b->ptr + off, 0, n, s), "clearing memory", e) &&
           fine(cudaStreamSynchronize(s), "clearing memory", e);
}

static bool run(fj_dev *d, fj_graph *g, fj_err *e) {
    cuda *c = (cuda *)d;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        if (!n->op->cuda || !n->op->cuda->run || n->f64)
            return fj_fail(e, FJ_EUNSUP, "op %s does not run on the GPU%s", n->op->name,
                           n->f64 ? " in F64" : "");
    }
    if (!fine(cudaSetDevice(c->ordinal), "the device", e)) return false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        if (!n->op->cuda->run(&c->gpu, n, n->scratch ? g->mem + n->scratch_off : NULL, e)) {
            cudaStreamSynchronize(c->gpu.stream); /* nothing may still write when the caller frees */
            return false;
        }
    }
    return fine(cudaStreamSynchronize(c->gpu.stream), "a graph", e);
}

static void close_dev(fj_dev *d) {
    if (!d) return;
    cuda *c = (cuda *)d;
    cudaSetDevice(c->ordinal);
    if (c->gpu.stream) cudaStreamDestroy(c->gpu.stream);
    fj_arena_free(&d->arena);
    free(c);
}

static const fj_dev_fns fns = { "cuda",   memory, alloc, buf_free, upload,
                                download, zero,   run,   close_dev };

extern "C" int fj_cuda_count(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError();
    return 0;
}

extern "C" fj_dev *fj_cuda_open(int ordinal, bool f32, fj_err *e) {
    int count = 0;
    cudaError_t err = cudaGetDeviceCount(&count);
    if (err != cudaSuccess) {
        cudaGetLastError();
        fj_fail(e, FJ_EUNSUP, "no GPU can be used: %s", cudaGetErrorString(err));
        return NULL;
    }
    if (ordinal < 0 || ordinal >= count) {
        fj_fail(e, FJ_EINVAL, "there is no GPU %d: this machine has %d", ordinal, count);
        return NULL;
    }
    cuda *c = (cuda *)fj_zalloc(sizeof *c);
    c->dev.fn = &fns;
    c->dev.plan.threads = 1;
    c->dev.plan.f32 = c->gpu.f32 = f32;
    c->dev.plan.cuda = true;
    c->dev.act = f32 ? FJ_F32 : FJ_BF16;
    c->ordinal = ordinal;
    cudaDeviceProp prop;
    if (!fine(cudaSetDevice(ordinal), "the device", e) ||
        !fine(cudaGetDeviceProperties(&prop, ordinal), "its properties", e) ||
        !fine(cudaStreamCreateWithFlags(&c->gpu.stream, cudaStreamNonBlocking), "a stream", e)) {
        close_dev(&c->dev);
        return NULL;
    }
    c->gpu.sms = prop.multiProcessorCount;
    c->gpu.compute = 10 * prop.major + prop.minor;
    c->total = (int64_t)prop.totalGlobalMem;
    c->dev.about = fj_arena_printf(&c->dev.arena, "GPU %d: %s, compute %d.%d, %lld MiB", ordinal,
                                   prop.name, prop.major, prop.minor, (long long)(c->total >> 20));
    return &c->dev;
}
