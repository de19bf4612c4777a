/* hparams.c - the hyper-parameters of a model from config.json or from GGUF metadata.
 *
 * Every key of config.json is known: it has a row, it is read here, it has the one value that the
 * mathematics is for, or it is said to have no part in it.  Any other is refused by name.
 * An explicit null counts as 0: "none". */
#include "models/source.h"

#include <math.h>

static void store(fj_hparams *hp, const fj_hp_row *r, double v) {
    char *at = (char *)hp + r->offset;
    static const double most = 9007199254740992.0; /* no size comes near it */
    if (r->type == FJ_HP_INT) *(int64_t *)(void *)at = (int64_t)fmin(fmax(v, -most), most);
    if (r->type == FJ_HP_FLOAT) *(double *)(void *)at = v;
    if (r->type == FJ_HP_BOOL) *(bool *)(void *)at = v != 0;
}

bool fj_arch_has(const fj_arch *a, size_t offset) {
    for (int i = 0; i < a->n_hp; i++)
        if (a->hp[i].offset == offset) return true;
    return false;
}

static bool row_of_gguf(const fj_source *s, const fj_arch *a, const fj_hp_row *r, double *v,
                        fj_err *e) {
    if (r->gguf_def != 0) *v = r->gguf_def < 0 ? 0 : r->gguf_def;
    if (!r->gguf) return true;
    fj_arena mem = { 0 };
    const char *key = fj_arena_printf(&mem, "%s%s", a->name, r->gguf + 2); /* "%s.x" */
    bool ok = true;
    if (r->required || fj_gguf_find(s->gguf, key)) {
        uint32_t u = 0;
        float f = 0;
        bool b = false;
        ok = r->type == FJ_HP_INT     ? fj_gguf_u32(s->gguf, key, &u, e)
             : r->type == FJ_HP_FLOAT ? fj_gguf_f32(s->gguf, key, &f, e)
                                      : fj_gguf_bool(s->gguf, key, &b, e);
        *v = r->type == FJ_HP_INT ? (double)u : r->type == FJ_HP_FLOAT ? (double)f : (double)b;
    }
    fj_arena_free(&mem);
    return ok;
}

/* The spelling of "a|b" that config has, or the first. */
static const char *spelled(const fj_source *s, const char *names, fj_arena *a) {
    const char *first = NULL;
    for (const char *p = names;; p++) {
        const char *end = strchr(p, '|');
        char *one = fj_arena_strndup(a, p, end ? (size_t)(end - p) : strlen(p));
        if (json_object_get(s->hf->config, one)) return one;
        if (!first) first = one;
        if (!end) return first;
        p = end;
    }
}

static bool row_of_hf(const fj_source *s, const fj_hp_row *r, double *v, fj_err *e) {
    if (!r->hf) return true;
    fj_arena mem = { 0 };
    const char *key = spelled(s, r->hf, &mem);
    bool ok = true;
    if (!r->required && json_is_null(json_object_get(s->hf->config, key))) {
        *v = 0;
    } else if (r->type == FJ_HP_INT) {
        int64_t i = (int64_t)*v;
        ok = (r->required ? fj_hf_int : fj_hf_int_opt)(s->hf, key, &i, e);
        *v = (double)i;
    } else if (r->type == FJ_HP_FLOAT) {
        ok = (r->required ? fj_hf_float : fj_hf_float_opt)(s->hf, key, v, e);
    } else {
        bool b = *v != 0;
        ok = (r->required ? fj_hf_bool : fj_hf_bool_opt)(s->hf, key, &b, e);
        *v = b;
    }
    fj_arena_free(&mem);
    return ok;
}

/* ---- rotary positions ---------------------------------------------------------------------------- */
static bool kind_of(const char *file, const char *name, bool factors, fj_rope_kind *k, fj_err *e) {
    static const struct {
        const char *name;
        fj_rope_kind kind;
    } kinds[] = {
        { "default", FJ_ROPE_PLAIN },     { "none", FJ_ROPE_PLAIN },
        { "linear", FJ_ROPE_LINEAR },     { "dynamic", FJ_ROPE_DYNAMIC },
        { "llama3", FJ_ROPE_LLAMA3 },     { "yarn", FJ_ROPE_YARN },
        { "longrope", FJ_ROPE_LONGROPE }, { "su", FJ_ROPE_LONGROPE },
    };
    for (size_t i = 0; i < FJ_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, name)) {
            /* Phi-3 called its scaling yarn, but it has the factors of longrope. */
            *k = factors ? FJ_ROPE_LONGROPE : kinds[i].kind;
            return true;
        }
    return fj_fail(e, FJ_EUNSUP,
                   "%s: rope scaling \"%s\" is not supported (default, linear, dynamic, llama3, "
                   "yarn, longrope are)",
                   file, name);
}

