#define _GNU_SOURCE /* sync_file_range */
#include "base/fs.h"
#include "base/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

char *fj_read_file(const char *path, size_t max, size_t *n, fj_err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fj_fail_errno(e, "cannot open %s", path);
        return NULL;
    }
    /* The size is a hint: what is no file has none, and a file may grow while it is read. */
    fj_str s = { 0 };
    struct stat st;
    size_t hint = !fstat(fd, &st) && st.st_size > 0 ? FJ_MIN((size_t)st.st_size, max) : 0;
    ssize_t r;
    for (;;) {
        FJ_GROW(s.s, FJ_MAX(s.n + (1 << 12), hint + 2), s.cap);
        r = read(fd, s.s + s.n, s.cap - s.n - 1);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) break;
        s.n += (size_t)r;
        if (s.n > max) {
            fj_fail(e, FJ_EFORMAT, "%s is larger than the %zu bytes allowed here", path, max);
            goto bad;
        }
    }
    s.s[s.n] = 0;
    if (r < 0) {
        fj_fail_errno(e, "cannot read %s", path);
        goto bad;
    }
    close(fd);
    if (n) *n = s.n;
    return fj_str_take(&s);
bad:
    close(fd);
    fj_str_free(&s);
    return NULL;
}

bool fj_map_file(const char *path, fj_mapped *m, fj_err *e) {
    *m = (fj_mapped){ 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fj_fail_errno(e, "cannot open %s", path);
    struct stat st;
    bool ok = fstat(fd, &st) == 0;
    if (!ok) fj_fail_errno(e, "cannot stat %s", path);
    else if (!S_ISREG(st.st_mode)) ok = fj_fail(e, FJ_EINVAL, "%s is not a regular file", path);
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) ok = fj_fail_errno(e, "cannot map %s", path);
        else *m = (fj_mapped){ p, (size_t)st.st_size };
    }
    close(fd);
    return ok;
}

void fj_unmap_file(fj_mapped *m) {
    if (m->p) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (fj_mapped){ 0 };
}

void fj_map_forget(const void *p, size_t n) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE),
              from = ((uintptr_t)p + page - 1) & ~(page - 1), to = ((uintptr_t)p + n) & ~(page - 1);
    /* A private map that is only read: the pages come from the file again. */
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

/* ---- writer ----------------------------------------------------------------------------------- */
struct fj_out {
    int fd, err; /* first errno, sticky */
    uint64_t pos;
    size_t used;
    char *path, *tmp;
    char *mark, *key; /* of a file that may take several tries; or NULL */
    uint64_t marked, started;
    double next_mark;
    uint8_t buf[1 << 16];
};
/* A mark waits for the disk: not after fewer bytes, nor sooner. */
enum { MARK_BYTES = 64 << 20, MARK_SECONDS = 10 };

fj_out *fj_out_open(const char *path, fj_err *e) {
    fj_str tmp = { 0 };
    fj_str_addf(&tmp, "%s.tmp-%ld", path, (long)getpid());
    int fd = open(tmp.s, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        fj_fail_errno(e, "cannot create %s", tmp.s);
        fj_str_free(&tmp);
        return NULL;
    }
    fj_out *o = fj_zalloc(sizeof *o);
    o->fd = fd;
    o->path = fj_strdup(path);
    o->tmp = fj_str_take(&tmp);
    return o;
}

/* The line of the mark at path: KEY BYTES. */
static bool read_mark(const char *path, const char *key, uint64_t *bytes) {
    size_t n, k = strlen(key);
    char *text = fj_exists(path) ? fj_read_file(path, 4096, &n, NULL) : NULL;
    bool ok = text && !strncmp(text, key, k) && text[k] == ' ';
    if (ok) {
        char *end;
        errno = 0;
        unsigned long long v = strtoull(text + k + 1, &end, 10);
        ok = end > text + k + 1 && *end == '\n' && !errno;
        *bytes = v;
    }
    free(text);
    return ok;
}

