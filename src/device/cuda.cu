/* cuda.cu - an NVIDIA GPU as a device: C with kernels, and the kernels are in ops/ and kernels/cuda/.
 *
 * One stream per device: copies, clears and ops run on it in order.  What is uploaded goes through two
 * pinned pieces of host memory in turn, so that an upload returns when its source may be forgotten and
 * waits only when both pieces are on their way.  A graph that runs a second time is captured and from
 * then on launched as one CUDA graph: a decode step is one launch.  Errors of CUDA become fj_err at this
 * border, in one place (fine). */
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/lt.h"

extern "C" {
#include "device/device.h"
}

enum { PIECE = 8 << 20, WORK = 64 << 20 };

/* Half of the way from host memory to the GPU. */
typedef struct piece {
    char *mem;
    size_t used;
    cudaEvent_t sent;
    bool busy; /* an event was recorded behind its last copy */
} piece;

typedef struct cuda {
    fj_dev dev;
    fj_gpu gpu;
    int ordinal;
    piece pieces[2];
    int now_filling;
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
        /* Whole pieces of 64 bytes: kernels read aligned ones up to the end of a weight. */
        if (err == cudaSuccess) err = cudaMalloc(&p, (size + 63) / 64 * 64);
        if (err == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            size_t left = 0, all = 0;
            cudaMemGetInfo(&left, &all);
            fj_fail(
                e, FJ_ENOMEM,
                "no GPU memory for %s: %zu MiB asked for, %zu of %zu MiB are free, %lld are used "
                "here",
                what, size >> 20, left >> 20, all >> 20, (long long)(c->now >> 20));
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

/* True when bytes [off, off + n) are b's and its device can be had. */
static bool ready(const fj_buf *b, size_t off, size_t n, fj_err *e) {
    if (off > b->size || n > b->size - off)
        return fj_fail(e, FJ_EINVAL, "bytes %zu..%zu of a buffer of %zu", off, off + n, b->size);
    return fine(cudaSetDevice(((const cuda *)b->dev)->ordinal), "the device", e);
}

/* The piece that is being filled, with room for some bytes; NULL after an error. */
static piece *room(cuda *c, fj_err *e) {
    piece *p = &c->pieces[c->now_filling];
    if (p->used < PIECE) return p;
    if (!fine(cudaEventRecord(p->sent, c->gpu.stream), "upload", e)) return NULL;
    p->busy = true;
    c->now_filling = !c->now_filling;
    p = &c->pieces[c->now_filling];
    if (p->busy && !fine(cudaEventSynchronize(p->sent), "upload", e)) return NULL;
    p->busy = false;
    p->used = 0;
    return p;
}

static bool upload(fj_buf *b, size_t off, const void *src, size_t n, fj_err *e) {
    cuda *c = (cuda *)b->dev;
    if (!ready(b, off, n, e)) return false;
    while (n) {
        piece *p = room(c, e);
        if (!p) return false;
        size_t part = FJ_MIN(n, (size_t)PIECE - p->used);
        memcpy(p->mem + p->used, src, part);
        if (!fine(cudaMemcpyAsync((char *)b->ptr + off, p->mem + p->used, part,
                                  cudaMemcpyHostToDevice, c->gpu.stream),
                  "upload", e))
            return false;
        p->used += (part + 63) / 64 * 64;
        src = (const char *)src + part;
        off += part;
        n -= part;
    }
    return true;
}

static bool download(const fj_buf *b, size_t off, void *dst, size_t n, fj_err *e) {
    cudaStream_t s = ((const cuda *)b->dev)->gpu.stream;
    if (!ready(b, off, n, e)) return false;
    if (!n) return true;
    return fine(cudaMemcpyAsync(dst, (const char *)b->ptr + off, n, cudaMemcpyDeviceToHost, s),
                "download", e) &&
           fine(cudaStreamSynchronize(s), "download", e);
}

static bool zero(fj_buf *b, size_t off, size_t n, fj_err *e) {
    if (!ready(b, off, n, e)) return false;
    if (!n) return true;
    return fine(cudaMemsetAsync((char *)b->ptr + off, 0, n, ((cuda *)b->dev)->gpu.stream),
                "clearing memory", e);
}

/* ---- running --------------------------------------------------------------------------------------- */
/* What a graph that has run keeps: nothing yet, or its CUDA graph. */
#ifndef FJ_PLAY
typedef struct exec {
    cudaGraphExec_t all; /* NULL: it has run node by node */
} exec;

static void exec_free(void *p) {
    exec *x = (exec *)p;
    if (x->all) cudaGraphExecDestroy(x->all);
    free(x);
}
#endif

static bool walk(cuda *c, const fj_graph *g, fj_err *e) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        if (!n->op->cuda->run(&c->gpu, n, n->scratch ? g->mem + n->scratch_off : NULL, e))
            return false;
    }
    return true;
}

