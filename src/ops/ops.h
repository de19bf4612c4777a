/* ops.h - the constructors that model code calls.  Each returns its (first) result, NULL after an error
 * of the graph.  Shapes: n rows are tokens of a ragged batch, d the model's width. */
#ifndef FJ_OPS_OPS_H
#define FJ_OPS_OPS_H

#include "graph/graph.h"
#include "ops/pick.h"

#define FJ_OP(name) extern const fj_op fj_op_##name;
#define FJ_OP_BWD(name) FJ_OP(name)
#define FJ_OP_AUX(name) FJ_OP(name)
#include "ops/ops.def"
#undef FJ_OP
#undef FJ_OP_BWD
#undef FJ_OP_AUX

/* All of them in the order of ops.def; NULL at the end. */
extern const fj_op *const fj_ops[];

/* a + b */
fj_tensor *fj_add(fj_graph *g, fj_tensor *a, fj_tensor *b);
/* x [n, d] + b [1, d] on every row */
fj_tensor *fj_add_bias(fj_graph *g, fj_tensor *x, fj_tensor *b);

/* y [n, N] = scale * x [n, K] W^T, W [N, K] in any weight format.
 * fj_linear_add adds into c [n, N] (consumed where nobody else reads it): c + scale * x W^T; x may
 * then have fewer rows than c: they are added to rows [row0, row0 + rows of x), the others pass. */
fj_tensor *fj_linear(fj_graph *g, fj_tensor *x, fj_tensor *w);
fj_tensor *fj_linear_real(fj_graph *g, fj_tensor *x, fj_tensor *w); /* F32, whatever x is */
fj_tensor *fj_linear_add(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *c, double scale,
                         int64_t row0);

/* y[i] = (c or nothing) + f(x) w[i]^T, n of them, one where there is a c [rows of x, N], which is consumed
 * where nobody else reads it; no gradient.  f(x): x; rmsnorm of it, with [1, d] (fj_rmsnorm); fj_swiglu or
 * fj_geglu of it, the gates, and the ups `with`.  On a GPU: x alone, and no c. */
enum { FJ_LINEAR_MANY = 3 };
typedef enum fj_pre { FJ_PRE_NONE, FJ_PRE_RMSNORM, FJ_PRE_SWIGLU, FJ_PRE_GEGLU } fj_pre;
typedef struct fj_many {
    fj_pre pre;
    double eps; /* of the norm */
} fj_many;
void fj_linear_many(fj_graph *g, const fj_many *how, fj_tensor *x, fj_tensor *with, fj_tensor *c,
                    int n, fj_tensor *const *w, fj_tensor **y);

/* c + x W^T + scale * (x A^T) B^T: a weight and the adapter of all rows, A [r, K], B [N, r]; c NULL: nothing
 * added.  The second result is x A^T [n, r]. */
fj_tensor *fj_linear_lora(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *a, fj_tensor *b,
                          fj_tensor *c, double scale);

/* Adapters of some rows each, not differentiable: t [n, cols] of x [n, K], then y [n, N] += scale * t B^T in
 * place.  Part i, A [r, K] and B [N, r], is for rows [row0, row0 + rows) of x and y and has columns [col,
 * col + r) of t; `part` is kept by the graph. */
typedef struct fj_lora_rows {
    fj_tensor *a, *b;
    int64_t row0, rows, col;
    double scale;
} fj_lora_rows;
fj_tensor *fj_lora_down(fj_graph *g, fj_tensor *x, int n, const fj_lora_rows *part, int64_t cols);
fj_tensor *fj_lora_up(fj_graph *g, fj_tensor *y, fj_tensor *t, int n, const fj_lora_rows *part);

/* A token of each row of logits [m, V] -> I32 [1, m].  how [m, FJ_PICK_COLS] F32 (pick.h); seen I32 [m, (V +
 * 31) / 32], bit id % 32 of word id / 32: tokens that the penalty is for, or [m, 0].  No gradient. */
fj_tensor *fj_choose(fj_graph *g, fj_tensor *logits, fj_tensor *how, fj_tensor *seen);

/* rows `ids` [1, n] (I32) of table [V, d], in any weight format; the result has the format g->act */
fj_tensor *fj_embed(fj_graph *g, fj_tensor *table, fj_tensor *ids);

/* w * x / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019), over each group of w's width in a row of x:
 * the whole row, or every head of it. */
fj_tensor *fj_rmsnorm(fj_graph *g, fj_tensor *x, fj_tensor *w, double eps);

/* w * (x - mean) / sqrt(variance + eps) + b over each row (Ba et al. 2016); b NULL: nothing added */
fj_tensor *fj_layernorm(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *b, double eps);

