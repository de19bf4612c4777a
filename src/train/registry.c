#include "train/registry.h"

#include "base/fs.h"
#include "train/run.h"

#include <sqlite3.h>
#include <stdio.h>

struct fj_registry {
    sqlite3 *db;
    fj_log log;
};

/* Version n of the schema is made by steps[0] .. steps[n - 1]; PRAGMA user_version counts them.  A step
 * that has shipped is never edited: a change is a new step. */
static const char *const steps[] = {
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL UNIQUE,"
    " status TEXT NOT NULL, base_hash TEXT, data_hash TEXT, recipe TEXT, metrics TEXT,"
    " started REAL NOT NULL, finished REAL NOT NULL DEFAULT 0);"
    "CREATE INDEX runs_by_name ON runs (name);"
    "CREATE TABLE data (hash TEXT PRIMARY KEY, files TEXT NOT NULL, rows INTEGER NOT NULL,"
    " first_used REAL NOT NULL);"
    "CREATE TABLE evals (id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs (id)"
    " ON DELETE CASCADE, name TEXT NOT NULL, which TEXT NOT NULL, result TEXT NOT NULL,"
    " at REAL NOT NULL);"
    "CREATE INDEX evals_by_run ON evals (run);",
};

static void warn(fj_registry *g, const char *what) {
    fj_log_message(&g->log, FJ_WARN, "registry: %s: %s (the run folder is not touched by this)",
                   what, sqlite3_errmsg(g->db));
}

static int user_version(sqlite3 *db) {
    sqlite3_stmt *q = NULL;
    int v = -1;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        v = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return v;
}

