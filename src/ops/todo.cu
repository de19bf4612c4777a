/* todo.cu - ops that have no CUDA code yet: the device refuses them by name. */
#include "ops/op.cuh"

<<<<<<< HEAD
FJ_CUDA_OP(add_bias, NULL, NULL);
FJ_CUDA_OP(embed, NULL, NULL);
FJ_CUDA_OP(rope, NULL, NULL);
=======
FJ_CUDA_OP(linear, NULL, NULL);
>>>>>>> points
FJ_CUDA_OP(attn, NULL, NULL);
FJ_CUDA_OP(layernorm, NULL, NULL);
<<<<<<< HEAD
FJ_CUDA_OP(scale, NULL, NULL);
FJ_CUDA_OP(softcap, NULL, NULL);
FJ_CUDA_OP(cols, NULL, NULL);
FJ_CUDA_OP(gather, NULL, NULL);
FJ_CUDA_OP(dropout, NULL, NULL);
=======
FJ_CUDA_OP(head_ce, NULL, NULL);
>>>>>>> points
FJ_CUDA_OP(route, NULL, NULL);
FJ_CUDA_OP(moe_gather, NULL, NULL);
FJ_CUDA_OP(moe_linear, NULL, NULL);
FJ_CUDA_OP(moe_bias, NULL, NULL);
FJ_CUDA_OP(moe_combine, NULL, NULL);
<<<<<<< HEAD
FJ_CUDA_OP(one, NULL, NULL);
FJ_CUDA_OP(col_sum, NULL, NULL);
FJ_CUDA_OP(embed_dw, NULL, NULL);
=======
FJ_CUDA_OP(linear_dx, NULL, NULL);
FJ_CUDA_OP(linear_dw, NULL, NULL);
>>>>>>> points
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
FJ_CUDA_OP(linear_lora, NULL, NULL);
FJ_CUDA_OP(linear_lora_dx, NULL, NULL);
