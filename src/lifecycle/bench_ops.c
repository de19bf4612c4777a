/* bench_ops.c - one op by itself, in a graph of its own: a product with a weight of the model, the attention of a
 * layer.  And a file, from its name to a token. */
#include "base/fs.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "lifecycle/bench.h"

/* A graph that is run over and over, several times in a run where it is short. */
typedef struct alone {
    fj_dev *d;
    fj_graph *g;
    fj_buf *mem;
    int64_t times;
} alone;
static const double enough = 4e9; /* FLOPs of a run */

static bool run_alone(void *ctx, double *end, fj_err *e) {
    alone *a = ctx;
    (void)end;
    for (int64_t i = 0; i < a->times; i++)
        if (!a->d->fn->run(a->d, a->g, e)) return false;
    return true;
}

static int64_t times_for(double flops) { return (int64_t)FJ_MAX(enough / flops, 1); }

static void close_alone(alone *a) {
    fj_graph_free(a->g);
    a->d->fn->free(a->mem);
}

static fj_tensor *numbers(alone *a, const char *name, int64_t rows, int64_t cols) {
    return fj_input(a->g, name, a->d->act, rows, cols);
}

/* Small numbers into an input: zeros and denormals are not what products meet. */
static bool fill(const fj_tensor *t, fj_err *e) {
    int64_t n = t->rows * t->cols;
    float *v = fj_alloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((double)(fj_rng_at(3, (uint64_t)i) >> 11) * 0x1p-53 - 0.5);
    uint16_t *h = (uint16_t *)v; /* narrowed from the front */
    for (int64_t i = 0; t->dtype == FJ_BF16 && i < n; i++) h[i] = fj_f32_to_bf16(v[i]);
    bool ok = fj_tensor_set((fj_tensor *)(uintptr_t)t, v, e);
    free(v);
    return ok;
}

/* ---- products ------------------------------------------------------------------------------------ */
int fj_bench_shapes_of(const fj_model *m, const fj_weight **w, int most) {
    int n = 0;
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *x = &m->w[i];
        bool head = x->row == &m->arch->weights[FJ_W_EMBED] && m->hp.tied;
        if (!(x->row->is & FJ_IS_LINEAR || head) || x->mats > 1 || fj_weight_is_vector(x)) continue;
        bool known = false;
        for (int k = 0; k < n && !known; k++)
            known = w[k]->rows == x->rows && w[k]->cols == x->cols && w[k]->dtype == x->dtype;
        if (!known && n < most) w[n++] = x;
    }
    return n;
}

bool fj_bench_gemm(fj_model *m, const fj_weight *w, fj_product which, const fj_bench_opts *o,
                   fj_speed *s, fj_err *e) {
    alone a = { .d = m->dev, .g = fj_graph_new() };
    a.g->act = m->dev->act;
    int64_t rows = o->rows;
    fj_tensor *x = numbers(&a, "x", rows, w->cols), *dy = numbers(&a, "dy", rows, w->rows),
              *t = fj_extern(a.g, "w", w->dtype, w->rows, w->cols, (fj_buf *)(uintptr_t)w->buf,
                             w->off);
    t->panels = w->panels;
    t->mixed = m->trainable;
    x->grad = which == FJ_DX;
    t->grad = which == FJ_DW;
    fj_tensor *y = fj_linear(a.g, x, t), *dx[3] = { 0 };
    if (which == FJ_FORWARD) fj_keep(y);
    else if (y) {
        fj_op_linear.grad(a.g, y->node, &dy, dx);
        fj_keep(dx[which == FJ_DX ? 0 : 1]);
    }
    double flops = 2 * (double)rows * (double)w->rows * (double)w->cols;
    a.times = times_for(flops);
    *s = (fj_speed){ .tokens = rows * a.times,
                     .flops = flops * (double)a.times,
                     .bytes = (double)fj_dtype_size(w->dtype, w->rows, w->cols) * (double)a.times,
                     .of = m->dev->plan.f32 ? FJ_PEAK_F32
                           : !m->dev->kern || t->mixed || which == FJ_DW
                               ? FJ_PEAK_BF16
                               : fj_bench_arithmetic(w->dtype, which == FJ_DX) };
    bool ok = fj_dev_prepare(m->dev, a.g, &a.mem, "a product", e) &&
              (!x->data || which == FJ_DX || fill(x, e)) &&
              (!dy->data || which == FJ_FORWARD || fill(dy, e)) &&
              fj_bench_repeat(m->dev, o, run_alone, &a, s, e);
    fj_dev_memory(m->dev, &s->held, NULL);
    close_alone(&a);
    return ok;
}

/* ---- attention ----------------------------------------------------------------------------------- */
typedef struct attention {
    alone a;
    fj_tensor *q, *k, *v, *dy, *seqs, *blocks;
} attention;

