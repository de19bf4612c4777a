/* bench_model.c - what is measured where nobody gave a model: shapes by name or from a config.json, formats as
 * the quantiser would choose them, and the file of such a model. */
#include "base/fs.h"
#include "kernels/quant.h"
#include "lifecycle/bench.h"
#include "lifecycle/mix.h"
#include "models/save.h"
#include "models/source.h"

#include <stdio.h>

/* Sizes are those of the config.json of the release. */
const fj_bench_shape fj_bench_shapes[] = {
    { "smollm2-135m",
      &fj_arch_llama,
      { .layers = 30,
        .width = 576,
        .heads = 9,
        .kv_heads = 3,
        .ffn = 1536,
        .vocab = 49152,
        .tied = true,
        .rope.base = 100000 } },
    { "qwen3-0.6b",
      &fj_arch_qwen3,
      { .layers = 28,
        .width = 1024,
        .heads = 16,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn = 3072,
        .vocab = 151936,
        .eps = 1e-6,
        .tied = true,
        .rope.base = 1e6 } },
    { "llama-3.2-1b",
      &fj_arch_llama,
      { .layers = 16,
        .width = 2048,
        .heads = 32,
        .kv_heads = 8,
        .ffn = 8192,
        .vocab = 128256,
        .tied = true,
        .rope = { .kind = FJ_ROPE_LLAMA3,
                  .base = 500000,
                  .factor = 32,
                  .low = 1,
                  .high = 4,
                  .original = 8192 } } },
    { "qwen2.5-1.5b",
      &fj_arch_qwen2,
      { .layers = 28,
        .width = 1536,
        .heads = 12,
        .kv_heads = 2,
        .ffn = 8960,
        .vocab = 151936,
        .eps = 1e-6,
        .tied = true,
        .rope.base = 1e6 } },
    { "llama-3.1-8b",
      &fj_arch_llama,
      { .layers = 32,
        .width = 4096,
        .heads = 32,
        .kv_heads = 8,
        .ffn = 14336,
        .vocab = 128256,
        .rope.base = 500000 } },
    { "embedded",
      &fj_arch_llama,
      { .layers = 6,
        .width = 256,
        .heads = 8,
        .kv_heads = 4,
        .ffn = 704,
        .vocab = 4096,
        .tied = true,
        .rope.base = 10000 } },
    { "tiny",
      &fj_arch_llama,
      { .layers = 2,
        .width = 64,
        .heads = 4,
        .kv_heads = 2,
        .ffn = 160,
        .vocab = 512,
        .tied = true,
        .rope.base = 10000 } },
    { 0 },
};

/* The folder of a config.json, or its path. */
static bool from_config(const char *path, fj_bench_shape *s, fj_arena *mem, fj_err *e) {
    size_t n = strlen(path), tail = strlen("config.json");
    char *dir = fj_strdup(path);
    if (!fj_is_dir(path) && n >= tail && !strcmp(path + n - tail, "config.json"))
        snprintf(dir + n - tail, tail + 1, "%s", n == tail ? "." : "");
    fj_source from = { .path = path, .hf = fj_hf_open(dir, e) };
    free(dir);
    bool ok = from.hf && (s->arch = fj_source_arch(&from, e)) &&
              fj_source_hparams(&from, s->arch, &s->h, mem, e);
    fj_source_close(&from);
    return ok;
}

static bool shape_of(const fj_bench_what *o, fj_bench_shape *s, fj_arena *mem, fj_err *e) {
    if (o->config) {
        s->name = o->config;
        return from_config(o->config, s, mem, e);
    }
    *s = fj_bench_shapes[o->shape];
    if (!s->h.eps) s->h.eps = 1e-5;
    s->h.context = 1 << 20;
    if (o->layers) s->h.layers = o->layers;
    if (o->width) s->h.width = o->width;
    if (o->heads) s->h.heads = s->h.kv_heads = o->heads;
    if (o->kv_heads) s->h.kv_heads = o->kv_heads;
    if (o->ffn) s->h.ffn = o->ffn;
    if (o->vocab) s->h.vocab = o->vocab;
    if (o->width || o->heads) s->h.head_dim = 0; /* width / heads again */
    if (o->layers || o->width || o->heads || o->kv_heads || o->ffn || o->vocab)
        s->name = "random weights";
    return true;
}

