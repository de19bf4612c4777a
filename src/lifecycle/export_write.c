/* export_write.c - the files of an export. */
#include "base/fs.h"
#include "kernels/quant.h"
#include "lifecycle/export_in.h"
#include "lifecycle/ollama.h"
#include "models/reader.h"

#include "eval/run.h"
#include <fnmatch.h>
#include <math.h>
#include <sys/stat.h>

/* ---- types --------------------------------------------------------------------------------------- */
static bool to_gguf_model(const fj_export_job *j) {
    return j->o->to == FJ_EXPORT_GGUF || j->o->to == FJ_EXPORT_OLLAMA;
}

/* "PATTERN=TYPE" apart. */
static bool split_rule(const char *rule, size_t *pattern, fj_dtype *t, fj_err *e) {
    const char *eq = strrchr(rule, '=');
    if (!eq || eq == rule)
        return fj_fail(e, FJ_EINVAL, "\"%s\" gives no tensor a type, wanted PATTERN=TYPE", rule);
    if (!fj_dtype_parse(eq + 1, t) || fj_dtype_get(*t)->gguf < 0 || !fj_quant_can(*t))
        return fj_fail(e, FJ_EINVAL, "\"%s\": tensors cannot be written as %s", rule, eq + 1);
    *pattern = (size_t)(eq - rule);
    return true;
}

static bool rule_for(const fj_export_opts *o, const char *name, fj_dtype *t) {
    for (int i = 0; i < o->n_tensor_types; i++) {
        size_t n = 0;
        if (!split_rule(o->tensor_types[i], &n, t, NULL)) continue;
        fj_str p = { 0 };
        fj_str_addn(&p, o->tensor_types[i], n);
        bool hit = fnmatch(p.s, name, 0) == 0;
        fj_str_free(&p);
        if (hit) return true;
    }
    return false;
}

bool fj_export_type(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    j->type = o->type;
    /* An option that would do nothing is refused. */
    if (o->n_tensor_types && !to_gguf_model(j))
        return fj_fail(e, FJ_EINVAL, "types of tensors (%s) go with a GGUF model",
                       o->tensor_types[0]);
    if (o->max_bytes && o->to != FJ_EXPORT_GGUF && o->to != FJ_EXPORT_HF)
        return fj_fail(e, FJ_EINVAL,
                       "an adapter and an Ollama folder have one file of weights: only gguf and hf "
                       "can be split");
    for (int i = 0; i < o->n_tensor_types; i++) {
        size_t n;
        fj_dtype t;
        if (!split_rule(o->tensor_types[i], &n, &t, e)) return false;
    }
    if (o->to == FJ_EXPORT_ADAPTER || o->to == FJ_EXPORT_GGUF_ADAPTER) {
        if (!j->type) j->type = "adapter";
        else
            return fj_fail(e, FJ_EINVAL,
                           "an adapter is written as it is: type %s goes with a model", j->type);
        return true;
    }
    if (o->to == FJ_EXPORT_HF) {
        fj_dtype t = FJ_F32;
        if (!j->type) {
            t = fj_save_float(j->m, e);
            if (t == FJ_DTYPES) return false;
            j->type = fj_dtype_get(t)->name;
        }
        if (!fj_dtype_parse(j->type, &t) || (t != FJ_F32 && t != FJ_F16 && t != FJ_BF16))
            return fj_fail(
                e, FJ_EINVAL,
                "a Hugging Face folder is written as F32, F16 or BF16, not %s: quantised models are GGUF",
                j->type);
        j->type = fj_dtype_get(t)->name;
        return true;
    }
    if (!j->type) j->type = j->m->source->gguf ? "keep" : "Q8_0";
    j->keep = !strcmp(j->type, "keep");
    if (j->keep) return true;
    j->mix = fj_mix_find(j->type, e);
    if (j->mix) j->type = fj_mix_name(j->mix);
    return j->mix != NULL;
}

/* The same format where a GGUF file has it; else what comes nearest without loss that counts. */
static fj_dtype kept(const fj_saved *t) {
    if (fj_dtype_get(t->from)->gguf >= 0 && t->from != FJ_F64) return t->from;
    return fj_dtype_get(t->from)->block > 1 ? FJ_Q8_0 : FJ_F32;
}

