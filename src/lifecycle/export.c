/* export.c - the steps of an export: what is asked, the files, the proof, the name. */
#include "base/fs.h"
#include "lifecycle/adapter_check.h"
#include "lifecycle/export_in.h"

#include <dirent.h>
#include <unistd.h>

static bool ends(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

static char *joined(const char *a, const char *b) {
    fj_str s = { 0 };
    fj_str_addf(&s, "%s%s", a, b);
    return fj_str_take(&s);
}

static bool is_empty(const char *dir) {
    DIR *d = opendir(dir);
    bool empty = d != NULL;
    for (struct dirent *f; empty && (f = readdir(d));)
        empty = !strcmp(f->d_name, ".") || !strcmp(f->d_name, "..");
    if (d) closedir(d);
    return empty;
}

/* ---- before anything is written ------------------------------------------------------------------ */
/* Where the files go, and that nothing of somebody else's is in the way. */
static bool choose_places(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    bool file = ends(o->out, ".gguf");
    char *out = fj_strdup(o->out);
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/';) out[--n] = 0;
    j->r->path = out;
    j->folder = !file;
    if (!*out) return fj_fail(e, FJ_EINVAL, "the place to export to has no name");
    if (file && o->to != FJ_EXPORT_GGUF && o->to != FJ_EXPORT_GGUF_ADAPTER)
        return fj_fail(e, FJ_EINVAL, "%s: this export is a folder, not a .gguf file", out);
    if (file && o->max_bytes)
        return fj_fail(e, FJ_EINVAL, "%s: a model in several files goes into a folder: say one",
                       out);
    if (fj_exists(out) && !o->force && !(j->folder && is_empty(out)))
        return fj_fail(e, FJ_EINVAL, "%s is there already: --force replaces it", out);
    if (fj_exists(out) && j->folder != fj_is_dir(out))
        return fj_fail(e, FJ_EINVAL, "%s is there and is %s folder", out,
                       fj_is_dir(out) ? "a" : "no");
    j->work = joined(out, ".unverified");
    if (!j->folder) {
        j->file = fj_strdup(j->work);
        return true;
    }
    fj_str name = { 0 };
    if (o->to == FJ_EXPORT_GGUF || o->to == FJ_EXPORT_GGUF_ADAPTER)
        fj_str_addf(&name, "%s/%s-%s.gguf", j->work, fj_base_name(out), j->type);
    else fj_str_addf(&name, "%s%s", j->work, o->to == FJ_EXPORT_OLLAMA ? "/model.gguf" : "");
    j->file = fj_str_take(&name);
    return true;
}

static void *find_hash(void *ctx) {
    fj_export_job *j = ctx;
    j->hash_ok = fj_model_hash(j->m, j->base_hash, &j->hash_err);
    return NULL;
}

static void start_hash(fj_export_job *j) {
    j->hashing = pthread_create(&j->hasher, NULL, find_hash, j) == 0;
    if (!j->hashing) find_hash(j);
    j->hashed = true;
}

static bool end_hash(fj_export_job *j, fj_err *e) {
    if (j->hashing) pthread_join(j->hasher, NULL);
    j->hashing = false;
    if (!j->hashed || j->hash_ok) return true;
    if (e) *e = j->hash_err;
    return false;
}

static bool open_sources(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    bool adapter = o->to == FJ_EXPORT_ADAPTER || o->to == FJ_EXPORT_GGUF_ADAPTER;
    if (adapter && !o->adapter)
        return fj_fail(e, FJ_EINVAL, "there is no adapter to export: %s is a model by itself",
                       o->base);
    if (!(j->m = fj_model_listed(j->d, o->base, e))) return false;
    if (!o->adapter) return true;
    if (!(j->l = fj_lora_open(j->m, o->adapter, e)) || !fj_adapter_has_effect(j->l, o->adapter, e))
        return false;
    char trained_on[65];
    char then[65], now[65];
    bool said = fj_adapter_base_hash(o->adapter, trained_on);
    /* Files that nobody wrote to since the run began have the hash that it found. */
    if (said && fj_adapter_base_stamp(o->adapter, then) && fj_model_stamp(j->m, now, NULL) &&
        !strcmp(then, now))
        memcpy(j->base_hash, trained_on, sizeof trained_on);
    else if (said || o->base_hash || !o->no_verify) start_hash(j);
    return true;
}

/* Is the base the one that the adapter was trained on?  Known when all of it has been read, which goes on
 * while the files are written. */
static bool right_base(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    if (!end_hash(j, e)) return false;
    if (o->base_hash && strcmp(o->base_hash, j->base_hash))
        return fj_fail(
            e, FJ_EINVAL,
            "%s is not the base that the adapter was trained on: its SHA-256 is %.12s..., that of "
            "the run %.12s...",
            o->base, j->base_hash, o->base_hash);
    return !j->l ||
           fj_adapter_has_base(j->l, o->adapter, *j->base_hash ? j->base_hash : NULL, o->log, e);
}

/* The template of training becomes that of the model. */
static bool give_template(fj_export_job *j, fj_err *e) {
    FJ_ASSERT(j->m);
    const char *how = j->o->chat ? j->o->chat : "auto",
               *text = fj_templates_find(&j->m->templates, how);
    fj_chat *c =
        fj_chat_open(j->m->tok, &(fj_chat_opts){ .how = how, .model = &j->m->templates }, e);
    char *file = NULL;
    size_t n;
    if (!c) return false;
    bool ok = true, own = !strcmp(how, "auto") && j->m->chat_template;
    if (!own && fj_chat_kind_of(c) == FJ_CHAT_CHATML) text = fj_chatml_template;
    else if (!own && fj_chat_kind_of(c) == FJ_CHAT_JINJA && !text) {
        text = file = fj_read_file(how, 1 << 24, &n, e);
        ok = file != NULL;
    }
    if (ok && text && !own) {
        fj_templates_replace(&j->m->templates, "default", text);
        j->m->chat_template = fj_templates_find(&j->m->templates, "default");
    }
    free(file);
    fj_chat_close(c);
    return ok;
}

/* ---- the proof ----------------------------------------------------------------------------------- */
typedef struct merged_side {
    const fj_export_job *j;
    fj_model *m;
    fj_lora *l;
} merged_side;

static bool merged(void *ctx, fj_verify_side *side, fj_err *e) {
    merged_side *s = ctx;
    const fj_export_opts *o = s->j->o;
    s->m = fj_model_open(s->j->d, o->base, NULL, o->log, e);
    s->l = s->m ? fj_lora_open(s->m, o->adapter, e) : NULL;
    if (!s->l || !fj_model_merge(s->m, s->l, e)) return false;
    *side = (fj_verify_side){ .model = o->base, .m = s->m, .hash = s->j->base_hash };
    return true;
}

/* What limits are by: the type, or for kept ones that of most values. */
static const char *kind_of(const fj_export_job *j) {
    if (!j->keep) return j->type;
    int64_t most = 0, count[FJ_DTYPES] = { 0 };
    fj_dtype best = FJ_F32;
    size_t i;
    json_t *t;
    json_array_foreach(j->tensors, i, t) {
        fj_dtype d;
        if (!fj_dtype_parse(json_string_value(json_object_get(t, "to")), &d)) continue;
        count[d] += json_integer_value(json_object_get(t, "values"));
        if (count[d] > most) most = count[best = d];
    }
    return fj_dtype_get(best)->name;
}

/* The file that opens the model: of several the first. */
static char *opens(const fj_export_job *j) {
    char *first = NULL;
    if (j->o->max_bytes && j->o->to != FJ_EXPORT_HF && !fj_exists(j->file)) {
        DIR *d = opendir(j->work);
        for (struct dirent *f; d && !first && (f = readdir(d));)
            if (strstr(f->d_name, "-00001-of-") && ends(f->d_name, ".gguf"))
                first = fj_path_join(j->work, f->d_name);
        if (d) closedir(d);
    }
    return first ? first : fj_strdup(j->file);
}

static bool prove(fj_export_job *j, json_t **proof, fj_verified *v, fj_err *e) {
    const fj_export_opts *o = j->o;
    bool adapter = o->to == FJ_EXPORT_ADAPTER || o->to == FJ_EXPORT_GGUF_ADAPTER;
    merged_side third = { .j = j };
    char *file = opens(j);
    fj_verify_side trained = { .model = o->base,
                               .adapter = o->adapter,
                               .chat = o->chat,
                               .hash = *j->base_hash ? j->base_hash : NULL },
                   exported = { .model = adapter ? o->base : file,
                                .adapter = adapter ? file : NULL };
    if (adapter) { /* an adapter has no template of its own */
        exported.hash = trained.hash;
        exported.chat = o->chat;
    }
    fj_verify_opts w = { .data = o->data,
                         .n_data = o->n_data,
                         .positions = o->positions,
                         .kind = kind_of(j),
                         .max_kl = o->max_kl,
                         .allow_text = o->allow_text,
                         .allow_ids = o->allow_ids,
                         .merged = o->adapter && !adapter ? merged : NULL,
                         .ctx = &third };
    bool ok = fj_verify(j->d, &trained, &exported, &w, o->log, v, e);
    if (ok) *proof = fj_verified_json(v);
    fj_lora_close(third.l);
    fj_model_close(third.m);
    free(file);
    return ok;
}

/* ---- what is left behind ------------------------------------------------------------------------- */
static json_t *side(const char *path, const char *hash) {
    json_t *o = json_object();
    json_object_set_new(o, "path", json_string(path));
    if (hash && *hash) json_object_set_new(o, "sha256", json_string(hash));
    return o;
}

static char *report(const fj_export_job *j, json_t *proof) {
    static const char *const to[] = { "adapter", "hf", "gguf", "gguf-adapter", "ollama" };
    char now[32];
    fj_utc(fj_now(), now);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o}", "forja", FORJA_VERSION, "written", now, "to",
                          to[j->o->to], "type", j->type, "base", side(j->o->base, j->base_hash));
    if (j->o->adapter) json_object_set_new(o, "adapter", side(j->o->adapter, NULL));
    if (j->imatrix) json_object_set_new(o, "imatrix", side(j->imatrix, NULL));
    json_object_set_new(o, "bytes", json_integer(j->r->bytes));
    json_object_set(o, "tensors", j->tensors);
    json_object_set_new(o, "verified", proof ? proof : json_null());
    if (j->r->note) json_object_set_new(o, "note", json_string(j->r->note));
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(o);
    return text;
}

