/* term.c - progress, messages and signals. */
#include "cli/term.h"
#include "base/fs.h"
#include "cli/opt.h"
#include <math.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

static volatile sig_atomic_t stops; /* the only thing the handler writes */

static void on_signal(int sig) {
    if (stops++) _exit(128 + sig);
}

void fj_term_catch(void) {
    struct sigaction a = { .sa_handler = on_signal }; /* no SA_RESTART: reads come back */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool fj_term_stopped(void) { return stops != 0; }
void fj_term_forget_stop(void) { stops = 0; }

static int width_of(int fd) {
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

static void clear_bar(fj_term *t) {
    if (!t->bar_shown) return;
    fputs("\r\033[K", stderr);
    t->bar_shown = false;
}

void fj_progress_line(const fj_progress *p, int width, fj_str *out) {
    fj_str tail = { 0 }, part = { 0 };
    fj_str_add(out, p->what ? p->what : "");
    bool bytes = p->unit && !strcmp(p->unit, "byte");
    if (bytes) {
        fj_str_addc(out, ' ');
        fj_put_bytes(out, (double)p->done);
        if (p->total > 0) fj_str_add(out, " of ");
        if (p->total > 0) fj_put_bytes(out, (double)p->total);
    } else {
        fj_str_addf(out, " %lld", (long long)p->done);
        if (p->total > 0) fj_str_addf(out, "/%lld", (long long)p->total);
        if (p->unit) fj_str_addf(out, " %s", p->unit);
    }
    int room = width - fj_text_width(out->s);
    for (int i = 0; i < 4; i++) {
        fj_str_clear(&part);
        if (i == 0 && p->eta_s >= 0 && p->total > 0) {
            fj_put_time(&part, p->eta_s);
            fj_str_add(&part, " left");
        } else if (i == 1 && isfinite(p->loss)) {
            fj_str_addf(&part, "loss %.4f", p->loss);
        } else if (i == 2 && p->rate > 0) {
            if (bytes) fj_put_bytes(&part, p->rate);
            else fj_put_count(&part, p->rate);
            fj_str_add(&part, bytes ? "/s" : " tok/s");
        } else if (i == 3 && p->mem_bytes > 0) {
            fj_put_bytes(&part, (double)p->mem_bytes);
        }
        if (!part.n || (int)part.n + 2 > room) continue;
        fj_str_addf(&tail, "  %s", part.s);
        room -= (int)part.n + 2;
    }
    /* What is left of the line is the bar. */
    int cells = FJ_MIN(room - 3, 30);
    if (p->total > 0 && cells >= 5) {
        double share = (double)p->done / (double)p->total;
        int full = (int)(FJ_MIN(FJ_MAX(share, 0), 1) * cells);
        fj_str_add(out, " [");
        for (int i = 0; i < cells; i++) fj_str_addc(out, i < full ? '=' : i == full ? '>' : ' ');
        fj_str_addc(out, ']');
    }
    if (tail.n) fj_str_add(out, tail.s);
    fj_str_free(&tail);
    fj_str_free(&part);
}

static void on_progress(void *ctx, const fj_progress *p) {
    fj_term *t = ctx;
    double now = fj_clock();
    bool fresh = strncmp(t->last_what, p->what ? p->what : "", sizeof t->last_what - 1) != 0;
    bool last = p->total > 0 && p->done >= p->total;
    double every = t->bar_ok ? 0.1 : 5;
    if (fresh) {
        snprintf(t->last_what, sizeof t->last_what, "%s", p->what ? p->what : "");
        if (!t->bar_ok) t->last_draw = now; /* a short job says nothing */
    }
    if (now - t->last_draw < every && !(t->bar_ok && (last || fresh))) return;
    t->last_draw = now;
    fj_str line = { 0 };
    if (t->bar_ok) {
        fj_progress_line(p, width_of(STDERR_FILENO) - 1, &line);
        fprintf(stderr, "\r%s\033[K", line.s);
        t->bar_shown = true;
        if (last) clear_bar(t);
    } else {
        fj_progress_line(p, 100, &line);
        fprintf(stderr, "forja %s: %s\n", t->command, line.s);
    }
    fflush(stderr);
    fj_str_free(&line);
}

static void on_message(void *ctx, fj_level level, const char *text) {
    fj_term_say(ctx, level, "%s", text);
}

static bool on_should_stop(void *ctx) {
    (void)ctx;
    return fj_term_stopped();
}

void fj_term_open(fj_term *t, const char *command) {
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    *t = (fj_term){ .command = command };
    t->bar_ok = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    t->color = t->bar_ok && !(no_color && *no_color);
    t->log = (fj_log){ t, on_message, on_progress, on_should_stop };
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error of write, not a death */
}

void fj_term_close(fj_term *t) {
    clear_bar(t);
    fflush(stderr);
}

void fj_term_say(fj_term *t, fj_level level, const char *fmt, ...) {
    fj_str s = { 0 }, clean = { 0 };
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clear_bar(t);
    fj_put_text(&clean, text, strlen(text), false);
    const char *warn = level != FJ_WARN ? "" : t->color ? "\033[33mwarning:\033[0m " : "warning: ";
    fj_str_addf(&s, "forja%s%s: %s%s\n", *t->command ? " " : "", t->command, warn, clean.s);
    fputs(s.s, stderr);
    fj_str_free(&s);
    fj_str_free(&clean);
}

int fj_term_fail(fj_term *t, const fj_err *e) {
    clear_bar(t);
    fflush(stdout);
    const char *on = t->color ? "\033[31m" : "", *off = t->color ? "\033[0m" : "";
    fprintf(stderr, "%sforja%s%s:%s %s\n", on, *t->command ? " " : "", t->command, off,
            *e->msg ? e->msg : "failed without a reason");
    return e->code == FJ_EGATE ? FJ_EXIT_GATE : FJ_EXIT_FAILED;
}