static bool pick(void *ctx, fj_saved *t, fj_err *e) {
    fj_export_job *j = ctx;
    fj_mix_tensor x = { t->name, t->rows, t->cols, t->mats, t->w->layer };
    int64_t n;
    if (rule_for(j->o, t->name, &t->to)) {
    } else if (j->keep) {
        t->to = kept(t);
    } else {
        uint32_t id = fj_mix_type(j->mix, &j->about, &x);
        if (!fj_dtype_from_gguf(id, &t->to))
            return fj_fail(e, FJ_EUNSUP, "%s: there is no format %u here", t->name, id);
        if (!j->im && fj_mix_needs_imatrix(j->mix, &x, id))
            return fj_fail(
                e, FJ_EINVAL,
                "%s as %s would be too bad without an importance matrix: give calibration text or a "
                "matrix (--imatrix)",
                t->name, fj_dtype_get(t->to)->name);
    }
    if ((t->merged || t->to != t->from) && !fj_quant_can(t->to))
        return fj_fail(
            e, FJ_EUNSUP,
            "%s is %s in the base, which can be read but not written with other values: say a type",
            t->name, fj_dtype_get(t->to)->name);
    if (j->im && fj_imatrix_find(j->im, t->name, &n) && n != t->mats * t->cols)
        return fj_fail(
            e, FJ_EFORMAT,
            "%s has %lld columns for %s, the model %lld: the importance matrix is of another model",
            j->imatrix, (long long)n, t->name, (long long)(t->mats * t->cols));
    return true;
}

static const float *importance(void *ctx, const fj_saved *t) {
    fj_export_job *j = ctx;
    int64_t n;
    return j->im ? fj_imatrix_find(j->im, t->name, &n) : NULL;
}

/* ---- the importance matrix ----------------------------------------------------------------------- */
static bool is_matrix(const char *path) {
    size_t n = strlen(path);
    return (n > 5 && !strcmp(path + n - 5, ".gguf")) || (n > 4 && !strcmp(path + n - 4, ".dat"));
}

/* Runs the model, merged where there is an adapter, over the text. */
static bool measure(fj_export_job *j, fj_err *e) {
    fj_model *m = fj_model_open(j->d, j->o->base, NULL, j->o->log, e);
    fj_lora *l = m && j->o->adapter ? fj_lora_open(m, j->o->adapter, e) : NULL;
    fj_chat *chat = NULL;
    bool ok = m && (l || !j->o->adapter) && (!l || fj_model_merge(m, l, e)) &&
              (chat = fj_eval_chat(m, &(fj_eval_opts){ 0 }, e)) && (j->im = fj_imatrix_new(m, e)) &&
              fj_imatrix_add_file(j->im, j->o->imatrix, chat, j->o->imatrix_chunks, j->o->log, e) &&
              fj_imatrix_finish(j->im, e) && fj_imatrix_save(j->im, j->imatrix, e);
    fj_imatrix_close(j->im);
    j->im = NULL;
    fj_chat_close(chat);
    fj_lora_close(l);
    fj_model_close(m);
    return ok;
}

bool fj_export_imatrix(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    if (!o->imatrix) return true;
    if (!to_gguf_model(j))
        return fj_fail(e, FJ_EINVAL, "an importance matrix goes with a quantised GGUF model");
    if (is_matrix(o->imatrix)) {
        j->imatrix = fj_strdup(o->imatrix);
    } else {
        fj_str s = { 0 };
        size_t n = strlen(o->out);
        fj_str_addn(&s, o->out, n > 5 && !strcmp(o->out + n - 5, ".gguf") ? n - 5 : n);
        fj_str_add(&s, ".imatrix.gguf");
        j->imatrix = fj_str_take(&s);
        if (!measure(j, e)) return false;
    }
    return (j->im = fj_imatrix_open(j->imatrix, e)) != NULL;
}

