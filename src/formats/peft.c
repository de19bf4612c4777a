/* peft.c - adapter_config.json.  Keys and defaults: peft/src/peft/tuners/lora/config.py. */
#include "formats/peft.h"

#include "base/fs.h"
#include "formats/hf.h"
#include "formats/json.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_CONFIG = 4 << 20, MAX_RANK = 1 << 16 };

/* Read below, or without influence on what a saved adapter computes. */
static const char *const known[] = {
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "target_parameters",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "init_lora_weights",
    "inference_mode",
    "revision",
    "auto_mapping",
    "peft_version",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
    "megatron_config",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "ensure_weight_tying",
    "runtime_config",
};

static bool is_known(const char *key) {
    for (size_t i = 0; i < FJ_LEN(known); i++)
        if (!strcmp(key, known[i])) return true;
    return false;
}

/* null, false, "", [] and {} all say "not used". */
static bool unused(const json_t *j) {
    return json_is_null(j) || json_is_false(j) || (json_is_array(j) && !json_array_size(j)) ||
           (json_is_object(j) && !json_object_size(j)) ||
           (json_is_string(j) && !*json_string_value(j));
}

/* How the matrices were initialised does not matter any more, unless that changed the base as
 * well. */
static bool init_is_fine(const json_t *j) {
    static const char *const fine[] = { "gaussian", "eva", "orthogonal" };
    const char *s = json_string_value(j);
    if (!s) return true;
    for (size_t i = 0; i < FJ_LEN(fine); i++)
        if (!strcmp(s, fine[i])) return true;
    return false;
}

static bool refuse(const char *path, json_t *j, fj_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach(j, key, v) {
        if (is_known(key) || unused(v)) continue;
        return fj_fail(e, FJ_EUNSUP,
                       "%s: %s is set, which changes what the adapter computes and is not "
                       "supported",
                       path, key);
    }
    const char *type = "LORA", *bias = "none";
    if (!fj_js_string(j, path, "peft_type", &type, e)) return false;
    if (strcmp(type, "LORA"))
        return fj_fail(e, FJ_EUNSUP, "%s: peft_type is %s, only LORA is supported", path, type);
    if (!fj_js_string_opt(j, path, "bias", &bias, e)) return false;
    if (strcmp(bias, "none"))
        return fj_fail(e, FJ_EUNSUP, "%s: bias is %s, only \"none\" is supported", path, bias);
    v = json_object_get(j, "init_lora_weights");
    if (!init_is_fine(v))
        return fj_fail(e, FJ_EUNSUP,
                       "%s: init_lora_weights is %s, which changes the base model too: "
                       "convert the adapter to a plain LoRA with PEFT first",
                       path, json_string_value(v));
    return true;
}

static bool read_pattern(const char *path, const json_t *j, const char *key, bool whole,
                         const fj_peft_pattern **out, size_t *n, fj_arena *mem, fj_err *e) {
    json_t *o = json_object_get(j, key), *v;
    const char *full;
    *n = 0;
    if (!o || json_is_null(o)) return true;
    if (!json_is_object(o))
        return fj_fail(e, FJ_EFORMAT, "%s: %s is %s, expected an object", path, key,
                       fj_json_kind(o));
    fj_peft_pattern *p = fj_arena_alloc(mem, json_object_size(o) * sizeof *p);
    json_object_foreach(o, full, v) {
        /* PEFT writes its own patterns of experts so; an end of the path is what it means. */
        const char *name = strncmp(full, ".*\\.", 4) ? full : full + 4;
        fj_err why = { 0 };
        if (!fj_peft_name_ok(name, key, &why))
            return fj_fail(e, FJ_EFORMAT, "%s: %s", path, why.msg);
        double x = json_number_value(v);
        if (!json_is_number(v) || !(x > 0) || !isfinite(x) ||
            (whole && (x != floor(x) || x > MAX_RANK)))
            return fj_fail(e, FJ_EFORMAT, "%s: %s of %s is not a positive%s number", path, key,
                           name, whole ? " whole" : "");
        p[(*n)++] = (fj_peft_pattern){ fj_arena_strdup(mem, name), x };
    }
    *out = p;
    return true;
}

