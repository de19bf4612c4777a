/* hparams_write.c - hyper-parameters into GGUF metadata and into config.json: the way back of hparams.c. */
#include "models/source.h"

#include <math.h>

static const char *arch_key(fj_arena *a, const fj_arch *arch, const char *rest) {
    return fj_arena_printf(a, "%s.%s", arch->name, rest);
}

static const void *at(const fj_hparams *hp, const fj_hp_row *r) {
    return (const char *)hp + r->offset;
}

static double value_of(const fj_hparams *hp, const fj_hp_row *r) {
    return r->type == FJ_HP_INT     ? (double)*(const int64_t *)at(hp, r)
           : r->type == FJ_HP_FLOAT ? *(const double *)at(hp, r)
                                    : (double)*(const bool *)at(hp, r);
}

/* ---- GGUF ---------------------------------------------------------------------------------------- */
static bool rope_to_gguf(const fj_arch *arch, const fj_hparams *hp, fj_gguf_writer *w, fj_arena *a,
                         fj_err *e) {
    const fj_rope_hp *r = &hp->rope;
    if (r->kind == FJ_ROPE_NONE) return true;
    if (r->kind == FJ_ROPE_DYNAMIC)
        return fj_fail(e, FJ_EUNSUP,
                       "GGUF has no name for dynamic rope scaling: save a Hugging Face folder");
#define KEY(k) arch_key(a, arch, "rope." k)
    fj_gguf_put_u32(w, KEY("dimension_count"), (uint32_t)r->dims);
    if (r->kind == FJ_ROPE_LINEAR || r->kind == FJ_ROPE_YARN) {
        fj_gguf_put_string(w, KEY("scaling.type"), r->kind == FJ_ROPE_YARN ? "yarn" : "linear");
        fj_gguf_put_f32(w, KEY("scaling.factor"), (float)r->factor);
    }
    if (r->original &&
        (r->kind == FJ_ROPE_LINEAR || r->kind == FJ_ROPE_YARN || r->kind == FJ_ROPE_LONGROPE) &&
        !fj_arch_has(arch, offsetof(fj_hparams, rope.original)))
        fj_gguf_put_u32(w, KEY("scaling.original_context_length"), (uint32_t)r->original);
    double mscale = 1;
    float *freq = fj_alloc((size_t)r->dims * sizeof *freq);
    fj_rope_freqs(hp, r, 1, freq, &mscale);
    free(freq);
    if (r->kind == FJ_ROPE_LONGROPE) fj_gguf_put_f32(w, KEY("scaling.attn_factor"), (float)mscale);
    if (r->kind != FJ_ROPE_YARN) return true;
    /* Readers round the bounds, but for the one family whose mathematics is another. */
    if (r->truncate == (arch == &fj_arch_gpt_oss))
        return fj_fail(e, FJ_EUNSUP,
                       "GGUF cannot say that the bounds of YaRN are %s for %s (rope_scaling."
                       "truncate): save a Hugging Face folder",
                       r->truncate ? "rounded" : "not rounded", arch->name);
    fj_gguf_put_f32(w, KEY("scaling.attn_factor"), (float)(mscale / (0.1 * log(r->factor) + 1)));
    if (r->beta_fast != 32) fj_gguf_put_f32(w, KEY("scaling.yarn_beta_fast"), (float)r->beta_fast);
    if (r->beta_slow != 1) fj_gguf_put_f32(w, KEY("scaling.yarn_beta_slow"), (float)r->beta_slow);
#undef KEY
    return true;
}

/* Readers take what an architecture does by default; what differs is written down or cannot be said. */
static bool layers_to_gguf(const fj_arch *arch, const fj_hparams *hp, fj_gguf_writer *w,
                           fj_arena *a, fj_err *e) {
    uint8_t usual[FJ_MAX_LAYERS], locals[FJ_MAX_LAYERS];
    bool local = false;
    fj_default_layers(arch, hp, usual);
    for (int64_t l = 0; l < hp->layers; l++) {
        if ((usual[l] ^ hp->layer[l]) & FJ_LAYER_NO_ROPE ||
            (hp->layer[l] & FJ_LAYER_NO_ROPE && hp->rope_every != 4))
            return fj_fail(e, FJ_EUNSUP,
                           "GGUF cannot say which layers have no rotary positions, unless it is "
                           "every fourth: save a Hugging Face folder");
        if (hp->layer[l] & FJ_LAYER_DENSE)
            return fj_fail(e, FJ_EUNSUP,
                           "GGUF has experts in every layer of %s, layer %lld of this model has "
                           "none: save a Hugging Face folder",
                           arch->name, (long long)l);
        locals[l] = hp->layer[l] & FJ_LAYER_LOCAL ? 1 : 0;
        local |= (usual[l] ^ hp->layer[l]) & FJ_LAYER_LOCAL;
    }
    bool counted = fj_arch_has(arch, offsetof(fj_hparams, full_layers)) ||
                   fj_arch_has(arch, offsetof(fj_hparams, local_every));
    if (hp->window && (local || counted))
        fj_gguf_put(w, &(fj_gguf_kv){ .key = arch_key(a, arch, "attention.sliding_window_pattern"),
                                      .type = FJ_GGUF_BOOL,
                                      .array = true,
                                      .n = (size_t)hp->layers,
                                      .data = locals });
    return true;
}

