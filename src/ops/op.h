/* op.h - what an op's file includes.
 *
 * Op files are compiled twice: with `real` float, and with FJ_F64 and `real` double for the oracle of
 * the tests.  FJ_CPU(name) { ... } defines the function in both; the descriptor and the constructors
 * stand under #ifndef FJ_F64. */
#ifndef FJ_OPS_OP_H
#define FJ_OPS_OP_H

#include "graph/team.h"
#include "ops/gemm.h"
#include "ops/ops.h"
#include "ops/real.h"

#define FJ_OP(name)                                                                                \
    void fj_##name##_cpu_f32(const fj_team *t, const fj_node *n);                                  \
    void fj_##name##_cpu_f64(const fj_team *t, const fj_node *n);                                  \
    extern const fj_cuda_op fj_##name##_cuda;
#define FJ_OP_BWD(name) FJ_OP(name)
#define FJ_OP_AUX(name) FJ_OP(name)
#include "ops/ops.def"
#undef FJ_OP
#undef FJ_OP_BWD
#undef FJ_OP_AUX

/* What <file>.cu beside an op's file gives; the only mention of CUDA outside device/. */
#ifdef FORJA_CUDA
#define FJ_CUDA(name) .cuda = &fj_##name##_cuda
#else
#define FJ_CUDA(name) .cuda = NULL
#endif

#define FJ_CPU(name) void FJ_R(fj_##name##_cpu)(const fj_team *t, const fj_node *n)
#define FJ_FNS(name) .cpu = fj_##name##_cpu_f32, .cpu64 = fj_##name##_cpu_f64, FJ_CUDA(name)

#ifdef FJ_F64
#define KERN(t) ((t)->kern64)
#else
#define KERN(t) ((t)->kern)
#endif

/* Row r of a tensor of reals. */
static inline real *fj_row(const fj_tensor *x, int64_t r) { return (real *)x->data + r * x->cols; }

/* A weight as products take it. */
static inline fj_wmat fj_mat(const fj_tensor *w) {
    return (fj_wmat){ .dtype = w->dtype,
                      .panels = w->panels,
                      .mixed = w->mixed,
                      .data = w->data,
                      .n = w->rows,
                      .k = w->cols };
}

/* y starts as c where an op adds into it, unless the planner gave it c's memory.  c NULL: nothing. */
static inline void fj_start_from(const fj_team *t, fj_tensor *y, const fj_tensor *c) {
    if (!c || c->data == y->data) return;
    int64_t from, to;
    fj_team_split(t, y->rows * y->cols, 4096, &from, &to);
    memcpy((real *)y->data + from, (const real *)c->data + from,
           (size_t)(to - from) * sizeof(real));
    fj_team_barrier(t);
}

/* n numbers of x from number `from` on: in place, or those of a BF16 tensor (fj_op.keeps) in buf. */
static inline const real *fj_wide(const fj_team *t, const fj_tensor *x, int64_t from, int64_t n,
                                  real *buf) {
#ifndef FJ_F64
    if (x->dtype == FJ_BF16) {
        t->kern->bf16_to_f32(buf, (const uint16_t *)x->data + from, n);
        return buf;
    }
#endif
    (void)t, (void)n, (void)buf;
    return (const real *)x->data + from;
}

/* The same of x to `kept`, in BF16, where that is wanted. */
static inline void fj_put_kept(const fj_team *t, fj_tensor *kept, const fj_tensor *x, int64_t from,
                               int64_t n) {
#ifndef FJ_F64
    if (kept->rows)
        t->kern->f32_to_bf16((uint16_t *)kept->data + from, (const float *)x->data + from, n);
#endif
    (void)t, (void)kept, (void)x, (void)from, (void)n;
}

static inline bool fj_shape_like(fj_tensor *y, const fj_tensor *x) {
    y->rows = x->rows;
    y->cols = x->cols;
    return true;
}
/* False with a message naming both, unless a and b have one shape. */
bool fj_same_shape(const fj_tensor *a, const fj_tensor *b, fj_err *e);
/* False unless t is rows x cols of dt; cols or rows -1: any. */
bool fj_want(const fj_tensor *t, const char *what, fj_dtype dt, int64_t rows, int64_t cols,
             fj_err *e);

#endif
