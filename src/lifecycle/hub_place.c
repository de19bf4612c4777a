/* hub_place.c - where things are on this machine: the cache, the token, the lock, files on their way to their names. */
#include "base/fs.h"
#include "base/sha1.h"
#include "lifecycle/hub_in.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *env(const char *name) {
    const char *s = getenv(name);
    return s && *s ? s : NULL;
}

char *fj_hub_cache_dir(const char *cache, fj_err *e) {
    const char *s = cache ? cache : env("FORJA_CACHE");
    if (s) return fj_strdup(s);
    s = env("XDG_CACHE_HOME");
    if (s && *s == '/') return fj_path_join(s, "forja/hub");
    s = env("HOME");
    if (s && *s == '/') return fj_path_join(s, ".cache/forja/hub");
    fj_fail(e, FJ_EINVAL,
            "there is no place for the cache: HOME is not set, and FORJA_CACHE neither");
    return NULL;
}

bool fj_hub_offline(void) {
    const char *s = env("HF_HUB_OFFLINE");
    return s && strcmp(s, "0") != 0 && strcmp(s, "false") != 0;
}

/* In place: white space around it goes.  Other bytes would be a second line of the head, or nonsense. */
static bool token_trim(char *s, const char *from, fj_err *e) {
    size_t n = strlen(s), k = strspn(s, " \t\r\n");
    while (n > k && strchr(" \t\r\n", s[n - 1])) n--;
    memmove(s, s + k, n - k);
    n -= k;
    s[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return fj_fail(e, FJ_EINVAL,
                           "the token from %s is none: it holds spaces or other bytes", from);
    return n <= 1024 || fj_fail(e, FJ_EINVAL, "the token from %s is none: over 1024 bytes", from);
}

char *fj_hub_token(const char *given, char from[300], fj_err *e) {
    char *t = NULL, *path = NULL;
    *e = (fj_err){ 0 };
    snprintf(from, 300, "%s", "HF_TOKEN");
    const char *s = given ? given : env("HF_TOKEN");
    if (s) t = fj_strdup(s);
    else {
        bool named = env("HF_TOKEN_PATH") != NULL;
        if (named) path = fj_strdup(env("HF_TOKEN_PATH"));
        else if (env("HF_HOME")) path = fj_path_join(env("HF_HOME"), "token");
        else if (env("HOME")) path = fj_path_join(env("HOME"), ".cache/huggingface/token");
        if (!path || (!named && !fj_exists(path))) goto end;
        snprintf(from, 300, "%s", path);
        if (!(t = fj_read_file(path, 4096, NULL, e))) goto end;
    }
    if (!token_trim(t, from, e) || !*t) {
        free(t);
        t = NULL;
    }
end:
    free(path);
    return t;
}

char *fj_hub_ref_path(const char *meta, const char *rev) {
    fj_str s = { 0 };
    fj_str_addf(&s, "%s/refs/", meta);
    fj_hub_url_add(&s, rev, false);
    return fj_str_take(&s);
}

bool fj_hub_ref_read(const char *meta, const char *rev, char commit[65]) {
    size_t n;
    char *path = fj_hub_ref_path(meta, rev), *s = fj_read_file(path, 100, &n, NULL);
    while (s && n && s[n - 1] == '\n') s[--n] = 0;
    bool ok = s && (fj_hub_is_hex(s, 40) || fj_hub_is_hex(s, 64));
    if (ok) memcpy(commit, s, n + 1);
    free(path);
    free(s);
    return ok;
}

/* ---- lock ------------------------------------------------------------------------------------------ */
/* flock, which the kernel drops however a process ends.  The file may have been removed with its folder by the one who
 * had it: then this lock is on nothing, and another is taken. */
bool fj_hub_lock(fj_hub_place *p, const fj_log *log, fj_err *e) {
    char *path = fj_path_join(p->meta, "lock");
    bool said = false;
    for (;;) {
        struct stat a, b;
        if (!fj_mkdirs(p->meta, e)) break;
        p->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (p->lock < 0 && errno == ENOENT) continue;
        if (p->lock < 0) {
            fj_fail_errno(e, "cannot open %s", path);
            break;
        }
        while (flock(p->lock, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK && errno != EINTR) {
                fj_fail_errno(e, "cannot lock %s", path);
                goto bad;
            }
            if (!said)
                fj_log_message(log, FJ_INFO, "waiting for another process that fetches into %s",
                               p->meta);
            said = true;
            if (fj_log_stop(log)) {
                fj_fail(e, FJ_ESTOP, "stopped while waiting for another process");
                goto bad;
            }
            nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
        }
        if (fstat(p->lock, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
            a.st_dev == b.st_dev) {
            free(path);
            return true;
        }
        close(p->lock);
    }
    p->lock = -1;
    free(path);
    return false;
bad:
    fj_hub_unlock(p);
    free(path);
    return false;
}

void fj_hub_unlock(fj_hub_place *p) {
    if (p->lock >= 0) close(p->lock);
    p->lock = -1;
}

/* ---- files ----------------------------------------------------------------------------------------- */
char *fj_hub_part_path(const fj_hub_place *p, const fj_hub_file *f, const char *commit) {
    fj_str s = { 0 };
    char hex[FJ_SHA256_HEX];
    const char *key = *f->sha256 ? f->sha256 : f->blob;
    if (!*key) {
        fj_str_addf(&s, "%s/%s", commit, f->name);
        fj_sha256(s.s, s.n, hex);
        fj_str_clear(&s);
        fj_str_addf(&s, "%s/parts/named-%s.part", p->meta, hex);
    } else fj_str_addf(&s, "%s/parts/%s.part", p->meta, key);
    return fj_str_take(&s);
}

static bool blob_file(const char *path, char hex[FJ_SHA1_HEX], fj_err *e) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        fj_fail_errno(e, "cannot open %s", path);
        if (f) fclose(f);
        return false;
    }
    fj_sha1 s;
    char buf[1 << 14];
    size_t n = (size_t)snprintf(buf, sizeof buf, "blob %lld", (long long)st.st_size) + 1;
    fj_sha1_init(&s);
    fj_sha1_add(&s, buf, n);
    while ((n = fread(buf, 1, sizeof buf, f)) > 0) fj_sha1_add(&s, buf, n);
    bool ok = !ferror(f) || fj_fail_errno(e, "cannot read %s", path);
    fclose(f);
    fj_sha1_end(&s, hex);
    return ok;
}

