#include "data/dataset.h"

#include "data/read.h"
#include "data/rows.h"
#include "formats/json.h"

#include <ctype.h>
#include <stdio.h>

enum { JSON_FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY };

/* One file being read. */
typedef struct fj_reader {
    fj_dataset *d;
    const fj_dataset_opts *o;
    const fj_log *log;
    fj_data_file *f;
    int file;
    bool forced;
    fj_map unused; /* keys that are not read */
    fj_str unused_names;
    fj_err first; /* the first bad row, when bad rows are left out */
} fj_reader;

const char *fj_row_name(const fj_dataset *d, const fj_data_row *r, char *buf, size_t n) {
    snprintf(buf, n, "%s line %lld", d->files[r->file].path, (long long)r->line);
    return buf;
}

/* A bad row: an error, or counted. */
static bool bad_row(fj_reader *rd, int64_t line, const fj_err *why, fj_err *e) {
    fj_err full = *why;
    fj_wrap(&full, "%s line %lld", rd->f->path, (long long)line);
    if (rd->o->skip_bad_rows) {
        if (!rd->f->skipped) rd->first = full;
        rd->f->skipped++;
        return true;
    }
    if (e) *e = full;
    return false;
}

static void note_unused(fj_reader *rd, const json_t *o) {
    const char *const *keys = fj_row_keys(rd->f->format), *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        bool known = false;
        for (int i = 0; keys[i] && !known; i++) known = !strcmp(keys[i], key);
        if (known || rd->unused.n >= 16) continue;
        bool fresh;
        fj_map_put(&rd->unused, key, strlen(key), &fresh);
        if (fresh) fj_str_addf(&rd->unused_names, "%s%.40s", rd->unused.n > 1 ? ", " : "", key);
    }
}

static void keep(fj_reader *rd, fj_data_row *r, int64_t line) {
    fj_dataset *d = rd->d;
    r->file = rd->file;
    r->line = line;
    fj_row_hash(r);
    FJ_GROW(d->rows, d->n + 1, d->cap);
    d->rows[d->n++] = *r;
    rd->f->rows++;
}

static bool take(fj_reader *rd, const json_t *o, int64_t line, fj_err *e) {
    fj_err why = { 0 };
    fj_data_row r = { 0 };
    if (rd->f->format == FJ_DATA_AUTO && !fj_row_detect(o, &rd->f->format, &why))
        return bad_row(rd, line, &why, e);
    if (!fj_row_read(o, rd->f->format, rd->o->open_rows, &rd->d->arena, &r, &why)) {
        fj_data_format own;
        if (!rd->forced && rd->f->rows && (!fj_row_detect(o, &own, NULL) || own != rd->f->format))
            fj_wrap(&why, "read as %s like the rows before", fj_data_format_names[rd->f->format]);
        return bad_row(rd, line, &why, e);
    }
    note_unused(rd, o);
    keep(rd, &r, line);
    return true;
}

static void json_trouble(const json_error_t *je, fj_err *why) {
    if (json_error_code(je) == json_error_null_character)
        fj_fail(why, FJ_EFORMAT, "column %d: a string holds a zero character (\\u0000): remove it",
                je->column);
    else if (json_error_code(je) == json_error_invalid_utf8)
        fj_fail(why, FJ_EFORMAT, "column %d: not UTF-8: convert the file to UTF-8", je->column);
    else fj_fail(why, FJ_EFORMAT, "column %d: not valid JSON: %s", je->column, je->text);
}

/* Says where bytes that are no text stand; `base` is the line of s. */
static bool check_text(const char *s, size_t n, int64_t *line, fj_err *why) {
    size_t bad = fj_data_text_bad(s, n);
    if (bad == n) return true;
    size_t start = 0;
    for (size_t i = 0; i < bad; i++)
        if (s[i] == '\n') {
            ++*line;
            start = i + 1;
        }
    unsigned char c = (unsigned char)s[bad];
    if (!c)
        return fj_fail(why, FJ_EFORMAT,
                       "byte %zu is zero: this is not a text file, or the zero must go",
                       bad - start + 1);
    return fj_fail(why, FJ_EFORMAT, "byte %zu (0x%02x) is not UTF-8: convert the file to UTF-8",
                   bad - start + 1, c);
}

