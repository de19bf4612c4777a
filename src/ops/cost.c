#include "ops/cost.h"

#include "ops/ops.h"

/* Every op reads its inputs and writes its results once; those that do less or more, and products, are here. */
static double size_of(const fj_tensor *t) { return t ? (double)fj_tensor_bytes(t) : 0; }

static void sum(const fj_node *n, fj_cost *c) {
    for (int i = 0; i < n->n_in; i++) c->bytes += size_of(n->in[i]);
    for (int i = 0; i < n->n_out; i++) c->bytes += size_of(n->out[i]);
}

static double product(double rows, const fj_tensor *w) {
    return 2 * rows * (double)w->rows * (double)w->cols;
}

/* Rows times the weights among inputs 1 to `last`. */
static void weights(const fj_node *n, fj_cost *c, int step, int last) {
    c->w = n->in[1];
    for (int i = 1; i <= last && i < n->n_in; i += step)
        c->flops += product((double)n->in[0]->rows, n->in[i]);
}
static void one(const fj_node *n, fj_cost *c) { weights(n, c, 1, 1); }
static void many(const fj_node *n,
                 fj_cost *c) { /* rows, what makes them, what is added to, weights */
    c->w = n->in[3];
    for (int i = 3; i < n->n_in; i++) c->flops += product((double)n->in[0]->rows, n->in[i]);
}
static void adapted(const fj_node *n, fj_cost *c) { weights(n, c, 1, 3); }

static void of_weight(const fj_node *n, fj_cost *c) {
    c->w = n->out[0];
    c->flops = product((double)n->in[0]->rows, n->out[0]);
}

static void head(const fj_node *n, fj_cost *c) {
    c->w = n->in[1];
    int products = 1 + (n->out[2]->rows > 0) + (n->out[3]->rows > 0);
    c->flops = products * product((double)n->in[0]->rows, n->in[1]);
}

/* A slot meets the matrix of one expert. */
static void experts(const fj_node *n, fj_cost *c) {
    c->w = n->in[1];
    double all = (double)n->in[2]->cols - 1;
    c->flops = all > 0 ? product((double)n->in[0]->rows, n->in[1]) / all : 0;
}
static void experts_dw(const fj_node *n, fj_cost *c) {
    c->w = n->out[0];
    double all = (double)n->in[2]->cols - 1;
    c->flops = all > 0 ? product((double)n->in[0]->rows, n->out[0]) / all : 0;
}

/* The keys that each row sees, and those that are there. */
static void attention(const fj_node *n, fj_cost *c, int products, int passes) {
    const fj_attn_params *p = n->params;
    const int32_t *s = n->in[3]->data;
    const fj_tensor *q = n->in[0], *k = n->in[1];
    double pairs = 0, there = 0;
    for (int64_t i = 0; i < n->in[3]->rows; i++, s += 4) {
        double rows = s[1], first = s[2], window = p->window, last = first + rows;
        there += last;
        double seen = rows * first + rows * (rows + 1) / 2;
        if (window > 0 && last > window) {
            double before = FJ_MIN(FJ_MAX(window - first, 0), rows); /* rows that see all */
            seen = before * first + before * (before + 1) / 2 + (rows - before) * window;
            if (rows < 2) there += window - last;
        }
        pairs += seen;
    }
    c->flops = 2 * products * pairs * p->heads * p->head_dim;
    c->bytes = passes * (2 * size_of(q) + 2 * there * size_of(k) / (double)k->rows);
}
static void attn(const fj_node *n, fj_cost *c) { attention(n, c, 2, 1); }
static void attn_bwd(const fj_node *n, fj_cost *c) { attention(n, c, 5, 2); }

static void of_table(const fj_node *n, fj_cost *c) {
    c->w = n->in[0];
    c->bytes = size_of(n->out[0]);
    if (n->in[0]->rows)
        c->bytes += (double)n->out[0]->rows * size_of(n->in[0]) / (double)n->in[0]->rows;
}

static void moved(const fj_node *n, fj_cost *c) { c->bytes = 2 * size_of(n->in[1]); }
/* Parameter, gradient and both moments read, all but the gradient written. */
static void optimizer(const fj_node *n, fj_cost *c) { c->bytes = 7 * size_of(n->in[1]); }

static const struct {
    const fj_op *op;
    void (*cost)(const fj_node *n, fj_cost *c);
} table[] = {
    { &fj_op_linear, one },
    { &fj_op_linear_dx, one },
    { &fj_op_linear_dw, of_weight },
    { &fj_op_linear_many, many },
    { &fj_op_linear_lora, adapted },
    { &fj_op_linear_lora_dx, adapted },
    { &fj_op_head_ce, head },
    { &fj_op_moe_linear, experts },
    { &fj_op_moe_linear_dx, experts },
    { &fj_op_moe_linear_dw, experts_dw },
    { &fj_op_attn, attn },
    { &fj_op_attn_bwd, attn_bwd },
    { &fj_op_embed, of_table },
    { &fj_op_kv_put, moved },
    { &fj_op_adamw, optimizer },
};

void fj_cost_of(const fj_node *n, fj_cost *c) {
    *c = (fj_cost){ 0 };
    sum(n, c);
    for (size_t i = 0; i < FJ_LEN(table); i++)
        if (table[i].op == n->op) table[i].cost(n, c);
}