/* Brings the file up to this program's schema; two processes may come here at once. */
static bool migrate(fj_registry *g) {
    if (sqlite3_exec(g->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) return false;
    int v = user_version(g->db);
    bool ok = v >= 0;
    for (int i = v; ok && i < (int)FJ_LEN(steps); i++)
        ok = sqlite3_exec(g->db, steps[i], NULL, NULL, NULL) == SQLITE_OK;
    if (ok && v < (int)FJ_LEN(steps)) {
        char set[48];
        snprintf(set, sizeof set, "PRAGMA user_version = %d", (int)FJ_LEN(steps));
        ok = sqlite3_exec(g->db, set, NULL, NULL, NULL) == SQLITE_OK;
    }
    if (ok && v > (int)FJ_LEN(steps)) {
        sqlite3_exec(g->db, "ROLLBACK", NULL, NULL, NULL);
        fj_log_message(&g->log, FJ_WARN,
                       "registry: was written by a newer forja (schema %d, this one "
                       "knows %d): it is left alone",
                       v, (int)FJ_LEN(steps));
        return false;
    }
    if (ok) return sqlite3_exec(g->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    warn(g, "cannot set up its tables");
    sqlite3_exec(g->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

fj_registry *fj_registry_open(const char *path, const fj_log *log) {
    fj_registry *g = fj_zalloc(sizeof *g);
    if (log) g->log = *log;
    char *dir = path ? NULL : fj_data_dir(), *own = NULL;
    fj_err e = { 0 };
    bool ok = path || dir || fj_fail(&e, FJ_EIO, "neither XDG_DATA_HOME nor HOME is set");
    if (ok && dir) ok = fj_mkdirs(dir, &e);
    if (ok && dir) own = fj_path_join(dir, "registry.db");
    if (!ok) {
        fj_log_message(&g->log, FJ_WARN, "registry: %s; this run is not indexed", e.msg);
    } else {
        const char *file = path ? path : own;
        ok = sqlite3_open_v2(file, &g->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) ==
             SQLITE_OK;
        if (ok) sqlite3_busy_timeout(g->db, 5000);
        /* Going over to WAL needs the file alone, and that wait is none that the busy timeout covers. */
        for (int turn = 0; ok; turn++) {
            int rc = sqlite3_exec(g->db,
                                  "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                                  "PRAGMA foreign_keys = ON;",
                                  NULL, NULL, NULL);
            if (rc == SQLITE_OK) break;
            ok = rc == SQLITE_BUSY && turn < 250;
            if (ok) sqlite3_sleep(20);
        }
        if (!ok)
            fj_log_message(&g->log, FJ_WARN,
                           "registry: cannot open %s: %s; this run is not indexed", file,
                           g->db ? sqlite3_errmsg(g->db) : "out of memory");
        else if (!migrate(g)) ok = false;
    }
    free(dir);
    free(own);
    if (ok) return g;
    fj_registry_close(g);
    return NULL;
}

void fj_registry_close(fj_registry *g) {
    if (!g) return;
    sqlite3_close(g->db);
    free(g);
}

/* ---- writing ---------------------------------------------------------------------------------- */
/* Arguments by one letter each: s text (NULL is null), i int64_t, d double.  Runs the statement; a
 * first column of the first row goes to *out when it is asked for. */
static bool run_sql(fj_registry *g, int64_t *out, const char *sql, const char *types, ...) {
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_prepare_v2(g->db, sql, -1, &q, NULL) == SQLITE_OK;
    va_list ap;
    va_start(ap, types);
    for (int i = 0; types[i]; i++) {
        int rc = SQLITE_OK;
        switch (types[i]) {
        case 's':
            rc = sqlite3_bind_text(q, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'i': rc = sqlite3_bind_int64(q, i + 1, va_arg(ap, int64_t)); break;
        default: rc = sqlite3_bind_double(q, i + 1, va_arg(ap, double)); break;
        }
        ok = ok && rc == SQLITE_OK;
    }
    va_end(ap);
    int rc = ok ? sqlite3_step(q) : SQLITE_ERROR;
    if (rc == SQLITE_ROW && out) *out = sqlite3_column_int64(q, 0);
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(q); /* RETURNING writes when it is stepped to the end */
    sqlite3_finalize(q);
    return rc == SQLITE_DONE;
}

int64_t fj_registry_begin(fj_registry *g, const fj_run_info *r) {
    if (!g) return 0;
    int64_t id = 0;
    if (!run_sql(
            g, &id,
            "INSERT INTO runs (name, folder, status, base_hash, data_hash, recipe, metrics, started)"
            " VALUES (?, ?, 'running', ?, ?, ?, '', ?) ON CONFLICT (folder) DO UPDATE SET"
            " name = excluded.name, status = 'running', base_hash = excluded.base_hash,"
            " data_hash = excluded.data_hash, recipe = excluded.recipe, finished = 0 RETURNING id",
            "sssssd", r->name, r->folder, r->base_hash, r->data_hash, r->recipe,
            r->started > 0 ? r->started : fj_now())) {
        warn(g, "cannot note that the run begins");
        return 0;
    }
    return id;
}

void fj_registry_end(fj_registry *g, int64_t id, const char *status, const char *metrics) {
    if (!g || id <= 0) return;
    if (!run_sql(
            g, NULL,
            "UPDATE runs SET status = ?, metrics = coalesce(?, metrics), finished = ? WHERE id = ?",
            "ssdi", status, metrics, fj_now(), id))
        warn(g, "cannot note that the run ended");
}

void fj_registry_data(fj_registry *g, const char *hash, const char *files, int64_t rows) {
    if (!g) return;
    if (!run_sql(g, NULL,
                 "INSERT INTO data (hash, files, rows, first_used) VALUES (?, ?, ?, ?)"
                 " ON CONFLICT (hash) DO NOTHING",
                 "ssid", hash, files, rows, fj_now()))
        warn(g, "cannot note the data set");
}

void fj_registry_eval(fj_registry *g, int64_t run, const char *name, const char *which,
                      const char *result) {
    if (!g || run <= 0) return;
    if (!run_sql(g, NULL, "INSERT INTO evals (run, name, which, result, at) VALUES (?, ?, ?, ?, ?)",
                 "isssd", run, name, which, result, fj_now()))
        warn(g, "cannot note the evaluation");
}

/* ---- reading ---------------------------------------------------------------------------------- */
static const char *column(fj_arena *a, sqlite3_stmt *q, int i) {
    const char *s = (const char *)sqlite3_column_text(q, i);
    return fj_arena_strdup(a, s ? s : "");
}

static bool no_registry(const fj_registry *g, fj_err *e) {
    return !g && !fj_fail(e, FJ_EIO, "there is no registry to read");
}

static bool finish(fj_registry *g, sqlite3_stmt *q, int rc, fj_err *e) {
    bool ok = rc == SQLITE_DONE ||
              fj_fail(e, FJ_EIO, "cannot read the registry: %s", sqlite3_errmsg(g->db));
    sqlite3_finalize(q);
    return ok;
}

#define COLUMNS "id, name, folder, status, base_hash, data_hash, recipe, metrics, started, finished"

static bool read_runs(fj_registry *g, sqlite3_stmt *q, fj_run_list *out, fj_err *e) {
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        fj_arena *a = &out->arena;
        fj_run_info r = { .id = sqlite3_column_int64(q, 0),
                          .name = column(a, q, 1),
                          .folder = column(a, q, 2),
                          .status = column(a, q, 3),
                          .base_hash = column(a, q, 4),
                          .data_hash = column(a, q, 5),
                          .recipe = column(a, q, 6),
                          .metrics = column(a, q, 7),
                          .started = sqlite3_column_double(q, 8),
                          .finished = sqlite3_column_double(q, 9) };
        /* A killed process cannot say so: nobody holds its folder any more. */
        if (!strcmp(r.status, "running") && !fj_run_busy(r.folder)) r.status = "interrupted";
        FJ_GROW(out->runs, out->n + 1, out->cap);
        out->runs[out->n++] = r;
    }
    if (finish(g, q, rc, e)) return true;
    fj_run_list_free(out);
    return false;
}

bool fj_registry_list(fj_registry *g, int limit, fj_run_list *out, fj_err *e) {
    *out = (fj_run_list){ 0 };
    if (no_registry(g, e)) return false;
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(g->db,
                           "SELECT " COLUMNS " FROM runs ORDER BY started DESC, id DESC LIMIT ?",
                           -1, &q, NULL) != SQLITE_OK)
        return finish(g, q, SQLITE_ERROR, e);
    sqlite3_bind_int(q, 1, limit > 0 ? limit : -1);
    return read_runs(g, q, out, e);
}

bool fj_registry_get(fj_registry *g, const char *id_or_name, fj_run_list *out, fj_err *e) {
    *out = (fj_run_list){ 0 };
    if (no_registry(g, e)) return false;
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(g->db,
                           "SELECT " COLUMNS " FROM runs WHERE CAST(id AS TEXT) = ?1 OR name = ?1"
                           " ORDER BY name = ?1, started DESC, id DESC LIMIT 1",
                           -1, &q, NULL) != SQLITE_OK)
        return finish(g, q, SQLITE_ERROR, e);
    sqlite3_bind_text(q, 1, id_or_name, -1, SQLITE_TRANSIENT);
    if (!read_runs(g, q, out, e)) return false;
    return out->n ||
           fj_fail(e, FJ_EINVAL, "there is no run \"%s\": `forja runs` lists them", id_or_name);
}

bool fj_registry_evals(fj_registry *g, int64_t run, fj_eval_list *out, fj_err *e) {
    *out = (fj_eval_list){ 0 };
    if (no_registry(g, e)) return false;
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(g->db,
                           "SELECT name, which, result, at FROM evals WHERE run = ? ORDER BY id",
                           -1, &q, NULL) != SQLITE_OK)
        return finish(g, q, SQLITE_ERROR, e);
    sqlite3_bind_int64(q, 1, run);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        FJ_GROW(out->evals, out->n + 1, out->cap);
        out->evals[out->n++] =
            (fj_eval_info){ column(&out->arena, q, 0), column(&out->arena, q, 1),
                            column(&out->arena, q, 2), sqlite3_column_double(q, 3) };
    }
    if (finish(g, q, rc, e)) return true;
    fj_eval_list_free(out);
    return false;
}

void fj_run_list_free(fj_run_list *l) {
    fj_arena_free(&l->arena);
    free(l->runs);
    *l = (fj_run_list){ 0 };
}

void fj_eval_list_free(fj_eval_list *l) {
    fj_arena_free(&l->arena);
    free(l->evals);
    *l = (fj_eval_list){ 0 };
}