/* One object a line: a line that is no JSON is a bad row, the next line is a new chance. */
static bool read_lines(fj_reader *rd, const char *s, size_t n, fj_err *e) {
    int64_t line = 0;
    for (size_t at = 0; at < n;) {
        const char *p = s + at, *nl = memchr(p, '\n', n - at);
        size_t len = nl ? (size_t)(nl - p) : n - at;
        at += len + 1;
        line++;
        while (len && isspace((unsigned char)p[len - 1])) len--;
        size_t lead = 0;
        while (lead < len && isspace((unsigned char)p[lead])) lead++;
        if (lead == len) continue;
        fj_err why = { 0 };
        int64_t where = line;
        json_error_t je;
        json_t *o = NULL;
        if (check_text(p, len, &where, &why)) {
            o = json_loadb(p, len, JSON_FLAGS, &je);
            if (!o) json_trouble(&je, &why);
        }
        bool ok = o ? take(rd, o, line, e) : bad_row(rd, line, &why, e);
        json_decref(o);
        if (!ok) return false;
    }
    return true;
}

/* A list of objects, or objects one behind the other, one row in memory at a time.  Broken JSON ends
 * the file: there is no telling where the next row begins. */
static bool read_values(fj_reader *rd, const char *s, size_t n, fj_err *e) {
    const char *path = rd->f->path;
    fj_err why = { 0 };
    int64_t line = 1;
    size_t at = 0;
    if (!check_text(s, n, &line, &why)) goto fatal;
    bool list = false, first = true;
    for (;;) {
        for (; at < n && isspace((unsigned char)s[at]); at++) line += s[at] == '\n';
        if (at == n) {
            if (!list) return true;
            fj_fail(&why, FJ_EFORMAT, "the file ends inside the list: expected , or ]");
            goto fatal;
        }
        char c = s[at];
        if (first && !list && c == '[') {
            list = true;
            at++;
            continue;
        }
        if (list && c == ']') {
            for (at++; at < n && isspace((unsigned char)s[at]); at++) line += s[at] == '\n';
            if (at == n) return true;
            fj_fail(&why, FJ_EFORMAT, "there is something after the end of the list");
            goto fatal;
        }
        if (list && !first) {
            if (c != ',') {
                fj_fail(&why, FJ_EFORMAT, "expected , or ] after a row");
                goto fatal;
            }
            for (at++; at < n && isspace((unsigned char)s[at]); at++) line += s[at] == '\n';
        }
        first = false;
        json_error_t je;
        json_t *o = json_loadb(s + at, n - at, JSON_FLAGS | JSON_DISABLE_EOF_CHECK, &je);
        if (!o) {
            line += je.line > 0 ? je.line - 1 : 0;
            json_trouble(&je, &why);
            goto fatal;
        }
        bool ok = take(rd, o, line, e);
        json_decref(o);
        if (!ok) return false;
        size_t end = at + (size_t)FJ_MAX(je.position, 1);
        for (; at < end && at < n; at++) line += s[at] == '\n';
    }
fatal:
    if (e) *e = why;
    return fj_wrap(e, "%s line %lld", path, (long long)line);
}

static bool read_text(fj_reader *rd, const char *s, size_t n, fj_err *e) {
    int64_t line = 1;
    fj_err why = { 0 };
    if (!check_text(s, n, &line, &why)) {
        if (e) *e = why;
        return fj_wrap(e, "%s line %lld", rd->f->path, (long long)line);
    }
    size_t i = 0;
    while (i < n && isspace((unsigned char)s[i])) i++;
    if (i == n) return true; /* nothing in it: the caller says so */
    fj_data_row r = { .document = true, .text_n = n };
    r.text = fj_arena_strndup(&rd->d->arena, s, n);
    rd->f->format = FJ_DATA_TEXT;
    keep(rd, &r, 1);
    return true;
}

