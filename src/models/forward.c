/* forward.c - the one forward pass: training, evaluation and serving build the same graph here.
 *
 * What differs is said in fj_fwd_opts: where keys and values live, which rows leave, whether gradients
 * are added up.  A graph serves every batch of its shape. */
#include "models/model.h"
#include "ops/gemm.h"

#include "base/rng.h"

/* Keys or values of a layer: BF16 in the layout of attention on a CPU, unless everything is f32. */
static bool cache_in_blocks(const fj_model *m) {
    return m->dev->act == FJ_F32 && !m->dev->plan.f32;
}

static size_t cache_bytes(const fj_model *m, int64_t slots, fj_dtype *t, int64_t *cols) {
    bool blocks = cache_in_blocks(m);
    *t = blocks ? FJ_BF16 : m->dev->act;
    *cols =
        blocks ? fj_kv_block_cols(m->hp.kv_heads, m->hp.head_dim) : m->hp.kv_heads * m->hp.head_dim;
    return (size_t)fj_dtype_size(*t, slots, *cols);
}

size_t fj_kv_bytes(const fj_model *m, int64_t slots) {
    fj_dtype t;
    int64_t cols;
    return (size_t)(m->hp.layers * 2) * cache_bytes(m, slots, &t, &cols);
}

/* Biases of experts are a row for each. */
static int64_t tensor_rows(const fj_weight *w) {
    return w->row->cols == FJ_ONE ? w->mats : w->rows;
}

fj_tensor *fj_w(fj_fwd *f, int id, int layer) {
    const fj_weight *w = fj_model_weight(f->m, id, layer);
    if (!w) return NULL;
    fj_tensor **t = &f->wt[w - f->m->w];
    if (!*t) {
        fj_arena *a = &f->g->arena;
        int64_t rows = tensor_rows(w);
        *t = fj_extern(f->g, fj_weight_name(w, a), w->dtype, rows, w->rows * w->cols / rows,
                       (fj_buf *)(uintptr_t)w->buf, w->off);
        if (!*t) return NULL;
        (*t)->panels = w->panels;
        (*t)->mixed = f->m->trainable;
        (*t)->trainable = (*t)->grad = f->o.train_full;
    }
    return *t;
}

/* ready: of the copies as the device computes with them, where there are any. */
static fj_tensor *lora_half(fj_fwd *f, const fj_lora *l, const fj_lora_pair *p, bool b,
                            bool ready) {
    int64_t k = 2 * (p - l->pairs) + b;
    bool trained = f->o.train_lora && l == f->o.loras[0].lora;
    if (trained && f->ab[k]) return f->ab[k];
    ready = ready && !trained && l->ready;
    size_t off = b ? p->b : p->a;
    fj_tensor *t = fj_extern(f->g, b ? "lora_B" : "lora_A", ready ? FJ_BF16 : FJ_F32,
                             b ? p->out : p->mats * p->r, b ? p->r : p->in,
                             ready ? l->ready : l->buf, ready ? off / 2 : off);
    if (t) t->mixed = true;
    if (t && trained) {
        t->trainable = t->grad = true;
        f->ab[k] = t;
    }
    return t;
}

/* The pair of weight w in the adapter of all rows, where one node is for both. */
static const fj_lora_pair *one_node(const fj_fwd *f, const fj_weight *w, const fj_tensor *x,
                                    bool more) {
    if (more || !w || f->o.n_loras != 1) return NULL;
    const fj_rows_lora *r = &f->o.loras[0];
    bool drops = f->o.train_lora && r->lora->dropout > 0;
    if (drops || !x || r->row0 != 0 || r->rows != x->rows) return NULL;
    return fj_lora_find(r->lora, (int)(w - f->m->w));
}

/* The trained adapter, by nodes that have a gradient. */
static fj_tensor *trained(fj_fwd *f, fj_tensor *x, const fj_weight *w, fj_tensor *y) {
    const fj_rows_lora *r = &f->o.loras[0];
    const fj_lora_pair *p = w ? fj_lora_find(r->lora, (int)(w - f->m->w)) : NULL;
    if (!p || !r->rows) return y;
    fj_tensor *part = fj_dropout(f->g, fj_rows(f->g, x, r->row0, r->rows), r->lora->dropout,
                                 fj_rng_at(f->o.dropout_seed, (uint64_t)p->w));
    part = fj_linear(f->g, part, lora_half(f, r->lora, p, false, false));
    return fj_linear_add(f->g, part, lora_half(f, r->lora, p, true, false), y, p->scale, r->row0);
}

