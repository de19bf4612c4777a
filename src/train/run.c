#include "train/run.h"

#include "base/fs.h"
#include "formats/json.h"
#include "train/recipe_keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { MAX_METRICS = 1 << 30 };

struct fj_run {
    char *folder, *name;
    char *metrics; /* its path: used at every step */
    int lock;
    int64_t seed, threads;
    fj_arena paths;
};

/* ---- folder ----------------------------------------------------------------------------------- */
static bool empty_folder(const char *path) {
    DIR *d = opendir(path);
    if (!d) return true;
    bool empty = true;
    for (struct dirent *f; empty && (f = readdir(d));)
        empty = !strcmp(f->d_name, ".") || !strcmp(f->d_name, "..") || !strcmp(f->d_name, ".lock");
    closedir(d);
    return empty;
}

static int lock_folder(const char *folder, bool create) {
    char *path = fj_path_join(folder, ".lock");
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0666);
    free(path);
    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

bool fj_run_busy(const char *folder) {
    int fd = lock_folder(folder, false);
    if (fd < 0) return errno == EWOULDBLOCK;
    close(fd);
    return false;
}

/* runs/<name>-<utc> in the current folder; a second run in the same second gets "-2". */
static bool choose_folder(fj_recipe *r, fj_err *e) {
    char cwd[4096], utc[32], stamp[32];
    if (!getcwd(cwd, sizeof cwd)) return fj_fail_errno(e, "cannot tell the current folder");
    fj_utc(fj_now(), utc);
    size_t n = 0;
    for (const char *s = utc; *s; s++)
        if (*s != '-' && *s != ':') stamp[n++] = *s;
    stamp[n] = 0;
    const char *name = r->run_name ? r->run_name : "run";
    for (int i = 1; i < 1000; i++) {
        fj_str s = { 0 };
        fj_str_addf(&s, "%s/runs/%s-%s", cwd, name, stamp);
        if (i > 1) fj_str_addf(&s, "-%d", i);
        bool taken = fj_exists(s.s);
        if (!taken) r->output_dir = fj_arena_strdup(&r->arena, s.s);
        fj_str_free(&s);
        if (!taken) return true;
    }
    return fj_fail(e, FJ_EIO, "cannot find a free name under %s/runs", cwd);
}

static bool same_recipe(fj_run *run, const fj_recipe *r, fj_err *e) {
    const char *path = fj_run_path(run, "recipe.yaml");
    fj_recipe was;
    if (!fj_recipe_load(&was, path, NULL, 0, e)) return fj_wrap(e, "cannot resume %s", run->folder);
    const char *key = fj_recipe_differs(&was, r);
    fj_recipe_free(&was);
    if (!key) return true;
    return fj_fail(e, FJ_EINVAL,
                   "cannot resume %s: %s is not what the run began with (see recipe.yaml there); "
                   "put it back, or begin a new run",
                   run->folder, key);
}

static bool write_recipe(fj_run *run, const fj_recipe *r, fj_err *e) {
    char *text = fj_recipe_print(r);
    bool ok = fj_write_file(fj_run_path(run, "recipe.yaml"), text, strlen(text), e);
    free(text);
    return ok;
}

/* "NAME.tmp-PID", as base/fs.h names what it has not finished. */
static bool unfinished(const char *name) {
    const char *t = strstr(name, ".tmp-");
    for (const char *next; t && (next = strstr(t + 1, ".tmp-"));) t = next;
    return t && t != name && t[5] && strspn(t + 5, "0123456789") == strlen(t + 5);
}

/* Removes what killed processes left; the folder is locked, so nobody is writing in it.  (Checkpoints
 * have formats/ckpt for this.)  That it cannot be removed stops nothing. */
static void sweep(const char *folder) {
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *f; (f = readdir(d));) {
        if (!unfinished(f->d_name)) continue;
        char *path = fj_path_join(folder, f->d_name);
        unlink(path);
        free(path);
    }
    closedir(d);
}

