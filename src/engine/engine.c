#include "engine/engine.h"

struct fj_engine {
    fj_model *m;
    fj_kv kv;
    int32_t *free; /* free pages, last out first */
    int64_t n_free, n_pages;
    fj_buf *mem; /* of the graph */
    fj_fwd *fwd; /* of the last shape: a decode goes on with it */
    fj_batch batch;
    fj_rows_lora *groups;
    size_t n_groups, cap_groups;
    float *logits;
    size_t cap_logits;
    int32_t *ids, *seen; /* of fj_engine_choose */
    float *how;
    size_t cap_ids, cap_seen, cap_how;
};

fj_engine *fj_engine_open(fj_model *m, int64_t positions, fj_err *e) {
    fj_engine *g = fj_zalloc(sizeof *g);
    g->m = m;
    g->n_pages = (positions + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK;
    g->kv.slots = g->n_pages * FJ_KV_BLOCK;
    g->kv.buf =
        m->dev->fn->alloc(m->dev, fj_kv_bytes(m, g->kv.slots), "the cache of keys and values", e);
    if (!g->kv.buf) {
        free(g);
        return NULL;
    }
    g->free = fj_alloc((size_t)g->n_pages * sizeof *g->free);
    for (int64_t i = g->n_pages; i-- > 0;) g->free[g->n_free++] = (int32_t)i;
    return g;
}

void fj_engine_close(fj_engine *g) {
    if (!g) return;
    fj_fwd_free(g->fwd);
    g->m->dev->fn->free(g->mem);
    g->m->dev->fn->free(g->kv.buf);
    fj_batch_free(&g->batch);
    free(g->groups);
    free(g->logits);
    free(g->ids);
    free(g->seen);
    free(g->how);
    free(g->free);
    free(g);
}

void fj_seq_cut(fj_engine *g, fj_seq *s, int64_t n) {
    s->n = FJ_MIN(s->n, n);
    size_t keep = (size_t)((s->n + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK);
    while (s->n_pages > keep) g->free[g->n_free++] = s->pages[--s->n_pages];
}

void fj_seq_free(fj_engine *g, fj_seq *s) {
    fj_seq_cut(g, s, 0);
    free(s->pages);
    *s = (fj_seq){ 0 };
}

static int64_t pages_for(int64_t n) { return (n + FJ_KV_BLOCK - 1) / FJ_KV_BLOCK; }

static void add_item(fj_engine *g, const fj_step_item *it, int64_t want) {
    fj_batch *b = &g->batch;
    fj_seq *s = it->seq;
    int64_t row0 = b->n;
    while ((int64_t)s->n_pages < pages_for(s->n + it->n)) {
        FJ_GROW(s->pages, s->n_pages + 1, s->cap_pages);
        s->pages[s->n_pages++] = g->free[--g->n_free];
    }
    fj_batch_add_seq(b, row0, it->n, s->n, it->total);
    for (size_t i = 0; i < s->n_pages; i++) fj_batch_add_block(b, s->pages[i] * FJ_KV_BLOCK);
    for (int64_t i = 0; i < it->n; i++) {
        int64_t pos = s->n + i;
        fj_batch_add_row(b, it->ids[i], (int32_t)pos,
                         s->pages[pos / FJ_KV_BLOCK] * FJ_KV_BLOCK + (int32_t)(pos % FJ_KV_BLOCK));
    }
    for (int64_t i = it->n - want; i < it->n; i++) fj_batch_add_out(b, (int32_t)(row0 + i), 0, 0);
    if (!it->lora) return;
    if (g->n_groups && g->groups[g->n_groups - 1].lora == it->lora &&
        g->groups[g->n_groups - 1].row0 + g->groups[g->n_groups - 1].rows == row0) {
        g->groups[g->n_groups - 1].rows += it->n;
        return;
    }
    FJ_GROW(g->groups, g->n_groups + 1, g->cap_groups);
    g->groups[g->n_groups++] = (fj_rows_lora){ it->lora, row0, it->n };
}

static bool same_shape(const fj_engine *g, fj_want_out out, int64_t words) {
    if (!g->fwd) return false;
    const fj_fwd_opts *o = &g->fwd->o;
    const fj_batch *b = &g->batch;
    if (o->n != b->n || o->n_seqs != b->n_seqs || o->n_blocks != b->n_blocks ||
        o->n_out != b->n_out || o->out != out || o->seen_words != words ||
        (size_t)o->n_loras != g->n_groups)
        return false;
    for (size_t i = 0; i < g->n_groups; i++)
        if (o->loras[i].lora != g->groups[i].lora || o->loras[i].row0 != g->groups[i].row0 ||
            o->loras[i].rows != g->groups[i].rows)
            return false;
    return true;
}

/* The graph for the batch at hand: that of the step before, or a new one. */
static bool prepare(fj_engine *g, fj_want_out out, int64_t words, fj_err *e) {
    if (same_shape(g, out, words)) return true;
    const fj_batch *b = &g->batch;
    fj_fwd_free(g->fwd);
    g->fwd = fj_fwd_new(g->m,
                        &(fj_fwd_opts){ .n = b->n,
                                        .n_seqs = b->n_seqs,
                                        .n_blocks = b->n_blocks,
                                        .n_out = b->n_out,
                                        .out = out,
                                        .seen_words = words,
                                        .cache = &g->kv,
                                        .loras = g->groups,
                                        .n_loras = (int)g->n_groups },
                        e);
    if (g->fwd && fj_dev_prepare(g->m->dev, g->fwd->g, &g->mem, "a step's activations", e))
        return true;
    fj_fwd_free(g->fwd);
    g->fwd = NULL;
    return false;
}

static bool run(fj_engine *g, fj_err *e) {
    return fj_fwd_fill(g->fwd, &g->batch, e) && g->m->dev->fn->run(g->m->dev, g->fwd->g, e);
}

/* Lays the items out as a batch; wants: 1 for the last row of items with `how`, else as they say. */
static bool lay_out(fj_engine *g, const fj_step_item *items, int n, bool choose, fj_err *e) {
    int64_t need = 0;
    for (int i = 0; i < n; i++) {
        const fj_step_item *it = &items[i];
        if (it->n < 1 || it->want < 0 || it->want > it->n)
            return fj_fail(e, FJ_EINVAL, "item %d of a step: %lld tokens, %lld logits wanted", i,
                           (long long)it->n, (long long)it->want);
        need += pages_for(it->seq->n + it->n) - (int64_t)it->seq->n_pages;
    }
    if (need > g->n_free)
        return fj_fail(e, FJ_ENOMEM,
                       "the cache is full: %lld pages of %d positions wanted, %lld free of %lld",
                       (long long)need, FJ_KV_BLOCK, (long long)g->n_free, (long long)g->n_pages);
    fj_batch_clear(&g->batch);
    g->n_groups = 0;
    for (int i = 0; i < n; i++) {
        int64_t want = items[i].want;
        if (choose) want = items[i].how != NULL;
        add_item(g, &items[i], want);
    }
    /* A sequence grows a page at a time: room for more keeps the shape, and with it the graph. */
    while (g->batch.n_blocks % 16) fj_batch_add_block(&g->batch, 0);
    return true;
}

/* The items have happened, or not. */
static void settle(fj_engine *g, const fj_step_item *items, int n, bool ok) {
    for (int i = 0; i < n; i++) {
        fj_seq *s = items[i].seq;
        if (ok) s->n += items[i].n;
        else fj_seq_cut(g, s, s->n);
    }
}

bool fj_engine_step(fj_engine *g, const fj_step_item *items, int n, const float **logits,
                    fj_err *e) {
    if (!lay_out(g, items, n, false, e)) return false;
    size_t count = (size_t)(g->batch.n_out * g->m->hp.vocab);
    bool ok = true;
    if (count > g->cap_logits) {
        free(g->logits);
        g->logits = fj_try_alloc(count, sizeof(float), "logits", e);
        g->cap_logits = g->logits ? count : 0;
        ok = g->logits != NULL;
    }
    ok = ok && prepare(g, FJ_OUT_LOGITS, 0, e) && run(g, e) &&
         (!count || fj_tensor_get(g->fwd->logits, g->logits, e));
    *logits = g->logits;
    settle(g, items, n, ok);
    return ok;
}

bool fj_engine_choose(fj_engine *g, const fj_step_item *items, int n, const int32_t **ids,
                      fj_err *e) {
    if (!lay_out(g, items, n, true, e)) return false;
    size_t wanted = (size_t)g->batch.n_out, words = 0, k = 0;
    for (int i = 0; i < n; i++)
        if (items[i].how && items[i].seen) words = (size_t)(g->m->hp.vocab + 31) / 32;
    FJ_GROW(g->ids, wanted, g->cap_ids);
    FJ_GROW(g->how, wanted * FJ_PICK_COLS, g->cap_how);
    FJ_GROW(g->seen, wanted * words, g->cap_seen);
    for (int i = 0; i < n; i++) {
        const fj_step_item *it = &items[i];
        if (!it->how) continue;
        memcpy(g->how + k * FJ_PICK_COLS, it->how, FJ_PICK_COLS * sizeof *g->how);
        if (words && it->seen) memcpy(g->seen + k * words, it->seen, words * sizeof *g->seen);
        else if (words) memset(g->seen + k * words, 0, words * sizeof *g->seen);
        k++;
    }
    bool ok = prepare(g, wanted ? FJ_OUT_TOKENS : FJ_OUT_LOGITS, (int64_t)words, e);
    if (ok && wanted)
        ok = fj_tensor_set(g->fwd->how, g->how, e) &&
             (!words || fj_tensor_set(g->fwd->seen, g->seen, e));
    ok = ok && run(g, e) && (!wanted || fj_tensor_get(g->fwd->tokens, g->ids, e));
    *ids = g->ids;
    settle(g, items, n, ok);
    return ok;
}
