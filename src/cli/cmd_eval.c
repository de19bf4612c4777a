/* cmd_eval.c - what a model, or a model with an adapter, is worth on rows of data. */
#include "base/fs.h"
#include "cli/results.h"
#include "cli/talk.h"
#include <errno.h>

typedef struct opts {
    const char *adapter, *system, *dump, *device;
    fj_list tokens, general;
    const char *chat, *chat_kwargs;
    int64_t max_length, max_rows, max_new_tokens, batch, threads;
    bool base, f32, answers, json;
} opts;
static const opts defaults = { .max_new_tokens = 64, .batch = 4 };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "adapter",
      .letter = 'a',
      .kind = FJ_OPT_STR,
      .at = AT(adapter),
      .value = "PATH",
      .help = "measure with this adapter: a PEFT folder or a GGUF adapter" },
    { .name = "base",
      .kind = FJ_OPT_FLAG,
      .at = AT(base),
      .help = "with --adapter: measure without it too, side by side" },
    { .name = "general",
      .kind = FJ_OPT_LIST,
      .at = AT(general),
      .value = "FILE",
      .help =
          "with --adapter: forgetting on this text, as perplexity of both and KL(base || tuned)" },
    { .name = "answers",
      .kind = FJ_OPT_FLAG,
      .at = AT(answers),
      .help = "print every generated answer with its prompt and what was wanted" },
    { .name = "template",
      .kind = FJ_OPT_STR,
      .at = AT(chat),
      .value = "FILE",
      .help = "how conversations are spelled: auto, chatml, raw, or a file with a Jinja template",
      .unset = "auto: the model's own template, else what its vocabulary has tokens for" },
    { .name = "template-kwargs",
      .kind = FJ_OPT_STR,
      .at = AT(chat_kwargs),
      .value = "JSON",
      .help = "variables for the template, such as {\"enable_thinking\": false}" },
    { .name = "system",
      .kind = FJ_OPT_STR,
      .at = AT(system),
      .value = "TEXT",
      .help = "system message of rows that have none" },
    { .name = "max-length",
      .kind = FJ_OPT_INT,
      .at = AT(max_length),
      .hi = 1 << 24,
      .value = "N",
      .help = "longer rows are counted, not measured",
      .unset = "the context of the model" },
    { .name = "max-rows",
      .kind = FJ_OPT_INT,
      .at = AT(max_rows),
      .hi = 1 << 30,
      .value = "N",
      .help = "measure the first N rows; 0: all" },
    { .name = "max-new-tokens",
      .letter = 'n',
      .kind = FJ_OPT_INT,
      .at = AT(max_new_tokens),
      .hi = 1 << 20,
      .value = "N",
      .help = "stop an answer after N tokens; 0: generate none" },
    { .name = "batch",
      .letter = 'b',
      .kind = FJ_OPT_INT,
      .at = AT(batch),
      .lo = 1,
      .hi = 65536,
      .value = "N",
      .help = "rows of the longest length that are computed at once" },
    FJ_DEVICE_ROW(AT(device), FJ_DEVICE_AUTO),
    { .name = "threads",
      .letter = 'j',
      .kind = FJ_OPT_INT,
      .at = AT(threads),
      .hi = 4096,
      .value = "N",
      .help = "threads to compute with",
      .unset = "as many as this process may use" },
    { .name = "f32",
      .kind = FJ_OPT_FLAG,
      .at = AT(f32),
      .help = "every product in f32, for comparisons" },
    { .name = "dump-logits",
      .kind = FJ_OPT_STR,
      .at = AT(dump),
      .value = "FILE",
      .help = "write the logits of --tokens to this safetensors file instead: logits.0, ..." },
    { .name = "tokens",
      .kind = FJ_OPT_LIST,
      .at = AT(tokens),
      .value = "IDS",
      .help = "ids of one sequence, parted by spaces or commas" },
    { .name = "json", .kind = FJ_OPT_FLAG, .at = AT(json), .help = "one JSON object" },
    { 0 },
};

/* ---- logits of given ids ------------------------------------------------------------------------ */

static bool parse_ids(const char *text, int32_t vocab, fj_ids *ids, fj_err *e) {
    for (const char *p = text + strspn(text, " ,"); *p; p += strspn(p, " ,")) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ' ' && *end != ',') || errno || v < 0 || v >= vocab)
            return fj_fail(e, FJ_EINVAL, "--tokens wants ids from 0 to %d, not \"%.*s\"", vocab - 1,
                           (int)strcspn(p, " ,"), p);
        fj_ids_push(ids, (int32_t)v);
        p = end;
    }
    return ids->n > 0 || fj_fail(e, FJ_EINVAL, "--tokens wants at least one id");
}

static bool dump(fj_model *m, const fj_lora *l, const opts *o, fj_err *e) {
    size_t n = o->tokens.n;
    fj_ids *ids = fj_zalloc(n * sizeof *ids);
    const int32_t **rows = fj_zalloc(n * sizeof *rows);
    int64_t *len = fj_zalloc(n * sizeof *len);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = parse_ids(o->tokens.v[i], fj_vocab_size(fj_model_tokenizer(m)), &ids[i], e);
        rows[i] = ids[i].p;
        len[i] = (int64_t)ids[i].n;
    }
    ok = ok && fj_eval_dump(m, l, rows, len, (int)n, o->dump, e);
    for (size_t i = 0; i < n; i++) fj_ids_free(&ids[i]);
    free(ids);
    free(rows);
    free(len);
    return ok;
}