/* Adapters of weight w; *cols: of t so far, then with theirs. */
static int parts_of(fj_fwd *f, const fj_weight *w, fj_lora_rows *part, int64_t *cols) {
    int n = 0;
    int64_t most = 0;
    for (int i = 0; i < f->o.n_loras && w; i++) {
        const fj_rows_lora *r = &f->o.loras[i];
        const fj_lora_pair *p = fj_lora_find(r->lora, (int)(w - f->m->w));
        if (!p || !r->rows) continue;
        part[n] = (fj_lora_rows){ .a = lora_half(f, r->lora, p, false, true),
                                  .b = lora_half(f, r->lora, p, true, true),
                                  .row0 = r->row0,
                                  .rows = r->rows,
                                  .col = *cols,
                                  .scale = p->scale };
        if (!part[n].a || !part[n].b) return 0; /* the graph has an error */
        most = FJ_MAX(most, (p->r + 7) / 8 * 8);
        n++;
    }
    *cols += most;
    return n;
}

/* The matrix that gives the logits. */
static const fj_weight *head_of(const fj_model *m) {
    return fj_model_weight(m, m->hp.tied ? FJ_W_EMBED : FJ_W_HEAD, -1);
}

size_t fj_input_sums(const fj_model *m, size_t *off) {
    size_t bytes = 0;
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        off[i] = SIZE_MAX;
        if (!(w->row->is & FJ_IS_LINEAR) && w != head_of(m)) continue;
        off[i] = bytes;
        bytes += fj_param_bytes(w->mats, w->cols);
    }
    return bytes;
}

/* Adds the squares of x, which w multiplies, to the sums; of the same rows once. */
static void note_input(fj_fwd *f, fj_tensor *x, const fj_weight *w, fj_tensor *plan) {
    if (!f->o.inputs || !x || !w) return;
    int i = (int)(w - f->m->w);
    if (x != f->noted) {
        size_t *off = fj_alloc((size_t)f->m->n_w * sizeof *off);
        fj_input_sums(f->m, off);
        FJ_ASSERT(off[i] != SIZE_MAX);
        fj_tensor *sums =
            fj_extern(f->g, "sums of squares", FJ_F32, w->mats, w->cols, f->o.inputs, off[i]);
        free(off);
        fj_col_sumsq(f->g, sums, x, plan);
        f->noted = x;
        f->noted_at = i;
    }
    f->sum_at[i] = f->noted_at;
    if (plan) f->starts[i] = fj_keep(plan->node->out[2]);
}

/* True where a product may have what is around it in its node. */
static bool inside(const fj_fwd *f) {
    return !f->m->dev->plan.cuda && !f->o.train_lora && !f->o.train_full && !f->o.inputs;
}

/* How a product makes its rows itself: what x is made of, or x.  On the CPU, in graphs without gradients. */
static fj_many made_of(const fj_fwd *f, fj_tensor **x, fj_tensor **with) {
    fj_many how = { FJ_PRE_NONE, 0 };
    fj_node *n = *x ? (*x)->node : NULL;
    if (!n || !inside(f)) return how;
    if (n->op == &fj_op_rmsnorm && n->in[1]->cols == (*x)->cols)
        how = (fj_many){ FJ_PRE_RMSNORM, *(const double *)n->params };
    else if (n->op == &fj_op_swiglu) how.pre = FJ_PRE_SWIGLU;
    else if (n->op == &fj_op_geglu) how.pre = FJ_PRE_GEGLU;
    else return how;
    *x = n->in[0];
    *with = n->in[1];
    return how;
}