static bool load_file(fj_reader *rd, fj_err *e) {
    size_t n, max = rd->o->max_bytes ? rd->o->max_bytes : (size_t)4 << 30;
    const char *path = rd->f->path;
    char *bytes = fj_data_read(path, max, &n, e), ext[16];
    if (!bytes) return false;
    const char *s = bytes;
    if (n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) s += 3, n -= 3; /* byte order mark */
    fj_data_ext(path, ext);
    size_t i = 0;
    while (i < n && isspace((unsigned char)s[i])) i++;
    char c = i < n ? s[i] : 0;
    bool ok = fj_sha256_file(path, rd->f->hash, e);
    if (!ok) {
    } else if (!strcmp(ext, ".txt") || !strcmp(ext, ".md")) {
        if (rd->forced && rd->f->format != FJ_DATA_TEXT)
            ok = fj_fail(e, FJ_EINVAL, "%s: a %s file is raw text, and data_format says %s", path,
                         ext, fj_data_format_names[rd->f->format]);
        else ok = read_text(rd, s, n, e);
    } else if (!strcmp(ext, ".jsonl") || !strcmp(ext, ".ndjson")) {
        ok = read_lines(rd, s, n, e);
    } else if (!strcmp(ext, ".json") || c == '[' || c == '{' || !c) {
        if (c && c != '[' && c != '{')
            ok = fj_fail(e, FJ_EFORMAT, "%s: expected a JSON list of rows, or a row on each line",
                         path);
        else ok = read_values(rd, s, n, e);
    } else {
        ok = fj_fail(e, FJ_EFORMAT,
                     "%s: not a kind of data file: expected .jsonl, .json or .txt "
                     "(each may end in .gz or .zst)",
                     path);
    }
    free(bytes);
    return ok;
}

static void say(fj_reader *rd) {
    fj_data_file *f = rd->f;
    fj_log_message(rd->log, FJ_INFO, "data %s: %lld rows, format %s%s", f->path, (long long)f->rows,
                   fj_data_format_names[f->format], rd->forced ? "" : " (found)");
    if (f->skipped)
        fj_log_message(rd->log, FJ_WARN, "data %s: %lld bad rows left out; the first: %s", f->path,
                       (long long)f->skipped, rd->first.msg);
    if (rd->unused.n)
        fj_log_message(rd->log, FJ_INFO, "data %s: keys that are not read: %s", f->path,
                       rd->unused_names.s);
}

bool fj_dataset_load(fj_dataset *d, const char *const *paths, int n_paths, const fj_dataset_opts *o,
                     const fj_log *log, fj_err *e) {
    *d = (fj_dataset){ 0 };
    if (n_paths < 1) return fj_fail(e, FJ_EINVAL, "no data file is named");
    d->files = fj_arena_alloc(&d->arena, (size_t)n_paths * sizeof *d->files);
    d->n_files = n_paths;
    for (int i = 0; i < n_paths; i++) {
        fj_data_file *f = &d->files[i];
        f->path = fj_arena_strdup(&d->arena, paths[i]);
        f->format = o->format;
        fj_reader rd = {
            .d = d, .o = o, .log = log, .f = f, .file = i, .forced = o->format != FJ_DATA_AUTO
        };
        bool ok = load_file(&rd, e);
        if (ok && !f->rows) {
            if (f->skipped)
                ok = fj_fail(e, FJ_EFORMAT, "%s: all %lld rows are bad; the first: %s", f->path,
                             (long long)f->skipped, rd.first.msg);
            else
                ok = fj_fail(e, FJ_EFORMAT, "%s: the data set is empty: expected at least one row",
                             f->path);
        }
        if (ok) say(&rd);
        d->skipped += f->skipped;
        fj_map_free(&rd.unused);
        fj_str_free(&rd.unused_names);
        if (!ok) {
            fj_dataset_free(d);
            return false;
        }
    }
    fj_str all = { 0 };
    for (size_t i = 0; i < d->n; i++) fj_str_addn(&all, d->rows[i].hash, FJ_SHA256_HEX - 1);
    fj_sha256(all.s, all.n, d->hash);
    fj_str_free(&all);
    return true;
}

void fj_dataset_free(fj_dataset *d) {
    fj_arena_free(&d->arena);
    free(d->rows);
    *d = (fj_dataset){ 0 };
}
