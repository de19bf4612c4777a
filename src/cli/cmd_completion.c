/* cmd_completion.c - completion for three shells, written from the option tables. */
#include "cli/opt.h"

static bool takes_file(const fj_opt *o) {
    return !strncmp(o->value, "FILE", 4) || !strncmp(o->value, "DIR", 3) ||
           !strncmp(o->value, "PATH", 4);
}

/* Commands whose words are not files. */
static const char *words_of(const fj_cmd *c) {
    if (!strcmp(c->name, "help")) return "COMMANDS";
    if (!strcmp(c->name, "completion")) return "bash zsh fish";
    return NULL;
}

static void put_choices(const char *s) {
    for (; *s; s++) putchar(*s == '|' ? ' ' : *s);
}

/* Inside single quotes of a shell; zsh's _arguments also gives '[', ']' and ':' a meaning. */
static void quoted(const char *s, bool zsh) {
    for (; *s; s++) {
        if (*s == '\'') fputs("'\\''", stdout);
        else if (zsh && strchr("[]:\\", *s)) printf("\\%c", *s);
        else putchar(*s);
    }
}

static void put_commands(void) {
    for (size_t i = 0; fj_cmds[i]; i++) printf("%s%s", i ? " " : "", fj_cmds[i]->name);
}

static void bash(void) {
    printf("# bash completion of forja: source <(forja completion bash)\n_forja() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} opts= words=\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    put_commands();
    printf(" --help --version\" -- \"$cur\"))\n        return\n    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; fj_cmds[i]; i++) {
        const fj_cmd *c = fj_cmds[i];
        printf("    %s)\n        opts=\"--help", c->name);
        for (const fj_opt *o = c->opts; o && o->name; o++)
            printf(" --%s%s%s", o->name, o->kind == FJ_OPT_FLAG ? " --no-" : "",
                   o->kind == FJ_OPT_FLAG ? o->name : "");
        printf("\"\n");
        if (words_of(c)) {
            printf("        words=\"");
            if (!strcmp(words_of(c), "COMMANDS")) put_commands();
            else printf("%s", words_of(c));
            printf("\"\n");
        }
        printf("        case $prev in\n");
        for (const fj_opt *o = c->opts; o && o->name; o++) {
            if (o->kind == FJ_OPT_FLAG) continue;
            printf("        --%s", o->name);
            if (o->letter) printf("|-%c", o->letter);
            if (o->kind == FJ_OPT_CHOICE) {
                printf(") COMPREPLY=($(compgen -W \"");
                put_choices(o->value);
                printf("\" -- \"$cur\")); return ;;\n");
            } else if (takes_file(o)) {
                printf(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
            } else {
                printf(") COMPREPLY=(); return ;;\n");
            }
        }
        printf("        esac ;;\n");
    }
    printf(
        "    esac\n    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"))\n"
        "    elif [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
        "    else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n}\n"
        "complete -o filenames -F _forja forja\n");
}

static void zsh(void) {
    printf("#compdef forja\n# zsh completion of forja: put it as _forja into a folder of $fpath\n"
           "_forja() {\n    if (( CURRENT == 2 )); then\n        local -a commands=(\n");
    for (size_t i = 0; fj_cmds[i]; i++) {
        printf("            '%s:", fj_cmds[i]->name);
        quoted(fj_cmds[i]->summary, true);
        printf("'\n");
    }
    printf(
        "        )\n        _describe command commands\n        return\n    fi\n"
        "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n");
    for (size_t i = 0; fj_cmds[i]; i++) {
        const fj_cmd *c = fj_cmds[i];
        printf("    %s) _arguments \\\n        '--help[this help]'", c->name);
        for (const fj_opt *o = c->opts; o && o->name; o++) {
            printf(" \\\n        '%s--%s[", o->kind == FJ_OPT_LIST ? "*" : "", o->name);
            quoted(o->help, true);
            printf("]");
            if (o->kind == FJ_OPT_CHOICE) {
                printf(":choice:(");
                put_choices(o->value);
                printf(")");
            } else if (o->kind != FJ_OPT_FLAG) {
                printf(":");
                quoted(o->value, true);
                printf(":%s", takes_file(o) ? "_files" : "");
            }
            printf("'");
            if (o->kind == FJ_OPT_FLAG) printf(" \\\n        '--no-%s[not so]'", o->name);
        }
        const char *w = words_of(c);
        printf(" \\\n        '*:word:");
        if (!w) printf("_files");
        else {
            putchar('(');
            if (!strcmp(w, "COMMANDS")) put_commands();
            else printf("%s", w);
            putchar(')');
        }
        printf("' ;;\n");
    }
    printf("    esac\n}\ncompdef _forja forja\n");
}

static void fish(void) {
    printf(
        "# fish completion of forja: forja completion fish > ~/.config/fish/completions/forja.fish\n"
        "complete -c forja -n __fish_use_subcommand -f -l version -d 'print the version'\n");
    for (size_t i = 0; fj_cmds[i]; i++) {
        const fj_cmd *c = fj_cmds[i];
        printf("complete -c forja -n __fish_use_subcommand -f -a %s -d '", c->name);
        quoted(c->summary, false);
        printf("'\n");
        for (const fj_opt *o = c->opts; o && o->name; o++) {
            printf("complete -c forja -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
            if (o->letter) printf(" -s %c", o->letter);
            if (o->kind == FJ_OPT_CHOICE) {
                printf(" -x -a '");
                put_choices(o->value);
                printf("'");
            } else if (o->kind != FJ_OPT_FLAG) {
                printf(takes_file(o) ? " -r -F" : " -x");
            }
            printf(" -d '");
            quoted(o->help, false);
            printf("'\n");
        }
        const char *w = words_of(c);
        if (!w) continue;
        printf("complete -c forja -n '__fish_seen_subcommand_from %s' -f -a '", c->name);
        if (!strcmp(w, "COMMANDS")) put_commands();
        else printf("%s", w);
        printf("'\n");
    }
}

static int run(fj_call *c) {
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
    for (size_t i = 0; i < FJ_LEN(shells); i++) {
        if (strcmp(c->args[0], shells[i].name)) continue;
        shells[i].print();
        return FJ_EXIT_OK;
    }
    fprintf(stderr, "forja completion: wants bash, zsh or fish, not \"%s\"\n", c->args[0]);
    return FJ_EXIT_USAGE;
}

const fj_cmd fj_cmd_completion = {
    .name = "completion",
    .args = "bash|zsh|fish",
    .summary = "Print the completion script of a shell.",
    .manual = "  bash: source <(forja completion bash)\n"
              "  zsh:  forja completion zsh > ~/.zfunc/_forja      (a folder of $fpath)\n"
              "  fish: forja completion fish > ~/.config/fish/completions/forja.fish",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
