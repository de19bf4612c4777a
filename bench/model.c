/* model.c - forja-bench-model VOCABULARY.gguf FILE [TYPE]: a model of a billion weights to convert.
 *
 * Writes FILE in the shape of Llama-3.2-1B with the vocabulary of the given GGUF file (128,256 tokens make it
 * 1.24 billion weights).  Weights are N(0, 0.02) in TYPE, BF16 or F16 (default BF16), norms 1 in F32: the same bytes
 * each time.  bench/export.sh measures with it. */
#include "base/dtype.h"
#include "base/mem.h"
#include "base/rng.h"
#include "formats/gguf.h"

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

static bool write_model(const char *path, const fj_gguf *vocab, fj_dtype type, fj_err *e) {
    size_t tokens;
    if (!fj_gguf_strings(vocab, "tokenizer.ggml.tokens", &tokens, e)) return false;
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    about(w, vocab);
    static shape s[2 + LAYERS * 9];
    int n = shapes(s, (int64_t)tokens);
    for (int i = 0; i < n; i++)
        fj_gguf_add_tensor(w, s[i].name, s[i].rows ? type : FJ_F32, s[i].rows ? 2 : 1,
                           (int64_t[]){ s[i].cols, s[i].rows });
    /* Each row begins at its own place among four million draws: a billion would take longer than quantising. */
    float *drawn = fj_alloc((DRAWN + FFN) * sizeof *drawn), one[WIDTH];
    fj_rng r;
    fj_rng_seed(&r, 1);
    for (size_t i = 0; i < DRAWN + FFN; i++) drawn[i] = (float)(0.02 * fj_rng_normal(&r));
    for (int i = 0; i < WIDTH; i++) one[i] = 1;
    uint16_t *half = fj_alloc((DRAWN + FFN) * sizeof *half);
    fj_quant_row(type, drawn, half, DRAWN + FFN);
    for (int i = 0; i < n; i++) {
        if (!s[i].rows) fj_gguf_write_data(w, one, sizeof one);
        for (int64_t y = 0; y < s[i].rows; y++) {
            size_t at = (size_t)(fj_rng_at((uint64_t)i, (uint64_t)y) % DRAWN);
            fj_gguf_write_data(w, half + at, (size_t)s[i].cols * sizeof *half);
        }
    }
    free(drawn);
    free(half);
    return fj_gguf_writer_close(w, e);
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    fj_dtype type = argc > 3 && !strcmp(argv[3], "F16") ? FJ_F16 : FJ_BF16;
    if (argc < 3 || (argc > 3 && type == FJ_BF16 && strcmp(argv[3], "BF16") != 0)) {
        fprintf(stderr, "usage: forja-bench-model VOCABULARY.gguf FILE [BF16|F16]\n");
        return 2;
    }
    fj_gguf *vocab = fj_gguf_open(argv[1], &e);
    bool ok = vocab && write_model(argv[2], vocab, type, &e);
    fj_gguf_close(vocab);
    if (!ok) fprintf(stderr, "forja-bench-model: %s\n", e.msg);
    return ok ? 0 : 1;
}
