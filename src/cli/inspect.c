/* inspect.c - files of several kinds into one description. */
#include "cli/inspect.h"
#include "base/fs.h"
#include "cli/term.h"
#include "formats/gguf.h"
#include "formats/hf.h"
#include "formats/safetensors.h"
#include "models/templates.h"
#include <errno.h>
#include <math.h>

#define JSON_MAX ((size_t)256 << 20) /* tokenizer.json of large vocabularies has tens of MB */

/* Keys come out of files as well; a key that is not UTF-8 is mended as a value is. */
static void put(json_t *o, const char *key, json_t *v) {
    if (!v) v = json_null();
    json_t *k = fj_json_text(key, strlen(key));
    json_object_set_new(o, json_string_value(k), v);
    json_decref(k);
}

static void put_str(json_t *o, const char *key, const char *v) {
    if (v) put(o, key, fj_json_text(v, strlen(v)));
}

/* JSON has no NaN and no infinity. */
static json_t *number(double v) {
    if (isfinite(v)) return json_real(v);
    return json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

/* ---- tensors ------------------------------------------------------------------------------------ */

typedef struct total {
    const char *format;
    int64_t tensors, parameters, bytes;
} total;

typedef struct tally {
    json_t *list;
    total *by;
    size_t n, cap;
} tally;

/* dim: n values, rows first. */
static void add_tensor(tally *t, const char *name, const char *format, int n, const int64_t *dim,
                       int64_t bytes) {
    json_t *o = json_object(), *shape = json_array();
    int64_t count = 1;
    for (int i = 0; i < n; i++) {
        json_array_append_new(shape, json_integer(dim[i]));
        if (__builtin_mul_overflow(count, dim[i], &count)) count = INT64_MAX;
    }
    put_str(o, "name", name);
    put_str(o, "format", format);
    put(o, "shape", shape);
    put(o, "bytes", bytes < 0 ? json_null() : json_integer(bytes));
    json_array_append_new(t->list, o);
    size_t i = 0;
    while (i < t->n && strcmp(t->by[i].format, format)) i++;
    if (i == t->n) {
        FJ_GROW(t->by, t->n + 1, t->cap);
        t->by[t->n++] = (total){ .format = format };
    }
    total *s = &t->by[i];
    s->tensors++;
    if (__builtin_add_overflow(s->parameters, count, &s->parameters)) s->parameters = INT64_MAX;
    if (bytes > 0 && __builtin_add_overflow(s->bytes, bytes, &s->bytes)) s->bytes = INT64_MAX;
}

static int larger(const void *a, const void *b) {
    const total *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return strcmp(x->format, y->format);
}

static json_t *one_total(const total *s) {
    json_t *o = json_object();
    put_str(o, "format", s->format);
    put(o, "tensors", json_integer(s->tensors));
    put(o, "parameters", json_integer(s->parameters));
    put(o, "bytes", json_integer(s->bytes));
    return o;
}

/* Frees the tally; the list goes into the description. */
static void put_totals(json_t *doc, tally *t) {
    total all = { .format = "all" };
    json_t *formats = json_array();
    qsort(t->by, t->n, sizeof *t->by, larger);
    for (size_t i = 0; i < t->n; i++) {
        all.tensors += t->by[i].tensors;
        if (__builtin_add_overflow(all.parameters, t->by[i].parameters, &all.parameters))
            all.parameters = INT64_MAX;
        all.bytes += t->by[i].bytes;
        json_array_append_new(formats, one_total(&t->by[i]));
    }
    json_t *o = one_total(&all);
    json_object_del(o, "format");
    double bits = all.parameters ? 8.0 * (double)all.bytes / (double)all.parameters : 0;
    put(o, "bits_per_weight", json_real(floor(bits * 1000 + 0.5) / 1000));
    put(o, "formats", formats);
    put(doc, "totals", o);
    put(doc, "tensors", t->list);
    free(t->by);
    *t = (tally){ 0 };
}

/* ---- GGUF --------------------------------------------------------------------------------------- */

static json_t *gguf_value(const fj_gguf_kv *k, size_t i) {
    if (k->str) return fj_json_text(k->str[i].s, k->str[i].n);
    switch (k->type) {
    case FJ_GGUF_U8: return json_integer(((const uint8_t *)k->data)[i]);
    case FJ_GGUF_I8: return json_integer(((const int8_t *)k->data)[i]);
    case FJ_GGUF_U16: return json_integer(((const uint16_t *)k->data)[i]);
    case FJ_GGUF_I16: return json_integer(((const int16_t *)k->data)[i]);
    case FJ_GGUF_U32: return json_integer(((const uint32_t *)k->data)[i]);
    case FJ_GGUF_I32: return json_integer(((const int32_t *)k->data)[i]);
    case FJ_GGUF_I64: return json_integer(((const int64_t *)k->data)[i]);
    case FJ_GGUF_F32: return number(((const float *)k->data)[i]);
    case FJ_GGUF_F64: return number(((const double *)k->data)[i]);
    case FJ_GGUF_BOOL: return json_boolean(((const uint8_t *)k->data)[i]);
    case FJ_GGUF_U64: {
        uint64_t v = ((const uint64_t *)k->data)[i];
        return v > INT64_MAX ? json_real((double)v) : json_integer((json_int_t)v);
    }
    default: return json_null();
    }
}

/* A whole vocabulary is nothing to read: lists keep their first values and say how many there are. */
static json_t *gguf_kv(const fj_gguf_kv *k) {
    enum { FEW = 8 };
    if (!k->array) return gguf_value(k, 0);
    json_t *list = json_array();
    for (size_t i = 0; i < k->n && i < FEW; i++) json_array_append_new(list, gguf_value(k, i));
    if (k->n <= FEW) return list;
    json_t *o = json_object();
    put_str(o, "list_of", fj_gguf_type_name(k->type));
    put(o, "length", json_integer((json_int_t)k->n));
    put(o, "first", list);
    return o;
}

static void gguf_string(json_t *doc, const fj_gguf *g, const char *key, const char *as) {
    const fj_gguf_kv *k = fj_gguf_find(g, key);
    if (k && k->type == FJ_GGUF_STR && !k->array) put(doc, as, gguf_value(k, 0));
}

/* Every "tokenizer.ggml.X" as X, lists by their length. */
static json_t *gguf_tokenizer(const fj_gguf *g) {
    static const char at[] = "tokenizer.ggml.";
    json_t *o = json_object();
    for (size_t i = 0; i < g->n_kv; i++) {
        const fj_gguf_kv *k = &g->kv[i];
        if (strncmp(k->key, at, sizeof at - 1)) continue;
        const char *name = k->key + sizeof at - 1;
        if (k->array) put(o, name, json_integer((json_int_t)k->n));
        else put(o, name, gguf_value(k, 0));
    }
    if (fj_gguf_find(g, "tokenizer.chat_template")) put(o, "chat_template", json_true());
    return o;
}

static void put_object(json_t *doc, const char *key, json_t *o) {
    if (json_object_size(o)) put(doc, key, o);
    else json_decref(o);
}

static json_t *inspect_gguf(const char *path, fj_err *e) {
    fj_gguf *g = fj_gguf_open(path, e);
    if (!g) return NULL;
    json_t *doc = json_object(), *hyper = json_object(), *adapter = json_object(),
           *meta = json_object();
    const char *type = "", *arch = "";
    fj_gguf_string_opt(g, "general.type", &type, NULL);
    fj_gguf_string_opt(g, "general.architecture", &arch, NULL);
    bool is_adapter = !strcmp(type, "adapter");
    put_str(doc, "path", path);
    put_str(doc, "kind",
            is_adapter      ? "GGUF adapter"
            : !g->n_tensors ? "GGUF vocabulary"
                            : "GGUF model");
    put(doc, "gguf_version", json_integer(g->version));
    if (g->n_files > 1) {
        json_t *files = json_array();
        for (size_t i = 0; i < g->n_files; i++)
            json_array_append_new(files, fj_json_text(g->files[i], strlen(g->files[i])));
        put(doc, "files", files);
    }
    put(doc, "size_bytes", json_integer((json_int_t)g->file_bytes));
    put(doc, "alignment", json_integer(g->alignment));
    gguf_string(doc, g, "general.architecture", "architecture");
    gguf_string(doc, g, "general.name", "name");
    for (size_t i = 0; i < g->n_kv; i++) {
        const fj_gguf_kv *k = &g->kv[i];
        size_t n = strlen(arch);
        if (n && !strncmp(k->key, arch, n) && k->key[n] == '.')
            put(hyper, k->key + n + 1, gguf_kv(k));
        else if (!strncmp(k->key, "adapter.", 8)) put(adapter, k->key + 8, gguf_kv(k));
        put(meta, k->key, gguf_kv(k));
    }
    put_object(doc, "hyper_parameters", hyper);
    put_object(doc, "adapter", adapter);
    put_object(doc, "tokenizer", gguf_tokenizer(g));
    tally t = { .list = json_array() };
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_gguf_tensor *x = &g->tensors[i];
        int64_t dim[4];
        for (int d = 0; d < x->n_dims; d++) dim[d] = x->dim[x->n_dims - 1 - d];
        add_tensor(&t, x->name, x->type_name, x->n_dims, dim, x->bytes);
    }
    put_totals(doc, &t);
    put(doc, "metadata", meta);
    fj_gguf_close(g);
    return doc;
}

