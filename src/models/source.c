#include "models/source.h"

bool fj_source_open(fj_source *s, const char *path, fj_err *e) {
    *s = (fj_source){ .path = path };
    if (!fj_exists(path)) return fj_fail(e, FJ_EIO, "there is no model at %s", path);
    if (!fj_is_dir(path)) {
        s->gguf = fj_gguf_open(path, e);
        return s->gguf != NULL;
    }
    s->hf = fj_hf_open(path, e);
    if (!s->hf) return false;
    char *config = fj_path_join(path, "config.json");
    bool ok = fj_hfq_open(s->hf->config, config, &s->quant, e) && (s->st = fj_st_open(path, e));
    free(config);
    if (!ok) fj_source_close(s);
    return ok;
}

void fj_source_close(fj_source *s) {
    fj_gguf_close(s->gguf);
    fj_st_close(s->st);
    fj_hfq_close(s->quant);
    fj_hf_close(s->hf);
    *s = (fj_source){ 0 };
}

/* Architectures of one GGUF name are told apart by a key of their own. */
static const fj_arch *arch_of_gguf(const fj_gguf *g, const char *name) {
    const fj_arch *plain = NULL;
    for (int i = 0; fj_archs[i]; i++) {
        const fj_arch *a = fj_archs[i];
        uint32_t v = 0;
        if (strcmp(a->name, name)) continue;
        if (!a->gguf_sign) plain = a;
        else if (fj_gguf_u32_opt(g, a->gguf_sign, &v, NULL) && v > 0) return a;
    }
    return plain;
}

static void names_of(fj_str *s, bool gguf) {
    for (int i = 0; fj_archs[i]; i++)
        if (!gguf || !fj_archs[i]->gguf_sign)
            fj_str_addf(s, "%s%s", s->n ? ", " : "",
                        gguf ? fj_archs[i]->name : fj_archs[i]->hf_type);
}

const fj_arch *fj_source_arch(fj_source *s, fj_err *e) {
    const char *name = NULL;
    const fj_arch *a = NULL;
    if (s->gguf) {
        if (!fj_gguf_string(s->gguf, "general.architecture", &name, e)) return NULL;
        a = arch_of_gguf(s->gguf, name);
    } else {
        if (!fj_hf_string(s->hf, "model_type", &name, e)) return NULL;
        const json_t *cls = json_array_get(json_object_get(s->hf->config, "architectures"), 0);
        for (int i = 0; fj_archs[i] && !a; i++)
            if (!strcmp(fj_archs[i]->hf_type, name)) a = fj_archs[i];
        if (a && json_is_string(cls) && strcmp(json_string_value(cls), a->hf_class)) {
            fj_fail(e, FJ_EUNSUP,
                    "%s/config.json: architecture %s of model_type %s is not supported, %s is",
                    s->path, json_string_value(cls), name, a->hf_class);
            return NULL;
        }
        if (a) s->prefix = a->hf_prefix;
    }
    if (a) return a;
    fj_str known = { 0 };
    names_of(&known, s->gguf != NULL);
    fj_fail(e, FJ_EUNSUP, "%s: architecture \"%s\" is not supported (these are: %s)", s->path, name,
            known.s);
    fj_str_free(&known);
    return NULL;
}

bool fj_source_has(const fj_source *s, const char *name) {
    return s->gguf ? fj_gguf_tensor_find(s->gguf, name) != NULL : fj_st_find(s->st, name) != NULL;
}

bool fj_source_quantised(const fj_source *s, const char *name, fj_hfq_weight *w, fj_err *e) {
    *w = (fj_hfq_weight){ .kind = FJ_HFQ_PLAIN };
    if (!s->quant) return true;
    size_t k = s->prefix ? strlen(s->prefix) : 0;
    return fj_hfq_find(s->quant, s->st, name, w, e) &&
           (w->kind != FJ_HFQ_PLAIN || !k || strncmp(name, s->prefix, k) != 0 ||
            fj_hfq_find(s->quant, s->st, name + k, w, e));
}

bool fj_source_tensor_get(const fj_source *s, const char *name, fj_source_tensor *t, fj_err *e) {
    const int64_t *dim;
    int n;
    if (s->gguf) {
        const fj_gguf_tensor *g = fj_gguf_tensor_get(s->gguf, name, e);
        if (!g) return false;
        *t = (fj_source_tensor){ .name = g->name, .dtype = g->dtype, .data = g->data };
        n = g->n_dims;
        dim = g->dim;
    } else {
        size_t k = s->prefix ? strlen(s->prefix) : 0;
        if (k && !strncmp(name, s->prefix, k) && !fj_st_find(s->st, name)) name += k;
        const fj_st_tensor *x = fj_st_get(s->st, name, e);
        if (!x) return false;
        *t = (fj_source_tensor){
            .name = x->name, .dtype = x->dtype, .data = x->data, .copied = x->copied
        };
        n = x->n_dims;
        dim = x->dim;
    }
    if (n < 1 || n > 3)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %d dimensions", s->path, name, n);
    t->n_dims = n;
    for (int i = 0; i < n; i++) t->dim[i] = dim[s->gguf ? n - 1 - i : i];
    return true;
}

