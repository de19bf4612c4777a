/* opt_help.c - the option tables as help and as manual. */
#include "cli/opt.h"

/* "help text (1 to 1024; default 16)" */
static void help_text(const fj_cmd *cmd, const fj_opt *o, fj_str *s) {
    fj_str value = { 0 }, range = { 0 };
    fj_opt_range(o, &range);
    if (o->unset) fj_str_add(&value, o->unset);
    else if (cmd->defaults && (o->kind != FJ_OPT_FLAG || *((const bool *)cmd->defaults + o->at)))
        fj_opt_get(o, cmd->defaults, &value);
    fj_str_add(s, o->help);
    bool has_range = range.n && o->kind != FJ_OPT_SIZE, has_value = value.n;
    if (has_range || has_value)
        fj_str_addf(s, " (%s%s%s%s)", has_range ? range.s : "", has_range && has_value ? "; " : "",
                    has_value ? "default " : "", has_value ? value.s : "");
    if (o->kind == FJ_OPT_LIST) fj_str_add(s, "; may be given again");
    fj_str_free(&value);
    fj_str_free(&range);
}

/* "-r, --rank N", "--[no-]flag" */
static void option_text(const fj_opt *o, bool pad, fj_str *s) {
    if (o->letter) fj_str_addf(s, "-%c, ", o->letter);
    else if (pad) fj_str_add(s, "    ");
    fj_str_addf(s, "--%s%s", o->kind == FJ_OPT_FLAG ? "[no-]" : "", o->name);
    if (o->kind != FJ_OPT_FLAG) fj_str_addf(s, " %s", o->value);
}

void fj_cmd_usage(const fj_cmd *cmd, FILE *f) {
    fprintf(f, "usage: forja %s%s%s%s\n", cmd->name, cmd->opts ? " [options]" : "",
            *cmd->args ? " " : "", cmd->args);
}

/* Text after column `indent`, broken at spaces before column 100. */
static void wrapped(FILE *f, const char *text, int indent, int at) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (at > indent && at + 1 + (int)n > 100) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        at += fprintf(f, "%s%.*s", at > indent ? " " : "", (int)n, text);
        text += n;
        while (*text == ' ') text++;
    }
    fputc('\n', f);
}

void fj_cmd_print(const fj_cmd *cmd, FILE *f) {
    enum { COLUMN = 32 };
    fj_cmd_usage(cmd, f);
    fprintf(f, "\n%s\n", cmd->summary);
    if (cmd->opts) fprintf(f, "\nOptions:\n");
    for (const fj_opt *o = cmd->opts; o && o->name; o++) {
        fj_str left = { 0 }, right = { 0 };
        option_text(o, true, &left);
        help_text(cmd, o, &right);
        if (left.n > COLUMN - 4) fprintf(f, "  %s\n%*s", left.s, COLUMN, "");
        else fprintf(f, "  %-*s", COLUMN - 2, left.s);
        wrapped(f, right.s, COLUMN, COLUMN);
        fj_str_free(&left);
        fj_str_free(&right);
    }
    if (cmd->manual) fprintf(f, "\n%s\n", cmd->manual);
}

/* '|' ends a cell of a table, '<' starts a tag. */
static void cell(FILE *f, const char *s) {
    for (; *s; s++) {
        if (*s == '|' || *s == '<') fputc('\\', f);
        fputc(*s, f);
    }
}

void fj_cmd_markdown(const fj_cmd *cmd, FILE *f) {
    fprintf(f, "## forja %s\n\n%s\n\n```\nforja %s%s%s%s\n```\n", cmd->name, cmd->summary,
            cmd->name, cmd->opts ? " [options]" : "", *cmd->args ? " " : "", cmd->args);
    if (cmd->opts) fprintf(f, "\n| option | meaning |\n|---|---|\n");
    for (const fj_opt *o = cmd->opts; o && o->name; o++) {
        fj_str left = { 0 }, right = { 0 };
        option_text(o, false, &left);
        help_text(cmd, o, &right);
        fprintf(f, "| `");
        cell(f, left.s);
        fprintf(f, "` | ");
        cell(f, right.s);
        fprintf(f, " |\n");
        fj_str_free(&left);
        fj_str_free(&right);
    }
    if (cmd->manual) fprintf(f, "\n```\n%s\n```\n", cmd->manual);
    fputc('\n', f);
}
