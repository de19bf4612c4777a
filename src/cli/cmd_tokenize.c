/* cmd_tokenize.c - text to ids and back, for people, scripts and the comparison with other tokenizers. */
#include "cli/open_tok.h"
#include "cli/opt.h"
#include "cli/term.h"
#include "formats/json.h"
#include <errno.h>
#include <inttypes.h>

typedef struct opts {
    bool ids, count, json, special, bos, eos, decode, lines, json_lines;
} opts;
static const opts defaults = { .bos = true };
static const fj_opt table[] = {
    { .name = "ids",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, ids),
      .help = "print the ids alone, on one line" },
    { .name = "count",
      .letter = 'c',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, count),
      .help = "print the number of tokens alone" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, json),
      .help = "print an object with ids and pieces" },
    { .name = "lines",
      .letter = 'l',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, lines),
      .help = "every line of the input is a text of its own, and gives a line of ids" },
    { .name = "json-lines",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, json_lines),
      .help = "as --lines, each text being a JSON string, so that it may hold line ends" },
    { .name = "special",
      .letter = 's',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, special),
      .help =
          "control tokens spelled in the text become control tokens; decoding spells them out" },
    { .name = "bos",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, bos),
      .help = "put in front what the model wants in front" },
    { .name = "eos",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, eos),
      .help = "put behind what the model wants behind" },
    { .name = "decode",
      .letter = 'd',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, decode),
      .help = "the input is ids, parted by spaces or commas; print their text" },
    { 0 },
};

typedef struct job {
    const opts *o;
    const fj_tokenizer *t;
    fj_ids ids;
    bool by_line;
    int64_t line;
    size_t dropped; /* bytes of all texts */
} job;

static void print_table(const job *j) {
    for (size_t i = 0; i < j->ids.n; i++) {
        fj_bytes b = fj_token_bytes(j->t, j->ids.p[i]);
        fj_str s = { 0 };
        fj_put_text(&s, b.p, b.n, true);
        printf("%7" PRId32 "  \"%s\"%s\n", j->ids.p[i], s.s,
               fj_token_is_special(j->t, j->ids.p[i]) ? "  special" : "");
        fj_str_free(&s);
    }
}

