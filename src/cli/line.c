#include "cli/line.h"
#include "base/fs.h"
#include "cli/term.h"
#include <errno.h>
#include <histedit.h>
#include <unistd.h>
#include <wchar.h>

enum { KEEP = 1000 }; /* lines of history */

struct fj_line {
    EditLine *el; /* NULL: a pipe */
    History *history;
    char *path; /* of the history; NULL: not kept */
    const char *prompt;
    char *buf; /* of getline */
    size_t cap;
    fj_str copy;
};

static char *state_path(const char *name) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *base = state && *state == '/' ? fj_strdup(state)
                 : home && *home        ? fj_path_join(home, ".local/state")
                                        : NULL;
    if (!base) return NULL;
    char *dir = fj_path_join(base, "forja"), *path = NULL;
    if (fj_mkdirs(dir, NULL)) path = fj_path_join(dir, name);
    free(base);
    free(dir);
    return path;
}

static char *prompt_of(EditLine *el) {
    fj_line *l = NULL;
    el_get(el, EL_CLIENTDATA, &l);
    return (char *)l->prompt;
}

/* libedit tries once more after a signal; here Ctrl-C must come back at once. */
static int get_char(EditLine *el, wchar_t *out) {
    mbstate_t state = { 0 };
    (void)el;
    for (;;) {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n == 0) return 0;
        if (n < 0) {
            if (errno == EINTR && !fj_term_stopped()) continue; /* a resized window */
            return -1;
        }
        size_t k = mbrtowc(out, &c, 1, &state);
        if (k == (size_t)-2) continue;
        if (k == (size_t)-1) memset(&state, 0, sizeof state); /* not a character: left out */
        if (k != (size_t)-1) return 1;
    }
}

fj_line *fj_line_open(const char *name) {
    fj_line *l = fj_zalloc(sizeof *l);
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) return l;
    HistEvent ev;
    /* The prompt is talk: it goes to stderr, so that stdout holds answers alone. */
    l->el = el_init("forja", stdin, stderr, stderr);
    if (!l->el) return l;
    l->history = history_init();
    l->path = state_path(name);
    el_set(l->el, EL_CLIENTDATA, l);
    el_set(l->el, EL_PROMPT, prompt_of);
    el_set(l->el, EL_EDITOR, "emacs");
    el_set(l->el, EL_GETCFN, get_char);
    el_source(l->el, NULL); /* ~/.editrc */
    if (l->history) {
        history(l->history, &ev, H_SETSIZE, KEEP);
        history(l->history, &ev, H_SETUNIQUE, 1);
        el_set(l->el, EL_HIST, history, l->history);
        if (l->path) history(l->history, &ev, H_LOAD, l->path);
    }
    return l;
}

bool fj_line_is_person(const fj_line *l) { return l->el != NULL; }

const char *fj_line_read(fj_line *l, const char *prompt, bool *stopped) {
    *stopped = false;
    fj_str_clear(&l->copy);
    if (l->el) {
        int n = 0;
        l->prompt = prompt;
        const char *s = el_gets(l->el, &n);
        if (!s || n <= 0) {
            *stopped = fj_term_stopped();
            return NULL;
        }
        fj_str_add(&l->copy, s);
    } else {
        errno = 0;
        ssize_t n = getline(&l->buf, &l->cap, stdin);
        if (n < 0) {
            *stopped = fj_term_stopped();
            return NULL;
        }
        fj_str_addn(&l->copy, l->buf, (size_t)n);
    }
    fj_str *s = &l->copy;
    if (s->n && s->s[s->n - 1] == '\n') s->s[--s->n] = 0;
    if (s->n && s->s[s->n - 1] == '\r') s->s[--s->n] = 0;
    HistEvent ev;
    if (l->history && s->n) history(l->history, &ev, H_ENTER, s->s);
    return s->s;
}

void fj_line_close(fj_line *l) {
    if (!l) return;
    HistEvent ev;
    if (l->history && l->path) history(l->history, &ev, H_SAVE, l->path);
    if (l->history) history_end(l->history);
    if (l->el) el_end(l->el);
    free(l->path);
    free(l->buf);
    fj_str_free(&l->copy);
    free(l);
}
