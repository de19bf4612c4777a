#include "formats/ckpt.h"

#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define STATE "state.safetensors"
#define MANIFEST "manifest.json"
#define NAME "checkpoint-"
enum { MAX_MANIFEST = 16 << 20, VERSION = 1 };

struct fj_ckpt_writer {
    char *run, *tmp, *final, *old;
    int64_t step;
};

char *fj_ckpt_path(const char *run, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, NAME "%" PRId64, step);
    return fj_path_join(run, name);
}

static char *with(const char *path, const char *end) {
    fj_str s = { 0 };
    fj_str_addf(&s, "%s%s", path, end);
    return fj_str_take(&s);
}

/* ---- writing --------------------------------------------------------------------------------- */
static void free_writer(fj_ckpt_writer *w) {
    free(w->run);
    free(w->tmp);
    free(w->final);
    free(w->old);
    free(w);
}

fj_ckpt_writer *fj_ckpt_begin(const char *run, int64_t step, fj_err *e) {
    if (step < 0 || !fj_is_dir(run)) {
        if (step < 0)
            fj_fail(e, FJ_EINVAL, "a checkpoint of step %" PRId64 " is not possible", step);
        else fj_fail(e, FJ_EIO, "the run folder %s is not there", run);
        return NULL;
    }
    fj_ckpt_writer *w = fj_zalloc(sizeof *w);
    w->run = fj_strdup(run);
    w->step = step;
    w->final = fj_ckpt_path(run, step);
    w->tmp = with(w->final, ".tmp");
    w->old = with(w->final, ".old");
    if (fj_remove_tree(w->tmp, e) && fj_mkdirs(w->tmp, e)) return w;
    free_writer(w);
    return NULL;
}

const char *fj_ckpt_folder(const fj_ckpt_writer *w) { return w->tmp; }

fj_st_writer *fj_ckpt_state(fj_ckpt_writer *w, const json_t *state, fj_err *e) {
    char *text = json_dumps(state, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text) {
        fj_fail(e, FJ_EINVAL, "%s: the state cannot be written as JSON (a NaN?)", w->final);
        return NULL;
    }
    char *path = fj_path_join(w->tmp, STATE);
    fj_st_writer *st = fj_st_writer_open(path, e);
    if (st) fj_st_writer_meta(st, "forja", text);
    free(path);
    free(text);
    return st;
}

static bool add_file(json_t *files, const char *dir, const char *name, fj_err *e) {
    char *path = fj_path_join(dir, name), hex[FJ_SHA256_HEX];
    bool ok = fj_sha256_file(path, hex, e);
    if (ok)
        json_object_set_new(
            files, name,
            json_pack("{s:I,s:s}", "bytes", (json_int_t)fj_file_size(path), "sha256", hex));
    free(path);
    return ok;
}

static bool write_manifest(const fj_ckpt_writer *w, fj_err *e) {
    DIR *d = opendir(w->tmp);
    if (!d) return fj_fail_errno(e, "cannot open folder %s", w->tmp);
    json_t *files = json_object();
    bool ok = true;
    for (struct dirent *f; ok && (f = readdir(d));)
        if (f->d_name[0] != '.') ok = add_file(files, w->tmp, f->d_name, e);
    closedir(d);
    if (ok && !json_object_get(files, STATE))
        ok = fj_fail(e, FJ_EINVAL, "%s: a checkpoint without " STATE, w->final);
    json_t *j =
        json_pack("{s:i,s:I,s:o}", "version", VERSION, "step", (json_int_t)w->step, "files", files);
    char *path = fj_path_join(w->tmp, MANIFEST);
    ok = ok && fj_json_save(path, j, e);
    free(path);
    json_decref(j);
    return ok;
}

static bool sync_folder(const char *dir, fj_err *e) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (!ok) fj_fail_errno(e, "cannot sync folder %s", dir);
    if (fd >= 0) close(fd);
    return ok;
}

static bool move(const char *from, const char *to, fj_err *e) {
    return rename(from, to) == 0 ||
           fj_fail_errno(e, "cannot rename %s to %s", from, fj_base_name(to));
}