#ifndef FJ_PLAY
static bool capture(cuda *c, fj_graph *g, exec *x, fj_err *e) {
    cudaGraph_t made = NULL;
    if (!fine(cudaStreamBeginCapture(c->gpu.stream, cudaStreamCaptureModeThreadLocal), "a capture",
              e))
        return false;
    bool ok = walk(c, g, e);
    cudaError_t err = cudaStreamEndCapture(c->gpu.stream, &made);
    ok = ok && fine(err, "a capture", e) &&
         fine(cudaGraphInstantiate(&x->all, made, 0), "a captured graph", e);
    if (made) cudaGraphDestroy(made);
    return ok;
}

/* The first time node by node: libraries load and look for algorithms. */
static bool start(cuda *c, fj_graph *g, fj_err *e) {
    exec *x = (exec *)g->exec;
    if (x)
        return (x->all || capture(c, g, x, e)) &&
               fine(cudaGraphLaunch(x->all, c->gpu.stream), "a graph", e);
    if (!walk(c, g, e)) return false;
    g->exec = fj_zalloc(sizeof(exec));
    g->exec_free = exec_free;
    return true;
}
#else
static bool start(cuda *c, fj_graph *g, fj_err *e) { return walk(c, g, e); }
#endif

static bool run(fj_dev *d, fj_graph *g, fj_err *e) {
    cuda *c = (cuda *)d;
    if (!fine(cudaSetDevice(c->ordinal), "the device", e)) return false;
    for (size_t i = 0; !g->exec && i < g->n_nodes; i++) {
        const fj_node *n = g->nodes[i];
        if (!n->op->cuda || !n->op->cuda->run || n->f64)
            return fj_fail(e, FJ_EUNSUP, "op %s does not run on the GPU%s", n->op->name,
                           n->f64 ? " in F64" : "");
    }
    bool ok = start(c, g, e);
    /* Also after an error: nothing may still write when the caller frees. */
    cudaError_t err = cudaStreamSynchronize(c->gpu.stream);
    return ok && fine(err, "a graph", e);
}

/* ---- opening --------------------------------------------------------------------------------------- */
static void close_dev(fj_dev *d) {
    if (!d) return;
    cuda *c = (cuda *)d;
    cudaSetDevice(c->ordinal);
    if (c->gpu.stream) cudaStreamSynchronize(c->gpu.stream);
    fj_lt_close(c->gpu.lt);
    if (c->gpu.work) cudaFree(c->gpu.work);
    for (int i = 0; i < 2; i++) {
        if (c->pieces[i].mem) cudaFreeHost(c->pieces[i].mem);
        if (c->pieces[i].sent) cudaEventDestroy(c->pieces[i].sent);
    }
    if (c->gpu.stream) cudaStreamDestroy(c->gpu.stream);
    fj_arena_free(&d->arena);
    free(c);
}

static const fj_dev_fns fns = { "cuda",   memory, alloc, buf_free, upload,
                                download, zero,   run,   close_dev };

static bool open_pieces(cuda *c, fj_err *e) {
    for (int i = 0; i < 2; i++)
        if (!fine(cudaMallocHost((void **)&c->pieces[i].mem, PIECE), "pinned memory", e) ||
            !fine(cudaEventCreateWithFlags(&c->pieces[i].sent, cudaEventDisableTiming), "an event",
                  e))
            return false;
    return true;
}

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
        !fine(cudaStreamCreateWithFlags(&c->gpu.stream, cudaStreamNonBlocking), "a stream", e) ||
        !open_pieces(c, e)) {
        close_dev(&c->dev);
        return NULL;
    }
    c->gpu.sms = prop.multiProcessorCount;
    c->gpu.compute = 10 * prop.major + prop.minor;
    if (c->gpu.compute < 80) {
        fj_fail(e, FJ_EUNSUP,
                "GPU %d, %s, has compute capability %d.%d: 8.0 (Ampere, 2020) or later is needed",
                ordinal, prop.name, prop.major, prop.minor);
        close_dev(&c->dev);
        return NULL;
    }
    c->gpu.lt = fj_lt_open();
    if (c->gpu.lt) {
        c->gpu.work_bytes = WORK;
        if (!fine(cudaMalloc(&c->gpu.work, WORK), "the workspace of cuBLASLt", e)) {
            close_dev(&c->dev);
            return NULL;
        }
    }
    c->total = (int64_t)prop.totalGlobalMem;
    c->dev.about = fj_arena_printf(
        &c->dev.arena, "GPU %d: %s, compute %d.%d, %lld MiB%s%s", ordinal, prop.name, prop.major,
        prop.minor, (long long)(c->total >> 20), c->gpu.lt ? ", cuBLASLt" : "", f32 ? ", f32" : "");
    return &c->dev;
}