/* Rotary table [n, hd]: cos then sin of pos * inv_freq, times mscale; pos [1, n] I32, inv_freq
 * [tables, hd/2], which [1, n] I32: the row of inv_freq that each row uses.  The angle is rounded to f32 first, as transformers does. */
fj_tensor *fj_rope_table(fj_graph *g, fj_tensor *pos, fj_tensor *inv_freq, fj_tensor *which,
                         double mscale);
/* x [n, heads * hd]: pairs (i, i + rot/2) of the first rot = table's columns of each head turned by the
 * table (Su et al. 2021, in the rotate-half layout of Hugging Face; GGUF's interleaved rows are permuted
 * at load); values from rot on, when the table is narrower than a head, pass. */
fj_tensor *fj_rope(fj_graph *g, fj_tensor *x, fj_tensor *table, int heads);

/* Attention of a ragged batch (FlashAttention: online softmax, nothing of size n x n exists).
 *   q [n, heads * hd]; k, v [slots, kv_heads * hd]: of this batch in training, of the cache in serving (on the CPU
 *     those of fj_kv_put_blocks, unless everything is f32)
 *   seqs I32 [S, 4]: first row, number of rows, position of the first row, first entry in blocks;
 *     the rows of a sequence are neighbours, their positions consecutive
 *   blocks I32 [1, B]: entry b of a sequence is the slot where its positions 32b .. 32b+31 begin
 *   sinks [1, heads] or NULL: a logit for each head that joins the sum of the softmax and has no value
 *     (Xiao et al. 2023, in the learned form of gpt-oss)
 * Query at position p sees positions max(0, p - window + 1) .. p; window 0: 0 .. p.  Blocks that no query
 * sees cost nothing.  softcap c > 0: scores are c * tanh(scale q.k / c) (Gemma 2); 0: scale q.k.
 * Results: y [n, heads * hd], lse [n, heads]. */
enum { FJ_KV_BLOCK = 32 };
typedef struct fj_attn_params {
    int heads, kv_heads, head_dim;
    double scale;
    int window;
    double softcap;
} fj_attn_params;
fj_tensor *fj_attn(fj_graph *g, fj_tensor *q, fj_tensor *k, fj_tensor *v, fj_tensor *seqs,
                   fj_tensor *blocks, fj_tensor *sinks, const fj_attn_params *p);

/* silu(gate) * up */
fj_tensor *fj_swiglu(fj_graph *g, fj_tensor *gate, fj_tensor *up);

/* gelu(x), the tanh form (Hendrycks and Gimpel 2016; PyTorch's approximate="tanh"), and gelu(gate) * up */
fj_tensor *fj_gelu(fj_graph *g, fj_tensor *x);
fj_tensor *fj_geglu(fj_graph *g, fj_tensor *gate, fj_tensor *up);

/* gate_up [n, 2I], gates in the even columns and ups in the odd ones (gpt-oss):
 * (u + 1) * g * sigmoid(alpha * g), g = min(gate, limit), u = up clamped to +-limit; [n, I] */
fj_tensor *fj_glu_oai(fj_graph *g, fj_tensor *gate_up, double alpha, double limit);

/* s * x */
fj_tensor *fj_scale(fj_graph *g, fj_tensor *x, double s);

/* cap * tanh(x / cap), cap > 0 */
fj_tensor *fj_softcap(fj_graph *g, fj_tensor *x, double cap);

/* A copy of columns [col0, col0 + cols) of x */
fj_tensor *fj_cols(fj_graph *g, fj_tensor *x, int64_t col0, int64_t cols);

/* rows idx [1, m] (I32) of x [n, d]; no row twice */
fj_tensor *fj_gather(fj_graph *g, fj_tensor *x, fj_tensor *idx);

/* Zero with probability p, else x / (1 - p).  The mask is a function of seed and element, so that
 * recomputation and any number of threads see the same. */
fj_tensor *fj_dropout(fj_graph *g, fj_tensor *x, double p, uint64_t seed);

/* LM head and cross entropy together, in chunks of rows: logits never exist in full.
 *   x [m, d] the supervised rows; w [V, d]; targets I32 [1, m]; weights [1, m]
 *   logits are l = scale * x w^T, or softcap * tanh(l / softcap) when softcap > 0
 * Results: loss [1, 1] = sum of weights * nll; nll [m, 1]; then gradients of loss as by-products, so
 * that backward needs no second pass over the head: gx [m, d], gw [V, d] (0 rows when not wanted). */
fj_tensor *fj_head_ce(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *targets,
                      fj_tensor *weights, double scale, double softcap);

