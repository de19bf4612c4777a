#include <errno.h>
#include <forja/err.h>
#include <forja/log.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages quote names out of files: keep terminal escapes out of them, also the eight-bit ones (U+0080
 * to U+009F in UTF-8), and drop a character that the end of the buffer has cut in two. */
static void clean(char *s) {
    char *last = s;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s, next = (unsigned char)s[1];
        if (c < 0x20 || c == 0x7f) *s = '?';
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) s[0] = s[1] = '?';
        if ((c & 0xc0) != 0x80) last = s;
    }
    unsigned char c = (unsigned char)*last;
    size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    if ((size_t)(s - last) < want) *last = 0;
}

bool fj_fail(fj_err *e, fj_code code, const char *fmt, ...) {
    if (!e) return false;
    char msg[sizeof e->msg]; /* apart from e, so that a message may quote the one it replaces */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    clean(msg);
    e->code = code;
    memcpy(e->msg, msg, sizeof msg);
    return false;
}

bool fj_wrap(fj_err *e, const char *fmt, ...) {
    if (!e) return false;
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof msg) snprintf(msg + n, sizeof msg - (size_t)n, ": %s", e->msg);
    clean(msg);
    memcpy(e->msg, msg, sizeof msg);
    return false;
}

bool fj_fail_errno(fj_err *e, const char *fmt, ...) {
    if (!e) return false;
    int saved = errno;
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof msg) {
        char why[128] = "";
        if (strerror_r(saved, why, sizeof why) != 0) snprintf(why, sizeof why, "error %d", saved);
        snprintf(msg + n, sizeof msg - (size_t)n, ": %s", why);
    }
    clean(msg);
    e->code = saved == ENOMEM ? FJ_ENOMEM : FJ_EIO;
    memcpy(e->msg, msg, sizeof msg);
    return false;
}

void fj_log_message(const fj_log *l, fj_level level, const char *fmt, ...) {
    if (!l || !l->message) return;
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    l->message(l->ctx, level, msg);
}

void fj_log_progress(const fj_log *l, const fj_progress *p) {
    if (l && l->progress) l->progress(l->ctx, p);
}

bool fj_log_stop(const fj_log *l) { return l && l->should_stop && l->should_stop(l->ctx); }
