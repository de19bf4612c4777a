/* cmd_export.c - what a run trained, in the form that others load, proven to be the same. */
#include "base/fs.h"
#include "cli/export_opts.h"
#include "cli/talk.h"
#include "formats/json.h"
#include "train/recipe.h"
#include "train/registry.h"

typedef struct opts {
    const char *to, *base, *adapter, *chat;
    fj_export_cli x;
} opts;
static const opts defaults = { .x = FJ_EXPORT_CLI_DEFAULTS };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "to",
      .kind = FJ_OPT_STR,
      .at = AT(to),
      .value = "FORM",
      .help = "adapter, hf[:TYPE], gguf[:TYPE], gguf-adapter, or ollama[:TYPE]",
      .unset = "" },
    { .name = "base",
      .kind = FJ_OPT_STR,
      .at = AT(base),
      .value = "DIR or FILE",
      .help = "the base model, in place of the one that the run's recipe names",
      .unset = "" },
    { .name = "adapter",
      .letter = 'a',
      .kind = FJ_OPT_STR,
      .at = AT(adapter),
      .value = "PATH",
      .help = "without a run: export --base with this adapter, a PEFT folder or a GGUF adapter",
      .unset = "" },
    { .name = "template",
      .kind = FJ_OPT_STR,
      .at = AT(chat),
      .value = "FILE",
      .help =
          "how training spelled conversations: auto, chatml, raw, or a file with a Jinja template",
      .unset = "as the run's recipe says" },
    FJ_DEVICE_ROW(AT(x.device), "cpu: files are written by the CPU in any case"),
    FJ_EXPORT_ROWS(AT(x)),
    { 0 },
};

/* "gguf:Q4_K_M" apart. */
static bool parse_to(const char *text, fj_export_opts *o, fj_err *e) {
    static const struct {
        const char *name;
        fj_export_to to;
        bool typed;
    } all[] = { { "adapter", FJ_EXPORT_ADAPTER, false },
                { "hf", FJ_EXPORT_HF, true },
                { "gguf", FJ_EXPORT_GGUF, true },
                { "gguf-adapter", FJ_EXPORT_GGUF_ADAPTER, false },
                { "ollama", FJ_EXPORT_OLLAMA, true } };
    if (!text)
        return fj_fail(e, FJ_EINVAL,
                       "--to says what to write: adapter, hf, gguf, gguf-adapter or ollama");
    size_t n = strcspn(text, ":");
    for (size_t i = 0; i < FJ_LEN(all); i++) {
        if (strlen(all[i].name) != n || strncmp(text, all[i].name, n)) continue;
        if (text[n] && (!all[i].typed || !text[n + 1]))
            return fj_fail(e, FJ_EINVAL, "--to %s: %s has no types", text, all[i].name);
        o->to = all[i].to;
        o->type = text[n] ? text + n + 1 : NULL;
        return true;
    }
    return fj_fail(e, FJ_EINVAL, "--to %s is not known: adapter, hf, gguf, gguf-adapter or ollama",
                   text);
}

/* A run's folder: as said, or by its name or number in the registry.  Caller frees. */
static char *folder_of(const char *run, const fj_log *log, fj_err *e) {
    char *recipe = fj_path_join(run, "recipe.yaml");
    bool here = fj_exists(recipe);
    free(recipe);
    if (here) return fj_strdup(run);
    if (fj_is_dir(run) || strchr(run, '/')) {
        fj_fail(e, FJ_EIO, "%s is no run: it has no recipe.yaml", run);
        return NULL;
    }
    fj_registry *g = fj_registry_open(NULL, log);
    fj_run_list l = { 0 };
    char *folder = g && fj_registry_get(g, run, &l, e) ? fj_strdup(l.runs[0].folder) : NULL;
    if (!g)
        fj_fail(e, FJ_EIO, "%s is no folder of a run, and there is no registry to look it up in",
                run);
    fj_run_list_free(&l);
    fj_registry_close(g);
    return folder;
}