static void build(attention *x, const fj_model *m, bool backward, const fj_bench_opts *o) {
    const fj_hparams *h = &m->hp;
    int64_t n = o->batch * o->length, kv = h->kv_heads * h->head_dim, q = h->heads * h->head_dim;
    fj_graph *g = x->a.g = fj_graph_new();
    g->act = m->dev->act;
    x->q = numbers(&x->a, "q", n, q);
    x->k = numbers(&x->a, "k", n, kv);
    x->v = numbers(&x->a, "v", n, kv);
    x->dy = numbers(&x->a, "dy", n, q);
    x->seqs = fj_input(g, "seqs", FJ_I32, o->batch, 4);
    x->blocks =
        fj_input(g, "blocks", FJ_I32, 1, o->batch * ((o->length + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK));
    x->q->grad = x->k->grad = x->v->grad = backward;
    fj_attn_params p = { .heads = (int)h->heads,
                         .kv_heads = (int)h->kv_heads,
                         .head_dim = (int)h->head_dim,
                         .scale = h->attn_scale };
    fj_tensor *y = fj_attn(g, x->q, x->k, x->v, x->seqs, x->blocks, NULL, &p), *dx[6] = { 0 };
    fj_keep(y);
    if (!backward || !y) return;
    fj_op_attn.grad(g, y->node, (fj_tensor *[]){ x->dy, NULL }, dx);
    for (int i = 0; i < 3; i++) fj_keep(dx[i]);
}

static bool set(attention *x, bool backward, const fj_bench_opts *o, fj_err *e) {
    int64_t each = (o->length + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK;
    int32_t *seqs = fj_alloc((size_t)o->batch * 4 * sizeof *seqs),
            *blocks = fj_alloc((size_t)(o->batch * each) * sizeof *blocks);
    for (int64_t i = 0; i < o->batch; i++) {
        int32_t row = (int32_t)(i * o->length);
        memcpy(seqs + i * 4, (int32_t[]){ row, (int32_t)o->length, 0, (int32_t)(i * each) }, 16);
        for (int64_t b = 0; b < each; b++) blocks[i * each + b] = row + (int32_t)(b * FJ_KV_BLOCK);
    }
    bool ok = fj_tensor_set(x->seqs, seqs, e) && fj_tensor_set(x->blocks, blocks, e) &&
              fill(x->q, e) && fill(x->k, e) && fill(x->v, e) && (!backward || fill(x->dy, e));
    free(seqs);
    free(blocks);
    return ok;
}

/* Backward needs what forward made, so both run; its time is what both take less what forward takes. */
bool fj_bench_attention(fj_model *m, bool backward, const fj_bench_opts *o, fj_speed *s,
                        fj_err *e) {
    fj_speed forward = { 0 };
    fj_bench_opts plain = *o;
    plain.profile = NULL;
    if (backward && !fj_bench_attention(m, false, &plain, &forward, e)) return false;
    attention x = { .a.d = m->dev };
    build(&x, m, backward, o);
    double n = (double)o->length,
           pairs = (double)o->batch * (double)(m->hp.heads * m->hp.head_dim) * n * (n + 1);
    x.a.times = times_for(2 * pairs); /* the same for both */
    double times = (double)x.a.times;
    *s = (fj_speed){ .tokens = o->batch * o->length * x.a.times,
                     .flops = (backward ? 7 : 2) * pairs * times,
                     .of = m->dev->kern ? FJ_PEAK_F32 : FJ_PEAK_BF16 };
    bool ok = fj_dev_prepare(m->dev, x.a.g, &x.a.mem, "attention", e) && set(&x, backward, o, e) &&
              fj_bench_repeat(m->dev, o, run_alone, &x.a, s, e);
    fj_dev_memory(m->dev, &s->held, NULL);
    close_alone(&x.a);
    if (!ok || !backward) return ok;
    s->flops = 5 * pairs * times;
    s->seconds = FJ_MAX(s->seconds - forward.seconds, 1e-9);
    s->fastest = FJ_MAX(s->fastest - forward.seconds, 1e-9);
    s->slowest = FJ_MAX(s->slowest - forward.seconds, 1e-9);
    s->tokens_s = (double)s->tokens / s->seconds;
    s->rate = s->flops / s->seconds / 1e9;
    return true;
}

/* ---- from a file to a token ---------------------------------------------------------------------- */
typedef struct loading {
    fj_dev *d;
    const char *path;
    int64_t held, bytes; /* of weights */
} loading;

static bool run_loading(void *ctx, double *end, fj_err *e) {
    static const float greedy[FJ_PICK_COLS] = { [FJ_PICK_TOP_P] = 1, [FJ_PICK_PENALTY] = 1 };
    loading *x = ctx;
    const int32_t *chosen, id = 1;
    fj_model *m = fj_model_open(x->d, x->path, NULL, NULL, e);
    fj_engine *g = m ? fj_engine_open(m, FJ_KV_BLOCK, e) : NULL;
    fj_seq seq = { 0 };
    fj_step_item item = { .seq = &seq, .ids = (int32_t *)(uintptr_t)&id, .n = 1, .how = greedy };
    bool ok = g && fj_engine_choose(g, &item, 1, &chosen, e);
    *end = fj_clock();
    fj_dev_memory(x->d, &x->held, NULL);
    if (m) x->bytes = (int64_t)m->buf->size;
    if (g) fj_seq_free(g, &seq);
    fj_engine_close(g);
    fj_model_close(m);
    return ok;
}

bool fj_bench_load(fj_dev *d, const char *path, const fj_bench_opts *o, fj_speed *s, fj_err *e) {
    loading x = { .d = d, .path = path };
    *s = (fj_speed){ .tokens = 1, .of = FJ_PEAK_READ };
    if (!fj_bench_repeat(d, o, run_loading, &x, s, e)) return false;
    s->held = x.held;
    s->bytes = (double)x.bytes;
    s->rate = s->bytes / s->seconds / 1e9;
    return true;
}
