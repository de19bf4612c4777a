/* op.cuh - what an op's .cu file includes: kernels/cuda/gpu.cuh, and the node that is to run.
 *
 * FJ_CUDA_OP(name, run, scratch): `run` puts kernels on g->stream and returns; the device waits once, after
 * the whole graph.  Activations of a node (its inputs and results that flow from layer to layer, and
 * their gradients) are all F32 or all BF16; vectors, tables, sums, weights of rows and gradients of
 * parameters are F32; weights are in any format, as rows.  Addresses in tensors are the device's.
 * Every kernel computes in F32, and rounds once when it writes. */
#ifndef FJ_OPS_OP_CUH
#define FJ_OPS_OP_CUH

#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "graph/graph.h"
}

#define FJ_CUDA_OP(name, ...) extern "C" const fj_cuda_op fj_##name##_cuda = { __VA_ARGS__ }

/* Runs the statements with `type` a name for the number type of a tensor that is F32 or BF16. */
#define FJ_AS(tensor, type, ...)                                                                   \
    do {                                                                                           \
        if ((tensor)->dtype == FJ_BF16) {                                                          \
            typedef bf16 type;                                                                     \
            __VA_ARGS__                                                                            \
        } else {                                                                                   \
            typedef float type;                                                                    \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    } while (0)

template <typename T> static inline T *data_of(const fj_tensor *t) { return (T *)t->data; }
static inline int64_t count_of(const fj_tensor *t) { return t->rows * t->cols; }

/* False with the op named, unless t is F32 or BF16 as like is. */
static inline bool same_type(const fj_node *n, const fj_tensor *t, const fj_tensor *like,
                             fj_err *e) {
    return (t->dtype == like->dtype && (t->dtype == FJ_F32 || t->dtype == FJ_BF16)) ||
           fj_fail(e, FJ_EUNSUP, "op %s does not run on the GPU over %s and %s", n->op->name,
                   fj_dtype_get(t->dtype)->name, fj_dtype_get(like->dtype)->name);
}

#endif