bool fj_ckpt_commit(fj_ckpt_writer *w, fj_err *e) {
    bool ok = write_manifest(w, e), had = fj_exists(w->final);
    /* A folder cannot be renamed over one that has files: put the old one aside (fj_ckpt_list
     * brings it back should this process die in between). */
    ok = ok && (!had || (fj_remove_tree(w->old, e) && move(w->final, w->old, e)));
    if (ok && !move(w->tmp, w->final, e)) {
        if (had) move(w->old, w->final, NULL);
        ok = false;
    }
    ok = ok && sync_folder(w->run, e) && fj_remove_tree(w->old, e);
    if (!ok) fj_remove_tree(w->tmp, NULL);
    free_writer(w);
    return ok;
}

void fj_ckpt_abort(fj_ckpt_writer *w) {
    if (!w) return;
    fj_remove_tree(w->tmp, NULL);
    free_writer(w);
}

/* ---- reading --------------------------------------------------------------------------------- */
static bool check_file(const char *dir, const char *name, const json_t *j, fj_err *e) {
    const char *want = json_string_value(json_object_get(j, "sha256"));
    const json_t *bytes = json_object_get(j, "bytes");
    if (!want || !json_is_integer(bytes) || !*name || *name == '.' || strchr(name, '/'))
        return fj_fail(e, FJ_EFORMAT, "%s/" MANIFEST ": the entry of %s is not valid", dir, name);
    char *path = fj_path_join(dir, name), hex[FJ_SHA256_HEX];
    bool ok = true;
    if (!fj_exists(path))
        ok = fj_fail(e, FJ_EFORMAT, "%s is missing: the checkpoint is damaged", path);
    else if (fj_file_size(path) != json_integer_value(bytes))
        ok = fj_fail(e, FJ_EFORMAT,
                     "%s has %" PRId64 " bytes, its manifest says %" PRId64
                     ": the checkpoint is damaged",
                     path, fj_file_size(path), (int64_t)json_integer_value(bytes));
    ok = ok && fj_sha256_file(path, hex, e);
    if (ok && strcmp(hex, want))
        ok = fj_fail(e, FJ_EFORMAT,
                     "%s is not what its manifest says (SHA-256): the checkpoint is "
                     "damaged",
                     path);
    free(path);
    return ok;
}

static bool check_manifest(fj_ckpt *c, fj_err *e) {
    char *path = fj_path_join(c->dir, MANIFEST);
    json_t *j = fj_json_file(path, MAX_MANIFEST, e), *files = json_object_get(j, "files"), *v;
    const json_t *version = json_object_get(j, "version"), *step = json_object_get(j, "step");
    const char *name;
    bool ok = j != NULL;
    if (ok && json_integer_value(version) != VERSION)
        ok = fj_fail(e, FJ_EUNSUP, "%s: version is not %d", path, VERSION);
    if (ok &&
        (!json_is_integer(step) || json_integer_value(step) < 0 || !json_object_get(files, STATE)))
        ok = fj_fail(e, FJ_EFORMAT, "%s: expected a step and files with " STATE, path);
    if (ok) json_object_foreach(files, name, v) if (!(ok = check_file(c->dir, name, v, e))) break;
    c->step = json_integer_value(step);
    json_decref(j);
    free(path);
    return ok;
}

static bool read_state(fj_ckpt *c, fj_err *e) {
    char *path = fj_path_join(c->dir, STATE);
    c->tensors = fj_st_open(path, e);
    const char *text = c->tensors ? fj_st_meta(c->tensors, "forja") : NULL;
    if (c->tensors && !text) fj_fail(e, FJ_EFORMAT, "%s: __metadata__ has no state of forja", path);
    if (text) c->state = fj_json_parse(text, strlen(text), path, e);
    free(path);
    return c->state != NULL;
}

fj_ckpt *fj_ckpt_open(const char *dir, fj_err *e) {
    fj_ckpt *c = fj_zalloc(sizeof *c);
    c->dir = fj_strdup(dir);
    if (check_manifest(c, e) && read_state(c, e)) return c;
    fj_ckpt_close(c);
    return NULL;
}

