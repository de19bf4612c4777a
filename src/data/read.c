#include "data/read.h"

#include "base/fs.h"

#include <ctype.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

static bool too_large(const char *path, size_t max, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT, "%s: over %zu bytes after decompression, more than is read here",
                   path, max);
}

static bool inflate_gz(const char *path, const char *in, size_t n, size_t max, fj_str *out,
                       fj_err *e) {
    z_stream z = { 0 };
    if (inflateInit2(&z, 15 + 32) != Z_OK) return fj_fail(e, FJ_ENOMEM, "no memory for zlib");
    size_t at = 0;
    int rc = Z_OK;
    bool ok = true;
    char *buf = fj_alloc(1 << 16);
    while (ok) {
        if (!z.avail_in && at < n) {
            z.next_in = (Bytef *)(uintptr_t)(in + at);
            z.avail_in = (uInt)FJ_MIN(n - at, (size_t)1 << 30);
            at += z.avail_in;
        }
        z.next_out = (Bytef *)buf;
        z.avail_out = 1 << 16;
        rc = inflate(&z, Z_NO_FLUSH);
        size_t got = (1 << 16) - z.avail_out;
        if (rc != Z_OK && rc != Z_STREAM_END) {
            ok = fj_fail(e, FJ_EFORMAT, "%s: not a whole gzip file: %s", path,
                         z.msg ? z.msg : "it ends too early");
        } else if (got > max - out->n) {
            ok = too_large(path, max, e);
        } else {
            fj_str_addn(out, buf, got);
            if (rc == Z_STREAM_END) {
                if (!z.avail_in && at >= n) break;
                inflateReset(&z); /* gzip files may be put one behind the other */
            }
        }
    }
    inflateEnd(&z);
    free(buf);
    return ok;
}

static bool inflate_zst(const char *path, const char *in, size_t n, size_t max, fj_str *out,
                        fj_err *e) {
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z) return fj_fail(e, FJ_ENOMEM, "no memory for zstd");
    ZSTD_inBuffer ib = { in, n, 0 };
    size_t cap = ZSTD_DStreamOutSize(), rc = 1;
    char *buf = fj_alloc(cap);
    bool ok = true, full = false;
    while (ok && (ib.pos < ib.size || full)) {
        ZSTD_outBuffer ob = { buf, cap, 0 };
        rc = ZSTD_decompressStream(z, &ob, &ib);
        full = ob.pos == ob.size;
        if (ZSTD_isError(rc))
            ok = fj_fail(e, FJ_EFORMAT, "%s: not a whole zstd file: %s", path,
                         ZSTD_getErrorName(rc));
        else if (ob.pos > max - out->n) ok = too_large(path, max, e);
        else fj_str_addn(out, buf, ob.pos);
    }
    if (ok && rc != 0)
        ok = fj_fail(e, FJ_EFORMAT, "%s: not a whole zstd file: it ends too early", path);
    ZSTD_freeDStream(z);
    free(buf);
    return ok;
}

static bool ends_with(const char *path, const char *ext) {
    size_t n = strlen(path), k = strlen(ext);
    if (n < k) return false;
    for (size_t i = 0; i < k; i++)
        if (tolower((unsigned char)path[n - k + i]) != ext[i]) return false;
    return true;
}

char *fj_data_read(const char *path, size_t max, size_t *n, fj_err *e) {
    if (fj_is_dir(path)) {
        fj_fail(e, FJ_EINVAL, "%s is a folder: name the data files in it", path);
        return NULL;
    }
    size_t raw_n;
    char *raw = fj_read_file(path, max, &raw_n, e);
    if (!raw) return NULL;
    bool gz = ends_with(path, ".gz"), zst = ends_with(path, ".zst");
    if (!gz && !zst) {
        *n = raw_n;
        return raw;
    }
    fj_str out = { 0 };
    bool ok = gz ? inflate_gz(path, raw, raw_n, max, &out, e)
                 : inflate_zst(path, raw, raw_n, max, &out, e);
    free(raw);
    if (!ok) {
        fj_str_free(&out);
        return NULL;
    }
    *n = out.n;
    return fj_str_take(&out);
}

void fj_data_ext(const char *path, char ext[16]) {
    ext[0] = 0;
    char name[512];
    snprintf(name, sizeof name, "%s", fj_base_name(path));
    if (ends_with(name, ".gz")) name[strlen(name) - 3] = 0;
    else if (ends_with(name, ".zst")) name[strlen(name) - 4] = 0;
    const char *dot = strrchr(name, '.');
    if (!dot || strlen(dot) >= 16) return;
    size_t i = 0;
    for (; dot[i]; i++) ext[i] = (char)tolower((unsigned char)dot[i]);
    ext[i] = 0;
}

size_t fj_data_text_bad(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        unsigned c = u[i];
        if (c && c < 0x80) {
            i++;
            continue;
        }
        size_t k = c >= 0xc2 && c < 0xe0   ? 1
                   : (c & 0xf0) == 0xe0    ? 2
                   : c >= 0xf0 && c < 0xf5 ? 3
                                           : 0;
        if (!k || n - i <= k) return i;
        unsigned lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80; /* overlong forms */
        unsigned hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf; /* surrogates, beyond U+10FFFF */
        if (u[i + 1] < lo || u[i + 1] > hi) return i;
        for (size_t j = 2; j <= k; j++)
            if ((u[i + j] & 0xc0) != 0x80) return i;
        i += k + 1;
    }
    return n;
}