static double readers_take(const fj_hp_row *r) { return r->gguf_def > 0 ? r->gguf_def : r->def; }

/* A number of the mathematics that GGUF has no key for and that is not what its readers take. */
static bool unsaid(const fj_hparams *hp, const fj_hp_row *r) {
    static const size_t fields[] = { offsetof(fj_hparams, glu_alpha),
                                     offsetof(fj_hparams, glu_limit),
                                     offsetof(fj_hparams, norm_topk) };
    for (size_t i = 0; i < FJ_LEN(fields); i++)
        if (r->offset == fields[i]) return value_of(hp, r) != readers_take(r);
    return false;
}

bool fj_hparams_to_gguf(const fj_arch *arch, const fj_hparams *hp, fj_gguf_writer *w, fj_err *e) {
    fj_arena a = { 0 };
    for (int i = 0; i < arch->n_hp; i++) {
        const fj_hp_row *row = &arch->hp[i];
        double v = value_of(hp, row);
        /* "None" is said by leaving it out. */
        if (!row->gguf || (v == 0 && !row->required && row->type != FJ_HP_BOOL)) continue;
        const char *key = arch_key(&a, arch, row->gguf + 3); /* "%s.x" */
        if (row->type == FJ_HP_INT) fj_gguf_put_u32(w, key, (uint32_t)v);
        if (row->type == FJ_HP_FLOAT) fj_gguf_put_f32(w, key, (float)v);
        if (row->type == FJ_HP_BOOL) fj_gguf_put_bool(w, key, v != 0);
    }
    if (fj_arch_has(arch, offsetof(fj_hparams, head_dim)))
        fj_gguf_put_u32(w, arch_key(&a, arch, "attention.value_length"), (uint32_t)hp->head_dim);
    bool ok = rope_to_gguf(arch, hp, w, &a, e) && layers_to_gguf(arch, hp, w, &a, e);
    for (int i = 0; ok && i < arch->n_hp; i++)
        if (unsaid(hp, &arch->hp[i]))
            ok = fj_fail(e, FJ_EUNSUP,
                         "GGUF cannot say that %s is %g for %s (readers take %g): save a Hugging "
                         "Face folder",
                         arch->hp[i].hf, value_of(hp, &arch->hp[i]), arch->name,
                         readers_take(&arch->hp[i]));
    fj_arena_free(&a);
    return ok;
}

static float *copied(const float *v, int64_t n) {
    float *f = fj_alloc((size_t)n * sizeof *f);
    memcpy(f, v, (size_t)n * sizeof *f);
    return f;
}

int fj_hparams_rope_tables(const fj_hparams *hp, fj_rope_file out[2]) {
    const fj_rope_hp *r = &hp->rope;
    int64_t half = r->dims / 2;
    if (r->kind == FJ_ROPE_LONGROPE) {
        out[0] = (fj_rope_file){ "rope_factors_long.weight", copied(r->long_factor, half) };
        out[1] = (fj_rope_file){ "rope_factors_short.weight", copied(r->short_factor, half) };
        return 2;
    }
    if (r->kind != FJ_ROPE_LLAMA3 && !r->divisors) return 0;
    /* llama3 scaling is a table of divisors in GGUF. */
    float *f = fj_alloc((size_t)half * 2 * sizeof *f);
    double s;
    fj_rope_hp plain = *r;
    plain.kind = FJ_ROPE_PLAIN;
    plain.divisors = NULL;
    fj_rope_freqs(hp, r, 1, f, &s);
    fj_rope_freqs(hp, &plain, 1, f + half, &s);
    for (int64_t i = 0; i < half; i++) f[i] = f[half + i] / f[i];
    out[0] = (fj_rope_file){ "rope_freqs.weight", f };
    return 1;
}

/* ---- config.json --------------------------------------------------------------------------------- */
static json_t *numbers(const float *v, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_real((double)v[i]));
    return list;
}

