/* hub_sink.c - a file that is on its way: its bytes, and their hash while they come. */
#include "base/fs.h"
#include "formats/json.h"
#include "lifecycle/hub_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void hash_init(fj_hub_sink *s) {
    s->hashed = 0;
    crypto_hash_sha256_init(&s->sha256);
    fj_sha1_init(&s->sha1);
    if (!*s->want.blob) return;
    char head[40];
    int n = snprintf(head, sizeof head, "blob %lld", (long long)s->want.size);
    fj_sha1_add(&s->sha1, head, (size_t)n + 1);
}

static void hash_add(fj_hub_sink *s, const void *bytes, size_t n) {
    if (*s->want.sha256) crypto_hash_sha256_update(&s->sha256, bytes, n);
    else fj_sha1_add(&s->sha1, bytes, n);
    s->hashed += (int64_t)n;
}

static void want(fj_hub_sink *s, const char *etag, int64_t size) {
    s->want.size = size;
    *s->want.sha256 = *s->want.blob = 0;
    if (fj_hub_is_hex(etag, 64)) memcpy(s->want.sha256, etag, 65);
    else memcpy(s->want.blob, etag, 41);
}

static bool is_hash(const char *s) { return fj_hub_is_hex(s, 64) || fj_hub_is_hex(s, 40); }

bool fj_hub_sink_open(fj_hub_sink *s, const fj_hub_place *p, const fj_hub_file *f,
                      const char *commit, fj_err *e) {
    *s = (fj_hub_sink){ .fd = -1, .want = *f, .sure = *f->sha256 || *f->blob };
    char *dir = fj_path_join(p->meta, "parts");
    bool ok = fj_mkdirs(dir, e);
    free(dir);
    if (!ok) return false;
    s->part = fj_hub_part_path(p, f, commit);
    fj_str note = { 0 };
    fj_str_addf(&note, "%s.json", s->part);
    s->note = fj_str_take(&note);
    s->fd = open(s->part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    struct stat st;
    if (s->fd < 0 || fstat(s->fd, &st) != 0) return fj_fail_errno(e, "cannot open %s", s->part);
    if (!S_ISREG(st.st_mode)) return fj_fail(e, FJ_EIO, "%s is there and is no file", s->part);
    s->pos = st.st_size;
    if (!s->sure) { /* what an earlier answer said of it, or nothing to go on with */
        json_t *j = fj_json_file(s->note, 1 << 16, NULL);
        const char *etag = json_string_value(json_object_get(j, "etag"));
        const json_t *size = json_object_get(j, "size");
        bool known =
            etag && is_hash(etag) && json_is_integer(size) && json_integer_value(size) >= 0;
        if (known) want(s, etag, json_integer_value(size));
        json_decref(j);
        if (!known && s->pos) return fj_hub_sink_restart(s, e);
    }
    bool unhashable = s->want.size < 0 && *s->want.blob && s->pos;
    if (unhashable || (s->want.size >= 0 && s->pos > s->want.size))
        return fj_hub_sink_restart(s, e);
    hash_init(s);
    return true;
}

void fj_hub_sink_close(fj_hub_sink *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    free(s->part);
    free(s->note);
    s->part = s->note = NULL;
}

bool fj_hub_sink_rehash(fj_hub_sink *s, fj_err *e) {
    uint8_t buf[1 << 16];
    for (int i = 0; i < 64 && s->hashed < s->pos; i++) {
        size_t n = (size_t)FJ_MIN(s->pos - s->hashed, (int64_t)sizeof buf);
        ssize_t r = pread(s->fd, buf, n, s->hashed);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return fj_fail_errno(e, "cannot read %s", s->part);
        hash_add(s, buf, (size_t)r);
    }
    return true;
}

bool fj_hub_sink_restart(fj_hub_sink *s, fj_err *e) {
    if (ftruncate(s->fd, 0) != 0) return fj_fail_errno(e, "cannot write %s", s->part);
    s->pos = 0;
    hash_init(s);
    return true;
}

bool fj_hub_sink_note(fj_hub_sink *s, const char *etag, int64_t size, fj_err *e) {
    if (!is_hash(etag))
        return fj_fail(e, FJ_EFORMAT,
                       "the server names no hash of %s, so that it cannot be verified",
                       s->want.name);
    if (size < 0)
        return fj_fail(e, FJ_EFORMAT, "the server does not say how large %s is", s->want.name);
    want(s, etag, size);
    hash_init(s);
    json_t *j = json_object();
    json_object_set_new(j, "name", json_string(s->want.name));
    json_object_set_new(j, "etag", json_string(etag));
    json_object_set_new(j, "size", json_integer(size));
    bool ok = fj_json_save(s->note, j, e);
    json_decref(j);
    return ok;
}

void fj_hub_sink_size(fj_hub_sink *s, int64_t size) {
    s->want.size = size;
    if (s->pos == 0) hash_init(s);
}

bool fj_hub_sink_write(fj_hub_sink *s, const void *bytes, size_t n, fj_err *e) {
    const uint8_t *p = bytes;
    for (size_t left = n; left;) {
        ssize_t r = pwrite(s->fd, p + (n - left), left, s->pos);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return fj_fail_errno(e, "cannot write %s", s->part);
        hash_add(s, p + (n - left), (size_t)r);
        s->pos += r;
        left -= (size_t)r;
    }
    return true;
}

bool fj_hub_sink_end(fj_hub_sink *s, const fj_hub_place *p, bool *right, char found[65],
                     fj_err *e) {
    *right = false;
    if (*s->want.sha256) {
        unsigned char d[crypto_hash_sha256_BYTES];
        crypto_hash_sha256_final(&s->sha256, d);
        sodium_bin2hex(found, 65, d, sizeof d);
        *right = !strcmp(found, s->want.sha256);
    } else {
        fj_sha1_end(&s->sha1, found);
        *right = !strcmp(found, s->want.blob);
    }
    if (!*right) return true;
    if (fsync(s->fd) != 0 && errno != EINVAL) return fj_fail_errno(e, "cannot write %s", s->part);
    if (!fj_hub_settle(p, s->part, s->want.name, e)) return false;
    unlink(s->note);
    return true;
}