static bool keep_report(const fj_export_job *j, fj_err *e) {
    char *path, *stem = fj_strdup(j->r->path);
    if (!j->folder) stem[strlen(stem) - strlen(".gguf")] = 0;
    path = j->folder ? fj_path_join(j->work, "export.json") : joined(stem, ".export.json");
    bool ok = fj_write_file(path, j->r->report, strlen(j->r->report), e);
    free(path);
    free(stem);
    return ok;
}

/* What an earlier export left under the unverified name: parts: what it did not finish. */
static bool clean(const fj_export_job *j, bool parts, fj_err *e) {
    DIR *d = j->folder ? opendir(j->work) : NULL;
    bool ok = true;
    for (struct dirent *f; ok && d && (f = readdir(d));) {
        bool part = ends(f->d_name, ".part") || ends(f->d_name, ".part.mark");
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..") || part != parts) continue;
        char *p = fj_path_join(j->work, f->d_name);
        if (fj_is_dir(p)) ok = fj_remove_tree(p, e);
        else if (unlink(p) != 0) ok = fj_fail_errno(e, "cannot remove %s", p);
        free(p);
    }
    if (d) closedir(d);
    return ok;
}

/* The final name.  A folder that is replaced is moved away first and removed last. */
static bool name_it(const fj_export_job *j, fj_err *e) {
    const char *out = j->r->path;
    if (!j->folder || !fj_exists(out)) return fj_move(j->work, out, e);
    if (is_empty(out))
        return rmdir(out) == 0 ? fj_move(j->work, out, e)
                               : fj_fail_errno(e, "cannot replace %s", out);
    char *old = joined(out, ".replaced");
    bool ok = fj_remove_tree(old, e) && fj_move(out, old, e) && fj_move(j->work, out, e) &&
              fj_remove_tree(old, e);
    free(old);
    return ok;
}

