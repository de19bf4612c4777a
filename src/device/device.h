/* device.h - a place that has memory and runs graphs: one table of functions.
 *
 * A fj_dev is made by fj_cpu_open or fj_cuda_open and belongs to one thread at a time.  What its
 * functions return is owned by the caller (close, free).  Addresses in a fj_buf mean something to the
 * device only; host code goes through upload and download, on the CPU too. */
#ifndef FJ_DEVICE_DEVICE_H
#define FJ_DEVICE_DEVICE_H

#include "graph/graph.h"
#include "kernels/kern.h"

#include <forja/model.h>

typedef struct fj_dev_fns {
    const char *name; /* "cpu", "cuda" */
    /* Bytes that this process holds now and held at most; total memory of the device. */
    void (*memory)(const fj_dev *d, int64_t *now, int64_t *peak, int64_t *total);
    /* Zeroed, at least 64-byte aligned.  size 0 is fine.  `what` names it in the error. */
    fj_buf *(*alloc)(fj_dev *d, size_t size, const char *what, fj_err *e);
    void (*free)(fj_buf *b); /* NULL is fine */
    bool (*upload)(fj_buf *b, size_t off, const void *src, size_t n, fj_err *e);
    bool (*download)(const fj_buf *b, size_t off, void *dst, size_t n, fj_err *e);
    bool (*zero)(fj_buf *b, size_t off, size_t n, fj_err *e);
    /* Runs a bound graph; returns when results may be downloaded. */
    bool (*run)(fj_dev *d, fj_graph *g, fj_err *e);
    void (*close)(fj_dev *d);
} fj_dev_fns;

struct fj_dev {
    const fj_dev_fns *fn;
    fj_graph_opts plan;  /* what graphs for this device are planned with */
    fj_arena arena;      /* descriptions */
    fj_dtype act;        /* format of activations and of the cache: F32 or BF16 */
    const char *about;   /* "2 threads, avx512 vnni bf16" */
    const fj_kern *kern; /* CPU only; NULL elsewhere */
    /* CPU only: told by the first thread of every node that has run, and how long it took; or NULL. */
    void (*ran)(void *ctx, const fj_node *n, double seconds);
    void *ran_ctx;
};

/* The processor: fj_dev_open of forja/model.h. */
fj_dev *fj_cpu_open(const fj_dev_opts *o, fj_err *e);
#ifdef FORJA_CUDA
fj_dev *fj_cuda_open(int ordinal, bool f32, fj_err *e);
int fj_cuda_count(void); /* GPUs that the driver knows; 0 without a driver */
#endif

/* True when fj_dev_open takes the name, whether or not there is such a device: else the reason. */
bool fj_dev_known(const char *name, fj_err *e);
/* Bytes that a run may plan for where nobody said a limit: a tenth of the machine's memory is left to
 * others, of a GPU's a twentieth to the driver. */
int64_t fj_dev_room(const fj_dev *d);

/* Runs fn on the CPU device's team (for packing weights at load); other devices: on this thread. */
void fj_dev_team_run(fj_dev *d, void (*fn)(void *ctx, int i, int n), void *ctx);

/* ---- short forms ------------------------------------------------------------------------------- */
bool fj_tensor_set(fj_tensor *t, const void *src, fj_err *e); /* whole tensor, once bound */
bool fj_tensor_get(const fj_tensor *t, void *dst, fj_err *e);

/* Plans g for d (unless it is planned), puts it into *mem, which is made or enlarged when too small,
 * and binds it. */
bool fj_dev_prepare(fj_dev *d, fj_graph *g, fj_buf **mem, const char *what, fj_err *e);

#endif