/* cache [slots, d] with x [n, d] written to rows slots [1, n] (I32).  In place. */
fj_tensor *fj_kv_put(fj_graph *g, fj_tensor *cache, fj_tensor *x, fj_tensor *slots);
/* The same into a cache in BF16 as the CPU's attention reads it (ops/attn_bf16.h): `panels` of [slots,
 * fj_kv_block_cols] BF16, slots a multiple of 32, of which each 32 are a block of every kv head. */
fj_tensor *fj_kv_put_blocks(fj_graph *g, fj_tensor *cache, fj_tensor *x, fj_tensor *slots,
                            int kv_heads, bool values);
int64_t fj_kv_block_cols(int64_t kv_heads, int64_t head_dim);
/* acc + x, in place */
fj_tensor *fj_accum(fj_graph *g, fj_tensor *acc, fj_tensor *x);
/* sum of squares, F64 [1, 1], always added in the same order */
fj_tensor *fj_sumsq(fj_graph *g, fj_tensor *x);
/* sums [1, d] + the squares of every column of x [n, d], in place; with the plan of experts (below), x being
 * their slots: sums [E, d], row e + those of expert e.  No gradient. */
fj_tensor *fj_col_sumsq(fj_graph *g, fj_tensor *sums, fj_tensor *x, fj_tensor *plan);
/* AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW): p, m, v in place.
 * hyper [1, 8] F32: lr, beta1, beta2, eps, weight decay, 1 - beta1^t, 1 - beta2^t, gradient scale */
fj_tensor *fj_adamw_step(fj_graph *g, fj_tensor *p, fj_tensor *grad, fj_tensor *m, fj_tensor *v,
                         fj_tensor *hyper);

/* Mixture of experts.  Shapes are static, routing is not: n rows choose k of E experts each, and the
 * S = n * k choices become slots, sorted by expert.
 *
 *     w = fj_route(g, logits, k, true);               plan = fj_moe_plan(g, w->node->out[1], E);
 *     x = fj_moe_gather(g, x, plan);                  y = fj_moe_linear(g, x, W, plan); ...
 *     y = fj_moe_combine(g, y, w, plan);
 *
 * An output row depends on its own row alone, whoever else chose the same expert. */

/* logits [n, E] -> weights [n, k], and as second result the choice, I32 [n, k]: the k experts of the
 * largest logits, falling, equal ones by index; no expert twice.  among_chosen: the weights are the
 * softmax of the k chosen logits (gpt-oss; Mixtral and Qwen3-MoE with norm_topk_prob, where it is
 * written as the softmax of all E divided by the sum of the chosen: the same number); else they are
 * the chosen of the softmax of all E (norm_topk_prob false). */
fj_tensor *fj_route(fj_graph *g, fj_tensor *logits, int k, bool among_chosen);
/* choice I32 [n, k] of fj_route -> three results, I32: order [1, S]: slot s is rank order[s] % k of row
 * order[s] / k, slots by expert, then by row; place [1, S], its inverse; start [1, E + 1]: expert e has
 * slots start[e] .. start[e + 1] - 1.  The plan that the others take is its first result. */
fj_tensor *fj_moe_plan(fj_graph *g, fj_tensor *choice, int experts);
/* x [n, d] -> [S, d]: the row of every slot */
fj_tensor *fj_moe_gather(fj_graph *g, fj_tensor *x, fj_tensor *plan);
/* y [S, N]: row s is c[s] + scale * x[s] W_e^T, e its expert, W_e rows [e * N, (e + 1) * N) of W [E * N,
 * K] in any weight format.  As panels every expert is packed alone, at e * fj_wmat_packed_bytes(N, K).
 * fj_moe_linear: no c, scale 1.  c is consumed where nobody else reads it.  An adapter is two of these,
 * for the slots of rows [row0, row0 + rows): others are c, or nothing that may be read without it. */
fj_tensor *fj_moe_linear(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *plan);
fj_tensor *fj_moe_linear_add(fj_graph *g, fj_tensor *x, fj_tensor *w, fj_tensor *plan, fj_tensor *c,
                             double scale, int64_t row0, int64_t rows);
/* y [S, N] + row e of b [E, N], e the expert of the slot */
fj_tensor *fj_moe_bias(fj_graph *g, fj_tensor *y, fj_tensor *b, fj_tensor *plan);
/* y [S, d], w [n, k] -> [n, d]: the sum over ranks, in order, of w[r, j] * y[slot of (r, j)] */
fj_tensor *fj_moe_combine(fj_graph *g, fj_tensor *y, fj_tensor *w, fj_tensor *plan);

#endif
