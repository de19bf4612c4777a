/* err.h - how every forja function says what went wrong.
 *
 * A function that can fail because of the world (a file, a request, memory for bulk data, a device)
 * takes an fj_err and returns false or NULL.  The failing place writes the message once; callers pass
 * it up, or put the larger context in front of it with fj_wrap.  The struct lives on the caller's
 * stack: nothing is allocated, nothing is global, NULL is allowed everywhere. */
#ifndef FORJA_ERR_H
#define FORJA_ERR_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FJ_API __attribute__((visibility("default")))
#define FJ_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define FJ_API
#define FJ_PRINTF(f, a)
#endif

typedef enum fj_code {
    FJ_OK = 0,
    FJ_EINVAL,  /* an argument, a recipe key, an option */
    FJ_EFORMAT, /* bytes of a file or a request are not what their format says */
    FJ_EIO,     /* the operating system said no: message holds strerror */
    FJ_ENOMEM,  /* bulk memory could not be had */
    FJ_EUNSUP,  /* understood, and not supported */
    FJ_ESTOP,   /* stopped on request (Ctrl-C, SIGTERM): not a failure of anything */
    FJ_EGATE,   /* a gate said no */
} fj_code;

typedef struct fj_err {
    fj_code code;
    char msg[508]; /* one sentence, no newline, always terminated */
} fj_err;

/* Writes code and message into e, cut to fit; control bytes become '?', so that hostile names cannot
 * reach a terminal.  Returns false, so that a caller can `return fj_fail(...)`. */
FJ_API bool fj_fail(fj_err *e, fj_code code, const char *fmt, ...) FJ_PRINTF(3, 4);

/* Puts "context: " in front of the message that is there; returns false. */
FJ_API bool fj_wrap(fj_err *e, const char *fmt, ...) FJ_PRINTF(2, 3);

/* As fj_fail with ": strerror(errno)" at the end. */
FJ_API bool fj_fail_errno(fj_err *e, const char *fmt, ...) FJ_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