void fj_proj_many(fj_fwd *f, fj_tensor *x, int layer, int n, const fj_proj_of *of, fj_tensor *c,
                  fj_tensor **y) {
    enum { MOST = 4 };
    const fj_weight *w[MOST];
    const fj_lora_pair *one[MOST];
    int have[MOST] = { 0 }, all = 0;
    int64_t cols = 0;
    FJ_ASSERT(n <= MOST);
    fj_lora_rows *part =
        fj_arena_alloc(&f->g->arena, (size_t)(n * f->o.n_loras + 1) * sizeof *part);
    for (int i = 0; i < n; i++) {
        w[i] = fj_model_weight(f->m, of[i].id, layer);
        note_input(f, x, w[i], NULL);
        /* A GPU adds c elsewhere. */
        one[i] = one_node(
            f, w[i], x, (c && !f->m->dev->kern) || (of[i].bias >= 0 && fj_w(f, of[i].bias, layer)));
        if (!one[i] && !f->o.train_lora) all += have[i] = parts_of(f, w[i], part + all, &cols);
    }
    fj_tensor *t = all ? fj_lora_down(f->g, x, all, part, cols) : NULL;
    bool together =
        n <= FJ_LINEAR_MANY && !f->o.train_lora && !f->o.train_full && (inside(f) || (n > 1 && !c));
    for (int i = 0; i < n; i++) together = together && !one[i];
    if (together) {
        fj_tensor *weights[MOST], *from = x, *with = NULL;
        fj_many how = { FJ_PRE_NONE, 0 };
        if (!all) how = made_of(f, &from, &with);
        for (int i = 0; i < n; i++) weights[i] = fj_w(f, of[i].id, layer);
        fj_linear_many(f->g, &how, from, with, c, n, weights, y);
    }
    for (int i = 0; i < n; i++) {
        fj_tensor *weight = fj_w(f, of[i].id, layer);
        fj_tensor *bias = of[i].bias >= 0 ? fj_w(f, of[i].bias, layer) : NULL;
        if (one[i]) {
            const fj_lora *l = f->o.loras[0].lora;
            y[i] = fj_linear_lora(f->g, x, weight, lora_half(f, l, one[i], false, true),
                                  lora_half(f, l, one[i], true, true), c, one[i]->scale);
            continue;
        }
        if (!together)
            y[i] = c ? fj_linear_add(f->g, x, weight, c, 1, 0) : fj_linear(f->g, x, weight);
        if (bias) y[i] = fj_add_bias(f->g, y[i], bias);
        if (f->o.train_lora) y[i] = trained(f, x, w[i], y[i]);
        if (have[i]) y[i] = fj_lora_up(f->g, y[i], t, have[i], part);
        part += have[i];
    }
}

fj_tensor *fj_proj_onto(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer, fj_tensor *c) {
    fj_tensor *y;
    fj_proj_many(f, x, layer, 1, &(fj_proj_of){ id, bias_id }, c, &y);
    return y;
}

fj_tensor *fj_proj(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer) {
    return fj_proj_onto(f, x, id, bias_id, layer, NULL);
}

/* The adapters of experts: slots of rows that an adapter is not for pass unchanged. */
fj_tensor *fj_proj_experts(fj_fwd *f, fj_tensor *x, int id, int bias_id, int layer,
                           fj_tensor *plan) {
    fj_tensor *y = fj_moe_linear(f->g, x, fj_w(f, id, layer), plan);
    fj_tensor *bias = bias_id >= 0 ? fj_w(f, bias_id, layer) : NULL;
    if (bias) y = fj_moe_bias(f->g, y, bias, plan);
    const fj_weight *w = fj_model_weight(f->m, id, layer);
    note_input(f, x, w, plan);
    for (int i = 0; i < f->o.n_loras && w; i++) {
        const fj_rows_lora *r = &f->o.loras[i];
        const fj_lora_pair *p = fj_lora_find(r->lora, (int)(w - f->m->w));
        if (!p || !r->rows) continue;
        fj_tensor *part = fj_moe_linear_add(f->g, x, lora_half(f, r->lora, p, false, false), plan,
                                            NULL, 1, r->row0, r->rows);
        y = fj_moe_linear_add(f->g, part, lora_half(f, r->lora, p, true, false), plan, y, p->scale,
                              r->row0, r->rows);
    }
    return y;
}

