#include "models/source.h"

#include <math.h>

bool fj_source_open(fj_source *s, const char *path, fj_err *e) {
    *s = (fj_source){ .path = path };
    if (!fj_exists(path)) return fj_fail(e, FJ_EIO, "there is no model at %s", path);
    if (!fj_is_dir(path)) {
        s->gguf = fj_gguf_open(path, e);
        return s->gguf != NULL;
    }
    s->hf = fj_hf_open(path, e);
    if (!s->hf) return false;
    s->st = fj_st_open(path, e);
    if (s->st) return true;
    fj_source_close(s);
    return false;
}

void fj_source_close(fj_source *s) {
    fj_gguf_close(s->gguf);
    fj_st_close(s->st);
    fj_hf_close(s->hf);
    *s = (fj_source){ 0 };
}

const fj_arch *fj_source_arch(const fj_source *s, fj_err *e) {
    const char *name = NULL;
    if (s->gguf) {
        if (!fj_gguf_string(s->gguf, "general.architecture", &name, e)) return NULL;
        for (int i = 0; fj_archs[i]; i++)
            if (!strcmp(fj_archs[i]->name, name)) return fj_archs[i];
    } else {
        if (!fj_hf_string(s->hf, "model_type", &name, e)) return NULL;
        const json_t *cls = json_array_get(json_object_get(s->hf->config, "architectures"), 0);
        for (int i = 0; fj_archs[i]; i++) {
            if (strcmp(fj_archs[i]->hf_type, name)) continue;
            if (json_is_string(cls) && strcmp(json_string_value(cls), fj_archs[i]->hf_class)) {
                fj_fail(e, FJ_EUNSUP,
                        "%s/config.json: architecture %s of model_type %s is not supported, "
                        "%s is",
                        s->path, json_string_value(cls), name, fj_archs[i]->hf_class);
                return NULL;
            }
            return fj_archs[i];
        }
    }
    fj_str known = { 0 };
    for (int i = 0; fj_archs[i]; i++) fj_str_addf(&known, "%s%s", i ? ", " : "", fj_archs[i]->name);
    fj_fail(e, FJ_EUNSUP, "%s: architecture \"%s\" is not supported (these are: %s)", s->path, name,
            known.s);
    fj_str_free(&known);
    return NULL;
}

static void store(fj_hparams *hp, const fj_hp_row *r, double v) {
    char *at = (char *)hp + r->offset;
    if (r->type == FJ_HP_INT) *(int64_t *)(void *)at = (int64_t)v;
    if (r->type == FJ_HP_FLOAT) *(double *)(void *)at = v;
    if (r->type == FJ_HP_BOOL) *(bool *)(void *)at = v != 0;
}

static bool read_row(const fj_source *s, const fj_arch *a, const fj_hp_row *r, fj_hparams *hp,
                     fj_err *e) {
    double v = r->def;
    if (s->gguf) {
        if (!r->gguf) {
            store(hp, r, v);
            return true;
        }
        char key[128];
        int n = 0; /* "%s.x": the only conversion in the table */
        for (const char *p = r->gguf; *p && n < 100; p++) {
            if (p[0] == '%' && p[1] == 's') {
                for (const char *q = a->name; *q && n < 100; q++) key[n++] = *q;
                p++;
            } else {
                key[n++] = *p;
            }
        }
        key[n] = 0;
        if (!fj_gguf_find(s->gguf, key) && !r->required) {
            store(hp, r, v);
            return true;
        }
        if (r->type == FJ_HP_INT) {
            uint32_t u;
            if (!fj_gguf_u32(s->gguf, key, &u, e)) return false;
            v = u;
        } else if (r->type == FJ_HP_FLOAT) {
            float f;
            if (!fj_gguf_f32(s->gguf, key, &f, e)) return false;
            v = (double)f;
        } else {
            bool b;
            if (!fj_gguf_bool(s->gguf, key, &b, e)) return false;
            v = b;
        }
    } else if (r->type == FJ_HP_INT) {
        int64_t i = (int64_t)v;
        if (!(r->required ? fj_hf_int : fj_hf_int_opt)(s->hf, r->hf, &i, e)) return false;
        v = (double)i;
    } else if (r->type == FJ_HP_FLOAT) {
        if (!(r->required ? fj_hf_float : fj_hf_float_opt)(s->hf, r->hf, &v, e)) return false;
    } else {
        bool b = v != 0;
        if (!(r->required ? fj_hf_bool : fj_hf_bool_opt)(s->hf, r->hf, &b, e)) return false;
        v = b;
    }
    store(hp, r, v);
    return true;
}