static void print_json(const job *j) {
    json_t *o = json_object(), *ids = json_array(), *pieces = json_array();
    for (size_t i = 0; i < j->ids.n; i++) {
        fj_bytes b = fj_token_piece(j->t, j->ids.p[i]);
        json_array_append_new(ids, json_integer(j->ids.p[i]));
        json_array_append_new(pieces, fj_json_text(b.p, b.n));
    }
    json_object_set_new(o, "count", json_integer((json_int_t)j->ids.n));
    json_object_set_new(o, "ids", ids);
    json_object_set_new(o, "pieces", pieces);
    if (!j->by_line) {
        fj_print_json(o);
        return;
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static bool encode(job *j, const char *text, size_t n, fj_err *e) {
    const opts *o = j->o;
    unsigned flags = (o->bos ? FJ_TOK_BOS : 0u) | (o->eos ? FJ_TOK_EOS : 0u) |
                     (o->special ? FJ_TOK_SPECIAL : 0u);
    fj_ids_clear(&j->ids);
    if (!fj_tokenize(j->t, text, n, flags, &j->ids, e)) return false;
    j->dropped += j->ids.dropped;
    if (o->json) print_json(j);
    else if (o->count) printf("%zu\n", j->ids.n);
    else if (o->ids || j->by_line) {
        for (size_t i = 0; i < j->ids.n; i++) printf("%s%" PRId32, i ? " " : "", j->ids.p[i]);
        putchar('\n');
    } else print_table(j);
    return true;
}

static bool decode(job *j, const char *text, size_t n, fj_err *e) {
    fj_ids_clear(&j->ids);
    for (const char *p = text, *end = text + n; p < end;) {
        if (strchr(" ,\t\r\n[]", *p) && *p) {
            p++;
            continue;
        }
        char *after;
        errno = 0;
        long v = strtol(p, &after, 10);
        if (after == p || (after < end && (!*after || !strchr(" ,\t\r\n[]", *after))))
            return fj_fail(e, FJ_EFORMAT,
                           "expected ids parted by spaces or commas, found \"%.20s\"", p);
        if (errno || v < 0 || v >= fj_vocab_size(j->t))
            return fj_fail(e, FJ_EFORMAT, "id %ld is not in the vocabulary: 0 to %" PRId32, v,
                           fj_vocab_size(j->t) - 1);
        fj_ids_push(&j->ids, (int32_t)v);
        p = after;
    }
    size_t out_n;
    char *out = fj_detokenize(j->t, j->ids.p, j->ids.n, j->o->special, &out_n);
    if (j->o->json_lines) {
        json_t *s = fj_json_text(out, out_n);
        json_dumpf(s, stdout, JSON_ENCODE_ANY);
        json_decref(s);
    } else fwrite(out, 1, out_n, stdout);
    if (j->by_line) putchar('\n');
    free(out);
    return true;
}

static bool one(job *j, const char *text, size_t n, fj_err *e) {
    if (j->o->decode) return decode(j, text, n, e);
    if (!j->o->json_lines) return encode(j, text, n, e);
    char name[48];
    snprintf(name, sizeof name, "line %" PRId64, j->line);
    json_error_t je;
    json_t *s = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    bool ok = json_is_string(s) ? encode(j, json_string_value(s), json_string_length(s), e)
                                : fj_fail(e, FJ_EFORMAT, "%s: expected a JSON string", name);
    json_decref(s);
    return ok;
}

static bool by_lines(job *j, const char *text, size_t n, fj_err *e) {
    for (const char *p = text, *end = text + n; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t k = nl ? (size_t)(nl - p) : (size_t)(end - p);
        j->line++;
        if (!one(j, p, k, e)) return false;
        p += k + 1;
    }
    return true;
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    if (o->ids + o->count + o->json + o->decode > 1) {
        fj_term_say(c->term, FJ_INFO, "wants one of --ids, --count, --json and --decode");
        return FJ_EXIT_USAGE;
    }
    fj_tokenizer *t = fj_open_tokenizer(c->args[0], &e);
    if (!t) return fj_term_fail(c->term, &e);
    job j = { .o = o, .t = t, .by_line = o->lines || o->json_lines };
    fj_str text = { 0 };
    bool ok = true;
    if (c->n_args > 1) fj_str_add(&text, c->args[1]);
    else ok = fj_read_stdin(&text, (size_t)1 << 30, &e);
    if (ok) ok = j.by_line ? by_lines(&j, text.s, text.n, &e) : one(&j, text.s, text.n, &e);
    if (ok && j.dropped)
        fj_term_say(c->term, FJ_WARN,
                    "%zu bytes have no token in this vocabulary and were left out", j.dropped);
    fj_str_free(&text);
    fj_ids_free(&j.ids);
    fj_tokenizer_free(t);
    return ok ? FJ_EXIT_OK : fj_term_fail(c->term, &e);
}

const fj_cmd fj_cmd_tokenize = {
    .name = "tokenize",
    .args = "MODEL [TEXT]",
    .summary = "Turn text into token ids, or ids into text.",
    .manual =
        "MODEL is a GGUF file, a folder with a tokenizer (tokenizer.json, tokenizer.model, tekken.json,\n"
        "NAME.tiktoken, vocab.json with merges.txt, vocab.txt), or one of these files. Without TEXT\n"
        "the standard input is read, to its last byte.\n\n"
        "  forja tokenize model.gguf \"Good morning\"\n"
        "  forja tokenize hf --no-bos --lines < questions.txt\n"
        "  forja tokenize hf --decode \"1 403 407\"",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
