/* newmodel.c - a new, untrained model: a vocabulary learned from texts and random weights, as a
 * Hugging Face folder that `forja train` and transformers read.
 *
 *     forja-newmodel --text FILE... --out DIR [--vocab 4096] [--hidden 256] [--layers 6] [--heads 8]
 *                    [--kv-heads 4] [--ffn 704] [--context 512] [--seed 1]
 *
 * FILE is text, or .jsonl with {"text": ...} or {"messages": [{"content": ...}]} a line.  Weights are
 * N(0, 0.02) in f32, norms 1, embeddings tied; the same texts and seed give the same bytes. */
#include "base/fs.h"
#include "base/rng.h"
#include "formats/json.h"
#include "formats/safetensors.h"

#include <errno.h>
#include <forja/tokenizer.h>
#include <stdio.h>

enum { END_OF_TEXT, IM_START, IM_END };
static const char *const special[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };

static const char chatml[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

typedef struct shape {
    int64_t vocab, hidden, layers, heads, kv_heads, ffn, context, seed;
} shape;

typedef struct texts {
    fj_bytes *v;
    size_t n, cap;
    fj_arena mem;
} texts;

static void add(texts *t, const char *s, size_t n) {
    FJ_GROW(t->v, t->n + 1, t->cap);
    t->v[t->n++] = (fj_bytes){ fj_arena_strndup(&t->mem, s, n), n };
}

static void add_string(texts *t, const json_t *j) {
    if (json_is_string(j)) add(t, json_string_value(j), json_string_length(j));
}

static bool add_rows(texts *t, const char *path, const char *s, size_t n, fj_err *e) {
    size_t line = 0, before = t->n;
    for (const char *p = s, *end = s + n, *next; p < end; p = next) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        next = eol ? eol + 1 : end;
        line++;
        size_t len = (size_t)((eol ? eol : end) - p);
        if (strspn(p, " \t\r") >= len) continue;
        json_t *row = fj_json_parse(p, len, path, e), *m;
        if (!row) return fj_wrap(e, "row %zu", line);
        size_t i;
        add_string(t, json_object_get(row, "text"));
        json_array_foreach(json_object_get(row, "messages"), i, m)
            add_string(t, json_object_get(m, "content"));
        json_decref(row);
    }
    if (t->n == before)
        return fj_fail(e, FJ_EFORMAT, "%s: no row has \"text\" or \"messages\" with \"content\"",
                       path);
    return true;
}

static bool add_file(texts *t, const char *path, fj_err *e) {
    size_t n, k = strlen(path);
    char *s = fj_read_file(path, (size_t)1 << 30, &n, e);
    if (!s) return false;
    bool ok = true;
    if (k > 6 && strcmp(path + k - 6, ".jsonl") == 0) ok = add_rows(t, path, s, n, e);
    else add(t, s, n);
    free(s);
    return ok;
}

/* ---- weights ------------------------------------------------------------------------------------- */
typedef struct weight {
    const char *name;
    int64_t rows, cols; /* rows 0: a vector of ones */
} weight;

static size_t weights(const shape *s, fj_arena *mem, weight **out) {
    int64_t head = s->hidden / s->heads, q = s->heads * head, kv = s->kv_heads * head;
    const struct {
        const char *name;
        int64_t rows, cols;
    } of_layer[] = {
        { "input_layernorm", 0, s->hidden },    { "self_attn.q_proj", q, s->hidden },
        { "self_attn.k_proj", kv, s->hidden },  { "self_attn.v_proj", kv, s->hidden },
        { "self_attn.o_proj", s->hidden, q },   { "post_attention_layernorm", 0, s->hidden },
        { "mlp.gate_proj", s->ffn, s->hidden }, { "mlp.up_proj", s->ffn, s->hidden },
        { "mlp.down_proj", s->hidden, s->ffn },
    };
    size_t n = 0;
    weight *w = *out = fj_arena_alloc(mem, ((size_t)s->layers * FJ_LEN(of_layer) + 2) * sizeof *w);
    w[n++] = (weight){ "model.embed_tokens.weight", s->vocab, s->hidden };
    for (int64_t l = 0; l < s->layers; l++)
        for (size_t i = 0; i < FJ_LEN(of_layer); i++) {
            char *name =
                fj_arena_printf(mem, "model.layers.%d.%s.weight", (int)l, of_layer[i].name);
            w[n++] = (weight){ name, of_layer[i].rows, of_layer[i].cols };
        }
    w[n++] = (weight){ "model.norm.weight", 0, s->hidden };
    return n;
}