fj_out *fj_out_resume(const char *path, const char *key, uint64_t *have, fj_err *e) {
    fj_str part = { 0 }, mark = { 0 };
    fj_str_addf(&part, "%s.part", path);
    fj_str_addf(&mark, "%s.part.mark", path);
    int fd = open(part.s, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    struct stat st;
    uint64_t n = 0;
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (!ok) fj_fail_errno(e, "cannot create %s", part.s);
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        ok = fj_fail(e, FJ_EIO, "%s is being written by another process", part.s);
    if (ok && (!read_mark(mark.s, key, &n) || (uint64_t)st.st_size < n)) n = 0;
    if (ok && (ftruncate(fd, (off_t)n) != 0 || lseek(fd, (off_t)n, SEEK_SET) < 0))
        ok = fj_fail_errno(e, "cannot go on with %s", part.s);
    if (!ok) {
        if (fd >= 0) close(fd);
        fj_str_free(&part);
        fj_str_free(&mark);
        return NULL;
    }
    fj_out *o = fj_zalloc(sizeof *o);
    o->fd = fd;
    o->path = fj_strdup(path);
    o->tmp = fj_str_take(&part);
    o->mark = fj_str_take(&mark);
    o->key = fj_strdup(key);
    o->pos = o->marked = *have = n;
    o->next_mark = fj_clock() + MARK_SECONDS;
    return o;
}

void fj_out_cut(fj_out *o, uint64_t n) {
    FJ_ASSERT(n <= o->pos && !o->used);
    if (n == o->pos) return;
    if (ftruncate(o->fd, (off_t)n) != 0 || lseek(o->fd, (off_t)n, SEEK_SET) < 0) o->err = errno;
    o->pos = o->marked = n;
}

/* The disk begins with what a large file has so far, in lots, so that the sync at its end is short. */
static void start_writeback(fj_out *o) {
    uint64_t lot = 8 << 20, end = o->pos / lot * lot;
    if (end <= o->started) return;
    (void)sync_file_range(o->fd, (off_t)o->started, (off_t)(end - o->started),
                          SYNC_FILE_RANGE_WRITE);
    o->started = end;
}

static void flush(fj_out *o, const uint8_t *p, size_t n) {
    while (n && !o->err) {
        ssize_t r = write(o->fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) o->err = errno;
        else {
            p += r;
            n -= (size_t)r;
        }
    }
}

/* What is written so far will be there next time. */
static void set_mark(fj_out *o) {
    flush(o, o->buf, o->used);
    o->used = 0;
    if (o->err || fdatasync(o->fd) != 0) return;
    fj_str s = { 0 };
    fj_str_addf(&s, "%s %llu\n", o->key, (unsigned long long)o->pos);
    if (fj_write_file(o->mark, s.s, s.n, NULL)) o->marked = o->pos;
    o->next_mark = fj_clock() + MARK_SECONDS;
    fj_str_free(&s);
}

void fj_out_write(fj_out *o, const void *bytes, size_t n) {
    if (o->mark && o->pos - o->marked >= MARK_BYTES && fj_clock() >= o->next_mark) set_mark(o);
    o->pos += n;
    if (o->used + n <= sizeof o->buf) {
        if (n) memcpy(o->buf + o->used, bytes, n);
        o->used += n;
        return;
    }
    flush(o, o->buf, o->used);
    o->used = 0;
    if (o->mark) start_writeback(o);
    if (n >= sizeof o->buf) flush(o, bytes, n);
    else {
        memcpy(o->buf, bytes, n);
        o->used = n;
    }
}

void fj_out_pad(fj_out *o, size_t align) {
    static const uint8_t zero[64];
    size_t n = (align - o->pos % align) % align;
    while (n) {
        size_t k = FJ_MIN(n, sizeof zero);
        fj_out_write(o, zero, k);
        n -= k;
    }
}

uint64_t fj_out_pos(const fj_out *o) { return o->pos; }

static void release(fj_out *o) {
    free(o->path);
    free(o->tmp);
    free(o->mark);
    free(o->key);
    free(o);
}

void fj_out_abort(fj_out *o) {
    if (!o) return;
    if (o->mark && o->pos && o->fd >= 0 && !o->err) set_mark(o);
    if (o->fd >= 0) close(o->fd);
    if (!o->mark || !o->pos) unlink(o->tmp);
    release(o);
}

static bool sync_folder_of(const char *path) {
    char *dir = fj_strdup(path), *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0) return false;
    bool ok = fsync(fd) == 0 || errno == EINVAL; /* some file systems cannot sync a folder */
    close(fd);
    return ok;
}

bool fj_out_commit(fj_out *o, fj_err *e) {
    flush(o, o->buf, o->used);
    if (!o->err && fsync(o->fd) != 0 && errno != EINVAL) o->err = errno;
    if (close(o->fd) != 0 && !o->err) o->err = errno;
    o->fd = -1;
    if (!o->err && rename(o->tmp, o->path) != 0) o->err = errno;
    if (!o->err && o->mark) unlink(o->mark);
    if (!o->err && !sync_folder_of(o->path)) o->err = errno;
    if (o->err) {
        errno = o->err;
        fj_fail_errno(e, "cannot write %s", o->path);
        if (o->mark && o->marked)
            fj_wrap(e, "the same command goes on from %s, where %llu MB are done", o->tmp,
                    (unsigned long long)o->marked >> 20);
        fj_out_abort(o);
        return false;
    }
    release(o);
    return true;
}

bool fj_write_file(const char *path, const void *bytes, size_t n, fj_err *e) {
    fj_out *o = fj_out_open(path, e);
    if (!o) return false;
    fj_out_write(o, bytes, n);
    return fj_out_commit(o, e);
}