static bool kind_of(const char *file, const char *name, fj_rope_kind *k, fj_err *e) {
    static const struct {
        const char *name;
        fj_rope_kind kind;
    } kinds[] = {
        { "default", FJ_ROPE_PLAIN },   { "none", FJ_ROPE_PLAIN },    { "linear", FJ_ROPE_LINEAR },
        { "dynamic", FJ_ROPE_DYNAMIC }, { "llama3", FJ_ROPE_LLAMA3 }, { "yarn", FJ_ROPE_YARN },
    };
    for (size_t i = 0; i < FJ_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, name)) {
            *k = kinds[i].kind;
            return true;
        }
    return fj_fail(e, FJ_EUNSUP,
                   "%s: rope scaling \"%s\" is not supported (default, linear, dynamic, llama3, "
                   "yarn are)",
                   file, name);
}

/* transformers: rope_scaling before version 5, rope_parameters (with rope_theta inside) after. */
static bool rope_hf(const fj_source *s, fj_hparams *hp, fj_err *e) {
    fj_rope_hp *r = &hp->rope;
    json_t *o = fj_js_find(s->hf->config, "rope_parameters");
    if (!o) o = fj_js_find(s->hf->config, "rope_scaling");
    if (!o) return true;
    char file[512];
    fj_err name = { 0 };
    fj_fail(&name, FJ_OK, "%s/config.json", s->path);
    memcpy(file, name.msg, sizeof file - 4);
    file[sizeof file - 5] = 0;
    if (!json_is_object(o))
        return fj_fail(e, FJ_EFORMAT, "%s: rope_scaling is not an object", file);
    static const char *const known[] = { "rope_type",
                                         "type",
                                         "rope_theta",
                                         "factor",
                                         "low_freq_factor",
                                         "high_freq_factor",
                                         "original_max_position_embeddings",
                                         "beta_fast",
                                         "beta_slow",
                                         "attention_factor",
                                         "mscale",
                                         "mscale_all_dim",
                                         "truncate" };
    const char *key, *type = "default";
    json_t *value;
    json_object_foreach(o, key, value) {
        bool ok = false;
        for (size_t i = 0; i < FJ_LEN(known); i++) ok |= !strcmp(known[i], key);
        if (!ok) return fj_fail(e, FJ_EUNSUP, "%s: rope_scaling.%s is not understood", file, key);
    }
    if (!fj_js_string_opt(o, file, "type", &type, e) ||
        !fj_js_string_opt(o, file, "rope_type", &type, e) || !kind_of(file, type, &r->kind, e) ||
        !fj_js_float_opt(o, file, "rope_theta", &r->base, e))
        return false;
    if (r->kind != FJ_ROPE_PLAIN && !fj_js_float(o, file, "factor", &r->factor, e)) return false;
    if (r->kind == FJ_ROPE_LLAMA3 &&
        (!fj_js_float(o, file, "low_freq_factor", &r->low, e) ||
         !fj_js_float(o, file, "high_freq_factor", &r->high, e) ||
         !fj_js_int(o, file, "original_max_position_embeddings", &r->original, e)))
        return false;
    if (!fj_js_int_opt(o, file, "original_max_position_embeddings", &r->original, e) ||
        !fj_js_float_opt(o, file, "beta_fast", &r->beta_fast, e) ||
        !fj_js_float_opt(o, file, "beta_slow", &r->beta_slow, e) ||
        !fj_js_float_opt(o, file, "attention_factor", &r->attention_factor, e) ||
        !fj_js_float_opt(o, file, "mscale", &r->mscale, e) ||
        !fj_js_float_opt(o, file, "mscale_all_dim", &r->mscale_all_dim, e) ||
        !fj_js_bool_opt(o, file, "truncate", &r->truncate, e))
        return false;
    return true;
}

static bool rope_gguf(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_err *e) {
    fj_rope_hp *r = &hp->rope;
    fj_arena keys = { 0 };
    const char *type = "none";
    float f = 0, att = 0;
    uint32_t orig = 0, dims = 0;
#define KEY(k) fj_arena_printf(&keys, "%s." k, a->name)
    bool ok = fj_gguf_string_opt(s->gguf, KEY("rope.scaling.type"), &type, e) &&
              kind_of(s->path, type, &r->kind, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("rope.scaling.factor"), &f, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("rope.scaling.attn_factor"), &att, e) &&
              fj_gguf_u32_opt(s->gguf, KEY("rope.scaling.original_context_length"), &orig, e) &&
              fj_gguf_u32_opt(s->gguf, KEY("rope.dimension_count"), &dims, e);
#undef KEY
    fj_arena_free(&keys);
    if (!ok) return false;
    if (dims && dims != (uint64_t)hp->head_dim)
        return fj_fail(e, FJ_EUNSUP, "%s: rotary positions over %u of %lld values of a head",
                       s->path, dims, (long long)hp->head_dim);
    r->original = orig;
    r->factor = (double)f;
    if (r->kind != FJ_ROPE_PLAIN && !(f > 0))
        return fj_fail(e, FJ_EFORMAT, "%s: rope scaling \"%s\" without a factor", s->path, type);
    if (r->kind == FJ_ROPE_YARN && att > 0) /* llama.cpp multiplies it with its own 0.1 ln(s) + 1 */
        r->attention_factor = (double)att * (0.1 * log((double)f) + 1);
    return true;
}