static bool write_weights(const shape *s, const char *dir, int64_t *count, fj_err *e) {
    fj_arena mem = { 0 };
    weight *w;
    size_t n = weights(s, &mem, &w);
    char *path = fj_path_join(dir, "model.safetensors");
    fj_st_writer *out = fj_st_writer_open(path, e);
    free(path);
    *count = 0;
    if (!out) {
        fj_arena_free(&mem);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t dim[2] = { w[i].rows, w[i].cols };
        fj_st_writer_add(out, w[i].name, "F32", w[i].rows ? 2 : 1, w[i].rows ? dim : dim + 1);
    }
    float *row = fj_alloc((size_t)FJ_MAX(s->hidden, s->ffn) * sizeof *row);
    for (int64_t i; (i = fj_st_writer_next(out)) >= 0;) {
        fj_rng r; /* one stream for each tensor: its values depend on no other */
        fj_rng_seed(&r, fj_rng_at((uint64_t)s->seed, (uint64_t)i));
        for (int64_t y = 0; y < FJ_MAX(w[i].rows, 1); y++) {
            for (int64_t x = 0; x < w[i].cols; x++)
                row[x] = w[i].rows ? (float)(0.02 * fj_rng_normal(&r)) : 1.0f;
            fj_st_writer_data(out, row, (size_t)w[i].cols * sizeof *row);
            *count += w[i].cols;
        }
    }
    free(row);
    fj_arena_free(&mem);
    return fj_st_writer_close(out, e);
}

/* ---- the other files ------------------------------------------------------------------------------ */
static bool save(const char *dir, const char *name, json_t *j, fj_err *e) {
    char *path = fj_path_join(dir, name);
    bool ok = fj_json_save(path, j, e);
    free(path);
    json_decref(j);
    return ok;
}

static bool write_json(const shape *s, const fj_tokenizer *t, const char *dir, fj_err *e) {
    json_t *c = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:b, s:b, s:f, s:f, s:i, s:i, s:i, s:s}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "vocab_size",
        (json_int_t)s->vocab, "hidden_size", (json_int_t)s->hidden, "intermediate_size",
        (json_int_t)s->ffn, "num_hidden_layers", (json_int_t)s->layers, "num_attention_heads",
        (json_int_t)s->heads, "num_key_value_heads", (json_int_t)s->kv_heads, "head_dim",
        (json_int_t)(s->hidden / s->heads), "max_position_embeddings", (json_int_t)s->context,
        "hidden_act", "silu", "rms_norm_eps", 1e-5, "rope_theta", 10000.0, "tie_word_embeddings",
        true, "attention_bias", false, "mlp_bias", false, "attention_dropout", 0.0,
        "initializer_range", 0.02, "bos_token_id", END_OF_TEXT, "eos_token_id", END_OF_TEXT,
        "pad_token_id", END_OF_TEXT, "torch_dtype", "float32");
    json_t *g = json_pack("{s:i, s:[i,i], s:i}", "bos_token_id", END_OF_TEXT, "eos_token_id",
                          END_OF_TEXT, IM_END, "pad_token_id", END_OF_TEXT);
    json_t *k = json_pack("{s:s, s:s, s:s, s:s, s:[s,s], s:b, s:I, s:s}", "tokenizer_class",
                          "PreTrainedTokenizerFast", "bos_token", special[END_OF_TEXT], "eos_token",
                          special[END_OF_TEXT], "pad_token", special[END_OF_TEXT],
                          "additional_special_tokens", special[IM_START], special[IM_END],
                          "clean_up_tokenization_spaces", false, "model_max_length",
                          (json_int_t)s->context, "chat_template", chatml);
    FJ_ASSERT(c && g && k);
    bool ok = save(dir, "config.json", c, e);
    ok &= save(dir, "generation_config.json", g, ok ? e : NULL);
    ok &= save(dir, "tokenizer_config.json", k, ok ? e : NULL);
    if (!ok) return false;
    size_t n;
    char *json = fj_tokenizer_to_json(t, &n, e), *path = fj_path_join(dir, "tokenizer.json");
    ok = json && fj_write_file(path, json, n, e);
    free(json);
    free(path);
    return ok;
}

