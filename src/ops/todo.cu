/* todo.cu - ops that have no CUDA code yet: the device refuses them by name. */
#include "ops/op.cuh"

FJ_CUDA_OP(linear, NULL, NULL);
FJ_CUDA_OP(attn, NULL, NULL);
FJ_CUDA_OP(layernorm, NULL, NULL);
FJ_CUDA_OP(head_ce, NULL, NULL);
FJ_CUDA_OP(route, NULL, NULL);
FJ_CUDA_OP(moe_gather, NULL, NULL);
FJ_CUDA_OP(moe_linear, NULL, NULL);
FJ_CUDA_OP(moe_bias, NULL, NULL);
FJ_CUDA_OP(moe_combine, NULL, NULL);
FJ_CUDA_OP(linear_dx, NULL, NULL);
FJ_CUDA_OP(linear_dw, NULL, NULL);
FJ_CUDA_OP(rmsnorm_dx, NULL, NULL);
FJ_CUDA_OP(rmsnorm_dw, NULL, NULL);
FJ_CUDA_OP(attn_bwd, NULL, NULL);
FJ_CUDA_OP(attn_sinks_bwd, NULL, NULL);
FJ_CUDA_OP(layernorm_dx, NULL, NULL);
FJ_CUDA_OP(layernorm_dw, NULL, NULL);
FJ_CUDA_OP(route_dx, NULL, NULL);
FJ_CUDA_OP(moe_linear_dx, NULL, NULL);
FJ_CUDA_OP(moe_linear_dw, NULL, NULL);
FJ_CUDA_OP(moe_bias_db, NULL, NULL);
FJ_CUDA_OP(moe_dot, NULL, NULL);
FJ_CUDA_OP(moe_plan, NULL, NULL);
