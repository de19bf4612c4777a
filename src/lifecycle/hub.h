/* hub.h - fetching models from the Hugging Face Hub, or from a server that speaks its protocol.
 *
 * GET /api/models/OWNER/NAME/revision/REV?blobs=true says which commit a revision is and lists its files with sizes and
 * hashes; GET /OWNER/NAME/resolve/COMMIT/FILE gives one, itself or by redirection to another host.  Every file is verified:
 * by SHA-256 where it is kept in LFS, else by git's name of it, the SHA-1 of "blob SIZE\0" and its bytes; without a hash it
 * is refused.  It stands under its name once it is whole, verified and synced.  What broke off stays beside it and is gone
 * on with by a range; nothing is ever taken for verified because it was there.
 *
 * The cache is a folder for each model:
 *     OWNER/NAME/COMMIT/...            the files, as a model folder that any command takes
 *     OWNER/NAME/.forja/refs/REV       the commit of a revision, as last heard ('/' is written %2F)
 *     OWNER/NAME/.forja/COMMIT.json    the list of its files
 *     OWNER/NAME/.forja/parts/         what is not whole: NAME OF THE CONTENTS.part
 *     OWNER/NAME/.forja/lock           flock: one process fetches a model at a time, others wait
 * A file that a newer commit kept as it was is linked, not fetched.  With `to` the files go into that folder instead, and
 * .forja stands in it for as long as files are missing; what the cache has is copied.
 *
 * The token goes to scheme, host and port of the endpoint and nowhere else, and into no message.  Redirections go to
 * https, or to http on the endpoint's own host where the endpoint is http.  The network is used in fj_hub_pull alone, on
 * the caller's thread; SIGPIPE should be ignored (TLS).  Environment: HF_ENDPOINT, HF_TOKEN, else the file HF_TOKEN_PATH,
 * else token in HF_HOME or ~/.cache/huggingface; FORJA_CACHE, else XDG_CACHE_HOME/forja/hub, else ~/.cache/forja/hub;
 * HF_HUB_OFFLINE=1 is `offline`; CURL_CA_BUNDLE or SSL_CERT_FILE for certificates; what libcurl reads of proxies. */
#ifndef FJ_LIFECYCLE_HUB_H
#define FJ_LIFECYCLE_HUB_H

#include "base/mem.h"
#include <forja/log.h>

typedef struct fj_hub_opts {
    const char *endpoint, *token, *cache; /* NULL: as the environment says */
    const char *revision;                 /* branch, tag or commit; NULL: main */
    const char *const *include,
        *const *exclude;         /* globs over names in the repository; '*' takes '/', too */
    size_t n_include, n_exclude; /* with include: exactly what matches; else what forja needs */
    const char *to;              /* a folder for the files instead of the cache; NULL */
    int jobs;                    /* files at a time; 0: 4 */
    bool offline;                /* only what is in the cache */
    bool dry_run;                /* list and choose, and write nothing */
    int tries;     /* failures in a row, without a MiB between them, that end it; 0: 6 */
    double wait_s; /* before the second try, doubled for each more; 0: 1 */
    int stall_s;   /* under 1 KiB/s for so long is a failure; 0: 30 */
    const fj_log *log;
} fj_hub_opts;

typedef struct fj_hub_file {
    char *name;      /* in the repository: "a/b.json" */
    int64_t size;    /* -1: not said */
    char sha256[65]; /* of the contents (LFS), or "" */
    char blob[41];   /* git's name of the contents (not LFS), or "" */
    bool have;       /* whole and verified where it should be */
    int64_t part;    /* else bytes that are here of it */
} fj_hub_file;

typedef struct fj_hub_result {
    char *
        path; /* the folder, or the (first) file where one was asked for; caller frees through fj_hub_free */
    char commit[65];    /* of the revision */
    fj_hub_file *files; /* those chosen, by name; `have` as it was before */
    size_t n;
    int64_t bytes,
        missing; /* of all of them; of those that were not here.  Sizes not said count as 0. */
} fj_hub_result;

/* what: "OWNER/NAME", or "OWNER/NAME:FILE", "OWNER/NAME:QUANTISATION" for one GGUF with its splits.
 * FJ_ESTOP: log->should_stop said so; what came is kept.  r is empty on failure. */
bool fj_hub_pull(const char *what, const fj_hub_opts *o, fj_hub_result *r, fj_err *e);
void fj_hub_free(fj_hub_result *r); /* also of zeros */

/* The path that fj_hub_pull gave for this, when all of it is in the cache; NULL otherwise.  No network.  Caller frees. */
char *fj_hub_cached(const char *what);

#endif