static bool read_names(const char *path, const json_t *j, const char *key, const char *const **out,
                       size_t *n, fj_arena *mem, fj_err *e) {
    const json_t *t = json_object_get(j, key);
    if (!t || json_is_null(t)) return true;
    if (!json_is_array(t))
        return fj_fail(e, FJ_EFORMAT, "%s: %s is %s, expected a list", path, key, fj_json_kind(t));
    const char **s = fj_arena_alloc(mem, json_array_size(t) * sizeof *s);
    for (size_t i = 0; i < json_array_size(t); i++) {
        const char *name = json_string_value(json_array_get(t, i));
        if (!name)
            return fj_fail(e, FJ_EFORMAT, "%s: %s has an entry that is no string", path, key);
        s[i] = fj_arena_strdup(mem, name);
    }
    *out = s;
    *n = json_array_size(t);
    return true;
}

static bool read_targets(const char *path, const json_t *j, fj_peft_config *c, fj_arena *mem,
                         fj_err *e) {
    const json_t *t = json_object_get(j, "target_modules");
    if (t && !json_is_null(t) && !json_is_string(t) && !json_is_array(t))
        return fj_fail(e, FJ_EFORMAT, "%s: target_modules is %s, expected a list or a string", path,
                       fj_json_kind(t));
    if (json_is_string(t)) c->target_pattern = fj_arena_strdup(mem, json_string_value(t));
    else if (!read_names(path, j, "target_modules", &c->targets, &c->n_targets, mem, e))
        return false;
    return read_names(path, j, "target_parameters", &c->params, &c->n_params, mem, e);
}

static bool read_config(const char *path, const json_t *j, fj_peft_config *c, fj_arena *mem,
                        fj_err *e) {
    const char *base = NULL, *task = NULL;
    if (!fj_js_int(j, path, "r", &c->r, e)) return false;
    if (c->r < 1 || c->r > MAX_RANK)
        return fj_fail(e, FJ_EFORMAT, "%s: r is %" PRId64 ", expected 1..%d", path, c->r, MAX_RANK);
    if (!fj_js_float(j, path, "lora_alpha", &c->alpha, e) ||
        !fj_js_float_opt(j, path, "lora_dropout", &c->dropout, e) ||
        !fj_js_bool_opt(j, path, "use_rslora", &c->rslora, e) ||
        !fj_js_string_opt(j, path, "base_model_name_or_path", &base, e) ||
        !fj_js_string_opt(j, path, "task_type", &task, e))
        return false;
    if (!(c->dropout >= 0 && c->dropout < 1))
        return fj_fail(e, FJ_EFORMAT, "%s: lora_dropout is %g, expected 0 <= x < 1", path,
                       c->dropout);
    if (base) c->base_model = fj_arena_strdup(mem, base);
    if (task) c->task_type = fj_arena_strdup(mem, task);
    return read_targets(path, j, c, mem, e) &&
           read_pattern(path, j, "rank_pattern", true, &c->rank_pattern, &c->n_rank_pattern, mem,
                        e) &&
           read_pattern(path, j, "alpha_pattern", false, &c->alpha_pattern, &c->n_alpha_pattern,
                        mem, e);
}

bool fj_peft_config_read(const char *path, fj_peft_config *c, fj_arena *mem, fj_err *e) {
    *c = (fj_peft_config){ 0 };
    json_t *j = fj_json_file(path, MAX_CONFIG, e);
    bool ok = j && refuse(path, j, e) && read_config(path, j, c, mem, e);
    json_decref(j);
    return ok;
}

/* ---- writing --------------------------------------------------------------------------------- */
static json_t *string_or_null(const char *s) { return s ? json_string(s) : json_null(); }

/* 16, not 16.0, where PEFT users write an integer. */
static json_t *number(double x) {
    return x == floor(x) && fabs(x) < 1e15 ? json_integer((json_int_t)x) : json_real(x);
}

