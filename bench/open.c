/* open.c - forja-bench-open VOCABULARY.gguf [FILE]: the time until a model of a billion weights is open.
 *
 * Writes FILE (default: forja-open.gguf in TMPDIR or /tmp, removed at the end; 2.6 GB) in the shape of Llama-3.2-1B with
 * the vocabulary of the given GGUF file and weights of noise in BF16, then opens it five times mapped and three
 * times copied, and the tokenizer alone five times. Prints medians; the file is in the page cache. */
#include "base/fs.h"
#include "base/rng.h"
#include "models/source.h"

#include <stdio.h>
#include <unistd.h>

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n) {
    qsort(t, (size_t)n, sizeof *t, by_size);
    return t[n / 2];
}

enum { LAYERS = 16, WIDTH = 2048, FFN = 8192, HEADS = 32, KV = 8, HD = 64 };

static void tensor(fj_gguf_writer *w, const char *name, fj_dtype t, int64_t rows, int64_t cols) {
    fj_gguf_add_tensor(w, name, t, rows > 1 ? 2 : 1, (int64_t[]){ cols, rows });
}

/* add: the table of tensors; else their bytes. */
static void layer(fj_gguf_writer *w, int l, bool add, const uint8_t *noise) {
    const struct {
        const char *name;
        int64_t rows, cols;
    } list[] = {
        { "attn_norm", 1, WIDTH },    { "attn_q", WIDTH, WIDTH },      { "attn_k", KV * HD, WIDTH },
        { "attn_v", KV * HD, WIDTH }, { "attn_output", WIDTH, WIDTH }, { "ffn_norm", 1, WIDTH },
        { "ffn_gate", FFN, WIDTH },   { "ffn_up", FFN, WIDTH },        { "ffn_down", WIDTH, FFN },
    };
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", l, list[i].name);
        fj_dtype t = list[i].rows > 1 ? FJ_BF16 : FJ_F32;
        if (add) tensor(w, name, t, list[i].rows, list[i].cols);
        else fj_gguf_write_data(w, noise, (size_t)fj_dtype_size(t, list[i].rows, list[i].cols));
    }
}

static bool write_model(const char *path, const fj_gguf *vocab, fj_err *e) {
    size_t n;
    if (!fj_gguf_strings(vocab, "tokenizer.ggml.tokens", &n, e)) return false;
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    fj_gguf_put_string(w, "general.architecture", "qwen2");
    fj_gguf_put_u32(w, "qwen2.block_count", LAYERS);
    fj_gguf_put_u32(w, "qwen2.embedding_length", WIDTH);
    fj_gguf_put_u32(w, "qwen2.feed_forward_length", FFN);
    fj_gguf_put_u32(w, "qwen2.attention.head_count", HEADS);
    fj_gguf_put_u32(w, "qwen2.attention.head_count_kv", KV);
    fj_gguf_put_u32(w, "qwen2.context_length", 8192);
    for (size_t i = 0; i < vocab->n_kv; i++)
        if (!strncmp(vocab->kv[i].key, "tokenizer.", 10)) fj_gguf_put(w, &vocab->kv[i]);
    size_t most = FJ_MAX(n * WIDTH, (size_t)FFN * WIDTH) * 2;
    uint8_t *noise = fj_alloc(most);
    for (size_t i = 0; i < most / 2; i++) /* BF16 of about 0.01, either sign */
        ((uint16_t *)(void *)noise)[i] =
            (uint16_t)(0x3c00 + (fj_rng_at(1, i) >> 48) % 0x100 + (i % 2 ? 0x8000 : 0));
    tensor(w, "token_embd.weight", FJ_BF16, (int64_t)n, WIDTH);
    tensor(w, "output_norm.weight", FJ_F32, 1, WIDTH);
    static const char *const biases[] = { "q", "k", "v" };
    for (int l = 0; l < LAYERS; l++) {
        layer(w, l, true, NULL);
        for (int b = 0; b < 3; b++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.attn_%s.bias", l, biases[b]);
            tensor(w, name, FJ_F32, 1, b ? KV * HD : WIDTH);
        }
    }
    fj_gguf_write_data(w, noise, n * WIDTH * 2);
    fj_gguf_write_data(w, noise, WIDTH * 4);
    for (int l = 0; l < LAYERS; l++) {
        layer(w, l, false, noise);
        for (int b = 0; b < 3; b++) fj_gguf_write_data(w, noise, (b ? KV * HD : WIDTH) * 4);
    }
    free(noise);
    return fj_gguf_writer_close(w, e);
}

static double open_s(fj_dev *d, const char *path, bool mapped, fj_err *e) {
    double t0 = fj_clock();
    fj_model *m = fj_model_open(d, path, &(fj_model_opts){ .mapped = mapped }, NULL, e);
    double t = fj_clock() - t0;
    if (!m) return -1;
    fj_model_close(m);
    return t;
}

static double tokenizer_s(const char *path, fj_err *e) {
    fj_source s;
    if (!fj_source_open(&s, path, e)) return -1;
    double t0 = fj_clock();
    fj_tokenizer *t = fj_source_tokenizer(&s, e);
    double took = t ? fj_clock() - t0 : -1;
    fj_tokenizer_free(t);
    fj_source_close(&s);
    return took;
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    if (argc < 2) {
        fprintf(stderr, "usage: forja-bench-open VOCABULARY.gguf [FILE]\n");
        return 2;
    }
    char path[1024];
    const char *tmp = getenv("TMPDIR");
    if (argc > 2) snprintf(path, sizeof path, "%s", argv[2]);
    else snprintf(path, sizeof path, "%s/forja-open-%d.gguf", tmp ? tmp : "/tmp", (int)getpid());
    fj_gguf *vocab = fj_gguf_open(argv[1], &e);
    bool ok = vocab && write_model(path, vocab, &e);
    fj_gguf_close(vocab);
    fj_dev *d = ok ? fj_dev_open(&(fj_dev_opts){ 0 }, &e) : NULL;
    double t[5];
    const char *names[] = { "mapped", "copied", "tokenizer alone" };
    for (int kind = 0; d && ok && kind < 3; kind++) {
        int n = kind == 1 ? 3 : 5;
        for (int i = 0; i < n && ok; i++) {
            t[i] = kind < 2 ? open_s(d, path, kind == 0, &e) : tokenizer_s(path, &e);
            ok = t[i] >= 0;
        }
        if (ok) printf("%-16s %8.1f ms\n", names[kind], 1e3 * median(t, n));
    }
    if (d) fj_dev_close(d);
    if (argc < 3) unlink(path);
    if (ok && d) return 0;
    fprintf(stderr, "forja-bench-open: %s\n", e.msg);
    return 1;
}