/* Are these the contents of f?  Without a hash nothing is. */
static bool same_contents(const char *path, const fj_hub_file *f, bool *same, fj_err *e) {
    char hex[FJ_SHA256_HEX] = "";
    *same = false;
    if (f->size >= 0 && fj_file_size(path) != f->size) return true;
    if (*f->sha256) {
        if (!fj_sha256_file(path, hex, e)) return false;
        *same = !strcmp(hex, f->sha256);
    } else if (*f->blob) {
        if (!blob_file(path, hex, e)) return false;
        *same = !strcmp(hex, f->blob);
    }
    return true;
}

bool fj_hub_look(const fj_hub_place *p, const char *commit, fj_hub_file *f, fj_err *e) {
    char *path = fj_path_join(p->root, f->name), *part = fj_hub_part_path(p, f, commit);
    int64_t size = fj_file_size(path);
    bool ok = true;
    f->have = false;
    f->part = FJ_MAX(fj_file_size(part), 0);
    if (size >= 0 && p->cache) { /* only fj_hub_settle and fj_hub_adopt put files there */
        f->have = f->size < 0 || size == f->size;
        if (!f->have)
            ok = fj_fail(
                e, FJ_EIO,
                "%s has %lld bytes instead of %lld: it was changed after it was fetched; remove it",
                path, (long long)size, (long long)f->size);
    } else if (size >= 0) {
        ok = same_contents(path, f, &f->have, e);
        if (ok && !f->have)
            ok = fj_fail(e, FJ_EIO,
                         "%s is there with other contents: remove it, or choose another folder",
                         path);
    }
    free(path);
    free(part);
    return ok;
}

/* Folders of `name` under root. */
static bool make_room(const char *root, const char *name, char **path, fj_err *e) {
    *path = fj_path_join(root, name);
    char *slash = strrchr(*path, '/');
    *slash = 0;
    bool ok = fj_mkdirs(*path, e);
    *slash = '/';
    return ok;
}

