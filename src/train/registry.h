/* registry.h - the index of runs, data versions and evaluations of this user: SQLite in
 * $XDG_DATA_HOME/forja/registry.db, in WAL mode, so several processes may write at once.
 *
 * The run folder is the truth; the registry finds it again.  So nothing here can make a run fail: the
 * writing functions take a NULL registry, and say what went wrong as a warning in the log.
 * One thread at a time per fj_registry. */
#ifndef FJ_TRAIN_REGISTRY_H
#define FJ_TRAIN_REGISTRY_H

#include "base/mem.h"

#include <forja/log.h>

typedef struct fj_registry fj_registry;

typedef struct fj_run_info {
    int64_t id;
    const char *name, *folder;
    const char *status; /* running, done, stopped, failed; from reading also "interrupted": said to
                           run, and no process has its folder */
    const char *base_hash, *data_hash;
    const char *recipe;       /* YAML */
    const char *metrics;      /* JSON object of the last numbers; "" while running */
    double started, finished; /* seconds since 1970; finished 0: not */
} fj_run_info;

typedef struct fj_run_list {
    fj_arena arena;
    fj_run_info *runs;
    size_t n, cap;
} fj_run_list;

typedef struct fj_eval_info {
    const char *name, *which; /* "task", "base" or "tuned" */
    const char *result;       /* JSON */
    double at;
} fj_eval_info;

typedef struct fj_eval_list {
    fj_arena arena;
    fj_eval_info *evals;
    size_t n, cap;
} fj_eval_list;

/* path NULL: the user's.  NULL is returned after a warning in the log, and is a valid registry. */
fj_registry *fj_registry_open(const char *path, const fj_log *log);
void fj_registry_close(fj_registry *g);

/* A run begins: its id, or 0.  A folder that is known already (resume) keeps its id. */
int64_t fj_registry_begin(fj_registry *g, const fj_run_info *r);
/* It ended with `status`; metrics is JSON text or NULL. */
void fj_registry_end(fj_registry *g, int64_t id, const char *status, const char *metrics);
/* A data set was used: counted once for each hash. */
void fj_registry_data(fj_registry *g, const char *hash, const char *files, int64_t rows);
void fj_registry_eval(fj_registry *g, int64_t run, const char *name, const char *which,
                      const char *result);

/* Newest first, at most limit (0: all).  The list is freed with fj_run_list_free. */
bool fj_registry_list(fj_registry *g, int limit, fj_run_list *out, fj_err *e);
/* One run by its id or its exact name (the newest of that name). */
bool fj_registry_get(fj_registry *g, const char *id_or_name, fj_run_list *out, fj_err *e);
bool fj_registry_evals(fj_registry *g, int64_t run, fj_eval_list *out, fj_err *e);
void fj_run_list_free(fj_run_list *l);
void fj_eval_list_free(fj_eval_list *l);

#endif
