#include "cli/open_tok.h"
#include "base/fs.h"
#include "formats/gguf.h"
#include <stdio.h>

#define TOKENIZER_MAX ((size_t)512 << 20)

static fj_bytes *as_bytes(const fj_gguf_str *s, size_t n) {
    fj_bytes *b = fj_alloc((n + 1) * sizeof *b);
    for (size_t i = 0; i < n; i++) b[i] = (fj_bytes){ s[i].s, s[i].n };
    return b;
}

/* Optional id: out of range of int32 (old files write 4294967295) means none. */
static bool id_of(const fj_gguf *g, const char *key, int32_t *id, fj_err *e) {
    int64_t v = -1;
    if (!fj_gguf_i64_opt(g, key, &v, e)) return false;
    *id = v >= 0 && v < INT32_MAX ? (int32_t)v : -1;
    return true;
}

static bool flag_of(const fj_gguf *g, const char *key, int *flag, fj_err *e) {
    if (!fj_gguf_find(g, key)) return true;
    bool v = false;
    if (!fj_gguf_bool(g, key, &v, e)) return false;
    *flag = v;
    return true;
}

static bool same_length(const fj_gguf *g, const char *key, size_t n, size_t tokens, fj_err *e) {
    if (n == tokens) return true;
    return fj_fail(e, FJ_EFORMAT, "%s: %s has %zu values, expected one for each of %zu tokens",
                   g->name, key, n, tokens);
}

static bool read_parts(const fj_gguf *g, fj_tok_parts *p, fj_err *e) {
    size_t n;
    const fj_gguf_str *s;
    if (!fj_gguf_string(g, "tokenizer.ggml.model", &p->model, e) ||
        !fj_gguf_string_opt(g, "tokenizer.ggml.pre", &p->pre, e) ||
        !(s = fj_gguf_strings(g, "tokenizer.ggml.tokens", &p->n, e)))
        return false;
    p->tokens = as_bytes(s, p->n);
    if (fj_gguf_find(g, "tokenizer.ggml.scores")) {
        p->scores = fj_gguf_f32s(g, "tokenizer.ggml.scores", &n, e);
        if (!p->scores || !same_length(g, "tokenizer.ggml.scores", n, p->n, e)) return false;
    }
    if (fj_gguf_find(g, "tokenizer.ggml.token_type")) {
        p->types = fj_gguf_i32s(g, "tokenizer.ggml.token_type", &n, e);
        if (!p->types || !same_length(g, "tokenizer.ggml.token_type", n, p->n, e)) return false;
    }
    if (fj_gguf_find(g, "tokenizer.ggml.merges")) {
        if (!(s = fj_gguf_strings(g, "tokenizer.ggml.merges", &p->n_merges, e))) return false;
        p->merges = as_bytes(s, p->n_merges);
    }
    return id_of(g, "tokenizer.ggml.bos_token_id", &p->bos, e) &&
           id_of(g, "tokenizer.ggml.eos_token_id", &p->eos, e) &&
           id_of(g, "tokenizer.ggml.eot_token_id", &p->eot, e) &&
           id_of(g, "tokenizer.ggml.unknown_token_id", &p->unk, e) &&
           id_of(g, "tokenizer.ggml.padding_token_id", &p->pad, e) &&
           flag_of(g, "tokenizer.ggml.add_bos_token", &p->add_bos, e) &&
           flag_of(g, "tokenizer.ggml.add_eos_token", &p->add_eos, e) &&
           flag_of(g, "tokenizer.ggml.add_space_prefix", &p->add_prefix, e);
}

static fj_tokenizer *from_gguf(const char *path, fj_err *e) {
    fj_gguf *g = fj_gguf_open(path, e);
    if (!g) return NULL;
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    fj_tokenizer *t = NULL;
    if (read_parts(g, &p, e) && !(t = fj_tokenizer_from_parts(&p, e))) fj_wrap(e, "%s", path);
    free((void *)p.tokens);
    free((void *)p.merges);
    fj_gguf_close(g);
    return t;
}

static fj_tokenizer *from_json(const char *path, const char *config, fj_err *e) {
    size_t n, config_n = 0;
    char *text = fj_read_file(path, TOKENIZER_MAX, &n, e), *more = NULL;
    fj_tokenizer *t = NULL;
    if (text && fj_exists(config)) more = fj_read_file(config, TOKENIZER_MAX, &config_n, e);
    if (text && (more || !fj_exists(config)) &&
        !(t = fj_tokenizer_from_json(text, n, more, config_n, e)))
        fj_wrap(e, "%s", path);
    free(text);
    free(more);
    return t;
}

fj_tokenizer *fj_open_tokenizer(const char *path, fj_err *e) {
    bool dir = fj_is_dir(path);
    char *json = dir ? fj_path_join(path, "tokenizer.json") : fj_strdup(path);
    char head[4] = { 0 };
    fj_tokenizer *t = NULL;
    FILE *f = fopen(json, "rb");
    if (!f) {
        fj_fail_errno(e, "cannot open %s", json);
    } else {
        size_t n = fread(head, 1, sizeof head, f);
        fclose(f);
        if (n == sizeof head && !memcmp(head, "GGUF", 4)) {
            t = from_gguf(json, e);
        } else {
            char *folder = fj_strndup(json, (size_t)(fj_base_name(json) - json));
            char *config = fj_path_join(*folder ? folder : ".", "tokenizer_config.json");
            t = from_json(json, config, e);
            free(folder);
            free(config);
        }
    }
    free(json);
    return t;
}
