/* graph.h - values, the nodes that make them, gradients, and the plan of their memory.
 *
 * A graph is built once for a batch shape, planned, bound to memory and run as often as wanted.
 *   - A fj_tensor is a value: rows x cols of one dtype (row-major, or kernel panels for weights).  It
 *     is a view: it never owns memory.
 *   - A fj_node applies one fj_op to tensors and makes one or more tensors.  (Several results, because
 *     fused attention and fused loss have several; the alternative, packing them into one tensor with
 *     views, hides them from the gradient.)
 *   - An fj_op is one descriptor (ops/ops.def): shape rule, gradient, a function per device.
 * The first error sticks in g->err; later calls return NULL and do nothing: look once, at fj_graph_plan.
 * A graph belongs to one thread at a time. */
#ifndef FJ_GRAPH_GRAPH_H
#define FJ_GRAPH_GRAPH_H

#include "base/dtype.h"
#include "base/mem.h"

typedef struct fj_graph fj_graph;
typedef struct fj_node fj_node;
typedef struct fj_tensor fj_tensor;
typedef struct fj_op fj_op;
typedef struct fj_team fj_team;

/* Memory of a device.  Made and freed by the device (device/device.h). */
typedef struct fj_buf {
    struct fj_dev *dev;
    void *ptr; /* device address; a host may follow it only on the CPU device */
    size_t size;
} fj_buf;

enum { FJ_MAX_IN = 8, FJ_MAX_OUT = 4 };

typedef enum fj_kind {
    FJ_VALUE,  /* made by a node; the planner places it */
    FJ_INPUT,  /* filled by the host before a run; the planner places it, alive for the whole run */
    FJ_EXTERN, /* bound to a buffer of somebody else: weights, gradients, caches */
} fj_kind;

struct fj_tensor {
    const char *name; /* for messages; never NULL */
    int64_t rows, cols;
    fj_dtype dtype;
    fj_kind kind;
    bool panels;    /* a weight in the kernels' layout (ops/gemm.h) */
    bool mixed;     /* an F32 weight whose products are those of BF16 (ops/gemm.h) */
    bool trainable; /* a parameter whose gradient is asked for */
    bool grad;      /* some trainable tensor is upstream: gradients flow through here */
    bool keep;      /* the host reads it after the run: alive to the end */
    fj_node *node;  /* who makes it; NULL for inputs and externs */
    fj_tensor *of;  /* a view of rows [row0, row0 + rows) of that tensor, or NULL */
    int64_t row0;
    fj_buf *buf; /* extern: its buffer; else the graph's memory once bound */
    size_t off;  /* bytes into buf */
    void *data;  /* buf->ptr + off once bound */
    /* for autodiff and planner */
    fj_tensor *dy;   /* gradient so far */
    fj_tensor *twin; /* its recomputed copy */
    fj_tensor *kept; /* what backward reads for it: the same in BF16; NULL: itself */
    int store;       /* storage in the plan, -1: none */
};

struct fj_node {
    const fj_op *op;
    int n_in, n_out;
    fj_tensor *in[FJ_MAX_IN]; /* optional inputs may be NULL */
    fj_tensor *out[FJ_MAX_OUT];
    const void *params; /* the op's own struct */
    int segment;        /* unit of recomputation, -1: none */
    bool f64;           /* runs the oracle's code */
    bool dead;          /* nobody needs its results */
    size_t scratch, scratch_off;
    fj_node *twin;
};

#define FJ_IN(i) (1u << (i))
#define FJ_OUT(i) (1u << (FJ_MAX_IN + (i)))

/* What the planner needs to know of the machine; kept with the graph. */
typedef struct fj_graph_opts {
    int threads;
    bool f32;
    bool cuda; /* a GPU: ops are those of fj_cuda_op */
} fj_graph_opts;

/* An op on a GPU (ops/op.cuh): run puts its kernels on g's stream and returns. */
struct fj_gpu;
typedef struct fj_cuda_op {
    bool (*run)(const struct fj_gpu *g, const fj_node *n, void *scratch, fj_err *e);
    size_t (*scratch)(const fj_node *n, const fj_graph_opts *o); /* as of fj_op */
} fj_cuda_op;

struct fj_op {
    const char *name;
    int n_in, n_out; /* inputs at most (trailing and NULL ones optional as the op says), results */
    size_t params;   /* bytes of the parameter struct */
    int share; /* 1 + index of the input whose memory out[0] may take when it dies here; 0: none */
    bool in_place; /* out[0] IS in[share - 1]: accumulation, cache writes */
    /* Of these inputs (FJ_IN) and results (FJ_OUT) a thread touches its share of rows alone, as fj_team_split
     * gives it for the rows of results (kv_put: of x) in grains of 1.  Nodes that do so follow each other without a barrier. */
    unsigned by_rows;
    bool cheap; /* backward makes the results once more rather than keep them since forward */
    /* The last `keeps` results are inputs 0, 1... in BF16, where keep_bf16 of the graph and an input in F32 ask for it (else
     * they have no rows).  The shape rule leaves them alone. */
    int keeps;
    /* Sets rows, cols and dtype of every result from inputs and params.  dtype is preset: F64 when an
     * input has it, else that of in[0] when that is F32 or BF16, else F32.  So activations have the
     * format that embed began with; what is no activation (gradients of weights, sums, weights of
     * rows) says fj_real_of. */
    bool (*shape)(fj_node *n, fj_err *e);
    /* Emits nodes.  dy[i]: gradient of result i, or NULL.  dx[i]: on entry the gradient that in[i] has
     * from elsewhere, or NULL; add to it with fj_grad_add, or by an op that adds.  Only where
     * fj_wants_grad(n, i).  NULL here: not differentiable. */
    void (*grad)(fj_graph *g, fj_node *n, fj_tensor *const *dy, fj_tensor **dx);
    /* Bytes shared by the team while it runs; NULL: none. */
    size_t (*scratch)(const fj_node *n, const fj_graph_opts *o);
    void (*cpu)(const fj_team *t, const fj_node *n);
    void (*cpu64)(const fj_team *t,
                  const fj_node *n); /* oracle; NULL: the op has no floats to check */
    const fj_cuda_op *cuda;          /* NULL: not there */
};

