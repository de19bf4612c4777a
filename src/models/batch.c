#include "models/model.h"

void fj_batch_clear(fj_batch *b) { b->n = b->n_seqs = b->n_blocks = b->n_out = 0; }

void fj_batch_free(fj_batch *b) {
    void *all[] = { b->ids,    b->pos, b->slots,   b->seqs,   b->lens,
                    b->blocks, b->out, b->targets, b->weights };
    for (size_t i = 0; i < FJ_LEN(all); i++) free(all[i]);
    *b = (fj_batch){ 0 };
}

void fj_batch_add_row(fj_batch *b, int32_t id, int32_t pos, int32_t slot) {
    size_t n = (size_t)b->n + 1;
    FJ_GROW(b->ids, n, b->cap_ids);
    FJ_GROW(b->pos, n, b->cap_pos);
    FJ_GROW(b->slots, n, b->cap_slots);
    b->ids[b->n] = id;
    b->pos[b->n] = pos;
    b->slots[b->n++] = slot;
}

void fj_batch_add_seq(fj_batch *b, int64_t row0, int64_t rows, int64_t pos0, int64_t len) {
    FJ_GROW(b->lens, (size_t)b->n_seqs + 1, b->cap_lens);
    b->lens[b->n_seqs] = (int32_t)FJ_MAX(len, pos0 + rows);
    FJ_GROW(b->seqs, (size_t)(b->n_seqs + 1) * 4, b->cap_seqs);
    int32_t *s = b->seqs + 4 * b->n_seqs++;
    s[0] = (int32_t)row0;
    s[1] = (int32_t)rows;
    s[2] = (int32_t)pos0;
    s[3] = (int32_t)b->n_blocks;
}

void fj_batch_add_block(fj_batch *b, int32_t slot) {
    FJ_GROW(b->blocks, (size_t)b->n_blocks + 1, b->cap_blocks);
    b->blocks[b->n_blocks++] = slot;
}

void fj_batch_add_out(fj_batch *b, int32_t row, int32_t target, float weight) {
    size_t n = (size_t)b->n_out + 1;
    FJ_GROW(b->out, n, b->cap_out);
    FJ_GROW(b->targets, n, b->cap_targets);
    FJ_GROW(b->weights, n, b->cap_weights);
    b->out[b->n_out] = row;
    b->targets[b->n_out] = target;
    b->weights[b->n_out++] = weight;
}

static void own_rows(fj_batch *b, const int32_t *ids, int64_t n) {
    int64_t row0 = b->n;
    fj_batch_add_seq(b, row0, n, 0, n);
    for (int64_t i = 0; i < n; i++) {
        if (i % FJ_KV_BLOCK == 0) fj_batch_add_block(b, (int32_t)(row0 + i));
        fj_batch_add_row(b, ids[i], (int32_t)i, (int32_t)(row0 + i));
    }
}

/* The last token predicts nothing that is known, so it is no row. */
void fj_batch_add_sample(fj_batch *b, const int32_t *ids, const uint8_t *mask, int64_t n,
                         float weight) {
    if (n < 2) return;
    int64_t row0 = b->n;
    own_rows(b, ids, n - 1);
    for (int64_t i = 1; i < n; i++)
        if (!mask || mask[i]) fj_batch_add_out(b, (int32_t)(row0 + i - 1), ids[i], weight);
}

void fj_batch_add_prompt(fj_batch *b, const int32_t *ids, int64_t n, int64_t want) {
    int64_t row0 = b->n;
    own_rows(b, ids, n);
    for (int64_t i = n - want; i < n; i++) fj_batch_add_out(b, (int32_t)(row0 + i), 0, 0);
}
