/* op_cases.h - one-op graphs: the cases of the grad and opcheck rings, one function for each line of
 * ops.def (a line without one does not compile).
 *
 * case_NAME(c, v) builds variant v of the op into c->g with random inputs and keeps its results; false:
 * there is no variant v.  Values are drawn from c->rng, so the same seed gives the same case in f32 and
 * in f64: values are rounded to float, weights to their format, in both. */
#ifndef FORJA_OP_CASES_H
#define FORJA_OP_CASES_H

#include "test_util.h"

#include "any_blocks.h"
#include "device/device.h"
#include "ops/gemm.h"
#include "ops/ops.h"

#include <math.h>

/* An input of the case: what is uploaded before every run. */
typedef struct oc_arg {
    fj_tensor *t;
    double *v;     /* [rows, cols] of a tensor of numbers */
    int32_t *i;    /* [rows, cols] of integers */
    fj_buf *buf;   /* of an extern, owned by the case */
    bool differ;   /* gradients are asked for */
    bool changes;  /* the op writes into it: a result too */
    bool act;      /* activations: rounded where they are BF16 */
    int64_t packs; /* weights in a tensor of weights: as panels, each is packed alone */
    char *rows; /* weights in blocks: their bytes, for quantising again would not give the same */
} oc_arg;

typedef struct oc {
    fj_dev *dev;
    fj_graph *g;
    fj_dtype real; /* F32 or F64 */
    bool bf16;     /* activations are BF16, or in F64 have its values */
    bool panels;   /* weights as panels where the format has them (never in f64) */
    fj_rng rng;
    oc_arg arg[10];
    int n_args;
    fj_tensor *out[4];
    int n_out;
    fj_buf *mem;
    double tol; /* allowed in f32, relative to the largest value; set by the case when not exact */
    double tol_f32;  /* the same with every product in f32 */
    double tol_bf16; /* the same with BF16 activations */
} oc;

/* The format of activations of the case. */
static FJ_UNUSED fj_dtype oc_act(const oc *c) {
    return c->bf16 && c->real == FJ_F32 ? FJ_BF16 : c->real;
}

static FJ_UNUSED void oc_open(oc *c, fj_dev *d, fj_dtype as, uint64_t seed) {
    *c = (oc){ .dev = d, .g = fj_graph_new(), .real = as, .tol = 1e-5, .tol_f32 = 1e-5 };
    /* A rounding of a result to bf16 is 2^-9 of it; products of several rounded values add up. */
    c->tol_bf16 = 1.2e-2;
    fj_rng_seed(&c->rng, seed);
}

static FJ_UNUSED void oc_close(oc *c) {
    for (int i = 0; i < c->n_args; i++) {
        c->dev->fn->free(c->arg[i].buf);
        free(c->arg[i].v);
        free(c->arg[i].i);
        free(c->arg[i].rows);
    }
    c->dev->fn->free(c->mem);
    fj_graph_free(c->g);
}