static json_t *pattern(const fj_peft_pattern *p, size_t n) {
    json_t *o = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(o, p[i].module, number(p[i].value));
    return o;
}

static json_t *names(const char *const *v, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; v && i < n; i++) json_array_append_new(list, json_string(v[i]));
    return list;
}

bool fj_peft_config_write(const char *path, const fj_peft_config *c, fj_err *e) {
    json_t *targets = c->targets || c->params ? names(c->targets, c->n_targets)
                                              : string_or_null(c->target_pattern);
    const struct {
        const char *key;
        json_t *value;
    } keys[] = {
        { "alpha_pattern", pattern(c->alpha_pattern, c->n_alpha_pattern) },
        { "auto_mapping", json_null() },
        { "base_model_name_or_path", string_or_null(c->base_model) },
        { "bias", json_string("none") },
        { "exclude_modules", json_null() },
        { "fan_in_fan_out", json_false() },
        { "inference_mode", json_true() },
        { "init_lora_weights", json_true() },
        { "layer_replication", json_null() },
        { "layers_pattern", json_null() },
        { "layers_to_transform", json_null() },
        { "loftq_config", json_object() },
        { "lora_alpha", number(c->alpha) },
        { "lora_bias", json_false() },
        { "lora_dropout", json_real(c->dropout) },
        { "megatron_config", json_null() },
        { "megatron_core", json_string("megatron.core") },
        { "modules_to_save", json_null() },
        { "peft_type", json_string("LORA") },
        { "r", json_integer(c->r) },
        { "rank_pattern", pattern(c->rank_pattern, c->n_rank_pattern) },
        { "revision", json_null() },
        { "target_modules", targets },
        { "target_parameters", c->params ? names(c->params, c->n_params) : json_null() },
        { "task_type", string_or_null(c->task_type) },
        { "use_dora", json_false() },
        { "use_rslora", json_boolean(c->rslora) },
    };
    json_t *j = json_object();
    bool ok = true;
    for (size_t i = 0; i < FJ_LEN(keys); i++)
        if (json_object_set_new(j, keys[i].key, keys[i].value) != 0)
            ok = fj_fail(e, FJ_EINVAL, "%s: the value of %s is not UTF-8", path, keys[i].key);
    ok = ok && fj_json_save(path, j, e);
    json_decref(j);
    return ok;
}

/* ---- patterns -------------------------------------------------------------------------------- */
/* The first that matches wins. */
static bool match(const fj_peft_pattern *p, size_t n, const char *module, double *v) {
    for (size_t i = 0; i < n; i++)
        if (fj_peft_ends(p[i].module, module)) {
            *v = p[i].value;
            return true;
        }
    return false;
}

int64_t fj_peft_rank(const fj_peft_config *c, const char *module) {
    double r;
    return match(c->rank_pattern, c->n_rank_pattern, module, &r) ? (int64_t)r : c->r;
}

double fj_peft_scale(const fj_peft_config *c, const char *module) {
    double alpha = c->alpha, r = (double)fj_peft_rank(c, module);
    match(c->alpha_pattern, c->n_alpha_pattern, module, &alpha);
    return alpha / (c->rslora ? sqrt(r) : r);
}

/* ---- keys ------------------------------------------------------------------------------------ */
#define PREFIX "base_model.model."

bool fj_peft_key_parse(const char *key, const char **module, size_t *n, char *ab) {
    size_t len = strlen(key), pre = sizeof PREFIX - 1, post = strlen(".lora_A.weight");
    if (len <= pre + post || strncmp(key, PREFIX, pre)) return false;
    const char *tail = key + len - post;
    *ab = tail[6];
    if (strncmp(tail, ".lora_", 6) || (*ab != 'A' && *ab != 'B') || strcmp(tail + 7, ".weight"))
        return false;
    *module = key + pre;
    *n = len - pre - post;
    return true;
}

char *fj_peft_key(const char *module, char ab) {
    fj_str s = { 0 };
    fj_str_addf(&s, PREFIX "%s.lora_%c.weight", module, ab);
    return fj_str_take(&s);
}