/* ---- safetensors, folders ----------------------------------------------------------------------- */

static bool put_weights(json_t *doc, const char *path, fj_err *e) {
    fj_st *s = fj_st_open(path, e);
    if (!s) return false;
    json_t *files = json_array();
    int64_t bytes = 0;
    for (size_t i = 0; i < s->n_files; i++) {
        int64_t n = fj_file_size(s->files[i]);
        bytes += FJ_MAX(n, 0);
        json_array_append_new(files, fj_json_text(s->files[i], strlen(s->files[i])));
    }
    put(doc, "files", files);
    put(doc, "size_bytes", json_integer(bytes));
    tally t = { .list = json_array() };
    for (size_t i = 0; i < s->n_tensors; i++) {
        const fj_st_tensor *x = &s->tensors[i];
        add_tensor(&t, x->name, x->type_name, x->n_dims, x->dim, x->bytes);
    }
    /* Totals point into s for the names of formats: finish before closing. */
    put_totals(doc, &t);
    fj_st_close(s);
    return true;
}

static json_t *finish(json_t *doc, bool ok) {
    if (ok) return doc;
    json_decref(doc);
    return NULL;
}

static json_t *inspect_safetensors(const char *path, fj_err *e) {
    json_t *doc = json_object();
    put_str(doc, "path", path);
    put_str(doc, "kind", "safetensors");
    return finish(doc, put_weights(doc, path, e));
}