static void sweep_run(const char *folder) {
    static const char *const inside[] = { "eval", "adapter", "model" };
    sweep(folder);
    for (size_t i = 0; i < FJ_LEN(inside); i++) {
        char *path = fj_path_join(folder, inside[i]);
        sweep(path);
        free(path);
    }
}

fj_run *fj_run_open(fj_recipe *r, bool resume, fj_err *e) {
    if (!r->output_dir && resume) {
        fj_fail(e, FJ_EINVAL,
                "resume: name the run's folder (output_dir), or give the recipe.yaml in it");
        return NULL;
    }
    if (!r->output_dir && !choose_folder(r, e)) return NULL;
    const char *folder = r->output_dir;
    FJ_ASSERT(folder);
    bool was_there = fj_exists(folder);
    if (resume && !fj_is_dir(folder)) {
        fj_fail(e, FJ_EINVAL, "cannot resume %s: there is no such folder", folder);
        return NULL;
    }
    static const char not_empty[] =
        "%s is not empty: go on with that run (--resume), or name another output_dir";
    if (!resume && was_there && fj_is_dir(folder) && !empty_folder(folder) &&
        !fj_run_busy(folder)) {
        fj_fail(e, FJ_EINVAL, not_empty, folder);
        return NULL;
    }
    if (!fj_mkdirs(folder, e)) return NULL;
    int lock = lock_folder(folder, true);
    if (lock < 0) {
        if (errno == EWOULDBLOCK)
            fj_fail(e, FJ_EINVAL,
                    "%s is in use by another process: wait for it, or name another "
                    "output_dir",
                    folder);
        else fj_fail_errno(e, "cannot lock %s", folder);
        if (!was_there) rmdir(folder);
        return NULL;
    }
    fj_run *run = fj_zalloc(sizeof *run);
    run->folder = fj_strdup(folder);
    run->metrics = fj_path_join(folder, "metrics.jsonl");
    run->name = fj_strdup(r->run_name ? r->run_name : fj_base_name(folder));
    run->lock = lock;
    run->seed = r->seed;
    run->threads = r->threads;
    bool ok;
    if (resume) {
        sweep_run(folder);
        ok = same_recipe(run, r, e);
    } else ok = empty_folder(folder) || fj_fail(e, FJ_EINVAL, not_empty, folder);
    ok = ok && write_recipe(run, r, e);
    if (ok) return run;
    if (!was_there) fj_remove_tree(folder, NULL);
    fj_run_close(run);
    return NULL;
}

void fj_run_close(fj_run *run) {
    if (!run) return;
    close(run->lock);
    fj_arena_free(&run->paths);
    free(run->folder);
    free(run->metrics);
    free(run->name);
    free(run);
}

const char *fj_run_folder(const fj_run *run) { return run->folder; }
const char *fj_run_name(const fj_run *run) { return run->name; }

const char *fj_run_path(fj_run *run, const char *name) {
    return fj_arena_printf(&run->paths, "%s/%s", run->folder, name);
}

/* ---- manifest --------------------------------------------------------------------------------- */
static json_t *cpu_name(void) {
    size_t n;
    char *s = fj_read_file("/proc/cpuinfo", 64 << 20, &n, NULL);
    json_t *j = NULL;
    char *p = s ? strstr(s, "model name") : NULL;
    char *colon = p ? strchr(p, ':') : NULL;
    if (colon) {
        char *end = strchr(colon, '\n');
        if (end) *end = 0;
        j = json_string(colon + 1 + strspn(colon + 1, " \t"));
    }
    free(s);
    return j ? j : json_null();
}