static FJ_UNUSED double *oc_draw(oc *c, int64_t n) {
    double *v = fj_alloc((size_t)FJ_MAX(n, 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (float)fj_rng_normal(&c->rng);
    return v;
}

static fj_tensor *oc_add(oc *c, fj_tensor *t, oc_arg a) {
    if (!t) return NULL;
    FJ_ASSERT(c->n_args < (int)FJ_LEN(c->arg));
    a.t = t;
    if (a.differ) t->trainable = t->grad = true;
    c->arg[c->n_args++] = a;
    return t;
}

/* Activations [rows, cols], N(0, 1); gradients are checked when differ. */
static FJ_UNUSED fj_tensor *oc_real(oc *c, int64_t rows, int64_t cols, bool differ) {
    fj_tensor *t = fj_input(c->g, "numbers", oc_act(c), rows, cols);
    return oc_add(c, t, (oc_arg){ .v = oc_draw(c, rows * cols), .differ = differ, .act = true });
}

/* The same for what is no activation: vectors, weights of rows, gradients of parameters. */
static FJ_UNUSED fj_tensor *oc_vec(oc *c, int64_t rows, int64_t cols, bool differ) {
    fj_tensor *t = fj_input(c->g, "numbers", c->real, rows, cols);
    return oc_add(c, t, (oc_arg){ .v = oc_draw(c, rows * cols), .differ = differ });
}

/* The same, in (0, 1). */
static FJ_UNUSED fj_tensor *oc_positive(oc *c, int64_t rows, int64_t cols) {
    fj_tensor *t = oc_vec(c, rows, cols, false);
    for (int64_t i = 0; i < rows * cols; i++) {
        double x = c->arg[c->n_args - 1].v[i];
        c->arg[c->n_args - 1].v[i] = (float)(1 / (1 + exp(-x)));
    }
    return t;
}

static FJ_UNUSED fj_tensor *oc_ints(oc *c, int64_t rows, int64_t cols, const int32_t *v) {
    int32_t *i = fj_alloc((size_t)FJ_MAX(rows * cols, 1) * sizeof *i);
    if (rows > 0 && cols > 0) memcpy(i, v, (size_t)(rows * cols) * sizeof *i);
    return oc_add(c, fj_input(c->g, "integers", FJ_I32, rows, cols), (oc_arg){ .i = i });
}

/* n integers in [0, below). */
static FJ_UNUSED fj_tensor *oc_below(oc *c, int64_t n, int64_t below) {
    int32_t *i = fj_alloc((size_t)FJ_MAX(n, 1) * sizeof *i);
    for (int64_t k = 0; k < n; k++) i[k] = (int32_t)fj_rng_below(&c->rng, (uint64_t)below);
    return oc_add(c, fj_input(c->g, "integers", FJ_I32, 1, n), (oc_arg){ .i = i });
}

/* n different integers in [0, of), in no order. */
static FJ_UNUSED fj_tensor *oc_distinct(oc *c, int64_t n, int64_t of) {
    int32_t *i = fj_alloc((size_t)FJ_MAX(of, 1) * sizeof *i);
    for (int64_t k = 0; k < of; k++) i[k] = (int32_t)k;
    for (int64_t k = 0; k < n; k++) {
        int64_t j = k + (int64_t)fj_rng_below(&c->rng, (uint64_t)(of - k));
        int32_t was = i[k];
        i[k] = i[j];
        i[j] = was;
    }
    return oc_add(c, fj_input(c->g, "integers", FJ_I32, 1, n), (oc_arg){ .i = i });
}

/* Memory of somebody else, in the case's reals; changes: the op writes into it. */
static FJ_UNUSED fj_tensor *oc_extern(oc *c, int64_t rows, int64_t cols, bool changes) {
    fj_err e = { 0 };
    fj_buf *b = c->dev->fn->alloc(c->dev, (size_t)fj_dtype_size(c->real, rows, cols), "a test", &e);
    if (!b) fail_msg("%s", e.msg);
    fj_tensor *t = fj_extern(c->g, "extern", c->real, rows, cols, b, 0);
    return oc_add(c, t, (oc_arg){ .v = oc_draw(c, rows * cols), .buf = b, .changes = changes });
}

/* The same for a cache of keys or values: it has the format of activations. */
static FJ_UNUSED fj_tensor *oc_cache(oc *c, int64_t rows, int64_t cols) {
    fj_err e = { 0 };
    size_t bytes = (size_t)fj_dtype_size(oc_act(c), rows, cols);
    fj_buf *b = c->dev->fn->alloc(c->dev, bytes, "a test", &e);
    if (!b) fail_msg("%s", e.msg);
    fj_tensor *t = fj_extern(c->g, "cache", oc_act(c), rows, cols, b, 0);
    return oc_add(c, t,
                  (oc_arg){ .v = oc_draw(c, rows * cols), .buf = b, .changes = true, .act = true });
}

/* Weights [n, k] of a format, one after the other in a tensor [packs * n, k].  In f64 it is F64 with the
 * values that the format holds. */
static FJ_UNUSED fj_tensor *oc_weights(oc *c, fj_dtype dt, int64_t packs, int64_t n, int64_t k,
                                       bool differ) {
    fj_err e = { 0 };
    bool panels =
        c->panels && c->dev->kern && c->real != FJ_F64 && fj_wmat_packed_bytes(dt, n, k) >= 0;
    int64_t packed = panels ? packs * fj_wmat_packed_bytes(dt, n, k) : 0;
    n *= packs;
    double *v = oc_draw(c, n * k);
    fj_dtype as = c->real == FJ_F64 ? FJ_F64 : dt;
    float *row = fj_alloc((size_t)FJ_MAX(k, 1) * sizeof *row);
    size_t stride = (size_t)fj_dtype_size(dt, 1, k);
    char *rows = fj_alloc(FJ_MAX((size_t)n * stride, 8));
    for (int64_t r = 0; r < n; r++) {
        char *q = rows + (size_t)r * stride;
        for (int64_t j = 0; j < k; j++) row[j] = (float)v[r * k + j];
        if (fj_dtype_quantises(dt)) fj_quant_row(dt, row, q, k);
        else any_row(&c->rng, dt, q, k, 1);
        fj_dequant_row(dt, q, row, k);
        for (int64_t j = 0; j < k; j++) v[r * k + j] = row[j];
    }
    free(row);
    if (fj_dtype_get(dt)->block == 1) free(rows), rows = NULL; /* v may be changed by the caller */
    int64_t bytes = panels ? packed : fj_dtype_size(as, n, k);
    fj_buf *b = c->dev->fn->alloc(c->dev, (size_t)bytes, "a test", &e);
    if (!b) fail_msg("%s", e.msg);
    fj_tensor *t = fj_extern(c->g, "weight", as, n, k, b, 0);
    if (t) t->panels = panels;
    return oc_add(c, t,
                  (oc_arg){ .v = v, .buf = b, .differ = differ, .packs = packs, .rows = rows });
}

static FJ_UNUSED fj_tensor *oc_weight(oc *c, fj_dtype dt, int64_t n, int64_t k, bool differ) {
    return oc_weights(c, dt, 1, n, k, differ);
}

static FJ_UNUSED void oc_out(oc *c, fj_tensor *t) {
    if (t) c->out[c->n_out++] = fj_keep(t);
}

/* Every result of the node that made t, from `from` on. */
static FJ_UNUSED void oc_outs(oc *c, fj_tensor *t, int from) {
    for (int i = from; t && i < t->node->n_out; i++)
        if (t->node->out[i]->rows) oc_out(c, t->node->out[i]);
}

/* Bytes of an argument in its tensor's format; the caller frees. */
static FJ_UNUSED void *oc_bytes(const oc *c, const oc_arg *a) {
    int64_t rows = a->t->rows, cols = a->t->cols, n = rows * cols;
    if (a->i) {
        void *copy = fj_alloc((size_t)FJ_MAX(n, 1) * 4);
        if (n) memcpy(copy, a->i, (size_t)n * 4);
        return copy;
    }
    if (a->t->dtype == FJ_F64) {
        void *copy = fj_alloc((size_t)FJ_MAX(n, 1) * 8);
        if (n) memcpy(copy, a->v, (size_t)n * 8);
        for (int64_t i = 0; c->bf16 && a->act && i < n; i++)
            ((double *)copy)[i] = fj_bf16_to_f32(fj_f32_to_bf16((float)a->v[i]));
        return copy;
    }
    size_t stride = (size_t)fj_dtype_size(a->t->dtype, 1, cols);
    char *bytes = fj_alloc(FJ_MAX((size_t)rows * stride, 1));
    float *row = fj_alloc((size_t)FJ_MAX(cols, 1) * sizeof *row);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < cols; j++) row[j] = (float)a->v[r * cols + j];
        if (a->rows) memcpy(bytes + (size_t)r * stride, a->rows + (size_t)r * stride, stride);
        else fj_quant_row(a->t->dtype, row, bytes + (size_t)r * stride, cols);
    }
    free(row);
    if (a->t->panels) {
        int64_t each = rows / a->packs;
        size_t size = (size_t)fj_wmat_packed_bytes(a->t->dtype, each, cols);
        void *panels;
        if (posix_memalign(&panels, 64, FJ_MAX((size_t)a->packs * size, 64))) abort();
        for (int64_t i = 0; i < a->packs; i++)
            fj_wmat_pack(c->dev->kern, a->t->dtype, each, cols, bytes + (size_t)(i * each) * stride,
                         (char *)panels + (size_t)i * size, 0, 1);
        free(bytes);
        return panels;
    }
    return bytes;
}

static FJ_UNUSED void oc_upload(oc *c) {
    fj_err e = { 0 };
    for (int i = 0; i < c->n_args; i++) {
        oc_arg *a = &c->arg[i];
        if (!a->t->data) continue; /* no node that runs reads it */
        void *bytes = oc_bytes(c, a);
        if (a->buf) FJ_OK_OR_FAIL(c->dev->fn->upload(a->buf, 0, bytes, a->buf->size, &e), e);
        else FJ_OK_OR_FAIL(fj_tensor_set(a->t, bytes, &e), e);
        free(bytes);
    }
}

/* Plans at the first call, uploads all arguments, runs. */
static FJ_UNUSED void oc_run(oc *c) {
    fj_err e = { 0 };
    if (!c->mem) FJ_OK_OR_FAIL(fj_dev_prepare(c->dev, c->g, &c->mem, "a test", &e), e);
    oc_upload(c);
    FJ_OK_OR_FAIL(c->dev->fn->run(c->dev, c->g, &e), e);
}