static bool sync_dir_of(char *path) {
    char *slash = strrchr(path, '/');
    *slash = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (fd >= 0) close(fd);
    return ok;
}

bool fj_hub_settle(const fj_hub_place *p, const char *part, const char *name, fj_err *e) {
    char *path;
    bool ok = make_room(p->root, name, &path, e);
    if (ok && (rename(part, path) != 0 || !sync_dir_of(path)))
        ok = fj_fail_errno(e, "cannot put %s into its place", path);
    free(path);
    return ok;
}

/* A copy that appears whole. */
static bool copy(const char *from, const char *to, fj_err *e) {
    FILE *f = fopen(from, "rb");
    if (!f) return fj_fail_errno(e, "cannot open %s", from);
    fj_out *o = fj_out_open(to, e);
    uint8_t *buf = fj_alloc(1 << 20);
    size_t n;
    bool ok = o != NULL;
    while (ok && (n = fread(buf, 1, 1 << 20, f)) > 0) fj_out_write(o, buf, n);
    if (ok && ferror(f)) {
        ok = fj_fail_errno(e, "cannot read %s", from);
        fj_out_abort(o);
    } else if (ok) ok = fj_out_commit(o, e);
    fclose(f);
    free(buf);
    return ok;
}

/* `from` of the cache is f: links it into another commit's folder, copies it into a folder of the user. */
static bool take_from(const fj_hub_place *p, const char *from, fj_hub_file *f, fj_err *e) {
    char *path;
    bool same = false, ok = make_room(p->root, f->name, &path, e);
    if (ok && p->cache) {
        same = link(from, path) == 0 && sync_dir_of(path);
        if (!same) unlink(path); /* a file system without links: it is fetched */
    } else if (ok) {
        ok = copy(from, path, e) && same_contents(path, f, &same, e);
        if (!same) unlink(path);
    }
    if (same) f->have = true;
    free(path);
    return ok;
}

bool fj_hub_adopt(const fj_hub_place *p, const char *cache_repo, fj_hub_file *f, const fj_log *log,
                  fj_err *e) {
    if (!*f->sha256 && !*f->blob) return true;
    char *meta = fj_path_join(cache_repo, ".forja");
    DIR *d = opendir(meta);
    bool ok = true;
    for (struct dirent *x; ok && d && !f->have && !fj_log_stop(log) && (x = readdir(d));) {
        size_t n = strlen(x->d_name), k;
        if (n < 45 || strcmp(x->d_name + n - 5, ".json")) continue;
        char *path = fj_path_join(meta, x->d_name),
             *text = fj_read_file(path, (size_t)64 << 20, &k, NULL);
        fj_hub_list l = { 0 };
        if (text && fj_hub_list_parse(&l, text, k, path, NULL)) {
            const fj_hub_file *g = fj_hub_list_find(&l, f->name);
            bool same =
                g && (*f->sha256 ? !strcmp(f->sha256, g->sha256) : !strcmp(f->blob, g->blob));
            char *dir = fj_path_join(cache_repo, l.commit), *from = fj_path_join(dir, f->name);
            if (same && fj_file_size(from) >= 0 && (g->size < 0 || fj_file_size(from) == g->size))
                ok = take_from(p, from, f, e);
            free(dir);
            free(from);
        }
        fj_hub_list_free(&l);
        free(path);
        free(text);
    }
    if (d) closedir(d);
    free(meta);
    return ok;
}

void fj_hub_sweep(const fj_hub_place *p, const fj_hub_list *l) {
    char *dir = fj_path_join(p->meta, "parts");
    DIR *d = opendir(dir);
    fj_map keep = { 0 };
    for (size_t i = 0; i < l->n; i++) {
        char *part = fj_hub_part_path(p, l->f + i, l->commit);
        const char *name = fj_base_name(part);
        fj_map_put(&keep, name, strcspn(name, "."), NULL);
        free(part);
    }
    for (struct dirent *x; d && (x = readdir(d));) {
        size_t n = strcspn(x->d_name, ".");
        if (n == 0 || fj_map_get(&keep, x->d_name, n)) continue;
        char *path = fj_path_join(dir, x->d_name);
        unlink(path);
        free(path);
    }
    fj_map_free(&keep);
    if (d) closedir(d);
    free(dir);
}
