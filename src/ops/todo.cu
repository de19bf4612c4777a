/* todo.cu - ops that have no CUDA code yet: the device refuses them by name. */
#include "ops/op.cuh"

FJ_CUDA_OP(moe_linear, NULL, NULL);
FJ_CUDA_OP(moe_linear_dx, NULL, NULL);
FJ_CUDA_OP(moe_linear_dw, NULL, NULL);
