/* todo.cu - ops that have no CUDA code yet: the device refuses them by name. */
#include "ops/op.cuh"

FJ_CUDA_OP(add_bias, NULL, NULL);
FJ_CUDA_OP(linear, NULL, NULL);
FJ_CUDA_OP(embed, NULL, NULL);
FJ_CUDA_OP(rope, NULL, NULL);
FJ_CUDA_OP(attn, NULL, NULL);
FJ_CUDA_OP(swiglu, NULL, NULL);
FJ_CUDA_OP(geglu, NULL, NULL);
FJ_CUDA_OP(gelu, NULL, NULL);
FJ_CUDA_OP(glu_oai, NULL, NULL);
FJ_CUDA_OP(layernorm, NULL, NULL);
FJ_CUDA_OP(scale, NULL, NULL);
FJ_CUDA_OP(softcap, NULL, NULL);
FJ_CUDA_OP(cols, NULL, NULL);
FJ_CUDA_OP(gather, NULL, NULL);
FJ_CUDA_OP(dropout, NULL, NULL);
FJ_CUDA_OP(head_ce, NULL, NULL);
FJ_CUDA_OP(route, NULL, NULL);
FJ_CUDA_OP(moe_gather, NULL, NULL);
FJ_CUDA_OP(moe_linear, NULL, NULL);
FJ_CUDA_OP(moe_bias, NULL, NULL);
FJ_CUDA_OP(moe_combine, NULL, NULL);
FJ_CUDA_OP(one, NULL, NULL);
FJ_CUDA_OP(col_sum, NULL, NULL);
FJ_CUDA_OP(linear_dx, NULL, NULL);
FJ_CUDA_OP(linear_dw, NULL, NULL);
FJ_CUDA_OP(embed_dw, NULL, NULL);
FJ_CUDA_OP(rmsnorm_dx, NULL, NULL);
FJ_CUDA_OP(rmsnorm_dw, NULL, NULL);
FJ_CUDA_OP(attn_bwd, NULL, NULL);
FJ_CUDA_OP(attn_sinks_bwd, NULL, NULL);
FJ_CUDA_OP(swiglu_bwd, NULL, NULL);
FJ_CUDA_OP(geglu_bwd, NULL, NULL);
FJ_CUDA_OP(gelu_bwd, NULL, NULL);
FJ_CUDA_OP(glu_oai_bwd, NULL, NULL);
FJ_CUDA_OP(layernorm_dx, NULL, NULL);
FJ_CUDA_OP(layernorm_dw, NULL, NULL);
FJ_CUDA_OP(softcap_bwd, NULL, NULL);
FJ_CUDA_OP(cols_bwd, NULL, NULL);
FJ_CUDA_OP(scatter, NULL, NULL);
FJ_CUDA_OP(scale_by, NULL, NULL);
FJ_CUDA_OP(route_dx, NULL, NULL);
FJ_CUDA_OP(moe_linear_dx, NULL, NULL);
FJ_CUDA_OP(moe_linear_dw, NULL, NULL);
FJ_CUDA_OP(moe_bias_db, NULL, NULL);
FJ_CUDA_OP(moe_dot, NULL, NULL);
FJ_CUDA_OP(rope_table, NULL, NULL);
FJ_CUDA_OP(kv_put, NULL, NULL);
FJ_CUDA_OP(accum, NULL, NULL);
FJ_CUDA_OP(sumsq, NULL, NULL);
FJ_CUDA_OP(adamw, NULL, NULL);
FJ_CUDA_OP(moe_plan, NULL, NULL);
#include "kernels/cuda/lt.h"
struct fj_lt *fj_lt_open(void) { return NULL; }
void fj_lt_close(struct fj_lt *lt) { (void)lt; }
FJ_CUDA_OP(linear_lora, NULL, NULL);
FJ_CUDA_OP(linear_lora_dx, NULL, NULL);