static json_t *rope_json(const fj_rope_hp *r) {
    static const char *const names[] = { "default", "linear", "dynamic",
                                         "llama3",  "yarn",   "longrope" };
    if (r->kind == FJ_ROPE_PLAIN || r->kind == FJ_ROPE_NONE) return json_null();
    json_t *o = json_pack("{s:s}", "rope_type", names[r->kind]);
    /* Phi-3's own code looks for "type". */
    if (r->kind == FJ_ROPE_LONGROPE) json_object_set_new(o, "type", json_string("longrope"));
    if (r->factor > 0) json_object_set_new(o, "factor", json_real(r->factor));
    if (r->kind == FJ_ROPE_LLAMA3) {
        json_object_set_new(o, "low_freq_factor", json_real(r->low));
        json_object_set_new(o, "high_freq_factor", json_real(r->high));
    }
    if (r->original)
        json_object_set_new(o, "original_max_position_embeddings", json_integer(r->original));
    if (r->kind == FJ_ROPE_LONGROPE) {
        json_object_set_new(o, "short_factor", numbers(r->short_factor, r->dims / 2));
        json_object_set_new(o, "long_factor", numbers(r->long_factor, r->dims / 2));
    }
    if (r->kind == FJ_ROPE_YARN) {
        json_object_set_new(o, "beta_fast", json_real(r->beta_fast));
        json_object_set_new(o, "beta_slow", json_real(r->beta_slow));
        json_object_set_new(o, "truncate", json_boolean(r->truncate));
        if (r->mscale > 0) json_object_set_new(o, "mscale", json_real(r->mscale));
        if (r->mscale_all_dim > 0)
            json_object_set_new(o, "mscale_all_dim", json_real(r->mscale_all_dim));
    }
    if (r->attention_factor > 0)
        json_object_set_new(o, "attention_factor", json_real(r->attention_factor));
    return o;
}

static void put_layers(json_t *o, const fj_arch *arch, const fj_hparams *hp) {
    uint8_t usual[FJ_MAX_LAYERS];
    fj_default_layers(arch, hp, usual);
    uint8_t differs = 0;
    for (int64_t l = 0; l < hp->layers; l++) differs |= usual[l] ^ hp->layer[l];
    json_t *types = json_array(), *turned = json_array(), *dense = json_array();
    for (int64_t l = 0; l < hp->layers; l++) {
        uint8_t b = hp->layer[l];
        json_array_append_new(
            types, json_string(b & FJ_LAYER_LOCAL ? "sliding_attention" : "full_attention"));
        json_array_append_new(turned, json_integer(b & FJ_LAYER_NO_ROPE ? 0 : 1));
        if (b & FJ_LAYER_DENSE) json_array_append_new(dense, json_integer(l));
    }
    if (differs & FJ_LAYER_LOCAL) json_object_set(o, "layer_types", types);
    if (differs & FJ_LAYER_NO_ROPE) json_object_set(o, "no_rope_layers", turned);
    if (differs & FJ_LAYER_DENSE) json_object_set(o, "mlp_only_layers", dense);
    json_decref(types);
    json_decref(turned);
    json_decref(dense);
}

json_t *fj_hparams_to_config(const fj_arch *arch, const fj_hparams *hp, fj_err *e) {
    if (hp->rope.divisors) {
        fj_fail(e, FJ_EUNSUP, "rope_freqs.weight is nothing that config.json can say: save GGUF");
        return NULL;
    }
    fj_arena a = { 0 };
    json_t *o =
        json_pack("{s:[s], s:s}", "architectures", arch->hf_class, "model_type", arch->hf_type);
    json_object_set_new(o, arch->act_key, json_stringn(arch->acts, strcspn(arch->acts, "|")));
    for (int i = 0; i < arch->n_hp; i++) {
        const fj_hp_row *row = &arch->hp[i];
        if (!row->hf) continue;
        const char *key = fj_arena_strndup(&a, row->hf, strcspn(row->hf, "|"));
        double v = value_of(hp, row);
        json_t *j = row->type == FJ_HP_INT     ? json_integer((json_int_t)v)
                    : row->type == FJ_HP_FLOAT ? json_real(v)
                                               : json_boolean(v != 0);
        /* 0 is "none" where something else would be taken for a missing key, or where none is usual. */
        if (v == 0 && !row->required && row->type != FJ_HP_BOOL) {
            json_decref(j);
            j = json_null();
        }
        json_object_set_new(o, key, j);
    }
    for (const char *const *f = arch->fixed; f && *f; f++) {
        size_t n;
        const char *value = fj_fixed_value(*f, &n);
        json_object_set_new(o, fj_arena_strndup(&a, *f, n),
                            json_loads(value, JSON_DECODE_ANY, NULL));
    }
    put_layers(o, arch, hp);
    if (hp->rope.kind != FJ_ROPE_NONE) json_object_set_new(o, "rope_scaling", rope_json(&hp->rope));
    fj_arena_free(&a);
    return o;
}
