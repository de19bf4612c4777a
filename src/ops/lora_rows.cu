/* lora_rows.cu - several adapters in one batch: see lora_rows.c; two kernels for all (kernels/cuda/lora.cuh). */
#include "kernels/cuda/lora.cuh"
#include "ops/op.cuh"

extern "C" {
#include "ops/ops.h"
}

typedef struct params { /* as in lora_rows.c */
    int n;
    const fj_lora_rows *part;
    int64_t cols;
} params;

enum { PARTS = 64 };

/* Some parts at a time, so that they lie here and not in memory of their own. */
static bool run(const fj_gpu *g, const fj_node *n, bool up, const fj_tensor *x, const fj_tensor *y,
                fj_err *e) {
    const params *p = (const params *)n->params;
    fj_grows in = { x->dtype, x->data, x->cols }, out = { y->dtype, y->data, y->cols };
    if (!same_type(n, x, y, e)) return false;
    for (int from = 0; from < p->n; from += PARTS) {
        fj_lora_part part[PARTS];
        int count = FJ_MIN(p->n - from, (int)PARTS);
        for (int i = 0; i < count; i++) {
            const fj_lora_rows *r = &p->part[from + i];
            const fj_tensor *w = up ? r->b : r->a;
            part[i] = fj_lora_part{ w->dtype,   w->data, r->row0,        r->rows,
                                    r->a->rows, r->col,  (float)r->scale };
        }
        if (!(up ? fj_gpu_lora_up(g, in, count, part, out, y->cols, e)
                 : fj_gpu_lora_down(g, in, x->cols, count, part, out, e)))
            return false;
    }
    return true;
}

static bool run_down(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    return run(g, n, false, n->in[0], n->out[0], e);
}
FJ_CUDA_OP(lora_down, run_down, NULL);

static bool run_up(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    return run(g, n, true, n->in[1], n->out[0], e);
}
FJ_CUDA_OP(lora_up, run_up, NULL);