/* [dims / 2] positive numbers. */
static bool factors_of(const json_t *o, const char *file, const char *key, int64_t n,
                       const float **to, fj_arena *mem, fj_err *e) {
    const json_t *list = json_object_get(o, key);
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n)
        return fj_fail(e, FJ_EFORMAT, "%s: %s is not a list of %lld numbers", file, key,
                       (long long)n);
    float *v = fj_arena_alloc(mem, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(list, (size_t)i);
        v[i] = (float)json_number_value(x);
        if (!json_is_number(x) || !(v[i] > 0) || !isfinite(v[i]))
            return fj_fail(e, FJ_EFORMAT, "%s: %s[%lld] is not a positive number", file, key,
                           (long long)i);
    }
    *to = v;
    return true;
}

/* Numbers that frequencies can be made of.  file: of both formats, with the object's name. */
static bool rope_is_sane(const char *file, const fj_rope_hp *r, fj_err *e) {
    bool scaled = r->kind == FJ_ROPE_LINEAR || r->kind == FJ_ROPE_DYNAMIC ||
                  r->kind == FJ_ROPE_LLAMA3 || r->kind == FJ_ROPE_YARN;
    const struct {
        const char *name;
        double v;
        bool used, zero; /* 0 stands for "not said" */
    } list[] = {
        { "rope_theta", r->base, true, false },
        { "factor", r->factor, scaled, false },
        { "factor", r->factor, r->kind == FJ_ROPE_LONGROPE, true },
        { "low_freq_factor", r->low, r->kind == FJ_ROPE_LLAMA3, false },
        { "high_freq_factor - low_freq_factor", r->high - r->low, r->kind == FJ_ROPE_LLAMA3,
          false },
        { "beta_fast", r->beta_fast, r->kind == FJ_ROPE_YARN, false },
        { "beta_slow", r->beta_slow, r->kind == FJ_ROPE_YARN, false },
        { "attention_factor", r->attention_factor, true, true },
        { "mscale", r->mscale, r->kind == FJ_ROPE_YARN, true },
        { "mscale_all_dim", r->mscale_all_dim, r->kind == FJ_ROPE_YARN, true },
        { "original_max_position_embeddings", (double)r->original, true, true },
    };
    for (size_t i = 0; i < FJ_LEN(list); i++)
        if (list[i].used &&
            (!isfinite(list[i].v) || list[i].v < 0 || (list[i].v == 0 && !list[i].zero)))
            return fj_fail(e, FJ_EFORMAT, "%s: %s is %g, wanted a positive number", file,
                           list[i].name, list[i].v);
    return true;
}