typedef struct of_run {
    fj_recipe recipe;
    bool loaded;
    char *folder, *trained; /* adapter or model */
    char *hash;             /* of the base, as the run's manifest says */
} of_run;

static bool read_run(of_run *r, const char *run, fj_export_opts *o, const fj_log *log, fj_err *e) {
    if (!(r->folder = folder_of(run, log, e))) return false;
    char *yaml = fj_path_join(r->folder, "recipe.yaml"),
         *manifest = fj_path_join(r->folder, "manifest.json");
    r->loaded = fj_recipe_load(&r->recipe, yaml, NULL, 0, e);
    bool ok = r->loaded, full = ok && r->recipe.method == FJ_METHOD_FULL;
    if (ok) {
        r->trained = fj_path_join(r->folder, full ? "model" : "adapter");
        if (!fj_is_dir(r->trained))
            ok = fj_fail(
                e, FJ_EIO,
                "%s is not there: the run has not ended; forja train --resume goes on with it",
                r->trained);
    }
    json_t *m = ok && fj_exists(manifest) ? json_load_file(manifest, 0, NULL) : NULL;
    const char *hash = json_string_value(json_object_get(m, "base_sha256"));
    if (hash && !full) r->hash = fj_strdup(hash);
    json_decref(m);
    free(yaml);
    free(manifest);
    if (!ok) return false;
    if (!o->base) o->base = full ? r->trained : r->recipe.base;
    o->adapter = full ? NULL : r->trained;
    o->base_hash = r->hash;
    if (!o->chat) o->chat = r->recipe.chat_template;
    o->data = (const char *const *)r->recipe.eval_data.s;
    o->n_data = r->recipe.eval_data.n;
    return true;
}

static int run(fj_call *c) {
    const opts *x = c->opts;
    fj_err e = { 0 };
    of_run r = { 0 };
    fj_export_opts o = {
        .base = x->base, .adapter = x->adapter, .chat = x->chat, .out = c->args[c->n_args - 1]
    };
    if (!parse_to(x->to, &o, &e)) {
        fj_term_fail(c->term, &e);
        return FJ_EXIT_USAGE;
    }
    if (c->n_args == 1 ? !x->base : x->adapter != NULL) {
        fj_term_say(c->term, FJ_INFO, "wants a RUN, or --base with or without --adapter");
        return FJ_EXIT_USAGE;
    }
    bool ok = c->n_args == 1 || read_run(&r, c->args[0], &o, &c->term->log, &e);
    int code = ok ? fj_export_run(c, &x->x, &o) : fj_term_fail(c->term, &e);
    if (r.loaded) fj_recipe_free(&r.recipe);
    free(r.folder);
    free(r.trained);
    free(r.hash);
    return code;
}

const fj_cmd fj_cmd_export = {
    .name = "export",
    .args = "[RUN] OUT",
    .summary =
        "Write what a run trained in the form that others load, and prove that it is the same.",
    .manual =
        "RUN is the folder of a run, or its name or number in `forja runs`. OUT is a folder that is not there yet;\n"
        "for gguf and gguf-adapter it may be a file, NAME.gguf. What is written:\n"
        "  adapter       a PEFT folder\n"
        "  hf            a merged Hugging Face folder, in the base's own 16 bits or as F32, F16, BF16\n"
        "  gguf          a merged GGUF model: a name of llama-quantize, or keep for the formats of a GGUF base\n"
        "  gguf-adapter  an adapter for llama.cpp\n"
        "  ollama        a folder with the same model and a Modelfile with its template and parameters\n"
        "A base of few bits merges into the values that the adapter was trained on. The files are opened again as\n"
        "a stranger would and compared with the trained model on held-out rows: rendered text, token ids,\n"
        "log-probabilities, KL. Above the limit nothing gets its name, the step that lost it is named, and the exit code\n"
        "is 3. OUT/export.json keeps all numbers. A stopped export goes on where it was.\n\n"
        "  forja export runs/office --to gguf:Q4_K_M office-q4.gguf\n"
        "  forja export --base hf --adapter peft --to hf merged",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
