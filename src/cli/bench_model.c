#include "cli/bench_model.h"
#include "base/fs.h"
#include "base/rng.h"
#include "formats/gguf.h"
#include <stdio.h>

const fj_bench_shape fj_bench_shapes[2] = {
    { "smollm2-135m", 30, 576, 9, 3, 1536, 49152 },
    { "tiny", 2, 64, 4, 2, 160, 512 },
};

enum { SPECIAL = 3, BYTES = 256 };

/* A vocabulary that can spell every text: control tokens, bytes, and words that nobody writes. */
static void put_vocabulary(fj_gguf_writer *w, int64_t vocab) {
    fj_arena a = { 0 };
    size_t n = (size_t)vocab;
    fj_gguf_str *piece = fj_arena_alloc(&a, n * sizeof *piece);
    float *score = fj_arena_alloc(&a, n * sizeof *score);
    int32_t *type = fj_arena_alloc(&a, n * sizeof *type);
    static const char *const special[SPECIAL] = { "<unk>", "<s>", "</s>" };
    for (size_t i = 0; i < n; i++) {
        const char *s = i < SPECIAL ? special[i]
                        : i < SPECIAL + BYTES
                            ? fj_arena_printf(&a, "<0x%02X>", (unsigned)(i - SPECIAL))
                            : fj_arena_printf(&a, "w%zu", i);
        piece[i] = (fj_gguf_str){ s, strlen(s) };
        score[i] = -(float)i;
        type[i] = i == 0                ? FJ_TOKEN_UNKNOWN
                  : i < SPECIAL         ? FJ_TOKEN_CONTROL
                  : i < SPECIAL + BYTES ? FJ_TOKEN_BYTE
                                        : FJ_TOKEN_NORMAL;
    }
    fj_gguf_put_string(w, "tokenizer.ggml.model", "llama");
    fj_gguf_put_strings(w, "tokenizer.ggml.tokens", piece, n);
    fj_gguf_put_f32s(w, "tokenizer.ggml.scores", score, n);
    fj_gguf_put_i32s(w, "tokenizer.ggml.token_type", type, n);
    fj_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    fj_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    fj_arena_free(&a);
}

static void put_numbers(fj_gguf_writer *w, const fj_bench_shape *s) {
    fj_gguf_put_string(w, "general.architecture", "llama");
    fj_gguf_put_string(w, "general.name", s->name);
    fj_gguf_put_u32(w, "llama.block_count", (uint32_t)s->layers);
    fj_gguf_put_u32(w, "llama.embedding_length", (uint32_t)s->width);
    fj_gguf_put_u32(w, "llama.feed_forward_length", (uint32_t)s->ffn);
    fj_gguf_put_u32(w, "llama.attention.head_count", (uint32_t)s->heads);
    fj_gguf_put_u32(w, "llama.attention.head_count_kv", (uint32_t)s->kv_heads);
    fj_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    fj_gguf_put_f32(w, "llama.rope.freq_base", 10000);
    fj_gguf_put_u32(w, "llama.context_length", 8192);
    fj_gguf_put_u32(w, "llama.vocab_size", (uint32_t)s->vocab);
}

typedef struct tensor {
    char name[40];
    int64_t rows, cols;
} tensor;

static size_t list_tensors(const fj_bench_shape *s, tensor *t) {
    int64_t kv = s->width / s->heads * s->kv_heads, w = s->width;
    const struct {
        const char *name;
        int64_t rows, cols;
    } layer[] = {
        { "attn_norm", 1, w },     { "attn_q", w, w },      { "attn_k", kv, w },
        { "attn_v", kv, w },       { "attn_output", w, w }, { "ffn_norm", 1, w },
        { "ffn_gate", s->ffn, w }, { "ffn_up", s->ffn, w }, { "ffn_down", w, s->ffn },
    };
    size_t n = 0;
    t[n++] = (tensor){ "token_embd.weight", s->vocab, w };
    t[n++] = (tensor){ "output_norm.weight", 1, w };
    for (int64_t l = 0; l < s->layers; l++)
        for (size_t i = 0; i < FJ_LEN(layer); i++, n++) {
            t[n] = (tensor){ .rows = layer[i].rows, .cols = layer[i].cols };
            snprintf(t[n].name, sizeof t[n].name, "blk.%lld.%s.weight", (long long)l,
                     layer[i].name);
        }
    return n;
}

/* Norms are 1; the rest is uniform with standard deviation 0.02. */
static void write_tensor(fj_gguf_writer *w, const tensor *t, fj_dtype dt, fj_rng *r) {
    size_t bytes = (size_t)fj_dtype_size(dt, 1, t->cols);
    float *row = fj_alloc((size_t)t->cols * sizeof *row);
    void *packed = fj_alloc(bytes);
    for (int64_t i = 0; i < t->rows; i++) {
        for (int64_t k = 0; k < t->cols; k++)
            row[k] = t->rows == 1 ? 1 : (float)(fj_rng_double(r) - 0.5) * 0.0692820f;
        fj_quant_row(dt, row, packed, t->cols);
        fj_gguf_write_data(w, packed, bytes);
    }
    free(row);
    free(packed);
}

static bool write_model(const char *path, const fj_bench_shape *s, fj_dtype dt, fj_err *e) {
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    tensor *t = fj_alloc((size_t)(2 + 9 * s->layers) * sizeof *t);
    size_t n = list_tensors(s, t);
    fj_rng r;
    fj_rng_seed(&r, 1);
    put_numbers(w, s);
    put_vocabulary(w, s->vocab);
    for (size_t i = 0; i < n; i++)
        fj_gguf_add_tensor(w, t[i].name, t[i].rows == 1 ? FJ_F32 : dt, t[i].rows == 1 ? 1 : 2,
                           (int64_t[]){ t[i].cols, t[i].rows });
    for (size_t i = 0; i < n; i++) write_tensor(w, &t[i], t[i].rows == 1 ? FJ_F32 : dt, &r);
    free(t);
    return fj_gguf_writer_close(w, e);
}

fj_model *fj_bench_model(fj_dev *d, const fj_bench_shape *s, fj_dtype t, const fj_log *log,
                         fj_err *e) {
    const char *tmp = getenv("TMPDIR");
    char *dir = fj_path_join(tmp && *tmp ? tmp : "/tmp", "forja-bench-XXXXXX"), *path = NULL;
    fj_model *m = NULL;
    if (!mkdtemp(dir)) {
        fj_fail_errno(e, "cannot make a folder %s", dir);
    } else {
        path = fj_path_join(dir, "random.gguf");
        if (write_model(path, s, t, e)) m = fj_model_open(d, path, NULL, log, e);
        fj_remove_tree(dir, NULL);
    }
    free(dir);
    free(path);
    return m;
}