/* config.json holds what transformers needs; the numbers and words of its top are what people ask. */
static json_t *simple_values(const json_t *from) {
    json_t *o = json_object(), *v;
    const char *key;
    json_object_foreach((json_t *)from, key, v) {
        if (!json_is_null(v) && strcmp(key, "architectures")) json_object_set(o, key, v);
    }
    return o;
}

/* Special tokens are strings or objects with "content". */
static void special_token(json_t *o, const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (json_is_string(v)) json_object_set(o, key, (json_t *)v);
}

static bool hf_tokenizer(json_t *o, const fj_hf *h, fj_err *e) {
    if (h->tokenizer_config) {
        static const char *const keys[] = { "bos_token", "eos_token", "unk_token", "pad_token" };
        json_t *cls = json_object_get(h->tokenizer_config, "tokenizer_class");
        if (json_is_string(cls)) json_object_set(o, "class", cls);
        for (size_t i = 0; i < FJ_LEN(keys); i++) special_token(o, h->tokenizer_config, keys[i]);
    }
    fj_templates own = { 0 };
    bool read = fj_templates_of_folder(&own, h->dir, e);
    if (read && own.n) put(o, "chat_template", json_true());
    fj_templates_free(&own);
    if (!read) return false;
    if (!h->has_tokenizer) return true;
    size_t n;
    char *text = fj_hf_load(h, "tokenizer.json", &n, e);
    json_t *t = text ? fj_json_parse(text, n, "tokenizer.json", e) : NULL;
    free(text);
    if (!t) return false;
    json_t *model = fj_js_find(t, "model"), *vocab = fj_js_find(t, "model.vocab");
    json_t *type = model ? fj_js_find(model, "type") : NULL;
    if (json_is_string(type)) json_object_set(o, "model", type);
    if (json_is_object(vocab)) put(o, "tokens", json_integer((json_int_t)json_object_size(vocab)));
    if (json_is_array(vocab)) put(o, "tokens", json_integer((json_int_t)json_array_size(vocab)));
    put(o, "merges", json_integer((json_int_t)json_array_size(fj_js_find(t, "model.merges"))));
    put(o, "added_tokens",
        json_integer((json_int_t)json_array_size(fj_js_find(t, "added_tokens"))));
    json_decref(t);
    return true;
}

static json_t *inspect_hf(const char *dir, fj_err *e) {
    fj_hf *h = fj_hf_open(dir, e);
    if (!h) return NULL;
    json_t *doc = json_object(), *tok = json_object();
    put_str(doc, "path", dir);
    put_str(doc, "kind", "Hugging Face folder");
    json_t *arch = json_array_get(json_object_get(h->config, "architectures"), 0);
    if (!json_is_string(arch)) arch = json_object_get(h->config, "model_type");
    if (json_is_string(arch)) json_object_set(doc, "architecture", arch);
    put_object(doc, "hyper_parameters", simple_values(h->config));
    bool ok = hf_tokenizer(tok, h, e);
    put_object(doc, "tokenizer", tok);
    if (h->generation) put(doc, "generation", json_deep_copy(h->generation));
    if (ok && h->has_weights) ok = put_weights(doc, dir, e);
    fj_hf_close(h);
    return finish(doc, ok);
}

