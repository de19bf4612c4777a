/* cmd_pull.c - a model from the Hub to this machine; its path is the output. */
#include "cli/opt.h"
#include "cli/term.h"
#include "lifecycle/hub.h"

typedef struct opts {
    const char *revision, *to;
    fj_list include, exclude;
    int64_t jobs;
    bool offline, dry_run, json;
} opts;
static const opts defaults = { .jobs = 4 };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "revision",
      .kind = FJ_OPT_STR,
      .at = AT(revision),
      .value = "REV",
      .help = "a branch, a tag or a commit",
      .unset = "main" },
    { .name = "include",
      .kind = FJ_OPT_LIST,
      .at = AT(include),
      .value = "GLOB",
      .help = "take the files that match, instead of those that forja needs" },
    { .name = "exclude",
      .kind = FJ_OPT_LIST,
      .at = AT(exclude),
      .value = "GLOB",
      .help = "leave out the files that match" },
    { .name = "to",
      .kind = FJ_OPT_STR,
      .at = AT(to),
      .value = "DIR",
      .help = "put the files there; what the cache has is copied",
      .unset = "the cache" },
    { .name = "offline",
      .kind = FJ_OPT_FLAG,
      .at = AT(offline),
      .help = "use no network: only what was pulled before" },
    { .name = "jobs",
      .letter = 'j',
      .kind = FJ_OPT_INT,
      .at = AT(jobs),
      .lo = 1,
      .hi = 64,
      .value = "N",
      .help = "files at a time" },
    { .name = "dry-run",
      .kind = FJ_OPT_FLAG,
      .at = AT(dry_run),
      .help = "list what would be fetched, and write nothing" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = AT(json),
      .help = "one JSON object: path, commit, files with sizes and hashes" },
    { 0 },
};

static void print_json(const char *what, const fj_hub_result *r) {
    json_t *files = json_array(), *j = json_object();
    for (size_t i = 0; i < r->n; i++) {
        const fj_hub_file *f = r->files + i;
        json_t *x = json_object();
        json_object_set_new(x, "name", json_string(f->name));
        json_object_set_new(x, "size", f->size < 0 ? json_null() : json_integer(f->size));
        if (*f->sha256) json_object_set_new(x, "sha256", json_string(f->sha256));
        if (*f->blob) json_object_set_new(x, "blob", json_string(f->blob));
        json_object_set_new(x, "was_here", json_boolean(f->have));
        json_array_append_new(files, x);
    }
    json_object_set_new(j, "model", json_string(what));
    json_object_set_new(j, "path", fj_json_text(r->path, strlen(r->path)));
    json_object_set_new(j, "commit", json_string(r->commit));
    json_object_set_new(j, "bytes", json_integer(r->bytes));
    json_object_set_new(j, "missing_bytes", json_integer(r->missing));
    json_object_set_new(j, "files", files);
    fj_print_json(j);
}

static void print_plan(const fj_hub_result *r) {
    fj_table t;
    fj_table_open(&t, 3, "file", ">size", "state");
    fj_str s = { 0 };
    for (size_t i = 0; i < r->n; i++) {
        const fj_hub_file *f = r->files + i;
        fj_str name = { 0 }, part = { 0 };
        fj_put_text(&name, f->name, strlen(f->name), false);
        fj_str_clear(&s);
        fj_str_add(&s, "");
        if (f->size >= 0) fj_put_bytes(&s, (double)f->size);
        else fj_str_add(&s, "?");
        if (f->have) fj_str_add(&part, "here");
        else if (f->part) {
            fj_put_bytes(&part, (double)f->part);
            fj_str_add(&part, " of it here");
        } else fj_str_add(&part, "to fetch");
        fj_table_row(&t, name.s, s.s, part.s);
        fj_str_free(&name);
        fj_str_free(&part);
    }
    fj_table_print(&t, stdout, 0);
    fj_str_clear(&s);
    fj_put_bytes(&s, (double)r->bytes);
    fj_str_add(&s, " in all, ");
    fj_put_bytes(&s, (double)r->missing);
    printf("%s to fetch; commit %s\n", s.s, r->commit);
    fj_str_free(&s);
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_term_catch();
    fj_hub_opts with = { .revision = o->revision,
                         .include = o->include.v,
                         .n_include = o->include.n,
                         .exclude = o->exclude.v,
                         .n_exclude = o->exclude.n,
                         .to = o->to,
                         .jobs = (int)o->jobs,
                         .offline = o->offline,
                         .dry_run = o->dry_run,
                         .log = &c->term->log };
    fj_err e = { 0 };
    fj_hub_result r;
    if (!fj_hub_pull(c->args[0], &with, &r, &e)) return fj_term_fail(c->term, &e);
    if (o->json) print_json(c->args[0], &r);
    else if (o->dry_run) print_plan(&r);
    else printf("%s\n", r.path);
    fj_hub_free(&r);
    return FJ_EXIT_OK;
}

const fj_cmd fj_cmd_pull = {
    .name = "pull",
    .args = "OWNER/NAME[:FILE]",
    .summary = "Fetch a model from the Hugging Face Hub, and print its path.",
    .manual =
        "Takes what forja reads of a model: configuration, tokenizer, templates, safetensors. Of a\n"
        "repository with several GGUF models name one, by its file or by its quantisation. Files are\n"
        "verified by the hashes of the Hub. What broke off is kept and gone on with. Commands that\n"
        "take a MODEL also take OWNER/NAME[:FILE] once it is in the cache.\n\n"
        "  forja pull Qwen/Qwen2.5-0.5B-Instruct\n"
        "  forja run $(forja pull OWNER/NAME-GGUF:Q4_K_M) \"Hello\"\n"
        "  forja pull OWNER/NAME --include '*.json' --to here --dry-run\n\n"
        "Environment: HF_TOKEN or HF_TOKEN_PATH (else HF_HOME/token or ~/.cache/huggingface/token) for\n"
        "private and gated models; HF_ENDPOINT for another server; FORJA_CACHE for the cache (else\n"
        "XDG_CACHE_HOME/forja/hub or ~/.cache/forja/hub); HF_HUB_OFFLINE=1 is --offline.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
