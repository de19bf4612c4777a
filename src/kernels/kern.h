/* kern.h - the table of micro-kernels, made from kernels.def.
 *
 * A table is a value that a device holds, never a global: a test can hold two and compare.  It starts
 * with the scalar reference and climbs to the best instruction set of this CPU; what a set does not
 * have keeps the plainer version.  Tables do not change after fj_kern_init: any thread may call.
 *
 * Same answers: on one table, an output's bits depend on its own inputs alone, never on the number
 * of rows or columns computed with it.  Between tables, gemm, gemm_w8, quant_* and all that
 * moves or rounds bits agree exactly; sums and exp agree to rounding; gemm_bf16 of the AVX-512 set
 * (vdpbf16ps) and of the scalar one flush denormals, those of AVX2 and of ARM do not; that of AMX (tdpbf16ps) has its
 * own order of additions, see kernels.def, as have attn_scores and attn_mix, which elsewhere are its chain. */
#ifndef FJ_KERNELS_KERN_H
#define FJ_KERNELS_KERN_H

#include "kernels/panel.h"

#include <assert.h>
#include <forja/err.h>
#include <stdint.h>

/* Constants of one optimizer step.  Gradients are multiplied by gscale first (clipping, averaging). */
typedef struct fj_adamw {
    double lr, beta1, beta2, eps, wd;
    double bc1, bc2; /* bias corrections: 1 - beta1^t, 1 - beta2^t, t >= 1 */
    double gscale;
} fj_adamw;

/* Attention: keys of a chunk, between whose rows of scores and weights there is always room for all of it. */
enum { FJ_ATTN_CHUNK = 128 };

typedef struct fj_kern {
    const char *isa;  /* "scalar", "avx2", "avx512 vnni bf16", "neon dotprod" */
    int bf16_rows;    /* of a call of gemm_bf16 */
    int few_f16_rows; /* up to so many, few_f16 is faster than f16_to_bf16 and gemm_bf16 */
    int few_rows;     /* up to so many, few_w8 is faster than w8_unpack and gemm_w8 */
#define real float
#define FJ_KERNEL(name, ret, params) ret(*name) params;
#define FJ_KERNEL_Q FJ_KERNEL
#include "kernels/kernels.def"
#undef FJ_KERNEL
#undef FJ_KERNEL_Q
#undef real
} fj_kern;

typedef struct fj_kern64 {
    const char *isa;
#define real double
#define FJ_KERNEL(name, ret, params) ret(*name) params;
#define FJ_KERNEL_Q(name, ret, params)
#include "kernels/kernels.def"
#undef FJ_KERNEL
#undef FJ_KERNEL_Q
#undef real
} fj_kern64;

/* isa NULL: the best of this CPU.  Otherwise at most the step named; false when this CPU does not have
 * it or the name is not known.  x86: "scalar", "avx2", "avx512f" (F, BW, VL, DQ), "avx512vnni", "avx512bf16",
 * "avx512" (with VNNI and BF16 where they are there, products of bf16 by what is fastest), "amx".  ARM: "scalar", "neon", "dotprod", "i8mm", "bf16". */
bool fj_kern_init(fj_kern *k, const char *isa, fj_err *e);
/* The i-th name of those, from "scalar" on; NULL after the last. */
const char *fj_kern_step(int i);
void fj_kern64_init(fj_kern64 *k);

/* The steps of the climb. */
void fj_kern_ref_f32(fj_kern *k);
void fj_kern_ref_f64(fj_kern64 *k);
void fj_kern_avx2_rows(fj_kern *k);
void fj_kern_avx2(fj_kern *k);
void fj_kern_avx2_w8(fj_kern *k);
void fj_kern_avx2_quant(fj_kern *k);
void fj_kern_avx2_pack(fj_kern *k);
void fj_kern_avx2_attn(fj_kern *k);
void fj_kern_avx512_rows(fj_kern *k);
void fj_kern_avx512(fj_kern *k);
void fj_kern_avx512_quant(fj_kern *k);
void fj_kern_avx512_blocks(fj_kern *k);
void fj_kern_avx512_pack(fj_kern *k);
void fj_kern_avx512_vnni(fj_kern *k);
void fj_kern_avx512_bf16(fj_kern *k);
void fj_kern_avx512_bf16_fma(fj_kern *k);
void fj_kern_avx512_w8_bf16(fj_kern *k);
void fj_kern_avx512_few(fj_kern *k);
void fj_kern_amx_few(fj_kern *k);
void fj_kern_neon_rows(fj_kern *k);
void fj_kern_neon(fj_kern *k);
void fj_kern_neon_w8(fj_kern *k);
void fj_kern_neon_quant(fj_kern *k);
void fj_kern_neon_attn(fj_kern *k);
void fj_kern_dotprod(fj_kern *k);
void fj_kern_i8mm(fj_kern *k);
void fj_kern_bf16(fj_kern *k);
void fj_kern_amx_gemm(fj_kern *k);
void fj_kern_amx_w8(fj_kern *k);
void fj_kern_avx512_attn(fj_kern *k);
void fj_kern_amx_attn(fj_kern *k);

/* For those who are no better with few rows. */
void fj_gemm_bf16_avx512(float *t, int64_t ldt, const uint32_t *a, int64_t ars, const uint32_t *b,
                         int64_t ldb, int64_t k, int mr, int np, bool first, const void *next,
                         int64_t bytes);
void fj_gemm_w8_avx512(float *t, const fj_a8 *a, const fj_w8 *w, int nb, int64_t rows, int kind,
                       bool first, const void *next, int64_t bytes);

#endif
