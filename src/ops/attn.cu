/* attn.cu - attention and its gradients: which kernel runs for a node (kernels/cuda/attn.cuh). */
#include "ops/op.cuh"

#include "kernels/cuda/attn.cuh"

typedef struct params { /* as fj_attn_params of ops.h */
    int heads, kv_heads, head_dim;
    double scale;
    int window;
    double softcap;
} params;

/* in: q, k, v, seqs, blocks, ... */
static bool args_of(const fj_node *n, fj_gpu_attn *a, bool *bf16, fj_err *e) {
    const params *p = (const params *)n->params;
    const fj_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    if (!same_type(n, k, q, e) || !same_type(n, v, q, e)) return false;
    if (p->head_dim > FJ_ATTN_MOST)
        return fj_fail(e, FJ_EUNSUP, "attention with heads of %d values: on the GPU at most %d",
                       p->head_dim, (int)FJ_ATTN_MOST);
    *bf16 = q->dtype == FJ_BF16;
    *a = fj_gpu_attn{};
    a->q = q->data, a->k = k->data, a->v = v->data;
    a->seqs = data_of<int32_t>(n->in[3]), a->blocks = data_of<int32_t>(n->in[4]);
    a->n = q->rows, a->slots = k->rows, a->n_seqs = n->in[3]->rows, a->n_blocks = n->in[4]->cols;
    a->heads = p->heads, a->kv_heads = p->kv_heads, a->group = p->heads / p->kv_heads;
    a->hd = p->head_dim, a->window = p->window;
    a->scale = (float)p->scale, a->cap = (float)p->softcap;
    return true;
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    fj_gpu_attn a;
    bool bf16;
    if (!args_of(n, &a, &bf16, e)) return false;
    a.sinks = n->n_in > 5 && n->in[5] ? data_of<float>(n->in[5]) : NULL;
    a.y = n->out[0]->data, a.lse = data_of<float>(n->out[1]);
    a.scratch = scratch;
    if (!a.n || !a.n_seqs) return true;
    return bf16 && fj_gpu_attn_takes(g, &a) ? fj_gpu_attn_fwd(g, &a, e)
                                            : fj_gpu_attn_any(g, &a, bf16, e);
}

static size_t scratch_fwd(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    fj_gpu_attn a;
    fj_err e;
    bool bf16;
    return args_of(n, &a, &bf16, &e) && bf16 ? fj_gpu_attn_fwd_scratch(&a) : 0;
}
FJ_CUDA_OP(attn, run, scratch_fwd);

static bool clear(const fj_gpu *g, const fj_tensor *t, fj_err *e) {
    size_t bytes = (size_t)fj_tensor_bytes(t);
    return !bytes || cudaMemsetAsync(t->data, 0, bytes, g->stream) == cudaSuccess ||
           launched("clearing gradients of attention", e);
}

/* in: q, k, v, seqs, blocks, y, lse, dy. */
static bool run_bwd(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    fj_gpu_attn a;
    bool bf16;
    if (!args_of(n, &a, &bf16, e) || !same_type(n, n->in[5], n->in[0], e) ||
        !same_type(n, n->in[7], n->in[0], e))
        return false;
    a.y = n->in[5]->data, a.lse = data_of<float>(n->in[6]), a.dy = n->in[7]->data;
    a.dq = n->out[0]->data, a.dk = n->out[1]->data, a.dv = n->out[2]->data;
    a.scratch = scratch;
    /* The keys of the sequences are their rows and what came before.  Sequences share no slots, so no
     * slot is left out where there are no more slots than rows. */
    if ((a.slots > a.n || !a.n_seqs) && !(clear(g, n->out[1], e) && clear(g, n->out[2], e)))
        return false;
    if (!a.n || !a.n_seqs) return true;
    return bf16 && fj_gpu_attn_bwd_takes(g, &a) ? fj_gpu_attn_bwd(g, &a, e)
                                                : fj_gpu_attn_any_bwd(g, &a, bf16, e);
}

static size_t scratch_bwd(const fj_node *n, const fj_graph_opts *o) {
    (void)o;
    fj_gpu_attn a;
    fj_err e;
    bool bf16;
    return args_of(n, &a, &bf16, &e) ? fj_gpu_attn_bwd_scratch(&a) : 0;
}
FJ_CUDA_OP(attn_bwd, run_bwd, scratch_bwd);
