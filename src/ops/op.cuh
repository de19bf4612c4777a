/* op.cuh - what an op's .cu file includes: C with kernels.
 *
 * A launcher `extern "C" bool fj_NAME_cuda(stream, n, scratch, e)` puts its kernels on the stream and
 * returns; the device waits once, after the whole graph.  It sees F32 tensors only: the device has
 * refused others.  Addresses in tensors are the device's. */
#ifndef FJ_OPS_OP_CUH
#define FJ_OPS_OP_CUH

#include <cuda_runtime.h>

extern "C" {
#include "graph/graph.h"
}

/* After a launch: false with the reason when it was not possible. */
static inline bool fj_launched(const fj_node *n, fj_err *e) {
    cudaError_t c = cudaGetLastError();
    return c == cudaSuccess || fj_fail(e, FJ_EIO, "op %s does not start on the GPU: %s",
                                       n->op->name, cudaGetErrorString(c));
}

#endif