/* ---- the key: what the bytes depend on ----------------------------------------------------------- */
/* Size and time of change stand for the contents of large files. */
static void add_stamp(fj_str *s, const char *path) {
    struct stat st;
    if (stat(path, &st) == 0)
        fj_str_addf(s, "%s %lld %lld.%09ld\n", path, (long long)st.st_size,
                    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void add_folder(fj_str *s, const char *dir) {
    static const char *const names[] = { "config.json",           "tokenizer.json",
                                         "tokenizer_config.json", "tokenizer.model",
                                         "adapter_config.json",   "adapter_model.safetensors" };
    add_stamp(s, dir); /* of a folder: a file was added, replaced or removed */
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        char *p = fj_path_join(dir, names[i]);
        add_stamp(s, p);
        free(p);
    }
}

static void make_key(fj_export_job *j) {
    const fj_export_opts *o = j->o;
    const fj_source *src = j->m->source;
    fj_str s = { 0 };
    fj_str_addf(&s, "forja %s\n%d %s %lld\n", FORJA_VERSION, (int)o->to, j->type,
                (long long)o->max_bytes);
    for (int i = 0; i < o->n_tensor_types; i++) fj_str_addf(&s, "%s\n", o->tensor_types[i]);
    add_folder(&s, o->base);
    for (size_t i = 0; src->gguf && i < src->gguf->n_files; i++) add_stamp(&s, src->gguf->files[i]);
    for (size_t i = 0; src->st && i < src->st->n_files; i++) add_stamp(&s, src->st->files[i]);
    if (o->adapter) add_folder(&s, o->adapter);
    char hex[FJ_SHA256_HEX];
    if (j->imatrix && fj_sha256_file(j->imatrix, hex, NULL)) fj_str_add(&s, hex);
    fj_sha256(s.s, s.n, j->key);
    fj_str_free(&s);
}

/* ---- writing ------------------------------------------------------------------------------------- */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static void wrote(void *ctx, const fj_saved *t) {
    fj_export_job *j = ctx;
    fj_exported_tensor x = { .name = t->name,
                             .from = fj_dtype_get(t->from)->name,
                             .to = fj_dtype_get(t->to)->name,
                             .values = t->mats * t->rows * t->cols,
                             .merged = t->merged,
                             .rms = t->rms,
                             .rmse = t->rmse };
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:b}", "name", x.name, "from", x.from, "to", x.to,
                          "values", (json_int_t)x.values, "merged", x.merged);
    json_object_set_new(o, "rms", number(x.rms));
    json_object_set_new(o, "rmse", number(x.rmse));
    json_array_append_new(j->tensors, o);
    if (j->o->tensor) j->o->tensor(j->o->ctx, &x);
}

/* As llama-quantize leaves it. */
static void more(void *ctx, fj_gguf_writer *w) {
    fj_export_job *j = ctx;
    if (!j->im) return;
    fj_gguf_put_string(w, "quantize.imatrix.file", fj_base_name(j->imatrix));
    if (j->im->n_datasets)
        fj_gguf_put_string(w, "quantize.imatrix.dataset", fj_base_name(j->im->datasets[0]));
    fj_gguf_put_u32(w, "quantize.imatrix.entries_count", (uint32_t)j->im->n);
    fj_gguf_put_u32(w, "quantize.imatrix.chunks_count", j->im->chunks);
}

/* general.file_type of what is kept: the base's own, or that of plain formats. */
static uint32_t kept_file_type(const fj_export_job *j, fj_dtype t) {
    uint32_t v = t == FJ_F32 ? 0 : t == FJ_F16 ? 1 : 32;
    if (j->m->source->gguf)
        (void)fj_gguf_u32_opt(j->m->source->gguf, "general.file_type", &v, NULL);
    return v;
}

static bool write_gguf(fj_export_job *j, fj_err *e) {
    fj_dtype plain = FJ_F16;
    if (j->keep && (plain = fj_save_float(j->m, e)) == FJ_DTYPES) return false;
    const fj_hparams *hp = &j->m->hp;
    j->about = (fj_mix_model){ .arch = j->m->arch->name,
                               .layers = (int)hp->layers,
                               .heads = hp->heads,
                               .kv_heads = hp->kv_heads,
                               .experts = hp->experts,
                               .tied = hp->tied,
                               .imatrix = j->im != NULL };
    fj_save_opts s = { .merge = j->l,
                       .type = plain,
                       .file_type = j->mix ? fj_mix_file_type(j->mix) : kept_file_type(j, plain),
                       .pick = pick,
                       .importance = importance,
                       .wrote = wrote,
                       .more = more,
                       .ctx = j,
                       .key = j->key,
                       .max_bytes = j->o->max_bytes,
                       .log = j->o->log };
    return fj_save_gguf(j->m, j->file, &s, e);
}

static bool write_hf(fj_export_job *j, fj_err *e) {
    fj_save_opts s = { .merge = j->l,
                       .wrote = wrote,
                       .ctx = j,
                       .key = j->key,
                       .max_bytes = j->o->max_bytes,
                       .log = j->o->log };
    return fj_dtype_parse(j->type, &s.type) && fj_save_hf(j->m, j->work, &s, e);
}

bool fj_export_write(fj_export_job *j, fj_err *e) {
    make_key(j);
    if (j->folder && !fj_mkdirs(j->work, e)) return false;
    switch (j->o->to) {
    case FJ_EXPORT_ADAPTER: return fj_lora_save_peft(j->l, j->work, e);
    case FJ_EXPORT_GGUF_ADAPTER: return fj_lora_save_gguf(j->l, j->file, e);
    case FJ_EXPORT_HF: return write_hf(j, e);
    case FJ_EXPORT_GGUF: return write_gguf(j, e);
    case FJ_EXPORT_OLLAMA:
        return write_gguf(j, e) &&
               fj_ollama_write(j->m, j->work, fj_base_name(j->file), NULL, &j->r->note, e);
    }
    return false;
}
