/* cmd_run.c - one prompt, one answer. */
#include "cli/talk.h"

typedef struct opts {
    fj_talk_opts talk;
    bool json, stats, echo;
} opts;
static const opts defaults = { .talk = FJ_TALK_DEFAULTS, .talk.complete = true };
#define FJ_AT(field) (offsetof(opts, talk) + offsetof(fj_talk_opts, field))
static const fj_opt table[] = {
#include "cli/talk.def"
    { .name = "echo",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, echo),
      .help = "print the prompt in front of its continuation" },
    { .name = "stats",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, stats),
      .help = "say on stderr how many tokens took how long" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, json),
      .help = "one JSON object with text, tokens and times" },
    { 0 },
};

static void put(void *ctx, const char *s, size_t n) {
    const opts *o = ctx;
    if (o->json) return;
    fwrite(s, 1, n, stdout);
    fflush(stdout);
}

static void print_stats(fj_term *t, const fj_answer *a) {
    fj_term_say(t, FJ_INFO,
                "prompt %lld tokens in %.3f s, answer %lld tokens in %.3f s (%.1f tok/s), %s",
                (long long)a->prompt_tokens, a->prompt_s, (long long)a->tokens, a->answer_s,
                a->answer_s > 0 ? (double)a->tokens / a->answer_s : 0.0, a->why);
}

static void print_json(const char *prompt, const fj_answer *a) {
    json_t *j = json_object();
    json_object_set_new(j, "prompt", fj_json_text(prompt, strlen(prompt)));
    json_object_set_new(j, "text", fj_json_text(a->text.s ? a->text.s : "", a->text.n));
    json_object_set_new(j, "finish_reason", json_string(a->why));
    json_object_set_new(j, "prompt_tokens", json_integer(a->prompt_tokens));
    json_object_set_new(j, "tokens", json_integer(a->tokens));
    json_object_set_new(j, "prompt_seconds", json_real(a->prompt_s));
    json_object_set_new(j, "seconds", json_real(a->answer_s));
    fj_print_json(j);
}

/* "-": all of stdin, without the newline that an editor leaves at the end. */
static char *prompt_of(const char *word, fj_err *e) {
    if (strcmp(word, "-")) return fj_strdup(word);
    fj_str s = { 0 };
    if (!fj_read_stdin(&s, (size_t)64 << 20, e)) {
        fj_str_free(&s);
        return NULL;
    }
    if (strlen(s.s) != s.n) {
        fj_fail(e, FJ_EINVAL, "the prompt on the standard input holds a 0 byte");
        fj_str_free(&s);
        return NULL;
    }
    if (s.n && s.s[s.n - 1] == '\n') s.s[--s.n] = 0;
    return fj_str_take(&s);
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    fj_answer a = { 0 };
    fj_term_catch();
    char *prompt = prompt_of(c->args[1], &e);
    fj_talk *t = prompt ? fj_talk_open(c->args[0], &o->talk, c->term, &e) : NULL;
    bool ok = t != NULL;
    if (ok && o->echo) put((void *)o, prompt, strlen(prompt));
    ok = ok && fj_talk_say(t, prompt, put, (void *)o, &a, &e);
    if (ok && o->json) print_json(prompt, &a);
    else if (ok) putchar('\n');
    if (ok && o->stats) print_stats(c->term, &a);
    fj_talk_close(t);
    fj_str_free(&a.text);
    free(prompt);
    if (!ok) return fj_term_fail(c->term, &e);
    return strcmp(a.why, "stopped") ? FJ_EXIT_OK : FJ_EXIT_FAILED;
}

const fj_cmd fj_cmd_run = {
    .name = "run",
    .args = "MODEL PROMPT",
    .summary = "Answer one prompt and end.",
    .manual =
        "MODEL is a GGUF file or a Hugging Face folder. PROMPT - reads the standard input.\n\n"
        "  forja run model.gguf \"Once upon a time\" --greedy -n 200\n"
        "  forja run model.gguf --adapter run/adapter \"Where does Gilda live?\"",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