/* The values of t as doubles; the caller frees. */
static FJ_UNUSED double *oc_get(const fj_tensor *t) {
    fj_err e = { 0 };
    int64_t n = t->rows * t->cols;
    double *v = fj_alloc((size_t)FJ_MAX(n, 1) * sizeof *v);
    void *raw = fj_alloc((size_t)FJ_MAX(n, 1) * sizeof *v);
    FJ_OK_OR_FAIL(fj_tensor_get(t, raw, &e), e);
    for (int64_t i = 0; i < n; i++)
        v[i] = t->dtype == FJ_F64    ? ((double *)raw)[i]
               : t->dtype == FJ_I32  ? ((int32_t *)raw)[i]
               : t->dtype == FJ_BF16 ? (double)fj_bf16_to_f32(((uint16_t *)raw)[i])
                                     : (double)((float *)raw)[i];
    free(raw);
    return v;
}

/* ---- the cases ---------------------------------------------------------------------------------- */
#define OC_CASE(name) static FJ_UNUSED bool case_##name(oc *c, int v)

OC_CASE(add) {
    static const int64_t shape[][2] = { { 1, 1 }, { 3, 5 }, { 7, 33 }, { 40, 67 }, { 3, 4 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    fj_tensor *a = oc_real(c, shape[v][0], shape[v][1], true);
    fj_tensor *b = v == 4 ? a : oc_real(c, shape[v][0], shape[v][1], true); /* add(x, x) */
    oc_out(c, fj_add(c->g, a, b));
    return true;
}

OC_CASE(add_bias) {
    static const int64_t shape[][2] = { { 1, 1 }, { 5, 3 }, { 70, 33 }, { 5, 24 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    fj_tensor *x = oc_real(c, shape[v][0], shape[v][1], true);
    oc_out(c, fj_add_bias(c->g, x, oc_vec(c, 1, shape[v][1], true)));
    return true;
}

/* How far the default arithmetic of a format may be from exact (gemm.h): bf16 and int8 rows. */
static FJ_UNUSED void oc_tol(oc *c, fj_dtype dt) {
    /* A row in int8 is off by about 0.5% of its spread; 37 outputs at once reach 1.1% one time in 60. */
    c->tol = fj_a8_kind(dt) >= 0 ? 3e-2 : dt == FJ_F32 ? 1e-5 : 6e-3;
}

static FJ_UNUSED const fj_dtype oc_formats[] = {
    FJ_F32,    FJ_F16,   FJ_BF16,    FJ_Q8_0,  FJ_Q4_0,  FJ_MXFP4, FJ_Q4_K,   FJ_Q6_K,   FJ_NF4,
    FJ_Q4_1,   FJ_Q5_0,  FJ_Q5_1,    FJ_Q2_K,  FJ_Q3_K,  FJ_Q5_K,  FJ_IQ4_NL, FJ_IQ4_XS, FJ_IQ2_XXS,
    FJ_IQ2_XS, FJ_IQ2_S, FJ_IQ3_XXS, FJ_IQ3_S, FJ_IQ1_S, FJ_IQ1_M, FJ_TQ1_0,  FJ_TQ2_0
};

/* A GPU computes with every weight of the case. */
static FJ_UNUSED bool oc_on_gpu(const oc *c) {
    for (int i = 0; i < c->n_args; i++)
        if (c->arg[i].rows && !fj_dtype_on_gpu(c->arg[i].t->dtype)) return false;
    return true;
}

/* k, or as much more as makes whole blocks. */
static FJ_UNUSED int64_t oc_whole(fj_dtype dt, int64_t k) {
    int64_t block = fj_dtype_get(dt)->block;
    return (k + block - 1) / block * block;
}

/* Rows, outputs, inputs; then c and its rows, the first row that x is added to, scale. */
typedef struct oc_linear {
    int64_t m, n, k, c_rows, row0;
    double scale;
} oc_linear;

OC_CASE(linear) {
    static const oc_linear list[] = {
        { 1, 1, 1, 0, 0, 1 },     { 5, 7, 3, 0, 0, 1 },   { 3, 33, 65, 3, 0, 0.5 },
        { 13, 70, 31, 13, 0, 2 }, { 1, 64, 96, 0, 0, 1 }, { 17, 49, 160, 17, 0, 1.5 },
        { 70, 5, 288, 0, 0, 1 },
    };
    int plain = (int)FJ_LEN(list);
    if (v < plain) {
        const oc_linear *l = &list[v];
        fj_tensor *x = oc_real(c, l->m, l->k, true), *w = oc_weight(c, FJ_F32, l->n, l->k, true);
        if (l->c_rows)
            oc_out(c,
                   fj_linear_add(c->g, x, w, oc_real(c, l->c_rows, l->n, true), l->scale, l->row0));
        else oc_out(c, fj_linear(c->g, x, w));
        return true;
    }
    v -= plain;
    if (v == 0) { /* the weight is frozen, and c is x: one gradient comes from two sides */
        fj_tensor *x = oc_real(c, 6, 9, true);
        oc_out(c, fj_linear_add(c->g, x, oc_weight(c, FJ_F32, 9, 9, false), x, 0.7, 0));
        return true;
    }
    v--;
    if (v == 0) { /* only c is differentiable */
        fj_tensor *x = oc_real(c, 4, 5, false), *w = oc_weight(c, FJ_F32, 6, 5, false);
        oc_out(c, fj_linear_add(c->g, x, w, oc_real(c, 4, 6, true), 3, 0));
        return true;
    }
    v--;
    /* Rows below and above those of x pass; every format, as rows and as panels. */
    if (v >= 4 * (int)FJ_LEN(oc_formats)) return false;
    fj_dtype dt = oc_formats[v / 4];
    c->panels = v % 2;
    oc_tol(c, dt);
    int64_t k = oc_whole(dt, 96);
    fj_tensor *x = oc_real(c, v & 2 ? 5 : 1, k, false), *w = oc_weight(c, dt, 37, k, false);
    if (v & 2) oc_out(c, fj_linear_add(c->g, x, w, oc_real(c, 9, 37, false), 0.25, 3));
    else oc_out(c, fj_linear(c->g, x, w));
    return true;
}

OC_CASE(linear_lora) {
    static const int64_t list[][4] = {
        { 1, 33, 3, 1 }, { 5, 7, 3, 2 }, { 33, 65, 40, 8 }, { 70, 24, 48, 16 }
    };
    c->tol_bf16 = 2e-2; /* A, t and B are rounded, and y twice */
    int plain = (int)FJ_LEN(list);
    if (v < plain) {
        const int64_t *l = list[v];
        fj_tensor *x = oc_real(c, l[0], l[2], true), *w = oc_weight(c, FJ_F32, l[1], l[2], v % 2);
        fj_tensor *a = oc_weight(c, FJ_F32, l[3], l[2], true),
                  *b = oc_weight(c, FJ_F32, l[1], l[3], true);
        fj_tensor *onto = v % 2 ? NULL : oc_real(c, l[0], l[1], true);
        oc_outs(c, fj_linear_lora(c->g, x, w, a, b, onto, 0.75), 0);
        return true;
    }
    v -= plain;
    if (v >= 2 * (int)FJ_LEN(oc_formats)) return false;
    fj_dtype dt = oc_formats[v / 2];
    c->panels = v % 2;
    oc_tol(c, dt);
    int64_t k = oc_whole(dt, 96);
    fj_tensor *x = oc_real(c, 6, k, false), *w = oc_weight(c, dt, 37, k, false);
    fj_tensor *a = oc_weight(c, FJ_F32, 4, k, false), *b = oc_weight(c, FJ_F32, 37, 4, false);
    if (!c->panels && a && b) { /* as adapters are: added tile by tile */
        a->mixed = b->mixed = true;
        c->tol = FJ_MAX(c->tol, 2e-2);
    }
    oc_out(c, fj_linear_lora(c->g, x, w, a, b, NULL, 2));
    return true;
}

OC_CASE(linear_many) {
    int plain = 3 + 2 * (int)FJ_LEN(oc_formats), kinds = 3 * 3 + 1;
    bool more = v >= plain; /* rows that are made on the way, and what is added to: on the CPU */
    if (v >= plain + kinds * (int)FJ_LEN(oc_formats) || (more && c->dev->plan.cuda)) return false;
    int kind = more ? (v - plain) % kinds : 0;
    fj_dtype dt = v < 3 ? FJ_F32 : more ? oc_formats[(v - plain) / kinds] : oc_formats[(v - 3) / 2];
    int64_t m = v == 0 ? 1 : v == 1 ? 70 : 5, k = v < 3 ? 48 : oc_whole(dt, 96);
    int n = v % 2 ? 3 : 2;
    c->panels = v % 2;
    oc_tol(c, dt);
    if (more) c->tol *= 2; /* products of normal numbers spread wider, and so does their rounding */
    fj_many how = { .eps = 1e-5 };
    if (more) how.pre = kind == 9 ? FJ_PRE_NONE : kind % 3 + 1;
    if (more) m = kind == 9 ? 2 : kind / 3 == 0 ? 1 : kind / 3 == 1 ? 3 : 9;
    fj_tensor *x = oc_real(c, m, k, false), *w[3], *y[3], *with = NULL, *onto = NULL;
    if (how.pre == FJ_PRE_RMSNORM) with = oc_vec(c, 1, k, false);
    else if (how.pre != FJ_PRE_NONE) with = oc_real(c, m, k, false);
    if (kind == 9 || kind / 3 == 1) n = 1, onto = oc_real(c, m, 16, false);
    /* The last is of another format: rows in two forms. */
    for (int i = 0; i < n; i++) {
        bool other = more && i == 2;
        double tol = c->tol;
        if (other) oc_tol(c, FJ_BF16), c->tol = FJ_MAX(c->tol, tol);
        w[i] = oc_weight(c, other ? FJ_BF16 : dt, 16 + 21 * i, k, false);
    }
    fj_linear_many(c->g, &how, x, with, onto, n, w, y);
    for (int i = 0; i < n; i++) oc_out(c, y[i]);
    return true;
}

OC_CASE(embed) {
    if (v == 0) {
        oc_out(c, fj_embed(c->g, oc_weight(c, FJ_F32, 5, 3, true),
                           oc_ints(c, 1, 6, (int32_t[]){ 4, 0, 4, 2, 4, 0 })));
        return true;
    }
    if (v == 1) {
        oc_out(c, fj_embed(c->g, oc_weight(c, FJ_F32, 70, 65, true), oc_below(c, 33, 70)));
        return true;
    }
    v -= 2;
    if (v >= 2 * (int)FJ_LEN(oc_formats)) return false;
    c->panels = v % 2;
    fj_dtype dt = oc_formats[v / 2];
    oc_out(c, fj_embed(c->g, oc_weight(c, dt, 39, oc_whole(dt, 64), false), oc_below(c, 7, 39)));
    return true;
}

OC_CASE(rmsnorm) {
    /* rows, columns, columns of the weight: a row, or the heads of one */
    static const int64_t shape[][3] = { { 1, 1, 1 },       { 3, 5, 5 },      { 7, 33, 33 },
                                        { 131, 70, 70 },   { 5, 12, 4 },     { 50, 66, 33 },
                                        { 9, 192, 64 },    { 3, 272, 272 },  { 2, 2056, 2056 },
                                        { 1, 2051, 2051 }, { 1, 8200, 8200 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    bool differ = shape[v][1] < 100; /* the wide ones: for devices that deal them differently */
    fj_tensor *x = oc_real(c, shape[v][0], shape[v][1], differ);
    oc_out(c, fj_rmsnorm(c->g, x, oc_vec(c, 1, shape[v][2], differ), v ? 1e-5 : 0.1));
    return true;
}

OC_CASE(layernorm) {
    /* 4: x is not asked for, 5: no bias */
    static const int64_t shape[][2] = { { 1, 3 },    { 3, 5 },    { 7, 33 },  { 131, 70 },
                                        { 4, 6 },    { 9, 17 },   { 9, 64 },  { 3, 272 },
                                        { 2, 2056 }, { 1, 2051 }, { 1, 8200 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    bool differ = shape[v][1] < 100; /* the wide ones: for devices that deal them differently */
    fj_tensor *x = oc_real(c, shape[v][0], shape[v][1], differ && v != 4),
              *w = oc_vec(c, 1, shape[v][1], differ);
    oc_out(c, fj_layernorm(c->g, x, w, v == 5 ? NULL : oc_vec(c, 1, shape[v][1], differ),
                           v ? 1e-5 : 0.1));
    return true;
}

OC_CASE(rope) {
    if (v >= 7) return false; /* 3 to 5: a part of each head */
    int64_t rows = v ? 7 : 1,
            hd = v == 2   ? 10
                 : v == 3 ? 9
                 : v >= 4 ? 32
                          : 4,
            rot = v == 3   ? 4
                  : v == 4 ? 8
                  : v == 5 ? 16
                           : hd;
    int heads = v ? 3 : 1;
    fj_tensor *pos = oc_below(c, rows, 300), *freq = oc_positive(c, v == 2 ? 2 : 1, rot / 2);
    fj_tensor *table =
        fj_rope_table(c->g, pos, freq, oc_below(c, rows, v == 2 ? 2 : 1), v == 2 ? 1.2 : 1);
    oc_out(c, fj_rope(c->g, oc_real(c, rows, heads * hd, true), table, heads));
    /* Both round the angle to their own format, so in f32 it is off by pos * 2^-24. */
    c->tol = c->tol_f32 = 300 * 0x1p-22;
    return true;
}

/* Sequences of a batch whose keys are its own rows; `past` rows of the first are in the cache already. */
typedef struct oc_attn {
    int heads, kv_heads, head_dim, past;
    int len[5];
    int window;
    double softcap;
    bool sinks;
} oc_attn;

static FJ_UNUSED const oc_attn oc_attns[] = {
    { 1, 1, 1, 0, { 1 }, 0, 0, false },        { 4, 2, 6, 0, { 1, 33, 5 }, 0, 0, false },
    { 3, 3, 5, 0, { 33, 1 }, 0, 0, false },    { 4, 2, 4, 0, { 70, 1, 33, 2 }, 0, 0, false },
    { 2, 1, 8, 45, { 3, 4 }, 0, 0, false },    { 2, 2, 4, 0, { 70, 5 }, 2, 0, false },
    { 4, 2, 6, 0, { 100, 33 }, 17, 0, false }, { 2, 1, 8, 75, { 40, 4 }, 20, 0, false },
    { 4, 2, 6, 0, { 40, 3 }, 0, 1.5, false },  { 4, 2, 6, 0, { 40, 3 }, 0, 0, true },
    { 4, 1, 5, 0, { 70, 33 }, 33, 2, true },
};

/* q, k, v, seqs, blocks of variant v, drawn; slots is filled with the rows of k. */
static FJ_UNUSED void oc_attn_inputs(oc *c, const oc_attn *a, bool differ, fj_tensor *in[5],
                                     int64_t *n, int64_t *slots) {
    int32_t seqs[5][4], blocks[16], n_seqs = 0, n_blocks = 0, row = 0, slot = 0;
    for (int i = 0; i < 5 && a->len[i]; i++) {
        int past = i ? 0 : a->past;
        memcpy(seqs[n_seqs++], (int32_t[4]){ row, a->len[i], past, n_blocks }, sizeof seqs[0]);
        /* A cache has its blocks in any order; a batch has its own rows. */
        int len = past + a->len[i], of = (len + 31) / 32;
        for (int b = 0; b < of; b++)
            blocks[n_blocks++] = a->past ? slot + 32 * (of - 1 - b) : slot + 32 * b;
        slot += a->past ? 32 * of : len;
        row += a->len[i];
    }
    *n = row;
    *slots = slot;
    in[0] = oc_real(c, row, (int64_t)a->heads * a->head_dim, differ);
    in[1] = oc_real(c, slot, (int64_t)a->kv_heads * a->head_dim, differ);
    in[2] = oc_real(c, slot, (int64_t)a->kv_heads * a->head_dim, differ);
    in[3] = oc_ints(c, n_seqs, 4, &seqs[0][0]);
    in[4] = oc_ints(c, 1, n_blocks, blocks);
}

static FJ_UNUSED fj_attn_params oc_attn_params(const oc_attn *a) {
    return (fj_attn_params){ a->heads,  a->kv_heads, a->head_dim, 1 / sqrt(a->head_dim),
                             a->window, a->softcap };
}

OC_CASE(attn) {
    if (v >= (int)FJ_LEN(oc_attns)) return false;
    fj_tensor *in[5];
    int64_t n, slots;
    oc_attn_inputs(c, &oc_attns[v], true, in, &n, &slots);
    fj_attn_params p = oc_attn_params(&oc_attns[v]);
    fj_tensor *sinks = oc_attns[v].sinks ? oc_vec(c, 1, p.heads, true) : NULL;
    oc_out(c, fj_attn(c->g, in[0], in[1], in[2], in[3], in[4], sinks, &p));
    /* q, k, v and the weights of the softmax are rounded to bf16; scores of size 3 with caps are the worst. */
    c->tol = 1.2e-2;
    return true;
}

OC_CASE(swiglu) {
    if (v == 0) {
        fj_tensor *x = oc_real(c, 4, 7, true);
        oc_out(c, fj_swiglu(c->g, x, x));
        return true;
    }
    if (v > 2) return false;
    int64_t rows = v == 1 ? 1 : 33, cols = v == 1 ? 1 : 65;
    fj_tensor *gate = oc_real(c, rows, cols, true);
    oc_out(c, fj_swiglu(c->g, gate, oc_real(c, rows, cols, true)));
    return true;
}

OC_CASE(geglu) {
    if (v == 0) {
        fj_tensor *x = oc_real(c, 4, 7, true);
        oc_out(c, fj_geglu(c->g, x, x));
        return true;
    }
    if (v > 2) return false;
    int64_t rows = v == 1 ? 1 : 33, cols = v == 1 ? 1 : 65;
    fj_tensor *gate = oc_real(c, rows, cols, true);
    oc_out(c, fj_geglu(c->g, gate, oc_real(c, rows, cols, true)));
    return true;
}

OC_CASE(gelu) {
    if (v > 1) return false;
    oc_out(c, fj_gelu(c->g, oc_real(c, v ? 33 : 1, v ? 65 : 1, true)));
    return true;
}

/* Gates and ups [rows, 2 * cols] of which some are beyond +-1, none so close that a small step crosses. */
static FJ_UNUSED fj_tensor *oc_gate_up(oc *c, int64_t rows, int64_t cols, bool differ) {
    fj_tensor *x = oc_real(c, rows, 2 * cols, differ);
    double *v = c->arg[c->n_args - 1].v;
    for (int64_t i = 0; i < 2 * rows * cols; i++)
        if (fabs(fabs(v[i]) - 1) < 1e-2) v[i] = (float)(v[i] * 1.05);
    return x;
}

OC_CASE(glu_oai) {
    static const int64_t shape[][2] = { { 1, 3 }, { 33, 65 }, { 5, 16 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    oc_out(c, fj_glu_oai(c->g, oc_gate_up(c, shape[v][0], shape[v][1], true), 1.702, 1));
    return true;
}

OC_CASE(scale) {
    if (v > 1) return false;
    oc_out(c, fj_scale(c->g, oc_real(c, v ? 33 : 1, v ? 65 : 1, true), v ? -1.75 : 0.5));
    return true;
}

OC_CASE(softcap) {
    static const double cap[] = { 1, 0.5, 30 };
    if (v >= (int)FJ_LEN(cap)) return false;
    oc_out(c, fj_softcap(c->g, oc_real(c, v ? 33 : 1, v ? 65 : 3, true), cap[v]));
    return true;
}

OC_CASE(cols) {
    static const int64_t list[][4] = {
        { 1, 1, 0, 0 }, { 5, 9, 2, 4 }, { 33, 70, 0, 7 }, { 4, 8, 5, 3 }, { 3, 40, 16, 8 }
    };
    if (v < (int)FJ_LEN(list)) {
        oc_out(c, fj_cols(c->g, oc_real(c, list[v][0], list[v][1], true), list[v][2], list[v][3]));
        return true;
    }
    if (v > (int)FJ_LEN(list)) return false;
    /* Slices that meet, overlap and leave a gap, and x itself: the gradients add up. */
    fj_tensor *x = oc_real(c, 7, 12, true), *a = fj_cols(c->g, x, 0, 4);
    fj_tensor *b = fj_cols(c->g, x, 4, 4), *d = fj_cols(c->g, x, 2, 4);
    fj_tensor *y = fj_swiglu(c->g, fj_add(c->g, a, b), d);
    oc_out(c, fj_add(c->g, y, fj_cols(c->g, fj_scale(c->g, x, 0.5), 3, 4)));
    return true;
}

OC_CASE(gather) {
    static const int64_t list[][3] = { { 1, 1, 1 }, { 9, 5, 4 }, { 33, 40, 33 }, { 6, 3, 0 } };
    if (v >= (int)FJ_LEN(list)) return false;
    fj_tensor *x = oc_real(c, list[v][0], list[v][1], true);
    oc_out(c, fj_gather(c->g, x, oc_distinct(c, list[v][2], list[v][0])));
    return true;
}

OC_CASE(dropout) {
    static const double p[] = { 0.1, 0.5, 0.99 };
    if (v >= (int)FJ_LEN(p)) return false;
    oc_out(c, fj_dropout(c->g, oc_real(c, v ? 37 : 1, v ? 67 : 3, true), p[v], 42 + (uint64_t)v));
    return true;
}

/* Rows, vocabulary, width; which of x and w are differentiable; format of w.  A chunk is at most 512 rows,
 * so 1100 rows make three. */
OC_CASE(head_ce) {
    static const struct {
        int64_t m, vocab, d;
        bool x, w;
        fj_dtype dt;
        bool panels;
        double scale, softcap;
    } list[] = {
        { 1, 2, 1, true, true, FJ_F32, false, 1, 0 },
        { 5, 7, 3, true, false, FJ_F32, false, 1, 0 },
        { 33, 50, 9, true, true, FJ_F32, false, 1, 0 },
        { 3, 33, 5, false, true, FJ_F32, false, 1, 0 },
        { 600, 6, 5, true, true, FJ_F32, false, 1, 0 },
        { 1100, 7, 2, true, true, FJ_F32, true, 1, 0 },
        { 4, 40, 64, true, false, FJ_F16, false, 1, 0 },
        { 4, 40, 64, true, false, FJ_BF16, true, 1, 0 },
        { 9, 40, 64, true, false, FJ_Q8_0, true, 1, 0 },
        { 9, 40, 64, true, false, FJ_Q4_0, true, 1, 0 },
        { 9, 40, 64, true, false, FJ_Q4_0, false, 1, 0 },
        { 33, 50, 9, true, true, FJ_F32, false, 0.3, 0 },
        { 600, 6, 5, true, true, FJ_F32, true, 1, 1.5 },
        { 33, 40, 32, true, true, FJ_F32, false, 2, 3 },
        { 9, 40, 64, true, false, FJ_MXFP4, true, 1, 0 },
        { 9, 40, 256, true, false, FJ_Q4_K, false, 1, 0 },
        { 9, 40, 256, true, false, FJ_Q6_K, false, 1, 0 },
        { 9, 40, 64, true, false, FJ_NF4, false, 1, 0 },
        { 9, 40, 64, true, false, FJ_Q5_1, true, 1, 0 },
        { 9, 40, 256, true, false, FJ_Q3_K, false, 1, 0 },
        { 9, 40, 256, true, false, FJ_IQ2_XS, false, 1, 0 },
    };
    if (v >= (int)FJ_LEN(list)) return false;
    c->panels = list[v].panels;
    fj_tensor *x = oc_real(c, list[v].m, list[v].d, list[v].x);
    /* Logits of about 1: rounded rows then move a probability by about as much. */
    for (int64_t i = 0; i < list[v].m * list[v].d; i++)
        c->arg[0].v[i] = (float)(c->arg[0].v[i] / sqrt((double)list[v].d));
    fj_tensor *w = oc_weight(c, list[v].dt, list[v].vocab, list[v].d, list[v].w);
    fj_tensor *ids = oc_below(c, list[v].m, list[v].vocab), *weights = oc_positive(c, 1, list[v].m);
    fj_tensor *loss = fj_head_ce(c->g, x, w, ids, weights, list[v].scale, list[v].softcap);
    oc_outs(c, loss, 0);
    /* The gradients of the default mode go through bf16. */
    c->tol = fj_dtype_get(list[v].dt)->block > 1 ? 5e-2 : 2e-2;
    c->tol_f32 = 2e-5;
    /* Of two tokens the gradient is g (w0 - w1), of which rounding may leave little. */
    c->tol_bf16 = list[v].vocab == 2 ? 0.5 : 2e-2;
    return true;
}

/* ---- ops that gradients emit -------------------------------------------------------------------- */
OC_CASE(one) {
    if (v) return false;
    oc_out(c, FJ_EMIT(c->g, &fj_op_one, NULL, oc_vec(c, 3, 5, false)));
    return true;
}

OC_CASE(col_sum) {
    static const int64_t shape[][2] = { { 1, 1 }, { 5, 33 }, { 131, 7 }, { 0, 3 }, { 700, 264 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    oc_out(c, FJ_EMIT(c->g, &fj_op_col_sum, NULL, oc_real(c, shape[v][0], shape[v][1], false)));
    return true;
}

/* As in ops/linear.c. */
typedef struct oc_linear_params {
    double scale;
    int64_t row0;
    bool real;
} oc_linear_params;

OC_CASE(linear_dx) {
    oc_linear_params p = { v % 3 ? 0.5 : 1, 0, false };
    if (v < 3) {
        static const int64_t shape[][3] = { { 1, 1, 1 },
                                            { 5, 33, 7 },
                                            { 70, 9, 65 } }; /* m, n, k */
        const int64_t *s = shape[v];
        fj_tensor *dy = oc_real(c, s[0], s[1], false), *w = oc_weight(c, FJ_F32, s[1], s[2], false);
        oc_out(c, v == 1 ? FJ_EMIT(c->g, &fj_op_linear_dx, &p, dy, w, oc_real(c, s[0], s[2], false))
                         : FJ_EMIT(c->g, &fj_op_linear_dx, &p, dy, w));
        return true;
    }
    v -= 3;
    if (v >= 2 * (int)FJ_LEN(oc_formats)) return false;
    c->panels = v % 2;
    c->tol = 1e-2; /* as bf16, where the weight is not F32 */
    fj_dtype dt = oc_formats[v / 2];
    int64_t k = oc_whole(dt, 96);
    fj_tensor *dy = oc_real(c, 11, 45, false), *w = oc_weight(c, dt, 45, k, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_linear_dx, &p, dy, w, oc_real(c, 11, k, false)));
    return true;
}

OC_CASE(linear_dw) {
    static const int64_t shape[][3] = {
        { 1, 1, 1 }, { 5, 33, 7 }, { 70, 9, 65 }, { 600, 3, 5 }, { 0, 3, 5 }
    };
    if (v >= (int)FJ_LEN(shape)) return false;
    const int64_t *s = shape[v];
    fj_tensor *dy = oc_real(c, s[0], s[1], false), *x = oc_real(c, s[0], s[2], false);
    c->tol = 1e-2;
    oc_out(c, FJ_EMIT(c->g, &fj_op_linear_dw, (&(oc_linear_params){ 1.5, 0, false }), dy, x));
    return true;
}

OC_CASE(linear_lora_dx) {
    if (v >= 2 * (int)FJ_LEN(oc_formats)) return false;
    c->panels = v % 2;
    c->tol = 1e-2; /* as bf16, where the weight is not F32 */
    fj_dtype f = oc_formats[v / 2];
    int64_t k = oc_whole(f, 96);
    fj_tensor *dy = oc_real(c, 11, 45, false), *w = oc_weight(c, f, 45, k, false);
    fj_tensor *a = oc_weight(c, FJ_F32, 8, k, false), *b = oc_weight(c, FJ_F32, 45, 8, false);
    double scale = 0.75;
    oc_outs(c,
            FJ_EMIT(c->g, &fj_op_linear_lora_dx, &scale, dy, w, a, b,
                    v % 3 ? oc_real(c, 11, k, false) : NULL),
            0);
    return true;
}

OC_CASE(embed_dw) {
    /* rows of the table, columns, ids and below what they are */
    static const int64_t list[][4] = { { 9, 3, 2, 9 },
                                       { 9, 65, 70, 9 },
                                       { 300, 16, 1500, 300 },
                                       { 70000, 8, 90, 70000 },
                                       { 5, 8, 1100, 2 } };
    if (v >= (int)FJ_LEN(list)) return false;
    const int64_t *l = list[v];
    fj_tensor *table = oc_weight(c, FJ_F32, l[0], l[1], false), *ids = oc_below(c, l[2], l[3]);
    oc_out(c, FJ_EMIT(c->g, &fj_op_embed_dw, NULL, table, ids, oc_real(c, l[2], l[1], false)));
    return true;
}

static bool oc_norm_bwd(oc *c, int v, const fj_op *op) {
    /* rows, columns, columns of the weight */
    static const int64_t shape[][3] = {
        { 1, 1, 1 },       { 3, 5, 5 },        { 131, 33, 33 },   { 0, 4, 4 },
        { 70, 512, 512 },  { 19, 2056, 2056 }, { 9, 2051, 2051 }, { 3, 8200, 8200 },
        { 700, 128, 128 }, { 50, 12, 4 },      { 171, 192, 64 }, /* the last two: heads */
    };
    bool by_heads = op == &fj_op_rmsnorm_dx || op == &fj_op_rmsnorm_dw;
    if (v >= (int)FJ_LEN(shape) - (by_heads ? 0 : 2)) return false;
    fj_tensor *x = oc_real(c, shape[v][0], shape[v][1], false),
              *w = oc_vec(c, 1, shape[v][2], false);
    double eps = v ? 1e-5 : 0.1;
    oc_out(c, FJ_EMIT(c->g, op, &eps, x, w, oc_real(c, shape[v][0], shape[v][1], false)));
    return true;
}
OC_CASE(rmsnorm_dx) { return oc_norm_bwd(c, v, &fj_op_rmsnorm_dx); }
OC_CASE(rmsnorm_dw) { return oc_norm_bwd(c, v, &fj_op_rmsnorm_dw); }
OC_CASE(layernorm_dx) { return oc_norm_bwd(c, v, &fj_op_layernorm_dx); }
OC_CASE(layernorm_dw) { return oc_norm_bwd(c, v, &fj_op_layernorm_dw); }

OC_CASE(attn_bwd) {
    if (v >= (int)FJ_LEN(oc_attns)) return false;
    fj_tensor *in[5];
    int64_t n, slots;
    oc_attn_inputs(c, &oc_attns[v], false, in, &n, &slots);
    fj_attn_params p = oc_attn_params(&oc_attns[v]);
    fj_tensor *sinks = oc_attns[v].sinks ? oc_vec(c, 1, p.heads, false) : NULL;
    fj_tensor *y = fj_attn(c->g, in[0], in[1], in[2], in[3], in[4], sinks, &p);
    if (!y) return true;
    oc_outs(c,
            FJ_EMIT(c->g, &fj_op_attn_bwd, &p, in[0], in[1], in[2], in[3], in[4], y,
                    y->node->out[1], oc_real(c, n, y->cols, false)),
            0);
    c->tol_f32 = 3e-5;
    /* Where a row sees few keys, dP - D cancels, and what is left is the rounding of y in D and of dS: of 500
     * seeds the worst was 0.02. */
    c->tol = c->tol_bf16 = 4e-2;
    return true;
}

OC_CASE(attn_sinks_bwd) {
    static const int64_t list[][3] = { { 1, 1, 1 },
                                       { 33, 3, 5 },
                                       { 70, 8, 16 } }; /* rows, heads, hd */
    if (v >= (int)FJ_LEN(list)) return false;
    int64_t rows = list[v][0], heads = list[v][1], hd = list[v][2];
    fj_tensor *sinks = oc_vec(c, 1, heads, false), *lse = oc_positive(c, rows, heads);
    fj_tensor *y = oc_real(c, rows, heads * hd, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_attn_sinks_bwd, NULL, sinks, lse, y,
                      oc_real(c, rows, heads * hd, false)));
    return true;
}

OC_CASE(swiglu_bwd) {
    if (v > 1) return false;
    int64_t rows = v ? 33 : 1, cols = v ? 65 : 1;
    fj_tensor *gate = oc_real(c, rows, cols, false), *up = oc_real(c, rows, cols, false);
    oc_outs(c, FJ_EMIT(c->g, &fj_op_swiglu_bwd, NULL, gate, up, oc_real(c, rows, cols, false)), 0);
    return true;
}

OC_CASE(geglu_bwd) {
    if (v > 1) return false;
    int64_t rows = v ? 33 : 1, cols = v ? 65 : 1;
    fj_tensor *gate = oc_real(c, rows, cols, false), *up = oc_real(c, rows, cols, false);
    oc_outs(c, FJ_EMIT(c->g, &fj_op_geglu_bwd, NULL, gate, up, oc_real(c, rows, cols, false)), 0);
    return true;
}

OC_CASE(gelu_bwd) {
    if (v > 1) return false;
    int64_t rows = v ? 33 : 1, cols = v ? 65 : 1;
    fj_tensor *x = oc_real(c, rows, cols, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_gelu_bwd, NULL, x, oc_real(c, rows, cols, false)));
    return true;
}

OC_CASE(glu_oai_bwd) {
    if (v > 2) return false;
    int64_t rows = v ? 33 : 1, cols = v == 2 ? 64 : v ? 65 : 1;
    fj_tensor *x = oc_gate_up(c, rows, cols, false);
    double p[2] = { 1.702, 1 }; /* alpha, limit */
    oc_out(c, FJ_EMIT(c->g, &fj_op_glu_oai_bwd, p, x, oc_real(c, rows, cols, false)));
    return true;
}

OC_CASE(softcap_bwd) {
    if (v > 1) return false;
    int64_t rows = v ? 33 : 1, cols = v ? 65 : 1;
    fj_tensor *y = oc_real(c, rows, cols, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_softcap_bwd, &(double){ 6 }, y, oc_real(c, rows, cols, false)));
    return true;
}

/* As in ops/cols.c. */
typedef struct oc_cols_params {
    int64_t col0, cols;
} oc_cols_params;

OC_CASE(cols_bwd) {
    /* rows, all columns, the first and the number of the slice's */
    static const int64_t list[][4] = {
        { 1, 1, 0, 1 }, { 33, 40, 7, 13 }, { 6, 9, 6, 3 }, { 5, 40, 16, 8 }
    };
    if (v >= 2 * (int)FJ_LEN(list)) return false; /* alone, then onto a gradient */
    const int64_t *l = list[v / 2];
    oc_cols_params p = { l[2], l[1] };
    fj_tensor *dy = oc_real(c, l[0], l[3], false);
    if (v % 2) oc_out(c, FJ_EMIT(c->g, &fj_op_cols_bwd, &p, dy, oc_real(c, l[0], l[1], false)));
    else oc_out(c, FJ_EMIT(c->g, &fj_op_cols_bwd, &p, dy, NULL));
    return true;
}

OC_CASE(scatter) {
    static const int64_t list[][3] = { { 1, 1, 1 }, { 9, 5, 4 }, { 33, 40, 33 }, { 6, 3, 0 } };
    if (v >= (int)FJ_LEN(list)) return false;
    fj_tensor *dy = oc_real(c, list[v][2], list[v][1], false);
    oc_out(c,
           FJ_EMIT(c->g, &fj_op_scatter, &list[v][0], dy, oc_distinct(c, list[v][2], list[v][0])));
    return true;
}

OC_CASE(scale_by) {
    if (v > 1) return false;
    fj_tensor *x = oc_real(c, v ? 37 : 1, v ? 67 : 1, false);
    oc_out(c, FJ_EMIT(c->g, &fj_op_scale_by, NULL, x, oc_vec(c, 1, 1, false)));
    return true;
}

/* ---- the others --------------------------------------------------------------------------------- */
OC_CASE(sample) {
    /* rows, tokens, and the ways: temperature, top-k, top-p, min-p, penalty */
    static const struct {
        int64_t m, vocab;
        float how[5];
    } list[] = {
        { 1, 1, { 0, 0, 1, 0, 1 } },          { 5, 33, { 0, 0, 1, 0, 1.5f } },
        { 7, 70, { 1, 0, 1, 0, 1 } },         { 9, 1500, { 0.7f, 40, 1, 0, 1 } },
        { 9, 1500, { 1.5f, 0, 0.8f, 0, 1 } }, { 6, 2049, { 1, 50, 0.9f, 0.05f, 1.2f } },
        { 4, 300, { 2, 0, 1, 0.3f, 1 } },     { 0, 5, { 1, 0, 1, 0, 1 } },
    };
    if (v >= (int)FJ_LEN(list)) return false;
    int64_t m = list[v].m, words = list[v].how[4] != 1 ? (list[v].vocab + 31) / 32 : 0;
    fj_tensor *logits = oc_vec(c, m, list[v].vocab, false), *how = oc_positive(c, m, FJ_PICK_COLS);
    double *h = c->arg[c->n_args - 1].v; /* the last column is the draw */
    for (int64_t r = 0; r < m; r++)
        for (int i = 0; i < 5; i++) h[r * FJ_PICK_COLS + i] = (double)list[v].how[i];
    int32_t *bits = fj_alloc((size_t)(m * words + 1) * sizeof *bits);
    for (int64_t i = 0; i < m * words; i++) bits[i] = (int32_t)fj_rng_u64(&c->rng);
    oc_out(c, fj_choose(c->g, logits, how, oc_ints(c, m, words, bits)));
    free(bits);
    return true;
}

OC_CASE(rope_table) {
    if (v > 1) return false;
    fj_tensor *pos = oc_below(c, v ? 33 : 1, 300), *freq = oc_positive(c, v ? 3 : 1, v ? 7 : 1);
    oc_out(c, fj_rope_table(c->g, pos, freq, oc_below(c, v ? 33 : 1, v ? 3 : 1), v ? 1.25 : 1));
    c->tol = c->tol_f32 = 300 * 0x1p-22;
    return true;
}

OC_CASE(kv_put) {
    if (v > 2) return false;
    int64_t rows = v ? 33 : 1, cols = v == 2 ? 16 : v ? 13 : 1, slots = v ? 64 : 1;
    fj_tensor *cache = oc_cache(c, slots, cols), *x = oc_real(c, rows, cols, false);
    oc_out(c, fj_kv_put(c->g, cache, x, oc_distinct(c, rows, slots)));
    return true;
}

OC_CASE(accum) {
    if (v > 1) return false;
    fj_tensor *acc = oc_extern(c, v ? 37 : 1, v ? 67 : 1, true);
    oc_out(c, fj_accum(c->g, acc, oc_vec(c, v ? 37 : 1, v ? 67 : 1, false)));
    return true;
}

OC_CASE(sumsq) {
    static const int64_t shape[][2] = { { 1, 1 }, { 7, 33 }, { 300, 131 }, { 0, 5 } };
    if (v >= (int)FJ_LEN(shape)) return false;
    oc_out(c, fj_sumsq(c->g, oc_vec(c, shape[v][0], shape[v][1], false)));
    return true;
}

OC_CASE(adamw) {
    if (v > 2) return false;
    int64_t rows = v ? 37 : 1, cols = v == 2 ? 68 : v ? 67 : 1;
    fj_tensor *p = oc_extern(c, rows, cols, true), *grad = oc_vec(c, rows, cols, false);
    fj_tensor *m = oc_extern(c, rows, cols, true), *s = oc_extern(c, rows, cols, true);
    for (int64_t i = 0; i < rows * cols; i++)
        c->arg[c->n_args - 1].v[i] = fabs(c->arg[c->n_args - 1].v[i]);
    static const float hyper[8] = { 0.25f, 0.9f, 0.999f, 1e-8f, 0.125f, 0.271f, 0.003f, 0.5f };
    fj_tensor *h = fj_input(c->g, "hyper-parameters", FJ_F32, 1, 8);
    double *values = fj_alloc(8 * sizeof *values);
    for (int i = 0; i < 8; i++) values[i] = hyper[i];
    oc_add(c, h, (oc_arg){ .v = values });
    oc_out(c, fj_adamw_step(c->g, p, grad, m, s, h));
    return true;
}

typedef struct oc_entry {
    const char *name;
    bool (*build)(oc *c, int v);
} oc_entry;

#include "op_cases_lora.h"
#include "op_cases_moe.h"

#endif