/* ---- answers ------------------------------------------------------------------------------------ */

typedef struct collected {
    const opts *o;
    const char *which;
    json_t *list; /* with --json */
} collected;

static void line_of(const char *label, const char *text) {
    fj_str s = { 0 };
    fj_put_text(&s, text ? text : "", text ? strlen(text) : 0, false);
    printf("  %-7s %s\n", label, s.s);
    fj_str_free(&s);
}

static void on_answer(void *ctx, const fj_eval_answer *a) {
    collected *c = ctx;
    if (!c->o->answers) return;
    if (c->list) {
        json_t *x = json_object();
        json_object_set_new(x, "prompt", fj_json_text(a->prompt, strlen(a->prompt)));
        json_object_set_new(x, "given", fj_json_text(a->given, strlen(a->given)));
        json_object_set_new(x, "wanted",
                            a->wanted ? fj_json_text(a->wanted, strlen(a->wanted)) : json_null());
        json_object_set_new(x, "exact", json_boolean(a->exact));
        json_object_set_new(x, "contains", json_boolean(a->contains));
        json_object_set_new(x, "regex", json_boolean(a->regex));
        json_array_append_new(c->list, x);
        return;
    }
    printf("%s%s%s%s%s\n", c->which, a->exact ? " exact" : "", a->contains ? " contains" : "",
           a->regex ? " regex" : "", a->exact || a->contains || a->regex ? "" : " -");
    line_of("prompt", a->prompt);
    line_of("given", a->given);
    if (a->wanted) line_of("wanted", a->wanted);
}

/* ---- the command -------------------------------------------------------------------------------- */

static bool measure(fj_call *c, fj_model *m, fj_lora *l, fj_err *e) {
    static const char *const names[2] = { "base", "tuned" };
    const opts *o = c->opts;
    const char *const *paths = (const char *const *)(c->args + 1);
    fj_eval_opts eo = { .chat = o->chat,
                        .chat_kwargs = o->chat_kwargs,
                        .system = o->system,
                        .max_length = o->max_length,
                        .max_rows = o->max_rows,
                        .max_new_tokens = o->max_new_tokens,
                        .batch = o->batch };
    fj_eval_result r[2] = { 0 };
    fj_forgetting f = { 0 };
    json_t *doc = json_object();
    int n = 0;
    bool ok = true, rows = c->n_args > 1;
    for (int k = l && !o->base; ok && rows && k <= (l != NULL); k++) {
        const char *name = l && o->base ? names[k] : "result";
        collected got = { o, l && o->base ? names[k] : "answer", o->json ? json_array() : NULL };
        ok = fj_eval_files(m, k ? l : NULL, paths, c->n_args - 1, &eo, &c->term->log, on_answer,
                           &got, &r[n], e);
        if (ok && o->json) {
            json_t *j = fj_result_json(&r[n]);
            if (o->answers) json_object_set(j, "answers", got.list);
            json_object_set_new(doc, name, j);
        }
        json_decref(got.list);
        n++;
    }
    if (ok && rows && !o->json) {
        if (o->answers) putchar('\n');
        fj_print_results(r, n);
    }
    if (ok && o->general.n) {
        ok = fj_eval_forgetting(m, NULL, l, o->general.v, (int)o->general.n, &eo, &c->term->log, &f,
                                e);
        if (ok && o->json) json_object_set_new(doc, "general", fj_forgetting_json(&f));
        if (ok && !o->json) fj_print_forgetting(&f);
    }
    if (ok && o->json) fj_print_json(doc);
    else json_decref(doc);
    return ok;
}

static int usage(fj_call *c, const char *why) {
    fj_term_say(c->term, FJ_INFO, "%s", why);
    return FJ_EXIT_USAGE;
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    if (!o->dump != !o->tokens.n) return usage(c, "--dump-logits and --tokens belong together");
    if (o->dump && c->n_args > 1) return usage(c, "--dump-logits measures no files");
    if (!o->adapter && (o->base || o->general.n))
        return usage(c, "--base and --general compare with an adapter; --adapter names it");
    if (!o->dump && c->n_args < 2 && !o->general.n) return usage(c, "wants files to measure on");
    fj_term_catch();
    fj_dev *d = fj_open_device(o->device, o->threads, o->f32, &e);
    fj_model *m = d ? fj_model_open(d, c->args[0], NULL, &c->term->log, &e) : NULL;
    fj_lora *l = m && o->adapter ? fj_lora_open(m, o->adapter, &e) : NULL;
    bool ok = m && (l || !o->adapter);
    ok = ok && (o->dump ? dump(m, l, o, &e) : measure(c, m, l, &e));
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    return ok ? FJ_EXIT_OK : fj_term_fail(c->term, &e);
}

const fj_cmd fj_cmd_eval = {
    .name = "eval",
    .args = "MODEL DATA...",
    .summary = "Measure a model, with or without an adapter, on rows of data.",
    .manual =
        "DATA are files as training reads them. Loss and perplexity are over answers and their end of\n"
        "turn, over all of raw text. Rows with \"answer\" (exact), \"contains\" or \"regex\" are answered\n"
        "greedily; rates come with a 95 % interval.\n\n"
        "  forja eval model.gguf eval.jsonl --adapter run/adapter --base --general general.txt\n"
        "  forja eval hf --dump-logits logits.safetensors --tokens \"1 403 407\"",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