bool fj_run_manifest(fj_run *run, const char *base_hash, const char *data_hash, const json_t *more,
                     fj_err *e) {
    struct utsname u;
    bool known = uname(&u) == 0;
    char now[32];
    fj_utc(fj_now(), now);
    json_t *machine = json_pack("{s:o, s:I, s:I, s:s, s:s, s:s}", "cpu", cpu_name(), "cores",
                                (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes",
                                (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
                                "system", known ? u.sysname : "", "release", known ? u.release : "",
                                "architecture", known ? u.machine : "");
    json_t *j = json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:I, s:I, s:o}", "name", run->name,
                          "written", now, "forja", FORJA_VERSION, "base_sha256", base_hash,
                          "data_sha256", data_hash, "seed", (json_int_t)run->seed, "threads",
                          (json_int_t)run->threads, "machine", machine);
    bool ok = j || fj_fail(e, FJ_EINVAL, "manifest: a value is not UTF-8");
    if (ok && more && json_object_update(j, (json_t *)(uintptr_t)more) != 0)
        ok = fj_fail(e, FJ_EINVAL, "manifest: expected an object of further entries");
    ok = ok && fj_json_save(fj_run_path(run, "manifest.json"), j, e);
    json_decref(j);
    return ok;
}

/* ---- metrics ---------------------------------------------------------------------------------- */
bool fj_run_metric(fj_run *run, const json_t *o, fj_err *e) {
    char *text = json_is_object(o) ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    if (!text)
        return fj_fail(e, FJ_EINVAL, "metrics: expected an object that can be written as JSON");
    bool ok = fj_append_line(run->metrics, text, e);
    free(text);
    return ok;
}

/* The next whole line that is an object, or NULL at the end; *text and *n are the line. */
static json_t *next_line(const char *s, size_t size, size_t *at, const char **text, size_t *n) {
    while (*at < size) {
        const char *p = s + *at, *nl = memchr(p, '\n', size - *at);
        if (!nl) break; /* cut short */
        *text = p;
        *n = (size_t)(nl - p) + 1;
        *at += *n;
        json_t *o = json_loadb(p, *n, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(o)) return o;
        json_decref(o);
    }
    return NULL;
}

bool fj_run_rewind(fj_run *run, int64_t step, fj_err *e) {
    const char *path = run->metrics;
    if (!fj_exists(path)) return true;
    size_t size, at = 0, n;
    char *s = fj_read_file(path, MAX_METRICS, &size, e);
    if (!s) return false;
    fj_str kept = { 0 };
    const char *line;
    for (json_t *o; (o = next_line(s, size, &at, &line, &n));) {
        const json_t *k = json_object_get(o, "step");
        if (!json_is_integer(k) || json_integer_value(k) <= step) fj_str_addn(&kept, line, n);
        json_decref(o);
    }
    bool ok = (kept.n == size) || fj_write_file(path, kept.s ? kept.s : "", kept.n, e);
    fj_str_free(&kept);
    free(s);
    return ok;
}

json_t *fj_run_metrics(fj_run *run, fj_err *e) {
    const char *path = run->metrics;
    json_t *list = json_array();
    if (!fj_exists(path)) return list;
    size_t size, at = 0, n;
    char *s = fj_read_file(path, MAX_METRICS, &size, e);
    if (!s) {
        json_decref(list);
        return NULL;
    }
    const char *line;
    for (json_t *o; (o = next_line(s, size, &at, &line, &n));) json_array_append_new(list, o);
    free(s);
    return list;
}

bool fj_run_eval(fj_run *run, const char *name, const json_t *result, fj_err *e) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (!*name || *name == '.' || strlen(name) > 100 || strspn(name, allowed) != strlen(name))
        return fj_fail(e, FJ_EINVAL,
                       "\"%s\" cannot name an evaluation: letters, digits, - _ . only", name);
    if (!fj_mkdirs(fj_run_path(run, "eval"), e)) return false;
    const char *path = fj_arena_printf(&run->paths, "%s/eval/%s.json", run->folder, name);
    return fj_json_save(path, result, e);
}
