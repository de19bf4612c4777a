/* main.c - finds the command, lets its table read the words, runs it, and turns errors into exit
 * codes: 0 fine, 1 failed, 2 usage, 3 a gate said no. */
#include "base/fs.h"
#include "cli/opt.h"
#include "cli/term.h"
#include "lifecycle/hub.h"
#include <errno.h>
#include <locale.h>
#include <stdio.h>

#define FJ_CMD(name) extern const fj_cmd fj_cmd_##name;
#include "cli/commands.def"
#undef FJ_CMD

const fj_cmd *const fj_cmds[] = {
#define FJ_CMD(name) &fj_cmd_##name,
#include "cli/commands.def"
#undef FJ_CMD
    NULL
};

static const char *cmd_name(const void *ctx, size_t i) {
    (void)ctx;
    return fj_cmds[i] ? fj_cmds[i]->name : NULL;
}

static int usage_error(const char *command, const char *text) {
    fprintf(stderr, "forja%s%s: %s\n", *command ? " " : "", command, text);
    return FJ_EXIT_USAGE;
}

static int unknown_command(const char *word) {
    const char *near = fj_nearest(word, cmd_name, NULL);
    fj_err e;
    if (near)
        fj_fail(&e, FJ_EINVAL, "there is no command \"%s\"; did you mean \"%s\"?", word, near);
    else fj_fail(&e, FJ_EINVAL, "there is no command \"%s\"; forja help lists them", word);
    return usage_error("", e.msg);
}

/* Words that a command calls MODEL may name what forja pull has put into the cache: OWNER/NAME[:FILE].  A path that
 * is there stays what it is.  The paths are the caller's, in the same places. */
static char **models_of_cache(const fj_cmd *cmd, fj_parsed *p) {
    char **mine = fj_zalloc(((size_t)p->n_args + 1) * sizeof *mine);
    const char *word = cmd->args;
    for (int i = 0; i < p->n_args && *word; i++) {
        word += strspn(word, " [");
        if (!strncmp(word, "MODEL", 5) && !fj_exists(p->args[i]))
            mine[i] = fj_hub_cached(p->args[i]);
        if (mine[i]) p->args[i] = mine[i];
        word += strcspn(word, " ");
    }
    return mine;
}

/* stdout may be a full disk: what it did not take is a failure even when the command was happy.  A
 * reader that left (a pipe into head) knows what it does, and gets no message. */
static int close_stdout(fj_term *t, int rc) {
    errno = 0;
    bool bad = ferror(stdout);
    if (fflush(stdout) == 0 && !bad) return rc;
    if (errno != EPIPE && !(bad && errno == 0))
        fj_term_say(t, FJ_INFO, "cannot write the output: %s", strerror(errno));
    return rc ? rc : FJ_EXIT_FAILED;
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, "");
    const char *word = argc > 1 ? argv[1] : "help";
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) word = "help";
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        printf("forja %s\n", FORJA_VERSION);
        return fflush(stdout) == 0 ? FJ_EXIT_OK : FJ_EXIT_FAILED;
    }
    if (*word == '-') return usage_error("", "the first word is a command; forja help lists them");
    const fj_cmd *cmd = fj_cmd_find(word);
    if (!cmd) return unknown_command(word);

    fj_err e = { 0 };
    fj_parsed p;
    if (!fj_opt_parse(cmd, argc > 2 ? argc - 2 : 0, argv + 2, &p, &e))
        return usage_error(cmd->name, e.msg);
    fj_term t;
    fj_term_open(&t, cmd->name);
    int rc = FJ_EXIT_OK;
    if (p.help) {
        fj_cmd_print(cmd, stdout);
    } else {
        char **paths = models_of_cache(cmd, &p);
        fj_call c = { cmd, p.opts, p.n_args, p.args, &t };
        rc = cmd->run(&c);
        for (int i = 0; i < p.n_args; i++) free(paths[i]);
        free(paths);
    }
    fj_term_close(&t);
    rc = close_stdout(&t, rc);
    fj_parsed_free(cmd, &p);
    return rc;
}
