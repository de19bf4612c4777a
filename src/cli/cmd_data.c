/* cmd_data.c - rows of training data as a model gets to see them. */
#include "cli/dress.h"
#include "cli/opt.h"
#include "cli/term.h"
#include "data/samples.h"
#include <inttypes.h>
#include <unistd.h>

typedef struct opts {
    const char *model, *chat, *kwargs, *system, *date;
    int format;
    int64_t limit, row;
    bool json, color, skip;
} opts;
static const opts defaults = { .limit = 10, .color = true };
#define AT(field) offsetof(opts, field)
static const fj_opt table[] = {
    { .name = "model",
      .letter = 'm',
      .kind = FJ_OPT_STR,
      .at = AT(model),
      .value = "FILE",
      .help = "the model: its vocabulary and its chat template",
      .unset = "bytes instead of tokens" },
    { .name = "template",
      .kind = FJ_OPT_STR,
      .at = AT(chat),
      .value = "FILE",
      .help = "how conversations are spelled: auto, chatml, raw, or a file with a Jinja template",
      .unset = "auto: the model's own template, else what its vocabulary has tokens for" },
    { .name = "template-kwargs",
      .kind = FJ_OPT_STR,
      .at = AT(kwargs),
      .value = "JSON",
      .help = "variables for the template, such as {\"enable_thinking\": false}" },
    { .name = "system",
      .kind = FJ_OPT_STR,
      .at = AT(system),
      .value = "TEXT",
      .help = "system message of rows that have none" },
    { .name = "format",
      .kind = FJ_OPT_CHOICE,
      .at = AT(format),
      .value = "auto|alpaca|sharegpt|messages|prompt|text",
      .help = "shape of the rows" },
    { .name = "limit",
      .letter = 'n',
      .kind = FJ_OPT_INT,
      .at = AT(limit),
      .hi = 1 << 30,
      .value = "N",
      .help = "print the first N rows; 0: all" },
    { .name = "row",
      .letter = 'r',
      .kind = FJ_OPT_INT,
      .at = AT(row),
      .hi = 1e15,
      .value = "N",
      .help = "print row N alone, counted from 1; 0: as --limit says" },
    { .name = "skip-bad-rows",
      .kind = FJ_OPT_FLAG,
      .at = AT(skip),
      .help = "leave out rows that cannot be used, and count them" },
    { .name = "date",
      .kind = FJ_OPT_STR,
      .at = AT(date),
      .value = "DAY",
      .help = "the day that a template's strftime_now says, as 2026-01-31",
      .unset = "today" },
    { .name = "color",
      .kind = FJ_OPT_FLAG,
      .at = AT(color),
      .help = "on a terminal what is learned is coloured; without, it stands between [[ and ]]" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = AT(json),
      .help = "a JSON object for each row: ids, mask (1: learned) and pieces" },
    { 0 },
};

typedef struct show {
    const opts *o;
    const fj_dress *d;
    const fj_dataset *data;
    bool color;
    fj_ids ids;
    fj_mask mask;
    int64_t tokens, learned, rows;
} show;

static bool encode(show *s, const fj_data_row *r, fj_err *e) {
    fj_ids_clear(&s->ids);
    s->mask.n = 0;
    if (r->text) { /* raw text: every token is learned, but for what the model wants in front */
        if (!fj_tokenize(s->d->tok, "", 0, FJ_TOK_BOS, &s->ids, e)) return false;
        size_t front = s->ids.n;
        if (!fj_tokenize(s->d->tok, r->text, r->text_n, 0, &s->ids, e)) return false;
        if (fj_token_eos(s->d->tok) >= 0) fj_ids_push(&s->ids, fj_token_eos(s->d->tok));
        FJ_GROW(s->mask.p, s->ids.n, s->mask.cap);
        memset(s->mask.p, 1, s->ids.n);
        memset(s->mask.p, 0, front);
        s->mask.n = s->ids.n;
        return true;
    }
    bool open_row = true; /* a row of an evaluation gets its answer, as its loss is taken */
    for (int i = 0; i < r->n_messages; i++)
        if (!strcmp(r->messages[i].role, "assistant")) open_row = false;
    json_t *own = fj_row_conversation(r, s->o->system, false, open_row ? r->answer : NULL);
    fj_conv v = fj_row_conv(own);
    bool ok = fj_chat_render(s->d->chat, &v, false, &s->ids, &s->mask, e);
    json_decref(own);
    return ok;
}