/* ---- formats ------------------------------------------------------------------------------------- */
/* The type of a tensor as `forja quantize` gives it, by its name in GGUF. */
static fj_dtype of_mix(const void *ctx, const fj_model *m, const fj_weight *w) {
    fj_arena mem = { 0 };
    fj_part *parts;
    fj_parts_of(m, w, true, &mem, &parts);
    const fj_hparams *h = &m->hp;
    fj_mix_model about = { m->arch->name, (int)h->layers, h->heads, h->kv_heads,
                           h->experts,    h->tied,        false };
    fj_mix_tensor t = { parts[0].name, w->rows / w->mats, w->cols, w->mats, w->layer };
    fj_dtype to = FJ_F32;
    bool known = fj_dtype_from_gguf(fj_mix_type(ctx, &about, &t), &to);
    FJ_ASSERT(known);
    fj_arena_free(&mem);
    return to;
}

static bool formats_of(const fj_bench_what *o, fj_formats *f, fj_err *e) {
    *f = (fj_formats){ .all = FJ_F32 };
    if (o->full) return true;
    bool one = fj_dtype_parse(o->type, &f->all) && f->all != FJ_F64 && fj_quant_can(f->all);
    if (o->pure && !one)
        return fj_fail(
            e, FJ_EINVAL,
            "--pure wants a type that is one format (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, "
            "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, NF4), not \"%.40s\"",
            o->type);
    if (o->pure) return true;
    f->ctx = fj_mix_find(o->type, one ? NULL : e);
    if (f->ctx) f->of = of_mix;
    return f->ctx || one;
}

fj_model *fj_bench_model(fj_dev *d, const fj_bench_what *o, fj_err *e) {
    fj_bench_shape s = { 0 };
    fj_formats f;
    /* Tables of a config.json live as long as the device. */
    if (!shape_of(o, &s, &d->arena, e) || !formats_of(o, &f, e)) return NULL;
    return fj_model_random(d, s.arch, &s.h, s.name, &f, o->full, 1, e);
}

/* ---- as a file ----------------------------------------------------------------------------------- */
static bool kept(void *ctx, fj_saved *t, fj_err *e) {
    (void)ctx;
    t->to = t->from;
    return fj_dtype_get(t->to)->gguf >= 0 ||
           fj_fail(e, FJ_EUNSUP, "GGUF has no format %s", fj_dtype_get(t->to)->name);
}

/* A vocabulary of SentencePiece without a word in it: three control tokens, the 256 bytes, and names. */
static void vocabulary(void *ctx, fj_gguf_writer *w) {
    enum { NORMAL = 1, UNKNOWN, CONTROL, BYTE = 6, BYTES = 256 };
    const fj_model *m = ctx;
    size_t n = (size_t)m->hp.vocab;
    fj_arena mem = { 0 };
    fj_gguf_str *token = fj_arena_alloc(&mem, n * sizeof *token);
    float *score = fj_arena_alloc(&mem, n * sizeof *score);
    int32_t *type = fj_arena_alloc(&mem, n * sizeof *type);
    static const char *const control[] = { "<unk>", "<s>", "</s>" };
    for (size_t i = 0; i < n; i++) {
        size_t byte = i - FJ_LEN(control);
        bool is_byte = i >= FJ_LEN(control) && byte < BYTES;
        const char *name = i < FJ_LEN(control) ? control[i]
                           : is_byte           ? fj_arena_printf(&mem, "<0x%02X>", (unsigned)byte)
                                               : fj_arena_printf(&mem, "[%zu]", i);
        token[i] = (fj_gguf_str){ name, strlen(name) };
        type[i] = i == 0 ? UNKNOWN : i < FJ_LEN(control) ? CONTROL : is_byte ? BYTE : NORMAL;
        score[i] = type[i] == NORMAL ? -(float)i : 0;
    }
    fj_gguf_put_string(w, "tokenizer.ggml.model", "llama");
    fj_gguf_put_strings(w, "tokenizer.ggml.tokens", token, n);
    fj_gguf_put_f32s(w, "tokenizer.ggml.scores", score, n);
    fj_gguf_put_i32s(w, "tokenizer.ggml.token_type", type, n);
    fj_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    fj_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    fj_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    fj_arena_free(&mem);
}

bool fj_bench_save(fj_model *m, const char *path, const fj_bench_what *o, const fj_log *log,
                   fj_err *e) {
    const fj_mix *mix = o->pure ? NULL : fj_mix_find(o->type, NULL);
    fj_save_opts s = { .type = FJ_F32,
                       .file_type = mix ? fj_mix_file_type(mix) : 0,
                       .pick = kept,
                       .more = vocabulary,
                       .ctx = m,
                       .log = log };
    if (m->tok)
        return fj_fail(e, FJ_EINVAL, "%s: a model that is a file needs not be written", m->path);
    return fj_save_gguf(m, path, &s, e);
}