/* One object of rope_scaling or rope_parameters. */
static bool rope_object(const json_t *o, const char *file, const fj_arch *a, const fj_hparams *hp,
                        fj_rope_hp *r, fj_err *e) {
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
                                         "truncate",
                                         "partial_rotary_factor",
                                         "short_factor",
                                         "long_factor" };
    if (!json_is_object(o)) return fj_fail(e, FJ_EFORMAT, "%s: it is not an object", file);
    const char *key, *type = "default";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, key, value) {
        bool ok = false;
        for (size_t i = 0; i < FJ_LEN(known); i++) ok |= !strcmp(known[i], key);
        if (!ok) return fj_fail(e, FJ_EUNSUP, "%s: %s is not understood", file, key);
    }
    int64_t original = 0;
    if (!fj_js_string_opt(o, file, "type", &type, e) ||
        !fj_js_string_opt(o, file, "rope_type", &type, e) ||
        !kind_of(file, type, json_is_array(json_object_get(o, "short_factor")), &r->kind, e) ||
        !fj_js_float_opt(o, file, "rope_theta", &r->base, e) ||
        !fj_js_float_opt(o, file, "partial_rotary_factor", &r->partial, e) ||
        !fj_js_float_opt(o, file, "factor", &r->factor, e) ||
        !fj_js_int_opt(o, file, "original_max_position_embeddings", &original, e))
        return false;
    if (!r->original) r->original = original; /* config.json's own key goes first */
    bool needs = r->kind == FJ_ROPE_LINEAR || r->kind == FJ_ROPE_DYNAMIC ||
                 r->kind == FJ_ROPE_LLAMA3 || (r->kind == FJ_ROPE_YARN && !r->original);
    if (needs && !fj_js_float(o, file, "factor", &r->factor, e)) return false;
    if (r->kind == FJ_ROPE_YARN && r->factor == 0)
        r->factor = (double)hp->context / (double)r->original;
    if (r->kind == FJ_ROPE_LLAMA3 &&
        (!fj_js_float(o, file, "low_freq_factor", &r->low, e) ||
         !fj_js_float(o, file, "high_freq_factor", &r->high, e) ||
         !fj_js_int(o, file, "original_max_position_embeddings", &original, e)))
        return false;
    return fj_js_float_opt(o, file, "beta_fast", &r->beta_fast, e) &&
           fj_js_float_opt(o, file, "beta_slow", &r->beta_slow, e) &&
           fj_js_float_opt(o, file, "attention_factor", &r->attention_factor, e) &&
           fj_js_float_opt(o, file, "mscale", &r->mscale, e) &&
           fj_js_float_opt(o, file, "mscale_all_dim", &r->mscale_all_dim, e) &&
           fj_js_bool_opt(o, file, "truncate", &r->truncate, e) &&
           (r->partial == 1 || fj_arch_has(a, offsetof(fj_hparams, rope.partial)) ||
            fj_fail(e, FJ_EUNSUP, "%s: partial_rotary_factor is only supported as 1 for %s", file,
                    a->hf_type));
}

/* How much of a head is turned, and the tables that depend on it. */
static bool rope_dims(const json_t *o, const char *file, const fj_hparams *hp, fj_rope_hp *r,
                      fj_arena *mem, fj_err *e) {
    bool share = r->partial > 0 && r->partial <= 1;
    r->dims = share ? (int64_t)((double)hp->head_dim * r->partial) : 0;
    if (r->dims < 2 || r->dims % 2)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: partial_rotary_factor %g turns %lld of the %lld values of a head, "
                       "wanted an even number of them",
                       file, r->partial, (long long)r->dims, (long long)hp->head_dim);
    return r->kind != FJ_ROPE_LONGROPE ||
           (factors_of(o, file, "short_factor", r->dims / 2, &r->short_factor, mem, e) &&
            factors_of(o, file, "long_factor", r->dims / 2, &r->long_factor, mem, e));
}

/* transformers: rope_scaling before version 5, rope_parameters (with rope_theta inside) after; one object
 * for each kind of layer where they differ. */
static bool rope_hf(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_arena *mem,
                    fj_err *e) {
    const char *key = "rope_parameters";
    json_t *o = fj_js_find(s->hf->config, key);
    if (!o) o = fj_js_find(s->hf->config, key = "rope_scaling");
    fj_arena names = { 0 };
    const char *file = fj_arena_printf(&names, "%s/config.json: %s", s->path, key);
    fj_rope_hp *local = hp->rope_local.base > 0 ? &hp->rope_local : NULL;
    json_t *full = o, *sliding = NULL;
    if (o && local &&
        (json_object_get(o, "full_attention") || json_object_get(o, "sliding_attention"))) {
        full = fj_js_find(o, "full_attention");
        sliding = fj_js_find(o, "sliding_attention");
    }
    bool ok = (!full || rope_object(full, file, a, hp, &hp->rope, e)) &&
              (!sliding || rope_object(sliding, file, a, hp, local, e)) &&
              rope_is_sane(file, &hp->rope, e) && (!local || rope_is_sane(file, local, e)) &&
              rope_dims(full, file, hp, &hp->rope, mem, e) &&
              (!local || rope_dims(sliding, file, hp, local, mem, e));
    fj_arena_free(&names);
    return ok;
}