static void print_json(const show *s, const fj_data_row *r, int64_t number) {
    json_t *o = json_object(), *ids = json_array(), *mask = json_array(), *pieces = json_array();
    for (size_t i = 0; i < s->ids.n; i++) {
        fj_bytes b = fj_token_bytes(s->d->tok, s->ids.p[i]);
        json_array_append_new(ids, json_integer(s->ids.p[i]));
        json_array_append_new(mask, json_integer(s->mask.p[i]));
        json_array_append_new(pieces, fj_json_text(b.p, b.n));
    }
    json_object_set_new(o, "row", json_integer(number));
    json_object_set_new(
        o, "file",
        fj_json_text(s->data->files[r->file].path, strlen(s->data->files[r->file].path)));
    json_object_set_new(o, "line", json_integer(r->line));
    json_object_set_new(o, "ids", ids);
    json_object_set_new(o, "mask", mask);
    json_object_set_new(o, "pieces", pieces);
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

/* Tokens with the same mark are printed as one text, so that characters of several tokens are whole. */
static void print_text(const show *s) {
    for (size_t i = 0, end; i < s->ids.n; i = end) {
        fj_str bytes = { 0 }, out = { 0 };
        for (end = i; end < s->ids.n && s->mask.p[end] == s->mask.p[i]; end++) {
            fj_bytes b = fj_token_bytes(s->d->tok, s->ids.p[end]);
            fj_str_addn(&bytes, b.p, b.n);
        }
        for (size_t a = 0, z; a < bytes.n; a = z + 1) { /* line by line: line ends stay line ends */
            const char *nl = memchr(bytes.s + a, '\n', bytes.n - a);
            z = nl ? (size_t)(nl - bytes.s) : bytes.n;
            fj_put_text(&out, bytes.s + a, z - a, false);
            if (nl) fj_str_addc(&out, '\n');
        }
        bool learned = s->mask.p[i];
        printf("%s%s%s",
               !learned   ? ""
               : s->color ? "\033[32m"
                          : "[[",
               out.s ? out.s : "",
               !learned   ? ""
               : s->color ? "\033[0m"
                          : "]]");
        fj_str_free(&bytes);
        fj_str_free(&out);
    }
    putchar('\n');
}

static bool row(show *s, int64_t i, fj_err *e) {
    const fj_data_row *r = &s->data->rows[i];
    char name[512];
    if (!encode(s, r, e)) return fj_wrap(e, "%s", fj_row_name(s->data, r, name, sizeof name));
    int64_t learned = 0;
    for (size_t k = 0; k < s->mask.n; k++) learned += s->mask.p[k];
    s->rows++;
    s->tokens += (int64_t)s->ids.n;
    s->learned += learned;
    if (s->o->json) {
        print_json(s, r, i + 1);
        return true;
    }
    fj_str where = { 0 };
    fj_row_name(s->data, r, name, sizeof name);
    fj_put_text(&where, name, strlen(name), false);
    printf("%s--- row %" PRId64 ", %s: %zu %s, %" PRId64 " learned (%.0f %%)%s\n",
           s->color ? "\033[2m" : "", i + 1, where.s, s->ids.n, s->d->bytes ? "bytes" : "tokens",
           learned, s->ids.n ? 100.0 * (double)learned / (double)s->ids.n : 0.0,
           s->color ? "\033[0m" : "");
    fj_str_free(&where);
    print_text(s);
    return true;
}

static int show_rows(fj_call *c, show *s, fj_err *e) {
    const opts *o = s->o;
    int64_t n = (int64_t)s->data->n, from = 0, to = o->limit ? FJ_MIN(o->limit, n) : n;
    if (o->row > n) {
        fj_fail(e, FJ_EINVAL, "--row %" PRId64 ": the data has %" PRId64 " rows", o->row, n);
        return fj_term_fail(c->term, e);
    }
    if (o->row) from = o->row - 1, to = o->row;
    for (int64_t i = from; i < to && !fj_term_stopped(); i++) {
        if (row(s, i, e)) continue;
        if (!o->skip) return fj_term_fail(c->term, e);
        fj_term_say(c->term, FJ_WARN, "left out: %s", e->msg);
        *e = (fj_err){ 0 };
    }
    if (!o->json)
        fj_term_say(c->term, FJ_INFO,
                    "%" PRId64 " of %" PRId64 " rows, %" PRId64 " %s, %" PRId64
                    " of them learned (%.1f %%); template: %s",
                    s->rows, n, s->tokens, s->d->bytes ? "bytes" : "tokens", s->learned,
                    s->tokens ? 100.0 * (double)s->learned / (double)s->tokens : 0.0,
                    fj_chat_name(s->d->chat));
    return FJ_EXIT_OK;
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    if (strcmp(c->args[0], "show") || c->n_args < 2) {
        fj_term_say(c->term, FJ_INFO, "wants show and at least one file of rows");
        return FJ_EXIT_USAGE;
    }
    fj_dress d;
    fj_dataset data;
    if (!fj_dress_open(&d, o->model, o->chat, o->kwargs, o->date, &e))
        return fj_term_fail(c->term, &e);
    fj_dataset_opts so = { .format = (fj_data_format)o->format,
                           .skip_bad_rows = o->skip,
                           .open_rows = true };
    int rc;
    fj_term_catch();
    if (fj_dataset_load(&data, (const char *const *)(c->args + 1), c->n_args - 1, &so,
                        o->json ? NULL : &c->term->log, &e)) {
        show s = {
            .o = o, .d = &d, .data = &data, .color = o->color && isatty(1) && !getenv("NO_COLOR")
        };
        rc = show_rows(c, &s, &e);
        fj_ids_free(&s.ids);
        fj_mask_free(&s.mask);
        fj_dataset_free(&data);
    } else {
        rc = fj_term_fail(c->term, &e);
    }
    fj_dress_close(&d);
    return rc;
}

const fj_cmd fj_cmd_data = {
    .name = "data",
    .args = "show FILE...",
    .summary = "Show rows of data as a model gets them, with what is learned marked.",
    .manual =
        "The rows go through the code that training uses: their text is what the ids stand for, and what\n"
        "is marked is what the loss is taken on. A character between two tokens of which one is learned and\n"
        "one is not is printed as U+FFFD on both sides.\n"
        "    forja data show train.jsonl --model model.gguf --limit 3",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