static bool check_known(const fj_source *s, const fj_arch *a, fj_err *e) {
    const char *key, *act = "silu";
    json_t *value;
    json_object_foreach(s->hf->config, key, value) {
        bool ok = key[0] == '_';
        for (int i = 0; i < a->n_hp && !ok; i++) ok = a->hp[i].hf && !strcmp(a->hp[i].hf, key);
        for (int i = 0; a->ignored[i] && !ok; i++) ok = !strcmp(a->ignored[i], key);
        if (!ok)
            return fj_fail(e, FJ_EUNSUP,
                           "%s/config.json: key \"%s\" is not known for %s; it may change the "
                           "mathematics, so the model is refused",
                           s->path, key, a->name);
    }
    if (!fj_hf_string_opt(s->hf, "hidden_act", &act, e)) return false;
    if (strcmp(act, "silu") && strcmp(act, "swish"))
        return fj_fail(e, FJ_EUNSUP,
                       "%s/config.json: hidden_act \"%s\" is not supported for %s (silu is)",
                       s->path, act, a->name);
    return true;
}

bool fj_source_hparams(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_err *e) {
    *hp = (fj_hparams){ .rope = { .beta_fast = 32, .beta_slow = 1, .truncate = true } };
    for (int i = 0; i < a->n_hp; i++)
        if (!read_row(s, a, &a->hp[i], hp, e)) return false;
    if (s->hf && !check_known(s, a, e)) return false;
    if (s->gguf) {
        /* GGUF says by its tensors what config.json says by keys. */
        size_t n = 0;
        if (!hp->vocab) {
            if (!fj_gguf_strings(s->gguf, "tokenizer.ggml.tokens", &n, e)) return false;
            hp->vocab = (int64_t)n;
        }
        hp->tied = !fj_gguf_tensor_find(s->gguf, "output.weight");
        hp->attn_bias = fj_gguf_tensor_find(s->gguf, "blk.0.attn_q.bias") != NULL;
        hp->mlp_bias = fj_gguf_tensor_find(s->gguf, "blk.0.ffn_up.bias") != NULL;
    }
    static const int64_t most = 1 << 24;
    if (hp->layers < 1 || hp->layers > 4096 || hp->width < 1 || hp->width > most || hp->heads < 1 ||
        hp->heads > 65536 || hp->kv_heads < 0 || hp->kv_heads > 65536 || hp->head_dim < 0 ||
        hp->head_dim > 65536 || hp->ffn < 1 || hp->ffn > most || hp->vocab < 1 ||
        hp->vocab > most || hp->context < 1 || !(hp->eps >= 0) || !(hp->rope.base > 0))
        return fj_fail(e, FJ_EFORMAT,
                       "%s: a hyper-parameter is out of range (layers %lld, width %lld, heads "
                       "%lld, feed-forward %lld, vocabulary %lld, context %lld)",
                       s->path, (long long)hp->layers, (long long)hp->width, (long long)hp->heads,
                       (long long)hp->ffn, (long long)hp->vocab, (long long)hp->context);
    if (!a->finish(hp, e)) return fj_wrap(e, "%s", s->path);
    return s->hf ? rope_hf(s, hp, e) : rope_gguf(s, a, hp, e);
}

bool fj_source_has(const fj_source *s, const char *name) {
    return s->gguf ? fj_gguf_tensor_find(s->gguf, name) != NULL : fj_st_find(s->st, name) != NULL;
}

bool fj_source_tensor_get(const fj_source *s, const char *name, fj_source_tensor *t, fj_err *e) {
    if (s->gguf) {
        const fj_gguf_tensor *g = fj_gguf_tensor_get(s->gguf, name, e);
        if (!g) return false;
        if (g->n_dims > 2)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %d dimensions", s->path, name,
                           g->n_dims);
        *t = (fj_source_tensor){ g->name, g->dtype, g->dim[1], g->dim[0], g->data };
        return true;
    }
    const fj_st_tensor *x = fj_st_get(s->st, name, e);
    if (!x) return false;
    if (x->n_dims < 1 || x->n_dims > 2)
        return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %d dimensions", s->path, name, x->n_dims);
    bool two = x->n_dims == 2;
    *t = (fj_source_tensor){ x->name, x->dtype, two ? x->dim[0] : 1, two ? x->dim[1] : x->dim[0],
                             x->data };
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