static bool gguf_factors(const fj_source *s, const char *name, int64_t n, const float **to,
                         fj_arena *mem, fj_err *e) {
    fj_source_tensor t;
    if (!fj_source_has(s, name)) return true;
    if (!fj_source_tensor_get(s, name, &t, e)) return false;
    if (t.dtype != FJ_F32 || t.n_dims != 1 || t.dim[0] != n)
        return fj_fail(e, FJ_EFORMAT, "%s: %s is not %lld values of F32", s->path, name,
                       (long long)n);
    float *f = fj_arena_alloc(mem, (size_t)n * sizeof *f);
    memcpy(f, t.data, (size_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++)
        if (!(f[i] > 0) || !isfinite(f[i]))
            return fj_fail(e, FJ_EFORMAT, "%s: %s has a value that is not a positive number",
                           s->path, name);
    *to = f;
    return true;
}

static bool rope_gguf(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_arena *mem,
                      fj_err *e) {
    fj_rope_hp *r = &hp->rope;
    fj_arena keys = { 0 };
    const char *type = "none";
    float f = 0, att = 0, fast = (float)r->beta_fast, slow = (float)r->beta_slow;
    uint32_t orig = 0, dims = (uint32_t)hp->head_dim;
#define KEY(k) fj_arena_printf(&keys, "%s.rope." k, a->name)
    bool ok = fj_gguf_string_opt(s->gguf, KEY("scaling.type"), &type, e) &&
              kind_of(s->path, type, false, &r->kind, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("scaling.factor"), &f, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("scaling.attn_factor"), &att, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("scaling.yarn_beta_fast"), &fast, e) &&
              fj_gguf_f32_opt(s->gguf, KEY("scaling.yarn_beta_slow"), &slow, e) &&
              fj_gguf_u32_opt(s->gguf, KEY("scaling.original_context_length"), &orig, e) &&
              fj_gguf_u32_opt(s->gguf, KEY("dimension_count"), &dims, e);
#undef KEY
    fj_arena_free(&keys);
    if (!ok) return false;
    if (dims < 2 || dims % 2 || dims > (uint64_t)hp->head_dim)
        return fj_fail(e, FJ_EFORMAT, "%s: rotary positions over %u of %lld values of a head",
                       s->path, dims, (long long)hp->head_dim);
    if (dims < (uint64_t)hp->head_dim && a->weights[FJ_W_Q].is & FJ_IS_PAIRS)
        return fj_fail(e, FJ_EUNSUP, "%s: rotary positions over %u of %lld values of a head of %s",
                       s->path, dims, (long long)hp->head_dim, a->name);
    r->dims = dims;
    r->partial = (double)dims / (double)hp->head_dim;
    /* So that its product is the number again, as config.json is read. */
    while ((int64_t)((double)hp->head_dim * r->partial) < r->dims)
        r->partial = nextafter(r->partial, 2);
    r->original = orig;
    r->factor = (double)f;
    r->beta_fast = (double)fast;
    r->beta_slow = (double)slow;
    ok = gguf_factors(s, "rope_freqs.weight", dims / 2, &r->divisors, mem, e) &&
         gguf_factors(s, "rope_factors_short.weight", dims / 2, &r->short_factor, mem, e) &&
         gguf_factors(s, "rope_factors_long.weight", dims / 2, &r->long_factor, mem, e);
    if (!ok) return false;
    if (r->short_factor && r->long_factor) {
        r->kind = FJ_ROPE_LONGROPE;
        r->attention_factor = (double)att;
    } else if (r->kind == FJ_ROPE_LONGROPE || r->short_factor || r->long_factor) {
        return fj_fail(e, FJ_EFORMAT,
                       "%s: longrope needs rope_factors_short.weight and rope_factors_long.weight",
                       s->path);
    } else if (r->kind != FJ_ROPE_PLAIN && !(f > 0)) {
        return fj_fail(e, FJ_EFORMAT, "%s: rope scaling \"%s\" without a factor", s->path, type);
    }
    if (r->kind == FJ_ROPE_YARN && att > 0) /* llama.cpp multiplies it with its own 0.1 ln(s) + 1 */
        r->attention_factor = (double)att * (0.1 * log((double)f) + 1);
    fj_rope_hp *local = &hp->rope_local;
    if (local->base > 0) {
        local->dims = r->dims;
        local->partial = r->partial;
        if (!rope_is_sane(s->path, local, e)) return false;
    }
    return rope_is_sane(s->path, r, e);
}

/* ---- kinds of layers ----------------------------------------------------------------------------- */
/* A list with a name for every layer, which goes before what finish() has set. */
static bool layer_types(const fj_source *s, fj_hparams *hp, fj_err *e) {
    const json_t *list = fj_js_find(s->hf->config, "layer_types");
    if (!list) return true;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != hp->layers)
        return fj_fail(e, FJ_EFORMAT, "%s/config.json: layer_types is not a list of %lld names",
                       s->path, (long long)hp->layers);
    for (int64_t l = 0; l < hp->layers; l++) {
        const char *t = json_string_value(json_array_get(list, (size_t)l));
        bool local = t && !strcmp(t, "sliding_attention");
        if (!local && !(t && !strcmp(t, "full_attention")))
            return fj_fail(e, FJ_EUNSUP,
                           "%s/config.json: layer_types[%lld] is \"%s\" (full_attention and "
                           "sliding_attention are supported)",
                           s->path, (long long)l, t ? t : "not a name");
        if (local && !hp->window)
            return fj_fail(e, FJ_EFORMAT,
                           "%s/config.json: layer_types[%lld] is sliding_attention, but there is "
                           "no sliding_window in use",
                           s->path, (long long)l);
        hp->layer[l] = (uint8_t)((hp->layer[l] & ~FJ_LAYER_LOCAL) | (local ? FJ_LAYER_LOCAL : 0));
    }
    return true;
}