struct fj_graph {
    fj_arena arena;
    fj_err err;
    fj_node **nodes;
    size_t n_nodes, cap_nodes;
    fj_tensor **tensors;
    size_t n_tensors, cap_tensors;
    int segment;  /* given to new nodes */
    fj_dtype act; /* format of activations: F32, or BF16 on devices that compute in it */
    /* Backward reads large values of the forward pass as BF16, which its products round them to anyway: half the memory
     * between the two.  Forward is the same.  Results of ops that read such values are F32. */
    bool keep_bf16;
    fj_graph_opts opts;
    size_t plan_bytes; /* memory that the plan needs: exact */
    char *mem;         /* where the plan lies, once bound */
    void *exec;        /* what the device keeps of it since its last run; binding forgets it */
    void (*exec_free)(void *exec);
    bool planned;
};

fj_graph *fj_graph_new(void);
void fj_graph_free(fj_graph *g);
void fj_graph_forget(fj_graph *g); /* what its device kept */

/* ---- building ---------------------------------------------------------------------------------- */
fj_tensor *fj_input(fj_graph *g, const char *name, fj_dtype t, int64_t rows, int64_t cols);
fj_tensor *fj_extern(fj_graph *g, const char *name, fj_dtype t, int64_t rows, int64_t cols,
                     fj_buf *buf, size_t off);
/* Rows [row0, row0 + rows) of x, sharing its memory.  No gradient flows through a view. */
fj_tensor *fj_rows(fj_graph *g, fj_tensor *x, int64_t row0, int64_t rows);
/* Applies op; copies params.  Returns the first result, NULL after an error.  Further results are
 * result->node->out[i]. */
fj_tensor *fj_emit(fj_graph *g, const fj_op *op, const void *params, int n_in,
                   fj_tensor *const *in);
#define FJ_EMIT(g, op, params, ...)                                                                \
    fj_emit((g), (op), (params),                                                                   \
            (int)(sizeof((fj_tensor *[]){ __VA_ARGS__ }) / sizeof(fj_tensor *)),                   \
            (fj_tensor *[]){ __VA_ARGS__ })
/* Nodes emitted from here belong to segment s (a layer); -1: to none. */
void fj_segment(fj_graph *g, int s);
fj_tensor *fj_keep(fj_tensor *t); /* NULL passes */
/* Makes the graph's error, unless it has one.  Returns NULL. */
fj_tensor *fj_graph_fail(fj_graph *g, fj_code code, const char *fmt, ...) FJ_PRINTF(3, 4);

/* ---- gradients ---------------------------------------------------------------------------------- */
/* Emits the backward graph of the scalar `loss` [1,1].  grads[i] becomes the gradient of params[i],
 * or NULL when loss does not depend on it.  Segments s with recompute[s] (n_segments of them; may be
 * NULL, 0) keep only what enters them: their nodes are emitted once more right before their backward
 * (Chen et al. 2016, per layer).  Results of cheap ops are made once more in any case. */
bool fj_backward(fj_graph *g, fj_tensor *loss, int n, fj_tensor *const *params, fj_tensor **grads,
                 const bool *recompute, int n_segments);
/* The format of numbers that are no activations. */
static inline fj_dtype fj_real_of(const fj_node *n) { return n->f64 ? FJ_F64 : FJ_F32; }
static inline bool fj_wants_grad(const fj_node *n, int i) { return n->in[i] && n->in[i]->grad; }
void fj_grad_add(fj_graph *g, fj_tensor **dx, fj_tensor *more);
/* The two ops that this layer emits itself; they live in ops/ with all the others. */
extern const fj_op fj_op_add; /* a + b, same shape */
extern const fj_op fj_op_one; /* a 1 of the shape and dtype of its input, which it does not read */

/* ---- plan --------------------------------------------------------------------------------------- */
/* Drops nodes that nobody needs (what is kept, in place, or feeds such a node is needed), then gives
 * every value an offset.  Needs no data and no device.  False: g->err, copied to e. */
bool fj_graph_plan(fj_graph *g, const fj_graph_opts *o, fj_err *e);
/* The same for a graph of the same nodes as `like` (planned), only smaller: it takes over the places of
 * like, so its plan is never larger.  False: not such a graph, and nothing is planned. */
bool fj_graph_plan_like(fj_graph *g, const fj_graph *like);
/* Sets every tensor's data: values and inputs in mem (plan_bytes from byte off), externs in theirs. */
void fj_graph_bind(fj_graph *g, fj_buf *mem, size_t off);
/* For a team of threads that walks over a bound graph: meet[k] where all have to be through with the nodes before k before
 * one begins with it (order.c). */
void fj_graph_order(const fj_graph *g, bool *meet);

static inline int64_t fj_tensor_bytes(const fj_tensor *t) {
    return fj_dtype_size(t->dtype, t->rows, t->cols);
}

#endif
