/* cmd_help.c - the list of commands, the help of one, and the manual of all as Markdown. */
#include "cli/opt.h"
#include "cli/term.h"

typedef struct opts {
    bool markdown;
} opts;
static const opts defaults = { 0 };
static const fj_opt table[] = {
    { .name = "markdown",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, markdown),
      .help = "print the manual of every command as Markdown: docs/commands.md" },
    { 0 },
};

static const char *cmd_name(const void *ctx, size_t i) {
    (void)ctx;
    return fj_cmds[i] ? fj_cmds[i]->name : NULL;
}

static void markdown(void) {
    printf(
        "# Commands\n\nMade by `forja help --markdown` from the option tables in `src/cli`; do not "
        "edit by hand.\nEvery command takes `--help`. Exit codes: 0 fine, 1 failed, 2 usage, 3 a "
        "gate said no. Data go to stdout,\nmessages and progress to stderr.\n\n");
    for (size_t i = 0; fj_cmds[i]; i++) fj_cmd_markdown(fj_cmds[i], stdout);
}

static void overview(void) {
    printf("forja fine-tunes language models, measures them and lets you talk to them.\n\n"
           "usage: forja COMMAND [options] ...\n\n");
    fj_table t;
    fj_table_open(&t, 2, "", "");
    for (size_t i = 0; fj_cmds[i]; i++) fj_table_row(&t, fj_cmds[i]->name, fj_cmds[i]->summary);
    fj_table_print(&t, stdout, 2);
    printf("\nforja COMMAND --help says more.\n");
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    if (o->markdown) {
        markdown();
        return FJ_EXIT_OK;
    }
    if (!c->n_args) {
        overview();
        return FJ_EXIT_OK;
    }
    const fj_cmd *cmd = fj_cmd_find(c->args[0]);
    if (cmd) {
        fj_cmd_print(cmd, stdout);
        return FJ_EXIT_OK;
    }
    const char *near = fj_nearest(c->args[0], cmd_name, NULL);
    fj_term_say(c->term, FJ_INFO, "there is no command \"%s\"%s%s%s", c->args[0],
                near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return FJ_EXIT_USAGE;
}

const fj_cmd fj_cmd_help = { "help",    "[COMMAND]", "Say what the commands do.",
                             NULL,      table,       sizeof(opts),
                             &defaults, 0,           1,
                             run };