static bool optional_id(const fj_gguf *g, const char *key, int32_t *id, fj_err *e) {
    uint32_t v = UINT32_MAX;
    if (!fj_gguf_u32_opt(g, key, &v, e)) return false;
    if (v != UINT32_MAX) *id = (int32_t)v;
    return true;
}

static bool optional_flag(const fj_gguf *g, const char *key, int *flag, fj_err *e) {
    bool v = false;
    if (!fj_gguf_find(g, key)) return true;
    if (!fj_gguf_bool(g, key, &v, e)) return false;
    *flag = v;
    return true;
}

static bool charsmap(const fj_gguf *g, const char *key, fj_bytes *b, fj_err *e) {
    const fj_gguf_kv *kv = fj_gguf_find(g, key);
    if (!kv) return true;
    if (!kv->array || (kv->type != FJ_GGUF_U8 && kv->type != FJ_GGUF_I8))
        return fj_fail(e, FJ_EFORMAT, "%s: %s is not an array of bytes", g->name, key);
    *b = (fj_bytes){ kv->data, kv->n };
    return true;
}

static fj_tokenizer *from_gguf(const fj_gguf *g, fj_err *e) {
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    size_t n = 0, n_scores = 0, n_types = 0;
    const fj_gguf_str *tokens, *merges = NULL;
#define K(x) "tokenizer.ggml." x
    if (!fj_gguf_string(g, K("model"), &p.model, e) ||
        !fj_gguf_string_opt(g, K("pre"), &p.pre, e) ||
        !(tokens = fj_gguf_strings(g, K("tokens"), &n, e)))
        return NULL;
    if (fj_gguf_find(g, K("scores")) && !(p.scores = fj_gguf_f32s(g, K("scores"), &n_scores, e)))
        return NULL;
    if (fj_gguf_find(g, K("token_type")) &&
        !(p.types = fj_gguf_i32s(g, K("token_type"), &n_types, e)))
        return NULL;
    if (fj_gguf_find(g, K("merges")) && !(merges = fj_gguf_strings(g, K("merges"), &p.n_merges, e)))
        return NULL;
    if ((p.scores && n_scores != n) || (p.types && n_types != n)) {
        fj_fail(e, FJ_EFORMAT, "%s: %zu tokens, but %zu scores and %zu types", g->name, n, n_scores,
                n_types);
        return NULL;
    }
    if (!optional_id(g, K("bos_token_id"), &p.bos, e) ||
        !optional_id(g, K("eos_token_id"), &p.eos, e) ||
        !optional_id(g, K("eot_token_id"), &p.eot, e) ||
        !optional_id(g, K("unknown_token_id"), &p.unk, e) ||
        !optional_id(g, K("padding_token_id"), &p.pad, e) ||
        !optional_flag(g, K("add_bos_token"), &p.add_bos, e) ||
        !optional_flag(g, K("add_eos_token"), &p.add_eos, e) ||
        !optional_id(g, K("cls_token_id"), &p.cls, e) ||
        !optional_id(g, K("seperator_token_id"), &p.sep, e) ||
        !optional_flag(g, K("remove_extra_whitespaces"), &p.remove_spaces, e) ||
        !optional_flag(g, K("add_space_prefix"), &p.add_prefix, e) ||
        !charsmap(g, K("precompiled_charsmap"), &p.charsmap, e))
        return NULL;
#undef K
    fj_bytes *t = fj_alloc((n + p.n_merges + 1) * sizeof *t);
    for (size_t i = 0; i < n; i++) t[i] = (fj_bytes){ tokens[i].s, tokens[i].n };
    for (size_t i = 0; merges && i < p.n_merges; i++)
        t[n + i] = (fj_bytes){ merges[i].s, merges[i].n };
    p.n = n;
    p.tokens = t;
    p.merges = merges ? t + n : NULL;
    fj_tokenizer *tok = fj_tokenizer_from_parts(&p, e);
    free(t);
    if (!tok) fj_wrap(e, "%s", g->name);
    return tok;
}

fj_tokenizer *fj_source_tokenizer(const fj_source *s, fj_err *e) {
    return s->gguf ? from_gguf(s->gguf, e) : fj_tokenizer_from_folder(s->path, e);
}