bool fj_append_line(const char *path, const char *line, fj_err *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return fj_fail_errno(e, "cannot open %s", path);
    fj_str s = { 0 };
    fj_str_add(&s, line);
    fj_str_addc(&s, '\n');
    struct stat st;
    bool known = fstat(fd, &st) == 0;
    ssize_t r;
    do r = write(fd, s.s, s.n);
    while (r < 0 && errno == EINTR);
    bool ok = r == (ssize_t)s.n;
    if (!ok) {
        if (r >= 0) errno = ENOSPC;
        fj_fail_errno(e, "cannot append to %s", path);
        /* Half a line would spoil the next one. */
        if (r > 0 && known && ftruncate(fd, st.st_size) != 0) fj_wrap(e, "left with half a line");
    }
    close(fd);
    fj_str_free(&s);
    return ok;
}

/* ---- paths ------------------------------------------------------------------------------------ */
bool fj_mkdirs(const char *path, fj_err *e) {
    if (!*path) return fj_fail(e, FJ_EINVAL, "a folder without a name cannot be made");
    char *p = fj_strdup(path);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s) continue;
        char was = *s;
        *s = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            fj_fail_errno(e, "cannot create folder %s", p);
            free(p);
            return false;
        }
        *s = was;
        if (!was) break;
    }
    free(p);
    return fj_is_dir(path) || fj_fail(e, FJ_EIO, "%s is there and is not a folder", path);
}

bool fj_move(const char *from, const char *to, fj_err *e) {
    if (rename(from, to) == 0 && sync_folder_of(to)) return true;
    return fj_fail_errno(e, "cannot rename %s to %s", from, to);
}

bool fj_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool fj_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t fj_file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

bool fj_remove_tree(const char *path, fj_err *e) {
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT || fj_fail_errno(e, "cannot stat %s", path);
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 || fj_fail_errno(e, "cannot remove %s", path);
    DIR *d = opendir(path);
    if (!d) return fj_fail_errno(e, "cannot open folder %s", path);
    bool ok = true;
    for (struct dirent *f; ok && (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
        char *child = fj_path_join(path, f->d_name);
        ok = fj_remove_tree(child, e);
        free(child);
    }
    closedir(d);
    return ok && (rmdir(path) == 0 || fj_fail_errno(e, "cannot remove %s", path));
}

char *fj_path_join(const char *dir, const char *name) {
    fj_str s = { 0 };
    size_t n = strlen(dir);
    fj_str_addf(&s, "%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name);
    return fj_str_take(&s);
}

const char *fj_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *fj_data_dir(void) {
    const char *xdg = getenv("XDG_DATA_HOME");
    if (xdg && xdg[0] == '/') return fj_path_join(xdg, "forja");
    const char *home = getenv("HOME");
    if (!home || home[0] != '/') return NULL;
    return fj_path_join(home, ".local/share/forja");
}

char *fj_cache_dir(void) {
    const char *xdg = getenv("XDG_CACHE_HOME");
    if (xdg && xdg[0] == '/') return fj_path_join(xdg, "forja");
    const char *home = getenv("HOME");
    if (!home || home[0] != '/') return NULL;
    return fj_path_join(home, ".cache/forja");
}

/* ---- hashes and clocks ------------------------------------------------------------------------ */
static void hex_of(const unsigned char *d, char *hex) {
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
}

void fj_sha256(const void *p, size_t n, char hex[FJ_SHA256_HEX]) {
    fj_sha256_state s;
    uint8_t d[32];
    fj_sha256_init(&s, true);
    fj_sha256_add(&s, p, n);
    fj_sha256_end(&s, d);
    hex_of(d, hex);
}

bool fj_sha256_file(const char *path, char hex[FJ_SHA256_HEX], fj_err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fj_fail_errno(e, "cannot open %s", path);
    fj_sha256_state st;
    fj_sha256_init(&st, true);
    uint8_t buf[1 << 16], d[32];
    ssize_t r;
    while ((r = read(fd, buf, sizeof buf)) > 0 || (r < 0 && errno == EINTR))
        if (r > 0) fj_sha256_add(&st, buf, (size_t)r);
    if (r < 0) fj_fail_errno(e, "cannot read %s", path);
    close(fd);
    fj_sha256_end(&st, d);
    hex_of(d, hex);
    return r == 0;
}

static double seconds(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double fj_now(void) { return seconds(CLOCK_REALTIME); }
double fj_clock(void) { return seconds(CLOCK_MONOTONIC); }

void fj_utc(double t, char out[32]) {
    time_t s = t > -1e11 && t < 1e11 ? (time_t)t : 0; /* years of four digits; not a NaN */
    struct tm tm = { 0 };
    gmtime_r(&s, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