static int64_t bytes_of(const char *path) {
    if (!fj_is_dir(path)) return FJ_MAX(fj_file_size(path), 0);
    int64_t all = 0;
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (!ends(f->d_name, ".gguf") && !ends(f->d_name, ".safetensors")) continue;
        char *p = fj_path_join(path, f->d_name);
        all += FJ_MAX(fj_file_size(p), 0);
        free(p);
    }
    if (d) closedir(d);
    return all;
}

static bool run(fj_export_job *j, fj_err *e) {
    const fj_export_opts *o = j->o;
    fj_exported *r = j->r;
    fj_verified v = { 0 };
    json_t *proof = NULL;
    double start = fj_clock();
    if (!open_sources(j, e) || !give_template(j, e) || !fj_export_type(j, e) ||
        !choose_places(j, e) || !fj_export_imatrix(j, e) || !clean(j, false, e) ||
        !fj_export_write(j, e) || !clean(j, true, e) || !right_base(j, e))
        return false;
    r->seconds_write = fj_clock() - start;
    r->bytes = bytes_of(j->work);
    start = fj_clock();
    bool ok = o->no_verify || prove(j, &proof, &v, e);
    r->seconds_verify = o->no_verify ? 0 : fj_clock() - start;
    if (ok) {
        r->report = report(j, proof);
        ok = keep_report(j, e);
    }
    if (ok && !o->no_verify) {
        fj_str table = { 0 };
        fj_verified_text(&v, &table);
        r->table = fj_str_take(&table);
        if (!v.passed) ok = fj_fail(e, FJ_EGATE, "%s stays under that name: %s", j->work, v.why);
    }
    if (!o->no_verify) fj_verified_free(&v);
    if (ok) return name_it(j, e);
    free(r->path); /* what is there has this name */
    r->path = fj_strdup(j->work);
    return false;
}

bool fj_export(fj_dev *d, const fj_export_opts *o, fj_exported *r, fj_err *e) {
    *r = (fj_exported){ 0 };
    fj_export_job j = { .d = d, .o = o, .r = r, .tensors = json_array() };
    bool ok = run(&j, e);
    (void)end_hash(&j, NULL);
    if (!ok && !j.work) {
        free(r->path);
        r->path = NULL;
    }
    fj_imatrix_close(j.im);
    fj_lora_close(j.l);
    fj_model_close(j.m);
    json_decref(j.tensors);
    free(j.imatrix);
    free(j.work);
    free(j.file);
    return ok;
}

void fj_exported_free(fj_exported *r) {
    free(r->path);
    free(r->report);
    free(r->table);
    free(r->note);
    *r = (fj_exported){ 0 };
}
