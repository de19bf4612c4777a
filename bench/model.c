/* model.c - forja-bench-model VOCABULARY.gguf FILE [TYPE]: a model of a billion weights to convert or to open.
 *
 * Writes FILE in the shape of Llama-3.2-1B with the vocabulary of the given GGUF file (128,256 tokens make it
 * 1.24 billion weights).  Weights are N(0, 0.02) in the formats that TYPE, a name of llama-quantize (default BF16),
 * gives to each of them, norms 1 in F32: the same bytes each time.  bench/export.sh and bench/open.sh measure with
 * it. */
#include "base/rng.h"
#include "formats/gguf.h"
#include "kernels/quant.h"
#include "lifecycle/mix.h"

#include <stdio.h>

enum { LAYERS = 16, WIDTH = 2048, FFN = 8192, HEADS = 32, KV = 8, HD = 64, DRAWN = 1 << 22 };

typedef struct shape {
    char name[48];
    int64_t rows, cols; /* rows 0: a vector of ones */
} shape;

static int shapes(shape *s, int64_t vocab) {
    static const struct {
        const char *name;
        int64_t rows, cols;
    } of_layer[] = {
        { "attn_norm", 0, WIDTH },    { "attn_q", WIDTH, WIDTH },      { "attn_k", KV * HD, WIDTH },
        { "attn_v", KV * HD, WIDTH }, { "attn_output", WIDTH, WIDTH }, { "ffn_norm", 0, WIDTH },
        { "ffn_gate", FFN, WIDTH },   { "ffn_up", FFN, WIDTH },        { "ffn_down", WIDTH, FFN },
    };
    int n = 0;
    s[n++] = (shape){ "token_embd.weight", vocab, WIDTH };
    s[n++] = (shape){ "output_norm.weight", 0, WIDTH };
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < FJ_LEN(of_layer); i++, n++) {
            s[n] = (shape){ "", of_layer[i].rows, of_layer[i].cols };
            snprintf(s[n].name, sizeof s[n].name, "blk.%d.%s.weight", l, of_layer[i].name);
        }
    return n;
}

static void about(fj_gguf_writer *w, const fj_gguf *vocab) {
    fj_gguf_put_string(w, "general.architecture", "llama");
    fj_gguf_put_u32(w, "llama.block_count", LAYERS);
    fj_gguf_put_u32(w, "llama.embedding_length", WIDTH);
    fj_gguf_put_u32(w, "llama.feed_forward_length", FFN);
    fj_gguf_put_u32(w, "llama.attention.head_count", HEADS);
    fj_gguf_put_u32(w, "llama.attention.head_count_kv", KV);
    fj_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    fj_gguf_put_f32(w, "llama.rope.freq_base", 500000.0f);
    fj_gguf_put_u32(w, "llama.rope.dimension_count", HD);
    fj_gguf_put_u32(w, "llama.context_length", 8192);
    for (size_t i = 0; i < vocab->n_kv; i++)
        if (!strncmp(vocab->kv[i].key, "tokenizer.", 10)) fj_gguf_put(w, &vocab->kv[i]);
}

/* Rows begin among four million draws, each at its own place: a billion would take longer than quantising. */
typedef struct drawn {
    const fj_kern *kern;
    float *values;
    uint8_t *of[FJ_DTYPES]; /* the same in a format, made when first needed */
} drawn;

static const uint8_t *drawn_as(drawn *d, fj_dtype t) {
    int64_t n = DRAWN + FFN;
    if (!d->of[t]) {
        d->of[t] = fj_alloc((size_t)fj_dtype_size(t, 1, n));
        fj_quant_rows(d->kern, t, d->values, NULL, d->of[t], n / 256, 256);
    }
    return d->of[t];
}

static void write_rows(fj_gguf_writer *w, drawn *d, fj_dtype t, const shape *s, uint64_t id) {
    int64_t block = fj_dtype_get(t)->block;
    const uint8_t *from = drawn_as(d, t);
    for (int64_t y = 0; y < s->rows; y++) {
        int64_t at = (int64_t)(fj_rng_at(id, (uint64_t)y) % (uint64_t)(DRAWN / block)) * block;
        fj_gguf_write_data(w, from + fj_dtype_size(t, 1, at), (size_t)fj_dtype_size(t, 1, s->cols));
    }
}

static bool write_model(const char *path, const fj_gguf *vocab, const fj_mix *mix, fj_err *e) {
    size_t tokens;
    fj_kern kern;
    if (!fj_kern_init(&kern, NULL, e) ||
        !fj_gguf_strings(vocab, "tokenizer.ggml.tokens", &tokens, e))
        return false;
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    about(w, vocab);
    static shape s[2 + LAYERS * 9];
    static fj_dtype type[FJ_LEN(s)];
    int n = shapes(s, (int64_t)tokens);
    const fj_mix_model model = {
        .arch = "llama", .layers = LAYERS, .heads = HEADS, .kv_heads = KV, .tied = true
    };
    for (int i = 0; i < n; i++) {
        int layer = -1;
        (void)sscanf(s[i].name, "blk.%d.", &layer);
        const fj_mix_tensor t = {
            .name = s[i].name, .rows = s[i].rows, .cols = s[i].cols, .mats = 1, .layer = layer
        };
        type[i] = FJ_F32;
        if (s[i].rows) FJ_ASSERT(fj_dtype_from_gguf(fj_mix_type(mix, &model, &t), &type[i]));
        fj_gguf_add_tensor(w, s[i].name, type[i], s[i].rows ? 2 : 1,
                           (int64_t[]){ s[i].cols, s[i].rows });
    }
    drawn d = { .kern = &kern, .values = fj_alloc((DRAWN + FFN) * sizeof *d.values) };
    float one[WIDTH];
    fj_rng r;
    fj_rng_seed(&r, 1);
    for (size_t i = 0; i < DRAWN + FFN; i++) d.values[i] = (float)(0.02 * fj_rng_normal(&r));
    for (int i = 0; i < WIDTH; i++) one[i] = 1;
    for (int i = 0; i < n; i++) {
        if (s[i].rows) write_rows(w, &d, type[i], &s[i], (uint64_t)i);
        else fj_gguf_write_data(w, one, sizeof one);
    }
    for (int t = 0; t < FJ_DTYPES; t++) free(d.of[t]);
    free(d.values);
    return fj_gguf_writer_close(w, e);
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    if (argc < 3) {
        fprintf(stderr, "usage: forja-bench-model VOCABULARY.gguf FILE [TYPE]\n");
        return 2;
    }
    const fj_mix *mix = fj_mix_find(argc > 3 ? argv[3] : "BF16", &e);
    fj_gguf *vocab = mix ? fj_gguf_open(argv[1], &e) : NULL;
    bool ok = vocab && write_model(argv[2], vocab, mix, &e);
    fj_gguf_close(vocab);
    if (!ok) fprintf(stderr, "forja-bench-model: %s\n", e.msg);
    return ok ? 0 : 1;
}