fj_ckpt *fj_ckpt_open_newest(const char *run, const fj_log *log, fj_err *e) {
    int64_t *steps;
    size_t n;
    fj_ckpt *c = NULL;
    if (!fj_ckpt_list(run, &steps, &n, e)) return NULL;
    if (!n) fj_fail(e, FJ_EIO, "%s has no checkpoint", run);
    for (size_t i = 0; i < n && !c; i++) {
        char *dir = fj_ckpt_path(run, steps[i]);
        fj_err why = { 0 };
        c = fj_ckpt_open(dir, &why);
        if (!c) fj_log_message(log, FJ_WARN, "%s; trying the checkpoint before it", why.msg);
        if (!c) fj_fail(e, FJ_EFORMAT, "%s: no checkpoint is whole: %s", run, why.msg);
        free(dir);
    }
    free(steps);
    return c;
}

void fj_ckpt_close(fj_ckpt *c) {
    if (!c) return;
    fj_st_close(c->tensors);
    json_decref(c->state);
    free(c->dir);
    free(c);
}

/* ---- the run folder -------------------------------------------------------------------------- */
/* "checkpoint-12" + end; -1: not such a name. */
static int64_t step_of(const char *name, const char *end) {
    if (strncmp(name, NAME, sizeof NAME - 1)) return -1;
    const char *s = name + sizeof NAME - 1;
    int64_t v = 0;
    if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9')) return -1;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, (int64_t)10, &v) || __builtin_add_overflow(v, *s - '0', &v))
            return -1;
    return strcmp(s, end) ? -1 : v;
}

static bool scan(const char *run, const char *end, int64_t **steps, size_t *n, fj_err *e) {
    *steps = NULL;
    *n = 0;
    size_t cap = 0;
    DIR *d = opendir(run);
    if (!d) return fj_fail_errno(e, "cannot open the run folder %s", run);
    for (struct dirent *f; (f = readdir(d));) {
        int64_t step = step_of(f->d_name, end);
        if (step < 0) continue;
        FJ_GROW(*steps, *n + 1, cap);
        (*steps)[(*n)++] = step;
    }
    closedir(d);
    return true;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

bool fj_ckpt_list(const char *run, int64_t **steps, size_t *n, fj_err *e) {
    /* Put aside by a commit that died before its second rename: bring it back. */
    if (!scan(run, ".old", steps, n, e)) return false;
    for (size_t i = 0; i < *n; i++) {
        char *final = fj_ckpt_path(run, (*steps)[i]), *old = with(final, ".old");
        if (!fj_exists(final)) move(old, final, NULL);
        free(final);
        free(old);
    }
    free(*steps);
    if (!scan(run, "", steps, n, e)) return false;
    if (*n) qsort(*steps, *n, sizeof **steps, newest_first);
    return true;
}

static bool remove_all(const char *run, const char *end, fj_err *e) {
    int64_t *steps;
    size_t n;
    bool ok = scan(run, end, &steps, &n, e);
    for (size_t i = 0; ok && i < n; i++) {
        char *final = fj_ckpt_path(run, steps[i]), *path = with(final, end);
        ok = fj_remove_tree(path, e);
        free(final);
        free(path);
    }
    free(steps);
    return ok;
}

bool fj_ckpt_prune(const char *run, size_t keep, int64_t best, fj_err *e) {
    int64_t *steps;
    size_t n;
    bool ok = fj_ckpt_list(run, &steps, &n, e);
    for (size_t i = keep; ok && i < n; i++) {
        if (steps[i] == best) continue;
        /* Renamed first, so that a kill leaves no half of it under its name. */
        char *path = fj_ckpt_path(run, steps[i]), *tmp = with(path, ".tmp");
        ok = fj_remove_tree(tmp, e) && move(path, tmp, e) && fj_remove_tree(tmp, e);
        free(path);
        free(tmp);
    }
    free(steps);
    return ok && remove_all(run, ".tmp", e) && remove_all(run, ".old", e);
}
