/* cmd_template.c - what a chat template makes of conversations. */
#include "base/fs.h"
#include "cli/dress.h"
#include "cli/opt.h"
#include "cli/term.h"
#include "text/chat.h"

typedef struct opts {
    const char *model, *kwargs, *date;
    bool prompt, json;
} opts;
static const opts defaults = { 0 };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "model",
      .letter = 'm',
      .kind = FJ_OPT_STR,
      .at = AT(model),
      .value = "FILE",
      .help =
          "a model whose vocabulary the text is for: bos_token and the like are its own, and --json has ids" },
    { .name = "generation-prompt",
      .letter = 'g',
      .kind = FJ_OPT_FLAG,
      .at = AT(prompt),
      .help = "end with what stands in front of an answer" },
    { .name = "template-kwargs",
      .kind = FJ_OPT_STR,
      .at = AT(kwargs),
      .value = "JSON",
      .help = "variables for the template, such as {\"enable_thinking\": false}" },
    { .name = "date",
      .kind = FJ_OPT_STR,
      .at = AT(date),
      .value = "DAY",
      .help = "the day that strftime_now says, as 2026-01-31",
      .unset = "today" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = AT(json),
      .help =
          "a JSON object for each conversation: text, or error; with --model ids and mask, too" },
    { 0 },
};

/* What apply_chat_template has parameters for is that; every other member is a variable. */
static fj_conv conversation(json_t *o, json_t *vars) {
    const char *key;
    json_t *v;
    json_object_foreach(o, key, v) {
        if (strcmp(key, "messages") && strcmp(key, "tools") && strcmp(key, "documents") &&
            strcmp(key, "add_generation_prompt"))
            json_object_set(vars, key, v);
    }
    return (fj_conv){ .messages = json_object_get(o, "messages"),
                      .tools = json_object_get(o, "tools"),
                      .documents = json_object_get(o, "documents"),
                      .kwargs = vars };
}

static bool add_ids(const fj_dress *d, const fj_conv *v, bool prompt, json_t *out, fj_err *e) {
    fj_ids ids = { 0 };
    fj_mask mask = { 0 };
    bool ok = fj_chat_render(d->chat, v, prompt, &ids, prompt ? NULL : &mask, e);
    if (ok) {
        json_t *list = json_array(), *marks = json_array();
        for (size_t i = 0; i < ids.n; i++) {
            json_array_append_new(list, json_integer(ids.p[i]));
            if (!prompt) json_array_append_new(marks, json_integer(mask.p[i]));
        }
        json_object_set_new(out, "ids", list);
        if (prompt) json_decref(marks);
        else json_object_set_new(out, "mask", marks);
    }
    fj_ids_free(&ids);
    fj_mask_free(&mask);
    return ok;
}

static bool one(const fj_dress *d, const opts *o, json_t *row, fj_err *e) {
    json_t *vars = json_object(), *flag = json_object_get(row, "add_generation_prompt");
    fj_conv v = conversation(row, vars);
    bool prompt = flag ? json_is_true(flag) : o->prompt, raised = false, ok;
    char *s = NULL;
    size_t n = 0;
    if (!json_is_array(v.messages))
        ok = fj_fail(e, FJ_EFORMAT, "expected an object with a list of messages");
    else ok = fj_chat_text(d->chat, &v, prompt, &s, &n, &raised, e);
    if (o->json) {
        json_t *out = json_object();
        if (ok) json_object_set_new(out, "text", fj_json_text(s, n));
        else json_object_set_new(out, "error", fj_json_text(e->msg, strlen(e->msg)));
        if (!ok) json_object_set_new(out, "raised", json_boolean(raised));
        fj_err why = { 0 };
        if (ok && !d->bytes && !add_ids(d, &v, prompt, out, &why))
            json_object_set_new(out, "ids_error", fj_json_text(why.msg, strlen(why.msg)));
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(out);
    } else if (ok) {
        fwrite(s, 1, n, stdout);
        if (n && s[n - 1] != '\n') putchar('\n');
    }
    free(s);
    json_decref(vars);
    return ok;
}

static int rows(fj_call *c, const fj_dress *d, const char *text, size_t n) {
    const opts *o = c->opts;
    int rc = FJ_EXIT_OK;
    int64_t line = 1;
    for (size_t at = 0;;) {
        while (at < n && strchr(" \t\r\n", text[at]) && text[at]) line += text[at++] == '\n';
        if (at >= n) return rc;
        fj_err e = { 0 };
        json_error_t je;
        json_t *row =
            json_loadb(text + at, n - at, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &je);
        if (!row) {
            fj_fail(&e, FJ_EFORMAT, "line %lld: not valid JSON: %s",
                    (long long)(line + je.line - 1), je.text);
            return fj_term_fail(c->term, &e);
        }
        if (!one(d, o, row, &e)) {
            fj_wrap(&e, "conversation in line %lld", (long long)line);
            if (!o->json) rc = fj_term_fail(c->term, &e);
        }
        json_decref(row);
        for (size_t end = at + (size_t)FJ_MAX(je.position, 1); at < end && at < n; at++)
            line += text[at] == '\n';
    }
}

static int run(fj_call *c) {
    enum { MOST = 1 << 30 };
    const opts *o = c->opts;
    fj_err e = { 0 };
    fj_dress d;
    fj_str in = { 0 };
    const char *how = c->args[0], *model = o->model;
    size_t n = strlen(how);
    bool file = n > 6 && (!strcmp(how + n - 6, ".jinja") ||
                          (n > 4 && !strcmp(how + n - 4, ".txt")) || !strcmp(how + n - 3, ".j2"));
    if (!file && !model) model = how, how = NULL; /* a model with a template of its own */
    if (!fj_dress_open(&d, model, how, o->kwargs, o->date, &e)) return fj_term_fail(c->term, &e);
    int rc;
    if (fj_chat_kind_of(d.chat) != FJ_CHAT_JINJA) {
        fj_fail(&e, FJ_EINVAL,
                "%s has no chat template: expected one, or a file that ends in .jinja", c->args[0]);
        rc = fj_term_fail(c->term, &e);
    } else if (c->n_args > 1 && strcmp(c->args[1], "-")) {
        char *text = fj_read_file(c->args[1], MOST, &n, &e);
        rc = text ? rows(c, &d, text, n) : fj_term_fail(c->term, &e);
        free(text);
    } else {
        rc = fj_read_stdin(&in, MOST, &e) ? rows(c, &d, in.s ? in.s : "", in.n)
                                          : fj_term_fail(c->term, &e);
    }
    fj_str_free(&in);
    fj_dress_close(&d);
    return rc;
}

const fj_cmd fj_cmd_template = {
    .name = "template",
    .args = "MODEL|FILE.jinja [CONVERSATIONS]",
    .summary = "Print what a chat template makes of conversations.",
    .manual =
        "CONVERSATIONS is a file of JSON objects, one behind the other (also .jsonl); without it, or for -,\n"
        "they are read from standard input. An object has messages, and may have tools, documents and\n"
        "add_generation_prompt; its other members are variables of the template:\n"
        "    {\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"enable_thinking\": false}\n"
        "With --json a conversation that the template refuses is an object with error, and the exit code\n"
        "stays 0.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
