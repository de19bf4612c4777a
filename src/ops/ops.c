#include "ops/op.h"

#ifndef FJ_F64
const fj_op *const fj_ops[] = {
#define FJ_OP(name) &fj_op_##name,
#define FJ_OP_BWD(name) FJ_OP(name)
#define FJ_OP_AUX(name) FJ_OP(name)
#include "ops/ops.def"
    NULL,
};

bool fj_same_shape(const fj_tensor *a, const fj_tensor *b, fj_err *e) {
    if (!a || !b) return fj_fail(e, FJ_EINVAL, "an input is missing");
    return (a->rows == b->rows && a->cols == b->cols) ||
           fj_fail(e, FJ_EINVAL, "%s is %lld x %lld, %s is %lld x %lld", a->name,
                   (long long)a->rows, (long long)a->cols, b->name, (long long)b->rows,
                   (long long)b->cols);
}

bool fj_want(const fj_tensor *t, const char *what, fj_dtype dt, int64_t rows, int64_t cols,
             fj_err *e) {
    if (!t) return fj_fail(e, FJ_EINVAL, "%s is missing", what);
    if (t->dtype != dt)
        return fj_fail(e, FJ_EINVAL, "%s (%s) is %s, wanted %s", what, t->name,
                       fj_dtype_get(t->dtype)->name, fj_dtype_get(dt)->name);
    return ((rows < 0 || t->rows == rows) && (cols < 0 || t->cols == cols)) ||
           fj_fail(e, FJ_EINVAL, "%s (%s) is %lld x %lld, wanted %lld x %lld", what, t->name,
                   (long long)t->rows, (long long)t->cols, (long long)rows, (long long)cols);
}
#endif
