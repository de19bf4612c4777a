/* cmd_chat.c - a conversation: lines of a person or of a pipe in, answers out.
 *
 * Answers go to stdout, everything else to stderr.  Ctrl-C stops an answer, at the prompt it drops the
 * line; /quit or Ctrl-D ends. */
#include "base/fs.h"
#include "cli/line.h"
#include "cli/talk.h"

typedef struct opts {
    fj_talk_opts talk;
    bool stats;
} opts;
static const opts defaults = { .talk = FJ_TALK_DEFAULTS };
#define FJ_AT(field) (offsetof(opts, talk) + offsetof(fj_talk_opts, field))
static const fj_opt table[] = {
#include "cli/talk.def"
    { .name = "stats",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, stats),
      .help = "say after each answer how many tokens took how long" },
    { 0 },
};

typedef struct chat {
    opts o; /* /set changes it */
    fj_term *term;
    fj_line *line;
    fj_talk *talk;
    fj_arena words;  /* strings that o points to */
    json_t *history; /* [ { role, content } ] since the last reset */
    bool failed;     /* a turn of a pipe failed */
} chat;

static void put(void *ctx, const char *s, size_t n) {
    (void)ctx;
    fwrite(s, 1, n, stdout);
    fflush(stdout);
}

static void complain(chat *c, const fj_err *e) {
    fj_term_fail(c->term, e);
    c->failed = true;
}

static void remember(chat *c, const char *role, const char *text, size_t n) {
    json_t *m = json_object();
    json_object_set_new(m, "role", json_string(role));
    json_object_set_new(m, "content", fj_json_text(text, n));
    json_array_append_new(c->history, m);
}

/* ---- commands ----------------------------------------------------------------------------------- */

static bool do_help(chat *c, char *rest);

static bool do_reset(chat *c, char *rest) {
    (void)rest;
    fj_talk_reset(c->talk);
    json_array_clear(c->history);
    fj_term_say(c->term, FJ_INFO, "the conversation begins again");
    return true;
}

static bool do_adapter(chat *c, char *rest) {
    fj_err e = { 0 };
    if (!*rest) {
        fj_term_say(c->term, FJ_INFO, "adapter: %s", c->o.talk.adapter ? c->o.talk.adapter : "off");
        return true;
    }
    const char *path = strcmp(rest, "off") ? fj_arena_strdup(&c->words, rest) : NULL;
    if (!fj_talk_adapter(c->talk, path, &e)) {
        complain(c, &e);
        return true;
    }
    c->o.talk.adapter = path;
    json_array_clear(c->history);
    fj_term_say(c->term, FJ_INFO, "adapter: %s; the conversation begins again",
                path ? path : "off");
    return true;
}

static bool do_system(chat *c, char *rest) {
    c->o.talk.system = *rest ? fj_arena_strdup(&c->words, rest) : NULL;
    fj_talk_reset(c->talk);
    json_array_clear(c->history);
    fj_term_say(c->term, FJ_INFO, "system message %s; the conversation begins again",
                *rest ? "set" : "taken away");
    return true;
}

static const char *table_name(const void *ctx, size_t i) {
    (void)ctx;
    return table[i].name;
}

/* Fixed at the start, or with a command of their own. */
static bool is_fixed(const fj_opt *o) {
    static const char *const names[] = { "adapter", "system",   "context",
                                         "device",  "threads",  "f32",
                                         "mmap",    "template", "template-kwargs" };
    for (size_t i = 0; i < FJ_LEN(names); i++)
        if (!strcmp(o->name, names[i])) return true;
    return false;
}