fj_tensor *fj_attend(fj_fwd *f, int layer, fj_tensor *q, fj_tensor *k, fj_tensor *v,
                     fj_tensor *sinks, const fj_attn_params *p) {
    const fj_hparams *h = &f->m->hp;
    if (f->o.cache) {
        int64_t slots = f->o.cache->slots, d;
        fj_dtype t;
        size_t one = cache_bytes(f->m, slots, &t, &d), off = one * 2 * (size_t)layer;
        fj_tensor *ck = fj_extern(f->g, "key cache", t, slots, d, f->o.cache->buf, off);
        fj_tensor *cv = fj_extern(f->g, "value cache", t, slots, d, f->o.cache->buf, off + one);
        if (ck && cv && cache_in_blocks(f->m)) {
            ck->panels = cv->panels = true;
            k = fj_kv_put_blocks(f->g, ck, k, f->slots, (int)h->kv_heads, false);
            v = fj_kv_put_blocks(f->g, cv, v, f->slots, (int)h->kv_heads, true);
        } else {
            k = fj_kv_put(f->g, ck, k, f->slots);
            v = fj_kv_put(f->g, cv, v, f->slots);
        }
    }
    return fj_attn(f->g, q, k, v, f->seqs, f->blocks, sinks, p);
}

/* Sums of gradients go to o.grads in the order of fj_params_of. */
static void emit_backward(fj_fwd *f) {
    int n;
    fj_lora *l = f->o.train_lora ? (fj_lora *)(uintptr_t)f->o.loras[0].lora : NULL;
    fj_param *p = fj_params_of(f->m, l, &n);
    fj_tensor **params = fj_zalloc((size_t)n * sizeof *params),
              **grads = fj_zalloc((size_t)n * sizeof *grads);
    for (int i = 0; i < n; i++) params[i] = l ? f->ab[i] : f->wt[i];
    int layers = (int)f->m->hp.layers;
    bool *again = fj_zalloc((size_t)layers * sizeof *again);
    for (int i = 0; i < layers; i++) again[i] = i < f->o.recompute;
    size_t off = 0;
    if (fj_backward(f->g, f->loss, n, params, grads, again, layers))
        for (int i = 0; i < n; i++) {
            if (grads[i])
                fj_accum(f->g,
                         fj_extern(f->g, p[i].name, FJ_F32, p[i].rows, p[i].cols, f->o.grads, off),
                         grads[i]);
            off += fj_param_bytes(p[i].rows, p[i].cols);
        }
    free(again);
    free(params);
    free(grads);
    free(p);
}

/* Frequencies that depend on the length are those of each sequence; else one table serves all rows. */
static void rope_inputs(fj_fwd *f, const fj_rope_hp *r, fj_rope_in *in) {
    if (r->kind == FJ_ROPE_NONE) return;
    in->hp = r;
    in->which = fj_input(f->g, "rope table of each row", FJ_I32, 1, f->o.n);
    in->inv_freq = fj_input(f->g, "rope frequencies", FJ_F32,
                            fj_rope_by_length(r) ? f->o.n_seqs : 1, r->dims / 2);
    if (!in->which || !in->inv_freq) return;
    double mscale;
    in->rows = fj_arena_alloc(&f->g->arena, (size_t)f->o.n * sizeof *in->rows);
    in->freqs = fj_arena_alloc(&f->g->arena, (size_t)fj_tensor_bytes(in->inv_freq));
    fj_rope_freqs(&f->m->hp, r, 1, in->freqs, &mscale);
    in->table = fj_rope_table(f->g, f->pos, in->inv_freq, in->which, mscale);
}

/* The rows of x that are wanted.  Of a norm, which is of each row alone: the norm of those. */
static fj_tensor *wanted(fj_fwd *f, fj_tensor *x) {
    if (f->few) return x;
    fj_node *n = x && inside(f) && x->node && x->node->op == &fj_op_rmsnorm ? x->node : NULL;
    if (!n) return fj_gather(f->g, x, f->out_rows);
    return fj_rmsnorm(f->g, fj_gather(f->g, n->in[0], f->out_rows), n->in[1],
                      *(const double *)n->params);
}

fj_tensor *fj_only_wanted(fj_fwd *f, fj_tensor *x) {
    bool token = f->o.out == FJ_OUT_LOGITS || f->o.out == FJ_OUT_TOKENS;
    if (!token || f->o.n_out == f->o.n || f->o.n_loras || f->o.inputs || f->few) return x;
    f->few = true;
    return fj_gather(f->g, x, f->out_rows);
}