static json_t *inspect_peft(const char *dir, const char *config, fj_err *e) {
    json_t *c = fj_json_file(config, JSON_MAX, e);
    if (!c) return NULL;
    json_t *doc = json_object(), *shown = json_object(), *v;
    put_str(doc, "path", dir);
    put_str(doc, "kind", "PEFT adapter");
    v = json_object_get(c, "base_model_name_or_path");
    if (json_is_string(v)) json_object_set(doc, "base", v);
    const char *key;
    json_object_foreach(c, key, v) {
        bool empty = (json_is_object(v) && !json_object_size(v)) ||
                     (json_is_array(v) && !json_array_size(v));
        if (!json_is_null(v) && !empty && strcmp(key, "base_model_name_or_path"))
            json_object_set(shown, key, v);
    }
    put_object(doc, "adapter", shown);
    json_decref(c);
    char *weights = fj_path_join(dir, "adapter_model.safetensors");
    bool ok = put_weights(doc, weights, e);
    free(weights);
    return finish(doc, ok);
}

/* A checkpoint of a run: the tensors of state.safetensors and the small state beside them.  Its hashes
 * are not checked here: that reads every byte, and is what resuming does. */
static json_t *inspect_checkpoint(const char *dir, const char *weights, fj_err *e) {
    char *manifest = fj_path_join(dir, "manifest.json");
    json_t *m = fj_json_file(manifest, JSON_MAX, e);
    free(manifest);
    if (!m) return NULL;
    json_t *doc = json_object(), *shown = json_object();
    put_str(doc, "path", dir);
    put_str(doc, "kind", "checkpoint");
    json_t *step = json_object_get(m, "step");
    if (json_is_integer(step)) json_object_set(shown, "step", step);
    json_decref(m);
    fj_st *s = fj_st_open(weights, e);
    bool ok = s != NULL;
    const char *state = ok ? fj_st_meta(s, "forja") : NULL, *key;
    json_t *all = state ? fj_json_parse(state, strlen(state), weights, e) : NULL, *v;
    ok = ok && (!state || all);
    json_object_foreach(all, key, v) {
        if (!json_is_object(v) && !json_is_array(v)) json_object_set(shown, key, v);
    }
    json_decref(all);
    fj_st_close(s);
    put_object(doc, "checkpoint", shown);
    return finish(doc, ok && put_weights(doc, weights, e));
}

/* ---- which kind --------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static json_t *inspect_dir(const char *dir, fj_err *e) {
    /* What a kind is known by: a checkpoint of an adapter has the adapter's files as well. */
    static const char *const sign[] = { "state.safetensors", "adapter_config.json", "config.json",
                                        "model.safetensors", FJ_ST_INDEX };
    for (size_t i = 0; i < FJ_LEN(sign); i++) {
        char *path = fj_path_join(dir, sign[i]);
        bool there = fj_exists(path);
        json_t *doc = NULL;
        if (there)
            doc = i == 0   ? inspect_checkpoint(dir, path, e)
                  : i == 1 ? inspect_peft(dir, path, e)
                  : i == 2 ? inspect_hf(dir, e)
                           : inspect_safetensors(dir, e);
        free(path);
        if (there) return doc;
    }
    fj_fail(
        e, FJ_EFORMAT,
        "%s: a folder without config.json, adapter_config.json and model.safetensors; expected a "
        "Hugging Face model, a PEFT adapter or a checkpoint",
        dir);
    return NULL;
}

json_t *fj_inspect(const char *path, fj_err *e) {
    if (fj_is_dir(path)) return inspect_dir(path, e);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fj_fail_errno(e, "cannot open %s", path);
        return NULL;
    }
    unsigned char head[9] = { 0 };
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (!memcmp(head, "GGUF", 4) || ends_with(path, ".gguf")) return inspect_gguf(path, e);
    if ((n == 9 && head[8] == '{' && !head[6] && !head[7]) || ends_with(path, ".safetensors") ||
        ends_with(path, ".index.json"))
        return inspect_safetensors(path, e);
    fj_fail(e, FJ_EFORMAT, "%s: neither a GGUF nor a safetensors file (its first bytes say so)",
            path);
    return NULL;
}