/* SmolLM3: a list of 1 (turned) and 0, for every layer; a window is for those that are not turned, unless
 * layer_types says otherwise. */
static bool no_rope_layers(const fj_source *s, fj_hparams *hp, fj_err *e) {
    const json_t *list = fj_js_find(s->hf->config, "no_rope_layers");
    if (!list) return true;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != hp->layers)
        return fj_fail(e, FJ_EFORMAT,
                       "%s/config.json: no_rope_layers is not a list of %lld numbers", s->path,
                       (long long)hp->layers);
    for (int64_t l = 0; l < hp->layers; l++) {
        const json_t *x = json_array_get(list, (size_t)l);
        if (!json_is_integer(x))
            return fj_fail(e, FJ_EFORMAT, "%s/config.json: no_rope_layers[%lld] is not 0 or 1",
                           s->path, (long long)l);
        int bits = FJ_LAYER_NO_ROPE | (hp->window ? FJ_LAYER_LOCAL : 0);
        hp->layer[l] = (uint8_t)((hp->layer[l] & ~bits) | (json_integer_value(x) ? 0 : bits));
    }
    return true;
}

/* Qwen3-MoE: the numbers of layers without experts, beside those of decoder_sparse_step. */
static bool mlp_only_layers(const fj_source *s, fj_hparams *hp, fj_err *e) {
    const json_t *list = fj_js_find(s->hf->config, "mlp_only_layers"), *x;
    size_t i;
    if (list && !json_is_array(list))
        return fj_fail(e, FJ_EFORMAT, "%s/config.json: mlp_only_layers is not a list", s->path);
    json_array_foreach((json_t *)(uintptr_t)list, i, x) {
        int64_t l = json_integer_value(x);
        if (!json_is_integer(x) || l < 0)
            return fj_fail(e, FJ_EFORMAT, "%s/config.json: mlp_only_layers[%zu] is not a layer",
                           s->path, i);
        if (l < hp->layers) hp->layer[l] |= FJ_LAYER_DENSE;
    }
    return true;
}

/* GGUF: an entry for every layer, true where it is local; or a number n: every n-th layer sees all. */
static bool layers_of_gguf(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_err *e) {
    fj_arena mem = { 0 };
    const char *key = fj_arena_printf(&mem, "%s.attention.sliding_window_pattern", a->name);
    const fj_gguf_kv *kv = fj_gguf_find(s->gguf, key);
    bool ok = true;
    uint32_t every = 0;
    if (kv && !kv->array && hp->window) {
        ok = fj_gguf_u32(s->gguf, key, &every, e) &&
             (every > 0 || fj_fail(e, FJ_EFORMAT, "%s: %s is 0", s->path, key));
        for (int64_t l = 0; l < hp->layers; l++) hp->layer[l] &= (uint8_t)~FJ_LAYER_LOCAL;
        if (ok) fj_layers_every(hp, every, true, FJ_LAYER_LOCAL);
    } else if (kv && hp->window) {
        ok = kv->type == FJ_GGUF_BOOL && (int64_t)kv->n == hp->layers;
        if (!ok)
            fj_fail(e, FJ_EFORMAT, "%s: %s is not an array of %lld booleans", s->path, key,
                    (long long)hp->layers);
        for (int64_t l = 0; ok && l < hp->layers; l++)
            hp->layer[l] = (uint8_t)((hp->layer[l] & ~FJ_LAYER_LOCAL) |
                                     (((const uint8_t *)kv->data)[l] ? FJ_LAYER_LOCAL : 0));
    }
    fj_arena_free(&mem);
    return ok;
}