fj_fwd *fj_fwd_new(const fj_model *m, const fj_fwd_opts *o, fj_err *e) {
    fj_fwd *f = fj_zalloc(sizeof *f);
    f->m = m;
    f->o = *o;
    fj_graph *g = f->g = fj_graph_new();
    g->act = m->dev->act;
    g->keep_bf16 = (o->train_lora || o->train_full) && !m->dev->plan.cuda && !m->dev->plan.f32;
    fj_rows_lora *loras = fj_arena_alloc(&g->arena, (size_t)o->n_loras * sizeof *loras);
    if (o->n_loras) memcpy(loras, o->loras, (size_t)o->n_loras * sizeof *loras);
    f->o.loras = loras;
    f->wt = fj_arena_alloc(&g->arena, (size_t)m->n_w * sizeof(fj_tensor *));
    if (o->train_lora)
        f->ab =
            fj_arena_alloc(&g->arena, (size_t)(2 * loras[0].lora->n_pairs) * sizeof(fj_tensor *));
    if (o->inputs) {
        FJ_ASSERT(!o->train_lora && !o->train_full);
        f->sum_at = fj_arena_alloc(&g->arena, (size_t)m->n_w * sizeof *f->sum_at);
        for (int i = 0; i < m->n_w; i++) f->sum_at[i] = -1;
        f->starts = fj_arena_alloc(&g->arena, (size_t)m->n_w * sizeof(fj_tensor *));
    }
    f->ids = fj_input(g, "ids", FJ_I32, 1, o->n);
    f->pos = fj_input(g, "positions", FJ_I32, 1, o->n);
    f->seqs = fj_input(g, "sequences", FJ_I32, o->n_seqs, 4);
    f->blocks = fj_input(g, "blocks", FJ_I32, 1, o->n_blocks);
    if (o->cache) f->slots = fj_input(g, "slots", FJ_I32, 1, o->n);
    rope_inputs(f, &m->hp.rope, &f->rope);
    if (m->hp.rope_local.base > 0) rope_inputs(f, &m->hp.rope_local, &f->rope_local);
    if (o->out != FJ_OUT_HIDDEN) f->out_rows = fj_input(g, "rows wanted", FJ_I32, 1, o->n_out);
    f->hidden = m->arch->build(f);
    if (o->out != FJ_OUT_HIDDEN) {
        /* Also where all rows are wanted: then every shape has the same nodes (fj_graph_plan_like). */
        fj_tensor *x = wanted(f, f->hidden);
        fj_tensor *head = fj_w(f, m->hp.tied ? FJ_W_EMBED : FJ_W_HEAD, -1);
        note_input(f, x, head_of(m), NULL);
        double scale = 1 / m->hp.logit_div, cap = m->hp.logit_softcap;
        if (o->out == FJ_OUT_LOGITS || o->out == FJ_OUT_TOKENS) {
            fj_tensor *y, *from = x, *with = NULL;
            fj_many how = made_of(f, &from, &with);
            if (how.pre != FJ_PRE_NONE) fj_linear_many(g, &how, from, with, NULL, 1, &head, &y);
            else y = fj_linear_real(g, x, head);
            if (scale != 1) y = fj_scale(g, y, scale);
            if (cap > 0) y = fj_softcap(g, y, cap);
            if (o->out == FJ_OUT_LOGITS) {
                f->logits = fj_keep(y);
            } else {
                f->how = fj_input(g, "ways to choose", FJ_F32, o->n_out, FJ_PICK_COLS);
                f->seen = fj_input(g, "tokens seen", FJ_I32, o->n_out, o->seen_words);
                f->tokens = fj_keep(fj_choose(g, y, f->how, f->seen));
            }
        } else {
            f->targets = fj_input(g, "targets", FJ_I32, 1, o->n_out);
            f->weights = fj_input(g, "weights", FJ_F32, 1, o->n_out);
            f->loss = fj_keep(fj_head_ce(g, x, head, f->targets, f->weights, scale, cap));
            if (f->loss) f->nll = fj_keep(f->loss->node->out[1]);
            if (o->train_lora || o->train_full) emit_backward(f);
        }
    } else {
        fj_keep(f->hidden);
        note_input(f, f->hidden, head_of(m), NULL);
    }
    if (g->err.code == FJ_OK) return f;
    if (e) *e = g->err;
    fj_fwd_free(f);
    return NULL;
}