static bool do_set(chat *c, char *rest) {
    char *value = rest + strcspn(rest, " =");
    fj_err e = { 0 };
    if (!*rest) {
        fj_table t;
        fj_table_open(&t, 2, "", "");
        for (const fj_opt *o = table; o->name; o++) {
            fj_str s = { 0 };
            fj_opt_get(o, &c->o, &s);
            if (!is_fixed(o)) fj_table_row(&t, o->name, s.s);
            fj_str_free(&s);
        }
        fj_table_print(&t, stderr, 2);
        return true;
    }
    const fj_opt *o = fj_opt_find(table, rest, (size_t)(value - rest));
    if (*value) *value++ = 0;
    value += strspn(value, " =");
    if (!o || is_fixed(o)) {
        const char *near = o ? NULL : fj_nearest(rest, table_name, NULL);
        fj_fail(&e, FJ_EINVAL,
                o ? "%s cannot be changed here%s%s%s" : "there is no setting \"%s\"%s%s%s", rest,
                near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        complain(c, &e);
        return true;
    }
    if (o->kind == FJ_OPT_LIST && (!*value || !strcmp(value, "off")))
        ((fj_list *)(void *)((char *)&c->o + o->at))->n = 0;
    else if (!fj_opt_set(o, &c->o, o->name, fj_arena_strdup(&c->words, value), &e)) complain(c, &e);
    return true;
}

static bool do_save(chat *c, char *rest) {
    fj_err e = { 0 };
    json_t *all = json_object(), *list = json_array();
    if (!*rest) {
        fj_fail(&e, FJ_EINVAL, "/save wants a file");
    } else {
        const char *system = c->o.talk.system;
        if (system) {
            json_t *m = json_object();
            json_object_set_new(m, "role", json_string("system"));
            json_object_set_new(m, "content", fj_json_text(system, strlen(system)));
            json_array_append_new(list, m);
        }
        json_array_extend(list, c->history);
        json_object_set(all, "messages", list);
        /* A row of training data in the messages format: one line. */
        char *text = json_dumps(all, JSON_COMPACT);
        fj_str s = { 0 };
        fj_str_addf(&s, "%s\n", text);
        if (fj_write_file(rest, s.s, s.n, &e))
            fj_term_say(c->term, FJ_INFO, "%zu messages are in %s", json_array_size(list), rest);
        fj_str_free(&s);
        free(text);
    }
    if (*e.msg) complain(c, &e);
    json_decref(list);
    json_decref(all);
    return true;
}

static bool do_quit(chat *c, char *rest) {
    (void)c;
    (void)rest;
    return false;
}

static const struct verb {
    const char *name, *args, *help;
    bool (*run)(chat *c, char *rest); /* false: leave */
} verbs[] = {
    { "help", "", "this list", do_help },
    { "reset", "", "begin the conversation again", do_reset },
    { "adapter", "[PATH|off]", "change the adapter, or take it away", do_adapter },
    { "system", "[TEXT]", "set the system message, or take it away", do_system },
    { "set", "[KEY VALUE]", "change how tokens are drawn (temperature, top-k, ...), or list it",
      do_set },
    { "save", "FILE", "write the conversation as a row of training data", do_save },
    { "quit", "", "leave (also Ctrl-D)", do_quit },
};

static bool do_help(chat *c, char *rest) {
    (void)c;
    (void)rest;
    fj_table t;
    fj_table_open(&t, 2, "", "");
    for (size_t i = 0; i < FJ_LEN(verbs); i++) {
        fj_str s = { 0 };
        fj_str_addf(&s, "/%s %s", verbs[i].name, verbs[i].args);
        fj_table_row(&t, s.s, verbs[i].help);
        fj_str_free(&s);
    }
    fj_table_print(&t, stderr, 2);
    return true;
}

static const char *verb_name(const void *ctx, size_t i) {
    (void)ctx;
    return i < FJ_LEN(verbs) ? verbs[i].name : NULL;
}

static bool command(chat *c, char *line) {
    char *rest = line + strcspn(line, " ");
    if (*rest) *rest++ = 0;
    rest += strspn(rest, " ");
    for (size_t i = 0; i < FJ_LEN(verbs); i++)
        if (!strcmp(line, verbs[i].name)) return verbs[i].run(c, rest);
    const char *near = fj_nearest(line, verb_name, NULL);
    fj_err e = { 0 };
    fj_fail(&e, FJ_EINVAL, "there is no /%s%s%s%s", line,
            near ? "; did you mean /" : "; /help lists them", near ? near : "", near ? "?" : "");
    complain(c, &e);
    return true;
}

/* ---- turns -------------------------------------------------------------------------------------- */

static void turn(chat *c, const char *text) {
    fj_err e = { 0 };
    fj_answer a = { 0 };
    bool ok = fj_talk_say(c->talk, text, put, NULL, &a, &e);
    if (a.text.n) putchar('\n');
    fflush(stdout);
    if (!ok) {
        complain(c, &e);
    } else {
        remember(c, "user", text, strlen(text));
        remember(c, "assistant", a.text.s ? a.text.s : "", a.text.n);
        if (!strcmp(a.why, "context"))
            fj_term_say(c->term, FJ_WARN, "the context is full; /reset begins again");
        if (c->o.stats)
            fj_term_say(c->term, FJ_INFO, "%lld tokens in %.2f s (%.1f tok/s), %s",
                        (long long)a.tokens, a.answer_s,
                        a.answer_s > 0 ? (double)a.tokens / a.answer_s : 0.0, a.why);
    }
    fj_str_free(&a.text);
}

static void converse(chat *c) {
    bool person = fj_line_is_person(c->line), stopped;
    if (person) fj_term_say(c->term, FJ_INFO, "/help lists the commands, Ctrl-D leaves");
    for (;;) {
        const char *line = fj_line_read(c->line, "> ", &stopped);
        if (!line) {
            if (!stopped || !person) return;
            fputc('\n', stderr);
            fj_term_forget_stop();
            continue;
        }
        if (!*line) continue;
        if (*line == '/') {
            char *copy = fj_strdup(line + 1);
            bool stay = command(c, copy);
            free(copy);
            if (!stay) return;
            continue;
        }
        turn(c, line);
        if (fj_term_stopped() && !person) return;
        fj_term_forget_stop();
    }
}

static int run(fj_call *call) {
    chat c = { .o = *(const opts *)call->opts, .term = call->term };
    fj_err e = { 0 };
    /* The list of stops grows here; its memory must not be the parser's. */
    fj_list stop = { 0 };
    for (size_t i = 0; i < c.o.talk.stop.n; i++) {
        FJ_GROW(stop.v, stop.n + 1, stop.cap);
        stop.v[stop.n++] = c.o.talk.stop.v[i];
    }
    c.o.talk.stop = stop;
    fj_term_catch();
    c.talk = fj_talk_open(call->args[0], &c.o.talk, call->term, &e);
    int rc = FJ_EXIT_OK;
    if (c.talk) {
        c.history = json_array();
        c.line = fj_line_open("chat_history");
        converse(&c);
        rc = c.failed && !fj_line_is_person(c.line) ? FJ_EXIT_FAILED : FJ_EXIT_OK;
        fj_line_close(c.line);
        json_decref(c.history);
    } else {
        rc = fj_term_fail(call->term, &e);
    }
    fj_talk_close(c.talk);
    free(c.o.talk.stop.v);
    fj_arena_free(&c.words);
    return rc;
}

const fj_cmd fj_cmd_chat = {
    .name = "chat",
    .args = "MODEL",
    .summary = "Talk with a model.",
    .manual =
        "Lines that start with / are commands: /help lists them. Ctrl-C stops an answer, not the\n"
        "program. Lines may also come from a pipe; then the exit code is 1 when one of them failed.\n"
        "The history of lines is kept in $XDG_STATE_HOME/forja or ~/.local/state/forja.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
