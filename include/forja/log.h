/* log.h - how the library talks: it never prints, it calls back.
 *
 * One fj_log is passed to long operations.  All members may be NULL.  Callbacks come on the thread
 * that called the library, never on a worker.  No callback may call back into the same object. */
#ifndef FORJA_LOG_H
#define FORJA_LOG_H

#include <forja/err.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fj_level { FJ_INFO, FJ_WARN } fj_level;

typedef struct fj_progress {
    const char *what;    /* "train", "eval base", "load" */
    int64_t done, total; /* in units of `unit`; total 0 when not known */
    const char *unit;    /* "step", "row", "token", "byte" */
    double rate;         /* tokens, or bytes, per second; 0 when not meaningful */
    double loss;         /* NAN when not meaningful */
    int64_t mem_bytes;   /* device bytes in use, 0 when not meaningful */
    double eta_s;        /* seconds left, negative when not known */
} fj_progress;

typedef struct fj_log {
    void *ctx;
    void (*message)(void *ctx, fj_level level, const char *text);
    void (*progress)(void *ctx, const fj_progress *p);
    /* Asked between micro-steps and rows: true means stop soon and save. */
    bool (*should_stop)(void *ctx);
} fj_log;

FJ_API void fj_log_message(const fj_log *l, fj_level level, const char *fmt, ...) FJ_PRINTF(3, 4);
FJ_API void fj_log_progress(const fj_log *l, const fj_progress *p);
FJ_API bool fj_log_stop(const fj_log *l);

#ifdef __cplusplus
}
#endif
#endif