/* ---- keys ---------------------------------------------------------------------------------------- */
/* What says nothing about the mathematics for any architecture, or is read in this file. */
static const char *const common[] = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "layer_types",
    "max_sequence_length",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "rope_parameters",
    "rope_scaling",
    "task_specific_params",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
};

/* transformers reads it everywhere, but only Phi-3's plain rotation heeds it. */
static const char *const common_fixed[] = { "partial_rotary_factor=1.0", NULL };

static bool in_list(const char *const *list, const char *key) {
    for (; list && *list; list++)
        if (!strcmp(*list, key)) return true;
    return false;
}

/* Is key among "a|b"? */
static bool among(const char *names, const char *key) {
    size_t n = strlen(key);
    for (const char *p = names; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (!strncmp(p, key, n) && (!p[n] || p[n] == '|')) return true;
    return false;
}

const char *fj_fixed_value(const char *fixed, size_t *key) {
    const char *eq = strchr(fixed, '=');
    *key = (size_t)(eq - fixed);
    return eq + 1;
}

/* *known: it is one of those of list that must have one value (null is as good). */
static bool check_fixed(const fj_source *s, const fj_arch *a, const char *const *list,
                        const char *key, const json_t *value, bool *known, fj_err *e) {
    for (const char *const *f = list; f && *f; f++) {
        size_t n;
        const char *want = fj_fixed_value(*f, &n);
        if (strlen(key) != n || strncmp(key, *f, n)) continue;
        json_t *one = json_loads(want, JSON_DECODE_ANY, NULL);
        *known = json_is_null(value) || json_equal(value, one) ||
                 (json_is_number(value) && json_is_number(one) &&
                  json_number_value(value) == json_number_value(one));
        json_decref(one);
        return *known ||
               fj_fail(e, FJ_EUNSUP, "%s/config.json: \"%s\" is only supported as %s for %s",
                       s->path, key, want, a->hf_type);
    }
    return true;
}

static bool check_known(const fj_source *s, const fj_arch *a, fj_err *e) {
    const char *key, *act = NULL;
    json_t *value;
    json_object_foreach(s->hf->config, key, value) {
        bool ok =
            key[0] == '_' || !strcmp(key, a->act_key) || in_list(a->ignored, key) ||
            (!strcmp(key, "quantization_config") && s->quant) || /* every key of it was looked at */
            (!strcmp(key, "no_rope_layers") && fj_arch_has(a, offsetof(fj_hparams, rope_every))) ||
            (!strcmp(key, "mlp_only_layers") && fj_arch_has(a, offsetof(fj_hparams, sparse_step)));
        for (int i = 0; i < a->n_hp && !ok; i++) ok = a->hp[i].hf && among(a->hp[i].hf, key);
        for (size_t i = 0; i < FJ_LEN(common) && !ok; i++) ok = !strcmp(common[i], key);
        if (!ok && (!check_fixed(s, a, a->fixed, key, value, &ok, e) ||
                    (!ok && !check_fixed(s, a, common_fixed, key, value, &ok, e))))
            return false;
        if (!ok)
            return fj_fail(e, FJ_EUNSUP,
                           "%s/config.json: key \"%s\" is not known for %s; it may change the "
                           "mathematics, so the model is refused",
                           s->path, key, a->hf_type);
    }
    if (!fj_hf_string_opt(s->hf, a->act_key, &act, e)) return false;
    if (act && !among(a->acts, act))
        return fj_fail(e, FJ_EUNSUP, "%s/config.json: %s \"%s\" is not supported for %s (%s is)",
                       s->path, a->act_key, act, a->hf_type, a->acts);
    return true;
}

/* ---- all together -------------------------------------------------------------------------------- */
static bool in_range(const fj_source *s, const fj_hparams *hp, fj_err *e) {
    static const int64_t most = 1 << 24;
    const struct {
        const char *name;
        int64_t v, low, high;
    } sizes[] = {
        { "layers", hp->layers, 1, FJ_MAX_LAYERS },
        { "width", hp->width, 1, most },
        { "heads", hp->heads, 1, 65536 },
        { "key heads", hp->kv_heads, 0, 65536 },
        { "head size", hp->head_dim, 0, 65536 },
        { "feed-forward", hp->ffn, 0, most },
        { "vocabulary", hp->vocab, 1, most },
        { "context", hp->context, 1, INT64_C(1) << 31 },
        { "window", hp->window, 0, INT32_MAX },
        { "experts", hp->experts, 0, 65536 },
        { "experts used", hp->experts_used, 0, hp->experts },
        { "feed-forward of an expert", hp->expert_ffn, hp->experts ? 1 : 0, most },
    };
    for (size_t i = 0; i < FJ_LEN(sizes); i++)
        if (sizes[i].v < sizes[i].low || sizes[i].v > sizes[i].high)
            return fj_fail(e, FJ_EFORMAT,
                           "%s: hyper-parameter out of range: %s is %lld, wanted "
                           "%lld to %lld",
                           s->path, sizes[i].name, (long long)sizes[i].v, (long long)sizes[i].low,
                           (long long)sizes[i].high);
    if (!(hp->eps >= 0) || !(hp->rope.base > 0 || !hp->rope.base) || !(hp->logit_div > 0))
        return fj_fail(e, FJ_EFORMAT,
                       "%s: hyper-parameter out of range: epsilon %g, rope_theta %g, divisor of "
                       "logits %g",
                       s->path, hp->eps, hp->rope.base, hp->logit_div);
    return true;
}

/* Every layer has a network of some size, or experts. */
static bool networks(const fj_source *s, const fj_arch *a, const fj_hparams *hp, fj_err *e) {
    for (int64_t l = 0; l < hp->layers; l++) {
        bool dense = !hp->experts || hp->layer[l] & FJ_LAYER_DENSE;
        if (dense && !a->weights[FJ_W_DOWN].hf)
            return fj_fail(e, FJ_EFORMAT, "%s: %s without experts", s->path, a->hf_type);
        if (dense && !hp->ffn)
            return fj_fail(e, FJ_EFORMAT, "%s: a feed-forward network of size 0", s->path);
    }
    return true;
}

bool fj_source_hparams(const fj_source *s, const fj_arch *a, fj_hparams *hp, fj_arena *mem,
                       fj_err *e) {
    fj_rope_hp rope = { .beta_fast = 32, .beta_slow = 1, .truncate = true, .partial = 1 };
    *hp = (fj_hparams){
        .rope = rope, .rope_local = rope, .embed_scale = 1, .residual_scale = 1, .logit_div = 1
    };
    for (int i = 0; i < a->n_hp; i++) {
        double v = a->hp[i].def;
        if (!(s->gguf ? row_of_gguf(s, a, &a->hp[i], &v, e) : row_of_hf(s, &a->hp[i], &v, e)))
            return false;
        store(hp, &a->hp[i], v);
    }
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
    if (!in_range(s, hp, e)) return false;
    if (!a->finish(hp, e)) return fj_wrap(e, "%s", s->path);
    if (!in_range(s, hp, e)) return false; /* what followed from others, too */
    if (s->gguf)
        return layers_of_gguf(s, a, hp, e) && networks(s, a, hp, e) &&
               (hp->rope.kind == FJ_ROPE_NONE || rope_gguf(s, a, hp, mem, e));
    FJ_ASSERT(s->hf);
    return no_rope_layers(s, hp, e) && layer_types(s, hp, e) && mlp_only_layers(s, hp, e) &&
           networks(s, a, hp, e) && (hp->rope.kind == FJ_ROPE_NONE || rope_hf(s, a, hp, mem, e));
}

void fj_default_layers(const fj_arch *a, const fj_hparams *hp, uint8_t layer[FJ_MAX_LAYERS]) {
    fj_hparams copy = *hp;
    memset(copy.layer, 0, sizeof copy.layer);
    a->finish(&copy, NULL); /* it has finished these values before */
    memcpy(layer, copy.layer, sizeof copy.layer);
}
