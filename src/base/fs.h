/* fs.h - files: read whole, map, write so that nothing half-written ever has a final name.
 *
 * Writing: fj_out_open makes "PATH.tmp-PID", fj_out_commit flushes, syncs, renames and syncs the
 * folder; fj_out_abort (also what commit does on failure) removes the temporary file.  Errors are
 * sticky in the writer and come out at commit, with the file's name. */
#ifndef FJ_BASE_FS_H
#define FJ_BASE_FS_H

#include "base/mem.h"

/* Whole file, one terminating 0 byte added beyond *n.  Refuses files over max bytes.  Caller frees. */
char *fj_read_file(const char *path, size_t max, size_t *n, fj_err *e);
bool fj_write_file(const char *path, const void *bytes, size_t n, fj_err *e); /* atomic */

typedef struct fj_mapped {
    const uint8_t *p; /* read-only, page aligned; NULL when n == 0 */
    size_t n;
} fj_mapped;
bool fj_map_file(const char *path, fj_mapped *m, fj_err *e);
void fj_unmap_file(fj_mapped *m);
/* Bytes of a mapped file that are not needed for now: they leave this process's memory. */
void fj_map_forget(const void *p, size_t n);

typedef struct fj_out fj_out;
fj_out *fj_out_open(const char *path, fj_err *e);
void fj_out_write(fj_out *o, const void *bytes, size_t n);
void fj_out_pad(fj_out *o, size_t align); /* zero bytes up to a multiple of align */
uint64_t fj_out_pos(const fj_out *o);
bool fj_out_commit(fj_out *o, fj_err *e); /* frees o in every case */
void fj_out_abort(fj_out *o);             /* NULL is fine */

/* A file that may take several tries.  It grows as "PATH.part"; abort keeps that, and "PATH.part.mark"
 * says how much of it is surely on the disk, and under which key: one line that says all the bytes depend
 * on.  With the same key *have bytes are there and writing goes on behind them; else it begins anew.
 * Another process that writes it is an error. */
fj_out *fj_out_resume(const char *path, const char *key, uint64_t *have, fj_err *e);
void fj_out_cut(fj_out *o,
                uint64_t n); /* before the first write: only n of the *have bytes count */

/* A log that is only appended to (metrics.jsonl): one call is one whole line, flushed to the kernel. */
bool fj_append_line(const char *path, const char *line, fj_err *e);

bool fj_mkdirs(const char *path, fj_err *e);
bool fj_exists(const char *path);
bool fj_is_dir(const char *path);
int64_t fj_file_size(const char *path);                    /* -1: not there */
bool fj_move(const char *from, const char *to, fj_err *e); /* rename, and its folder is synced */
/* Removes a folder and what is in it; follows no links. */
bool fj_remove_tree(const char *path, fj_err *e);
char *fj_path_join(const char *dir, const char *name); /* caller frees */
const char *fj_base_name(const char *path);            /* points into path */
/* $XDG_DATA_HOME/forja or ~/.local/share/forja; caller frees; NULL: no home */
char *fj_data_dir(void);
/* The same of $XDG_CACHE_HOME, or ~/.cache/forja: what can be made again. */
char *fj_cache_dir(void);

#define FJ_SHA256_HEX 65
/* Lower-case hex with a terminating 0. */
void fj_sha256(const void *p, size_t n, char hex[FJ_SHA256_HEX]);
bool fj_sha256_file(const char *path, char hex[FJ_SHA256_HEX], fj_err *e);

/* Seconds: wall clock since 1970 and a steady clock. */
double fj_now(void);
double fj_clock(void);
void fj_utc(double t, char out[32]); /* 2026-01-31T12:00:00Z */

#endif
