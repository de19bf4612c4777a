/* golden.h - reads the files of tests/golden (tools/golden/README.md says what is in them).
 *
 * FORJA_GOLDEN names another folder with the same files: the interop ring makes them anew with a
 * fresh seed and runs these programs on them. */
#ifndef FORJA_GOLDEN_H
#define FORJA_GOLDEN_H

#include "test_util.h"

#include "formats/safetensors.h"
#include <math.h>

#define GOLDEN_LOGITS 1e-4 /* absolute */
#define GOLDEN_LOSS 1e-4   /* relative */
#define GOLDEN_IGNORE (-100)

/* One of the turning buffers of test_util.h. */
static FJ_UNUSED const char *golden_path(const char *rel) {
    const char *dir = getenv("FORJA_GOLDEN");
    char *path = fj_test_buf();
    if (dir && *dir) snprintf(path, 1024, "%s/%s", dir, rel);
    else snprintf(path, 1024, "%s/tests/golden/%s", FORJA_SOURCE_DIR, rel);
    return path;
}

static FJ_UNUSED fj_st *golden_open(const char *rel) {
    fj_err e = { 0 };
    fj_st *s = fj_st_open(golden_path(rel), &e);
    if (!s) fail_msg("%s", e.msg);
    return s;
}

static FJ_UNUSED const void *golden_get(const fj_st *s, const char *name, fj_dtype t, int64_t *n) {
    const fj_st_tensor *x = fj_st_find(s, name);
    if (!x || x->dtype != t) fail_msg("%s: no %s of the right format", s->name, name);
    *n = 1;
    for (int i = 0; i < x->n_dims; i++) *n *= x->dim[i];
    return x->data;
}

/* [n] values, owned by s. */
static FJ_UNUSED const float *golden_f32(const fj_st *s, const char *name, int64_t *n) {
    return golden_get(s, name, FJ_F32, n);
}

static FJ_UNUSED const int32_t *golden_i32(const fj_st *s, const char *name, int64_t *n) {
    return golden_get(s, name, FJ_I32, n);
}

static FJ_UNUSED float golden_value(const fj_st *s, const char *name) {
    int64_t n;
    const float *v = golden_f32(s, name, &n);
    assert_int_equal(n, 1);
    return v[0];
}

/* Largest |a - b|; NaN where either has one, so that a comparison written as !(x <= limit) fails. */
static FJ_UNUSED double golden_apart(const float *a, const float *b, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = d;
        if (isnan(d)) return d;
    }
    return worst;
}

static FJ_UNUSED void golden_near(const float *ours, const float *theirs, int64_t n, double limit,
                                  const char *what) {
    double d = golden_apart(ours, theirs, n);
    if (!(d <= limit)) fail_msg("%s: off by %g, allowed %g", what, d, limit);
    printf("%s: within %.2g\n", what, d);
}

static FJ_UNUSED void golden_near_relative(double ours, double theirs, double limit,
                                           const char *what) {
    if (!(fabs(ours - theirs) <= limit * fabs(theirs)))
        fail_msg("%s: %.9g, not %.9g (allowed %g relative)", what, ours, theirs, limit);
}

#endif