static bool make(shape *s, const texts *in, const char *dir, fj_err *e) {
    if (s->hidden % s->heads || s->heads % s->kv_heads || s->hidden / s->heads % 2)
        return fj_fail(
            e, FJ_EINVAL,
            "--hidden %d, --heads %d, --kv-heads %d: expected hidden = heads x an even size, and heads a "
            "multiple of kv-heads",
            (int)s->hidden, (int)s->heads, (int)s->kv_heads);
    fj_bpe_opts o = { .vocab = (int32_t)s->vocab,
                      .n_special = FJ_LEN(special),
                      .special = special,
                      .pre = "gpt-2",
                      .bos = special[END_OF_TEXT],
                      .eos = special[END_OF_TEXT] };
    fj_tokenizer *t = fj_bpe_train(in->v, in->n, &o, e);
    if (!t) return false;
    if (fj_vocab_size(t) < s->vocab)
        fprintf(stderr, "forja-newmodel: the texts give %d tokens, not %d\n", (int)fj_vocab_size(t),
                (int)s->vocab);
    s->vocab = fj_vocab_size(t);
    int64_t count;
    bool ok = fj_mkdirs(dir, e) && write_json(s, t, dir, e) && write_weights(s, dir, &count, e);
    if (ok) fprintf(stderr, "%s: %d tokens, %lld weights\n", dir, (int)s->vocab, (long long)count);
    fj_tokenizer_free(t);
    return ok;
}

static bool number(const char *s, int64_t max, int64_t *v) {
    char *end;
    errno = 0;
    long long x = strtoll(s, &end, 10);
    *v = x;
    return !errno && end != s && !*end && x >= 1 && x <= max;
}

int main(int argc, char **argv) {
    static const char usage[] =
        "usage: forja-newmodel --text FILE... --out DIR [--vocab N] [--hidden N] [--layers N] [--heads N]\n"
        "                      [--kv-heads N] [--ffn N] [--context N] [--seed N]\n";
    shape s = { 4096, 256, 6, 8, 4, 704, 512, 1 };
    const struct {
        const char *name;
        int64_t *to, max;
    } opts[] = {
        { "--vocab", &s.vocab, 1 << 20 },     { "--hidden", &s.hidden, 1 << 16 },
        { "--layers", &s.layers, 1024 },      { "--heads", &s.heads, 1024 },
        { "--kv-heads", &s.kv_heads, 1024 },  { "--ffn", &s.ffn, 1 << 18 },
        { "--context", &s.context, 1 << 24 }, { "--seed", &s.seed, INT64_MAX },
    };
    const char *dir = NULL;
    texts in = { 0 };
    fj_err e = { 0 };
    bool ok = true, usage_ok = true;
    for (int i = 1; i < argc && ok && usage_ok; i++) {
        size_t k = 0;
        while (k < FJ_LEN(opts) && strcmp(argv[i], opts[k].name) != 0) k++;
        if (k < FJ_LEN(opts)) {
            usage_ok = i + 1 < argc && number(argv[i + 1], opts[k].max, opts[k].to);
            i++;
        } else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
            dir = argv[++i];
        } else if (strcmp(argv[i], "--text") == 0) {
            usage_ok = i + 1 < argc;
            while (ok && i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0)
                ok = add_file(&in, argv[++i], &e);
        } else usage_ok = false;
    }
    if (ok && (!usage_ok || !dir || !in.n)) {
        fputs(usage, stderr);
        ok = false;
        usage_ok = false;
    } else {
        ok = ok && make(&s, &in, dir, &e);
        if (!ok) fprintf(stderr, "forja-newmodel: %s\n", e.msg);
    }
    free(in.v);
    fj_arena_free(&in.mem);
    return ok ? 0 : usage_ok ? 1 : 2;
}