void fj_fwd_free(fj_fwd *f) {
    if (!f) return;
    fj_graph_free(f->g);
    free(f);
}

static bool checked(const fj_fwd *f, const fj_batch *b, fj_err *e) {
    const fj_fwd_opts *o = &f->o;
    if (b->n != o->n || b->n_seqs != o->n_seqs || b->n_blocks != o->n_blocks ||
        (o->out != FJ_OUT_HIDDEN && b->n_out != o->n_out))
        return fj_fail(
            e, FJ_EINVAL, "a batch of %lld rows in %lld sequences, the graph is for %lld in %lld",
            (long long)b->n, (long long)b->n_seqs, (long long)o->n, (long long)o->n_seqs);
    for (int64_t i = 0; i < b->n; i++)
        if (b->ids[i] < 0 || b->ids[i] >= f->m->hp.vocab)
            return fj_fail(e, FJ_EINVAL, "token id %d is outside the vocabulary of %lld", b->ids[i],
                           (long long)f->m->hp.vocab);
    /* Learned positions end somewhere. */
    for (int64_t i = 0; fj_model_weight(f->m, FJ_W_POSITIONS, -1) && i < b->n; i++)
        if (b->pos[i] >= f->m->hp.context)
            return fj_fail(e, FJ_EINVAL, "position %d is beyond the %lld that %s has learned",
                           b->pos[i], (long long)f->m->hp.context, f->m->arch->name);
    if (o->out == FJ_OUT_LOSS)
        for (int64_t i = 0; i < b->n_out; i++)
            if (b->targets[i] < 0 || b->targets[i] >= f->m->hp.vocab)
                return fj_fail(e, FJ_EINVAL, "target id %d is outside the vocabulary of %lld",
                               b->targets[i], (long long)f->m->hp.vocab);
    return true;
}

static bool fill_rope(fj_fwd *f, const fj_rope_in *in, const fj_batch *b, fj_err *e) {
    if (!in->table) return true;
    int64_t half = in->inv_freq->cols;
    double mscale;
    for (int64_t t = 0; t < in->inv_freq->rows && fj_rope_by_length(in->hp); t++) {
        const int32_t *s = b->seqs + 4 * t;
        fj_rope_freqs(&f->m->hp, in->hp, b->lens[t], in->freqs + t * half, &mscale);
        for (int32_t r = s[0]; r < s[0] + s[1]; r++) in->rows[r] = (int32_t)t;
    }
    return fj_tensor_set(in->inv_freq, in->freqs, e) && fj_tensor_set(in->which, in->rows, e);
}

bool fj_fwd_fill(fj_fwd *f, const fj_batch *b, fj_err *e) {
    return checked(f, b, e) && fj_tensor_set(f->ids, b->ids, e) &&
           fj_tensor_set(f->pos, b->pos, e) && fj_tensor_set(f->seqs, b->seqs, e) &&
           fj_tensor_set(f->blocks, b->blocks, e) &&
           (!f->slots || fj_tensor_set(f->slots, b->slots, e)) && fill_rope(f, &f->rope, b, e) &&
           fill_rope(f, &f->rope_local, b, e) &&
           (!f->out_rows || fj_tensor_set(f->out_rows, b->out, e)) &&
           (!f->targets ||
            (fj_tensor_set(f->targets, b->targets, e) && fj_tensor_set(f->weights, b->weights, e)));
}

fj_param *fj_params_of(const fj_model *m, const fj_lora *l, int *n) {
    *n = l ? 2 * l->n_pairs : m->n_w;
    fj_param *p = fj_zalloc((size_t)*n * sizeof *p);
    for (int i = 0; i < *n; i++) {
        if (!l) {
            const fj_weight *w = &m->w[i];
            int64_t rows = tensor_rows(w);
            p[i] = (fj_param){ w->row->hf, m->buf, w->off, rows, w->rows * w->cols / rows };
        } else {
            const fj_lora_pair *q = &l->pairs[i / 2];
            p[i] = i % 2 ? (fj_param){ "lora_B", l->buf, q->b, q->out, q->r }
                         : (fj_param){ "lora_A", l->buf, q->a, q->mats * q->r, q->in };
        }
    }
    return p;
}
